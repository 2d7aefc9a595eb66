/* Packing: rows of a tensor become 16-column panels (layout: packed.h). */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "tensor/half.h"
#include "tensor/packed.h"

enum packed_kind packed_kind_for(enum tensor_type type, int expand)
{
    if (expand) return PACKED_F32;
    switch (type) {
    case TENSOR_F16:
        return PACKED_F16;
    case TENSOR_BF16:
        return PACKED_BF16;
    case TENSOR_Q4_0:
        return PACKED_Q4S;
    case TENSOR_Q4_1:
    case TENSOR_Q4_K:
        return PACKED_Q4;
    case TENSOR_Q8_0:
    case TENSOR_Q5_0:
    case TENSOR_Q5_1:
    case TENSOR_Q5_K:
    case TENSOR_Q6_K:
        return PACKED_Q8;
    default:
        return PACKED_F32;
    }
}

enum packed_kind packed_kind_join(enum packed_kind a, enum packed_kind b)
{
    if (a == b) return a;
    return a >= PACKED_Q4 && b >= PACKED_Q4 ? PACKED_Q8 : PACKED_F32;
}

static size_t panel_size(enum packed_kind kind, int k)
{
    size_t steps = (size_t)k;
    switch (kind) {
    case PACKED_F32:
        return steps * 64;
    case PACKED_F16:
    case PACKED_BF16:
        return (steps + 1) / 2 * 64;
    case PACKED_Q4:
    case PACKED_Q4S:
        return (steps + Q4_STEPS - 1) / Q4_STEPS * sizeof(struct q4_block);
    case PACKED_Q8:
        return (steps + Q8_STEPS - 1) / Q8_STEPS * sizeof(struct q8_block);
    }
    return 0;
}

#define ARENA_CHUNK ((size_t)32 << 20)

/* What is left of the last chunk is untouched memory: it costs addresses only. */
static void *arena_take(struct packed_arena *a, size_t bytes)
{
    if (!a->n_chunks || bytes > a->size - a->used) {
        size_t size = bytes > ARENA_CHUNK ? bytes : ARENA_CHUNK;
        if (alloc_grow(&a->chunks, &a->capacity, a->n_chunks + 1, sizeof *a->chunks)) return NULL;
        void *chunk = alloc_aligned(size, 1);
        if (!chunk) return NULL;
        a->chunks[a->n_chunks++] = chunk;
        a->size = size;
        a->used = 0;
    }
    unsigned char *data = (unsigned char *)a->chunks[a->n_chunks - 1] + a->used;
    a->used += bytes; /* panels are multiples of a cache line */
    return data;
}

void packed_arena_free(struct packed_arena *a)
{
    for (size_t i = 0; i < a->n_chunks; i++) free(a->chunks[i]);
    free(a->chunks);
    memset(a, 0, sizeof *a);
}

int packed_alloc_in(struct packed_arena *arena, struct packed *out, enum packed_kind kind, int n,
                    int k, struct siren_error *err)
{
    memset(out, 0, sizeof *out);
    if (n <= 0 || k <= 0)
        return siren_fail(err, SIREN_EINVAL, "packed weights of %d columns and %d steps", n, k);
    if (kind >= PACKED_Q4 && k % Q4_STEPS)
        return siren_fail(err, SIREN_EINVAL,
                          "packed weights: a width of %d is no multiple of the block of %d", k,
                          Q4_STEPS);
    struct packed w = {.kind = kind, .n = n, .k = k, .n_panels = (n - 1) / 16 + 1};
    size_t bytes;
    w.panel_bytes = panel_size(kind, k);
    if (__builtin_mul_overflow(w.panel_bytes, (size_t)w.n_panels, &bytes)) bytes = SIZE_MAX;
    if (arena)
        w.data = arena_take(arena, bytes);
    else
        w.owned = w.data = alloc_aligned(bytes, 1);
    if (!w.data) return siren_fail_memory(err, "packed weights", bytes);
    if (n % 16) memset(w.data + (size_t)(w.n_panels - 1) * w.panel_bytes, 0, w.panel_bytes);
    for (int p = 0; p < w.n_panels && kind == PACKED_BF16 && k % 2; p++)
        memset(w.data + (size_t)(p + 1) * w.panel_bytes - 64, 0, 64);
    *out = w;
    return SIREN_OK;
}

