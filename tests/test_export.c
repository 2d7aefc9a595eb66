/* Models as Hugging Face folders: the same bits, the adapter merged, which adapters fit, and
 * nothing but whole folders.  What other programs read there: `make check-reference`. */
/* check: portable */
#include "engine_fixture.h"
#include "model_files.h"

#include <dirent.h>
#include <glob.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "model/adapter.h"
#include "model/export.h"
#include "model/model.h"
#include "model/names.h"
#include "scratch.h"
#include "siren/export.h"
#include "siren/file.h"
#include "siren/tokenizer.h"

#define SMOL_GGUF FIXTURES "gguf/smol-q4_1.gguf"
enum { N = 37, ALL_MATRICES = (1 << SIREN_LORA_TARGETS) - 1 };

static struct siren_error err;

/* ---- what a model computes ---- */

/* All hidden states and logits of some tokens; malloc'ed. */
static float *compute(const char *path, const struct siren_adapter *adapter, struct fixture *f,
                      size_t *n)
{
    int32_t ids[N];
    struct siren_forest *forest;
    int outputs[3 * 70], n_out = 0;
    if (path) fixture_open(f, path, NULL, 1);
    const struct siren_config *c = siren_model_config(f->model);
    fixture_ids(f, 1, ids, N);
    assert_int_equal(siren_forest_create(&forest, f->engine, NULL), 0);
    int s = siren_forest_add(forest, SIREN_ROOT, ids, N, 0);
    siren_forest_use_adapter(forest, s, adapter);
    for (size_t at = 0; at < N; at += N / 2) {
        for (int l = 0; l <= c->n_layers; l++)
            outputs[n_out++] = siren_forest_want_hidden(forest, s, at, l);
        outputs[n_out++] = siren_forest_want_logits(forest, s, at, NULL, 0);
    }
    fixture_run(forest);
    size_t d = (size_t)c->d_model, V = (size_t)c->n_vocab, used = 0;
    float *all = calloc((size_t)n_out * (d + V), sizeof *all);
    for (int i = 0; i < n_out; i++) {
        int is_logits = i % (c->n_layers + 2) == c->n_layers + 1;
        memcpy(all + used, siren_forest_output(forest, outputs[i]),
               (is_logits ? V : d) * sizeof *all);
        used += is_logits ? V : d;
    }
    siren_forest_free(forest);
    *n = used;
    return all;
}

/* Numbers and configuration of two models are the same to the bit. */
static void assert_same_model(const char *a, const char *b)
{
    struct fixture f, g;
    size_t n, m;
    float *x = compute(a, NULL, &f, &n), *y = compute(b, NULL, &g, &m);
    struct siren_config p = *siren_model_config(f.model), q = *siren_model_config(g.model);
    memset(p.name, 0, sizeof p.name);
    memset(q.name, 0, sizeof q.name);
    if (p.rope_scaling == SIREN_ROPE_PLAIN) /* means nothing there */
        p.rope_original_positions = q.rope_original_positions = 0;
    assert_memory_equal(&p, &q, sizeof p);
    assert_int_equal(n, m);
    if (memcmp(x, y, n * sizeof *x)) fail_msg("%s and %s differ by %g", a, b, worst(x, y, n));
    free(x), free(y);
    fixture_close(&f);
    fixture_close(&g);
}

static void export(const char *model, const char *name, const char *adapter, const char *dtype,
                   struct siren_export_report *report)
{
    const struct siren_export_options options = {.adapter = adapter, .dtype = dtype};
    if (siren_model_export(model, scratch_path(name), &options, report, NULL, &err))
        fail_msg("%s: %s", model, err.message);
}

