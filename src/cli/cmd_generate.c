/* siren generate: free text, or the reasoning about one rating. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "cli/answering.h"
#include "siren/file.h"

enum { MAX_PROMPT = 64 << 20 };

struct job {
    struct cli *cli;
    struct siren_lm lm;
    char *prompt; /* the whole text */
    int32_t *ids;
    size_t n_ids;
    struct siren_generation *g; /* (n) */
    size_t n;
    int stream;
    size_t printed;             /* tokens of the only answer */
    struct buf written;         /* of it: a character that is not whole yet */
    const volatile int *cancel; /* Ctrl-C */
    int stopped;                /* by it, before the answer was complete */
    unsigned notes;             /* on what is asked of a workspace: enum siren_answer_notes */
};

/* ---- the prompt ---- */

static int read_stdin(struct cli *cli, char **text, size_t *size)
{
    struct buf b = {0};
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0) {
        buf_append(&b, chunk, n);
        if (b.size > MAX_PROMPT) {
            buf_free(&b);
            return siren_fail(&cli->err, SIREN_EINVAL, "the prompt on standard input is too long");
        }
    }
    if (ferror(stdin)) {
        buf_free(&b);
        return siren_fail(&cli->err, SIREN_EIO, "the prompt on standard input cannot be read");
    }
    *size = b.size;
    *text = buf_take(&b);
    return *text ? 0 : siren_fail_memory(&cli->err, "the prompt", 0);
}

static int read_prompt(struct cli *cli, char **text)
{
    const char *given = cli_string(cli, "prompt"), *path = cli_string(cli, "prompt-file");
    size_t size = given ? strlen(given) : 0;
    int rc = 0;
    if (given && path) return cli_usage(cli, "--prompt and --prompt-file exclude each other");
    *text = given ? strdup(given) : NULL;
    if (path)
        rc = siren_file_read(text, &size, path, MAX_PROMPT, &cli->err);
    else if (!given)
        rc = read_stdin(cli, text, &size);
    else if (!*text)
        rc = siren_fail_memory(&cli->err, "the prompt", size);
    if (!rc) rc = answering_whole(cli, path ? path : "the prompt", *text, size);
    if (rc) {
        free(*text);
        *text = NULL;
    }
    return rc;
}

/* The text as the user's message, unless --raw. */
static int free_prompt(struct job *j)
{
    struct cli *cli = j->cli;
    const char *system = cli_string(cli, "system");
    struct siren_message messages[2] = {{"system", system}, {"user", NULL}};
    char *text;
    int first = system ? 0 : 1, rc = answering_open(cli, &j->lm, cli_flag(cli, "raw"));
    if (!rc) rc = read_prompt(cli, &text);
    if (rc) return rc;
    if (cli_flag(cli, "raw")) {
        j->prompt = text;
        return 0;
    }
    messages[1].content = text;
    rc =
        siren_chat_render(j->lm.chat, messages + first, (size_t)(2 - first), &j->prompt, &cli->err);
    free(text);
    return rc;
}

/* The prompt of a user and an item, up to where the model starts to reason. */
static int rating_prompt(struct job *j, const char *workspace)
{
    struct cli *cli = j->cli;
    struct siren_predict_options options;
    struct siren_target target;
    struct siren_target_input in = {0};
    struct siren_prompt_ids ids = {0};
    struct siren_app app;
    int rc = siren_app_open(&app, workspace, SIREN_WORKSPACE_READ, &cli->err);
    if (rc) return rc;
    rc = siren_app_target(&app, cli_string(cli, "user"), cli_string(cli, "item"), &target,
                          &cli->err);
    if (!rc && target.user < 0) answering_new_user(cli, cli_string(cli, "user"));
    if (!rc) rc = answering_prompt(cli, &app, &options);
    if (!rc) rc = answering_open(cli, &j->lm, 0);
    if (!rc) rc = siren_target_input(&app, &target, &options, &in, &cli->err);
    if (!rc)
        rc = siren_prompt_encode(&ids, j->lm.tokenizer, j->lm.chat, &in.input, &options.strategy,
                                 SIREN_COT, options.prompt_limit, &cli->err);
    if (!rc) {
        j->notes = app_notes(&target, in.n_history, ids.n_cut);
        j->prompt = ids.text;
        ids.text = NULL;
    }
    siren_prompt_ids_clear(&ids);
    siren_target_input_clear(&in);
    siren_app_close(&app);
    return rc;
}

