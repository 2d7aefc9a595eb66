/* A calibration as an object: its file, what it belongs to, its use. */
#include "app/calibration.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "siren/file.h"

enum { FILE_MAX = 64 << 20, VERSION = 1 };

void siren_calibration_free(struct siren_calibration *c)
{
    if (!c) return;
    siren_logistic_free(c->model);
    json_decref(c->belongs);
    free(c);
}

/* ---- as JSON ---- */

json_t *calibration_json(const struct siren_calibration *c, struct siren_error *err)
{
    char *model;
    if (siren_logistic_save(c->model, &model, err)) return NULL;
    json_t *logistic = json_loads(model, 0, NULL);
    free(model);
    return json_pack("{s:i, s:i, s:O, s:o}", "siren_calibration", VERSION, "features",
                     (int)c->groups, "belongs_to", c->belongs, "logistic", logistic);
}

static char *text_of(const struct siren_calibration *c, struct siren_error *err)
{
    json_t *j = calibration_json(c, err);
    char *text = NULL;
    if (j) app_json_text(j, JSON_COMPACT | JSON_SORT_KEYS, &text, err);
    return text;
}

void siren_calibration_hash(const struct siren_calibration *c, char hash[17])
{
    char *text = text_of(c, NULL);
    snprintf(hash, 17, "%016llx",
             text ? (unsigned long long)XXH3_64bits(text, strlen(text)) : 0ull);
    free(text);
}

int siren_calibration_save(const struct siren_calibration *c, const char *path,
                           struct siren_error *err)
{
    struct siren_error local;
    char *text = NULL, hash[17];
    json_t *j = calibration_json(c, err ? err : &local);
    if (!j) return (err ? err : &local)->code;
    siren_calibration_hash(c, hash);
    json_object_set_new(j, "hash", json_string(hash));
    int rc = app_json_text(j, JSON_COMPACT | JSON_SORT_KEYS, &text, err);
    if (!rc) rc = siren_file_print(path, err, "%s\n", text);
    free(text);
    return rc;
}

/* Files of earlier builds have no hash. */
static int check_hash(const struct siren_calibration *c, const json_t *root, const char *path,
                      struct siren_error *err)
{
    const char *told = json_string_value(json_object_get(root, "hash"));
    char hash[17];
    siren_calibration_hash(c, hash);
    if (!told || !strcmp(told, hash)) return 0;
    return siren_fail(err, SIREN_EFORMAT,
                      "%s: its numbers have the hash %s, expected %s: it was damaged, or changed",
                      path, hash, told);
}

static int read_json(struct siren_calibration *c, const json_t *root, const char *path,
                     struct siren_error *err)
{
    const json_t *version = json_object_get(root, "siren_calibration");
    json_t *belongs = json_object_get(root, "belongs_to");
    c->groups = (unsigned)json_integer_value(json_object_get(root, "features"));
    if (!json_is_integer(version) || !json_is_object(belongs) ||
        !(c->groups & SIREN_FEATURE_LOGITS))
        return siren_fail(err, SIREN_EFORMAT, "%s: no calibration as `siren calibrate` writes it",
                          path);
    if (json_integer_value(version) != VERSION)
        return siren_fail(err, SIREN_EUNSUPPORTED, "%s: version %lld, expected %d", path,
                          (long long)json_integer_value(version), VERSION);
    c->belongs = json_incref(belongs);
    char *model = json_dumps(json_object_get(root, "logistic"), JSON_COMPACT);
    int rc = model ? siren_logistic_load(&c->model, model, err)
                   : siren_fail(err, SIREN_EFORMAT, "%s: \"logistic\" is missing", path);
    free(model);
    return rc ? siren_fail_prefix(err, rc, "%s", path) : check_hash(c, root, path, err);
}

int siren_calibration_load(struct siren_calibration **out, const char *path,
                           struct siren_error *err)
{
    char *text;
    size_t size;
    json_error_t where;
    *out = NULL;
    int rc = siren_file_read(&text, &size, path, FILE_MAX, err);
    if (rc) return rc;
    json_t *root = json_loadb(text, size, 0, &where);
    free(text);
    if (!root)
        return siren_fail(err, SIREN_EFORMAT,
                          "%s: no calibration as `siren calibrate` writes it: line %d: %s", path,
                          where.line, where.text);
    struct siren_calibration *c = alloc_zeroed(1, sizeof *c);
    rc = c ? read_json(c, root, path, err) : siren_fail_memory(err, "a calibration", sizeof *c);
    json_decref(root);
    if (rc)
        siren_calibration_free(c);
    else
        *out = c;
    return rc;
}

/* ---- what it belongs to ---- */

/* Of a run's settings, those that determine an answer (app_lm_json()), but for the contract of its
 * bits: answers of another one differ by rounding, which nothing that is fitted rests on. */
static const char *const answer_keys[] = {"model",         "adapter",     "compute",
                                          "chat_template", "end_of_text", "predict"};
enum { ANSWER_KEYS = sizeof answer_keys / sizeof *answer_keys };

