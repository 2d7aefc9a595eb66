/* What a command asks of its command line. */
#include <stdlib.h>
#include <string.h>

#include "cli/frame.h"
#include "siren/import.h"

const char *cli_arg(const struct cli *cli, size_t index)
{
    return index < cli->state->n_args ? cli->state->args[index] : NULL;
}

size_t cli_n_args(const struct cli *cli)
{
    return cli->state->n_args;
}

static const struct cli_option *declared(const struct cli *cli, const char *name)
{
    const struct cli_option *o = cli_find_option(cli->command, name, strlen(name));
    if (o) return o;
    fprintf(stderr, "siren: internal error: command %s does not declare --%s\n",
            cli->command ? cli->command->name : "(none)", name);
    exit(70);
}

size_t cli_count(const struct cli *cli, const char *name)
{
    const struct cli_option *o = declared(cli, name);
    size_t n = 0;
    for (size_t i = 0; i < cli->state->n_values; i++) n += cli->state->values[i].option == o;
    return n;
}

const char *cli_string_at(const struct cli *cli, const char *name, size_t index)
{
    const struct cli_option *o = declared(cli, name);
    for (size_t i = 0; i < cli->state->n_values; i++)
        if (cli->state->values[i].option == o && index-- == 0) return cli->state->values[i].text;
    return NULL;
}

static const char *from_environment(const struct cli_option *o)
{
    const char *text = o->environment ? getenv(o->environment) : NULL;
    return text && *text ? text : NULL;
}

const char *cli_string(const struct cli *cli, const char *name)
{
    const struct cli_option *o = declared(cli, name);
    size_t n = cli_count(cli, name);
    if (n > 0) return cli_string_at(cli, name, n - 1);
    const char *text = from_environment(o);
    return text ? text : o->initial;
}

int cli_choice(const struct cli *cli, const char *name)
{
    const char *at = declared(cli, name)->choices, *value = cli_string(cli, name);
    size_t length = strlen(value);
    for (int i = 0; *at; i++) { /* the parser has seen that it is one of them */
        size_t n = strcspn(at, "|");
        if (n == length && !strncmp(at, value, n)) return i;
        at += n + (at[n] != 0);
    }
    return 0;
}

int cli_given(const struct cli *cli, const char *name)
{
    return cli_count(cli, name) > 0 || from_environment(declared(cli, name)) != NULL;
}

int cli_flag(const struct cli *cli, const char *name)
{
    return cli_count(cli, name) > 0;
}

long long cli_int(const struct cli *cli, const char *name)
{
    const char *text = cli_string(cli, name);
    return text ? strtoll(text, NULL, 10) : 0;
}

double cli_float(const struct cli *cli, const char *name)
{
    const char *text = cli_string(cli, name);
    return text ? strtod(text, NULL) : 0;
}

const char *cli_need(struct cli *cli, const char *name)
{
    const struct cli_option *o = declared(cli, name);
    const char *text = cli_string(cli, name);
    if (text) return text;
    char variable[80] = "";
    if (o->environment)
        snprintf(variable, sizeof variable, " (or the environment variable %s)", o->environment);
    cli_usage(cli, "--%s %s is needed%s: %s", name, o->argument ? o->argument : "", variable,
              o->help);
    return NULL;
}

int cli_refuse(struct cli *cli, const char *const *names, const char *why)
{
    for (; *names; names++)
        if (cli_count(cli, *names)) return cli_usage(cli, "--%s: %s", *names, why);
    return 0;
}

int cli_time(struct cli *cli, const char *name, const char *text, int64_t *time)
{
    struct siren_error wrong;
    if (!siren_time_parse(text, time, &wrong)) return 0;
    return cli_usage(cli, "--%s: %s", name, wrong.message);
}

int cli_options_given(struct cli *cli, int rc)
{
    if (rc == SIREN_EINVAL) cli->state->usage_error = 1;
    return rc;
}

struct siren_pool *cli_pool(struct cli *cli)
{
    if (!cli->state->pool)
        siren_pool_create(&cli->state->pool, (int)cli_int(cli, "threads"), &cli->err);
    return cli->state->pool;
}
