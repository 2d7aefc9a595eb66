/* A small workspace, and a language model that is none: its log-probabilities are a function of
 * the prompt's ids, its answers a text of the test's.  Include after cmocka.h. */
#ifndef SIREN_TESTS_APP_FIXTURE_H
#define SIREN_TESTS_APP_FIXTURE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"
#include "siren/app.h"
#include "siren/file.h"
#include "siren/random.h"

enum { N_USERS = 12, N_ITEMS = 30, N_EACH = 14, N_TOPICS = 3, N_DIMENSIONS = 4 };

#define MUST(call)                                                                                 \
    do {                                                                                           \
        struct siren_error *e_ = &must_error;                                                      \
        e_->message[0] = '\0';                                                                     \
        if (call) fail_msg("%s:%d: %s", __FILE__, __LINE__, e_->message);                          \
    } while (0)
static struct siren_error must_error;
#define ERR (&must_error)

/* ---- chat and texts ---- */

/* The path of a chat template for the tokenizer of tests/fixtures/models/smol. */
static inline const char *fixture_template(void)
{
    static char path[256];
    static const char template[] = "system: <|im_start|>system\\n{system}<|im_end|>\\n\n"
                                   "user: <|im_start|>user\\n{user}<|im_end|>\\n\n"
                                   "prompt: <|im_start|>assistant\\n\n"
                                   "stop: <|im_end|>\n";
    if (!*path)
        snprintf(path, sizeof path, "%s", scratch_write("chat.txt", template, strlen(template)));
    return path;
}

/* How many of the text's tokens the prompt ends with: a text is gone on with. */
static size_t fixture_written(const struct siren_tokens *prompt, const int32_t *ids, size_t n)
{
    for (size_t k = n < prompt->n_ids ? n : prompt->n_ids; k; k--)
        if (!memcmp(prompt->ids + prompt->n_ids - k, ids, k * sizeof *ids)) return k;
    return 0;
}

/* The text as what is generated, a token at a time; the room behind it takes one id more. */
static inline void fixture_say(const struct siren_lm *lm, struct siren_generation *g,
                               const char *text, int max_tokens)
{
    size_t n_ids, from;
    MUST(siren_tokenizer_encode(lm->tokenizer, text, strlen(text), 0, &g->ids, &n_ids, ERR));
    g->ids = realloc(g->ids, (n_ids + 1) * sizeof *g->ids);
    from = fixture_written(&g->prompt, g->ids, n_ids);
    memmove(g->ids, g->ids + from, (n_ids - from) * sizeof *g->ids);
    while (g->n_ids < n_ids - from && g->n_ids < (size_t)max_tokens && !g->stopped)
        g->stopped = g->on_token(g->context, g->ids, ++g->n_ids);
}

/* ---- a model that is none ---- */

struct fake {
    size_t n_calls, n_scored, n_generated;
    int cancel_after; /* calls; 0: never */
    const char *text; /* what is generated */
    char *last_prompt;
};

static uint64_t fake_hash(const struct siren_tokens *t)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < t->n_ids; i++) h = (h ^ (uint64_t)t->ids[i]) * 1099511628211u;
    return h;
}

static int fake_score(struct siren_lm *lm, struct siren_score *scores, size_t n,
                      const struct siren_progress *progress, struct siren_error *err)
{
    struct fake *fake = lm->context;
    if (fake->cancel_after && fake->n_calls >= (size_t)fake->cancel_after)
        return siren_fail(err, SIREN_ECANCEL, "stopped");
    fake->n_calls++;
    fake->n_scored += n;
    for (size_t i = 0; i < n; i++) {
        uint64_t h = fake_hash(&scores[i].prompt);
        for (size_t k = 0; k < scores[i].n_continuations; k++)
            scores[i].logprobs[k] = -1 - 3 * siren_random_uniform(h, 0, k);
        scores[i].tokens_computed = scores[i].prompt.n_ids;
        scores[i].tokens_cached = i ? 1 : 0;
    }
    return 0;
}

static int fake_generate(struct siren_lm *lm, struct siren_generation *g, size_t n,
                         const struct siren_sampling *sampling, int batch,
                         const struct siren_progress *progress, struct siren_error *err)
{
    struct fake *fake = lm->context;
    fake->n_generated += n;
    for (size_t i = 0; i < n; i++) {
        int rc = siren_tokenizer_encode(lm->tokenizer, fake->text, strlen(fake->text),
                                        SIREN_ENCODE_PLAIN, &g[i].ids, &g[i].n_ids, err);
        if (rc) return rc;
        g[i].logprobs = calloc(g[i].n_ids, sizeof *g[i].logprobs);
        g[i].stopped = 1;
    }
    return 0;
}

static const struct siren_lm_calls fake_calls = {fake_score, fake_generate};

static inline void fake_open(struct siren_lm *lm, struct fake *fake)
{
    *lm = (struct siren_lm){.calls = &fake_calls, .context = fake, .identity = "fake#0"};
    *fake = (struct fake){.text = "Seems good.\n</think>\n<answer>4</answer>"};
    MUST(siren_tokenizer_load(&lm->tokenizer, "tests/fixtures/models/smol", ERR));
    MUST(siren_chat_load_file(&lm->chat, fixture_template(), ERR));
}

