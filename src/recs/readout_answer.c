/* The parser of reasoned answers. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "siren/readout.h"

static const char *const tags[4] = {"<think>", "</think>", "<answer>", "</answer>"};

static const char *find_last(const char *text, const char *word)
{
    const char *last = NULL, *p = text;
    while ((p = strstr(p, word)) != NULL) last = p++;
    return last;
}

static int has_format(const char *text)
{
    const char *at = text;
    for (int i = 0; i < 4; i++) {
        const char *tag = strstr(text, tags[i]);
        if (!tag || tag < at || strstr(tag + 1, tags[i])) return 0;
        at = tag + strlen(tags[i]);
    }
    while (isspace((unsigned char)*at)) at++;
    return *at == '\0';
}

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

unsigned siren_answer_parse(const char *text, double low, double high, double fallback,
                            double *rating)
{
    unsigned flags = has_format(text) ? SIREN_ANSWER_FORMAT : 0;
    const char *open = find_last(text, "<answer>"), *close;
    double value;
    *rating = fallback;
    if (!open) return flags;
    open += strlen("<answer>");
    close = strstr(open, "</answer>");
    if (!read_number(open, close ? close : open + strlen(open), &value)) return flags;
    flags |= SIREN_ANSWER_NUMBER;
    if (value < low || value > high) flags |= SIREN_ANSWER_CLAMPED;
    *rating = fmin(fmax(value, low), high);
    return flags;
}
