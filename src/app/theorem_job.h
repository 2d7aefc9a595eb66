/* Theorem 1 on rows of a workspace: siren_theorem() with their answer-only prompts and a teacher's
 * states. */
#ifndef SIREN_APP_THEOREM_JOB_H
#define SIREN_APP_THEOREM_JOB_H

#include "app/teacher_rows.h"
#include "siren/theorem.h"

struct theorem_job_options {
    const char *teacher; /* the file of states */
    size_t n_rows;       /* drawn with the seed */
    int any;             /* 0: of those with a valid answer; 1: of all */
    uint64_t seed;
    struct siren_theorem_options theorem;
    const char *out; /* a folder that receives the adapters, as r1, r2 …; NULL: they are dropped */
    /* Before the work, where the states are another model's than the updates are made for. */
    void (*other_teacher)(void *context, const char *teacher); /* NULL: nobody is told */
    void *context;
};
struct theorem_job_report {
    struct siren_theorem theorem;
    char teacher[SIREN_LM_NAME];
    size_t n_rows, n_tokens;
    /* KL(teacher ‖ model) of the distributions over the ratings at q, nats, mean over the rows:
     * of the untouched model, and (n_ranks) of the updated ones. */
    double kl_before, *kl_after;
    double seconds;
};
int app_theorem_job(struct siren_app *app, struct siren_lm *lm,
                    const struct theorem_job_options *options, struct theorem_job_report *report,
                    const struct siren_progress *progress, struct siren_error *err);
void theorem_job_report_clear(struct theorem_job_report *report);

#endif
