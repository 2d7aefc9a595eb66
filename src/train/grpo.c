/* Rewards, advantages and the policy's loss. */
#include "siren/grpo.h"

#include <math.h>

#include "siren/readout.h"

/* ---- Rewards ---- */

double siren_reward(const struct siren_reward *r, const struct siren_reading *a, double truth,
                    double rps, int n_tokens)
{
    double reward = a->format ? 1 : -1, x = fabs(a->rating - truth) / (r->high - r->low);
    int refused = r->refuse_outside && a->faults & 1u << SIREN_FAULT_CLAMPED;
    if (refused || (!a->has_number && r->kind != SIREN_REWARD_RPS))
        reward -= 2;
    else if (r->kind == SIREN_REWARD_RPS)
        reward += rps >= 0 ? 2 - 4 * rps : -2;
    else
        reward += 2 - 4 * (r->kind == SIREN_REWARD_SQUARED ? x * x : x);
    if (r->length_cost != 0) reward -= r->length_cost * n_tokens / r->max_tokens;
    return reward;
}

/* ---- Advantages ---- */

int siren_advantages(enum siren_advantage_kind kind, int n, const double *rewards, double eps,
                     double *advantages)
{
    double mean = 0, squares = 0, factor = 1;
    int equal = 1;
    for (int i = 0; i < n; i++) {
        equal &= rewards[i] == rewards[0];
        mean += rewards[i] / n;
    }
    for (int i = 0; i < n; i++) squares += (rewards[i] - mean) * (rewards[i] - mean);
    if (n > 1 && kind == SIREN_ADVANTAGE_GRPO) factor = 1 / (sqrt(squares / (n - 1)) + eps);
    if (n > 1 && kind == SIREN_ADVANTAGE_LEAVE_ONE_OUT) factor = (double)n / (n - 1);
    for (int i = 0; i < n; i++) advantages[i] = equal ? 0 : (rewards[i] - mean) * factor;
    return !equal;
}

/* ---- The policy's loss ---- */

struct siren_policy_options siren_policy_defaults(void)
{
    return (struct siren_policy_options){.clip_low = 0.2,
                                         .clip_high = 0.2,
                                         .dual_clip = 3,
                                         .kl_kind = SIREN_KL_K3,
                                         .kl = 0.001,
                                         .aggregation = SIREN_TOKEN_MEAN};
}

int siren_policy_check(const struct siren_policy_options *o, struct siren_error *err)
{
    if (!(o->clip_low >= 0 && o->clip_low <= 1) || !(o->clip_high >= 0))
        return siren_fail(err, SIREN_EINVAL, "clip at -%g, +%g; expected [0, 1] and 0 or more",
                          o->clip_low, o->clip_high);
    if (o->dual_clip != 0 && !(o->dual_clip > 1 + o->clip_high))
        return siren_fail(err, SIREN_EINVAL, "dual clip at %g, expected more than %g, or 0",
                          o->dual_clip, 1 + o->clip_high);
    if (o->aggregation == SIREN_CONSTANT_LENGTH && o->constant_length < 1)
        return siren_fail(err, SIREN_EINVAL, "constant length %d, expected 1 or more",
                          o->constant_length);
    return 0;
}

static int check_batch(const struct siren_policy_options *o, const struct siren_policy_batch *b,
                       struct siren_error *err)
{
    int rc = siren_policy_check(o, err);
    if (rc) return rc;
    if (o->kl != 0 && !b->reference)
        return siren_fail(err, SIREN_EINVAL, "a KL coefficient without the reference's logprobs");
    if (o->entropy != 0 && !b->entropies)
        return siren_fail(err, SIREN_EINVAL, "an entropy coefficient without entropies");
    for (size_t s = 0; s < b->n_sequences; s++)
        if (b->first[s] > b->first[s + 1])
            return siren_fail(err, SIREN_EINVAL, "sequence %zu ends before its first token", s);
    return 0;
}

