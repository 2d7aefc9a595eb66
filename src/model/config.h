/* The configuration of a model, read from its own files.
 *
 * GGUF: the metadata of the architectures llama, qwen2, qwen3 and bert.  A folder (or
 * a safetensors file in one): config.json, in the spellings of transformers 4
 * and 5, and for sentence encoders modules.json, the pooling's config.json,
 * sentence_bert_config.json and config_sentence_transformers.json.
 *
 * Nothing that would change the numbers is ignored: what this program does not
 * compute (a sliding window, another activation, rotation of a part of the
 * head, an unknown tensor …) ends with SIREN_EUNSUPPORTED and its name.  After
 * success every size is positive and plausible, and every tensor that the
 * configuration asks for is in the file with the right shape. */
#ifndef SIREN_MODEL_CONFIG_H
#define SIREN_MODEL_CONFIG_H

#include "siren/model.h"
#include "weights/tensors.h"

/* path: what was given to tensors_open().  rope_attention_factor is always filled for YaRN. */
int model_config_read(struct siren_config *out, const struct tensors *ts, const char *path,
                      struct siren_error *err);

/* The parts, for model_config_read and tests.  They fill *out, which the caller has zeroed. */
int config_from_gguf(struct siren_config *out, const struct tensors *ts, struct siren_error *err);
int config_from_folder(struct siren_config *out, const char *folder, struct siren_error *err);
/* Sizes alone: positive, plausible, consistent. `where` begins the message. */
int config_check(const struct siren_config *c, const char *where, struct siren_error *err);

#endif
