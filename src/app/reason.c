/* Reasoning: texts are generated and the number inside <answer> is read; with samples, the
 * distribution over the labels at the end of "<answer>" of each text, too. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "app/rollout.h"
#include "base/alloc.h"
#include "base/buf.h"

struct job {
    struct siren_app *app;
    struct siren_lm *lm;
    const struct siren_target *targets;
    size_t n;
    const struct siren_predict_options *options;
    const struct siren_prompt_ids *prompts;
    struct siren_answer *answers;
    const struct siren_progress *progress;
    int samples;              /* at least 1 */
    struct rollout *rollouts; /* (n, samples) */
    struct siren_readout readout;
};

uint64_t app_stream(const struct siren_target *t)
{
    return (uint64_t)(uint32_t)t->user << 32 | (uint32_t)t->item;
}

/* ---- reading ---- */

static void read_text(const struct job *j, struct siren_answer *a, const struct rollout *r,
                      struct buf *out, double *sum)
{
    double fallback = isnan(j->options->fallback) ? j->app->meta.scale.max : j->options->fallback;
    if (out->size) buf_puts(out, "\n\n");
    buf_puts(out, r->text);
    a->unreadable += !r->reading.has_number;
    a->in_format += r->reading.format;
    for (int k = 0; k < SIREN_FAULTS; k++) a->faults[k] += r->reading.faults >> k & 1;
    *sum += r->reading.has_number ? r->reading.rating : fallback;
    a->tokens_out += (int)r->n - r->ended;
}

/* The mean of the samples' distributions, in their order. */
static void read_distribution(const struct job *j, struct siren_answer *a,
                              const struct rollout *rollouts)
{
    const struct siren_scale *scale = &j->app->meta.scale;
    double one[SIREN_MAX_LABELS], joint[SIREN_MAX_LABELS] = {0};
    a->n_labels = j->readout.n;
    a->outside = 0;
    for (int s = 0; s < j->samples; s++) {
        const double *labels = rollouts[s].labels;
        a->outside += siren_readout_distribution(&j->readout, labels, one) / j->samples;
        for (int k = 0; k < a->n_labels; k++) {
            a->probabilities[k] += one[k] / j->samples;
            joint[k] += exp(labels[k]) / j->samples;
        }
    }
    for (int k = 0; k < a->n_labels; k++)
        a->logprobs[k] = j->samples == 1 ? rollouts->labels[k] : log(joint[k]);
    a->argmax = siren_decode(SIREN_ARGMAX, scale, a->probabilities);
    a->mean = siren_decode(SIREN_MEAN, scale, a->probabilities);
    a->median = siren_decode(SIREN_MEDIAN, scale, a->probabilities);
}

static int read_answer(const struct job *j, size_t i, struct siren_error *err)
{
    struct siren_answer *a = &j->answers[i];
    const struct rollout *rollouts = &j->rollouts[i * (size_t)j->samples];
    struct buf b = {0};
    double sum = 0;
    a->samples = j->samples;
    for (int s = 0; s < j->samples; s++) read_text(j, a, &rollouts[s], &b, &sum);
    a->text = buf_take(&b);
    if (!a->text) return siren_fail_memory(err, "an answer", b.size);
    a->number = sum / j->samples;
    a->invalid = a->unreadable == j->samples;
    a->argmax = a->mean = a->median = a->number;
    a->outside = NAN;
    if (!j->options->samples) return 0;
    int rc = 0;
    for (int s = 0; s < j->samples && !rc; s++)
        rc = app_check_scores(j->app, &j->targets[i], &j->readout, rollouts[s].labels, err);
    if (!rc) read_distribution(j, a, rollouts);
    return rc;
}

/* ---- all ---- */

static int write_rollouts(struct job *j, struct siren_error *err)
{
    struct rollout_options o = {.sampling = j->options->sampling,
                                .samples = j->samples,
                                .readout = j->options->samples ? &j->readout : NULL,
                                .batch = j->options->batch};
    struct rollout_prompt *prompts = alloc_array(j->n, sizeof *prompts);
    int rc;
    if (!prompts) return siren_fail_memory(err, "prompts", j->n * sizeof *prompts);
    for (size_t i = 0; i < j->n; i++)
        prompts[i] = (struct rollout_prompt){j->prompts[i].ids, j->prompts[i].n_ids,
                                             app_stream(&j->targets[i])};
    rc = rollouts_write(j->lm, &j->app->meta.scale, prompts, j->n, &o, j->rollouts, j->progress,
                        err);
    free(prompts);
    return rc;
}

static int is_whole(const struct job *j, size_t i)
{
    for (int s = 0; s < j->samples; s++)
        if (!j->rollouts[i * (size_t)j->samples + (size_t)s].text) return 0;
    return 1;
}

static int write_and_read(struct job *j, struct siren_error *err)
{
    size_t total = j->n * (size_t)j->samples;
    int rc = 0;
    j->rollouts = alloc_zeroed(total, sizeof *j->rollouts);
    if (!j->rollouts) return siren_fail_memory(err, "answers", total * sizeof *j->rollouts);
    if (j->options->samples)
        rc = siren_readout_create(&j->readout, j->lm->tokenizer, &j->app->meta.scale, err);
    if (!rc) rc = write_rollouts(j, err);
    for (size_t i = 0; i < j->n && (!rc || rc == SIREN_ECANCEL); i++) {
        int failed = is_whole(j, i) ? read_answer(j, i, err) : 0;
        if (failed) rc = failed;
    }
    for (size_t i = 0; i < total; i++) rollout_clear(&j->rollouts[i]);
    free(j->rollouts);
    siren_readout_clear(&j->readout);
    return rc;
}

int app_reason(struct siren_app *app, struct siren_lm *lm, const struct siren_target *targets,
               size_t n, const struct siren_predict_options *options,
               const struct siren_prompt_ids *prompts, struct siren_answer *answers,
               const struct siren_progress *progress, struct siren_error *err)
{
    struct job j = {.app = app,
                    .lm = lm,
                    .targets = targets,
                    .n = n,
                    .options = options,
                    .prompts = prompts,
                    .answers = answers,
                    .progress = progress,
                    .samples = options->samples ? options->samples : 1};
    if (options->samples < 0)
        return siren_fail(err, SIREN_EINVAL, "samples: %d given, expected 0 or more",
                          options->samples);
    return write_and_read(&j, err);
}
