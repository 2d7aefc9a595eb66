/* The training loop, whatever is trained and whatever the loss.  Private to the library.
 *
 * A task says what a row is worth: which token sequences it adds to a pass, which outputs it wants
 * of them, and the loss and its gradient from these outputs.  The trainer does the rest: the order
 * of the rows, passes under a token budget, gradient accumulation, clipping, schedule, AdamW,
 * evaluation, early stopping, checkpoints, the log.
 *
 *     task      rows -> (batch) -> items -> sequences of ids -> outputs -> loss
 *     trainer   items, sorted by ids -> passes (micro-batches) -> forest -> gradients -> step
 *
 * A batch is `batch` rows; an item is what has a loss: by default the row itself, or what the
 * task's begin() makes of the batch (the sampled texts of a GRPO group).  An item has one or more
 * sequences (a prompt with its response; the labels' continuations of one prompt).  Sequences of
 * one pass form a trie over their ids: what they share is computed once, forward and backward.
 *
 * The loss of a step is Σ_i w_i loss_i / Σ_i w_i over the batch's items, whatever the passes: no
 * padding, no mean of means.  Cutting a batch into other passes changes the order of the sums over
 * tokens and so gradients by rounding only (and the dropout masks, which belong to rows of passes);
 * for the same settings every bit is the same, whatever the threads and the instruction set, and
 * however often the run was stopped and resumed.
 *
 * Folder of a run:
 *     settings.json   what the run was asked for
 *     log.jsonl       a line a step: {"step", "epoch", "loss", "norm", "lr", "items", "tokens",
 *                     "tokens_per_second", "memory", "seconds", + the task's}; an evaluation:
 *                     {"step", "valid": {NAME: metric, + the task's}, "best": bool, "seconds"}
 *     checkpoint      siren/checkpoint.h: parameters, moments, the state of the loop, settings.
 *                     Random numbers are counter-based: their state is (seed, step)
 *     curve.svg       loss and metric by step, written with each evaluation and at the end
 *     adapter/        PEFT files: the best parameters on valid; without evaluation those of the
 *                     last checkpoint
 *     last/           with evaluation: those of the last checkpoint, good or bad (adapters only) */
#ifndef SIREN_TRAIN_TRAINER_H
#define SIREN_TRAIN_TRAINER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "siren/adapter.h"
#include "siren/forest.h"
#include "siren/optimizer.h"
#include "siren/progress.h"
#include "siren/score.h"

/* ---- the task ---- */

/* Where an item's tokens lie in the pass: token `position` of its k-th sequence is token *token of
 * segment *segment. */
struct trainer_item;
void trainer_place(const struct trainer_item *item, size_t k, size_t position, int *segment,
                   size_t *token);

struct trainer_batch {
    uint64_t step;      /* of the optimiser, from 0 */
    const size_t *rows; /* (n_rows), drawn; the last batch of an epoch may be smaller */
    size_t n_rows;
    /* Set by begin(): its items are 0 … n_items − 1.  0: the step changes nothing and is logged.
     * Without begin() an item is a row, under the row's number. */
    size_t n_items;
    const double *weights; /* (n_items) >= 0, not all 0, the task's; NULL: all 1 */
};

/* A chart of the log, in the run's folder: fields of its lines against the step.  "reward" is a
 * step's; "valid.mae", "valid.answer_only.mae" an evaluation's, drawn with marks. */
enum { TRAINER_SERIES = 4 };
struct trainer_chart {
    const char *file, *title; /* "curve.svg", "Learning curve" */
    struct {
        const char *field, *label;
        int panel;            /* series of one measure share one; panels stand in this order */
    } series[TRAINER_SERIES]; /* up to the first without a field; those without a number are left
                                 out */
};

/* Functions return 0 or an error code; those marked [optional] may be NULL. */
struct trainer_task {
    void *context;
    const char *metric; /* what evaluate() returns, for the log: "mae", "loss" */
    size_t n_rows;

