/* Man pages in roff, from the same table as --help. */
#include <string.h>

#include "base/buf.h"
#include "cli/frame.h"
#include "siren/file.h"

/* Text with what roff would interpret escaped; a line must not begin with a dot. */
static void roff_text(struct buf *b, const char *text)
{
    int at_start = 1;
    for (const char *p = text; *p; p++) {
        if (at_start && (*p == '.' || *p == '\'')) buf_puts(b, "\\&");
        if (*p == '\\')
            buf_puts(b, "\\e");
        else if (*p == '-')
            buf_puts(b, "\\-");
        else
            buf_putc(b, *p);
        at_start = *p == '\n';
    }
}

static void roff_bold(struct buf *b, const char *text)
{
    buf_puts(b, "\\fB");
    roff_text(b, text);
    buf_puts(b, "\\fR");
}

/* Paragraphs; lines that begin with a space are shown as they are. */
static void roff_paragraphs(struct buf *b, const char *text)
{
    int literal = 0;
    while (*text) {
        size_t n = strcspn(text, "\n");
        int now_literal = *text == ' ';
        if (now_literal != literal) buf_puts(b, literal ? ".EE\n" : ".EX\n");
        literal = now_literal;
        struct buf line = {0};
        buf_append(&line, text, n);
        if (n == 0)
            buf_puts(b, ".PP\n");
        else
            roff_text(b, buf_text(&line));
        if (n) buf_putc(b, '\n');
        buf_free(&line);
        text += n + (text[n] == '\n');
    }
    if (literal) buf_puts(b, ".EE\n");
}

static void roff_option(struct buf *b, const struct cli_option *o)
{
    char name[80];
    buf_puts(b, ".TP\n");
    if (o->letter) {
        snprintf(name, sizeof name, "-%c", o->letter);
        roff_bold(b, name);
        buf_puts(b, ", ");
    }
    snprintf(name, sizeof name, "--%s", o->name);
    roff_bold(b, name);
    if (o->type != CLI_FLAG) {
        buf_puts(b, " \\fI");
        roff_text(b, o->argument ? o->argument : "VALUE");
        buf_puts(b, "\\fR");
    }
    buf_putc(b, '\n');
    roff_text(b, o->help);
    if (o->choices) buf_puts(b, ": ");
    if (o->choices) roff_text(b, o->choices);
    if (o->initial) buf_puts(b, "; default ");
    if (o->initial) roff_text(b, o->initial);
    if (o->environment) buf_printf(b, "; environment variable %s", o->environment);
    buf_putc(b, '\n');
}

/* "siren", "siren-import", "siren-model-info". */
static void page_name(char *out, size_t size, const struct cli_command *c)
{
    snprintf(out, size, "siren%s%s", c ? "-" : "", c ? c->name : "");
    for (char *p = out; *p; p++)
        if (*p == ' ') *p = '-';
}

static void roff_head(struct buf *b, const char *name, const char *summary)
{
    buf_puts(b, ".TH ");
    for (const char *p = name; *p; p++) buf_putc(b, *p >= 'a' && *p <= 'z' ? *p - 32 : *p);
    buf_puts(b, " 1 \"\" \"siren " SIREN_VERSION "\" \"SIREN\"\n.SH NAME\n");
    roff_text(b, name);
    buf_puts(b, " \\- ");
    roff_text(b, summary);
    buf_puts(b, "\n.SH SYNOPSIS\n");
}

static void roff_command(struct buf *b, const struct cli_command *c)
{
    char name[100];
    page_name(name, sizeof name, c);
    roff_head(b, name, c->summary);
    buf_printf(b, "\\fBsiren %s\\fR %s [OPTIONS]\n.SH DESCRIPTION\n", c->name,
               c->usage ? c->usage : "");
    roff_paragraphs(b, c->description && *c->description ? c->description : c->summary);
    buf_puts(b, ".SH OPTIONS\n");
    const struct cli_option *o;
    for (size_t i = 0; (o = cli_option_at(c, i)); i++) roff_option(b, o);
    buf_puts(b, ".SH EXAMPLES\n");
    for (const struct cli_example *e = c->examples; e && e->command; e++) {
        buf_puts(b, ".TP\n");
        roff_bold(b, e->command);
        buf_putc(b, '\n');
        roff_text(b, e->explanation);
        buf_putc(b, '\n');
    }
    buf_puts(
        b,
        ".SH EXIT STATUS\n0: done; 1: failed; 2: a mistake in the command line; 130: "
        "stopped by Ctrl\\-C; 143: by SIGTERM, in the same way.\n.SH SEE ALSO\n\\fBsiren\\fR(1)\n");
}

