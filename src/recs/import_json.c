/* A scanner for JSON lines that touches only what is asked for: values are passed over, not
 * built; strings are decoded in place (an escape is never shorter than what it stands for). */
#include <string.h>

#include "recs/import.h"

#define MAX_DEPTH 64

static void skip_space(struct json_cursor *c)
{
    while (c->at < c->end && strchr(" \t\r\n", *c->at) && *c->at) c->at++;
}

static int fail(struct json_cursor *c, const char *expected)
{
    c->expected = expected;
    return -1;
}

/* At an opening quote; leaves the cursor behind the closing one. */
static int scan_string(struct json_cursor *c, struct json_span *s)
{
    char *p = ++c->at;
    *s = (struct json_span){.kind = JSON_STRING_, .text = p};
    for (; p < c->end && *p != '"'; p++) {
        if ((unsigned char)*p < 0x20) return fail(c, "no control character in a string");
        if (*p != '\\') continue;
        s->escaped = 1;
        if (++p == c->end) break;
    }
    if (p == c->end) return fail(c, "a closing '\"'");
    s->length = (size_t)(p - s->text);
    c->at = p + 1;
    return 0;
}

/* At an opening bracket: to behind its partner. */
static int scan_nested(struct json_cursor *c, struct json_span *s)
{
    char open[MAX_DEPTH];
    int depth = 0;
    struct json_span ignored;
    s->text = c->at;
    do {
        char ch = *c->at;
        if (ch == '"') {
            if (scan_string(c, &ignored)) return -1;
            continue;
        }
        if (ch == '{' || ch == '[') {
            if (depth == MAX_DEPTH) return fail(c, "less nesting");
            open[depth++] = ch;
        } else if (ch == '}' || ch == ']') {
            if (open[--depth] != (ch == '}' ? '{' : '[')) return fail(c, "the other bracket");
        }
        c->at++;
    } while (depth > 0 && c->at < c->end);
    if (depth > 0) return fail(c, "a closing bracket");
    s->length = (size_t)(c->at - s->text);
    return 0;
}

static int scan_word(struct json_cursor *c, struct json_span *s, const char *letters)
{
    s->text = c->at;
    while (c->at < c->end && *c->at && strchr(letters, *c->at)) c->at++;
    s->length = (size_t)(c->at - s->text);
    return s->length ? 0 : fail(c, "a value");
}

static int scan_literal(struct json_cursor *c, struct json_span *s)
{
    static const char *const words[] = {"true", "false", "null", "NaN", "Infinity"};
    if (scan_word(c, s, "truefalsnNIiy")) return -1;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (json_is(s, words[i])) return 0;
    return fail(c, "true, false or null");
}

static int scan_value(struct json_cursor *c, struct json_span *s)
{
    *s = (struct json_span){0};
    skip_space(c);
    if (c->at == c->end) return fail(c, "a value");
    switch (*c->at) {
    case '"':
        return scan_string(c, s);
    case '{':
        s->kind = JSON_OBJECT_;
        return scan_nested(c, s);
    case '[':
        s->kind = JSON_ARRAY_;
        return scan_nested(c, s);
    case 't':
    case 'f':
    case 'n':
    case 'N': /* NaN and Infinity are no JSON; Python writes them */
    case 'I':
        s->kind = JSON_LITERAL_;
        return scan_literal(c, s);
    default:
        s->kind = JSON_NUMBER_;
        return scan_word(c, s, "+-.0123456789eEInfity");
    }
}

int json_open(struct json_cursor *c, char *text, size_t length, char bracket)
{
    *c = (struct json_cursor){.at = text, .end = text + length, .first = 1};
    skip_space(c);
    while (c->end > c->at && strchr(" \t\r\n", c->end[-1]) && c->end[-1]) c->end--;
    if (c->at == c->end || *c->at != bracket)
        return fail(c, bracket == '{' ? "a JSON object '{…}'" : "a JSON array '[…]'");
    if (c->end - c->at < 2 || c->end[-1] != (bracket == '{' ? '}' : ']'))
        return fail(c, bracket == '{' ? "a closing '}'" : "a closing ']'");
    c->at++;
    c->end--;
    return 0;
}

int json_next(struct json_cursor *c, struct json_span *key, struct json_span *value)
{
    skip_space(c);
    if (c->at == c->end) return 0;
    if (!c->first) {
        if (*c->at != ',') return fail(c, "','");
        c->at++;
        skip_space(c);
    }
    c->first = 0;
    if (key) {
        if (c->at == c->end || *c->at != '"') return fail(c, "a quoted name");
        if (scan_string(c, key)) return -1;
        skip_space(c);
        if (c->at == c->end || *c->at != ':') return fail(c, "':'");
        c->at++;
    }
    return scan_value(c, value) ? -1 : 1;
}

int json_is(const struct json_span *key, const char *name)
{
    return name && strlen(name) == key->length && !memcmp(key->text, name, key->length);
}

/* ---- strings ---- */

static int hex4(const char *p, const char *end, unsigned *value)
{
    *value = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        *value = *value << 4 | (unsigned)digit;
    }
    return 0;
}

static char *put_utf8(char *out, unsigned c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

/* Behind "\u".  A surrogate without its partner becomes U+FFFD. */
static const char *decode_unicode(const char *p, const char *end, char **out)
{
    unsigned c, low;
    if (hex4(p, end, &c) || c == 0) return NULL;
    p += 4;
    if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' &&
        !hex4(p + 2, end, &low) && low >= 0xdc00 && low < 0xe000) {
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        p += 6;
    } else if (c >= 0xd800 && c < 0xe000) {
        c = 0xfffd;
    }
    *out = put_utf8(*out, c);
    return p;
}

int json_decode(struct json_span *s)
{
    const char *p = s->text, *end = s->text + s->length;
    char *out = s->text;
    if (!s->escaped) out = s->text + s->length;
    while (s->escaped && p < end) {
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *found = p[1] ? strchr(from, p[1]) : NULL;
        if (found) {
            *out++ = to[found - from];
            p += 2;
        } else if (p[1] != 'u' || !(p = decode_unicode(p + 2, end, &out))) {
            return -1;
        }
    }
    s->length = (size_t)(out - s->text);
    s->escaped = 0;
    *out = 0;
    return 0;
}
