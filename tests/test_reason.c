/* Reasoning with samples: where the labels are scored, what is averaged, what is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "fake_setup.h"
#include "model/model.h"

static struct siren_app app;

/* ---- a model that writes one of some texts, a token at a time ---- */

static const char *const *texts;
static size_t n_texts, n_queries, longest_query; /* in tokens, with the longest label */
static char queries[64][64];                     /* the ends of the scored prompts */

static int script(struct siren_lm *model, struct siren_generation *all, size_t n,
                  const struct siren_sampling *sampling, int batch,
                  const struct siren_progress *progress, struct siren_error *err)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t stream = all[i].sequence;
        fixture_say(model, &all[i], texts[(stream ^ stream >> 32) % n_texts], sampling->max_tokens);
    }
    return 0;
}

/* The same with a NUL for each '~', as a byte of a vocabulary may be one. */
static int script_with_nul(struct siren_lm *model, struct siren_generation *all, size_t n,
                           const struct siren_sampling *sampling, int batch,
                           const struct siren_progress *progress, struct siren_error *err)
{
    int32_t tilde = -1, nul = -1;
    for (int32_t id = 0; id < siren_tokenizer_size(model->tokenizer); id++) {
        size_t length = 0;
        const char *piece = siren_tokenizer_piece(model->tokenizer, id, &length);
        if (length == 1 && *piece == '~') tilde = id;
        if (length == 1 && *piece == 0) nul = id;
    }
    assert_true(tilde >= 0 && nul >= 0);
    for (size_t i = 0; i < n; i++) { /* the script knows its own text in the prompt */
        struct siren_tokens given = all[i].prompt;
        int32_t *ids = malloc(given.n_ids * sizeof *ids);
        for (size_t k = 0; k < given.n_ids; k++)
            ids[k] = given.ids[k] == nul ? tilde : given.ids[k];
        all[i].prompt.ids = ids;
        script(model, &all[i], 1, sampling, batch, progress, err);
        all[i].prompt = given;
        free(ids);
        for (size_t k = 0; k < all[i].n_ids; k++)
            if (all[i].ids[k] == tilde) all[i].ids[k] = nul;
    }
    return 0;
}

static int score(struct siren_lm *model, struct siren_score *scores, size_t n,
                 const struct siren_progress *progress, struct siren_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct siren_tokens *p = &scores[i].prompt;
        size_t length, last = p->n_ids < 40 ? p->n_ids : 40;
        char *text;
        for (size_t k = 0; k < scores[i].n_continuations; k++)
            if (p->n_ids + scores[i].continuations[k].n_ids > longest_query)
                longest_query = p->n_ids + scores[i].continuations[k].n_ids;
        MUST(siren_tokenizer_decode(model->tokenizer, p->ids + p->n_ids - last, last, 0, &text,
                                    &length, err));
        snprintf(queries[n_queries++ % 64], 64, "%s", length > 60 ? text + length - 60 : text);
        free(text);
    }
    return fake_score(model, scores, n, progress, err);
}

static const struct siren_lm_calls calls = {score, script},
                                   calls_with_nul = {score, script_with_nul};

static void say(const char *const *list, size_t n)
{
    texts = list;
    n_texts = n;
    n_queries = 0;
}

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static struct siren_predict_options sampled(int samples)
{
    struct siren_predict_options o = siren_predict_defaults();
    o.mode = SIREN_COT;
    o.samples = samples;
    o.sampling.temperature = 1;
    o.sampling.max_tokens = 64;
    return o;
}

static void ask(const char *item, const struct siren_predict_options *o, struct siren_answer *a)
{
    struct siren_target t;
    MUST(siren_app_target(&app, "u1", item, &t, ERR));
    MUST(siren_predict(&app, &lm, &t, 1, o, a, NULL, ERR));
}

/* ---- tests ---- */

static void the_labels_are_scored_behind_the_tag(void **state)
{
    static const char *const good[] = {"Seems good.\n</think>\n<answer>4</answer> and more"};
    struct siren_predict_options plain = sampled(0), one = sampled(1);
    struct siren_answer a, b;
    double sum = 0;
    say(good, 1);
    ask("i20", &plain, &a);
    assert_int_equal(n_queries, 0);
    assert_int_equal(a.n_labels, 0);
    assert_true(isnan(a.outside) && a.mean == 4);
    ask("i20", &one, &b);
    assert_int_equal(n_queries, 1);
    assert_true(ends_with(queries[0], "good.\n</think>\n<answer>"));
    assert_string_equal(a.text, b.text);
    assert_true(ends_with(a.text, "<answer>4</answer>")); /* what the model goes on with is cut */
    assert_int_equal(a.tokens_out, b.tokens_out);
    assert_int_equal(b.n_labels, 5);
    for (int k = 0; k < 5; k++) sum += b.probabilities[k];
    assert_true(fabs(sum - 1) < 1e-12);
    assert_true(b.number == 4 && b.samples == 1 && !b.unreadable && !b.invalid);
    assert_true(b.mean != 4); /* of the distribution */
    siren_answer_clear(&a);
    siren_answer_clear(&b);
}

