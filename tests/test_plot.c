#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/plot_axis.h"
#include "golden.h"
#include "scratch.h"
#include "siren/file.h"
#include "siren/plot.h"

static struct siren_error err;

/* ---- a check that a text is well-formed XML, as far as charts use it ---- */

static const char *check_entity(const char *p)
{
    if (strncmp(p, "&#", 2)) fail_msg("an entity by name: %.20s", p);
    for (p += 2; *p != ';'; p++)
        if (*p < '0' || *p > '9') fail_msg("an entity without its end: %.20s", p);
    return p;
}

/* Behind the tag's '<', up to its '>'; every attribute has its quotes. */
static const char *check_attributes(const char *p)
{
    int quoted = 0;
    for (; *p && (quoted || *p != '>'); p++) {
        if (*p == '"') quoted = !quoted;
        if (*p == '<') fail_msg("'<' inside a tag: %.40s", p);
        if (*p == '&') p = check_entity(p);
    }
    if (!*p) fail_msg("a tag without its end");
    return p;
}

static void check_xml(const char *text)
{
    char open[32][16];
    int depth = 0, roots = 0;
    for (const char *p = text; *p; p++) {
        if (*p == '&') p = check_entity(p);
        if ((unsigned char)*p < ' ' && *p != '\n') fail_msg("control character %d", *p);
        if (*p != '<') {
            assert_true(depth > 0 || *p == '\n');
            continue;
        }
        int closing = p[1] == '/';
        size_t n = strcspn(p + 1 + closing, " />\n");
        const char *name = p + 1 + closing;
        p = check_attributes(name);
        if (closing) {
            assert_true(depth > 0);
            depth--;
            if (strlen(open[depth]) != n || strncmp(open[depth], name, n))
                fail_msg("</%.*s> ends <%s>", (int)n, name, open[depth]);
        } else if (p[-1] != '/') {
            assert_true(depth < 32 && n < 16);
            roots += depth == 0;
            snprintf(open[depth++], 16, "%.*s", (int)n, name);
        }
    }
    assert_int_equal(depth, 0);
    assert_int_equal(roots, 1);
}

static void check_with_xmllint(const char *text)
{
    char command[400];
    if (system("command -v xmllint >/dev/null 2>&1")) return;
    snprintf(command, sizeof command, "xmllint --noout '%s'",
             scratch_write("chart.svg", text, strlen(text)));
    assert_int_equal(system(command), 0);
}

/* A checked chart; free() it. */
static char *draw(const struct siren_plot *plot)
{
    char *svg;
    if (siren_plot_svg(plot, &svg, &err)) fail_msg("%s", err.message);
    check_xml(svg);
    check_with_xmllint(svg);
    assert_null(strstr(svg, "nan"));
    assert_null(strstr(svg, "inf"));
    return svg;
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0;
    for (; (text = strstr(text, word)); text++) n++;
    return n;
}

static void expect(const char *svg, const char *word, size_t times)
{
    if (count(svg, word) != times)
        fail_msg("%zu times \"%s\", expected %zu:\n%s", count(svg, word), word, times, svg);
}

/* ---- charts ---- */

static const double curve[] = {2.5, 1.75, 1.25, 1.0, 0.875}, low[] = {2, 1.5, 1, 0.75, 0.75},
                    high[] = {3, 2, 1.5, 1.25, 1}, steps[] = {0, 10, 20, 30, 40}, mode[] = {1.5};

static struct siren_plot example(struct siren_series series[2])
{
    series[0] = (struct siren_series){
        .label = "loss", .n = 5, .x = steps, .y = curve, .low = low, .high = high, .points = 1};
    series[1] = (struct siren_series){.label = "always the mode", .n = 1, .y = mode, .level = 1};
    return (struct siren_plot){.title = "Learning curve",
                               .series = series,
                               .n_series = 2,
                               .x = {.label = "step"},
                               .y = {.label = "loss", .unit = "nats"}};
}

static void test_golden(void **state)
{
    struct siren_series series[2];
    struct siren_plot plot = example(series);
    char *svg = draw(&plot), *again;
    assert_golden("plot.svg", svg);
    /* Numbers do not follow the locale. */
    if (setlocale(LC_ALL, "de_DE.UTF-8") || setlocale(LC_ALL, "fr_FR.UTF-8")) {
        again = draw(&plot);
        assert_string_equal(again, svg);
        free(again);
        setlocale(LC_ALL, "C");
    }
    free(svg);
}

