/* The training loop on a task whose gradient is known: least squares.  What it does to the bits
 * when it is stopped, killed, refused or fed NaN. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "siren/checkpoint.h"
#include "siren/error.h"
#include "siren/file.h"
#include "siren/random.h"
#include "train/trainer.h"

enum { D = 6, ROWS = 23 };

static struct siren_error err;

/* loss of row i: (w·x_i − y_i)² / 2 */
struct world {
    float w[D], grad[D];
    struct siren_param param;
    size_t bad_row;             /* its loss (or, with bad_gradient, its gradient) is `bad` */
    double bad;                 /* NaN or Inf */
    int bad_gradient, says_bad; /* says_bad: the task itself refuses the row's loss */
    unsigned nan_metric;        /* the evaluation that gives NaN, from 1; 0: none */
    int says_bad_metric;        /* … or says so itself */
    double shift;               /* added to the metric for each step done, to make it worse */
    unsigned n_evaluated, n_begun, n_saved;
    unsigned fail_save; /* the save that cannot be made; 0: none */
    size_t seen[ROWS];  /* how often each row was in a batch */
    size_t n_seen[64];  /* rows of each step */
    double weights[ROWS];
    size_t chosen[ROWS];
    uint64_t n_rows, done; /* progress */
    uint64_t stop_after;   /* progress: stop when so many steps are done */
    uint64_t kill_after;   /* progress: SIGKILL itself */
    unsigned n_within;     /* progress: of what begin() does */
    unsigned n_behind;     /* progress: of evaluate() behind the last step */
    /* The rows of two epochs, as they came. */
    size_t order[2 * ROWS], n_ordered;
};

static double x_of(size_t row, int d)
{
    return siren_random_normal(11, row, (uint64_t)d);
}

static double error_of(const struct world *world, size_t row)
{
    double y = 0, p = 0;
    for (int d = 0; d < D; d++) {
        y += (d - 2) * x_of(row, d);
        p += (double)world->w[d] * x_of(row, d);
    }
    return p - y;
}

static int gradient(void *context, size_t row, double coefficient, double *loss,
                    struct siren_error *e)
{
    struct world *world = context;
    double miss = error_of(world, row);
    *loss = miss * miss / 2;
    if (row == world->bad_row && world->says_bad)
        return siren_fail(e, SIREN_ENUMERIC, "the loss of token 2 is nan");
    if (row == world->bad_row && !world->bad_gradient) *loss = world->bad;
    if (row == world->bad_row && world->bad_gradient) miss = world->bad;
    for (int d = 0; d < D; d++) world->grad[d] += (float)(coefficient * miss * x_of(row, d));
    world->seen[row]++;
    if (world->n_ordered < 2 * ROWS) world->order[world->n_ordered++] = row;
    return 0;
}

static int evaluate(void *context, double *metric, json_t *fields,
                    const struct siren_progress *progress, struct siren_error *e)
{
    struct world *world = context;
    *metric = 0;
    for (size_t row = 100; row < 110; row++) *metric += fabs(error_of(world, row)) / 10;
    *metric += world->shift * world->n_evaluated++;
    if (world->n_evaluated == world->nan_metric && world->says_bad_metric)
        return siren_fail(e, SIREN_ENUMERIC, "user 104: the loss is nan");
    if (world->n_evaluated == world->nan_metric) *metric = NAN;
    json_object_set_new(fields, "rows", json_integer(10));
    return siren_progress_update(progress, "rows judged", 10, 10)
               ? siren_fail(e, SIREN_ECANCEL, "stopped in valid")
               : 0;
}

static void describe(void *context, size_t row, char *text, size_t size)
{
    snprintf(text, size, "user %zu", row);
}

static int save(void *context, const char *folder, struct siren_error *e)
{
    struct world *world = context;
    if (++world->n_saved != world->fail_save) return 0;
    return siren_fail(e, SIREN_EIO, "%s: no room", folder);
}