static void test_same_bits(void **state)
{
    static const char *const names[] = {"smol",
                                        "llama",
                                        "qwen2",
                                        "qwen3",
                                        "yarn",
                                        "linear",
                                        "llama3",
                                        "gguf/smol-q4_1.gguf",
                                        "gguf/smol-q8_0.gguf",
                                        "gguf/smol-q5_0.gguf",
                                        "gguf/smol-bf16.gguf",
                                        "gguf/llama3.gguf",
                                        "gguf/qwen3.gguf",
                                        "gguf/kquants.gguf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct siren_export_report report;
        char model[96], name[16], identity[256];
        snprintf(model, sizeof model, FIXTURES "%s", names[i]);
        snprintf(name, sizeof name, "same-%zu", i);
        export(model, name, NULL, NULL, &report);
        assert_same_model(model, scratch_path(name));
        assert_int_equal(siren_model_identity(model, identity, &err), 0);
        assert_string_equal(report.source, identity);
        assert_true(report.exact && report.n_parameters && report.bytes > 4 * report.n_parameters);
        assert_string_equal(report.adapter, "");
        assert_int_equal(siren_model_source(scratch_path(name), identity, &err), 0);
        assert_true(siren_identity_same(identity, report.source));
    }
}

static void test_of_an_export(void **state)
{
    struct siren_export_report first, second;
    char path[256];
    export(SMOL_GGUF, "once", NULL, NULL, &first);
    strcpy(path, scratch_path("once"));
    export(path, "twice", NULL, "f32", &second);
    assert_same_model(path, scratch_path("twice"));
    assert_true(siren_identity_same(first.source, second.source));
    assert_int_equal(strncmp(second.source, "once#", 5), 0);
}

/* Rounded types: to nearest, and said so. */
static void test_types(void **state)
{
    static const char *const dtypes[] = {"bf16", "f16"}, *const torch[] = {"bfloat16", "float16"};
    for (int i = 0; i < 2; i++) {
        struct siren_export_report report;
        struct tensors *f32, *half;
        char *config, path[256], source[256];
        size_t size;
        float exact[64], rounded[64];
        export(SMOL_GGUF, dtypes[i], NULL, dtypes[i], &report);
        assert_false(report.exact);
        if (!i) export(SMOL_GGUF, "f32", NULL, "f32", NULL);
        assert_int_equal(tensors_open(&f32, scratch_path("f32"), &err), 0);
        assert_int_equal(tensors_open(&half, scratch_path(dtypes[i]), &err), 0);
        assert_int_equal(tensors_count(f32), tensors_count(half));
        for (size_t k = 0; k < tensors_count(f32); k++) {
            const struct tensor *a = tensors_at(f32, k), *b = tensors_find(half, a->name);
            assert_true(b && b->type == (i ? TENSOR_F16 : TENSOR_BF16));
            tensor_dequantize(a, 0, 32, exact);
            tensor_dequantize(b, 0, 32, rounded);
            for (int j = 0; j < 32; j++)
                assert_true(fabsf(exact[j] - rounded[j]) <=
                            fabsf(exact[j]) * (i ? 0x1p-11f : 0x1p-8f) + 0x1p-24f);
        }
        tensors_close(f32);
        tensors_close(half);
        snprintf(path, sizeof path, "%s/config.json", scratch_path(dtypes[i]));
        assert_int_equal(siren_file_read(&config, &size, path, 1 << 16, &err), 0);
        assert_non_null(strstr(config, torch[i]));
        free(config);
        assert_int_equal(siren_model_source(scratch_path(dtypes[i]), source, &err), 0);
        assert_string_equal(source, "");
    }
    struct siren_export_report report;
    export(FIXTURES "smol", "kept-bf16", NULL, "bf16", &report); /* it is stored so */
    assert_true(report.exact);
    assert_same_model(FIXTURES "smol", scratch_path("kept-bf16"));
}

static void test_all_files(void **state)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "model.safetensors"};
    export(FIXTURES "smol", "files", NULL, NULL, NULL);
    for (size_t i = 0; i < 4; i++) {
        struct stat st;
        char path[256];
        snprintf(path, sizeof path, "%s/%s", scratch_path("files"), names[i]);
        assert_int_equal(stat(path, &st), 0);
    }
}

/* ---- adapters ---- */

