/* Two runs on the rows that both have. */
#include <math.h>
#include <stdlib.h>

#include "app/losses.h"
#include "app/parts.h"
#include "base/alloc.h"

enum { MAX_TESTS = 2 * (N_DECODERS + 1) + 2 };

struct pair {
    int32_t user, item;
    size_t at;
};

struct comparison {
    struct siren_app *app;
    struct siren_pool *pool;
    struct columns a, b;
    size_t *in_a, *in_b, n; /* rows of a and b that belong together */
    int32_t *user;
    double *loss_a, *loss_b; /* (n) of the test at hand */
    json_t *tests[MAX_TESTS];
    double p[MAX_TESTS];
    size_t n_tests;
};

static int by_key(const void *x, const void *y)
{
    const struct pair *a = x, *b = y;
    if (a->user != b->user) return a->user < b->user ? -1 : 1;
    return (a->item > b->item) - (a->item < b->item);
}

static struct pair *sorted_pairs(const struct columns *c)
{
    struct pair *pairs = alloc_array(c->n + 1, sizeof *pairs);
    for (size_t i = 0; pairs && i < c->n; i++) pairs[i] = (struct pair){c->user[i], c->item[i], i};
    if (pairs) qsort(pairs, c->n, sizeof *pairs, by_key);
    return pairs;
}

static int join(struct comparison *c, struct siren_error *err)
{
    struct pair *a = sorted_pairs(&c->a), *b = sorted_pairs(&c->b);
    size_t most = c->a.n, i = 0, j = 0;
    c->in_a = alloc_array(most, sizeof *c->in_a);
    c->in_b = alloc_array(most, sizeof *c->in_b);
    c->user = alloc_array(most, sizeof *c->user);
    c->loss_a = alloc_array(most, sizeof *c->loss_a);
    c->loss_b = alloc_array(most, sizeof *c->loss_b);
    if (a && b && c->in_a && c->in_b && c->user && c->loss_a && c->loss_b) {
        while (i < c->a.n && j < c->b.n) {
            int order = by_key(&a[i], &b[j]);
            if (order == 0) {
                c->in_a[c->n] = a[i].at;
                c->in_b[c->n] = b[j].at;
                c->user[c->n++] = a[i].user;
            }
            i += order <= 0;
            j += order >= 0;
        }
    } else {
        most = 0;
    }
    free(a);
    free(b);
    if (!most) return siren_fail_memory(err, "rows to compare", c->a.n * sizeof *a);
    return c->n ? 0
                : siren_fail(err, SIREN_ENOTFOUND,
                             "the two runs have no row (user, item) in common");
}

/* One line of the table, from the losses that are filled in. */
static int test(struct comparison *c, const char *loss, const char *decoder,
                enum siren_statistic statistic, struct siren_error *err)
{
    struct siren_difference d;
    json_t *t;
    int rc =
        siren_bootstrap(&d, c->loss_a, c->loss_b, c->user, c->n, statistic, NULL, c->pool, err);
    if (rc) return rc;
    t = json_object();
    json_object_set_new(t, "loss", json_string(loss));
    json_object_set_new(t, "decoder", decoder ? json_string(decoder) : json_null());
    json_object_set_new(t, "a", app_real(d.a));
    json_object_set_new(t, "b", app_real(d.b));
    json_object_set_new(t, "difference", app_real(d.difference));
    json_object_set_new(t, "low", app_real(d.low));
    json_object_set_new(t, "high", app_real(d.high));
    json_object_set_new(t, "p", app_real(d.p));
    c->p[c->n_tests] = d.p;
    c->tests[c->n_tests++] = t;
    return 0;
}

/* The ratings that two runs came to, (n) each by the run's rows; nothing where one has none. */
static int test_ratings(struct comparison *c, const char *name, const double *a, const double *b,
                        struct siren_error *err)
{
    int rc;
    if (!a || !b) return 0;
    for (size_t i = 0; i < c->n; i++) {
        c->loss_a[i] = fabs(a[c->in_a[i]] - c->a.truth[c->in_a[i]]);
        c->loss_b[i] = fabs(b[c->in_b[i]] - c->b.truth[c->in_b[i]]);
    }
    rc = test(c, "mae", name, SIREN_STAT_MEAN, err);
    for (size_t i = 0; i < c->n; i++) {
        c->loss_a[i] *= c->loss_a[i];
        c->loss_b[i] *= c->loss_b[i];
    }
    return rc ? rc : test(c, "rmse", name, SIREN_STAT_ROOT_MEAN, err);
}

