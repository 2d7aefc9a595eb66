/* The backward pass over the forest: PyTorch's gradients of LoRA factors
 * (tests/reference/backward.py); finite differences, with dropout too; the same bits whatever the
 * threads, the instruction set and the memory; what is frozen and what lies below is left alone;
 * what is refused. */
#include "adapter_fixture.h"
#include "model/backward.h"
#include "model/pass.h"

#include <jansson.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STREAMS = 6, LONGEST = 64, ACTIVE_OUTPUTS = 512 };
static const size_t lengths[STREAMS] = {0, 45, 9, 21, 1, 38};

static size_t stream_ids(const struct fixture *f, int stream, int32_t *ids)
{
    int V = siren_model_config(f->model)->n_vocab;
    for (int i = 0; i < (int)lengths[stream]; i++) ids[i] = (31 * i + 17 * stream + i * i) % V;
    return lengths[stream];
}

/* ---- the loss of backward.py ---- */

struct output {
    int index;
    int n;
    int shift;   /* of w, or -1: log-probability and entropy */
    double a, b; /* coefficients of these two */
};

struct pass {
    struct siren_forest *forest;
    struct output outputs[ACTIVE_OUTPUTS];
    int n_outputs;
};

static double weight(int i)
{
    return cos(0.7 * i) / 8;
}

static void note(struct pass *p, int index, int n, int shift, double a, double b)
{
    assert_true(index >= 0 && p->n_outputs < ACTIVE_OUTPUTS);
    p->outputs[p->n_outputs++] = (struct output){index, n, shift, a, b};
}

static void want_last(struct pass *p, const struct siren_config *c, int segment, size_t token)
{
    static const int32_t rows[3] = {3, 0, 7};
    for (int l = 1; l <= c->n_layers; l++)
        note(p, siren_forest_want_hidden(p->forest, segment, token, l), c->d_model, l, 0, 0);
    note(p, siren_forest_want_logits(p->forest, segment, token, rows, 3), 3, 0, 0, 0);
}

static void want_tokens(struct pass *p, int prefix, int segment, const int32_t *ids, size_t n,
                        float temperature)
{
    for (size_t i = 0; i < n; i++) {
        int from = i ? segment : prefix;
        size_t token = i ? i - 1 : lengths[1] - 1;
        note(p, siren_forest_want_logprob(p->forest, from, token, ids[i], temperature), 2, -1, 0.5,
             -0.25);
    }
}

/* The prefix and its continuations, and a tree of its own. */
static void build(struct pass *p, struct fixture *f, const struct siren_adapter *adapter)
{
    const struct siren_config *c = siren_model_config(f->model);
    int32_t ids[LONGEST];
    p->n_outputs = 0;
    int prefix = siren_forest_add(p->forest, SIREN_ROOT, ids, stream_ids(f, 1, ids), 0);
    int alone = siren_forest_add(p->forest, SIREN_ROOT, ids, stream_ids(f, 5, ids), 0);
    want_last(p, c, alone, lengths[5] - 1);
    for (int stream = 2; stream <= 4; stream++) {
        size_t n = stream_ids(f, stream, ids);
        int s = siren_forest_add(p->forest, prefix, ids, n, 0);
        want_last(p, c, s, n - 1);
        if (stream < 4) want_tokens(p, prefix, s, ids, n, stream == 2 ? 1.0f : 0.7f);
    }
    note(p, siren_forest_want_hidden(p->forest, prefix, 3, 1), c->d_model, 1, 0, 0);
    note(p, siren_forest_want_logprob(p->forest, prefix, lengths[1] - 1, 5, 1), 2, -1, 0.3, 0);
    siren_forest_use_adapter(p->forest, prefix, adapter);
    siren_forest_use_adapter(p->forest, alone, adapter);
}

/* More rows in one tree than a part of it has: the prefix and ten continuations, cut within one of
 * them; or, without `shared`, each behind a prefix of its own. */
enum { PREFIX = 60, TAIL = 40, TAILS = 10 };
static int shared;

