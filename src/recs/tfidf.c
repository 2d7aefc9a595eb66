/* Names without a language model: class-TF-IDF (Grootendorst 2022).  A term's weight in a topic
 * is its share of the topic's terms times log(1 + mean terms of a topic / count in all topics).
 * A term is a word or a pair of neighbouring words of a title or a category, counted once an
 * item. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <math.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "recs/idmap.h"
#include "siren/topics.h"

enum { TERMS_IN_NAME = 3, CANDIDATES = 24, MAX_TERM = 80, TERMS_AN_ITEM = 128 };

static const char *const stop_words[] = {
    "a",    "an",  "and",  "are",     "as",   "at",    "be",   "by",   "de",  "der",  "die",
    "das",  "for", "from", "he",      "her",  "his",   "i",    "in",   "is",  "it",   "its",
    "la",   "le",  "les",  "el",      "los",  "me",    "my",   "no",   "not", "of",   "on",
    "or",   "our", "she",  "that",    "the",  "their", "they", "this", "to",  "un",   "une",
    "und",  "vs",  "was",  "we",      "what", "when",  "who",  "with", "you", "your", "vol",
    "part", "aka", "amp",  "edition", "new",  "s",
};

/* ---- the terms, numbered ---- */

struct term {
    char *text;   /* as first seen */
    double total; /* in all topics */
};

struct count {
    uint64_t key; /* topic << 32 | term, + 1; 0: free */
    uint32_t n;
};

struct vocabulary {
    struct idmap ids;   /* of the folded texts */
    struct term *terms; /* (ids.n) */
    size_t capacity;
    struct count *counts;
    size_t n_counts, n_count_slots;
    double *topic_total; /* (k) */
    int failed;
};

static uint64_t mix(uint64_t key)
{
    return XXH3_64bits(&key, sizeof key);
}

static int grow_counts(struct vocabulary *v)
{
    size_t n = v->n_count_slots ? v->n_count_slots * 2 : 4096;
    struct count *counts = alloc_zeroed(n, sizeof *counts);
    if (!counts) return -1;
    for (size_t i = 0; i < v->n_count_slots; i++) {
        if (!v->counts[i].key) continue;
        size_t s = mix(v->counts[i].key) & (n - 1);
        while (counts[s].key) s = (s + 1) & (n - 1);
        counts[s] = v->counts[i];
    }
    free(v->counts);
    v->counts = counts, v->n_count_slots = n;
    return 0;
}

/* The number of a term by its folded text; `shown` is how it was written.  Below 0: no memory. */
static int64_t term_id(struct vocabulary *v, const char *folded, const char *shown)
{
    size_t known = v->ids.n;
    if (alloc_grow(&v->terms, &v->capacity, known + 1, sizeof *v->terms)) return -1;
    int64_t id = idmap_add(&v->ids, folded, strlen(folded));
    if (id < 0 || v->ids.n == known) return id;
    v->terms[id] = (struct term){alloc_string(shown, strlen(shown)), 0};
    return v->terms[id].text ? id : -1;
}

static void count_term(struct vocabulary *v, int topic, uint32_t term)
{
    if (v->n_counts * 2 >= v->n_count_slots && grow_counts(v)) {
        v->failed = 1;
        return;
    }
    uint64_t key = ((uint64_t)(uint32_t)topic << 32 | term) + 1;
    size_t s = mix(key) & (v->n_count_slots - 1);
    while (v->counts[s].key && v->counts[s].key != key) s = (s + 1) & (v->n_count_slots - 1);
    v->n_counts += !v->counts[s].key;
    v->counts[s].key = key;
    v->counts[s].n++;
    v->terms[term].total++;
    v->topic_total[topic]++;
}

static void vocabulary_free(struct vocabulary *v)
{
    for (size_t t = 0; t < v->ids.n; t++) free(v->terms[t].text);
    free(v->terms);
    idmap_free(&v->ids);
    free(v->counts);
    free(v->topic_total);
}

