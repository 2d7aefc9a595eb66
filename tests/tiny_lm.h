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

/* The folder of a copy of the model, made at the first call for a name (one of four). */
static inline const char *tiny_model(const char *name)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    static char folders[4][256];
    static int n;
    const char *path = scratch_path(name);
    for (int i = 0; i < n; i++)
        if (strcmp(folders[i], path) == 0) return folders[i];
    assert_true(n < 4);
    snprintf(folders[n], sizeof folders[n], "%s", path);
    assert_int_equal(mkdir(folders[n], 0777), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) tiny_copy(folders[n], files[i]);
    return folders[n++];
}

static inline struct siren_lm_options tiny_options(void)
{
    return (struct siren_lm_options){.chat_template = fixture_template(),
                                     .isa = getenv("SIREN_ISA"),
                                     .compute = getenv("SIREN_COMPUTE")};
}

static inline void tiny_lm_open(struct siren_lm *lm, struct siren_pool *pool)
{
    struct siren_lm_options options = tiny_options();
    MUST(siren_lm_open(lm, tiny_model("tiny"), &options, pool, ERR));
}

/* ---- texts ---- */

static const char *const *tiny_texts;
static size_t tiny_n_texts;
static const struct siren_lm_calls *tiny_engine;

static int tiny_generate(struct siren_lm *lm, struct siren_generation *all, size_t n,
                         const struct siren_sampling *sampling, int batch,
                         const struct siren_progress *progress, struct siren_error *err)
{
    for (size_t i = 0; i < n; i++)
        fixture_say(lm, &all[i],
                    tiny_texts[siren_random_below(1, all[i].sequence, 0, tiny_n_texts)],
                    sampling->max_tokens);
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
    if (lm->calls != &calls) tiny_engine = lm->calls;
    lm->calls = &calls;
}

#endif
