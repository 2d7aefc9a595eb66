/* Plain C with fmaf(): the model of the contract, for every machine. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tensor/isa.h"
#include "tensor/packed.h"
#include "tensor/v16_portable.h"

#define ISA_TABLE kernels_portable
#define ISA_BF16 bf16_portable
#define ISA_BF16_ATTENTION bf16_attention_portable
#define ISA_AMX_PRODUCTS bf16_amx_model
#define ISA_AMX_ATTENTION bf16_attention_amx_model
#define ISA_THIS ISA_PORTABLE
#define ISA_NAME "portable"
#define TILE_ROWS 4
#define TILE_PANELS 1
#define WIDE(R) 2
#define WIDE_BLOCKS(R) 2
#define FEW_MOST_BLOCKS 4
#define BF16_FEW 4
#define BF16_WIDE(R) 2
#define AMX_WIDE 2
#define AMX_WIDE_BLOCKS 2
#define ATTENTION_WIDE 0
#define FMA_CHAINS 4
#define UNROLL

#include "tensor/v16_math.h"

#include "tensor/rows_kernels.h"

#include "tensor/gemm_kernels.h"

#include "tensor/bf16_portable.h"

#include "tensor/bf16_gemm_kernels.h"

#include "tensor/amx_model.h"

#include "tensor/amx_few_kernels.h"

#include "tensor/amx_gemm_kernels.h"

#include "tensor/attention_kernels.h"

#include "tensor/backward_kernels.h"

#include "tensor/attention_backward.h"

#include "tensor/bf16_attention_kernels.h"

#include "tensor/amx_attention_kernels.h"

#include "tensor/kernels_table.h"