    /* [optional] Make the items of a batch (sample, score …), with the parameters as they are now.
     * What it does may depend on (seed, batch->step, rows, parameters) only, so that a resumed run
     * repeats it.  Called once for each step, or, with options.repeats, for the first of them. */
    int (*begin)(void *context, struct trainer_batch *batch, const struct siren_progress *progress,
                 struct siren_error *err);

    /* How many sequences an item has; [optional]: one.  And the k-th: borrowed, valid until the
     * next begin(). */
    size_t (*n_sequences)(void *context, size_t item);
    struct siren_tokens (*sequence)(void *context, size_t item, size_t k);

    /* Ask for the outputs of an item (siren_forest_want_…) at trainer_place() of its tokens, and
     * remember their indices until read(). */
    int (*want)(void *context, size_t item, struct siren_forest *forest,
                const struct trainer_item *place, struct siren_error *err);
    /* After the run: *loss = the item's loss, and coefficient · d loss / d output into
     * siren_forest_gradient() of its outputs (these are 0 before).  Called once an item, in the
     * order in which want() was called.  coefficient 0: only the loss (the pass may have no
     * gradients). */
    int (*read)(void *context, size_t item, struct siren_forest *forest, double coefficient,
                double *loss, struct siren_error *err);

    /* Instead of sequence, want and read: *loss, and coefficient · gradient added to the
     * parameters' own gradients.  For what has a gradient without a forest. */
    int (*gradient)(void *context, size_t item, double coefficient, double *loss,
                    struct siren_error *err);

    /* [optional] After the optimiser's step: fields for the step's line of the log. */
    void (*end)(void *context, const struct trainer_batch *batch, json_t *line);

    /* [optional] Judge the parameters on valid rows: *metric is to be minimised; fields of one's
     * own go to `fields`.  SIREN_ECANCEL if progress says so. */
    int (*evaluate)(void *context, double *metric, json_t *fields,
                    const struct siren_progress *progress, struct siren_error *err);

    /* [optional] Drawn when the run ends or stops; none: curve.svg, of loss and metric. */
    const struct trainer_chart *charts;
    size_t n_charts;

    /* [optional] An item in words for messages: "user 12, item 34". */
    void (*describe)(void *context, size_t item, char *text, size_t size);
};

/* ---- what is trained ---- */

/* Either an adapter (its parameters, saved as PEFT files), or parameters of one's own. */
struct trainer_subject {
    struct siren_adapter *adapter; /* made trainable by the trainer; set on every root */
    const char *base_identity;     /* for the adapter's files */
    /* Before its files are written, once a step has changed it; NULL: nothing to do. */
    void (*saving)(void *context);

    struct siren_params params; /* adapter NULL: these */
    /* After each step, and after a checkpoint was read; NULL: nothing to do. */
    int (*changed)(void *context, struct siren_error *err);
    /* The best parameters, into the run's folder under a name of one's own; NULL: not saved. */
    int (*save)(void *context, const char *folder, struct siren_error *err);
    const char
        *saves; /* that name: a run whose best is gone is not resumed; NULL: not looked for */
    void *context;
};

/* ---- the options ---- */

