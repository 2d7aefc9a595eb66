/* Element-wise kernels and sums over rows. */

#include "tensor/half.h"

static void rows_exps(const float *x, float *y, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_store(y + i, v16_exp(v16_load(x + i)));
    int rest = (int)(n - i);
    if (rest) v16_store_n(y + i, v16_exp(v16_load_n(x + i, rest)), rest);
}

static void rows_interleave(const float *rows, size_t ld, int n, float *out)
{
    int k = 0;
    for (; k + 16 <= n; k += 16, out += 256) v16_transpose(rows + k, ld, out, 16);
    for (; k < n; k++, out += 16)
        for (size_t c = 0; c < 16; c++) out[c] = rows[c * ld + (size_t)k];
}

/* Rows are rounded as they lie, then turned as words of two numbers. */
static void rows_interleave_pairs(const float *rows, size_t ld, int n, uint32_t *out)
{
    uint16_t halves[16][32] __attribute__((aligned(64)));
    int k = 0;
    for (; k + 32 <= n; k += 32, out += 256) {
        for (size_t c = 0; c < 16; c++) {
            const float *from = rows + c * ld + (size_t)k;
            fetch_second(from, 16 * ld * sizeof *from);
            fetch_second(from + 16, 16 * ld * sizeof *from);
            for (size_t i = 0; i < 32; i++) halves[c][i] = float_to_bfloat(from[i]);
        }
        v16_transpose((const float *)(const void *)halves, 16, (float *)(void *)out, 16);
    }
    for (; k < n; k += 2, out += 16)
        for (size_t c = 0; c < 16; c++) {
            const float *from = rows + c * ld + (size_t)k;
            uint32_t odd = k + 1 < n ? float_to_bfloat(from[1]) : 0;
            out[c] = odd << 16 | float_to_bfloat(from[0]);
        }
}

static void rows_add(float *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_store(y + i, v16_add(v16_load(y + i), v16_load(x + i)));
    int rest = (int)(n - i);
    if (rest) v16_store_n(y + i, v16_add(v16_load_n(y + i, rest), v16_load_n(x + i, rest)), rest);
}

static void rows_put_away(float *to, const float *from, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_stream(to + i, v16_load(from + i));
    if (i < n) v16_store_n(to + i, v16_load_n(from + i, (int)(n - i)), (int)(n - i));
    v16_stream_end();
}

V16 v16 rows_gelu16(v16 x)
{
    v16 e = v16_erf(v16_mul(x, v16_set1(0x1.6a09e6p-1f)));
    return v16_mul(v16_mul(x, v16_set1(0.5f)), v16_add(v16_set1(1.0f), e));
}

static void rows_gelu(float *x, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_store(x + i, rows_gelu16(v16_load(x + i)));
    int rest = (int)(n - i);
    if (rest) v16_store_n(x + i, rows_gelu16(v16_load_n(x + i, rest)), rest);
}

/* Sums of x, and of (x - mean)²: 16 partials, then the tree. */
V16 float rows_sum(const float *x, int n)
{
    v16 sum = v16_zero();
    int i = 0;
    for (; i + 16 <= n; i += 16) sum = v16_add(sum, v16_load(x + i));
    if (i < n) sum = v16_keep(v16_add(sum, v16_load_n(x + i, n - i)), n - i, sum);
    return v16_sum(sum);
}

V16 float rows_sum_squares(const float *x, int n, float mean)
{
    v16 sum = v16_zero(), m = v16_set1(mean);
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        v16 c = v16_sub(v16_load(x + i), m);
        sum = v16_fma(c, c, sum);
    }
    if (i < n) {
        v16 c = v16_sub(v16_load_n(x + i, n - i), m);
        sum = v16_keep(v16_fma(c, c, sum), n - i, sum);
    }
    return v16_sum(sum);
}

V16 float rows_inverse_root(float sum, int n, float eps)
{
    return 1.0f / sqrtf(sum / (float)n + eps);
}

static void rows_rmsnorm(const float *x, size_t ldx, int T, int n, const float *weight, float eps,
                         float *y, size_t ldy)
{
    for (int t = 0; t < T; t++, x += ldx, y += ldy) {
        v16 inv = v16_set1(rows_inverse_root(rows_sum_squares(x, n, 0.0f), n, eps));
        int i = 0;
        for (; i + 16 <= n; i += 16)
            v16_store(y + i, v16_mul(v16_mul(v16_load(x + i), inv), v16_load(weight + i)));
        if (i < n) {
            v16 scaled = v16_mul(v16_load_n(x + i, n - i), inv);
            v16_store_n(y + i, v16_mul(scaled, v16_load_n(weight + i, n - i)), n - i);
        }
    }
}

