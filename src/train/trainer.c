/* The training loop: evaluate, checkpoint, step. */
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/path.h"
#include "siren/random.h"
#include "train/trainer_parts.h"

struct trainer_options trainer_defaults(void)
{
    struct trainer_options o = {.seed = 1,
                                .batch = 32,
                                .epochs = 3,
                                .repeats = 1,
                                .lr = 1e-4,
                                .lora_plus = 1,
                                .schedule = SIREN_SCHEDULE_CONSTANT,
                                .warmup = -1,
                                .adamw = siren_adamw_defaults(),
                                .clip = 1,
                                .pass_tokens = 1024,
                                .memory_bytes = (size_t)768 << 20,
                                .dropout = 1,
                                .checkpoint_seconds = 300};
    o.adamw.weight_decay = 0.05;
    return o;
}

struct trainer {
    const struct trainer_task *task;
    const struct trainer_subject *subject;
    const struct trainer_options *options;
    struct siren_pool *pool;
    struct siren_params params;
    struct siren_adamw *adamw;
    struct siren_schedule schedule;
    struct trainer_folder folder;
    struct trainer_state state;
    struct passes passes;
    uint64_t steps_per_epoch, total_steps, eval_every;
    uint64_t *order; /* (n_rows) of the epoch `epoch` */
    uint64_t epoch;
    size_t *rows; /* (batch) */
    struct trainer_batch batch;
    size_t *items; /* (n_items) the task's numbers */
    double *coefficients, *losses;
    size_t items_capacity, coefficients_capacity, losses_capacity;
    double loss;         /* of the last step */
    double part;         /* of the current step's items that are done, 0 to 1 */
    int changed;         /* since the last checkpoint */
    double since, saved; /* clock: when this call began (less what was spent before), last save */
    const struct siren_progress *progress;
    struct siren_progress inner; /* of what happens within a step */
    const volatile int *cancel;
};

/* ---- set-up ---- */

static int check_options(const struct trainer_task *task, const struct trainer_options *o,
                         const struct siren_engine *engine, struct siren_error *err)
{
    if (!task->n_rows) return siren_fail(err, SIREN_EINVAL, "there are no rows to train on");
    if (!task->gradient && !(engine && task->sequence && task->want && task->read))
        return siren_fail(err, SIREN_EINVAL, "a task without sequences or without a gradient");
    if (!o->batch) return siren_fail(err, SIREN_EINVAL, "a batch of 0 rows");
    if (!o->repeats) return siren_fail(err, SIREN_EINVAL, "0 steps for each batch");
    if (!(o->epochs > 0 && o->epochs <= 1e6))
        return siren_fail(err, SIREN_EINVAL, "%g epochs, expected more than 0", o->epochs);
    if (!(o->lr >= 0 && o->lr < INFINITY))
        return siren_fail(err, SIREN_EINVAL, "a learning rate of %g, expected 0 or more", o->lr);
    if (!(o->lora_plus >= 0 && o->lora_plus < INFINITY))
        return siren_fail(err, SIREN_EINVAL, "a rate of B of %g times A's, expected 0 or more",
                          o->lora_plus);
    if (!(o->clip >= 0 && o->clip < INFINITY))
        return siren_fail(err, SIREN_EINVAL, "a clip of %g, expected 0 (none) or more", o->clip);
    return 0;
}

static void count_steps(struct trainer *t)
{
    const struct trainer_options *o = t->options;
    uint64_t batches = (t->task->n_rows + o->batch - 1) / o->batch;
    double all = ceil(o->epochs * (double)batches - 1e-9);
    t->steps_per_epoch = batches * o->repeats;
    t->total_steps = (all < 1 ? 1 : (uint64_t)all) * o->repeats;
    if (o->max_steps && o->max_steps < t->total_steps) t->total_steps = o->max_steps;
    t->eval_every = o->eval_every ? o->eval_every : t->steps_per_epoch;
    uint64_t tenth = t->total_steps / 10;
    t->schedule = (struct siren_schedule){.kind = o->schedule,
                                          .warmup = o->warmup >= 0 ? (uint64_t)o->warmup
                                                                   : (tenth < 100 ? tenth : 100),
                                          .total = t->total_steps};
}

