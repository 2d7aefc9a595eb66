/* Theorem 1, KV adaptation equivalence, tried out: are there low-rank updates of W_K and
 * W_V that make the answer-only state equal the state after reasoning?  They are computed in closed
 * form from the linearised model, applied, and what is left is measured.
 *
 * One layer, one prompt, q its last token, x_j the (normed) input of the layer at token j:
 *
 *     v_j = W_V x_j,   k_j = R_j N(W_K x_j),   a_hj = softmax_j(q_h · k_j / √D)
 *     o_h = Σ_j a_hj v_j,   u = x + W_O o,   h = u + FFN(norm u)
 *
 * with N Qwen3's norm, R_j RoPE and h the heads.
 *
 * For updates dV of W_V and dK of W_K, to first order at the present weights:
 *
 *     do_h = dV s_h + Σ_j a_hj (v_j − o_h) (p_hj · dK x_j),     s_h = Σ_j a_hj x_j,
 *                                                   p_hj = (d k_j / d W_K x_j)ᵀ q_h / √D
 *     dh   = J do,          J = (1 + dFFN/du) W_O,  behind the final norm in the last layer
 *
 * exact in dV up to J; the softmax's Jacobian in dK.  A head uses the rows of dV, dK of its kv
 * head. dh is linear in (dK, dV): with the n prompts' teacher states as targets
 *
 *     min  Σ_i ||h_i + J_i do_i(dK, dV) − h_i^CoT||² + μ² ||(dK, dV)||²
 *
 * is an ordinary least-squares problem, whose solution of least norm is found by LSQR (Paige and
 * Saunders 1982), which needs the products above and their transposes only.  For one prompt dV
 * alone reaches every do, and has the rank of its s_h: at most the number of heads.  For n prompts
 * both may have any rank up to the width of keys.
 * Low rank r: the r leading input directions (singular vectors) of dV and dK are kept, and what
 * they are mapped to is fitted again by the same least squares.  That is a LoRA adapter of rank r:
 * A the directions, B the fit.
 *
 * Layer by layer, from the first one on, each with what the adapted layers below make of the
 * prompt: layer l aims at the teacher's state whatever is left below it.  An update changes the
 * keys and values of all tokens, so the inputs of the layers above are those of the adapted model.
 *
 *     before       ||h_AO − h_CoT|| / ||h_CoT||, of the untouched model
 *     predicted    ||h + dh − h_CoT|| / ||h_CoT||, what the linear model promises for this layer
 *     after        ||h_adapted − h_CoT|| / ||h_CoT||, of the model with all updates applied
 *     linear       ||h_adapted − (h + dh)|| / ||h_CoT||, the linearisation's own error
 *
 * each as the mean over the prompts.  Where `linear` is small beside `before` the theorem's
 * assumption holds.  More `steps` linearise again at the updated weights (Levenberg-Marquardt, in
 * the directions of the first one): each is taken only as far as it lowers what is left of the
 * layer. */
#ifndef SIREN_THEOREM_H
#define SIREN_THEOREM_H

#include "siren/adapter.h"
#include "siren/forest.h"
#include "siren/progress.h"
#include "siren/score.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_theorem_prompt {
    struct siren_tokens ids; /* answer only; q is the last one; at least two */
    const float *teacher;    /* (n_layers, d): as siren_teacher_states() gives them */
};

struct siren_theorem_options {
    const int *ranks; /* (n_ranks) 1 … kv heads · head_dim (which leaves nothing out) */
    int n_ranks;
    int keys, values; /* which of W_K, W_V are updated */
    int steps;        /* linearisations a layer; 1: the theorem, taken whatever it does */
    double ridge;     /* μ beside the norm of the linear map; 0: none */
    int iterations;   /* of LSQR at most; it stops earlier when nothing is left to gain */
};
/* No update of W_K or W_V has a higher rank: it has no more rows, or columns. */
int siren_theorem_most_rank(const struct siren_config *config);
struct siren_theorem_options siren_theorem_defaults(void); /* ranks 1 2 4 8 16, both, 1 step, 0.1 */

struct siren_theorem {
    int n_layers, n_ranks;
    int *ranks;
    double *before; /* (n_layers) */
    /* (n_ranks, n_layers) */
    double *predicted, *after, *linear;
    double *size; /* ||(dK, dV)|| / ||(W_K, W_V)||, Frobenius */
};

/* adapters: NULL, or (n_ranks) that receive the updates (the caller's to free).
 * SIREN_EINVAL: a rank or a prompt out of its range; SIREN_EUNSUPPORTED: an encoder;
 * SIREN_ENUMERIC: a teacher's state that is zero or not finite. */
int siren_theorem(struct siren_theorem *out, struct siren_engine *engine,
                  const struct siren_theorem_prompt *prompts, size_t n,
                  const struct siren_theorem_options *options, struct siren_adapter **adapters,
                  const struct siren_progress *progress, struct siren_error *err);
void siren_theorem_clear(struct siren_theorem *theorem);

#ifdef __cplusplus
}
#endif
#endif
