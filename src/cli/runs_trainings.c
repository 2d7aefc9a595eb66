#include "cli/runs_trainings.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "cli/report.h"
#include "siren/plot.h"
#include "train/trainer.h"

#define NONE_YET "no trainings yet: `siren train` makes them"

struct entry {
    const struct siren_run *run;
    json_t *settings; /* of the run */
    json_t *training; /* … its results; NULL before its end, or where it was killed */
};

struct trainings {
    struct siren_run *runs;
    size_t n_runs;
    struct entry *list;
    size_t n;
};

static const struct siren_run *find_run(const struct trainings *t, int64_t id)
{
    for (size_t i = 0; i < t->n_runs; i++)
        if (t->runs[i].id == id) return &t->runs[i];
    return NULL;
}

/* Returns 0 where the run is no training. */
static int add_training(struct trainings *t, const struct siren_run *run)
{
    struct entry e = {.run = run, .settings = json_loads(run->settings, 0, NULL)};
    json_t *metrics = *run->metrics ? json_loads(run->metrics, 0, NULL) : NULL;
    e.training = json_incref(json_object_get(metrics, "training"));
    json_decref(metrics);
    if (json_object_get(e.settings, "training")) {
        t->list[t->n++] = e;
        return 1;
    }
    json_decref(e.settings);
    json_decref(e.training);
    return 0;
}

/* Those that were named, in the order of the list and each once. */
static int add_named(struct trainings *t, const struct siren_workspace *ws, const int64_t *ids,
                     size_t n, struct siren_error *err)
{
    const char *path = siren_workspace_path(ws);
    for (size_t i = 0; i < n; i++)
        if (!find_run(t, ids[i]))
            return siren_fail(err, SIREN_ENOTFOUND, "%s: no run %lld (`siren runs` lists them)",
                              path, (long long)ids[i]);
    for (size_t i = 0; i < t->n_runs; i++) {
        int named = 0;
        for (size_t k = 0; k < n; k++) named |= ids[k] == t->runs[i].id;
        if (named && !add_training(t, &t->runs[i]))
            return siren_fail(err, SIREN_EINVAL, "%s: run %lld (%s) is no training%s", path,
                              (long long)t->runs[i].id, t->runs[i].kind,
                              strcmp(t->runs[i].kind, "all") ? ""
                                                             : " but several: each is a run, too");
    }
    return 0;
}

static int load_trainings(struct trainings *t, struct siren_workspace *ws, const int64_t *ids,
                          size_t n, struct siren_error *err)
{
    int rc = siren_runs_load(&t->runs, &t->n_runs, ws, NULL, err);
    if (rc) return rc;
    t->list = alloc_zeroed(t->n_runs + 1, sizeof *t->list);
    if (!t->list) return siren_fail_memory(err, "runs", t->n_runs * sizeof *t->list);
    if (n) return add_named(t, ws, ids, n, err);
    for (size_t i = 0; i < t->n_runs; i++) add_training(t, &t->runs[i]);
    return 0;
}

static void trainings_clear(struct trainings *t)
{
    for (size_t i = 0; i < t->n; i++) {
        json_decref(t->list[i].settings);
        json_decref(t->list[i].training);
    }
    free(t->list);
    siren_runs_free(t->runs, t->n_runs);
}

/* ---- results ---- */

static const char *number_or_blank(const json_t *object, const char *key)
{
    return json_object_get(object, key) ? cli_number(report_count(object, key)) : "";
}

static void print_results(struct cli *cli, const struct trainings *t)
{
    struct cli_table *table = cli_table_create(
        "Run|Kind|Name|Status|Steps|Loss|Metric|Best|At step|Tokens|Time", "rlMlrrlrrrr");
    for (size_t i = 0; i < t->n; i++) {
        const struct entry *e = &t->list[i];
        const char *metric = json_string_value(json_object_get(e->training, "metric"));
        const json_t *seconds = json_object_get(e->training, "seconds");
        cli_table_cell(table, "%lld", (long long)e->run->id);
        cli_table_cell(table, "%s", e->run->kind);
        cli_table_cell(table, "%s", e->run->name);
        cli_table_cell(table, "%s", siren_run_status_name(e->run->status));
        cli_table_cell(table, "%s", number_or_blank(e->training, "steps"));
        cli_table_cell(table, "%s", report_real(e->training, "loss"));
        cli_table_cell(table, "%s", metric ? metric : "");
        cli_table_cell(table, "%s", report_real(e->training, "best"));
        cli_table_cell(table, "%s",
                       metric ? cli_number(report_count(e->training, "best_step")) : "");
        cli_table_cell(table, "%s", number_or_blank(e->training, "tokens"));
        cli_table_cell(table, "%s",
                       json_is_number(seconds) ? cli_seconds(json_number_value(seconds)) : "");
    }
    cli_table_print(cli, table);
}

