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
 *   BF16_FEW, BF16_WIDE(R)   up to so many rows weights are decoded in registers, so many panels
 *                            side by side
 *   v16_dot2(s, a, b)     the step above for 16 columns; pairs are uint32, odd element high
 *   bf16_first(pairs)     the even elements, with zeros for the odd ones
 *   bf16_round_pairs(even, odd)   two vectors rounded and joined
 *   bf16_round_two(first, second)   as pairs of neighbours, one behind the other
 *   bf16_turn_pairs(rows, out)      pairs along rows become pairs across them
 *   bf16_begin(), bf16_end()      around the products: the state in which denormals are zeros */

/* In two shapes, as tile_fn. */
typedef void bf16_tile_fn(const uint32_t *x, size_t ldx, const uint32_t *w, size_t stride,
                          int pairs, int first, float *c, size_t ldc);

/* x[r·xr + k·xk], w[k·wk + p·wp] of pair k; settle as in mode f32. */
BF16_TARGET static inline __attribute__((always_inline)) void
bf16_tile(const int R, const int P, const uint32_t *x, size_t xr, size_t xk, const uint32_t *w,
          size_t wk, size_t wp, int pairs, int first, const int settle, float *c, size_t ldc)
{
    v16 acc[TILE_ROWS * 2];
    if (first) {
        UNROLL for (int i = 0; i < R * P; i++) acc[i] = v16_zero();
    } else {
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++) acc[r * P + p] =
            v16_load(c + (size_t)r * ldc + 16 * p);
    }
    for (int k = 0; k < pairs; k++, w += wk) {
        v16i b[2];
        UNROLL for (int p = 0; p < P; p++) b[p] = v16i_load(w + (size_t)p * wp);
        UNROLL for (int r = 0; r < R; r++)
        {
            v16i a = v16i_set1(x[(size_t)r * xr + (size_t)k * xk]);
            UNROLL for (int p = 0; p < P; p++) acc[r * P + p] = v16_dot2(acc[r * P + p], a, b[p]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++)
    {
        v16 sum = acc[r * P + p];
        v16_store(c + (size_t)r * ldc + 16 * p, settle ? v16_add(sum, v16_zero()) : sum);
    }
}

#define BF16_TILE(R, P)                                                                            \
    BF16_TARGET static void bf16_tile_##R##_##P(const uint32_t *x, size_t ldx, const uint32_t *w,  \
                                                size_t stride, int pairs, int first, float *c,     \
                                                size_t ldc)                                        \
    {                                                                                              \
        bf16_tile(R, P, x, ldx, 1, w, 16, stride, pairs, first, 0, c, ldc);                        \
    }                                                                                              \
    BF16_TARGET static void bf16_across_##R##_##P(const uint32_t *x, size_t ldx,                   \
                                                  const uint32_t *w, size_t stride, int pairs,     \
                                                  int first, float *c, size_t ldc)                 \
    {                                                                                              \
        bf16_tile(R, P, x, 1, ldx, w, stride, 16, pairs, first, 1, c, ldc);                        \
    }
#define BF16_TILES(R) BF16_TILE(R, 1) BF16_TILE(R, 2)
#define BF16_ENTRY(R)                                                                              \
    {                                                                                              \
        bf16_tile_##R##_1, bf16_tile_##R##_2                                                       \
    }
#define BF16_ACROSS_ENTRY(R)                                                                       \
    {                                                                                              \
        bf16_across_##R##_1, bf16_across_##R##_2                                                   \
    }

/* clang-format off */
BF16_TILES(1) BF16_TILES(2) BF16_TILES(3) BF16_TILES(4)
#if TILE_ROWS >= 6
BF16_TILES(5) BF16_TILES(6)
#endif
#if TILE_ROWS >= 12
BF16_TILES(7) BF16_TILES(8) BF16_TILES(9) BF16_TILES(10) BF16_TILES(11) BF16_TILES(12)
#endif

static bf16_tile_fn *const bf16_tiles[TILE_ROWS + 1][2] = {
    {NULL, NULL}, BF16_ENTRY(1), BF16_ENTRY(2), BF16_ENTRY(3), BF16_ENTRY(4),
#if TILE_ROWS >= 6
    BF16_ENTRY(5), BF16_ENTRY(6),
#endif
#if TILE_ROWS >= 12
    BF16_ENTRY(7), BF16_ENTRY(8), BF16_ENTRY(9), BF16_ENTRY(10), BF16_ENTRY(11), BF16_ENTRY(12),
#endif
};
static bf16_tile_fn *const bf16_across[TILE_ROWS + 1][2] = {
    {NULL, NULL}, BF16_ACROSS_ENTRY(1), BF16_ACROSS_ENTRY(2), BF16_ACROSS_ENTRY(3), BF16_ACROSS_ENTRY(4),
#if TILE_ROWS >= 6
    BF16_ACROSS_ENTRY(5), BF16_ACROSS_ENTRY(6),
#endif
#if TILE_ROWS >= 12
    BF16_ACROSS_ENTRY(7), BF16_ACROSS_ENTRY(8), BF16_ACROSS_ENTRY(9), BF16_ACROSS_ENTRY(10),
    BF16_ACROSS_ENTRY(11), BF16_ACROSS_ENTRY(12),
#endif
};
/* clang-format on */
/* ---- rounding ------------------------------------------------------------------ */

/* Pairs of a row, with zeros behind it up to 32 steps. */
static size_t bf16_row_pairs(int K)
{
    return ((size_t)K + 31) / 32 * 16;
}

