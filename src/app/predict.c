/* Targets to prompts, prompts to answers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "siren/calibration.h"

struct siren_predict_options siren_predict_defaults(void)
{
    return (struct siren_predict_options){
        .strategy = {.flags = SIREN_WITH_RECENT | SIREN_WITH_SKETCH,
                     .n_recent = 10,
                     .n_more = 50,
                     .n_digits = 20},
        .mode = SIREN_AO,
        .sampling = {.temperature = 0, .top_p = 1, .max_tokens = 512},
        .fallback = NAN,
    };
}

void siren_answer_clear(struct siren_answer *answer)
{
    if (!answer) return;
    free(answer->text);
    *answer = (struct siren_answer){0};
}

int siren_answer_is_unread(const struct siren_answer *answer)
{
    return answer->invalid && !answer->n_labels;
}

void siren_answers_free(struct siren_answer *answers, size_t n)
{
    for (size_t i = 0; answers && i < n; i++) siren_answer_clear(&answers[i]);
    free(answers);
}

/* One call: the prompts of all targets. */
struct job {
    struct siren_app *app;
    struct siren_lm *lm;
    const struct siren_target *targets;
    size_t n;
    const struct siren_predict_options *options;
    struct siren_answer *answers;
    struct siren_prompt_ids *prompts; /* (n) */
    char **profiles;                  /* (n) or NULL */
    struct siren_readout readout;
};

static void note_prompt(struct job *j, size_t i, const struct siren_target_input *in)
{
    j->answers[i].notes = app_notes(&j->targets[i], in->n_history, j->prompts[i].n_cut);
    j->answers[i].tokens_in = (int)j->prompts[i].n_ids;
}

static int write_prompts(struct job *j, struct siren_error *err)
{
    const struct siren_predict_options *o = j->options;
    for (size_t i = 0; i < j->n; i++) {
        struct siren_target_input in;
        int rc = siren_target_input(j->app, &j->targets[i], o, &in, err);
        if (rc) return rc;
        in.input.profile = j->profiles ? j->profiles[i] : NULL;
        rc = siren_prompt_encode(&j->prompts[i], j->lm->tokenizer, j->lm->chat, &in.input,
                                 &o->strategy, o->mode, o->prompt_limit, err);
        if (!rc) note_prompt(j, i, &in);
        siren_target_input_clear(&in);
        if (rc) return rc;
    }
    return 0;
}

/* ---- answer only ---- */

static int read_scores(struct job *j, const struct siren_score *scores, struct siren_error *err)
{
    const struct siren_scale *scale = &j->app->meta.scale;
    for (size_t i = 0; i < j->n; i++) {
        struct siren_answer *a = &j->answers[i];
        int rc = app_check_scores(j->app, &j->targets[i], &j->readout, a->logprobs, err);
        if (rc) return rc;
        a->n_labels = j->readout.n;
        a->outside = siren_readout_distribution(&j->readout, a->logprobs, a->probabilities);
        a->number = NAN;
        a->argmax = siren_decode(SIREN_ARGMAX, scale, a->probabilities);
        a->mean = siren_decode(SIREN_MEAN, scale, a->probabilities);
        a->median = siren_decode(SIREN_MEDIAN, scale, a->probabilities);
        a->tokens_out = 1;
        a->tokens_cached = (int)scores[i].tokens_cached;
    }
    return 0;
}

static int answer_only(struct job *j, const struct siren_progress *progress,
                       struct siren_error *err)
{
    struct siren_score *scores = alloc_zeroed(j->n, sizeof *scores);
    int rc;
    if (!scores) return siren_fail_memory(err, "scores", j->n * sizeof *scores);
    rc = siren_readout_create(&j->readout, j->lm->tokenizer, &j->app->meta.scale, err);
    for (size_t i = 0; i < j->n && !rc; i++) {
        scores[i].prompt = (struct siren_tokens){j->prompts[i].ids, j->prompts[i].n_ids};
        scores[i].continuations = j->readout.tokens;
        scores[i].n_continuations = (size_t)j->readout.n;
        scores[i].logprobs = j->answers[i].logprobs;
    }
    if (!rc) rc = j->lm->calls->score(j->lm, scores, j->n, progress, err);
    if (!rc) rc = read_scores(j, scores, err);
    free(scores);
    return rc;
}

/* ---- both ---- */

static int answer_targets(struct job *j, const struct siren_progress *progress,
                          struct siren_error *err)
{
    int rc = 0;
    if (!j->lm->chat) return siren_fail(err, SIREN_EINVAL, "the model has no chat template");
    j->prompts = alloc_zeroed(j->n, sizeof *j->prompts);
    if (!j->prompts) return siren_fail_memory(err, "prompts", j->n * sizeof *j->prompts);
    if (j->options->strategy.flags & SIREN_WITH_PROFILE) {
        j->profiles = alloc_zeroed(j->n, sizeof *j->profiles);
        if (!j->profiles) return siren_fail_memory(err, "profiles", j->n * sizeof *j->profiles);
        rc = app_profiles(j->app, j->lm, j->targets, j->n, j->options, j->profiles, err);
    }
    if (!rc) rc = write_prompts(j, err);
    if (rc) return rc;
    if (j->options->mode == SIREN_AO) return answer_only(j, progress, err);
    return app_reason(j->app, j->lm, j->targets, j->n, j->options, j->prompts, j->answers, progress,
                      err);
}

int app_predict(struct siren_app *app, struct siren_lm *lm, const struct siren_target *targets,
                size_t n, const struct siren_predict_options *options, struct siren_answer *answers,
                const struct siren_progress *progress, struct siren_error *err)
{
    struct job j = {app, lm, targets, n, options, answers, NULL, NULL, {0}};
    double start = clock_seconds();
    int rc = 0;
    for (size_t i = 0; i < n; i++) answers[i] = (struct siren_answer){0};
    if (!n) return 0;
    if (options->calibration)
        rc = siren_calibration_check(options->calibration, app, lm, options, err);
    if (!rc) rc = answer_targets(&j, progress, err);
    if (options->calibration && (!rc || rc == SIREN_ECANCEL)) {
        int failed = siren_calibration_apply(options->calibration, app, targets, answers, n, err);
        if (failed) rc = failed;
    }
    for (size_t i = 0; i < n; i++) {
        answers[i].latency_ms = 1e3 * (clock_seconds() - start) / (double)n;
        if (j.prompts) siren_prompt_ids_clear(&j.prompts[i]);
        if (j.profiles) free(j.profiles[i]);
        if (rc && (rc != SIREN_ECANCEL || !answers[i].text)) siren_answer_clear(&answers[i]);
    }
    free(j.prompts);
    free(j.profiles);
    siren_readout_clear(&j.readout);
    return rc;
}

int siren_predict(struct siren_app *app, struct siren_lm *lm, const struct siren_target *targets,
                  size_t n, const struct siren_predict_options *options,
                  struct siren_answer *answers, const struct siren_progress *progress,
                  struct siren_error *err)
{
    int rc = app_predict(app, lm, targets, n, options, answers, progress, err);
    for (size_t i = 0; i < n && rc; i++) siren_answer_clear(&answers[i]);
    return rc;
}