/* What would change no prompt, or no text, is a mistake. */
static int check_usage(struct cli *cli)
{
    static const char *const raw[] = {"raw", NULL},
                             *const of_text[] = {"prompt", "prompt-file", "system", NULL},
                             *const of_chat[] = {"system", "chat-template", NULL},
                             *const of_rating[] = {"strategy", "recent", "more",         "majority",
                                                   "decay",    "gap",    "prompt-limit", NULL};
    const char *workspace = cli_arg(cli, 0);
    int rc;
    if (!workspace && (cli_given(cli, "user") || cli_given(cli, "item")))
        return cli_usage(cli, "--user and --item need a WORKSPACE");
    if (workspace && (!cli_given(cli, "user") || !cli_given(cli, "item")))
        return cli_usage(cli, "a WORKSPACE needs --user and --item");
    if (workspace) {
        rc = cli_refuse(cli, raw, "a WORKSPACE's prompt is in the model's chat template");
        if (!rc) rc = cli_refuse(cli, of_text, "a WORKSPACE's prompt is about --user and --item");
    } else {
        rc = cli_refuse(cli, of_rating, "it is about the prompt of a rating: give a WORKSPACE");
        if (!rc && cli_flag(cli, "raw"))
            rc = cli_refuse(cli, of_chat, "with --raw the text is the whole prompt");
    }
    return rc ? rc : answering_chance(cli);
}

/* Opens the model, too. */
static int write_prompt(struct job *j)
{
    struct cli *cli = j->cli;
    const char *workspace = cli_arg(cli, 0);
    int rc = workspace ? rating_prompt(j, workspace) : free_prompt(j);
    if (rc) return rc;
    rc = siren_tokenizer_encode(j->lm.tokenizer, j->prompt, strlen(j->prompt), SIREN_ENCODE_PLAIN,
                                &j->ids, &j->n_ids, &cli->err);
    if (!rc && !j->n_ids) rc = siren_fail(&cli->err, SIREN_EINVAL, "the prompt is empty");
    return rc;
}

/* ---- the answers ---- */

static void print_written(struct job *j, int unfinished)
{
    struct buf *b = &j->written;
    size_t n = cli_print_text(j->cli, buf_text(b), b->size, unfinished);
    if (n < b->size) memmove(b->data, b->data + n, b->size - n);
    b->size -= n;
}

static int on_token(void *context, const int32_t *ids, size_t n)
{
    struct job *j = context;
    for (; j->printed < n; j->printed++) {
        size_t length = 0;
        const char *piece = siren_tokenizer_piece(j->lm.tokenizer, ids[j->printed], &length);
        if (piece && !siren_tokenizer_is_special(j->lm.tokenizer, ids[j->printed]))
            buf_append(&j->written, piece, length);
    }
    print_written(j, 1);
    fflush(stdout);
    return j->stopped = *j->cancel;
}

static int generate(struct job *j)
{
    struct siren_sampling sampling = answering_sampling(j->cli);
    int32_t stops[SIREN_MAX_STOPS];
    size_t n_stops = siren_lm_stops(&j->lm, stops);
    j->n = (size_t)cli_int(j->cli, "samples");
    j->g = alloc_zeroed(j->n, sizeof *j->g);
    if (!j->g) return siren_fail_memory(&j->cli->err, "samples", j->n * sizeof *j->g);
    j->stream = !j->cli->json && j->n == 1;
    j->cancel = cli_cancel(j->cli);
    for (size_t i = 0; i < j->n; i++) {
        j->g[i].prompt = (struct siren_tokens){j->ids, j->n_ids};
        j->g[i].sequence = i;
        j->g[i].stop_ids = stops;
        j->g[i].n_stop_ids = n_stops;
        if (!j->stream) continue;
        j->g[i].on_token = on_token;
        j->g[i].context = j;
    }
    return j->lm.calls->generate(&j->lm, j->g, j->n, &sampling, 0,
                                 j->stream ? NULL : cli_progress(j->cli), &j->cli->err);
}

static int print_answer(struct job *j, size_t i, json_t *list)
{
    const struct siren_generation *g = &j->g[i];
    double logprob = 0;
    size_t length;
    char *text;
    json_t *answer;
    int rc =
        siren_tokenizer_decode(j->lm.tokenizer, g->ids, g->n_ids, 1, &text, &length, &j->cli->err);
    if (rc) return rc;
    for (size_t t = 0; t < g->n_ids; t++) logprob += g->logprobs[t];
    if (list) {
        answer = json_object();
        json_object_set_new(answer, "text", json_stringn(text, length));
        json_object_set_new(answer, "tokens", json_integer((json_int_t)g->n_ids));
        json_object_set_new(answer, "logprob", app_real(logprob));
        json_object_set_new(answer, "finished", json_boolean(g->stopped));
        json_array_append_new(list, answer);
    } else {
        cli_print(j->cli, "%s--- sample %zu: %s, log-probability %.2f\n", i ? "\n" : "", i + 1,
                  cli_counted(g->n_ids, "token"), logprob);
        cli_print_text(j->cli, text, length, 0);
        cli_print(j->cli, "\n");
    }
    free(text);
    return 0;
}

