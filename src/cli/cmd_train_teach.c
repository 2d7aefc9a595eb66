/* siren train teach: a reasoning model's hidden states, stored for training. */
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "app/split.h"
#include "app/teach.h"
#include "app/training.h"
#include "cli/answering.h"

static int print_json(struct cli *cli, const char *path, const struct teach_report *r)
{
    json_t *out = json_object();
    json_object_set_new(out, "file", app_text(path));
    json_object_set_new(out, "bytes", json_integer((json_int_t)r->bytes));
    json_object_set_new(out, "rows", json_integer((json_int_t)r->n));
    json_object_set_new(out, "rows_before", json_integer((json_int_t)r->n_before));
    json_object_set_new(out, "valid", json_integer((json_int_t)r->n_valid));
    json_object_set_new(out, "exact", json_integer((json_int_t)r->n_exact));
    json_object_set_new(out, "format", json_integer((json_int_t)r->n_format));
    json_object_set_new(out, "mae", app_real(r->mae));
    json_object_set_new(out, "tokens_out", app_real(r->tokens));
    json_object_set_new(out, "seconds", json_real(r->seconds));
    return cli_print_json(cli, out);
}

static void print_text(struct cli *cli, const char *path, const struct teach_report *r)
{
    double n = r->n ? (double)r->n : 1;
    cli_print(cli, "%s: %s of states, %s\n", path, cli_counted(r->n, "row"), cli_bytes(r->bytes));
    cli_print(cli, "  valid answers    %5.1f %%\n", 100 * (double)r->n_valid / n);
    cli_print(cli, "  exactly right    %5.1f %%\n", 100 * (double)r->n_exact / n);
    cli_print(cli, "  in the format    %5.1f %%\n", 100 * (double)r->n_format / n);
    if (r->n_valid) cli_print(cli, "  MAE of the valid %5.3f\n", r->mae);
    cli_print(cli, "  tokens a text    %5.1f, with what closes it\n", r->tokens);
    cli_note(cli, "%s", cli_seconds(r->seconds));
}

static const char *split_text(const struct cli *cli)
{
    const char *text = cli_string(cli, "split");
    return text ? text : "train";
}

/* Now, not after hours. */
static int check_split(struct cli *cli)
{
    struct split split;
    const char *text = split_text(cli);
    int rc = answering_split(cli, "split");
    if (!rc && !split_parse(text, &split, NULL) && split_has(&split, SIREN_LABEL_TEST))
        cli_note(cli,
                 "rows of \"%s\" are not trained on: these states can serve `siren theorem`, and "
                 "`siren train align` will refuse them",
                 text);
    return rc;
}

static int teach(struct cli *cli, struct siren_app *app, struct siren_lm *lm)
{
    const char *path = cli_string(cli, "out");
    struct teach_options o = {.rows = siren_eval_defaults(),
                              .encoding = strcmp(cli_string(cli, "encoding"), "int8") == 0
                                              ? SIREN_STATES_INT8
                                              : SIREN_STATES_BF16,
                              .batch = (int)cli_int(cli, "batch")};
    struct teach_report report;
    int rc = answering_prompt(cli, app, &o.rows.predict);
    if (rc) return rc;
    o.rows.predict.sampling.max_tokens = (int)cli_int(cli, "max-tokens");
    o.rows.split = split_text(cli);
    o.rows.fold = answering_fold(cli);
    o.rows.limit = (size_t)cli_int(cli, "rows");
    o.rows.seed = (uint64_t)cli_int(cli, "seed");
    rc = app_teach(app, lm, &o, path, &report, cli_progress(cli), &cli->err);
    cli_progress_end(cli);
    if (rc == SIREN_ECANCEL)
        cli_note(cli, "what is done is kept in %s.partial, and the same command goes on with it",
                 path);
    if (rc) return rc;
    if (report.n_before) cli_note(cli, "%s there already", cli_counted(report.n_before, "row"));
    if (cli->json) return print_json(cli, path, &report);
    print_text(cli, path, &report);
    return 0;
}

static int open_model(struct cli *cli, struct siren_lm *lm)
{
    struct siren_lm_options options = {.isa = cli_string(cli, "isa"),
                                       .compute = cli_string(cli, "compute"),
                                       .adapter = cli_string(cli, "adapter"),
                                       .chat_template = cli_string(cli, "chat-template")};
    const char *path = cli_need(cli, "model");
    struct siren_pool *pool = path ? cli_pool(cli) : NULL;
    return pool ? siren_lm_open(lm, path, &options, pool, &cli->err) : cli->err.code;
}

static int run(struct cli *cli)
{
    struct siren_app app;
    struct siren_lm lm = {0};
    int rc;
    if (!cli_need(cli, "out")) return cli->err.code;
    rc = check_split(cli);
    if (rc) return rc;
    rc = siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_READ, &cli->err);
    if (rc) return rc;
    rc = open_model(cli, &lm);
    if (!rc) rc = teach(cli, &app, &lm);
    siren_lm_close(&lm);
    siren_app_close(&app);
    return rc;
}

const struct cli_command cmd_train_teach = {
    .name = "train teach",
    .group = CLI_TRAIN,
    .summary = "let a reasoning model answer, and store what it knew",
    .usage = "WORKSPACE",
    .description =
        "The teacher of `siren train align`: for rows of a split the model reasons (greedily), "
        "and at the end of \"<answer>\" its hidden states of all layers and its scores of the "
        "ratings are stored, with the rating that it then wrote.  The file names the model, the "
        "adapter, the prompts and the data that it belongs to, and is checked to the last byte "
        "when it is read.\n\n"
        "Rows are stored as they come, in FILE.partial: stopped, by Ctrl-C or worse, it goes on "
        "when the same command is given again.  Train rows are for training (those of test serve "
        "`siren theorem` only); the teacher's errors on them are reported here, `siren eval "
        "--reasoning` reports those on other splits.",
    .common = CLI_JSON | CLI_SEED | CLI_THREADS | CLI_MODEL | CLI_SPLIT | CLI_ISA | CLI_ADAPTER,
    .options =
        (const struct cli_option[]){
            OPTION_STRING("out", "FILE", NULL, "where the states go", .letter = 'o', .writes = 1),
            OPTION_INT("rows", "N", "0", 0, 1e9,
                       "rows, drawn with --seed; 0: all of --split (train)", .letter = 'n'),
            FOLD_OPTION,
            OPTION_CHOICE(
                "encoding", "KIND", "bf16", "bf16|int8",
                "numbers of the states; int8: two thirds of the file, rounded to 0.4 % instead "
                "of 0.2 % of a state"),
            OPTION_INT("max-tokens", "N", "512", 1, 1000000, "longest reasoning with its answer"),
            OPTION_INT("batch", "N", "64", 1, 4096,
                       "rows reasoned at once, whose keys and values stay in memory, and which are "
                       "lost when it is stopped"),
            PROMPT_OPTIONS,
            {0}},
    .examples =
        (const struct cli_example[]){
            {"siren train teach films.siren --model smollm2.gguf --out states.bin --rows 2000",
             "2,000 rows of train."},
            {"siren train teach films.siren -m smollm2.gguf --adapter stage1/adapter -o states.bin",
             "All of train, by a teacher that is an adapter."},
            {"siren train teach films.siren -m smollm2.gguf -o small.bin -n 500 --encoding int8",
             "Two thirds of the file."},
            {0}},
    .run = run,
};
