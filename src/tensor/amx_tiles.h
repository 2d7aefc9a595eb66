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
