/* The stored sketches of a clustering. */
#ifndef SIREN_APP_SKETCHES_H
#define SIREN_APP_SKETCHES_H

#include "siren/workspace.h"

/* Replaces all users' sketches by those over all of their ratings; inside the caller's
 * transaction. */
int app_sketches_store(struct siren_workspace *ws, const struct siren_topics *t, int soft,
                       int *n_users, struct siren_error *err);

#endif
