/* GEMM with bf16 products and f32 sums, generic in the instruction set; after gemm_kernels.h.
 *
 * Rows of X and weights are rounded to bf16 (nearest even) and taken in pairs along k; an odd K has
 * a zero behind it.  Every output is one chain over the pairs, in the order of VDPBF16PS:
 *   s = fma(x[k+1], w[k+1], s), then s = fma(x[k], w[k], s),   k = 0, 2, 4 …
 * where denormal operands and results are zeros.  The tiles, at one row as at three hundred,
 * compute that chain; what comes after it (bias, add, the gate) is that of mode f32.
 *
 * The including file defines, beside what gemm_kernels.h needs,
 *   BF16_TARGET      an attribute for the functions that hold v16_dot2
 *   v16_dot2(s, a, b)     the step above for 16 columns; pairs are uint32, odd element high
 *   bf16_round_pairs(even, odd)   two vectors rounded and joined
 *   bf16_begin(), bf16_end()      around the products: the state in which denormals are zeros */

#define BF16_PANELS 8 /* side by side for few rows, to hide the latency */

typedef void bf16_tile_fn(const uint32_t *x, size_t ldx, const uint32_t *w, size_t stride,
                          int pairs, int first, float *c, size_t ldc);

BF16_TARGET static inline __attribute__((always_inline)) void
bf16_tile(const int R, const int P, const uint32_t *x, size_t ldx, const uint32_t *w, size_t stride,
          int pairs, int first, float *c, size_t ldc)
{
    v16 acc[TILE_ROWS * TILE_PANELS > FEW * BF16_PANELS ? TILE_ROWS * TILE_PANELS
                                                        : FEW * BF16_PANELS];
    if (first) {
        UNROLL for (int i = 0; i < R * P; i++) acc[i] = v16_zero();
    } else {
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++) acc[r * P + p] =
            v16_load(c + (size_t)r * ldc + 16 * p);
    }
    for (int k = 0; k < pairs; k++, w += 16) {
        v16i b[BF16_PANELS];
        UNROLL for (int p = 0; p < P; p++) b[p] = v16i_load(w + (size_t)p * stride);
        UNROLL for (int r = 0; r < R; r++)
        {
            v16i a = v16i_set1(x[(size_t)r * ldx + (size_t)k]);
            UNROLL for (int p = 0; p < P; p++) acc[r * P + p] = v16_dot2(acc[r * P + p], a, b[p]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++)
        v16_store(c + (size_t)r * ldc + 16 * p, acc[r * P + p]);
}

#define BF16_TILE(R, P)                                                                            \
    BF16_TARGET static void bf16_tile_##R##_##P(const uint32_t *x, size_t ldx, const uint32_t *w,  \
                                                size_t stride, int pairs, int first, float *c,     \
                                                size_t ldc)                                        \
    {                                                                                              \
        bf16_tile(R, P, x, ldx, w, stride, pairs, first, c, ldc);                                  \
    }
#define BF16_TILES(R) BF16_TILE(R, 1) BF16_TILE(R, 2)
#define BF16_ENTRY(R)                                                                              \
    {                                                                                              \
        bf16_tile_##R##_1, bf16_tile_##R##_2                                                       \
    }

/* clang-format off */
BF16_TILES(1) BF16_TILES(2) BF16_TILES(3) BF16_TILES(4)
#if TILE_ROWS >= 6
BF16_TILES(5) BF16_TILES(6)
#endif
#if TILE_ROWS >= 12
BF16_TILES(7) BF16_TILES(8) BF16_TILES(9) BF16_TILES(10) BF16_TILES(11) BF16_TILES(12)
#endif
BF16_TILE(1, 8) BF16_TILE(2, 4) BF16_TILE(3, 4) BF16_TILE(4, 4)

static bf16_tile_fn *const bf16_tiles[TILE_ROWS + 1][2] = {
    {NULL, NULL}, BF16_ENTRY(1), BF16_ENTRY(2), BF16_ENTRY(3), BF16_ENTRY(4),
#if TILE_ROWS >= 6
    BF16_ENTRY(5), BF16_ENTRY(6),
#endif
#if TILE_ROWS >= 12
    BF16_ENTRY(7), BF16_ENTRY(8), BF16_ENTRY(9), BF16_ENTRY(10), BF16_ENTRY(11), BF16_ENTRY(12),
#endif
};
/* clang-format on */
static bf16_tile_fn *const bf16_few[FEW] = {bf16_tile_1_8, bf16_tile_2_4, bf16_tile_3_4,
                                            bf16_tile_4_4};

