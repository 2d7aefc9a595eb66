/* A small HTTP client: JSON to a server, a file from one.
 *
 * Connections that fail, attempts that take too long, 429 and 5xx are tried again
 * after a growing pause (or the one that the server asks for).  http and https only. */
#ifndef SIREN_HTTP_H
#define SIREN_HTTP_H

#include <stddef.h>

#include "siren/error.h"
#include "siren/progress.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_http_options {     /* zero: the default in brackets */
    int timeout_ms;             /* POST: of one attempt (120 s); download: without a byte (60 s) */
    int retries;                /* further attempts (0) */
    int wait_ms;                /* the first pause, doubled each time up to 30 s (500 ms) */
    size_t max_bytes;           /* largest answer (POST 64 MiB, download: no limit) */
    const char *const *headers; /* "Name: value", ends with NULL (none) */
    const volatile int *cancel; /* non-zero stops it: SIREN_ECANCEL (NULL) */
    const struct siren_progress *progress; /* "bytes" of a download (NULL) */
};

struct siren_http_response {
    long status; /* 200, 404, … */
    char *body;  /* NUL-terminated, never NULL after success */
    size_t size;
};

/* POST a JSON text.  Any status is a success here, so that the caller can read
 * the server's message; SIREN_ENETWORK: no answer at all. */
int siren_http_post_json(struct siren_http_response *out, const char *url, const char *json,
                         const struct siren_http_options *options, struct siren_error *err);
void siren_http_response_clear(struct siren_http_response *response);

/* GET into a file, written beside `path` and renamed when it is complete; follows
 * redirects.  A status other than 200 is SIREN_ENETWORK (404: SIREN_ENOTFOUND). */
int siren_http_download(const char *url, const char *path, const struct siren_http_options *options,
                        struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