/* A row as pairs, `step` words from 32 numbers to the next; what lies ldx numbers ahead is fetched:
 * parts of long rows begin where no processor foresees it. */
BF16_TARGET V16 void bf16_row(const float *x, size_t ldx, int K, size_t step, uint32_t *out)
{
    for (; K >= 32; K -= 32, x += 32, out += step) {
        fetch_first(x, ldx * sizeof *x);
        fetch_first(x + 16, ldx * sizeof *x);
        v16i_store(out, bf16_round_two(v16_load(x), v16_load(x + 16)));
    }
    if (K > 0) v16i_store(out, bf16_round_two(v16_load_n(x, K), v16_load_n(x + 16, K - 16)));
}

/* Rows as pairs, (T, pairs). */
BF16_TARGET static void bf16_rows(const float *x, size_t ldx, int T, int K, uint32_t *out)
{
    size_t pairs = bf16_row_pairs(K);
    for (int t = 0; t < T; t++, x += ldx, out += pairs) bf16_row(x, ldx, K, 16, out);
}

/* Steps 2j and 2j + 1 of eight. */
BF16_TARGET V16 v16i bf16_q4_pair(const int kind, v16i q, int j, v16 d, v16 m)
{
    return bf16_round_pairs(decode_q4(kind, q, 2 * j, d, m), decode_q4(kind, q, 2 * j + 1, d, m));
}
BF16_TARGET V16 v16i bf16_q8_pair(const struct q8_block *b, int j, v16 d, v16 m)
{
    return bf16_round_pairs(v16_fma(d, v16_from_i8(b->q[2 * j]), m),
                            v16_fma(d, v16_from_i8(b->q[2 * j + 1]), m));
}
/* Steps k and k + 1 of a panel without blocks; `last`: there is no k + 1. */
BF16_TARGET V16 v16i bf16_plain_pair(const int kind, const unsigned char *panel, int k, int last)
{
    if (kind == PACKED_BF16) return v16i_load(panel + (size_t)(k / 2) * 64);
    if (last) return bf16_round_pairs(decode_step(kind, panel, k), v16_zero());
    return bf16_round_pairs(decode_step(kind, panel, k), decode_step(kind, panel, k + 1));
}

/* Groups of eight steps of a block. */
BF16_TARGET V16 void bf16_decode_q4_groups(const int kind, const struct q4_block *b, int from,
                                           int to, uint32_t *out)
{
    v16 d = v16_load(b->d), m = v16_load(b->m);
    for (int g = from; g < to; g++, out += 64) {
        v16i q = v16i_load(b->q[g]);
        UNROLL for (int j = 0; j < 4; j++) v16i_store(out + 16 * j, bf16_q4_pair(kind, q, j, d, m));
    }
}
BF16_TARGET V16 void bf16_decode_q4(const int kind, const struct q4_block *b, int n, uint32_t *out)
{
    for (; n > 0; n--, b++, out += 256) bf16_decode_q4_groups(kind, b, 0, 4, out);
}
BF16_TARGET V16 void bf16_decode_q8(const struct q8_block *b, uint32_t *out)
{
    v16 d = v16_load(b->d), m = v16_load(b->m);
    for (int j = 0; j < Q8_STEPS / 2; j++, out += 16) v16i_store(out, bf16_q8_pair(b, j, d, m));
}
BF16_TARGET V16 void bf16_decode_plain(const int kind, const unsigned char *panel, int k0, int k1,
                                       uint32_t *out)
{
    for (int k = k0; k < k1; k += 2, out += 16)
        v16i_store(out, bf16_plain_pair(kind, panel, k, k + 1 == k1));
}

/* Steps k0 … k1-1 of a panel as pairs, [(k1 - k0 + 1) / 2][16]; k0 is a multiple of 32. */
BF16_TARGET static void bf16_decode(const struct packed *w, int panel, int k0, int k1,
                                    uint32_t *out)
{
    const unsigned char *data = packed_panel(w, panel);
    const struct q4_block *q4 = (const struct q4_block *)(const void *)data + k0 / Q4_STEPS;
    const struct q8_block *q8 = (const struct q8_block *)(const void *)data + k0 / Q8_STEPS;
    switch (w->kind) {
    case PACKED_F32:
        bf16_decode_plain(PACKED_F32, data, k0, k1, out);
        break;
    case PACKED_F16:
        bf16_decode_plain(PACKED_F16, data, k0, k1, out);
        break;
    case PACKED_BF16:
        bf16_decode_plain(PACKED_BF16, data, k0, k1, out);
        break;
    case PACKED_Q4:
        bf16_decode_q4(PACKED_Q4, q4, (k1 - k0) / Q4_STEPS, out);
        break;
    case PACKED_Q4S:
        bf16_decode_q4(PACKED_Q4S, q4, (k1 - k0) / Q4_STEPS, out);
        break;
    case PACKED_Q8:
        for (; k0 < k1; k0 += Q8_STEPS, q8++, out += 128) bf16_decode_q8(q8, out);
        break;
    }
}

/* Steps k0 … k0+31 of a panel without blocks as a 16 × 16 matrix of words, row i: the eight pairs
 * of neighbouring columns of step k0 + i, then those of step k0 + i + 16. */
