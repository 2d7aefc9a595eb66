/* The table of one instruction set; the last thing that an isa_*.c includes. */

/* A loop of independent FMAs in registers: 2·16·FMA_CHAINS operations a turn.  The starts differ
 * in every lane, or a compiler may compute two registers as one. */
static float fma_loop(long turns)
{
    float starts[16 * FMA_CHAINS];
    for (int i = 0; i < 16 * FMA_CHAINS; i++) starts[i] = (float)i;
    v16 acc[FMA_CHAINS], a = v16_set1(0.999999f), b = v16_set1(1e-6f);
    UNROLL for (int i = 0; i < FMA_CHAINS; i++) acc[i] = v16_load(starts + 16 * i);
    for (long t = 0; t < turns; t++)
        UNROLL for (int i = 0; i < FMA_CHAINS; i++) acc[i] = v16_fma(acc[i], a, b);
    v16 sum = v16_zero();
    UNROLL for (int i = 0; i < FMA_CHAINS; i++) sum = v16_add(sum, acc[i]);
    return v16_sum(sum);
}

const struct kernels ISA_TABLE = {
    .isa = ISA_THIS,
    .name = ISA_NAME,
    .tile_rows = TILE_ROWS,
    .block_rows = BLOCK_ROWS,
    .panel_decode = decode_panel,
    .gemm = gemm,
    .gemm_swiglu = gemm_swiglu,
    .swiglu = swiglu,
    .rmsnorm = rows_rmsnorm,
    .layernorm = rows_layernorm,
    .gelu = rows_gelu,
    .interleave = rows_interleave,
    .interleave_pairs = rows_interleave_pairs,
    .add = rows_add,
    .put_away = rows_put_away,
    .dropout = rows_dropout,
    .rope = rows_rope,
    .logsumexp = rows_logsumexp,
    .exps = rows_exps,
    .entropy = rows_entropy,
    .page_store = page_store,
    .attention = attention,
    .gemm_dx = gemm_dx,
    .keep_inputs = keep_inputs,
    .gemm_dw = gemm_dw,
    .gemm_dw_f32 = gemm_dw_f32,
    .column_sums = column_sums,
    .swiglu_backward = swiglu_backward,
    .rmsnorm_backward = rmsnorm_backward,
    .softmax_backward = softmax_backward,
    .adamw = adamw,
    .squares = squares,
    .page_mirror = page_mirror,
    .attention_backward = attention_backward,
    .fma_loop = fma_loop,
    .fma_loop_flops = 2 * 16 * FMA_CHAINS,
};
