/* GEMM of one core beside the FMA peak of the same core and OpenBLAS.
 *
 *   build/bench/bench_gemm [ISA …]        portable, avx2, avx512, amx; all but portable by default;
 *                                        each in both modes
 *
 * Figures are medians over alternating rounds of thread CPU time, in GFLOP/s and as a share of
 * the measured peak (the set's own loop of FMAs in registers).  OPENBLAS_CORETYPE=Haswell holds
 * OpenBLAS to AVX2.  dx and dw are the gradients of the same product (as many operations).  For one
 * row the figure that counts is the rate at which weights are read. */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "siren/random.h"
#include "tensor/kernels.h"

void openblas_set_num_threads(int n);

enum { ROUNDS = 9, MOST_T = 320 };
enum kind { F32, Q4, DX_F32, DX_Q4, DW, OPENBLAS, KINDS };
static const char *const kind_names[KINDS] = {"f32", "q4", "dx f32", "dx q4", "dw", "openblas"};

struct problem {
    int T, N, K;
    float *x, *y, *dx, *dw, *scratch;
    const float *dense; /* (N, K) */
    struct packed f32, q4, q8;
};

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One call.  The gradients read y as dY. */
static void multiply(const struct problem *p, const struct kernels *k, enum kind kind)
{
    const struct packed *w = kind == Q4 || kind == DX_Q4 ? &p->q4 : &p->f32;
    size_t n = (size_t)p->N, width = (size_t)p->K;
    switch (kind) {
    case DX_F32:
    case DX_Q4:
        k->gemm_dx(p->y, n, p->T, w, 0, (p->K + 15) / 16, p->dx, width, 0, p->scratch);
        break;
    case DW: /* with what X costs to be kept */
        k->keep_inputs(p->x, width, 0, p->T, p->T, p->K, p->dx);
        k->gemm_dw(p->y, n, 16, p->dx, p->T, 0, p->N, p->K, p->dw, width, 1, p->scratch);
        break;
    case OPENBLAS:
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, p->T, p->N, p->K, 1.0f, p->x, p->K,
                    p->dense, p->K, 0.0f, p->y, p->N);
        break;
    default:
        k->gemm(p->x, width, p->T, w, 0, w->n_panels, NULL, p->y, n, 0, p->scratch);
    }
}

static double seconds_a_call(const struct problem *p, const struct kernels *k, enum kind kind)
{
    double flops = 2.0 * p->T * (double)p->N * p->K;
    int calls = (int)(2e8 / flops) + 1;
    double start = cpu_seconds();
    for (int i = 0; i < calls; i++) multiply(p, k, kind);
    return (cpu_seconds() - start) / calls;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench_problem(const struct problem *p, const struct kernels *k, double peak)
{
    double times[KINDS][ROUNDS];
    for (int i = 0; i < KINDS; i++) seconds_a_call(p, k, (enum kind)i);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < KINDS; i++) times[i][round] = seconds_a_call(p, k, (enum kind)i);
    printf("%-8s %-4s T %3d  N %5d  K %4d ", k->name, compute_name(k->compute), p->T, p->N, p->K);
    for (int i = 0; i < KINDS; i++) {
        qsort(times[i], ROUNDS, sizeof **times, by_size);
        double rate = 2e-9 * p->T * (double)p->N * p->K / times[i][ROUNDS / 2];
        printf("  %s %6.1f (%3.0f %%)", kind_names[i], rate, 100 * rate / peak);
    }
    printf("\n");
    fflush(stdout);
}

static int make_problem(struct problem *p, int N, int K)
{
    size_t n = (size_t)N, k = (size_t)K, blocks = n * k / 32;
    unsigned char *q = alloc_array(blocks, 34);
    float *dense = alloc_aligned(n * k, sizeof(float));
    *p = (struct problem){.N = N, .K = K, .dense = dense};
    p->x = alloc_aligned(MOST_T * k, sizeof(float));
    p->y = alloc_aligned(MOST_T * n, sizeof(float));
    p->dx = alloc_aligned((MOST_T + 64) * k, sizeof(float)); /* dW: X as it is read, any mode */
    p->dw = alloc_zeroed(n * k, sizeof(float));
    int failed = packed_alloc(&p->f32, PACKED_F32, N, K, NULL) ||
                 packed_alloc(&p->q4, PACKED_Q4, N, K, NULL) ||
                 packed_alloc(&p->q8, PACKED_Q8, N, K, NULL);
    size_t most = gemm_dw_scratch();
    const struct packed *packed[] = {&p->f32, &p->q4, &p->q8};
    for (int i = 0; i < 3 && !failed; i++) {
        if (gemm_scratch(packed[i]) > most) most = gemm_scratch(packed[i]);
        if (gemm_dx_scratch(packed[i]) > most) most = gemm_dx_scratch(packed[i]);
    }
    p->scratch = alloc_aligned(most, sizeof(float));
    if (failed || !q || !dense || !p->x || !p->y || !p->dx || !p->dw || !p->scratch) return -1;
    for (size_t i = 0; i < blocks * 34; i++) q[i] = (unsigned char)(i * 2654435761u >> 13);
    for (size_t b = 0; b < blocks; b++) { /* d and m as halves near 0.01; Q8_0 has d only */
        q[b * 20 + 1] = q[b * 20 + 3] = 0x21;
    }
    struct tensor t = {.type = TENSOR_Q4_1, .n_dims = 2, .shape = {N, K}, .data = q};
    tensor_dequantize(&t, 0, (int64_t)(n * k), dense);
    packed_fill(&p->q4, 0, &t, 0, N);
    packed_fill(&p->f32, 0, &t, 0, N);
    for (size_t b = 0; b < blocks; b++) q[b * 34 + 1] = 0x21;
    t.type = TENSOR_Q8_0;
    packed_fill(&p->q8, 0, &t, 0, N);
    for (size_t i = 0; i < MOST_T * k; i++) p->x[i] = (float)siren_random_normal(1, 1, i);
    free(q);
    return 0;
}

