/* A chart whose axes and places are settled, as SVG. */
#include <math.h>
#include <stdlib.h>

#include "base/plot_private.h"

enum {
    BLEED = 4, /* lines and marks may reach this far beyond the axes */
    COLORS = 8
};

/* Colours with a contrast of at least 4 to the ground, in both schemes. */
static const char STYLE[] =
    "<style>\n"
    ".siren-plot{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',Arial,sans-serif}\n"
    ".siren-plot .ground{fill:#fff}\n"
    ".siren-plot text{fill:#24292f}\n"
    ".siren-plot .title{font-size:16px;font-weight:600}\n"
    ".siren-plot .grid{stroke:#d8dee4;fill:none}\n"
    ".siren-plot .axis{stroke:#57606a;fill:none}\n"
    ".siren-plot "
    "path.line{fill:none;stroke-width:1.75;stroke-linejoin:round;stroke-linecap:round}\n"
    ".siren-plot path.band{stroke:none;fill-opacity:.16}\n"
    ".siren-plot path.bar{fill:none;stroke-width:1.25}\n"
    ".siren-plot .s0{stroke:#2a6fbb;fill:#2a6fbb}.siren-plot .s1{stroke:#c04a08;fill:#c04a08}\n"
    ".siren-plot .s2{stroke:#1a7f4b;fill:#1a7f4b}.siren-plot .s3{stroke:#8250c4;fill:#8250c4}\n"
    ".siren-plot .s4{stroke:#c2397a;fill:#c2397a}.siren-plot .s5{stroke:#0f7680;fill:#0f7680}\n"
    ".siren-plot .s6{stroke:#7a5c2e;fill:#7a5c2e}.siren-plot .s7{stroke:#5f6b76;fill:#5f6b76}\n"
    "@media (prefers-color-scheme:dark){\n"
    ".siren-plot .ground{fill:#0d1117}.siren-plot text{fill:#e6edf3}\n"
    ".siren-plot .grid{stroke:#2b323b}.siren-plot .axis{stroke:#8b949e}\n"
    ".siren-plot .s0{stroke:#6cb0f5;fill:#6cb0f5}.siren-plot .s1{stroke:#f28c4b;fill:#f28c4b}\n"
    ".siren-plot .s2{stroke:#4fc587;fill:#4fc587}.siren-plot .s3{stroke:#b392f0;fill:#b392f0}\n"
    ".siren-plot .s4{stroke:#f07fb4;fill:#f07fb4}.siren-plot .s5{stroke:#4cc3cf;fill:#4cc3cf}\n"
    ".siren-plot .s6{stroke:#cdab72;fill:#cdab72}.siren-plot .s7{stroke:#a8b3bd;fill:#a8b3bd}\n"
    "}\n"
    "</style>\n";

/* ---- where things are ---- */

/* Far outside of a fixed range: where the line leaves the box is all that is seen. */
static double bounded(double at)
{
    return at < -100 ? -100 : at > 100 ? 100 : at;
}

static double px(const struct chart *c, double value)
{
    return c->left + bounded(plot_axis_place(&c->x, value)) * (c->right - c->left);
}

static double py(const struct chart *c, double value)
{
    return c->bottom - bounded(plot_axis_place(&c->y, value)) * (c->bottom - c->top);
}

/* ---- names ---- */

/* "speed (10³ tokens/s)" */
static char *axis_label(const struct siren_plot_axis *axis, const char *power)
{
    struct buf b = {0};
    const char *unit = axis->unit && *axis->unit ? axis->unit : "";
    buf_puts(&b, axis->label ? axis->label : "");
    if (*unit || *power)
        buf_printf(&b, "%s(%s%s%s)", b.size ? " " : "", power, *unit && *power ? " " : "", unit);
    return buf_take(&b);
}

/* The tag of a line up to its path.  Beyond COLORS series the colours come again, dotted. */
static void open_line(struct chart *c, size_t k)
{
    const struct siren_series *s = &c->plot->series[k];
    const char *dashes = s->dashed || s->level ? " stroke-dasharray=\"6 4\""
                         : k / COLORS % 2      ? " stroke-dasharray=\"1 4\""
                                               : "";
    buf_printf(&c->out, "<path class=\"line s%d\"%s d=\"M", (int)(k % COLORS), dashes);
}

