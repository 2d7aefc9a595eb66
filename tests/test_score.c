/* Scoring: the trie, its passes and its cache give the bits of one prompt at a time. */
/* check: portable bf16 */
#include "engine_fixture.h"

#define DECODER "tests/fixtures/models/llama"

/* Prompts like ours: all share an instruction, users share a history, candidates differ. */
enum { USERS = 4, CANDIDATES = 5, PROMPTS = USERS * CANDIDATES, MOST = 96, CONTINUATIONS = 4 };
static const int32_t one[] = {11}, two[] = {12}, half[] = {12, 40, 15}, other[] = {12, 40, 16, 9};
static const struct siren_tokens continuations[CONTINUATIONS] = {
    {one, 1}, {two, 1}, {half, 3}, {other, 4}};

struct prompts {
    int32_t ids[PROMPTS][MOST];
    size_t n[PROMPTS];
    double logprobs[PROMPTS][CONTINUATIONS];
    struct siren_score scores[PROMPTS];
};

static struct prompts *prompts_make(const struct fixture *f)
{
    struct prompts *p = calloc(1, sizeof *p);
    for (int u = 0; u < USERS; u++)
        for (int c = 0; c < CANDIDATES; c++) {
            int i = c * USERS + u; /* not sorted */
            size_t user = 20 + 7 * (size_t)u, tail = 3 + 4 * (size_t)c;
            fixture_ids(f, 100, p->ids[i], 21);
            fixture_ids(f, 200 + (uint64_t)u, p->ids[i] + 21, user);
            fixture_ids(f, 300 + (uint64_t)c, p->ids[i] + 21 + user, tail);
            p->n[i] = 21 + user + tail;
            p->scores[i] = (struct siren_score){.prompt = {p->ids[i], p->n[i]},
                                                .continuations = continuations,
                                                .n_continuations = CONTINUATIONS,
                                                .logprobs = p->logprobs[i]};
        }
    return p;
}

static struct siren_session *session_make(const struct fixture *f, size_t cache, int pass_tokens)
{
    struct siren_session *s;
    struct siren_session_options options = {.cache_bytes = cache, .pass_tokens = pass_tokens};
    assert_int_equal(siren_session_create(&s, f->engine, &options, NULL), 0);
    return s;
}

static void score(struct siren_session *s, struct siren_score *scores, size_t n)
{
    struct siren_error err;
    if (siren_score_many(s, scores, n, NULL, &err)) fail_msg("%s", err.message);
}

