/* GEMM with bf16 products on AMX's tiles; after bf16_gemm_kernels.h, with whose rows, decoded
 * panels and outputs it works, and amx_few_kernels.h, which multiplies few rows.
 *
 * Sixteen pairs of a decoded panel are a tile of B as they lie, sixteen rows of X a tile of A.  32
 * rows and 32 columns are four tiles of sums.  The order is that of TDPBF16PS at every number of
 * rows, one included: for every 32 steps of k two chains of FMAs from 0,
 *   even = fma(x[k], w[k], even), odd = fma(x[k+1], w[k+1], odd),
 * then s = s + (even + odd), denormals as zeros all the way; K has zeros behind it up to a
 * multiple of 32.
 *
 * The including file defines AMX_TARGET, the TILE_ macros, amx_begin() and amx_end(); and
 * ISA_AMX_PRODUCTS, the name of the result. */

#define AMX_ROWS 32
#define AMX_STEPS 640 /* of k in a block: two panels are 40 KB of the 48 of the first cache */

/* ---- beside the products --------------------------------------------------------- */

/* Steps k … k+n-1 of a panel, 16 where it has blocks. */
typedef void amx_decode_fn(const unsigned char *panel, int k, int n, uint32_t *out);

#define AMX_DECODE(KIND, DECODE)                                                                   \
    BF16_TARGET static void amx_decode_##KIND(const unsigned char *panel, int k, int n,            \
                                              uint32_t *out)                                       \
    {                                                                                              \
        DECODE(PACKED_##KIND, panel, k, n, out);                                                   \
    }
#define AMX_DECODE_Q4(KIND, panel, k, n, out)                                                      \
    const struct q4_block *b = (const struct q4_block *)(const void *)panel + k / Q4_STEPS;        \
    bf16_decode_q4_groups(KIND, b, k % Q4_STEPS / 8, (k % Q4_STEPS + n) / 8, out)
#define AMX_DECODE_Q8(KIND, panel, k, n, out)                                                      \
    (void)n;                                                                                       \
    bf16_decode_q8((const struct q8_block *)(const void *)panel + k / Q8_STEPS, out)
#define AMX_DECODE_PLAIN(KIND, panel, k, n, out) bf16_decode_plain(KIND, panel, k, k + n, out)
AMX_DECODE(F32, AMX_DECODE_PLAIN)
AMX_DECODE(F16, AMX_DECODE_PLAIN)
AMX_DECODE(BF16, AMX_DECODE_PLAIN)
AMX_DECODE(Q4, AMX_DECODE_Q4)
AMX_DECODE(Q4S, AMX_DECODE_Q4)
AMX_DECODE(Q8, AMX_DECODE_Q8)

static amx_decode_fn *const amx_decode[] = {
    [PACKED_F32] = amx_decode_F32, [PACKED_F16] = amx_decode_F16, [PACKED_BF16] = amx_decode_BF16,
    [PACKED_Q4] = amx_decode_Q4,   [PACKED_Q4S] = amx_decode_Q4S, [PACKED_Q8] = amx_decode_Q8};

/* What the vector units do while the tiles multiply, a little after each step of 32: the panels
 * that are wanted next are decoded, or fetched where they are words already, and the last tile's
 * sums become outputs. */
struct amx_beside {
    const struct packed *w;
    int panel, P, transposed;
    int k0, end;       /* steps of the panels' chains, */
    int k, piece;      /* at which the next unit is: 16 steps of a panel (transposed: of all P) */
    int units, left;   /* of them, and how many are left */
    int due, by;       /* units · `by` products, what a product adds to and a unit takes from */
    uint32_t *weights; /* where they go, AMX_PANEL from panel to panel; NULL: they are fetched */
    struct output output;
    int row, rows; /* of its sums that are still no outputs */
    float *ring;   /* the sums of two tiles that are complete */
    int turn;
};

#define AMX_TILE_SUMS (AMX_ROWS * 32)
/* Words from a decoded panel to the next.  The four of them are a quarter of a page apart in their
 * pages: the loads of one do not look as if they met the stores of another. */
#define AMX_PANEL (AMX_STEPS / 2 * 16 + 256)
_Static_assert(4 * AMX_PANEL <= GEMM_WEIGHTS && AMX_PANEL % 1024 == 256, "two times two panels");

/* Words of a panel, which lie as the tiles want them, from step k on. */
static const uint32_t *amx_words_at(const struct packed *w, int panel, int k)
{
    return (const uint32_t *)(const void *)packed_panel(w, panel) + (size_t)k * 8;
}

static void amx_fetch_unit(const struct amx_beside *b)
{
    const uint32_t *words = amx_words_at(b->w, b->panel + b->piece, b->k);
    for (int i = 0; i < 16 * 8; i += 16) __builtin_prefetch(words + i, 0, 2);
}

BF16_TARGET static void amx_decode_unit(const struct amx_beside *b)
{
    int k = b->k, steps = b->end - k < 16 ? b->end - k : 16;
    uint32_t *out = b->weights + (size_t)b->piece * AMX_PANEL + (size_t)(k - b->k0) * 8;
    if (b->transposed)
        bf16_decode_transposed(b->w, b->panel, b->P, k, steps, out, AMX_PANEL);
    else
        amx_decode[b->w->kind](packed_panel(b->w, b->panel + b->piece), k, steps, out);
    if (steps == 16 && (k + 16 < b->end || (k - b->k0) % 32)) return;
    /* The last ones: zeros behind them up to a multiple of 32. */
    int pairs = (steps + 1) / 2, whole = (k - b->k0) % 32 ? 8 : 16;
    for (int p = 0; p < (b->transposed ? b->P : 1); p++)
        memset(out + (size_t)p * AMX_PANEL + pairs * 16, 0, (size_t)(whole - pairs) * 64);
}

/* One unit more of what is wanted next. */
static void amx_next_unit(struct amx_beside *b)
{
    if (b->weights)
        amx_decode_unit(b);
    else
        amx_fetch_unit(b);
    if (b->transposed || ++b->piece == b->P) b->piece = 0, b->k += 16;
    b->left--;
}

static void amx_finish_rows(struct amx_beside *b, int most)
{
    int n = b->rows - b->row < most ? b->rows - b->row : most;
    if (n <= 0) return;
    finish(&b->output, b->row, n);
    b->row += n;
}

static void amx_decode_rest(struct amx_beside *b)
{
    while (b->weights && b->left) amx_next_unit(b);
}

/* After a step's products. */
static __attribute__((noinline)) void amx_between(struct amx_beside *b)
{
    amx_finish_rows(b, 2);
    for (b->due += b->units; b->left && b->due >= b->by; b->due -= b->by) amx_next_unit(b);
}

/* ---- tiles ------------------------------------------------------------------------ */

/* A tile's sums: 16·R rows, 16·P columns, from zero or from c. */
#define AMX_SUMS_BEGIN(R, P, zero, c, ldc)                                                         \
    do {                                                                                           \
        if (zero) {                                                                                \
            TILE_ZERO(0);                                                                          \
            if (P > 1) TILE_ZERO(1);                                                               \
            if (R > 1) TILE_ZERO(2);                                                               \
            if (R > 1 && P > 1) TILE_ZERO(3);                                                      \
        } else {                                                                                   \
            TILE_LOAD(0, c, 4 * (ldc));                                                            \
            if (P > 1) TILE_LOAD(1, (c) + 16, 4 * (ldc));                                          \
            if (R > 1) TILE_LOAD(2, (c) + 16 * (ldc), 4 * (ldc));                                  \
            if (R > 1 && P > 1) TILE_LOAD(3, (c) + 16 * (ldc) + 16, 4 * (ldc));                    \
        }                                                                                          \
    } while (0)
#define AMX_SUMS_END(R, P, c, ldc)                                                                 \
    do {                                                                                           \
        TILE_STORE(0, c, 4 * (ldc));                                                               \
        if (P > 1) TILE_STORE(1, (c) + 16, 4 * (ldc));                                             \
        if (R > 1) TILE_STORE(2, (c) + 16 * (ldc), 4 * (ldc));                                     \
        if (R > 1 && P > 1) TILE_STORE(3, (c) + 16 * (ldc) + 16, 4 * (ldc));                       \
    } while (0)
/* One block of 32 steps: rows a and a16, lda bytes apart, by the two tiles b and b2. */
#define AMX_STEP(LOAD, R, P, a, a16, lda, b, b2)                                                   \
    do {                                                                                           \
        LOAD(4, a, lda);                                                                           \
        TILE_LOAD(6, b, 64);                                                                       \
        TILE_DP(0, 4, 6);                                                                          \
        if (P > 1) {                                                                               \
            TILE_LOAD(7, b2, 64);                                                                  \
            TILE_DP(1, 4, 7);                                                                      \
        }                                                                                          \
        if (R > 1) {                                                                               \
            LOAD(5, a16, lda);                                                                     \
            TILE_DP(2, 5, 6);                                                                      \
            if (P > 1) TILE_DP(3, 5, 7);                                                           \
        }                                                                                          \
    } while (0)

/* Where the sums of a tile's rows and columns are to be found and left: among the block's sums, in
 * the ring, or as rows of the output itself. */
struct amx_sums {
    const float *from; /* or NULL: they begin */
    size_t from_ld;
    float *to;
    size_t to_ld;
};

typedef void amx_tile_fn(const uint32_t *x, size_t ldx, const uint32_t *w, size_t stride, int steps,
                         const struct amx_sums *sums, struct amx_beside *beside);

/* 16·R rows, 16·P columns.  Tiles: 0 … 3 sums, 4 and 5 rows of X, 6 and 7 panels.  The panels stay
 * in the first cache while all rows pass by, which are not to push them out: TILE_STREAM. */
AMX_TARGET static inline __attribute__((always_inline)) void
amx_tile(const int R, const int P, const uint32_t *x, size_t ldx, const uint32_t *w, size_t stride,
         int steps, const struct amx_sums *sums, struct amx_beside *beside)
{
    TILES_BEGIN();
    AMX_SUMS_BEGIN(R, P, !sums->from, sums->from, sums->from_ld);
    for (int k = 0; k < steps; k += 32, x += 256, w += 256) {
        AMX_STEP(TILE_STREAM, R, P, x, x + 16 * ldx, 64, w, w + stride);
        amx_between(beside);
    }
    AMX_SUMS_END(R, P, sums->to, sums->to_ld);
    TILES_END();
}

#define AMX_TILE(R, P)                                                                             \
    AMX_TARGET static void amx_tile_##R##_##P(                                                     \
        const uint32_t *x, size_t ldx, const uint32_t *w, size_t stride, int steps,                \
        const struct amx_sums *sums, struct amx_beside *beside)                                    \
    {                                                                                              \
        amx_tile(R, P, x, ldx, w, stride, steps, sums, beside);                                    \
    }
