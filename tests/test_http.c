#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server.h"
#include "siren/http.h"
#include "siren/openai.h"

#define OK(body) "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" body
#define STATUS(line, body) "HTTP/1.1 " line "\r\nConnection: close\r\n\r\n" body

static struct siren_error err;
static struct server server;
static char url[100];

static void start(const char *const *answers)
{
    assert_int_equal(server_start(&server, answers), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/x", server.port);
}

static void expect_message(const char *words)
{
    if (!strstr(err.message, words)) fail_msg("\"%s\" lacks \"%s\"", err.message, words);
}

static void test_post(void **state)
{
    start((const char *[]){OK("{\"a\": 1}"), STATUS("404 Not Found", "nothing"), NULL});
    struct siren_http_response r;
    struct siren_http_options o = {.headers = (const char *[]){"X-Name: value", NULL}};
    assert_int_equal(siren_http_post_json(&r, url, "{\"q\": 2}", &o, &err), 0);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "{\"a\": 1}");
    siren_http_response_clear(&r);
    assert_int_equal(siren_http_post_json(&r, url, "{}", NULL, &err), 0);
    assert_int_equal(r.status, 404);
    assert_string_equal(r.body, "nothing");
    siren_http_response_clear(&r);
    server_stop(&server);
    assert_non_null(strstr(server.requests[0], "POST /x HTTP/1.1"));
    assert_non_null(strstr(server.requests[0], "Content-Type: application/json"));
    assert_non_null(strstr(server.requests[0], "X-Name: value"));
    assert_non_null(strstr(server.requests[0], "{\"q\": 2}"));
}

static void test_retries(void **state)
{
    start((const char *[]){STATUS("503 Busy", "wait"), STATUS("429 Slow down", ""), "", OK("here"),
                           NULL});
    struct siren_http_response r;
    struct siren_http_options o = {.retries = 3, .wait_ms = 1};
    assert_int_equal(siren_http_post_json(&r, url, "{}", &o, &err), 0);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "here");
    siren_http_response_clear(&r);
    server_stop(&server);
    assert_int_equal(server.n_requests, 4);

    start(
        (const char *[]){"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", OK("whole"), NULL});
    o.retries = 1;
    assert_int_equal(siren_http_post_json(&r, url, "{}", &o, &err), 0);
    assert_string_equal(r.body, "whole"); /* what came of the first attempt is gone */
    siren_http_response_clear(&r);
    server_stop(&server);

    start((const char *[]){STATUS("500 No", "a"), STATUS("500 No", "b"), NULL});
    assert_int_equal(siren_http_post_json(&r, url, "{}", &o, &err), 0);
    assert_int_equal(r.status, 500);
    assert_string_equal(r.body, "b");
    siren_http_response_clear(&r);
    server_stop(&server);
}

static void test_time_outs(void **state)
{
    struct siren_http_response r;
    struct siren_http_options o = {.retries = 1, .wait_ms = 1, .timeout_ms = 500};
    start((const char *[]){SERVER_SILENT, OK("late"), SERVER_SILENT, SERVER_SILENT, NULL});
    assert_int_equal(siren_http_post_json(&r, url, "{}", &o, &err), 0);
    assert_string_equal(r.body, "late");
    siren_http_response_clear(&r);
    assert_int_equal(siren_http_post_json(&r, url, "{}", &o, &err), SIREN_ENETWORK);
    expect_message("(attempt 2 of 2)");
    server_stop(&server);
    assert_int_equal(server.n_requests, 4);
}

static void test_transport_errors(void **state)
{
    struct siren_http_response r;
    struct siren_http_options o = {.retries = 1, .wait_ms = 1};
    start((const char *[]){NULL});
    server_stop(&server); /* nobody listens there any more */
    assert_int_equal(siren_http_post_json(&r, url, "{}", &o, &err), SIREN_ENETWORK);
    expect_message("(attempt 2 of 2)");
    assert_int_equal(siren_http_post_json(&r, "file:///etc/passwd", "{}", &o, &err),
                     SIREN_ENETWORK);
    assert_int_equal(siren_http_post_json(&r, "nonsense://x", "{}", NULL, NULL), SIREN_ENETWORK);

    start((const char *[]){OK("0123456789"), NULL});
    o = (struct siren_http_options){.max_bytes = 9};
    assert_int_equal(siren_http_post_json(&r, url, "{}", &o, &err), SIREN_ENETWORK);
    expect_message("larger than the 9 bytes");
    server_stop(&server);

    start((const char *[]){"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", NULL});
    assert_int_equal(siren_http_post_json(&r, url, "{}", NULL, &err), SIREN_ENETWORK);
    server_stop(&server);
}

