/* siren train all: both stages, from a model to an adapter that answers at once. */
#include <stdlib.h>
#include <string.h>

#include "app/stages.h"
#include "base/buf.h"
#include "cli/report.h"
#include "cli/training_command.h"

static void begin_stage(void *context, int stage, const char *name, int done)
{
    struct cli *cli = context;
    cli_progress_end(cli);
    cli_progress_note(cli, "stage %d of %d: %s%s", stage, STAGES, name,
                      done ? " (done before)" : "");
}

/* ---- options ---- */

static void watch_with(struct training *t, struct training_command *watcher)
{
    t->loop.watch = training_command_watch;
    t->loop.watch_context = watcher;
}

static size_t rows_of(const struct cli *cli, const char *name)
{
    long long n = cli_int(cli, name);
    return (size_t)(n ? n : cli_int(cli, "rows"));
}

static int read_options(struct cli *cli, struct stages_options *o)
{
    static const char *const of_judging[] = {"eval-rows", "grpo-eval-every", NULL};
    const char *judged = cli_string(cli, "eval-split");
    int rc = training_command_targets(cli, cli_string(cli, "lora-targets"), &o->warm.lora.targets);
    o->model = cli_need(cli, "model");
    o->folder = cli_need(cli, "out");
    if (!o->model || !o->folder) return cli->err.code;
    o->lm = (struct siren_lm_options){.chat_template = cli_string(cli, "chat-template"),
                                      .isa = cli_string(cli, "isa"),
                                      .compute = cli_string(cli, "compute")};
    o->resume = cli_flag(cli, "resume");
    o->seed = (uint64_t)cli_int(cli, "seed");
    o->name = cli_string(cli, "name");
    if (cli_string(cli, "split")) o->split = cli_string(cli, "split");
    o->fold = answering_fold(cli);
    o->eval_split = strcmp(judged, "none") ? judged : NULL;
    o->n_eval_rows = (size_t)cli_int(cli, "eval-rows");
    o->warm.n_rows = rows_of(cli, "warm-rows");
    o->warm.loop.epochs = cli_float(cli, "warm-epochs");
    o->reason.n_rows = rows_of(cli, "grpo-rows");
    o->reason.loop.max_steps = (uint64_t)cli_int(cli, "grpo-steps");
    o->reason.loop.eval_every = (uint64_t)cli_int(cli, "grpo-eval-every");
    o->answer.n_rows = rows_of(cli, "align-rows");
    o->answer.loop.epochs = cli_float(cli, "align-epochs");
    o->warm.lora.r = o->answer.lora.r = (int)cli_int(cli, "rank");
    o->warm.lora.alpha = o->answer.lora.alpha = 2 * (float)cli_int(cli, "rank");
    o->warm.loop.batch = o->reason.loop.batch = o->answer.loop.batch =
        (size_t)cli_int(cli, "batch");
    o->grpo.policy.samples = (int)cli_int(cli, "answers");
    o->grpo.sampling.max_tokens = o->grpo.policy.loss.constant_length =
        (int)cli_int(cli, "max-tokens");
    o->grpo.sampling.seed = o->seed;
    if (!rc) rc = answering_name(cli);
    if (!rc) rc = training_command_check_splits(cli, o->split, o->eval_split);
    return rc ? rc : training_command_check_unjudged(cli, of_judging);
}

/* ---- what came of it ---- */

static void print_valid(struct cli *cli, const struct stages_options *o, const json_t *valid)
{
    if (!json_array_size(valid)) return;
    report_stages(cli, valid);
    cli_note(cli,
             "on %s, by which the best adapter of each stage was chosen: test tells how good "
             "the last one is",
             o->eval_split);
}

