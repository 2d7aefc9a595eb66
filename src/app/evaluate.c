/* A split through the model, stored as a run that can be stopped and continued. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "app/lineage.h"
#include "app/parts.h"
#include "app/split.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/lock.h"
#include "siren/random.h"

/* Rows asked and stored at a time: about a pass of the engine, so that little is lost when it is
 * stopped; reasoning takes long, and its sequences fill each other's gaps: of these, what is whole
 * at a stop is stored. */
enum { ANSWER_BATCH = 8, REASON_BATCH = SIREN_GENERATION_BATCH };

struct siren_eval_options siren_eval_defaults(void)
{
    return (struct siren_eval_options){
        .predict = siren_predict_defaults(), .split = "test", .fold = -1};
}

/* ---- the rows ---- */

static int by_row(const void *x, const void *y)
{
    const struct siren_target *a = x, *b = y;
    return (a->row > b->row) - (a->row < b->row);
}

/* `limit` of the n targets, drawn with the seed, in their order. */
static int draw_targets(struct siren_target *targets, size_t *n, size_t limit, uint64_t seed,
                        struct siren_error *err)
{
    uint64_t *order;
    struct siren_target *drawn;
    if (!limit || limit >= *n) return 0;
    order = alloc_array(*n, sizeof *order);
    drawn = alloc_array(limit, sizeof *drawn);
    if (order && drawn) {
        siren_random_permutation(seed, 0, *n, order);
        for (size_t i = 0; i < limit; i++) drawn[i] = targets[order[i]];
        memcpy(targets, drawn, limit * sizeof *drawn);
        qsort(targets, limit, sizeof *targets, by_row);
        *n = limit;
    }
    free(drawn);
    free(order);
    return *n == limit ? 0 : siren_fail_memory(err, "the drawn rows", limit * sizeof *drawn);
}

int siren_eval_targets(struct siren_app *app, const struct siren_eval_options *o,
                       struct siren_target **targets, size_t *n, struct siren_error *err)
{
    struct split split;
    int rc = split_parse(o->split, &split, err);
    *targets = NULL;
    *n = 0;
    if (!rc) rc = app_use_fold(app, o->fold, o->fold_seed ? *o->fold_seed : o->seed, err);
    if (!rc) rc = split_targets(app, &split, targets, n, err);
    if (!rc && !*n)
        rc = siren_fail(err, SIREN_ENOTFOUND, "%s has no rows in the split \"%s\"",
                        siren_workspace_path(app->ws), o->split);
    if (!rc) rc = draw_targets(*targets, n, o->limit, o->seed, err);
    if (rc) {
        free(*targets);
        *targets = NULL;
    }
    return rc;
}

/* ---- the run ---- */

struct evaluation {
    struct siren_app *app;
    struct siren_lm *lm;
    const struct siren_eval_options *options;
    struct siren_target *targets;
    size_t n, n_done;
    uint8_t *done; /* (n) */
    int64_t run;
    int is_new;       /* the run began with this call */
    int n_busy;       /* attempts in a row that found another writer */
    struct lock lock; /* of these settings, by which a run is found again */
};

static char *settings_text(const struct evaluation *e)
{
    const struct siren_eval_options *o = e->options;
    char hash[17], *text = NULL;
    json_t *j = app_lm_json(e->lm);
    lineage_add_made_of(j, e->lm);
    app_data_hash(e->app, hash);
    json_object_set_new(j, "data", json_string(hash));
    json_object_set_new(j, "protocol", json_string(siren_protocol_name(e->app->meta.protocol)));
    json_object_set_new(j, "split", json_string(o->split));
    if (o->fold >= 0) json_object_set_new(j, "fold", json_integer(o->fold));
    json_object_set_new(j, "rows", json_integer((json_int_t)e->n));
    json_object_set_new(j, "seed", json_integer((json_int_t)o->seed));
    json_object_set_new(j, "predict", app_options_json(&o->predict));
    app_json_text(j, JSON_COMPACT | JSON_SORT_KEYS, &text, NULL);
    return text;
}

/* Two processes would store the same rows in one run. */
static int lock_run(struct evaluation *e, const char *text, struct siren_error *err)
{
    const char *workspace = siren_workspace_path(e->app->ws);
    struct buf path = {0};
    buf_printf(&path, "%s-eval-%016llx.lock", workspace,
               (unsigned long long)XXH3_64bits(text, strlen(text)));
    int rc = buf_failed(&path) ? siren_fail_memory(err, "a path", strlen(workspace))
                               : lock_take(&e->lock, path.data, err);
    buf_free(&path);
    if (rc != SIREN_EBUSY) return rc;
    return siren_fail(err, rc, "%s: another process is at this very evaluation: wait for it",
                      workspace);
}

