/* A trie over byte strings: which entries are prefixes of a text?  Built once;
 * immutable. */
#ifndef SIREN_TEXT_TRIE_H
#define SIREN_TEXT_TRIE_H

#include <stddef.h>
#include <stdint.h>

struct trie_entry {
    const char *text;
    size_t length;
    int32_t value; /* >= 0 */
};

struct trie_node {
    uint32_t first; /* of its children, which lie side by side, sorted by byte */
    uint16_t count; /* of its children */
    unsigned char byte;
    int32_t value; /* -1: no entry ends here */
};

struct trie {
    struct trie_node *nodes; /* [0] is the root; NULL: empty trie */
    size_t n_nodes;
};

#define TRIE_ROOT 0u
#define TRIE_NONE UINT32_MAX

/* Sorts `entries`.  Of equal entries the one with the largest value stays.  0 or SIREN_ENOMEM. */
int trie_build(struct trie *t, struct trie_entry *entries, size_t n);
void trie_free(struct trie *t);

/* The child of a node for a byte, or TRIE_NONE. */
static inline uint32_t trie_step(const struct trie *t, uint32_t node, unsigned char byte)
{
    if (!t->nodes) return TRIE_NONE;
    const struct trie_node *parent = &t->nodes[node];
    uint32_t low = parent->first, high = low + parent->count;
    if (parent->count == 256) return low + byte;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (t->nodes[middle].byte < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low < parent->first + parent->count && t->nodes[low].byte == byte ? low : TRIE_NONE;
}

#endif
