/* siren logprobs: log-probabilities of continuations of a text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "cli/answering.h"
#include "siren/file.h"

enum { MAX_PROMPT = 64 << 20 };

struct job {
    struct cli *cli;
    struct siren_lm lm;
    struct siren_tokens prompt;
    char *texts; /* --continuations, cut at its commas */
    size_t n;
    const char **words; /* (n) */
    struct siren_tokens *tokens;
    double *logprobs;
};

static int encode_text(struct job *j, const char *text, size_t length, struct siren_tokens *out,
                       const char *what)
{
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = siren_tokenizer_encode(j->lm.tokenizer, text, length, SIREN_ENCODE_PLAIN, &ids, &n,
                                    &j->cli->err);
    *out = (struct siren_tokens){ids, n};
    if (!rc && !n) rc = siren_fail(&j->cli->err, SIREN_EINVAL, "%s has no tokens", what);
    return rc;
}

static int read_prompt(struct job *j)
{
    struct cli *cli = j->cli;
    const char *path = cli_string(cli, "prompt-file"), *given = cli_string(cli, "prompt");
    struct siren_message message = {"user", NULL};
    char *text = NULL, *rendered = NULL;
    size_t size = 0;
    int rc;
    if (!path == !given) return cli_usage(cli, "one of --prompt-file and --prompt is needed");
    if (path)
        rc = siren_file_read(&text, &size, path, MAX_PROMPT, &cli->err);
    else
        rc = (text = strdup(given)) ? 0 : siren_fail_memory(&cli->err, "the prompt", 0);
    if (!path && !rc) size = strlen(text);
    if (!rc && cli_flag(cli, "chat")) rc = answering_whole(cli, path ? path : "", text, size);
    if (!rc && cli_flag(cli, "chat")) {
        message.content = text;
        rc = siren_chat_render(j->lm.chat, &message, 1, &rendered, &cli->err);
        if (!rc) size = strlen(rendered);
    }
    if (!rc) rc = encode_text(j, rendered ? rendered : text, size, &j->prompt, "the prompt");
    free(text);
    free(rendered);
    return rc;
}

/* Room for those of --continuations and each --continuation. */
static int make_room(struct job *j, const char *list)
{
    size_t n = cli_count(j->cli, "continuation") + 1;
    for (const char *p = list; (p = strchr(p, ',')); p++) n++;
    j->texts = strdup(list);
    j->words = alloc_zeroed(n, sizeof *j->words);
    j->tokens = alloc_zeroed(n, sizeof *j->tokens);
    j->logprobs = alloc_zeroed(n, sizeof *j->logprobs);
    return j->texts && j->words && j->tokens && j->logprobs
               ? 0
               : siren_fail_memory(&j->cli->err, "the continuations", strlen(list));
}

static int read_continuations(struct job *j)
{
    const char *list = cli_string(j->cli, "continuations");
    int rc = make_room(j, list ? list : "");
    if (rc) return rc;
    for (char *p = list ? j->texts : NULL; p;) {
        j->words[j->n++] = p;
        p = strchr(p, ',');
        if (p) *p++ = '\0';
    }
    for (size_t i = 0; i < cli_count(j->cli, "continuation"); i++)
        j->words[j->n++] = cli_string_at(j->cli, "continuation", i);
    if (!j->n) return cli_usage(j->cli, "--continuations A,B,C (or --continuation TEXT) is needed");
    for (size_t i = 0; i < j->n && !rc; i++) {
        char what[40];
        snprintf(what, sizeof what, "continuation %zu", i + 1);
        rc = encode_text(j, j->words[i], strlen(j->words[i]), &j->tokens[i], what);
    }
    return rc;
}

