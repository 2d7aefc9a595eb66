/* Generation with continuous batching: a pass holds the last token of every
 * running sequence and the prompts of those that start, so a finished sequence
 * is replaced at once.  Sequences with the same prompt share its keys and values,
 * and all of them those of what their prompts begin with. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/pass.h"
#include "model/radix.h"
#include "model/sample.h"
#include "model/session.h"

struct runner {
    struct siren_generation *generation; /* NULL: the slot is free */
    struct siren_kept *prompt;           /* until the first own token is computed */
    struct siren_kept *own;              /* the sampled tokens' keys and values */
    int segment, output;                 /* in the current pass */
    int head; /* the segment of all but the prompt's last token, where this pass computes it; or -1
               */
    size_t capacity; /* of generation->ids and logprobs */
    int32_t drawn;   /* the token of the current pass, and its log-probability */
    float logprob;
};

struct generator {
    struct siren_session *session;
    const struct siren_sampling *sampling;
    struct sampler *samplers; /* one a thread */
    atomic_long cursor;
    struct runner *runners;
    int batch;
    struct siren_generation *all;
    size_t n, next, finished; /* next: the first not yet started */
};

void siren_generation_clear(struct siren_generation *g)
{
    free(g->ids);
    free(g->logprobs);
    g->ids = NULL;
    g->logprobs = NULL;
    g->n_ids = 0;
}

static void release_runner(struct runner *r)
{
    siren_kept_unref(r->prompt);
    siren_kept_unref(r->own);
    *r = (struct runner){.segment = -1, .head = -1};
}

static int same_prompt(const struct siren_generation *a, const struct siren_generation *b)
{
    return a->prompt.n_ids == b->prompt.n_ids &&
           !memcmp(a->prompt.ids, b->prompt.ids, a->prompt.n_ids * sizeof *a->prompt.ids);
}

/* ids[0 .. n) in the pass: what the cache knows of them, and a segment of the rest; *end is the
 * last of the two, SIREN_ROOT where n is 0. */
static int add_beginning(struct generator *g, const int32_t *ids, size_t n, size_t *known, int *end)
{
    struct siren_kept *prefix = cache_find(g->session, ids, n);
    *known = prefix ? siren_kept_tokens(prefix) : 0;
    *end = prefix ? session_add_kept(g->session, prefix) : SIREN_ROOT;
    if (prefix && *end < 0) return *end;
    if (*known == n) return SIREN_OK;
    *end = session_add(g->session, *end, ids + *known, n - *known, SIREN_KEEP);
    return *end < 0 ? *end : SIREN_OK;
}

/* The segment in which an earlier slot of this pass computes the same n ids, all of its prompt but
 * the last; -1: none. */
static int find_head(const struct generator *g, int slot, const int32_t *ids, size_t n)
{
    for (int i = 0; i < slot; i++) {
        const struct runner *other = &g->runners[i];
        if (other->generation && other->head >= 0 && other->generation->prompt.n_ids == n + 1 &&
            !memcmp(other->generation->prompt.ids, ids, n * sizeof *ids))
            return other->head;
    }
    return -1;
}

/* A new sequence: its prompt, or the segment of a running start with the same prompt.  The last
 * token is computed in any case, since its logits are the first to be sampled; it is a segment of
 * its own, so that the cache can give all before it to the next text of the same prompt. */
static int add_prompt(struct generator *g, int slot)
{
    struct siren_forest *forest = g->session->forest;
    struct runner *r = &g->runners[slot];
    const struct siren_tokens *p = &r->generation->prompt;
    for (int i = 0; i < slot; i++) {
        const struct runner *other = &g->runners[i];
        if (!other->generation || other->own || other->generation->n_ids || other->segment < 0 ||
            !same_prompt(other->generation, r->generation))
            continue;
        r->segment = other->segment;
        r->output = other->output;
        return SIREN_OK;
    }
    size_t last = p->n_ids - 1, known = last;
    int parent = find_head(g, slot, p->ids, last), rc;
    if (parent < 0) {
        rc = add_beginning(g, p->ids, last, &known, &parent);
        if (rc) return rc;
        if (known < last) r->head = parent;
    }
    r->segment = session_add(g->session, parent, p->ids + last, 1, SIREN_KEEP);
    if (r->segment < 0) return r->segment;
    g->session->stats.prompt_tokens += p->n_ids;
    g->session->stats.cached_tokens += known;
    r->output = siren_forest_want_logits(forest, r->segment, 0, NULL, 0);
    return r->output < 0 ? r->output : SIREN_OK;
}

