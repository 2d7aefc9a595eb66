/* siren model info: what a model file holds, and that this program can run it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/parts.h"
#include "base/buf.h"
#include "cli/cli.h"
#include "model/adapter.h"
#include "model/config.h"
#include "siren/adapter.h"
#include "siren/chat.h"
#include "siren/tokenizer.h"
#include "tensor/kernels.h"

struct by_type {
    uint64_t tensors, parameters, bytes;
};

struct info {
    struct siren_config config;
    const char *path;
    char hash[33];
    char identity[256]; /* by which runs and adapters name it */
    struct by_type types[TENSOR_TYPES], total;
    char *tokenizer; /* NULL: none was found; else its kind */
    long n_tokens;
    char *chat; /* NULL: none, or not known */
    struct siren_error tokenizer_error, chat_error;
};

static void count_tensors(struct info *info, const struct tensors *ts)
{
    for (size_t i = 0; i < tensors_count(ts); i++) {
        const struct tensor *t = tensors_at(ts, i);
        struct by_type *type = &info->types[t->type];
        /* Integers are buffers (positions), not parameters. */
        uint64_t n =
            t->type == TENSOR_I64 || t->type == TENSOR_I32 ? 0 : (uint64_t)tensor_elements(t);
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
    int rc = tensors_open_model(&ts, info->path, err);
    if (rc) return rc;
    rc = model_config_read(&info->config, ts, info->path, err);
    if (!rc) rc = tensors_hash(ts, info->hash, err);
    if (!rc) count_tensors(info, ts);
    tensors_close(ts);
    return rc ? rc : siren_model_identity(info->path, info->identity, err);
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

/* What makes --compute bf16 faster than f32 on this machine; NULL: nothing. */
static const char *bf16_instruction(void)
{
    if (isa_best() == ISA_AMX) return "AMX's tiles";
    return isa_best() >= ISA_AVX512 && strstr(isa_describe(), "avx512_bf16") ? "VDPBF16PS" : NULL;
}

static void print_machine(struct cli *cli)
{
    const struct kernels *k = kernels_select(isa_best(), &cli->err);
    const char *bf16 = bf16_instruction();
    line(cli, "This machine", "%s kernels; --compute bf16 %s%s", k ? k->name : "no",
         bf16 ? "is the faster one, by " : "would gain nothing", bf16 ? bf16 : "");
}

static json_t *json_machine(struct cli *cli)
{
    const struct kernels *k = kernels_select(isa_best(), &cli->err);
    return json_pack("{s:s, s:s, s:s?}", "kernels", k ? k->name : "", "features", isa_describe(),
                     "bf16", bf16_instruction());
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
        "{s:o, s:o, s:o, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:s?, s:s, s:o}", "name",
        app_text(c->name), "path", app_text(info->path), "identity", app_text(info->identity),
        "architecture", siren_arch_name(c->arch), "layers", c->n_layers, "width", c->d_model,
        "heads", c->n_heads, "kv_heads", c->n_kv_heads, "head_size", c->head_dim, "feed_forward",
        c->d_ffn, "vocabulary", c->n_vocab, "parameters", (json_int_t)info->total.parameters,
        "bytes", (json_int_t)info->total.bytes, "tokenizer", info->tokenizer, "hash", info->hash,
        "types", json_types(info));
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

/* ---- an adapter --------------------------------------------------------- */

struct adapter_facts {
    const char *path;
    struct siren_adapter_info info;
};

/* "q_proj, v_proj" */
static void target_names(const struct siren_adapter_config *c, char names[96])
{
    size_t used = 0;
    names[0] = 0;
    for (int t = 0; t < SIREN_LORA_TARGETS; t++)
        if (c->targets >> t & 1)
            used += (size_t)snprintf(names + used, 96 - used, "%s%s", used ? ", " : "",
                                     siren_lora_target_name((enum siren_lora_target)t));
}

static void print_adapter(struct cli *cli, const struct adapter_facts *a)
{
    const struct siren_adapter_config *c = &a->info.config;
    char names[96];
    target_names(c, names);
    line(cli, "Adapter", "%s", a->path);
    line(cli, "Identity", "%s", a->info.identity);
    line(cli, "Made for", "%s", *a->info.base ? a->info.base : "a base that it does not name");
    line(cli, "Matrices", "%s of layers %d to %d", names, c->first_layer, c->last_layer);
    line(cli, "Rank", "%d, alpha %g%s", c->r, (double)c->alpha, c->rslora ? ", rsLoRA" : "");
    line(cli, "Parameters", "%s", cli_number(a->info.n_parameters));
}

static json_t *json_adapter(const struct adapter_facts *a)
{
    const struct siren_adapter_config *c = &a->info.config;
    json_t *targets = json_array();
    for (int t = 0; t < SIREN_LORA_TARGETS; t++)
        if (c->targets >> t & 1)
            json_array_append_new(targets,
                                  json_string(siren_lora_target_name((enum siren_lora_target)t)));
    return json_pack("{s:o, s:o, s:s, s:o, s:i, s:i, s:i, s:f, s:b, s:f, s:I}", "path",
                     app_text(a->path), "identity", app_text(a->info.identity), "base",
                     a->info.base, "targets", targets, "first_layer", c->first_layer, "last_layer",
                     c->last_layer, "r", c->r, "alpha", (double)c->alpha, "rslora", c->rslora,
                     "dropout", (double)c->dropout, "parameters", (json_int_t)a->info.n_parameters);
}

/* That it fits is found out by loading it with its base. */
static int check_adapter(struct cli *cli, struct adapter_facts *a, const char *base)
{
    struct siren_pool *pool = cli_pool(cli);
    struct siren_adapter *adapter = NULL;
    struct siren_model *model = NULL;
    if (!pool) return cli->err.code;
    int rc = siren_model_load(&model, base, NULL, pool, &cli->err);
    if (!rc) rc = siren_adapter_load(&adapter, a->path, model, &cli->err);
    siren_adapter_free(adapter);
    siren_model_free(model);
    return rc;
}

static int read_adapter(struct cli *cli, struct adapter_facts *a, const char *base)
{
    int rc = siren_adapter_inspect(&a->info, a->path, &cli->err);
    return rc || !base ? rc : check_adapter(cli, a, base);
}

/* A folder with an adapter, or one of its two files. */
static int is_adapter(const char *path)
{
    struct buf b = {0};
    struct stat st;
    if (adapter_is_file(path)) return 1;
    buf_printf(&b, "%s/" ADAPTER_CONFIG, path);
    int is = !stat(buf_text(&b), &st);
    buf_free(&b);
    return is;
}

static int describe_adapter(struct cli *cli, const char *path)
{
    struct adapter_facts a = {.path = path};
    int rc = read_adapter(cli, &a, NULL);
    if (rc) return rc;
    if (cli->json) return cli_print_json(cli, json_adapter(&a));
    print_adapter(cli, &a);
    return 0;
}

/* ---- the command -------------------------------------------------------- */

static int describe_model(struct cli *cli, const char *path)
{
    struct info info = {.path = path};
    struct adapter_facts adapter = {.path = cli_string(cli, "adapter")};
    int rc = read_tensors(&info, &cli->err);
    if (!rc && adapter.path) rc = read_adapter(cli, &adapter, path);
    if (rc) return rc;
    read_text_side(&info);
    if (cli->json) {
        json_t *out = json_info(&info);
        json_object_set_new(out, "machine", json_machine(cli));
        if (adapter.path) json_object_set_new(out, "adapter", json_adapter(&adapter));
        rc = cli_print_json(cli, out);
    } else {
        line(cli, "Model", "%s", info.config.name);
        print_shape(cli, &info.config);
        print_text_side(cli, &info);
        line(cli, "Identity", "%s", info.identity);
        line(cli, "Content hash", "%s", info.hash);
        print_machine(cli);
        print_types(cli, &info);
        if (adapter.path) {
            cli_print(cli, "\n");
            print_adapter(cli, &adapter);
        }
    }
    free(info.tokenizer);
    free(info.chat);
    return rc;
}

static int run(struct cli *cli)
{
    const char *path = cli_arg(cli, 0);
    return !cli_string(cli, "adapter") && is_adapter(path) ? describe_adapter(cli, path)
                                                           : describe_model(cli, path);
}

const struct cli_command cmd_model = {
    .name = "model info",
    .group = CLI_INSPECT,
    .summary = "describe a model: sizes, types, tokenizer, chat template, identity",
    .usage = "MODEL",
    .description =
        "MODEL is a GGUF file or a Hugging Face folder.  That it is described means that this "
        "program can run it: every setting that changes what the model computes was understood, "
        "and every tensor is there in the right shape.  What is not supported is an error that "
        "names it.\n\n"
        "The identity, NAME#HASH, is how runs, adapters and workspaces name a model, an encoder or "
        "an adapter: its hash is of all that determines the answers, configuration and tokenizer "
        "included, wherever the files lie.  The content hash identifies the weights alone: it is "
        "the same for the same tensors in another file or cut into other shards.\n\n"
        "MODEL may be a LoRA adapter's folder as well; with --adapter it is described beside its "
        "base, after it was loaded with it.",
    .common = CLI_JSON | CLI_THREADS | CLI_ADAPTER,
    .examples =
        (const struct cli_example[]){
            {"siren model info smollm2.gguf", "A table of sizes, and of tensors by type."},
            {"siren model info all-minilm-l6-v2 --json", "The same as one JSON object."},
            {"siren model info smollm2.gguf --adapter films", "What an adapter changes, and that "
                                                              "it fits."},
            {0},
        },
    .run = run,
};
