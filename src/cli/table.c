/* Aligned tables on standard output. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/visible.h"
#include "cli/frame.h"

/* The first cell of a row that is a rule; no cell's text has it. */
static const char RULE[] = "\001";

struct cli_table {
    size_t n_columns, n_cells, capacity;
    char **cells; /* row by row, the headings first */
    char *align;
    int failed;
};

static void add_cell(struct cli_table *t, char *text)
{
    if (!text || alloc_grow(&t->cells, &t->capacity, t->n_cells + 1, sizeof *t->cells)) {
        free(text);
        t->failed = 1;
        return;
    }
    t->cells[t->n_cells++] = text;
}

static void free_table(struct cli_table *t)
{
    for (size_t i = 0; i < t->n_cells; i++) free(t->cells[i]);
    free(t->cells);
    free(t->align);
    free(t);
}

struct cli_table *cli_table_create(const char *columns, const char *align)
{
    struct cli_table *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->n_columns = strlen(align);
    t->align = alloc_string(align, t->n_columns);
    for (size_t i = 0; i < t->n_columns; i++) {
        size_t n = strcspn(columns, "|");
        add_cell(t, alloc_string(columns, n));
        columns += n + (columns[n] == '|');
    }
    if (!t->align || t->failed) {
        free_table(t);
        return NULL;
    }
    return t;
}

void cli_table_cell(struct cli_table *t, const char *format, ...)
{
    if (!t) return;
    struct buf text = {0}, seen = {0};
    va_list args;
    va_start(args, format);
    buf_vprintf(&text, format, args);
    va_end(args);
    seen.failed = buf_failed(&text);
    visible_append(&seen, buf_text(&text), text.size, 0);
    buf_free(&text);
    add_cell(t, buf_take(&seen));
}

void cli_table_rule(struct cli_table *t)
{
    if (!t || t->failed) return;
    while (!t->failed && t->n_cells % t->n_columns) add_cell(t, alloc_string("", 0));
    for (size_t i = 0; i < t->n_columns; i++) add_cell(t, alloc_string(RULE, i == 0));
}

static void print_cell(const char *text, char align, size_t width, int last)
{
    size_t columns = cli_text_width(text);
    if (columns > width) {
        size_t skipped = columns, taken;
        const char *end = "";
        if (align == 'M') end = text + cli_text_fit(text, columns - (width - 1) / 4, &skipped);
        size_t most = width - 1 - (columns - skipped), bytes = cli_text_fit(text, most, &taken);
        printf("%.*s…%s%*s", (int)bytes, text, end, last ? 0 : (int)(most - taken), "");
        return;
    }
    int pad = (int)(width - columns);
    if (align == 'r')
        printf("%*s%s", pad, "", text);
    else
        printf("%s%*s", text, last ? 0 : pad, "");
}

/* The widest column that may shrink, or n_columns. */
static size_t widest_flexible(const struct cli_table *t, const size_t *widths)
{
    size_t widest = t->n_columns;
    for (size_t c = 0; c < t->n_columns; c++)
        if (strchr("LM", t->align[c]) && (widest == t->n_columns || widths[c] > widths[widest]))
            widest = c;
    return widest;
}

/* Column widths; those that may shrink give what the terminal lacks. */
static void measure_columns(const struct cli_table *t, size_t *widths)
{
    size_t total = 0;
    for (size_t c = 0; c < t->n_columns; c++) {
        widths[c] = 1;
        for (size_t i = c; i < t->n_cells; i += t->n_columns) {
            size_t w = cli_text_width(t->cells[i]);
            if (w > widths[c]) widths[c] = w;
        }
        total += widths[c] + 2;
    }
    if (!isatty(STDOUT_FILENO)) return;
    for (size_t room = (size_t)cli_terminal_width(STDOUT_FILENO) + 2; total > room; total--) {
        size_t c = widest_flexible(t, widths);
        if (c == t->n_columns || widths[c] <= 8) return;
        widths[c]--;
    }
}

static void print_rule(const struct cli_table *t, const size_t *widths)
{
    for (size_t c = 0; c < t->n_columns; c++) {
        for (size_t k = 0; k < widths[c]; k++) fputs("─", stdout);
        fputs(c + 1 < t->n_columns ? "  " : "\n", stdout);
    }
}

static void print_row(const struct cli_table *t, size_t row, const size_t *widths)
{
    char **cells = t->cells + row * t->n_columns;
    size_t have = t->n_cells - row * t->n_columns;
    if (have > t->n_columns) have = t->n_columns;
    if (strcmp(cells[0], RULE) == 0) {
        print_rule(t, widths);
        return;
    }
    for (size_t c = 0; c < have; c++) {
        print_cell(cells[c], t->align[c], widths[c], c + 1 == have);
        fputs(c + 1 == have ? "\n" : "  ", stdout);
    }
}

void cli_table_print(struct cli *cli, struct cli_table *t)
{
    if (!t) return;
    cli_progress_end(cli);
    size_t *widths = alloc_zeroed(t->n_columns, sizeof *widths);
    if (widths && !t->failed) {
        measure_columns(t, widths);
        for (size_t row = 0; row * t->n_columns < t->n_cells; row++) {
            print_row(t, row, widths);
            if (row == 0) print_rule(t, widths);
        }
    } else {
        cli_note(cli, "out of memory for a table");
    }
    free(widths);
    free_table(t);
}
