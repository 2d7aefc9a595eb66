/* IEEE half and bfloat16 to float, exactly; portable, for packing and for the plain C kernels. */
#ifndef SIREN_TENSOR_HALF_H
#define SIREN_TENSOR_HALF_H

#include <stdint.h>
#include <string.h>

static inline float half_bits_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline float bfloat_to_float(uint16_t b)
{
    return half_bits_float((uint32_t)b << 16);
}

/* Nearest even, as VCVTNEPS2BF16: a denormal is a zero, a NaN quiet. */
static inline uint16_t float_to_bfloat(float f)
{
    uint32_t u, rounded;
    memcpy(&u, &f, sizeof u);
    rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16; /* without branches: loops of it are vectors */
    rounded = (u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : rounded;
    return (uint16_t)((u & 0x7f800000) == 0 ? u >> 16 & 0x8000 : rounded);
}

static inline float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) /* infinity; a NaN becomes quiet, as in hardware */
        return half_bits_float(sign | 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0));
    if (exponent == 0) { /* zero, or fraction · 2^-24: exact */
        float f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    return half_bits_float(sign | (exponent + 112) << 23 | fraction << 13);
}

#endif
