/* Lines of text to lines of token ids, and back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "siren/tokenizer.h"

static int print_ids(struct cli *cli, const int32_t *ids, size_t n)
{
    struct buf line = {0};
    if (cli->json) buf_putc(&line, '[');
    for (size_t i = 0; i < n; i++)
        buf_printf(&line, "%s%d", i ? cli->json ? "," : " " : "", (int)ids[i]);
    buf_puts(&line, cli->json ? "]\n" : "\n");
    int rc = buf_failed(&line) ? siren_fail_memory(&cli->err, "a line", n) : SIREN_OK;
    if (!rc) cli_print(cli, "%s", line.data);
    buf_free(&line);
    return rc;
}

static int encode_line(struct cli *cli, const struct siren_tokenizer *t, const char *line,
                       size_t length)
{
    unsigned flags = siren_tokenizer_closes(t) ? SIREN_ENCODE_ADD_SPECIAL : SIREN_ENCODE_PLAIN;
    int32_t *ids;
    size_t n;
    if (cli_flag(cli, "untrusted")) flags |= SIREN_ENCODE_NO_SPECIAL;
    int rc = siren_tokenizer_encode(t, line, length, flags, &ids, &n, &cli->err);
    if (rc) return rc;
    rc = print_ids(cli, ids, n);
    free(ids);
    return rc;
}

/* Ids separated by anything that is no digit, so that both of our outputs can be read. */
static int read_ids(struct cli *cli, const char *line, size_t length, int32_t **ids, size_t *n)
{
    size_t most = length / 2 + 1;
    const char *nul = memchr(line, 0, length);
    *ids = calloc(most, sizeof **ids);
    *n = 0;
    if (!*ids) return siren_fail_memory(&cli->err, "token ids", most);
    if (nul)
        return siren_fail(&cli->err, SIREN_EINVAL, "byte %zu: expected token ids, found a NUL",
                          (size_t)(nul - line) + 1);
    for (const char *p = line; *p;) {
        size_t skipped = strspn(p, " \t\r\n,[]");
        char *end;
        p += skipped;
        if (!*p) break;
        errno = 0;
        long id = strtol(p, &end, 10);
        if (end == p || errno || id < 0 || id > INT32_MAX)
            return siren_fail(&cli->err, SIREN_EINVAL, "expected token ids, found \"%.20s\"", p);
        (*ids)[(*n)++] = (int32_t)id;
        p = end;
    }
    return SIREN_OK;
}

static int decode_line(struct cli *cli, const struct siren_tokenizer *t, const char *line,
                       size_t size)
{
    int32_t *ids;
    size_t n, length;
    char *text = NULL;
    int rc = read_ids(cli, line, size, &ids, &n);
    if (!rc) rc = siren_tokenizer_decode(t, ids, n, 0, &text, &length, &cli->err);
    if (!rc && cli->json) rc = cli_print_json(cli, json_stringn(text, length));
    if (!rc && !cli->json) {
        cli_print_text(cli, text, length, 0);
        cli_print(cli, "\n");
    }
    free(text);
    free(ids);
    return rc;
}

static int each_line(struct cli *cli, const struct siren_tokenizer *t)
{
    char *line = NULL;
    size_t capacity = 0;
    unsigned long long number = 0;
    ssize_t n;
    int rc = SIREN_OK;
    while (!rc && (n = getline(&line, &capacity, stdin)) >= 0) {
        number++;
        if (n && line[n - 1] == '\n') line[--n] = 0;
        rc = cli_flag(cli, "decode") ? decode_line(cli, t, line, (size_t)n)
                                     : encode_line(cli, t, line, (size_t)n);
    }
    if (rc) siren_fail_prefix(&cli->err, rc, "line %llu", number);
    if (!rc && ferror(stdin))
        rc = siren_fail(&cli->err, SIREN_EIO, "standard input cannot be read");
    free(line);
    return rc;
}

static int run(struct cli *cli)
{
    const char *path = cli_need(cli, "model");
    struct siren_tokenizer *t;
    if (!path) return cli->err.code;
    int rc = siren_tokenizer_load(&t, path, &cli->err);
    if (rc) return rc;
    rc = each_line(cli, t);
    siren_tokenizer_free(t);
    return rc;
}

const struct cli_command cmd_tokenize = {
    .name = "tokenize",
    .group = CLI_INSPECT,
    .summary = "turn lines of text into lines of token ids",
    .usage = "",
    .description =
        "Each line of standard input becomes a line of token ids, separated by spaces, or a JSON "
        "array with --json.  Special tokens that stand in the text (<|im_start|>) are recognised. "
        "A sentence encoder adds its own ([CLS] … [SEP]), a language model none.\n\n"
        "--model is a GGUF file, a tokenizer.json or a folder that holds one.  Bytes that are not "
        "UTF-8 count as U+FFFD.",
    .common = CLI_MODEL | CLI_JSON,
    .options =
        (const struct cli_option[]){
            {.name = "decode",
             .letter = 'd',
             .type = CLI_FLAG,
             .help = "the other way round: lines of ids into text"},
            {.name = "untrusted", .type = CLI_FLAG, .help = "special tokens in the text are text"},
            {0},
        },
    .examples =
        (const struct cli_example[]){
            {"echo 'Hello world' | siren tokenize --model smollm2.gguf", "19556 905"},
            {"echo '19556 905' | siren tokenize --model smollm2.gguf --decode", "Hello world"},
            {"siren tokenize --model all-minilm-l6-v2 --json < titles.txt",
             "An array of ids for each title, [CLS] and [SEP] included."},
            {0},
        },
    .run = run,
};
