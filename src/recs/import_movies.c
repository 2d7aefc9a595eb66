/* The paper's Movies split: four files of JSON lines in a folder.
 *
 * history   user_id, history_asins, history_ratings, history: everything before valid
 * train     rows for the interactions of history from the fourth on, with their times
 * valid, test  one row a user, not in history
 *
 * Items have no file of their own: their texts stand in `history` ("Title, Category|Category,
 * rating", a line each) and in `target`. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "recs/import.h"

/* A '|' without a space beside it separates categories; one with spaces belongs to a title. */
void siren_movies_border(const char *text, size_t length, size_t *title_length,
                         size_t *categories_at)
{
    const char *end = text + length, *bar = text;
    for (; bar < end; bar++)
        if (*bar == '|' && (bar == text || bar[-1] != ' ') && (bar + 1 == end || bar[1] != ' '))
            break;
    *title_length = *categories_at = length;
    for (const char *p = bar - 1; p > text; p--) {
        if (p + 1 >= end || p[-1] != ',' || p[0] != ' ') continue;
        *title_length = (size_t)(p - 1 - text);
        *categories_at = (size_t)(p + 1 - text);
        return;
    }
    /* "Title, " has an empty list of categories. */
    if (length >= 2 && text[length - 2] == ',' && text[length - 1] == ' ') {
        *title_length = length - 2;
        return;
    }
}

struct movies {
    struct source *source;
    struct raw_table *table;
    struct idmap *texts; /* "asin\tTitle, Categories": so an item with two texts shows */
    struct idmap *items;
    size_t *first; /* by user: row of its first interaction */
    size_t first_capacity, n_users;
    uint64_t *history_hash; /* by user: of the valid history */
    uint64_t two_texts, same_history, wrong_history;
};

/* The fields of a line, in place. */
struct movies_line {
    struct json_span user, asin, time, label, target, history, asins, ratings;
};

static int need(const struct json_span *v, enum json_kind kind, const char *name,
                struct siren_error *err)
{
    static const char *const kinds[] = {"string", "number", "literal", "list", "object"};
    if (!v->text) return siren_fail(err, SIREN_EFORMAT, "no field '%s'", name);
    if (v->kind == kind) return SIREN_OK;
    return siren_fail(err, SIREN_EFORMAT, "field '%s' is a %s, expected a %s", name, kinds[v->kind],
                      kinds[kind]);
}

static int take_string(struct json_span *v, const char *name, struct siren_error *err)
{
    int code = need(v, JSON_STRING_, name, err);
    if (!code && json_decode(v))
        code = siren_fail(err, SIREN_EFORMAT, "field '%s': a bad escape", name);
    return code;
}

static int parse_line(char *line, size_t length, struct movies_line *m, struct siren_error *err)
{
    struct json_cursor c;
    struct json_span key, value;
    *m = (struct movies_line){0};
    struct {
        const char *name;
        struct json_span *to;
    } fields[] = {{"user_id", &m->user},        {"parent_asin", &m->asin},
                  {"timestamp", &m->time},      {"label", &m->label},
                  {"target", &m->target},       {"history", &m->history},
                  {"history_asins", &m->asins}, {"history_ratings", &m->ratings}};
    int more = json_open(&c, line, length, '{') ? -1 : 1;
    while (more == 1 && (more = json_next(&c, &key, &value)) == 1)
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            if (json_is(&key, fields[i].name)) *fields[i].to = value;
    if (more < 0)
        return siren_fail(err, SIREN_EFORMAT, "byte %zu: bad JSON: expected %s",
                          (size_t)(c.at - line) + 1, c.expected ? c.expected : "something else");
    int code = take_string(&m->user, "user_id", err);
    return code ? code : take_string(&m->history, "history", err);
}

