/* Attention and its gradient on AMX's tiles; after bf16_attention_kernels.h, whose pages and
 * rounding it shares.
 *
 * A page is tiles of B as it lies: of keys, 16 pairs along D by 16 positions; of values, its 16
 * pairs of positions by 16 dimensions.  Rows of queries or weights are tiles of A, two of them
 * beside two of B.  For dK and dV the rows' P and dS are turned: a tile of A is 16 positions by 16
 * pairs of rows.
 *
 * The order is that of amx_gemm_kernels.h, at one row as at 32: blocks of 32 numbers along D, of
 * 32 positions (a page), of 32 rows from the block's first on, with zeros behind the last.  Rows
 * that a tile has behind the last are whatever the buffers hold there; nobody reads their sums.
 *
 * The tiles' macros are those of amx_gemm_kernels.h.  The including file defines what that needs,
 * and ISA_AMX_ATTENTION, the name of the result. */

static const uint32_t *amx_words(const float *words)
{
    return (const uint32_t *)(const void *)words;
}

/* ---- scores ---- */

/* P half pages, `half` words apart.  `tail`: of the last sixteen numbers of D where it is no
 * multiple of 32, tiles with zeros behind. */
AMX_TARGET V16 void amx_scores_tile(const int R, const int P, const uint32_t *q, size_t ldq,
                                    const uint32_t *page, size_t half, const uint32_t *tail,
                                    float *s, size_t lds)
{
    TILES_BEGIN();
    AMX_SUMS_BEGIN(R, P, 1, s, lds);
    for (size_t k = 0; k + 256 <= half; k += 256, q += 16)
        AMX_STEP(TILE_LOAD, R, P, q, q + 16 * ldq, 4 * ldq, page + k, page + half + k);
    if (tail) AMX_STEP(TILE_LOAD, R, P, q, q + 16 * ldq, 4 * ldq, tail, tail + 256);
    AMX_SUMS_END(R, P, s, lds);
    TILES_END();
}

typedef void amx_scores_fn(const uint32_t *q, size_t ldq, const uint32_t *page, size_t half,
                           const uint32_t *tail, float *s, size_t lds);
#define AMX_SCORES(R, P)                                                                           \
    AMX_TARGET static void amx_scores_##R##_##P(const uint32_t *q, size_t ldq,                     \
                                                const uint32_t *page, size_t half,                 \
                                                const uint32_t *tail, float *s, size_t lds)        \
    {                                                                                              \
        amx_scores_tile(R, P, q, ldq, page, half, tail, s, lds);                                   \
    }
AMX_SCORES(1, 1)
AMX_SCORES(1, 2)
AMX_SCORES(2, 1)
AMX_SCORES(2, 2)
static amx_scores_fn *const amx_scores_tiles[2][2] = {{amx_scores_1_1, amx_scores_1_2},
                                                      {amx_scores_2_1, amx_scores_2_2}};

static void amx_scores(const float *rows, size_t ldq, int R, const float *const *pages,
                       int positions, int D, float *s, size_t lds)
{
    uint32_t tails[2][256] __attribute__((aligned(64)));
    const uint32_t *tail = D % 32 ? tails[0] : NULL;
    size_t half = (size_t)D / 2 * 16;
    if (tail) memset(tails, 0, sizeof tails);
    for (; positions > 0; positions -= ATTENTION_PAGE, pages++, s += ATTENTION_PAGE) {
        const uint32_t *page = amx_words(*pages);
        for (int h = 0; h < 2 && tail; h++)
            memcpy(tails[h], page + (size_t)h * half + half - 128, 128 * sizeof **tails);
        amx_scores_tiles[R > 16][positions > 16](amx_words(rows), ldq, page, half, tail, s, lds);
    }
}

/* ---- values ---- */

/* P panels of 16 dimensions, from `first` words of a page on, of `whole` pages and, where there is
 * one, of `part`. */
AMX_TARGET V16 void amx_values_tile(const int R, const int P, const uint32_t *p, size_t ldp,
                                    const float *const *pages, int whole, size_t first,
                                    const uint32_t *part, int more, float *o, size_t ldo)
{
    TILES_BEGIN();
    AMX_SUMS_BEGIN(R, P, !more, o, ldo);
    for (int i = 0; i < whole; i++, p += 16) {
        const uint32_t *v = amx_words(pages[i]) + first;
        AMX_STEP(TILE_LOAD, R, P, p, p + 16 * ldp, 4 * ldp, v, v + 256);
    }
    if (part) AMX_STEP(TILE_LOAD, R, P, p, p + 16 * ldp, 4 * ldp, part, part + 256);
    AMX_SUMS_END(R, P, o, ldo);
    TILES_END();
}

