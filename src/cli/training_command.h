/* What the commands share that train: `siren train sft`, `train align`, `train grpo`. */
#ifndef SIREN_CLI_TRAINING_COMMAND_H
#define SIREN_CLI_TRAINING_COMMAND_H

#include "app/training.h"
#include "cli/answering.h"

#define TRAINING_COMMON                                                                            \
    CLI_JSON | CLI_SEED | CLI_THREADS | CLI_MODEL | CLI_ADAPTER | CLI_SPLIT | CLI_ISA

/* Learning rates where all weights are trained and --lr is not given: a tenth of the adapters'; of
 * GRPO the paper's (SPEC 6.2). */
#define TRAINING_LR_ALL "1e-5"
#define TRAINING_LR_ALL_GRPO "1e-6"

/* Options of a command's own, to stand in its table beside PROMPT_OPTIONS; the defaults are those
 * of training_defaults() or the command's, as text. */
#define TRAINING_OPTIONS(epochs_, batch_, lr_, lr_all_, decay_, dropout_, pass_tokens_)            \
    OPTION_STRING("out", "DIR", NULL,                                                              \
                  "the run's folder: adapter, checkpoint, log, learning curve", .letter = 'o'),    \
        OPTION_FLAG("resume",                                                                      \
                    "go on with the run in --out: the same bits as if it had never stopped"),      \
        NAME_OPTION("a name for the run, also for one that goes on"),                              \
        OPTION_INT("rows", "N", "0", 0, 1e12,                                                      \
                   "rows to train on, drawn with --seed; 0: all of --split (train)",               \
                   .letter = 'n'),                                                                 \
        FOLD_OPTION,                                                                               \
        OPTION_STRING("eval-split", "NAME", "valid:A",                                             \
                      "rows to choose the adapter by; none: the last one is kept"),                \
        OPTION_INT("eval-rows", "N", "300", 0, 1e12, "of them, drawn with --seed; 0: all"),        \
        OPTION_INT("eval-every", "N", "0", 0, 1e12, "steps between evaluations; 0: an epoch"),     \
        OPTION_FLAG("eval-first", "evaluate before the first step, too"),                          \
        OPTION_INT("patience", "N", "0", 0, 1e9,                                                   \
                   "stop after N evaluations without a better one; 0: never"),                     \
        OPTION_INT("checkpoint-every", "N", "0", 0, 1e12,                                          \
                   "steps between checkpoints, besides one every five minutes; 0: only those"),    \
        OPTION_CHOICE(                                                                             \
            "weights", "WHICH", "lora", "lora|all",                                                \
            "what is trained: a LoRA adapter, or all weights (full fine-tuning); the result is "   \
            "then the model DIR/model"),                                                           \
        OPTION_STRING(                                                                             \
            "lora-targets", "LIST", "k,v",                                                         \
            "what a new adapter adapts: q, k, v, o, gate, up, down joined by commas; ffn: "        \
            "gate,up,down; all"),                                                                  \
        OPTION_STRING("train-layers", "A-B", NULL,                                                 \
                      "only these layers, from 0: a new adapter's, or with --weights all the "     \
                      "weights that are trained (default all, and embedding and head)"),           \
        OPTION_INT("rank", "R", "8", 1, 4096, "rank of a new adapter"),                            \
        OPTION_FLOAT("alpha", "A", "16", 1e-6, 1e6, "a new adapter's scale is alpha / rank"),      \
        OPTION_FLOAT("lora-plus", "X", "1", 1e-6, 1e6,                                             \
                     "rate of an adapter's B beside that of its A (LoRA+: 4 to 16)"),              \
        OPTION_FLAG("rslora", "a new adapter's scale is alpha / sqrt(rank)"),                      \
        OPTION_FLOAT(                                                                              \
            "dropout", "P", dropout_, 0, 0.99,                                                     \
            "share of the adapter's inputs left out in training (--adapter: as it says)"),         \
        OPTION_FLOAT("epochs", "N", epochs_, 1e-6, 1e6, "times that each row is seen"),            \
        OPTION_INT("max-steps", "N", "0", 0, 1e12,                                                 \
                   "at most so many steps; 0: as the epochs give"),                                \
        OPTION_INT("batch", "N", batch_, 1, 1e6, "rows a step", .letter = 'b'),                    \
        OPTION_FLOAT("lr", "RATE", lr_, 0, 1000,                                                   \
                     "learning rate; with --weights all " lr_all_ " unless it is given"),          \
        OPTION_CHOICE("schedule", "NAME", "constant", "constant|linear|cosine",                    \
                      "of the learning rate, after the warm-up"),                                  \
        OPTION_INT("warmup", "N", "-1", -1, 1e12,                                                  \
                   "steps of warm-up; -1: 100, or a tenth of all steps if that is less"),          \
        OPTION_FLOAT("weight-decay", "W", decay_, 0, 1000, "AdamW's weight decay"),                \
        OPTION_FLOAT("clip", "NORM", "1", 0, 1e9, "largest norm of a step's gradient; 0: any"),    \
        OPTION_INT("pass-tokens", "N", pass_tokens_, 1, 1e9,                                       \
                   "tokens a pass, shared ones once; more where that spares more, as for a "       \
                   "prompt with its answers"),                                                     \
        OPTION_INT("memory", "MIB", "768", 0, 1e9,                                                 \
                   "for the activations that a pass keeps; layers beyond it are computed twice; "  \
                   "its keys, values and buffers come on top; 0: any")

/* The workspace, the model and all options of TRAINING_OPTIONS and PROMPT_OPTIONS; app and lm are
 * the caller's to close (training_command_close()).  kind: "sft"; lr_all: the table's. */
struct training_command {
    struct siren_app app;
    struct siren_lm lm;
    struct training training;
    char *command;
    struct cli *cli;
    double noted; /* when a line was last shown */
};
int training_command_open(struct cli *cli, struct training_command *out, const char *kind,
                          const char *lr_all);
void training_command_close(struct training_command *t);
/* For trainer_options.watch, with a training_command: every evaluation, and a step now and then. */
void training_command_watch(void *command, const json_t *line);
/* For grpo_options.warn, with a struct cli: a note above the progress. */
void training_command_warn(void *cli, const char *text);

/* A usage error where --split has rows that are never trained on, or where --eval-split (NULL:
 * none) has others than valid's or rows of --split. */
int training_command_check_splits(struct cli *cli, const char *split, const char *eval_split);

/* Where nothing is judged (--eval-split none): a usage error for these options, which are about it.
 */
int training_command_check_unjudged(struct cli *cli, const char *const *names);
/* "k,v", "all", "ffn" … to bits; a usage error otherwise. */
int training_command_targets(struct cli *cli, const char *text, unsigned *targets);

/* With --resume, where the folder lacks the file `name`, `what` in words: a mistyped folder would
 * begin anew without a word. */
void training_command_note_anew(struct cli *cli, const char *folder, const char *name,
                                const char *what);

/* What came of it: the table or --json; a hint at --resume where it was stopped.  Returns rc. */
int training_command_report(struct cli *cli, const struct training_command *t,
                            const struct trainer_result *result, int rc);

#endif
