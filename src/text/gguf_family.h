/* What the tokenizers of GGUF files leave out: the steps around the model, which the format only
 * names.  Private to src/text. */
#ifndef SIREN_TEXT_GGUF_FAMILY_H
#define SIREN_TEXT_GGUF_FAMILY_H

#include <jansson.h>

#include "siren/error.h"
#include "weights/tensors.h"

struct gguf_family {
    /* "normalizer", "pre_tokenizer" and "decoder" as they stand in the family's tokenizer.json;
     * the caller's reference. */
    json_t *steps;
    int ignore_merges;
    int add_bos; /* where the file does not say */
};

/* Of "tokenizer.ggml.model" gpt2 (byte-level BPE, the family by "tokenizer.ggml.pre") and llama
 * (SentencePiece's BPE).  SIREN_EUNSUPPORTED: another; by its name. */
int gguf_family(struct gguf_family *out, const struct tensors *ts, struct siren_error *err);

int gguf_is_text(const struct gguf_value *value, const char *text); /* NULL is allowed */

#endif
