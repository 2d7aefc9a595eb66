/* Generation: samples depend on (seed, sequence, position) only, and what is reported is what
 * the forest computes. */
/* check: portable bf16 */
#include "engine_fixture.h"
#include "model/kept.h"
#include "model/model.h"
#include "model/session.h"

#define DECODER "tests/fixtures/models/llama"
enum { TEXTS = 7, LENGTH = 40 };

struct texts {
    int32_t ids[TEXTS][64];
    struct siren_generation all[TEXTS];
};

static struct texts *texts_make(const struct fixture *f)
{
    struct texts *t = calloc(1, sizeof *t);
    for (int i = 0; i < TEXTS; i++) {
        int prompt = i % 3; /* several texts of one prompt */
        size_t n = prompt == 2 ? 1 : 30 + 3 * (size_t)prompt;
        fixture_ids(f, 50 + (uint64_t)prompt, t->ids[i], n);
        t->all[i] = (struct siren_generation){.prompt = {t->ids[i], n}, .sequence = (uint64_t)i};
    }
    return t;
}

static void texts_free(struct texts *t)
{
    for (int i = 0; i < TEXTS; i++) siren_generation_clear(&t->all[i]);
    free(t);
}

static void generate(struct fixture *f, struct texts *t, const struct siren_sampling *s, int batch)
{
    struct siren_session *session;
    struct siren_error err;
    assert_int_equal(siren_session_create(&session, f->engine, NULL, NULL), 0);
    if (siren_generate_many(session, t->all, TEXTS, s, batch, NULL, &err))
        fail_msg("%s", err.message);
    siren_session_free(session);
}

/* Each in a session of its own. */
static void generate_apart(struct fixture *f, struct texts *t, const struct siren_sampling *s)
{
    struct siren_session *session;
    for (int i = 0; i < TEXTS; i++) {
        assert_int_equal(siren_session_create(&session, f->engine, NULL, NULL), 0);
        assert_int_equal(siren_generate_many(session, &t->all[i], 1, s, 1, NULL, NULL), 0);
        siren_session_free(session);
    }
}

/* Nothing can be drawn from what is no number, greedily or by chance. */
static void test_not_a_number(void **state)
{
    const struct siren_sampling ways[] = {
        {.temperature = 0, .top_p = 1, .max_tokens = LENGTH},
        {.temperature = 1, .top_p = 1, .max_tokens = LENGTH, .seed = 3},
        {.temperature = 0.7f, .top_p = 0.9f, .top_k = 5, .max_tokens = LENGTH, .seed = 4}};
    struct fixture f;
    struct siren_session *session;
    struct siren_error err;
    fixture_open(&f, DECODER, NULL, 2);
    f.model->final_norm[1] = NAN;
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        struct texts *t = texts_make(&f);
        assert_int_equal(siren_generate_many(session, t->all, TEXTS, &ways[w], 3, NULL, &err),
                         SIREN_ENUMERIC);
        assert_non_null(strstr(err.message, "token 0: the logits are nan"));
        texts_free(t);
    }
    siren_session_free(session);
    fixture_close(&f);
}

static void test_batch_does_not_matter(void **state)
{
    static const struct siren_sampling ways[] = {
        {.temperature = 0, .top_p = 1, .max_tokens = LENGTH},
        {.temperature = 1, .top_p = 1, .max_tokens = LENGTH, .seed = 3},
        {.temperature = 0.8f, .top_p = 0.9f, .max_tokens = LENGTH, .seed = 4},
        {.temperature = 1.5f, .top_p = 1, .top_k = 5, .max_tokens = LENGTH, .seed = 5},
        {.temperature = 1, .top_p = 0.5f, .top_k = 20, .max_tokens = LENGTH, .seed = 6},
    };
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        struct texts *one = texts_make(&f);
        generate(&f, one, &ways[w], 1);
        for (int batch = 2; batch <= 8; batch += 3) {
            struct texts *many = texts_make(&f);
            generate(&f, many, &ways[w], batch);
            for (int i = 0; i < TEXTS; i++) {
                assert_int_equal(one->all[i].n_ids, LENGTH);
                assert_int_equal(many->all[i].n_ids, LENGTH);
                assert_memory_equal(one->all[i].ids, many->all[i].ids, LENGTH * sizeof(int32_t));
                assert_memory_equal(one->all[i].logprobs, many->all[i].logprobs,
                                    LENGTH * sizeof(float));
            }
            texts_free(many);
        }
        texts_free(one);
    }
    fixture_close(&f);
}