/* Rows of the batch-th batch: the last one of an epoch may be smaller. */
static uint64_t batch_rows(const struct trainer *t, uint64_t batch)
{
    uint64_t first = batch % (t->steps_per_epoch / t->options->repeats) * t->options->batch;
    uint64_t left = t->task->n_rows - first;
    return left < t->options->batch ? left : t->options->batch;
}

/* Rows in the batches of the first `steps` steps. */
static uint64_t rows_of(const struct trainer *t, uint64_t steps)
{
    uint64_t n = t->task->n_rows, repeats = t->options->repeats;
    uint64_t within = steps % t->steps_per_epoch;
    uint64_t batches = within / repeats * t->options->batch * repeats;
    return steps / t->steps_per_epoch * n * repeats + batches +
           within % repeats * batch_rows(t, steps / repeats);
}

/* Rows, and what else goes on within the step: "rows: 12 of 64 texts".  Behind the last step only
 * that is left, and has a time of its own. */
static int inner_update(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct trainer *t = context;
    char text[200];
    uint64_t from = rows_of(t, t->state.step), to = rows_of(t, t->state.step + 1);
    uint64_t at = from + (uint64_t)(t->part * (double)(to - from)),
             all = rows_of(t, t->total_steps);
    int is_rows = !strcmp(what, "rows"), last = t->state.step >= t->total_steps;
    snprintf(text, sizeof text, "rows: %llu of %llu %s", (unsigned long long)done,
             (unsigned long long)total, what);
    if (last && !is_rows) {
        at = done;
        all = total;
    } else if (last) {
        at = from;
    } else if (!is_rows) {
        what = text;
    }
    return siren_progress_update(t->progress, what, at, all) || (t->cancel && *t->cancel);
}

/* Between two batches only: what begin() made of a batch is not in a checkpoint. */
static int may_save(const struct trainer *t)
{
    return t->state.step % t->options->repeats == 0 || t->state.step == t->total_steps;
}

/* Asked to stop, and at a place from which a checkpoint goes on: a batch's updates are finished. */
static int stopped(struct trainer *t)
{
    return siren_progress_update(&t->inner, "rows", 0, 0) && may_save(t);
}

static int fail_stopped(const struct trainer *t, struct siren_error *err)
{
    return siren_fail(err, SIREN_ECANCEL, "stopped after %llu of %llu steps",
                      (unsigned long long)t->state.step, (unsigned long long)t->total_steps);
}

static int subject_changed(struct trainer *t, struct siren_error *err)
{
    const struct trainer_subject *s = t->subject;
    if (s->adapter) siren_adapter_changed(s->adapter);
    return s->changed ? s->changed(s->context, err) : 0;
}

static int save_adapter(struct trainer *t, const char *folder, struct siren_error *err)
{
    const struct trainer_subject *s = t->subject;
    if (s->saving && t->state.step) s->saving(s->context);
    return siren_adapter_save(s->adapter, folder, s->base_identity, err);
}

static int subject_save(struct trainer *t, struct siren_error *err)
{
    const struct trainer_subject *s = t->subject;
    if (s->adapter) return save_adapter(t, t->folder.adapter, err);
    return s->save ? s->save(s->context, t->folder.path, err) : 0;
}

/* Of all weights there is no copy but the checkpoint's: it would be as large as the model. */
static int subject_save_last(struct trainer *t, struct siren_error *err)
{
    return t->subject->adapter ? save_adapter(t, t->folder.last, err) : 0;
}

static int check_gradients(const struct trainer *t, struct siren_error *err)
{
    for (size_t i = 0; i < t->params.n; i++)
        if (!t->params.list[i].grad)
            return siren_fail(err, SIREN_EINVAL, "%s has no gradient", t->params.list[i].name);
    return 0;
}

/* LoRA+ (arXiv 2402.12354): B, which begins at 0, learns at a rate of its own. */
static int make_optimizer(struct trainer *t, struct siren_error *err)
{
    const struct trainer_options *o = t->options;
    struct siren_param_group *groups = alloc_array(t->params.n + 1, sizeof *groups);
    size_t n = 0;
    int rc;
    if (!groups) return siren_fail_memory(err, "groups of parameters", t->params.n);
    for (size_t i = 0; i < t->params.n && t->subject->adapter; i++)
        if (strstr(t->params.list[i].name, "lora_B"))
            groups[n++] = (struct siren_param_group){i, 1, o->lora_plus, o->adamw.weight_decay};
    rc = siren_adamw_create(&t->adamw, t->params, &o->adamw, groups, n, err);
    free(groups);
    return rc;
}

