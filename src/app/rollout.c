/* A text whose labels are scored is written in two calls: up to "<answer>", whose keys and values
 * are held, and from there to "</answer>".  In between the labels are scored, which computes the
 * tag's last token and the labels only.  A draw depends on its position and on the tokens before
 * it, so the text is the one that a single call writes. */
#include "app/rollout.h"

#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "base/buf.h"

static const char opening[] = "<answer>", closing[] = "</answer>";
static const char rest_of_thought[] = "\n</think>\n<answer>"; /* what a text without the tag gets */

/* One text while it is written. */
struct text {
    const struct siren_tokenizer *tokenizer;
    int opens;               /* 1: end at "<answer>", too */
    int limit;               /* tokens of this call; 0: the sampling's */
    int at_opening, is_full; /* ended there; ended by `limit` */
    int is_whole;            /* by the last call */
    int32_t *ids;            /* prompt, then the text so far */
    size_t n_prompt;
    int32_t *query; /* what the labels are scored after */
    size_t n_query;
    uint64_t stream;
    struct rollout *out;
};

struct writer {
    struct siren_lm *lm;
    const struct siren_scale *scale;
    const struct rollout_options *options;
    const struct siren_progress *progress;
    struct text *texts;
    size_t n;         /* texts */
    size_t positions; /* of a prompt and its text, so that labels fit behind it; 0: any number */
    int32_t stops[SIREN_MAX_STOPS];
    size_t n_stops;
};

/* A model may write a NUL, which would end the text: it counts as a space. */
static void append_bytes(struct buf *b, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) buf_putc(b, bytes[i] ? bytes[i] : ' ');
}

static void append_piece(struct buf *b, const struct siren_tokenizer *tokenizer, int32_t id)
{
    size_t length = 0;
    const char *piece = siren_tokenizer_piece(tokenizer, id, &length);
    if (piece) append_bytes(b, piece, length);
}

/* ---- writing ---- */

/* Stop once a tag stands at the end: whatever follows "</answer>" would only break the format.  A
 * text that goes on may have begun the tag before: one token can hold "></". */
static int is_ended(void *context, const int32_t *ids, size_t n)
{
    enum { WINDOW = 12 };
    struct text *t = context;
    struct buf b = {0};
    const int32_t *before = t->ids + t->n_prompt;
    size_t n_before = t->out->n, all = n_before + n;
    int found;
    for (size_t i = all > WINDOW ? all - WINDOW : 0; i < all; i++)
        append_piece(&b, t->tokenizer, i < n_before ? before[i] : ids[i - n_before]);
    found = strstr(buf_text(&b), closing) != NULL;
    t->at_opening = !found && t->opens && strstr(buf_text(&b), opening) != NULL;
    buf_free(&b);
    t->is_full = !found && !t->at_opening && t->limit && n >= (size_t)t->limit;
    return found || t->at_opening || t->is_full;
}

static int is_stop(const struct writer *w, int32_t id)
{
    for (size_t i = 0; i < w->n_stops; i++)
        if (w->stops[i] == id) return 1;
    return 0;
}

static int append_text(const struct writer *w, const struct siren_generation *g,
                       struct siren_error *err)
{
    struct text *t = g->context;
    struct rollout *r = t->out;
    size_t n = t->n_prompt + r->n, none = 0, capacity = 0;
    if (alloc_grow(&t->ids, &none, n + g->n_ids + 1, sizeof *t->ids) ||
        alloc_grow(&r->logprobs, &capacity, r->n + g->n_ids + 1, sizeof *r->logprobs))
        return siren_fail_memory(err, "an answer", (n + g->n_ids) * sizeof *t->ids);
    if (g->n_ids) memcpy(t->ids + n, g->ids, g->n_ids * sizeof *g->ids);
    for (size_t i = 0; i < g->n_ids; i++) r->logprobs[r->n + i] = g->logprobs ? g->logprobs[i] : 0;
    r->n += g->n_ids;
    r->ended = g->n_ids && is_stop(w, g->ids[g->n_ids - 1]);
    r->truncated =
        t->at_opening || t->is_full || !g->stopped; /* at "<answer>": unless it goes on */
    return 0;
}

