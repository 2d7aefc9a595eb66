/* A configuration from a Hugging Face folder. */
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/path.h"
#include "model/config.h"
#include "siren/file.h"
#include "weights/tensors.h"

#define JSON_MAX (64 << 20) /* bytes of a file; XLM-R's tokenizer.json has 17 MB */

/* One JSON object, the place it came from, and where errors go. */
struct source {
    const char *folder;
    const char *where; /* "…/config.json" or "…/config.json: rope_scaling" */
    const json_t *json;
    struct siren_error *err;
};

/* ---- reading ------------------------------------------------------------ */

/* NULL for a missing key and for null: transformers treats them alike. */
static const json_t *get(const struct source *s, const char *key)
{
    const json_t *v = json_object_get(s->json, key);
    return json_is_null(v) ? NULL : v;
}

static int bad(const struct source *s, const char *key, const char *expected)
{
    return siren_fail(s->err, SIREN_EFORMAT, "%s: \"%s\" is %s, expected %s", s->where, key,
                      get(s, key) ? "something else" : "missing", expected);
}

static int get_int(const struct source *s, const char *key, int required, int *out)
{
    const json_t *v = get(s, key);
    if (!v && !required) return SIREN_OK;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT_MAX)
        return bad(s, key, "an integer from 0 to 2147483647");
    *out = (int)json_integer_value(v);
    return SIREN_OK;
}

static int get_number(const struct source *s, const char *key, int required, double *out)
{
    const json_t *v = get(s, key);
    if (!v && !required) return SIREN_OK;
    if (!json_is_number(v) || !isfinite(json_number_value(v))) return bad(s, key, "a number");
    *out = json_number_value(v);
    return SIREN_OK;
}

static int get_bool(const struct source *s, const char *key, int *out)
{
    const json_t *v = get(s, key);
    if (!v) return SIREN_OK;
    if (!json_is_boolean(v)) return bad(s, key, "true or false");
    *out = json_is_true(v);
    return SIREN_OK;
}

static int unsupported(const struct source *s, const char *key, const char *supported)
{
    char *text = json_dumps(get(s, key), JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    int code = siren_fail(
        s->err, SIREN_EUNSUPPORTED, "%s: \"%s\" is %s; this program computes only models with %s",
        s->where, key, tensors_show(text ? text : "?", text ? strlen(text) : 1).text, supported);
    free(text);
    return code;
}

/* Absent, or the one value that this program computes. */
static int require_bool(const struct source *s, const char *key, int wanted, const char *supported)
{
    int value = wanted, code = get_bool(s, key, &value);
    return code || value == wanted ? code : unsupported(s, key, supported);
}

static int require_number(const struct source *s, const char *key, double wanted,
                          const char *supported)
{
    double value = wanted;
    int code = get_number(s, key, 0, &value);
    return code || value == wanted ? code : unsupported(s, key, supported);
}

static int require_string(const struct source *s, const char *key, const char *wanted,
                          const char *supported)
{
    const json_t *v = get(s, key);
    if (!v) return SIREN_OK;
    if (!json_is_string(v)) return bad(s, key, "a string");
    return strcmp(json_string_value(v), wanted) ? unsupported(s, key, supported) : SIREN_OK;
}

static int require_absent(const struct source *s, const char *key, const char *supported)
{
    return get(s, key) ? unsupported(s, key, supported) : SIREN_OK;
}

/* The root of FOLDER/NAME.  Missing: *root is NULL, and an error where `required`. */
static int read_json(const char *folder, const char *name, int required, char **path, json_t **root,
                     struct siren_error *err)
{
    struct stat st;
    char *text = NULL;
    size_t size;
    *root = NULL;
    *path = path_join(folder, name);
    if (!*path) return siren_fail_memory(err, "a path", strlen(folder));
    if (!required && stat(*path, &st)) return SIREN_OK;
    int code = siren_file_read(&text, &size, *path, JSON_MAX, err);
    if (code) return code;
    json_error_t e;
    *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &e);
    free(text);
    if (*root) return SIREN_OK;
    return siren_fail(err, SIREN_EFORMAT, "%s:%d: no JSON: %s", *path, e.line,
                      tensors_show(e.text, strlen(e.text)).text);
}

