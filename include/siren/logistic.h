/* Logistic regression from features to a distribution over the rating labels: multinomial or
 * ordinal, with L2, fitted by L-BFGS (convex).
 *
 * Two uses: the baseline over a user's rating histogram (no language model, no
 * item), and the calibrated read-out (siren/calibration.h), which adds the model's rating logits.
 * Their features are in siren/features.h. */
#ifndef SIREN_LOGISTIC_H
#define SIREN_LOGISTIC_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum siren_logistic_kind {
    SIREN_MULTINOMIAL, /* softmax: one weight vector a label */
    SIREN_ORDINAL      /* proportional odds: one weight vector, labels - 1 ordered thresholds */
};
enum { SIREN_LOGISTIC_FOLDS = 5 };
struct siren_logistic_options {
    enum siren_logistic_kind kind;
    double l2; /* penalty l2/2 · |w|² on the standardised features' weights, of the mean loss;
                  0: chosen from 1e-4 … 1 by cross-validation in SIREN_LOGISTIC_FOLDS, by user */
    int iterations; /* 0: 500 */
    uint64_t seed;  /* of the folds */
};
struct siren_logistic;

/* x: (n, d), label: (n) in [0, n_labels), user: (n), for the folds (may be NULL when l2 > 0). */
int siren_logistic_fit(struct siren_logistic **out, const double *x, const int32_t *label,
                       const int32_t *user, size_t n, int d, int n_labels,
                       const struct siren_logistic_options *options, struct siren_error *err);
void siren_logistic_free(struct siren_logistic *m); /* NULL is allowed */
/* p: (n, n_labels). */
int siren_logistic_predict(const struct siren_logistic *m, const double *x, size_t n, double *p,
                           struct siren_error *err);
int siren_logistic_features(const struct siren_logistic *m);
int siren_logistic_labels(const struct siren_logistic *m);
double siren_logistic_l2(const struct siren_logistic *m); /* given or chosen */

/* As one line of JSON (malloc'ed) and back: doubles survive to the bit. */
int siren_logistic_save(const struct siren_logistic *m, char **json, struct siren_error *err);
int siren_logistic_load(struct siren_logistic **out, const char *json, struct siren_error *err);

/* Out-of-fold distributions p (n, n_labels): users are split in `folds` parts (2: halves) by
 * the seed, each part predicted by a model fitted on the others.  SIREN_ENOTFOUND: one part has all
 * the users. */
int siren_logistic_cross(const double *x, const int32_t *label, const int32_t *user, size_t n,
                         int d, int n_labels, int folds,
                         const struct siren_logistic_options *options, double *p,
                         struct siren_error *err);
/* The part, 0 … folds - 1, of a user. */
int siren_user_fold(uint64_t seed, int32_t user, int folds);

#ifdef __cplusplus
}
#endif
#endif
