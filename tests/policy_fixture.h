/* A source of prompts and texts for GRPO without tokenizer and workspace: prompts are ids that
 * depend on the row, texts are sampled by the engine, rewards come from the test. */
#ifndef POLICY_FIXTURE_H
#define POLICY_FIXTURE_H

#include "engine_fixture.h"
#include "siren/adapter.h"
#include "train/policy.h"

enum { PROMPT = 24, MOST_ROWS = 128 };

struct texts_source {
    struct fixture *f;
    struct siren_session *session;
    struct siren_sampling sampling;
    int samples;
    int32_t end; /* a token that ends a text; 0: none */
    int answers; /* 1: an answer is read off every text */
    double (*reward)(void *context, size_t row, const int32_t *ids, size_t n);
    void *context;
    int32_t prompts[MOST_ROWS][PROMPT]; /* of the rows */
    size_t n_prompt;                    /* tokens of a prompt */
    size_t n_rows, n_written, n_ends;
    struct policy_group *last; /* of the last draw */
    uint64_t draws[64];
    size_t n_draws;
};

static inline int texts_write(void *context, uint64_t draw, struct policy_group *groups, size_t n,
                              const struct siren_progress *progress, struct siren_error *err)
{
    struct texts_source *s = context;
    size_t samples = (size_t)s->samples, total = n * samples;
    struct siren_generation *g = calloc(total, sizeof *g);
    s->draws[s->n_draws++ % 64] = draw;
    s->n_written += n;
    s->last = groups;
    for (size_t i = 0; i < n; i++) /* of one draw the texts would be the same ones */
        for (size_t k = i + 1; k < n; k++) assert_int_not_equal(groups[i].row, groups[k].row);
    for (size_t i = 0; i < total; i++) {
        struct policy_group *group = &groups[i / samples];
        group->prompt = (struct siren_tokens){s->prompts[group->row], s->n_prompt};
        g[i] = (struct siren_generation){
            .prompt = group->prompt,
            .stop_ids = &s->end,
            .n_stop_ids = s->end > 0,
            .keep_stop = 1,
            .sequence = siren_random_bits(draw, group->row, (uint64_t)(i % samples))};
    }
    int rc = siren_generate_many(s->session, g, total, &s->sampling, 0, progress, err);
    for (size_t i = 0; i < total && !rc; i++) {
        struct policy_text *t = &groups[i / samples].texts[i % samples];
        t->ids = g[i].ids;
        t->old = g[i].logprobs;
        t->n = g[i].n_ids;
        t->truncated = !g[i].stopped;
        t->answers = s->answers;
        t->reward = s->reward(s->context, groups[i / samples].row, t->ids, t->n);
    }
    free(g);
    return rc;
}

static inline void texts_end(void *context, const struct policy_figures *figures, json_t *line)
{
    ((struct texts_source *)context)->n_ends++;
}

static inline void texts_open(struct texts_source *s, struct fixture *f, size_t n_rows, int samples,
                              int max_tokens)
{
    *s = (struct texts_source){
        .f = f,
        .samples = samples,
        .n_rows = n_rows,
        .n_prompt = PROMPT,
        .sampling = {.temperature = 1, .top_p = 1, .max_tokens = max_tokens, .seed = 11}};
    assert_int_equal(siren_session_create(&s->session, f->engine, NULL, NULL), 0);
    for (size_t i = 0; i < n_rows; i++) fixture_ids(f, 100 + i, s->prompts[i], PROMPT);
}

static inline void texts_close(struct texts_source *s)
{
    siren_session_free(s->session);
}

static inline struct policy_source texts_source(struct texts_source *s)
{
    return (struct policy_source){
        .context = s, .n_rows = s->n_rows, .write = texts_write, .end = texts_end};
}

#endif
