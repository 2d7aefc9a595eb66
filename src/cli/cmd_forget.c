#include <stdlib.h>

#include "cli/cli.h"
#include "siren/app.h"

/* Runs that lost rows have no metrics any more: those of the rows that are left. */
static int measure_again(struct cli *cli, struct siren_app *app)
{
    struct siren_run *runs;
    size_t n;
    int rc = siren_runs_load(&runs, &n, app->ws, NULL, &cli->err);
    for (size_t i = 0; i < n && !rc; i++) {
        char *metrics = NULL;
        if (runs[i].status != SIREN_RUN_DONE || *runs[i].metrics || !runs[i].n_predictions)
            continue;
        rc = siren_run_metrics(app, runs[i].id, cli_pool(cli), &metrics, &cli->err);
        if (!rc) rc = siren_run_set_metrics(app->ws, runs[i].id, metrics, &cli->err);
        if (rc == SIREN_ENOTFOUND) rc = SIREN_OK; /* no rating of those rows is left */
        free(metrics);
    }
    siren_runs_free(runs, n);
    return rc;
}

static int run(struct cli *cli)
{
    const char *user = cli_arg(cli, 1), *option = cli_string(cli, "user");
    struct siren_workspace *ws;
    size_t rows;
    if ((user && option) || cli_count(cli, "user") > 1)
        return cli_usage(cli, "USER or --user: one of them, for one person");
    if (!user && !(user = cli_need(cli, "user"))) return cli->err.code;
    int rc = siren_workspace_open(&ws, cli_arg(cli, 0), SIREN_WORKSPACE_WRITE, &cli->err);
    if (rc) return rc;
    rc = siren_forget(ws, user, &rows, &cli->err);
    siren_workspace_close(ws);
    if (rc) return rc;
    struct siren_app app;
    rc = siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_WRITE, &cli->err);
    if (!rc) {
        rc = measure_again(cli, &app);
        siren_app_close(&app);
    }
    if (rc)
        return siren_fail_prefix(
            &cli->err, rc, "the user is erased, but the metrics of runs are not computed anew");
    if (cli->json)
        return cli_print_json(cli, json_pack("{s:s, s:I}", "user", user, "rows", (json_int_t)rows));
    cli_print(cli, "Erased user %s: %s, and the bytes.\n", user, cli_counted(rows, "row"));
    return 0;
}

const struct cli_command cmd_forget = {
    .name = "forget",
    .group = CLI_DATA,
    .summary = "erase a person from the workspace",
    .usage = "WORKSPACE [USER]",
    .description =
        "Deletes the user's ratings, sketch, predictions and id from every table, and the id from "
        "what runs and the import have recorded; then rewrites the file, so that the bytes are "
        "gone from it and from its log.  Metrics of runs are computed again without the user.\n\n"
        "Backups, exported files and models that were trained on the ratings are not reached.\n\n"
        "USER and --user ID say the same.",
    .common = CLI_USER | CLI_JSON | CLI_THREADS,
    .examples =
        (const struct cli_example[]){{"siren forget films.siren 42", "forget user 42"}, {0}},
    .run = run,
};