/* Remember an item's text: the first one it is seen with. */
static int add_text(struct movies *m, const char *asin, size_t asin_length, const char *text,
                    size_t length, struct siren_error *err)
{
    int64_t item = idmap_find(&m->table->items, asin, asin_length);
    struct buf b = {0};
    if (item < 0) return siren_fail(err, SIREN_EFORMAT, "item '%.40s' without a rating", asin);
    buf_printf(&b, "%lld\t", (long long)item);
    size_t head = b.size;
    buf_append(&b, text, length);
    int64_t known = buf_failed(&b) ? -2 : idmap_find(m->texts, b.data, b.size);
    int64_t owner = -2;
    if (known == -1) owner = idmap_add(m->items, b.data, head);
    if (known == -1 && owner >= 0) {
        if ((size_t)owner < m->texts->n)
            m->two_texts++;
        else if (idmap_add(m->texts, b.data, b.size) < 0)
            owner = -2;
    }
    buf_free(&b);
    if (known < -1 || (known == -1 && owner < 0)) return siren_fail_memory(err, "item texts", head);
    return SIREN_OK;
}

/* The next line of a history text: its item's text and rating. 1, 0 at the end, or error. */
static int next_history(const char **at, const char *end, const char **text, size_t *length,
                        double *rating, struct siren_error *err)
{
    if (*at >= end) return 0;
    const char *start = *at, *stop = memchr(start, '\n', (size_t)(end - start));
    if (!stop) stop = end;
    const char *comma = stop;
    while (comma > start && !(comma[-1] == ',' && comma < stop && *comma == ' ')) comma--;
    if (comma == start || parse_number(comma + 1, (size_t)(stop - comma - 1), rating))
        return siren_fail(err, SIREN_EFORMAT, "history line '%.*s': expected 'Title, …, RATING'",
                          (int)(stop - start < 100 ? stop - start : 100), start);
    *text = start;
    *length = (size_t)(comma - 1 - start);
    *at = stop < end ? stop + 1 : end;
    return 1;
}

static size_t count_lines(const struct json_span *history)
{
    size_t n = 0;
    for (size_t i = 0; i < history->length; i++) n += history->text[i] == '\n';
    return n + (history->length && history->text[history->length - 1] != '\n');
}

/* ---- history.jsonl ---- */

static int add_row(struct movies *m, const struct json_span *user, const struct json_span *asin,
                   double rating, double time, int label, struct siren_error *err)
{
    struct scale_watch none = {0};
    struct record record = {.user = user->text,
                            .user_length = user->length,
                            .item = asin->text,
                            .item_length = asin->length,
                            .rating = rating,
                            .time = time};
    int code = scale_check(&m->source->scale, &none, rating, 0, err);
    if (!code && (!user->length || !asin->length))
        code = siren_fail(err, SIREN_EFORMAT, "an empty user_id or parent_asin");
    if (!code) code = raw_add(m->table, &record, label, err);
    m->source->report->ratings_read += !code;
    return code;
}

/* One interaction of a history: its asin and rating, and the next line of the text. */
static int history_entry(struct movies *m, struct movies_line *l, struct json_span *asin,
                         struct json_span *rating, const char **at, struct siren_error *err)
{
    const char *text = "", *end = l->history.text + l->history.length;
    size_t length = 0;
    double value, printed = NAN;
    if (asin->kind != JSON_STRING_ || json_decode(asin) ||
        parse_number(rating->text, rating->length, &value))
        return siren_fail(err, SIREN_EFORMAT,
                          "history_asins: expected strings, history_ratings: numbers");
    int has = next_history(at, end, &text, &length, &printed, err);
    if (has < 0) return has;
    if (!has || printed != value)
        return siren_fail(err, SIREN_EFORMAT,
                          "user %.40s, item %.40s: rating %g in history_ratings, %s in history",
                          l->user.text, asin->text, value, has ? "another" : "none");
    int code = add_row(m, &l->user, asin, value, NAN, SIREN_LABEL_HISTORY, err);
    return code ? code : add_text(m, asin->text, asin->length, text, length, err);
}

