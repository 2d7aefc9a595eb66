/* The forest of token segments: the only way in to a model.
 *
 * A segment is a run of tokens with a parent.  A token attends to its own
 * segment up to itself and to all ancestors; its position continues its
 * parent's.  An encoder's segment has full attention and no parent.  Scoring,
 * ranking, rollouts, embedding (and training) are passes over one such forest;
 * a token shared by many prompts is computed once.
 *
 *     struct siren_forest *f;
 *     siren_forest_create(&f, engine, &err);
 *     int user = siren_forest_add(f, SIREN_ROOT, ids, n, 0);          // prefix
 *     int a = siren_forest_add(f, user, a_ids, n_a, 0);               // candidates
 *     int b = siren_forest_add(f, user, b_ids, n_b, 0);
 *     int out = siren_forest_want_logits(f, a, n_a - 1, rows, 5);     // requested only
 *     siren_forest_plan(f, &err);      // validates, sizes, allocates: every error is here
 *     siren_forest_run(f, NULL);       // allocates nothing, fails only by cancel
 *     const float *logits = siren_forest_output(f, out);
 *
 * Same bits always: an output does not depend on what else is in the pass, on
 * where a prompt was cut into segments, on what came from the cache, or on the
 * number of threads (docs/numerics.md), as long as all keys and values are finite:
 * a later token whose state is not may make earlier ones of its tile NaN. */
#ifndef SIREN_FOREST_H
#define SIREN_FOREST_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/model.h"
#include "siren/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An engine is a model ready to run on a pool with one set of kernels.  It is
 * used by one thread at a time. */
struct siren_engine;
struct siren_engine_options {
    const char *isa; /* "auto" (or NULL), "portable", "avx2", "avx512", "amx" */
    /* "f32" (or NULL), or "bf16": the products of weights, activations and their gradients, and
     * attention's but for the scores, take both sides rounded to bf16 and sum in f32; everything
     * else stays f32.  Every instruction set gives the same bits in either mode, but for AMX in
     * bf16.  bf16 is the faster mode only where the processor has VDPBF16PS or AMX.  A model that
     * was packed for bf16 (siren_model_options) has engines of that mode alone. */
    const char *compute;
};
/* Model and pool must outlive the engine, the engine its forests, the model also what is kept. */
int siren_engine_create(struct siren_engine **out, const struct siren_model *model,
                        struct siren_pool *pool, const struct siren_engine_options *options,
                        struct siren_error *err);
void siren_engine_free(struct siren_engine *engine); /* NULL is allowed */
const char *siren_engine_isa(const struct siren_engine *engine);
const char *siren_engine_compute(const struct siren_engine *engine); /* "f32", "bf16" */

/* The number of docs/numerics.md: raised whenever the bits of a pass or of its gradients change.
 * Work begun under another number (a training, a teacher file, in mode bf16 an evaluation) is not
 * resumed. */
#define SIREN_NUMERICS 7

/* K and V of a segment and of its ancestors, kept after a pass: a reference-counted
 * handle that later passes use as a parent.  With its last reference its memory goes back to the
 * model, which keeps up to 128 MiB of it for the next ones: the model must be there yet. */
struct siren_kept;
struct siren_kept *siren_kept_ref(struct siren_kept *kept);
void siren_kept_unref(struct siren_kept *kept);          /* NULL is allowed */
size_t siren_kept_tokens(const struct siren_kept *kept); /* positions from the root */
size_t siren_kept_bytes(const struct siren_kept *kept);  /* its own pages, without ancestors' */

struct siren_forest;
int siren_forest_create(struct siren_forest **out, struct siren_engine *engine,
                        struct siren_error *err);
void siren_forest_free(struct siren_forest *forest); /* NULL is allowed */
/* Empty it for the next pass; memory is kept for reuse. */
void siren_forest_clear(struct siren_forest *forest);

#define SIREN_ROOT (-1)
enum siren_segment_flags {
    /* Keep K and V: siren_forest_take() after the run.  The parent must be kept as well. */
    SIREN_KEEP = 1,
    /* Append the tokens to the kept parent itself instead of starting a child: a rollout that
     * grows by a token a pass.  Nobody else may hold or have continued that parent. */
    SIREN_EXTEND = 2,
};

/* Add a segment; returns its index (>= 0) or a negative code (SIREN_ENOMEM).  Bad
 * ids, parents and lengths are reported by the plan.  The ids are copied. */
int siren_forest_add(struct siren_forest *forest, int parent, const int32_t *ids, size_t n_ids,
                     unsigned flags);
/* Add an ancestor that is kept already (not computed again, no outputs from it). */
int siren_forest_add_kept(struct siren_forest *forest, struct siren_kept *kept);

/* Compute a root (a segment without a parent, or a kept one) and all that descends from it with a
 * LoRA adapter of this model; NULL: without one.  Roots of one pass may have different adapters.
 * What is kept remembers its adapter and the values it had: a kept root must be given the same
 * one, and is refused by the plan after siren_adapter_changed().  The adapter must outlive the run.
 * 0, or SIREN_EINVAL where there is no such segment; other errors are reported by the plan. */
