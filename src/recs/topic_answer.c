/* The namer's question and what is made of its answer. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "siren/prompt.h"
#include "siren/topics.h"

enum { TITLE_CHARACTERS = 100, CATEGORY_CHARACTERS = 100, NAME_BYTES = 120, LINE_BYTES = 1000 };

static int put_clean(struct buf *b, const char *text, size_t max_characters)
{
    char *clean = siren_prompt_clean(text, max_characters);
    if (!clean) return 0;
    buf_puts(b, clean);
    free(clean);
    return 1;
}

int siren_topic_prompt(char **prompt, const char *kind, const struct siren_topic_item *items,
                       size_t n_items, struct siren_error *err)
{
    struct buf b = {0};
    int whole = 1;
    *prompt = NULL;
    if (!kind || !*kind) kind = "items";
    buf_printf(&b, "Here are %s that belong together:\n", kind);
    for (size_t i = 0; i < n_items && whole; i++) {
        const char *categories = items[i].categories;
        buf_puts(&b, "- ");
        whole = put_clean(&b, items[i].title, TITLE_CHARACTERS);
        if (categories && *categories && whole) {
            buf_puts(&b, " (");
            whole = put_clean(&b, categories, CATEGORY_CHARACTERS);
            buf_puts(&b, ")");
        }
        buf_puts(&b, "\n");
    }
    buf_printf(&b,
               "\nWhat theme do these %s share? Name what sets them apart from other %s, in at "
               "most %d words. Answer with one line in this form and nothing else:\n"
               "Theme: <at most %d words>",
               kind, kind, SIREN_TOPIC_WORDS, SIREN_TOPIC_WORDS);
    if (whole) *prompt = buf_take(&b);
    buf_free(&b);
    return *prompt ? 0 : siren_fail_memory(err, "a prompt", n_items * 100);
}

/* ---- the answer ---- */

/* Quotes and markup that may stand around a name. */
static const struct pair {
    const char *open, *close;
} pairs[] = {{"\"", "\""}, {"'", "'"}, {"`", "`"}, {"*", "*"}, {"_", "_"}, {"<", ">"}, {"[", "]"},
             {"“", "”"},   {"„", "“"}, {"„", "”"}, {"‘", "’"}, {"«", "»"}, {"»", "«"}};
enum { N_PAIRS = sizeof pairs / sizeof *pairs };

static int letter(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* The mark's length where it stands at `at`, with those that repeat it ("**"), 0 elsewhere.
 * Between letters it is part of a word: "Tom's". */
static size_t mark_at(const char *text, size_t length, size_t at, const char *mark)
{
    size_t n = strlen(mark), end = at + n;
    if (end > length || memcmp(text + at, mark, n) != 0) return 0;
    while (n == 1 && end < length && text[end] == *mark && !strchr("<>[]", *mark)) end++;
    return at > 0 && end < length && letter(text[at - 1]) && letter(text[end]) ? 0 : end - at;
}

/* Of a mark that the text ends with, where it starts; `length` where it ends otherwise. */
static size_t mark_at_end(const char *text, size_t length, const char *mark)
{
    size_t n = strlen(mark), at = length - n;
    if (n > length || memcmp(text + at, mark, n) != 0) return length;
    while (at > 0 && mark_at(text, length, at - 1, mark) == length - at + 1) at--;
    return at;
}

/* 1: a mark is open before `end`.  *closed: where the first of them is closed, SIZE_MAX: nowhere.
 */
static int is_open(const char *text, size_t length, size_t end, const struct pair *p,
                   size_t *closed)
{
    size_t depth = 0, n, width = 0;
    int alike = !strcmp(p->open, p->close); /* then as many close as have opened */
    *closed = SIZE_MAX;
    for (size_t i = 0; i < end; i += n ? n : 1) {
        if (depth && (n = mark_at(text, length, i, p->close)) > 0) {
            if (alike && n != width) continue;
            if (--depth == 0 && *closed == SIZE_MAX) *closed = i;
        } else if ((n = mark_at(text, length, i, p->open)) > 0) {
            depth++;
            width = n;
        }
    }
    return depth > 0;
}

/* A mark at the start goes with its partner at the end, or alone where it has none: "[TV] drama"
 * keeps both.  Returns what to take off the start; *last: off the end. */
static size_t wrap_at_start(const char *text, size_t length, size_t *last)
{
    size_t open = 0, closed;
    int has_partner = 0;
    *last = 0;
    if (length && (isspace((unsigned char)*text) || strchr("#->:", *text))) return 1;
    if (mark_at(text, length, 0, "•")) return strlen("•");
    for (int i = 0; i < N_PAIRS; i++) {
        size_t n = mark_at(text, length, 0, pairs[i].open);
        if (!n) continue;
        open = n;
        is_open(text, length, length, &pairs[i], &closed);
        if (closed == SIZE_MAX) continue;
        has_partner = 1;
        if (closed != mark_at_end(text, length, pairs[i].close)) continue;
        *last = length - closed;
        return open;
    }
    return has_partner ? 0 : open;
}

/* One at the end whose partner is not in the text goes alone: it stood before "Theme:". */
static size_t wrap_at_end(const char *text, size_t length)
{
    size_t from = length, closed;
    if (!length) return 0;
    char last = text[length - 1];
    if (isspace((unsigned char)last) || strchr(".,;:-", last)) return 1;
    for (int i = 0; i < N_PAIRS; i++) {
        size_t at = mark_at_end(text, length, pairs[i].close);
        if (at == length) continue;
        from = at;
        if (is_open(text, length, at, &pairs[i], &closed)) return 0;
    }
    return length - from;
}

static void unwrap(const char **text, size_t *length)
{
    size_t n, last;
    do {
        n = wrap_at_start(*text, *length, &last);
        *text += n, *length -= n + last;
        if (!n) *length -= n = wrap_at_end(*text, *length);
    } while (n);
}

/* 1 if it is valid UTF-8 with a letter or digit in it and nothing below a space. */
static int readable(const char *text, size_t length)
{
    int letters = 0;
    for (size_t i = 0; i < length;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + i,
                                              (utf8proc_ssize_t)(length - i), &c);
        if (n <= 0) return 0;
        utf8proc_category_t category = utf8proc_category(c);
        if (category == UTF8PROC_CATEGORY_CC && c != '\t') return 0;
        letters += category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
        i += (size_t)n;
    }
    return letters > 0;
}

