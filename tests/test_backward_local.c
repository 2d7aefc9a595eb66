/* Layer-local learning: a layer's gradients are those that the whole backward pass has of a loss on
 * that layer's own output alone; the same bits whatever the threads, sets and memory; what is not
 * trained, or not asked for, is not entered; what is refused. */
/* check: portable */
#include "backward_case.h"

static const struct siren_training local = {.layer_local = 1};

/* Outputs of the state after `layer` layers; of the last layer, logits and log-probabilities too.
 */
static int is_of_layer(const struct output *o, int layer, int n_layers)
{
    return o->shift > 0 ? o->shift == layer : layer == n_layers;
}

/* Gradients of the whole backward pass where only one layer's outputs have a loss. */
static float *of_one_layer(struct fixture *f, struct siren_adapter *a, int layer,
                           const struct siren_training *training, size_t *n)
{
    struct pass p;
    int n_layers = siren_model_config(f->model)->n_layers;
    struct siren_params params = siren_adapter_params(a);
    assert_int_equal(siren_forest_create(&p.forest, f->engine, NULL), 0);
    run_recorded(&p, f, a, training);
    loss_of(&p, 1);
    for (int i = 0; i < p.n_outputs; i++)
        if (!is_of_layer(&p.outputs[i], layer, n_layers))
            memset(siren_forest_gradient(p.forest, p.outputs[i].index), 0,
                   (size_t)p.outputs[i].n * sizeof(float));
    siren_gradients_zero(params, NULL);
    assert_int_equal(siren_forest_backward(p.forest, NULL), 0);
    siren_forest_free(p.forest);
    return gradients_copy(params, n);
}

/* Parameters lie by layer and target, each as A and B. */
static int layer_of(size_t parameter)
{
    return (int)(parameter / 2) / SIREN_LORA_TARGETS + 1;
}

static void compare_layers(struct fixture *f, struct siren_adapter *a, const char *name,
                           const struct siren_training *training)
{
    struct siren_training whole = *training;
    struct siren_params params = siren_adapter_params(a);
    size_t n, n_again;
    float *got = gradients_of(f, a, training, &n);
    whole.layer_local = 0;
    for (int layer = 1; layer <= siren_model_config(f->model)->n_layers; layer++) {
        float *expected = of_one_layer(f, a, layer, &whole, &n_again);
        size_t at = 0, compared = 0;
        assert_int_equal(n, n_again);
        for (size_t i = 0; i < params.n; i++) {
            size_t m = (size_t)(params.list[i].rows * params.list[i].columns);
            double error = 0, norm = 0;
            for (size_t j = at; j < at + m; j++) {
                error += pow((double)got[j] - (double)expected[j], 2);
                norm += pow((double)expected[j], 2);
            }
            at += m;
            if (layer_of(i) != layer) continue;
            if (!(norm > 0) || !(sqrt(error / norm) <= 2e-6))
                fail_msg("%s: %s: norm %g, relative error %g", name, params.list[i].name,
                         sqrt(norm), sqrt(error / norm));
            compared++;
        }
        assert_int_equal(compared, 2 * SIREN_LORA_TARGETS);
        free(expected);
    }
    free(got);
}

static void a_layer_learns_from_its_own_output(void **state)
{
    static const char *const names[] = {"llama", "qwen2", "qwen3"};
    for (int m = 0; m < 3; m++) {
        char path[64];
        struct fixture f;
        snprintf(path, sizeof path, "tests/fixtures/models/%s", names[m]);
        fixture_open_mode(&f, path, NULL, "f32", 2);
        struct siren_adapter *a = adapter_of(&f, names[m]);
        compare_layers(&f, a, names[m], &local);
        siren_adapter_free(a);
        fixture_close(&f);
    }
}

static struct siren_adapter *with_dropout(struct fixture *f)
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
    for (size_t i = 1; i < params.n; i += 2) /* B is not 0 */
        random_values(params.list[i].value, params.list[i].rows * params.list[i].columns, 3, i);
    siren_adapter_changed(a);
    return a;
}

