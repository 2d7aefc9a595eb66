/* The state of one pass over a forest: what the plan builds and the run uses.
 * Private to src/model, and to src/train/theorem*.c, which linearises single layers.
 *
 * A pass is one ragged matrix of all its tokens: row r of x is one token.  Rows
 * of a segment are neighbours, segments in the order they were added.
 *
 * T rows, d d_model, Q n_heads·head_dim, F d_ffn. */
#ifndef SIREN_MODEL_PASS_H
#define SIREN_MODEL_PASS_H

#include <math.h>
#include <stdint.h>

#include "base/claim.h"
#include "model/adapter.h"
#include "model/kept.h"
#include "model/model.h"
#include "siren/forest.h"
#include "tensor/kernels.h"

struct siren_engine {
    const struct siren_model *model;
    struct siren_pool *pool;
    const struct kernels *kernels;
    /* RoPE: cosines and sines (n_positions, head_dim / 2), grown by the plan. */
    int n_positions;
    float *cosines, *sines;
};

/* Rows of the RoPE table for positions up to n (exclusive). */
int engine_reserve_positions(struct siren_engine *engine, int n, struct siren_error *err);

enum { EXTENDED = -1 };

struct segment {
    int parent; /* index of a segment, or SIREN_ROOT */
    unsigned flags;
    size_t first_id, n_ids; /* in forest->ids; n_ids 0: an ancestor that is kept already */
    struct siren_kept
        *kept;          /* ancestor, or where SIREN_KEEP / SIREN_EXTEND put it (reference held) */
    int ancestor;       /* 1: not computed in this pass */
    int extends;        /* 1: the tokens are appended to `kept` */
    int continued;      /* segments that follow it in this pass; EXTENDED: one that extends it */
    int start, end;     /* positions [start, end) */
    int row;            /* of its first token in x */
    int shared_pages;   /* leading pages that the segment computed before it has, too */
    int table, n_pages; /* page indices of positions 0 … end-1: page_table[table …] */
    const struct siren_adapter *chosen;  /* a root's, by siren_forest_use_adapter; NULL: none */
    const struct siren_adapter *adapter; /* planned: its root's */
    int tree;                            /* planned where recorded: its root's number */
};

/* A run of slots that a child copies from its kept ancestor's last page, in every layer. */
struct page_copy {
    struct page_ref from;
    int to; /* page index */
    int n_slots;
};

struct row_set {
    int32_t *rows; /* NULL: the whole vocabulary */
    size_t n_rows, capacity;
    struct packed weights; /* the chosen rows of the head */
    int packed;
    uint64_t model_version; /* packed: what they were then */
    int n_requests;
};

enum { LOGPROB = -1 };

struct request {
    int segment;
    size_t token;
    int layer;   /* hidden state of this layer, or -1: logits */
    int row_set; /* logits; LOGPROB: log-probability and entropy instead */
    int32_t target;
    float temperature;
    int row;     /* planned: row of x */
    int compact; /* planned: index into `active`, where its row is */
    size_t n_floats;
    size_t offset; /* planned: into outputs */
};

/* What a recorded pass leaves behind of one layer, n rows of the layer's view (all T, or the active
 * rows of the last layer).  Where `saved` is 0 only x stays: the rest is computed again, into
 * memory that such layers share, before the layer's backward.  All NULL below the lowest trained
 * layer.  Layer-local: the view is the active rows in every layer; attended, mid and gates are
 * computed again in all of them, the rest where `saved` is 0. */
struct tape_layer {
    int saved;
    float *x;        /* (T, d) its input */
    float *raw;      /* (T, qkv width) before the norms of queries and keys; NULL: it has none */
    float *q;        /* (T, Q) after RoPE; NULL where active_rows().q has them */
    float *attended; /* (n, Q) */
    float *mid;      /* (n, d) after attention was added */
    float *gates;    /* (n, 2·F) gate and up panels in turn, before the activation */
};

struct thread_scratch {
    float *normed;   /* (block, d) */
    float *qkv;      /* (block, qkv width) */
    float *attended; /* (block, Q) */
    float *ffn;      /* (block, F) */
    float *gates;    /* (block, 2·F) gate and up panels in turn, where an adapter adds to them */
    float *low;      /* (block, panels of low) A x of a run of rows with one adapter */
    float *dropped;  /* (block, widest input) the input of an adapter after dropout */
    float *extra;    /* (2, n_vocab) the gradients of one row's logits: their sum, another one */
    float *scaled;   /* (n_vocab) logits / temperature, where one is not 1 */
    float *gemm;
    float *attention;
    const float **keys, **values;      /* (max_pages · (1 + ATTENTION_ROWS)) */
    struct attention_branch *branches; /* (ATTENTION_ROWS) */
    size_t *offsets;                   /* (ATTENTION_ROWS) */
    int *counts;
};

