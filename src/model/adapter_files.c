/* An adapter's folder: adapter_config.json and adapter_model.safetensors, as PEFT has them. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/path.h"
#include "model/adapter.h"
#include "model/model.h"
#include "siren/file.h"
#include "weights/safetensors_write.h"
#include "weights/tensors.h"

enum { CONFIG_MAX = 1 << 20 };

/* What both files must agree on; it stands in the safetensors' metadata. */
static void describe_config(char text[96], const struct siren_adapter_config *c)
{
    snprintf(text, 96, "r=%d alpha=%.9g rslora=%d", c->r, (double)c->alpha, c->rslora);
}

/* ---- saving ---- */

static int param_rows(void *context, size_t index, int64_t row, int64_t n, float *out,
                      struct siren_error *err)
{
    const struct siren_param *p = &((const struct siren_params *)context)->list[index];
    memcpy(out, p->value + row * p->columns, (size_t)(n * p->columns) * sizeof *out);
    return SIREN_OK;
}

static int save_weights(const struct siren_adapter *a, const char *path, const char *identity,
                        struct siren_error *err)
{
    struct safetensors_item *items = alloc_array(a->params.n, sizeof *items);
    if (!items) return siren_fail_memory(err, "the list of factors", a->params.n * sizeof *items);
    for (size_t i = 0; i < a->params.n; i++) {
        const struct siren_param *p = &a->params.list[i];
        items[i] = (struct safetensors_item){p->name, TENSOR_F32, 2, {p->rows, p->columns}};
    }
    char lora[96], seed[32], source[256] = "";
    describe_config(lora, &a->config);
    snprintf(seed, sizeof seed, "%" PRIu64, a->config.seed);
    const char *metadata[] = {
        "format",     "pt",     "siren.lora",        lora,  "siren.seed", seed,
        "siren.base", identity, "siren.base_source", source};
    struct siren_params params = a->params;
    int rc = identity ? siren_model_source(a->model->path, source, err) : SIREN_OK;
    if (!rc)
        rc = safetensors_write(path, items, a->params.n, metadata,
                               *source    ? 5
                               : identity ? 4
                                          : 3,
                               param_rows, &params, err);
    free(items);
    return rc;
}

static int save_config(const struct siren_adapter *a, const char *path, const char *identity,
                       struct siren_error *err)
{
    const char *hash = identity ? strrchr(identity, '#') : NULL;
    char *name = hash ? alloc_string(identity, (size_t)(hash - identity)) : NULL;
    char *text = adapter_config_text(a, name);
    int rc = text ? siren_file_print(path, err, "%s\n", text)
                  : siren_fail_memory(err, "an adapter's configuration", 0);
    free(text);
    free(name);
    return rc;
}

int siren_adapter_save(const struct siren_adapter *a, const char *folder, const char *identity,
                       struct siren_error *err)
{
    int rc = siren_folder_make(folder, err);
    if (rc) return rc;
    char *config = path_join(folder, ADAPTER_CONFIG), *weights = path_join(folder, ADAPTER_WEIGHTS);
    rc = config && weights ? save_weights(a, weights, identity, err)
                           : siren_fail_memory(err, "a path", strlen(folder));
    if (!rc) rc = save_config(a, config, identity, err);
    free(weights);
    free(config);
    return rc;
}

/* ---- loading ---- */

struct loader {
    const struct siren_model *model; /* NULL: only described */
    struct tensors *ts;
    struct siren_adapter_config config;
    struct siren_error *err;
};

/* The parts of a factor's name; 0, or -1 where it is none.  The number is read, then the whole
 * name must be the one that we would write. */
static int parse_name(const char *name, int n_layers, int *layer, int *target, char *which)
{
    static const char prefix[] = "base_model.model.model.layers.";
    if (strncmp(name, prefix, sizeof prefix - 1)) return -1;
    long l = strtol(name + sizeof prefix - 1, NULL, 10);
    if (l < 0 || l >= n_layers) return -1;
    for (int i = 0; i < 2 * SIREN_LORA_TARGETS; i++) {
        char full[160];
        *layer = (int)l;
        *target = i / 2;
        *which = (char)('A' + i % 2);
        adapter_name(full, *layer, (enum siren_lora_target) * target, *which);
        if (!strcmp(full, name)) return 0;
    }
    return -1;
}

