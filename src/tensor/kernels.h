/* Kernels: everything that touches numbers, behind one dispatch point.
 *
 * One shared source per concern (gemm, attention, element-wise) is written on a
 * vector of 16 floats and compiled once for each instruction set; kernels_select()
 * chooses a table from CPUID once.  Contract (docs/numerics.md): an output
 * element is one fixed sequence of IEEE operations, the same on portable, AVX2
 * and AVX-512 to the bit, whatever the batch, the tile or the thread that
 * computes it:
 *   - GEMM: lanes are output columns; one FMA chain over k = 0 … K-1 from 0.
 *   - sums over a row (norm, softmax): 16 partials, partial j takes elements
 *     j, j+16, … in order, then the tree (j + j+8), (+4), (+2), (+1).
 *     A tail shorter than 16 adds into partials 0 … tail-1 only.
 *   - exp, erf: our own polynomials, FMA in fixed order; sqrt and / are IEEE.
 * None of these functions allocates or fails.
 *
 * Names: T tokens (rows), K input width, N output width, D head_dim. */
#ifndef SIREN_TENSOR_KERNELS_H
#define SIREN_TENSOR_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "weights/tensors.h"

/* ISA_AMX: the kernels of ISA_AVX512, with AMX's products in mode bf16. */
enum isa { ISA_PORTABLE, ISA_AVX2, ISA_AVX512, ISA_AMX, ISA_COUNT };

/* How products are computed (docs/numerics.md): COMPUTE_BF16 rounds both sides to bf16 inside gemm,
 * gemm_swiglu, gemm_dx, gemm_dw (its X in keep_inputs) and attention's products but for the scores,
 * and sums in f32, in the order of VDPBF16PS on every set but AMX, whose order is TDPBF16PS's;
 * there scores are of two parts in bf16 each.  Everything else is that of COMPUTE_F32. */
enum compute { COMPUTE_F32, COMPUTE_BF16, COMPUTE_COUNT };

/* ---- packed weights ------------------------------------------------------
 * W (N, K) row-major in the file becomes panels of 16 output columns: panel p
 * holds rows 16p … 16p+15 interleaved, so that one step of k is 16 neighbouring
 * numbers.  N is padded to a multiple of 16 with zero rows.  Quantised sources
 * stay quantised: every supported source format is, exactly, one of
 *   PACKED_F32, PACKED_F16                 [k][16]
 *   PACKED_BF16                            [k/2][16] pairs of steps
 *   PACKED_Q4   value = d·q + m, q 0..15, block of 32 along k: per block and panel
 *               16 d, 16 m (f32 each), then 32 × 16 nibbles          (Q4_1, Q4_K)
 *   PACKED_Q4S  the same with q -8..7                                 (Q4_0)
 *   PACKED_Q8   value = d·q + m, q int8, block of 16 along k          (Q8_0, Q5_*, Q6_K)
 * (products exact in f32, one rounding: the decoded panel has the bits of
 * tensor_dequantize).  The layout inside a block is private to pack.c and the
 * decoders. */
enum packed_kind { PACKED_F32, PACKED_F16, PACKED_BF16, PACKED_Q4, PACKED_Q4S, PACKED_Q8 };

struct packed {
    enum packed_kind kind;
    int n, k;     /* logical */
    int n_panels; /* ceil(n / 16) */
    size_t panel_bytes;
    unsigned char *data; /* 64-byte aligned */
    void *owned;         /* what packed_free frees: data, or NULL for memory of an arena */
};

/* Panels of 16 that hold n numbers, and the numbers that they hold: whole cache lines of floats. */
static inline size_t panels_for(size_t n)
{
    return n / 16 + (n % 16 != 0);
}
static inline size_t whole_panels(size_t n)
{
    return 16 * panels_for(n);
}

/* Panels of inputs, which are gemm_dx's outputs. */
static inline int input_panels(const struct packed *w)
{
    return (int)panels_for((size_t)w->k);
}

/* Memory of many matrices side by side, so that the large pages of the machine serve small
 * matrices, too.  Starts as all zeros; one thread at a time. */