static void build_long(struct pass *p, struct fixture *f, const struct siren_adapter *adapter)
{
    const struct siren_config *c = siren_model_config(f->model);
    int32_t ids[PREFIX + TAIL];
    int root = 0;
    p->n_outputs = 0;
    for (int tail = 0; tail < TAILS; tail++) {
        for (int i = 0; i < PREFIX + TAIL; i++)
            ids[i] = (31 * i + i * i + (i < PREFIX ? 0 : 7 * tail)) % c->n_vocab;
        if (!shared || tail == 0) {
            root = siren_forest_add(p->forest, SIREN_ROOT, ids, PREFIX, 0);
            siren_forest_use_adapter(p->forest, root, adapter);
        }
        int s = siren_forest_add(p->forest, root, ids + PREFIX, TAIL, 0);
        want_last(p, c, s, TAIL - 1);
        want_last(p, c, s, TAIL / 2);
    }
}

static void (*builder)(struct pass *, struct fixture *, const struct siren_adapter *) = build;

/* The loss; where `gradients`, its derivatives beside the outputs. */
static double loss_of(struct pass *p, int gradients)
{
    double loss = 0;
    for (int i = 0; i < p->n_outputs; i++) {
        const struct output *o = &p->outputs[i];
        const float *x = siren_forest_output(p->forest, o->index);
        for (int j = 0; j < o->n; j++) {
            double w = o->shift >= 0 ? weight(j + o->shift) : j ? o->b : o->a;
            loss += w * (double)x[j];
            if (gradients) siren_forest_gradient(p->forest, o->index)[j] = (float)w;
        }
    }
    return loss;
}

static void run_recorded(struct pass *p, struct fixture *f, const struct siren_adapter *adapter,
                         const struct siren_training *training)
{
    siren_forest_clear(p->forest);
    builder(p, f, adapter);
    assert_int_equal(siren_forest_record(p->forest, training), 0);
    fixture_run(p->forest);
}

/* Rows whose logits are in memory at a time; 0: as many as the forest has of itself. */
static size_t most_rows;

/* Called between a pass and its backward pass; NULL: nothing is. */
static void (*before_backward)(struct siren_forest *forest);

/* All gradients of one recorded pass, one after the other; n of them. */
static float *gradients_of(struct fixture *f, struct siren_adapter *adapter,
                           const struct siren_training *training, size_t *n)
{
    struct pass p;
    struct siren_params params = siren_adapter_params(adapter);
    assert_int_equal(siren_adapter_trainable(adapter, &f->err), 0);
    assert_int_equal(siren_forest_create(&p.forest, f->engine, NULL), 0);
    if (most_rows) p.forest->most_rows = most_rows;
    run_recorded(&p, f, adapter, training);
    assert_true(siren_forest_training_memory(p.forest) > 0);
    loss_of(&p, 1);
    for (size_t i = 0; i < params.n; i++)
        memset(params.list[i].grad, 0,
               (size_t)(params.list[i].rows * params.list[i].columns) * sizeof(float));
    if (before_backward) before_backward(p.forest);
    assert_int_equal(siren_forest_backward(p.forest, NULL), 0);
    assert_int_equal(siren_forest_backward(p.forest, NULL), SIREN_EINVAL); /* once a run */
    siren_forest_free(p.forest);
    *n = 0;
    for (size_t i = 0; i < params.n; i++)
        *n += (size_t)(params.list[i].rows * params.list[i].columns);
    float *all = malloc(*n * sizeof *all), *at = all;
    for (size_t i = 0; i < params.n; i++) {
        size_t m = (size_t)(params.list[i].rows * params.list[i].columns);
        memcpy(at, params.list[i].grad, m * sizeof *at);
        at += m;
    }
    return all;
}

/* ---- PyTorch ---- */

static float *floats_open(const char *name, const char *what, size_t *n)
{
    char path[256];
    snprintf(path, sizeof path, "tests/fixtures/adapters/%s-%s.f32", name, what);
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s", path);
    fseek(file, 0, SEEK_END);
    size_t bytes = (size_t)ftell(file);
    rewind(file);
    float *x = malloc(bytes);
    assert_int_equal(fread(x, 1, bytes, file), bytes);
    fclose(file);
    *n = bytes / sizeof *x;
    return x;
}

