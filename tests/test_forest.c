/* The forest: the same bits alone, in a batch, cut anywhere, after a kept prefix,
 * grown token by token, with any number of threads and any instruction set; and
 * its errors.  Correctness of the numbers themselves: test_parity.c. */
/* check: portable bf16 */
#include <math.h>

#include "engine_fixture.h"
#include "model/pass.h"
#include "scratch.h"
#include "siren/adapter.h"

#include "odd_heads.h"

#define DECODER "tests/fixtures/models/llama"
#define ENCODER "tests/fixtures/models/bert"
enum { N = 75 };

/* Logits and a middle hidden state of every token of one sequence, run alone. */
struct reference {
    int32_t ids[N];
    size_t n, d, vocab;
    float *hidden, *logits;
};

static void reference_make(struct reference *r, struct fixture *f, uint64_t stream, size_t n)
{
    const struct siren_config *c = siren_model_config(f->model);
    *r = (struct reference){.n = n, .d = (size_t)c->d_model, .vocab = (size_t)c->n_vocab};
    fixture_ids(f, stream, r->ids, n);
    r->hidden = calloc(n * r->d, sizeof(float));
    r->logits = calloc(n * r->vocab, sizeof(float));
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f->engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, r->ids, n, 0), out[N][2];
    for (size_t i = 0; i < n; i++) {
        out[i][0] = siren_forest_want_hidden(forest, s, i, 1);
        out[i][1] = siren_forest_want_logits(forest, s, i, NULL, 0);
    }
    fixture_run(forest);
    for (size_t i = 0; i < n; i++) {
        memcpy(r->hidden + i * r->d, siren_forest_output(forest, out[i][0]), r->d * sizeof(float));
        memcpy(r->logits + i * r->vocab, siren_forest_output(forest, out[i][1]),
               r->vocab * sizeof(float));
    }
    siren_forest_free(forest);
}

static void reference_free(struct reference *r)
{
    free(r->hidden);
    free(r->logits);
}

static void expect(const struct reference *r, size_t token, const struct siren_forest *forest,
                   int hidden, int logits)
{
    if (hidden >= 0)
        assert_memory_equal(siren_forest_output(forest, hidden), r->hidden + token * r->d,
                            r->d * sizeof(float));
    if (logits >= 0)
        assert_memory_equal(siren_forest_output(forest, logits), r->logits + token * r->vocab,
                            r->vocab * sizeof(float));
}

static void test_batch(void **state)
{
    static const size_t lengths[] = {1, 5, 31, 32, 33, 64, N};
    enum { COUNT = sizeof lengths / sizeof *lengths };
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct reference r[COUNT];
    int segment[COUNT], out[COUNT];
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    for (int i = 0; i < COUNT; i++) {
        reference_make(&r[i], &f, (uint64_t)i, lengths[i]);
        segment[i] = siren_forest_add(forest, SIREN_ROOT, r[i].ids, lengths[i], 0);
        out[i] = siren_forest_want_logits(forest, segment[i], lengths[i] - 1, NULL, 0);
    }
    fixture_run(forest);
    for (int i = 0; i < COUNT; i++) {
        expect(&r[i], lengths[i] - 1, forest, -1, out[i]);
        reference_free(&r[i]);
    }
    siren_forest_free(forest);
    fixture_close(&f);
}

/* An adapter whose every number is none. */
static struct siren_adapter *broken_adapter(const struct siren_model *model)
{
    struct siren_adapter_config config = {.targets = (1 << SIREN_LORA_TARGETS) - 1,
                                          .last_layer = siren_model_config(model)->n_layers - 1,
                                          .r = 2,
                                          .alpha = 2};
    struct siren_adapter *a;
    assert_int_equal(siren_adapter_create(&a, model, &config, NULL), 0);
    struct siren_params p = siren_adapter_params(a);
    for (size_t i = 0; i < p.n; i++)
        for (int k = 0; k < p.list[i].rows * p.list[i].columns; k++) p.list[i].value[k] = NAN;
    siren_adapter_changed(a);
    return a;
}

