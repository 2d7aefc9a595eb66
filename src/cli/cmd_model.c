/* siren model info: what a model file holds, and that this program can run it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "model/config.h"
#include "siren/chat.h"
#include "siren/tokenizer.h"

struct by_type {
    uint64_t tensors, parameters, bytes;
};

struct info {
    struct siren_config config;
    const char *path;
    char hash[33];
    struct by_type types[TENSOR_TYPES], total;
    char *tokenizer; /* NULL: none was found; else its kind */
    long n_tokens;
    char *chat; /* NULL: none, or not known */
    struct siren_error tokenizer_error, chat_error;
};

static uint64_t elements(const struct tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) n *= (uint64_t)t->shape[i];
    return n;
}

static void count_tensors(struct info *info, const struct tensors *ts)
{
    for (size_t i = 0; i < tensors_count(ts); i++) {
        const struct tensor *t = tensors_at(ts, i);
        struct by_type *type = &info->types[t->type];
        /* Integers are buffers (positions), not parameters. */
        uint64_t n = t->type == TENSOR_I64 || t->type == TENSOR_I32 ? 0 : elements(t);
        type->tensors++;
        type->parameters += n;
        type->bytes += t->bytes;
        info->total.tensors++;
        info->total.parameters += n;
        info->total.bytes += t->bytes;
    }
}

static int read_tensors(struct info *info, struct siren_error *err)
{
    struct tensors *ts;
    int rc = tensors_open(&ts, info->path, err);
    if (rc) return rc;
    rc = model_config_read(&info->config, ts, info->path, err);
    if (!rc) rc = tensors_hash(ts, info->hash, err);
    if (!rc) count_tensors(info, ts);
    tensors_close(ts);
    return rc;
}

/* Neither is needed to describe a model: what is wrong with one is part of the answer. */
static void read_text_side(struct info *info)
{
    struct siren_tokenizer *t;
    struct siren_chat *chat;
    if (!siren_tokenizer_load(&t, info->path, &info->tokenizer_error)) {
        info->tokenizer = strdup(siren_tokenizer_kind(t));
        info->n_tokens = siren_tokenizer_size(t);
        siren_tokenizer_free(t);
    }
    if (siren_is_encoder(&info->config)) return;
    if (!siren_chat_load(&chat, info->path, &info->chat_error)) {
        info->chat = strdup(siren_chat_name(chat));
        siren_chat_free(chat);
    }
}

/* ---- text --------------------------------------------------------------- */