static void rows_layernorm(const float *x, size_t ldx, int T, int n, const float *weight,
                           const float *bias, float eps, float *y, size_t ldy)
{
    for (int t = 0; t < T; t++, x += ldx, y += ldy) {
        float mean = rows_sum(x, n) / (float)n;
        v16 m = v16_set1(mean);
        v16 inv = v16_set1(rows_inverse_root(rows_sum_squares(x, n, mean), n, eps));
        int i = 0;
        for (; i + 16 <= n; i += 16) {
            v16 c = v16_mul(v16_sub(v16_load(x + i), m), inv);
            v16_store(y + i, v16_fma(c, v16_load(weight + i), v16_load(bias + i)));
        }
        if (i < n) {
            v16 c = v16_mul(v16_sub(v16_load_n(x + i, n - i), m), inv);
            v16 w = v16_load_n(weight + i, n - i), b = v16_load_n(bias + i, n - i);
            v16_store_n(y + i, v16_fma(c, w, b), n - i);
        }
    }
}

enum { DROPOUT_BLOCK = 64 };

/* Integers and choices, which a compiler makes vectors of; products apart from the choice. */
static void dropout_block(uint64_t key, unsigned threshold, float keep, const float *x, float *out)
{
    uint64_t hash[DROPOUT_BLOCK / 4];
    uint16_t bits[DROPOUT_BLOCK];
    float scaled[DROPOUT_BLOCK];
    for (int i = 0; i < DROPOUT_BLOCK / 4; i++) {
        uint64_t z = key + 4 * (uint64_t)i + 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        hash[i] = z ^ (z >> 31);
    }
    memcpy(bits, hash, sizeof bits);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (int i = 0; i < DROPOUT_BLOCK; i++) bits[i] = (uint16_t)(hash[i / 4] >> i % 4 * 16);
#endif
    for (int i = 0; i < DROPOUT_BLOCK; i++) scaled[i] = x[i] * keep;
    for (int i = 0; i < DROPOUT_BLOCK; i++) out[i] = bits[i] < threshold ? 0.0f : scaled[i];
}

static void rows_dropout(uint64_t key, unsigned threshold, float keep, const float *x, float *out,
                         size_t n)
{
    float rest[DROPOUT_BLOCK] = {0};
    size_t i = 0;
    for (; i + DROPOUT_BLOCK <= n; i += DROPOUT_BLOCK)
        dropout_block(key + i, threshold, keep, x + i, out + i);
    if (i == n) return;
    memcpy(rest, x + i, (n - i) * sizeof *rest);
    dropout_block(key + i, threshold, keep, rest, rest);
    memcpy(out + i, rest, (n - i) * sizeof *rest);
}

static void rows_rope(float *x, int D, const float *cosines, const float *sines)
{
    int half = D / 2, i = 0;
    float *upper = x + half;
    for (; i + 16 <= half; i += 16) { /* whole vectors: masked stores are slow on some machines */
        v16 c = v16_load(cosines + i), s = v16_load(sines + i);
        v16 a = v16_load(x + i), b = v16_load(upper + i);
        v16_store(x + i, v16_fma(a, c, v16_neg(v16_mul(b, s))));
        v16_store(upper + i, v16_fma(b, c, v16_mul(a, s)));
    }
    int n = half - i;
    if (n == 0) return;
    v16 c = v16_load_n(cosines + i, n), s = v16_load_n(sines + i, n);
    v16 a = v16_load_n(x + i, n), b = v16_load_n(upper + i, n);
    v16_store_n(x + i, v16_fma(a, c, v16_neg(v16_mul(b, s))), n);
    v16_store_n(upper + i, v16_fma(b, c, v16_mul(a, s)), n);
}

static float rows_logsumexp(const float *x, size_t n)
{
    v16 top = v16_set1(-INFINITY);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) top = v16_max(top, v16_load(x + i));
    int rest = (int)(n - i);
    if (rest) top = v16_keep(v16_max(top, v16_load_n(x + i, rest)), rest, top);
    float highest = v16_highest(top);
    if (highest == -INFINITY || highest == INFINITY) return highest;
    v16 sum = v16_zero(), m = v16_set1(highest);
    for (i = 0; i + 16 <= n; i += 16) sum = v16_add(sum, v16_exp(v16_sub(v16_load(x + i), m)));
    if (rest) {
        v16 e = v16_exp(v16_sub(v16_load_n(x + i, rest), m));
        sum = v16_keep(v16_add(sum, e), rest, sum);
    }
    return (float)(log((double)v16_sum(sum)) + (double)highest);
}

/* The inner loops are the compiler's to make vectors of. */
static float rows_entropy(const float *x, size_t n, float normalizer)
{
    double partial[8] = {0}, sum = 0;
    float logs[16], p[16];
    for (size_t i = 0; i < n; i += 16) {
        int more = n - i < 16 ? (int)(n - i) : 16;
        v16 l = v16_sub(v16_load_some(x + i, more), v16_set1(normalizer));
        v16_store(logs, l);
        v16_store(p, v16_exp(l));
        for (int j = more; j < 16; j++) p[j] = logs[j] = 0;
        for (int j = 0; j < 8; j++) partial[j] -= (double)p[j] * (double)logs[j];
        for (int j = 0; j < 8; j++) partial[j] -= (double)p[8 + j] * (double)logs[8 + j];
    }
    for (int j = 0; j < 8; j++) sum += partial[j];
    return (float)sum;
}
