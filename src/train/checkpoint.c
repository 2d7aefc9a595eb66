/* Checkpoints: the format's writer and reader, and a training's state in it. */
#include "siren/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

#include "base/alloc.h"
#include "siren/file.h"

enum { VERSION = 1, HEADER = 24, TRAILER = 16, CHUNK = 1 << 16, LONGEST_NAME = 255 };
/* zstd's densest block turns 4 bytes into 128 KiB: a content beyond that is a lie. */
enum { DENSEST = 1 << 15 };

/* ---- Writing: content → zstd → hash and file ---- */

struct sink {
    struct siren_writer *file;
    ZSTD_CCtx *zstd;
    XXH3_state_t *hash;
    unsigned char out[CHUNK];
};

static int put_raw(struct sink *s, const void *data, size_t size, struct siren_error *err)
{
    XXH3_128bits_update(s->hash, data, size);
    return siren_writer_write(s->file, data, size, err);
}

static int put_data(struct sink *s, const void *data, size_t size, ZSTD_EndDirective mode,
                    struct siren_error *err)
{
    ZSTD_inBuffer in = {data, size, 0};
    size_t left;
    do {
        ZSTD_outBuffer out = {s->out, CHUNK, 0};
        left = ZSTD_compressStream2(s->zstd, &out, &in, mode);
        if (ZSTD_isError(left))
            return siren_fail(err, SIREN_ENOMEM, "zstd: %s", ZSTD_getErrorName(left));
        if (out.pos && put_raw(s, s->out, out.pos, err)) return SIREN_EIO;
    } while (mode == ZSTD_e_end ? left > 0 : in.pos < in.size);
    return 0;
}

static int put_number(struct sink *s, uint64_t number, struct siren_error *err)
{
    return put_data(s, &number, sizeof number, ZSTD_e_continue, err);
}

static int put_bytes(struct sink *s, const void *data, size_t size, struct siren_error *err)
{
    return size ? put_data(s, data, size, ZSTD_e_continue, err) : 0;
}

static int put_array(struct sink *s, const struct siren_array *a, struct siren_error *err)
{
    int rc = put_number(s, strlen(a->name), err);
    if (!rc) rc = put_bytes(s, a->name, strlen(a->name), err);
    if (!rc) rc = put_number(s, a->n, err);
    if (!rc) rc = put_bytes(s, a->data, a->n * sizeof *a->data, err);
    return rc;
}

static int put_header(struct sink *s, const char *json, const struct siren_array *arrays, size_t n,
                      struct siren_error *err)
{
    unsigned char header[HEADER] = "SIRENCKP";
    uint32_t version = VERSION;
    uint64_t length = 24 + strlen(json);
    for (size_t i = 0; i < n; i++)
        length += 16 + strlen(arrays[i].name) + arrays[i].n * sizeof *arrays[i].data;
    memcpy(header + 8, &version, sizeof version);
    memcpy(header + 16, &length, sizeof length);
    return put_raw(s, header, sizeof header, err);
}

static int put_all(struct sink *s, const char *json, uint64_t steps,
                   const struct siren_array *arrays, size_t n, struct siren_error *err)
{
    XXH128_canonical_t trailer;
    int rc = put_header(s, json, arrays, n, err);
    if (!rc) rc = put_number(s, steps, err);
    if (!rc) rc = put_number(s, n, err);
    if (!rc) rc = put_number(s, strlen(json), err);
    if (!rc) rc = put_bytes(s, json, strlen(json), err);
    for (size_t i = 0; !rc && i < n; i++) rc = put_array(s, &arrays[i], err);
    if (!rc) rc = put_data(s, NULL, 0, ZSTD_e_end, err);
    if (rc) return rc;
    XXH128_canonicalFromHash(&trailer, XXH3_128bits_digest(s->hash));
    return siren_writer_write(s->file, &trailer, sizeof trailer, err);
}

static int check_names(const struct siren_array *arrays, size_t n, struct siren_error *err)
{
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(arrays[i].name);
        if (length == 0 || length > LONGEST_NAME)
            return siren_fail(err, SIREN_EINVAL, "array %zu: a name of %zu bytes, expected 1 to %d",
                              i, length, LONGEST_NAME);
    }
    return 0;
}