/* ---- words ---- */

struct word {
    char shown[MAX_TERM], folded[MAX_TERM];
};

static int is_word_character(utf8proc_int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO) || c == '\'' ||
           c == 0x2019;
}

static int word_character_at(const char *text)
{
    utf8proc_int32_t c;
    return utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &c) > 0 && is_word_character(c);
}

/* Next word at *text, with the hyphens inside it ("Sci-Fi"); 0 at the end.  *gap: something other
 * than a space or a hyphen was passed. */
static int next_word(const char **text, struct word *w, int *gap)
{
    size_t length = 0, folded = 0;
    const char *at = *text;
    *gap = 0;
    while (*at) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)at, -1, &c);
        if (n <= 0) n = 1, c = ',';
        if (is_word_character(c) || (c == '-' && length && word_character_at(at + n))) {
            utf8proc_uint8_t lower[4];
            size_t m = (size_t)utf8proc_encode_char(utf8proc_tolower(c), lower);
            if (length + (size_t)n < MAX_TERM / 2 && folded + m < MAX_TERM / 2) {
                memcpy(w->shown + length, at, (size_t)n);
                memcpy(w->folded + folded, lower, m);
                length += (size_t)n, folded += m;
            }
        } else if (length) {
            break;
        } else if (c != ' ' && c != '-') {
            *gap = 1;
        }
        at += n;
    }
    w->shown[length] = w->folded[folded] = 0;
    *text = at;
    return length > 0;
}

static int says_something(const struct word *w)
{
    int letters = 0;
    for (const char *p = w->folded; *p; p++) letters += (*p < '0' || *p > '9') && *p != '\'';
    if (letters < 2) return 0;
    for (size_t i = 0; i < sizeof stop_words / sizeof *stop_words; i++)
        if (!strcmp(w->folded, stop_words[i])) return 0;
    return 1;
}

/* ---- counting ---- */

struct item_terms {
    uint32_t terms[TERMS_AN_ITEM];
    int n;
};

static void add_term(struct vocabulary *v, struct item_terms *of, const char *folded,
                     const char *shown)
{
    int64_t id = term_id(v, folded, shown);
    if (id < 0) v->failed = 1;
    if (id < 0 || of->n == TERMS_AN_ITEM) return;
    for (int i = 0; i < of->n; i++)
        if (of->terms[i] == (uint32_t)id) return;
    of->terms[of->n++] = (uint32_t)id;
}

static void add_text(struct vocabulary *v, struct item_terms *of, const char *text)
{
    struct word before, w;
    int pair = 0, gap;
    if (!text) return;
    for (; next_word(&text, &w, &gap) && !v->failed; before = w) {
        int useful = says_something(&w);
        if (useful) add_term(v, of, w.folded, w.shown);
        if (useful && pair && !gap) {
            char folded[2 * MAX_TERM], shown[2 * MAX_TERM];
            snprintf(folded, sizeof folded, "%s %s", before.folded, w.folded);
            snprintf(shown, sizeof shown, "%s %s", before.shown, w.shown);
            add_term(v, of, folded, shown);
        }
        pair = useful;
    }
}

static void count_items(struct vocabulary *v, int k, const struct siren_topic_item *items,
                        const int32_t *labels, size_t n)
{
    for (size_t i = 0; i < n && !v->failed; i++) {
        if (labels[i] < 0 || labels[i] >= k) continue;
        struct item_terms of = {.n = 0};
        add_text(v, &of, items[i].title);
        add_text(v, &of, items[i].categories);
        for (int t = 0; t < of.n; t++) count_term(v, labels[i], of.terms[t]);
    }
}

/* ---- choosing ---- */

struct candidate {
    double weight;
    const char *text;
};

/* Of equal weight, the longer text (a pair before its words), then the lower one. */
static int heavier(const struct candidate *a, const struct candidate *b)
{
    if (a->weight != b->weight) return a->weight > b->weight;
    size_t x = strlen(a->text), y = strlen(b->text);
    return x != y ? x > y : strcmp(a->text, b->text) < 0;
}

