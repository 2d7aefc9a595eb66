#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/frame.h"

static int use_color(const struct cli *cli)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && !(no_color && *no_color) &&
           !(term && strcmp(term, "dumb") == 0) && !cli_flag(cli, "no-color");
}

static void show_help(struct cli *cli)
{
    const char *family = cli->command ? NULL : cli_arg(cli, 0);
    if (cli->command)
        cli_help_command(cli->command, stdout, use_color(cli));
    else if (family)
        cli_help_family(family, stdout, use_color(cli));
    else
        cli_help_overview(stdout, use_color(cli));
}

static int report_error(struct cli *cli, int rc)
{
    cli_progress_end(cli);
    if (rc == SIREN_ECANCEL) {
        fputs("siren: stopped\n", stderr);
        return cli_stopped_status();
    }
    cli_put(stderr, "siren: %s\n", cli->err.message[0] ? cli->err.message : siren_code_name(rc));
    return cli->state->usage_error ? 2 : 1;
}

/* A full disk shows only when the last buffer is written. */
static int close_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    fprintf(stderr, "siren: cannot write to standard output: %s\n", strerror(errno));
    return status ? status : 1;
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, ""); /* for the bar's characters; numbers stay as in C */
    struct cli_state state = {0};
    struct cli cli = {.state = &state};
    int status = 0, rc = SIREN_OK;
    cli_catch_bus_errors();
    /* A file that reaches the limit of the process (ulimit -f) is then an error of write(), which
     * is reported and cleaned up after as that of a full disk. */
    signal(SIGXFSZ, SIG_IGN);
    if (argc < 2) {
        cli_help_overview(stdout, use_color(&cli));
    } else if ((rc = cli_parse(&cli, argc, argv)) != 0) {
        status = report_error(&cli, rc);
    } else if (state.want_version) {
        puts("siren " SIREN_VERSION);
    } else if (state.want_help) {
        show_help(&cli);
    } else {
        rc = cli.command->run(&cli);
        cli_progress_end(&cli);
        if (rc) status = report_error(&cli, rc);
    }
    siren_pool_free(state.pool);
    free(state.values);
    free(state.args);
    return close_output(status);
}
