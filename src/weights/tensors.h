/* Named tensors of a model file, whatever the container.
 *
 * Opens GGUF v3 (one file), safetensors (one file, or a folder with
 * model.safetensors or model.safetensors.index.json and its shards).  The files
 * are mapped; a tensor's data points into the map.  Nothing is trusted: every
 * offset, size and count is checked before use, and a bad file ends with
 * SIREN_EFORMAT and file, byte offset, what was found and what was expected. */
#ifndef SIREN_WEIGHTS_TENSORS_H
#define SIREN_WEIGHTS_TENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"

/* Element types.  Numbers are our own (stored nowhere). */
enum tensor_type {
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_Q8_0,
    TENSOR_Q4_0,
    TENSOR_Q4_1,
    TENSOR_Q5_0,
    TENSOR_Q5_1,
    TENSOR_Q4_K,
    TENSOR_Q5_K,
    TENSOR_Q6_K,
    TENSOR_I64, /* only position_ids and the like: never computed with */
    TENSOR_I32,
    TENSOR_TYPES
};

const char *tensor_type_name(enum tensor_type type); /* "Q4_1" */
int tensor_type_block(enum tensor_type type);        /* elements a block: 1, 32 or 256 */
int tensor_type_bytes(enum tensor_type type);        /* bytes a block */

struct tensor {
    const char *name;
    enum tensor_type type;
    int n_dims;       /* 0..4 */
    int64_t shape[4]; /* row-major, outermost first (PyTorch order, also for GGUF) */
    const void *data; /* into the map; rows are contiguous, blocks run along the last dim */
    size_t bytes;
};

static inline int64_t tensor_elements(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) n *= t->shape[i];
    return n;
}

struct tensors;
int tensors_open(struct tensors **out, const char *path, struct siren_error *err);
void tensors_close(struct tensors *ts); /* NULL is allowed */

/* A model is a .gguf file or a folder.  SIREN_EINVAL: a file out of such a folder (safetensors, or
 * JSON by its name), which lacks what the others say. */
int tensors_check_model(const char *path, struct siren_error *err);
/* tensors_open() of a model. */
int tensors_open_model(struct tensors **out, const char *path, struct siren_error *err);

/* After the weights were packed: the mapped files stop counting as resident memory. */
void tensors_release(const struct tensors *ts);

size_t tensors_count(const struct tensors *ts);
const struct tensor *tensors_at(const struct tensors *ts, size_t index);
const struct tensor *tensors_find(const struct tensors *ts, const char *name); /* NULL: none */
const char *tensors_path(const struct tensors *ts);
/* 128-bit xxHash (hex, 32 digits) of all tensors' names, types, shapes and data: the
 * exact identity of the base model. */
int tensors_hash(const struct tensors *ts, char hex[33], struct siren_error *err);

/* GGUF metadata; NULL/0 results where the file is not GGUF or has no such key. */
enum gguf_kind { GGUF_UINT, GGUF_INT, GGUF_FLOAT, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY };
struct gguf_value {
    enum gguf_kind kind;
    uint64_t u;
    int64_t i;
    double f;
    const char *text; /* GGUF_STRING: not NUL-terminated */
    size_t length;
    /* GGUF_ARRAY */
    enum gguf_kind item_kind;
    uint64_t n_items;
    const void *items; /* private: read with gguf_item() */
    int item_wire_type;
};
int tensors_is_gguf(const struct tensors *ts);
const struct gguf_value *gguf_find(const struct tensors *ts, const char *key);
const char *gguf_key(const struct tensors *ts, size_t index); /* all, one by one; NULL: no more */
/* Item i of an array into *out; 0 or -1 when out of range.  Strings: O(1) (offsets are indexed at
 * open). */
int gguf_item(const struct gguf_value *array, uint64_t i, struct gguf_value *out);

/* A text of a safetensors file's "__metadata__"; NULL where there is none.  Owned by ts. */
const char *safetensors_metadata(const struct tensors *ts, const char *key);

/* Exact dequantisation to f32 of elements [first, first + count) of a tensor
 * (first and count multiples of the block).  All products in these formats are
 * exact in f32 and there is a single rounding (the addition of the minimum), so
 * the result is equal to the bit to gguf-py's. */
void tensor_dequantize(const struct tensor *t, int64_t first, int64_t count, float *out);

/* A name from a file made fit for a message: at most 63 bytes, no control characters. */
struct shown {
    char text[64];
};
struct shown tensors_show(const char *text, size_t length);
/* A shape as "[3, 64]". */
struct shown tensors_show_shape(int n_dims, const int64_t *shape);

#endif
