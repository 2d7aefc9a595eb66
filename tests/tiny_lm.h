/* A tiny random language model with a chat template, long enough for prompts; its texts may be the
 * test's instead of its own.  Include after app_fixture.h. */
#ifndef SIREN_TESTS_TINY_LM_H
#define SIREN_TESTS_TINY_LM_H

#define TINY_MODEL "tests/fixtures/models/smol"

static void tiny_copy(const char *folder, const char *name)
{
    char from[256], to[400], *data;
    size_t size;
    snprintf(from, sizeof from, TINY_MODEL "/%s", name);
    snprintf(to, sizeof to, "%s/%s", folder, name);
    MUST(siren_file_read(&data, &size, from, 1 << 20, ERR));
    if (strcmp(name, "config.json") == 0) { /* 128 positions become 9128 */
        static const char field[] = "\"max_position_embeddings\": ";
        size_t at;
        assert_non_null(strstr(data, field));
        at = (size_t)(strstr(data, field) - data) + strlen(field);
        data = realloc(data, size + 2);
        memmove(data + at + 1, data + at, size - at + 1);
        data[at] = '9';
        size++;
    }
    FILE *f = fopen(to, "wb");
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
    free(data);
}

static inline void tiny_lm_open(struct siren_lm *lm, struct siren_pool *pool)
{
    static const char template[] = "system: <|im_start|>system\\n{system}<|im_end|>\\n\n"
                                   "user: <|im_start|>user\\n{user}<|im_end|>\\n\n"
                                   "prompt: <|im_start|>assistant\\n\n"
                                   "stop: <|im_end|>\n";
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    struct siren_lm_options options = {.isa = getenv("SIREN_ISA"),
                                       .compute = getenv("SIREN_COMPUTE")};
    char folder[300], chat[300];
    snprintf(folder, sizeof folder, "%s", scratch_path("tiny"));
    mkdir(folder, 0777);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) tiny_copy(folder, files[i]);
    snprintf(chat, sizeof chat, "%s", scratch_write("tiny.chat", template, strlen(template)));
    options.chat_template = chat;
    MUST(siren_lm_open(lm, folder, &options, pool, ERR));
}

/* ---- texts ---- */

static const char *const *tiny_texts;
static size_t tiny_n_texts;
static const struct siren_lm_calls *tiny_engine;

/* How many of the text's tokens the prompt ends with: a text is gone on with. */
static size_t tiny_written(const struct siren_tokens *prompt, const int32_t *ids, size_t n)
{
    for (size_t k = n < prompt->n_ids ? n : prompt->n_ids; k; k--)
        if (!memcmp(prompt->ids + prompt->n_ids - k, ids, k * sizeof *ids)) return k;
    return 0;
}

static int tiny_generate(struct siren_lm *lm, struct siren_generation *all, size_t n,
                         const struct siren_sampling *sampling, int batch,
                         const struct siren_progress *progress, struct siren_error *err)
{
    for (size_t i = 0; i < n; i++) {
        struct siren_generation *g = &all[i];
        const char *text = tiny_texts[siren_random_below(1, g->sequence, 0, tiny_n_texts)];
        size_t n_ids, from;
        MUST(siren_tokenizer_encode(lm->tokenizer, text, strlen(text), 0, &g->ids, &n_ids, err));
        from = tiny_written(&g->prompt, g->ids, n_ids);
        memmove(g->ids, g->ids + from, (n_ids - from) * sizeof *g->ids);
        while (g->n_ids < n_ids - from && g->n_ids < (size_t)sampling->max_tokens && !g->stopped)
            g->stopped = g->on_token(g->context, g->ids, ++g->n_ids);
    }
    return 0;
}

static int tiny_score(struct siren_lm *lm, struct siren_score *scores, size_t n,
                      const struct siren_progress *progress, struct siren_error *err)
{
    return tiny_engine->score(lm, scores, n, progress, err);
}

/* A text is chosen by user and item. */
static inline void tiny_lm_say(struct siren_lm *lm, const char *const *texts, size_t n)
{
    static const struct siren_lm_calls calls = {tiny_score, tiny_generate};
    tiny_texts = texts;
    tiny_n_texts = n;
    tiny_engine = lm->calls;
    lm->calls = &calls;
}

#endif
