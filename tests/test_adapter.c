/* LoRA adapters: initial values, PEFT's files both ways, what is refused, damaged files.  The
 * adapters of PEFT and the check of ours there: tests/reference/adapter_peft.py. */
/* check: portable */
#include "engine_fixture.h"
#include "model_files.h"

#include <jansson.h>
#include <math.h>

#include "model/adapter.h"
#include "siren/file.h"
#include "weights/safetensors_write.h"
#include "weights/tensors.h"

#define LLAMA FIXTURES "llama"
#define QWEN3 FIXTURES "qwen3"
#define PEFT "tests/fixtures/adapters/peft-"
enum { KV = 1 << SIREN_LORA_K | 1 << SIREN_LORA_V };

static const struct siren_adapter_config kv = {
    .targets = KV, .last_layer = 1, .r = 8, .alpha = 16, .dropout = 0.05f, .seed = 11};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    fixture_open(f, LLAMA, NULL, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

static struct siren_adapter *create(const struct fixture *f,
                                    const struct siren_adapter_config *config)
{
    struct siren_adapter *a;
    struct siren_error err;
    if (siren_adapter_create(&a, f->model, config, &err)) fail_msg("%s", err.message);
    return a;
}

/* ---- creating ---- */

static void test_initial_values(void **state)
{
    struct siren_adapter *a = create(*state, &kv);
    struct siren_params p = siren_adapter_params(a);
    assert_int_equal(p.n, 8); /* two layers, k and v, A and B */
    assert_string_equal(p.list[0].name,
                        "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight");
    assert_string_equal(p.list[7].name,
                        "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight");
    assert_int_equal(p.list[0].rows, 8);
    assert_int_equal(p.list[0].columns, 32);
    assert_int_equal(p.list[1].rows, 16);
    assert_int_equal(p.list[1].columns, 8);
    double bound = 1 / sqrt(32), most = 0, sum = 0;
    for (int i = 0; i < 8 * 32; i++) {
        double x = (double)p.list[0].value[i];
        if (fabs(x) > most) most = fabs(x);
        sum += x;
    }
    assert_true(most <= bound && most > 0.95 * bound);
    assert_true(fabs(sum / 256) < 4 * bound / sqrt(3.0 * 256));
    for (int i = 0; i < 16 * 8; i++) assert_true(p.list[1].value[i] == 0);
    assert_true(memcmp(p.list[0].value, p.list[2].value, 8 * 32 * sizeof(float)) != 0);
    assert_true(a->scale == 2);
    siren_adapter_free(a);
}

static void test_seed_and_targets(void **state)
{
    struct siren_adapter_config other = kv, wider = kv;
    other.seed = 12;
    wider.targets = (1 << SIREN_LORA_TARGETS) - 1;
    wider.rslora = 1;
    struct siren_adapter *a = create(*state, &kv), *b = create(*state, &kv),
                         *c = create(*state, &other), *d = create(*state, &wider);
    size_t bytes = a->n_values * sizeof(float);
    assert_memory_equal(a->values, b->values, bytes);
    assert_true(memcmp(a->values, c->values, bytes) != 0);
    /* a factor does not depend on which others there are */
    const struct lora_factors *k = &a->factors[SIREN_LORA_TARGETS + SIREN_LORA_K],
                              *same = &d->factors[SIREN_LORA_TARGETS + SIREN_LORA_K];
    assert_memory_equal(k->a, same->a, 8 * 32 * sizeof(float));
    assert_int_equal(d->factors[SIREN_LORA_DOWN].in, 56);
    assert_true(fabs((double)d->scale - 16 / sqrt(8)) < 1e-6);
    siren_adapter_free(a);
    siren_adapter_free(b);
    siren_adapter_free(c);
    siren_adapter_free(d);
    siren_adapter_free(NULL);
}

static void test_gradients_and_versions(void **state)
{
    struct siren_adapter *a = create(*state, &kv), *b = create(*state, &kv);
    struct siren_error err;
    assert_null(siren_adapter_params(a).list[0].grad);
    assert_int_equal(siren_adapter_trainable(a, &err), 0);
    struct siren_params p = siren_adapter_params(a);
    const struct lora_factors *k = &a->factors[SIREN_LORA_K];
    assert_ptr_equal(p.list[0].grad, k->da);
    assert_ptr_equal(p.list[1].grad, k->db);
    assert_true(p.list[0].grad[0] == 0);
    float *before = p.list[0].grad;
    assert_int_equal(siren_adapter_trainable(a, &err), 0);
    assert_ptr_equal(siren_adapter_params(a).list[0].grad, before);
    uint64_t version = a->version;
    assert_true(version && b->version && version != b->version);
    siren_adapter_changed(a);
    assert_true(a->version != version && a->version != b->version);
    siren_adapter_free(a);
    siren_adapter_free(b);
}

static void refuse_config(const struct fixture *f, struct siren_adapter_config config,
                          const char *part)
{
    struct siren_adapter *a;
    struct siren_error err;
    assert_error(siren_adapter_create(&a, f->model, &config, &err), &err, SIREN_EINVAL, part,
                 (char *)NULL);
    assert_null(a);
}

static void test_refused_configs(void **state)
{
    struct siren_adapter_config c = kv;
    c.targets = 0;
    refuse_config(*state, c, "targets");
    c.targets = 1 << SIREN_LORA_TARGETS;
    refuse_config(*state, c, "targets");
    c = kv, c.last_layer = 2;
    refuse_config(*state, c, "layers 0 to 2");
    c = kv, c.first_layer = -1;
    refuse_config(*state, c, "layers -1");
    c = kv, c.r = 0;
    refuse_config(*state, c, "r is 0");
    c = kv, c.alpha = NAN;
    refuse_config(*state, c, "alpha");
    c = kv, c.alpha = 2e6f; /* what could be saved, but not loaded */
    refuse_config(*state, c, "alpha is 2e+06, expected 1e-06 to 1e+06");
    c = kv, c.dropout = 1;
    refuse_config(*state, c, "dropout");
    c = kv, c.dropout = 0.9995f;
    refuse_config(*state, c, "expected 0 to 0.999");
    struct fixture encoder;
    struct siren_adapter *a;
    fixture_open(&encoder, FIXTURES "bert", NULL, 1);
    assert_error(siren_adapter_create(&a, encoder.model, &kv, &encoder.err), &encoder.err,
                 SIREN_EUNSUPPORTED, "bert", (char *)NULL);
    fixture_close(&encoder);
}

/* ---- files ---- */

static void same_adapters(const struct siren_adapter *a, const struct siren_adapter *b)
{
    const struct siren_adapter_config *x = siren_adapter_config(a), *y = siren_adapter_config(b);
    assert_int_equal(x->targets, y->targets);
    assert_int_equal(x->first_layer, y->first_layer);
    assert_int_equal(x->last_layer, y->last_layer);
    assert_int_equal(x->r, y->r);
    assert_true(x->alpha == y->alpha && x->dropout == y->dropout);
    assert_int_equal(x->rslora, y->rslora);
    assert_int_equal(x->seed, y->seed);
    assert_int_equal(a->n_values, b->n_values);
    assert_memory_equal(a->values, b->values, a->n_values * sizeof(float));
}

static void test_round_trip(void **state)
{
    const struct fixture *f = *state;
    struct siren_adapter_config config = {.targets = 1 << SIREN_LORA_Q | 1 << SIREN_LORA_DOWN,
                                          .first_layer = 1,
                                          .last_layer = 1,
                                          .r = 3,
                                          .alpha = 0.1f,
                                          .dropout = 0.1f,
                                          .rslora = 1,
                                          .seed = UINT64_MAX};
    struct siren_adapter *a = create(f, &config), *b;
    struct siren_adapter_info info;
    struct siren_error err;
    char folder[64], path[160], identity[256];
    for (size_t i = 0; i < a->n_values; i++) a->values[i] = (float)siren_random_normal(1, 2, i);
    folder_make(folder);
    snprintf(path, sizeof path, "%s/adapter", folder);
    assert_int_equal(siren_model_identity(LLAMA, identity, &err), 0);
    for (int again = 0; again < 2; again++) /* the second replaces the first */
        if (siren_adapter_save(a, path, identity, &err)) fail_msg("%s", err.message);
    if (siren_adapter_load(&b, path, f->model, &err)) fail_msg("%s", err.message);
    same_adapters(a, b);
    assert_int_equal(siren_adapter_inspect(&info, path, &err), 0);
    assert_string_equal(info.base, identity);
    siren_adapter_free(b);
    assert_error(siren_adapter_load(&b, folder, f->model, &err), &err, SIREN_ENOTFOUND,
                 "did you mean", path, (char *)NULL);
    strcat(path, "/adapter_model.safetensors");
    if (siren_adapter_load(&b, path, f->model, &err)) fail_msg("%s", err.message);
    same_adapters(a, b);
    siren_adapter_free(b);
    siren_adapter_free(a);
    folder_remove(folder);
}

/* Loads what PEFT wrote and saves it: into $SIREN_ADAPTER_OUT/NAME where that is set, for the check
 * in PEFT. */
static void through_us(const char *name, unsigned targets, int first_layer, int r, float alpha,
                       int rslora)
{
    struct fixture f;
    struct siren_adapter *a, *b;
    struct siren_adapter_info info;
    char path[256], folder[64], out[256];
    const char *wanted = getenv("SIREN_ADAPTER_OUT");
    snprintf(path, sizeof path, FIXTURES "%s", name);
    fixture_open(&f, path, NULL, 1);
    snprintf(path, sizeof path, PEFT "%s", name);
    if (siren_adapter_load(&a, path, f.model, &f.err)) fail_msg("%s", f.err.message);
    const struct siren_adapter_config *c = siren_adapter_config(a);
    assert_int_equal(c->targets, targets);
    assert_int_equal(c->first_layer, first_layer);
    assert_int_equal(c->last_layer, 1);
    assert_int_equal(c->r, r);
    assert_true(c->alpha == alpha);
    assert_int_equal(c->rslora, rslora);
    assert_int_equal(siren_adapter_inspect(&info, path, &f.err), 0);
    assert_string_equal(info.base, "");
    folder_make(folder);
    if (wanted) mkdir(wanted, 0777);
    snprintf(out, sizeof out, "%s/%s", wanted ? wanted : folder, name);
    if (siren_adapter_save(a, out, NULL, &f.err)) fail_msg("%s", f.err.message);
    if (siren_adapter_load(&b, out, f.model, &f.err)) fail_msg("%s", f.err.message);
    same_adapters(a, b);
    siren_adapter_free(a);
    siren_adapter_free(b);
    folder_remove(folder);
    fixture_close(&f);
}

static void test_peft(void **state)
{
    through_us("llama", KV, 0, 8, 16, 0);
    through_us("qwen3", (1 << SIREN_LORA_TARGETS) - 1, 1, 3, 4, 1); /* bf16, layer 1 alone */
}

/* The factors are the file's, under their own names. */
static void test_peft_values(void **state)
{
    const struct fixture *f = *state;
    struct siren_adapter *a;
    struct siren_error err;
    struct tensors *ts;
    assert_int_equal(siren_adapter_load(&a, PEFT "llama", f->model, &err), 0);
    assert_int_equal(tensors_open(&ts, PEFT "llama/adapter_model.safetensors", &err), 0);
    struct siren_params p = siren_adapter_params(a);
    assert_int_equal(p.n, tensors_count(ts));
    for (size_t i = 0; i < p.n; i++) {
        const struct tensor *t = tensors_find(ts, p.list[i].name);
        assert_non_null(t);
        assert_memory_equal(p.list[i].value, t->data, t->bytes);
    }
    tensors_close(ts);
    siren_adapter_free(a);
}

/* ---- refusing ---- */

static void test_other_base(void **state)
{
    const struct fixture *f = *state;
    struct siren_adapter *a = create(f, &kv);
    struct siren_error err;
    char folder[64], identity[256];
    folder_make(folder);
    assert_int_equal(siren_model_identity(LLAMA, identity, &err), 0);
    assert_int_equal(siren_adapter_save(a, folder, "llama#0123456789abcdef", &err), 0);
    siren_adapter_free(a);
    assert_error(siren_adapter_load(&a, folder, f->model, &err), &err, SIREN_EINVAL,
                 "llama#0123456789abcdef", identity, (char *)NULL);
    assert_null(a);
    /* without a stated base, the shapes decide */
    struct fixture q;
    fixture_open(&q, QWEN3, NULL, 1);
    assert_true(siren_adapter_load(&a, PEFT "qwen3", f->model, &err) < 0);
    assert_null(a);
    assert_int_equal(siren_adapter_load(&a, PEFT "qwen3", q.model, &err), 0);
    siren_adapter_free(a);
    fixture_close(&q);
    folder_remove(folder);
}

#define CONFIG(rest) "{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":16" rest "}"

static void parse(const char *text, int code, const char *part, const char *part2)
{
    struct siren_adapter_config c;
    struct siren_error err = {0};
    int got = adapter_config_parse(&c, text, strlen(text), "adapter_config.json", &err);
    if (code)
        assert_error(got, &err, code, "adapter_config.json", part, part2, (char *)NULL);
    else
        assert_int_equal(got, 0);
}

static void test_unsupported(void **state)
{
    parse(CONFIG(""), 0, NULL, NULL);
    parse(CONFIG(",\"use_dora\":false,\"new_thing\":null,\"rank_pattern\":{}"), 0, NULL, NULL);
    parse(CONFIG(",\"init_lora_weights\":\"gaussian\""), 0, NULL, NULL);
    static const char *const refused[] = {
        "\"use_dora\":true",
        "\"rank_pattern\":{\"q_proj\":4}",
        "\"alpha_pattern\":{\"q_proj\":4}",
        "\"modules_to_save\":[\"lm_head\"]",
        "\"bias\":\"all\"",
        "\"lora_bias\":true",
        "\"fan_in_fan_out\":true",
        "\"layer_replication\":[[0,1]]",
        "\"init_lora_weights\":\"pissa\"",
        "\"task_type\":\"SEQ_CLS\"",
        "\"trainable_token_indices\":[1]",
        "\"target_parameters\":[\"x\"]",
        "\"alora_invocation_tokens\":[1]",
        "\"thing_of_tomorrow\":1",
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char text[256], key[64];
        snprintf(text, sizeof text, CONFIG(",%s"), refused[i]);
        snprintf(key, sizeof key, "%.*s", (int)(strchr(refused[i] + 1, '"') - refused[i] + 1),
                 refused[i]);
        parse(text, SIREN_EUNSUPPORTED, key, NULL);
    }
    parse("{\"peft_type\":\"IA3\",\"r\":8,\"lora_alpha\":16}", SIREN_EUNSUPPORTED, "IA3", NULL);
}

static void test_damaged_configs(void **state)
{
    parse("", SIREN_EFORMAT, "no JSON", NULL);
    parse("[]", SIREN_EFORMAT, "no JSON object", NULL);
    parse("{}", SIREN_EFORMAT, "\"peft_type\" is missing", NULL);
    parse("{\"peft_type\":\"LORA\"}", SIREN_EFORMAT, "\"r\" is missing", NULL);
    parse("{\"peft_type\":\"LORA\",\"r\":0,\"lora_alpha\":1}", SIREN_EFORMAT, "\"r\"", NULL);
    parse("{\"peft_type\":\"LORA\",\"r\":1.5,\"lora_alpha\":1}", SIREN_EFORMAT, "integer", NULL);
    parse("{\"peft_type\":\"LORA\",\"r\":1e30,\"lora_alpha\":1}", SIREN_EFORMAT, "\"r\"", NULL);
    parse("{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":-1}", SIREN_EFORMAT, "\"lora_alpha\"",
          NULL);
    parse(CONFIG(",\"r\":4"), SIREN_EFORMAT, "duplicate", NULL);
    parse(CONFIG(",\"lora_dropout\":1"), SIREN_EFORMAT, "\"lora_dropout\"", NULL);
    parse(CONFIG(",\"use_rslora\":\"yes\""), SIREN_EFORMAT, "\"use_rslora\"", NULL);
}

