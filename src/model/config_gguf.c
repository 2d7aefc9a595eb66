/* A configuration from GGUF metadata: llama, qwen2, qwen3, and bert for encoders. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "model/config.h"
#include "weights/tensors.h"

#define PI 3.14159265358979323846

struct source {
    const struct tensors *ts;
    char arch[32];
    struct siren_error *err;
};

/* Keys below "ARCH." that are read here, or that do not change what is computed. */
static const char *const known[] = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "attention.sliding_window",
    "attention.scale",
    "attention.causal",
    "expert_count",
    "expert_used_count",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier",
    "tensor_data_layout",
    "pooling_type",
};

static const struct gguf_value *get(const struct source *s, const char *key)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", s->arch, key);
    return gguf_find(s->ts, full);
}

static int bad(const struct source *s, const char *key, const char *expected)
{
    return siren_fail(s->err, SIREN_EFORMAT, "%s: metadata %s.%s is not %s", tensors_path(s->ts),
                      s->arch, key, expected);
}

static int unsupported(const struct source *s, const char *key, double value, const char *supported)
{
    return siren_fail(s->err, SIREN_EUNSUPPORTED,
                      "%s: metadata %s.%s is %g; this program computes only models with %s",
                      tensors_path(s->ts), s->arch, key, value, supported);
}

/* A missing key leaves *out where `required` is 0. */
static int get_int(const struct source *s, const char *key, int required, int *out)
{
    const struct gguf_value *v = get(s, key);
    if (!v && !required) return SIREN_OK;
    if (!v)
        return siren_fail(s->err, SIREN_EFORMAT, "%s: metadata %s.%s is missing",
                          tensors_path(s->ts), s->arch, key);
    if ((v->kind != GGUF_UINT && v->kind != GGUF_INT) || v->u > INT_MAX)
        return bad(s, key, "a plausible integer (one for all layers)");
    *out = (int)v->u;
    return SIREN_OK;
}

static int get_float(const struct source *s, const char *key, int required, double *out)
{
    const struct gguf_value *v = get(s, key);
    if (!v && !required) return SIREN_OK;
    if (!v)
        return siren_fail(s->err, SIREN_EFORMAT, "%s: metadata %s.%s is missing",
                          tensors_path(s->ts), s->arch, key);
    if (v->kind != GGUF_FLOAT || !isfinite(v->f)) return bad(s, key, "a finite number");
    *out = v->f;
    return SIREN_OK;
}

/* A key that must be absent or have the one value that this program computes. */
static int require_number(const struct source *s, const char *key, double wanted,
                          const char *supported)
{
    const struct gguf_value *v = get(s, key);
    if (!v) return SIREN_OK;
    if (v->kind == GGUF_ARRAY || v->kind == GGUF_STRING) return bad(s, key, "a number");
    return fabs(v->f - wanted) <= 1e-6 * fabs(wanted) ? SIREN_OK
                                                      : unsupported(s, key, v->f, supported);
}

static int read_arch(struct source *s, struct siren_config *c)
{
    const struct gguf_value *v = gguf_find(s->ts, "general.architecture");
    if (!v || v->kind != GGUF_STRING || v->length >= sizeof s->arch)
        return siren_fail(s->err, SIREN_EFORMAT, "%s: metadata general.architecture is no name",
                          tensors_path(s->ts));
    memcpy(s->arch, v->text, v->length);
    s->arch[v->length] = 0;
    for (int a = SIREN_LLAMA; a <= SIREN_BERT; a++)
        if (!strcmp(siren_arch_name((enum siren_arch)a), s->arch)) {
            c->arch = (enum siren_arch)a;
            return SIREN_OK;
        }
    return siren_fail(s->err, SIREN_EUNSUPPORTED,
                      "%s: architecture \"%s\"; GGUF files are read of llama, qwen2, qwen3 and "
                      "bert",
                      tensors_path(s->ts), tensors_show(s->arch, v->length).text);
}

