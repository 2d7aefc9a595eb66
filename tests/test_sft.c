/* Fine-tuning a LoRA adapter on rows of a workspace, with a tiny random model: it learns, to the
 * same bits whatever the threads, kills and resumes; cuts into passes change rounding only; what it
 * wrote is what `siren` scores with. */
/* check: portable */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "app/examples.h"
#include "app/sft.h"
#include "app_fixture.h"
#include "killed.h"
#include "run_program.h"
#include "same_file.h"
#include "tiny_lm.h"

#include "sft_fixture.h" /* after those */

/* ---- one training ---- */

struct bench {
    struct siren_app app;
    struct siren_lm lm;
    struct siren_pool *pool;
    struct training training;
    struct sft_options options;
    struct trainer_result result;
    char folder[256];
};

/* Of the next benches; NULL: $SIREN_ISA's or the best, f32. */
static const char *isa, *compute;

static struct siren_lm_options lm_options(void)
{
    return (struct siren_lm_options){.chat_template = the_template(),
                                     .isa = isa ? isa : getenv("SIREN_ISA"),
                                     .compute = compute};
}

static void bench_open_all(struct bench *b, const char *folder, enum siren_ending mode, int threads,
                           const struct siren_trainable *weights)
{
    struct siren_lm_options options = lm_options();
    options.trainable = weights;
    memset(b, 0, sizeof *b);
    MUST(siren_app_open(&b->app, the_workspace(), SIREN_WORKSPACE_WRITE, ERR));
    MUST(siren_pool_create(&b->pool, threads, ERR));
    MUST(siren_lm_open(&b->lm, tiny_model("model"), &options, b->pool, ERR));
    snprintf(b->folder, sizeof b->folder, "%s", scratch_path(folder));
    struct training *t = &b->training;
    *t = training_defaults();
    t->app = &b->app;
    t->lm = &b->lm;
    t->pool = b->pool;
    t->loop.folder = b->folder;
    t->loop.resume = 1;
    t->loop.batch = 6;
    t->loop.epochs = 2;
    t->loop.lr = 0.01;
    t->loop.eval_every = 2;
    t->loop.checkpoint_every = 2;
    t->lora.dropout = 0.1f;
    t->n_rows = 18;
    t->eval_split = "valid";
    t->n_eval_rows = 6;
    t->predict.mode = mode;
    MUST(siren_strategy_parse(&t->predict.strategy, "recent", ERR));
    t->predict.strategy.n_recent = 3;
    t->full = weights != NULL;
    b->options.loss = (struct siren_rating_loss){.ce = 1};
}

static void bench_open(struct bench *b, const char *folder, enum siren_ending mode, int threads)
{
    bench_open_all(b, folder, mode, threads, NULL);
}

static void bench_close(struct bench *b)
{
    siren_lm_close(&b->lm);
    siren_pool_free(b->pool);
    siren_app_close(&b->app);
}

static int watch(void *context, const char *what, uint64_t done, uint64_t total)
{
    const uint64_t *stop = context;
    return done / 6 >= *stop; /* rows; batches of 6 */
}

static int bench_run(struct bench *b, uint64_t stop_after)
{
    struct siren_progress progress = {watch, &stop_after};
    return sft_train(&b->training, &b->options, &b->result, &progress, NULL, ERR);
}

/* A value of the log's lines of steps. */
static size_t logged(const char *folder, const char *key, double *values, size_t most)
{
    json_t *log = trainer_read_log(folder, ERR), *line;
    size_t i, n = 0;
    assert_non_null(log);
    json_array_foreach(log, i, line)
    {
        if (json_object_get(line, key) && n < most)
            values[n++] = json_number_value(json_object_get(line, key));
    }
    json_decref(log);
    return n;
}

/* ---- it learns ---- */

static void check_learns(const char *folder, enum siren_ending mode, double below)
{
    static struct bench b;
    double loss[64];
    bench_open(&b, folder, mode, 2);
    b.training.loop.lr = 0.02;
    b.training.loop.schedule = SIREN_SCHEDULE_LINEAR;
    b.training.loop.eval_every = 100;
    b.training.lora = (struct siren_adapter_config){
        .targets = (1u << SIREN_LORA_TARGETS) - 1, .last_layer = -1, .r = 8, .alpha = 16};
    b.training.n_rows = 4;
    b.training.loop.batch = 4;
    b.training.loop.warmup = 2;
    b.training.loop.epochs = 60;
    MUST(bench_run(&b, 1000));
    size_t n = logged(b.folder, "loss", loss, 64);
    assert_int_equal(n, 60);
    assert_true(loss[n - 1] < below * loss[0]);
    bench_close(&b);
}

