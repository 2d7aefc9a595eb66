/* From ratings as read to ratings in order: duplicates, k-core, the users' order, dense ids. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "recs/import.h"
#include "recs/ratings.h"

#define DEAD UINT32_MAX /* in user[]: this rating is dropped */

void reduced_free(struct reduced *r)
{
    siren_ratings_clear(&r->ratings);
    free(r->new_user);
    free(r->new_item);
    *r = (struct reduced){0};
}

/* Rows by user, in the input's order within each: start (n_users + 1), order (n). */
struct by_user {
    size_t *start;
    uint32_t *order;
};

static void by_user_free(struct by_user *b)
{
    free(b->start);
    free(b->order);
}

static int group(struct by_user *b, const struct raw_table *t, struct siren_error *err)
{
    size_t n_users = t->users.n;
    b->start = alloc_zeroed(n_users + 2, sizeof *b->start);
    b->order = alloc_array(t->n, sizeof *b->order);
    if (!b->start || !b->order) return siren_fail_memory(err, "ratings", t->n * 4);
    for (size_t i = 0; i < t->n; i++) b->start[t->user[i] + 2]++;
    for (size_t u = 0; u < n_users; u++) b->start[u + 2] += b->start[u + 1];
    for (size_t i = 0; i < t->n; i++) b->order[b->start[t->user[i] + 1]++] = (uint32_t)i;
    return SIREN_OK;
}

/* Is a at the same time as or after b?  Unknown is before all; rows come in input order. */
static int not_before(const struct raw_table *t, uint32_t a, uint32_t b)
{
    if (t->own_order || isnan(t->time[b])) return 1;
    return !isnan(t->time[a]) && t->time[a] >= t->time[b];
}

/* Keep the latest of each (user, item). */
static int deduplicate(struct source *s, struct raw_table *t, const struct by_user *b,
                       struct siren_error *err)
{
    size_t n_users = t->users.n;
    uint32_t *kept = alloc_array(t->items.n, sizeof *kept); /* by item: place in order, or DEAD */
    if (!kept) return siren_fail_memory(err, "items", t->items.n * sizeof *kept);
    for (size_t i = 0; i < t->items.n; i++) kept[i] = DEAD;
    for (size_t u = 0; u < n_users; u++) {
        for (size_t k = b->start[u]; k < b->start[u + 1]; k++) {
            uint32_t row = b->order[k], *other = kept + t->item[row];
            if (*other == DEAD) {
                *other = row;
                continue;
            }
            int later = not_before(t, row, *other);
            t->user[later ? *other : row] = DEAD;
            if (later) *other = row;
            s->report->duplicates++;
        }
        for (size_t k = b->start[u]; k < b->start[u + 1]; k++) kept[t->item[b->order[k]]] = DEAD;
    }
    free(kept);
    return SIREN_OK;
}

/* Drop ratings of users and items with fewer than k, until none is left. */
static int core(struct source *s, struct raw_table *t, struct siren_error *err)
{
    uint32_t k = (uint32_t)s->k_core;
    uint32_t *users = alloc_zeroed(t->users.n, sizeof *users);
    uint32_t *items = alloc_zeroed(t->items.n, sizeof *items);
    int code = users && items ? SIREN_OK : siren_fail_memory(err, "k-core", t->users.n * 8);
    size_t dropped = !code;
    for (size_t i = 0; !code && i < t->n; i++)
        if (t->user[i] != DEAD) users[t->user[i]]++, items[t->item[i]]++;
    struct siren_import_report *report = s->report;
    while (!code && dropped) {
        dropped = 0;
        for (size_t i = 0; i < t->n; i++) {
            if (t->user[i] == DEAD || (users[t->user[i]] >= k && items[t->item[i]] >= k)) continue;
            report->core_users += --users[t->user[i]] == 0;
            report->core_items += --items[t->item[i]] == 0;
            t->user[i] = DEAD;
            dropped++;
        }
        report->core_ratings += dropped;
        report->core_rounds += dropped > 0;
    }
    free(users);
    free(items);
    return code;
}

/* ---- the order of a user ---- */

static int compare_rows(const void *a, const void *b, void *context)
{
    const struct raw_table *t = context;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    double tx = t->time[x], ty = t->time[y];
    if (!t->own_order) {
        if (isnan(tx) != isnan(ty)) return isnan(tx) ? -1 : 1;
        if (tx < ty) return -1;
        if (tx > ty) return 1;
    }
    return (x > y) - (x < y);
}

