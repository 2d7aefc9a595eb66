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

/* The instruction itself takes denormals as zeros. */
static inline unsigned bf16_begin(void)
{
    return 0;
}
static inline void bf16_end(unsigned state)
{
    (void)state;
}