static void free_problem(struct problem *p)
{
    packed_free(&p->f32);
    packed_free(&p->q4);
    packed_free(&p->q8);
    free((void *)(uintptr_t)p->dense);
    free(p->x);
    free(p->y);
    free(p->dx);
    free(p->dw);
    free(p->scratch);
}

/* One row against a matrix that no cache holds: bytes of weights a second. */
static void bench_stream(const struct kernels *k)
{
    struct problem p;
    if (make_problem(&p, 49152, 576)) {
        fprintf(stderr, "bench_gemm: out of memory\n");
        return;
    }
    size_t count = (size_t)p.N * (size_t)p.K;
    p.T = 1;
    double copy = 1e9, best[3] = {1e9, 1e9, 1e9};
    const struct packed *w[3] = {&p.f32, &p.q4, &p.q8};
    volatile float keep = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = cpu_seconds();
        keep = keep + k->logsumexp(p.dense, count);
        double taken = (cpu_seconds() - start) / 2; /* it passes twice over its numbers */
        if (taken < copy) copy = taken;
        for (int i = 0; i < 3; i++) {
            double start_call = cpu_seconds();
            k->gemm(p.x, (size_t)p.K, 1, w[i], 0, w[i]->n_panels, NULL, p.y, (size_t)p.N, 0,
                    p.scratch);
            double seconds = cpu_seconds() - start_call;
            if (seconds < best[i]) best[i] = seconds;
        }
    }
    printf("%-8s %-4s one row, %d x %d from memory (GB/s of weights, ms):  f32 %.1f, %.2f", k->name,
           compute_name(k->compute), p.N, p.K, 4e-9 * (double)count / best[0], 1e3 * best[0]);
    for (int i = 1; i < 3; i++) {
        double bytes = (double)w[i]->panel_bytes * w[i]->n_panels;
        printf("  %s %.1f, %.2f", i == 1 ? "q4" : "q8", 1e-9 * bytes / best[i], 1e3 * best[i]);
    }
    printf("  (a plain pass of logsumexp: %.1f)\n", 4e-9 * (double)count / copy);
    free_problem(&p);
}

static int bench_mode(enum isa isa, enum compute compute)
{
    static const int shapes[][2] = {{576, 576}, {3072, 576}, {576, 1536}};
    static const int heights[] = {1, 4, 8, 16, 32, 96, 320};
    struct siren_error err;
    const struct kernels *k = kernels_select_compute(isa, compute, &err);
    if (!k) {
        printf("%s\n", err.message);
        return 0;
    }
    double peak = kernels_peak_gflops(k, 0.2);
    printf("%-8s %-4s peak of one core %.1f GFLOP/s\n", k->name, compute_name(compute), peak);
    for (int s = 0; s < 3; s++) {
        struct problem p;
        if (make_problem(&p, shapes[s][0], shapes[s][1])) {
            fprintf(stderr, "bench_gemm: out of memory\n");
            return 1;
        }
        for (size_t i = 0; i < sizeof heights / sizeof *heights; i++) {
            p.T = heights[i];
            bench_problem(&p, k, peak);
        }
        free_problem(&p);
    }
    bench_stream(k);
    return 0;
}

static int bench_isa(enum isa isa)
{
    return bench_mode(isa, COMPUTE_F32) || bench_mode(isa, COMPUTE_BF16);
}

int main(int argc, char **argv)
{
    openblas_set_num_threads(1);
    printf("machine: %s\n", isa_describe());
    if (argc < 2) return bench_isa(ISA_AVX2) || bench_isa(ISA_AVX512) || bench_isa(ISA_AMX);
    for (int i = 1; i < argc; i++) {
        struct siren_error err;
        enum isa isa;
        if (isa_parse(argv[i], &isa, &err)) {
            fprintf(stderr, "bench_gemm: %s\n", err.message);
            return 2;
        }
        if (bench_isa(isa)) return 1;
    }
    return 0;
}
