/* The backward pass over the forest: PyTorch's gradients of LoRA factors and of all weights
 * (tests/reference/backward.py); finite differences, with dropout too; what is frozen and what lies
 * below is left alone; what is refused. */
/* check: portable */
#include "backward_case.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const decoders[] = {"llama", "qwen2", "qwen3"};

/* ---- PyTorch ---- */

/* The worst factor's error: the norm of the differences against the factor's. */
static double worst_relative(const struct siren_params params, const float *a, const float *b)
{
    double most = 0;
    for (size_t i = 0; i < params.n; i++) {
        size_t n = (size_t)(params.list[i].rows * params.list[i].columns);
        double norm = 0, error = 0;
        for (size_t j = 0; j < n; j++) {
            norm += (double)b[j] * (double)b[j];
            error += ((double)a[j] - (double)b[j]) * ((double)a[j] - (double)b[j]);
        }
        double relative = sqrt(error / norm);
        if (!(relative <= most)) most = relative;
        a += n;
        b += n;
    }
    return most;
}

static void test_pytorch(void **state)
{
    for (int m = 0; m < 3; m++) {
        char path[64];
        struct fixture f;
        size_t n, n_expected;
        snprintf(path, sizeof path, "tests/fixtures/models/%s", decoders[m]);
        fixture_open_mode(&f, path, NULL, "f32", 2);
        struct siren_adapter *a = adapter_of(&f, decoders[m]);
        float *expected = floats_open(decoders[m], "gradients", &n_expected);
        float *got = gradients_of(&f, a, &(struct siren_training){0}, &n);
        assert_int_equal(n, n_expected);
        double relative = worst_relative(siren_adapter_params(a), got, expected);
        if (!(relative <= 1e-4)) fail_msg("%s: relative error %g", decoders[m], relative);
        free(got);
        free(expected);
        siren_adapter_free(a);
        fixture_close(&f);
    }
}

/* ---- all weights ---- */

