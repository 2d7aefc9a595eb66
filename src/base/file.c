#include "siren/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/stream.h"

/* ---- which files are mapped ---- */

struct mapping {
    struct mapping *next;
    const unsigned char *data;
    size_t size;
    char path[];
};
static struct mapping *mappings;
/* Nobody who holds it reads mapped bytes, so the handler of a read that failed can take it. */
static pthread_mutex_t mappings_lock = PTHREAD_MUTEX_INITIALIZER;

static int remember(const struct siren_map *map, const char *path)
{
    size_t n = strlen(path) + 1;
    struct mapping *m = alloc_array(sizeof *m + n, 1);
    if (!m) return -1;
    *m = (struct mapping){.data = map->data, .size = map->size};
    memcpy(m->path, path, n);
    pthread_mutex_lock(&mappings_lock);
    m->next = mappings;
    mappings = m;
    pthread_mutex_unlock(&mappings_lock);
    return 0;
}

static void forget(const struct siren_map *map)
{
    pthread_mutex_lock(&mappings_lock);
    struct mapping **at = &mappings, *m;
    while (*at && (*at)->data != map->data) at = &(*at)->next;
    m = *at;
    if (m) *at = m->next;
    pthread_mutex_unlock(&mappings_lock);
    free(m);
}

int siren_map_find(const void *address, char *path, size_t size, uint64_t *offset)
{
    uintptr_t a = (uintptr_t)address;
    pthread_mutex_lock(&mappings_lock);
    const struct mapping *m = mappings;
    while (m && a - (uintptr_t)m->data >= m->size) m = m->next;
    if (m) {
        size_t n = strlen(m->path);
        if (n >= size) n = size - 1;
        memcpy(path, m->path, n);
        path[n] = 0;
        *offset = a - (uintptr_t)m->data;
    }
    pthread_mutex_unlock(&mappings_lock);
    return m != NULL;
}

/* ---- mapping ---- */

int siren_map_open(struct siren_map *out, const char *path, struct siren_error *err)
{
    *out = (struct siren_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(err, path, "open");
    struct stat st;
    if (fstat(fd, &st)) {
        int rc = fail_errno(err, path, "inspect");
        close(fd);
        return rc;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return siren_fail(err, SIREN_EINVAL, "%s: %s, expected a file", path,
                          S_ISDIR(st.st_mode) ? "this is a folder" : "this is not a regular file");
    }
    if (st.st_size > 0) {
        void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            int rc = fail_errno(err, path, "map into memory");
            close(fd);
            return rc;
        }
        out->data = data;
        out->size = (size_t)st.st_size;
    }
    close(fd);
    if (out->data && remember(out, path)) {
        siren_map_close(out);
        return siren_fail_memory(err, "the list of mapped files", strlen(path));
    }
    return SIREN_OK;
}

void siren_map_close(struct siren_map *map)
{
    if (map->data) {
        forget(map);
        munmap((void *)(uintptr_t)map->data, map->size);
    }
    *map = (struct siren_map){0};
}

void siren_map_release(const struct siren_map *map)
{
    if (map->data) madvise((void *)(uintptr_t)map->data, map->size, MADV_DONTNEED);
}

/* ---- reading ---- */

/* Everything the stream has, into a growing buffer with room for a final NUL. */
static int read_all(struct stream *s, char **data, size_t *size, size_t max_bytes,
                    struct siren_error *err)
{
    size_t capacity = 0;
    for (;;) {
        if (alloc_grow(data, &capacity, *size + 2, 1))
            return siren_fail_memory(err, "file content", *size);
        size_t got;
        int rc = stream_read(s, *data + *size, capacity - *size - 1, &got, err);
        if (rc) return rc;
        if (got == 0) break;
        *size += got;
        if (*size > max_bytes)
            return siren_fail(err, SIREN_EFORMAT,
                              "the content is larger than the %zu bytes that are allowed here",
                              max_bytes);
    }
    (*data)[*size] = 0;
    return SIREN_OK;
}

int siren_file_read(char **data, size_t *size, const char *path, size_t max_bytes,
                    struct siren_error *err)
{
    *data = NULL;
    *size = 0;
    struct stream *s;
    int rc = stream_open(&s, path, err);
    if (!rc) {
        rc = read_all(s, data, size, max_bytes, err);
        stream_close(s);
    }
    if (rc) {
        free(*data);
        *data = NULL;
        *size = 0;
        return siren_fail_prefix(err, rc, "%s", path);
    }
    return SIREN_OK;
}

int siren_folder_make(const char *path, struct siren_error *err)
{
    struct stat info;
    char *copy = alloc_string(path, strlen(path));
    if (!copy) return siren_fail_memory(err, "a path", strlen(path));
    for (char *at = copy + (*copy == '/'); *copy; at++) {
        char end = *at;
        if (end && end != '/') continue;
        *at = 0;
        int failed = mkdir(copy, 0777);
        int reason = failed ? errno : 0; /* of one that is there it may be another: EROFS, say */
        if (failed && stat(copy, &info) == 0) reason = S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
        if (reason) {
            siren_fail(err, SIREN_EIO, "%s: the folder %s cannot be made: %s", path, copy,
                       strerror(reason));
            free(copy);
            return SIREN_EIO;
        }
        *at = end;
        if (!end) break;
    }
    free(copy);
    return *path ? 0 : siren_fail(err, SIREN_EINVAL, "a folder without a name");
}
