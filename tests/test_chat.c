/* Chat templates: each family against Jinja's rendering (tests/reference/chat.py), files of one's
 * own, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "text/chat.h"

#define FIXTURE "tests/fixtures/text/chat.json"
#define MAX_TURNS 16

static size_t read_messages(const json_t *list, struct siren_message messages[MAX_TURNS])
{
    size_t i;
    const json_t *item;
    assert_true(json_array_size(list) <= MAX_TURNS);
    json_array_foreach(list, i, item)
    {
        messages[i].role = json_string_value(json_object_get(item, "role"));
        messages[i].content = json_string_value(json_object_get(item, "content"));
    }
    return json_array_size(list);
}

static void check_family(const json_t *family)
{
    const char *hash = json_string_value(json_object_get(family, "hash"));
    const struct chat_template *t = chat_by_hash(hash);
    size_t i;
    const json_t *item;
    if (!t) fail_msg("hash %s is not known", hash);
    struct siren_chat *chat = chat_of(t);
    json_array_foreach(json_object_get(family, "cases"), i, item)
    {
        struct siren_message messages[MAX_TURNS];
        size_t n = read_messages(json_object_get(item, "messages"), messages);
        char *text;
        assert_int_equal(siren_chat_render(chat, messages, n, &text, NULL), 0);
        const char *expected = json_string_value(json_object_get(item, "expected"));
        if (strcmp(text, expected))
            fail_msg("%s, case %zu:\n%s\nexpected:\n%s", siren_chat_name(chat), i, text, expected);
        free(text);
    }
    assert_non_null(siren_chat_stops(chat)[0]);
    siren_chat_free(chat);
}

static void families_as_jinja_renders_them(void **state)
{
    json_error_t where;
    json_t *fixture = json_load_file(FIXTURE, 0, &where);
    size_t i;
    const json_t *family;
    if (!fixture) fail_msg("%s: %s", FIXTURE, where.text);
    assert_int_equal(json_array_size(fixture), 8);
    json_array_foreach(fixture, i, family) check_family(family);
    json_decref(fixture);
}

static void trailing_space_is_no_difference(void **state)
{
    char a[33], b[33], c[33];
    chat_hash(a, "{{ x }}", 7);
    chat_hash(b, "{{ x }}\n \n", 10);
    chat_hash(c, "{{ y }}", 7);
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
}

static void recognised(const char *variable, const char *file, const char *name)
{
    const char *folder = getenv(variable);
    char path[4096];
    struct siren_chat *chat;
    struct siren_error err = {0};
    if (!folder) {
        print_message("skipped: %s is not set\n", variable);
        skip();
    }
    snprintf(path, sizeof path, "%s/%s", folder, file);
    if (siren_chat_load(&chat, path, &err)) fail_msg("%s", err.message);
    assert_string_equal(siren_chat_name(chat), name);
    siren_chat_free(chat);
}

static void smollm2_is_recognised(void **state)
{
    recognised("SIREN_MODELS", "smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf",
               "ChatML (SmolLM2)");
}

static void qwen3_is_recognised(void **state)
{
    recognised("SIREN_DATA", "qwen3-tokenizer", "ChatML (Qwen3)");
}

static const char own[] = "# a template of one's own\n"
                          "name: Mine\n"
                          "begin: <s>\n"
                          "system: [S]{system}[/S]\\n\n"
                          "user: [U] {user} [/U]\\\\\r\n"
                          "\n"
                          "assistant: {assistant}</s>\n"
                          "prompt: [A]\\t\n"
                          "default-system: Be kind.\n"
                          "trim: yes\n"
                          "stop: </s>\n"
                          "stop: [U]";

static struct siren_chat *from_text(const char *text)
{
    struct siren_chat *chat;
    struct siren_error err = {0};
    if (chat_from_file_text(&chat, text, strlen(text), "own", &err)) fail_msg("%s", err.message);
    return chat;
}

static void a_template_of_ones_own(void **state)
{
    struct siren_chat *chat = from_text(own);
    struct siren_message messages[] = {
        {"user", " {system}{user} "}, {"assistant", "b"}, {"user", "c\n"}};
    char *text;
    assert_memory_equal(siren_chat_name(chat), "Mine #", 6);
    assert_int_equal(strlen(siren_chat_name(chat)), 6 + 16);
    assert_int_equal(siren_chat_render(chat, messages, 3, &text, NULL), 0);
    assert_string_equal(text,
                        "<s>[S]Be kind.[/S]\n[U] {system}{user} [/U]\\b</s>[U] c [/U]\\[A]\t");
    free(text);
    assert_string_equal(siren_chat_stops(chat)[0], "</s>");
    assert_string_equal(siren_chat_stops(chat)[1], "[U]");
    assert_null(siren_chat_stops(chat)[2]);
    siren_chat_free(chat);
}

/* Settings of runs hold the name: what was begun with one file does not go on with another. */
static void names_tell_template_files_apart(void **state)
{
    struct siren_chat *a = from_text("user: {user}\nprompt: A\n"),
                      *b = from_text("user: {user}\nprompt: B\n"),
                      *c = from_text("user: {user}\nprompt: A\n"),
                      *marked = from_text("\xEF\xBB\xBFuser: {user}\nprompt: A\n");
    assert_memory_equal(siren_chat_name(a), "template file #", 15);
    assert_string_not_equal(siren_chat_name(a), siren_chat_name(b));
    assert_string_equal(siren_chat_name(a), siren_chat_name(c));
    assert_string_equal(siren_chat_name(a), siren_chat_name(marked)); /* by a byte order mark */
    siren_chat_free(a);
    siren_chat_free(b);
    siren_chat_free(c);
    siren_chat_free(marked);
}