static int set_up(struct trainer *t, struct siren_engine *engine, const json_t *settings,
                  struct siren_error *err)
{
    const struct trainer_options *o = t->options;
    int rc = check_options(t->task, o, engine, err);
    if (rc) return rc;
    count_steps(t);
    t->passes = (struct passes){.task = t->task,
                                .engine = engine,
                                .adapter = t->subject->adapter,
                                .pass_tokens = o->pass_tokens,
                                .training = {.memory_bytes = o->memory_bytes,
                                             .dropout = o->dropout,
                                             .layer_local = o->layer_local}};
    t->params = t->subject->params;
    if (t->subject->adapter) {
        rc = siren_adapter_trainable(t->subject->adapter, err);
        t->params = siren_adapter_params(t->subject->adapter);
    }
    if (!rc) rc = check_gradients(t, err);
    if (!rc) rc = make_optimizer(t, err);
    if (rc) return rc;
    t->order = alloc_array(t->task->n_rows, sizeof *t->order);
    t->rows = alloc_array(o->batch, sizeof *t->rows);
    if (!t->order || !t->rows) return siren_fail_memory(err, "the order of the rows", o->batch);
    t->epoch = UINT64_MAX;
    rc = trainer_folder_open(&t->folder, o, trainer_settings(t->task, o, settings), t->params,
                             t->adamw, &t->state, err);
    if (rc) return rc;
    if (t->folder.saved) rc = subject_changed(t, err);
    if (rc) return rc;
    t->since = clock_seconds() - t->state.seconds;
    t->saved = clock_seconds();
    t->passes.tokens = t->state.tokens;
    return 0;
}

static void tear_down(struct trainer *t)
{
    trainer_folder_close(&t->folder);
    siren_adamw_free(t->adamw);
    passes_free(&t->passes);
    free(t->order);
    free(t->rows);
    free(t->items);
    free(t->coefficients);
    free(t->losses);
}

/* ---- one step ---- */

/* Stream of the random numbers that order the rows of an epoch. */
#define ORDER_STREAM 0x6f72646572000000u

static int draw_rows(struct trainer *t, const struct siren_progress *progress,
                     struct siren_error *err)
{
    const struct trainer_options *o = t->options;
    uint64_t batch = t->state.step / o->repeats, batches = t->steps_per_epoch / o->repeats;
    uint64_t epoch = batch / batches;
    size_t first = (size_t)(batch % batches) * o->batch, n = t->task->n_rows;
    int begins = t->state.step % o->repeats == 0;
    if (epoch != t->epoch) siren_random_permutation(o->seed, ORDER_STREAM + epoch, n, t->order);
    t->epoch = epoch;
    t->batch.step = t->state.step;
    if (!begins) return 0;
    t->batch.rows = t->rows;
    t->batch.n_rows = t->batch.n_items = (size_t)batch_rows(t, batch);
    t->batch.weights = NULL;
    for (size_t i = 0; i < t->batch.n_rows; i++) t->rows[i] = (size_t)t->order[first + i];
    return t->task->begin ? t->task->begin(t->task->context, &t->batch, progress, err) : 0;
}

/* Items and their shares of the loss. */
static int weigh(struct trainer *t, struct siren_error *err)
{
    const struct trainer_batch *b = &t->batch;
    size_t n = b->n_items;
    double sum = 0;
    if (alloc_grow(&t->items, &t->items_capacity, n + 1, sizeof *t->items) ||
        alloc_grow(&t->coefficients, &t->coefficients_capacity, n + 1, sizeof *t->coefficients) ||
        alloc_grow(&t->losses, &t->losses_capacity, n + 1, sizeof *t->losses))
        return siren_fail_memory(err, "the items of a batch", n * sizeof *t->items);
    for (size_t i = 0; i < n; i++) {
        double weight = b->weights ? b->weights[i] : 1;
        sum += weight >= 0 ? weight : NAN;
    }
    if (n && !(sum > 0 && sum < INFINITY))
        return siren_fail(err, SIREN_EINVAL, "the weights of a batch sum to %g", sum);
    for (size_t i = 0; i < n; i++) {
        t->items[i] = t->task->begin ? i : b->rows[i];
        t->coefficients[i] = (b->weights ? b->weights[i] : 1) / sum;
        t->losses[i] = 0;
    }
    return 0;
}

