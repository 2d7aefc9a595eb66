/* From a tensor's role to its name in a file, and its shape.
 *
 * The same role has one name in Hugging Face's files (with or without the
 * prefix "model.", "bert." or "roberta.") and another in GGUF. */
#ifndef SIREN_MODEL_NAMES_H
#define SIREN_MODEL_NAMES_H

#include "siren/model.h"
#include "weights/tensors.h"

/* V vocabulary, d width, Q = n_heads·head_dim, KV = n_kv_heads·head_dim, F = d_ffn. */
enum model_tensor {
    /* of the whole model */
    MODEL_TOKEN_EMBEDDING, /* (V, d) */
    MODEL_FINAL_NORM,      /* (d)       decoders */
    MODEL_HEAD,            /* (V, d)    decoders; the token embedding where tied */
    MODEL_POSITIONS,       /* (max_positions + position_offset, d)   encoders, as the next three */
    MODEL_TOKEN_TYPES,     /* (n_token_types, d) */
    MODEL_EMBEDDING_NORM,  /* (d) */
    MODEL_EMBEDDING_NORM_BIAS,
    /* of a layer */
    MODEL_ATTN_NORM, /* (d)     decoders: before; encoders: after attention and residual */
    MODEL_ATTN_NORM_BIAS,
    MODEL_Q, /* (Q, d) */
    MODEL_K, /* (KV, d) */
    MODEL_V, /* (KV, d) */
    MODEL_O, /* (d, Q) */
    MODEL_Q_BIAS,
    MODEL_K_BIAS,
    MODEL_V_BIAS,
    MODEL_O_BIAS,
    MODEL_Q_NORM,   /* (head_dim) */
    MODEL_K_NORM,   /* (head_dim) */
    MODEL_FFN_NORM, /* (d)     decoders: before; encoders: after the FFN and residual */
    MODEL_FFN_NORM_BIAS,
    MODEL_GATE, /* (F, d)   decoders */
    MODEL_UP,   /* (F, d)   encoders: "intermediate" */
    MODEL_UP_BIAS,
    MODEL_DOWN, /* (d, F)   encoders: "output" */
    MODEL_DOWN_BIAS,
    MODEL_TENSORS
};

/* Does a model of this configuration have that tensor (in each layer, or once)? */
int model_has(const struct siren_config *c, enum model_tensor which);
int model_is_layer_tensor(enum model_tensor which);

/* The tensor, its shape checked; layer is ignored for those of the whole model.  NULL and
 * SIREN_EFORMAT (names it, the file, the shape that was expected) where it is missing, of
 * another shape or of an integer type; NULL and SIREN_EINVAL where model_has() says no. */
const struct tensor *model_tensor(const struct tensors *ts, const struct siren_config *c, int layer,
                                  enum model_tensor which, struct siren_error *err);

/* Its name in a Hugging Face model that stands alone: "model.layers.0.mlp.up_proj.weight". */
void model_tensor_name(char *out, size_t room, const struct siren_config *c, int layer,
                       enum model_tensor which);
/* Its shape; returns the number of dimensions. */
int model_tensor_shape(const struct siren_config *c, enum model_tensor which, int64_t shape[2]);

/* All tensors of the configuration are there, and the file holds none of unknown meaning. */
int model_check_tensors(const struct tensors *ts, const struct siren_config *c,
                        struct siren_error *err);

/* RoPE here rotates halves: pairs (i, i + D/2) of a head.  llama.cpp's converter reorders the rows
 * of q and k (and their biases) of the llama architecture for neighbouring pairs (2i, 2i + 1);
 * other architectures are left as they are. */
int model_rope_permuted(const struct tensors *ts, const struct siren_config *c);
/* Whether that holds for this tensor: its row r is row model_rope_row(c, r) of the file's. */
int model_rope_reorders(const struct tensors *ts, const struct siren_config *c,
                        enum model_tensor which);
static inline int64_t model_rope_row(const struct siren_config *c, int64_t row)
{
    int64_t within = row % c->head_dim, half = c->head_dim / 2;
    return row - within + 2 * (within % half) + within / half;
}

#endif
