/* GGUF: metadata of every kind, and files that lie. */
#include "model_files.h"

#include "weights/tensors.h"

static struct tensors *open_fixture(void)
{
    struct siren_error err;
    struct tensors *ts;
    assert_int_equal(tensors_open(&ts, FIXTURES "types.gguf", &err), 0);
    assert_true(tensors_is_gguf(ts));
    return ts;
}

static const struct gguf_value *find(const struct tensors *ts, const char *key, enum gguf_kind kind)
{
    const struct gguf_value *v = gguf_find(ts, key);
    assert_non_null(v);
    assert_int_equal(v->kind, kind);
    return v;
}

static void test_scalars(void **state)
{
    struct tensors *ts = open_fixture();
    assert_int_equal(find(ts, "test.uint8", GGUF_UINT)->u, 200);
    assert_int_equal(find(ts, "test.int8", GGUF_INT)->i, -100);
    assert_int_equal(find(ts, "test.uint16", GGUF_UINT)->u, 60000);
    assert_int_equal(find(ts, "test.int16", GGUF_INT)->i, -30000);
    assert_int_equal(find(ts, "test.uint32", GGUF_UINT)->u, 4000000000u);
    assert_int_equal(find(ts, "test.int32", GGUF_INT)->i, -2000000000);
    assert_true(find(ts, "test.uint64", GGUF_UINT)->u == (1ull << 63) + 1);
    assert_true(find(ts, "test.int64", GGUF_INT)->i == -(1ll << 62));
    assert_true(find(ts, "test.float32", GGUF_FLOAT)->f == 0.5);
    assert_true(find(ts, "test.float64", GGUF_FLOAT)->f == -1e300);
    assert_int_equal(find(ts, "test.bool", GGUF_BOOL)->u, 1);
    const struct gguf_value *s = find(ts, "test.string", GGUF_STRING);
    assert_int_equal(s->length, strlen("naïve 星"));
    assert_memory_equal(s->text, "naïve 星", s->length);
    assert_null(gguf_find(ts, "test.none"));
    tensors_close(ts);
}

static void test_arrays(void **state)
{
    struct tensors *ts = open_fixture();
    struct gguf_value item;
    const struct gguf_value *a = find(ts, "test.strings", GGUF_ARRAY);
    assert_int_equal(a->n_items, 4);
    assert_int_equal(gguf_item(a, 2, &item), 0);
    assert_int_equal(item.length, 9);
    assert_memory_equal(item.text, "two words", 9);
    assert_int_equal(gguf_item(a, 0, &item), 0);
    assert_int_equal(item.length, 0);
    assert_int_equal(gguf_item(a, 4, &item), -1);
    a = find(ts, "test.ints", GGUF_ARRAY);
    assert_int_equal(gguf_item(a, 0, &item), 0);
    assert_int_equal(item.i, -1);
    a = find(ts, "test.floats", GGUF_ARRAY);
    assert_int_equal(gguf_item(a, 1, &item), 0);
    assert_true(item.f == -2.0);
    a = find(ts, "test.bools", GGUF_ARRAY);
    assert_int_equal(gguf_item(a, 0, &item), 0);
    assert_int_equal(item.u, 1);
    assert_int_equal(gguf_item(find(ts, "test.int8", GGUF_INT), 0, &item), -1);
    tensors_close(ts);
}

static void test_shapes_are_row_major(void **state)
{
    struct tensors *ts = open_fixture();
    const struct tensor *t = tensors_find(ts, "Q4_K");
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 512);
    assert_int_equal(t->bytes, 4 * 144);
    tensors_close(ts);
}

/* ---- files that lie ---- */

struct lie {
    uint32_t version, n_dims, type;
    uint64_t n_tensors, n_metadata, dim, offset, alignment;
    size_t data;
    const char *second; /* name of the second tensor */
    uint64_t second_offset;
};
static const struct lie truth = {3, 1, 0, 2, 1, 8, 0, 32, 64, "b", 32};