/* ---- settings that differ ---- */

/* Each leaf of a settings object as "path" -> value, into flat. */
static void flatten(json_t *flat, const char *path, json_t *value)
{
    const char *key;
    json_t *member;
    if (!json_is_object(value)) {
        if (!json_is_null(value)) json_object_set(flat, path, value);
        return;
    }
    json_object_foreach(value, key, member)
    {
        struct buf inner = {0};
        buf_printf(&inner, "%s%s%s", path, *path ? "." : "", key);
        flatten(flat, buf_text(&inner), member);
        buf_free(&inner);
    }
}

/* {"training.lr": [0.0001, 0.001], …} in the order of the runs; null: a run has none. */
static json_t *differences(const struct trainings *t)
{
    json_t *all = json_object(), *flat = json_array(), *out = json_object(), *value;
    const char *path;
    for (size_t i = 0; i < t->n; i++) {
        json_t *mine = json_object();
        flatten(mine, "", t->list[i].settings);
        json_object_update_missing(all, mine);
        json_array_append_new(flat, mine);
    }
    json_object_foreach(all, path, value)
    {
        json_t *values = json_array();
        int differ = 0;
        for (size_t i = 0; i < t->n; i++) {
            json_t *one = json_object_get(json_array_get(flat, i), path);
            differ |= !one || !json_equal(one, value);
            json_array_append(values, one ? one : json_null());
        }
        if (differ) json_object_set(out, path, values);
        json_decref(values);
    }
    json_decref(all);
    json_decref(flat);
    return out;
}

static void print_differences(struct cli *cli, const struct trainings *t, const json_t *differ)
{
    struct buf columns = {0}, align = {0};
    const char *path;
    json_t *values;
    buf_puts(&columns, "Setting");
    buf_puts(&align, "l");
    for (size_t i = 0; i < t->n; i++) {
        buf_printf(&columns, "|%lld", (long long)t->list[i].run->id);
        buf_puts(&align, "L");
    }
    struct cli_table *table = cli_table_create(buf_text(&columns), buf_text(&align));
    json_object_foreach((json_t *)differ, path, values)
    {
        cli_table_cell(table, "%s", path);
        for (size_t i = 0; i < t->n; i++) {
            const json_t *value = json_array_get(values, i);
            char *text =
                json_is_null(value)
                    ? NULL
                    : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
            cli_table_cell(table, "%s", text ? text : "");
            free(text);
        }
    }
    cli_print(cli, "\n");
    cli_table_print(cli, table);
    buf_free(&columns);
    buf_free(&align);
}

/* ---- curves ---- */

struct curve {
    char label[80], what[24]; /* what: the metric's name */
    double *x, *y;            /* (n) */
    size_t n;
    int64_t run;
};

/* The metric on valid by step, off the run's log; without any evaluation the loss. */
static int read_curve(struct curve *c, const struct entry *e, struct siren_error *err)
{
    const char *folder = json_string_value(json_object_get(e->settings, "folder"));
    /* Every training has a metric, and one without evaluation no values of it. */
    const char *judged =
        json_string_value(json_object_get(json_object_get(e->settings, "run"), "eval_split"));
    const char *metric =
        json_string_value(json_object_get(json_object_get(e->settings, "training"), "metric"));
    if (judged && !*judged) metric = NULL;
    json_t *log = trainer_read_log(folder ? folder : "", err), *line;
    size_t n = json_array_size(log), i;
    if (!log) return err->code;
    c->x = alloc_array(n + 1, sizeof *c->x);
    c->y = alloc_array(n + 1, sizeof *c->y);
    if (!c->x || !c->y) {
        json_decref(log);
        return siren_fail_memory(err, "a curve", n * sizeof *c->x);
    }
    snprintf(c->what, sizeof c->what, "%s", metric ? metric : "loss");
    snprintf(c->label, sizeof c->label, "%lld %s %s", (long long)e->run->id,
             *e->run->name ? e->run->name : e->run->kind, c->what);
    c->run = e->run->id;
    json_array_foreach(log, i, line)
    {
        const json_t *valid = json_object_get(line, "valid");
        const json_t *y = metric ? json_object_get(valid, metric) : json_object_get(line, "loss");
        if (!json_is_number(y)) continue;
        c->x[c->n] = json_number_value(json_object_get(line, "step"));
        c->y[c->n++] = json_number_value(y);
    }
    json_decref(log);
    return 0;
}

