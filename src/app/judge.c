/* Answers that were made elsewhere become a run like any. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "siren/file.h"

struct judge {
    struct siren_app *app;
    const struct siren_judge_options *options;
    const char *path;
    struct siren_lines *lines;
    uint8_t *allowed, *seen; /* (ratings.n) rows of the split; rows that were answered */
    struct siren_target *targets;
    struct siren_answer *answers;
    size_t n, capacity, answer_capacity;
};

static int bad(const struct judge *j, struct siren_error *err, const char *what)
{
    return siren_lines_fail(j->lines, siren_fail(err, SIREN_EFORMAT, "%s", what), err);
}

static int not_allowed(const struct judge *j, struct siren_error *err)
{
    const struct siren_judge_options *o = j->options;
    char fold[32] = "", what[200];
    if (o->fold >= 0) snprintf(fold, sizeof fold, " of fold %d", o->fold);
    snprintf(what, sizeof what, "the row is not in the split \"%.60s\"%s, which is judged",
             o->split, fold);
    return bad(j, err, what);
}

static int no_rating(const struct judge *j, const char *user, const char *item,
                     struct siren_error *err)
{
    char what[300];
    snprintf(what, sizeof what, "the workspace has no rating by user '%.100s' of item '%.100s'",
             user, item);
    return bad(j, err, what);
}

static int find_row(const struct judge *j, const json_t *object, struct siren_target *t,
                    struct siren_error *err)
{
    const json_t *row = json_object_get(object, "row");
    const char *user = json_string_value(json_array_get(row, 0));
    const char *item = json_string_value(json_array_get(row, 1));
    int rc;
    if (!user || !item || json_array_size(row) != 2)
        return bad(j, err, "expected \"row\": [\"user\", \"item\"]");
    rc = siren_app_target(j->app, user, item, t, err);
    if (rc) return siren_lines_fail(j->lines, rc, err);
    if (t->row == SIREN_NO_ROW) return no_rating(j, user, item, err);
    if (!j->allowed[t->row]) return not_allowed(j, err);
    if (j->seen[t->row]) return bad(j, err, "the row was answered before");
    j->seen[t->row] = 1;
    return 0;
}

static int read_probabilities(const struct judge *j, const json_t *list, struct siren_answer *a,
                              struct siren_error *err)
{
    const struct siren_scale *scale = &j->app->meta.scale;
    int labels = siren_scale_labels(scale);
    double sum = 0;
    if (labels > SIREN_MAX_LABELS || json_array_size(list) != (size_t)labels)
        return bad(j, err, "expected as many \"probabilities\" as the scale has labels");
    for (int k = 0; k < labels; k++) {
        const json_t *value = json_array_get(list, (size_t)k);
        a->probabilities[k] = json_number_value(value);
        if (!json_is_number(value) || a->probabilities[k] < 0)
            return bad(j, err, "a probability is negative or no number");
        sum += a->probabilities[k];
    }
    if (!(sum > 0) || sum > 1 + 1e-3)
        return bad(j, err, "the probabilities sum to 0 or to more than 1");
    for (int k = 0; k < labels; k++) {
        a->logprobs[k] = log(a->probabilities[k]);
        a->probabilities[k] /= sum;
    }
    a->n_labels = labels;
    a->outside = fmax(0, 1 - sum);
    a->argmax = siren_decode(SIREN_ARGMAX, scale, a->probabilities);
    a->mean = siren_decode(SIREN_MEAN, scale, a->probabilities);
    a->median = siren_decode(SIREN_MEDIAN, scale, a->probabilities);
    return 0;
}

static int read_rating(const struct judge *j, const json_t *value, double *rating,
                       struct siren_error *err)
{
    const struct siren_scale *scale = &j->app->meta.scale;
    char what[160], found[60];
    *rating = json_number_value(value);
    if (json_is_number(value) && siren_scale_label(scale, *rating) >= 0) { /* it may be a float */
        *rating = fmin(fmax(*rating, scale->min), scale->max);
        return 0;
    }
    snprintf(found, sizeof found, json_is_number(value) ? "%.10g" : "no number", *rating);
    snprintf(what, sizeof what, "\"rating\": found %s, expected a number from %g to %g", found,
             scale->min, scale->max);
    return bad(j, err, what);
}

