/* argv → command, option values, positional arguments. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/utf8.h"
#include "cli/frame.h"

int cli_usage(struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(cli->err.message, sizeof cli->err.message, format, args);
    va_end(args);
    cli->state->usage_error = 1;
    return cli->err.code = SIREN_EINVAL;
}

/* ---- Values ---- */

static int in_choices(const char *choices, const char *text)
{
    size_t n = strlen(text);
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strcspn(p, "|") == n && memcmp(p, text, n) == 0) return 1;
    return 0;
}

static void range_text(const struct cli_option *o, char *out, size_t size)
{
    const char *const from_to[] = {" from %.10g to %.10g", " from %.0f to %.0f"};
    const char *const least[] = {" of at least %.10g", " of at least %.0f"};
    int whole = o->type == CLI_INT; /* which is not given as 1e9 */
    out[0] = 0;
    if (o->min < o->max && o->max < 1e15)
        snprintf(out, size, from_to[whole], o->min, o->max);
    else if (o->min < o->max)
        snprintf(out, size, least[whole], o->min);
}

/* Texts meet data and go into JSON; paths may have any bytes. */
static int check_text(struct cli *cli, const char *dashes, const char *name, const char *argument,
                      const char *text)
{
    size_t valid = utf8_valid_prefix(text, strlen(text));
    if (!text[valid] || cli_is_path(argument)) return SIREN_OK;
    return cli_usage(cli, "%s%s: found \"%s\", which is no UTF-8 from byte %zu on", dashes, name,
                     text, valid);
}

static int check_value(struct cli *cli, const struct cli_option *o, const char *text)
{
    char *end = NULL, range[80];
    double value = 0;
    errno = 0;
    if (o->type == CLI_INT) value = (double)strtoll(text, &end, 10);
    if (o->type == CLI_FLOAT) value = strtod(text, &end);
    int hexadecimal = o->type == CLI_FLOAT && strpbrk(text, "xXpP"); /* in no file either */
    int number = o->type == CLI_INT || o->type == CLI_FLOAT;
    int bad = number && (errno || hexadecimal || end == text || *end || !isfinite(value) ||
                         (o->min < o->max && (value < o->min || value > o->max)));
    range_text(o, range, sizeof range);
    if (errno == ERANGE && o->type == CLI_INT && !*end && o->max >= 1e15)
        snprintf(range + strlen(range), sizeof range - strlen(range), ", up to %lld", LLONG_MAX);
    if (bad)
        return cli_usage(cli, "--%s: found \"%s\", expected a %snumber%s", o->name, text,
                         o->type == CLI_INT ? "whole " : "", range);
    if (o->type == CLI_STRING && check_text(cli, "--", o->name, o->argument, text))
        return cli->err.code;
    if (o->type == CLI_CHOICE && !in_choices(o->choices, text))
        return cli_usage(cli, "--%s: found \"%s\", expected one of %s", o->name, text, o->choices);
    return SIREN_OK;
}

static int add_value(struct cli *cli, const struct cli_option *o, const char *text)
{
    if (o->type != CLI_FLAG && check_value(cli, o, text)) return cli->err.code;
    if (o->once && cli_count(cli, o->name))
        return cli_usage(cli, "--%s: found \"%s\" and \"%s\", expected one", o->name,
                         cli_string(cli, o->name), text);
    if (strcmp(o->name, "help") == 0) cli->state->want_help = 1;
    cli->state->values[cli->state->n_values++] = (struct cli_value){o, text};
    return SIREN_OK;
}

static int check_environment(struct cli *cli)
{
    const struct cli_option *o;
    for (size_t i = 0; (o = cli_option_at(cli->command, i)); i++) {
        const char *text = o->environment ? getenv(o->environment) : NULL;
        if (!text || !*text || cli_count(cli, o->name)) continue;
        if (check_value(cli, o, text))
            return siren_fail_prefix(&cli->err, SIREN_EINVAL, "environment variable %s",
                                     o->environment);
    }
    return SIREN_OK;
}

/* ---- One option of argv ---- */

static int fail_unknown(struct cli *cli, const char *word)
{
    int dashes = (int)strspn(word, "-"), length = (int)strcspn(word, "=");
    char name[64];
    snprintf(name, sizeof name, "%.*s", length - dashes, word + dashes);
    const char *near = cli_nearest_option(cli->command, name);
    const char *of = cli->command ? cli->command->name : "";
    return cli_usage(cli, "unknown option %.*s%s%s%s; see `siren %s%s--help`", length, word,
                     near ? " (did you mean --" : "", near ? near : "", near ? "?)" : "", of,
                     *of ? " " : "");
}

static const struct cli_option *find_letter(const struct cli_command *command, char letter)
{
    const struct cli_option *o;
    for (size_t i = 0; (o = cli_option_at(command, i)); i++)
        if (o->letter == letter) return o;
    return NULL;
}

