/* What an import was told, in the words of `siren import`. */
#include "store/import_settings.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/path.h"
#include "siren/workspace.h"

static void put(struct buf *out, const char *option, const char *value)
{
    buf_printf(out, "--%s %s\n", option, value && *value ? value : "(none)");
}

static void put_number(struct buf *out, const char *option, long long value)
{
    buf_printf(out, "--%s %lld\n", option, value);
}

/* Milliseconds since 1970 as --train-until takes them. */
static void put_time(struct buf *out, int64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm utc;
    char text[40];
    if (ms % 1000 || !gmtime_r(&seconds, &utc) || !strftime(text, sizeof text, "%FT%TZ", &utc))
        snprintf(text, sizeof text, "%lld", (long long)ms);
    buf_puts(out, text);
}

static void put_times(const struct siren_import_options *o, struct buf *out)
{
    buf_puts(out, "--train-until ");
    if (o->train_until) put_time(out, o->train_until);
    if (o->valid_until) buf_putc(out, ',');
    if (o->valid_until) put_time(out, o->valid_until);
    buf_puts(out, o->train_until ? "\n" : "(none)\n");
    if (o->train_share > 0)
        buf_printf(out, "--shares %g,%g\n", o->train_share, o->valid_share);
    else
        put(out, "shares", NULL);
}

static void put_columns(const struct siren_import_columns *c, struct buf *out)
{
    put(out, "user-column", c->user);
    put(out, "item-column", c->item);
    put(out, "rating-column", c->rating);
    put(out, "time-column", c->time);
    put(out, "title-column", c->title);
    put(out, "categories-column", c->categories);
    put(out, "features-column", c->features);
    put(out, "description-column", c->description);
    put(out, "year-column", c->year);
}

void import_settings_put(const struct source *s, struct buf *out)
{
    static const char *const splits[] = {"(the format's)", "none", "leave-last-out", "time"};
    static const char *const units[] = {"auto", "s", "ms", "us", "ns"};
    const struct siren_import_options *o = s->options;
    put(out, "format", s->report->format);
    put(out, "protocol", siren_protocol_name((enum siren_protocol)s->protocol));
    put_number(out, "k-core", s->k_core);
    put(out, "split", splits[o->split]);
    put_times(o, out);
    put_number(out, "folds", o->folds);
    buf_printf(out, "--seed %llu\n", (unsigned long long)o->seed);
    buf_printf(out, "--scale %g:%g:%g\n", s->scale.min, s->scale.max, s->scale.step);
    put(out, "time-unit", units[o->time_unit]);
    put(out, "all-items", o->all_items ? "yes" : "no");
    put(out, "encoding", s->encoding == SIREN_LATIN1 ? "latin-1" : "utf-8");
    put(out, "items", s->items_path ? path_name(s->items_path) : NULL);
    put(out, "noun", s->noun);
    put_columns(&o->columns, out);
    put(out, "separator", o->separator);
    put(out, "list-separator", o->list_separator);
}

/* The value in the line that begins like this one, up to its end; NULL: there is none. */
static const char *value_of(const char *text, const char *line, size_t n_option)
{
    for (; *text; text += strcspn(text, "\n") + 1) {
        if (!strncmp(text, line, n_option) && text[n_option] == ' ') return text + n_option + 1;
        if (!text[strcspn(text, "\n")]) break;
    }
    return NULL;
}

void import_settings_compare(const char *mine, const char *theirs, struct buf *out)
{
    for (const char *line = mine; *line; line += strcspn(line, "\n") + 1) {
        size_t option = strcspn(line, " \n"), n = strcspn(line, "\n");
        const char *was = value_of(theirs, line, option);
        if (line[option] != ' ' || !was) continue;
        size_t n_mine = n - option - 1, n_theirs = strcspn(was, "\n");
        if (n_mine == n_theirs && !strncmp(line + option + 1, was, n_mine)) continue;
        buf_printf(out, "%s%.*s is %.*s, it was %.*s", out->size ? "; " : "", (int)option, line,
                   (int)n_mine, line + option + 1, (int)n_theirs, was);
    }
}
