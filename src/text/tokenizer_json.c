/* tokenizer.json: the file of Hugging Face `tokenizers`. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/tokenizer_private.h"

/* ---- fields ---- */

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "";
}

static int unsupported(const json_t *object, struct siren_error *err)
{
    const char *type = type_of(object);
    if (!*type) return siren_fail(err, SIREN_EFORMAT, "expected an object with a \"type\"");
    return siren_fail(err, SIREN_EUNSUPPORTED, "the type \"%.100s\" is not supported", type);
}

static int flag(const json_t *object, const char *name, int otherwise)
{
    const json_t *value = json_object_get(object, name);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static int is(const json_t *object, const char *type)
{
    return !strcmp(type_of(object), type);
}

#define LONGEST_TEXT 4096 /* of what is put into texts: a hostile file must not multiply them */

/* A copy of a string field; a missing one is an error. */
static int copy_text(const json_t *object, const char *name, char **out, size_t *length,
                     struct siren_error *err)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_string(value))
        return siren_fail(err, SIREN_EFORMAT, "%s: \"%s\" must be a string", type_of(object), name);
    *length = json_string_length(value);
    if (*length > LONGEST_TEXT)
        return siren_fail(err, SIREN_EFORMAT, "%s: \"%s\" has %zu bytes, expected at most %d",
                          type_of(object), name, *length, LONGEST_TEXT);
    *out = alloc_string(json_string_value(value), *length);
    return *out ? 0 : siren_fail_memory(err, name, *length);
}

/* {"String": …} or {"Regex": …}; a plain string is a string. */
static int read_pattern(const json_t *object, struct regex **regex, char **text, size_t *length,
                        struct siren_error *err)
{
    const json_t *pattern = json_object_get(object, "pattern");
    const json_t *expression = json_object_get(pattern, "Regex");
    const json_t *string = json_is_string(pattern) ? pattern : json_object_get(pattern, "String");
    if (json_is_string(expression))
        return regex_compile(regex, json_string_value(expression), json_string_length(expression),
                             err);
    if (!json_is_string(string) || !json_string_length(string))
        return siren_fail(err, SIREN_EFORMAT, "%s: \"pattern\" must be a String or a Regex",
                          type_of(object));
    *length = json_string_length(string);
    *text = alloc_string(json_string_value(string), *length);
    return *text ? 0 : siren_fail_memory(err, "a pattern", *length);
}

/* Call `read` on each item of a Sequence's list. */
typedef int reader(struct siren_tokenizer *t, const json_t *object, struct siren_error *err);

static int read_sequence(struct siren_tokenizer *t, const json_t *object, const char *list,
                         reader *read, struct siren_error *err)
{
    const json_t *items = json_object_get(object, list);
    size_t i;
    const json_t *item;
    if (!json_is_array(items))
        return siren_fail(err, SIREN_EFORMAT, "Sequence: \"%s\" must be a list", list);
    json_array_foreach(items, i, item)
    {
        int code = read(t, item, err);
        if (code) return siren_fail_prefix(err, code, "%s[%zu]", list, i);
    }
    return 0;
}

/* ---- normalizer ---- */

static void read_bert(struct normalizer *n, const json_t *object)
{
    n->kind = NORMALIZE_BERT;
    n->clean = flag(object, "clean_text", 1);
    n->cjk = flag(object, "handle_chinese_chars", 1);
    n->lower = flag(object, "lowercase", 1);
    n->strip_accents = flag(object, "strip_accents", n->lower);
}

static int read_replace(struct normalizer *n, const json_t *object, struct siren_error *err)
{
    n->kind = NORMALIZE_REPLACE;
    int code = read_pattern(object, &n->regex, &n->pattern, &n->n_pattern, err);
    return code ? code : copy_text(object, "content", &n->content, &n->n_content, err);
}

