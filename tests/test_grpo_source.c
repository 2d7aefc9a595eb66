/* Rows to rewards: what a step of GRPO over a workspace samples, earns, counts and shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "app/grpo.h"
#include "fake_setup.h"

enum { N_TEXTS = 4 };

static struct siren_app app;
static struct training training;
static struct training_rows rows;
static struct siren_target targets[4];
static const char *warning;

/* One of four texts by the random stream; the last is cut. */
static const char *const texts[N_TEXTS] = {"A.\n</think>\n<answer>2</answer>",
                                           "B.\n</think>\n<answer>5</answer>", "C.</think>",
                                           "D and so on"};

static int script(struct siren_lm *model, struct siren_generation *all, size_t n,
                  const struct siren_sampling *sampling, int batch,
                  const struct siren_progress *progress, struct siren_error *err)
{
    for (size_t i = 0; i < n; i++) {
        struct siren_generation *g = &all[i];
        int which = (int)(g->sequence % N_TEXTS);
        fixture_say(model, g, texts[which], sampling->max_tokens);
        if (which == 2) g->ids[g->n_ids++] = g->stop_ids[0];
        g->stopped = which != 3;
        g->logprobs = calloc(g->n_ids + 1, sizeof *g->logprobs);
        for (size_t k = 0; k < g->n_ids; k++) g->logprobs[k] = -(float)k;
    }
    return 0;
}

static const struct siren_lm_calls calls = {fake_score, script};

static void step(struct policy_source *s, uint64_t draw, struct policy_group *groups, json_t *line)
{
    for (size_t i = 0; i < 4; i++)
        groups[i] =
            (struct policy_group){.row = i, .texts = calloc(N_TEXTS, sizeof *groups[i].texts)};
    MUST(s->write(s->context, draw, groups, 4, NULL, ERR));
    struct policy_figures figures = {.step = draw, .warning = warning};
    s->end(s->context, &figures, line);
}

static void clear(struct policy_group *groups)
{
    for (size_t i = 0; i < 4; i++) {
        for (int k = 0; k < N_TEXTS; k++) {
            free(groups[i].texts[k].ids);
            free(groups[i].texts[k].old);
        }
        free(groups[i].texts);
    }
}

static double field(const json_t *line, const char *name)
{
    return json_number_value(json_object_get(line, name));
}

static void texts_earn_their_rewards(void **state)
{
    struct grpo_options o = grpo_defaults();
    struct grpo_source source;
    struct policy_group groups[4];
    json_t *line = json_object();
    double format = 0, error = 0, numbers = 0;
    o.policy.samples = N_TEXTS;
    o.texts_every = 0;
    MUST(grpo_source_create(&source, &training, &rows, &o, ERR));
    struct policy_source s = grpo_source(&source);
    step(&s, 3, groups, line);
    assert_int_equal(source.n_texts, 16);
    for (size_t i = 0; i < 16; i++) {
        const struct policy_text *t = &groups[i / 4].texts[i % 4];
        double truth = app.ratings.rating[targets[i / 4].row], wanted = -3;
        const char *text = source.texts[i].text;
        if (strstr(text, "<answer>")) {
            double rating = strstr(text, "A.") ? 2 : 5;
            wanted = 1 + 2 - fabs(rating - truth);
            format++;
            numbers++;
            error += fabs(rating - truth);
        }
        assert_float_equal(t->reward, wanted, 1e-12);
        assert_int_equal(t->truncated, strstr(text, "D and") != NULL);
        assert_true(t->n > 0 && t->old[t->n - 1] == 1 - (float)t->n);
        if (strstr(text, "C.")) { /* the token that ended the turn is learnt, and not shown */
            int32_t stops[SIREN_MAX_STOPS];
            siren_lm_stops(&lm, stops);
            assert_int_equal(t->ids[t->n - 1], stops[0]);
            assert_string_equal(text, "<think>\nC.</think>");
        }
    }
    assert_true(format > 0 && format < 16);
    assert_float_equal(field(line, "in_format"), format / 16, 1e-12);
    assert_float_equal(field(line, "mae"), error / numbers, 1e-12);
    assert_true(field(json_object_get(line, "faults"), "truncated") > 0);
    assert_null(json_object_get(json_object_get(line, "faults"), "repeated tag"));
    clear(groups);
    grpo_source_clear(&source);
    json_decref(line);
}

/* Sixteen texts for four rows: of the seven kinds of faults that a text behind "<think>" can have,
 * each has another number of them. */
