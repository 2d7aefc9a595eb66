/* The two kinds of logistic regression, as losses for L-BFGS. */
#ifndef SIREN_RECS_LOGISTIC_LOSS_H
#define SIREN_RECS_LOGISTIC_LOSS_H

#include <stddef.h>
#include <stdint.h>

#include "siren/logistic.h"
#include "siren/metrics.h"

/* Parameters w:
 *   multinomial  (n_labels, d + 1): weights and, last, the intercept of each label
 *   ordinal      d weights, the first threshold, n_labels - 2 logs of steps between thresholds */
struct siren_logistic {
    enum siren_logistic_kind kind;
    int d, n_labels;
    double l2;
    double *mean, *scale; /* (d): features are standardised as (x - mean) · scale */
    double *w;            /* (n_w) */
    int n_w;
};

/* Standardised rows with their labels. */
struct logistic_data {
    const double *z; /* (n, d) */
    const int32_t *label;
    size_t n;
    const unsigned char *present; /* (n_labels) whether the label occurs */
    double *p;                    /* (n_labels) working memory */
};

int logistic_size(enum siren_logistic_kind kind, int d, int n_labels);
/* Where to start: the labels' frequencies, no weights. */
void logistic_start(const struct siren_logistic *m, const struct logistic_data *data, double *w);
/* Distribution of one standardised row. */
void logistic_row(const struct siren_logistic *m, const double *w, const double *z, double *p);
/* Mean loss with penalty, and its gradient. */
double logistic_loss(const struct siren_logistic *m, const struct logistic_data *data,
                     const double *w, double *gradient);

#endif
