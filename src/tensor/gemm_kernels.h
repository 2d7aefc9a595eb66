/* GEMM on packed panels, generic in the instruction set.
 *
 * The including file defines the v16 operations and
 *   TILE_ROWS, TILE_PANELS   the micro-tile for many rows
 *   UNROLL                   a pragma that unrolls loops over the tile's constants
 *   WIDE(R), WIDE_BLOCKS(R)  panels side by side for R = 1 … FEW rows, to hide the FMA's latency:
 *                            plain kinds, and kinds whose scales need registers, too
 *   FEW_MOST_BLOCKS          rows of the latter up to which decoding in registers is faster
 * Every output is one chain of FMAs over k from 0 whatever the tile: blocks of k continue the
 * chain from the stored sums. */

#define FEW 4 /* up to this many rows the weights are decoded in registers */

/* Sums of R rows and P panels over `steps` of k, from 0 (first) or from what c holds.
 * Two shapes of one tile: in `tiles` a row is ldx apart and its steps are neighbours (Y = X·Wᵀ), a
 * step of w is 16 numbers and a panel `stride` apart; in `across` rows are neighbours and steps ldx
 * apart (products with a transposed matrix), a step of w is `stride` apart and panels are
 * neighbours. */
typedef void tile_fn(const float *x, size_t ldx, const float *w, size_t stride, int steps,
                     int first, float *c, size_t ldc);

/* x[r·xr + k·xk], w[k·wk + p·wp].  settle: the sums are stored + 0, so that no zero keeps a sign.
 */
V16 void tile(const int R, const int P, const float *x, size_t xr, size_t xk, const float *w,
              size_t wk, size_t wp, int steps, int first, const int settle, float *c, size_t ldc)
{
    v16 acc[TILE_ROWS * 4];
    if (first) {
        UNROLL for (int i = 0; i < R * P; i++) acc[i] = v16_zero();
    } else {
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++) acc[r * P + p] =
            v16_load(c + (size_t)r * ldc + 16 * p);
    }
    for (int k = 0; k < steps; k++, w += wk) {
        v16 b[4];
        UNROLL for (int p = 0; p < P; p++) b[p] = v16_load(w + (size_t)p * wp);
        UNROLL for (int r = 0; r < R; r++)
        {
            v16 a = v16_set1(x[(size_t)r * xr + (size_t)k * xk]);
            UNROLL for (int p = 0; p < P; p++) acc[r * P + p] = v16_fma(a, b[p], acc[r * P + p]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++)
    {
        v16 sum = acc[r * P + p];
        v16_store(c + (size_t)r * ldc + 16 * p, settle ? v16_add(sum, v16_zero()) : sum);
    }
}

#define TILE(R, P)                                                                                 \
    static void tile_##R##_##P(const float *x, size_t ldx, const float *w, size_t stride,          \
                               int steps, int first, float *c, size_t ldc)                         \
    {                                                                                              \
        tile(R, P, x, ldx, 1, w, 16, stride, steps, first, 0, c, ldc);                             \
    }                                                                                              \
    static void across_##R##_##P(const float *x, size_t ldx, const float *w, size_t stride,        \
                                 int steps, int first, float *c, size_t ldc)                       \
    {                                                                                              \
        tile(R, P, x, 1, ldx, w, stride, 16, steps, first, 1, c, ldc);                             \
    }
#define TILES(R) TILE(R, 1) TILE(R, 2)
#define TILE_ENTRY(R)                                                                              \
    {                                                                                              \
        tile_##R##_1, tile_##R##_2                                                                 \
    }
#define ACROSS_ENTRY(R)                                                                            \
    {                                                                                              \
        across_##R##_1, across_##R##_2                                                             \
    }

TILES(1)
TILES(2)
TILES(3)
TILES(4)
#if TILE_ROWS >= 6
TILES(5)
TILES(6)
#endif
#if TILE_ROWS >= 12
TILES(7)
TILES(8)
TILES(9)
TILES(10)
TILES(11)
TILES(12)
#endif