/* Read FOLDER/NAME, which must be an object, and hand it to `use`. */
static int with_json(const char *folder, const char *name, int required,
                     int use(struct siren_config *, const struct source *), struct siren_config *c,
                     struct siren_error *err)
{
    char *path;
    json_t *root;
    int code = read_json(folder, name, required, &path, &root, err);
    if (!code && root) {
        struct source s = {folder, path, root, err};
        code = json_is_object(root) ? use(c, &s)
                                    : siren_fail(err, SIREN_EFORMAT, "%s: no JSON object", path);
    }
    json_decref(root);
    free(path);
    return code;
}

/* ---- config.json: decoders ---------------------------------------------- */

static int read_yarn(struct siren_config *c, const struct source *s, double factor)
{
    double fast = 32, slow = 1, attention = 0, mscale = 0, all = 0;
    int code = get_number(s, "beta_fast", 0, &fast);
    if (!code) code = get_number(s, "beta_slow", 0, &slow);
    if (!code) code = get_number(s, "attention_factor", 0, &attention);
    if (!code) code = get_number(s, "mscale", 0, &mscale);
    if (!code) code = get_number(s, "mscale_all_dim", 0, &all);
    if (!code) code = require_bool(s, "truncate", 1, "a truncated correction range");
    if (code) return code;
    if (get(s, "attention_factor") && attention <= 0)
        return bad(s, "attention_factor", "a number above 0");
    if (factor <= 0 && c->rope_original_positions > 0)
        factor = (double)c->max_positions / c->rope_original_positions;
    double grown = factor > 1 ? 0.1 * log(factor) : 0;
    if (attention <= 0)
        attention = mscale != 0 && all != 0 ? (grown * mscale + 1) / (grown * all + 1) : grown + 1;
    c->rope_factor = (float)factor;
    c->rope_beta_fast = fast != 0 ? (float)fast : 32;
    c->rope_beta_slow = slow != 0 ? (float)slow : 1;
    c->rope_attention_factor = (float)attention;
    return SIREN_OK;
}

static int read_llama3(struct siren_config *c, const struct source *s)
{
    double low = 0, high = 0;
    int code = get_number(s, "low_freq_factor", 1, &low);
    if (!code) code = get_number(s, "high_freq_factor", 1, &high);
    c->rope_low_freq_factor = (float)low;
    c->rope_high_freq_factor = (float)high;
    return code;
}

/* s is the dictionary "rope_parameters" (transformers 5) or "rope_scaling" (before). */
static int read_scaling(struct siren_config *c, const struct source *s)
{
    const json_t *name = get(s, "rope_type") ? get(s, "rope_type") : get(s, "type");
    const char *type = name ? json_string_value(name) : "default";
    double factor = 0;
    if (!type) return bad(s, "rope_type", "a string");
    int code = require_number(s, "partial_rotary_factor", 1, "whole heads rotated");
    if (code || !strcmp(type, "default")) return code;
    code = get_number(s, "factor", strcmp(type, "yarn") != 0, &factor);
    if (code) return code;
    c->rope_factor = (float)factor;
    if (!strcmp(type, "linear")) {
        c->rope_scaling = SIREN_ROPE_LINEAR;
        return SIREN_OK;
    }
    if (!strcmp(type, "llama3")) {
        c->rope_scaling = SIREN_ROPE_LLAMA3;
        return read_llama3(c, s);
    }
    if (!strcmp(type, "yarn")) {
        c->rope_scaling = SIREN_ROPE_YARN;
        return read_yarn(c, s, factor);
    }
    return siren_fail(s->err, SIREN_EUNSUPPORTED,
                      "%s: RoPE scaling \"%s\"; this program computes default, linear, llama3 and "
                      "yarn",
                      s->where, tensors_show(type, strlen(type)).text);
}

/* rope_scaling stands before rope_parameters; rope_theta may be beside them or within. */
static int read_rope(struct siren_config *c, const struct source *s)
{
    const char *key = get(s, "rope_scaling") ? "rope_scaling" : "rope_parameters";
    const json_t *json = get(s, key), *value;
    const char *name;
    double theta = 10000;
    int code = get_number(s, "rope_theta", 0, &theta);
    if (!code) code = require_number(s, "partial_rotary_factor", 1, "whole heads rotated");
    if (code) return code;
    c->rope_original_positions = c->max_positions;
    if (json) {
        if (!json_is_object(json)) return bad(s, key, "an object");
        json_object_foreach((json_t *)json, name, value)
        {
            if (json_is_object(value)) return unsupported(s, key, "one RoPE for all layers");
        }
        struct buf where = {0};
        buf_printf(&where, "%s: %s", s->where, key);
        struct source inner = {s->folder, buf_text(&where), json, s->err};
        code = get_number(&inner, "rope_theta", 0, &theta);
        if (!code)
            code =
                get_int(&inner, "original_max_position_embeddings", 0, &c->rope_original_positions);
        /* Beside the dictionary it has priority. */
        if (!code)
            code = get_int(s, "original_max_position_embeddings", 0, &c->rope_original_positions);
        if (!code) code = read_scaling(c, &inner);
        buf_free(&where);
    }
    c->rope_theta = (float)theta;
    return code;
}

