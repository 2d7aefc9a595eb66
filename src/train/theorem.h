/* The parts of siren_theorem(): a layer linearised at some prompts, and least squares on it.
 * Private to src/train.
 *
 * T tokens of a prompt, d d_model, Q n_heads·head_dim, H heads, D head_dim, W = kv heads·head_dim
 * (the width of keys).  Updates are stored transposed, input by output: (m, W). */
#ifndef SIREN_TRAIN_THEOREM_H
#define SIREN_TRAIN_THEOREM_H

#include "model/pass.h"
#include "siren/theorem.h"

/* A layer at one prompt. */
struct linear_prompt {
    int T;
    float *x, *xt;   /* (T, d), (d, T): the layer's input, normed */
    float *values;   /* (T, W) */
    float *p;        /* (Q, T): p_hj of the header */
    float *weights;  /* (H, T): attention of q */
    float *mixed;    /* (H, d): s_h */
    float *o;        /* (Q) */
    float *jt, *j;   /* (Q, d), (d, Q): J, both ways round */
    float *output;   /* (d): the state after the layer */
    float *hidden;   /* (T, d): before it, the caller's to fill */
    float *qkv, *dk; /* (T, qkv width), (W, T) scratch */
    float *memory;
};
int linear_prompt_create(struct linear_prompt *p, const struct siren_engine *engine, int T,
                         struct siren_error *err);
void linear_prompt_free(struct linear_prompt *p);

/* Of one thread. */
struct linear_scratch {
    float *gemm, *rows, *wide, *memory;
};
int linear_scratch_create(struct linear_scratch *s, const struct siren_engine *engine,
                          struct siren_error *err);
void linear_scratch_free(struct linear_scratch *s);

/* Fills all but `hidden` at the weights plus updates dk, dv (d, W; NULL: none).  jacobian 0: only
 * the output is needed. */
void linearise(struct linear_prompt *p, const struct siren_engine *engine, int layer,
               const float *dk, const float *dv, int jacobian, struct linear_scratch *s);

/* The linear map of all prompts: from updates dk (mk, W), dv (mv, W) of what the inputs are in some
 * basis, xk (T, mk) and sv (H, mv) for each prompt, to dh (n, d).  mk or mv 0: not updated. */
struct linear_inputs {
    const float *xk, *xkt, *sv;
};
struct linear_map {
    const struct siren_engine *engine;
    size_t n;
    struct linear_prompt *prompts;
    struct linear_inputs *inputs; /* (n) */
    int mk, mv;
    float *sums; /* (n, (mk + mv)·W): a prompt's part of the transposed product */
    struct linear_scratch *scratch; /* (threads) */
};
size_t linear_unknowns(const struct linear_map *m); /* (mk + mv)·W: dk, then dv */
void linear_apply(const struct linear_map *m, const float *updates, float *dh);
void linear_transposed(const struct linear_map *m, const float *dh, float *updates);

/* x (overwritten) minimises ||A x − b||² + (ridge·||Aᵀ b|| / ||b||)²·||x||², of least norm.
 * work: 2·n_b + 3·n_x floats.  Returns the iterations made. */
int linear_solve(const struct linear_map *m, const float *b, double ridge, int iterations, float *x,
                 float *work);

/* z (r, d) becomes an orthonormal basis of the r leading left singular directions of w (d, W);
 * rows of zeros where w has fewer.  work: W·W + 2·r·W floats. */
void leading_inputs(const struct siren_engine *engine, const float *w, int d, int W, int r,
                    float *z, float *work, float *gemm_scratch);

#endif
