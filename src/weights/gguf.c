/* GGUF v3: header, metadata, tensor infos, then data.
 *
 *   "GGUF" | version u32 | n_tensors u64 | n_metadata u64
 *   metadata: key string | type u32 | value        string: length u64, bytes
 *   tensors:  name string | n_dims u32 | dims u64 (innermost first) | type u32 | offset u64
 *   padding to general.alignment (32 unless said) | data, offsets from here
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "weights/tensors_private.h"

enum wire {
    WIRE_U8,
    WIRE_I8,
    WIRE_U16,
    WIRE_I16,
    WIRE_U32,
    WIRE_I32,
    WIRE_F32,
    WIRE_BOOL,
    WIRE_STRING,
    WIRE_ARRAY,
    WIRE_U64,
    WIRE_I64,
    WIRE_F64,
    WIRE_TYPES
};

static const struct {
    enum gguf_kind kind;
    unsigned char bytes; /* 0: of no fixed size */
} wires[WIRE_TYPES] = {
    [WIRE_U8] = {GGUF_UINT, 1},     [WIRE_I8] = {GGUF_INT, 1},    [WIRE_U16] = {GGUF_UINT, 2},
    [WIRE_I16] = {GGUF_INT, 2},     [WIRE_U32] = {GGUF_UINT, 4},  [WIRE_I32] = {GGUF_INT, 4},
    [WIRE_F32] = {GGUF_FLOAT, 4},   [WIRE_BOOL] = {GGUF_BOOL, 1}, [WIRE_STRING] = {GGUF_STRING, 0},
    [WIRE_ARRAY] = {GGUF_ARRAY, 0}, [WIRE_U64] = {GGUF_UINT, 8},  [WIRE_I64] = {GGUF_INT, 8},
    [WIRE_F64] = {GGUF_FLOAT, 8},
};

/* ggml's numbers; what is not here is named in the message by number. */
static const struct {
    int ggml;
    enum tensor_type type;
} ggml_types[] = {
    {0, TENSOR_F32},  {1, TENSOR_F16},  {2, TENSOR_Q4_0},  {3, TENSOR_Q4_1},  {6, TENSOR_Q5_0},
    {7, TENSOR_Q5_1}, {8, TENSOR_Q8_0}, {12, TENSOR_Q4_K}, {13, TENSOR_Q5_K}, {14, TENSOR_Q6_K},
    {26, TENSOR_I32}, {27, TENSOR_I64}, {30, TENSOR_BF16},
};

struct reader {
    const char *path;
    const unsigned char *data;
    size_t size, at;
    struct siren_error *err;
};

/* `what` is what is being read, for the message. */
static int need(const struct reader *r, uint64_t bytes, const char *what)
{
    if (bytes <= r->size - r->at) return SIREN_OK;
    return siren_fail(r->err, SIREN_EFORMAT,
                      "%s: byte %zu: %s needs %llu bytes, but the file ends after %zu more",
                      r->path, r->at, what, (unsigned long long)bytes, r->size - r->at);
}

static int read_bytes(struct reader *r, void *out, size_t bytes, const char *what)
{
    int code = need(r, bytes, what);
    if (code) return code;
    memcpy(out, r->data + r->at, bytes);
    r->at += bytes;
    return SIREN_OK;
}

static int read_string(struct reader *r, const char **text, size_t *length, const char *what)
{
    uint64_t n;
    int code = read_bytes(r, &n, sizeof n, what);
    if (!code) code = need(r, n, what);
    if (code) return code;
    *text = (const char *)r->data + r->at;
    *length = (size_t)n;
    r->at += (size_t)n;
    return SIREN_OK;
}

/* A key or a tensor's name: fit to be a C string. */
static int read_name(struct reader *r, const char **text, size_t *length, const char *what)
{
    size_t at = r->at;
    int code = read_string(r, text, length, what);
    if (code) return code;
    if (*length == 0 || *length > 65535 || memchr(*text, 0, *length))
        return siren_fail(r->err, SIREN_EFORMAT,
                          "%s: byte %zu: %s of %zu bytes, expected 1 to 65535 without a NUL",
                          r->path, at, what, *length);
    return SIREN_OK;
}

