/* The format of a teacher's states: encodings, checksums, the walk over a file. */
#include "train/teacher_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include "base/alloc.h"
#include "tensor/half.h"

enum { MOST_LAYERS = 4096, MOST_WIDTH = 1 << 20, MOST_LABELS = 128, MOST_IDS = 1 << 24 };
/* zstd's densest block turns 4 bytes into 128 KiB: a content beyond that is a lie. */
enum { DENSEST = 1 << 15 };

void teacher_chain_add(struct teacher_chain *chain, const void *data, size_t size)
{
    XXH3_state_t state;
    XXH128_canonical_t check;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, chain->check, TEACHER_CHECK);
    XXH3_128bits_update(&state, data, size);
    XXH128_canonicalFromHash(&check, XXH3_128bits_digest(&state));
    memcpy(chain->check, &check, TEACHER_CHECK);
}

/* ---- encodings ---- */

enum { BLOCK = 32, HEAD = 4, APART = -128 };

/* Of a layer. */
static size_t n_blocks(const struct siren_teacher_shape *shape)
{
    return ((size_t)shape->d + BLOCK - 1) / BLOCK;
}

size_t teacher_state_bytes(const struct siren_teacher_shape *shape)
{
    size_t n_layers = (size_t)shape->n_layers, n = n_layers * (size_t)shape->d;
    return shape->encoding == SIREN_STATES_BF16 ? 2 * n : n + HEAD * n_layers * n_blocks(shape);
}

int teacher_check_shape(const struct siren_teacher_shape *s, struct siren_error *err)
{
    if (s->n_layers < 1 || s->n_layers > MOST_LAYERS || s->d < 1 || s->d > MOST_WIDTH)
        return siren_fail(err, SIREN_EINVAL, "states of %d layers by %d: expected 1 … %d by 1 … %d",
                          s->n_layers, s->d, MOST_LAYERS, MOST_WIDTH);
    if (s->n_labels < 2 || s->n_labels > MOST_LABELS)
        return siren_fail(err, SIREN_EINVAL, "%d rating labels, expected 2 … %d", s->n_labels,
                          MOST_LABELS);
    if (s->encoding != SIREN_STATES_BF16 && s->encoding != SIREN_STATES_INT8)
        return siren_fail(err, SIREN_EINVAL, "encoding %d of states, expected 0 or 1",
                          (int)s->encoding);
    return 0;
}

/* A block's head: the step between its numbers, and the largest of them apart: hidden states have a
 * few numbers that are a hundred times the others, which a common step would leave nothing of. */
static void encode_block(const float *x, size_t n, unsigned char *head, int8_t *q)
{
    size_t top = 0;
    float most = 0;
    for (size_t i = 1; i < n; i++)
        if (fabsf(x[i]) > fabsf(x[top])) top = i;
    for (size_t i = 0; i < n; i++)
        if (i != top && fabsf(x[i]) > most) most = fabsf(x[i]);
    uint16_t words[2] = {float_to_bfloat(most / 127), float_to_bfloat(x[top])};
    float step = bfloat_to_float(words[0]);
    for (size_t i = 0; i < n; i++) {
        float value = step > 0 ? nearbyintf(x[i] / step) : 0;
        q[i] = (int8_t)(value > 127 ? 127 : value < -127 ? -127 : value);
    }
    q[top] = APART;
    memcpy(head, words, HEAD);
}

static void decode_block(const unsigned char *head, const int8_t *q, size_t n, float *x)
{
    uint16_t words[2];
    memcpy(words, head, HEAD);
    float step = bfloat_to_float(words[0]), apart = bfloat_to_float(words[1]);
    for (size_t i = 0; i < n; i++) x[i] = q[i] == APART ? apart : step * (float)q[i];
}

