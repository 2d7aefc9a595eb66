/* GGUF metadata made by hand, for tests of the tokenizers in it. */
#ifndef TESTS_GGUF_ITEMS_H
#define TESTS_GGUF_ITEMS_H

#include "model_files.h"
#include "siren/tokenizer.h"
#include "text/tokenizer_write.h"
#include "weights/tensors.h"

enum {
    GGUF_U8 = 0,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL_TYPE = 7,
    GGUF_TEXT = 8,
    GGUF_LIST = 9
};

struct gguf_items {
    struct buf items;
    uint64_t n;
};

static inline void put_key(struct gguf_items *f, const char *key, uint32_t type)
{
    put_string(&f->items, key);
    put_u32(&f->items, type);
    f->n++;
}

static inline void put_text(struct gguf_items *f, const char *key, const char *text)
{
    put_key(f, key, GGUF_TEXT);
    put_string(&f->items, text);
}

static inline void put_texts(struct gguf_items *f, const char *key, const char *const *texts)
{
    uint64_t n = 0;
    while (texts[n]) n++;
    put_key(f, key, GGUF_LIST);
    put_u32(&f->items, GGUF_TEXT);
    put_u64(&f->items, n);
    for (uint64_t i = 0; i < n; i++) put_string(&f->items, texts[i]);
}

static inline void put_flag(struct gguf_items *f, const char *key, int value)
{
    put_key(f, key, GGUF_BOOL_TYPE);
    buf_putc(&f->items, value);
}

static inline void put_number(struct gguf_items *f, const char *key, uint32_t value)
{
    put_key(f, key, GGUF_U32);
    put_u32(&f->items, value);
}

/* 1: gguf_items_load() goes by way of the tokenizer.json and tokenizer_config.json that an export
 * of the file has. */
static int gguf_items_export;

static inline int gguf_items_load_export(struct siren_tokenizer **t, const char *folder,
                                         const char *gguf, struct siren_error *err)
{
    struct tokenizer_files files;
    struct tensors *ts;
    char path[128];
    *t = NULL;
    int code = tensors_open(&ts, gguf, err);
    if (code) return code;
    code = tokenizer_files_from_gguf(&files, ts, 64, err);
    tensors_close(ts);
    if (code) return code;
    file_write(path, sizeof path, folder, "tokenizer_config.json", files.config,
               strlen(files.config));
    file_write(path, sizeof path, folder, "tokenizer.json", files.tokenizer,
               strlen(files.tokenizer));
    tokenizer_files_clear(&files);
    return siren_tokenizer_load(t, path, err);
}

/* Writes the file, loads the tokenizer, removes the file; the items are freed. */
static inline int gguf_items_load(struct gguf_items *f, struct siren_tokenizer **t,
                                  struct siren_error *err)
{
    struct buf whole = {0};
    char folder[64], path[128];
    buf_puts(&whole, "GGUF");
    put_u32(&whole, 3);
    put_u64(&whole, 0);
    put_u64(&whole, f->n);
    buf_append(&whole, f->items.data, f->items.size);
    folder_make(folder);
    file_write(path, sizeof path, folder, "m.gguf", whole.data, whole.size);
    int code = gguf_items_export ? gguf_items_load_export(t, folder, path, err)
                                 : siren_tokenizer_load(t, path, err);
    folder_remove(folder);
    buf_free(&whole);
    buf_free(&f->items);
    return code;
}

#endif
