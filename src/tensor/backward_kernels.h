/* Gradients of products, norms and activations, and AdamW, generic in the instruction set.
 *
 * Both products run on the GEMM's tile, so an output is one chain of FMAs here, too.  dX = dY·W
 * sums over the columns of the packed panels: they are transposed, 16 × 16 in registers, into
 * panels of 16 columns of X.  dW = dYᵀ·X sums over tokens: the tile's `across` shape. */

/* ---- dX = dY·W ------------------------------------------------------------- */

/* Steps n0 … n0+steps-1 of panels k0/16 … of Wᵀ: out[n - n0][16], panels `stride` apart.  n0 is a
 * multiple of 16 and k0 of 32; P <= 2, columns behind w->k are zeros. */
static void decode_transposed(const struct packed *w, int n0, int steps, int k0, int P, float *out,
                              size_t stride)
{
    float part[32 * 16] __attribute__((aligned(64)));
    int more = w->k - k0 < 32 ? w->k - k0 : 32;
    if (more < 32) memset(part, 0, sizeof part);
    for (int n = 0; n < steps; n += 16) {
        int panel = (n0 + n) / 16;
        const float *from = part;
        if (w->kind == PACKED_F32 && more == 32)
            from = (const float *)(const void *)packed_panel(w, panel) + (size_t)k0 * 16;
        else
            decode_panel(w, panel, k0, k0 + more, part);
        for (int p = 0; p < P; p++)
            v16_transpose(from + 256 * p, 16, out + (size_t)p * stride + (size_t)n * 16, 16);
    }
}

/* Steps [n0, n0 + steps) of the sums of panels panel … panel+P-1, P <= 2 and 2 from an even panel
 * only: panels are decoded in pairs. */
static void dx_steps(const float *dy, size_t ldy, int T, const struct packed *w, int n0, int steps,
                     int panel, int P, float *decoded, float *sums, const struct output *output)
{
    const size_t stride = 16 * GEMM_STEPS;
    int skip = panel % 2;
    decode_transposed(w, n0, steps, 16 * (panel - skip), skip + P, decoded, stride);
    for (int p = 0; p < P; p += TILE_PANELS) {
        int n = P - p < TILE_PANELS ? P - p : TILE_PANELS;
        struct block b = {.w = decoded + (size_t)(skip + p) * stride,
                          .stride = stride,
                          .steps = steps,
                          .first = n0 == 0,
                          .c = sums + 16 * p,
                          .ldc = output->ldc};
        int complete = n0 + steps == w->n && p + n == P;
        tile_rows(n, dy, ldy, T, &b, NULL, complete ? output : NULL);
    }
}

/* A part of n is taken for all panels at once.  Its rows are laid side by side before: a vocabulary
 * apart, all of them would fall into the same sets of the caches.  dx is at panel0 of the
 * T <= DX_PARTS_ROWS rows. */
static void dx_parts(const float *dy, size_t ldy, int T, const struct packed *w, int panel0,
                     int panel1, float *dx, const struct gemm_space *space, struct output *out)
{
    float *rows = space->decoded + 32 * GEMM_STEPS, *sums = rows + DX_PARTS_ROWS * GEMM_STEPS;
    for (int n0 = 0, steps; n0 < w->n; n0 += steps) {
        steps = w->n - n0 < GEMM_STEPS ? w->n - n0 : GEMM_STEPS;
        for (int t = 0; t < T; t++)
            memcpy(rows + (size_t)t * GEMM_STEPS, dy + (size_t)t * ldy + n0,
                   (size_t)steps * sizeof *rows);
        for (int panel = panel0, P; panel < panel1; panel += P) {
            size_t column = (size_t)(panel - panel0) * 16;
            float *c = sums + column * DX_PARTS_ROWS;
            P = dx_panels(w, panel, panel1, out);
            out->sums = c;
            out->y = dx + column;
            dx_steps(rows, GEMM_STEPS, T, w, n0, steps, panel, P, space->decoded, c, out);
        }
    }
}

