/* What a recorded pass keeps for its backward, and how much of it: the plan's part. */
#include <limits.h>
#include <string.h>

#include "model/backward.h"

int siren_forest_record(struct siren_forest *f, const struct siren_training *training)
{
    f->training = *training;
    f->recorded = 1;
    f->planned = f->done = 0;
    return SIREN_OK;
}

int tape_check(const struct siren_forest *f, struct siren_error *err)
{
    if (siren_is_encoder(&f->engine->model->config))
        return siren_fail(err, SIREN_EUNSUPPORTED, "an encoder is not trained");
    for (size_t i = 0; i < f->n_segments; i++)
        if (f->segments[i].ancestor || f->segments[i].flags)
            return siren_fail(
                err, SIREN_EINVAL,
                "segment %zu: what is kept (or to be kept) has no place in a recorded "
                "pass: training changes what it was computed with",
                i);
    return SIREN_OK;
}

/* ---- what is trained ---- */

static enum back_depth depth_of(enum lora_group group)
{
    return group == LORA_DOWN_INPUT  ? BACK_DOWN
           : group == LORA_FFN_INPUT ? BACK_FFN
           : group == LORA_O_INPUT   ? BACK_O
                                     : BACK_ATTENTION;
}

int adapter_trains(const struct siren_adapter *a, int layer, enum lora_group group)
{
    for (int target = 0; a && target < SIREN_LORA_TARGETS; target++) {
        const struct lora_factors *factors = &a->factors[layer * SIREN_LORA_TARGETS + target];
        if (lora_group_of((enum siren_lora_target)target) == group && factors->a && factors->da)
            return 1;
    }
    return 0;
}

int lora_trains(const struct siren_forest *f, int layer, enum lora_group group)
{
    for (size_t i = 0; f->adapted && i < f->n_segments; i++)
        if (adapter_trains(f->segments[i].chosen, layer, group)) return 1;
    return 0;
}

int input_wanted(const struct siren_forest *f, int layer, enum lora_group group)
{
    return lora_trains(f, layer, group) ||
           (f->back->weights && master_find(f->engine->model, layer, MODEL_Q));
}

enum back_depth trained_depth(const struct siren_forest *f, int layer)
{
    enum back_depth deepest = BACK_NONE;
    for (int g = 0; g < LORA_GROUPS; g++)
        if (lora_trains(f, layer, (enum lora_group)g) && depth_of((enum lora_group)g) > deepest)
            deepest = depth_of((enum lora_group)g);
    return deepest;
}

/* Whether the state after the layer is asked for; the last layer's is what logits are of. */
static int is_asked(const struct siren_forest *f, int layer)
{
    int n_layers = f->engine->model->config.n_layers;
    if (layer == n_layers - 1 && f->n_requests > (size_t)f->hidden_start[n_layers + 1]) return 1;
    return f->hidden_start[layer + 2] > f->hidden_start[layer + 1];
}

static int adapter_with_gradients(const struct siren_forest *f)
{
    for (size_t i = 0; f->adapted && i < f->n_segments; i++)
        if (f->segments[i].chosen && f->segments[i].chosen->grads) return 1;
    return 0;
}

/* The lowest trained layer; n_layers where only the head or the final norm is. */
static int find_lowest_weights(struct siren_forest *f, struct siren_error *err)
{
    const struct siren_model *m = f->engine->model;
    struct backward *b = f->back;
    if (adapter_with_gradients(f))
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "a recorded pass that trains both weights and an adapter");
    if (f->training.layer_local)
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "layer-local training of all weights: it trains LoRA adapters only");
    b->weights = 1;
    b->depth = BACK_WHOLE;
    while (b->lowest < m->config.n_layers && !master_find(m, b->lowest, MODEL_Q)) b->lowest++;
    if (master_find(m, 0, MODEL_TOKEN_EMBEDDING)) b->lowest = 0;
    return SIREN_OK;
}

