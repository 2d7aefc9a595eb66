#include "base/temporary.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/path.h"
#include "base/stream.h"

/* ---- names ---- */

char *temporary_name(const char *path, int attempt)
{
    struct buf name = {0};
    buf_printf(&name, "%s.tmp-%ld-%d", path, (long)getpid(), attempt);
    char *text = buf_take(&name);
    if (!text) errno = ENOMEM;
    return text;
}

const char *behind_temporary(const char *text)
{
    static const char mark[] = ".tmp-", digits[] = "0123456789";
    size_t n;
    if (strncmp(text, mark, strlen(mark)) != 0) return NULL;
    text += strlen(mark);
    n = strspn(text, digits);
    if (!n || text[n] != '-') return NULL;
    text += n + 1;
    n = strspn(text, digits);
    return n ? text + n : NULL;
}

/* ---- making ---- */

/* 0: another process took the new file for one that was left, before it was locked. */
static int is_locked(int fd)
{
    struct stat st;
    int taken = flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
    return !taken && !fstat(fd, &st) && st.st_nlink;
}

int temporary_create(char **name, const char *path, mode_t mode)
{
    for (int attempt = 0; attempt < TEMPORARY_ATTEMPTS; attempt++) {
        *name = temporary_name(path, attempt);
        int fd = *name ? open(*name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode) : -1;
        if (fd >= 0 && is_locked(fd)) return fd;
        int saved = errno, again = fd >= 0 || saved == EEXIST;
        if (fd >= 0) close(fd);
        free(*name);
        *name = NULL;
        errno = saved;
        if (!again) break;
    }
    return -1;
}

/* ---- what was left ---- */

void each_leftover(const char *path, leftover_fn *found, void *context)
{
    const char *base = path_name(path);
    char *parent = path_folder(path);
    DIR *d = parent ? opendir(parent) : NULL;
    free(parent);
    if (!d) return;
    for (const struct dirent *e; (e = readdir(d));) {
        size_t n = strlen(base);
        const char *rest = strncmp(e->d_name, base, n) ? NULL : behind_temporary(e->d_name + n);
        if (rest) found(dirfd(d), e->d_name, rest, context);
    }
    closedir(d);
}

int lock_leftover(int folder, const char *name)
{
    struct stat st;
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && !flock(fd, LOCK_EX | LOCK_NB))
        return fd;
    if (fd >= 0) close(fd);
    return -1;
}

int sync_folder(const char *path, struct siren_error *err)
{
    char *folder = path_folder(path);
    if (!folder) return siren_fail_memory(err, "a path", strlen(path));
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = SIREN_OK;
    free(folder);
    /* Some file systems cannot sync a folder (EINVAL): nothing more can be done there. */
    if (fd >= 0 && fsync(fd) && errno != EINVAL) rc = fail_errno(err, path, "sync the folder of");
    if (fd >= 0) close(fd);
    return rc;
}