static void gemm_dx(const float *dy, size_t ldy, int T, const struct packed *w, int panel0,
                    int panel1, float *dx, size_t ldx, int add, float *scratch)
{
    struct gemm_space space = gemm_space(scratch);
    int block = dx_block(w, T);
    struct output out = {.sums = space.sums, .ldy = ldx, .add = add};
    for (int t = 0; t < T; t += block) {
        int rows = T - t < block ? T - t : block;
        const float *from = dy + (size_t)t * ldy;
        float *to = dx + (size_t)t * ldx;
        if (dx_by_parts(w)) {
            dx_parts(from, ldy, rows, w, panel0, panel1, to, &space, &out);
            continue;
        }
        for (int panel = panel0, P; panel < panel1; panel += P) {
            P = dx_panels(w, panel, panel1, &out);
            out.y = to + (size_t)(panel - panel0) * 16;
            for (int n0 = 0; n0 < w->n; n0 += GEMM_STEPS) {
                int steps = w->n - n0 < GEMM_STEPS ? w->n - n0 : GEMM_STEPS;
                dx_steps(from + n0, ldy, rows, w, n0, steps, panel, P, space.decoded, space.sums,
                         &out);
            }
        }
    }
}

/* ---- dW += dYᵀ·X ------------------------------------------------------------ */

/* A block of W: rows [n, n + rows), columns [k, k + columns). */
struct dw_block {
    int n, rows, n_tiles, k, columns, apart;
};

/* Height of tile i, and the rows before it: tiles of nearly equal heights. */
V16 int dw_tile(const struct dw_block *b, int i, int *before)
{
    *before = b->rows * i / b->n_tiles;
    return b->rows * (i + 1) / b->n_tiles - *before;
}

/* Tokens of dY's columns, tile by tile: [tile][t][height].  A store spills into the next step,
 * which is written after it. */
static void pack_dy(const float *dy, size_t ldy, int steps, const struct dw_block *b, float *out)
{
    for (int i = 0; i < b->n_tiles; i++) {
        int before, height = dw_tile(b, i, &before), row = b->n + before, here = height;
        if (b->apart != 16 && here > 16 - row % 16) here = 16 - row % 16;
        const float *from = dy + dw_column(row, b->apart);
        const float *rest = dy + dw_column(row + here, b->apart);
        for (int t = 0; t < steps; t++, from += ldy, rest += ldy, out += height) {
            v16_store(out, v16_load_n(from, here));
            if (here < height) v16_store(out + here, v16_load_n(rest, height - here));
        }
    }
}

/* Tokens of two panels of X, [t][32]; columns behind n are zeros. */
static void pack_x(const float *x, size_t ldx, int steps, int n, float *out)
{
    for (int t = 0; t < steps; t++, x += ldx, out += 32) {
        v16_store(out, v16_load_some(x, n));
        v16_store(out + 16, v16_load_some(x + 16, n - 16));
    }
}

/* The sums of a block go on with `steps` tokens. */
static void dw_steps(const float *dy, size_t ldy, const float *x, size_t ldx, int steps, int first,
                     const struct dw_block *b, float *sums, float *ys, float *xs)
{
    pack_dy(dy, ldy, steps, b, ys);
    for (int k = 0; k < b->columns; k += 32) {
        int P = b->columns - k > 16 ? 2 : 1;
        pack_x(x + b->k + k, ldx, steps, b->columns - k, xs);
        for (int i = 0; i < b->n_tiles; i++) {
            int before, height = dw_tile(b, i, &before);
            for (int p = 0; p < P; p += TILE_PANELS) {
                int n = P - p < TILE_PANELS ? P - p : TILE_PANELS;
                across[height][n - 1](ys + (size_t)before * (size_t)steps, (size_t)height,
                                      xs + 16 * p, 32, steps, first,
                                      sums + (size_t)before * DW_COLUMNS + k + 16 * p, DW_COLUMNS);
            }
        }
    }
}