/* The option that `word` names, and the value inside the same word, if any. */
static const struct cli_option *match_option(const struct cli_command *command, const char *word,
                                             const char **attached)
{
    *attached = NULL;
    if (word[1] != '-') {
        const struct cli_option *o = find_letter(command, word[1]);
        if (o && word[2]) *attached = word[2] == '=' ? word + 3 : word + 2;
        return o;
    }
    size_t length = strcspn(word + 2, "=");
    if (word[2 + length] == '=') *attached = word + 3 + length;
    return cli_find_option(command, word + 2, length);
}

/* "-" is standard input and "-3" a number: neither is an option. */
static int looks_like_option(const char *word)
{
    return word[0] == '-' && word[1] && !(word[1] >= '0' && word[1] <= '9');
}

/* A value may begin with a dash, but a known long option is a forgotten value. */
static int is_long_option(const struct cli_command *command, const char *word)
{
    const char *attached;
    return word[0] == '-' && word[1] == '-' && match_option(command, word, &attached);
}

static int parse_option(struct cli *cli, int argc, char **argv, int *i)
{
    const char *word = argv[*i], *value;
    const struct cli_option *o = match_option(cli->command, word, &value);
    if (!o) return fail_unknown(cli, word);
    if (o->type == CLI_FLAG && value)
        return cli_usage(cli, "%.*s takes no value", word[1] == '-' ? (int)strcspn(word, "=") : 2,
                         word);
    if (o->type == CLI_FLAG) return add_value(cli, o, "1");
    if (!value) {
        if (*i + 1 >= argc || is_long_option(cli->command, argv[*i + 1]))
            return cli_usage(cli, "--%s needs a value: --%s %s", o->name, o->name,
                             o->argument ? o->argument : "VALUE");
        value = argv[++*i];
    }
    return add_value(cli, o, value);
}

/* ---- The command's name ---- */

static const struct cli_command *find_command(const char *first, const char *second)
{
    char both[100];
    snprintf(both, sizeof both, "%s %s", first, second ? second : "");
    for (size_t i = 0; second && cli_commands[i]; i++)
        if (strcmp(cli_commands[i]->name, both) == 0) return cli_commands[i];
    for (size_t i = 0; cli_commands[i]; i++)
        if (strcmp(cli_commands[i]->name, first) == 0) return cli_commands[i];
    return NULL;
}

static int is_family(const char *first)
{
    size_t n = strlen(first);
    for (size_t i = 0; cli_commands[i]; i++)
        if (strncmp(cli_commands[i]->name, first, n) == 0 && cli_commands[i]->name[n] == ' ')
            return 1;
    return 0;
}

static int fail_command(struct cli *cli, const char *first, const char *second)
{
    char word[100], hint[160] = "";
    int family = is_family(first);
    snprintf(word, sizeof word, "%s%s%s", first, family && second ? " " : "",
             family && second ? second : "");
    const char *near = cli_nearest_command(word);
    if (near) snprintf(hint, sizeof hint, " (did you mean `siren %s`?)", near);
    if (family && !second)
        return cli_usage(cli, "`siren %s` needs one more word; see `siren %s --help`", first,
                         first);
    return cli_usage(cli, "unknown command \"%s\"%s; `siren %s%s--help` lists them", word, hint,
                     family ? first : "", family ? " " : "");
}

/* Index in argv of the first word that is no option, or argc.  Options before
 * the command can only be those of every command, which are flags. */
static int command_index(int argc, char **argv)
{
    int i = 1;
    while (i < argc && looks_like_option(argv[i])) i++;
    return i;
}

/* Find the command; the words of its name are argv[*at .. *at + *n_words). */
static int parse_command(struct cli *cli, int argc, char **argv, int *at, int *n_words)
{
    *at = command_index(argc, argv);
    *n_words = 0;
    if (*at >= argc) return SIREN_OK;
    const char *first = argv[*at], *second = *at + 1 < argc ? argv[*at + 1] : NULL;
    if (second && looks_like_option(second)) second = NULL;
    if (strcmp(first, "help") == 0) { /* siren help COMMAND */
        cli->state->want_help = 1;
        ++*at;
        first = *at < argc ? argv[*at] : NULL;
        second = *at + 1 < argc ? argv[*at + 1] : NULL;
        if (!first) return SIREN_OK;
    }
    cli->command = find_command(first, second);
    *n_words = cli->command && strchr(cli->command->name, ' ') ? 2 : 1;
    if (!cli->command && is_family(first) && !second)
        cli->state->args[cli->state->n_args++] = first;
    else if (!cli->command)
        return fail_command(cli, first, second);
    return SIREN_OK;
}

/* ---- Positional arguments ---- */

struct positional {
    char name[40];
    int optional, repeated;
};

