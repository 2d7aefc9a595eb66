/* Tiles of AMX: eight registers of 16 rows of 64 bytes; the instructions of amx_gemm_kernels.h. */
#include <immintrin.h>
#include <stdint.h>

#define AMX_TARGET __attribute__((target("amx-tile,amx-bf16")))

/* The compiler's instructions do not all say that they touch memory; these barriers do. */
#define TILES_BEGIN() __asm__ volatile("" ::: "memory")
#define TILES_END() __asm__ volatile("" ::: "memory")
/* t, c, a, b: digits; the stride is in bytes. */
#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, p, stride) _tile_loadd(t, p, stride)
#define TILE_STREAM(t, p, stride) _tile_stream_loadd(t, p, stride)
#define TILE_STORE(t, p, stride) _tile_stored(t, p, stride)
#define TILE_DP(c, a, b) _tile_dpbf16ps(c, a, b)

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Every product configures its thread's tiles and gives them back: threads are the pool's, which
 * knows nothing of tiles, and a task without them is cheaper to switch. */
AMX_TARGET static void amx_begin(void)
{
    static const struct tile_config whole = {.palette = 1,
                                             .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                             .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&whole);
}
AMX_TARGET static void amx_end(void)
{
    _tile_release();
}

/* ---- for amx_few_kernels.h: the processor takes denormals as zeros, and tells by the flag of
 * underflow that a result was one ---- */

V16 v16 amx_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
V16 v16 amx_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
/* t = v·65535 = v·2^16 - v, rounded to 24 digits, ends where the eighth digit of v stands, since it
 * is 2^16 times as large; v·2^16 ends there, too, so v·2^16 - t is v rounded to that place.  A tie
 * goes to an even t, which is where the difference is even: then v·2^16 is.  Only where v is less
 * than 2^-16 of itself above a power of two t ends one place lower, where it rounds to that power
 * as well.
 */
V16 v16 amx_round(v16 v)
{
    return _mm512_fmsub_ps(v, _mm512_set1_ps(0x1p16f), _mm512_mul_ps(v, _mm512_set1_ps(0xffffp0f)));
}
/* A load from byte j/2 on spares a shift; behind the last words of a block may be no memory. */
V16 v16 amx_nibble(const int kind, const struct q4_block *b, const int g, const int j)
{
    const int skip = g < 3 ? j / 2 : 0, nibble = j - 2 * skip;
    v16i q = v16i_load((const unsigned char *)b->q[g] + skip);
    return kind == PACKED_Q4S ? v16_nibble_signed(q, nibble) : v16_nibble(q, nibble);
}

static unsigned amx_flush_begin(void)
{
    unsigned state = _mm_getcsr();
    _mm_setcsr((state & ~(unsigned)_MM_EXCEPT_MASK) | 0x8040);
    return state;
}
static int amx_flush_end(unsigned state)
{
    unsigned now = _mm_getcsr();
    _mm_setcsr(state);
    return (now & _MM_EXCEPT_UNDERFLOW) != 0;
}
