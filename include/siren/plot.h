/* Line charts as SVG: learning curves, measurements by size, residuals by layer.
 *
 *     const double loss[] = {1.61, 1.2, 0.9}, low[] = {1.5, 1.1, 0.8}, high[] = {1.7, 1.3, 1};
 *     struct siren_series series[] = {
 *         {.label = "alignment", .n = 3, .y = loss, .low = low, .high = high},
 *         {.label = "always the mode", .n = 1, .y = (double[]){1.4}, .level = 1},
 *     };
 *     struct siren_plot plot = {.title = "Learning curve", .series = series, .n_series = 2,
 *                               .x = {.label = "step"}, .y = {.label = "loss", .unit = "nats"}};
 *     siren_plot_write(&plot, "loss.svg", &err);
 *
 * The text depends on the numbers alone: not on locale, time or machine.  The colours follow a
 * reader's light or dark scheme; where a viewer does not know schemes, the chart is light.  Labels
 * are any UTF-8 (bytes that are none are replaced); one too long for its place is cut, and
 * the whole of it stands in the element's <title>.  A series of many points is drawn by the
 * extremes of each half pixel, so a file stays small. */
#ifndef SIREN_PLOT_H
#define SIREN_PLOT_H

#include <stddef.h>

#include "siren/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_series {
    const char *label; /* in the legend, which lists those that have one if more than one does */
    size_t n;
    const double *x; /* (n) in any order; NULL: 0, 1, 2 … */
    /* (n).  Where x or y is not finite, or not positive on a logarithmic axis, the line has a gap;
     * a point between two gaps is drawn as a dot. */
    const double *y;
    const double *low, *high; /* (n) an error band, both or neither; gaps like the line's */
    int points;               /* 1: a mark on each point */
    int dashed;
    int level; /* 1: n is 1, and y[0] is drawn from edge to edge, such as a baseline's figure */
};

struct siren_plot_axis {
    const char *label, *unit; /* "speed", "tokens/s"; NULL: none */
    double min, max;          /* min < max: the range.  Equal: that of the data */
    int log;                  /* 0: linear; else the base whose powers are marked, 10 or 2 */
};

struct siren_plot {
    const char *title; /* NULL: none */
    struct siren_plot_axis x, y;
    const struct siren_series *series;
    size_t n_series;   /* 0 or only gaps: axes, and "no data" between them */
    int width, height; /* in pixels, 240 … 4000 each; 0: 720 and 420, 280 of one panel among others.
                        * A long legend adds height */
};

/* *svg is malloc'ed.  SIREN_EINVAL names the field that is out of its range. */
int siren_plot_svg(const struct siren_plot *plot, char **svg, struct siren_error *err);
/* Several, one below the other: what has measures of its own should not share an axis.  Their x
 * axes have one range, but for those with their own.  n >= 1. */
int siren_plot_panels(const struct siren_plot *plots, size_t n, char **svg,
                      struct siren_error *err);
/* The same into a file, atomically. */
int siren_plot_write(const struct siren_plot *plots, size_t n, const char *path,
                     struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
