#include "siren/openai.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "siren/http.h"

struct siren_openai {
    struct siren_openai_options options;
    char *url, *model, *authorization; /* the header, or NULL */
};

/* "Authorization: Bearer KEY", or NULL without a key. */
static int authorization_header(struct siren_openai *o, struct siren_error *err)
{
    const char *variable = o->options.key_variable ? o->options.key_variable : "OPENAI_API_KEY";
    const char *key = getenv(variable);
    if (!key || !*key) return SIREN_OK;
    for (const char *p = key; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
            return siren_fail(err, SIREN_EINVAL,
                              "environment variable %s: character %zu cannot be part of a key",
                              variable, (size_t)(p - key) + 1);
    struct buf b = {0};
    buf_printf(&b, "Authorization: Bearer %s", key);
    o->authorization = buf_take(&b);
    return o->authorization ? SIREN_OK : siren_fail_memory(err, "key", strlen(key));
}

int siren_openai_create(struct siren_openai **out, const struct siren_openai_options *options,
                        struct siren_error *err)
{
    *out = NULL;
    const char *base = options->base_url ? options->base_url : "";
    if (strncmp(base, "http://", 7) != 0 && strncmp(base, "https://", 8) != 0)
        return siren_fail(err, SIREN_EINVAL,
                          "server \"%s\": expected an address such as http://localhost:8000/v1",
                          base);
    if (!options->model || !*options->model)
        return siren_fail(err, SIREN_EINVAL, "%s: the name of the server's model is missing", base);
    struct siren_openai *o = calloc(1, sizeof *o);
    if (!o) return siren_fail_memory(err, "client", sizeof *o);
    o->options = *options;
    size_t length = strlen(base);
    while (base[length - 1] == '/') length--;
    struct buf url = {0};
    buf_append(&url, base, length);
    buf_puts(&url, "/chat/completions");
    o->url = buf_take(&url);
    o->model = alloc_string(options->model, strlen(options->model));
    int rc = o->url && o->model ? authorization_header(o, err)
                                : siren_fail_memory(err, "client", length);
    if (rc) {
        siren_openai_free(o);
        return rc;
    }
    *out = o;
    return SIREN_OK;
}

void siren_openai_free(struct siren_openai *o)
{
    if (!o) return;
    free(o->url);
    free(o->model);
    free(o->authorization);
    free(o);
}

static json_t *message_json(const char *role, const char *content)
{
    return json_pack("{s:s, s:s}", "role", role, "content", content);
}

/* The request's JSON text, malloc'ed; NULL with an error when a text is not UTF-8. */
static char *request_text(const struct siren_openai *o, const char *system, const char *question,
                          struct siren_error *err)
{
    json_t *messages = json_array();
    int bad = system && json_array_append_new(messages, message_json("system", system));
    bad |= json_array_append_new(messages, message_json("user", question));
    json_t *request = json_pack("{s:s, s:o, s:f, s:b}", "model", o->model, "messages", messages,
                                "temperature", o->options.temperature, "stream", 0);
    if (request && o->options.max_tokens > 0)
        bad |= json_object_set_new(request, "max_tokens", json_integer(o->options.max_tokens));
    if (request && o->options.seed)
        bad |= json_object_set_new(request, "seed", json_integer((json_int_t)o->options.seed));
    char *text = request && !bad ? json_dumps(request, 0) : NULL;
    json_decref(request);
    if (!text) siren_fail(err, SIREN_EINVAL, "the question to %s is not valid UTF-8", o->url);
    return text;
}

/* What the server says about an error: {"error": {"message": …}}, {"error": …},
 * {"message": …} or {"detail": …}; or the beginning of any other text. */
static const char *server_message(const json_t *root, const char *body)
{
    const json_t *e = json_object_get(root, "error");
    const json_t *candidates[] = {json_object_get(e, "message"), e,
                                  json_object_get(root, "message"),
                                  json_object_get(root, "detail")};
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        if (json_is_string(candidates[i])) return json_string_value(candidates[i]);
    return body;
}

static int fail_server(const struct siren_openai *o, long status, const char *words,
                       struct siren_error *err)
{
    char line[400];
    size_t n = 0;
    for (; words[n] && n + 1 < sizeof line; n++)
        line[n] = (unsigned char)words[n] < ' ' ? ' ' : words[n];
    while (n > 0 && words[n] && ((unsigned char)words[n] & 0xc0) == 0x80) n--;
    line[n] = 0;
    return siren_fail(err, SIREN_ENETWORK, "%s: status %ld: %s", o->url, status,
                      n ? line : "(the server says nothing)");
}

/* choices[0].message.content of the answer.  Some servers tell errors with status 200. */
static int read_answer(const struct siren_openai *o, const struct siren_http_response *response,
                       char **answer, struct siren_error *err)
{
    json_error_t where;
    json_t *root = json_loadb(response->body, response->size, 0, &where);
    const json_t *error = json_object_get(root, "error");
    const json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    const json_t *content = json_object_get(json_object_get(choice, "message"), "content");
    int rc;
    if (response->status != 200 || (error && !json_is_null(error))) {
        rc = fail_server(o, response->status, server_message(root, response->body), err);
    } else if (!root) {
        rc = siren_fail(err, SIREN_ENETWORK, "%s: the answer is no JSON: line %d, column %d: %s",
                        o->url, where.line, where.column, where.text);
    } else if (!json_is_string(content)) {
        rc = siren_fail(err, SIREN_ENETWORK,
                        "%s: the answer has no choices[0].message.content that is a text", o->url);
    } else {
        *answer = alloc_string(json_string_value(content), json_string_length(content));
        rc = *answer ? SIREN_OK : siren_fail_memory(err, "answer", response->size);
    }
    json_decref(root);
    return rc;
}

int siren_openai_ask(struct siren_openai *o, const char *system, const char *question,
                     char **answer, struct siren_error *err)
{
    *answer = NULL;
    char *text = request_text(o, system, question, err);
    if (!text) return SIREN_EINVAL;
    const char *headers[] = {o->authorization, NULL};
    struct siren_http_options http = {.timeout_ms = o->options.timeout_ms,
                                      .retries = o->options.retries,
                                      .wait_ms = o->options.wait_ms,
                                      .headers = headers,
                                      .cancel = o->options.cancel};
    struct siren_http_response response;
    int rc = siren_http_post_json(&response, o->url, text, &http, err);
    free(text);
    if (!rc) rc = read_answer(o, &response, answer, err);
    siren_http_response_clear(&response);
    return rc;
}
