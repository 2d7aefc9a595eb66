/* siren tokenize from outside, with a tokenizer.json made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run_program.h"

static char folder[] = "/tmp/siren-tokenize-XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#define DECODER                                                                                    \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\\u0120\":3},"             \
    "\"merges\":[\"a b\"]},\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"special\":true}],"    \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"                       \
    "\"decoder\":{\"type\":\"ByteLevel\"},\"post_processor\":{\"type\":\"TemplateProcessing\","    \
    "\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],"              \
    "\"special_tokens\":{\"<s>\":{\"ids\":[4]}}}}"
#define ENCODER                                                                                    \
    "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"#" \
    "#\","                                                                                         \
    "\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"a\":3,\"##b\":4}},"                          \
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"                                           \
    "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":[\"[CLS]\",1]}" \
    "}"

static int make_folder(void **state)
{
    if (!mkdtemp(folder)) return -1;
    write_file("decoder.json", DECODER);
    write_file("encoder.json", ENCODER);
    return 0;
}

static int remove_folder(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* printf INPUT | siren tokenize --model FOLDER/FILE OPTIONS */
static int tokenize(const char *input, const char *file, const char *options)
{
    char before[512], arguments[512];
    snprintf(before, sizeof before, "printf '%s' |", input);
    snprintf(arguments, sizeof arguments, "tokenize --model %s/%s %s", folder, file, options);
    return run_program(before, arguments, NULL);
}

static void a_line_of_ids_for_each_line(void **state)
{
    assert_int_equal(tokenize("ab a\\n\\n<s>b", "decoder.json", ""), 0);
    assert_string_equal(program_output,
                        "2 3 0\n\n4 1\n"); /* none of its own, although it declares one */
    assert_int_equal(tokenize("<s>b\\n", "decoder.json", "--untrusted"), 0);
    assert_string_equal(program_output, "1\n");
}

static void an_encoder_adds_its_own(void **state)
{
    assert_int_equal(tokenize("ab x\\n\\n", "encoder.json", "--json"), 0);
    assert_string_equal(program_output, "[1,3,4,0,2]\n[1,2]\n");
}

static void back_to_text(void **state)
{
    assert_int_equal(tokenize("2 3 0\\n[4, 1]\\n\\n", "decoder.json", "--decode"), 0);
    assert_string_equal(program_output, "ab a\n<s>b\n\n");
    assert_int_equal(tokenize("2 3 0\\n", "decoder.json", "--decode --json"), 0);
    assert_string_equal(program_output, "\"ab a\"\n");
}

static void mistakes(void **state)
{
    assert_int_equal(tokenize("1\\nx\\n", "decoder.json", "--decode"), 1);
    expect_output("line 2");
    assert_int_equal(tokenize("5\\n", "decoder.json", "--decode"), 1);
    expect_output("id 5");
    assert_int_equal(tokenize("1\\n1\\0 2\\n", "decoder.json", "--decode"), 1);
    expect_output("line 2: byte 2: expected token ids, found a NUL");
    assert_int_equal(tokenize("a", "nothing.json", ""), 1);
    expect_output("nothing.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_of_ids_for_each_line),
        cmocka_unit_test(an_encoder_adds_its_own),
        cmocka_unit_test(back_to_text),
        cmocka_unit_test(mistakes),
    };
    if (find_program()) return 1;
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