/* The units of times since 1970, as times of ratings betray them by their size: what is below
 * `below` is in that unit.  In the order of enum siren_time_unit. */
static const struct unit {
    const char *name;
    double below, factor; /* factor: milliseconds */
} units[] = {{"s", 1e11, 1e3}, {"ms", 1e14, 1}, {"us", 1e17, 1e-3}, {"ns", INFINITY, 1e-6}};

static const struct unit *unit_of(double time)
{
    const struct unit *u = units;
    while (fabs(time) >= u->below) u++;
    return u;
}

/* The largest time chooses the unit, so it must not be an outlier: a placeholder in milliseconds
 * among seconds would shrink all others a thousandfold.  Below 1e8 (March 1973 in seconds) nothing
 * is told by the size, and nothing objected to: counters of steps, 0, 1 and -1 for "unknown". */
static int judge_unit(struct source *s, const struct raw_table *t, double most,
                      const struct unit **unit, struct siren_error *err)
{
    double least = INFINITY;
    for (size_t i = 0; i < t->n; i++)
        if (t->time[i] >= 1e8 && t->time[i] < least) least = t->time[i]; /* NaN compares false */
    *unit = unit_of(most);
    if (isinf(least) || unit_of(least) == *unit) return SIREN_OK;
    return siren_fail(err, SIREN_EFORMAT,
                      "%s: times look like %s (%.0f) and %s (%.0f): say which with --time-unit "
                      "s|ms|us|ns, or leave empty those that are none",
                      s->path, unit_of(least)->name, least, (*unit)->name, most);
}

/* Milliseconds in a unit of time[]. */
static int time_factor(struct source *s, const struct raw_table *t, double *factor,
                       struct siren_error *err)
{
    static const struct unit date = {"date", INFINITY, 1};
    const struct unit *unit = &date;
    double most = 0;
    int code = SIREN_OK;
    for (size_t i = 0; i < t->n; i++)
        if (fabs(t->time[i]) > fabs(most)) most = t->time[i]; /* NaN compares false */
    if (s->options->time_unit != SIREN_TIME_AUTO && t->time_kind != 1)
        return siren_fail(err, SIREN_EINVAL, "--time-unit changes nothing: %s",
                          t->time_kind ? "the times are dates" : "there are no times");
    if (s->options->time_unit != SIREN_TIME_AUTO)
        unit = &units[s->options->time_unit - SIREN_TIME_S];
    else if (t->time_kind != 2)
        code = judge_unit(s, t, most, &unit, err);
    if (code) return code;
    *factor = unit->factor;
    if (fabs(most) * *factor > 9e15)
        return siren_fail(err, SIREN_EFORMAT, "%s: time %.0f %s is out of range", s->path, most,
                          unit->name);
    snprintf(s->report->time_unit, sizeof s->report->time_unit, "%s",
             t->time_kind ? unit->name : "");
    return SIREN_OK;
}

/* New ids in the order in which the survivors appear. */
static int renumber(const struct raw_table *t, struct reduced *out, struct siren_error *err)
{
    struct siren_ratings *r = &out->ratings;
    out->new_user = alloc_array(t->users.n, sizeof *out->new_user);
    out->new_item = alloc_array(t->items.n, sizeof *out->new_item);
    if (!out->new_user || !out->new_item) return siren_fail_memory(err, "ids", t->users.n * 4);
    for (size_t i = 0; i < t->users.n; i++) out->new_user[i] = -1;
    for (size_t i = 0; i < t->items.n; i++) out->new_item[i] = -1;
    for (size_t i = 0; i < t->n; i++) {
        if (t->user[i] == DEAD) continue;
        if (out->new_user[t->user[i]] < 0) out->new_user[t->user[i]] = r->n_users++;
        if (out->new_item[t->item[i]] < 0) out->new_item[t->item[i]] = r->n_items++;
        r->n++;
    }
    return SIREN_OK;
}

static void fill_row(struct siren_ratings *r, size_t at, const struct raw_table *t, uint32_t row,
                     const struct reduced *out, double factor)
{
    int user = out->new_user[t->user[row]];
    r->user[at] = user;
    r->item[at] = out->new_item[t->item[row]];
    r->rating[at] = t->rating[row];
    r->time[at] = isnan(t->time[row]) ? SIREN_NO_TIME : llround(t->time[row] * factor);
    r->sequence[at] = (int32_t)(at - r->user_start[user]);
    r->label[at] = t->own_labels ? t->label[row] : SIREN_LABEL_TRAIN;
}

