/* siren model info, from outside. */
#include "model_files.h"

#include <jansson.h>

#include "run_program.h"
#include "siren/model.h"

/* Runs `siren model info ARGUMENTS`; returns its exit code. */
static int info(const char *arguments)
{
    char all[512];
    snprintf(all, sizeof all, "model info %s", arguments);
    return run_program("", all, NULL);
}

static json_t *info_json(const char *name)
{
    char arguments[256];
    json_error_t error;
    snprintf(arguments, sizeof arguments, FIXTURES "%s --json", name);
    assert_int_equal(info(arguments), 0);
    json_t *root = json_loads(program_output, 0, &error);
    if (!root) fail_msg("%s: %s", error.text, program_output);
    return root;
}

static long long number(const json_t *root, const char *key)
{
    return json_integer_value(json_object_get(root, key));
}

static const char *text(const json_t *root, const char *key)
{
    const char *value = json_string_value(json_object_get(root, key));
    return value ? value : "(no string)";
}

static void test_text(void **state)
{
    assert_int_equal(info(FIXTURES "gguf/smol-q4_1.gguf"), 0);
    expect_output("Model           smol-q4_1");
    expect_output("llama (language model)");
    expect_output("2 of 16, 1 for keys and values");
    expect_output("288, head tied to the embedding");
    expect_output("byte-level BPE, 288 tokens");
    expect_output("Q4_1");
    expect_output("This machine    ");
    expect_output(" kernels; --compute bf16 ");
    assert_int_equal(info(FIXTURES "yarn"), 0);
    expect_output("YaRN by 4 from 32 positions");
    expect_output("Tokenizer       none");
}

static void test_decoder(void **state)
{
    json_t *folder = info_json("smol"), *gguf = info_json("gguf/smol-bf16.gguf");
    assert_string_equal(text(folder, "architecture"), "llama");
    assert_int_equal(number(folder, "layers"), 2);
    assert_int_equal(number(folder, "vocabulary"), 288);
    assert_int_equal(number(folder, "context"), 128);
    assert_int_equal(number(folder, "parameters"), number(gguf, "parameters"));
    assert_true(json_is_true(json_object_get(folder, "tied_head")));
    assert_string_equal(text(folder, "tokenizer"), "byte-level BPE");
    assert_int_equal(strlen(text(folder, "hash")), 32);
    assert_string_not_equal(text(folder, "hash"), text(gguf, "hash")); /* other names and rows */
    const json_t *types = json_object_get(gguf, "types");
    assert_int_equal(json_object_size(types), 2);
    assert_int_equal(number(json_object_get(types, "F32"), "tensors"), 5);
    json_decref(folder);
    json_decref(gguf);
}

static void test_encoder(void **state)
{
    json_t *root = info_json("xlmr");
    assert_string_equal(text(root, "architecture"), "xlm-roberta");
    assert_string_equal(text(root, "pooling"), "cls");
    assert_true(json_is_true(json_object_get(root, "normalize")));
    assert_int_equal(number(root, "max_tokens"), 80);
    assert_null(json_object_get(root, "chat_template"));
    json_decref(root);
    root = info_json("bert");
    assert_string_equal(text(root, "tokenizer"), "WordPiece");
    json_decref(root);
}

/* The name by which runs and adapters call it. */
static void test_identity(void **state)
{
    static const char *const names[] = {"smol", "gguf/smol-bf16.gguf", "bert"};
    struct siren_error err;
    char path[256], identity[256], said[300];
    for (int i = 0; i < 3; i++) {
        json_t *root = info_json(names[i]);
        snprintf(path, sizeof path, FIXTURES "%s", names[i]);
        assert_int_equal(siren_model_identity(path, identity, &err), 0);
        assert_string_equal(text(root, "identity"), identity);
        json_decref(root);
        assert_int_equal(info(path), 0);
        snprintf(said, sizeof said, "\nIdentity        %s\n", identity);
        expect_output(said);
    }
}

static void test_mistakes(void **state)
{
    assert_int_equal(info("/nowhere"), 1);
    expect_output("/nowhere");
    assert_int_equal(info(FIXTURES "types.gguf"), 1);
    expect_output("llama.block_count is missing");
    assert_int_equal(info(FIXTURES "smol/model.safetensors"), 1);
    expect_output("smol/model.safetensors: found a file of a model's folder, expected the folder");
    assert_int_equal(info(""), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),     cmocka_unit_test(test_decoder),
        cmocka_unit_test(test_encoder),  cmocka_unit_test(test_identity),
        cmocka_unit_test(test_mistakes),
    };
    if (find_program()) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
