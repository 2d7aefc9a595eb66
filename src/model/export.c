#include "siren/export.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/path.h"
#include "model/adapter.h"
#include "model/config.h"
#include "model/export.h"
#include "model/masters.h"
#include "model/model.h"
#include "model/names.h"
#include "siren/file.h"
#include "weights/safetensors_write.h"

/* One tensor: where its numbers come from. */
struct piece {
    const struct tensor *tensor;
    const struct lora_factors *factors; /* to be merged; NULL: none */
    int permuted;                       /* its rows lie in llama.cpp's order */
    char name[160];
};

struct export
{
    const char *path;
    const struct siren_model *trained; /* NULL: all from the file */
    int replace;
    struct tensors *ts;
    struct siren_model base; /* its path and configuration: what an adapter is checked against */
    struct siren_adapter *adapter;
    enum tensor_type type;
    struct piece *pieces;
    struct safetensors_item *items;
    size_t n;
    double *sums; /* of one row */
    struct siren_export_report *report;
    const struct siren_progress *progress;
    uint64_t done; /* numbers */
    struct siren_error *err;
};

/* ---- what is written ---- */

static const struct lora_factors *factors_of(const struct export *e, enum model_tensor which,
                                             int layer)
{
    static const int targets[MODEL_TENSORS] = {
        [MODEL_Q] = 1 + SIREN_LORA_Q,       [MODEL_K] = 1 + SIREN_LORA_K,
        [MODEL_V] = 1 + SIREN_LORA_V,       [MODEL_O] = 1 + SIREN_LORA_O,
        [MODEL_GATE] = 1 + SIREN_LORA_GATE, [MODEL_UP] = 1 + SIREN_LORA_UP,
        [MODEL_DOWN] = 1 + SIREN_LORA_DOWN,
    };
    if (!e->adapter || !targets[which]) return NULL;
    const struct lora_factors *f =
        &e->adapter->factors[layer * SIREN_LORA_TARGETS + targets[which] - 1];
    return f->a ? f : NULL;
}

static int add_piece(struct export *e, enum model_tensor which, int layer, size_t *capacity)
{
    const struct siren_config *c = &e->base.config;
    const struct tensor *t = model_tensor(e->ts, c, layer, which, e->err);
    const struct master *present = e->trained ? master_find(e->trained, layer, which) : NULL;
    if (!t) return e->err->code;
    if (present) t = &present->tensor;
    if (alloc_grow(&e->pieces, capacity, e->n + 1, sizeof *e->pieces))
        return siren_fail_memory(e->err, "a list of tensors", e->n * sizeof *e->pieces);
    struct piece *p = &e->pieces[e->n++];
    *p = (struct piece){.tensor = t,
                        .factors = factors_of(e, which, layer),
                        .permuted = !present && model_rope_reorders(e->ts, c, which)};
    model_tensor_name(p->name, sizeof p->name, c, layer, which);
    e->report->n_parameters += (uint64_t)tensor_elements(t);
    e->report->exact &= e->type == TENSOR_F32 || e->type == t->type;
    return SIREN_OK;
}

static int list_pieces(struct export *e)
{
    const struct siren_config *c = &e->base.config;
    size_t capacity = 0;
    int rc = SIREN_OK;
    for (int layer = -1; layer < c->n_layers; layer++)
        for (int w = 0; w < MODEL_TENSORS && !rc; w++) {
            enum model_tensor which = (enum model_tensor)w;
            if (!model_has(c, which) || model_is_layer_tensor(which) != (layer >= 0)) continue;
            if (which == MODEL_HEAD && c->tied_head) continue;
            rc = add_piece(e, which, layer, &capacity);
        }
    if (rc) return rc;
    int64_t widest = 1;
    e->items = alloc_array(e->n, sizeof *e->items);
    for (size_t i = 0; e->items && i < e->n; i++) {
        const struct tensor *t = e->pieces[i].tensor;
        e->items[i] = (struct safetensors_item){
            e->pieces[i].name, e->type, t->n_dims, {t->shape[0], t->n_dims > 1 ? t->shape[1] : 0}};
        if (t->shape[t->n_dims - 1] > widest) widest = t->shape[t->n_dims - 1];
    }
    e->sums = alloc_array((size_t)widest, sizeof *e->sums);
    return e->items && e->sums ? SIREN_OK : siren_fail_memory(e->err, "a list of tensors", e->n);
}

