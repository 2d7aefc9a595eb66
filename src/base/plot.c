#include "siren/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/plot_private.h"
#include "siren/file.h"

enum { WIDTH = 720, HEIGHT = 420, PANEL_HEIGHT = 280, SMALLEST = 240, LARGEST = 4000 };

/* ---- points ---- */

double plot_x_of(const struct siren_series *s, size_t i)
{
    return s->x ? s->x[i] : (double)i;
}

static int drawable(const struct siren_plot_axis *axis, double value)
{
    return isfinite(value) && !(axis->log && value <= 0);
}

int plot_has_point(const struct chart *c, const struct siren_series *s, size_t i)
{
    return (s->level || drawable(&c->plot->x, plot_x_of(s, i))) && drawable(&c->plot->y, s->y[i]);
}

int plot_has_band(const struct chart *c, const struct siren_series *s, size_t i)
{
    return plot_has_point(c, s, i) && s->low && drawable(&c->plot->y, s->low[i]) &&
           drawable(&c->plot->y, s->high[i]);
}

/* ---- ranges and layout ---- */

static void extend(double range[2], double value)
{
    if (value < range[0]) range[0] = value;
    if (value > range[1]) range[1] = value;
}

/* *whole: all x are whole numbers. */
static int data_ranges(const struct chart *c, double x[2], double y[2], int *whole)
{
    x[0] = y[0] = INFINITY, x[1] = y[1] = -INFINITY;
    *whole = 1;
    for (size_t k = 0; k < c->plot->n_series; k++) {
        const struct siren_series *s = &c->plot->series[k];
        for (size_t i = 0; i < s->n; i++) {
            if (!plot_has_point(c, s, i)) continue;
            if (!s->level) {
                extend(x, plot_x_of(s, i));
                *whole &= plot_x_of(s, i) == rint(plot_x_of(s, i));
            }
            extend(y, s->y[i]);
            if (plot_has_band(c, s, i)) extend(y, s->low[i]), extend(y, s->high[i]);
        }
    }
    return y[0] <= y[1];
}

/* A fixed range as it is; that of the data, with 0 where it is near; 1 … 10 or 0 … 1 without. */
static void make_axis(struct plot_axis *axis, const struct siren_plot_axis *wanted,
                      const double data[2], int whole, int max_ticks, int is_y)
{
    int fixed = wanted->min < wanted->max, some = data[0] <= data[1];
    double low = some ? data[0] : wanted->log ? 1 : 0, high = some ? data[1] : wanted->log ? 10 : 1;
    if (is_y && !wanted->log && low > 0 && low < 0.3 * high) low = 0;
    if (fixed) low = wanted->min, high = wanted->max;
    plot_axis_make(axis, low, high, wanted->log, whole, max_ticks, is_y && !fixed);
}

int plot_has_legend(const struct siren_plot *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n_series; i++) n += p->series[i].label != NULL;
    return n > 1;
}

static int has_name(const struct siren_plot_axis *axis, const struct plot_axis *made)
{
    return (axis->label && *axis->label) || (axis->unit && *axis->unit) || made->power[0];
}

static double widest_tick(const struct plot_axis *axis)
{
    double widest = 0;
    for (int i = 0; i < axis->n; i++) {
        double width = plot_text_width(axis->ticks[i].text, PLOT_TEXT);
        if (width > widest) widest = width;
    }
    return widest;
}

static void lay_out(struct chart *c)
{
    const struct siren_plot *p = c->plot;
    double x[2], y[2];
    int whole;
    c->some = data_ranges(c, x, y, &whole);
    c->top = PLOT_EDGE;
    if (p->title && *p->title) c->top += PLOT_TITLE + PLOT_GAP;
    if (plot_has_legend(p)) c->top += plot_legend(c, 0, 0) * PLOT_ROW + PLOT_GAP;
    c->top += PLOT_GAP / 2;
    /* The x axis' name may come from its ticks, which need the room first: it is always kept. */
    int below = PLOT_EDGE + 2 * (PLOT_TEXT + PLOT_GAP), least = c->top + SMALLEST / 3 + below;
    if (c->height < least) c->height = least;
    c->bottom = c->height - below;
    make_axis(&c->y, &p->y, y, 0, (c->bottom - c->top) / 40, 1);
    c->left = PLOT_EDGE + (int)ceil(widest_tick(&c->y)) + PLOT_GAP;
    if (has_name(&p->y, &c->y)) c->left += PLOT_TEXT + PLOT_GAP;
    c->right = c->width - PLOT_EDGE;
    /* As many ticks as their own texts leave room for. */
    for (int n = (c->right - c->left) / 60; n >= 2; n--) {
        make_axis(&c->x, &p->x, x, whole, n, 0);
        if (c->x.n * (widest_tick(&c->x) + 2 * PLOT_GAP) <= c->right - c->left) break;
    }
    c->right -= (int)(widest_tick(&c->x) / 2);
}

/* ---- entry ---- */

