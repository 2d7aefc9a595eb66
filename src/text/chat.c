#include "text/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "text/unicode.h"

struct siren_chat {
    struct chat_template t;
    char *owned;   /* the texts of a template file; NULL: a family's, static */
    char name[96]; /* of a template file, with its text's hash: settings tell two apart */
};

struct siren_chat *chat_of(const struct chat_template *t)
{
    struct siren_chat *chat = calloc(1, sizeof *chat);
    if (chat) chat->t = *t;
    return chat;
}

void siren_chat_free(struct siren_chat *chat)
{
    if (!chat) return;
    free(chat->owned);
    free(chat);
}

const char *siren_chat_name(const struct siren_chat *chat)
{
    return chat->t.name;
}

const char *const *siren_chat_stops(const struct siren_chat *chat)
{
    return chat->t.stops;
}

int chat_from_jinja(struct siren_chat **out, const char *jinja, size_t length, const char *name,
                    struct siren_error *err)
{
    char hex[33];
    chat_hash(hex, jinja, length);
    const struct chat_template *family = chat_by_hash(hex);
    *out = NULL;
    if (!family)
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "%s: its chat template (hash %s) is not one that we know; write it as a "
                          "template file (docs/chat-templates.md)",
                          name, hex);
    *out = chat_of(family);
    return *out ? 0 : siren_fail_memory(err, "a chat template", sizeof **out);
}

/* ---- rendering ---- */

static void put(struct buf *out, const char *text)
{
    if (text) buf_puts(out, text);
}

static int is_python_space(uint32_t c)
{
    return unicode_is_space(c) || (c >= 0x1C && c <= 0x1F);
}

/* What Jinja's trim leaves of a valid text. */
static void trim(const char **text, size_t *length)
{
    size_t start = 0, end = *length;
    while (start < end) {
        size_t at = start;
        if (!is_python_space(utf8_next(*text, &at))) break;
        start = at;
    }
    while (end > start) {
        size_t last = utf8_previous(*text, end), at = last;
        if (!is_python_space(utf8_next(*text, &at))) break;
        end = last;
    }
    *text += start;
    *length = end - start;
}

static void strip_newlines(const char **text, size_t *length, int left, int right)
{
    while (left && *length && **text == '\n') (*text)++, (*length)--;
    while (right && *length && (*text)[*length - 1] == '\n') (*length)--;
}

static void put_turn(const struct chat_template *t, struct buf *out, enum chat_role role,
                     const char *before, const char *content)
{
    size_t length = strlen(content);
    if (t->trim) trim(&content, &length);
    put(out, before);
    buf_append(out, content, length);
    put(out, t->after[role]);
}

/* The last of the texts between `what` (to the end, if there is none). */
static const char *after_last(const char *text, const char *what)
{
    const char *found;
    while ((found = strstr(text, what))) text = found + strlen(what);
    return text;
}

/* Qwen3: the thoughts of an answer after the last question stay (an empty block is added to an
 * answer that ends the dialogue); earlier ones vanish. */
static void put_thinking_turn(const struct chat_template *t, struct buf *out, const char *content,
                              int after_question, int last)
{
    const char *close = strstr(content, "</think>"), *thoughts = "";
    const char *answer = content;
    size_t n_thoughts = 0;
    if (close) {
        answer = after_last(content, "</think>");
        while (*answer == '\n') answer++;
        thoughts = content;
        n_thoughts = (size_t)(close - content);
        strip_newlines(&thoughts, &n_thoughts, 0, 1);
        const char *open;
        while ((open = memmem(thoughts, n_thoughts, "<think>", 7))) {
            n_thoughts -= (size_t)(open + 7 - thoughts);
            thoughts = open + 7;
        }
        strip_newlines(&thoughts, &n_thoughts, 1, 0);
    }
    put(out, t->before[CHAT_ASSISTANT]);
    if (after_question && (last || n_thoughts)) {
        strip_newlines(&thoughts, &n_thoughts, 1, 1);
        while (*answer == '\n') answer++;
        put(out, "<think>\n");
        buf_append(out, thoughts, n_thoughts);
        put(out, "\n</think>\n\n");
    }
    put(out, answer);
    put(out, t->after[CHAT_ASSISTANT]);
}