/* An adapter of the library's own with the factors of a file. */
static struct siren_adapter *adapter_of(struct fixture *f, const char *name)
{
    char path[256];
    json_error_t error;
    snprintf(path, sizeof path, "tests/fixtures/adapters/%s-factors.json", name);
    json_t *j = json_load_file(path, 0, &error);
    struct siren_adapter_config config = {.targets = ALL_TARGETS,
                                          .last_layer = siren_model_config(f->model)->n_layers - 1,
                                          .r = (int)json_integer_value(json_object_get(j, "r")),
                                          .alpha =
                                              (float)json_number_value(json_object_get(j, "alpha")),
                                          .rslora = json_is_true(json_object_get(j, "rslora"))};
    json_decref(j);
    struct siren_adapter *a;
    if (siren_adapter_create(&a, f->model, &config, &f->err)) fail_msg("%s", f->err.message);
    size_t n;
    float *values = floats_open(name, "factors", &n), *at = values;
    struct siren_params params = siren_adapter_params(a);
    for (size_t i = 0; i < params.n; i++) {
        size_t m = (size_t)(params.list[i].rows * params.list[i].columns);
        memcpy(params.list[i].value, at, m * sizeof *at);
        at += m;
    }
    assert_true(at == values + n);
    free(values);
    siren_adapter_changed(a);
    return a;
}

/* Worst error of each factor against its largest number. */
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
    static const char *const names[] = {"llama", "qwen2", "qwen3"};
    for (int m = 0; m < 3; m++) {
        char path[64];
        struct fixture f;
        size_t n, n_expected;
        snprintf(path, sizeof path, "tests/fixtures/models/%s", names[m]);
        fixture_open_mode(&f, path, NULL, "f32", 2);
        struct siren_adapter *a = adapter_of(&f, names[m]);
        float *expected = floats_open(names[m], "gradients", &n_expected);
        float *got = gradients_of(&f, a, &(struct siren_training){0}, &n);
        assert_int_equal(n, n_expected);
        double relative = worst_relative(siren_adapter_params(a), got, expected);
        if (!(relative <= 1e-4)) fail_msg("%s: relative error %g", names[m], relative);
        free(got);
        free(expected);
        siren_adapter_free(a);
        fixture_close(&f);
    }
}

/* ---- all weights ---- */

static void open_trainable(struct fixture *f, const char *name, const char *isa, int threads,
                           const struct siren_trainable *what)
{
    char path[64];
    memset(f, 0, sizeof *f);
    snprintf(path, sizeof path, "tests/fixtures/models/%s", name);
    struct siren_model_options load = {.trainable = what};
    struct siren_engine_options options = {.isa = isa};
    if (siren_pool_create(&f->pool, threads, &f->err) ||
        siren_model_load(&f->model, path, &load, f->pool, &f->err) ||
        siren_engine_create(&f->engine, f->model, f->pool, &options, &f->err))
        fail_msg("%s: %s", path, f->err.message);
}

/* Into the parameters' own gradients. */
static void backward_weights(struct fixture *f, const struct siren_training *training)
{
    struct pass p;
    struct siren_params params = siren_model_params(f->model);
    assert_int_equal(siren_forest_create(&p.forest, f->engine, NULL), 0);
    run_recorded(&p, f, NULL, training);
    loss_of(&p, 1);
    for (size_t i = 0; i < params.n; i++)
        memset(params.list[i].grad, 0,
               (size_t)(params.list[i].rows * params.list[i].columns) * sizeof(float));
    if (before_backward) before_backward(p.forest);
    assert_int_equal(siren_forest_backward(p.forest, NULL), 0);
    siren_forest_free(p.forest);
}

static void test_weights(void **state)
{
    static const char *const names[] = {"llama", "qwen2", "qwen3"};
    for (int m = 0; m < 3; m++) {
        struct fixture f;
        char path[64];
        json_error_t error;
        size_t n;
        open_trainable(&f, names[m], NULL, 2, &SIREN_TRAIN_ALL);
        float *expected = floats_open(names[m], "weights", &n);
        snprintf(path, sizeof path, "tests/fixtures/adapters/%s-weights.json", names[m]);
        json_t *index = json_load_file(path, 0, &error);
        if (!index) fail_msg("%s: %s", path, error.text);
        backward_weights(&f, &(struct siren_training){0});
        struct siren_params params = siren_model_params(f.model);
        assert_int_equal(params.n, json_object_size(index));
        for (size_t i = 0; i < params.n; i++) {
            const json_t *at = json_object_get(index, params.list[i].name);
            if (!at) fail_msg("%s: %s", names[m], params.list[i].name);
            assert_int_equal(json_integer_value(json_array_get(at, 1)),
                             params.list[i].rows * params.list[i].columns);
            struct siren_params one = {&params.list[i], 1};
            double relative = worst_relative(one, params.list[i].grad,
                                             expected + json_integer_value(json_array_get(at, 0)));
            if (!(relative <= 1e-4))
                fail_msg("%s: %s: relative error %g", names[m], params.list[i].name, relative);
        }
        json_decref(index);
        free(expected);
        fixture_close(&f);
    }
}

