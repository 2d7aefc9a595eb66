/* The parts of a chart.  Private to src/base/plot*.c. */
#ifndef SIREN_BASE_PLOT_PRIVATE_H
#define SIREN_BASE_PLOT_PRIVATE_H

#include "base/buf.h"
#include "base/plot_axis.h"
#include "siren/plot.h"

/* Sizes in pixels. */
enum {
    PLOT_EDGE = 16, /* around everything */
    PLOT_TEXT = 12, /* sizes of letters */
    PLOT_TITLE = 16,
    PLOT_ROW = 20, /* of the legend */
    PLOT_SWATCH = 24,
    PLOT_GAP = 8
};

struct chart {
    const struct siren_plot *plot;
    int width, height;
    int left, right, top, bottom; /* the axes' box */
    int some;                     /* there is a point to be drawn */
    struct plot_axis x, y;
    struct buf out;
};

/* ---- plot.c ---- */

double plot_x_of(const struct siren_series *s, size_t i);
int plot_has_point(const struct chart *c, const struct siren_series *s, size_t i);
int plot_has_band(const struct chart *c, const struct siren_series *s, size_t i);
int plot_has_legend(const struct siren_plot *plot);

/* ---- plot_draw.c ---- */

/* Returns the legend's rows, which begin below y; draw 0: only counts them. */
int plot_legend(struct chart *c, int y, int draw);
void plot_draw(struct chart *c);

/* ---- plot_text.c ---- */

/* About: the viewer chooses the font. */
double plot_text_width(const char *text, int size);
/* Escaped; cut to `room` pixels (INFINITY: all of it). */
void plot_put_text(struct buf *b, const char *text, double room, int size);
/* The same between a <text>'s tags: where it is cut, a <title> holds all of it. */
void plot_put_label(struct buf *b, const char *text, double room, int size);
/* Pixels with two decimals at most, whatever the locale. */
void plot_put_number(struct buf *b, double pixels);
void plot_put_point(struct buf *b, double x, double y);

#endif
