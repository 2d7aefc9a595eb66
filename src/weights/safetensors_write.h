/* Writing safetensors: a list of tensors whose rows come from a callback in f32, so that a model
 * of any size is written in the memory of one block of rows. */
#ifndef SIREN_WEIGHTS_SAFETENSORS_WRITE_H
#define SIREN_WEIGHTS_SAFETENSORS_WRITE_H

#include <stddef.h>

#include "weights/tensors.h"

struct safetensors_item {
    const char *name;      /* unique, not "__metadata__" */
    enum tensor_type type; /* TENSOR_F32, TENSOR_F16 or TENSOR_BF16 */
    int n_dims;            /* 1 or 2 */
    int64_t shape[2];
};

/* Rows [row, row + n) of item `index` into out (n · columns); a vector is one row.  0, or a code
 * with *err filled. */
typedef int safetensors_rows(void *context, size_t index, int64_t row, int64_t n, float *out,
                             struct siren_error *err);

/* metadata: n_metadata pairs key, value, one after the other.  Atomic: the file is there whole or
 * as it was.  Rounding to f16 and bf16 is to nearest, ties to even; a finite value beyond their
 * range is SIREN_ENUMERIC with the tensor's name. */
int safetensors_write(const char *path, const struct safetensors_item *items, size_t n,
                      const char *const *metadata, size_t n_metadata, safetensors_rows *rows,
                      void *context, struct siren_error *err);

#endif
