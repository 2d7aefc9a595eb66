/* What the commands share that train: `siren train sft`, `train align`, `train grpo`. */
#ifndef SIREN_CLI_TRAINING_H
#define SIREN_CLI_TRAINING_H

#include "app/training.h"
#include "cli/answering.h"

/* Options of a command's own, to stand in its table beside PROMPT_OPTIONS; the defaults are those
 * of SPEC 7.3 or the command's, as text.  Common: CLI_JSON | CLI_SEED | CLI_THREADS | CLI_MODEL |
 * CLI_ADAPTER | CLI_SPLIT | CLI_ISA. */
#define TRAINING_OPTIONS(epochs_, batch_, lr_, decay_, dropout_)                                   \
    {.name = "out",                                                                                \
     .letter = 'o',                                                                                \
     .type = CLI_STRING,                                                                           \
     .argument = "DIR",                                                                            \
     .help = "the run's folder: adapter, checkpoint, log, learning curve"},                        \
        {.name = "resume",                                                                         \
         .type = CLI_FLAG,                                                                         \
         .help = "go on with the run in --out: the same bits as if it had never stopped"},         \
        {.name = "name", .type = CLI_STRING, .argument = "TEXT", .help = "a name for the run"},    \
        {.name = "rows",                                                                           \
         .letter = 'n',                                                                            \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "0",                                                                           \
         .min = 0,                                                                                 \
         .max = 1e12,                                                                              \
         .help = "rows to train on, drawn with --seed; 0: all of --split (train)"},                \
        {.name = "fold",                                                                           \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "-1",                                                                          \
         .min = -1,                                                                                \
         .max = 254,                                                                               \
         .help = "the fold that is the test set, where the workspace has folds"},                  \
        {.name = "eval-split",                                                                     \
         .type = CLI_STRING,                                                                       \
         .argument = "NAME",                                                                       \
         .initial = "valid:A",                                                                     \
         .help = "rows to choose the adapter by; none: the last one is kept"},                     \
        {.name = "eval-rows",                                                                      \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "300",                                                                         \
         .min = 0,                                                                                 \
         .max = 1e12,                                                                              \
         .help = "of them, drawn with --seed; 0: all"},                                            \
        {.name = "eval-every",                                                                     \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "0",                                                                           \
         .min = 0,                                                                                 \
         .max = 1e12,                                                                              \
         .help = "steps between evaluations; 0: an epoch"},                                        \
        {.name = "eval-first", .type = CLI_FLAG, .help = "evaluate before the first step, too"},   \
        {.name = "patience",                                                                       \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "0",                                                                           \
         .min = 0,                                                                                 \
         .max = 1e9,                                                                               \
         .help = "stop after N evaluations without a better one; 0: never"},                       \
        {.name = "checkpoint-every",                                                               \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "0",                                                                           \
         .min = 0,                                                                                 \
         .max = 1e12,                                                                              \
         .help = "steps between checkpoints, besides one every five minutes; 0: only those"},      \
        {.name = "weights",                                                                        \
         .type = CLI_CHOICE,                                                                       \
         .argument = "WHICH",                                                                      \
         .initial = "lora",                                                                        \
         .choices = "lora|all",                                                                    \
         .help = "what is trained: a LoRA adapter, or all weights (full fine-tuning: use a "       \
                 "tenth of the learning rate or less); the result is then the model DIR/model"},   \
        {.name = "lora-targets",                                                                   \
         .type = CLI_STRING,                                                                       \
         .argument = "LIST",                                                                       \
         .initial = "k,v",                                                                         \
         .help = "what a new adapter adapts: q, k, v, o, gate, up, down joined by commas; ffn; "   \
                 "all"},                                                                           \
        {.name = "rank",                                                                           \
         .type = CLI_INT,                                                                          \
         .argument = "R",                                                                          \
         .initial = "8",                                                                           \
         .min = 1,                                                                                 \
         .max = 4096,                                                                              \
         .help = "its rank"},                                                                      \
        {.name = "alpha",                                                                          \
         .type = CLI_FLOAT,                                                                        \
         .argument = "A",                                                                          \
         .initial = "16",                                                                          \
         .help = "its scale is alpha / rank"},                                                     \
        {.name = "rslora", .type = CLI_FLAG, .help = "its scale is alpha / sqrt(rank)"},           \
        {.name = "dropout",                                                                        \
         .type = CLI_FLOAT,                                                                        \
         .argument = "P",                                                                          \
         .initial = dropout_,                                                                      \
         .help = "on what goes into it, in training"},                                             \
        {.name = "epochs",                                                                         \
         .type = CLI_FLOAT,                                                                        \
         .argument = "N",                                                                          \
         .initial = epochs_,                                                                       \
         .help = "times that each row is seen"},                                                   \
        {.name = "max-steps",                                                                      \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "0",                                                                           \
         .min = 0,                                                                                 \
         .max = 1e12,                                                                              \
         .help = "at most so many steps; 0: as the epochs give"},                                  \
        {.name = "batch",                                                                          \
         .letter = 'b',                                                                            \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = batch_,                                                                        \
         .min = 1,                                                                                 \
         .max = 1e6,                                                                               \
         .help = "rows a step"},                                                                   \
        {.name = "lr",                                                                             \
         .type = CLI_FLOAT,                                                                        \
         .argument = "RATE",                                                                       \
         .initial = lr_,                                                                           \
         .help = "learning rate"},                                                                 \
        {.name = "schedule",                                                                       \
         .type = CLI_CHOICE,                                                                       \
         .argument = "NAME",                                                                       \
         .initial = "constant",                                                                    \
         .choices = "constant|linear|cosine",                                                      \
         .help = "of the learning rate, after the warm-up"},                                       \
        {.name = "warmup",                                                                         \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "-1",                                                                          \
         .min = -1,                                                                                \
         .max = 1e12,                                                                              \
         .help = "steps of warm-up; -1: 100, or a tenth of all steps if that is less"},            \
        {.name = "weight-decay",                                                                   \
         .type = CLI_FLOAT,                                                                        \
         .argument = "W",                                                                          \
         .initial = decay_,                                                                        \
         .help = "AdamW's"},                                                                       \
        {.name = "clip",                                                                           \
         .type = CLI_FLOAT,                                                                        \
         .argument = "NORM",                                                                       \
         .initial = "1",                                                                           \
         .help = "largest norm of a step's gradient; 0: any"},                                     \
        {.name = "pass-tokens",                                                                    \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "1024",                                                                        \
         .min = 1,                                                                                 \
         .max = 1e9,                                                                               \
         .help = "tokens a pass: a batch is cut into passes of so many"},                          \
    {                                                                                              \
        .name = "memory", .type = CLI_INT, .argument = "MB", .initial = "768", .min = 0,           \
        .max = 1e9,                                                                                \
        .help = "for a pass's activations; layers beyond it are computed twice; 0: any"            \
    }

/* The workspace, the model and all options of TRAINING_OPTIONS and PROMPT_OPTIONS; app and lm are
 * the caller's to close (training_close()).  kind: "sft". */
struct training_command {
    struct siren_app app;
    struct siren_lm lm;
    struct training training;
    char *command;
    struct cli *cli;
    double noted; /* when a line was last shown */
};
int training_open(struct cli *cli, struct training_command *out, const char *kind);
void training_close(struct training_command *t);
/* For trainer_options.watch, with a training_command: every evaluation, and a step now and then. */
void training_watch(void *command, const json_t *line);

/* "k,v", "all", "ffn" … to bits; a usage error otherwise. */
int training_targets(struct cli *cli, const char *text, unsigned *targets);

/* What came of it: the table or --json; a hint at --resume where it was stopped.  Returns rc. */
int training_report(struct cli *cli, const struct training_command *t,
                    const struct trainer_result *result, int rc);

#endif