int siren_checkpoint_save(const char *path, const char *json, uint64_t steps,
                          const struct siren_array *arrays, size_t n, struct siren_error *err)
{
    struct sink *s;
    int rc = check_names(arrays, n, err);
    if (rc) return rc;
    s = calloc(1, sizeof *s);
    if (!s) return siren_fail_memory(err, "a checkpoint's writer", sizeof *s);
    s->zstd = ZSTD_createCCtx();
    s->hash = XXH3_createState();
    if (!s->zstd || !s->hash || XXH3_128bits_reset(s->hash))
        rc = siren_fail_memory(err, "a checkpoint's writer", sizeof *s);
    if (!rc) rc = siren_writer_open(&s->file, path, err);
    if (!rc) {
        rc = put_all(s, json ? json : "", steps, arrays, n, err);
        if (rc)
            siren_writer_abort(s->file);
        else
            rc = siren_writer_commit(s->file, err);
    }
    ZSTD_freeCCtx(s->zstd);
    XXH3_freeState(s->hash);
    free(s);
    return rc;
}

/* ---- Reading ---- */

struct source {
    const char *path;
    ZSTD_DCtx *zstd;
    ZSTD_inBuffer in;
    uint64_t left; /* of the content, in bytes */
};

static int fail_content(struct source *s, const char *what, struct siren_error *err)
{
    return siren_fail(err, SIREN_EFORMAT, "%s: content of the checkpoint: %s with %llu bytes left",
                      s->path, what, (unsigned long long)s->left);
}

static int get_data(struct source *s, void *data, size_t size, struct siren_error *err)
{
    ZSTD_outBuffer out = {data, size, 0};
    if (size > s->left) return fail_content(s, "a length beyond its end", err);
    while (out.pos < size) {
        size_t before = out.pos, at = s->in.pos, rc = ZSTD_decompressStream(s->zstd, &out, &s->in);
        if (ZSTD_isError(rc)) return fail_content(s, ZSTD_getErrorName(rc), err);
        if (out.pos == before && s->in.pos == at) return fail_content(s, "it ends early", err);
    }
    s->left -= size;
    return 0;
}

static int get_number(struct source *s, uint64_t *number, struct siren_error *err)
{
    return get_data(s, number, sizeof *number, err);
}

static int get_text(struct source *s, char **text, uint64_t longest, struct siren_error *err)
{
    uint64_t length;
    int rc = get_number(s, &length, err);
    if (rc) return rc;
    if (length > s->left || length > longest)
        return fail_content(s, "a text longer than it can be", err);
    *text = alloc_zeroed((size_t)length + 1, 1);
    if (!*text) return siren_fail_memory(err, "a checkpoint's text", length);
    return length ? get_data(s, *text, (size_t)length, err) : 0;
}

static int get_array(struct source *s, struct siren_array *a, struct siren_error *err)
{
    char *name = NULL;
    float *data;
    uint64_t n;
    int rc = get_text(s, &name, LONGEST_NAME, err);
    a->name = name; /* cleared with the checkpoint, also after a failure */
    if (!rc) rc = get_number(s, &n, err);
    if (rc) return rc;
    if (n > s->left / sizeof *data) return fail_content(s, "an array longer than it can be", err);
    a->data = data = alloc_array((size_t)n + 1, sizeof *data);
    a->n = (size_t)n;
    if (!data) return siren_fail_memory(err, name, n * sizeof *data);
    return n ? get_data(s, data, (size_t)n * sizeof *data, err) : 0;
}

static int get_all(struct source *s, struct siren_checkpoint *c, struct siren_error *err)
{
    uint64_t n;
    int rc = get_number(s, &c->steps, err);
    if (!rc) rc = get_number(s, &n, err);
    if (!rc) rc = get_text(s, &c->json, UINT64_MAX, err);
    if (rc) return rc;
    if (n > s->left / 16) return fail_content(s, "more arrays than it can hold", err);
    c->arrays = alloc_zeroed((size_t)n + 1, sizeof *c->arrays);
    if (!c->arrays) return siren_fail_memory(err, "a checkpoint's arrays", n);
    for (c->n = 0; !rc && c->n < n;) rc = get_array(s, &c->arrays[c->n++], err);
    if (!rc && s->left) rc = fail_content(s, "something behind the last array", err);
    return rc;
}

/* Magic, version, checksum; then s stands at the content. */
static int open_content(struct source *s, const struct siren_map *map, struct siren_error *err)
{
    XXH128_canonical_t found;
    uint32_t version;
    if (map->size < 8 || memcmp(map->data, "SIRENCKP", 8) != 0)
        return siren_fail(err, SIREN_EFORMAT, "%s: this is not a checkpoint", s->path);
    if (map->size < HEADER + TRAILER)
        return siren_fail(err, SIREN_EFORMAT, "%s: cut short after %zu bytes", s->path, map->size);
    memcpy(&version, map->data + 8, sizeof version);
    if (version > VERSION)
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "%s: a checkpoint of version %u, this program reads up to %d", s->path,
                          version, VERSION);
    XXH128_canonicalFromHash(&found, XXH3_128bits(map->data, map->size - TRAILER));
    if (memcmp(&found, map->data + map->size - TRAILER, TRAILER) != 0)
        return siren_fail(err, SIREN_EFORMAT,
                          "%s: the checksum differs: the file was changed or cut short", s->path);
    memcpy(&s->left, map->data + 16, sizeof s->left);
    s->in = (ZSTD_inBuffer){map->data + HEADER, map->size - HEADER - TRAILER, 0};
    if (s->left / DENSEST > s->in.size) return fail_content(s, "longer than it can be", err);
    return 0;
}