static void test_weights(void **state)
{
    for (int m = 0; m < 3; m++) {
        struct fixture f;
        char path[64];
        json_error_t error;
        size_t n;
        open_trainable(&f, decoders[m], NULL, 2, &SIREN_TRAIN_ALL);
        float *expected = floats_open(decoders[m], "weights", &n);
        snprintf(path, sizeof path, "tests/fixtures/adapters/%s-weights.json", decoders[m]);
        json_t *index = json_load_file(path, 0, &error);
        if (!index) fail_msg("%s: %s", path, error.text);
        backward_weights(&f, &(struct siren_training){0});
        struct siren_params params = siren_model_params(f.model);
        assert_int_equal(params.n, json_object_size(index));
        for (size_t i = 0; i < params.n; i++) {
            const char *name = params.list[i].name;
            const json_t *at = json_object_get(index, name);
            if (!at) fail_msg("%s: %s", decoders[m], name);
            assert_int_equal(params.list[i].no_decay, strstr(name, "norm") || strstr(name, "bias"));
            assert_int_equal(json_integer_value(json_array_get(at, 1)),
                             params.list[i].rows * params.list[i].columns);
            struct siren_params one = {&params.list[i], 1};
            double relative = worst_relative(one, params.list[i].grad,
                                             expected + json_integer_value(json_array_get(at, 0)));
            if (!(relative <= 1e-4))
                fail_msg("%s: %s: relative error %g", decoders[m], name, relative);
        }
        json_decref(index);
        free(expected);
        fixture_close(&f);
    }
}
/* Rows of the vocabulary as states of layer 0, some of them more than once. */
static void test_embedding(void **state)
{
    enum { EMBEDDED = 63, VOCABULARY = 97, WIDTH = 32 };
    static struct {
        float out[EMBEDDED * WIDTH], dout[EMBEDDED * WIDTH], dweight[VOCABULARY * WIDTH];
    } expected;
    int32_t ids[EMBEDDED];
    int outputs[EMBEDDED], repeated = 0;
    struct siren_forest *forest;
    struct fixture f;
    FILE *file = fopen("tests/fixtures/kernels/embedding.f32", "rb");
    assert_true(file && fread(&expected, sizeof expected, 1, file) == 1 && fgetc(file) == EOF);
    fclose(file);
    open_trainable(&f, "qwen3", NULL, 2, &SIREN_TRAIN_ALL);
    assert_int_equal(siren_model_config(f.model)->n_vocab, VOCABULARY);
    assert_int_equal(siren_model_config(f.model)->d_model, WIDTH);
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    for (int i = 0; i < EMBEDDED; i++) {
        ids[i] = (31 * i + 17 + i * i) % VOCABULARY;
        for (int k = 0; k < i && !repeated; k++) repeated = ids[k] == ids[i];
    }
    assert_true(repeated);
    int segment = siren_forest_add(forest, SIREN_ROOT, ids, EMBEDDED, 0);
    for (int i = 0; i < EMBEDDED; i++)
        outputs[i] = siren_forest_want_hidden(forest, segment, (size_t)i, 0);
    assert_int_equal(siren_forest_record(forest, &(struct siren_training){0}), 0);
    fixture_run(forest);
    for (size_t i = 0; i < EMBEDDED; i++) {
        assert_memory_equal(siren_forest_output(forest, outputs[i]), expected.out + i * WIDTH,
                            sizeof(float[WIDTH]));
        memcpy(siren_forest_gradient(forest, outputs[i]), expected.dout + i * WIDTH,
               sizeof(float[WIDTH]));
    }
    zero_by_note(siren_model_params(f.model));
    assert_int_equal(siren_forest_backward(forest, NULL), 0);
    struct siren_params params = siren_model_params(f.model), one = {NULL, 1};
    for (size_t i = 0; i < params.n; i++)
        if (strstr(params.list[i].name, "embed_tokens")) one.list = &params.list[i];
    assert_non_null(one.list);
    double relative = worst_relative(one, one.list->grad, expected.dweight);
    if (!(relative <= 1e-6)) fail_msg("relative error %g", relative);
    siren_forest_free(forest);
    fixture_close(&f);
}

/* What was kept of a pass before values were changed is refused. */
static void test_changed_weights(void **state)
{
    struct fixture f;
    struct siren_forest *forest;
    int32_t ids[4] = {1, 2, 3, 4};
    open_trainable(&f, "qwen2", NULL, 2, &SIREN_TRAIN_ALL);
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, 4, SIREN_KEEP);
    fixture_run(forest);
    struct siren_kept *kept = siren_forest_take(forest, s);
    assert_int_equal(siren_model_changed(f.model, f.pool, &f.err), 0);
    siren_forest_clear(forest);
    siren_forest_add_kept(forest, kept);
    siren_forest_add(forest, 0, ids, 4, 0);
    assert_int_equal(siren_forest_plan(forest, &f.err), SIREN_EINVAL);
    assert_non_null(strstr(f.err.message, "before the model's weights were changed"));
    siren_kept_unref(kept);
    siren_forest_free(forest);
    fixture_close(&f);
}

/* ---- finite differences ---- */

/* A loss as a function of some of its parameters. */
struct line {
    struct fixture *f;
    struct pass *pass;
    struct siren_adapter *adapter; /* NULL: the parameters are the model's */
    const struct siren_training *training;
    struct siren_params params;
    const float *direction; /* of the parameters' numbers, one behind the other */
};

