/* Inside of the command-line frame; commands include cli.h only. */
#ifndef SIREN_CLI_FRAME_H
#define SIREN_CLI_FRAME_H

#include <stdarg.h>
#include <stdio.h>

#include "cli/cli.h"

struct cli_value {
    const struct cli_option *option;
    const char *text;
};

struct cli_state {
    struct cli_value *values; /* as given, in order */
    size_t n_values;
    const char **args;
    size_t n_args;
    int usage_error; /* cli_usage() was called: exit code 2 */
    int want_help, want_version;
    struct siren_pool *pool;
    struct siren_progress progress;
    char what[64];  /* the unit of the work that is watched; "" when none is */
    char news[200]; /* what stood behind the colon last */
    double started, drawn;
    uint64_t first, done, total;
    int visible;  /* the bar is on the terminal's current line */
    int lines;    /* lines or bars printed about this work */
    int catching; /* Ctrl-C is caught */
};

/* All commands, alphabetical, ends with NULL (commands.def). */
extern const struct cli_command *const cli_commands[];
/* The index-th option of a command: its own, then the shared, then those of
 * every command; NULL behind the last.  command may be NULL. */
const struct cli_option *cli_option_at(const struct cli_command *command, size_t index);
const struct cli_option *cli_find_option(const struct cli_command *command, const char *name,
                                         size_t length);
/* An argument of this name ("FILE", "WORKSPACE") is a path: it is completed as one, and may have
 * any bytes. */
int cli_is_path(const char *argument);
int cli_is_own_option(const struct cli_command *command, const struct cli_option *option);

/* Fills command, values and args from argv; 0 or SIREN_EINVAL with cli->err. */
int cli_parse(struct cli *cli, int argc, char **argv);

/* Installs a SIGBUS handler: if a mapped file was truncated by another program, it prints the
 * file's name and exits with 1.  Any other SIGBUS has its default action. */
void cli_catch_bus_errors(void);

/* For people: what would steer a terminal becomes a mark (base/visible.h), lines stay. */
void cli_put(FILE *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_vput(FILE *to, const char *format, va_list args);

const char *cli_group_title(enum cli_group group);
void cli_help_overview(FILE *out, int color);
void cli_help_command(const struct cli_command *command, FILE *out, int color);
void cli_help_family(const char *first_word, FILE *out, int color);

/* Text whose lines are indented and wrapped to `width` columns; the cursor is at column `at`. */
void cli_wrap(FILE *out, const char *text, int at, int indent, int width);
int cli_terminal_width(int fd);

/* The closest name of a command, or of a command's options; NULL: none is near. */
const char *cli_nearest_command(const char *word);
const char *cli_nearest_option(const struct cli_command *command, const char *word);

#endif
