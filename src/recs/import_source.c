/* What lies at a path: formats and files. */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/path.h"
#include "base/utf8.h"
#include "recs/import.h"

static const char *const names[] = {"movies",  "amazon", "ml-100k", "ml-1m", "ml-latest",
                                    "recbole", "csv",    "tsv",     "jsonl"};
#define N_FORMATS (sizeof names / sizeof *names)

const char *format_name(enum format format)
{
    return names[format];
}

void source_note(struct source *s, const char *format, ...)
{
    struct siren_import_report *r = s->report;
    if (r->n_notes == SIREN_IMPORT_MESSAGES) return;
    va_list args;
    va_start(args, format);
    vsnprintf(r->notes[r->n_notes++], sizeof r->notes[0], format, args);
    va_end(args);
}

static int is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static int is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

char *find_file(const char *folder, const char *name)
{
    static const char *const endings[] = {"", ".gz", ".zst"};
    for (int i = 0; i < 3; i++) {
        struct buf b = {0};
        buf_printf(&b, "%s/%s%s", folder, name, endings[i]);
        char *path = buf_take(&b);
        if (path && is_file(path)) return path;
        free(path);
    }
    return NULL;
}

char *find_ending(const char *folder, const char *ending)
{
    struct dirent **list;
    int n = scandir(folder, &list, NULL, alphasort);
    char *found = NULL;
    for (int i = 0; i < n; i++) {
        const char *name = list[i]->d_name;
        const char *at = strstr(name, ending);
        const char *rest = at ? at + strlen(ending) : "";
        if (!found && at && (!*rest || !strcmp(rest, ".gz") || !strcmp(rest, ".zst")))
            found = path_join(folder, name);
        free(list[i]);
    }
    if (n >= 0) free(list);
    return found;
}

/* ---- recognition ---- */

struct candidate {
    const char *file; /* in the folder; starting with '*': an ending */
    enum format format;
};

/* In this order; the CSVs are looked into. */
static const struct candidate candidates[] = {
    {"history.jsonl", FORMAT_MOVIES}, {"*.inter", FORMAT_RECBOLE}, {"u.data", FORMAT_ML100K},
    {"ratings.dat", FORMAT_ML1M},     {"ratings.csv", FORMAT_CSV}, {"ratings.tsv", FORMAT_TSV},
    {"ratings.jsonl", FORMAT_JSONL},
};

static int detect_folder(struct source *s, const char *path, struct siren_error *err)
{
    struct buf looked = {0};
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        const char *file = candidates[i].file;
        char *found = *file == '*' ? find_ending(path, file + 1) : find_file(path, file);
        buf_printf(&looked, "%s%s", i ? ", " : "", file);
        if (!found) continue;
        s->format = candidates[i].format;
        s->path = found;
        if (s->format == FORMAT_MOVIES) {
            free(found);
            s->path = alloc_string(path, strlen(path));
        }
        buf_free(&looked);
        return s->path ? SIREN_OK : siren_fail_memory(err, "a path", strlen(path));
    }
    int code = siren_fail(err, SIREN_EFORMAT, "%s: no ratings in this folder: looked for %s", path,
                          buf_text(&looked));
    buf_free(&looked);
    return code;
}

static size_t count_of(const char *text, const char *part)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, part)); p += strlen(part)) n++;
    return n;
}

static enum format guess_line(char *line, size_t length)
{
    if (*line == '{') {
        int rating = strstr(line, "\"rating\"") != NULL, user = strstr(line, "\"user_id\"") != NULL;
        if (strstr(line, "\"history_asins\"")) return FORMAT_MOVIES;
        return rating && user && strstr(line, "\"parent_asin\"") ? FORMAT_AMAZON : FORMAT_JSONL;
    }
    if (strstr(line, ":token")) return FORMAT_RECBOLE;
    if (count_of(line, "::") == 3) return FORMAT_ML1M;
    if (!strncmp(line, "userId,movieId,rating", 21)) return FORMAT_MLLATEST;
    size_t tabs = count_of(line, "\t");
    if (tabs == 3 && strspn(line, "0123456789\t") == length) return FORMAT_ML100K;
    return tabs ? FORMAT_TSV : FORMAT_CSV;
}

int first_line(const char *path, enum siren_encoding encoding, struct text_line *out,
               struct siren_error *err)
{
    struct siren_lines *lines;
    char *text = "";
    size_t n = 0;
    int code = import_lines(&lines, path, encoding, err);
    if (code) return code;
    for (out->number = 1; (code = siren_lines_next(lines, &text, &n, err)) == 1 && n == 0;)
        out->number++;
    if (code >= 0) {
        out->length = code == 1 ? n : 0;
        out->text = alloc_string(code == 1 ? text : "", out->length);
        code = out->text ? SIREN_OK : siren_fail_memory(err, "a line", n);
    }
    siren_lines_close(lines);
    return code;
}

static int named_format(const char *name, enum format *format, struct siren_error *err)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if (!strcmp(name, names[i])) {
            *format = (enum format)i;
            return SIREN_OK;
        }
    return siren_fail(
        err, SIREN_EINVAL,
        "format '%.40s': expected movies, amazon, ml-100k, ml-1m, ml-latest, recbole, "
        "csv, tsv or jsonl",
        name);
}

int check_source(const char *path, struct siren_error *err)
{
    struct stat info;
    if (stat(path, &info))
        return siren_fail(err, errno == ENOENT ? SIREN_ENOTFOUND : SIREN_EIO, "%s: %s", path,
                          strerror(errno));
    if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) return SIREN_OK;
    return siren_fail(err, SIREN_EINVAL,
                      "%s: is a pipe or a device, expected a file: it is read more than once",
                      path);
}

