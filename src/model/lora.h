/* LoRA in a pass: what both schedules of forest_run.c call.  Private to src/model. */
#ifndef SIREN_MODEL_LORA_H
#define SIREN_MODEL_LORA_H

#include "model/adapter.h"
#include "model/pass.h"

/* The adapter of the view's row i; NULL: none. */
static inline const struct siren_adapter *row_adapter(const struct siren_forest *f,
                                                      const struct rows *v, int i)
{
    return f->segments[f->row_segment[row_of(v, i)]].adapter;
}

/* The most columns of low = A x in any layer, as whole panels. */
int lora_low_width(const struct siren_adapter *adapter);

/* 1: some row of the view's [i0, i0 + n) has an adapter with targets in this group and layer. */
int lora_touches(const struct siren_forest *f, int layer, enum lora_group group,
                 const struct rows *v, int i0, int n);

/* Adds scale · B (A x) of each row's own adapter to panels [p0, p1) of the projection that the
 * group's targets are joined in (q, k, v; gate and up in turn; o; down).  in: (n, ldin) and
 * y: (n, ldy) begin at view row i0, y at column 16·p0.  An element's bits do not depend on how
 * panels are shared: threads that share the columns each compute `low` for themselves, which costs
 * less than a barrier. */
void lora_add(const struct siren_forest *f, struct thread_scratch *t, int layer,
              enum lora_group group, const struct rows *v, int i0, int n, const float *in,
              size_t ldin, int p0, int p1, float *y, size_t ldy);

#endif