/* A kept text is scored, and gone on with, from the cache: the same bits, its last token computed.
 */
static void test_kept_texts(void **state)
{
    enum { HALF = LENGTH / 2 };
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct texts *whole = texts_make(&f), *half = texts_make(&f);
    struct siren_sampling s = {.temperature = 1, .top_p = 1, .max_tokens = LENGTH, .seed = 3};
    struct siren_session *session, *fresh;
    generate(&f, whole, &s, 4);
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    assert_int_equal(siren_session_create(&fresh, f.engine, NULL, NULL), 0);
    for (int i = 0; i < TEXTS; i++) half->all[i].keep = 1;
    s.max_tokens = HALF;
    assert_int_equal(siren_generate_many(session, half->all, TEXTS, &s, 4, NULL, NULL), 0);
    for (int i = 0; i < TEXTS; i++) {
        int32_t ids[64 + HALF], label = 5;
        size_t n = half->all[i].prompt.n_ids;
        struct siren_tokens labels = {&label, 1};
        double kept, anew;
        memcpy(ids, half->ids[i], n * sizeof *ids);
        memcpy(ids + n, half->all[i].ids, HALF * sizeof *ids);
        struct siren_score a = {{ids, n + HALF}, &labels, 1, 0, &kept, 0, 0}, b = a;
        b.logprobs = &anew;
        assert_int_equal(siren_score_many(session, &a, 1, NULL, NULL), 0);
        assert_int_equal(siren_score_many(fresh, &b, 1, NULL, NULL), 0);
        assert_memory_equal(&kept, &anew, sizeof kept);
        assert_int_equal(a.tokens_cached, n + HALF - 1);
        struct siren_generation rest = {.prompt = {ids, n + HALF}, .sequence = (uint64_t)i};
        assert_int_equal(siren_generate_many(session, &rest, 1, &s, 1, NULL, NULL), 0);
        assert_memory_equal(half->all[i].ids, whole->all[i].ids, HALF * sizeof *ids);
        assert_memory_equal(rest.ids, whole->all[i].ids + HALF, HALF * sizeof *ids);
        assert_memory_equal(rest.logprobs, whole->all[i].logprobs + HALF, HALF * sizeof(float));
        siren_generation_clear(&rest);
    }
    siren_session_free(session);
    siren_session_free(fresh);
    texts_free(whole);
    texts_free(half);
    fixture_close(&f);
}

/* Of a prompt that the session has met only the last token is computed again. */
static void test_repeated_prompts(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct texts *together = texts_make(&f), *apart = texts_make(&f);
    struct siren_sampling s = {.temperature = 1, .top_p = 1, .max_tokens = LENGTH, .seed = 3};
    struct siren_session *session;
    generate(&f, together, &s, TEXTS);
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    for (int i = 0; i < TEXTS; i++) {
        uint64_t before = siren_session_stats(session).computed_tokens;
        assert_int_equal(siren_generate_many(session, &apart->all[i], 1, &s, 1, NULL, NULL), 0);
        size_t n = i < 3 ? apart->all[i].prompt.n_ids : 1;
        assert_int_equal(siren_session_stats(session).computed_tokens - before, n + LENGTH - 1);
        assert_memory_equal(apart->all[i].ids, together->all[i].ids, LENGTH * sizeof(int32_t));
        assert_memory_equal(apart->all[i].logprobs, together->all[i].logprobs,
                            LENGTH * sizeof(float));
    }
    siren_session_free(session);
    texts_free(together);
    texts_free(apart);
    fixture_close(&f);
}

/* Prompts that begin alike: the beginning is computed once, in this call and the next, to the same
 * bits. */
