#include "text/unigram.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define UNKNOWN_PENALTY 10.0

int unigram_finish(struct unigram *m)
{
    struct trie_entry *entries = alloc_array(m->vocab.n_ids, sizeof *entries);
    double lowest = 0;
    size_t n = 0, n_scores = 0;
    if (!entries) return SIREN_ENOMEM;
    for (size_t id = 0; id < m->vocab.n_ids; id++) {
        if (m->scores[id] == -INFINITY) continue;
        size_t length;
        const char *text = vocab_text(&m->vocab, (int32_t)id, &length);
        if (!n_scores++ || m->scores[id] < lowest) lowest = m->scores[id];
        if (text && length) entries[n++] = (struct trie_entry){text, length, (int32_t)id};
    }
    int code = trie_build(&m->trie, entries, n);
    free(entries);
    m->unk_score = lowest - UNKNOWN_PENALTY;
    for (int c = 0; c < 256; c++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)c);
        m->bytes[c] = vocab_find(&m->vocab, name, 6);
    }
    return code;
}

void unigram_free(struct unigram *m)
{
    vocab_free(&m->vocab);
    trie_free(&m->trie);
    free(m->scores);
    *m = (struct unigram){0};
}

static void reach(struct unigram_node *node, double score, int32_t id, size_t length)
{
    if (node->length && score <= node->score) return;
    *node = (struct unigram_node){score, id, (uint32_t)length};
}

/* Fill nodes[1 … length]; 0 if an unknown character has no token. */
static int best_paths(const struct unigram *m, struct unigram_node *nodes, const char *text,
                      size_t length)
{
    for (size_t at = 0; at < length;) {
        size_t n_character = utf8_length(text[at]);
        double so_far = nodes[at].score;
        int single = 0;
        uint32_t node = TRIE_ROOT;
        for (size_t i = at; i < length; i++) {
            node = trie_step(&m->trie, node, (unsigned char)text[i]);
            if (node == TRIE_NONE) break;
            int32_t id = m->trie.nodes[node].value;
            if (id < 0) continue;
            reach(&nodes[i + 1], m->scores[id] + so_far, id, i + 1 - at);
            if (i + 1 - at == n_character) single = 1;
        }
        if (!single) {
            if (m->unk < 0) return 0;
            reach(&nodes[at + n_character], m->unk_score + so_far, m->unk, n_character);
        }
        at += n_character;
    }
    return 1;
}

static void add_unknown(const struct unigram *m, const char *text, size_t length, struct ids *out)
{
    int32_t whole = vocab_find(&m->vocab, text, length); /* "<unk>" spelt out is a token, too */
    if (whole >= 0) {
        ids_add(out, whole);
        return;
    }
    int covered = m->byte_fallback;
    for (size_t i = 0; covered && i < length; i++) covered = m->bytes[(unsigned char)text[i]] >= 0;
    if (!covered) ids_add(out, m->unk);
    for (size_t i = 0; covered && i < length; i++) ids_add(out, m->bytes[(unsigned char)text[i]]);
}

/* Follow the best path back, marking where its tokens end, then emit it forward: neighbouring
 * unknown characters are one token. */
static void emit(const struct unigram *m, struct unigram_node *nodes, const char *text,
                 size_t length, struct ids *out)
{
    uint32_t next = 0; /* turn the chain around: length becomes that of the following token */
    int32_t id = -1;
    for (size_t at = length;;) {
        uint32_t step = nodes[at].length;
        int32_t here = nodes[at].id;
        nodes[at].length = next;
        nodes[at].id = id;
        if (!at) break;
        next = step;
        id = here;
        at -= step;
    }
    for (size_t at = 0; at < length;) {
        size_t start = at;
        id = nodes[at].id;
        at += nodes[at].length;
        if (id != m->unk) {
            ids_add(out, id);
            continue;
        }
        while (at < length && nodes[at].id == m->unk) at += nodes[at].length;
        add_unknown(m, text + start, at - start, out);
    }
}

int unigram_encode(const struct unigram *m, struct unigram_scratch *s, const char *text,
                   size_t length, struct ids *out, struct siren_error *err)
{
    if (!length) return 0;
    if (length >= UINT32_MAX || alloc_grow(&s->nodes, &s->capacity, length + 1, sizeof *s->nodes))
        return siren_fail_memory(err, "the best segmentation", length);
    memset(s->nodes, 0, (length + 1) * sizeof *s->nodes);
    if (!best_paths(m, s->nodes, text, length))
        return siren_fail(err, SIREN_EFORMAT,
                          "Unigram: an unknown character, and the vocabulary has no token for it");
    emit(m, s->nodes, text, length, out);
    return out->failed ? siren_fail_memory(err, "token ids", out->n) : 0;
}
