/* Loading a model: configuration, then every weight packed for the kernels. */
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/claim.h"
#include "model/config.h"
#include "model/kept.h"
#include "model/masters.h"
#include "model/names.h"
#include "tensor/packed.h"

struct loader {
    struct siren_model *model;
    const struct siren_model_options *options;
    struct siren_pool *pool;
    struct siren_error *err;
    int rc;
};

/* ---- small vectors ---- */

/* What is trained comes from its f32 values, the rest from the file. */
static const struct tensor *find_weight(struct loader *l, int layer, enum model_tensor role)
{
    const struct master *trained = master_find(l->model, layer, role);
    if (l->rc) return NULL;
    if (trained) return &trained->tensor;
    const struct tensor *t =
        model_tensor(l->model->tensors, &l->model->config, layer, role, l->err);
    if (!t) l->rc = l->err->code;
    return t;
}

/* The tensor's values in f32, in new memory or, where a weight has changed, in the old. */
static void load_vector(struct loader *l, float **v, int layer, enum model_tensor role)
{
    const struct tensor *t = find_weight(l, layer, role);
    if (!t) return;
    size_t n = 1;
    for (int i = 0; i < t->n_dims; i++) n *= (size_t)t->shape[i];
    if (!*v) {
        *v = alloc_aligned(whole_panels(n), sizeof **v);
        if (!*v) {
            l->rc = siren_fail_memory(l->err, t->name, n * sizeof **v);
            return;
        }
        memset(*v, 0, whole_panels(n) * sizeof **v);
        l->model->memory += n * sizeof **v;
    }
    tensor_dequantize(t, 0, (int64_t)n, *v);
}

/* ---- matrices: pieces of one packed matrix, filled by all threads ---- */

struct piece {
    const struct tensor *tensor;
    int column; /* of the packed matrix, a multiple of 16 except where pieces abut */
    int rows;
    const int32_t *list; /* source rows in output order; NULL: as they are */
};

struct fill_job {
    struct packed *w;
    const struct piece *pieces;
    int n_pieces;
    atomic_long cursor;
};

enum { FILL_ROWS = 64 };

static void fill_worker(void *context, int thread, int n_threads)
{
    struct fill_job *job = context;
    long chunks = 0;
    for (int i = 0; i < job->n_pieces; i++)
        chunks += (job->pieces[i].rows + FILL_ROWS - 1) / FILL_ROWS;
    for (long c; (c = claim_next(&job->cursor, chunks)) >= 0;) {
        int i = 0;
        for (; c >= (job->pieces[i].rows + FILL_ROWS - 1) / FILL_ROWS; i++)
            c -= (job->pieces[i].rows + FILL_ROWS - 1) / FILL_ROWS;
        const struct piece *p = &job->pieces[i];
        int row = (int)c * FILL_ROWS, n = p->rows - row < FILL_ROWS ? p->rows - row : FILL_ROWS;
        if (p->list)
            packed_fill_rows(job->w, p->column + row, p->tensor, p->list + row, n);
        else
            packed_fill(job->w, p->column + row, p->tensor, row, n);
    }
}

static enum packed_kind kind_of(const struct loader *l, const struct piece *pieces, int n_pieces)
{
    int expand = l->options && l->options->expand;
    enum packed_kind kind = packed_kind_for(pieces[0].tensor->type, expand);
    for (int i = 0; i < n_pieces; i++)
        kind = packed_kind_join(kind, packed_kind_for(pieces[i].tensor->type, expand));
    return kind == PACKED_F32 && l->model->rounded ? PACKED_BF16 : kind;
}

/* One packed matrix of several pieces with the same inputs; pieces of different formats meet in
 * one that holds both exactly. */
static void load_matrix(struct loader *l, struct packed *w, int n, const struct piece *pieces,
                        int n_pieces)
{
    if (l->rc) return;
    enum packed_kind kind = kind_of(l, pieces, n_pieces);
    if (!w->data) {
        l->rc =
            packed_alloc_in(&l->model->arena, w, kind, n, (int)pieces[0].tensor->shape[1], l->err);
        if (l->rc) return;
        l->model->memory += w->panel_bytes * (size_t)w->n_panels;
    }
    struct fill_job job = {.w = w, .pieces = pieces, .n_pieces = n_pieces};
    siren_pool_run(l->pool, fill_worker, &job);
}