/* After a step of this size along the direction; the values are put back. */
static double loss_along(const struct line *l, double size)
{
    const float *d = l->direction;
    size_t n, at = 0;
    float *kept = numbers_copy(l->params, 0, &n);
    for (size_t i = 0; i < l->params.n; i++)
        for (int j = 0; j < l->params.list[i].rows * l->params.list[i].columns; j++)
            l->params.list[i].value[j] += (float)(size * (double)*d++);
    if (l->adapter)
        siren_adapter_changed(l->adapter);
    else
        assert_int_equal(siren_model_changed(l->f->model, l->f->pool, &l->f->err), 0);
    run_recorded(l->pass, l->f, l->adapter, l->training);
    for (size_t i = 0; i < l->params.n; i++) {
        size_t m = (size_t)(l->params.list[i].rows * l->params.list[i].columns);
        memcpy(l->params.list[i].value, kept + at, m * sizeof *kept);
        at += m;
    }
    free(kept);
    return loss_of(l->pass, 0);
}

/* What the step's square leaves cancels (Richardson). */
static double slope_along(const struct line *l, double size)
{
    double whole = (loss_along(l, size) - loss_along(l, -size)) / (2 * size);
    double half = (loss_along(l, size / 2) - loss_along(l, -size / 2)) / size;
    return (4 * half - whole) / 3;
}

/* Unit vectors: the gradient's own direction, and random numbers with the gradient's signs, along
 * which the slope is well above rounding, too. */
enum direction { OWN, RANDOM, DIRECTIONS };

static void set_direction(enum direction which, const float *gradient, size_t n, float *out)
{
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        double x = gradient[i];
        if (which == RANDOM) x = copysign(siren_random_normal(13, 0, i), x);
        out[i] = (float)x;
        squares += x * x;
    }
    for (size_t i = 0; i < n; i++) out[i] = (float)((double)out[i] / sqrt(squares));
}

/* Slopes along both directions are the gradient's, but for 3e-4 of them.  The worst is off
 * by 1.1e-4, with steps that change the loss by a half; where it changes less, rounding shows. */
static void check_slopes(struct line l, const char *what)
{
    struct pass p;
    size_t n;
    float *gradient = gradients_copy(l.params, &n), *direction = malloc(n * sizeof *direction);
    l.direction = direction;
    l.pass = &p;
    assert_int_equal(siren_forest_create(&p.forest, l.f->engine, NULL), 0);
    for (int which = 0; which < DIRECTIONS; which++) {
        set_direction((enum direction)which, gradient, n, direction);
        double expected = 0;
        for (size_t i = 0; i < n; i++) expected += (double)gradient[i] * (double)direction[i];
        double slope = slope_along(&l, 0.5 / expected);
        if (!(fabs(slope - expected) <= 3e-4 * expected))
            fail_msg("%s, direction %d: slope %g, gradient %g", what, which, slope, expected);
    }
    siren_forest_free(p.forest);
    free(direction);
    free(gradient);
}

/* Of all targets, with dropout; B is not 0. */
static struct siren_adapter *random_adapter(struct fixture *f)
{
    struct siren_adapter_config config = {.targets = ALL_TARGETS,
                                          .last_layer = siren_model_config(f->model)->n_layers - 1,
                                          .r = 4,
                                          .alpha = 4,
                                          .dropout = 0.3f,
                                          .seed = 9};
    struct siren_adapter *a;
    assert_int_equal(siren_adapter_create(&a, f->model, &config, &f->err), 0);
    struct siren_params params = siren_adapter_params(a);
    for (size_t i = 1; i < params.n; i += 2)
        random_values(params.list[i].value, params.list[i].rows * params.list[i].columns, 3, i);
    siren_adapter_changed(a);
    return a;
}

/* Of each factor. */
static void test_differences(void **state)
{
    const struct siren_training training = {.dropout = 1, .dropout_step = 5};
    for (int m = 0; m < 3; m++) {
        char path[64];
        struct fixture f;
        size_t n;
        snprintf(path, sizeof path, "tests/fixtures/models/%s", decoders[m]);
        fixture_open_mode(&f, path, NULL, "f32", 2);
        struct siren_adapter *a = random_adapter(&f);
        struct siren_params params = siren_adapter_params(a);
        free(gradients_of(&f, a, &training, &n));
        for (size_t i = 0; i < params.n; i++)
            check_slopes(
                (struct line){
                    .f = &f, .adapter = a, .training = &training, .params = {&params.list[i], 1}},
                params.list[i].name);
        siren_adapter_free(a);
        fixture_close(&f);
    }
}