/* Each continuation alone, straight from a forest of one chain. */
static double by_hand(const struct fixture *f, const struct prompts *p, int i, int c)
{
    const struct siren_tokens *t = &continuations[c];
    int32_t ids[MOST + 8];
    memcpy(ids, p->ids[i], p->n[i] * sizeof *ids);
    memcpy(ids + p->n[i], t->ids, t->n_ids * sizeof *ids);
    struct siren_forest *forest;
    assert_int_equal(siren_forest_create(&forest, f->engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, p->n[i] + t->n_ids - 1, 0), out[8];
    for (size_t j = 0; j < t->n_ids; j++)
        out[j] = siren_forest_want_logits(forest, s, p->n[i] - 1 + j, NULL, 0);
    fixture_run(forest);
    double sum = 0;
    for (size_t j = 0; j < t->n_ids; j++) {
        const float *x = siren_forest_output(forest, out[j]);
        double most = x[0], total = 0;
        for (int v = 1; v < siren_model_config(f->model)->n_vocab; v++)
            if (x[v] > most) most = x[v];
        for (int v = 0; v < siren_model_config(f->model)->n_vocab; v++) total += exp(x[v] - most);
        sum += x[t->ids[j]] - most - log(total);
    }
    siren_forest_free(forest);
    return sum;
}

static void test_values(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct prompts *p = prompts_make(&f);
    struct siren_session *s = session_make(&f, 0, 0);
    score(s, p->scores, PROMPTS);
    for (int i = 0; i < PROMPTS; i += 3)
        for (int c = 0; c < CONTINUATIONS; c++)
            assert_float_equal(p->logprobs[i][c], by_hand(&f, p, i, c), 2e-5);
    siren_session_free(s);
    free(p);
    fixture_close(&f);
}

/* Whatever the pass budget, the cache budget, the order and what was asked before: equal bits. */
static void test_same_bits(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct prompts *alone = prompts_make(&f), *p = prompts_make(&f);
    struct siren_session *s = session_make(&f, 0, 0);
    for (int i = 0; i < PROMPTS; i++) {
        score(s, &alone->scores[i], 1);
        assert_int_equal(alone->scores[i].tokens_cached, 0);
        siren_session_drop_cache(s);
    }
    siren_session_free(s);
    static const int budgets[] = {1, 40, 90, 300, 5000};
    static const size_t caches[] = {1, 1 << 18, 1 << 26};
    for (int b = 0; b < 5; b++)
        for (int c = 0; c < 3; c++)
            for (size_t keep = 0; keep < 40; keep += 33) {
                s = session_make(&f, caches[c], budgets[b]);
                for (int i = 0; i < PROMPTS; i++) p->scores[i].keep_prefix = keep;
                score(s, p->scores, PROMPTS);
                assert_memory_equal(p->logprobs, alone->logprobs, sizeof p->logprobs);
                for (int i = PROMPTS - 1; i >= 0; i -= 2) score(s, &p->scores[i], 1);
                assert_memory_equal(p->logprobs, alone->logprobs, sizeof p->logprobs);
                siren_session_free(s);
            }
    free(alone);
    free(p);
    fixture_close(&f);
}

static void test_sharing_is_counted(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct prompts *p = prompts_make(&f);
    struct siren_session *s = session_make(&f, 0, 0);
    score(s, p->scores, PROMPTS);
    size_t computed = 0, distinct = 21;
    for (int u = 0; u < USERS; u++) distinct += 20 + 7 * (size_t)u;
    for (int c = 0; c < CANDIDATES; c++) distinct += (3 + 4 * (size_t)c) * USERS;
    distinct += PROMPTS * 3; /* 12, 40, 16: the continuations' inner tokens */
    for (int i = 0; i < PROMPTS; i++) computed += p->scores[i].tokens_computed;
    assert_int_equal(computed, distinct);
    struct siren_cache_stats before = siren_session_stats(s);
    assert_int_equal(before.computed_tokens, distinct);
    assert_true(before.entries > 0 && before.bytes > 0);
    score(s, p->scores, 1); /* the instruction and the user are kept */
    assert_true(p->scores[0].tokens_cached >= 41);
    assert_int_equal(p->scores[0].tokens_computed, 3 + 3);
    siren_session_free(s);
    free(p);
    fixture_close(&f);
}

/* A prompt that is longer than a pass is computed once for its labels, not once for each. */
static void test_long_prompts_are_computed_once(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct prompts *p = prompts_make(&f);
    for (size_t n = 2; n <= CONTINUATIONS; n++) { /* with two all labels have one token */
        struct siren_session *s = session_make(&f, 0, 16);
        struct siren_score one_prompt = p->scores[PROMPTS - 1];
        one_prompt.n_continuations = n;
        score(s, &one_prompt, 1);
        size_t prompt = p->n[PROMPTS - 1], inner = n == 2 ? 0 : n == 3 ? 2 : 3;
        assert_true(one_prompt.tokens_computed >= prompt + inner);
        assert_true(one_prompt.tokens_computed <= prompt + inner + (n == 2 ? 0 : n));
        assert_int_equal(one_prompt.tokens_cached, 0);
        siren_session_free(s);
    }
    free(p);
    fixture_close(&f);
}

/* What is forgotten is memory given back: the least recent of what nothing else goes on from. */
static void test_the_budget_is_kept(void **state)
{
    struct fixture f;
    fixture_open(&f, DECODER, NULL, 2);
    struct prompts *p = prompts_make(&f);
    for (size_t budget = 1 << 12; budget <= 1 << 18; budget *= 4) {
        struct siren_session *s = session_make(&f, budget, 0);
        for (int round = 0; round < 3; round++)
            for (int i = 0; i < PROMPTS; i++) {
                p->scores[i].keep_prefix = 30 + (size_t)i;
                score(s, &p->scores[i], 1);
                assert_true(siren_session_stats(s).bytes <= budget);
            }
        siren_session_free(s);
    }
    free(p);
    fixture_close(&f);
}

static int stop_at_once(void *context, const char *what, uint64_t done, uint64_t total)
{
    return 1;
}

static void test_errors(void **state)
{
    struct fixture f;
    struct siren_error err;
    fixture_open(&f, DECODER, NULL, 1);
    struct prompts *p = prompts_make(&f);
    struct siren_session *s = session_make(&f, 0, 64);
    p->scores[0].tokens_cached = 77;
    p->scores[1].prompt.n_ids = 0;
    assert_int_equal(siren_score_many(s, p->scores, 2, NULL, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "prompt 1"));
    assert_int_equal(siren_session_stats(s).prompt_tokens, 0); /* none was begun */
    assert_int_equal(siren_session_stats(s).cached_tokens, 0);
    p->scores[1].prompt.n_ids = p->n[1];
    static const int32_t bad[] = {1 << 29};
    struct siren_tokens wrong[] = {{bad, 1}};
    p->scores[0].continuations = wrong;
    p->scores[0].n_continuations = 1;
    assert_int_equal(siren_score_many(s, p->scores, 1, NULL, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "vocabulary"));
    struct siren_progress progress = {.update = stop_at_once};
    assert_int_equal(siren_score_many(s, p->scores + 1, PROMPTS - 1, &progress, &err),
                     SIREN_ECANCEL);
    siren_session_free(s);
    s = session_make(&f, 0, 1 << 20); /* one pass: nothing is left to be stopped */
    assert_int_equal(siren_score_many(s, p->scores + 1, PROMPTS - 1, &progress, &err), 0);
    siren_session_free(s);
    free(p);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_sharing_is_counted),
        cmocka_unit_test(test_long_prompts_are_computed_once),
        cmocka_unit_test(test_the_budget_is_kept),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