static void load_single(struct loader *l, struct packed *w, int layer, enum model_tensor role)
{
    const struct tensor *t = find_weight(l, layer, role);
    if (!t) return;
    struct piece piece = {.tensor = t, .rows = (int)t->shape[0]};
    load_matrix(l, w, piece.rows, &piece, 1);
}

static void load_qkv(struct loader *l, struct layer_weights *w, int layer)
{
    const struct siren_config *c = &l->model->config;
    const struct tensor *q = find_weight(l, layer, MODEL_Q), *k = find_weight(l, layer, MODEL_K),
                        *v = find_weight(l, layer, MODEL_V);
    if (l->rc) return;
    int n_q = config_q_width(c), n_k = config_kv_width(c);
    int32_t *order = NULL;
    if (model_rope_reorders(l->model->tensors, c, MODEL_Q) &&
        !master_find(l->model, layer, MODEL_Q)) {
        order = alloc_array((size_t)(n_q + n_k), sizeof *order);
        if (!order) {
            l->rc = siren_fail_memory(l->err, "row order", (size_t)n_q * sizeof *order);
            return;
        }
        for (int i = 0; i < n_q; i++) order[i] = (int32_t)model_rope_row(c, i);
        for (int i = 0; i < n_k; i++) order[n_q + i] = (int32_t)model_rope_row(c, i);
    }
    struct piece pieces[] = {
        {.tensor = q, .column = 0, .rows = n_q, .list = order},
        {.tensor = k, .column = n_q, .rows = n_k, .list = order ? order + n_q : NULL},
        {.tensor = v, .column = n_q + n_k, .rows = n_k},
    };
    load_matrix(l, &w->qkv, n_q + 2 * n_k, pieces, 3);
    free(order);
}

/* Gate and up panels in turn, so that the gated product is one pass over the input.  A last
 * panel that is not full takes row 0 in its other columns: silu(gate)·up of them lands beyond
 * d_ffn, where nobody reads. */
static void load_gate_up(struct loader *l, struct layer_weights *w, int layer)
{
    const struct tensor *gate = find_weight(l, layer, MODEL_GATE),
                        *up = find_weight(l, layer, MODEL_UP);
    if (l->rc) return;
    int n = (int)gate->shape[0], pairs = (int)panels_for((size_t)n);
    struct piece *pieces = alloc_array((size_t)pairs * 2, sizeof *pieces);
    int32_t *rows = alloc_array((size_t)pairs * 16, sizeof *rows);
    if (!pieces || !rows) {
        l->rc = siren_fail_memory(l->err, "row order", (size_t)n * sizeof *rows);
    } else {
        for (int i = 0; i < pairs * 16; i++) rows[i] = i < n ? i : 0;
        for (int i = 0; i < pairs; i++) {
            pieces[2 * i] = (struct piece){gate, 32 * i, 16, rows + 16 * i};
            pieces[2 * i + 1] = (struct piece){up, 32 * i + 16, 16, rows + 16 * i};
        }
        load_matrix(l, &w->ffn_in, 32 * pairs, pieces, 2 * pairs);
    }
    free(rows);
    free(pieces);
}

/* ---- layers ---- */

/* A bias to its columns; rows of q and k in the order that their weights have (load_qkv). */
static void place_bias(const struct loader *l, float *to, const float *from, size_t n, int layer,
                       enum model_tensor role)
{
    const struct siren_model *m = l->model;
    int reordered =
        model_rope_reorders(m->tensors, &m->config, role) && !master_find(m, layer, role);
    for (size_t i = 0; i < n; i++)
        to[i] = from[reordered ? (size_t)model_rope_row(&m->config, (int64_t)i) : i];
}

/* q, k and v biases one after the other, in the order of the packed columns. */
static void load_qkv_bias(struct loader *l, float **all, int layer)
{
    const struct siren_config *c = &l->model->config;
    float *parts[3] = {NULL, NULL, NULL}, *to;
    static const enum model_tensor roles[3] = {MODEL_Q_BIAS, MODEL_K_BIAS, MODEL_V_BIAS};
    size_t n_q = (size_t)config_q_width(c), n_k = (size_t)config_kv_width(c);
    size_t before = l->model->memory + (*all ? 0 : (n_q + 2 * n_k) * sizeof **all);
    for (int i = 0; i < 3; i++) load_vector(l, &parts[i], layer, roles[i]);
    l->model->memory = before; /* the parts are for the moment */
    if (!l->rc && !*all) {
        *all = alloc_aligned(whole_panels(n_q + 2 * n_k), sizeof **all);
        if (!*all) l->rc = siren_fail_memory(l->err, "bias", n_q * sizeof **all);
    }
    to = *all;
    for (int i = 0; i < 3; i++) {
        size_t n = i ? n_k : n_q;
        if (!l->rc) place_bias(l, to, parts[i], n, layer, roles[i]);
        to = l->rc ? NULL : to + n;
        free(parts[i]);
    }
}

