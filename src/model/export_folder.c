/* The folder of an export: under a temporary name (base/temporary.h) until it is whole. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/temporary.h"
#include "model/export.h"

enum { FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };

/* ---- names ---- */

/* A file that an export writes, or what siren_writer_open() calls it until it is whole. */
static int is_ours(const char *name)
{
    static const char *const names[] = {
        EXPORT_WEIGHTS,
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "generation_config.json",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i]);
        if (strncmp(name, names[i], n) != 0) continue;
        const char *rest = name[n] ? behind_temporary(name + n) : name + n;
        if (rest && !*rest) return 1;
    }
    return 0;
}

/* ---- removing ---- */

/* All files of an export; what else lies there stays, and so does its folder. */
static void empty(int folder)
{
    int fd = openat(folder, ".", FOLDER);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d) {
        for (const struct dirent *e; (e = readdir(d));)
            if (is_ours(e->d_name)) unlinkat(folder, e->d_name, 0);
        closedir(d);
    } else if (fd >= 0) {
        close(fd);
    }
}

static void remove_folder(const char *path)
{
    int fd = open(path, FOLDER);
    if (fd < 0) return;
    empty(fd);
    close(fd);
    rmdir(path);
}

/* The lock comes first: nobody starts to write there between the look and the removal. */
static void remove_if_left(int parent, const char *name)
{
    int fd = openat(parent, name, FOLDER);
    if (fd < 0) return;
    if (!flock(fd, LOCK_EX | LOCK_NB)) {
        empty(fd);
        unlinkat(parent, name, AT_REMOVEDIR);
    }
    close(fd);
}

/* What killed exports to the same place left.  An old folder that was to be replaced (".old") is
 * garbage only where another one has its place. */
static void remove_leftover(int parent, const char *name, const char *rest, void *context)
{
    const struct export_folder *f = context;
    if (!*rest || (f->replaces && !strcmp(rest, ".old"))) remove_if_left(parent, name);
}

/* ---- making ---- */

/* An empty folder may be taken; another one, if it may be replaced. */
static int check_free(struct export_folder *f, int replace, struct siren_error *err)
{
    struct stat st;
    if (lstat(f->path, &st)) return SIREN_OK;
    if (S_ISDIR(st.st_mode) && !rmdir(f->path)) return SIREN_OK;
    f->replaces = S_ISDIR(st.st_mode) && replace;
    if (f->replaces) return SIREN_OK;
    return siren_fail(err, SIREN_EEXISTS, "%s: is there already; name a folder that is not",
                      f->path);
}

/* 1: the folder is ours; 0: another process took it for one that was left, before it was locked;
 * -1: errno.  Where a file system has no locks for folders nobody gets one, and nothing is removed.
 */
static int lock(struct export_folder *f)
{
    struct stat mine, named;
    f->lock = open(f->temporary, FOLDER);
    if (f->lock < 0) return errno == ENOENT ? 0 : -1;
    if (flock(f->lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) return 0;
    if (fstat(f->lock, &mine)) return -1;
    return !lstat(f->temporary, &named) && named.st_ino == mine.st_ino &&
           named.st_dev == mine.st_dev;
}

static int make_temporary(struct export_folder *f)
{
    for (int attempt = 0; attempt < TEMPORARY_ATTEMPTS; attempt++) {
        free(f->temporary);
        f->temporary = temporary_name(f->path, attempt);
        int made = f->temporary && !mkdir(f->temporary, 0777);
        if (!made && (!f->temporary || errno != EEXIST)) break;
        int locked = made ? lock(f) : 0;
        if (locked > 0) return 0;
        if (f->lock >= 0) close(f->lock);
        f->lock = -1;
        if (locked < 0) {
            int saved = errno;
            rmdir(f->temporary);
            errno = saved;
            break;
        }
    }
    return -1;
}

int export_folder_begin(struct export_folder *f, const char *path, int replace,
                        struct siren_error *err)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    *f = (struct export_folder){.path = alloc_string(path, n), .lock = -1};
    if (!f->path) return siren_fail_memory(err, "a path", n);
    int rc = check_free(f, replace, err);
    if (rc) return rc;
    each_leftover(f->path, remove_leftover, f);
    if (!make_temporary(f)) return SIREN_OK;
    rc = siren_fail(err, SIREN_EIO, "%s: cannot be made: %m", f->path);
    free(f->temporary);
    f->temporary = NULL;
    return rc;
}

/* ---- putting in place ---- */

/* Where the file system cannot exchange two names. */
static int replace_in_steps(const struct export_folder *f)
{
    struct buf old = {0};
    buf_printf(&old, "%s.old", f->temporary);
    int rc = buf_failed(&old) || rename(f->path, old.data) ? -1 : 0;
    if (!rc) {
        rc = rename(f->temporary, f->path);
        int saved = errno;
        if (rc && rename(old.data, f->path)) saved = errno;
        errno = saved;
        if (!rc) remove_folder(old.data);
    }
    buf_free(&old);
    return rc;
}

static int put_in_place(const struct export_folder *f)
{
    if (!f->replaces) return rename(f->temporary, f->path);
    int rc = renameat2(AT_FDCWD, f->temporary, AT_FDCWD, f->path, RENAME_EXCHANGE);
    if (rc && errno == EINVAL) return replace_in_steps(f);
    if (!rc) remove_folder(f->temporary);
    return rc;
}

int export_folder_finish(struct export_folder *f, struct siren_error *err)
{
    if (put_in_place(f))
        return siren_fail(err, SIREN_EIO, "%s: cannot rename the finished folder to it: %m",
                          f->path);
    sync_folder(f->path, NULL);
    free(f->temporary);
    f->temporary = NULL;
    return SIREN_OK;
}

void export_folder_end(struct export_folder *f)
{
    if (f->temporary) {
        empty(f->lock);
        rmdir(f->temporary);
    }
    if (f->lock >= 0) close(f->lock);
    free(f->temporary);
    free(f->path);
    *f = (struct export_folder){.lock = -1};
}
