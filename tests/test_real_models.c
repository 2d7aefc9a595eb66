/* The real models against transformers and sentence-transformers: SmolLM2 on 20 real prompts
 * (tests/reference/smollm2.py; needs SIREN_MODELS and SIREN_DATA) and 200 more in float64
 * (tests/reference/precision.py), gradients of an adapter and of its weights against PyTorch's
 * autograd on three (smollm2_gradients.py), and MiniLM on 50 sentences (minilm.py; needs
 * SIREN_MODELS). */
/* check: native: all of it needs real models */
#include "engine_fixture.h"

#include <jansson.h>

#include "siren/adapter.h"
#include "siren/file.h"
#include "siren/losses.h"
#include "siren/optimizer.h"
#include "siren/tokenizer.h"

#define FIXTURES "tests/fixtures/models/real/"

static const char *model_path(const char *name, char path[512])
{
    const char *models = getenv("SIREN_MODELS");
    if (!models || !*models) return NULL;
    snprintf(path, 512, "%s/%s", models, name);
    FILE *file = fopen(path, "r");
    if (!file) return NULL;
    fclose(file);
    return path;
}

static json_t *load_json(const char *path)
{
    json_error_t error;
    json_t *o = json_load_file(path, 0, &error);
    if (!o) fail_msg("%s: %s", path, error.text);
    return o;
}

/* ---- SmolLM2 ---- */

struct lines {
    char **text;
    size_t n;
};

static struct lines read_lines(const char *path)
{
    struct lines l = {0};
    struct siren_lines *in;
    struct siren_error err;
    char *text;
    size_t length;
    if (siren_lines_open(&in, path, SIREN_UTF8, &err)) fail_msg("%s", err.message);
    while (siren_lines_next(in, &text, &length, &err) == 1) {
        l.text = realloc(l.text, (l.n + 1) * sizeof *l.text);
        l.text[l.n++] = strdup(text);
    }
    siren_lines_close(in);
    return l;
}

/* "Past ratings …" + the last `keep` lines of the history + the candidate. */
static char *make_prompt(const char *row, size_t keep)
{
    json_t *o = json_loads(row, 0, NULL);
    char *history = strdup(json_string_value(json_object_get(o, "history")));
    const char *target = json_string_value(json_object_get(o, "target"));
    const char *kept[4096];
    size_t n = 0;
    for (char *save, *line = strtok_r(history, "\n", &save); line && n < 4096;
         line = strtok_r(NULL, "\n", &save))
        kept[n++] = line;
    size_t size = strlen(row) + 128;
    char *prompt = malloc(size);
    size_t used = (size_t)snprintf(prompt, size, "Past ratings of the user:\n");
    for (size_t i = n > keep ? n - keep : 0; i < n; i++)
        used +=
            (size_t)snprintf(prompt + used, size - used, "%s%s", kept[i], i + 1 < n ? "\n" : "");
    snprintf(prompt + used, size - used, "\nCandidate: %s\nRating from 1 to 5: ", target);
    free(history);
    json_decref(o);
    return prompt;
}

static uint64_t hash_ids(const int32_t *ids, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        for (int b = 0; b < 4; b++) {
            h ^= (uint32_t)ids[i] >> (8 * b) & 0xff;
            h *= 0x100000001b3u;
        }
    return h;
}

static double logprob(const float *x, size_t n, int32_t id)
{
    double most = x[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > most) most = x[i];
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - most);
    return (double)x[id] - most - log(sum);
}

