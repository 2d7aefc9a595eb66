/* Unigram (SentencePiece): the segmentation with the highest sum of scores. */
#ifndef SIREN_TEXT_UNIGRAM_H
#define SIREN_TEXT_UNIGRAM_H

#include "siren/error.h"
#include "text/ids.h"
#include "text/trie.h"
#include "text/vocab.h"

struct unigram {
    struct vocab vocab;
    struct trie trie;
    double *scores; /* by id; -INFINITY: the token takes no part */
    double unk_score;
    int32_t unk; /* -1: a character that needs it is an error */
    int32_t bytes[256];
    int byte_fallback;
};

int unigram_finish(struct unigram *m); /* once vocab, scores and unk are set; 0 or ENOMEM */
void unigram_free(struct unigram *m);

/* The best path to each byte of the text. */
struct unigram_node {
    double score;
    int32_t id;
    uint32_t length; /* of the last token; 0: not reached */
};
struct unigram_scratch {
    struct unigram_node *nodes;
    size_t capacity;
};
int unigram_encode(const struct unigram *m, struct unigram_scratch *s, const char *text,
                   size_t length, struct ids *out, struct siren_error *err);

#endif