/* What one pass computed without numbers is not there in the next, wherever its pages lay. */
static void test_after_nan(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct siren_adapter *broken = broken_adapter(f.model);
    struct reference r;
    reference_make(&r, &f, 1, N);
    for (size_t n = 1; n <= 67; n += 2) {
        struct siren_forest *forest;
        assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
        for (int pass = 0; pass < 2; pass++) {
            siren_forest_clear(forest);
            size_t length = pass ? n : N;
            int s = siren_forest_add(forest, SIREN_ROOT, r.ids, length, 0);
            int out = siren_forest_want_logits(forest, s, length - 1, NULL, 0);
            siren_forest_use_adapter(forest, s, pass ? NULL : broken);
            fixture_run(forest);
            if (pass)
                expect(&r, n - 1, forest, -1, out);
            else
                assert_true(isnan(*siren_forest_output(forest, out)));
        }
        siren_forest_free(forest);
    }
    reference_free(&r);
    siren_adapter_free(broken);
    fixture_close(&f);
}

/* Chosen rows of the vocabulary are the same numbers as in the whole. */
static void test_rows(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct reference r;
    reference_make(&r, &f, 3, 40);
    static const int32_t rows[] = {7, 0, 100, 7, 31};
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, r.ids, 40, 0);
    int a = siren_forest_want_logits(forest, s, 39, rows, 5);
    int b = siren_forest_want_logits(forest, s, 12, rows, 5);
    fixture_run(forest);
    for (int i = 0; i < 5; i++) {
        assert_memory_equal(siren_forest_output(forest, a) + i, r.logits + 39 * r.vocab + rows[i],
                            sizeof(float));
        assert_memory_equal(siren_forest_output(forest, b) + i, r.logits + 12 * r.vocab + rows[i],
                            sizeof(float));
    }
    reference_free(&r);
    siren_forest_free(forest);
    fixture_close(&f);
}

/* A sequence cut into a chain of segments at random places, all in one pass, with a second
 * child at each cut. */
static void test_cuts(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct reference r;
    reference_make(&r, &f, 1, N);
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    for (uint64_t trial = 0; trial < 12; trial++) {
        int hidden[N], logits[N], parent = SIREN_ROOT;
        siren_forest_clear(forest);
        for (size_t at = 0, k = 0; at < N; k++) {
            size_t most = trial < 3 ? 1 + trial : 40;
            size_t n = 1 + siren_random_below(trial, 9, k, most);
            if (n > N - at) n = N - at;
            int s = siren_forest_add(forest, parent, r.ids + at, n, 0);
            siren_forest_add(forest, parent, r.ids, n, 0); /* a sibling that goes elsewhere */
            for (size_t i = 0; i < n; i++) {
                hidden[at + i] = siren_forest_want_hidden(forest, s, i, 1);
                logits[at + i] = siren_forest_want_logits(forest, s, i, NULL, 0);
            }
            at += n;
            parent = s;
        }
        fixture_run(forest);
        for (size_t i = 0; i < N; i++) expect(&r, i, forest, hidden[i], logits[i]);
    }
    reference_free(&r);
    siren_forest_free(forest);
    fixture_close(&f);
}

/* Prefix kept in one pass, continued in others; grandchildren; handles outlive their parents'. */
static void test_kept(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct reference r;
    reference_make(&r, &f, 2, N);
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    for (size_t a = 1; a < N - 2; a += 7)
        for (size_t b = a + 1; b < N - 1; b += 13) {
            siren_forest_clear(forest);
            int s = siren_forest_add(forest, SIREN_ROOT, r.ids, a, SIREN_KEEP);
            fixture_run(forest);
            struct siren_kept *first = siren_forest_take(forest, s);
            assert_int_equal(siren_kept_tokens(first), a);
            siren_forest_clear(forest);
            s = siren_forest_add(forest, siren_forest_add_kept(forest, first), r.ids + a, b - a,
                                 SIREN_KEEP);
            int mid = siren_forest_want_logits(forest, s, b - a - 1, NULL, 0);
            fixture_run(forest);
            expect(&r, b - 1, forest, -1, mid);
            struct siren_kept *second = siren_forest_take(forest, s);
            siren_kept_unref(first);
            siren_forest_clear(forest);
            int parent = siren_forest_add_kept(forest, second);
            s = siren_forest_add(forest, parent, r.ids + b, N - b, 0);
            siren_forest_add(forest, parent, r.ids, 3, 0);
            int out = siren_forest_want_logits(forest, s, N - b - 1, NULL, 0);
            fixture_run(forest);
            expect(&r, N - 1, forest, -1, out);
            siren_kept_unref(second);
        }
    reference_free(&r);
    siren_forest_free(forest);
    fixture_close(&f);
}

