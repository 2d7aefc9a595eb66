/* A lock between processes (and threads): a file that exists while somebody works.  The kernel lets
 * go of it when its holder ends in any way; the file that a killed one leaves is taken over. */
#ifndef SIREN_BASE_LOCK_H
#define SIREN_BASE_LOCK_H

#include "siren/error.h"

struct lock {
    int fd;
    char *path; /* NULL: not held */
};
/* SIREN_EBUSY, at once, where another one holds it. */
int lock_take(struct lock *lock, const char *path, struct siren_error *err);
/* Removes the file; of a lock that is not held: nothing. */
void lock_release(struct lock *lock);

#endif
