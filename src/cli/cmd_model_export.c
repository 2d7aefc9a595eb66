/* siren model export: a model as a Hugging Face folder, for other programs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/buf.h"
#include "cli/cli.h"
#include "siren/export.h"

/* The last part of a path, without slashes behind it and ".gguf". */
static void put_name(struct buf *b, const char *path)
{
    size_t end = strlen(path), start;
    while (end > 1 && path[end - 1] == '/') end--;
    if (end > 5 && !memcmp(path + end - 5, ".gguf", 5)) end -= 5;
    for (start = end; start > 0 && path[start - 1] != '/';) start--;
    buf_append(b, path + start, end - start);
}

/* "smollm2-films-f32", in the current folder. */
static char *default_folder(const struct cli *cli)
{
    const char *adapter = cli_string(cli, "adapter");
    struct buf b = {0};
    put_name(&b, cli_arg(cli, 0));
    if (adapter) {
        buf_putc(&b, '-');
        put_name(&b, adapter);
    }
    buf_printf(&b, "-%s", cli_string(cli, "dtype"));
    return buf_take(&b);
}

static int tell_export(struct cli *cli, const char *folder, const struct siren_export_report *r)
{
    if (cli->json)
        return cli_print_json(
            cli, json_pack("{s:o, s:s, s:s*, s:s, s:b, s:I, s:I, s:I}", "output", app_text(folder),
                           "source", r->source, "adapter", *r->adapter ? r->adapter : NULL, "dtype",
                           cli_string(cli, "dtype"), "exact", r->exact, "tensors",
                           (json_int_t)r->n_tensors, "parameters", (json_int_t)r->n_parameters,
                           "bytes", (json_int_t)r->bytes));
    cli_print(cli, "%s: %s parameters in %s\n", folder, cli_number(r->n_parameters),
              cli_bytes(r->bytes));
    if (*r->adapter) cli_note(cli, "%s is merged into the weights", r->adapter);
    if (r->exact) cli_note(cli, "no number was rounded: adapters of %s fit", r->source);
    return 0;
}

static int run(struct cli *cli)
{
    const char *given = cli_string(cli, "out");
    const struct siren_export_options options = {.adapter = cli_string(cli, "adapter"),
                                                 .dtype = cli_string(cli, "dtype")};
    struct siren_export_report report;
    char *folder = given ? strdup(given) : default_folder(cli);
    if (!folder) return siren_fail_memory(&cli->err, "a path", 0);
    int rc = siren_model_export(cli_arg(cli, 0), folder, &options, &report, cli_progress(cli),
                                &cli->err);
    cli_progress_end(cli);
    if (!rc) rc = tell_export(cli, folder, &report);
    free(folder);
    return rc;
}

const struct cli_command cmd_model_export = {
    .name = "model export",
    .group = CLI_INSPECT,
    .summary = "write a model, with its adapter merged, as a Hugging Face folder",
    .usage = "MODEL",
    .description =
        "For transformers, vLLM and the like: model.safetensors, config.json, tokenizer.json and "
        "what else belongs to a language model.  MODEL is a GGUF file, whose blocks are "
        "dequantised and whose tokenizer is written out, or a Hugging Face folder.  The product of "
        "--adapter's matrices is added to the weights.\n\n"
        "In f32 nothing is rounded: the export answers as MODEL does, to the bit, and an adapter "
        "that was trained on either one fits the other, here and in PEFT.\n\n"
        "The folder appears when it is whole; one that is there already is not touched.",
    .common = CLI_JSON | CLI_ADAPTER,
    .options = (const struct cli_option[]){{.name = "out",
                                            .letter = 'o',
                                            .type = CLI_STRING,
                                            .argument = "DIR",
                                            .help = "the folder (default: the model's name, the "
                                                    "adapter's and the type, here)"},
                                           {.name = "dtype",
                                            .type = CLI_CHOICE,
                                            .argument = "TYPE",
                                            .initial = "f32",
                                            .choices = "f32|bf16|f16",
                                            .help = "of the numbers that are written"},
                                           {0}},
    .examples =
        (const struct cli_example[]){
            {"siren model export smollm2.gguf --out smollm2-f32",
             "The base of an adapter, for PEFT."},
            {"siren model export smollm2.gguf --adapter films --dtype bf16",
             "A model that needs no adapter any more: smollm2-films-bf16."},
            {0},
        },
    .run = run,
};
