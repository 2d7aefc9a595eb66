/* v16 on AVX2 with FMA and F16C: two registers.  See v16_portable.h for what each operation means.
 */
#include <immintrin.h>

typedef struct {
    __m256 a, b; /* lanes 0-7, 8-15 */
} v16;
typedef struct {
    __m256i a, b;
} v16i;

#define V16 static inline __attribute__((always_inline))

V16 v16 v16_pair(__m256 a, __m256 b)
{
    v16 v = {a, b};
    return v;
}
V16 __m256i v16_lanes(int n, int first)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n - first), lane);
}

V16 v16 v16_zero(void)
{
    return v16_pair(_mm256_setzero_ps(), _mm256_setzero_ps());
}
V16 v16 v16_set1(float x)
{
    return v16_pair(_mm256_set1_ps(x), _mm256_set1_ps(x));
}
V16 v16 v16_load(const float *p)
{
    return v16_pair(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
V16 void v16_store(float *p, v16 v)
{
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
V16 void v16_stream(float *p, v16 v)
{
    if ((uintptr_t)p % 64) {
        v16_store(p, v);
        return;
    }
    _mm256_stream_ps(p, v.a);
    _mm256_stream_ps(p + 8, v.b);
}
V16 void v16_stream_end(void)
{
    _mm_sfence();
}
V16 v16 v16_load_n(const float *p, int n)
{
    return v16_pair(_mm256_maskload_ps(p, v16_lanes(n, 0)),
                    _mm256_maskload_ps(p + 8, v16_lanes(n, 8)));
}
V16 void v16_store_n(float *p, v16 v, int n)
{
    _mm256_maskstore_ps(p, v16_lanes(n, 0), v.a);
    _mm256_maskstore_ps(p + 8, v16_lanes(n, 8), v.b);
}
V16 v16 v16_keep(v16 v, int n, v16 rest)
{
    return v16_pair(_mm256_blendv_ps(rest.a, v.a, _mm256_castsi256_ps(v16_lanes(n, 0))),
                    _mm256_blendv_ps(rest.b, v.b, _mm256_castsi256_ps(v16_lanes(n, 8))));
}
V16 v16 v16_add(v16 x, v16 y)
{
    return v16_pair(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b));
}
V16 v16 v16_sub(v16 x, v16 y)
{
    return v16_pair(_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b));
}
V16 v16 v16_mul(v16 x, v16 y)
{
    return v16_pair(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b));
}
V16 v16 v16_div(v16 x, v16 y)
{
    return v16_pair(_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b));
}
V16 v16 v16_sqrt(v16 x)
{
    return v16_pair(_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b));
}
V16 v16 v16_fma(v16 x, v16 y, v16 z)
{
    return v16_pair(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
V16 v16 v16_fnma(v16 x, v16 y, v16 z)
{
    return v16_pair(_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b));
}
V16 v16 v16_max(v16 x, v16 y)
{
    return v16_pair(_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b));
}
V16 v16 v16_min(v16 x, v16 y)
{
    return v16_pair(_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b));
}
V16 v16 v16_neg(v16 x)
{
    __m256 bit = _mm256_set1_ps(-0.0f);
    return v16_pair(_mm256_xor_ps(x.a, bit), _mm256_xor_ps(x.b, bit));
}
V16 v16 v16_abs(v16 x)
{
    __m256 bit = _mm256_set1_ps(-0.0f);
    return v16_pair(_mm256_andnot_ps(bit, x.a), _mm256_andnot_ps(bit, x.b));
}
V16 v16 v16_copysign(v16 size, v16 sign)
{
    __m256 bit = _mm256_set1_ps(-0.0f);
    return v16_pair(_mm256_or_ps(_mm256_andnot_ps(bit, size.a), _mm256_and_ps(bit, sign.a)),
                    _mm256_or_ps(_mm256_andnot_ps(bit, size.b), _mm256_and_ps(bit, sign.b)));
}
V16 v16 v16_if_less(v16 x, v16 y, v16 yes, v16 no)
{
    return v16_pair(_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
                    _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)));
}
/* Two steps, of which only the second can round. */
V16 __m256 v8_ldexp(__m256 x, __m256 n)
{
    __m256i e = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(e, 1);
    __m256i one = _mm256_set1_epi32(127);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, one), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(e, half), one), 23);
    x = _mm256_mul_ps(x, _mm256_castsi256_ps(first));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(second));
}
V16 v16 v16_ldexp(v16 x, v16 n)
{
    return v16_pair(v8_ldexp(x.a, n.a), v8_ldexp(x.b, n.b));
}

