/* Options that many commands share, and the look-up of a command's options. */
#include <string.h>

#include "cli/frame.h"

static const struct {
    unsigned bit;
    struct cli_option option;
} shared[] = {
    {CLI_MODEL,
     {.name = "model",
      .letter = 'm',
      .type = CLI_STRING,
      .argument = "FILE-OR-DIR",
      .environment = "SIREN_MODEL",
      .help = "the language model: a .gguf file, or a folder with config.json, safetensors and "
              "tokenizer.json"}},
    {CLI_ADAPTER,
     {.name = "adapter",
      .letter = 'a',
      .type = CLI_STRING,
      .argument = "DIR",
      .once = 1,
      .help = "a LoRA adapter of the model: a folder with adapter_config.json and "
              "adapter_model.safetensors"}},
    {CLI_ENCODER,
     {.name = "encoder",
      .letter = 'e',
      .type = CLI_STRING,
      .argument = "DIR",
      .environment = "SIREN_ENCODER",
      .help = "the sentence encoder's folder (BERT or XLM-R in Hugging Face layout)"}},
    {CLI_USER,
     {.name = "user",
      .letter = 'u',
      .type = CLI_STRING,
      .argument = "ID",
      .once = 1,
      .help = "the user, as the imported data names them"}},
    {CLI_ITEM,
     {.name = "item",
      .letter = 'i',
      .type = CLI_STRING,
      .argument = "ID",
      .once = 1,
      .help = "the item, as the imported data names it"}},
    {CLI_ITEMS,
     {.name = "item",
      .letter = 'i',
      .type = CLI_STRING,
      .argument = "ID",
      .help = "the item, as the imported data names it; may be given several times"}},
    {CLI_SPLIT,
     {.name = "split",
      .letter = 's',
      .type = CLI_STRING,
      .argument = "NAME",
      .help =
          "the part of the ratings: train, valid, test, history (the movies' own split: "
          "precedes the others) or none (added by `siren rate`); valid:A or valid:B: of one "
          "half of the users; train:last: the last one of each user, train:last3: the last three; "
          "train:last3+valid:A: both (default test, or train where a model is trained)"}},
    {CLI_JSON, {.name = "json", .type = CLI_FLAG, .help = "print JSON instead of text"}},
    {CLI_SEED,
     {.name = "seed",
      .type = CLI_INT,
      .argument = "N",
      .initial = "1",
      .min = 0,
      .max = 9007199254740991.0,
      .help = "seed of everything that is drawn at random"}},
    {CLI_THREADS,
     {.name = "threads",
      .letter = 't',
      .type = CLI_INT,
      .argument = "N",
      .initial = "0",
      .min = 0,
      .max = 256,
      .help = "threads to compute with; 0: one for each processor (results do not depend on it)"}},
    {CLI_ISA,
     {.name = "isa",
      .type = CLI_CHOICE,
      .argument = "SET",
      .initial = "auto",
      .choices = "auto|portable|avx2|avx512|amx",
      .environment = "SIREN_ISA",
      .help = "the instruction set of the kernels"}},
    {CLI_ISA,
     {.name = "compute",
      .type = CLI_CHOICE,
      .argument = "MODE",
      .initial = "f32",
      .choices = "f32|bf16",
      .environment = "SIREN_COMPUTE",
      .help =
          "numbers in products with weights; bf16: rounded, faster with AVX512-BF16 or AMX only"}},
};

static const struct cli_option universal[] = {
    {.name = "quiet", .letter = 'q', .type = CLI_FLAG, .help = "no progress and no notes"},
    {.name = "no-color", .type = CLI_FLAG, .help = "no bold text on a terminal (as $NO_COLOR)"},
    {.name = "help", .letter = 'h', .type = CLI_FLAG, .help = "show this help"},
};

enum {
    N_SHARED = sizeof shared / sizeof *shared,
    N_UNIVERSAL = sizeof universal / sizeof *universal
};

const struct cli_option *cli_option_at(const struct cli_command *command, size_t index)
{
    const struct cli_option *own = command ? command->options : NULL;
    for (; own && own->name; own++)
        if (index-- == 0) return own;
    for (size_t i = 0; command && i < N_SHARED; i++)
        if ((command->common & shared[i].bit) && index-- == 0) return &shared[i].option;
    return index < N_UNIVERSAL ? &universal[index] : NULL;
}

int cli_is_path(const char *argument)
{
    static const char *const paths[] = {"FILE",      "DIR",    "FILE-OR-DIR",
                                        "WORKSPACE", "SOURCE", "MODEL"};
    for (size_t i = 0; argument && i < sizeof paths / sizeof *paths; i++)
        if (strcmp(argument, paths[i]) == 0) return 1;
    return 0;
}

int cli_is_own_option(const struct cli_command *command, const struct cli_option *option)
{
    for (const struct cli_option *o = command ? command->options : NULL; o && o->name; o++)
        if (o == option) return 1;
    return 0;
}

const struct cli_option *cli_find_option(const struct cli_command *command, const char *name,
                                         size_t length)
{
    const struct cli_option *o;
    for (size_t i = 0; (o = cli_option_at(command, i)); i++)
        if (strlen(o->name) == length && memcmp(o->name, name, length) == 0) return o;
    return NULL;
}

const char *cli_group_title(enum cli_group group)
{
    static const char *titles[] = {
        [CLI_DATA] = "Ratings in",
        [CLI_UNDERSTAND] = "Topics and tastes",
        [CLI_PREDICT] = "Predictions out",
        [CLI_JUDGE] = "How good is it?",
        [CLI_TRAIN] = "Teach a model",
        [CLI_INSPECT] = "Look inside a model (no workspace needed)",
        [CLI_TOOLS] = "Around the program",
    };
    return titles[group];
}
