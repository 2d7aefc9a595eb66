#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static int reserve(struct buf *b, size_t extra)
{
    if (b->failed) return 0;
    if (extra > SIZE_MAX - b->size - 1 ||
        alloc_grow(&b->data, &b->capacity, b->size + extra + 1, 1)) {
        b->failed = 1;
        return 0;
    }
    return 1;
}

void buf_append(struct buf *b, const void *bytes, size_t size)
{
    if (!reserve(b, size)) return;
    if (size) memcpy(b->data + b->size, bytes, size);
    b->size += size;
    b->data[b->size] = 0;
}

void buf_puts(struct buf *b, const char *text)
{
    buf_append(b, text, strlen(text));
}

void buf_putc(struct buf *b, int c)
{
    char byte = (char)c;
    buf_append(b, &byte, 1);
}

void buf_vprintf(struct buf *b, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int need = vsnprintf(NULL, 0, format, args);
    if (need < 0) b->failed = 1;
    if (need >= 0 && reserve(b, (size_t)need)) {
        vsnprintf(b->data + b->size, (size_t)need + 1, format, again);
        b->size += (size_t)need;
    }
    va_end(again);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buf_vprintf(b, format, args);
    va_end(args);
}

void buf_clear(struct buf *b)
{
    b->size = 0;
    b->failed = 0;
    if (b->data) b->data[0] = 0;
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

char *buf_take(struct buf *b)
{
    if (!b->failed && !b->data) buf_append(b, "", 0);
    char *data = b->failed ? NULL : b->data;
    if (b->failed) free(b->data);
    *b = (struct buf){0};
    return data;
}
