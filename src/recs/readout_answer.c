/* The parser of reasoned answers. */
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "siren/readout.h"

static const char *const fault_names[SIREN_FAULTS] = {
    "no tags",    "missing tag", "unclosed", "repeated tag", "wrong order",
    "text after", "no number",   "clamped",  "truncated",
};

const char *siren_fault_name(enum siren_answer_fault fault)
{
    return fault_names[fault];
}

/* ---- the four tags ---- */

enum { THINK, THINK_END, ANSWER, ANSWER_END, TAGS };
static const char *const words[TAGS] = {"<think>", "</think>", "<answer>", "</answer>"};

struct tag {
    size_t count;
    const char *first, *end; /* the first appearance; behind the last one */
};

static struct tag find_tag(const char *text, const char *word)
{
    struct tag tag = {0};
    for (const char *p = text; (p = strstr(p, word)) != NULL; p = tag.end) {
        if (!tag.count++) tag.first = p;
        tag.end = p + strlen(word);
    }
    return tag;
}

/* The faults of form, up to AFTER. */
static unsigned find_tags(const char *text, struct tag tags[TAGS])
{
    unsigned faults = 0;
    const char *at = text;
    int present = 0;
    for (int i = 0; i < TAGS; i++) {
        tags[i] = find_tag(text, words[i]);
        present += tags[i].count > 0;
        if (tags[i].count > 1) faults |= 1u << SIREN_FAULT_REPEATED;
        if (tags[i].count && tags[i].first < at) faults |= 1u << SIREN_FAULT_ORDER;
        if (tags[i].count) at = tags[i].first;
    }
    if (!present) return 1u << SIREN_FAULT_NO_TAGS;
    if ((tags[THINK].count && !tags[THINK_END].count) ||
        (tags[ANSWER].count && !tags[ANSWER_END].count))
        faults |= 1u << SIREN_FAULT_UNCLOSED;
    else if (present < TAGS)
        faults |= 1u << SIREN_FAULT_MISSING;
    if (tags[ANSWER_END].count) {
        const char *after = tags[ANSWER_END].end;
        while (isspace((unsigned char)*after)) after++;
        if (*after) faults |= 1u << SIREN_FAULT_AFTER;
    }
    return faults;
}

/* ---- the number ---- */

/* The first number of [p, end), "4", "4.5", "4,5", ".5", with a sign directly before it. */
static int read_number(const char *p, const char *end, double *value)
{
    double v = 0, scale = 1;
    int negative, digits = 0;
    const char *start = p;
    while (p < end && !isdigit((unsigned char)*p) &&
           !(*p == '.' && p + 1 < end && isdigit((unsigned char)p[1])))
        p++;
    if (p >= end) return 0;
    negative = p > start && p[-1] == '-';
    for (; p < end && isdigit((unsigned char)*p) && digits < 300; p++, digits++)
        v = v * 10 + (*p - '0');
    if (p + 1 < end && (*p == '.' || *p == ',') && isdigit((unsigned char)p[1]))
        for (p++; p < end && isdigit((unsigned char)*p); p++) v += (scale /= 10) * (*p - '0');
    *value = negative ? -v : v;
    return isfinite(v);
}

struct siren_reading siren_answer_read(const char *text, double low, double high, int truncated)
{
    struct tag tags[TAGS];
    struct siren_reading a = {.faults = find_tags(text, tags), .rating = high};
    const char *open = tags[ANSWER].end, *close;
    double value = 0;
    a.format = !a.faults;
    if (open) {
        close = strstr(open, words[ANSWER_END]);
        a.has_number = read_number(open, close ? close : open + strlen(open), &value);
    }
    if (a.has_number) {
        if (value < low || value > high) a.faults |= 1u << SIREN_FAULT_CLAMPED;
        a.rating = fmin(fmax(value, low), high);
    } else {
        a.faults |= 1u << SIREN_FAULT_NO_NUMBER;
    }
    if (truncated) a.faults |= 1u << SIREN_FAULT_TRUNCATED;
    return a;
}
