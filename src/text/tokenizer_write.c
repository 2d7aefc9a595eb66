#include "text/tokenizer_write.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "text/gguf_family.h"
#include "text/tokenizer_private.h"

/* ---- the model ---- */

/* Of a text that stands twice only the last id is known, here as there. */
static json_t *vocab_json(const struct vocab *v, struct siren_error *err)
{
    json_t *all = json_object();
    for (size_t id = 0; all && id < v->n_ids; id++) {
        size_t length;
        const char *text = vocab_text(v, (int32_t)id, &length);
        if (!text) continue;
        if (memchr(text, 0, length)) {
            json_decref(all);
            siren_fail(err, SIREN_EUNSUPPORTED,
                       "token %zu holds a NUL, which has no place in tokenizer.json", id);
            return NULL;
        }
        char *key = alloc_string(text, length);
        if (!key || json_object_set_new(all, key, json_integer((json_int_t)id))) {
            json_decref(all);
            all = NULL;
        }
        free(key);
    }
    if (!all) siren_fail_memory(err, "a vocabulary", v->n_ids);
    return all;
}

static int by_rank(const void *a, const void *b)
{
    const struct bpe_merge *const *x = a, *const *y = b;
    return ((*x)->rank > (*y)->rank) - ((*x)->rank < (*y)->rank);
}

static json_t *part_json(const struct vocab *v, uint64_t id, int *spaced)
{
    size_t length = 0;
    const char *text = vocab_text(v, (int32_t)id, &length);
    if (text && memchr(text, ' ', length)) *spaced = 1;
    return json_stringn(text ? text : "", length);
}

/* ["left", "right"]; as "left right", which older programs read as well, where no token has a
 * space. */
static json_t *merges_json(const struct bpe *m)
{
    const struct bpe_merge **sorted = alloc_array(m->n_merges, sizeof *sorted);
    json_t *all = sorted ? json_array() : NULL;
    size_t n = 0;
    int spaced = 0, failed = !all;
    for (size_t i = 0; !failed && i < m->n_slots; i++)
        if (m->merges[i].pair != UINT64_MAX) sorted[n++] = &m->merges[i];
    if (!failed && n) qsort(sorted, n, sizeof *sorted, by_rank);
    for (size_t i = 0; !failed && i < n; i++) {
        json_t *left = part_json(&m->vocab, sorted[i]->pair >> 32, &spaced);
        json_t *right = part_json(&m->vocab, sorted[i]->pair & UINT32_MAX, &spaced);
        failed = json_array_append_new(all, json_pack("[o, o]", left, right));
    }
    free(sorted);
    for (size_t i = 0; !failed && !spaced && i < n; i++) {
        const json_t *pair = json_array_get(all, i);
        json_t *both = json_sprintf("%s %s", json_string_value(json_array_get(pair, 0)),
                                    json_string_value(json_array_get(pair, 1)));
        failed = json_array_set_new(all, i, both);
    }
    if (!failed) return all;
    json_decref(all);
    return NULL;
}

static json_t *token_json(const struct siren_tokenizer *t, int32_t id)
{
    size_t length = 0;
    const char *text = id >= 0 ? vocab_text(t->vocab, id, &length) : NULL;
    return text ? json_stringn(text, length) : json_null();
}

static json_t *model_json(const struct siren_tokenizer *t, struct siren_error *err)
{
    const struct bpe *m = &t->bpe;
    json_t *vocab = vocab_json(&m->vocab, err);
    if (!vocab) return NULL;
    json_t *model =
        json_pack("{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                  "unk_token", token_json(t, m->unk), "continuing_subword_prefix",
                  "end_of_word_suffix", "fuse_unk", m->fuse_unk, "byte_fallback", m->byte_fallback,
                  "ignore_merges", m->ignore_merges, "vocab", vocab, "merges", merges_json(m));
    if (!model) siren_fail_memory(err, "tokenizer.json", 0);
    return model;
}

/* ---- around it ---- */

static json_t *added_json(const struct siren_tokenizer *t)
{
    json_t *all = json_array();
    for (size_t i = 0; i < t->added.n; i++) {
        const struct added_token *a = &t->added.items[i];
        json_array_append_new(all,
                              json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (int)a->id,
                                        "content", json_stringn(a->text, a->length), "single_word",
                                        a->single_word, "lstrip", a->lstrip, "rstrip", a->rstrip,
                                        "normalized", a->normalized, "special", a->special));
    }
    return all;
}

