/* LoRA in the forward pass: the numbers of PEFT; the same bits alone and beside other adapters,
 * in wide and narrow passes, after kept prefixes, with any number of threads and any instruction
 * set; and what is refused. */
/* check: portable */
#include "adapter_fixture.h"

#include <jansson.h>

#include "model/backward.h"

#define DECODER "tests/fixtures/models/llama"
enum { N = 75 };

/* ---- PEFT (tests/reference/lora.py) ---- */

static json_t *json_open(const char *format, const char *name)
{
    char path[256];
    json_error_t error;
    snprintf(path, sizeof path, format, name);
    json_t *j = json_load_file(path, 0, &error);
    if (!j) fail_msg("%s: %s", path, error.text);
    return j;
}

static struct siren_adapter *peft_adapter(const struct siren_model *model, const char *name)
{
    json_t *j = json_open("tests/fixtures/adapters/%s-factors.json", name);
    int r = (int)json_integer_value(json_object_get(j, "r"));
    double alpha = json_number_value(json_object_get(j, "alpha"));
    int rslora = json_is_true(json_object_get(j, "rslora"));
    json_decref(j);
    struct siren_adapter *a = adapter_make(model, ALL_TARGETS, 0, r, 1);
    size_t n_values;
    float *values = floats_open(name, "factors", &n_values), *at = values;
    for (int i = 0; i < a->n_layers * SIREN_LORA_TARGETS; i++) {
        struct lora_factors *f = &a->factors[i];
        memcpy(f->a, at, (size_t)(r * f->in) * sizeof *at);
        at += r * f->in;
        memcpy(f->b, at, (size_t)(r * f->out) * sizeof *at);
        at += r * f->out;
    }
    free(values);
    a->scale = (float)(alpha / (rslora ? sqrt(r) : r));
    siren_adapter_changed(a);
    return a;
}

static void compare_position(const struct siren_forest *forest, const int *out, const float *hidden,
                             size_t stride, const float *logprobs, const struct siren_config *c)
{
    size_t d = (size_t)c->d_model, V = (size_t)c->n_vocab;
    float *row = calloc(V, sizeof *row);
    for (int l = 0; l <= c->n_layers; l++)
        assert_true(worst(siren_forest_output(forest, out[l]), hidden + (size_t)l * stride, d) <=
                    1e-4);
    memcpy(row, siren_forest_output(forest, out[c->n_layers + 1]), V * sizeof *row);
    to_logprobs(row, V);
    assert_true(worst(row, logprobs, V) <= 1e-4);
    free(row);
}

static void compare_sequence(struct fixture *f, const struct siren_adapter *adapter,
                             const json_t *sequence, const float *values)
{
    const struct siren_config *c = siren_model_config(f->model);
    const json_t *list = json_object_get(sequence, "ids"), *at;
    int32_t ids[128];
    size_t n = json_array_size(list), d = (size_t)c->d_model;
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    at = json_object_get(sequence, "positions");
    size_t n_positions = json_array_size(at);
    int out[8][8];
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f->engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, n, 0);
    assert_int_equal(siren_forest_use_adapter(forest, s, adapter), 0);
    for (size_t i = 0; i < n_positions; i++) {
        size_t p = (size_t)json_integer_value(json_array_get(at, i));
        for (int l = 0; l <= c->n_layers; l++)
            out[i][l] = siren_forest_want_hidden(forest, s, p, l);
        out[i][c->n_layers + 1] = siren_forest_want_logits(forest, s, p, NULL, 0);
    }
    fixture_run(forest);
    const float *hidden = values + json_integer_value(json_object_get(sequence, "hidden"));
    const float *logprobs = values + json_integer_value(json_object_get(sequence, "logprobs"));
    for (size_t i = 0; i < n_positions; i++)
        compare_position(forest, out[i], hidden + i * d, n_positions * d,
                         logprobs + i * (size_t)c->n_vocab, c);
    siren_forest_free(forest);
}

