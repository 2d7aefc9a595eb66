#include "text/wordpiece.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

int wordpiece_finish(struct wordpiece *m)
{
    struct trie_entry *entries = alloc_array(m->vocab.n_ids, sizeof *entries);
    size_t n = 0;
    if (!entries) return SIREN_ENOMEM;
    for (size_t id = 0; id < m->vocab.n_ids; id++) {
        size_t length;
        const char *text = vocab_text(&m->vocab, (int32_t)id, &length);
        if (text) entries[n++] = (struct trie_entry){text, length, (int32_t)id};
    }
    int code = trie_build(&m->trie, entries, n);
    free(entries);
    m->continuation = TRIE_ROOT;
    for (const char *p = m->prefix; *p && m->continuation != TRIE_NONE; p++)
        m->continuation = trie_step(&m->trie, m->continuation, (unsigned char)*p);
    return code;
}

void wordpiece_free(struct wordpiece *m)
{
    vocab_free(&m->vocab);
    trie_free(&m->trie);
    free(m->prefix);
    *m = (struct wordpiece){0};
}

static size_t count_characters(const char *word, size_t length)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++) n += ((unsigned char)word[i] & 0xC0) != 0x80;
    return n;
}

static int unknown(const struct wordpiece *m, struct ids *out, struct siren_error *err)
{
    if (m->unk < 0)
        return siren_fail(err, SIREN_EFORMAT,
                          "WordPiece: the vocabulary has no token for unknown words");
    ids_add(out, m->unk);
    return out->failed ? siren_fail_memory(err, "token ids", out->n) : 0;
}

int wordpiece_encode(const struct wordpiece *m, const char *word, size_t length, struct ids *out,
                     struct siren_error *err)
{
    size_t before = out->n;
    if (length > m->max_characters && count_characters(word, length) > m->max_characters)
        return unknown(m, out, err);
    for (size_t start = 0; start < length;) {
        uint32_t node = start ? m->continuation : TRIE_ROOT;
        int32_t id = -1;
        size_t end = start;
        for (size_t i = start; i < length && node != TRIE_NONE; i++) {
            node = trie_step(&m->trie, node, (unsigned char)word[i]);
            if (node == TRIE_NONE) break;
            if (m->trie.nodes[node].value >= 0) {
                id = m->trie.nodes[node].value;
                end = i + 1;
            }
        }
        if (id < 0) {
            out->n = before;
            return unknown(m, out, err);
        }
        ids_add(out, id);
        start = end;
    }
    return out->failed ? siren_fail_memory(err, "token ids", out->n) : 0;
}
