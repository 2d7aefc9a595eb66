/* Configurations and tensor names: the real spellings, and everything that must be refused. */
#include "model_files.h"
#include "real_models.h"

#include <jansson.h>

#include "model/config.h"
#include "model/names.h"
#include "siren/model.h"
#include "siren/pool.h"

static int read_model(const char *path, struct siren_config *c, struct siren_error *err)
{
    struct tensors *ts;
    int code = tensors_open(&ts, path, err);
    if (!code) code = model_config_read(c, ts, path, err);
    tensors_close(ts);
    return code;
}

static struct siren_config read_fixture(const char *name)
{
    char path[256];
    struct siren_error err;
    struct siren_config c;
    snprintf(path, sizeof path, FIXTURES "%s", name);
    int code = read_model(path, &c, &err);
    if (code) print_error("%s\n", err.message);
    assert_int_equal(code, 0);
    return c;
}

static void test_decoders(void **state)
{
    struct siren_config c = read_fixture("llama");
    assert_int_equal(c.arch, SIREN_LLAMA);
    assert_string_equal(c.name, "llama");
    assert_int_equal(c.n_layers, 2);
    assert_int_equal(c.d_model, 32);
    assert_int_equal(c.n_heads, 2);
    assert_int_equal(c.n_kv_heads, 1);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.d_ffn, 56);
    assert_int_equal(c.n_vocab, 101);
    assert_int_equal(c.max_positions, 128);
    assert_true(c.norm_eps == 1e-6f && c.rope_theta == 10000);
    assert_false(c.tied_head || c.qkv_bias || c.o_bias || c.qk_norm);
    assert_int_equal(c.rope_scaling, SIREN_ROPE_PLAIN);
    c = read_fixture("smol/"); /* a slash at the end is no matter */
    assert_true(c.tied_head && c.norm_eps == 1e-5f);
    assert_string_equal(c.name, "smol");
    c = read_fixture("qwen2");
    assert_true(c.arch == SIREN_QWEN2 && c.qkv_bias && !c.o_bias && !c.qk_norm && c.tied_head);
    c = read_fixture("qwen3");
    assert_true(c.arch == SIREN_QWEN3 && !c.qkv_bias && c.qk_norm && !c.tied_head);
    assert_int_equal(c.n_heads * c.head_dim, 64);
}

static void test_rope_scaling(void **state)
{
    struct siren_config c = read_fixture("llama3");
    assert_int_equal(c.rope_scaling, SIREN_ROPE_LLAMA3);
    assert_true(c.rope_factor == 8 && c.rope_low_freq_factor == 1 && c.rope_high_freq_factor == 4);
    assert_true(c.rope_theta == 500 && c.rope_original_positions == 64);
    c = read_fixture("yarn");
    assert_int_equal(c.rope_scaling, SIREN_ROPE_YARN);
    assert_true(c.rope_factor == 4 && c.rope_beta_fast == 32 && c.rope_beta_slow == 1);
    assert_true(c.rope_theta == 1000 && c.rope_original_positions == 32);
    assert_float_equal(c.rope_attention_factor, 1.138629436f, 1e-7f);
    c = read_fixture("linear");
    assert_int_equal(c.rope_scaling, SIREN_ROPE_LINEAR);
    assert_true(c.rope_factor == 2);
    c = read_fixture("gguf/llama3.gguf"); /* from rope_freqs.weight */
    assert_int_equal(c.rope_scaling, SIREN_ROPE_LLAMA3);
    assert_true(c.rope_factor == 32 && c.rope_low_freq_factor == 1 && c.rope_high_freq_factor == 4);
    assert_int_equal(c.rope_original_positions, 8192);
}