static tile_fn *const tiles[TILE_ROWS + 1][2] = {
    {NULL, NULL},  TILE_ENTRY(1), TILE_ENTRY(2), TILE_ENTRY(3),  TILE_ENTRY(4),
#if TILE_ROWS >= 6
    TILE_ENTRY(5), TILE_ENTRY(6),
#endif
#if TILE_ROWS >= 12
    TILE_ENTRY(7), TILE_ENTRY(8), TILE_ENTRY(9), TILE_ENTRY(10), TILE_ENTRY(11), TILE_ENTRY(12),
#endif
};
static tile_fn *const across[TILE_ROWS + 1][2] = {
    {NULL, NULL},     ACROSS_ENTRY(1), ACROSS_ENTRY(2), ACROSS_ENTRY(3),  ACROSS_ENTRY(4),
#if TILE_ROWS >= 6
    ACROSS_ENTRY(5),  ACROSS_ENTRY(6),
#endif
#if TILE_ROWS >= 12
    ACROSS_ENTRY(7),  ACROSS_ENTRY(8), ACROSS_ENTRY(9), ACROSS_ENTRY(10), ACROSS_ENTRY(11),
    ACROSS_ENTRY(12),
#endif
};

/* ---- from sums to outputs ---------------------------------------------------- */

/* Where the sums of a group of panels go.  Gated: panels alternate gate and up. */
struct output {
    const float *sums; /* (T, ldc) */
    size_t ldc;
    const float *bias; /* or NULL */
    float *y;
    size_t ldy;
    float *gates; /* the sums of a gated group, too; or NULL */
    size_t ldg;
    int columns; /* of sums */
    int add, gated;
    int from_zero; /* 1: written as if they were added to zeros, past the caches */
};

V16 void finish_row(const float *c, const struct output *o, float *y)
{
    for (int i = 0; i < o->columns; i += 16) {
        int n = o->columns - i < 16 ? o->columns - i : 16;
        v16 v = v16_load(c + i);
        if (o->bias) v = v16_add(v, v16_load_some(o->bias + i, n));
        if (o->add) v = v16_add(v16_load_some(y + i, n), v);
        if (o->from_zero) v = v16_add(v16_zero(), v);
        if (o->from_zero && n == 16)
            v16_stream(y + i, v);
        else
            v16_store_some(y + i, v, n);
    }
}

V16 void finish_gated_row(const float *c, const struct output *o, float *h, float *gates)
{
    for (int i = 0; i < o->columns; i += 32) {
        v16 gate = v16_load(c + i), up = v16_load(c + i + 16);
        if (gates) {
            v16_stream(gates + i, gate);
            v16_stream(gates + i + 16, up);
        }
        v16 silu = v16_div(gate, v16_add(v16_set1(1.0f), v16_exp(v16_neg(gate))));
        v16_store(h + i / 2, v16_mul(silu, up));
    }
}

static void finish(const struct output *o, int row, int rows)
{
    const float *c = o->sums + (size_t)row * o->ldc;
    float *y = o->y + (size_t)row * o->ldy;
    for (int r = 0; r < rows; r++, c += o->ldc, y += o->ldy)
        if (o->gated)
            finish_gated_row(c, o, y, o->gates ? o->gates + (size_t)(row + r) * o->ldg : NULL);
        else
            finish_row(c, o, y);
}

/* Weights that the next block will want: fetched a part with each tile of rows. */
struct ahead {
    const unsigned char *at[2];
    size_t bytes; /* of each */
};

V16 void fetch_ahead(const struct ahead *a, int part, int parts)
{
    size_t from = a->bytes * (size_t)part / (size_t)parts / 64 * 64;
    size_t to = a->bytes * (size_t)(part + 1) / (size_t)parts;
    for (int p = 0; p < 2 && a->at[p]; p++)
        for (size_t i = from; i < to; i += 64) __builtin_prefetch(a->at[p] + i, 0, 2);
}

/* A block of k of one group, ready for the tiles. */
struct block {
    const float *w;
    size_t stride; /* from panel to panel */
    int steps, first;
    float *c; /* sums (T, ldc) */
    size_t ldc;
};

/* All T rows in tiles of nearly equal heights, so that no tile is left with few rows.  `output`
 * (may be NULL): the sums are complete with this block; each tile's go on while they are near. */
