/* Reading a teacher's states, and choosing among its rows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/alloc.h"
#include "siren/random.h"
#include "train/teacher_file.h"

struct siren_teacher {
    struct siren_map map;
    struct teacher_scan scan;
    char *path, *json;
    struct siren_teacher_row *rows; /* (scan.n) */
    float *scores;                  /* (scan.n, n_labels) */
    unsigned char *content;         /* room for the longest */
    ZSTD_DCtx *zstd;
};

static struct teacher_record record_at(const struct siren_teacher *t, size_t row)
{
    struct teacher_record r;
    memcpy(&r, t->scan.data + t->scan.offsets[row], sizeof r);
    return r;
}

static int list_rows(struct siren_teacher *t, struct siren_error *err)
{
    size_t n_labels = (size_t)t->scan.shape.n_labels, most_ids = 0;
    t->rows = alloc_array(t->scan.n + 1, sizeof *t->rows);
    t->scores = alloc_array(t->scan.n * n_labels + 1, sizeof *t->scores);
    if (!t->rows || !t->scores)
        return siren_fail_memory(err, "the rows of teacher states", t->scan.n * sizeof *t->rows);
    for (size_t i = 0; i < t->scan.n; i++) {
        struct teacher_record r = record_at(t, i);
        float *scores = t->scores + i * n_labels;
        memcpy(scores, t->scan.data + t->scan.offsets[i] + TEACHER_RECORD,
               n_labels * sizeof *scores);
        t->rows[i] = (struct siren_teacher_row){.user = r.user,
                                                .item = r.item,
                                                .flags = r.flags,
                                                .rating = r.rating,
                                                .number = r.number,
                                                .scores = scores,
                                                .n_ids = r.n_ids};
        if (r.n_ids > most_ids) most_ids = r.n_ids;
    }
    t->content = alloc_array(most_ids * sizeof(int32_t) + teacher_state_bytes(&t->scan.shape), 1);
    return t->content ? 0 : siren_fail_memory(err, "a row of teacher states", most_ids);
}

static int open_scan(struct siren_teacher *t, struct siren_error *err)
{
    int rc = siren_map_open(&t->map, t->path, err);
    if (rc) return rc;
    t->scan.path = t->path;
    t->scan.data = t->map.data;
    t->scan.size = t->map.size;
    rc = teacher_scan_header(&t->scan, err);
    if (!rc) rc = teacher_scan_records(&t->scan, err);
    if (!rc && !t->scan.whole)
        rc = siren_fail(err, SIREN_EINVAL,
                        "%s: not finished: it has %zu rows and no end; the command that began it "
                        "goes on with it",
                        t->path, t->scan.n);
    return rc;
}

int siren_teacher_open(struct siren_teacher **out, const char *path, struct siren_error *err)
{
    struct siren_teacher *t = alloc_zeroed(1, sizeof *t);
    int rc;
    *out = NULL;
    if (!t) return siren_fail_memory(err, "teacher states", sizeof *t);
    t->path = alloc_string(path, strlen(path));
    t->zstd = ZSTD_createDCtx();
    rc = t->path && t->zstd ? open_scan(t, err) : siren_fail_memory(err, "teacher states", 0);
    if (!rc) {
        t->json = alloc_string(t->scan.json, t->scan.n_json);
        rc = t->json ? list_rows(t, err) : siren_fail_memory(err, "a description", t->scan.n_json);
    }
    if (rc)
        siren_teacher_close(t);
    else
        *out = t;
    return rc;
}

void siren_teacher_close(struct siren_teacher *t)
{
    if (!t) return;
    siren_map_close(&t->map);
    free(t->scan.offsets);
    free(t->path);
    free(t->json);
    free(t->rows);
    free(t->scores);
    free(t->content);
    ZSTD_freeDCtx(t->zstd);
    free(t);
}

const struct siren_teacher_shape *siren_teacher_shape(const struct siren_teacher *t)
{
    return &t->scan.shape;
}

const char *siren_teacher_json(const struct siren_teacher *t)
{
    return t->json;
}

void siren_teacher_checksum(const struct siren_teacher *t, char digits[33])
{
    const unsigned char *check = t->scan.data + t->scan.size - TEACHER_CHECK;
    for (int i = 0; i < TEACHER_CHECK; i++) sprintf(digits + 2 * i, "%02x", check[i]);
}

size_t siren_teacher_rows(const struct siren_teacher *t)
{
    return t->scan.n;
}

const struct siren_teacher_row *siren_teacher_row(const struct siren_teacher *t, size_t row)
{
    return row < t->scan.n ? &t->rows[row] : NULL;
}

/* The row's ids and states, side by side in t->content. */
static int unpack(struct siren_teacher *t, size_t row, struct siren_error *err)
{
    if (row >= t->scan.n)
        return siren_fail(err, SIREN_EINVAL, "%s: row %zu of %zu", t->path, row, t->scan.n);
    struct teacher_record r = record_at(t, row);
    size_t size = r.n_ids * sizeof(int32_t) + teacher_state_bytes(&t->scan.shape), n;
    const unsigned char *frame = t->scan.data + t->scan.offsets[row] + TEACHER_RECORD +
                                 (size_t)t->scan.shape.n_labels * sizeof(float);
    n = ZSTD_decompressDCtx(t->zstd, t->content, size, frame, r.n_frame);
    if (ZSTD_isError(n) || n != size)
        return siren_fail(err, SIREN_EFORMAT, "%s: row %zu: %s", t->path, row,
                          ZSTD_isError(n) ? ZSTD_getErrorName(n) : "its states end early");
    return 0;
}

int siren_teacher_states(struct siren_teacher *t, size_t row, float *states,
                         struct siren_error *err)
{
    int rc = unpack(t, row, err);
    if (!rc)
        teacher_decode(&t->scan.shape, t->content + t->rows[row].n_ids * sizeof(int32_t), states);
    return rc;
}

int teacher_ids(struct siren_teacher *t, size_t row, int32_t *ids, struct siren_error *err)
{
    int rc = unpack(t, row, err);
    if (!rc && t->rows[row].n_ids) memcpy(ids, t->content, t->rows[row].n_ids * sizeof *ids);
    return rc;
}

/* ---- which rows ---- */

static double weight_of(const struct siren_teacher_row *r, const struct siren_teacher_filter *f)
{
    uint64_t stream = (uint64_t)(uint32_t)r->user << 32 | (uint32_t)r->item;
    double off = fabs((double)r->number - (double)r->rating), weight = 1;
    if (siren_random_uniform(f->seed, stream, 0) >= f->share) return 0;
    if (f->any) return 1;
    if (!(r->flags & SIREN_TEACHER_NUMBER) || isnan(off)) return 0;
    if (f->exact && off > 1e-6) return 0;
    if (f->closeness) weight -= off / (f->high - f->low);
    return weight > 0 ? weight : 0;
}

size_t siren_teacher_select(const struct siren_teacher *t, const struct siren_teacher_filter *f,
                            double *weights)
{
    size_t n = 0;
    for (size_t i = 0; i < t->scan.n; i++) {
        weights[i] = weight_of(&t->rows[i], f);
        n += weights[i] > 0;
    }
    return n;
}
