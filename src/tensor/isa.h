/* The tables of the instruction sets that this build holds; dispatch.c chooses among them. */
#ifndef SIREN_TENSOR_ISA_H
#define SIREN_TENSOR_ISA_H

#include "tensor/kernels.h"

extern const struct kernels kernels_portable;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
#endif

#endif
