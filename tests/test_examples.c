/* Rows of a workspace as training examples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/examples.h"
#include "fake_setup.h"

static struct siren_predict_options options(const char *strategy, enum siren_ending mode)
{
    struct siren_predict_options o = siren_predict_defaults();
    MUST(siren_strategy_parse(&o.strategy, strategy, ERR));
    o.mode = mode;
    return o;
}

static void open_rows(const char *name, struct siren_app *app, struct siren_target **targets,
                      size_t *n)
{
    struct siren_eval_options o = siren_eval_defaults();
    o.split = "train";
    o.limit = 20;
    o.seed = 5;
    MUST(siren_app_open(app, fixture_workspace(name, SIREN_PROTOCOL_FULL), SIREN_WORKSPACE_READ,
                        ERR));
    MUST(siren_eval_targets(app, &o, targets, n, ERR));
}

static char *text_of(const int32_t *ids, size_t n)
{
    char *text;
    size_t length;
    MUST(siren_tokenizer_decode(lm.tokenizer, ids, n, 0, &text, &length, ERR));
    return text;
}

static void answer_only_examples_end_with_the_label(void **state)
{
    struct siren_predict_options o = options("habit+sketch", SIREN_AO);
    struct siren_app app;
    struct siren_target *targets;
    struct examples e;
    size_t n;
    open_rows("ao.siren", &app, &targets, &n);
    MUST(examples_create(&e, &app, &lm, targets, n, &o, 1, ERR));
    assert_int_equal(e.n, 20);
    for (size_t i = 0; i < n; i++) {
        struct example *x = &e.list[i];
        char *prompt = text_of(x->ids, x->n_prompt);
        char *answer = text_of(x->ids + x->n_prompt, x->n_ids - x->n_prompt);
        assert_string_equal(prompt + strlen(prompt) - strlen("<answer>"), "<answer>");
        assert_true(atof(answer) == x->rating);
        assert_true(x->rating == app.ratings.rating[targets[i].row]);
        assert_int_equal(x->label, (int)x->rating - 1);
        free(prompt);
        free(answer);
    }
    examples_clear(&e);
    free(targets);
    siren_app_close(&app);
}

/* The prompt of an example is the prompt that the model is asked with. */
static void the_prompt_is_that_of_a_prediction(void **state)
{
    struct siren_predict_options o = options("recent+sketch", SIREN_COT);
    struct siren_app app;
    struct siren_target *targets;
    struct examples e;
    size_t n;
    open_rows("same.siren", &app, &targets, &n);
    MUST(examples_create(&e, &app, &lm, targets, n, &o, 1, ERR));
    for (size_t i = 0; i < n; i++) {
        struct siren_target_input in;
        struct siren_prompt_ids ids;
        MUST(siren_target_input(&app, &targets[i], &o, &in, ERR));
        MUST(siren_prompt_encode(&ids, lm.tokenizer, lm.chat, &in.input, &o.strategy, o.mode,
                                 o.prompt_limit, ERR));
        assert_int_equal(e.list[i].n_prompt, ids.n_ids);
        assert_memory_equal(e.list[i].ids, ids.ids, ids.n_ids * sizeof *ids.ids);
        siren_prompt_ids_clear(&ids);
        siren_target_input_clear(&in);
    }
    examples_clear(&e);
    free(targets);
    siren_app_close(&app);
}

static void reasoned_examples_are_in_format_and_end_the_turn(void **state)
{
    struct siren_predict_options o = options("habit+sketch", SIREN_COT);
    struct siren_app app;
    struct siren_target *targets;
    struct examples e;
    size_t n, n_named = 0;
    open_rows("cot.siren", &app, &targets, &n);
    MUST(examples_create(&e, &app, &lm, targets, n, &o, 1, ERR));
    int32_t stop = siren_tokenizer_id(lm.tokenizer, "<|im_end|>");
    for (size_t i = 0; i < n; i++) {
        struct example *x = &e.list[i];
        char *response = text_of(x->ids + x->n_prompt, x->n_ids - x->n_prompt - 1);
        char *whole = malloc(strlen(response) + 16);
        sprintf(whole, "<think>\n%s", response);
        assert_int_equal(x->ids[x->n_ids - 1], stop);
        struct siren_reading a = siren_answer_read(whole, 1, 5, 0);
        assert_int_equal(a.faults, 0);
        assert_true(a.rating == x->rating);
        /* the rating's own tokens */
        char *answer = text_of(x->ids + x->answer, x->n_answer), label[24];
        siren_rating_text(x->rating, label);
        assert_string_equal(answer, label);
        assert_true(x->answer > x->n_prompt);
        free(answer);
        /* the candidate's own topic, where the sketch has it */
        n_named += strstr(whole, app.topic_names[x->target.item % N_TOPICS]) != NULL;
        free(whole);
        free(response);
    }
    assert_true(n_named > 0);
    examples_clear(&e);
    free(targets);
    siren_app_close(&app);
}