static void test_learns_ratings(void **state)
{
    check_learns("learns ratings", SIREN_AO, 0.05);
}

static void test_learns_rationales(void **state)
{
    check_learns("learns rationales", SIREN_COT, 0.1);
}

/* The mean over the valid rows of the mean −log p of their rationales' tokens, as the scorer has
 * it. */
static double scored_loss(struct bench *b)
{
    struct training_rows rows;
    struct examples x;
    double sum = 0;
    MUST(training_rows(&b->training, &rows, ERR));
    MUST(examples_create(&x, &b->app, &b->lm, rows.valid, rows.n_valid, &b->training.predict,
                         b->training.loop.seed, ERR));
    for (size_t i = 0; i < x.n; i++) {
        const struct example *e = &x.list[i];
        struct siren_tokens response = {e->ids + e->n_prompt, e->n_ids - e->n_prompt};
        double logprob;
        struct siren_score score = {.prompt = {e->ids, e->n_prompt},
                                    .continuations = &response,
                                    .n_continuations = 1,
                                    .logprobs = &logprob};
        MUST(siren_score_many(b->lm.session, &score, 1, NULL, ERR));
        sum -= logprob / (double)response.n_ids / (double)x.n;
    }
    examples_clear(&x);
    training_rows_clear(&rows);
    return sum;
}

/* Loss on valid before the first step, with this weight of the rating's token; *scored: without. */
static double first_loss(const char *folder, double weight, double *scored)
{
    static struct bench b;
    bench_open(&b, folder, SIREN_COT, 2);
    b.options.answer_weight = weight;
    b.training.loop.eval_first = 1;
    b.training.loop.max_steps = 1;
    *scored = scored_loss(&b);
    MUST(bench_run(&b, 1000));
    json_t *log = trainer_read_log(b.folder, ERR);
    const json_t *valid = json_object_get(json_array_get(log, 0), "valid");
    double loss = json_number_value(json_object_get(valid, "loss"));
    json_decref(log);
    bench_close(&b);
    return loss;
}

/* The scorer's loss of the rationales; the rating's −log p comes on top, by its weight. */
static void test_answer_weight(void **state)
{
    double scored, none = first_loss("weight 0", 0, &scored),
                   two = first_loss("weight 2", 2, &scored),
                   five = first_loss("weight 5", 5, &scored);
    assert_float_equal(none, scored, 1e-5);
    assert_true(two > none);
    assert_float_equal((five - none) / (two - none), 2.5, 1e-4);
}

/* ---- what is measured on valid ---- */

/* The metrics of a run of `siren eval` on the rows of valid that the training measures. */
static json_t *evaluated(struct bench *b)
{
    struct siren_eval_options o = siren_eval_defaults();
    struct siren_run run;
    int64_t id;
    o.split = "valid";
    o.limit = b->training.n_eval_rows;
    o.seed = b->training.loop.seed;
    o.predict = b->training.predict;
    MUST(siren_evaluate(&b->app, &b->lm, &o, b->pool, &id, NULL, ERR));
    MUST(siren_run_load(&run, b->app.ws, id, ERR));
    json_t *metrics = json_loads(run.metrics, 0, NULL);
    siren_run_clear(&run);
    return metrics;
}

/* Before the first step it is the model as it came: the MAE of medians, the RMSE of means, and
 * means over the rows. */
static void test_measures_as_an_evaluation_does(void **state)
{
    static struct bench b;
    static const char *const same[] = {"n", "log_loss", "rps", "outside"};
    double mae, rmse;
    bench_open(&b, "measures", SIREN_AO, 2);
    b.training.loop.eval_first = 1;
    b.training.loop.max_steps = 1;
    MUST(bench_run(&b, 1000));
    json_t *log = trainer_read_log(b.folder, ERR), *metrics = evaluated(&b);
    json_t *valid = json_object_get(json_array_get(log, 0), "valid");
    assert_int_equal(json_unpack(metrics, "{s:{s:{s:f},s:{s:f}}}", "decoders", "median", "mae",
                                 &mae, "mean", "rmse", &rmse),
                     0);
    assert_float_equal(json_number_value(json_object_get(valid, "mae")), mae, 1e-6);
    assert_float_equal(json_number_value(json_object_get(valid, "rmse")), rmse, 1e-6);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        double expected = json_number_value(json_object_get(metrics, same[i]));
        assert_true(expected > 0);
        assert_float_equal(json_number_value(json_object_get(valid, same[i])), expected, 1e-6);
    }
    json_decref(log);
    json_decref(metrics);
    bench_close(&b);
}

