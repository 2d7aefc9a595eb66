/* The backward pass over a recorded forest.  Private to src/model.
 *
 * From the last layer down, three barriers a layer:
 *   blocks of rows   FFN and attention's output projection, as gradients of their inputs
 *   tasks            attention of a part of a tree and a kv head; gradients of LoRA factors
 *   blocks of rows   keys and values gathered from their pages, RoPE, the QKV projection
 * A sum over rows is one chain over all rows of the pass, over those of one part, or over a run of
 * rows with one adapter, added to those before it: no gradient depends on the threads, or on where
 * blocks are cut.
 *
 * Layer-local: every layer is as the last one, with the rows that are asked for as its view, whose
 * part of the forward pass is computed again; and as the lowest, as nothing goes below it.
 *
 * T, d, Q, F as in pass.h; W the widest A x of the pass's adapters. */
#ifndef SIREN_MODEL_BACKWARD_H
#define SIREN_MODEL_BACKWARD_H

#include "model/lora.h"
#include "model/masters.h"
#include "model/pass.h"

/* How far the backward of a layer goes: to the lowest group of factors that is trained, or through
 * the whole layer.  In the order of the computation. */
enum back_depth { BACK_NONE, BACK_DOWN, BACK_FFN, BACK_O, BACK_ATTENTION, BACK_WHOLE };

/* One group of LoRA targets, all rows of the layer's view (of the pass: LORA_ATTENTION_INPUT). */
struct lora_tape {
    float *in;   /* (T, ld) the group's input, after dropout; NULL where weights are trained */
    float *low;  /* (T, W) scale · A x of each target's columns */
    float *dlow; /* (T, W) */
    size_t ld;
};

enum { WEIGHT_ROWS = 192 }; /* of a matrix whose gradient is one task */

struct back_scratch {
    float *dffn;      /* (block, F) */
    float *dgates;    /* (block, 2·F) */
    float *plain;     /* (block, F) gate's or up's columns side by side */
    float *dnormed;   /* (block, d) */
    float *masked;    /* (block, widest input) before dropout */
    float *row;       /* (d) what nobody reads */
    float *sines;     /* (head_dim / 2) negated */
    float *dw;        /* gemm_dw's scratch */
    float *attention; /* attention_backward's scratch */
    size_t *offsets;  /* (BACK_ATTENTION_ROWS) */
    int *counts;
    float *mirrors; /* [max_pages][k, v], as page_mirror writes them */
    int *mirrored;  /* (max_pages) whose they are: page indices, -1: nobody's */
    /* (max_pages) each: see struct attention_pages */
    const float **k, **v, **mirror_k, **mirror_v;
    float **dk, **dv;
};

/* How attention's backward is shared out: backward_attention.c. */
struct back_piece {
    int segment, from, to; /* its tokens [from, to) */
    int n_pages;           /* that these see */
    int slots;             /* of these pages, from here on in back_parts.slots */
};
struct back_parts {
    int n_trees;
    int *tree_first;    /* (n_trees + 1) into tree_segments */
    int *tree_segments; /* segments by root, in the order they were added */
    int n_parts, n_pieces;
    int *part_first; /* (n_parts + 1) into pieces */
    struct back_piece *pieces;
    int *slots; /* of the pieces' pages; complements where a part sees a page first */
    int n_slots_listed;
    int *page_first; /* (n_pages + 1) a page's slots, in the order of the parts that see it */
    int *page_next, *page_seen; /* (n_pages) while they are handed out */
};

struct backward {
    int lowest;            /* the lowest trained layer */
    enum back_depth depth; /* … and how far to go in it */
    struct lora_tape groups[LORA_GROUPS];
    size_t low_width;        /* W */
    struct tape_layer again; /* memory of layers that are computed again */
    float *last;             /* (n_active, d) states before the final norm */
    float *gradients;        /* beside outputs, 0 after the run */
    size_t n_gradients;
    float *logprob_lse; /* (n_requests) of logits / temperature */
    float *dstates;     /* (n_active, d) after the final norm */
    float *output_rows; /* (rows of one set, or chunk_rows; d) */
    float *dx;          /* (T, d) of the residual stream */
    float *dx_active;   /* (n_active, d) in the last layer; dx itself where all are active */
    float *dffn_out;    /* (T, d) of the FFN's output, where a down factor is trained */
    float *dgates;      /* (T, 2·F) where a gate or up factor is trained */
    float *dattended;   /* (T, Q) of attention's output, then of the queries */
    float *dqkv;        /* (T, qkv width) */
    /* Where weights are trained. */
    int weights;
    float *kept[LORA_GROUPS]; /* a group's input as gemm_dw reads it (kernels.h) */
    float *kept_states;       /* … and logprob_states */
    float *dffn_normed;       /* (T, d) of the FFN's input */
    float *dattention_normed; /* (T, d) of the QKV projection's input */
    float *dnormed_heads; /* (T, qkv width) of queries and keys after their norms, before RoPE */
    float *raw_heads;     /* (T, qkv width) before their norms */
    struct back_parts parts;
    float *slot_gradients; /* [slot][kv head][dk, dv][32][D] */
    int *active_of_row;    /* (T) index into active rows, or -1 */
    atomic_long *cursors;  /* one a phase */
    size_t n_cursors;
    struct back_scratch *scratch; /* (n_threads) */
};

/* Tokens times heads of one call: a multiple of 32, where chains over rows may be cut in all modes.
 */
