/* Numbers from tests/fixtures/recs/. */
#ifndef SIREN_TESTS_RECS_FIXTURE_H
#define SIREN_TESTS_RECS_FIXTURE_H

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

static inline json_t *fixture_load(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    if (!root) fail_msg("%s: %s", path, error.text);
    return root;
}

static inline double fixture_number(const json_t *root, const char *key)
{
    return json_number_value(json_object_get(root, key));
}

static inline double *fixture_doubles(const json_t *root, const char *key)
{
    const json_t *array = json_object_get(root, key);
    size_t n = json_array_size(array);
    double *values = malloc((n + 1) * sizeof *values);
    for (size_t i = 0; i < n; i++) values[i] = json_number_value(json_array_get(array, i));
    return values;
}

static inline float *fixture_floats(const json_t *root, const char *key)
{
    size_t n = json_array_size(json_object_get(root, key));
    double *values = fixture_doubles(root, key);
    float *floats = malloc((n + 1) * sizeof *floats);
    for (size_t i = 0; i < n; i++) floats[i] = (float)values[i];
    free(values);
    return floats;
}

static inline int32_t *fixture_ints(const json_t *root, const char *key)
{
    size_t n = json_array_size(json_object_get(root, key));
    double *values = fixture_doubles(root, key);
    int32_t *ints = malloc((n + 1) * sizeof *ints);
    for (size_t i = 0; i < n; i++) ints[i] = (int32_t)values[i];
    free(values);
    return ints;
}

#endif