static void test_weight_bits(void **state)
{
    static const char *const sets[] = {"portable", "avx2", "avx512"};
    struct fixture first, f;
    open_trainable(&first, "qwen3", "portable", 1, &SIREN_TRAIN_ALL);
    backward_weights(&first, &(struct siren_training){0});
    struct siren_params expected = siren_model_params(first.model);
    for (int i = 0; i < 6; i++) {
        if (!cpu_has(sets[i % 3])) continue;
        /* Some layers and matrices only have the gradients that they have among all. */
        struct siren_trainable upper = {1, 1, 0, 1, 0};
        open_trainable(&f, "qwen3", sets[i % 3], 1 + i % 3, i < 3 ? &SIREN_TRAIN_ALL : &upper);
        backward_weights(&f, &(struct siren_training){.memory_bytes = i % 2 ? 1 : 0});
        struct siren_params params = siren_model_params(f.model);
        assert_true(i < 3 ? params.n == expected.n : params.n < expected.n && params.n);
        for (size_t p = 0, e = 0; p < params.n; p++, e++) {
            while (strcmp(params.list[p].name, expected.list[e].name))
                assert_true(++e < expected.n);
            assert_memory_equal(params.list[p].grad, expected.list[e].grad,
                                (size_t)(params.list[p].rows * params.list[p].columns) *
                                    sizeof(float));
        }
        fixture_close(&f);
    }
    fixture_close(&first);
}

static void step_down(struct fixture *f)
{
    struct siren_params params = siren_model_params(f->model);
    for (size_t p = 0; p < params.n; p++)
        for (int j = 0; j < params.list[p].rows * params.list[p].columns; j++)
            params.list[p].value[j] -= 0.1f * params.list[p].grad[j];
    assert_int_equal(siren_model_changed(f->model, f->pool, &f->err), 0);
}

/* Mode bf16 on a model that was packed for it: the same bits, before and after a step. */
static void test_packed_for_bf16(void **state)
{
    struct fixture f[2] = {{0}};
    struct siren_params params[2];
    const struct siren_engine_options bf16 = {.compute = "bf16"};
    struct siren_model_options load = {.trainable = &SIREN_TRAIN_ALL};
    struct siren_model *none;
    struct siren_engine *refused;
    for (int i = 0; i < 2; i++, load.compute = "bf16") {
        assert_int_equal(siren_pool_create(&f[i].pool, 2, &f[i].err), 0);
        assert_int_equal(siren_model_load(&f[i].model, "tests/fixtures/models/qwen3", &load,
                                          f[i].pool, &f[i].err),
                         0);
        assert_int_equal(siren_engine_create(&f[i].engine, f[i].model, f[i].pool, &bf16, &f[i].err),
                         0);
        params[i] = siren_model_params(f[i].model);
    }
    assert_true(siren_model_memory(f[1].model) < siren_model_memory(f[0].model));
    for (int step = 0; step < 2; step++) {
        for (int i = 0; i < 2; i++) backward_weights(&f[i], &(struct siren_training){0});
        for (size_t p = 0; p < params[0].n; p++)
            assert_memory_equal(params[1].list[p].grad, params[0].list[p].grad,
                                (size_t)(params[0].list[p].rows * params[0].list[p].columns) *
                                    sizeof(float));
        for (int i = 0; i < 2; i++) step_down(&f[i]);
    }
    assert_int_equal(siren_engine_create(&refused, f[1].model, f[1].pool, NULL, &f[1].err),
                     SIREN_EINVAL);
    assert_non_null(strstr(f[1].err.message, "packed for mode bf16, but the engine's mode is f32"));
    load.compute = "bf8";
    assert_int_equal(
        siren_model_load(&none, "tests/fixtures/models/qwen3", &load, f[0].pool, &f[0].err),
        SIREN_EINVAL);
    assert_non_null(strstr(f[0].err.message, "\"bf8\""));
    for (int i = 0; i < 2; i++) fixture_close(&f[i]);
}

