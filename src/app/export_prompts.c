/* Prompts for a model that runs elsewhere; judge.c reads its answers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "siren/file.h"

static json_t *message_json(const char *role, const char *content)
{
    json_t *m = json_object();
    json_object_set_new(m, "role", json_string(role));
    json_object_set_new(m, "content", json_string(content));
    return m;
}

static json_t *row_key(const struct siren_app *app, const struct siren_target *t)
{
    json_t *key = json_array();
    json_array_append_new(key, json_string(app->users.external[t->user]));
    json_array_append_new(key, json_string(app->items.item[t->item].external));
    return key;
}

struct exporter {
    struct siren_app *app;
    const struct siren_chat *chat;
    const struct siren_tokenizer *tokenizer;
    const struct siren_predict_options *options;
    struct siren_writer *writer;
};

/* The lines that the prompt limit leaves, where a tokenizer can tell. */
static int lines_cut(const struct exporter *x, const struct siren_prompt_input *in, int *cut,
                     json_t *line, struct siren_error *err)
{
    struct siren_prompt_ids ids;
    int rc;
    *cut = 0;
    if (!x->tokenizer || !x->chat) return 0;
    rc = siren_prompt_encode(&ids, x->tokenizer, x->chat, in, &x->options->strategy,
                             x->options->mode, x->options->prompt_limit, err);
    if (rc) return rc;
    *cut = ids.n_cut;
    json_object_set_new(line, "prompt", json_string(ids.text));
    json_object_set_new(line, "tokens", json_integer((json_int_t)ids.n_ids));
    siren_prompt_ids_clear(&ids);
    return 0;
}

static int export_messages(const struct exporter *x, const struct siren_prompt_input *in, int cut,
                           json_t *line, struct siren_error *err)
{
    struct siren_prompt prompt;
    json_t *messages = json_array();
    char *text = NULL;
    int rc = siren_prompt_build(&prompt, in, &x->options->strategy, cut, err);
    if (!rc) {
        json_array_append_new(messages, message_json("system", prompt.system));
        json_array_append_new(messages, message_json("user", prompt.user));
        if (x->chat && !json_object_get(line, "prompt"))
            rc = siren_prompt_text(x->chat, &prompt, x->options->mode, &text, err);
        if (text) json_object_set_new(line, "prompt", json_string(text));
        free(text);
        siren_prompt_clear(&prompt);
    }
    json_object_set_new(line, "messages", messages);
    return rc;
}

static int export_one(const struct exporter *x, const struct siren_target *t,
                      struct siren_error *err)
{
    struct siren_target_input in;
    json_t *line = json_object();
    char *text = NULL;
    int cut = 0, rc = siren_target_input(x->app, t, x->options, &in, err);
    json_object_set_new(line, "row", row_key(x->app, t));
    json_object_set_new(line, "truth", app_real(x->app->ratings.rating[t->row]));
    if (!rc) {
        rc = lines_cut(x, &in.input, &cut, line, err);
        if (!rc) rc = export_messages(x, &in.input, cut, line, err);
        siren_target_input_clear(&in);
    }
    if (rc) {
        json_decref(line);
        return rc;
    }
    rc = app_json_text(line, JSON_COMPACT, &text, err);
    if (!rc) rc = siren_writer_printf(x->writer, err, "%s\n", text);
    free(text);
    return rc;
}

int siren_export_prompts(struct siren_app *app, const struct siren_chat *chat,
                         const struct siren_tokenizer *tokenizer,
                         const struct siren_eval_options *options, const char *path, size_t *n,
                         const struct siren_progress *progress, struct siren_error *err)
{
    struct exporter x = {app, chat, tokenizer, &options->predict, NULL};
    struct siren_target *targets;
    int rc = siren_eval_targets(app, options, &targets, n, err);
    if (rc) return rc;
    if (options->predict.strategy.flags & SIREN_WITH_PROFILE)
        rc = siren_fail(err, SIREN_EINVAL,
                        "prompts with a profile cannot be exported: a model has to write the "
                        "profiles first");
    if (!rc) rc = siren_writer_open(&x.writer, path, err);
    for (size_t i = 0; i < *n && !rc; i++) {
        rc = export_one(&x, &targets[i], err);
        if (!rc && i % 64 == 0 && siren_progress_update(progress, "prompts", i, *n))
            rc = siren_fail(err, SIREN_ECANCEL, "stopped; %s was not written", path);
    }
    if (rc)
        siren_writer_abort(x.writer);
    else
        rc = siren_writer_commit(x.writer, err);
    free(targets);
    return rc;
}
