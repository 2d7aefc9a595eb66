/* AdamW, gradient clipping, learning-rate schedules.
 *
 * All of them work on struct siren_params.  Each number's update depends on nothing but that
 * number, and the norm is summed in a fixed order, so the bits do not depend on the threads (nor on
 * the instruction set). */
#ifndef SIREN_OPTIMIZER_H
#define SIREN_OPTIMIZER_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/params.h"
#include "siren/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- AdamW (Loshchilov and Hutter), the operations of torch.optim.AdamW's loop on one tensor ----
 *
 * Step t (from 1), for each number, every operation one f32 rounding, scalars computed in f64 and
 * rounded once, g the gradient times siren_adamw_step()'s factor:
 *     p ← p · (1 − lr·decay)
 *     m ← fma(1 − β1, g − m, m)
 *     v ← fma((1 − β2)·g, g, v·β2)
 *     p ← p + (−lr/(1 − β1^t) · m) / (√v / √(1 − β2^t) + eps)
 * PyTorch's CPU build fuses m and v like this, and has √ of MKL, whose code for some processors is
 * off by one unit in the last place now and then.  So m and v are PyTorch's bits, and p, too, where
 * √ is correctly rounded there; else it differs by what that unit moves it. */
struct siren_adamw_options {
    double beta1, beta2; /* 0.9, 0.999; each in [0, 1) */
    double eps;          /* 1e-8; > 0 */
    double weight_decay; /* decoupled; >= 0; not for parameters with no_decay */
};
struct siren_adamw_options siren_adamw_defaults(void); /* PyTorch's: decay 0.01 */

/* Parameters first … first + n − 1 of the list: their own factor on lr, their own decay.  Where
 * groups overlap, the last one holds.  no_decay is stronger than a group's weight_decay. */
struct siren_param_group {
    size_t first, n;
    double lr_factor, weight_decay;
};

struct siren_adamw;
/* `params` is borrowed and must outlive the optimiser; moments start at 0.  groups may be NULL.
 * SIREN_EINVAL: options out of range (the message names them), a group beyond the parameters;
 * SIREN_ENOMEM. */
int siren_adamw_create(struct siren_adamw **out, struct siren_params params,
                       const struct siren_adamw_options *options,
                       const struct siren_param_group *groups, size_t n_groups,
                       struct siren_error *err);
void siren_adamw_free(struct siren_adamw *adamw); /* NULL is allowed */

/* One step at learning rate lr (already times the schedule's factor) on the gradients times
 * `factor` (siren_gradients_clip's; 1/k after k accumulated micro-batches; 1: as they are), one
 * rounding.  The gradients are 0 afterwards, as by siren_gradients_zero().  Allocates nothing,
 * cannot fail.  pool may be NULL. */
void siren_adamw_step(struct siren_adamw *adamw, double lr, float factor, struct siren_pool *pool);

/* State, for checkpoints: first and second moments (shape of parameter i; writable), steps done. */
float *siren_adamw_m(struct siren_adamw *adamw, size_t i);
float *siren_adamw_v(struct siren_adamw *adamw, size_t i);
uint64_t siren_adamw_steps(const struct siren_adamw *adamw);
void siren_adamw_set_steps(struct siren_adamw *adamw, uint64_t steps);

/* ---- Gradients ---- */

/* pool may be NULL everywhere.  A model's own weights are only noted to have zeros
 * (siren_param.unwritten): their gradients are as large as they, and to write zeros for a pass to
 * add to would be a quarter of what memory does in a step. */
void siren_gradients_zero(struct siren_params params, struct siren_pool *pool);

/* The Euclidean norm of all gradients, in f64: parameters in list order, each in chunks of 65,536
 * numbers, a chunk with eight partials by index modulo 8 that are added in order, then chunk after
 * chunk.  SIREN_ENUMERIC if one is NaN or Inf: the message names parameter, row and column;
 * nothing is changed, but zeros that were only noted (siren_param.unwritten) are written. */
int siren_gradients_norm(struct siren_params params, struct siren_pool *pool, double *norm,
                         struct siren_error *err);

/* torch.nn.utils.clip_grad_norm_, but for the multiplication, which siren_adamw_step() does: with
 * norm as above, *factor = min(1, max_norm / (norm + 1e-6)), rounded to f32.  max_norm > 0;
 * INFINITY measures only (SIREN_EINVAL: it is not above 0; SIREN_ENUMERIC: as above).  *norm may be
 * NULL.  PyTorch computes the norm in f32, so the factor may
 * differ in its last digits. */
int siren_gradients_clip(struct siren_params params, double max_norm, struct siren_pool *pool,
                         double *norm, float *factor, struct siren_error *err);

/* ---- Schedules: the values of transformers' get_*_schedule_with_warmup ---- */

enum siren_schedule_kind { SIREN_SCHEDULE_CONSTANT, SIREN_SCHEDULE_LINEAR, SIREN_SCHEDULE_COSINE };
struct siren_schedule {
    enum siren_schedule_kind kind;
    uint64_t warmup; /* steps from 0 up to the full rate */
    uint64_t total;  /* steps to the end, where linear and cosine (half a wave) reach 0 */
};
/* The factor on lr at `step`, counted from 0 (so with warm-up the first step has factor 0).
 * Behind `total`, linear and cosine stay at 0; transformers' cosine rises again there. */
double siren_schedule_factor(const struct siren_schedule *schedule, uint64_t step);
/* "constant", "linear", "cosine"; SIREN_EINVAL for another word, with the list. */
int siren_schedule_parse(enum siren_schedule_kind *out, const char *word, struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