/* The fixture's tokenizer with one more token: ">\n". */
static struct siren_tokenizer *tokenizer_that_joins(void)
{
    json_t *j = json_load_file("tests/fixtures/models/smol/tokenizer.json", 0, NULL);
    json_t *added = json_object_get(j, "added_tokens");
    struct siren_tokenizer *t;
    char *text;
    int id = siren_tokenizer_size(lm.tokenizer);
    assert_non_null(added);
    json_array_append_new(added, json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", id, "content",
                                           ">\n", "single_word", 0, "lstrip", 0, "rstrip", 0,
                                           "normalized", 0, "special", 0));
    text = json_dumps(j, 0);
    MUST(siren_tokenizer_load(&t, scratch_write("tokenizer.json", text, strlen(text)), ERR));
    assert_int_equal(siren_tokenizer_id(t, ">\n"), id);
    free(text);
    json_decref(j);
    return t;
}

/* The tag's last byte shares its token with what follows. */
static void a_token_across_the_tags_end_is_parted(void **state)
{
    static const char *const lines[] = {"Good.\n</think>\n<answer>\n4</answer>"};
    struct siren_predict_options plain = sampled(0), one = sampled(1);
    struct siren_tokenizer *usual = lm.tokenizer;
    struct siren_answer a, b;
    lm.tokenizer = tokenizer_that_joins();
    say(lines, 1);
    ask("i20", &plain, &a);
    ask("i20", &one, &b);
    assert_int_equal(n_queries, 1);
    assert_true(ends_with(queries[0], "</think>\n<answer>"));
    assert_string_equal(a.text, b.text);
    assert_string_equal(b.text, "<think>\nGood.\n</think>\n<answer>\n4</answer>");
    assert_true(b.number == 4 && !b.unreadable);
    siren_answer_clear(&a);
    siren_answer_clear(&b);
    siren_tokenizer_free(lm.tokenizer);
    lm.tokenizer = usual;
}

static void a_text_without_the_tag_gets_one(void **state)
{
    static const char *const astray[] = {"I like films"}, *const thought[] = {"Hm.\n</think>"};
    struct siren_predict_options o = sampled(1);
    struct siren_answer a;
    say(astray, 1);
    ask("i20", &o, &a);
    assert_true(ends_with(queries[0], "I like films\n</think>\n<answer>"));
    assert_int_equal(a.n_labels, 5);
    assert_true(a.invalid && a.unreadable == 1 && a.number == 5);
    assert_string_equal(a.text, "<think>\nI like films");
    siren_answer_clear(&a);
    say(thought, 1);
    o.fallback = 3;
    ask("i20", &o, &a);
    assert_true(ends_with(queries[0], "Hm.\n</think>\n<answer>"));
    assert_true(a.invalid && a.number == 3);
    siren_answer_clear(&a);
}

static void a_nul_in_a_text_is_a_space(void **state)
{
    static const char *const lines[] = {"So ~ good.\n</think>\n<answer>4</answer>"};
    struct siren_predict_options plain = sampled(0), one = sampled(1);
    struct siren_answer a, b;
    lm.calls = &calls_with_nul;
    say(lines, 1);
    ask("i20", &plain, &a);
    ask("i20", &one, &b);
    assert_string_equal(a.text, "<think>\nSo   good.\n</think>\n<answer>4</answer>");
    assert_string_equal(a.text, b.text);
    assert_true(a.number == 4 && b.number == 4 && !b.unreadable);
    assert_int_equal(b.n_labels, 5);
    siren_answer_clear(&a);
    siren_answer_clear(&b);
    lm.calls = &calls;
}

