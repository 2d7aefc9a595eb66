/* What the commands share that ask a language model for ratings. */
#ifndef SIREN_CLI_ANSWERING_H
#define SIREN_CLI_ANSWERING_H

#include "cli/cli.h"
#include "siren/app.h"
#include "siren/calibration.h"

/* Options of a command's own, to stand in its table. */
#define FOLD_OPTION                                                                                \
    OPTION_INT("fold", "N", NULL, 0, 254,                                                          \
               "the fold that is the test set, where the workspace has folds")
#define ROW_OPTIONS                                                                                \
    FOLD_OPTION,                                                                                   \
        OPTION_INT("limit", "N", "0", 0, 1e12, "rows, drawn with --seed; 0: all", .letter = 'n')

/* Of a run; explanation: a literal, to which the rule is added. */
#define NAME_OPTION(explanation)                                                                   \
    OPTION_STRING("name", "TEXT", NULL,                                                            \
                  explanation "; at most 200 bytes, without control characters")

#define TEMPLATE_OPTION                                                                            \
    OPTION_STRING("chat-template", "FILE", NULL,                                                   \
                  "a chat template of your own instead of the model's")
#define GAP_OPTION                                                                                 \
    OPTION_INT("gap", "N", "0", 0, 1000000,                                                        \
               "leave the N ratings just before a target out of its history; 1 is what "           \
               "protocol paper does to test")
/* What prompts say: read by answering_prompt(). */
#define PROMPT_OPTIONS                                                                             \
    OPTION_STRING(                                                                                 \
        "strategy", "WORDS", NULL,                                                                 \
        "what the prompt says of the user, joined by '+': recent, more, sketch, counts, "          \
        "profile, habit; of the candidate: description (not under protocol paper), others "        \
        "(counts of other users' ratings); or none (default recent+sketch, or recent where there " \
        "are no topics)"),                                                                         \
        OPTION_INT("recent", "N", "10", 1, 1000, "ratings shown by `recent`"),                     \
        OPTION_INT("more", "N", "50", 1, 1000, "ratings shown by `more`"),                         \
        OPTION_FLAG("majority",                                                                    \
                    "the sketch judges topics by majority instead of by the mean rating"),         \
        OPTION_FLAG("decay",                                                                       \
                    "the sketch forgets with a half-life of one year, until the time of the "      \
                    "rating that is predicted (of one to come: of the user's last)"),              \
        GAP_OPTION,                                                                                \
        OPTION_INT("prompt-limit", "N", "2048", 64, 1000000,                                       \
                   "tokens of a prompt; longer ones lose ratings from the middle of the history"), \
        TEMPLATE_OPTION

/* And how they are answered: read by answering_options(). */
#define ANSWER_OPTIONS                                                                             \
    PROMPT_OPTIONS,                                                                                \
        OPTION_FLAG(                                                                               \
            "reasoning",                                                                           \
            "let the model reason before it answers (slow), instead of reading the rating "        \
            "off its next-token distribution")

#define SAMPLING_OPTIONS(tokens)                                                                   \
    OPTION_FLOAT("temperature", "T", "0", 0, 100,                                                  \
                 "sampling temperature; 0 takes the most probable token"),                         \
        OPTION_FLOAT("top-p", "P", "1", 0, 1,                                                      \
                     "sample from the most probable tokens that make up P"),                       \
        OPTION_INT("top-k", "K", "0", 0, 1000000,                                                  \
                   "sample from the K most probable tokens; 0: from all"),                         \
        OPTION_INT("max-tokens", "N", tokens, 1, 1000000, "longest answer")

/* For commands whose answering_options() take the sampling options. */
#define SAMPLES_OPTION                                                                             \
    OPTION_INT("samples", "N", "0", 0, 1000,                                                       \
               "with --reasoning: the mean, over N sampled texts, of the distribution over the "   \
               "ratings after each text (N > 1 needs a --temperature); 0: the number that one "    \
               "text gives")

#define CALIBRATION_OPTION                                                                         \
    OPTION_STRING("calibration", "FILE", NULL,                                                     \
                  "make the distributions of the model's with this file of `siren calibrate`")
/* Its file, where one is given, into options->calibration, which the command frees
 * (siren_calibration_free). */
int answering_calibration(struct cli *cli, struct siren_predict_options *options);

/* The model of --model, --adapter, --chat-template, --isa and --threads; raw: no template is
 * needed. */
int answering_open(struct cli *cli, struct siren_lm *lm, int raw);
/* … with weights to be trained (siren_model_options); NULL: none. */
int answering_open_trainable(struct cli *cli, struct siren_lm *lm, int raw,
                             const struct siren_trainable *trainable);
/* A text of a file that goes on as a string has no NUL byte, which would end it. */
int answering_whole(struct cli *cli, const char *name, const char *text, size_t size);
/* Sampling of the SAMPLING_OPTIONS and --seed. */
struct siren_sampling answering_sampling(const struct cli *cli);
/* A usage error where they, or several --samples, lack the --temperature that they need. */
int answering_chance(struct cli *cli);
/* A usage error for the first option given that chooses a model or says how it answers: of
 * CLI_MODEL, CLI_ADAPTER, CLI_ISA, and those above but FOLD and ROW. */
int answering_unasked(struct cli *cli, const char *why);
/* A usage error where --top-p leaves nothing to sample from. */
int answering_top_p(struct cli *cli);
/* A usage error where this option's text is no split (siren_eval_options). */
int answering_split(struct cli *cli, const char *option);
/* Of the FOLD_OPTION; -1: none. */
int answering_fold(const struct cli *cli);
/* A usage error where --name is none for a run (siren_run_name_check). */
int answering_name(struct cli *cli);
/* The PROMPT_OPTIONS; the mode stays answer only. */
int answering_prompt(struct cli *cli, const struct siren_app *app,
                     struct siren_predict_options *out);
/* The ANSWER_OPTIONS (and, with sampling, the SAMPLING_OPTIONS). */
int answering_options(struct cli *cli, const struct siren_app *app, int sampling,
                      struct siren_predict_options *out);

/* Tells of a user that the workspace does not know; user NULL: of none. */
void answering_new_user(struct cli *cli, const char *user);

/* Cells of the distribution for a table: as many columns as answering_columns() names. */
void answering_columns(const struct siren_app *app, char *columns, size_t size, char *align);
void answering_cells(const struct siren_app *app, struct cli_table *table,
                     const struct siren_answer *answer);
/* "▁▂▁▅█" */
void answering_spark(const struct siren_answer *answer, char *text, size_t size);
/* The command line that was given, for the run's record: "siren eval films.siren …". */
char *answering_command(void);

#endif
