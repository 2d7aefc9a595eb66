#include "text/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define BPE_NO_PAIR UINT64_MAX
#define SHORT_WORD 48 /* symbols up to which searching all pairs again beats the heap */

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t slot_of(const struct bpe *m, uint64_t pair)
{
    uint64_t h = pair * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    size_t slot = (size_t)(h >> 20) & (m->n_slots - 1);
    while (m->merges[slot].pair != pair && m->merges[slot].pair != BPE_NO_PAIR)
        slot = (slot + 1) & (m->n_slots - 1);
    return slot;
}

static const struct bpe_merge *find_merge(const struct bpe *m, int32_t left, int32_t right)
{
    if (!m->n_merges) return NULL;
    const struct bpe_merge *found = &m->merges[slot_of(m, pair_of(left, right))];
    return found->pair == BPE_NO_PAIR ? NULL : found;
}

int bpe_reserve(struct bpe *m, size_t n_merges)
{
    size_t n_slots = 16;
    if (n_merges > INT32_MAX) return SIREN_EINVAL;
    while (n_slots < n_merges * 2) n_slots *= 2;
    m->merges = alloc_array(n_slots, sizeof *m->merges);
    if (!m->merges) return SIREN_ENOMEM;
    memset(m->merges, 0xFF, n_slots * sizeof *m->merges);
    m->n_slots = n_slots;
    return 0;
}

int bpe_add_merge(struct bpe *m, const char *left, size_t n_left, const char *right, size_t n_right)
{
    size_t skip = m->prefix ? strlen(m->prefix) : 0;
    if (skip > n_right) return SIREN_ENOTFOUND;
    int32_t a = vocab_find(&m->vocab, left, n_left), b = vocab_find(&m->vocab, right, n_right);
    struct buf whole = {0};
    buf_append(&whole, left, n_left);
    buf_append(&whole, right + skip, n_right - skip);
    int failed = buf_failed(&whole);
    int32_t id = failed ? -1 : vocab_find(&m->vocab, buf_text(&whole), whole.size);
    buf_free(&whole);
    if (failed) return SIREN_ENOMEM;
    if (a < 0 || b < 0 || id < 0) return SIREN_ENOTFOUND;
    /* of equal pairs the last counts, with its rank */
    m->merges[slot_of(m, pair_of(a, b))] =
        (struct bpe_merge){pair_of(a, b), (int32_t)m->n_merges++, id};
    return 0;
}

void bpe_finish(struct bpe *m)
{
    for (int c = 0; c < 128; c++) m->ascii[c] = vocab_find(&m->vocab, &(char){(char)c}, 1);
    for (int c = 0; c < 256; c++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)c);
        m->bytes[c] = vocab_find(&m->vocab, name, 6);
    }
}

void bpe_free(struct bpe *m)
{
    vocab_free(&m->vocab);
    free(m->merges);
    free(m->prefix);
    free(m->suffix);
    *m = (struct bpe){0};
}

void bpe_scratch_free(struct bpe_scratch *s)
{
    free(s->symbols);
    free(s->heap);
    free(s->word.items);
    buf_free(&s->text);
    *s = (struct bpe_scratch){0};
}

/* ---- from a word to its first symbols ---- */

static int32_t character_id(const struct bpe *m, struct bpe_scratch *s, const char *c, size_t n,
                            int first, int last)
{
    int prefixed = !first && m->prefix, suffixed = last && m->suffix;
    if (!prefixed && !suffixed)
        return n == 1 ? m->ascii[(unsigned char)*c] : vocab_find(&m->vocab, c, n);
    buf_clear(&s->text);
    if (prefixed) buf_puts(&s->text, m->prefix);
    buf_append(&s->text, c, n);
    if (suffixed) buf_puts(&s->text, m->suffix);
    return buf_failed(&s->text) ? -1 : vocab_find(&m->vocab, s->text.data, s->text.size);
}

/* The <0x..> tokens of a character (with its prefix and suffix); 0 if one is missing. */
static int add_bytes(const struct bpe *m, struct bpe_scratch *s, const char *c, size_t n, int first,
                     int last)
{
    if ((!first && m->prefix) || (last && m->suffix)) {
        c = s->text.data;
        n = s->text.size;
    }
    for (size_t i = 0; i < n; i++)
        if (m->bytes[(unsigned char)c[i]] < 0) return 0;
    for (size_t i = 0; i < n; i++) ids_add(&s->word, m->bytes[(unsigned char)c[i]]);
    return 1;
}

