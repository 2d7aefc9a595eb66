#include "weights/safetensors_write.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "siren/file.h"

enum { BLOCK = 1 << 16 }; /* numbers converted at a time, at least one row */

/* ---- rounding: to nearest, ties to even ---- */

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* 0, or -1 where a finite value does not fit. */
static int to_bfloat(float x, uint16_t *out)
{
    uint32_t bits = bits_of(x);
    if (isnan(x)) {
        *out = (uint16_t)(bits >> 16 | 0x40); /* a NaN stays one */
        return 0;
    }
    *out = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    return isfinite(x) && (*out & 0x7f80) == 0x7f80 ? -1 : 0;
}

static int to_half(float x, uint16_t *out)
{
    uint16_t sign = (uint16_t)(bits_of(x) >> 16 & 0x8000);
    double size = fabs((double)x);
    if (isnan(x)) {
        *out = sign | 0x7e00;
        return 0;
    }
    if (size >= 65520) { /* halfway beyond the largest, 65504, and more */
        *out = sign | 0x7c00;
        return isinf(x) ? 0 : -1;
    }
    int exponent;
    frexp(size, &exponent); /* size < 2^exponent */
    if (exponent < -13 || size == 0) exponent = -13;
    /* In units of the last place; exact in double, so there is one rounding.  A carry into the
     * exponent is what the encoding wants. */
    uint32_t units = (uint32_t)nearbyint(ldexp(size, 11 - exponent));
    *out = (uint16_t)(sign | ((uint32_t)(exponent + 13) * 1024 + units));
    return 0;
}

static int convert(enum tensor_type type, const float *in, size_t n, uint16_t *out)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= type == TENSOR_BF16 ? to_bfloat(in[i], &out[i]) : to_half(in[i], &out[i]);
    return bad;
}

/* ---- the header ---- */

static size_t item_bytes(const struct safetensors_item *item)
{
    size_t n = (size_t)item->shape[0] * (item->n_dims > 1 ? (size_t)item->shape[1] : 1);
    return n * (size_t)tensor_type_bytes(item->type);
}

static json_t *header_json(const struct safetensors_item *items, size_t n,
                           const char *const *metadata, size_t n_metadata)
{
    json_t *header = json_object(), *meta = json_object();
    int bad = 0;
    for (size_t i = 0; i < n_metadata; i++)
        bad |= json_object_set_new(meta, metadata[2 * i], json_string(metadata[2 * i + 1]));
    if (n_metadata) bad |= json_object_set(header, "__metadata__", meta);
    json_decref(meta);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t end = at + item_bytes(&items[i]);
        json_t *shape = items[i].n_dims > 1 ? json_pack("[I,I]", (json_int_t)items[i].shape[0],
                                                        (json_int_t)items[i].shape[1])
                                            : json_pack("[I]", (json_int_t)items[i].shape[0]);
        bad |= json_object_set_new(header, items[i].name,
                                   json_pack("{s:s,s:o,s:[I,I]}", "dtype",
                                             tensor_type_name(items[i].type), "shape", shape,
                                             "data_offsets", (json_int_t)at, (json_int_t)end));
        at = end;
    }
    if (!bad) return header;
    json_decref(header);
    return NULL;
}

/* The length and the header, padded with blanks so that the data begins at a multiple of 8. */
static int write_header(struct siren_writer *w, const json_t *header, struct siren_error *err)
{
    char *text = json_dumps(header, JSON_COMPACT);
    if (!text) return siren_fail_memory(err, "a safetensors header", 0);
    size_t size = strlen(text);
    uint64_t padded = (size + 7) / 8 * 8;
    int rc = siren_writer_write(w, &padded, sizeof padded, err);
    if (!rc) rc = siren_writer_write(w, text, size, err);
    if (!rc) rc = siren_writer_write(w, "       ", (size_t)padded - size, err);
    free(text);
    return rc;
}

/* ---- the data ---- */

struct job {
    struct siren_writer *w;
    const char *path;
    safetensors_rows *rows;
    void *context;
    struct siren_error *err;
};

static int write_item(const struct job *job, const struct safetensors_item *item, size_t index)
{
    int64_t n_rows = item->n_dims > 1 ? item->shape[0] : 1;
    int64_t columns = item->shape[item->n_dims - 1];
    int64_t step = columns < BLOCK ? BLOCK / (columns > 0 ? columns : 1) : 1;
    if (step > n_rows) step = n_rows;
    float *x = alloc_array((size_t)step * (size_t)columns, sizeof *x);
    uint16_t *half = alloc_array((size_t)step * (size_t)columns, sizeof *half);
    int rc = x && half ? 0
                       : siren_fail_memory(job->err, item->name,
                                           (size_t)step * (size_t)columns * sizeof *x);
    for (int64_t row = 0; !rc && row < n_rows; row += step) {
        int64_t n = n_rows - row < step ? n_rows - row : step;
        size_t count = (size_t)n * (size_t)columns;
        rc = job->rows(job->context, index, row, n, x, job->err);
        if (rc) break;
        if (item->type == TENSOR_F32)
            rc = siren_writer_write(job->w, x, count * sizeof *x, job->err);
        else if (convert(item->type, x, count, half))
            rc = siren_fail(job->err, SIREN_ENUMERIC, "%s: tensor %s: a value does not fit %s",
                            job->path, item->name, tensor_type_name(item->type));
        else
            rc = siren_writer_write(job->w, half, count * sizeof *half, job->err);
    }
    free(half);
    free(x);
    return rc;
}

int safetensors_write(const char *path, const struct safetensors_item *items, size_t n,
                      const char *const *metadata, size_t n_metadata, safetensors_rows *rows,
                      void *context, struct siren_error *err)
{
    struct job job = {.path = path, .rows = rows, .context = context, .err = err};
    json_t *header = header_json(items, n, metadata, n_metadata);
    if (!header) return siren_fail_memory(err, "a safetensors header", n);
    int rc = siren_writer_open(&job.w, path, err);
    if (!rc) rc = write_header(job.w, header, err);
    json_decref(header);
    for (size_t i = 0; i < n && !rc; i++) rc = write_item(&job, &items[i], i);
    if (!rc) return siren_writer_commit(job.w, err);
    siren_writer_abort(job.w);
    return rc;
}
