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

/* Without branches: loops of it are vectors. */
static inline float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13, small;
    float f = (float)(h & 0x3ff) * 0x1p-24f; /* zero, or what has no exponent: exact */
    memcpy(&small, &f, sizeof small);
    uint32_t is_small = -(uint32_t)(rest < 0x800000);
    uint32_t bits = (small & is_small) | ((rest + 0x38000000) & ~is_small);
    bits |= rest >= 0x0f800000 ? 0x7f800000 : 0; /* infinity … */
    bits |= rest > 0x0f800000 ? 0x400000 : 0; /* … or a NaN, which becomes quiet, as in hardware */
    return half_bits_float(sign | bits);
}

#endif