/* ---- the same bits ---- */

static void test_threads_kernels_memory(void **state)
{
    static struct bench one, three;
    bench_open(&one, "one thread", SIREN_COT, 1);
    isa = "portable";
    bench_open(&three, "three threads", SIREN_COT, 3);
    isa = NULL;
    three.training.loop.memory_bytes = 1; /* every layer is computed twice */
    MUST(bench_run(&one, 1000));
    MUST(bench_run(&three, 1000));
    same_file_in(one.folder, three.folder, "adapter/adapter_model.safetensors");
    assert_true(one.result.best == three.result.best && one.result.steps == 6);
    bench_close(&one);
    bench_close(&three);
}

static void test_stopped(void **state)
{
    static struct bench whole, parts;
    size_t n;
    for (int mode = SIREN_AO; mode <= SIREN_COT; mode++) {
        bench_open(&whole, mode == SIREN_AO ? "whole ao" : "whole cot", mode, 2);
        MUST(bench_run(&whole, 1000));
        for (uint64_t stop = 1; stop < 6; stop += 2) {
            bench_open(&parts, mode == SIREN_AO ? "parts ao" : "parts cot", mode, 2);
            assert_int_equal(bench_run(&parts, stop), SIREN_ECANCEL);
            assert_int_equal(parts.result.steps, stop);
            bench_close(&parts);
        }
        bench_open(&parts, mode == SIREN_AO ? "parts ao" : "parts cot", mode, 1);
        MUST(bench_run(&parts, 1000));
        assert_true(parts.result.resumed && parts.result.best == whole.result.best);
        same_file_in(whole.folder, parts.folder, "adapter/adapter_model.safetensors");
        same_file_in(whole.folder, parts.folder, "last/adapter_model.safetensors");
        /* One run of the workspace, done, for all of the parts. */
        struct siren_run run, *runs;
        MUST(siren_run_load(&run, parts.app.ws, parts.training.run, ERR));
        assert_string_equal(run.kind, "sft");
        assert_int_equal(run.status, SIREN_RUN_DONE);
        assert_non_null(strstr(run.metrics, "\"best_step\""));
        MUST(siren_runs_load(&runs, &n, parts.app.ws, "sft", ERR));
        size_t same = 0;
        for (size_t i = 0; i < n; i++) same += !strcmp(runs[i].settings, run.settings);
        assert_int_equal(same, 1);
        siren_runs_free(runs, n);
        siren_run_clear(&run);
        bench_close(&whole);
        bench_close(&parts);
    }
}

/* ---- all weights ---- */

/* MAE on the valid rows of another model, or of the same with another adapter. */
static double mae_of(struct bench *b, const char *model, const char *adapter)
{
    struct siren_lm_options options = lm_options();
    options.adapter = adapter;
    struct siren_lm lm, *before = b->training.lm;
    struct training_rows rows;
    double mae;
    json_t *fields = json_object();
    MUST(siren_lm_open(&lm, model, &options, b->pool, ERR));
    MUST(training_rows(&b->training, &rows, ERR));
    b->training.lm = &lm;
    MUST(training_evaluate(&b->training, lm.adapter, &rows, &mae, fields, NULL, ERR));
    b->training.lm = before;
    training_rows_clear(&rows);
    siren_lm_close(&lm);
    json_decref(fields);
    return mae;
}

/* … of the model in a run's folder. */
static double mae_of_folder(struct bench *b, const char *folder)
{
    char path[300];
    snprintf(path, sizeof path, "%s/model", folder);
    return mae_of(b, path, NULL);
}