typedef void amx_values_fn(const uint32_t *p, size_t ldp, const float *const *pages, int whole,
                           size_t first, const uint32_t *part, int more, float *o, size_t ldo);
#define AMX_VALUES(R, P)                                                                           \
    AMX_TARGET static void amx_values_##R##_##P(                                                   \
        const uint32_t *p, size_t ldp, const float *const *pages, int whole, size_t first,         \
        const uint32_t *part, int more, float *o, size_t ldo)                                      \
    {                                                                                              \
        amx_values_tile(R, P, p, ldp, pages, whole, first, part, more, o, ldo);                    \
    }
AMX_VALUES(1, 1)
AMX_VALUES(1, 2)
AMX_VALUES(2, 1)
AMX_VALUES(2, 2)
static amx_values_fn *const amx_values_tiles[2][2] = {{amx_values_1_1, amx_values_1_2},
                                                      {amx_values_2_1, amx_values_2_2}};

/* The first positions of P panels with zeros behind: what lies there is nobody's, and may be no
 * number. */
static void amx_part_page(const uint32_t *panels, int P, int positions, uint32_t *out)
{
    const v16i zero = v16i_set1(0);
    for (int i = 0; i < 16 * P; i++, panels += 16, out += 16) {
        int left = positions - i % 16 * 2;
        v16i words = left > 0 ? v16i_load(panels) : zero;
        v16i_store(out, left == 1 ? bf16_first(words) : words);
    }
}

/* R rows of n numbers. */
static void amx_copy_rows(const float *from, size_t ldfrom, int R, int n, float *to, size_t ldto)
{
    for (int r = 0; r < R; r++, from += ldfrom, to += ldto)
        for (int i = 0; i < n; i += 16) v16_store(to + i, v16_load(from + i));
}

static void amx_values(const float *rows, size_t ldp, int R, const float *const *pages,
                       int positions, int D, int more, float *o)
{
    const int whole = positions / ATTENTION_PAGE, left = positions % ATTENTION_PAGE;
    uint32_t part[2 * 256] __attribute__((aligned(64)));
    float sums[ATTENTION_TILE * 32] __attribute__((aligned(64)));
    int apart = more && R % 16; /* the rows behind are other branches', and have begun */
    for (int i = 0, P; i < D / 16; i += P, o += 16 * P) {
        size_t ldo = apart ? 32 : (size_t)D, first = (size_t)i * 256;
        float *to = apart ? sums : o;
        P = D / 16 - i > 1 ? 2 : 1;
        if (left) amx_part_page(amx_words(pages[whole]) + first, P, left, part);
        if (apart) amx_copy_rows(o, (size_t)D, R, 16 * P, sums, 32);
        amx_values_tiles[R > 16][P - 1](amx_words(rows), ldp, pages, whole, first,
                                        left ? part : NULL, more, to, ldo);
        if (apart) amx_copy_rows(sums, 32, R, 16 * P, o, (size_t)D);
    }
}

/* ---- keys' and values' gradients ---- */

/* Rows, of which the last is followed by zeros up to a multiple of `whole`. */
static void amx_zero_rows(float *rows, size_t ld, int R, int whole, int n)
{
    for (int i = R; i < (R + whole - 1) / whole * whole; i++)
        memset(rows + (size_t)i * ld, 0, (size_t)n * sizeof *rows);
}

static void amx_gather_rows(const float *x, const size_t *offset, int R, int n, float *words)
{
    bf16_gather_rows(x, offset, R, n, words);
    amx_zero_rows(words, (size_t)n, (R + 1) / 2, 16, n);
}

/* They are rounded where they are turned. */
static void amx_join_rows(float *x, size_t ldx, int R, int n)
{
    amx_zero_rows(x, ldx, R, 32, n);
}

/* 32 rows of 16 numbers as a tile of A: number i of all rows, in pairs, is its row i. */
BF16_TARGET static void amx_turn(const float *x, size_t ldx, float *tile)
{
    float words[256] __attribute__((aligned(64)));
    for (int i = 0; i < 16; i++, x += 2 * ldx)
        v16i_store(words + 16 * i, bf16_round_pairs(v16_load(x), v16_load(x + ldx)));
    v16_transpose(words, 16, tile, 16);
}

