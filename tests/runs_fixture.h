/* What the tests of stored runs share: a fake model and a pool, and runs of both kinds.  Include
 * after fake_setup.h. */
#ifndef SIREN_TESTS_RUNS_FIXTURE_H
#define SIREN_TESTS_RUNS_FIXTURE_H

static struct siren_pool *pool;

static inline struct siren_eval_options train_options(void)
{
    struct siren_eval_options o = siren_eval_defaults();
    o.split = "train"; /* more rows than a batch */
    o.seed = 1;
    return o;
}

/* Of a run's metrics, or of a run in a table. */
static inline double number(const json_t *metrics, const char *decoder, const char *key)
{
    return json_number_value(
        json_object_get(json_object_get(json_object_get(metrics, "decoders"), decoder), key));
}

/* Answers of another program, JSON lines, as a run. */
static inline int64_t judged(struct siren_app *app, const char *text, int *rc)
{
    struct siren_judge_options o = {.split = "test", .fold = -1, .fallback = NAN};
    int64_t run;
    *rc = siren_judge(app, scratch_write("answers.jsonl", text, strlen(text)), &o, pool, &run, ERR);
    return run;
}

static inline int runs_setup(void **state)
{
    return fake_setup(state) || siren_pool_create(&pool, 2, ERR);
}

static inline int runs_teardown(void **state)
{
    siren_pool_free(pool);
    return fake_teardown(state);
}

#endif