static int check_window(const struct source *s, const struct siren_config *c)
{
    int in_use = 0, first = 28; /* the window is used from layer max_window_layers on */
    const json_t *types = get(s, "layer_types"), *item;
    size_t i;
    int code = get_bool(s, "use_sliding_window", &in_use);
    if (!code) code = get_int(s, "max_window_layers", 0, &first);
    if (code) return code;
    /* Llama has no such switch: a window that is given would be one of another program. */
    in_use = c->arch == SIREN_LLAMA || (in_use && first < c->n_layers);
    if (get(s, "sliding_window") && in_use)
        return unsupported(s, "sliding_window", "full attention");
    if (types && !json_is_array(types)) return bad(s, "layer_types", "an array");
    json_array_foreach(types, i, item)
    {
        if (!json_is_string(item) || strcmp(json_string_value(item), "full_attention"))
            return unsupported(s, "layer_types", "full attention in every layer");
    }
    return SIREN_OK;
}

static int read_decoder(struct siren_config *c, const struct source *s)
{
    int bias = c->arch == SIREN_QWEN2;
    double eps = 1e-6;
    int code = get_int(s, "num_attention_heads", 1, &c->n_heads);
    if (code) return code;
    c->n_kv_heads = c->n_heads;
    c->head_dim = c->arch == SIREN_QWEN3 ? 128 : c->n_heads ? c->d_model / c->n_heads : 0;
    /* The classes of Qwen have a default of 32, which no file relies on. */
    code = get_int(s, "num_key_value_heads", c->arch != SIREN_LLAMA, &c->n_kv_heads);
    if (!code) code = get_int(s, "head_dim", 0, &c->head_dim);
    if (!code) code = get_number(s, "rms_norm_eps", 0, &eps);
    if (!code) code = get_bool(s, "tie_word_embeddings", &c->tied_head);
    if (!code) code = require_string(s, "hidden_act", "silu", "the activation silu");
    if (!code) code = require_bool(s, "mlp_bias", 0, "no bias in the feed-forward layer");
    if (!code) code = require_bool(s, "rope_interleaved", 0, "RoPE of halves");
    if (!code) code = check_window(s, c);
    if (!code && c->arch != SIREN_QWEN2) code = get_bool(s, "attention_bias", &bias);
    c->norm_eps = (float)eps;
    c->qkv_bias = bias;
    c->o_bias = c->arch != SIREN_QWEN2 && bias;
    c->qk_norm = c->arch == SIREN_QWEN3;
    return code ? code : read_rope(c, s);
}

/* ---- config.json: encoders ---------------------------------------------- */

static int read_encoder(struct siren_config *c, const struct source *s)
{
    double eps = 1e-12;
    int pad = 1, code = get_int(s, "num_attention_heads", 1, &c->n_heads);
    if (code) return code;
    c->n_kv_heads = c->n_heads;
    c->head_dim = c->n_heads ? c->d_model / c->n_heads : 0;
    c->n_token_types = 2;
    c->qkv_bias = c->o_bias = 1;
    code = get_number(s, "layer_norm_eps", 0, &eps);
    c->norm_eps = (float)eps;
    if (!code) code = get_int(s, "type_vocab_size", 0, &c->n_token_types);
    if (!code) code = require_string(s, "hidden_act", "gelu", "the activation gelu (exact)");
    if (!code)
        code = require_string(s, "position_embedding_type", "absolute", "absolute positions");
    if (!code) code = require_bool(s, "is_decoder", 0, "full attention");
    if (!code) code = require_bool(s, "add_cross_attention", 0, "no cross-attention");
    if (!code) code = get_int(s, "pad_token_id", 0, &pad);
    if (!code && c->arch == SIREN_XLMR) {
        c->position_offset = pad < INT_MAX ? pad + 1 : pad;
        c->max_positions -= c->position_offset;
    }
    c->max_tokens = c->max_positions;
    return code;
}

