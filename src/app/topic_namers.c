/* Who names the topics: the local model or a server. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "siren/understand.h"

enum { ANSWER_TOKENS = 48, TEMPLATE_TOKENS = 512 };

/* The answer's first word is given: small models then come to the point, and models that reason
 * do not. */
static const char opening[] = "Theme:";

static int is_line(void *context, const int32_t *ids, size_t n_ids)
{
    const struct siren_lm *lm = context;
    size_t length;
    const char *piece = siren_tokenizer_piece(lm->tokenizer, ids[n_ids - 1], &length);
    return piece && memchr(piece, '\n', length) != NULL;
}

static int continue_prompt(struct siren_lm *lm, const char *text, struct buf *answer,
                           struct siren_error *err)
{
    const struct siren_sampling greedy = {.top_p = 1, .max_tokens = ANSWER_TOKENS};
    struct siren_generation g = {.on_token = is_line, .context = lm};
    int32_t stops[SIREN_MAX_STOPS], *ids = NULL;
    size_t n = 0, length = 0;
    char *said = NULL;
    int rc = siren_tokenizer_encode(lm->tokenizer, text, strlen(text), SIREN_ENCODE_PLAIN, &ids, &n,
                                    err);
    if (rc) return rc;
    g.prompt = (struct siren_tokens){ids, n};
    g.stop_ids = stops;
    g.n_stop_ids = siren_lm_stops(lm, stops);
    rc = lm->calls->generate(lm, &g, 1, &greedy, 1, NULL, err);
    if (!rc) rc = siren_tokenizer_decode(lm->tokenizer, g.ids, g.n_ids, 1, &said, &length, err);
    if (!rc) buf_puts(answer, said);
    free(said);
    free(ids);
    siren_generation_clear(&g);
    return rc;
}

/* Made-up groups with good answers, as earlier turns: a small model has to be shown. */
enum { N_SHOWN = 2, SHOWN_ITEMS = 4 };
static const struct {
    const char *kind, *answer;
    struct siren_topic_item items[SHOWN_ITEMS];
} examples[N_SHOWN] = {
    {"books",
     "Theme: Murder puzzles in country houses",
     {{"The Locked Library", "Mystery|Classic"},
      {"Death at Thornfield Manor", "Mystery"},
      {"The Butler's Alibi", "Mystery|Crime"},
      {"A Guest Too Many", "Crime"}}},
    {"games",
     "Theme: Building and running whole cities",
     {{"Mayor of Riverton", "Simulation"},
      {"Metro Planner", "Simulation|Strategy"},
      {"Skyline Architect", "Strategy"},
      {"Traffic Boss", "Simulation"}}},
};

static int show_examples(struct siren_message *messages, char **prompts, struct siren_error *err)
{
    for (int i = 0; i < N_SHOWN; i++) {
        int rc =
            siren_topic_prompt(&prompts[i], examples[i].kind, examples[i].items, SHOWN_ITEMS, err);
        if (rc) return rc;
        messages[2 * i] = (struct siren_message){"user", prompts[i]};
        messages[2 * i + 1] = (struct siren_message){"assistant", examples[i].answer};
    }
    return 0;
}

static int ask_local(void *context, const char *prompt, char **answer, struct siren_error *err)
{
    struct siren_lm *lm = context;
    struct siren_message messages[2 * N_SHOWN + 1];
    struct buf text = {0}, said = {0};
    char *rendered = NULL;
    if (!lm->chat) return siren_fail(err, SIREN_EINVAL, "naming topics needs a chat template");
    char *shown[N_SHOWN] = {NULL};
    int rc = show_examples(messages, shown, err);
    messages[2 * N_SHOWN] = (struct siren_message){"user", prompt};
    if (!rc) rc = siren_chat_render(lm->chat, messages, 2 * N_SHOWN + 1, &rendered, err);
    for (int i = 0; i < N_SHOWN; i++) free(shown[i]);
    if (rc) return rc;
    buf_puts(&text, rendered);
    buf_puts(&text, opening);
    buf_puts(&said, opening);
    free(rendered);
    rc = buf_failed(&text) ? siren_fail_memory(err, "a prompt", text.size)
                           : continue_prompt(lm, buf_text(&text), &said, err);
    buf_free(&text);
    *answer = buf_take(&said);
    return !rc && !*answer ? siren_fail_memory(err, "an answer", 64) : rc;
}

static int fits_local(void *context, const char *prompt)
{
    const struct siren_lm *lm = context;
    int32_t *ids = NULL;
    size_t n = 0;
    if (!lm->model) return 1; /* another's calls: whoever answers knows its own limit */
    int rc = siren_tokenizer_encode(lm->tokenizer, prompt, strlen(prompt), SIREN_ENCODE_PLAIN, &ids,
                                    &n, NULL);
    free(ids);
    size_t room = (size_t)siren_model_config(lm->model)->max_positions;
    return !rc && n + ANSWER_TOKENS + TEMPLATE_TOKENS <= room;
}

void siren_namer_local(struct siren_namer *out, struct siren_lm *lm)
{
    *out = (struct siren_namer){ask_local, fits_local, lm};
}

static int ask_endpoint(void *context, const char *prompt, char **answer, struct siren_error *err)
{
    return siren_openai_ask(context, NULL, prompt, answer, err);
}

void siren_namer_endpoint(struct siren_namer *out, struct siren_openai *client)
{
    *out = (struct siren_namer){ask_endpoint, NULL, client};
}
