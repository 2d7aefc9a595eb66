/* Reinforcement from nothing on a task whose optimum is known: the prompt shows a user's recent
 * ratings, the truth is their rounded mean, a text is right when it is this rating and then the
 * end.  A tiny random model, LoRA on all linear layers; a warm start shows it the form, with
 * ratings drawn at random, and nothing else: what a rating has to do with the prompt it learns from
 * rewards. SIREN_SLOW=1. */
/* check: native: it learns with SIREN_SLOW alone, and then the portable kernels take long */
#include "policy_fixture.h"
#include "scratch.h"
#include "siren/readout.h"

#define DECODER "tests/fixtures/models/llama"
enum { RECENT = 3, CONTEXTS = 125, END = 9, ASK = 8, SAMPLES = 8, LONGEST = 3 };

static struct fixture f;
static struct texts_source texts;
static struct policy_source source;
static struct siren_adapter *adapter;

/* Row r: its digits in base 5. */
static int rating(size_t row, int k)
{
    static const size_t powers[] = {1, 5, 25};
    return 1 + (int)(row / powers[k] % 5);
}

static double truth(size_t row)
{
    double sum = 0;
    for (int k = 0; k < RECENT; k++) sum += rating(row, k);
    return round(sum / RECENT);
}

static double reward(void *context, size_t row, const int32_t *ids, size_t n)
{
    static const struct siren_reward linear = {SIREN_REWARD_LINEAR, 1, 5, 0, 0, 0};
    struct siren_reading r = {.format = n == 2 && ids[1] == END,
                              .has_number = ids[0] >= 1 && ids[0] <= 5,
                              .rating = ids[0]};
    r.format &= r.has_number;
    return siren_reward(&linear, &r, truth(row), -1, (int)n);
}

/* Greedy, on every context there is: what is no rating counts as 4 off. */
static int evaluate(void *context, double *mae, json_t *fields,
                    const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_generation g[CONTEXTS];
    struct siren_sampling greedy = texts.sampling;
    int32_t end = END;
    greedy.temperature = 0;
    for (size_t i = 0; i < CONTEXTS; i++)
        g[i] = (struct siren_generation){.prompt = {texts.prompts[i], texts.n_prompt},
                                         .stop_ids = &end,
                                         .n_stop_ids = 1,
                                         .keep_stop = 1};
    int rc = siren_generate_many(texts.session, g, CONTEXTS, &greedy, 0, NULL, err);
    *mae = 0;
    for (size_t i = 0; i < CONTEXTS; i++) {
        int right = !rc && g[i].n_ids == 2 && g[i].ids[0] >= 1 && g[i].ids[0] <= 5;
        *mae += (right ? fabs(g[i].ids[0] - truth(i)) : 4) / CONTEXTS;
        siren_generation_clear(&g[i]);
    }
    return rc;
}

/* ---- the warm start: the form, with ratings drawn at random ---- */

struct warm {
    int32_t ids[CONTEXTS * 5][RECENT + 3]; /* prompt, rating, END */
    int outputs[CONTEXTS * 5][2];
};

static struct siren_tokens warm_sequence(void *context, size_t item, size_t k)
{
    return (struct siren_tokens){((struct warm *)context)->ids[item], RECENT + 2};
}

static int warm_want(void *context, size_t item, struct siren_forest *forest,
                     const struct trainer_item *place, struct siren_error *err)
{
    struct warm *w = context;
    for (int k = 0; k < 2; k++) {
        int segment;
        size_t token;
        trainer_place(place, 0, (size_t)(RECENT + k), &segment, &token);
        w->outputs[item][k] =
            siren_forest_want_logprob(forest, segment, token, w->ids[item][RECENT + 1 + k], 1);
    }
    return 0;
}

static int warm_read(void *context, size_t item, struct siren_forest *forest, double coefficient,
                     double *loss, struct siren_error *err)
{
    struct warm *w = context;
    *loss = 0;
    for (int k = 0; k < 2; k++) {
        *loss -= siren_forest_output(forest, w->outputs[item][k])[0];
        siren_forest_gradient(forest, w->outputs[item][k])[0] = (float)-coefficient;
    }
    return 0;
}