struct packed_arena {
    void **chunks;
    size_t n_chunks, capacity;
    size_t size, used; /* of the last chunk */
};
void packed_arena_free(struct packed_arena *a); /* frees all its matrices' data */

/* Pack rows [row0, row0 + n) of the (rows, k) tensor t; `expand` != 0 stores f32 whatever the
 * source (a memory policy: equal bits).  Pieces may be appended: several tensors with one K
 * become one matrix (q, k, v; gate, up): first packed_alloc with the total n and the kind,
 * then packed_fill for each piece at its first column.  Columns need not be multiples of 16. */
enum packed_kind packed_kind_for(enum tensor_type type, int expand);
/* The kind that holds columns of both kinds exactly, for matrices joined from tensors of different
 * types (Q4_K and Q6_K: PACKED_Q8). */
enum packed_kind packed_kind_join(enum packed_kind a, enum packed_kind b);
/* All n columns must be filled before use; the padding columns are zeros already. */
int packed_alloc(struct packed *out, enum packed_kind kind, int n, int k, struct siren_error *err);
int packed_alloc_in(struct packed_arena *arena, struct packed *out, enum packed_kind kind, int n,
                    int k, struct siren_error *err);
/* Fills columns [column, column + rows) from rows [row0, row0 + rows) of t, whose last dimension
 * is w->k and whose kind w->kind can hold; PACKED_BF16 takes any, rounded as mode bf16 rounds.
 * Thread-safe for disjoint columns. */
void packed_fill(struct packed *w, int column, const struct tensor *t, int64_t row0, int rows);
/* The same from an explicit list: column + i takes row rows[i] (a permutation of the rows costs
 * nothing). */
void packed_fill_rows(struct packed *w, int column, const struct tensor *t, const int32_t *rows,
                      int n_rows);
void packed_free(struct packed *w); /* zeros are allowed */

/* Of an AdamW step (siren/optimizer.h): 1 - lr·decay, β2, 1 - β1, 1 - β2, -lr/(1 - β1^t),
 * √(1 - β2^t), eps, and the gradients' factor. */
struct adamw_scalars {
    float keep, beta2, one_beta1, one_beta2, minus_rate, root2, eps, factor;
};

struct attention_branch {
    int n_rows, first_page, n_pages;
};

/* What attention_backward reads and adds to: one pointer a page in each list. */
struct attention_pages {
    const float *const *k, *const *v;               /* as page_store wrote them */
    const float *const *mirror_k, *const *mirror_v; /* as page_mirror wrote them */
    float *const *dk, *const *dv;                   /* [32][D] each */
};

/* What mode bf16 has functions of its own for; the table below says what they do. */
typedef void gemm_fn(const float *x, size_t ldx, int T, const struct packed *w, int panel0,
                     int panel1, const float *bias, float *y, size_t ldy, int add, float *scratch);
typedef void gemm_swiglu_fn(const float *x, size_t ldx, int T, const struct packed *w, int pair0,
                            int pair1, float *h, size_t ldh, float *gates, size_t ldg,
                            float *scratch);
typedef void gemm_dx_fn(const float *dy, size_t ldy, int T, const struct packed *w, int panel0,
                        int panel1, float *dx, size_t ldx, int add, float *scratch);
typedef void keep_inputs_fn(const float *x, size_t ldx, int t0, int n, int T, int K, float *kept);
typedef void gemm_dw_fn(const float *dy, size_t ldy, int apart, const float *kept, int T, int n0,
                        int n1, int K, float *dw, size_t lddw, int add, float *scratch);
typedef void gemm_dw_f32_fn(const float *dy, size_t ldy, const float *x, size_t ldx, int T, int n0,
                            int n1, int K, float *dw, size_t lddw, float *scratch);
typedef void page_store_fn(float *page_k, float *page_v, int D, int slot, int n, const float *k,
                           size_t ldk, const float *v, size_t ldv);