static int print_answers(struct job *j)
{
    json_t *list = j->cli->json ? json_array() : NULL;
    int rc = 0;
    cli_progress_end(j->cli);
    if (j->stream) {
        print_written(j, 0);
        cli_print(j->cli, "\n");
        if (buf_failed(&j->written)) return siren_fail_memory(&j->cli->err, "the answer", 0);
        cli_note(j->cli, "%s in, %zu out", cli_counted(j->n_ids, "token"), j->g[0].n_ids);
        return j->stopped ? siren_fail(&j->cli->err, SIREN_ECANCEL, "stopped") : 0;
    }
    for (size_t i = 0; i < j->n && !rc; i++) rc = print_answer(j, i, list);
    if (!list) return rc;
    if (rc) {
        json_decref(list);
        return rc;
    }
    json_t *out = json_pack("{s:I,s:o}", "prompt_tokens", (json_int_t)j->n_ids, "samples", list);
    if (cli_arg(j->cli, 0)) json_object_set_new(out, "notes", app_notes_json(j->notes));
    if (cli_flag(j->cli, "show-prompt")) json_object_set_new(out, "prompt", app_text(j->prompt));
    return cli_print_json(j->cli, out);
}

static void show_prompt(const struct job *j)
{
    cli_print_text(j->cli, j->prompt, strlen(j->prompt), 0);
    cli_print(j->cli, "\n");
}

static int run(struct cli *cli)
{
    struct job j = {.cli = cli};
    int rc = check_usage(cli);
    if (!rc) rc = write_prompt(&j);
    if (!rc && cli_flag(cli, "show-prompt") && !cli->json) show_prompt(&j);
    if (!rc) rc = generate(&j);
    if (!rc) rc = print_answers(&j);
    for (size_t i = 0; i < j.n; i++) siren_generation_clear(&j.g[i]);
    free(j.g);
    free(j.ids);
    free(j.prompt);
    buf_free(&j.written);
    siren_lm_close(&j.lm);
    return rc;
}

const struct cli_command cmd_generate = {
    .name = "generate",
    .group = CLI_PREDICT,
    .summary = "let the model write: free text, or its reasoning about a rating",
    .usage = "[WORKSPACE]",
    .description =
        "Without a workspace the prompt (--prompt, --prompt-file, or standard input) is one "
        "message of a user in the model's chat template, or with --raw the text as it is.  With a "
        "workspace, --user and --item, the model reasons about the rating and answers; a user that "
        "the workspace does not know has no history, which is told.\n\n"
        "One answer is printed as it is written: its bytes, of which a terminal gets control "
        "characters other than line breaks and tabs, and what is no UTF-8, as marks.  A sample "
        "depends on its number, the seed and "
        "the prompt only: not on the threads, nor on how many are drawn at once.",
    .common =
        CLI_JSON | CLI_SEED | CLI_THREADS | CLI_MODEL | CLI_USER | CLI_ITEM | CLI_ISA | CLI_ADAPTER,
    .options =
        (const struct cli_option[]){
            {.name = "prompt",
             .letter = 'p',
             .type = CLI_STRING,
             .argument = "TEXT",
             .help = "the prompt"},
            {.name = "prompt-file",
             .type = CLI_STRING,
             .argument = "FILE",
             .help = "a file that holds the prompt"},
            {.name = "system",
             .type = CLI_STRING,
             .argument = "TEXT",
             .help = "a system message before it"},
            {.name = "raw",
             .type = CLI_FLAG,
             .help = "continue the text itself, without a template"},
            {.name = "samples",
             .letter = 'n',
             .type = CLI_INT,
             .argument = "N",
             .initial = "1",
             .min = 1,
             .max = 100000,
             .help = "answers to draw (with a --temperature)"},
            {.name = "show-prompt",
             .type = CLI_FLAG,
             .help = "print the whole prompt first; with --json it is \"prompt\""},
            PROMPT_OPTIONS,
            SAMPLING_OPTIONS("512"),
            {0}},
    .examples =
        (const struct cli_example[]){
            {"siren generate --model smollm2.gguf --prompt 'Why do people watch sad films?'",
             "A question to the model."},
            {"siren generate films.siren -m smollm2.gguf --user 196 --item 242",
             "What the model thinks about one rating."},
            {"siren generate -m smollm2.gguf --raw -p 'Once upon a time' --temperature 0.8 --top-p "
             "0.95 -n 4 --json",
             "Four samples that go on with a text."},
            {0}},
    .run = run,
};
