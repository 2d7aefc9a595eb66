/* Sampled texts: reasoning and answer, several to a prompt, with all that evaluation and training
 * read off them: tokens, their log-probabilities, the faults of the answer, the distribution over
 * the labels at the end of "<answer>".
 *
 * All prompts go to the engine in one call, so that a text that ends is replaced by the next at
 * once, and a prompt is computed once for its samples; with a readout, as many as it writes at
 * once, whose keys and values are held until their labels are scored.  A text ends behind
 * "</answer>", at a token that ends the turn, or at the limit.  Its bits are a function of (model,
 * prompt, sampling, stream), whatever is written beside it. */
#ifndef SIREN_APP_ROLLOUT_H
#define SIREN_APP_ROLLOUT_H

#include "siren/app.h"
#include "siren/grpo.h"

/* A prompt that ends with SIREN_COT. */
struct rollout_prompt {
    const int32_t *ids;
    size_t n_ids;
    uint64_t stream; /* random stream of its first sample; the others' are derived */
};

struct rollout_options {
    struct siren_sampling sampling;
    int samples; /* of each prompt, at least 1; they differ only at a temperature above 0 */
    /* The labels to score at the end of "<answer>" of each text, or NULL.  A text without the tag
     * (cut, or gone astray) gets one behind it. */
    const struct siren_readout *readout;
    int batch; /* sequences at once; 0: the engine's default */
};

struct rollout {
    int32_t *ids;    /* (n), as sampled; the token that ended the turn, if one did, is the last */
    float *logprobs; /* (n), of the model at temperature 1 */
    size_t n;
    int ended;     /* 1: ids[n − 1] ended the turn and is no part of the text */
    int truncated; /* 1: the limit ended it */
    char *text;    /* without special tokens, from "<think>" on */
    struct siren_reading reading;
    /* Only with a readout: the labels' joint log-probabilities, and what they were scored behind:
     * prompt and text up to the end of "<answer>". */
    double labels[SIREN_MAX_LABELS];
    int32_t *query; /* (n_query) */
    size_t n_query;
};
/* out: (n, samples), zeroed or cleared; the caller clears them, after a failure, too.
 * SIREN_ECANCEL: those with a text are whole. */
int rollouts_write(struct siren_lm *lm, const struct siren_scale *scale,
                   const struct rollout_prompt *prompts, size_t n,
                   const struct rollout_options *options, struct rollout *out,
                   const struct siren_progress *progress, struct siren_error *err);
void rollout_clear(struct rollout *rollout);

/* Positions of the model, and those of them that are kept for the tag and the labels behind a text;
 * 0: no labels are scored, or the model is not ours.  What rollouts_write() checks of the prompts
 * of each call can be asked before the first. */
struct rollout_room {
    size_t positions, reserved;
};
int rollout_room_find(struct rollout_room *room, const struct siren_lm *lm,
                      const struct siren_readout *readout, struct siren_error *err);
int rollout_room_check(const struct rollout_room *room, size_t n_prompt, struct siren_error *err);

#endif
