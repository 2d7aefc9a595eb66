/* Losses on rating labels and on hidden states. */
#include "siren/losses.h"

#include <math.h>
#include <stddef.h>

/* The log-sum-exp of scores / temperature. */
static double log_sum(int n, const double *scores, double temperature)
{
    double top = scores[0], sum = 0;
    for (int i = 1; i < n; i++) top = fmax(top, scores[i]);
    for (int i = 0; i < n; i++) sum += exp((scores[i] - top) / temperature);
    return top / temperature + log(sum);
}

/* What the target puts on label i. */
static double target_mass(int n, int label, double smoothing, int i)
{
    int neighbours = (label > 0) + (label < n - 1);
    if (i == label) return 1 - smoothing;
    return i == label - 1 || i == label + 1 ? smoothing / neighbours : 0;
}

static double cross_entropy(const struct siren_rating_loss *w, int n, const double *scores,
                            int label, double *gradient)
{
    double lse = log_sum(n, scores, 1), loss = 0;
    for (int i = 0; i < n; i++) {
        double y = target_mass(n, label, w->smoothing, i), log_p = scores[i] - lse;
        if (y > 0) loss -= y * log_p;
        if (gradient) gradient[i] += w->ce * (exp(log_p) - y);
    }
    return w->ce * loss;
}

static double distillation(const struct siren_rating_loss *w, int n, const double *scores,
                           const double *teacher, double *gradient)
{
    double t = w->temperature, loss = 0;
    double lse = log_sum(n, scores, t), teacher_lse = log_sum(n, teacher, t);
    for (int i = 0; i < n; i++) {
        double log_p = scores[i] / t - lse, log_q = teacher[i] / t - teacher_lse, q = exp(log_q);
        if (q != 0) loss += q * (log_q - log_p);
        if (gradient) gradient[i] += w->kd * t * (exp(log_p) - q); /* T² · 1/T */
    }
    return w->kd * t * t * loss;
}

/* With miss_k = P_k − Y_k and m = Σ_k miss_k P_k, the softmax turns d RPS / d p_j = Σ_{k >= j}
 * 2 miss_k / (n − 1) into d RPS / d score_j = 2 p_j (Σ_{k >= j} miss_k − m) / (n − 1). */
static double ranked_probability(const struct siren_rating_loss *w, int n, const double *scores,
                                 int label, double *gradient)
{
    double lse = log_sum(n, scores, 1), squares = 0, after = 0, mean = 0, cumulated = 0;
    for (int k = 0; k < n - 1; k++) {
        cumulated += exp(scores[k] - lse);
        double miss = cumulated - (k >= label);
        squares += miss * miss;
        after += miss;
        mean += miss * cumulated;
    }
    cumulated = 0;
    for (int j = 0; gradient && j < n; j++) {
        double p = exp(scores[j] - lse);
        gradient[j] += w->rps * 2 * p * ((j < n - 1 ? after : 0) - mean) / (n - 1);
        cumulated += p;
        after -= cumulated - (j >= label);
    }
    return w->rps * squares / (n - 1);
}

double siren_rating_loss(const struct siren_rating_loss *w, int n, const double *scores, int label,
                         const double *teacher, double *gradient)
{
    double loss = 0;
    for (int i = 0; gradient && i < n; i++) gradient[i] = 0;
    if (w->ce != 0) loss += cross_entropy(w, n, scores, label, gradient);
    if (w->kd != 0) loss += distillation(w, n, scores, teacher, gradient);
    if (w->rps != 0) loss += ranked_probability(w, n, scores, label, gradient);
    return loss;
}

/* 1 − cos of one layer; the gradient times `weight`. */
static double align_layer(int d, const float *s, const float *t, double weight, float *gradient)
{
    double st = 0, ss = 0, tt = 0, cosine, across, along;
    for (int i = 0; i < d; i++) {
        st += (double)s[i] * t[i];
        ss += (double)s[i] * s[i];
        tt += (double)t[i] * t[i];
    }
    if (ss == 0 || tt == 0) {
        for (int i = 0; gradient && i < d; i++) gradient[i] = 0;
        return 0;
    }
    cosine = st / (sqrt(ss) * sqrt(tt));
    across = weight / (sqrt(ss) * sqrt(tt));
    along = weight * cosine / ss;
    for (int i = 0; gradient && i < d; i++) gradient[i] = (float)(along * s[i] - across * t[i]);
    return cosine;
}

double siren_alignment_loss(int n_layers, int d, const float *student, const float *teacher,
                            const double *layer_weights, float *gradient, double *cosines)
{
    double total = 0, loss = 0;
    for (int l = 0; l < n_layers; l++) total += layer_weights ? layer_weights[l] : 1;
    for (int l = 0; l < n_layers; l++) {
        size_t at = (size_t)l * (size_t)d;
        double weight = (layer_weights ? layer_weights[l] : 1) / total;
        double cosine =
            align_layer(d, student + at, teacher + at, weight, gradient ? gradient + at : NULL);
        if (cosines) cosines[l] = cosine;
        loss += weight * (1 - cosine);
    }
    return loss;
}
