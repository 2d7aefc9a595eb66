/* tensor_dequantize against gguf-py, to the bit. */
#include "model_files.h"

#include "weights/tensors.h"

static int64_t elements(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) n *= t->shape[i];
    return n;
}

static void test_every_type_equals_gguf_py(void **state)
{
    struct siren_error err;
    struct tensors *ts;
    size_t size, at = 0;
    float *expected = file_load(FIXTURES "types.f32", &size), *out = malloc(size);
    assert_int_equal(tensors_open(&ts, FIXTURES "types.gguf", &err), 0);
    assert_int_equal(tensors_count(ts), 11);
    for (size_t i = 0; i < tensors_count(ts); i++) {
        const struct tensor *t = tensors_at(ts, i);
        int64_t n = elements(t);
        assert_string_equal(t->name, tensor_type_name(t->type));
        tensor_dequantize(t, 0, n, out);
        assert_memory_equal(out, expected + at, (size_t)n * sizeof *out);
        at += (size_t)n;
    }
    assert_int_equal(at * sizeof *out, size);
    tensors_close(ts);
    free(expected);
    free(out);
}

static void test_a_part_equals_the_whole(void **state)
{
    struct siren_error err;
    struct tensors *ts;
    float whole[1024], part[256];
    assert_int_equal(tensors_open(&ts, FIXTURES "types.gguf", &err), 0);
    for (size_t i = 0; i < tensors_count(ts); i++) {
        const struct tensor *t = tensors_at(ts, i);
        tensor_dequantize(t, 0, 1024, whole);
        for (int first = 0; first < 1024; first += 256) {
            tensor_dequantize(t, first, 256, part);
            assert_memory_equal(part, whole + first, sizeof part);
        }
        memcpy(part, whole, sizeof part);
        tensor_dequantize(t, 256, 0, part);
        assert_memory_equal(part, whole, sizeof part);
    }
    tensors_close(ts);
}

/* Every half-precision number, at an odd address. */
static void test_all_halves(void **state)
{
    enum { N = 65536 };
    unsigned char *data = malloc(2 * N + 1);
    float *out = malloc(N * sizeof *out);
    for (uint32_t h = 0; h < N; h++) {
        uint16_t v = (uint16_t)h;
        memcpy(data + 1 + 2 * h, &v, sizeof v);
    }
    struct tensor t = {.type = TENSOR_F16, .n_dims = 1, .shape = {N}, .data = data + 1};
    tensor_dequantize(&t, 0, N, out);
    for (uint32_t h = 0; h < N; h++) {
        int exponent = h >> 10 & 31, fraction = h & 1023;
        uint32_t bits, quiet = fraction ? 0x400000 : 0;
        memcpy(&bits, &out[h], sizeof bits);
        double value = exponent ? __builtin_ldexp(1024 + fraction, exponent - 25)
                                : __builtin_ldexp(fraction, -24);
        if (exponent == 31) {
            assert_int_equal(__builtin_isinf(out[h]) != 0, fraction == 0);
            assert_int_equal(__builtin_isnan(out[h]) != 0, fraction != 0);
            assert_int_equal(bits & 0x7fffffff, 0x7f800000 | (uint32_t)fraction << 13 | quiet);
        } else {
            assert_true(out[h] == (h >> 15 ? -value : value));
        }
        assert_int_equal(__builtin_signbit(out[h]) != 0, h >> 15);
    }
    free(data);
    free(out);
}

static void test_integers(void **state)
{
    int64_t wide[] = {0, 1, -1, 511};
    int32_t narrow[] = {5, -7};
    float out[4];
    struct tensor t = {.type = TENSOR_I64, .n_dims = 1, .shape = {4}, .data = wide};
    tensor_dequantize(&t, 1, 3, out);
    assert_true(out[0] == 1 && out[1] == -1 && out[2] == 511);
    t = (struct tensor){.type = TENSOR_I32, .n_dims = 1, .shape = {2}, .data = narrow};
    tensor_dequantize(&t, 0, 2, out);
    assert_true(out[0] == 5 && out[1] == -7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_equals_gguf_py),
        cmocka_unit_test(test_a_part_equals_the_whole),
        cmocka_unit_test(test_all_halves),
        cmocka_unit_test(test_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