static void test_all_weights(void **state)
{
    static struct bench whole, parts;
    double loss[64];
    bench_open_all(&whole, "all whole", SIREN_AO, 2, &SIREN_TRAIN_ALL);
    whole.training.loop.epochs = 4;
    MUST(bench_run(&whole, 1000));
    size_t n = logged(whole.folder, "loss", loss, 64);
    assert_int_equal(n, 12);
    assert_true(loss[9] + loss[10] + loss[11] < 0.8 * (loss[0] + loss[1] + loss[2]));
    bench_open_all(&parts, "all parts", SIREN_AO, 1, &SIREN_TRAIN_ALL);
    parts.training.loop.epochs = 4;
    assert_int_equal(bench_run(&parts, 5), SIREN_ECANCEL);
    bench_close(&parts);
    bench_open_all(&parts, "all parts", SIREN_AO, 2, &SIREN_TRAIN_ALL);
    parts.training.loop.epochs = 4;
    MUST(bench_run(&parts, 1000));
    assert_true(parts.result.resumed && parts.result.best == whole.result.best);
    same_file_in(whole.folder, parts.folder, "model/model.safetensors");
    same_file_in(whole.folder, parts.folder, "model/tokenizer.json");
    assert_true(mae_of_folder(&whole, whole.folder) == whole.result.best);
    bench_close(&whole);
    bench_close(&parts);
}

/* context: the compute mode; NULL: f32. */
static int run_killed(void *context, const char *folder)
{
    static struct bench b;
    compute = context; /* of this process only */
    struct siren_progress progress = {count_call, NULL};
    bench_open(&b, "killed", SIREN_AO, 1);
    snprintf(b.folder, sizeof b.folder, "%s", folder);
    b.training.loop.watch = count_line;
    return sft_train(&b.training, &b.options, &b.result, &progress, NULL, ERR);
}

static void test_killed(void **state)
{
    static const char *const files[] = {"adapter/adapter_model.safetensors",
                                        "last/adapter_model.safetensors", NULL};
    kill_and_resume_often(&(struct doomed){.run = run_killed, .name = "sft", .files = files}, 4);
    kill_and_resume_often(&(struct doomed){run_killed, "bf16", "sft bf16", files, NULL}, 1);
}

/* ---- numbers that are none ---- */

static int has_token(const struct example *e, int32_t id)
{
    for (size_t k = 0; k < e->n_ids; k++)
        if (e->ids[k] == id) return 1;
    return 0;
}

static int is_label(const struct bench *b, int32_t id)
{
    struct siren_readout readout;
    int found = 0;
    MUST(siren_readout_create(&readout, b->lm.tokenizer, &b->app.meta.scale, ERR));
    for (int k = 0; k < readout.n; k++) found |= readout.tokens[k].ids[0] == id;
    siren_readout_clear(&readout);
    return found;
}

/* The first token of a prompt that no other example has, and that is no label, whose logit all of
 * them have; *owner: the example's target. */
static int32_t token_of_one(const struct bench *b, const struct examples *x,
                            struct siren_target *owner)
{
    for (size_t i = 0; i < x->n; i++)
        for (size_t k = 0; k < x->list[i].n_prompt; k++) {
            int32_t id = x->list[i].ids[k];
            size_t n = 0;
            for (size_t j = 0; j < x->n; j++) n += (size_t)has_token(&x->list[j], id);
            *owner = x->list[i].target;
            if (n == 1 && !is_label(b, id)) return id;
        }
    fail_msg("every token is in two prompts or more");
    return -1;
}

/* Makes one number of a weight NaN or Inf. */
static void spoil(struct bench *b, const char *name, int row, float bad)
{
    struct siren_params p = siren_model_params(b->lm.model);
    size_t i = 0;
    while (i < p.n && strcmp(p.list[i].name, name) != 0) i++;
    assert_true(i < p.n && row < p.list[i].rows);
    p.list[i].value[row * p.list[i].columns + 1] = bad;
    MUST(siren_model_changed(b->lm.model, b->pool, ERR));
}

/* Where one row alone meets a weight that is not finite, its user and its item are named. */
static void check_one_row(float bad, const char *folder)
{
    static struct bench b;
    struct training_rows rows;
    struct examples x;
    struct siren_target owner = {0};
    char named[120];
    bench_open_all(&b, folder, SIREN_AO, 2, &SIREN_TRAIN_ALL);
    b.training.n_rows = 6;
    b.training.eval_split = NULL;
    MUST(training_rows(&b.training, &rows, ERR));
    MUST(examples_create(&x, &b.app, &b.lm, rows.train, rows.n_train, &b.training.predict, 0, ERR));
    spoil(&b, "model.embed_tokens.weight", token_of_one(&b, &x, &owner), bad);
    snprintf(named, sizeof named, "step 1: user %s, item %s: the loss is ",
             b.app.users.external[owner.user], b.app.items.item[owner.item].external);
    assert_int_equal(bench_run(&b, 1000), SIREN_ENUMERIC);
    if (!strstr(ERR->message, named)) fail_msg("\"%s\" is not in: %s", named, ERR->message);
    assert_int_equal(b.result.steps, 0);
    examples_clear(&x);
    training_rows_clear(&rows);
    bench_close(&b);
}

