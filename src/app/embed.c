/* Vectors of the items' texts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "siren/understand.h"

/* Items embedded and stored at a time: few at first, then as many as take about BATCH_SECONDS.
 * That is the most that is lost when it is stopped, with long texts too, and short ones still fill
 * the encoder's passes. */
enum { FIRST_BATCH = 16, BATCH = 512, BATCH_SECONDS = 2 };

struct embedding_job {
    struct siren_workspace *ws;
    struct siren_encoder *encoder;
    const struct siren_items *items;
    int id;        /* of the encoder in the workspace */
    int32_t *todo; /* (n) */
    size_t n;
    /* one batch */
    char *texts[BATCH];
    uint64_t hashes[BATCH];
    float *vectors; /* (BATCH, d) */
};

/* The items that need a vector. */
static int list_items(struct embedding_job *job, int all, struct siren_error *err)
{
    struct siren_embeddings old = {0};
    int rc =
        all ? SIREN_ENOTFOUND : siren_embeddings_load(&old, job->ws, job->encoder->identity, err);
    if (rc && rc != SIREN_ENOTFOUND) return rc;
    int n_old = rc ? 0 : old.n;
    job->todo = alloc_array((size_t)job->items->n + 1, sizeof *job->todo);
    if (!job->todo) {
        siren_embeddings_clear(&old);
        return siren_fail_memory(err, "items to embed", (size_t)job->items->n * 4);
    }
    for (int i = 0; i < job->items->n; i++)
        if (i >= n_old || !old.has[i]) job->todo[job->n++] = i;
    siren_embeddings_clear(&old);
    return 0;
}

/* The encoder is looked up each time: another import throws it away. */
static int store_batch(struct embedding_job *job, size_t from, size_t n, struct siren_error *err)
{
    const struct siren_encoder *e = job->encoder;
    int rc = siren_workspace_begin(job->ws, err);
    if (rc) return rc;
    rc = siren_encoder_add(job->ws, e->identity, e->d, e->unit, &job->id, err);
    if (!rc)
        rc = siren_embeddings_save(job->ws, job->id, job->todo + from, n, job->vectors, job->hashes,
                                   err);
    return siren_workspace_end(job->ws, rc, err);
}

static int embed_batch(struct embedding_job *job, size_t from, size_t n,
                       const struct siren_progress *progress, struct siren_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        const struct siren_item *item = &job->items->item[job->todo[from + i]];
        rc = siren_item_text(item, 0, &job->texts[i], err);
        job->hashes[i] = item->hash;
    }
    if (!rc)
        rc = siren_encoder_embed(job->encoder, (const char *const *)job->texts, n, job->vectors,
                                 progress, err);
    if (!rc) rc = store_batch(job, from, n, err);
    for (size_t i = 0; i < n; i++) {
        free(job->texts[i]);
        job->texts[i] = NULL;
    }
    return rc;
}

/* How many come after n that took so long. */
static size_t next_batch(size_t n, double seconds)
{
    double fitting = (double)n * BATCH_SECONDS / fmax(seconds, 1e-3);
    fitting = fmin(fitting, fmin(2 * (double)n, BATCH)); /* one fast batch is no proof */
    return fitting < 1 ? 1 : (size_t)fitting;
}

static int embed_all(struct embedding_job *job, struct siren_embed_report *report,
                     const struct siren_progress *progress, struct siren_error *err)
{
    size_t bytes = (size_t)job->encoder->d * sizeof *job->vectors;
    job->vectors = alloc_array(BATCH, bytes);
    if (!job->vectors) return siren_fail_memory(err, "embeddings", BATCH * bytes);
    int rc = 0;
    size_t batch = FIRST_BATCH;
    for (size_t at = 0, n; at < job->n && !rc; at += n) {
        double start = clock_seconds();
        n = job->n - at < batch ? job->n - at : batch;
        struct app_part part = {progress, "items", at, n, job->n};
        struct siren_progress inner = app_part_progress(&part);
        if (siren_progress_update(progress, "items", at, job->n))
            rc = siren_fail(err, SIREN_ECANCEL, "stopped after %zu of %zu items", at, job->n);
        if (!rc) rc = embed_batch(job, at, n, &inner, err);
        if (!rc) report->n_embedded += (int)n;
        batch = next_batch(n, clock_seconds() - start);
    }
    if (!rc && job->n) siren_progress_update(progress, "items", job->n, job->n);
    return rc;
}

/* All items that need a vector now. */
static int embed_round(struct embedding_job *job, int all, struct siren_embed_report *report,
                       const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_items items;
    int rc = siren_items_load(&items, job->ws, err);
    if (rc) return rc;
    job->items = &items;
    job->n = 0;
    rc = list_items(job, all, err);
    if (!report->n_embedded) report->n_kept = items.n - (int)job->n;
    report->n_items = items.n;
    if (!rc) rc = embed_all(job, report, progress, err);
    free(job->todo);
    free(job->vectors);
    job->todo = NULL;
    job->vectors = NULL;
    siren_items_clear(&items);
    return rc;
}

int siren_embed_items(struct siren_workspace *ws, struct siren_encoder *encoder, int all,
                      struct siren_embed_report *report, const struct siren_progress *progress,
                      struct siren_error *err)
{
    struct embedding_job *job = alloc_zeroed(1, sizeof *job);
    double start = clock_seconds();
    int64_t missing = 0;
    memset(report, 0, sizeof *report);
    if (!job) return siren_fail_memory(err, "embeddings", sizeof *job);
    job->ws = ws, job->encoder = encoder;
    int rc = 0;
    /* others may add items meanwhile */
    for (int round = 0; !rc && (round == 0 || missing); round++) {
        rc = siren_encoder_add(ws, encoder->identity, encoder->d, encoder->unit, &job->id, err);
        if (!rc) rc = embed_round(job, all && round == 0, report, progress, err);
        if (!rc) rc = siren_encoder_finish(ws, job->id, &missing, err);
    }
    if (!rc) rc = app_place_embedded(ws, encoder, &report->n_placed, err);
    report->seconds = clock_seconds() - start;
    free(job);
    return rc;
}