struct trainer_options {
    const char *folder; /* of the run; made if missing */
    int resume; /* 1: go on from the folder's checkpoint, if it has one; 0: refuse a used folder */
    uint64_t seed;
    size_t batch;                      /* rows a step; 32 */
    double epochs;                     /* 3; a fraction of an epoch is allowed */
    uint64_t max_steps;                /* 0: as the epochs give */
    unsigned repeats;                  /* optimiser steps for each batch of rows; 1 */
    double lr;                         /* 1e-4 */
    double lora_plus;                  /* lr of an adapter's B, times that of its A (LoRA+); 1 */
    enum siren_schedule_kind schedule; /* constant */
    int64_t warmup;                    /* steps; -1: min(100, 10 % of all steps) */
    struct siren_adamw_options adamw;  /* weight decay 0.05 */
    double clip;                       /* largest gradient norm, 1; 0: none */
    size_t pass_tokens;        /* tokens a pass, shared ones once; 1,024: what memory_bytes holds
                                  of a model of 135 M.  A batch is cut where that costs least: a
                                  pass may exceed this, up to 8 times, if the shared tokens that it
                                  saves outnumber half of the excess */
    size_t memory_bytes;       /* siren_training.memory_bytes; 768 MiB */
    int dropout;               /* 1: siren_training.dropout */
    int layer_local;           /* 1: siren_training.layer_local */
    uint64_t eval_every;       /* steps between evaluations, which wait for the end of a batch's
                                  repeats; 0: once an epoch */
    int eval_first;            /* 1: also before the first step */
    unsigned patience;         /* evaluations without a better metric until it stops; 0: never */
    uint64_t checkpoint_every; /* steps between checkpoints; 0: by time only */
    double checkpoint_seconds; /* and at the latest after so long; 300 */
    /* Called with each line of the log, for a person who watches; NULL. */
    void (*watch)(void *context, const json_t *line);
    void *watch_context;
};
struct trainer_options trainer_defaults(void);

struct trainer_result {
    uint64_t steps, total_steps;
    double loss; /* of the last step, by this call or one before; NAN: none was made */
    double best; /* metric; NAN: never evaluated */
    uint64_t best_step;
    int stopped_early; /* by patience */
    int resumed;       /* from a checkpoint */
    uint64_t tokens;   /* computed by training passes, both calls of a resumed run together */
    double seconds;
};

/* The log of a run, an array of its lines; NULL: see err. */
json_t *trainer_read_log(const char *folder, struct siren_error *err);

/* {"run": run, "training": options}: what two runs must agree in to give the same bits. */
json_t *trainer_settings(const struct trainer_task *task, const struct trainer_options *options,
                         const json_t *run);

/* *done: 1 where the folder's checkpoint says that the run has come to its end, and what it made is
 * there; 0 where there is no checkpoint, or one of a run that is to go on. */
int trainer_is_done(const char *folder, int *done, struct siren_error *err);

/* 1 where the folder's log has lines and there is no checkpoint: of a run that was killed before
 * its first one, or whose checkpoint somebody removed. */
int trainer_lost_checkpoint(const char *folder);

/* Only the losses of items (n, the task's numbers), in passes as in training: read() gets
 * coefficient 0, and there are no gradients to fill.  adapter may be NULL. */
int trainer_losses(const struct trainer_task *task, struct siren_engine *engine,
                   const struct siren_adapter *adapter, const struct trainer_options *options,
                   const size_t *items, size_t n, double *losses,
                   const struct siren_progress *progress, struct siren_error *err);

/* Train.  `engine` may be NULL where task->gradient is set.  `settings` (borrowed) says what the
 * run is besides the options (model, data, task, adapter): it is kept in the folder, and a resume
 * under other settings or options is refused (SIREN_EINVAL names each that differs, and both
 * values: settings.h).  What does not change a bit may differ: threads, instruction set, progress,
 * cadence of checkpoints, folder.
 *
 * Progress counts rows, of all steps ("rows: 12 of 64 texts" within one); behind the last step what
 * the task's evaluate() counts.
 * SIREN_EEXISTS: the folder holds a run and resume is 0.
 * SIREN_ECANCEL: progress or *cancel said stop: a checkpoint of the last whole step is written.
 * SIREN_ENUMERIC: a loss or a gradient is NaN or Inf: the message names step, item and the last
 * good checkpoint, which is left as it is.
 * *result is filled in any case, as far as the run came. */
int trainer_run(const struct trainer_task *task, const struct trainer_subject *subject,
                struct siren_engine *engine, struct siren_pool *pool,
                const struct trainer_options *options, const json_t *settings,
                struct trainer_result *result, const struct siren_progress *progress,
                const volatile int *cancel, struct siren_error *err);

#endif
