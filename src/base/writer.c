#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/stream.h"
#include "base/temporary.h"
#include "siren/file.h"

enum { BUFFER = 1 << 16 };

struct siren_writer {
    int fd;
    int lock;     /* the same open file, whose lock says that somebody writes: until it is named */
    char *path;   /* as the caller named it, for messages */
    char *target; /* where the file goes: path with symbolic links resolved; NULL: in place */
    char *temporary; /* NULL when it is written in place: a device, a pipe, a descriptor */
    uint64_t written;
    size_t used;
    int failed; /* the first failure; later calls repeat it */
    char buffer[BUFFER];
};

static void free_writer(struct siren_writer *w)
{
    if (w->fd >= 0) close(w->fd);
    if (w->lock >= 0) close(w->lock);
    free(w->path);
    free(w->target);
    free(w->temporary);
    free(w);
}

static void remove_leftover(int folder, const char *name, const char *rest, void *context)
{
    int fd = *rest ? -1 : lock_leftover(folder, name);
    if (fd < 0) return;
    unlinkat(folder, name, 0);
    close(fd);
}

/* Create the temporary beside the target with the mode that the target has, or
 * that a new file would get. */
static void open_temporary(struct siren_writer *w, const struct stat *old)
{
    w->fd = temporary_create(&w->temporary, w->target, 0666);
    if (w->fd < 0) return;
    if (old) (void)!fchmod(w->fd, old->st_mode & 07777);
    w->lock = fcntl(w->fd, F_DUPFD_CLOEXEC, 0);
    if (w->lock >= 0) return;
    int saved = errno;
    unlink(w->temporary);
    close(w->fd);
    w->fd = -1;
    errno = saved;
}

/* The descriptor that /dev/stdout or /dev/fd/3 names, -1: none.  Opened anew it would have a place
 * of its own in the file, and a file renamed over it is not the one that the descriptor is of. */
static int own_descriptor(const char *path)
{
    static const char *const folders[] = {"/dev/fd/", "/proc/self/fd/"};
    if (!strcmp(path, "/dev/stdout")) return STDOUT_FILENO;
    if (!strcmp(path, "/dev/stderr")) return STDERR_FILENO;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        const char *number = path + strlen(folders[i]);
        if (strncmp(path, folders[i], strlen(folders[i])) || !*number) continue;
        if (strspn(number, "0123456789") == strlen(number)) return (int)strtoul(number, NULL, 10);
    }
    return -1;
}

static int open_path(struct siren_writer *w, const char *path, struct siren_error *err)
{
    struct stat st;
    int exists = stat(path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode))
        return siren_fail(err, SIREN_EINVAL, "%s: this is a folder, expected a file to write",
                          path);
    if (!exists && !lstat(path, &st))
        return siren_fail(err, SIREN_EIO, "%s: is a symbolic link to what does not exist", path);
    if (exists && !S_ISREG(st.st_mode)) {
        w->fd = open(path, O_WRONLY | O_CLOEXEC);
    } else {
        w->target = exists ? realpath(path, NULL) : alloc_string(path, strlen(path));
        if (!w->target) return fail_errno(err, path, "find");
        each_leftover(w->target, remove_leftover, NULL);
        open_temporary(w, exists ? &st : NULL);
    }
    return w->fd < 0 ? fail_errno(err, path, "create") : SIREN_OK;
}

static int open_target(struct siren_writer *w, const char *path, struct siren_error *err)
{
    int own = own_descriptor(path);
    if (own < 0) return open_path(w, path, err);
    w->fd = fcntl(own, F_DUPFD_CLOEXEC, 0);
    return w->fd < 0 ? fail_errno(err, path, "create") : SIREN_OK;
}