/* Onto gradients that are 0: a step leaves them so. */
static int accumulate(struct trainer *t, const size_t *items, const double *coefficients, size_t n,
                      struct siren_error *err)
{
    uint64_t pass = 0;
    int rc = passes_fill(&t->passes, items, coefficients, n, err);
    for (size_t from = 0, to; from < n && !rc; from = to) {
        to = passes_cut(&t->passes, from);
        if (n == t->batch.n_items) t->part = (double)from / (double)n;
        if (stopped(t)) return fail_stopped(t, err);
        rc = passes_run(&t->passes, from, to, t->state.step << 20 | pass++, t->losses,
                        may_save(t) ? t->cancel : NULL, err);
    }
    return rc;
}

/* A gradient is not finite: of which item?  Each is tried alone. */
static void find_item(struct trainer *t, struct siren_error *err)
{
    struct siren_error ignored;
    char text[200];
    double norm;
    for (size_t i = 0; i < t->batch.n_items; i++) {
        siren_gradients_zero(t->params, t->pool);
        if (accumulate(t, &t->items[i], &t->coefficients[i], 1, &ignored)) return;
        if (siren_gradients_norm(t->params, t->pool, &norm, &ignored) != SIREN_ENUMERIC) continue;
        snprintf(text, sizeof text, "row %zu", t->items[i]);
        if (t->task->describe) t->task->describe(t->task->context, t->items[i], text, sizeof text);
        siren_fail_prefix(err, SIREN_ENUMERIC, "%s", text);
        return;
    }
}

static int fail_numeric(const struct trainer *t, uint64_t step, struct siren_error *err)
{
    char text[sizeof err->message];
    if (!err) return SIREN_ENUMERIC;
    snprintf(text, sizeof text, "%s", err->message);
    unsigned long long saved = t->folder.saved_step;
    if (!t->folder.saved)
        return siren_fail(err, SIREN_ENUMERIC, "step %llu: %.700s; there is no checkpoint yet",
                          (unsigned long long)step, text);
    if (saved == t->state.step) /* no loss of its parameters was seen before */
        return siren_fail(err, SIREN_ENUMERIC,
                          "step %llu: %.700s; the checkpoint, of step %llu, holds what this came "
                          "of, so that resuming leads here again: %.200s",
                          (unsigned long long)step, text, saved, t->folder.checkpoint);
    return siren_fail(err, SIREN_ENUMERIC,
                      "step %llu: %.700s; the last good checkpoint is that of step %llu, %.200s",
                      (unsigned long long)step, text, saved, t->folder.checkpoint);
}

static int log_step(struct trainer *t, double norm, double lr, uint64_t tokens, double began,
                    struct siren_error *err)
{
    double seconds = clock_seconds() - began;
    json_t *line = json_object();
    json_object_set_new(line, "step", json_integer((json_int_t)t->state.step));
    json_object_set_new(line, "epoch",
                        json_real((double)t->state.step / (double)t->steps_per_epoch));
    json_object_set_new(line, "loss", json_real(t->loss));
    json_object_set_new(line, "norm", json_real(norm));
    json_object_set_new(line, "lr", json_real(lr));
    json_object_set_new(line, "items", json_integer((json_int_t)t->batch.n_items));
    json_object_set_new(line, "tokens", json_integer((json_int_t)tokens));
    json_object_set_new(line, "tokens_per_second",
                        json_real(seconds > 0 ? (double)tokens / seconds : 0));
    if (t->passes.memory)
        json_object_set_new(line, "memory", json_integer((json_int_t)t->passes.memory));
    json_object_set_new(line, "seconds", json_real(clock_seconds() - t->since));
    if (t->task->end) t->task->end(t->task->context, &t->batch, line);
    return trainer_log(&t->folder, line, err);
}

