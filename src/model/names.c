#include "model/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "weights/tensors.h"

enum size { NONE, D, V, Q, KV, HEAD, F, POSITIONS, TYPES };

/* What stands for the layer's number: "%d". */
static const struct role {
    const char *gguf, *decoder, *encoder; /* NULL: has none */
    int layer;
    enum size shape[2];
} roles[MODEL_TENSORS] = {
    [MODEL_TOKEN_EMBEDDING] = {"token_embd.weight",
                               "embed_tokens.weight",
                               "embeddings.word_embeddings.weight",
                               0,
                               {V, D}},
    [MODEL_FINAL_NORM] = {"output_norm.weight", "norm.weight", NULL, 0, {D}},
    [MODEL_HEAD] = {"output.weight", "lm_head.weight", NULL, 0, {V, D}},
    [MODEL_POSITIONS] = {NULL, NULL, "embeddings.position_embeddings.weight", 0, {POSITIONS, D}},
    [MODEL_TOKEN_TYPES] = {NULL, NULL, "embeddings.token_type_embeddings.weight", 0, {TYPES, D}},
    [MODEL_EMBEDDING_NORM] = {NULL, NULL, "embeddings.LayerNorm.weight", 0, {D}},
    [MODEL_EMBEDDING_NORM_BIAS] = {NULL, NULL, "embeddings.LayerNorm.bias", 0, {D}},
    [MODEL_ATTN_NORM] = {"blk.%d.attn_norm.weight",
                         "layers.%d.input_layernorm.weight",
                         "encoder.layer.%d.attention.output.LayerNorm.weight",
                         1,
                         {D}},
    [MODEL_ATTN_NORM_BIAS] =
        {NULL, NULL, "encoder.layer.%d.attention.output.LayerNorm.bias", 1, {D}},
    [MODEL_Q] = {"blk.%d.attn_q.weight",
                 "layers.%d.self_attn.q_proj.weight",
                 "encoder.layer.%d.attention.self.query.weight",
                 1,
                 {Q, D}},
    [MODEL_K] = {"blk.%d.attn_k.weight",
                 "layers.%d.self_attn.k_proj.weight",
                 "encoder.layer.%d.attention.self.key.weight",
                 1,
                 {KV, D}},
    [MODEL_V] = {"blk.%d.attn_v.weight",
                 "layers.%d.self_attn.v_proj.weight",
                 "encoder.layer.%d.attention.self.value.weight",
                 1,
                 {KV, D}},
    [MODEL_O] = {"blk.%d.attn_output.weight",
                 "layers.%d.self_attn.o_proj.weight",
                 "encoder.layer.%d.attention.output.dense.weight",
                 1,
                 {D, Q}},
    [MODEL_Q_BIAS] = {"blk.%d.attn_q.bias",
                      "layers.%d.self_attn.q_proj.bias",
                      "encoder.layer.%d.attention.self.query.bias",
                      1,
                      {Q}},
    [MODEL_K_BIAS] = {"blk.%d.attn_k.bias",
                      "layers.%d.self_attn.k_proj.bias",
                      "encoder.layer.%d.attention.self.key.bias",
                      1,
                      {KV}},
    [MODEL_V_BIAS] = {"blk.%d.attn_v.bias",
                      "layers.%d.self_attn.v_proj.bias",
                      "encoder.layer.%d.attention.self.value.bias",
                      1,
                      {KV}},
    [MODEL_O_BIAS] = {"blk.%d.attn_output.bias",
                      "layers.%d.self_attn.o_proj.bias",
                      "encoder.layer.%d.attention.output.dense.bias",
                      1,
                      {D}},
    [MODEL_Q_NORM] =
        {"blk.%d.attn_q_norm.weight", "layers.%d.self_attn.q_norm.weight", NULL, 1, {HEAD}},
    [MODEL_K_NORM] =
        {"blk.%d.attn_k_norm.weight", "layers.%d.self_attn.k_norm.weight", NULL, 1, {HEAD}},
    [MODEL_FFN_NORM] = {"blk.%d.ffn_norm.weight",
                        "layers.%d.post_attention_layernorm.weight",
                        "encoder.layer.%d.output.LayerNorm.weight",
                        1,
                        {D}},
    [MODEL_FFN_NORM_BIAS] = {NULL, NULL, "encoder.layer.%d.output.LayerNorm.bias", 1, {D}},
    [MODEL_GATE] = {"blk.%d.ffn_gate.weight", "layers.%d.mlp.gate_proj.weight", NULL, 1, {F, D}},
    [MODEL_UP] = {"blk.%d.ffn_up.weight",
                  "layers.%d.mlp.up_proj.weight",
                  "encoder.layer.%d.intermediate.dense.weight",
                  1,
                  {F, D}},
    [MODEL_UP_BIAS] = {NULL, NULL, "encoder.layer.%d.intermediate.dense.bias", 1, {F}},
    [MODEL_DOWN] = {"blk.%d.ffn_down.weight",
                    "layers.%d.mlp.down_proj.weight",
                    "encoder.layer.%d.output.dense.weight",
                    1,
                    {D, F}},
    [MODEL_DOWN_BIAS] = {NULL, NULL, "encoder.layer.%d.output.dense.bias", 1, {D}},
};

