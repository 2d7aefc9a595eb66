#include "siren/logistic.h"

#include <jansson.h>
#include <lbfgs.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "recs/logistic_loss.h"
#include "siren/metrics.h"
#include "siren/random.h"

/* ---- a model's memory ---- */

static int model_create(struct siren_logistic **out, enum siren_logistic_kind kind, int d,
                        int n_labels, struct siren_error *err)
{
    struct siren_logistic *m = calloc(1, sizeof *m);
    *out = m;
    if (!m) return siren_fail_memory(err, "logistic regression", sizeof *m);
    m->kind = kind, m->d = d, m->n_labels = n_labels;
    m->n_w = logistic_size(kind, d, n_labels);
    m->mean = alloc_zeroed((size_t)d, sizeof *m->mean);
    m->scale = alloc_zeroed((size_t)d, sizeof *m->scale);
    m->w = alloc_zeroed((size_t)m->n_w, sizeof *m->w);
    if (m->mean && m->scale && m->w) return 0;
    siren_logistic_free(m);
    *out = NULL;
    return siren_fail_memory(err, "logistic regression", (size_t)d * 16);
}

void siren_logistic_free(struct siren_logistic *m)
{
    if (!m) return;
    free(m->mean);
    free(m->scale);
    free(m->w);
    free(m);
}

int siren_logistic_features(const struct siren_logistic *m)
{
    return m->d;
}

int siren_logistic_labels(const struct siren_logistic *m)
{
    return m->n_labels;
}

double siren_logistic_l2(const struct siren_logistic *m)
{
    return m->l2;
}

/* ---- fitting at one strength of the penalty ---- */

/* Rows chosen from x, (n, d). */
struct rows {
    const double *x;
    const int32_t *label;
    const size_t *index; /* (n) */
    size_t n;
};

struct fit {
    struct siren_logistic *model;
    struct logistic_data data;
};

static void standardise(struct siren_logistic *m, const struct rows *rows)
{
    for (int j = 0; j < m->d; j++) {
        double mean = 0, square = 0;
        for (size_t i = 0; i < rows->n; i++)
            mean += rows->x[rows->index[i] * (size_t)m->d + (size_t)j] / (double)rows->n;
        for (size_t i = 0; i < rows->n; i++) {
            double e = rows->x[rows->index[i] * (size_t)m->d + (size_t)j] - mean;
            square += e * e / (double)rows->n;
        }
        m->mean[j] = mean;
        /* a feature that never changes says nothing */
        m->scale[j] = square > 1e-18 ? 1 / sqrt(square) : 0;
    }
}

static void standard_row(const struct siren_logistic *m, const double *x, double *z)
{
    for (int j = 0; j < m->d; j++) z[j] = (x[j] - m->mean[j]) * m->scale[j];
}

static lbfgsfloatval_t fit_evaluate(void *context, const lbfgsfloatval_t *w,
                                    lbfgsfloatval_t *gradient, const int n,
                                    const lbfgsfloatval_t step)
{
    struct fit *f = context;
    return logistic_loss(f->model, &f->data, w, gradient);
}

static int fit_run(struct fit *f, int iterations, struct siren_error *err)
{
    struct siren_logistic *m = f->model;
    lbfgs_parameter_t parameters;
    lbfgs_parameter_init(&parameters);
    parameters.m = 10;
    parameters.epsilon = 1e-6;
    parameters.past = 5;
    parameters.delta = 1e-10;
    parameters.max_iterations = iterations;
    lbfgsfloatval_t *w = lbfgs_malloc(m->n_w);
    if (!w) return siren_fail_memory(err, "logistic regression", (size_t)m->n_w * sizeof *w);
    memcpy(w, m->w, (size_t)m->n_w * sizeof *w);
    int status = lbfgs(m->n_w, w, NULL, fit_evaluate, NULL, f, &parameters);
    int finite = 1;
    for (int i = 0; i < m->n_w; i++) finite &= isfinite(w[i]) != 0;
    if (finite) memcpy(m->w, w, (size_t)m->n_w * sizeof *w);
    lbfgs_free(w);
    /* A line search that can go no lower has arrived as far as doubles reach. */
    int arrived = status >= 0 || status == LBFGSERR_MAXIMUMITERATION ||
                  status == LBFGSERR_ROUNDING_ERROR || status == LBFGSERR_MINIMUMSTEP ||
                  status == LBFGSERR_MAXIMUMLINESEARCH || status == LBFGSERR_WIDTHTOOSMALL;
    if (status == LBFGSERR_OUTOFMEMORY) return siren_fail_memory(err, "L-BFGS", 0);
    if (!finite || !arrived)
        return siren_fail(err, SIREN_ENUMERIC, "logistic regression: L-BFGS ended with %d", status);
    return 0;
}

