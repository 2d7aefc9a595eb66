#include "siren/random.h"

#include <math.h>

struct philox {
    uint32_t v[4];
};

static struct philox philox4x32(uint64_t seed, uint64_t stream, uint64_t counter)
{
    struct philox c = {
        {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)}};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c.v[0];
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c.v[2];
        c = (struct philox){{(uint32_t)(p1 >> 32) ^ c.v[1] ^ k0, (uint32_t)p1,
                             (uint32_t)(p0 >> 32) ^ c.v[3] ^ k1, (uint32_t)p0}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

uint64_t siren_random_bits(uint64_t seed, uint64_t stream, uint64_t counter)
{
    struct philox r = philox4x32(seed, stream, counter);
    return (uint64_t)r.v[1] << 32 | r.v[0];
}

double siren_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter)
{
    return (double)(siren_random_bits(seed, stream, counter) >> 11) * 0x1p-53;
}

uint64_t siren_random_below(uint64_t seed, uint64_t stream, uint64_t counter, uint64_t n)
{
    /* Lemire's method; a rejected draw moves to a sub-stream of the same counter. */
    for (uint64_t attempt = 0;; attempt++) {
        uint64_t x = siren_random_bits(seed, stream ^ (attempt * 0x9E3779B97F4A7C15u), counter);
        unsigned __int128 m = (unsigned __int128)x * n;
        uint64_t low = (uint64_t)m;
        if (low >= n || low >= (uint64_t)(-n) % n) return (uint64_t)(m >> 64);
    }
}

double siren_random_normal(uint64_t seed, uint64_t stream, uint64_t counter)
{
    struct philox r = philox4x32(seed, stream, counter);
    double u1 = ((double)((((uint64_t)r.v[1] << 32 | r.v[0]) >> 11)) + 1.0) * 0x1p-53;
    double u2 = (double)(((uint64_t)r.v[3] << 32 | r.v[2]) >> 11) * 0x1p-53;
    return sqrt(-2.0 * log(u1)) * cos(6.283185307179586476925286766559 * u2);
}

void siren_random_permutation(uint64_t seed, uint64_t stream, uint64_t n, uint64_t *index)
{
    for (uint64_t i = 0; i < n; i++) index[i] = i;
    for (uint64_t i = n; i > 1; i--) {
        uint64_t j = siren_random_below(seed, stream, i, i), t = index[i - 1];
        index[i - 1] = index[j];
        index[j] = t;
    }
}