/* Worst difference of the stars' and the ten best tokens' log-probabilities. */
static double compare_prompt(struct fixture *f, const struct siren_tokenizer *t, const json_t *want,
                             const char *row)
{
    struct siren_error err;
    int32_t *ids;
    size_t n, V = (size_t)siren_model_config(f->model)->n_vocab;
    char *text = make_prompt(row, (size_t)json_integer_value(json_object_get(want, "lines")));
    if (siren_tokenizer_encode(t, text, strlen(text), 0, &ids, &n, &err))
        fail_msg("%s", err.message);
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash_ids(ids, n));
    assert_int_equal(n, json_integer_value(json_object_get(want, "tokens")));
    assert_string_equal(hash, json_string_value(json_object_get(want, "hash")));
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f->engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, n, 0);
    int out = siren_forest_want_logits(forest, s, n - 1, NULL, 0);
    fixture_run(forest);
    const float *x = siren_forest_output(forest, out);
    double worst = 0;
    static const char *const stars[] = {"1", "2", "3", "4", "5"};
    for (size_t i = 0; i < 5; i++) {
        double expected = json_real_value(json_array_get(json_object_get(want, "stars"), i));
        worst = fmax(worst, fabs(logprob(x, V, siren_tokenizer_id(t, stars[i])) - expected));
    }
    const json_t *top = json_object_get(want, "top");
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *pair = json_array_get(top, i);
        double expected = json_real_value(json_array_get(pair, 1));
        int32_t id = (int32_t)json_integer_value(json_array_get(pair, 0));
        worst = fmax(worst, fabs(logprob(x, V, id) - expected));
    }
    siren_forest_free(forest);
    free(ids);
    free(text);
    return worst;
}

/* SmolLM2 in one mode, and the rows that a fixture's prompts are made from. */
struct smollm2 {
    struct fixture f;
    struct siren_tokenizer *tokenizer;
    struct lines rows;
    json_t *fixture;
    const json_t *prompts;
};

/* what: weights to be trained, or NULL. */
static void smollm2_open(struct smollm2 *s, const char *compute, const char *split,
                         const char *fixture, const struct siren_trainable *what)
{
    char path[512], data[512];
    const char *folder = getenv("SIREN_DATA");
    if (!folder || !model_path("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf", path)) {
        print_message("skipped: SmolLM2 or SIREN_DATA is not at hand\n");
        skip();
    }
    fixture_open_trainable(&s->f, path, NULL, compute, 0, what);
    if (siren_tokenizer_load(&s->tokenizer, path, &s->f.err)) fail_msg("%s", s->f.err.message);
    snprintf(data, sizeof data, "%s/movies/%s.jsonl.gz", folder, split);
    s->rows = read_lines(data);
    s->fixture = load_json(fixture);
    s->prompts = json_object_get(s->fixture, "prompts");
}

static void smollm2_close(struct smollm2 *s)
{
    json_decref(s->fixture);
    for (size_t i = 0; i < s->rows.n; i++) free(s->rows.text[i]);
    free(s->rows.text);
    siren_tokenizer_free(s->tokenizer);
    fixture_close(&s->f);
}

/* Over every so many prompts; their root mean square, too. */
static double smollm2_worst(struct smollm2 *s, size_t every, double *rms)
{
    double worst = 0, squares = 0;
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(s->prompts); i += every) {
        const json_t *p = json_array_get(s->prompts, i);
        size_t row = (size_t)json_integer_value(json_object_get(p, "row"));
        assert_true(row < s->rows.n);
        double error = compare_prompt(&s->f, s->tokenizer, p, s->rows.text[row]);
        worst = fmax(worst, error);
        squares += error * error;
        n++;
    }
    *rms = sqrt(squares / (double)n);
    return worst;
}

static void test_smollm2(void **state)
{
    struct smollm2 s;
    smollm2_open(&s, NULL, "test", FIXTURES "smollm2.json", NULL);
    assert_int_equal(json_array_size(s.prompts), 20);
    double rms, worst = smollm2_worst(&s, 1, &rms);
    print_message("worst difference of a log-probability on 20 prompts: %.2g\n", worst);
    assert_true(worst <= 1e-3);
    smollm2_close(&s);
}

/* Each mode's error against arithmetic in float64 (tests/reference/precision.py): of 200 prompts,
 * or of every tenth without SIREN_SLOW.  The worst of some 3,000 differences is a draw, which more
 * exact products may make worse (docs/performance.md); their root mean square is not. */