/* The rows a phase works on: all of x, or the compacted rows of the last layer. */
struct rows {
    const int *list; /* NULL: row i of the view is row i of x */
    int n;
    float *x;       /* (n, d) */
    const float *q; /* (n, Q) */
};

static inline int row_of(const struct rows *v, int i)
{
    return v->list ? v->list[i] : i;
}

/* Query rows of one attention call: a tile of tokens times the heads that share a kv head. */
enum { ATTENTION_ROWS = 48 };

struct siren_forest {
    struct siren_engine *engine;
    struct segment *segments;
    size_t n_segments, segments_capacity;
    int32_t *ids;
    size_t n_all_ids, ids_capacity;
    struct request *requests;
    size_t n_requests, requests_capacity;
    struct row_set *sets;
    size_t n_sets, sets_capacity;
    int planned, done;
    int adapted; /* planned: some segment has an adapter */
    struct siren_training training;
    int recorded; /* asked for, then planned: the pass keeps a tape */

    /* ---- the plan ---- */
    int T, max_pages;
    int narrow;        /* few rows: threads share the columns, else they share the rows */
    int block;         /* rows a task, at most */
    int n_active;      /* rows whose last layer is wanted; layer-local: that are asked for */
    int *active;       /* (n_active) rows of x, ascending; NULL: all */
    int *row_segment;  /* (T) */
    int *row_position; /* (T) */
    /* Where a row's keys and values go: its own page, and the copies of that page in the segments
     * that continue it in the middle of a page: destinations[first_destination[r] …]. */
    int *first_destination; /* (T + 1) */
    int *destinations;      /* page indices */
    struct page_ref *pages;
    size_t n_pages;
    int *page_table;
    struct page_copy *copies;
    size_t n_copies;
    size_t parity_stride; /* of scratch pages: two layers' worth, used in turn */
    int *page_slot;    /* (n_layers) recorded: which layer's worth; saved layers have their own */
    int *hidden_order; /* requests of hidden states, sorted by (layer, row) */
    int *hidden_start; /* (n_layers + 2) into hidden_order, by layer */

    /* ---- memory for the run, kept between passes ---- */
    struct arena {
        unsigned char *data;
        size_t size, used;
    } plan_arena, run_arena, page_arena, output_arena, tape_plan_arena, parts_arena, tape_arena;
    size_t page_bytes;    /* of the page arena that this pass uses */
    atomic_long *cursors; /* (n_layers + 1) one a layer: which block is next */
    float *x;             /* (T, d) */
    float *q;             /* (T, Q) after RoPE */
    float *x_active; /* (n_active, d): x of active rows in the last layer; x itself where all are */
    float *q_active;
    float *qkv, *attended, *ffn, *gates; /* narrow passes: shared by the threads */
    float *logit_rows;                   /* (rows of one set, d) */
    /* Requests of log-probabilities by row; row i of them is active row logprob_compact[i] and
     * serves logprob_order[logprob_first[i]] …. */
    int n_logprob_rows;
    int *logprob_order, *logprob_first, *logprob_compact;
    size_t most_rows;      /* whose whole logits may be in memory at a time */
    int chunk_rows;        /* … and are: all, or equal parts of them */
    float *logprob_states; /* (chunk_rows, d) */
    float *logprob_logits; /* (chunk_rows, n_vocab); the backward pass turns them to gradients */
    float *outputs;
    struct thread_scratch *scratch; /* (n_threads) */
    struct tape_layer *tape;        /* (n_layers) NULL: not recorded */
    struct backward *back;          /* backward.h */
};

/* forest_plan.c: memory that grows between passes only. */
size_t aligned(size_t bytes);
int arena_ensure(struct arena *a, size_t bytes, const char *what, struct siren_error *err);
void *arena_take(struct arena *a, size_t count, size_t size); /* NULL: measuring */
float *take_floats(struct arena *a, size_t n);

/* Keys of a page; its values key_words() further on. */
static inline float *page_data(const struct siren_forest *f, const struct page_ref *page, int layer,
                               int head)
{
    size_t at = page->layer_stride
                    ? page->layer_stride * (size_t)layer
                    : f->parity_stride * (size_t)(f->tape ? f->page_slot[layer] : layer & 1);
    return page->base + at + page->head_stride * (size_t)head;
}

/* By what scores are multiplied. */
static inline float attention_scale(const struct siren_forest *f)
{
    return 1.0f / sqrtf((float)f->engine->model->config.head_dim);
}