static void free_curves(struct curve *curves, size_t n)
{
    for (size_t i = 0; i < n && curves; i++) {
        free(curves[i].x);
        free(curves[i].y);
    }
    free(curves);
}

/* Of trainings that nobody named, those whose folder is gone are left out. */
static int read_curves(struct cli *cli, const struct trainings *t, struct curve *curves, size_t *n,
                       int named)
{
    *n = 0;
    for (size_t i = 0; i < t->n; i++) {
        int rc = read_curve(&curves[*n], &t->list[i], &cli->err);
        if (rc == SIREN_ENOTFOUND && !named)
            cli_note(cli, "run %lld has no curve: %s", (long long)t->list[i].run->id,
                     cli->err.message);
        else if (rc)
            return rc;
        else
            ++*n;
    }
    return *n ? 0
              : siren_fail(&cli->err, SIREN_ENOTFOUND,
                           "none of these trainings has its folder any more: no curves to draw");
}

static int by_what(const void *a, const void *b)
{
    const struct curve *x = a, *y = b;
    int order = strcmp(x->what, y->what);
    return order ? order : (x->run > y->run) - (x->run < y->run);
}

/* A panel a measure, which curves of others would press flat; how many. */
static size_t by_measure(struct curve *curves, struct siren_series *series, size_t n,
                         struct siren_plot *plots)
{
    size_t n_plots = 0;
    qsort(curves, n, sizeof *curves, by_what);
    for (size_t i = 0; i < n; n_plots++) {
        struct siren_plot *p = &plots[n_plots];
        *p = (struct siren_plot){.title = n_plots ? NULL : "Learning curves",
                                 .x = {.label = "step"},
                                 .y = {.label = curves[i].what},
                                 .series = &series[i]};
        for (size_t from = i; i < n && !strcmp(curves[i].what, curves[from].what); i++) {
            series[i] = (struct siren_series){.label = curves[i].label,
                                              .n = curves[i].n,
                                              .x = curves[i].x,
                                              .y = curves[i].y,
                                              .points = 1};
            p->n_series++;
        }
    }
    for (size_t i = 0; i < n_plots && n_plots > 1; i++)
        if (plots[i].n_series == 1) plots[i].y.label = plots[i].series->label; /* no legend */
    return n_plots;
}

static int draw_curves(struct cli *cli, const struct trainings *t, const char *path, int named)
{
    struct curve *curves = alloc_zeroed(t->n, sizeof *curves);
    struct siren_series *series = alloc_zeroed(t->n, sizeof *series);
    size_t n = 0;
    int rc = curves && series ? read_curves(cli, t, curves, &n, named)
                              : siren_fail_memory(&cli->err, "curves", t->n * sizeof *curves);
    struct siren_plot *plots = alloc_zeroed(t->n, sizeof *plots);
    if (!rc && !plots) rc = siren_fail_memory(&cli->err, "curves", t->n * sizeof *plots);
    if (!rc) rc = siren_plot_write(plots, by_measure(curves, series, n, plots), path, &cli->err);
    free(plots);
    free_curves(curves, t->n);
    free(series);
    return rc;
}

/* ---- all of it ---- */

static json_t *json_report(const struct trainings *t, json_t *differ)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->n; i++) {
        const struct entry *e = &t->list[i];
        json_array_append_new(
            list, json_pack("{s:I,s:s,s:s,s:s,s:O?}", "id", (json_int_t)e->run->id, "kind",
                            e->run->kind, "name", e->run->name, "status",
                            siren_run_status_name(e->run->status), "training", e->training));
    }
    return json_pack("{s:o,s:O}", "runs", list, "differences", differ);
}

int runs_trainings(struct cli *cli, struct siren_workspace *ws, const int64_t *ids, size_t n,
                   const char *curves)
{
    struct trainings t = {0};
    int rc = load_trainings(&t, ws, ids, n, &cli->err);
    if (!rc && curves && !t.n) /* a file was asked for, and none would be there */
        rc = siren_fail(&cli->err, SIREN_ENOTFOUND, NONE_YET);
    if (!rc && curves) rc = draw_curves(cli, &t, curves, n > 0);
    if (!rc) {
        json_t *differ = differences(&t);
        if (cli->json) {
            rc = cli_print_json(cli, json_report(&t, differ));
        } else if (!t.n) {
            cli_note(cli, NONE_YET);
        } else {
            print_results(cli, &t);
            if (t.n > 1 && n) print_differences(cli, &t, differ);
        }
        json_decref(differ);
    }
    if (!rc && curves) cli_note(cli, "%s: the curves", curves);
    trainings_clear(&t);
    return rc;
}