/* Encoders' names in GGUF, where they are others than decoders'. */
static const char *const gguf_encoder[MODEL_TENSORS] = {
    [MODEL_POSITIONS] = "position_embd.weight",
    [MODEL_TOKEN_TYPES] = "token_types.weight",
    [MODEL_EMBEDDING_NORM] = "token_embd_norm.weight",
    [MODEL_EMBEDDING_NORM_BIAS] = "token_embd_norm.bias",
    [MODEL_ATTN_NORM] = "blk.%d.attn_output_norm.weight",
    [MODEL_ATTN_NORM_BIAS] = "blk.%d.attn_output_norm.bias",
    [MODEL_FFN_NORM] = "blk.%d.layer_output_norm.weight",
    [MODEL_FFN_NORM_BIAS] = "blk.%d.layer_output_norm.bias",
    [MODEL_UP_BIAS] = "blk.%d.ffn_up.bias",
    [MODEL_DOWN_BIAS] = "blk.%d.ffn_down.bias",
};

int model_is_layer_tensor(enum model_tensor which)
{
    return (unsigned)which < MODEL_TENSORS && roles[which].layer;
}

int model_has(const struct siren_config *c, enum model_tensor which)
{
    if ((unsigned)which >= MODEL_TENSORS) return 0;
    if (siren_is_encoder(c)) return roles[which].encoder != NULL;
    switch (which) {
    case MODEL_Q_BIAS:
    case MODEL_K_BIAS:
    case MODEL_V_BIAS:
        return c->qkv_bias;
    case MODEL_O_BIAS:
        return c->o_bias;
    case MODEL_Q_NORM:
    case MODEL_K_NORM:
        return c->qk_norm;
    default:
        return roles[which].decoder != NULL;
    }
}

static int64_t size_of(const struct siren_config *c, enum size size)
{
    switch (size) {
    case D:
        return c->d_model;
    case V:
        return c->n_vocab;
    case Q:
        return (int64_t)c->n_heads * c->head_dim;
    case KV:
        return (int64_t)c->n_kv_heads * c->head_dim;
    case HEAD:
        return c->head_dim;
    case F:
        return c->d_ffn;
    case POSITIONS:
        return (int64_t)c->max_positions + c->position_offset;
    case TYPES:
        return c->n_token_types;
    default:
        return 0;
    }
}

/* The name in this kind of file, without a prefix. */
static const char *role_name(const struct tensors *ts, const struct siren_config *c,
                             enum model_tensor which)
{
    const struct role *r = &roles[which];
    if (tensors_is_gguf(ts) && siren_is_encoder(c) && gguf_encoder[which])
        return gguf_encoder[which];
    if (tensors_is_gguf(ts)) return r->gguf;
    return siren_is_encoder(c) ? r->encoder : r->decoder;
}

static void write_name(char *out, size_t room, const char *prefix, const char *name, int layer)
{
    int n = snprintf(out, room, "%s", prefix);
    snprintf(out + n, room - (size_t)n, name, layer);
}

static const char *const prefixes[] = {"", "model.", "bert.", "roberta."};
enum { N_PREFIXES = sizeof prefixes / sizeof *prefixes, NAME_ROOM = 160 };

static const struct tensor *find_tensor(const struct tensors *ts, const char *name, int layer)
{
    int n = tensors_is_gguf(ts) ? 1 : N_PREFIXES;
    for (int i = 0; i < n; i++) {
        char full[NAME_ROOM];
        write_name(full, sizeof full, prefixes[i], name, layer);
        const struct tensor *t = tensors_find(ts, full);
        if (t) return t;
    }
    return NULL;
}

