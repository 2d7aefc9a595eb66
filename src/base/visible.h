/* Foreign text for people: titles, ids, names and a model's words may hold bytes that a terminal
 * obeys.  Each becomes a character that is seen. */
#ifndef SIREN_BASE_VISIBLE_H
#define SIREN_BASE_VISIBLE_H

#include "base/buf.h"

enum {
    VISIBLE_LINES = 1,      /* newlines and tabs stay */
    VISIBLE_UNFINISHED = 2, /* a character that is not whole yet, at the end, is left */
};

/* Append the text as UTF-8 without what steers: a control character of ASCII is its picture
 * (U+241B for an escape), any other control, what turns the direction of letters, and each byte
 * that is no UTF-8, is U+FFFD.  Returns the bytes read, all of them but with VISIBLE_UNFINISHED. */
size_t visible_append(struct buf *out, const char *text, size_t length, unsigned flags);

/* Append the JSON document with such characters escaped, where JSON would allow them as they are:
 * its values stay what they are. */
void visible_append_json(struct buf *out, const char *json);

#endif
