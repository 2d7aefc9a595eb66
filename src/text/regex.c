#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/unicode.h"

struct regex {
    pcre2_code *code;
};

/* Oniguruma's \w, without joiners: in a class; outside of one it has the superscript digits and
 * fractions of Latin-1 as well. */
#define WORD_SET "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define MORE_WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

struct translation {
    const char *pattern;
    size_t length, at;
    int in_class;
    struct buf out;
};

static int refuse(const struct translation *t, const char *what, struct siren_error *err)
{
    return siren_fail(err, SIREN_EUNSUPPORTED, "regular expression \"%.*s\", byte %zu: %s",
                      (int)(t->length < 300 ? t->length : 300), t->pattern, t->at, what);
}

/* Escapes that have a fixed translation; inside a class some need another one (NULL: none). */
static const struct {
    char letter;
    const char *outside, *inside;
} escapes[] = {
    {'s', "\\p{White_Space}", "\\p{White_Space}"},
    {'S', "\\P{White_Space}", "\\P{White_Space}"},
    {'w', "[" WORD_SET MORE_WORD "]", WORD_SET},
    {'W', "[^" WORD_SET MORE_WORD "]", NULL},
    {'d', "\\p{Nd}", "\\p{Nd}"},
    {'D', "\\P{Nd}", "\\P{Nd}"},
    {'n', "\\n", "\\n"},
    {'r', "\\r", "\\r"},
    {'t', "\\t", "\\t"},
    {'f', "\\f", "\\f"},
    {'v', "\\x0B", "\\x0B"}, /* PCRE2 has a class of that name */
    {'x', "\\x", "\\x"},
};

/* Oniguruma's \p{Han} has the characters of the script Han.  PCRE2's, from version 10.40 on, has
 * all that it is written with, which are more; there the script is \p{sc:Han}.  Returns whether the
 * name is a script's that has to be written so. */
static int is_script(const char *name, size_t length)
{
    char pattern[80];
    int number;
    PCRE2_SIZE where;
    snprintf(pattern, sizeof pattern, "\\p{sc:%.*s}", length < 64 ? (int)length : 64, name);
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &number, &where, NULL);
    pcre2_code_free(code);
    return code != NULL;
}

/* \p{Name}, \P{Name}, \p{^Name}; t->at is behind the letter. */
static int translate_property(struct translation *t, struct siren_error *err)
{
    const char *close = t->at < t->length && t->pattern[t->at] == '{'
                            ? memchr(t->pattern + t->at, '}', t->length - t->at)
                            : NULL;
    if (!close) return refuse(t, "expected {name} after \\p", err);
    size_t end = (size_t)(close - t->pattern) + 1;
    const char *name = t->pattern + t->at + 1;
    int negated = *name == '^';
    name += negated;
    buf_printf(&t->out, "\\%c{%s%s%.*s}", t->pattern[t->at - 1], negated ? "^" : "",
               is_script(name, (size_t)(close - name)) ? "sc:" : "", (int)(close - name), name);
    t->at = end;
    return 0;
}

static int is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* t->at is on the backslash, and behind the escape afterwards. */
static int translate_escape(struct translation *t, struct siren_error *err)
{
    char what[64];
    if (t->at + 1 >= t->length) return refuse(t, "a backslash at the end", err);
    char c = t->pattern[t->at + 1];
    snprintf(what, sizeof what, "the escape \\%c is not supported%s", c,
             t->in_class ? " in a class" : "");
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        const char *text = t->in_class ? escapes[i].inside : escapes[i].outside;
        if (escapes[i].letter != c) continue;
        if (!text) return refuse(t, what, err);
        buf_puts(&t->out, text);
        t->at += 2;
        return 0;
    }
    if (is_alphanumeric(c) && c != 'p' && c != 'P' && c != 'u') return refuse(t, what, err);
    t->at += 2;
    if (c == 'p' || c == 'P') return translate_property(t, err);
    if (c == 'u') {
        if (t->length - t->at < 4) return refuse(t, "expected four digits after \\u", err);
        buf_printf(&t->out, "\\x{%.4s}", t->pattern + t->at);
        t->at += 4;
        return 0;
    }
    buf_putc(&t->out, '\\');
    buf_putc(&t->out, c);
    return 0;
}

