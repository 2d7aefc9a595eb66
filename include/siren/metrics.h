/* Decoders and metrics of predicted ratings, and what a difference is worth. */
#ifndef SIREN_METRICS_H
#define SIREN_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_scale; /* siren/workspace.h */

#define SIREN_MAX_LABELS 101

/* ---- from a distribution to a rating ---- */
enum siren_decoder {
    SIREN_ARGMAX, /* the most probable label; of equals, the lowest */
    SIREN_MEAN,   /* expected rating: best for RMSE */
    SIREN_MEDIAN  /* lowest label whose cumulative probability is >= 0.5 (- 1e-12): best for MAE */
};
const char *siren_decoder_name(enum siren_decoder decoder); /* "argmax", "mean", "median" */
/* p: (labels), not negative, sum 1. */
double siren_decode(enum siren_decoder decoder, const struct siren_scale *scale, const double *p);

/* ---- losses of one prediction ---- */
/* -ln p[true label]; p is taken as at least 1e-12. */
double siren_log_loss(const struct siren_scale *scale, const double *p, double truth);
/* Ranked probability score: the mean over the labels but the last of the squared difference
 * between the predicted and the observed cumulative distribution; 0 is best, 1 worst. */
double siren_rps(const struct siren_scale *scale, const double *p, double truth);

/* ---- metrics of a set ---- */
struct siren_label_metrics {
    size_t n;
    double mae, rmse; /* of the rows whose true rating is this label; 0 if n = 0 */
};
struct siren_metrics {
    size_t n;
    double mae, rmse;
    double invalid; /* share of the rows marked so */
    int has_distribution;
    double log_loss, rps;
    double ece; /* expected calibration error of the most probable label, 15 equal bins */
    int n_labels;
    struct siren_label_metrics label[SIREN_MAX_LABELS]; /* by true rating */
};
struct siren_outcomes {
    size_t n;
    const double *truth;          /* (n) on the scale */
    const double *predicted;      /* (n); an invalid row holds its policy's value */
    const double *distributions;  /* (n, labels) or NULL */
    const unsigned char *invalid; /* (n) or NULL */
};
/* SIREN_EINVAL: no rows, an invalid scale, a true rating that is not on it, probabilities that
 * do not sum to 1 (within 0.001); SIREN_ENUMERIC: a prediction that is not finite, a probability
 * that is negative or NAN.  After an error *out means nothing. */
int siren_metrics_compute(struct siren_metrics *out, const struct siren_scale *scale,
                          const struct siren_outcomes *p, struct siren_error *err);

/* ---- comparing two systems on the same rows ---- */
enum siren_statistic {
    SIREN_STAT_MEAN,     /* mean of the losses: MAE, log-loss, RPS */
    SIREN_STAT_ROOT_MEAN /* its square root: RMSE from squared errors */
};
struct siren_bootstrap_options {
    int resamples;     /* 0: 10,000 */
    double confidence; /* 0: 0.95 */
    uint64_t seed;
};
struct siren_difference {
    double a, b, difference; /* statistic of a, of b, a - b */
    double low, high;        /* percentile interval of the difference; NAN: there is one user */
    double p; /* two-sided: twice the smaller share of resamples on one side of 0; never 0, and at
                 least 2^(1 - n_users), a sign test's least */
    size_t n_users;
};
/* Users are resampled with replacement, each with all of its rows.  user: (n) any ids.
 * SIREN_EINVAL: no rows, or no resamples; SIREN_ENUMERIC: a loss that is not finite;
 * SIREN_ENOMEM. */
int siren_bootstrap(struct siren_difference *out, const double *loss_a, const double *loss_b,
                    const int32_t *user, size_t n, enum siren_statistic statistic,
                    const struct siren_bootstrap_options *options, struct siren_pool *pool,
                    struct siren_error *err);
/* How much of a teacher's gain its student has: with `before`, `teacher` and `student` as losses of
 * the same rows,
 *   gain = statistic of teacher − of before,   share = (of student − of before) / gain,
 * resampled together.  The share has a meaning where the gain's interval excludes 0: else it is
 * NAN, and so are its bounds. */
struct siren_share {
    struct siren_difference gain; /* a: the teacher, b: before */
    double student;               /* its statistic */
    double share, low, high;
};
int siren_bootstrap_share(struct siren_share *out, const double *before, const double *teacher,
                          const double *student, const int32_t *user, size_t n,
                          enum siren_statistic statistic,
                          const struct siren_bootstrap_options *options, struct siren_pool *pool,
                          struct siren_error *err);
/* Holm's step-down correction: adjusted (n) may be p itself.  The only error is SIREN_ENOMEM. */
int siren_holm(const double *p, size_t n, double *adjusted, struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