static void fit_free(struct fit *f)
{
    free((void *)f->data.z);
    free((void *)f->data.label);
    free((void *)f->data.present);
    free(f->data.p);
}

/* Standardised copies of the rows. */
static int fit_data(struct fit *f, const struct rows *rows, struct siren_error *err)
{
    struct siren_logistic *m = f->model;
    size_t d = (size_t)m->d, cells;
    if (__builtin_mul_overflow(rows->n, d, &cells))
        return siren_fail_memory(err, "features", SIZE_MAX);
    double *z = alloc_array(cells, sizeof *z);
    int32_t *label = alloc_array(rows->n, sizeof *label);
    unsigned char *present = alloc_zeroed((size_t)m->n_labels, 1);
    f->data.z = z, f->data.label = label, f->data.present = present;
    f->data.p = alloc_array((size_t)m->n_labels, sizeof *f->data.p);
    f->data.n = rows->n;
    if (!z || !label || !present || !f->data.p)
        return siren_fail_memory(err, "features", cells * sizeof *z);
    standardise(m, rows);
    for (size_t i = 0; i < rows->n; i++) {
        standard_row(m, rows->x + rows->index[i] * d, z + i * d);
        label[i] = rows->label[rows->index[i]];
        present[label[i]] = 1;
    }
    return 0;
}

static int fit_rows(struct siren_logistic *m, const struct rows *rows, int iterations,
                    struct siren_error *err)
{
    struct fit f = {.model = m};
    int code = fit_data(&f, rows, err);
    if (!code) logistic_start(m, &f.data, m->w);
    if (!code) code = fit_run(&f, iterations, err);
    fit_free(&f);
    return code;
}

/* ---- choosing the penalty ---- */

static const double strengths[] = {1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 1e-4};
enum { N_STRENGTHS = sizeof strengths / sizeof *strengths };

int siren_user_fold(uint64_t seed, int32_t user, int folds)
{
    return (int)siren_random_below(seed, 0x666f6c64, (uint64_t)(uint32_t)user, (uint64_t)folds);
}

/* Splits rows by their users: index holds those outside `fold` first, then those inside. */
static size_t split_by_fold(const int32_t *user, const struct rows *all, uint64_t seed, int folds,
                            int fold, size_t *index)
{
    size_t n = 0, end = all->n;
    for (size_t i = 0; i < all->n; i++)
        if (siren_user_fold(seed, user[all->index[i]], folds) != fold) index[n++] = all->index[i];
    for (size_t i = all->n; i-- > 0;)
        if (siren_user_fold(seed, user[all->index[i]], folds) == fold) index[--end] = all->index[i];
    return n;
}

static double rows_loss(const struct siren_logistic *m, const struct rows *rows, double *z,
                        double *p)
{
    double sum = 0;
    for (size_t i = 0; i < rows->n; i++) {
        standard_row(m, rows->x + rows->index[i] * (size_t)m->d, z);
        logistic_row(m, m->w, z, p);
        sum -= log(fmax(p[rows->label[rows->index[i]]], 1e-12));
    }
    return sum;
}

/* Adds one fold's held-out loss to losses[N_STRENGTHS], from the strongest penalty to the
 * weakest, each starting from the one before. */
static int fold_losses(const struct siren_logistic *like, const int32_t *user,
                       const struct rows *all, uint64_t seed, int fold, int iterations,
                       size_t *index, double *losses, struct siren_error *err)
{
    struct siren_logistic *m;
    size_t n = split_by_fold(user, all, seed, SIREN_LOGISTIC_FOLDS, fold, index);
    struct rows in = *all, out = *all;
    in.index = index, in.n = n;
    out.index = index + n, out.n = all->n - n;
    if (!in.n || !out.n) return 0;
    int code = model_create(&m, like->kind, like->d, like->n_labels, err);
    if (code) return code;
    double *z = alloc_array((size_t)m->d + (size_t)m->n_labels, sizeof *z);
    struct fit f = {.model = m};
    code = z ? fit_data(&f, &in, err) : siren_fail_memory(err, "features", 0);
    if (!code) logistic_start(m, &f.data, m->w);
    for (int s = 0; s < N_STRENGTHS && !code; s++) {
        m->l2 = strengths[s];
        code = fit_run(&f, iterations, err);
        if (!code) losses[s] += rows_loss(m, &out, z, z + m->d);
    }
    fit_free(&f);
    free(z);
    siren_logistic_free(m);
    return code;
}

