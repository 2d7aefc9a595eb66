/* Attention and its gradient on AMX's tiles; after bf16_attention_kernels.h, whose values and
 * rounding it shares.
 *
 * A page is tiles of B as it lies: of values, its 16 pairs of positions by 16 dimensions; of keys,
 * 16 pairs along D by 16 positions, twice: each number is the sum of two parts in bf16, high and
 * low, [2][high, low][D/2][16], and so is each of a query.  Three of their four products make a
 * score. Rows of queries or weights are tiles of A, two of them beside two of B.  For dK and dV the
 * rows' P and dS are turned: a tile of A is 16 positions by 16 pairs of rows.
 *
 * The order is that of amx_gemm_kernels.h, at one row as at 32: blocks of 32 numbers along D, of
 * 32 positions (a page), of 32 rows from the block's first on, with zeros behind the last.  Rows
 * that a tile has behind the last are whatever the buffers hold there; nobody reads their sums.
 *
 * The tiles' macros are those of amx_gemm_kernels.h.  The including file defines what that needs,
 * and ISA_AMX_ATTENTION, the name of the result. */

/* ---- scores ---- */

/* A row as two parts: high is x rounded, then low what that leaves, rounded; bf16_row_pairs(n)
 * words each. */
BF16_TARGET static void amx_parts(const float *x, int n, uint32_t *high, uint32_t *low)
{
    for (int i = 0; i < n; i += 32, high += 16) {
        v16 a = v16_load(x + i), b = n - i > 16 ? v16_load(x + i + 16) : v16_zero();
        v16i_store(high, bf16_round_two(a, b));
    }
    for (int i = 0; i < n; i += 32, low += 16) {
        v16 a = v16_load(x + i), b = n - i > 16 ? v16_load(x + i + 16) : v16_zero();
        v16i_store(low, bf16_round_two(bf16_rest(a), bf16_rest(b)));
    }
}

/* Rows of high parts and behind them low ones. */
static const float *amx_gather_queries(const float *x, const size_t *offset, int R, int n,
                                       float *words, size_t *ld)
{
    const size_t part = bf16_row_pairs(n);
    uint32_t *out = (uint32_t *)(void *)words;
    *ld = 2 * part;
    for (int r = 0; r < R; r++, out += 2 * part) amx_parts(x + offset[r], n, out, out + part);
    return words;
}

/* Of each row D/2 words of high parts, then as many of low ones: those come to lie on the zeros
 * behind the first. */
static void amx_page_store(float *page_k, float *page_v, int D, int slot, int n, const float *k,
                           size_t ldk, const float *v, size_t ldv)
{
    enum { LD = ATTENTION_MAX_D + 16 };
    float words[16 * LD] __attribute__((aligned(64)));
    bf16_page_store_values(page_v, D, slot, n, v, ldv);
    for (int size; n > 0; slot += size, n -= size) {
        size = 16 - slot % 16 < n ? 16 - slot % 16 : n;
        for (int i = 0; i < size; i++, k += ldk) {
            uint32_t *high = (uint32_t *)(void *)(words + i * LD);
            amx_parts(k, D, high, high + D / 2);
        }
        page_store_keys(page_k, D, slot, size, words, LD);
    }
}

/* The mirror of keys has their high parts. */
static void amx_page_mirror(const float *page_k, const float *page_v, int D, float *mirror_k,
                            float *mirror_v)
{
    for (int d = 0; d < D; d += 16)
        for (int h = 0; h < 2; h++) {
            uint32_t *rows = (uint32_t *)(void *)mirror_k + d * ATTENTION_PAGE / 2 + h * 128;
            bf16_mirror_block(bf16_words(page_k) + (size_t)(h * D + d / 2) * 16, rows);
            bf16_mirror_values(page_v, D, h, d, mirror_v);
        }
}

/* Of 32 steps: low times high, high times high and high times low parts, so that two loads of the
 * three serve two products each. */
#define AMX_STEP_PARTS(R, P, q, q_low, ldq, k, k_low, half)                                        \
    do {                                                                                           \
        AMX_STEP(TILE_LOAD, R, P, q_low, (q_low) + 16 * (ldq), 4 * (ldq), k, (k) + (half));        \
        TILE_LOAD(4, q, 4 * (ldq));                                                                \
        TILE_DP(0, 4, 6);                                                                          \
        if (P > 1) TILE_DP(1, 4, 7);                                                               \
        if (R > 1) {                                                                               \
            TILE_LOAD(5, (q) + 16 * (ldq), 4 * (ldq));                                             \
            TILE_DP(2, 5, 6);                                                                      \
            if (P > 1) TILE_DP(3, 5, 7);                                                           \
        }                                                                                          \
        TILE_LOAD(6, k_low, 64);                                                                   \
        TILE_DP(0, 4, 6);                                                                          \
        if (R > 1) TILE_DP(2, 5, 6);                                                               \
        if (P > 1) {                                                                               \
            TILE_LOAD(7, (k_low) + (half), 64);                                                    \
            TILE_DP(1, 4, 7);                                                                      \
            if (R > 1) TILE_DP(3, 5, 7);                                                           \
        }                                                                                          \
    } while (0)

