/* What the tests of the backward pass share: a forest of prompts with a loss on everything that it
 * can give, its gradients, and adapters and models that can be trained. */
#ifndef SIREN_TESTS_BACKWARD_CASE_H
#define SIREN_TESTS_BACKWARD_CASE_H

#include <jansson.h>

#include "adapter_fixture.h"
#include "model/backward.h"
#include "model/pass.h"
#include "siren/optimizer.h"

enum { STREAMS = 6, LONGEST = 64, ACTIVE_OUTPUTS = 512 };
static const size_t lengths[STREAMS] = {0, 45, 9, 21, 1, 38};

static inline size_t stream_ids(const struct fixture *f, int stream, int32_t *ids)
{
    int V = siren_model_config(f->model)->n_vocab;
    for (int i = 0; i < (int)lengths[stream]; i++) ids[i] = (31 * i + 17 * stream + i * i) % V;
    return lengths[stream];
}

/* ---- the loss of backward.py ---- */

struct output {
    int index;
    int n;
    int shift;   /* of w, or -1: log-probability and entropy */
    double a, b; /* coefficients of these two */
};

struct pass {
    struct siren_forest *forest;
    struct output outputs[ACTIVE_OUTPUTS];
    int n_outputs;
};

static inline double weight(int i)
{
    return cos(0.7 * i) / 8;
}

static inline void note(struct pass *p, int index, int n, int shift, double a, double b)
{
    assert_true(index >= 0 && p->n_outputs < ACTIVE_OUTPUTS);
    p->outputs[p->n_outputs++] = (struct output){index, n, shift, a, b};
}

static inline void want_last(struct pass *p, const struct siren_config *c, int segment,
                             size_t token)
{
    static const int32_t rows[3] = {3, 0, 7};
    for (int l = 1; l <= c->n_layers; l++)
        note(p, siren_forest_want_hidden(p->forest, segment, token, l), c->d_model, l, 0, 0);
    note(p, siren_forest_want_logits(p->forest, segment, token, rows, 3), 3, 0, 0, 0);
}

static inline void want_tokens(struct pass *p, int prefix, int segment, const int32_t *ids,
                               size_t n, float temperature)
{
    for (size_t i = 0; i < n; i++) {
        int from = i ? segment : prefix;
        size_t token = i ? i - 1 : lengths[1] - 1;
        note(p, siren_forest_want_logprob(p->forest, from, token, ids[i], temperature), 2, -1, 0.5,
             -0.25);
    }
}

/* The prefix and its continuations, and a tree of its own. */
static inline void build(struct pass *p, struct fixture *f, const struct siren_adapter *adapter)
{
    const struct siren_config *c = siren_model_config(f->model);
    int32_t ids[LONGEST];
    p->n_outputs = 0;
    int prefix = siren_forest_add(p->forest, SIREN_ROOT, ids, stream_ids(f, 1, ids), 0);
    int alone = siren_forest_add(p->forest, SIREN_ROOT, ids, stream_ids(f, 5, ids), 0);
    want_last(p, c, alone, lengths[5] - 1);
    for (int stream = 2; stream <= 4; stream++) {
        size_t n = stream_ids(f, stream, ids);
        int s = siren_forest_add(p->forest, prefix, ids, n, 0);
        want_last(p, c, s, n - 1);
        if (stream < 4) want_tokens(p, prefix, s, ids, n, stream == 2 ? 1.0f : 0.7f);
    }
    note(p, siren_forest_want_hidden(p->forest, prefix, 3, 1), c->d_model, 1, 0, 0);
    note(p, siren_forest_want_logprob(p->forest, prefix, lengths[1] - 1, 5, 1), 2, -1, 0.3, 0);
    siren_forest_use_adapter(p->forest, prefix, adapter);
    siren_forest_use_adapter(p->forest, alone, adapter);
}

static void (*builder)(struct pass *, struct fixture *, const struct siren_adapter *) = build;

/* The loss; where `gradients`, its derivatives beside the outputs. */
static inline double loss_of(struct pass *p, int gradients)
{
    double loss = 0;
    for (int i = 0; i < p->n_outputs; i++) {
        const struct output *o = &p->outputs[i];
        const float *x = siren_forest_output(p->forest, o->index);
        for (int j = 0; j < o->n; j++) {
            double w = o->shift >= 0 ? weight(j + o->shift) : j ? o->b : o->a;
            loss += w * (double)x[j];
            if (gradients) siren_forest_gradient(p->forest, o->index)[j] = (float)w;
        }
    }
    return loss;
}

static inline void run_recorded(struct pass *p, struct fixture *f,
                                const struct siren_adapter *adapter,
                                const struct siren_training *training)
{
    siren_forest_clear(p->forest);
    builder(p, f, adapter);
    assert_int_equal(siren_forest_record(p->forest, training), 0);
    fixture_run(p->forest);
}

/* Rows whose logits are in memory at a time; 0: as many as the forest has of itself. */
static size_t most_rows;

/* Called between a pass and its backward pass; NULL: nothing is. */
static void (*before_backward)(struct siren_forest *forest);

