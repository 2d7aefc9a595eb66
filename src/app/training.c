/* What the trainings over a workspace share. */
#include "app/training.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/lineage.h"
#include "app/parts.h"
#include "app/split.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "model/adapter.h"
#include "siren/export.h"
#include "siren/file.h"

struct training training_defaults(void)
{
    return (struct training){
        .kind = "sft",
        .loop = trainer_defaults(),
        .lora = {.targets = 1u << SIREN_LORA_K | 1u << SIREN_LORA_V,
                 .last_layer = -1,
                 .r = 8,
                 .alpha = 16,
                 .dropout = 0.05f},
        .predict = siren_predict_defaults(),
        .split = "train",
        .fold = -1,
    };
}

/* ---- rows ---- */

/* Of a split, which `text` says. */
static int takes(const struct split *split, const char *text, struct siren_error *err)
{
    if (!split_has(split, SIREN_LABEL_TEST)) return 0;
    return siren_fail(err, SIREN_EINVAL,
                      "rows of \"%s\" are to be reported on only: train on train or valid, and "
                      "choose on valid",
                      text);
}

int training_check_split(const char *text, struct siren_error *err)
{
    struct split split;
    int rc = split_parse(text, &split, err);
    return rc ? rc : takes(&split, text, err);
}

static int targets_of(const struct training *t, const char *split, size_t limit,
                      struct siren_target **targets, size_t *n, struct siren_error *err)
{
    struct siren_eval_options o = siren_eval_defaults();
    int rc = training_check_split(split, err);
    if (rc) return rc;
    o.split = split;
    o.fold = t->fold;
    o.fold_seed = t->fold_seed;
    o.limit = limit;
    o.seed = t->loop.seed;
    return siren_eval_targets(t->app, &o, targets, n, err);
}

int training_check_eval_split(const char *text, struct siren_error *err)
{
    struct split split;
    int rc = split_parse(text, &split, err);
    if (!rc) rc = takes(&split, text, err);
    if (rc || split_is(&split, SIREN_LABEL_VALID)) return rc;
    return siren_fail(
        err, SIREN_EINVAL,
        "rows to choose by are those of valid: found \"%s\", expected valid, valid:A, "
        "valid:B or none",
        text);
}

/* Both lists are in the order of the ratings. */
static int check_apart(const struct training *t, const struct training_rows *r,
                       struct siren_error *err)
{
    for (size_t i = 0, j = 0; i < r->n_train && j < r->n_valid;) {
        size_t a = r->train[i].row, b = r->valid[j].row;
        if (a == b)
            return siren_fail(
                err, SIREN_EINVAL,
                "\"%s\" and \"%s\" share rows: choose on rows that are not trained on", t->split,
                t->eval_split);
        i += a < b;
        j += b < a;
    }
    return 0;
}

static int copy_given(const struct training *t, struct training_rows *out, struct siren_error *err)
{
    out->train = alloc_array(t->n_given + 1, sizeof *out->train);
    if (!out->train)
        return siren_fail_memory(err, "the rows of a training", t->n_given * sizeof *out->train);
    memcpy(out->train, t->given, t->n_given * sizeof *out->train);
    out->n_train = t->n_given;
    return training_check_split(t->split, err);
}

int training_rows(const struct training *t, struct training_rows *out, struct siren_error *err)
{
    *out = (struct training_rows){0};
    int rc = t->given ? copy_given(t, out, err)
                      : targets_of(t, t->split, t->n_rows, &out->train, &out->n_train, err);
    if (!rc && t->eval_split) rc = training_check_eval_split(t->eval_split, err);
    if (!rc && t->eval_split)
        rc = targets_of(t, t->eval_split, t->n_eval_rows, &out->valid, &out->n_valid, err);
    if (!rc) rc = check_apart(t, out, err);
    if (rc) training_rows_clear(out);
    return rc;
}

void training_rows_clear(struct training_rows *rows)
{
    free(rows->train);
    free(rows->valid);
    *rows = (struct training_rows){0};
}

/* ---- adapter, settings ---- */

static int last_layer(const struct training *t)
{
    return t->lora.last_layer >= 0 ? t->lora.last_layer
                                   : siren_model_config(t->lm->model)->n_layers - 1;
}

int training_adapter(const struct training *t, struct siren_adapter **out, struct siren_error *err)
{
    struct siren_adapter_config config = t->lora;
    *out = NULL;
    if (t->full) return 0;
    if (t->start) {
        int rc = siren_adapter_load(out, t->start, t->lm->model, err);
        if (rc) return rc;
        if (config.dropout >= 0) (*out)->config.dropout = config.dropout;
        (*out)->config.seed = t->loop.seed; /* of its dropout from here on */
        return SIREN_OK;
    }
    config.seed = t->loop.seed;
    config.last_layer = last_layer(t);
    return siren_adapter_create(out, t->lm->model, &config, err);
}

