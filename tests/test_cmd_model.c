/* siren model info, from outside. */
#include "model_files.h"

#include <jansson.h>
#include <sys/wait.h>

static char program[512]; /* build/siren, beside this test's folder */
static char output[1 << 16];

/* Runs `siren model info ARGUMENTS`; returns its exit code. */
static int info(const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "{ '%s' model info %s; } 2>&1", program, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(output, 1, sizeof output - 1, pipe);
    output[n] = 0;
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect(const char *words)
{
    if (!strstr(output, words)) fail_msg("\"%s\" is not in:\n%s", words, output);
}

static json_t *info_json(const char *name)
{
    char arguments[256];
    json_error_t error;
    snprintf(arguments, sizeof arguments, FIXTURES "%s --json", name);
    assert_int_equal(info(arguments), 0);
    json_t *root = json_loads(output, 0, &error);
    if (!root) fail_msg("%s: %s", error.text, output);
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
    expect("Model           smol-q4_1");
    expect("llama (language model)");
    expect("2 of 16, 1 for keys and values");
    expect("288, head tied to the embedding");
    expect("byte-level BPE, 288 tokens");
    expect("Q4_1");
    assert_int_equal(info(FIXTURES "yarn"), 0);
    expect("YaRN by 4 from 32 positions");
    expect("Tokenizer       none");
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

static void test_mistakes(void **state)
{
    assert_int_equal(info("/nowhere"), 1);
    expect("/nowhere");
    assert_int_equal(info(FIXTURES "types.gguf"), 1);
    expect("llama.block_count is missing");
    assert_int_equal(info(""), 2);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_decoder),
        cmocka_unit_test(test_encoder),
        cmocka_unit_test(test_mistakes),
    };
    const char *slash = strrchr(argv[0], '/');
    snprintf(program, sizeof program, "%.*s/../siren", slash ? (int)(slash - argv[0]) : 1,
             slash ? argv[0] : ".");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