/* The token sampled last: the first one starts the sequence's own segment, further ones extend it.
 */
static int add_token(struct generator *g, struct runner *r)
{
    struct siren_forest *forest = g->session->forest;
    const struct siren_generation *gen = r->generation;
    int parent = session_add_kept(g->session, r->own ? r->own : r->prompt);
    if (parent < 0) return parent;
    r->segment = siren_forest_add(forest, parent, &gen->ids[gen->n_ids - 1], 1,
                                  r->own ? SIREN_EXTEND : SIREN_KEEP);
    if (r->segment < 0) return r->segment;
    r->output = siren_forest_want_logits(forest, r->segment, 0, NULL, 0);
    return r->output < 0 ? r->output : SIREN_OK;
}

static int build_pass(struct generator *g, struct siren_error *err)
{
    siren_forest_clear(g->session->forest);
    size_t tokens = 0;
    int rc = SIREN_OK;
    for (int i = 0; i < g->batch && !rc; i++) {
        struct runner *r = &g->runners[i];
        r->segment = r->output = r->head = -1;
        if (!r->generation && g->next < g->n && tokens < (size_t)g->session->pass_tokens) {
            r->generation = &g->all[g->next++];
            tokens += r->generation->prompt.n_ids;
        }
        if (!r->generation) continue;
        rc = r->generation->n_ids ? add_token(g, r) : add_prompt(g, i);
    }
    if (rc) return siren_fail_memory(err, "the forest of a pass", (size_t)g->batch);
    return siren_forest_plan(g->session->forest, err);
}

static int append_token(struct runner *r, int32_t id, float logprob, struct siren_error *err)
{
    struct siren_generation *gen = r->generation;
    size_t capacity = r->capacity;
    if (alloc_grow(&gen->ids, &capacity, gen->n_ids + 1, sizeof *gen->ids))
        return siren_fail_memory(err, "generated tokens", gen->n_ids * sizeof *gen->ids);
    if (alloc_grow(&gen->logprobs, &r->capacity, gen->n_ids + 1, sizeof *gen->logprobs))
        return siren_fail_memory(err, "generated tokens", gen->n_ids * sizeof *gen->ids);
    gen->ids[gen->n_ids] = id;
    gen->logprobs[gen->n_ids++] = logprob;
    return SIREN_OK;
}

static int is_stop(const struct siren_generation *gen, int32_t id)
{
    for (size_t i = 0; i < gen->n_stop_ids; i++)
        if (gen->stop_ids[i] == id) return 1;
    return 0;
}

/* The first n ids of a prompt, of which `segment` of the pass just run is the end, for the cache.
 */
static int cache_prompt(struct generator *g, const int32_t *ids, size_t n, int segment,
                        struct siren_error *err)
{
    struct siren_kept *kept = siren_forest_take(g->session->forest, segment);
    int rc = cache_insert(g->session, ids, n, &kept, err);
    siren_kept_unref(kept);
    return rc;
}

/* Take over the kept segments of the pass just run. */
static int take_kept(struct generator *g, struct runner *r, struct siren_error *err)
{
    if (r->own) return SIREN_OK; /* extended in place */
    const struct siren_generation *gen = r->generation;
    size_t n = gen->prompt.n_ids;
    struct siren_kept *kept = siren_forest_take(g->session->forest, r->segment);
    if (gen->n_ids) {
        r->own = kept;
        siren_kept_unref(r->prompt);
        r->prompt = NULL;
        return SIREN_OK;
    }
    r->prompt = kept;
    int rc = r->head >= 0 ? cache_prompt(g, gen->prompt.ids, n - 1, r->head, err) : SIREN_OK;
    if (!rc && gen->keep) rc = cache_insert(g->session, gen->prompt.ids, n, &r->prompt, err);
    return rc;
}

