/* A language model or a sentence encoder: its configuration and its weights.
 *
 * The model is immutable after loading (but for weights that are trained) and may be shared by any
 * number of engines; it must outlive them.  Decoders: Llama (SmolLM2), Qwen2, Qwen3.
 * Encoders: BERT (MiniLM, bge), XLM-RoBERTa (BGE-M3).  Files: GGUF v3, or a
 * Hugging Face folder (config.json, safetensors, tokenizer.json). */
#ifndef SIREN_MODEL_H
#define SIREN_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/params.h"
#include "siren/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

enum siren_arch { SIREN_LLAMA, SIREN_QWEN2, SIREN_QWEN3, SIREN_BERT, SIREN_XLMR };
enum siren_rope_scaling { SIREN_ROPE_PLAIN, SIREN_ROPE_LINEAR, SIREN_ROPE_LLAMA3, SIREN_ROPE_YARN };
enum siren_pooling { SIREN_POOL_NONE, SIREN_POOL_CLS, SIREN_POOL_MEAN };

/* L layers, d model width, heads of head_dim; names as in the field. */
struct siren_config {
    enum siren_arch arch;
    char name[128]; /* of the model, from its files, or of the file */
    int n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ffn, n_vocab;
    int max_positions; /* longest sequence the model was made for */
    float norm_eps;
    int tied_head; /* logits use the token embedding */
    int qkv_bias, o_bias, qk_norm;
    /* RoPE (decoders) */
    float rope_theta;
    enum siren_rope_scaling rope_scaling;
    float rope_factor, rope_low_freq_factor, rope_high_freq_factor; /* Llama 3; YaRN: factor */
    int rope_original_positions;
    float rope_beta_fast, rope_beta_slow,
        rope_attention_factor; /* YaRN; attention factor 0: from factor */
    /* Encoders */
    int n_token_types;
    int position_offset; /* XLM-R: pad id + 1 */
    enum siren_pooling pooling;
    int normalize;  /* L2 after pooling */
    int max_tokens; /* the sentence encoder's max_seq_length, special tokens included */
};

static inline int siren_is_encoder(const struct siren_config *c)
{
    return c->arch == SIREN_BERT || c->arch == SIREN_XLMR;
}
const char *siren_arch_name(enum siren_arch arch); /* "llama", "qwen2", … */

struct siren_model;

/* Weights to be trained: all of layers [first_layer, last_layer] (none where last < first), and of
 * the rest what is 1.  Where the head is tied, embedding and head are one matrix and either means
 * both of its uses. */
struct siren_trainable {
    int first_layer, last_layer;
    int embedding, final_norm, head;
};
/* Everything: full fine-tuning, of a model of any number of layers. */
#define SIREN_TRAIN_ALL ((struct siren_trainable){0, INT32_MAX, 1, 1, 1})

struct siren_model_options {
    /* Keep decoded panels in memory instead of the file's blocks: same bits, faster with one row,
     * larger. */
    int expand;
    /* The mode of the engines to come (siren_engine_options).  "bf16": what would be packed as f32
     * is rounded once, here, and not at every product: the same bits in that mode, half the memory.
     * An engine of another mode is refused.  "f32", NULL: any mode. */
    const char *compute;
    /* NULL, or what siren_forest_backward() shall give gradients of (decoders only): these weights
     * are then held in f32, beside their packed form (quantised ones take their decoded values),
     * and their gradients. */
    const struct siren_trainable *trainable;
};

/* path: a .gguf file or a folder; a file out of a folder is SIREN_EINVAL, here and wherever else a
 * model is given.  The pool is used while loading only. */
int siren_model_load(struct siren_model **out, const char *path,
                     const struct siren_model_options *options, struct siren_pool *pool,
                     struct siren_error *err);
void siren_model_free(struct siren_model *model); /* NULL is allowed */

const struct siren_config *siren_model_config(const struct siren_model *model);
const char *siren_model_path(const struct siren_model *model);
size_t siren_model_memory(const struct siren_model *model); /* bytes of packed weights */

/* The weights that are trained, under Hugging Face's names, with gradients; n 0: none.  The views
 * belong to the model.  Norms and biases are marked no_decay. */
struct siren_params siren_model_params(struct siren_model *model);
/* The values of these weights were changed (an optimiser's step): packs them again.  No pass may
 * run meanwhile; what was kept before is refused after.  SIREN_ENOMEM: call it again. */
int siren_model_changed(struct siren_model *model, struct siren_pool *pool,
                        struct siren_error *err);

/* "NAME#HASH" of a model's file or folder: the same weights, configuration and tokenizer give
 * the same HASH wherever they lie; NAME is the last part of the path. */
int siren_model_identity(const char *path, char identity[256], struct siren_error *err);
/* 1: two identities, of models or of adapters, have the same hash; the names before it do not
 * count.  An absent identity (NULL or "") matches nothing. */
int siren_identity_same(const char *a, const char *b);
/* The same for optional things such as adapters: two absent identities are equal. */
int siren_identity_equal(const char *a, const char *b);
const char *siren_identity_hash(const char *identity); /* from '#' on, within it */

/* Of a folder that siren_model_export() wrote without rounding a number and that was not changed
 * since: the identity of the model it was made from, which computes the same; "" for any other. */
int siren_model_source(const char *path, char source[256], struct siren_error *err);
/* Of any folder that siren_model_export() wrote: the identities, without names, of the model, and
 * of the adapter merged into it, that it was made of; "": none. */
int siren_model_made_of(const char *path, char source[256], char adapter[256],
                        struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
