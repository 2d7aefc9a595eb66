/* The parts of the training loop.  Private to trainer*.c. */
#ifndef SIREN_TRAIN_TRAINER_PARTS_H
#define SIREN_TRAIN_TRAINER_PARTS_H

#include <stdio.h>

#include "train/trainer.h"

/* ---- trainer_pass.c: items -> passes -> gradients ---- */

struct pass_sequence {
    struct siren_tokens tokens; /* first: see model/radix.h */
    size_t index;               /* in the batch: breaks ties, so that the order is one */
    int leaf;                   /* node at which it ends */
};
/* A run of tokens of the pass, from position `start` of its sequences on. */
struct pass_node {
    int segment, parent;
    size_t start;
};
struct trainer_item {
    size_t item, position; /* the task's number, and its place in the batch */
    size_t first, n;       /* its sequences: [first, first + n) of `sequences` */
    size_t end;            /* of the pass, should one begin here */
    double coefficient;    /* its share of the step's loss */
    const struct passes *passes;
};

/* The items of one batch and the pass at hand. */
struct passes {
    const struct trainer_task *task;
    struct siren_engine *engine;
    const struct siren_adapter *adapter;
    struct siren_forest *forest;
    size_t pass_tokens;
    struct siren_training training; /* dropout_step is set for each pass */
    int only_losses;                /* 1: no gradients; coefficients are 0 */
    struct trainer_item *items;     /* (n_items), sorted by their first sequence */
    size_t n_items, items_capacity;
    struct pass_sequence *sequences; /* (n_sequences), by item */
    size_t n_sequences, sequences_capacity;
    struct pass_sequence *sorted; /* those of the pass at hand */
    size_t sorted_capacity;
    struct pass_node *nodes;
    size_t n_nodes, nodes_capacity;
    uint64_t tokens; /* computed, of all passes so far */
    size_t memory;   /* the most that a recorded pass has held */
};
void passes_free(struct passes *p);

/* Take the items of a batch: of position i the task's number item(i) and its coefficient.  ids:
 * (n) task's numbers, coefficients: (n). */
int passes_fill(struct passes *p, const size_t *ids, const double *coefficients, size_t n,
                struct siren_error *err);
/* The most tokens of a pass that holds several items. */
static inline size_t trainer_pass_most(size_t pass_tokens)
{
    return 8 * pass_tokens;
}
/* The items from `from`, where a pass begins, that make the next pass: returns its end. */
size_t passes_cut(const struct passes *p, size_t from);
/* Forward and, unless only_losses, backward of items [from, to): losses[position] is set, gradients
 * are added. `number` is of the pass, for dropout. */
int passes_run(struct passes *p, size_t from, size_t to, uint64_t number, double *losses,
               const volatile int *cancel, struct siren_error *err);

/* ---- trainer_folder.c: settings, log, checkpoints ---- */

/* What a checkpoint holds besides the optimiser's arrays. */
struct trainer_state {
    uint64_t step;     /* steps done */
    int64_t evaluated; /* the last step after which was evaluated; -1: none */
    double best;       /* NAN: none */
    uint64_t best_step;
    unsigned since_best; /* evaluations since the best one */
    int stopped_early;
    int done; /* its end was reached and judged */
    uint64_t tokens;
    double seconds;
    uint64_t log_bytes; /* length of the log when the state was saved */
};

struct trainer_folder {
    char *path, *checkpoint, *adapter, *last; /* malloc'ed paths */
    json_t *settings;                         /* of the run and of the options */
    FILE *log;
    void (*watch)(void *context, const json_t *line);
    void *watch_context;
    uint64_t saved_step; /* of the checkpoint on disk */
    int saved;           /* there is one */
};

/* Takes over settings.  Makes or opens the folder and locks its log (SIREN_EBUSY: another process
 * trains there).  A checkpoint is restored into params, adamw and state if options->resume. */
int trainer_folder_open(struct trainer_folder *folder, const struct trainer_options *options,
                        json_t *settings, struct siren_params params, struct siren_adamw *adamw,
                        struct trainer_state *state, struct siren_error *err);
void trainer_folder_close(struct trainer_folder *folder);
/* Takes over line. */
int trainer_log(struct trainer_folder *folder, json_t *line, struct siren_error *err);
int trainer_folder_save(struct trainer_folder *folder, struct siren_params params,
                        struct siren_adamw *adamw, struct trainer_state *state,
                        struct siren_error *err);

/* ---- trainer_curve.c ---- */

int trainer_charts(const char *folder, const struct trainer_task *task, struct siren_error *err);

#endif
