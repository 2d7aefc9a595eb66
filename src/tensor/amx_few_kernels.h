/* Few rows of X on AMX; after bf16_gemm_kernels.h and before amx_gemm_kernels.h, which gives the
 * order of the sums.
 *
 * Up to sixteen rows are one tile, which multiplies a block of 32 steps while the next one is
 * decoded: decoding is what takes the time.  Of the tile's rows one or two leave most empty; they
 * go without: weights are decoded in registers, rounded to bf16 and kept as f32, where a product of
 * two of them is exact, so that FMAs in the order of TDPBF16PS give its bits.
 *
 * The including file defines, beside what amx_gemm_kernels.h needs,
 *   AMX_WIDE, AMX_WIDE_BLOCKS        panels side by side for FMAs, without blocks and with them
 *   amx_fma(a, b, c), amx_add(a, b)  with denormals as zeros before and after
 *   amx_round(v)                     rounded to bf16; |v| < 2^112, which weights of blocks are by
 *                                    their scales; of a zero it may lose the sign
 *   amx_nibble(kind, block, g, j)    the numbers of step 8g + j
 *   amx_flush_begin(), amx_flush_end(state)   around the sums: the state in which denormals are
 * zeros; whether a sum may have been one */

#define AMX_FEW 16    /* a tile */
#define AMX_VECTORS 2 /* up to so many rows FMAs are faster */

/* ---- by FMAs ----------------------------------------------------------------------- */

/* R rows as amx_spread() leaves them: x[k·R + r]. */
typedef void amx_few_fn(const float *x, const unsigned char *w, size_t stride, int K, float *c,
                        size_t ldc);

/* Of R rows and P panels: the chains of even and of odd steps, and what they are added to. */
struct amx_chains {
    v16 at[2][AMX_VECTORS * 4], sum[AMX_VECTORS * 4];
};

V16 void amx_few_step(const int R, const int P, const float *x, const v16 *b, v16 *chains)
{
    UNROLL for (int r = 0; r < R; r++)
    {
        v16 a = v16_set1(x[r]);
        UNROLL for (int p = 0; p < P; p++) chains[r * P + p] = amx_fma(a, b[p], chains[r * P + p]);
    }
}

/* A block of 32 steps. */
V16 void amx_few_q4(const int kind, const int R, const int P, const float *x,
                    const unsigned char *w, size_t stride, struct amx_chains *s)
{
    const struct q4_block *block[4];
    v16 d[4], m[4], b[4];
    UNROLL for (int p = 0; p < P; p++)
    {
        block[p] = (const void *)(w + (size_t)p * stride);
        d[p] = v16_load(block[p]->d);
        m[p] = v16_load(block[p]->m);
    }
    UNROLL for (int g = 0; g < 4; g++)
    {
        UNROLL for (int j = 0; j < 8; j++)
        {
            UNROLL for (int p = 0; p < P; p++) b[p] =
                amx_round(v16_fma(d[p], amx_nibble(kind, block[p], g, j), m[p]));
            amx_few_step(R, P, x + (8 * g + j) * R, b, s->at[j % 2]);
        }
    }
}

/* Two blocks of 16 steps. */
V16 void amx_few_q8(const int R, const int P, const float *x, const unsigned char *w, size_t stride,
                    struct amx_chains *s)
{
    for (int half = 0; half < 2; half++, x += Q8_STEPS * R, w += sizeof(struct q8_block)) {
        const struct q8_block *block[4];
        v16 d[4], m[4], b[4];
        UNROLL for (int p = 0; p < P; p++)
        {
            block[p] = (const void *)(w + (size_t)p * stride);
            d[p] = v16_load(block[p]->d);
            m[p] = v16_load(block[p]->m);
        }
        UNROLL for (int j = 0; j < Q8_STEPS; j++)
        {
            UNROLL for (int p = 0; p < P; p++) b[p] =
                amx_round(v16_fma(d[p], v16_from_i8(block[p]->q[j]), m[p]));
            amx_few_step(R, P, x + j * R, b, s->at[j % 2]);
        }
    }
}

/* Up to 32 steps from k on, of panels without blocks.  Where the tiles have zeros behind the last,
 * a zero loses its sign. */
BF16_TARGET V16 void amx_few_plain(const int kind, const int R, const int P, const float *x,
                                   const unsigned char *w, size_t stride, int k, int K,
                                   struct amx_chains *s)
{
    int end = K - k < 32 ? K : k + 32;
    v16i pairs[4];
    v16 b[4];
    for (; k < end; k += 2, x += 2 * R) {
        UNROLL for (int p = 0; p < P; p++) pairs[p] =
            bf16_plain_pair(kind, w + (size_t)p * stride, k, k + 1 == K);
        UNROLL for (int p = 0; p < P; p++) b[p] = v16_from_bf16(pairs[p], 0);
        amx_few_step(R, P, x, b, s->at[0]);
        UNROLL for (int p = 0; p < P; p++) b[p] = v16_from_bf16(pairs[p], 1);
        amx_few_step(R, P, x + R, b, s->at[1]);
    }
    for (int odd = 0; odd < 2 && k % 32; odd++)
        UNROLL for (int i = 0; i < R * P; i++) s->at[odd][i] = amx_add(s->at[odd][i], v16_zero());
}

