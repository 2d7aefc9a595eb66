/* Exact dequantisation.
 *
 * Scales are f16 (11 significant bits), block scales 6 or 8 bits, quants at most 8:
 * every product fits the 24 bits of an f32, so only the addition of a minimum rounds.
 * Loops run over the constant sizes of a block without branches, for the compiler to
 * vectorise.  Data may lie at any byte: it is read through memcpy. */
#include <string.h>

#include "tensor/half.h"
#include "weights/tensors.h"

static inline uint16_t load16(const unsigned char *at)
{
    uint16_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

static inline float half(const unsigned char *at)
{
    return half_to_float(load16(at));
}

static void f16_rows(const unsigned char *in, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) out[i] = half(in + 2 * i);
}

static void bf16_rows(const unsigned char *in, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) out[i] = bfloat_to_float(load16(in + 2 * i));
}

static void q8_0_block(const unsigned char *in, float *out)
{
    float d = half(in);
    for (int i = 0; i < 32; i++) out[i] = (float)(signed char)in[2 + i] * d;
}

static void q4_0_block(const unsigned char *in, float *out)
{
    float d = half(in);
    for (int i = 0; i < 16; i++) out[i] = (float)((in[2 + i] & 15) - 8) * d;
    for (int i = 0; i < 16; i++) out[16 + i] = (float)((in[2 + i] >> 4) - 8) * d;
}

static void q4_1_block(const unsigned char *in, float *out)
{
    float d = half(in), m = half(in + 2);
    for (int i = 0; i < 16; i++) out[i] = (float)(in[4 + i] & 15) * d + m;
    for (int i = 0; i < 16; i++) out[16 + i] = (float)(in[4 + i] >> 4) * d + m;
}

/* Quants of Q5_0 and Q5_1: four low bits from nibbles, the fifth from a bit mask. */
static inline void q5_quants(const unsigned char *high, const unsigned char *low, int q[32])
{
    uint32_t bits;
    memcpy(&bits, high, sizeof bits);
    for (int i = 0; i < 16; i++) q[i] = (low[i] & 15) | (int)((bits >> i & 1) << 4);
    for (int i = 0; i < 16; i++) q[16 + i] = (low[i] >> 4) | (int)((bits >> (i + 16) & 1) << 4);
}

static void q5_0_block(const unsigned char *in, float *out)
{
    int q[32];
    float d = half(in);
    q5_quants(in + 2, in + 6, q);
    for (int i = 0; i < 32; i++) out[i] = (float)(q[i] - 16) * d;
}

static void q5_1_block(const unsigned char *in, float *out)
{
    int q[32];
    float d = half(in), m = half(in + 2);
    q5_quants(in + 4, in + 8, q);
    for (int i = 0; i < 32; i++) out[i] = (float)q[i] * d + m;
}

/* The eight 6-bit scales and minima of Q4_K and Q5_K, packed in 12 bytes. */
static inline void k_scales(const unsigned char *in, float d, float dmin, float scale[8],
                            float min[8])
{
    for (int i = 0; i < 4; i++) {
        scale[i] = d * (float)(in[i] & 63);
        min[i] = dmin * (float)(in[4 + i] & 63);
        scale[4 + i] = d * (float)((in[8 + i] & 15) | (in[i] >> 2 & 0x30));
        min[4 + i] = dmin * (float)((in[8 + i] >> 4) | (in[4 + i] >> 2 & 0x30));
    }
}

static void q4_k_block(const unsigned char *in, float *out)
{
    float scale[8], min[8];
    k_scales(in + 4, half(in), half(in + 2), scale, min);
    for (int j = 0; j < 8; j++) {
        const unsigned char *q = in + 16 + j / 2 * 32;
        int shift = 4 * (j & 1);
        for (int i = 0; i < 32; i++)
            out[32 * j + i] = scale[j] * (float)(q[i] >> shift & 15) - min[j];
    }
}

static void q5_k_block(const unsigned char *in, float *out)
{
    float scale[8], min[8];
    const unsigned char *high = in + 16;
    k_scales(in + 4, half(in), half(in + 2), scale, min);
    for (int j = 0; j < 8; j++) {
        const unsigned char *q = in + 48 + j / 2 * 32;
        int shift = 4 * (j & 1);
        for (int i = 0; i < 32; i++)
            out[32 * j + i] =
                scale[j] * (float)((q[i] >> shift & 15) | (high[i] >> j & 1) << 4) - min[j];
    }
}

static void q6_k_block(const unsigned char *in, float *out)
{
    const unsigned char *low = in, *high = in + 128, *scales = in + 192;
    float d = half(in + 208);
    for (int j = 0; j < 8; j++) { /* 32 quants: nibbles of 32 low bytes, 2 bits of 32 high ones */
        const unsigned char *l = low + 64 * (j / 4) + 32 * (j & 1), *h = high + 32 * (j / 4);
        int low_shift = 4 * (j >> 1 & 1), high_shift = 2 * (j & 3);
        for (int k = 0; k < 2; k++) {
            float s = d * (float)(signed char)scales[2 * j + k];
            for (int i = 16 * k; i < 16 * k + 16; i++) {
                int q = (l[i] >> low_shift & 15) | (h[i] >> high_shift & 3) << 4;
                out[32 * j + i] = s * (float)(q - 32);
            }
        }
    }
}

static void blocks(void block(const unsigned char *, float *), enum tensor_type type,
                   const unsigned char *in, int64_t count, float *out)
{
    int size = tensor_type_block(type), bytes = tensor_type_bytes(type);
    for (int64_t i = 0; i < count / size; i++) block(in + i * bytes, out + i * size);
}

static void integers(enum tensor_type type, const unsigned char *in, int64_t count, float *out)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t wide;
        int32_t narrow;
        if (type == TENSOR_I64) {
            memcpy(&wide, in + 8 * i, sizeof wide);
            out[i] = (float)wide;
        } else {
            memcpy(&narrow, in + 4 * i, sizeof narrow);
            out[i] = (float)narrow;
        }
    }
}

void tensor_dequantize(const struct tensor *t, int64_t first, int64_t count, float *out)
{
    static void (*const decoders[TENSOR_TYPES])(const unsigned char *, float *) = {
        [TENSOR_Q8_0] = q8_0_block, [TENSOR_Q4_0] = q4_0_block, [TENSOR_Q4_1] = q4_1_block,
        [TENSOR_Q5_0] = q5_0_block, [TENSOR_Q5_1] = q5_1_block, [TENSOR_Q4_K] = q4_k_block,
        [TENSOR_Q5_K] = q5_k_block, [TENSOR_Q6_K] = q6_k_block,
    };
    if (count <= 0) return;
    const unsigned char *in = (const unsigned char *)t->data +
                              first / tensor_type_block(t->type) * tensor_type_bytes(t->type);
    switch (t->type) {
    case TENSOR_F32:
        memcpy(out, in, (size_t)count * sizeof *out);
        break;
    case TENSOR_F16:
        f16_rows(in, count, out);
        break;
    case TENSOR_BF16:
        bf16_rows(in, count, out);
        break;
    case TENSOR_I64:
    case TENSOR_I32:
        integers(t->type, in, count, out);
        break;
    default:
        blocks(decoders[t->type], t->type, in, count, out);
    }
}
