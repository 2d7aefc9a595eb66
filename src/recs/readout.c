/* Labels of a scale and their distribution. */
#include "siren/readout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "siren/prompt.h"

void siren_readout_clear(struct siren_readout *readout)
{
    if (!readout) return;
    for (int k = 0; k < readout->n; k++) free((void *)readout->tokens[k].ids);
    *readout = (struct siren_readout){0};
}

size_t siren_readout_longest(const struct siren_readout *readout)
{
    size_t most = 0;
    for (int k = 0; k < readout->n; k++)
        if (readout->tokens[k].n_ids > most) most = readout->tokens[k].n_ids;
    return most;
}

static int is_prefix(const struct siren_readout *r, int k)
{
    size_t length = strlen(r->labels[k]);
    for (int j = 0; j < r->n; j++)
        if (j != k && strncmp(r->labels[j], r->labels[k], length) == 0) return 1;
    return 0;
}

/* The shortest run of tokens of `text` that covers its first `bytes` bytes. */
static size_t tokens_covering(const struct siren_tokenizer *t, const int32_t *ids, size_t n,
                              size_t bytes)
{
    size_t covered = 0, i = 0;
    while (i < n && covered < bytes) {
        size_t length = 0;
        siren_tokenizer_piece(t, ids[i++], &length);
        covered += length;
    }
    return i;
}

/* A label that is a prefix of another is told from it by the '<' of "</answer>", in whatever
 * token the text "1</answer>" holds it. */
static int tokenise_label(struct siren_readout *r, int k, const struct siren_tokenizer *t,
                          struct siren_error *err)
{
    struct buf b = {0};
    int32_t *ids = NULL;
    size_t n = 0, bytes = strlen(r->labels[k]);
    int rc, closed = is_prefix(r, k);
    buf_puts(&b, r->labels[k]);
    if (closed) buf_puts(&b, "</answer>");
    if (buf_failed(&b)) return siren_fail_memory(err, "a label", bytes);
    rc = siren_tokenizer_encode(t, buf_text(&b), b.size, SIREN_ENCODE_NO_SPECIAL, &ids, &n, err);
    buf_free(&b);
    if (rc) return rc;
    if (closed) n = tokens_covering(t, ids, n, bytes + 1);
    r->tokens[k] = (struct siren_tokens){ids, n};
    if (n) return 0;
    return siren_fail(err, SIREN_EFORMAT, "the tokenizer gives no token for the label \"%s\"",
                      r->labels[k]);
}

int siren_readout_create(struct siren_readout *out, const struct siren_tokenizer *tokenizer,
                         const struct siren_scale *scale, struct siren_error *err)
{
    *out = (struct siren_readout){0};
    if (siren_scale_check(scale, err)) return SIREN_EINVAL;
    out->n = siren_scale_labels(scale);
    for (int k = 0; k < out->n; k++) {
        out->values[k] = siren_scale_value(scale, k);
        siren_scale_text(scale, k, out->labels[k]);
    }
    for (int k = 0; k < out->n && tokenizer; k++) {
        int rc = tokenise_label(out, k, tokenizer, err);
        if (!rc) continue;
        siren_readout_clear(out);
        return rc;
    }
    return 0;
}

double siren_readout_distribution(const struct siren_readout *readout, const double *logprobs,
                                  double *distribution)
{
    double top = -INFINITY, sum = 0, inside = 0;
    for (int k = 0; k < readout->n; k++) top = fmax(top, logprobs[k]);
    if (!isfinite(top)) {
        for (int k = 0; k < readout->n; k++) distribution[k] = 1.0 / readout->n;
        return 1;
    }
    for (int k = 0; k < readout->n; k++) {
        distribution[k] = exp(logprobs[k] - top);
        sum += distribution[k];
        inside += exp(logprobs[k]);
    }
    for (int k = 0; k < readout->n; k++) distribution[k] /= sum;
    return fmax(0, 1 - inside);
}
