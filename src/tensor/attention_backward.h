/* The gradient of attention, generic in the instruction set and the mode.
 *
 * Rows go in blocks of BACK_ROWS.  Within a block, tiles of rows give P (the forward's scores and
 * softmax), dP (scores of dout against the mirrored values) and dS; then, page by page, dK and dV
 * take the block's rows as steps of the tile's `across` shape, sums over rows that are f32 in both
 * modes; last, dQ is the forward's weighted sum over the mirrored keys. */

static void page_mirror(const float *page_k, const float *page_v, int D, float *mirror_k,
                        float *mirror_v)
{
    for (int d = 0; d < D; d += 16)
        for (int h = 0; h < 2; h++) {
            size_t half = ((size_t)h * (size_t)D + (size_t)d) * 16;     /* [2][D][16] */
            size_t rows = (size_t)d * ATTENTION_PAGE + (size_t)h * 256; /* [D/16][32][16] */
            v16_transpose(page_k + half, 16, mirror_k + rows, 16);
            v16_transpose(page_v + rows, 16, mirror_v + half, 16);
        }
}

/* A block of rows in the caller's scratch. */
struct back_block {
    const struct attention_products *products;
    float *q, *dout; /* (rows, D) */
    float *p, *ds;   /* (rows, ld): by position */
    float *words;    /* of a tile's queries and dout, or of its dS */
    size_t ld;
    const int *counts;
    int rows, n_pages; /* that any of the rows sees */
    int D;
};

/* p (exp of the scores) becomes P, ds (dP) becomes dS; zeros behind count. */
static void softmax_row_backward(float *p, float *ds, int count, int padded, float inverse,
                                 float scale)
{
    v16 factor = v16_set1(inverse), sum = v16_zero();
    int i = 0;
    for (; i < count; i += 16) {
        v16 v = v16_mul(v16_load(p + i), factor);
        v16 s = v16_fma(v, v16_load(ds + i), sum);
        v16_store(p + i, v);
        sum = i + 16 <= count ? s : v16_keep(s, count - i, sum);
    }
    v16 delta = v16_set1(v16_sum(sum)), by = v16_set1(scale);
    for (i = 0; i < count; i += 16) {
        v16 d = v16_mul(v16_mul(v16_load(p + i), v16_sub(v16_load(ds + i), delta)), by);
        v16_store(ds + i, i + 16 <= count ? d : v16_keep(d, count - i, v16_zero()));
    }
    for (; i < padded; i += 16) v16_store(ds + i, v16_zero());
}

/* P and dS of the block. */
static void back_scores(const struct back_block *b, const struct attention_pages *pages,
                        float scale)
{
    const struct attention_products *m = b->products;
    int n_tiles = (b->rows + TILE_ROWS - 1) / TILE_ROWS, row = 0, D = b->D,
        padded = b->n_pages * ATTENTION_PAGE;
    for (int i = 0; i < n_tiles; i++) {
        int n = (b->rows - row) / (n_tiles - i), used = most_of(b->counts + row, n);
        float *p = b->p + (size_t)row * b->ld, *ds = b->ds + (size_t)row * b->ld;
        size_t ld;
        const float *q = attention_words(m, b->q + row * D, (size_t)D, n, D, b->words, &ld);
        m->scores(q, ld, n, pages->k, used, D, p, b->ld);
        const float *dout = attention_words(m, b->dout + row * D, (size_t)D, n, D, b->words, &ld);
        m->scores(dout, ld, n, pages->mirror_v, used, D, ds, b->ld);
        for (int r = 0; r < n; r++, p += b->ld, ds += b->ld) {
            int count = b->counts[row + r];
            float inverse = 1.0f / softmax_row(p, count, padded, scale);
            softmax_row_backward(p, ds, count, padded, inverse, scale);
        }
        row += n;
    }
}

