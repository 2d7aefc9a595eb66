/* Rotary position embedding: the frequencies of each scaling. */
#ifndef SIREN_MODEL_ROPE_H
#define SIREN_MODEL_ROPE_H

#include "siren/model.h"

/* frequency: (head_dim / 2), radians a position, after scaling.  Returns the factor by
 * which cosines and sines are multiplied (YaRN's attention factor; 1 otherwise). */
float rope_frequencies(const struct siren_config *config, float *frequency);

#endif