/* Every key of the architecture is known. */
static int check_keys(const struct source *s)
{
    size_t n = strlen(s->arch);
    const char *key;
    for (size_t i = 0; (key = gguf_key(s->ts, i)); i++) {
        if (strncmp(key, s->arch, n) || key[n] != '.') continue;
        size_t k = 0, n_known = sizeof known / sizeof *known;
        while (k < n_known && strcmp(known[k], key + n + 1)) k++;
        if (k == n_known)
            return siren_fail(
                s->err, SIREN_EUNSUPPORTED,
                "%s: metadata %s is not known to this program and may change what the "
                "model computes",
                tensors_path(s->ts), tensors_show(key, strlen(key)).text);
    }
    return SIREN_OK;
}

static int read_vocabulary(const struct source *s, struct siren_config *c)
{
    const struct tensor *t = tensors_find(s->ts, "token_embd.weight");
    if (!t || t->n_dims != 2 || t->shape[0] > INT_MAX)
        return siren_fail(s->err, SIREN_EFORMAT,
                          "%s: tensor token_embd.weight is missing or no matrix",
                          tensors_path(s->ts));
    c->n_vocab = (int)t->shape[0];
    int stated = c->n_vocab, code = get_int(s, "vocab_size", 0, &stated);
    if (!code && stated != c->n_vocab)
        code = siren_fail(s->err, SIREN_EFORMAT,
                          "%s: metadata %s.vocab_size is %d, but token_embd.weight has %d rows",
                          tensors_path(s->ts), s->arch, stated, c->n_vocab);
    return code;
}

static int read_sizes(const struct source *s, struct siren_config *c)
{
    double eps = 0;
    int code = get_int(s, "block_count", 1, &c->n_layers);
    if (!code) code = get_int(s, "context_length", 1, &c->max_positions);
    if (!code) code = get_int(s, "embedding_length", 1, &c->d_model);
    if (!code) code = get_int(s, "feed_forward_length", 1, &c->d_ffn);
    if (!code) code = get_int(s, "attention.head_count", 1, &c->n_heads);
    if (!code) {
        c->n_kv_heads = c->n_heads;
        c->head_dim = c->n_heads ? c->d_model / c->n_heads : 0;
        code = get_int(s, "attention.head_count_kv", 0, &c->n_kv_heads);
    }
    if (!code) code = get_int(s, "attention.key_length", 0, &c->head_dim);
    if (!code)
        code = get_float(s,
                         siren_is_encoder(c) ? "attention.layer_norm_epsilon"
                                             : "attention.layer_norm_rms_epsilon",
                         1, &eps);
    c->norm_eps = (float)eps;
    return code ? code : read_vocabulary(s, c);
}

static int check_features(const struct source *s, const struct siren_config *c)
{
    const struct gguf_value *split = gguf_find(s->ts, "split.count");
    if (split && split->u > 1)
        return siren_fail(
            s->err, SIREN_EUNSUPPORTED,
            "%s: one of %llu parts of a model; join them with llama-gguf-split --merge",
            tensors_path(s->ts), (unsigned long long)split->u);
    int code = require_number(s, "attention.value_length", c->head_dim, "values as long as keys");
    if (!code) code = require_number(s, "rope.dimension_count", c->head_dim, "whole heads rotated");
    if (!code) code = require_number(s, "expert_count", 0, "no experts");
    if (!code) code = require_number(s, "expert_used_count", 0, "no experts");
    if (!code) code = require_number(s, "attention.sliding_window", 0, "no sliding window");
    if (!code)
        code = siren_is_encoder(c)
                   ? require_number(s, "attention.causal", 0, "full attention in encoders")
                   : require_number(s, "attention.causal", 1, "causal attention");
    if (!code)
        code = require_number(s, "attention.scale", 1 / sqrt(c->head_dim),
                              "attention scaled by the square root of the head size");
    return code;
}

/* ---- RoPE --------------------------------------------------------------- */

/* The converter writes Llama 3's scaling as one divisor for each frequency, tensor
 * rope_freqs.weight.  The parameters are found again (factor is the largest divisor; the
 * others are those of all Llama 3 models) and must give the same divisors. */