/* The adapter of PEFT on llama, with one thing done to its folder; expects that error. */
static void refuse_folder(const struct fixture *f, const char *command, int code, const char *part)
{
    char folder[64], line[512];
    struct siren_adapter *a;
    struct siren_error err;
    folder_make(folder);
    snprintf(line, sizeof line, "cp " PEFT "llama/adapter_* %s && cd %s && %s", folder, folder,
             command);
    assert_int_equal(system(line), 0);
    assert_error(siren_adapter_load(&a, folder, f->model, &err), &err, code, folder, part,
                 (char *)NULL);
    assert_null(a);
    folder_remove(folder);
}

static void test_damaged_files(void **state)
{
    refuse_folder(*state, "rm adapter_config.json", SIREN_ENOTFOUND, "adapter_config.json");
    refuse_folder(*state, "rm adapter_model.safetensors", SIREN_ENOTFOUND, "adapter_model");
    refuse_folder(*state, "truncate -s 5000 adapter_model.safetensors", SIREN_EFORMAT, "tensor");
    refuse_folder(*state, "truncate -s 3 adapter_model.safetensors", SIREN_EFORMAT, "byte 0");
    refuse_folder(*state, "sed -i 's/\"r\": 8/\"r\": 4/' adapter_config.json", SIREN_EFORMAT,
                  "has shape [8, 32], but r is 4 in adapter_config.json");
    refuse_folder(*state, "sed -i 's/\"r\": 8/\"r\": 4096/' adapter_config.json", SIREN_EFORMAT,
                  "but r is 4096");
    refuse_folder(*state, "sed -i 's/layers.0.self_attn.k/layers.7.self_attn.k/g' adapter_model*",
                  SIREN_EUNSUPPORTED, "layers.7");
    refuse_folder(*state, "sed -i 's/layers.0.self_attn.k/layers.0.self_attn.o/g' adapter_model*",
                  SIREN_EUNSUPPORTED, "is missing");
    refuse_folder(*state, "sed -i 's/lora_A/lora_E/g' adapter_model.safetensors",
                  SIREN_EUNSUPPORTED, "no LoRA factor");
    refuse_folder(*state,
                  "printf '\\377\\377\\377\\177' | dd of=adapter_model.safetensors bs=1 "
                  "seek=$(($(stat -c %s adapter_model.safetensors) - 4)) conv=notrunc status=none",
                  SIREN_ENUMERIC, "not finite");
}

