/* A run's log, and the charts drawn from it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/path.h"
#include "siren/file.h"
#include "siren/plot.h"
#include "train/trainer_parts.h"

json_t *trainer_read_log(const char *folder, struct siren_error *err)
{
    struct siren_lines *lines;
    struct buf path = {0};
    json_t *all = json_array(), *line;
    char *text;
    size_t length;
    buf_printf(&path, "%s/log.jsonl", folder);
    int rc = siren_lines_open(&lines, buf_text(&path), SIREN_UTF8, err);
    if (!rc) {
        while ((rc = siren_lines_next(lines, &text, &length, err)) == 1)
            if ((line = json_loadb(text, length, 0, NULL))) json_array_append_new(all, line);
        siren_lines_close(lines);
    }
    buf_free(&path);
    if (!rc) return all;
    json_decref(all);
    return NULL;
}

/* ---- charts ---- */

struct drawn {
    struct siren_series series[TRAINER_SERIES];
    double *numbers[TRAINER_SERIES]; /* (2, lines): steps, then values */
    int panel[TRAINER_SERIES + 1];
    size_t n;
};

/* A path of keys joined by dots; NAN: no number is there. */
static double number(const json_t *object, const char *path)
{
    char key[64];
    size_t n;
    for (; object; path += n + 1) {
        n = strcspn(path, ".");
        if (n >= sizeof key) return NAN;
        memcpy(key, path, n);
        key[n] = '\0';
        object = json_object_get(object, key);
        if (!path[n]) break;
    }
    return json_is_number(object) ? json_number_value(object) : NAN;
}

static int add_series(struct drawn *d, const json_t *log, const char *field, const char *label,
                      struct siren_error *err)
{
    size_t lines = json_array_size(log), n = 0, i;
    double *x = alloc_array(2 * lines + 1, sizeof *x), *y;
    json_t *line;
    if (!x) return siren_fail_memory(err, "a chart", 2 * lines * sizeof *x);
    y = x + lines;
    json_array_foreach(log, i, line)
    {
        double value = number(line, field);
        if (!isfinite(value)) continue;
        x[n] = number(line, "step");
        y[n++] = value;
    }
    d->numbers[d->n] = x;
    d->series[d->n] = (struct siren_series){
        .label = label, .n = n, .x = x, .y = y, .points = !strncmp(field, "valid.", 6)};
    d->n += n > 0;
    if (!n) free(x);
    return 0;
}

/* One plot a measure; the series of a panel stand together. */
static size_t make_panels(const struct drawn *d, const char *title, struct siren_plot *plots)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n; n++) {
        struct siren_plot *p = &plots[n];
        *p = (struct siren_plot){
            .title = n ? NULL : title, .x = {.label = "step"}, .series = &d->series[i]};
        for (int panel = d->panel[i]; i < d->n && d->panel[i] == panel; i++) p->n_series++;
        if (p->n_series == 1) p->y.label = p->series->label;
    }
    return n;
}

static int draw(const char *folder, const json_t *log, const struct trainer_chart *chart,
                struct siren_error *err)
{
    struct drawn d = {0};
    struct siren_plot plots[TRAINER_SERIES];
    int rc = 0;
    for (int i = 0; i < TRAINER_SERIES && chart->series[i].field && !rc; i++) {
        d.panel[d.n] = chart->series[i].panel;
        rc = add_series(&d, log, chart->series[i].field, chart->series[i].label, err);
    }
    if (!rc && d.n) {
        char *path = path_join(folder, chart->file);
        size_t n = make_panels(&d, chart->title, plots);
        rc = path ? siren_plot_write(plots, n, path, err)
                  : siren_fail_memory(err, "a path", strlen(folder));
        free(path);
    }
    for (size_t i = 0; i < d.n; i++) free(d.numbers[i]);
    return rc;
}

int trainer_charts(const char *folder, const struct trainer_task *task, struct siren_error *err)
{
    struct buf field = {0}, label = {0};
    const char *metric = task->metric ? task->metric : "metric";
    buf_printf(&field, "valid.%s", metric);
    buf_printf(&label, "%s on valid", metric);
    const struct trainer_chart curve = {
        "curve.svg",
        "Learning curve",
        {{"loss", "loss of a step", 0}, {buf_text(&field), buf_text(&label), 1}}};
    json_t *log = trainer_read_log(folder, err);
    int rc = log ? 0 : err ? err->code : SIREN_EIO;
    const struct trainer_chart *charts = task->n_charts ? task->charts : &curve;
    for (size_t i = 0; i < (task->n_charts ? task->n_charts : 1) && !rc; i++)
        rc = draw(folder, log, &charts[i], err);
    json_decref(log);
    buf_free(&field);
    buf_free(&label);
    return rc;
}
