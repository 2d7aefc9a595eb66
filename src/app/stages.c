#include "app/stages.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/align.h"
#include "app/parts.h"
#include "app/sft.h"
#include "app/teach.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/path.h"
#include "siren/export.h"
#include "siren/file.h"
#include "train/settings.h"

enum path {
    AT_LOCK,
    AT_SETTINGS,
    AT_BASE,
    AT_WARM,
    AT_WARM_ADAPTER,
    AT_REASON,
    AT_REASON_ADAPTER,
    AT_MODEL,
    AT_STATES,
    AT_ANSWER,
    AT_ANSWER_ADAPTER,
    N_PATHS
};
static const char *const path_names[N_PATHS] = {
    "lock",           "settings.json", "base.json",        "1-warm",
    "1-warm/adapter", "2-reason",      "2-reason/adapter", "3-model",
    "4-states.bin",   "5-answer",      "5-answer/adapter"};

struct chain {
    const struct stages_options *options;
    char *paths[N_PATHS];
    struct lock lock; /* of the folder, for the whole: some stages have none of their own */
    int made_folder, made_settings, made_run; /* by this call */
    int done[STAGES];                         /* before it */
    double seconds[STAGES];
    json_t *settings;
    char identity[256];    /* of the model */
    int64_t run, recorded; /* of the workspace: the one at hand, or the one of what is done */
    int stage;             /* at work, from 0 */
    const struct siren_progress *progress;
    const volatile int *cancel;
    struct siren_progress inner;
};

struct stages_options stages_defaults(void)
{
    struct stages_options o = {.seed = 1,
                               .split = "train",
                               .fold = -1,
                               .eval_split = "valid:A",
                               .n_eval_rows = 300,
                               .predict = siren_predict_defaults(),
                               .warm = training_defaults(),
                               .reason = training_defaults(),
                               .answer = training_defaults(),
                               .grpo = grpo_defaults()};
    o.warm.n_rows = 2000;
    o.warm.lora.targets = (1u << SIREN_LORA_TARGETS) - 1;
    o.warm.loop.lr = 2e-4;
    o.reason.loop.epochs = 2;
    o.reason.loop.lr = 5e-5;
    o.reason.loop.adamw.weight_decay = 0;
    return o;
}

/* ---- progress ---- */

/* "rows: loss 0.4" as "rows, stage 2 of 5: loss 0.4". */
static int update_progress(void *context, const char *what, uint64_t done, uint64_t total)
{
    const struct chain *c = context;
    int unit = (int)strcspn(what, ":");
    char text[320];
    snprintf(text, sizeof text, "%.*s, stage %d of %d%.240s", unit > 40 ? 40 : unit, what,
             c->stage + 1, STAGES, what + unit);
    return siren_progress_update(c->progress, text, done, total) || (c->cancel && *c->cancel);
}

/* ---- the model of a step ---- */

static int open_lm(const struct chain *c, struct siren_lm *lm, const char *model,
                   const char *adapter, struct siren_error *err)
{
    struct siren_lm_options o = c->options->lm;
    o.adapter = adapter;
    return siren_lm_open(lm, model, &o, c->options->pool, err);
}

static struct training training_of(const struct chain *c, const struct training *given,
                                   struct siren_lm *lm, const char *kind, enum path folder)
{
    const struct stages_options *o = c->options;
    struct training t = training_defaults();
    t.app = o->app;
    t.lm = lm;
    t.pool = o->pool;
    t.kind = kind;
    t.name = o->name;
    t.command = o->command;
    t.loop = given->loop;
    t.loop.folder = c->paths[folder];
    t.loop.resume = 1;
    t.loop.seed = o->seed;
    t.lora = given->lora;
    t.predict = o->predict;
    t.split = o->split;
    t.fold = o->fold;
    t.n_rows = given->n_rows;
    t.eval_split = o->eval_split;
    t.n_eval_rows = o->n_eval_rows;
    return t;
}

/* ---- the steps ---- */

static int write_json(const char *path, const json_t *value, struct siren_error *err)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_SORT_KEYS);
    int rc =
        text ? siren_file_print(path, err, "%s\n", text) : siren_fail_memory(err, "settings", 0);
    free(text);
    return rc;
}

static int is_there(const char *path)
{
    struct stat st;
    return !lstat(path, &st);
}

