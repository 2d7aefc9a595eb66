#include "cli/cli.h"
#include "siren/workspace.h"

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
        "gone from it and from its log.\n\n"
        "Backups, exported files and models that were trained on the ratings are not reached.\n\n"
        "USER and --user ID say the same.",
    .common = CLI_USER | CLI_JSON,
    .examples =
        (const struct cli_example[]){{"siren forget films.siren 42", "forget user 42"}, {0}},
    .run = run,
};