BF16_TARGET V16 void bf16_words_plain(const int kind, const unsigned char *panel, int k0,
                                      uint32_t *words)
{
    for (int i = 0, k = k0; i < 16; i++, k++)
        v16i_store(words + 16 * i,
                   bf16_round_two(decode_step(kind, panel, k), decode_step(kind, panel, k + 16)));
}
BF16_TARGET V16 void bf16_words_q4(const int kind, const struct q4_block *b, uint32_t *words)
{
    v16 d = v16_load(b->d), m = v16_load(b->m);
    for (int g = 0; g < 2; g++, words += 128) {
        v16i q = v16i_load(b->q[g]), q16 = v16i_load(b->q[g + 2]);
        UNROLL for (int j = 0; j < 8; j++)
            v16i_store(words + 16 * j,
                       bf16_round_two(decode_q4(kind, q, j, d, m), decode_q4(kind, q16, j, d, m)));
    }
}
BF16_TARGET V16 void bf16_words_q8(const struct q8_block *b, uint32_t *words)
{
    v16 d = v16_load(b[0].d), m = v16_load(b[0].m), d16 = v16_load(b[1].d), m16 = v16_load(b[1].m);
    for (int i = 0; i < 16; i++)
        v16i_store(words + 16 * i, bf16_round_two(v16_fma(d, v16_from_i8(b[0].q[i]), m),
                                                  v16_fma(d16, v16_from_i8(b[1].q[i]), m16)));
}

/* That matrix of any panel; steps beyond K are zeros. */
BF16_TARGET V16 void bf16_words_of(const int kind, const struct packed *w, int panel, int k0,
                                   uint32_t *words)
{
    const unsigned char *data = packed_panel(w, panel);
    if (k0 + 32 > w->k) { /* no blocks: their K is a multiple of 32 */
        float part[32 * 16] __attribute__((aligned(64))) = {0};
        decode_panel(w, panel, k0, w->k, part);
        bf16_words_plain(PACKED_F32, (const unsigned char *)part, 0, words);
    } else if (kind == PACKED_Q8) {
        bf16_words_q8((const struct q8_block *)(const void *)data + k0 / Q8_STEPS, words);
    } else if (kind == PACKED_Q4 || kind == PACKED_Q4S) {
        bf16_words_q4(kind, (const struct q4_block *)(const void *)data + k0 / Q4_STEPS, words);
    } else {
        bf16_words_plain(kind, data, k0, words);
    }
}

/* bf16_decode_transposed() of one kind.  Words are turned as pairs, so rounding comes first and one
 * turn serves two panels. */
BF16_TARGET V16 void bf16_turn(const int kind, const struct packed *w, int panel, int P, int n0,
                               int steps, uint32_t *out, size_t stride)
{
    uint32_t words[256] __attribute__((aligned(64))), spare[128];
    for (int n = 0; n < steps; n += 16, out += 128) {
        uint32_t *even = panel % 2 ? spare : out;
        uint32_t *odd = panel % 2 ? out : P == 2 ? out + stride : spare;
        bf16_words_of(kind, w, (n0 + n) / 16, panel / 2 * 32, words);
        v16_transpose_apart((const float *)(const void *)words, 16, (float *)(void *)even,
                            (float *)(void *)odd, 16);
    }
}

/* … of pairs, which are turned as they lie.  Each sixteen of n begin on another page of memory,
 * which no processor foresees: those after the next are fetched. */
BF16_TARGET static void bf16_turn_packed(const struct packed *w, int panel, int P, int n0,
                                         int steps, uint32_t *out, size_t stride)
{
    const size_t pairs = 512; /* bytes of sixteen of k and of n */
    for (int n = 0; n < steps; n += 16, out += 128)
        for (int p = 0; p < P; p++) {
            const unsigned char *at = packed_panel(w, (n0 + n) / 16) + (size_t)(panel + p) * pairs;
            for (size_t i = 0; i < pairs; i += 64) fetch_first(at, 2 * w->panel_bytes + i);
            bf16_turn_pairs((const uint32_t *)(const void *)at, out + (size_t)p * stride);
        }
}

/* Steps n0 … n0+steps-1 of P panels of Wᵀ (16 columns k of W each, from 16·panel on) as pairs along
 * n: out[step / 2][16], panels `stride` apart.  n0 is a multiple of 16; an odd panel comes alone.
 */
BF16_TARGET static void bf16_decode_transposed(const struct packed *w, int panel, int P, int n0,
                                               int steps, uint32_t *out, size_t stride)
{
    switch (w->kind) {
    case PACKED_F32:
        bf16_turn(PACKED_F32, w, panel, P, n0, steps, out, stride);
        break;
    case PACKED_F16:
        bf16_turn(PACKED_F16, w, panel, P, n0, steps, out, stride);
        break;
    case PACKED_BF16:
        if ((panel + P) * 16 <= w->k)
            bf16_turn_packed(w, panel, P, n0, steps, out, stride);
        else /* zeros behind K */
            bf16_turn(PACKED_BF16, w, panel, P, n0, steps, out, stride);
        break;
    case PACKED_Q4:
        bf16_turn(PACKED_Q4, w, panel, P, n0, steps, out, stride);
        break;
    case PACKED_Q4S:
        bf16_turn(PACKED_Q4S, w, panel, P, n0, steps, out, stride);
        break;
    case PACKED_Q8:
        bf16_turn(PACKED_Q8, w, panel, P, n0, steps, out, stride);
        break;
    }
}

/* P panels of W, or of Wᵀ: steps k0 … k0+steps-1 of their chains, zeros behind them up to a
 * multiple of 32. */
