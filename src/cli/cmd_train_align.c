/* siren train align: reasoning internalised. */
#include <string.h>

#include "app/align.h"
#include "cli/training_command.h"

/* An option that would change nothing is a mistake: who gives it believes that it does. */
static int check_given(struct cli *cli, const struct align_options *o)
{
    static const char *const told[] = {"split",    "fold",  "strategy", "recent",       "more",
                                       "majority", "decay", "gap",      "prompt-limit", NULL};
    static const char *const choosing[] = {"exact", "share", "closeness", NULL};
    static const char *const of_ha[] = {"layers", "before-norm", "layer-local", NULL};
    static const char *const of_kd[] = {"kd-temperature", NULL};
    static const char *const of_ce[] = {"smoothing", NULL};
    int rc = 0;
    if (o->teacher)
        rc = cli_refuse(cli, told, "with a --teacher, rows and prompts are those of its file");
    else
        rc = cli_refuse(cli, choosing, "it is about a teacher's answers: give a --teacher");
    if (!rc && !(o->ha > 0)) rc = cli_refuse(cli, of_ha, "it is about ha, which is not in --loss");
    if (!rc && !(o->rating.kd > 0))
        rc = cli_refuse(cli, of_kd, "it is about kd, which is not in --loss");
    if (!rc && !(o->rating.ce > 0))
        rc = cli_refuse(cli, of_ce, "it is about ce, which is not in --loss");
    return rc;
}

static int read_options(struct cli *cli, struct align_options *o)
{
    *o = (struct align_options){.teacher = cli_string(cli, "teacher"),
                                .filter = {.exact = cli_flag(cli, "exact"),
                                           .share = cli_float(cli, "share"),
                                           .closeness = cli_flag(cli, "closeness")},
                                .before_norm = cli_flag(cli, "before-norm"),
                                .layer_local = cli_flag(cli, "layer-local"),
                                .rating = {.smoothing = cli_float(cli, "smoothing"),
                                           .temperature = cli_float(cli, "kd-temperature")}};
    int rc = align_parse_loss(o, cli_string(cli, "loss"), &cli->err);
    if (!rc) rc = align_parse_layers(&o->layers, cli_string(cli, "layers"), &cli->err);
    if (rc) {
        struct siren_error why = cli->err;
        return cli_usage(cli, "%s", why.message);
    }
    if ((o->ha > 0 || o->rating.kd > 0) && !o->teacher)
        return cli_usage(cli, "--loss %s needs a --teacher (`siren train teach` makes one)",
                         cli_string(cli, "loss"));
    if (o->filter.share <= 0)
        return cli_usage(cli, "--share: found \"%s\", expected a number above 0, up to 1",
                         cli_string(cli, "share"));
    if (o->layer_local && o->ha > 0 && !strcmp(cli_string(cli, "weights"), "all"))
        return cli_usage(cli, "--layer-local trains a LoRA adapter, not --weights all");
    return check_given(cli, o);
}

static void note_teacher(void *cli, const char *teacher)
{
    cli_note(cli,
             "the states are those of %s, which is not the model that is trained: their bases must "
             "be comparable, as those of a model and its export are",
             teacher);
}

static int run(struct cli *cli)
{
    struct training_command t;
    struct trainer_result result;
    struct align_options options;
    static const char *const of_judging[] = {"choose-by", NULL};
    int rc = read_options(cli, &options);
    if (!rc) rc = training_command_check_unjudged(cli, of_judging);
    if (!rc) rc = training_command_open(cli, &t, "align", TRAINING_LR_ALL);
    if (rc) return rc;
    t.training.choose_by =
        (enum training_metric)cli_choice(cli, "choose-by"); /* in the order of the enum */
    options.other_teacher = note_teacher;
    options.context = cli;
    rc = align_train(&t.training, &options, &result, cli_progress(cli), cli_cancel(cli), &cli->err);
    rc = training_command_report(cli, &t, &result, rc);
    training_command_close(&t);
    return rc;
}

