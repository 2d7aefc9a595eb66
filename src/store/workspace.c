#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/path.h"
#include "store/store.h"

#define DEFAULT_TIMEOUT_MS 5000

const char *siren_workspace_path(const struct siren_workspace *ws)
{
    return ws->path;
}

struct sqlite3 *siren_workspace_db(struct siren_workspace *ws)
{
    return ws->db;
}

void siren_workspace_timeout(struct siren_workspace *ws, int timeout_ms)
{
    ws->timeout_ms = timeout_ms;
    sqlite3_busy_timeout(ws->db, timeout_ms);
}

static int code_of(int sqlite_code)
{
    switch (sqlite_code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return SIREN_EBUSY;
    case SQLITE_NOMEM:
        return SIREN_ENOMEM;
    case SQLITE_INTERRUPT:
        return SIREN_ECANCEL;
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
    case SQLITE_RANGE:
    case SQLITE_MISUSE:
        return SIREN_EINVAL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_MISMATCH:
    case SQLITE_ERROR:
        return SIREN_EFORMAT;
    default:
        return SIREN_EIO;
    }
}

int siren_workspace_fail(struct siren_workspace *ws, const char *what, struct siren_error *err)
{
    int sqlite_code = ws->db ? sqlite3_errcode(ws->db) : SQLITE_NOMEM;
    int code = code_of(sqlite_code);
    if (code == SIREN_EBUSY) {
        char holder[200];
        store_lock_holder(ws->path, holder, sizeof holder);
        return siren_fail(err, code,
                          "%s: cannot %s: another process is writing to it (%s); waited %.1f s",
                          ws->path, what, holder, ws->timeout_ms / 1000.0);
    }
    if ((sqlite_code & 0xff) == SQLITE_NOTADB)
        return siren_fail(err, code, "%s: is not a workspace (not an SQLite database)", ws->path);
    if ((sqlite_code & 0xff) == SQLITE_READONLY || sqlite_code == SQLITE_PERM)
        return siren_fail(err, SIREN_EIO, "%s: cannot %s: it is read-only here (%s)", ws->path,
                          what, ws->db ? sqlite3_errmsg(ws->db) : "");
    int plain = sqlite_code & 0xff, cause = 0; /* SQLite keeps it of these two */
    if (ws->db && (plain == SQLITE_IOERR || plain == SQLITE_CANTOPEN))
        cause = sqlite3_system_errno(ws->db);
    return siren_fail(err, code, "%s: cannot %s: %s%s%s", ws->path, what,
                      ws->db ? sqlite3_errmsg(ws->db) : "out of memory", cause ? ": " : "",
                      cause ? strerror(cause) : "");
}

/* ---- transactions ---- */

static int begin_with(struct siren_workspace *ws, const char *sql, struct siren_error *err)
{
    char savepoint[40];
    if (ws->depth > 0) {
        sqlite3_snprintf(sizeof savepoint, savepoint, "SAVEPOINT level%d", ws->depth);
        sql = savepoint;
    }
    int code = store_exec(ws, sql, "begin a transaction", err);
    if (!code) ws->depth++;
    return code;
}

int siren_workspace_begin(struct siren_workspace *ws, struct siren_error *err)
{
    if (ws->mode == SIREN_WORKSPACE_READ)
        return siren_fail(err, SIREN_EINVAL, "%s: was opened for reading only", ws->path);
    return begin_with(ws, "BEGIN IMMEDIATE", err);
}

int siren_workspace_begin_read(struct siren_workspace *ws, struct siren_error *err)
{
    int code = begin_with(ws, "BEGIN", err);
    if (code) return code;
    int64_t ignored; /* SQLite takes its snapshot at the first read */
    code = store_integer(ws, "PRAGMA schema_version", 0, &ignored, err);
    if (code) siren_workspace_rollback(ws);
    return code;
}