/* Growing by a token a pass. */
static void test_extend(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct reference r;
    reference_make(&r, &f, 4, N);
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, r.ids, 3, SIREN_KEEP);
    fixture_run(forest);
    struct siren_kept *kept = siren_forest_take(forest, s);
    for (size_t i = 3; i < N; i++) {
        siren_forest_clear(forest);
        s = siren_forest_add(forest, siren_forest_add_kept(forest, kept), r.ids + i, 1,
                             SIREN_EXTEND);
        if (i == 4) assert_int_equal(siren_forest_plan(forest, &f.err), 0); /* and once more */
        int hidden = siren_forest_want_hidden(forest, s, 0, 1);
        int logits = siren_forest_want_logits(forest, s, 0, NULL, 0);
        fixture_run(forest);
        expect(&r, i, forest, hidden, logits);
        assert_int_equal(siren_kept_tokens(kept), i + 1);
    }
    siren_forest_clear(forest);
    siren_kept_unref(kept);
    reference_free(&r);
    siren_forest_free(forest);
    fixture_close(&f);
}

/* Logits of the last of N tokens behind a kept segment, whose memory is free again at the end. */
static void kept_logits(struct siren_engine *engine, const int32_t *ids, float *logits)
{
    struct siren_error err;
    struct siren_forest *forest;
    size_t vocab = (size_t)siren_model_config(engine->model)->n_vocab;
    assert_int_equal(siren_forest_create(&forest, engine, &err), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, N - 1, SIREN_KEEP);
    fixture_run(forest);
    struct siren_kept *kept = siren_forest_take(forest, s);
    siren_forest_clear(forest);
    s = siren_forest_add(forest, siren_forest_add_kept(forest, kept), ids + N - 1, 1, 0);
    int out = siren_forest_want_logits(forest, s, 0, NULL, 0);
    fixture_run(forest);
    memcpy(logits, siren_forest_output(forest, out), vocab * sizeof *logits);
    siren_forest_free(forest);
    siren_kept_unref(kept);
}

/* Memory of segments that are gone is taken again, by the engines of both modes in turn, whatever
 * it holds; and there is never more of it than is promised. */
static void test_spare(void **state)
{
    struct fixture f;
    struct siren_error err;
    fixture_open(&f, DECODER, NULL, 2);
    const struct siren_engine_options bf16 = {.compute = "bf16"};
    struct siren_engine *engines[2] = {f.engine, NULL};
    assert_int_equal(siren_engine_create(&engines[1], f.model, f.pool, &bf16, &err), 0);
    size_t vocab = (size_t)siren_model_config(f.model)->n_vocab;
    float *first[2], *again = calloc(vocab, sizeof *again);
    int32_t ids[N];
    fixture_ids(&f, 6, ids, N);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 2; i++) {
            if (!round) first[i] = calloc(vocab, sizeof *first[i]);
            kept_logits(engines[i], ids, round ? again : first[i]);
            if (round) assert_memory_equal(again, first[i], vocab * sizeof *again);
            assert_true(f.model->spare->bytes > 0);
        }
    struct siren_kept *large[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kept_create(&large[i], f.model, f.engine->kernels, NULL, 0, &err), 0);
        for (int end = 1 << 16; siren_kept_bytes(large[i]) <= 64 << 20; end += 1 << 16)
            assert_int_equal(kept_reserve(large[i], end, &err), 0);
    }
    size_t bytes = siren_kept_bytes(large[0]);
    assert_true(bytes < 128 << 20); /* both do not fit */
    siren_kept_unref(large[0]);
    siren_kept_unref(large[1]);
    assert_true(f.model->spare->bytes >= bytes && f.model->spare->bytes <= 128 << 20);
    for (int i = 0; i < 2; i++) free(first[i]);
    free(again);
    siren_engine_free(engines[1]);
    fixture_close(&f);
}