static int read_charsmap(struct normalizer *n, const json_t *object, struct siren_error *err)
{
    const json_t *map = json_object_get(object, "precompiled_charsmap");
    n->kind = NORMALIZE_CHARSMAP;
    if (json_is_null(map)) return 0;
    if (!json_is_string(map))
        return siren_fail(err, SIREN_EFORMAT,
                          "Precompiled: \"precompiled_charsmap\" must be a string");
    return charsmap_decode(&n->charsmap, json_string_value(map), json_string_length(map), err);
}

static int read_normalizer(struct siren_tokenizer *t, const json_t *object, struct siren_error *err)
{
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
    if (is(object, "Sequence"))
        return read_sequence(t, object, "normalizers", read_normalizer, err);
    struct normalizer *n = tokenizer_add_normalizer(t);
    if (!n) return siren_fail_memory(err, "a normalizer", sizeof *n);
    for (int form = 0; form < 4; form++)
        if (is(object, forms[form])) {
            n->kind = NORMALIZE_FORM;
            n->form = (enum unicode_form)form;
            return 0;
        }
    if (is(object, "Replace")) return read_replace(n, object, err);
    if (is(object, "Precompiled")) return read_charsmap(n, object, err);
    if (is(object, "Prepend")) {
        n->kind = NORMALIZE_PREPEND;
        return copy_text(object, "prepend", &n->content, &n->n_content, err);
    }
    if (is(object, "BertNormalizer")) {
        read_bert(n, object);
    } else if (is(object, "Strip")) {
        n->kind = NORMALIZE_STRIP;
        n->left = flag(object, "strip_left", 1);
        n->right = flag(object, "strip_right", 1);
    } else if (is(object, "Lowercase")) {
        n->kind = NORMALIZE_LOWER;
    } else if (is(object, "StripAccents")) {
        n->kind = NORMALIZE_STRIP_ACCENTS;
    } else if (is(object, "Nmt")) {
        n->kind = NORMALIZE_NMT;
    } else if (is(object, "ByteLevel")) {
        n->kind = NORMALIZE_BYTES;
        t->byte_level = 1;
    } else {
        return unsupported(object, err);
    }
    return 0;
}

/* ---- pre_tokenizer ---- */

static int read_behavior(const json_t *object, enum split_behavior otherwise,
                         enum split_behavior *out, struct siren_error *err)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const json_t *value = json_object_get(object, "behavior");
    *out = otherwise;
    if (!value) return 0;
    for (int i = 0; i < 5; i++)
        if (json_is_string(value) && !strcmp(json_string_value(value), names[i])) {
            *out = (enum split_behavior)i;
            return 0;
        }
    return siren_fail(err, SIREN_EUNSUPPORTED, "%s: unknown behavior", type_of(object));
}

static int read_split(struct siren_tokenizer *t, const json_t *object, struct siren_error *err)
{
    const json_t *expression = json_object_get(json_object_get(object, "pattern"), "Regex");
    enum split_behavior behavior;
    int invert = flag(object, "invert", 0);
    int code = read_behavior(object, SPLIT_REMOVED, &behavior, err);
    if (code) return code;
    if (json_is_string(expression))
        return tokenizer_add_split(t, json_string_value(expression), json_string_length(expression),
                                   behavior, invert, err);
    struct pretokenizer *p = tokenizer_add_pretokenizer(t);
    if (!p) return siren_fail_memory(err, "a pre-tokenizer", sizeof *p);
    p->kind = PRETOKENIZE_STRING;
    p->behavior = behavior;
    p->invert = invert;
    return read_pattern(object, &p->regex, &p->text, &p->n_text, err);
}

/* The scheme of Metaspace, as its newer and its older form declare it. */
static int read_prepend(const json_t *object, enum prepend_scheme *out, struct siren_error *err)
{
    const char *scheme = json_string_value(json_object_get(object, "prepend_scheme"));
    if (!scheme)
        *out = flag(object, "add_prefix_space", 1) ? PREPEND_ALWAYS : PREPEND_NEVER;
    else if (!strcmp(scheme, "always"))
        *out = PREPEND_ALWAYS;
    else if (!strcmp(scheme, "first"))
        *out = PREPEND_FIRST;
    else if (!strcmp(scheme, "never"))
        *out = PREPEND_NEVER;
    else
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "Metaspace: the prepend_scheme \"%.50s\" is not supported", scheme);
    return 0;
}