static void refused(const char *text, const char *named)
{
    struct siren_chat *chat;
    struct siren_error err = {0};
    assert_int_equal(chat_from_file_text(&chat, text, strlen(text), "own", &err), SIREN_EFORMAT);
    assert_null(chat);
    if (!strstr(err.message, named)) fail_msg("\"%s\" does not say \"%s\"", err.message, named);
}

static void files_that_are_refused(void **state)
{
    refused("", "\"prompt\"");
    refused("prompt: x", "\"user\"");
    refused("user: {user}\nprompt: x\nfoo: 1", "own:3: unknown key \"foo\"");
    refused("user {user}", "own:1");
    refused("user: nothing", "{user}");
    refused("user: {user}{user}", "{user}");
    refused("prompt: \\x", "own:1");
    refused("prompt: \\", "own:1");
    refused("trim: maybe", "yes or no");
    refused("stop: ", "stop");
    refused("user: {user}\nprompt: x\ndefault-system: y", "system");
    refused("user: {user}\nprompt: \xFF", "UTF-8");
    refused("stop: 1\nstop: 2\nstop: 3\nstop: 4\nstop: 5\nstop: 6\nstop: 7\nstop: 8\nstop: 9",
            "own:9");
}

static void messages_that_are_refused(void **state)
{
    struct siren_chat *chat = from_text("user: {user}\nprompt: >");
    struct siren_message messages[] = {{"system", "a"}, {"tool", "b"}, {"user", "\xFF"}};
    struct siren_error err = {0};
    char *text;
    assert_int_equal(siren_chat_render(chat, messages, 0, &text, &err), SIREN_EINVAL);
    assert_int_equal(siren_chat_render(chat, messages, 1, &text, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "no system turn"));
    assert_int_equal(siren_chat_render(chat, messages + 1, 1, &text, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "\"tool\""));
    assert_int_equal(siren_chat_render(chat, messages + 2, 1, &text, &err), SIREN_EINVAL);
    assert_null(text);
    siren_chat_free(chat);
    assert_int_equal(siren_chat_render(NULL, messages + 2, 1, &text, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "needs a chat template"));
    assert_null(text);
}

static void models_that_have_none(void **state)
{
    struct siren_chat *chat;
    struct siren_error err = {0};
    assert_int_equal(chat_from_jinja(&chat, "{{ odd }}", 9, "model", &err), SIREN_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "hash"));
    assert_int_equal(siren_chat_load(&chat, "/nonexistent", &err), SIREN_ENOTFOUND);
    assert_int_equal(siren_chat_load(&chat, "/", &err), SIREN_ENOTFOUND);
    assert_int_equal(siren_chat_load_file(&chat, "/nonexistent", &err), SIREN_ENOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_as_jinja_renders_them),
        cmocka_unit_test(trailing_space_is_no_difference),
        cmocka_unit_test(smollm2_is_recognised),
        cmocka_unit_test(qwen3_is_recognised),
        cmocka_unit_test(a_template_of_ones_own),
        cmocka_unit_test(names_tell_template_files_apart),
        cmocka_unit_test(files_that_are_refused),
        cmocka_unit_test(messages_that_are_refused),
        cmocka_unit_test(models_that_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
