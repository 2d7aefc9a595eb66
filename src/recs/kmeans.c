#include "siren/kmeans.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "recs/dots.h"
#include "siren/random.h"

/* A run's memory, shared by the restarts. */
struct kmeans_run {
    const float *x; /* (n, d) */
    size_t n;
    int d, k;
    int spherical;
    uint64_t seed;
    float *centres;    /* (k, d) */
    double *square;    /* (k) squared lengths of the centres */
    int32_t *labels;   /* (n) */
    double *distance;  /* (n) squared, to the row's own centre */
    double *sums;      /* (k, d) */
    size_t *counts;    /* (k) */
    double *closest;   /* (n) seeding: squared distance to the nearest seed */
    double *candidate; /* (n, trials) seeding: to each candidate */
    int trials;
    struct siren_pool *pool;
};

/* ||x - c||² is ||x||² - 2 x·c + ||c||²; the first term is the same for all centres. */
static double kmeans_score(double square, float dot)
{
    return square - 2.0 * (double)dot;
}

static int32_t kmeans_argmin(const double *square, const float *dots, int k)
{
    int32_t best = 0;
    for (int32_t c = 1; c < k; c++)
        if (kmeans_score(square[c], dots[c]) < kmeans_score(square[best], dots[best])) best = c;
    return best;
}

/* ---- assignment ---- */

static void assign_sink(void *context, size_t first, int rows, const float *dots)
{
    struct kmeans_run *r = context;
    for (int i = 0; i < rows; i++)
        r->labels[first + (size_t)i] =
            kmeans_argmin(r->square, dots + (size_t)i * (size_t)r->k, r->k);
}

static void distance_job(void *context, int thread, int n_threads)
{
    struct kmeans_run *r = context;
    size_t from = r->n * (size_t)thread / (size_t)n_threads;
    size_t to = r->n * ((size_t)thread + 1) / (size_t)n_threads;
    size_t d = (size_t)r->d;
    for (size_t i = from; i < to; i++)
        r->distance[i] = dots_distance(r->x + i * d, r->centres + (size_t)r->labels[i] * d, r->d);
}

static int kmeans_assign(struct kmeans_run *r, struct siren_error *err)
{
    for (int c = 0; c < r->k; c++)
        r->square[c] = dots_square(r->centres + (size_t)c * (size_t)r->d, r->d);
    return dots_each(r->x, r->n, r->d, r->centres, r->k, r->pool, assign_sink, r, err);
}

/* ---- update ---- */

/* A thread sums its own columns over all rows in order: the bits do not depend on how many
 * threads there are. */
static void update_job(void *context, int thread, int n_threads)
{
    struct kmeans_run *r = context;
    size_t d = (size_t)r->d;
    size_t from = d * (size_t)thread / (size_t)n_threads;
    size_t to = d * ((size_t)thread + 1) / (size_t)n_threads;
    for (int c = 0; c < r->k; c++)
        for (size_t j = from; j < to; j++) r->sums[(size_t)c * d + j] = 0;
    for (size_t i = 0; i < r->n; i++) {
        double *sum = r->sums + (size_t)r->labels[i] * d;
        const float *row = r->x + i * d;
        for (size_t j = from; j < to; j++) sum[j] += row[j];
    }
    for (int c = 0; c < r->k; c++)
        if (r->counts[c])
            for (size_t j = from; j < to; j++)
                r->centres[(size_t)c * d + j] =
                    (float)(r->sums[(size_t)c * d + j] / (double)r->counts[c]);
}

/* Each empty cluster takes the row that is farthest from its centre among those that
 * are not alone; of equals the first. */
static void fill_empty(struct kmeans_run *r)
{
    int measured = 0;
    for (int c = 0; c < r->k; c++) {
        if (r->counts[c]) continue;
        if (!measured) dots_run(r->pool, distance_job, r);
        measured = 1;
        size_t far = SIZE_MAX;
        for (size_t i = 0; i < r->n; i++)
            if (r->counts[r->labels[i]] > 1 &&
                (far == SIZE_MAX || r->distance[i] > r->distance[far]))
                far = i;
        if (far == SIZE_MAX) return;
        r->counts[r->labels[far]]--;
        r->labels[far] = c;
        r->counts[c] = 1;
        r->distance[far] = 0;
    }
}