/* ---- numbers ---- */

/* Row n of W + scale·B·A, in place. */
static void merge_row(struct export *e, const struct lora_factors *f, int64_t n, float *w)
{
    const float *b = f->b + n * e->adapter->config.r;
    memset(e->sums, 0, (size_t)f->in * sizeof *e->sums);
    for (int j = 0; j < e->adapter->config.r; j++) {
        const float *a = f->a + (int64_t)j * f->in;
        double factor = (double)b[j];
        for (int k = 0; k < f->in; k++) e->sums[k] += factor * (double)a[k];
    }
    for (int k = 0; k < f->in; k++)
        w[k] = (float)((double)w[k] + (double)e->adapter->scale * e->sums[k]);
}

static int read_vector(const struct export *e, const struct piece *p, float *out)
{
    int64_t n = p->tensor->shape[0];
    tensor_dequantize(p->tensor, 0, n, out);
    if (!p->permuted) return SIREN_OK;
    float *file = alloc_array((size_t)n, sizeof *file);
    if (!file) return siren_fail_memory(e->err, p->name, (size_t)n * sizeof *file);
    memcpy(file, out, (size_t)n * sizeof *file);
    for (int64_t i = 0; i < n; i++) out[i] = file[model_rope_row(&e->base.config, i)];
    free(file);
    return SIREN_OK;
}

static int check_numbers(const struct export *e, const struct piece *p, int64_t row, const float *x,
                         int64_t n)
{
    int64_t columns = p->tensor->shape[p->tensor->n_dims - 1];
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return siren_fail(e->err, SIREN_ENUMERIC,
                              "%s: %s%s, row %lld, column %lld is %f, expected a finite number",
                              e->path, p->name, p->factors ? " with the adapter merged" : "",
                              (long long)(row + i / columns), (long long)(i % columns),
                              (double)x[i]);
    return SIREN_OK;
}

static void read_matrix(struct export *e, const struct piece *p, int64_t row, int64_t n, float *out)
{
    int64_t columns = p->tensor->shape[1];
    if (!p->permuted) tensor_dequantize(p->tensor, row * columns, n * columns, out);
    for (int64_t i = 0; i < n; i++) {
        if (p->permuted)
            tensor_dequantize(p->tensor, model_rope_row(&e->base.config, row + i) * columns,
                              columns, out + i * columns);
        if (p->factors) merge_row(e, p->factors, row + i, out + i * columns);
    }
}

/* A vector is one row. */
static int read_rows(void *context, size_t index, int64_t row, int64_t n, float *out,
                     struct siren_error *err)
{
    struct export *e = context;
    const struct piece *p = &e->pieces[index];
    int64_t columns = p->tensor->shape[p->tensor->n_dims - 1];
    if (siren_progress_update(e->progress, "parameters", e->done, e->report->n_parameters))
        return siren_fail(err, SIREN_ECANCEL, "%s: the export was stopped", e->path);
    e->done += (uint64_t)(n * columns);
    int rc = 0;
    if (p->tensor->n_dims == 1)
        rc = read_vector(e, p, out);
    else
        read_matrix(e, p, row, n, out);
    return rc ? rc : check_numbers(e, p, row, out, n * columns);
}

/* ---- opening ---- */

static int parse_dtype(const char *name, enum tensor_type *out, struct siren_error *err)
{
    static const struct {
        const char *name;
        enum tensor_type type;
    } all[] = {{"f32", TENSOR_F32}, {"bf16", TENSOR_BF16}, {"f16", TENSOR_F16}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(name ? name : "f32", all[i].name)) {
            *out = all[i].type;
            return SIREN_OK;
        }
    return siren_fail(err, SIREN_EINVAL, "dtype \"%s\": expected f32, bf16 or f16", name);
}

static int open_adapter(struct export *e, const char *path)
{
    int rc = siren_adapter_load(&e->adapter, path, &e->base, e->err);
    if (!rc) siren_adapter_identity(e->adapter, path, e->report->adapter);
    e->report->exact = 0;
    return rc;
}