static void gemm_dw_apart(const float *dy, size_t ldy, int apart, const float *x, size_t ldx, int T,
                          int n0, int n1, int K, float *dw, size_t lddw, int add, float *scratch)
{
    float *sums = (float *)(void *)(((uintptr_t)scratch + 63) / 64 * 64);
    float *xs = sums + DW_ROWS * DW_COLUMNS, *ys = xs + DW_STEPS * 32;
    for (int n = n0; T > 0 && n < n1; n += DW_ROWS)
        for (int k = 0; k < K; k += DW_COLUMNS) {
            struct dw_block b = {.n = n, .k = k, .apart = apart};
            b.rows = n1 - n < DW_ROWS ? n1 - n : DW_ROWS;
            b.columns = K - k < DW_COLUMNS ? K - k : DW_COLUMNS;
            b.n_tiles = (b.rows + TILE_ROWS - 1) / TILE_ROWS;
            for (int t = 0; t < T; t += DW_STEPS)
                dw_steps(dy + (size_t)t * ldy, ldy, x + (size_t)t * ldx, ldx,
                         T - t < DW_STEPS ? T - t : DW_STEPS, t == 0, &b, sums, ys, xs);
            struct output out = {.sums = sums,
                                 .ldc = DW_COLUMNS,
                                 .y = dw + (size_t)n * lddw + k,
                                 .ldy = lddw,
                                 .columns = b.columns,
                                 .add = add,
                                 .from_zero = !add};
            finish(&out, 0, b.rows);
        }
    if (!add) v16_stream_end();
}

static void gemm_dw_f32(const float *dy, size_t ldy, const float *x, size_t ldx, int T, int n0,
                        int n1, int K, float *dw, size_t lddw, float *scratch)
{
    gemm_dw_apart(dy, ldy, 16, x, ldx, T, n0, n1, K, dw, lddw, 1, scratch);
}

static void keep_inputs(const float *x, size_t ldx, int t0, int n, int T, int K, float *kept)
{
    (void)T;
    for (kept += (size_t)t0 * (size_t)K; n > 0; n--, x += ldx, kept += K)
        memcpy(kept, x, (size_t)K * sizeof *kept);
}

static void gemm_dw(const float *dy, size_t ldy, int apart, const float *kept, int T, int n0,
                    int n1, int K, float *dw, size_t lddw, int add, float *scratch)
{
    gemm_dw_apart(dy, ldy, apart, kept, (size_t)K, T, n0, n1, K, dw, lddw, add, scratch);
}

/* ---- rows -------------------------------------------------------------------- */

/* Bytes between what is read from memory and what is fetched. */
enum { FETCH_AHEAD = 2048 };

static void column_sums(const float *x, size_t ldx, int T, int n, float *sums)
{
    for (int t = 0; t < T; t++, x += ldx) rows_add(sums, x, (size_t)n);
}

static void swiglu_backward(const float *gates, size_t ldg, const float *dh, size_t lddh, int T,
                            int pairs, float *dgates, size_t lddg)
{
    const v16 one = v16_set1(1.0f);
    for (int t = 0; t < T; t++, gates += ldg, dh += lddh, dgates += lddg)
        for (int i = 0; i < pairs; i++) {
            fetch_first(gates + 32 * i, FETCH_AHEAD);
            fetch_first(gates + 32 * i + 16, FETCH_AHEAD);
            v16 gate = v16_load(gates + 32 * i), up = v16_load(gates + 32 * i + 16);
            v16 d = v16_load(dh + 16 * i), n = v16_add(one, v16_exp(v16_neg(gate)));
            v16 silu = v16_div(gate, n), s = v16_div(one, n);
            v16 slope = v16_mul(s, v16_fma(gate, v16_sub(one, s), one));
            v16_store(dgates + 32 * i, v16_mul(v16_mul(d, up), slope));
            v16_store(dgates + 32 * i + 16, v16_mul(d, silu));
        }
}

/* Sum of (dy·weight)·x: 16 partials, then the tree. */
V16 float weighted_dot(const float *dy, const float *weight, const float *x, int n)
{
    v16 sum = v16_zero();
    int i = 0;
    for (; i + 16 <= n; i += 16)
        sum = v16_fma(v16_mul(v16_load(dy + i), v16_load(weight + i)), v16_load(x + i), sum);
    if (i < n) {
        v16 g = v16_mul(v16_load_n(dy + i, n - i), v16_load_n(weight + i, n - i));
        sum = v16_keep(v16_fma(g, v16_load_n(x + i, n - i), sum), n - i, sum);
    }
    return v16_sum(sum);
}