BF16_TARGET static void bf16_decode_panels(const struct packed *w, int panel, int P, int transposed,
                                           int k0, int steps, uint32_t *out, size_t stride)
{
    size_t pairs = (size_t)(steps + 1) / 2, behind = (16 - pairs % 16) % 16;
    if (transposed)
        bf16_decode_transposed(w, panel, P, k0, steps, out, stride);
    else
        for (int p = 0; p < P; p++)
            bf16_decode(w, panel + p, k0, k0 + steps, out + (size_t)p * stride);
    for (int p = 0; p < P && behind; p++)
        memset(out + (size_t)p * stride + pairs * 16, 0, behind * 64);
}

/* ---- few rows: decoded in registers ------------------------------------------------ */

typedef void bf16_few_fn(const uint32_t *x, size_t ldx, const unsigned char *w, size_t stride,
                         int K, float *c, size_t ldc);

BF16_TARGET V16 void bf16_few_step(const int R, const int P, const uint32_t *x, size_t ldx,
                                   const v16i *b, v16 *acc)
{
    UNROLL for (int r = 0; r < R; r++)
    {
        v16i a = v16i_set1(x[(size_t)r * ldx]);
        UNROLL for (int p = 0; p < P; p++) acc[r * P + p] = v16_dot2(acc[r * P + p], a, b[p]);
    }
}

BF16_TARGET V16 void bf16_few_q4(const int kind, const int R, const int P, const uint32_t *x,
                                 size_t ldx, const unsigned char *w, size_t stride, v16 *acc)
{
    const struct q4_block *block[4];
    v16 d[4], m[4];
    v16i q[4], b[4];
    UNROLL for (int p = 0; p < P; p++)
    {
        block[p] = (const void *)(w + (size_t)p * stride);
        d[p] = v16_load(block[p]->d);
        m[p] = v16_load(block[p]->m);
    }
    for (int g = 0; g < 4; g++, x += 4) {
        UNROLL for (int p = 0; p < P; p++) q[p] = v16i_load(block[p]->q[g]);
        UNROLL for (int j = 0; j < 4; j++)
        {
            UNROLL for (int p = 0; p < P; p++) b[p] = bf16_q4_pair(kind, q[p], j, d[p], m[p]);
            bf16_few_step(R, P, x + j, ldx, b, acc);
        }
    }
}

BF16_TARGET V16 void bf16_few_q8(const int R, const int P, const uint32_t *x, size_t ldx,
                                 const unsigned char *w, size_t stride, v16 *acc)
{
    const struct q8_block *block[4];
    v16 d[4], m[4];
    v16i b[4];
    UNROLL for (int p = 0; p < P; p++)
    {
        block[p] = (const void *)(w + (size_t)p * stride);
        d[p] = v16_load(block[p]->d);
        m[p] = v16_load(block[p]->m);
    }
    for (int j = 0; j < Q8_STEPS / 2; j++) {
        UNROLL for (int p = 0; p < P; p++) b[p] = bf16_q8_pair(block[p], j, d[p], m[p]);
        bf16_few_step(R, P, x + j, ldx, b, acc);
    }
}

BF16_TARGET V16 void bf16_few(const int kind, const int R, const int P, const uint32_t *x,
                              size_t ldx, const unsigned char *w, size_t stride, int K, float *c,
                              size_t ldc)
{
    v16 acc[BF16_FEW * 4];
    v16i b[4];
    UNROLL for (int i = 0; i < R * P; i++) acc[i] = v16_zero();
    if (kind == PACKED_Q4 || kind == PACKED_Q4S) {
        for (int k = 0; k < K; k += Q4_STEPS, w += sizeof(struct q4_block)) {
            few_ahead(P, w, stride, sizeof(struct q4_block));
            bf16_few_q4(kind, R, P, x + k / 2, ldx, w, stride, acc);
        }
    } else if (kind == PACKED_Q8) {
        for (int k = 0; k < K; k += Q8_STEPS, w += sizeof(struct q8_block)) {
            few_ahead(P, w, stride, sizeof(struct q8_block));
            bf16_few_q8(R, P, x + k / 2, ldx, w, stride, acc);
        }
    } else {
        for (int k = 0; k < K; k += 2) {
            UNROLL for (int p = 0; p < P; p++) b[p] =
                bf16_plain_pair(kind, w + (size_t)p * stride, k, k + 1 == K);
            bf16_few_step(R, P, x + k / 2, ldx, b, acc);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++)
        v16_store(c + (size_t)r * ldc + 16 * p, acc[r * P + p]);
}

#define BF16_FEW_FN(KIND, R, NAME, P)                                                              \
    BF16_TARGET static void bf16_few_##KIND##_##R##_##NAME(const uint32_t *x, size_t ldx,          \
                                                           const unsigned char *w, size_t stride,  \
                                                           int K, float *c, size_t ldc)            \
    {                                                                                              \
        bf16_few(PACKED_##KIND, R, P, x, ldx, w, stride, K, c, ldc);                               \
    }
#define BF16_FEW_ROWS(KIND, R) BF16_FEW_FN(KIND, R, one, 1) BF16_FEW_FN(KIND, R, wide, BF16_WIDE(R))
#define BF16_FEW_PAIR(KIND, R)                                                                     \
    {                                                                                              \
        bf16_few_##KIND##_##R##_one, bf16_few_##KIND##_##R##_wide                                  \
    }
#if BF16_FEW == 8
#define BF16_FEW_KIND(KIND)                                                                        \
    BF16_FEW_ROWS(KIND, 1)                                                                         \
    BF16_FEW_ROWS(KIND, 2)                                                                         \
    BF16_FEW_ROWS(KIND, 3)                                                                         \
    BF16_FEW_ROWS(KIND, 4)                                                                         \
    BF16_FEW_ROWS(KIND, 5) BF16_FEW_ROWS(KIND, 6) BF16_FEW_ROWS(KIND, 7) BF16_FEW_ROWS(KIND, 8)
#define BF16_FEW_ENTRY(KIND)                                                                       \
    [PACKED_##KIND] = {BF16_FEW_PAIR(KIND, 1), BF16_FEW_PAIR(KIND, 2), BF16_FEW_PAIR(KIND, 3),     \
                       BF16_FEW_PAIR(KIND, 4), BF16_FEW_PAIR(KIND, 5), BF16_FEW_PAIR(KIND, 6),     \
                       BF16_FEW_PAIR(KIND, 7), BF16_FEW_PAIR(KIND, 8)}
static const int bf16_wide[BF16_FEW] = {BF16_WIDE(1), BF16_WIDE(2), BF16_WIDE(3), BF16_WIDE(4),
                                        BF16_WIDE(5), BF16_WIDE(6), BF16_WIDE(7), BF16_WIDE(8)};
#else
#define BF16_FEW_KIND(KIND)                                                                        \
    BF16_FEW_ROWS(KIND, 1) BF16_FEW_ROWS(KIND, 2) BF16_FEW_ROWS(KIND, 3) BF16_FEW_ROWS(KIND, 4)
#define BF16_FEW_ENTRY(KIND)                                                                       \
    [PACKED_##KIND] = {BF16_FEW_PAIR(KIND, 1), BF16_FEW_PAIR(KIND, 2), BF16_FEW_PAIR(KIND, 3),     \
                       BF16_FEW_PAIR(KIND, 4)}
static const int bf16_wide[BF16_FEW] = {BF16_WIDE(1), BF16_WIDE(2), BF16_WIDE(3), BF16_WIDE(4)};
#endif

BF16_FEW_KIND(F32)
BF16_FEW_KIND(F16)
BF16_FEW_KIND(BF16)
BF16_FEW_KIND(Q4)
BF16_FEW_KIND(Q4S)
BF16_FEW_KIND(Q8)

static bf16_few_fn *const bf16_few_tiles[][BF16_FEW][2] = {
    BF16_FEW_ENTRY(F32), BF16_FEW_ENTRY(F16), BF16_FEW_ENTRY(BF16),
    BF16_FEW_ENTRY(Q4),  BF16_FEW_ENTRY(Q4S), BF16_FEW_ENTRY(Q8)};

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
    return (struct bf16_space){s.sums, weights, weights + GEMM_WEIGHTS};
}