static int check_axis(const struct siren_plot_axis *a, const char *name, struct siren_error *err)
{
    if (a->log != 0 && a->log != 2 && a->log != 10)
        return siren_fail(err, SIREN_EINVAL, "plot: axis %s: log is %d, expected 0, 2 or 10", name,
                          a->log);
    if (!isfinite(a->min) || !isfinite(a->max) || a->min > a->max)
        return siren_fail(err, SIREN_EINVAL,
                          "plot: axis %s: range %g … %g, expected finite, min <= max", name, a->min,
                          a->max);
    if (a->log && a->min < a->max && a->min <= 0)
        return siren_fail(
            err, SIREN_EINVAL,
            "plot: axis %s: range from %g, expected positive: the axis is logarithmic", name,
            a->min);
    return SIREN_OK;
}

static int check_plot(const struct siren_plot *p, int width, int height, struct siren_error *err)
{
    if (width < SMALLEST || width > LARGEST || height < SMALLEST || height > LARGEST)
        return siren_fail(err, SIREN_EINVAL, "plot: %d × %d pixels, expected %d to %d each", width,
                          height, SMALLEST, LARGEST);
    if (p->n_series && !p->series)
        return siren_fail(err, SIREN_EINVAL, "plot: %zu series, but no list of them", p->n_series);
    for (size_t i = 0; i < p->n_series; i++) {
        const struct siren_series *s = &p->series[i];
        if (s->n && !s->y)
            return siren_fail(err, SIREN_EINVAL, "plot: series %zu: %zu points without y", i, s->n);
        if (!s->low != !s->high)
            return siren_fail(err, SIREN_EINVAL,
                              "plot: series %zu: one edge of a band without the other", i);
        if (s->level && s->n != 1)
            return siren_fail(err, SIREN_EINVAL,
                              "plot: series %zu: a level of %zu points, expected 1", i, s->n);
    }
    int rc = check_axis(&p->x, "x", err);
    return rc ? rc : check_axis(&p->y, "y", err);
}

/* *height: what the chart takes, which a long legend adds to. */
static int draw(const struct siren_plot *plot, char **svg, int *width, int *height,
                struct siren_error *err)
{
    struct chart c = {.plot = plot,
                      .width = plot->width ? plot->width : WIDTH,
                      .height = plot->height ? plot->height : HEIGHT};
    *svg = NULL;
    int rc = check_plot(plot, c.width, c.height, err);
    if (rc) return rc;
    lay_out(&c);
    plot_draw(&c);
    *width = c.width;
    *height = c.height;
    *svg = buf_take(&c.out);
    return *svg ? SIREN_OK : siren_fail_memory(err, "a chart", 0);
}

int siren_plot_svg(const struct siren_plot *plot, char **svg, struct siren_error *err)
{
    int width, height;
    return draw(plot, svg, &width, &height, err);
}

/* Of the x of all, unless one is logarithmic. */
static void common_range(const struct siren_plot *plots, size_t n, double range[2])
{
    range[0] = INFINITY, range[1] = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        const struct chart c = {.plot = &plots[i]};
        double x[2], y[2];
        int whole;
        if (plots[i].x.log) range[0] = NAN;
        data_ranges(&c, x, y, &whole);
        if (x[0] < range[0]) range[0] = x[0];
        if (x[1] > range[1]) range[1] = x[1];
    }
}

int siren_plot_panels(const struct siren_plot *plots, size_t n, char **svg, struct siren_error *err)
{
    struct buf inner = {0}, out = {0};
    int widest = 0, width = 0, height = 0, y = 0, rc = SIREN_OK;
    double range[2];
    *svg = NULL;
    if (!n) return siren_fail(err, SIREN_EINVAL, "plot: no panels, expected one or more");
    if (n == 1) return siren_plot_svg(plots, svg, err);
    for (size_t i = 0; i < n && !rc; i++) /* before a series is looked at */
        rc = check_plot(&plots[i], WIDTH, HEIGHT, err);
    if (!rc) common_range(plots, n, range);
    for (size_t i = 0; i < n && !rc; i++) {
        struct siren_plot p = plots[i];
        char *one;
        if (!p.height) p.height = PANEL_HEIGHT;
        if (!(p.x.min < p.x.max) && range[0] < range[1]) p.x.min = range[0], p.x.max = range[1];
        rc = draw(&p, &one, &width, &height, err);
        if (rc) break;
        buf_printf(&inner, "<svg y=\"%d\"%s", y, one + strlen("<svg"));
        y += height;
        if (width > widest) widest = width;
        free(one);
    }
    buf_printf(&out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
               "viewBox=\"0 0 %d %d\">\n%s</svg>\n",
               widest, y, widest, y, buf_text(&inner));
    if (!rc && buf_failed(&inner)) rc = siren_fail_memory(err, "charts", 0);
    buf_free(&inner);
    if (rc) {
        buf_free(&out);
        return rc;
    }
    *svg = buf_take(&out);
    return *svg ? SIREN_OK : siren_fail_memory(err, "charts", 0);
}

int siren_plot_write(const struct siren_plot *plots, size_t n, const char *path,
                     struct siren_error *err)
{
    char *svg;
    int rc = siren_plot_panels(plots, n, &svg, err);
    if (rc) return rc;
    rc = siren_file_write(path, svg, strlen(svg), err);
    free(svg);
    return rc;
}
