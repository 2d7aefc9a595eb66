#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "siren/error.h"

void *alloc_array(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    return malloc(bytes ? bytes : 1);
}

void *alloc_zeroed(size_t count, size_t size)
{
    return calloc(count ? count : 1, size ? size : 1);
}

void *alloc_resize(void *old, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    return realloc(old, bytes ? bytes : 1);
}

#define CACHE_LINE ((size_t)64)
#define HUGE_PAGE ((size_t)2 << 20)

size_t alloc_aligned_size(size_t bytes)
{
    size_t unit = bytes >= HUGE_PAGE ? HUGE_PAGE : CACHE_LINE;
    if (bytes > SIZE_MAX - unit) return bytes;
    return bytes ? (bytes + unit - 1) / unit * unit : unit;
}

/* Large blocks ask for huge pages: fewer TLB misses, and one page fault on first touch instead of
 * 512. */
void *alloc_aligned(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - HUGE_PAGE) return NULL;
    int huge = bytes >= HUGE_PAGE;
    bytes = alloc_aligned_size(bytes);
    void *data = aligned_alloc(huge ? HUGE_PAGE : CACHE_LINE, bytes);
    if (data && huge) madvise(data, bytes, MADV_HUGEPAGE);
    return data;
}

int alloc_grow(void *array_pointer, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) return SIREN_OK;
    size_t target = *capacity < SIZE_MAX / 2 ? *capacity * 2 : need;
    if (target < need) target = need;
    if (target < 16) target = 16;
    void *old;
    memcpy(&old, array_pointer, sizeof old);
    void *grown = alloc_resize(old, target, size);
    if (!grown) return SIREN_ENOMEM;
    memcpy(array_pointer, &grown, sizeof grown);
    *capacity = target;
    return SIREN_OK;
}

char *alloc_string(const char *text, size_t length)
{
    char *copy = length < SIZE_MAX ? malloc(length + 1) : NULL;
    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}
