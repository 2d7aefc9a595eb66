/* A calibrator's JSON, as it lies in a workspace or beside an adapter. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "siren/logistic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct siren_error err;
    struct siren_logistic *m;
    char *json = malloc(size + 1);
    if (!json) return 0;
    memcpy(json, data, size);
    json[size] = 0;
    if (!siren_logistic_load(&m, json, &err)) {
        int d = siren_logistic_features(m), n = siren_logistic_labels(m);
        double *x = calloc((size_t)d + 1, sizeof *x), *p = calloc((size_t)n, sizeof *p);
        if (x && p) siren_logistic_predict(m, x, 1, p, &err);
        free(x);
        free(p);
        siren_logistic_free(m);
    }
    free(json);
    return 0;
}
