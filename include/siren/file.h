/* Files: mapping, atomic replacement, line reading. */
#ifndef SIREN_FILE_H
#define SIREN_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A file mapped read-only.  data is NULL for an empty file. */
struct siren_map {
    const unsigned char *data;
    size_t size;
};
int siren_map_open(struct siren_map *out, const char *path, struct siren_error *err);
void siren_map_close(struct siren_map *map);
/* The bytes stop counting as resident memory; they are read again where they are touched. */
void siren_map_release(const struct siren_map *map);
/* 1: the address lies in a mapped file; path is its name as it was opened (cut to size bytes),
 * *offset the byte.  0: in none.
 *
 * A program that cuts a file short while it is mapped here, or a disk that fails, makes the read
 * of a byte that is gone a SIGBUS.  The library takes no signals; this function may be called in a
 * handler of a SIGBUS that such a read has raised (src/cli/bus.c is one). */
int siren_map_find(const void *address, char *path, size_t size, uint64_t *offset);

/* The whole of a (small) file, plain or .gz/.zst by content; NUL-terminated, malloc'ed.
 * Refused with SIREN_EFORMAT beyond max_bytes (decompressed), so that a hostile archive cannot fill
 * memory. */
int siren_file_read(char **data, size_t *size, const char *path, size_t max_bytes,
                    struct siren_error *err);

/* A folder with the folders above it; one that is there is fine. */
int siren_folder_make(const char *path, struct siren_error *err);

/* Atomic replacement: bytes go to a temporary name beside `path`; commit syncs
 * file and folder and renames.  A crash leaves the old file or the new one.
 * A device or a pipe, and what /dev/stdout or /dev/fd/3 names, whatever that is, is written to as
 * it goes.  A symbolic link stays one, and has to lead somewhere.
 * Exactly one of commit and abort ends it; commit aborts by itself on failure. */
struct siren_writer;
int siren_writer_open(struct siren_writer **out, const char *path, struct siren_error *err);
int siren_writer_write(struct siren_writer *w, const void *data, size_t size,
                       struct siren_error *err);
int siren_writer_printf(struct siren_writer *w, struct siren_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int siren_writer_commit(struct siren_writer *w, struct siren_error *err);
void siren_writer_abort(struct siren_writer *w); /* NULL is allowed */
/* All of it at once: a small file, of bytes or of formatted text. */
int siren_file_write(const char *path, const void *data, size_t size, struct siren_error *err);
int siren_file_print(const char *path, struct siren_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Lines of a text file: plain, gzip or zstd (recognised by content, not by
 * name), UTF-8 or Latin-1 (stated by the caller; converted to UTF-8).  Accepts
 * LF and CRLF, and a UTF-8 byte order mark.  Memory is bounded by the longest line. */
enum siren_encoding { SIREN_UTF8, SIREN_LATIN1 };
struct siren_lines;
int siren_lines_open(struct siren_lines **out, const char *path, enum siren_encoding encoding,
                     struct siren_error *err);
void siren_lines_close(struct siren_lines *lines); /* NULL is allowed */
/* 1: *text (NUL-terminated, without its line end, owned by lines, valid until the
 * next call) and *length are set; 0: end of file; negative: error, with file:line
 * (invalid UTF-8, truncated archive, a line longer than 16 MiB).  After invalid UTF-8 the line is
 * in *text as it stands, and counted; the next call goes on behind it. */
int siren_lines_next(struct siren_lines *lines, char **text, size_t *length,
                     struct siren_error *err);
uint64_t siren_lines_number(const struct siren_lines *lines); /* 1-based, of the last line read */
/* Put "FILE:LINE: ", of the last line read, before the error's message; returns code. */
int siren_lines_fail(const struct siren_lines *lines, int code, struct siren_error *err);
/* A hint appended to the invalid-UTF-8 error, such as an option to try; NULL: none.  Borrowed: it
 * must outlive `lines`. */
void siren_lines_hint(struct siren_lines *lines, const char *hint);
/* Bytes of the (compressed) file consumed so far and its size, for progress. */
void siren_lines_position(const struct siren_lines *lines, uint64_t *done, uint64_t *total);

#ifdef __cplusplus
}
#endif
#endif
