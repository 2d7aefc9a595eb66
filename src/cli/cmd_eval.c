/* siren eval: a split through the model, or answers that were made elsewhere. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answering.h"
#include "cli/report.h"

static int show_run(struct cli *cli, struct siren_app *app, int64_t id)
{
    struct siren_run run;
    json_t *metrics;
    int rc = siren_run_load(&run, app->ws, id, &cli->err);
    if (rc) return rc;
    if (cli->json) {
        rc = cli_print_json(cli, report_run_json(&run));
    } else {
        metrics = json_loads(run.metrics, 0, NULL);
        report_metrics(cli, metrics);
        json_decref(metrics);
        cli_note(cli, "stored as run %lld (`siren runs %s show %lld`)", (long long)id,
                 cli_word(siren_workspace_path(app->ws)), (long long)id);
    }
    siren_run_clear(&run);
    return rc;
}

/* What chooses rows, a model, or how it is asked. */
static int check_judged(struct cli *cli)
{
    static const char *const names[] = {"limit", "anew", "swap-sketch", NULL};
    static const char *const of_fold[] = {"seed", NULL};
    static const char why[] = "with --predictions all answers of the file are judged as they are, "
                              "and no model is asked";
    int rc = cli_refuse(cli, names, why);
    if (!rc) rc = answering_unasked(cli, why);
    if (rc || cli_given(cli, "fold")) return rc;
    return cli_refuse(cli, of_fold, "with --predictions it draws the valid rows of a --fold");
}

static int judge_answers(struct cli *cli, struct siren_app *app, const char *command)
{
    const char *split = cli_string(cli, "split");
    struct siren_judge_options options = {.split = split ? split : siren_eval_defaults().split,
                                          .fold = answering_fold(cli),
                                          .seed = (uint64_t)cli_int(cli, "seed"),
                                          .fallback = NAN,
                                          .name = cli_string(cli, "name"),
                                          .command = command};
    struct siren_pool *pool = cli_pool(cli);
    int64_t run;
    int rc;
    if (!pool) return cli->err.code;
    rc = siren_judge(app, cli_string(cli, "predictions"), &options, pool, &run, &cli->err);
    return rc ? rc : show_run(cli, app, run);
}

static int evaluate_split(struct cli *cli, struct siren_app *app, const char *command)
{
    struct siren_eval_options options = siren_eval_defaults();
    struct siren_lm lm = {0};
    int64_t run = 0;
    int rc = answering_options(cli, app, 1, &options.predict);
    if (cli_string(cli, "split")) options.split = cli_string(cli, "split");
    options.fold = answering_fold(cli);
    options.limit = (size_t)cli_int(cli, "limit");
    options.seed = (uint64_t)cli_int(cli, "seed");
    options.name = cli_string(cli, "name");
    options.command = command;
    options.anew = cli_flag(cli, "anew");
    options.predict.swap_sketch = cli_flag(cli, "swap-sketch");
    options.predict.swap_seed = options.seed;
    if (!rc && options.predict.swap_sketch && !(options.predict.strategy.flags & SIREN_WITH_SKETCH))
        rc = cli_usage(cli, "--swap-sketch: the strategy shows no sketch");
    if (!rc) rc = answering_calibration(cli, &options.predict);
    if (!rc) rc = answering_open(cli, &lm, 0);
    if (!rc)
        rc = siren_evaluate(app, &lm, &options, cli_pool(cli), &run, cli_progress(cli), &cli->err);
    if (rc == SIREN_ECANCEL && run)
        cli_note(cli,
                 "%s: what is done is kept as run %lld, and the same command%s goes on with it",
                 cli->err.message, (long long)run, options.anew ? " without --anew" : "");
    cli_progress_end(cli);
    siren_lm_close(&lm);
    siren_calibration_free(options.predict.calibration);
    return rc ? rc : show_run(cli, app, run);
}

static int run(struct cli *cli)
{
    struct siren_app app;
    char *command = answering_command();
    int rc = cli_given(cli, "predictions") ? check_judged(cli) : 0;
    if (!rc) rc = answering_split(cli, "split");
    if (!rc) rc = answering_name(cli);
    if (!rc) rc = siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_WRITE, &cli->err);
    if (!rc) {
        rc = cli_given(cli, "predictions") ? judge_answers(cli, &app, command)
                                           : evaluate_split(cli, &app, command);
        siren_app_close(&app);
    }
    free(command);
    return rc;
}

const struct cli_command cmd_eval = {
    .name = "eval",
    .group = CLI_JUDGE,
    .summary = "measure predictions on held-out ratings",
    .usage = "WORKSPACE",
    .description =
        "Predicts the ratings of a split, each from what precedes it, and reports MAE and RMSE of "
        "every decoder with 95 % intervals (users resampled), per true rating, with the share of "
        "unreadable answers, the probability outside the ratings, tokens and latencies.  All of "
        "it is stored as a run with its settings.\n\n"
        "Predictions are stored as they come, those without reasoning eight at a time: a run that "
        "was stopped, by Ctrl-C or worse, goes on when the same command is given again.\n\n"
        "With --predictions the answers of a model that ran elsewhere are judged by the same code: "
        "JSON lines with \"row\": [user, item] (as `siren export prompts` writes it) and one of "
        "\"rating\", \"probabilities\" (one a label of the scale) or \"text\" (an answer with "
        "<answer>4</answer> in it).  They may be of --split (test) only, so that no row that was "
        "trained on gets among them; any number of its rows will do.  Only --split, --fold and "
        "--name go with it.",
    .common = CLI_JSON | CLI_SEED | CLI_THREADS | CLI_MODEL | CLI_SPLIT | CLI_ISA | CLI_ADAPTER,
    .options =
        (const struct cli_option[]){
            ROW_OPTIONS,
            NAME_OPTION("a name for the run, also for a stopped one that goes on"),
            {.name = "anew", .type = CLI_FLAG, .help = "do not go on with a stopped run"},
            {.name = "predictions",
             .type = CLI_STRING,
             .argument = "FILE",
             .help = "judge these answers instead of asking a model"},
            {.name = "swap-sketch",
             .type = CLI_FLAG,
             .help = "show another user's sketch, drawn with --seed: `siren runs compare` with the "
                     "run without it says how much of the answers hangs on the sketch"},
            ANSWER_OPTIONS,
            SAMPLING_OPTIONS("512"),
            SAMPLES_OPTION,
            CALIBRATION_OPTION,
            {0}},
    .examples =
        (const struct cli_example[]){
            {"siren eval films.siren --model smollm2.gguf --split test --limit 300",
             "300 held-out ratings, answer only."},
            {"siren eval films.siren -m smollm2.gguf --strategy recent+habit --name habit",
             "The whole test split with another prompt."},
            {"siren eval films.siren -m smollm2.gguf --limit 20 --reasoning",
             "Let the model reason before it answers."},
            {"siren eval films.siren -m smollm2.gguf --split valid:A",
             "Half of the users, to choose by; valid:B has the others, to report on."},
            {"siren eval films.siren -m smollm2.gguf -n 20 --reasoning --samples 8 --temperature 1",
             "The mean distribution after eight sampled reasonings each."},
            {"siren eval films.siren -m smollm2.gguf --split valid:B --swap-sketch",
             "Everyone with somebody else's sketch: does the model read it?"},
            {"siren eval films.siren --split valid --predictions qwen3-4b.jsonl --name qwen3-4b",
             "Judge what another model answered to `siren export prompts`."},
            {0}},
    .run = run,
};
