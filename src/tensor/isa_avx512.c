/* AVX-512 (F, BW, VL, DQ).  32 registers: a tile of 12 rows and 32 columns keeps 24 sums. */
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tensor/isa.h"
#include "tensor/packed.h"
#include "tensor/v16_avx512.h"

#define ISA_TABLE kernels_avx512
#define ISA_BF16 bf16_avx512
#define ISA_BF16_ATTENTION bf16_attention_avx512
#define ISA_AMX_PRODUCTS bf16_amx
#define ISA_AMX_ATTENTION bf16_attention_amx
#define ISA_THIS ISA_AVX512
#define ISA_NAME "avx512"
#define TILE_ROWS 12
#define TILE_PANELS 2
#define WIDE(R) 4
#define WIDE_BLOCKS(R) 4
#define FEW_MOST_BLOCKS 8
#define BF16_FEW 8
#define BF16_WIDE(R) ((R) < 4 ? 4 : 2)
#define AMX_WIDE 4
#define AMX_WIDE_BLOCKS 2
#define ATTENTION_WIDE 1
#define FMA_CHAINS 12
#define UNROLL _Pragma("GCC unroll 32")

#include "tensor/v16_math.h"

#include "tensor/rows_kernels.h"

#include "tensor/gemm_kernels.h"

#include "tensor/bf16_avx512.h"

#include "tensor/bf16_gemm_kernels.h"

#include "tensor/amx_tiles.h"

#include "tensor/amx_few_kernels.h"

#include "tensor/amx_gemm_kernels.h"

#include "tensor/attention_kernels.h"

#include "tensor/backward_kernels.h"

#include "tensor/attention_backward.h"

#include "tensor/bf16_attention_kernels.h"

#include "tensor/amx_attention_kernels.h"

#include "tensor/kernels_table.h"
#endif
