/* The tables of the instruction sets that this build holds; dispatch.c chooses among them. */
#ifndef SIREN_TENSOR_ISA_H
#define SIREN_TENSOR_ISA_H

#include "tensor/kernels.h"

/* What mode bf16 replaces in the table of a set; dispatch.c takes the rest from that of f32. */
struct bf16_kernels {
    void (*gemm)(const float *x, size_t ldx, int T, const struct packed *w, int panel0, int panel1,
                 const float *bias, float *y, size_t ldy, int add, float *scratch);
    void (*gemm_swiglu)(const float *x, size_t ldx, int T, const struct packed *w, int pair0,
                        int pair1, float *h, size_t ldh, float *gates, size_t ldg, float *scratch);
    void (*gemm_dx)(const float *dy, size_t ldy, int T, const struct packed *w, int panel0,
                    int panel1, float *dx, size_t ldx, int add, float *scratch);
    float (*fma_loop)(long turns);
    int fma_loop_flops;
};

/* Of AMX: its tiles, and the model of them in C. */
extern const struct bf16_kernels bf16_portable, bf16_amx_model;
extern const struct kernels kernels_portable;
#if defined(__x86_64__)
extern const struct bf16_kernels bf16_avx2, bf16_avx512, bf16_amx;
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
#endif

#endif