/* Where all rows meet it, one of them is; of rationales, too. */
static void check_every_row(float bad, enum siren_ending mode, const char *folder)
{
    static struct bench b;
    int user, item;
    bench_open_all(&b, folder, mode, 2, &SIREN_TRAIN_ALL);
    b.training.eval_split = NULL;
    spoil(&b, "model.norm.weight", 0, bad);
    assert_int_equal(bench_run(&b, 1000), SIREN_ENUMERIC);
    if (sscanf(ERR->message, "step 1: user u%d, item i%d: the loss is", &user, &item) != 2)
        fail_msg("%s", ERR->message);
    bench_close(&b);
}

/* An evaluation meets it: the valid row is named, and nothing is chosen. */
static void check_valid_row(enum siren_ending mode, const char *folder, const char *what)
{
    static struct bench b;
    int user, item, at = 0;
    bench_open_all(&b, folder, mode, 2, &SIREN_TRAIN_ALL);
    b.training.loop.eval_first = 1;
    spoil(&b, "model.norm.weight", 0, NAN);
    assert_int_equal(bench_run(&b, 1000), SIREN_ENUMERIC);
    if (sscanf(ERR->message, "step 0: user u%d, item i%d: %n", &user, &item, &at) != 2 || !at ||
        strncmp(ERR->message + at, what, strlen(what)) != 0)
        fail_msg("%s", ERR->message);
    assert_true(isnan(b.result.best));
    bench_close(&b);
}

/* The one step takes the adapter out of float's range: there is no next one whose loss would tell.
 */
static void check_last_step(void)
{
    static struct bench b;
    bench_open(&b, "inf at the end", SIREN_AO, 2);
    b.training.loop.lr = 1e38;
    b.training.loop.warmup = 0;
    b.training.loop.max_steps = 1;
    b.training.lora.alpha = 1000;
    assert_int_equal(bench_run(&b, 1000), SIREN_ENUMERIC);
    if (!strstr(ERR->message, "step 1: user u") || !strstr(ERR->message, ": the score of label "))
        fail_msg("%s", ERR->message);
    bench_close(&b);
}

static void test_weights_not_finite(void **state)
{
    check_one_row(NAN, "nan of one");
    check_one_row(INFINITY, "inf of one");
    check_every_row(NAN, SIREN_AO, "nan of all");
    check_every_row(-INFINITY, SIREN_COT, "inf of all");
    check_valid_row(SIREN_AO, "nan in valid", "the score of label 1 is nan");
    check_valid_row(SIREN_COT, "nan in rationales", "the loss is nan");
    check_last_step();
}

/* ---- passes ---- */

/* The first step's norm and loss.  Without dropout, whose masks belong to rows of passes: smaller
 * passes sum the same terms in another order. */
static void test_cuts_change_rounding_only(void **state)
{
    static struct bench b;
    const size_t tokens[4] = {1, 150, 400, 100000};
    double norm[4], loss[4], counted[4];
    for (int mode = SIREN_AO; mode <= SIREN_COT; mode++) {
        for (int i = 0; i < 4; i++) {
            char folder[64];
            snprintf(folder, sizeof folder, "cut %d %d", mode, i);
            bench_open(&b, folder, mode, 2);
            b.training.lora.dropout = 0;
            b.training.loop.max_steps = 1;
            b.training.loop.pass_tokens = tokens[i];
            b.training.eval_split = NULL;
            MUST(bench_run(&b, 1000));
            assert_int_equal(logged(b.folder, "norm", &norm[i], 1), 1);
            assert_int_equal(logged(b.folder, "loss", &loss[i], 1), 1);
            assert_int_equal(logged(b.folder, "tokens", &counted[i], 1), 1);
            bench_close(&b);
        }
        for (int i = 1; i < 4; i++) {
            assert_true(norm[0] > 0 && fabs(norm[i] / norm[0] - 1) < 1e-5);
            assert_true(loss[i] == loss[0]); /* the outputs are the same bits */
            assert_true(counted[i] <= counted[i - 1]);
        }
        assert_true(counted[3] < counted[0]); /* what is shared is computed once */
    }
}