static void test_shared_beginning(void **state)
{
    enum { SHARED = 20, ALL = 33 };
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct texts *together = texts_make(&f), *apart = texts_make(&f), *again = texts_make(&f);
    struct siren_sampling s = {.temperature = 1, .top_p = 1, .max_tokens = 1, .seed = 3};
    struct siren_session *session;
    for (int i = 0; i < TEXTS; i++)
        for (int k = 0; k < 3; k++) {
            struct texts *t = k == 0 ? together : k == 1 ? apart : again;
            fixture_ids(&f, 90 + (uint64_t)i, t->ids[i], ALL);
            fixture_ids(&f, 80, t->ids[i], SHARED);
            t->all[i].prompt.n_ids = ALL;
        }
    generate_apart(&f, apart, &s);
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    for (int call = 0; call < 2; call++) {
        struct texts *t = call ? again : together;
        uint64_t before = siren_session_stats(session).computed_tokens;
        assert_int_equal(siren_generate_many(session, t->all, TEXTS, &s, 3, NULL, NULL), 0);
        uint64_t computed = siren_session_stats(session).computed_tokens - before;
        /* The second call finds all but the last token of each. */
        assert_int_equal(computed, call ? TEXTS : SHARED + TEXTS * (ALL - SHARED));
        for (int i = 0; i < TEXTS; i++) {
            assert_int_equal(t->all[i].ids[0], apart->all[i].ids[0]);
            assert_memory_equal(t->all[i].logprobs, apart->all[i].logprobs, sizeof(float));
        }
    }
    siren_session_free(session);
    texts_free(together);
    texts_free(apart);
    texts_free(again);
    fixture_close(&f);
}

/* Prompts that differ in their last token alone: what they share is computed once, by one of them.
 */
static void test_heads(void **state)
{
    enum { ALL = 40 };
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct texts *together = texts_make(&f), *apart = texts_make(&f);
    struct siren_sampling s = {.temperature = 1, .top_p = 1, .max_tokens = 2, .seed = 3};
    struct siren_session *session;
    for (int i = 0; i < TEXTS; i++)
        for (int k = 0; k < 2; k++) {
            struct texts *t = k ? apart : together;
            fixture_ids(&f, 80, t->ids[i], ALL);
            t->ids[i][ALL - 1] = i;
            t->all[i].prompt.n_ids = ALL;
        }
    generate_apart(&f, apart, &s);
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    assert_int_equal(siren_generate_many(session, together->all, TEXTS, &s, TEXTS, NULL, NULL), 0);
    struct siren_cache_stats stats = siren_session_stats(session);
    assert_int_equal(stats.computed_tokens, ALL - 1 + TEXTS * 2);
    assert_int_equal(stats.cached_tokens, (TEXTS - 1) * (ALL - 1));
    assert_int_equal(stats.entries, 1);
    for (int i = 0; i < TEXTS; i++) {
        assert_memory_equal(together->all[i].ids, apart->all[i].ids, 2 * sizeof(int32_t));
        assert_memory_equal(together->all[i].logprobs, apart->all[i].logprobs, 2 * sizeof(float));
    }
    siren_session_free(session);
    texts_free(together);
    texts_free(apart);
    fixture_close(&f);
}

/* Texts of a prompt that the cache has go on from what it has: nothing is held beside the entries,
 * so that their bytes are the cache's. */
static void test_one_copy(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct siren_session *session;
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    for (uint64_t seed = 0; seed < 3; seed++) {
        struct siren_sampling s = {
            .temperature = 1, .top_p = 1, .max_tokens = LENGTH, .seed = seed};
        struct texts *t = texts_make(&f);
        for (int i = 0; i < TEXTS; i++) t->all[i].keep = 1;
        assert_int_equal(siren_generate_many(session, t->all, TEXTS, &s, 4, NULL, NULL), 0);
        texts_free(t);
    }
    size_t bytes = 0;
    for (size_t i = 0; i < session->n_entries; i++) {
        const struct siren_kept *kept = session->entries[i].kept;
        bytes += siren_kept_bytes(kept);
        assert_int_equal(kept->cached, 1);
        if (kept->parent) assert_int_equal(kept->parent->cached, 1);
    }
    assert_int_equal(siren_session_stats(session).bytes, bytes);
    siren_session_free(session);
    fixture_close(&f);
}

/* A cache that is too small keeps all while it is held, and not longer. */
static void test_held_cache(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct siren_session_options tiny = {.cache_bytes = 1};
    struct siren_sampling s = {.temperature = 1, .top_p = 1, .max_tokens = LENGTH, .seed = 3};
    for (int held = 0; held < 2; held++) {
        struct texts *t = texts_make(&f);
        struct siren_session *session;
        double score;
        assert_int_equal(siren_session_create(&session, f.engine, &tiny, NULL), 0);
        for (int i = 0; i < TEXTS; i++) t->all[i].keep = 1;
        for (int i = 0; i < 2 * held; i++) siren_session_hold(session);
        assert_int_equal(siren_generate_many(session, t->all, TEXTS, &s, 4, NULL, NULL), 0);
        struct siren_tokens labels = {t->ids[1], 1};
        struct siren_score a = {t->all[0].prompt, &labels, 1, 0, &score, 0, 0};
        assert_int_equal(siren_score_many(session, &a, 1, NULL, NULL), 0);
        assert_int_equal(a.tokens_cached, held ? t->all[0].prompt.n_ids - 1 : 0);
        if (held) siren_session_release(session);
        if (held) assert_true(siren_session_stats(session).entries > TEXTS);
        if (held) siren_session_release(session);
        assert_int_equal(siren_session_stats(session).entries, 0);
        siren_session_free(session);
        texts_free(t);
    }
    fixture_close(&f);
}