static void compare_all(struct fixture *f, const struct siren_adapter *a, const char *name,
                        size_t expected)
{
    char index_path[96], values_path[96];
    snprintf(index_path, sizeof index_path, "tests/fixtures/adapters/%s.json", name);
    snprintf(values_path, sizeof values_path, "tests/fixtures/adapters/%s.f32", name);
    json_t *index = json_open("%s", index_path);
    size_t n_values;
    float *values = floats_read(values_path, &n_values);
    const json_t *sequences = json_object_get(index, "sequences");
    assert_int_equal(json_array_size(sequences), expected);
    for (size_t i = 0; i < expected; i++)
        compare_sequence(f, a, json_array_get(sequences, i), values);
    free(values);
    json_decref(index);
}

static void test_peft(void **state)
{
    static const char *const names[] = {"llama", "qwen2", "qwen3"};
    for (int m = 0; m < 3; m++) {
        char path[64];
        struct fixture f;
        snprintf(path, sizeof path, "tests/fixtures/models/%s", names[m]);
        fixture_open(&f, path, NULL, 2);
        struct siren_adapter *a = peft_adapter(f.model, names[m]);
        compare_all(&f, a, names[m], 4);
        adapter_drop(a);
        fixture_close(&f);
    }
}

/* Folders that PEFT has saved, loaded as they are (tests/reference/adapter_peft.py). */
static void test_files_of_peft(void **state)
{
    static const char *const names[] = {"llama", "qwen3"};
    for (int m = 0; m < 2; m++) {
        char base[64], folder[64], expected[64];
        struct fixture f;
        struct siren_adapter *a;
        struct siren_error err;
        snprintf(base, sizeof base, "tests/fixtures/models/%s", names[m]);
        snprintf(folder, sizeof folder, "tests/fixtures/adapters/peft-%s", names[m]);
        snprintf(expected, sizeof expected, "peft-%s/expected", names[m]);
        fixture_open(&f, base, NULL, 2);
        if (siren_adapter_load(&a, folder, f.model, &err)) fail_msg("%s", err.message);
        compare_all(&f, a, expected, 3);
        siren_adapter_free(a);
        fixture_close(&f);
    }
}

/* ---- the same bits ---- */

/* Logits of every token of one sequence, run alone. */
static float *alone(struct fixture *f, const struct siren_adapter *a, const int32_t *ids, size_t n)
{
    size_t V = (size_t)siren_model_config(f->model)->n_vocab;
    float *logits = calloc(n * V, sizeof *logits);
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f->engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, n, 0), out[N];
    siren_forest_use_adapter(forest, s, a);
    for (size_t i = 0; i < n; i++) out[i] = siren_forest_want_logits(forest, s, i, NULL, 0);
    fixture_run(forest);
    for (size_t i = 0; i < n; i++)
        memcpy(logits + i * V, siren_forest_output(forest, out[i]), V * sizeof *logits);
    siren_forest_free(forest);
    return logits;
}

static void expect_row(const struct siren_forest *forest, int out, const float *logits, size_t row)
{
    size_t V = 101; /* DECODER's vocabulary */
    assert_memory_equal(siren_forest_output(forest, out), logits + row * V, V * sizeof(float));
}

/* Several adapters, and none, in one pass, prefixes shared within a root; wide, and narrow with a
 * row of each in turn. */