static void fill(struct siren_adapter *a, float size)
{
    struct siren_params p = siren_adapter_params(a);
    for (size_t i = 0; i < p.n; i++)
        for (int j = 0; j < p.list[i].rows * p.list[i].columns; j++)
            p.list[i].value[j] = size * (float)siren_random_normal(5, i, (uint64_t)j);
    siren_adapter_changed(a);
}

/* Random factors for a model, saved as one of its identity. */
static void make_adapter(const char *model, const char *folder, int rslora, float size)
{
    struct fixture f;
    struct siren_adapter *a;
    char identity[256];
    fixture_open(&f, model, NULL, 1);
    const struct siren_adapter_config config = {.targets = ALL_MATRICES,
                                                .last_layer =
                                                    siren_model_config(f.model)->n_layers - 1,
                                                .r = 3,
                                                .alpha = 4,
                                                .rslora = rslora};
    if (siren_adapter_create(&a, f.model, &config, &err)) fail_msg("%s", err.message);
    fill(a, size);
    assert_int_equal(siren_model_identity(model, identity, &err), 0);
    if (siren_adapter_save(a, folder, identity, &err)) fail_msg("%s", err.message);
    siren_adapter_free(a);
    fixture_close(&f);
}

/* A model is a folder or a .gguf file: its weights alone have neither the rest of its identity nor
 * a tokenizer, whatever their name. */
static void test_file_of_a_folder(void **state)
{
    static const char *const files[] = {"model.safetensors", "config.json", "blob"};
    struct siren_export_report report;
    struct siren_tokenizer *tokenizer;
    struct siren_model *model;
    struct siren_pool *pool;
    char folder[256], path[300], line[1000], identity[256];
    assert_int_equal(siren_pool_create(&pool, 1, &err), 0);
    snprintf(folder, sizeof folder, "%s", scratch_path("single-files"));
    snprintf(line, sizeof line,
             "cp -r '" FIXTURES "smol' '%s' && cp '%s/model.safetensors' '%s/blob'", folder, folder,
             folder);
    assert_int_equal(system(line), 0);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        const int codes[] = {siren_model_load(&model, path, NULL, pool, &err),
                             siren_model_identity(path, identity, &err),
                             siren_model_export(path, scratch_path("of-a-file"),
                                                &(struct siren_export_options){0}, &report, NULL,
                                                &err),
                             i == 1 ? SIREN_EINVAL : siren_tokenizer_load(&tokenizer, path, &err)};
        for (int k = 0; k < 4; k++) assert_int_equal(codes[k], SIREN_EINVAL);
        if (!strstr(err.message, files[i]) || !strstr(err.message, "expected the folder"))
            fail_msg("%s", err.message);
    }
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(siren_tokenizer_load(&tokenizer, path, &err), 0);
    siren_tokenizer_free(tokenizer);
    siren_pool_free(pool);
}

/* One row of W + scale·BA by the definition. */
static void check_row(const struct tensors *merged, const struct tensors *plain,
                      const struct siren_adapter *a, int layer, enum siren_lora_target target,
                      enum model_tensor which, int64_t row)
{
    const struct lora_factors *f = &a->factors[layer * SIREN_LORA_TARGETS + (int)target];
    char name[160];
    float w[64], got[64];
    model_tensor_name(name, sizeof name, &a->model->config, layer, which);
    tensor_dequantize(tensors_find(plain, name), row * f->in, f->in, w);
    tensor_dequantize(tensors_find(merged, name), row * f->in, f->in, got);
    for (int k = 0; k < f->in; k++) {
        double sum = 0;
        for (int j = 0; j < a->config.r; j++)
            sum += (double)f->b[row * a->config.r + j] * (double)f->a[j * f->in + k];
        assert_true(got[k] == (float)((double)w[k] + (double)a->scale * sum));
    }
}