static json_t *shown(float share)
{
    return json_real(rint((double)share * 1e6) / 1e6);
}

json_t *training_targets_json(unsigned targets)
{
    json_t *names = json_array();
    for (int i = 0; i < SIREN_LORA_TARGETS; i++)
        if (targets >> i & 1)
            json_array_append_new(names,
                                  json_string(siren_lora_target_name((enum siren_lora_target)i)));
    return names;
}

static json_t *adapter_json(const struct training *t)
{
    const struct siren_adapter_config *c = &t->lora;
    json_t *j = json_object();
    if (*t->lm->adapter_identity) {
        json_object_set_new(j, "start", json_string(t->lm->adapter_identity));
        json_object_set_new(j, "dropout_seed", json_integer((json_int_t)t->loop.seed));
        if (c->dropout >= 0) json_object_set_new(j, "dropout", shown(c->dropout));
        return j;
    }
    json_object_set_new(j, "targets", training_targets_json(c->targets));
    json_object_set_new(j, "r", json_integer(c->r));
    json_object_set_new(j, "alpha", json_real((double)c->alpha));
    json_object_set_new(j, "dropout", shown(c->dropout));
    json_object_set_new(j, "rslora", json_boolean(c->rslora));
    json_object_set_new(j, "layers", json_pack("[i,i]", c->first_layer, last_layer(t)));
    return j;
}

json_t *training_settings(struct training *t, const struct training_rows *rows)
{
    const struct siren_app *app = t->app;
    char hash[17];
    json_t *j = json_object();
    app_data_hash(app, hash);
    json_object_set_new(j, "kind", json_string(t->kind));
    json_object_set_new(j, "model", json_string(t->lm->identity));
    app_chat_json(j, t->lm);
    if (t->lm->engine) app_numerics_json(j, t->lm->engine);
    json_object_set_new(j, "data", json_string(hash));
    json_object_set_new(j, "protocol", json_string(siren_protocol_name(app->meta.protocol)));
    json_object_set_new(j, "split", json_string(t->split));
    if (t->fold >= 0) json_object_set_new(j, "fold", json_integer(t->fold));
    if (t->fold >= 0 && t->fold_seed)
        json_object_set_new(j, "fold_seed", json_integer((json_int_t)*t->fold_seed));
    json_object_set_new(j, "rows", json_integer((json_int_t)rows->n_train));
    t->n_trained = rows->n_train;
    json_object_set_new(j, "eval_split", json_string(t->eval_split ? t->eval_split : ""));
    json_object_set_new(j, "eval_rows", json_integer((json_int_t)rows->n_valid));
    if (t->choose_by != TRAINING_MAE)
        json_object_set_new(j, "choose_by", json_string(training_metric_names[t->choose_by]));
    json_object_set_new(j, "predict", app_options_json(&t->predict));
    if (t->full) {
        json_object_set_new(j, "weights", json_string("all"));
        if (t->some_layers)
            json_object_set_new(j, "layers",
                                json_pack("[i,i]", t->lora.first_layer, last_layer(t)));
    } else {
        json_object_set_new(j, "adapter", adapter_json(t));
    }
    return j;
}

/* ---- evaluation ---- */

struct judged {
    double *truth, *predicted, *distributions;
    struct siren_answer *answers;
};

static int judge_decoded(struct judged *d, const struct siren_scale *scale, size_t n,
                         enum siren_decoder decoder, struct siren_metrics *m,
                         struct siren_error *err)
{
    struct siren_outcomes o = {n, d->truth, d->predicted, d->distributions, NULL};
    for (size_t i = 0; i < n; i++)
        d->predicted[i] = decoder == SIREN_MEDIAN ? d->answers[i].median : d->answers[i].mean;
    return siren_metrics_compute(m, scale, &o, err);
}

const char *const training_metric_names[] = {"mae", "rmse", "log_loss", "rps"};