/* A text stops where tag and labels would no longer fit the model's positions. */
static void a_text_leaves_room_for_the_answer(void **state)
{
    static const char *const endless[] = {
        "On and on and on and on and on and on and on and on and on and on and on and on"};
    static struct siren_model model;
    struct siren_predict_options plain = sampled(0), one = sampled(1);
    struct siren_target t;
    struct siren_answer a;
    int closing_ids = 0;
    say(endless, 1);
    ask("i20", &plain, &a);
    int n = a.tokens_in, whole = a.tokens_out;
    siren_answer_clear(&a);
    MUST(siren_app_target(&app, "u1", "i20", &t, ERR));
    lm.model = &model;
    for (int positions = n + 1; positions < n + 60; positions++) {
        model.config.max_positions = positions;
        longest_query = 0;
        if (siren_predict(&app, &lm, &t, 1, &one, &a, NULL, ERR)) {
            assert_non_null(strstr(must_error.message, "leaves no room"));
            closing_ids = positions - n;
            continue;
        }
        assert_true(longest_query <= (size_t)positions);
        assert_int_equal(a.tokens_out,
                         positions - n - closing_ids < whole ? positions - n - closing_ids : whole);
        assert_true(a.invalid && a.n_labels == 5);
        siren_answer_clear(&a);
    }
    lm.model = NULL;
    assert_true(closing_ids > 1 && closing_ids < 40);
}

static void the_limit_holds_for_both_parts(void **state)
{
    static const char *const longer[] = {"Good.\n</think>\n<answer>4 4 4 4 4 4 4 4 4 4 4 4 4 4"};
    struct siren_predict_options plain = sampled(0), one = sampled(1);
    struct siren_answer a, b;
    say(longer, 1);
    for (int limit = 1; limit < 30; limit++) {
        plain.sampling.max_tokens = one.sampling.max_tokens = limit;
        ask("i20", &plain, &a);
        ask("i20", &one, &b);
        assert_string_equal(a.text, b.text);
        assert_int_equal(a.tokens_out, b.tokens_out);
        assert_true(b.tokens_out <= limit);
        siren_answer_clear(&a);
        siren_answer_clear(&b);
    }
}

static const char *const mixed[] = {"A.\n</think>\n<answer>2</answer>",
                                    "B.\n</think>\n<answer>5</answer>", "C, and so on",
                                    "D.\n</think>\n<answer>1</answer>"};

static size_t occurrences(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, word)); p += strlen(word)) n++;
    return n;
}

static void samples_are_averaged_and_counted(void **state)
{
    struct siren_predict_options o = sampled(16);
    struct siren_answer a;
    double sum = 0, joint = 0, number;
    size_t n[4];
    say(mixed, 4);
    ask("i20", &o, &a);
    assert_int_equal(n_queries, 16);
    for (int i = 0; i < 4; i++) {
        const char word[] = {'\n', "ABCD"[i], i == 2 ? ',' : '.', '\0'};
        n[i] = occurrences(a.text, word);
    }
    assert_int_equal(n[0] + n[1] + n[2] + n[3], 16);
    assert_int_equal(occurrences(a.text, "<think>\n"), 16);
    assert_true(n[2] > 0 && n[2] < 16); /* the streams differ */
    assert_int_equal(a.unreadable, n[2]);
    assert_int_equal(a.in_format, 16 - n[2]);
    assert_int_equal(a.faults[SIREN_FAULT_TRUNCATED], n[2]);
    assert_int_equal(a.faults[SIREN_FAULT_UNCLOSED], n[2]);
    assert_int_equal(a.faults[SIREN_FAULT_REPEATED], 0);
    assert_false(a.invalid);
    number = (double)(2 * n[0] + 5 * n[1] + 5 * n[2] + n[3]) / 16;
    assert_true(fabs(a.number - number) < 1e-12);
    for (int k = 0; k < 5; k++) {
        sum += a.probabilities[k];
        joint += exp(a.logprobs[k]);
    }
    assert_true(fabs(sum - 1) < 1e-12);
    assert_true(a.outside >= fmax(0, 1 - joint) - 1e-12);
    siren_answer_clear(&a);
}

/* One text: the distribution by hand from the scores that the model gave. */
static void the_mean_is_of_distributions(void **state)
{
    static const char *const same[] = {"A.\n</think>\n<answer>2</answer>"};
    struct siren_predict_options one = sampled(1), many = sampled(7);
    struct siren_answer a, b;
    say(same, 1);
    ask("i20", &one, &a);
    ask("i20", &many, &b);
    for (int k = 0; k < 5; k++) {
        assert_true(fabs(a.probabilities[k] - b.probabilities[k]) < 1e-12);
        assert_true(fabs(a.logprobs[k] - b.logprobs[k]) < 1e-12);
    }
    assert_true(a.outside > 0 && fabs(a.outside - b.outside) < 1e-12);
    assert_int_equal(b.tokens_out, 7 * a.tokens_out);
    siren_answer_clear(&a);
    siren_answer_clear(&b);
}

