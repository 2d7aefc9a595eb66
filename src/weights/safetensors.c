/* safetensors: header length u64, a JSON object, then the data.
 *
 *   {"__metadata__": {…}, NAME: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}
 *
 * The data is covered by the tensors without holes and without overlap. */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/path.h"
#include "weights/tensors_private.h"

#define HEADER_MAX 100000000 /* bytes, as in the reference implementation */
#define INDEX_MAX 100000000

static const struct {
    const char *dtype;
    enum tensor_type type;
} dtypes[] = {
    {"F32", TENSOR_F32}, {"F16", TENSOR_F16}, {"BF16", TENSOR_BF16},
    {"I64", TENSOR_I64}, {"I32", TENSOR_I32},
};

/* One file while it is read.  `data` is the part after the header. */
struct file {
    const char *path;
    const unsigned char *data;
    size_t size;
    size_t data_at; /* byte of the file where data begins */
    struct siren_error *err;
};

static int bad(const struct file *f, const char *name, const char *what)
{
    return siren_fail(f->err, SIREN_EFORMAT, "%s: tensor %s: %s", f->path,
                      tensors_show(name, strlen(name)).text, what);
}

static int read_dtype(const struct file *f, const char *name, const json_t *json,
                      enum tensor_type *type)
{
    const char *dtype = json_string_value(json);
    if (!dtype) return bad(f, name, "\"dtype\" is missing or no string");
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (!strcmp(dtypes[i].dtype, dtype)) {
            *type = dtypes[i].type;
            return SIREN_OK;
        }
    return siren_fail(f->err, SIREN_EUNSUPPORTED,
                      "%s: tensor %s: dtype \"%s\"; this program reads F32, F16, BF16, I64 and I32",
                      f->path, tensors_show(name, strlen(name)).text,
                      tensors_show(dtype, strlen(dtype)).text);
}