/* What the bare model does on valid: no training measures that. */
static int judge_base(const struct chain *c, const struct training *t, struct siren_error *err)
{
    struct training_rows rows;
    double mae = NAN;
    json_t *fields;
    int rc;
    if (!t->eval_split || is_there(c->paths[AT_BASE])) return 0;
    rc = training_rows(t, &rows, err);
    if (rc) return rc;
    fields = json_object();
    rc = grpo_evaluate(t, &c->options->grpo, NULL, &rows, &mae, fields, &c->inner, err);
    json_object_set_new(fields, "mae", app_real(mae));
    if (!rc) rc = write_json(c->paths[AT_BASE], fields, err);
    json_decref(fields);
    training_rows_clear(&rows);
    return rc;
}

static int warm_start(const struct chain *c, struct siren_error *err)
{
    const struct sft_options o = {.loss = {.ce = 1}};
    struct trainer_result result;
    struct siren_lm lm;
    int rc = open_lm(c, &lm, c->options->model, NULL, err);
    if (rc) return rc;
    struct training t = training_of(c, &c->options->warm, &lm, "sft", AT_WARM);
    rc = judge_base(c, &t, err);
    t.predict.mode = SIREN_COT;
    if (!rc) rc = sft_train(&t, &o, &result, &c->inner, c->cancel, err);
    siren_lm_close(&lm);
    return rc;
}

/* Its first evaluation is that of the warm start. */
static int run_reasoning(const struct chain *c, struct siren_error *err)
{
    struct trainer_result result;
    struct siren_lm lm;
    int rc = open_lm(c, &lm, c->options->model, c->paths[AT_WARM_ADAPTER], err);
    if (rc) return rc;
    struct training t = training_of(c, &c->options->reason, &lm, "grpo", AT_REASON);
    t.start = c->paths[AT_WARM_ADAPTER];
    t.loop.eval_first = 1;
    rc = grpo_train(&t, &c->options->grpo, &result, &c->inner, c->cancel, err);
    siren_lm_close(&lm);
    return rc;
}

static int merge(const struct chain *c, struct siren_error *err)
{
    const struct siren_export_options o = {.adapter = c->paths[AT_REASON_ADAPTER]};
    return siren_model_export(c->options->model, c->paths[AT_MODEL], &o, NULL, &c->inner, err);
}

/* What has nothing to learn from is refused where it was made, not where it is to be used. */
static int check_taught(const struct chain *c, size_t n, size_t n_valid, struct siren_error *err)
{
    if (n_valid) return 0;
    return siren_fail(
        err, SIREN_ENOTFOUND,
        "%s: the reasoning model answered none of its %zu rows with a rating, so there "
        "is nothing to learn from: begin in another folder with a longer warm start "
        "(--warm-rows, --warm-epochs), with more reasoning (--grpo-rows, --grpo-steps) "
        "or with longer texts (--max-tokens)",
        c->paths[AT_STATES], n);
}

/* The states of an earlier call. */
static int look_at_taught(const struct chain *c, struct siren_error *err)
{
    struct siren_teacher *t;
    size_t n_valid = 0, n;
    int rc = siren_teacher_open(&t, c->paths[AT_STATES], err);
    if (rc) return rc;
    n = siren_teacher_rows(t);
    for (size_t i = 0; i < n; i++)
        n_valid += (siren_teacher_row(t, i)->flags & SIREN_TEACHER_NUMBER) != 0;
    siren_teacher_close(t);
    return check_taught(c, n, n_valid, err);
}

static int teach(const struct chain *c, struct siren_error *err)
{
    const struct stages_options *s = c->options;
    struct teach_options o = {.rows = siren_eval_defaults()};
    struct teach_report report;
    struct siren_lm lm;
    int rc = open_lm(c, &lm, c->paths[AT_MODEL], NULL, err);
    if (rc) return rc;
    o.rows.predict = s->predict;
    o.rows.predict.sampling.max_tokens = s->grpo.sampling.max_tokens;
    o.rows.split = s->split;
    o.rows.fold = s->fold;
    o.rows.limit = s->answer.n_rows;
    o.rows.seed = s->seed;
    rc = app_teach(s->app, &lm, &o, c->paths[AT_STATES], &report, &c->inner, err);
    if (!rc) rc = check_taught(c, report.n, report.n_valid, err);
    siren_lm_close(&lm);
    return rc;
}

