/* The scores of the rating labels behind prompts, as outputs of training passes: prompts that end
 * with "<answer>", of rows or of texts that a model wrote itself.
 *
 * Where every label is one token their logits are read at q; else each label continues the prompt
 * as a sequence of its own and its score is the sum of its tokens' log-probabilities. */
#ifndef SIREN_APP_LABELS_H
#define SIREN_APP_LABELS_H

#include "app/examples.h"
#include "siren/losses.h"
#include "train/trainer.h"

struct labels {
    struct siren_readout readout;
    int one_token;
    int32_t *ids;                 /* (labels), where one_token */
    struct siren_tokens *prompts; /* (n) of the items; their ids are borrowed */
    size_t n;
    int32_t *joined;   /* else: prompt and label of each item and label, one after the other */
    size_t *joined_at; /* (n · labels + 1) into joined */
    int *outputs;      /* (n, n_outputs) */
    size_t n_outputs;  /* of an item */
};
/* Without prompts. */
int labels_create(struct labels *out, const struct siren_app *app, const struct siren_lm *lm,
                  struct siren_error *err);
/* The prompts of items 0 … n − 1, instead of those before.  After a failure there are none. */
int labels_put(struct labels *labels, const struct siren_tokens *prompts, size_t n,
               struct siren_error *err);
/* Both, of the examples' prompts: an item is an example. */
int labels_of_examples(struct labels *out, const struct siren_app *app, const struct siren_lm *lm,
                       const struct examples *examples, struct siren_error *err);
void labels_clear(struct labels *labels);

/* As struct trainer_task wants them; `first`: how many sequences of others the trainer's item has
 * before these. */
size_t labels_n_sequences(const struct labels *l);
struct siren_tokens labels_sequence(const struct labels *l, size_t item, size_t k);
int labels_want(struct labels *l, size_t item, struct siren_forest *forest,
                const struct trainer_item *place, size_t first, struct siren_error *err);
/* The loss on an item's scores, whose label is the truth's; `teacher` (readout.n) scores for its
 * distillation, or NULL.  coefficient · gradient goes to the outputs; 0: only the loss. */
double labels_loss(const struct labels *l, size_t item, struct siren_forest *forest,
                   const struct siren_rating_loss *loss, int label, const double *teacher,
                   double coefficient);

#endif
