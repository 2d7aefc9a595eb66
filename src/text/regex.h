/* Regular expressions of tokenizer files.
 *
 * The files are written for Oniguruma (Ruby's syntax); we run them with PCRE2.
 * What the two read differently is translated (\s, \w, line anchors) or refused
 * with a message, so that an expression never means something else here. */
#ifndef SIREN_TEXT_REGEX_H
#define SIREN_TEXT_REGEX_H

#include <stddef.h>

#include "base/buf.h"
#include "siren/error.h"

struct regex; /* immutable: shared by threads */

/* pattern: UTF-8, `length` bytes. */
int regex_compile(struct regex **out, const char *pattern, size_t length, struct siren_error *err);
void regex_free(struct regex *re); /* NULL is allowed */

/* What one thread needs while matching. */
struct regex_scratch {
    void *match;        /* pcre2_match_data */
    struct buf subject; /* see unicode_for_regex() */
    const char *text;
    size_t length;
};
void regex_scratch_free(struct regex_scratch *s);

/* Set the (valid UTF-8) text to search; it must live until the last regex_next(). */
int regex_subject(struct regex_scratch *s, const char *text, size_t length,
                  struct siren_error *err);
/* The first match at or after `from`: 1 and its borders, 0: none, negative: error. */
int regex_next(const struct regex *re, struct regex_scratch *s, size_t from, size_t *start,
               size_t *end, struct siren_error *err);

#endif