int siren_checkpoint_load(struct siren_checkpoint *out, const char *path, struct siren_error *err)
{
    struct source s = {.path = path};
    struct siren_map map;
    int rc;
    *out = (struct siren_checkpoint){0};
    rc = siren_map_open(&map, path, err);
    if (rc) return rc;
    s.zstd = ZSTD_createDCtx();
    rc = s.zstd ? open_content(&s, &map, err) : siren_fail_memory(err, "zstd", 0);
    if (!rc) rc = get_all(&s, out, err);
    if (rc) siren_checkpoint_clear(out);
    ZSTD_freeDCtx(s.zstd);
    siren_map_close(&map);
    return rc;
}

void siren_checkpoint_clear(struct siren_checkpoint *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free((char *)c->arrays[i].name);
        free((float *)c->arrays[i].data);
    }
    free(c->arrays);
    free(c->json);
    *c = (struct siren_checkpoint){0};
}

const struct siren_array *siren_checkpoint_find(const struct siren_checkpoint *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->arrays[i].name, name) == 0) return &c->arrays[i];
    return NULL;
}

/* ---- A training's state ---- */

static const char *const parts[3] = {"value", "m", "v"};

static float *part_of(const struct siren_params *params, struct siren_adamw *adamw, size_t i, int k)
{
    if (k == 0) return params->list[i].value;
    return k == 1 ? siren_adamw_m(adamw, i) : siren_adamw_v(adamw, i);
}

static size_t count_of(const struct siren_param *p)
{
    return (size_t)p->rows * (size_t)p->columns;
}

enum { NAME = 180 };

int siren_checkpoint_save_training(const char *path, const char *json, struct siren_params params,
                                   struct siren_adamw *adamw, struct siren_error *err)
{
    struct siren_array *arrays = alloc_array(3 * params.n + 1, sizeof *arrays);
    char(*names)[NAME] = alloc_array(3 * params.n + 1, sizeof *names);
    int rc = arrays && names ? 0 : siren_fail_memory(err, "a checkpoint's names", params.n * NAME);
    for (size_t i = 0; !rc && i < params.n; i++)
        for (int k = 0; k < 3; k++) {
            size_t at = 3 * i + (size_t)k;
            snprintf(names[at], NAME, "%s/%s", parts[k], params.list[i].name);
            arrays[at] = (struct siren_array){names[at], part_of(&params, adamw, i, k),
                                              count_of(&params.list[i])};
        }
    if (!rc)
        rc = siren_checkpoint_save(path, json, siren_adamw_steps(adamw), arrays, 3 * params.n, err);
    free(arrays);
    free(names);
    return rc;
}

static int find_part(const struct siren_array **a, const struct siren_checkpoint *c,
                     const struct siren_param *p, int k, struct siren_error *err)
{
    char name[NAME];
    snprintf(name, sizeof name, "%s/%s", parts[k], p->name);
    *a = siren_checkpoint_find(c, name);
    if (!*a) return siren_fail(err, SIREN_EFORMAT, "the checkpoint has no %s", name);
    if ((*a)->n != count_of(p))
        return siren_fail(err, SIREN_EFORMAT, "%s: %zu numbers in the checkpoint, expected %zu",
                          name, (*a)->n, count_of(p));
    return 0;
}

int siren_checkpoint_restore(const struct siren_checkpoint *c, struct siren_params params,
                             struct siren_adamw *adamw, struct siren_error *err)
{
    const struct siren_array *a;
    int rc = 0;
    for (size_t i = 0; !rc && i < 3 * params.n; i++)
        rc = find_part(&a, c, &params.list[i / 3], (int)(i % 3), err);
    if (!rc && c->n != 3 * params.n)
        rc = siren_fail(err, SIREN_EFORMAT,
                        "the checkpoint has %zu arrays, expected %zu: it is of other parameters",
                        c->n, 3 * params.n);
    if (rc) return rc;
    for (size_t i = 0; i < 3 * params.n; i++)
        if (!find_part(&a, c, &params.list[i / 3], (int)(i % 3), err) && a->n)
            memcpy(part_of(&params, adamw, i / 3, (int)(i % 3)), a->data, a->n * sizeof(float));
    siren_adamw_set_steps(adamw, c->steps);
    return 0;
}