/* All texts that begin, or those that go on behind "<answer>". */
static int write_texts(struct writer *w, int go_on, struct siren_error *err)
{
    const struct rollout_options *o = w->options;
    struct siren_generation *g = alloc_zeroed(w->n, sizeof *g);
    /* What stands behind "<answer>" is short: a tenth of the progress. */
    size_t n = 0, first = o->readout ? w->n - w->n / 10 : w->n;
    struct app_part part = {w->progress, "texts", go_on ? first : 0, go_on ? w->n - first : first,
                            w->n};
    struct siren_progress progress = app_part_progress(&part);
    int rc = 0;
    if (!g) return siren_fail_memory(err, "answers", w->n * sizeof *g);
    for (size_t i = 0; i < w->n; i++) {
        struct text *t = &w->texts[i];
        if (go_on && (!t->at_opening || t->out->n >= (size_t)o->sampling.max_tokens)) continue;
        t->opens = !go_on && o->readout;
        t->limit = go_on          ? o->sampling.max_tokens - (int)t->out->n
                   : w->positions ? (int)(w->positions - t->n_prompt)
                                  : 0;
        t->at_opening &= !go_on;
        g[n++] = (struct siren_generation){.prompt = {t->ids, t->n_prompt + t->out->n},
                                           .sequence = t->stream,
                                           .stop_ids = w->stops,
                                           .n_stop_ids = w->n_stops,
                                           .keep_stop = 1,
                                           .on_token = is_ended,
                                           .context = t,
                                           .keep = t->opens};
    }
    if (n) rc = w->lm->calls->generate(w->lm, g, n, &o->sampling, o->batch, &progress, err);
    const int all = !rc;
    for (size_t i = 0; i < n; i++) {
        struct text *t = g[i].context;
        t->is_whole = all || g[i].whole;
        int failed = t->is_whole ? append_text(w, &g[i], err) : 0;
        if (failed) rc = failed;
        siren_generation_clear(&g[i]);
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
 * is written by tokens of its own.  A text without the tag gets one. */
static int make_query(struct text *t, struct siren_error *err)
{
    const int32_t *ids = t->ids + t->n_prompt;
    size_t n = t->out->n - (size_t)t->out->ended, before = 0;
    struct buf b = {0};
    const char *end;
    int rc;
    for (size_t i = 0; i < n; i++) {
        before = b.size;
        append_piece(&b, t->tokenizer, ids[i]);
    }
    if (buf_failed(&b)) return siren_fail_memory(err, "an answer", b.size);
    if (t->at_opening) {
        end = strstr(buf_text(&b), opening) + strlen(opening);
        if (*end) {
            struct buf rest = {0};
            const char *from = buf_text(&b) + before;
            buf_append(&rest, from, (size_t)(end - from));
            rc = buf_failed(&rest) ? siren_fail_memory(err, "an answer", rest.size)
                                   : close_query(t, n - 1, buf_text(&rest), err);
            buf_free(&rest);
        } else {
            rc = close_query(t, n, "", err);
        }
    } else {
        int thought = strstr(buf_text(&b), "</think>") != NULL;
        rc = close_query(t, n, thought ? "\n<answer>" : rest_of_thought, err);
    }
    buf_free(&b);
    return rc;
}

static int score_texts(struct writer *w, struct siren_error *err)
{
    const struct siren_readout *readout = w->options->readout;
    struct siren_score *scores = alloc_zeroed(w->n, sizeof *scores);
    int rc = scores ? 0 : siren_fail_memory(err, "scores", w->n * sizeof *scores);
    for (size_t i = 0; i < w->n && !rc; i++) {
        struct text *t = &w->texts[i];
        rc = make_query(t, err);
        scores[i] = (struct siren_score){.prompt = {t->query, t->n_query},
                                         .continuations = readout->tokens,
                                         .n_continuations = (size_t)readout->n,
                                         .logprobs = t->out->labels};
    }
    if (!rc) rc = w->lm->calls->score(w->lm, scores, w->n, NULL, err);
    free(scores);
    return rc;
}

/* ---- reading ---- */

static int read_text(const struct writer *w, struct text *t, struct siren_error *err)
{
    struct rollout *r = t->out;
    struct buf b = {0};
    char *text = NULL;
    size_t length = 0;
    int rc = siren_tokenizer_decode(t->tokenizer, t->ids + t->n_prompt, r->n - (size_t)r->ended, 1,
                                    &text, &length, err);
    if (rc) return rc;
    buf_puts(&b, APP_THINK);
    append_bytes(&b, text, length);
    free(text);
    r->text = buf_take(&b);
    if (!r->text) return siren_fail_memory(err, "an answer", length);
    r->reading = siren_answer_read(r->text, w->scale->min, w->scale->max, r->truncated);
    memmove(t->ids, t->ids + t->n_prompt, r->n * sizeof *t->ids);
    r->ids = t->ids;
    r->query = t->query;
    r->n_query = t->n_query;
    t->ids = t->query = NULL;
    return 0;
}

/* ---- all ---- */

int rollout_room_find(struct rollout_room *room, const struct siren_lm *lm,
                      const struct siren_readout *readout, struct siren_error *err)
{
    int32_t *ids = NULL;
    *room = (struct rollout_room){0};
    if (!readout || !lm->model) return 0;
    room->positions = (size_t)siren_model_config(lm->model)->max_positions;
    int rc = siren_tokenizer_encode(lm->tokenizer, rest_of_thought, strlen(rest_of_thought),
                                    SIREN_ENCODE_NO_SPECIAL, &ids, &room->reserved, err);
    free(ids);
    room->reserved += siren_readout_longest(readout);
    return rc;
}

int rollout_room_check(const struct rollout_room *room, size_t n_prompt, struct siren_error *err)
{
    if (!room->positions || n_prompt + room->reserved < room->positions) return 0;
    return siren_fail(err, SIREN_EINVAL,
                      "a prompt of %zu tokens leaves no room for reasoning: the model was made for "
                      "%zu, and %zu are kept for the answer; expected a lower --prompt-limit",
                      n_prompt, room->positions, room->reserved);
}

static int begin_texts(struct writer *w, const struct rollout_prompt *prompts, struct rollout *out,
                       struct siren_error *err)
{
    size_t samples = (size_t)w->options->samples;
    w->n_stops = siren_lm_stops(w->lm, w->stops);
    w->texts = alloc_zeroed(w->n, sizeof *w->texts);
    if (!w->texts) return siren_fail_memory(err, "answers", w->n * sizeof *w->texts);
    for (size_t i = 0; i < w->n; i++) {
        const struct rollout_prompt *p = &prompts[i / samples];
        struct text *t = &w->texts[i];
        t->tokenizer = w->lm->tokenizer;
        t->out = &out[i];
        t->n_prompt = p->n_ids;
        t->stream = p->stream + (uint64_t)(i % samples) * 0x9e3779b97f4a7c15u;
        t->ids = alloc_array(p->n_ids + 1, sizeof *t->ids);
        if (!t->ids) return siren_fail_memory(err, "a prompt", p->n_ids * sizeof *t->ids);
        memcpy(t->ids, p->ids, p->n_ids * sizeof *t->ids);
    }
    return 0;
}

static int check_options(const struct rollout_options *o, struct siren_error *err)
{
    if (o->samples < 1)
        return siren_fail(err, SIREN_EINVAL, "samples: %d given, expected 1 or more", o->samples);
    if (o->samples > 1 && o->sampling.temperature == 0)
        return siren_fail(
            err, SIREN_EINVAL,
            "%d samples at temperature 0 are all equal: expected a temperature above 0",
            o->samples);
    return 0;
}

static int write_window(struct siren_lm *lm, const struct siren_scale *scale,
                        const struct rollout_prompt *prompts, size_t n,
                        const struct rollout_options *options, struct rollout *out,
                        const struct siren_progress *progress, struct siren_error *err)
{
    struct writer w = {.lm = lm,
                       .scale = scale,
                       .options = options,
                       .progress = progress,
                       .n = n * (size_t)options->samples};
    struct rollout_room room;
    int held = options->readout && lm->session, rc;
    if (held) siren_session_hold(lm->session);
    rc = rollout_room_find(&room, lm, options->readout, err);
    for (size_t i = 0; i < n && !rc; i++) rc = rollout_room_check(&room, prompts[i].n_ids, err);
    w.positions = room.positions - room.reserved;
    if (!rc) rc = begin_texts(&w, prompts, out, err);
    if (!rc) rc = write_texts(&w, 0, err);
    if (!rc && options->readout) {
        rc = score_texts(&w, err);
        if (!rc) rc = write_texts(&w, 1, err);
    }
    const int all = !rc;
    for (size_t i = 0; w.texts && i < w.n; i++) {
        /* Of those that were stopped, what is whole without labels. */
        if (!all && (options->readout || !w.texts[i].is_whole)) continue;
        int failed = read_text(&w, &w.texts[i], err);
        if (failed) rc = failed;
    }
    for (size_t i = 0; w.texts && i < w.n; i++) {
        free(w.texts[i].ids);
        free(w.texts[i].query);
    }
    free(w.texts);
    if (held) siren_session_release(lm->session);
    return rc;
}

/* Texts that are scored are held in memory until their window is done: as many as the engine writes
 * at once anyway. */
static size_t prompts_at_once(const struct rollout_options *o, size_t n)
{
    size_t texts = o->batch > 0 ? (size_t)o->batch : SIREN_GENERATION_BATCH,
           samples = (size_t)o->samples;
    if (!o->readout) return n;
    return texts > samples ? texts / samples : 1;
}

int rollouts_write(struct siren_lm *lm, const struct siren_scale *scale,
                   const struct rollout_prompt *prompts, size_t n,
                   const struct rollout_options *options, struct rollout *out,
                   const struct siren_progress *progress, struct siren_error *err)
{
    int rc = check_options(options, err);
    size_t samples = rc ? 0 : (size_t)options->samples,
           window = rc ? 1 : prompts_at_once(options, n);
    for (size_t at = 0; at < n && !rc; at += window) {
        size_t some = n - at < window ? n - at : window;
        struct app_part part = {progress, "texts", at * samples, some * samples, n * samples};
        struct siren_progress inner = app_part_progress(&part);
        rc = write_window(lm, scale, prompts + at, some, options, out + at * samples, &inner, err);
    }
    return rc;
}

void rollout_clear(struct rollout *r)
{
    free(r->ids);
    free(r->logprobs);
    free(r->text);
    free(r->query);
    *r = (struct rollout){0};
}