static int find_lowest(struct siren_forest *f, struct siren_error *err)
{
    struct backward *b = f->back;
    int n_layers = f->engine->model->config.n_layers, trained = 0;
    if (f->engine->model->masters) return find_lowest_weights(f, err);
    for (b->lowest = 0; b->lowest < n_layers; b->lowest++) {
        b->depth = trained_depth(f, b->lowest);
        trained |= b->depth != BACK_NONE;
        if (b->depth && (!f->training.layer_local || is_asked(f, b->lowest))) return SIREN_OK;
    }
    if (trained)
        return siren_fail(err, SIREN_EINVAL,
                          "a layer-local pass that learns nothing: no output of a layer that is "
                          "trained is asked for");
    return siren_fail(err, SIREN_EINVAL,
                      "a recorded pass in which nothing is trained: neither an adapter of the pass "
                      "nor the model has gradients");
}

/* ---- how much is saved ---- */

static size_t rows_in(const struct siren_forest *f, int layer)
{
    int last = layer == f->engine->model->config.n_layers - 1;
    return (size_t)(last || f->training.layer_local ? f->n_active : f->T);
}

/* What the rows of a layer's view leave. */
static void lay_out_rows(const struct siren_forest *f, struct arena *a, int layer,
                         struct tape_layer *t)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t n = rows_in(f, layer);
    t->attended = take_floats(a, n * (size_t)config_q_width(c));
    t->mid = take_floats(a, n * (size_t)c->d_model);
    t->gates = take_floats(a, n * 2 * (size_t)config_ffn_stride(c));
}

/* One layer's part but for its input. */
static void lay_out_layer(const struct siren_forest *f, struct arena *a, int layer,
                          struct tape_layer *t)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t T = (size_t)f->T;
    if (c->qk_norm) t->raw = take_floats(a, T * (size_t)config_qkv_width(c));
    if (layer < c->n_layers - 1 || f->training.layer_local)
        t->q = take_floats(a, T * (size_t)config_q_width(c));
    if (!f->training.layer_local) lay_out_rows(f, a, layer, t);
}

static size_t layer_bytes(const struct siren_forest *f, int layer)
{
    struct arena measure = {0};
    struct tape_layer t = {0};
    lay_out_layer(f, &measure, layer, &t);
    return measure.used + f->parity_stride * sizeof(float);
}

/* From the last layer down as many as the budget holds, beside the inputs of all. */
static int choose_saved(const struct siren_forest *f)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t budget = f->training.memory_bytes, used = 0, n = 0;
    int lowest = f->back->lowest, layers = c->n_layers - lowest;
    struct arena shared = {0};
    struct tape_layer rows;
    if (f->training.layer_local) lay_out_rows(f, &shared, lowest, &rows);
    used =
        shared.used + (size_t)layers * aligned((size_t)f->T * (size_t)c->d_model * sizeof(float));
    for (int l = c->n_layers - 1; l >= lowest; l--, n++) {
        size_t bytes = layer_bytes(f, l);
        /* Where one layer is left out, its memory is needed once for computing it again. */
        size_t again = l > lowest ? layer_bytes(f, lowest) : 0;
        if (budget && used + bytes + again > budget) break;
        used += bytes;
    }
    return (int)n;
}

int tape_choose(struct siren_forest *f, int *n_slots, struct siren_error *err)
{
    int n_layers = f->engine->model->config.n_layers;
    *n_slots = 2;
    f->tape = NULL;
    if (!f->recorded) return SIREN_OK;
    size_t bytes = aligned(sizeof *f->back) + aligned((size_t)n_layers * sizeof *f->tape) +
                   aligned((size_t)n_layers * sizeof(int));
    int rc = arena_ensure(&f->tape_plan_arena, bytes, "the plan of a recorded pass", err);
    if (rc) return rc;
    f->back = arena_take(&f->tape_plan_arena, 1, sizeof *f->back);
    memset(f->back, 0, sizeof *f->back);
    struct tape_layer *tape = arena_take(&f->tape_plan_arena, (size_t)n_layers, sizeof *tape);
    f->page_slot = arena_take(&f->tape_plan_arena, (size_t)n_layers, sizeof(int));
    rc = find_lowest(f, err);
    if (rc) return rc;
    int n_saved = choose_saved(f);
    memset(tape, 0, (size_t)n_layers * sizeof *tape);
    for (int l = 0, slot = 0; l < n_layers; l++) {
        tape[l].saved = l >= n_layers - n_saved;
        f->page_slot[l] = tape[l].saved ? slot++ : n_saved + (l & 1);
    }
    *n_slots = n_saved + (n_saved == n_layers ? 0 : 2);
    f->tape = tape;
    return SIREN_OK;
}

