/* Attention's two products, generic in the instruction set and in what a word of four bytes holds:
 * a float, or a pair of bf16.  Included once for each mode (attention_kernels.h,
 * bf16_attention_kernels.h), which defines
 *   PRODUCT(NAME)            the mode's own name of a function or a table
 *   PRODUCT_TARGET           an attribute for the functions that multiply
 *   PRODUCT_WORDS            numbers in a word
 *   product_word, product_vector            its type, and that of sixteen
 *   product_load(p), product_all(word)      sixteen words; one word sixteen times
 *   product_step(sums, a, b)                sums + a·b
 *   product_first(b)         words with their first number alone
 *   product_tiles, product_across           the GEMM's tiles for these words
 *   product_begin(), product_end(state)     around the products
 * and the instruction set
 *   ATTENTION_WIDE           1: registers for four panels of up to six rows.  A decode step's tile
 *                            has the few heads that share keys; with two panels it would wait for
 *                            its own sums
 * The tiles change which outputs are computed together, never their chains. */

enum { PRODUCT(PAGE) = ATTENTION_PAGE / PRODUCT_WORDS }; /* words of a page's positions */

/* Dot products of R rows with the four half pages of two pages. */
PRODUCT_TARGET V16 void PRODUCT(dots_tile)(const int R, const product_word *q, size_t ldq,
                                           const product_word *page, const product_word *next,
                                           size_t half, float *s, size_t lds)
{
    const product_word *panels[4] = {page, page + half, next, next + half};
    v16 acc[TILE_ROWS * 4];
    UNROLL for (int i = 0; i < R * 4; i++) acc[i] = v16_zero();
    for (size_t k = 0; k < half; k += 16, q++) {
        product_vector b[4];
        UNROLL for (int i = 0; i < 4; i++) b[i] = product_load(panels[i] + k);
        UNROLL for (int r = 0; r < R; r++)
        {
            product_vector a = product_all(q[(size_t)r * ldq]);
            UNROLL for (int i = 0; i < 4; i++) acc[r * 4 + i] =
                product_step(acc[r * 4 + i], a, b[i]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < 4; i++)
        v16_store(s + (size_t)r * lds + 16 * i, acc[r * 4 + i]);
}

/* acc[r] += p[r] · v: R rows, P panels of 16 dimensions of one word of positions. */
PRODUCT_TARGET V16 void PRODUCT(values_step)(const int R, const int P, const product_word *p,
                                             size_t ldp, const product_word *v, const int part,
                                             v16 *acc)
{
    product_vector b[4];
    UNROLL for (int i = 0; i < P; i++)
    {
        b[i] = product_load(v + i * 16 * PRODUCT(PAGE));
        if (part) b[i] = product_first(b[i]);
    }
    UNROLL for (int r = 0; r < R; r++)
    {
        product_vector a = product_all(p[(size_t)r * ldp]);
        UNROLL for (int i = 0; i < P; i++) acc[r * P + i] = product_step(acc[r * P + i], a, b[i]);
    }
}

/* o[r] = (o[r] if more) + sum over positions of p[r][j]·v[j], P panels of 16 dimensions from
 * `first` words of a page on; the sums stay in registers over all pages. */
PRODUCT_TARGET V16 void PRODUCT(values_tile)(const int R, const int P, const product_word *p,
                                             size_t ldp, const float *const *pages, int positions,
                                             size_t first, int more, float *o, size_t ldo)
{
    v16 acc[TILE_ROWS * 4];
    if (more) {
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < P; i++) acc[r * P + i] =
            v16_load(o + (size_t)r * ldo + 16 * i);
    } else {
        UNROLL for (int i = 0; i < R * P; i++) acc[i] = v16_zero();
    }
    int words = positions / PRODUCT_WORDS;
    for (int left = words, page = 0; left > 0; left -= PRODUCT(PAGE), page++) {
        const product_word *v = (const product_word *)(const void *)pages[page] + first;
        int n = left < PRODUCT(PAGE) ? left : PRODUCT(PAGE);
        for (int j = 0; j < n; j++, v += 16) PRODUCT(values_step)(R, P, p++, ldp, v, 0, acc);
    }
    /* What lies behind the last position is nobody's, and may be no number. */
    if (positions % PRODUCT_WORDS) {
        const float *page = pages[words / PRODUCT(PAGE)];
        const product_word *v = (const product_word *)(const void *)page + first;
        PRODUCT(values_step)(R, P, p, ldp, v + words % PRODUCT(PAGE) * 16, 1, acc);
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < P; i++)
        v16_store(o + (size_t)r * ldo + 16 * i, acc[r * P + i]);
}

#define VALUES(R, P)                                                                               \
    PRODUCT_TARGET static void PRODUCT(values_##R##_##P)(                                          \
        const product_word *p, size_t ldp, const float *const *pages, int positions, size_t first, \
        int more, float *o, size_t ldo)                                                            \
    {                                                                                              \
        PRODUCT(values_tile)(R, P, p, ldp, pages, positions, first, more, o, ldo);                 \
    }
#define DOTS(R)                                                                                    \
    PRODUCT_TARGET static void PRODUCT(dots_##R)(                                                  \
        const product_word *q, size_t ldq, const product_word *page, const product_word *next,     \
        size_t half, float *s, size_t lds)                                                         \
    {                                                                                              \
        PRODUCT(dots_tile)(R, q, ldq, page, next, half, s, lds);                                   \
    }

typedef void PRODUCT(dots_fn)(const product_word *q, size_t ldq, const product_word *page,
                              const product_word *next, size_t half, float *s, size_t lds);
typedef void PRODUCT(values_fn)(const product_word *p, size_t ldp, const float *const *pages,
                                int positions, size_t first, int more, float *o, size_t ldo);

/* clang-format off */
#define VALUES_TWO(R) VALUES(R, 1) VALUES(R, 2)
#define VALUES_TWO_ENTRY(R) {PRODUCT(values_##R##_1), PRODUCT(values_##R##_2), NULL}
#if ATTENTION_WIDE
#define VALUES_FEW(R) VALUES_TWO(R) VALUES(R, 4) DOTS(R)
#define VALUES_FEW_ENTRY(R) {PRODUCT(values_##R##_1), PRODUCT(values_##R##_2), PRODUCT(values_##R##_4)}
#define DOTS_ENTRY(R) PRODUCT(dots_##R)
#else
#define VALUES_FEW(R) VALUES_TWO(R)
#define VALUES_FEW_ENTRY(R) VALUES_TWO_ENTRY(R)
#define DOTS_ENTRY(R) NULL
#endif

VALUES_FEW(1) VALUES_FEW(2) VALUES_FEW(3) VALUES_FEW(4)
#if TILE_ROWS >= 6
VALUES_FEW(5) VALUES_FEW(6)
#endif
#if TILE_ROWS >= 12
VALUES_TWO(7) VALUES_TWO(8) VALUES_TWO(9) VALUES_TWO(10) VALUES_TWO(11) VALUES_TWO(12)
#endif

static PRODUCT(dots_fn) *const PRODUCT(dots_tiles)[TILE_ROWS + 1] = {
    NULL, DOTS_ENTRY(1), DOTS_ENTRY(2), DOTS_ENTRY(3), DOTS_ENTRY(4),
#if TILE_ROWS >= 6
    DOTS_ENTRY(5), DOTS_ENTRY(6),
#endif
};
/* One, two and four panels. */
static PRODUCT(values_fn) *const PRODUCT(values_tiles)[TILE_ROWS + 1][3] = {
    {NULL, NULL, NULL}, VALUES_FEW_ENTRY(1), VALUES_FEW_ENTRY(2), VALUES_FEW_ENTRY(3),
    VALUES_FEW_ENTRY(4),
#if TILE_ROWS >= 6
    VALUES_FEW_ENTRY(5), VALUES_FEW_ENTRY(6),
#endif
#if TILE_ROWS >= 12
    VALUES_TWO_ENTRY(7), VALUES_TWO_ENTRY(8), VALUES_TWO_ENTRY(9), VALUES_TWO_ENTRY(10),
    VALUES_TWO_ENTRY(11), VALUES_TWO_ENTRY(12),
#endif
};
/* clang-format on */
#undef VALUES
#undef VALUES_TWO
#undef VALUES_TWO_ENTRY
#undef VALUES_FEW
#undef VALUES_FEW_ENTRY
#undef DOTS
#undef DOTS_ENTRY

/* attention_products.dots, and scores of floats. */
static void PRODUCT(dots)(const float *rows, size_t ldq, int R, const float *const *pages,
                          int positions, int D, float *s, size_t lds)
{
    const product_word *q = (const product_word *)(const void *)rows;
    size_t half = (size_t)D / PRODUCT_WORDS * 16;
    unsigned state = product_begin();
    for (int n; positions > 0;
         positions -= n * ATTENTION_PAGE, pages += n, s += n * ATTENTION_PAGE) {
        const product_word *page = (const product_word *)(const void *)pages[0];
        int wide = PRODUCT(dots_tiles)[R] && positions > ATTENTION_PAGE + 16;
        int both = TILE_PANELS == 2 && positions > 16;
        n = wide ? 2 : 1;
        if (wide) {
            const product_word *next = (const product_word *)(const void *)pages[1];
            PRODUCT(dots_tiles)[R](q, ldq, page, next, half, s, lds);
            continue;
        }
        product_tiles[R][both](q, ldq, page, half, D / PRODUCT_WORDS, 1, s, lds);
        if (!both && positions > 16)
            product_tiles[R][0](q, ldq, page + half, half, D / PRODUCT_WORDS, 1, s + 16, lds);
    }
    product_end(state);
}

/* attention_products.values. */
static void PRODUCT(values)(const float *rows, size_t ldp, int R, const float *const *pages,
                            int positions, int D, int more, float *o)
{
    const product_word *p = (const product_word *)(const void *)rows;
    unsigned state = product_begin();
    for (int i = 0, left = D / 16, size; left > 0; i += 1 << size, left -= 1 << size) {
        size = left >= 4 && PRODUCT(values_tiles)[R][2] ? 2 : left >= 2 && TILE_PANELS == 2;
        PRODUCT(values_tiles)
        [R][size](p, ldp, pages, positions, (size_t)i * 16 * PRODUCT(PAGE), more, o + 16 * i,
                  (size_t)D);
    }
    product_end(state);
}

/* attention_products.over_rows. */
static void PRODUCT(over_rows)(const float *x, size_t ldx, const float *y, int first, int last,
                               int D, float *c)
{
    const int n_tiles = (ATTENTION_PAGE + TILE_ROWS - 1) / TILE_ROWS, panels = D / 16;
    const product_word *xs = (const product_word *)(const void *)x + (size_t)first * ldx;
    const product_word *ys = (const product_word *)(const void *)y + first * D;
    unsigned state = product_begin();
    for (int i = 0, n; i < panels; i += n) {
        n = panels - i < TILE_PANELS ? panels - i : TILE_PANELS;
        for (int t = 0, at = 0, height; t < n_tiles; t++, at += height) {
            height = (ATTENTION_PAGE - at) / (n_tiles - t);
            product_across[height][n - 1](xs + at, ldx, ys + 16 * i, (size_t)D, last - first, 0,
                                          c + at * D + 16 * i, (size_t)D);
        }
    }
    product_end(state);
}