/* Progress counts rows; batches are of 4.  Behind the last step only the evaluation is left. */
static int watch(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct world *world = context;
    uint64_t n = world->n_rows, steps = done / n * ((n + 3) / 4) + done % n / 4;
    if (!strcmp(what, "rows judged")) {
        assert_true(done == 10 && total == 10);
        world->n_behind++;
        return 0;
    }
    if (strcmp(what, "rows") != 0 && strcmp(what, "rows: 10 of 10 rows judged") != 0) {
        assert_string_equal(what, "rows: 3 of 8 texts");
        world->n_within++;
    }
    assert_true(done >= world->done && done <= total);
    world->done = done;
    if (world->kill_after && steps >= world->kill_after) kill(getpid(), SIGKILL);
    return world->stop_after && steps >= world->stop_after;
}

static void world_make(struct world *world)
{
    *world = (struct world){.bad_row = SIZE_MAX, .n_rows = ROWS};
    world->param = (struct siren_param){
        .name = "w", .value = world->w, .grad = world->grad, .rows = 1, .columns = D};
}

static struct trainer_task task_of(struct world *world)
{
    return (struct trainer_task){.context = world,
                                 .metric = "mae",
                                 .n_rows = ROWS,
                                 .gradient = gradient,
                                 .evaluate = evaluate,
                                 .describe = describe};
}

static struct trainer_options options_of(const char *folder)
{
    static char path[256];
    struct trainer_options o = trainer_defaults();
    snprintf(path, sizeof path, "%s", scratch_path(folder));
    o.folder = path;
    o.batch = 4;
    o.epochs = 5;
    o.lr = 0.1;
    o.checkpoint_every = 3;
    o.resume = 1;
    return o;
}

static int train_task(struct world *world, const struct trainer_task *task,
                      const struct trainer_options *o, struct trainer_result *r)
{
    struct trainer_subject subject = {.params = {&world->param, 1}, .save = save, .context = world};
    struct siren_progress progress = {watch, world};
    world->done = 0;
    world->n_rows = task->n_rows ? task->n_rows : 1;
    json_t *settings = json_pack("{s:s}", "loss", "squares");
    int rc = trainer_run(task, &subject, NULL, NULL, o, settings, r, &progress, NULL, &err);
    json_decref(settings);
    return rc;
}

static int train(struct world *world, const struct trainer_options *o, struct trainer_result *r)
{
    struct trainer_task task = task_of(world);
    return train_task(world, &task, o, r);
}

static json_t *log_of(const char *folder)
{
    char path[320], line[2000];
    json_t *all = json_array();
    snprintf(path, sizeof path, "%s/log.jsonl", folder);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        json_t *j = json_loads(line, 0, NULL);
        assert_non_null(j);
        json_array_append_new(all, j);
    }
    fclose(f);
    return all;
}

/* Weights and the losses of all steps of a run that nothing disturbed. */
struct reference {
    float w[D];
    double best;
    uint64_t steps;
    json_t *log;
};

static void reference_make(struct reference *ref, struct trainer_options o, const char *folder)
{
    static struct world world;
    struct trainer_result r;
    char path[256];
    snprintf(path, sizeof path, "%s", scratch_path(folder));
    world_make(&world);
    o.folder = path;
    if (train(&world, &o, &r)) fail_msg("%s", err.message);
    memcpy(ref->w, world.w, sizeof ref->w);
    ref->best = r.best;
    ref->steps = r.steps;
    ref->log = log_of(path);
}

/* The same lines, but for the times. */
static void assert_same_logs(const json_t *a, const json_t *b)
{
    static const char *const times[] = {"seconds", "tokens_per_second"};
    assert_int_equal(json_array_size(a), json_array_size(b));
    for (size_t i = 0; i < json_array_size(a); i++) {
        json_t *x = json_array_get(a, i), *y = json_array_get(b, i);
        for (int k = 0; k < 2; k++) {
            json_object_del(x, times[k]);
            json_object_del(y, times[k]);
        }
        assert_true(json_equal(x, y));
    }
}

/* ---- what it does ---- */