static void check_precision(const char *compute, double bound, double rms_bound)
{
    struct smollm2 s;
    smollm2_open(&s, compute, "valid", FIXTURES "precision.json", NULL);
    assert_int_equal(json_array_size(s.prompts), 200);
    size_t every = getenv("SIREN_SLOW") ? 1 : 10;
    double rms, worst = smollm2_worst(&s, every, &rms);
    print_message(
        "mode %s: worst error of a log-probability on %zu prompts: %.2g; root mean square "
        "of each prompt's worst: %.2g\n",
        compute, 200 / every, worst, rms);
    assert_true(rms <= rms_bound);
    assert_true(worst <= bound);
    smollm2_close(&s);
}

static void test_precision_f32(void **state)
{
    check_precision("f32", 1e-3, 1e-4);
}

static void test_precision_bf16(void **state)
{
    check_precision("bf16", 5e-2, 2.5e-2);
}

/* Real weights, too: alone, in a batch, after a cached prefix, with 1, 2, 3 threads. */
static void test_smollm2_bits(void **state)
{
    char path[512];
    if (!model_path("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf", path)) {
        print_message("skipped: SmolLM2 is not at hand\n");
        skip();
    }
    enum { PROMPTS = 4, SHARED = 70, TAIL = 25 };
    double all[4][PROMPTS][2];
    for (int way = 0; way < 4; way++) {
        struct fixture f;
        fixture_open(&f, path, NULL, way == 3 ? 3 : way == 2 ? 1 : 2);
        int32_t ids[PROMPTS][SHARED + TAIL], labels[2] = {33, 34};
        struct siren_tokens continuations[2] = {{&labels[0], 1}, {&labels[1], 1}};
        struct siren_score scores[PROMPTS];
        for (int i = 0; i < PROMPTS; i++) {
            fixture_ids(&f, 1, ids[i], SHARED);
            fixture_ids(&f, 2 + (uint64_t)i, ids[i] + SHARED, TAIL);
            scores[i] = (struct siren_score){.prompt = {ids[i], SHARED + TAIL},
                                             .continuations = continuations,
                                             .n_continuations = 2,
                                             .keep_prefix = SHARED,
                                             .logprobs = all[way][i]};
        }
        struct siren_session *session;
        assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
        if (way == 0)
            for (int i = 0; i < PROMPTS; i++) {
                assert_int_equal(siren_score_many(session, &scores[i], 1, NULL, NULL), 0);
                siren_session_drop_cache(session);
            }
        else if (way == 1) /* one after the other: all but the first find the prefix kept */
            for (int i = 0; i < PROMPTS; i++) {
                assert_int_equal(siren_score_many(session, &scores[i], 1, NULL, NULL), 0);
                assert_int_equal(scores[i].tokens_cached, i ? SHARED : 0);
            }
        else
            assert_int_equal(siren_score_many(session, scores, PROMPTS, NULL, NULL), 0);
        siren_session_free(session);
        fixture_close(&f);
    }
    for (int way = 1; way < 4; way++) assert_memory_equal(all[way], all[0], sizeof all[0]);
}

/* ---- gradients ---- */

/* The adapter of smollm2_gradients.py. */
static struct siren_adapter *made_adapter(struct fixture *f)
{
    struct siren_adapter_config config = {.targets = (1u << SIREN_LORA_TARGETS) - 1,
                                          .last_layer = siren_model_config(f->model)->n_layers - 1,
                                          .r = 8,
                                          .alpha = 16};
    struct siren_adapter *a;
    if (siren_adapter_create(&a, f->model, &config, &f->err) || siren_adapter_trainable(a, &f->err))
        fail_msg("%s", f->err.message);
    struct siren_params params = siren_adapter_params(a);
    for (size_t i = 0; i < params.n; i++)
        for (int j = 0; j < params.list[i].rows * params.list[i].columns; j++)
            params.list[i].value[j] = (float)(cos(0.37 * j + (double)i) / 50);
    siren_adapter_changed(a);
    return a;
}

/* Adds prompt p's part of the gradient of the loss, with an adapter or (NULL) without; returns its
 * part of the loss. */
