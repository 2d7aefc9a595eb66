/* Products of bf16 pairs on AVX2: two FMAs on widened numbers, with the processor told to take
 * denormals as zeros, give the bits of VDPBF16PS. */
#include <immintrin.h>
#include <stdint.h>

#include "tensor/half.h"

#define BF16_TARGET

V16 v16i v16i_set1(uint32_t u)
{
    v16i v = {_mm256_set1_epi32((int)u), _mm256_set1_epi32((int)u)};
    return v;
}
V16 void v16i_store(void *p, v16i v)
{
    _mm256_storeu_si256(p, v.a);
    _mm256_storeu_si256((__m256i *)p + 1, v.b);
}

V16 __m256 bf16_odd(__m256i v)
{
    return _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000)));
}
V16 __m256 bf16_even(__m256i v)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
}
/* The even elements, and zeros for the odd ones. */
V16 v16i bf16_first(v16i v)
{
    const __m256i even = _mm256_set1_epi32(0xffff);
    v16i w = {_mm256_and_si256(v.a, even), _mm256_and_si256(v.b, even)};
    return w;
}
V16 v16 v16_dot2(v16 s, v16i a, v16i b)
{
    s.a = _mm256_fmadd_ps(bf16_odd(a.a), bf16_odd(b.a), s.a);
    s.b = _mm256_fmadd_ps(bf16_odd(a.b), bf16_odd(b.b), s.b);
    s.a = _mm256_fmadd_ps(bf16_even(a.a), bf16_even(b.a), s.a);
    s.b = _mm256_fmadd_ps(bf16_even(a.b), bf16_even(b.b), s.b);
    return s;
}

/* The bf16 bits of each number in the upper half of its lane; see float_to_bfloat(). */
V16 __m256i bf16_round(__m256 f)
{
    __m256i u = _mm256_castps_si256(f), size = _mm256_and_si256(u, _mm256_set1_epi32(0x7fffffff));
    __m256i bit = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), bit);
    __m256i nan = _mm256_cmpgt_epi32(size, _mm256_set1_epi32(0x7f800000));
    __m256i tiny = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x00800000), size);
    r = _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), nan);
    r = _mm256_blendv_epi8(r, _mm256_andnot_si256(_mm256_set1_epi32(0x7fffffff), u), tiny);
    return r;
}
V16 __m256i bf16_join(__m256i even, __m256i odd)
{
    return _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xaa);
}
V16 v16i bf16_round_pairs(v16 even, v16 odd)
{
    v16i v = {bf16_join(bf16_round(even.a), bf16_round(odd.a)),
              bf16_join(bf16_round(even.b), bf16_round(odd.b))};
    return v;
}
V16 __m256i bf16_round_neighbours(v16 v)
{
    __m256i low = _mm256_srli_epi32(bf16_round(v.a), 16);
    __m256i high = _mm256_srli_epi32(bf16_round(v.b), 16);
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
}
V16 v16i bf16_round_two(v16 first, v16 second)
{
    v16i v = {bf16_round_neighbours(first), bf16_round_neighbours(second)};
    return v;
}

/* out[m][2i], out[m][2i + 1] are words 2m and 2m + 1 of row i as pairs of their even and of their
 * odd elements: rows (8, 16) and out alike. */
V16 void bf16_turn_pairs(const uint32_t *rows, uint32_t *out)
{
    const __m256i apart = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
    for (int p = 0; p < 4; p++, rows += 4, out += 32)
        for (int half = 0; half < 2; half++) {
            __m256i v[2];
            _Pragma("GCC unroll 2") for (int odd = 0; odd < 2; odd++)
            {
                const __m128i *from = (const __m128i *)(const void *)(rows + 64 * half + 16 * odd);
                v[odd] = _mm256_castsi128_si256(_mm_loadu_si128(from));
                v[odd] = _mm256_inserti128_si256(v[odd], _mm_loadu_si128(from + 8), 1);
                v[odd] = _mm256_shuffle_epi8(v[odd], apart);
            }
            __m256i *to = (__m256i *)(void *)(out + 8 * half);
            _mm256_storeu_si256(to, _mm256_unpacklo_epi64(v[0], v[1]));
            _mm256_storeu_si256(to + 2, _mm256_unpackhi_epi64(v[0], v[1]));
        }
}

/* DAZ and FTZ; the tiles are functions of their own, so no arithmetic moves across. */
static inline unsigned bf16_begin(void)
{
    unsigned state = _mm_getcsr();
    _mm_setcsr(state | 0x8040);
    return state;
}
static inline void bf16_end(unsigned state)
{
    _mm_setcsr(state);
}
