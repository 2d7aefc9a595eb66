/* The parts of an export: its texts, its folder.  Private to src/model. */
#ifndef SIREN_MODEL_EXPORT_H
#define SIREN_MODEL_EXPORT_H

#include "siren/model.h"
#include "weights/tensors.h"

/* A file of the folder. */
struct export_text {
    char *name, *data;
    size_t size;
};
enum { EXPORT_TEXTS = 16 };
struct export_texts {
    struct export_text items[EXPORT_TEXTS];
    size_t n;
};

/* config.json, tokenizer.json and the others, of a source of either kind; type is that of the
 * weights to be written.  Clear in any case. */
int export_texts(struct export_texts *out, const struct tensors *ts, const struct siren_config *c,
                 const char *path, enum tensor_type type, struct siren_error *err);
void export_texts_clear(struct export_texts *texts);
/* Of config.json and tokenizer.json, 16 hexadecimal digits. */
void export_texts_hash(const struct export_texts *texts, char hash[17]);
/* The same of a folder; a missing file counts as an empty one. */
int export_folder_hash(const char *folder, char hash[17], struct siren_error *err);

#define EXPORT_WEIGHTS "model.safetensors"

/* A folder that appears whole or not at all. */
struct export_folder {
    char *path;      /* its place, without slashes at the end */
    char *temporary; /* where to write; NULL: it is in place, or there is none */
    int lock;        /* descriptor of temporary; its lock says that a process is at work */
    int replaces;    /* an older one has its place */
};
/* SIREN_EEXISTS: a folder that is not empty has its place, and replace is 0.  Removes what exports
 * to the same place left when they were killed; those of living processes stay. */
int export_folder_begin(struct export_folder *f, const char *path, int replace,
                        struct siren_error *err);
/* Give it its place. */
int export_folder_finish(struct export_folder *f, struct siren_error *err);
/* In any case, after begin: what is not in its place is removed. */
void export_folder_end(struct export_folder *f);

#endif
