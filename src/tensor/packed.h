/* Layout of packed weights, shared by pack.c and the decoders.
 *
 * A panel is K steps of 16 columns; column c of step k in a panel of
 *   F32, F16         element k·16 + c
 *   BF16             half k%2 of word k/2·16 + c: the pairs of mode bf16; behind an odd K zeros
 *   Q4, Q4S          block k/32 of 384 bytes: float d[16], float m[16], uint32 q[4][16], where
 *                    bits 4j … 4j+3 of q[g][c] belong to step 8g + j
 *   Q8               block k/16 of 384 bytes: float d[16], float m[16], int8 q[16][16]
 * Value: d·q + m, q of Q4S counted from -8.  Formats without a minimum have m = -0.0, so that a
 * product of zero keeps its sign as in the source. */
#ifndef SIREN_TENSOR_PACKED_H
#define SIREN_TENSOR_PACKED_H

#include <stdint.h>

#include "tensor/kernels.h"

#define Q4_STEPS 32
#define Q8_STEPS 16

struct q4_block {
    float d[16], m[16];
    uint32_t q[4][16];
};
struct q8_block {
    float d[16], m[16];
    int8_t q[16][16];
};

static inline const unsigned char *packed_panel(const struct packed *w, int panel)
{
    return w->data + (size_t)panel * w->panel_bytes;
}

/* The caller's scratch for gemm: sums of a block of rows and two panels, decoded weights. */
#define GEMM_ROWS 384             /* rows of X in a block, at most */
#define GEMM_NUMBERS (200 * 1024) /* of X in a block, at most; mode bf16, half as large: twice */
#define GEMM_STEPS 384            /* steps of k in a block of W */
#define GEMM_WEIGHTS (2 * GEMM_STEPS * 32) /* AMX decodes the next panels while it multiplies */
#define GEMM_SCRATCH (GEMM_ROWS * 32 + GEMM_WEIGHTS + 16)

/* Rows of a pass that a thread is best given at a time (kernels.block_rows), but for AMX. */
#define BLOCK_ROWS 96

/* … for gemm_dx over so many columns n that it goes by parts of them: such a part of a block's rows
 * (mode bf16: as pairs), all sums. */
#define DX_PARTS_FROM 2048
#define DX_PARTS_ROWS 256

/* … and for attention: the tile's queries (later its outputs), its scores, and these as words.  A
 * tile has at most so many rows; AMX, which loads and stores sixteen at a time, touches as many as
 * that behind the last, too. */
#define ATTENTION_TILE 32
#define ATTENTION_SPACE (ATTENTION_TILE + 16)
#define ATTENTION_MAX_D 512

/* … for gemm_dw: sums of a block of W, then packed blocks of dY (a register longer) and, in mode
 * f32, of X. */
#define DW_ROWS 96     /* rows of W in a block */
#define DW_COLUMNS 384 /* columns of W in a block: dY is packed for each */
#define DW_STEPS 256   /* tokens in a block */
/* In mode bf16: words of a row of dYᵀ.  No multiple of a page, whose lines would fall into few sets
 * of a cache. */
#define DW_ROW_PAIRS (DW_STEPS / 2 + 16)
#define DW_COLUMNS_AMX 768 /* … on AMX, whose second cache is larger */
#define DW_SCRATCH (DW_ROWS * DW_COLUMNS_AMX + DW_ROWS * DW_ROW_PAIRS + 16)
_Static_assert(DW_SCRATCH >= DW_ROWS * DW_COLUMNS + DW_STEPS * DW_ROWS + 16 + DW_STEPS * 32 + 16,
               "mode f32 needs less");

/* dY's column for row n of W (kernels.h). */
static inline int dw_column(int n, int apart)
{
    return n / 16 * apart + n % 16;
}

/* … and for attention's gradient: the rows of a block, queries and dout, a tile's dQ, then P and dS
 * of the block.  On AMX more rows share a load and a store of a page's sums. */
#define BACK_ROWS 48
#define BACK_ROWS_AMX 96
#define BACK_ROWS_MOST (BACK_ROWS > BACK_ROWS_AMX ? BACK_ROWS : BACK_ROWS_AMX)
_Static_assert(BACK_ROWS_AMX % 32 == 0, "whole blocks of the chains over rows");

#endif
