/* The weights of a model, packed for the kernels.  Internal: a program has siren/model.h. */
#ifndef SIREN_MODEL_PRIVATE_H
#define SIREN_MODEL_PRIVATE_H

#include "siren/model.h"
#include "tensor/kernels.h"
#include "weights/tensors.h"

/* Small vectors (norms, biases) are f32 whatever the file holds; NULL: the model has none. */
struct layer_weights {
    struct packed qkv; /* (q_width + 2·kv_width, d_model): q, k, v one after the other */
    float *qkv_bias;
    float *q_norm, *k_norm; /* (head_dim), Qwen3 */
    struct packed out;      /* (d_model, q_width) */
    float *out_bias;
    /* Decoder: gate and up panels in turn (2·d_ffn, d_model).  Encoder: intermediate (d_ffn,
     * d_model). */
    struct packed ffn_in;
    float *ffn_in_bias;
    struct packed ffn_out; /* (d_model, d_ffn) */
    float *ffn_out_bias;
    /* Decoder: RMSNorm before attention and before the FFN.  Encoder: LayerNorm after each. */
    float *attention_norm, *attention_norm_bias;
    float *ffn_norm, *ffn_norm_bias;
};

struct master;
struct kept_spare;

struct siren_model {
    struct siren_config config;
    struct tensors *tensors; /* the mapped file: embeddings are read from it row by row */
    char *path;
    struct layer_weights *layers;   /* (n_layers) */
    const struct tensor *embedding; /* (n_vocab, d_model) */
    float *positions, *token_type;  /* encoder: (max_positions + offset, d_model), (d_model) */
    float *embedding_norm, *embedding_norm_bias; /* encoder */
    float *final_norm;                           /* decoder (d_model) */
    const struct tensor *head_tensor; /* decoder (n_vocab, d_model); the embedding where tied */
    struct packed head;
    struct packed_arena arena; /* the memory of all packed weights */
    struct kept_spare *spare;  /* memory for kept keys and values */
    struct master *masters; /* masters.h: [layer · MODEL_TENSORS + role]; NULL: none is trained */
    float *master_values, *master_grads; /* of all of them, one behind the other */
    struct siren_params params;
    int rounded;      /* packed for mode bf16 alone */
    uint64_t version; /* of the trained weights' values; 0: nothing is trained */
    size_t memory;
};

static inline int config_q_width(const struct siren_config *c)
{
    return c->n_heads * c->head_dim;
}
static inline int config_kv_width(const struct siren_config *c)
{
    return c->n_kv_heads * c->head_dim;
}
static inline int config_qkv_width(const struct siren_config *c)
{
    return config_q_width(c) + 2 * config_kv_width(c);
}

/* Columns of the FFN's inner activations: the gated product writes whole panels. */
static inline int config_ffn_stride(const struct siren_config *c)
{
    return siren_is_encoder(c) ? c->d_ffn : (int)whole_panels((size_t)c->d_ffn);
}

#endif