/* Of each of the model's weights, and of all at once. */
static void test_weight_differences(void **state)
{
    const struct siren_training training = {0};
    for (int m = 0; m < 3; m++) {
        struct fixture f;
        open_trainable(&f, decoders[m], NULL, 2, &SIREN_TRAIN_ALL);
        backward_weights(&f, &training);
        struct siren_params all = siren_model_params(f.model);
        struct line l = {.f = &f, .training = &training, .params = all};
        check_slopes(l, decoders[m]);
        for (size_t i = 0; i < all.n; i++) {
            l.params = (struct siren_params){&all.list[i], 1};
            check_slopes(l, all.list[i].name);
        }
        fixture_close(&f);
    }
}

/* ---- some targets, some layers ---- */

static void test_parts(void **state)
{
    struct fixture f;
    fixture_open_mode(&f, "tests/fixtures/models/qwen3", NULL, "f32", 2);
    struct siren_adapter *whole = adapter_of(&f, "qwen3");
    int n_layers = siren_model_config(f.model)->n_layers;
    size_t n, memory = 0;
    float *all = gradients_of(&f, whole, &(struct siren_training){0}, &n);
    struct siren_params params = siren_adapter_params(whole);
    for (int target = 0; target < SIREN_LORA_TARGETS; target++)
        for (int first = 0; first < n_layers; first++) {
            /* Gradients of one target of the upper layers only: the others' are not there. */
            for (size_t i = 0; i < params.n; i++) {
                struct lora_factors *x = &whole->factors[i / 2];
                int wanted = (int)(i / 2) % SIREN_LORA_TARGETS == target &&
                             (int)(i / 2) / SIREN_LORA_TARGETS >= first;
                if (i % 2 == 0) x->da = wanted ? params.list[i].grad : NULL;
                if (i % 2 == 1) x->db = wanted ? params.list[i].grad : NULL;
            }
            struct pass p;
            assert_int_equal(siren_forest_create(&p.forest, f.engine, NULL), 0);
            run_recorded(&p, &f, whole, &(struct siren_training){0});
            /* Layers below are no part of it: nothing of them is kept. */
            assert_int_equal(p.forest->back->lowest, first);
            assert_true(!first || siren_forest_training_memory(p.forest) < memory);
            memory = siren_forest_training_memory(p.forest);
            loss_of(&p, 1);
            siren_gradients_zero(params, NULL);
            assert_int_equal(siren_forest_backward(p.forest, NULL), 0);
            siren_forest_free(p.forest);
            expect_gradients(whole, all);
        }
    free(all);
    siren_adapter_free(whole);
    fixture_close(&f);
}

/* ---- depth and memory, on a model of more layers ---- */

enum { DEEP = 6 };
static struct layer_weights layers[DEEP]; /* as they are loaded */
static int forbidden;                     /* layers below are out of bounds */
static size_t memory_held;

/* The two layers of qwen3 three times over. */
static void deep_open(struct fixture *f, int threads)
{
    fixture_open_mode(f, "tests/fixtures/models/qwen3", NULL, "f32", threads);
    struct siren_model *m = f->model;
    assert_int_equal(m->config.n_layers, 2);
    m->layers = realloc(m->layers, sizeof layers);
    for (int l = 2; l < DEEP; l++) m->layers[l] = m->layers[l - 2];
    memcpy(layers, m->layers, sizeof layers);
    m->config.n_layers = DEEP;
}