static void tile_rows(int P, const float *x, size_t ldx, int T, const struct block *b,
                      const struct ahead *ahead, const struct output *output)
{
    int n_tiles = (T + TILE_ROWS - 1) / TILE_ROWS, row = 0;
    for (int i = 0; i < n_tiles; i++) {
        int rows = (T - row) / (n_tiles - i);
        if (ahead) fetch_ahead(ahead, i, n_tiles);
        tiles[rows][P - 1](x + (size_t)row * ldx, ldx, b->w, b->stride, b->steps, b->first,
                           b->c + (size_t)row * b->ldc, b->ldc);
        if (output) finish(output, row, rows);
        row += rows;
    }
}

/* ---- decoding ------------------------------------------------------------ */

/* Step k of a panel that needs no block (F32, F16, BF16). */
V16 v16 decode_step(const int kind, const unsigned char *panel, int k)
{
    if (kind == PACKED_F16) return v16_from_f16(panel + (size_t)k * 32);
    if (kind == PACKED_BF16) return v16_from_bf16(v16i_load(panel + (size_t)(k / 2) * 64), k % 2);
    return v16_load((const float *)(const void *)panel + (size_t)k * 16);
}

V16 v16 decode_q4(const int kind, v16i q, int j, v16 d, v16 m)
{
    v16 n = kind == PACKED_Q4S ? v16_nibble_signed(q, j) : v16_nibble(q, j);
    return v16_fma(d, n, m);
}

V16 void decode_q4_block(const int kind, const struct q4_block *b, float *out)
{
    v16 d = v16_load(b->d), m = v16_load(b->m);
    for (int g = 0; g < 4; g++, out += 128) {
        v16i q = v16i_load(b->q[g]);
        UNROLL for (int j = 0; j < 8; j++) v16_store(out + 16 * j, decode_q4(kind, q, j, d, m));
    }
}

static void decode_panel(const struct packed *w, int panel, int k0, int k1, float *out)
{
    const unsigned char *data = packed_panel(w, panel);
    const struct q4_block *q4 = (const void *)data;
    const struct q8_block *q8 = (const void *)data;
    switch (w->kind) {
    case PACKED_F32:
        memcpy(out, data + (size_t)k0 * 64, (size_t)(k1 - k0) * 64);
        break;
    case PACKED_F16:
        for (int k = k0; k < k1; k++, out += 16) v16_store(out, decode_step(PACKED_F16, data, k));
        break;
    case PACKED_BF16:
        for (int k = k0; k < k1; k++, out += 16) v16_store(out, decode_step(PACKED_BF16, data, k));
        break;
    case PACKED_Q4:
        for (int k = k0; k < k1; k += Q4_STEPS, out += Q4_STEPS * 16)
            decode_q4_block(PACKED_Q4, q4 + k / Q4_STEPS, out);
        break;
    case PACKED_Q4S:
        for (int k = k0; k < k1; k += Q4_STEPS, out += Q4_STEPS * 16)
            decode_q4_block(PACKED_Q4S, q4 + k / Q4_STEPS, out);
        break;
    case PACKED_Q8:
        for (int k = k0; k < k1; k += Q8_STEPS) {
            const struct q8_block *b = q8 + k / Q8_STEPS;
            v16 d = v16_load(b->d), m = v16_load(b->m);
            for (int j = 0; j < Q8_STEPS; j++, out += 16)
                v16_store(out, v16_fma(d, v16_from_i8(b->q[j]), m));
        }
        break;
    }
}

/* ---- few rows: decoded in registers ---------------------------------------- */

typedef void few_fn(const float *x, size_t ldx, const unsigned char *w, size_t stride, int K,
                    float *c, size_t ldc);

V16 void few_step(const int R, const int P, const float *x, size_t ldx, const v16 *b, v16 *acc)
{
    UNROLL for (int r = 0; r < R; r++)
    {
        v16 a = v16_set1(x[(size_t)r * ldx]);
        UNROLL for (int p = 0; p < P; p++) acc[r * P + p] = v16_fma(a, b[p], acc[r * P + p]);
    }
}

V16 void few_q4(const int kind, const int R, const int P, const float *x, size_t ldx,
                const unsigned char *w, size_t stride, v16 *acc)
{
    const struct q4_block *block[8];
    v16 d[8], m[8], b[8];
    v16i q[8];
    UNROLL for (int p = 0; p < P; p++)
    {
        block[p] = (const void *)(w + (size_t)p * stride);
        d[p] = v16_load(block[p]->d);
        m[p] = v16_load(block[p]->m);
    }
    for (int g = 0; g < 4; g++, x += 8) {
        UNROLL for (int p = 0; p < P; p++) q[p] = v16i_load(block[p]->q[g]);
        UNROLL for (int j = 0; j < 8; j++)
        {
            UNROLL for (int p = 0; p < P; p++) b[p] = decode_q4(kind, q[p], j, d[p], m[p]);
            few_step(R, P, x + j, ldx, b, acc);
        }
    }
}