int detect_format(struct source *s, const char *path, struct siren_error *err)
{
    int folder = is_folder(path), code = check_source(path, err);
    if (code) return code;
    if (folder)
        code = detect_folder(s, path, err);
    else if (!(s->path = alloc_string(path, strlen(path))))
        code = siren_fail_memory(err, "a path", strlen(path));
    if (code) return code;
    if (s->options->format) return named_format(s->options->format, &s->format, err);
    if (folder && s->format != FORMAT_CSV) return SIREN_OK;
    struct text_line line;
    enum siren_encoding any = SIREN_LATIN1; /* reads whatever it is: only to look */
    code = first_line(s->path, any, &line, err);
    if (code) return code;
    static const char mark[] = "\xc3\xaf\xc2\xbb\xc2\xbf"; /* a UTF-8 byte order mark, as Latin-1 */
    size_t skip = strncmp(line.text, mark, 6) ? 0 : 6;
    s->format = guess_line(line.text + skip, line.length - skip);
    free(line.text);
    if (s->format == FORMAT_MOVIES) { /* one file of the folder was given */
        char *whole = path_folder(s->path);
        free(s->path);
        s->path = whole;
    }
    return s->path ? SIREN_OK : siren_fail_memory(err, "a path", strlen(path));
}

/* ---- all of it ---- */

/* By the name of the file or its folder itself: RecBole's are called as GroupLens' sets. */
static int is_movielens(const char *path)
{
    return !strncmp(path_name(path), "ml-", 3);
}

static void choose_defaults(struct source *s)
{
    const struct siren_import_options *o = s->options;
    int films = s->format != FORMAT_AMAZON && s->format != FORMAT_CSV && s->format != FORMAT_TSV &&
                s->format != FORMAT_JSONL;
    int latin = s->format == FORMAT_ML100K || s->format == FORMAT_ML1M;
    if (s->format == FORMAT_RECBOLE) films = is_movielens(s->path);
    s->noun = o->noun ? o->noun : films ? "movie" : "item";
    s->encoding = o->encoding == SIREN_TEXT_LATIN1 || (latin && o->encoding == SIREN_TEXT_AUTO)
                      ? SIREN_LATIN1
                      : SIREN_UTF8;
    s->protocol = o->protocol >= 0             ? o->protocol
                  : s->format == FORMAT_MOVIES ? SIREN_PROTOCOL_PAPER
                                               : SIREN_PROTOCOL_FULL;
    s->k_core = o->k_core >= 0 ? o->k_core : s->format == FORMAT_MOVIES ? 0 : 5;
    s->scale = o->scale;
    if (s->scale.step > 0) return;
    if (s->format == FORMAT_MLLATEST)
        s->scale = (struct siren_scale){0.5, 5, 0.5};
    else if (s->format == FORMAT_MOVIES || s->format == FORMAT_AMAZON || latin)
        s->scale = (struct siren_scale){1, 5, 1};
}

static int check_word(const char *what, const char *text, size_t most, struct siren_error *err)
{
    size_t n = text ? strlen(text) : 1;
    if (n >= 1 && n <= most && (!text || utf8_valid_prefix(text, n) == n)) return SIREN_OK;
    return siren_fail(err, SIREN_EINVAL, "%s '%.80s': expected 1 to %zu bytes of UTF-8", what, text,
                      most);
}

static int check_options(const struct siren_import_options *o, enum format format,
                         struct siren_error *err)
{
    if (o->scale.step != 0 && siren_scale_check(&o->scale, err)) return SIREN_EINVAL;
    if (format == FORMAT_MOVIES && (o->k_core > 0 || o->split != SIREN_SPLIT_DEFAULT))
        return siren_fail(err, SIREN_EINVAL,
                          "the paper's Movies brings its own reduction and split: no k-core, no "
                          "other split");
    int code = check_word("separator", o->separator, 7, err);
    if (!code) code = check_word("list separator", o->list_separator, 7, err);
    if (!code) code = check_word("noun", o->noun, 63, err);
    if (code) return code;
    if (o->folds && (o->folds < 2 || o->folds > 254))
        return siren_fail(err, SIREN_EINVAL, "%d folds: expected 2 to 254", o->folds);
    return SIREN_OK;
}

int source_open(struct source *s, const char *path, struct siren_error *err)
{
    int code = detect_format(s, path, err);
    if (!code) code = check_options(s->options, s->format, err);
    if (code) return code;
    choose_defaults(s);
    s->layout = (struct layout){.user_at = -1, .item_at = -1, .rating_at = -1, .time_at = -1};
    s->hash = XXH3_createState();
    if (!s->hash) return siren_fail_memory(err, "a hash", 0);
    XXH3_64bits_reset(s->hash);
    code = find_layout(s, err);
    if (!code) code = find_items(s, err);
    if (!code) code = check_effect(s, err);
    if (code) return code;
    snprintf(s->report->format, sizeof s->report->format, "%s", names[s->format]);
    snprintf(s->report->items_file, sizeof s->report->items_file, "%s",
             s->items_path ? s->items_path : "");
    s->report->protocol = (enum siren_protocol)s->protocol;
    s->report->k_core = s->k_core;
    return SIREN_OK;
}

void source_close(struct source *s)
{
    free(s->path);
    free(s->items_path);
    buf_free(&s->names);
    XXH3_freeState(s->hash);
}