static void alone_or_among_others_an_example_is_the_same(void **state)
{
    struct siren_predict_options o = options("habit+sketch", SIREN_COT);
    struct siren_app app;
    struct siren_target *targets;
    struct examples all, one;
    size_t n;
    open_rows("alone.siren", &app, &targets, &n);
    MUST(examples_create(&all, &app, &lm, targets, n, &o, 1, ERR));
    for (size_t i = 0; i < n; i++) {
        MUST(examples_create(&one, &app, &lm, &targets[i], 1, &o, 1, ERR));
        assert_int_equal(one.list[0].n_ids, all.list[i].n_ids);
        assert_memory_equal(one.list[0].ids, all.list[i].ids,
                            one.list[0].n_ids * sizeof *one.list[0].ids);
        examples_clear(&one);
    }
    examples_clear(&all);
    free(targets);
    siren_app_close(&app);
}

/* The target's rating, and all that follows it, change nothing but the answer. */
static void nothing_of_the_target_or_the_future_leaks(void **state)
{
    static const enum siren_ending modes[] = {SIREN_AO, SIREN_COT};
    for (int m = 0; m < 2; m++) {
        struct siren_predict_options o = options("recent+habit+sketch", modes[m]);
        struct siren_app app;
        struct siren_target *targets;
        struct examples before, after;
        size_t n;
        open_rows(m ? "leak-cot.siren" : "leak-ao.siren", &app, &targets, &n);
        for (size_t i = 0; i < n; i++) {
            size_t row = targets[i].row, end = app.ratings.user_start[targets[i].user + 1];
            MUST(examples_create(&before, &app, &lm, &targets[i], 1, &o, 1, ERR));
            for (size_t k = row; k < end; k++) app.ratings.rating[k] = 6 - app.ratings.rating[k];
            MUST(examples_create(&after, &app, &lm, &targets[i], 1, &o, 1, ERR));
            for (size_t k = row; k < end; k++) app.ratings.rating[k] = 6 - app.ratings.rating[k];
            struct example *a = &before.list[0], *b = &after.list[0];
            size_t tail = modes[m] == SIREN_AO ? 0 : a->n_ids - a->n_prompt;
            char *x = text_of(a->ids, a->n_prompt + tail), *y = text_of(b->ids, a->n_prompt + tail);
            assert_int_equal(a->n_ids, b->n_ids);
            char *at = tail ? strstr(x + strlen(x) - 40, "<answer>") + strlen("<answer>") : NULL;
            if (at) y[at - x] = *at; /* the answer itself */
            assert_string_equal(x, y);
            free(x);
            free(y);
            examples_clear(&before);
            examples_clear(&after);
        }
        free(targets);
        siren_app_close(&app);
    }
}

static void what_cannot_be_an_example_is_refused(void **state)
{
    struct siren_predict_options o = options("recent+profile", SIREN_AO);
    struct siren_app app;
    struct siren_target *targets;
    struct examples e;
    size_t n;
    open_rows("bad.siren", &app, &targets, &n);
    assert_int_equal(examples_create(&e, &app, &lm, targets, n, &o, 1, ERR), SIREN_EINVAL);
    o = options("recent", SIREN_OPEN);
    assert_int_equal(examples_create(&e, &app, &lm, targets, n, &o, 1, ERR), SIREN_EINVAL);
    o = options("recent", SIREN_AO);
    targets[3].row = SIREN_NO_ROW;
    assert_int_equal(examples_create(&e, &app, &lm, targets, n, &o, 1, ERR), SIREN_EINVAL);
    assert_null(e.list);
    app.ratings.rating[targets[0].row] = 3.5;
    assert_int_equal(examples_create(&e, &app, &lm, targets, 1, &o, 1, ERR), SIREN_EINVAL);
    assert_non_null(strstr(must_error.message, "3.5"));
    free(targets);
    siren_app_close(&app);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answer_only_examples_end_with_the_label),
        cmocka_unit_test(the_prompt_is_that_of_a_prediction),
        cmocka_unit_test(reasoned_examples_are_in_format_and_end_the_turn),
        cmocka_unit_test(alone_or_among_others_an_example_is_the_same),
        cmocka_unit_test(nothing_of_the_target_or_the_future_leaks),
        cmocka_unit_test(what_cannot_be_an_example_is_refused),
    };
    return cmocka_run_group_tests(tests, fake_setup, fake_teardown);
}
