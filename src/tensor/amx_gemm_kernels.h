/* GEMM with bf16 products on AMX's tiles; after bf16_gemm_kernels.h, with whose rows, decoded
 * panels and outputs it works.
 *
 * Sixteen pairs of a decoded panel are a tile of B as they lie, sixteen rows of X a tile of A.  32
 * rows and 32 columns are four tiles of sums.  The order is that of TDPBF16PS at every number of
 * rows, one included: for every 32 steps of k two chains of FMAs from 0,
 *   even = fma(x[k], w[k], even), odd = fma(x[k+1], w[k+1], odd),
 * then s = s + (even + odd), denormals as zeros all the way; K has zeros behind it up to a
 * multiple of 32.
 *
 * The including file defines AMX_TARGET, the TILE_ macros, amx_begin() and amx_end(); and
 * ISA_AMX_PRODUCTS, the name of the result. */

#define AMX_ROWS 32
#define AMX_STEPS 640 /* of k in a block: two panels are 40 KB of the 48 of the first cache */

/* Where the sums of a tile's rows and columns are to be found and left: a tile's sums, or rows of
 * the output itself. */
struct amx_sums {
    const float *from; /* or NULL: they begin */
    size_t from_ld;
    float *to;
    size_t to_ld;
};

typedef void amx_tile_fn(const uint32_t *x, size_t ldx, const uint32_t *w, size_t stride, int steps,
                         const struct amx_sums *sums);

/* 16·R rows, 16·P columns.  Tiles: 0 … 3 sums, 4 and 5 rows of X, 6 and 7 panels.  The panels stay in
 * the first cache while all rows pass by, which are not to push them out: TILE_STREAM. */
AMX_TARGET static inline __attribute__((always_inline)) void
amx_tile(const int R, const int P, const uint32_t *x, size_t ldx, const uint32_t *w, size_t stride,
         int steps, const struct amx_sums *sums)
{
    const size_t from_row = sums->from_ld * 4, to_row = sums->to_ld * 4;
    const float *from = sums->from, *from16 = from ? from + 16 * sums->from_ld : NULL;
    float *to = sums->to, *to16 = to + 16 * sums->to_ld;
    TILES_BEGIN();
    if (!from) {
        TILE_ZERO(0);
        if (P > 1) TILE_ZERO(1);
        if (R > 1) TILE_ZERO(2);
        if (R > 1 && P > 1) TILE_ZERO(3);
    } else {
        TILE_LOAD(0, from, from_row);
        if (P > 1) TILE_LOAD(1, from + 16, from_row);
        if (R > 1) TILE_LOAD(2, from16, from_row);
        if (R > 1 && P > 1) TILE_LOAD(3, from16 + 16, from_row);
    }
    for (int k = 0; k < steps; k += 32, x += 256, w += 256) {
        TILE_STREAM(4, x, 64);
        TILE_LOAD(6, w, 64);
        TILE_DP(0, 4, 6);
        if (P > 1) {
            TILE_LOAD(7, w + stride, 64);
            TILE_DP(1, 4, 7);
        }
        if (R > 1) {
            TILE_STREAM(5, x + 16 * ldx, 64);
            TILE_DP(2, 5, 6);
            if (P > 1) TILE_DP(3, 5, 7);
        }
    }
    TILE_STORE(0, to, to_row);
    if (P > 1) TILE_STORE(1, to + 16, to_row);
    if (R > 1) TILE_STORE(2, to16, to_row);
    if (R > 1 && P > 1) TILE_STORE(3, to16 + 16, to_row);
    TILES_END();
}

#define AMX_TILE(R, P)                                                                             \
    AMX_TARGET static void amx_tile_##R##_##P(const uint32_t *x, size_t ldx, const uint32_t *w,    \
                                              size_t stride, int steps,                            \
                                              const struct amx_sums *sums)                         \
    {                                                                                              \
        amx_tile(R, P, x, ldx, w, stride, steps, sums);                                            \
    }
AMX_TILE(1, 1)
AMX_TILE(1, 2)
AMX_TILE(2, 1)
AMX_TILE(2, 2)

static amx_tile_fn *const amx_tiles[2][2] = {{amx_tile_1_1, amx_tile_1_2},
                                             {amx_tile_2_1, amx_tile_2_2}};

/* Sums are outputs where nothing is done to them and all rows and columns of the tile are some. */
static int amx_stores_outputs(const struct output *o, int P, int rows)
{
    return o && !o->bias && !o->add && !o->gated && o->columns == 16 * P && rows % 16 == 0;
}

