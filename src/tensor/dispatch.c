/* Which instruction sets this machine and its operating system can run. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "base/clock.h"
#include "tensor/isa.h"
#include "tensor/packed.h"

/* The tables, by enum isa; NULL where this build has none. */
static const struct kernels *const tables[ISA_COUNT] = {
    [ISA_PORTABLE] = &kernels_portable,
#if defined(__x86_64__)
    [ISA_AVX2] = &kernels_avx2,
    [ISA_AVX512] = &kernels_avx512,
    [ISA_AMX] = &kernels_avx512,
#endif
};

static const char *const names[ISA_COUNT] = {"portable", "avx2", "avx512", "amx"};
static const char *const compute_names[COMPUTE_COUNT] = {"f32", "bf16"};

enum feature {
    SSE2,
    AVX,
    AVX2,
    FMA,
    F16C,
    AVX512F,
    AVX512BW,
    AVX512VL,
    AVX512DQ,
    AVX512_VNNI,
    AVX512_BF16,
    AMX_TILE,
    AMX_BF16,
    AMX_INT8,
    FEATURES
};

static const char *const feature_names[FEATURES] = {
    "sse2",     "avx",      "avx2",        "fma",         "f16c",     "avx512f",  "avx512bw",
    "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"};

static struct {
    pthread_once_t once;
    unsigned has; /* a bit for each feature, usable: the system saves its registers, too */
    char text[160];
    struct kernels f32[ISA_COUNT], bf16[ISA_COUNT]; /* bf16: those of f32 with other products */
    struct kernels amx_model;
} machine = {.once = PTHREAD_ONCE_INIT};

#if defined(__x86_64__)
static unsigned long long saved_state(void)
{
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (unsigned long long)high << 32 | low;
}

static unsigned feature_bit(enum feature f, unsigned reg, int bit)
{
    return (reg >> bit & 1u) << f;
}

/* Linux saves a task's tiles only after it was asked to, once for all threads of a process. */
static int may_use_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
}

static unsigned detect(void)
{
    unsigned a, b, c, d, has = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    has |= feature_bit(SSE2, d, 26) | feature_bit(AVX, c, 28) | feature_bit(FMA, c, 12) |
           feature_bit(F16C, c, 29);
    unsigned long long state = c >> 27 & 1 ? saved_state() : 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        has |= feature_bit(AVX2, b, 5) | feature_bit(AVX512F, b, 16) |
               feature_bit(AVX512DQ, b, 17) | feature_bit(AVX512BW, b, 30) |
               feature_bit(AVX512VL, b, 31) | feature_bit(AVX512_VNNI, c, 11) |
               feature_bit(AMX_BF16, d, 22) | feature_bit(AMX_TILE, d, 24) |
               feature_bit(AMX_INT8, d, 25);
        if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
            has |= feature_bit(AVX512_BF16, a, 5);
    }
    const unsigned long long ymm = 0x6, zmm = 0xe6, tiles = 0x60000;
    if ((state & ymm) != ymm) has &= 1u << SSE2;
    if ((state & zmm) != zmm)
        has &= ~(1u << AVX512F | 1u << AVX512BW | 1u << AVX512VL | 1u << AVX512DQ |
                 1u << AVX512_VNNI | 1u << AVX512_BF16);
    if ((state & tiles) != tiles || !(has >> AMX_TILE & 1) || !may_use_tiles())
        has &= ~(1u << AMX_TILE | 1u << AMX_BF16 | 1u << AMX_INT8);
    return has;
}
#else
static unsigned detect(void)
{
    return 0;
}
#endif

static void join_bf16(struct kernels *k, const struct bf16_kernels *products,
                      const struct bf16_attention *attention)
{
    k->compute = COMPUTE_BF16;
    k->tile_rows = products->tile_rows;
    k->block_rows = products->block_rows;
    k->page_store = attention->page_store;
    k->attention = attention->attention;
    k->page_mirror = attention->page_mirror;
    k->attention_backward = attention->attention_backward;
    k->gemm = products->gemm;
    k->gemm_swiglu = products->gemm_swiglu;
    k->gemm_dx = products->gemm_dx;
    k->keep_inputs = products->keep_inputs;
    k->gemm_dw = products->gemm_dw;
    k->fma_loop = products->fma_loop;
    k->fma_loop_flops = products->fma_loop_flops;
}

static void make_bf16(enum isa isa)
{
    struct kernels *k = &machine.bf16[isa];
    *k = machine.f32[isa];
#if defined(__x86_64__)
    int dots = machine.has >> AVX512_BF16 & 1;
    if (isa == ISA_AMX)
        join_bf16(k, &bf16_amx, &bf16_attention_amx);
    else if (isa == ISA_AVX512 && dots)
        join_bf16(k, &bf16_avx512, &bf16_attention_avx512);
    else if (isa != ISA_PORTABLE)
        join_bf16(k, &bf16_avx2, &bf16_attention_avx2);
    else
#endif
        join_bf16(k, &bf16_portable, &bf16_attention_portable);
}

static void make_tables(void)
{
    for (int isa = 0; isa < ISA_COUNT; isa++) {
        if (!tables[isa]) continue;
        machine.f32[isa] = *tables[isa];
        machine.f32[isa].isa = (enum isa)isa;
        machine.f32[isa].name = names[isa];
        make_bf16((enum isa)isa);
    }
    machine.amx_model = kernels_portable;
    machine.amx_model.isa = ISA_AMX;
    machine.amx_model.name = "model of amx";
    join_bf16(&machine.amx_model, &bf16_amx_model, &bf16_attention_amx_model);
}