static int align(const struct chain *c, struct siren_error *err)
{
    const struct align_options o = {.teacher = c->paths[AT_STATES],
                                    .filter = {.share = 1},
                                    .ha = 1,
                                    .rating = {.temperature = 1}};
    struct trainer_result result;
    struct siren_lm lm;
    int rc = open_lm(c, &lm, c->paths[AT_MODEL], NULL, err);
    if (rc) return rc;
    struct training t = training_of(c, &c->options->answer, &lm, "align", AT_ANSWER);
    t.n_rows = 0;
    rc = align_train(&t, &o, &result, &c->inner, c->cancel, err);
    siren_lm_close(&lm);
    return rc;
}

static const struct {
    const char *name;
    enum path path; /* of what it makes */
    int (*run)(const struct chain *c, struct siren_error *err);
    int trained; /* its folder is a training's, whose checkpoint says whether it is done */
} steps[STAGES] = {{"warm start", AT_WARM, warm_start, 1},
                   {"reasoning", AT_REASON, run_reasoning, 1},
                   {"the reasoning model", AT_MODEL, merge, 0},
                   {"what it knows", AT_STATES, teach, 0},
                   {"alignment", AT_ANSWER, align, 1}};

/* What a late stage would refuse, before the first one has worked for hours. */
static int check_options(const struct stages_options *o, struct siren_error *err)
{
    const struct training *all[] = {&o->warm, &o->reason, &o->answer};
    if (o->predict.strategy.flags & SIREN_WITH_PROFILE)
        return siren_fail(err, SIREN_EINVAL,
                          "a teacher's prompts cannot hold profiles: take another strategy");
    if (siren_policy_check(&o->grpo.policy.loss, err)) return SIREN_EINVAL;
    for (int i = 0; i < 3; i++)
        if (!(all[i]->loop.epochs > 0))
            return siren_fail(err, SIREN_EINVAL, "%g epochs, expected more than 0",
                              all[i]->loop.epochs);
    return 0;
}

/* The rows of every stage: a split that is misspelt, or valid rows that are trained on. */
static int check_rows(const struct chain *c, struct siren_error *err)
{
    const struct stages_options *o = c->options;
    const struct training *all[] = {&o->warm, &o->reason, &o->answer};
    static const enum path folders[] = {AT_WARM, AT_REASON, AT_ANSWER};
    int rc = 0;
    for (int i = 0; i < 3 && !rc; i++) {
        struct training t = training_of(c, all[i], NULL, "all", folders[i]);
        struct training_rows rows;
        rc = training_rows(&t, &rows, err);
        if (!rc) training_rows_clear(&rows);
    }
    return rc;
}

/* ---- settings ---- */

static json_t *training_json(const struct stages_options *o, const struct training *given,
                             int adapter)
{
    const struct trainer_task task = {.n_rows = given->n_rows};
    struct trainer_options loop = given->loop;
    loop.seed = o->seed;
    json_t *all = trainer_settings(&task, &loop, NULL);
    json_t *j = json_incref(json_object_get(all, "training"));
    json_decref(all);
    if (!adapter) return j;
    json_object_set_new(j, "targets", training_targets_json(given->lora.targets));
    json_object_set_new(j, "r", json_integer(given->lora.r));
    json_object_set_new(j, "alpha", json_real((double)given->lora.alpha));
    json_object_set_new(j, "lora_dropout", json_real((double)given->lora.dropout));
    json_object_set_new(j, "rslora", json_boolean(given->lora.rslora));
    json_object_set_new(j, "layers",
                        json_pack("[i,i]", given->lora.first_layer, given->lora.last_layer));
    return j;
}

static int chat_name(const struct stages_options *o, json_t *j, struct siren_error *err)
{
    struct siren_chat *chat;
    int rc = o->lm.chat_template ? siren_chat_load_file(&chat, o->lm.chat_template, err)
                                 : siren_chat_load(&chat, o->model, err);
    if (rc) return rc;
    json_object_set_new(j, "chat_template", json_string(siren_chat_name(chat)));
    siren_chat_free(chat);
    return 0;
}

