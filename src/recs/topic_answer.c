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

enum { TITLE_CHARACTERS = 100, CATEGORY_CHARACTERS = 100, NAME_BYTES = 120 };

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
static const char *const wrapping[] = {"\"", "'", "`", "*", "_", "#", "<", ">", "[", "]",
                                       "“",  "”", "‘", "’", "«", "»", "„", "-", "•", ":"};
enum { N_WRAPPING = sizeof wrapping / sizeof *wrapping };

static size_t wrap_at_start(const char *text, size_t length)
{
    if (length && isspace((unsigned char)text[0])) return 1;
    for (int i = 0; i < N_WRAPPING; i++) {
        size_t n = strlen(wrapping[i]);
        if (length >= n && !memcmp(text, wrapping[i], n)) return n;
    }
    return 0;
}

static size_t wrap_at_end(const char *text, size_t length)
{
    if (!length) return 0;
    char last = text[length - 1];
    if (isspace((unsigned char)last) || strchr(".,;", last)) return 1;
    for (int i = 0; i < N_WRAPPING; i++) {
        size_t n = strlen(wrapping[i]);
        if (length >= n && !memcmp(text + length - n, wrapping[i], n)) return n;
    }
    return 0;
}

static void unwrap(const char **text, size_t *length)
{
    size_t n;
    while ((n = wrap_at_start(*text, *length)) > 0) *text += n, *length -= n;
    while ((n = wrap_at_end(*text, *length)) > 0) *length -= n;
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

/* The name on one line, malloc'ed with single spaces; NULL where it is of no use. */
static char *name_on_line(const char *line, size_t length, int *memory)
{
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