BF16_TARGET V16 void amx_few(const int kind, const int R, const int P, const float *x,
                             const unsigned char *w, size_t stride, int K, float *c, size_t ldc)
{
    struct amx_chains s;
    UNROLL for (int i = 0; i < R * P; i++) s.sum[i] = v16_zero();
    for (int k = 0; k < K; k += 32, x += 32 * R) {
        UNROLL for (int i = 0; i < R * P; i++) s.at[0][i] = s.at[1][i] = v16_zero();
        if (kind == PACKED_Q4 || kind == PACKED_Q4S) {
            few_ahead(P, w, stride, sizeof(struct q4_block));
            amx_few_q4(kind, R, P, x, w, stride, &s);
            w += sizeof(struct q4_block);
        } else if (kind == PACKED_Q8) {
            few_ahead(P, w, stride, 2 * sizeof(struct q8_block));
            amx_few_q8(R, P, x, w, stride, &s);
            w += 2 * sizeof(struct q8_block);
        } else {
            amx_few_plain(kind, R, P, x, w, stride, k, K, &s);
        }
        UNROLL for (int i = 0; i < R * P; i++) s.sum[i] =
            amx_add(s.sum[i], amx_add(s.at[0][i], s.at[1][i]));
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++)
        v16_store(c + (size_t)r * ldc + 16 * p, s.sum[r * P + p]);
}