/* All gradients, or else all values, one after the other; n of them. */
static inline float *numbers_copy(struct siren_params params, int gradients, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < params.n; i++)
        *n += (size_t)(params.list[i].rows * params.list[i].columns);
    float *all = malloc(*n * sizeof *all), *at = all;
    for (size_t i = 0; i < params.n; i++) {
        size_t m = (size_t)(params.list[i].rows * params.list[i].columns);
        memcpy(at, gradients ? params.list[i].grad : params.list[i].value, m * sizeof *at);
        at += m;
    }
    return all;
}

static inline float *gradients_copy(struct siren_params params, size_t *n)
{
    return numbers_copy(params, 1, n);
}

/* The gradients of what the adapter trains are those in `all`, to the bit; no other has any. */
static inline void expect_gradients(const struct siren_adapter *adapter, const float *all)
{
    struct siren_params params = siren_adapter_params((struct siren_adapter *)adapter);
    for (size_t i = 0; i < params.n; i++) {
        size_t m = (size_t)(params.list[i].rows * params.list[i].columns);
        if (adapter->factors[i / 2].da)
            assert_memory_equal(params.list[i].grad, all, m * sizeof *all);
        else
            for (size_t j = 0; j < m; j++) assert_true(params.list[i].grad[j] == 0);
        all += m;
    }
}

/* All gradients of one recorded pass, as gradients_copy() has them. */
static inline float *gradients_of(struct fixture *f, struct siren_adapter *adapter,
                                  const struct siren_training *training, size_t *n)
{
    struct pass p;
    struct siren_params params = siren_adapter_params(adapter);
    assert_int_equal(siren_adapter_trainable(adapter, &f->err), 0);
    assert_int_equal(siren_forest_create(&p.forest, f->engine, NULL), 0);
    if (most_rows) p.forest->most_rows = most_rows;
    run_recorded(&p, f, adapter, training);
    assert_true(siren_forest_training_memory(p.forest) > 0);
    loss_of(&p, 1);
    siren_gradients_zero(params, NULL);
    if (before_backward) before_backward(p.forest);
    assert_int_equal(siren_forest_backward(p.forest, NULL), 0);
    assert_int_equal(siren_forest_backward(p.forest, NULL), SIREN_EINVAL); /* once a run */
    siren_forest_free(p.forest);
    return gradients_copy(params, n);
}

/* ---- files of PyTorch's ---- */

/* An adapter of the library's own with the factors of a file. */
static inline struct siren_adapter *adapter_of(struct fixture *f, const char *name)
{
    char path[256];
    json_error_t error;
    snprintf(path, sizeof path, "tests/fixtures/adapters/%s-factors.json", name);
    json_t *j = json_load_file(path, 0, &error);
    struct siren_adapter_config config = {.targets = ALL_TARGETS,
                                          .last_layer = siren_model_config(f->model)->n_layers - 1,
                                          .r = (int)json_integer_value(json_object_get(j, "r")),
                                          .alpha =
                                              (float)json_number_value(json_object_get(j, "alpha")),
                                          .rslora = json_is_true(json_object_get(j, "rslora"))};
    json_decref(j);
    struct siren_adapter *a;
    if (siren_adapter_create(&a, f->model, &config, &f->err)) fail_msg("%s", f->err.message);
    size_t n;
    float *values = floats_open(name, "factors", &n), *at = values;
    struct siren_params params = siren_adapter_params(a);
    for (size_t i = 0; i < params.n; i++) {
        size_t m = (size_t)(params.list[i].rows * params.list[i].columns);
        memcpy(params.list[i].value, at, m * sizeof *at);
        at += m;
    }
    assert_true(at == values + n);
    free(values);
    siren_adapter_changed(a);
    return a;
}

/* ---- all weights ---- */

static inline void open_trainable(struct fixture *f, const char *name, const char *isa, int threads,
                                  const struct siren_trainable *what)
{
    char path[64];
    snprintf(path, sizeof path, "tests/fixtures/models/%s", name);
    fixture_open_trainable(f, path, isa, "f32", threads, what);
}

/* Zeros that are only noted: whoever reads what is there before shows it. */
static inline void zero_by_note(struct siren_params params)
{
    siren_gradients_zero(params, NULL);
    for (size_t i = 0; i < params.n; i++) {
        const struct siren_param *p = &params.list[i];
        assert_true(p->unwritten && *p->unwritten);
        for (size_t j = 0; j < (size_t)p->rows * (size_t)p->columns; j++) p->grad[j] = NAN;
    }
}

/* Into the parameters' own gradients. */
static inline void backward_weights(struct fixture *f, const struct siren_training *training)
{
    struct pass p;
    struct siren_params params = siren_model_params(f->model);
    assert_int_equal(siren_forest_create(&p.forest, f->engine, NULL), 0);
    run_recorded(&p, f, NULL, training);
    loss_of(&p, 1);
    zero_by_note(params);
    if (before_backward) before_backward(p.forest);
    assert_int_equal(siren_forest_backward(p.forest, NULL), 0);
    siren_forest_free(p.forest);
}

#endif
