/* The tables of the instruction sets that this build holds; dispatch.c chooses among them. */
#ifndef SIREN_TENSOR_ISA_H
#define SIREN_TENSOR_ISA_H

#include "tensor/kernels.h"

/* What mode bf16 replaces in the table of a set; dispatch.c takes the rest from that of f32. */
struct bf16_kernels {
    int tile_rows, block_rows;
    gemm_fn *gemm;
    gemm_swiglu_fn *gemm_swiglu;
    gemm_dx_fn *gemm_dx;
    keep_inputs_fn *keep_inputs;
    gemm_dw_fn *gemm_dw;
    float (*fma_loop)(long turns);
    int fma_loop_flops;
};

/* … and these, with pages that are their own. */
struct bf16_attention {
    page_store_fn *page_store;
    attention_fn *attention;
    page_mirror_fn *page_mirror;
    attention_backward_fn *attention_backward;
};

/* Of AMX: its tiles, and the model of them in C. */
extern const struct bf16_kernels bf16_portable, bf16_amx_model;
extern const struct bf16_attention bf16_attention_portable, bf16_attention_amx_model;
extern const struct kernels kernels_portable;
#if defined(__x86_64__)
extern const struct bf16_kernels bf16_avx2, bf16_avx512, bf16_amx;
extern const struct bf16_attention bf16_attention_avx2, bf16_attention_avx512, bf16_attention_amx;
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
#endif

#endif
