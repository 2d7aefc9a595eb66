/* siren calibrate: a read-out that corrects the model's, fitted on a run on valid. */
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "cli/answering.h"
#include "cli/report.h"
#include "siren/calibration.h"

static void print_rows(struct cli *cli, const json_t *report)
{
    const json_t *rows = json_object_get(report, "rows"), *row;
    struct cli_table *table =
        cli_table_create("Run|Read-out|MAE (median)|RMSE (mean)|Log-loss|RPS|ECE", "rlrrrrr");
    static const char *const keys[] = {"mae", "rmse", "log_loss", "rps", "ece"};
    size_t i;
    json_array_foreach(rows, i, row)
    {
        cli_table_cell(table, "%lld", (long long)json_integer_value(json_object_get(row, "run")));
        cli_table_cell(table, "%s", json_string_value(json_object_get(row, "name")));
        for (size_t k = 0; k < 5; k++)
            cli_table_cell(table, "%.4f", json_number_value(json_object_get(row, keys[k])));
    }
    cli_table_print(cli, table);
}

static int tell_calibration(struct cli *cli, const char *json, const char *path)
{
    json_t *report = json_loads(json, 0, NULL);
    const json_t *fitted = json_object_get(report, "fitted");
    if (cli->json) {
        if (path) json_object_set_new(report, "output", app_text(path));
        return cli_print_json(cli, report);
    }
    print_rows(cli, report);
    cli_note(cli,
             "on the %s rows of half B of the users; fitted on %s rows of half A, %lld features",
             cli_number((uint64_t)json_integer_value(
                 json_object_get(json_array_get(json_object_get(report, "rows"), 0), "n"))),
             cli_number((uint64_t)json_integer_value(json_object_get(fitted, "rows"))),
             (long long)json_integer_value(json_object_get(fitted, "features")));
    if (json_integer_value(json_object_get(report, "chosen_on")) > 0)
        cli_note(cli, "%s of half B's rows chose what answered: on other rows it may be less good",
                 cli_number((uint64_t)json_integer_value(json_object_get(report, "chosen_on"))));
    if (json_integer_value(json_object_get(fitted, "rows")) <
        5 * json_integer_value(json_object_get(fitted, "features")))
        cli_note(cli, "that is little to fit on: compare log-losses before it is used");
    if (path)
        cli_note(cli, "%s: for --calibration of predict, rank and eval", path);
    else
        cli_note(cli, "--out FILE would keep it for --calibration of predict, rank and eval");
    json_decref(report);
    return 0;
}

static int calibrate(struct cli *cli, struct siren_app *app, const char *command)
{
    const char *out = cli_string(cli, "out");
    struct siren_calibrate_options options = {
        .run = (int64_t)cli_int(cli, "run"),
        .kind = strcmp(cli_string(cli, "kind"), "ordinal") ? SIREN_MULTINOMIAL : SIREN_ORDINAL,
        .l2 = cli_float(cli, "l2"),
        .seed = (uint64_t)cli_int(cli, "seed"),
        .command = command,
        .path = out};
    struct siren_calibration *c;
    struct siren_pool *pool = cli_pool(cli);
    char *json;
    if (!pool) return cli->err.code;
    int rc = siren_calibrate(&c, app, &options, pool, &json, &cli->err);
    if (!rc) rc = tell_calibration(cli, json, out);
    siren_calibration_free(c);
    free(json);
    return rc;
}

static int run(struct cli *cli)
{
    struct siren_app app;
    if (!cli_given(cli, "run"))
        return cli_usage(cli, "--run N is needed: a run of `siren eval --split valid`");
    int rc = siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_WRITE, &cli->err);
    if (rc) return rc;
    char *command = answering_command();
    rc = calibrate(cli, &app, command);
    free(command);
    siren_app_close(&app);
    return rc;
}

const struct cli_command cmd_calibrate = {
    .name = "calibrate",
    .group = CLI_JUDGE,
    .summary = "learn on valid to correct a model's distributions",
    .usage = "WORKSPACE",
    .description =
        "A logistic model over the log-probabilities that the language model gave the ratings, the "
        "user's rating habit, the ratings in the candidate's topic and the item's train ratings.  "
        "It is fitted on the stored answers of a run on valid (`siren eval --split valid`), users "
        "of half A, and reported on those of half B: beside the answers as they were, and beside "
        "the same model without the language model's part.  No model is asked, and test is not "
        "read.\n\n"
        "Half A must hold two different ratings and, unless --l2 says how strong the penalty is, "
        "five users, to choose it by; that is the least that can be fitted, some hundred rows are "
        "the least that is worth it.\n\n"
        "The two fitted rows are stored as runs, for `siren runs compare` and `table`.  The file "
        "of --out is for the --calibration of predict, rank and eval; it belongs to the model, "
        "adapter and prompts of the run, and is refused with others.",
    .common = CLI_JSON | CLI_SEED | CLI_THREADS,
    .options = (const struct cli_option[]){{.name = "run",
                                            .type = CLI_INT,
                                            .argument = "N",
                                            .min = 1,
                                            .max = 9e15,
                                            .help = "the run whose answers are learned from"},
                                           {.name = "out",
                                            .letter = 'o',
                                            .type = CLI_STRING,
                                            .argument = "FILE",
                                            .help = "keep the calibration in this file",
                                            .writes = 1},
                                           {.name = "kind",
                                            .type = CLI_CHOICE,
                                            .argument = "KIND",
                                            .initial = "multinomial",
                                            .choices = "multinomial|ordinal",
                                            .help = "weights for each rating, or one slope with "
                                                    "ordered thresholds"},
                                           {.name = "l2",
                                            .type = CLI_FLOAT,
                                            .argument = "X",
                                            .initial = "0",
                                            .min = 0,
                                            .max = 1e6,
                                            .help = "the penalty; 0: chosen by cross-validation, "
                                                    "folds by user"},
                                           {0}},
    .examples =
        (const struct cli_example[]){
            {"siren calibrate films.siren --run 12",
             "Is there something to gain?  Run 12 is one of `siren eval --split valid`."},
            {"siren calibrate films.siren --run 12 --out films.calibration",
             "Keep it; `siren eval --split test --calibration films.calibration` says, once, how "
             "good it is."},
            {"siren calibrate films.siren --run 12 --kind ordinal --json",
             "The ordinal model, for a program."},
            {0}},
    .run = run,
};
