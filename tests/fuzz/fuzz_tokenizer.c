/* tokenizer.json, then a NUL, then a text; or a GGUF file whose metadata hold a tokenizer.
 *
 * A GGUF's tokenizer is also written as tokenizer.json and read again.
 *
 * What loads must encode and decode anything without failing in memory, and where it says that a
 * text may be cut, the tokens of the parts must be those of the whole. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/memory_file.h"
#include "text/tokenizer_private.h"
#include "text/tokenizer_write.h"
#include "weights/tensors.h"

static const char sample[] =
    "Tape,  1.88\n\nA b\xC3\xA9\xCC\x81 <s> 12 \xE4\xB8\xAD\xFF\n x'll\r\n";

static int encode(const struct siren_tokenizer *t, const char *text, size_t length, unsigned flags,
                  int32_t **ids, size_t *n)
{
    struct siren_error err;
    return siren_tokenizer_encode(t, text, length, flags, ids, n, &err);
}

static void round_trip(const struct siren_tokenizer *t, const char *text, size_t length,
                       unsigned flags)
{
    struct siren_error err;
    int32_t *ids;
    size_t n, n_text;
    char *again;
    if (encode(t, text, length, flags, &ids, &n)) return;
    for (int skip = 0; skip < 2; skip++) {
        if (siren_tokenizer_decode(t, ids, n, skip, &again, &n_text, &err)) continue;
        free(again);
    }
    for (size_t i = 0; i < n; i++) {
        siren_tokenizer_piece(t, ids[i], &n_text);
        siren_tokenizer_is_special(t, ids[i]);
    }
    free(ids);
}

/* What an export writes of it must load, and give the same ids. */
static void exported(const struct siren_tokenizer *t, const char *path)
{
    struct siren_error err;
    struct tensors *ts;
    struct tokenizer_files files;
    struct siren_tokenizer *again;
    if (tensors_open(&ts, path, &err)) abort();
    int refused = tokenizer_files_from_gguf(&files, ts, 64, &err);
    tensors_close(ts);
    if (refused) return;
    if (tokenizer_from_json(&again, files.tokenizer, strlen(files.tokenizer), "export", &err))
        abort();
    for (unsigned flags = 0; flags < 4; flags++) {
        int32_t *a, *b;
        size_t n, m;
        if (encode(t, sample, strlen(sample), flags, &a, &n)) continue;
        if (encode(again, sample, strlen(sample), flags, &b, &m)) abort();
        if (n != m || memcmp(a, b, n * sizeof *a)) abort();
        free(a);
        free(b);
    }
    siren_tokenizer_free(again);
    tokenizer_files_clear(&files);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct siren_error err;
    struct siren_tokenizer *t;
    const char *json = (const char *)data, *text = sample;
    size_t n_json = strnlen(json, size), length = strlen(sample);
    int code;
    if (size >= 4 && !memcmp(data, "GGUF", 4)) {
        char path[64];
        int fd = memory_file(path);
        memory_file_write(fd, data, size);
        code = tokenizer_from_gguf(&t, path, &err);
        if (!code) exported(t, path);
    } else {
        code = tokenizer_from_json(&t, json, n_json, "fuzz", &err);
        if (n_json + 1 < size) {
            text = json + n_json + 1;
            length = size - n_json - 1;
        }
    }
    if (code) return 0;
    for (unsigned flags = 0; flags < 4; flags++) round_trip(t, text, length, flags);
    siren_tokenizer_free(t);
    return 0;
}
