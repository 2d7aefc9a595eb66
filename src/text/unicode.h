/* Characters: classes and case as Hugging Face `tokenizers` sees them, and the
 * byte alphabet of byte-level BPE. */
#ifndef SIREN_TEXT_UNICODE_H
#define SIREN_TEXT_UNICODE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

int unicode_is_space(uint32_t c);       /* White_Space */
int unicode_is_punctuation(uint32_t c); /* P*, and all of ASCII's */
int unicode_is_numeric(uint32_t c);     /* N* */
int unicode_is_word(uint32_t c);        /* \w of a regular expression */
int unicode_is_control(uint32_t c);     /* what BERT's clean_text drops, beside NUL and U+FFFD */
int unicode_is_nonspacing(uint32_t c);  /* Mn */
int unicode_is_mark(uint32_t c);        /* M* */
int unicode_is_cjk(uint32_t c);         /* BERT's "Chinese characters" */

void unicode_lower(struct buf *out, uint32_t c);

enum unicode_form { UNICODE_NFC, UNICODE_NFD, UNICODE_NFKC, UNICODE_NFKD };
/* Append the normal form of valid text. */
void unicode_normalize(struct buf *out, const char *text, size_t length, enum unicode_form form);

/* The printable character that stands for a byte in byte-level vocabularies (GPT-2), and back:
 * -1 for a character that stands for none. */
uint32_t unicode_of_byte(unsigned char byte);
int unicode_to_byte(uint32_t c);

/* The text as PCRE2's older Unicode should see it: characters that it does not know are
 * exchanged for known ones of the same category, script and length.  NULL if none has to be: the
 * text itself will do. */
const char *unicode_for_regex(struct buf *scratch, const char *text, size_t length);

#endif
