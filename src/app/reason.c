/* Reasoning: texts are generated and the number inside <answer> is read; with samples, the
 * distribution over the labels at the end of "<answer>" of each text, too.
 *
 * A sampled text is written in two calls: up to "<answer>", whose keys and values are kept, and
 * from there to "</answer>".  In between the labels are scored, which computes the tag's last token
 * and the labels only.  A draw depends on its position and on the tokens before it, so the text is
 * the one that a single call writes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "base/buf.h"

static const char opening[] = "<answer>", closing[] = "</answer>";

/* One text. */
struct text {
    const struct siren_tokenizer *tokenizer;
    int opens;      /* 1: end at "<answer>", too */
    int limit;      /* tokens; 0: the sampling's */
    int at_opening; /* ended there */
    int32_t *ids;   /* prompt and text so far; (n_prompt + n) */
    size_t n_prompt, n;
    int32_t *query; /* what the labels are scored after */
    size_t n_query;
    double logprobs[SIREN_MAX_LABELS];
};

struct job {
    struct siren_app *app;
    struct siren_lm *lm;
    const struct siren_target *targets;
    size_t n;
    const struct siren_predict_options *options;
    const struct siren_prompt_ids *prompts;
    struct siren_answer *answers;
    const struct siren_progress *progress;
    int samples;        /* at least 1 */
    struct text *texts; /* (n, samples) */
    struct siren_readout readout;
};

/* ---- writing ---- */

/* Stop once a tag stands at the end: whatever follows "</answer>" would only break the format. */
static int is_ended(void *context, const int32_t *ids, size_t n)
{
    struct text *t = context;
    struct buf b = {0};
    int found;
    for (size_t i = n > 12 ? n - 12 : 0; i < n; i++) {
        size_t length = 0;
        const char *piece = siren_tokenizer_piece(t->tokenizer, ids[i], &length);
        if (piece) buf_append(&b, piece, length);
    }
    found = strstr(buf_text(&b), closing) != NULL;
    t->at_opening = !found && t->opens && strstr(buf_text(&b), opening) != NULL;
    buf_free(&b);
    return found || t->at_opening || (t->limit && n >= (size_t)t->limit);
}

/* The random stream is of the target and the sample, not of a place in the batch. */
static uint64_t stream(const struct siren_target *t, int sample)
{
    uint64_t target = (uint64_t)(uint32_t)t->user << 32 | (uint32_t)t->item;
    return target + (uint64_t)sample * 0x9e3779b97f4a7c15u;
}

static int append(struct text *t, const struct siren_generation *g, struct siren_error *err)
{
    size_t n = t->n_prompt + t->n;
    size_t capacity = n;
    if (alloc_grow(&t->ids, &capacity, n + g->n_ids + 1, sizeof *t->ids))
        return siren_fail_memory(err, "an answer", (n + g->n_ids) * sizeof *t->ids);
    if (g->n_ids) memcpy(t->ids + n, g->ids, g->n_ids * sizeof *g->ids);
    t->n += g->n_ids;
    return 0;
}

/* All texts that begin, or those that go on behind "<answer>". */
static int write_texts(struct job *j, int go_on, struct siren_error *err)
{
    size_t total = j->n * (size_t)j->samples, n = 0, at = 0;
    struct siren_generation *g = alloc_zeroed(total, sizeof *g);
    int32_t stops[SIREN_MAX_STOPS];
    size_t n_stops = siren_lm_stops(j->lm, stops);
    int rc = 0;
    if (!g) return siren_fail_memory(err, "answers", total * sizeof *g);
    for (size_t i = 0; i < total; i++) {
        struct text *t = &j->texts[i];
        if (go_on && (!t->at_opening || t->n >= (size_t)j->options->sampling.max_tokens)) continue;
        t->opens = !go_on && j->options->samples;
        t->limit = go_on ? j->options->sampling.max_tokens - (int)t->n : 0;
        g[n++] = (struct siren_generation){
            .prompt = {t->ids, t->n_prompt + t->n},
            .sequence = stream(&j->targets[i / (size_t)j->samples], (int)(i % (size_t)j->samples)),
            .stop_ids = stops,
            .n_stop_ids = n_stops,
            .on_token = is_ended,
            .context = t,
            .keep = t->opens};
    }
    if (n)
        rc = j->lm->calls->generate(j->lm, g, n, &j->options->sampling, j->options->batch,
                                    j->progress, err);
    for (at = 0; at < n; at++) {
        if (!rc) rc = append(g[at].context, &g[at], err);
        siren_generation_clear(&g[at]);
    }
    free(g);
    return rc;
}

