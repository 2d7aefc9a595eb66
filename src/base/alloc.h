/* Checked sizes: sizes come from files, so a product that overflows must fail
 * like an allocation that cannot be had, never wrap. */
#ifndef SIREN_BASE_ALLOC_H
#define SIREN_BASE_ALLOC_H

#include <stddef.h>

/* malloc/calloc/realloc of count × size bytes; NULL on overflow too. */
void *alloc_array(size_t count, size_t size);
void *alloc_zeroed(size_t count, size_t size);
void *alloc_resize(void *old, size_t count, size_t size);
/* 64-byte aligned, not zeroed, freed with free().  From 2 MiB on whole huge pages, where the system
 * gives them: many arrays of a few MiB are better one. */
void *alloc_aligned(size_t count, size_t size);
/* What it takes for so many bytes. */
size_t alloc_aligned_size(size_t bytes);
/* Grow *array (of elements of `size` bytes) so that it holds at least `need`
 * elements; *capacity in elements.  0 or SIREN_ENOMEM; on failure nothing moved. */
int alloc_grow(void *array_pointer, size_t *capacity, size_t need, size_t size);
char *alloc_string(const char *text, size_t length); /* NUL-terminated copy */

#endif
