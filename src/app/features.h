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

/* The target's item's ratings that train and are known before the target (of a prediction for now,
 * all that train), one with each call from *at = 0 on; SIREN_NO_ROW behind the last. */
size_t app_item_rows(const struct siren_app *app, const struct siren_target *target, size_t *at);

#endif
