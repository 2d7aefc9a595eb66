/* Rows that a teacher has answered, as a student meets them: the targets and the answer-only
 * prompts that belong to a file of states. */
#ifndef SIREN_APP_TEACHER_ROWS_H
#define SIREN_APP_TEACHER_ROWS_H

#include <jansson.h>

#include "app/split.h"
#include "siren/app.h"
#include "siren/teacher.h"

struct teacher_rows {
    struct siren_teacher *teacher;
    char name[SIREN_LM_NAME]; /* the teacher's, as siren_lm_name() gives it */
    int is_student;           /* its model and adapter are lm's, whatever the files are called */
    char split[SPLIT_TEXT];   /* where its rows are from */
    int fold;                 /* the fold that was in use, and is now; -1: none */
    uint64_t seed;            /* that its rows, and the fold's valid ones, were drawn with */
    json_t *made_by;          /* identities: its model and adapter, and what they were made of */
    struct siren_predict_options predict; /* its prompts, answer only */
    size_t n;                             /* rows that the filter leaves */
    size_t *rows;                         /* (n) their numbers in the file, ascending */
    double *weights;                      /* (n) above 0 */
    struct siren_target *targets;         /* (n) */
};
/* SIREN_EINVAL: states of other data, another chat template, or of a model of another shape than
 * lm's; a row that the workspace does not have.  SIREN_ENOTFOUND: the filter leaves none. */
int teacher_rows_open(struct teacher_rows *out, struct siren_app *app, const struct siren_lm *lm,
                      const char *path, const struct siren_teacher_filter *filter,
                      struct siren_error *err);
/* Keep n of the rows, drawn with the seed, in their order; 0, or no fewer than there are: all. */
int teacher_rows_draw(struct teacher_rows *rows, size_t n, uint64_t seed, struct siren_error *err);
void teacher_rows_close(struct teacher_rows *rows);

/* The prompt of rows->targets[i]; its last token is q. */
int teacher_rows_prompt(const struct teacher_rows *rows, const struct siren_app *app,
                        const struct siren_lm *lm, size_t i, struct siren_prompt_ids *out,
                        struct siren_error *err);

#endif
