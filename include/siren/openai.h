/* Chat completions of any OpenAI-compatible server (vLLM, SGLang, llama.cpp,
 * a provider): for naming topics and for models too large for this machine. */
#ifndef SIREN_OPENAI_H
#define SIREN_OPENAI_H

#include <stdint.h>

#include "siren/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_openai_options {
    const char *base_url; /* "http://localhost:8000/v1": /chat/completions is added */
    const char *model;    /* as the server names it */
    /* The environment variable that holds the key (NULL: OPENAI_API_KEY); unset
     * or empty: no key is sent.  The key is never part of a message. */
    const char *key_variable;
    int timeout_ms;             /* 0: 120 s an attempt */
    int retries;                /* after a failed connection, a time-out, 429 or 5xx */
    int wait_ms;                /* the first pause between them (0: 500 ms) */
    double temperature;         /* 0: greedy */
    int max_tokens;             /* of an answer; 0: the server's default */
    uint64_t seed;              /* sent when not 0; servers may ignore it */
    const volatile int *cancel; /* non-zero stops a request; may be NULL */
};

struct siren_openai;

int siren_openai_create(struct siren_openai **out, const struct siren_openai_options *options,
                        struct siren_error *err);
void siren_openai_free(struct siren_openai *client); /* NULL is allowed */

/* The assistant's answer to one question, malloc'ed; system may be NULL.  An
 * error (SIREN_ENETWORK) quotes the server's message. */
int siren_openai_ask(struct siren_openai *client, const char *system, const char *question,
                     char **answer, struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
