/* Decoders: token texts to text. */
#ifndef SIREN_TEXT_DECODER_H
#define SIREN_TEXT_DECODER_H

#include "siren/error.h"
#include "text/normalizer.h"

enum decoder_kind {
    DECODE_BYTES,     /* ByteLevel */
    DECODE_WORDPIECE, /* text: the prefix; flag: cleanup */
    DECODE_METASPACE, /* text: the replacement; flag: the first one vanishes */
    DECODE_BPE,       /* text: the suffix */
    DECODE_BYTE_FALLBACK,
    DECODE_FUSE,
    DECODE_STRIP,   /* text: a character; start, stop: how many at most */
    DECODE_REPLACE, /* `replace` says what by what */
};

struct decoder {
    enum decoder_kind kind;
    char *text;
    size_t n_text;
    int flag;
    size_t start, stop;
    struct normalizer replace;
};

void decoder_free(struct decoder *d);

/* A list of texts in one buffer; what decoders work on. */
struct texts {
    struct buf bytes;
    size_t *ends; /* text i is bytes[ends[i - 1] … ends[i]) */
    size_t n, capacity;
    int failed;
};
void texts_clear(struct texts *t);
void texts_end(struct texts *t); /* what was appended to bytes since the last end is a text */
void texts_free(struct texts *t);

/* Apply all in order; the result is in *a (b is scratch). */
int decode_texts(const struct decoder *steps, size_t n_steps, struct texts *a, struct texts *b,
                 struct siren_error *err);

#endif