static void test_learns(void **state)
{
    static struct world world;
    struct trainer_options o = options_of("learns");
    struct trainer_result r;
    world_make(&world);
    o.epochs = 60;
    o.eval_first = 1;
    o.eval_every = 50;
    assert_int_equal(train(&world, &o, &r), 0);
    assert_true(r.steps == 360 && r.total_steps == 360 && !r.resumed && !r.stopped_early);
    for (int d = 0; d < D; d++) assert_true(fabs((double)world.w[d] - (d - 2)) < 0.1);
    assert_true(r.best < 0.2 && r.best_step > 0);
    json_t *log = log_of(o.folder);
    /* evaluations at 0, 50, …, 350, 360 */
    assert_int_equal(json_array_size(log), 360 + 9);
    const json_t *first = json_array_get(log, 0), *step = json_array_get(log, 1);
    assert_true(json_is_true(json_object_get(first, "best")));
    assert_int_equal(json_integer_value(json_object_get(first, "step")), 0);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(first, "valid"), "rows")),
                     10);
    assert_int_equal(json_integer_value(json_object_get(step, "step")), 1);
    assert_true(json_real_value(json_object_get(step, "lr")) == 0); /* warm-up: from 0 */
    assert_true(json_real_value(json_object_get(step, "norm")) > 0);
    assert_true(json_real_value(json_object_get(json_array_get(log, 300), "lr")) == 0.1);
    json_decref(log);
}

static void test_every_row_once_an_epoch(void **state)
{
    static struct world world;
    struct trainer_options o = options_of("rows");
    struct trainer_result r;
    world_make(&world);
    o.epochs = 3;
    assert_int_equal(train(&world, &o, &r), 0);
    assert_int_equal(r.steps, 18); /* 23 rows: five batches of 4, one of 3 */
    for (size_t i = 0; i < ROWS; i++) assert_int_equal(world.seen[i], 3);
    json_t *log = log_of(o.folder);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(log, 5), "items")), 3);
    json_decref(log);
    for (int i = 0; i < 2; i++) { /* of six batches 3, or 2.4 */
        o = options_of(i ? "less than half" : "half");
        o.epochs = i ? 0.4 : 0.5;
        world_make(&world);
        assert_int_equal(train(&world, &o, &r), 0);
        assert_int_equal(r.steps, 3);
    }
}

/* Each epoch has an order of its own, and each seed others; the same seed has the same. */
static void test_seeds_order_the_rows(void **state)
{
    static struct world worlds[3];
    struct trainer_result r;
    for (unsigned i = 0; i < 3; i++) {
        char folder[32];
        snprintf(folder, sizeof folder, "order %u", i);
        struct trainer_options o = options_of(folder);
        world_make(&worlds[i]);
        o.epochs = 2;
        o.seed = i ? 2 : 1;
        assert_int_equal(train(&worlds[i], &o, &r), 0);
        assert_int_equal(worlds[i].n_ordered, 2 * ROWS);
    }
    const size_t *first = worlds[0].order, *other = worlds[1].order;
    assert_memory_not_equal(first, first + ROWS, ROWS * sizeof *first);
    assert_memory_not_equal(first, other, ROWS * sizeof *first);
    assert_memory_equal(other, worlds[2].order, 2 * ROWS * sizeof *first);
}

/* The rates in the log up to the first full one: a tenth of the steps, at most 100, or what is
 * asked for. */