/* All that the result depends on. */
static int make_settings(struct chain *c, struct siren_error *err)
{
    const struct stages_options *o = c->options;
    json_t *j = c->settings = json_object();
    char hash[17];
    int rc = j ? app_need_lm(o->model, err) : siren_fail_memory(err, "settings", 0);
    if (!rc) rc = chat_name(o, j, err);
    if (!rc) rc = siren_model_identity(o->model, c->identity, err);
    if (rc) return rc;
    app_data_hash(o->app, hash);
    json_object_set_new(j, "model", json_string(c->identity));
    json_object_set_new(j, "compute", json_string(o->lm.compute ? o->lm.compute : "f32"));
    json_object_set_new(j, "data", json_string(hash));
    json_object_set_new(j, "protocol", json_string(siren_protocol_name(o->app->meta.protocol)));
    json_object_set_new(j, "split", json_string(o->split));
    json_object_set_new(j, "fold", json_integer(o->fold));
    json_object_set_new(j, "eval_split", json_string(o->eval_split ? o->eval_split : ""));
    json_object_set_new(j, "eval_rows", json_integer((json_int_t)o->n_eval_rows));
    json_object_set_new(j, "predict", app_options_json(&o->predict));
    json_object_set_new(j, "warm", training_json(o, &o->warm, 1));
    json_object_set_new(j, "reason", training_json(o, &o->reason, 0));
    json_object_set_new(j, "grpo", grpo_settings(&o->grpo));
    json_object_set_new(j, "answer", training_json(o, &o->answer, 1));
    return 0;
}

static json_t *read_json(const char *path, struct siren_error *err)
{
    json_error_t why;
    json_t *j = json_load_file(path, 0, &why);
    if (!j) siren_fail(err, SIREN_EFORMAT, "%s: %s", path, why.text);
    return j;
}

static int check_settings(const struct chain *c, struct siren_error *err)
{
    char text[600];
    json_t *before = read_json(c->paths[AT_SETTINGS], err);
    if (!before) return SIREN_EFORMAT;
    const char *kind = json_string_value(json_object_get(json_object_get(before, "run"), "kind"));
    int rc = 0;
    if (kind)
        rc = siren_fail(err, SIREN_EINVAL,
                        "%s is a folder of train %.20s, not of train all: choose another",
                        c->options->folder, kind);
    else if (settings_differ(c->settings, before, text, sizeof text))
        rc = siren_fail(err, SIREN_EINVAL, "%s: it was begun with other settings: %s",
                        c->options->folder, text);
    json_decref(before);
    return rc;
}

/* ---- the folder ---- */

static int make_paths(struct chain *c, struct siren_error *err)
{
    for (int i = 0; i < N_PATHS; i++) {
        c->paths[i] = path_join(c->options->folder, path_names[i]);
        if (!c->paths[i]) return siren_fail_memory(err, "a path", strlen(c->options->folder));
    }
    return 0;
}

/* The steps that are done are the first ones. */
static int find_done(struct chain *c, struct siren_error *err)
{
    for (int i = 0; i < STAGES; i++) {
        const char *path = c->paths[steps[i].path];
        int rc = 0;
        if (steps[i].trained)
            rc = trainer_is_done(path, &c->done[i], err);
        else
            c->done[i] = is_there(path);
        if (rc) return rc;
        if (i && c->done[i] && !c->done[i - 1])
            return siren_fail(err, SIREN_EEXISTS,
                              "%s is there, although stage %d (%s) is not done: remove it first",
                              path, i, steps[i - 1].name);
    }
    return 0;
}

static int lock_folder(struct chain *c, struct siren_error *err)
{
    int rc = lock_take(&c->lock, c->paths[AT_LOCK], err);
    if (rc != SIREN_EBUSY) return rc;
    return siren_fail(err, rc, "%s: another process trains in this folder", c->options->folder);
}

static int open_folder(struct chain *c, struct siren_error *err)
{
    const char *folder = c->options->folder;
    int used, rc = check_options(c->options, err);
    if (!rc) rc = make_paths(c, err);
    if (rc) return rc;
    used = is_there(c->paths[AT_SETTINGS]);
    if (used && !c->options->resume)
        return siren_fail(
            err, SIREN_EEXISTS,
            "%s holds a training already: go on with it (--resume), or choose another folder",
            folder);
    rc = make_settings(c, err);
    if (!rc) rc = used ? check_settings(c, err) : check_rows(c, err);
    c->made_folder = !rc && !used && !is_there(folder);
    if (!rc && !used) rc = siren_folder_make(folder, err);
    if (!rc) rc = lock_folder(c, err);
    if (!rc) rc = find_done(c, err);
    if (!rc && !used && (c->done[0] || is_there(c->paths[AT_WARM])))
        rc = siren_fail(err, SIREN_EEXISTS, "%s is there already: choose another folder",
                        c->paths[AT_WARM]);
    if (!rc && !used) rc = write_json(c->paths[AT_SETTINGS], c->settings, err);
    c->made_settings = !rc && !used;
    return rc;
}

