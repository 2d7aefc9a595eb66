/* The tokenizer in a GGUF file's metadata.
 *
 * GGUF names the model ("gpt2": byte-level BPE, "bert": WordPiece, "t5": Unigram,
 * "llama": SentencePiece's BPE) and for byte-level BPE the pre-tokenizer ("tokenizer.ggml.pre"),
 * and leaves out the rest; what the families' own tokenizer.json files say is written down here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/bpe_scores.h"
#include "text/gguf_family.h"
#include "text/tokenizer_private.h"
#include "weights/tensors.h"

/* What stands for a space in SentencePiece's tokens, and begins a word in a converted BERT's. */
#define WORD_MARK "\xE2\x96\x81"
enum { WORD_MARK_LENGTH = 3 };

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

static const struct gguf_value *find_array(const struct tensors *ts, const char *key,
                                           enum gguf_kind kind)
{
    const struct gguf_value *v = gguf_find(ts, key);
    if (!v || v->kind != GGUF_ARRAY || v->n_items > VOCAB_MAX_ID) return NULL;
    int numbers = kind != GGUF_STRING && (v->item_kind == GGUF_INT || v->item_kind == GGUF_UINT);
    return v->item_kind == kind || numbers ? v : NULL;
}

static int64_t integer(const struct gguf_value *v, int64_t otherwise)
{
    if (!v) return otherwise;
    if (v->kind == GGUF_INT) return v->i;
    if (v->kind == GGUF_UINT) return v->u > INT64_MAX ? INT64_MAX : (int64_t)v->u;
    return otherwise;
}

static int boolean(const struct tensors *ts, const char *key, int otherwise)
{
    const struct gguf_value *v = gguf_find(ts, key);
    return v && v->kind == GGUF_BOOL ? v->u != 0 : otherwise;
}

static struct vocab *vocab_of(struct siren_tokenizer *t)
{
    return t->model == TOKENIZER_BPE         ? &t->bpe.vocab
           : t->model == TOKENIZER_WORDPIECE ? &t->wordpiece.vocab
                                             : &t->unigram.vocab;
}

static int64_t type_of(const struct gguf_value *types, uint64_t id)
{
    struct gguf_value item;
    return !types || gguf_item(types, id, &item) ? TYPE_NORMAL : integer(&item, TYPE_NORMAL);
}

/* The converter writes WordPiece's "##ing" as "ing" and "in" as "▁in"; control tokens ("[CLS]")
 * stay, and from older converters all tokens in brackets.  text has room for two more bytes. */
static size_t wordpiece_text(const struct gguf_value *item, int64_t type, char *text)
{
    int control = type == TYPE_CONTROL || type == TYPE_UNKNOWN;
    int marked = !control && item->length >= WORD_MARK_LENGTH && !memcmp(item->text, WORD_MARK, 3);
    int bracketed = item->length > 2 && item->text[0] == '[' && item->text[item->length - 1] == ']';
    size_t skip = marked ? WORD_MARK_LENGTH : 0, prefix = control || marked || bracketed ? 0 : 2;
    memcpy(text, "##", prefix);
    memcpy(text + prefix, item->text + skip, item->length - skip);
    return prefix + item->length - skip;
}

static int add_token(struct siren_tokenizer *t, const struct gguf_value *item, int64_t type,
                     int32_t id)
{
    if (t->model != TOKENIZER_WORDPIECE)
        return vocab_add(vocab_of(t), item->text, item->length, id);
    char *text = malloc(item->length + 2);
    if (!text) return SIREN_ENOMEM;
    int code = vocab_add(vocab_of(t), text, wordpiece_text(item, type, text), id);
    free(text);
    return code;
}

/* Types may be left out; wrong ones would make control tokens plain text. */
static int check_types(const struct tensors *ts, uint64_t n_tokens, struct siren_error *err)
{
    static const char key[] = "tokenizer.ggml.token_type";
    const struct gguf_value *types = find_array(ts, key, GGUF_INT);
    if (types ? types->n_items == n_tokens : !gguf_find(ts, key)) return 0;
    if (!types) return siren_fail(err, SIREN_EFORMAT, "%s: expected a list of integers", key);
    return siren_fail(err, SIREN_EFORMAT, "%s: found %llu, expected one for each of %llu tokens",
                      key, (unsigned long long)types->n_items, (unsigned long long)n_tokens);
}