static double prompt_gradient(struct fixture *f, const struct siren_tokenizer *t,
                              struct siren_adapter *a, const json_t *want, const char *row, int p)
{
    char *text = make_prompt(row, (size_t)json_integer_value(json_object_get(want, "lines")));
    int32_t *ids, stars[5];
    size_t n;
    if (siren_tokenizer_encode(t, text, strlen(text), 0, &ids, &n, &f->err))
        fail_msg("%s", f->err.message);
    for (int i = 0; i < 5; i++) stars[i] = siren_tokenizer_id(t, (char[]){(char)('1' + i), 0});
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f->engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, n, 0);
    if (a) siren_forest_use_adapter(forest, s, a);
    int out = siren_forest_want_logits(forest, s, n - 1, stars, 5);
    siren_forest_record(forest, &(struct siren_training){.memory_bytes = p ? 0 : 1});
    fixture_run(forest);
    double scores[5], gradient[5];
    for (int i = 0; i < 5; i++) scores[i] = (double)siren_forest_output(forest, out)[i];
    double loss =
        siren_rating_loss(&(struct siren_rating_loss){.ce = 1}, 5, scores, p + 1, NULL, gradient);
    for (int i = 0; i < 5; i++) siren_forest_gradient(forest, out)[i] = (float)(gradient[i] / 3);
    assert_int_equal(siren_forest_backward(forest, NULL), 0);
    siren_forest_free(forest);
    free(ids);
    free(text);
    return loss / 3;
}

static double whole_gradient(struct smollm2 *s, struct siren_adapter *a)
{
    double loss = 0;
    for (int p = 0; p < 3; p++) {
        const json_t *prompt = json_array_get(s->prompts, (size_t)p);
        size_t row = (size_t)json_integer_value(json_object_get(prompt, "row"));
        assert_true(row < s->rows.n);
        loss += prompt_gradient(&s->f, s->tokenizer, a, prompt, s->rows.text[row], p);
    }
    return loss;
}

/* Bits 56 + k say which numbers projection k takes off (smollm2_gradients.py). */
static uint64_t signs(size_t i)
{
    const uint64_t odd = 0x9E3779B97F4A7C15u;
    uint64_t x = ((uint64_t)i + 1) * odd;
    return (x ^ x >> 32) * odd;
}

enum { PROJECTIONS = 8 };

/* Of the norm and the projections of a gradient, against the norm. */
static double gradient_error(const struct siren_param *p, const json_t *want)
{
    double squares = 0, along[PROJECTIONS] = {0}, worst;
    double norm = json_number_value(json_array_get(want, 0));
    assert_int_equal(json_array_size(want), 1 + PROJECTIONS);
    for (size_t i = 0; i < (size_t)p->rows * (size_t)p->columns; i++) {
        double g = (double)p->grad[i];
        uint64_t bits = signs(i) >> 56;
        squares += g * g;
        for (int k = 0; k < PROJECTIONS; k++) along[k] += bits >> k & 1 ? -g : g;
    }
    worst = fabs(sqrt(squares) - norm);
    for (size_t k = 0; k < PROJECTIONS; k++)
        worst = fmax(worst, fabs(along[k] - json_number_value(json_array_get(want, 1 + k))));
    return worst / norm;
}

static void report_gradients(const char *what, double worst, const char *name)
{
    print_message("worst relative error of a %s's gradient: %.2g (%s)\n", what, worst, name);
    assert_true(worst <= 1e-4);
}

static void test_smollm2_gradients(void **state)
{
    struct smollm2 s;
    smollm2_open(&s, "f32", "test", FIXTURES "smollm2.json", NULL);
    json_t *fixture = load_json(FIXTURES "smollm2-gradients.json");
    const json_t *want = json_object_get(fixture, "adapter");
    const json_t *gradients = json_object_get(want, "gradients");
    struct siren_adapter *a = made_adapter(&s.f);
    struct siren_params params = siren_adapter_params(a);
    const char *name = "";
    double worst = 0, loss = whole_gradient(&s, a);
    assert_true(fabs(loss - json_number_value(json_object_get(want, "loss"))) <= 1e-4);
    assert_int_equal(json_array_size(gradients), params.n);
    for (size_t i = 0; i < params.n; i++) {
        double error = gradient_error(&params.list[i], json_array_get(gradients, i));
        if (!(error <= worst)) worst = error, name = params.list[i].name;
    }
    report_gradients("factor", worst, name);
    siren_adapter_free(a);
    json_decref(fixture);
    smollm2_close(&s);
}