/* The rows that are computed again drop what they dropped. */
static void with_dropout_too(void **state)
{
    struct fixture f;
    fixture_open_mode(&f, "tests/fixtures/models/qwen3", NULL, "f32", 2);
    struct siren_adapter *a = with_dropout(&f);
    const struct siren_training training = {.layer_local = 1, .dropout = 1, .dropout_step = 5};
    compare_layers(&f, a, "dropout", &training);
    siren_adapter_free(a);
    fixture_close(&f);
}

/* Every token is asked for: no layer has a view of its own. */
static void build_all(struct pass *p, struct fixture *f, const struct siren_adapter *adapter)
{
    const struct siren_config *c = siren_model_config(f->model);
    int32_t ids[LONGEST];
    p->n_outputs = 0;
    int s = siren_forest_add(p->forest, SIREN_ROOT, ids, stream_ids(f, 3, ids), 0);
    siren_forest_use_adapter(p->forest, s, adapter);
    for (size_t token = 0; token < lengths[3]; token++) want_last(p, c, s, token);
}

static void where_every_token_is_asked_for(void **state)
{
    struct fixture f;
    fixture_open_mode(&f, "tests/fixtures/models/qwen3", NULL, "f32", 2);
    struct siren_adapter *a = adapter_of(&f, "qwen3");
    builder = build_all;
    for (size_t memory = 0; memory < 2; memory++) {
        const struct siren_training training = {.layer_local = 1, .memory_bytes = memory};
        compare_layers(&f, a, "every token", &training);
    }
    builder = build;
    siren_adapter_free(a);
    fixture_close(&f);
}

static float *gradients_in(const char *isa, const char *compute, int threads, size_t memory,
                           size_t *n, size_t *held)
{
    struct fixture f;
    struct pass p;
    const struct siren_training training = {.layer_local = 1, .memory_bytes = memory};
    fixture_open_mode(&f, "tests/fixtures/models/qwen3", isa, compute, threads);
    struct siren_adapter *a = adapter_of(&f, "qwen3");
    float *g = gradients_of(&f, a, &training, n);
    assert_int_equal(siren_forest_create(&p.forest, f.engine, NULL), 0);
    run_recorded(&p, &f, a, &training);
    *held = siren_forest_training_memory(p.forest);
    siren_forest_free(p.forest);
    siren_adapter_free(a);
    fixture_close(&f);
    return g;
}

static void the_bits_are_the_same(void **state)
{
    static const char *const sets[] = {"portable", "avx2", "avx512"}, *const modes[] = {"f32",
                                                                                        "bf16"};
    for (int mode = 0; mode < 2; mode++) {
        size_t n, n_again, most, least, held;
        float *expected = gradients_in("portable", modes[mode], 1, 0, &n, &most);
        for (int i = 0; i < 3; i++)
            for (int threads = 1; threads <= 3 && cpu_has(sets[i]); threads++) {
                size_t memory = threads == 2; /* a byte: nothing is kept but the inputs */
                float *g = gradients_in(sets[i], modes[mode], threads, memory, &n_again, &held);
                assert_int_equal(n, n_again);
                assert_memory_equal(g, expected, n * sizeof *g);
                free(g);
            }
        free(gradients_in("portable", modes[mode], 1, 1, &n, &least));
        assert_true(least < most);
        for (size_t budget = 1; budget < 2 * most; budget += most / 8) {
            float *g = gradients_in("portable", modes[mode], 1, budget, &n_again, &held);
            assert_memory_equal(g, expected, n * sizeof *g);
            assert_true(held <= least + budget);
            free(g);
        }
        free(expected);
    }
}

/* It holds less: of what a layer computes for rows that nobody asked for, only keys, values and
 * queries are kept. */
static void it_holds_less(void **state)
{
    struct fixture f;
    struct pass p;
    size_t held[2];
    fixture_open_mode(&f, "tests/fixtures/models/llama", NULL, "f32", 2);
    struct siren_adapter *a = adapter_of(&f, "llama");
    assert_int_equal(siren_adapter_trainable(a, &f.err), 0);
    for (int i = 0; i < 2; i++) {
        const struct siren_training training = {.layer_local = i};
        assert_int_equal(siren_forest_create(&p.forest, f.engine, NULL), 0);
        run_recorded(&p, &f, a, &training);
        held[i] = siren_forest_training_memory(p.forest);
        siren_forest_free(p.forest);
    }
    assert_true(held[1] < held[0]);
    siren_adapter_free(a);
    fixture_close(&f);
}