static void test_warm_up(void **state)
{
    static const struct {
        int64_t warmup;
        double epochs; /* of six steps */
        int steps;
    } cases[] = {{-1, 10, 6}, {-1, 200, 100}, {0, 10, 0}, {4, 10, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static struct world world;
        char folder[32];
        snprintf(folder, sizeof folder, "warm-up %zu", i);
        struct trainer_options o = options_of(folder);
        struct trainer_result r;
        world_make(&world);
        struct trainer_task task = task_of(&world);
        int n = cases[i].steps;
        task.evaluate = NULL;
        o.warmup = cases[i].warmup;
        o.epochs = cases[i].epochs;
        o.checkpoint_every = 0;
        world.stop_after = (uint64_t)n + 1;
        assert_int_equal(train_task(&world, &task, &o, &r), SIREN_ECANCEL);
        json_t *log = log_of(o.folder);
        assert_int_equal(json_array_size(log), n + 1);
        for (int k = 0; k <= n; k++) {
            double want = k < n ? 0.1 * k / n : 0.1;
            double lr = json_number_value(json_object_get(json_array_get(log, k), "lr"));
            if (fabs(lr - want) > 1e-9) fail_msg("warm-up %zu, step %d: %g", i, k, lr);
        }
        json_decref(log);
    }
}

/* One step without momentum's history: w = lr · sign of the gradient, so that the gradient is
 * judged by the loss and the norm in the log. */
static void test_mean_over_the_batch(void **state)
{
    static struct world world, plain;
    struct trainer_options o = options_of("mean");
    struct trainer_result r;
    double loss = 0, norm = 0, g[D] = {0};
    world_make(&world);
    world_make(&plain);
    o.batch = ROWS;
    o.max_steps = 1;
    o.clip = 0;
    assert_int_equal(train(&world, &o, &r), 0);
    for (size_t i = 0; i < ROWS; i++) {
        double miss = error_of(&plain, i);
        loss += miss * miss / 2 / ROWS;
        for (int d = 0; d < D; d++) g[d] += miss * x_of(i, d) / ROWS;
    }
    for (int d = 0; d < D; d++) norm += g[d] * g[d];
    json_t *log = log_of(o.folder);
    const json_t *line = json_array_get(log, 0);
    assert_true(fabs(json_real_value(json_object_get(line, "loss")) / loss - 1) < 1e-6);
    assert_true(fabs(json_real_value(json_object_get(line, "norm")) / sqrt(norm) - 1) < 1e-5);
    json_decref(log);
}

/* ---- batches of the task's own items ---- */

static int begin(void *context, struct trainer_batch *batch, const struct siren_progress *progress,
                 struct siren_error *e)
{
    struct world *world = context;
    world->n_seen[world->n_begun % 64] = batch->step;
    world->n_begun++;
    batch->n_items = 0;
    for (size_t i = 0; i < batch->n_rows; i++) {
        if (batch->step % 3 == 1) continue; /* nothing to learn from */
        world->chosen[batch->n_items] = batch->rows[i];
        world->weights[batch->n_items++] = (double)(i + 1);
    }
    batch->weights = world->weights;
    siren_progress_update(progress, "texts", 3, 8);
    return 0;
}

static int chosen_gradient(void *context, size_t item, double coefficient, double *loss,
                           struct siren_error *e)
{
    struct world *world = context;
    assert_true(fabs(coefficient - world->weights[item] / 10) < 1e-12); /* 1 + 2 + 3 + 4 */
    return gradient(context, world->chosen[item], coefficient, loss, e);
}

static void end(void *context, const struct trainer_batch *batch, json_t *line)
{
    json_object_set_new(line, "mine", json_integer((json_int_t)batch->n_rows));
}

static void test_items_of_the_task(void **state)
{
    static struct world world;
    struct trainer_options o = options_of("items");
    struct trainer_result r;
    world_make(&world);
    struct trainer_task task = task_of(&world);
    task.begin = begin;
    task.gradient = chosen_gradient;
    task.end = end;
    o.max_steps = 5;
    assert_int_equal(train_task(&world, &task, &o, &r), 0);
    assert_int_equal(world.n_begun, 5);
    assert_int_equal(world.n_within, 5);
    json_t *log = log_of(o.folder);
    const json_t *empty = json_array_get(log, 1);
    assert_int_equal(json_integer_value(json_object_get(empty, "items")), 0);
    assert_int_equal(json_integer_value(json_object_get(empty, "mine")), 4);
    assert_true(json_number_value(json_object_get(empty, "loss")) == 0);
    json_decref(log);
}

/* Several steps for each batch: begin() once, checkpoints between batches only. */
static void test_repeats(void **state)
{
    static struct world world, again;
    struct trainer_options o = options_of("repeats");
    struct trainer_result r;
    world_make(&world);
    struct trainer_task task = task_of(&world);
    task.begin = begin;
    task.gradient = chosen_gradient;
    task.n_rows = 20;
    o.repeats = 2;
    o.epochs = 2;
    o.checkpoint_every = 1;
    assert_int_equal(train_task(&world, &task, &o, &r), 0);
    assert_int_equal(r.steps, 20);
    assert_int_equal(world.n_begun, 10);
    for (unsigned i = 0; i < 10; i++) assert_int_equal(world.n_seen[i], 2 * i);
    /* Asked to stop in the middle of a batch: its updates are finished and kept, whatever the
     * checkpoints' distance, and an evaluation waits for the batch's end, too. */
    o.folder = scratch_path("repeats stopped");
    o.checkpoint_every = 3;
    o.eval_every = 5;
    world_make(&again);
    task.context = &again;
    again.stop_after = 7;
    assert_int_equal(train_task(&again, &task, &o, &r), SIREN_ECANCEL);
    assert_int_equal(r.steps, 8);
    assert_int_equal(again.n_evaluated, 1); /* after step 6 */
    again.stop_after = 0;
    memset(again.w, 0x55, sizeof again.w);
    assert_int_equal(train_task(&again, &task, &o, &r), 0);
    assert_memory_equal(again.w, world.w, sizeof world.w);
    assert_int_equal(again.n_begun, 10); /* none twice */
    assert_int_equal(again.n_evaluated, 4);
    assert_int_equal(again.n_behind, 1);
}

/* ---- stopped, killed, resumed ---- */

static void test_stopped_and_resumed(void **state)
{
    static struct world world;
    struct reference ref;
    struct trainer_result r;
    struct trainer_options o = options_of("stopped");
    o.eval_every = 4;
    reference_make(&ref, o, "not stopped");
    for (uint64_t at = 1; at < ref.steps; at += 6) {
        world_make(&world); /* wrong weights: the checkpoint's count */
        memset(world.w, 0x55, sizeof world.w);
        if (at == 1) memset(world.w, 0, sizeof world.w);
        world.stop_after = at;
        assert_int_equal(train(&world, &o, &r), SIREN_ECANCEL);
        assert_true(r.steps == at && r.resumed == (at > 1));
        assert_non_null(strstr(err.message, "stopped after"));
    }
    world_make(&world);
    assert_int_equal(train(&world, &o, &r), 0);
    assert_memory_equal(world.w, ref.w, sizeof ref.w);
    assert_true(r.best == ref.best && r.steps == ref.steps);
    json_t *log = log_of(o.folder);
    assert_same_logs(log, ref.log);
    json_decref(log);
    json_decref(ref.log);
    /* Finished: again changes nothing, and says the same. */
    double loss = r.loss;
    assert_int_equal(train(&world, &o, &r), 0);
    assert_true(r.steps == ref.steps);
    assert_true(fabs(r.loss - loss) <= 1e-8 * fabs(loss)); /* nine digits are in the log */
    assert_memory_equal(world.w, ref.w, sizeof ref.w);
}

/* In a child, which dies at a step that it does not know of, or after some microseconds. */
static int killed_child(struct trainer_options *o, uint64_t step, useconds_t after)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        static struct world world;
        struct trainer_result r;
        world_make(&world);
        world.kill_after = step;
        _exit(train(&world, o, &r) ? 1 : 0);
    }
    if (after) {
        usleep(after);
        kill(child, SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status);
}