void teacher_encode(const struct siren_teacher_shape *s, const float *states, unsigned char *bytes)
{
    size_t d = (size_t)s->d, n_layers = (size_t)s->n_layers, n = n_layers * d;
    if (s->encoding == SIREN_STATES_BF16) {
        for (size_t i = 0; i < n; i++) {
            uint16_t b = float_to_bfloat(states[i]);
            bytes[i] = (unsigned char)b;
            bytes[n + i] = (unsigned char)(b >> 8);
        }
        return;
    }
    int8_t *q = (int8_t *)(bytes + HEAD * n_layers * n_blocks(s));
    for (size_t l = 0; l < n_layers; l++, states += d, q += d)
        for (size_t i = 0; i < d; i += BLOCK, bytes += HEAD)
            encode_block(states + i, d - i < BLOCK ? d - i : BLOCK, bytes, q + i);
}

void teacher_decode(const struct siren_teacher_shape *s, const unsigned char *bytes, float *states)
{
    size_t d = (size_t)s->d, n_layers = (size_t)s->n_layers, n = n_layers * d;
    if (s->encoding == SIREN_STATES_BF16) {
        for (size_t i = 0; i < n; i++)
            states[i] = bfloat_to_float((uint16_t)(bytes[i] | bytes[n + i] << 8));
        return;
    }
    const int8_t *q = (const int8_t *)(bytes + HEAD * n_layers * n_blocks(s));
    for (size_t l = 0; l < n_layers; l++, states += d, q += d)
        for (size_t i = 0; i < d; i += BLOCK, bytes += HEAD)
            decode_block(bytes, q + i, d - i < BLOCK ? d - i : BLOCK, states + i);
}

/* ---- the walk ---- */

static int fail_at(const struct teacher_scan *s, size_t at, const char *what,
                   struct siren_error *err)
{
    return siren_fail(err, SIREN_EFORMAT, "%s: byte %zu: %s", s->path, at, what);
}

/* The checksum behind [from, to), as it goes on from what is good. */
static int is_right(const struct teacher_scan *s, size_t from, size_t to,
                    struct teacher_chain *chain)
{
    *chain = s->chain;
    teacher_chain_add(chain, s->data + from, to - from);
    return !memcmp(chain->check, s->data + to, TEACHER_CHECK);
}

static void take(struct teacher_scan *s, size_t to, const struct teacher_chain *chain)
{
    s->chain = *chain;
    s->good = to + TEACHER_CHECK;
}

static int fail_cut(struct teacher_scan *s, size_t at, const char *what, struct siren_error *err)
{
    s->cut = 1;
    return fail_at(s, at, what, err);
}

int teacher_scan_header(struct teacher_scan *s, struct siren_error *err)
{
    struct teacher_chain chain;
    uint32_t field[6];
    int rc;
    if (s->size && memcmp(s->data, "SIRENTCH", s->size < 8 ? s->size : 8) != 0)
        return siren_fail(err, SIREN_EFORMAT, "%s: this is not a file of teacher states", s->path);
    if (s->size < TEACHER_HEADER + TEACHER_CHECK)
        return fail_cut(s, s->size, "cut short in its header", err);
    memcpy(field, s->data + 8, sizeof field);
    if (field[0] > TEACHER_VERSION)
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "%s: teacher states of version %u, this program reads up to %d", s->path,
                          field[0], TEACHER_VERSION);
    s->n_json = field[5];
    size_t left = s->size - TEACHER_HEADER;
    if (s->n_json > left - TEACHER_CHECK)
        /* A length that was changed: rows, and zeros in them, stand where a text would. */
        return memchr(s->data + TEACHER_HEADER, 0, left < s->n_json ? left : s->n_json)
                   ? fail_at(s, 0, "a description longer than the file", err)
                   : fail_cut(s, s->size, "cut short in its description", err);
    s->json = (const char *)s->data + TEACHER_HEADER;
    if (!is_right(s, 0, TEACHER_HEADER + s->n_json, &chain))
        return fail_at(s, 0, "the checksum of the header differs: the file was changed", err);
    if (field[0] < 2 && field[1] == SIREN_STATES_INT8)
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "%s: int8 states of version %u, with one scale a layer, which are too "
                          "coarse to learn from: `siren train teach` makes better ones",
                          s->path, field[0]);
    take(s, TEACHER_HEADER + s->n_json, &chain);
    s->shape = (struct siren_teacher_shape){.encoding = field[1] <= 1 ? (int)field[1] : -1,
                                            .n_layers = field[2] <= INT32_MAX ? (int)field[2] : -1,
                                            .d = field[3] <= INT32_MAX ? (int)field[3] : -1,
                                            .n_labels = field[4] <= INT32_MAX ? (int)field[4] : -1};
    rc = teacher_check_shape(&s->shape, err);
    return rc ? siren_fail_prefix(err, SIREN_EFORMAT, "%s", s->path) : 0;
}

