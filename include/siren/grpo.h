/* Terms of GRPO: rewards, advantages, the policy's loss for each token.
 *
 * Pure functions on numbers, computed in f64 in index order. */
#ifndef SIREN_GRPO_H
#define SIREN_GRPO_H

#include <stddef.h>

#include "siren/error.h"

struct siren_reading; /* siren/readout.h */

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Rewards ----
 *
 * R = s_format + s_rate − length_cost · n_tokens / max_tokens;  s_format = ±1; with
 * x = |rating − truth| / (high − low), in [0, 1] on every scale:
 *   linear    s_rate = 2 − 4 x     (the paper)
 *   squared   s_rate = 2 − 4 x²
 *   rps       s_rate = 2 − 4 RPS of the distribution at q (siren_rps: 0 best, 1 worst)
 * and s_rate = −2 where there is no number (rps: no distribution).  A number outside the scale
 * counts as the end that is nearer (the paper), which a policy finds out: "5555" earns what "5"
 * does.  With refuse_outside it counts as none. */
enum siren_reward_kind { SIREN_REWARD_LINEAR, SIREN_REWARD_SQUARED, SIREN_REWARD_RPS };
struct siren_reward {
    enum siren_reward_kind kind;
    double low, high;   /* the scale, low < high */
    double length_cost; /* >= 0; 0: length is free */
    int max_tokens;     /* > 0 where length_cost != 0 */
    int refuse_outside;
};
/* rps: the distribution's score, negative where there is none; read only for SIREN_REWARD_RPS. */
double siren_reward(const struct siren_reward *reward, const struct siren_reading *answer,
                    double truth, double rps, int n_tokens);

/* ---- Advantages of a group of n answers to one prompt ---- */

enum siren_advantage_kind {
    SIREN_ADVANTAGE_GRPO,    /* (r − mean) / (std + eps), std with n − 1, as TRL and verl */
    SIREN_ADVANTAGE_DR_GRPO, /* r − mean */
    SIREN_ADVANTAGE_LEAVE_ONE_OUT /* r − mean of the others */
};
/* advantages (n).  Returns 1, or 0 for a group without signal: all rewards equal (n = 1 too), all
 * advantages exactly 0. */
int siren_advantages(enum siren_advantage_kind kind, int n, const double *rewards, double eps,
                     double *advantages);

/* ---- The policy's loss ----
 *
 * For token t of sequence s with advantage A, ratio ρ = exp(logprob − old):
 *   policy  = max(−A ρ, −A clamp(ρ, 1 − clip_low, 1 + clip_high));  A < 0: at most −A · dual_clip
 *   loss_t  = policy + kl · KL_t − entropy · H_t
 *   KL_t    k1: logprob − ref;  k2: (logprob − ref)² / 2;  k3: exp(d) − d − 1, d = ref − logprob
 *   loss    = Σ_t w_t loss_t
 * w_t: token mean 1/T, T tokens in all; sequence mean 1/(S · tokens of s); constant length
 * 1/(S · length) (Dr. GRPO).  (TRL's entropies have 1/T under each of them.)  Equal bits of logprob
 * and old make ρ exactly 1. */
enum siren_kl_kind { SIREN_KL_K1, SIREN_KL_K2, SIREN_KL_K3 };
enum siren_aggregation { SIREN_TOKEN_MEAN, SIREN_SEQUENCE_MEAN, SIREN_CONSTANT_LENGTH };
struct siren_policy_options {
    double clip_low, clip_high; /* 0.2, 0.2; clip_low in [0, 1], clip_high >= 0 */
    double dual_clip;           /* 3; > 1 + clip_high, or 0: off */
    enum siren_kl_kind kl_kind;
    double kl, entropy; /* coefficients; 0.001, 0 */
    enum siren_aggregation aggregation;
    int constant_length;
};
struct siren_policy_options siren_policy_defaults(void); /* the paper's: k3, token mean */

/* A (micro-)batch: sequence s has the tokens first[s] … first[s + 1] − 1 of the arrays. */
struct siren_policy_batch {
    size_t n_sequences;
    const size_t *first;         /* (n_sequences + 1), first[0] = 0, not falling */
    const double *advantages;    /* (n_sequences) */
    const float *logprob;        /* of the policy in training */
    const float *old;            /* when the text was sampled */
    const float *reference;      /* of the frozen start; NULL only where kl = 0 */
    const float *entropies;      /* NULL only where entropy = 0 */
    const unsigned char *masked; /* (n_sequences): nonzero takes a sequence out; NULL: none */
    /* S and T of the whole batch when this is a part of it (gradient accumulation): the parts'
     * losses and gradients then add up to the whole's.  0: counted here, without masked ones. */
    size_t all_sequences, all_tokens;
};
struct siren_policy_result {
    double loss;
    size_t n_tokens; /* that counted; the figures below are means over these, 0 if none */
    double clipped_low, clipped_high; /* shares: ρ < 1 − low and A < 0; ρ > 1 + high and A > 0 */
    double clipped_dual;              /* share: ρ > dual_clip and A < 0 */
    double ratio;                     /* mean ρ */
    double old_kl;      /* mean of ρ − 1 − log ρ: how far from the sampling policy */
    double kl, entropy; /* mean KL_t (0 without reference), mean H (0 without) */
};
/* SIREN_EINVAL for options that no batch can be computed with: before the first text is sampled. */
int siren_policy_check(const struct siren_policy_options *options, struct siren_error *err);
/* Gradients d loss / d logprob and d loss / d entropy for each token, overwritten (masked: 0);
 * d_entropy may be NULL.  SIREN_ENUMERIC if a token's ratio, loss or gradient is not finite: the
 * message names sequence and token. */
int siren_policy_loss(const struct siren_policy_options *options,
                      const struct siren_policy_batch *batch, float *d_logprob, float *d_entropy,
                      struct siren_policy_result *result, struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