static void kmeans_update(struct kmeans_run *r)
{
    memset(r->counts, 0, (size_t)r->k * sizeof *r->counts);
    for (size_t i = 0; i < r->n; i++) r->counts[r->labels[i]]++;
    fill_empty(r);
    dots_run(r->pool, update_job, r);
    if (r->spherical)
        for (int c = 0; c < r->k; c++)
            siren_kmeans_unit(r->centres + (size_t)c * (size_t)r->d, r->d);
}

/* ---- seeding: greedy k-means++ (Arthur and Vassilvitskii 2007) ---- */

struct seed_work {
    struct kmeans_run *run;
    const double *square; /* (trials) of the candidates */
    int trials;
};

static void seed_sink(void *context, size_t first, int rows, const float *dots)
{
    struct seed_work *s = context;
    struct kmeans_run *r = s->run;
    for (int i = 0; i < rows; i++) {
        size_t row = first + (size_t)i;
        double own = dots_square(r->x + row * (size_t)r->d, r->d);
        for (int t = 0; t < s->trials; t++) {
            double distance = own + kmeans_score(s->square[t], dots[i * s->trials + t]);
            if (!(distance > 0)) distance = 0;
            if (distance > r->closest[row]) distance = r->closest[row];
            r->candidate[row * (size_t)r->trials + (size_t)t] = distance;
        }
    }
}

/* The row at which the running sum of `closest` passes the share u of its total. */
static size_t seed_draw(const struct kmeans_run *r, double total, double u)
{
    double target = u * total, sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (!(r->closest[i] > 0)) continue;
        sum += r->closest[i];
        last = i;
        if (sum > target) return i;
    }
    return last;
}

static double column_sum(const double *values, size_t n, int stride)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i * (size_t)stride];
    return sum;
}

/* The first `trials` rows of `candidates` are tried; the one that leaves the least
 * potential becomes centre c. */
static int seed_place(struct kmeans_run *r, int c, const size_t *rows, int trials,
                      float *candidates, struct siren_error *err)
{
    double square[32];
    size_t d = (size_t)r->d;
    for (int t = 0; t < trials; t++) {
        memcpy(candidates + (size_t)t * d, r->x + rows[t] * d, d * sizeof *candidates);
        square[t] = dots_square(candidates + (size_t)t * d, r->d);
    }
    struct seed_work work = {r, square, trials};
    int code = dots_each(r->x, r->n, r->d, candidates, trials, r->pool, seed_sink, &work, err);
    if (code) return code;
    int best = 0;
    double best_potential = INFINITY;
    for (int t = 0; t < trials; t++) {
        double potential = column_sum(r->candidate + t, r->n, r->trials);
        if (potential < best_potential) best_potential = potential, best = t;
    }
    for (size_t i = 0; i < r->n; i++)
        r->closest[i] = r->candidate[i * (size_t)r->trials + (size_t)best];
    memcpy(r->centres + (size_t)c * d, candidates + (size_t)best * d, d * sizeof *candidates);
    return 0;
}

static int kmeans_seed(struct kmeans_run *r, uint64_t restart, struct siren_error *err)
{
    float *candidates = alloc_array((size_t)r->trials * (size_t)r->d, sizeof *candidates);
    if (!candidates)
        return siren_fail_memory(err, "seeds", (unsigned long long)r->d * sizeof *candidates);
    for (size_t i = 0; i < r->n; i++) r->closest[i] = DBL_MAX / (double)r->n;
    size_t rows[32] = {siren_random_below(r->seed, restart, 0, r->n)};
    int code = seed_place(r, 0, rows, 1, candidates, err);
    for (int c = 1; c < r->k && !code; c++) {
        double total = column_sum(r->closest, r->n, 1);
        for (int t = 0; t < r->trials; t++) {
            uint64_t counter = (uint64_t)c * 32 + (uint64_t)t;
            rows[t] = seed_draw(r, total, siren_random_uniform(r->seed, restart, counter));
        }
        code = seed_place(r, c, rows, r->trials, candidates, err);
    }
    free(candidates);
    return code;
}

/* ---- one run ---- */

struct kmeans_clock {
    const struct siren_progress *progress;
    uint64_t done, total;
};

