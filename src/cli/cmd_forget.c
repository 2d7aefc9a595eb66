#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/parts.h"
#include "cli/cli.h"
#include "siren/app.h"

/* A run that lost rows has no metrics any more. */
static int lacks_metrics(const struct siren_run *run)
{
    return run->status == SIREN_RUN_DONE && !*run->metrics && run->n_predictions;
}

static int measure_run(struct cli *cli, struct siren_app *app, int64_t run)
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
        if (lacks_metrics(&runs[i])) rc = measure_run(cli, &app, runs[i].id);
    siren_app_close(&app);
    return rc;
}

static int is_listed(const json_t *list, const char *text)
{
    const json_t *value;
    size_t i;
    json_array_foreach(list, i, value) if (!strcmp(json_string_value(value), text)) return 1;
    return 0;
}

/* The folders of trainings that are still there: what was sampled in them may name a user. */
static json_t *training_folders(const struct siren_run *runs, size_t n)
{
    json_t *list = json_array();
    struct stat info;
    for (size_t i = 0; i < n; i++) {
        json_t *settings = json_loads(runs[i].settings, 0, NULL);
        const char *folder = json_string_value(json_object_get(settings, "folder"));
        if (folder && !is_listed(list, folder) && !stat(folder, &info) && S_ISDIR(info.st_mode))
            json_array_append_new(list, app_text(folder));
        json_decref(settings);
    }
    return list;
}

static int tell_user(struct cli *cli, const char *user, size_t rows, const json_t *folders)
{
    const json_t *folder;
    size_t i;
    if (cli->json)
        return cli_print_json(cli, json_pack("{s:s, s:I, s:O}", "user", user, "rows",
                                             (json_int_t)rows, "folders", folders));
    cli_print(cli, "Erased user %s: %s, and the bytes.\n", user, cli_counted(rows, "row"));
    if (json_array_size(folders))
        cli_print(cli, "Not reached: folders of trainings, whose texts/ may name the user:\n");
    json_array_foreach(folders, i, folder) cli_print(cli, "  %s\n", json_string_value(folder));
    return 0;
}

static int run(struct cli *cli)
{
    const char *user = cli_arg(cli, 1), *option = cli_string(cli, "user");
    struct siren_workspace *ws;
    size_t rows;
    if (user && option) return cli_usage(cli, "USER or --user: one of them, for one person");
    if (!user && !(user = cli_need(cli, "user"))) return cli->err.code;
    int rc = siren_workspace_open(&ws, cli_arg(cli, 0), SIREN_WORKSPACE_WRITE, &cli->err);
    if (rc) return rc;
    rc = siren_forget(ws, user, &rows, &cli->err);
    if (rc) {
        siren_workspace_close(ws);
        return rc;
    }
    struct siren_run *runs;
    json_t *folders = NULL;
    size_t n;
    rc = siren_runs_load(&runs, &n, ws, NULL, &cli->err);
    siren_workspace_close(ws);
    if (!rc) {
        folders = training_folders(runs, n);
        rc = measure_again(cli, runs, n);
        siren_runs_free(runs, n);
    }
    if (rc)
        siren_fail_prefix(&cli->err, rc,
                          "the user is erased, but the metrics of runs are not computed anew");
    else
        rc = tell_user(cli, user, rows, folders);
    json_decref(folders);
    return rc;
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
        "Not reached are backups, exported files, answers to --pairs, and what trainings on the "
        "ratings made: models, files of a teacher, and in the folders of `train grpo` and `train "
        "all` texts/, which name users.  The folders that the workspace knows and that are still "
        "there are listed.\n\n"
        "USER and --user ID say the same.",
    .common = CLI_USER | CLI_JSON | CLI_THREADS,
    .examples =
        (const struct cli_example[]){{"siren forget films.siren 42", "forget user 42"}, {0}},
    .run = run,
};