/* A block of k of one group, ready for the tiles: rows and panels as pairs, sums (T, 16·P). */
struct bf16_block {
    const uint32_t *x;
    size_t ldx;
    const uint32_t *w;
    size_t stride; /* from panel to panel */
    int steps, first;
    float *sums;
};

/* T rows of a block of P <= 2 panels.  `output` (may be NULL): the sums are complete with this
 * block; each tile's go on while they are near. */
typedef void bf16_rows_fn(int P, int T, const struct bf16_block *b, const struct ahead *ahead,
                          const struct output *output);

static void bf16_tile_rows(int P, int T, const struct bf16_block *b, const struct ahead *ahead,
                           const struct output *output)
{
    int row = 0, n_tiles = (T + TILE_ROWS - 1) / TILE_ROWS;
    size_t ldc = (size_t)P * 16;
    for (int i = 0; i < n_tiles; i++) {
        int rows = (T - row) / (n_tiles - i);
        if (ahead) fetch_ahead(ahead, i, n_tiles);
        unsigned state = bf16_begin();
        for (int p = 0; p < P; p += TILE_PANELS) {
            int n = P - p < TILE_PANELS ? P - p : TILE_PANELS;
            bf16_tiles[rows][n - 1](b->x + (size_t)row * b->ldx, b->ldx,
                                    b->w + (size_t)p * b->stride, b->stride, (b->steps + 1) / 2,
                                    b->first, b->sums + (size_t)row * ldc + 16 * p, ldc);
        }
        bf16_end(state);
        if (output) finish(output, row, rows);
        row += rows;
    }
}

/* T <= unit->few rows of P <= 8 panels: their sums in s->sums, (T, 16·P). */
typedef void bf16_group_fn(int T, const struct packed *w, int panel, int P,
                           const struct bf16_space *s);

static void bf16_group_few(int T, const struct packed *w, int panel, int P,
                           const struct bf16_space *s)
{
    size_t ldx = bf16_row_pairs(w->k), ldc = (size_t)P * 16;
    int wide = bf16_wide[T - 1];
    unsigned state = bf16_begin();
    for (int p = 0; p < P;) {
        int fits = p + wide <= P;
        bf16_few_tiles[w->kind][T - 1][fits](s->rows, ldx, packed_panel(w, panel + p),
                                             w->panel_bytes, w->k, s->sums + 16 * p, ldc);
        p += fits ? wide : 1;
    }
    bf16_end(state);
}

/* What multiplies: a set's vectors, or AMX's tiles. */
struct bf16_unit {
    bf16_rows_fn *rows;
    int tile_rows;
    int steps; /* of k in a block, at most; two panels of 2·GEMM_STEPS fill the scratch */
    int few;   /* up to so many rows group_few() multiplies, more panels at a time */
    /* Rows lie as tiles: 16 pairs of each of 16 rows, then their next 16 pairs. */
    int tiled;
    bf16_group_fn *group_few;
    /* makes what group_few reads of few rows, and puts it behind them; or NULL */
    void (*spread)(int T, int K, uint32_t *rows);
};