static int measure_valid(const struct training *t, const struct training_rows *rows,
                         struct judged *d, double *metric, json_t *fields, struct siren_error *err)
{
    const struct siren_scale *scale = &t->app->meta.scale;
    size_t n = rows->n_valid, labels = (size_t)siren_scale_labels(scale);
    struct siren_metrics *m = alloc_zeroed(1, sizeof *m);
    double outside = 0;
    int rc = m ? 0 : siren_fail_memory(err, "metrics", sizeof *m);
    for (size_t i = 0; i < n; i++) {
        d->truth[i] = t->app->ratings.rating[rows->valid[i].row];
        memcpy(d->distributions + i * labels, d->answers[i].probabilities,
               labels * sizeof *d->distributions);
        outside += d->answers[i].outside / (double)n;
    }
    if (!rc) rc = judge_decoded(d, scale, n, SIREN_MEAN, m, err);
    double rmse = rc ? NAN : m->rmse;
    if (!rc) json_object_set_new(fields, "rmse", app_real(rmse));
    if (!rc) rc = judge_decoded(d, scale, n, SIREN_MEDIAN, m, err);
    if (!rc) {
        const double by[] = {m->mae, rmse, m->log_loss, m->rps};
        *metric = by[t->choose_by];
        if (t->choose_by != TRAINING_MAE) json_object_set_new(fields, "mae", app_real(m->mae));
        json_object_set_new(fields, "log_loss", app_real(m->log_loss));
        json_object_set_new(fields, "rps", app_real(m->rps));
        json_object_set_new(fields, "outside", app_real(outside));
        json_object_set_new(fields, "n", json_integer((json_int_t)n));
    }
    free(m);
    return rc;
}

/* The prefixes that the evaluation kept are of no use once the adapter changes. */
static void use(const struct training *t, const struct siren_adapter *adapter)
{
    if (!t->lm->session) return;
    siren_session_drop_cache(t->lm->session);
    siren_session_use_adapter(t->lm->session, adapter);
}

int training_evaluate(const struct training *t, const struct siren_adapter *adapter,
                      const struct training_rows *rows, double *metric, json_t *fields,
                      const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_predict_options o = t->predict;
    size_t n = rows->n_valid, labels = (size_t)siren_scale_labels(&t->app->meta.scale);
    struct judged d = {.truth = alloc_array(n, sizeof *d.truth),
                       .predicted = alloc_array(n, sizeof *d.predicted),
                       .distributions = alloc_array(n * labels, sizeof *d.distributions),
                       .answers = alloc_zeroed(n, sizeof *d.answers)};
    int rc = d.truth && d.predicted && d.distributions && d.answers
                 ? 0
                 : siren_fail_memory(err, "the valid rows' answers", n * sizeof *d.answers);
    o.mode = SIREN_AO;
    use(t, adapter);
    if (!rc) rc = siren_predict(t->app, t->lm, rows->valid, n, &o, d.answers, progress, err);
    use(t, t->lm->adapter);
    if (!rc) rc = measure_valid(t, rows, &d, metric, fields, err);
    siren_answers_free(d.answers, n);
    free(d.truth);
    free(d.predicted);
    free(d.distributions);
    return rc;
}

/* ---- the run ---- */

/* Two folders are two runs; the path is whole so that it is the same wherever one stands. */
static char *record_of(const struct training *t, const struct trainer_task *task,
                       const json_t *settings)
{
    json_t *j = trainer_settings(task, &t->loop, settings);
    siren_folder_make(t->loop.folder, NULL); /* that this fails is found by the trainer */
    char *folder = realpath(t->loop.folder, NULL), *text = NULL;
    json_object_set_new(j, "folder", app_text(folder ? folder : t->loop.folder));
    free(folder);
    app_json_text(j, JSON_COMPACT | JSON_SORT_KEYS, &text, NULL);
    return text;
}

/* The run of a training that is done: there is nothing to do, and nothing to record once more. */
static int find_done(struct training *t, const char *settings, int64_t *run,
                     struct siren_error *err)
{
    int64_t last;
    int done = 0, rc = app_run_done(t->app, t->kind, settings, &last, err);
    *run = 0;
    if (!rc && last) rc = trainer_is_done(t->loop.folder, &done, err);
    if (!rc && done) *run = last;
    return rc;
}

/* The last run that came to its end in the folder of `settings`; 0: none. */
static int done_in_folder(const struct training *t, const char *settings, int64_t *run,
                          struct siren_error *err)
{
    struct siren_run *runs;
    size_t n;
    json_t *own = json_loads(settings, 0, NULL);
    int rc = siren_runs_load(&runs, &n, t->app->ws, NULL, err);
    *run = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        json_t *other =
            runs[i].status == SIREN_RUN_DONE ? json_loads(runs[i].settings, 0, NULL) : NULL;
        if (other && json_equal(json_object_get(other, "folder"), json_object_get(own, "folder")))
            *run = runs[i].id;
        json_decref(other);
    }
    if (!rc) siren_runs_free(runs, n);
    json_decref(own);
    return rc;
}