static int score(struct job *j)
{
    struct siren_score s = {.prompt = j->prompt,
                            .continuations = j->tokens,
                            .n_continuations = j->n,
                            .logprobs = j->logprobs};
    struct cli_table *table;
    json_t *list;
    int rc = j->lm.calls->score(&j->lm, &s, 1, cli_progress(j->cli), &j->cli->err);
    if (rc) return rc;
    cli_progress_end(j->cli);
    for (size_t i = 0; i < j->n; i++)
        if (isnan(j->logprobs[i]))
            return siren_fail(
                &j->cli->err, SIREN_ENUMERIC,
                "the log-probability of \"%.100s\" is nan: the model's weights, or the "
                "adapter's, are damaged or too large",
                j->words[i]);
    if (j->cli->json) {
        list = json_array();
        for (size_t i = 0; i < j->n; i++) json_array_append_new(list, app_real(j->logprobs[i]));
        return cli_print_json(j->cli, json_pack("{s:o}", "logprobs", list));
    }
    table = cli_table_create("Continuation|Tokens|Log-probability|Probability", "lrrr");
    for (size_t i = 0; i < j->n; i++) {
        cli_table_cell(table, "%s", j->words[i]);
        cli_table_cell(table, "%zu", j->tokens[i].n_ids);
        cli_table_cell(table, "%.6f", j->logprobs[i]);
        cli_table_cell(table, "%.4g", exp(j->logprobs[i]));
    }
    cli_table_print(j->cli, table);
    return 0;
}

static int run(struct cli *cli)
{
    static const char *const of_chat[] = {"chat-template", NULL};
    struct job j = {.cli = cli};
    int rc = cli_flag(cli, "chat") ? 0 : cli_refuse(cli, of_chat, "it is used with --chat only");
    if (!rc) rc = answering_open(cli, &j.lm, !cli_flag(cli, "chat"));
    if (!rc) rc = read_prompt(&j);
    if (!rc) rc = read_continuations(&j);
    if (!rc) rc = score(&j);
    for (size_t i = 0; i < j.n; i++) free((void *)j.tokens[i].ids);
    free((void *)j.prompt.ids);
    free(j.texts);
    free(j.words);
    free(j.tokens);
    free(j.logprobs);
    siren_lm_close(&j.lm);
    return rc;
}

const struct cli_command cmd_logprobs = {
    .name = "logprobs",
    .group = CLI_INSPECT,
    .summary = "print log-probabilities of continuations of a text",
    .description =
        "The text of --prompt-file goes to the model as it is: special tokens inside it are "
        "recognised, no template and no beginning-of-text token are added (--chat makes it the "
        "user's message in the model's chat template).  Each continuation is tokenised by itself, "
        "and the natural log-probabilities of its tokens are summed.\n\n"
        "  {\"logprobs\": [-1.25, …]}   in the order of the continuations, with --json",
    .common = CLI_JSON | CLI_THREADS | CLI_MODEL | CLI_ISA | CLI_ADAPTER,
    .options = (const struct cli_option[]){{.name = "prompt-file",
                                            .type = CLI_STRING,
                                            .argument = "FILE",
                                            .help = "the text, taken to the last byte"},
                                           {.name = "prompt",
                                            .letter = 'p',
                                            .type = CLI_STRING,
                                            .argument = "TEXT",
                                            .help = "the text"},
                                           {.name = "continuations",
                                            .type = CLI_STRING,
                                            .argument = "A,B,C",
                                            .help = "continuations, separated by commas"},
                                           {.name = "continuation",
                                            .type = CLI_STRING,
                                            .argument = "TEXT",
                                            .help = "one that may hold commas; may be repeated"},
                                           {.name = "chat",
                                            .type = CLI_FLAG,
                                            .help = "put the text into the model's chat template"},
                                           {.name = "chat-template",
                                            .type = CLI_STRING,
                                            .argument = "FILE",
                                            .help = "a chat template of your own, with --chat"},
                                           {0}},
    .examples =
        (const struct cli_example[]){
            {"siren logprobs --model smollm2.gguf --prompt-file prompt.txt --continuations "
             "1,2,3,4,5 --json",
             "The rating tokens behind a prompt."},
            {"siren logprobs -m smollm2.gguf -p 'The capital of France is' --continuation ' Paris'",
             "One continuation, with its space."},
            {0}},
    .run = run,
};