/* ---- one row, once and twice ---- */

/* The norms of two steps that change nothing, of one row `times` times in the batch, each time in a
 * pass of its own. */
static void norms_of(enum siren_ending mode, float dropout, size_t times, double *norms)
{
    static struct bench b;
    char folder[64];
    snprintf(folder, sizeof folder, "norms %d %g %zu", mode, (double)dropout, times);
    bench_open(&b, folder, mode, 2);
    size_t row = siren_ratings_row(&b.app.ratings, 0, 5);
    const struct siren_target rows[2] = {{.user = 0, .item = 5, .row = row},
                                         {.user = 0, .item = 5, .row = row}};
    b.training.given = rows;
    b.training.n_given = times;
    b.training.eval_split = NULL;
    b.training.lora.dropout = dropout;
    b.training.loop.lr = 0;
    b.training.loop.batch = times;
    b.training.loop.pass_tokens = 1;
    MUST(bench_run(&b, 1000));
    assert_int_equal(logged(b.folder, "norm", norms, 2), 2);
    bench_close(&b);
}

/* The gradient is a mean over the batch, whatever the passes. */
static void test_twice_the_same_row(void **state)
{
    for (int mode = SIREN_AO; mode <= SIREN_COT; mode++) {
        double once[2], twice[2];
        norms_of(mode, 0, 1, once);
        norms_of(mode, 0, 2, twice);
        assert_true(once[0] > 0 && once[0] == once[1] && once[0] == twice[0]);
    }
}

/* Each step and each pass has masks of its own: else these would be as equal as above. */
static void test_every_pass_drops_anew(void **state)
{
    double once[2], twice[2];
    norms_of(SIREN_AO, 0.1f, 1, once);
    norms_of(SIREN_AO, 0.1f, 2, twice);
    assert_true(once[0] > 0 && once[0] != once[1] && once[0] != twice[0]);
}

/* ---- LoRA+ ---- */

static double largest_of(const struct siren_adapter *a, char factor)
{
    const char name[] = {'l', 'o', 'r', 'a', '_', factor, '\0'};
    struct siren_params p = siren_adapter_params((struct siren_adapter *)a);
    double most = 0;
    for (size_t i = 0; i < p.n; i++)
        for (int k = 0; k < p.list[i].rows * p.list[i].columns && strstr(p.list[i].name, name); k++)
            most = fmax(most, fabs((double)p.list[i].value[k]));
    return most;
}

/* AdamW's first step moves a parameter by its rate, and B begins at 0. */
static void test_lora_plus(void **state)
{
    static struct bench b;
    for (int ratio = 1; ratio <= 16; ratio *= 16) {
        struct siren_adapter *a;
        char path[300];
        bench_open(&b, ratio == 1 ? "lora" : "lora plus", SIREN_AO, 2);
        b.training.loop.lr = 1e-3;
        b.training.loop.lora_plus = ratio;
        b.training.loop.max_steps = 1;
        b.training.eval_split = NULL;
        b.training.lora.dropout = 0;
        MUST(bench_run(&b, 1000));
        snprintf(path, sizeof path, "%s/adapter", b.folder);
        MUST(siren_adapter_load(&a, path, b.lm.model, ERR));
        assert_true(fabs(largest_of(a, 'B') / (1e-3 * ratio) - 1) < 1e-3);
        assert_true(largest_of(a, 'A') > 0.01);
        siren_adapter_free(a);
        bench_close(&b);
    }
}

/* B's weight decay goes by B's rate: at one of 1 / rate the second step leaves nothing of the first
 * one. */
static void test_lora_plus_decays(void **state)
{
    static struct bench b;
    struct siren_adapter *a;
    char path[300];
    const double rate = 1e-3 * 16;
    bench_open(&b, "lora plus decays", SIREN_AO, 2);
    b.training.loop.lr = 1e-3;
    b.training.loop.lora_plus = 16;
    b.training.loop.adamw.weight_decay = 1 / rate;
    b.training.loop.max_steps = 2;
    b.training.eval_split = NULL;
    MUST(bench_run(&b, 1000));
    snprintf(path, sizeof path, "%s/adapter", b.folder);
    MUST(siren_adapter_load(&a, path, b.lm.model, ERR));
    assert_true(largest_of(a, 'B') > 0.5 * rate && largest_of(a, 'B') < 1.01 * rate);
    siren_adapter_free(a);
    bench_close(&b);
}