static int read_metaspace(struct siren_tokenizer *t, const json_t *object, struct siren_error *err)
{
    struct pretokenizer *p = tokenizer_add_pretokenizer(t);
    if (!p) return siren_fail_memory(err, "a pre-tokenizer", sizeof *p);
    p->kind = PRETOKENIZE_METASPACE;
    p->behavior = SPLIT_MERGED_WITH_NEXT;
    p->split = flag(object, "split", 1);
    int code = read_prepend(object, &p->prepend, err);
    return code ? code : copy_text(object, "replacement", &p->text, &p->n_text, err);
}

/* Whitespace keeps what its expression matches; the text is Rust's \w, not Oniguruma's. */
static int add_whitespace(struct siren_tokenizer *t, struct siren_error *err)
{
    struct pretokenizer *p = tokenizer_add_pretokenizer(t);
    if (!p) return siren_fail_memory(err, "a pre-tokenizer", sizeof *p);
    p->kind = PRETOKENIZE_WORDS;
    p->behavior = SPLIT_REMOVED;
    return 0;
}

static int read_pretokenizer(struct siren_tokenizer *t, const json_t *object,
                             struct siren_error *err)
{
    enum split_behavior behavior;
    if (is(object, "Sequence"))
        return read_sequence(t, object, "pretokenizers", read_pretokenizer, err);
    if (is(object, "ByteLevel"))
        return tokenizer_add_byte_level(t, flag(object, "add_prefix_space", 1),
                                        flag(object, "use_regex", 1), err);
    if (is(object, "Split")) return read_split(t, object, err);
    if (is(object, "Digits"))
        return tokenizer_add_digits(t, flag(object, "individual_digits", 0), err);
    if (is(object, "Metaspace")) return read_metaspace(t, object, err);
    if (is(object, "Whitespace")) return add_whitespace(t, err);
    if (is(object, "WhitespaceSplit"))
        return tokenizer_add_class(t, PRETOKENIZE_SPACE, SPLIT_REMOVED, err);
    if (is(object, "Punctuation")) {
        int code = read_behavior(object, SPLIT_ISOLATED, &behavior, err);
        return code ? code : tokenizer_add_class(t, PRETOKENIZE_PUNCTUATION, behavior, err);
    }
    if (is(object, "BertPreTokenizer")) {
        int code = tokenizer_add_class(t, PRETOKENIZE_SPACE, SPLIT_REMOVED, err);
        return code ? code : tokenizer_add_class(t, PRETOKENIZE_PUNCTUATION, SPLIT_ISOLATED, err);
    }
    return unsupported(object, err);
}

/* ---- post_processor ---- */

static int add_special_id(const json_t *id, struct ids *to, struct siren_error *err)
{
    json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
    if (value < 0 || value > VOCAB_MAX_ID)
        return siren_fail(err, SIREN_EFORMAT, "a special token without a valid id");
    ids_add(to, (int32_t)value);
    return to->failed ? siren_fail_memory(err, "special tokens", to->n) : 0;
}

/* Of several processors the reference puts the tokens in an order that is not their nesting. */
static int set_ends(struct siren_tokenizer *t, struct ids *before, struct ids *after,
                    struct siren_error *err)
{
    if (!before->n && !after->n) return 0;
    if (t->before.n || t->after.n)
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "a second processor adds tokens, expected one at most");
    t->before = *before;
    t->after = *after;
    *before = *after = (struct ids){0};
    return 0;
}