V16 float v16_sum(v16 v)
{
    __m256 a = _mm256_add_ps(v.a, v.b);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}
V16 float v16_highest(v16 v)
{
    __m256 a = _mm256_max_ps(v.a, v.b);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_shuffle_ps(b, b, 1)));
}
/* Four columns of eight rows, gathered by halves of registers. */
V16 void v8_transpose_half(const float *in, size_t ldin, float *out, size_t ldout)
{
    __m256 r[4];
    _Pragma("GCC unroll 4") for (size_t i = 0; i < 4; i++) r[i] = _mm256_insertf128_ps(
        _mm256_castps128_ps256(_mm_loadu_ps(in + i * ldin)), _mm_loadu_ps(in + (i + 4) * ldin), 1);
    __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r[0], r[1]));
    __m256d b = _mm256_castps_pd(_mm256_unpacklo_ps(r[2], r[3]));
    __m256d c = _mm256_castps_pd(_mm256_unpackhi_ps(r[0], r[1]));
    __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(r[2], r[3]));
    _mm256_storeu_ps(out, _mm256_castpd_ps(_mm256_unpacklo_pd(a, b)));
    _mm256_storeu_ps(out + ldout, _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
    _mm256_storeu_ps(out + 2 * ldout, _mm256_castpd_ps(_mm256_unpacklo_pd(c, d)));
    _mm256_storeu_ps(out + 3 * ldout, _mm256_castpd_ps(_mm256_unpackhi_pd(c, d)));
}
V16 void v16_transpose_apart(const float *in, size_t ldin, float *out, float *out8, size_t ldout)
{
    for (size_t i = 0; i < 16; i += 8)
        for (size_t j = 0; j < 8; j += 4) {
            v8_transpose_half(in + i * ldin + j, ldin, out + j * ldout + i, ldout);
            v8_transpose_half(in + i * ldin + j + 8, ldin, out8 + j * ldout + i, ldout);
        }
}

V16 v16i v16i_load(const void *p)
{
    v16i v = {_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1)};
    return v;
}
V16 __m256 v8_nibble(__m256i v, int j)
{
    __m256i q = _mm256_and_si256(_mm256_srli_epi32(v, 4 * j), _mm256_set1_epi32(15));
    return _mm256_cvtepi32_ps(q);
}
V16 v16 v16_nibble(v16i v, int j)
{
    return v16_pair(v8_nibble(v.a, j), v8_nibble(v.b, j));
}
V16 v16 v16_nibble_signed(v16i v, int j)
{
    v16 eight = v16_set1(8.0f);
    return v16_sub(v16_nibble(v, j), eight);
}
V16 v16 v16_from_i8(const void *p)
{
    __m128i v = _mm_loadu_si128(p);
    return v16_pair(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)),
                    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))));
}
V16 v16 v16_from_f16(const void *p)
{
    return v16_pair(_mm256_cvtph_ps(_mm_loadu_si128(p)),
                    _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1)));
}
V16 __m256 v16_half_bf16(__m256i v, int odd)
{
    __m256i high = _mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000));
    return _mm256_castsi256_ps(odd ? high : _mm256_slli_epi32(v, 16));
}
V16 v16 v16_from_bf16(v16i v, int odd)
{
    return v16_pair(v16_half_bf16(v.a, odd), v16_half_bf16(v.b, odd));
}