/* A number or truth value at `at`; the sizes were checked by the caller. */
static void decode_scalar(enum wire wire, const unsigned char *at, struct gguf_value *v)
{
    v->kind = wires[wire].kind;
    uint64_t raw = 0;
    memcpy(&raw, at, wires[wire].bytes);
    int unused = 64 - 8 * wires[wire].bytes;
    float f;
    switch (v->kind) {
    case GGUF_INT:
        v->i = (int64_t)(raw << unused) >> unused;
        v->u = (uint64_t)v->i;
        v->f = (double)v->i;
        break;
    case GGUF_FLOAT:
        memcpy(&f, at, sizeof f);
        if (wire == WIRE_F32)
            v->f = f;
        else
            memcpy(&v->f, at, sizeof v->f);
        break;
    default:
        v->u = raw;
        v->i = (int64_t)raw;
        v->f = (double)raw;
    }
}

/* The places of an array's strings, so that gguf_item() finds one at once. */
static int index_strings(struct reader *r, struct gguf_value *v, const char *key)
{
    const unsigned char **places = alloc_array((size_t)v->n_items, sizeof *places);
    if (!places) return siren_fail_memory(r->err, key, v->n_items * sizeof *places);
    v->items = places;
    for (uint64_t i = 0; i < v->n_items; i++) {
        const char *text;
        size_t length;
        places[i] = r->data + r->at;
        int code = read_string(r, &text, &length, key);
        if (code) return code;
    }
    return SIREN_OK;
}

static int read_array(struct reader *r, struct gguf_value *v, const char *key)
{
    size_t at = r->at;
    uint32_t wire;
    int code = read_bytes(r, &wire, sizeof wire, key);
    if (!code) code = read_bytes(r, &v->n_items, sizeof v->n_items, key);
    if (code) return code;
    if (wire == WIRE_ARRAY)
        return siren_fail(r->err, SIREN_EUNSUPPORTED,
                          "%s: byte %zu: %s is an array of arrays, which no known model uses",
                          r->path, at, key);
    if (wire >= WIRE_TYPES)
        return siren_fail(r->err, SIREN_EFORMAT,
                          "%s: byte %zu: %s has items of type %u, expected "
                          "0 to 12",
                          r->path, at, key, wire);
    v->item_wire_type = (int)wire;
    v->item_kind = wires[wire].kind;
    uint64_t least, size = wires[wire].bytes ? wires[wire].bytes : 8; /* a string's length */
    if (__builtin_mul_overflow(v->n_items, size, &least)) least = UINT64_MAX;
    code = need(r, least, key);
    if (code) return code;
    if (wire == WIRE_STRING) return index_strings(r, v, key);
    v->items = r->data + r->at;
    r->at += (size_t)least;
    return SIREN_OK;
}

static int read_value(struct reader *r, struct gguf_value *v, const char *key)
{
    size_t at = r->at;
    uint32_t wire;
    int code = read_bytes(r, &wire, sizeof wire, key);
    if (code) return code;
    if (wire >= WIRE_TYPES)
        return siren_fail(r->err, SIREN_EFORMAT,
                          "%s: byte %zu: %s has a value of type %u, expected 0 to 12", r->path, at,
                          key, wire);
    v->kind = wires[wire].kind;
    if (wire == WIRE_ARRAY) return read_array(r, v, key);
    if (wire == WIRE_STRING) return read_string(r, &v->text, &v->length, key);
    code = need(r, wires[wire].bytes, key);
    if (code) return code;
    decode_scalar((enum wire)wire, r->data + r->at, v);
    r->at += wires[wire].bytes;
    return SIREN_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct gguf_entry *)a)->key, ((const struct gguf_entry *)b)->key);
}

