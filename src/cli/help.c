/* --help: the overview, one command, a family of commands ("siren model"). */
#include <string.h>
#include <unistd.h>

#include "cli/frame.h"

static int text_width(FILE *out)
{
    int width = cli_terminal_width(fileno(out));
    return width > 100 ? 100 : width < 50 ? 50 : width;
}

static void heading(FILE *out, int color, const char *title)
{
    fprintf(out, color ? "\n\033[1m%s\033[0m\n" : "\n%s\n", title);
}

static void print_command_line(FILE *out, const struct cli_command *c)
{
    int at = fprintf(out, "  %-16s ", c->name);
    cli_wrap(out, c->summary, at, 19, text_width(out));
}

static void print_groups(FILE *out, int color)
{
    for (int g = CLI_DATA; g <= CLI_TOOLS; g++) {
        int any = 0;
        for (size_t i = 0; cli_commands[i]; i++) {
            if ((int)cli_commands[i]->group != g) continue;
            if (!any++) heading(out, color, cli_group_title((enum cli_group)g));
            print_command_line(out, cli_commands[i]);
        }
    }
}

static const char *const first_session[][2] = {
    {"siren import films.siren ratings.csv", "ratings into a new workspace"},
    {"siren embed films.siren --encoder DIR", "a vector for each item's text"},
    {"siren topics films.siren --model FILE", "cluster the items, name the topics"},
    {"siren sketch films.siren --user 42", "what a user likes and dislikes"},
    {"siren rank films.siren --user 42 --model FILE", "the ten best unseen items"},
    {"siren eval films.siren --split test --model FILE", "how far off are the predictions?"},
};

void cli_help_overview(FILE *out, int color)
{
    cli_wrap(out,
             "siren " SIREN_VERSION " predicts the ratings that people would give, with a language "
             "model that reads a sketch of their long-term interests.",
             0, 0, text_width(out));
    heading(out, color, "Usage");
    fputs("  siren COMMAND WORKSPACE [ARGUMENTS] [OPTIONS]\n"
          "  A workspace is one file that holds ratings, topics, sketches and results.\n",
          out);
    heading(out, color, "A first session");
    for (size_t i = 0; i < sizeof first_session / sizeof *first_session; i++)
        fprintf(out, "  %-49s # %s\n", first_session[i][0], first_session[i][1]);
    print_groups(out, color);
    fputs("\n`siren COMMAND --help` explains a command, with examples.\n", out);
}

void cli_help_family(const char *first_word, FILE *out, int color)
{
    size_t n = strlen(first_word);
    fprintf(out, "Usage: siren %s SUBCOMMAND [ARGUMENTS] [OPTIONS]\n", first_word);
    heading(out, color, "Subcommands");
    for (size_t i = 0; cli_commands[i]; i++)
        if (strncmp(cli_commands[i]->name, first_word, n) == 0 && cli_commands[i]->name[n] == ' ')
            print_command_line(out, cli_commands[i]);
}

/* What stands behind the help text: choices, default, environment variable. */
static void facts(const struct cli_option *o, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "%s", o->help);
    if (o->choices && n < size) n += (size_t)snprintf(out + n, size - n, ": %s", o->choices);
    if (o->initial && n < size)
        n += (size_t)snprintf(out + n, size - n, " (default %s%s%s)", o->initial,
                              o->environment ? ", or $" : "", o->environment ? o->environment : "");
    else if (o->environment && n < size)
        snprintf(out + n, size - n, " (or $%s)", o->environment);
}

static void print_option(FILE *out, const struct cli_option *o)
{
    enum { COLUMN = 28 };
    char text[1200];
    int at = o->letter ? fprintf(out, "  -%c, --%s", o->letter, o->name)
                       : fprintf(out, "      --%s", o->name);
    if (o->type != CLI_FLAG) at += fprintf(out, " %s", o->argument ? o->argument : "VALUE");
    if (at >= COLUMN - 1) {
        fputc('\n', out);
        at = 0;
    }
    facts(o, text, sizeof text);
    cli_wrap(out, text, at, COLUMN, text_width(out));
}

static void print_options(FILE *out, const struct cli_command *c, int color, int own)
{
    const struct cli_option *o;
    int any = 0;
    for (size_t i = 0; (o = cli_option_at(c, i)); i++) {
        if (cli_is_own_option(c, o) != own) continue;
        if (!any++) heading(out, color, own ? "Options" : "Common options");
        print_option(out, o);
    }
}

void cli_help_command(const struct cli_command *c, FILE *out, int color)
{
    int width = text_width(out), has_args = c->usage && *c->usage;
    fprintf(out, "Usage: siren %s%s%s [OPTIONS]\n\n", c->name, has_args ? " " : "",
            has_args ? c->usage : "");
    cli_wrap(out, c->description && *c->description ? c->description : c->summary, 0, 0, width);
    print_options(out, c, color, 1);
    print_options(out, c, color, 0);
    heading(out, color, "Examples");
    for (const struct cli_example *e = c->examples; e && e->command; e++) {
        fprintf(out, "  %s\n", e->command);
        cli_wrap(out, e->explanation, 0, 6, width);
    }
}
