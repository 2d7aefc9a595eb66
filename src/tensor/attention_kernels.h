/* Attention over paged keys and values, generic in the instruction set and the mode.
 *
 * Rows go in tiles, which the products size.  These two (attention_products.h): scores are the
 * GEMM's tile (a half page of keys is a panel of 16 positions, D its steps); the weighted sum of
 * values is the same tile with positions as steps.  The softmax between them is f32 in both modes.
 */

/* R rows of D numbers at offsets as words, *ld apart; at most D words each. */
typedef const float *gather_fn(const float *x, const size_t *offset, int R, int D, float *words,
                               size_t *ld);

/* How a mode multiplies.  What it multiplies is words of four bytes: floats, or pairs of bf16.
 * Queries and keys alone are not rounded: dimensions that are large in both would make scores
 * uncertain that the softmax takes the powers of. */
struct attention_products {
    int per_word;  /* numbers in a word */
    int rows;      /* of a tile, at most (ATTENTION_TILE) … */
    int height;    /* … and best a multiple of this */
    int back_rows; /* of a block of the gradient */
    /* Rows of n numbers, ldx apart, as words, *ld apart, each with zeros behind it up to a multiple
     * of 32 numbers; NULL: floats they stay. */
    const float *(*round)(const float *x, size_t ldx, int R, int n, float *words, size_t *ld);
    gather_fn *gather; /* the same of rows at offsets */
    /* Rows at offsets side by side, in words that hold per_word rows each; and the rows of a matrix
     * in their own place, where number j of rows i·per_word … becomes word j of row i·per_word, or
     * which over_rows is to round (NULL: floats they stay). */
    void (*gather_rows)(const float *x, const size_t *offset, int R, int n, float *words);
    void (*join_rows)(float *x, size_t ldx, int R, int n);
    /* Dot products of R rows of words with the first `positions` of some mirrors of values; half
     * pages whole. */
    void (*dots)(const float *x, size_t ldx, int R, const float *const *mirrors, int positions,
                 int D, float *s, size_t lds);
    /* The same of queries and pages of keys. */
    gather_fn *gather_queries;
    void (*scores)(const float *q, size_t ldq, int R, const float *const *pages, int positions,
                   int D, float *s, size_t lds);
    /* o (R, D) = (o if more) + sum over positions (one at least) of p·v; p is zero behind a row's
     * last one. */
    void (*values)(const float *p, size_t ldp, int R, const float *const *pages, int positions,
                   int D, int more, float *o);
    /* c (32, D) += sum over such words of rows first … last-1 (the others of the block add
     * nothing): x[row][i]·y[row][d], i of 32 columns of x. */
    void (*over_rows)(const float *x, size_t ldx, const float *y, int first, int last, int D,
                      float *c);
};

/* R rows of n numbers as the mode's words, ld apart; `space` takes them where they are no floats.
 */
static const float *attention_words(const struct attention_products *m, const float *x, size_t ldx,
                                    int R, int n, float *space, size_t *ld)
{
    if (m->round) return m->round(x, ldx, R, n, space, ld);
    *ld = ldx;
    return x;
}

/* Rows of D words as positions of keys: word d is step d of a half page. */
static void page_store_keys(float *page_k, int D, int slot, int n, const float *k, size_t ldk)
{
    for (int size; n > 0; slot += size, n -= size, k += (size_t)size * ldk) {
        float *keys = page_k + (size_t)(slot / 16) * (size_t)D * 16 + (size_t)(slot % 16);
        size = slot % 16 == 0 && n >= 16 ? 16 : 1;
        if (size == 16)
            for (int d = 0; d < D; d += 16) v16_transpose(k + d, ldk, keys + (size_t)d * 16, 16);
        else
            for (int d = 0; d < D; d++) keys[(size_t)d * 16] = k[d];
    }
}

static void page_store(float *page_k, float *page_v, int D, int slot, int n, const float *k,
                       size_t ldk, const float *v, size_t ldv)
{
    page_store_keys(page_k, D, slot, n, k, ldk);
    for (int i = 0; i < n; i++, slot++, v += ldv)
        for (int d = 0; d < D; d += 16)
            v16_store(page_v + (size_t)d * ATTENTION_PAGE + (size_t)slot * 16, v16_load(v + d));
}

/* s (raw dot products, `padded` of them) becomes exp(s·scale - max) for the first `count`
 * positions and 0 for the others (up to the register's end); the sum of the 16 partials is
 * returned. */