/* The adapter's matrices are others, and nothing else is. */
static void check_rest(const struct tensors *merged, const struct tensors *plain)
{
    size_t n_changed = 0;
    assert_int_equal(tensors_count(merged), tensors_count(plain));
    for (size_t i = 0; i < tensors_count(plain); i++) {
        const struct tensor *p = tensors_at(plain, i), *m = tensors_find(merged, p->name);
        assert_non_null(m);
        assert_memory_equal(m->shape, p->shape, sizeof p->shape);
        int same =
            m->type == p->type && m->bytes == p->bytes && !memcmp(m->data, p->data, p->bytes);
        if (same == (strstr(p->name, "_proj.weight") != NULL))
            fail_msg("%s %s", p->name, same ? "is what it was" : "has changed");
        n_changed += (size_t)!same;
    }
    assert_int_equal(n_changed, 2 * SIREN_LORA_TARGETS); /* of two layers */
}

static void merge(const char *model, const char *name, int rslora)
{
    struct fixture f, g;
    struct siren_adapter *a;
    struct siren_export_report report;
    struct tensors *merged, *plain;
    char adapter[256], out[64], base[64], identity[256], source[256];
    size_t n, m;
    snprintf(out, sizeof out, "%s-merged", name);
    snprintf(base, sizeof base, "%s-base", name);
    strcpy(adapter, scratch_path(name));
    make_adapter(model, adapter, rslora, 0.3f);
    export(model, out, adapter, NULL, &report);
    export(model, base, NULL, NULL, NULL);
    assert_false(report.exact);
    fixture_open(&f, model, NULL, 1);
    assert_int_equal(siren_adapter_load(&a, adapter, f.model, &err), 0);
    siren_adapter_identity(a, adapter, identity);
    assert_string_equal(report.adapter, identity);
    float *with = compute(NULL, a, &f, &n), *without = compute(NULL, NULL, &f, &n),
          *got = compute(scratch_path(out), NULL, &g, &m);
    assert_int_equal(n, m);
    if (!(worst(with, got, n) <= 2e-4)) fail_msg("%s: %g", model, worst(with, got, n));
    assert_true(worst(without, got, n) > 0.1);
    assert_int_equal(tensors_open(&merged, scratch_path(out), &err), 0);
    assert_int_equal(tensors_open(&plain, scratch_path(base), &err), 0);
    check_row(merged, plain, a, 1, SIREN_LORA_Q, MODEL_Q, 5);
    check_row(merged, plain, a, 0, SIREN_LORA_K, MODEL_K, 9);
    check_row(merged, plain, a, 1, SIREN_LORA_V, MODEL_V, 2);
    check_row(merged, plain, a, 1, SIREN_LORA_DOWN, MODEL_DOWN, 31);
    check_rest(merged, plain);
    assert_string_equal(safetensors_metadata(merged, "siren.adapter"), strrchr(identity, '#'));
    tensors_close(merged);
    tensors_close(plain);
    /* the merged one is another model: the adapter must not be added twice */
    assert_int_equal(siren_model_source(scratch_path(out), source, &err), 0);
    assert_string_equal(source, "");
    struct siren_adapter *again;
    assert_error(siren_adapter_load(&again, adapter, g.model, &err), &err, SIREN_EINVAL,
                 "made for the base", out, (char *)NULL);
    free(with), free(without), free(got);
    siren_adapter_free(a);
    fixture_close(&f);
    fixture_close(&g);
}

static void test_merge(void **state)
{
    merge(SMOL_GGUF, "gguf-adapter", 0);
    merge(FIXTURES "qwen2", "qwen2-adapter", 1);
}

/* What they are called is no part of what they compute. */
static void test_names_do_not_matter(void **state)
{
    static const char *const models[] = {"a.gguf", "b.gguf"}, *const adapters[] = {"warm", "cold"};
    char command[600], model[256], adapter[256], identity[2][256];
    for (int i = 0; i < 2; i++) {
        snprintf(model, sizeof model, "%s", scratch_path(models[i]));
        snprintf(command, sizeof command, "cp %s %s", SMOL_GGUF, model);
        assert_int_equal(system(command), 0);
        snprintf(adapter, sizeof adapter, "%s", scratch_path(adapters[i]));
        make_adapter(model, adapter, 0, 0.3f);
        export(model, i ? "of-b" : "of-a", adapter, "bf16", NULL);
        assert_int_equal(siren_model_identity(scratch_path(i ? "of-b" : "of-a"), identity[i], &err),
                         0);
    }
    assert_true(siren_identity_same(identity[0], identity[1]));
}

