/* The backward pass gives the same bits whatever the threads, the instruction set, the memory, the
 * cuts of a tree and what else is trained; and a recorded pass has the outputs of any other. */
/* check: portable */
#include "backward_case.h"
#include "scratch.h"

#include "odd_heads.h"

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

static void expect_near(const float *truth, const float *found, size_t n)
{
    double norm = 0, error = 0;
    for (size_t i = 0; i < n; i++) {
        norm += (double)truth[i] * (double)truth[i];
        error += ((double)found[i] - (double)truth[i]) * ((double)found[i] - (double)truth[i]);
    }
    if (!(sqrt(error / norm) <= 0.03)) fail_msg("relative error %g", sqrt(error / norm));
}

/* Mode bf16: near the truth, and the same bits on all sets that share its order. */
static void test_bf16(void **state)
{
    static const char *const sets[] = {"portable", "avx2", "avx512"};
    size_t n, n_expected;
    float *truth = floats_open("qwen3", "gradients", &n_expected);
    float *first = gradients_in("portable", "bf16", 2, &(struct siren_training){0}, &n, NULL);
    assert_int_equal(n, n_expected);
    expect_near(truth, first, n);
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

/* Heads that are no power of two: f32 is the truth. */
static void test_bf16_odd_heads(void **state)
{
    float *gradients[2];
    size_t n[2];
    for (int mode = 0; mode < 2; mode++) {
        struct fixture f;
        struct siren_adapter *a;
        struct siren_adapter_config config = {
            .targets = ALL_TARGETS, .last_layer = ODD_LAYERS - 1, .r = 2, .alpha = 2, .seed = 3};
        fixture_open_mode(&f, odd_heads_model(), NULL, mode ? "bf16" : "f32", 2);
        assert_int_equal(siren_adapter_create(&a, f.model, &config, &f.err), 0);
        struct siren_params params = siren_adapter_params(a);
        for (size_t i = 0; i < params.n; i++) /* B is zero, and A then has no gradient */
            random_values(params.list[i].value, params.list[i].rows * params.list[i].columns, 3, i);
        siren_adapter_changed(a);
        gradients[mode] = gradients_of(&f, a, &(struct siren_training){0}, &n[mode]);
        siren_adapter_free(a);
        fixture_close(&f);
    }
    assert_int_equal(n[0], n[1]);
    expect_near(gradients[0], gradients[1], n[0]);
    free(gradients[0]);
    free(gradients[1]);
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

/* Texts whose log-probabilities are asked for, and nothing else. */
static void build_texts(struct pass *p, struct fixture *f, const struct siren_adapter *adapter)
{
    int32_t ids[LONGEST];
    p->n_outputs = 0;
    int prefix = siren_forest_add(p->forest, SIREN_ROOT, ids, stream_ids(f, 1, ids), 0);
    for (int stream = 2; stream <= 4; stream++) {
        size_t n = stream_ids(f, stream, ids);
        want_tokens(p, prefix, siren_forest_add(p->forest, prefix, ids, n, 0), ids, n, 1);
    }
    siren_forest_use_adapter(p->forest, prefix, adapter);
}

/* A pass that is stopped in its backward leaves gradients half written: they are zeroed. */
static void stopped_pass(struct pass *p, struct fixture *f)
{
    const int stop = 1;
    siren_gradients_zero(siren_model_params(f->model), NULL);
    run_recorded(p, f, NULL, &(struct siren_training){0});
    loss_of(p, 1);
    assert_int_equal(siren_forest_backward(p->forest, &stop), SIREN_ECANCEL);
}

/* What two passes leave, the first on zeros that are noted or written. */
static float *two_passes(struct fixture *f, int noted, size_t *n)
{
    struct siren_params params = siren_model_params(f->model);
    struct pass p;
    assert_int_equal(siren_forest_create(&p.forest, f->engine, NULL), 0);
    if (most_rows) p.forest->most_rows = most_rows;
    if (noted) stopped_pass(&p, f);
    zero_by_note(params);
    for (size_t i = 0; i < params.n && !noted; i++) {
        const struct siren_param *w = &params.list[i];
        memset(w->grad, 0, (size_t)w->rows * (size_t)w->columns * sizeof *w->grad);
        *w->unwritten = 0;
    }
    for (int pass = 0; pass < 2; pass++) {
        run_recorded(&p, f, NULL, &(struct siren_training){0});
        loss_of(&p, 1);
        assert_int_equal(siren_forest_backward(p.forest, NULL), 0);
        for (size_t i = 0; i < params.n; i++) assert_false(*params.list[i].unwritten);
    }
    siren_forest_free(p.forest);
    return gradients_copy(params, n);
}

/* Written over what stands there or added to zeros: the same bits, with logits beside the
 * log-probabilities and without, where all the head's gradient is products, of one chunk of rows
 * or of several; with a head of its own and one that is the embedding. */
static void test_noted_zeros(void **state)
{
    static const char *const models[] = {"llama", "qwen2"};
    static const size_t chunks[] = {0, 1, 7};
    for (int i = 0; i < 12; i++) {
        struct fixture f;
        size_t n, m;
        open_trainable(&f, models[i % 2], NULL, 2, &SIREN_TRAIN_ALL);
        builder = i / 2 % 2 ? build : build_texts;
        most_rows = chunks[i / 4];
        float *added = two_passes(&f, 0, &n), *written = two_passes(&f, 1, &m);
        assert_int_equal(n, m);
        assert_memory_equal(written, added, n * sizeof *added);
        free(added);
        free(written);
        fixture_close(&f);
    }
    builder = build;
    most_rows = 0;
}

static void step_down(struct fixture *f)
{
    struct siren_params params = siren_model_params(f->model);
    for (size_t p = 0; p < params.n; p++)
        for (int j = 0; j < params.list[p].rows * params.list[p].columns; j++)
            params.list[p].value[j] -= 0.1f * params.list[p].grad[j];
    assert_int_equal(siren_model_changed(f->model, f->pool, &f->err), 0);
}

/* A forest that is planned again after a step has the labels' logits of the new weights; with a
 * head of its own or one that is the embedding. */
static void test_labels_after_a_step(void **state)
{
    static const char *const models[] = {"llama", "qwen2"};
    static const int32_t ids[] = {1, 2, 3, 4, 5}, rows[] = {3, 0, 7};
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        struct siren_forest *forest;
        float before[3];
        open_trainable(&f, models[i], NULL, 2, &SIREN_TRAIN_ALL);
        backward_weights(&f, &(struct siren_training){0});
        assert_int_equal(siren_forest_create(&forest, f.engine, &f.err), 0);
        int s = siren_forest_add(forest, SIREN_ROOT, ids, 5, 0);
        int labels = siren_forest_want_logits(forest, s, 4, rows, 3);
        int all = siren_forest_want_logits(forest, s, 4, NULL, 0);
        for (int step = 0; step < 3; step++) { /* the third plan finds nothing changed */
            fixture_run(forest);
            for (int k = 0; k < 3; k++) {
                float logit = siren_forest_output(forest, labels)[k];
                assert_true(logit == siren_forest_output(forest, all)[rows[k]]);
                assert_true(!step || (logit == before[k]) == (step == 2));
                before[k] = logit;
            }
            if (!step) step_down(&f);
        }
        siren_forest_free(forest);
        fixture_close(&f);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_long_tree),
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_weight_bits),
        cmocka_unit_test(test_noted_zeros),
        cmocka_unit_test(test_packed_for_bf16),
        cmocka_unit_test(test_bf16_odd_heads),
        cmocka_unit_test(test_labels_after_a_step),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
