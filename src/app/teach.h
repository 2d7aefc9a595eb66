/* The teacher at work: a split's rows reasoned through, greedily, and what it knew at the end of
 * "<answer>" stored (siren/teacher.h). */
#ifndef SIREN_APP_TEACH_H
#define SIREN_APP_TEACH_H

#include "siren/app.h"
#include "siren/teacher.h"

struct teach_options {
    struct siren_eval_options rows; /* split, fold, limit, seed; the prompts' options.  Mode,
                                       samples and temperature are the teacher's: they are set */
    enum siren_teacher_encoding encoding;
    int batch; /* rows reasoned at once, and lost at most when it is stopped; 0: 64 */
};

struct teach_report {
    size_t n, n_before;      /* rows; of these from an earlier, stopped call */
    size_t n_valid, n_exact; /* a rating could be read; it was the true one */
    size_t n_format;
    double mae;    /* of the valid ones; NAN: there are none */
    double tokens; /* written for a row, on average */
    double seconds;
    uint64_t bytes; /* of the file */
};

/* The file's JSON is an object: {"kind": "teacher states", "model", "adapter" (or null), what
 * app_chat_json() adds, "data", "protocol", "split", "rows", "seed", "compute", "predict": {…}}.
 * Folders on the way to it are made.  SIREN_ECANCEL: what is done is kept, and the same call goes
 * on with it. */
int app_teach(struct siren_app *app, struct siren_lm *lm, const struct teach_options *options,
              const char *path, struct teach_report *report, const struct siren_progress *progress,
              struct siren_error *err);

#endif
