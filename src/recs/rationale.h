/* Rationales for the warm start: reasoned answers that the program
 * writes from the sketch, so that a small model learns the format.
 *
 *     <think>
 *     what the user likes, dislikes, how he rates, how the candidate fits
 *     </think>
 *     <answer>4</answer>
 *
 * What stands inside <think> is a function of what the prompt shows, the
 * candidate's place in the sketch, the seed and the row.  The target's rating
 * enters the answer only: the reasoning has the same bytes for every rating. */
#ifndef SIREN_RECS_RATIONALE_H
#define SIREN_RECS_RATIONALE_H

#include <stddef.h>
#include <stdint.h>

#include "siren/prompt.h"

struct rationale_input {
    const struct siren_prompt_input *prompt; /* as the prompt was built from */
    const struct siren_strategy *strategy;   /* what of it the prompt shows */
    int n_cut;                               /* lines left out: siren_prompt_ids.n_cut */
    /* The candidate's topic: one of prompt->liked or prompt->disliked (a pointer into them);
     * NULL: it is in neither.  Not read unless the prompt shows the sketch. */
    const struct siren_prompt_topic *topic;
    double rating; /* of the target: a label of the scale */
};

struct rationale {
    char *text;      /* the whole answer, malloc'ed, NUL-terminated */
    size_t response; /* bytes of it with which a SIREN_COT prompt ends: "<think>\n" */
};

/* Wording is drawn from (seed, row), whatever else is written.  SIREN_EINVAL: the rating is no
 * label of the scale, n_cut is negative, or the topic is not in the sketch. */
int rationale_write(struct rationale *out, const struct rationale_input *in, uint64_t seed,
                    uint64_t row, struct siren_error *err);
void rationale_clear(struct rationale *rationale);

#endif