static void test_encoders(void **state)
{
    struct siren_config c = read_fixture("bert");
    assert_true(c.arch == SIREN_BERT && siren_is_encoder(&c));
    assert_true(c.pooling == SIREN_POOL_MEAN && !c.normalize);
    assert_int_equal(c.max_tokens, 72);
    assert_int_equal(c.max_positions, 80);
    assert_int_equal(c.n_token_types, 2);
    assert_int_equal(c.position_offset, 0);
    assert_true(c.norm_eps == 1e-12f && c.qkv_bias && c.o_bias);
    c = read_fixture("xlmr");
    assert_int_equal(c.arch, SIREN_XLMR);
    assert_true(c.pooling == SIREN_POOL_CLS && c.normalize);
    assert_int_equal(c.position_offset, 2);
    assert_int_equal(c.max_positions, 80);
    assert_int_equal(c.max_tokens, 80);
    assert_int_equal(c.n_token_types, 1);
}

/* GGUF and the folder that it was made from give the same configuration. */
static void test_gguf_equals_folder(void **state)
{
    struct siren_config a = read_fixture("smol"), b = read_fixture("gguf/smol-q4_1.gguf");
    assert_string_equal(b.name, "smol-q4_1");
    memcpy(b.name, a.name, sizeof b.name);
    b.rope_original_positions = a.rope_original_positions; /* of no meaning without scaling */
    assert_memory_equal(&a, &b, sizeof a);
    a = read_fixture("qwen3");
    b = read_fixture("gguf/qwen3.gguf");
    memcpy(b.name, a.name, sizeof b.name);
    b.rope_original_positions = a.rope_original_positions;
    assert_memory_equal(&a, &b, sizeof a);
}

/* ---- names -------------------------------------------------------------- */

static void test_rows_in_the_order_of_halves(void **state)
{
    struct siren_error err;
    struct tensors *folder, *gguf;
    struct siren_config c = read_fixture("smol");
    assert_int_equal(tensors_open(&folder, FIXTURES "smol", &err), 0);
    assert_int_equal(tensors_open(&gguf, FIXTURES "gguf/smol-bf16.gguf", &err), 0);
    assert_true(model_rope_permuted(gguf, &c));
    assert_false(model_rope_permuted(folder, &c));
    for (int layer = 0; layer < c.n_layers; layer++)
        for (int which = MODEL_ATTN_NORM; which < MODEL_TENSORS; which++) {
            if (!model_has(&c, (enum model_tensor)which)) continue;
            const struct tensor *a =
                model_tensor(folder, &c, layer, (enum model_tensor)which, &err);
            const struct tensor *b = model_tensor(gguf, &c, layer, (enum model_tensor)which, &err);
            int permuted = which == MODEL_Q || which == MODEL_K;
            int64_t n = a->n_dims == 2 ? a->shape[1] : 1;
            float x[256], y[256];
            for (int64_t r = 0; r < a->shape[0]; r++) {
                int64_t row = permuted ? model_rope_row(&c, r) : r;
                tensor_dequantize(a, r * n, n, x);
                tensor_dequantize(b, row * n, n, y);
                assert_memory_equal(x, y, (size_t)n * sizeof *x);
            }
        }
    tensors_close(folder);
    tensors_close(gguf);
    struct siren_config q = read_fixture("gguf/qwen3.gguf");
    assert_int_equal(tensors_open(&gguf, FIXTURES "gguf/qwen3.gguf", &err), 0);
    assert_false(model_rope_permuted(gguf, &q));
    tensors_close(gguf);
}

