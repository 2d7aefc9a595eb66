/* Retrieve, re-rank by the language model; and the topic of an unknown item. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"

void siren_ranking_clear(struct siren_ranking *ranking)
{
    if (!ranking) return;
    for (size_t i = 0; i < ranking->n; i++) siren_answer_clear(&ranking->ranked[i].answer);
    free(ranking->ranked);
    *ranking = (struct siren_ranking){0};
}

struct place {
    struct siren_ranked ranked;
    size_t retrieved; /* its place before re-ranking */
};

/* What could not be read has the fallback's rating, which says nothing: behind all others. */
static int by_mean(const void *x, const void *y)
{
    const struct place *a = x, *b = y;
    int unread =
        siren_answer_is_unread(&a->ranked.answer) - siren_answer_is_unread(&b->ranked.answer);
    if (unread) return unread;
    if (a->ranked.answer.mean != b->ranked.answer.mean)
        return a->ranked.answer.mean > b->ranked.answer.mean ? -1 : 1;
    return (a->retrieved > b->retrieved) - (a->retrieved < b->retrieved);
}

static int sort_ranking(struct siren_ranking *r, struct siren_error *err)
{
    struct place *places = alloc_array(r->n + 1, sizeof *places);
    if (!places) return siren_fail_memory(err, "a ranking", r->n * sizeof *places);
    for (size_t i = 0; i < r->n; i++) places[i] = (struct place){r->ranked[i], i};
    qsort(places, r->n, sizeof *places, by_mean);
    for (size_t i = 0; i < r->n; i++) r->ranked[i] = places[i].ranked;
    free(places);
    return 0;
}

static int answer_all(struct siren_app *app, struct siren_lm *lm,
                      const struct siren_predict_options *options, struct siren_ranking *r,
                      const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_target *targets = alloc_array(r->n + 1, sizeof *targets);
    struct siren_answer *answers = alloc_zeroed(r->n + 1, sizeof *answers);
    int rc = targets && answers ? 0 : siren_fail_memory(err, "candidates", r->n * sizeof *answers);
    for (size_t i = 0; i < r->n && !rc; i++) targets[i] = r->ranked[i].target;
    if (!rc) rc = siren_predict(app, lm, targets, r->n, options, answers, progress, err);
    for (size_t i = 0; i < r->n && !rc; i++) r->ranked[i].answer = answers[i];
    free(targets);
    free(answers);
    return rc;
}

int siren_rank(struct siren_app *app, struct siren_lm *lm, int user,
               const struct siren_rank_options *options, struct siren_ranking *out,
               const struct siren_progress *progress, struct siren_error *err)
{
    double start = clock_seconds();
    int rc = siren_retrieve(app, user, options->n_candidates, out, err);
    if (!rc && lm) rc = answer_all(app, lm, &options->predict, out, progress, err);
    if (!rc && lm) rc = sort_ranking(out, err);
    out->seconds = clock_seconds() - start;
    if (rc) siren_ranking_clear(out);
    return rc;
}

/* ---- the topic of an item that the workspace does not know ---- */

static char *new_item_text(const char *title, const char *categories, struct siren_error *err)
{
    const char *list[2] = {categories, NULL}, *none[1] = {NULL};
    struct siren_item item = {.external = title,
                              .title = title,
                              .categories = categories ? list : none,
                              .features = none,
                              .description = "",
                              .n_categories = categories ? 1 : 0};
    char *text = NULL;
    return siren_item_text(&item, 0, &text, err) ? NULL : text;
}

int siren_nearest_topic(const struct siren_app *app, struct siren_encoder *encoder,
                        const char *title, const char *categories, int *topic,
                        struct siren_error *err)
{
    const struct siren_topics *t = &app->topics;
    double best = INFINITY;
    float *v;
    char *text;
    int rc;
    *topic = -1;
    if (!t->k) return 0;
    rc = app_check_encoder(app->ws, t, encoder, err);
    if (rc) return rc;
    text = new_item_text(title, categories, err);
    v = alloc_array((size_t)t->d, sizeof *v);
    rc = text && v ? siren_encoder_embed(encoder, (const char *const *)&text, 1, v, NULL, err)
                   : siren_fail_memory(err, "an embedding", (size_t)t->d * sizeof *v);
    for (int k = 0; k < t->k && !rc; k++) {
        double distance = 0;
        for (int i = 0; i < t->d; i++) {
            double x = (double)v[i] - t->centre[(size_t)k * (size_t)t->d + (size_t)i];
            distance += x * x;
        }
        if (distance < best) best = distance, *topic = k;
    }
    free(text);
    free(v);
    return rc;
}