static void test_several(void **state)
{
    enum { ADAPTERS = 4 };
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct siren_adapter *a[ADAPTERS] = {
        NULL, adapter_make(f.model, ALL_TARGETS, 0, 4, 5),
        adapter_make(f.model, 1 << SIREN_LORA_K | 1 << SIREN_LORA_V, 0, 8, 6),
        adapter_make(f.model, 1 << SIREN_LORA_UP | 1 << SIREN_LORA_O, 1, 17, 7)};
    static const size_t lengths[] = {2, 7, 70};
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    for (size_t k = 0; k < 3; k++) {
        size_t n = lengths[k], cut = n / 2;
        int32_t ids[N];
        int out[ADAPTERS];
        float *expected[ADAPTERS];
        fixture_ids(&f, k, ids, n);
        siren_forest_clear(forest);
        for (int i = 0; i < ADAPTERS; i++) {
            expected[i] = alone(&f, a[i], ids, n);
            if (i) assert_memory_not_equal(expected[i], expected[i - 1], n * 101 * sizeof(float));
            int root = siren_forest_add(forest, SIREN_ROOT, ids, cut, 0);
            siren_forest_use_adapter(forest, root, a[i]);
            siren_forest_add(forest, root, ids, 1, 0);
            int s = siren_forest_add(forest, root, ids + cut, n - cut, 0);
            out[i] = siren_forest_want_logits(forest, s, n - cut - 1, NULL, 0);
        }
        fixture_run(forest);
        for (int i = 0; i < ADAPTERS; i++) {
            expect_row(forest, out[i], expected[i], n - 1);
            free(expected[i]);
        }
    }
    siren_forest_free(forest);
    for (int i = 1; i < ADAPTERS; i++) adapter_drop(a[i]);
    fixture_close(&f);
}

/* A prefix kept in one pass, then grown token by token. */
static void test_kept(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct siren_adapter *a = adapter_make(f.model, ALL_TARGETS, 0, 4, 5);
    int32_t ids[N];
    fixture_ids(&f, 1, ids, N);
    float *expected = alone(&f, a, ids, N);
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, 40, SIREN_KEEP);
    siren_forest_use_adapter(forest, s, a);
    fixture_run(forest);
    struct siren_kept *prefix = siren_forest_take(forest, s), *kept = siren_kept_ref(prefix);
    for (size_t i = 40; i < N; i++) {
        siren_forest_clear(forest);
        int root = siren_forest_add_kept(forest, kept);
        siren_forest_use_adapter(forest, root, a);
        s = siren_forest_add(forest, root, ids + i, 1, i == 40 ? SIREN_KEEP : SIREN_EXTEND);
        int out = siren_forest_want_logits(forest, s, 0, NULL, 0);
        fixture_run(forest);
        expect_row(forest, out, expected, i);
        if (i > 40) continue;
        siren_kept_unref(kept);
        kept = siren_forest_take(forest, s);
    }
    siren_forest_free(forest);
    siren_kept_unref(kept);
    siren_kept_unref(prefix);
    free(expected);
    adapter_drop(a);
    fixture_close(&f);
}

static void compare_setups(const char *isa, int threads)
{
    struct fixture f, g;
    fixture_open(&f, DECODER, isa ? "portable" : NULL, 1);
    fixture_open(&g, DECODER, isa, threads);
    for (size_t n = 4; n <= N; n += n < 30 ? 26 : N - 30) { /* narrow, narrow, wide */
        int32_t ids[N];
        struct siren_adapter *a = adapter_make(f.model, ALL_TARGETS, 0, 4, 5);
        struct siren_adapter *b = adapter_make(g.model, ALL_TARGETS, 0, 4, 5);
        fixture_ids(&f, 5, ids, n);
        float *x = alone(&f, a, ids, n), *y = alone(&g, b, ids, n);
        assert_memory_equal(x, y, n * 101 * sizeof *x);
        free(x);
        free(y);
        adapter_drop(a);
        adapter_drop(b);
    }
    fixture_close(&f);
    fixture_close(&g);
}

static void test_threads(void **state)
{
    compare_setups(NULL, 2);
    compare_setups(NULL, 3);
}

static void test_isas(void **state)
{
    compare_setups("portable", 2);
    if (cpu_has("avx2")) compare_setups("avx2", 2);
    if (cpu_has("avx512")) compare_setups("avx512", 1);
}