static float softmax_row(float *s, int count, int padded, float scale)
{
    v16 factor = v16_set1(scale), top = v16_set1(-INFINITY), sum = v16_zero();
    v16 tops[4] = {top, top, top, top}; /* a chain of its own each: they would wait for one */
    int i = 0;
    for (; i + 64 <= count; i += 64)
        UNROLL for (int j = 0; j < 4; j++) tops[j] =
            v16_max(tops[j], v16_mul(v16_load(s + i + 16 * j), factor));
    top = v16_max(v16_max(tops[0], tops[1]), v16_max(tops[2], tops[3]));
    for (; i + 16 <= count; i += 16) top = v16_max(top, v16_mul(v16_load(s + i), factor));
    if (i < count) top = v16_keep(v16_max(top, v16_mul(v16_load(s + i), factor)), count - i, top);
    v16 highest = v16_set1(v16_highest(top));
    for (i = 0; i + 16 <= count; i += 16) {
        v16 p = v16_exp(v16_sub(v16_mul(v16_load(s + i), factor), highest));
        v16_store(s + i, p);
        sum = v16_add(sum, p);
    }
    if (i < count) {
        v16 p = v16_exp(v16_sub(v16_mul(v16_load(s + i), factor), highest));
        p = v16_keep(p, count - i, v16_zero());
        v16_store(s + i, p);
        sum = v16_add(sum, p);
        i += 16;
    }
    for (; i < padded; i += 16) v16_store(s + i, v16_zero());
    return v16_sum(sum);
}

#define PRODUCT(NAME) f32_##NAME
#define PRODUCT_TARGET
#define PRODUCT_WORDS 1
#define product_word float
#define product_vector v16
#define product_load v16_load
#define product_all v16_set1
#define product_step(sums, a, b) v16_fma(a, b, sums)
#define product_first(b) (b)
#define product_tiles tiles
#define product_across across
#define product_begin() 0
#define product_end(state) (void)(state)
#include "tensor/attention_products.h"
#undef PRODUCT
#undef PRODUCT_TARGET
#undef PRODUCT_WORDS
#undef product_word
#undef product_vector
#undef product_load
#undef product_all
#undef product_step
#undef product_first
#undef product_tiles
#undef product_across
#undef product_begin
#undef product_end

static void f32_gather_rows(const float *x, const size_t *offset, int R, int n, float *rows)
{
    for (int r = 0; r < R; r++, rows += n) memcpy(rows, x + offset[r], (size_t)n * sizeof(float));
}

static const float *f32_gather(const float *x, const size_t *offset, int R, int D, float *words,
                               size_t *ld)
{
    f32_gather_rows(x, offset, R, D, words);
    *ld = (size_t)D;
    return words;
}

static const struct attention_products attention_f32 = {.per_word = 1,
                                                        .rows = TILE_ROWS,
                                                        .height = 1,
                                                        .back_rows = BACK_ROWS,
                                                        .gather = f32_gather,
                                                        .gather_rows = f32_gather_rows,
                                                        .dots = f32_dots,
                                                        .gather_queries = f32_gather,
                                                        .scores = f32_dots,
                                                        .values = f32_values,
                                                        .over_rows = f32_over_rows};

/* Rows row … row+n-1 of the call, and where they stand among the branches. */
struct attention_part {
    int first, n;        /* rows of the tile */
    int first_page, own; /* the branch's own pages, and the positions of these that the rows see */
};

/* Rows of the next tile, of `left`: the least number of tiles, of about equal size. */
static int attention_rows(const struct attention_products *m, int left)
{
    int n = left / ((left + m->rows - 1) / m->rows);
    n = (n + m->height - 1) / m->height * m->height;
    return n < left ? n : left;
}

static int most_of(const int *counts, int n)
{
    int most = 0;
    for (int r = 0; r < n; r++)
        if (counts[r] > most) most = counts[r];
    return most;
}

