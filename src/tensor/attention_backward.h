/* The gradient of attention, generic in the instruction set and the mode.
 *
 * Rows go in blocks, which the products size.  Within a block, tiles of rows give P (the forward's
 * scores and softmax), dP (scores of dout against the mirrored values), dS and dQ, the forward's
 * weighted sum over the mirrored keys; then, page by page, dK and dV take the block's rows as steps
 * of the tile's `across` shape. */

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

/* A block of rows, and what the caller's scratch holds of it. */
struct back_block {
    const struct attention_products *products;
    const float *from_q, *from_dout;
    const size_t *offset;
    float *q, *dout; /* (rows, D), in words over rows */
    float *p, *ds;   /* (rows, ld): by position; for dK and dV in words over rows */
    float *words;    /* of a tile's queries and dout, or of its dS */
    float *out;      /* of a tile: dQ */
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

/* n of the block's queries, or of its dout, by `gather` from where they are; the block's words over
 * rows where such a word is a row's own. */
static const float *back_gather(const struct back_block *b, gather_fn *gather, const float *from,
                                const float *rows, int row, int n, size_t *ld)
{
    if (b->products->per_word > 1) return gather(from, b->offset + row, n, b->D, b->words, ld);
    *ld = (size_t)b->D;
    return rows + row * b->D;
}

/* P and dS of n rows. */
static void back_scores(const struct back_block *b, const struct attention_pages *pages,
                        float scale, int row, int n, int used)
{
    float *p = b->p + (size_t)row * b->ld, *ds = b->ds + (size_t)row * b->ld;
    const struct attention_products *m = b->products;
    int padded = b->n_pages * ATTENTION_PAGE;
    size_t ld;
    const float *q = back_gather(b, m->gather_queries, b->from_q, b->q, row, n, &ld);
    m->scores(q, ld, n, pages->k, used, b->D, p, b->ld);
    const float *dout = back_gather(b, m->gather, b->from_dout, b->dout, row, n, &ld);
    m->dots(dout, ld, n, pages->mirror_v, used, b->D, ds, b->ld);
    for (int r = 0; r < n; r++, p += b->ld, ds += b->ld) {
        int count = b->counts[row + r];
        float inverse = 1.0f / softmax_row(p, count, padded, scale);
        softmax_row_backward(p, ds, count, padded, inverse, scale);
    }
}

/* dK and dV: each page takes the rows from the first to the last that see any of it. */
static void back_pages(const struct back_block *b, const struct attention_pages *pages)
{
    const struct attention_products *m = b->products;
    const int per_word = m->per_word, padded = b->n_pages * ATTENTION_PAGE;
    const size_t ld = b->ld * (size_t)per_word;
    if (m->join_rows) {
        m->join_rows(b->p, b->ld, b->rows, padded);
        m->join_rows(b->ds, b->ld, b->rows, padded);
    }
    for (int page = 0; page < b->n_pages; page++) {
        int first = 0, last = b->rows, before = page * ATTENTION_PAGE;
        while (b->counts[first] <= before) first++; /* one does: n_pages */
        while (b->counts[last - 1] <= before) last--;
        first /= per_word;
        last = (last + per_word - 1) / per_word;
        m->over_rows(b->p + before, ld, b->dout, first, last, b->D, pages->dv[page]);
        m->over_rows(b->ds + before, ld, b->q, first, last, b->D, pages->dk[page]);
    }
}

static void back_store(const float *from, int D, int add, float *dq)
{
    for (int d = 0; d < D; d += 16) {
        v16 v = v16_add(v16_load(from + d), v16_zero());
        v16_store(dq + d, add ? v16_add(v16_load(dq + d), v) : v);
    }
}

/* dQ of n rows. */
static void back_queries(const struct back_block *b, const struct attention_pages *pages, int row,
                         int n, int used, int add, float *dq)
{
    size_t ld;
    const float *ds =
        attention_words(b->products, b->ds + (size_t)row * b->ld, b->ld, n, used, b->words, &ld);
    b->products->values(ds, ld, n, pages->mirror_k, used, b->D, 0, b->out);
    for (int r = 0; r < n; r++) back_store(b->out + r * b->D, b->D, add, dq + b->offset[row + r]);
}

/* dq may be q or dout, so their words over rows come first; a tile's dQ only writes rows of which
 * the other tiles take nothing. */
static void back_rows(const struct back_block *b, const struct attention_pages *pages, float scale,
                      float *dq, int add)
{
    const struct attention_products *m = b->products;
    m->gather_rows(b->from_q, b->offset, b->rows, b->D, b->q);
    m->gather_rows(b->from_dout, b->offset, b->rows, b->D, b->dout);
    for (int row = 0, n; row < b->rows; row += n) {
        n = attention_rows(m, b->rows - row);
        int used = most_of(b->counts + row, n);
        back_scores(b, pages, scale, row, n, used);
        back_queries(b, pages, row, n, used, add, dq);
    }
    back_pages(b, pages);
}

static void attention_backward_by(const struct attention_products *m, const float *q,
                                  const float *dout, const size_t *q_offset, const int *counts,
                                  int R, const struct attention_pages *pages, int n_pages, int D,
                                  float scale, float *dq, int add, float *scratch)
{
    struct back_block b = {.products = m,
                           .from_q = q,
                           .from_dout = dout,
                           .D = D,
                           .ld = (size_t)n_pages * ATTENTION_PAGE + 16};
    b.q = (float *)(void *)(((uintptr_t)scratch + 63) / 64 * 64);
    b.dout = b.q + m->back_rows * D;
    b.out = b.dout + m->back_rows * D;
    b.p = b.out + ATTENTION_TILE * D;
    b.ds = b.p + (size_t)m->back_rows * b.ld;
    b.words = b.ds + (size_t)m->back_rows * b.ld;
    for (int row = 0; row < R; row += m->back_rows) {
        b.rows = R - row < m->back_rows ? R - row : m->back_rows;
        b.counts = counts + row;
        b.offset = q_offset + row;
        b.n_pages = (most_of(b.counts, b.rows) + ATTENTION_PAGE - 1) / ATTENTION_PAGE;
        back_rows(&b, pages, scale, dq, add);
    }
}

static void attention_backward(const float *q, const float *dout, const size_t *q_offset,
                               const int *counts, int R, const struct attention_pages *pages,
                               int n_pages, int D, float scale, float *dq, int add, float *scratch)
{
    attention_backward_by(&attention_f32, q, dout, q_offset, counts, R, pages, n_pages, D, scale,
                          dq, add, scratch);
}
