/* Where a pass spends its time: each kind of work of a model alone, on its own weights, beside the
 * peak of the same cores and the rate at which weights are read.
 *
 *   build/bench/bench_layers --model M [--isa X] [--compute f32|bf16] [--threads N]
 *
 * For one row, 32 rows (threads share the columns, as a narrow pass does) and 96 rows a thread (a
 * wide pass): the products of all layers in turn, so that weights come from where they would;
 * attention over 320 positions; norms, rotation and activations together.  Medians of rounds.
 * The head counts for one row in each 320 in wide passes, for every row in narrow ones. */
#include "bench.h"

#include <math.h>

#include "base/alloc.h"
#include "model/model.h"

enum kind { QKV, OUT, FFN_IN, FFN_OUT, HEAD, ATTENTION, ROWS, KINDS };
static const char *const kind_names[KINDS] = {"queries, keys, values",
                                              "attention's output",
                                              "FFN in and activation",
                                              "FFN out",
                                              "head",
                                              "attention",
                                              "norms and rotation"};
enum { ROUNDS = 5, CONTEXT = 320, MOST_ROWS = 96, PAGES = CONTEXT / ATTENTION_PAGE };

struct space {
    float *x, *y, *scratch, *pages;
};

struct work {
    const struct siren_model *model;
    const struct kernels *kernels;
    struct space space[256];
    float *angles; /* cosines, which serve as sines, too */
    enum kind kind;
    int T, wide;
};

static int is_encoder(const struct work *w)
{
    return siren_is_encoder(&w->model->config);
}

static const struct packed *matrix(const struct work *w, enum kind kind, int layer)
{
    const struct layer_weights *l = &w->model->layers[layer];
    return kind == QKV       ? &l->qkv
           : kind == OUT     ? &l->out
           : kind == FFN_IN  ? &l->ffn_in
           : kind == FFN_OUT ? &l->ffn_out
                             : &w->model->head;
}

/* ---- one thread's part of one layer ---- */

static void multiply(const struct work *w, const struct space *s, int layer, int thread,
                     int n_threads)
{
    const struct packed *m = matrix(w, w->kind, layer);
    const struct kernels *k = w->kernels;
    int gated = w->kind == FFN_IN && !is_encoder(w), n = gated ? m->n_panels / 2 : m->n_panels;
    int from = w->wide ? 0 : (int)((long)n * thread / n_threads);
    int to = w->wide ? n : (int)((long)n * (thread + 1) / n_threads);
    size_t ldx = (size_t)m->k, ldy = (size_t)n * 16;
    if (gated) {
        k->gemm_swiglu(s->x, ldx, w->T, m, from, to, s->y + from * 16, ldy, NULL, 0, s->scratch);
        return;
    }
    k->gemm(s->x, ldx, w->T, m, from, to, NULL, s->y + from * 16, ldy, 0, s->scratch);
    if (w->kind == FFN_IN) k->gelu(s->y, (size_t)w->T * (size_t)(to - from) * 16);
}

/* T rows at the end of CONTEXT positions, 16 tokens a call, all heads. */
static void attend(const struct work *w, const struct space *s, int thread, int n_threads)
{
    const struct siren_config *c = &w->model->config;
    size_t D = (size_t)c->head_dim, Q = (size_t)config_q_width(c), offsets[48];
    int counts[48], group = c->n_heads / c->n_kv_heads, most = 48 / group;
    const float *keys[PAGES], *values[PAGES];
    for (int p = 0; p < PAGES; p++) {
        keys[p] = s->pages + (size_t)p * 2 * ATTENTION_PAGE * D;
        values[p] = keys[p] + ATTENTION_PAGE * D;
    }
    for (int head = 0; head < c->n_kv_heads; head++)
        for (int t = 0, n, task = head; t < w->T; t += n, task++) {
            n = w->T - t < most ? w->T - t : most;
            if (!w->wide && task % n_threads != thread) continue;
            for (int i = 0; i < n * group; i++) {
                offsets[i] = (size_t)(i / group) * Q + (size_t)(head * group + i % group) * D;
                counts[i] = w->wide ? CONTEXT / 2 : CONTEXT; /* half on average */
            }
            w->kernels->attention(s->x + (size_t)t * Q, offsets, counts, n * group, keys, values,
                                  PAGES, NULL, 0, (int)D, 1.0f / sqrtf((float)D),
                                  s->y + (size_t)t * Q, s->scratch);
        }
}