/* Greedy tokens are the arg max of the logits of one pass over the whole text. */
static void test_greedy(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct texts *t = texts_make(&f);
    struct siren_sampling greedy = {.top_p = 1, .max_tokens = LENGTH};
    generate(&f, t, &greedy, 0);
    const struct siren_generation *g = &t->all[1];
    int V = siren_model_config(f.model)->n_vocab, out[LENGTH];
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
    int p = siren_forest_add(forest, SIREN_ROOT, g->prompt.ids, g->prompt.n_ids, 0);
    int s = siren_forest_add(forest, p, g->ids, LENGTH, 0);
    out[0] = siren_forest_want_logits(forest, p, g->prompt.n_ids - 1, NULL, 0);
    for (size_t i = 1; i < LENGTH; i++)
        out[i] = siren_forest_want_logits(forest, s, i - 1, NULL, 0);
    fixture_run(forest);
    for (int i = 0; i < LENGTH; i++) {
        const float *x = siren_forest_output(forest, out[i]);
        int best = 0;
        double total = 0;
        for (int v = 0; v < V; v++)
            if (x[v] > x[best]) best = v;
        for (int v = 0; v < V; v++) total += exp((double)x[v] - (double)x[best]);
        assert_int_equal(g->ids[i], best);
        assert_float_equal(g->logprobs[i], -log(total), 1e-5);
    }
    siren_forest_free(forest);
    texts_free(t);
    fixture_close(&f);
}

/* However cold: the most likely token, not what an overflow leaves. */
static void test_cold(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct texts *greedy = texts_make(&f);
    struct siren_sampling s = {.top_p = 1, .max_tokens = LENGTH};
    generate(&f, greedy, &s, 0);
    static const float cold[] = {1e-4f, 1e-30f, 1e-38f, 1e-45f};
    for (size_t i = 0; i < sizeof cold / sizeof *cold; i++)
        for (int cut = 0; cut < 2; cut++) {
            struct texts *t = texts_make(&f);
            s.temperature = cold[i];
            s.top_p = cut ? 0.9f : 1;
            generate(&f, t, &s, 0);
            for (int k = 0; k < TEXTS; k++)
                assert_memory_equal(t->all[k].ids, greedy->all[k].ids, LENGTH * sizeof(int32_t));
            texts_free(t);
        }
    texts_free(greedy);
    fixture_close(&f);
}

/* Frequencies of the first token follow the model's distribution (and its truncations). */
static void test_distribution(void **state)
{
    enum { DRAWS = 4000 };
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    int V = siren_model_config(f.model)->n_vocab;
    int32_t ids[9];
    fixture_ids(&f, 77, ids, 9);
    struct siren_generation *all = calloc(DRAWS, sizeof *all);
    int *count = calloc((size_t)V, sizeof *count);
    for (int i = 0; i < DRAWS; i++)
        all[i] = (struct siren_generation){.prompt = {ids, 9}, .sequence = (uint64_t)i};
    struct siren_session *session;
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    struct siren_sampling plain = {.temperature = 1, .top_p = 1, .max_tokens = 1, .seed = 1};
    assert_int_equal(siren_generate_many(session, all, DRAWS, &plain, 256, NULL, NULL), 0);
    double chi = 0, seen = 0;
    for (int i = 0; i < DRAWS; i++) count[all[i].ids[0]]++;
    for (int i = 0; i < DRAWS; i++) {
        double expected = exp((double)all[i].logprobs[0]) * DRAWS;
        int *c = &count[all[i].ids[0]];
        if (*c && expected > 20) {
            chi += (*c - expected) * (*c - expected) / expected;
            seen++;
        }
        *c = 0;
        siren_generation_clear(&all[i]);
    }
    if (seen > 2) assert_true(chi < seen + 5 * sqrt(2 * seen));
    siren_session_free(session);
    free(all);
    free(count);
    fixture_close(&f);
}