static void add_specials(const struct siren_tokenizer *t, const struct ids *ids, json_t *to,
                         json_t *names)
{
    for (size_t i = 0; i < ids->n; i++) {
        json_t *name = token_json(t, ids->items[i]);
        json_array_append_new(
            to, json_pack("{s:{s:O, s:i}}", "SpecialToken", "id", name, "type_id", 0));
        json_object_set_new(names, json_string_value(name),
                            json_pack("{s:O, s:[i], s:[O]}", "id", name, "ids", (int)ids->items[i],
                                      "tokens", name));
        json_decref(name);
    }
}

static void add_text(json_t *to, const char *which, int type)
{
    json_array_append_new(to,
                          json_pack("{s:{s:s, s:i}}", "Sequence", "id", which, "type_id", type));
}

/* What begins and ends a text; of a pair, both. */
static json_t *processor_json(const struct siren_tokenizer *t)
{
    if (!t->before.n && !t->after.n) return json_null();
    json_t *names = json_object(), *single = json_array(), *pair = json_array();
    for (int i = 0; i < 3; i++) {
        json_t *to = i ? pair : single;
        add_specials(t, &t->before, to, names);
        add_text(to, i < 2 ? "A" : "B", i == 2);
        add_specials(t, &t->after, to, names);
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair",
                     pair, "special_tokens", names);
}

static json_t *step_json(const struct gguf_family *f, const char *name)
{
    json_t *found = json_object_get(f->steps, name);
    return found ? json_incref(found) : json_null();
}

static int write_tokenizer(char **out, const struct siren_tokenizer *t, const struct gguf_family *f,
                           struct siren_error *err)
{
    json_t *model = model_json(t, err);
    if (!model) return err ? err->code : SIREN_EUNSUPPORTED;
    json_t *root = json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0",
                             "truncation", "padding", "added_tokens", added_json(t), "normalizer",
                             step_json(f, "normalizer"), "pre_tokenizer",
                             step_json(f, "pre_tokenizer"), "post_processor", processor_json(t),
                             "decoder", step_json(f, "decoder"), "model", model);
    *out = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    return *out ? 0 : siren_fail_memory(err, "tokenizer.json", 0);
}

/* ---- tokenizer_config.json ---- */

static void set_token(json_t *config, const char *name, const struct siren_tokenizer *t, int32_t id)
{
    json_t *text = token_json(t, id);
    if (json_is_string(text)) json_object_set(config, name, text);
    json_decref(text);
}

static int write_config(char **out, const struct siren_tokenizer *t, const struct tensors *ts,
                        int max_positions, struct siren_error *err)
{
    const struct gguf_value *chat = gguf_find(ts, "tokenizer.chat_template");
    const struct gguf_value *pad = gguf_find(ts, "tokenizer.ggml.padding_token_id");
    json_t *config =
        json_pack("{s:s, s:i, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                  "model_max_length", max_positions, "clean_up_tokenization_spaces", 0);
    set_token(config, "bos_token", t, t->bos);
    set_token(config, "eos_token", t, t->eos);
    if (t->bpe.unk >= 0) set_token(config, "unk_token", t, t->bpe.unk);
    if (pad && pad->kind == GGUF_UINT && pad->u < t->vocab->n_ids)
        set_token(config, "pad_token", t, (int32_t)pad->u);
    if (chat && chat->kind == GGUF_STRING &&
        json_object_set_new(config, "chat_template", json_stringn(chat->text, chat->length))) {
        json_decref(config);
        return siren_fail(err, SIREN_EUNSUPPORTED, "tokenizer.chat_template: expected UTF-8");
    }
    *out = config ? json_dumps(config, JSON_INDENT(2)) : NULL;
    json_decref(config);
    return *out ? 0 : siren_fail_memory(err, "tokenizer_config.json", 0);
}

int tokenizer_files_from_gguf(struct tokenizer_files *out, const struct tensors *ts,
                              int max_positions, struct siren_error *err)
{
    struct siren_error local;
    struct gguf_family family;
    struct siren_tokenizer *t = NULL;
    if (!err) err = &local;
    *out = (struct tokenizer_files){0};
    int code = gguf_family(&family, ts, err);
    if (!code) code = tokenizer_from_tensors(&t, ts, err);
    if (!code) code = write_tokenizer(&out->tokenizer, t, &family, err);
    if (!code) code = write_config(&out->config, t, ts, max_positions, err);
    siren_tokenizer_free(t);
    json_decref(family.steps);
    if (!code) return 0;
    tokenizer_files_clear(out);
    return siren_fail_prefix(err, code, "%s", tensors_path(ts));
}

void tokenizer_files_clear(struct tokenizer_files *files)
{
    free(files->tokenizer);
    free(files->config);
    *files = (struct tokenizer_files){0};
}