static int kmeans_tick(struct kmeans_clock *clock, struct siren_error *err)
{
    if (siren_progress_update(clock->progress, "iterations", ++clock->done, clock->total))
        return siren_fail(err, SIREN_ECANCEL, "K-means was stopped");
    return 0;
}

/* From r->centres; leaves labels of the final centres in r->labels. */
static int kmeans_iterate(struct kmeans_run *r, int iterations, struct siren_kmeans *out,
                          struct kmeans_clock *clock, struct siren_error *err)
{
    int32_t *before = alloc_array(r->n, sizeof *before);
    if (!before) return siren_fail_memory(err, "labels", r->n * sizeof *before);
    int code = 0, converged = 0, i;
    for (i = 0; i < iterations && !converged; i++) {
        code = kmeans_assign(r, err);
        if (!code) code = kmeans_tick(clock, err);
        if (code) goto done;
        converged = i > 0 && !memcmp(before, r->labels, r->n * sizeof *before);
        if (converged) break;
        memcpy(before, r->labels, r->n * sizeof *before);
        kmeans_update(r);
    }
    if (!converged) code = kmeans_assign(r, err);
    if (code) goto done;
    dots_run(r->pool, distance_job, r);
    out->inertia = column_sum(r->distance, r->n, 1);
    out->iterations = i;
    out->converged = converged;
done:
    free(before);
    return code;
}

static void kmeans_run_free(struct kmeans_run *r)
{
    free(r->centres);
    free(r->square);
    free(r->labels);
    free(r->distance);
    free(r->sums);
    free(r->counts);
    free(r->closest);
    free(r->candidate);
}

static int kmeans_run_alloc(struct kmeans_run *r, int seeded, struct siren_error *err)
{
    size_t kd = (size_t)r->k * (size_t)r->d, k = (size_t)r->k;
    r->centres = alloc_array(kd, sizeof *r->centres);
    r->sums = alloc_array(kd, sizeof *r->sums);
    r->square = alloc_array(k, sizeof *r->square);
    r->counts = alloc_array(k, sizeof *r->counts);
    r->labels = alloc_array(r->n, sizeof *r->labels);
    r->distance = alloc_array(r->n, sizeof *r->distance);
    int failed = !r->centres || !r->sums || !r->square || !r->counts || !r->labels || !r->distance;
    if (seeded && !failed) {
        r->trials = 2 + (int)log(r->k); /* at most 2 + ln(2^31) = 23 */
        r->closest = alloc_array(r->n, sizeof *r->closest);
        r->candidate = alloc_array(r->n * (size_t)r->trials, sizeof *r->candidate);
        failed = !r->closest || !r->candidate;
    }
    return failed ? siren_fail_memory(err, "K-means", r->n * 24 + kd * 12) : 0;
}

static int kmeans_best_of(struct siren_kmeans *out, struct kmeans_run *r,
                          const struct siren_kmeans_options *o,
                          const struct siren_progress *progress, struct siren_error *err)
{
    int iterations = o->iterations ? o->iterations : 30;
    int restarts = o->initial ? 1 : o->restarts ? o->restarts : 5;
    size_t kd = (size_t)r->k * (size_t)r->d;
    struct kmeans_clock clock = {progress, 0, (uint64_t)iterations * (uint64_t)restarts};
    out->inertia = INFINITY;
    for (int i = 0; i < restarts; i++) {
        struct siren_kmeans result = {0};
        int code = 0;
        clock.done = (uint64_t)i * (uint64_t)iterations;
        if (o->initial)
            memcpy(r->centres, o->initial, kd * sizeof *r->centres);
        else
            code = kmeans_seed(r, (uint64_t)i, err);
        if (!code) code = kmeans_iterate(r, iterations, &result, &clock, err);
        if (code) return code;
        if (i > 0 && !(result.inertia < out->inertia)) continue;
        out->inertia = result.inertia;
        out->iterations = result.iterations;
        out->converged = result.converged;
        memcpy(out->centres, r->centres, kd * sizeof *r->centres);
        memcpy(out->labels, r->labels, r->n * sizeof *r->labels);
    }
    siren_progress_update(progress, "iterations", clock.total, clock.total);
    return 0;
}

