/* The configuration and the tokenizer of an exported folder. */
#include "model/export.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"
#include "base/path.h"
#include "siren/file.h"
#include "text/files.h"
#include "text/tokenizer_write.h"

enum { TEXT_MAX = 512 << 20 };

static const char CONFIG[] = "config.json", TOKENIZER[] = "tokenizer.json";

/* Takes over data. */
static int add_text(struct export_texts *t, const char *name, char *data, size_t size,
                    struct siren_error *err)
{
    char *copy = data && t->n < EXPORT_TEXTS ? alloc_string(name, strlen(name)) : NULL;
    if (!copy) {
        free(data);
        return siren_fail_memory(err, name, size);
    }
    t->items[t->n++] = (struct export_text){copy, data, size};
    return SIREN_OK;
}

void export_texts_clear(struct export_texts *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->items[i].name);
        free(t->items[i].data);
    }
    t->n = 0;
}

/* The fewest digits that give every number back. */
static char *shortest(const json_t *root)
{
    for (size_t digits = 6; digits <= 17; digits++) {
        char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(digits));
        json_t *again = text ? json_loads(text, 0, NULL) : NULL;
        int same = again && json_equal(again, root);
        json_decref(again);
        if (same) return text;
        free(text);
    }
    return NULL;
}

static int add_json(struct export_texts *t, const char *name, const json_t *root,
                    struct siren_error *err)
{
    char *text = root ? shortest(root) : NULL;
    return add_text(t, name, text, text ? strlen(text) : 0, err);
}

static const char *torch_name(enum tensor_type type)
{
    return type == TENSOR_F32 ? "float32" : type == TENSOR_BF16 ? "bfloat16" : "float16";
}

/* ---- config.json from a configuration ---- */

/* The decimal of fewest digits that this float is nearest to: 1e-05, not 9.99999975e-06. */
static json_t *shortest_number(float x)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    return json_real(strtod(text, NULL));
}

static json_t *rope_scaling(const struct siren_config *c)
{
    static const char *const types[] = {"default", "linear", "llama3", "yarn"};
    if (c->rope_scaling == SIREN_ROPE_PLAIN) return json_null();
    json_t *r = json_pack("{s:s, s:o}", "rope_type", types[c->rope_scaling], "factor",
                          shortest_number(c->rope_factor));
    if (c->rope_scaling == SIREN_ROPE_LINEAR) return r;
    json_object_set_new(r, "original_max_position_embeddings",
                        json_integer(c->rope_original_positions));
    if (c->rope_scaling == SIREN_ROPE_LLAMA3) {
        json_object_set_new(r, "low_freq_factor", shortest_number(c->rope_low_freq_factor));
        json_object_set_new(r, "high_freq_factor", shortest_number(c->rope_high_freq_factor));
    } else {
        json_object_set_new(r, "beta_fast", shortest_number(c->rope_beta_fast));
        json_object_set_new(r, "beta_slow", shortest_number(c->rope_beta_slow));
        json_object_set_new(r, "attention_factor", shortest_number(c->rope_attention_factor));
    }
    return r;
}

/* transformers has one switch for the biases of q, k, v and o together, and none in Qwen2. */
static int check_biases(const struct siren_config *c, const char *path, struct siren_error *err)
{
    int o_bias = c->arch == SIREN_QWEN2 ? 0 : c->qkv_bias;
    int qkv_bias = c->arch == SIREN_QWEN2 ? 1 : c->qkv_bias;
    if (c->qkv_bias == qkv_bias && c->o_bias == o_bias) return SIREN_OK;
    return siren_fail(err, SIREN_EUNSUPPORTED,
                      "%s: a %s model %s biases of q, k and v and %s one of o: config.json cannot "
                      "say so",
                      path, siren_arch_name(c->arch), c->qkv_bias ? "with" : "without",
                      c->o_bias ? "with" : "without");
}

static json_t *id_of(const struct tensors *ts, const char *key)
{
    const struct gguf_value *v = gguf_find(ts, key);
    return v && v->kind == GGUF_UINT ? json_integer((json_int_t)v->u) : json_null();
}

static json_t *config_json(const struct siren_config *c, const struct tensors *ts,
                           enum tensor_type type)
{
    static const char *const classes[] = {"LlamaForCausalLM", "Qwen2ForCausalLM",
                                          "Qwen3ForCausalLM"};
    json_t *j = json_pack(
        "{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:b, s:o, s:o, s:o, s:b, s:s}",
        "architectures", classes[c->arch], "model_type", siren_arch_name(c->arch), "hidden_size",
        c->d_model, "intermediate_size", c->d_ffn, "num_hidden_layers", c->n_layers,
        "num_attention_heads", c->n_heads, "num_key_value_heads", c->n_kv_heads, "head_dim",
        c->head_dim, "max_position_embeddings", c->max_positions, "vocab_size", c->n_vocab,
        "hidden_act", "silu", "tie_word_embeddings", c->tied_head, "rms_norm_eps",
        shortest_number(c->norm_eps), "rope_theta", shortest_number(c->rope_theta), "rope_scaling",
        rope_scaling(c), "use_cache", 1, "torch_dtype", torch_name(type));
    if (!j) return NULL;
    if (c->arch != SIREN_QWEN2) json_object_set_new(j, "attention_bias", json_boolean(c->qkv_bias));
    if (c->arch == SIREN_LLAMA)
        json_object_set_new(j, "mlp_bias", json_false());
    else
        json_object_set_new(j, "use_sliding_window", json_false());
    json_object_set_new(j, "bos_token_id", id_of(ts, "tokenizer.ggml.bos_token_id"));
    json_object_set_new(j, "eos_token_id", id_of(ts, "tokenizer.ggml.eos_token_id"));
    return j;
}

