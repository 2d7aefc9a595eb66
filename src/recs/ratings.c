/* Ratings as flat arrays: scale, labels, and what may be known when. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "recs/ratings.h"
#include "siren/metrics.h"
#include "siren/prompt.h"
#include "siren/random.h"
#include "siren/workspace.h"

/* ---- the scale ---- */

int siren_scale_labels(const struct siren_scale *scale)
{
    double n = (scale->max - scale->min) / scale->step, whole = round(n);
    if (!(scale->step > 0) || !(n >= 0) || whole > SIREN_MAX_LABELS - 1) return 0;
    return fabs(n - whole) < 1e-6 ? (int)whole + 1 : 0;
}

int siren_scale_check(const struct siren_scale *scale, struct siren_error *err)
{
    double steps = round((scale->max - scale->min) / scale->step);
    if (siren_scale_labels(scale) >= 2) return SIREN_OK;
    if (scale->step > 0 && steps > SIREN_MAX_LABELS - 1)
        return siren_fail(
            err, SIREN_EINVAL,
            "scale %g:%g:%g: %.0f labels, expected 2 to %d; a larger STEP makes fewer", scale->min,
            scale->max, scale->step, steps + 1, SIREN_MAX_LABELS);
    return siren_fail(err, SIREN_EINVAL,
                      "scale %g:%g:%g: expected LOWEST:HIGHEST:STEP, with HIGHEST some whole STEPs "
                      "above LOWEST, such as 0.5:5:0.5",
                      scale->min, scale->max, scale->step);
}

/* How far off a rating may be that was a float: where floats lie as far apart as labels do, they
 * are none. */
static double as_float(const struct siren_scale *scale, double rating)
{
    return fmin(fmax(1e-6, fabs(rating) * (double)FLT_EPSILON), scale->step / 4);
}

int siren_scale_label(const struct siren_scale *scale, double rating)
{
    double place = (rating - scale->min) / scale->step, off = as_float(scale, rating) / scale->step;
    if (!(place > -off) || !(place < siren_scale_labels(scale) - 1 + off)) return -1;
    return (int)round(place);
}

int siren_scale_exact_label(const struct siren_scale *scale, double rating)
{
    int label = siren_scale_label(scale, rating);
    double off = label >= 0 ? fabs(siren_scale_value(scale, label) - rating) : INFINITY;
    return off < as_float(scale, rating) ? label : -1;
}

double siren_scale_value(const struct siren_scale *scale, int label)
{
    return scale->min + scale->step * label;
}

void siren_scale_text(const struct siren_scale *scale, int label, char text[24])
{
    siren_rating_text(siren_scale_value(scale, label), text);
}

/* ---- labels ---- */

static const char *const label_names[] = {"none", "train", "valid", "test", "history"};
#define N_LABELS ((int)(sizeof label_names / sizeof *label_names))

const char *siren_label_name(int label)
{
    return label >= 0 && label < N_LABELS ? label_names[label] : "?";
}

int siren_label_parse(const char *name, int *label, struct siren_error *err)
{
    for (int i = 0; i < N_LABELS; i++)
        if (!strcmp(name, label_names[i])) {
            *label = i;
            return SIREN_OK;
        }
    return siren_fail(err, SIREN_EINVAL,
                      "'%.40s' is no split (expected train, valid, test, history or none)", name);
}

const char *siren_protocol_name(enum siren_protocol protocol)
{
    return protocol == SIREN_PROTOCOL_PAPER ? "paper" : "full";
}

/* ---- arrays ---- */

int ratings_allocate(struct siren_ratings *r, struct siren_error *err)
{
    size_t n = r->n;
    r->user = alloc_array(n, sizeof *r->user);
    r->item = alloc_array(n, sizeof *r->item);
    r->rating = alloc_array(n, sizeof *r->rating);
    r->time = alloc_array(n, sizeof *r->time);
    r->sequence = alloc_array(n, sizeof *r->sequence);
    r->label = alloc_zeroed(n, 1);
    r->fold = alloc_array(n, 1);
    r->user_start = alloc_zeroed((size_t)r->n_users + 1, sizeof *r->user_start);
    if (!r->user || !r->item || !r->rating || !r->time || !r->sequence || !r->label || !r->fold ||
        !r->user_start)
        return siren_fail_memory(err, "ratings", 30ull * n);
    memset(r->fold, 255, n);
    for (size_t i = 0; i < n; i++) r->sequence[i] = -1;
    return SIREN_OK;
}

