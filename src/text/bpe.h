/* Byte pair encoding.
 *
 * A word starts as its characters' ids and neighbours merge, the pair of lowest
 * rank first, the leftmost of equals.  Merges are found by a hash on the pair of
 * ids; long words use a heap, O(n log n). */
#ifndef SIREN_TEXT_BPE_H
#define SIREN_TEXT_BPE_H

#include "siren/error.h"
#include "text/ids.h"
#include "text/vocab.h"

struct bpe_merge {
    uint64_t pair; /* left << 32 | right; BPE_NO_PAIR: a free slot */
    int32_t rank, id;
};

struct bpe {
    struct vocab vocab;
    struct bpe_merge *merges; /* open addressing, n_slots a power of two */
    size_t n_slots, n_merges;
    int32_t ascii[128]; /* ids of the one-byte characters, -1: none */
    int32_t bytes[256]; /* ids of "<0x00>" … "<0xFF>"; used if byte_fallback */
    int32_t unk;        /* -1: none */
    int byte_fallback;  /* unknown characters become <0x..> tokens */
    int fuse_unk;       /* neighbouring unknown characters become one token */
    int ignore_merges;  /* a word that is a token is that token */
    char *prefix;       /* of every character but a word's first; NULL: none */
    char *suffix;       /* of a word's last character; NULL: none */
};

/* Once vocab, prefix and suffix are set: room for n merges … */
int bpe_reserve(struct bpe *m, size_t n_merges);
/* … then each in order of rank.  SIREN_ENOTFOUND if a part or the whole is not in the vocabulary.
 */
int bpe_add_merge(struct bpe *m, const char *left, size_t n_left, const char *right,
                  size_t n_right);
void bpe_finish(struct bpe *m); /* the tables by character and byte */
void bpe_free(struct bpe *m);

struct bpe_symbol {
    int32_t id, previous, next; /* -1: none; a merged-away symbol has id -1 */
};
struct bpe_candidate {
    int32_t rank, at, id;
};
/* What one thread needs while encoding. */
struct bpe_scratch {
    struct bpe_symbol *symbols;
    struct bpe_candidate *heap;
    size_t symbol_capacity, heap_capacity;
    struct ids word;
    struct buf text;
};
void bpe_scratch_free(struct bpe_scratch *s);

int bpe_encode(const struct bpe *m, struct bpe_scratch *s, const char *word, size_t length,
               struct ids *out, struct siren_error *err);

#endif