static void test_cancel(void **state)
{
    struct siren_http_response r;
    volatile int cancel = 1;
    struct siren_http_options o = {.cancel = &cancel};
    start((const char *[]){OK("x"), NULL});
    assert_int_equal(siren_http_post_json(&r, url, "{}", &o, &err), SIREN_ECANCEL);
    server_stop(&server);
}

/* ---- Chat completions ---- */

static int ask(const char *question, char **answer)
{
    struct siren_openai *client;
    char base[100];
    snprintf(base, sizeof base, "http://127.0.0.1:%d/v1/", server.port);
    struct siren_openai_options o = {.base_url = base,
                                     .model = "big",
                                     .key_variable = "SIREN_TEST_KEY",
                                     .retries = 1,
                                     .wait_ms = 1,
                                     .max_tokens = 7,
                                     .seed = 3};
    *answer = NULL;
    int rc = siren_openai_create(&client, &o, &err);
    if (rc) return rc;
    rc = siren_openai_ask(client, "be brief", question, answer, &err);
    siren_openai_free(client);
    return rc;
}

static void test_chat(void **state)
{
    char *answer;
    setenv("SIREN_TEST_KEY", "secret", 1);
    start((const char *[]){
        STATUS("503 Loading", ""),
        OK("{\"error\": null, \"choices\": [{\"message\": {\"role\": \"assistant\", \"content\": "
           "\"Th\\u00e9\"}}]}"),
        NULL});
    assert_int_equal(ask("name \"this\"\n", &answer), 0);
    assert_string_equal(answer, "Thé");
    free(answer);
    server_stop(&server);
    const char *r = server.requests[1];
    assert_non_null(strstr(r, "POST /v1/chat/completions HTTP/1.1"));
    assert_non_null(strstr(r, "Authorization: Bearer secret"));
    assert_non_null(strstr(r, "\"model\": \"big\""));
    assert_non_null(strstr(r, "\"content\": \"name \\\"this\\\"\\n\""));
    assert_non_null(strstr(r, "\"role\": \"system\""));
    assert_non_null(strstr(r, "\"max_tokens\": 7"));
    unsetenv("SIREN_TEST_KEY");
}

static void test_chat_errors(void **state)
{
    char *answer;
    start((const char *[]){
        STATUS("401 No", "{\"error\": {\"message\": \"wrong key\", \"type\": \"auth\"}}"),
        STATUS("400 No", "{\"error\": \"bad model\"}"), STATUS("422 No", "{\"detail\": \"why\"}"),
        STATUS("404 No", "<html>\nnot here</html>"), OK("{\"choices\": []}"), OK("no JSON"),
        OK("{\"error\": {\"message\": \"quota gone\", \"code\": 429}}"),
        OK("{\"choices\": [{\"message\": {\"content\": \"a\\ud83d b\"}}]}"), NULL});
    static const char *words[] = {"status 401: wrong key",
                                  "status 400: bad model",
                                  "status 422: why",
                                  "status 404: <html> not here</html>",
                                  "choices[0].message.content",
                                  "the answer is no JSON: line 1, column 2",
                                  "status 200: quota gone",
                                  "the answer is no JSON: line 1, column 48: invalid"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        assert_int_equal(ask("q", &answer), SIREN_ENETWORK);
        assert_null(answer);
        expect_message(words[i]);
    }
    assert_null(strstr(server.requests[0], "Authorization"));
    assert_int_equal(ask("\xff", &answer), SIREN_EINVAL);
    expect_message("UTF-8");
    setenv("SIREN_TEST_KEY", "two\nlines", 1);
    assert_int_equal(ask("q", &answer), SIREN_EINVAL);
    expect_message("SIREN_TEST_KEY: character 4");
    assert_null(strstr(err.message, "lines"));
    unsetenv("SIREN_TEST_KEY");
    server_stop(&server);

    struct siren_openai *client;
    assert_int_equal(siren_openai_create(&client, &(struct siren_openai_options){0}, &err),
                     SIREN_EINVAL);
    assert_int_equal(
        siren_openai_create(&client, &(struct siren_openai_options){.base_url = "http://x"}, &err),
        SIREN_EINVAL);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* the server's, when a client goes away */
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_post),        cmocka_unit_test(test_retries),
        cmocka_unit_test(test_time_outs),   cmocka_unit_test(test_transport_errors),
        cmocka_unit_test(test_cancel),      cmocka_unit_test(test_chat),
        cmocka_unit_test(test_chat_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
