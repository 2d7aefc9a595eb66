/* v16 in plain C: an array.  fmaf() rounds once, as the contract asks.  This header also says
 * what each operation means; the other sets give the same bits. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tensor/half.h"

typedef struct {
    float f[16];
} v16;
typedef struct {
    uint32_t u[16];
} v16i;

#define V16 static inline
#define V16_EACH for (int i = 0; i < 16; i++)

V16 v16 v16_set1(float x)
{
    v16 v;
    V16_EACH v.f[i] = x;
    return v;
}
V16 v16 v16_zero(void)
{
    return v16_set1(0.0f);
}
V16 v16 v16_load(const float *p)
{
    v16 v;
    memcpy(v.f, p, sizeof v.f);
    return v;
}
V16 void v16_store(float *p, v16 v)
{
    memcpy(p, v.f, sizeof v.f);
}
/* For what is not read soon: past the caches, where the set can and p is a multiple of 64 bytes.
 * Another thread may read it after this one's v16_stream_end(). */
V16 void v16_stream(float *p, v16 v)
{
    v16_store(p, v);
}
V16 void v16_stream_end(void) {}
/* The first n lanes (n may lie outside 0 … 16), zeros after; memory behind is not touched. */
V16 v16 v16_load_n(const float *p, int n)
{
    v16 v = v16_zero();
    for (int i = 0; i < 16 && i < n; i++) v.f[i] = p[i];
    return v;
}
V16 void v16_store_n(float *p, v16 v, int n)
{
    for (int i = 0; i < 16 && i < n; i++) p[i] = v.f[i];
}
/* Lanes 0 … n-1 of v, the others of rest. */
V16 v16 v16_keep(v16 v, int n, v16 rest)
{
    V16_EACH v.f[i] = i < n ? v.f[i] : rest.f[i];
    return v;
}
V16 v16 v16_add(v16 a, v16 b)
{
    V16_EACH a.f[i] = a.f[i] + b.f[i];
    return a;
}
V16 v16 v16_sub(v16 a, v16 b)
{
    V16_EACH a.f[i] = a.f[i] - b.f[i];
    return a;
}
V16 v16 v16_mul(v16 a, v16 b)
{
    V16_EACH a.f[i] = a.f[i] * b.f[i];
    return a;
}
V16 v16 v16_div(v16 a, v16 b)
{
    V16_EACH a.f[i] = a.f[i] / b.f[i];
    return a;
}
V16 v16 v16_sqrt(v16 v)
{
    V16_EACH v.f[i] = sqrtf(v.f[i]);
    return v;
}
/* a·b + c and c - a·b, one rounding. */
V16 v16 v16_fma(v16 a, v16 b, v16 c)
{
    V16_EACH c.f[i] = fmaf(a.f[i], b.f[i], c.f[i]);
    return c;
}
V16 v16 v16_fnma(v16 a, v16 b, v16 c)
{
    V16_EACH c.f[i] = fmaf(-a.f[i], b.f[i], c.f[i]);
    return c;
}
/* The second operand where the two do not compare (NaN). */
V16 v16 v16_max(v16 a, v16 b)
{
    V16_EACH a.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i];
    return a;
}
V16 v16 v16_min(v16 a, v16 b)
{
    V16_EACH a.f[i] = a.f[i] < b.f[i] ? a.f[i] : b.f[i];
    return a;
}
V16 v16 v16_neg(v16 a)
{
    V16_EACH a.f[i] = -a.f[i];
    return a;
}
V16 v16 v16_abs(v16 a)
{
    V16_EACH a.f[i] = fabsf(a.f[i]);
    return a;
}
V16 v16 v16_copysign(v16 size, v16 sign)
{
    V16_EACH size.f[i] = copysignf(size.f[i], sign.f[i]);
    return size;
}
V16 v16 v16_if_less(v16 a, v16 b, v16 yes, v16 no)
{
    V16_EACH yes.f[i] = a.f[i] < b.f[i] ? yes.f[i] : no.f[i];
    return yes;
}
/* x·2^n, one rounding; n is a whole number in -252 … 254 and x·2^(n/2) is normal. */
V16 v16 v16_ldexp(v16 x, v16 n)
{
    V16_EACH
    {
        int e = n.f[i] == n.f[i] ? (int)n.f[i] : 0, half = e >> 1;
        x.f[i] = x.f[i] * half_bits_float((uint32_t)(half + 127) << 23) *
                 half_bits_float((uint32_t)(e - half + 127) << 23);
    }
    return x;
}
/* The tree (j + j+8), (+4), (+2), (+1). */
V16 float v16_sum(v16 v)
{
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) v.f[i] = v.f[i] + v.f[i + step];
    return v.f[0];
}
V16 float v16_highest(v16 v)
{
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) v.f[i] = v.f[i] > v.f[i + step] ? v.f[i] : v.f[i + step];
    return v.f[0];
}
/* out[j·ldout + i] = in[i·ldin + j], 16 × 16, rows j >= 8 from out8 on; they do not overlap with
 * in.
 */
V16 void v16_transpose_apart(const float *in, size_t ldin, float *out, float *out8, size_t ldout)
{
    for (size_t i = 0; i < 16; i++)
        for (size_t j = 0; j < 8; j++) {
            out[j * ldout + i] = in[i * ldin + j];
            out8[j * ldout + i] = in[i * ldin + j + 8];
        }
}

V16 v16i v16i_load(const void *p)
{
    v16i v;
    memcpy(v.u, p, sizeof v.u);
    return v;
}
/* Bits 4j … 4j+3 of every lane, as 0 … 15 or as -8 … 7. */
V16 v16 v16_nibble(v16i v, int j)
{
    v16 q;
    V16_EACH q.f[i] = (float)(v.u[i] >> 4 * j & 15);
    return q;
}
V16 v16 v16_nibble_signed(v16i v, int j)
{
    v16 q;
    V16_EACH q.f[i] = (float)((int)(v.u[i] >> 4 * j & 15) - 8);
    return q;
}
V16 v16 v16_from_i8(const void *p)
{
    int8_t b[16];
    v16 q;
    memcpy(b, p, sizeof b);
    V16_EACH q.f[i] = (float)b[i];
    return q;
}
V16 v16 v16_from_f16(const void *p)
{
    uint16_t h[16];
    v16 q;
    memcpy(h, p, sizeof h);
    V16_EACH q.f[i] = half_to_float(h[i]);
    return q;
}
/* The even or the odd numbers of sixteen pairs. */
V16 v16 v16_from_bf16(v16i v, int odd)
{
    v16 q;
    V16_EACH q.f[i] = half_bits_float(odd ? v.u[i] & 0xffff0000 : v.u[i] << 16);
    return q;
}
