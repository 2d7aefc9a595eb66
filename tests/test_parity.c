/* Parity with transformers in f32: hidden states of every layer and log-probabilities of tiny
 * random models (tests/reference/models.py), and SmolLM2 and MiniLM themselves where they are at
 * hand (tests/reference/smollm2.py, minilm.py). */
/* check: portable */
#include "engine_fixture.h"

#include <jansson.h>

/* expected.json names, for each sequence, ids, positions, and where in expected.f32 lie
 * hidden (n_layers + 1, positions, d_model), logprobs (positions, n_vocab) or, for an
 * encoder, pooled (d_model). */
struct expected {
    json_t *index;
    float *values;
    size_t n;
};

/* stem: the path of both files without .json and .f32 */
static void expected_open(struct expected *e, const char *stem)
{
    char path[512];
    snprintf(path, sizeof path, "%s.json", stem);
    json_error_t error;
    e->index = json_load_file(path, 0, &error);
    if (!e->index) fail_msg("%s: %s", path, error.text);
    snprintf(path, sizeof path, "%s.f32", stem);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    e->n = (size_t)ftell(file) / sizeof(float);
    rewind(file);
    e->values = malloc(e->n * sizeof(float));
    assert_int_equal(fread(e->values, sizeof(float), e->n, file), e->n);
    fclose(file);
}

static void expected_close(struct expected *e)
{
    json_decref(e->index);
    free(e->values);
}

static size_t number(const json_t *object, const char *key)
{
    return (size_t)json_integer_value(json_object_get(object, key));
}

static int32_t *integers(const json_t *array, size_t *n)
{
    *n = json_array_size(array);
    int32_t *out = calloc(*n, sizeof *out);
    for (size_t i = 0; i < *n; i++) out[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return out;
}

static void compare_sequence(struct fixture *f, const struct expected *e, const json_t *sequence,
                             double tolerance)
{
    const struct siren_config *c = siren_model_config(f->model);
    size_t n, n_positions, d = (size_t)c->d_model, V = (size_t)c->n_vocab;
    size_t L = (size_t)c->n_layers + 1;
    int32_t *ids = integers(json_object_get(sequence, "ids"), &n);
    int32_t *positions = integers(json_object_get(sequence, "positions"), &n_positions);
    const float *hidden = e->values + number(sequence, "hidden");
    const json_t *has_logprobs = json_object_get(sequence, "logprobs");
    const float *logprobs = has_logprobs ? e->values + number(sequence, "logprobs") : NULL;
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f->engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, n, 0),
        *out = calloc(n_positions, sizeof *out);
    for (size_t i = 0; i < n_positions; i++) {
        for (size_t l = 0; l < L; l++) {
            int o = siren_forest_want_hidden(forest, s, (size_t)positions[i], (int)l);
            if (l == 0) out[i] = o;
        }
        if (logprobs) siren_forest_want_logits(forest, s, (size_t)positions[i], NULL, 0);
    }
    fixture_run(forest);
    float *row = calloc(V, sizeof *row);
    for (size_t i = 0; i < n_positions; i++) {
        for (size_t l = 0; l < L; l++) {
            double off = worst(siren_forest_output(forest, out[i] + (int)l),
                               hidden + (l * n_positions + i) * d, d);
            if (!(off <= tolerance))
                fail_msg("%s, %zu tokens, position %d, layer %zu: off by %g",
                         siren_model_path(f->model), n, (int)positions[i], l, off);
        }
        if (!logprobs) continue;
        memcpy(row, siren_forest_output(forest, out[i] + (int)L), V * sizeof *row);
        to_logprobs(row, V);
        double off = worst(row, logprobs + i * V, V);
        if (!(off <= tolerance))
            fail_msg("%s, %zu tokens, position %d: log-probabilities off by %g",
                     siren_model_path(f->model), n, (int)positions[i], off);
    }
    const json_t *pooled = json_object_get(sequence, "pooled");
    if (pooled) {
        float *embedding = calloc(d, sizeof *embedding);
        struct siren_tokens text = {ids, n};
        assert_int_equal(siren_embed_many(f->engine, &text, 1, embedding, NULL, NULL), 0);
        float *expected = e->values + json_integer_value(pooled);
        double length = 0; /* a GGUF encoder scales to 1 what its folder may leave as it is */
        for (size_t i = 0; i < d; i++) length += (double)expected[i] * (double)expected[i];
        for (size_t i = 0; i < d && c->normalize; i++) expected[i] /= (float)sqrt(length);
        double off = worst(embedding, expected, d);
        if (!(off <= tolerance))
            fail_msg("%s, %zu tokens: embedding off by %g", siren_model_path(f->model), n, off);
        free(embedding);
    }
    free(row);
    free(out);
    free(ids);
    free(positions);
    siren_forest_free(forest);
}

static void compare_model(const char *model, const char *stem)
{
    struct fixture f;
    struct expected e;
    fixture_open(&f, model, NULL, 2);
    expected_open(&e, stem);
    const json_t *sequences = json_object_get(e.index, "sequences");
    assert_true(json_array_size(sequences) > 1);
    for (size_t i = 0; i < json_array_size(sequences); i++)
        compare_sequence(&f, &e, json_array_get(sequences, i), 1e-4);
    expected_close(&e);
    fixture_close(&f);
}

#define MODELS "tests/fixtures/models/"
#define PARITY(name)                                                                               \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        compare_model(MODELS #name, MODELS #name "/expected");                                     \
    }
PARITY(llama)
PARITY(smol)
PARITY(linear)
PARITY(llama3)
PARITY(yarn)
PARITY(qwen2)
PARITY(qwen3)
PARITY(bert)
PARITY(xlmr)

/* The same through GGUF: rows of q and k (and their biases) reordered by its converter, quantised
 * blocks. */
static void test_gguf(void **state)
{
    static const char *const names[] = {"llama3",    "llama-bias", "qwen3",     "kquants",
                                        "smol-bf16", "smol-q4_0",  "smol-q4_1", "smol-q5_0",
                                        "smol-q5_1", "smol-q8_0"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char model[256], stem[256];
        snprintf(model, sizeof model, MODELS "gguf/%s.gguf", names[i]);
        snprintf(stem, sizeof stem, MODELS "gguf/%s", names[i]);
        compare_model(model, stem);
    }
}

/* Encoders through GGUF: the outputs of the folders that they were made from. */
static void test_gguf_encoders(void **state)
{
    compare_model(MODELS "gguf/bert.gguf", MODELS "bert/expected");
    compare_model(MODELS "gguf/xlmr.gguf", MODELS "xlmr/expected");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),         cmocka_unit_test(test_smol),
        cmocka_unit_test(test_linear),        cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_yarn),          cmocka_unit_test(test_qwen2),
        cmocka_unit_test(test_qwen3),         cmocka_unit_test(test_bert),
        cmocka_unit_test(test_xlmr),          cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_gguf_encoders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
