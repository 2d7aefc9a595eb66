/* A run's log, and the learning curve drawn from it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
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

struct curve {
    double *steps, *losses, *tested, *metrics;
    size_t n_steps, n_tested;
};

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static int allocate(struct curve *c, size_t n)
{
    c->steps = alloc_array(n + 1, sizeof *c->steps);
    c->losses = alloc_array(n + 1, sizeof *c->losses);
    c->tested = alloc_array(n + 1, sizeof *c->tested);
    c->metrics = alloc_array(n + 1, sizeof *c->metrics);
    return c->steps && c->losses && c->tested && c->metrics;
}

static void collect(struct curve *c, const json_t *log, const char *metric)
{
    size_t i;
    json_t *line;
    json_array_foreach(log, i, line)
    {
        const json_t *valid = json_object_get(line, "valid");
        if (valid) {
            c->tested[c->n_tested] = number(line, "step");
            c->metrics[c->n_tested++] = number(valid, metric);
        } else {
            c->steps[c->n_steps] = number(line, "step");
            c->losses[c->n_steps++] = number(line, "loss");
        }
    }
}

int trainer_curve(const char *folder, const char *metric, struct siren_error *err)
{
    struct curve c = {0};
    struct buf path = {0}, label = {0};
    json_t *log = trainer_read_log(folder, err);
    if (!log) return err ? err->code : SIREN_EIO;
    if (!metric) metric = "metric";
    int rc = allocate(&c, json_array_size(log)) ? 0 : siren_fail_memory(err, "a curve", 0);
    if (!rc) {
        collect(&c, log, metric);
        buf_printf(&label, "%s on valid", metric);
        buf_printf(&path, "%s/curve.svg", folder);
        struct siren_series series[] = {
            {.label = "loss of a step", .n = c.n_steps, .x = c.steps, .y = c.losses},
            {.label = buf_text(&label),
             .n = c.n_tested,
             .x = c.tested,
             .y = c.metrics,
             .points = 1}};
        struct siren_plot plot = {.title = "Learning curve",
                                  .x = {.label = "step"},
                                  .series = series,
                                  .n_series = c.n_tested ? 2 : 1};
        rc = siren_plot_write(&plot, buf_text(&path), err);
    }
    buf_free(&path);
    buf_free(&label);
    free(c.steps);
    free(c.losses);
    free(c.tested);
    free(c.metrics);
    json_decref(log);
    return rc;
}