/* The branches that rows [row, row + n) belong to, as parts of the tile. */
static int attention_parts(const struct attention_branch *branches, int n_branches,
                           const int *counts, int row, int n, int n_shared,
                           struct attention_part *parts)
{
    int n_parts = 0, start = 0;
    for (int b = 0; b < n_branches && start < row + n; start += branches[b++].n_rows) {
        int from = start > row ? start : row, to = start + branches[b].n_rows;
        if (to > row + n) to = row + n;
        if (from >= to) continue;
        int own = most_of(counts + from, to - from) - n_shared * ATTENTION_PAGE;
        parts[n_parts++] = (struct attention_part){.first = from - row,
                                                   .n = to - from,
                                                   .first_page = branches[b].first_page,
                                                   .own = own > 0 ? own : 0};
    }
    return n_parts;
}

/* The caller's scratch: rows (R, D) of the tile, scores or probabilities (R, ld), and those as the
 * mode's words. */
struct attention_space {
    float *rows, *s, *words;
    size_t ld;
};

/* One tile of n rows at offsets of q: rows (n, D) holds them as words, then the outputs. */
static void attention_tile(const struct attention_products *m, const struct attention_space *space,
                           const float *from, const size_t *offset, const int *counts, int n,
                           const float *const *pages_k, const float *const *pages_v, int n_shared,
                           const struct attention_part *parts, int n_parts, int D, float scale,
                           float *inverse)
{
    float *rows = space->rows, *s = space->s;
    size_t lds = space->ld, ld;
    int shared = most_of(counts, n), all = n_shared * ATTENTION_PAGE, most;
    if (shared > all) shared = all;
    const float *q = m->gather_queries(from, offset, n, D, rows, &ld);
    m->scores(q, ld, n, pages_k, shared, D, s, lds);
    most = shared;
    for (int i = 0; i < n_parts; i++) {
        m->scores(q + (size_t)parts[i].first * ld, ld, parts[i].n, pages_k + parts[i].first_page,
                  parts[i].own, D, s + all + (size_t)parts[i].first * lds, lds);
        if (parts[i].own && all + parts[i].own > most) most = all + parts[i].own;
    }
    for (int r = 0; r < n; r++)
        inverse[r] = 1.0f / softmax_row(s + (size_t)r * lds, counts[r], most, scale);
    const float *p = attention_words(m, s, lds, n, most, space->words, &ld);
    if (shared) m->values(p, ld, n, pages_v, shared, D, 0, rows);
    for (int i = 0; i < n_parts; i++)
        if (parts[i].own)
            m->values(p + (size_t)parts[i].first * ld + all / m->per_word, ld, parts[i].n,
                      pages_v + parts[i].first_page, parts[i].own, D, shared > 0,
                      rows + parts[i].first * D);
}

static void attention_by(const struct attention_products *m, const float *q, const size_t *q_offset,
                         const int *counts, int R, const float *const *pages_k,
                         const float *const *pages_v, int n_shared,
                         const struct attention_branch *branches, int n_branches, int D,
                         float scale, float *out, float *scratch)
{
    struct attention_space space;
    struct attention_part parts[ATTENTION_TILE];
    float inverse[ATTENTION_TILE];
    int own = 0;
    for (int b = 0; b < n_branches; b++)
        if (branches[b].n_pages > own) own = branches[b].n_pages;
    space.ld = (size_t)(n_shared + own) * ATTENTION_PAGE + 16;
    space.rows = (float *)(void *)(((uintptr_t)scratch + 63) / 64 * 64);
    space.s = space.rows + ATTENTION_SPACE * ATTENTION_MAX_D;
    space.words = space.s + ATTENTION_SPACE * space.ld;
    for (int row = 0, n; row < R; row += n) {
        n = attention_rows(m, R - row);
        int n_parts = attention_parts(branches, n_branches, counts, row, n, n_shared, parts);
        attention_tile(m, &space, q, q_offset + row, counts + row, n, pages_k, pages_v, n_shared,
                       parts, n_parts, D, scale, inverse);
        for (int r = 0; r < n; r++)
            for (int d = 0; d < D; d += 16) {
                v16 o = v16_mul(v16_load(space.rows + r * D + d), v16_set1(inverse[r]));
                v16_store(out + q_offset[row + r] + d, v16_add(o, v16_zero()));
            }
    }
}

static void attention(const float *q, const size_t *q_offset, const int *counts, int R,
                      const float *const *pages_k, const float *const *pages_v, int n_shared,
                      const struct attention_branch *branches, int n_branches, int D, float scale,
                      float *out, float *scratch)
{
    attention_by(&attention_f32, q, q_offset, counts, R, pages_k, pages_v, n_shared, branches,
                 n_branches, D, scale, out, scratch);
}
