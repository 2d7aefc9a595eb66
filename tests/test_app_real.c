/* The jobs on a real language model and a real encoder ($SIREN_MODELS). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/rollout.h"
#include "app_fixture.h"

static struct siren_pool *pool;
static char folder[512], model[600], encoder_path[600];

static int have_models(void)
{
    const char *models = getenv("SIREN_MODELS");
    if (!models) return 0;
    snprintf(folder, sizeof folder, "%s", models);
    snprintf(model, sizeof model, "%s/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf",
             folder);
    snprintf(encoder_path, sizeof encoder_path, "%s/all-minilm-l6-v2", folder);
    return 1;
}

static void ranking_shares_the_users_part_and_changes_no_bit(void **state)
{
    struct siren_app app;
    struct siren_lm lm;
    struct siren_rank_options o = {.predict = siren_predict_defaults(), .n_candidates = 6};
    struct siren_ranking r;
    size_t tokens = 0, cached = 0;
    if (!have_models()) skip();
    MUST(siren_lm_open(&lm, model, NULL, pool, ERR));
    MUST(siren_app_open(&app, fixture_workspace("real.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    MUST(siren_rank(&app, &lm, 4, &o, &r, NULL, ERR));
    for (size_t i = 0; i < r.n; i++) {
        struct siren_answer alone;
        siren_session_drop_cache(lm.session);
        MUST(siren_predict(&app, &lm, &r.ranked[i].target, 1, &o.predict, &alone, NULL, ERR));
        assert_memory_equal(alone.logprobs, r.ranked[i].answer.logprobs, 5 * sizeof(double));
        siren_answer_clear(&alone);
        tokens += (size_t)r.ranked[i].answer.tokens_in;
        cached += (size_t)r.ranked[i].answer.tokens_cached;
    }
    assert_true(cached > tokens / 2);
    siren_ranking_clear(&r);
    siren_app_close(&app);
    siren_lm_close(&lm);
}

static void the_model_is_sure_that_a_rating_follows(void **state)
{
    struct siren_app app;
    struct siren_lm lm;
    struct siren_predict_options o = siren_predict_defaults();
    struct siren_target target;
    struct siren_answer a;
    if (!have_models()) skip();
    MUST(siren_lm_open(&lm, model, NULL, pool, ERR));
    MUST(siren_app_open(&app, fixture_workspace("sure.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    MUST(siren_app_target(&app, "u3", "i25", &target, ERR));
    MUST(siren_predict(&app, &lm, &target, 1, &o, &a, NULL, ERR));
    assert_true(a.outside < 0.5);
    siren_answer_clear(&a);
    o.mode = SIREN_COT;
    o.sampling.max_tokens = 12;
    MUST(siren_predict(&app, &lm, &target, 1, &o, &a, NULL, ERR));
    assert_true(a.tokens_out <= 12 && a.text && !strncmp(a.text, "<think>\n", 8));
    siren_answer_clear(&a);
    siren_app_close(&app);
    siren_lm_close(&lm);
}

static void models_are_told_apart(void **state)
{
    struct siren_lm lm;
    struct siren_encoder encoder;
    char a[256], b[256];
    if (!have_models()) skip();
    assert_int_equal(siren_lm_open(&lm, encoder_path, NULL, pool, ERR), SIREN_EINVAL);
    assert_non_null(strstr(must_error.message, "encoder"));
    assert_int_equal(siren_encoder_open(&encoder, model, NULL, pool, ERR), SIREN_EINVAL);
    assert_non_null(strstr(must_error.message, "language model"));
    MUST(siren_model_identity(model, a, ERR));
    MUST(siren_model_identity(encoder_path, b, ERR));
    assert_string_not_equal(a, b);
    assert_int_equal(strncmp(a, "SmolLM2-135M-Instruct.Q4_1#", 27), 0);
    assert_true(siren_model_identity("/nonexistent", a, ERR) < 0);
}

static void texts_are_embedded_and_cut(void **state)
{
    struct siren_encoder e;
    char *endless = malloc(40001);
    const char *texts[3] = {"a quiet film", NULL, "a quiet film"};
    float *v;
    double length = 0;
    if (!have_models()) {
        free(endless);
        skip();
    }
    for (int i = 0; i < 40000; i++) endless[i] = i % 5 ? 'a' + (char)(i % 7) : ' ';
    endless[40000] = '\0';
    texts[1] = endless;
    MUST(siren_encoder_open(&e, encoder_path, NULL, pool, ERR));
    v = malloc(3 * (size_t)e.d * sizeof *v);
    MUST(siren_encoder_embed(&e, texts, 3, v, NULL, ERR));
    for (int k = 0; k < e.d; k++) length += (double)v[k] * v[k];
    assert_true(fabs(length - 1) < 1e-5);
    assert_memory_equal(v, v + 2 * e.d, (size_t)e.d * sizeof *v);
    free(v);
    free(endless);
    siren_encoder_close(&e);
}

static int setup(void **state)
{
    return scratch_create(state) || siren_pool_create(&pool, 2, ERR) ? -1 : 0;
}

static int teardown(void **state)
{
    siren_pool_free(pool);
    return scratch_delete(state);
}

/* SmolLM2 has a token "></", so that an empty answer ends in tokens of which the first belongs to
 * "<answer>": the text is the same whether labels are scored behind that tag or not. */