void siren_ratings_clear(struct siren_ratings *r)
{
    free(r->user);
    free(r->item);
    free(r->rating);
    free(r->time);
    free(r->sequence);
    free(r->label);
    free(r->fold);
    free(r->user_start);
    free(r->own_label);
    *r = (struct siren_ratings){0};
}

static int keep_labels(struct siren_ratings *r, struct siren_error *err)
{
    if (r->own_label) return SIREN_OK;
    r->own_label = alloc_array(r->n, 1);
    if (!r->own_label) return siren_fail_memory(err, "labels", r->n);
    memcpy(r->own_label, r->label, r->n);
    return SIREN_OK;
}

static void restore_labels(struct siren_ratings *r)
{
    if (r->own_label) memcpy(r->label, r->own_label, r->n);
    free(r->own_label);
    r->own_label = NULL;
    r->current_fold = -1;
}

int siren_ratings_use_fold(struct siren_ratings *r, int fold, double valid, uint64_t seed,
                           struct siren_error *err)
{
    if (fold < 0) {
        restore_labels(r);
        return SIREN_OK;
    }
    if (r->n_folds < 2)
        return siren_fail(err, SIREN_EINVAL,
                          "the workspace has no folds (`siren import --folds 5` makes them)");
    if (fold >= r->n_folds)
        return siren_fail(err, SIREN_EINVAL, "fold %d: expected 0 to %d", fold, r->n_folds - 1);
    if (!(valid >= 0 && valid < 1))
        return siren_fail(err, SIREN_EINVAL, "share of valid %g: expected 0 to 1", valid);
    int rc = keep_labels(r, err);
    if (rc) return rc;
    for (size_t i = 0; i < r->n; i++) {
        uint64_t pair = (uint64_t)(uint32_t)r->user[i] << 32 | (uint32_t)r->item[i];
        if (r->fold[i] == 255)
            r->label[i] = SIREN_LABEL_NONE;
        else if (r->fold[i] == fold)
            r->label[i] = SIREN_LABEL_TEST;
        else if (valid > 0 && siren_random_uniform(seed, (uint64_t)fold, pair) < valid)
            r->label[i] = SIREN_LABEL_VALID;
        else
            r->label[i] = SIREN_LABEL_TRAIN;
    }
    r->current_fold = fold;
    r->fold_seed = seed;
    return SIREN_OK;
}

/* ---- point in time ---- */

/* May row k stand in the history of a target with this label (-1: of a prediction made now)? */
static int in_history(const struct siren_ratings *r, size_t k, int target_label)
{
    int held_out = r->label[k] == SIREN_LABEL_VALID || r->label[k] == SIREN_LABEL_TEST;
    if (r->current_fold >= 0 && held_out && target_label >= 0) return 0;
    return !(r->protocol == SIREN_PROTOCOL_PAPER && target_label == SIREN_LABEL_TEST &&
             r->label[k] == SIREN_LABEL_VALID);
}

static size_t collect_rows(const struct siren_ratings *r, size_t from, size_t to, int target_label,
                           size_t *rows)
{
    size_t n = 0;
    for (size_t k = from; k < to; k++) {
        if (!in_history(r, k, target_label)) continue;
        if (rows) rows[n] = k;
        n++;
    }
    return n;
}

/* Rows [from, to) without the last `gap`. */
static size_t collect_before(const struct siren_ratings *r, size_t from, size_t to, size_t gap,
                             int target_label, size_t *rows)
{
    return to - from <= gap ? 0 : collect_rows(r, from, to - gap, target_label, rows);
}

size_t siren_history(const struct siren_ratings *r, size_t target, size_t gap, size_t *rows)
{
    size_t from = r->user_start[r->user[target]];
    return collect_before(r, from, target, gap, r->label[target], rows);
}

size_t siren_history_now(const struct siren_ratings *r, int user, size_t gap, size_t *rows)
{
    if (user < 0 || user >= r->n_users) return 0;
    return collect_before(r, r->user_start[user], r->user_start[user + 1], gap, -1, rows);
}

int siren_row_precedes(const struct siren_ratings *r, size_t row, size_t target)
{
    return siren_label_trains(r->label[row]) && r->time[row] != SIREN_NO_TIME &&
           r->time[target] != SIREN_NO_TIME && r->time[row] < r->time[target];
}

size_t siren_ratings_row(const struct siren_ratings *r, int user, int item)
{
    if (user < 0 || user >= r->n_users) return SIZE_MAX;
    for (size_t k = r->user_start[user]; k < r->user_start[user + 1]; k++)
        if (r->item[k] == item) return k;
    return SIZE_MAX;
}