static double llama3_divisor(const struct siren_config *c, int i, double factor)
{
    double frequency = pow((double)c->rope_theta, -2.0 * i / c->head_dim);
    double wavelength = 2 * PI / frequency, positions = 8192, low = 1, high = 4;
    if (wavelength < positions / high) return 1;
    if (wavelength > positions / low) return factor;
    double smooth = (positions / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
}

static int read_rope_freqs(const struct source *s, struct siren_config *c)
{
    const struct tensor *t = tensors_find(s->ts, "rope_freqs.weight");
    float divisors[2048];
    int n = c->head_dim / 2;
    if (!t) return SIREN_OK;
    if (t->type != TENSOR_F32 || t->n_dims != 1 || t->shape[0] != n || n < 1 || n > 2048)
        return siren_fail(s->err, SIREN_EFORMAT,
                          "%s: tensor rope_freqs.weight is %s %s, expected "
                          "F32 [%d]",
                          tensors_path(s->ts), tensor_type_name(t->type),
                          tensors_show_shape(t->n_dims, t->shape).text, n);
    tensor_dequantize(t, 0, n, divisors);
    double factor = 0;
    for (int i = 0; i < n; i++)
        if (divisors[i] > factor) factor = (double)divisors[i];
    for (int i = 0; i < n; i++) {
        double expected = llama3_divisor(c, i, factor);
        if (!(fabs((double)divisors[i] - expected) <= 1e-3 * expected))
            return siren_fail(
                s->err, SIREN_EUNSUPPORTED,
                "%s: tensor rope_freqs.weight: divisor %d is %g, but Llama 3's scaling "
                "by %g gives %g; other scalings are not computed",
                tensors_path(s->ts), i, (double)divisors[i], factor, expected);
    }
    if (factor == 1) return SIREN_OK;
    if (c->rope_scaling != SIREN_ROPE_PLAIN)
        return siren_fail(s->err, SIREN_EUNSUPPORTED,
                          "%s: both rope_freqs.weight and metadata %s.rope.scaling",
                          tensors_path(s->ts), s->arch);
    c->rope_scaling = SIREN_ROPE_LLAMA3;
    c->rope_factor = (float)factor;
    c->rope_low_freq_factor = 1;
    c->rope_high_freq_factor = 4;
    c->rope_original_positions = 8192;
    return SIREN_OK;
}

static int read_yarn(const struct source *s, struct siren_config *c, double factor)
{
    double fast = 32, slow = 1;
    c->rope_original_positions = c->max_positions;
    int code = get_int(s, "rope.scaling.original_context_length", 0, &c->rope_original_positions);
    if (!code) code = get_float(s, "rope.scaling.yarn_beta_fast", 0, &fast);
    if (!code) code = get_float(s, "rope.scaling.yarn_beta_slow", 0, &slow);
    if (!code)
        code = require_number(s, "rope.scaling.yarn_ext_factor", 1, "an extension factor of 1");
    if (!code) code = require_number(s, "rope.scaling.attn_factor", 1, "YaRN's own factor");
    if (!code) code = require_number(s, "rope.scaling.yarn_attn_factor", 1, "YaRN's own factor");
    if (!code) code = require_number(s, "rope.scaling.yarn_log_multiplier", 0, "YaRN's own factor");
    c->rope_beta_fast = (float)fast;
    c->rope_beta_slow = (float)slow;
    c->rope_attention_factor = factor > 1 ? (float)(0.1 * log(factor) + 1) : 1;
    return code;
}

static int read_scaling(const struct source *s, struct siren_config *c)
{
    double factor = 0;
    const struct gguf_value *type = get(s, "rope.scaling.type");
    int code = get_float(s, "rope.scale_linear", 0, &factor);
    if (!code) code = get_float(s, "rope.scaling.factor", 0, &factor);
    if (code) return code;
    if (type && type->kind != GGUF_STRING) return bad(s, "rope.scaling.type", "a name");
    int is_linear = type ? type->length == 6 && !memcmp(type->text, "linear", 6) : factor != 0;
    if (type && type->length == 4 && !memcmp(type->text, "none", 4))
        factor = 0;
    else if (type && type->length == 4 && !memcmp(type->text, "yarn", 4)) {
        c->rope_scaling = SIREN_ROPE_YARN;
        code = read_yarn(s, c, factor);
    } else if (is_linear) {
        if (factor != 1) c->rope_scaling = SIREN_ROPE_LINEAR;
    } else if (type) {
        return siren_fail(
            s->err, SIREN_EUNSUPPORTED,
            "%s: metadata %s.rope.scaling.type is \"%s\"; this program computes none, "
            "linear, yarn and Llama 3's",
            tensors_path(s->ts), s->arch, tensors_show(type->text, type->length).text);
    }
    c->rope_factor = (float)factor;
    return code;
}

static int read_rope(const struct source *s, struct siren_config *c)
{
    double theta = 10000;
    int code = get_float(s, "rope.freq_base", 0, &theta);
    c->rope_theta = (float)theta;
    if (!code) code = read_scaling(s, c);
    return code ? code : read_rope_freqs(s, c);
}

/* Whole UTF-8 sequences that fit, without control characters; '?' for what is neither. */
static void read_name(const struct source *s, struct siren_config *c)
{
    const struct gguf_value *v = gguf_find(s->ts, "general.name");
    if (!v || v->kind != GGUF_STRING) return;
    size_t n = 0;
    for (size_t at = 0; at < v->length && n < sizeof c->name - 1;) {
        utf8proc_int32_t point;
        size_t left = v->length - at < 4 ? v->length - at : 4;
        utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)v->text + at,
                                                 (utf8proc_ssize_t)left, &point);
        if (size > 1 && n + (size_t)size > sizeof c->name - 1) break;
        if (size > 1)
            memcpy(c->name + n, v->text + at, (size_t)size);
        else
            c->name[n] = size < 1 || point < 0x20 || point == 0x7f ? '?' : v->text[at];
        n += size > 1 ? (size_t)size : 1;
        at += size > 1 ? (size_t)size : 1;
    }
    c->name[n] = 0;
}