static const char *fault_of(const struct teacher_scan *s, const struct teacher_record *r)
{
    size_t content = teacher_state_bytes(&s->shape) + (size_t)r->n_ids * sizeof(int32_t);
    if (r->kind != TEACHER_ROW && r->kind != TEACHER_END) return "neither a row nor the end";
    if (r->n_ids > MOST_IDS) return "more tokens than a text can have";
    if (r->kind == TEACHER_ROW && content / DENSEST > r->n_frame)
        return "states longer than they can be";
    return NULL;
}

/* What a crash may leave of a write that did not come to the disk. */
static int is_zero(const unsigned char *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (data[i]) return 0;
    return 1;
}

/* More bytes than a record of these states and tokens can have. */
static size_t longest(const struct teacher_scan *s, const struct teacher_record *r)
{
    size_t content = teacher_state_bytes(&s->shape) + (size_t)r->n_ids * sizeof(int32_t);
    return TEACHER_RECORD + (size_t)s->shape.n_labels * sizeof(float) +
           ZSTD_compressBound(content) + TEACHER_CHECK;
}

/* The record at s->good; *end: where its checksum lies. */
static int read_record(struct teacher_scan *s, struct teacher_record *r, size_t *end,
                       struct siren_error *err)
{
    size_t at = s->good, left = s->size - at, body;
    const char *fault;
    if (left < TEACHER_RECORD + TEACHER_CHECK) return fail_cut(s, at, "a record is cut short", err);
    if (is_zero(s->data + at, left)) return fail_cut(s, at, "only zeros from here on", err);
    memcpy(r, s->data + at, sizeof *r);
    fault = fault_of(s, r);
    if (fault) return fail_at(s, at, fault, err);
    body = r->kind == TEACHER_ROW ? (size_t)s->shape.n_labels * sizeof(float) + r->n_frame : 0;
    if (body > left - TEACHER_RECORD - TEACHER_CHECK)
        return left < longest(s, r) ? fail_cut(s, at, "a record is cut short", err)
                                    : fail_at(s, at, "a record longer than it can be", err);
    *end = at + TEACHER_RECORD + body;
    return 0;
}

int teacher_scan_records(struct teacher_scan *s, struct siren_error *err)
{
    while (s->good < s->size) {
        struct teacher_chain chain;
        struct teacher_record r;
        size_t at = s->good, end = 0;
        int rc = read_record(s, &r, &end, err);
        if (rc) return rc;
        if (!is_right(s, at, end, &chain))
            return fail_at(s, at, "the checksum of a record differs: the file was changed", err);
        if (r.kind == TEACHER_END) {
            s->whole = 1;
            end += TEACHER_CHECK;
            return end < s->size ? fail_at(s, end, "something behind the end", err) : 0;
        }
        if (alloc_grow(&s->offsets, &s->capacity, s->n + 1, sizeof *s->offsets))
            return siren_fail_memory(err, "the index of teacher states", s->n * sizeof *s->offsets);
        s->offsets[s->n++] = at;
        take(s, end, &chain);
    }
    return 0;
}