static void compare_setups(const char *isa, const char *compute, int threads)
{
    struct fixture f, g;
    fixture_open_mode(&f, DECODER, isa ? "portable" : NULL, compute, 1);
    fixture_open_mode(&g, DECODER, isa, compute, threads);
    for (size_t n = 20; n <= N; n += N - 20) { /* a narrow pass and a wide one */
        struct reference a, b;
        reference_make(&a, &f, 5, n);
        reference_make(&b, &g, 5, n);
        assert_memory_equal(a.hidden, b.hidden, n * a.d * sizeof(float));
        assert_memory_equal(a.logits, b.logits, n * a.vocab * sizeof(float));
        reference_free(&a);
        reference_free(&b);
    }
    fixture_close(&f);
    fixture_close(&g);
}

static const char *const modes[] = {"f32", "bf16"};

static void test_threads(void **state)
{
    for (int i = 0; i < 2; i++) {
        compare_setups(NULL, modes[i], 2);
        compare_setups(NULL, modes[i], 3);
    }
}

static void test_isas(void **state)
{
    for (int i = 0; i < 2; i++) {
        compare_setups("portable", modes[i], 2);
        if (cpu_has("avx2")) compare_setups("avx2", modes[i], 2);
        if (cpu_has("avx512")) compare_setups("avx512", modes[i], 1);
    }
    if (cpu_has("amx")) compare_setups("amx", "f32", 1); /* its bf16 has an order of its own */
}

static void expect_near(const float *f32, const float *bf16, size_t n)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += pow((double)f32[i] - (double)bf16[i], 2);
        size += pow((double)f32[i], 2);
    }
    assert_true(difference > 0);
    if (!(difference < 1e-3 * size)) fail_msg("differ by %g", sqrt(difference / size));
}

/* The modes differ, but little, whatever the size of a head. */
static void compare_modes(struct fixture *f32, struct fixture *bf16, const char *path)
{
    struct reference a, b;
    fixture_open_mode(f32, path, NULL, "f32", 1);
    fixture_open_mode(bf16, path, NULL, "bf16", 1);
    assert_string_equal(siren_engine_compute(f32->engine), "f32");
    assert_string_equal(siren_engine_compute(bf16->engine), "bf16");
    reference_make(&a, f32, 5, N);
    reference_make(&b, bf16, 5, N);
    expect_near(a.hidden, b.hidden, N * a.d);
    expect_near(a.logits, b.logits, N * a.vocab);
    reference_free(&a);
    reference_free(&b);
}

/* What one mode has kept the other does not take. */
static void test_modes(void **state)
{
    struct fixture f, g;
    struct siren_error err;
    compare_modes(&f, &g, odd_heads_model());
    fixture_close(&f);
    fixture_close(&g);
    compare_modes(&f, &g, DECODER);

    struct siren_engine_options options = {.compute = "bf8"};
    struct siren_engine *none;
    assert_int_equal(siren_engine_create(&none, f.model, f.pool, &options, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "bf8"));

    /* the same model, so that only the mode differs */
    struct siren_engine *other;
    options.compute = "bf16";
    assert_int_equal(siren_engine_create(&other, f.model, f.pool, &options, &err), 0);
    struct siren_forest *first, *second;
    int32_t ids[4];
    fixture_ids(&f, 5, ids, 4);
    siren_forest_create(&first, f.engine, &err);
    siren_forest_create(&second, other, &err);
    int segment = siren_forest_add(first, SIREN_ROOT, ids, 4, SIREN_KEEP);
    fixture_run(first);
    struct siren_kept *kept = siren_forest_take(first, segment);
    int parent = siren_forest_add_kept(second, kept);
    siren_forest_add(second, parent, ids, 2, 0);
    assert_int_equal(siren_forest_plan(second, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "compute mode"));
    siren_kept_unref(kept);
    siren_forest_free(first);
    siren_forest_free(second);
    siren_engine_free(other);
    fixture_close(&f);
    fixture_close(&g);
}

