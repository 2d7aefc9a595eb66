/* The frame of the command line: what a command declares and what it is given.
 *
 * To add a command:
 *   1. Write src/cli/cmd_NAME.c with one `const struct cli_command cmd_NAME`
 *      (cmd_man.c is a complete, short example).
 *   2. Add the line COMMAND(cmd_NAME) to src/cli/commands.def, in alphabetical order.
 * Parsing, --help, the man page and shell completion follow from the table;
 * tests/test_cli.c runs the help of every command and wants at least one example.
 *
 * A command is a thin layer: it reads its options, calls the library, prints.
 * Its `run` returns 0 or a negative code with the message in cli->err:
 *
 *     static int run(struct cli *cli)
 *     {
 *         const char *path = cli_arg(cli, 0);
 *         long long top = cli_int(cli, "top");
 *         struct siren_workspace *ws;
 *         int rc = siren_workspace_open(&ws, path, …, &cli->err);
 *         if (rc) return rc;
 *         …
 *     }
 *
 * The frame prints "siren: message" and ends with exit code 1 (2 for a mistake
 * in the command line, 130 after Ctrl-C).  Results go to standard output,
 * everything else (progress, notes) to standard error. */
#ifndef SIREN_CLI_H
#define SIREN_CLI_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/pool.h"
#include "siren/progress.h"

/* ---- What a command declares ---- */

enum cli_type { CLI_FLAG, CLI_INT, CLI_FLOAT, CLI_STRING, CLI_CHOICE };

struct cli_option {
    const char *name; /* "top" for --top */
    char letter;      /* 't' for -t, or 0 */
    enum cli_type type;
    const char *argument;    /* "N", "TEXT"; one of cli_is_path() may have any bytes */
    const char *initial;     /* value when not given, shown in the help; NULL: none */
    const char *help;        /* lower case, no final dot; the default is added by the frame */
    const char *choices;     /* CLI_CHOICE: "mean|median|argmax" */
    double min, max;         /* CLI_INT, CLI_FLOAT: the range, checked when min < max */
    const char *environment; /* a variable that replaces `initial` when it is set */
    int once;                /* 1: it says who or what is meant: given twice is a mistake */
    int writes; /* 1: the file of this name is made anew; one that is given besides is refused */
};

/* Rows of a table with many of them, a call each; what follows the help are further fields, such
 * as .letter = 'o'. */
#define OPTION_FLAG(word, explanation)                                                             \
    {                                                                                              \
        .name = word, .type = CLI_FLAG, .help = explanation                                        \
    }
#define OPTION_STRING(word, what, from, explanation, ...)                                          \
    {                                                                                              \
        .name = word, .type = CLI_STRING, .argument = what, .initial = from, .help = explanation,  \
        __VA_ARGS__                                                                                \
    }
#define OPTION_CHOICE(word, what, from, list, explanation)                                         \
    {                                                                                              \
        .name = word, .type = CLI_CHOICE, .argument = what, .initial = from, .choices = list,      \
        .help = explanation                                                                        \
    }
#define OPTION_NUMBER(kind, word, what, from, low, high, explanation, ...)                         \
    {                                                                                              \
        .name = word, .type = kind, .argument = what, .initial = from, .min = low, .max = high,    \
        .help = explanation, __VA_ARGS__                                                           \
    }
#define OPTION_INT(...) OPTION_NUMBER(CLI_INT, __VA_ARGS__)
#define OPTION_FLOAT(...) OPTION_NUMBER(CLI_FLOAT, __VA_ARGS__)

struct cli_example {
    const char *command; /* "siren rank films.siren --user 42 --top 10" */
    const char *explanation;
};

/* Sections of `siren --help`, in the order of a first session. */
enum cli_group {
    CLI_DATA,
    CLI_UNDERSTAND,
    CLI_PREDICT,
    CLI_JUDGE,
    CLI_TRAIN,
    CLI_INSPECT,
    CLI_TOOLS
};

/* Options that many commands share, declared once in cli/common.c; a command
 * lists those that it honours.  --quiet, --no-color and --help are always there. */
enum cli_common {
    CLI_JSON = 1 << 0,    /* --json */
    CLI_SEED = 1 << 1,    /* --seed N, default 1 */
    CLI_THREADS = 1 << 2, /* --threads N, default 0: all processors; see cli_pool() */
    CLI_MODEL = 1 << 3,   /* --model FILE-OR-DIR, or $SIREN_MODEL; see cli_need() */
    CLI_ENCODER = 1 << 4, /* --encoder DIR, or $SIREN_ENCODER; see cli_need() */
    CLI_USER = 1 << 5,    /* --user ID, once */
    CLI_ITEM = 1 << 6,    /* --item ID, once */
    CLI_SPLIT = 1 << 7,   /* --split NAME */
    CLI_ISA = 1 << 8, /* --isa auto|portable|avx2|avx512|amx, --compute f32|bf16, or $SIREN_… */
    CLI_ADAPTER = 1 << 9, /* --adapter DIR, of the model */
    CLI_ITEMS = 1 << 10,  /* --item ID, may be repeated: cli_count(), cli_string_at() */
};

struct cli;

