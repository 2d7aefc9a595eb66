/* Both stages in one go: from a model to an adapter that answers at once what the model would say
 * after reasoning.  Each step is a job of its own; here is their order, what they hand
 * on, and where a stopped call goes on.
 *
 *     DIR/lock               while a process works here
 *     DIR/settings.json      what the whole was asked for
 *     DIR/base.json          what the model does on valid before any training
 *     DIR/1-warm/            fine-tuned on rationales       (app/sft.h)
 *     DIR/2-reason/          GRPO from that adapter         (app/grpo.h)
 *     DIR/3-model/           the model with it merged       (siren/export.h)
 *     DIR/4-states.bin       what that model knows          (app/teach.h)
 *     DIR/5-answer/          its adapter aligned to it      (app/align.h)
 *
 * A step is done when its checkpoint says so (trainer_is_done()), or, for model and states, when
 * they are there: both appear whole or not at all.  A step that is done is not entered again; one
 * that was stopped goes on, to the bits of a call that never stopped. */
#ifndef SIREN_APP_STAGES_H
#define SIREN_APP_STAGES_H

#include "app/grpo.h"
#include "app/training.h"

enum { STAGES = 5 };

struct stages_options {
    struct siren_app *app;
    struct siren_pool *pool;
    const char *model;          /* a file or a folder */
    struct siren_lm_options lm; /* chat_template, isa, compute: of every step's model */
    const char *folder;
    int resume; /* 0: a folder that was used is refused */
    uint64_t seed;
    const char *name, *command; /* of the runs; NULL */
    const char *split;          /* "train" */
    int fold;                   /* -1 */
    const char *eval_split;     /* "valid:A"; NULL: no evaluation */
    size_t n_eval_rows;
    struct siren_predict_options predict; /* the prompts */
    /* The trainings; of each are read: lora, n_rows, and of the loop all but folder, resume and
     * seed.  reason has no lora of its own: it goes on from warm's adapter.  answer.n_rows is how
     * many rows the teacher answers; all that it rated are trained on. */
    struct training warm, reason, answer;
    struct grpo_options grpo; /* its max_tokens is the teacher's, too */
    /* [optional] Told before each step, from 1, and whether it was done before. */
    void (*begin)(void *context, int stage, const char *name, int done);
    void *begin_context;
};
/* The defaults of the single jobs; the warm start adapts all matrices, at 2e-4,
 * on 2,000 rows. */
struct stages_options stages_defaults(void);

/* On success *report is
 *     {"run", "folder", "model", "adapter",
 *      "stages": [{"name", "path", "seconds", "skipped"}, …],
 *      "valid": [{"after": "nothing" | "warm start" | "reasoning" | "alignment",
 *                 "answer_only": {"mae", "rmse", …}, "reasoned": {"mae", "rmse", …}}, …]}
 * where `valid` holds what was measured while training ("reasoned" is missing of the last: it is
 * not for reasoning), and is empty without eval_split.  The same is in the metrics of the run,
 * whose kind is "all", beside the runs of the trainings.
 *
 * Progress is that of the trainings, "rows" as "rows, stage 2 of 5".
 * SIREN_ECANCEL: what is done is kept; resume.  SIREN_EBUSY: another process works in the folder.
 * SIREN_EEXISTS: the folder was used, and resume is
 * 0; or a step's result is there although one before it is not done.  SIREN_ENOTFOUND: the
 * reasoning model rated none of its rows; what was made is kept, and resumed it is refused again.
 * SIREN_EINVAL: resumed under other settings; the message names them. */
int stages_run(const struct stages_options *options, json_t **report,
               const struct siren_progress *progress, const volatile int *cancel,
               struct siren_error *err);

#endif
