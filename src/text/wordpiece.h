/* WordPiece: the longest token that begins the word, then the longest that
 * continues it ("##…"), and so on; a word that cannot be covered is [UNK]. */
#ifndef SIREN_TEXT_WORDPIECE_H
#define SIREN_TEXT_WORDPIECE_H

#include "siren/error.h"
#include "text/ids.h"
#include "text/trie.h"
#include "text/vocab.h"

struct wordpiece {
    struct vocab vocab;
    struct trie trie;
    char *prefix;          /* "##" */
    int32_t unk;           /* -1: a word that needs it is an error */
    uint32_t continuation; /* the trie's node after the prefix; TRIE_NONE: no such token */
    size_t max_characters; /* longer words are unknown */
};

int wordpiece_finish(struct wordpiece *m); /* once vocab, prefix and unk are set; 0 or ENOMEM */
void wordpiece_free(struct wordpiece *m);
int wordpiece_encode(const struct wordpiece *m, const char *word, size_t length, struct ids *out,
                     struct siren_error *err);

#endif