static int choose_strength(struct siren_logistic *m, const int32_t *user, const struct rows *all,
                           uint64_t seed, int iterations, struct siren_error *err)
{
    double losses[N_STRENGTHS] = {0};
    size_t *index = alloc_array(all->n, sizeof *index);
    int code = index ? 0 : siren_fail_memory(err, "folds", all->n * sizeof *index);
    for (int fold = 0; fold < SIREN_LOGISTIC_FOLDS && !code; fold++)
        code = fold_losses(m, user, all, seed, fold, iterations, index, losses, err);
    free(index);
    int best = 0;
    for (int s = 1; s < N_STRENGTHS; s++)
        if (losses[s] < losses[best]) best = s;
    m->l2 = strengths[best];
    return code;
}

/* ---- the public functions ---- */

static int check_data(const double *x, const int32_t *label, const int32_t *user, size_t n, int d,
                      int n_labels, const struct siren_logistic_options *o, struct siren_error *err)
{
    if (!n || d < 0 || n_labels < 2 || n_labels > SIREN_MAX_LABELS)
        return siren_fail(err, SIREN_EINVAL,
                          "logistic regression: %zu rows, %d features, %d labels: expected rows, "
                          "and 2 to %d labels",
                          n, d, n_labels, SIREN_MAX_LABELS);
    if (!(o->l2 >= 0) || o->iterations < 0)
        return siren_fail(err, SIREN_EINVAL, "logistic regression: penalty %g, %d iterations",
                          o->l2, o->iterations);
    if (o->l2 == 0 && !user)
        return siren_fail(err, SIREN_EINVAL,
                          "logistic regression: a penalty is chosen by folds of users, but no "
                          "users are given");
    for (size_t i = 0; i < n; i++) {
        if (label[i] < 0 || label[i] >= n_labels)
            return siren_fail(err, SIREN_EINVAL,
                              "logistic regression: row %zu has label %d: expected 0 to %d", i,
                              label[i], n_labels - 1);
        for (int j = 0; j < d; j++)
            if (!isfinite(x[i * (size_t)d + (size_t)j]))
                return siren_fail(err, SIREN_ENUMERIC,
                                  "logistic regression: feature %d of row %zu is not finite", j, i);
    }
    return 0;
}

/* On the rows of `index`. */
static int fit_index(struct siren_logistic **out, const struct rows *rows, const int32_t *user,
                     int d, int n_labels, const struct siren_logistic_options *o,
                     struct siren_error *err)
{
    int iterations = o->iterations ? o->iterations : 500;
    int code = model_create(out, o->kind, d, n_labels, err);
    if (code) return code;
    (*out)->l2 = o->l2;
    if (o->l2 == 0) code = choose_strength(*out, user, rows, o->seed + 1, iterations, err);
    if (!code) code = fit_rows(*out, rows, iterations, err);
    if (code) {
        siren_logistic_free(*out);
        *out = NULL;
    }
    return code;
}

static size_t *identity(size_t n)
{
    size_t *index = alloc_array(n, sizeof *index);
    for (size_t i = 0; index && i < n; i++) index[i] = i;
    return index;
}

int siren_logistic_fit(struct siren_logistic **out, const double *x, const int32_t *label,
                       const int32_t *user, size_t n, int d, int n_labels,
                       const struct siren_logistic_options *options, struct siren_error *err)
{
    struct siren_logistic_options o = options ? *options : (struct siren_logistic_options){0};
    *out = NULL;
    int code = check_data(x, label, user, n, d, n_labels, &o, err);
    if (code) return code;
    size_t *index = identity(n);
    if (!index) return siren_fail_memory(err, "logistic regression", n * sizeof *index);
    struct rows rows = {x, label, index, n};
    code = fit_index(out, &rows, user, d, n_labels, &o, err);
    free(index);
    return code;
}

static int predict_rows(const struct siren_logistic *m, const double *x, const size_t *index,
                        size_t n, double *p, struct siren_error *err)
{
    double *z = alloc_array((size_t)m->d, sizeof *z);
    if (!z) return siren_fail_memory(err, "features", (size_t)m->d * sizeof *z);
    for (size_t i = 0; i < n; i++) {
        size_t row = index ? index[i] : i;
        standard_row(m, x + row * (size_t)m->d, z);
        logistic_row(m, m->w, z, p + row * (size_t)m->n_labels);
    }
    free(z);
    return 0;
}

int siren_logistic_predict(const struct siren_logistic *m, const double *x, size_t n, double *p,
                           struct siren_error *err)
{
    return predict_rows(m, x, NULL, n, p, err);
}

