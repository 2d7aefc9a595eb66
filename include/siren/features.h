/* Features of a target: what is known about its user and item before it, as numbers for a logistic
 * regression (siren/logistic.h). */
#ifndef SIREN_FEATURES_H
#define SIREN_FEATURES_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct siren_scale; /* siren/workspace.h */

enum siren_feature_group {
    SIREN_FEATURE_HISTOGRAM = 1, /* the user's past ratings by label: shares, log counts, number */
    SIREN_FEATURE_RECENT = 2,    /* last ratings, recency-weighted means and spread */
    SIREN_FEATURE_TOPIC = 4,     /* sketch entry of the candidate's topic */
    SIREN_FEATURE_ITEM = 8,      /* count and mean of the item's earlier train ratings */
    SIREN_FEATURE_LOGITS = 16    /* log-probabilities of the rating labels by a language model */
};

/* What is known before a target; what an unselected group needs may be left 0. */
struct siren_feature_source {
    const double *history; /* (n_history) the user's ratings before the target, oldest first */
    size_t n_history;
    double topic_weight, topic_sum; /* undecayed, of the candidate's topic; weight 0: none */
    double item_count, item_sum;    /* of the item's train ratings before the target */
    const double *logprobs;         /* (labels) */
};

int siren_features_count(const struct siren_scale *scale, unsigned groups);
/* out: (siren_features_count()). */
void siren_features_fill(const struct siren_scale *scale, unsigned groups,
                         const struct siren_feature_source *source, double *out);

#ifdef __cplusplus
}
#endif
#endif
