/* What is trained: a flat list of named matrices with their gradients.
 *
 * The optimiser, clipping and checkpoints see only this list, whatever owns the numbers: an
 * adapter's factors or a model's weights.  Names are those of the files that hold the parameters
 * outside (PEFT's for an adapter, Hugging Face's for a model). */
#ifndef SIREN_PARAMS_H
#define SIREN_PARAMS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct siren_param {
    char name[160];
    float *value;      /* (rows, columns), row-major */
    float *grad;       /* the same shape; NULL until gradients are asked for */
    int rows, columns; /* a vector has one row */
    int no_decay;      /* 1: weight decay leaves it alone (norms, biases) */
    /* NULL, or the owner's (a model's: its gradients are as large as it): 1 after
     * siren_gradients_zero() and a step, until the next backward pass: grad counts as zeros,
     * whatever it holds, and is written and not read.  Who reads grad, or adds to it, in between
     * calls siren_gradients_norm() first, which leaves it 0 and the zeros written. */
    int *unwritten;
};

/* Borrowed views: the owner frees list and numbers; pointers stay valid as long as it lives. */
struct siren_params {
    struct siren_param *list;
    size_t n;
};

#ifdef __cplusplus
}
#endif
#endif
