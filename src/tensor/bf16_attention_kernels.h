/* Attention and its gradient with bf16 products and f32 sums; after attention_backward.h, whose
 * blocks and tiles these products serve, and bf16_gemm_kernels.h, whose tile they are.
 *
 * Keys are as in mode f32, and so are their products with queries.  Values are rounded once, when
 * they are stored, and in pairs of positions, as the products take them: [D/16][16][16].  The
 * mirrors hold pairs: of keys as values have them, and of values along D, [2][D/2][16]. */

#define PRODUCT(NAME) bf16_##NAME
#define PRODUCT_TARGET BF16_TARGET
#define PRODUCT_WORDS 2
#define product_word uint32_t
#define product_vector v16i
#define product_load v16i_load
#define product_all v16i_set1
#define product_step v16_dot2
#define product_first bf16_first
#define product_tiles bf16_tiles
#define product_across bf16_across
#define product_begin bf16_begin
#define product_end bf16_end
#include "tensor/attention_products.h"

static const uint32_t *bf16_words(const float *words)
{
    return (const uint32_t *)(const void *)words;
}

static const float *bf16_round_words(const float *x, size_t ldx, int R, int n, float *words,
                                     size_t *ld)
{
    *ld = bf16_row_pairs(n);
    bf16_rows(x, ldx, R, n, (uint32_t *)(void *)words);
    return words;
}

static const float *bf16_gather(const float *x, const size_t *offset, int R, int n, float *words,
                                size_t *ld)
{
    uint32_t *out = (uint32_t *)(void *)words;
    *ld = bf16_row_pairs(n);
    for (int r = 0; r < R; r++, out += *ld) bf16_rows(x + offset[r], 0, 1, n, out);
    return words;
}

/* Rows `even` and `odd` (NULL: zeros) in pairs, to where the even one may be. */
BF16_TARGET static void bf16_two_rows(const float *even, const float *odd, int n, float *words)
{
    for (int i = 0; i < n; i += 16)
        v16i_store(words + i,
                   bf16_round_pairs(v16_load(even + i), odd ? v16_load(odd + i) : v16_zero()));
}

static void bf16_gather_rows(const float *x, const size_t *offset, int R, int n, float *words)
{
    for (int r = 0; r < R; r += 2, words += n)
        bf16_two_rows(x + offset[r], r + 1 < R ? x + offset[r + 1] : NULL, n, words);
}

static void bf16_join_rows(float *x, size_t ldx, int R, int n)
{
    for (int r = 0; r < R; r += 2, x += 2 * ldx) bf16_two_rows(x, r + 1 < R ? x + ldx : NULL, n, x);
}

static const struct attention_products attention_bf16 = {.per_word = 2,
                                                         .rows = TILE_ROWS,
                                                         .height = 1,
                                                         .back_rows = BACK_ROWS,
                                                         .round = bf16_round_words,
                                                         .gather = bf16_gather,
                                                         .gather_rows = bf16_gather_rows,
                                                         .join_rows = bf16_join_rows,
                                                         .dots = bf16_dots,
                                                         .gather_queries = f32_gather,
                                                         .scores = f32_dots,
                                                         .values = bf16_values,
                                                         .over_rows = bf16_over_rows};

/* One position's halves of its pairs: the other position's are left alone. */
static void bf16_store_value(float *page_v, int D, int slot, const float *v)
{
    uint32_t pairs[ATTENTION_MAX_D / 2];
    uint16_t *values = (uint16_t *)(void *)page_v + slot / 2 * 32 + slot % 2;
    bf16_rows(v, (size_t)D, 1, D, pairs);
    for (int d = 0; d < D; d += 16, values += ATTENTION_PAGE * 16)
        for (int i = 0; i < 8; i++) {
            values[4 * i] = (uint16_t)pairs[d / 2 + i];
            values[4 * i + 2] = (uint16_t)(pairs[d / 2 + i] >> 16);
        }
}

