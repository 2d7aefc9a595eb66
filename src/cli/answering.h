/* What the commands share that ask a language model for ratings. */
#ifndef SIREN_CLI_ANSWERING_H
#define SIREN_CLI_ANSWERING_H

#include "cli/cli.h"
#include "siren/app.h"
#include "siren/calibration.h"

/* Options of a command's own, to stand in its table. */
#define ROW_OPTIONS                                                                                \
    {.name = "fold",                                                                               \
     .type = CLI_INT,                                                                              \
     .argument = "N",                                                                              \
     .initial = "-1",                                                                              \
     .min = -1,                                                                                    \
     .max = 254,                                                                                   \
     .help = "the fold that is the test set, where the workspace has folds"},                      \
    {                                                                                              \
        .name = "limit", .letter = 'n', .type = CLI_INT, .argument = "N", .initial = "0",          \
        .min = 0, .max = 1e12, .help = "rows, drawn with --seed; 0: all"                           \
    }
/* What prompts say: read by answering_prompt(). */
#define PROMPT_OPTIONS                                                                             \
    {.name = "strategy",                                                                           \
     .type = CLI_STRING,                                                                           \
     .argument = "WORDS",                                                                          \
     .help = "what the prompt says of the user, joined by '+': recent, more, sketch, counts, "     \
             "profile, habit; description for the item's; or none (default recent+sketch, or "     \
             "recent where there are no topics)"},                                                 \
        {.name = "recent",                                                                         \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "10",                                                                          \
         .min = 1,                                                                                 \
         .max = 1000,                                                                              \
         .help = "ratings shown by `recent`"},                                                     \
        {.name = "more",                                                                           \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "50",                                                                          \
         .min = 1,                                                                                 \
         .max = 1000,                                                                              \
         .help = "ratings shown by `more`"},                                                       \
        {.name = "majority",                                                                       \
         .type = CLI_FLAG,                                                                         \
         .help = "the sketch judges topics by majority instead of by the mean rating"},            \
        {.name = "decay",                                                                          \
         .type = CLI_FLAG,                                                                         \
         .help = "the sketch forgets with a half-life of one year"},                               \
        {.name = "prompt-limit",                                                                   \
         .type = CLI_INT,                                                                          \
         .argument = "N",                                                                          \
         .initial = "2048",                                                                        \
         .min = 64,                                                                                \
         .max = 1000000,                                                                           \
         .help = "tokens of a prompt; longer ones lose ratings from the middle of the history"},   \
    {                                                                                              \
        .name = "chat-template", .type = CLI_STRING, .argument = "FILE",                           \
        .help = "a chat template of your own instead of the model's"                               \
    }

/* And how they are answered: read by answering_options(). */
#define ANSWER_OPTIONS                                                                             \
    PROMPT_OPTIONS,                                                                                \
    {                                                                                              \
        .name = "reasoning", .type = CLI_FLAG,                                                     \
        .help = "let the model reason before it answers (slow), instead of reading the rating "    \
                "off its next-token distribution"                                                  \
    }

#define SAMPLING_OPTIONS(tokens)                                                                   \
    {.name = "temperature",                                                                        \
     .type = CLI_FLOAT,                                                                            \
     .argument = "T",                                                                              \
     .initial = "0",                                                                               \
     .min = 0,                                                                                     \
     .max = 100,                                                                                   \
     .help = "sampling temperature; 0 takes the most probable token"},                             \
        {.name = "top-p",                                                                          \
         .type = CLI_FLOAT,                                                                        \
         .argument = "P",                                                                          \
         .initial = "1",                                                                           \
         .min = 0,                                                                                 \
         .max = 1,                                                                                 \
         .help = "sample from the most probable tokens that make up P"},                           \
        {.name = "top-k",                                                                          \
         .type = CLI_INT,                                                                          \
         .argument = "K",                                                                          \
         .initial = "0",                                                                           \
         .min = 0,                                                                                 \
         .max = 1000000,                                                                           \
         .help = "sample from the K most probable tokens; 0: from all"},                           \
    {                                                                                              \
        .name = "max-tokens", .type = CLI_INT, .argument = "N", .initial = tokens, .min = 1,       \
        .max = 1000000, .help = "longest answer"                                                   \
    }

/* For commands whose answering_options() take the sampling options. */
#define SAMPLES_OPTION                                                                             \
    {                                                                                              \
        .name = "samples", .type = CLI_INT, .argument = "N", .initial = "0", .min = 0,             \
        .max = 1000,                                                                               \
        .help = "with --reasoning: the mean, over N sampled texts, of the distribution over the "  \
                "ratings after each text (N > 1 needs a --temperature); 0: the number that one "   \
                "text gives"                                                                       \
    }

#define CALIBRATION_OPTION                                                                         \
    {                                                                                              \
        .name = "calibration", .type = CLI_STRING, .argument = "FILE",                             \
        .help = "make the distributions of the model's with this file of `siren calibrate`"        \
    }
/* Its file, where one is given, into options->calibration, which the command frees
 * (siren_calibration_free). */
int answering_calibration(struct cli *cli, struct siren_predict_options *options);

/* The model of --model, --adapter, --chat-template, --isa and --threads; raw: no template is
 * needed. */
int answering_open(struct cli *cli, struct siren_lm *lm, int raw);
/* … with weights to be trained (siren_model_options); NULL: none. */
int answering_open_trainable(struct cli *cli, struct siren_lm *lm, int raw,
                             const struct siren_trainable *trainable);
/* Sampling of the SAMPLING_OPTIONS and --seed. */
struct siren_sampling answering_sampling(const struct cli *cli);
/* The PROMPT_OPTIONS; the mode stays answer only. */
int answering_prompt(struct cli *cli, const struct siren_app *app,
                     struct siren_predict_options *out);
/* The ANSWER_OPTIONS (and, with sampling, the SAMPLING_OPTIONS). */
int answering_options(struct cli *cli, const struct siren_app *app, int sampling,
                      struct siren_predict_options *out);

/* Cells of the distribution for a table: as many columns as answering_columns() names. */
void answering_columns(const struct siren_app *app, char *columns, size_t size, char *align);
void answering_cells(const struct siren_app *app, struct cli_table *table,
                     const struct siren_answer *answer);
/* "▁▂▁▅█" */
void answering_spark(const struct siren_answer *answer, char *text, size_t size);
/* The command line that was given, for the run's record: "siren eval films.siren …". */
char *answering_command(const struct cli *cli);

#endif