static void test_names(void **state)
{
    struct siren_error err;
    struct tensors *ts;
    struct siren_config c = read_fixture("smol");
    assert_int_equal(tensors_open(&ts, FIXTURES "smol", &err), 0);
    assert_ptr_equal(model_tensor(ts, &c, 0, MODEL_HEAD, &err),
                     model_tensor(ts, &c, 0, MODEL_TOKEN_EMBEDDING, &err));
    assert_null(model_tensor(ts, &c, 2, MODEL_Q, &err));
    assert_int_equal(err.code, SIREN_EINVAL);
    assert_null(model_tensor(ts, &c, 0, MODEL_Q_BIAS, &err));
    assert_int_equal(err.code, SIREN_EINVAL);
    assert_false(model_has(&c, MODEL_POSITIONS) || model_has(&c, MODEL_Q_NORM));
    assert_true(model_is_layer_tensor(MODEL_DOWN) && !model_is_layer_tensor(MODEL_FINAL_NORM));
    c.n_layers = 3;
    assert_null(model_tensor(ts, &c, 2, MODEL_Q, &err));
    assert_error(err.code, &err, SIREN_EFORMAT, "smol", "layers.2.self_attn.q_proj.weight",
                 "[32, 32]", "missing", (char *)NULL);
    c.n_layers = 2;
    c.d_ffn = 65;
    assert_int_equal(model_check_tensors(ts, &c, &err), SIREN_EFORMAT);
    assert_error(err.code, &err, SIREN_EFORMAT, "gate_proj", "shape [64, 32]", "expected [65, 32]",
                 (char *)NULL);
    c.d_ffn = 64;
    c.n_layers = 1;
    assert_error(model_check_tensors(ts, &c, &err), &err, SIREN_EUNSUPPORTED, "layers.1.",
                 "no part of a llama model", (char *)NULL);
    tensors_close(ts);
}

/* ---- what must be refused: a fixture's config.json with one key changed -- */

static int set_key(const char *folder, const char *file, const char *key, const char *value)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    json_t *root = json_load_file(path, 0, NULL), *object = root;
    if (!root) root = object = json_object();
    char part[64];
    for (const char *dot; (dot = strchr(key, '/')); key = dot + 1) {
        snprintf(part, sizeof part, "%.*s", (int)(dot - key), key);
        object = json_is_array(object) ? json_array_get(object, (size_t)atoi(part))
                                       : json_object_get(object, part);
    }
    if (value)
        json_object_set_new(object, key, json_loads(value, JSON_DECODE_ANY, NULL));
    else
        json_object_del(object, key);
    int failed = json_dump_file(root, path, 0);
    json_decref(root);
    return failed;
}

/* Reads a copy of the fixture in which FILE's KEY ("a/b" within a; NULL: removed) is VALUE. */
static int read_changed(const char *fixture, const char *file, const char *key, const char *value,
                        struct siren_config *c, struct siren_error *err)
{
    char folder[64], command[256];
    folder_make(folder);
    snprintf(command, sizeof command, "cp -r " FIXTURES "%s/. %s", fixture, folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(set_key(folder, file, key, value), 0);
    int code = read_model(folder, c, err);
    folder_remove(folder);
    return code;
}

struct change {
    const char *fixture, *file, *key, *value;
    int code; /* 0: accepted */
    const char *part;
};

static void check_changes(const struct change *changes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct change *x = &changes[i];
        struct siren_config c;
        struct siren_error err = {0};
        int code = read_changed(x->fixture, x->file, x->key, x->value, &c, &err);
        if (code != x->code)
            print_error("%s %s %s: %s\n", x->fixture, x->key, x->value ? x->value : "removed",
                        err.message);
        if (x->code)
            assert_error(code, &err, x->code, x->part, (char *)NULL);
        else
            assert_int_equal(code, 0);
    }
}

#define CONFIG "config.json"
enum { NO = SIREN_EUNSUPPORTED, BAD = SIREN_EFORMAT };

