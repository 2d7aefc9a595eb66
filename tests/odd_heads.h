/* A tiny random decoder with heads of 48, whose last sixteen numbers fill half of a tile's block on
 * AMX; all other fixtures have heads of a power of two.  Include after scratch.h;
 * the test program has scratch_create() and scratch_delete(). */
#ifndef SIREN_TESTS_ODD_HEADS_H
#define SIREN_TESTS_ODD_HEADS_H

#include <sys/stat.h>

#include "weights/safetensors_write.h"

enum { ODD_D = 32, ODD_HEADS = 3, ODD_KV = 1, ODD_HEAD_DIM = 48, ODD_FFN = 40, ODD_VOCAB = 97 };
enum { ODD_Q = ODD_HEADS * ODD_HEAD_DIM, ODD_K = ODD_KV * ODD_HEAD_DIM };

static const struct {
    const char *name;
    int rows, columns; /* rows 1: the weights of a norm */
} odd_layer[] = {{"input_layernorm", 1, ODD_D},      {"self_attn.q_proj", ODD_Q, ODD_D},
                 {"self_attn.k_proj", ODD_K, ODD_D}, {"self_attn.v_proj", ODD_K, ODD_D},
                 {"self_attn.o_proj", ODD_D, ODD_Q}, {"post_attention_layernorm", 1, ODD_D},
                 {"mlp.gate_proj", ODD_FFN, ODD_D},  {"mlp.up_proj", ODD_FFN, ODD_D},
                 {"mlp.down_proj", ODD_D, ODD_FFN}};
enum { ODD_LAYERS = 2, ODD_A_LAYER = sizeof odd_layer / sizeof *odd_layer };
enum { ODD_TENSORS = ODD_LAYERS * ODD_A_LAYER + 2 };

/* Norms are 1 and a product's numbers of the size of its input's, so that attention is neither
 * uniform nor all on one token. */
static inline int odd_rows(void *context, size_t index, int64_t row, int64_t n, float *out,
                           struct siren_error *err)
{
    const struct safetensors_item *items = context;
    int vector = items[index].n_dims == 1;
    int64_t columns = items[index].shape[!vector];
    double size = index == ODD_TENSORS - 2 ? 1 : 1 / sqrt((double)columns);
    for (int64_t i = 0; i < n * columns; i++)
        out[i] =
            vector ? 1
                   : (float)(size * siren_random_normal(48, index, (uint64_t)(row * columns + i)));
    return 0;
}

/* Its folder, made at the first call. */
static inline const char *odd_heads_model(void)
{
    static char folder[256], names[ODD_TENSORS][96];
    struct safetensors_item items[ODD_TENSORS];
    struct siren_error err;
    char config[512], path[300];
    if (*folder) return folder;
    snprintf(folder, sizeof folder, "%s", scratch_path("odd-heads"));
    assert_int_equal(mkdir(folder, 0777), 0);
    for (int i = 0; i < ODD_LAYERS * ODD_A_LAYER; i++) {
        int rows = odd_layer[i % ODD_A_LAYER].rows, columns = odd_layer[i % ODD_A_LAYER].columns;
        snprintf(names[i], sizeof *names, "model.layers.%d.%s.weight", i / ODD_A_LAYER,
                 odd_layer[i % ODD_A_LAYER].name);
        items[i] = (struct safetensors_item){
            names[i], TENSOR_F32, rows > 1 ? 2 : 1, {rows > 1 ? rows : columns, columns}};
    }
    items[ODD_TENSORS - 2] =
        (struct safetensors_item){"model.embed_tokens.weight", TENSOR_F32, 2, {ODD_VOCAB, ODD_D}};
    items[ODD_TENSORS - 1] =
        (struct safetensors_item){"model.norm.weight", TENSOR_F32, 1, {ODD_D, 0}};
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (safetensors_write(path, items, ODD_TENSORS, NULL, 0, odd_rows, items, &err))
        fail_msg("%s", err.message);
    snprintf(config, sizeof config,
             "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": %d,"
             " \"intermediate_size\": %d, \"num_attention_heads\": %d,"
             " \"num_key_value_heads\": %d, \"head_dim\": %d, \"num_hidden_layers\": %d,"
             " \"vocab_size\": %d, \"tie_word_embeddings\": true, \"hidden_act\": \"silu\","
             " \"max_position_embeddings\": 128, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0}",
             ODD_D, ODD_FFN, ODD_HEADS, ODD_KV, ODD_HEAD_DIM, ODD_LAYERS, ODD_VOCAB);
    assert_non_null(scratch_write("odd-heads/config.json", config, strlen(config)));
    return folder;
}

#endif
