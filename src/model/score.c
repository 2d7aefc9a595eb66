/* Scoring many prompts: a trie over their ids, cut into passes.
 *
 * Every (prompt, continuation) is a sequence: the prompt and all tokens of the
 * continuation but the last.  Sequences are sorted, so that those with a common
 * prefix are neighbours; a pass takes as many as its token budget holds, and
 * builds the radix tree of just these.  What the next pass or a later call will
 * need again is kept. */
#include "siren/score.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/pass.h"
#include "model/radix.h"
#include "model/session.h"

struct sequence {
    struct siren_tokens tokens; /* first: see model/radix.h */
    size_t first_mark; /* the first position whose logits are wanted: the prompt's last token */
    size_t keep;       /* a cut worth keeping, 0: none */
    size_t cached;     /* length of the kept prefix in use */
    struct siren_kept *kept;
    struct siren_score *score;
    size_t continuation;
    int *outputs; /* (n_ids - first_mark) output of each mark in the current pass */
};

struct batch {
    struct siren_session *session;
    struct sequence *sequences; /* sorted */
    size_t n;
    int32_t *ids;
    int *outputs;
};

static int check_score(const struct siren_score *s, size_t index, struct siren_error *err)
{
    if (!s->prompt.n_ids) return siren_fail(err, SIREN_EINVAL, "prompt %zu has no tokens", index);
    for (size_t j = 0; j < s->n_continuations; j++)
        if (!s->continuations[j].n_ids)
            return siren_fail(err, SIREN_EINVAL, "prompt %zu: continuation %zu has no tokens",
                              index, j);
    return SIREN_OK;
}

static int build_sequences(struct batch *b, struct siren_score *scores, size_t n_scores,
                           struct siren_error *err)
{
    size_t n = 0, n_ids = 0, n_marks = 0;
    for (size_t i = 0; i < n_scores; i++) {
        int rc = check_score(&scores[i], i, err);
        if (rc) return rc;
        n += scores[i].n_continuations;
        for (size_t j = 0; j < scores[i].n_continuations; j++) {
            n_ids += scores[i].prompt.n_ids + scores[i].continuations[j].n_ids - 1;
            n_marks += scores[i].continuations[j].n_ids;
        }
    }
    b->sequences = alloc_zeroed(n, sizeof *b->sequences);
    b->ids = alloc_array(n_ids, sizeof *b->ids);
    b->outputs = alloc_array(n_marks, sizeof *b->outputs);
    if (!b->sequences || !b->ids || !b->outputs)
        return siren_fail_memory(err, "prompts", n_ids * sizeof *b->ids);
    int32_t *ids = b->ids;
    for (size_t i = 0; i < n_scores; i++) {
        const struct siren_tokens *p = &scores[i].prompt;
        scores[i].tokens_computed = 0;
        scores[i].tokens_cached = p->n_ids; /* less what will have to be computed */
        for (size_t j = 0; j < scores[i].n_continuations; j++) {
            const struct siren_tokens *c = &scores[i].continuations[j];
            struct sequence *s = &b->sequences[b->n++];
            scores[i].logprobs[j] = 0;
            *s = (struct sequence){.tokens = {ids, p->n_ids + c->n_ids - 1},
                                   .first_mark = p->n_ids - 1,
                                   .keep =
                                       scores[i].keep_prefix < p->n_ids ? scores[i].keep_prefix : 0,
                                   .score = &scores[i],
                                   .continuation = j};
            memcpy(ids, p->ids, p->n_ids * sizeof *ids);
            memcpy(ids + p->n_ids, c->ids, (c->n_ids - 1) * sizeof *ids);
            ids += s->tokens.n_ids;
        }
    }
    qsort(b->sequences, b->n, sizeof *b->sequences, radix_compare);
    int *outputs = b->outputs;
    for (size_t i = 0; i < b->n; i++) {
        b->sequences[i].outputs = outputs;
        outputs += b->sequences[i].tokens.n_ids - b->sequences[i].first_mark;
    }
    return SIREN_OK;
}