/* Blocks of 32 steps of R times sixteen rows by P half pages, `half` words apart; in two parts low
 * ones lie behind the high ones of a row and of a half page.  `tail`: tiles [high, low][half] of
 * the last sixteen numbers of D where it is no multiple of 32, with zeros behind. */
AMX_TARGET V16 void amx_dots_tile(const int parts, const int R, const int P, const uint32_t *q,
                                  size_t ldq, const uint32_t *page, size_t half,
                                  const uint32_t *tail, float *s, size_t lds)
{
    const size_t low = half / 2, words = parts > 1 ? low : half;
    TILES_BEGIN();
    AMX_SUMS_BEGIN(R, P, 1, s, lds);
    for (size_t k = 0; k + 256 <= words; k += 256, q += 16, page += 256)
        if (parts > 1)
            AMX_STEP_PARTS(R, P, q, q + ldq / 2, ldq, page, page + low, half);
        else
            AMX_STEP(TILE_LOAD, R, P, q, q + 16 * ldq, 4 * ldq, page, page + half);
    if (tail && parts > 1) AMX_STEP_PARTS(R, P, q, q + ldq / 2, ldq, tail, tail + 512, 256);
    if (tail && parts == 1) AMX_STEP(TILE_LOAD, R, P, q, q + 16 * ldq, 4 * ldq, tail, tail + 256);
    AMX_SUMS_END(R, P, s, lds);
    TILES_END();
}

typedef void amx_dots_fn(const uint32_t *q, size_t ldq, const uint32_t *page, size_t half,
                         const uint32_t *tail, float *s, size_t lds);
#define AMX_DOTS(PARTS, R, P)                                                                      \
    AMX_TARGET static void amx_dots_##PARTS##_##R##_##P(                                           \
        const uint32_t *q, size_t ldq, const uint32_t *page, size_t half, const uint32_t *tail,    \
        float *s, size_t lds)                                                                      \
    {                                                                                              \
        amx_dots_tile(PARTS, R, P, q, ldq, page, half, tail, s, lds);                              \
    }
AMX_DOTS(1, 1, 1)
AMX_DOTS(1, 1, 2)
AMX_DOTS(1, 2, 1)
AMX_DOTS(1, 2, 2)
AMX_DOTS(2, 1, 1)
AMX_DOTS(2, 1, 2)
AMX_DOTS(2, 2, 1)
AMX_DOTS(2, 2, 2)
static amx_dots_fn *const amx_dots_tiles[2][2][2] = {
    {{amx_dots_1_1_1, amx_dots_1_1_2}, {amx_dots_1_2_1, amx_dots_1_2_2}},
    {{amx_dots_2_1_1, amx_dots_2_1_2}, {amx_dots_2_2_1, amx_dots_2_2_2}}};

/* Rows in one part or in two with pages [2][parts][D/2][16]. */
static void amx_dots_of(int parts, const float *rows, size_t ldq, int R, const float *const *pages,
                        int positions, int D, float *s, size_t lds)
{
    uint32_t tails[2][2][256] __attribute__((aligned(64))); /* [high, low][half] */
    const uint32_t *tail = D % 32 ? tails[0][0] : NULL;
    const size_t part = (size_t)D / 2 * 16, half = (size_t)parts * part;
    if (tail) memset(tails, 0, sizeof tails);
    for (; positions > 0; positions -= ATTENTION_PAGE, pages++, s += ATTENTION_PAGE) {
        const uint32_t *page = bf16_words(*pages);
        for (int h = 0; h < 2 && tail; h++)
            for (int i = 0; i < parts; i++)
                memcpy(tails[i][h], page + (size_t)h * half + (size_t)(i + 1) * part - 128,
                       128 * sizeof(uint32_t));
        amx_dots_tiles[parts - 1][R > 16][positions > 16](bf16_words(rows), ldq, page, half, tail,
                                                          s, lds);
    }
}

static void amx_dots(const float *rows, size_t ldx, int R, const float *const *mirrors,
                     int positions, int D, float *s, size_t lds)
{
    amx_dots_of(1, rows, ldx, R, mirrors, positions, D, s, lds);
}

static void amx_scores(const float *rows, size_t ldq, int R, const float *const *pages,
                       int positions, int D, float *s, size_t lds)
{
    amx_dots_of(2, rows, ldq, R, pages, positions, D, s, lds);
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
        const uint32_t *v = bf16_words(pages[i]) + first;
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
        if (left) amx_part_page(bf16_words(pages[whole]) + first, P, left, part);
        if (apart) amx_copy_rows(o, (size_t)D, R, 16 * P, sums, 32);
        amx_values_tiles[R > 16][P - 1](bf16_words(rows), ldp, pages, whole, first,
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
            bf16_words(turned), bf16_words(y + from * D + d), (size_t)D, blocks, c + d, (size_t)D);
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
                                                        .dots = amx_dots,
                                                        .gather_queries = amx_gather_queries,
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

const struct bf16_attention ISA_AMX_ATTENTION = {amx_page_store, amx_attention, amx_page_mirror,
                                                 amx_attention_backward};