AMX_TILE(1, 1)
AMX_TILE(1, 2)
AMX_TILE(2, 1)
AMX_TILE(2, 2)

static amx_tile_fn *const amx_tiles[2][2] = {{amx_tile_1_1, amx_tile_1_2},
                                             {amx_tile_2_1, amx_tile_2_2}};

/* Sums are outputs where nothing is done to them and all rows and columns of the tile are some. */
static int amx_stores_outputs(const struct output *o, int P, int rows)
{
    return !o->bias && !o->add && !o->gated && !o->from_zero && o->columns == 16 * P &&
           rows % 16 == 0;
}

/* What a tile's sums will be added to: gradients of weights come from memory. */
static void amx_fetch_outputs(const struct output *o, int row, int rows)
{
    const float *y = o->y + (size_t)row * o->ldy;
    for (int r = 0; r < rows; r++, y += o->ldy)
        for (int i = 0; i < o->columns; i += 16) __builtin_prefetch(y + i, 1);
}

/* One tile of rows of a block; the outputs of the tile before it are made meanwhile. */
static void amx_rows(int P, int row, int rows, const struct bf16_block *b,
                     const struct output *output, struct amx_beside *beside)
{
    size_t ldc = (size_t)P * 16;
    float *c = b->sums + (size_t)row * ldc, *ring = beside->ring + beside->turn * AMX_TILE_SUMS;
    struct amx_sums sums = {b->first ? NULL : c, ldc, c, ldc};
    int whole = output && amx_stores_outputs(output, P, rows);
    if (output) sums.to = whole ? output->y + (size_t)row * output->ldy : ring;
    if (whole) sums.to_ld = output->ldy;
    if (output && output->add) amx_fetch_outputs(output, row, rows);
    amx_tiles[rows > 16][P - 1](b->x + (size_t)row * b->ldx, b->ldx, b->w, b->stride, b->steps,
                                &sums, beside);
    amx_finish_rows(beside, AMX_ROWS);
    if (!output || whole) return;
    struct output *o = &beside->output;
    *o = *output;
    o->sums = ring;
    o->ldc = ldc;
    o->y += (size_t)row * o->ldy;
    if (o->gates) o->gates += (size_t)row * o->ldg;
    beside->row = 0;
    beside->rows = rows;
    beside->turn ^= 1;
}