static int read_shape(const struct file *f, const char *name, const json_t *json, struct tensor *t)
{
    if (!json_is_array(json)) return bad(f, name, "\"shape\" is missing or no array");
    if (json_array_size(json) > 4) return bad(f, name, "more than 4 dimensions");
    t->n_dims = (int)json_array_size(json);
    for (int i = 0; i < t->n_dims; i++) {
        const json_t *dim = json_array_get(json, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return bad(f, name, "\"shape\" holds something that is no size");
        t->shape[i] = json_integer_value(dim);
    }
    return SIREN_OK;
}

static int read_offsets(const struct file *f, const char *name, const json_t *json,
                        struct tensor *t)
{
    const json_t *first = json_array_get(json, 0), *last = json_array_get(json, 1);
    if (json_array_size(json) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return bad(f, name, "\"data_offsets\" is no pair of integers");
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || (unsigned long long)end > f->size)
        return siren_fail(f->err, SIREN_EFORMAT,
                          "%s: tensor %s: data_offsets [%lld, %lld] do not lie in the %zu bytes of "
                          "data that begin at byte %zu",
                          f->path, tensors_show(name, strlen(name)).text, (long long)begin,
                          (long long)end, f->size, f->data_at);
    if ((size_t)(end - begin) != t->bytes)
        return siren_fail(
            f->err, SIREN_EFORMAT,
            "%s: tensor %s: data_offsets [%lld, %lld] span %lld bytes, but %s %s needs "
            "%zu",
            f->path, tensors_show(name, strlen(name)).text, (long long)begin, (long long)end,
            (long long)(end - begin), tensor_type_name(t->type),
            tensors_show_shape(t->n_dims, t->shape).text, t->bytes);
    t->data = f->data + begin;
    return SIREN_OK;
}

static int read_tensor(struct tensors *ts, const struct file *f, const char *name,
                       const json_t *json)
{
    struct tensor t = {0};
    if (!json_is_object(json)) return bad(f, name, "is no object");
    int code = read_dtype(f, name, json_object_get(json, "dtype"), &t.type);
    if (!code) code = read_shape(f, name, json_object_get(json, "shape"), &t);
    if (code) return code;
    if (tensor_size(t.type, t.n_dims, t.shape, &t.bytes))
        return bad(f, name, "its size does not fit 64 bits");
    code = read_offsets(f, name, json_object_get(json, "data_offsets"), &t);
    return code ? code : tensors_add(ts, name, strlen(name), &t, f->err);
}

static int by_place(const void *a, const void *b, void *context)
{
    const struct tensor *items = context;
    const struct tensor *x = &items[*(const size_t *)a], *y = &items[*(const size_t *)b];
    if (x->data != y->data) return x->data > y->data ? 1 : -1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The tensors from `from` on cover the file's data exactly. */
static int check_cover(const struct tensors *ts, size_t from, const struct file *f)
{
    size_t n = ts->count - from, *order = alloc_array(n, sizeof *order);
    if (!order) return siren_fail_memory(f->err, "the order of tensors", n * sizeof *order);
    for (size_t i = 0; i < n; i++) order[i] = from + i;
    qsort_r(order, n, sizeof *order, by_place, ts->items);
    size_t end = 0;
    int code = SIREN_OK;
    for (size_t i = 0; i < n && !code; i++) {
        const struct tensor *t = &ts->items[order[i]];
        size_t begin = (size_t)((const unsigned char *)t->data - f->data);
        if (begin != end)
            code =
                siren_fail(f->err, SIREN_EFORMAT,
                           "%s: byte %zu: tensor %s begins there, expected byte %zu (%s)", f->path,
                           f->data_at + begin, tensors_show(t->name, strlen(t->name)).text,
                           f->data_at + end, begin < end ? "tensors overlap" : "a hole");
        end = begin + t->bytes;
    }
    free(order);
    if (!code && end != f->size)
        code = siren_fail(f->err, SIREN_EFORMAT,
                          "%s: byte %zu: the last tensor ends there, but the file at byte %zu",
                          f->path, f->data_at + end, f->data_at + f->size);
    return code;
}

static int read_header(const struct siren_map *map, struct file *f, json_t **header)
{
    uint64_t length;
    if (map->size < sizeof length)
        return siren_fail(f->err, SIREN_EFORMAT,
                          "%s: %zu bytes, expected at least the 8 of a safetensors header's length",
                          f->path, map->size);
    memcpy(&length, map->data, sizeof length);
    if (length > HEADER_MAX || length > map->size - sizeof length)
        return siren_fail(
            f->err, SIREN_EFORMAT,
            "%s: byte 0: a header of %llu bytes; %zu bytes are left and %d are allowed", f->path,
            (unsigned long long)length, map->size - sizeof length, HEADER_MAX);
    f->data_at = sizeof length + (size_t)length;
    f->data = map->data + f->data_at;
    f->size = map->size - f->data_at;
    json_error_t e;
    *header = json_loadb((const char *)map->data + sizeof length, (size_t)length,
                         JSON_REJECT_DUPLICATES, &e);
    if (!*header)
        return siren_fail(f->err, SIREN_EFORMAT, "%s: byte %zu: the header is no JSON: %s", f->path,
                          sizeof length + (size_t)(e.position > 0 ? e.position : 0),
                          tensors_show(e.text, strlen(e.text)).text);
    if (!json_is_object(*header)) {
        json_decref(*header);
        return siren_fail(f->err, SIREN_EFORMAT, "%s: byte 8: the header is no JSON object",
                          f->path);
    }
    return SIREN_OK;
}

int safetensors_open(struct tensors *ts, const char *path, struct siren_error *err)
{
    struct siren_map map;
    struct file f = {.path = path, .err = err};
    json_t *header = NULL, *value;
    const char *name;
    int code = tensors_map(ts, path, &map, err);
    if (!code) code = read_header(&map, &f, &header);
    if (code) return code;
    size_t from = ts->count;
    json_object_foreach(header, name, value)
    {
        if (!code && strcmp(name, "__metadata__")) code = read_tensor(ts, &f, name, value);
    }
    json_t *metadata = json_object_get(header, "__metadata__");
    if (!ts->metadata && json_is_object(metadata)) ts->metadata = json_incref(metadata);
    json_decref(header);
    return code ? code : check_cover(ts, from, &f);
}

const char *safetensors_metadata(const struct tensors *ts, const char *key)
{
    return json_string_value(json_object_get(ts->metadata, key));
}

void safetensors_free(struct tensors *ts)
{
    json_decref(ts->metadata);
}

/* ---- folders ------------------------------------------------------------ */

/* A shard's name from the index: a file in the same folder, nothing else. */
static int shard_name_ok(const char *name)
{
    return name && *name && *name != '.' && !strchr(name, '/');
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int open_shards(struct tensors *ts, const char *folder, const char **files, size_t n,
                       struct siren_error *err)
{
    int code = SIREN_OK;
    qsort(files, n, sizeof *files, compare_names);
    for (size_t i = 0; i < n && !code; i++) {
        if (i && !strcmp(files[i], files[i - 1])) continue;
        char *path = path_join(folder, files[i]);
        code = path ? safetensors_open(ts, path, err)
                    : siren_fail_memory(err, "a path", strlen(folder));
        free(path);
    }
    return code;
}

/* Every tensor that the index promises was in some shard. */
static int check_promised(const struct tensors *ts, const char *index, json_t *map,
                          struct siren_error *err)
{
    size_t n = ts->count;
    const char **names = alloc_array(n, sizeof *names), *name;
    if (!names) return siren_fail_memory(err, "the names of tensors", n * sizeof *names);
    for (size_t i = 0; i < n; i++) names[i] = ts->items[i].name;
    qsort(names, n, sizeof *names, compare_names);
    json_t *file;
    int code = SIREN_OK;
    json_object_foreach(map, name, file)
    {
        if (!code && !bsearch(&name, names, n, sizeof *names, compare_names))
            code =
                siren_fail(err, SIREN_EFORMAT,
                           "%s: tensor %s is in none of the shards (expected "
                           "in %s)",
                           index, tensors_show(name, strlen(name)).text, json_string_value(file));
    }
    free(names);
    return code;
}

static int open_index(struct tensors *ts, const char *folder, const char *index, json_t *root,
                      struct siren_error *err)
{
    json_t *map = json_object_get(root, "weight_map"), *value;
    size_t n = json_object_size(map), i = 0;
    if (!json_is_object(map) || !n)
        return siren_fail(err, SIREN_EFORMAT, "%s: no object \"weight_map\" with entries", index);
    const char **files = alloc_array(n, sizeof *files), *name;
    if (!files) return siren_fail_memory(err, "the list of shards", n * sizeof *files);
    int code = SIREN_OK;
    json_object_foreach(map, name, value)
    {
        files[i] = json_string_value(value);
        if (!code && !shard_name_ok(files[i]))
            code = siren_fail(err, SIREN_EFORMAT,
                              "%s: weight_map of %s is no name of a file in this "
                              "folder",
                              index, tensors_show(name, strlen(name)).text);
        i++;
    }
    if (!code) code = open_shards(ts, folder, files, n, err);
    if (!code) code = check_promised(ts, index, map, err);
    free(files);
    return code;
}

static int read_index(struct tensors *ts, const char *folder, const char *index,
                      struct siren_error *err)
{
    char *text;
    size_t size;
    int code = siren_file_read(&text, &size, index, INDEX_MAX, err);
    if (code) return code;
    json_error_t e;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &e);
    free(text);
    if (!root)
        return siren_fail(err, SIREN_EFORMAT, "%s:%d: no JSON: %s", index, e.line,
                          tensors_show(e.text, strlen(e.text)).text);
    code = open_index(ts, folder, index, root, err);
    json_decref(root);
    return code;
}

/* A folder without safetensors: say what lies there instead. */
static int nothing_there(const char *folder, struct siren_error *err)
{
    char gguf[256] = "";
    int pickle = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        if (n > 5 && n < sizeof gguf && !strcmp(e->d_name + n - 5, ".gguf"))
            memcpy(gguf, e->d_name, n + 1);
        pickle |= !strcmp(e->d_name, "pytorch_model.bin");
    }
    if (dir) closedir(dir);
    return siren_fail(err, SIREN_ENOTFOUND,
                      "%s: holds neither model.safetensors nor model.safetensors.index.json%s%s%s",
                      folder, *gguf ? "; give the file itself: " : "", gguf,
                      *gguf    ? ""
                      : pickle ? "; pytorch_model.bin is a Python program, save the model as "
                                 "safetensors"
                               : "");
}

int safetensors_open_folder(struct tensors *ts, const char *folder, struct siren_error *err)
{
    struct buf file = {0}, index = {0};
    struct stat st;
    buf_printf(&file, "%s/model.safetensors", folder);
    buf_printf(&index, "%s/model.safetensors.index.json", folder);
    int code;
    if (buf_failed(&file) || buf_failed(&index))
        code = siren_fail_memory(err, "a path", strlen(folder));
    else if (!stat(file.data, &st))
        code = safetensors_open(ts, file.data, err);
    else if (!stat(index.data, &st))
        code = read_index(ts, folder, index.data, err);
    else
        code = nothing_there(folder, err);
    buf_free(&file);
    buf_free(&index);
    return code;
}
