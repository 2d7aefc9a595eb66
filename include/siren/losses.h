/* Losses of supervised training and alignment: pure functions, value and gradient.
 *
 * All are computed in f64 in index order.  They check nothing: what is not finite comes out as not
 * finite, and the gradient norm (siren/optimizer.h) refuses it. */
#ifndef SIREN_LOSSES_H
#define SIREN_LOSSES_H

#ifdef __cplusplus
extern "C" {
#endif

/* ---- On the scores of n rating labels, low to high ----
 *
 * A score is a label's log-probability, or its logit at q: only softmax(scores) counts, p.  The
 * gradient is with respect to the scores and sums to 0. */

/* Loss = ce·CE + kd·KD + rps·RPS.  A weight of 0 leaves its term out. */
struct siren_rating_loss {
    double ce;
    /* The part of the target's mass that neighbouring labels receive, half each; at an end of the
     * scale the one neighbour receives all of it.  In [0, 1); 0: the label alone. */
    double smoothing;
    double kd;          /* T²·KL(teacher_T ‖ student_T), distributions at temperature T */
    double temperature; /* T > 0; read only where kd != 0 */
    double rps; /* Σ_{k<n-1} (P_k − Y_k)² / (n − 1): cumulated p and cumulated label */
};
/* `label` is an index in [0, n), n >= 2; `teacher` (n) scores, read only where kd != 0; gradient
 * (n) is overwritten, NULL for none.  Returns the loss. */
double siren_rating_loss(const struct siren_rating_loss *weights, int n, const double *scores,
                         int label, const double *teacher, double *gradient);

/* ---- On hidden states: alignment ----
 *
 * L = Σ_l w_l (1 − cos(teacher^l, student^l)) / Σ_l w_l,  states (n_layers, d) each.
 * layer_weights (n_layers), >= 0, not all 0; NULL: all 1, the paper's mean.  Where a state is the
 * zero vector its cosine counts as 0 and its gradient is 0.
 * gradient (n_layers, d) with respect to the student, overwritten; NULL for none.
 * cosines (n_layers): NULL or each layer's cosine.  Returns the loss. */
double siren_alignment_loss(int n_layers, int d, const float *student, const float *teacher,
                            const double *layer_weights, float *gradient, double *cosines);

#ifdef __cplusplus
}
#endif
#endif