/* *factor: of what is accumulated, by its norm. */
static int gradient(struct trainer *t, double *norm, float *factor, struct siren_error *err)
{
    double most = t->options->clip > 0 ? t->options->clip : INFINITY;
    int rc = draw_rows(t, &t->inner, err);
    if (!rc) rc = weigh(t, err);
    if (!rc) rc = accumulate(t, t->items, t->coefficients, t->batch.n_items, err);
    if (!rc) {
        rc = siren_gradients_clip(t->params, most, t->pool, norm, factor, err);
        if (rc == SIREN_ENUMERIC) find_item(t, err);
    }
    return rc == SIREN_ENUMERIC ? fail_numeric(t, t->state.step + 1, err) : rc;
}

static int step(struct trainer *t, struct siren_error *err)
{
    double lr = t->options->lr * siren_schedule_factor(&t->schedule, t->state.step), norm = 0;
    double began = clock_seconds();
    float factor = 1;
    uint64_t tokens = t->passes.tokens;
    int rc = gradient(t, &norm, &factor, err);
    if (rc) return rc;
    t->loss = 0;
    for (size_t i = 0; i < t->batch.n_items; i++) t->loss += t->coefficients[i] * t->losses[i];
    if (t->batch.n_items) {
        siren_adamw_step(t->adamw, lr, factor, t->pool);
        rc = subject_changed(t, err);
        if (rc) return rc;
    }
    t->state.step++;
    t->part = 0;
    t->changed = 1;
    t->state.tokens = t->passes.tokens;
    return log_step(t, norm, lr, t->passes.tokens - tokens, began, err);
}

/* ---- evaluation ---- */

static int due(const struct trainer *t)
{
    uint64_t s = t->state.step, last = t->state.evaluated > 0 ? (uint64_t)t->state.evaluated : 0;
    if (!t->task->evaluate || t->state.evaluated == (int64_t)s || !may_save(t)) return 0;
    if (s == 0) return t->options->eval_first;
    return s == t->total_steps || s / t->eval_every > last / t->eval_every;
}

static int log_evaluation(struct trainer *t, json_t *fields, double metric, int best,
                          struct siren_error *err)
{
    json_t *line = json_object();
    json_object_set_new(fields, t->task->metric ? t->task->metric : "metric", json_real(metric));
    json_object_set_new(line, "step", json_integer((json_int_t)t->state.step));
    json_object_set(line, "valid", fields);
    json_object_set_new(line, "best", json_boolean(best));
    json_object_set_new(line, "seconds", json_real(clock_seconds() - t->since));
    return trainer_log(&t->folder, line, err);
}

static int evaluate(struct trainer *t, struct siren_error *err)
{
    if (stopped(t)) return fail_stopped(t, err); /* and so the last step's rows are told */
    json_t *fields = json_object();
    double metric = NAN;
    int rc = t->task->evaluate(t->task->context, &metric, fields, &t->inner, err), best;
    if (!rc && !isfinite(metric))
        rc = siren_fail(err, SIREN_ENUMERIC, "the metric on valid is %f", metric);
    if (rc == SIREN_ENUMERIC) rc = fail_numeric(t, t->state.step, err);
    best = !rc && !(metric >= t->state.best);
    if (best) rc = subject_save(t, err);
    if (!rc) rc = log_evaluation(t, fields, metric, best, err);
    json_decref(fields);
    if (rc) return rc;
    if (best) {
        t->state.best = metric;
        t->state.best_step = t->state.step;
    }
    t->changed = 1;
    t->state.since_best = best ? 0 : t->state.since_best + 1;
    t->state.evaluated = (int64_t)t->state.step;
    trainer_charts(t->folder.path, t->task, NULL); /* to look at while it goes on */
    t->state.stopped_early = t->options->patience && t->state.since_best >= t->options->patience;
    return 0;
}

/* ---- checkpoints ---- */

/* Result before checkpoint, so that a checkpoint that says "done" has its result.  One that cannot
 * be written (the base of an export is gone) loses no steps: resumed, it is tried again. */
static int save(struct trainer *t, struct siren_error *err)
{
    int rc = t->task->evaluate ? subject_save_last(t, err) : subject_save(t, err), saved;
    t->state.seconds = clock_seconds() - t->since;
    if (rc) t->state.done = 0;
    saved = trainer_folder_save(&t->folder, t->params, t->adamw, &t->state, rc ? NULL : err);
    if (!rc) rc = saved;
    t->saved = clock_seconds();
    t->changed = rc != 0;
    return rc;
}