static int read_metadata(struct tensors *ts, struct reader *r, uint64_t n)
{
    /* key length, one byte of key, type, one byte of value: a bound before allocating */
    if (n > (r->size - r->at) / 14)
        return siren_fail(r->err, SIREN_EFORMAT,
                          "%s: byte 16: %llu metadata entries cannot stand in the %zu bytes left",
                          r->path, (unsigned long long)n, r->size - r->at);
    ts->meta = alloc_zeroed((size_t)n, sizeof *ts->meta);
    if (!ts->meta) return siren_fail_memory(r->err, "GGUF metadata", n * sizeof *ts->meta);
    for (uint64_t i = 0; i < n; i++) {
        const char *key;
        size_t length;
        int code = read_name(r, &key, &length, "a metadata key");
        if (code) return code;
        struct gguf_entry *e = &ts->meta[ts->n_meta];
        e->key = alloc_string(key, length);
        if (!e->key) return siren_fail_memory(r->err, "a metadata key", length);
        ts->n_meta++;
        code = read_value(r, &e->value, tensors_show(key, length).text);
        if (code) return code;
    }
    qsort(ts->meta, ts->n_meta, sizeof *ts->meta, by_key);
    for (size_t i = 1; i < ts->n_meta; i++)
        if (!strcmp(ts->meta[i - 1].key, ts->meta[i].key))
            return siren_fail(r->err, SIREN_EFORMAT, "%s: metadata key \"%s\" stands there twice",
                              r->path, tensors_show(ts->meta[i].key, strlen(ts->meta[i].key)).text);
    return SIREN_OK;
}

static int read_type(const struct reader *r, uint32_t ggml, const char *name,
                     enum tensor_type *type)
{
    for (size_t i = 0; i < sizeof ggml_types / sizeof *ggml_types; i++)
        if ((uint32_t)ggml_types[i].ggml == ggml) {
            *type = ggml_types[i].type;
            return SIREN_OK;
        }
    return siren_fail(
        r->err, SIREN_EUNSUPPORTED,
        "%s: byte %zu: tensor %s has ggml type %u; this program reads F32, F16, BF16, "
        "Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K",
        r->path, r->at - 12, name, ggml);
}

/* Dimensions stand innermost first in the file, outermost first in struct tensor. */
static int read_shape(struct reader *r, struct tensor *t, const char *name)
{
    size_t at = r->at;
    uint32_t n_dims;
    int code = read_bytes(r, &n_dims, sizeof n_dims, name);
    if (code) return code;
    if (n_dims > 4)
        return siren_fail(r->err, SIREN_EFORMAT,
                          "%s: byte %zu: tensor %s has %u dimensions, expected at most 4", r->path,
                          at, name, n_dims);
    t->n_dims = (int)n_dims;
    for (int i = t->n_dims - 1; i >= 0; i--) {
        uint64_t dim;
        code = read_bytes(r, &dim, sizeof dim, name);
        if (code) return code;
        if (dim < 1 || dim > INT64_MAX)
            return siren_fail(r->err, SIREN_EFORMAT,
                              "%s: byte %zu: tensor %s has a dimension of %llu", r->path, r->at - 8,
                              name, (unsigned long long)dim);
        t->shape[i] = (int64_t)dim;
    }
    return SIREN_OK;
}

