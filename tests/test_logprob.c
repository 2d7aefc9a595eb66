/* Log-probabilities and entropies as outputs of a pass: those of the whole logits, the bits of the
 * sampler's, whatever the chunks, the threads and the instruction set; and what is refused. */
/* check: portable */
#include "adapter_fixture.h"

#define DECODER "tests/fixtures/models/llama"
enum { N = 110, V = 101 }; /* three chunks of rows */

/* log p and entropy of every token's successor, alone in a pass: out (n, 2). */
static void logprobs(struct fixture *f, const int32_t *ids, int n, float temperature, float *out)
{
    struct siren_forest *forest;
    int output[N];
    assert_int_equal(siren_forest_create(&forest, f->engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, (size_t)n, 0);
    for (int i = n - 1; i >= 0; i--) /* not in the order of the rows */
        output[i] = siren_forest_want_logprob(forest, s, (size_t)i, ids[(i + 1) % n], temperature);
    fixture_run(forest);
    for (int i = 0; i < n; i++)
        memcpy(out + 2 * i, siren_forest_output(forest, output[i]), 2 * sizeof *out);
    siren_forest_free(forest);
}

/* Beside whole logits, a hidden state, and other targets and temperatures of the same token. */
static void test_values(void **state)
{
    static const float temperatures[] = {1, 0.5f, 3};
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    int32_t ids[60];
    fixture_ids(&f, 1, ids, 60);
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    int root = siren_forest_add(forest, SIREN_ROOT, ids, 20, 0);
    int s = siren_forest_add(forest, root, ids + 20, 40, 0), out[3][4], logits[3];
    for (int i = 0; i < 3; i++) {
        size_t token = (size_t)i * 19;
        for (int j = 0; j < 3; j++)
            out[i][j] = siren_forest_want_logprob(forest, s, token, 7 + j, temperatures[j]);
        logits[i] = siren_forest_want_logits(forest, s, token, NULL, 0);
        siren_forest_want_hidden(forest, s, token, 2);
        out[i][3] = siren_forest_want_logprob(forest, s, token, 99, 1);
    }
    fixture_run(forest);
    for (int i = 0; i < 3; i++) {
        const float *x = siren_forest_output(forest, logits[i]);
        for (int j = 0; j < 4; j++) {
            double t = j < 3 ? (double)temperatures[j] : 1, total = 0, entropy = 0;
            for (int v = 0; v < V; v++) total += exp((double)x[v] / t);
            for (int v = 0; v < V; v++) {
                double p = exp((double)x[v] / t) / total;
                entropy -= p > 0 ? p * log(p) : 0;
            }
            const float *y = siren_forest_output(forest, out[i][j]);
            assert_float_equal(y[0], (double)x[j < 3 ? 7 + j : 99] / t - log(total), 1e-5);
            assert_float_equal(y[1], entropy, 1e-5);
        }
    }
    siren_forest_free(forest);
    fixture_close(&f);
}

/* A uniform distribution's entropy and a certain one's: the ends of the range. */
static void test_entropy_ends(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 1);
    int32_t ids[4];
    float hot[8], cold[8];
    fixture_ids(&f, 2, ids, 4);
    logprobs(&f, ids, 4, 1e6f, hot);
    logprobs(&f, ids, 4, 1e-3f, cold);
    for (int i = 0; i < 4; i++) {
        assert_float_equal(hot[2 * i], -log(V), 1e-4);
        assert_float_equal(hot[2 * i + 1], log(V), 1e-4);
        assert_float_equal(cold[2 * i + 1], 0, 1e-4);
        assert_true(cold[2 * i + 1] >= 0);
    }
    fixture_close(&f);
}