static void draw_mark(struct chart *c, size_t k, double x, double y)
{
    buf_printf(&c->out, "<circle class=\"s%d\" r=\"2.5\" cx=\"", (int)(k % COLORS));
    plot_put_number(&c->out, x);
    buf_puts(&c->out, "\" cy=\"");
    plot_put_number(&c->out, y);
    buf_puts(&c->out, "\"/>\n");
}

static void legend_entry(struct chart *c, size_t k, double x, int y, double room)
{
    open_line(c, k);
    plot_put_point(&c->out, x, y);
    buf_printf(&c->out, "h%d\"/>", PLOT_SWATCH);
    if (c->plot->series[k].points) draw_mark(c, k, x + PLOT_SWATCH / 2.0, y);
    buf_puts(&c->out, "<text x=\"");
    plot_put_number(&c->out, x + PLOT_SWATCH + PLOT_GAP);
    buf_printf(&c->out, "\" y=\"%d\">", y + 4);
    plot_put_label(&c->out, c->plot->series[k].label, room, PLOT_TEXT);
    buf_puts(&c->out, "</text>\n");
}

int plot_legend(struct chart *c, int y, int draw)
{
    const double around = PLOT_SWATCH + 3 * PLOT_GAP, most = c->width - 2 * PLOT_EDGE - around;
    double x = PLOT_EDGE;
    int rows = 1;
    for (size_t k = 0; k < c->plot->n_series; k++) {
        const char *label = c->plot->series[k].label;
        if (!label) continue;
        double width = fmin(plot_text_width(label, PLOT_TEXT), most);
        if (x > PLOT_EDGE && x + width + around > c->width - PLOT_EDGE) x = PLOT_EDGE, rows++;
        if (draw) legend_entry(c, k, x, y + rows * PLOT_ROW - PLOT_ROW / 2, width);
        x += width + around;
    }
    return rows;
}

/* ---- drawing ---- */

static void draw_axes(struct chart *c)
{
    struct buf *b = &c->out;
    buf_puts(b, "<path class=\"grid\" d=\"");
    for (int i = 0; i < c->y.n; i++) {
        buf_puts(b, "M");
        plot_put_point(b, c->left, c->bottom - c->y.ticks[i].at * (c->bottom - c->top));
        buf_printf(b, "H%d", c->right);
    }
    buf_printf(b, "\"/>\n<path class=\"axis\" d=\"M%d,%dH%d", c->left, c->bottom, c->right);
    for (int i = 0; i < c->x.n; i++) {
        buf_puts(b, "M");
        plot_put_point(b, c->left + c->x.ticks[i].at * (c->right - c->left), c->bottom);
        buf_puts(b, "v5");
    }
    buf_puts(b, "\"/>\n<g text-anchor=\"end\">");
    for (int i = 0; i < c->y.n; i++) {
        buf_printf(b, "<text x=\"%d\" y=\"", c->left - PLOT_GAP);
        plot_put_number(b, c->bottom - c->y.ticks[i].at * (c->bottom - c->top) + 4);
        buf_printf(b, "\">%s</text>", c->y.ticks[i].text);
    }
    buf_puts(b, "</g>\n<g text-anchor=\"middle\">");
    for (int i = 0; i < c->x.n; i++) {
        buf_puts(b, "<text x=\"");
        plot_put_number(b, c->left + c->x.ticks[i].at * (c->right - c->left));
        buf_printf(b, "\" y=\"%d\">%s</text>", c->bottom + PLOT_TEXT + PLOT_GAP,
                   c->x.ticks[i].text);
    }
    buf_puts(b, "</g>\n");
}

