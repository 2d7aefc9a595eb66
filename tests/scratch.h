/* A folder for a test's files, removed at the end; paths inside it. */
#ifndef SIREN_TESTS_SCRATCH_H
#define SIREN_TESTS_SCRATCH_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char scratch_folder[64];

static inline int scratch_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static inline int scratch_delete(void **state)
{
    return scratch_folder[0] ? nftw(scratch_folder, scratch_remove, 16, FTW_DEPTH | FTW_PHYS) : 0;
}

/* For cmocka_run_group_tests(tests, scratch_create, scratch_delete). */
static inline int scratch_create(void **state)
{
    strcpy(scratch_folder, "/tmp/siren-test-XXXXXX");
    return mkdtemp(scratch_folder) ? 0 : -1;
}

/* One of four rotating buffers: use at once, or copy. */
static inline const char *scratch_path(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    if (!scratch_folder[0]) { /* else files would be written to / */
        fputs("scratch_create() was not called\n", stderr);
        abort();
    }
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

static inline const char *scratch_write(const char *name, const void *data, size_t size)
{
    const char *path = scratch_path(name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) return NULL;
    return path;
}

#endif
