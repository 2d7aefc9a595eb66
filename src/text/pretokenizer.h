/* Pre-tokenizers: cut the normalised text into the words that the model encodes
 * one by one. */
#ifndef SIREN_TEXT_PRETOKENIZER_H
#define SIREN_TEXT_PRETOKENIZER_H

#include <stddef.h>

#include "siren/error.h"
#include "text/regex.h"

enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS,
};

enum pretokenizer_kind {
    PRETOKENIZE_REGEX,       /* Split, and ByteLevel's expression */
    PRETOKENIZE_STRING,      /* Split at a text */
    PRETOKENIZE_SPACE,       /* WhitespaceSplit */
    PRETOKENIZE_PUNCTUATION, /* Punctuation */
    PRETOKENIZE_NUMERIC,     /* Digits */
    PRETOKENIZE_WORDS,       /* Whitespace: runs of word characters, runs of other visible ones */
    PRETOKENIZE_BYTES,       /* ByteLevel's alphabet: cuts nothing */
    PRETOKENIZE_PREFIX,      /* ByteLevel's add_prefix_space: cuts nothing */
    PRETOKENIZE_METASPACE,   /* spaces become `text`; cuts before each if `split` */
};

enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

struct pretokenizer {
    enum pretokenizer_kind kind;
    enum split_behavior behavior;
    int invert;
    struct regex *regex;
    char *text;
    size_t n_text;
    enum prepend_scheme prepend;
    int split;
};

void pretokenizer_free(struct pretokenizer *p);

struct word {
    size_t start, length; /* in pretokenize_scratch.text */
    int first;            /* begins where the user's text begins */
};

struct pretokenize_scratch {
    const char *text;
    struct word *words;
    size_t n_words;
    /* private */
    struct word *other;
    size_t word_capacity, other_capacity;
    struct buf a, b;
    struct regex_scratch regex;
};
void pretokenize_scratch_free(struct pretokenize_scratch *s);

/* The words of a text are left in the scratch. */
int pretokenize(const struct pretokenizer *steps, size_t n_steps, struct pretokenize_scratch *s,
                const char *text, size_t length, int first, struct siren_error *err);

/* ByteLevel's expression. */
#define REGEX_BYTE_LEVEL                                                                           \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

#endif