/* Keeps the CANDIDATES heaviest in order. */
static void offer(struct candidate *best, struct candidate c)
{
    int at = CANDIDATES;
    while (at > 0 && (!best[at - 1].text || heavier(&c, &best[at - 1]))) at--;
    if (at == CANDIDATES) return;
    memmove(best + at + 1, best + at, (size_t)(CANDIDATES - 1 - at) * sizeof *best);
    best[at] = c;
}

static void rank_terms(const struct vocabulary *v, int k, struct candidate *best)
{
    double mean = 0;
    for (int c = 0; c < k; c++) mean += v->topic_total[c] / k;
    for (size_t i = 0; i < v->n_count_slots; i++) {
        if (!v->counts[i].key) continue;
        uint64_t key = v->counts[i].key - 1;
        int topic = (int)(key >> 32);
        const struct term *t = &v->terms[(uint32_t)key];
        double share = v->counts[i].n / v->topic_total[topic];
        struct candidate c = {share * log(1 + mean / t->total), t->text};
        /* what one item alone says is its title, not a theme */
        if (v->counts[i].n < 2) c.weight *= 0.01;
        offer(best + (size_t)topic * CANDIDATES, c);
    }
}

static int holds_word(const char *text, const char *term)
{
    return strcasestr(text, term) != NULL || strcasestr(term, text) != NULL;
}

static int name_is_new(char *const *names, int topic, const char *name)
{
    for (int c = 0; c < topic; c++)
        if (!strcasecmp(names[c], name)) return 0;
    return 1;
}

/* The heaviest terms that do not repeat each other; more of them, then a number, until the name
 * is new. */
static char *compose(char *const *names, int topic, const struct candidate *best)
{
    struct buf b = {0};
    const char *used[CANDIDATES];
    int n = 0;
    for (int i = 0; i < CANDIDATES && best[i].text; i++) {
        int repeats = 0;
        for (int j = 0; j < n; j++) repeats |= holds_word(used[j], best[i].text);
        if (repeats) continue;
        if (n >= TERMS_IN_NAME && name_is_new(names, topic, buf_text(&b))) break;
        if (n) buf_puts(&b, ", ");
        buf_puts(&b, best[i].text);
        used[n++] = best[i].text;
    }
    if (!n) buf_printf(&b, "Topic %d", topic + 1);
    size_t plain = b.size;
    for (int i = 2; !buf_failed(&b) && !name_is_new(names, topic, buf_text(&b)); i++) {
        b.data[b.size = plain] = 0;
        buf_printf(&b, " (%d)", i);
    }
    return buf_take(&b);
}

int siren_topics_tfidf(char **names, int k, const struct siren_topic_item *items,
                       const int32_t *labels, size_t n, struct siren_error *err)
{
    struct vocabulary v = {0};
    if (k < 1) return siren_fail(err, SIREN_EINVAL, "names of %d topics", k);
    struct candidate *best = alloc_zeroed((size_t)k * CANDIDATES, sizeof *best);
    v.topic_total = alloc_zeroed((size_t)k, sizeof *v.topic_total);
    memset(names, 0, (size_t)k * sizeof *names);
    if (best && v.topic_total)
        count_items(&v, k, items, labels, n);
    else
        v.failed = 1;
    if (!v.failed) rank_terms(&v, k, best);
    for (int c = 0; c < k && !v.failed; c++)
        if (!(names[c] = compose(names, c, best + (size_t)c * CANDIDATES))) v.failed = 1;
    int failed = v.failed;
    vocabulary_free(&v);
    free(best);
    if (!failed) return 0;
    for (int c = 0; c < k; c++) {
        free(names[c]);
        names[c] = NULL;
    }
    return siren_fail_memory(err, "topics' names", n * sizeof(struct word));
}