BF16_TARGET static void bf16_page_store_values(float *page_v, int D, int slot, int n,
                                               const float *v, size_t ldv)
{
    for (int size; n > 0; slot += size, n -= size, v += (size_t)size * ldv) {
        float *pairs = page_v + slot / 2 * 16;
        size = slot % 2 == 0 && n >= 2 ? 2 : 1;
        if (size == 1) bf16_store_value(page_v, D, slot, v);
        for (int d = 0; d < D && size == 2; d += 16)
            v16i_store(pairs + d * (ATTENTION_PAGE / 2),
                       bf16_round_pairs(v16_load(v + d), v16_load(v + ldv + d)));
    }
}

static void bf16_page_store(float *page_k, float *page_v, int D, int slot, int n, const float *k,
                            size_t ldk, const float *v, size_t ldv)
{
    page_store_keys(page_k, D, slot, n, k, ldk);
    bf16_page_store_values(page_v, D, slot, n, v, ldv);
}

/* Sixteen rows of sixteen numbers to pairs of columns. */
BF16_TARGET static void bf16_turn_block(const float *from, uint32_t *to)
{
    float turned[256] __attribute__((aligned(64)));
    v16_transpose(from, 16, turned, 16);
    for (int i = 0; i < 8; i++)
        v16i_store(to + 16 * i,
                   bf16_round_pairs(v16_load(turned + 32 * i), v16_load(turned + 32 * i + 16)));
}

/* … of rounded numbers, in pairs of rows. */
BF16_TARGET static void bf16_mirror_block(const uint32_t *from, uint32_t *to)
{
    float part[256] __attribute__((aligned(64)));
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 16; j++) {
            part[32 * i + j] = half_bits_float(from[16 * i + j] << 16);
            part[32 * i + 16 + j] = half_bits_float(from[16 * i + j] & 0xffff0000);
        }
    bf16_turn_block(part, to);
}

/* Sixteen dimensions of half a page's values. */
static void bf16_mirror_values(const float *page_v, int D, int half, int d, float *mirror_v)
{
    size_t rows = (size_t)(d * ATTENTION_PAGE / 2 + half * 128); /* [D/16][16][16] */
    size_t columns = (size_t)(half * (D / 2) + d / 2) * 16;      /* [2][D/2][16] */
    bf16_mirror_block(bf16_words(page_v) + rows, (uint32_t *)(void *)mirror_v + columns);
}

static void bf16_page_mirror(const float *page_k, const float *page_v, int D, float *mirror_k,
                             float *mirror_v)
{
    for (int d = 0; d < D; d += 16)
        for (int h = 0; h < 2; h++) {
            uint32_t *rows = (uint32_t *)(void *)mirror_k + d * ATTENTION_PAGE / 2 + h * 128;
            bf16_turn_block(page_k + (size_t)(h * D + d) * 16, rows);
            bf16_mirror_values(page_v, D, h, d, mirror_v);
        }
}

static void bf16_attention_forward(const float *q, const size_t *q_offset, const int *counts, int R,
                                   const float *const *pages_k, const float *const *pages_v,
                                   int n_shared, const struct attention_branch *branches,
                                   int n_branches, int D, float scale, float *out, float *scratch)
{
    attention_by(&attention_bf16, q, q_offset, counts, R, pages_k, pages_v, n_shared, branches,
                 n_branches, D, scale, out, scratch);
}

static void bf16_attention_backward(const float *q, const float *dout, const size_t *q_offset,
                                    const int *counts, int R, const struct attention_pages *pages,
                                    int n_pages, int D, float scale, float *dq, int add,
                                    float *scratch)
{
    attention_backward_by(&attention_bf16, q, dout, q_offset, counts, R, pages, n_pages, D, scale,
                          dq, add, scratch);
}

const struct bf16_attention ISA_BF16_ATTENTION = {bf16_page_store, bf16_attention_forward,
                                                  bf16_page_mirror, bf16_attention_backward};
