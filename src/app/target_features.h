/* A target's features, from what the workspace knows before it. */
#ifndef SIREN_APP_TARGET_FEATURES_H
#define SIREN_APP_TARGET_FEATURES_H

#include "siren/app.h"
#include "siren/features.h"

struct target_features {
    const struct siren_app *app;
    unsigned groups; /* enum siren_feature_group */
    int d;
    size_t gap;   /* siren_history()'s */
    size_t *rows; /* of one user's history */
    double *history;
};
/* The app's ratings must not change until it is closed. */
int target_features_open(struct target_features *f, const struct siren_app *app, unsigned groups,
                         size_t gap, struct siren_error *err);
void target_features_close(struct target_features *f); /* a zeroed one is allowed */
/* x: (d).  logprobs: (labels), read only for SIREN_FEATURE_LOGITS. */
void target_features_fill(const struct target_features *f, const struct siren_target *target,
                          const double *logprobs, double *x);

#endif