struct cli_command {
    const char *name; /* "import", or two words: "model info" */
    enum cli_group group;
    const char *summary; /* one line, begins with a verb in lower case, no final dot */
    /* Positional arguments, separated by spaces: WORKSPACE, [USER] optional,
     * FILE... one or more, [FILE...] any number.  The frame checks their count. */
    const char *usage;
    /* Paragraphs separated by an empty line; lines that begin with a space are
     * kept as they are. */
    const char *description;
    /* For completion: what its argument number words_at, from 1, may be: "bash|zsh".  NULL: a path.
     */
    const char *words;
    int words_at;
    unsigned common;                    /* CLI_JSON | … */
    const struct cli_option *options;   /* its own; ends with an empty one; may be NULL */
    const struct cli_example *examples; /* ends with an empty one; at least one */
    int (*run)(struct cli *cli);
};

/* ---- What its run() is given ---- */

struct cli_state;

struct cli {
    struct siren_error err; /* for the library functions that run() calls */
    int json, quiet;        /* --json, --quiet */
    const struct cli_command *command;
    struct cli_state *state; /* the frame's own */
};

/* Positional arguments; NULL behind the last. */
const char *cli_arg(const struct cli *cli, size_t index);
size_t cli_n_args(const struct cli *cli);

/* Values of options that the command declares (any other name is a bug in the
 * command and ends the program).  The last one given counts, but of those
 * that are said `once`. */
int cli_flag(const struct cli *cli, const char *name);
long long cli_int(const struct cli *cli, const char *name);
double cli_float(const struct cli *cli, const char *name);
const char *cli_string(const struct cli *cli, const char *name); /* NULL: not given, no default */
/* The place of a CLI_CHOICE's value in its list: that of an enum in the same order. */
int cli_choice(const struct cli *cli, const char *name);
int cli_given(const struct cli *cli, const char *name);    /* on the command line or environment */
size_t cli_count(const struct cli *cli, const char *name); /* how often it was given */
const char *cli_string_at(const struct cli *cli, const char *name, size_t index);

/* A usage error for the first of these options (the list ends with NULL) that stands on the command
 * line: "--limit: WHY".  What only the environment sets is meant for commands that want it. */
int cli_refuse(struct cli *cli, const char *const *names, const char *why);

/* A value that the command cannot do without: NULL with a usage error in
 * cli->err ("--model is needed …") when it is not given. */
const char *cli_need(struct cli *cli, const char *name);
/* Text of an option as a time in ms, or a usage error. */
int cli_time(struct cli *cli, const char *name, const char *text, int64_t *time);
/* What a library function returned that was given the options as they stand: its SIREN_EINVAL is a
 * usage error.  Returns rc. */
int cli_options_given(struct cli *cli, int rc);
/* A mistake in the command line: sets cli->err, returns the code for run() to return. */
int cli_usage(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The pool of --threads, made at the first call, freed by the frame; NULL: see cli->err. */
struct siren_pool *cli_pool(struct cli *cli);

/* ---- Long work ---- */

/* A bar on a terminal, a line every ten seconds elsewhere, nothing with --quiet.
 * From the first call on, Ctrl-C or SIGTERM asks the work to stop (update returns 1, and
 * *cli_cancel() becomes non-zero); a second one kills. */
const struct siren_progress *cli_progress(struct cli *cli);
const volatile int *cli_cancel(struct cli *cli);
/* What a program exits with that was asked to stop: 128 + the signal's number. */
int cli_stopped_status(void);
/* A line above the bar, which goes on; unless --quiet. */
void cli_progress_note(struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* End the bar's line; also done by every other printing function here. */
void cli_progress_end(struct cli *cli);

/* ---- Printing ----
 *
 * Titles, ids, names and what a model writes are foreign text.  All but cli_print_text() may be
 * given it as it is: on a line, in a cell or in JSON no byte of it steers a terminal. */

/* A line on standard error, unless --quiet; the newline is added. */
void cli_note(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* On standard output. */
void cli_print(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A text that is the output, such as a model's answer: its very bytes, or on a terminal what
 * cli_print() would show.  Returns the bytes taken: all, but where it is unfinished a last
 * character that is not whole is left on a terminal, to be given again with what follows. */
size_t cli_print_text(struct cli *cli, const char *text, size_t length, int unfinished);
/* One JSON value on one line of standard output; takes over the reference.
 * NULL (jansson could not allocate) is reported: returns 0 or SIREN_ENOMEM. */
int cli_print_json(struct cli *cli, json_t *value);

/* "1,234,567", "1 row", "1,234 rows", "93.8 MB", "3 min 20 s", "12.3 ms"; each in one of sixteen
 * rotating buffers. */
const char *cli_number(uint64_t n);
const char *cli_counted(uint64_t n, const char *one); /* with the plural in s */
const char *cli_bytes(uint64_t n);
const char *cli_seconds(double seconds);

/* A word of a command that is printed, as a shell reads it: in quotes where it needs them.  It is
 * `text` itself, or one of eight rotating buffers. */
const char *cli_word(const char *text);

/* An aligned table.  columns: "Model|MAE|RMSE"; align: a letter for each: l left,
 * r right, L left and shortened with "…" when the terminal is too narrow, M so but
 * for the last quarter (names of runs often differ at their ends only).
 * Cells are added from left to right; a full row begins the next. */
struct cli_table;
struct cli_table *cli_table_create(const char *columns, const char *align);
void cli_table_cell(struct cli_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cli_table_rule(struct cli_table *table); /* a line between rows */
/* Prints to standard output and frees.  NULL (no memory) is allowed everywhere. */
void cli_table_print(struct cli *cli, struct cli_table *table);

/* Columns that a text takes on a terminal. */
size_t cli_text_width(const char *text);
/* Bytes of a text that fit into `columns`, of which they take *taken. */
size_t cli_text_fit(const char *text, size_t columns, size_t *taken);

#endif