/* The gated product in two steps has the bits of the fused one. */
static void test_swiglu(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 1);
    const struct packed *w = &f.model->layers[0].ffn_in;
    int d = f.model->config.d_model, pairs = w->n_panels / 2;
    float *x = calloc((size_t)(20 * d), sizeof *x), *scratch = calloc(gemm_scratch(w), sizeof *x);
    float *gates = calloc((size_t)(20 * 32 * pairs), sizeof *x);
    float *h = calloc((size_t)(40 * 16 * pairs), sizeof *x), *two = h + 20 * 16 * pairs;
    random_values(x, 20 * d, 3, 3);
    for (int isa = 0; isa < ISA_COUNT; isa++) {
        const struct kernels *k = kernels_select((enum isa)isa, NULL);
        if (!k) continue;
        size_t F = (size_t)(16 * pairs);
        k->gemm_swiglu(x, (size_t)d, 20, w, 0, pairs, h, F, NULL, 0, scratch);
        k->gemm(x, (size_t)d, 20, w, 0, 2 * pairs, NULL, gates, 2 * F, 0, scratch);
        k->swiglu(gates, 2 * F, 20, pairs, two, F);
        assert_memory_equal(h, two, 20 * F * sizeof *h);
    }
    free(h);
    free(gates);
    free(scratch);
    free(x);
    fixture_close(&f);
}

/* ---- dropout ---- */

/* Each of what a mask is drawn by makes it another one: else all layers, or all steps, would drop
 * the same. */
static void test_dropout_masks(void **state)
{
    enum { WIDTH = 256 };
    static const struct {
        uint64_t step, seed;
        int layer;
        enum lora_group group;
        int row;
    } cases[] = {{5, 1, 0, LORA_ATTENTION_INPUT, 0}, {6, 1, 0, LORA_ATTENTION_INPUT, 0},
                 {5, 2, 0, LORA_ATTENTION_INPUT, 0}, {5, 1, 1, LORA_ATTENTION_INPUT, 0},
                 {5, 1, 0, LORA_FFN_INPUT, 0},       {5, 1, 0, LORA_ATTENTION_INPUT, 1}};
    enum { CASES = sizeof cases / sizeof *cases };
    float x[WIDTH], masks[CASES][WIDTH];
    struct siren_forest *forest;
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 1);
    struct siren_adapter *a = adapter_make(f.model, ALL_TARGETS, 0, 4, 5);
    a->config.dropout = 0.25f;
    for (int i = 0; i < WIDTH; i++) x[i] = 1;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    for (int i = 0; i < CASES; i++) {
        int dropped = 0;
        a->config.seed = cases[i].seed;
        forest->training = (struct siren_training){.dropout = 1, .dropout_step = cases[i].step};
        lora_drop(forest, a, cases[i].layer, cases[i].group, cases[i].row, x, masks[i], WIDTH);
        for (int k = 0; k < WIDTH; k++) {
            dropped += masks[i][k] == 0;
            assert_true(masks[i][k] == 0 || masks[i][k] == 1 / 0.75f); /* the mean stays */
        }
        assert_in_range(dropped, WIDTH / 8, 3 * WIDTH / 8);
        for (int k = 0; k < i; k++) assert_memory_not_equal(masks[i], masks[k], sizeof masks[i]);
    }
    siren_forest_free(forest);
    adapter_drop(a);
    fixture_close(&f);
}

/* ---- sessions ---- */

static double score_of(struct siren_session *session, const int32_t *ids, size_t n, size_t *cached)
{
    static const int32_t ending[] = {12, 40, 15};
    struct siren_tokens continuation = {ending, 3};
    double logprob;
    struct siren_score score = {.prompt = {ids, n},
                                .continuations = &continuation,
                                .n_continuations = 1,
                                .keep_prefix = n - 3,
                                .logprobs = &logprob};
    struct siren_error err;
    if (siren_score_many(session, &score, 1, NULL, &err)) fail_msg("%s", err.message);
    *cached = score.tokens_cached;
    return logprob;
}

/* Adapters take turns; each finds its own prefixes again, and none another's or its own old ones.
 */