/* The options that answers depend on, as they were given: who uses the result gives them again. */
static void add_options(const struct cli *cli, struct buf *out)
{
    static const char *const texts[] = {"strategy", "chat-template", "compute"};
    static const char *const numbers[] = {"recent", "more", "prompt-limit"};
    static const char *const flags[] = {"majority", "decay"};
    for (size_t i = 0; i < 3; i++)
        if (cli_given(cli, texts[i]))
            buf_printf(out, " --%s %s", texts[i], cli_word(cli_string(cli, texts[i])));
    for (size_t i = 0; i < 3; i++)
        if (cli_given(cli, numbers[i]))
            buf_printf(out, " --%s %lld", numbers[i], cli_int(cli, numbers[i]));
    for (size_t i = 0; i < 2; i++)
        if (cli_flag(cli, flags[i])) buf_printf(out, " --%s", flags[i]);
}

static void print_use(struct cli *cli, const json_t *report)
{
    const char *model = cli_word(json_string_value(json_object_get(report, "model")));
    const char *adapter = cli_word(json_string_value(json_object_get(report, "adapter")));
    const char *workspace = cli_word(cli_arg(cli, 0));
    struct buf prompt = {0};
    add_options(cli, &prompt);
    cli_print(cli, "at once:       siren predict %s -m %s -a %s%s --user ID --item ID\n", workspace,
              model, adapter, buf_text(&prompt));
    if (cli_given(cli, "max-tokens"))
        buf_printf(&prompt, " --max-tokens %lld", cli_int(cli, "max-tokens"));
    cli_print(cli, "with reasons:  siren predict %s -m %s --reasoning%s --user ID --item ID\n",
              workspace, model, buf_text(&prompt));
    buf_free(&prompt);
}

static int print_report(struct cli *cli, const struct stages_options *o, json_t *report)
{
    long long run = (long long)json_integer_value(json_object_get(report, "run"));
    if (cli->json) return cli_print_json(cli, report);
    print_valid(cli, o, json_object_get(report, "valid"));
    print_use(cli, report);
    if (run) cli_note(cli, "stored as run %lld", run);
    json_decref(report);
    return 0;
}

/* ---- the command ---- */

static int train(struct cli *cli, struct siren_app *app, struct training_command *watcher)
{
    struct stages_options o = stages_defaults();
    char *command = answering_command();
    json_t *report = NULL;
    int rc = read_options(cli, &o);
    o.app = app;
    o.command = command;
    o.grpo.warn = training_command_warn;
    o.grpo.warn_context = cli;
    o.begin = begin_stage;
    o.begin_context = cli;
    *watcher = (struct training_command){.cli = cli, .training = {.eval_split = o.eval_split}};
    watch_with(&o.warm, watcher);
    watch_with(&o.reason, watcher);
    watch_with(&o.answer, watcher);
    if (!rc) rc = answering_prompt(cli, app, &o.predict);
    if (!rc) o.pool = cli_pool(cli);
    if (!rc && !o.pool) rc = cli->err.code;
    if (!rc) training_command_note_anew(cli, o.folder, "settings.json", "training");
    if (!rc) rc = stages_run(&o, &report, cli_progress(cli), cli_cancel(cli), &cli->err);
    cli_progress_end(cli);
    if (rc == SIREN_ECANCEL)
        cli_note(cli, "what is done is kept in %s: the same command with --resume goes on",
                 o.folder);
    if (!rc) rc = print_report(cli, &o, report);
    free(command);
    return rc;
}

static int run(struct cli *cli)
{
    struct training_command watcher;
    struct siren_app app;
    int rc;
    if (!cli_need(cli, "model") || !cli_need(cli, "out")) return cli->err.code;
    rc = siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_WRITE, &cli->err);
    if (rc) return rc;
    rc = train(cli, &app, &watcher);
    siren_app_close(&app);
    return rc;
}

