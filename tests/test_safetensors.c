/* safetensors: headers that lie, and folders with shards. */
#include "model_files.h"

#include "weights/tensors.h"

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}"

static int open_header(const char *header, size_t n_data, struct tensors **ts,
                       struct siren_error *err)
{
    struct buf b = {0};
    char folder[64], path[128];
    folder_make(folder);
    put_safetensors(&b, header, n_data);
    file_write(path, sizeof path, folder, "m.safetensors", b.data, b.size);
    int code = tensors_open(ts, path, err);
    buf_free(&b);
    folder_remove(folder);
    return code;
}

static void test_tensors_and_metadata(void **state)
{
    struct tensors *ts;
    struct siren_error err;
    assert_int_equal(open_header("{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\","
                                 "\"shape\":[1,3],\"data_offsets\":[16,22]},\"empty\":{\"dtype\":"
                                 "\"I64\",\"shape\":[0],\"data_offsets\":[16,16]}," A "}   ",
                                 22, &ts, &err),
                     0);
    assert_int_equal(tensors_count(ts), 3);
    assert_false(tensors_is_gguf(ts));
    assert_null(gguf_find(ts, "general.name"));
    const struct tensor *b = tensors_find(ts, "b");
    assert_int_equal(b->type, TENSOR_BF16);
    assert_int_equal(b->shape[1], 3);
    assert_null(tensors_find(ts, "c"));
    assert_null(tensors_at(ts, 3));
    tensors_close(ts);
}

static void refuse(const char *header, size_t n_data, int code, const char *part, const char *part2)
{
    struct tensors *ts;
    struct siren_error err;
    int got = open_header(header, n_data, &ts, &err);
    assert_error(got, &err, code, "m.safetensors", part, part2, (char *)NULL);
    assert_null(ts);
}

