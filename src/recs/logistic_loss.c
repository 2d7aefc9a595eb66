#include "recs/logistic_loss.h"

#include <math.h>
#include <string.h>

/* Thresholds of an ordinal model never meet: a label that did not occur keeps a probability. */
#define LEAST_STEP 1e-3

int logistic_size(enum siren_logistic_kind kind, int d, int n_labels)
{
    return kind == SIREN_MULTINOMIAL ? n_labels * (d + 1) : d + n_labels - 1;
}

static double dot(const double *a, const double *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double penalty(const double *w, int n, double l2, double *gradient)
{
    for (int i = 0; i < n; i++) gradient[i] += l2 * w[i];
    return 0.5 * l2 * dot(w, w, n);
}

/* ---- multinomial ---- */

static void multinomial_row(const struct siren_logistic *m, const double *w, const double *z,
                            double *p)
{
    int n = m->n_labels, d = m->d;
    double top = -INFINITY, sum = 0;
    for (int c = 0; c < n; c++) {
        p[c] = dot(w + c * (d + 1), z, d) + w[c * (d + 1) + d];
        top = fmax(top, p[c]);
    }
    for (int c = 0; c < n; c++) sum += p[c] = exp(p[c] - top);
    for (int c = 0; c < n; c++) p[c] /= sum;
}

static double multinomial_loss(const struct siren_logistic *m, const struct logistic_data *data,
                               const double *w, double *gradient)
{
    int n = m->n_labels, d = m->d;
    double loss = 0, share = 1 / (double)data->n;
    for (size_t i = 0; i < data->n; i++) {
        const double *z = data->z + i * (size_t)d;
        multinomial_row(m, w, z, data->p);
        loss -= log(fmax(data->p[data->label[i]], 1e-300)) * share;
        data->p[data->label[i]] -= 1;
        for (int c = 0; c < n; c++) {
            double e = data->p[c] * share, *g = gradient + c * (d + 1);
            for (int j = 0; j < d; j++) g[j] += e * z[j];
            g[d] += e;
        }
    }
    for (int c = 0; c < n; c++) {
        loss += penalty(w + c * (d + 1), d, m->l2, gradient + c * (d + 1));
        /* without examples its intercept would fall for ever: it stays where it started */
        if (!data->present[c]) gradient[c * (d + 1) + d] = 0;
    }
    return loss;
}

/* ---- ordinal: P(label <= k) = sigmoid(t_k - w·z) ---- */

static double threshold_step(double s)
{
    return LEAST_STEP + exp(s);
}

/* P(label = c) for a score, as the difference of two sigmoids without cancellation. */
static double between(double low, double high)
{
    if (low > 0) return sigmoid(-low) - sigmoid(-high);
    return sigmoid(high) - sigmoid(low);
}

static void ordinal_row(const struct siren_logistic *m, const double *w, const double *z, double *p)
{
    int n = m->n_labels, d = m->d;
    double score = dot(w, z, d), low = -INFINITY, t = w[d];
    for (int c = 0; c < n; c++) {
        double high = c < n - 1 ? t - score : INFINITY;
        p[c] = between(low, high);
        low = high;
        if (c < n - 2) t += threshold_step(w[d + 1 + c]);
    }
}

static double ordinal_loss(const struct siren_logistic *m, const struct logistic_data *data,
                           const double *w, double *gradient)
{
    int n = m->n_labels, d = m->d;
    double loss = 0, share = 1 / (double)data->n, t[SIREN_MAX_LABELS];
    double dt[SIREN_MAX_LABELS] = {0};
    t[0] = w[d];
    for (int k = 1; k < n - 1; k++) t[k] = t[k - 1] + threshold_step(w[d + k]);
    for (size_t i = 0; i < data->n; i++) {
        const double *z = data->z + i * (size_t)d;
        int c = data->label[i];
        double score = dot(w, z, d);
        double low = c > 0 ? t[c - 1] - score : -INFINITY,
               high = c < n - 1 ? t[c] - score : INFINITY;
        double p = fmax(between(low, high), 1e-300);
        /* derivative of a sigmoid is s (1 - s), 0 at either infinity */
        double at_low = c > 0 ? sigmoid(low) * sigmoid(-low) : 0;
        double at_high = c < n - 1 ? sigmoid(high) * sigmoid(-high) : 0;
        loss -= log(p) * share;
        if (c > 0) dt[c - 1] += at_low / p * share;
        if (c < n - 1) dt[c] -= at_high / p * share;
        double e = (at_high - at_low) / p * share;
        for (int j = 0; j < d; j++) gradient[j] += e * z[j];
    }
    double above = 0;
    for (int k = n - 2; k >= 1; k--) {
        above += dt[k];
        gradient[d + k] += above * exp(w[d + k]);
    }
    gradient[d] += above + dt[0];
    return loss + penalty(w, d, m->l2, gradient);
}

/* ---- both ---- */

void logistic_row(const struct siren_logistic *m, const double *w, const double *z, double *p)
{
    if (m->kind == SIREN_MULTINOMIAL)
        multinomial_row(m, w, z, p);
    else
        ordinal_row(m, w, z, p);
}

double logistic_loss(const struct siren_logistic *m, const struct logistic_data *data,
                     const double *w, double *gradient)
{
    memset(gradient, 0, (size_t)m->n_w * sizeof *gradient);
    return m->kind == SIREN_MULTINOMIAL ? multinomial_loss(m, data, w, gradient)
                                        : ordinal_loss(m, data, w, gradient);
}

void logistic_start(const struct siren_logistic *m, const struct logistic_data *data, double *w)
{
    double share[SIREN_MAX_LABELS] = {0};
    int n = m->n_labels, d = m->d;
    double total = (double)data->n + 0.5 * n;
    for (int c = 0; c < n; c++) share[c] = 0.5 / total;
    for (size_t i = 0; i < data->n; i++) share[data->label[i]] += 1 / total;
    memset(w, 0, (size_t)m->n_w * sizeof *w);
    if (m->kind == SIREN_MULTINOMIAL) {
        for (int c = 0; c < n; c++) w[c * (d + 1) + d] = log(share[c]);
        return;
    }
    double below = 0, previous = 0;
    for (int k = 0; k < n - 1; k++) {
        below += share[k];
        double t = log(below / (1 - below));
        if (k == 0)
            w[d] = t;
        else
            w[d + k] = log(fmax(t - previous - LEAST_STEP, 1e-6));
        previous = t;
    }
}