static void test_session(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct siren_adapter *a = adapter_make(f.model, ALL_TARGETS, 0, 4, 5);
    struct siren_adapter *b = adapter_make(f.model, 1 << SIREN_LORA_V, 0, 2, 6);
    const struct siren_adapter *turns[] = {NULL, a, b};
    struct siren_session *session;
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    int32_t ids[N];
    double first[3];
    size_t cached;
    fixture_ids(&f, 1, ids, N);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 3; i++) {
            siren_session_use_adapter(session, turns[i]);
            double score = score_of(session, ids, N, &cached);
            if (round == 0) first[i] = score;
            assert_memory_equal(&score, &first[i], sizeof score);
            assert_int_equal(cached > 0, round);
        }
    assert_true(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
    siren_session_use_adapter(session, a);
    a->factors[0].b[0] += 1;
    siren_adapter_changed(a);
    double score = score_of(session, ids, N, &cached);
    assert_int_equal(cached, 0);
    assert_true(score != first[1]);
    siren_session_free(session);
    adapter_drop(a);
    adapter_drop(b);
    fixture_close(&f);
}

/* Nothing of an adapter stays: neither in the weights, nor in what a session has in its cache. */
static void test_the_base_after_an_adapter(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct siren_session *session;
    int32_t ids[N];
    size_t cached;
    fixture_ids(&f, 1, ids, N);
    float *before = alone(&f, NULL, ids, N);
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    double base = score_of(session, ids, N, &cached);
    siren_session_free(session);
    struct siren_adapter *a = adapter_make(f.model, ALL_TARGETS, 0, 4, 5);
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    siren_session_use_adapter(session, a);
    assert_true(score_of(session, ids, N, &cached) != base);
    siren_session_use_adapter(session, NULL);
    double after = score_of(session, ids, N, &cached);
    assert_memory_equal(&after, &base, sizeof base);
    assert_int_equal(cached, 0);
    float *other = alone(&f, a, ids, N);
    assert_memory_not_equal(other, before, N * 101 * sizeof *before);
    siren_session_free(session);
    adapter_drop(a);
    float *without = alone(&f, NULL, ids, N);
    assert_memory_equal(without, before, N * 101 * sizeof *before);
    free(before), free(other), free(without);
    fixture_close(&f);
}

