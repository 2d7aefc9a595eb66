/* Products of bf16 pairs by VDPBF16PS.  The functions ask for the instruction by an attribute: the
 * rest of the set must run on machines without it. */
#include <immintrin.h>
#include <stdint.h>

#include "tensor/half.h"

#define BF16_TARGET __attribute__((target("avx512bf16")))

V16 v16i v16i_set1(uint32_t u)
{
    return _mm512_set1_epi32((int)u);
}
V16 void v16i_store(void *p, v16i v)
{
    _mm512_storeu_si512(p, v);
}
/* The even elements, and zeros for the odd ones. */
V16 v16i bf16_first(v16i v)
{
    return _mm512_and_si512(v, _mm512_set1_epi32(0xffff));
}
BF16_TARGET V16 v16 v16_dot2(v16 s, v16i a, v16i b)
{
    return _mm512_dpbf16_ps(s, (__m512bh)a, (__m512bh)b);
}
/* Sixteen even and sixteen odd elements, one after the other, as pairs. */
V16 v16i bf16_interleave(v16i v)
{
    const v16i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                        8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, v);
}
BF16_TARGET V16 v16i bf16_round_pairs(v16 even, v16 odd)
{
    return bf16_interleave((v16i)_mm512_cvtne2ps_pbh(odd, even));
}
BF16_TARGET V16 v16i bf16_round_two(v16 first, v16 second)
{
    return (v16i)_mm512_cvtne2ps_pbh(second, first);
}

/* What rounding takes off. */
BF16_TARGET V16 v16 bf16_rest(v16 v)
{
    __m512i rounded = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v));
    return _mm512_sub_ps(v, _mm512_castsi512_ps(_mm512_slli_epi32(rounded, 16)));
}

/* out[m][2i], out[m][2i + 1] are words 2m and 2m + 1 of row i as pairs of their even and of their
 * odd elements: rows (8, 16) and out alike. */
V16 void bf16_turn_pairs(const uint32_t *rows, uint32_t *out)
{
    const v16i apart =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
    _Pragma("GCC unroll 4") for (int p = 0; p < 4; p++, rows += 4, out += 32)
    {
        v16i v[2];
        _Pragma("GCC unroll 2") for (int odd = 0; odd < 2; odd++)
        {
            const __m128i *from = (const __m128i *)(const void *)(rows + 16 * odd);
            v[odd] = _mm512_castsi128_si512(_mm_loadu_si128(from));
            v[odd] = _mm512_inserti32x4(v[odd], _mm_loadu_si128(from + 8), 1);
            v[odd] = _mm512_inserti32x4(v[odd], _mm_loadu_si128(from + 16), 2);
            v[odd] = _mm512_inserti32x4(v[odd], _mm_loadu_si128(from + 24), 3);
            v[odd] = _mm512_shuffle_epi8(v[odd], apart);
        }
        v16i_store(out, _mm512_unpacklo_epi64(v[0], v[1]));
        v16i_store(out + 16, _mm512_unpackhi_epi64(v[0], v[1]));
    }
}

/* The instruction itself takes denormals as zeros. */
static inline unsigned bf16_begin(void)
{
    return 0;
}
static inline void bf16_end(unsigned state)
{
    (void)state;
}