static const struct faulty {
    const char *text;
    int times, cut;
} faulty[] = {{"A.\n</think>\n<answer>2</answer>", 1, 0},
              {"A.\n</think>\n<answer>2</answer> I think", 1, 0},
              {"A.\n</think>\n2", 1, 0},
              {"A.\n</think>\n2</answer>", 1, 0},
              {"A.\n</think>\n<answer>2</answer>\n<answer>9</answer>", 3, 0},
              {"A.\n</think>\n<answer>0</answer>", 1, 0},
              {"A.\n</think>\n<answer>5.5</answer>", 2, 0},
              {"A.\n</think>\n<answer>two</answer>", 1, 0},
              {"A and no more", 1, 0},
              {"A and so on", 3, 1},
              {"A.\n</think>\n<answer>2", 1, 1}};

/* The whole of each text, whatever would have ended it: a token may hold more than the tag's end.
 */
static int say_faulty(struct siren_lm *model, struct siren_generation *all, size_t n,
                      const struct siren_sampling *sampling, int batch,
                      const struct siren_progress *progress, struct siren_error *err)
{
    size_t i = 0;
    assert_int_equal(n, 16);
    for (const struct faulty *f = faulty; i < n; f++)
        for (int k = 0; k < f->times; k++, i++) {
            MUST(siren_tokenizer_encode(model->tokenizer, f->text, strlen(f->text), 0, &all[i].ids,
                                        &all[i].n_ids, ERR));
            all[i].logprobs = calloc(all[i].n_ids, sizeof *all[i].logprobs);
            all[i].stopped = !f->cut;
        }
    return 0;
}

static void faults_are_counted_by_kind(void **state)
{
    static const struct siren_lm_calls faulty_calls = {fake_score, say_faulty};
    static const struct {
        const char *kind;
        int n;
    } put_in[] = {{"text after", 1}, {"missing tag", 2}, {"repeated tag", 3}, {"truncated", 4},
                  {"unclosed", 5},   {"clamped", 6},     {"no number", 7}};
    const size_t n_kinds = sizeof put_in / sizeof *put_in;
    const struct siren_lm_calls *calls_before = lm.calls;
    struct grpo_options o = grpo_defaults();
    struct grpo_source source;
    struct policy_group groups[4];
    json_t *line = json_object();
    o.policy.samples = N_TEXTS;
    o.texts_every = 0;
    lm.calls = &faulty_calls;
    MUST(grpo_source_create(&source, &training, &rows, &o, ERR));
    struct policy_source s = grpo_source(&source);
    step(&s, 3, groups, line);
    lm.calls = calls_before;
    const json_t *shares = json_object_get(line, "faults");
    assert_int_equal(json_object_size(shares), n_kinds); /* what no text has is not there */
    for (size_t i = 0; i < n_kinds; i++)
        if (fabs(field(shares, put_in[i].kind) - put_in[i].n / 16.0) > 1e-12)
            fail_msg("%s: %g, put in %d of 16", put_in[i].kind, field(shares, put_in[i].kind),
                     put_in[i].n);
    /* Neither a number outside the scale nor none is against the format. */
    assert_float_equal(field(line, "in_format"), 5 / 16.0, 1e-12);
    clear(groups);
    grpo_source_clear(&source);
    json_decref(line);
}

/* A loss on answers needs a label to be learnt. */
static void a_rating_between_labels_is_refused(void **state)
{
    struct grpo_options o = grpo_defaults();
    struct grpo_source source;
    struct policy_group group = {.row = 0, .texts = calloc(N_TEXTS, sizeof *group.texts)};
    float *rating = &app.ratings.rating[targets[0].row], whole = *rating;
    *rating = 3.25F;
    for (int with = 0; with < 2; with++) {
        o.policy.samples = N_TEXTS;
        o.policy.source_weight = with;
        o.answer.ce = 1;
        MUST(grpo_source_create(&source, &training, &rows, &o, ERR));
        struct policy_source s = grpo_source(&source);
        assert_int_equal(s.write(s.context, 1, &group, 1, NULL, ERR), with ? SIREN_EINVAL : 0);
        if (with) assert_non_null(strstr(must_error.message, "3.25 is no label of the scale"));
        for (int k = 0; k < N_TEXTS; k++) {
            free(group.texts[k].ids);
            free(group.texts[k].old);
        }
        grpo_source_clear(&source);
    }
    *rating = whole;
    free(group.texts);
}

/* The same for every label. */
static int even_score(struct siren_lm *model, struct siren_score *scores, size_t n,
                      const struct siren_progress *progress, struct siren_error *err)
{
    int rc = fake_score(model, scores, n, progress, err);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < scores[i].n_continuations; k++) scores[i].logprobs[k] = -2;
    return rc;
}