int siren_logistic_cross(const double *x, const int32_t *label, const int32_t *user, size_t n,
                         int d, int n_labels, int folds,
                         const struct siren_logistic_options *options, double *p,
                         struct siren_error *err)
{
    struct siren_logistic_options o = options ? *options : (struct siren_logistic_options){0};
    if (folds < 2 || !user)
        return siren_fail(err, SIREN_EINVAL, "cross-fitting: %d folds%s: expected 2 or more", folds,
                          user ? "" : " without users");
    int code = check_data(x, label, user, n, d, n_labels, &o, err);
    if (code) return code;
    size_t *all = identity(n), *index = alloc_array(n, sizeof *index);
    if (!all || !index) code = siren_fail_memory(err, "cross-fitting", n * sizeof *index);
    for (int fold = 0; fold < folds && !code; fold++) {
        struct rows rows = {x, label, all, n};
        struct siren_logistic *m = NULL;
        size_t n_in = split_by_fold(user, &rows, o.seed, folds, fold, index);
        if (n_in == n) continue;
        rows.index = index, rows.n = n_in;
        if (!n_in)
            code = siren_fail(err, SIREN_ENOTFOUND,
                              "cross-fitting in %d parts by user: one part has all %zu rows, and "
                              "no other user is left to fit on",
                              folds, n);
        if (!code) code = fit_index(&m, &rows, user, d, n_labels, &o, err);
        if (!code) code = predict_rows(m, x, index + n_in, n - n_in, p, err);
        siren_logistic_free(m);
    }
    free(all);
    free(index);
    return code;
}

/* ---- JSON ---- */

static json_t *numbers(const double *values, int n)
{
    json_t *array = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(array, json_real(values[i]));
    return array;
}

int siren_logistic_save(const struct siren_logistic *m, char **json, struct siren_error *err)
{
    json_t *root = json_object();
    json_object_set_new(root, "kind",
                        json_string(m->kind == SIREN_MULTINOMIAL ? "multinomial" : "ordinal"));
    json_object_set_new(root, "features", json_integer(m->d));
    json_object_set_new(root, "labels", json_integer(m->n_labels));
    json_object_set_new(root, "l2", json_real(m->l2));
    json_object_set_new(root, "mean", numbers(m->mean, m->d));
    json_object_set_new(root, "scale", numbers(m->scale, m->d));
    json_object_set_new(root, "weights", numbers(m->w, m->n_w));
    *json = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    return *json ? 0 : siren_fail_memory(err, "a model as JSON", 0);
}

static int read_numbers(const json_t *root, const char *key, double *values, int n,
                        struct siren_error *err)
{
    const json_t *array = json_object_get(root, key);
    if (!json_is_array(array) || json_array_size(array) != (size_t)n)
        return siren_fail(err, SIREN_EFORMAT,
                          "logistic model: \"%s\" has %zu elements: expected an array of %d", key,
                          json_array_size(array), n);
    for (int i = 0; i < n; i++) {
        const json_t *v = json_array_get(array, (size_t)i);
        if (!json_is_number(v))
            return siren_fail(err, SIREN_EFORMAT, "logistic model: \"%s\"[%d] is not a number", key,
                              i);
        values[i] = json_number_value(v);
    }
    return 0;
}

static int load_root(struct siren_logistic **out, const json_t *root, struct siren_error *err)
{
    const char *kind = json_string_value(json_object_get(root, "kind"));
    long long d = json_integer_value(json_object_get(root, "features"));
    long long n_labels = json_integer_value(json_object_get(root, "labels"));
    int ordinal = kind && !strcmp(kind, "ordinal");
    if (!kind || (!ordinal && strcmp(kind, "multinomial") != 0))
        return siren_fail(err, SIREN_EFORMAT,
                          "logistic model: kind \"%s\": expected multinomial or ordinal",
                          kind ? kind : "");
    if (d < 0 || d > 100000 || n_labels < 2 || n_labels > SIREN_MAX_LABELS)
        return siren_fail(err, SIREN_EFORMAT,
                          "logistic model: %lld features, %lld labels: expected at most 100000, "
                          "and 2 to %d labels",
                          d, n_labels, SIREN_MAX_LABELS);
    int code =
        model_create(out, ordinal ? SIREN_ORDINAL : SIREN_MULTINOMIAL, (int)d, (int)n_labels, err);
    if (code) return code;
    struct siren_logistic *m = *out;
    m->l2 = json_number_value(json_object_get(root, "l2"));
    code = read_numbers(root, "mean", m->mean, m->d, err);
    if (!code) code = read_numbers(root, "scale", m->scale, m->d, err);
    if (!code) code = read_numbers(root, "weights", m->w, m->n_w, err);
    return code;
}

int siren_logistic_load(struct siren_logistic **out, const char *json, struct siren_error *err)
{
    json_error_t where;
    json_t *root = json_loads(json, 0, &where);
    *out = NULL;
    if (!root)
        return siren_fail(err, SIREN_EFORMAT, "logistic model: byte %d: %s", where.position,
                          where.text);
    int code = load_root(out, root, err);
    json_decref(root);
    if (code) {
        siren_logistic_free(*out);
        *out = NULL;
    }
    return code;
}
