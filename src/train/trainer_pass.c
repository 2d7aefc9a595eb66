/* A batch's items as passes over the forest: sorted by their ids, so that what they share falls
 * into the same pass; cut under a token budget where the cuts cost least; each pass a trie over its
 * sequences. */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "model/radix.h"
#include "train/trainer_parts.h"

void passes_free(struct passes *p)
{
    siren_forest_free(p->forest);
    free(p->items);
    free(p->sequences);
    free(p->sorted);
    free(p->nodes);
}

/* ---- the batch ---- */

static size_t count_sequences(const struct trainer_task *task, size_t item)
{
    return task->n_sequences ? task->n_sequences(task->context, item) : 1;
}

static int add_sequences(struct passes *p, struct trainer_item *item, struct siren_error *err)
{
    item->first = p->n_sequences;
    item->n = count_sequences(p->task, item->item);
    if (alloc_grow(&p->sequences, &p->sequences_capacity, p->n_sequences + item->n,
                   sizeof *p->sequences))
        return siren_fail_memory(err, "the sequences of a batch", item->n);
    for (size_t k = 0; k < item->n; k++) {
        struct siren_tokens tokens = p->task->sequence(p->task->context, item->item, k);
        if (!tokens.n_ids)
            return siren_fail(err, SIREN_EINVAL, "sequence %zu of an item has no tokens", k);
        p->sequences[p->n_sequences] =
            (struct pass_sequence){.tokens = tokens, .index = p->n_sequences, .leaf = -1};
        p->n_sequences++;
    }
    return item->n ? 0 : siren_fail(err, SIREN_EINVAL, "an item without a sequence");
}

static int by_first_sequence(const void *a, const void *b)
{
    const struct trainer_item *x = a, *y = b;
    int order = radix_compare(&x->passes->sequences[x->first], &y->passes->sequences[y->first]);
    return order ? order : (x->position > y->position) - (x->position < y->position);
}

/* Tokens that an item adds behind `before` (NULL: nothing): at most so many. */
static size_t new_tokens(const struct passes *p, const struct trainer_item *item,
                         const struct trainer_item *before)
{
    const struct pass_sequence *own = &p->sequences[item->first];
    size_t n = own->tokens.n_ids;
    if (before) n -= radix_common(&own->tokens, &p->sequences[before->first].tokens);
    for (size_t k = 1; k < item->n; k++)
        n += own[k].tokens.n_ids - radix_common(&own[k].tokens, &own->tokens);
    return n;
}

/* What a pass costs, in tokens: those beyond pass_tokens half as much again, for they bring about
 * that a part of the layers, (tokens − pass_tokens) / tokens, is computed a second time to keep to
 * the memory, and a forward pass is half of forward and backward (a third where all weights are
 * trained).  No gradients, no memory: nothing twice. */
static size_t cost_of(const struct passes *p, size_t tokens)
{
    size_t over = tokens > p->pass_tokens && !p->only_losses ? tokens - p->pass_tokens : 0;
    return tokens + over / 2;
}

/* Where passes end.  What items share is computed once more behind each cut, so the cuts are those
 * that cost least in all: cost(i) = min over ends e of the pass's + cost(e), from the last item on.
 * Of equals the longest pass.  A group of answers is so torn only where its prompt costs less than
 * the layers that one pass of it would compute twice. */
static int plan_cuts(struct passes *p, struct siren_error *err)
{
    size_t n = p->n_items,
           most = p->only_losses ? p->pass_tokens : trainer_pass_most(p->pass_tokens);
    uint64_t *cost = alloc_zeroed(n + 1, sizeof *cost);
    if (!cost) return siren_fail_memory(err, "the passes of a batch", n * sizeof *cost);
    for (size_t i = n; i-- > 0;) {
        size_t tokens = 0;
        p->items[i].end = i;
        for (size_t e = i; e < n; e++) {
            tokens += new_tokens(p, &p->items[e], e > i ? &p->items[e - 1] : NULL);
            if (e > i && tokens > most) break;
            if (e > i && cost_of(p, tokens) + cost[e + 1] > cost[i]) continue;
            cost[i] = cost_of(p, tokens) + cost[e + 1];
            p->items[i].end = e + 1;
        }
    }
    free(cost);
    return 0;
}

