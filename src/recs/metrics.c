#include "siren/metrics.h"

#include <math.h>
#include <string.h>

#include "siren/workspace.h"

enum { ECE_BINS = 15 };

/* ---- decoders ---- */

static const char *const decoder_names[] = {"argmax", "mean", "median"};

const char *siren_decoder_name(enum siren_decoder decoder)
{
    return decoder_names[decoder];
}

static int most_probable(const double *p, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (p[i] > p[best]) best = i;
    return best;
}

double siren_decode(enum siren_decoder decoder, const struct siren_scale *scale, const double *p)
{
    int n = siren_scale_labels(scale);
    double sum = 0;
    if (decoder == SIREN_ARGMAX) return siren_scale_value(scale, most_probable(p, n));
    if (decoder == SIREN_MEAN) {
        for (int i = 0; i < n; i++) sum += p[i] * siren_scale_value(scale, i);
        return sum;
    }
    for (int i = 0; i < n; i++) {
        sum += p[i];
        if (sum >= 0.5 - 1e-12) return siren_scale_value(scale, i);
    }
    return scale->max;
}

/* ---- losses ---- */

double siren_log_loss(const struct siren_scale *scale, const double *p, double truth)
{
    int label = siren_scale_label(scale, truth);
    double own = label < 0 ? 0 : p[label];
    return -log(own > 1e-12 ? own : 1e-12);
}

double siren_rps(const struct siren_scale *scale, const double *p, double truth)
{
    int n = siren_scale_labels(scale), label = siren_scale_label(scale, truth);
    double cumulative = 0, sum = 0;
    for (int i = 0; i < n - 1; i++) {
        cumulative += p[i];
        double e = cumulative - (label <= i);
        sum += e * e;
    }
    return sum / (n - 1);
}

/* ---- metrics ---- */

static int check_row(const struct siren_scale *scale, const struct siren_outcomes *o, size_t row,
                     int n_labels, struct siren_error *err)
{
    if (siren_scale_label(scale, o->truth[row]) < 0)
        return siren_fail(err, SIREN_EINVAL, "row %zu: true rating %g is not on the scale %g..%g",
                          row, o->truth[row], scale->min, scale->max);
    if (!isfinite(o->predicted[row]))
        return siren_fail(err, SIREN_ENUMERIC, "row %zu: the predicted rating is not finite", row);
    if (!o->distributions) return 0;
    const double *p = o->distributions + row * (size_t)n_labels;
    double sum = 0;
    for (int i = 0; i < n_labels; i++) {
        if (!(p[i] >= 0))
            return siren_fail(err, SIREN_ENUMERIC, "row %zu: probability %d is %g", row, i, p[i]);
        sum += p[i];
    }
    if (fabs(sum - 1) > 1e-3)
        return siren_fail(err, SIREN_EINVAL, "row %zu: probabilities sum to %g, expected 1", row,
                          sum);
    return 0;
}

struct ece_bin {
    double confidence, correct;
};

static void add_distribution(struct siren_metrics *m, const struct siren_scale *scale,
                             const double *p, double truth, struct ece_bin *bins)
{
    m->log_loss += siren_log_loss(scale, p, truth);
    m->rps += siren_rps(scale, p, truth);
    int top = most_probable(p, m->n_labels);
    /* bins (0, 1/15], (1/15, 2/15], … */
    int bin = (int)ceil(p[top] * ECE_BINS) - 1;
    bin = bin < 0 ? 0 : bin >= ECE_BINS ? ECE_BINS - 1 : bin;
    bins[bin].confidence += p[top];
    bins[bin].correct += siren_scale_label(scale, truth) == top;
}

static void add_row(struct siren_metrics *m, const struct siren_scale *scale,
                    const struct siren_outcomes *o, size_t row, struct ece_bin *bins)
{
    double error = o->predicted[row] - o->truth[row];
    struct siren_label_metrics *l = &m->label[siren_scale_label(scale, o->truth[row])];
    m->mae += fabs(error);
    m->rmse += error * error;
    l->n++;
    l->mae += fabs(error);
    l->rmse += error * error;
    if (o->invalid && o->invalid[row]) m->invalid += 1;
    if (o->distributions)
        add_distribution(m, scale, o->distributions + row * (size_t)m->n_labels, o->truth[row],
                         bins);
}

int siren_metrics_compute(struct siren_metrics *out, const struct siren_scale *scale,
                          const struct siren_outcomes *o, struct siren_error *err)
{
    struct ece_bin bins[ECE_BINS] = {0};
    memset(out, 0, sizeof *out);
    out->n = o->n;
    out->n_labels = siren_scale_labels(scale);
    out->has_distribution = o->distributions != NULL;
    if (!o->n) return siren_fail(err, SIREN_EINVAL, "metrics of no predictions");
    if (siren_scale_check(scale, err)) return SIREN_EINVAL;
    for (size_t i = 0; i < o->n; i++) {
        int code = check_row(scale, o, i, out->n_labels, err);
        if (code) return code;
        add_row(out, scale, o, i, bins);
    }
    double n = (double)o->n;
    out->mae /= n;
    out->rmse = sqrt(out->rmse / n);
    out->invalid /= n;
    out->log_loss /= n;
    out->rps /= n;
    for (int b = 0; b < ECE_BINS; b++) out->ece += fabs(bins[b].confidence - bins[b].correct) / n;
    for (int i = 0; i < out->n_labels; i++) {
        struct siren_label_metrics *l = &out->label[i];
        if (!l->n) continue;
        l->mae /= (double)l->n;
        l->rmse = sqrt(l->rmse / (double)l->n);
    }
    return 0;
}