/* A file beside the adapter is not the adapter. */
static void test_other_files(void **state)
{
    static const char *const own[] = {"", "/adapter_model.safetensors", "/adapter_config.json"};
    const struct fixture *f = *state;
    struct siren_adapter *a = create(f, &kv);
    struct siren_adapter_info info;
    struct siren_error err;
    char folder[64], path[200];
    folder_make(folder);
    assert_int_equal(siren_adapter_save(a, folder, NULL, &err), 0);
    siren_adapter_free(a);
    file_write(path, sizeof path, folder, "other.safetensors", "x", 1);
    assert_error(siren_adapter_load(&a, path, f->model, &err), &err, SIREN_EINVAL,
                 "other.safetensors",
                 "expected an adapter's folder or the adapter_model.safetensors", (char *)NULL);
    assert_null(a);
    assert_error(siren_adapter_inspect(&info, path, &err), &err, SIREN_EINVAL, "other.safetensors",
                 (char *)NULL);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", folder, own[i]);
        if (siren_adapter_load(&a, path, f->model, &err)) fail_msg("%s", err.message);
        siren_adapter_free(a);
    }
    folder_remove(folder);
}

/* A crash between the two files of a save with other settings. */
static void test_half_saved(void **state)
{
    const struct fixture *f = *state;
    struct siren_adapter *a = create(f, &kv);
    struct siren_error err;
    char folder[64], line[256];
    folder_make(folder);
    assert_int_equal(siren_adapter_save(a, folder, NULL, &err), 0);
    siren_adapter_free(a);
    snprintf(line, sizeof line, "sed -i 's/\"lora_alpha\": 16/\"lora_alpha\": 8/' %s/*.json",
             folder);
    assert_int_equal(system(line), 0);
    assert_error(siren_adapter_load(&a, folder, f->model, &err), &err, SIREN_EFORMAT, "alpha=16",
                 "alpha=8", (char *)NULL);
    a = create(f, &kv);
    assert_error(siren_adapter_save(a, "/proc/none/adapter", NULL, &err), &err, SIREN_EIO,
                 "/proc/none/adapter", (char *)NULL);
    siren_adapter_free(a);
    folder_remove(folder);
}