/* Values that were changed are those of the next pass, and what was kept before is refused. */
static void test_changed_weights(void **state)
{
    struct fixture f;
    int32_t ids[4] = {1, 2, 3, 4};
    open_trainable(&f, "qwen2", NULL, 2, &SIREN_TRAIN_ALL);
    struct pass p;
    assert_int_equal(siren_forest_create(&p.forest, f.engine, NULL), 0);
    int s = siren_forest_add(p.forest, SIREN_ROOT, ids, 4, SIREN_KEEP);
    fixture_run(p.forest);
    struct siren_kept *kept = siren_forest_take(p.forest, s);
    backward_weights(&f, &(struct siren_training){0});
    struct siren_params params = siren_model_params(f.model);
    double slope = 0, h = 1e-5;
    for (int side = -1; side <= 1; side += 2) {
        for (size_t i = 0; i < params.n; i++)
            for (int j = 0; j < params.list[i].rows * params.list[i].columns; j++)
                params.list[i].value[j] +=
                    (float)((side < 0 ? -h : 2 * h) * params.list[i].grad[j]);
        assert_int_equal(siren_model_changed(f.model, f.pool, &f.err), 0);
        run_recorded(&p, &f, NULL, &(struct siren_training){0});
        slope += side * loss_of(&p, 0) / (2 * h);
    }
    double norm = 0;
    for (size_t i = 0; i < params.n; i++)
        for (int j = 0; j < params.list[i].rows * params.list[i].columns; j++)
            norm += (double)params.list[i].grad[j] * (double)params.list[i].grad[j];
    if (!(fabs(slope - norm) <= 0.02 * norm)) fail_msg("slope %g, gradient %g", slope, norm);
    siren_forest_clear(p.forest);
    siren_forest_add_kept(p.forest, kept);
    siren_forest_add(p.forest, 0, ids, 4, 0);
    assert_int_equal(siren_forest_plan(p.forest, &f.err), SIREN_EINVAL);
    assert_non_null(strstr(f.err.message, "before the model's weights were changed"));
    siren_kept_unref(kept);
    siren_forest_free(p.forest);
    fixture_close(&f);
}

/* ---- finite differences, with dropout ---- */

static double loss_at(struct fixture *f, struct siren_adapter *a,
                      const struct siren_training *training)
{
    struct pass p;
    siren_adapter_changed(a);
    assert_int_equal(siren_forest_create(&p.forest, f->engine, NULL), 0);
    run_recorded(&p, f, a, training);
    double loss = loss_of(&p, 0);
    siren_forest_free(p.forest);
    return loss;
}

/* A direction with the gradient's own signs: the derivative along it is well above rounding. */
static void test_differences(void **state)
{
    struct fixture f;
    fixture_open_mode(&f, "tests/fixtures/models/qwen3", NULL, "f32", 2);
    struct siren_adapter_config config = {.targets = ALL_TARGETS,
                                          .last_layer = siren_model_config(f.model)->n_layers - 1,
                                          .r = 4,
                                          .alpha = 4,
                                          .dropout = 0.3f,
                                          .seed = 9};
    struct siren_adapter *a;
    assert_int_equal(siren_adapter_create(&a, f.model, &config, &f.err), 0);
    struct siren_params params = siren_adapter_params(a);
    for (size_t i = 1; i < params.n; i += 2) /* B is not 0 */
        random_values(params.list[i].value, params.list[i].rows * params.list[i].columns, 3, i);
    siren_adapter_changed(a);
    struct siren_training training = {.dropout = 1, .dropout_step = 5};
    size_t n;
    float *g = gradients_of(&f, a, &training, &n), *at = g;
    for (size_t i = 0; i < params.n; i++) {
        struct siren_param *p = &params.list[i];
        size_t m = (size_t)(p->rows * p->columns);
        double norm = 0, h = 2e-3;
        float *kept = malloc(m * sizeof *kept);
        memcpy(kept, p->value, m * sizeof *kept);
        for (size_t j = 0; j < m; j++) norm += (double)at[j] * (double)at[j];
        norm = sqrt(norm);
        double loss[2];
        for (int side = 0; side < 2; side++) {
            for (size_t j = 0; j < m; j++)
                p->value[j] = kept[j] + (float)((side ? h : -h) * (double)at[j] / norm);
            loss[side] = loss_at(&f, a, &training);
        }
        memcpy(p->value, kept, m * sizeof *kept);
        double slope = (loss[1] - loss[0]) / (2 * h);
        if (!(fabs(slope - norm) <= 1e-2 * norm + 2e-3))
            fail_msg("%s: slope %g, gradient %g", p->name, slope, norm);
        free(kept);
        at += m;
    }
    free(g);
    siren_adapter_free(a);
    fixture_close(&f);
}

