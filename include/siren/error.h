/* Errors as data.
 *
 * A function that can fail returns int: 0 for success or one of the negative
 * codes below, and fills the caller's struct siren_error with the same code and
 * a message that names the place (file, byte or line, field), what was found
 * and what was expected.  The library never prints, never exits, never aborts
 * on input.  `err` may be NULL where the caller wants only the code. */
#ifndef SIREN_ERROR_H
#define SIREN_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

enum siren_code {
    SIREN_OK = 0,
    SIREN_EINVAL = -1,       /* an argument is out of its range */
    SIREN_ENOMEM = -2,       /* memory or a stated memory budget is exhausted */
    SIREN_EIO = -3,          /* the operating system refused to read or write */
    SIREN_EFORMAT = -4,      /* a file's content is not what its format promises */
    SIREN_ENOTFOUND = -5,    /* no such file, user, item, tensor, run … */
    SIREN_EBUSY = -6,        /* another process holds the workspace */
    SIREN_ECANCEL = -7,      /* stopped by the caller (Ctrl-C) */
    SIREN_EUNSUPPORTED = -8, /* valid, but this build or machine cannot do it */
    SIREN_EEXISTS = -9,      /* would overwrite something that is there */
    SIREN_ENUMERIC = -10,    /* NaN or Inf where a finite number is needed */
    SIREN_ENETWORK = -11,    /* a server did not answer as it should */
};

struct siren_error {
    int code;           /* enum siren_code */
    char message[1000]; /* one line, no final newline */
};

/* Set *err (if not NULL) and return `code`, so that a caller can write
 * `return siren_fail(err, SIREN_EFORMAT, "%s: byte %zu: …", …);`. */
int siren_fail(struct siren_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "prefix: " before the message that is already in *err; returns err->code.
 * For adding the place that an inner function could not know. */
int siren_fail_prefix(struct siren_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Shorthand for an allocation that failed: "out of memory for WHAT (N bytes)". */
int siren_fail_memory(struct siren_error *err, const char *what, unsigned long long bytes);

/* A word for the code: "not found", "bad format", … (static storage). */
const char *siren_code_name(int code);

#ifdef __cplusplus
}
#endif
#endif
