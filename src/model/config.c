/* What both sources of a configuration share: the order of the work, the name, the checks. */
#include "model/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "model/names.h"

const char *siren_arch_name(enum siren_arch arch)
{
    static const char *const names[] = {"llama", "qwen2", "qwen3", "bert", "xlm-roberta"};
    return (unsigned)arch < sizeof names / sizeof *names ? names[arch] : "unknown";
}

/* Limits are far beyond any model of these families; they keep every product of two sizes
 * within an int64_t and loops within reason. */
struct limit {
    const char *what;
    int value, least, most;
};

static int check_limits(const struct limit *limits, size_t n, const char *where,
                        struct siren_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (limits[i].value < limits[i].least || limits[i].value > limits[i].most)
            return siren_fail(err, SIREN_EFORMAT, "%s: %s is %d, expected %d to %d", where,
                              limits[i].what, limits[i].value, limits[i].least, limits[i].most);
    return SIREN_OK;
}

/* Finite and within (least, most]; least is excluded. */
static int check_number(const char *what, float value, double least, double most, const char *where,
                        struct siren_error *err)
{
    if (value > least && value <= most) return SIREN_OK;
    return siren_fail(err, SIREN_EFORMAT, "%s: %s is %g, expected above %g and at most %g", where,
                      what, (double)value, least, most);
}

static int check_rope(const struct siren_config *c, const char *where, struct siren_error *err)
{
    int code = check_number("the RoPE base (theta)", c->rope_theta, 1, 1e12, where, err);
    if (!code && c->head_dim % 2)
        code = siren_fail(err, SIREN_EFORMAT, "%s: the head size %d is odd, RoPE needs pairs",
                          where, c->head_dim);
    if (code || c->rope_scaling == SIREN_ROPE_PLAIN) return code;
    code = check_number("the RoPE scaling factor", c->rope_factor, 0, 1e6, where, err);
    if (code || c->rope_scaling == SIREN_ROPE_LINEAR) return code;
    if (c->rope_original_positions < 1 || c->rope_original_positions > 1 << 28)
        return siren_fail(err, SIREN_EFORMAT,
                          "%s: the original number of positions of the RoPE scaling is %d", where,
                          c->rope_original_positions);
    if (c->rope_scaling == SIREN_ROPE_LLAMA3) {
        code = check_number("low_freq_factor", c->rope_low_freq_factor, 0, 1e6, where, err);
        return code ? code
                    : check_number("high_freq_factor (above low_freq_factor)",
                                   c->rope_high_freq_factor, (double)c->rope_low_freq_factor, 1e6,
                                   where, err);
    }
    code = check_number("beta_slow", c->rope_beta_slow, 0, 1e6, where, err);
    if (!code) code = check_number("beta_fast", c->rope_beta_fast, 0, 1e6, where, err);
    if (!code)
        code =
            check_number("the YaRN attention factor", c->rope_attention_factor, 0, 1e3, where, err);
    return code;
}

int config_check(const struct siren_config *c, const char *where, struct siren_error *err)
{
    const struct limit limits[] = {
        {"the number of layers", c->n_layers, 1, 1024},
        {"the model width", c->d_model, 1, 1 << 17},
        {"the number of heads", c->n_heads, 1, 4096},
        {"the number of key-value heads", c->n_kv_heads, 1, 4096},
        {"the head size", c->head_dim, 1, 4096},
        {"the width of the feed-forward layer", c->d_ffn, 1, 1 << 20},
        {"the vocabulary size", c->n_vocab, 1, 1 << 24},
        {"the number of positions", c->max_positions, 1, 1 << 28},
        {"the number of token types", c->n_token_types, siren_is_encoder(c) ? 1 : 0, 1 << 16},
        {"the position offset", c->position_offset, 0, 1 << 16},
        {"the longest input in tokens", c->max_tokens, siren_is_encoder(c) ? 1 : 0, 1 << 28},
    };
    int code = check_limits(limits, sizeof limits / sizeof *limits, where, err);
    if (!code) code = check_number("the epsilon of the norms", c->norm_eps, 0, 0.1, where, err);
    if (code) return code;
    if (c->n_heads % c->n_kv_heads)
        return siren_fail(err, SIREN_EFORMAT, "%s: %d heads cannot share %d key-value heads evenly",
                          where, c->n_heads, c->n_kv_heads);
    if (!siren_is_encoder(c)) return check_rope(c, where, err);
    if (c->n_heads * c->head_dim != c->d_model)
        return siren_fail(err, SIREN_EFORMAT, "%s: %d heads of %d do not make the width %d", where,
                          c->n_heads, c->head_dim, c->d_model);
    if (c->max_tokens > c->max_positions)
        return siren_fail(err, SIREN_EFORMAT, "%s: inputs of %d tokens, but only %d positions",
                          where, c->max_tokens, c->max_positions);
    return SIREN_OK;
}

/* The last part of the path, without ".gguf". */
static void name_from_path(struct siren_config *c, const char *path)
{
    char *full = realpath(path, NULL); /* "." has a name, too */
    const char *name = path_name(full ? full : path);
    size_t n = strlen(name);
    if (n > 5 && !strcmp(name + n - 5, ".gguf")) n -= 5;
    if (n >= sizeof c->name) n = sizeof c->name - 1;
    memcpy(c->name, name, n);
    c->name[n] = 0;
    free(full);
}

int model_config_read(struct siren_config *out, const struct tensors *ts, const char *path,
                      struct siren_error *err)
{
    struct siren_config c = {0};
    int code =
        tensors_is_gguf(ts) ? config_from_gguf(&c, ts, err) : config_from_folder(&c, path, err);
    if (!code && !c.name[0]) name_from_path(&c, path);
    if (!code) code = config_check(&c, path, err);
    if (!code) code = model_check_tensors(ts, &c, err);
    if (!code) *out = c;
    return code;
}
