/* Dot products of many rows with a few: the distances of K-means.
 *
 * A dot product is one FMA chain over the columns from 0, whatever computes it,
 * so that a single new row gets the bits that it would have had in a batch. */
#ifndef SIREN_RECS_DOTS_H
#define SIREN_RECS_DOTS_H

#include <stddef.h>

#include "siren/error.h"
#include "siren/pool.h"

/* Called with out (rows, k): the dot products of rows first … first + rows - 1, on any thread. */
typedef void dots_sink(void *context, size_t first, int rows, const float *out);

/* x: (n, d), centres: (k, d).  pool may be NULL. */
int dots_each(const float *x, size_t n, int d, const float *centres, int k, struct siren_pool *pool,
              dots_sink *sink, void *context, struct siren_error *err);
float dots_one(const float *a, const float *b, int d);
/* Sum of squares, in double, in order. */
double dots_square(const float *a, int d);
/* Squared Euclidean distance, in double, in order. */
double dots_distance(const float *a, const float *b, int d);

/* siren_pool_run(), on the calling thread alone where pool is NULL. */
void dots_run(struct siren_pool *pool, siren_job *job, void *context);
int dots_threads(const struct siren_pool *pool);

#endif