/* ---- the same bits ---- */

static float *gradients_in(const char *isa, const char *compute, int threads,
                           const struct siren_training *training, size_t *n, size_t *memory)
{
    struct fixture f;
    fixture_open_mode(&f, "tests/fixtures/models/qwen3", isa, compute, threads);
    struct siren_adapter *a = adapter_of(&f, "qwen3");
    float *g = gradients_of(&f, a, training, n);
    struct pass p;
    assert_int_equal(siren_forest_create(&p.forest, f.engine, NULL), 0);
    run_recorded(&p, &f, a, training);
    if (memory) *memory = siren_forest_training_memory(p.forest);
    siren_forest_free(p.forest);
    siren_adapter_free(a);
    fixture_close(&f);
    return g;
}

static float *gradients_with(const char *isa, int threads, const struct siren_training *training,
                             size_t *n, size_t *memory)
{
    return gradients_in(isa, "f32", threads, training, n, memory);
}

static void test_bits(void **state)
{
    static const char *const sets[] = {"portable", "avx2", "avx512"};
    size_t n, n_again, least, most;
    struct siren_training plain = {0}, tight = {.memory_bytes = 1}, middle;
    float *expected = gradients_with("portable", 1, &plain, &n, NULL);
    for (int i = 0; i < 3; i++)
        for (int threads = 1; threads <= 3 && cpu_has(sets[i]); threads++) {
            float *g = gradients_with(sets[i], threads, &plain, &n_again, NULL);
            assert_memory_equal(g, expected, n * sizeof *g);
            free(g);
        }
    free(gradients_with(NULL, 2, &plain, &n_again, &most));
    float *g = gradients_with(NULL, 2, &tight, &n_again, &least);
    assert_memory_equal(g, expected, n * sizeof *g);
    free(g);
    assert_true(least < most);
    middle = (struct siren_training){.memory_bytes = (least + most) / 2};
    g = gradients_with(NULL, 2, &middle, &n_again, NULL);
    assert_memory_equal(g, expected, n * sizeof *g);
    free(g);
    /* What is kept beside the least (layers' inputs, one layer, scratch) is within the budget, and
     * nothing fits into one byte. */
    for (size_t budget = 1, held = 0, before = least; budget < 2 * most; budget += most / 16) {
        const struct siren_training some = {.memory_bytes = budget};
        free(gradients_with(NULL, 2, &some, &n_again, &held));
        assert_true(held >= before && held <= least + budget);
        assert_true(held == least || budget > 1);
        before = held;
    }
    for (most_rows = 1; most_rows < 20; most_rows += 6) { /* logits computed again */
        g = gradients_with(NULL, 2, &plain, &n_again, NULL);
        assert_memory_equal(g, expected, n * sizeof *g);
        free(g);
    }
    most_rows = 0;
    free(expected);
}

/* A set whose bits are those of the default: AMX's sums of mode bf16 have an order of their own. */
static const char *same_order(const char *compute)
{
    const char *name = getenv("SIREN_ISA");
    enum isa set = ISA_PORTABLE;
    assert_int_equal(isa_parse(name ? name : "auto", &set, NULL), 0);
    return set == ISA_AMX && !strcmp(compute, "bf16") ? "amx" : "portable";
}

/* A tree that is cut into parts: the same bits whatever the threads, sets and memory; and what its
 * rows give behind prefixes of their own. */