static void test_killed_and_resumed(void **state)
{
    static struct world world;
    struct reference ref;
    struct trainer_result r;
    struct trainer_options o = options_of("killed");
    int kills = 0;
    o.epochs = 40; /* 240 steps */
    o.eval_every = 7;
    reference_make(&ref, o, "not killed");
    for (uint64_t step = 5; step < 60; step += 11) assert_true(killed_child(&o, step, 0));
    for (int i = 0; i < 30; i++)
        kills +=
            killed_child(&o, 0, (useconds_t)(200 + siren_random_below(5, 0, (uint64_t)i, 4000)));
    assert_true(kills > 0);
    world_make(&world);
    if (train(&world, &o, &r)) fail_msg("%s", err.message);
    assert_memory_equal(world.w, ref.w, sizeof ref.w);
    assert_true(r.best == ref.best && r.steps == ref.steps);
    json_t *log = log_of(o.folder);
    assert_same_logs(log, ref.log);
    json_decref(log);
    json_decref(ref.log);
}

/* ---- refused ---- */

static void test_other_settings(void **state)
{
    static struct world world;
    struct trainer_result r;
    struct trainer_options o = options_of("settings"), other;
    world_make(&world);
    world.stop_after = 4;
    assert_int_equal(train(&world, &o, &r), SIREN_ECANCEL);
    world.stop_after = 0;
    other = o;
    other.lr = 0.25;
    other.schedule = SIREN_SCHEDULE_COSINE;
    assert_int_equal(train(&world, &other, &r), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "--lr is 0.25, it was 0.1"));
    assert_non_null(strstr(err.message, "--schedule is \"cosine\", it was \"constant\""));
    struct trainer_subject subject = {.params = {&world.param, 1}, .context = &world};
    struct trainer_task task = task_of(&world);
    json_t *settings = json_pack("{s:s, s:{s:i}}", "loss", "cubes", "lora", "r", 8);
    assert_int_equal(trainer_run(&task, &subject, NULL, NULL, &o, settings, &r, NULL, NULL, &err),
                     SIREN_EINVAL);
    assert_non_null(strstr(err.message, "run.loss is \"cubes\", it was \"squares\""));
    assert_non_null(strstr(err.message, "run.lora is {\"r\":8}, it was missing"));
    json_decref(settings);
    /* What changes no bit may differ. */
    other = o;
    other.checkpoint_every = 1;
    other.checkpoint_seconds = 0;
    assert_int_equal(train(&world, &other, &r), 0);
    assert_true(r.resumed);
    other.resume = 0;
    assert_int_equal(train(&world, &other, &r), SIREN_EEXISTS);
}

