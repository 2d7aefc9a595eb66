/* Writing a teacher's states, a record at a time, over any number of runs. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/alloc.h"
#include "base/stream.h"
#include "base/temporary.h"
#include "train/settings.h"
#include "train/teacher_file.h"

enum { LEVEL = 3 };

struct siren_teacher_writer {
    int fd;
    char *path, *partial;
    struct siren_teacher_shape shape;
    struct teacher_chain chain;
    size_t n;
    unsigned char *content, *record;
    size_t content_room, record_room;
    ZSTD_CCtx *zstd;
    int failed; /* the file may end in half a record: nothing more is appended */
};

static void free_writer(struct siren_teacher_writer *w)
{
    if (w->fd >= 0) close(w->fd);
    free(w->path);
    free(w->partial);
    free(w->content);
    free(w->record);
    ZSTD_freeCCtx(w->zstd);
    free(w);
}

/* The bytes and the checksum that takes them in. */
static int put_data(struct siren_teacher_writer *w, unsigned char *data, size_t size,
                    struct siren_error *err)
{
    if (w->failed) return siren_fail(err, w->failed, "%s: an earlier write failed", w->partial);
    teacher_chain_add(&w->chain, data, size);
    memcpy(data + size, w->chain.check, TEACHER_CHECK);
    size += TEACHER_CHECK;
    while (size > 0) {
        ssize_t n = write(w->fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return w->failed = fail_errno(err, w->partial, "write");
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static int begin(struct siren_teacher_writer *w, const char *json, struct siren_error *err)
{
    size_t n_json = strlen(json);
    uint32_t version = w->shape.encoding == SIREN_STATES_BF16 ? 1 : TEACHER_VERSION;
    uint32_t field[6] = {version,
                         (uint32_t)w->shape.encoding,
                         (uint32_t)w->shape.n_layers,
                         (uint32_t)w->shape.d,
                         (uint32_t)w->shape.n_labels,
                         (uint32_t)n_json};
    unsigned char *header = alloc_zeroed(TEACHER_HEADER + n_json + TEACHER_CHECK, 1);
    int rc;
    if (!header) return siren_fail_memory(err, "a header", n_json);
    memcpy(header, "SIRENTCH", 8);
    memcpy(header + 8, field, sizeof field);
    memcpy(header + TEACHER_HEADER, json, n_json);
    rc = put_data(w, header, TEACHER_HEADER + n_json, err);
    free(header);
    return rc;
}

/* Another shape or other settings: the file is of another piece of work. */
static int check_begun(const struct siren_teacher_writer *w, const struct teacher_scan *there,
                       const char *json, struct siren_error *err)
{
    const struct siren_teacher_shape *a = &there->shape, *b = &w->shape;
    char text[400];
    int differ = a->n_layers != b->n_layers || a->d != b->d || a->n_labels != b->n_labels ||
                 a->encoding != b->encoding;
    if (differ)
        snprintf(text, sizeof text, "%d layers of %d numbers as %s, %d labels", a->n_layers, a->d,
                 a->encoding == SIREN_STATES_INT8 ? "int8" : "bf16", a->n_labels);
    else {
        json_t *mine = json_loads(json, 0, NULL);
        json_t *theirs = json_loadb(there->json, there->n_json, 0, NULL);
        differ = !mine || !theirs || settings_differ(mine, theirs, text, sizeof text);
        if (!mine || !theirs) snprintf(text, sizeof text, "they cannot be read");
        json_decref(mine);
        json_decref(theirs);
    }
    if (!differ) return 0;
    return siren_fail(err, SIREN_EEXISTS,
                      "%s was begun with other settings (%s): go on with these, remove it, or "
                      "name another file",
                      w->partial, text);
}

/* What is there and good; *found 0: nothing, not even a whole header.  A file that ends early is
 * good as far as it goes; one that was damaged is not touched. */
static int scan_begun(struct teacher_scan *scan, const struct siren_teacher_writer *w,
                      const char *json, int *found, struct siren_error *err)
{
    struct siren_error fault;
    int rc = teacher_scan_header(scan, &fault);
    *found = !rc;
    if (rc && scan->cut) return 0;
    if (rc)
        return siren_fail(err, SIREN_EEXISTS, "%s: remove it, or name another file", fault.message);
    rc = check_begun(w, scan, json, err);
    if (rc) return rc;
    rc = teacher_scan_records(scan, &fault);
    if (!rc || scan->cut) return 0;
    if (rc != SIREN_EFORMAT) return siren_fail(err, rc, "%s", fault.message);
    return siren_fail(err, rc,
                      "%s; %zu rows before it are good: `truncate -s %zu '%s'` keeps them, and the "
                      "same command goes on behind them",
                      fault.message, scan->n, scan->good, scan->path);
}

/* Stand behind the last whole row of what is there (an end is written again); *found 0: nothing of
 * use is there. */
static int go_on(struct siren_teacher_writer *w, const char *json, int *found,
                 struct siren_error *err)
{
    struct siren_map map;
    struct teacher_scan scan = {.path = w->partial};
    int rc = siren_map_open(&map, w->partial, err);
    if (rc) return rc;
    scan.data = map.data;
    scan.size = map.size;
    rc = scan_begun(&scan, w, json, found, err);
    w->chain = scan.chain;
    w->n = scan.n;
    siren_map_close(&map);
    free(scan.offsets);
    if (rc) return rc;
    if (!*found) w->chain = (struct teacher_chain){{0}};
    if (ftruncate(w->fd, (off_t)(*found ? scan.good : 0)) || lseek(w->fd, 0, SEEK_END) < 0)
        return fail_errno(err, w->partial, "cut");
    return 0;
}

static int open_file(struct siren_teacher_writer *w, const char *json, struct siren_error *err)
{
    int found = 0, rc;
    struct stat st;
    if (!stat(w->path, &st) && S_ISDIR(st.st_mode))
        return siren_fail(err, SIREN_EEXISTS, "%s is a folder: name a file", w->path);
    if (access(w->path, F_OK) == 0)
        return siren_fail(err, SIREN_EEXISTS, "%s is there already: remove it or name another file",
                          w->path);
    w->fd = open(w->partial, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (w->fd < 0) return fail_errno(err, w->partial, "create");
    if (flock(w->fd, LOCK_EX | LOCK_NB))
        return siren_fail(err, SIREN_EBUSY, "%s: another process writes it", w->partial);
    rc = go_on(w, json, &found, err);
    return rc || found ? rc : begin(w, json, err);
}

int siren_teacher_writer_open(struct siren_teacher_writer **out, const char *path,
                              const struct siren_teacher_shape *shape, const char *json,
                              struct siren_error *err)
{
    static const char suffix[] = ".partial";
    struct siren_teacher_writer *w;
    int rc = teacher_check_shape(shape, err);
    *out = NULL;
    if (rc) return rc;
    w = alloc_zeroed(1, sizeof *w);
    if (!w) return siren_fail_memory(err, "a writer of teacher states", sizeof *w);
    w->fd = -1;
    w->shape = *shape;
    w->path = alloc_string(path, strlen(path));
    w->partial = alloc_array(strlen(path) + sizeof suffix, 1);
    w->zstd = ZSTD_createCCtx();
    if (!w->path || !w->partial || !w->zstd) {
        free_writer(w);
        return siren_fail_memory(err, "a writer of teacher states", sizeof *w);
    }
    sprintf(w->partial, "%s%s", path, suffix);
    rc = open_file(w, json, err);
    if (rc)
        free_writer(w);
    else
        *out = w;
    return rc;
}

size_t siren_teacher_writer_rows(const struct siren_teacher_writer *w)
{
    return w->n;
}

/* ---- a row ---- */

static int check_finite(const struct siren_teacher_writer *w, const struct siren_teacher_row *row,
                        const float *states, struct siren_error *err)
{
    int n_layers = w->shape.n_layers, d = w->shape.d;
    for (int k = 0; k < w->shape.n_labels; k++)
        if (!isfinite(row->scores[k]))
            return siren_fail(err, SIREN_ENUMERIC, "the score of label %d is %g", k,
                              (double)row->scores[k]);
    for (int i = 0; i < n_layers * d; i++) /* Above the largest bf16: rounding gives infinity. */
        if (!(fabsf(states[i]) <= 0x1.fep127f))
            return siren_fail(err, SIREN_ENUMERIC, "a state of layer %d is %g", i / d + 1,
                              (double)states[i]);
    return 0;
}

static int make_room(struct siren_teacher_writer *w, size_t content, struct siren_error *err)
{
    size_t record = TEACHER_RECORD + (size_t)w->shape.n_labels * sizeof(float) +
                    ZSTD_compressBound(content) + TEACHER_CHECK;
    if (alloc_grow(&w->content, &w->content_room, content, 1) ||
        alloc_grow(&w->record, &w->record_room, record, 1))
        return siren_fail_memory(err, "a row of teacher states", record);
    return 0;
}

int siren_teacher_write(struct siren_teacher_writer *w, const struct siren_teacher_row *row,
                        const int32_t *ids, const float *states, struct siren_error *err)
{
    size_t n_scores = (size_t)w->shape.n_labels * sizeof(float);
    size_t n_ids = row->n_ids * sizeof *ids, content = n_ids + teacher_state_bytes(&w->shape);
    size_t before = TEACHER_RECORD + n_scores, n_frame;
    int rc = check_finite(w, row, states, err);
    if (!rc) rc = make_room(w, content, err);
    if (rc) return rc;
    if (n_ids) memcpy(w->content, ids, n_ids);
    teacher_encode(&w->shape, states, w->content + n_ids);
    n_frame = ZSTD_compressCCtx(w->zstd, w->record + before, w->record_room - before, w->content,
                                content, LEVEL);
    if (ZSTD_isError(n_frame))
        return siren_fail(err, SIREN_ENOMEM, "zstd: %s", ZSTD_getErrorName(n_frame));
    struct teacher_record r = {.kind = TEACHER_ROW,
                               .user = row->user,
                               .item = row->item,
                               .flags = row->flags,
                               .rating = row->rating,
                               .number = row->number,
                               .n_ids = (uint32_t)row->n_ids,
                               .n_frame = (uint32_t)n_frame};
    memcpy(w->record, &r, sizeof r);
    memcpy(w->record + TEACHER_RECORD, row->scores, n_scores);
    rc = put_data(w, w->record, before + n_frame, err);
    if (!rc) w->n++;
    return rc;
}

int siren_teacher_writer_sync(struct siren_teacher_writer *w, struct siren_error *err)
{
    return fsync(w->fd) ? fail_errno(err, w->partial, "sync") : 0;
}

int siren_teacher_writer_finish(struct siren_teacher_writer *w, struct siren_error *err)
{
    unsigned char bytes[TEACHER_RECORD + TEACHER_CHECK] = {0};
    struct teacher_record end = {.kind = TEACHER_END};
    int rc;
    memcpy(bytes, &end, sizeof end);
    rc = put_data(w, bytes, TEACHER_RECORD, err);
    if (!rc) rc = siren_teacher_writer_sync(w, err);
    if (!rc && rename(w->partial, w->path)) rc = fail_errno(err, w->path, "rename to");
    if (!rc) rc = sync_folder(w->path, err);
    free_writer(w);
    return rc;
}

void siren_teacher_writer_close(struct siren_teacher_writer *w)
{
    if (w) free_writer(w);
}
