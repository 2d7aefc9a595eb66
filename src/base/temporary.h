/* What is written under another name beside its place until it is whole: PATH.tmp-PID-N, a file or
 * a folder.
 *
 * Who fills it holds a lock (flock) on it, which ends with the process however that ends: one that
 * nobody has locked was left by a process that was killed. */
#ifndef SIREN_BASE_TEMPORARY_H
#define SIREN_BASE_TEMPORARY_H

#include <sys/types.h>

#include "siren/error.h"

enum { TEMPORARY_ATTEMPTS = 100 };
/* PATH.tmp-PID-N for N = attempt, malloc'ed; NULL with errno: out of memory. */
char *temporary_name(const char *path, int attempt);
/* If text begins with ".tmp-PID-N", the rest behind it; else NULL. */
const char *behind_temporary(const char *text);

/* Creates an empty file of such a name, malloc'ed, and locks it.  Its descriptor, for writing: the
 * lock lasts until the last copy of it is closed; -1: errno says why. */
int temporary_create(char **name, const char *path, mode_t mode);

/* Calls found() for each name beside `path` that is path's, then ".tmp-PID-N", then `rest`;
 * `folder` is open while it is called. */
typedef void leftover_fn(int folder, const char *name, const char *rest, void *context);
void each_leftover(const char *path, leftover_fn *found, void *context);
/* Locks a file that was left, so that it can be removed before the descriptor is closed; -1:
 * somebody fills it, or it is no file of ours.  What cannot be locked stays. */
int lock_leftover(int folder, const char *name);

/* A rename to `path` is durable only when the folder that holds the name is synced, too. */
int sync_folder(const char *path, struct siren_error *err);

#endif