/* order is grouped by old users; its survivors move to the new users' places. */
static void fill_ratings(struct raw_table *t, struct by_user *b, struct reduced *out, double factor)
{
    struct siren_ratings *r = &out->ratings;
    for (size_t i = 0; i < t->n; i++)
        if (t->user[i] != DEAD) r->user_start[out->new_user[t->user[i]] + 1]++;
    for (int u = 0; u < r->n_users; u++) r->user_start[u + 1] += r->user_start[u];
    for (size_t u = 0; u < t->users.n; u++) {
        uint32_t *rows = b->order + b->start[u];
        size_t n = 0, end = b->start[u + 1] - b->start[u];
        for (size_t k = 0; k < end; k++)
            if (t->user[rows[k]] != DEAD) rows[n++] = rows[k];
        if (n == 0) continue;
        qsort_r(rows, n, sizeof *rows, compare_rows, t);
        for (size_t k = 0; k < n; k++)
            fill_row(r, r->user_start[out->new_user[u]] + k, t, rows[k], out, factor);
    }
}

static int nothing_left(struct source *s, const struct raw_table *t, struct siren_error *err)
{
    if (t->n == 0)
        return siren_fail(err, SIREN_EFORMAT, "%s: no ratings in it (%llu lines, %llu bad)",
                          s->path, (unsigned long long)s->report->lines,
                          (unsigned long long)s->report->bad_lines);
    return siren_fail(
        err, SIREN_EFORMAT,
        "%s: the %d-core of its %zu ratings (%zu users, %zu items) is empty: no group "
        "of users and items has %d ratings each; try --k-core 2 or --k-core 0 (off)",
        s->path, s->k_core, t->n, t->users.n, t->items.n, s->k_core);
}

int reduce(struct source *s, struct raw_table *t, struct reduced *out, struct siren_error *err)
{
    struct by_user b = {0};
    double factor = 1;
    *out = (struct reduced){0};
    int code = group(&b, t, err);
    if (!code) code = deduplicate(s, t, &b, err);
    if (!code && s->k_core > 1) code = core(s, t, err);
    if (!code) code = renumber(t, out, err);
    if (!code && out->ratings.n == 0) code = nothing_left(s, t, err);
    if (!code) code = time_factor(s, t, &factor, err);
    if (!code) code = ratings_allocate(&out->ratings, err);
    if (!code) fill_ratings(t, &b, out, factor);
    by_user_free(&b);
    if (code) reduced_free(out);
    out->ratings.current_fold = -1;
    out->ratings.scale = s->scale;
    out->ratings.protocol = (enum siren_protocol)s->protocol;
    return code;
}

/* ---- the split ---- */

static int split_by_time(struct source *s, struct siren_ratings *r, struct siren_error *err)
{
    const struct siren_import_options *o = s->options;
    int64_t train = o->train_until, valid = o->valid_until;
    double shares[2] = {o->train_share > 0 ? o->train_share : 0.8,
                        o->train_share > 0 ? o->valid_share : 0.1};
    int code = SIREN_OK;
    if (!train)
        code = siren_split_fractions(r, shares[0], shares[1], &train, &valid, err);
    else if (!valid)
        valid = train;
    return code ? code : siren_split_time(r, train, valid, err);
}

int split_ratings(struct source *s, struct siren_ratings *r, int own_labels,
                  struct siren_error *err)
{
    struct siren_import_report *report = s->report;
    enum siren_split_kind kind = s->options->split;
    const char *name = "leave-last-out";
    int code = SIREN_OK;
    if (own_labels) {
        name = "paper";
    } else if (kind == SIREN_SPLIT_NONE) {
        name = "none";
        memset(r->label, SIREN_LABEL_TRAIN, r->n);
    } else if (kind == SIREN_SPLIT_TIME) {
        name = "global-time";
        code = split_by_time(s, r, err);
    } else {
        siren_split_leave_last_out(r);
        for (int u = 0; u < r->n_users; u++)
            report->short_users += r->user_start[u + 1] - r->user_start[u] < 3;
    }
    if (!code && s->options->folds)
        code = siren_split_folds(r, s->options->folds, s->options->seed, err);
    snprintf(report->split, sizeof report->split, "%s", name);
    report->folds = r->n_folds;
    return code;
}
