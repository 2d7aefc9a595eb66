/* Alignment with a tiny random model: what is aligned to what, which rows with which weight, and
 * that it learns, stops and goes on. */
/* check: native: it trains eight times, for minutes with the portable kernels */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "app/align.h"
#include "app/teach.h"
#include "app/teacher_rows.h"
#include "killed.h"
#include "run_program.h"
#include "tiny_setup.h"

static char states_path[300], own_path[300];

enum { N_LABELS = 5, MOST = 512 };

/* ---- teachers ---- */

static void teach(struct siren_app *with, int fold, const char *path)
{
    static const char *const texts[] = {
        "Good.\n</think>\n<answer>4</answer>", "Bad.\n</think>\n<answer>1</answer>",
        "Fine.\n</think>\n<answer>3</answer>", "I do not know what to say"};
    const struct siren_lm_calls *engine = lm.calls;
    struct teach_options o = {.rows = siren_eval_defaults()};
    struct teach_report report;
    o.rows.split = "train";
    o.rows.fold = fold;
    o.rows.limit = 30;
    o.rows.predict.strategy.n_recent = 2;
    o.rows.predict.sampling.max_tokens = 60;
    tiny_lm_say(&lm, texts, sizeof texts / sizeof *texts);
    MUST(app_teach(with, &lm, &o, path, &report, NULL, ERR));
    lm.calls = engine;
    assert_in_range(report.n_valid, 10, 29);
}

/* A teacher that knows at q of the answer-only prompts what the model itself knows there. */
static void make_own_teacher(void)
{
    struct siren_teacher_filter filter = {.any = 1, .share = 1};
    struct siren_teacher_writer *w;
    struct siren_readout readout;
    struct teacher_rows t;
    float states[MOST], scores[N_LABELS];
    double logprobs[N_LABELS];
    MUST(teacher_rows_open(&t, &app, &lm, states_path, &filter, ERR));
    MUST(siren_readout_create(&readout, lm.tokenizer, &app.meta.scale, ERR));
    MUST(siren_teacher_writer_open(&w, own_path, siren_teacher_shape(t.teacher),
                                   siren_teacher_json(t.teacher), ERR));
    for (size_t i = 0; i < t.n; i++) {
        struct siren_teacher_row row = *siren_teacher_row(t.teacher, t.rows[i]);
        struct siren_prompt_ids prompt;
        MUST(teacher_rows_prompt(&t, &app, &lm, i, &prompt, ERR));
        struct siren_states s = {{prompt.ids, prompt.n_ids}, states};
        struct siren_score score = {.prompt = s.prompt,
                                    .continuations = readout.tokens,
                                    .n_continuations = N_LABELS,
                                    .logprobs = logprobs};
        MUST(siren_states_many(lm.session, &s, 1, NULL, ERR));
        MUST(siren_score_many(lm.session, &score, 1, NULL, ERR));
        for (int k = 0; k < N_LABELS; k++) scores[k] = (float)logprobs[k];
        row.scores = scores;
        row.n_ids = 0;
        MUST(siren_teacher_write(w, &row, NULL, states, ERR));
        siren_prompt_ids_clear(&prompt);
    }
    MUST(siren_teacher_writer_finish(w, ERR));
    siren_readout_clear(&readout);
    teacher_rows_close(&t);
}

/* ---- trainings ---- */

struct bench {
    struct training training;
    struct align_options options;
    struct trainer_result result;
    char folder[300];
};

static struct bench make(const char *folder, const char *teacher, const char *loss)
{
    struct bench b = {.training = training_defaults()};
    struct training *t = &b.training;
    snprintf(b.folder, sizeof b.folder, "%s", scratch_path(folder));
    t->app = &app;
    t->lm = &lm;
    t->pool = pool;
    t->kind = "align";
    t->loop.resume = 1;
    t->loop.batch = 8;
    t->loop.epochs = 1;
    t->loop.lr = 0.005;
    t->loop.warmup = 0;
    t->loop.checkpoint_every = 1;
    t->lora.dropout = 0;
    MUST(siren_strategy_parse(&t->predict.strategy, "recent", ERR));
    t->predict.strategy.n_recent = 2;
    b.options = (struct align_options){
        .teacher = teacher, .filter = {.share = 1}, .rating = {.temperature = 1}};
    MUST(align_parse_loss(&b.options, loss, ERR));
    return b;
}

static int run(struct bench *b)
{
    b->training.loop.folder = b->folder;
    return align_train(&b->training, &b->options, &b->result, NULL, NULL, ERR);
}

/* The numbers of one field in all lines of the log that have it. */
static size_t field(const struct bench *b, const char *name, double *values, size_t most)
{
    json_t *log = trainer_read_log(b->folder, ERR), *line;
    size_t i, n = 0;
    assert_non_null(log);
    json_array_foreach(log, i, line)
    {
        json_t *x = json_object_get(line, name);
        if (json_is_number(x) && n < most) values[n++] = json_number_value(x);
    }
    json_decref(log);
    return n;
}

static double first(const struct bench *b, const char *name)
{
    double value;
    assert_true(field(b, name, &value, 1) == 1);
    return value;
}