/* ---- the adapter's files ---- */

/* … of the model with an adapter of the run's folder. */
static double mae_with(struct bench *b, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", b->folder, name);
    return mae_of(b, tiny_model("model"), path);
}

/* adapter/ is the best one, last/ that of the last step: too large a rate makes it worse. */
static void test_best_and_last(void **state)
{
    static struct bench b;
    bench_open(&b, "best and last", SIREN_AO, 2);
    b.training.loop.lr = 3;
    MUST(bench_run(&b, 1000));
    json_t *log = trainer_read_log(b.folder, ERR);
    json_t *valid = json_object_get(json_array_get(log, json_array_size(log) - 1), "valid");
    double last = json_number_value(json_object_get(valid, "mae"));
    assert_true(b.result.best_step < b.result.steps && last > b.result.best);
    assert_true(mae_with(&b, "adapter") == b.result.best);
    assert_true(fabs(mae_with(&b, "last") / last - 1) < 1e-8); /* the log keeps nine digits */
    json_decref(log);
    bench_close(&b);
}

static void test_scores_with_the_adapter(void **state)
{
    static struct bench b;
    struct siren_lm adapted, plain;
    struct siren_lm_options options = lm_options();
    struct siren_answer with, without;
    struct training_rows rows;
    char path[300];
    bench_open(&b, "scores", SIREN_AO, 2);
    b.training.loop.lr = 0.1;
    MUST(bench_run(&b, 1000));
    snprintf(path, sizeof path, "%s/adapter", b.folder);
    MUST(siren_lm_open(&plain, tiny_model("model"), &options, b.pool, ERR));
    options.adapter = path;
    MUST(siren_lm_open(&adapted, tiny_model("model"), &options, b.pool, ERR));
    MUST(training_rows(&b.training, &rows, ERR));
    MUST(siren_predict(&b.app, &adapted, rows.valid, 1, &b.training.predict, &with, NULL, ERR));
    MUST(siren_predict(&b.app, &plain, rows.valid, 1, &b.training.predict, &without, NULL, ERR));
    assert_true(with.probabilities[0] != without.probabilities[0]);
    training_rows_clear(&rows);
    siren_answer_clear(&with);
    siren_answer_clear(&without);
    siren_lm_close(&adapted);
    siren_lm_close(&plain);
    bench_close(&b);
}

/* ---- half stars: labels of several tokens ---- */

/* "<" and more stand behind each label of a scale of halves: several tokens, siblings of the
 * answer's place.  One step on them has the loss that the scorer's numbers give. */
static void test_labels_of_several_tokens(void **state)
{
    static struct bench b;
    double loss;
    struct training_rows rows;
    bench_open(&b, "halves", SIREN_AO, 2);
    b.app.meta.scale = (struct siren_scale){1, 5, 0.5};
    b.training.lora.dropout = 0;
    b.training.loop.max_steps = 1;
    b.training.loop.batch = 18;
    b.training.eval_split = NULL;
    MUST(bench_run(&b, 1000));
    assert_int_equal(logged(b.folder, "loss", &loss, 1), 1);
    MUST(training_rows(&b.training, &rows, ERR));
    double expected = 0;
    for (size_t i = 0; i < rows.n_train; i++) {
        struct siren_answer a;
        MUST(siren_predict(&b.app, &b.lm, &rows.train[i], 1, &b.training.predict, &a, NULL, ERR));
        assert_int_equal(a.n_labels, 9);
        double rating = b.app.ratings.rating[rows.train[i].row];
        expected -= log(a.probabilities[(int)((rating - 1) * 2)]) / (double)rows.n_train;
        siren_answer_clear(&a);
    }
    assert_true(fabs(loss - expected) < 1e-5);
    training_rows_clear(&rows);
    bench_close(&b);
}

/* ---- refused ---- */

static void refused(struct bench *b, const char *words)
{
    ERR->message[0] = '\0';
    assert_int_equal(bench_run(b, 1000), SIREN_EINVAL);
    if (!strstr(ERR->message, words)) fail_msg("\"%s\" is not in: %s", words, ERR->message);
}