static int read_template_token(const json_t *object, const char *name, struct ids *to,
                               struct siren_error *err)
{
    const json_t *ids =
        json_object_get(json_object_get(json_object_get(object, "special_tokens"), name), "ids");
    size_t i;
    const json_t *id;
    int code = 0;
    if (!json_is_array(ids))
        return siren_fail(err, SIREN_EFORMAT,
                          "TemplateProcessing: no ids for the special token \"%.100s\"", name);
    json_array_foreach(ids, i, id) if (!code) code = add_special_id(id, to, err);
    return code;
}

static int read_template(struct siren_tokenizer *t, const json_t *object, struct siren_error *err)
{
    const json_t *single = json_object_get(object, "single");
    struct ids before = {0}, after = {0};
    int n_texts = 0, code = 0;
    size_t i;
    const json_t *item;
    json_array_foreach(single, i, item)
    {
        const json_t *special = json_object_get(item, "SpecialToken");
        const char *name = json_string_value(json_object_get(special, "id"));
        if (json_object_get(item, "Sequence"))
            n_texts++;
        else if (!code)
            code = name ? read_template_token(object, name, n_texts ? &after : &before, err)
                        : siren_fail(err, SIREN_EFORMAT, "TemplateProcessing: single[%zu]", i);
    }
    if (!code && n_texts != 1)
        code = siren_fail(err, SIREN_EUNSUPPORTED,
                          "TemplateProcessing: \"single\" has the text %d times, expected once",
                          n_texts);
    if (!code) code = set_ends(t, &before, &after, err);
    free(before.items);
    free(after.items);
    return code;
}

/* BertProcessing and RobertaProcessing: cls text sep. */
static int read_cls_sep(struct siren_tokenizer *t, const json_t *object, struct siren_error *err)
{
    struct ids before = {0}, after = {0};
    int code = add_special_id(json_array_get(json_object_get(object, "cls"), 1), &before, err);
    if (!code)
        code = add_special_id(json_array_get(json_object_get(object, "sep"), 1), &after, err);
    if (!code) code = set_ends(t, &before, &after, err);
    free(before.items);
    free(after.items);
    return code;
}

static int read_postprocessor(struct siren_tokenizer *t, const json_t *object,
                              struct siren_error *err)
{
    if (is(object, "Sequence"))
        return read_sequence(t, object, "processors", read_postprocessor, err);
    if (is(object, "ByteLevel")) return 0; /* it only moves offsets */
    if (is(object, "TemplateProcessing")) return read_template(t, object, err);
    if (is(object, "BertProcessing") || is(object, "RobertaProcessing"))
        return read_cls_sep(t, object, err);
    return unsupported(object, err);
}

/* ---- decoder ---- */

static int read_strip_decoder(struct decoder *d, const json_t *object, struct siren_error *err)
{
    json_int_t start = json_integer_value(json_object_get(object, "start"));
    json_int_t stop = json_integer_value(json_object_get(object, "stop"));
    d->kind = DECODE_STRIP;
    d->start = start > 0 ? (size_t)start : 0;
    d->stop = stop > 0 ? (size_t)stop : 0;
    return copy_text(object, "content", &d->text, &d->n_text, err);
}

static int read_decoder(struct siren_tokenizer *t, const json_t *object, struct siren_error *err)
{
    enum prepend_scheme scheme;
    t->has_decoder = 1;
    if (is(object, "Sequence")) return read_sequence(t, object, "decoders", read_decoder, err);
    struct decoder *d = tokenizer_add_decoder(t);
    if (!d) return siren_fail_memory(err, "a decoder", sizeof *d);
    if (is(object, "WordPiece")) {
        d->kind = DECODE_WORDPIECE;
        d->flag = flag(object, "cleanup", 1);
        return copy_text(object, "prefix", &d->text, &d->n_text, err);
    }
    if (is(object, "Metaspace")) {
        d->kind = DECODE_METASPACE;
        int code = read_prepend(object, &scheme, err);
        d->flag = scheme != PREPEND_NEVER;
        return code ? code : copy_text(object, "replacement", &d->text, &d->n_text, err);
    }
    if (is(object, "BPEDecoder")) {
        d->kind = DECODE_BPE;
        return copy_text(object, "suffix", &d->text, &d->n_text, err);
    }
    if (is(object, "Strip")) return read_strip_decoder(d, object, err);
    if (is(object, "Replace")) {
        d->kind = DECODE_REPLACE;
        return read_replace(&d->replace, object, err);
    }
    if (is(object, "ByteLevel"))
        d->kind = DECODE_BYTES;
    else if (is(object, "ByteFallback"))
        d->kind = DECODE_BYTE_FALLBACK;
    else if (is(object, "Fuse"))
        d->kind = DECODE_FUSE;
    else
        return unsupported(object, err);
    return 0;
}

