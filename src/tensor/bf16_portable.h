/* Products of bf16 pairs in plain C: the model of VDPBF16PS (bf16_gemm_kernels.h). */
#include <math.h>
#include <stdint.h>

#include "tensor/half.h"

#define BF16_TARGET

V16 v16i v16i_set1(uint32_t u)
{
    v16i v;
    V16_EACH v.u[i] = u;
    return v;
}
V16 void v16i_store(void *p, v16i v)
{
    memcpy(p, v.u, sizeof v.u);
}

static inline float bf16_flush(float f)
{
    return fabsf(f) < 0x1p-126f ? copysignf(0.0f, f) : f;
}

/* a·b + c; denormals are zeros before and after.  A result is denormal if it is so with as many
 * digits as a normal number has: where fmaf() has rounded up to the least normal number, the same
 * sum 2^64 times as large tells. */
static inline float bf16_fma(float a, float b, float c)
{
    a = bf16_flush(a);
    b = bf16_flush(b);
    c = bf16_flush(c);
    float s = fmaf(a, b, c);
    if (fabsf(s) == 0x1p-126f && fabsf(fmaf(a * 0x1p32f, b * 0x1p32f, c * 0x1p64f)) < 0x1p-62f)
        return copysignf(0.0f, s);
    return bf16_flush(s);
}

/* The even elements, and zeros for the odd ones. */
V16 v16i bf16_first(v16i v)
{
    V16_EACH v.u[i] &= 0xffff;
    return v;
}
V16 v16 v16_dot2(v16 s, v16i a, v16i b)
{
    V16_EACH
    {
        float odd = bf16_fma(half_bits_float(a.u[i] & 0xffff0000),
                             half_bits_float(b.u[i] & 0xffff0000), s.f[i]);
        s.f[i] = bf16_fma(half_bits_float(a.u[i] << 16), half_bits_float(b.u[i] << 16), odd);
    }
    return s;
}
V16 v16i bf16_round_pairs(v16 even, v16 odd)
{
    v16i v;
    V16_EACH v.u[i] = (uint32_t)float_to_bfloat(odd.f[i]) << 16 | float_to_bfloat(even.f[i]);
    return v;
}
/* Pairs of neighbours: eight of the first vector, then eight of the second. */
V16 v16i bf16_round_two(v16 first, v16 second)
{
    v16i v;
    for (int i = 0; i < 16; i++) {
        const float *f = i < 8 ? first.f + 2 * i : second.f + 2 * (i - 8);
        v.u[i] = (uint32_t)float_to_bfloat(f[1]) << 16 | float_to_bfloat(f[0]);
    }
    return v;
}

/* What rounding takes off. */
V16 v16 bf16_rest(v16 v)
{
    V16_EACH v.f[i] = v.f[i] - bfloat_to_float(float_to_bfloat(v.f[i]));
    return v;
}

/* out[m][2i], out[m][2i + 1] are words 2m and 2m + 1 of row i as pairs of their even and of their
 * odd elements: rows (8, 16) and out alike. */
V16 void bf16_turn_pairs(const uint32_t *rows, uint32_t *out)
{
    for (int m = 0; m < 8; m++)
        for (int i = 0; i < 8; i++) {
            uint32_t a = rows[16 * i + 2 * m], b = rows[16 * i + 2 * m + 1];
            out[16 * m + 2 * i] = b << 16 | (a & 0xffff);
            out[16 * m + 2 * i + 1] = (b & 0xffff0000) | a >> 16;
        }
}

static inline unsigned bf16_begin(void)
{
    return 0;
}
static inline void bf16_end(unsigned state)
{
    (void)state;
}