static void warm_start(void)
{
    struct warm *w = calloc(1, sizeof *w);
    struct trainer_task task = {.context = w,
                                .n_rows = CONTEXTS * 5,
                                .sequence = warm_sequence,
                                .want = warm_want,
                                .read = warm_read};
    struct trainer_options loop = trainer_defaults();
    struct trainer_subject subject = {.adapter = adapter};
    struct trainer_result result;
    struct siren_error err = {0};
    for (int i = 0; i < CONTEXTS * 5; i++) {
        memcpy(w->ids[i], texts.prompts[i / 5], (RECENT + 1) * sizeof(int32_t));
        w->ids[i][RECENT + 1] = 1 + i % 5;
        w->ids[i][RECENT + 2] = END;
    }
    loop.folder = scratch_path("warm");
    loop.epochs = 1e6;
    loop.max_steps = 200;
    loop.lr = 3e-3;
    loop.dropout = 0;
    if (trainer_run(&task, &subject, f.engine, f.pool, &loop, NULL, &result, NULL, NULL, &err))
        fail_msg("%s", err.message);
    assert_float_equal(result.loss, log(5), 0.1); /* one rating of five, and certainly the end */
    free(w);
}

static void the_rounded_mean_is_learnt(void **state)
{
    struct policy_options o = policy_defaults();
    struct policy_models models = {.engine = f.engine, .policy = adapter};
    struct trainer_options loop = trainer_defaults();
    struct trainer_subject subject = {.adapter = adapter};
    struct trainer_result result;
    struct siren_error err = {0};
    struct policy *p;
    double before;
    if (!getenv("SIREN_SLOW")) {
        print_message("SIREN_SLOW=1 lets it learn, for a minute or two\n");
        skip();
    }
    warm_start();
    assert_int_equal(evaluate(NULL, &before, NULL, NULL, &err), 0);
    o.samples = SAMPLES;
    o.loss.kl = 0;
    o.loss.entropy = 0.25;
    if (policy_create(&p, &o, &source, &models, &err)) fail_msg("%s", err.message);
    struct trainer_task task = policy_task(p);
    task.evaluate = evaluate;
    task.metric = "mae";
    loop.folder = scratch_path("run");
    loop.seed = 1;
    loop.batch = CONTEXTS;
    loop.epochs = 1e6;
    loop.max_steps = 600;
    loop.lr = 1e-3;
    loop.schedule = SIREN_SCHEDULE_COSINE;
    loop.warmup = 20;
    loop.dropout = 0;
    loop.eval_every = 100;
    loop.patience = 0;
    loop.checkpoint_seconds = 1e9;
    if (trainer_run(&task, &subject, f.engine, f.pool, &loop, NULL, &result, NULL, NULL, &err))
        fail_msg("%s", err.message);
    print_message("MAE %.4f before, %.4f after step %llu, %.0f s\n", before, result.best,
                  (unsigned long long)result.best_step, result.seconds);
    assert_true(before > 0.5);
    assert_true(result.best < 0.1);
    assert_true(result.seconds < 600);
    policy_free(p);
}

static int setup(void **state)
{
    struct siren_adapter_config config = {
        .targets = (1 << SIREN_LORA_TARGETS) - 1, .last_layer = 1, .r = 32, .alpha = 32, .seed = 1};
    if (scratch_create(state)) return -1;
    fixture_open(&f, DECODER, NULL, 2);
    texts_open(&texts, &f, 0, SAMPLES, LONGEST);
    texts.n_rows = CONTEXTS;
    texts.n_prompt = RECENT + 1;
    texts.reward = reward;
    texts.end = END;
    for (size_t i = 0; i < CONTEXTS; i++) {
        for (int k = 0; k < RECENT; k++) texts.prompts[i][k] = rating(i, k);
        texts.prompts[i][RECENT] = ASK;
    }
    source = texts_source(&texts);
    assert_int_equal(siren_adapter_create(&adapter, f.model, &config, NULL), 0);
    siren_session_use_adapter(texts.session, adapter);
    return 0;
}

static int teardown(void **state)
{
    siren_adapter_free(adapter);
    texts_close(&texts);
    fixture_close(&f);
    return scratch_delete(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_rounded_mean_is_learnt)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
