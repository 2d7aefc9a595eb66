/* Training examples: rows of a split as token ids, point in time.
 *
 * The prompt is that of siren_predict() with the same options; the response is
 * what the model shall learn to continue it with:
 *   SIREN_AO    the tokens of the rating's label, as the read-out scores them
 *   SIREN_COT   a rationale (recs/rationale.h) behind "<think>\n", and the token
 *               that ends the assistant's turn
 * Prompt and response are tokenised apart, as they are when the model answers. */
#ifndef SIREN_APP_EXAMPLES_H
#define SIREN_APP_EXAMPLES_H

#include "siren/app.h"

struct example {
    struct siren_target target;
    double rating;   /* the truth, off the workspace */
    int label;       /* its number on the scale, from 0 */
    int32_t *ids;    /* (n_ids): prompt, then response */
    size_t n_prompt; /* at least 1 */
    size_t n_ids;    /* more than n_prompt */
    /* SIREN_COT: the rating's tokens within "<answer>" and "</answer>"; both 0 where the tokenizer
     * joins them with what stands beside them. */
    size_t answer, n_answer;
};
struct examples {
    struct example *list;
    size_t n;
};

/* Of these targets, each a row of the ratings.  `seed` draws the wording of rationales: an
 * example is a function of (workspace, target, options, seed), not of what stands beside it.
 * SIREN_EINVAL: a target without a row, a rating that is no label, a model without chat template,
 * or the strategy profile (whose texts a model would have to write first). */
int examples_create(struct examples *out, const struct siren_app *app, const struct siren_lm *lm,
                    const struct siren_target *targets, size_t n,
                    const struct siren_predict_options *options, uint64_t seed,
                    struct siren_error *err);
void examples_clear(struct examples *examples);

#endif