static int in_word(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80 || c == '\'' || c == '-';
}

/* The next word's start and length; 0 at the end. */
static size_t word_at(const char **text, const char *end)
{
    while (*text < end && !in_word(**text)) ++*text;
    size_t length = 0;
    while (*text + length < end && in_word((*text)[length])) length++;
    return length;
}

/* Words that alone name nothing. */
static int is_empty_word(const char *word, size_t length)
{
    static const char *const empty[] = {
        "the",  "a",     "an",   "and",   "of",   "in",    "film",  "films",  "movie", "movies",
        "book", "books", "item", "items", "game", "games", "theme", "themes", "other", "various"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
        if (strlen(empty[i]) == length && !strncasecmp(word, empty[i], length)) return 1;
    return 0;
}

/* At most SIREN_TOPIC_WORDS words, none of them three times: small models fall into loops. */
static int well_worded(const char *text, size_t length)
{
    const char *words[SIREN_TOPIC_WORDS], *end = text + length;
    size_t lengths[SIREN_TOPIC_WORDS], n = 0, l, full = 0;
    for (; (l = word_at(&text, end)) > 0; text += l) {
        int same = 0;
        if (n == SIREN_TOPIC_WORDS) return 0;
        for (size_t i = 0; i < n; i++) same += lengths[i] == l && !strncasecmp(words[i], text, l);
        if (same >= 2) return 0;
        words[n] = text, lengths[n++] = l;
        full += !is_empty_word(text, l);
    }
    return full > 0;
}

/* "1. ", "2) " */
static void skip_number(const char **text, size_t *length)
{
    size_t digits = 0;
    while (digits < *length && isdigit((unsigned char)(*text)[digits])) digits++;
    if (!digits || digits + 1 >= *length || !strchr(".)", (*text)[digits])) return;
    if (!isspace((unsigned char)(*text)[digits + 1])) return;
    *text += digits + 1, *length -= digits + 1;
}

/* "Heists (Crime)": small models copy the categories along. */
static void drop_parenthesis(const char *text, size_t *length)
{
    if (!*length || text[*length - 1] != ')') return;
    size_t open = *length;
    while (open > 0 && text[open - 1] != '(') open--;
    if (open > 0) *length = open - 1;
}

/* The name on one line, malloc'ed with single spaces; NULL if the line is unusable.  Overlong lines
 * are rejected at once: a real name with its markup is short, and each mark costs a scan of the
 * line. */
static char *name_on_line(const char *line, size_t length, int *memory)
{
    if (length > LINE_BYTES) return NULL;
    unwrap(&line, &length);
    drop_parenthesis(line, &length);
    skip_number(&line, &length);
    unwrap(&line, &length);
    static const char placeholder[] = "at most ";
    if (!length || length > NAME_BYTES || !readable(line, length)) return NULL;
    if (!well_worded(line, length) || memchr(line, '|', length)) return NULL;
    if (!strncasecmp(line, placeholder, sizeof placeholder - 1)) return NULL;
    struct buf b = {0};
    for (size_t i = 0; i < length; i++) {
        int space = isspace((unsigned char)line[i]) != 0;
        if (!space)
            buf_putc(&b, line[i]);
        else if (!isspace((unsigned char)line[i + 1]))
            buf_putc(&b, ' ');
    }
    char *name = buf_take(&b);
    if (!name) *memory = 1;
    return name;
}

static size_t line_length(const char *text)
{
    return strcspn(text, "\r\n");
}

int siren_topic_parse(const char *answer, char **name, struct siren_error *err)
{
    int memory = 0, marked = 0;
    *name = NULL;
    for (const char *end; (end = strstr(answer, "</think>"));) answer = end + strlen("</think>");
    for (const char *at = answer; (at = strcasestr(at, "theme")) && !*name && !memory;) {
        at += strlen("theme");
        at += tolower((unsigned char)*at) == 's';
        if (*at != ':') continue;
        at++;
        marked = 1;
        *name = name_on_line(at, line_length(at), &memory);
    }
    if (!marked) {
        const char *line = answer + strspn(answer, " \t\r\n");
        *name = name_on_line(line, line_length(line), &memory);
    }
    if (memory) return siren_fail_memory(err, "a topic's name", NAME_BYTES);
    return *name != NULL;
}