/* The next word of a usage grammar; 0 at its end. */
static int next_positional(const char **usage, struct positional *out)
{
    const char *p = *usage ? *usage + strspn(*usage, " ") : "";
    size_t n = strcspn(p, " ");
    if (n == 0) return 0;
    *usage = p + n;
    *out = (struct positional){0};
    if (p[0] == '[' && p[n - 1] == ']') {
        out->optional = 1;
        p++;
        n -= 2;
    }
    if (n > 3 && memcmp(p + n - 3, "...", 3) == 0) {
        out->repeated = 1;
        n -= 3;
    }
    snprintf(out->name, sizeof out->name, "%.*s", (int)n, p);
    return 1;
}

static int check_args(struct cli *cli)
{
    size_t least = 0, most = 0, at = 0;
    const char *usage = cli->command->usage, *name = cli->command->name;
    const char *grammar = usage ? usage : "";
    struct positional p;
    while (next_positional(&usage, &p)) {
        if (!p.optional && ++least > cli->state->n_args)
            return cli_usage(cli, "%s is missing; usage: siren %s %s", p.name, name, grammar);
        most = p.repeated || most == SIZE_MAX ? SIZE_MAX : most + 1;
        for (; at < cli->state->n_args && at < most; at++)
            if (check_text(cli, "", p.name, p.name, cli->state->args[at])) return cli->err.code;
    }
    if (cli->state->n_args > most)
        return cli_usage(cli, "\"%s\" is one argument too many; usage: siren %s%s%s",
                         cli->state->args[most], name, *grammar ? " " : "", grammar);
    return SIREN_OK;
}

/* ---- Files that are made anew ---- */

static int same_file(const struct stat *a, const char *path)
{
    struct stat b;
    return path && !stat(path, &b) && a->st_dev == b.st_dev && a->st_ino == b.st_ino;
}

/* What is read is not written over: a workspace would be gone with all its runs. */
static int check_output(struct cli *cli, const struct cli_option *output)
{
    const char *path = cli_string(cli, output->name);
    const struct cli_option *o;
    struct stat info;
    /* Whoever writes "-" means standard output, and would not look for a file of this name. */
    if (path && !strcmp(path, "-"))
        return cli_usage(cli, "--%s: found \"-\": name a file, or /dev/stdout", output->name);
    if (!path || stat(path, &info) || !S_ISREG(info.st_mode)) return SIREN_OK;
    for (size_t i = 0; i < cli->state->n_args; i++)
        if (same_file(&info, cli->state->args[i]))
            return cli_usage(cli, "--%s: \"%s\" is what the command reads", output->name, path);
    for (size_t i = 0; (o = cli_option_at(cli->command, i)); i++)
        if (o != output && cli_is_path(o->argument) && same_file(&info, cli_string(cli, o->name)))
            return cli_usage(cli, "--%s: \"%s\" is the file of --%s, too", output->name, path,
                             o->name);
    return SIREN_OK;
}

static int check_outputs(struct cli *cli)
{
    const struct cli_option *o;
    int rc = SIREN_OK;
    for (size_t i = 0; !rc && (o = cli_option_at(cli->command, i)); i++)
        if (o->writes) rc = check_output(cli, o);
    return rc;
}

static int parse_words(struct cli *cli, int argc, char **argv, int skip, int n_skip)
{
    int only_args = 0;
    for (int i = 1; i < argc; i++) {
        int is_name = i >= skip && i < skip + n_skip;
        int is_help = i < skip && strcmp(argv[i], "help") == 0;
        if (is_name || is_help) continue;
        if (!only_args && strcmp(argv[i], "--") == 0) {
            only_args = 1;
        } else if (!only_args && looks_like_option(argv[i])) {
            if (parse_option(cli, argc, argv, &i)) return cli->err.code;
        } else {
            cli->state->args[cli->state->n_args++] = argv[i];
        }
    }
    return SIREN_OK;
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
    struct cli_state *s = cli->state;
    s->values = calloc((size_t)argc + 1, sizeof *s->values);
    s->args = calloc((size_t)argc + 1, sizeof *s->args);
    if (!s->values || !s->args) return siren_fail_memory(&cli->err, "arguments", (size_t)argc);
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        s->want_version = 1;
        return SIREN_OK;
    }
    int at, n_words, rc = parse_command(cli, argc, argv, &at, &n_words);
    if (!rc) rc = parse_words(cli, argc, argv, at, n_words);
    if (rc) return rc;
    cli->quiet = cli_flag(cli, "quiet");
    if (s->want_help) return SIREN_OK;
    if (!cli->command && s->n_args) return fail_command(cli, s->args[0], NULL);
    if (!cli->command) return cli_usage(cli, "no command given; `siren --help` lists them");
    if (cli->command->common & CLI_JSON) cli->json = cli_flag(cli, "json");
    rc = check_args(cli);
    if (!rc) rc = check_environment(cli);
    return rc ? rc : check_outputs(cli);
}