static void draw_name(struct chart *c, const struct siren_plot_axis *axis, const char *power,
                      int is_y)
{
    struct buf *b = &c->out;
    char *name = axis_label(axis, power);
    if (!name) {
        b->failed |= axis->label || axis->unit || *power;
        return;
    }
    buf_puts(b, "<text text-anchor=\"middle\" ");
    if (is_y) {
        buf_printf(b, "transform=\"translate(%d ", PLOT_EDGE + PLOT_TEXT / 2);
        plot_put_number(b, (c->top + c->bottom) / 2.0);
        buf_puts(b, ") rotate(-90)\">");
    } else {
        buf_puts(b, "x=\"");
        plot_put_number(b, (c->left + c->right) / 2.0);
        buf_printf(b, "\" y=\"%d\">", c->height - PLOT_EDGE);
    }
    plot_put_label(b, name, is_y ? c->bottom - c->top : c->right - c->left, PLOT_TEXT);
    buf_puts(b, "</text>\n");
    free(name);
}

static void draw_names(struct chart *c)
{
    const char *title = c->plot->title;
    if (title && *title) {
        buf_printf(&c->out, "<text class=\"title\" x=\"%d\" y=\"%d\">", PLOT_EDGE,
                   PLOT_EDGE + PLOT_TITLE - 2);
        plot_put_label(&c->out, title, c->width - 2 * PLOT_EDGE, PLOT_TITLE);
        buf_puts(&c->out, "</text>\n");
    }
    if (plot_has_legend(c->plot))
        plot_legend(c, PLOT_EDGE + (title && *title ? PLOT_TITLE + PLOT_GAP : 0), 1);
    draw_name(c, &c->plot->x, c->x.power, 0);
    draw_name(c, &c->plot->y, c->y.power, 1);
}

/* Points of the run [i, end) that fall into one half pixel, drawn by the first, the extremes and
 * the last: the picture is the same. */
static size_t same_column(const struct chart *c, const struct siren_series *s, size_t i, size_t end)
{
    double column = floor(2 * px(c, plot_x_of(s, i)));
    size_t n = 1;
    while (i + n < end && floor(2 * px(c, plot_x_of(s, i + n))) == column) n++;
    return n;
}

static void put_line_point(struct chart *c, const struct siren_series *s, size_t i, int first)
{
    if (!first) buf_putc(&c->out, ' ');
    plot_put_point(&c->out, px(c, plot_x_of(s, i)), py(c, s->y[i]));
}

static void draw_run(struct chart *c, const struct siren_series *s, size_t begin, size_t end)
{
    int first = 1;
    for (size_t i = begin, n; i < end; i += n) {
        n = same_column(c, s, i, end);
        size_t low = i, high = i, keep[4];
        for (size_t j = i; j < i + n; j++) {
            if (s->y[j] < s->y[low]) low = j;
            if (s->y[j] > s->y[high]) high = j;
        }
        keep[0] = i, keep[1] = low < high ? low : high;
        keep[2] = low < high ? high : low, keep[3] = i + n - 1;
        for (int k = 0; k < 4; k++) {
            if (k && keep[k] == keep[k - 1]) continue;
            put_line_point(c, s, keep[k], first);
            first = 0;
        }
    }
}

static size_t run_end(const struct chart *c, const struct siren_series *s, size_t i,
                      int (*has)(const struct chart *, const struct siren_series *, size_t))
{
    while (i < s->n && has(c, s, i)) i++;
    return i;
}

static void draw_line(struct chart *c, size_t k)
{
    const struct siren_series *s = &c->plot->series[k];
    int open = 0;
    for (size_t i = 0, end; i < s->n; i = end + 1) {
        end = run_end(c, s, i, plot_has_point);
        if (end == i || (end - i == 1 && !s->level)) continue;
        if (open++)
            buf_putc(&c->out, 'M');
        else
            open_line(c, k);
        if (s->level) {
            plot_put_point(&c->out, c->left, py(c, s->y[0]));
            buf_printf(&c->out, "H%d", c->right);
        } else
            draw_run(c, s, i, end);
    }
    if (open) buf_puts(&c->out, "\"/>\n");
}