static void test_smollm2_weights(void **state)
{
    struct smollm2 s;
    smollm2_open(&s, "f32", "test", FIXTURES "smollm2.json", &SIREN_TRAIN_ALL);
    json_t *fixture = load_json(FIXTURES "smollm2-gradients.json");
    const json_t *want = json_object_get(fixture, "weights");
    const json_t *gradients = json_object_get(want, "gradients");
    struct siren_params params = siren_model_params(s.f.model);
    const char *name = "";
    size_t n_compared = 0;
    siren_gradients_zero(params, s.f.pool);
    double worst = 0, loss = whole_gradient(&s, NULL);
    assert_true(fabs(loss - json_number_value(json_object_get(want, "loss"))) <= 1e-4);
    for (size_t i = 0; i < params.n; i++) {
        const json_t *wanted = json_object_get(gradients, params.list[i].name);
        if (!wanted) continue;
        double error = gradient_error(&params.list[i], wanted);
        if (!(error <= worst)) worst = error, name = params.list[i].name;
        n_compared++;
    }
    assert_int_equal(n_compared, json_object_size(gradients));
    report_gradients("weight", worst, name);
    json_decref(fixture);
    smollm2_close(&s);
}

/* ---- MiniLM ---- */

static void test_minilm(void **state)
{
    char path[512];
    if (!model_path("all-minilm-l6-v2/model.safetensors", path)) {
        print_message("skipped: MiniLM is not at hand\n");
        skip();
    }
    model_path("all-minilm-l6-v2/", path);
    struct fixture f;
    struct siren_tokenizer *t;
    fixture_open(&f, path, NULL, 0);
    if (siren_tokenizer_load(&t, path, &f.err)) fail_msg("%s", f.err.message);
    json_t *want = load_json(FIXTURES "minilm.json");
    const json_t *texts = json_object_get(want, "texts");
    size_t n = json_array_size(texts), d = 384;
    size_t most = (size_t)siren_model_config(f.model)->max_tokens;
    float *expected = calloc(n * d, sizeof *expected), *out = calloc(n * d, sizeof *out);
    FILE *file = fopen(FIXTURES "minilm.f32", "rb");
    assert_non_null(file);
    assert_int_equal(fread(expected, sizeof(float), n * d, file), n * d);
    fclose(file);
    struct siren_tokens *all = calloc(n, sizeof *all);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(texts, i));
        int32_t *ids;
        if (siren_tokenizer_encode(t, text, strlen(text), SIREN_ENCODE_ADD_SPECIAL, &ids,
                                   &all[i].n_ids, &f.err))
            fail_msg("%s", f.err.message);
        if (all[i].n_ids > most) { /* cut in the middle, the last special token kept */
            ids[most - 1] = ids[all[i].n_ids - 1];
            all[i].n_ids = most;
        }
        all[i].ids = ids;
    }
    assert_int_equal(siren_embed_many(f.engine, all, n, out, NULL, NULL), 0);
    double worst = 1;
    for (size_t i = 0; i < n; i++) {
        double dot = 0, a = 0, b = 0;
        for (size_t j = 0; j < d; j++) {
            dot += (double)out[i * d + j] * expected[i * d + j];
            a += (double)out[i * d + j] * out[i * d + j];
            b += (double)expected[i * d + j] * expected[i * d + j];
        }
        worst = fmin(worst, dot / sqrt(a * b));
        free((void *)all[i].ids);
    }
    print_message("smallest cosine of %zu embeddings: 1 - %.2g\n", n, 1 - worst);
    assert_true(worst >= 0.99999);
    json_decref(want);
    free(all);
    free(expected);
    free(out);
    siren_tokenizer_free(t);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smollm2),
        cmocka_unit_test(test_precision_f32),
        cmocka_unit_test(test_precision_bf16),
        cmocka_unit_test(test_smollm2_bits),
        cmocka_unit_test(test_smollm2_gradients),
        cmocka_unit_test(test_smollm2_weights),
        cmocka_unit_test(test_minilm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
