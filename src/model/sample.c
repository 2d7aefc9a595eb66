#include "model/sample.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "siren/random.h"

int sampler_create(struct sampler *s, const struct kernels *kernels, size_t n_vocab,
                   struct siren_error *err)
{
    *s = (struct sampler){.kernels = kernels, .n_vocab = n_vocab};
    s->weights = alloc_aligned(n_vocab, sizeof *s->weights);
    s->order = alloc_array(n_vocab, sizeof *s->order);
    if (s->weights && s->order) return SIREN_OK;
    sampler_free(s);
    return siren_fail_memory(err, "sampler", n_vocab * sizeof *s->weights);
}

void sampler_free(struct sampler *s)
{
    free(s->weights);
    free(s->order);
    s->weights = NULL;
    s->order = NULL;
}

/* The first of the largest. */
static int32_t largest(const float *x, size_t n)
{
    float top[16];
    for (int j = 0; j < 16; j++) top[j] = x[0];
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
    for (; i < n; i++) top[0] = x[i] > top[0] ? x[i] : top[0];
    for (int j = 1; j < 16; j++) top[0] = top[j] > top[0] ? top[j] : top[0];
    for (i = 0; i < n; i++)
        if (x[i] == top[0]) return (int32_t)i;
    return 0; /* not a number */
}

enum { CHUNK = 1024 };

/* Probabilities of ids [from, from + n), and their sum. */
static double chunk_of(const struct sampler *s, const float *x, float log_sum, size_t n, float *p)
{
    double parts[8] = {0};
    for (size_t i = 0; i < n; i++) p[i] = x[i] - log_sum;
    s->kernels->exps(p, p, n);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++) parts[j] += (double)p[i + j];
    for (; i < n; i++) parts[0] += (double)p[i];
    return ((parts[0] + parts[1]) + (parts[2] + parts[3])) +
           ((parts[4] + parts[5]) + (parts[6] + parts[7]));
}

/* From all of exp(x - log_sum) by inverse distribution, in the order of ids and no further than
 * need be.  The probabilities add up to 1 but for rounding: a u that lies behind their sum is
 * taken as a part of the sum. */
static int32_t draw_from_all(const struct sampler *s, const float *x, float log_sum, double u)
{
    float p[CHUNK];
    double left = u;
    for (int again = 0; again < 2; again++) {
        double sum = 0;
        for (size_t from = 0; from < s->n_vocab; from += CHUNK) {
            size_t n = s->n_vocab - from < CHUNK ? s->n_vocab - from : CHUNK, last = 0;
            double part = chunk_of(s, x + from, log_sum, n, p);
            sum += part;
            if (left >= part) {
                left -= part;
                continue;
            }
            for (size_t i = 0; i < n; i++) {
                if (p[i] > 0) last = i;
                left -= (double)p[i];
                if (left < 0) break;
            }
            return (int32_t)(from + last);
        }
        left = u * sum;
    }
    return largest(x, s->n_vocab); /* rounding again, or no numbers */
}

/* a before b: the larger weight, of equal ones the lower id. */
static int before(const float *w, int32_t a, int32_t b)
{
    return w[a] > w[b] || (w[a] == w[b] && a < b);
}

/* The k first of order[0..n) to its front, in any order (quickselect, deterministic pivots). */
static void select_first(const float *w, int32_t *order, size_t n, size_t k)
{
    size_t low = 0, high = n;
    while (high - low > 1 && k > low && k < high) {
        int32_t a = order[low], b = order[low + (high - low) / 2], c = order[high - 1];
        int32_t pivot = before(w, a, b) ? (before(w, b, c)   ? b
                                           : before(w, a, c) ? c
                                                             : a)
                                        : (before(w, a, c)   ? a
                                           : before(w, b, c) ? c
                                                             : b);
        size_t i = low, j = high - 1;
        for (;;) {
            while (before(w, order[i], pivot)) i++;
            while (before(w, pivot, order[j])) j--;
            if (i >= j) break;
            int32_t t = order[i];
            order[i++] = order[j];
            order[j--] = t;
        }
        size_t split = j + 1; /* order[low..split) come before or are the pivot */
        if (split >= high) split = high - 1;
        if (k <= split)
            high = split;
        else
            low = split;
    }
}

static int by_weight(const void *a, const void *b, void *weights)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x == y ? 0 : before(weights, x, y) ? -1 : 1;
}

static double total(const struct sampler *s, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)s->weights[s->order[i]];
    return sum;
}

/* Draw from the first n of order, in that order, by inverse distribution. */
static int32_t draw_token(const struct sampler *s, size_t n, double u)
{
    double left = u * total(s, n);
    for (size_t i = 0; i < n; i++) {
        left -= (double)s->weights[s->order[i]];
        if (left < 0) return s->order[i];
    }
    return s->order[n - 1];
}

/* The smallest set of most likely tokens that holds top_p of `mass`: its size; order is sorted so
 * far. */
static size_t nucleus(struct sampler *s, size_t n, double mass, float top_p)
{
    for (size_t k = 64;; k *= 8) {
        if (k > n) k = n;
        select_first(s->weights, s->order, n, k);
        qsort_r(s->order, k, sizeof *s->order, by_weight, s->weights);
        double sum = 0;
        for (size_t i = 0; i < k; i++) {
            sum += (double)s->weights[s->order[i]];
            if (sum >= (double)top_p * mass) return i + 1;
        }
        if (k == n) return n;
    }
}

/* The logits at a temperature, less the largest: none overflows, however cold. */
static void scale_logits(struct sampler *s, const float *logits, float temperature)
{
    float top = logits[largest(logits, s->n_vocab)];
    for (size_t i = 0; i < s->n_vocab; i++) s->weights[i] = (logits[i] - top) / temperature;
}

/* From what top_k and top_p leave. */
static int32_t draw_from_best(struct sampler *s, const float *logits,
                              const struct siren_sampling *sampling, double u)
{
    size_t n = s->n_vocab, k = n;
    scale_logits(s, logits, sampling->temperature);
    s->kernels->exps(s->weights, s->weights, n);
    for (size_t i = 0; i < n; i++) s->order[i] = (int32_t)i;
    if (sampling->top_k > 0 && (size_t)sampling->top_k < n) {
        k = (size_t)sampling->top_k;
        select_first(s->weights, s->order, n, k);
        qsort_r(s->order, k, sizeof *s->order, by_weight, s->weights);
    }
    if (sampling->top_p < 1) k = nucleus(s, k, total(s, k), sampling->top_p);
    return draw_token(s, k, u);
}

int32_t sampler_draw(struct sampler *s, const float *logits, const struct siren_sampling *sampling,
                     uint64_t sequence, uint64_t position, float *logprob)
{
    size_t n = s->n_vocab;
    double u = siren_random_uniform(sampling->seed, sequence, position);
    float log_sum = s->kernels->logsumexp(logits, n);
    int cut = sampling->top_p < 1 || (sampling->top_k > 0 && (size_t)sampling->top_k < n);
    int32_t id;
    if (!(sampling->temperature > 0)) {
        id = largest(logits, n);
    } else if (cut) {
        id = draw_from_best(s, logits, sampling, u);
    } else if (sampling->temperature == 1) {
        id = draw_from_all(s, logits, log_sum, u);
    } else {
        scale_logits(s, logits, sampling->temperature);
        id = draw_from_all(s, s->weights, s->kernels->logsumexp(s->weights, n), u);
    }
    *logprob = logits[id] - log_sum;
    return id;
}