static int start_new(struct evaluation *e, char *text, struct siren_error *err)
{
    const struct siren_eval_options *o = e->options;
    char split[64], model[SIREN_LM_NAME];
    if (o->fold >= 0)
        snprintf(split, sizeof split, "fold %d of %d, %.20s", o->fold, e->app->ratings.n_folds,
                 o->split);
    else
        snprintf(split, sizeof split, "%s", o->split);
    siren_lm_name(e->lm, model);
    struct siren_run run = {.kind = "eval",
                            .name = (char *)(o->name ? o->name : ""),
                            .command = (char *)(o->command ? o->command : ""),
                            .settings = text,
                            .model = model,
                            .split = split,
                            .seed = o->seed};
    int rc = app_run_start(e->app, &run, err);
    e->run = run.id;
    e->is_new = !rc;
    return rc;
}

static int start_run(struct evaluation *e, struct siren_error *err)
{
    char *text = settings_text(e);
    int rc = text ? lock_run(e, text, err) : siren_fail_memory(err, "settings", 0);
    if (!rc && !e->options->anew)
        rc = siren_run_find_unfinished(e->app->ws, "eval", text, &e->run, err);
    if (!rc && e->run && e->options->name)
        rc = siren_run_rename(e->app->ws, e->run, e->options->name, err);
    if (!rc && e->run)
        rc = siren_run_finish(e->app->ws, e->run, SIREN_RUN_RUNNING, NULL, NULL, err);
    else if (!rc)
        rc = start_new(e, text, err);
    free(text);
    if (rc) return rc;
    rc = siren_predictions_done(e->app->ws, e->run, e->done, e->n, err);
    for (size_t i = 0; i < e->n && !rc; i++) e->n_done += e->done[i];
    return rc;
}

static int fail_stopped(const struct evaluation *e, struct siren_error *err)
{
    return siren_fail(err, SIREN_ECANCEL, "stopped after %zu of %zu rows", e->n_done, e->n);
}

/* Another process writes, an import say: what took hours waits for it ten minutes (each attempt
 * waits as long as any writer does), or until it is stopped.  1: try again. */
static int wait_for_writer(struct evaluation *e, int *rc, const struct siren_progress *progress,
                           struct siren_error *err)
{
    if (*rc != SIREN_EBUSY) e->n_busy = 0;
    if (*rc != SIREN_EBUSY || ++e->n_busy == 120) return 0;
    if (!siren_progress_update(progress, "predictions", e->n_done, e->n)) return 1;
    *rc = fail_stopped(e, err);
    return 0;
}

static int store_answers(struct evaluation *e, const size_t *rows,
                         const struct siren_answer *answers, size_t n,
                         const struct siren_progress *progress, struct siren_error *err)
{
    static const size_t labels = SIREN_MAX_LABELS;
    struct siren_prediction predictions[REASON_BATCH];
    float *numbers = alloc_array(2 * labels * n, sizeof *numbers);
    char *reasoning[REASON_BATCH] = {0};
    int rc = 0;
    if (!numbers) return siren_fail_memory(err, "predictions", n * 2 * labels * sizeof *numbers);
    for (size_t i = 0; i < n; i++) {
        predictions[i] =
            app_prediction(e->app, &e->targets[rows[i]], &answers[i], (int64_t)rows[i],
                           numbers + 2 * labels * i, numbers + 2 * labels * i + labels);
        predictions[i].reasoning = reasoning[i] = app_reasoning_json(&answers[i]);
        if (answers[i].samples && !reasoning[i]) rc = siren_fail_memory(err, "predictions", n);
    }
    if (!rc) {
        do rc = siren_predictions_save(e->app->ws, e->run, predictions, n, err);
        while (wait_for_writer(e, &rc, progress, err));
    }
    for (size_t i = 0; i < n; i++) free(reasoning[i]);
    free(numbers);
    return rc;
}

/* Several samples a row: as many texts, not as many rows. */
static size_t rows_at_a_time(const struct siren_predict_options *o)
{
    if (o->mode == SIREN_AO) return ANSWER_BATCH;
    return o->samples <= 1              ? REASON_BATCH
           : o->samples >= REASON_BATCH ? 1
                                        : (size_t)(REASON_BATCH / o->samples);
}

