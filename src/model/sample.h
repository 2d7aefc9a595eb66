/* Drawing a token from logits. */
#ifndef SIREN_MODEL_SAMPLE_H
#define SIREN_MODEL_SAMPLE_H

#include "siren/score.h"
#include "tensor/kernels.h"

struct sampler {
    const struct kernels *kernels;
    size_t n_vocab;
    float *weights; /* (n_vocab) */
    int32_t *order; /* (n_vocab) */
};
int sampler_create(struct sampler *out, const struct kernels *kernels, size_t n_vocab,
                   struct siren_error *err);
void sampler_free(struct sampler *s);

/* The token, a pure function of (logits, sampling, sequence, position); *logprob its
 * log-probability under the model (temperature 1, nothing cut off). */
int32_t sampler_draw(struct sampler *s, const float *logits, const struct siren_sampling *sampling,
                     uint64_t sequence, uint64_t position, float *logprob);

#endif
