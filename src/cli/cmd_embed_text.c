/* siren embed-text: a line in, a vector out. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "cli/cli.h"
#include "siren/app.h"

enum { CHUNK = 1 << 16, BATCH = 256 };

struct job {
    struct cli *cli;
    struct siren_encoder encoder;
    const char *lines[BATCH];
    size_t n;
    unsigned long long number; /* of the last line that was taken */
};

static void print_vector(const struct job *j, const float *v)
{
    struct buf b = {0};
    const char *gap = j->cli->json ? "," : " ";
    if (j->cli->json) buf_putc(&b, '[');
    for (int k = 0; k < j->encoder.d; k++) buf_printf(&b, "%s%.9g", k ? gap : "", (double)v[k]);
    if (j->cli->json) buf_putc(&b, ']');
    cli_print(j->cli, "%s\n", buf_text(&b));
    buf_free(&b);
}

static int flush_lines(struct job *j)
{
    size_t d = (size_t)j->encoder.d;
    float *vectors;
    int rc;
    if (!j->n) return 0;
    vectors = alloc_array(j->n, d * sizeof *vectors);
    if (!vectors) return siren_fail_memory(&j->cli->err, "embeddings", j->n * d * sizeof *vectors);
    rc = siren_encoder_embed(&j->encoder, j->lines, j->n, vectors, NULL, &j->cli->err);
    for (size_t i = 0; i < j->n && !rc; i++) print_vector(j, vectors + i * d);
    j->n = 0;
    free(vectors);
    return rc;
}

/* What is behind a NUL would be left out. */
static int take_line(struct job *j, const char *line, size_t length)
{
    const char *nul = memchr(line, 0, length);
    j->number++;
    if (nul)
        return siren_fail(&j->cli->err, SIREN_EFORMAT,
                          "line %llu: byte %zu is a NUL, expected text", j->number,
                          (size_t)(nul - line) + 1);
    j->lines[j->n++] = line;
    return j->n == BATCH ? flush_lines(j) : 0;
}

/* Embeds the complete lines of the buffer (all of it at the end) and keeps the rest. */
static int take_lines(struct job *j, struct buf *b, int at_end)
{
    size_t from = 0;
    int rc = 0;
    while (from < b->size && !rc) {
        char *end = memchr(b->data + from, '\n', b->size - from);
        if (!end && !at_end) break;
        if (end) *end = '\0';
        size_t length = end ? (size_t)(end - b->data) - from : b->size - from;
        rc = take_line(j, b->data + from, length);
        from += length + (end != NULL);
    }
    if (!rc) rc = flush_lines(j);
    if (from < b->size) memmove(b->data, b->data + from, b->size - from);
    b->size -= from;
    if (b->data) b->data[b->size] = '\0';
    return rc;
}

/* Waits for input; 0: it was stopped instead.  A read() that waits would not be. */
static int wait_for_input(struct job *j)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    while (!*cli_cancel(j->cli) && poll(&input, 1, 100) == 0) continue;
    return !*cli_cancel(j->cli);
}

/* What a read() gave is answered at once, so that a program can ask line by line. */
static int embed_all(struct job *j)
{
    struct buf b = {0};
    char *chunk = alloc_array(CHUNK, 1);
    ssize_t n = 1;
    int rc = chunk ? 0 : siren_fail_memory(&j->cli->err, "input", CHUNK);
    while (!rc && n > 0) {
        if (!wait_for_input(j)) {
            rc = siren_fail(&j->cli->err, SIREN_ECANCEL, "stopped");
            break;
        }
        do n = read(STDIN_FILENO, chunk, CHUNK);
        while (n < 0 && errno == EINTR);
        if (n < 0) {
            rc = siren_fail(&j->cli->err, SIREN_EIO, "standard input: %s", strerror(errno));
            break;
        }
        buf_append(&b, chunk, (size_t)n);
        if (buf_failed(&b))
            rc = siren_fail_memory(&j->cli->err, "input", b.size);
        else
            rc = take_lines(j, &b, n == 0);
        fflush(stdout); /* that it failed is found at the end */
    }
    free(chunk);
    buf_free(&b);
    return rc;
}

static int run(struct cli *cli)
{
    struct job *j;
    const char *path = cli_need(cli, "encoder");
    struct siren_pool *pool = path ? cli_pool(cli) : NULL;
    int rc;
    if (!pool) return cli->err.code;
    j = alloc_zeroed(1, sizeof *j);
    if (!j) return siren_fail_memory(&cli->err, "input", sizeof *j);
    j->cli = cli;
    const struct siren_encoder_options mode = {cli_string(cli, "isa"), cli_string(cli, "compute")};
    rc = siren_encoder_open(&j->encoder, path, &mode, pool, &cli->err);
    if (!rc) rc = embed_all(j);
    siren_encoder_close(&j->encoder);
    free(j);
    return rc;
}

const struct cli_command cmd_embed_text = {
    .name = "embed-text",
    .group = CLI_INSPECT,
    .summary = "print the sentence embedding of each line of standard input",
    .description = "Each line is embedded by itself, pooled and normalised as the encoder's own "
                   "files say, and printed as one line: with --json an array of numbers.",
    .common = CLI_JSON | CLI_THREADS | CLI_ENCODER | CLI_ISA,
    .examples =
        (const struct cli_example[]){
            {"echo 'A quiet film about the sea' | siren embed-text --encoder all-MiniLM-L6-v2 "
             "--json",
             "One vector."},
            {"siren embed-text -e all-MiniLM-L6-v2 < titles.txt > vectors.txt",
             "A vector for each title."},
            {0}},
    .run = run,
};