/* A count or a time, 0 where there is none. */
static int read_cost(const struct judge *j, const json_t *object, const char *name, double most,
                     double *cost, struct siren_error *err)
{
    const json_t *value = json_object_get(object, name);
    char what[100];
    *cost = json_number_value(value);
    if (!value || json_is_null(value)) return 0;
    if (json_is_number(value) && *cost >= 0 && *cost <= most) return 0;
    snprintf(what, sizeof what, "\"%s\": expected a number of 0 to %.0f", name, most);
    return bad(j, err, what);
}

static int read_costs(const struct judge *j, const json_t *object, struct siren_answer *a,
                      struct siren_error *err)
{
    double in, out;
    int rc = read_cost(j, object, "tokens_in", 1e9, &in, err);
    if (!rc) rc = read_cost(j, object, "tokens_out", 1e9, &out, err);
    if (!rc) rc = read_cost(j, object, "latency_ms", 1e12, &a->latency_ms, err);
    if (rc) return rc;
    a->tokens_in = (int)in;
    a->tokens_out = (int)out;
    return 0;
}

static int read_text(const struct judge *j, const json_t *value, struct siren_answer *a,
                     struct siren_error *err)
{
    const struct siren_scale *scale = &j->app->meta.scale;
    const char *text = json_string_value(value);
    double fallback = isnan(j->options->fallback) ? scale->max : j->options->fallback;
    if (!text) return bad(j, err, "\"text\": expected a string");
    struct siren_reading r = siren_answer_read(text, scale->min, scale->max, 0);
    a->samples = 1;
    a->in_format = r.format;
    a->unreadable = a->invalid = !r.has_number;
    for (int k = 0; k < SIREN_FAULTS; k++) a->faults[k] = r.faults >> k & 1;
    a->number = a->mean = r.has_number ? r.rating : fallback;
    a->text = strdup(text);
    return a->text ? 0 : siren_fail_memory(err, "an answer", strlen(text));
}

/* One of three; null is none.  Two could contradict each other, and nobody said which counts. */
static int read_answer(const struct judge *j, const json_t *object, struct siren_answer *a,
                       struct siren_error *err)
{
    enum { RATING, PROBABILITIES, TEXT, KINDS };
    static const char *const names[KINDS] = {"rating", "probabilities", "text"};
    const json_t *value = NULL;
    char what[100];
    int kind = KINDS;
    for (int k = 0; k < KINDS; k++) {
        const json_t *given = json_object_get(object, names[k]);
        if (!given || json_is_null(given)) continue;
        if (value) {
            snprintf(what, sizeof what, "both \"%s\" and \"%s\", expected one answer", names[kind],
                     names[k]);
            return bad(j, err, what);
        }
        value = given;
        kind = k;
    }
    if (!value) return bad(j, err, "expected \"rating\", \"probabilities\" or \"text\"");
    a->outside = NAN;
    int rc = read_costs(j, object, a, err);
    if (rc) return rc;
    if (kind == PROBABILITIES) return read_probabilities(j, value, a, err);
    rc = kind == RATING ? read_rating(j, value, &a->mean, err) : read_text(j, value, a, err);
    a->argmax = a->median = a->mean;
    return rc;
}

static int read_line(struct judge *j, const char *text, size_t length, struct siren_error *err)
{
    json_error_t where;
    json_t *object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    int rc;
    if (!json_is_object(object)) {
        json_decref(object);
        return bad(j, err, object ? "expected a JSON object" : where.text);
    }
    rc = alloc_grow(&j->targets, &j->capacity, j->n + 1, sizeof *j->targets);
    if (!rc) rc = alloc_grow(&j->answers, &j->answer_capacity, j->n + 1, sizeof *j->answers);
    if (rc) {
        json_decref(object);
        return siren_fail_memory(err, "answers", j->n * sizeof *j->answers);
    }
    j->answers[j->n] = (struct siren_answer){0};
    rc = find_row(j, object, &j->targets[j->n], err);
    if (!rc) rc = read_answer(j, object, &j->answers[j->n], err);
    j->n++;
    json_decref(object);
    return rc;
}

static int read_file(struct judge *j, struct siren_error *err)
{
    char *text;
    size_t length;
    int rc = siren_lines_open(&j->lines, j->path, SIREN_UTF8, err), more = 0;
    while (!rc && (more = siren_lines_next(j->lines, &text, &length, err)) > 0)
        if (length) rc = read_line(j, text, length, err);
    if (more < 0) rc = more;
    siren_lines_close(j->lines);
    if (!rc && !j->n) rc = siren_fail(err, SIREN_EFORMAT, "%s holds no answers", j->path);
    return rc;
}