/* Begun anew, it would write over what a run has made here that is done. */
static int keep_what_is_done(const struct training *t, const char *settings,
                             struct siren_error *err)
{
    int64_t run = 0;
    int rc = trainer_lost_checkpoint(t->loop.folder) ? done_in_folder(t, settings, &run, err) : 0;
    if (rc || !run) return rc;
    return siren_fail(err, SIREN_EEXISTS,
                      "%s: run %lld came to its end here and its checkpoint is gone, so that "
                      "there is nothing to go on from: choose another folder, or remove this one",
                      t->loop.folder, (long long)run);
}

static int start_new(struct training *t, char *settings, struct siren_error *err)
{
    struct siren_run run = {.kind = (char *)t->kind,
                            .name = (char *)(t->name ? t->name : ""),
                            .command = (char *)(t->command ? t->command : ""),
                            .settings = settings,
                            .model = t->lm->identity,
                            .split = (char *)t->split,
                            .seed = t->loop.seed};
    int rc = app_run_start(t->app, &run, err);
    t->run = run.id;
    return rc;
}

/* What the run in the workspace was before. */
enum before { NOT_THERE, UNFINISHED, DONE };

static int start_run(struct training *t, const struct trainer_task *task, const json_t *settings,
                     enum before *before, struct siren_error *err)
{
    char *text = record_of(t, task, settings);
    int rc = text ? 0 : siren_fail_memory(err, "settings", 0);
    t->run = 0;
    *before = NOT_THERE;
    if (!rc && t->loop.resume) {
        rc = siren_run_find_unfinished(t->app->ws, t->kind, text, &t->run, err);
        if (t->run) *before = UNFINISHED;
        if (!rc && !t->run) rc = find_done(t, text, &t->run, err);
        if (t->run && *before == NOT_THERE) *before = DONE;
    }
    if (!rc && *before == NOT_THERE) rc = keep_what_is_done(t, text, err);
    if (!rc && *before == NOT_THERE) rc = start_new(t, text, err);
    if (!rc && *before != NOT_THERE && t->name)
        rc = siren_run_rename(t->app->ws, t->run, t->name, err);
    if (!rc && *before == UNFINISHED)
        rc = siren_run_finish(t->app->ws, t->run, SIREN_RUN_RUNNING, NULL, NULL, err);
    free(text);
    return rc;
}

/* ---- what it made ---- */

/* The metrics that the run has, of a call before. */
static int open_metrics(struct training *t, struct siren_error *err)
{
    struct siren_run run;
    int rc = siren_run_load(&run, t->app->ws, t->run, err);
    if (rc) return rc;
    t->metrics = json_loads(run.metrics, 0, NULL);
    siren_run_clear(&run);
    if (json_is_object(t->metrics)) return 0;
    json_decref(t->metrics);
    t->metrics = json_object();
    return t->metrics ? 0 : siren_fail_memory(err, "metrics", 0);
}

/* A workspace that cannot be written now ends no training: the next file that is saved, or the end,
 * tells of this one as well. */
static void note_made(struct training *t, const char *identity)
{
    char *text = NULL;
    lineage_add_made(t->metrics, identity);
    lineage_add_made_of(t->metrics, t->lm);
    if (t->taught_by) json_object_set(t->metrics, "taught_by", (json_t *)t->taught_by);
    if (!app_json_text(json_incref(t->metrics), JSON_COMPACT, &text, NULL))
        siren_run_set_metrics(t->app->ws, t->run, text, NULL);
    free(text);
}

/* Told before it is there, so that none is there that was not told of. */
static void saving_adapter(void *context)
{
    struct training *t = context;
    char identity[256];
    siren_adapter_identity(t->adapter, "adapter", identity);
    note_made(t, identity);
}

/* The evaluation that chose the adapter, off the log; NULL: there was none. */
static json_t *best_evaluation(const char *folder)
{
    json_t *log = trainer_read_log(folder, NULL), *line, *best = NULL;
    size_t i;
    json_array_foreach(log, i, line)
    {
        if (json_is_true(json_object_get(line, "best"))) best = json_object_get(line, "valid");
    }
    json_incref(best);
    json_decref(log);
    return best;
}