/* ---- model ---- */

/* Ids may have holes, but a table by id must stay in proportion to the file. */
static json_int_t id_limit(size_t n_tokens)
{
    json_int_t limit = 4 * (json_int_t)n_tokens + 65536;
    return limit < VOCAB_MAX_ID ? limit : VOCAB_MAX_ID;
}

static int read_vocab(struct vocab *v, const json_t *object, struct siren_error *err)
{
    const char *key;
    json_t *value;
    json_int_t most = id_limit(json_object_size(object));
    if (!json_is_object(object))
        return siren_fail(err, SIREN_EFORMAT, "vocab: expected an object of tokens and their ids");
    json_object_foreach((json_t *)object, key, value)
    {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        size_t length = strlen(key);
        int code = id < 0 || id > most ? SIREN_EINVAL : vocab_add(v, key, length, (int32_t)id);
        if (code == SIREN_ENOMEM) return siren_fail_memory(err, "the vocabulary", length);
        if (code)
            return siren_fail(err, SIREN_EFORMAT, "vocab: \"%.100s\": %s, found %lld", key,
                              code == SIREN_EEXISTS ? "its id is another token's, too"
                                                    : "expected an id from 0 to about the size",
                              (long long)id);
    }
    return 0;
}

/* The id of an optional token named by a field; -1 where it is null. */
static int read_unk(const json_t *object, const struct vocab *v, int32_t *id,
                    struct siren_error *err)
{
    const json_t *name = json_object_get(object, "unk_token");
    *id = -1;
    if (!json_is_string(name)) return 0;
    *id = vocab_find(v, json_string_value(name), json_string_length(name));
    if (*id < 0 && json_string_length(name))
        return siren_fail(err, SIREN_EFORMAT, "unk_token \"%.100s\" is not in the vocabulary",
                          json_string_value(name));
    return 0;
}

/* "left right" or ["left", "right"]. */
static int read_merge(struct bpe *m, const json_t *merge, struct siren_error *err)
{
    const char *left = json_string_value(json_array_get(merge, 0));
    const char *right = json_string_value(json_array_get(merge, 1));
    size_t n_left = json_string_length(json_array_get(merge, 0));
    size_t n_right = json_string_length(json_array_get(merge, 1));
    if (json_is_string(merge)) {
        const char *space = memchr(json_string_value(merge), ' ', json_string_length(merge));
        left = json_string_value(merge);
        n_left = space ? (size_t)(space - left) : 0;
        right = space ? space + 1 : NULL;
        n_right = space ? json_string_length(merge) - n_left - 1 : 0;
        if (space && memchr(right, ' ', n_right)) right = NULL;
    }
    if (!left || !right)
        return siren_fail(err, SIREN_EFORMAT, "expected \"left right\" or [\"left\", \"right\"]");
    int code = bpe_add_merge(m, left, n_left, right, n_right);
    if (code == SIREN_ENOTFOUND)
        return siren_fail(err, SIREN_EFORMAT,
                          "\"%.50s\" and \"%.50s\": a part or the whole is not in the vocabulary",
                          left, right);
    return code ? siren_fail_memory(err, "merges", 1) : 0;
}