static void test_refused_decoders(void **state)
{
    static const struct change changes[] = {
        {"llama", CONFIG, "architectures", "[\"MistralForCausalLM\"]", NO, "MistralForCausalLM"},
        {"llama", CONFIG, "architectures", NULL, 0, NULL}, /* model_type says it */
        {"llama", CONFIG, "hidden_act", "\"gelu\"", NO, "\"hidden_act\" is \"gelu\""},
        {"llama", CONFIG, "mlp_bias", "true", NO, "mlp_bias"},
        {"llama", CONFIG, "attention_bias", "true", BAD, "q_proj.bias"},
        {"llama", CONFIG, "sliding_window", "64", NO, "sliding_window"},
        {"llama", CONFIG, "sliding_window", "null", 0, NULL},
        {"llama", CONFIG, "partial_rotary_factor", "0.5", NO, "partial_rotary_factor"},
        {"llama", CONFIG, "rope_interleaved", "true", NO, "rope_interleaved"},
        {"llama", CONFIG, "quantization_config", "{\"bits\":4}", NO, "quantization_config"},
        {"llama", CONFIG, "hidden_size", "-1", BAD, "hidden_size"},
        {"llama", CONFIG, "hidden_size", "32.5", BAD, "hidden_size"},
        {"llama", CONFIG, "hidden_size", NULL, BAD, "\"hidden_size\" is missing"},
        {"llama", CONFIG, "hidden_size", "48", BAD, "expected [101, 48]"},
        {"llama", CONFIG, "num_hidden_layers", "100000", BAD, "number of layers is 100000"},
        {"llama", CONFIG, "num_hidden_layers", "3", BAD, "layers.2."},
        {"llama", CONFIG, "num_attention_heads", "0", BAD, "number of heads is 0"},
        {"llama", CONFIG, "num_key_value_heads", "3", BAD, "share 3 key-value heads"},
        {"llama", CONFIG, "head_dim", "15", BAD, "odd"},
        {"llama", CONFIG, "rms_norm_eps", "0", BAD, "epsilon"},
        {"llama", CONFIG, "rope_parameters/rope_theta", "0", BAD, "theta"},
        {"llama", CONFIG, "rope_parameters", "{\"rope_type\":\"dynamic\",\"factor\":2}", NO,
         "\"dynamic\""},
        {"llama", CONFIG, "rope_parameters", "{\"full_attention\":{\"rope_theta\":1e4}}", NO,
         "one RoPE for all layers"},
        {"llama", CONFIG, "tie_word_embeddings", "true", 0, NULL}, /* its lm_head is ignored */
        {"smol", CONFIG, "tie_word_embeddings", "false", BAD, "lm_head.weight [288, 32]"},
        {"llama3", CONFIG, "rope_scaling/low_freq_factor", NULL, BAD, "rope_scaling: \"low_freq"},
        {"llama3", CONFIG, "rope_scaling/factor", NULL, BAD, "factor"},
        {"llama3", CONFIG, "rope_scaling/high_freq_factor", "1", BAD, "high_freq_factor"},
        {"yarn", CONFIG, "rope_parameters/truncate", "false", NO, "truncate"},
        {"yarn", CONFIG, "rope_parameters/attention_factor", "-1", BAD, "attention_factor"},
        {"qwen2", CONFIG, "use_sliding_window", "true", 0, NULL}, /* no window is given */
        {"qwen2", CONFIG, "layer_types", "[\"full_attention\",\"sliding_attention\"]", NO,
         "full attention in every layer"},
        {"qwen3", CONFIG, "head_dim", NULL, BAD, "expected [512, 32]"}, /* 128, as the class says */
        {"qwen3", CONFIG, "num_key_value_heads", NULL, BAD, "num_key_value_heads"},
    };
    check_changes(changes, sizeof changes / sizeof *changes);
}