typedef void attention_fn(const float *q, const size_t *q_offset, const int *counts, int R,
                          const float *const *pages_k, const float *const *pages_v, int n_shared,
                          const struct attention_branch *branches, int n_branches, int D,
                          float scale, float *out, float *scratch);
typedef void page_mirror_fn(const float *page_k, const float *page_v, int D, float *mirror_k,
                            float *mirror_v);
typedef void attention_backward_fn(const float *q, const float *dout, const size_t *q_offset,
                                   const int *counts, int R, const struct attention_pages *pages,
                                   int n_pages, int D, float scale, float *dq, int add,
                                   float *scratch);

/* ---- the table ----------------------------------------------------------- */
struct kernels {
    enum isa isa;
    enum compute compute;
    const char *name; /* "portable", "avx2", "avx512", "amx" */
    int tile_rows;    /* that products take at a time */
    /* Rows of a pass that one thread is best given at a time: enough to pay for decoding all
     * weights once more, and few enough to stay in the second cache. */
    int block_rows;

    /* Decode k0 … k1-1 (multiples of 32; k1 may be K) of one panel into out[(k1-k0)][16]. */
    void (*panel_decode)(const struct packed *w, int panel, int k0, int k1, float *out);

    /* Y[t][n] (ldy) = sum_k X[t][k] (ldx) · W[n][k] for t in [0, T), panels [panel0, panel1).
     * Y's columns start at column 16·panel0 of the matrix: y points at column 16·panel0.
     * Only columns < w->n are written.  add != 0: the chain starts from 0 and the result is
     * added to what Y holds (residual: y += result, one rounding).
     * bias (may be NULL; points at column 16·panel0) is added after the chain, before `add`.
     * scratch: gemm_scratch(w) floats, private to the caller's thread. */
    gemm_fn *gemm;

    /* Gated FFN: w holds gate panels and up panels alternately (panel 2i gate, 2i+1 up, packed so
     * by the caller: columns 32i…32i+15 gate rows 16i…, 32i+16…32i+31 up rows 16i…).
     * h[t][16i + j] = silu(gate) · up, silu(x) = x / (1 + exp(-x)).  pairs [pair0, pair1); h points
     * at column 16·pair0.  gates (T, ldg; NULL: not wanted) takes gate and up before the
     * activation, in the columns of w, for swiglu_backward; it points at column 32·pair0.  They go
     * past the caches: a pass writes more of them than any cache holds before it reads the first.
     */
    gemm_swiglu_fn *gemm_swiglu;

    /* The activation of gemm_swiglu alone: gates (T, ldg) hold gate and up panels in turn (pairs of
     * 16 + 16 columns), h (T, ldh) takes 16 columns a pair.  Equal bits. */
    void (*swiglu)(const float *gates, size_t ldg, int T, int pairs, float *h, size_t ldh);

    /* y[t] = x[t] · rsqrt(mean(x²) + eps) · weight: (1 / sqrt(…)), then x · that, then · weight. */
    void (*rmsnorm)(const float *x, size_t ldx, int T, int n, const float *weight, float eps,
                    float *y, size_t ldy);
    /* Mean, then variance of the centred values (two passes), y = (x - mean)·inv · weight + bias.
     */
    void (*layernorm)(const float *x, size_t ldx, int T, int n, const float *weight,
                      const float *bias, float eps, float *y, size_t ldy);
    /* In place, exact GELU: x/2 · (1 + erf(x / √2)). */
    void (*gelu)(float *x, size_t n);
    /* y[i] += x[i] */
    void (*add)(float *y, const float *x, size_t n);
    /* to[i] = from[i], past the caches: what is not read soon pushes nothing out, and memory is not
     * read before it is written. */
    void (*put_away)(float *to, const float *from, size_t n);
    /* Sixteen rows of n numbers as a panel: out[k·16 + c] = rows[c·ld + k]. */
    void (*interleave)(const float *rows, size_t ld, int n, float *out);
    /* … as pairs in bfloat16: out[k/2·16 + c] = k of row c, and above it k + 1, or 0 if k is the
     * last.  The sixteen rows behind are fetched. */
    void (*interleave_pairs)(const float *rows, size_t ld, int n, uint32_t *out);
    /* out[i] = 0 where number i of the key's stream is below the threshold of 65536, else x[i] ·
     * keep; out may be x.  The numbers are the sixteen-bit parts, low ones first, of mix(key +
     * 4·floor(i / 4)), one step of SplitMix64 (Steele et al. 2014) from that state. */
    void (*dropout)(uint64_t key, unsigned threshold, float keep, const float *x, float *out,
                    size_t n);
    /* Rotate-half RoPE in place on one head vector x[D]: pairs (i, i + D/2), cosines and sines
     * [D/2] of this position.  a' = a·cos - b·sin as fma(a, cos, -(b·sin)); b' = fma(b, cos,
     * a·sin). */
    void (*rope)(float *x, int D, const float *cosines, const float *sines);

