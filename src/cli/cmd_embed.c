#include "cli/cli.h"
#include "siren/understand.h"

static int tell_json(struct cli *cli, const struct siren_encoder *e,
                     const struct siren_embed_report *r)
{
    return cli_print_json(cli, json_pack("{s:s, s:i, s:b, s:i, s:i, s:i, s:i, s:f}", "encoder",
                                         e->identity, "dimensions", e->d, "unit", e->unit, "items",
                                         r->n_items, "embedded", r->n_embedded, "kept", r->n_kept,
                                         "placed", r->n_placed, "seconds", r->seconds));
}

static int tell_report(struct cli *cli, const struct siren_encoder *e,
                       const struct siren_embed_report *r)
{
    const char *path = cli_arg(cli, 0);
    if (cli->json) return tell_json(cli, e, r);
    cli_print(cli, "%s embedded by %s in %s, %s had a vector already.\n",
              cli_counted((uint64_t)r->n_embedded, "item"), e->identity, cli_seconds(r->seconds),
              cli_number((uint64_t)r->n_kept));
    if (r->n_placed)
        cli_print(cli, "%s that had no topic joined the nearest.\n",
                  cli_counted((uint64_t)r->n_placed, "item"));
    cli_note(cli, "Next: siren topics %s", cli_word(path));
    return 0;
}

/* What is kept of an embedding that was stopped. */
static void tell_stopped(struct cli *cli, const struct siren_embed_report *r)
{
    if (!r->n_items) return; /* before it began */
    if (cli_flag(cli, "all"))
        cli_note(cli,
                 "%s of %s embedded anew: the same command without --all keeps the others' old "
                 "vectors, and with it begins with the first again",
                 cli_number((uint64_t)r->n_embedded), cli_counted((uint64_t)r->n_items, "item"));
    else
        cli_note(cli, "%s of %s have a vector: the same command goes on with the others",
                 cli_number((uint64_t)(r->n_kept + r->n_embedded)),
                 cli_counted((uint64_t)r->n_items, "item"));
}

static int run(struct cli *cli)
{
    const char *path = cli_need(cli, "encoder");
    struct siren_pool *pool = path ? cli_pool(cli) : NULL;
    struct siren_encoder encoder;
    struct siren_embed_report report;
    struct siren_workspace *ws;
    if (!pool) return cli->err.code;
    int rc = siren_workspace_open(&ws, cli_arg(cli, 0), SIREN_WORKSPACE_WRITE, &cli->err);
    if (rc) return rc;
    const struct siren_encoder_options mode = {cli_string(cli, "isa"), cli_string(cli, "compute")};
    rc = siren_encoder_open(&encoder, path, &mode, pool, &cli->err);
    if (!rc) {
        rc = siren_embed_items(ws, &encoder, cli_flag(cli, "all"), &report, cli_progress(cli),
                               &cli->err);
        cli_progress_end(cli);
        if (rc == SIREN_ECANCEL) tell_stopped(cli, &report);
        if (!rc) rc = tell_report(cli, &encoder, &report);
        siren_encoder_close(&encoder);
    }
    siren_workspace_close(ws);
    return rc;
}

static const struct cli_option options[] = {
    {.name = "all", .letter = 'a', .type = CLI_FLAG, .help = "embed items that have a vector, too"},
    {0},
};

const struct cli_command cmd_embed = {
    .name = "embed",
    .group = CLI_UNDERSTAND,
    .summary = "turn the items' titles and categories into vectors",
    .usage = "WORKSPACE",
    .description =
        "A sentence encoder reads \"Title: …\", \"Category: …\" and \"Feature: …\" of each item; "
        "topics and retrieval rest on its vectors. Only items that are new or whose text has "
        "changed are embedded. Stopped half way, it keeps what is done and goes on next time. "
        "Items that the topics lack, such as `siren rate` adds, join their nearest if the topics "
        "are this encoder's.\n\n"
        "Vectors made with --compute bf16 are those of another encoder, as far as a workspace is "
        "concerned: they replace the others in topics and retrieval, and are never mixed.",
    .common = CLI_JSON | CLI_ENCODER | CLI_THREADS | CLI_ISA,
    .options = options,
    .examples =
        (const struct cli_example[]){
            {"siren embed films.siren --encoder all-minilm-l6-v2", "items that have no vector yet"},
            {"siren embed films.siren --encoder bge-m3 --all", "every item anew"},
            {0}},
    .run = run,
};
