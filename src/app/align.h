/* Stage 2: reasoning internalised.  An adapter on the answer-only prompts is trained to
 * be, at the query token, what a teacher was after reasoning; and the losses it is compared with
 * (CE, KD, RPS) on the same rows. */
#ifndef SIREN_APP_ALIGN_H
#define SIREN_APP_ALIGN_H

#include "app/training.h"
#include "siren/losses.h"
#include "siren/teacher.h"

/* Weights of the layers l = 1 … L in the alignment loss. */
enum align_layers {
    ALIGN_UNIFORM, /* the paper's mean */
    ALIGN_LINEAR,  /* l / L */
    ALIGN_UPPER,   /* the upper half alone */
    ALIGN_LAST     /* layer L alone */
};

/* Loss of a row = ha · L_align + the rating loss (siren/losses.h). */
struct align_options {
    const char *teacher; /* a file of states; NULL: none, for losses that need none */
    struct siren_teacher_filter filter; /* its rows; the seed is the training's */
    double ha;
    enum align_layers layers;
    int before_norm; /* the last layer's state before the final norm instead of behind it */
    /* 1: a layer learns from its own state alone (siren_training.layer_local), the last one from
     * the rating loss, too: some half of the time.  Needs ha; for adapters only. */
    int layer_local;
    struct siren_rating_loss rating;
    /* [optional] Told before the first step where the states are of another model or adapter than
     * the one that is trained. */
    void (*other_teacher)(void *context, const char *teacher);
    void *context;
};
/* "ha", "kd+ce", "ha+ce:0.5": terms of ha, ce, kd, rps, each with a weight, 1 where none is given;
 * sets ha and the weights of rating. */
int align_parse_loss(struct align_options *options, const char *text, struct siren_error *err);
int align_parse_layers(enum align_layers *layers, const char *text, struct siren_error *err);

/* With a teacher the rows, the split and the prompts are those of its file (training->n_rows of
 * them).  Metric on valid: training->choose_by, the MAE of the median by default.  The log has
 * "cosine" for each step: the mean of the layers' (those with a weight), and "cosine_last". */
int align_train(struct training *training, const struct align_options *options,
                struct trainer_result *result, const struct siren_progress *progress,
                const volatile int *cancel, struct siren_error *err);

#endif