static int role_of(const char *name)
{
    static const char *const names[CHAT_ROLES] = {"system", "user", "assistant"};
    for (int role = 0; role < CHAT_ROLES; role++)
        if (name && !strcmp(name, names[role])) return role;
    return -1;
}

static int check_messages(const struct chat_template *t, const struct siren_message *messages,
                          size_t n, struct siren_error *err)
{
    if (!n) return siren_fail(err, SIREN_EINVAL, "a chat prompt needs at least one message");
    for (size_t i = 0; i < n; i++) {
        int role = role_of(messages[i].role);
        const char *content = messages[i].content;
        if (role < 0 || !content)
            return siren_fail(err, SIREN_EINVAL,
                              "message %zu: expected a content and the role system, user or "
                              "assistant, found \"%.50s\"",
                              i, messages[i].role ? messages[i].role : "");
        if (!t->before[role] && !t->after[role])
            return siren_fail(err, SIREN_EINVAL, "message %zu: the template %s has no %s turn", i,
                              t->name, messages[i].role);
        if (utf8_valid_prefix(content, strlen(content)) < strlen(content))
            return siren_fail(err, SIREN_EINVAL, "message %zu: not UTF-8", i);
    }
    return 0;
}

static int is_tool_response(const char *content)
{
    static const char open[] = "<tool_response>", close[] = "</tool_response>";
    size_t n = strlen(content), m = strlen(close);
    return !strncmp(content, open, strlen(open)) && n >= m && !strcmp(content + n - m, close);
}

/* The index of the last question; if there is none, of the last message. */
static size_t last_question(const struct siren_message *messages, size_t n)
{
    for (size_t i = n; i > 0; i--)
        if (role_of(messages[i - 1].role) == CHAT_USER &&
            !is_tool_response(messages[i - 1].content))
            return i - 1;
    return n - 1;
}

int siren_chat_render(const struct siren_chat *chat, const struct siren_message *messages,
                      size_t n_messages, char **text, struct siren_error *err)
{
    struct buf out = {0};
    *text = NULL;
    if (!chat) return siren_fail(err, SIREN_EINVAL, "a dialogue needs a chat template");
    const struct chat_template *t = &chat->t;
    int code = check_messages(t, messages, n_messages, err);
    if (code) return code;
    const char *first = t->first_system ? t->first_system : t->before[CHAT_SYSTEM];
    size_t question = last_question(messages, n_messages), i = 0;
    put(&out, t->begin);
    if (role_of(messages[0].role) == CHAT_SYSTEM)
        put_turn(t, &out, CHAT_SYSTEM, first, messages[i++].content);
    else if (t->default_system)
        put_turn(t, &out, CHAT_SYSTEM, first, t->default_system);
    for (; i < n_messages; i++) {
        enum chat_role role = (enum chat_role)role_of(messages[i].role);
        if (t->thinking && role == CHAT_ASSISTANT)
            put_thinking_turn(t, &out, messages[i].content, i > question, i + 1 == n_messages);
        else
            put_turn(t, &out, role, t->before[role], messages[i].content);
    }
    put(&out, t->prompt);
    buf_append(&out, "", 0); /* never NULL */
    size_t size = out.size;
    *text = buf_take(&out);
    buf_free(&out);
    return *text ? 0 : siren_fail_memory(err, "a chat prompt", size);
}

/* ---- a template file of the user's own ---- */

struct file_reader {
    struct chat_template *t;
    const char *name;
    int line;
    size_t n_stops;
    struct siren_error *err;
};

static int refuse(const struct file_reader *r, const char *format, const char *what)
{
    char message[300];
    snprintf(message, sizeof message, format, what);
    return siren_fail(r->err, SIREN_EFORMAT, "%s:%d: %s", r->name, r->line, message);
}

/* \n \r \t \\ in place. */
static int unescape(const struct file_reader *r, char *value)
{
    char *to = value;
    for (char *from = value; *from; from++) {
        if (*from != '\\') {
            *to++ = *from;
            continue;
        }
        const char *known = "nrt\\", *found = from[1] ? strchr(known, from[1]) : NULL;
        if (!found)
            return refuse(r, "after a backslash expected n, r, t or another one, found \"%.1s\"",
                          from + 1);
        *to++ = "\n\r\t\\"[found - known];
        from++;
    }
    *to = 0;
    return 0;
}

