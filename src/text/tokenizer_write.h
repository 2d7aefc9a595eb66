/* A GGUF file's tokenizer as the files of a Hugging Face folder. */
#ifndef SIREN_TEXT_TOKENIZER_WRITE_H
#define SIREN_TEXT_TOKENIZER_WRITE_H

#include "siren/error.h"
#include "weights/tensors.h"

/* tokenizer.json and tokenizer_config.json (with the chat template), malloc'ed.  The ids of every
 * text are those of the GGUF file.  SIREN_EUNSUPPORTED, by its name: a tokenizer that has no exact
 * form there (WordPiece and Unigram of converted encoders; a token that holds a NUL). */
struct tokenizer_files {
    char *tokenizer, *config;
};
int tokenizer_files_from_gguf(struct tokenizer_files *out, const struct tensors *ts,
                              int max_positions, struct siren_error *err);
void tokenizer_files_clear(struct tokenizer_files *files);

#endif
