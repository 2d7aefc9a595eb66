/* What the tests of the kernels share: the sets of this machine, random rows, made-up tensors. */
#ifndef SIREN_TESTS_KERNELS_CASE_H
#define SIREN_TESTS_KERNELS_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "siren/random.h"
#include "tensor/kernels.h"

/* The table of every set that this machine has: portable first. */
static inline int machine_kernels(const struct kernels *list[ISA_COUNT])
{
    int n = 0;
    for (int isa = 0; isa < ISA_COUNT; isa++) {
        const struct kernels *k = kernels_select((enum isa)isa, NULL);
        if (k) list[n++] = k;
    }
    return n;
}

/* … of both modes, and the model of AMX on every machine: before AMX itself. */
enum { MODES_MOST = ISA_COUNT * COMPUTE_COUNT + 1 };
static inline int machine_modes(const struct kernels *list[MODES_MOST])
{
    int n = 0;
    for (int compute = 0; compute < COMPUTE_COUNT; compute++)
        for (int isa = 0; isa < ISA_COUNT; isa++) {
            const struct kernels *k =
                kernels_select_compute((enum isa)isa, (enum compute)compute, NULL);
            if (compute == COMPUTE_BF16 && isa == ISA_AMX) list[n++] = kernels_amx_model();
            if (k) list[n++] = k;
        }
    return n;
}

/* Mode bf16 of AMX: another order than that of the other sets. */
static inline int order_of_tiles(const struct kernels *k)
{
    return k->compute == COMPUTE_BF16 && k->isa == ISA_AMX;
}

/* The set of plain C of each order, in a list of machine_modes before the others that have it. */
static inline int first_of_order(const struct kernels *k)
{
    return k->isa == ISA_PORTABLE || k == kernels_amx_model();
}

static inline float *floats(size_t n)
{
    float *x = alloc_aligned(n + 1, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = NAN; /* whoever reads what nobody wrote shows it */
    return x;
}

static inline float *normals(size_t n, uint64_t stream)
{
    float *x = floats(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)siren_random_normal(17, stream, i);
    return x;
}

static inline void free_tensor(struct tensor *t)
{
    free((void *)(uintptr_t)t->data);
}

/* Random blocks of a type: all bit patterns in the quantities, modest finite scales. */
static inline struct tensor made_tensor(enum tensor_type type, int rows, int k, uint64_t stream)
{
    size_t blocks = (size_t)rows * (size_t)(k / tensor_type_block(type));
    size_t size = (size_t)tensor_type_bytes(type), bytes = blocks * size;
    unsigned char *data = alloc_array(bytes, 1);
    assert_non_null(data);
    for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)siren_random_bits(5, stream, i);
    int halves = 0, at[2] = {0, 0};
    switch (type) {
    case TENSOR_F16:
        halves = 1;
        break;
    case TENSOR_Q8_0:
    case TENSOR_Q4_0:
    case TENSOR_Q5_0:
        halves = 1;
        break;
    case TENSOR_Q4_1:
    case TENSOR_Q5_1:
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        halves = 2, at[1] = 2;
        break;
    case TENSOR_Q6_K:
        halves = 1, at[0] = 208;
        break;
    default:
        break;
    }
    for (size_t b = 0; b < blocks; b++) {
        for (int h = 0; h < halves; h++) /* exponent 0 … 15: below 2, denormals among them */
            data[b * size + (size_t)at[h] + 1] &= 0xbf;
        if (type == TENSOR_BF16) /* exponents about 1 */
            data[b * size + 1] = (unsigned char)((data[b * size + 1] & 0x80) | 0x3f);
        if (type == TENSOR_F32) {
            float f = (float)siren_random_normal(6, stream, b);
            memcpy(data + b * size, &f, sizeof f);
        }
    }
    struct tensor t = {.name = "made", .type = type, .n_dims = 2, .shape = {rows, k}};
    t.data = data;
    t.bytes = bytes;
    return t;
}

static inline void assert_same(const float *a, const float *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0)
            fail_msg("%s: element %zu: %a and %a", what, i, (double)a[i], (double)b[i]);
}

/* A fixture that is `size` bytes and no more; 0 or -1. */
static inline int read_arrays(const char *path, void *out, size_t size)
{
    FILE *f = fopen(path, "rb");
    if (!f) return -1;
    size_t items = fread(out, size, 1, f);
    int more = fgetc(f) != EOF;
    fclose(f);
    return items == 1 && !more ? 0 : -1;
}

static inline void assert_near(const float *got, const float *expected, int n, double tolerance,
                               const char *what)
{
    for (int i = 0; i < n; i++) {
        double e = (double)expected[i];
        if (!(fabs((double)got[i] - e) <= tolerance * (1 + fabs(e))))
            fail_msg("%s: element %d: %.9g, expected %.9g", what, i, (double)got[i], e);
    }
}

