/* What the two containers share: the table of tensors that gguf.c and
 * safetensors.c fill and tensors.c owns.  Private to src/weights. */
#ifndef SIREN_WEIGHTS_TENSORS_PRIVATE_H
#define SIREN_WEIGHTS_TENSORS_PRIVATE_H

#include "siren/file.h"
#include "weights/tensors.h"

struct gguf_entry {
    char *key;
    struct gguf_value value;
};

struct tensors {
    char *path; /* as the caller gave it: a file or a folder */
    int is_gguf;
    struct siren_map *maps; /* one for each file */
    size_t n_maps, maps_capacity;
    struct tensor *items; /* in the order of the file */
    size_t count, capacity;
    size_t *by_name;         /* indices into items, sorted by name */
    struct gguf_entry *meta; /* sorted by key */
    size_t n_meta;
    struct json_t *metadata; /* safetensors: "__metadata__" of the first file that has one */
};

/* Map one more file; its map stays where tensors may point into it. */
int tensors_map(struct tensors *ts, const char *path, struct siren_map *out,
                struct siren_error *err);
/* Append a tensor; its name is copied. */
int tensors_add(struct tensors *ts, const char *name, size_t length, const struct tensor *t,
                struct siren_error *err);
/* Bytes of t's data from its type and shape: 0, or -1 on overflow or where the last
 * dimension is no multiple of the block. */
int tensor_size(enum tensor_type type, int n_dims, const int64_t *shape, size_t *bytes);

int gguf_open(struct tensors *ts, const char *path, struct siren_error *err);
void gguf_free(struct tensors *ts);        /* the metadata */
void safetensors_free(struct tensors *ts); /* the metadata */
int safetensors_open(struct tensors *ts, const char *path, struct siren_error *err);
int safetensors_open_folder(struct tensors *ts, const char *path, struct siren_error *err);

#endif
