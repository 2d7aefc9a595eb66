/* A sentence encoder with its tokenizer. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "siren/app.h"

static int open_parts(struct siren_encoder *e, const char *path, struct siren_pool *pool,
                      struct siren_error *err)
{
    const struct siren_config *config;
    int rc = siren_model_identity(path, e->identity, err);
    if (!rc) rc = siren_model_load(&e->model, path, NULL, pool, err);
    if (rc) return rc;
    config = siren_model_config(e->model);
    if (!siren_is_encoder(config))
        return siren_fail(err, SIREN_EINVAL,
                          "%s is a language model (%s); expected a sentence encoder", path,
                          siren_arch_name(config->arch));
    e->d = config->d_model;
    e->unit = config->normalize;
    e->max_tokens = config->max_tokens;
    rc = siren_tokenizer_load(&e->tokenizer, path, err);
    return rc ? rc : siren_engine_create(&e->engine, e->model, pool, NULL, err);
}

int siren_encoder_open(struct siren_encoder *out, const char *path, struct siren_pool *pool,
                       struct siren_error *err)
{
    int rc;
    *out = (struct siren_encoder){0};
    rc = open_parts(out, path, pool, err);
    if (rc) siren_encoder_close(out);
    return rc;
}

void siren_encoder_close(struct siren_encoder *encoder)
{
    if (!encoder) return;
    if (encoder->engine) siren_engine_free(encoder->engine);
    siren_tokenizer_free(encoder->tokenizer);
    siren_model_free(encoder->model);
    *encoder = (struct siren_encoder){0};
}

/* Special tokens added, cut before the last one ([SEP]) where too long. */
static int encode(const struct siren_encoder *e, const char *text, struct siren_tokens *out,
                  struct siren_error *err)
{
    int32_t *ids = NULL;
    size_t n = 0, most = (size_t)e->max_tokens;
    int rc = siren_tokenizer_encode(e->tokenizer, text, strlen(text), SIREN_ENCODE_ADD_SPECIAL,
                                    &ids, &n, err);
    if (rc) return rc;
    if (most >= 2 && n > most) {
        ids[most - 1] = ids[n - 1];
        n = most;
    }
    *out = (struct siren_tokens){ids, n};
    return 0;
}

int siren_encoder_embed(struct siren_encoder *encoder, const char *const *texts, size_t n,
                        float *out, const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_tokens *tokens = alloc_zeroed(n ? n : 1, sizeof *tokens);
    int rc = 0;
    if (!tokens) return siren_fail_memory(err, "texts to embed", n * sizeof *tokens);
    for (size_t i = 0; i < n && !rc; i++) rc = encode(encoder, texts[i], &tokens[i], err);
    if (!rc) rc = siren_embed_many(encoder->engine, tokens, n, out, progress, err);
    for (size_t i = 0; i < n; i++) free((void *)tokens[i].ids);
    free(tokens);
    return rc;
}
