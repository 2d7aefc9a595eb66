/* The calibrated read-out: a small convex model over the language model's rating
 * log-probabilities and what the workspace keeps anyway: the user's rating habit, the ratings in
 * the candidate's topic, the item's train ratings.
 *
 *     struct siren_calibration *c;
 *     siren_calibrate(&c, app, &(struct siren_calibrate_options){.run = 12}, pool, &json, &err);
 *     siren_calibration_save(c, "films.calibration", &err);
 *     options.calibration = c;          // of siren_predict(), siren_evaluate(), siren_rank()
 *     siren_calibration_free(c);
 *
 * It is fitted on the stored answers of a run on valid, users of half A (siren_user_half()), and
 * reported on those of half B, so the language model is not asked again, and test is not read.  It
 * belongs to the model, adapter, compute mode, prompts and scale of that run, and is refused with
 * any other. */
#ifndef SIREN_CALIBRATION_H
#define SIREN_CALIBRATION_H

#include "siren/app.h"
#include "siren/features.h"
#include "siren/logistic.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_calibrate_options {
    int64_t run;                   /* of `siren eval`, on "valid" */
    enum siren_logistic_kind kind; /* SIREN_MULTINOMIAL, SIREN_ORDINAL */
    unsigned groups;               /* enum siren_feature_group, with the logits; 0: all that the
                                      workspace has */
    double l2;                     /* siren_logistic_options; 0: chosen by cross-validation */
    uint64_t seed;
    const char *command; /* of the runs; NULL */
    const char *path;    /* siren_calibration_save(), with the runs or not at all; NULL */
};

/* *json (malloc'ed): {"run", "fitted": {"rows", "users", "features", "l2"}, "rows": [{"name", "n",
 * "mae", "rmse", "log_loss", "rps", "ece", "run"}, …], "chosen_on"}: on half B the raw read-out,
 * the calibrated one, and the same model without the logits, so that what the language model adds
 * is visible; MAE of the median, RMSE of the mean.  The last two are stored as runs of kind
 * "calibration", and the first of these holds the model in its settings. "chosen_on": how many rows
 * of half B the best of a training was chosen by, as far as the workspace's runs tell.
 * SIREN_EINVAL: a run that is not done, on other rows than valid, without distributions, calibrated
 * already, or with rows that its model was trained on;
 * SIREN_ENOTFOUND: a half without rows, or a half A that teaches nothing: with one rating only, or,
 * where the penalty is to be chosen, with fewer users than SIREN_LOGISTIC_FOLDS.  Fewer rows
 * than features are allowed: the L2 penalty keeps the fit well-posed. */
int siren_calibrate(struct siren_calibration **out, struct siren_app *app,
                    const struct siren_calibrate_options *options, struct siren_pool *pool,
                    char **json, struct siren_error *err);
void siren_calibration_free(struct siren_calibration *calibration); /* NULL is allowed */

/* One JSON object; numbers survive to the bit. */
int siren_calibration_save(const struct siren_calibration *calibration, const char *path,
                           struct siren_error *err);
int siren_calibration_load(struct siren_calibration **out, const char *path,
                           struct siren_error *err);

/* Does it belong to these?  SIREN_EINVAL names what it was fitted on and what this is. */
int siren_calibration_check(const struct siren_calibration *calibration,
                            const struct siren_app *app, const struct siren_lm *lm,
                            const struct siren_predict_options *options, struct siren_error *err);
/* The answers' distributions and decoders, in place; their log-probabilities stay the model's.
 * Answers without a distribution are left as they are. */
int siren_calibration_apply(const struct siren_calibration *calibration,
                            const struct siren_app *app, const struct siren_target *targets,
                            struct siren_answer *answers, size_t n, struct siren_error *err);
/* 16 hexadecimal digits of a hash of it. */
void siren_calibration_hash(const struct siren_calibration *calibration, char hash[17]);

#ifdef __cplusplus
}
#endif
#endif