/* Words from a row to the next, and to step k (a multiple of 32) of it.  From 16 rows to the next
 * there are 16·pairs both ways. */
static size_t bf16_row_words(const struct bf16_unit *unit, size_t pairs)
{
    return unit->tiled ? 16 : pairs;
}
static size_t bf16_step_words(const struct bf16_unit *unit, int k)
{
    return (size_t)k / 32 * (unit->tiled ? 256 : 16);
}

/* T rows as the unit takes them. */
BF16_TARGET static void bf16_unit_rows(const struct bf16_unit *unit, const float *x, size_t ldx,
                                       int T, int K, uint32_t *out)
{
    size_t pairs = bf16_row_pairs(K), row = bf16_row_words(unit, pairs);
    size_t step = bf16_step_words(unit, 32);
    for (int t = 0; t < T; t++, x += ldx)
        bf16_row(x, ldx, K, step, out + (size_t)(t / 16 * 16) * pairs + (size_t)(t % 16) * row);
}

/* The rows of a product that may be of few. */
static void bf16_rows_of(const struct bf16_unit *unit, const float *x, size_t ldx, int T, int K,
                         uint32_t *out)
{
    bf16_unit_rows(unit, x, ldx, T, K, out);
    if (T <= unit->few && unit->spread) unit->spread(T, K, out);
}

/* Rows a block: their pairs are half as large as floats. */
static int bf16_row_block(const struct bf16_unit *unit, int T, int K)
{
    return row_block(T, (K + 1) / 2, unit->tile_rows);
}

/* P <= 2 panels of W or of Wᵀ. */
static void bf16_group_many(const struct bf16_unit *unit, int T, const struct packed *w, int panel,
                            int P, int transposed, const struct bf16_space *s,
                            const struct output *output)
{
    int K = transposed ? w->n : w->k;
    size_t ldx = bf16_row_pairs(K), stride = (size_t)unit->steps / 2 * 16;
    for (int k0 = 0; k0 < K; k0 += unit->steps) {
        int steps = K - k0 < unit->steps ? K - k0 : unit->steps;
        struct ahead ahead = {0};
        if (!transposed) ahead = ahead_of(w, panel, P, k0, steps);
        struct bf16_block b = {
            s->rows + bf16_step_words(unit, k0), ldx, s->weights, stride, steps, k0 == 0, s->sums};
        bf16_decode_panels(w, panel, P, transposed, k0, steps, s->weights, stride);
        unit->rows(P, T, &b, &ahead, k0 + steps == K ? output : NULL);
    }
}

/* s->rows holds the T rows. */
static void bf16_group(const struct bf16_unit *unit, int T, const struct packed *w, int panel,
                       int P, const struct bf16_space *s, const struct output *output)
{
    if (T > unit->few) {
        bf16_group_many(unit, T, w, panel, P, 0, s, output);
        return;
    }
    unit->group_few(T, w, panel, P, s);
    finish(output, 0, T);
}

/* The products of any unit, by groups of panels (pairs of panels). */
static void bf16_gemm_by(const struct bf16_unit *unit, const float *x, size_t ldx, int T,
                         const struct packed *w, int panel0, int panel1, const float *bias,
                         float *y, size_t ldy, int add, float *scratch)
{
    int group = T <= unit->few ? 8 : 2;
    struct bf16_space space = bf16_space(scratch);
    int block = bf16_row_block(unit, T, w->k);
    struct output out = {.sums = space.sums, .ldy = ldy, .add = add};
    for (int t = 0; t < T; t += block) {
        int rows = T - t < block ? T - t : block;
        bf16_rows_of(unit, x + (size_t)t * ldx, ldx, rows, w->k, space.rows);
        for (int panel = panel0; panel < panel1; panel += group) {
            int P = panel1 - panel < group ? panel1 - panel : group;
            size_t first = (size_t)(panel - panel0) * 16;
            out.ldc = (size_t)P * 16;
            out.columns = w->n - 16 * panel < 16 * P ? w->n - 16 * panel : 16 * P;
            out.bias = bias ? bias + first : NULL;
            out.y = y + (size_t)t * ldy + first;
            bf16_group(unit, rows, w, panel, P, &space, &out);
        }
    }
}

static void bf16_gemm_swiglu_by(const struct bf16_unit *unit, const float *x, size_t ldx, int T,
                                const struct packed *w, int pair0, int pair1, float *h, size_t ldh,
                                float *gates, size_t ldg, float *scratch)
{
    int group = T <= unit->few ? 4 : 1;
    struct bf16_space space = bf16_space(scratch);
    int block = bf16_row_block(unit, T, w->k);
    struct output out = {.sums = space.sums, .ldy = ldh, .ldg = ldg, .gated = 1};
    for (int t = 0; t < T; t += block) {
        int rows = T - t < block ? T - t : block;
        bf16_rows_of(unit, x + (size_t)t * ldx, ldx, rows, w->k, space.rows);
        for (int pair = pair0; pair < pair1; pair += group) {
            int pairs = pair1 - pair < group ? pair1 - pair : group;
            out.ldc = (size_t)pairs * 32;
            out.columns = 32 * pairs;
            out.y = h + (size_t)t * ldh + (size_t)(pair - pair0) * 16;
            if (gates) out.gates = gates + (size_t)t * ldg + (size_t)(pair - pair0) * 32;
            bf16_group(unit, rows, w, 2 * pair, 2 * pairs, &space, &out);
        }
    }
    if (gates) v16_stream_end();
}

