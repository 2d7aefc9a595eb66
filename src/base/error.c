#include "siren/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int siren_fail(struct siren_error *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
    }
    return code;
}

int siren_fail_prefix(struct siren_error *err, int code, const char *format, ...)
{
    if (err) {
        char inner[sizeof err->message];
        memcpy(inner, err->message, sizeof inner);
        va_list args;
        va_start(args, format);
        int used = vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        if (used >= 0 && (size_t)used < sizeof err->message)
            snprintf(err->message + used, sizeof err->message - (size_t)used, ": %s", inner);
        err->code = code;
    }
    return code;
}

int siren_fail_memory(struct siren_error *err, const char *what, unsigned long long bytes)
{
    return siren_fail(err, SIREN_ENOMEM, "out of memory for %s (%llu bytes)", what, bytes);
}

const char *siren_code_name(int code)
{
    switch (code) {
    case SIREN_OK:
        return "ok";
    case SIREN_EINVAL:
        return "invalid argument";
    case SIREN_ENOMEM:
        return "out of memory";
    case SIREN_EIO:
        return "input/output error";
    case SIREN_EFORMAT:
        return "bad format";
    case SIREN_ENOTFOUND:
        return "not found";
    case SIREN_EBUSY:
        return "busy";
    case SIREN_ECANCEL:
        return "cancelled";
    case SIREN_EUNSUPPORTED:
        return "not supported";
    case SIREN_EEXISTS:
        return "exists already";
    case SIREN_ENUMERIC:
        return "not a finite number";
    case SIREN_ENETWORK:
        return "network error";
    default:
        return "unknown error";
    }
}
