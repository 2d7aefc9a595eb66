#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The one that held it may have removed the file since we have opened it: then another process
 * finds another file there, and ours is no lock. */
static int is_at(int fd, const char *path)
{
    struct stat mine, there;
    return !fstat(fd, &mine) && !stat(path, &there) && mine.st_ino == there.st_ino &&
           mine.st_dev == there.st_dev;
}

int lock_take(struct lock *lock, const char *path, struct siren_error *err)
{
    *lock = (struct lock){.fd = -1};
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (fd < 0)
            return siren_fail(err, SIREN_EIO, "%s: cannot create: %s", path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB)) {
            int why = errno;
            close(fd);
            if (why == EWOULDBLOCK)
                return siren_fail(err, SIREN_EBUSY, "%s: another process holds it", path);
            return siren_fail(err, SIREN_EIO, "%s: cannot lock: %s", path, strerror(why));
        }
        if (is_at(fd, path)) {
            *lock = (struct lock){fd, strdup(path)};
            if (lock->path) return 0;
            unlink(path);
            close(fd);
            return siren_fail_memory(err, "a path", strlen(path));
        }
        close(fd);
    }
}

void lock_release(struct lock *lock)
{
    if (!lock->path) return;
    unlink(lock->path); /* before the lock goes: see is_at() */
    close(lock->fd);
    free(lock->path);
    *lock = (struct lock){.fd = -1};
}
