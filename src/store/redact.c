/* A person's id taken out of texts: names, messages, commands, settings and reports. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/buf.h"
#include "store/store.h"

#define REDACTED "(forgotten)"

/* ---- free text ---- */

/* Messages show the beginning of a long id only. */
enum { SHOWN = 32 };

static int is_letter(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80 || c == '_' || c == '-';
}

/* "carla" is no part of "carla.smith" or "carla@home", but the end of "by carla." */
static int goes_on(const char *p)
{
    return is_letter(*p) || ((*p == '.' || *p == '@') && is_letter(p[1]));
}

static int began_before(const char *text, size_t at)
{
    if (at == 0) return 0;
    char c = text[at - 1];
    return is_letter(c) || ((c == '.' || c == '@') && at > 1 && is_letter(text[at - 2]));
}

/* Bytes of the word text[at...] that are the id, or its shown beginning; 0: another word. */
static size_t match(const char *text, size_t at, const char *external)
{
    size_t n = 0;
    while (external[n] && text[at + n] == external[n]) n++;
    if ((external[n] && n < SHOWN) || began_before(text, at) || goes_on(text + at + n)) return 0;
    return n;
}

static int is_number(const char *external)
{
    return external[strspn(external, "0123456789.+-")] == 0;
}

/* Whether the text says that a user's id comes at `at`: "user 5", "users '5'", "--user=5". */
static int named(const char *text, size_t at)
{
    while (at > 0 && strchr(" '\"=:", text[at - 1])) at--;
    if (at > 0 && text[at - 1] == 's') at--;
    return at >= 4 && !strncmp(text + at - 4, "user", 4);
}

char *redact_text(const char *text, const char *external, int *changed)
{
    struct buf b = {0};
    int number = is_number(external);
    buf_puts(&b, "");
    for (size_t at = 0; text[at];) {
        size_t n = match(text, at, external);
        if (n && number && !named(text, at)) n = 0;
        *changed += n > 0;
        if (n)
            buf_puts(&b, REDACTED);
        else
            buf_putc(&b, text[at]);
        at += n ? n : 1;
    }
    return buf_take(&b);
}

/* ---- a command line ---- */

/* The word that begins at p as a shell reads it (command lines are stored with '' quotes);
 * returns its end. */
static const char *read_word(const char *p, struct buf *word)
{
    int quoted = 0;
    buf_clear(word);
    for (; *p && (quoted || !isspace((unsigned char)*p)); p++) {
        if (*p == '\'')
            quoted = !quoted;
        else if (*p == '\\' && !quoted && p[1])
            buf_putc(word, *++p);
        else
            buf_putc(word, *p);
    }
    return p;
}

enum option { OTHER, USER, NAME };

/* The option that a word is; its value is the next word (*value 0) or begins at word[*value]. */
static enum option option_of(const char *word, size_t *value)
{
    static const struct {
        const char *text;
        enum option option;
    } options[] = {{"--user", USER}, {"--name", NAME}, {"-u", USER}};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(options[i].text);
        if (strncmp(word, options[i].text, n) != 0) continue;
        int is_short = n == 2;
        *value = word[n] == '=' ? n + 1 : n;
        if (!word[n]) *value = 0;
        if (!word[n] || word[n] == '=' || is_short) return options[i].option;
    }
    return OTHER;
}

static char *redact_value(enum option option, const char *value, const char *external, int *changed)
{
    if (option == NAME) return redact_text(value, external, changed);
    int same = option == USER && !strcmp(value, external);
    *changed += same;
    return strdup(same ? REDACTED : value);
}

static void put_quoted(struct buf *out, const char *word, size_t from, const char *value)
{
    buf_putc(out, '\'');
    buf_append(out, word, from);
    for (const char *p = value; *p; p++) buf_printf(out, *p == '\'' ? "'\\''" : "%c", *p);
    buf_putc(out, '\'');
}