/* An encoder's text: alone or in a batch, one thread or three. */
static void test_encoder(void **state)
{
    struct fixture f, g;
    fixture_open(&f, ENCODER, NULL, 1);
    fixture_open(&g, ENCODER, NULL, 3);
    const struct siren_config *c = siren_model_config(f.model);
    size_t d = (size_t)c->d_model;
    static const size_t lengths[] = {3, 17, 32, 60};
    int32_t ids[4][64];
    struct siren_tokens texts[4];
    float *alone = calloc(4 * d, sizeof *alone), *batch = calloc(4 * d, sizeof *batch);
    for (int i = 0; i < 4; i++) {
        fixture_ids(&f, (uint64_t)i, ids[i], lengths[i]);
        texts[i] = (struct siren_tokens){ids[i], lengths[i]};
        assert_int_equal(
            siren_embed_many(f.engine, &texts[i], 1, alone + (size_t)i * d, NULL, NULL), 0);
    }
    assert_int_equal(siren_embed_many(g.engine, texts, 4, batch, NULL, NULL), 0);
    assert_memory_equal(alone, batch, 4 * d * sizeof *alone);
    free(alone);
    free(batch);
    fixture_close(&f);
    fixture_close(&g);
}

static void test_errors(void **state)
{
    struct fixture f, e;
    fixture_open(&f, DECODER, NULL, 1);
    fixture_open(&e, ENCODER, NULL, 1);
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    int32_t ids[4] = {1, 2, 3, 4}, bad[2] = {1, 1 << 30};
    expect_refusal(forest, "without tokens");
    siren_forest_add(forest, SIREN_ROOT, bad, 2, 0);
    expect_refusal(forest, "not in the vocabulary");
    siren_forest_add(forest, 5, ids, 2, 0);
    expect_refusal(forest, "parent 5");
    siren_forest_add(forest, SIREN_ROOT, ids, 0, 0);
    expect_refusal(forest, "no tokens");
    siren_forest_want_hidden(forest, siren_forest_add(forest, SIREN_ROOT, ids, 4, 0), 4, 0);
    expect_refusal(forest, "not computed");
    siren_forest_want_hidden(forest, siren_forest_add(forest, SIREN_ROOT, ids, 4, 0), 0, 99);
    expect_refusal(forest, "no such layer");
    siren_forest_want_logits(forest, siren_forest_add(forest, SIREN_ROOT, ids, 4, 0), 0, bad, 2);
    expect_refusal(forest, "not in the vocabulary");
    siren_forest_add(forest, siren_forest_add(forest, SIREN_ROOT, ids, 2, 0), ids, 2, SIREN_KEEP);
    expect_refusal(forest, "is not");
    siren_forest_add(forest, siren_forest_add(forest, SIREN_ROOT, ids, 2, 0), ids, 2, SIREN_EXTEND);
    expect_refusal(forest, "extended");
    size_t many = (size_t)siren_model_config(f.model)->max_positions + 1;
    int32_t *long_ids = calloc(many, sizeof *long_ids);
    siren_forest_add(forest, SIREN_ROOT, long_ids, many, 0);
    expect_refusal(forest, "was made for");
    free(long_ids);
    siren_forest_free(forest);
    assert_int_equal(siren_forest_create(&forest, e.engine, NULL), 0);
    siren_forest_add(forest, siren_forest_add(forest, SIREN_ROOT, ids, 2, 0), ids, 2, 0);
    expect_refusal(forest, "encoder");
    siren_forest_want_logits(forest, siren_forest_add(forest, SIREN_ROOT, ids, 2, 0), 0, NULL, 0);
    expect_refusal(forest, "no logits");
    siren_forest_free(forest);
    fixture_close(&f);
    fixture_close(&e);
}