V16 void few_q8(const int R, const int P, const float *x, size_t ldx, const unsigned char *w,
                size_t stride, v16 *acc)
{
    const struct q8_block *block[8];
    v16 d[8], m[8], b[8];
    UNROLL for (int p = 0; p < P; p++)
    {
        block[p] = (const void *)(w + (size_t)p * stride);
        d[p] = v16_load(block[p]->d);
        m[p] = v16_load(block[p]->m);
    }
    for (int j = 0; j < Q8_STEPS; j++) {
        UNROLL for (int p = 0; p < P; p++) b[p] = v16_fma(d[p], v16_from_i8(block[p]->q[j]), m[p]);
        few_step(R, P, x + j, ldx, b, acc);
    }
}

/* The same place in the P panels that come after these. */
V16 void few_ahead(const int P, const unsigned char *w, size_t stride, size_t bytes)
{
    for (int p = 0; p < P; p++)
        for (size_t i = 0; i < bytes; i += 64) fetch_second(w, (size_t)(P + p) * stride + i);
}

V16 void few(const int kind, const int R, const int P, const float *x, size_t ldx,
             const unsigned char *w, size_t stride, int K, float *c, size_t ldc)
{
    v16 acc[16], b[8];
    UNROLL for (int i = 0; i < R * P; i++) acc[i] = v16_zero();
    if (kind == PACKED_Q4 || kind == PACKED_Q4S) {
        for (int k = 0; k < K; k += Q4_STEPS, w += sizeof(struct q4_block)) {
            few_ahead(P, w, stride, sizeof(struct q4_block));
            few_q4(kind, R, P, x + k, ldx, w, stride, acc);
        }
    } else if (kind == PACKED_Q8) {
        for (int k = 0; k < K; k += Q8_STEPS, w += sizeof(struct q8_block)) {
            few_ahead(P, w, stride, sizeof(struct q8_block));
            few_q8(R, P, x + k, ldx, w, stride, acc);
        }
    } else {
        for (int k = 0; k < K; k++) {
            UNROLL for (int p = 0; p < P; p++) b[p] = decode_step(kind, w + (size_t)p * stride, k);
            few_step(R, P, x + k, ldx, b, acc);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++)
        v16_store(c + (size_t)r * ldc + 16 * p, acc[r * P + p]);
}

#define FEW_FN(KIND, R, NAME, P)                                                                   \
    static void few_##KIND##_##R##_##NAME(const float *x, size_t ldx, const unsigned char *w,      \
                                          size_t stride, int K, float *c, size_t ldc)              \
    {                                                                                              \
        few(PACKED_##KIND, R, P, x, ldx, w, stride, K, c, ldc);                                    \
    }
#define FEW_ROWS(KIND, R, W) FEW_FN(KIND, R, one, 1) FEW_FN(KIND, R, wide, W(R))
#define FEW_KIND(KIND, W)                                                                          \
    FEW_ROWS(KIND, 1, W) FEW_ROWS(KIND, 2, W) FEW_ROWS(KIND, 3, W) FEW_ROWS(KIND, 4, W)
#define FEW_PAIR(KIND, R)                                                                          \
    {                                                                                              \
        few_##KIND##_##R##_one, few_##KIND##_##R##_wide                                            \
    }
#define FEW_ENTRY(KIND)                                                                            \
    [PACKED_##KIND] = {FEW_PAIR(KIND, 1), FEW_PAIR(KIND, 2), FEW_PAIR(KIND, 3), FEW_PAIR(KIND, 4)}

FEW_KIND(F32, WIDE)
FEW_KIND(F16, WIDE)
FEW_KIND(BF16, WIDE)
FEW_KIND(Q4, WIDE_BLOCKS)
FEW_KIND(Q4S, WIDE_BLOCKS)
FEW_KIND(Q8, WIDE_BLOCKS)

static few_fn *const few_tiles[][FEW][2] = {FEW_ENTRY(F32), FEW_ENTRY(F16), FEW_ENTRY(BF16),
                                            FEW_ENTRY(Q4),  FEW_ENTRY(Q4S), FEW_ENTRY(Q8)};
static const int few_wide[2][FEW] = {
    {WIDE(1), WIDE(2), WIDE(3), WIDE(4)},
    {WIDE_BLOCKS(1), WIDE_BLOCKS(2), WIDE_BLOCKS(3), WIDE_BLOCKS(4)}};

/* ---- a group of panels: sums into c (T, 16·P) -------------------------------- */

/* The caller's scratch: sums, then decoded weights, on cache lines. */
struct gemm_space {
    float *sums, *decoded;
};

static struct gemm_space gemm_space(float *scratch)
{
    float *aligned = (float *)(void *)(((uintptr_t)scratch + 63) / 64 * 64);
    struct gemm_space s = {aligned, aligned + GEMM_ROWS * 32};
    return s;
}

/* Up to so many rows groups of FEW, decoding anew for each, are faster than a decoded copy. */
static int few_most(const struct packed *w)
{
    return w->kind >= PACKED_Q4 ? FEW_MOST_BLOCKS : 2 * FEW;
}

static void group_few(const float *x, size_t ldx, int T, const struct packed *w, int panel, int P,
                      float *c)
{
    size_t ldc = (size_t)P * 16;
    for (int parts = (T + FEW - 1) / FEW; parts; parts--) {
        int rows = T / parts, wide = few_wide[w->kind >= PACKED_Q4][rows - 1];
        for (int p = 0; p < P;) {
            int fits = p + wide <= P;
            few_tiles[w->kind][rows - 1][fits](x, ldx, packed_panel(w, panel + p), w->panel_bytes,
                                               w->k, c + 16 * p, ldc);
            p += fits ? wide : 1;
        }
        T -= rows;
        x += (size_t)rows * ldx;
        c += (size_t)rows * ldc;
    }
}

/* What follows the block [k0, k0 + steps) of panels panel … panel+P-1. */
static struct ahead ahead_of(const struct packed *w, int panel, int P, int k0, int steps)
{
    struct ahead a = {{NULL, NULL}, 0};
    int next = k0 + steps;
    if (next >= w->k) next = 0, panel += P;
    int more = w->k - next < GEMM_STEPS ? w->k - next : GEMM_STEPS;
    a.bytes = w->panel_bytes * (size_t)more / (size_t)w->k;
    for (int p = 0; p < P && panel + p < w->n_panels; p++)
        a.at[p] = packed_panel(w, panel + p) + w->panel_bytes * (size_t)next / (size_t)w->k;
    return a;
}

/* P <= 2.  A block of the panels stays in the first cache while all rows pass by. */
static void group_many(const float *x, size_t ldx, int T, const struct packed *w, int panel, int P,
                       const struct gemm_space *space, const struct output *output)
{
    size_t ldc = (size_t)P * 16;
    for (int k0 = 0; k0 < w->k; k0 += GEMM_STEPS) {
        int steps = w->k - k0 < GEMM_STEPS ? w->k - k0 : GEMM_STEPS;
        struct block b = {.w = space->decoded,
                          .stride = 16 * GEMM_STEPS,
                          .steps = steps,
                          .first = k0 == 0,
                          .c = space->sums,
                          .ldc = ldc};
        if (w->kind == PACKED_F32) {
            b.w = (const float *)(const void *)packed_panel(w, panel) + (size_t)k0 * 16;
            b.stride = w->panel_bytes / sizeof(float);
        } else {
            for (int p = 0; p < P; p++)
                decode_panel(w, panel + p, k0, k0 + steps, space->decoded + (size_t)p * b.stride);
        }
        struct ahead ahead = ahead_of(w, panel, P, k0, steps);
        for (int p = 0; p < P; p += TILE_PANELS, b.w += TILE_PANELS * b.stride) {
            int n = P - p < TILE_PANELS ? P - p : TILE_PANELS;
            int complete = k0 + steps == w->k && p + n == P;
            tile_rows(n, x + k0, ldx, T, &b, p == 0 ? &ahead : NULL, complete ? output : NULL);
            b.c += 16 * TILE_PANELS;
        }
    }
}

static void group_gemm(const float *x, size_t ldx, int T, const struct packed *w, int panel, int P,
                       const struct gemm_space *space, const struct output *output)
{
    if (T > few_most(w)) {
        group_many(x, ldx, T, w, panel, P, space, output);
        return;
    }
    group_few(x, ldx, T, w, panel, P, space->sums);
    finish(output, 0, T);
}

/* Rows a block so that X stays in the second cache, in nearly equal blocks of whole tiles; at
 * least 1.
 */
static int row_block(int T, int K, int tile)
{
    if (T <= 0) return 1;
    int most = GEMM_NUMBERS / K;
    if (most > GEMM_ROWS) most = GEMM_ROWS;
    most = (most < 8 * TILE_ROWS ? 8 * TILE_ROWS : most) / tile * tile;
    int blocks = (T + most - 1) / most, rows = (T + blocks - 1) / blocks;
    return (rows + tile - 1) / tile * tile;
}

/* dX = dY·W sums over W's columns n.  Where they are many, few whole rows of dY stay in cache, and
 * all weights would be decoded for each few: they go by parts of n. */
static int dx_by_parts(const struct packed *w)
{
    return w->n >= DX_PARTS_FROM;
}

static int dx_block(const struct packed *w, int T)
{
    return dx_by_parts(w) ? DX_PARTS_ROWS : row_block(T, w->n, TILE_ROWS);
}

/* The next panels of X: two that begin at an even one, or one.  `out` is told their columns. */
static int dx_panels(const struct packed *w, int panel, int panel1, struct output *out)
{
    int P = panel % 2 || panel + 1 == panel1 ? 1 : 2;
    out->ldc = (size_t)P * 16;
    out->columns = w->k - 16 * panel < 16 * P ? w->k - 16 * panel : 16 * P;
    return P;
}

static void gemm(const float *x, size_t ldx, int T, const struct packed *w, int panel0, int panel1,
                 const float *bias, float *y, size_t ldy, int add, float *scratch)
{
    struct gemm_space space = gemm_space(scratch);
    int block = row_block(T, w->k, TILE_ROWS), group = T <= few_most(w) ? 8 : TILE_PANELS;
    struct output out = {.sums = space.sums, .ldy = ldy, .add = add};
    for (int t = 0; t < T; t += block) {
        int rows = T - t < block ? T - t : block;
        for (int panel = panel0; panel < panel1; panel += group) {
            int P = panel1 - panel < group ? panel1 - panel : group;
            size_t first = (size_t)(panel - panel0) * 16;
            out.ldc = (size_t)P * 16;
            out.columns = w->n - 16 * panel < 16 * P ? w->n - 16 * panel : 16 * P;
            out.bias = bias ? bias + first : NULL;
            out.y = y + (size_t)t * ldy + first;
            group_gemm(x + (size_t)t * ldx, ldx, rows, w, panel, P, &space, &out);
        }
    }
}

static void gemm_swiglu(const float *x, size_t ldx, int T, const struct packed *w, int pair0,
                        int pair1, float *h, size_t ldh, float *gates, size_t ldg, float *scratch)
{
    struct gemm_space space = gemm_space(scratch);
    int block = row_block(T, w->k, TILE_ROWS), group = T <= few_most(w) ? 4 : 1;
    struct output out = {.sums = space.sums, .ldy = ldh, .ldg = ldg, .gated = 1};
    for (int t = 0; t < T; t += block) {
        int rows = T - t < block ? T - t : block;
        for (int pair = pair0; pair < pair1; pair += group) {
            int pairs = pair1 - pair < group ? pair1 - pair : group;
            out.ldc = (size_t)pairs * 32;
            out.columns = 32 * pairs;
            out.y = h + (size_t)t * ldh + (size_t)(pair - pair0) * 16;
            if (gates) out.gates = gates + (size_t)t * ldg + (size_t)(pair - pair0) * 32;
            group_gemm(x + (size_t)t * ldx, ldx, rows, w, 2 * pair, 2 * pairs, &space, &out);
        }
    }
    if (gates) v16_stream_end();
}

static void swiglu(const float *gates, size_t ldg, int T, int pairs, float *h, size_t ldh)
{
    struct output out = {.columns = 32 * pairs, .gated = 1};
    for (int t = 0; t < T; t++, gates += ldg, h += ldh) finish_gated_row(gates, &out, h, NULL);
}