static void test_refused(void **state)
{
    static struct bench b;
    size_t before, after;
    struct siren_run *runs;
    bench_open(&b, "refused", SIREN_AO, 1);
    MUST(siren_runs_load(&runs, &before, b.app.ws, NULL, ERR));
    siren_runs_free(runs, before);
    b.training.split = "test";
    refused(&b, "to be reported on only");
    b.training.split = "train+test:last";
    refused(&b, "to be reported on only");
    b.training.split = "train";
    b.training.eval_split = "test";
    refused(&b, "to be reported on only");
    b.training.eval_split = "train:last";
    refused(&b, "rows to choose by are those of valid");
    b.training.eval_split = "valid:B+train:last";
    refused(&b, "rows to choose by are those of valid");
    b.training.split = b.training.eval_split = "valid:A";
    refused(&b, "share rows");
    b.training.split = "valid:A+valid:last";
    b.training.eval_split = "valid";
    refused(&b, "share rows");
    b.training.split = "train";
    b.training.eval_split = "valid:C";
    refused(&b, "A or B");
    b.training.eval_split = "valid";
    b.options.loss.ce = 0;
    refused(&b, "not both 0");
    b.options.loss.ce = 1;
    b.options.loss.smoothing = 1;
    refused(&b, "smoothing");
    b.options.loss.smoothing = 0;
    b.training.lora.r = 0;
    refused(&b, "r is 0");
    b.training.lora.r = 4;
    b.training.loop.epochs = -1;
    refused(&b, "epochs");
    MUST(siren_runs_load(&runs, &after, b.app.ws, NULL, ERR));
    siren_runs_free(runs, after);
    assert_int_equal(before, after); /* what never began is no run */
    bench_close(&b);
}

/* The masks of an adapter that is gone on with are the seed's, not those of its first training. */
static void test_seed_of_a_given_adapter(void **state)
{
    char start[400];
    for (int seed = 0; seed < 3; seed++) {
        static struct bench b;
        bench_open(&b, seed == 0 ? "seed" : seed == 1 ? "seed-1" : "seed-2", SIREN_AO, 2);
        b.training.loop.seed = (uint64_t)seed;
        b.training.loop.batch = 1000; /* all rows: their order is no matter */
        b.training.loop.max_steps = 1;
        b.training.lora.dropout = 0.5f;
        b.training.eval_split = NULL;
        b.training.start = seed ? start : NULL;
        MUST(bench_run(&b, 1000000));
        if (!seed) snprintf(start, sizeof start, "%s/adapter", b.folder);
        bench_close(&b);
    }
    char path[2][400];
    char *data[2];
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/adapter/adapter_model.safetensors",
                 scratch_path(i ? "seed-2" : "seed-1"));
        MUST(siren_file_read(&data[i], &size[i], path[i], 1 << 24, ERR));
    }
    assert_int_equal(size[0], size[1]);
    assert_int_not_equal(memcmp(data[0], data[1], size[0]), 0);
    free(data[0]);
    free(data[1]);
}

/* An example that the model has no positions for is named before the first step. */
static void test_too_long(void **state)
{
    for (int cot = 0; cot < 2; cot++) {
        static struct bench b;
        bench_open(&b, cot ? "long cot" : "long ao", cot ? SIREN_COT : SIREN_AO, 2);
        struct siren_config *c = (struct siren_config *)siren_model_config(b.lm.model);
        c->max_positions = 60;
        refused(&b, "expected a lower --prompt-limit");
        assert_non_null(strstr(ERR->message, "user "));
        bench_close(&b);
    }
}

static int set_up(void **state)
{
    return find_program() || scratch_create(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns_ratings),
        cmocka_unit_test(test_learns_rationales),
        cmocka_unit_test(test_answer_weight),
        cmocka_unit_test(test_measures_as_an_evaluation_does),
        cmocka_unit_test(test_threads_kernels_memory),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_all_weights),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_weights_not_finite),
        cmocka_unit_test(test_cuts_change_rounding_only),
        cmocka_unit_test(test_twice_the_same_row),
        cmocka_unit_test(test_every_pass_drops_anew),
        cmocka_unit_test(test_lora_plus),
        cmocka_unit_test(test_lora_plus_decays),
        cmocka_unit_test(test_best_and_last),
        cmocka_unit_test(test_scores_with_the_adapter),
        cmocka_unit_test(test_labels_of_several_tokens),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_seed_of_a_given_adapter),
        cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests(tests, set_up, scratch_delete);
}
