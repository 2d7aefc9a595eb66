/* The model of AMX's tiles in plain C: what amx_gemm_kernels.h needs, on any machine.  Only tests
 * use it, so that the AMX path is compiled and compared where there is no AMX. */
#include <stdint.h>

#define AMX_TARGET

struct amx_tile {
    uint32_t at[16][16];
};

#define TILES_BEGIN() struct amx_tile tile[8]
#define TILES_END() (void)tile
#define TILE_ZERO(t)                                                                               \
    tile[t] = (struct amx_tile)                                                                    \
    {                                                                                              \
        {                                                                                          \
            {                                                                                      \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
#define TILE_LOAD(t, p, stride) amx_model_load(&tile[t], p, stride)
#define TILE_STREAM(t, p, stride) TILE_LOAD(t, p, stride)
#define TILE_STORE(t, p, stride) amx_model_store(&tile[t], p, stride)
#define TILE_DP(c, a, b) amx_model_dp(&tile[c], &tile[a], &tile[b])

static void amx_model_load(struct amx_tile *t, const void *p, size_t stride)
{
    const unsigned char *from = p;
    for (int i = 0; i < 16; i++, from += stride) memcpy(t->at[i], from, 64);
}
static void amx_model_store(const struct amx_tile *t, void *p, size_t stride)
{
    unsigned char *to = p;
    for (int i = 0; i < 16; i++, to += stride) memcpy(to, t->at[i], 64);
}

/* One element of TDPBF16PS as Intel's manual has it: for the 16 pairs of a row of A and a column of
 * B, a chain of FMAs from 0 over the even elements and one over the odd; then c + (even + odd).
 * Nearest even, denormals are zeros before and after each operation. */
static uint32_t amx_model_element(uint32_t c, const uint32_t *a, const uint32_t *b)
{
    float even = 0, odd = 0;
    for (int k = 0; k < 16; k++, b += 16) {
        even = bf16_fma(half_bits_float(a[k] << 16), half_bits_float(*b << 16), even);
        odd = bf16_fma(half_bits_float(a[k] & 0xffff0000), half_bits_float(*b & 0xffff0000), odd);
    }
    float sum = bf16_flush(bf16_flush(half_bits_float(c)) + bf16_flush(even + odd));
    memcpy(&c, &sum, sizeof c);
    return c;
}
static void amx_model_dp(struct amx_tile *c, const struct amx_tile *a, const struct amx_tile *b)
{
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++)
            c->at[m][n] = amx_model_element(c->at[m][n], a->at[m], &b->at[0][n]);
}

static void amx_begin(void) {}
static void amx_end(void) {}

/* ---- amx_few_kernels.h ---- */

V16 v16 amx_fma(v16 a, v16 b, v16 c)
{
    V16_EACH c.f[i] = bf16_fma(a.f[i], b.f[i], c.f[i]);
    return c;
}
V16 v16 amx_add(v16 a, v16 b)
{
    V16_EACH a.f[i] = bf16_flush(bf16_flush(a.f[i]) + bf16_flush(b.f[i]));
    return a;
}
V16 v16 amx_round(v16 v)
{
    V16_EACH v.f[i] = bfloat_to_float(float_to_bfloat(v.f[i]));
    return v;
}
V16 v16 amx_nibble(const int kind, const struct q4_block *b, const int g, const int j)
{
    v16i q = v16i_load(b->q[g]);
    return kind == PACKED_Q4S ? v16_nibble_signed(q, j) : v16_nibble(q, j);
}

static unsigned amx_flush_begin(void)
{
    return 0;
}
static int amx_flush_end(unsigned state)
{
    (void)state;
    return 0;
}