static int read_tokens(struct siren_tokenizer *t, const struct tensors *ts, struct siren_error *err)
{
    const struct gguf_value *tokens = find_array(ts, "tokenizer.ggml.tokens", GGUF_STRING);
    const struct gguf_value *types = find_array(ts, "tokenizer.ggml.token_type", GGUF_INT);
    if (!tokens || !tokens->n_items)
        return siren_fail(err, SIREN_EFORMAT, "tokenizer.ggml.tokens: expected a list of strings");
    int code = check_types(ts, tokens->n_items, err);
    if (code) return code;
    for (uint64_t i = 0; i < tokens->n_items; i++) {
        struct gguf_value item;
        if (gguf_item(tokens, i, &item) || utf8_valid_prefix(item.text, item.length) < item.length)
            return siren_fail(err, SIREN_EFORMAT, "tokenizer.ggml.tokens[%llu]: expected UTF-8",
                              (unsigned long long)i);
        if (add_token(t, &item, type_of(types, i), (int32_t)i))
            return siren_fail_memory(err, "the vocabulary", tokens->n_items);
    }
    return 0;
}

static int read_merges(struct siren_tokenizer *t, const struct tensors *ts, struct siren_error *err)
{
    const struct gguf_value *merges = find_array(ts, "tokenizer.ggml.merges", GGUF_STRING);
    if (!merges)
        return siren_fail(err, SIREN_EFORMAT, "tokenizer.ggml.merges: expected a list of strings");
    if (bpe_reserve(&t->bpe, merges->n_items))
        return siren_fail_memory(err, "merges", merges->n_items);
    for (uint64_t i = 0; i < merges->n_items; i++) {
        struct gguf_value item;
        const char *space = NULL;
        /* the first character may itself be a space's stand-in, never a space */
        if (!gguf_item(merges, i, &item) && item.length > 1)
            space = memchr(item.text + 1, ' ', item.length - 1);
        size_t left = space ? (size_t)(space - item.text) : 0;
        int code = space
                       ? bpe_add_merge(&t->bpe, item.text, left, space + 1, item.length - left - 1)
                       : SIREN_ENOTFOUND;
        if (code == SIREN_ENOMEM) return siren_fail_memory(err, "merges", merges->n_items);
        if (code)
            return siren_fail(err, SIREN_EFORMAT,
                              "tokenizer.ggml.merges[%llu]: expected two tokens of the vocabulary "
                              "whose whole is one, too",
                              (unsigned long long)i);
    }
    return 0;
}

static int32_t token_of(struct siren_tokenizer *t, const struct tensors *ts, const char *key)
{
    int64_t id = integer(gguf_find(ts, key), -1);
    return id >= 0 && id < (int64_t)vocab_of(t)->n_ids ? (int32_t)id : -1;
}

/* Control tokens are special; user-defined ones are added without being special.  The unknown token
 * has a type of its own, and is special, too (byte-level BPE has none). */
static int read_types(struct siren_tokenizer *t, const struct tensors *ts, struct siren_error *err)
{
    const struct gguf_value *types = find_array(ts, "tokenizer.ggml.token_type", GGUF_INT);
    int32_t mask = token_of(t, ts, "tokenizer.ggml.mask_token_id");
    int has_unknown = !gguf_is_text(gguf_find(ts, "tokenizer.ggml.model"), "gpt2");
    for (uint64_t i = 0; types && i < types->n_items; i++) {
        struct added_token token = {.id = (int32_t)i};
        int64_t type = type_of(types, i);
        if (type == TYPE_UNKNOWN && has_unknown) type = TYPE_CONTROL;
        if (type != TYPE_CONTROL && type != TYPE_USER) continue;
        token.text = (char *)vocab_text(vocab_of(t), token.id, &token.length);
        token.special = type == TYPE_CONTROL;
        /* XLM-RoBERTa's mask takes the space before it. */
        token.lstrip = t->model == TOKENIZER_UNIGRAM && token.id == mask;
        if (token.text && token.length && added_add(&t->added, &token))
            return siren_fail_memory(err, "added tokens", types->n_items);
    }
    return 0;
}

/* ---- byte-level BPE ---- */

/* The normalizer, pre-tokenizer and decoder of the file, as tokenizer.json would have them. */
static int read_steps(struct siren_tokenizer *t, const struct tensors *ts,
                      struct gguf_family *family, struct siren_error *err)
{
    int code = gguf_family(family, ts, err);
    if (!code) code = tokenizer_read_steps(t, family->steps, err);
    json_decref(family->steps);
    family->steps = NULL;
    return code;
}