static void first_symbols(const struct bpe *m, struct bpe_scratch *s, const char *word,
                          size_t length)
{
    int pending = 0; /* an unknown character that waits for its neighbours */
    s->word.n = 0;
    for (size_t at = 0; at < length;) {
        size_t n = utf8_length(word[at]);
        int first = at == 0, last = at + n == length;
        int32_t id = character_id(m, s, word + at, n, first, last);
        if (id >= 0) {
            if (pending) ids_add(&s->word, m->unk);
            pending = 0;
            ids_add(&s->word, id);
        } else if (!(m->byte_fallback && add_bytes(m, s, word + at, n, first, last)) &&
                   m->unk >= 0) {
            if (pending && !m->fuse_unk) ids_add(&s->word, m->unk);
            pending = 1;
        }
        at += n;
    }
    if (pending) ids_add(&s->word, m->unk);
}

/* ---- merging ---- */

static void merge_short(const struct bpe *m, int32_t *ids, size_t n, struct ids *out)
{
    const struct bpe_merge *pairs[SHORT_WORD];
    for (size_t i = 0; i + 1 < n; i++) pairs[i] = find_merge(m, ids[i], ids[i + 1]);
    for (;;) {
        size_t best = n;
        int32_t rank = INT32_MAX;
        for (size_t i = 0; i + 1 < n; i++)
            if (pairs[i] && pairs[i]->rank < rank) {
                rank = pairs[i]->rank;
                best = i;
            }
        if (best == n) break;
        ids[best] = pairs[best]->id;
        memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof *ids);
        n--;
        if (best + 1 < n)
            memmove(pairs + best + 1, pairs + best + 2, (n - best - 2) * sizeof *pairs);
        pairs[best] = best + 1 < n ? find_merge(m, ids[best], ids[best + 1]) : NULL;
        if (best) pairs[best - 1] = find_merge(m, ids[best - 1], ids[best]);
    }
    for (size_t i = 0; i < n; i++) ids_add(out, ids[i]);
}

static int before(struct bpe_candidate a, struct bpe_candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(struct bpe_candidate *heap, size_t *n, struct bpe_candidate c)
{
    size_t i = (*n)++;
    while (i && before(c, heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = c;
}

static struct bpe_candidate heap_pop(struct bpe_candidate *heap, size_t *n)
{
    struct bpe_candidate top = heap[0], c = heap[--*n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= *n) break;
        if (child + 1 < *n && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], c)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = c;
    return top;
}

static void offer(const struct bpe *m, struct bpe_scratch *s, size_t *n_heap, int32_t at)
{
    if (at < 0 || s->symbols[at].next < 0) return;
    const struct bpe_merge *merge =
        find_merge(m, s->symbols[at].id, s->symbols[s->symbols[at].next].id);
    if (merge) heap_push(s->heap, n_heap, (struct bpe_candidate){merge->rank, at, merge->id});
}

static int merge_long(const struct bpe *m, struct bpe_scratch *s, struct ids *out)
{
    size_t n = s->word.n, n_heap = 0;
    /* every merge offers at most two new pairs */
    if (n > INT32_MAX / 4 || alloc_grow(&s->symbols, &s->symbol_capacity, n, sizeof *s->symbols) ||
        alloc_grow(&s->heap, &s->heap_capacity, 3 * n, sizeof *s->heap))
        return SIREN_ENOMEM;
    for (size_t i = 0; i < n; i++)
        s->symbols[i] =
            (struct bpe_symbol){s->word.items[i], (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1};
    for (size_t i = 0; i < n; i++) offer(m, s, &n_heap, (int32_t)i);
    while (n_heap) {
        struct bpe_candidate top = heap_pop(s->heap, &n_heap);
        struct bpe_symbol *left = &s->symbols[top.at];
        if (left->id < 0 || left->next < 0) continue;
        struct bpe_symbol *right = &s->symbols[left->next];
        const struct bpe_merge *merge = find_merge(m, left->id, right->id);
        if (!merge || merge->id != top.id)
            continue; /* an offer of symbols that have merged since */
        left->id = top.id;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0) s->symbols[left->next].previous = top.at;
        offer(m, s, &n_heap, left->previous);
        offer(m, s, &n_heap, top.at);
    }
    for (int32_t i = 0; i >= 0; i = s->symbols[i].next) ids_add(out, s->symbols[i].id);
    return 0;
}

int bpe_encode(const struct bpe *m, struct bpe_scratch *s, const char *word, size_t length,
               struct ids *out, struct siren_error *err)
{
    int code = 0;
    if (!length) return 0;
    if (m->ignore_merges) {
        int32_t whole = vocab_find(&m->vocab, word, length);
        if (whole >= 0) {
            ids_add(out, whole);
            return out->failed ? siren_fail_memory(err, "token ids", out->n) : 0;
        }
    }
    first_symbols(m, s, word, length);
    if (s->word.failed || buf_failed(&s->text))
        code = SIREN_ENOMEM;
    else if (s->word.n == 1)
        ids_add(out, s->word.items[0]);
    else if (s->word.n && s->word.n <= SHORT_WORD)
        merge_short(m, s->word.items, s->word.n, out);
    else if (s->word.n)
        code = merge_long(m, s, out);
    return code || out->failed ? siren_fail_memory(err, "encoding a word", length) : 0;
}
