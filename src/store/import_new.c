/* A workspace that an import makes: under a temporary name until it is complete. */
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
#include "base/stream.h"
#include "siren/import.h"
#include "store/store.h"

static char *join(const char *path, const char *ending)
{
    struct buf b = {0};
    buf_printf(&b, "%s%s", path, ending);
    return buf_take(&b);
}

/* -1: no memory. */
static int exists(const char *path, const char *ending)
{
    struct stat info;
    char *name = join(path, ending);
    int yes = name ? lstat(name, &info) == 0 : -1;
    free(name);
    return yes;
}

/* Neither the file nor what SQLite would take for its log. */
static int is_free(const char *path)
{
    return *path && exists(path, "") == 0 && exists(path, "-wal") == 0 &&
           exists(path, "-journal") == 0;
}

static void remove_temporary(int folder, const char *name)
{
    static const char *const endings[] = {"-wal", "-shm", "-journal", ""};
    for (int i = 0; i < 4; i++) {
        char *whole = join(name, endings[i]);
        if (whole) unlinkat(folder, whole, 0);
        free(whole);
    }
}

/* The file under a temporary name, locked while somebody fills it (SQLite's own locks are of
 * another kind). */
struct temporary {
    char *path;
    int fd;
};

/* 0: somebody who took it for left over was faster. */
static int is_locked(int fd)
{
    struct stat info;
    return !flock(fd, LOCK_EX) && !fstat(fd, &info) && info.st_nlink > 0;
}

static int make_temporary(const char *path, struct temporary *out, struct siren_error *err)
{
    *out = (struct temporary){NULL, -1};
    for (int attempt = 0; out->fd < 0 && attempt < 100; attempt++) {
        char ending[60];
        snprintf(ending, sizeof ending, ".tmp-%ld-%d", (long)getpid(), attempt);
        free(out->path);
        out->path = join(path, ending);
        if (!out->path) return siren_fail_memory(err, "a path", strlen(path));
        out->fd = open(out->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (out->fd < 0 && errno != EEXIST) break;
        if (out->fd < 0 || is_locked(out->fd)) continue;
        close(out->fd);
        out->fd = -1;
    }
    if (out->fd >= 0) return SIREN_OK;
    int code = fail_errno(err, path, "create");
    free(out->path);
    return code;
}

/* What killed imports into the same workspace left. */
static void remove_leftover(int folder, const char *name, const char *rest, void *context)
{
    (void)context;
    struct stat info;
    int fd = *rest ? -1 : openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return;
    if (!fstat(fd, &info) && S_ISREG(info.st_mode) && !flock(fd, LOCK_EX | LOCK_NB))
        remove_temporary(folder, name);
    close(fd);
}

/* Nobody else has the file, and where the import fails it goes: it has no log while it is filled,
 * which would only write all rows twice. */
static int fill_workspace(const char *temporary, const char *workspace, const char *path,
                          const struct siren_import_options *options,
                          struct siren_import_report *report, const struct siren_progress *progress,
                          struct siren_error *err)
{
    struct siren_workspace *ws;
    int code = siren_workspace_open(&ws, temporary, SIREN_WORKSPACE_CREATE, err);
    if (code) return code;
    char *name = alloc_string(workspace, strlen(workspace)); /* for messages */
    if (name) {
        free(ws->path);
        ws->path = name;
        code = store_exec(ws, "PRAGMA journal_mode = MEMORY", "begin the file", err);
    } else {
        code = siren_fail_memory(err, "a path", strlen(workspace));
    }
    if (!code) code = siren_import(ws, path, options, report, progress, err);
    if (!code) code = store_exec(ws, "PRAGMA journal_mode = WAL", "finish the file", err);
    siren_workspace_close(ws);
    if (!code && exists(temporary, "-wal"))
        code = siren_fail(err, SIREN_EIO, "%s: cannot finish the file: its log remains", workspace);
    return code;
}

/* SIREN_EEXISTS: another process was faster. */
static int publish(const char *temporary, const char *path, struct siren_error *err)
{
    int rc = renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_NOREPLACE);
    if (rc && (errno == EINVAL || errno == ENOSYS)) { /* not on this file system */
        rc = link(temporary, path);
        if (!rc) unlink(temporary);
    }
    if (rc && errno == EEXIST) return siren_fail(err, SIREN_EEXISTS, "%s: is there already", path);
    if (rc) return fail_errno(err, path, "rename the finished file to");
    return sync_folder(path, err);
}

static int import_new(const char *workspace, const char *path,
                      const struct siren_import_options *options,
                      struct siren_import_report *report, const struct siren_progress *progress,
                      struct siren_error *err)
{
    struct temporary t;
    each_leftover(workspace, remove_leftover, NULL);
    int code = make_temporary(workspace, &t, err);
    if (code) return code;
    code = fill_workspace(t.path, workspace, path, options, report, progress, err);
    if (!code) code = publish(t.path, workspace, err);
    if (code) remove_temporary(AT_FDCWD, t.path);
    close(t.fd);
    free(t.path);
    return code;
}

int siren_import_into(const char *workspace, const char *path,
                      const struct siren_import_options *options,
                      struct siren_import_report *report, const struct siren_progress *progress,
                      struct siren_error *err)
{
    struct siren_workspace *ws;
    int code = SIREN_EEXISTS;
    if (is_free(workspace)) code = import_new(workspace, path, options, report, progress, err);
    if (code != SIREN_EEXISTS) return code;
    code = siren_workspace_open(&ws, workspace, SIREN_WORKSPACE_CREATE, err);
    if (code) return code;
    code = siren_import(ws, path, options, report, progress, err);
    siren_workspace_close(ws);
    return code;
}