static int copy_optional(const json_t *object, const char *name, char **out,
                         struct siren_error *err)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_string(value) || !json_string_length(value)) return 0;
    *out = alloc_string(json_string_value(value), json_string_length(value));
    return *out ? 0 : siren_fail_memory(err, name, json_string_length(value));
}

static int read_bpe(struct siren_tokenizer *t, const json_t *object, struct siren_error *err)
{
    struct bpe *m = &t->bpe;
    const json_t *merges = json_object_get(object, "merges"), *merge;
    size_t i;
    if (json_number_value(json_object_get(object, "dropout")) > 0)
        return siren_fail(err, SIREN_EUNSUPPORTED, "BPE: a dropout is not supported");
    m->byte_fallback = flag(object, "byte_fallback", 0);
    m->fuse_unk = flag(object, "fuse_unk", 0);
    m->ignore_merges = flag(object, "ignore_merges", 0);
    int code = read_vocab(&m->vocab, json_object_get(object, "vocab"), err);
    if (!code) code = read_unk(object, &m->vocab, &m->unk, err);
    if (!code) code = copy_optional(object, "continuing_subword_prefix", &m->prefix, err);
    if (!code) code = copy_optional(object, "end_of_word_suffix", &m->suffix, err);
    if (code) return code;
    if (!json_is_array(merges)) return siren_fail(err, SIREN_EFORMAT, "merges: expected a list");
    if (bpe_reserve(m, json_array_size(merges)))
        return siren_fail_memory(err, "merges", json_array_size(merges));
    json_array_foreach(merges, i, merge)
    {
        code = read_merge(m, merge, err);
        if (code) return siren_fail_prefix(err, code, "merges[%zu]", i);
    }
    return 0;
}

static int read_wordpiece(struct siren_tokenizer *t, const json_t *object, struct siren_error *err)
{
    struct wordpiece *m = &t->wordpiece;
    const json_t *most = json_object_get(object, "max_input_chars_per_word");
    size_t length;
    t->model = TOKENIZER_WORDPIECE;
    m->max_characters = 100;
    if (json_is_integer(most) && json_integer_value(most) >= 0)
        m->max_characters = (size_t)json_integer_value(most);
    int code = read_vocab(&m->vocab, json_object_get(object, "vocab"), err);
    if (!code) code = read_unk(object, &m->vocab, &m->unk, err);
    return code ? code : copy_text(object, "continuing_subword_prefix", &m->prefix, &length, err);
}

static int read_scores(struct unigram *m, const json_t *list, struct siren_error *err)
{
    size_t i;
    const json_t *item;
    if (json_array_size(list) > VOCAB_MAX_ID)
        return siren_fail(err, SIREN_EFORMAT, "vocab: too long");
    m->scores = alloc_array(json_array_size(list), sizeof *m->scores);
    if (!m->scores) return siren_fail_memory(err, "scores", json_array_size(list));
    json_array_foreach(list, i, item)
    {
        const json_t *text = json_array_get(item, 0), *score = json_array_get(item, 1);
        if (!json_is_string(text) || !json_is_number(score))
            return siren_fail(err, SIREN_EFORMAT, "vocab[%zu]: expected [text, score]", i);
        m->scores[i] = json_number_value(score);
        if (vocab_add(&m->vocab, json_string_value(text), json_string_length(text), (int32_t)i))
            return siren_fail_memory(err, "the vocabulary", i);
    }
    return 0;
}

static int read_unigram(struct siren_tokenizer *t, const json_t *object, struct siren_error *err)
{
    struct unigram *m = &t->unigram;
    const json_t *vocab = json_object_get(object, "vocab");
    const json_t *unk = json_object_get(object, "unk_id");
    t->model = TOKENIZER_UNIGRAM;
    if (!json_is_array(vocab))
        return siren_fail(err, SIREN_EFORMAT, "vocab: expected a list of [text, score]");
    m->byte_fallback = flag(object, "byte_fallback", 0);
    int code = read_scores(m, vocab, err);
    if (code || !json_is_integer(unk)) return code;
    if (json_integer_value(unk) < 0 || (size_t)json_integer_value(unk) >= json_array_size(vocab))
        return siren_fail(err, SIREN_EFORMAT, "unk_id is not in the vocabulary");
    m->unk = (int32_t)json_integer_value(unk);
    return 0;
}

