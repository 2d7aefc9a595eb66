#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "siren/random.h"

/* Known answers of philox4x32-10 (Random123, kat_vectors): the first two of four words. */
static void test_known_answers(void **state)
{
    assert_true(siren_random_bits(0, 0, 0) == 0xe169c58d6627e8d5u);
    assert_true(siren_random_bits(UINT64_MAX, UINT64_MAX, UINT64_MAX) == 0x41c83b0e408f276du);
    assert_true(siren_random_bits(0x299f31d0a4093822u, 0x0370734413198a2eu, 0x85a308d3243f6a88u) ==
                0x94fdccebd16cfe09u);
}

static void test_uniform(void **state)
{
    double sum = 0, squares = 0;
    enum { N = 100000 };
    for (uint64_t i = 0; i < N; i++) {
        double u = siren_random_uniform(1, 2, i);
        assert_true(u >= 0 && u < 1);
        sum += u;
        squares += u * u;
    }
    assert_true(fabs(sum / N - 0.5) < 0.005);
    assert_true(fabs(squares / N - 1.0 / 3) < 0.005);
    assert_true(siren_random_uniform(1, 2, 3) == siren_random_uniform(1, 2, 3));
    assert_true(siren_random_uniform(1, 2, 3) != siren_random_uniform(2, 2, 3));
    assert_true(siren_random_uniform(1, 2, 3) != siren_random_uniform(1, 3, 3));
}

static void test_below(void **state)
{
    unsigned count[7] = {0};
    for (uint64_t i = 0; i < 70000; i++) {
        uint64_t x = siren_random_below(5, 0, i, 7);
        assert_true(x < 7);
        count[x]++;
    }
    for (int k = 0; k < 7; k++) assert_true(count[k] > 9500 && count[k] < 10500);
    /* A bound just above half of the range is where a biased method shows. */
    uint64_t big = ((uint64_t)1 << 63) + 1, low = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        uint64_t x = siren_random_below(5, 1, i, big);
        assert_true(x < big);
        low += x < big / 2;
    }
    assert_true(low > 4800 && low < 5200);
    assert_int_equal(siren_random_below(9, 9, 9, 1), 0);
}

static void test_normal(void **state)
{
    double sum = 0, squares = 0, fourth = 0;
    enum { N = 100000 };
    for (uint64_t i = 0; i < N; i++) {
        double z = siren_random_normal(3, 0, i);
        assert_true(isfinite(z));
        sum += z;
        squares += z * z;
        fourth += z * z * z * z;
    }
    assert_true(fabs(sum / N) < 0.02);
    assert_true(fabs(squares / N - 1) < 0.02);
    assert_true(fabs(fourth / N - 3) < 0.15);
}

static void test_permutation(void **state)
{
    uint64_t index[100], again[100];
    unsigned first[5] = {0};
    siren_random_permutation(7, 1, 100, index);
    siren_random_permutation(7, 1, 100, again);
    assert_memory_equal(index, again, sizeof index);
    int seen[100] = {0}, moved = 0;
    for (int i = 0; i < 100; i++) {
        assert_true(index[i] < 100);
        assert_int_equal(seen[index[i]]++, 0);
        moved += index[i] != (uint64_t)i;
    }
    assert_true(moved > 80);
    for (uint64_t s = 0; s < 5000; s++) {
        siren_random_permutation(s, 0, 5, index);
        first[index[0]]++;
    }
    for (int k = 0; k < 5; k++) assert_true(first[k] > 850 && first[k] < 1150);
    siren_random_permutation(7, 1, 0, index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers), cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_below),         cmocka_unit_test(test_normal),
        cmocka_unit_test(test_permutation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