/* What the threads of one run share. */
struct pass_run {
    struct siren_forest *forest;
    const volatile int *cancel;
    atomic_int cancel_layer; /* the layer before which all threads stop; -1: none */
    atomic_long *cursors;
};

/* Floats of scratch that the products of any layer need; backward: their gradients, too. */
size_t layers_scratch(const struct siren_model *m, int backward);

/* siren_training.layer_local of a recorded pass. */
static inline int trains_locally(const struct siren_forest *f)
{
    return f->recorded && f->training.layer_local;
}

static inline struct rows all_rows(const struct siren_forest *f)
{
    return (struct rows){.n = f->T, .x = f->x, .q = f->q};
}

static inline struct rows active_rows(const struct siren_forest *f)
{
    if (f->n_active == f->T) return all_rows(f);
    return (struct rows){.list = f->active, .n = f->n_active, .x = f->x_active, .q = f->q_active};
}

/* Rows for which a thread has scratch memory: block_rows plus 30 %, so that blocks can be made
 * equal in size. */
static inline int rows_most(const struct siren_forest *f)
{
    return f->engine->kernels->block_rows * 13 / 10;
}
/* Rows first … first + n - 1 of those that a phase works on, for one thread. */
struct row_block {
    int first, n;
};
/* Blocks of nearly equal size, about block_rows of the kernels and at most f->block, and the same
 * number for every thread, unless that would make blocks small (each block decodes all weights
 * once). */
static inline int row_blocks(const struct siren_forest *f, int rows)
{
    enum { SMALL = 16 };
    int most = rows > f->block ? f->block - f->engine->kernels->tile_rows : f->block;
    int threads = siren_pool_threads(f->engine->pool), least = (rows + most - 1) / most;
    int wanted = f->engine->kernels->block_rows * threads;
    int even = (rows + wanted / 2) / wanted * threads;
    if (even < least) even = (least + threads - 1) / threads * threads;
    if (even < threads) even = threads;
    if (even > rows / SMALL) even = rows / SMALL;
    return even > least ? even : least;
}
/* Where block i begins.  Where each thread has several, the blocks that are worked on at the same
 * time are of one size, and of whole tiles of the products but for the last ones. */
static inline int block_start(const struct siren_forest *f, int rows, int blocks, int i)
{
    int threads = siren_pool_threads(f->engine->pool), rounds = blocks / threads;
    if (rounds < 2 || blocks % threads) return (int)((int64_t)rows * i / blocks);
    int whole = f->engine->kernels->tile_rows * threads, round = i / threads;
    int first = (int)((int64_t)rows * round / rounds) / whole * whole;
    int end = (int)((int64_t)rows * (round + 1) / rounds) / whole * whole;
    if (round == rounds - 1) end = rows;
    return round < rounds ? first + (end - first) * (i % threads) / threads : rows;
}
/* A thread's share of n panels or rows. */
static inline void share(int n, int thread, int n_threads, int *from, int *to)
{
    *from = (int)((long)n * thread / n_threads);
    *to = (int)((long)n * (thread + 1) / n_threads);
}
/* The next block of `rows` rows; 0: there is none. */
static inline int claim_rows(const struct siren_forest *f, int rows, atomic_long *cursor,
                             struct row_block *out)
{
    int blocks = row_blocks(f, rows), i = (int)claim_next(cursor, blocks);
    if (i < 0) return 0;
    out->first = block_start(f, rows, blocks, i);
    out->n = block_start(f, rows, blocks, i + 1) - out->first;
    return 1;
}

/* Panels of a task of a head's logits.  Each task reads the states, and in mode bf16 rounds them:
 * few tasks, but eight for each thread. */
static inline int logit_panels(const struct siren_forest *f, int n_panels)
{
    enum { LEAST = 32, TASKS = 8 };
    int panels = n_panels / (TASKS * siren_pool_threads(f->engine->pool));
    return panels > LEAST ? panels : LEAST;
}

/* forest_logprob.c: after the states of all active rows are ready; all threads. */
void emit_logprobs(struct pass_run *run, int thread);
/* Its parts, which the backward pass takes again: the states of rows [first, first + n) side by
 * side (one thread); their logits, shared among the threads; one row's logits divided by a
 * temperature (x itself where that is 1, else in t->scaled). */
void gather_logprob_states(struct siren_forest *f, int first, int n);
void logprob_chunk(struct siren_forest *f, int thread, int n, atomic_long *cursor);
const float *tempered(const struct siren_forest *f, struct thread_scratch *t, const float *x,
                      float temperature);
/* The plan's part: fills logprob_order, logprob_first, logprob_compact; requests are placed. */
void order_logprobs(struct siren_forest *f);

#endif