/* A part of n is taken for all panels at once.  dx is at panel0 of the T <= DX_PARTS_ROWS rows. */
static void bf16_dx_parts(const struct bf16_unit *unit, const float *dy, size_t ldy, int T,
                          const struct packed *w, int panel0, int panel1, float *dx,
                          const struct bf16_space *s, struct output *out)
{
    const size_t stride = GEMM_STEPS / 2 * 16;
    float *sums = (float *)(void *)(s->rows + DX_PARTS_ROWS * (GEMM_STEPS / 2));
    for (int n0 = 0, steps; n0 < w->n; n0 += steps) {
        steps = w->n - n0 < GEMM_STEPS ? w->n - n0 : GEMM_STEPS;
        bf16_rows(dy + n0, ldy, T, steps, s->rows);
        for (int panel = panel0, P; panel < panel1; panel += P) {
            size_t column = (size_t)(panel - panel0) * 16;
            struct bf16_block b = {s->rows, bf16_row_pairs(steps),        s->weights, stride, steps,
                                   n0 == 0, sums + column * DX_PARTS_ROWS};
            P = dx_panels(w, panel, panel1, out);
            bf16_decode_panels(w, panel, P, 1, n0, steps, s->weights, stride);
            out->sums = b.sums;
            out->y = dx + column;
            unit->rows(P, T, &b, NULL, n0 + steps == w->n ? out : NULL);
        }
    }
}

/* dX = dY·W: the same chains over pairs of n. */
static void bf16_gemm_dx_by(const struct bf16_unit *unit, const float *dy, size_t ldy, int T,
                            const struct packed *w, int panel0, int panel1, float *dx, size_t ldx,
                            int add, float *scratch)
{
    struct bf16_space space = bf16_space(scratch);
    int block = dx_by_parts(w) ? DX_PARTS_ROWS : bf16_row_block(unit, T, w->n);
    struct output out = {.sums = space.sums, .ldy = ldx, .add = add};
    for (int t = 0; t < T; t += block) {
        int rows = T - t < block ? T - t : block;
        const float *from = dy + (size_t)t * ldy;
        float *to = dx + (size_t)t * ldx;
        if (dx_by_parts(w)) {
            bf16_dx_parts(unit, from, ldy, rows, w, panel0, panel1, to, &space, &out);
            continue;
        }
        bf16_rows(from, ldy, rows, w->n, space.rows);
        for (int panel = panel0, P; panel < panel1; panel += P) {
            P = dx_panels(w, panel, panel1, &out);
            out.y = to + (size_t)(panel - panel0) * 16;
            bf16_group_many(unit, rows, w, panel, P, 1, &space, &out);
        }
    }
}

/* ---- dW += dYᵀ·X ------------------------------------------------------------------- */

BF16_TARGET V16 v16i bf16_two_steps(const float *x, size_t ldx, int t, int steps, int n)
{
    v16 even = t < steps ? v16_load_some(x + (size_t)t * ldx, n) : v16_zero();
    v16 odd = t + 1 < steps ? v16_load_some(x + (size_t)(t + 1) * ldx, n) : v16_zero();
    return bf16_round_pairs(even, odd);
}

/* Tokens of `rows` columns of dY as rows of pairs, zeros behind them up to 32 tokens; rows up to a
 * multiple of 16 are written.  The next tokens are fetched into the second cache: rows of dY are
 * often a multiple of a page apart, of which the first holds few. */
BF16_TARGET static void bf16_dw_rows(const struct bf16_unit *unit, const float *dy, size_t ldy,
                                     int apart, int steps, int rows, uint32_t *out)
{
    const size_t ld = bf16_row_words(unit, DW_ROW_PAIRS);
    uint32_t words[256] __attribute__((aligned(64)));
    for (int t = 0; t < steps; t += 32)
        for (int n = 0; n < rows; n += 16) {
            const float *from = dy + n / 16 * apart;
            for (int i = 0; i < 16; i++) {
                fetch_second(from, (size_t)(t + 2 * i + 32) * ldy * sizeof *from);
                fetch_second(from, (size_t)(t + 2 * i + 33) * ldy * sizeof *from);
                v16i_store(words + 16 * i, bf16_two_steps(from, ldy, t + 2 * i, steps, rows - n));
            }
            uint32_t *to = out + (size_t)n * DW_ROW_PAIRS + bf16_step_words(unit, t);
            v16_transpose((const float *)(const void *)words, 16, (float *)(void *)to, ld);
        }
}

/* Row t of X alone: its half of the pairs.  What is behind the columns is left: no sum that it
 * enters is stored. */
static void bf16_keep_row(const float *x, int t, int K, size_t stride, float *kept)
{
    uint16_t *half = (uint16_t *)(void *)kept + (size_t)(t / 2) * 32 + t % 2;
    for (int k = 0; k < K; k++)
        half[(size_t)(k / 16) * stride * 2 + (size_t)k % 16 * 2] = float_to_bfloat(x[k]);
}

/* Rows t and, where there is one, t + 1, with zeros behind the columns. */
BF16_TARGET static void bf16_keep_pair(const float *x, size_t ldx, int n, int K, size_t stride,
                                       uint32_t *out)
{
    for (int k = 0; k < K; k += 16, out += stride)
        v16i_store(out, bf16_two_steps(x + k, ldx, 0, n, K - k));
}

