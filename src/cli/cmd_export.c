/* siren export prompts: for a model that runs elsewhere. */
#include <inttypes.h>
#include <stdio.h>

#include "app/parts.h"
#include "cli/answering.h"
#include "cli/cli.h"
#include "siren/app.h"

/* Chat template and tokenizer of --model, without its weights. */
struct text_parts {
    struct siren_chat *chat;
    struct siren_tokenizer *tokenizer;
};

static int open_text_parts(struct cli *cli, struct text_parts *parts)
{
    const char *model = cli_string(cli, "model"), *template = cli_string(cli, "chat-template");
    int rc = 0;
    if (template)
        rc = siren_chat_load_file(&parts->chat, template, &cli->err);
    else if (model)
        rc = siren_chat_load(&parts->chat, model, &cli->err);
    if (!rc && model) rc = siren_tokenizer_load(&parts->tokenizer, model, &cli->err);
    return rc;
}

static int export(struct cli *cli, struct siren_app *app, const char *output)
{
    struct siren_eval_options options = siren_eval_defaults();
    struct text_parts parts = {0};
    size_t n;
    int rc = answering_options(cli, app, 0, &options.predict);
    if (cli_string(cli, "split")) options.split = cli_string(cli, "split");
    options.fold = answering_fold(cli);
    options.limit = (size_t)cli_int(cli, "limit");
    options.seed = (uint64_t)cli_int(cli, "seed");
    if (!rc) rc = open_text_parts(cli, &parts);
    if (!rc)
        rc = siren_export_prompts(app, parts.chat, parts.tokenizer, &options, output, &n,
                                  cli_progress(cli), &cli->err);
    cli_progress_end(cli);
    if (parts.chat) siren_chat_free(parts.chat);
    siren_tokenizer_free(parts.tokenizer);
    if (rc) return rc;
    if (cli->json)
        return cli_print_json(
            cli, json_pack("{s:o,s:I}", "output", app_text(output), "prompts", (json_int_t)n));
    cli_note(cli, "%s: %s", output, cli_counted(n, "prompt"));
    char fold[64] = "";
    if (options.fold >= 0)
        snprintf(fold, sizeof fold, " --fold %d --seed %" PRIu64, options.fold, options.seed);
    cli_note(cli, "judge the answers with `siren eval %s --split %s%s --predictions FILE`",
             cli_word(siren_workspace_path(app->ws)), cli_word(options.split), fold);
    return 0;
}

static int run(struct cli *cli)
{
    const char *output = cli_need(cli, "output");
    struct siren_app app;
    int rc;
    if (!output) return cli->err.code;
    rc = answering_split(cli, "split");
    if (rc) return rc;
    rc = siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_READ, &cli->err);
    if (rc) return rc;
    rc = export(cli, &app, output);
    siren_app_close(&app);
    return rc;
}

const struct cli_command cmd_export_prompts = {
    .name = "export prompts",
    .group = CLI_JUDGE,
    .summary = "write the prompts of a split for a model that runs elsewhere",
    .usage = "WORKSPACE",
    .description =
        "Writes JSON lines: \"row\" ([user, item], to be given back with the answer), \"truth\", "
        "\"messages\" (for an OpenAI-compatible server), and with --model the whole \"prompt\" in "
        "that model's chat template and its length in \"tokens\".  The prompt ends where the model "
        "answers with the rating (or, with --reasoning, where it starts to reason).\n\n"
        "Add \"rating\", \"probabilities\" or the answer's \"text\" to each row and judge the file "
        "with `siren eval --predictions`.",
    .common = CLI_JSON | CLI_SEED | CLI_MODEL | CLI_SPLIT,
    .options = (const struct cli_option[]){{.name = "output",
                                            .letter = 'o',
                                            .type = CLI_STRING,
                                            .argument = "FILE",
                                            .help = "where the prompts go",
                                            .writes = 1},
                                           ROW_OPTIONS,
                                           ANSWER_OPTIONS,
                                           {0}},
    .examples =
        (const struct cli_example[]){
            {"siren export prompts films.siren --split valid --output valid.jsonl",
             "Messages for any chat server."},
            {"siren export prompts films.siren --split test --model qwen3-4b/ -o test.jsonl",
             "With the whole prompt in Qwen3's template."},
            {0}},
    .run = run,
};