static int open_source(struct export *e, const struct siren_export_options *o)
{
    char source[256];
    int rc = parse_dtype(o->dtype, &e->type, e->err);
    if (!rc) rc = siren_model_identity(e->path, e->report->source, e->err);
    if (!rc) rc = siren_model_source(e->path, source, e->err);
    if (!rc) rc = tensors_open_model(&e->ts, e->path, e->err);
    if (!rc) rc = model_config_read(&e->base.config, e->ts, e->path, e->err);
    if (rc) return rc;
    if (siren_is_encoder(&e->base.config))
        return siren_fail(e->err, SIREN_EUNSUPPORTED,
                          "%s is a sentence encoder (%s); only language models are exported",
                          e->path, siren_arch_name(e->base.config.arch));
    /* An export of an export is one of the first. */
    char *name = e->report->source, *hash = strrchr(name, '#');
    if (*source && hash)
        snprintf(hash, sizeof e->report->source - (size_t)(hash - name), "%s",
                 siren_identity_hash(source));
    return o->adapter ? open_adapter(e, o->adapter) : SIREN_OK;
}

/* ---- writing ---- */

static int write_weights(struct export *e, const char *folder, const char *texts)
{
    char *path = path_join(folder, EXPORT_WEIGHTS);
    /* Not their names: the same numbers have the same identity, whatever they were made from is
     * called. */
    const char *source = siren_identity_hash(e->report->source);
    const char *adapter = siren_identity_hash(e->report->adapter);
    const char *exact = e->report->exact ? "1" : "0";
    const char *metadata[] = {"format",      "pt",  "siren.source",  source, "siren.exact", exact,
                              "siren.texts", texts, "siren.adapter", adapter};
    struct stat st;
    if (!path) return siren_fail_memory(e->err, "a path", strlen(folder));
    int rc =
        safetensors_write(path, e->items, e->n, metadata, e->adapter ? 5 : 4, read_rows, e, e->err);
    if (!rc && !stat(path, &st)) e->report->bytes = (uint64_t)st.st_size;
    free(path);
    return rc;
}

static int write_text(const char *folder, const struct export_text *t, struct siren_error *err)
{
    char *path = path_join(folder, t->name);
    int rc = path ? siren_file_write(path, t->data, t->size, err)
                  : siren_fail_memory(err, "a path", strlen(folder));
    free(path);
    return rc;
}

static int write_files(struct export *e, const char *folder)
{
    struct export_texts texts;
    char hash[17];
    int rc = export_texts(&texts, e->ts, &e->base.config, e->path, e->type, e->err);
    for (size_t i = 0; i < texts.n && !rc; i++) rc = write_text(folder, &texts.items[i], e->err);
    export_texts_hash(&texts, hash);
    export_texts_clear(&texts);
    return rc ? rc : write_weights(e, folder, hash);
}

static int write_folder(struct export *e, const char *path)
{
    struct export_folder folder;
    int rc = export_folder_begin(&folder, path, e->replace, e->err);
    if (!rc) rc = write_files(e, folder.temporary);
    if (!rc) rc = export_folder_finish(&folder, e->err);
    export_folder_end(&folder);
    return rc;
}

int siren_model_export(const char *model, const char *folder,
                       const struct siren_export_options *options,
                       struct siren_export_report *report, const struct siren_progress *progress,
                       struct siren_error *err)
{
    static const struct siren_export_options defaults;
    struct siren_export_report own;
    struct siren_error local;
    struct export e = {.path = model,
                       .base = {.path = (char *)model},
                       .report = report ? report : &own,
                       .progress = progress,
                       .err = err ? err : &local};
    if (!options) options = &defaults;
    e.trained = options->trained;
    e.replace = options->replace;
    *e.report = (struct siren_export_report){.exact = !options->trained};
    int rc = open_source(&e, options);
    if (!rc) rc = list_pieces(&e);
    e.report->n_tensors = e.n;
    if (!rc) rc = write_folder(&e, folder);
    free(e.pieces);
    free(e.items);
    free(e.sums);
    siren_adapter_free(e.adapter);
    tensors_close(e.ts);
    return rc;
}
