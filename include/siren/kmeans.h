/* K-means over the rows of a matrix.
 *
 * Lloyd's iterations on squared Euclidean distances from greedy k-means++
 * seeds.  Labels and centres are a function of the data, the options and the
 * seed: the number of threads changes no bit.  From given initial centres the
 * labels are scikit-learn's. */
#ifndef SIREN_KMEANS_H
#define SIREN_KMEANS_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/pool.h"
#include "siren/progress.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SIREN_KMEANS_K 20 /* topics of the paper */
struct siren_kmeans_options {
    int k;          /* 0: SIREN_KMEANS_K */
    int iterations; /* 0: 30 */
    int restarts;   /* 0: 5; the lowest inertia wins */
    int spherical;  /* rows and centres are scaled to length 1 */
    uint64_t seed;
    const float *initial; /* (k, d) centres to start from, then one run; NULL: k-means++ */
};

struct siren_kmeans {
    int k, d;
    size_t n;
    float *centres;  /* (k, d) */
    int32_t *labels; /* (n): the nearest centre, the lowest index among equals */
    double inertia;  /* sum of the squared distances to it */
    int iterations;  /* of the run that won */
    int converged;   /* its labels had stopped changing */
};

/* x: (n, d), finite, n >= k.  SIREN_EINVAL, SIREN_ENOMEM, SIREN_ENUMERIC, SIREN_ECANCEL. */
int siren_kmeans_fit(struct siren_kmeans *out, const float *x, size_t n, int d,
                     const struct siren_kmeans_options *options, struct siren_pool *pool,
                     const struct siren_progress *progress, struct siren_error *err);
void siren_kmeans_clear(struct siren_kmeans *km);

/* The centre nearest to a new row, as the fit would have chosen it (a spherical
 * fit: centres have length 1, the row need not). */
int32_t siren_kmeans_nearest(const float *centres, int k, int d, const float *row);
/* Scales a row to length 1 (a row of zeros stays), as a spherical fit does. */
void siren_kmeans_unit(float *row, int d);
/* The two nearest, with their squared distances; topics[1] = -1 when k = 1. */
void siren_kmeans_nearest2(const float *centres, int k, int d, const float *row, int32_t topics[2],
                           double distances[2]);

#ifdef __cplusplus
}
#endif
#endif