    /* Softmax pieces for sampling and read-out over n logits: returns log(sum exp(x - max)) + max.
     */
    float (*logsumexp)(const float *x, size_t n);
    /* y[i] = exp(x[i]), for tests and samplers. */
    void (*exps)(const float *x, float *y, size_t n);
    /* −Σ exp(l)·l, l = x − normalizer, a row's logsumexp: products and sums in double, eight
     * partials by index modulo 8, added in order. */
    float (*entropy)(const float *x, size_t n, float normalizer);

    /* ---- attention over paged keys and values ----
     * A page holds 32 absolute positions of one kv head: keys [2][D][16] (two half pages, each D
     * steps of 16 positions; by AMX's tiles D/2 pairs of what bf16 has of them, and D/2 of what it
     * leaves) and values, in mode f32 [D/16][32][16], in mode bf16, rounded, pairs of positions
     * [D/16][16][16].  Keys are key_words(D) words of four bytes, values value_words(k, D), and so
     * are the mirrors of both, whatever their pointers' type.
     * D is a multiple of 16 up to 512 (64, 80, 96, 128, …; a 32-wide MiniLM head too).  Positions
     * of a page that no row sees may hold anything, NaN included.  page_store writes
     * positions slot … slot+n-1 (n >= 1, of one page), from rows of D floats; sixteen that fill
     * half a page go fastest. */
    page_store_fn *page_store;
    /* R query rows of one kv head against n_shared pages that all of them see and, where branches
     * are given, each branch's own pages after these (siblings in a forest: their ancestors' pages
     * are read once for all).  Branch b is the next branches[b].n_rows rows; its pages are
     * pages[first_page] ….  NULL: all rows see the shared pages only.
     * Row r sees the first counts[r] positions (1 … 32·pages); counts need not be sorted.
     * q: row r at q + q_offset[r] (D floats); out: row r at out + q_offset[r].
     * scores s_j = (chain over d of q_d·k_jd) · scale; m = max_j s_j; p_j = exp(s_j - m);
     * sum of p with 16 partials by position modulo 16; o_d = chain over j of p_j·v_jd in order;
     * out = o · (1 / sum) + 0.0f.  A row's bits do not depend on the other rows; out may be q.
     * Mode bf16 rounds p and v and takes their chain in pairs, as its gemm does, on AMX in blocks
     * of a page's positions; the sum is that of the p before rounding.  Scores are those of mode
     * f32; on AMX q and k are two parts of bf16 each, and of each 32 numbers of d the sums of low·
     * high, high·high and high·low follow one another.
     * scratch: attention_scratch(R, most pages that a row sees) floats. */
    attention_fn *attention;

    /* ---- backward ----
     * For a loss L, dY means dL/dY.  What a function reads must be finite, but for slots of a page
     * that no row sees.  Where `add` is given, 0 writes the result and 1 adds it to what is there,
     * with one rounding.  Rows are taken in their order 0 … T-1 wherever a sum goes over rows. */

