/* Features of a target: what the system keeps about the user and the item, as numbers. */
#include <math.h>

#include "siren/features.h"
#include "siren/metrics.h"
#include "siren/sketch.h"
#include "siren/workspace.h"

/* A scale of many labels is counted in fewer bins of neighbouring labels. */
enum { MAX_BINS = 11 };

/* A recent rating weighs 0.8 of the next one in the recency histogram. */
static const double recency[] = {0.5, 0.8, 0.95};
enum { N_RECENCY = sizeof recency / sizeof *recency };
#define HISTOGRAM_DECAY 0.8

static int n_bins(int n_labels)
{
    return n_labels < MAX_BINS ? n_labels : MAX_BINS;
}

static int bin_of(const struct siren_scale *scale, double rating, int n_labels)
{
    int label = siren_scale_label(scale, rating);
    if (label < 0) label = rating > scale->min ? n_labels - 1 : 0;
    return label * n_bins(n_labels) / n_labels;
}

/* ---- one group each: append to *out, or, where out is NULL, only count ---- */

struct feature_out {
    double *values; /* NULL: count only */
    int n;
};

static void put_feature(struct feature_out *out, double value)
{
    if (out->values) out->values[out->n] = value;
    out->n++;
}

static void put_histogram(struct feature_out *out, const struct siren_scale *scale,
                          const struct siren_feature_source *s)
{
    int n_labels = siren_scale_labels(scale), bins = n_bins(n_labels);
    double counts[MAX_BINS] = {0}, n = (double)s->n_history;
    for (size_t i = 0; i < s->n_history; i++) counts[bin_of(scale, s->history[i], n_labels)]++;
    for (int b = 0; b < bins; b++)
        put_feature(out, (counts[b] + 1.0 / bins) / (n + 1)); /* the shares */
    for (int b = 0; b < bins; b++) put_feature(out, log1p(counts[b]));
    put_feature(out, log1p(n));
}

static void put_recent(struct feature_out *out, const struct siren_scale *scale,
                       const struct siren_feature_source *s)
{
    int n_labels = siren_scale_labels(scale), bins = n_bins(n_labels);
    size_t n = s->n_history;
    double sums[N_RECENCY] = {0}, weights[N_RECENCY] = {0}, decayed[MAX_BINS] = {0};
    double share = 1, mean = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        double r = s->history[i], age = (double)(n - 1 - i);
        for (int j = 0; j < N_RECENCY; j++) {
            double w = pow(recency[j], age);
            sums[j] += w * r;
            weights[j] += w;
        }
        mean += r / (double)n;
    }
    for (size_t i = n; i-- > 0; share *= HISTOGRAM_DECAY) {
        decayed[bin_of(scale, s->history[i], n_labels)] += share;
        square += (s->history[i] - mean) * (s->history[i] - mean);
    }
    double middle = (scale->min + scale->max) / 2;
    for (int j = 0; j < N_RECENCY; j++) put_feature(out, n ? sums[j] / weights[j] : middle);
    int last = n ? bin_of(scale, s->history[n - 1], n_labels) : -1;
    for (int b = 0; b < bins; b++) put_feature(out, b == last);
    for (int b = 0; b < bins; b++) put_feature(out, decayed[b]);
    put_feature(out, n ? sqrt(square / (double)n) : 0); /* the standard deviation */
}

/* The distance of a mean from theta, drawn to 0 where it rests on little. */
static double shrunk(double weight, double sum, double theta, double strength)
{
    return (sum - weight * theta) / (weight + strength);
}

/* How much there is, and its mean as it stands and drawn to theta. */
static void put_mean(struct feature_out *out, const struct siren_scale *scale, double weight,
                     double sum)
{
    double theta = siren_scale_theta(scale);
    put_feature(out, log1p(weight));
    put_feature(out, shrunk(weight, sum, theta, 1));
    put_feature(out, shrunk(weight, sum, theta, 5));
}

static void put_logits(struct feature_out *out, const struct siren_scale *scale,
                       const struct siren_feature_source *s)
{
    int n = siren_scale_labels(scale);
    double top = -INFINITY, sum = 0;
    for (int i = 0; s->logprobs && i < n; i++) top = fmax(top, s->logprobs[i]);
    for (int i = 0; s->logprobs && i < n; i++) sum += exp(s->logprobs[i] - top);
    for (int i = 0; i < n; i++) {
        double value = s->logprobs ? s->logprobs[i] - top - log(sum) : -log(n);
        /* a label that the model excludes must not outweigh all else */
        if (!(value > -20)) value = -20;
        put_feature(out, value);
    }
}

static void put_groups(struct feature_out *out, const struct siren_scale *scale, unsigned groups,
                       const struct siren_feature_source *s)
{
    if (groups & SIREN_FEATURE_HISTOGRAM) put_histogram(out, scale, s);
    if (groups & SIREN_FEATURE_RECENT) put_recent(out, scale, s);
    if (groups & SIREN_FEATURE_TOPIC) put_mean(out, scale, s->topic_weight, s->topic_sum);
    if (groups & SIREN_FEATURE_ITEM) put_mean(out, scale, s->item_count, s->item_sum);
    if (groups & SIREN_FEATURE_LOGITS) put_logits(out, scale, s);
}

int siren_features_count(const struct siren_scale *scale, unsigned groups)
{
    struct siren_feature_source none = {0};
    struct feature_out out = {0};
    put_groups(&out, scale, groups, &none);
    return out.n;
}

void siren_features_fill(const struct siren_scale *scale, unsigned groups,
                         const struct siren_feature_source *source, double *values)
{
    struct feature_out out = {.values = values};
    put_groups(&out, scale, groups, source);
}
