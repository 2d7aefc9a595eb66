/* Tokenizers: text to token ids and back, exactly as Hugging Face `tokenizers`.
 *
 * Three models (BPE: byte-level or SentencePiece's; WordPiece; Unigram) with the normaliser,
 * pre-tokenizer, post-processor, decoder and added tokens that tokenizer.json or
 * GGUF's metadata declare.  Whatever a file declares that we do not implement is
 * an error that names it: tokens are never silently different.  A file's truncation and
 * padding are not applied: how long a text may be is the caller's to say.  What is supported
 * is listed in docs/tokenizers.md. */
#ifndef SIREN_TOKENIZER_H
#define SIREN_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_tokenizer; /* immutable after load: may be shared by threads */

/* path: a tokenizer.json (plain or .gz), a folder that holds one, or a .gguf file.  Other weights
 * are SIREN_EINVAL. */
int siren_tokenizer_load(struct siren_tokenizer **out, const char *path, struct siren_error *err);
void siren_tokenizer_free(struct siren_tokenizer *t); /* NULL is allowed */

enum siren_encode_flags {
    SIREN_ENCODE_PLAIN = 0,       /* special tokens inside the text are recognised; none added */
    SIREN_ENCODE_ADD_SPECIAL = 1, /* post-processor too: [CLS] … [SEP], BOS */
    /* "<|im_start|>" in the text is text: for untrusted input.  Added tokens that the model does
     * not call special ("<think>" of Qwen3) are still tokens, as they are for the reference. */
    SIREN_ENCODE_NO_SPECIAL = 2,
};

/* Ids of a text (UTF-8; invalid bytes are replaced by U+FFFD as Python's
 * bytes.decode("utf-8", "replace") does).  *ids is malloc'ed. */
int siren_tokenizer_encode(const struct siren_tokenizer *t, const char *text, size_t length,
                           unsigned flags, int32_t **ids, size_t *n_ids, struct siren_error *err);

/* Text of ids, malloc'ed, NUL-terminated (the text itself may hold NULs).
 * skip_special leaves special tokens out. */
int siren_tokenizer_decode(const struct siren_tokenizer *t, const int32_t *ids, size_t n_ids,
                           int skip_special, char **text, size_t *length, struct siren_error *err);

/* The raw bytes of one token as they appear inside a text (byte-level: decoded bytes; for
 * streaming output).  Returns NULL for an id out of range. */
const char *siren_tokenizer_piece(const struct siren_tokenizer *t, int32_t id, size_t *length);

int32_t siren_tokenizer_size(const struct siren_tokenizer *t); /* ids are 0 … size-1 */
int32_t siren_tokenizer_id(const struct siren_tokenizer *t, const char *piece); /* -1: none */
int siren_tokenizer_is_special(const struct siren_tokenizer *t, int32_t id);
/* The end of text, from GGUF's metadata or tokenizer_config.json beside tokenizer.json; -1 where
 * the model has none. */
int32_t siren_tokenizer_eos(const struct siren_tokenizer *t);
/* 1 if each text gets an end mark of its own ([SEP], </s>), as sentence encoders have it; a
 * language model's tokenizer at most begins it. */
int siren_tokenizer_closes(const struct siren_tokenizer *t);
const char *siren_tokenizer_kind(const struct siren_tokenizer *t); /* "byte-level BPE", … */

#ifdef __cplusplus
}
#endif
#endif
