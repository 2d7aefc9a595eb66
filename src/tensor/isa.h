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

/* … and these, which AMX takes from AVX-512: its tiles of sixteen rows would be filled by a
 * prompt's queries, but not by those of one token. */
struct bf16_attention {
    void (*page_store)(float *page_k, float *page_v, int D, int slot, const float *k,
                       const float *v);
    void (*attention)(const float *q, const size_t *q_offset, const int *counts, int R,
                      const float *const *pages_k, const float *const *pages_v, int n_shared,
                      const struct attention_branch *branches, int n_branches, int D, float scale,
                      float *out, float *scratch);
    void (*page_mirror)(const float *page_k, const float *page_v, int D, float *mirror_k,
                        float *mirror_v);
    void (*attention_backward)(const float *q, const float *dout, const size_t *q_offset,
                               const int *counts, int R, const struct attention_pages *pages,
                               int n_pages, int D, float scale, float *dq, int add, float *scratch);
};

/* Of AMX: its tiles, and the model of them in C. */
extern const struct bf16_kernels bf16_portable, bf16_amx_model;
extern const struct bf16_attention bf16_attention_portable;
extern const struct kernels kernels_portable;
#if defined(__x86_64__)
extern const struct bf16_kernels bf16_avx2, bf16_avx512, bf16_amx;
extern const struct bf16_attention bf16_attention_avx2, bf16_attention_avx512;
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
#endif

#endif
