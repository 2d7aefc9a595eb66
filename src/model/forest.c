/* Building a forest: segments, requests, and what is kept.  The plan is in
 * forest_plan.c, the run in forest_run.c. */
#include "siren/forest.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/pass.h"

/* Large chunks of rows share the decoding of the head's weights, and where one holds all rows the
 * backward pass finds their logits in it.  128 MiB are those of the answers to a prompt, from a
 * vocabulary of 50,000. */
enum { LOGITS = 1 << 25, LEAST_ROWS = 48 };

int siren_forest_create(struct siren_forest **out, struct siren_engine *engine,
                        struct siren_error *err)
{
    struct siren_forest *f = calloc(1, sizeof *f);
    *out = f;
    if (!f) return siren_fail_memory(err, "forest", sizeof *f);
    f->engine = engine;
    f->most_rows = LOGITS / (size_t)siren_model_config(engine->model)->n_vocab;
    if (f->most_rows < LEAST_ROWS) f->most_rows = LEAST_ROWS;
    return SIREN_OK;
}

static void drop_segments(struct siren_forest *f)
{
    for (size_t i = 0; i < f->n_segments; i++) siren_kept_unref(f->segments[i].kept);
    f->n_segments = 0;
}

void siren_forest_clear(struct siren_forest *f)
{
    drop_segments(f);
    for (size_t i = 0; i < f->n_sets; i++) {
        packed_free(&f->sets[i].weights);
        free(f->sets[i].rows);
    }
    f->n_sets = f->n_requests = f->n_all_ids = 0;
    f->planned = f->done = f->recorded = 0;
}

void siren_forest_free(struct siren_forest *f)
{
    if (!f) return;
    siren_forest_clear(f);
    free(f->segments);
    free(f->ids);
    free(f->requests);
    free(f->sets);
    free(f->plan_arena.data);
    free(f->run_arena.data);
    free(f->page_arena.data);
    free(f->output_arena.data);
    free(f->tape_plan_arena.data);
    free(f->parts_arena.data);
    free(f->tape_arena.data);
    free(f);
}

static struct segment *new_segment(struct siren_forest *f)
{
    if (f->n_segments >= INT32_MAX / 2 ||
        alloc_grow(&f->segments, &f->segments_capacity, f->n_segments + 1, sizeof *f->segments))
        return NULL;
    struct segment *s = &f->segments[f->n_segments++];
    *s = (struct segment){.parent = SIREN_ROOT};
    f->planned = f->done = 0;
    return s;
}

int siren_forest_add(struct siren_forest *f, int parent, const int32_t *ids, size_t n_ids,
                     unsigned flags)
{
    if (n_ids > INT32_MAX / 2 || f->n_all_ids > INT32_MAX - n_ids) return SIREN_ENOMEM;
    if (alloc_grow(&f->ids, &f->ids_capacity, f->n_all_ids + n_ids, sizeof *f->ids))
        return SIREN_ENOMEM;
    struct segment *s = new_segment(f);
    if (!s) return SIREN_ENOMEM;
    if (n_ids) memcpy(f->ids + f->n_all_ids, ids, n_ids * sizeof *ids);
    s->parent = parent;
    s->flags = flags;
    s->first_id = f->n_all_ids;
    s->n_ids = n_ids;
    f->n_all_ids += n_ids;
    return (int)f->n_segments - 1;
}

int siren_forest_add_kept(struct siren_forest *f, struct siren_kept *kept)
{
    struct segment *s = new_segment(f);
    if (!s) return SIREN_ENOMEM;
    s->kept = siren_kept_ref(kept);
    s->ancestor = 1;
    return (int)f->n_segments - 1;
}

int siren_forest_use_adapter(struct siren_forest *f, int root, const struct siren_adapter *adapter)
{
    if (root < 0 || (size_t)root >= f->n_segments) return SIREN_EINVAL;
    f->segments[root].chosen = adapter;
    f->planned = f->done = 0;
    return SIREN_OK;
}

static struct request *new_request(struct siren_forest *f, int segment, size_t token)
{
    if (f->n_requests >= INT32_MAX / 2 ||
        alloc_grow(&f->requests, &f->requests_capacity, f->n_requests + 1, sizeof *f->requests))
        return NULL;
    struct request *r = &f->requests[f->n_requests++];
    *r = (struct request){.segment = segment, .token = token, .layer = -1};
    f->planned = f->done = 0;
    return r;
}

int siren_forest_want_hidden(struct siren_forest *f, int segment, size_t token, int layer)
{
    struct request *r = new_request(f, segment, token);
    if (!r) return SIREN_ENOMEM;
    r->layer = layer < 0 ? INT32_MAX : layer; /* the plan refuses it by name */
    r->n_floats = (size_t)f->engine->model->config.d_model;
    return (int)f->n_requests - 1;
}

/* The set of vocabulary rows, shared by all requests for the same ones. */
static int find_set(struct siren_forest *f, const int32_t *rows, size_t n_rows)
{
    for (size_t i = 0; i < f->n_sets; i++) {
        struct row_set *s = &f->sets[i];
        if (!rows != !s->rows || n_rows != s->n_rows) continue;
        if (!rows || !memcmp(rows, s->rows, n_rows * sizeof *rows)) return (int)i;
    }
    if (alloc_grow(&f->sets, &f->sets_capacity, f->n_sets + 1, sizeof *f->sets)) return -1;
    struct row_set *s = &f->sets[f->n_sets];
    *s = (struct row_set){.n_rows = n_rows};
    if (rows) {
        s->rows = alloc_array(n_rows, sizeof *rows);
        if (!s->rows) return -1;
        memcpy(s->rows, rows, n_rows * sizeof *rows);
    }
    return (int)f->n_sets++;
}

int siren_forest_want_logits(struct siren_forest *f, int segment, size_t token, const int32_t *rows,
                             size_t n_rows)
{
    if (!rows) n_rows = (size_t)f->engine->model->config.n_vocab;
    int set = find_set(f, rows, n_rows);
    struct request *r = set >= 0 ? new_request(f, segment, token) : NULL;
    if (!r) return SIREN_ENOMEM;
    r->row_set = set;
    r->n_floats = n_rows;
    return (int)f->n_requests - 1;
}

int siren_forest_want_logprob(struct siren_forest *f, int segment, size_t token, int32_t target,
                              float temperature)
{
    struct request *r = new_request(f, segment, token);
    if (!r) return SIREN_ENOMEM;
    r->row_set = LOGPROB;
    r->target = target;
    r->temperature = temperature;
    r->n_floats = 2;
    return (int)f->n_requests - 1;
}

const float *siren_forest_output(const struct siren_forest *f, int output)
{
    if (!f->done || output < 0 || (size_t)output >= f->n_requests) return NULL;
    return f->outputs + f->requests[output].offset;
}

struct siren_kept *siren_forest_take(struct siren_forest *f, int segment)
{
    if (!f->done || segment < 0 || (size_t)segment >= f->n_segments) return NULL;
    return siren_kept_ref(f->segments[segment].kept);
}

size_t siren_forest_tokens(const struct siren_forest *f)
{
    return f->planned || f->done ? (size_t)f->T : 0;
}
