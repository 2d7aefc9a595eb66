#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/unicode.h"
#include "text/vocab.h"

int added_add(struct added *a, const struct added_token *token)
{
    if (alloc_grow(&a->items, &a->capacity, a->n + 1, sizeof *a->items)) return SIREN_ENOMEM;
    struct added_token *copy = &a->items[a->n];
    *copy = *token;
    copy->normal = NULL;
    copy->text = alloc_string(token->text, token->length);
    if (!copy->text) return SIREN_ENOMEM;
    a->n++;
    return 0;
}

static int compare_ids(const void *a, const void *b)
{
    const struct added_token *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static int check_length(const struct added_token *t, size_t length, struct siren_error *err)
{
    if (length <= LONGEST_TOKEN) return 0;
    return siren_fail(err, SIREN_EUNSUPPORTED,
                      "added token %d (\"%.20s…\") has %zu bytes, expected at most %d", (int)t->id,
                      t->text, length, LONGEST_TOKEN);
}

static int finish_trie(struct trie *trie, unsigned char first[256], struct trie_entry *entries,
                       size_t n)
{
    for (size_t i = 0; i < n; i++) first[(unsigned char)entries[i].text[0]] = 1;
    return trie_build(trie, entries, n);
}

int added_finish(struct added *a, const struct normalizer *steps, size_t n_steps,
                 struct siren_error *err)
{
    struct trie_entry *raw = alloc_array(a->n, sizeof *raw);
    struct trie_entry *normal = alloc_array(a->n, sizeof *normal);
    struct normalize_scratch scratch = {0};
    size_t n_raw = 0, n_normal = 0;
    int code = raw && normal ? 0 : siren_fail_memory(err, "added tokens", a->n);
    if (!code && a->n) qsort(a->items, a->n, sizeof *a->items, compare_ids);
    for (size_t i = 0; !code && i < a->n; i++) {
        struct added_token *t = &a->items[i];
        if ((code = check_length(t, t->length, err))) break;
        if (!t->normalized) {
            if (t->length) raw[n_raw++] = (struct trie_entry){t->text, t->length, (int32_t)i};
            continue;
        }
        const char *text;
        size_t length;
        int kept = 1;
        code = normalize(steps, n_steps, &scratch, t->text, t->length, &text, &length, &kept, err);
        if (!code) code = check_length(t, length, err);
        if (code || !length) continue;
        t->normal = alloc_string(text, length);
        t->n_normal = length;
        if (!t->normal) code = siren_fail_memory(err, "added tokens", a->n);
        normal[n_normal++] = (struct trie_entry){t->normal, length, (int32_t)i};
    }
    if (!code && (finish_trie(&a->raw, a->raw_first, raw, n_raw) ||
                  finish_trie(&a->normal, a->normal_first, normal, n_normal)))
        code = siren_fail_memory(err, "added tokens", a->n);
    free(raw);
    free(normal);
    normalize_scratch_free(&scratch);
    return code;
}

void added_free(struct added *a)
{
    for (size_t i = 0; i < a->n; i++) {
        free(a->items[i].text);
        free(a->items[i].normal);
    }
    free(a->items);
    trie_free(&a->raw);
    trie_free(&a->normal);
}

const struct added_token *added_find(const struct added *a, int32_t id)
{
    struct added_token key = {.id = id};
    return a->n ? bsearch(&key, a->items, a->n, sizeof *a->items, compare_ids) : NULL;
}

/* The longest entry that begins at `at`: its index and end, or -1. */
static int32_t longest_at(const struct trie *trie, const char *text, size_t length, size_t at,
                          size_t *end)
{
    uint32_t node = TRIE_ROOT;
    int32_t found = -1;
    for (size_t i = at; i < length; i++) {
        node = trie_step(trie, node, (unsigned char)text[i]);
        if (node == TRIE_NONE) break;
        if (trie->nodes[node].value < 0) continue;
        found = trie->nodes[node].value;
        *end = i + 1;
    }
    return found;
}

static int inside_word(const char *text, size_t length, size_t start, size_t end)
{
    if (start) {
        size_t at = utf8_previous(text, start);
        if (unicode_is_word(utf8_next(text, &at))) return 1;
    }
    return end < length && unicode_is_word(utf8_next(text, &end));
}

static size_t spaces_before(const char *text, size_t start)
{
    while (start) {
        size_t last = utf8_previous(text, start), at = last;
        if (!unicode_is_space(utf8_next(text, &at))) break;
        start = last;
    }
    return start;
}

static size_t spaces_after(const char *text, size_t length, size_t end)
{
    while (end < length) {
        size_t at = end;
        if (!unicode_is_space(utf8_next(text, &at))) break;
        end = at;
    }
    return end;
}

int32_t added_next(const struct added *a, const struct trie *trie, const unsigned char *first_bytes,
                   int skip_special, const char *text, size_t length, size_t floor, size_t *at,
                   size_t *start, size_t *end)
{
    if (!trie->nodes) return -1;
    for (size_t i = *at; i < length;) {
        size_t behind = i;
        int32_t found =
            first_bytes[(unsigned char)text[i]] ? longest_at(trie, text, length, i, &behind) : -1;
        if (found < 0) {
            i++;
            continue;
        }
        const struct added_token *t = &a->items[found];
        *start = i;
        *end = *at = i = behind;
        if (skip_special && t->special) continue;
        if (t->single_word && inside_word(text, length, *start, *end)) continue;
        if (t->lstrip) {
            *start = spaces_before(text, *start);
            if (*start < floor) *start = floor;
        }
        if (t->rstrip) *end = spaces_after(text, length, *end);
        if (*start >= *end) continue; /* the one before has swallowed all of it */
        return found;
    }
    return -1;
}