static void rmsnorm_backward(const float *x, size_t ldx, const float *dy, size_t lddy, int T, int n,
                             const float *weight, float eps, float *dx, size_t lddx, int add,
                             float *dweight)
{
    for (int t = 0; t < T; t++, x += ldx, dy += lddy, dx += lddx) {
        float r = rows_inverse_root(rows_sum_squares(x, n, 0.0f), n, eps);
        float mean = weighted_dot(dy, weight, x, n) / (float)n;
        v16 inv = v16_set1(r), along = v16_set1(mean * r * r);
        for (int i = 0; i < n; i += 16) {
            int m = n - i;
            v16 a = v16_load_some(x + i, m), d = v16_load_some(dy + i, m);
            v16 g = v16_mul(d, v16_load_some(weight + i, m));
            if (dweight) {
                v16 w = v16_fma(d, v16_mul(a, inv), v16_load_some(dweight + i, m));
                v16_store_some(dweight + i, w, m);
            }
            fetch_first(x + i, FETCH_AHEAD); /* of the next row */
            v16 out = v16_mul(v16_fnma(a, along, g), inv);
            if (add) out = v16_add(v16_load_some(dx + i, m), out);
            v16_store_some(dx + i, out, m);
        }
    }
}

/* ---- the optimiser ----------------------------------------------------------- */

V16 void adamw16(float *value, const float *grad, float *m, float *v, int n,
                 const struct adamw_scalars *k)
{
    v16 g = v16_mul(v16_load_some(grad, n), v16_set1(k->factor)), old = v16_load_some(m, n);
    v16 mean = v16_fma(v16_set1(k->one_beta1), v16_sub(g, old), old);
    v16 square = v16_fma(v16_mul(v16_set1(k->one_beta2), g), g,
                         v16_mul(v16_load_some(v, n), v16_set1(k->beta2)));
    v16 root = v16_add(v16_div(v16_sqrt(square), v16_set1(k->root2)), v16_set1(k->eps));
    v16 kept = v16_mul(v16_load_some(value, n), v16_set1(k->keep));
    v16_store_some(m, mean, n);
    v16_store_some(v, square, n);
    v16_store_some(value, v16_add(kept, v16_div(v16_mul(v16_set1(k->minus_rate), mean), root)), n);
}

static void adamw(float *value, const float *grad, float *m, float *v, size_t n,
                  const struct adamw_scalars *k)
{
    for (; n >= 16; n -= 16, value += 16, grad += 16, m += 16, v += 16) {
        fetch_first(value, FETCH_AHEAD);
        fetch_first(grad, FETCH_AHEAD);
        fetch_first(m, FETCH_AHEAD);
        fetch_first(v, FETCH_AHEAD);
        adamw16(value, grad, m, v, 16, k);
    }
    if (n) adamw16(value, grad, m, v, (int)n, k);
}

static double squares(const float *x, size_t n)
{
    double part[8] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        fetch_first(x + i, FETCH_AHEAD);
        for (size_t k = i; k < i + 16; k += 8)
            for (size_t j = 0; j < 8; j++) part[j] += (double)x[k + j] * (double)x[k + j];
    }
    for (; i < n; i++) part[i % 8] += (double)x[i] * (double)x[i];
    for (size_t j = 0; j < 8; j++) sum += part[j];
    return sum;
}

/* ---- the softmax's ----------------------------------------------------------- */

V16 v16 softmax_backward16(v16 x, v16 lse, v16 a, const int with_entropy, v16 entropy, v16 b)
{
    v16 l = v16_sub(x, lse), p = v16_exp(l), out = v16_neg(v16_mul(a, p));
    if (!with_entropy) return out;
    l = v16_max(v16_set1(-104.5f), l); /* p is 0 there, and l may be infinite */
    return v16_sub(out, v16_mul(v16_mul(b, p), v16_add(l, entropy)));
}

static void softmax_backward(const float *x, size_t n, float lse, int64_t target, float a,
                             float entropy, float b, float *out)
{
    v16 l = v16_set1(lse), av = v16_set1(a), ev = v16_set1(entropy), bv = v16_set1(b);
    int hit = target >= 0 && (uint64_t)target < n;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        v16 v = v16_load(x + i);
        v16_store(out + i, b != 0.0f ? softmax_backward16(v, l, av, 1, ev, bv)
                                     : softmax_backward16(v, l, av, 0, ev, bv));
    }
    int rest = (int)(n - i);
    if (rest)
        v16_store_n(out + i, softmax_backward16(v16_load_n(x + i, rest), l, av, b != 0.0f, ev, bv),
                    rest);
    if (hit) out[target] = out[target] + a;
}
