#include <stdlib.h>

#include "cli/cli.h"
#include "siren/app.h"

/* A run that lost rows has no metrics any more. */
static int lacks_metrics(const struct siren_run *run)
{
    return run->status == SIREN_RUN_DONE && !*run->metrics && run->n_predictions;
}

static int measure(struct cli *cli, struct siren_app *app, int64_t run)
{
    char *metrics = NULL;
    int rc = siren_run_metrics(app, run, cli_pool(cli), &metrics, &cli->err);
    if (!rc) rc = siren_run_set_metrics(app->ws, run, metrics, &cli->err);
    free(metrics);
    return rc == SIREN_ENOTFOUND ? SIREN_OK : rc; /* no rating of its rows is left */
}

/* Those of the rows that are left.  Without such a run the ratings are not even read. */
static int measure_again(struct cli *cli, const struct siren_run *runs, size_t n)
{
    struct siren_app app;
    size_t i = 0;
    while (i < n && !lacks_metrics(&runs[i])) i++;
    if (i == n) return SIREN_OK;
    int rc = siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_WRITE, &cli->err);
    if (rc) return rc;
    for (; i < n && !rc; i++)
        if (lacks_metrics(&runs[i])) rc = measure(cli, &app, runs[i].id);
    siren_app_close(&app);
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
    if (rc) {
        siren_workspace_close(ws);
        return rc;
    }
    struct siren_run *runs;
    size_t n;
    rc = siren_runs_load(&runs, &n, ws, NULL, &cli->err);
    siren_workspace_close(ws);
    if (!rc) {
        rc = measure_again(cli, runs, n);
        siren_runs_free(runs, n);
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