/* ---- rounding ------------------------------------------------------------------ */

/* Rows as pairs, (T, pairs). */
BF16_TARGET static void bf16_rows(const float *x, size_t ldx, int T, int K, uint32_t *out)
{
    size_t pairs = ((size_t)K + 1) / 2;
    for (int t = 0; t < T; t++, x += ldx, out += pairs) {
        size_t k = 0;
        for (; k + 32 <= (size_t)K; k += 32) bf16_round_row(x + k, out + k / 2);
        for (; k < (size_t)K; k += 2) {
            uint32_t even = float_to_bfloat(x[k]);
            uint32_t odd = k + 1 < (size_t)K ? float_to_bfloat(x[k + 1]) : 0;
            out[k / 2] = odd << 16 | even;
        }
    }
}

/* Steps k0 … k1-1 of a panel as pairs, [(k1 - k0 + 1) / 2][16]; k0 is a multiple of 32. */
BF16_TARGET static void bf16_decode(const struct packed *w, int panel, int k0, int k1,
                                    uint32_t *out)
{
    float steps[(Q4_STEPS + 1) * 16];
    for (int k = k0; k < k1; k += Q4_STEPS) {
        int n = k1 - k < Q4_STEPS ? k1 - k : Q4_STEPS;
        decode_panel(w, panel, k, k + n, steps);
        if (n % 2) v16_store(steps + 16 * n, v16_zero());
        for (int j = 0; j < n; j += 2, out += 16)
            v16i_store(out,
                       bf16_round_pairs(v16_load(steps + 16 * j), v16_load(steps + 16 * j + 16)));
    }
}

/* ---- a group of panels ------------------------------------------------------------- */

/* The caller's scratch: sums, decoded weights as pairs, rows as pairs. */
struct bf16_space {
    float *sums;
    uint32_t *weights, *rows;
};

static struct bf16_space bf16_space(float *scratch)
{
    struct gemm_space s = gemm_space(scratch);
    uint32_t *weights = (uint32_t *)(void *)s.decoded;
    return (struct bf16_space){s.sums, weights, weights + GEMM_STEPS * 32};
}

static void bf16_tile_rows(int P, const struct bf16_space *s, size_t ldx, int k0, int T, int steps,
                           size_t stride, const struct ahead *ahead)
{
    int pairs = (steps + 1) / 2, row = 0, n_tiles = (T + TILE_ROWS - 1) / TILE_ROWS;
    const uint32_t *x = s->rows + k0 / 2;
    size_t ldc = (size_t)P * 16;
    if (T <= FEW) {
        int wide = T == 1 ? 8 : 4;
        for (int p = 0; p < P;) {
            int n = p + wide <= P ? wide : 1;
            (n > 1 ? bf16_few[T - 1] : bf16_tiles[T][0])(x, ldx, s->weights + (size_t)p * stride,
                                                         stride, pairs, k0 == 0, s->sums + 16 * p,
                                                         ldc);
            p += n;
        }
        return;
    }
    for (int i = 0; i < n_tiles; i++) {
        int rows = (T - row) / (n_tiles - i);
        fetch_ahead(ahead, i, n_tiles);
        for (int p = 0; p < P; p += TILE_PANELS) {
            int n = P - p < TILE_PANELS ? P - p : TILE_PANELS;
            bf16_tiles[rows][n - 1](x + (size_t)row * ldx, ldx, s->weights + (size_t)p * stride,
                                    stride, pairs, k0 == 0, s->sums + (size_t)row * ldc + 16 * p,
                                    ldc);
        }
        row += rows;
    }
}