/* Those that were answered before a stop come first; returns how many they are. */
static size_t gather_whole(struct siren_answer *answers, size_t *rows, size_t n)
{
    size_t whole = 0;
    for (size_t i = 0; i < n; i++) {
        if (!answers[i].text) continue;
        struct siren_answer none = answers[whole];
        answers[whole] = answers[i];
        answers[i] = none;
        rows[whole++] = rows[i];
    }
    return whole;
}

/* Predict and store the next rows that are missing, from *at on. */
static int evaluate_batch(struct evaluation *e, size_t *at, const struct siren_progress *progress,
                          struct siren_error *err)
{
    struct siren_target targets[REASON_BATCH];
    struct siren_answer answers[REASON_BATCH] = {0};
    size_t rows[REASON_BATCH], n = 0;
    size_t most = rows_at_a_time(&e->options->predict);
    struct app_part part;
    struct siren_progress inner;
    int rc;
    for (; *at < e->n && n < most; ++*at) {
        if (e->done[*at]) continue;
        rows[n] = *at;
        targets[n++] = e->targets[*at];
    }
    part = (struct app_part){progress, "predictions", e->n_done, n, e->n};
    inner = app_part_progress(&part);
    rc = app_predict(e->app, e->lm, targets, n, &e->options->predict, answers, &inner, err);
    size_t n_whole = !rc ? n : rc == SIREN_ECANCEL ? gather_whole(answers, rows, n) : 0;
    int failed = n_whole ? store_answers(e, rows, answers, n_whole, progress, err) : 0;
    if (failed)
        rc = failed;
    else
        e->n_done += n_whole;
    for (size_t i = 0; i < n; i++) siren_answer_clear(&answers[i]);
    return rc == SIREN_ECANCEL ? fail_stopped(e, err) : rc;
}

static int finish_run(struct evaluation *e, struct siren_pool *pool,
                      const struct siren_progress *progress, struct siren_error *err)
{
    char *metrics = NULL;
    int rc = siren_run_metrics(e->app, e->run, pool, &metrics, err);
    if (!rc) {
        do rc = siren_run_finish(e->app->ws, e->run, SIREN_RUN_DONE, metrics, NULL, err);
        while (wait_for_writer(e, &rc, progress, err));
    }
    free(metrics);
    return rc;
}

/* What was refused before the first row was stored never began, and is no run. */
static void fail_run(struct evaluation *e, int rc, const char *message)
{
    if (rc != SIREN_ECANCEL && e->is_new && !e->n_done) {
        siren_run_delete(e->app->ws, e->run, NULL);
        e->run = 0;
        return;
    }
    siren_run_finish(e->app->ws, e->run, rc == SIREN_ECANCEL ? SIREN_RUN_STOPPED : SIREN_RUN_FAILED,
                     NULL, message, NULL);
}

static int evaluate_rows(struct evaluation *e, struct siren_pool *pool,
                         const struct siren_progress *progress, struct siren_error *err)
{
    int rc = 0;
    for (size_t at = 0; at < e->n && !rc;) {
        if (siren_progress_update(progress, "predictions", e->n_done, e->n))
            rc = fail_stopped(e, err);
        else if (e->n_done < e->n)
            rc = evaluate_batch(e, &at, progress, err);
        else
            break;
    }
    if (!rc) rc = finish_run(e, pool, progress, err);
    if (!rc) siren_progress_update(progress, "predictions", e->n, e->n);
    if (rc) fail_run(e, rc, err ? err->message : NULL);
    return rc;
}

int siren_evaluate(struct siren_app *app, struct siren_lm *lm,
                   const struct siren_eval_options *options, struct siren_pool *pool, int64_t *run,
                   const struct siren_progress *progress, struct siren_error *err)
{
    struct evaluation e = {.app = app, .lm = lm, .options = options};
    int rc = siren_eval_targets(app, options, &e.targets, &e.n, err);
    *run = 0;
    if (rc) return rc;
    e.done = alloc_zeroed(e.n, 1);
    rc = e.done ? start_run(&e, err) : siren_fail_memory(err, "the rows of a split", e.n);
    if (!rc) rc = evaluate_rows(&e, pool, progress, err);
    *run = e.run;
    lock_release(&e.lock);
    free(e.done);
    free(e.targets);
    return rc;
}