int siren_writer_open(struct siren_writer **out, const char *path, struct siren_error *err)
{
    *out = NULL;
    struct siren_writer *w = calloc(1, sizeof *w);
    if (!w) return siren_fail_memory(err, "file writer", sizeof *w);
    w->fd = w->lock = -1;
    w->path = alloc_string(path, strlen(path));
    int rc =
        w->path ? open_target(w, path, err) : siren_fail_memory(err, "file writer", strlen(path));
    if (rc)
        free_writer(w);
    else
        *out = w;
    return rc;
}

static int fail_write(struct siren_writer *w, const char *verb, struct siren_error *err)
{
    w->failed = SIREN_EIO;
    return siren_fail(err, SIREN_EIO, "%s: cannot %s after %llu bytes: %s", w->path, verb,
                      (unsigned long long)w->written, strerror(errno));
}

static int write_all(struct siren_writer *w, const char *data, size_t size, struct siren_error *err)
{
    while (size > 0) {
        ssize_t n = write(w->fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_write(w, "write", err);
        data += n;
        size -= (size_t)n;
        w->written += (uint64_t)n;
    }
    return SIREN_OK;
}

static int flush_buffer(struct siren_writer *w, struct siren_error *err)
{
    int rc = write_all(w, w->buffer, w->used, err);
    w->used = 0;
    return rc;
}

int siren_writer_write(struct siren_writer *w, const void *data, size_t size,
                       struct siren_error *err)
{
    if (w->failed)
        return siren_fail(err, w->failed, "%s: an earlier write failed, after %llu bytes", w->path,
                          (unsigned long long)w->written);
    if (size > BUFFER - w->used) {
        int rc = flush_buffer(w, err);
        if (rc) return rc;
    }
    if (size > BUFFER) return write_all(w, data, size, err);
    if (size) memcpy(w->buffer + w->used, data, size);
    w->used += size;
    return SIREN_OK;
}

int siren_writer_printf(struct siren_writer *w, struct siren_error *err, const char *format, ...)
{
    struct buf text = {0};
    va_list args;
    va_start(args, format);
    buf_vprintf(&text, format, args);
    va_end(args);
    int rc = buf_failed(&text) ? siren_fail_memory(err, w->path, text.size)
                               : siren_writer_write(w, text.data, text.size, err);
    if (rc) w->failed = rc;
    buf_free(&text);
    return rc;
}

static int finish_file(struct siren_writer *w, struct siren_error *err)
{
    int rc = siren_writer_write(w, NULL, 0, err);
    if (!rc) rc = flush_buffer(w, err);
    if (!rc && w->temporary && fsync(w->fd)) rc = fail_write(w, "sync", err);
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) && !rc) rc = fail_write(w, "close", err);
    if (rc || !w->temporary) return rc;
    if (rename(w->temporary, w->target)) return fail_write(w, "rename the finished file", err);
    free(w->temporary);
    w->temporary = NULL;
    return sync_folder(w->target, err);
}

int siren_writer_commit(struct siren_writer *w, struct siren_error *err)
{
    int rc = finish_file(w, err);
    siren_writer_abort(w);
    return rc;
}

void siren_writer_abort(struct siren_writer *w)
{
    if (!w) return;
    if (w->temporary) unlink(w->temporary);
    free_writer(w);
}

int siren_file_write(const char *path, const void *data, size_t size, struct siren_error *err)
{
    struct siren_writer *w;
    int rc = siren_writer_open(&w, path, err);
    if (rc) return rc;
    rc = siren_writer_write(w, data, size, err);
    if (!rc) return siren_writer_commit(w, err);
    siren_writer_abort(w);
    return rc;
}

int siren_file_print(const char *path, struct siren_error *err, const char *format, ...)
{
    struct buf text = {0};
    va_list args;
    va_start(args, format);
    buf_vprintf(&text, format, args);
    va_end(args);
    int rc = buf_failed(&text) ? siren_fail_memory(err, path, text.size)
                               : siren_file_write(path, text.data, text.size, err);
    buf_free(&text);
    return rc;
}