/* ---- the distribution at q ---- */

/* Text to follow the first n of a text's tokens: the query's last tokens. */
static int close_query(struct text *t, size_t n, const char *rest, struct siren_error *err)
{
    int32_t *ids = NULL;
    size_t n_ids = 0, from = t->n_prompt + n;
    int rc = siren_tokenizer_encode(t->tokenizer, rest, strlen(rest), SIREN_ENCODE_NO_SPECIAL, &ids,
                                    &n_ids, err);
    if (rc) return rc;
    t->query = alloc_array(from + n_ids, sizeof *t->query);
    if (t->query) {
        memcpy(t->query, t->ids, from * sizeof *t->ids);
        if (n_ids) memcpy(t->query + from, ids, n_ids * sizeof *ids);
        t->n_query = from + n_ids;
    }
    free(ids);
    return t->query ? 0 : siren_fail_memory(err, "a query", (from + n_ids) * sizeof *t->query);
}

/* The tokens up to the end of "<answer>".  If the last one holds more than the tag's end, that end
 * is written by tokens of its own.  A text without the tag (cut, or gone astray) gets one. */
static int make_query(struct text *t, struct siren_error *err)
{
    const int32_t *ids = t->ids + t->n_prompt;
    struct buf b = {0};
    const char *end;
    size_t before = 0, length = 0;
    int rc;
    for (size_t i = 0; i < t->n; i++) {
        const char *piece = siren_tokenizer_piece(t->tokenizer, ids[i], &length);
        before = b.size;
        if (piece) buf_append(&b, piece, length);
    }
    if (buf_failed(&b)) return siren_fail_memory(err, "an answer", b.size);
    if (t->at_opening) {
        end = strstr(buf_text(&b), opening) + strlen(opening);
        if (*end) {
            struct buf rest = {0};
            const char *from = buf_text(&b) + before;
            buf_append(&rest, from, (size_t)(end - from));
            rc = buf_failed(&rest) ? siren_fail_memory(err, "an answer", rest.size)
                                   : close_query(t, t->n - 1, buf_text(&rest), err);
            buf_free(&rest);
        } else {
            rc = close_query(t, t->n, "", err);
        }
    } else {
        int thought = strstr(buf_text(&b), "</think>") != NULL;
        rc = close_query(t, t->n, thought ? "\n<answer>" : "\n</think>\n<answer>", err);
    }
    buf_free(&b);
    return rc;
}

static int score_texts(struct job *j, struct siren_error *err)
{
    size_t total = j->n * (size_t)j->samples;
    struct siren_score *scores = alloc_zeroed(total, sizeof *scores);
    int rc = scores ? siren_readout_create(&j->readout, j->lm->tokenizer, &j->app->meta.scale, err)
                    : siren_fail_memory(err, "scores", total * sizeof *scores);
    for (size_t i = 0; i < total && !rc; i++) {
        struct text *t = &j->texts[i];
        rc = make_query(t, err);
        scores[i] = (struct siren_score){.prompt = {t->query, t->n_query},
                                         .continuations = j->readout.tokens,
                                         .n_continuations = (size_t)j->readout.n,
                                         .logprobs = t->logprobs};
    }
    if (!rc) rc = j->lm->calls->score(j->lm, scores, total, NULL, err);
    free(scores);
    return rc;
}

/* ---- reading ---- */

static int read_text(struct job *j, struct siren_answer *a, const struct text *t, struct buf *out,
                     double *sum, struct siren_error *err)
{
    const struct siren_scale *scale = &j->app->meta.scale;
    double number, fallback = isnan(j->options->fallback) ? scale->max : j->options->fallback;
    char *text = NULL;
    size_t length = 0, from;
    int rc = siren_tokenizer_decode(j->lm->tokenizer, t->ids + t->n_prompt, t->n, 1, &text, &length,
                                    err);
    if (rc) return rc;
    if (out->size) buf_puts(out, "\n\n");
    from = out->size;
    buf_puts(out, APP_THINK);
    buf_puts(out, text);
    free(text);
    if (buf_failed(out)) return siren_fail_memory(err, "an answer", length);
    a->unreadable +=
        !(siren_answer_parse(buf_text(out) + from, scale->min, scale->max, fallback, &number) &
          SIREN_ANSWER_NUMBER);
    *sum += number;
    a->tokens_out += (int)t->n;
    return 0;
}

