/* A calibration, and the parts that fitting and using it share. */
#ifndef SIREN_APP_CALIBRATION_H
#define SIREN_APP_CALIBRATION_H

#include <jansson.h>

#include "app/target_features.h"
#include "siren/calibration.h"

struct siren_calibration {
    unsigned groups;
    struct siren_logistic *model;
    json_t *belongs; /* "scale", and what of a run's settings determines an answer */
};

/* What a run's settings say of the answers. */
json_t *calibration_belongs(const struct siren_app *app, const json_t *settings);
/* siren_predict_options.gap of a run's settings, or of what a calibration belongs to. */
size_t calibration_gap(const json_t *settings);
json_t *calibration_json(const struct siren_calibration *c, struct siren_error *err);
void calibration_features(const struct target_features *f, const struct siren_target *target,
                          const double *logprobs, int n_labels, double *x);

#endif