json_t *calibration_belongs(const struct siren_app *app, const json_t *settings)
{
    const struct siren_scale *s = &app->meta.scale;
    /* A run in f32 does not name its mode. */
    json_t *all =
        json_pack("{s:[f, f, f], s:s}", "scale", s->min, s->max, s->step, "compute", "f32");
    for (size_t i = 0; i < ANSWER_KEYS; i++)
        if (json_object_get(settings, answer_keys[i]))
            json_object_set(all, answer_keys[i], json_object_get(settings, answer_keys[i]));
    return all;
}

size_t calibration_gap(const json_t *settings)
{
    const json_t *predict = json_object_get(settings, "predict");
    return (size_t)json_integer_value(json_object_get(predict, "gap"));
}

/* The same of what is about to be asked. */
static json_t *belongs_now(const struct siren_app *app, const struct siren_lm *lm,
                           const struct siren_predict_options *options)
{
    struct siren_predict_options plain = *options;
    plain.calibration = NULL;
    json_t *settings = app_lm_json(lm), *all;
    json_object_set_new(settings, "predict", app_options_json(&plain));
    all = calibration_belongs(app, settings);
    json_decref(settings);
    return all;
}

static int same_setting(const char *key, const json_t *a, const json_t *b)
{
    const char *x = json_string_value(a), *y = json_string_value(b);
    if (strcmp(key, "model") && strcmp(key, "adapter")) return a == b || json_equal(a, b);
    return siren_identity_equal(x, y);
}

/* Of objects, the first of their settings that differs, or that only one of them has. */
static int refuse_setting(const char *key, const json_t *a, const json_t *b,
                          struct siren_error *err)
{
    const char *inner;
    json_t *value;
    json_object_foreach((json_t *)a, inner, value)
    {
        const json_t *other = json_object_get(b, inner);
        if (!other || !json_equal(value, other)) return refuse_setting(inner, value, other, err);
    }
    json_object_foreach((json_t *)b, inner, value)
    {
        if (!json_object_get(a, inner)) return refuse_setting(inner, NULL, value, err);
    }
    char *x = json_dumps(a, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    char *y = json_dumps(b, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    siren_fail(err, SIREN_EINVAL,
               "the calibration was fitted with another %s: %.300s, and this is %.300s", key,
               x ? x : "none", y ? y : "none");
    free(x);
    free(y);
    return SIREN_EINVAL;
}

static int check_key(const struct siren_calibration *c, const json_t *now, const char *key,
                     struct siren_error *err)
{
    const json_t *a = json_object_get(c->belongs, key), *b = json_object_get(now, key);
    return same_setting(key, a, b) ? 0 : refuse_setting(key, a, b, err);
}

int siren_calibration_check(const struct siren_calibration *c, const struct siren_app *app,
                            const struct siren_lm *lm, const struct siren_predict_options *options,
                            struct siren_error *err)
{
    json_t *now = belongs_now(app, lm, options);
    int rc = check_key(c, now, "scale", err);
    for (size_t i = 0; i < ANSWER_KEYS && !rc; i++) rc = check_key(c, now, answer_keys[i], err);
    json_decref(now);
    return rc;
}

/* ---- its use ---- */

void calibration_features(const struct target_features *f, const struct siren_target *target,
                          const double *logprobs, int n_labels, double *x)
{
    double stored[SIREN_MAX_LABELS];
    /* As a run stores them: a calibration gives the same answer before and after that. */
    for (int k = 0; k < n_labels; k++) stored[k] = (double)(float)logprobs[k];
    target_features_fill(f, target, stored, x);
}

static int open_features(const struct siren_calibration *c, const struct siren_app *app,
                         struct target_features *f, struct siren_error *err)
{
    int rc = target_features_open(f, app, c->groups, calibration_gap(c->belongs), err);
    if (rc) return rc;
    if (f->d == siren_logistic_features(c->model) &&
        siren_scale_labels(&app->meta.scale) == siren_logistic_labels(c->model))
        return 0;
    target_features_close(f);
    return siren_fail(err, SIREN_EINVAL, "the calibration is one of another scale");
}

int siren_calibration_apply(const struct siren_calibration *c, const struct siren_app *app,
                            const struct siren_target *targets, struct siren_answer *answers,
                            size_t n, struct siren_error *err)
{
    const struct siren_scale *scale = &app->meta.scale;
    struct target_features f = {0};
    int rc = open_features(c, app, &f, err);
    double *x = rc ? NULL : alloc_array((size_t)f.d, sizeof *x);
    if (!rc && !x) rc = siren_fail_memory(err, "features", (size_t)f.d * sizeof *x);
    for (size_t i = 0; i < n && !rc; i++) {
        struct siren_answer *a = &answers[i];
        if (!a->n_labels) continue;
        calibration_features(&f, &targets[i], a->logprobs, a->n_labels, x);
        rc = siren_logistic_predict(c->model, x, 1, a->probabilities, err);
        if (rc) break;
        a->argmax = siren_decode(SIREN_ARGMAX, scale, a->probabilities);
        a->mean = siren_decode(SIREN_MEAN, scale, a->probabilities);
        a->median = siren_decode(SIREN_MEDIAN, scale, a->probabilities);
    }
    free(x);
    target_features_close(&f);
    return rc;
}
