/* The radix tree over sequences of ids: what becomes the segments of a forest.
 *
 * Sequences that are sorted have their common prefixes beside each other, so a subtree is a range
 * of them and the tree needs no nodes in memory: it is walked.
 *
 *     qsort(list, n, sizeof *list, radix_compare);
 *     radix_walk(list, sizeof *list, 0, n, visit, context);
 *
 * Elements are structs whose first member is a struct siren_tokens, of at least one token.
 * Private to the library. */
#ifndef SIREN_MODEL_RADIX_H
#define SIREN_MODEL_RADIX_H

#include "siren/score.h"

/* How many leading tokens two sequences share. */
size_t radix_common(const struct siren_tokens *a, const struct siren_tokens *b);
/* For qsort: by the first id that differs, a prefix before what continues it. */
int radix_compare(const void *a, const void *b);

/* A run of tokens: sequences [low, high) all have tokens [depth, end), and part behind it. */
struct radix_node {
    size_t low, high, depth, end;
    /* Of the visitor, handed on to the children: the segment that ends at `depth` (SIREN_ROOT: none
     * yet), and anything else. */
    int segment, mark;
};

/* Visit the runs of the sequences [from, to), parents before children.  `visit` turns a run into
 * segments and stores the last one's number in node->segment.  Returns what a visit returned if
 * that is not 0, or SIREN_ENOMEM.  The first runs get segment SIREN_ROOT and this mark. */
typedef int radix_visit(void *context, struct radix_node *node);
int radix_walk(const void *list, size_t stride, size_t from, size_t to, int mark,
               radix_visit *visit, void *context);

#endif