/* The rows behind the last, up to a multiple of 16, are whatever the scratch holds: their sums are
 * not used. */
static void amx_tile_rows(int P, int T, const struct bf16_block *b, const struct ahead *ahead,
                          const struct output *output)
{
    size_t ldc = (size_t)P * 16;
    for (int row = 0; row < T; row += AMX_ROWS) {
        int rows = T - row < AMX_ROWS ? T - row : AMX_ROWS;
        int whole = amx_stores_outputs(output, P, rows);
        float *c = b->sums + (size_t)row * ldc;
        struct amx_sums sums = {b->first ? NULL : c, ldc, c, ldc};
        if (whole) sums.to = output->y + (size_t)row * output->ldy, sums.to_ld = output->ldy;
        if (ahead) fetch_ahead(ahead, row / AMX_ROWS, (T + AMX_ROWS - 1) / AMX_ROWS);
        amx_tiles[rows > 16][P - 1](b->x + (size_t)row * b->ldx, b->ldx, b->w, b->stride, b->steps,
                                    &sums);
        if (output && !whole) finish(output, row, rows);
    }
}

static const struct bf16_unit amx_unit = {amx_tile_rows, AMX_ROWS, AMX_STEPS, 0, 1};

static void amx_gemm(const float *x, size_t ldx, int T, const struct packed *w, int panel0,
                     int panel1, const float *bias, float *y, size_t ldy, int add, float *scratch)
{
    amx_begin();
    bf16_gemm_by(&amx_unit, x, ldx, T, w, panel0, panel1, bias, y, ldy, add, scratch);
    amx_end();
}

static void amx_gemm_swiglu(const float *x, size_t ldx, int T, const struct packed *w, int pair0,
                            int pair1, float *h, size_t ldh, float *gates, size_t ldg,
                            float *scratch)
{
    amx_begin();
    bf16_gemm_swiglu_by(&amx_unit, x, ldx, T, w, pair0, pair1, h, ldh, gates, ldg, scratch);
    amx_end();
}

static void amx_gemm_dx(const float *dy, size_t ldy, int T, const struct packed *w, int panel0,
                        int panel1, float *dx, size_t ldx, int add, float *scratch)
{
    amx_begin();
    bf16_gemm_dx_by(&amx_unit, dy, ldy, T, w, panel0, panel1, dx, ldx, add, scratch);
    amx_end();
}

static void amx_gemm_dw(const float *dy, size_t ldy, const float *x, size_t ldx, int T, int n0,
                        int n1, int K, float *dw, size_t lddw, float *scratch)
{
    amx_begin();
    bf16_gemm_dw_by(&amx_unit, dy, ldy, x, ldx, T, n0, n1, K, dw, lddw, scratch);
    amx_end();
}

/* Products of tiles that stay in their registers: four a turn. */
AMX_TARGET static float amx_loop(long turns)
{
    uint32_t pairs[256];
    float sums[256];
    for (int i = 0; i < 256; i++) pairs[i] = 0x35863f7f;
    amx_begin();
    {
        TILES_BEGIN();
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
        TILE_LOAD(4, pairs, 64);
        TILE_LOAD(5, pairs, 64);
        TILE_LOAD(6, pairs, 64);
        TILE_LOAD(7, pairs, 64);
        for (long t = 0; t < turns; t++) {
            TILE_DP(0, 4, 6);
            TILE_DP(1, 4, 7);
            TILE_DP(2, 5, 6);
            TILE_DP(3, 5, 7);
        }
        TILE_STORE(0, sums, 64);
        TILES_END();
    }
    amx_end();
    return sums[0];
}

/* By the manual's numbers (estimated, not measured) a core's tiles multiply 96 rows in about the
 * time that it takes to decode their weights, and its second cache is twice as large as that of the
 * other sets' machines: twice the rows. */
const struct bf16_kernels ISA_AMX_PRODUCTS = {.tile_rows = AMX_ROWS,
                                              .block_rows = 2 * BLOCK_ROWS,
                                              .gemm = amx_gemm,
                                              .gemm_swiglu = amx_gemm_swiglu,
                                              .gemm_dx = amx_gemm_dx,
                                              .gemm_dw = amx_gemm_dw,
                                              .fma_loop = amx_loop,
                                              .fma_loop_flops = 4 * 2 * 16 * 16 * 32};