const struct tensor *model_tensor(const struct tensors *ts, const struct siren_config *c, int layer,
                                  enum model_tensor which, struct siren_error *err)
{
    if (which == MODEL_HEAD && c->tied_head) which = MODEL_TOKEN_EMBEDDING;
    const char *name = model_has(c, which) ? role_name(ts, c, which) : NULL;
    if (!name || (roles[which].layer && (layer < 0 || layer >= c->n_layers))) {
        siren_fail(err, SIREN_EINVAL, "%s: a %s model has no tensor of role %d in layer %d",
                   tensors_path(ts), siren_arch_name(c->arch), (int)which, layer);
        return NULL;
    }
    const struct role *r = &roles[which];
    int64_t shape[2] = {size_of(c, r->shape[0]), size_of(c, r->shape[1])};
    int n_dims = r->shape[1] == NONE ? 1 : 2;
    const struct tensor *t = find_tensor(ts, name, layer);
    char shown[NAME_ROOM];
    write_name(shown, sizeof shown, "", name, layer);
    if (!t) {
        siren_fail(err, SIREN_EFORMAT, "%s: tensor %s %s is missing", tensors_path(ts), shown,
                   tensors_show_shape(n_dims, shape).text);
        return NULL;
    }
    if (t->n_dims != n_dims || memcmp(t->shape, shape, (size_t)n_dims * sizeof *shape)) {
        siren_fail(err, SIREN_EFORMAT, "%s: tensor %s has shape %s, expected %s", tensors_path(ts),
                   t->name, tensors_show_shape(t->n_dims, t->shape).text,
                   tensors_show_shape(n_dims, shape).text);
        return NULL;
    }
    if (t->type == TENSOR_I64 || t->type == TENSOR_I32) {
        siren_fail(err, SIREN_EFORMAT, "%s: tensor %s has type %s, expected a floating-point type",
                   tensors_path(ts), t->name, tensor_type_name(t->type));
        return NULL;
    }
    return t;
}

void model_tensor_name(char *out, size_t room, const struct siren_config *c, int layer,
                       enum model_tensor which)
{
    int bare = siren_is_encoder(c) || which == MODEL_HEAD;
    const char *name = siren_is_encoder(c) ? roles[which].encoder : roles[which].decoder;
    write_name(out, room, bare ? "" : "model.", name ? name : "", layer);
}

int model_tensor_shape(const struct siren_config *c, enum model_tensor which, int64_t shape[2])
{
    const struct role *r = &roles[which];
    shape[0] = size_of(c, r->shape[0]);
    shape[1] = size_of(c, r->shape[1]);
    return r->shape[1] == NONE ? 1 : 2;
}

/* ---- completeness ------------------------------------------------------- */

static int begins_with(const char *name, const char *start)
{
    return !strncmp(name, start, strlen(start));
}

static int ends(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

/* Tensors that do not enter what is computed here: buffers that the configuration gives
 * again, the poolers and training heads of encoders, the copy of a tied head. */
static int is_harmless(const struct tensors *ts, const struct siren_config *c, const char *name)
{
    if (tensors_is_gguf(ts)) return !strcmp(name, "rope_freqs.weight"); /* read by the config */
    for (int i = 1; i < N_PREFIXES; i++)
        if (begins_with(name, prefixes[i])) {
            name += strlen(prefixes[i]);
            break;
        }
    if (!siren_is_encoder(c))
        return ends(name, ".rotary_emb.inv_freq") ||
               (c->tied_head && !strcmp(name, "lm_head.weight"));
    return !strcmp(name, "embeddings.position_ids") || !strcmp(name, "embeddings.token_type_ids") ||
           begins_with(name, "pooler.") || begins_with(name, "cls.") ||
           begins_with(name, "lm_head.");
}

static int mark_used(const struct tensors *ts, const struct siren_config *c, unsigned char *used,
                     struct siren_error *err)
{
    for (int which = 0; which < MODEL_TENSORS; which++) {
        if (!model_has(c, (enum model_tensor)which)) continue;
        int n = roles[which].layer ? c->n_layers : 1;
        for (int layer = 0; layer < n; layer++) {
            struct siren_error local;
            const struct tensor *t = model_tensor(ts, c, layer, (enum model_tensor)which, &local);
            if (!t) return siren_fail(err, local.code, "%s", local.message);
            used[t - tensors_at(ts, 0)] = 1;
        }
    }
    return SIREN_OK;
}

int model_check_tensors(const struct tensors *ts, const struct siren_config *c,
                        struct siren_error *err)
{
    size_t n = tensors_count(ts);
    unsigned char *used = alloc_zeroed(n, 1);
    if (!used) return siren_fail_memory(err, "a list of tensors", n);
    int code = mark_used(ts, c, used, err);
    for (size_t i = 0; i < n && !code; i++) {
        const char *name = tensors_at(ts, i)->name;
        if (!used[i] && !is_harmless(ts, c, name))
            code = siren_fail(err, SIREN_EUNSUPPORTED,
                              "%s: tensor %s is no part of a %s model as this program computes it",
                              tensors_path(ts), tensors_show(name, strlen(name)).text,
                              siren_arch_name(c->arch));
    }
    free(used);
    return code;
}

int model_rope_permuted(const struct tensors *ts, const struct siren_config *c)
{
    return tensors_is_gguf(ts) && c->arch == SIREN_LLAMA;
}

int model_rope_reorders(const struct tensors *ts, const struct siren_config *c,
                        enum model_tensor which)
{
    int rotated =
        which == MODEL_Q || which == MODEL_K || which == MODEL_Q_BIAS || which == MODEL_K_BIAS;
    return rotated && model_rope_permuted(ts, c);
}
