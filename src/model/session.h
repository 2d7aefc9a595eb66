/* A session's cache of kept prefixes.  Private to src/model. */
#ifndef SIREN_MODEL_SESSION_H
#define SIREN_MODEL_SESSION_H

#include "siren/score.h"

struct cache_entry {
    int32_t *ids; /* the whole path from the root: n_ids tokens */
    size_t n_ids;
    struct siren_kept *kept;
    uint64_t used; /* clock of the last use: the smallest is dropped first */
};

struct siren_session {
    struct siren_engine *engine;
    struct siren_forest *forest;
    const struct siren_adapter *adapter; /* the current one; NULL: none */
    size_t cache_bytes;
    int pass_tokens;
    int held; /* > 0: cache_trim() drops nothing */
    struct cache_entry *entries;
    size_t n_entries, capacity;
    uint64_t clock;
    struct siren_cache_stats stats;
};

/* A new root, or a kept one, of the session's forest, with the current adapter; as
 * siren_forest_add() and siren_forest_add_kept(). */
int session_add(struct siren_session *session, int parent, const int32_t *ids, size_t n_ids,
                unsigned flags);
int session_add_kept(struct siren_session *session, struct siren_kept *kept);

/* The longest kept prefix of ids, computed with the current adapter as it is now, of at most `most`
 * tokens; NULL: none.  A borrowed handle: the caller takes a reference (or adds it to a forest)
 * before anything is inserted. */
struct siren_kept *cache_find(struct siren_session *session, const int32_t *ids, size_t most);
/* Remember *kept (reference taken) as the keys and values of ids[0 .. n).  Where the cache has
 * these already, the caller's reference is exchanged for one to what it has, so that what goes on
 * from it does not hold a second copy. */
int cache_insert(struct siren_session *session, const int32_t *ids, size_t n,
                 struct siren_kept **kept, struct siren_error *err);
/* Drop the least recently used entries until the budget holds. */
void cache_trim(struct siren_session *session);
/* Bytes that n tokens take. */
size_t cache_cost(const struct siren_session *session, size_t n_tokens);

#endif