/* A draw is a pure function of its logits and its place: the threads share the running texts. */
static void draw_job(void *context, int thread, int n_threads)
{
    struct generator *g = context;
    for (long i; (i = claim_next(&g->cursor, g->batch)) >= 0;) {
        struct runner *r = &g->runners[i];
        const struct siren_generation *gen = r->generation;
        if (gen && r->segment >= 0)
            r->drawn = sampler_draw(&g->samplers[thread],
                                    siren_forest_output(g->session->forest, r->output), g->sampling,
                                    gen->sequence, gen->prompt.n_ids + gen->n_ids, &r->logprob);
    }
}

/* The first n own tokens of a finished text are computed: let the cache have them. */
static int keep_text(struct generator *g, struct runner *r, size_t n, struct siren_error *err)
{
    const struct siren_generation *gen = r->generation;
    size_t prompt = gen->prompt.n_ids;
    int32_t *ids;
    int rc;
    if (!r->own) return SIREN_OK; /* not beyond the prompt, which the cache has */
    ids = alloc_array(prompt + n, sizeof *ids);
    if (!ids) return siren_fail_memory(err, "prefix cache", (prompt + n) * sizeof *ids);
    memcpy(ids, gen->prompt.ids, prompt * sizeof *ids);
    memcpy(ids + prompt, gen->ids, n * sizeof *ids);
    rc = cache_insert(g->session, ids, prompt + n, &r->own, err);
    free(ids);
    return rc;
}

static int step_runner(struct generator *g, struct runner *r, struct siren_error *err)
{
    struct siren_generation *gen = r->generation;
    int rc = take_kept(g, r, err);
    if (rc) return rc;
    int32_t id = r->drawn;
    size_t computed = gen->n_ids;
    if (isnan(r->logprob))
        return siren_fail(err, SIREN_ENUMERIC,
                          "text %zu, token %zu: the logits are nan: the model's weights, or the "
                          "adapter's, are damaged or too large",
                          (size_t)(gen - g->all), gen->n_ids);
    int room = (int)gen->prompt.n_ids + (int)gen->n_ids + 1 <
               g->session->engine->model->config.max_positions;
    gen->stopped = is_stop(gen, id);
    if (!gen->stopped || gen->keep_stop) rc = append_token(r, id, r->logprob, err);
    if (rc) return rc;
    if (!gen->stopped && gen->on_token && gen->on_token(gen->context, gen->ids, gen->n_ids))
        gen->stopped = 1;
    if (gen->stopped || (int)gen->n_ids >= g->sampling->max_tokens || !room) {
        if (gen->keep) rc = keep_text(g, r, computed, err);
        if (rc) return rc;
        gen->whole = 1;
        release_runner(r);
        g->finished++;
    }
    return SIREN_OK;
}

static int run_all(struct generator *g, const struct siren_progress *progress,
                   struct siren_error *err)
{
    while (g->finished < g->n) {
        int rc = build_pass(g, err);
        if (rc) return rc;
        siren_forest_run(g->session->forest, NULL);
        g->session->stats.computed_tokens += siren_forest_tokens(g->session->forest);
        atomic_store(&g->cursor, 0);
        siren_pool_run(g->session->engine->pool, draw_job, g);
        for (int i = 0; i < g->batch; i++)
            if (g->runners[i].generation && g->runners[i].segment >= 0) {
                rc = step_runner(g, &g->runners[i], err);
                if (rc) return rc;
            }
        /* The forest's references to extended segments must go before they grow again. */
        siren_forest_clear(g->session->forest);
        cache_trim(g->session);
        if (siren_progress_update(progress, "texts", g->finished, g->n))
            return siren_fail(err, SIREN_ECANCEL, "stopped after %zu of %zu texts", g->finished,
                              g->n);
    }
    return SIREN_OK;
}

/* ---- what all prompts begin with ---- */

/* Tokens that all prompts share before their last ones; 0 where that is all of each: the texts of
 * one prompt share it as it is. */
static size_t common_beginning(const struct generator *g)
{
    const struct siren_tokens *first = &g->all[0].prompt;
    size_t n = first->n_ids - 1, longest = 0;
    for (size_t i = 0; i < g->n; i++) {
        const struct siren_tokens *p = &g->all[i].prompt;
        size_t same = radix_common(first, p);
        if (same > p->n_ids - 1) same = p->n_ids - 1;
        if (same < n) n = same;
        if (p->n_ids - 1 > longest) longest = p->n_ids - 1;
    }
    return n < longest ? n : 0;
}