/* ---- one pass ---- */

/* Logits are n_vocab floats a mark: at most this many bytes of them a pass. */
enum { LOGIT_BYTES = 48 << 20 };

/* How many sequences from `from` on fit a pass; at least one. */
static size_t pass_end(struct batch *b, size_t from)
{
    const struct siren_session *session = b->session;
    size_t tokens = 0, marks = 0, i = from;
    size_t most_marks =
        LOGIT_BYTES / sizeof(float) / (size_t)session->engine->model->config.n_vocab + 1;
    for (; i < b->n; i++) {
        struct sequence *s = &b->sequences[i];
        s->kept = cache_find(b->session, s->tokens.ids, s->first_mark);
        s->cached = s->kept ? siren_kept_tokens(s->kept) : 0;
        size_t known = i > from ? radix_common(&s->tokens, &s[-1].tokens) : 0;
        if (s->cached > known) known = s->cached;
        size_t more = s->tokens.n_ids - known;
        tokens += more;
        size_t first = known > s->first_mark ? known : s->first_mark;
        marks += s->tokens.n_ids - first;
        /* What adds no token costs none: the labels of a long prompt stay with it. */
        if (i > from && ((more && tokens > (size_t)session->pass_tokens) || marks > most_marks))
            break;
    }
    return i;
}

/* A node's segment while each descendant has a kept prefix of its own; its mark is 1 where that
 * segment is (or will be) kept, so that what continues it may be. */
enum { UNKNOWN = -2, KEEP_AT_LEAST = 16 };

struct kept_segment {
    int segment;
    size_t sequence, length;
};

struct builder {
    struct batch *batch;
    size_t from, to;
    size_t cut; /* what the pass's last sequence shares with the next pass's first */
    struct kept_segment *keeps;
    size_t n_keeps, keeps_capacity;
    size_t budget;   /* bytes that may still be kept */
    int *kept_roots; /* per sequence: the forest's segment of its kept prefix, -1: not added yet */
};

/* The forest's segment for a kept prefix, added once a pass. */
static int kept_root(struct builder *b, size_t sequence)
{
    const struct sequence *s = &b->batch->sequences[sequence];
    for (size_t i = b->from; i < b->to; i++)
        if (b->batch->sequences[i].kept == s->kept && b->kept_roots[i - b->from] >= 0)
            return b->kept_roots[i - b->from];
    int segment = session_add_kept(b->batch->session, s->kept);
    b->kept_roots[sequence - b->from] = segment;
    return segment;
}

/* Ask for the logits of the marks of sequences [low, high) in tokens [from, to) of the segment. */
static int request_marks(struct builder *b, const struct radix_node *node, int segment, size_t from,
                         size_t to)
{
    struct siren_forest *forest = b->batch->session->forest;
    for (size_t p = from; p < to; p++) {
        int output = -1;
        for (size_t i = node->low; i < node->high; i++) {
            struct sequence *s = &b->batch->sequences[i];
            if (p < s->first_mark) continue;
            if (output < 0) output = siren_forest_want_logits(forest, segment, p - from, NULL, 0);
            if (output < 0) return SIREN_ENOMEM;
            s->outputs[p - s->first_mark] = output;
        }
    }
    return SIREN_OK;
}

/* The next position in (depth, end] at which the run of tokens is cut because its head is worth
 * keeping; end if none. */
static size_t next_cut(const struct builder *b, const struct radix_node *node, size_t depth,
                       size_t end)
{
    size_t cut = end;
    if (node->high == b->to && b->cut > depth && b->cut < cut) cut = b->cut;
    for (size_t i = node->low; i < node->high; i++) {
        size_t keep = b->batch->sequences[i].keep;
        if (keep > depth && keep < cut) cut = keep;
    }
    return cut;
}