/* All targets and the range of layers that some tensor names. */
static int read_extent(struct loader *l)
{
    struct siren_adapter_config *c = &l->config;
    int n_layers = l->model ? l->model->config.n_layers : INT_MAX;
    c->first_layer = n_layers;
    c->last_layer = -1;
    for (size_t i = 0; i < tensors_count(l->ts); i++) {
        const char *name = tensors_at(l->ts, i)->name;
        int layer, target;
        char which;
        if (parse_name(name, n_layers, &layer, &target, &which))
            return siren_fail(l->err, SIREN_EUNSUPPORTED,
                              "%s: tensor %s is no LoRA factor of a matrix that this model has",
                              tensors_path(l->ts), tensors_show(name, strlen(name)).text);
        const struct tensor *t = tensors_at(l->ts, i);
        /* Before there is memory for factors of this r. */
        if (t->n_dims != 2 || t->shape[which == 'B'] != c->r)
            return siren_fail(
                l->err, SIREN_EFORMAT, "%s: tensor %s has shape %s, but r is %d in " ADAPTER_CONFIG,
                tensors_path(l->ts), t->name, tensors_show_shape(t->n_dims, t->shape).text, c->r);
        c->targets |= 1u << target;
        if (layer < c->first_layer) c->first_layer = layer;
        if (layer > c->last_layer) c->last_layer = layer;
    }
    if (!c->targets)
        return siren_fail(l->err, SIREN_EFORMAT, "%s: holds no LoRA factors", tensors_path(l->ts));
    return SIREN_OK;
}

static int find_factor(const struct loader *l, const char *name, const struct tensor **t)
{
    *t = tensors_find(l->ts, name);
    if (*t) return SIREN_OK;
    return siren_fail(l->err, SIREN_EUNSUPPORTED,
                      "%s: tensor %s is missing: every layer of one range must adapt the same "
                      "matrices",
                      tensors_path(l->ts), name);
}

static int read_values(const struct loader *l, const struct tensor *t, float *out)
{
    if (t->type != TENSOR_F32 && t->type != TENSOR_F16 && t->type != TENSOR_BF16)
        return siren_fail(l->err, SIREN_EUNSUPPORTED,
                          "%s: tensor %s has type %s, expected F32, F16 or BF16",
                          tensors_path(l->ts), t->name, tensor_type_name(t->type));
    int64_t n = tensor_elements(t);
    tensor_dequantize(t, 0, n, out);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            return siren_fail(l->err, SIREN_ENUMERIC, "%s: tensor %s: value %lld is not finite",
                              tensors_path(l->ts), t->name, (long long)i);
    return SIREN_OK;
}

static int read_factor(struct loader *l, const struct siren_param *p)
{
    const struct tensor *t;
    const int64_t shape[2] = {p->rows, p->columns};
    int rc = find_factor(l, p->name, &t);
    if (rc) return rc;
    if (t->n_dims != 2 || t->shape[0] != shape[0] || t->shape[1] != shape[1])
        return siren_fail(l->err, SIREN_EFORMAT, "%s: tensor %s has shape %s, expected %s",
                          tensors_path(l->ts), p->name,
                          tensors_show_shape(t->n_dims, t->shape).text,
                          tensors_show_shape(2, shape).text);
    return read_values(l, t, p->value);
}

/* The adapter's base and the model, each or what it was exported from, are one. */
static int check_base(const struct loader *l)
{
    const char *base = safetensors_metadata(l->ts, "siren.base");
    const char *base_source = safetensors_metadata(l->ts, "siren.base_source");
    char identity[256], source[256];
    if (!base) return SIREN_OK;
    int rc = siren_model_identity(l->model->path, identity, l->err);
    if (rc || siren_identity_same(identity, base) || siren_identity_same(identity, base_source))
        return rc;
    rc = siren_model_source(l->model->path, source, l->err);
    if (rc || siren_identity_same(source, base) || siren_identity_same(source, base_source))
        return rc;
    return siren_fail(l->err, SIREN_EINVAL, "%s: made for the base %s, but the model is %s%s%s",
                      tensors_path(l->ts), tensors_show(base, strlen(base)).text, identity,
                      *source ? ", an export of " : "", source);
}

static int check_pair(const struct loader *l)
{
    const char *saved = safetensors_metadata(l->ts, "siren.lora");
    char now[96];
    describe_config(now, &l->config);
    if (!saved || !strcmp(saved, now)) return SIREN_OK;
    return siren_fail(l->err, SIREN_EFORMAT,
                      "%s: was saved with %s, but " ADAPTER_CONFIG " beside it says %s",
                      tensors_path(l->ts), tensors_show(saved, strlen(saved)).text, now);
}

/* A training's folder has the adapter in a folder of its own. */
static int not_there(struct loader *l, const char *folder, const char *path)
{
    int code = siren_fail(l->err, SIREN_ENOTFOUND, "%s: no adapter there: %m", path);
    char *inner = path_join(folder, "adapter/" ADAPTER_CONFIG);
    struct stat st;
    if (inner && !stat(inner, &st))
        siren_fail(l->err, code, "%s: no adapter there (did you mean %s/adapter?)", path, folder);
    free(inner);
    return code;
}

static int read_config(struct loader *l, const char *folder, const char *path)
{
    char *text;
    size_t size;
    struct stat st;
    if (stat(path, &st)) return not_there(l, folder, path);
    int rc = siren_file_read(&text, &size, path, CONFIG_MAX, l->err);
    if (rc) return rc;
    rc = adapter_config_parse(&l->config, text, size, path, l->err);
    free(text);
    return rc;
}

