/* A workspace that an import makes: under a temporary name until it is complete. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/stream.h"
#include "base/temporary.h"
#include "siren/import.h"
#include "store/store.h"

static char *with_ending(const char *path, const char *ending)
{
    struct buf b = {0};
    buf_printf(&b, "%s%s", path, ending);
    return buf_take(&b);
}

/* -1: no memory. */
static int exists(const char *path, const char *ending)
{
    struct stat info;
    char *name = with_ending(path, ending);
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
        char *whole = with_ending(name, endings[i]);
        if (whole) unlinkat(folder, whole, 0);
        free(whole);
    }
}

/* What killed imports into the same workspace left. */
static void remove_leftover(int folder, const char *name, const char *rest, void *context)
{
    int fd = *rest ? -1 : lock_leftover(folder, name);
    if (fd < 0) return;
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
    char *temporary;
    each_leftover(workspace, remove_leftover, NULL);
    int fd = temporary_create(&temporary, workspace, 0644); /* SQLite's locks are of another kind */
    if (fd < 0) return fail_errno(err, workspace, "create");
    int code = fill_workspace(temporary, workspace, path, options, report, progress, err);
    if (!code) code = publish(temporary, workspace, err);
    if (code) remove_temporary(AT_FDCWD, temporary);
    close(fd);
    free(temporary);
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