/* The rows behind the last, up to a multiple of 16, are whatever the scratch holds: their sums are
 * not used. */
static void amx_block(int P, int T, const struct bf16_block *b, const struct output *output,
                      struct amx_beside *beside)
{
    for (int row = 0; row < T; row += AMX_ROWS)
        amx_rows(P, row, T - row < AMX_ROWS ? T - row : AMX_ROWS, b, output, beside);
}

/* As bf16_rows_fn, for those whose panels are decoded already. */
static void amx_tile_rows(int P, int T, const struct bf16_block *b, const struct ahead *ahead,
                          const struct output *output)
{
    float ring[2 * AMX_TILE_SUMS] __attribute__((aligned(64)));
    struct amx_beside beside = {.ring = ring};
    (void)ahead;
    amx_block(P, T, b, output, &beside);
    amx_finish_rows(&beside, AMX_ROWS);
}

static const struct bf16_unit amx_unit = {amx_tile_rows, AMX_ROWS,  AMX_STEPS, AMX_FEW, 1,
                                          amx_group_few, amx_spread};

/* ---- products --------------------------------------------------------------------- */

/* Rows by some panels of W or Wᵀ: a pair of panels after the other, and of each some steps after
 * the others; or, where so long rows would not stay in the second cache, `by_parts`: some steps of
 * all panels after the others, and all sums are kept. */
