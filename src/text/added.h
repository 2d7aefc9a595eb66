/* Added tokens: texts that become one id before anything else is done.
 *
 * They are looked for twice: those that are not `normalized` in the text as it
 * came, the others in the normalised text between them.  Leftmost first, the
 * longest of those that start together. */
#ifndef SIREN_TEXT_ADDED_H
#define SIREN_TEXT_ADDED_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "text/normalizer.h"
#include "text/trie.h"

struct added_token {
    char *text;
    size_t length;
    int32_t id;
    int special, single_word, lstrip, rstrip, normalized;
    char *normal; /* the text after normalisation, which is what it decodes to; NULL: unchanged */
    size_t n_normal;
};

struct added {
    struct added_token *items;
    size_t n, capacity;
    struct trie raw, normal;                         /* values are indices of items */
    unsigned char raw_first[256], normal_first[256]; /* can a token begin with this byte? */
};

/* A copy of the text is kept. */
int added_add(struct added *a, const struct added_token *token);
/* Once all are there. */
int added_finish(struct added *a, const struct normalizer *steps, size_t n_steps,
                 struct siren_error *err);
void added_free(struct added *a);
const struct added_token *added_find(const struct added *a, int32_t id); /* NULL: none */

/* The next added token at or after *at: its index, and its borders with the white space that it
 * swallows (never before `floor`, the end of the one before); -1: none.  *at moves behind it. */
int32_t added_next(const struct added *a, const struct trie *trie, const unsigned char *first_bytes,
                   int skip_special, const char *text, size_t length, size_t floor, size_t *at,
                   size_t *start, size_t *end);

#endif
