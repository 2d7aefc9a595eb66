/* The table of tensors: types, lookup, the content hash. */
#include "model_files.h"
#include "real_models.h"

#include "weights/tensors.h"

static void test_types(void **state)
{
    assert_string_equal(tensor_type_name(TENSOR_Q4_1), "Q4_1");
    assert_int_equal(tensor_type_block(TENSOR_Q4_1), 32);
    assert_int_equal(tensor_type_bytes(TENSOR_Q4_1), 20);
    assert_int_equal(tensor_type_block(TENSOR_Q6_K), 256);
    assert_int_equal(tensor_type_bytes(TENSOR_Q6_K), 210);
    assert_string_equal(tensor_type_name(TENSOR_TYPES), "?");
    for (int t = 0; t < TENSOR_TYPES; t++) assert_true(tensor_type_bytes((enum tensor_type)t) > 0);
}

static void test_lookup(void **state)
{
    struct siren_error err;
    struct tensors *ts;
    assert_int_equal(tensors_open(&ts, FIXTURES "types.gguf", &err), 0);
    for (size_t i = 0; i < tensors_count(ts); i++)
        assert_ptr_equal(tensors_find(ts, tensors_at(ts, i)->name), tensors_at(ts, i));
    assert_null(tensors_find(ts, ""));
    assert_null(tensors_find(ts, "Q4"));
    assert_null(tensors_find(ts, "zzz"));
    assert_string_equal(tensors_path(ts), FIXTURES "types.gguf");
    tensors_close(ts);
    tensors_close(NULL);
}

/* The hash does not change from one run or version to the next, and any byte changes it. */
static void test_hash(void **state)
{
    struct siren_error err;
    struct tensors *ts;
    size_t size;
    char first[33], again[33], folder[64], path[128];
    assert_int_equal(tensors_open(&ts, FIXTURES "types.gguf", &err), 0);
    assert_int_equal(tensors_hash(ts, first, &err), 0);
    tensors_close(ts);
    assert_string_equal(first, "e4e2ffe58962aa1abe79e3728c246c13");
    char *data = file_load(FIXTURES "types.gguf", &size);
    data[size - 500] ^= 1;
    folder_make(folder);
    file_write(path, sizeof path, folder, "m.gguf", data, size);
    assert_int_equal(tensors_open(&ts, path, &err), 0);
    assert_int_equal(tensors_hash(ts, again, &err), 0);
    assert_string_not_equal(first, again);
    tensors_close(ts);
    folder_remove(folder);
    free(data);
}

static void test_missing_file(void **state)
{
    struct siren_error err;
    struct tensors *ts;
    assert_error(tensors_open(&ts, "/nowhere/model.gguf", &err), &err, SIREN_ENOTFOUND,
                 "/nowhere/model.gguf", (char *)NULL);
    assert_null(ts);
    assert_int_equal(tensors_open(&ts, "/nowhere/model.gguf", NULL), SIREN_ENOTFOUND);
}

/* A real file of each container, where they are at hand. */
static void test_real_models(void **state)
{
    const char *models = real_models();
    struct siren_error err;
    struct tensors *ts;
    char path[512];
    snprintf(path, sizeof path, "%s/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf", models);
    assert_int_equal(tensors_open(&ts, path, &err), 0);
    assert_int_equal(tensors_count(ts), 272);
    assert_int_equal(tensors_find(ts, "token_embd.weight")->shape[0], 49152);
    assert_int_equal(gguf_find(ts, "tokenizer.ggml.tokens")->n_items, 49152);
    tensors_close(ts);
    snprintf(path, sizeof path, "%s/all-minilm-l6-v2", models);
    assert_int_equal(tensors_open(&ts, path, &err), 0);
    assert_int_equal(tensors_find(ts, "embeddings.word_embeddings.weight")->shape[1], 384);
    tensors_close(ts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),       cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_hash),        cmocka_unit_test(test_missing_file),
        cmocka_unit_test(test_real_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