/* s->rows holds the T rows; blocks of k are as in mode f32, shorter for many panels. */
static void bf16_group(int T, const struct packed *w, int panel, int P, const struct bf16_space *s,
                       const struct output *output)
{
    int most = P <= 2 ? GEMM_STEPS : GEMM_STEPS / 4;
    size_t ldx = ((size_t)w->k + 1) / 2, stride = (size_t)most / 2 * 16;
    for (int k0 = 0; k0 < w->k; k0 += most) {
        int steps = w->k - k0 < most ? w->k - k0 : most;
        struct ahead ahead = ahead_of(w, panel, P < 2 ? P : 2, k0, steps);
        for (int p = 0; p < P; p++)
            bf16_decode(w, panel + p, k0, k0 + steps, s->weights + (size_t)p * stride);
        unsigned state = bf16_begin();
        bf16_tile_rows(P, s, ldx, k0, T, steps, stride, &ahead);
        bf16_end(state);
    }
    finish(output, 0, T);
}

static void bf16_gemm(const float *x, size_t ldx, int T, const struct packed *w, int panel0,
                      int panel1, const float *bias, float *y, size_t ldy, int add, float *scratch)
{
    struct bf16_space space = bf16_space(scratch);
    int block = T > 0 ? row_block(T, w->k) : 1, group = T <= FEW ? BF16_PANELS : 2;
    struct output out = {.sums = space.sums, .ldy = ldy, .add = add};
    for (int t = 0; t < T; t += block) {
        int rows = T - t < block ? T - t : block;
        bf16_rows(x + (size_t)t * ldx, ldx, rows, w->k, space.rows);
        for (int panel = panel0; panel < panel1; panel += group) {
            int P = panel1 - panel < group ? panel1 - panel : group;
            size_t first = (size_t)(panel - panel0) * 16;
            out.ldc = (size_t)P * 16;
            out.columns = w->n - 16 * panel < 16 * P ? w->n - 16 * panel : 16 * P;
            out.bias = bias ? bias + first : NULL;
            out.y = y + (size_t)t * ldy + first;
            bf16_group(rows, w, panel, P, &space, &out);
        }
    }
}

static void bf16_gemm_swiglu(const float *x, size_t ldx, int T, const struct packed *w, int pair0,
                             int pair1, float *h, size_t ldh, float *gates, size_t ldg,
                             float *scratch)
{
    struct bf16_space space = bf16_space(scratch);
    int block = T > 0 ? row_block(T, w->k) : 1, group = T <= FEW ? BF16_PANELS / 2 : 1;
    struct output out = {.sums = space.sums, .ldy = ldh, .ldg = ldg, .gated = 1};
    for (int t = 0; t < T; t += block) {
        int rows = T - t < block ? T - t : block;
        bf16_rows(x + (size_t)t * ldx, ldx, rows, w->k, space.rows);
        for (int pair = pair0; pair < pair1; pair += group) {
            int pairs = pair1 - pair < group ? pair1 - pair : group;
            out.ldc = (size_t)pairs * 32;
            out.columns = 32 * pairs;
            out.y = h + (size_t)t * ldh + (size_t)(pair - pair0) * 16;
            if (gates) out.gates = gates + (size_t)t * ldg + (size_t)(pair - pair0) * 32;
            bf16_group(rows, w, 2 * pair, 2 * pairs, &space, &out);
        }
    }
}

/* As fma_loop, for the products of this mode: 4·16·FMA_CHAINS operations a turn. */
BF16_TARGET static float bf16_loop(long turns)
{
    float starts[16 * FMA_CHAINS];
    for (int i = 0; i < 16 * FMA_CHAINS; i++) starts[i] = (float)i;
    v16 acc[FMA_CHAINS];
    v16i a = v16i_set1(0x3f7f3f7f), b = v16i_set1(0x35863586);
    unsigned state = bf16_begin();
    UNROLL for (int i = 0; i < FMA_CHAINS; i++) acc[i] = v16_load(starts + 16 * i);
    for (long t = 0; t < turns; t++)
        UNROLL for (int i = 0; i < FMA_CHAINS; i++) acc[i] = v16_dot2(acc[i], a, b);
    UNROLL for (int i = 0; i < FMA_CHAINS; i++) v16_store(starts + 16 * i, acc[i]);
    bf16_end(state);
    float sum = 0;
    for (int i = 0; i < 16 * FMA_CHAINS; i++) sum += starts[i];
    return sum;
}

const struct bf16_kernels ISA_BF16 = {bf16_gemm, bf16_gemm_swiglu, bf16_loop, 4 * 16 * FMA_CHAINS};
