#include <math.h>
#include <stdlib.h>

#include "cli/answering.h"
#include "cli/cli.h"
#include "siren/baseline_runs.h"

static int tell_json(struct cli *cli, const struct siren_baseline *rows, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct siren_baseline *b = &rows[i];
        json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:f, s:f}", "name", b->name, "fitted_on",
                              b->fitted_on, "settings", b->settings, "n", (json_int_t)b->n, "mae",
                              b->mae, "rmse", b->rmse);
        if (o && isfinite(b->log_loss)) {
            json_object_set_new(o, "log_loss", json_real(b->log_loss));
            json_object_set_new(o, "rps", json_real(b->rps));
        }
        if (o && b->run) json_object_set_new(o, "run", json_integer((json_int_t)b->run));
        json_array_append_new(list, o);
    }
    return cli_print_json(cli, list);
}

static void cell(struct cli_table *t, double value)
{
    if (isfinite(value))
        cli_table_cell(t, "%.4f", value);
    else
        cli_table_cell(t, "–");
}

static void tell_baselines(struct cli *cli, const struct siren_baseline *rows, size_t n)
{
    struct cli_table *t =
        cli_table_create("Run|Baseline|Fitted on|Settings|MAE|RMSE|Log-loss|RPS", "rlLLrrrr");
    for (size_t i = 0; i < n; i++) {
        if (rows[i].run)
            cli_table_cell(t, "%lld", (long long)rows[i].run);
        else
            cli_table_cell(t, "–");
        cli_table_cell(t, "%s", rows[i].name);
        cli_table_cell(t, "%s", rows[i].fitted_on);
        cli_table_cell(t, "%s", rows[i].settings);
        cell(t, rows[i].mae);
        cell(t, rows[i].rmse);
        cell(t, rows[i].log_loss);
        cell(t, rows[i].rps);
    }
    cli_table_print(cli, t);
    if (n) cli_note(cli, "%s each.", cli_counted(rows[0].n, "row"));
}

static int run(struct cli *cli)
{
    struct siren_baseline_options o = {.split = cli_string(cli, "split"), .fold = -1};
    o.only = cli_string(cli, "only");
    o.seed = (uint64_t)cli_int(cli, "seed");
    o.save = !cli_flag(cli, "no-save");
    o.fit_split = cli_string(cli, "fit-on");
    o.fit_rows = (size_t)cli_int(cli, "fit-rows");
    if (o.fit_rows && !o.fit_split) return cli_usage(cli, "--fit-rows needs --fit-on");
    if (answering_split(cli, "fit-on")) return cli->err.code;
    o.fold = answering_fold(cli);
    o.gap = (size_t)cli_int(cli, "gap");
    struct siren_pool *pool = cli_pool(cli);
    struct siren_app app;
    struct siren_baseline *rows;
    size_t n;
    if (!pool) return cli->err.code;
    int rc = siren_app_open(&app, cli_arg(cli, 0),
                            o.save ? SIREN_WORKSPACE_WRITE : SIREN_WORKSPACE_READ, &cli->err);
    if (rc) return rc;
    char *command = answering_command();
    o.command = command;
    rc = cli_options_given(
        cli, siren_baselines(&app, &o, pool, &rows, &n, cli_progress(cli), &cli->err));
    free(command);
    cli_progress_end(cli);
    if (!rc && cli->json)
        rc = tell_json(cli, rows, n);
    else if (!rc)
        tell_baselines(cli, rows, n);
    if (!rc) free(rows);
    siren_app_close(&app);
    return rc;
}

static const struct cli_option options[] = {
    {.name = "fold",
     .type = CLI_INT,
     .argument = "F",
     .min = 0,
     .max = 1000,
     .help = "test on fold F; a tenth of the other folds is valid"},
    {.name = "split",
     .letter = 's',
     .type = CLI_CHOICE,
     .argument = "NAME",
     .initial = "test",
     .choices = "test|valid",
     .help = "the part of the ratings to be judged on"},
    {.name = "only",
     .type = CLI_STRING,
     .argument = "TEXT",
     .help = "only the baselines with this in their name"},
    {.name = "fit-on",
     .type = CLI_STRING,
     .argument = "SPLIT",
     .help = "fit the histogram and the habit model on these rows, too, as a training takes them: "
             "train:last, train:last3+valid:A"},
    {.name = "fit-rows",
     .type = CLI_INT,
     .argument = "N",
     .initial = "0",
     .min = 0,
     .max = 1e12,
     .help = "of them, drawn with --seed; 0: all"},
    GAP_OPTION,
    {.name = "no-save", .type = CLI_FLAG, .help = "print the table without storing runs"},
    {0},
};

const struct cli_command cmd_baselines = {
    .name = "baselines",
    .group = CLI_JUDGE,
    .summary = "fit and judge the predictors that need no language model",
    .usage = "WORKSPACE",
    .description =
        "Means, the mode, biased matrix factorisation (SGD and ALS, settings and epochs chosen on "
        "valid) and a multinomial model over each user's past ratings: how many of each star, and "
        "the recent ones. What a language model adds shows only beside these.\n\n"
        "MAE is of the median and RMSE of the mean where a baseline predicts a distribution. On "
        "the valid split, what is fitted on valid is cross-fitted: each half of the users is "
        "predicted by a model of the other, and by settings that were chosen on the other's rows. "
        "Every row is stored as a run that `siren runs` "
        "compares with others.",
    .common = CLI_JSON | CLI_SEED | CLI_THREADS,
    .options = options,
    .examples =
        (const struct cli_example[]){
            {"siren baselines movies.siren", "the table on the test split"},
            {"siren baselines films.siren --split valid --no-save", "on valid, nothing stored"},
            {"siren baselines films.siren --fit-on train:last --fit-rows 2000",
             "what those 2,000 rows give without a language model"},
            {"siren baselines films.siren --fold 0 --only factorisation",
             "matrix factorisation on the first of k folds"},
            {0}},
    .run = run,
};