static void test_shared_extension_is_refused(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 1);
    struct siren_forest *forest;
    int32_t ids[4] = {1, 2, 3, 4};
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, 4, SIREN_KEEP);
    fixture_run(forest);
    struct siren_kept *kept = siren_forest_take(forest, s), *second = siren_kept_ref(kept);
    siren_forest_clear(forest);
    siren_forest_add(forest, siren_forest_add_kept(forest, kept), ids, 1, SIREN_EXTEND);
    expect_refusal(forest, "shared");
    siren_kept_unref(second);
    for (int i = 0; i < 3; i++) { /* twice, or beside a child on either side */
        siren_forest_clear(forest);
        int parent = siren_forest_add_kept(forest, kept);
        siren_forest_add(forest, parent, ids, 1, i == 1 ? 0 : SIREN_EXTEND);
        siren_forest_add(forest, parent, ids, 2, i == 2 ? 0 : SIREN_EXTEND);
        expect_refusal(forest, "is extended in this pass");
    }
    siren_kept_unref(kept);
    siren_forest_free(forest);
    fixture_close(&f);
}

static void test_cancel(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct siren_forest *forest;
    int32_t ids[40] = {0};
    volatile int cancel = 1;
    for (size_t n = 4; n <= 40; n += 36) {
        assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
        int s = siren_forest_add(forest, SIREN_ROOT, ids, n, 0);
        int out = siren_forest_want_logits(forest, s, 0, NULL, 0);
        assert_int_equal(siren_forest_plan(forest, NULL), 0);
        assert_int_equal(siren_forest_run(forest, &cancel), SIREN_ECANCEL);
        assert_null(siren_forest_output(forest, out));
        siren_forest_free(forest);
    }
    fixture_close(&f);
}

/* Blocks hold all rows once, are as many and as large for each thread, and no larger than their
 * memory; all but the last ones are whole tiles. */
static void check_row_blocks(const struct siren_engine *of, int threads, int tile, int wanted)
{
    struct kernels kernels = *of->kernels;
    struct siren_engine engine = *of;
    kernels.tile_rows = tile;
    kernels.block_rows = wanted;
    engine.kernels = &kernels;
    for (int rows = 1; rows <= 2000; rows++) {
        struct siren_forest forest = {.engine = &engine};
        int most = rows_most(&forest), next = 0, n = 0, size = 0;
        forest.block = rows < most ? rows : most;
        atomic_long cursor = 0;
        int blocks = row_blocks(&forest, rows), many = rows >= 4 * wanted + 16;
        for (struct row_block b; claim_rows(&forest, rows, &cursor, &b); next += b.n, n++) {
            assert_int_equal(b.first, next);
            assert_true(b.n >= 1 && b.n <= forest.block);
            if (!many) continue;
            if (n % threads == 0) size = b.n;
            assert_true(abs(b.n - size) <= 1);
            assert_true(b.n % tile == 0 || n >= blocks - threads);
        }
        assert_int_equal(n, blocks);
        assert_int_equal(next, rows);
        if (rows >= 16 * threads && rows < wanted * threads) assert_int_equal(n, threads);
        if (many) assert_true(n % threads == 0 && rows <= n * most);
    }
}

static void test_row_blocks(void **state)
{
    /* portable, AVX2, AVX-512, AMX, and one that no machine has */
    static const int tiles[][2] = {{4, 96}, {6, 96}, {12, 96}, {32, 192}, {8, 128}};
    for (int threads = 1; threads <= 5; threads++) {
        struct fixture f;
        fixture_open(&f, DECODER, NULL, threads);
        for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++)
            check_row_blocks(f.engine, threads, tiles[i][0], tiles[i][1]);
        fixture_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch),      cmocka_unit_test(test_rows),
        cmocka_unit_test(test_after_nan),  cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_kept),       cmocka_unit_test(test_extend),
        cmocka_unit_test(test_spare),      cmocka_unit_test(test_threads),
        cmocka_unit_test(test_row_blocks), cmocka_unit_test(test_isas),
        cmocka_unit_test(test_modes),      cmocka_unit_test(test_encoder),
        cmocka_unit_test(test_errors),     cmocka_unit_test(test_shared_extension_is_refused),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
