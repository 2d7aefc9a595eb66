/* Sources of ratings.  The first byte chooses the format and the settings; the rest is the file of
 * ratings and, behind the first line "====", the items file (movies: history, train, valid, test).
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/memory_file.h"
#include "recs/import.h"

static int take_item(void *context, const struct siren_item *item, struct siren_error *err)
{
    size_t *bytes = context;
    *bytes += strlen(item->external) + strlen(item->description);
    if (item->title) *bytes += strlen(item->title);
    for (int i = 0; i < item->n_categories; i++) *bytes += strlen(item->categories[i]);
    for (int i = 0; i < item->n_features; i++) *bytes += strlen(item->features[i]);
    return SIREN_OK;
}

static void read_source(const char *path, const struct siren_import_options *options)
{
    struct siren_error err;
    struct siren_import_report report = {0};
    struct source s = {.options = options, .report = &report};
    struct raw_table t = {0};
    struct reduced reduced = {0};
    struct idmap texts = {0};
    size_t bytes = 0;
    char *json = NULL;
    int rc = source_open(&s, path, &err);
    if (!rc && s.format == FORMAT_MOVIES)
        rc = read_movies(&s, &t, &texts, &err);
    else if (!rc)
        rc = read_ratings(&s, &t, &err);
    if (!rc && s.format != FORMAT_MOVIES) rc = read_items(&s, take_item, &bytes, &err);
    if (!rc) rc = reduce(&s, &t, &reduced, &err);
    if (!rc) split_ratings(&s, &reduced.ratings, t.own_labels, &err);
    siren_import_report_json(&report, &json, &err);
    free(json);
    for (size_t i = 0; i < texts.n; i++) {
        size_t title, at, length = strlen(idmap_id(&texts, i));
        siren_movies_border(idmap_id(&texts, i), length, &title, &at);
        if (title > length || at > length) abort();
    }
    idmap_free(&texts);
    reduced_free(&reduced);
    raw_free(&t);
    source_close(&s);
}

/* A second file in memory, for the items. */
static int items_file(char path[64])
{
    static int fd = -1;
    if (fd < 0) fd = memfd_create("items", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET)) abort();
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

/* The next part: up to a line "====". */
static size_t part(const uint8_t *data, size_t size, size_t *next)
{
    const uint8_t *border = memmem(data, size, "\n====\n", 6);
    *next = border ? (size_t)(border - data) + 6 : size;
    return border ? (size_t)(border - data) + 1 : size;
}

static char folder[64];

static void remove_folder(void)
{
    static const char *const names[] = {"history", "train", "valid", "test"};
    char path[100];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s.jsonl", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void movies(const uint8_t *data, size_t size, struct siren_import_options *options)
{
    static const char *const names[] = {"history", "train", "valid", "test"};
    if (!*folder) {
        strcpy(folder,
               access("/dev/shm", W_OK) ? "/tmp/siren-fuzz-XXXXXX" : "/dev/shm/siren-fuzz-XXXXXX");
        if (!mkdtemp(folder)) abort();
        atexit(remove_folder);
    }
    for (int i = 0; i < 4; i++) {
        char path[100];
        size_t next, n = part(data, size, &next);
        snprintf(path, sizeof path, "%s/%s.jsonl", folder, names[i]);
        FILE *f = fopen(path, "wb");
        if (!f) abort();
        fwrite(data, 1, n, f);
        fclose(f);
        data += next;
        size -= next;
    }
    options->split = SIREN_SPLIT_DEFAULT;
    options->k_core = 0;
    read_source(folder, options);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {NULL,        "movies",  "amazon", "ml-100k", "ml-1m",
                                          "ml-latest", "recbole", "csv",    "tsv",     "jsonl"};
    struct siren_import_options options;
    char ratings[64], items[64];
    if (!size) return 0;
    int choice = data[0];
    siren_import_defaults(&options);
    options.format = formats[choice % 10];
    options.skip_bad = choice / 10 & 1;
    options.k_core = choice / 20 & 1;
    options.split = choice / 40 & 1 ? SIREN_SPLIT_TIME : SIREN_SPLIT_DEFAULT;
    options.folds = choice / 80 & 1 ? 2 : 0;
    data++;
    size--;
    if (choice % 10 == 1) {
        movies(data, size, &options);
        return 0;
    }
    size_t next, n = part(data, size, &next);
    int fd = memory_file(ratings), items_fd = items_file(items);
    memory_file_write(fd, data, n);
    if (size > next) memory_file_write(items_fd, data + next, size - next);
    options.items = size > next ? items : "";
    read_source(ratings, &options);
    return 0;
}