/* ---- tests ---- */

/* Before the first step B is 0, so the student is the model: its loss beside itself is that of
 * rounding to bf16, whichever layers count. */
static void a_model_is_aligned_with_itself(void **state)
{
    static const char *const losses[] = {"ha", "kd", "ha+kd:2"};
    for (int i = 0; i < 3; i++)
        for (int layers = ALIGN_UNIFORM; layers <= ALIGN_LAST; layers++)
            for (int before = 0; before < 2; before++) {
                char folder[64];
                struct bench b;
                if (i == 1 && (layers || before)) continue;
                snprintf(folder, sizeof folder, "own%d%d%d", i, layers, before);
                b = make(folder, own_path, losses[i]);
                b.options.layers = (enum align_layers)layers;
                b.options.before_norm = before;
                b.training.loop.max_steps = 1;
                MUST(run(&b));
                assert_true(first(&b, "loss") >= 0 && first(&b, "loss") < 1e-4);
                if (i != 1) assert_true(first(&b, "cosine") > 0.9999);
            }
}

static void it_learns(void **state)
{
    static const char *const losses[] = {"rps",   "ha",        "ce",  "kd",
                                         "kd+ce", "ha+ce:0.5", "rps", "ha+rps"};
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        double values[64] = {0};
        char folder[64];
        size_t n;
        snprintf(folder, sizeof folder, "learn%zu", i);
        struct bench b = make(folder, states_path, losses[i]);
        b.training.loop.epochs = 12;
        b.training.loop.batch = 64; /* all rows */
        MUST(run(&b));
        n = field(&b, "loss", values, 64);
        assert_int_equal(n, 12);
        if (!(values[n - 1] < 0.95 * values[0]))
            fail_msg("%s: %g to %g", losses[i], values[0], values[n - 1]);
        assert_true(b.training.run > 0);
        if (!strcmp(losses[i], "ha")) {
            n = field(&b, "cosine", values, 64);
            assert_true(values[n - 1] > values[0]);
        }
    }
}

/* Each layer on its own: the first step is one of the same loss with other gradients, it learns,
 * the same bits in parts; and whoever goes on with it has to go on so. */
static void each_layer_on_its_own(void **state)
{
    struct bench whole = make("local", states_path, "ha"), other = make("not", states_path, "ha");
    double cosine[64], loss[2], norm[2];
    size_t n;
    other.training.loop.max_steps = whole.training.loop.max_steps = 12;
    other.training.loop.epochs = whole.training.loop.epochs = 12;
    other.training.loop.batch = whole.training.loop.batch = 64; /* all rows */
    whole.options.layer_local = 1;
    MUST(run(&whole));
    MUST(run(&other));
    n = field(&whole, "cosine", cosine, 64);
    assert_int_equal(n, 12);
    assert_true(cosine[n - 1] > cosine[0]);
    for (int i = 0; i < 2; i++) {
        loss[i] = first(i ? &other : &whole, "loss");
        norm[i] = first(i ? &other : &whole, "norm");
    }
    assert_true(loss[0] == loss[1] && norm[0] > 0 && norm[0] != norm[1]);
    whole.options.layer_local = 0;
    assert_int_equal(run(&whole), SIREN_EINVAL);
    assert_non_null(strstr(must_error.message, "--layer-local"));
    whole.options.layer_local = 1;
    whole.options.ha = 0;
    whole.options.rating.ce = 1;
    assert_int_equal(run(&whole), SIREN_EINVAL);
    assert_non_null(strstr(must_error.message, "needs a loss on the layers' states"));
}

/* Rows without an answer are left out; the loss of a step is the mean by weight. */
static void rows_and_weights(void **state)
{
    struct siren_teacher_filter filter = {.share = 1, .closeness = 1, .low = 1, .high = 5};
    struct bench b = make("all", states_path, "ce"), c = make("close", states_path, "ce");
    struct bench exact = make("exact", states_path, "ce"), none = make("none", states_path, "ce");
    struct siren_teacher *t;
    double weights[64], all[64];
    size_t n_all, n_close, n_exact = 0;
    MUST(siren_teacher_open(&t, states_path, ERR));
    n_close = siren_teacher_select(t, &filter, weights);
    filter.closeness = 0;
    n_all = siren_teacher_select(t, &filter, all);
    filter.exact = 1;
    n_exact = siren_teacher_select(t, &filter, all);
    siren_teacher_close(t);
    b.training.loop.batch = c.training.loop.batch = exact.training.loop.batch = 64;
    c.options.filter.closeness = 1;
    exact.options.filter.exact = 1;
    b.training.loop.max_steps = c.training.loop.max_steps = exact.training.loop.max_steps = 1;
    MUST(run(&b));
    MUST(run(&c));
    MUST(run(&exact));
    assert_true(first(&b, "items") == (double)n_all);
    assert_true(first(&c, "items") == (double)n_close);
    assert_true(first(&exact, "items") == (double)n_exact);
    assert_true(n_exact > 0 && n_exact < n_all);
    assert_true(first(&b, "loss") != first(&c, "loss"));
    none.options.filter.exact = 1;
    none.options.filter.share = 1e-9;
    assert_int_equal(run(&none), SIREN_ENOTFOUND);
    none.options.filter.share = 1;
    none.options.filter.exact = 0;
    none.training.n_rows = 3;
    none.training.loop.max_steps = 1;
    MUST(run(&none));
    assert_true(first(&none, "items") == 3);
}