static void draw_points(struct chart *c, size_t k)
{
    const struct siren_series *s = &c->plot->series[k];
    if (s->level) return;
    for (size_t i = 0, end; i < s->n; i = end + 1) {
        end = run_end(c, s, i, plot_has_point);
        if (!s->points && end - i != 1) continue;
        for (size_t j = i; j < end; j++) draw_mark(c, k, px(c, plot_x_of(s, j)), py(c, s->y[j]));
    }
}

/* One edge of a band, from one point to another, in either direction: the extreme of each half
 * pixel. */
static void draw_edge(struct chart *c, const struct siren_series *s, size_t from, size_t to,
                      const double *edge, int sign)
{
    size_t step = from <= to ? 1 : (size_t)-1;
    for (size_t i = from; i != to + step;) {
        double x = px(c, plot_x_of(s, i)), extreme = edge[i];
        for (; i != to + step && floor(2 * px(c, plot_x_of(s, i))) == floor(2 * x); i += step)
            if (sign * edge[i] > sign * extreme) extreme = edge[i];
        plot_put_point(&c->out, x, py(c, extreme));
        buf_putc(&c->out, ' ');
    }
}

static void draw_bar(struct chart *c, const struct siren_series *s, size_t i, int color)
{
    buf_printf(&c->out, "<path class=\"bar s%d\" d=\"M", color);
    plot_put_point(&c->out, px(c, plot_x_of(s, i)), py(c, s->low[i]));
    buf_puts(&c->out, "V");
    plot_put_number(&c->out, py(c, s->high[i]));
    buf_puts(&c->out, "\"/>\n");
}

static void draw_band(struct chart *c, const struct siren_series *s, int color)
{
    for (size_t i = 0, end; i < s->n; i = end + 1) {
        end = run_end(c, s, i, plot_has_band);
        if (end - i == 1 && !s->level) draw_bar(c, s, i, color);
        if (end == i || (end - i == 1 && !s->level)) continue;
        buf_printf(&c->out, "<path class=\"band s%d\" d=\"M", color);
        if (s->level) {
            plot_put_point(&c->out, c->left, py(c, s->low[0]));
            buf_printf(&c->out, "H%dV", c->right);
            plot_put_number(&c->out, py(c, s->high[0]));
            buf_printf(&c->out, "H%d", c->left);
        } else {
            draw_edge(c, s, i, end - 1, s->high, 1);
            draw_edge(c, s, end - 1, i, s->low, -1);
        }
        buf_puts(&c->out, "z\"/>\n");
    }
}

/* An inner <svg> clips what it holds, without a name that two charts of one page would share. */
static void draw_series(struct chart *c)
{
    const struct siren_plot *p = c->plot;
    int width = c->right - c->left, height = c->bottom - c->top;
    buf_printf(&c->out,
               "<svg x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" viewBox=\"%d %d %d %d\">\n",
               c->left - BLEED, c->top - BLEED, width + 2 * BLEED, height + 2 * BLEED,
               c->left - BLEED, c->top - BLEED, width + 2 * BLEED, height + 2 * BLEED);
    for (size_t i = 0; i < p->n_series; i++) draw_band(c, &p->series[i], (int)(i % COLORS));
    for (size_t i = 0; i < p->n_series; i++) {
        draw_line(c, i);
        draw_points(c, i);
    }
    if (!c->some)
        buf_printf(&c->out, "<text text-anchor=\"middle\" x=\"%d\" y=\"%d\">no data</text>\n",
                   c->left + width / 2, c->top + height / 2);
    buf_puts(&c->out, "</svg>\n");
}

void plot_draw(struct chart *c)
{
    buf_printf(&c->out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"siren-plot\" role=\"img\" "
               "width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n",
               c->width, c->height, c->width, c->height);
    if (c->plot->title && *c->plot->title) {
        buf_puts(&c->out, "<title>");
        plot_put_text(&c->out, c->plot->title, INFINITY, PLOT_TITLE);
        buf_puts(&c->out, "</title>\n");
    }
    buf_puts(&c->out, STYLE);
    buf_puts(&c->out, "<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n");
    draw_axes(c);
    draw_series(c);
    draw_names(c);
    buf_puts(&c->out, "</svg>\n");
}