static inline void fake_close(struct siren_lm *lm)
{
    siren_chat_free(lm->chat);
    siren_tokenizer_free(lm->tokenizer);
}

/* ---- a workspace ---- */

static const char *fixture_name(char kind, int i)
{
    static char names[8][16];
    static unsigned next;
    char *name = names[next++ % 8];
    snprintf(name, 16, "%c%d", kind, i);
    return name;
}

static void fixture_items(struct siren_workspace *ws)
{
    static const char *const genres[] = {"Drama", "Comedy", "Thriller"};
    for (int i = 0; i < N_ITEMS; i++) {
        const char *categories[] = {genres[i % 3], "Film", NULL}, *none[] = {NULL};
        char title[32];
        struct siren_item item = {.external = fixture_name('i', i),
                                  .title = title,
                                  .categories = categories,
                                  .features = none,
                                  .description = "It tells a story.",
                                  .n_categories = 2};
        int id;
        snprintf(title, sizeof title, "Film %d", i);
        MUST(siren_item_add(ws, &item, &id, ERR));
        assert_int_equal(id, i);
    }
}

static double fixture_rating(int user, int k)
{
    return 1 + (double)siren_random_below(3, (uint64_t)user, (uint64_t)k, 5);
}

/* User u rated items u, u + 1, … in this order, a day apart. */
static void fixture_ratings(struct siren_workspace *ws)
{
    struct siren_rate_result result;
    for (int u = 0; u < N_USERS; u++) {
        int id;
        MUST(siren_user_add(ws, fixture_name('u', u), &id, ERR));
        for (int k = 0; k < N_EACH; k++)
            MUST(siren_rate(ws, id, (u + k) % N_ITEMS, fixture_rating(u, k),
                            1000000000000 + (int64_t)k * 86400000 + u, &result, ERR));
    }
}

static void fixture_topics(struct siren_workspace *ws)
{
    static const char *const names[N_TOPICS] = {"Quiet dramas", "Loud comedies", "Cold thrillers"};
    struct siren_topics t;
    MUST(siren_topics_create(&t, N_TOPICS, N_DIMENSIONS, N_ITEMS, ERR));
    for (int k = 0; k < N_TOPICS; k++) {
        t.name[k] = strdup(names[k]);
        t.name_source[k] = SIREN_NAME_HAND;
        t.centre[k * N_DIMENSIONS + k] = 1;
    }
    for (int i = 0; i < N_ITEMS; i++) t.topic[i] = i % N_TOPICS;
    strcpy(t.encoder, "encoder#1");
    t.settings = strdup("{}");
    MUST(siren_topics_save(ws, &t, ERR));
    siren_topics_clear(&t);
}

/* Item i lies in the direction of its topic, with a little of its own. */
static void fixture_embeddings(struct siren_workspace *ws)
{
    float vectors[N_ITEMS * N_DIMENSIONS] = {0};
    int32_t ids[N_ITEMS];
    uint64_t hashes[N_ITEMS];
    struct siren_items items;
    int64_t missing;
    int encoder;
    MUST(siren_items_load(&items, ws, ERR));
    for (int i = 0; i < N_ITEMS; i++) {
        vectors[i * N_DIMENSIONS + i % N_TOPICS] = 1;
        vectors[i * N_DIMENSIONS + 3] = (float)i / 100;
        ids[i] = i;
        hashes[i] = items.item[i].hash;
    }
    MUST(siren_encoder_add(ws, "encoder#1", N_DIMENSIONS, 0, &encoder, ERR));
    MUST(siren_embeddings_save(ws, encoder, ids, N_ITEMS, vectors, hashes, ERR));
    MUST(siren_encoder_finish(ws, encoder, &missing, ERR));
    assert_int_equal(missing, 0);
    siren_items_clear(&items);
}

static void fixture_split(struct siren_workspace *ws)
{
    struct siren_ratings ratings;
    MUST(siren_ratings_load(&ratings, ws, ERR));
    siren_split_leave_last_out(&ratings);
    MUST(siren_split_save(ws, &ratings, 0, "leave-last-out", "{}", ERR));
    siren_ratings_clear(&ratings);
}

/* The path of a fresh workspace. */
static const char *fixture_workspace(const char *name, enum siren_protocol protocol)
{
    static char path[256];
    struct siren_workspace *ws;
    struct siren_meta meta = {.scale = {1, 5, 1}, .protocol = protocol, .noun = "movie"};
    snprintf(path, sizeof path, "%s", scratch_path(name));
    MUST(siren_workspace_open(&ws, path, SIREN_WORKSPACE_CREATE, ERR));
    MUST(siren_workspace_begin(ws, ERR));
    MUST(siren_meta_save(ws, &meta, ERR));
    fixture_items(ws);
    fixture_ratings(ws);
    fixture_topics(ws);
    fixture_embeddings(ws);
    fixture_split(ws);
    MUST(siren_workspace_commit(ws, ERR));
    siren_workspace_close(ws);
    return path;
}

/* How many runs are stored, of whatever kind. */
static inline size_t fixture_runs(struct siren_workspace *ws)
{
    struct siren_run *runs;
    size_t n;
    MUST(siren_runs_load(&runs, &n, ws, NULL, ERR));
    siren_runs_free(runs, n);
    return n;
}

#endif
