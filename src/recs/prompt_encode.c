/* Rendering and tokenising within the limit. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "siren/prompt.h"

#define THINK_OPEN "\n<think>\n"
#define THINK_EMPTY "</think>\n<answer>"
enum { ROOM = 256 };

int siren_prompt_text(const struct siren_chat *chat, const struct siren_prompt *prompt,
                      enum siren_ending ending, char **text, struct siren_error *err)
{
    struct siren_message messages[2] = {{"system", prompt->system}, {"user", prompt->user}};
    struct buf b = {0};
    char *rendered;
    int rc = siren_chat_render(chat, messages, 2, &rendered, err);
    if (rc) return rc;
    buf_puts(&b, rendered);
    if (ending != SIREN_OPEN) buf_puts(&b, THINK_OPEN);
    if (ending == SIREN_AO) buf_puts(&b, THINK_EMPTY);
    free(rendered);
    *text = buf_take(&b);
    return *text ? 0 : siren_fail_memory(err, "a prompt's text", 0);
}

void siren_prompt_ids_clear(struct siren_prompt_ids *ids)
{
    if (!ids) return;
    free(ids->ids);
    free(ids->text);
    *ids = (struct siren_prompt_ids){0};
}

struct fit {
    const struct siren_tokenizer *tokenizer;
    const struct siren_chat *chat;
    const struct siren_prompt_input *in;
    const struct siren_strategy *strategy;
    enum siren_ending ending;
};

/* Tokens of the prompt with `cut` lines left out; *n_tail those after the user's part. */
static int encode_cut(const struct fit *f, int cut, struct siren_prompt_ids *out, size_t *n_tail,
                      struct siren_error *err)
{
    struct siren_prompt prompt;
    const char *tail;
    int32_t *tail_ids = NULL;
    int rc = siren_prompt_build(&prompt, f->in, f->strategy, cut, err);
    if (rc) return rc;
    siren_prompt_ids_clear(out);
    out->n_ratings = prompt.n_ratings;
    out->n_cut = prompt.n_cut;
    rc = siren_prompt_text(f->chat, &prompt, f->ending, &out->text, err);
    if (!rc)
        rc = siren_tokenizer_encode(f->tokenizer, out->text, strlen(out->text), SIREN_ENCODE_PLAIN,
                                    &out->ids, &out->n_ids, err);
    tail = rc ? NULL : strstr(out->text, prompt.user + prompt.user_shared);
    *n_tail = 0;
    if (tail) {
        rc = siren_tokenizer_encode(f->tokenizer, tail, strlen(tail), SIREN_ENCODE_PLAIN, &tail_ids,
                                    n_tail, err);
        free(tail_ids);
    }
    siren_prompt_clear(&prompt);
    if (rc) siren_prompt_ids_clear(out);
    return rc;
}

/* Tokens that the user's part may have: the candidate's room in whole ROOMs is taken off. */
static size_t head_limit(size_t limit, size_t n_tail)
{
    size_t room = (n_tail + ROOM - 1) / ROOM * ROOM;
    if (room > limit || limit - room < limit / 2) room = n_tail;
    return limit > room ? limit - room : 0;
}

static int fits(const struct siren_prompt_ids *out, size_t n_tail, size_t limit)
{
    size_t head = out->n_ids > n_tail ? out->n_ids - n_tail : 0;
    return out->n_ids <= limit && head <= head_limit(limit, n_tail);
}

/* The fewest lines to cut: by bisection, as the length falls with every line. */
static int fit_prompt(const struct fit *f, struct siren_prompt_ids *out, size_t limit,
                      struct siren_error *err)
{
    size_t n_tail;
    int low = 0, high, rc = encode_cut(f, 0, out, &n_tail, err);
    if (rc || fits(out, n_tail, limit)) return rc;
    high = out->n_ratings;
    while (high - low > 1) { /* low lines are too few; high are enough, or all there are */
        int middle = low + (high - low) / 2;
        rc = encode_cut(f, middle, out, &n_tail, err);
        if (rc) return rc;
        if (fits(out, n_tail, limit))
            high = middle;
        else
            low = middle;
    }
    return encode_cut(f, high, out, &n_tail, err);
}

int siren_prompt_encode(struct siren_prompt_ids *out, const struct siren_tokenizer *tokenizer,
                        const struct siren_chat *chat, const struct siren_prompt_input *in,
                        const struct siren_strategy *strategy, enum siren_ending ending,
                        size_t limit, struct siren_error *err)
{
    struct siren_strategy without = *strategy;
    struct fit f = {tokenizer, chat, in, strategy, ending};
    int rc;
    *out = (struct siren_prompt_ids){0};
    if (!limit) limit = SIREN_PROMPT_LIMIT;
    rc = fit_prompt(&f, out, limit, err);
    if (!rc && out->n_ids > limit && (strategy->flags & SIREN_WITH_PROFILE)) {
        without.flags &= ~(unsigned)SIREN_WITH_PROFILE;
        f.strategy = &without;
        rc = fit_prompt(&f, out, limit, err);
    }
    if (!rc && out->n_ids > limit)
        rc = siren_fail(err, SIREN_EINVAL,
                        "the prompt for \"%.60s\" has %zu tokens without any history, and %zu are "
                        "allowed",
                        in->title ? in->title : "", out->n_ids, limit);
    if (rc) siren_prompt_ids_clear(out);
    return rc;
}