static void roff_overview(struct buf *b)
{
    roff_head(b, "siren", "predict ratings with a language model and sketches of interests");
    buf_puts(b, "\\fBsiren\\fR COMMAND WORKSPACE [ARGUMENTS] [OPTIONS]\n");
    for (int g = CLI_DATA; g <= CLI_TOOLS; g++) {
        int any = 0;
        for (size_t i = 0; cli_commands[i]; i++) {
            if ((int)cli_commands[i]->group != g) continue;
            if (!any++) buf_printf(b, ".SH \"%s\"\n", cli_group_title((enum cli_group)g));
            char name[100];
            page_name(name, sizeof name, cli_commands[i]);
            buf_puts(b, ".TP\n");
            roff_bold(b, name);
            buf_puts(b, "(1)\n");
            roff_text(b, cli_commands[i]->summary);
            buf_putc(b, '\n');
        }
    }
}

static int write_page(struct cli *cli, const char *folder, const struct cli_command *c)
{
    char name[100];
    struct buf page = {0}, path = {0};
    page_name(name, sizeof name, c);
    buf_printf(&path, "%s/%s.1", folder, name);
    if (c)
        roff_command(&page, c);
    else
        roff_overview(&page);
    int rc = buf_failed(&page) || buf_failed(&path)
                 ? siren_fail_memory(&cli->err, "man page", page.size)
                 : siren_file_write(path.data, page.data, page.size, &cli->err);
    buf_free(&page);
    buf_free(&path);
    return rc;
}

static int write_all(struct cli *cli, const char *folder)
{
    int rc = write_page(cli, folder, NULL);
    for (size_t i = 0; !rc && cli_commands[i]; i++) rc = write_page(cli, folder, cli_commands[i]);
    return rc;
}

static const struct cli_command *find_command(const char *first, const char *second)
{
    char name[100];
    snprintf(name, sizeof name, "%s%s%s", first, second ? " " : "", second ? second : "");
    for (size_t i = 0; cli_commands[i]; i++)
        if (strcmp(cli_commands[i]->name, name) == 0) return cli_commands[i];
    return NULL;
}

static int run(struct cli *cli)
{
    if (cli_given(cli, "directory")) return write_all(cli, cli_string(cli, "directory"));
    const char *first = cli_arg(cli, 0);
    const struct cli_command *c = first ? find_command(first, cli_arg(cli, 1)) : NULL;
    if (first && !c)
        return cli_usage(cli, "\"%s\" is not a command; `siren --help` lists them", first);
    struct buf page = {0};
    if (c)
        roff_command(&page, c);
    else
        roff_overview(&page);
    int rc = buf_failed(&page) ? siren_fail_memory(&cli->err, "man page", page.size) : SIREN_OK;
    if (!rc) cli_print(cli, "%s", page.data);
    buf_free(&page);
    return rc;
}

const struct cli_command cmd_man = {
    .name = "man",
    .group = CLI_TOOLS,
    .summary = "print a command's manual page",
    .usage = "[COMMAND] [SUBCOMMAND]",
    .description = "Prints the manual page of a command in roff, the language of man(1); without a "
                   "command, the page of the program.  With --directory all pages are written as "
                   "files, which is what `make install` does.",
    .options =
        (const struct cli_option[]){
            {.name = "directory",
             .letter = 'd',
             .type = CLI_STRING,
             .argument = "DIR",
             .help = "write all pages into this folder"},
            {0},
        },
    .examples =
        (const struct cli_example[]){
            {"siren man completion | man -l -", "Read the page of `siren completion`."},
            {"siren man --directory ~/.local/share/man/man1", "Write the pages of all commands."},
            {0},
        },
    .run = run,
};