static int fits(const char *adapter, const char *model)
{
    struct fixture f;
    struct siren_adapter *a;
    fixture_open(&f, model, NULL, 1);
    int rc = siren_adapter_load(&a, adapter, f.model, &err);
    if (!rc) siren_adapter_free(a);
    fixture_close(&f);
    return !rc;
}

static void test_adapters_travel(void **state)
{
    char source[256], exported[256], of_source[256], of_export[256], line[600];
    strcpy(source, SMOL_GGUF);
    export(source, "travel", NULL, NULL, NULL);
    export(source, "travel-bf16", NULL, "bf16", NULL);
    strcpy(exported, scratch_path("travel"));
    strcpy(of_source, scratch_path("of-source"));
    strcpy(of_export, scratch_path("of-export"));
    make_adapter(source, of_source, 0, 0.1f);
    make_adapter(exported, of_export, 0, 0.1f);
    assert_true(fits(of_source, source) && fits(of_source, exported));
    assert_true(fits(of_export, source) && fits(of_export, exported));
    export(source, "travel-again", NULL, NULL, NULL);
    assert_true(fits(of_export, scratch_path("travel-again")));
    /* what was rounded is another model, and so is what was changed since */
    assert_false(fits(of_source, scratch_path("travel-bf16")));
    assert_non_null(strstr(err.message, "smol-q4_1#"));
    assert_non_null(strstr(err.message, "travel-bf16#"));
    assert_false(fits(of_source, FIXTURES "gguf/smol-q8_0.gguf"));
    snprintf(line, sizeof line, "sed -i 's/10000.0/20000.0/' %s/config.json", exported);
    assert_int_equal(system(line), 0);
    assert_false(fits(of_source, exported));
}

/* ---- whole or not at all ---- */