/* The chain of n products a[i·as]·b[i·bs], beside its sum in double: within `slack` roundings of
 * the sum of their sizes. */
static inline void assert_chain(float got, const float *a, size_t as, const float *b, size_t bs,
                                int n, double slack)
{
    double sum = 0, size = 0;
    for (size_t i = 0; i < (size_t)n; i++) {
        double product = (double)a[i * as] * (double)b[i * bs];
        sum += product;
        size += fabs(product);
    }
    assert_true(fabs((double)got - sum) <= 0x1p-24 * slack * size);
}

/* ---- products ---- */

/* T rows and an (N, K) matrix. */
struct product_case {
    enum tensor_type type;
    int T, N, K;
};

static inline struct packed packed_of(const struct tensor *t)
{
    struct packed w;
    int n = (int)t->shape[0], k = (int)t->shape[1];
    assert_int_equal(packed_alloc(&w, packed_kind_for(t->type, 0), n, k, NULL), 0);
    packed_fill(&w, 0, t, 0, n);
    return w;
}

/* ---- a product's chain, spelt out ---- */

static inline float flushed(float x)
{
    return x > -0x1p-126f && x < 0x1p-126f ? copysignf(0, x) : x;
}

/* x to the nearest bf16, ties to even, in arithmetic. */
static inline float rounded(float x)
{
    int exponent;
    if (flushed(x) == 0) return flushed(x);
    float m = frexpf(x, &exponent); /* 8 binary digits */
    return ldexpf(rintf(m * 256), exponent - 8);
}

/* s + a·b of bf16 numbers, denormals as zeros.  The sum is exact in __float128 unless the terms lie
 * far apart; then the smaller one only decides on which side of a tie the sum is, and 113 digits
 * hold that as well, since a product has 16 digits and s has 24. */
static inline float step(float s, float a, float b)
{
    __float128 exact = (__float128)flushed(s) + (__float128)flushed(a) * (__float128)flushed(b);
    __float128 least = 0x1p-126f, size = exact < 0 ? -exact : exact;
    if (size == 0) return fmaf(flushed(a), flushed(b), flushed(s)); /* the sign of the zero */
    if (size < least) { /* normal only if 24 digits round it up to the least */
        float scaled = (float)(size * 0x1p64f);
        return copysignf(scaled >= 0x1p-62f ? 0x1p-126f : 0, exact < 0 ? -1.0f : 1.0f);
    }
    return (float)exact;
}

/* AMX: two chains from 0 for n <= 32 steps, then one sum of three. */
static inline float block_of_tiles(float sum, const float *x, const float *w, int n)
{
    float parts[2] = {0, 0};
    for (int k = 0; k < 32; k++)
        parts[k % 2] = step(parts[k % 2], k < n ? rounded(x[k]) : 0, k < n ? rounded(w[k]) : 0);
    return flushed(sum + flushed(parts[0] + parts[1]));
}

static inline float chain_of_tiles(const float *x, const float *w, int K)
{
    float sum = 0;
    for (int k = 0; k < K; k += 32)
        sum = block_of_tiles(sum, x + k, w + k, K - k < 32 ? K - k : 32);
    return sum;
}

static inline float chain(const struct kernels *kernels, const float *x, const float *w, int K)
{
    float sum = 0;
    if (order_of_tiles(kernels)) return chain_of_tiles(x, w, K);
    if (kernels->compute == COMPUTE_F32) {
        for (int k = 0; k < K; k++) sum = fmaf(x[k], w[k], sum);
        return sum;
    }
    for (int k = 0; k < K; k += 2) {
        int odd = k + 1 < K;
        sum = step(sum, odd ? rounded(x[k + 1]) : 0, odd ? rounded(w[k + 1]) : 0);
        sum = step(sum, rounded(x[k]), rounded(w[k]));
    }
    return sum;
}

/* A query's dot product with a key: in f32, or by tiles of which each takes two parts. */
static inline float score(const struct kernels *kernels, const float *q, const float *k, int D)
{
    float sum = 0, low_q[32], low_k[32];
    for (int d = 0; d < D && !order_of_tiles(kernels); d++) sum = fmaf(q[d], k[d], sum);
    for (int d = 0; d < D && order_of_tiles(kernels); d += 32) {
        int n = D - d < 32 ? D - d : 32;
        for (int i = 0; i < n; i++) low_q[i] = q[d + i] - rounded(q[d + i]);
        for (int i = 0; i < n; i++) low_k[i] = k[d + i] - rounded(k[d + i]);
        sum = block_of_tiles(sum, low_q, k + d, n);
        sum = block_of_tiles(sum, q + d, k + d, n);
        sum = block_of_tiles(sum, q + d, low_k, n);
    }
    return sum;
}

#endif