/* One tensor info; data holds the offset until the data section's start is known. */
static int read_tensor(struct tensors *ts, struct reader *r, uint64_t *offset)
{
    const char *text;
    size_t length, at = r->at;
    int code = read_name(r, &text, &length, "a tensor's name");
    if (code) return code;
    struct shown name = tensors_show(text, length);
    struct tensor t = {0};
    uint32_t ggml;
    code = read_shape(r, &t, name.text);
    if (!code) code = read_bytes(r, &ggml, sizeof ggml, name.text);
    if (!code) code = read_bytes(r, offset, sizeof *offset, name.text);
    if (!code) code = read_type(r, ggml, name.text, &t.type);
    if (code) return code;
    if (tensor_size(t.type, t.n_dims, t.shape, &t.bytes))
        return siren_fail(
            r->err, SIREN_EFORMAT,
            "%s: byte %zu: tensor %s: shape %s does not fit type %s (rows are multiples "
            "of %d; sizes fit 64 bits)",
            r->path, at, name.text, tensors_show_shape(t.n_dims, t.shape).text,
            tensor_type_name(t.type), tensor_type_block(t.type));
    return tensors_add(ts, text, length, &t, r->err);
}

/* Offsets of all tensors against the data section [start, size). */
static int place_tensors(struct tensors *ts, const struct reader *r, const uint64_t *offsets,
                         size_t start, uint64_t alignment)
{
    size_t room = r->size > start ? r->size - start : 0;
    for (size_t i = 0; i < ts->count; i++) {
        struct tensor *t = &ts->items[i];
        const char *name = t->name;
        if (offsets[i] % alignment)
            return siren_fail(r->err, SIREN_EFORMAT,
                              "%s: tensor %s: offset %llu is not a multiple of the alignment %llu",
                              r->path, tensors_show(name, strlen(name)).text,
                              (unsigned long long)offsets[i], (unsigned long long)alignment);
        if (offsets[i] > room || t->bytes > room - offsets[i])
            return siren_fail(
                r->err, SIREN_EFORMAT,
                "%s: tensor %s: %zu bytes at offset %llu (byte %llu) reach beyond the "
                "end of the file at byte %zu",
                r->path, tensors_show(name, strlen(name)).text, t->bytes,
                (unsigned long long)offsets[i], (unsigned long long)start + offsets[i], r->size);
        t->data = r->data + start + offsets[i];
    }
    return SIREN_OK;
}

static int by_place(const void *a, const void *b, void *context)
{
    const struct tensor *items = context;
    const struct tensor *x = &items[*(const size_t *)a], *y = &items[*(const size_t *)b];
    return (x->data > y->data) - (x->data < y->data);
}

static int check_overlap(struct tensors *ts, const struct reader *r)
{
    size_t *order = alloc_array(ts->count, sizeof *order);
    if (!order) return siren_fail_memory(r->err, "the order of tensors", ts->count * sizeof *order);
    for (size_t i = 0; i < ts->count; i++) order[i] = i;
    qsort_r(order, ts->count, sizeof *order, by_place, ts->items);
    int code = SIREN_OK;
    for (size_t i = 1; i < ts->count && !code; i++) {
        const struct tensor *a = &ts->items[order[i - 1]], *b = &ts->items[order[i]];
        if ((const unsigned char *)a->data + a->bytes > (const unsigned char *)b->data)
            code = siren_fail(r->err, SIREN_EFORMAT, "%s: byte %zu: tensors %s and %s overlap",
                              r->path, (size_t)((const unsigned char *)b->data - r->data),
                              tensors_show(a->name, strlen(a->name)).text,
                              tensors_show(b->name, strlen(b->name)).text);
    }
    free(order);
    return code;
}

static int read_alignment(const struct tensors *ts, const struct reader *r, uint64_t *alignment)
{
    const struct gguf_value *v = gguf_find(ts, "general.alignment");
    *alignment = 32;
    if (!v) return SIREN_OK;
    if (v->kind != GGUF_UINT || v->u < 8 || v->u > 1 << 20 || (v->u & (v->u - 1)))
        return siren_fail(
            r->err, SIREN_EFORMAT,
            "%s: general.alignment is %llu, expected a power of two from 8 to 1048576", r->path,
            (unsigned long long)v->u);
    *alignment = v->u;
    return SIREN_OK;
}

