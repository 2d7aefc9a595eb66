/* A growing string of bytes.  Failure is sticky: after an allocation failed,
 * every append does nothing, and buf_failed() says so once at the end. */
#ifndef SIREN_BASE_BUF_H
#define SIREN_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>

struct buf {
    char *data; /* NUL-terminated once anything was appended; NULL before */
    size_t size, capacity;
    int failed;
};

void buf_append(struct buf *b, const void *bytes, size_t size);
void buf_puts(struct buf *b, const char *text);
void buf_putc(struct buf *b, int c);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *format, va_list args);
void buf_clear(struct buf *b); /* empty, memory kept */
void buf_free(struct buf *b);
static inline int buf_failed(const struct buf *b)
{
    return b->failed;
}
/* Hand the string over to the caller (free()); NULL if anything failed; b is empty after. */
char *buf_take(struct buf *b);
static inline const char *buf_text(const struct buf *b)
{
    return b->data ? b->data : "";
}

#endif