static int read_all(struct loader *l)
{
    const char *seed = safetensors_metadata(l->ts, "siren.seed");
    int rc = check_pair(l);
    if (!rc && l->model) rc = check_base(l);
    if (!rc) rc = read_extent(l);
    if (!rc) l->config.seed = seed ? strtoull(seed, NULL, 10) : 0;
    return rc;
}

static int load_factors(struct loader *l, struct siren_adapter **out)
{
    int rc = adapter_allocate(out, l->model, &l->config, l->err);
    if (rc) return rc;
    struct siren_params params = siren_adapter_params(*out);
    for (size_t i = 0; i < params.n && !rc; i++) rc = read_factor(l, &params.list[i]);
    return rc ? rc : adapter_pack(*out, l->err);
}

int adapter_is_file(const char *path)
{
    const char *name = path_name(path);
    return !strcmp(name, ADAPTER_WEIGHTS) || !strcmp(name, ADAPTER_CONFIG);
}

/* The folder itself, or the one that either of its files lies in; malloc'ed. */
static int find_folder(char **folder, const char *path, struct siren_error *err)
{
    struct stat st;
    int whole = stat(path, &st) || S_ISDIR(st.st_mode);
    *folder = NULL;
    /* The others' names are fixed: the adapter beside a file of another name is not that file. */
    if (!whole && !adapter_is_file(path))
        return siren_fail(
            err, SIREN_EINVAL,
            "%s: found a file of this name, expected an adapter's folder or the " ADAPTER_WEIGHTS
            " in it",
            path);
    *folder = whole ? alloc_string(path, strlen(path)) : path_folder(path);
    return *folder ? SIREN_OK : siren_fail_memory(err, "a path", strlen(path));
}

/* The configuration, the tensors' names and all checks; l->ts is to be closed in any case. */
static int open_files(struct loader *l, const char *path)
{
    char *folder;
    int rc = find_folder(&folder, path, l->err);
    if (rc) return rc;
    char *config = path_join(folder, ADAPTER_CONFIG), *weights = path_join(folder, ADAPTER_WEIGHTS);
    rc = config && weights ? SIREN_OK : siren_fail_memory(l->err, "a path", strlen(path));
    if (!rc) rc = read_config(l, folder, config);
    if (!rc) rc = tensors_open(&l->ts, weights, l->err);
    if (!rc) rc = read_all(l);
    free(weights);
    free(config);
    free(folder);
    return rc;
}

int siren_adapter_load(struct siren_adapter **out, const char *path, const struct siren_model *base,
                       struct siren_error *err)
{
    struct loader l = {.model = base, .err = err};
    *out = NULL;
    int rc = open_files(&l, path);
    if (!rc) rc = load_factors(&l, out);
    tensors_close(l.ts);
    if (rc && *out) siren_adapter_free(*out), *out = NULL;
    return rc;
}

/* All factors one behind the other, in the order of siren_adapter_params(). */
static int read_factors(const struct loader *l, float *values)
{
    const struct siren_adapter_config *c = &l->config;
    for (int layer = c->first_layer; layer <= c->last_layer; layer++)
        for (int i = 0; i < 2 * SIREN_LORA_TARGETS; i++) {
            const struct tensor *t;
            char name[160];
            if (!(c->targets >> i / 2 & 1)) continue;
            adapter_name(name, layer, (enum siren_lora_target)(i / 2), (char)('A' + i % 2));
            int rc = find_factor(l, name, &t);
            if (!rc) rc = read_values(l, t, values);
            if (rc) return rc;
            values += tensor_elements(t);
        }
    return SIREN_OK;
}

static int describe_factors(const struct loader *l, struct siren_adapter_info *out,
                            const char *path)
{
    const char *base = safetensors_metadata(l->ts, "siren.base");
    out->config = l->config;
    snprintf(out->base, sizeof out->base, "%s", base ? base : "");
    for (size_t i = 0; i < tensors_count(l->ts); i++)
        out->n_parameters += (uint64_t)tensor_elements(tensors_at(l->ts, i));
    float *values = alloc_array(out->n_parameters, sizeof *values);
    if (!values) return siren_fail_memory(l->err, "an adapter's factors", out->n_parameters * 4);
    int rc = read_factors(l, values);
    if (!rc) adapter_values_identity(&l->config, values, out->n_parameters, path, out->identity);
    free(values);
    return rc;
}

int siren_adapter_inspect(struct siren_adapter_info *out, const char *path, struct siren_error *err)
{
    struct loader l = {.err = err};
    *out = (struct siren_adapter_info){0};
    int rc = open_files(&l, path);
    if (!rc) rc = describe_factors(&l, out, path);
    tensors_close(l.ts);
    return rc;
}