static int stop_at_five(void *context, const int32_t *ids, size_t n)
{
    return n == 5;
}

static void test_stops(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct texts *t = texts_make(&f), *u = texts_make(&f);
    struct siren_sampling greedy = {.top_p = 1, .max_tokens = LENGTH};
    generate(&f, t, &greedy, 0);
    int32_t stop = t->all[0].ids[3];
    size_t first = 0;
    while (t->all[0].ids[first] != stop) first++;
    u->all[0].stop_ids = &stop;
    u->all[0].n_stop_ids = 1;
    u->all[1].on_token = stop_at_five;
    generate(&f, u, &greedy, 2);
    assert_int_equal(u->all[0].n_ids, first);
    assert_true(u->all[0].stopped);
    assert_int_equal(u->all[1].n_ids, 5);
    assert_int_equal(u->all[2].n_ids, LENGTH);
    assert_false(u->all[2].stopped);
    struct texts *v = texts_make(&f);
    v->all[0].stop_ids = &stop;
    v->all[0].n_stop_ids = v->all[0].keep_stop = 1;
    generate(&f, v, &greedy, 2);
    assert_int_equal(v->all[0].n_ids, first + 1);
    assert_int_equal(v->all[0].ids[first], stop);
    assert_memory_equal(v->all[0].logprobs, t->all[0].logprobs, (first + 1) * sizeof(float));
    assert_true(v->all[0].stopped);
    texts_free(t);
    texts_free(u);
    texts_free(v);
    fixture_close(&f);
}

static int stop_after(void *left, const char *what, uint64_t done, uint64_t total)
{
    return !--*(int *)left;
}

/* What had ended when the others were stopped is what it is in a whole call. */
static void test_stopped(void **state)
{
    struct fixture f;
    struct siren_session *session;
    struct siren_sampling s = {.temperature = 1, .top_p = 1, .max_tokens = LENGTH, .seed = 3};
    int left = 12;
    const struct siren_progress progress = {stop_after, &left};
    fixture_open(&f, DECODER, NULL, 2);
    struct texts *t = texts_make(&f), *u = texts_make(&f);
    t->all[1].on_token = u->all[1].on_token = stop_at_five;
    t->all[4].on_token = u->all[4].on_token = stop_at_five;
    generate(&f, t, &s, 4);
    for (int i = 0; i < TEXTS; i++) assert_true(t->all[i].whole);
    assert_int_equal(siren_session_create(&session, f.engine, NULL, NULL), 0);
    assert_int_equal(siren_generate_many(session, u->all, TEXTS, &s, 4, &progress, NULL),
                     SIREN_ECANCEL);
    for (int i = 0; i < TEXTS; i++) {
        assert_int_equal(u->all[i].whole, i == 1 || i == 4);
        if (!u->all[i].whole) continue;
        assert_int_equal(u->all[i].n_ids, 5);
        assert_memory_equal(u->all[i].ids, t->all[i].ids, 5 * sizeof(int32_t));
        assert_memory_equal(u->all[i].logprobs, t->all[i].logprobs, 5 * sizeof(float));
    }
    siren_session_free(session);
    texts_free(t);
    texts_free(u);
    fixture_close(&f);
}

static void test_errors(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 1);
    struct texts *t = texts_make(&f);
    struct siren_session *s;
    struct siren_error err;
    assert_int_equal(siren_session_create(&s, f.engine, NULL, NULL), 0);
    static const struct siren_sampling bad[] = {{.top_p = 1},
                                                {.top_p = 0, .max_tokens = 3},
                                                {.top_p = 1, .max_tokens = 3, .temperature = -1},
                                                {.top_p = 1, .max_tokens = 3, .top_k = -1}};
    for (int i = 0; i < 4; i++)
        assert_int_equal(siren_generate_many(s, t->all, TEXTS, &bad[i], 0, NULL, &err),
                         SIREN_EINVAL);
    struct siren_sampling good = {.top_p = 1, .max_tokens = 3};
    t->all[2].prompt.n_ids = 0;
    assert_int_equal(siren_generate_many(s, t->all, TEXTS, &good, 0, NULL, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "text 2"));
    siren_session_free(s);
    texts_free(t);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_does_not_matter),
        cmocka_unit_test(test_not_a_number),
        cmocka_unit_test(test_kept_texts),
        cmocka_unit_test(test_repeated_prompts),
        cmocka_unit_test(test_shared_beginning),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_one_copy),
        cmocka_unit_test(test_held_cache),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_cold),
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