    /* dX[t][k] (ldx) = sum_n dY[t][n] (ldy) · W[n][k]: one chain over n = 0 … w->n-1.  dY's columns
     * are in the order of the matrix (joined pieces, gate and up panels alternating).  Panels
     * [panel0, panel1) are 16 columns of X each, ceil(w->k / 16) in all, split best at even
     * numbers; dx points at column 16·panel0, and only columns < w->k are written.
     * scratch: gemm_dx_scratch(w) floats, private to the caller's thread. */
    gemm_dx_fn *gemm_dx;
    /* Rows t0 … t0+n-1 of the T rows of X (x: the first of these n; ldx), as gemm_dw reads them:
     * into kept, kept_words(k, T, K) words of four bytes.  In mode f32 (T, K); in mode bf16,
     * rounded, panels of 16 columns of pairs of rows, with zeros behind the last.  Threads may keep
     * rows of one X at the same time; gemm_dw wants all T of them. */
    keep_inputs_fn *keep_inputs;
    /* dW[n][k] (lddw) += sum_t dY[t][n] · X[t][k]: one chain over t from 0, then one addition, for
     * n in [n0, n1) and k in [0, K), X kept with this T and K.  dy and dw are those of the whole
     * matrix: row n, and sixteen columns of dY every `apart` numbers: column n/16·apart + n mod 16.
     * apart is 16, or 32 for gate and up, whose panels alternate (n0 is then a multiple of 16).
     * Threads share out n; multiples of 96 are best.  add 0 (T > 0): dW = 0 + …, past the caches.
     * scratch: gemm_dw_scratch() floats. */
    gemm_dw_fn *gemm_dw;
    /* The same in f32 in every mode, added, with X as it is: for LoRA's factors, which cost little,
     * and where its product is no gradient (theorem_solve.c). */
    gemm_dw_f32_fn *gemm_dw_f32;
    /* sums[i] += x[t][i], i in [0, n), row after row: the gradient of a bias. */
    void (*column_sums)(const float *x, size_t ldx, int T, int n, float *sums);
    /* From gates as gemm_swiglu stored them and dh (T, 16·pairs) to the gradients of gate and up,
     * in the same columns: d_up = dh·silu(gate), d_gate = dh·up·σ(1 + gate·(1 - σ)), σ of gate.
     * dgates may be gates. */
    void (*swiglu_backward)(const float *gates, size_t ldg, const float *dh, size_t lddh, int T,
                            int pairs, float *dgates, size_t lddg);
    /* x and weight as for rmsnorm; r = 1 / sqrt(mean(x²) + eps), g = dy · weight:
     * dx (+)= r·(g - x·(r²/n)·Σ g·x).  dweight (NULL, or n floats) += dy·(x·r), row after row.
     * dx may be dy or x. */
    void (*rmsnorm_backward)(const float *x, size_t ldx, const float *dy, size_t lddy, int T, int n,
                             const float *weight, float eps, float *dx, size_t lddx, int add,
                             float *dweight);
    /* rope's gradient is rope with the sines negated: its inverse.  (No function of its own.) */

    /* One row of n logits x (already divided by the temperature) with their logsumexp `lse`;
     * p = exp(x - lse) and log p = x - lse:
     *   out = a·(onehot(target) - p) - b·p·(log p + entropy)
     * is a·d(log p[target]) + b·d(entropy), with respect to x.  `entropy` (of the row) counts only
     * where b != 0.  The row may be a chunk of the vocabulary: lse and entropy are then those of
     * all of it, and a target outside 0 … n-1 is in another chunk.  out may be x. */
    void (*softmax_backward)(const float *x, size_t n, float lse, int64_t target, float a,
                             float entropy, float b, float *out);

    /* One step of n numbers, in the operations of siren/optimizer.h. */
    void (*adamw)(float *value, const float *grad, float *m, float *v, size_t n,
                  const struct adamw_scalars *scalars);
    /* Their sum in f64: eight partial sums, of every eighth number each, then these in order. */
    double (*squares)(const float *x, size_t n);

