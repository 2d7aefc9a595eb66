/* siren train sft: supervised fine-tuning of a LoRA adapter. */
#include <string.h>

#include "app/sft.h"
#include "cli/training_command.h"

/* An option that would change nothing is a mistake: who gives it believes that it does. */
static int check_given(struct cli *cli, int rationales)
{
    static const char *const of_ratings[] = {"ce", "rps", "smoothing", NULL};
    static const char *const of_rationales[] = {"answer-weight", NULL};
    static const char *const of_ce[] = {"smoothing", NULL};
    if (rationales)
        return cli_refuse(cli, of_ratings, "it is about ratings without rationales: --response ao");
    int rc = cli_refuse(cli, of_rationales, "it is about rationales: give --response cot");
    if (!rc && !(cli_float(cli, "ce") > 0))
        rc = cli_refuse(cli, of_ce, "it is about the cross-entropy, whose weight --ce is 0");
    if (!rc && !(cli_float(cli, "ce") > 0) && !(cli_float(cli, "rps") > 0))
        rc = cli_usage(cli, "--ce and --rps are both 0: there is nothing to learn from");
    return rc;
}

static int run(struct cli *cli)
{
    int rationales = strcmp(cli_string(cli, "response"), "ao") != 0;
    struct training_command t;
    struct trainer_result result;
    struct sft_options options = {.loss = {.ce = cli_float(cli, "ce"),
                                           .rps = cli_float(cli, "rps"),
                                           .smoothing = cli_float(cli, "smoothing")},
                                  .answer_weight = cli_float(cli, "answer-weight")};
    int rc = check_given(cli, rationales);
    if (!rc) rc = training_command_open(cli, &t, "sft", TRAINING_LR_ALL);
    if (rc) return rc;
    t.training.predict.mode = rationales ? SIREN_COT : SIREN_AO;
    rc = sft_train(&t.training, &options, &result, cli_progress(cli), cli_cancel(cli), &cli->err);
    rc = training_command_report(cli, &t, &result, rc);
    training_command_close(&t);
    return rc;
}

const struct cli_command cmd_train_sft = {
    .name = "train sft",
    .group = CLI_TRAIN,
    .summary = "fine-tune a model on ratings, or on rationales as a warm start",
    .usage = "WORKSPACE",
    .description =
        "Trains a LoRA adapter on rows of the train split, each with the prompt that `siren eval` "
        "would give it:\n\n"
        "  --response ao    the rating behind an answer-only prompt (cross-entropy\n"
        "                   over the labels; --rps adds a ranked probability score)\n"
        "  --response cot   a rationale that the program writes from the sketch, and\n"
        "                   the rating: a warm start that teaches the form\n\n"
        "With --adapter a copy of that adapter is trained further.\n\n"
        "Every step is a line of log.jsonl in --out, and the adapter that is best on --eval-split "
        "is kept (by the MAE of the median; for rationales by their loss): `siren eval --adapter "
        "DIR/adapter` says how good it is.  Ctrl-C, or a crash, "
        "loses nothing but the steps since the last checkpoint: the same command with --resume "
        "goes on, and gives the same bits as if it had never stopped.",
    .common = TRAINING_COMMON,
    .options =
        (const struct cli_option[]){
            OPTION_CHOICE("response", "KIND", "ao", "ao|cot",
                          "what is learned: the rating, or a rationale with it"),
            OPTION_FLOAT("answer-weight", "W", "0", 0, 1e6,
                         "for rationales: weight of the rating's own token, beside the mean over "
                         "all tokens of 1; at 0 the form is learned and hardly the rating"),
            OPTION_FLOAT("ce", "W", "1", 0, 1e6, "weight of the cross-entropy, for ratings"),
            OPTION_FLOAT("rps", "W", "0", 0, 1e6,
                         "weight of the ranked probability score, for ratings"),
            OPTION_FLOAT("smoothing", "S", "0", 0, 0.99,
                         "part of the cross-entropy's target that the neighbouring ratings get"),
            TRAINING_OPTIONS("3", "32", "1e-4", TRAINING_LR_ALL, "0.05", "0.05", "1024"),
            PROMPT_OPTIONS,
            {0}},
    .examples =
        (const struct cli_example[]){
            {"siren train sft films.siren --model smollm2.gguf --out runs/ce --rows 2000",
             "The rating, on 2,000 train rows."},
            {"siren train sft films.siren -m smollm2.gguf --out runs/ce --rows 2000 --resume",
             "Go on with it after Ctrl-C."},
            {"siren train sft films.siren -m smollm2.gguf -o runs/warm --response cot "
             "--lora-targets all --lr 2e-4",
             "A warm start: teach the model to reason in the right form."},
            {0}},
    .run = run,
};