/* A rollout's log-probabilities are those of a pass over the text it wrote. */
static void test_generation(void **state)
{
    enum { LENGTH = 12 };
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct siren_adapter *a = adapter_make(f.model, ALL_TARGETS, 0, 4, 5);
    int32_t ids[40 + LENGTH];
    fixture_ids(&f, 1, ids, 40);
    struct siren_session *session;
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    siren_session_use_adapter(session, a);
    struct siren_generation g[2] = {{.prompt = {ids, 40}, .sequence = 0},
                                    {.prompt = {ids, 40}, .sequence = 1}};
    struct siren_sampling sampling = {
        .temperature = 1, .top_p = 1, .max_tokens = LENGTH, .seed = 9};
    struct siren_error err;
    if (siren_generate_many(session, g, 2, &sampling, 0, NULL, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(g[i].n_ids, LENGTH);
        memcpy(ids + 40, g[i].ids, LENGTH * sizeof *ids);
        float *logits = alone(&f, a, ids, 39 + LENGTH);
        for (size_t j = 0; j < LENGTH; j++) {
            const float *row = logits + (39 + j) * 101;
            const struct kernels *k = kernels_select(isa_best(), NULL);
            float logprob = row[g[i].ids[j]] - k->logsumexp(row, 101);
            assert_memory_equal(&logprob, &g[i].logprobs[j], sizeof logprob);
        }
        free(logits);
        siren_generation_clear(&g[i]);
    }
    siren_session_free(session);
    adapter_drop(a);
    fixture_close(&f);
}

/* ---- what is refused ---- */

static void continue_kept(struct siren_forest *forest, struct siren_kept *kept,
                          const struct siren_adapter *adapter, const char *words)
{
    int32_t id = 1;
    int root = siren_forest_add_kept(forest, kept);
    siren_forest_add(forest, root, &id, 1, 0);
    siren_forest_use_adapter(forest, root, adapter);
    expect_refusal(forest, words);
}

/* A pass that was planned before its adapter was chosen, or got other values: what it keeps is of
 * the adapter that it ran with. */
static void test_kept_is_of_the_run(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 1);
    struct siren_adapter *a = adapter_make(f.model, ALL_TARGETS, 0, 4, 5);
    int32_t ids[4] = {1, 2, 3, 4};
    struct siren_forest *forest, *next;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    assert_int_equal(siren_forest_create(&next, f.engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, 4, SIREN_KEEP);
    assert_int_equal(siren_forest_plan(forest, &f.err), 0);
    siren_forest_use_adapter(forest, s, a);
    assert_int_equal(siren_forest_plan(forest, &f.err), 0);
    siren_adapter_changed(a);
    fixture_run(forest);
    struct siren_kept *kept = siren_forest_take(forest, s);
    continue_kept(next, kept, NULL, "used without");
    int root = siren_forest_add_kept(next, kept);
    siren_forest_add(next, root, ids, 1, 0);
    siren_forest_use_adapter(next, root, a);
    fixture_run(next);
    siren_kept_unref(kept);
    siren_forest_free(next);
    siren_forest_free(forest);
    adapter_drop(a);
    fixture_close(&f);
}

static void test_errors(void **state)
{
    struct fixture f, other, encoder;
    fixture_open(&f, DECODER, NULL, 1);
    fixture_open(&other, DECODER, NULL, 1);
    fixture_open(&encoder, "tests/fixtures/models/bert", NULL, 1);
    struct siren_adapter *a = adapter_make(f.model, ALL_TARGETS, 0, 4, 5);
    struct siren_adapter *b = adapter_make(f.model, ALL_TARGETS, 0, 4, 5);
    struct siren_adapter *foreign = adapter_make(other.model, ALL_TARGETS, 0, 4, 5);
    int32_t ids[4] = {1, 2, 3, 4};
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    assert_int_equal(siren_forest_use_adapter(forest, 0, a), SIREN_EINVAL);
    assert_int_equal(siren_forest_use_adapter(forest, -1, a), SIREN_EINVAL);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, 4, 0);
    siren_forest_use_adapter(forest, s, foreign);
    expect_refusal(forest, "another model");
    s = siren_forest_add(forest, siren_forest_add(forest, SIREN_ROOT, ids, 4, 0), ids, 2, 0);
    siren_forest_use_adapter(forest, s, a);
    expect_refusal(forest, "at a root");
    for (int with = 0; with < 2; with++) {
        s = siren_forest_add(forest, SIREN_ROOT, ids, 4, SIREN_KEEP);
        siren_forest_use_adapter(forest, s, with ? a : NULL);
        fixture_run(forest);
        struct siren_kept *kept = siren_forest_take(forest, s);
        siren_forest_clear(forest);
        if (with) {
            continue_kept(forest, kept, NULL, "used without");
            continue_kept(forest, kept, b, "another adapter");
            siren_adapter_changed(a);
            continue_kept(forest, kept, a, "other values");
        } else {
            continue_kept(forest, kept, a, "without an adapter");
        }
        siren_kept_unref(kept);
    }
    siren_forest_free(forest);
    assert_int_equal(siren_forest_create(&forest, encoder.engine, NULL), 0);
    foreign->model = encoder.model;
    siren_forest_use_adapter(forest, siren_forest_add(forest, SIREN_ROOT, ids, 4, 0), foreign);
    expect_refusal(forest, "encoder");
    siren_forest_free(forest);
    adapter_drop(a);
    adapter_drop(b);
    adapter_drop(foreign);
    fixture_close(&f);
    fixture_close(&other);
    fixture_close(&encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peft),       cmocka_unit_test(test_files_of_peft),
        cmocka_unit_test(test_several),    cmocka_unit_test(test_kept),
        cmocka_unit_test(test_threads),    cmocka_unit_test(test_isas),
        cmocka_unit_test(test_swiglu),     cmocka_unit_test(test_dropout_masks),
        cmocka_unit_test(test_session),    cmocka_unit_test(test_the_base_after_an_adapter),
        cmocka_unit_test(test_generation), cmocka_unit_test(test_kept_is_of_the_run),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