static void test_file_is_the_text(void **state)
{
    struct siren_series series[2];
    struct siren_plot plot = example(series);
    char *svg = draw(&plot), *data;
    size_t size;
    assert_int_equal(siren_plot_write(&plot, 1, scratch_path("curve.svg"), &err), 0);
    assert_int_equal(siren_file_read(&data, &size, scratch_path("curve.svg"), 1 << 20, &err), 0);
    assert_string_equal(data, svg);
    free(svg), free(data);
    assert_int_equal(siren_plot_write(&plot, 1, scratch_path("none/curve.svg"), &err),
                     SIREN_ENOTFOUND);
    assert_non_null(strstr(err.message, "none/curve.svg"));
}

/* Each whole, one below the other, over one range of x. */
static void test_panels(void **state)
{
    const double y[] = {1, 2, 3}, early[] = {1, 2, 3}, late[] = {8, 9, 10};
    struct siren_series series[] = {{.label = "a", .n = 3, .x = early, .y = y},
                                    {.label = "b", .n = 3, .x = late, .y = y}};
    struct siren_plot plots[] = {{.title = "t", .series = series, .n_series = 1, .height = 300},
                                 {.series = series + 1, .n_series = 1, .height = 260}};
    char *svg, *again;
    assert_int_equal(siren_plot_panels(plots, 2, &svg, &err), 0);
    check_with_xmllint(svg);
    assert_non_null(strstr(svg, "width=\"720\" height=\"560\" viewBox=\"0 0 720 560\""));
    assert_non_null(strstr(svg, "<svg y=\"0\""));
    const char *second = strstr(svg, "<svg y=\"300\"");
    assert_non_null(second);
    assert_non_null(strstr(second, ">2</text>")); /* a tick where only the first has points */
    free(svg);
    assert_int_equal(siren_plot_panels(plots, 1, &svg, &err), 0);
    again = draw(plots);
    assert_string_equal(svg, again);
    free(svg), free(again);
    assert_int_equal(siren_plot_panels(plots, 0, &svg, &err), SIREN_EINVAL);
    plots[1].n_series = 1, plots[1].series = NULL;
    assert_int_equal(siren_plot_panels(plots, 2, &svg, &err), SIREN_EINVAL);
    assert_null(svg);
}

static void test_nothing_to_draw(void **state)
{
    const double gaps[3] = {NAN, INFINITY, -INFINITY};
    struct siren_series series = {.label = "gaps", .n = 3, .y = gaps};
    const struct siren_plot plots[] = {
        {.n_series = 0},
        {.series = &series, .n_series = 1},
        {.x = {.log = 10}, .y = {.log = 2}, .series = &series, .n_series = 1},
        {.y = {.min = 1, .max = 5}, .title = "fixed"},
    };
    for (size_t i = 0; i < sizeof plots / sizeof *plots; i++) {
        char *svg = draw(&plots[i]);
        expect(svg, "no data", 1);
        expect(svg, "class=\"line", 0);
        free(svg);
    }
}

/* A level that is a gap has no place. */
static void test_no_level(void **state)
{
    const double gaps[] = {NAN, INFINITY, -1};
    for (int i = 0; i < 3; i++) {
        const struct siren_series series = {.n = 1, .y = &gaps[i], .level = 1};
        const struct siren_plot plot = {
            .y = {.log = 10, .min = 1, .max = 5}, .series = &series, .n_series = 1};
        char *svg = draw(&plot);
        expect(svg, "class=\"line", 0);
        free(svg);
    }
}

static void test_one_point(void **state)
{
    const double values[] = {0, 1, -3.5, 1e-300, 1e300, -1e308, 5e-324, 123456.75};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        const struct siren_series series = {.n = 1, .y = &values[i], .x = &values[i]};
        struct siren_plot plot = {.series = &series, .n_series = 1};
        for (int log = 0; log < 2; log++) {
            plot.x.log = plot.y.log = log * 10;
            char *svg = draw(&plot);
            expect(svg, "<circle", !log || values[i] > 0);
            free(svg);
        }
    }
}

