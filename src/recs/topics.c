#include "siren/topics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "recs/dots.h"
#include "siren/prompt.h"
#include "siren/workspace.h"

/* ---- the items of a topic ---- */

struct near_item {
    float distance;
    int32_t item, topic;
};

static int by_topic_and_distance(const void *a, const void *b)
{
    const struct near_item *x = a, *y = b;
    if (x->topic != y->topic) return x->topic < y->topic ? -1 : 1;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

int siren_topics_nearest(const int32_t *labels, const float *distances, size_t n, int k, int m,
                         int32_t *out, struct siren_error *err)
{
    if (k < 1 || m < 1)
        return siren_fail(err, SIREN_EINVAL, "nearest items: %d topics, %d items", k, m);
    struct near_item *near = alloc_array(n, sizeof *near);
    if (!near) return siren_fail_memory(err, "nearest items", n * sizeof *near);
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (labels[i] >= 0 && labels[i] < k)
            near[count++] = (struct near_item){distances[i], (int32_t)i, labels[i]};
    qsort(near, count, sizeof *near, by_topic_and_distance);
    for (size_t i = 0; i < (size_t)k * (size_t)m; i++) out[i] = -1;
    int rank = 0;
    for (size_t i = 0; i < count; i++) {
        rank = i && near[i].topic == near[i - 1].topic ? rank + 1 : 0;
        if (rank < m) out[(size_t)near[i].topic * (size_t)m + (size_t)rank] = near[i].item;
    }
    free(near);
    return 0;
}

/* ---- the clustering before ---- */

static int32_t nearest_of(const float *row, const float *centres, int k, int d)
{
    int32_t best = -1;
    double best_distance = 0;
    for (int32_t c = 0; c < k; c++) {
        double distance = dots_distance(row, centres + (size_t)c * (size_t)d, d);
        if (best < 0 || distance < best_distance) best = c, best_distance = distance;
    }
    return best;
}

int siren_topics_match(const float *old_centres, int old_k, const float *new_centres, int new_k,
                       int d, int32_t *previous, struct siren_error *err)
{
    if (old_k < 0 || new_k < 0 || d < 1)
        return siren_fail(err, SIREN_EINVAL, "matching topics: %d old, %d new, %d columns", old_k,
                          new_k, d);
    for (int32_t j = 0; j < new_k; j++) {
        int32_t old = nearest_of(new_centres + (size_t)j * (size_t)d, old_centres, old_k, d);
        previous[j] = -1;
        if (old < 0) continue;
        const float *old_row = old_centres + (size_t)old * (size_t)d;
        if (nearest_of(old_row, new_centres, new_k, d) == j) previous[j] = old;
    }
    return 0;
}

/* ---- naming ---- */

struct naming {
    struct siren_named_topic *names;
    int k, m;
    const char *kind;
    const struct siren_topic_item *items;
    const int32_t *nearest;
    const struct siren_namer *namer;
    struct siren_topic_item *shown; /* (m) of the topic at hand */
};

/* A title of one item says nothing of the others. */
static int is_title(const struct naming *w, size_t n_shown, const char *name)
{
    for (size_t i = 0; i < n_shown; i++)
        if (w->shown[i].title && !strcasecmp(w->shown[i].title, name)) return 1;
    return 0;
}

static int is_taken(const struct naming *w, int topic, const char *name)
{
    for (int c = 0; c < w->k; c++)
        if (c != topic && w->names[c].text && !strcasecmp(w->names[c].text, name)) return 1;
    return 0;
}

/* The prompt over the most items that fit; *shown: how many. */
static int fitting_prompt(const struct naming *w, size_t n, char **prompt, int *shown,
                          struct siren_error *err)
{
    size_t fits = 0, too_many = n + 1, try = n;
    *prompt = NULL;
    while (fits + 1 < too_many) {
        char *text;
        int code = siren_topic_prompt(&text, w->kind, w->shown, try, err);
        if (code) {
            free(*prompt);
            return code;
        }
        if (!w->namer->fits || w->namer->fits(w->namer->context, text)) {
            free(*prompt);
            *prompt = text;
            fits = try;
        } else {
            free(text);
            too_many = try;
        }
        try = (fits + too_many) / 2;
    }
    *shown = (int)fits;
    return 0;
}

/* Asks for one name; names[topic].text stays NULL where there is no usable answer. */
static int ask_namer(struct naming *w, int topic, struct siren_error *err)
{
    struct siren_named_topic *t = &w->names[topic];
    char *prompt, *answer = NULL, *name = NULL;
    size_t n = 0;
    for (; n < (size_t)w->m; n++) {
        int32_t item = w->nearest[(size_t)topic * (size_t)w->m + n];
        if (item < 0) break;
        w->shown[n] = w->items[item];
    }
    if (!n) return 0;
    int code = fitting_prompt(w, n, &prompt, &t->n_shown, err);
    if (code || !prompt) return code;
    code = w->namer->name(w->namer->context, prompt, &answer, err);
    free(prompt);
    if (code) return code; /* no answer at all, as from a server that is away */
    code = siren_topic_parse(answer, &name, err);
    free(answer);
    if (code == 1 && !is_taken(w, topic, name) && !is_title(w, n, name)) {
        t->text = name;
        t->source = SIREN_NAME_LLM;
        return 0;
    }
    free(name);
    t->n_shown = 0;
    return code < 0 ? code : 0;
}

/* The TF-IDF name, with a number behind it where another topic has it. */
static int fall_back(struct naming *w, int topic, const char *tfidf, struct siren_error *err)
{
    struct buf b = {0};
    buf_puts(&b, tfidf);
    for (int i = 2; !buf_failed(&b) && is_taken(w, topic, buf_text(&b)); i++) {
        buf_clear(&b);
        buf_printf(&b, "%s (%d)", tfidf, i);
    }
    w->names[topic].text = buf_take(&b);
    w->names[topic].source = SIREN_NAME_TFIDF;
    return w->names[topic].text ? 0 : siren_fail_memory(err, "a topic's name", 64);
}

static int name_all(struct naming *w, char *const *tfidf, const struct siren_progress *progress,
                    struct siren_error *err)
{
    int code = 0;
    for (int c = 0; c < w->k && !code; c++) {
        struct siren_named_topic *t = &w->names[c];
        if (t->text && t->source == SIREN_NAME_HAND) continue;
        free(t->text);
        t->text = NULL;
        t->n_shown = 0;
    }
    for (int c = 0; c < w->k && !code; c++) {
        if (w->names[c].text) continue;
        if (w->namer) code = ask_namer(w, c, err);
        if (!code && !w->names[c].text) code = fall_back(w, c, tfidf[c], err);
        if (!code && siren_progress_update(progress, "topics", (uint64_t)c + 1, (uint64_t)w->k))
            code = siren_fail(err, SIREN_ECANCEL, "naming topics was stopped");
    }
    return code;
}

int siren_topics_name(struct siren_named_topic *names, int k, const char *kind,
                      const struct siren_topic_item *items, const int32_t *labels, size_t n,
                      const int32_t *nearest, int m, const struct siren_namer *namer,
                      const struct siren_progress *progress, struct siren_error *err)
{
    struct naming w = {names, k, m, kind, items, nearest, namer, NULL};
    if (k < 1 || m < 1) return siren_fail(err, SIREN_EINVAL, "naming %d topics by %d items", k, m);
    char **tfidf = alloc_zeroed((size_t)k, sizeof *tfidf);
    w.shown = alloc_array((size_t)m, sizeof *w.shown);
    int code = tfidf && w.shown ? 0 : siren_fail_memory(err, "topics' names", (size_t)k * 8);
    if (!code) code = siren_topics_tfidf(tfidf, k, items, labels, n, err);
    if (!code) code = name_all(&w, tfidf, progress, err);
    for (int c = 0; tfidf && c < k; c++) free(tfidf[c]);
    free(tfidf);
    free(w.shown);
    return code;
}

void siren_named_topics_clear(struct siren_named_topic *names, int k)
{
    for (int c = 0; c < k; c++) free(names[c].text);
    if (k > 0) memset(names, 0, (size_t)k * sizeof *names);
}