static int allow_rows(struct judge *j, struct siren_error *err)
{
    struct siren_eval_options e = siren_eval_defaults();
    struct siren_target *targets;
    size_t n, rows = j->app->ratings.n;
    int rc;
    j->allowed = alloc_zeroed(rows + 1, 1);
    j->seen = alloc_zeroed(rows + 1, 1);
    if (!j->allowed || !j->seen) return siren_fail_memory(err, "rows", 2 * rows);
    if (!j->options->split) {
        memset(j->allowed, 1, rows);
        return 0;
    }
    e.split = j->options->split;
    e.fold = j->options->fold;
    e.seed = j->options->seed;
    rc = siren_eval_targets(j->app, &e, &targets, &n, err);
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) j->allowed[targets[i].row] = 1;
    free(targets);
    return 0;
}

static char *settings_text(const struct judge *j)
{
    json_t *s = json_object();
    char hash[17], *text = NULL;
    app_data_hash(j->app, hash);
    json_object_set_new(s, "predictions", json_string(j->path));
    json_object_set_new(s, "data", json_string(hash));
    json_object_set_new(s, "split", json_string(j->options->split ? j->options->split : ""));
    if (j->options->split && j->options->fold >= 0)
        json_object_set_new(s, "fold", json_integer(j->options->fold));
    if (j->options->split && j->options->fold >= 0)
        json_object_set_new(s, "seed", json_integer((json_int_t)j->options->seed));
    json_object_set_new(s, "fallback", app_real(j->options->fallback));
    app_json_text(s, JSON_COMPACT | JSON_SORT_KEYS, &text, NULL);
    return text;
}

static int save_answers(struct judge *j, int64_t run, struct siren_error *err)
{
    float probabilities[SIREN_MAX_LABELS], logprobs[SIREN_MAX_LABELS];
    int rc = 0;
    for (size_t i = 0; i < j->n && !rc; i++) {
        struct siren_prediction p = app_prediction(j->app, &j->targets[i], &j->answers[i],
                                                   (int64_t)i, probabilities, logprobs);
        char *reasoning = app_reasoning_json(&j->answers[i]);
        p.reasoning = reasoning;
        rc = siren_predictions_save(j->app->ws, run, &p, 1, err);
        free(reasoning);
    }
    return rc;
}

/* As an evaluation's run has it. */
static void split_text(const struct judge *j, char *text, size_t size)
{
    const struct siren_judge_options *o = j->options;
    if (o->split && o->fold >= 0)
        snprintf(text, size, "fold %d of %d, %.20s", o->fold, j->app->ratings.n_folds, o->split);
    else
        snprintf(text, size, "%s", o->split ? o->split : "");
}

/* The whole run in one transaction: it is there with its metrics, or not at all. */
static int store_run(struct judge *j, struct siren_pool *pool, int64_t *id, struct siren_error *err)
{
    const struct siren_judge_options *o = j->options;
    char split[64];
    split_text(j, split, sizeof split);
    struct siren_run run = {.kind = "judge",
                            .name = (char *)(o->name ? o->name : ""),
                            .command = (char *)(o->command ? o->command : ""),
                            .settings = settings_text(j),
                            .model = "",
                            .split = split};
    char *metrics = NULL;
    siren_workspace_timeout(j->app->ws, APP_PATIENCE_MS);
    int rc = run.settings ? siren_workspace_begin(j->app->ws, err)
                          : siren_fail_memory(err, "settings", 0);
    if (rc) {
        free(run.settings);
        return rc;
    }
    rc = app_run_start(j->app, &run, err);
    if (!rc) rc = save_answers(j, run.id, err);
    if (!rc) rc = siren_run_metrics(j->app, run.id, pool, &metrics, err);
    if (!rc) rc = siren_run_finish(j->app->ws, run.id, SIREN_RUN_DONE, metrics, NULL, err);
    rc = siren_workspace_end(j->app->ws, rc, err);
    *id = rc ? 0 : run.id;
    free(metrics);
    free(run.settings);
    return rc;
}

int siren_judge(struct siren_app *app, const char *path, const struct siren_judge_options *options,
                struct siren_pool *pool, int64_t *run, struct siren_error *err)
{
    struct judge j = {.app = app, .options = options, .path = path};
    int rc = allow_rows(&j, err);
    *run = 0;
    if (!rc) rc = read_file(&j, err);
    if (!rc) rc = store_run(&j, pool, run, err);
    siren_answers_free(j.answers, j.n);
    free(j.targets);
    free(j.allowed);
    free(j.seen);
    return rc;
}
