#include "model/rope.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

/* Llama 3: long wavelengths are stretched by `factor`, short ones kept, between them a blend. */
static double llama3_frequency(const struct siren_config *c, double f)
{
    double wavelength = 2 * PI / f, original = c->rope_original_positions;
    double low = original / c->rope_low_freq_factor, high = original / c->rope_high_freq_factor;
    if (wavelength > low) return f / c->rope_factor;
    if (wavelength < high) return f;
    double smooth = (original / wavelength - c->rope_low_freq_factor) /
                    (c->rope_high_freq_factor - c->rope_low_freq_factor);
    return (1 - smooth) * f / c->rope_factor + smooth * f;
}

/* The dimension whose wavelength makes `rotations` turns over the original context. */
static double yarn_dimension(const struct siren_config *c, double rotations)
{
    return c->head_dim * log(c->rope_original_positions / (rotations * 2 * PI)) /
           (2 * log(c->rope_theta));
}

/* YaRN (Peng et al. 2023): interpolation above `high`, none below `low`, a ramp between. */
static double yarn_frequency(const struct siren_config *c, int i, double f)
{
    double low = floor(yarn_dimension(c, c->rope_beta_fast));
    double high = ceil(yarn_dimension(c, c->rope_beta_slow));
    if (low < 0) low = 0;
    if (high > c->head_dim - 1) high = c->head_dim - 1;
    if (low == high) high += 0.001;
    double ramp = (i - low) / (high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    return f / c->rope_factor * ramp + f * (1 - ramp);
}

float rope_frequencies(const struct siren_config *c, float *frequency)
{
    int half = c->head_dim / 2;
    for (int i = 0; i < half; i++) {
        double f = 1.0 / pow(c->rope_theta, 2.0 * i / c->head_dim);
        switch (c->rope_scaling) {
        case SIREN_ROPE_PLAIN:
            break;
        case SIREN_ROPE_LINEAR:
            f /= c->rope_factor;
            break;
        case SIREN_ROPE_LLAMA3:
            f = llama3_frequency(c, f);
            break;
        case SIREN_ROPE_YARN:
            f = yarn_frequency(c, i, f);
            break;
        }
        frequency[i] = (float)f;
    }
    if (c->rope_scaling != SIREN_ROPE_YARN) return 1.0f;
    if (c->rope_attention_factor > 0) return c->rope_attention_factor;
    return c->rope_factor > 1 ? (float)(0.1 * log(c->rope_factor) + 1.0) : 1.0f;
}