static int save_if_due(struct trainer *t, struct siren_error *err)
{
    const struct trainer_options *o = t->options;
    uint64_t since = t->state.step - (t->folder.saved ? t->folder.saved_step : 0);
    if (!may_save(t) || !t->changed) return 0;
    if ((o->checkpoint_every && since >= o->checkpoint_every) ||
        (o->checkpoint_seconds > 0 && clock_seconds() - t->saved >= o->checkpoint_seconds))
        return save(t, err);
    return 0;
}

/* ---- the loop ---- */

static int run(struct trainer *t, struct siren_error *err)
{
    int rc = 0;
    siren_gradients_zero(t->params, t->pool);
    while (!rc) {
        if (due(t)) rc = evaluate(t, err);
        if (rc || t->state.stopped_early || t->state.step >= t->total_steps) break;
        rc = save_if_due(t, err);
        if (!rc) rc = stopped(t) ? fail_stopped(t, err) : step(t, err);
    }
    if (!rc && (t->changed || !t->state.done)) {
        t->state.done = 1;
        rc = save(t, err);
    }
    if (!rc) {
        uint64_t rows = rows_of(t, t->state.step);
        siren_progress_update(t->progress, "rows", rows, rows);
    }
    if (rc == SIREN_ECANCEL) {
        struct siren_error at_saving;
        fail_stopped(t, err);
        t->part = 0;
        if (t->changed && may_save(t) && save(t, &at_saving)) {
            rc = at_saving.code;
            if (err) *err = at_saving;
        }
    }
    return rc;
}

/* Of the last step, where a resumed run made none: it had come to its end. */
static double logged_loss(const char *folder)
{
    json_t *log = trainer_read_log(folder, NULL), *line;
    double loss = NAN;
    size_t i;
    json_array_foreach(log, i, line)
    {
        const json_t *value = json_object_get(line, "loss");
        if (json_is_number(value)) loss = json_number_value(value);
    }
    json_decref(log);
    return loss;
}

static void report(const struct trainer *t, struct trainer_result *r)
{
    *r = (struct trainer_result){.steps = t->state.step,
                                 .total_steps = t->total_steps,
                                 .loss = t->loss,
                                 .best = t->state.best,
                                 .best_step = t->state.best_step,
                                 .stopped_early = t->state.stopped_early,
                                 .tokens = t->state.tokens,
                                 .seconds = t->saved > 0 ? clock_seconds() - t->since : 0};
}

/* A resumed run's best result is that of a step that is not made again. */
static int check_result(struct trainer *t, struct siren_error *err)
{
    const char *name = t->subject->adapter ? "adapter" : t->subject->saves;
    char *path = name ? path_join(t->folder.path, name) : NULL;
    struct stat st;
    int gone = path && stat(path, &st), rc = 0;
    if (gone && isfinite(t->state.best))
        rc = siren_fail(err, SIREN_ENOTFOUND,
                        "%s is gone, the best %s so far, that of step %llu: put it back, or begin "
                        "anew in another folder",
                        path, name, (unsigned long long)t->state.best_step);
    if (gone) t->changed = 1; /* what comes of the last step is saved once more */
    free(path);
    return rc;
}

int trainer_run(const struct trainer_task *task, const struct trainer_subject *subject,
                struct siren_engine *engine, struct siren_pool *pool,
                const struct trainer_options *options, const json_t *settings,
                struct trainer_result *result, const struct siren_progress *progress,
                const volatile int *cancel, struct siren_error *err)
{
    struct trainer t = {.task = task,
                        .subject = subject,
                        .options = options,
                        .pool = pool,
                        .loss = NAN,
                        .state = {.best = NAN},
                        .progress = progress,
                        .cancel = cancel};
    int begun, resumed;
    t.inner = (struct siren_progress){inner_update, &t};
    int rc = set_up(&t, engine, settings, err);
    resumed = !rc && t.folder.saved;
    begun = !rc;
    if (resumed) t.loss = logged_loss(t.folder.path);
    if (resumed) rc = check_result(&t, err);
    if (!rc) rc = run(&t, err);
    if (!rc)
        rc = trainer_charts(t.folder.path, task, err);
    else if (begun) /* what came before the failure */
        trainer_charts(t.folder.path, task, NULL);
    report(&t, result);
    result->resumed = resumed;
    tear_down(&t);
    return rc;
}