/* The mean of the samples' distributions, in their order. */
static void read_distribution(struct job *j, struct siren_answer *a, const struct text *texts)
{
    const struct siren_scale *scale = &j->app->meta.scale;
    double one[SIREN_MAX_LABELS], joint[SIREN_MAX_LABELS] = {0};
    a->n_labels = j->readout.n;
    a->outside = 0;
    for (int s = 0; s < j->samples; s++) {
        a->outside += siren_readout_distribution(&j->readout, texts[s].logprobs, one) / j->samples;
        for (int k = 0; k < a->n_labels; k++) {
            a->probabilities[k] += one[k] / j->samples;
            joint[k] += exp(texts[s].logprobs[k]) / j->samples;
        }
    }
    for (int k = 0; k < a->n_labels; k++)
        a->logprobs[k] = j->samples == 1 ? texts->logprobs[k] : log(joint[k]);
    a->argmax = siren_decode(SIREN_ARGMAX, scale, a->probabilities);
    a->mean = siren_decode(SIREN_MEAN, scale, a->probabilities);
    a->median = siren_decode(SIREN_MEDIAN, scale, a->probabilities);
}

static int read_answer(struct job *j, size_t i, struct siren_error *err)
{
    struct siren_answer *a = &j->answers[i];
    const struct text *texts = &j->texts[i * (size_t)j->samples];
    struct buf b = {0};
    double sum = 0;
    int rc = 0;
    a->samples = j->samples;
    for (int s = 0; s < j->samples && !rc; s++) rc = read_text(j, a, &texts[s], &b, &sum, err);
    if (rc) {
        buf_free(&b);
        return rc;
    }
    a->text = buf_take(&b);
    a->number = sum / j->samples;
    a->invalid = a->unreadable == j->samples;
    a->argmax = a->mean = a->median = a->number;
    a->outside = NAN;
    if (j->options->samples) read_distribution(j, a, texts);
    return 0;
}

/* ---- all ---- */

static int begin(struct job *j, struct siren_error *err)
{
    size_t total = j->n * (size_t)j->samples;
    j->texts = alloc_zeroed(total, sizeof *j->texts);
    if (!j->texts) return siren_fail_memory(err, "answers", total * sizeof *j->texts);
    for (size_t i = 0; i < total; i++) {
        const struct siren_prompt_ids *p = &j->prompts[i / (size_t)j->samples];
        struct text *t = &j->texts[i];
        t->tokenizer = j->lm->tokenizer;
        t->n_prompt = p->n_ids;
        t->ids = alloc_array(p->n_ids + 1, sizeof *t->ids);
        if (!t->ids) return siren_fail_memory(err, "a prompt", p->n_ids * sizeof *t->ids);
        memcpy(t->ids, p->ids, p->n_ids * sizeof *t->ids);
    }
    return 0;
}

static int run(struct job *j, struct siren_error *err)
{
    int rc = begin(j, err);
    if (!rc) rc = write_texts(j, 0, err);
    if (!rc && j->options->samples) {
        rc = score_texts(j, err);
        if (!rc) rc = write_texts(j, 1, err);
    }
    for (size_t i = 0; i < j->n && !rc; i++) rc = read_answer(j, i, err);
    for (size_t i = 0; j->texts && i < j->n * (size_t)j->samples; i++) {
        free(j->texts[i].ids);
        free(j->texts[i].query);
    }
    free(j->texts);
    siren_readout_clear(&j->readout);
    return rc;
}

int app_reason(struct siren_app *app, struct siren_lm *lm, const struct siren_target *targets,
               size_t n, const struct siren_predict_options *options,
               const struct siren_prompt_ids *prompts, struct siren_answer *answers,
               const struct siren_progress *progress, struct siren_error *err)
{
    struct job j = {.app = app,
                    .lm = lm,
                    .targets = targets,
                    .n = n,
                    .options = options,
                    .prompts = prompts,
                    .answers = answers,
                    .progress = progress,
                    .samples = options->samples ? options->samples : 1};
    if (options->samples < 0)
        return siren_fail(err, SIREN_EINVAL, "samples: %d given, expected 0 or more",
                          options->samples);
    if (options->samples > 1 && options->sampling.temperature == 0)
        return siren_fail(
            err, SIREN_EINVAL,
            "%d samples at temperature 0 are all equal: expected a temperature above 0",
            options->samples);
    return run(&j, err);
}
