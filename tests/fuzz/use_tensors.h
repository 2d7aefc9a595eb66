/* Everything that a caller may do with an opened model file. */
#ifndef TESTS_FUZZ_USE_TENSORS_H
#define TESTS_FUZZ_USE_TENSORS_H

#include "model/config.h"
#include "model/names.h"
#include "weights/tensors.h"

static inline void use_tensor(const struct tensor *t)
{
    float out[256];
    int64_t n = 1, block = tensor_type_block(t->type);
    for (int i = 0; i < t->n_dims; i++) n *= t->shape[i];
    int64_t count = n < 256 ? n : 256;
    tensor_dequantize(t, 0, count, out);
    tensor_dequantize(t, (n - count) / block * block, count, out);
}

static inline void use_metadata(const struct tensors *ts)
{
    static const char *const keys[] = {"tokenizer.ggml.tokens", "test.strings", "a", "x"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        const struct gguf_value *v = gguf_find(ts, keys[k]);
        struct gguf_value item;
        volatile char last;
        for (uint64_t i = 0; v && v->kind == GGUF_ARRAY && i < v->n_items && i < 1000; i++)
            if (!gguf_item(v, i, &item) && item.kind == GGUF_STRING && item.length)
                last = item.text[item.length - 1];
        (void)last;
    }
}

/* Opens, reads, closes.  The error has a message whenever there is a code. */
static inline void use_model(const char *path)
{
    struct tensors *ts;
    struct siren_error err = {0};
    struct siren_config c;
    char hex[33];
    int code = tensors_open(&ts, path, &err);
    if (code) {
        if (ts || err.code != code || !err.message[0]) __builtin_trap();
        return;
    }
    for (size_t i = 0; i < tensors_count(ts); i++) use_tensor(tensors_at(ts, i));
    use_metadata(ts);
    tensors_hash(ts, hex, &err);
    code = model_config_read(&c, ts, path, &err);
    if (code && (err.code != code || !err.message[0])) __builtin_trap();
    tensors_close(ts);
}

#endif
