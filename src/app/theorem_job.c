#include "app/theorem_job.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "siren/file.h"
#include "siren/losses.h"

struct job {
    struct siren_app *app;
    struct siren_lm *lm;
    const struct theorem_job_options *options;
    struct theorem_job_report *report;
    struct teacher_rows taught;
    size_t n;
    struct siren_prompt_ids *prompts;     /* (n) */
    struct siren_theorem_prompt *theorem; /* (n) */
    float *states;                        /* (n, L, d) */
    struct siren_adapter **adapters;      /* (n_ranks) */
};

static int make_prompts(struct job *j, struct siren_error *err)
{
    const struct siren_teacher_shape *s = siren_teacher_shape(j->taught.teacher);
    size_t floats = (size_t)s->n_layers * (size_t)s->d;
    int rc = 0;
    j->prompts = alloc_zeroed(j->n, sizeof *j->prompts);
    j->theorem = alloc_zeroed(j->n, sizeof *j->theorem);
    j->states = alloc_array(j->n * floats, sizeof *j->states);
    if (!j->prompts || !j->theorem || !j->states)
        return siren_fail_memory(err, "prompts", j->n * floats * sizeof *j->states);
    for (size_t i = 0; i < j->n && !rc; i++) {
        float *states = j->states + i * floats;
        rc = teacher_rows_prompt(&j->taught, j->app, j->lm, i, &j->prompts[i], err);
        if (!rc) rc = siren_teacher_states(j->taught.teacher, j->taught.rows[i], states, err);
        j->theorem[i] =
            (struct siren_theorem_prompt){{j->prompts[i].ids, j->prompts[i].n_ids}, states};
        j->report->n_tokens += j->prompts[i].n_ids;
    }
    return rc;
}

/* ---- what became of the ratings ---- */

static int divergence(struct job *j, const struct siren_adapter *adapter, double *kl,
                      struct siren_error *err)
{
    static const struct siren_rating_loss loss = {.kd = 1, .temperature = 1};
    struct siren_score *scores = alloc_zeroed(j->n, sizeof *scores);
    double *logprobs = alloc_array(j->n * SIREN_MAX_LABELS, sizeof *logprobs);
    struct siren_readout readout = {0};
    int rc = scores && logprobs ? 0 : siren_fail_memory(err, "scores", j->n * sizeof *scores);
    if (!rc) rc = siren_readout_create(&readout, j->lm->tokenizer, &j->app->meta.scale, err);
    for (size_t i = 0; i < j->n && !rc; i++)
        scores[i] = (struct siren_score){.prompt = j->theorem[i].ids,
                                         .continuations = readout.tokens,
                                         .n_continuations = (size_t)readout.n,
                                         .logprobs = logprobs + i * SIREN_MAX_LABELS};
    siren_session_use_adapter(j->lm->session, adapter);
    if (!rc) rc = siren_score_many(j->lm->session, scores, j->n, NULL, err);
    siren_session_use_adapter(j->lm->session, j->lm->adapter);
    *kl = 0;
    for (size_t i = 0; i < j->n && !rc; i++) {
        const struct siren_teacher_row *row =
            siren_teacher_row(j->taught.teacher, j->taught.rows[i]);
        double teacher[SIREN_MAX_LABELS];
        for (int k = 0; k < readout.n; k++) teacher[k] = (double)row->scores[k];
        *kl += siren_rating_loss(&loss, readout.n, scores[i].logprobs, 0, teacher, NULL) /
               (double)j->n;
    }
    siren_readout_clear(&readout);
    free(logprobs);
    free(scores);
    return rc;
}

/* Before the hours, not after them: adapters of another run there are not written over. */
static int check_out(const struct theorem_job_options *o, struct siren_error *err)
{
    int rc = siren_folder_make(o->out, err);
    for (int i = 0; i < o->theorem.n_ranks && !rc; i++) {
        struct buf folder = {0};
        buf_printf(&folder, "%s/r%d", o->out, o->theorem.ranks[i]);
        if (!access(buf_text(&folder), F_OK))
            rc = siren_fail(err, SIREN_EEXISTS, "%s is there already: choose another folder",
                            buf_text(&folder));
        buf_free(&folder);
    }
    return rc;
}