static int read_tensors(struct tensors *ts, struct reader *r, uint64_t n)
{
    /* name length, one byte of name, n_dims, type, offset */
    if (n > (r->size - r->at) / 25)
        return siren_fail(r->err, SIREN_EFORMAT,
                          "%s: byte 8: %llu tensors cannot stand in the %zu bytes left", r->path,
                          (unsigned long long)n, r->size - r->at);
    uint64_t alignment, *offsets = alloc_array((size_t)n, sizeof *offsets);
    if (!offsets) return siren_fail_memory(r->err, "tensor offsets", n * sizeof *offsets);
    int code = read_alignment(ts, r, &alignment);
    for (uint64_t i = 0; i < n && !code; i++) code = read_tensor(ts, r, &offsets[i]);
    if (!code) {
        size_t start = (r->at + (size_t)alignment - 1) & ~((size_t)alignment - 1);
        code = place_tensors(ts, r, offsets, start, alignment);
    }
    if (!code) code = check_overlap(ts, r);
    free(offsets);
    return code;
}

static int read_header(struct reader *r, uint64_t *n_tensors, uint64_t *n_metadata)
{
    char magic[4];
    uint32_t version;
    int code = read_bytes(r, magic, sizeof magic, "the GGUF header");
    if (!code) code = read_bytes(r, &version, sizeof version, "the GGUF header");
    if (!code) code = read_bytes(r, n_tensors, sizeof *n_tensors, "the GGUF header");
    if (!code) code = read_bytes(r, n_metadata, sizeof *n_metadata, "the GGUF header");
    if (code) return code;
    if (version != 3)
        return siren_fail(r->err, SIREN_EUNSUPPORTED, "%s: byte 4: GGUF version %u%s, expected 3",
                          r->path, version, version == 3u << 24 ? " (a big-endian file)" : "");
    return SIREN_OK;
}

int gguf_open(struct tensors *ts, const char *path, struct siren_error *err)
{
    struct siren_map map;
    int code = tensors_map(ts, path, &map, err);
    if (code) return code;
    struct reader r = {path, map.data, map.size, 0, err};
    uint64_t n_tensors, n_metadata;
    ts->is_gguf = 1;
    code = read_header(&r, &n_tensors, &n_metadata);
    if (!code) code = read_metadata(ts, &r, n_metadata);
    if (!code) code = read_tensors(ts, &r, n_tensors);
    return code;
}

void gguf_free(struct tensors *ts)
{
    for (size_t i = 0; i < ts->n_meta; i++) {
        struct gguf_value *v = &ts->meta[i].value;
        if (v->kind == GGUF_ARRAY && v->item_kind == GGUF_STRING) free((void *)v->items);
        free(ts->meta[i].key);
    }
    free(ts->meta);
    ts->meta = NULL;
    ts->n_meta = 0;
}

const struct gguf_value *gguf_find(const struct tensors *ts, const char *key)
{
    struct gguf_entry wanted = {.key = (char *)key};
    if (!ts->n_meta) return NULL;
    const struct gguf_entry *e = bsearch(&wanted, ts->meta, ts->n_meta, sizeof *ts->meta, by_key);
    return e ? &e->value : NULL;
}

const char *gguf_key(const struct tensors *ts, size_t index)
{
    return index < ts->n_meta ? ts->meta[index].key : NULL;
}

int gguf_item(const struct gguf_value *array, uint64_t i, struct gguf_value *out)
{
    if (array->kind != GGUF_ARRAY || i >= array->n_items) return -1;
    memset(out, 0, sizeof *out);
    if (array->item_kind == GGUF_STRING) {
        const unsigned char *at = ((const unsigned char *const *)array->items)[i];
        uint64_t length;
        memcpy(&length, at, sizeof length);
        out->kind = GGUF_STRING;
        out->text = (const char *)at + sizeof length;
        out->length = (size_t)length;
        return 0;
    }
    enum wire wire = (enum wire)array->item_wire_type;
    decode_scalar(wire, (const unsigned char *)array->items + i * wires[wire].bytes, out);
    return 0;
}