static int history_entries(struct movies *m, struct movies_line *l, struct siren_error *err)
{
    struct json_cursor asins, ratings;
    struct json_span asin, rating;
    const char *at = l->history.text;
    int code = need(&l->asins, JSON_ARRAY_, "history_asins", err);
    if (!code) code = need(&l->ratings, JSON_ARRAY_, "history_ratings", err);
    if (code) return code;
    int more = json_open(&asins, l->asins.text, l->asins.length, '[') ||
                       json_open(&ratings, l->ratings.text, l->ratings.length, '[')
                   ? -1
                   : 1;
    while (!code && more == 1 && (more = json_next(&asins, NULL, &asin)) == 1) {
        if (json_next(&ratings, NULL, &rating) != 1)
            more = -1;
        else
            code = history_entry(m, l, &asin, &rating, &at, err);
    }
    if (more < 0)
        return siren_fail(err, SIREN_EFORMAT,
                          "history_asins and history_ratings: expected two lists of one length");
    return code;
}

/* The user is numbered even if the line is bad, so that first[] and the ids stay in step. */
static int history_row(struct movies *m, struct movies_line *l, struct siren_error *err)
{
    struct raw_table *t = m->table;
    size_t first = t->n;
    if (!l->user.length) return siren_fail(err, SIREN_EFORMAT, "an empty user_id");
    if (idmap_find(&t->users, l->user.text, l->user.length) >= 0)
        return siren_fail(err, SIREN_EFORMAT, "user %.40s is there twice", l->user.text);
    if (alloc_grow(&m->first, &m->first_capacity, m->n_users + 1, sizeof *m->first) ||
        idmap_add(&t->users, l->user.text, l->user.length) < 0)
        return siren_fail_memory(err, "users", m->n_users);
    m->first[m->n_users++] = first;
    int code = history_entries(m, l, err);
    if (!code && t->n == first)
        code = siren_fail(err, SIREN_EFORMAT, "user %.40s has no history", l->user.text);
    if (code) {
        m->source->report->ratings_read -= t->n - first;
        t->n = first;
    }
    return code;
}

/* ---- train, valid, test ---- */

/* Row of the user's item in history, or SIZE_MAX. */
static size_t find_row(const struct movies *m, int64_t user, const struct json_span *asin)
{
    int64_t item = idmap_find(&m->table->items, asin->text, asin->length);
    if (user < 0 || (size_t)user >= m->n_users || item < 0) return SIZE_MAX;
    for (size_t i = m->first[user]; i < m->table->n && m->table->user[i] == (uint32_t)user; i++)
        if (m->table->item[i] == (uint32_t)item) return i;
    return SIZE_MAX;
}

static int parse_target(struct movies_line *l, double *rating, double *time,
                        struct siren_error *err)
{
    int code = take_string(&l->asin, "parent_asin", err);
    if (!code) code = take_string(&l->target, "target", err);
    if (!code) code = need(&l->label, JSON_NUMBER_, "label", err);
    if (!code) code = need(&l->time, JSON_NUMBER_, "timestamp", err);
    if (code) return code;
    if (parse_number(l->label.text, l->label.length, rating) ||
        parse_number(l->time.text, l->time.length, time) || fabs(*time) > 9e15)
        return siren_fail(err, SIREN_EFORMAT, "label or timestamp is no number");
    return SIREN_OK;
}

static int train_row(struct movies *m, struct movies_line *l, struct siren_error *err)
{
    double rating, time;
    int code = parse_target(l, &rating, &time, err);
    if (code) return code;
    int64_t user = idmap_find(&m->table->users, l->user.text, l->user.length);
    size_t row = find_row(m, user, &l->asin);
    if (row == SIZE_MAX)
        return siren_fail(err, SIREN_EFORMAT, "user %.40s, item %.40s: not in the user's history",
                          l->user.text, l->asin.text);
    if (m->table->label[row] == SIREN_LABEL_TRAIN)
        return siren_fail(err, SIREN_EFORMAT, "user %.40s, item %.40s: there twice", l->user.text,
                          l->asin.text);
    if ((double)m->table->rating[row] != rating)
        return siren_fail(err, SIREN_EFORMAT, "label %g, but %g in the user's history", rating,
                          (double)m->table->rating[row]);
    m->table->label[row] = SIREN_LABEL_TRAIN;
    m->table->time[row] = time;
    m->table->time_kind = 1;
    m->wrong_history += count_lines(&l->history) != row - m->first[user];
    return add_text(m, l->asin.text, l->asin.length, l->target.text, l->target.length, err);
}