/* ---- what was measured ---- */

/* The evaluation before the first step, or the best one; new reference, NULL: there is none. */
static json_t *evaluation(const char *folder, int first)
{
    json_t *log = trainer_read_log(folder, NULL), *line, *found = NULL;
    size_t i;
    json_array_foreach(log, i, line)
    {
        json_t *valid = json_object_get(line, "valid");
        if (!valid) continue;
        if (first ? !json_integer_value(json_object_get(line, "step"))
                  : json_is_true(json_object_get(line, "best")))
            found = valid;
    }
    json_incref(found);
    json_decref(log);
    return found;
}

/* Takes over the fields of grpo_evaluate(). */
static void add_both(json_t *list, const char *after, json_t *fields)
{
    if (!fields) return;
    json_t *reasoned = json_copy(fields), *line = json_object();
    json_object_del(reasoned, "answer_only");
    json_object_set_new(line, "after", json_string(after));
    json_object_set(line, "answer_only", json_object_get(fields, "answer_only"));
    json_object_set_new(line, "reasoned", reasoned);
    json_array_append_new(list, line);
    json_decref(fields);
}

static json_t *valid_json(const struct chain *c)
{
    json_t *list = json_array(), *last;
    if (!c->options->eval_split) return list;
    add_both(list, "nothing", read_json(c->paths[AT_BASE], NULL));
    add_both(list, "warm start", evaluation(c->paths[AT_REASON], 1));
    add_both(list, "reasoning", evaluation(c->paths[AT_REASON], 0));
    last = evaluation(c->paths[AT_ANSWER], 0);
    if (last)
        json_array_append_new(list,
                              json_pack("{s:s,s:o}", "after", "alignment", "answer_only", last));
    return list;
}

static json_t *report_json(const struct chain *c)
{
    json_t *list = json_array();
    for (int i = 0; i < STAGES; i++)
        json_array_append_new(list, json_pack("{s:s,s:o,s:f,s:b}", "name", steps[i].name, "path",
                                              app_text(c->paths[steps[i].path]), "seconds",
                                              c->seconds[i], "skipped", c->done[i]));
    return json_pack("{s:I,s:o,s:o,s:o,s:o,s:o}", "run",
                     (json_int_t)(c->run ? c->run : c->recorded), "folder",
                     app_text(c->options->folder), "model", app_text(c->paths[AT_MODEL]), "adapter",
                     app_text(c->paths[AT_ANSWER_ADAPTER]), "stages", list, "valid", valid_json(c));
}

/* ---- the run in the workspace ---- */

static char *record_of(const struct chain *c)
{
    json_t *j = json_copy(c->settings);
    char *folder = realpath(c->options->folder, NULL), *text = NULL;
    json_object_set_new(j, "folder", app_text(folder ? folder : c->options->folder));
    free(folder);
    app_json_text(j, JSON_COMPACT | JSON_SORT_KEYS, &text, NULL);
    return text;
}

/* Where all is done and recorded there is nothing to record once more. */
static int start_run(struct chain *c, struct siren_error *err)
{
    const struct stages_options *o = c->options;
    char *text = record_of(c);
    int rc = text ? siren_run_find_unfinished(o->app->ws, "all", text, &c->run, err)
                  : siren_fail_memory(err, "settings", 0);
    if (!rc && !c->run && c->done[STAGES - 1])
        rc = app_run_done(o->app, "all", text, &c->recorded, err);
    int64_t known = c->run ? c->run : c->recorded;
    if (!rc && known && o->name) rc = siren_run_rename(o->app->ws, known, o->name, err);
    if (!rc && c->run)
        rc = siren_run_finish(o->app->ws, c->run, SIREN_RUN_RUNNING, NULL, NULL, err);
    else if (!rc && !c->done[STAGES - 1]) {
        struct siren_run run = {.kind = (char *)"all",
                                .name = (char *)(o->name ? o->name : ""),
                                .command = (char *)(o->command ? o->command : ""),
                                .settings = text,
                                .model = c->identity,
                                .split = (char *)o->split,
                                .seed = o->seed};
        rc = app_run_start(o->app, &run, err);
        c->run = run.id;
        c->made_run = !rc;
    }
    free(text);
    return rc;
}