/* A word with its value from word[from] on: as it was, or written again where it changed. */
static void put_word(struct buf *out, const char *raw, size_t length, const char *word, size_t from,
                     enum option option, const char *external, int *changed)
{
    int found = 0;
    char *value = redact_value(option, word + from, external, &found);
    *changed += found;
    if (!value) {
        out->failed = 1;
    } else if (!found) {
        buf_append(out, raw, length);
    } else if (option == NAME && memchr(raw, '\'', length)) {
        put_quoted(out, word, from, value);
    } else {
        buf_append(out, word, from);
        buf_puts(out, value);
    }
    free(value);
}

char *redact_command(const char *text, const char *external, int *changed)
{
    struct buf out = {0}, word = {0};
    enum option before = OTHER; /* whose value comes next */
    buf_puts(&out, "");
    while (*text) {
        if (isspace((unsigned char)*text)) {
            buf_putc(&out, *text++);
            continue;
        }
        const char *raw = text;
        size_t value = 0;
        text = read_word(text, &word);
        enum option option = before;
        if (option == OTHER) option = option_of(buf_text(&word), &value);
        int is_value = before != OTHER || value > 0;
        put_word(&out, raw, (size_t)(text - raw), buf_text(&word), value, is_value ? option : OTHER,
                 external, changed);
        before = is_value ? OTHER : option;
    }
    buf_free(&word);
    return buf_take(&out);
}

/* ---- JSON ---- */

/* Settings and metrics name people under "user", "users", "user_id" …: as strings, lists of
 * strings or keys.  Elsewhere an equal text is something else, such as the label "5". */
static json_t *redact_in(json_t *value, int people, const char *external, int *changed)
{
    const char *key;
    size_t index;
    json_t *entry, *copy;
    if (people && json_is_string(value) && !strcmp(json_string_value(value), external)) {
        ++*changed;
        return json_string(REDACTED);
    }
    if (json_is_object(value)) {
        copy = json_object();
        json_object_foreach(value, key, entry)
        {
            int is_user = people && !strcmp(key, external);
            *changed += is_user;
            json_object_set_new(copy, is_user ? REDACTED : key,
                                redact_in(entry, !strncmp(key, "user", 4), external, changed));
        }
        return copy;
    }
    if (json_is_array(value)) {
        copy = json_array();
        json_array_foreach(value, index, entry)
        {
            json_array_append_new(copy, redact_in(entry, people, external, changed));
        }
        return copy;
    }
    return json_incref(value);
}

char *redact_json(const char *text, const char *external, int *changed)
{
    json_t *value = json_loads(text, 0, NULL);
    if (!value) return redact_text(text, external, changed);
    int found = 0;
    json_t *clean = redact_in(value, 0, external, &found);
    char *out = found ? json_dumps(clean, JSON_COMPACT) : strdup(text);
    *changed += found;
    json_decref(value);
    json_decref(clean);
    return out;
}

/* ---- the import's report ---- */

static int redact_messages(json_t *messages, const char *external, int *changed)
{
    size_t index;
    json_t *entry;
    json_array_foreach(messages, index, entry)
    {
        int found = 0;
        const char *text = json_string_value(entry);
        char *clean = text ? redact_text(text, external, &found) : NULL;
        int bad = text && (!clean || (found && json_string_set(entry, clean)));
        *changed += found;
        free(clean);
        if (bad) return -1;
    }
    return 0;
}

char *redact_report(const char *text, const char *external, int *changed)
{
    json_t *report = json_loads(text, 0, NULL);
    if (!report) return redact_text(text, external, changed);
    int found = 0;
    int bad = redact_messages(json_object_get(report, "bad"), external, &found) ||
              redact_messages(json_object_get(report, "notes"), external, &found);
    char *out = bad ? NULL : found ? json_dumps(report, JSON_COMPACT) : strdup(text);
    *changed += found;
    json_decref(report);
    return out;
}