/* Of even probabilities: the mean over the labels but the last of squared distances. */
static double rps_of_even(const struct siren_scale *scale, double truth)
{
    int n = siren_scale_labels(scale);
    double sum = 0;
    for (int k = 0; k < n - 1; k++) {
        double below = truth <= scale->min + k * scale->step + 1e-9;
        sum += ((k + 1.0) / n - below) * ((k + 1.0) / n - below);
    }
    return sum / (n - 1);
}

static void check_rewards(enum siren_reward_kind kind)
{
    const struct siren_scale *scale = &app.meta.scale;
    struct grpo_options o = grpo_defaults();
    struct grpo_source source;
    struct policy_group groups[4];
    json_t *line = json_object();
    size_t scored = fake.n_scored;
    o.policy.samples = N_TEXTS;
    o.length_cost = 0.5;
    o.sampling.max_tokens = 100;
    o.texts_every = 0;
    o.reward = kind;
    MUST(grpo_source_create(&source, &training, &rows, &o, ERR));
    struct policy_source s = grpo_source(&source);
    step(&s, 3, groups, line);
    assert_int_equal(fake.n_scored - scored, kind == SIREN_REWARD_RPS ? 16 : 0);
    for (size_t i = 0; i < 16; i++) {
        const struct policy_text *t = &groups[i / 4].texts[i % 4];
        double truth = app.ratings.rating[targets[i / 4].row];
        double earned = t->reward + 0.5 * (double)t->n / 100, wanted = -3;
        double x = ((strstr(source.texts[i].text, "A.") ? 2 : 5) - truth);
        x /= scale->max - scale->min;
        if (strstr(source.texts[i].text, "<answer>"))
            wanted = 3 - 4 * (kind == SIREN_REWARD_LINEAR    ? fabs(x)
                              : kind == SIREN_REWARD_SQUARED ? x * x
                                                             : rps_of_even(scale, truth));
        assert_float_equal(earned, wanted, 1e-9);
    }
    clear(groups);
    grpo_source_clear(&source);
    json_decref(line);
}

/* Distance, its square, the ranked probability score, each less a cost for length; on stars, on
 * half stars, whose labels are several tokens, and on 1 to 10. */
static void other_rewards(void **state)
{
    static const struct siren_scale scales[] = {{1, 5, 1}, {0.5, 5, 0.5}, {1, 10, 1}};
    static const struct siren_lm_calls even = {even_score, script};
    const struct siren_scale usual = app.meta.scale;
    const struct siren_lm_calls *calls_before = lm.calls;
    lm.calls = &even;
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        app.meta.scale = scales[i];
        for (int kind = SIREN_REWARD_LINEAR; kind <= SIREN_REWARD_RPS; kind++)
            check_rewards((enum siren_reward_kind)kind);
    }
    app.meta.scale = usual;
    lm.calls = calls_before;
}

/* A draw is a function of (seed, row, draw). */
static void draws_repeat(void **state)
{
    struct grpo_options o = grpo_defaults();
    struct grpo_source source;
    struct policy_group a[4], b[4], c[4];
    json_t *line = json_object();
    size_t same = 0;
    o.policy.samples = N_TEXTS;
    o.texts_every = 0;
    MUST(grpo_source_create(&source, &training, &rows, &o, ERR));
    struct policy_source s = grpo_source(&source);
    step(&s, 5, a, line);
    step(&s, 5, b, line);
    step(&s, 6, c, line);
    for (size_t i = 0; i < 16; i++) {
        assert_true(a[i / 4].texts[i % 4].reward == b[i / 4].texts[i % 4].reward);
        same += a[i / 4].texts[i % 4].reward == c[i / 4].texts[i % 4].reward;
    }
    assert_true(same < 16);
    clear(a);
    clear(b);
    clear(c);
    grpo_source_clear(&source);
    json_decref(line);
}

static void texts_are_written_to_be_read(void **state)
{
    struct grpo_options o = grpo_defaults();
    struct grpo_source source;
    struct policy_group groups[4];
    json_t *line = json_object();
    char *text, path[300];
    size_t size, n = 0;
    o.policy.samples = N_TEXTS;
    o.texts_every = 4;
    training.loop.folder = scratch_folder;
    MUST(grpo_source_create(&source, &training, &rows, &o, ERR));
    struct policy_source s = grpo_source(&source);
    step(&s, 2, groups, line); /* the third, as the log counts */
    clear(groups);
    step(&s, 3, groups, line);
    snprintf(path, sizeof path, "%s/texts/step-000003.txt", scratch_folder);
    assert_int_not_equal(siren_file_read(&text, &size, path, 1 << 20, NULL), 0);
    snprintf(path, sizeof path, "%s/texts/step-000004.txt", scratch_folder);
    MUST(siren_file_read(&text, &size, path, 1 << 20, ERR));
    for (const char *p = text; (p = strstr(p, ": rated ")); p++) n++;
    assert_int_equal(n, 10);
    assert_non_null(strstr(text, "# 10 of the 16 texts of step 4"));
    assert_non_null(strstr(text, "truncated"));
    free(text);
    clear(groups);
    grpo_source_clear(&source);
    json_decref(line);
}