static int worth_keeping(struct builder *b, const struct radix_node *node, size_t from, size_t to,
                         size_t end)
{
    if (!node->mark) return 0;
    int needed = to < end || (node->high == b->to && b->cut >= to) ||
                 b->batch->sequences[node->low].keep == to;
    const struct sequence *all = b->batch->sequences;
    int shared = all[node->low].score != all[node->high - 1].score && to - from >= KEEP_AT_LEAST;
    size_t cost = cache_cost(b->batch->session, to - from);
    if ((!needed && !shared) || cost > b->budget) return 0;
    b->budget -= cost;
    return 1;
}

/* The node's run from its depth on, as one segment or, cut, as several. */
static int add_run(struct builder *b, struct radix_node *node)
{
    const struct sequence *first = &b->batch->sequences[node->low];
    while (node->depth < node->end) {
        size_t to = next_cut(b, node, node->depth, node->end);
        int keep = worth_keeping(b, node, node->depth, to, node->end);
        int segment = session_add(b->batch->session, node->segment, first->tokens.ids + node->depth,
                                  to - node->depth, keep ? SIREN_KEEP : 0);
        if (segment < 0 || request_marks(b, node, segment, node->depth, to)) return SIREN_ENOMEM;
        if (keep) {
            if (alloc_grow(&b->keeps, &b->keeps_capacity, b->n_keeps + 1, sizeof *b->keeps))
                return SIREN_ENOMEM;
            b->keeps[b->n_keeps++] = (struct kept_segment){segment, node->low, to};
        }
        first->score->tokens_computed += to - node->depth;
        if (node->depth <= first->first_mark) { /* of the prompt itself, not of a continuation */
            size_t n = (to <= first->first_mark ? to : first->first_mark + 1) - node->depth;
            /* A part that two passes compute was not cached, once. */
            first->score->tokens_cached -=
                n < first->score->tokens_cached ? n : first->score->tokens_cached;
        }
        node->segment = segment;
        node->mark = keep;
        node->depth = to;
    }
    return SIREN_OK;
}

static int build_node(void *context, struct radix_node *node)
{
    struct builder *b = context;
    const struct sequence *all = b->batch->sequences;
    size_t least = node->low;
    for (size_t i = node->low; i < node->high; i++)
        if (all[i].cached < all[least].cached) least = i;
    size_t cached = all[least].cached;
    if (cached >= node->end && node->high - node->low > 1) {
        node->segment = UNKNOWN; /* every sequence below has a longer kept prefix of its own */
        return SIREN_OK;
    }
    if (cached > node->depth || (node->segment == UNKNOWN && cached)) {
        int root = kept_root(b, least);
        if (root < 0) return SIREN_ENOMEM;
        node->segment = root;
        node->mark = 1;
        node->depth = cached;
    }
    if (node->segment == UNKNOWN) {
        node->segment = SIREN_ROOT;
        node->mark = 1;
    }
    return add_run(b, node);
}

static int build_pass(struct builder *b)
{
    return radix_walk(b->batch->sequences, sizeof *b->batch->sequences, b->from, b->to, 1,
                      build_node, b);
}

static void collect_scores(struct builder *b)
{
    const struct siren_forest *forest = b->batch->session->forest;
    const struct kernels *k = b->batch->session->engine->kernels;
    size_t V = (size_t)b->batch->session->engine->model->config.n_vocab;
    int known = -1;
    float normalizer = 0;
    for (size_t i = b->from; i < b->to; i++) {
        struct sequence *s = &b->batch->sequences[i];
        const struct siren_tokens *c = &s->score->continuations[s->continuation];
        double sum = 0;
        for (size_t j = 0; j < c->n_ids; j++) {
            const float *logits = siren_forest_output(forest, s->outputs[j]);
            if (s->outputs[j] != known) normalizer = k->logsumexp(logits, V);
            known = s->outputs[j];
            sum += (double)logits[c->ids[j]] - (double)normalizer;
        }
        s->score->logprobs[s->continuation] = sum;
    }
}