int packed_alloc(struct packed *out, enum packed_kind kind, int n, int k, struct siren_error *err)
{
    return packed_alloc_in(NULL, out, kind, n, k, err);
}

void packed_free(struct packed *w)
{
    free(w->owned);
    memset(w, 0, sizeof *w);
}

/* ---- source blocks --------------------------------------------------------
 * A unit is 32 elements of a row, whatever the source's block. */

static float read_half(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return half_to_float(h);
}

static uint64_t read_u64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The low nibbles of 8 bytes, side by side. */
static uint32_t squeeze(uint64_t bytes)
{
    uint64_t v = bytes & 0x0f0f0f0f0f0f0f0fu;
    v = (v | v >> 4) & 0x00ff00ff00ff00ffu;
    v = (v | v >> 8) & 0x0000ffff0000ffffu;
    return (uint32_t)(v | v >> 16);
}

/* Scale and minimum j of the 12 bytes that Q4_K and Q5_K keep for 8 groups. */
static void k_scale(const unsigned char *s, int j, int *scale, int *minimum)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *minimum = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *minimum = s[j + 4] >> 4 | (s[j] >> 6) << 4;
    }
}

static void k_scales(const unsigned char *block, int j, float *d, float *m)
{
    int scale, minimum;
    k_scale(block + 4, j, &scale, &minimum);
    *d = read_half(block) * (float)scale;
    *m = -(read_half(block + 2) * (float)minimum);
}

/* 4-bit sources: Q4_0, Q4_1, Q4_K.  q as in struct q4_block. */
static void unit_q4(enum tensor_type type, const unsigned char *row, int unit, float *d, float *m,
                    uint32_t q[4])
{
    const unsigned char *block, *bytes;
    if (type == TENSOR_Q4_K) {
        block = row + (size_t)(unit / 8) * 144;
        bytes = block + 16 + (unit % 8) / 2 * 32;
        k_scales(block, unit % 8, d, m);
        for (int g = 0; g < 4; g++) q[g] = squeeze(read_u64(bytes + 8 * g) >> (unit % 2 ? 4 : 0));
        return;
    }
    int header = type == TENSOR_Q4_0 ? 2 : 4;
    block = row + (size_t)unit * (size_t)(header + 16);
    bytes = block + header;
    *d = read_half(block);
    *m = type == TENSOR_Q4_0 ? -0.0f : read_half(block + 2);
    uint64_t a = read_u64(bytes), b = read_u64(bytes + 8);
    q[0] = squeeze(a);
    q[1] = squeeze(b);
    q[2] = squeeze(a >> 4);
    q[3] = squeeze(b >> 4);
}

static void unit_q5(int with_minimum, const unsigned char *row, int unit, float d[2], float m[2],
                    int8_t q[32])
{
    int header = with_minimum ? 4 : 2, zero = with_minimum ? 0 : 16;
    const unsigned char *block = row + (size_t)unit * (size_t)(header + 20), *low;
    uint32_t high;
    memcpy(&high, block + header, sizeof high);
    low = block + header + 4;
    for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)(((low[i] & 15) | (int)(high >> i & 1) << 4) - zero);
        q[i + 16] = (int8_t)((low[i] >> 4 | (int)(high >> (i + 16) & 1) << 4) - zero);
    }
    d[0] = d[1] = read_half(block);
    m[0] = m[1] = with_minimum ? read_half(block + 2) : -0.0f;
}

static void unit_q5_k(const unsigned char *row, int unit, float d[2], float m[2], int8_t q[32])
{
    const unsigned char *block = row + (size_t)(unit / 8) * 176;
    int j = unit % 8, shift = j % 2 ? 4 : 0;
    const unsigned char *high = block + 16, *low = block + 48 + j / 2 * 32;
    for (int i = 0; i < 32; i++) q[i] = (int8_t)((low[i] >> shift & 15) | (high[i] >> j & 1) << 4);
    k_scales(block, j, d, m);
    d[1] = d[0];
    m[1] = m[0];
}

static void unit_q6_k(const unsigned char *row, int unit, float d[2], float m[2], int8_t q[32])
{
    const unsigned char *block = row + (size_t)(unit / 8) * 210;
    int half = unit % 8 / 4, j = unit % 4;
    const unsigned char *low = block + half * 64 + j % 2 * 32, *high = block + 128 + half * 32;
    const unsigned char *scales = block + 192 + half * 8 + 2 * j;
    int shift = j < 2 ? 0 : 4;
    for (int i = 0; i < 32; i++)
        q[i] = (int8_t)(((low[i] >> shift & 15) | (high[i] >> 2 * j & 3) << 4) - 32);
    for (int i = 0; i < 2; i++) {
        d[i] = read_half(block + 208) * (float)(signed char)scales[i];
        m[i] = -0.0f;
    }
}

