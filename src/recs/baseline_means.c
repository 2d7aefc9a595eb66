#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "recs/baseline_mf.h"
#include "siren/baselines.h"
#include "siren/metrics.h"
#include "siren/workspace.h"

int baseline_check(const struct siren_table *t, const char *what, struct siren_error *err)
{
    if (!t->n) return siren_fail(err, SIREN_EINVAL, "%s: no ratings", what);
    for (size_t i = 0; i < t->n; i++)
        if (t->users[i] < 0 || t->users[i] >= t->n_users || t->items[i] < 0 ||
            t->items[i] >= t->n_items)
            return siren_fail(err, SIREN_EINVAL,
                              "%s: rating %zu is of user %d and item %d: expected below %d and %d",
                              what, i, t->users[i], t->items[i], t->n_users, t->n_items);
    return 0;
}

static double most_frequent(const struct siren_scale *scale, const struct siren_table *train)
{
    size_t counts[SIREN_MAX_LABELS] = {0};
    int n = siren_scale_labels(scale), best = 0;
    for (size_t i = 0; i < train->n; i++) {
        int label = siren_scale_label(scale, train->ratings[i]);
        if (label >= 0 && label < SIREN_MAX_LABELS) counts[label]++;
    }
    for (int i = 1; i < n && i < SIREN_MAX_LABELS; i++)
        if (counts[i] >= counts[best]) best = i;
    return siren_scale_value(scale, best);
}

static void divide(double *sums, const int32_t *counts, int32_t n, double fallback)
{
    for (int32_t i = 0; i < n; i++) sums[i] = counts[i] ? sums[i] / counts[i] : fallback;
}

int siren_means_fit(struct siren_means *out, const struct siren_scale *scale,
                    const struct siren_table *train, struct siren_error *err)
{
    memset(out, 0, sizeof *out);
    int code = baseline_check(train, "means", err);
    if (code) return code;
    size_t n_users = (size_t)train->n_users, n_items = (size_t)train->n_items;
    out->n_users = train->n_users, out->n_items = train->n_items;
    out->user_mean = alloc_zeroed(n_users, sizeof *out->user_mean);
    out->item_mean = alloc_zeroed(n_items, sizeof *out->item_mean);
    out->user_count = alloc_zeroed(n_users, sizeof *out->user_count);
    out->item_count = alloc_zeroed(n_items, sizeof *out->item_count);
    if (!out->user_mean || !out->item_mean || !out->user_count || !out->item_count) {
        siren_means_clear(out);
        return siren_fail_memory(err, "means", (n_users + n_items) * 12);
    }
    for (size_t i = 0; i < train->n; i++) {
        out->global += train->ratings[i];
        out->user_mean[train->users[i]] += train->ratings[i];
        out->item_mean[train->items[i]] += train->ratings[i];
        out->user_count[train->users[i]]++;
        out->item_count[train->items[i]]++;
    }
    out->global /= (double)train->n;
    out->mode = most_frequent(scale, train);
    divide(out->user_mean, out->user_count, train->n_users, out->global);
    divide(out->item_mean, out->item_count, train->n_items, out->global);
    return 0;
}

void siren_means_clear(struct siren_means *m)
{
    free(m->user_mean);
    free(m->item_mean);
    free(m->user_count);
    free(m->item_count);
    memset(m, 0, sizeof *m);
}