static void test_one_at_a_time(void **state)
{
    static struct world world;
    struct trainer_result r;
    struct trainer_options o = options_of("locked");
    char path[320];
    world_make(&world);
    world.stop_after = 2;
    assert_int_equal(train(&world, &o, &r), SIREN_ECANCEL);
    snprintf(path, sizeof path, "%s/log.jsonl", o.folder);
    FILE *f = fopen(path, "a");
    assert_int_equal(flock(fileno(f), LOCK_EX), 0);
    assert_int_equal(train(&world, &o, &r), SIREN_EBUSY);
    fclose(f);
    assert_int_equal(train(&world, &o, &r), SIREN_ECANCEL);
}

static void test_bad_options(void **state)
{
    static struct world world;
    struct trainer_result r;
    struct trainer_task task;
    struct trainer_options o;
    world_make(&world);
#define REFUSED(change, words)                                                                     \
    o = options_of("bad");                                                                         \
    task = task_of(&world);                                                                        \
    change;                                                                                        \
    assert_int_equal(train_task(&world, &task, &o, &r), SIREN_EINVAL);                             \
    assert_non_null(strstr(err.message, words))
    REFUSED(task.n_rows = 0, "no rows");
    REFUSED(task.gradient = NULL, "without sequences");
    REFUSED(o.batch = 0, "batch of 0");
    REFUSED(o.repeats = 0, "0 steps");
    REFUSED(o.epochs = 0, "0 epochs");
    REFUSED(o.epochs = NAN, "nan epochs");
    REFUSED(o.lr = -1, "learning rate of -1");
    REFUSED(o.clip = NAN, "clip of nan");
    REFUSED(o.adamw.beta1 = 1, "1");
#undef REFUSED
    scratch_write("file", "x", 1);
    o = options_of("file/inner");
    assert_int_equal(train(&world, &o, &r), SIREN_EIO);
    assert_non_null(strstr(err.message, "file/inner"));
}

/* ---- numbers that are none ---- */

static void *file_of(const char *folder, size_t *size)
{
    char path[320], *data;
    snprintf(path, sizeof path, "%s/checkpoint", folder);
    assert_int_equal(siren_file_read(&data, size, path, 1 << 20, &err), 0);
    return data;
}