static int remember(struct builder *b, struct siren_error *err)
{
    struct siren_session *session = b->batch->session;
    for (size_t i = 0; i < b->n_keeps; i++) {
        const struct kept_segment *k = &b->keeps[i];
        struct siren_kept *kept = siren_forest_take(session->forest, k->segment);
        int rc = cache_insert(session, b->batch->sequences[k->sequence].tokens.ids, k->length,
                              &kept, err);
        siren_kept_unref(kept);
        if (rc) return rc;
    }
    return SIREN_OK;
}

static int run_pass(struct builder *b, struct siren_error *err)
{
    struct siren_session *session = b->batch->session;
    siren_forest_clear(session->forest);
    b->kept_roots = alloc_array(b->to - b->from, sizeof(int));
    if (!b->kept_roots ||
        (memset(b->kept_roots, 0xff, (b->to - b->from) * sizeof(int)), build_pass(b)))
        return siren_fail_memory(err, "the forest of a pass", b->to - b->from);
    int rc = siren_forest_plan(session->forest, err);
    if (rc) return rc;
    siren_forest_run(session->forest, NULL);
    session->stats.computed_tokens += siren_forest_tokens(session->forest);
    collect_scores(b);
    rc = remember(b, err);
    siren_forest_clear(session->forest);
    cache_trim(session);
    return rc;
}

/* Tokens of sequence `to`, the next pass's first, that are worth keeping: as many as it will look
 * for, which is one less than its prompt, whose last token has to be run. */
static size_t shared_with_next(const struct batch *b, size_t to)
{
    const struct sequence *next = &b->sequences[to];
    size_t common = radix_common(&next[-1].tokens, &next->tokens);
    return common < next->first_mark ? common : next->first_mark;
}

static int run_passes(struct batch *b, const struct siren_progress *progress,
                      struct siren_error *err)
{
    int rc = SIREN_OK;
    for (size_t from = 0, to; !rc && from < b->n; from = to) {
        to = pass_end(b, from);
        struct builder builder = {.batch = b,
                                  .from = from,
                                  .to = to,
                                  .cut = to < b->n ? shared_with_next(b, to) : 0,
                                  .budget = b->session->cache_bytes / 2};
        rc = run_pass(&builder, err);
        free(builder.keeps);
        free(builder.kept_roots);
        /* What is complete is answered, though it be asked to stop. */
        if (!rc && siren_progress_update(progress, "prompts", to, b->n) && to < b->n)
            rc = siren_fail(err, SIREN_ECANCEL, "stopped after %zu of %zu prompts", to, b->n);
    }
    return rc;
}

static int check_targets(const struct batch *b, struct siren_error *err)
{
    int n_vocab = b->session->engine->model->config.n_vocab;
    for (size_t i = 0; i < b->n; i++) {
        const struct sequence *s = &b->sequences[i];
        const struct siren_tokens *c = &s->score->continuations[s->continuation];
        int32_t id = c->ids[c->n_ids - 1];
        if (id < 0 || id >= n_vocab)
            return siren_fail(err, SIREN_EINVAL,
                              "continuation %zu: id %d is not in the vocabulary (0 … %d)",
                              s->continuation, (int)id, n_vocab - 1);
    }
    return SIREN_OK;
}

int siren_score_many(struct siren_session *session, struct siren_score *scores, size_t n_scores,
                     const struct siren_progress *progress, struct siren_error *err)
{
    struct batch b = {.session = session};
    int rc = build_sequences(&b, scores, n_scores, err);
    if (!rc) rc = check_targets(&b, err);
    if (!rc) rc = run_passes(&b, progress, err);
    for (size_t i = 0; i < n_scores && !rc; i++) {
        session->stats.prompt_tokens += scores[i].prompt.n_ids;
        session->stats.cached_tokens += scores[i].tokens_cached;
    }
    free(b.sequences);
    free(b.ids);
    free(b.outputs);
    return rc;
}