int siren_workspace_commit(struct siren_workspace *ws, struct siren_error *err)
{
    if (ws->depth == 0)
        return siren_fail(err, SIREN_EINVAL, "%s: commit without a transaction", ws->path);
    char sql[40] = "COMMIT";
    if (ws->depth > 1) sqlite3_snprintf(sizeof sql, sql, "RELEASE level%d", ws->depth - 1);
    int code = store_exec(ws, sql, "commit", err);
    if (code)
        siren_workspace_rollback(ws);
    else
        ws->depth--;
    return code;
}

void siren_workspace_rollback(struct siren_workspace *ws)
{
    if (ws->depth == 0) return;
    ws->depth--;
    char sql[80] = "ROLLBACK";
    if (ws->depth > 0)
        sqlite3_snprintf(sizeof sql, sql, "ROLLBACK TO level%d; RELEASE level%d", ws->depth,
                         ws->depth);
    sqlite3_exec(ws->db, sql, NULL, NULL, NULL);
}

int siren_workspace_end(struct siren_workspace *ws, int rc, struct siren_error *err)
{
    if (!rc) return siren_workspace_commit(ws, err);
    siren_workspace_rollback(ws);
    return rc;
}

/* ---- opening ---- */

/* What SQLite is to be given for a path: names such as "file:x" and ":memory:", which it would not
 * take for a path, become one. */
static char *plain_name(const char *path)
{
    struct buf b = {0};
    if (*path != '/') buf_puts(&b, "./");
    buf_puts(&b, path);
    return buf_take(&b);
}

/* "file:PATH?immutable=1", with the characters that mean something in a URI escaped. */
static char *immutable_uri(const char *path)
{
    struct buf b = {0};
    buf_puts(&b, *path == '/' ? "file://" : "file:./");
    for (const char *p = path; *p; p++)
        if (strchr("%?#", *p))
            buf_printf(&b, "%%%02x", *p);
        else
            buf_putc(&b, *p);
    buf_puts(&b, "?immutable=1");
    return buf_take(&b);
}

/* As the effective user, unlike access(). */
static int may(const char *path, int what)
{
    return faccessat(AT_FDCWD, path, what, AT_EACCESS) == 0;
}

/* SQLite's log and its shared memory have to lie beside the file, though it is only read. */
static int has_room(const char *path)
{
    enum { BESIDE = 64 << 10 };
    struct statvfs fs;
    return statvfs(path, &fs) || (uint64_t)fs.f_bavail * fs.f_frsize >= BESIDE;
}

static int can_write(const char *path)
{
    char *folder = path_folder(path);
    int yes = folder && may(path, W_OK) && may(folder, W_OK) && has_room(path);
    free(folder);
    return yes;
}

/* Size of what lies beside the file under its name with `ending`; -1: nothing. */
static int64_t size_beside(const char *path, const char *ending)
{
    struct buf b = {0};
    struct stat info;
    buf_printf(&b, "%s%s", path, ending);
    int there = !buf_failed(&b) && stat(b.data, &info) == 0;
    buf_free(&b);
    return there ? (int64_t)info.st_size : -1;
}