static int save_adapter(const struct job *j, int i, struct siren_error *err)
{
    struct buf folder = {0};
    int rc;
    buf_printf(&folder, "%s/r%d", j->options->out, j->options->theorem.ranks[i]);
    rc = buf_failed(&folder)
             ? siren_fail_memory(err, "a path", folder.size)
             : siren_adapter_save(j->adapters[i], buf_text(&folder), j->lm->identity, err);
    buf_free(&folder);
    return rc;
}

static int compute_updates(struct job *j, const struct siren_progress *progress,
                           struct siren_error *err)
{
    const struct siren_theorem_options *o = &j->options->theorem;
    int rc;
    j->adapters = alloc_zeroed((size_t)o->n_ranks + 1, sizeof(struct siren_adapter *));
    j->report->kl_after = alloc_zeroed((size_t)o->n_ranks + 1, sizeof *j->report->kl_after);
    if (!j->adapters || !j->report->kl_after)
        return siren_fail_memory(err, "adapters", (size_t)o->n_ranks);
    rc = siren_theorem(&j->report->theorem, j->lm->engine, j->theorem, j->n, o, j->adapters,
                       progress, err);
    if (!rc) rc = divergence(j, NULL, &j->report->kl_before, err);
    for (int i = 0; i < o->n_ranks && !rc; i++) {
        rc = divergence(j, j->adapters[i], &j->report->kl_after[i], err);
        if (!rc && j->options->out) rc = save_adapter(j, i, err);
    }
    return rc;
}

static void job_clear(struct job *j)
{
    for (size_t i = 0; j->prompts && i < j->n; i++) siren_prompt_ids_clear(&j->prompts[i]);
    for (int i = 0; j->adapters && i < j->options->theorem.n_ranks; i++)
        siren_adapter_free(j->adapters[i]);
    free(j->prompts);
    free(j->theorem);
    free(j->states);
    free(j->adapters);
    teacher_rows_close(&j->taught);
}

int app_theorem_job(struct siren_app *app, struct siren_lm *lm,
                    const struct theorem_job_options *options, struct theorem_job_report *report,
                    const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_teacher_filter filter = {.any = options->any, .share = 1};
    struct job j = {.app = app, .lm = lm, .options = options, .report = report};
    double start = clock_seconds();
    int rc = 0;
    *report = (struct theorem_job_report){0};
    if (!lm->engine)
        rc = siren_fail(err, SIREN_EINVAL, "the theorem needs a model of our own");
    else if (lm->adapter)
        rc = siren_fail(err, SIREN_EUNSUPPORTED,
                        "updates beside an adapter cannot be computed: merge it into the model "
                        "first (`siren model export`)");
    if (!rc && options->out) rc = check_out(options, err);
    if (!rc) rc = teacher_rows_open(&j.taught, app, lm, options->teacher, &filter, err);
    if (!rc && !j.taught.is_student && options->other_teacher)
        options->other_teacher(options->context, j.taught.name);
    if (!rc) rc = teacher_rows_draw(&j.taught, options->n_rows, options->seed, err);
    j.n = j.taught.n;
    if (!rc) rc = make_prompts(&j, err);
    if (!rc) rc = compute_updates(&j, progress, err);
    memcpy(report->teacher, j.taught.name, sizeof report->teacher);
    report->n_rows = j.n;
    job_clear(&j);
    report->seconds = clock_seconds() - start;
    if (rc) theorem_job_report_clear(report);
    return rc;
}

void theorem_job_report_clear(struct theorem_job_report *report)
{
    siren_theorem_clear(&report->theorem);
    free(report->kl_after);
    report->kl_after = NULL;
}