static void deep_close(struct fixture *f)
{
    memcpy(f->model->layers, layers, sizeof layers);
    f->model->config.n_layers = 2;
    fixture_close(f);
}

/* All targets from this layer on; B is not 0. */
static struct siren_adapter *deep_adapter(struct fixture *f, int first_layer)
{
    struct siren_adapter_config config = {.targets = ALL_TARGETS,
                                          .first_layer = first_layer,
                                          .last_layer = DEEP - 1,
                                          .r = 4,
                                          .alpha = 1,
                                          .seed = 9};
    struct siren_adapter *a;
    assert_int_equal(siren_adapter_create(&a, f->model, &config, &f->err), 0);
    struct siren_params params = siren_adapter_params(a);
    for (size_t i = 1; i < params.n; i += 2)
        random_values(params.list[i].value, params.list[i].rows * params.list[i].columns, 3, i);
    siren_adapter_changed(a);
    return a;
}

/* Whoever reads a weight of a forbidden layer is ended by the system. */
static void forbid(struct siren_forest *forest)
{
    static void *nowhere;
    struct siren_model *m = (struct siren_model *)forest->engine->model;
    if (!nowhere) nowhere = mmap(NULL, 1 << 24, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(nowhere != MAP_FAILED);
    memory_held = siren_forest_training_memory(forest);
    for (int l = 0; l < forbidden; l++) {
        struct layer_weights *w = &m->layers[l];
        w->qkv.data = w->out.data = w->ffn_in.data = w->ffn_out.data = nowhere;
        w->attention_norm = w->ffn_norm = w->q_norm = w->k_norm = nowhere;
    }
}

/* In a process of its own, with weights of the lowest trained layer out of bounds, too: it must
 * not survive, or the test would see nothing. */
static void the_lowest_layer_is_entered(int lowest)
{
    struct fixture f;
    struct rlimit no_core = {0, 0};
    int status;
    size_t n;
    pid_t child = fork();
    if (!child) {
        signal(SIGSEGV, SIG_DFL);
        setrlimit(RLIMIT_CORE, &no_core);
        forbidden = lowest + 1;
        before_backward = forbid;
        deep_open(&f, 1);
        gradients_of(&f, deep_adapter(&f, lowest), &(struct siren_training){0}, &n);
        _exit(0);
    }
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void layers_below_the_lowest_trained_are_not_entered(void **state)
{
    size_t n, n_again, before[2] = {SIZE_MAX, SIZE_MAX};
    for (int i = 0; i < 2 * DEEP; i++) {
        int lowest = i / 2, tight = i % 2;
        struct siren_training training = {.memory_bytes = (size_t)tight};
        struct fixture f;
        deep_open(&f, 2);
        struct siren_adapter *a = deep_adapter(&f, lowest);
        float *expected = gradients_of(&f, a, &training, &n);
        forbidden = lowest;
        before_backward = forbid;
        float *got = gradients_of(&f, a, &training, &n_again);
        before_backward = NULL;
        assert_int_equal(n, n_again);
        assert_memory_equal(got, expected, n * sizeof *got);
        assert_true(memory_held < before[tight]); /* nor is anything of them kept */
        before[tight] = memory_held;
        free(got);
        free(expected);
        siren_adapter_free(a);
        deep_close(&f);
    }
    the_lowest_layer_is_entered(2);
}

static void nor_are_they_where_weights_are_trained(void **state)
{
    struct siren_trainable upper = {1, 1, 0, 1, 1};
    struct fixture f;
    double sum[2] = {0};
    open_trainable(&f, "qwen3", NULL, 2, &upper);
    struct siren_params params = siren_model_params(f.model);
    struct layer_weights lowest = f.model->layers[0];
    forbidden = 1;
    for (int i = 0; i < 2; i++) {
        before_backward = i ? forbid : NULL;
        backward_weights(&f, &(struct siren_training){.memory_bytes = 1});
        for (size_t p = 0; p < params.n; p++)
            for (int j = 0; j < params.list[p].rows * params.list[p].columns; j++)
                sum[i] += fabs((double)params.list[p].grad[j]);
        f.model->layers[0] = lowest;
    }
    before_backward = NULL;
    assert_true(sum[0] > 0 && sum[0] == sum[1]);
    fixture_close(&f);
}

/* What the backward pass reads again, by hand: the inputs of all layers; of those that are saved
 * the rest, with their keys and values; and, unless all are, one layer's rest that is computed
 * again. */
struct held {
    int n_saved;
    size_t inputs, again, next, bytes; /* next: of the layer below the saved ones */
    size_t memory;
};
static struct held held;

static size_t rest_of_layer(const struct siren_forest *p, int layer)
{
    const struct siren_config *c = &p->engine->model->config;
    size_t T = (size_t)p->T, n = layer < DEEP - 1 ? T : (size_t)p->n_active,
           Q = (size_t)config_q_width(c), F = (size_t)config_ffn_stride(c);
    return aligned(T * (size_t)config_qkv_width(c) * sizeof(float)) +
           (layer < DEEP - 1 ? aligned(T * Q * sizeof(float)) : 0) +
           aligned(n * Q * sizeof(float)) + aligned(n * (size_t)c->d_model * sizeof(float)) +
           aligned(n * 2 * F * sizeof(float));
}

static void hold(struct siren_forest *p)
{
    size_t pages = p->parity_stride * sizeof(float);
    size_t input = aligned((size_t)(p->T * p->engine->model->config.d_model) * sizeof(float));
    held = (struct held){.inputs = DEEP * input, .memory = siren_forest_training_memory(p)};
    held.bytes = held.inputs;
    while (held.n_saved < DEEP && p->tape[DEEP - 1 - held.n_saved].saved)
        held.bytes += rest_of_layer(p, DEEP - 1 - held.n_saved++) + pages;
    for (int l = 0; l < DEEP - held.n_saved; l++) assert_false(p->tape[l].saved);
    if (held.n_saved == DEEP) return;
    held.again = rest_of_layer(p, 0) + pages;
    held.bytes += held.again;
    held.next = rest_of_layer(p, DEEP - 1 - held.n_saved) + pages;
}

static void gradients_keep_to_a_budget(void **state)
{
    struct fixture f;
    deep_open(&f, 2);
    struct siren_adapter *a = deep_adapter(&f, 0);
    int seen = 0;
    size_t n, most, scratch, step;
    before_backward = hold;
    float *expected = gradients_of(&f, a, &(struct siren_training){0}, &n);
    assert_int_equal(held.n_saved, DEEP);
    most = held.bytes;
    free(gradients_of(&f, a, &(struct siren_training){.memory_bytes = 1}, &n));
    scratch = held.memory - held.bytes; /* what no budget is about */
    assert_int_equal(held.n_saved, 0);  /* nothing fits: only inputs are kept, and it works */
    const struct held least = held;
    step = (most - least.bytes) / 24;
    for (size_t budget = least.bytes / 2; budget < most + 2 * step; budget += step) {
        float *g = gradients_of(&f, a, &(struct siren_training){.memory_bytes = budget}, &n);
        assert_memory_equal(g, expected, n * sizeof *g);
        free(g);
        seen |= 1 << held.n_saved;
        if (budget < least.bytes) {
            assert_true(held.n_saved == 0 && held.memory == least.memory);
            continue;
        }
        assert_true(held.bytes <= budget && held.memory <= budget + scratch);
        assert_true(held.n_saved == DEEP || held.bytes + held.next > budget); /* and uses it */
    }
    /* From no layer to all, but for all but one: that one's place is needed to compute it again. */
    assert_int_equal(seen, ((2 << DEEP) - 1) & ~(1 << (DEEP - 1)));
    before_backward = NULL;
    free(expected);
    siren_adapter_free(a);
    deep_close(&f);
}

/* ---- accumulation, cancelling, refusals ---- */

static void test_accumulates(void **state)
{
    struct fixture f;
    fixture_open_mode(&f, "tests/fixtures/models/llama", NULL, "f32", 2);
    struct siren_adapter *a = adapter_of(&f, "llama");
    struct siren_params params = siren_adapter_params(a);
    size_t n;
    float *once = gradients_of(&f, a, &(struct siren_training){0}, &n), *at = once;
    struct pass p;
    assert_int_equal(siren_forest_create(&p.forest, f.engine, NULL), 0);
    run_recorded(&p, &f, a, &(struct siren_training){0});
    loss_of(&p, 1);
    assert_int_equal(siren_forest_backward(p.forest, NULL), 0);
    for (size_t i = 0; i < params.n; i++)
        for (int j = 0; j < params.list[i].rows * params.list[i].columns; j++, at++)
            assert_true(params.list[i].grad[j] == *at + *at);
    volatile int stop = 1;
    run_recorded(&p, &f, a, &(struct siren_training){0});
    assert_int_equal(siren_forest_backward(p.forest, &stop), SIREN_ECANCEL);
    siren_forest_free(p.forest);
    free(once);
    siren_adapter_free(a);
    fixture_close(&f);
}

static void refused(struct siren_forest *forest, int rc, const char *message)
{
    struct siren_error err;
    siren_forest_record(forest, &(struct siren_training){0});
    assert_int_equal(siren_forest_plan(forest, &err), rc);
    if (!strstr(err.message, message)) fail_msg("\"%s\" is not in \"%s\"", message, err.message);
    siren_forest_clear(forest);
}

static void test_refusals(void **state)
{
    struct fixture f;
    int32_t ids[4] = {1, 2, 3, 4};
    fixture_open(&f, "tests/fixtures/models/llama", NULL, 1);
    struct siren_forest *forest;
    struct siren_adapter *a = adapter_of(&f, "llama");
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    siren_forest_add(forest, SIREN_ROOT, ids, 4, 0);
    refused(forest, SIREN_EINVAL, "nothing is trained");
    int s = siren_forest_add(forest, SIREN_ROOT, ids, 4, 0);
    siren_forest_use_adapter(forest, s, a); /* frozen: it has no gradients */
    refused(forest, SIREN_EINVAL, "nothing is trained");
    assert_int_equal(siren_adapter_trainable(a, &f.err), 0);
    s = siren_forest_add(forest, SIREN_ROOT, ids, 4, SIREN_KEEP);
    siren_forest_use_adapter(forest, s, a);
    refused(forest, SIREN_EINVAL, "segment 0: what is kept");
    /* Without recording there is neither a gradient nor a backward pass. */
    s = siren_forest_add(forest, SIREN_ROOT, ids, 4, 0);
    siren_forest_use_adapter(forest, s, a);
    int out = siren_forest_want_hidden(forest, s, 3, 1);
    fixture_run(forest);
    assert_null(siren_forest_gradient(forest, out));
    assert_int_equal(siren_forest_backward(forest, NULL), SIREN_EINVAL);
    assert_int_equal(siren_forest_training_memory(forest), 0);
    siren_forest_free(forest);
    siren_adapter_free(a);
    fixture_close(&f);
    fixture_open(&f, "tests/fixtures/models/bert", NULL, 1);
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    siren_forest_add(forest, SIREN_ROOT, ids, 4, 0);
    refused(forest, SIREN_EUNSUPPORTED, "encoder");
    siren_forest_free(forest);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pytorch),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(layers_below_the_lowest_trained_are_not_entered),
        cmocka_unit_test(nor_are_they_where_weights_are_trained),
        cmocka_unit_test(gradients_keep_to_a_budget),
        cmocka_unit_test(test_accumulates),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_changed_weights),
        cmocka_unit_test(test_weight_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
