/* A sentence encoder with its tokenizer. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "siren/app.h"

static const char bf16[] = "bf16";

const char *siren_encoder_compute(const char *identity)
{
    const char *mode = strrchr(identity, ',');
    if (!mode || mode[1] != ' ' || strchr(mode, '#')) return "f32";
    mode += 2;
    /* What follows it is the contract: see mode_text(). */
    return strncmp(mode, "bf16 ", sizeof bf16) ? mode : bf16;
}

/* "bf16 (numerics 5)", "bf16 on AMX (numerics 5)": vectors of another contract are others, too. */
static void mode_text(char text[64], const struct siren_engine *engine)
{
    snprintf(text, 64, "%s (numerics %d)", app_sums(engine), SIREN_NUMERICS);
}

/* The hash is at the end of what siren_model_identity() gives; a name that is too long is cut. */
static void add_mode(char identity[256], const struct siren_engine *engine)
{
    char hash[32], mode[64];
    if (!strcmp(siren_engine_compute(engine), "f32")) return;
    mode_text(mode, engine);
    const char *at = strrchr(identity, '#');
    size_t room = 256 - strlen(mode) - 3;
    snprintf(hash, sizeof hash, "%s", at ? at : "");
    size_t name = strlen(identity) - strlen(hash), most = room - strlen(hash);
    if (name > most) name = most;
    snprintf(identity + name, 256 - name, "%s, %s", hash, mode);
}

int app_check_encoder(struct siren_workspace *ws, const struct siren_topics *t,
                      const struct siren_encoder *encoder, struct siren_error *err)
{
    if (!t->k || (siren_identity_same(t->encoder, encoder->identity) && t->d == encoder->d))
        return SIREN_OK;
    return siren_fail(err, SIREN_EINVAL, "the topics of %s were made with %s, not with %s",
                      siren_workspace_path(ws), t->encoder, encoder->identity);
}

static int open_parts(struct siren_encoder *e, const char *path,
                      const struct siren_encoder_options *options, struct siren_pool *pool,
                      struct siren_error *err)
{
    struct siren_engine_options engine = {.isa = options ? options->isa : NULL,
                                          .compute = options ? options->compute : NULL};
    struct siren_model_options load = {.compute = engine.compute};
    const struct siren_config *config;
    int rc = siren_model_identity(path, e->identity, err);
    if (!rc) rc = siren_model_load(&e->model, path, &load, pool, err);
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
    if (!rc) rc = siren_engine_create(&e->engine, e->model, pool, &engine, err);
    if (!rc) add_mode(e->identity, e->engine);
    return rc;
}

int siren_encoder_open(struct siren_encoder *out, const char *path,
                       const struct siren_encoder_options *options, struct siren_pool *pool,
                       struct siren_error *err)
{
    int rc;
    *out = (struct siren_encoder){0};
    rc = open_parts(out, path, options, pool, err);
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
static int encode_text(const struct siren_encoder *e, const char *text, struct siren_tokens *out,
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

static int check_vector(const struct siren_encoder *e, const float *all, const char *const *texts,
                        size_t i, struct siren_error *err)
{
    for (int k = 0; k < e->d; k++)
        if (!isfinite(all[i * (size_t)e->d + (size_t)k]))
            return siren_fail(
                err, SIREN_ENUMERIC,
                "%s: the vector of \"%.80s\" is not finite: the encoder's weights are "
                "damaged",
                e->identity, texts[i]);
    return 0;
}

int siren_encoder_embed(struct siren_encoder *encoder, const char *const *texts, size_t n,
                        float *out, const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_tokens *tokens = alloc_zeroed(n ? n : 1, sizeof *tokens);
    int rc = 0;
    if (!tokens) return siren_fail_memory(err, "texts to embed", n * sizeof *tokens);
    for (size_t i = 0; i < n && !rc; i++) rc = encode_text(encoder, texts[i], &tokens[i], err);
    if (!rc) rc = siren_embed_many(encoder->engine, tokens, n, out, progress, err);
    for (size_t i = 0; i < n && !rc; i++) rc = check_vector(encoder, out, texts, i, err);
    for (size_t i = 0; i < n; i++) free((void *)tokens[i].ids);
    free(tokens);
    return rc;
}
