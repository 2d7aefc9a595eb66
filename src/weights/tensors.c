/* The table of a model's tensors: opening by content, lookup, content hash. */
#include "weights/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "weights/tensors_private.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "model files are little-endian and are used in place: this needs a little-endian machine"
#endif

static const struct {
    const char *name;
    int block, bytes;
} types[TENSOR_TYPES] = {
    [TENSOR_F32] = {"F32", 1, 4},       [TENSOR_F16] = {"F16", 1, 2},
    [TENSOR_BF16] = {"BF16", 1, 2},     [TENSOR_Q8_0] = {"Q8_0", 32, 34},
    [TENSOR_Q4_0] = {"Q4_0", 32, 18},   [TENSOR_Q4_1] = {"Q4_1", 32, 20},
    [TENSOR_Q5_0] = {"Q5_0", 32, 22},   [TENSOR_Q5_1] = {"Q5_1", 32, 24},
    [TENSOR_Q4_K] = {"Q4_K", 256, 144}, [TENSOR_Q5_K] = {"Q5_K", 256, 176},
    [TENSOR_Q6_K] = {"Q6_K", 256, 210}, [TENSOR_I64] = {"I64", 1, 8},
    [TENSOR_I32] = {"I32", 1, 4},
};

const char *tensor_type_name(enum tensor_type type)
{
    return (unsigned)type < TENSOR_TYPES ? types[type].name : "?";
}

int tensor_type_block(enum tensor_type type)
{
    return (unsigned)type < TENSOR_TYPES ? types[type].block : 1;
}

int tensor_type_bytes(enum tensor_type type)
{
    return (unsigned)type < TENSOR_TYPES ? types[type].bytes : 0;
}

int tensor_size(enum tensor_type type, int n_dims, const int64_t *shape, size_t *bytes)
{
    size_t block = (size_t)types[type].block;
    size_t last = n_dims ? (size_t)shape[n_dims - 1] : 1;
    if (last % block) return -1;
    /* The element count is bounded too, so that indices into the tensor fit an int64_t. */
    int64_t elements = 1;
    for (int i = 0; i < n_dims; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(elements, shape[i], &elements)) return -1;
    size_t blocks = (size_t)elements / block;
    return __builtin_mul_overflow(blocks, (size_t)types[type].bytes, bytes) ? -1 : 0;
}

struct shown tensors_show(const char *text, size_t length)
{
    struct shown s;
    size_t n = length < sizeof s.text - 1 ? length : sizeof s.text - 1;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        s.text[i] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    s.text[n] = 0;
    if (n < length) memcpy(s.text + n - 3, "...", 3);
    return s;
}

struct shown tensors_show_shape(int n_dims, const int64_t *shape)
{
    struct shown s;
    size_t at = 0;
    s.text[at++] = '[';
    for (int i = 0; i < n_dims && at < sizeof s.text - 2; i++) {
        int n =
            snprintf(s.text + at, sizeof s.text - at, "%s%lld", i ? ", " : "", (long long)shape[i]);
        at += n > 0 ? (size_t)n : 0;
    }
    if (at > sizeof s.text - 2) at = sizeof s.text - 2;
    memcpy(s.text + at, "]", 2);
    return s;
}

int tensors_map(struct tensors *ts, const char *path, struct siren_map *out,
                struct siren_error *err)
{
    if (alloc_grow(&ts->maps, &ts->maps_capacity, ts->n_maps + 1, sizeof *ts->maps))
        return siren_fail_memory(err, "the list of model files", sizeof *ts->maps);
    int code = siren_map_open(&ts->maps[ts->n_maps], path, err);
    if (code) return code;
    *out = ts->maps[ts->n_maps++];
    return SIREN_OK;
}

int tensors_add(struct tensors *ts, const char *name, size_t length, const struct tensor *t,
                struct siren_error *err)
{
    if (alloc_grow(&ts->items, &ts->capacity, ts->count + 1, sizeof *ts->items))
        return siren_fail_memory(err, "the table of tensors", ts->count * sizeof *ts->items);
    char *copy = alloc_string(name, length);
    if (!copy) return siren_fail_memory(err, "a tensor's name", length);
    ts->items[ts->count] = *t;
    ts->items[ts->count++].name = copy;
    return SIREN_OK;
}

static int by_name(const void *a, const void *b, void *context)
{
    const struct tensor *items = context;
    return strcmp(items[*(const size_t *)a].name, items[*(const size_t *)b].name);
}

/* Sort the index of names and refuse a name that stands twice. */
static int index_names(struct tensors *ts, struct siren_error *err)
{
    ts->by_name = alloc_array(ts->count, sizeof *ts->by_name);
    if (!ts->by_name)
        return siren_fail_memory(err, "the index of tensors", ts->count * sizeof *ts->by_name);
    for (size_t i = 0; i < ts->count; i++) ts->by_name[i] = i;
    qsort_r(ts->by_name, ts->count, sizeof *ts->by_name, by_name, ts->items);
    for (size_t i = 1; i < ts->count; i++) {
        const char *name = ts->items[ts->by_name[i]].name;
        if (!strcmp(ts->items[ts->by_name[i - 1]].name, name))
            return siren_fail(err, SIREN_EFORMAT, "%s: tensor \"%s\" stands there twice", ts->path,
                              tensors_show(name, strlen(name)).text);
    }
    return SIREN_OK;
}