static void load_decoder_layer(struct loader *l, int layer)
{
    const struct siren_config *c = &l->model->config;
    struct layer_weights *w = &l->model->layers[layer];
    load_vector(l, &w->attention_norm, layer, MODEL_ATTN_NORM);
    load_vector(l, &w->ffn_norm, layer, MODEL_FFN_NORM);
    load_qkv(l, w, layer);
    if (c->qkv_bias) load_qkv_bias(l, &w->qkv_bias, layer);
    if (c->qk_norm) {
        load_vector(l, &w->q_norm, layer, MODEL_Q_NORM);
        load_vector(l, &w->k_norm, layer, MODEL_K_NORM);
    }
    load_single(l, &w->out, layer, MODEL_O);
    if (c->o_bias) load_vector(l, &w->out_bias, layer, MODEL_O_BIAS);
    load_gate_up(l, w, layer);
    load_single(l, &w->ffn_out, layer, MODEL_DOWN);
}

static void load_encoder_layer(struct loader *l, int layer)
{
    struct layer_weights *w = &l->model->layers[layer];
    load_qkv(l, w, layer);
    load_qkv_bias(l, &w->qkv_bias, layer);
    load_single(l, &w->out, layer, MODEL_O);
    load_vector(l, &w->out_bias, layer, MODEL_O_BIAS);
    load_vector(l, &w->attention_norm, layer, MODEL_ATTN_NORM);
    load_vector(l, &w->attention_norm_bias, layer, MODEL_ATTN_NORM_BIAS);
    load_single(l, &w->ffn_in, layer, MODEL_UP);
    load_vector(l, &w->ffn_in_bias, layer, MODEL_UP_BIAS);
    load_single(l, &w->ffn_out, layer, MODEL_DOWN);
    load_vector(l, &w->ffn_out_bias, layer, MODEL_DOWN_BIAS);
    load_vector(l, &w->ffn_norm, layer, MODEL_FFN_NORM);
    load_vector(l, &w->ffn_norm_bias, layer, MODEL_FFN_NORM_BIAS);
}

static void load_head(struct loader *l)
{
    struct siren_model *m = l->model;
    m->head_tensor = find_weight(l, 0, m->config.tied_head ? MODEL_TOKEN_EMBEDDING : MODEL_HEAD);
    if (l->rc) return;
    struct piece piece = {.tensor = m->head_tensor, .rows = m->config.n_vocab};
    load_matrix(l, &m->head, m->config.n_vocab, &piece, 1);
}

static void load_weights(struct loader *l)
{
    struct siren_model *m = l->model;
    const struct siren_config *c = &m->config;
    m->embedding = find_weight(l, 0, MODEL_TOKEN_EMBEDDING);
    if (siren_is_encoder(c)) {
        load_vector(l, &m->positions, 0, MODEL_POSITIONS);
        load_vector(l, &m->token_type, 0, MODEL_TOKEN_TYPES);
        load_vector(l, &m->embedding_norm, 0, MODEL_EMBEDDING_NORM);
        load_vector(l, &m->embedding_norm_bias, 0, MODEL_EMBEDDING_NORM_BIAS);
    } else {
        load_vector(l, &m->final_norm, 0, MODEL_FINAL_NORM);
        load_head(l);
    }
    for (int i = 0; !l->rc && i < c->n_layers; i++) {
        if (siren_is_encoder(c))
            load_encoder_layer(l, i);
        else
            load_decoder_layer(l, i);
    }
}