/* c (32, 16·P) += xᵀ·y over blocks of 16 words of rows; x is turned, [2][16][16] words a block.
 * The zeros that are added at the end take the sign of a zero, as rows that a page is not seen by
 * would. */
AMX_TARGET V16 void amx_over_rows_tile(const int P, const uint32_t *x, const uint32_t *y,
                                       size_t ldy, int blocks, float *c, size_t ldc)
{
    TILES_BEGIN();
    AMX_SUMS_BEGIN(2, P, 0, c, ldc);
    for (int i = 0; i < blocks; i++, x += 512, y += 16 * ldy) {
        TILE_LOAD(4, x, 64);
        TILE_LOAD(5, x + 256, 64);
        TILE_LOAD(6, y, 4 * ldy);
        TILE_DP(0, 4, 6);
        TILE_DP(2, 5, 6);
        if (P > 1) {
            TILE_LOAD(7, y + 16, 4 * ldy);
            TILE_DP(1, 4, 7);
            TILE_DP(3, 5, 7);
        }
    }
    TILE_ZERO(4);
    TILE_ZERO(6);
    TILE_DP(0, 4, 6);
    TILE_DP(2, 4, 6);
    if (P > 1) {
        TILE_DP(1, 4, 6);
        TILE_DP(3, 4, 6);
    }
    AMX_SUMS_END(2, P, c, ldc);
    TILES_END();
}

AMX_TARGET static void amx_over_rows_1(const uint32_t *x, const uint32_t *y, size_t ldy, int blocks,
                                       float *c, size_t ldc)
{
    amx_over_rows_tile(1, x, y, ldy, blocks, c, ldc);
}
AMX_TARGET static void amx_over_rows_2(const uint32_t *x, const uint32_t *y, size_t ldy, int blocks,
                                       float *c, size_t ldc)
{
    amx_over_rows_tile(2, x, y, ldy, blocks, c, ldc);
}

static void amx_over_rows(const float *x, size_t ldx, const float *y, int first, int last, int D,
                          float *c)
{
    float turned[BACK_ROWS_AMX / 32 * 512] __attribute__((aligned(64)));
    int from = first / 16 * 16, blocks = (last - from + 15) / 16;
    x += (size_t)from * ldx;
    for (int i = 0; i < blocks; i++, x += 16 * ldx)
        for (int h = 0; h < 2; h++) amx_turn(x + 16 * h, ldx / 2, turned + 512 * i + 256 * h);
    for (int d = 0; d < D; d += 32)
        (D - d > 16 ? amx_over_rows_2 : amx_over_rows_1)(
            amx_words(turned), amx_words(y + from * D + d), (size_t)D, blocks, c + d, (size_t)D);
}

/* ---- the whole ---- */

static const struct attention_products attention_amx = {.per_word = 2,
                                                        .rows = ATTENTION_TILE,
                                                        .height = 16,
                                                        .back_rows = BACK_ROWS_AMX,
                                                        .round = bf16_round_words,
                                                        .gather = bf16_gather,
                                                        .gather_rows = amx_gather_rows,
                                                        .join_rows = amx_join_rows,
                                                        .scores = amx_scores,
                                                        .values = amx_values,
                                                        .over_rows = amx_over_rows};

static void amx_attention(const float *q, const size_t *q_offset, const int *counts, int R,
                          const float *const *pages_k, const float *const *pages_v, int n_shared,
                          const struct attention_branch *branches, int n_branches, int D,
                          float scale, float *out, float *scratch)
{
    amx_begin();
    attention_by(&attention_amx, q, q_offset, counts, R, pages_k, pages_v, n_shared, branches,
                 n_branches, D, scale, out, scratch);
    amx_end();
}

static void amx_attention_backward(const float *q, const float *dout, const size_t *q_offset,
                                   const int *counts, int R, const struct attention_pages *pages,
                                   int n_pages, int D, float scale, float *dq, int add,
                                   float *scratch)
{
    amx_begin();
    attention_backward_by(&attention_amx, q, dout, q_offset, counts, R, pages, n_pages, D, scale,
                          dq, add, scratch);
    amx_end();
}

const struct bf16_attention ISA_AMX_ATTENTION = {bf16_page_store, amx_attention, bf16_page_mirror,
                                                 amx_attention_backward};