static void test_refused_encoders(void **state)
{
    static const struct change changes[] = {
        {"bert", CONFIG, "hidden_act", "\"gelu_new\"", NO, "gelu_new"},
        {"bert", CONFIG, "position_embedding_type", "\"relative_key\"", NO, "relative_key"},
        {"bert", CONFIG, "is_decoder", "true", NO, "is_decoder"},
        {"bert", CONFIG, "num_attention_heads", "3", BAD, "do not make the width 32"},
        {"bert", CONFIG, "type_vocab_size", "3", BAD, "token_type_embeddings"},
        {"bert", "modules.json", "0/type", "\"x.CLIPModel\"", NO, "module 0 is \"CLIPModel\""},
        {"xlmr", "modules.json", "2/type", "\"x.Dense\"", NO, "module 2 is \"Dense\""},
        {"bert", "modules.json", "1/path", "\"../1_Pooling\"", NO, "module 1"},
        {"bert", "1_Pooling/config.json", "pooling_mode_max_tokens", "true", NO,
         "pooling_mode_max_tokens"},
        {"bert", "1_Pooling/config.json", "pooling_mode_cls_token", "true", NO, "pooling_mode"},
        {"bert", "1_Pooling/config.json", "word_embedding_dimension", "64", BAD, "vectors of 64"},
        {"xlmr", "1_Pooling/config.json", "pooling_mode", "\"lasttoken\"", NO, "lasttoken"},
        {"xlmr", "1_Pooling/config.json", "pooling_mode", "[\"cls\",\"mean\"]", NO, "pooling_mode"},
        {"xlmr", CONFIG, "pad_token_id", "200", BAD, "number of positions"},
        {"xlmr", CONFIG, "max_position_embeddings", "83", BAD, "position_embeddings"},
        {"bert", "sentence_bert_config.json", "do_lower_case", "true", 0,
         NULL}, /* so does bert's own */
        {"xlmr", "sentence_bert_config.json", "do_lower_case", "true", NO, "do_lower_case"},
        {"bert", "sentence_bert_config.json", "max_seq_length", "0", BAD, "longest input"},
        {"bert", "config_sentence_transformers.json", "prompts", "{\"q\":\"query: \"}", 0, NULL},
    };
    check_changes(changes, sizeof changes / sizeof *changes);
}

static void test_lengths(void **state)
{
    struct siren_config c;
    struct siren_error err;
    const char *file = "sentence_bert_config.json";
    assert_int_equal(read_changed("bert", file, "max_seq_length", "null", &c, &err), 0);
    assert_int_equal(c.max_tokens, 80);
    assert_int_equal(read_changed("bert", file, "max_seq_length", "100", &c, &err), 0);
    assert_int_equal(c.max_tokens, 80);
    assert_int_equal(
        read_changed("xlmr", "tokenizer_config.json", "model_max_length", "64", &c, &err), 0);
    assert_int_equal(c.max_tokens, 64);
}

static void test_broken_files(void **state)
{
    char folder[64], path[128], command[256];
    struct siren_config c;
    struct siren_error err;
    folder_make(folder);
    snprintf(command, sizeof command, "cp " FIXTURES "llama/model.safetensors %s", folder);
    assert_int_equal(system(command), 0);
    assert_error(read_model(folder, &c, &err), &err, SIREN_ENOTFOUND, "config.json", (char *)NULL);
    file_write(path, sizeof path, folder, "config.json", "{\n\"a\": }", 8);
    assert_error(read_model(folder, &c, &err), &err, SIREN_EFORMAT, "config.json:2", (char *)NULL);
    file_write(path, sizeof path, folder, "config.json", "[]", 2);
    assert_error(read_model(folder, &c, &err), &err, SIREN_EFORMAT, "no JSON object", (char *)NULL);
    file_write(path, sizeof path, folder, "config.json", "{}", 2);
    assert_error(read_model(folder, &c, &err), &err, SIREN_EUNSUPPORTED, "not stated",
                 (char *)NULL);
    folder_remove(folder);
}

/* ---- sizes of the kernels ---- */

/* The header's next tensor of BF16; *at bytes of data come before it. */
static void put_tensor(struct buf *header, const char *name, int rows, int columns, size_t *at)
{
    size_t size = 2 * (size_t)rows * (size_t)(columns ? columns : 1);
    buf_printf(header, "%s\"model.%s.weight\": {\"dtype\": \"BF16\", \"shape\": ", *at ? ", " : "{",
               name);
    buf_printf(header, columns ? "[%d, %d]" : "[%d]", rows, columns);
    buf_printf(header, ", \"data_offsets\": [%zu, %zu]}", *at, *at + size);
    *at += size;
}

