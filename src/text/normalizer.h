/* Normalisers: what happens to the text before it is split. */
#ifndef SIREN_TEXT_NORMALIZER_H
#define SIREN_TEXT_NORMALIZER_H

#include "siren/error.h"
#include "text/charsmap.h"
#include "text/regex.h"
#include "text/unicode.h"

enum normalizer_kind {
    NORMALIZE_FORM, /* NFC … */
    NORMALIZE_LOWER,
    NORMALIZE_STRIP_ACCENTS,
    NORMALIZE_BERT,
    NORMALIZE_REPLACE,
    NORMALIZE_PREPEND,
    NORMALIZE_STRIP,
    NORMALIZE_CHARSMAP,
    NORMALIZE_NMT,
    NORMALIZE_BYTES, /* every byte becomes its printable character */
};

struct normalizer {
    enum normalizer_kind kind;
    enum unicode_form form;
    int clean, cjk, strip_accents, lower; /* BERT */
    int left, right;                      /* strip */
    struct regex *regex;                  /* replace; NULL: `pattern`, literally */
    char *pattern, *content;              /* replace; content: prepend, too */
    size_t n_pattern, n_content;
    struct charsmap charsmap;
};

void normalizer_free(struct normalizer *n);

struct normalize_scratch {
    struct buf a, b;
    struct regex_scratch regex;
};
void normalize_scratch_free(struct normalize_scratch *s);

/* 1: no honest file makes a text of `before` bytes this long; a hostile one could double it again
 * and again. */
int grows_too_much(size_t before, size_t now);

/* Apply all in order.  *out is the text itself or lives in the scratch until its next use.
 * *front_kept is cleared if characters vanished from the front. */
int normalize(const struct normalizer *steps, size_t n_steps, struct normalize_scratch *s,
              const char *text, size_t length, const char **out, size_t *n_out, int *front_kept,
              struct siren_error *err);

#endif