enum { BACK_ATTENTION_ROWS = 192 };

/* tape.c: the plan's part.  tape_choose() comes before pages are laid out: how many layers' worth
 * of scratch pages there are; tape_lay_out() hands out all memory. */
int tape_check(const struct siren_forest *f, struct siren_error *err);
int tape_choose(struct siren_forest *f, int *n_slots, struct siren_error *err);
int tape_lay_out(struct siren_forest *f, struct siren_error *err);

/* backward_outputs.c: from the gradients of the outputs to those of the last layer's output; all
 * threads.  Takes back_output_cursors() of *cursor. */
void back_outputs(struct siren_forest *f, int thread, int n_threads, atomic_long **cursor);
size_t back_output_cursors(const struct siren_forest *f);
/* backward.c: phases of the whole backward pass. */
size_t back_cursors(const struct siren_forest *f);

/* Tasks of one phase, counted by every thread alike; each takes those whose numbers it claims. */
struct back_tasks {
    atomic_long *cursor;
    long mine, next;
};
static inline int back_task(struct back_tasks *t)
{
    if (t->next++ != t->mine) return 0;
    t->mine = claim_next(t->cursor, INT32_MAX);
    return 1;
}

/* tape.c: 1: gradients of some factor of the group are wanted in this layer, of this adapter (NULL:
 * none), or of any adapter of the pass. */
int adapter_trains(const struct siren_adapter *a, int layer, enum lora_group group);
int lora_trains(const struct siren_forest *f, int layer, enum lora_group group);

/* 1: something needs the group's input in this layer. */
int input_wanted(const struct siren_forest *f, int layer, enum lora_group group);

/* How far a layer's backward goes for its own factors. */
enum back_depth trained_depth(const struct siren_forest *f, int layer);

/* ---- backward_attention.c ---- */

/* The plan's part; then how many slots there are. */
int back_parts_plan(struct siren_forest *f, struct siren_error *err);
size_t back_slots(const struct siren_forest *f);
/* Tasks: dattended becomes the gradient of the queries, slots those of keys and values. */
void attention_tasks(struct siren_forest *f, struct back_scratch *b, int layer,
                     const struct rows *v, struct back_tasks *tasks);
/* The gradient of row r's keys and of its values, (kv width) each. */
void gather_keys(const struct siren_forest *f, int r, float *dk, float *dv);

/* ---- backward_weights.c: gradients of weights, tasks of one phase ---- */

/* Before a pass, on the caller's thread: gradients that are not written yet (master.unwritten) and
 * will not be written whole by it become the zeros that they count as.  After it: all are written.
 */
void write_unwritten(struct siren_forest *f);
void all_written(struct siren_forest *f);
/* Of a layer's output projection and FFN; of its QKV projection (one phase later). */
void weight_gradients(struct siren_forest *f, struct back_scratch *b, int layer,
                      const struct rows *v, struct back_tasks *tasks);
void qkv_gradients(struct siren_forest *f, struct back_scratch *b, int layer,
                   struct back_tasks *tasks);
/* After the lowest layer. */
void embedding_gradient(struct siren_forest *f, struct back_tasks *tasks);
/* Of the head: a chunk of rows of log-probabilities (the pass's rows first … first + n - 1), whose
 * states all threads keep first (a barrier comes between); all requests of logits.  Of the final
 * norm. */
void head_keep_states(struct siren_forest *f, int thread, int n);
void head_chunk_gradient(struct siren_forest *f, struct back_scratch *b, int first, int n,
                         atomic_long *cursor);
void head_set_gradient(struct siren_forest *f, size_t c0, size_t c1);
void final_norm_gradient(struct siren_forest *f, struct back_scratch *b);

/* ---- backward_lora.c ---- */

/* View rows [i0, i0 + n), all with gradient dy (n, ldy) of the group's joined projection: adds the
 * adapters' part to dx (n, lddx), NULL: not wanted, and stores what the factors' gradients need.
 * in (n, ldin): the group's input. */
void lora_back(struct siren_forest *f, struct thread_scratch *t, struct back_scratch *b, int layer,
               enum lora_group group, const struct rows *v, int i0, int n, const float *in,
               size_t ldin, const float *dy, size_t ldy, float *dx, size_t lddx);
/* The factors' gradients of one group, over all rows of the view: dy (v->n, ldy). */
void lora_gradients(struct siren_forest *f, struct back_scratch *b, int layer,
                    enum lora_group group, const struct rows *v, const float *dy, size_t ldy,
                    struct back_tasks *tasks);

/* lora.c: one row x of `width` numbers, `row` of the pass, after dropout, to out (x itself, or
 * elsewhere); deterministic. */
void lora_drop(const struct siren_forest *f, const struct siren_adapter *adapter, int layer,
               enum lora_group group, int row, const float *x, float *out, size_t width);
int lora_drops(const struct siren_forest *f, const struct siren_adapter *adapter);

/* forest_run.c: parts of the forward pass of one layer, from its input on the tape: rows [r0, r0 +
 * n) of the pass up to their keys and values; then view rows [i0, i0 + n) up to the FFN's gates. */
void pass_qkv_again(struct siren_forest *f, struct thread_scratch *t, int layer, int r0, int n);
void pass_layer_again(struct siren_forest *f, struct thread_scratch *t, int layer,
                      const struct rows *v, int i0, int n);

#endif