static void count_warnings(void *context, const char *text)
{
    ++*(int *)context;
}

/* Every text without its end's tag. */
static int say_no_format(struct siren_lm *model, struct siren_generation *all, size_t n,
                         const struct siren_sampling *sampling, int batch,
                         const struct siren_progress *progress, struct siren_error *err)
{
    static const char text[] = "A.\n</think>\n2";
    for (size_t i = 0; i < n; i++) {
        MUST(siren_tokenizer_encode(model->tokenizer, text, strlen(text), 0, &all[i].ids,
                                    &all[i].n_ids, ERR));
        all[i].logprobs = calloc(all[i].n_ids, sizeof *all[i].logprobs);
        all[i].stopped = 1;
    }
    return 0;
}

/* So many steps, the policy's own warning of each given; how many are passed on.  line: the last
 * step's. */
static int warnings_of(const char *const *reasons, size_t n_steps, json_t *line)
{
    struct grpo_options o = grpo_defaults();
    struct grpo_source source;
    struct policy_group groups[4];
    int n = 0;
    o.policy.samples = N_TEXTS;
    o.texts_every = 0;
    o.warn = count_warnings;
    o.warn_context = &n;
    MUST(grpo_source_create(&source, &training, &rows, &o, ERR));
    struct policy_source s = grpo_source(&source);
    for (size_t i = 0; i < n_steps; i++) {
        warning = reasons[i];
        step(&s, i, groups, line);
        clear(groups);
    }
    warning = NULL;
    grpo_source_clear(&source);
    return n;
}

/* Said once until it changes. */
static void warnings_are_passed_on(void **state)
{
    static const char *const reasons[] = {NULL, "a", "a", NULL, "a", "b", "b"};
    json_t *line = json_object();
    assert_int_equal(warnings_of(reasons, sizeof reasons / sizeof *reasons, line), 3);
    json_decref(line);
}

static void texts_without_the_format_are_told(void **state)
{
    static const struct siren_lm_calls no_format = {fake_score, say_no_format};
    static const char *const reasons[] = {NULL, NULL};
    const struct siren_lm_calls *calls_before = lm.calls;
    json_t *line = json_object();
    lm.calls = &no_format;
    assert_int_equal(warnings_of(reasons, 2, line), 1);
    lm.calls = calls_before;
    const char *told = json_string_value(json_object_get(line, "warning"));
    assert_non_null(told);
    assert_non_null(strstr(told, "no text is in the format"));
    json_decref(line);
}

static void what_cannot_be_rewarded_is_refused(void **state)
{
    struct grpo_options o = grpo_defaults();
    struct grpo_source source;
    struct training t = training;
    struct siren_lm bare = lm;
    o.length_cost = -1;
    assert_int_equal(grpo_source_create(&source, &t, &rows, &o, ERR), SIREN_EINVAL);
    o = grpo_defaults();
    t.predict.strategy.flags |= SIREN_WITH_PROFILE;
    assert_int_equal(grpo_source_create(&source, &t, &rows, &o, ERR), SIREN_EINVAL);
    t = training;
    bare.chat = NULL;
    t.lm = &bare;
    assert_int_equal(grpo_source_create(&source, &t, &rows, &o, ERR), SIREN_EINVAL);
    assert_non_null(strstr(must_error.message, "chat template"));
}

static int setup(void **state)
{
    if (fake_setup(state)) return -1;
    lm.calls = &calls;
    MUST(siren_app_open(&app, fixture_workspace("grpo.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    for (int i = 0; i < 4; i++)
        MUST(siren_app_target(&app, fixture_name('u', i), fixture_name('i', i + 9), &targets[i],
                              ERR));
    training = (struct training){.app = &app,
                                 .lm = &lm,
                                 .predict = siren_predict_defaults(),
                                 .loop = {.seed = 2, .folder = scratch_folder}};
    rows = (struct training_rows){.train = targets, .n_train = 4};
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
        cmocka_unit_test(texts_earn_their_rewards),
        cmocka_unit_test(faults_are_counted_by_kind),
        cmocka_unit_test(a_rating_between_labels_is_refused),
        cmocka_unit_test(other_rewards),
        cmocka_unit_test(draws_repeat),
        cmocka_unit_test(texts_are_written_to_be_read),
        cmocka_unit_test(warnings_are_passed_on),
        cmocka_unit_test(texts_without_the_format_are_told),
        cmocka_unit_test(what_cannot_be_rewarded_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
