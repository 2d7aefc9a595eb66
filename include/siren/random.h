/* Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011).
 *
 * A number is a pure function of (seed, stream, counter): results do not depend
 * on batch, threads or what was drawn before.  Streams are named by what they
 * are for (a user, a sequence, a restart), counters by position. */
#ifndef SIREN_RANDOM_H
#define SIREN_RANDOM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 64 uniform bits. */
uint64_t siren_random_bits(uint64_t seed, uint64_t stream, uint64_t counter);

/* Uniform double in [0, 1), 53 bits. */
double siren_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter);

/* Uniform integer in [0, n), n > 0, without modulo bias (multiply-shift with rejection). */
uint64_t siren_random_below(uint64_t seed, uint64_t stream, uint64_t counter, uint64_t n);

/* Standard normal double (Box–Muller on one counter). */
double siren_random_normal(uint64_t seed, uint64_t stream, uint64_t counter);

/* Fisher–Yates: index[0..n) becomes a permutation of 0..n-1. */
void siren_random_permutation(uint64_t seed, uint64_t stream, uint64_t n, uint64_t *index);

#ifdef __cplusplus
}
#endif
#endif