/* A rollout's log-probabilities, with an adapter and without, computed again in one pass. */
static void test_generation(void **state)
{
    enum { LENGTH = 30, PROMPT = 40 };
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct siren_adapter *adapter = adapter_make(f.model, ALL_TARGETS, 0, 4, 5);
    struct siren_session *session;
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    struct siren_sampling sampling = {
        .temperature = 1, .top_p = 1, .max_tokens = LENGTH, .seed = 9};
    for (int with = 0; with < 2; with++) {
        int32_t ids[PROMPT];
        int out[4][LENGTH];
        struct siren_generation g[4];
        fixture_ids(&f, 1, ids, PROMPT);
        for (int i = 0; i < 4; i++)
            g[i] = (struct siren_generation){.prompt = {ids, PROMPT}, .sequence = (uint64_t)i};
        siren_session_use_adapter(session, with ? adapter : NULL);
        assert_int_equal(siren_generate_many(session, g, 4, &sampling, 0, NULL, NULL), 0);
        struct siren_forest *forest;
        assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
        int root = siren_forest_add(forest, SIREN_ROOT, ids, PROMPT, 0);
        siren_forest_use_adapter(forest, root, with ? adapter : NULL);
        for (int i = 0; i < 4; i++) {
            int s = siren_forest_add(forest, root, g[i].ids, LENGTH, 0);
            for (int j = 0; j < LENGTH; j++)
                out[i][j] = siren_forest_want_logprob(
                    forest, j ? s : root, j ? (size_t)j - 1 : PROMPT - 1, g[i].ids[j], 1);
        }
        fixture_run(forest);
        for (int i = 0; i < 4; i++) {
            for (int j = 0; j < LENGTH; j++)
                assert_memory_equal(siren_forest_output(forest, out[i][j]), &g[i].logprobs[j],
                                    sizeof(float));
            siren_generation_clear(&g[i]);
        }
        siren_forest_free(forest);
    }
    siren_session_free(session);
    adapter_drop(adapter);
    fixture_close(&f);
}

static void compare_setups(const char *isa, int threads)
{
    static const int lengths[] = {1, 20, N};
    struct fixture f, g;
    fixture_open(&f, DECODER, isa ? "portable" : NULL, 1);
    fixture_open(&g, DECODER, isa, threads);
    int32_t ids[N];
    fixture_ids(&f, 3, ids, N);
    for (int i = 0; i < 3; i++)
        for (int hot = 0; hot < 2; hot++) {
            float a[2 * N], b[2 * N];
            logprobs(&f, ids, lengths[i], hot ? 0.7f : 1, a);
            logprobs(&g, ids, lengths[i], hot ? 0.7f : 1, b);
            assert_memory_equal(a, b, 2 * (size_t)lengths[i] * sizeof *a);
        }
    fixture_close(&f);
    fixture_close(&g);
}

static void test_setups(void **state)
{
    compare_setups(NULL, 2);
    compare_setups(NULL, 3);
    compare_setups("portable", 2);
    if (cpu_has("avx2")) compare_setups("avx2", 2);
    if (cpu_has("avx512")) compare_setups("avx512", 1);
}

static void expect_error(struct fixture *f, int32_t target, float temperature, const char *words)
{
    struct siren_forest *forest;
    struct siren_error err = {0};
    int32_t ids[2] = {1, 2};
    assert_int_equal(siren_forest_create(&forest, f->engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, 2, 0);
    siren_forest_want_logprob(forest, s, 1, target, temperature);
    assert_int_not_equal(siren_forest_plan(forest, &err), 0);
    if (!strstr(err.message, words)) fail_msg("\"%s\" lacks \"%s\"", err.message, words);
    siren_forest_free(forest);
}

static void test_errors(void **state)
{
    struct fixture f, encoder;
    fixture_open(&f, DECODER, NULL, 1);
    fixture_open(&encoder, "tests/fixtures/models/bert", NULL, 1);
    expect_error(&f, V, 1, "target 101");
    expect_error(&f, -1, 1, "target -1");
    expect_error(&f, 0, 0, "temperature 0");
    expect_error(&f, 0, NAN, "temperature");
    expect_error(&f, 0, INFINITY, "temperature");
    expect_error(&encoder, 0, 1, "no logits");
    fixture_close(&f);
    fixture_close(&encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),     cmocka_unit_test(test_entropy_ends),
        cmocka_unit_test(test_generation), cmocka_unit_test(test_setups),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
