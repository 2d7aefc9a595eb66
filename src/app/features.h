/* A target's features, from what the workspace knows before it. */
#ifndef SIREN_APP_FEATURES_H
#define SIREN_APP_FEATURES_H

#include "siren/app.h"
#include "siren/calibrate.h"

struct app_features {
    const struct siren_app *app;
    unsigned groups; /* enum siren_feature_group */
    int d;
    size_t *rows; /* of one user's history */
    double *history;
};
/* The app's ratings must not change until it is closed. */
int app_features_open(struct app_features *f, const struct siren_app *app, unsigned groups,
                      struct siren_error *err);
void app_features_close(struct app_features *f); /* a zeroed one is allowed */
/* x: (d).  logprobs: (labels), read only for SIREN_FEATURE_LOGITS. */
void app_features_fill(const struct app_features *f, const struct siren_target *target,
                       const double *logprobs, double *x);

#endif