static void machine_init(void)
{
    machine.has = detect();
    make_tables();
    size_t used = 0;
    for (int f = 0; f < FEATURES; f++)
        if (machine.has >> f & 1)
            used += (size_t)snprintf(machine.text + used, sizeof machine.text - used, "%s%s",
                                     used ? " " : "", feature_names[f]);
}

static int machine_has(enum isa isa)
{
    pthread_once(&machine.once, machine_init);
    unsigned avx2 = 1u << AVX2 | 1u << FMA | 1u << F16C;
    unsigned avx512 = avx2 | 1u << AVX512F | 1u << AVX512BW | 1u << AVX512VL | 1u << AVX512DQ;
    unsigned amx = avx512 | 1u << AVX512_BF16 | 1u << AMX_TILE | 1u << AMX_BF16;
    unsigned need = isa == ISA_AMX ? amx : isa == ISA_AVX512 ? avx512 : isa == ISA_AVX2 ? avx2 : 0;
    return tables[isa] && (machine.has & need) == need;
}

const char *isa_describe(void)
{
    pthread_once(&machine.once, machine_init);
    return machine.text;
}

enum isa isa_best(void)
{
    int isa = ISA_COUNT - 1;
    while (isa > ISA_PORTABLE && !machine_has((enum isa)isa)) isa--;
    return (enum isa)isa;
}

const struct kernels *kernels_select(enum isa isa, struct siren_error *err)
{
    if ((unsigned)isa >= ISA_COUNT) {
        siren_fail(err, SIREN_EINVAL, "instruction set %d: expected 0 to %d", (int)isa,
                   ISA_COUNT - 1);
        return NULL;
    }
    if (machine_has(isa)) return &machine.f32[isa];
    siren_fail(err, SIREN_EUNSUPPORTED, "instruction set %s: this machine has only \"%s\"",
               names[isa], isa_describe());
    return NULL;
}

const struct kernels *kernels_select_compute(enum isa isa, enum compute compute,
                                             struct siren_error *err)
{
    if ((unsigned)compute >= COMPUTE_COUNT) {
        siren_fail(err, SIREN_EINVAL, "compute mode %d: expected 0 to %d", (int)compute,
                   COMPUTE_COUNT - 1);
        return NULL;
    }
    const struct kernels *k = kernels_select(isa, err);
    return k && compute == COMPUTE_BF16 ? &machine.bf16[isa] : k;
}

const struct kernels *kernels_amx_model(void)
{
    pthread_once(&machine.once, machine_init);
    return &machine.amx_model;
}

const char *compute_name(enum compute compute)
{
    return compute_names[compute];
}

int compute_parse(const char *name, enum compute *out, struct siren_error *err)
{
    for (int c = 0; c < COMPUTE_COUNT; c++)
        if (strcmp(name, compute_names[c]) == 0) {
            *out = (enum compute)c;
            return SIREN_OK;
        }
    return siren_fail(err, SIREN_EINVAL, "compute mode \"%s\": expected f32 or bf16", name);
}

int isa_parse(const char *name, enum isa *out, struct siren_error *err)
{
    if (strcmp(name, "auto") == 0) {
        *out = isa_best();
        return SIREN_OK;
    }
    for (int isa = 0; isa < ISA_COUNT; isa++)
        if (strcmp(name, names[isa]) == 0) {
            *out = (enum isa)isa;
            return SIREN_OK;
        }
    return siren_fail(err, SIREN_EINVAL,
                      "instruction set \"%s\": expected auto, portable, avx2, avx512 or amx", name);
}

/* ---- sizes and measuring --------------------------------------------------- */

/* … and, in mode bf16, the rows of a block, rounded; K: of the chains. */
static size_t product_scratch(size_t K)
{
    size_t rows = GEMM_ROWS, pairs = (K + 31) / 32 * 16;
    if (rows > 2 * GEMM_NUMBERS / K) rows = 2 * GEMM_NUMBERS / K;
    if (rows < 96) rows = 96;
    rows = whole_panels(rows);
    return GEMM_SCRATCH + rows * pairs;
}

size_t gemm_scratch(const struct packed *w)
{
    return product_scratch((size_t)w->k);
}

size_t gemm_dx_scratch(const struct packed *w)
{
    size_t columns = ((size_t)w->k + 31) / 32 * 32;
    if (w->n < DX_PARTS_FROM) return product_scratch((size_t)w->n);
    return GEMM_SCRATCH + DX_PARTS_ROWS * (GEMM_STEPS + columns);
}

size_t attention_scratch(int R, int n_pages)
{
    (void)R;
    size_t row = (size_t)n_pages * ATTENTION_PAGE + 16;
    size_t words = row > ATTENTION_MAX_D ? row : ATTENTION_MAX_D; /* in pairs, up to 32 behind */
    return ATTENTION_SPACE * (ATTENTION_MAX_D + row + words / 2 + 16) + 16;
}

size_t gemm_dw_scratch(void)
{
    return DW_SCRATCH;
}

size_t attention_backward_scratch(int D, int n_pages)
{
    size_t row = (size_t)n_pages * ATTENTION_PAGE + 16;
    size_t words = row / 2 + 16 > (size_t)D + 32 ? row / 2 + 16 : (size_t)D + 32;
    return 2 * BACK_ROWS_MOST * ((size_t)D + row) + ATTENTION_TILE * ((size_t)D + words) + 16;
}

double kernels_peak_gflops(const struct kernels *k, double seconds)
{
    const long turns = 1 << 16;
    double best = 0, start = clock_seconds(), last = start;
    volatile float keep = 0;
    do {
        keep = keep + k->fma_loop(turns);
        double now = clock_seconds(),
               rate = (double)turns * k->fma_loop_flops / (now - last) * 1e-9;
        if (rate > best) best = rate;
        last = now;
    } while (last - start < seconds);
    return best;
}