/* Names in the scratch folder that begin so. */
static int count_names(const char *start)
{
    int n = 0;
    DIR *d = opendir(scratch_folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += !strncmp(e->d_name, start, strlen(start));
    closedir(d);
    return n;
}

static int stop(void *context, const char *what, uint64_t done, uint64_t total)
{
    assert_string_equal(what, "parameters");
    assert_true(done <= total);
    return done > total / 2;
}

static void test_stopped(void **state)
{
    struct siren_progress progress = {.update = stop};
    assert_error(
        siren_model_export(SMOL_GGUF, scratch_path("stopped"), NULL, NULL, &progress, &err), &err,
        SIREN_ECANCEL, "stopped", (char *)NULL);
    assert_int_equal(count_names("stopped"), 0);
}

static void test_disk_full(void **state)
{
    struct rlimit old, tight;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (rlim_t room = 0; room < 100000; room += 33333) {
        tight = (struct rlimit){room, old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
        int rc = siren_model_export(SMOL_GGUF, scratch_path("full"), NULL, NULL, NULL, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_error(rc, &err, SIREN_EIO, "cannot write", (char *)NULL);
        assert_int_equal(count_names("full"), 0);
    }
}

/* ---- several processes ---- */

static int die(void *context, const char *what, uint64_t done, uint64_t total)
{
    if (done > total / 2) raise(SIGKILL);
    return 0;
}

/* In the middle it says so and waits for the other one. */
static int meet(void *context, const char *what, uint64_t done, uint64_t total)
{
    int *pipes = context;
    char byte = 0;
    if (done <= total / 2 || pipes[0] < 0) return 0;
    if (write(pipes[1], &byte, 1) != 1 || read(pipes[0], &byte, 1) != 1) return 1;
    pipes[0] = -1;
    return 0;
}

/* Exits with the code of the export. */
static pid_t export_in_child(const char *name, struct siren_progress progress)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child) return child;
    _exit(-siren_model_export(SMOL_GGUF, scratch_path(name), NULL, NULL, &progress, &err));
}

static void make_folder(const char *name, const char *file)
{
    char path[300];
    snprintf(path, sizeof path, "%s", scratch_path(name));
    assert_int_equal(mkdir(path, 0777), 0);
    if (!file) return;
    snprintf(path + strlen(path), sizeof path - strlen(path), "/%s", file);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
}

static void test_killed(void **state)
{
    int status;
    pid_t child = export_in_child("killed", (struct siren_progress){.update = die});
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(count_names("killed.tmp-"), 1);
    /* What only looks so, and what is not of an export, stays. */
    make_folder("killed.tmp-1-0x", "config.json");
    make_folder("killed.tmp-1-1", "notes.txt");
    make_folder("killed.tmp-1-2", "config.json.tmp-1-0");
    make_folder("killed.tmp-1-3.old", "model.safetensors");
    export(SMOL_GGUF, "killed", NULL, NULL, NULL);
    assert_same_model(SMOL_GGUF, scratch_path("killed"));
    assert_int_equal(count_names("killed"), 4);
    assert_int_equal(access(scratch_path("killed.tmp-1-0x/config.json"), F_OK), 0);
    assert_int_equal(access(scratch_path("killed.tmp-1-1/notes.txt"), F_OK), 0);
    assert_int_equal(access(scratch_path("killed.tmp-1-3.old/model.safetensors"), F_OK), 0);
    const struct siren_export_options options = {.replace = 1};
    assert_int_equal(
        siren_model_export(SMOL_GGUF, scratch_path("killed"), &options, NULL, NULL, &err), 0);
    assert_int_equal(count_names("killed"), 3);
    assert_int_not_equal(access(scratch_path("killed.tmp-1-3.old"), F_OK), 0);
}

/* Two at once: neither takes the other's folder for one that was left; the first that is ready
 * has the place. */
static void test_at_work(void **state)
{
    int there[2], back[2], status;
    char byte = 0;
    assert_int_equal(pipe(there) | pipe(back), 0);
    int ends[2] = {back[0], there[1]};
    pid_t child = export_in_child("both", (struct siren_progress){meet, ends});
    assert_int_equal(read(there[0], &byte, 1), 1);
    assert_int_equal(count_names("both.tmp-"), 1);
    export(SMOL_GGUF, "both", NULL, NULL, NULL);
    assert_int_equal(count_names("both.tmp-"), 1);
    assert_int_equal(write(back[1], &byte, 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), -SIREN_EIO);
    assert_int_equal(count_names("both"), 1);
    for (int i = 0; i < 2; i++) close(there[i]), close(back[i]);
}

static void refuse(const char *model, const char *folder, const char *dtype, int code,
                   const char *part)
{
    const struct siren_export_options options = {.dtype = dtype};
    assert_error(siren_model_export(model, folder, &options, NULL, NULL, &err), &err, code, part,
                 (char *)NULL);
}

static void test_refused(void **state)
{
    char path[256], file[300];
    struct stat st;
    strcpy(path, scratch_path("there"));
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(file, sizeof file, "%s/notes.txt", path);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    refuse(SMOL_GGUF, path, NULL, SIREN_EEXISTS, "there");
    refuse(SMOL_GGUF, file, NULL, SIREN_EEXISTS, "notes.txt");
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(remove(file), 0);
    export(SMOL_GGUF, "there", NULL, NULL, NULL); /* an empty folder may be filled */
    refuse(SMOL_GGUF, scratch_path("no/such/parent"), NULL, SIREN_EIO, "no/such/parent");
    refuse(SMOL_GGUF, scratch_path("x"), "q4_0", SIREN_EINVAL, "\"q4_0\"");
    refuse("/nonexistent", scratch_path("x"), NULL, SIREN_ENOTFOUND, "/nonexistent");
    refuse(FIXTURES "bert", scratch_path("x"), NULL, SIREN_EUNSUPPORTED, "sentence encoder");
    refuse(FIXTURES "gguf/bert.gguf", scratch_path("x"), NULL, SIREN_EUNSUPPORTED, "encoder");
    const struct siren_export_options options = {.adapter = FIXTURES "smol"};
    assert_int_equal(siren_model_export(SMOL_GGUF, scratch_path("x"), &options, NULL, NULL, &err),
                     SIREN_ENOTFOUND);
    /* Of a vector any number counts. */
    char whole[256], *text, *at;
    size_t size;
    uint64_t header;
    long long from;
    const float nan = NAN;
    export(SMOL_GGUF, "nan", NULL, NULL, NULL);
    strcpy(whole, scratch_path("nan"));
    strcpy(file, scratch_path("nan/model.safetensors"));
    assert_int_equal(siren_file_read(&text, &size, file, 1 << 24, &err), 0);
    memcpy(&header, text, sizeof header);
    at = strstr(strstr(text + 8, "\"model.norm.weight\""), "\"data_offsets\":[");
    assert_int_equal(sscanf(at, "\"data_offsets\":[%lld", &from), 1);
    memcpy(text + 8 + header + from + 3 * sizeof nan, &nan, sizeof nan);
    scratch_write("nan/model.safetensors", text, size);
    free(text);
    refuse(whole, scratch_path("x"), NULL, SIREN_ENUMERIC,
           "model.norm.weight, row 0, column 3 is nan");
    /* Finite factors whose product is not. */
    char adapter[256];
    strcpy(adapter, scratch_path("huge"));
    make_adapter(SMOL_GGUF, adapter, 0, 1e30f);
    const struct siren_export_options huge = {.adapter = adapter};
    assert_error(siren_model_export(SMOL_GGUF, scratch_path("x"), &huge, NULL, NULL, &err), &err,
                 SIREN_ENUMERIC, "with the adapter merged, row 0, column 0", (char *)NULL);
    assert_int_equal(count_names("x"), 0);
}

/* ---- a real one ---- */

/* Adapters that docs/results keeps, on the bases that the experiments make again. */
static void kept_adapters_fit(const char *smollm2)
{
    struct siren_adapter_info info;
    glob_t kept;
    char base[2][256], identity[256];
    export(smollm2, "stage0", "docs/results/adapters/warm", "bf16", NULL);
    snprintf(base[0], sizeof *base, "%s", scratch_path("stage0"));
    export(base[0], "stage1", "docs/results/stage1/last", "bf16", NULL);
    snprintf(base[1], sizeof *base, "%s", scratch_path("stage1"));
    assert_int_equal(glob("docs/results/adapters/*", 0, NULL, &kept), 0);
    for (size_t i = 0; i < kept.gl_pathc; i++) {
        const char *of = smollm2, *name = strrchr(kept.gl_pathv[i], '/') + 1;
        if (strcmp(name, "warm") != 0) of = base[!strcmp(name, "stage1-ha-1")];
        assert_int_equal(siren_model_identity(of, identity, &err), 0);
        assert_int_equal(siren_adapter_inspect(&info, kept.gl_pathv[i], &err), 0);
        if (!siren_identity_same(info.base, identity))
            fail_msg("%s: %s, and not %s", name, info.base, identity);
    }
    globfree(&kept);
}

static void test_smollm2(void **state)
{
    const char *models = getenv("SIREN_MODELS");
    char path[400];
    if (!models || !getenv("SIREN_SLOW") || getenv("SIREN_SANITIZED")) {
        print_message("skipped: SIREN_MODELS and SIREN_SLOW are needed\n");
        skip();
    }
    snprintf(path, sizeof path, "%s/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf", models);
    export(path, "smollm2", NULL, NULL, NULL);
    assert_same_model(path, scratch_path("smollm2"));
    kept_adapters_fit(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_of_a_folder),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_of_an_export),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_all_files),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_names_do_not_matter),
        cmocka_unit_test(test_adapters_travel),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_at_work),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_smollm2),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
