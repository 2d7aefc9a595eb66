/* Bytes of a file that may be compressed: plain, gzip (concatenated members
 * too) or zstd (several frames), recognised by content.  Errors do not name the
 * path: the caller puts the path, or path:line, before them. */
#ifndef SIREN_BASE_STREAM_H
#define SIREN_BASE_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"

struct stream;

int stream_open(struct stream **out, const char *path, struct siren_error *err);
void stream_close(struct stream *s); /* NULL is allowed */
/* Up to `capacity` bytes; *got is 0 only at the end of the data. */
int stream_read(struct stream *s, void *bytes, size_t capacity, size_t *got,
                struct siren_error *err);
/* Bytes of the file consumed, and its size (0: not known, as of a pipe). */
void stream_position(const struct stream *s, uint64_t *done, uint64_t *total);

/* The code and text for a failed system call on `path`: SIREN_ENOTFOUND or SIREN_EIO. */
int fail_errno(struct siren_error *err, const char *path, const char *verb);

#endif
