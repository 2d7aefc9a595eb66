/* Supervised fine-tuning on rows of a workspace: the warm start on rationales, or the
 * rating's label behind an answer-only prompt (cross-entropy, with RPS as an ordinal term). */
#ifndef SIREN_APP_SFT_H
#define SIREN_APP_SFT_H

#include "app/training.h"
#include "siren/losses.h"

struct sft_options {
    /* training.predict.mode says what is learned:
     * SIREN_COT  the tokens of a rationale, its answer and the end of the turn: the loss of a row
     *            is the mean of −log p over these tokens, and answer_weight times the −log p of the
     *            rating; the metric on valid the mean over rows
     * SIREN_AO   the rating: `loss` on the scores of the labels (the joint log-probabilities of
     *            their tokens), the metric the MAE of the median */
    struct siren_rating_loss loss; /* kd is 0 */
    double answer_weight;          /* SIREN_COT; >= 0 */
};

int sft_train(struct training *training, const struct sft_options *options,
              struct trainer_result *result, const struct siren_progress *progress,
              const volatile int *cancel, struct siren_error *err);

#endif
