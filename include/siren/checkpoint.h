/* Checkpoints of training: one file, whole or not at all.
 *
 * A checkpoint holds a JSON text (settings, counters, the position in the data: the caller's), the
 * optimiser's steps, and named arrays of f32, bit for bit, so that a run that resumes gives the
 * bits of one that never stopped.  It is written to a temporary name, synced and renamed
 * (siren/file.h): until the new file is durable the old one stays as it was.
 *
 * File, little-endian: "SIRENCKP", version u32, 0 u32, length of the content u64; the content as
 * one zstd frame; XXH3-128 of all bytes before it (canonical, 16 bytes).  Content: steps u64,
 * arrays u64, JSON length u64, JSON; for each array name length u64, name, numbers u64, numbers. */
#ifndef SIREN_CHECKPOINT_H
#define SIREN_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/optimizer.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_array {
    const char *name; /* unique, 1 … 255 bytes */
    const float *data;
    size_t n;
};

/* json: any text, NULL for "".  Fails with SIREN_EIO (disk full …) and leaves an old file good. */
int siren_checkpoint_save(const char *path, const char *json, uint64_t steps,
                          const struct siren_array *arrays, size_t n, struct siren_error *err);

struct siren_checkpoint {
    char *json; /* NUL-terminated */
    uint64_t steps;
    struct siren_array *arrays; /* n, in the order in which they were saved */
    size_t n;
};
/* Reads and checks all of it.  SIREN_EFORMAT: not a checkpoint, cut short, or changed (the checksum
 * differs); SIREN_EUNSUPPORTED: written by a newer version.  *out is the caller's to clear. */
int siren_checkpoint_load(struct siren_checkpoint *out, const char *path, struct siren_error *err);
void siren_checkpoint_clear(struct siren_checkpoint *checkpoint);
/* NULL: there is none of this name. */
const struct siren_array *siren_checkpoint_find(const struct siren_checkpoint *checkpoint,
                                                const char *name);

/* Parameters, AdamW's moments and its steps, as arrays "value/NAME", "m/NAME", "v/NAME". */
int siren_checkpoint_save_training(const char *path, const char *json, struct siren_params params,
                                   struct siren_adamw *adamw, struct siren_error *err);
/* The reverse.  Every array must be there with the parameter's length, and no other; otherwise
 * SIREN_EFORMAT names it and nothing is changed. */
int siren_checkpoint_restore(const struct siren_checkpoint *checkpoint, struct siren_params params,
                             struct siren_adamw *adamw, struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
