/* Ratings as arrays: what the loader and the import share. */
#ifndef SIREN_RECS_RATINGS_H
#define SIREN_RECS_RATINGS_H

#include "siren/workspace.h"

/* Arrays for n and n_users (set by the caller): sequence -1, fold 255, the rest not set but
 * label and user_start, which are 0.  On failure the caller clears. */
int ratings_allocate(struct siren_ratings *r, struct siren_error *err);

#endif