static void alone_or_in_a_batch_the_answers_are_equal(void **state)
{
    struct siren_predict_options o = sampled(5);
    struct siren_target t[6];
    struct siren_answer batch[6], a;
    say(mixed, 4);
    for (int i = 0; i < 6; i++)
        MUST(siren_app_target(&app, "u1", fixture_name('i', 18 + i), &t[i], ERR));
    for (int at_once = 0; at_once <= 16;
         at_once += 8) { /* all at once, one, three prompts at once */
        o.batch = at_once;
        MUST(siren_predict(&app, &lm, t, 6, &o, batch, NULL, ERR));
        for (int i = 0; i < 6; i++) {
            MUST(siren_predict(&app, &lm, &t[i], 1, &o, &a, NULL, ERR));
            assert_memory_equal(a.probabilities, batch[i].probabilities, sizeof a.probabilities);
            assert_memory_equal(a.logprobs, batch[i].logprobs, sizeof a.logprobs);
            assert_string_equal(a.text, batch[i].text);
            assert_true(a.number == batch[i].number && a.unreadable == batch[i].unreadable);
            siren_answer_clear(&a);
            siren_answer_clear(&batch[i]);
        }
    }
}

static void wrong_options_are_errors(void **state)
{
    struct siren_predict_options o = sampled(-1);
    struct siren_target t;
    struct siren_answer a;
    MUST(siren_app_target(&app, "u1", "i20", &t, ERR));
    assert_int_equal(siren_predict(&app, &lm, &t, 1, &o, &a, NULL, ERR), SIREN_EINVAL);
    o = sampled(2);
    o.sampling.temperature = 0;
    assert_int_equal(siren_predict(&app, &lm, &t, 1, &o, &a, NULL, ERR), SIREN_EINVAL);
    assert_non_null(strstr(must_error.message, "temperature"));
}

/* ---- evaluation ---- */

static json_t *evaluated(struct siren_app *with, struct siren_pool *pool, int64_t *run)
{
    struct siren_eval_options o = siren_eval_defaults();
    struct siren_run stored;
    json_t *metrics;
    o.predict = sampled(4);
    o.split = "train";
    o.limit = 9;
    MUST(siren_evaluate(with, &lm, &o, pool, run, NULL, ERR));
    MUST(siren_run_load(&stored, with->ws, *run, ERR));
    metrics = json_loads(stored.metrics, 0, NULL);
    siren_run_clear(&stored);
    return metrics;
}

/* Stopped where every other text is at its end. */
static int stopped_script(struct siren_lm *model, struct siren_generation *all, size_t n,
                          const struct siren_sampling *sampling, int batch,
                          const struct siren_progress *progress, struct siren_error *err)
{
    script(model, all, n, sampling, batch, progress, err);
    for (size_t i = 0; i < n; i++) {
        all[i].whole = i % 2;
        if (!all[i].whole) all[i].n_ids = 1;
    }
    return siren_fail(err, SIREN_ECANCEL, "stopped");
}

static int64_t evaluate_all(struct siren_app *with, struct siren_pool *pool, int samples, int code)
{
    struct siren_eval_options o = siren_eval_defaults();
    int64_t run;
    o.predict = sampled(samples);
    o.split = "train";
    o.limit = 70;
    o.anew = code != 0;
    if (siren_evaluate(with, &lm, &o, pool, &run, NULL, ERR) != code) fail_msg("%s", ERR->message);
    return run;
}

static void same_answers(struct siren_app *with, int64_t a, int64_t b)
{
    struct siren_predictions p, q;
    MUST(siren_predictions_load(&p, with->ws, a, ERR));
    MUST(siren_predictions_load(&q, with->ws, b, ERR));
    assert_int_equal(p.n, 70);
    assert_int_equal(q.n, 70);
    for (size_t i = 0; i < p.n; i++) {
        const struct siren_prediction *x = &p.prediction[i], *y = &q.prediction[i];
        assert_true(x->row == y->row && x->user == y->user && x->item == y->item);
        assert_true(x->mean == y->mean && x->tokens_out == y->tokens_out);
        assert_string_equal(x->text, y->text);
        assert_string_equal(x->reasoning, y->reasoning);
    }
    siren_predictions_clear(&p);
    siren_predictions_clear(&q);
}

/* Texts take long: those that are there when others are stopped are stored, and not written again.
 * Where labels are scored, which is behind all texts, there are none. */