/* grad (32, D) of a page += xᵀ·y over rows first … last-1: x (rows, ld) at the page's positions. */
static void back_page(const struct back_block *b, const float *x, const float *y, int first,
                      int last, float *grad)
{
    const int n_tiles = (ATTENTION_PAGE + TILE_ROWS - 1) / TILE_ROWS, panels = b->D / 16;
    x += (size_t)first * b->ld;
    y += first * b->D;
    for (int i = 0; i < panels;) {
        int n = panels - i < TILE_PANELS ? panels - i : TILE_PANELS, at = 0;
        for (int t = 0; t < n_tiles; t++) {
            int height = (ATTENTION_PAGE - at) / (n_tiles - t);
            across[height][n - 1](x + at, b->ld, y + 16 * i, (size_t)b->D, last - first, 0,
                                  grad + at * b->D + 16 * i, (size_t)b->D);
            at += height;
        }
        i += n;
    }
}

/* dK and dV: each page takes the rows from the first to the last that see any of it. */
static void back_pages(const struct back_block *b, const struct attention_pages *pages)
{
    for (int page = 0; page < b->n_pages; page++) {
        int first = 0, last = b->rows, before = page * ATTENTION_PAGE;
        while (b->counts[first] <= before) first++; /* one does: n_pages */
        while (b->counts[last - 1] <= before) last--;
        back_page(b, b->p + before, b->dout, first, last, pages->dv[page]);
        back_page(b, b->ds + before, b->q, first, last, pages->dk[page]);
    }
}

/* dQ of the block, into q. */
static void back_queries(const struct back_block *b, const struct attention_pages *pages)
{
    int n_tiles = (b->rows + TILE_ROWS - 1) / TILE_ROWS, row = 0;
    for (int i = 0; i < n_tiles; i++) {
        int n = (b->rows - row) / (n_tiles - i), used = most_of(b->counts + row, n);
        size_t ld;
        const float *ds = attention_words(b->products, b->ds + (size_t)row * b->ld, b->ld, n, used,
                                          b->words, &ld);
        b->products->values(ds, ld, n, pages->mirror_k, used, b->D, 0, b->q + row * b->D);
        row += n;
    }
}

static void back_store(const float *from, int D, int add, float *dq)
{
    for (int d = 0; d < D; d += 16) {
        v16 v = v16_add(v16_load(from + d), v16_zero());
        v16_store(dq + d, add ? v16_add(v16_load(dq + d), v) : v);
    }
}

static void attention_backward_by(const struct attention_products *m, const float *q,
                                  const float *dout, const size_t *q_offset, const int *counts,
                                  int R, const struct attention_pages *pages, int n_pages, int D,
                                  float scale, float *dq, int add, float *scratch)
{
    struct back_block b = {.products = m, .D = D, .ld = (size_t)n_pages * ATTENTION_PAGE + 16};
    b.q = (float *)(void *)(((uintptr_t)scratch + 63) / 64 * 64);
    b.dout = b.q + BACK_ROWS * D;
    b.p = b.dout + BACK_ROWS * D;
    b.ds = b.p + BACK_ROWS * b.ld;
    b.words = b.ds + BACK_ROWS * b.ld;
    for (int row = 0; row < R; row += BACK_ROWS) {
        b.rows = R - row < BACK_ROWS ? R - row : BACK_ROWS;
        b.counts = counts + row;
        b.n_pages = (most_of(b.counts, b.rows) + ATTENTION_PAGE - 1) / ATTENTION_PAGE;
        for (int r = 0; r < b.rows; r++) {
            memcpy(b.q + r * D, q + q_offset[row + r], (size_t)D * sizeof(float));
            memcpy(b.dout + r * D, dout + q_offset[row + r], (size_t)D * sizeof(float));
        }
        back_scores(&b, pages, scale);
        back_pages(&b, pages);
        back_queries(&b, pages);
        for (int r = 0; r < b.rows; r++) back_store(b.q + r * D, D, add, dq + q_offset[row + r]);
    }
}

static void attention_backward(const float *q, const float *dout, const size_t *q_offset,
                               const int *counts, int R, const struct attention_pages *pages,
                               int n_pages, int D, float scale, float *dq, int add, float *scratch)
{
    attention_backward_by(&attention_f32, q, dout, q_offset, counts, R, pages, n_pages, D, scale,
                          dq, add, scratch);
}