static int read_model(struct siren_tokenizer *t, const json_t *object, struct siren_error *err)
{
    const json_t *vocab = json_object_get(object, "vocab");
    if (is(object, "BPE")) return read_bpe(t, object, err);
    if (is(object, "WordPiece")) return read_wordpiece(t, object, err);
    if (is(object, "Unigram")) return read_unigram(t, object, err);
    if (*type_of(object)) return unsupported(object, err);
    /* older files do not say */
    if (json_object_get(object, "merges")) return read_bpe(t, object, err);
    if (json_is_array(vocab)) return read_unigram(t, object, err);
    if (json_is_object(vocab) && json_object_get(object, "continuing_subword_prefix"))
        return read_wordpiece(t, object, err);
    return unsupported(object, err);
}

/* ---- added tokens ---- */

struct added_reader {
    const struct vocab *v;
    struct vocab seen;  /* texts of added tokens, by index */
    int32_t size, most; /* of the vocabulary; the highest id of an added token so far, or -1 */
    int32_t next;       /* size, and one more for each added token outside the vocabulary */
};

/* The reference numbers tokens outside the vocabulary anew, in the file's order, and gives a text
 * that stands twice one id: ids that say otherwise would not be its own.  From version 0.23 on it
 * counts such tokens, before it went on from the highest id of an added one, once that was beyond
 * the vocabulary's size: a model's ids are those of the version that it was trained with. */
static int numbered_otherwise(const struct added_reader *r, int32_t id)
{
    return id != r->next && id != (r->most >= r->size ? r->most + 1 : r->size);
}

static int check_added(struct added_reader *r, const struct added_token *token,
                       struct siren_error *err)
{
    int32_t known = vocab_find(r->v, token->text, token->length);
    int32_t twin = vocab_find(&r->seen, token->text, token->length);
    size_t other;
    if (known >= 0 && known != token->id)
        return siren_fail(err, SIREN_EFORMAT, "\"%.100s\" has id %d here and %d in the vocabulary",
                          token->text, (int)token->id, (int)known);
    if (known < 0 && vocab_text(r->v, token->id, &other))
        return siren_fail(err, SIREN_EFORMAT, "\"%.100s\": its id %d is another token's",
                          token->text, (int)token->id);
    if (twin >= 0)
        return siren_fail(err, SIREN_EUNSUPPORTED, "\"%.100s\" is added_tokens[%d], too",
                          token->text, (int)twin);
    if (known < 0 && numbered_otherwise(r, token->id))
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "\"%.100s\" has id %d, expected %d, the next in the file's order",
                          token->text, (int)token->id, (int)r->next);
    r->next += known < 0;
    if (token->id > r->most) r->most = token->id;
    return 0;
}

static int read_added_token(struct siren_tokenizer *t, struct added_reader *r, const json_t *object,
                            size_t i, struct siren_error *err)
{
    const json_t *text = json_object_get(object, "content");
    const json_t *id = json_object_get(object, "id");
    struct added_token token = {
        .text = (char *)json_string_value(text),
        .length = json_string_length(text),
        .special = flag(object, "special", 0),
        .single_word = flag(object, "single_word", 0),
        .lstrip = flag(object, "lstrip", 0),
        .rstrip = flag(object, "rstrip", 0),
    };
    token.normalized = flag(object, "normalized", !token.special);
    if (!token.text || !json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) > id_limit(r->v->n_ids))
        return siren_fail(err, SIREN_EFORMAT, "expected \"content\" and a plausible \"id\"");
    token.id = (int32_t)json_integer_value(id);
    if (!token.length) return 0; /* no token for the reference, either */
    int code = check_added(r, &token, err);
    if (code) return code;
    if (vocab_add(&r->seen, token.text, token.length, (int32_t)i) || added_add(&t->added, &token))
        return siren_fail_memory(err, "added tokens", i);
    return 0;
}