/* A turn: what is before and behind its placeholder. */
static int read_turn(const struct file_reader *r, enum chat_role role, char *value)
{
    static const char *const placeholders[CHAT_ROLES] = {"{system}", "{user}", "{assistant}"};
    const char *placeholder = placeholders[role];
    char *found = strstr(value, placeholder);
    if (!found || strstr(found + 1, placeholder))
        return refuse(r, "expected the placeholder %s once", placeholder);
    *found = 0;
    r->t->before[role] = value;
    r->t->after[role] = found + strlen(placeholder);
    return 0;
}

static int read_value(struct file_reader *r, const char *key, char *value)
{
    static const char *const roles[CHAT_ROLES] = {"system", "user", "assistant"};
    struct chat_template *t = r->t;
    const struct {
        const char *key;
        const char **to;
    } texts[] = {{"name", &t->name},
                 {"begin", &t->begin},
                 {"default-system", &t->default_system},
                 {"prompt", &t->prompt}};
    int code = unescape(r, value);
    if (code) return code;
    for (int role = 0; role < CHAT_ROLES; role++)
        if (!strcmp(key, roles[role])) return read_turn(r, (enum chat_role)role, value);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!strcmp(key, texts[i].key)) {
            *texts[i].to = value;
            return 0;
        }
    if (!strcmp(key, "stop")) {
        if (r->n_stops == CHAT_MAX_STOPS) return refuse(r, "more than eight stops%s", "");
        if (!*value) return refuse(r, "an empty stop%s", "");
        t->stops[r->n_stops++] = value;
        return 0;
    }
    if (!strcmp(key, "trim")) {
        t->trim = !strcmp(value, "yes");
        return t->trim || !strcmp(value, "no") ? 0 : refuse(r, "trim: expected yes or no%s", "");
    }
    return refuse(r,
                  "unknown key \"%.100s\" (name, begin, system, user, assistant, prompt, "
                  "default-system, trim and stop are known)",
                  key);
}

/* `text` is cut up and kept. */
static int read_lines(struct file_reader *r, char *text)
{
    int code = 0;
    for (char *line = text, *next; !code && line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        r->line++;
        size_t n = strlen(line);
        if (n && line[n - 1] == '\r') line[n - 1] = 0;
        if (!*line || *line == '#') continue;
        char *colon = strchr(line, ':');
        if (!colon) return refuse(r, "expected \"key: text\"%s", "");
        *colon++ = 0;
        if (*colon == ' ') colon++;
        code = read_value(r, line, colon);
    }
    return code;
}

int chat_from_file_text(struct siren_chat **out, const char *text, size_t size, const char *name,
                        struct siren_error *err)
{
    struct siren_chat *chat = calloc(1, sizeof *chat);
    char hex[33];
    *out = NULL;
    size_t mark = utf8_mark(text, size);
    text += mark, size -= mark;
    if (chat) chat->owned = alloc_string(text, size);
    if (!chat || !chat->owned) {
        siren_chat_free(chat);
        return siren_fail_memory(err, "a chat template", size);
    }
    struct file_reader r = {.t = &chat->t, .name = name, .err = err};
    int code = 0;
    chat->t.name = "template file";
    if (memchr(text, 0, size) || utf8_valid_prefix(text, size) < size)
        code = siren_fail(err, SIREN_EFORMAT, "%s: expected UTF-8 text without NUL", name);
    if (!code) code = read_lines(&r, chat->owned);
    chat_hash(hex, text, size);
    size_t length = strnlen(chat->t.name, 60); /* whole letters: it becomes a JSON text */
    length = utf8_valid_prefix(chat->t.name, length);
    snprintf(chat->name, sizeof chat->name, "%.*s #%.16s", (int)length, chat->t.name, hex);
    chat->t.name = chat->name;
    if (!code && (!chat->t.before[CHAT_USER] || !chat->t.prompt))
        code = siren_fail(err, SIREN_EFORMAT, "%s: the key \"%s\" is missing", name,
                          chat->t.prompt ? "user" : "prompt");
    if (!code && chat->t.default_system && !chat->t.before[CHAT_SYSTEM])
        code = siren_fail(err, SIREN_EFORMAT, "%s: default-system needs the key \"system\"", name);
    if (code)
        siren_chat_free(chat);
    else
        *out = chat;
    return code;
}