#define AMX_FEW_FN(KIND, R, NAME, P)                                                               \
    BF16_TARGET static void amx_few_##KIND##_##R##_##NAME(                                         \
        const float *x, const unsigned char *w, size_t stride, int K, float *c, size_t ldc)        \
    {                                                                                              \
        amx_few(PACKED_##KIND, R, P, x, w, stride, K, c, ldc);                                     \
    }
#define AMX_FEW_KIND(KIND, W)                                                                      \
    AMX_FEW_FN(KIND, 1, one, 1)                                                                    \
    AMX_FEW_FN(KIND, 1, wide, W) AMX_FEW_FN(KIND, 2, one, 1) AMX_FEW_FN(KIND, 2, wide, W)
#define AMX_FEW_ENTRY(KIND)                                                                        \
    [PACKED_##KIND] = {{amx_few_##KIND##_1_one, amx_few_##KIND##_1_wide},                          \
                       {amx_few_##KIND##_2_one, amx_few_##KIND##_2_wide}}

AMX_FEW_KIND(F32, AMX_WIDE)
AMX_FEW_KIND(F16, AMX_WIDE)
AMX_FEW_KIND(BF16, AMX_WIDE)
AMX_FEW_KIND(Q4, AMX_WIDE_BLOCKS)
AMX_FEW_KIND(Q4S, AMX_WIDE_BLOCKS)
AMX_FEW_KIND(Q8, AMX_WIDE_BLOCKS)

static amx_few_fn *const amx_few_vectors[][AMX_VECTORS][2] = {
    AMX_FEW_ENTRY(F32), AMX_FEW_ENTRY(F16), AMX_FEW_ENTRY(BF16),
    AMX_FEW_ENTRY(Q4),  AMX_FEW_ENTRY(Q4S), AMX_FEW_ENTRY(Q8)};

/* Behind the tiles of pairs: the scratch has room for the pairs of 96 rows. */
static float *amx_spread_rows(int K, uint32_t *rows)
{
    return (float *)(void *)(rows + 16 * bf16_row_pairs(K));
}

/* Rows of pairs as f32, (K, T): one pointer for all rows, and a load that is an FMA's operand. */
static void amx_spread(int T, int K, uint32_t *rows)
{
    if (T > AMX_VECTORS) return; /* the tiles read pairs */
    size_t pairs = bf16_row_pairs(K), step = (size_t)T;
    float *out = amx_spread_rows(K, rows);
    for (int t = 0; t < T; t++, out++)
        for (size_t i = 0; i < pairs; i++) {
            uint32_t two = rows[i / 16 * 256 + (size_t)t * 16 + i % 16];
            out[2 * i * step] = half_bits_float(two << 16);
            out[(2 * i + 1) * step] = half_bits_float(two & 0xffff0000);
        }
}

/* ---- by tiles, right behind the decoding --------------------------------------------- */

typedef void amx_few_tile_fn(const uint32_t *x, const struct packed *w, int panel,
                             uint32_t *decoded, float *c, size_t ldc);

/* Steps k … k+31 of a panel, a tile. */
static void amx_few_decode(const struct packed *w, int panel, int k, uint32_t *out)
{
    if (k < w->k) bf16_decode_panels(w, panel, 1, 0, k, w->k - k < 32 ? w->k - k : 32, out, 256);
    __asm__ volatile("" ::: "memory"); /* see TILES_BEGIN */
}

/* Sixteen rows of P panels.  While the tiles multiply a block the next one is decoded.  Tiles:
 * 0 … 3 sums, 4 rows, 5 … 7 panels. */
AMX_TARGET static inline __attribute__((always_inline)) void
amx_few_tile(const int P, const uint32_t *x, const struct packed *w, int panel, uint32_t *decoded,
             float *c, size_t ldc)
{
    const size_t sums = ldc * 4;
    const size_t bytes = w->panel_bytes / (size_t)w->k * 32;
    const unsigned char *data = packed_panel(w, panel);
    for (int p = 0; p < P; p++) amx_few_decode(w, panel + p, 0, decoded + 256 * p);
    TILES_BEGIN();
    TILE_ZERO(0);
    if (P > 1) TILE_ZERO(1);
    if (P > 2) TILE_ZERO(2);
    if (P > 3) TILE_ZERO(3);
    for (int k = 0; k < w->k; k += 32, x += 256) {
        const uint32_t *b = decoded + k / 32 % 2 * 1024;
        uint32_t *next = decoded + (k / 32 + 1) % 2 * 1024;
        few_ahead(P, data + (size_t)(k / 32) * bytes, w->panel_bytes, bytes);
        TILE_LOAD(4, x, 64);
        amx_few_decode(w, panel, k + 32, next);
        TILE_LOAD(5, b, 64);
        TILE_DP(0, 4, 5);
        if (P > 1) {
            amx_few_decode(w, panel + 1, k + 32, next + 256);
            TILE_LOAD(6, b + 256, 64);
            TILE_DP(1, 4, 6);
        }
        if (P > 2) {
            amx_few_decode(w, panel + 2, k + 32, next + 512);
            TILE_LOAD(7, b + 512, 64);
            TILE_DP(2, 4, 7);
        }
        if (P > 3) {
            amx_few_decode(w, panel + 3, k + 32, next + 768);
            TILE_LOAD(5, b + 768, 64);
            TILE_DP(3, 4, 5);
        }
    }
    TILE_STORE(0, c, sums);
    if (P > 1) TILE_STORE(1, c + 16, sums);
    if (P > 2) TILE_STORE(2, c + 32, sums);
    if (P > 3) TILE_STORE(3, c + 48, sums);
    TILES_END();
}

#define AMX_FEW_TILE(P)                                                                            \
    AMX_TARGET static void amx_few_tile_##P(const uint32_t *x, const struct packed *w, int panel,  \
                                            uint32_t *decoded, float *c, size_t ldc)               \
    {                                                                                              \
        amx_few_tile(P, x, w, panel, decoded, c, ldc);                                             \
    }
AMX_FEW_TILE(1)
AMX_FEW_TILE(2)
AMX_FEW_TILE(4)

static amx_few_tile_fn *const amx_few_tiles[] = {
    [1] = amx_few_tile_1, [2] = amx_few_tile_2, [4] = amx_few_tile_4};

/* ---- a group of panels ------------------------------------------------------------- */

/* The rows behind the last are whatever the scratch holds. */
static void amx_group_tiles(const struct packed *w, int panel, int P, const struct bf16_space *s)
{
    for (int p = 0, n; p < P; p += n) {
        n = P - p >= 4 ? 4 : P - p >= 2 ? 2 : 1;
        amx_few_tiles[n](s->rows, w, panel + p, s->weights, s->sums + 16 * p, (size_t)P * 16);
    }
}

/* Returns whether the sums may have another sign of a zero than the tiles': amx_round() makes a -0
 * of blocks +0, which counts only in a chain that came to -0, and it is a negative denormal that
 * comes to it. */
static int amx_group_vectors(int T, const struct packed *w, int panel, int P,
                             const struct bf16_space *s)
{
    const float *x = amx_spread_rows(w->k, s->rows);
    int blocks = w->kind >= PACKED_Q4, wide = blocks ? AMX_WIDE_BLOCKS : AMX_WIDE;
    unsigned state = amx_flush_begin();
    for (int p = 0; p < P;) {
        int fits = p + wide <= P;
        amx_few_vectors[w->kind][T - 1][fits](x, packed_panel(w, panel + p), w->panel_bytes, w->k,
                                              s->sums + 16 * p, (size_t)P * 16);
        p += fits ? wide : 1;
    }
    return amx_flush_end(state) && blocks;
}

/* Models hardly have denormals: then the tiles may compute again. */
static void amx_group_few(int T, const struct packed *w, int panel, int P,
                          const struct bf16_space *s)
{
    if (T > AMX_VECTORS || amx_group_vectors(T, w, panel, P, s)) amx_group_tiles(w, panel, P, s);
}