/* A model of zeros of one layer with one head, whose matrices fit its size. */
static int load_head(int head_dim, struct siren_pool *pool, struct siren_error *err)
{
    enum { D = 16, FFN = 32, VOCAB = 8 };
    const struct {
        const char *name;
        int rows, columns;
    } tensors[] = {{"embed_tokens", VOCAB, D},
                   {"norm", D, 0},
                   {"layers.0.input_layernorm", D, 0},
                   {"layers.0.post_attention_layernorm", D, 0},
                   {"layers.0.self_attn.q_proj", head_dim, D},
                   {"layers.0.self_attn.k_proj", head_dim, D},
                   {"layers.0.self_attn.v_proj", head_dim, D},
                   {"layers.0.self_attn.o_proj", D, head_dim},
                   {"layers.0.mlp.gate_proj", FFN, D},
                   {"layers.0.mlp.up_proj", FFN, D},
                   {"layers.0.mlp.down_proj", D, FFN}};
    struct buf header = {0}, file = {0}, config = {0};
    struct siren_model *model;
    char folder[64], path[128];
    size_t n_data = 0;
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        put_tensor(&header, tensors[i].name, tensors[i].rows, tensors[i].columns, &n_data);
    buf_putc(&header, '}');
    put_safetensors(&file, buf_text(&header), n_data);
    buf_printf(&config,
               "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": %d, "
               "\"intermediate_size\": %d, \"vocab_size\": %d, \"head_dim\": %d, "
               "\"num_attention_heads\": 1, \"num_key_value_heads\": 1, "
               "\"num_hidden_layers\": 1, \"max_position_embeddings\": 64, "
               "\"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": true}",
               D, FFN, VOCAB, head_dim);
    folder_make(folder);
    file_write(path, sizeof path, folder, "model.safetensors", file.data, file.size);
    file_write(path, sizeof path, folder, "config.json", config.data, config.size);
    int code = siren_model_load(&model, folder, NULL, pool, err);
    if (!code) siren_model_free(model);
    folder_remove(folder);
    buf_free(&header);
    buf_free(&file);
    buf_free(&config);
    return code;
}

/* A wider head would overrun the scratch of attention. */
static void test_sizes_of_heads(void **state)
{
    struct siren_pool *pool;
    struct siren_error err = {0};
    assert_int_equal(siren_pool_create(&pool, 1, &err), 0);
    if (load_head(512, pool, &err)) fail_msg("%s", err.message);
    assert_error(load_head(528, pool, &err), &err, NO, "heads of 528", "expected at most 512",
                 (char *)NULL);
    assert_error(load_head(4096, pool, &err), &err, NO, "heads of 4096", (char *)NULL);
    assert_error(load_head(24, pool, &err), &err, NO, "heads of 24", "a multiple of 16",
                 (char *)NULL);
    siren_pool_free(pool);
}

/* ---- GGUF metadata ------------------------------------------------------ */

/* smol-q4_0 with one metadata entry more. */
static int read_gguf_with(const char *key, uint32_t type, const void *value, size_t size,
                          struct siren_error *err)
{
    struct siren_config c;
    struct buf b = {0}, entry = {0};
    char folder[64], path[128];
    size_t n;
    unsigned char *data = file_load(FIXTURES "gguf/smol-q4_0.gguf", &n);
    put_string(&entry, key);
    put_u32(&entry, type);
    buf_append(&entry, value, size);
    /* A second entry fills up to a multiple of 32, so that the data section keeps its place. */
    size_t filler = 31 - (entry.size + 8 + 1 + 4 + 8 + 31) % 32;
    put_string(&entry, "x");
    put_u32(&entry, 8);
    put_u64(&entry, filler);
    for (size_t i = 0; i < filler; i++) buf_putc(&entry, '.');
    assert_int_equal(entry.size % 32, 0);
    uint64_t count;
    memcpy(&count, data + 16, sizeof count);
    count += 2;
    buf_append(&b, data, 16);
    buf_append(&b, &count, sizeof count);
    buf_append(&b, entry.data, entry.size);
    buf_append(&b, data + 24, n - 24);
    folder_make(folder);
    file_write(path, sizeof path, folder, "m.gguf", b.data, b.size);
    int code = read_model(path, &c, err);
    folder_remove(folder);
    buf_free(&b);
    buf_free(&entry);
    free(data);
    return code;
}