static int is_same_state(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int store_check_unchanged(struct siren_workspace *ws, struct siren_error *err)
{
    struct stat now;
    if (stat(ws->path, &now) == 0 && is_same_state(&now, &ws->state)) return SIREN_OK;
    return siren_fail(err, SIREN_EBUSY,
                      "%s: another process has changed it while it was read (where this one may "
                      "not write, it cannot make the other wait): run it again",
                      ws->path);
}

/* A file that may be read but not written (or a folder that may not, or a full disk) has no place
 * for SQLite's shared memory.  Where nobody else has it open (there is no -shm file) and no log
 * waits, it is read as one that does not change, and every result is taken only if it has not. */
static int open_connection(struct siren_workspace *ws, struct siren_error *err)
{
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_READWRITE;
    if (ws->mode == SIREN_WORKSPACE_CREATE) flags |= SQLITE_OPEN_CREATE;
    if (ws->mode == SIREN_WORKSPACE_READ && !can_write(ws->path)) {
        flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_READONLY;
        if (size_beside(ws->path, "-shm") < 0 && size_beside(ws->path, "-wal") <= 0) {
            ws->immutable = stat(ws->path, &ws->state) == 0;
            flags |= SQLITE_OPEN_URI;
        }
    }
    char *name = ws->immutable ? immutable_uri(ws->path) : plain_name(ws->path);
    if (!name) return siren_fail_memory(err, "a path", strlen(ws->path));
    int code = sqlite3_open_v2(name, &ws->db, flags, NULL);
    free(name);
    if (code != SQLITE_OK) return siren_workspace_fail(ws, "open the workspace", err);
    siren_workspace_timeout(ws, DEFAULT_TIMEOUT_MS);
    sqlite3_extended_result_codes(ws->db, 0);
    sqlite3_db_config(ws->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(ws->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    return SIREN_OK;
}

static int check_file(const char *path, enum siren_workspace_mode mode, struct siren_error *err)
{
    struct stat info;
    if (!*path) return siren_fail(err, SIREN_EINVAL, "an empty path, expected that of a workspace");
    if (stat(path, &info)) {
        if (errno == ENOENT && mode == SIREN_WORKSPACE_CREATE) return SIREN_OK;
        if (errno == ENOENT)
            return siren_fail(err, SIREN_ENOTFOUND,
                              "%s: there is no such workspace (`siren import` makes one)", path);
        return siren_fail(err, SIREN_EIO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode))
        return siren_fail(err, SIREN_EFORMAT,
                          "%s: is not a file (expected a workspace, which is one)", path);
    if (info.st_size == 0 && mode != SIREN_WORKSPACE_CREATE)
        return siren_fail(err, SIREN_EFORMAT, "%s: is empty (expected a workspace)", path);
    if (!may(path, R_OK)) return siren_fail(err, SIREN_EIO, "%s: %s", path, strerror(errno));
    if (mode != SIREN_WORKSPACE_READ && !may(path, W_OK))
        return siren_fail(err, SIREN_EIO, "%s: cannot be written: %s", path, strerror(errno));
    return SIREN_OK;
}

/* What the file says that it is. */
struct identity {
    int64_t application, version, tables;
};

/* In one view: another process may be making the schema just now. */
static int read_identity(struct siren_workspace *ws, struct identity *id, struct siren_error *err)
{
    int depth = ws->depth;
    int code = siren_workspace_begin_read(ws, err);
    if (!code) code = store_integer(ws, "PRAGMA application_id", 0, &id->application, err);
    if (!code) code = store_integer(ws, "PRAGMA user_version", 0, &id->version, err);
    if (!code) code = store_integer(ws, "SELECT count(*) FROM sqlite_schema", 0, &id->tables, err);
    if (!code) code = siren_workspace_commit(ws, err);
    while (code && ws->depth > depth) siren_workspace_rollback(ws);
    return code;
}

static int is_blank(const struct identity *id)
{
    return id->application == 0 && id->version == 0 && id->tables == 0;
}

static int check_identity(struct siren_workspace *ws, const struct identity *id,
                          struct siren_error *err)
{
    if (is_blank(id) && ws->mode == SIREN_WORKSPACE_CREATE) return SIREN_OK;
    if (id->application != SIREN_APPLICATION_ID)
        return siren_fail(err, SIREN_EFORMAT,
                          "%s: is the database of another program (application_id 0x%llx, expected "
                          "0x%x)",
                          ws->path, (unsigned long long)id->application, SIREN_APPLICATION_ID);
    if (id->version > SIREN_SCHEMA_VERSION)
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "%s: was made by a newer SIREN (schema version %lld, this one knows %d)",
                          ws->path, (long long)id->version, SIREN_SCHEMA_VERSION);
    if (id->version < 1)
        return siren_fail(err, SIREN_EFORMAT, "%s: damaged (schema version %lld)", ws->path,
                          (long long)id->version);
    if (id->version < SIREN_SCHEMA_VERSION && ws->mode == SIREN_WORKSPACE_READ)
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "%s: has schema version %lld, this SIREN reads %d; whoever may write to "
                          "it migrates it by opening it",
                          ws->path, (long long)id->version, SIREN_SCHEMA_VERSION);
    return SIREN_OK;
}

/* Another process may migrate at the same time: look again under the write lock. */
static int migrate(struct siren_workspace *ws, struct siren_error *err)
{
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    struct identity id;
    code = read_identity(ws, &id, err);
    if (!code) code = check_identity(ws, &id, err);
    for (int64_t v = id.version; !code && v < SIREN_SCHEMA_VERSION; v++) {
        char pragma[100];
        code = store_exec(ws, schema_steps[v], "migrate the schema", err);
        sqlite3_snprintf(sizeof pragma, pragma,
                         "PRAGMA user_version = %d; PRAGMA application_id = %d", (int)v + 1,
                         SIREN_APPLICATION_ID);
        if (!code) code = store_exec(ws, pragma, "migrate the schema", err);
    }
    return siren_workspace_end(ws, code, err);
}

/* SQLite does not wait by itself when two processes change the journal mode at once. */
static int enter_wal(struct siren_workspace *ws, struct siren_error *err)
{
    for (int waited = 0;; waited += 10) {
        int code = sqlite3_exec(ws->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if (code == SQLITE_OK) return SIREN_OK;
        if (code != SQLITE_BUSY || waited >= ws->timeout_ms)
            return siren_workspace_fail(ws, "open the workspace", err);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

static int prepare_file(struct siren_workspace *ws, struct siren_error *err)
{
    struct identity id;
    int code = read_identity(ws, &id, err);
    if (!code) code = check_identity(ws, &id, err);
    if (code) return code;
    if (ws->mode == SIREN_WORKSPACE_READ)
        return store_exec(ws, "PRAGMA query_only = 1", "open the workspace", err);
    code = enter_wal(ws, err);
    if (!code && id.version < SIREN_SCHEMA_VERSION) code = migrate(ws, err);
    if (!code)
        code = store_exec(ws, "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = 1",
                          "open the workspace", err);
    return code;
}

static int open_workspace(struct siren_workspace **out, const char *path,
                          enum siren_workspace_mode mode, struct siren_error *err)
{
    *out = NULL;
    int code = check_file(path, mode, err);
    if (code) return code;
    struct siren_workspace *ws = calloc(1, sizeof *ws);
    if (!ws) return siren_fail_memory(err, "a workspace", sizeof *ws);
    ws->mode = mode;
    ws->path = alloc_string(path, strlen(path));
    code = ws->path ? open_connection(ws, err) : siren_fail_memory(err, "a path", strlen(path));
    if (!code) code = prepare_file(ws, err);
    if (code) {
        siren_workspace_close(ws);
        return code;
    }
    *out = ws;
    return SIREN_OK;
}

int siren_workspace_open(struct siren_workspace **out, const char *path,
                         enum siren_workspace_mode mode, struct siren_error *err)
{
    struct siren_workspace *writer;
    struct siren_error why;
    int code = open_workspace(out, path, mode, err);
    if (code != SIREN_EUNSUPPORTED || mode != SIREN_WORKSPACE_READ) return code;
    /* Older, or newer, which a writer refuses, too. */
    int migrated = open_workspace(&writer, path, SIREN_WORKSPACE_WRITE, &why);
    siren_workspace_close(writer);
    if (!migrated) return open_workspace(out, path, mode, err);
    if (migrated == SIREN_EIO || migrated == SIREN_EUNSUPPORTED) return code;
    return siren_fail(err, migrated, "%s", why.message);
}

void siren_workspace_close(struct siren_workspace *ws)
{
    if (!ws) return;
    while (ws->depth > 0) siren_workspace_rollback(ws);
    sqlite3_close_v2(ws->db);
    free(ws->path);
    free(ws);
}