/* The weights of the final norm, from the model loaded once more. */
static void final_norm(float *weights, int d)
{
    struct siren_model_options trainable = {.trainable = &SIREN_TRAIN_ALL};
    struct siren_model *model;
    int found = 0;
    MUST(siren_model_load(&model, siren_model_path(lm.model), &trainable, pool, ERR));
    struct siren_params p = siren_model_params(model);
    for (size_t i = 0; i < p.n; i++) {
        if (strcmp(p.list[i].name, "model.norm.weight") != 0) continue;
        assert_int_equal(p.list[i].rows * p.list[i].columns, d);
        memcpy(weights, p.list[i].value, (size_t)d * sizeof *weights);
        found = 1;
    }
    assert_true(found);
    siren_model_free(model);
}

/* The loss of a step is the weighted mean over its rows of what their states say. */
static void check_mean_by_hand(enum align_layers layers, int before_norm)
{
    struct siren_teacher_filter filter = {.share = 1, .closeness = 1, .low = 1, .high = 5};
    const struct siren_config *c = siren_model_config(lm.model);
    char folder[40];
    double weights[16];
    float norm[MOST], *last[2];
    int L = c->n_layers;
    snprintf(folder, sizeof folder, "weighted %d %d", layers, before_norm);
    struct bench b = make(folder, states_path, "ha");
    b.options.layers = layers;
    b.options.before_norm = before_norm;
    for (int l = 0; l < L; l++)
        weights[l] = (double[]){1, (l + 1.0) / L, l >= L / 2, l == L - 1}[layers];
    final_norm(norm, c->d_model);
    struct teacher_rows t;
    float student[MOST], teacher[MOST];
    double loss = 0, total = 0;
    b.training.loop.batch = 64;
    b.training.loop.max_steps = 1;
    b.options.filter.closeness = 1;
    MUST(run(&b));
    MUST(teacher_rows_open(&t, &app, &lm, states_path, &filter, ERR));
    for (size_t i = 0; i < t.n; i++) {
        struct siren_prompt_ids prompt;
        MUST(teacher_rows_prompt(&t, &app, &lm, i, &prompt, ERR));
        struct siren_states s = {{prompt.ids, prompt.n_ids}, student};
        MUST(siren_states_many(lm.session, &s, 1, NULL, ERR));
        MUST(siren_teacher_states(t.teacher, t.rows[i], teacher, ERR));
        last[0] = student + (L - 1) * c->d_model;
        last[1] = teacher + (L - 1) * c->d_model;
        for (int k = 0; k < 2 * c->d_model && before_norm; k++)
            last[k % 2][k / 2] /= norm[k / 2]; /* a scale is none of a cosine's */
        loss += t.weights[i] *
                siren_alignment_loss(L, c->d_model, student, teacher, weights, NULL, NULL);
        total += t.weights[i];
        siren_prompt_ids_clear(&prompt);
    }
    assert_true(fabs(first(&b, "loss") - loss / total) < 1e-5);
    teacher_rows_close(&t);
}

static void a_weighted_mean_by_hand(void **state)
{
    for (int layers = ALIGN_UNIFORM; layers <= ALIGN_LAST; layers++)
        for (int before_norm = 0; before_norm < 2; before_norm++)
            check_mean_by_hand((enum align_layers)layers, before_norm);
}

/* The model once more, all of whose weights are trained. */
static void open_all(struct siren_lm *out, struct training *t)
{
    struct siren_lm_options options = tiny_options();
    options.trainable = &SIREN_TRAIN_ALL;
    MUST(siren_lm_open(out, siren_model_path(lm.model), &options, pool, ERR));
    t->lm = out;
    t->full = 1;
}

/* What a small step down the gradient takes off the loss.  With an eps beyond all gradients AdamW
 * goes along them, by lr / eps of their length. */
static double descent(const char *words, enum align_layers layers, int before_norm, int all,
                      double size, double *squared_norm)
{
    char folder[64];
    double loss[2] = {0}, norm[2] = {0};
    struct siren_lm own = {0};
    snprintf(folder, sizeof folder, "descent %s %d %d %d %g", words, layers, before_norm, all,
             size);
    struct bench b = make(folder, states_path, words);
    if (all) open_all(&own, &b.training);
    b.options.layers = layers;
    b.options.before_norm = before_norm;
    b.training.loop.batch = 64; /* all rows */
    b.training.loop.max_steps = 2;
    b.training.loop.epochs = 2;
    b.training.loop.clip = 0;
    b.training.loop.adamw.weight_decay = 0;
    b.training.loop.adamw.eps = 1e3;
    b.training.loop.lr = size * b.training.loop.adamw.eps;
    MUST(run(&b));
    assert_int_equal(field(&b, "loss", loss, 2), 2);
    assert_int_equal(field(&b, "norm", norm, 2), 2);
    siren_lm_close(&own);
    *squared_norm = norm[0] * norm[0];
    return (loss[0] - loss[1]) / size;
}

