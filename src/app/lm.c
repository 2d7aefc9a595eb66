/* A language model with its tokenizer, chat template and session. */
#include <stdio.h>

#include "app/parts.h"
#include "model/config.h"
#include "siren/app.h"

static int engine_score(struct siren_lm *lm, struct siren_score *scores, size_t n,
                        const struct siren_progress *progress, struct siren_error *err)
{
    return siren_score_many(lm->session, scores, n, progress, err);
}

static int engine_generate(struct siren_lm *lm, struct siren_generation *generations, size_t n,
                           const struct siren_sampling *sampling, int batch,
                           const struct siren_progress *progress, struct siren_error *err)
{
    return siren_generate_many(lm->session, generations, n, sampling, batch, progress, err);
}

static const struct siren_lm_calls engine_calls = {engine_score, engine_generate};

static int open_chat(struct siren_lm *lm, const char *path, const struct siren_lm_options *options,
                     struct siren_error *err)
{
    int rc;
    if (options->chat_template) return siren_chat_load_file(&lm->chat, options->chat_template, err);
    rc = siren_chat_load(&lm->chat, path, err);
    if (rc && options->raw) {
        lm->chat = NULL;
        return 0;
    }
    return rc;
}

static int refuse_encoder(const struct siren_config *c, const char *path, struct siren_error *err)
{
    if (!siren_is_encoder(c)) return 0;
    return siren_fail(err, SIREN_EINVAL, "%s is a sentence encoder (%s); expected a language model",
                      path, siren_arch_name(c->arch));
}

int app_need_lm(const char *path, struct siren_error *err)
{
    struct siren_config config;
    struct tensors *ts;
    int rc = tensors_open_model(&ts, path, err);
    if (rc) return rc;
    rc = model_config_read(&config, ts, path, err);
    tensors_close(ts);
    return rc ? rc : refuse_encoder(&config, path, err);
}

static int open_adapter(struct siren_lm *lm, const char *path, struct siren_error *err)
{
    int rc = siren_adapter_load(&lm->adapter, path, lm->model, err);
    if (!rc) siren_adapter_identity(lm->adapter, path, lm->adapter_identity);
    return rc;
}

static int open_parts(struct siren_lm *lm, const char *path, const struct siren_lm_options *options,
                      struct siren_pool *pool, struct siren_error *err)
{
    struct siren_model_options model_options = {
        .expand = options->expand, .compute = options->compute, .trainable = options->trainable};
    struct siren_engine_options engine_options = {.isa = options->isa, .compute = options->compute};
    struct siren_session_options session_options = {.cache_bytes = options->cache_bytes};
    int rc = siren_model_identity(path, lm->identity, err);
    if (!rc) rc = siren_model_load(&lm->model, path, &model_options, pool, err);
    if (!rc) rc = refuse_encoder(siren_model_config(lm->model), path, err);
    if (!rc && options->adapter) rc = open_adapter(lm, options->adapter, err);
    if (!rc) rc = siren_tokenizer_load(&lm->tokenizer, path, err);
    if (!rc) rc = open_chat(lm, path, options, err);
    if (!rc) rc = siren_engine_create(&lm->engine, lm->model, pool, &engine_options, err);
    if (!rc) rc = siren_session_create(&lm->session, lm->engine, &session_options, err);
    if (!rc) siren_session_use_adapter(lm->session, lm->adapter);
    return rc;
}

int siren_lm_open(struct siren_lm *out, const char *path, const struct siren_lm_options *options,
                  struct siren_pool *pool, struct siren_error *err)
{
    static const struct siren_lm_options defaults;
    int rc;
    *out = (struct siren_lm){.calls = &engine_calls};
    rc = open_parts(out, path, options ? options : &defaults, pool, err);
    if (rc) siren_lm_close(out);
    return rc;
}

void siren_lm_close(struct siren_lm *lm)
{
    if (!lm) return;
    if (lm->session) siren_session_free(lm->session);
    if (lm->engine) siren_engine_free(lm->engine);
    if (lm->chat) siren_chat_free(lm->chat);
    siren_tokenizer_free(lm->tokenizer);
    siren_adapter_free(lm->adapter);
    siren_model_free(lm->model);
    *lm = (struct siren_lm){0};
}

void siren_lm_name(const struct siren_lm *lm, char name[SIREN_LM_NAME])
{
    snprintf(name, SIREN_LM_NAME, "%s%s%s", lm->identity, *lm->adapter_identity ? " + " : "",
             lm->adapter_identity);
}

size_t siren_lm_stops(const struct siren_lm *lm, int32_t stops[SIREN_MAX_STOPS])
{
    const char *const *texts = lm->chat ? siren_chat_stops(lm->chat) : NULL;
    size_t n = 0;
    int32_t eos = siren_tokenizer_eos(lm->tokenizer);
    if (eos >= 0) stops[n++] = eos;
    for (; texts && *texts && n < SIREN_MAX_STOPS; texts++) {
        int32_t id = siren_tokenizer_id(lm->tokenizer, *texts);
        if (id >= 0 && id != eos) stops[n++] = id;
    }
    return n;
}