/* Sources of up to 8 bits: two halves of 16 elements, each with its scale and minimum. */
static void unit_q8(enum tensor_type type, const unsigned char *row, int unit, float d[2],
                    float m[2], int8_t q[32])
{
    uint32_t nibbles[4];
    const unsigned char *block;
    switch (type) {
    case TENSOR_Q5_0:
        unit_q5(0, row, unit, d, m, q);
        break;
    case TENSOR_Q5_1:
        unit_q5(1, row, unit, d, m, q);
        break;
    case TENSOR_Q5_K:
        unit_q5_k(row, unit, d, m, q);
        break;
    case TENSOR_Q6_K:
        unit_q6_k(row, unit, d, m, q);
        break;
    case TENSOR_Q8_0:
        block = row + (size_t)unit * 34;
        d[0] = d[1] = read_half(block);
        m[0] = m[1] = -0.0f;
        memcpy(q, block + 2, 32);
        break;
    default: /* 4 bits */
        unit_q4(type, row, unit, d, m, nibbles);
        d[1] = d[0];
        m[1] = m[0];
        for (int i = 0; i < 32; i++)
            q[i] =
                (int8_t)((int)(nibbles[i / 8] >> 4 * (i % 8) & 15) - (type == TENSOR_Q4_0 ? 8 : 0));
        break;
    }
}

/* ---- filling ---------------------------------------------------------------- */

enum { FILL_STEPS = 256 };

struct source {
    const struct tensor *t;
    int64_t row0;
    const int32_t *rows; /* NULL: row0, row0 + 1, … */
    size_t row_bytes;
};

static int64_t source_row(const struct source *s, int i)
{
    return s->rows ? s->rows[i] : s->row0 + i;
}

static const unsigned char *source_bytes(const struct source *s, int i)
{
    return (const unsigned char *)s->t->data + (size_t)source_row(s, i) * s->row_bytes;
}

static void fill_q4(const struct packed *w, unsigned char *panel, int lane, const struct source *s,
                    int i)
{
    const unsigned char *row = source_bytes(s, i);
    struct q4_block *block = (void *)panel;
    uint32_t q[4];
    for (int unit = 0; unit < w->k / Q4_STEPS; unit++, block++) {
        unit_q4(s->t->type, row, unit, &block->d[lane], &block->m[lane], q);
        for (int g = 0; g < 4; g++) block->q[g][lane] = q[g];
    }
}

static void fill_q8(const struct packed *w, unsigned char *panel, int lane, const struct source *s,
                    int i)
{
    const unsigned char *row = source_bytes(s, i);
    struct q8_block *block = (void *)panel;
    float d[2], m[2];
    int8_t q[32];
    for (int unit = 0; unit < w->k / 32; unit++)
        for (int h = 0; h < 2; h++, block++) {
            if (h == 0) unit_q8(s->t->type, row, unit, d, m, q);
            block->d[lane] = d[h];
            block->m[lane] = m[h];
            for (int j = 0; j < Q8_STEPS; j++) block->q[j][lane] = q[16 * h + j];
        }
}

/* Where a number of 16 bits lies in a panel. */
static size_t at_16bit(enum packed_kind kind, size_t k, size_t lane)
{
    return kind == PACKED_BF16 ? k / 2 * 32 + lane * 2 + k % 2 : k * 16 + lane;
}

static void fill_16bit(const struct packed *w, unsigned char *panel, int lane,
                       const struct source *s, int i)
{
    const unsigned char *row = source_bytes(s, i);
    for (size_t k = 0; k < (size_t)w->k; k++)
        memcpy(panel + at_16bit(w->kind, k, (size_t)lane) * 2, row + k * 2, 2);
}

/* Steps [k0, k0 + steps) of a source's rows i, i+1, … in f32. */
static void read_rows(const struct packed *w, const struct source *s, int i, int n, int k0,
                      int steps, float (*rows)[FILL_STEPS])
{
    for (int c = 0; c < n; c++)
        if (s->t->type == TENSOR_F32)
            memcpy(rows[c], source_bytes(s, i + c) + (size_t)k0 * 4, (size_t)steps * 4);
        else
            tensor_dequantize(s->t, source_row(s, i + c) * w->k + k0, steps, rows[c]);
}

