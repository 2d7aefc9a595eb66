/* A small HTTP client: JSON to a server.
 *
 * Connections that fail, attempts that take too long, 429 and 5xx are tried again
 * after a growing pause (or the one that the server asks for).  http and https only. */
#ifndef SIREN_HTTP_H
#define SIREN_HTTP_H

#include <stddef.h>

#include "siren/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_http_options {     /* zero: the default in brackets */
    int timeout_ms;             /* of one attempt (120 s) */
    int retries;                /* further attempts (0) */
    int wait_ms;                /* the first pause, doubled each time up to 30 s (500 ms) */
    size_t max_bytes;           /* largest answer (64 MiB) */
    const char *const *headers; /* "Name: value", ends with NULL (none) */
    const volatile int *cancel; /* non-zero stops it: SIREN_ECANCEL (NULL) */
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

#ifdef __cplusplus
}
#endif
#endif