/* ---- memory ---- */

static size_t widest_input(const struct siren_config *c)
{
    size_t d = (size_t)c->d_model, Q = (size_t)config_q_width(c), F = (size_t)config_ffn_stride(c);
    size_t most = d > Q ? d : Q;
    return most > F ? most : F;
}

static void lay_out_tape(struct siren_forest *f, struct arena *a)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t T = (size_t)f->T, d = (size_t)c->d_model;
    for (int l = f->back->lowest; l < c->n_layers; l++) {
        struct tape_layer *t = &f->tape[l];
        t->x = take_floats(a, T * d);
        if (t->saved) lay_out_layer(f, a, l, t);
    }
    /* One layer at a time is computed again; the last has no more rows than the others. */
    if (f->back->lowest < c->n_layers && !f->tape[f->back->lowest].saved)
        lay_out_layer(f, a, f->back->lowest, &f->back->again);
    if (f->training.layer_local) lay_out_rows(f, a, f->back->lowest, &f->back->again);
    f->back->last = take_floats(a, (size_t)f->n_active * d);
}

/* Sums of factors over all rows need whole matrices of what else is a block's. */
static void lay_out_groups(struct siren_forest *f, struct arena *a)
{
    const struct siren_config *c = &f->engine->model->config;
    struct backward *b = f->back;
    size_t T = (size_t)f->T, d = (size_t)c->d_model, F = (size_t)config_ffn_stride(c);
    size_t width[LORA_GROUPS] = {d, (size_t)config_q_width(c), d, F};
    int trained[LORA_GROUPS] = {0};
    for (int l = b->lowest; l < c->n_layers; l++)
        for (int g = 0; g < LORA_GROUPS; g++) trained[g] |= input_wanted(f, l, (enum lora_group)g);
    for (int g = 0; g < LORA_GROUPS; g++) {
        struct lora_tape *t = &b->groups[g];
        t->ld = width[g];
        t->in = trained[g] && !b->weights ? take_floats(a, T * t->ld) : NULL;
        t->low = trained[g] && !b->weights ? take_floats(a, T * b->low_width) : NULL;
        t->dlow = take_floats(a, T * b->low_width);
    }
    b->dffn_out = trained[LORA_DOWN_INPUT] ? take_floats(a, T * d) : NULL;
    b->dgates = trained[LORA_FFN_INPUT] ? take_floats(a, T * 2 * F) : NULL;
    if (!b->weights) return;
    const struct kernels *k = f->engine->kernels;
    for (int g = 0; g < LORA_GROUPS; g++)
        b->kept[g] = trained[g] ? take_floats(a, kept_words(k, f->T, (int)width[g])) : NULL;
    b->kept_states = take_floats(a, kept_words(k, f->chunk_rows, (int)d));
    b->dffn_normed = take_floats(a, T * d);
    b->dattention_normed = take_floats(a, T * d);
    b->dnormed_heads = c->qk_norm ? take_floats(a, T * (size_t)config_qkv_width(c)) : NULL;
    b->raw_heads = c->qk_norm ? take_floats(a, T * (size_t)config_qkv_width(c)) : NULL;
}

