/* The tokenizer as its loaders see it. */
#ifndef SIREN_TEXT_TOKENIZER_PRIVATE_H
#define SIREN_TEXT_TOKENIZER_PRIVATE_H

#include "siren/tokenizer.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/unigram.h"
#include "text/wordpiece.h"

enum tokenizer_model { TOKENIZER_BPE, TOKENIZER_WORDPIECE, TOKENIZER_UNIGRAM };

struct siren_tokenizer {
    enum tokenizer_model model;
    struct bpe bpe;
    struct wordpiece wordpiece;
    struct unigram unigram;
    const struct vocab *vocab; /* of the model in use */

    struct normalizer *normalizers;
    size_t n_normalizers, normalizer_capacity;
    struct pretokenizer *pretokenizers;
    size_t n_pretokenizers, pretokenizer_capacity;
    struct decoder *decoders;
    size_t n_decoders, decoder_capacity;
    int has_decoder; /* 0: decoded tokens are parted by spaces; a Sequence of none is one, too */
    struct added added;
    struct ids before, after; /* what the post-processor puts around a text */

    int byte_level;
    int32_t size, bos, eos;
    struct buf piece_bytes;
    size_t *piece_ends; /* piece i: piece_bytes[piece_ends[i - 1] … piece_ends[i]) */
};

struct siren_tokenizer *tokenizer_new(void); /* NULL: out of memory */

/* Append an empty step; NULL: out of memory. */
struct normalizer *tokenizer_add_normalizer(struct siren_tokenizer *t);
struct pretokenizer *tokenizer_add_pretokenizer(struct siren_tokenizer *t);
struct decoder *tokenizer_add_decoder(struct siren_tokenizer *t);
int tokenizer_add_split(struct siren_tokenizer *t, const char *pattern, size_t length,
                        enum split_behavior behavior, int invert, struct siren_error *err);
int tokenizer_add_digits(struct siren_tokenizer *t, int individual, struct siren_error *err);
/* A step that needs nothing but its kind: white space, punctuation. */
int tokenizer_add_class(struct siren_tokenizer *t, enum pretokenizer_kind kind,
                        enum split_behavior behavior, struct siren_error *err);
/* ByteLevel: its expression if use_regex, then its alphabet. */
int tokenizer_add_byte_level(struct siren_tokenizer *t, int add_prefix_space, int use_regex,
                             struct siren_error *err);
/* Once everything is set: tables, pieces, size. */
int tokenizer_finish(struct siren_tokenizer *t, struct siren_error *err);

/* From the text of a tokenizer.json; `name` is for messages. */
int tokenizer_from_json(struct siren_tokenizer **out, const char *json, size_t size,
                        const char *name, struct siren_error *err);
struct json_t;
/* "normalizer", "pre_tokenizer" and "decoder" of such a file, as far as they are there. */
int tokenizer_read_steps(struct siren_tokenizer *t, const struct json_t *root,
                         struct siren_error *err);
int tokenizer_from_gguf(struct siren_tokenizer **out, const char *path, struct siren_error *err);
struct tensors;
int tokenizer_from_tensors(struct siren_tokenizer **out, const struct tensors *ts,
                           struct siren_error *err); /* the same of an open file */

/* The expressions of the families: for GGUF, which only names them. */
#define REGEX_QWEN2                                                                                \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "                          \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define REGEX_LLAMA3                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "                     \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

#endif
