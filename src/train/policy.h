/* Stage 1 as a task of the trainer: groups of sampled texts, their advantages, the
 * policy's loss.  Private to the library.
 *
 *     source   row -> prompt, n sampled texts with their rewards
 *     task     rewards -> advantages; groups without signal; the reference's log-probabilities;
 *              one item a text: prompt and text as one sequence, the loss on its tokens
 *     trainer  items -> passes in which a prompt is computed once, forward and backward
 *
 * Texts come with the log-probabilities that the sampler saw.  A training pass computes them anew
 * by the same kernels, so at temperature 1 the first update's ratio is exactly 1, in every bit.  At
 * another temperature the policy is the tempered one: its log-probabilities are computed by a pass
 * of their own before the first update, with the same result. */
#ifndef SIREN_TRAIN_POLICY_H
#define SIREN_TRAIN_POLICY_H

#include "siren/grpo.h"
#include "train/trainer.h"

/* ---- what is learnt from ---- */

struct policy_text {
    /* The source's, malloc'ed; the task frees them. */
    int32_t *ids; /* (n), as sampled, n >= 1; a token that ended the turn included */
    float *old;   /* (n) log-probabilities when sampled, of the model at temperature 1 */
    size_t n;
    double reward;
    int truncated; /* the limit ended it */
    int answers;   /* an answer was read off it: it is rewarded for more than its form */
    /* The task's. */
    double advantage;
    float *reference;  /* (n) of the frozen start; NULL without KL */
    int32_t *sequence; /* (prompt + n − 1) */
    int *outputs;      /* (n) in the pass */
};
struct policy_group {
    size_t row;
    struct siren_tokens prompt; /* the source's, borrowed until its next write() */
    struct policy_text *texts;  /* (samples) */
    int has_signal;             /* the rewards differ */
};

/* A step in figures. */
struct policy_figures {
    uint64_t step;
    size_t n_groups, n_texts, n_flat, n_resampled, n_truncated, n_answers, n_items;
    double reward, reward_sd; /* over all texts that were sampled */
    double length;            /* tokens a text */
    /* Mean per token.  NAN if no token was trained on or the reference was not scored.  With a KL
     * coefficient of 0 it is scored at every tenth step that begins a batch, and never if all
     * weights are trained (no reference is loaded). */
    double kl;
    double entropy, ratio, old_kl, clipped_low, clipped_high, clipped_dual; /* a token, or NAN */
    double rollout, scoring, update;                                        /* seconds */
    /* Why nothing may be being learnt: all texts cut, all groups flat, the KL running away, the
     * entropy gone; NULL where all is well. */
    const char *warning;
};

struct policy_source {
    void *context;
    size_t n_rows;
    /* Prompt and texts of each group from its row, with the parameters as they are now.  `draw`
     * names the random numbers: a text is a function of (parameters, row, draw, its place in the
     * group).  Prompts of earlier calls with the same step stay valid. */
    int (*write)(void *context, uint64_t draw, struct policy_group *groups, size_t n,
                 const struct siren_progress *progress, struct siren_error *err);
    /* [optional] A loss of the source's own on each text, beside the policy's: what the text is
     * worth is then a function of the parameters, too, and this is where its gradient goes.  `text`
     * counts the texts of a step in the order in which they were written; the rest is as in struct
     * trainer_task, but that sequence 0 is the text's own: the first of these is 1.  A text without
     * such a loss has no sequences here, and is not asked further. */
    size_t (*n_sequences)(void *context, size_t text);
    struct siren_tokens (*sequence)(void *context, size_t text, size_t k);
    int (*want)(void *context, size_t text, struct siren_forest *forest,
                const struct trainer_item *place, struct siren_error *err);
    int (*read)(void *context, size_t text, struct siren_forest *forest, double coefficient,
                double *loss, struct siren_error *err);
    /* [optional] After write() calls of a step and before the next step: the prompts are not needed
     * any more.  Fields of one's own for the step's line of the log. */
    void (*end)(void *context, const struct policy_figures *figures, json_t *line);
    /* [optional] Which row this is, for messages: "user 5, item 7". */
    void (*describe)(void *context, size_t row, char *text, size_t size);
};

/* ---- options ---- */

/* Groups with equal rewards.  With a source_weight they are no others: the loss that it weighs is
 * of each text. */
enum policy_flat {
    POLICY_KEEP_FLAT,     /* groups without signal count in the means of the loss, as in TRL */
    POLICY_SKIP_FLAT,     /* they are left out */
    POLICY_RESAMPLE_FLAT, /* other prompts, drawn at random, take their place (DAPO) */
};
struct policy_options {
    int samples; /* texts of a prompt; 8 */
    float temperature;
    enum siren_advantage_kind advantage;
    double advantage_eps;             /* 1e-4, as TRL */
    struct siren_policy_options loss; /* siren_policy_defaults() */
    enum policy_flat flat;            /* keep */
    int rounds; /* of further prompts for POLICY_RESAMPLE_FLAT; 3; flat ones are left out then */
    double source_weight; /* of the source's own losses, a mean over the texts that count; 0: none
                           */
    int mask_truncated;   /* 1: truncated texts count in their group's advantages only */
    uint64_t seed;        /* of the prompts that are drawn */
    size_t pass_tokens;   /* of scoring passes; 4,096 */
};
struct policy_options policy_defaults(void);

/* What the policy and its frozen start are computed with.  A LoRA adapter from zero has the bare
 * model as its start (reference NULL); one that goes on from an adapter that was saved has this,
 * loaded a second time.  Where the model's own weights are trained (policy NULL) the start is the
 * model loaded a second time. */
struct policy_models {
    struct siren_engine *engine;
    const struct siren_adapter *policy; /* the one in training */
    const struct siren_adapter *reference;
    struct siren_engine *reference_engine; /* NULL: the same engine */
};

/* ---- the task ---- */

struct policy;
/* Everything is borrowed.  SIREN_EINVAL: an option out of its range. */
int policy_create(struct policy **out, const struct policy_options *options,
                  const struct policy_source *source, const struct policy_models *models,
                  struct siren_error *err);
void policy_free(struct policy *policy); /* NULL is allowed */
/* begin, sequence, want, read, end and describe, with the policy as context; evaluate is the
 * caller's to add. */
struct trainer_task policy_task(struct policy *policy);
/* The source's context, for an evaluate() of its own. */
void *policy_owner(const struct policy *policy);

/* Of the step that is being made; and of the last one that was made, for a live line (n_texts 0:
 * none yet). */
const struct policy_figures *policy_figures(const struct policy *policy);
const struct policy_figures *policy_last(const struct policy *policy);

/* ---- scoring ---- */

/* Log-probabilities of given texts, prompts shared where neighbours have the same (by pointer). */
struct policy_score {
    struct siren_tokens prompt;
    const int32_t *ids;
    size_t n;
    float *logprobs; /* (n), out */
};
/* The forest is cleared before and after; its memory is there for the next time. */
int policy_score(struct siren_forest *forest, const struct siren_adapter *adapter,
                 const struct policy_score *list, size_t n, float temperature, size_t pass_tokens,
                 struct siren_error *err);

#endif
