/* SentencePiece's precompiled normalisation: a double array that maps byte
 * strings to their replacements. */
#ifndef SIREN_TEXT_CHARSMAP_H
#define SIREN_TEXT_CHARSMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "siren/error.h"

struct charsmap {
    uint32_t *units;
    size_t n_units;
    char *texts; /* replacements, each ended by NUL */
    size_t n_texts;
};

/* From the base64 text of tokenizer.json, and from the bytes themselves. */
int charsmap_decode(struct charsmap *map, const char *base64, size_t length,
                    struct siren_error *err);
int charsmap_read(struct charsmap *map, const unsigned char *bytes, size_t size,
                  struct siren_error *err);
void charsmap_free(struct charsmap *map);

void charsmap_apply(const struct charsmap *map, struct buf *out, const char *text, size_t length);

#endif
