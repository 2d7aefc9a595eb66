/* The backward pass with several adapters side by side: each has the gradients of its own rows,
 * whatever lies between them, and the same bits whatever the threads. */
/* check: portable */
#include "adapter_fixture.h"

enum { ADAPTERS = 2, TREES = 6, TOKENS = 37, BOTH = 3 };
/* Whose the trees are; -1: nobody's.  The rows of one are never side by side. */
static const int owner[TREES] = {0, 1, 0, -1, 1, 0};

static struct siren_adapter *make(const struct siren_model *model, unsigned targets, uint64_t seed)
{
    struct siren_adapter_config config = {.targets = targets,
                                          .last_layer = siren_model_config(model)->n_layers - 1,
                                          .r = 5,
                                          .alpha = 7,
                                          .dropout = 0.1f,
                                          .seed = seed};
    struct siren_adapter *a;
    struct siren_error err;
    assert_int_equal(siren_adapter_create(&a, model, &config, &err), 0);
    assert_int_equal(siren_adapter_trainable(a, &err), 0);
    struct siren_params params = siren_adapter_params(a);
    for (size_t i = 0; i < params.n; i++) /* B is 0 in a new one */
        for (int j = 0; j < params.list[i].rows * params.list[i].columns; j++)
            params.list[i].value[j] = (float)sin(0.3 * j + (double)i + (double)seed) / 8;
    siren_adapter_changed(a);
    return a;
}

/* The trees of those in `mask`, backwards from the last layer's state of their last tokens. */
static void backward(struct fixture *f, struct siren_adapter *const *adapters, unsigned mask,
                     int dropout)
{
    struct siren_forest *forest;
    int32_t ids[TOKENS];
    int outputs[TREES];
    const struct siren_config *c = siren_model_config(f->model);
    assert_int_equal(siren_forest_create(&forest, f->engine, NULL), 0);
    for (int tree = 0; tree < TREES; tree++) {
        outputs[tree] = -1;
        if (owner[tree] < 0 ? mask != BOTH : !(mask >> owner[tree] & 1)) continue;
        for (int i = 0; i < TOKENS; i++) ids[i] = (31 * i + i * i + 7 * tree) % c->n_vocab;
        int root = siren_forest_add(forest, SIREN_ROOT, ids, TOKENS, 0);
        siren_forest_use_adapter(forest, root, owner[tree] < 0 ? NULL : adapters[owner[tree]]);
        outputs[tree] = siren_forest_want_hidden(forest, root, TOKENS - 1, c->n_layers);
    }
    const struct siren_training training = {.dropout = dropout, .dropout_step = 9};
    assert_int_equal(siren_forest_record(forest, &training), 0);
    fixture_run(forest);
    for (int tree = 0; tree < TREES; tree++)
        for (int j = 0; j < c->d_model && outputs[tree] >= 0; j++)
            siren_forest_gradient(forest, outputs[tree])[j] = (float)cos(0.7 * j + tree) / 8;
    assert_int_equal(siren_forest_backward(forest, NULL), 0);
    siren_forest_free(forest);
}

static float *gradients(struct siren_adapter *a, size_t *n)
{
    struct siren_params params = siren_adapter_params(a);
    float *all = NULL;
    *n = 0;
    for (size_t i = 0; i < params.n; i++) {
        size_t m = (size_t)(params.list[i].rows * params.list[i].columns);
        all = realloc(all, (*n + m) * sizeof *all);
        memcpy(all + *n, params.list[i].grad, m * sizeof *all);
        memset(params.list[i].grad, 0, m * sizeof *all);
        *n += m;
    }
    return all;
}

struct bench {
    struct fixture f;
    struct siren_adapter *adapters[ADAPTERS];
};

static void bench_open(struct bench *b, const char *isa, const char *compute, int threads)
{
    fixture_open_mode(&b->f, "tests/fixtures/models/llama", isa, compute, threads);
    b->adapters[0] = make(b->f.model, 127, 1);
    b->adapters[1] = make(b->f.model, 1 << SIREN_LORA_K | 1 << SIREN_LORA_UP, 2);
}

static void bench_close(struct bench *b)
{
    for (int i = 0; i < ADAPTERS; i++) siren_adapter_free(b->adapters[i]);
    fixture_close(&b->f);
}

/* Rows of others are not in the way, but for the rounding of sums by runs of rows. */
static void each_has_its_own_rows(void **state)
{
    struct bench b;
    size_t n[ADAPTERS], n_alone;
    float *together[ADAPTERS];
    bench_open(&b, NULL, "f32", 2);
    backward(&b.f, b.adapters, BOTH, 0);
    for (int i = 0; i < ADAPTERS; i++) together[i] = gradients(b.adapters[i], &n[i]);
    for (int i = 0; i < ADAPTERS; i++) {
        double largest = 0;
        backward(&b.f, b.adapters, 1u << i, 0);
        float *alone = gradients(b.adapters[i], &n_alone);
        assert_int_equal(n_alone, n[i]);
        for (size_t k = 0; k < n[i]; k++) largest = fmax(largest, fabs((double)alone[k]));
        assert_true(largest > 1e-3);
        for (size_t k = 0; k < n[i]; k++)
            assert_true(fabs((double)alone[k] - (double)together[i][k]) < 1e-6 * largest);
        free(alone);
        free(together[i]);
    }
    bench_close(&b);
}

/* Two runs of rows with one adapter sum into the same numbers: in one order. */
static void threads_change_no_bit(void **state)
{
    static const char *const modes[] = {"f32", "bf16"};
    for (int mode = 0; mode < 2; mode++) {
        float *first[ADAPTERS] = {0};
        for (int run = 0; run < 12; run++) {
            struct bench b;
            bench_open(&b, NULL, modes[mode], 1 + run % 4);
            backward(&b.f, b.adapters, BOTH, 1);
            for (int i = 0; i < ADAPTERS; i++) {
                size_t n;
                float *g = gradients(b.adapters[i], &n);
                if (run)
                    assert_memory_equal(g, first[i], n * sizeof(float));
                else
                    first[i] = g;
                if (run) free(g);
            }
            bench_close(&b);
        }
        for (int i = 0; i < ADAPTERS; i++) free(first[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_its_own_rows),
        cmocka_unit_test(threads_change_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