/* ---- the writer ---- */

static int numbers(void *context, size_t index, int64_t row, int64_t n, float *out,
                   struct siren_error *err)
{
    const float *values = context;
    for (int64_t i = 0; i < 4 * n; i++) out[i] = values[4 * row + i];
    return 0;
}

static void test_writer_rounds(void **state)
{
    /* f16: halfway to even twice, the smallest number, half of it (to even: 0) */
    const float values[] = {1 + 0x1p-11f, 1 + 0x3p-11f, 0x1p-24f,   0x1p-25f,
                            65504,        -0.0f,        0x1.8p-25f, -1e-3f};
    const float half[] = {1, 1 + 0x1p-9f, 0x1p-24f, 0, 65504, -0.0f, 0x1p-24f, -0x1.064p-10f};
    struct safetensors_item item = {"x", TENSOR_F16, 2, {2, 4}};
    const char *metadata[] = {"key", "a \"text\""};
    struct siren_error err;
    struct tensors *ts;
    char folder[64], path[96];
    float got[8], mine[8];
    folder_make(folder);
    snprintf(path, sizeof path, "%s/w.safetensors", folder);
    memcpy(mine, values, sizeof mine);
    assert_int_equal(safetensors_write(path, &item, 1, metadata, 1, numbers, mine, &err), 0);
    if (tensors_open(&ts, path, &err)) fail_msg("%s", err.message);
    assert_string_equal(safetensors_metadata(ts, "key"), "a \"text\"");
    assert_null(safetensors_metadata(ts, "other"));
    tensor_dequantize(tensors_find(ts, "x"), 0, 8, got);
    assert_memory_equal(got, half, sizeof got);
    tensors_close(ts);
    item.type = TENSOR_BF16;
    mine[0] = 1 + 0x1p-8f, mine[1] = 1 + 0x3p-8f, mine[4] = INFINITY;
    assert_int_equal(safetensors_write(path, &item, 1, NULL, 0, numbers, mine, &err), 0);
    assert_int_equal(tensors_open(&ts, path, &err), 0);
    tensor_dequantize(tensors_find(ts, "x"), 0, 8, got);
    assert_true(got[0] == 1 && got[1] == 1 + 0x1p-6f && isinf(got[4]));
    tensors_close(ts);
    /* what does not fit is refused, and the file that was there stays */
    mine[4] = 1e6f;
    item.type = TENSOR_F16;
    assert_error(safetensors_write(path, &item, 1, NULL, 0, numbers, mine, &err), &err,
                 SIREN_ENUMERIC, path, "tensor x", "F16", (char *)NULL);
    assert_int_equal(tensors_open(&ts, path, &err), 0);
    assert_int_equal(tensors_find(ts, "x")->type, TENSOR_BF16);
    tensors_close(ts);
    folder_remove(folder);
}

