#include "siren/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"

enum { TIMEOUT_MS = 120000, FIRST_WAIT_MS = 500, LONGEST_WAIT_MS = 30000 };
#define LIMIT ((size_t)64 << 20)

/* One request, over all of its attempts. */
struct request {
    const char *url, *json;
    const struct siren_http_options *options;
    struct siren_error *err;
    CURL *curl;
    struct curl_slist *headers;
    size_t max_bytes;
    struct buf body;
    int failed;    /* code of a failure of ours inside a transfer */
    int cancelled; /* asked to stop by the caller */
    char detail[CURL_ERROR_SIZE];
};

static void initialise(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static size_t on_data(char *data, size_t size, size_t n, void *context)
{
    struct request *r = context;
    n *= size;
    if (n > r->max_bytes - r->body.size) {
        r->failed = siren_fail(r->err, SIREN_ENETWORK,
                               "%s: the answer is larger than the %zu bytes that are allowed",
                               r->url, r->max_bytes);
        return 0;
    }
    buf_append(&r->body, data, n);
    if (!buf_failed(&r->body)) return n;
    r->failed = siren_fail_memory(r->err, r->url, r->body.size + n);
    return 0;
}

static int on_progress(void *context, curl_off_t total, curl_off_t done, curl_off_t up_total,
                       curl_off_t up)
{
    struct request *r = context;
    r->cancelled = r->options->cancel && *r->options->cancel;
    return r->cancelled;
}

static int add_header(struct request *r, const char *text)
{
    struct curl_slist *longer = curl_slist_append(r->headers, text);
    if (longer) r->headers = longer;
    return longer != NULL;
}

static int set_up(struct request *r)
{
    CURL *c = r->curl = curl_easy_init();
    if (!c) return siren_fail_memory(r->err, "HTTP client", 0);
    int ok = 1;
    for (const char *const *h = r->options->headers; h && *h; h++) ok &= add_header(r, *h);
    ok &= add_header(r, "Content-Type: application/json");
    ok &= add_header(r, "Expect:"); /* no question before a long body */
    if (!ok) return siren_fail_memory(r->err, "HTTP headers", 0);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->json);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS,
                     (long)(r->options->timeout_ms ? r->options->timeout_ms : TIMEOUT_MS));
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, r->headers);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, 20000L);
    curl_easy_setopt(c, CURLOPT_URL, r->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "siren");
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, r->detail);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, r);
    return SIREN_OK;
}

static int worth_a_retry(CURLcode code, long status)
{
    switch (code) {
    case CURLE_OK:
        return status == 429 || status >= 500;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        return 1;
    default:
        return 0;
    }
}

/* Sleep in short steps, so that Ctrl-C comes through; non-zero: stop. */
static int pause_for(struct request *r, long ms)
{
    for (; ms > 0; ms -= 50) {
        struct timespec step = {0, (ms < 50 ? ms : 50) * 1000000};
        nanosleep(&step, NULL);
        if (on_progress(r, 0, 0, 0, 0)) return 1;
    }
    return 0;
}

/* The pause before attempt `attempt` (1: the first retry). */
static long wait_before(struct request *r, int attempt)
{
    curl_off_t asked = 0;
    curl_easy_getinfo(r->curl, CURLINFO_RETRY_AFTER, &asked);
    if (asked > 0) return asked < LONGEST_WAIT_MS / 1000 ? (long)asked * 1000 : LONGEST_WAIT_MS;
    long wait = r->options->wait_ms > 0 ? r->options->wait_ms : FIRST_WAIT_MS;
    for (int i = 1; i < attempt && wait < LONGEST_WAIT_MS; i++) wait *= 2;
    return wait < LONGEST_WAIT_MS ? wait : LONGEST_WAIT_MS;
}

/* Attempts until there is an answer or no more are allowed; *status is set on success. */
static int perform(struct request *r, long *status)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, initialise);
    int rc = set_up(r);
    for (int attempt = 1; !rc; attempt++) {
        buf_clear(&r->body);
        r->detail[0] = 0;
        CURLcode code = curl_easy_perform(r->curl);
        curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, status);
        if (r->cancelled) return siren_fail(r->err, SIREN_ECANCEL, "%s: stopped", r->url);
        if (r->failed) return r->failed;
        if (attempt <= r->options->retries && worth_a_retry(code, *status)) {
            if (pause_for(r, wait_before(r, attempt)))
                return siren_fail(r->err, SIREN_ECANCEL, "%s: stopped", r->url);
            continue;
        }
        if (code == CURLE_OK) return SIREN_OK;
        rc = siren_fail(r->err, SIREN_ENETWORK, "%s: %s (attempt %d of %d)", r->url,
                        r->detail[0] ? r->detail : curl_easy_strerror(code), attempt,
                        r->options->retries + 1);
    }
    return rc;
}

static void request_free(struct request *r)
{
    curl_easy_cleanup(r->curl);
    curl_slist_free_all(r->headers);
    buf_free(&r->body);
}

int siren_http_post_json(struct siren_http_response *out, const char *url, const char *json,
                         const struct siren_http_options *options, struct siren_error *err)
{
    static const struct siren_http_options defaults;
    *out = (struct siren_http_response){0};
    struct request r = {
        .url = url, .json = json, .options = options ? options : &defaults, .err = err};
    r.max_bytes = r.options->max_bytes ? r.options->max_bytes : LIMIT;
    int rc = perform(&r, &out->status);
    if (!rc) {
        out->size = r.body.size;
        out->body = buf_take(&r.body);
        if (!out->body) rc = siren_fail_memory(err, url, out->size);
    }
    request_free(&r);
    return rc;
}

void siren_http_response_clear(struct siren_http_response *response)
{
    free(response->body);
    *response = (struct siren_http_response){0};
}
