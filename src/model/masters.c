#include "model/masters.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static struct master *slot(const struct siren_model *m, int layer, enum model_tensor which)
{
    if (which == MODEL_HEAD && m->config.tied_head) which = MODEL_TOKEN_EMBEDDING;
    if (!model_is_layer_tensor(which)) layer = 0;
    return &m->masters[layer * MODEL_TENSORS + (int)which];
}

const struct master *master_find(const struct siren_model *m, int layer, enum model_tensor which)
{
    const struct master *found = m->masters ? slot(m, layer, which) : NULL;
    return found && found->value ? found : NULL;
}

static int wanted(const struct siren_model *m, const struct siren_trainable *what, int layer,
                  enum model_tensor which)
{
    int tied = m->config.tied_head;
    if (!model_has(&m->config, which)) return 0;
    if (model_is_layer_tensor(which))
        return layer >= what->first_layer && layer <= what->last_layer;
    if (layer) return 0;
    if (which == MODEL_TOKEN_EMBEDDING) return what->embedding || (tied && what->head);
    if (which == MODEL_HEAD) return what->head && !tied;
    return which == MODEL_FINAL_NORM && what->final_norm;
}

/* The file's numbers, rows of q and k (and of their biases) in the order of the halves. */
static void fill_master(struct master *to, const struct siren_model *m, const struct tensor *from,
                        enum model_tensor which)
{
    int64_t rows = to->tensor.shape[0], columns = to->tensor.n_dims == 2 ? to->tensor.shape[1] : 1;
    if (!model_rope_reorders(m->tensors, &m->config, which)) {
        tensor_dequantize(from, 0, rows * columns, to->value);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        tensor_dequantize(from, model_rope_row(&m->config, r) * columns, columns,
                          to->value + r * columns);
}

/* Name and shape; returns the floats that it takes, whole cache lines. */
static size_t describe_master(const struct siren_model *m, int layer, enum model_tensor which)
{
    struct master *to = slot(m, layer, which);
    size_t n = 1;
    to->tensor.n_dims = model_tensor_shape(&m->config, which, to->tensor.shape);
    for (int i = 0; i < to->tensor.n_dims; i++) n *= (size_t)to->tensor.shape[i];
    model_tensor_name(to->name, sizeof to->name, &m->config, layer, which);
    to->tensor.name = to->name;
    to->tensor.type = TENSOR_F32;
    to->tensor.bytes = n * sizeof *to->value;
    return whole_panels(n);
}

static int load_one(struct siren_model *m, int layer, enum model_tensor which, size_t at,
                    struct siren_error *err)
{
    const struct tensor *from = model_tensor(m->tensors, &m->config, layer, which, err);
    struct master *to = slot(m, layer, which);
    if (!from) return err->code;
    to->value = m->master_values + at;
    to->grad = m->master_grads + at;
    to->tensor.data = to->value;
    fill_master(to, m, from, which);
    m->params.n++;
    return SIREN_OK;
}

/* All that is wanted: described, then, with memory for so many floats, loaded. */
static int load_all(struct siren_model *m, const struct siren_trainable *what, size_t *total,
                    struct siren_error *err)
{
    int load = m->master_values != NULL, rc = SIREN_OK;
    *total = 0;
    for (int layer = 0; layer < m->config.n_layers; layer++)
        for (int i = 0; i < MODEL_TENSORS && !rc; i++) {
            enum model_tensor which = (enum model_tensor)i;
            if (!wanted(m, what, layer, which)) continue;
            if (load) rc = load_one(m, layer, which, *total, err);
            *total += describe_master(m, layer, which);
        }
    return rc;
}

/* Of the whole model first, then layer by layer, in the order of the roles. */
static int list_params(struct siren_model *m, struct siren_error *err)
{
    size_t n = (size_t)m->config.n_layers * MODEL_TENSORS, at = 0;
    m->params.list = alloc_zeroed(m->params.n, sizeof *m->params.list);
    if (!m->params.list)
        return siren_fail_memory(err, "a list of weights", m->params.n * sizeof *m->params.list);
    for (size_t i = 0; i < n; i++) {
        struct master *from = &m->masters[i];
        struct siren_param *p = &m->params.list[at];
        if (!from->value) continue;
        int vector = from->tensor.n_dims == 1;
        memcpy(p->name, from->name, sizeof p->name);
        p->value = from->value;
        p->grad = from->grad;
        p->unwritten = &from->unwritten;
        p->rows = vector ? 1 : (int)from->tensor.shape[0];
        p->columns = (int)from->tensor.shape[vector ? 0 : 1];
        p->no_decay = vector;
        at++;
    }
    return SIREN_OK;
}

int masters_load(struct siren_model *m, const struct siren_trainable *what, struct siren_error *err)
{
    if (siren_is_encoder(&m->config))
        return siren_fail(err, SIREN_EUNSUPPORTED, "%s: an encoder is not trained", m->path);
    if (what->first_layer < 0 || what->first_layer > m->config.n_layers)
        return siren_fail(err, SIREN_EINVAL, "%s: no layer %d to train from, expected 0 … %d",
                          m->path, what->first_layer, m->config.n_layers - 1);
    m->masters = alloc_zeroed((size_t)m->config.n_layers * MODEL_TENSORS, sizeof *m->masters);
    if (!m->masters) return siren_fail_memory(err, "a list of weights", sizeof *m->masters);
    size_t n;
    load_all(m, what, &n, err);
    if (!n)
        return siren_fail(
            err, SIREN_EINVAL,
            "%s: no weights to train in layers %d to %d: the model has layers 0 to %d", m->path,
            what->first_layer, what->last_layer, m->config.n_layers - 1);
    m->master_values = alloc_aligned(n, sizeof(float));
    m->master_grads = alloc_aligned(n, sizeof(float));
    if (!m->master_values || !m->master_grads)
        return siren_fail_memory(err, "weights and their gradients", 2 * n * sizeof(float));
    memset(m->master_grads, 0, n * sizeof(float));
    m->memory += 2 * n * sizeof(float);
    int rc = load_all(m, what, &n, err);
    return rc ? rc : list_params(m, err);
}

void masters_free(struct siren_model *m)
{
    free(m->master_values);
    free(m->master_grads);
    free(m->masters);
    free(m->params.list);
}

struct siren_params siren_model_params(struct siren_model *model)
{
    return model->params;
}