struct siren_adapter;
int siren_forest_use_adapter(struct siren_forest *forest, int root,
                             const struct siren_adapter *adapter);

/* Request an output of a token that this pass computes; returns an output index or a negative code.
 * hidden: the state after `layer` layers, 0 = the embedding, n_layers = after the
 * last layer and the final norm; (d_model) floats.
 * logits: of vocabulary rows rows[0..n_rows), or of all rows (rows = NULL: n_vocab floats). */
int siren_forest_want_hidden(struct siren_forest *forest, int segment, size_t token, int layer);
int siren_forest_want_logits(struct siren_forest *forest, int segment, size_t token,
                             const int32_t *rows, size_t n_rows);

/* log p(target) and the entropy (nats) of softmax(logits / temperature) after a token: 2 floats.
 * Over the whole vocabulary, a few rows at a time: the logits of all tokens are never in memory. At
 * temperature 1 the first has the bits of the log-probability that siren_generate_many() reports.
 */
int siren_forest_want_logprob(struct siren_forest *forest, int segment, size_t token,
                              int32_t target, float temperature);

int siren_forest_plan(struct siren_forest *forest, struct siren_error *err);
/* cancel may be NULL; checked between layers.  0 or SIREN_ECANCEL. */
int siren_forest_run(struct siren_forest *forest, const volatile int *cancel);

/* After the run: the floats of an output; NULL where there is none (anymore).  Clear, add, want,
 * use_adapter, record, the next plan and siren_forest_backward() take the outputs away, and with
 * free and the next plan the memory that the pointer leads to may be gone: copy what is needed. */
const float *siren_forest_output(const struct siren_forest *forest, int output);
/* After the run: the handle of a segment added with SIREN_KEEP (caller unrefs). */
struct siren_kept *siren_forest_take(struct siren_forest *forest, int segment);
/* Tokens computed by the planned pass (shared ones once); 0 where there is no plan, or where what
 * takes the outputs away has ended it. */
size_t siren_forest_tokens(const struct siren_forest *forest);

/* ---- training ----
 *
 * A recorded pass can be followed by its backward pass: the caller turns outputs into a loss,
 * writes the loss's gradient beside each output, and the backward pass adds the gradients of
 * whatever is trained to what is there already (gradient accumulation is to call it again; what
 * siren_param.unwritten says to hold nothing is written).
 *
 *     siren_forest_record(f, &(struct siren_training){.dropout_step = step, .dropout = 1});
 *     siren_forest_plan(f, &err);
 *     siren_forest_run(f, NULL);
 *     siren_forest_gradient(f, out)[label] = p[label] - 1; …   // dL/d output
 *     siren_forest_backward(f, NULL);                         // siren_param.grad += …
 *
 * Trained are: every adapter of the pass that has gradients (siren_adapter_trainable()), and the
 * weights of a model that has them (siren_model_options.trainable).  Frozen weights get no
 * gradient, and nothing below the lowest trained layer is computed.  A token that several prompts
 * share is computed once each way.  Gradients have the same bits whatever the threads and the
 * instruction set, and whatever the memory budget. A recorded pass has no kept segments: what is
 * trained changes after it.
 *
 * Layer-local learning (siren_training.layer_local) stops the gradient at each layer's input: a
 * layer learns from what was asked of its own output (of the last layer: from logits, too) as if
 * the layers below were fixed.  What reaches a layer is then the gradient of the tokens that were
 * asked for, so FFN, output projection and queries go back for these rows only, and keys and values
 * to the factors without the products that would take them to the layer's input: where few tokens
 * are asked for, the whole costs little more than the forward pass. */
struct siren_training {
    /* Bytes for what the backward pass reads again; 0: no limit.  Layers beyond it are computed a
     * second time from their input (activation checkpointing), which costs one more forward pass of
     * them at most. */
    size_t memory_bytes;
    /* 1: the dropout of the pass's adapters, a function of the adapter's seed, this step (of the
     * optimiser, or any number that changes from pass to pass), the layer, the row of the pass and
     * the column. */
    int dropout;
    uint64_t dropout_step;
    int layer_local; /* 1: as above; LoRA only */
};
/* Before the plan, until the forest is cleared.  At the plan, SIREN_EINVAL: a kept or extended
 * segment, or nothing that is trained (layer-local: no layer that is trained and asked for);
 * SIREN_EUNSUPPORTED: an encoder; layer-local training of weights. */
int siren_forest_record(struct siren_forest *forest, const struct siren_training *training);
/* After the run: dL/d output, as many floats as the output has, all 0 until the caller fills it.
 * For siren_forest_want_logprob(): of the log-probability and of the entropy. */
float *siren_forest_gradient(struct siren_forest *forest, int output);
/* Once a run.  SIREN_ECANCEL leaves the gradients of the parameters partly added to: zero them. */
int siren_forest_backward(struct siren_forest *forest, const volatile int *cancel);
/* After the plan: bytes of activations and scratch that the recorded pass holds. */
size_t siren_forest_training_memory(const struct siren_forest *forest);

#ifdef __cplusplus
}
#endif
#endif