/* The step, the row and the checkpoint are named, and the checkpoint goes on once it is mended. */
static void check_bad(const char *name, double bad, int bad_gradient, int says_bad,
                      const char *what)
{
    static struct world world;
    struct trainer_result r;
    struct trainer_options o = options_of(name);
    size_t size, size_after;
    world_make(&world);
    world.stop_after = 7;
    assert_int_equal(train(&world, &o, &r), SIREN_ECANCEL);
    void *good = file_of(o.folder, &size), *after;
    world.stop_after = 0;
    world.bad_row = 13;
    world.bad = bad;
    world.bad_gradient = bad_gradient;
    world.says_bad = says_bad;
    assert_int_equal(train(&world, &o, &r), SIREN_ENUMERIC);
    assert_non_null(strstr(err.message, "user 13"));
    assert_non_null(strstr(err.message, what));
    char step[64];
    snprintf(step, sizeof step, "step %llu: ", (unsigned long long)r.steps + 1);
    assert_true(r.steps >= 7 && r.steps < 18);
    assert_non_null(strstr(err.message, step));
    char kept[80];
    snprintf(kept, sizeof kept, "the last good checkpoint is that of step %llu, ",
             (unsigned long long)(r.steps < 9 ? 7 : r.steps / 3 * 3));
    assert_non_null(strstr(err.message, kept));
    char curve[320];
    snprintf(curve, sizeof curve, "%s/curve.svg", o.folder);
    assert_int_equal(access(curve, R_OK), 0); /* of what came before */
    after = file_of(o.folder, &size_after);
    if (r.steps < 9) assert_true(size == size_after && !memcmp(good, after, size));
    free(good);
    free(after);
    world_make(&world); /* the data was mended */
    if (train(&world, &o, &r)) fail_msg("%s", err.message);
}

static void test_nan(void **state)
{
    check_bad("nan loss", NAN, 0, 0, "user 13: the loss is nan");
    check_bad("nan gradient", NAN, 1, 0, "user 13: the gradient of w (parameter 0) is nan");
    check_bad("nan token", NAN, 0, 1, "user 13: the loss of token 2 is nan");
}

/* Neither is a maximum that clipping could mend. */
static void test_infinity(void **state)
{
    check_bad("inf loss", INFINITY, 0, 0, "user 13: the loss is inf");
    check_bad("-inf loss", -INFINITY, 0, 0, "user 13: the loss is -inf");
    for (int sign = -1; sign <= 1; sign += 2) {
        char what[80];
        const char *first = sign * x_of(13, 0) < 0 ? "-inf" : "inf";
        snprintf(what, sizeof what, "user 13: the gradient of w (parameter 0) is %s", first);
        check_bad(sign < 0 ? "-inf gradient" : "inf gradient", sign * INFINITY, 1, 0, what);
    }
}

/* A metric belongs to the step that is done, not to the next one; so does what the evaluation says
 * of one of its rows. */
static void test_nan_metric(void **state)
{
    static struct world world;
    struct trainer_result r;
    struct trainer_options o = options_of("nan metric");
    o.eval_first = 1;
    o.eval_every = 4;
    for (unsigned bad = 1; bad < 7; bad++) {
        char folder[64], said[100];
        unsigned which = (bad + 1) / 2;
        snprintf(folder, sizeof folder, "nan metric %u", bad);
        o.folder = scratch_path(folder);
        world_make(&world);
        world.nan_metric = which;
        world.says_bad_metric = bad % 2;
        assert_int_equal(train(&world, &o, &r), SIREN_ENUMERIC);
        snprintf(said, sizeof said, "step %u: %s", 4 * (which - 1),
                 bad % 2 ? "user 104: the loss is nan; " : "the metric on valid is nan; ");
        if (!strstr(err.message, said) || !strstr(err.message, "checkpoint"))
            fail_msg("%s", err.message);
    }
}

/* ---- evaluation ---- */

static void test_patience(void **state)
{
    static struct world world;
    struct trainer_result r;
    struct trainer_options o = options_of("patience");
    world_make(&world);
    o.eval_every = 2;
    o.patience = 3;
    world.shift = 100;
    assert_int_equal(train(&world, &o, &r), 0);
    assert_true(r.stopped_early && r.steps == 8 && r.best_step == 2);
    assert_int_equal(world.n_saved, 1);
    /* Stopped early is finished. */
    assert_int_equal(train(&world, &o, &r), 0);
    assert_true(r.stopped_early && r.steps == 8 && world.n_evaluated == 4);
}