static int translate_class(struct translation *t, struct siren_error *err)
{
    size_t first = t->at + 1;
    if (first < t->length && t->pattern[first] == '^') first++;
    buf_append(&t->out, t->pattern + t->at, first - t->at);
    t->at = first;
    t->in_class = 1;
    while (t->at < t->length) {
        char c = t->pattern[t->at];
        if (c == ']' && t->at > first) {
            buf_putc(&t->out, c);
            t->at++;
            t->in_class = 0;
            return 0;
        }
        if (c == '\\') {
            int code = translate_escape(t, err);
            if (code) return code;
            continue;
        }
        if (c == '[') return refuse(t, "classes inside classes are not supported", err);
        if (c == ']') return refuse(t, "an empty class", err);
        if (c == '&' && t->at + 1 < t->length && t->pattern[t->at + 1] == '&')
            return refuse(t, "intersections of classes are not supported", err);
        buf_putc(&t->out, c);
        t->at++;
    }
    return refuse(t, "a class without its end", err);
}

/* Groups that both engines read alike; options only where they mean the same. */
static int check_group(const struct translation *t, struct siren_error *err)
{
    static const char *const known[] = {"(?:", "(?=",  "(?!",  "(?<=", "(?<!",
                                        "(?>", "(?i:", "(?i)", "(?-i:"};
    const char *p = t->pattern + t->at;
    size_t left = t->length - t->at;
    if (left < 2 || p[1] != '?') {
        if (left >= 2 && p[1] == '*') return refuse(t, "(*…) is not supported", err);
        return 0;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (left >= strlen(known[i]) && !memcmp(p, known[i], strlen(known[i]))) return 0;
    return refuse(t, "this kind of group is not supported", err);
}

static int translate(struct translation *t, struct siren_error *err)
{
    int code = 0;
    while (!code && t->at < t->length) {
        char c = t->pattern[t->at];
        if (c == '\\') {
            code = translate_escape(t, err);
        } else if (c == '[') {
            code = translate_class(t, err);
        } else if (c == '}' && t->at + 1 < t->length && t->pattern[t->at + 1] == '+') {
            code = refuse(t, "a possessive {n,m}+ is read differently by Oniguruma", err);
        } else {
            if (c == '(') code = check_group(t, err);
            buf_putc(&t->out, c);
            t->at++;
        }
    }
    if (!code && buf_failed(&t->out))
        code = siren_fail_memory(err, "a regular expression", t->length);
    return code;
}

int regex_compile(struct regex **out, const char *pattern, size_t length, struct siren_error *err)
{
    struct translation t = {.pattern = pattern, .length = length};
    *out = NULL;
    int code = translate(&t, err);
    struct regex *re = code ? NULL : calloc(1, sizeof *re);
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!code && (!re || !context)) code = siren_fail_memory(err, "a regular expression", length);
    if (!code) {
        int number;
        PCRE2_SIZE where;
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        re->code = pcre2_compile((PCRE2_SPTR)buf_text(&t.out), t.out.size,
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &number, &where, context);
        if (!re->code) {
            char why[200] = "";
            pcre2_get_error_message(number, (PCRE2_UCHAR *)why, sizeof why);
            code = siren_fail(err, SIREN_EFORMAT, "regular expression \"%.*s\": %s",
                              (int)(length < 300 ? length : 300), pattern, why);
        }
    }
    pcre2_compile_context_free(context);
    buf_free(&t.out);
    if (code) {
        regex_free(re);
        return code;
    }
    pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE); /* where it cannot, the interpreter runs */
    *out = re;
    return 0;
}

void regex_free(struct regex *re)
{
    if (!re) return;
    pcre2_code_free(re->code);
    free(re);
}

void regex_scratch_free(struct regex_scratch *s)
{
    pcre2_match_data_free(s->match);
    buf_free(&s->subject);
    s->match = NULL;
}

int regex_subject(struct regex_scratch *s, const char *text, size_t length, struct siren_error *err)
{
    if (!s->match) s->match = pcre2_match_data_create(1, NULL);
    const char *shown = unicode_for_regex(&s->subject, text, length);
    if (!s->match || buf_failed(&s->subject))
        return siren_fail_memory(err, "matching a regular expression", length);
    s->text = shown ? shown : text;
    s->length = length;
    return 0;
}

int regex_next(const struct regex *re, struct regex_scratch *s, size_t from, size_t *start,
               size_t *end, struct siren_error *err)
{
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int n = pcre2_match(re->code, (PCRE2_SPTR)s->text, s->length, from, options, s->match, NULL);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT)
        n = pcre2_match(re->code, (PCRE2_SPTR)s->text, s->length, from, options | PCRE2_NO_JIT,
                        s->match, NULL);
    if (n == PCRE2_ERROR_NOMATCH) return 0;
    if (n < 0) {
        char why[200] = "";
        pcre2_get_error_message(n, (PCRE2_UCHAR *)why, sizeof why);
        return siren_fail(err, SIREN_EUNSUPPORTED, "splitting text at byte %zu: %s", from, why);
    }
    const PCRE2_SIZE *where = pcre2_get_ovector_pointer(s->match);
    *start = where[0];
    *end = where[1];
    return 1;
}