static void what_is_whole_at_a_stop_is_kept(void **state)
{
    static const struct siren_lm_calls stopped = {score, stopped_script};
    struct siren_app with;
    struct siren_pool *pool;
    struct siren_run run;
    MUST(siren_pool_create(&pool, 1, ERR));
    MUST(siren_app_open(&with, fixture_workspace("stopped.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    say(mixed, 4);
    int64_t whole = evaluate_all(&with, pool, 0, 0);
    for (int samples = 0; samples < 2; samples++) {
        lm.calls = &stopped;
        int64_t id = evaluate_all(&with, pool, samples, SIREN_ECANCEL);
        lm.calls = &calls;
        assert_non_null(strstr(ERR->message, samples ? "after 0 of 70" : "after 32 of 70"));
        MUST(siren_run_load(&run, with.ws, id, ERR));
        assert_int_equal(run.n_predictions, samples ? 0 : 32);
        assert_int_equal(run.status, SIREN_RUN_STOPPED);
        siren_run_clear(&run);
        assert_int_equal(evaluate_all(&with, pool, samples, 0), id);
        if (!samples) same_answers(&with, whole, id);
    }
    siren_app_close(&with);
    siren_pool_free(pool);
}

static double at(const json_t *j, const char *a, const char *b, const char *c)
{
    const json_t *x = json_object_get(json_object_get(j, a), b);
    return json_number_value(c ? json_object_get(x, c) : x);
}

/* Faults by kind, the mean number beside the distribution; all of it off the stored rows. */
static void an_evaluation_reports_its_texts(void **state)
{
    struct siren_app with;
    struct siren_pool *pool;
    struct siren_predictions p;
    int64_t run;
    json_t *m;
    double mae = 0, tokens = 0, lost = 0;
    MUST(siren_pool_create(&pool, 1, ERR));
    MUST(siren_app_open(&with, fixture_workspace("eval.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    say(mixed, 4);
    m = evaluated(&with, pool, &run);
    MUST(siren_predictions_load(&p, with.ws, run, ERR));
    assert_int_equal(p.n, 9);
    for (size_t i = 0; i < p.n; i++) {
        json_t *j = json_loads(p.prediction[i].reasoning, 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(j, "texts")), 4);
        lost += json_number_value(json_object_get(j, "unreadable"));
        mae += fabs(json_number_value(json_object_get(j, "number")) - p.prediction[i].truth) / 9;
        tokens += p.prediction[i].tokens_out / 36.0;
        json_decref(j);
    }
    siren_predictions_clear(&p);
    assert_true(lost > 0 && lost < 36);
    assert_true(at(m, "reasoning", "texts", NULL) == 36);
    assert_float_equal(at(m, "reasoning", "texts_a_row", NULL), 4, 1e-12);
    assert_float_equal(at(m, "reasoning", "tokens_a_text", NULL), tokens, 1e-9);
    assert_float_equal(at(m, "reasoning", "in_format", NULL), 1 - lost / 36, 1e-9);
    assert_float_equal(at(m, "reasoning", "faults", "truncated"), lost / 36, 1e-9);
    assert_float_equal(at(m, "reasoning", "faults", "unclosed"), lost / 36, 1e-9);
    assert_float_equal(at(m, "reasoning", "faults", "no number"), lost / 36, 1e-9);
    assert_true(at(m, "reasoning", "faults", "repeated tag") == 0);
    assert_float_equal(at(m, "decoders", "number", "mae"), mae, 1e-9);
    assert_true(at(m, "decoders", "number", "mae") != at(m, "decoders", "median", "mae"));
    json_decref(m);
    siren_app_close(&with);
    siren_pool_free(pool);
}

static int setup(void **state)
{
    if (fake_setup(state)) return -1;
    lm.calls = &calls;
    MUST(siren_app_open(&app, fixture_workspace("reason.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    return 0;
}

static int teardown(void **state)
{
    siren_app_close(&app);
    return fake_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_labels_are_scored_behind_the_tag),
        cmocka_unit_test(a_token_across_the_tags_end_is_parted),
        cmocka_unit_test(a_text_without_the_tag_gets_one),
        cmocka_unit_test(a_nul_in_a_text_is_a_space),
        cmocka_unit_test(a_text_leaves_room_for_the_answer),
        cmocka_unit_test(the_limit_holds_for_both_parts),
        cmocka_unit_test(samples_are_averaged_and_counted),
        cmocka_unit_test(the_mean_is_of_distributions),
        cmocka_unit_test(alone_or_in_a_batch_the_answers_are_equal),
        cmocka_unit_test(wrong_options_are_errors),
        cmocka_unit_test(what_is_whole_at_a_stop_is_kept),
        cmocka_unit_test(an_evaluation_reports_its_texts),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