static int texts_from_gguf(struct export_texts *t, const struct tensors *ts,
                           const struct siren_config *c, enum tensor_type type,
                           struct siren_error *err)
{
    struct tokenizer_files files;
    int rc = check_biases(c, tensors_path(ts), err);
    if (rc) return rc;
    json_t *config = config_json(c, ts, type);
    rc = add_json(t, CONFIG, config, err);
    json_decref(config);
    if (rc || !gguf_find(ts, "tokenizer.ggml.model")) return rc; /* a file without a tokenizer */
    rc = tokenizer_files_from_gguf(&files, ts, c->max_positions, err);
    if (rc) return rc;
    rc = add_text(t, TOKENIZER, files.tokenizer, strlen(files.tokenizer), err);
    if (!rc)
        rc = add_text(t, "tokenizer_config.json", files.config, strlen(files.config), err);
    else
        free(files.config);
    return rc;
}

/* ---- from a folder ---- */

/* As it is, but for the type of the weights. */
static int add_config(struct export_texts *t, char *data, size_t size, enum tensor_type type,
                      struct siren_error *err)
{
    json_t *root = json_loadb(data, size, 0, NULL);
    free(data);
    const char *key = json_object_get(root, "dtype") ? "dtype" : "torch_dtype";
    if (root) json_object_set_new(root, key, json_string(torch_name(type)));
    int rc = add_json(t, CONFIG, root, err);
    json_decref(root);
    return rc;
}

static int texts_from_folder(struct export_texts *t, const char *folder, enum tensor_type type,
                             struct siren_error *err)
{
    static const char *const names[][2] = {
        {"config.json", CONFIG},
        {"tokenizer.json", TOKENIZER},
        {"tokenizer.json.gz", TOKENIZER},
        {"tokenizer_config.json", "tokenizer_config.json"},
        {"special_tokens_map.json", "special_tokens_map.json"},
        {"added_tokens.json", "added_tokens.json"},
        {"chat_template.jinja", "chat_template.jinja"},
        {"generation_config.json", "generation_config.json"},
    };
    int rc = SIREN_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && !rc; i++) {
        char *path = path_join(folder, names[i][0]), *data;
        size_t size;
        if (!path) return siren_fail_memory(err, "a path", strlen(folder));
        int second = t->n && !strcmp(names[i][1], t->items[t->n - 1].name);
        if (!second && files_exists(path)) {
            rc = siren_file_read(&data, &size, path, TEXT_MAX, err);
            if (!rc)
                rc = i ? add_text(t, names[i][1], data, size, err)
                       : add_config(t, data, size, type, err);
        }
        free(path);
    }
    return rc;
}

int export_texts(struct export_texts *out, const struct tensors *ts, const struct siren_config *c,
                 const char *path, enum tensor_type type, struct siren_error *err)
{
    struct stat st;
    *out = (struct export_texts){0};
    if (tensors_is_gguf(ts)) return texts_from_gguf(out, ts, c, type, err);
    char *folder = !stat(path, &st) && S_ISDIR(st.st_mode) ? alloc_string(path, strlen(path))
                                                           : path_folder(path);
    if (!folder) return siren_fail_memory(err, "a path", strlen(path));
    int rc = texts_from_folder(out, folder, type, err);
    free(folder);
    return rc;
}

/* ---- what was written ---- */

static void hash_texts(char hash[17], const struct export_text texts[2])
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    for (int i = 0; i < 2; i++) {
        XXH3_64bits_update(&state, &texts[i].size, sizeof texts[i].size);
        XXH3_64bits_update(&state, texts[i].data, texts[i].size);
    }
    snprintf(hash, 17, "%016llx", (unsigned long long)XXH3_64bits_digest(&state));
}

void export_texts_hash(const struct export_texts *t, char hash[17])
{
    struct export_text two[2] = {{0}};
    for (size_t i = 0; i < t->n; i++) {
        if (!strcmp(t->items[i].name, CONFIG)) two[0] = t->items[i];
        if (!strcmp(t->items[i].name, TOKENIZER)) two[1] = t->items[i];
    }
    hash_texts(hash, two);
}

int export_folder_hash(const char *folder, char hash[17], struct siren_error *err)
{
    const char *const names[2] = {CONFIG, TOKENIZER};
    struct export_text two[2] = {{0}};
    int rc = SIREN_OK;
    for (int i = 0; i < 2 && !rc; i++) {
        char *path = path_join(folder, names[i]);
        if (!path)
            rc = siren_fail_memory(err, "a path", strlen(folder));
        else if (files_exists(path))
            rc = siren_file_read(&two[i].data, &two[i].size, path, TEXT_MAX, err);
        free(path);
    }
    hash[0] = 0;
    if (!rc) hash_texts(hash, two);
    free(two[0].data);
    free(two[1].data);
    return rc;
}