/* GGUF says so in its first bytes; safetensors begins with a length and '{'. */
static int open_file(struct tensors *ts, const char *path, struct siren_error *err)
{
    FILE *f = fopen(path, "rb");
    if (!f) return siren_fail(err, SIREN_EIO, "%s: cannot be opened: %m", path);
    unsigned char head[9] = {0};
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    if (n >= 4 && !memcmp(head, "GGUF", 4)) return gguf_open(ts, path, err);
    if (n == sizeof head && head[8] == '{') return safetensors_open(ts, path, err);
    return siren_fail(err, SIREN_EFORMAT,
                      "%s: byte 0: neither a GGUF file (\"GGUF\") nor a safetensors file (a header "
                      "that begins with '{' at byte 8)%s",
                      path, n < sizeof head ? "; the file is nearly empty" : "");
}

int tensors_open(struct tensors **out, const char *path, struct siren_error *err)
{
    *out = NULL;
    struct stat st;
    if (stat(path, &st)) return siren_fail(err, SIREN_ENOTFOUND, "%s: no model there: %m", path);
    struct tensors *ts = alloc_zeroed(1, sizeof *ts);
    if (!ts) return siren_fail_memory(err, "a model's table", sizeof *ts);
    ts->path = alloc_string(path, strlen(path));
    int code = ts->path ? SIREN_OK : siren_fail_memory(err, "a path", strlen(path));
    if (!code)
        code =
            S_ISDIR(st.st_mode) ? safetensors_open_folder(ts, path, err) : open_file(ts, path, err);
    if (!code) code = index_names(ts, err);
    if (code) {
        tensors_close(ts);
        return code;
    }
    *out = ts;
    return SIREN_OK;
}

static int ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n >= m && !strcmp(path + n - m, end);
}

/* The length of the header, which is in the file, before its '{'. */
static int is_safetensors(const char *path, uint64_t size)
{
    unsigned char head[9] = {0};
    uint64_t length = 0;
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    if (f) fclose(f);
    for (int i = 8; i-- > 0;) length = length << 8 | head[i];
    return n == sizeof head && memcmp(head, "GGUF", 4) && head[8] == '{' && length < size;
}

int tensors_check_model(const char *path, struct siren_error *err)
{
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return SIREN_OK; /* opening tells what is wrong */
    if (!ends_with(path, ".json") && !ends_with(path, ".safetensors") &&
        !is_safetensors(path, (uint64_t)st.st_size))
        return SIREN_OK;
    return siren_fail(err, SIREN_EINVAL,
                      "%s: found a file of a model's folder, expected the folder (config.json, "
                      "safetensors, tokenizer.json) or a .gguf file",
                      path);
}

int tensors_open_model(struct tensors **out, const char *path, struct siren_error *err)
{
    *out = NULL;
    int code = tensors_check_model(path, err);
    return code ? code : tensors_open(out, path, err);
}

void tensors_release(const struct tensors *ts)
{
    for (size_t i = 0; i < ts->n_maps; i++) siren_map_release(&ts->maps[i]);
}

void tensors_close(struct tensors *ts)
{
    if (!ts) return;
    for (size_t i = 0; i < ts->count; i++) free((char *)ts->items[i].name);
    for (size_t i = 0; i < ts->n_maps; i++) siren_map_close(&ts->maps[i]);
    gguf_free(ts);
    safetensors_free(ts);
    free(ts->items);
    free(ts->by_name);
    free(ts->maps);
    free(ts->path);
    free(ts);
}

size_t tensors_count(const struct tensors *ts)
{
    return ts->count;
}

const struct tensor *tensors_at(const struct tensors *ts, size_t index)
{
    return index < ts->count ? &ts->items[index] : NULL;
}

const struct tensor *tensors_find(const struct tensors *ts, const char *name)
{
    size_t low = 0, high = ts->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct tensor *t = &ts->items[ts->by_name[middle]];
        int order = strcmp(name, t->name);
        if (!order) return t;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *tensors_path(const struct tensors *ts)
{
    return ts->path;
}

int tensors_is_gguf(const struct tensors *ts)
{
    return ts->is_gguf;
}

/* In the order of the names, each field preceded by its size: two models have one hash
 * only if they hold the same tensors, whatever the order in their files or the shards. */
int tensors_hash(const struct tensors *ts, char hex[33], struct siren_error *err)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) return siren_fail_memory(err, "the state of a hash", 576);
    XXH3_128bits_reset(state);
    for (size_t i = 0; i < ts->count; i++) {
        const struct tensor *t = &ts->items[ts->by_name[i]];
        char head[128];
        int n = snprintf(head, sizeof head, "%zu:%s:%d:%zu", strlen(t->name),
                         tensor_type_name(t->type), t->n_dims, t->bytes);
        XXH3_128bits_update(state, head, (size_t)n + 1);
        XXH3_128bits_update(state, t->name, strlen(t->name));
        XXH3_128bits_update(state, t->shape, (size_t)t->n_dims * sizeof *t->shape);
        if (t->bytes) XXH3_128bits_update(state, t->data, t->bytes);
    }
    XXH128_hash_t h = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(hex, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
    return SIREN_OK;
}