/* The last measurement stands where an evaluation's run has it, so that lists show it. */
static json_t *metrics_json(const json_t *report)
{
    json_t *j = json_object(), *valid = json_object_get(report, "valid");
    size_t n = json_array_size(valid);
    json_t *last = json_object_get(n ? json_array_get(valid, n - 1) : NULL, "answer_only");
    json_t *mae = json_object_get(last, "mae"), *rmse = json_object_get(last, "rmse");
    if (mae && rmse)
        json_object_set_new(
            j, "decoders",
            json_pack("{s:{s:O},s:{s:O}}", "median", "mae", mae, "mean", "rmse", rmse));
    json_object_set_new(j, "stages", json_deep_copy(json_object_get(report, "stages")));
    json_object_set_new(j, "valid", json_deep_copy(valid));
    return j;
}

static int finish_run(const struct chain *c, const json_t *report, int rc, struct siren_error *err)
{
    int status = !rc ? SIREN_RUN_DONE : rc == SIREN_ECANCEL ? SIREN_RUN_STOPPED : SIREN_RUN_FAILED;
    struct siren_error *mine = rc ? NULL : err; /* keep the first message */
    char *metrics = NULL;
    int failed;
    if (!c->run) return rc;
    if (!rc) siren_workspace_timeout(c->options->app->ws, APP_PATIENCE_MS);
    failed = app_json_text(metrics_json(report), JSON_COMPACT, &metrics, mine);
    if (!failed)
        failed = siren_run_finish(c->options->app->ws, c->run, status, metrics,
                                  rc && err ? err->message : NULL, mine);
    free(metrics);
    return rc ? rc : failed;
}

/* What was refused before anything was made of it never began: the folder can be begun with other
 * options, and there is no run. */
static int never_began(const struct chain *c, int rc)
{
    return rc && rc != SIREN_ECANCEL && c->made_settings && !is_there(c->paths[AT_BASE]) &&
           !is_there(c->paths[AT_WARM]);
}

static void take_back(struct chain *c)
{
    if (c->made_run) siren_run_delete(c->options->app->ws, c->run, NULL);
    unlink(c->paths[AT_SETTINGS]);
    lock_release(&c->lock);
    if (c->made_folder) rmdir(c->options->folder);
}

/* ---- in order ---- */

static int run_steps(struct chain *c, struct siren_error *err)
{
    const struct stages_options *o = c->options;
    int rc = 0;
    for (c->stage = 0; c->stage < STAGES && !rc; c->stage++) {
        int i = c->stage;
        double start = clock_seconds();
        if (o->begin) o->begin(o->begin_context, i + 1, steps[i].name, c->done[i]);
        if (!c->done[i] && c->cancel && *c->cancel)
            return siren_fail(err, SIREN_ECANCEL, "stopped before stage %d of %d", i + 1, STAGES);
        if (!c->done[i]) {
            rc = steps[i].run(c, err);
            c->seconds[i] = clock_seconds() - start;
        } else if (steps[i].path == AT_STATES && !c->done[i + 1]) {
            rc = look_at_taught(c, err);
        }
        if (rc) siren_fail_prefix(err, rc, "stage %d of %d (%s)", i + 1, STAGES, steps[i].name);
    }
    return rc;
}

int stages_run(const struct stages_options *options, json_t **report,
               const struct siren_progress *progress, const volatile int *cancel,
               struct siren_error *err)
{
    struct chain c = {.options = options, .progress = progress, .cancel = cancel};
    json_t *made = NULL;
    int rc;
    c.inner = (struct siren_progress){update_progress, &c};
    *report = NULL;
    rc = open_folder(&c, err);
    if (!rc) rc = start_run(&c, err);
    if (!rc) {
        rc = run_steps(&c, err);
        made = report_json(&c);
        if (!rc && !made) rc = siren_fail_memory(err, "a report", 0);
        if (!c.made_run || !never_began(&c, rc)) rc = finish_run(&c, made, rc, err);
    }
    if (never_began(&c, rc)) take_back(&c);
    if (rc)
        json_decref(made);
    else
        *report = made;
    lock_release(&c.lock);
    json_decref(c.settings);
    for (int i = 0; i < N_PATHS; i++) free(c.paths[i]);
    return rc;
}