static void test_saved_without_evaluation(void **state)
{
    static struct world world;
    struct trainer_result r;
    struct trainer_options o = options_of("unjudged");
    world_make(&world);
    struct trainer_task task = task_of(&world);
    task.evaluate = NULL;
    o.checkpoint_every = 12;
    assert_int_equal(train_task(&world, &task, &o, &r), 0);
    assert_true(isnan(r.best));
    assert_int_equal(world.n_saved, 3); /* steps 12, 24, 30 */
}

/* What is trained cannot be written out: the steps are kept, and it is tried again. */
static void test_result_cannot_be_written(void **state)
{
    static struct world world;
    struct reference ref;
    struct trainer_result r;
    struct trainer_options o = options_of("unwritten");
    o.checkpoint_every = 12;
    reference_make(&ref, o, "written");
    for (int at_the_end = 0; at_the_end < 2; at_the_end++) {
        o.folder = scratch_path(at_the_end ? "unwritten at the end" : "unwritten");
        for (int again = 0; again < 2; again++) {
            world_make(&world);
            struct trainer_task task = task_of(&world);
            task.evaluate = NULL;
            world.fail_save = again ? 0 : at_the_end ? 3 : 2;
            int rc = train_task(&world, &task, &o, &r);
            assert_int_equal(rc, again ? 0 : SIREN_EIO);
            if (!again) assert_int_equal(r.steps, at_the_end ? 30 : 24);
            if (again) assert_true(r.resumed && world.n_saved == 1);
        }
        assert_memory_equal(world.w, ref.w, sizeof ref.w);
    }
    json_decref(ref.log);
}

/* ---- a full disk ---- */

static void test_disk_full(void **state)
{
    static struct world world;
    struct reference ref;
    struct trainer_result r;
    struct trainer_options o = options_of("full");
    int status;
    o.epochs = 20;
    reference_make(&ref, o, "not full");
    pid_t child = fork();
    if (!child) {
        struct rlimit limit = {4000, 4000}; /* bytes a file */
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        world_make(&world);
        int rc = train(&world, &o, &r);
        _exit(rc == SIREN_EIO && strstr(err.message, "log.jsonl") ? 7 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    world_make(&world);
    if (train(&world, &o, &r)) fail_msg("%s", err.message);
    assert_true(r.resumed);
    assert_memory_equal(world.w, ref.w, sizeof ref.w);
    json_t *log = log_of(o.folder);
    assert_same_logs(log, ref.log);
    json_decref(log);
    json_decref(ref.log);
}

/* The checkpoint itself does not fit. */
static void test_checkpoint_does_not_fit(void **state)
{
    int status;
    pid_t child = fork();
    if (!child) {
        static struct world world;
        struct trainer_result r;
        struct trainer_options o = options_of("no room");
        world_make(&world);
        world.stop_after = 1;
        int first = train(&world, &o, &r);
        struct rlimit limit;
        struct stat st;
        char path[320];
        snprintf(path, sizeof path, "%s/checkpoint", o.folder);
        if (stat(path, &st)) _exit(2);
        limit.rlim_cur = limit.rlim_max = (rlim_t)st.st_size - 1;
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        world.stop_after = 2; /* one more line of the log fits, the checkpoint does not */
        int second = train(&world, &o, &r);
        _exit(first == SIREN_ECANCEL && second == SIREN_EIO ? 7 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    static struct world world;
    struct trainer_result r;
    struct trainer_options o = options_of("no room");
    world_make(&world);
    world.stop_after = 1;
    assert_int_equal(train(&world, &o, &r), SIREN_ECANCEL); /* the checkpoint of step 1 is good */
    assert_true(r.resumed && r.steps == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_every_row_once_an_epoch),
        cmocka_unit_test(test_seeds_order_the_rows),
        cmocka_unit_test(test_warm_up),
        cmocka_unit_test(test_mean_over_the_batch),
        cmocka_unit_test(test_items_of_the_task),
        cmocka_unit_test(test_repeats),
        cmocka_unit_test(test_stopped_and_resumed),
        cmocka_unit_test(test_killed_and_resumed),
        cmocka_unit_test(test_other_settings),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_infinity),
        cmocka_unit_test(test_nan_metric),
        cmocka_unit_test(test_patience),
        cmocka_unit_test(test_saved_without_evaluation),
        cmocka_unit_test(test_result_cannot_be_written),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_checkpoint_does_not_fit),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
