#include "model/radix.h"

#include <stdlib.h>

#include "base/alloc.h"

size_t radix_common(const struct siren_tokens *a, const struct siren_tokens *b)
{
    size_t n = a->n_ids < b->n_ids ? a->n_ids : b->n_ids, i = 0;
    while (i < n && a->ids[i] == b->ids[i]) i++;
    return i;
}

int radix_compare(const void *a, const void *b)
{
    const struct siren_tokens *x = a, *y = b;
    size_t n = radix_common(x, y);
    if (n < x->n_ids && n < y->n_ids) return x->ids[n] < y->ids[n] ? -1 : 1;
    return (x->n_ids > y->n_ids) - (x->n_ids < y->n_ids);
}

struct walk {
    const unsigned char *list;
    size_t stride;
    struct radix_node *stack;
    size_t n, capacity;
};

static const struct siren_tokens *tokens_at(const struct walk *w, size_t i)
{
    return (const void *)(w->list + i * w->stride);
}

/* The runs that continue a node: one for each id that follows it. */
static int push_children(struct walk *w, const struct radix_node *node)
{
    size_t end = node->end, i = node->low;
    while (i < node->high && tokens_at(w, i)->n_ids <= end) i++; /* those that end here */
    while (i < node->high) {
        struct radix_node child = {i, i, end, end, node->segment, node->mark};
        int32_t id = tokens_at(w, i)->ids[end];
        while (i < node->high && tokens_at(w, i)->ids[end] == id) i++;
        child.high = i;
        child.end = child.high - child.low == 1
                        ? tokens_at(w, child.low)->n_ids
                        : radix_common(tokens_at(w, child.low), tokens_at(w, i - 1));
        if (alloc_grow(&w->stack, &w->capacity, w->n + 1, sizeof *w->stack)) return SIREN_ENOMEM;
        w->stack[w->n++] = child;
    }
    return SIREN_OK;
}

int radix_walk(const void *list, size_t stride, size_t from, size_t to, int mark,
               radix_visit *visit, void *context)
{
    struct walk w = {.list = list, .stride = stride};
    struct radix_node root = {from, to, 0, 0, SIREN_ROOT, mark};
    int rc = push_children(&w, &root);
    while (!rc && w.n) {
        struct radix_node node = w.stack[--w.n];
        rc = visit(context, &node);
        if (!rc) rc = push_children(&w, &node);
    }
    free(w.stack);
    return rc;
}