static const struct cli_option options[] = {
    OPTION_STRING("out", "DIR", NULL, "the folder of all that is made", .letter = 'o'),
    OPTION_FLAG("resume", "go on with what is in --out: the same bits as if it had never stopped"),
    NAME_OPTION("a name for the runs"),
    OPTION_INT("rows", "N", "0", 0, 1e12,
               "rows of --split (train) for stages without a number of their own; 0: all",
               .letter = 'n'),
    OPTION_INT("warm-rows", "N", "2000", 0, 1e12, "rows of the warm start; 0: --rows"),
    OPTION_FLOAT("warm-epochs", "N", "3", 1e-6, 1e6, "times that each is seen"),
    OPTION_INT("grpo-rows", "N", "0", 0, 1e12,
               "rows whose prompts are reasoned about, twice each; 0: --rows"),
    OPTION_INT("grpo-steps", "N", "0", 0, 1e12, "at most so many steps; 0: two epochs"),
    OPTION_INT("grpo-eval-every", "N", "0", 0, 1e12,
               "steps of reasoning between evaluations; 0: an epoch"),
    OPTION_INT("answers", "N", "8", 2, 1000, "texts sampled for each prompt"),
    OPTION_INT("max-tokens", "N", "512", 1, 1e6, "longest text"),
    OPTION_INT("align-rows", "N", "0", 0, 1e12,
               "rows that the reasoning model answers to be learned from; 0: --rows"),
    OPTION_FLOAT("align-epochs", "N", "3", 1e-6, 1e6, "times that each is seen"),
    OPTION_STRING("lora-targets", "LIST", "all",
                  "what the reasoning adapter adapts: q, k, v, o, gate, up, down joined by commas; "
                  "ffn; all (the last adapter: k,v)"),
    OPTION_INT("rank", "R", "8", 1, 4096, "rank of the adapters; their scale is 2"),
    OPTION_INT("batch", "N", "32", 1, 1e6, "rows a step", .letter = 'b'),
    FOLD_OPTION,
    OPTION_STRING(
        "eval-split", "NAME", "valid:A",
        "rows to choose by and to compare the stages on; none: the last adapters are kept"),
    OPTION_INT("eval-rows", "N", "300", 0, 1e12, "of them, drawn with --seed; 0: all"),
    PROMPT_OPTIONS,
    {0}};

const struct cli_command cmd_train_all = {
    .name = "train all",
    .group = CLI_TRAIN,
    .summary = "teach a model to reason, and then to answer at once (both stages)",
    .usage = "WORKSPACE",
    .description =
        "One after the other, with what each hands on to the next:\n\n"
        "  1-warm        rationales, as a warm start       (siren train sft)\n"
        "  2-reason      reasoning, by reinforcement       (siren train grpo)\n"
        "  3-model       the model with that adapter       (siren model export)\n"
        "  4-states.bin  what it knows after reasoning     (siren train teach)\n"
        "  5-answer      an adapter that knows it at once  (siren train align)\n\n"
        "in the folder --out.  Before the first stage and while training, MAE and RMSE of answers "
        "at once and after reasoning are measured on --eval-split; the table at the end shows them "
        "after each stage.\n\n"
        "Ctrl-C, or a crash, loses nothing but the steps since the last checkpoint: the same "
        "command with --resume skips the stages that are done and goes on in the one that was "
        "stopped, to the same bits as if it had never stopped.\n\n"
        "The single commands have more options, and take up each other's results in the same way: "
        "what this one made can be continued by hand.  3-model holds all weights in f32: four "
        "bytes for each parameter.",
    .common = CLI_JSON | CLI_SEED | CLI_THREADS | CLI_MODEL | CLI_SPLIT | CLI_ISA,
    .options = options,
    .examples =
        (const struct cli_example[]){
            {"siren train all films.siren --model smollm2.gguf --out runs/all --rows 2000",
             "Both stages, on 2,000 rows each."},
            {"siren train all films.siren -m smollm2.gguf -o runs/all --rows 2000 --resume",
             "Go on with it after Ctrl-C."},
            {"siren train all films.siren -m smollm2.gguf -o runs/quick --warm-rows 500 "
             "--grpo-steps 50 --align-rows 500 --max-tokens 160 --eval-rows 100",
             "A quick try."},
            {0}},
    .run = run,
};