/* A file's name may be any bytes; an identity is a text that JSON takes. */
static void test_names_of_any_bytes(void **state)
{
    static const char *const names[] = {"mod\xe8le.gguf", "mod\xc3\xa8le.gguf"};
    struct siren_error err;
    char identity[2][256], folder[64], path[200];
    folder_make(folder);
    for (int i = 0; i < 2; i++) {
        file_write(path, sizeof path, folder, names[i], "the same", 8);
        assert_int_equal(siren_model_identity(path, identity[i], &err), 0);
        json_t *text = json_string(identity[i]);
        assert_non_null(text);
        json_decref(text);
    }
    assert_memory_equal(identity[0], "mod?le#", 7);
    assert_memory_equal(identity[1], "mod\xc3\xa8le#", 8);
    assert_true(siren_identity_same(identity[0], identity[1]));
    folder_remove(folder);
}

/* What changes a model's answers changes its identity. */
static void test_identity_of_parts(void **state)
{
    static const char *const parts[] = {"config.json", "tokenizer.json.gz"};
    struct siren_error err;
    char folder[64], path[200], before[256], after[256];
    folder_make(folder);
    file_write(path, sizeof path, folder, "model.safetensors", "x", 1);
    assert_int_equal(siren_model_identity(folder, before, &err), 0);
    for (int i = 0; i < 2; i++)
        for (int change = 0; change < 2; change++) { /* it is there, and it is another one */
            file_write(path, sizeof path, folder, parts[i], change ? "{}" : "{ }", 2);
            assert_int_equal(siren_model_identity(folder, after, &err), 0);
            assert_string_not_equal(before, after);
            strcpy(before, after);
        }
    assert_int_equal(siren_model_identity(folder, after, &err), 0);
    assert_string_equal(before, after);
    snprintf(path, sizeof path, "rm -r %s", folder);
    assert_int_equal(system(path), 0);
}

