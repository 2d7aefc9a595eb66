#include "app/baseline_job.h"

#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "app/split.h"
#include "base/alloc.h"

int baseline_rows(const struct siren_ratings *r, int label, size_t **rows, size_t *n,
                  struct siren_error *err)
{
    *n = 0;
    *rows = alloc_array(r->n, sizeof **rows);
    if (!*rows) return siren_fail_memory(err, "the rows of a split", r->n * sizeof **rows);
    for (size_t i = 0; i < r->n; i++)
        if (r->label[i] == label) (*rows)[(*n)++] = i;
    return 0;
}

enum { ALL_USERS = -1 };

/* Ratings with one of two labels as columns, of all users or of one half of them. */
static int make_table(struct siren_table *t, const struct siren_app *app, int label, int other,
                      int half, struct siren_error *err)
{
    const struct siren_ratings *r = &app->ratings;
    int32_t *users = alloc_array(r->n, sizeof *users), *items = alloc_array(r->n, sizeof *items);
    double *ratings = alloc_array(r->n, sizeof *ratings);
    *t = (struct siren_table){users, items, ratings, 0, r->n_users, r->n_items};
    if (!users || !items || !ratings) return siren_fail_memory(err, "ratings", r->n * 16);
    for (size_t i = 0; i < r->n; i++) {
        if (r->label[i] != label && r->label[i] != other) continue;
        if (half != ALL_USERS && siren_user_half(app->users.external[r->user[i]]) != half) continue;
        users[t->n] = r->user[i];
        items[t->n] = r->item[i];
        ratings[t->n++] = (double)r->rating[i];
    }
    return 0;
}

static void free_table(struct siren_table *t)
{
    free((void *)t->users);
    free((void *)t->items);
    free((void *)t->ratings);
}

static int make_targets(struct baseline_job *job, struct siren_error *err)
{
    const struct siren_ratings *r = &job->app->ratings;
    int rc = baseline_rows(r, job->label, &job->targets, &job->n, err);
    if (rc) return rc;
    if (!job->n)
        return siren_fail(err, SIREN_ENOTFOUND, "%s has no rows in the split \"%s\"",
                          siren_workspace_path(job->app->ws), siren_label_name(job->label));
    job->truth = alloc_array(job->n, sizeof *job->truth);
    job->user = alloc_array(job->n, sizeof *job->user);
    if (!job->truth || !job->user)
        return siren_fail_memory(err, "the rows of a split", job->n * sizeof *job->truth);
    for (size_t i = 0; i < job->n; i++) {
        job->truth[i] = (double)r->rating[job->targets[i]];
        job->user[i] = r->user[job->targets[i]];
    }
    return 0;
}

static int choose_split(struct baseline_job *job, struct siren_error *err)
{
    const struct siren_baseline_options *o = job->options;
    int rc = siren_label_parse(o->split ? o->split : "test", &job->label, err);
    if (rc) return rc;
    if (job->label != SIREN_LABEL_TEST && job->label != SIREN_LABEL_VALID)
        return siren_fail(err, SIREN_EINVAL, "baselines are judged on test or valid, not on \"%s\"",
                          o->split);
    return app_use_fold(job->app, o->fold, o->seed, err);
}

/* The rows of options->fit_split, if any. */
static int make_chosen(struct baseline_job *job, struct siren_error *err)
{
    const struct siren_baseline_options *o = job->options;
    struct siren_eval_options e = {
        .split = o->fit_split, .limit = o->fit_rows, .fold = o->fold, .seed = o->seed};
    struct siren_target *targets;
    if (!o->fit_split) return 0;
    struct split split;
    int rc = split_parse(o->fit_split, &split, err);
    if (!rc && split_has(&split, SIREN_LABEL_TEST))
        rc = siren_fail(err, SIREN_EINVAL,
                        "\"%s\" has rows that are to be reported on only: fit on train or valid",
                        o->fit_split);
    if (!rc) rc = siren_eval_targets(job->app, &e, &targets, &job->n_chosen, err);
    if (rc) return rc;
    job->chosen = alloc_array(job->n_chosen, sizeof *job->chosen);
    if (!job->chosen)
        rc = siren_fail_memory(err, "the rows to fit on", job->n_chosen * sizeof *job->chosen);
    for (size_t i = 0; i < job->n_chosen && !rc; i++) {
        job->chosen[i] = targets[i].row;
        if (job->app->ratings.label[targets[i].row] == job->label)
            rc = siren_fail(err, SIREN_EINVAL, "\"%s\" is what is judged: fit on other rows",
                            o->fit_split);
    }
    free(targets);
    return rc;
}

int baseline_open(struct baseline_job *job, struct siren_app *app,
                  const struct siren_baseline_options *options, struct siren_pool *pool,
                  struct siren_error *err)
{
    memset(job, 0, sizeof *job);
    job->app = app, job->options = options, job->pool = pool;
    int rc = choose_split(job, err);
    if (!rc) rc = make_targets(job, err);
    if (!rc) rc = make_chosen(job, err);
    if (!rc)
        rc = make_table(&job->train, app, SIREN_LABEL_TRAIN, SIREN_LABEL_HISTORY, ALL_USERS, err);
    job->crossed = job->label == SIREN_LABEL_VALID;
    for (int h = 0; h <= job->crossed && !rc; h++)
        rc = make_table(&job->choose[h], app, SIREN_LABEL_VALID, -1, job->crossed ? !h : ALL_USERS,
                        err);
    if (!rc) rc = siren_means_fit(&job->means, &app->meta.scale, &job->train, err);
    if (rc) baseline_close(job);
    return rc;
}

void baseline_close(struct baseline_job *job)
{
    free(job->targets);
    free(job->truth);
    free(job->user);
    free(job->chosen);
    free_table(&job->train);
    for (int h = 0; h < 2; h++) free_table(&job->choose[h]);
    siren_means_clear(&job->means);
    memset(job, 0, sizeof *job);
}