const struct cli_command cmd_train_align = {
    .name = "train align",
    .group = CLI_TRAIN,
    .summary = "teach a model to answer at once what it would say after reasoning",
    .usage = "WORKSPACE",
    .description =
        "Trains a LoRA adapter on answer-only prompts so that at their last token the model is in "
        "the state in which a teacher was after it had reasoned (`siren train teach`).\n\n"
        "  ha    1 − cos of the hidden states, mean over the layers (alignment)\n"
        "  kd    KL from the teacher's distribution over the ratings\n"
        "  ce    cross-entropy of the true rating\n"
        "  rps   ranked probability score of the true rating\n\n"
        "--loss joins them: ha, kd+ce, ha+ce:0.5.  With a --teacher, rows and prompts are those of "
        "its file, for every loss, and --split and the options of the prompt are refused; --rows "
        "draws "
        "from them.  Without one (ce, rps) they are those of --split and of the options below.\n\n"
        "Every step is a line of log.jsonl in --out, and the adapter that is best on --eval-split "
        "is kept, by --choose-by: `siren eval --adapter DIR/adapter` says how good it "
        "is.  The same command with --resume goes on after Ctrl-C "
        "or a crash, with the same bits as if it had never stopped.",
    .common = TRAINING_COMMON,
    .options =
        (const struct cli_option[]){
            OPTION_STRING("teacher", "FILE", NULL, "the teacher's states"),
            OPTION_STRING(
                "loss", "TERMS", "ha",
                "ha, kd, ce, rps joined by '+', each with a weight behind ':' if it is not 1"),
            OPTION_CHOICE("layers", "WHICH", "uniform", "uniform|linear|upper|last",
                          "weights of the layers in ha: equal, growing upwards, the upper half, or "
                          "the last one"),
            OPTION_FLAG("before-norm",
                        "in ha the last layer's state before the final norm, not behind it"),
            OPTION_FLAG("layer-local",
                        "a layer learns from its own state in ha alone, and no gradient goes from "
                        "it to the one below (ce, kd and rps: to the last layer only): some "
                        "half of the time"),
            OPTION_FLOAT("kd-temperature", "T", "1", 0.01, 100, "of both distributions in kd"),
            OPTION_FLOAT("smoothing", "S", "0", 0, 0.99,
                         "part of the target in ce that the neighbouring ratings get"),
            OPTION_FLAG("exact",
                        "with a --teacher: only rows that it rated exactly right, not all that it "
                        "rated"),
            OPTION_FLOAT("share", "P", "1", 0, 1, "of these rows, drawn with --seed"),
            OPTION_FLAG("closeness",
                        "with a --teacher: a row weighs the less the farther its rating was off"),
            OPTION_CHOICE("choose-by", "METRIC", "mae", "mae|rmse|log-loss|rps",
                          "what the kept adapter is best by on --eval-split: MAE of the median, "
                          "RMSE of the mean, log-loss, ranked probability score; the last two are "
                          "less a matter of chance on few rows"),
            TRAINING_OPTIONS("3", "32", "1e-4", TRAINING_LR_ALL, "0.05", "0.05", "1024"),
            PROMPT_OPTIONS,
            {0}},
    .examples =
        (const struct cli_example[]){
            {"siren train align films.siren --model smollm2.gguf --teacher states.bin --out "
             "runs/ha",
             "Alignment of all layers, LoRA on keys and values."},
            {"siren train align films.siren -m smollm2.gguf --teacher states.bin -o runs/local "
             "--layer-local",
             "The same, each layer on its own: some half of the time."},
            {"siren train align films.siren -m smollm2.gguf --teacher states.bin -o runs/kd --loss "
             "kd+ce --kd-temperature 2",
             "Distillation with the true ratings, on the same rows."},
            {"siren train align films.siren -m smollm2.gguf -o runs/rps --loss rps --rows 2000",
             "Without a teacher: an ordinal loss on train rows."},
            {0}},
    .run = run,
};