int passes_fill(struct passes *p, const size_t *ids, const double *coefficients, size_t n,
                struct siren_error *err)
{
    int rc = 0;
    p->n_items = p->n_sequences = 0;
    if (alloc_grow(&p->items, &p->items_capacity, n + 1, sizeof *p->items))
        return siren_fail_memory(err, "the items of a batch", n * sizeof *p->items);
    for (size_t i = 0; i < n && !rc; i++) {
        p->items[i] = (struct trainer_item){
            .item = ids[i], .position = i, .coefficient = coefficients[i], .passes = p};
        if (!p->task->gradient) rc = add_sequences(p, &p->items[i], err);
    }
    p->n_items = n;
    if (rc || p->task->gradient) return rc;
    qsort(p->items, n, sizeof *p->items, by_first_sequence);
    return plan_cuts(p, err);
}

size_t passes_cut(const struct passes *p, size_t from)
{
    return p->task->gradient ? from + 1 : p->items[from].end;
}

/* ---- one pass ---- */

static int by_ids(const void *a, const void *b)
{
    const struct pass_sequence *x = a, *y = b;
    int order = radix_compare(x, y);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

static int add_node(void *context, struct radix_node *node)
{
    struct passes *p = context;
    const int32_t *ids = p->sorted[node->low].tokens.ids + node->depth;
    int parent = node->mark, root = node->segment == SIREN_ROOT;
    int segment = siren_forest_add(p->forest, node->segment, ids, node->end - node->depth, 0);
    if (segment < 0) return segment;
    if (root && p->adapter) siren_forest_use_adapter(p->forest, segment, p->adapter);
    if (alloc_grow(&p->nodes, &p->nodes_capacity, p->n_nodes + 1, sizeof *p->nodes))
        return SIREN_ENOMEM;
    node->segment = segment;
    node->mark = (int)p->n_nodes;
    p->nodes[p->n_nodes++] = (struct pass_node){segment, parent, node->depth};
    for (size_t i = node->low; i < node->high; i++)
        p->sequences[p->sorted[i].index].leaf = node->mark;
    return 0;
}

static int build(struct passes *p, size_t from, size_t to, struct siren_error *err)
{
    size_t n = 0;
    int rc;
    for (size_t i = from; i < to; i++) n += p->items[i].n;
    if (alloc_grow(&p->sorted, &p->sorted_capacity, n, sizeof *p->sorted))
        return siren_fail_memory(err, "the sequences of a pass", n * sizeof *p->sorted);
    n = 0;
    for (size_t i = from; i < to; i++)
        for (size_t k = 0; k < p->items[i].n; k++)
            p->sorted[n++] = p->sequences[p->items[i].first + k];
    qsort(p->sorted, n, sizeof *p->sorted, by_ids);
    siren_forest_clear(p->forest);
    p->n_nodes = 0;
    rc = radix_walk(p->sorted, sizeof *p->sorted, 0, n, -1, add_node, p);
    return rc ? siren_fail_memory(err, "the forest of a pass", n) : 0;
}

void trainer_place(const struct trainer_item *item, size_t k, size_t position, int *segment,
                   size_t *token)
{
    const struct passes *p = item->passes;
    int node = p->sequences[item->first + k].leaf;
    while (position < p->nodes[node].start) node = p->nodes[node].parent;
    *segment = p->nodes[node].segment;
    *token = position - p->nodes[node].start;
}

/* What is not finite, by the task's own word (rc), or in its loss, is that of this item. */
static int check_loss(const struct passes *p, const struct trainer_item *item, int rc, double loss,
                      struct siren_error *err)
{
    char text[200];
    if (rc && rc != SIREN_ENUMERIC) return rc;
    if (!rc && isfinite(loss)) return 0;
    snprintf(text, sizeof text, "row %zu", item->item);
    if (p->task->describe) p->task->describe(p->task->context, item->item, text, sizeof text);
    return rc ? siren_fail_prefix(err, rc, "%s", text)
              : siren_fail(err, SIREN_ENUMERIC, "%s: the loss is %f", text, loss);
}

static int forward(struct passes *p, size_t from, size_t to, const volatile int *cancel,
                   struct siren_error *err)
{
    void *context = p->task->context;
    int rc = build(p, from, to, err);
    for (size_t i = from; i < to && !rc; i++)
        rc = p->task->want(context, p->items[i].item, p->forest, &p->items[i], err);
    if (!rc && !p->only_losses) {
        rc = siren_forest_record(p->forest, &p->training);
        if (rc) siren_fail(err, rc, "a pass that cannot be recorded");
    }
    if (!rc) rc = siren_forest_plan(p->forest, err);
    if (!rc && !p->only_losses && siren_forest_training_memory(p->forest) > p->memory)
        p->memory = siren_forest_training_memory(p->forest);
    if (!rc && siren_forest_run(p->forest, cancel))
        rc = siren_fail(err, SIREN_ECANCEL, "stopped in a pass");
    if (!rc) p->tokens += siren_forest_tokens(p->forest);
    return rc;
}

static int run_forest(struct passes *p, size_t from, size_t to, double *losses,
                      const volatile int *cancel, struct siren_error *err)
{
    int rc = forward(p, from, to, cancel, err);
    for (size_t i = from; i < to && !rc; i++) {
        struct trainer_item *item = &p->items[i];
        double *loss = &losses[item->position];
        rc = p->task->read(p->task->context, item->item, p->forest, item->coefficient, loss, err);
        rc = check_loss(p, item, rc, *loss, err);
    }
    if (!rc && !p->only_losses && siren_forest_backward(p->forest, cancel))
        rc = siren_fail(err, SIREN_ECANCEL, "stopped in a pass");
    return rc;
}

int passes_run(struct passes *p, size_t from, size_t to, uint64_t number, double *losses,
               const volatile int *cancel, struct siren_error *err)
{
    int rc = 0;
    p->training.dropout_step = number;
    if (!p->task->gradient) {
        if (!p->forest) rc = siren_forest_create(&p->forest, p->engine, err);
        return rc ? rc : run_forest(p, from, to, losses, cancel, err);
    }
    for (size_t i = from; i < to && !rc; i++) {
        struct trainer_item *item = &p->items[i];
        double *loss = &losses[item->position];
        rc = p->task->gradient(p->task->context, item->item, item->coefficient, loss, err);
        rc = check_loss(p, item, rc, *loss, err);
    }
    return rc;
}

int trainer_losses(const struct trainer_task *task, struct siren_engine *engine,
                   const struct siren_adapter *adapter, const struct trainer_options *options,
                   const size_t *items, size_t n, double *losses,
                   const struct siren_progress *progress, struct siren_error *err)
{
    struct passes p = {.task = task,
                       .engine = engine,
                       .adapter = adapter,
                       .pass_tokens = options->pass_tokens,
                       .only_losses = 1};
    double *coefficients = alloc_zeroed(n + 1, sizeof *coefficients);
    int rc = coefficients ? passes_fill(&p, items, coefficients, n, err)
                          : siren_fail_memory(err, "coefficients", n * sizeof *coefficients);
    for (size_t from = 0, to; from < n && !rc; from = to) {
        to = passes_cut(&p, from);
        rc = passes_run(&p, from, to, 0, losses, NULL, err);
        if (!rc && siren_progress_update(progress, "rows judged", to, n))
            rc = siren_fail(err, SIREN_ECANCEL, "stopped after %zu of %zu rows", to, n);
    }
    passes_free(&p);
    free(coefficients);
    return rc;
}