/* What stands before and behind a text. */
static void read_ends(struct siren_tokenizer *t, const struct tensors *ts,
                      const struct gguf_family *family)
{
    t->bos = token_of(t, ts, "tokenizer.ggml.bos_token_id");
    t->eos = token_of(t, ts, "tokenizer.ggml.eos_token_id");
    if (boolean(ts, "tokenizer.ggml.add_bos_token", family->add_bos) && t->bos >= 0)
        ids_add(&t->before, t->bos);
    if (boolean(ts, "tokenizer.ggml.add_eos_token", 0) && t->eos >= 0) ids_add(&t->after, t->eos);
}

static int read_bpe(struct siren_tokenizer *t, const struct tensors *ts, struct siren_error *err)
{
    struct gguf_family family = {0};
    t->model = TOKENIZER_BPE;
    int code = read_tokens(t, ts, err);
    if (!code) code = read_merges(t, ts, err);
    if (!code) code = read_types(t, ts, err);
    if (!code) code = read_steps(t, ts, &family, err);
    if (code) return code;
    t->bpe.ignore_merges = family.ignore_merges;
    read_ends(t, ts, &family);
    return 0;
}

/* ---- WordPiece ---- */

/* A cased vocabulary has tokens with capitals; GGUF does not say it otherwise. */
static int has_capitals(const struct vocab *v)
{
    for (size_t id = 0; id < v->n_ids; id++) {
        size_t length;
        const char *text = vocab_text(v, (int32_t)id, &length);
        if (text && length && *text >= 'A' && *text <= 'Z') return 1;
    }
    return 0;
}

static int read_wordpiece(struct siren_tokenizer *t, const struct tensors *ts,
                          struct siren_error *err)
{
    t->model = TOKENIZER_WORDPIECE;
    t->wordpiece.max_characters = 100;
    t->wordpiece.prefix = strdup("##");
    struct normalizer *n = tokenizer_add_normalizer(t);
    struct decoder *d = tokenizer_add_decoder(t);
    if (!t->wordpiece.prefix || !n || !d) return siren_fail_memory(err, "a tokenizer", 64);
    int code = read_tokens(t, ts, err);
    if (!code) code = read_types(t, ts, err);
    if (!code) code = tokenizer_add_class(t, PRETOKENIZE_SPACE, SPLIT_REMOVED, err);
    if (!code) code = tokenizer_add_class(t, PRETOKENIZE_PUNCTUATION, SPLIT_ISOLATED, err);
    if (code) return code;
    n->kind = NORMALIZE_BERT;
    n->clean = n->cjk = 1;
    n->lower = n->strip_accents = !has_capitals(&t->wordpiece.vocab);
    d->kind = DECODE_WORDPIECE;
    d->flag = 1;
    d->text = strdup("##");
    d->n_text = 2;
    if (!d->text) return siren_fail_memory(err, "a decoder", 3);
    const struct vocab *v = &t->wordpiece.vocab; /* BERT's own names where there are no ids */
    t->wordpiece.unk = token_of(t, ts, "tokenizer.ggml.unknown_token_id");
    if (t->wordpiece.unk < 0) t->wordpiece.unk = vocab_find(v, "[UNK]", 5);
    t->bos = token_of(t, ts, "tokenizer.ggml.cls_token_id");
    if (t->bos < 0) t->bos = token_of(t, ts, "tokenizer.ggml.bos_token_id");
    if (t->bos < 0) t->bos = vocab_find(v, "[CLS]", 5);
    t->eos = token_of(t, ts, "tokenizer.ggml.seperator_token_id"); /* spelt so by the format */
    if (t->eos < 0) t->eos = token_of(t, ts, "tokenizer.ggml.eos_token_id");
    if (t->eos < 0) t->eos = vocab_find(v, "[SEP]", 5);
    if (t->wordpiece.unk < 0 || t->bos < 0 || t->eos < 0)
        return siren_fail(err, SIREN_EFORMAT,
                          "tokenizer.ggml: the ids of the unknown, cls and separator tokens are "
                          "not all there");
    ids_add(&t->before, t->bos);
    ids_add(&t->after, t->eos);
    return 0;
}

/* ---- SentencePiece: Unigram, and BPE by scores ---- */

/* The scores of all tokens, malloc'ed; -INFINITY for types that take no part in segmentation: a
 * set of 1 << type. */