/* max(−Aρ, −A clamp(ρ)), at most −Ac where A < 0; *slope is its derivative by the logprob. */
static double policy_term(const struct siren_policy_options *o, double a, double log_ratio,
                          double *slope, struct siren_policy_result *sum)
{
    double ratio = exp(log_ratio), low = 1 - o->clip_low, high = 1 + o->clip_high;
    int is_low = a < 0 && ratio<low, is_high = a> 0 && ratio > high;
    int is_dual = a < 0 && o->dual_clip != 0 && ratio > o->dual_clip;
    sum->clipped_low += is_low;
    sum->clipped_high += is_high;
    sum->clipped_dual += is_dual;
    sum->ratio += ratio;
    sum->old_kl += ratio - 1 - log_ratio;
    *slope = 0;
    if (is_low) return -a * low;
    if (is_high) return -a * high;
    if (is_dual) return -a * o->dual_clip;
    return *slope = -a * ratio;
}

static double kl_term(enum siren_kl_kind kind, double d, double *slope)
{
    switch (kind) {
    case SIREN_KL_K1:
        *slope = 1;
        return d;
    case SIREN_KL_K2:
        *slope = d;
        return d * d / 2;
    default:
        *slope = -expm1(-d);
        return expm1(-d) + d;
    }
}

/* One token: its loss, the derivative by its logprob, its part of the figures. */
static double token_loss(const struct siren_policy_options *o, const struct siren_policy_batch *b,
                         double advantage, size_t t, double *slope, struct siren_policy_result *sum)
{
    double kl_slope, kl;
    double loss = policy_term(o, advantage, (double)b->logprob[t] - b->old[t], slope, sum);
    if (b->reference) {
        kl = kl_term(o->kl_kind, (double)b->logprob[t] - b->reference[t], &kl_slope);
        sum->kl += kl;
        if (o->kl != 0) loss += o->kl * kl, *slope += o->kl * kl_slope;
    }
    if (b->entropies) {
        sum->entropy += b->entropies[t];
        if (o->entropy != 0) loss -= o->entropy * b->entropies[t];
    }
    return loss;
}

static int is_masked(const struct siren_policy_batch *b, size_t s)
{
    return b->masked && b->masked[s];
}

static double weight_of(const struct siren_policy_options *o, size_t sequences, size_t tokens,
                        size_t length)
{
    switch (o->aggregation) {
    case SIREN_TOKEN_MEAN:
        return 1 / (double)tokens;
    case SIREN_SEQUENCE_MEAN:
        return 1 / ((double)sequences * (double)length);
    default:
        return 1 / ((double)sequences * o->constant_length);
    }
}

static void divide_by_tokens(struct siren_policy_result *r)
{
    double n = r->n_tokens ? (double)r->n_tokens : 1;
    r->clipped_low /= n;
    r->clipped_high /= n;
    r->clipped_dual /= n;
    r->ratio /= n;
    r->old_kl /= n;
    r->kl /= n;
    r->entropy /= n;
}

int siren_policy_loss(const struct siren_policy_options *o, const struct siren_policy_batch *b,
                      float *d_logprob, float *d_entropy, struct siren_policy_result *r,
                      struct siren_error *err)
{
    size_t sequences = 0, tokens = 0;
    int rc = check_batch(o, b, err);
    *r = (struct siren_policy_result){0};
    if (rc) return rc;
    for (size_t s = 0; s < b->n_sequences; s++)
        if (!is_masked(b, s)) sequences++, tokens += b->first[s + 1] - b->first[s];
    r->n_tokens = tokens;
    if (b->all_sequences) sequences = b->all_sequences;
    if (b->all_tokens) tokens = b->all_tokens;
    for (size_t s = 0; s < b->n_sequences; s++) {
        size_t first = b->first[s], end = b->first[s + 1];
        double w = end > first ? weight_of(o, sequences, tokens, end - first) : 0;
        for (size_t t = first; t < end; t++) {
            double slope = 0, loss = 0;
            if (!is_masked(b, s)) loss = token_loss(o, b, b->advantages[s], t, &slope, r);
            if (!isfinite(loss) || !isfinite(slope) || !isfinite(r->old_kl))
                return siren_fail(err, SIREN_ENUMERIC,
                                  "the loss of token %zu of sequence %zu is %f (logprob %f, when "
                                  "sampled %f)",
                                  t - first, s, loss, b->logprob[t], b->old[t]);
            r->loss += is_masked(b, s) ? 0 : w * loss;
            d_logprob[t] = is_masked(b, s) ? 0 : (float)(w * slope);
            if (d_entropy) d_entropy[t] = is_masked(b, s) ? 0 : (float)(-o->entropy * w);
        }
    }
    divide_by_tokens(r);
    return 0;
}
