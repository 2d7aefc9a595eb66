/* v16 on AVX-512: one register.  See v16_portable.h for what each operation means. */
#include <immintrin.h>

typedef __m512 v16;
typedef __m512i v16i;

#define V16 static inline __attribute__((always_inline))

V16 __mmask16 v16_lanes(int n)
{
    return n >= 16 ? (__mmask16)0xffff : n <= 0 ? (__mmask16)0 : (__mmask16)((1u << n) - 1);
}

V16 v16 v16_zero(void)
{
    return _mm512_setzero_ps();
}
V16 v16 v16_set1(float x)
{
    return _mm512_set1_ps(x);
}
V16 v16 v16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
V16 void v16_store(float *p, v16 v)
{
    _mm512_storeu_ps(p, v);
}
V16 void v16_stream(float *p, v16 v)
{
    if ((uintptr_t)p % 64)
        v16_store(p, v);
    else
        _mm512_stream_ps(p, v);
}
V16 void v16_stream_end(void)
{
    _mm_sfence();
}
V16 v16 v16_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(v16_lanes(n), p);
}
V16 void v16_store_n(float *p, v16 v, int n)
{
    _mm512_mask_storeu_ps(p, v16_lanes(n), v);
}
V16 v16 v16_keep(v16 v, int n, v16 rest)
{
    return _mm512_mask_blend_ps(v16_lanes(n), rest, v);
}
V16 v16 v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
V16 v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
V16 v16 v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
V16 v16 v16_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}
V16 v16 v16_sqrt(v16 v)
{
    return _mm512_sqrt_ps(v);
}
V16 v16 v16_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
V16 v16 v16_fnma(v16 a, v16 b, v16 c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
V16 v16 v16_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}
V16 v16 v16_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}
V16 v16 v16_neg(v16 a)
{
    return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f));
}
V16 v16 v16_abs(v16 a)
{
    return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a);
}
V16 v16 v16_copysign(v16 size, v16 sign)
{
    v16 bit = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_andnot_ps(bit, size), _mm512_and_ps(bit, sign));
}
V16 v16 v16_if_less(v16 a, v16 b, v16 yes, v16 no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
V16 v16 v16_ldexp(v16 x, v16 n)
{
    return _mm512_scalef_ps(x, n);
}

V16 float v16_sum(v16 v)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}
V16 float v16_highest(v16 v)
{
    __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_shuffle_ps(b, b, 1)));
}
/* Four rows at a time into columns of four, then the 4 × 4 quarters of registers. */
V16 void v16_transpose_apart(const float *in, size_t ldin, float *out, float *out8, size_t ldout)
{
    v16 u[4][4]; /* [group of four rows][column modulo 4] */
    _Pragma("GCC unroll 4") for (int g = 0; g < 4; g++, in += 4 * ldin)
    {
        v16 a = v16_load(in), b = v16_load(in + ldin);
        v16 c = v16_load(in + 2 * ldin), d = v16_load(in + 3 * ldin);
        __m512d ab = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
        __m512d cd = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
        __m512d ab2 = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
        __m512d cd2 = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
        u[g][0] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
        u[g][1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
        u[g][2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab2, cd2));
        u[g][3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab2, cd2));
    }
    _Pragma("GCC unroll 4") for (int c = 0; c < 4; c++, out += ldout, out8 += ldout)
    {
        v16 even = _mm512_shuffle_f32x4(u[0][c], u[1][c], 0x88);
        v16 even2 = _mm512_shuffle_f32x4(u[2][c], u[3][c], 0x88);
        v16 odd = _mm512_shuffle_f32x4(u[0][c], u[1][c], 0xdd);
        v16 odd2 = _mm512_shuffle_f32x4(u[2][c], u[3][c], 0xdd);
        v16_store(out, _mm512_shuffle_f32x4(even, even2, 0x88));
        v16_store(out + 4 * ldout, _mm512_shuffle_f32x4(odd, odd2, 0x88));
        v16_store(out8, _mm512_shuffle_f32x4(even, even2, 0xdd));
        v16_store(out8 + 4 * ldout, _mm512_shuffle_f32x4(odd, odd2, 0xdd));
    }
}

V16 v16i v16i_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
/* The nibble selects from a table in a register: no masking, no conversion. */
V16 v16 v16_nibble(v16i v, int j)
{
    const v16 values = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_permutexvar_ps(_mm512_srli_epi32(v, 4 * (unsigned)j), values);
}
V16 v16 v16_nibble_signed(v16i v, int j)
{
    const v16 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return _mm512_permutexvar_ps(_mm512_srli_epi32(v, 4 * (unsigned)j), values);
}
V16 v16 v16_from_i8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}
V16 v16 v16_from_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
V16 v16 v16_from_bf16(v16i v, int odd)
{
    __m512i high = _mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000));
    return _mm512_castsi512_ps(odd ? high : _mm512_slli_epi32(v, 16));
}