/* What the kernels ask of a model's sizes. */
static int check_sizes(const struct siren_model *m, struct siren_error *err)
{
    const struct siren_config *c = &m->config;
    if (c->head_dim > ATTENTION_MAX_D)
        return siren_fail(err, SIREN_EUNSUPPORTED, "%s: heads of %d, expected at most %d", m->path,
                          c->head_dim, ATTENTION_MAX_D);
    if (c->head_dim % 16)
        return siren_fail(err, SIREN_EUNSUPPORTED, "%s: heads of %d, expected a multiple of 16",
                          m->path, c->head_dim);
    if (c->n_heads / c->n_kv_heads > 48)
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "%s: %d query heads share a key head, expected at most 48", m->path,
                          c->n_heads / c->n_kv_heads);
    return SIREN_OK;
}

/* Never 0 and never twice. */
static uint64_t model_next_version(void)
{
    static atomic_uint_least64_t last;
    return atomic_fetch_add(&last, 1) + 1;
}

int siren_model_load(struct siren_model **out, const char *path,
                     const struct siren_model_options *options, struct siren_pool *pool,
                     struct siren_error *err)
{
    struct siren_error local;
    if (!err) err = &local;
    *out = NULL;
    struct siren_model *m = calloc(1, sizeof *m);
    if (!m) return siren_fail_memory(err, "model", sizeof *m);
    struct loader l = {.model = m, .options = options, .pool = pool, .err = err};
    m->path = alloc_string(path, strlen(path));
    m->spare = kept_spare_create();
    if (!m->path || !m->spare) l.rc = siren_fail_memory(err, "model", strlen(path));
    enum compute compute = COMPUTE_F32;
    if (!l.rc && options && options->compute) l.rc = compute_parse(options->compute, &compute, err);
    m->rounded = compute == COMPUTE_BF16;
    if (!l.rc) l.rc = tensors_open_model(&m->tensors, path, err);
    if (!l.rc) l.rc = model_config_read(&m->config, m->tensors, path, err);
    if (!l.rc) l.rc = check_sizes(m, err);
    if (!l.rc) {
        m->layers = alloc_zeroed((size_t)m->config.n_layers, sizeof *m->layers);
        if (!m->layers) l.rc = siren_fail_memory(err, "layers", sizeof *m->layers);
    }
    if (!l.rc && options && options->trainable) l.rc = masters_load(m, options->trainable, err);
    if (!l.rc) load_weights(&l);
    if (!l.rc && m->masters) m->version = model_next_version();
    if (l.rc) {
        siren_model_free(m);
        return l.rc;
    }
    tensors_release(m->tensors); /* from here on only rows of the embedding are read */
    *out = m;
    return SIREN_OK;
}

int siren_model_changed(struct siren_model *m, struct siren_pool *pool, struct siren_error *err)
{
    struct siren_error local;
    struct loader l = {.model = m, .pool = pool, .err = err ? err : &local};
    if (!m->masters) return SIREN_OK;
    m->version = model_next_version();
    if (master_find(m, 0, MODEL_FINAL_NORM)) load_vector(&l, &m->final_norm, 0, MODEL_FINAL_NORM);
    if (master_find(m, 0, MODEL_HEAD)) load_head(&l);
    for (int i = 0; !l.rc && i < m->config.n_layers; i++)
        if (master_find(m, i, MODEL_Q)) load_decoder_layer(&l, i);
    return l.rc;
}

static void free_layer(struct layer_weights *w)
{
    float *vectors[] = {w->qkv_bias,    w->q_norm,       w->k_norm,         w->out_bias,
                        w->ffn_in_bias, w->ffn_out_bias, w->attention_norm, w->attention_norm_bias,
                        w->ffn_norm,    w->ffn_norm_bias};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) free(vectors[i]);
}

void siren_model_free(struct siren_model *m)
{
    if (!m) return;
    for (int i = 0; m->layers && i < m->config.n_layers; i++) free_layer(&m->layers[i]);
    free(m->layers);
    packed_arena_free(&m->arena);
    kept_spare_free(m->spare);
    free(m->positions);
    free(m->token_type);
    free(m->embedding_norm);
    free(m->embedding_norm_bias);
    free(m->final_norm);
    masters_free(m);
    tensors_close(m->tensors);
    free(m->path);
    free(m);
}

const struct siren_config *siren_model_config(const struct siren_model *m)
{
    return &m->config;
}
const char *siren_model_path(const struct siren_model *m)
{
    return m->path;
}
size_t siren_model_memory(const struct siren_model *m)
{
    return m->memory;
}