static int read_scores(struct siren_tokenizer *t, const struct tensors *ts, unsigned without,
                       double **out, struct siren_error *err)
{
    const struct gguf_value *scores = find_array(ts, "tokenizer.ggml.scores", GGUF_FLOAT);
    const struct gguf_value *types = find_array(ts, "tokenizer.ggml.token_type", GGUF_INT);
    size_t n = vocab_of(t)->n_ids;
    if (!scores || scores->n_items != n)
        return siren_fail(err, SIREN_EFORMAT,
                          "tokenizer.ggml.scores: expected one number for each of %zu tokens", n);
    *out = alloc_array(n, sizeof **out);
    if (!*out) return siren_fail_memory(err, "scores", n);
    for (uint64_t i = 0; i < scores->n_items; i++) {
        struct gguf_value item;
        if (gguf_item(scores, i, &item) || !(item.f > -1e30 && item.f < 1e30))
            return siren_fail(err, SIREN_EFORMAT,
                              "tokenizer.ggml.scores[%llu]: expected a finite number",
                              (unsigned long long)i);
        int64_t type = type_of(types, i);
        int takes_part = type < 0 || type > TYPE_BYTE || !(without >> type & 1);
        (*out)[i] = takes_part ? item.f : -INFINITY;
    }
    return 0;
}

/* The bytes of SentencePiece's normalisation, where the file has it. */
static int read_charsmap(struct siren_tokenizer *t, const struct tensors *ts,
                         struct siren_error *err)
{
    static const char key[] = "tokenizer.ggml.precompiled_charsmap";
    const struct gguf_value *map = find_array(ts, key, GGUF_INT);
    if (!map && gguf_find(ts, key))
        return siren_fail(err, SIREN_EFORMAT, "%s: expected a list of bytes", key);
    if (!map || !map->n_items) return 0;
    struct normalizer *n = tokenizer_add_normalizer(t);
    unsigned char *bytes = alloc_array(map->n_items, 1);
    int code = n && bytes ? 0 : siren_fail_memory(err, "precompiled_charsmap", map->n_items);
    for (uint64_t i = 0; i < map->n_items && !code; i++) {
        struct gguf_value item;
        gguf_item(map, i, &item);
        bytes[i] = (unsigned char)integer(&item, 0);
    }
    if (!code) n->kind = NORMALIZE_CHARSMAP;
    if (!code) code = charsmap_read(&n->charsmap, bytes, map->n_items, err);
    free(bytes);
    return code;
}

static int add_metaspace(struct siren_tokenizer *t, int prepend, struct siren_error *err)
{
    struct pretokenizer *p = tokenizer_add_pretokenizer(t);
    struct decoder *d = p ? tokenizer_add_decoder(t) : NULL;
    if (!d) return siren_fail_memory(err, "a pre-tokenizer", sizeof *p);
    p->kind = PRETOKENIZE_METASPACE;
    p->behavior = SPLIT_MERGED_WITH_NEXT;
    p->split = 1;
    p->prepend = prepend ? PREPEND_ALWAYS : PREPEND_NEVER;
    d->kind = DECODE_METASPACE;
    d->flag = prepend;
    p->text = strdup(WORD_MARK);
    d->text = strdup(WORD_MARK);
    p->n_text = d->n_text = WORD_MARK_LENGTH;
    return p->text && d->text ? 0 : siren_fail_memory(err, "a pre-tokenizer", WORD_MARK_LENGTH);
}

static int read_unigram(struct siren_tokenizer *t, const struct tensors *ts,
                        struct siren_error *err)
{
    /* XLM-RoBERTa: <s> text </s>, extra white space never counts, whatever the converter found
     * (its "remove_extra_whitespaces" is another setting where it reads tokenizer.json). */
    int is_encoder = gguf_is_text(gguf_find(ts, "general.architecture"), "bert");
    t->model = TOKENIZER_UNIGRAM;
    int code = read_tokens(t, ts, err);
    if (!code) code = read_scores(t, ts, 1u << TYPE_UNUSED, &t->unigram.scores, err);
    if (!code) code = read_types(t, ts, err);
    if (!code) code = read_charsmap(t, ts, err);
    if (!code && (is_encoder || boolean(ts, "tokenizer.ggml.remove_extra_whitespaces", 1)))
        code = tokenizer_add_class(t, PRETOKENIZE_SPACE, SPLIT_REMOVED, err);
    if (!code) code = add_metaspace(t, boolean(ts, "tokenizer.ggml.add_space_prefix", 1), err);
    if (code) return code;
    t->unigram.unk = token_of(t, ts, "tokenizer.ggml.unknown_token_id");
    t->bos = token_of(t, ts, "tokenizer.ggml.bos_token_id");
    t->eos = token_of(t, ts, "tokenizer.ggml.eos_token_id");
    if (boolean(ts, "tokenizer.ggml.add_bos_token", is_encoder) && t->bos >= 0)
        ids_add(&t->before, t->bos); /* T5 closes a text only */
    if (boolean(ts, "tokenizer.ggml.add_eos_token", 1) && t->eos >= 0) ids_add(&t->after, t->eos);
    return 0;
}