/* A pair that two calls have a row of each is theirs by halves. */
static void bf16_keep_inputs(const float *x, size_t ldx, int t0, int n, int T, int K, float *kept)
{
    const size_t stride = kept_panel_words(T);
    uint32_t *words = (uint32_t *)(void *)kept;
    int t = t0, end = t0 + n, whole = (T + 31) / 32 * 32;
    if (n > 0 && t % 2) {
        bf16_keep_row(x, t++, K, stride, kept);
        x += ldx;
    }
    for (; t + 1 < end || (t < end && end == T); t += 2, x += 2 * ldx)
        bf16_keep_pair(x, ldx, end - t, K, stride, words + (size_t)(t / 2) * 16);
    if (t < end) bf16_keep_row(x, t, K, stride, kept);
    if (end < T) return;
    size_t first = ((size_t)T + 1) / 2 * 16, behind = (size_t)whole * 8 - first;
    for (int k = 0; k < K; k += 16, words += stride)
        memset(words + first, 0, behind * sizeof *words);
}

/* A block of W, R rows from y on: its sums go on with `steps` tokens, and are complete with the
 * last.  The panels of X lie `stride` words apart. */
static void bf16_dw_steps(const struct bf16_unit *unit, int R, int columns, const uint32_t *rows,
                          const uint32_t *panels, size_t stride, int steps, int first, int last,
                          float *sums, float *y, size_t ldy, int add)
{
    for (int k = 0; k < columns; k += 32) {
        int P = columns - k > 16 ? 2 : 1;
        struct bf16_block b = {.x = rows,
                               .ldx = DW_ROW_PAIRS,
                               .w = panels + (size_t)(k / 16) * stride,
                               .stride = stride,
                               .steps = steps,
                               .first = first,
                               .sums = sums + (size_t)k * DW_ROWS};
        struct output out = {.sums = b.sums,
                             .ldc = (size_t)P * 16,
                             .y = y + k,
                             .ldy = ldy,
                             .columns = columns - k < 32 ? columns - k : 32,
                             .add = add,
                             .from_zero = !add};
        unit->rows(P, R, &b, NULL, last ? &out : NULL);
    }
}

/* The chains are those of the mode's gemm, over tokens. */
static void bf16_gemm_dw_by(const struct bf16_unit *unit, const float *dy, size_t ldy, int apart,
                            const float *kept, int T, int n0, int n1, int K, float *dw, size_t lddw,
                            int add, float *scratch)
{
    float *sums = (float *)(void *)(((uintptr_t)scratch + 63) / 64 * 64);
    const int block = unit->tiled ? DW_COLUMNS_AMX : DW_COLUMNS;
    uint32_t *rows = (uint32_t *)(void *)(sums + DW_ROWS * block);
    const uint32_t *words = (const uint32_t *)(const void *)kept;
    const size_t stride = kept_panel_words(T);
    for (int n = n0; n < n1; n += DW_ROWS)
        for (int k = 0; k < K; k += block)
            for (int t = 0; t < T; t += DW_STEPS) {
                int columns = K - k < block ? K - k : block;
                int steps = T - t < DW_STEPS ? T - t : DW_STEPS;
                int R = n1 - n < DW_ROWS ? n1 - n : DW_ROWS;
                bf16_dw_rows(unit, dy + (size_t)t * ldy + dw_column(n, apart), ldy, apart, steps, R,
                             rows);
                bf16_dw_steps(unit, R, columns, rows,
                              words + (size_t)(k / 16) * stride + (size_t)(t / 2) * 16, stride,
                              steps, t == 0, t + steps == T, sums, dw + (size_t)n * lddw + k, lddw,
                              add);
            }
    if (!add) v16_stream_end();
}

/* ---- by the set's vectors ----------------------------------------------------------- */

static const struct bf16_unit bf16_vectors = {bf16_tile_rows, TILE_ROWS, GEMM_STEPS, BF16_FEW, 0,
                                              bf16_group_few, NULL};

static void bf16_gemm(const float *x, size_t ldx, int T, const struct packed *w, int panel0,
                      int panel1, const float *bias, float *y, size_t ldy, int add, float *scratch)
{
    bf16_gemm_by(&bf16_vectors, x, ldx, T, w, panel0, panel1, bias, y, ldy, add, scratch);
}

static void bf16_gemm_swiglu(const float *x, size_t ldx, int T, const struct packed *w, int pair0,
                             int pair1, float *h, size_t ldh, float *gates, size_t ldg,
                             float *scratch)
{
    bf16_gemm_swiglu_by(&bf16_vectors, x, ldx, T, w, pair0, pair1, h, ldh, gates, ldg, scratch);
}

static void bf16_gemm_dx(const float *dy, size_t ldy, int T, const struct packed *w, int panel0,
                         int panel1, float *dx, size_t ldx, int add, float *scratch)
{
    bf16_gemm_dx_by(&bf16_vectors, dy, ldy, T, w, panel0, panel1, dx, ldx, add, scratch);
}

static void bf16_gemm_dw(const float *dy, size_t ldy, int apart, const float *kept, int T, int n0,
                         int n1, int K, float *dw, size_t lddw, int add, float *scratch)
{
    bf16_gemm_dw_by(&bf16_vectors, dy, ldy, apart, kept, T, n0, n1, K, dw, lddw, add, scratch);
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

const struct bf16_kernels ISA_BF16 = {.tile_rows = TILE_ROWS,
                                      .block_rows = BLOCK_ROWS,
                                      .gemm = bf16_gemm,
                                      .gemm_swiglu = bf16_gemm_swiglu,
                                      .gemm_dx = bf16_gemm_dx,
                                      .keep_inputs = bf16_keep_inputs,
                                      .gemm_dw = bf16_gemm_dw,
                                      .fma_loop = bf16_loop,
                                      .fma_loop_flops = 4 * 16 * FMA_CHAINS};