/* The instruction, mostly: computed once and kept, so that every prompt finds it. */
static int keep_beginning(struct generator *g, struct siren_error *err)
{
    enum { LEAST = 16 }; /* tokens that a pass of their own is worth */
    struct siren_session *s = g->session;
    const int32_t *ids = g->all[0].prompt.ids;
    size_t n = common_beginning(g), known;
    int segment, rc;
    siren_forest_clear(s->forest);
    if (add_beginning(g, ids, n, &known, &segment))
        return siren_fail_memory(err, "the forest of a pass", n);
    if (n < known + LEAST) return SIREN_OK;
    rc = siren_forest_plan(s->forest, err);
    if (rc) return rc;
    siren_forest_run(s->forest, NULL);
    s->stats.computed_tokens += siren_forest_tokens(s->forest);
    rc = cache_prompt(g, ids, n, segment, err);
    siren_forest_clear(s->forest);
    return rc;
}

static int check_sampling(const struct siren_generation *all, size_t n,
                          const struct siren_sampling *s, struct siren_error *err)
{
    if (s->max_tokens < 1)
        return siren_fail(err, SIREN_EINVAL, "max tokens: %d given, expected 1 or more",
                          s->max_tokens);
    if (!(s->temperature >= 0) || !(s->top_p > 0 && s->top_p <= 1) || s->top_k < 0)
        return siren_fail(err, SIREN_EINVAL,
                          "sampling: temperature %g, top-p %g, top-k %d given; expected "
                          "temperature >= 0, 0 < top-p <= 1, top-k >= 0",
                          (double)s->temperature, (double)s->top_p, s->top_k);
    for (size_t i = 0; i < n; i++)
        if (!all[i].prompt.n_ids) return siren_fail(err, SIREN_EINVAL, "text %zu has no prompt", i);
    return SIREN_OK;
}

static int create_samplers(struct generator *g, struct siren_error *err)
{
    const struct siren_engine *e = g->session->engine;
    int rc = SIREN_OK, n = siren_pool_threads(e->pool);
    g->samplers = alloc_zeroed((size_t)n, sizeof *g->samplers);
    if (!g->samplers) return siren_fail_memory(err, "samplers", sizeof *g->samplers);
    for (int i = 0; i < n && !rc; i++)
        rc = sampler_create(&g->samplers[i], e->kernels, (size_t)e->model->config.n_vocab, err);
    return rc;
}

static void free_samplers(struct generator *g)
{
    for (int i = 0; g->samplers && i < siren_pool_threads(g->session->engine->pool); i++)
        sampler_free(&g->samplers[i]);
    free(g->samplers);
}

int siren_generate_many(struct siren_session *session, struct siren_generation *generations,
                        size_t n, const struct siren_sampling *sampling, int batch,
                        const struct siren_progress *progress, struct siren_error *err)
{
    int rc = check_sampling(generations, n, sampling, err);
    if (rc) return rc;
    struct generator g = {.session = session,
                          .sampling = sampling,
                          .all = generations,
                          .n = n,
                          .batch = batch > 0 ? batch : SIREN_GENERATION_BATCH};
    if ((size_t)g.batch > n) g.batch = (int)n;
    for (size_t i = 0; i < n; i++) {
        generations[i].ids = NULL;
        generations[i].logprobs = NULL;
        generations[i].n_ids = 0;
        generations[i].stopped = generations[i].whole = 0;
    }
    g.runners = alloc_zeroed((size_t)g.batch, sizeof *g.runners);
    if (!g.runners) return siren_fail_memory(err, "generation", sizeof *g.runners);
    rc = create_samplers(&g, err);
    if (!rc && n > 1) rc = keep_beginning(&g, err);
    if (!rc) rc = run_all(&g, progress, err);
    for (int i = 0; i < g.batch; i++) release_runner(&g.runners[i]);
    free_samplers(&g);
    free(g.runners);
    siren_forest_clear(session->forest);
    return rc;
}