static void test_long_tree(void **state)
{
    size_t n, n_again;
    struct siren_training plain = {0}, tight = {.memory_bytes = 1};
    builder = build_long;
    for (int mode = 0; mode < 2; mode++) {
        const char *compute = mode ? "bf16" : "f32";
        double worst = 0, size = 0;
        shared = 1;
        float *expected = gradients_in(same_order(compute), compute, 1, &plain, &n, NULL);
        for (int threads = 1; threads <= 4; threads++) {
            float *g =
                gradients_in(NULL, compute, threads, threads % 2 ? &plain : &tight, &n_again, NULL);
            assert_memory_equal(g, expected, n * sizeof *g);
            free(g);
        }
        shared = 0;
        float *apart = gradients_in(NULL, compute, 2, &plain, &n_again, NULL);
        assert_int_equal(n, n_again);
        for (size_t i = 0; i < n; i++) {
            worst = fmax(worst, fabs((double)apart[i] - (double)expected[i]));
            size = fmax(size, fabs((double)expected[i]));
        }
        assert_true(size > 0 && worst < (mode ? 1e-3 : 1e-6) * size);
        free(apart);
        free(expected);
    }
    builder = build;
}

/* Mode bf16: near the truth, and the same bits on all sets that share its order. */
static void test_bf16(void **state)
{
    static const char *const sets[] = {"portable", "avx2", "avx512"};
    size_t n, n_expected;
    float *truth = floats_open("qwen3", "gradients", &n_expected);
    float *first = gradients_in("portable", "bf16", 2, &(struct siren_training){0}, &n, NULL);
    double norm = 0, error = 0;
    assert_int_equal(n, n_expected);
    for (size_t i = 0; i < n; i++) {
        norm += (double)truth[i] * (double)truth[i];
        error += ((double)first[i] - (double)truth[i]) * ((double)first[i] - (double)truth[i]);
    }
    if (!(sqrt(error / norm) <= 0.03)) fail_msg("relative error %g", sqrt(error / norm));
    for (int i = 1; i < 3; i++) {
        if (!cpu_has(sets[i])) continue;
        float *g =
            gradients_in(sets[i], "bf16", i, &(struct siren_training){.memory_bytes = 1}, &n, NULL);
        assert_memory_equal(g, first, n * sizeof *g);
        free(g);
    }
    free(first);
    free(truth);
}

/* A recorded pass has the outputs of any other, but for dropout. */
static void test_forward(void **state)
{
    struct fixture f;
    fixture_open_mode(&f, "tests/fixtures/models/llama", NULL, "f32", 2);
    struct siren_adapter *a = adapter_of(&f, "llama");
    struct pass recorded, other;
    assert_int_equal(siren_adapter_trainable(a, &f.err), 0);
    assert_int_equal(siren_forest_create(&recorded.forest, f.engine, NULL), 0);
    assert_int_equal(siren_forest_create(&other.forest, f.engine, NULL), 0);
    run_recorded(&recorded, &f, a, &(struct siren_training){.memory_bytes = 1});
    build(&other, &f, a);
    fixture_run(other.forest);
    for (int i = 0; i < other.n_outputs; i++)
        assert_memory_equal(siren_forest_output(other.forest, other.outputs[i].index),
                            siren_forest_output(recorded.forest, recorded.outputs[i].index),
                            (size_t)other.outputs[i].n * sizeof(float));
    siren_forest_free(recorded.forest);
    siren_forest_free(other.forest);
    siren_adapter_free(a);
    fixture_close(&f);
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
            for (size_t i = 0; i < params.n; i++)
                memset(params.list[i].grad, 0,
                       (size_t)(params.list[i].rows * params.list[i].columns) * sizeof(float));
            assert_int_equal(siren_forest_backward(p.forest, NULL), 0);
            siren_forest_free(p.forest);
            const float *at = all;
            for (size_t i = 0; i < params.n; i++) {
                size_t m = (size_t)(params.list[i].rows * params.list[i].columns);
                if (whole->factors[i / 2].da)
                    assert_memory_equal(params.list[i].grad, at, m * sizeof *at);
                else
                    for (size_t j = 0; j < m; j++) assert_true(params.list[i].grad[j] == 0);
                at += m;
            }
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
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_long_tree),
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(layers_below_the_lowest_trained_are_not_entered),
        cmocka_unit_test(nor_are_they_where_weights_are_trained),
        cmocka_unit_test(gradients_keep_to_a_budget),
        cmocka_unit_test(test_accumulates),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_packed_for_bf16),
        cmocka_unit_test(test_weight_bits),
        cmocka_unit_test(test_changed_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