static int test_distribution(struct comparison *c, const char *name,
                             double (*loss)(const struct siren_scale *, const double *, double),
                             struct siren_error *err)
{
    const struct siren_scale *scale = &c->app->meta.scale;
    size_t labels = (size_t)siren_scale_labels(scale);
    for (size_t i = 0; i < c->n; i++) {
        size_t a = c->in_a[i], b = c->in_b[i];
        c->loss_a[i] = loss(scale, c->a.distributions + a * labels, c->a.truth[a]);
        c->loss_b[i] = loss(scale, c->b.distributions + b * labels, c->b.truth[b]);
    }
    return test(c, name, NULL, SIREN_STAT_MEAN, err);
}

/* How far the two runs' answers are apart, whatever the truth. */
static json_t *moved(const struct comparison *c, int d)
{
    double sum = 0;
    size_t other = 0;
    for (size_t i = 0; i < c->n; i++) {
        double apart = fabs(c->a.decoded[d][c->in_a[i]] - c->b.decoded[d][c->in_b[i]]);
        sum += apart;
        other += apart > 1e-9;
    }
    return json_pack("{s:s, s:f, s:f}", "decoder", siren_decoder_name((enum siren_decoder)d),
                     "changed", (double)other / (double)c->n, "distance", sum / (double)c->n);
}

static int compare(struct comparison *c, struct siren_error *err)
{
    int rc = join(c, err);
    for (int d = 0; d < N_DECODERS && !rc; d++)
        rc = test_ratings(c, siren_decoder_name((enum siren_decoder)d), c->a.decoded[d],
                          c->b.decoded[d], err);
    /* What the texts said, where both runs reasoned. */
    if (!rc) rc = test_ratings(c, "number", c->a.number, c->b.number, err);
    if (!rc && c->a.distributions && c->b.distributions) {
        rc = test_distribution(c, "log_loss", siren_log_loss, err);
        if (!rc) rc = test_distribution(c, "rps", siren_rps, err);
    }
    return rc ? rc : siren_holm(c->p, c->n_tests, c->p, err);
}

static int report(struct comparison *c, int64_t a, int64_t b, char **json, struct siren_error *err)
{
    json_t *out = json_object(), *list = json_array(), *answers = json_array();
    for (int d = 0; d < N_DECODERS; d++)
        if (c->a.decoded[d] && c->b.decoded[d]) json_array_append_new(answers, moved(c, d));
    for (size_t i = 0; i < c->n_tests; i++) {
        json_object_set_new(c->tests[i], "p_holm", app_real(c->p[i]));
        json_array_append(list, c->tests[i]);
    }
    json_object_set_new(out, "a", json_integer(a));
    json_object_set_new(out, "b", json_integer(b));
    json_object_set_new(out, "rows", json_integer((json_int_t)c->n));
    json_object_set_new(out, "rows_a", json_integer((json_int_t)c->a.n));
    json_object_set_new(out, "rows_b", json_integer((json_int_t)c->b.n));
    json_object_set_new(out, "tests", list);
    json_object_set_new(out, "answers", answers);
    return app_json_text(out, JSON_COMPACT, json, err);
}

int siren_runs_compare(struct siren_app *app, int64_t a, int64_t b, struct siren_pool *pool,
                       char **json, struct siren_error *err)
{
    struct comparison c = {.app = app, .pool = pool};
    int rc = columns_load(&c.a, app, a, err);
    *json = NULL;
    if (!rc) rc = columns_load(&c.b, app, b, err);
    if (!rc) rc = compare(&c, err);
    if (!rc) rc = report(&c, a, b, json, err);
    for (size_t i = 0; i < c.n_tests; i++) json_decref(c.tests[i]);
    columns_clear(&c.a);
    columns_clear(&c.b);
    free(c.in_a);
    free(c.in_b);
    free(c.user);
    free(c.loss_a);
    free(c.loss_b);
    return rc;
}