#define T(dtype, shape, offsets)                                                                   \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void test_lies(void **state)
{
    refuse("{", 0, SIREN_EFORMAT, "no JSON", NULL);
    refuse("{\"a\":1}", 0, SIREN_EFORMAT, "tensor a", "no object");
    refuse(T("3", "[1]", "[0,4]"), 4, SIREN_EFORMAT, "dtype", NULL);
    refuse(T("\"F8_E4M3\"", "[4]", "[0,4]"), 4, SIREN_EUNSUPPORTED, "tensor a", "F8_E4M3");
    refuse(T("\"F32\"", "4", "[0,4]"), 4, SIREN_EFORMAT, "\"shape\"", NULL);
    refuse(T("\"F32\"", "[-1]", "[0,4]"), 4, SIREN_EFORMAT, "\"shape\"", NULL);
    refuse(T("\"F32\"", "[1.5]", "[0,4]"), 4, SIREN_EFORMAT, "\"shape\"", NULL);
    refuse(T("\"F32\"", "[1,1,1,1,1]", "[0,4]"), 4, SIREN_EFORMAT, "4 dimensions", NULL);
    refuse(T("\"F32\"", "[4611686018427387904,4]", "[0,0]"), 0, SIREN_EFORMAT, "64 bits", NULL);
    refuse(T("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, SIREN_EFORMAT, "64 bits", NULL);
    refuse(T("\"F32\"", "[1]", "[0]"), 4, SIREN_EFORMAT, "data_offsets", NULL);
    refuse(T("\"F32\"", "[1]", "[4,0]"), 4, SIREN_EFORMAT, "data_offsets", NULL);
    refuse(T("\"F32\"", "[1]", "[-4,0]"), 4, SIREN_EFORMAT, "data_offsets", NULL);
    refuse(T("\"F32\"", "[2]", "[0,8]"), 4, SIREN_EFORMAT, "do not lie in the 4 bytes", NULL);
    refuse(T("\"F32\"", "[2]", "[0,4]"), 4, SIREN_EFORMAT, "span 4 bytes", "needs 8");
    refuse("{" A "," A "}", 16, SIREN_EFORMAT, "no JSON", "duplicate");
}

static void test_cover(void **state)
{
    refuse("{" A "}", 17, SIREN_EFORMAT, "the last tensor ends there", NULL);
    refuse("{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[20,24]}}", 24,
           SIREN_EFORMAT, "tensor b", "a hole");
    refuse("{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}", 16,
           SIREN_EFORMAT, "tensor b", "overlap");
    refuse("{}", 1, SIREN_EFORMAT, "the last tensor", NULL);
}

static void test_header_length(void **state)
{
    char folder[64], path[128];
    struct siren_error err;
    struct tensors *ts;
    struct buf b = {0};
    folder_make(folder);
    put_u64(&b, 1ull << 62);
    buf_puts(&b, "{}");
    file_write(path, sizeof path, folder, "m.safetensors", b.data, b.size);
    assert_error(tensors_open(&ts, path, &err), &err, SIREN_EFORMAT, "m.safetensors", "byte 0",
                 "2 bytes are left", (char *)NULL);
    file_write(path, sizeof path, folder, "m.safetensors", "", 0);
    assert_error(tensors_open(&ts, path, &err), &err, SIREN_EFORMAT, "nearly empty", (char *)NULL);
    file_write(path, sizeof path, folder, "m.safetensors", "what is this", 12);
    assert_error(tensors_open(&ts, path, &err), &err, SIREN_EFORMAT, "neither a GGUF file",
                 (char *)NULL);
    buf_free(&b);
    folder_remove(folder);
}

/* ---- folders ---- */

#define INDEX "model.safetensors.index.json"

static void write_shard(const char *folder, const char *name, const char *header, size_t n_data)
{
    struct buf b = {0};
    char path[128];
    put_safetensors(&b, header, n_data);
    file_write(path, sizeof path, folder, name, b.data, b.size);
    buf_free(&b);
}

static void write_index(const char *folder, const char *text)
{
    char path[128];
    file_write(path, sizeof path, folder, INDEX, text, strlen(text));
}

static void test_shards(void **state)
{
    char folder[64];
    struct siren_error err;
    struct tensors *ts;
    folder_make(folder);
    write_shard(folder, "1.safetensors", "{" A "}", 16);
    write_shard(folder, "2.safetensors",
                "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    write_index(folder, "{\"weight_map\":{\"b\":\"2.safetensors\",\"a\":\"1.safetensors\"}}");
    assert_int_equal(tensors_open(&ts, folder, &err), 0);
    assert_int_equal(tensors_count(ts), 2);
    assert_string_equal(tensors_path(ts), folder);
    char sharded[33], whole[33];
    assert_int_equal(tensors_hash(ts, sharded, &err), 0);
    tensors_close(ts);
    /* One file takes precedence, and has the same hash when it holds the same. */
    write_shard(folder, "model.safetensors",
                "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[16,20]}," A "}", 20);
    assert_int_equal(tensors_open(&ts, folder, &err), 0);
    assert_int_equal(tensors_hash(ts, whole, &err), 0);
    assert_string_equal(sharded, whole);
    tensors_close(ts);
    folder_remove(folder);
}

static void refuse_index(const char *folder, const char *index, int code, const char *part)
{
    struct siren_error err;
    struct tensors *ts;
    write_index(folder, index);
    int got = tensors_open(&ts, folder, &err);
    assert_error(got, &err, code, part, (char *)NULL);
}

static void test_bad_shards(void **state)
{
    char folder[64];
    folder_make(folder);
    write_shard(folder, "1.safetensors", "{" A "}", 16);
    write_shard(folder, "2.safetensors", "{" A "}", 16);
    refuse_index(folder, "{", SIREN_EFORMAT, INDEX ":1");
    refuse_index(folder, "{\"weight_map\":[]}", SIREN_EFORMAT, "weight_map");
    refuse_index(folder, "{\"weight_map\":{}}", SIREN_EFORMAT, "weight_map");
    refuse_index(folder, "{\"weight_map\":{\"a\":3}}", SIREN_EFORMAT, "weight_map of a");
    refuse_index(folder, "{\"weight_map\":{\"a\":\"../1.safetensors\"}}", SIREN_EFORMAT,
                 "weight_map of a");
    refuse_index(folder, "{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"1.safetensors\"}}",
                 SIREN_EFORMAT, "tensor c is in none");
    refuse_index(folder, "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}",
                 SIREN_EFORMAT, "tensor b is in none");
    refuse_index(folder, "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"none.safetensors\"}}",
                 SIREN_ENOTFOUND, "none.safetensors");
    folder_remove(folder);
}

static void test_folder_without_model(void **state)
{
    char folder[64], path[128];
    struct siren_error err;
    struct tensors *ts;
    folder_make(folder);
    assert_error(tensors_open(&ts, folder, &err), &err, SIREN_ENOTFOUND, folder,
                 "model.safetensors.index.json", (char *)NULL);
    file_write(path, sizeof path, folder, "pytorch_model.bin", "", 0);
    assert_error(tensors_open(&ts, folder, &err), &err, SIREN_ENOTFOUND, "pytorch_model.bin",
                 (char *)NULL);
    file_write(path, sizeof path, folder, "tiny.gguf", "GGUF", 4);
    assert_error(tensors_open(&ts, folder, &err), &err, SIREN_ENOTFOUND, "tiny.gguf", (char *)NULL);
    folder_remove(folder);
    assert_error(tensors_open(&ts, folder, &err), &err, SIREN_ENOTFOUND, folder, (char *)NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_and_metadata),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_cover),
        cmocka_unit_test(test_header_length),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_bad_shards),
        cmocka_unit_test(test_folder_without_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