static int kmeans_check(const float *x, size_t n, int d, int k,
                        const struct siren_kmeans_options *o, struct siren_error *err)
{
    if (d < 1 || k < 1 || o->iterations < 0 || o->restarts < 0)
        return siren_fail(err, SIREN_EINVAL,
                          "K-means: %d columns, %d clusters, %d iterations, %d restarts: expected "
                          "positive numbers",
                          d, k, o->iterations, o->restarts);
    if (n < (size_t)k)
        return siren_fail(err, SIREN_EINVAL, "K-means: %zu rows are fewer than the %d clusters", n,
                          k);
    for (size_t i = 0; i < n * (size_t)d; i++)
        if (!isfinite(x[i]))
            return siren_fail(err, SIREN_ENUMERIC,
                              "K-means: row %zu, column %zu is not a finite number", i / (size_t)d,
                              i % (size_t)d);
    return 0;
}

static float *unit_copy(const float *x, size_t n, int d)
{
    if (n > SIZE_MAX / (size_t)d) return NULL;
    float *copy = alloc_array(n * (size_t)d, sizeof *copy);
    if (!copy) return NULL;
    memcpy(copy, x, n * (size_t)d * sizeof *copy);
    for (size_t i = 0; i < n; i++) siren_kmeans_unit(copy + i * (size_t)d, d);
    return copy;
}

int siren_kmeans_fit(struct siren_kmeans *out, const float *x, size_t n, int d,
                     const struct siren_kmeans_options *options, struct siren_pool *pool,
                     const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_kmeans_options o = options ? *options : (struct siren_kmeans_options){0};
    memset(out, 0, sizeof *out);
    int k = o.k ? o.k : SIREN_KMEANS_K;
    int code = kmeans_check(x, n, d, k, &o, err);
    if (code) return code;

    struct kmeans_run r = {.x = x, .n = n, .d = d, .k = k, .pool = pool};
    float *unit = NULL, *initial = NULL;
    r.spherical = o.spherical;
    r.seed = o.seed;
    if (o.spherical) {
        r.x = unit = unit_copy(x, n, d);
        if (o.initial) o.initial = initial = unit_copy(o.initial, (size_t)k, d);
        if (!unit || (options->initial && !initial))
            code = siren_fail_memory(err, "rows of length 1", n * (size_t)d * sizeof *unit);
    }
    if (!code) code = kmeans_run_alloc(&r, !o.initial, err);
    if (!code) {
        out->k = k, out->d = d, out->n = n;
        out->centres = alloc_array((size_t)k * (size_t)d, sizeof *out->centres);
        out->labels = alloc_array(n, sizeof *out->labels);
        if (!out->centres || !out->labels)
            code = siren_fail_memory(err, "centres and labels", n * sizeof *out->labels);
    }
    if (!code) code = kmeans_best_of(out, &r, &o, progress, err);
    kmeans_run_free(&r);
    free(unit);
    free(initial);
    if (code) siren_kmeans_clear(out);
    return code;
}

void siren_kmeans_clear(struct siren_kmeans *km)
{
    free(km->centres);
    free(km->labels);
    memset(km, 0, sizeof *km);
}

void siren_kmeans_unit(float *row, int d)
{
    double length = sqrt(dots_square(row, d));
    if (length > 0)
        for (int j = 0; j < d; j++) row[j] = (float)(row[j] / length);
}

int32_t siren_kmeans_nearest(const float *centres, int k, int d, const float *row)
{
    int32_t best = 0;
    double best_score = INFINITY;
    for (int32_t c = 0; c < k; c++) {
        const float *centre = centres + (size_t)c * (size_t)d;
        double score = kmeans_score(dots_square(centre, d), dots_one(row, centre, d));
        if (score < best_score) best_score = score, best = c;
    }
    return best;
}

void siren_kmeans_nearest2(const float *centres, int k, int d, const float *row, int32_t topics[2],
                           double distances[2])
{
    topics[0] = siren_kmeans_nearest(centres, k, d, row);
    distances[0] = dots_distance(row, centres + (size_t)topics[0] * (size_t)d, d);
    topics[1] = -1;
    distances[1] = INFINITY;
    for (int32_t c = 0; c < k; c++) {
        if (c == topics[0]) continue;
        double distance = dots_distance(row, centres + (size_t)c * (size_t)d, d);
        if (distance < distances[1]) distances[1] = distance, topics[1] = c;
    }
}