struct amx_product {
    const struct packed *w;
    int transposed, by_parts, panel0, panel1, K;
    const float *x; /* T rows */
    size_t ldx;
    int T;
    uint32_t *rows;
    float *sums;
    uint32_t *weights;    /* two times two panels */
    struct output output; /* of panel0 */
    struct amx_beside beside;
};

/* Panels and steps of a block. */
struct amx_part {
    int panel, P, k0, steps;
};

/* The part at step k0 of the panels from `panel` on. */
static struct amx_part amx_part_at(const struct amx_product *a, int panel, int k0)
{
    int blocks = (a->K + AMX_STEPS - 1) / AMX_STEPS, whole = (a->K / blocks + 31) / 32 * 32;
    int alone = panel + 1 >= a->panel1 || (a->transposed && panel % 2);
    int steps = a->K - k0 < whole ? a->K - k0 : whole;
    return (struct amx_part){panel, alone ? 1 : 2, k0, steps};
}

/* The next one; its panel is panel1 where there is none. */
static struct amx_part amx_next_part(const struct amx_product *a, const struct amx_part *p)
{
    int k = p->k0 + p->steps, panel = p->panel + p->P;
    if (!a->by_parts) return k < a->K ? amx_part_at(a, p->panel, k) : amx_part_at(a, panel, 0);
    if (panel < a->panel1 || k >= a->K) return amx_part_at(a, panel, p->k0);
    return amx_part_at(a, a->panel0, k);
}

/* The block of a part: rows are rounded where its steps are new. */
static struct bf16_block amx_block_of(const struct amx_product *a, const struct amx_part *p)
{
    int steps = a->by_parts ? p->steps : a->K;
    struct bf16_block b = {.x = a->rows,
                           .ldx = bf16_row_pairs(steps),
                           .stride = AMX_PANEL,
                           .steps = p->steps,
                           .first = p->k0 == 0,
                           .sums = a->sums};
    int fresh = p->panel == a->panel0 && (a->by_parts || p->k0 == 0);
    if (fresh) bf16_unit_rows(&amx_unit, a->x + p->k0, a->ldx, a->T, steps, a->rows);
    if (a->by_parts)
        b.sums += (size_t)(p->panel - a->panel0) * 16 * DX_PARTS_ROWS;
    else
        b.x += bf16_step_words(&amx_unit, p->k0);
    return b;
}