/* What was measured on valid stands where an evaluation's run has it, so that lists show it. */
static json_t *metrics_of(const struct training *t, const struct trainer_task *task,
                          const struct trainer_result *r)
{
    json_t *valid = best_evaluation(t->loop.folder), *j = json_object(), *training;
    json_t *made = json_object_get(t->metrics, "made");
    json_t *mae = json_object_get(valid, "mae"), *rmse = json_object_get(valid, "rmse");
    if (mae && rmse)
        json_object_set_new(
            j, "decoders",
            json_pack("{s:{s:O},s:{s:O}}", "median", "mae", mae, "mean", "rmse", rmse));
    char *whole = realpath(t->loop.folder, NULL); /* whoever asks may be elsewhere */
    training = json_pack("{s:I,s:I,s:o,s:b,s:I,s:f,s:o}", "steps", (json_int_t)r->steps,
                         "total_steps", (json_int_t)r->total_steps, "loss", app_real(r->loss),
                         "stopped_early", r->stopped_early, "tokens", (json_int_t)r->tokens,
                         "seconds", r->seconds, "folder", app_text(whole ? whole : t->loop.folder));
    free(whole);
    if (made) json_object_set(j, "made", made);
    lineage_add_folder(j, t->loop.folder, t->full, t->lm);
    lineage_add_made_of(j, t->lm);
    if (t->taught_by) json_object_set(j, "taught_by", (json_t *)t->taught_by);
    if (isfinite(r->best)) {
        json_object_set_new(training, "metric", json_string(task->metric ? task->metric : ""));
        json_object_set_new(training, "best", json_real(r->best));
        json_object_set_new(training, "best_step", json_integer((json_int_t)r->best_step));
        json_object_set_new(training, "valid", json_incref(valid));
    }
    json_object_set_new(j, "training", training);
    json_decref(valid);
    return j;
}

static int finish_run(struct training *t, const struct trainer_task *task,
                      const struct trainer_result *result, enum before before, int rc,
                      struct siren_error *err)
{
    int status = !rc ? SIREN_RUN_DONE : rc == SIREN_ECANCEL ? SIREN_RUN_STOPPED : SIREN_RUN_FAILED;
    struct siren_error *mine = rc ? NULL : err; /* keep the first message */
    char *metrics = NULL;
    if (before == DONE) return rc;                            /* all of it is recorded */
    if (rc == SIREN_EBUSY && before == UNFINISHED) return rc; /* another process is at it */
    if (rc && rc != SIREN_ECANCEL && !result->steps && before == NOT_THERE) { /* it never began */
        siren_run_delete(t->app->ws, t->run, NULL);
        t->run = 0;
        return rc;
    }
    if (!rc) siren_workspace_timeout(t->app->ws, APP_PATIENCE_MS);
    int failed = app_json_text(metrics_of(t, task, result), JSON_COMPACT, &metrics, mine);
    if (!failed)
        failed = siren_run_finish(t->app->ws, t->run, status, metrics,
                                  rc && err ? err->message : NULL, mine);
    free(metrics);
    return rc ? rc : failed;
}

/* ---- all weights ---- */

static int weights_changed(void *context, struct siren_error *err)
{
    struct training *t = context;
    return siren_model_changed(t->lm->model, t->pool, err);
}

static int save_weights(void *context, const char *folder, struct siren_error *err)
{
    struct training *t = context;
    const struct siren_export_options options = {.trained = t->lm->model, .replace = 1};
    struct buf path = {0};
    char identity[256];
    buf_printf(&path, "%s/model", folder);
    int rc = buf_failed(&path) ? siren_fail_memory(err, "a path", strlen(folder))
                               : siren_model_export(siren_model_path(t->lm->model), path.data,
                                                    &options, NULL, NULL, err);
    if (!rc && !siren_model_identity(path.data, identity, NULL)) note_made(t, identity);
    buf_free(&path);
    return rc;
}

int training_run(struct training *t, const struct trainer_task *task, struct siren_adapter *adapter,
                 json_t *settings, struct trainer_result *result,
                 const struct siren_progress *progress, const volatile int *cancel,
                 struct siren_error *err)
{
    struct trainer_subject subject = {.adapter = adapter,
                                      .base_identity = t->lm->identity,
                                      .saving = saving_adapter,
                                      .context = t};
    if (t->full)
        subject = (struct trainer_subject){.params = siren_model_params(t->lm->model),
                                           .changed = weights_changed,
                                           .save = save_weights,
                                           .saves = "model",
                                           .context = t};
    enum before before;
    t->metric = task->metric;
    t->adapter = adapter;
    t->metrics = NULL;
    *result = (struct trainer_result){.loss = NAN, .best = NAN};
    int rc = start_run(t, task, settings, &before, err);
    if (!rc) {
        rc = open_metrics(t, err);
        if (!rc)
            rc = trainer_run(task, &subject, t->lm->engine, t->pool, &t->loop, settings, result,
                             progress, cancel, err);
        rc = finish_run(t, task, result, before, rc, err);
    }
    json_decref(t->metrics);
    t->metrics = NULL;
    json_decref(settings);
    return rc;
}
