#include "text/trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "siren/error.h"

static int compare(const void *a, const void *b)
{
    const struct trie_entry *x = a, *y = b;
    size_t n = x->length < y->length ? x->length : y->length;
    int order = n ? memcmp(x->text, y->text, n) : 0;
    if (order) return order;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return (x->value > y->value) - (x->value < y->value);
}

/* The entries below a node: [low, high) share their first `depth` bytes. */
struct work {
    size_t low, high;
    uint32_t depth;
};

struct builder {
    struct trie *trie;
    struct work *work; /* of node i */
    size_t node_capacity, work_capacity;
};

static int add_node(struct builder *b, unsigned char byte, struct work work)
{
    struct trie *t = b->trie;
    if (t->n_nodes >= UINT32_MAX - 1 ||
        alloc_grow(&t->nodes, &b->node_capacity, t->n_nodes + 1, sizeof *t->nodes) ||
        alloc_grow(&b->work, &b->work_capacity, t->n_nodes + 1, sizeof *b->work))
        return SIREN_ENOMEM;
    t->nodes[t->n_nodes] = (struct trie_node){.byte = byte, .value = -1};
    b->work[t->n_nodes++] = work;
    return 0;
}

/* Add the children of a node. */
static int expand(struct builder *b, const struct trie_entry *entries, size_t node)
{
    struct trie *t = b->trie;
    struct work w = b->work[node];
    size_t i = w.low;
    for (; i < w.high && entries[i].length == w.depth; i++) t->nodes[node].value = entries[i].value;
    t->nodes[node].first = (uint32_t)t->n_nodes;
    while (i < w.high) {
        unsigned char byte = (unsigned char)entries[i].text[w.depth];
        size_t start = i;
        while (i < w.high && (unsigned char)entries[i].text[w.depth] == byte) i++;
        if (add_node(b, byte, (struct work){start, i, w.depth + 1})) return SIREN_ENOMEM;
        t->nodes[node].count++;
    }
    return 0;
}

int trie_build(struct trie *t, struct trie_entry *entries, size_t n)
{
    struct builder b = {.trie = t};
    *t = (struct trie){0};
    if (!n) return 0;
    qsort(entries, n, sizeof *entries, compare);
    int code = add_node(&b, 0, (struct work){0, n, 0});
    for (size_t i = 0; !code && i < t->n_nodes; i++) code = expand(&b, entries, i);
    free(b.work);
    if (code) trie_free(t);
    return code;
}

void trie_free(struct trie *t)
{
    free(t->nodes);
    *t = (struct trie){0};
}