static void rows(const struct work *w, const struct space *s, int thread, int n_threads)
{
    const struct siren_config *c = &w->model->config;
    size_t d = (size_t)c->d_model, D = (size_t)c->head_dim;
    int from = w->wide ? 0 : w->T * thread / n_threads;
    int to = w->wide ? w->T : w->T * (thread + 1) / n_threads;
    const struct layer_weights *l = &w->model->layers[0];
    for (int i = 0; i < 2; i++) {
        const float *x = s->x + (size_t)from * d;
        float *y = s->y + (size_t)from * d;
        if (is_encoder(w))
            w->kernels->layernorm(x, d, to - from, c->d_model, l->ffn_norm, l->ffn_norm_bias,
                                  c->norm_eps, y, d);
        else
            w->kernels->rmsnorm(x, d, to - from, c->d_model, l->ffn_norm, c->norm_eps, y, d);
    }
    for (int t = from; t < to; t++) {
        for (int h = 0; h < c->n_heads + c->n_kv_heads && !is_encoder(w); h++)
            w->kernels->rope(s->y + (size_t)h * D, (int)D, w->angles, w->angles);
        for (int h = 0; h < c->n_kv_heads; h++)
            w->kernels->page_store(s->pages, s->pages + ATTENTION_PAGE * D, (int)D,
                                   t % ATTENTION_PAGE, 1, s->x, D, s->x + D, D);
    }
}

static void job(void *context, int thread, int n_threads)
{
    struct work *w = context;
    const struct space *s = &w->space[thread];
    int layers = w->kind == HEAD ? 1 : w->model->config.n_layers;
    for (int l = 0; l < layers; l++)
        if (w->kind == ATTENTION)
            attend(w, s, thread, n_threads);
        else if (w->kind == ROWS)
            rows(w, s, thread, n_threads);
        else
            multiply(w, s, l, thread, n_threads);
}

/* ---- totals ---- */

/* Operations for a row in all layers. */
static double flops_of_row(const struct work *w, enum kind kind)
{
    const struct siren_config *c = &w->model->config;
    double layers = c->n_layers, context = w->wide ? CONTEXT / 2 : CONTEXT;
    if (kind == ROWS) return 0;
    if (kind == ATTENTION) return layers * 4 * config_q_width(c) * context;
    const struct packed *m = matrix(w, kind, 0);
    return (kind == HEAD ? 1 : layers) * 2 * m->n * (double)m->k;
}

static double weight_bytes(const struct work *w, enum kind kind)
{
    if (kind > HEAD) return 0;
    const struct packed *m = matrix(w, kind, 0);
    return (kind == HEAD ? 1 : w->model->config.n_layers) * (double)m->panel_bytes * m->n_panels;
}

static double seconds_of(struct bench *b, struct work *w, enum kind kind)
{
    double times[ROUNDS];
    w->kind = kind;
    for (int i = -1; i < ROUNDS; i++) {
        double start = clock_seconds();
        siren_pool_run(b->pool, job, w);
        if (i >= 0) times[i] = clock_seconds() - start;
    }
    return median(times, ROUNDS);
}