static struct output amx_output(const struct amx_product *a, const struct amx_part *p)
{
    struct output o = a->output;
    size_t first = (size_t)(p->panel - a->panel0) * 16;
    int N = a->transposed ? a->w->k : a->w->n, left = N - 16 * p->panel;
    o.columns = o.gated || left > 16 * p->P ? 16 * p->P : left;
    o.y += o.gated ? first / 2 : first;
    if (o.bias) o.bias += first;
    if (o.gates) o.gates += first;
    return o;
}

/* Weights that are the tiles' words as they lie. */
static int amx_packed_words(const struct packed *w)
{
    return w->kind == PACKED_BF16 && w->k % 32 == 0;
}

/* From now on `part` is decoded beside so many products; or, without weights to decode to, fetched.
 * One tile of rows takes no longer than its words from memory: the processor fetches ahead by
 * itself then, all but the first words of each panel. */
static void amx_prepare_beside(struct amx_product *a, const struct amx_part *part, int products,
                               uint32_t *weights)
{
    int units = (part->steps + 15) / 16 * (a->transposed ? 1 : part->P);
    struct amx_beside *b = &a->beside;
    b->w = a->w;
    b->transposed = a->transposed;
    b->panel = part->panel;
    b->P = part->P;
    b->k0 = part->k0;
    b->end = part->k0 + part->steps;
    b->k = part->k0;
    b->piece = 0;
    b->units = b->left = !weights && a->T <= AMX_ROWS ? part->P : units;
    b->due = 0;
    b->by = products;
    b->weights = weights;
}

/* One part after the other; words that need no decoding are multiplied where they lie. */
static void amx_multiply(struct amx_product *a)
{
    struct amx_part part = amx_part_at(a, a->panel0, 0), next;
    uint32_t *now = a->weights, *then = now + 2 * AMX_PANEL;
    int as_they_lie = !a->transposed && amx_packed_words(a->w);
    if (!as_they_lie) amx_prepare_beside(a, &part, 1, now);
    for (; part.panel < a->panel1; part = next) {
        struct bf16_block b = amx_block_of(a, &part);
        struct output output = amx_output(a, &part);
        int products = (a->T + AMX_ROWS - 1) / AMX_ROWS * ((part.steps + 31) / 32);
        amx_decode_rest(&a->beside);
        b.w = now;
        next = amx_next_part(a, &part);
        if (as_they_lie) {
            b.w = amx_words_at(a->w, part.panel, part.k0);
            b.stride = a->w->panel_bytes / 4;
        }
        if (next.panel < a->panel1)
            amx_prepare_beside(a, &next, products, as_they_lie ? NULL : then);
        amx_block(part.P, a->T, &b, part.k0 + part.steps == a->K ? &output : NULL, &a->beside);
        uint32_t *free_again = now;
        now = then;
        then = free_again;
    }
    amx_finish_rows(&a->beside, AMX_ROWS);
}

/* Rows of X or dY, a block of them at a time. */
static void amx_product(const float *x, size_t ldx, int T, const struct packed *w, int transposed,
                        int panel0, int panel1, const struct output *output, float *scratch)
{
    float ring[2 * AMX_TILE_SUMS] __attribute__((aligned(64)));
    struct bf16_space space = bf16_space(scratch);
    int by_parts = transposed && dx_by_parts(w), K = transposed ? w->n : w->k;
    int block = by_parts ? DX_PARTS_ROWS : bf16_row_block(&amx_unit, T, K);
    float *all = (float *)(void *)(space.rows + DX_PARTS_ROWS * (AMX_STEPS / 2));
    amx_begin();
    for (int t = 0; t < T; t += block) {
        struct amx_product a = {.w = w,
                                .transposed = transposed,
                                .by_parts = by_parts,
                                .panel0 = panel0,
                                .panel1 = panel1,
                                .K = K,
                                .x = x + (size_t)t * ldx,
                                .ldx = ldx,
                                .T = T - t < block ? T - t : block,
                                .rows = space.rows,
                                .sums = by_parts ? all : space.sums,
                                .weights = space.weights,
                                .output = *output,
                                .beside.ring = ring};
        a.output.y += (size_t)t * output->ldy;
        if (output->gates) a.output.gates += (size_t)t * output->ldg;
        amx_multiply(&a);
    }
    amx_end();
}