    /* A page's mirror, which the backward pass reads beside it: the page's keys in the layout of
     * values and its values in the layout of keys. */
    page_mirror_fn *page_mirror;
    /* The gradient of `attention` without branches: R query rows of one kv head (tokens × heads of
     * its group) against n_pages pages.  q, q_offset, counts, pages and scale are those of the
     * forward; dout and dq are rows at q_offset, too.  With P = exp(s - m) · (1 / S), recomputed
     * by the operations of the forward:
     *   dP_rj = Σ_d dout_rd·v_jd,  delta_r = Σ_j P_rj·dP_rj,  dS_rj = P_rj·(dP_rj - delta_r)·scale
     *   dq_r (+)= Σ_j dS_rj·k_j,  dk_j += Σ_r dS_rj·q_r,  dv_j += Σ_r P_rj·dout_r
     * pages->dk[p] and pages->dv[p] are [32][D], a row a position of page p; their chains over rows
     * go on from what they hold, so a run of rows may be cut into calls anywhere (mode bf16: at
     * even rows; on AMX at multiples of 32): the bits are those of one call.  Positions that a row
     * does not see take nothing from it.  Rows are taken in their order: one task owns the pages'
     * gradients.  dq may be q or dout.  Mode bf16 has the forward's scores, rounds dout and v
     * for dP, dS and k for dq, and P, dS, q and dout for dv and dk, and takes the chains over rows
     * in pairs, too (on AMX in blocks of 32 rows).
     * scratch: attention_backward_scratch(D, n_pages) floats. */
    attention_backward_fn *attention_backward;

    /* For kernels_peak_gflops: `turns` turns of independent FMAs of so many operations. */
    float (*fma_loop)(long turns);
    int fma_loop_flops;
};

size_t gemm_scratch(const struct packed *w);           /* floats */
size_t attention_scratch(int R, int n_pages);          /* floats */
size_t gemm_dx_scratch(const struct packed *w);        /* floats */
size_t gemm_dw_scratch(void);                          /* floats */
size_t attention_backward_scratch(int D, int n_pages); /* floats */
#define ATTENTION_PAGE 32
/* Words of a page's keys. */
static inline size_t key_words(int D)
{
    return (size_t)D * ATTENTION_PAGE;
}
/* … and of its values, or of either's mirror. */
static inline size_t value_words(const struct kernels *k, int D)
{
    return (size_t)D * ATTENTION_PAGE / (k->compute == COMPUTE_BF16 ? 2 : 1);
}

/* From panel to panel of T kept rows in mode bf16.  No multiple of a page, whose lines would fall
 * into few sets of a cache. */
static inline size_t kept_panel_words(int T)
{
    return ((size_t)T + 31) / 32 * 256 + 16;
}
/* Words of what keep_inputs writes. */
static inline size_t kept_words(const struct kernels *k, int T, int K)
{
    if (k->compute == COMPUTE_F32) return (size_t)T * (size_t)K;
    return whole_panels((size_t)K) / 16 * kept_panel_words(T);
}

/* The best set that this machine can run. */
enum isa isa_best(void);
/* The table for an instruction set; NULL with SIREN_EUNSUPPORTED where the machine lacks it. */
const struct kernels *kernels_select(enum isa isa, struct siren_error *err);
/* … and a mode; kernels_select() gives COMPUTE_F32.  Every set has every mode, bits equal but for
 * AMX in mode bf16: AVX-512 without VDPBF16PS takes the products of AVX2, as fast as those of f32.
 */
const struct kernels *kernels_select_compute(enum isa isa, enum compute compute,
                                             struct siren_error *err);
/* Mode bf16 of ISA_AMX on every machine, by the model of its tiles in C: slow, for tests. */
const struct kernels *kernels_amx_model(void);
const char *compute_name(enum compute compute); /* "f32" … */
int compute_parse(const char *name, enum compute *out, struct siren_error *err);
int isa_parse(const char *name, enum isa *out, struct siren_error *err); /* "portable" … "auto" */
/* "sse2 avx2 fma f16c avx512f avx512_bf16 amx_bf16 …": what CPUID says, for benches. */
const char *isa_describe(void);

/* ---- for measuring ---- */
/* GFLOP/s of a loop of FMAs held in registers on this thread for about `seconds`. */
double kernels_peak_gflops(const struct kernels *k, double seconds);

#endif