static int open_lie(const struct lie *lie, struct siren_error *err)
{
    struct buf b = {0};
    buf_puts(&b, "GGUF");
    put_u32(&b, lie->version);
    put_u64(&b, lie->n_tensors);
    put_u64(&b, lie->n_metadata);
    put_string(&b, "general.alignment");
    put_u32(&b, 10);
    put_u64(&b, lie->alignment);
    for (int i = 0; i < 2; i++) {
        put_string(&b, i ? lie->second : "a");
        put_u32(&b, lie->n_dims);
        put_u64(&b, lie->dim);
        put_u32(&b, lie->type);
        put_u64(&b, i ? lie->second_offset : lie->offset);
    }
    while (b.size % 32) buf_putc(&b, 0);
    for (size_t i = 0; i < lie->data; i++) buf_putc(&b, (int)i);
    char folder[64], path[128];
    folder_make(folder);
    file_write(path, sizeof path, folder, "lie.gguf", b.data, b.size);
    struct tensors *ts;
    int code = tensors_open(&ts, path, err);
    if (code) assert_null(ts);
    tensors_close(ts);
    buf_free(&b);
    folder_remove(folder);
    return code;
}

#define LIE(field, value, code, ...)                                                               \
    do {                                                                                           \
        struct lie lie = truth;                                                                    \
        lie.field = (value);                                                                       \
        struct siren_error err;                                                                    \
        int got = open_lie(&lie, &err);                                                            \
        assert_error(got, &err, code, "lie.gguf", __VA_ARGS__, (char *)NULL);                      \
    } while (0)

static void test_lies_in_the_header(void **state)
{
    assert_int_equal(open_lie(&truth, NULL), 0);
    LIE(version, 2, SIREN_EUNSUPPORTED, "version 2", "expected 3");
    LIE(version, 3u << 24, SIREN_EUNSUPPORTED, "big-endian");
    LIE(n_tensors, 1ull << 60, SIREN_EFORMAT, "tensors cannot stand");
    LIE(n_metadata, UINT64_MAX, SIREN_EFORMAT, "metadata entries cannot stand");
    LIE(alignment, 0, SIREN_EFORMAT, "general.alignment");
    LIE(alignment, 48, SIREN_EFORMAT, "general.alignment", "48");
}

static void test_lies_in_a_tensor(void **state)
{
    LIE(n_dims, 5, SIREN_EFORMAT, "tensor a", "5 dimensions");
    LIE(type, 16, SIREN_EUNSUPPORTED, "tensor a", "ggml type 16");
    LIE(type, 8, SIREN_EFORMAT, "tensor a", "Q8_0", "multiples of 32");
    LIE(dim, 0, SIREN_EFORMAT, "dimension of 0");
    LIE(dim, UINT64_MAX, SIREN_EFORMAT, "dimension of");
    LIE(dim, 1ull << 62, SIREN_EFORMAT, "sizes fit 64 bits");
    LIE(dim, 1ull << 40, SIREN_EFORMAT, "beyond the end of the file");
    LIE(offset, 1, SIREN_EFORMAT, "tensor a", "multiple of the alignment");
    LIE(offset, UINT64_MAX - 31, SIREN_EFORMAT, "tensor a", "beyond the end");
    LIE(second_offset, 0, SIREN_EFORMAT, "overlap");
    LIE(data, 40, SIREN_EFORMAT, "tensor b", "beyond the end of the file");
    LIE(second, "a", SIREN_EFORMAT, "\"a\" stands there twice");
    LIE(second, "", SIREN_EFORMAT, "a tensor's name of 0 bytes");
}

/* Wherever the file ends early, it is an error and nothing else. */
static void test_truncated_anywhere(void **state)
{
    size_t size;
    char *data = file_load(FIXTURES "types.gguf", &size), folder[64], path[128];
    folder_make(folder);
    for (size_t cut = 0; cut < size; cut += cut < 1800 ? 1 : 997) {
        struct siren_error err;
        struct tensors *ts;
        file_write(path, sizeof path, folder, "cut.gguf", data, cut);
        assert_int_equal(tensors_open(&ts, path, &err), SIREN_EFORMAT);
        assert_non_null(strstr(err.message, "cut.gguf"));
    }
    folder_remove(folder);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_shapes_are_row_major),
        cmocka_unit_test(test_lies_in_the_header),
        cmocka_unit_test(test_lies_in_a_tensor),
        cmocka_unit_test(test_truncated_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