static const struct {
    const char *architecture, *model_type; /* "architectures"[0], or where that is missing */
    enum siren_arch arch;
} families[] = {
    {"LlamaForCausalLM", "llama", SIREN_LLAMA},  {"Qwen2ForCausalLM", "qwen2", SIREN_QWEN2},
    {"Qwen3ForCausalLM", "qwen3", SIREN_QWEN3},  {"BertModel", "bert", SIREN_BERT},
    {"BertForMaskedLM", NULL, SIREN_BERT},       {"XLMRobertaModel", "xlm-roberta", SIREN_XLMR},
    {"XLMRobertaForMaskedLM", NULL, SIREN_XLMR},
};

static int read_arch(struct siren_config *c, const struct source *s)
{
    const char *found = json_string_value(json_array_get(get(s, "architectures"), 0));
    const char *type = json_string_value(get(s, "model_type"));
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const char *name = found ? families[i].architecture : families[i].model_type;
        if (!name || !(found || type) || strcmp(name, found ? found : type)) continue;
        c->arch = families[i].arch;
        return SIREN_OK;
    }
    const char *shown = found ? found : type ? type : "not stated";
    return siren_fail(s->err, SIREN_EUNSUPPORTED,
                      "%s: the architecture is %s; this program computes LlamaForCausalLM, "
                      "Qwen2ForCausalLM, Qwen3ForCausalLM, BertModel and XLMRobertaModel",
                      s->where, tensors_show(shown, strlen(shown)).text);
}

static int read_config(struct siren_config *c, const struct source *s)
{
    int code = read_arch(c, s);
    if (!code) code = get_int(s, "num_hidden_layers", 1, &c->n_layers);
    if (!code) code = get_int(s, "hidden_size", 1, &c->d_model);
    if (!code) code = get_int(s, "intermediate_size", 1, &c->d_ffn);
    if (!code) code = get_int(s, "vocab_size", 1, &c->n_vocab);
    if (!code) code = get_int(s, "max_position_embeddings", 1, &c->max_positions);
    if (!code) code = require_absent(s, "quantization_config", "weights that are not quantised");
    if (code) return code;
    return siren_is_encoder(c) ? read_encoder(c, s) : read_decoder(c, s);
}

/* ---- sentence encoders -------------------------------------------------- */

static int read_pooling(struct siren_config *c, const struct source *s)
{
    static const char *const old[] = {
        "pooling_mode_cls_token",           "pooling_mode_mean_tokens",
        "pooling_mode_max_tokens",          "pooling_mode_mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken",
    };
    int width = c->d_model, n = 0, mode = 1; /* mean where nothing is stated */
    int code = get_int(s, "word_embedding_dimension", 0, &width);
    if (!code) code = get_int(s, "embedding_dimension", 0, &width);
    if (!code && width != c->d_model)
        code = siren_fail(s->err, SIREN_EFORMAT, "%s: pools vectors of %d, but the model's have %d",
                          s->where, width, c->d_model);
    if (code) return code;
    if (get(s, "pooling_mode")) {
        const char *name = json_string_value(get(s, "pooling_mode"));
        mode = name && !strcmp(name, "cls") ? 0 : name && !strcmp(name, "mean") ? 1 : 2;
        if (mode == 2) return unsupported(s, "pooling_mode", "\"cls\" or \"mean\"");
    } else {
        for (int i = 0; i < 6 && !code; i++) {
            int on = 0;
            code = get_bool(s, old[i], &on);
            if (!on) continue;
            if (i > 1 || n++) return unsupported(s, old[i], "either CLS or mean pooling");
            mode = i;
        }
    }
    c->pooling = mode == 0 ? SIREN_POOL_CLS : SIREN_POOL_MEAN;
    return code;
}

/* The last part of "sentence_transformers.models.Pooling". */
static const char *module_kind(const json_t *module)
{
    const char *type = json_string_value(json_object_get(module, "type"));
    const char *dot = type ? strrchr(type, '.') : NULL;
    return dot ? dot + 1 : type ? type : "";
}

static int module_folder_ok(const char *name)
{
    return name && *name && *name != '.' && *name != '/' && !strstr(name, "..");
}

