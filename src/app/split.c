#include "app/split.h"

#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"

/* "A", "B", "last", "last3"; 0: none of them. */
static int parse_which(const char *text, struct split_part *part)
{
    enum { DIGITS = 6 };
    if (!strcmp(text, "A") || !strcmp(text, "B")) {
        part->half = text[0];
        return 1;
    }
    if (strncmp(text, "last", 4)) return 0;
    text += 4;
    if (strlen(text) > DIGITS || strspn(text, "0123456789") != strlen(text)) return 0;
    part->last = *text ? strtoul(text, NULL, 10) : 1;
    return part->last > 0;
}

/* One part; it is written to. */
static int parse_part(const char *whole, char *text, struct split_part *part,
                      struct siren_error *err)
{
    char *which = strchr(text, ':');
    *part = (struct split_part){0};
    if (which && !parse_which(which + 1, part))
        return siren_fail(err, SIREN_EINVAL,
                          "split \"%.60s\": behind ':' stands the half of the users, A or B, or "
                          "\"last\" for the last row of each user, \"last3\" for the last three; "
                          "parts are joined by '+'",
                          whole);
    if (which) *which = '\0';
    return siren_label_parse(text, &part->label, err);
}

int split_parse(const char *text, struct split *out, struct siren_error *err)
{
    char copy[SPLIT_TEXT];
    *out = (struct split){0};
    if (strlen(text) >= sizeof copy)
        return siren_fail(err, SIREN_EINVAL, "split \"%.60s…\" has %zu bytes: expected at most %d",
                          text, strlen(text), SPLIT_TEXT - 1);
    strcpy(copy, text);
    for (char *part = copy, *next; part; part = next) {
        next = strchr(part, '+');
        if (next) *next++ = '\0';
        if (out->n == SPLIT_PARTS)
            return siren_fail(err, SIREN_EINVAL,
                              "split \"%s\" has more than %d parts joined by '+'", text,
                              SPLIT_PARTS);
        int rc = parse_part(text, part, &out->parts[out->n++], err);
        if (rc) return rc;
    }
    return 0;
}

int split_has(const struct split *split, int label)
{
    for (int i = 0; i < split->n; i++)
        if (split->parts[i].label == label) return 1;
    return 0;
}

int split_is(const struct split *split, int label)
{
    for (int i = 0; i < split->n; i++)
        if (split->parts[i].label != label) return 0;
    return split->n > 0;
}

int split_share(const struct split *a, const struct split *b)
{
    for (int i = 0; i < a->n; i++)
        for (int k = 0; k < b->n; k++) {
            char x = a->parts[i].half, y = b->parts[k].half;
            if (a->parts[i].label == b->parts[k].label && (!x || !y || x == y)) return 1;
        }
    return 0;
}

static int in_half(const struct siren_app *app, int user, char half)
{
    const char *external = user < app->users.n ? app->users.external[user] : NULL;
    return external && siren_user_half(external) == (half == 'B');
}

/* The rows of a user follow one another, the last ones at the end: so they are gone through from
 * there. */
static void mark_part(const struct siren_app *app, const struct split_part *part, uint8_t *in)
{
    const struct siren_ratings *r = &app->ratings;
    size_t of_user = 0;
    for (size_t i = r->n; i-- > 0;) {
        if (i + 1 == r->n || r->user[i] != r->user[i + 1]) of_user = 0;
        if (r->label[i] != part->label) continue;
        if (part->half && !in_half(app, r->user[i], part->half)) continue;
        if (!part->last || of_user++ < part->last) in[i] = 1;
    }
}

int split_targets(const struct siren_app *app, const struct split *split,
                  struct siren_target **targets, size_t *n, struct siren_error *err)
{
    const struct siren_ratings *r = &app->ratings;
    uint8_t *in = alloc_zeroed(r->n + 1, 1);
    *targets = alloc_array(r->n + 1, sizeof **targets);
    *n = 0;
    if (!in || !*targets) {
        free(in);
        free(*targets);
        *targets = NULL;
        return siren_fail_memory(err, "the rows of a split", r->n * sizeof **targets);
    }
    for (int i = 0; i < split->n; i++) mark_part(app, &split->parts[i], in);
    for (size_t i = 0; i < r->n; i++)
        if (in[i])
            (*targets)[(*n)++] =
                (struct siren_target){.user = r->user[i], .item = r->item[i], .row = i};
    free(in);
    return 0;
}