/* Valid and test: one more interaction of a user of history. */
static int late_row(struct movies *m, struct movies_line *l, int label, struct siren_error *err)
{
    double rating, time;
    int code = parse_target(l, &rating, &time, err);
    if (code) return code;
    int64_t user = idmap_find(&m->table->users, l->user.text, l->user.length);
    if (user < 0 || (size_t)user >= m->n_users)
        return siren_fail(err, SIREN_EFORMAT, "user %.40s is not in the histories", l->user.text);
    size_t row = find_row(m, user, &l->asin);
    if (row != SIZE_MAX)
        return siren_fail(err, SIREN_EFORMAT, "user %.40s, item %.40s: in the history already",
                          l->user.text, l->asin.text);
    code = add_row(m, &l->user, &l->asin, rating, time, label, err);
    if (code) return code;
    uint64_t hash = XXH3_64bits(l->history.text, l->history.length);
    if (label == SIREN_LABEL_VALID)
        m->history_hash[user] = hash;
    else
        m->same_history += m->history_hash[user] == hash;
    return add_text(m, l->asin.text, l->asin.length, l->target.text, l->target.length, err);
}

static int read_file(struct movies *m, const char *name, int label, struct siren_error *err)
{
    struct reader r;
    char *line, *path = find_file(m->source->path, name);
    size_t length;
    if (!path)
        return siren_fail(err, SIREN_ENOTFOUND, "%s: no %s (or .gz, .zst) in this folder",
                          m->source->path, name);
    int code = reader_open(&r, m->source, path, m->source->encoding, name, err);
    while (!code && (code = reader_next(&r, &line, &length, err)) == 1) {
        struct movies_line l;
        code = parse_line(line, length, &l, err);
        if (!code && label == SIREN_LABEL_HISTORY)
            code = history_row(m, &l, err);
        else if (!code && label == SIREN_LABEL_TRAIN)
            code = train_row(m, &l, err);
        else if (!code)
            code = late_row(m, &l, label, err);
        if (code) code = reader_bad(&r, code, err);
    }
    reader_close(&r);
    free(path);
    return code;
}

static void notes(struct movies *m)
{
    struct source *s = m->source;
    if (m->same_history)
        source_note(s,
                    "the test history equals the valid history for %llu users: it ends before the "
                    "valid interaction",
                    (unsigned long long)m->same_history);
    if (m->two_texts)
        source_note(s, "%llu items stand with more than one text: the first is kept",
                    (unsigned long long)m->two_texts);
    if (m->wrong_history)
        source_note(s, "%llu train rows have another history than what precedes them",
                    (unsigned long long)m->wrong_history);
}

int read_movies(struct source *s, struct raw_table *t, struct idmap *texts, struct siren_error *err)
{
    struct idmap owners = {0};
    struct movies m = {.source = s, .table = t, .texts = texts, .items = &owners};
    t->own_order = t->own_labels = 1;
    int code = read_file(&m, "history.jsonl", SIREN_LABEL_HISTORY, err);
    if (!code) code = read_file(&m, "train.jsonl", SIREN_LABEL_TRAIN, err);
    if (!code && !(m.history_hash = alloc_zeroed(m.n_users, sizeof *m.history_hash)))
        code = siren_fail_memory(err, "users", m.n_users);
    if (!code) code = read_file(&m, "valid.jsonl", SIREN_LABEL_VALID, err);
    if (!code) code = read_file(&m, "test.jsonl", SIREN_LABEL_TEST, err);
    if (!code) notes(&m);
    free(m.first);
    free(m.history_hash);
    idmap_free(&owners);
    return code;
}
