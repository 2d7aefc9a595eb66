/* Few rows of X on AMX, without its tiles, of whose sixteen rows most would be empty.  Weights are
 * decoded in registers, rounded to bf16 and kept as f32, where a product of two of them is exact:
 * FMAs on such numbers, in the order of TDPBF16PS (amx_gemm_kernels.h), give the bits of the tiles.
 * After bf16_gemm_kernels.h.
 *
 * The including file defines
 *   AMX_WIDE(R), AMX_WIDE_BLOCKS(R)   panels side by side for R = 1 … AMX_FEW rows: of plain kinds,
 *                                     and of kinds with blocks
 *   amx_fma(a, b, c), amx_add(a, b)   with denormals as zeros before and after
 *   amx_round(v)                      rounded to bf16; |v| < 2^112, which weights of blocks are by
 *                                     their scales; of a zero it may lose the sign
 *   amx_even(pairs), amx_odd(pairs)   their elements as f32
 *   amx_nibble(kind, block, g, j)     the numbers of step 8g + j
 *   amx_flush_begin(), amx_flush_end(state)   around the sums: the state in which denormals are
 * zeros; whether a sum may have been one */

/* Up to so many rows this is faster than the tiles. */
#define AMX_FEW 4

/* R rows as amx_spread() leaves them: x[k·R + r]. */
typedef void amx_few_fn(const float *x, const unsigned char *w, size_t stride, int K, float *c,
                        size_t ldc);

/* Of R rows and P panels: the chains of even and of odd steps, and what they are added to. */
struct amx_chains {
    v16 at[2][16], sum[16];
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
    const struct q4_block *block[8];
    v16 d[8], m[8], b[8];
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
        const struct q8_block *block[8];
        v16 d[8], m[8], b[8];
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
    v16i pairs[8];
    v16 b[8];
    for (; k < end; k += 2, x += 2 * R) {
        UNROLL for (int p = 0; p < P; p++) pairs[p] =
            bf16_plain_pair(kind, w + (size_t)p * stride, k, k + 1 == K);
        UNROLL for (int p = 0; p < P; p++) b[p] = amx_even(pairs[p]);
        amx_few_step(R, P, x, b, s->at[0]);
        UNROLL for (int p = 0; p < P; p++) b[p] = amx_odd(pairs[p]);
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
#define AMX_FEW_ROWS(KIND, R, W) AMX_FEW_FN(KIND, R, one, 1) AMX_FEW_FN(KIND, R, wide, W(R))
#define AMX_FEW_KIND(KIND, W)                                                                      \
    AMX_FEW_ROWS(KIND, 1, W)                                                                       \
    AMX_FEW_ROWS(KIND, 2, W) AMX_FEW_ROWS(KIND, 3, W) AMX_FEW_ROWS(KIND, 4, W)
#define AMX_FEW_PAIR(KIND, R)                                                                      \
    {                                                                                              \
        amx_few_##KIND##_##R##_one, amx_few_##KIND##_##R##_wide                                    \
    }
#define AMX_FEW_ENTRY(KIND)                                                                        \
    [PACKED_##KIND] = {AMX_FEW_PAIR(KIND, 1), AMX_FEW_PAIR(KIND, 2), AMX_FEW_PAIR(KIND, 3),        \
                       AMX_FEW_PAIR(KIND, 4)}

AMX_FEW_KIND(F32, AMX_WIDE)
AMX_FEW_KIND(F16, AMX_WIDE)
AMX_FEW_KIND(BF16, AMX_WIDE)
AMX_FEW_KIND(Q4, AMX_WIDE_BLOCKS)
AMX_FEW_KIND(Q4S, AMX_WIDE_BLOCKS)
AMX_FEW_KIND(Q8, AMX_WIDE_BLOCKS)

static amx_few_fn *const amx_few_tiles[][AMX_FEW][2] = {AMX_FEW_ENTRY(F32),  AMX_FEW_ENTRY(F16),
                                                        AMX_FEW_ENTRY(BF16), AMX_FEW_ENTRY(Q4),
                                                        AMX_FEW_ENTRY(Q4S),  AMX_FEW_ENTRY(Q8)};
static const int amx_wide[2][AMX_FEW] = {
    {AMX_WIDE(1), AMX_WIDE(2), AMX_WIDE(3), AMX_WIDE(4)},
    {AMX_WIDE_BLOCKS(1), AMX_WIDE_BLOCKS(2), AMX_WIDE_BLOCKS(3), AMX_WIDE_BLOCKS(4)}};

/* ---- a group of panels ------------------------------------------------------------- */

/* Behind the tiles of pairs: the scratch has room for the pairs of 96 rows. */
static float *amx_spread_rows(int K, uint32_t *rows)
{
    return (float *)(void *)(rows + 16 * bf16_row_pairs(K));
}

/* Rows of pairs as f32, (K, T): one pointer for all rows, and a load that is an FMA's operand. */
static void amx_spread(int T, int K, uint32_t *rows)
{
    size_t pairs = bf16_row_pairs(K), step = (size_t)T;
    float *out = amx_spread_rows(K, rows);
    for (int t = 0; t < T; t++, out++)
        for (size_t i = 0; i < pairs; i++) {
            uint32_t two = rows[i / 16 * 256 + (size_t)t * 16 + i % 16];
            out[2 * i * step] = half_bits_float(two << 16);
            out[(2 * i + 1) * step] = half_bits_float(two & 0xffff0000);
        }
}

/* The same sums by the tiles. */
static void amx_group_tiles(const struct bf16_unit *unit, int T, const struct packed *w, int panel,
                            int P, const struct bf16_space *s)
{
    size_t ldc = (size_t)P * 16;
    struct bf16_space part = *s;
    part.sums += (size_t)AMX_FEW * 8 * 16;
    for (int p = 0; p < P; p += 2) {
        int n = P - p < 2 ? 1 : 2;
        bf16_group_many(unit, T, w, panel + p, n, 0, &part, NULL);
        for (int t = 0; t < T; t++)
            memcpy(s->sums + (size_t)t * ldc + 16 * p, part.sums + 16 * t * n,
                   sizeof(float) * 16 * (size_t)n);
    }
}

/* The sign of a weight that is zero counts only in a chain that came to -0, and it is a negative
 * denormal that comes to it.  Models hardly have any: the tiles may take such a group over. */
static void amx_group_few(const struct bf16_unit *unit, int T, const struct packed *w, int panel,
                          int P, const struct bf16_space *s)
{
    const float *x = amx_spread_rows(w->k, s->rows);
    int wide = amx_wide[w->kind >= PACKED_Q4][T - 1];
    unsigned state = amx_flush_begin();
    for (int p = 0; p < P;) {
        int fits = p + wide <= P;
        amx_few_tiles[w->kind][T - 1][fits](x, packed_panel(w, panel + p), w->panel_bytes, w->k,
                                            s->sums + 16 * p, (size_t)P * 16);
        p += fits ? wide : 1;
    }
    int flushed = amx_flush_end(state), rounded = w->kind >= PACKED_Q4; /* by amx_round() */
    if (flushed && rounded) amx_group_tiles(unit, T, w, panel, P, s);
}
