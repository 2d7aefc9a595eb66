/* AVX2 with FMA and F16C.  16 registers: a tile of 6 rows and 16 columns keeps 12 sums. */
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tensor/isa.h"
#include "tensor/packed.h"
#include "tensor/v16_avx2.h"

#define ISA_TABLE kernels_avx2
#define ISA_BF16 bf16_avx2
#define ISA_BF16_ATTENTION bf16_attention_avx2
#define ISA_THIS ISA_AVX2
#define ISA_NAME "avx2"
#define TILE_ROWS 6
#define TILE_PANELS 1
#define WIDE(R) ((R) == 1 ? 4 : (R) < 4 ? 2 : 1)
#define WIDE_BLOCKS(R) ((R) == 1 ? 2 : 1)
#define FEW_MOST_BLOCKS 4
#define BF16_FEW 4
#define BF16_WIDE(R) ((R) == 1 ? 2 : 1)
#define ATTENTION_WIDE 0
#define FMA_CHAINS 6
#define UNROLL _Pragma("GCC unroll 32")

#include "tensor/v16_math.h"

#include "tensor/rows_kernels.h"

#include "tensor/gemm_kernels.h"

#include "tensor/bf16_avx2.h"

#include "tensor/bf16_gemm_kernels.h"

#include "tensor/attention_kernels.h"

#include "tensor/backward_kernels.h"

#include "tensor/attention_backward.h"

#include "tensor/bf16_attention_kernels.h"

#include "tensor/kernels_table.h"
#endif