/* An encoder's settings are what counts, not in which of its files they stand. */
static void test_identity_of_encoders(void **state)
{
    static const struct {
        const char *change; /* a command in the folder */
        int another;
    } steps[] = {
        {"mv 1_Pooling pool && sed -i s/1_Pooling/pool/ modules.json", 0},
        {"sed -i 's/\\(cls_token\": \\)false/\\1true/; s/\\(mean_tokens\": \\)true/\\1false/' "
         "pool/config.json",
         1},
        {"sed -i s/1_Pooling/pool/ modules.json && cp -r pool 1_Pooling", 0},
        {"rm sentence_bert_config.json", 1},
        {"sed -i 's/\"model_max_length\": *[0-9]*/\"model_max_length\": 6/' tokenizer_config.json",
         1},
        {"printf '{\"max_seq_length\": 6}' > sentence_bert_config.json", 0},
        {"sed -i '$d' modules.json && printf ',{\"type\":\"x.Normalize\",\"path\":\"2\"}]' >> "
         "modules.json",
         1},
    };
    struct siren_error err;
    char folder[64], command[400], before[256], after[256];
    folder_make(folder);
    snprintf(command, sizeof command, "cp -r tests/fixtures/models/bert/. %s", folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(siren_model_identity(folder, before, &err), 0);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        snprintf(command, sizeof command, "cd %s && %s", folder, steps[i].change);
        assert_int_equal(system(command), 0);
        assert_int_equal(siren_model_identity(folder, after, &err), 0);
        if (steps[i].another != !siren_identity_same(before, after)) fail_msg("%s", command);
        strcpy(before, after);
    }
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void test_same_identity(void **state)
{
    assert_true(siren_identity_same("stage0#12ab", "a#b.gguf#12ab"));
    assert_false(siren_identity_same("stage0#12ab", "stage0#12ac"));
    assert_false(siren_identity_same("stage0#12ab", NULL));
    assert_false(siren_identity_same("", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_of_any_bytes),
        cmocka_unit_test(test_identity_of_parts),
        cmocka_unit_test(test_identity_of_encoders),
        cmocka_unit_test(test_same_identity),
        cmocka_unit_test(test_initial_values),
        cmocka_unit_test(test_seed_and_targets),
        cmocka_unit_test(test_gradients_and_versions),
        cmocka_unit_test(test_refused_configs),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_peft),
        cmocka_unit_test(test_peft_values),
        cmocka_unit_test(test_other_base),
        cmocka_unit_test(test_unsupported),
        cmocka_unit_test(test_damaged_configs),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_half_saved),
        cmocka_unit_test(test_writer_rounds),
    };
    return cmocka_run_group_tests_name("adapter", tests, setup, teardown);
}