/* All sixteen lanes of n steps, from rows of f32 that lie ld apart. */
static void fill_whole(const struct packed *w, const struct kernels *kernels, const float *rows,
                       size_t ld, int n, unsigned char *panel)
{
    if (w->kind == PACKED_F32)
        kernels->interleave(rows, ld, n, (float *)(void *)panel);
    else
        kernels->interleave_pairs(rows, ld, n, (uint32_t *)(void *)panel);
}

/* Sixteen rows of f32 that lie one behind the other are read where they are. */
static int is_whole(const struct source *s, int i, int n)
{
    if (s->t->type != TENSOR_F32 || n != 16) return 0;
    for (int c = 1; c < 16; c++)
        if (source_row(s, i + c) != source_row(s, i) + c) return 0;
    return (uintptr_t)source_bytes(s, i) % sizeof(float) == 0; /* a file's may be anywhere */
}

/* Lanes lane0 … lane0+n-1 of an f32 panel, or of one of bf16, from source rows i, i+1, … of any
 * type. */
static void fill_plain(const struct packed *w, const struct kernels *kernels, unsigned char *panel,
                       int lane0, int n, const struct source *s, int i)
{
    float rows[16][FILL_STEPS] __attribute__((aligned(64)));
    size_t number = w->kind == PACKED_F32 ? sizeof(float) : sizeof(uint16_t);
    if (is_whole(s, i, n)) {
        const float *first = (const void *)source_bytes(s, i);
        fill_whole(w, kernels, first, (size_t)w->k, w->k, panel);
        return;
    }
    for (int k0 = 0; k0 < w->k; k0 += FILL_STEPS, panel += FILL_STEPS * 16 * number) {
        int steps = w->k - k0 < FILL_STEPS ? w->k - k0 : FILL_STEPS;
        read_rows(w, s, i, n, k0, steps, rows);
        if (n == 16) {
            fill_whole(w, kernels, rows[0], FILL_STEPS, steps, panel);
            continue;
        }
        for (int c = 0; c < n; c++)
            for (int k = 0; k < steps; k++) {
                size_t step = (size_t)k, at = (size_t)(lane0 + c);
                if (w->kind == PACKED_F32)
                    ((float *)(void *)panel)[step * 16 + at] = rows[c][k];
                else
                    ((uint16_t *)(void *)panel)[at_16bit(PACKED_BF16, step, at)] =
                        float_to_bfloat(rows[c][k]);
            }
    }
}

static void fill(struct packed *w, int column, const struct source *s, int n)
{
    const struct kernels *kernels = kernels_select(isa_best(), NULL); /* one set's bits are all's */
    for (int i = 0; i < n;) {
        int panel = (column + i) / 16, lane = (column + i) % 16;
        int lanes = n - i < 16 - lane ? n - i : 16 - lane;
        unsigned char *data = w->data + (size_t)panel * w->panel_bytes;
        int plain = w->kind == PACKED_F32 || (w->kind == PACKED_BF16 && s->t->type != TENSOR_BF16);
        if (plain) fill_plain(w, kernels, data, lane, lanes, s, i);
        for (int c = 0; c < lanes && !plain; c++) {
            if (w->kind == PACKED_Q8)
                fill_q8(w, data, lane + c, s, i + c);
            else if (w->kind == PACKED_F16 || w->kind == PACKED_BF16)
                fill_16bit(w, data, lane + c, s, i + c);
            else
                fill_q4(w, data, lane + c, s, i + c);
        }
        i += lanes;
    }
}

static size_t row_bytes(const struct packed *w, const struct tensor *t)
{
    return (size_t)(w->k / tensor_type_block(t->type)) * (size_t)tensor_type_bytes(t->type);
}

void packed_fill(struct packed *w, int column, const struct tensor *t, int64_t row0, int rows)
{
    struct source s = {.t = t, .row0 = row0, .row_bytes = row_bytes(w, t)};
    fill(w, column, &s, rows);
}

void packed_fill_rows(struct packed *w, int column, const struct tensor *t, const int32_t *rows,
                      int n_rows)
{
    struct source s = {.t = t, .rows = rows, .row_bytes = row_bytes(w, t)};
    fill(w, column, &s, n_rows);
}