static void test_gaps(void **state)
{
    const double y[] = {1, 2, NAN, 3, INFINITY, 4, 5, 6}, x[] = {0, 1, 2, 3, 4, 5, NAN, 7};
    const double below[] = {0, 1, 2, 2, 3, 3, 4, 5}, above[] = {2, 3, 4, NAN, 5, 5, 6, 7};
    struct siren_series series = {.n = 8, .y = y, .x = x, .low = below, .high = above};
    const struct siren_plot plot = {.series = &series, .n_series = 1};
    char *svg = draw(&plot);
    /* 0-1 is a line; 3, 5 and 7 stand alone.  The band has a gap more: at 3. */
    expect(svg, "class=\"line", 1);
    expect(svg, "<circle", 3);
    expect(svg, "class=\"band", 1);
    expect(svg, "class=\"bar", 2);
    free(svg);
    series.points = 1;
    svg = draw(&plot);
    expect(svg, "<circle", 5);
    free(svg);
}

static void test_text_is_escaped(void **state)
{
    struct siren_series series[2];
    struct siren_plot plot = example(series);
    char name[] = "\x01 \xff <b>&\"' \xed\xa0\x80 ok";
    plot.title = series[0].label = plot.x.label = plot.y.label = plot.y.unit = name;
    char *svg = draw(&plot);
    expect(svg, "\xef\xbf\xbd \xef\xbf\xbd &#60;b&#62;&#38;&#34;'", 6);
    free(svg);
}

static void test_long_text_is_cut(void **state)
{
    char name[2000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    struct siren_series series[2];
    struct siren_plot plot = example(series);
    plot.title = series[0].label = plot.x.label = plot.y.label = name;
    char *svg = draw(&plot);
    expect(svg, "…", 4);
    expect(svg, "<title>", 5); /* the chart's own, and what was cut */
    free(svg);
}

static void test_many_points_stay_small(void **state)
{
    enum { N = 200000 };
    double *y = malloc(N * sizeof *y), *above = malloc(N * sizeof *y);
    for (int i = 0; i < N; i++) y[i] = sin(i * 0.7) + (i == 70001 ? 9 : 0), above[i] = y[i] + 1;
    const struct siren_series series = {.n = N, .y = y, .low = y, .high = above};
    const struct siren_plot plot = {.series = &series, .n_series = 1};
    char *svg = draw(&plot);
    assert_true(strlen(svg) < 150000);
    expect(svg, ">10<", 1); /* the one extreme is still there */
    free(svg), free(y), free(above);
}

static void test_many_series(void **state)
{
    struct siren_series series[60];
    char names[60][40];
    for (int i = 0; i < 60; i++) {
        snprintf(names[i], sizeof names[i], "series number %d", i);
        series[i] = (struct siren_series){.label = names[i], .n = 5, .y = curve};
    }
    const struct siren_plot plot = {
        .series = series, .n_series = 60, .width = 300, .height = 240, .title = "Many"};
    char *svg = draw(&plot);
    expect(svg, "series number", 60);
    expect(svg, "class=\"line", 120);
    free(svg);
}

static void test_errors(void **state)
{
    struct siren_series series[2];
    const struct {
        struct siren_plot plot;
        const char *word;
    } cases[] = {
        {{.width = 100}, "100 × 420"},
        {{.height = 5000}, "720 × 5000"},
        {{.n_series = 2}, "2 series"},
        {{.x = {.log = 3}}, "axis x: log is 3"},
        {{.y = {.log = 10, .max = 1}}, "axis y: range from 0"},
        {{.y = {.min = 2, .max = 1}}, "axis y: range 2 … 1"},
        {{.y = {.min = 2, .max = NAN}}, "axis y: range"},
    };
    char *svg;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(siren_plot_svg(&cases[i].plot, &svg, &err), SIREN_EINVAL);
        if (!strstr(err.message, cases[i].word)) fail_msg("%s", err.message);
        assert_null(svg);
    }
    struct siren_plot plot = example(series);
    series[0].high = NULL;
    assert_int_equal(siren_plot_svg(&plot, &svg, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "series 0: one edge"));
    plot = example(series);
    series[1].y = NULL;
    assert_int_equal(siren_plot_svg(&plot, &svg, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "series 1: 1 points without y"));
    plot = example(series);
    series[0].level = 1;
    assert_int_equal(siren_plot_svg(&plot, &svg, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "level of 5 points"));
}

/* ---- ticks ---- */

