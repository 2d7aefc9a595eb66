/* Scoring, generation and embedding: whole prompts in, answers out.
 *
 * These build forests by themselves: a trie over the token ids of the prompts
 * finds what is shared, prefixes are kept under a byte budget between calls, and
 * passes are cut at a token budget. */
#ifndef SIREN_SCORE_H
#define SIREN_SCORE_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/forest.h"
#include "siren/progress.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A session: an engine with its cache of kept prefixes (dropped least recently used). */
struct siren_session;
struct siren_session_options {
    size_t cache_bytes; /* 0: 128 MiB */
    int pass_tokens;    /* tokens a pass; 0: 2,048 */
};
/* options NULL: all defaults.  The engine must outlive the session. */
int siren_session_create(struct siren_session **out, struct siren_engine *engine,
                         const struct siren_session_options *options, struct siren_error *err);
void siren_session_free(struct siren_session *session); /* NULL is allowed */
/* From now on compute with this adapter of the model; NULL: without one.  It must outlive its use.
 * Kept prefixes are found again only with the adapter, and the values, they were computed with. */
void siren_session_use_adapter(struct siren_session *session, const struct siren_adapter *adapter);
void siren_session_drop_cache(struct siren_session *session);
/* Between hold and release nothing is evicted, even over budget.  Use it when texts are generated,
 * scored and then continued, so that their prompts are computed only once.  Calls nest; the last
 * release evicts what is over budget. */
void siren_session_hold(struct siren_session *session);
void siren_session_release(struct siren_session *session);
/* Prompt tokens asked for and tokens taken from kept prefixes since the session began; bytes held.
 */
struct siren_cache_stats {
    uint64_t prompt_tokens, computed_tokens, cached_tokens;
    size_t bytes, entries;
};
struct siren_cache_stats siren_session_stats(const struct siren_session *session);

struct siren_tokens {
    const int32_t *ids;
    size_t n_ids;
};

/* One prompt and the continuations whose log-probabilities are wanted. */
struct siren_score {
    struct siren_tokens prompt;               /* at least one token */
    const struct siren_tokens *continuations; /* each at least one token */
    size_t n_continuations;
    size_t keep_prefix; /* worth keeping for later calls: this many leading tokens; 0: what is
                           shared */
    double *logprobs;   /* (n_continuations), caller's: sum over its tokens, natural log */
    /* out */
    size_t tokens_computed; /* of this prompt and its continuations, in this call */
    size_t tokens_cached;   /* taken from kept prefixes or shared with another prompt */
};

/* Fill all scores.  Bits do not depend on how many are given at once. */
int siren_score_many(struct siren_session *session, struct siren_score *scores, size_t n_scores,
                     const struct siren_progress *progress, struct siren_error *err);

struct siren_sampling {
    float temperature; /* 0: greedy */
    float top_p;       /* 1: off */
    int top_k;         /* 0: off */
    int max_tokens;
    uint64_t seed;
};

/* One text to continue. */
struct siren_generation {
    struct siren_tokens prompt;
    uint64_t sequence; /* random stream: a sample depends on (seed, sequence, position) only */
    const int32_t *stop_ids; /* generation ends after any of these */
    size_t n_stop_ids;
    int keep_stop; /* 1: the stop id that ended it is part of the output, with its log-probability
                    */
    /* Called after each token with the ids so far; non-zero ends this one (the token is kept). */
    int (*on_token)(void *context, const int32_t *ids, size_t n_ids);
    void *context;
    /* 1: keep the keys and values of prompt and text in the session's cache at the end (all but the
     * last token's, which nothing has needed yet): scoring or continuing the text then computes
     * its last token only, while the cache holds it. */
    int keep;
    /* out: owned by the caller, freed with siren_generation_clear() */
    int32_t *ids;
    float *logprobs; /* of each token under the model (temperature 1, no truncation) */
    size_t n_ids;
    int stopped; /* 1: by a stop id or on_token; 0: max_tokens */
    int whole;   /* 1: at its end; 0: a call that failed, or was stopped, left it before that */
};
void siren_generation_clear(struct siren_generation *g);

enum { SIREN_GENERATION_BATCH = 64 };
/* Continuous batching: up to `batch` sequences at once (0: SIREN_GENERATION_BATCH), a finished one
 * is replaced at once.  SIREN_ENUMERIC: a text's logits are nan. */
int siren_generate_many(struct siren_session *session, struct siren_generation *generations,
                        size_t n, const struct siren_sampling *sampling, int batch,
                        const struct siren_progress *progress, struct siren_error *err);

/* What a decoder knows at the last token of a prompt. */
struct siren_states {
    struct siren_tokens prompt; /* at least one token */
    float *states; /* (n_layers, d_model), caller's: after each layer 1 … n_layers, the
                      last one after the final norm */
};
/* Fill all.  Of a prompt whose beginning the session has kept only the rest is computed; the bits
 * do not depend on it.  Nothing is added to the cache. */
int siren_states_many(struct siren_session *session, struct siren_states *states, size_t n,
                      const struct siren_progress *progress, struct siren_error *err);

/* Sentence embeddings: out (n, d_model); pooled and normalised as the encoder's config says.
 * Prompts hold the encoder's special tokens already and are at most max_tokens long. */
int siren_embed_many(struct siren_engine *engine, const struct siren_tokens *texts, size_t n,
                     float *out, const struct siren_progress *progress, struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