static const struct siren_lm_calls *engine;
static int say_nothing(struct siren_lm *lm, struct siren_generation *all, size_t n,
                       const struct siren_sampling *sampling, int batch,
                       const struct siren_progress *progress, struct siren_error *err)
{
    for (size_t i = 0; i < n; i++)
        fixture_say(lm, &all[i], "Hm.\n</think>\n<answer></answer> and so on, and so on",
                    sampling->max_tokens);
    return 0;
}

static int score(struct siren_lm *lm, struct siren_score *scores, size_t n,
                 const struct siren_progress *progress, struct siren_error *err)
{
    return engine->score(lm, scores, n, progress, err);
}

static void an_empty_answer_ends_the_text(void **state)
{
    static const struct siren_lm_calls calls = {score, say_nothing};
    static const int32_t prompt[] = {1, 100, 200, 300};
    const struct siren_scale scale = {1, 5, 1};
    const struct rollout_prompt p = {prompt, 4, 7};
    struct siren_readout readout;
    struct siren_lm lm;
    struct rollout r[2] = {0};
    if (!have_models()) skip();
    MUST(siren_lm_open(&lm, model, NULL, pool, ERR));
    engine = lm.calls;
    lm.calls = &calls;
    MUST(siren_readout_create(&readout, lm.tokenizer, &scale, ERR));
    for (int labels = 0; labels < 2; labels++) {
        struct rollout_options o = {.sampling = {.temperature = 1, .top_p = 1, .max_tokens = 60},
                                    .samples = 1,
                                    .readout = labels ? &readout : NULL};
        MUST(rollouts_write(&lm, &scale, &p, 1, &o, &r[labels], NULL, ERR));
        assert_non_null(strstr(r[labels].text, "<answer></answer>"));
        assert_true(r[labels].reading.format);
    }
    assert_string_equal(r[0].text, r[1].text);
    assert_int_equal(r[0].n, r[1].n);
    assert_memory_equal(r[0].ids, r[1].ids, r[0].n * sizeof *r[0].ids);
    rollout_clear(&r[0]);
    rollout_clear(&r[1]);
    siren_readout_clear(&readout);
    siren_lm_close(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranking_shares_the_users_part_and_changes_no_bit),
        cmocka_unit_test(the_model_is_sure_that_a_rating_follows),
        cmocka_unit_test(models_are_told_apart),
        cmocka_unit_test(an_empty_answer_ends_the_text),
        cmocka_unit_test(texts_are_embedded_and_cut),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