static int read_added(struct siren_tokenizer *t, const json_t *list, struct siren_error *err)
{
    struct added_reader r = {.v = t->model == TOKENIZER_BPE         ? &t->bpe.vocab
                                  : t->model == TOKENIZER_WORDPIECE ? &t->wordpiece.vocab
                                                                    : &t->unigram.vocab};
    size_t i;
    const json_t *item;
    int code = 0;
    if (list && !json_is_array(list))
        return siren_fail(err, SIREN_EFORMAT, "added_tokens: expected a list");
    /* holes do not count; Unigram has none, but may have a text twice */
    r.next = r.size = (int32_t)(t->model == TOKENIZER_UNIGRAM ? r.v->n_ids : r.v->n_texts);
    r.most = -1;
    json_array_foreach(list, i, item)
    {
        code = read_added_token(t, &r, item, i, err);
        if (code) break;
    }
    vocab_free(&r.seen);
    return code ? siren_fail_prefix(err, code, "added_tokens[%zu]", i) : 0;
}

/* ---- the file ---- */

static int read_part(struct siren_tokenizer *t, const json_t *root, const char *name, reader *read,
                     struct siren_error *err)
{
    const json_t *object = json_object_get(root, name);
    if (!object || json_is_null(object)) return 0;
    int code = read(t, object, err);
    return code ? siren_fail_prefix(err, code, "%s", name) : 0;
}

int tokenizer_read_steps(struct siren_tokenizer *t, const json_t *root, struct siren_error *err)
{
    int code = read_part(t, root, "normalizer", read_normalizer, err);
    if (!code) code = read_part(t, root, "pre_tokenizer", read_pretokenizer, err);
    return code ? code : read_part(t, root, "decoder", read_decoder, err);
}

static int check_version(const json_t *root, struct siren_error *err)
{
    const json_t *version = json_object_get(root, "version");
    const char *text = json_string_value(version);
    if (!version || (text && !strcmp(text, "1.0"))) return 0;
    return siren_fail(err, SIREN_EUNSUPPORTED, "version \"%.50s\": expected \"1.0\"",
                      text ? text : "(not a text)");
}

static int read_root(struct siren_tokenizer *t, const json_t *root, struct siren_error *err)
{
    int code = check_version(root, err);
    if (!code)
        code = json_is_object(json_object_get(root, "model"))
                   ? read_part(t, root, "model", read_model, err)
                   : siren_fail(err, SIREN_EFORMAT, "expected an object with a \"model\"");
    if (!code) code = tokenizer_read_steps(t, root, err);
    if (!code) code = read_part(t, root, "post_processor", read_postprocessor, err);
    if (!code) code = read_added(t, json_object_get(root, "added_tokens"), err);
    return code ? code : tokenizer_finish(t, err);
}

int tokenizer_from_json(struct siren_tokenizer **out, const char *json, size_t size,
                        const char *name, struct siren_error *err)
{
    json_error_t where;
    *out = NULL;
    json_t *root = json_loadb(json, size, JSON_ALLOW_NUL, &where);
    if (!root)
        return siren_fail(err, SIREN_EFORMAT, "%s: line %d, column %d: %s", name, where.line,
                          where.column, where.text);
    struct siren_tokenizer *t = tokenizer_new();
    int code = t ? read_root(t, root, err) : siren_fail_memory(err, "a tokenizer", sizeof *t);
    json_decref(root);
    if (code) {
        siren_tokenizer_free(t);
        return siren_fail_prefix(err, code, "%s", name);
    }
    *out = t;
    return 0;
}
