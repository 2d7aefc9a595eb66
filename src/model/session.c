#include "model/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/pass.h"

enum { DEFAULT_CACHE_MIB = 128, DEFAULT_PASS_TOKENS = 2048 };

int siren_session_create(struct siren_session **out, struct siren_engine *engine,
                         const struct siren_session_options *options, struct siren_error *err)
{
    struct siren_session *s = calloc(1, sizeof *s);
    *out = s;
    if (!s) return siren_fail_memory(err, "session", sizeof *s);
    s->engine = engine;
    s->cache_bytes =
        options && options->cache_bytes ? options->cache_bytes : (size_t)DEFAULT_CACHE_MIB << 20;
    s->pass_tokens =
        options && options->pass_tokens > 0 ? options->pass_tokens : DEFAULT_PASS_TOKENS;
    int rc = siren_forest_create(&s->forest, engine, err);
    if (rc) {
        free(s);
        *out = NULL;
    }
    return rc;
}

static void drop_entry(struct cache_entry *e)
{
    e->kept->cached--;
    siren_kept_unref(e->kept);
    free(e->ids);
}

void siren_session_drop_cache(struct siren_session *s)
{
    for (size_t i = 0; i < s->n_entries; i++) drop_entry(&s->entries[i]);
    s->n_entries = 0;
}

void siren_session_free(struct siren_session *s)
{
    if (!s) return;
    siren_session_drop_cache(s);
    free(s->entries);
    siren_forest_free(s->forest);
    free(s);
}

/* Prefixes of other adapters stay until they are the least recently used. */
void siren_session_use_adapter(struct siren_session *s, const struct siren_adapter *adapter)
{
    s->adapter = adapter;
}

static uint64_t current_version(const struct siren_session *s)
{
    return s->adapter ? s->adapter->version : 0;
}

int session_add(struct siren_session *s, int parent, const int32_t *ids, size_t n_ids,
                unsigned flags)
{
    int segment = siren_forest_add(s->forest, parent, ids, n_ids, flags);
    if (segment >= 0 && parent == SIREN_ROOT)
        siren_forest_use_adapter(s->forest, segment, s->adapter);
    return segment;
}

int session_add_kept(struct siren_session *s, struct siren_kept *kept)
{
    int segment = siren_forest_add_kept(s->forest, kept);
    if (segment >= 0) siren_forest_use_adapter(s->forest, segment, s->adapter);
    return segment;
}

/* Its own, and those of ancestors that it alone keeps: no entry lists them. */
static size_t entry_bytes(const struct cache_entry *e)
{
    size_t bytes = siren_kept_bytes(e->kept);
    for (const struct siren_kept *k = e->kept->parent; k && !k->cached; k = k->parent)
        bytes += siren_kept_bytes(k);
    return bytes;
}

static size_t bytes_held(const struct siren_session *s)
{
    size_t bytes = 0;
    for (size_t i = 0; i < s->n_entries; i++) bytes += entry_bytes(&s->entries[i]);
    return bytes;
}

struct siren_cache_stats siren_session_stats(const struct siren_session *s)
{
    struct siren_cache_stats stats = s->stats;
    stats.bytes = bytes_held(s);
    stats.entries = s->n_entries;
    return stats;
}

struct siren_kept *cache_find(struct siren_session *s, const int32_t *ids, size_t most)
{
    struct cache_entry *best = NULL;
    for (size_t i = 0; i < s->n_entries; i++) {
        struct cache_entry *e = &s->entries[i];
        if (e->n_ids > most || (best && e->n_ids <= best->n_ids)) continue;
        if (e->kept->adapter_version != current_version(s) ||
            e->kept->model_version != s->engine->model->version)
            continue;
        if (!memcmp(e->ids, ids, e->n_ids * sizeof *ids)) best = e;
    }
    if (!best) return NULL;
    best->used = ++s->clock;
    return best->kept;
}

int cache_insert(struct siren_session *s, const int32_t *ids, size_t n, struct siren_kept **kept,
                 struct siren_error *err)
{
    for (size_t i = 0; i < s->n_entries; i++) {
        struct cache_entry *e = &s->entries[i];
        if (e->n_ids != n || e->kept->adapter_version != (*kept)->adapter_version ||
            e->kept->model_version != (*kept)->model_version ||
            memcmp(e->ids, ids, n * sizeof *ids) != 0)
            continue;
        e->used = ++s->clock;
        siren_kept_ref(e->kept);
        siren_kept_unref(*kept);
        *kept = e->kept;
        return SIREN_OK;
    }
    int32_t *copy = alloc_array(n, sizeof *ids);
    if (!copy || alloc_grow(&s->entries, &s->capacity, s->n_entries + 1, sizeof *s->entries)) {
        free(copy);
        return siren_fail_memory(err, "prefix cache", n * sizeof *ids);
    }
    memcpy(copy, ids, n * sizeof *ids);
    s->entries[s->n_entries++] = (struct cache_entry){
        .ids = copy, .n_ids = n, .kept = siren_kept_ref(*kept), .used = ++s->clock};
    (*kept)->cached++;
    return SIREN_OK;
}

void siren_session_hold(struct siren_session *s)
{
    s->held++;
}

void siren_session_release(struct siren_session *s)
{
    s->held--;
    cache_trim(s);
}

void cache_trim(struct siren_session *s)
{
    if (s->held) return;
    size_t bytes = bytes_held(s);
    while (bytes > s->cache_bytes) {
        size_t oldest = s->n_entries;
        for (size_t i = 0; i < s->n_entries; i++) {
            /* What another one goes on from stays in memory: to forget it would free nothing. */
            if (atomic_load(&s->entries[i].kept->references) > 1) continue;
            if (oldest == s->n_entries || s->entries[i].used < s->entries[oldest].used) oldest = i;
        }
        if (oldest == s->n_entries) return;
        bytes -= entry_bytes(&s->entries[oldest]);
        drop_entry(&s->entries[oldest]);
        s->entries[oldest] = s->entries[--s->n_entries];
    }
}

size_t cache_cost(const struct siren_session *s, size_t n_tokens)
{
    const struct siren_config *c = &s->engine->model->config;
    size_t pages = n_tokens / ATTENTION_PAGE + 2;
    return pages * page_total(s->engine->kernels, c) * sizeof(float) * (size_t)c->n_layers *
           (size_t)c->n_kv_heads;
}
