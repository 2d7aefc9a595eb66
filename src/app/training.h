/* What the trainings over a workspace share (sft, align, grpo): rows, adapter, evaluation, the
 * run's record.  The loop itself is train/trainer.h.
 *
 *     struct training t = training_defaults();
 *     t.app = …; t.lm = …; t.kind = "sft"; t.loop.folder = …;
 *     training_rows(&t, &rows, &err);
 *     training_adapter(&t, &adapter, &err);
 *     struct trainer_task task = { … what the loss is … };
 *     json_t *settings = training_settings(&t, &rows);     // and add your own
 *     training_run(&t, &task, adapter, settings, &result, progress, cancel, &err);
 */
#ifndef SIREN_APP_TRAINING_H
#define SIREN_APP_TRAINING_H

#include <jansson.h>

#include "siren/adapter.h"
#include "siren/app.h"
#include "train/trainer.h"

/* What an adapter is chosen by, of answers at once on the valid rows: the MAE of the median, the
 * RMSE of the mean, log-loss, ranked probability score. */
enum training_metric { TRAINING_MAE, TRAINING_RMSE, TRAINING_LOG_LOSS, TRAINING_RPS };
extern const char *const training_metric_names[]; /* "mae", … as in the log */

struct training {
    struct siren_app *app;
    struct siren_lm *lm;
    struct siren_pool *pool;
    const char *kind;           /* "sft", "align", "grpo": of the run in the workspace */
    const char *name, *command; /* of the run; NULL */
    struct trainer_options loop;
    /* Of a new adapter; seed: the loop's.  With `start` only dropout is looked at: below 0, the
     * adapter's own. */
    struct siren_adapter_config lora;
    /* All weights are trained instead of an adapter: t->lm was opened with SIREN_TRAIN_ALL.  What
     * is best on valid is the model folder/model.  some_layers: only those that lora's say, as the
     * model was opened, and neither embedding nor final norm nor head. */
    int full, some_layers;
    const char *start; /* the folder of t->lm's adapter, to go on from a copy of it; NULL: new */
    struct siren_predict_options predict; /* the prompts */
    const char *split;                    /* "train" */
    int fold;                             /* -1 */
    const uint64_t *fold_seed;            /* NULL: the loop's */
    size_t n_rows;                        /* of the split, drawn with the seed; 0: all */
    /* Instead of rows of the split, which then only says where they are from: borrowed, in the
     * order of the ratings; NULL. */
    const struct siren_target *given;
    size_t n_given;
    const json_t *taught_by; /* identities of what the rows' teacher was made by; NULL: none */
    const char *eval_split;  /* "valid:A"; NULL: no evaluation */
    size_t n_eval_rows;      /* 0: all */
    enum training_metric choose_by;
    /* out: */
    int64_t run;        /* of the workspace */
    size_t n_trained;   /* rows trained on: all there were, up to n_rows */
    const char *metric; /* by which the best was chosen */
    /* while training_run() runs: */
    const struct siren_adapter *adapter;
    json_t *metrics; /* of the run as it is stored; its "made" grows */
};
struct training training_defaults(void); /* r 8, alpha 16, dropout 0.05 on k and v */

struct training_rows {
    struct siren_target *train, *valid;
    size_t n_train, n_valid; /* n_valid 0: no evaluation */
};
/* SIREN_EINVAL: the text is no split, or has rows that are to be reported on only. */
int training_check_split(const char *split, struct siren_error *err);
/* SIREN_EINVAL: … or others than those of valid, which are to be chosen by. */
int training_check_eval_split(const char *split, struct siren_error *err);
int training_rows(const struct training *t, struct training_rows *out, struct siren_error *err);
void training_rows_clear(struct training_rows *rows);

/* A new adapter, or that of t->start, of t->lm's model; NULL where all weights are trained. */
int training_adapter(const struct training *t, struct siren_adapter **out, struct siren_error *err);

/* All that the result depends on besides the loop's options: model, data, rows, prompts, adapter.
 */
json_t *training_settings(struct training *t, const struct training_rows *rows);
/* Targets of LoRA (bits of enum siren_lora_target) by their names: ["k_proj", "v_proj"]. */
json_t *training_targets_json(unsigned targets);

/* Answer-only predictions of the valid rows with the adapter (NULL: without): *metric is what
 * t->choose_by says; to fields: "mae" of the median where that is not it, "rmse" of the mean,
 * "log_loss", "rps", "outside", "n".  For task.evaluate. */
int training_evaluate(const struct training *t, const struct siren_adapter *adapter,
                      const struct training_rows *rows, double *metric, json_t *fields,
                      const struct siren_progress *progress, struct siren_error *err);

/* trainer_run() as a run of the workspace (found again when it is resumed, also where all was done
 * before), with its metrics at the end: {"training": {"steps", "loss", "best", "best_step",
 * "tokens", "seconds", "folder", …}}.  "made" (app/lineage.h) is among them from the first file on
 * that was saved, so that a run which is killed has told.  Takes over settings. */
int training_run(struct training *t, const struct trainer_task *task, struct siren_adapter *adapter,
                 json_t *settings, struct trainer_result *result,
                 const struct siren_progress *progress, const volatile int *cancel,
                 struct siren_error *err);

#endif