/* ---- some targets, some layers ---- */

/* Only one target of one layer has gradients. */
static void train_one(struct siren_adapter *a, int layer, int target)
{
    struct siren_params params = siren_adapter_params(a);
    for (size_t i = 0; i < params.n; i++) {
        struct lora_factors *x = &a->factors[i / 2];
        int wanted = (int)(i / 2) == layer * SIREN_LORA_TARGETS + target;
        if (i % 2 == 0) x->da = wanted ? params.list[i].grad : NULL;
        if (i % 2 == 1) x->db = wanted ? params.list[i].grad : NULL;
    }
}

/* What else is trained changes nothing of a target's gradient, and what is not trained gets none.
 */
static void parts_are_those_of_the_whole(void **state)
{
    struct fixture f;
    size_t n;
    fixture_open_mode(&f, "tests/fixtures/models/qwen3", NULL, "f32", 2);
    struct siren_adapter *a = adapter_of(&f, "qwen3");
    float *all = gradients_of(&f, a, &local, &n);
    struct siren_params params = siren_adapter_params(a);
    for (int layer = 0; layer < siren_model_config(f.model)->n_layers; layer++)
        for (int target = 0; target < SIREN_LORA_TARGETS; target++) {
            struct pass p;
            train_one(a, layer, target);
            assert_int_equal(siren_forest_create(&p.forest, f.engine, NULL), 0);
            run_recorded(&p, &f, a, &local);
            assert_int_equal(p.forest->back->lowest, layer);
            loss_of(&p, 1);
            siren_gradients_zero(params, NULL);
            assert_int_equal(siren_forest_backward(p.forest, NULL), 0);
            siren_forest_free(p.forest);
            expect_gradients(a, all);
        }
    free(all);
    siren_adapter_free(a);
    fixture_close(&f);
}

static void what_is_refused(void **state)
{
    struct fixture f;
    int32_t ids[4] = {1, 2, 3, 4};
    struct siren_forest *forest;
    fixture_open(&f, "tests/fixtures/models/llama", NULL, 1);
    struct siren_adapter *a = adapter_of(&f, "llama");
    assert_int_equal(siren_adapter_trainable(a, &f.err), 0);
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    /* Nothing is asked for; a layer is asked for that is not trained. */
    for (int asked = 0; asked < 2; asked++) {
        int s = siren_forest_add(forest, SIREN_ROOT, ids, 4, 0);
        siren_forest_use_adapter(forest, s, a);
        if (asked) {
            train_one(a, 1, SIREN_LORA_K);
            siren_forest_want_hidden(forest, s, 3, 1);
        }
        siren_forest_record(forest, &local);
        assert_int_equal(siren_forest_plan(forest, &f.err), SIREN_EINVAL);
        assert_non_null(strstr(f.err.message, "no output of a layer that is trained"));
        siren_forest_clear(forest);
    }
    siren_forest_free(forest);
    siren_adapter_free(a);
    fixture_close(&f);
    open_trainable(&f, "llama", NULL, 1, &SIREN_TRAIN_ALL);
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, 4, 0);
    siren_forest_want_hidden(forest, s, 3, 1);
    siren_forest_record(forest, &local);
    assert_int_equal(siren_forest_plan(forest, &f.err), SIREN_EUNSUPPORTED);
    assert_non_null(strstr(f.err.message, "LoRA adapters only"));
    siren_forest_free(forest);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_learns_from_its_own_output),
        cmocka_unit_test(with_dropout_too),
        cmocka_unit_test(where_every_token_is_asked_for),
        cmocka_unit_test(the_bits_are_the_same),
        cmocka_unit_test(it_holds_less),
        cmocka_unit_test(parts_are_those_of_the_whole),
        cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