static void test_refused_gguf(void **state)
{
    struct siren_error err;
    uint32_t one = 1, window = 64;
    float half = 0.5f, scale = 0.25f;
    assert_int_equal(read_gguf_with("general.file_type", 4, &one, 4, &err), 0);
    assert_error(read_gguf_with("llama.attention.sliding_window", 4, &window, 4, &err), &err, NO,
                 "llama.attention.sliding_window is 64", "no sliding window", (char *)NULL);
    assert_error(read_gguf_with("llama.expert_count", 4, &one, 4, &err), &err, NO, "expert_count",
                 (char *)NULL);
    assert_error(read_gguf_with("llama.logit_scale", 6, &half, 4, &err), &err, NO,
                 "llama.logit_scale", "not known", (char *)NULL);
    assert_error(read_gguf_with("llama.attention.scale", 6, &half, 4, &err), &err, NO,
                 "llama.attention.scale", (char *)NULL);
    assert_int_equal(read_gguf_with("llama.attention.scale", 6, &scale, 4, &err), 0);
    struct buf text = {0};
    put_string(&text, "longrope");
    assert_error(read_gguf_with("llama.rope.scaling.type", 8, text.data, text.size, &err), &err, NO,
                 "longrope", (char *)NULL);
    buf_free(&text);
    assert_error(read_gguf_with("llama.block_count", 4, &one, 4, &err), &err, BAD, "twice",
                 (char *)NULL);
    uint16_t parts = 2;
    assert_error(read_gguf_with("split.count", 2, &parts, 2, &err), &err, NO, "2 parts",
                 (char *)NULL);
}

/* Whatever bytes the name holds, what comes out is UTF-8 on one line. */
static void test_hostile_name(void **state)
{
    char folder[64], path[128];
    struct siren_config c;
    struct siren_error err;
    size_t n;
    char *data = file_load(FIXTURES "gguf/smol-q4_0.gguf", &n);
    char *name = memmem(data, n, "smol-q4_0", 9);
    assert_non_null(name);
    memcpy(name, "a\xff\nb\xc3\xa9z\0\xe6", 9);
    folder_make(folder);
    file_write(path, sizeof path, folder, "m.gguf", data, n);
    assert_int_equal(read_model(path, &c, &err), 0);
    assert_string_equal(c.name, "a??b\xc3\xa9z??");
    folder_remove(folder);
    free(data);
}

static void test_arch_names(void **state)
{
    assert_string_equal(siren_arch_name(SIREN_QWEN3), "qwen3");
    assert_string_equal(siren_arch_name((enum siren_arch)99), "unknown");
}

static void test_real_models(void **state)
{
    const char *models = real_models();
    struct siren_error err;
    struct siren_config c;
    char path[512];
    snprintf(path, sizeof path, "%s/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf", models);
    assert_int_equal(read_model(path, &c, &err), 0);
    assert_int_equal(c.n_layers, 30);
    assert_true(c.tied_head && c.rope_theta == 100000 && c.max_positions == 8192);
    snprintf(path, sizeof path, "%s/all-minilm-l6-v2", models);
    assert_int_equal(read_model(path, &c, &err), 0);
    assert_true(c.pooling == SIREN_POOL_MEAN && c.normalize);
    assert_int_equal(c.max_tokens, 256);
    assert_int_equal(c.head_dim, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoders),
        cmocka_unit_test(test_rope_scaling),
        cmocka_unit_test(test_encoders),
        cmocka_unit_test(test_gguf_equals_folder),
        cmocka_unit_test(test_rows_in_the_order_of_halves),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_refused_decoders),
        cmocka_unit_test(test_refused_encoders),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_sizes_of_heads),
        cmocka_unit_test(test_refused_gguf),
        cmocka_unit_test(test_hostile_name),
        cmocka_unit_test(test_arch_names),
        cmocka_unit_test(test_real_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