static void ticks_of(double from, double to, int log, int whole, int max, int round,
                     const char *wanted)
{
    struct plot_axis axis;
    char got[2000] = "";
    plot_axis_make(&axis, from, to, log, whole, max, round);
    for (int i = 0; i < axis.n; i++) {
        assert_true(axis.ticks[i].at >= 0 && axis.ticks[i].at <= 1);
        assert_true(i == 0 || axis.ticks[i].at > axis.ticks[i - 1].at);
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i ? " " : "",
                 axis.ticks[i].text);
    }
    if (*axis.power) snprintf(got + strlen(got), sizeof got - strlen(got), " ×%s", axis.power);
    assert_string_equal(got, wanted);
}

static void ticks(double from, double to, int log, int max, int round, const char *wanted)
{
    ticks_of(from, to, log, 0, max, round, wanted);
}

static void test_ticks(void **state)
{
    ticks_of(1, 2, 0, 1, 10, 0, "1 2"); /* steps */
    ticks_of(2, 2, 0, 1, 10, 0, "2");
    ticks_of(0, 3, 0, 1, 10, 0, "0 1 2 3");
    ticks_of(0, 100, 0, 1, 5, 0, "0 20 40 60 80 100");
    ticks(0, 1, 0, 5, 0, "0 0.2 0.4 0.6 0.8 1.0");
    ticks(0.13, 0.92, 0, 5, 1, "0 0.2 0.4 0.6 0.8 1.0");
    ticks(-3, 17, 0, 4, 0, "0 5 10 15");
    ticks(-3, 17, 0, 4, 1, "−5 0 5 10 15 20");
    ticks(-0.05, 0.05, 0, 5, 1, "−0.06 −0.04 −0.02 0 0.02 0.04 0.06");
    ticks(0, 99999, 0, 5, 1, "0 20000 40000 60000 80000 100000");
    ticks(0, 2.5e6, 0, 5, 1, "0 0.5 1.0 1.5 2.0 2.5 ×10⁶");
    ticks(1e-5, 4e-5, 0, 4, 0, "10 20 30 40 ×10⁻⁶");
    ticks(0.999, 1.001, 0, 4, 0, "0.9990 0.9995 1.0000 1.0005 1.0010");
    ticks(7, 7, 0, 4, 1, "6.6 6.8 7.0 7.2 7.4");
    ticks(0, 0, 0, 2, 1, "−1 0 1");
    ticks(1e-6, 1e3, 10, 5, 0, "10⁻⁶ 0.0001 0.01 1 100");
    ticks(1, 64, 2, 8, 0, "1 2 4 8 16 32 64");
    ticks(0.5, 1 << 20, 2, 5, 0, "1 32 1024 32768 2²⁰");
    ticks(0.3, 30, 10, 8, 0, "0.5 1 2 5 10 20");
    ticks(3, 5, 10, 4, 0, "3.0 3.5 4.0 4.5 5.0");
    ticks(2e7, 3e8, 10, 8, 0, "2·10⁷ 5·10⁷ 10⁸ 2·10⁸");
}

static void test_ticks_of_any_range(void **state)
{
    const double v[] = {-1e308, -1e300, -12345.678, -1e-300,    0,   5e-324, 1e-308,
                        1e-290, 1e-9,   1,          1.00000001, 3.3, 1e17,   1e308};
    enum { N = sizeof v / sizeof *v };
    const int logs[] = {0, 2, 10};
    for (int i = 0; i < N; i++)
        for (int j = i; j < N; j++)
            for (int k = 0; k < 6; k++) {
                struct plot_axis axis;
                if (logs[k % 3] && v[i] <= 0) continue;
                plot_axis_make(&axis, v[i], v[j], logs[k % 3], k % 2, 3 + k, k % 2);
                if (!(axis.low < axis.high) || axis.n < 1)
                    fail_msg("%g … %g, log %d: %g … %g, %d ticks", v[i], v[j], logs[k % 3],
                             axis.low, axis.high, axis.n);
                for (int t = 0; t < axis.n; t++)
                    assert_true(axis.ticks[t].at >= 0 && axis.ticks[t].at <= 1);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_file_is_the_text),
        cmocka_unit_test(test_panels),
        cmocka_unit_test(test_nothing_to_draw),
        cmocka_unit_test(test_no_level),
        cmocka_unit_test(test_one_point),
        cmocka_unit_test(test_gaps),
        cmocka_unit_test(test_text_is_escaped),
        cmocka_unit_test(test_long_text_is_cut),
        cmocka_unit_test(test_many_points_stay_small),
        cmocka_unit_test(test_many_series),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_ticks),
        cmocka_unit_test(test_ticks_of_any_range),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