static void line(struct cli *cli, const char *label, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void line(struct cli *cli, const char *label, const char *format, ...)
{
    struct buf text = {0};
    va_list args;
    va_start(args, format);
    buf_vprintf(&text, format, args);
    va_end(args);
    cli_print(cli, "%-16s%s\n", label, buf_text(&text));
    buf_free(&text);
}

static void print_rope(struct cli *cli, const struct siren_config *c)
{
    double theta = (double)c->rope_theta, factor = (double)c->rope_factor;
    switch (c->rope_scaling) {
    case SIREN_ROPE_PLAIN:
        line(cli, "RoPE", "base %g", theta);
        break;
    case SIREN_ROPE_LINEAR:
        line(cli, "RoPE", "base %g, linear scaling by %g", theta, factor);
        break;
    case SIREN_ROPE_LLAMA3:
        line(cli, "RoPE", "base %g, Llama 3's scaling by %g from %d positions", theta, factor,
             c->rope_original_positions);
        break;
    case SIREN_ROPE_YARN:
        line(cli, "RoPE", "base %g, YaRN by %g from %d positions", theta, factor,
             c->rope_original_positions);
        break;
    }
}

static const char *pooling_name(const struct siren_config *c)
{
    return c->pooling == SIREN_POOL_CLS ? "cls" : c->pooling == SIREN_POOL_MEAN ? "mean" : "none";
}

static void print_shape(struct cli *cli, const struct siren_config *c)
{
    int encoder = siren_is_encoder(c);
    line(cli, "Architecture", "%s (%s)", siren_arch_name(c->arch),
         encoder ? "sentence encoder" : "language model");
    line(cli, "Layers", "%d", c->n_layers);
    line(cli, "Width", "%d", c->d_model);
    if (c->n_kv_heads == c->n_heads)
        line(cli, "Heads", "%d of %d", c->n_heads, c->head_dim);
    else
        line(cli, "Heads", "%d of %d, %d for keys and values", c->n_heads, c->head_dim,
             c->n_kv_heads);
    line(cli, "Feed-forward", "%d", c->d_ffn);
    line(cli, "Vocabulary", "%s%s", cli_number((uint64_t)c->n_vocab),
         encoder        ? ""
         : c->tied_head ? ", head tied to the embedding"
                        : ", head of its own");
    if (encoder) {
        line(cli, "Longest input", "%s tokens", cli_number((uint64_t)c->max_tokens));
        line(cli, "Pooling", "%s%s", pooling_name(c), c->normalize ? ", then length 1" : "");
    } else {
        line(cli, "Context", "%s tokens", cli_number((uint64_t)c->max_positions));
        print_rope(cli, c);
    }
}

static void print_text_side(struct cli *cli, const struct info *info)
{
    if (info->tokenizer)
        line(cli, "Tokenizer", "%s, %s tokens", info->tokenizer,
             cli_number((uint64_t)info->n_tokens));
    else
        line(cli, "Tokenizer", "none: %s", info->tokenizer_error.message);
    if (siren_is_encoder(&info->config)) return;
    if (info->chat)
        line(cli, "Chat template", "%s", info->chat);
    else
        line(cli, "Chat template", "none: %s", info->chat_error.message);
}

static void print_types(struct cli *cli, const struct info *info)
{
    struct cli_table *table = cli_table_create("Type|Tensors|Parameters|Size", "lrrr");
    int n = 0;
    for (int t = 0; t < TENSOR_TYPES; t++) {
        const struct by_type *type = &info->types[t];
        if (!type->tensors) continue;
        n++;
        cli_table_cell(table, "%s", tensor_type_name((enum tensor_type)t));
        cli_table_cell(table, "%s", cli_number(type->tensors));
        cli_table_cell(table, "%s", cli_number(type->parameters));
        cli_table_cell(table, "%s", cli_bytes(type->bytes));
    }
    if (n > 1) {
        cli_table_rule(table);
        cli_table_cell(table, "all");
        cli_table_cell(table, "%s", cli_number(info->total.tensors));
        cli_table_cell(table, "%s", cli_number(info->total.parameters));
        cli_table_cell(table, "%s", cli_bytes(info->total.bytes));
    }
    cli_print(cli, "\n");
    cli_table_print(cli, table);
}

/* ---- JSON --------------------------------------------------------------- */

static json_t *json_types(const struct info *info)
{
    json_t *all = json_object();
    for (int t = 0; t < TENSOR_TYPES; t++) {
        const struct by_type *type = &info->types[t];
        if (!type->tensors) continue;
        json_object_set_new(all, tensor_type_name((enum tensor_type)t),
                            json_pack("{s:I, s:I, s:I}", "tensors", (json_int_t)type->tensors,
                                      "parameters", (json_int_t)type->parameters, "bytes",
                                      (json_int_t)type->bytes));
    }
    return all;
}

static json_t *json_rope(const struct siren_config *c)
{
    static const char *const names[] = {"default", "linear", "llama3", "yarn"};
    json_t *rope =
        json_pack("{s:f, s:s}", "theta", (double)c->rope_theta, "scaling", names[c->rope_scaling]);
    if (c->rope_scaling != SIREN_ROPE_PLAIN)
        json_object_set_new(rope, "factor", json_real((double)c->rope_factor));
    if (c->rope_scaling > SIREN_ROPE_LINEAR)
        json_object_set_new(rope, "original_positions", json_integer(c->rope_original_positions));
    return rope;
}

static json_t *json_info(const struct info *info)
{
    const struct siren_config *c = &info->config;
    json_t *out = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:s?, s:s, s:o}", "name",
        c->name, "path", info->path, "architecture", siren_arch_name(c->arch), "layers",
        c->n_layers, "width", c->d_model, "heads", c->n_heads, "kv_heads", c->n_kv_heads,
        "head_size", c->head_dim, "feed_forward", c->d_ffn, "vocabulary", c->n_vocab, "parameters",
        (json_int_t)info->total.parameters, "bytes", (json_int_t)info->total.bytes, "tokenizer",
        info->tokenizer, "hash", info->hash, "types", json_types(info));
    if (siren_is_encoder(c)) {
        json_object_set_new(out, "max_tokens", json_integer(c->max_tokens));
        json_object_set_new(out, "pooling", json_string(pooling_name(c)));
        json_object_set_new(out, "normalize", json_boolean(c->normalize));
        return out;
    }
    json_object_set_new(out, "context", json_integer(c->max_positions));
    json_object_set_new(out, "tied_head", json_boolean(c->tied_head));
    json_object_set_new(out, "rope", json_rope(c));
    json_object_set_new(out, "chat_template", info->chat ? json_string(info->chat) : json_null());
    return out;
}

static int run(struct cli *cli)
{
    struct info info = {.path = cli_arg(cli, 0)};
    int rc = read_tensors(&info, &cli->err);
    if (rc) return rc;
    read_text_side(&info);
    if (cli->json) {
        rc = cli_print_json(cli, json_info(&info));
    } else {
        line(cli, "Model", "%s", info.config.name);
        print_shape(cli, &info.config);
        print_text_side(cli, &info);
        line(cli, "Content hash", "%s", info.hash);
        print_types(cli, &info);
    }
    free(info.tokenizer);
    free(info.chat);
    return rc;
}

const struct cli_command cmd_model = {
    .name = "model info",
    .group = CLI_INSPECT,
    .summary = "describe a model: sizes, types, tokenizer, chat template, content hash",
    .usage = "MODEL",
    .description =
        "MODEL is a GGUF file or a Hugging Face folder.  That it is described means that this "
        "program can run it: every setting that changes what the model computes was understood, "
        "and every tensor is there in the right shape.  What is not supported is an error that "
        "names it.\n\n"
        "The content hash identifies the weights: it is the same for the same tensors in another "
        "file or cut into other shards.",
    .common = CLI_JSON,
    .examples =
        (const struct cli_example[]){
            {"siren model info smollm2.gguf", "A table of sizes, and of tensors by type."},
            {"siren model info all-minilm-l6-v2 --json", "The same as one JSON object."},
            {0},
        },
    .run = run,
};