static int read_module(struct siren_config *c, const char *folder, const char *where,
                       const json_t *module, size_t index, struct siren_error *err)
{
    const char *kind = module_kind(module);
    const char *path = json_string_value(json_object_get(module, "path"));
    if (index == 0) {
        if (!strcmp(kind, "Transformer") && (!path || !*path)) return SIREN_OK;
    } else if (index == 1 && !strcmp(kind, "Pooling") && module_folder_ok(path)) {
        struct buf name = {0};
        buf_printf(&name, "%s/config.json", path);
        int code = buf_failed(&name) ? siren_fail_memory(err, "a path", strlen(path))
                                     : with_json(folder, name.data, 1, read_pooling, c, err);
        buf_free(&name);
        return code;
    } else if (index == 2 && !strcmp(kind, "Normalize")) {
        c->normalize = 1;
        return SIREN_OK;
    }
    return siren_fail(
        err, SIREN_EUNSUPPORTED,
        "%s: module %zu is \"%s\" in \"%s\"; this program computes Transformer (in the "
        "model's folder), Pooling and Normalize, in this order",
        where, index, tensors_show(kind, strlen(kind)).text,
        tensors_show(path ? path : "", path ? strlen(path) : 0).text);
}

static int read_modules(struct siren_config *c, const char *folder, struct siren_error *err)
{
    char *path;
    json_t *root, *module;
    size_t i;
    int code = read_json(folder, "modules.json", 0, &path, &root, err);
    if (!code && root && (!json_is_array(root) || json_array_size(root) < 2))
        code = siren_fail(err, SIREN_EFORMAT, "%s: no array of at least two modules", path);
    json_array_foreach(root, i, module)
    {
        if (!code) code = read_module(c, folder, path, module, i, err);
    }
    json_decref(root);
    free(path);
    return code;
}

/* 1e30 stands for "no limit" here. */
static int read_tokenizer_length(struct siren_config *c, const struct source *s)
{
    double length = c->max_positions;
    int code = get_number(s, "model_max_length", 0, &length);
    if (!code && length >= 1 && length < c->max_positions) c->max_tokens = (int)length;
    return code;
}

static int lower_cases(const json_t *normalizer)
{
    const char *type = json_string_value(json_object_get(normalizer, "type"));
    const json_t *parts = json_object_get(normalizer, "normalizers"), *part;
    size_t i;
    if (type && !strcmp(type, "Lowercase")) return 1;
    if (type && !strcmp(type, "BertNormalizer"))
        return json_is_true(json_object_get(normalizer, "lowercase"));
    json_array_foreach(parts, i, part)
    {
        /* A sequence in a sequence does not occur. */
        if (!json_object_get(part, "normalizers") && lower_cases(part)) return 1;
    }
    return 0;
}

/* "do_lower_case" has no effect where the tokenizer lower-cases by itself (bge does). */
static int check_lower_case(const struct source *s)
{
    char *path;
    json_t *root;
    int wanted = 0, code = get_bool(s, "do_lower_case", &wanted);
    if (code || !wanted) return code;
    code = read_json(s->folder, "tokenizer.json", 0, &path, &root, s->err);
    if (!code && !lower_cases(json_object_get(root, "normalizer")))
        code = unsupported(s, "do_lower_case", "a tokenizer that does so by itself");
    json_decref(root);
    free(path);
    return code;
}

static int read_length(struct siren_config *c, const struct source *s)
{
    int length = c->max_tokens, code = get_int(s, "max_seq_length", 0, &length);
    if (!code) code = check_lower_case(s);
    c->max_tokens = length < c->max_positions ? length : c->max_positions;
    return code;
}

static int check_prompt(struct siren_config *c, const struct source *s)
{
    const char *name = json_string_value(get(s, "default_prompt_name"));
    const json_t *prompts = get(s, "prompts");
    const char *prompt = name ? json_string_value(json_object_get(prompts, name)) : NULL;
    return prompt && *prompt ? unsupported(s, "default_prompt_name", "no prompt before every text")
                             : SIREN_OK;
}

int config_from_folder(struct siren_config *out, const char *folder, struct siren_error *err)
{
    int code = with_json(folder, "config.json", 1, read_config, out, err);
    if (code || !siren_is_encoder(out)) return code;
    code = read_modules(out, folder, err);
    if (!code)
        code = with_json(folder, "tokenizer_config.json", 0, read_tokenizer_length, out, err);
    if (!code) code = with_json(folder, "sentence_bert_config.json", 0, read_length, out, err);
    if (!code)
        code = with_json(folder, "config_sentence_transformers.json", 0, check_prompt, out, err);
    return code;
}