/* BERT, and XLM-RoBERTa, whose converter cuts the unused rows off its positions.  The format does
 * not hold the sentence encoder's own limit of tokens, nor whether vectors are scaled to length 1:
 * the model's limit, and yes where it pools. */
static int read_encoder(const struct source *s, struct siren_config *c)
{
    enum { POOLED_NOT, POOLED_MEAN, POOLED_CLS };
    int pooling = POOLED_NOT;
    const struct tensor *types = tensors_find(s->ts, "token_types.weight");
    if (!types || types->n_dims != 2 || types->shape[0] > INT_MAX)
        return siren_fail(s->err, SIREN_EFORMAT,
                          "%s: tensor token_types.weight is missing or no matrix",
                          tensors_path(s->ts));
    int code = get_int(s, "pooling_type", 0, &pooling);
    if (code) return code;
    if (pooling > POOLED_CLS)
        return unsupported(s, "pooling_type", pooling, "no pooling, mean (1) or CLS (2)");
    c->n_token_types = (int)types->shape[0];
    c->pooling = pooling == POOLED_MEAN  ? SIREN_POOL_MEAN
                 : pooling == POOLED_CLS ? SIREN_POOL_CLS
                                         : SIREN_POOL_NONE;
    c->normalize = pooling != POOLED_NOT;
    c->max_tokens = c->max_positions;
    c->qkv_bias = c->o_bias = 1;
    return SIREN_OK;
}

int config_from_gguf(struct siren_config *out, const struct tensors *ts, struct siren_error *err)
{
    struct source s = {.ts = ts, .err = err};
    int code = read_arch(&s, out);
    if (!code) code = check_keys(&s);
    if (!code) code = read_sizes(&s, out);
    if (!code) code = check_features(&s, out);
    if (!code) code = siren_is_encoder(out) ? read_encoder(&s, out) : read_rope(&s, out);
    if (code) return code;
    read_name(&s, out);
    if (siren_is_encoder(out)) return SIREN_OK;
    out->tied_head = !tensors_find(ts, "output.weight");
    out->qkv_bias = tensors_find(ts, "blk.0.attn_q.bias") != NULL;
    out->o_bias = tensors_find(ts, "blk.0.attn_output.bias") != NULL;
    out->qk_norm = out->arch == SIREN_QWEN3;
    return SIREN_OK;
}
