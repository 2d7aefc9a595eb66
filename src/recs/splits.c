/* Splits: which ratings are learned from and which are predicted. */
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/alloc.h"
#include "siren/random.h"
#include "siren/workspace.h"

void siren_split_leave_last_out(struct siren_ratings *r)
{
    for (int u = 0; u < r->n_users; u++) {
        size_t from = r->user_start[u], n = r->user_start[u + 1] - from;
        if (n) memset(r->label + from, SIREN_LABEL_TRAIN, n);
        if (n >= 2) r->label[from + n - 1] = SIREN_LABEL_TEST;
        if (n >= 3) r->label[from + n - 2] = SIREN_LABEL_VALID;
    }
    r->current_fold = -1;
}

/* A shuffled deal: fold sizes differ by one at most. */
int siren_split_folds(struct siren_ratings *r, int n_folds, uint64_t seed, struct siren_error *err)
{
    if (n_folds < 2 || n_folds > 254)
        return siren_fail(err, SIREN_EINVAL, "%d folds: expected 2 to 254", n_folds);
    if (r->n < (size_t)n_folds)
        return siren_fail(err, SIREN_EFORMAT, "%d folds of %zu ratings: expected as many or fewer",
                          n_folds, r->n);
    uint64_t *order = alloc_array(r->n, sizeof *order);
    if (!order) return siren_fail_memory(err, "a split", r->n * sizeof *order);
    siren_random_permutation(seed, 0, r->n, order);
    for (size_t i = 0; i < r->n; i++) r->fold[order[i]] = (uint8_t)(i % (size_t)n_folds);
    free(order);
    r->n_folds = n_folds;
    return SIREN_OK;
}

int siren_split_time(struct siren_ratings *r, int64_t train_until, int64_t valid_until,
                     struct siren_error *err)
{
    if (train_until == SIREN_NO_TIME || valid_until < train_until)
        return siren_fail(err, SIREN_EINVAL,
                          "time split: train ends at %lld, valid at %lld: expected them in order",
                          (long long)train_until, (long long)valid_until);
    for (size_t i = 0; i < r->n; i++) {
        int64_t t = r->time[i];
        r->label[i] = t == SIREN_NO_TIME ? SIREN_LABEL_HISTORY
                      : t < train_until  ? SIREN_LABEL_TRAIN
                      : t < valid_until  ? SIREN_LABEL_VALID
                                         : SIREN_LABEL_TEST;
    }
    r->current_fold = -1;
    return SIREN_OK;
}

static int compare_times(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int siren_split_fractions(const struct siren_ratings *r, double train, double valid,
                          int64_t *train_until, int64_t *valid_until, struct siren_error *err)
{
    if (!(train > 0 && valid >= 0 && train + valid <= 1))
        return siren_fail(err, SIREN_EINVAL,
                          "shares %g and %g: expected two that leave some for the test", train,
                          valid);
    int64_t *times = alloc_array(r->n, sizeof *times);
    if (!times) return siren_fail_memory(err, "a split", r->n * sizeof *times);
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->time[i] != SIREN_NO_TIME) times[n++] = r->time[i];
    if (n) qsort(times, n, sizeof *times, compare_times);
    size_t a = (size_t)(train * (double)n + 0.5), b = (size_t)((train + valid) * (double)n + 0.5);
    int code = SIREN_OK;
    if (n == 0) code = siren_fail(err, SIREN_EFORMAT, "time split: no rating has a time");
    *train_until = n == 0 ? 0 : a < n ? times[a] : times[n - 1] + 1;
    *valid_until = n == 0 ? 0 : b < n ? times[b] : times[n - 1] + 1;
    free(times);
    return code;
}

int siren_user_half(const char *external)
{
    return (int)(XXH64(external, strlen(external), 0) & 1);
}