/* The slope along the gradient is its length. */
static void check_slope(const char *loss, enum align_layers layers, int before_norm, int all,
                        double size)
{
    double expected;
    double whole = descent(loss, layers, before_norm, all, size, &expected);
    double half = descent(loss, layers, before_norm, all, size / 2, &expected);
    double slope = 2 * half - whole; /* what curves it cancels */
    if (!(fabs(slope - expected) <= 2e-3 * expected))
        fail_msg("%s, layers %d, before_norm %d, all %d: slope %g (%g, %g), gradient %g", loss,
                 layers, before_norm, all, slope, whole, half, expected);
}

/* Of the last layer's states before the norm, too, of all weights, and of weighted terms: the batch
 * is a mean over its rows. */
static void the_gradient_is_that_of_the_loss(void **state)
{
    if (strcmp(siren_engine_compute(lm.engine), "f32")) {
        print_message("skipped: a small step is lost in bf16's rounding\n");
        skip();
    }
    for (int i = 0; i < 6; i++)
        check_slope("ha", i % 2 ? ALIGN_LAST : ALIGN_UNIFORM, i / 2 % 2, i / 4,
                    i / 4 ? 0.0005 : 0.02);
    check_slope("ha:2", ALIGN_UNIFORM, 0, 0, 0.02);
    check_slope("ce:0.5+kd:0.5+rps:2", ALIGN_UNIFORM, 0, 0, 0.001);
}

/* The file says which fold was in use; the rest of it has rows to choose by. */
static void a_teacher_of_a_fold(void **state)
{
    struct siren_app with;
    struct bench b;
    char path[300], states[300];
    snprintf(path, sizeof path, "%s", fixture_workspace("fold.siren", SIREN_PROTOCOL_FULL));
    snprintf(states, sizeof states, "%s", scratch_path("fold.bin"));
    MUST(siren_app_open(&with, path, SIREN_WORKSPACE_WRITE, ERR));
    MUST(siren_split_folds(&with.ratings, 5, 1, ERR));
    MUST(siren_split_save(with.ws, &with.ratings, 1, "k-fold", "{}", ERR));
    siren_app_close(&with);
    MUST(siren_app_open(&with, path, SIREN_WORKSPACE_WRITE, ERR));
    teach(&with, 2, states);
    siren_app_close(&with);
    MUST(siren_app_open(&with, path, SIREN_WORKSPACE_WRITE, ERR));
    b = make("fold", states, "ha");
    b.training.app = &with;
    b.training.eval_split = "valid";
    b.training.n_eval_rows = 4;
    MUST(run(&b));
    assert_true(isfinite(b.result.best));
    assert_int_equal(with.ratings.current_fold, 2);
    siren_app_close(&with);
}

/* A rate that takes the adapter out of float's range in its first step: in the second one a row of
 * the teacher's is named, by user and item, and the checkpoint before it. */
static void an_adapter_that_is_not_finite(void **state)
{
    static const char *const losses[] = {"ha", "ce", "kd"};
    for (int i = 0; i < 3; i++) {
        char folder[40];
        int user, item, of_teacher = 0;
        struct siren_teacher *t;
        snprintf(folder, sizeof folder, "not finite %d", i);
        struct bench b = make(folder, states_path, losses[i]);
        b.training.loop.lr = 1e38;
        b.training.lora.alpha = 1000;
        assert_int_equal(run(&b), SIREN_ENUMERIC);
        if (sscanf(must_error.message, "step 2: user u%d, item i%d: the loss is", &user, &item) !=
            2)
            fail_msg("%s: %s", losses[i], must_error.message);
        assert_non_null(
            strstr(must_error.message, "the checkpoint, of step 1, holds what this came of"));
        MUST(siren_teacher_open(&t, states_path, ERR));
        for (size_t k = 0; k < siren_teacher_rows(t); k++)
            of_teacher |=
                siren_teacher_row(t, k)->user == user && siren_teacher_row(t, k)->item == item;
        assert_true(of_teacher); /* the fixture's names are its numbers */
        siren_teacher_close(t);
    }
}

static int stop_after_a_while(void *context, const char *what, uint64_t done, uint64_t total)
{
    return ++*(int *)context > 15;
}

static void *bytes_of(const struct bench *b, size_t *size)
{
    char path[400], *data;
    snprintf(path, sizeof path, "%s/adapter/adapter_model.safetensors", b->folder);
    MUST(siren_file_read(&data, size, path, 1 << 24, ERR));
    return data;
}