/* Llama's SentencePiece normalises nothing; what does would need more than this. */
static int check_plain(const struct tensors *ts, struct siren_error *err)
{
    const struct gguf_value *map = gguf_find(ts, "tokenizer.ggml.precompiled_charsmap");
    if (map && (map->kind != GGUF_ARRAY || map->n_items))
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "tokenizer.ggml.precompiled_charsmap is not supported in the model "
                          "llama");
    if (boolean(ts, "tokenizer.ggml.remove_extra_whitespaces", 0))
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "tokenizer.ggml.remove_extra_whitespaces is not supported in the model "
                          "llama");
    return 0;
}

static int read_sentencepiece_bpe(struct siren_tokenizer *t, const struct tensors *ts,
                                  struct siren_error *err)
{
    enum { WITHOUT = 1u << TYPE_UNKNOWN | 1u << TYPE_CONTROL | 1u << TYPE_BYTE };
    struct gguf_family family = {0};
    double *scores = NULL;
    t->model = TOKENIZER_BPE;
    t->bpe.byte_fallback = t->bpe.fuse_unk = 1;
    int code = check_plain(ts, err);
    if (!code) code = read_tokens(t, ts, err);
    if (!code) code = read_scores(t, ts, WITHOUT, &scores, err);
    if (!code) code = bpe_merges_from_scores(&t->bpe, scores, err);
    free(scores);
    if (!code) code = read_types(t, ts, err);
    if (!code) code = read_steps(t, ts, &family, err);
    if (code) return code;
    t->bpe.unk = token_of(t, ts, "tokenizer.ggml.unknown_token_id");
    if (t->bpe.unk < 0) t->bpe.unk = vocab_find(&t->bpe.vocab, "<unk>", 5);
    read_ends(t, ts, &family);
    return 0;
}

static int read_all(struct siren_tokenizer *t, const struct tensors *ts, struct siren_error *err)
{
    const struct gguf_value *model = gguf_find(ts, "tokenizer.ggml.model");
    int code;
    if (!model || model->kind != GGUF_STRING)
        return siren_fail(err, SIREN_EFORMAT, "no tokenizer.ggml.model: the file has no tokenizer");
    if (gguf_is_text(model, "gpt2"))
        code = read_bpe(t, ts, err);
    else if (gguf_is_text(model, "bert"))
        code = read_wordpiece(t, ts, err);
    else if (gguf_is_text(model, "t5"))
        code = read_unigram(t, ts, err);
    else if (gguf_is_text(model, "llama"))
        code = read_sentencepiece_bpe(t, ts, err);
    else
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "tokenizer.ggml.model \"%.*s\" is not supported (gpt2, byte-level BPE; "
                          "bert, WordPiece; t5, Unigram; and llama, SentencePiece's BPE, are); use "
                          "the model's folder with tokenizer.json",
                          (int)(model->length < 100 ? model->length : 100), model->text);
    if (code) return code;
    if (t->before.failed || t->after.failed) return siren_fail_memory(err, "special tokens", 8);
    return tokenizer_finish(t, err);
}

int tokenizer_from_tensors(struct siren_tokenizer **out, const struct tensors *ts,
                           struct siren_error *err)
{
    struct siren_tokenizer *t = tokenizer_new();
    int code = t ? read_all(t, ts, err) : siren_fail_memory(err, "a tokenizer", sizeof *t);
    if (code) siren_tokenizer_free(t);
    *out = code ? NULL : t;
    return code;
}

int tokenizer_from_gguf(struct siren_tokenizer **out, const char *path, struct siren_error *err)
{
    struct tensors *ts;
    *out = NULL;
    int code = tensors_open(&ts, path, err);
    if (code) return code;
    code = tokenizer_from_tensors(out, ts, err);
    tensors_close(ts);
    return code ? siren_fail_prefix(err, code, "%s", path) : 0;
}