/* Where nothing is to be decoded the tiles are as fast for sixteen rows. */
static int amx_takes_few(int T, const struct packed *w)
{
    return T <= (amx_packed_words(w) ? AMX_VECTORS : AMX_FEW);
}

static void amx_gemm(const float *x, size_t ldx, int T, const struct packed *w, int panel0,
                     int panel1, const float *bias, float *y, size_t ldy, int add, float *scratch)
{
    struct output out = {.bias = bias, .y = y, .ldy = ldy, .add = add};
    if (amx_takes_few(T, w)) {
        amx_begin();
        bf16_gemm_by(&amx_unit, x, ldx, T, w, panel0, panel1, bias, y, ldy, add, scratch);
        amx_end();
        return;
    }
    amx_product(x, ldx, T, w, 0, panel0, panel1, &out, scratch);
}

static void amx_gemm_swiglu(const float *x, size_t ldx, int T, const struct packed *w, int pair0,
                            int pair1, float *h, size_t ldh, float *gates, size_t ldg,
                            float *scratch)
{
    struct output out = {.y = h, .ldy = ldh, .gates = gates, .ldg = ldg, .gated = 1};
    if (amx_takes_few(T, w)) {
        amx_begin();
        bf16_gemm_swiglu_by(&amx_unit, x, ldx, T, w, pair0, pair1, h, ldh, gates, ldg, scratch);
        amx_end();
        return;
    }
    amx_product(x, ldx, T, w, 0, 2 * pair0, 2 * pair1, &out, scratch);
    if (gates) v16_stream_end();
}

static void amx_gemm_dx(const float *dy, size_t ldy, int T, const struct packed *w, int panel0,
                        int panel1, float *dx, size_t ldx, int add, float *scratch)
{
    struct output out = {.y = dx, .ldy = ldx, .add = add};
    amx_product(dy, ldy, T, w, 1, panel0, panel1, &out, scratch);
}

static void amx_gemm_dw(const float *dy, size_t ldy, int apart, const float *kept, int T, int n0,
                        int n1, int K, float *dw, size_t lddw, int add, float *scratch)
{
    amx_begin();
    bf16_gemm_dw_by(&amx_unit, dy, ldy, apart, kept, T, n0, n1, K, dw, lddw, add, scratch);
    amx_end();
}

/* Products of tiles that stay in their registers: four a turn. */
AMX_TARGET static float amx_loop(long turns)
{
    uint32_t pairs[256];
    float sums[256];
    for (int i = 0; i < 256; i++) pairs[i] = 0x35863f7f;
    amx_begin();
    {
        TILES_BEGIN();
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
        TILE_LOAD(4, pairs, 64);
        TILE_LOAD(5, pairs, 64);
        TILE_LOAD(6, pairs, 64);
        TILE_LOAD(7, pairs, 64);
        for (long t = 0; t < turns; t++) {
            TILE_DP(0, 4, 6);
            TILE_DP(1, 4, 7);
            TILE_DP(2, 5, 6);
            TILE_DP(3, 5, 7);
        }
        TILE_STORE(0, sums, 64);
        TILES_END();
    }
    amx_end();
    return sums[0];
}

/* Decoding costs as much as multiplying some 70 rows: twice the rows of the other sets, whose
 * machines have half as large a second cache.  288 and 384 rows were no faster. */
const struct bf16_kernels ISA_AMX_PRODUCTS = {.tile_rows = AMX_ROWS,
                                              .block_rows = 2 * BLOCK_ROWS,
                                              .gemm = amx_gemm,
                                              .gemm_swiglu = amx_gemm_swiglu,
                                              .gemm_dx = amx_gemm_dx,
                                              .keep_inputs = bf16_keep_inputs,
                                              .gemm_dw = amx_gemm_dw,
                                              .fma_loop = amx_loop,
                                              .fma_loop_flops = 4 * 2 * 16 * 16 * 32};
