/* siren train grpo: stage 1 over a workspace.  What is general about GRPO is
 * train/policy.h; here are prompts of rows, rewards of texts, evaluation in flight, texts for a
 * person to read.
 *
 * The trainer's folder of the run also holds texts/step-000100.txt: ten texts sampled in that step,
 * each with its reward.  Besides the policy's figures, each line of log.jsonl has "in_format"
 * (share of the texts), "mae" (of the numbers that were read), "faults": {KIND: share of the
 * texts}, and "answer_loss" (mean over the texts that have one). */
#ifndef SIREN_APP_GRPO_H
#define SIREN_APP_GRPO_H

#include "app/labels.h"
#include "app/training.h"
#include "siren/losses.h"
#include "train/policy.h"

struct grpo_options {
    struct policy_options policy;   /* temperature and seed: from `sampling` and the loop */
    struct siren_sampling sampling; /* temperature 1, at most 512 tokens; seed: the loop's */
    enum siren_reward_kind reward;
    double length_cost; /* for a text at the limit */
    int refuse_outside; /* a number outside the scale earns what none does */
    /* On the distribution over the ratings behind each text's reasoning; policy.source_weight is
     * its weight.  A text without a readable number has none, as it has no reward for one. */
    struct siren_rating_loss answer;
    int batch;            /* sequences sampled at once; 0: the engine's default */
    int eval_samples;     /* texts of a row in evaluation: 0: one, greedy; n: the mean over n */
    uint64_t texts_every; /* steps, and the first; 0: never */
    /* [optional] Told when nothing is being learnt, and why (policy_figures.warning), once until
     * the reason changes. */
    void (*warn)(void *context, const char *text);
    void *warn_context;
};
struct grpo_options grpo_defaults(void);
/* Prompts are those of reasoning, and nothing is dropped out, whatever t says.  Progress has news
 * of the last step, for a live line: "rows: reward 1.25, 97 % ok, …" is what progress is told
 * instead of "rows". */
int grpo_train(struct training *t, const struct grpo_options *options,
               struct trainer_result *result, const struct siren_progress *progress,
               const volatile int *cancel, struct siren_error *err);

/* All that changes a bit, besides what every training has. */
json_t *grpo_settings(const struct grpo_options *options);

/* ---- the parts ---- */

/* A text of the current step, as it is shown and counted. */
struct grpo_text {
    size_t row; /* of the training rows */
    double truth, reward;
    size_t n_tokens;
    struct siren_reading reading;
    char *text;
    int32_t *query; /* (n_query) prompt and text up to "<answer>"; NULL where none is scored */
    size_t n_query;
    int label; /* the truth's; -1: it is none */
};
struct grpo_source {
    const struct training *training;
    const struct training_rows *rows;
    const struct grpo_options *options;
    struct siren_reward reward;
    struct labels labels;             /* behind the step's texts */
    int has_labels;                   /* for SIREN_REWARD_RPS, and for a loss on answers */
    struct siren_prompt_ids *prompts; /* of the step */
    size_t n_prompts, prompts_capacity;
    struct grpo_text *texts; /* of the step */
    size_t n_texts, texts_capacity;
    int ended;          /* the next write() begins a step */
    const char *warned; /* by the last step; NULL: it was well */
    void *owner;
    double in_format, mae; /* of the step; mae NAN: no number was read */
    double answer_loss;    /* sum over the step's n_answers; each update anew */
    size_t n_answers;
};
int grpo_source_create(struct grpo_source *out, const struct training *t,
                       const struct training_rows *rows, const struct grpo_options *options,
                       struct siren_error *err);
void grpo_source_clear(struct grpo_source *source);
struct policy_source grpo_source(struct grpo_source *source);

/* CoT and AO on the valid rows: *metric is the MAE of the reasoned answers (of the median where
 * they have a distribution); the other fields: "rmse", "invalid", "in_format", "tokens_a_text", and
 * "answer_only", training_evaluate()'s with its "mae". */
int grpo_evaluate(const struct training *t, const struct grpo_options *options,
                  const struct siren_adapter *adapter, const struct training_rows *rows,
                  double *metric, json_t *fields, const struct siren_progress *progress,
                  struct siren_error *err);

#endif