static void lay_out_threads(struct siren_forest *f, struct arena *a)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t B = (size_t)f->block, F = (size_t)config_ffn_stride(c), pages = (size_t)f->max_pages;
    size_t n_threads = (size_t)siren_pool_threads(f->engine->pool);
    struct back_scratch *list = arena_take(a, n_threads, sizeof *list);
    for (size_t i = 0; i < n_threads; i++) {
        struct back_scratch t = {.dffn = take_floats(a, B * F)};
        t.dgates = take_floats(a, B * 2 * F);
        t.plain = take_floats(a, B * F);
        t.dnormed = take_floats(a, B * (size_t)c->d_model);
        t.masked = take_floats(a, B * widest_input(c));
        t.row = take_floats(a, (size_t)c->d_model);
        t.sines = take_floats(a, (size_t)c->head_dim);
        t.dw = take_floats(a, gemm_dw_scratch());
        t.attention = take_floats(a, attention_backward_scratch(c->head_dim, f->max_pages));
        t.offsets = arena_take(a, BACK_ATTENTION_ROWS, sizeof *t.offsets);
        t.counts = arena_take(a, BACK_ATTENTION_ROWS, sizeof *t.counts);
        t.mirrors = take_floats(a, pages * 2 * value_words(f->engine->kernels, c->head_dim));
        t.mirrored = arena_take(a, pages, sizeof *t.mirrored);
        t.k = arena_take(a, pages, sizeof *t.k);
        t.v = arena_take(a, pages, sizeof *t.v);
        t.mirror_k = arena_take(a, pages, sizeof *t.mirror_k);
        t.mirror_v = arena_take(a, pages, sizeof *t.mirror_v);
        t.dk = arena_take(a, pages, sizeof *t.dk);
        t.dv = arena_take(a, pages, sizeof *t.dv);
        if (a->data) list[i] = t;
    }
    f->back->scratch = list;
}

static void lay_out_backward(struct siren_forest *f, struct arena *a)
{
    const struct siren_config *c = &f->engine->model->config;
    struct backward *b = f->back;
    size_t T = (size_t)f->T, d = (size_t)c->d_model, active = (size_t)f->n_active, rows = 1;
    for (size_t i = 0; i < f->n_sets; i++)
        if ((size_t)f->sets[i].n_requests > rows) rows = (size_t)f->sets[i].n_requests;
    if ((size_t)f->chunk_rows > rows) rows = (size_t)f->chunk_rows;
    lay_out_groups(f, a);
    b->logprob_lse = take_floats(a, f->n_requests);
    b->dstates = take_floats(a, active * d);
    b->output_rows = take_floats(a, rows * d);
    b->dx = take_floats(a, T * d);
    b->dx_active = active < T ? take_floats(a, active * d) : b->dx;
    b->dattended = take_floats(a, T * (size_t)config_q_width(c));
    b->dqkv = take_floats(a, T * (size_t)config_qkv_width(c));
    b->slot_gradients = take_floats(a, back_slots(f) * (size_t)c->n_kv_heads * 2 * ATTENTION_PAGE *
                                           (size_t)c->head_dim);
    b->active_of_row = arena_take(a, T, sizeof(int));
    b->n_cursors = back_cursors(f);
    b->cursors = arena_take(a, b->n_cursors, sizeof *b->cursors);
    lay_out_threads(f, a);
}

int tape_lay_out(struct siren_forest *f, struct siren_error *err)
{
    struct backward *b = f->back;
    if (!f->tape) return SIREN_OK;
    b->low_width = 0;
    for (size_t i = 0; f->adapted && i < f->n_segments; i++) {
        const struct siren_adapter *a = f->segments[i].chosen;
        if (a && (size_t)lora_low_width(a) > b->low_width) b->low_width = (size_t)lora_low_width(a);
    }
    int rc = back_parts_plan(f, err);
    if (rc) return rc;
    size_t floats = 0;
    for (size_t i = 0; i < f->n_requests; i++)
        floats = f->requests[i].offset + f->requests[i].n_floats;
    b->n_gradients = floats;
    for (int hand_out = 0; hand_out < 2; hand_out++) {
        struct arena measure = {0}, *a = hand_out ? &f->tape_arena : &measure;
        lay_out_tape(f, a);
        b->gradients = take_floats(a, b->n_gradients);
        lay_out_backward(f, a);
        rc = hand_out ? SIREN_OK
                      : arena_ensure(&f->tape_arena, measure.used,
                                     "activations for the backward pass", err);
        if (rc) return rc;
    }
    for (int r = 0; r < f->T; r++) b->active_of_row[r] = -1;
    for (int i = 0; i < f->n_active; i++) b->active_of_row[f->active[i]] = i;
    return SIREN_OK;
}

size_t siren_forest_training_memory(const struct siren_forest *f)
{
    return f->tape ? f->tape_arena.used + f->page_bytes + f->run_arena.used : 0;
}

float *siren_forest_gradient(struct siren_forest *f, int output)
{
    if (!f->done || !f->tape || output < 0 || (size_t)output >= f->n_requests) return NULL;
    return f->back->gradients + f->requests[output].offset;
}