static void in_parts(int layer_local)
{
    struct bench a = make(layer_local ? "local whole" : "whole", states_path, "ha+ce");
    struct bench b = make(layer_local ? "local parts" : "parts", states_path, "ha+ce");
    struct siren_progress progress = {stop_after_a_while, NULL};
    size_t n, m;
    int calls = 0, rc = SIREN_ECANCEL;
    void *x, *y;
    a.options.layer_local = b.options.layer_local = layer_local;
    a.training.eval_split = b.training.eval_split = "valid:A";
    a.training.loop.epochs = b.training.loop.epochs = 3;
    a.training.lora.dropout = b.training.lora.dropout = 0.1f;
    a.training.loop.dropout = b.training.loop.dropout = 1;
    MUST(run(&a));
    b.training.loop.folder = b.folder;
    for (int turn = 0; turn < 20 && rc == SIREN_ECANCEL; turn++) {
        progress.context = &calls;
        calls = 0;
        rc =
            align_train(&b.training, &b.options, &b.result, turn < 4 ? &progress : NULL, NULL, ERR);
    }
    assert_int_equal(rc, 0);
    assert_true(b.result.resumed);
    x = bytes_of(&a, &n);
    y = bytes_of(&b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    assert_true(a.result.best == b.result.best);
    free(x);
    free(y);
}

static void stopped_and_resumed(void **state)
{
    in_parts(0);
    in_parts(1);
}

struct killed {
    int all;             /* 1: all weights, 0: an adapter */
    const char *compute; /* the mode; NULL: $SIREN_COMPUTE or the default */
};

/* In a process of its own: threads and the database do not survive a fork. */
static int run_killed(void *context, const char *folder)
{
    const struct killed *killed = context;
    static const struct siren_progress progress = {count_call, NULL};
    struct bench b = make("unused", states_path, "ha+ce");
    struct training *t = &b.training;
    struct siren_lm_options with = tiny_options();
    struct siren_lm own;
    struct siren_app workspace;
    t->full = killed->all;
    with.trainable = t->full ? &SIREN_TRAIN_ALL : NULL;
    if (killed->compute) with.compute = killed->compute;
    MUST(siren_pool_create(&t->pool, 1, ERR));
    MUST(siren_lm_open(&own, tiny_model("tiny"), &with, t->pool, ERR));
    MUST(siren_app_open(&workspace, siren_workspace_path(app.ws), SIREN_WORKSPACE_WRITE, ERR));
    t->lm = &own;
    t->app = &workspace;
    t->loop.folder = folder;
    t->loop.epochs = 2;
    t->loop.checkpoint_every = 2;
    t->loop.eval_every = 3;
    t->loop.watch = count_line;
    t->eval_split = "valid:A";
    t->lora.dropout = 0.1f;
    t->loop.dropout = !t->full;
    return align_train(t, &b.options, &b.result, &progress, NULL, ERR);
}

static void killed_at_any_moment_it_resumes_to_the_same_bits(void **state)
{
    static const char *const lora[] = {"adapter/adapter_model.safetensors",
                                       "last/adapter_model.safetensors", NULL};
    static const char *const all[] = {"model/model.safetensors", NULL};
    kill_and_resume_often(
        &(struct doomed){run_killed, &(struct killed){.all = 0}, "lora", lora, NULL}, 3);
    kill_and_resume_often(
        &(struct doomed){run_killed, &(struct killed){.all = 1}, "all", all, NULL}, 2);
    kill_and_resume_often(
        &(struct doomed){run_killed, &(struct killed){.compute = "bf16"}, "bf16", lora, NULL}, 1);
}

/* All weights; but not towards states before the final norm, which are found by that norm's. */
static void all_weights(void **state)
{
    struct bench b[2];
    char *data[2];
    size_t size[2];
    for (int parts = 0; parts < 2; parts++) {
        int rc = SIREN_ECANCEL, n_stopped = 0;
        for (int turn = 0; turn < 20 && rc == SIREN_ECANCEL; turn++, n_stopped++) {
            struct siren_progress progress = {stop_after_a_while, &(int){0}};
            struct siren_lm own;
            char path[400];
            b[parts] = make(parts ? "all parts" : "all whole", states_path, "ha");
            b[parts].training.loop.folder = b[parts].folder;
            b[parts].training.loop.epochs = 6;
            open_all(&own, &b[parts].training);
            rc = align_train(&b[parts].training, &b[parts].options, &b[parts].result,
                             parts && turn < 3 ? &progress : NULL, NULL, ERR);
            siren_lm_close(&own);
            snprintf(path, sizeof path, "%s/model/model.safetensors", b[parts].folder);
            if (!rc) MUST(siren_file_read(&data[parts], &size[parts], path, 1 << 24, ERR));
        }
        assert_int_equal(rc, 0);
        assert_int_equal(n_stopped > 1, parts);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(data[0], data[1], size[0]);
    double cosine[64];
    size_t n = field(&b[0], "cosine", cosine, 64);
    assert_true(n > 6 && cosine[n - 1] > cosine[0]);
    free(data[0]);
    free(data[1]);
    struct bench before = make("before the norm", states_path, "ha");
    struct siren_lm own;
    open_all(&own, &before.training);
    before.options.before_norm = 1;
    assert_int_equal(run(&before), SIREN_EINVAL);
    assert_non_null(strstr(must_error.message, "--before-norm"));
    siren_lm_close(&own);
}

/* The best adapter is that of the least value of what it is chosen by; the log has all of them. */
static void chosen_by_what_is_asked(void **state)
{
    for (int by = TRAINING_MAE; by <= TRAINING_RPS; by++) {
        char folder[20], path[400], line[2000];
        snprintf(folder, sizeof folder, "chosen by %d", by);
        struct bench b = make(folder, states_path, "ce");
        double least = INFINITY;
        int evaluations = 0;
        b.training.eval_split = "valid:A";
        b.training.choose_by = (enum training_metric)by;
        b.training.loop.eval_every = 1;
        MUST(run(&b));
        snprintf(path, sizeof path, "%s/log.jsonl", b.folder);
        FILE *log = fopen(path, "r");
        assert_non_null(log);
        while (fgets(line, sizeof line, log)) {
            json_t *j = json_loads(line, 0, NULL), *valid = json_object_get(j, "valid");
            for (int other = TRAINING_MAE; valid && other <= TRAINING_RPS; other++)
                assert_true(json_is_number(json_object_get(valid, training_metric_names[other])));
            double value = json_number_value(json_object_get(valid, training_metric_names[by]));
            if (valid) {
                assert_int_equal(json_is_true(json_object_get(j, "best")), value < least);
                least = fmin(least, value);
                evaluations++;
            }
            json_decref(j);
        }
        fclose(log);
        assert_true(evaluations > 1);
        assert_float_equal(b.result.best, least, 1e-8); /* nine digits in the log */
    }
}

static void words_are_read(void **state)
{
    static const char *const bad[] = {"", "ha+", "hb", "ha+ha", "ha:0", "ha:-1", "ha:x", "ce:1x"};
    struct align_options o = {.ha = 7};
    enum align_layers layers;
    MUST(align_parse_loss(&o, "kd+ce:0.25", ERR));
    assert_true(o.ha == 0 && o.rating.kd == 1 && o.rating.ce == 0.25 && o.rating.rps == 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(align_parse_loss(&o, bad[i], ERR), SIREN_EINVAL);
    MUST(align_parse_layers(&layers, "upper", ERR));
    assert_int_equal(layers, ALIGN_UPPER);
    assert_int_equal(align_parse_layers(&layers, "lower", ERR), SIREN_EINVAL);
}

static void copy_teacher(const char *path, const char *from, const char *to)
{
    struct siren_teacher *t;
    struct siren_teacher_writer *w;
    struct siren_teacher_shape shape;
    char json[4096], *at;
    float states[2 * MOST] = {1};
    MUST(siren_teacher_open(&t, states_path, ERR));
    snprintf(json, sizeof json, "%s", siren_teacher_json(t));
    shape = *siren_teacher_shape(t);
    if (from) {
        at = strstr(json, from);
        assert_non_null(at);
        memmove(at + strlen(to), at + strlen(from), strlen(at + strlen(from)) + 1);
        memcpy(at, to, strlen(to));
    } else {
        shape.d /= 2;
    }
    for (int i = 0; i < shape.d * shape.n_layers; i++) states[i] = 1;
    MUST(siren_teacher_writer_open(&w, path, &shape, json, ERR));
    struct siren_teacher_row row = *siren_teacher_row(t, 0);
    row.flags = SIREN_TEACHER_NUMBER;
    row.number = 3;
    row.n_ids = 0;
    MUST(siren_teacher_write(w, &row, NULL, states, ERR));
    MUST(siren_teacher_writer_finish(w, ERR));
    siren_teacher_close(t);
}

static void count_teacher(void *count, const char *teacher)
{
    ++*(int *)count;
}

/* The teacher's model is known by its hash; another one is told of, not refused. */
static void another_teacher_is_told_of(void **state)
{
    const char *hash = strrchr(lm.identity, '#') + 1;
    for (int other = 0; other < 2; other++) {
        char path[300];
        int count = 0;
        snprintf(path, sizeof path, "%s", scratch_path(other ? "other.bin" : "renamed.bin"));
        copy_teacher(path, other ? hash : "\"model\":\"",
                     other ? "0123456789abcdef" : "\"model\":\"renamed ");
        struct bench b = make(other ? "of another" : "of a renamed", path, "ha");
        b.training.loop.max_steps = 1;
        b.options.other_teacher = count_teacher;
        b.options.context = &count;
        MUST(run(&b));
        assert_int_equal(count, other);
    }
}

static void what_does_not_fit_is_refused(void **state)
{
    static const struct {
        const char *from, *to, *says;
    } cases[] = {{"\"split\":\"train\"", "\"split\":\"test\"", "reported on only"},
                 {"\"kind\":\"teacher states\"", "\"kind\":\"diary\"", "description"},
                 {"\"protocol\":\"full\"", "\"protocol\":\"paper\"", "protocol"},
                 {"\"data\":\"", "\"data\":\"f", "another"},
                 {"\"chat_template\":\"", "\"chat_template\":\"x", "chat template"},
                 {"\"strategy\":\"", "\"strategy\":\"new+", "new"},
                 {NULL, NULL, "layers"}};
    struct bench b;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[300], name[32];
        snprintf(name, sizeof name, "bad%zu", i);
        snprintf(path, sizeof path, "%s", scratch_path(name));
        copy_teacher(path, cases[i].from, cases[i].to);
        b = make("refused", path, "ha");
        assert_int_not_equal(run(&b), 0);
        if (!strstr(must_error.message, cases[i].says)) fail_msg("%s", must_error.message);
    }
    b = make("refused", NULL, "ha");
    assert_int_equal(run(&b), SIREN_EINVAL);
    b = make("refused", states_path, "kd");
    b.options.rating.temperature = 0;
    assert_int_equal(run(&b), SIREN_EINVAL);
    b = make("refused", states_path, "ce");
    b.options.rating.smoothing = 1;
    assert_int_equal(run(&b), SIREN_EINVAL);
    b = make("refused", states_path, "ha");
    b.options.filter.share = 0;
    assert_int_equal(run(&b), SIREN_EINVAL);
    b.options.filter.share = 1;
    b.options.ha = -1;
    assert_int_equal(run(&b), SIREN_EINVAL);
    b.options.ha = 0;
    assert_int_equal(run(&b), SIREN_EINVAL);
}

/* CE and RPS need no teacher: the rows of the split, the prompts of the options. */
static void without_a_teacher(void **state)
{
    struct bench b = make("alone", NULL, "ce+rps");
    b.training.n_rows = 5;
    b.training.loop.max_steps = 1;
    MUST(run(&b));
    assert_true(first(&b, "items") == 5);
}

/* The three commands, from outside. */
static int siren(const char *format, ...)
{
    char arguments[4000];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    return run_program("", arguments, NULL);
}

static void the_commands(void **state)
{
    char ws[300], with[1400], out[300], svg[300], folder[300], of_test[300];
    if (find_program()) skip();
    snprintf(ws, sizeof ws, "%s", fixture_workspace("program.siren", SIREN_PROTOCOL_FULL));
    snprintf(with, sizeof with, "-m %s --chat-template %s", tiny_model("tiny"), fixture_template());
    snprintf(out, sizeof out, "%s", scratch_path("program.bin"));
    snprintf(svg, sizeof svg, "%s", scratch_path("theorem.svg"));
    snprintf(folder, sizeof folder, "%s", scratch_path("program"));
    if (siren("train teach %s %s --strategy recent --out %s -n 3 --max-tokens 5 --json", ws, with,
              out))
        fail_msg("%s", program_output);
    assert_non_null(strstr(program_output, "\"rows\": 3"));
    assert_null(strstr(program_output, "are not trained on"));
    assert_int_equal(siren("train teach %s %s --out %s -n 3", ws, with, out), 1);
    assert_non_null(strstr(program_output, "is there already"));
    assert_int_equal(siren("train teach %s %s --out %s -n 3", ws, with, scratch_path("")), 1);
    assert_non_null(strstr(program_output, "is a folder: name a file"));
    assert_int_equal(siren("theorem %s %s --teacher %s --ranks 1,999", ws, with, out), 2);
    assert_non_null(strstr(program_output, "--ranks: found 999, expected 1 to"));
    if (siren("theorem %s %s --teacher %s --any -n 2 --ranks 2,3 --svg %s --out %s -q", ws, with,
              out, svg, folder))
        fail_msg("%s", program_output);
    assert_non_null(strstr(program_output, "r = 3"));
    assert_int_equal(access(svg, F_OK), 0);
    assert_int_equal(
        siren("theorem %s %s --teacher %s --any --ranks 3 --out %s", ws, with, out, folder), 1);
    assert_non_null(strstr(program_output, "/r3 is there already"));
    if (siren("theorem %s %s --teacher %s --any -n 1 --ranks 1 --only values --steps 2 --json -q",
              ws, with, out))
        fail_msg("%s", program_output);
    assert_non_null(strstr(program_output, "\"linear\""));
    assert_int_equal(siren("theorem %s %s --teacher %s -q", ws, with, out), 1);
    assert_non_null(strstr(program_output, "none of its 3 rows"));
    assert_int_equal(siren("theorem %s %s --teacher %s --ranks 1,x", ws, with, out), 2);
    assert_int_equal(siren("theorem %s %s --teacher %s --ranks 2,3,2", ws, with, out), 2);
    assert_int_equal(siren("theorem %s %s --teacher %s --svg %s/no/a.svg", ws, with, out, folder),
                     1);
    assert_non_null(strstr(program_output, "/no/a.svg: cannot create"));
    /* States of test are for the theorem: told before hours are spent on them. */
    snprintf(of_test, sizeof of_test, "%s", scratch_path("of test.bin"));
    if (siren("train teach %s %s --strategy recent --out '%s' -n 2 --max-tokens 5 --split test", ws,
              with, of_test))
        fail_msg("%s", program_output);
    const char *told = strstr(program_output, "rows of \"test\" are not trained on");
    assert_true(told && told < strstr(program_output, "rows of states"));
    if (siren("theorem %s %s --teacher '%s' --any -n 1 --ranks 1 -q", ws, with, of_test))
        fail_msg("%s", program_output);
    if (siren("train align %s %s --teacher %s --out %s/ha --max-steps 2 --eval-rows 4 -q", ws, with,
              states_path, folder))
        fail_msg("%s", program_output);
    assert_non_null(strstr(program_output, "2 steps"));
    assert_null(strstr(program_output, "on 0 rows"));
    assert_non_null(strstr(program_output, "best on valid:A: mae "));
    assert_int_equal(siren("runs %s", ws), 0);
    assert_non_null(strstr(program_output, "align"));
    assert_int_equal(siren("train align %s %s --out %s/none", ws, with, folder), 2);
    assert_int_equal(siren("train align %s %s --teacher %s --out %s/none --strategy recent", ws,
                           with, out, folder),
                     2);
    assert_int_equal(siren("train align %s %s --out %s/none --loss hx", ws, with, folder), 2);
    assert_non_null(strstr(program_output, "\"hx\""));
}

static void options_that_would_do_nothing(void **state)
{
    static const struct {
        const char *more, *says;
    } cases[] = {
        {"--loss ce --exact", "--exact: it is about a teacher's answers: give a --teacher"},
        {"--loss ce --share 0.1", "--share: it is about a teacher's answers"},
        {"--loss ce --closeness", "--closeness: it is about a teacher's answers"},
        {"--teacher x.bin --share 0", "--share: found \"0\", expected a number above 0, up to 1"},
        {"--loss ce --layers last", "--layers: it is about ha, which is not in --loss"},
        {"--loss ce+rps --before-norm", "--before-norm: it is about ha"},
        {"--teacher x.bin --loss kd+ce --layer-local", "--layer-local: it is about ha"},
        {"--teacher x.bin --layer-local --weights all", "not --weights all"},
        {"--loss ce --kd-temperature 2", "--kd-temperature: it is about kd"},
        {"--loss rps --smoothing 0.1", "--smoothing: it is about ce"},
        {"--teacher x.bin --loss kd --layers last", "--layers: it is about ha"},
        {"--teacher x.bin --loss ha --kd-temperature 2", "--kd-temperature: it is about kd"},
        {"--teacher x.bin --loss ha --smoothing 0.1", "--smoothing: it is about ce"},
        {"--teacher x.bin --loss ha --split valid", "--split: with a --teacher, rows and prompts"}};
    if (find_program()) skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(siren("train align x.siren -m x --out x %s", cases[i].more), 2);
        expect_output(cases[i].says);
    }
    /* What they are about is there: the workspace is not. */
    assert_int_equal(siren("train align x.siren -m x --out x --loss ha+kd+ce --teacher x.bin "
                           "--layers last --before-norm --kd-temperature 2 --smoothing 0.1 --exact "
                           "--layer-local "
                           "--share 0.5 --closeness"),
                     1);
    expect_output("x.siren");
}

static void the_command_killed_resumes_to_the_same_bits(void **state)
{
    static const char *const files[] = {"adapter/adapter_model.safetensors",
                                        "last/adapter_model.safetensors", NULL};
    char command[2048];
    if (find_program()) skip();
    snprintf(command, sizeof command,
             "exec \"$PROGRAM\" train align '%s' -m '%s' --chat-template '%s' --teacher '%s' "
             "--out \"$FOLDER\" --batch 4 --max-steps 6 --eval-rows 4 --eval-every 3 "
             "--checkpoint-every 1 --resume -q",
             siren_workspace_path(app.ws), tiny_model("tiny"), fixture_template(), states_path);
    kill_and_resume_often(&(struct doomed){run_command, command, "command", files, NULL}, 2);
}

static int setup(void **state)
{
    if (tiny_setup(state)) return -1;
    snprintf(states_path, sizeof states_path, "%s", scratch_path("states.bin"));
    snprintf(own_path, sizeof own_path, "%s", scratch_path("own.bin"));
    teach(&app, -1, states_path);
    make_own_teacher();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_aligned_with_itself),
        cmocka_unit_test(it_learns),
        cmocka_unit_test(rows_and_weights),
        cmocka_unit_test(a_weighted_mean_by_hand),
        cmocka_unit_test(the_gradient_is_that_of_the_loss),
        cmocka_unit_test(a_teacher_of_a_fold),
        cmocka_unit_test(each_layer_on_its_own),
        cmocka_unit_test(an_adapter_that_is_not_finite),
        cmocka_unit_test(stopped_and_resumed),
        cmocka_unit_test(killed_at_any_moment_it_resumes_to_the_same_bits),
        cmocka_unit_test(all_weights),
        cmocka_unit_test(chosen_by_what_is_asked),
        cmocka_unit_test(words_are_read),
        cmocka_unit_test(another_teacher_is_told_of),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(without_a_teacher),
        cmocka_unit_test(the_commands),
        cmocka_unit_test(the_command_killed_resumes_to_the_same_bits),
        cmocka_unit_test(options_that_would_do_nothing),
    };
    return cmocka_run_group_tests(tests, setup, tiny_teardown);
}