static void table(struct bench *b, struct work *w, int T, int wide, double peak)
{
    double seconds[KINDS], total = 0;
    int n_threads = siren_pool_threads(b->pool), n_rows = wide ? T * n_threads : T;
    w->T = T;
    w->wide = wide;
    for (int kind = 0; kind < KINDS; kind++) {
        seconds[kind] = kind == HEAD && is_encoder(w) ? 0 : seconds_of(b, w, (enum kind)kind);
        if (kind == HEAD && wide) seconds[kind] /= CONTEXT;
        total += seconds[kind];
    }
    printf("\n%d rows%s, %.0f rows/s\n\n| work | share of time | GFLOP/s | of the peak | weights, "
           "GB/s |\n|---|---|---|---|---|\n",
           T, wide ? " a thread" : "", n_rows / total);
    for (int kind = 0; kind < KINDS; kind++) {
        if (!(seconds[kind] > 0)) continue;
        double scale = kind == HEAD && wide ? CONTEXT : 1;
        double rate = flops_of_row(w, (enum kind)kind) * n_rows / scale / seconds[kind] / 1e9;
        printf("| %s | %.1f %% |", kind_names[kind], 100 * seconds[kind] / total);
        if (rate > 0)
            printf(" %.1f | %.0f %% |", rate, 100 * rate / peak);
        else
            printf(" | |");
        if (kind <= HEAD && !wide)
            printf(" %.1f |\n", weight_bytes(w, (enum kind)kind) / seconds[kind] / 1e9);
        else
            printf(" |\n");
    }
    fflush(stdout);
}

static float *filled(struct bench *b, size_t n)
{
    float *x = alloc_aligned(n, sizeof *x);
    if (!x) siren_fail_memory(&b->err, "a benchmark's rows", n * sizeof *x), stop(b);
    for (size_t i = 0; i < n; i++) x[i] = (float)((double)(i * 2654435761u % 1000) / 1e5 - 5e-3);
    return x;
}

/* As a pass would: what floats are in pairs of bf16 may be no numbers, or slow ones. */
static void fill_pages(const struct work *w, const struct space *s, size_t width)
{
    size_t D = (size_t)w->model->config.head_dim;
    for (size_t i = 0; i < CONTEXT; i++) {
        float *page = s->pages + i / ATTENTION_PAGE * 2 * ATTENTION_PAGE * D;
        const float *x = s->x + i % MOST_ROWS * width;
        w->kernels->page_store(page, page + ATTENTION_PAGE * D, (int)D, i % ATTENTION_PAGE, 1, x, D,
                               x + D, D);
    }
}

static void make_space(struct bench *b, struct work *w)
{
    const struct siren_config *c = &w->model->config;
    size_t widest = 2 * (size_t)config_ffn_stride(c), scratch = attention_scratch(48, PAGES);
    if (widest < (size_t)config_qkv_width(c)) widest = (size_t)config_qkv_width(c);
    for (int kind = 0; kind <= HEAD; kind++) {
        if (kind == HEAD && is_encoder(w)) continue;
        size_t need = gemm_scratch(matrix(w, (enum kind)kind, 0));
        if (need > scratch) scratch = need;
    }
    size_t y = MOST_ROWS * (widest > (size_t)c->n_vocab ? widest : (size_t)c->n_vocab);
    for (int i = 0; i < siren_pool_threads(b->pool); i++) {
        w->space[i] =
            (struct space){filled(b, MOST_ROWS * widest), filled(b, y + 16), filled(b, scratch),
                           filled(b, 2 * (size_t)CONTEXT * (size_t)c->head_dim)};
        fill_pages(w, &w->space[i], widest);
    }
    w->angles = filled(b, (size_t)c->head_dim);
}

int main(int argc, char **argv)
{
    struct bench b = {.program = "bench_layers"};
    static struct work w;
    parse(&b, argc, argv, 1);
    if (!b.model_path) siren_fail(&b.err, SIREN_EINVAL, "no --model"), stop(&b);
    if (siren_pool_create(&b.pool, b.threads, &b.err)) stop(&b);
    open_model(&b);
    w.model = b.model;
    w.kernels = chosen_kernels(&b);
    make_space(&b, &w);
    double peak = peak_gflops(&b, w.kernels);
    printf("%s, %s, mode %s, %d threads, peak %.0f GFLOP/s\n", argv[0], w.kernels->name,
           compute_name(w.kernels->compute), siren_pool_threads(b.pool), peak);
    if (!is_encoder(&w)) {
        table(&b, &w, 1, 0, peak);
        table(&b, &w, 32, 0, peak);
    }
    table(&b, &w, MOST_ROWS, 1, peak);
    siren_engine_free(b.engine);
    siren_model_free(b.model);
    siren_pool_free(b.pool);
    return 0;
}
