#include "base/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { CHUNK = 1 << 16 };
enum kind { PLAIN, GZIP, ZSTD };

struct stream {
    int fd;
    enum kind kind;
    int eof;       /* the file has no more bytes */
    int in_member; /* inside a gzip member or a zstd frame */
    uint64_t read; /* bytes taken from the file */
    uint64_t total;
    z_stream z;
    ZSTD_DStream *zstd;
    size_t start, end; /* input[start..end) is not yet consumed */
    unsigned char input[CHUNK];
};

int fail_errno(struct siren_error *err, const char *path, const char *verb)
{
    int code = errno == ENOENT || errno == ENOTDIR ? SIREN_ENOTFOUND : SIREN_EIO;
    return siren_fail(err, code, "%s: cannot %s: %s", path, verb, strerror(errno));
}

/* Read more of the file behind what is there already. */
static int fill_input(struct stream *s, struct siren_error *err)
{
    if (s->start == s->end) s->start = s->end = 0;
    if (s->eof || s->end == CHUNK) return SIREN_OK;
    ssize_t n;
    do n = read(s->fd, s->input + s->end, CHUNK - s->end);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return siren_fail(err, SIREN_EIO, "cannot read after %llu bytes: %s",
                          (unsigned long long)s->read, strerror(errno));
    s->eof = n == 0;
    s->read += (uint64_t)n;
    s->end += (size_t)n;
    return SIREN_OK;
}

/* Whether the input begins like `magic`, as far as it has been read. */
static int begins(const struct stream *s, const char *magic, size_t size)
{
    size_t have = s->end - s->start;
    return memcmp(s->input + s->start, magic, have < size ? have : size) == 0;
}

static int is_skippable(const struct stream *s)
{
    size_t have = s->end - s->start;
    const unsigned char *p = s->input + s->start;
    return (have < 1 || (p[0] & 0xf0) == 0x50) && memcmp(p + 1, "\x2a\x4d\x18",
                                                         have > 4 ? 3
                                                         : have   ? have - 1
                                                                  : 0) == 0;
}

/* Look at the first bytes; a pipe is asked for more only while they may still
 * be the beginning of a magic number, so that typed lines come through at once. */
static int recognise(struct stream *s, struct siren_error *err)
{
    int rc;
    do {
        if ((rc = fill_input(s, err))) return rc;
        if (begins(s, "\x1f\x8b", 2))
            s->kind = GZIP;
        else if (begins(s, "\x28\xb5\x2f\xfd", 4) || is_skippable(s))
            s->kind = ZSTD;
        else
            s->kind = PLAIN;
    } while (s->kind != PLAIN && s->end < 4 && !s->eof);
    if (s->end < (s->kind == GZIP ? 2u : 4u)) s->kind = PLAIN;
    if (s->kind == GZIP && inflateInit2(&s->z, 16 + MAX_WBITS) != Z_OK)
        return siren_fail_memory(err, "gzip decoder", 0);
    if (s->kind == ZSTD && !(s->zstd = ZSTD_createDStream()))
        return siren_fail_memory(err, "zstd decoder", 0);
    s->in_member = s->kind == GZIP;
    return SIREN_OK;
}

int stream_open(struct stream **out, const char *path, struct siren_error *err)
{
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int rc = fail_errno(NULL, path, "");
        return siren_fail(err, rc, "cannot open: %s", strerror(errno));
    }
    struct stream *s = calloc(1, sizeof *s);
    if (!s) {
        close(fd);
        return siren_fail_memory(err, "input buffer", sizeof *s);
    }
    struct stat st;
    s->fd = fd;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) s->total = (uint64_t)st.st_size;
    int rc = recognise(s, err);
    if (rc) {
        stream_close(s);
        return rc;
    }
    *out = s;
    return SIREN_OK;
}

void stream_close(struct stream *s)
{
    if (!s) return;
    if (s->kind == GZIP) inflateEnd(&s->z);
    ZSTD_freeDStream(s->zstd);
    close(s->fd);
    free(s);
}

static int fail_truncated(const struct stream *s, const char *what, struct siren_error *err)
{
    return siren_fail(err, SIREN_EFORMAT, "the %s archive is truncated: it ends after %llu bytes",
                      what, (unsigned long long)s->read);
}

/* Behind a gzip member: another one, or zero padding up to the end of the file. */
static int next_member(struct stream *s, int *more, struct siren_error *err)
{
    for (;;) {
        while (s->start < s->end && s->input[s->start] == 0) s->start++;
        if (s->start < s->end) break;
        int rc = fill_input(s, err);
        if (rc) return rc;
        if (s->eof) {
            *more = 0;
            return SIREN_OK;
        }
    }
    if (s->input[s->start] != 0x1f)
        return siren_fail(err, SIREN_EFORMAT,
                          "byte %llu of the gzip archive: found 0x%02x behind the end of a member, "
                          "expected another member or the end",
                          (unsigned long long)(s->read - (s->end - s->start)), s->input[s->start]);
    inflateReset(&s->z);
    s->in_member = *more = 1;
    return SIREN_OK;
}

static int read_gzip(struct stream *s, unsigned char *out, size_t capacity, size_t *got,
                     struct siren_error *err)
{
    while (*got == 0) {
        int more = 1, rc;
        if (!s->in_member && (rc = next_member(s, &more, err))) return rc;
        if (!more) return SIREN_OK;
        if (s->start == s->end) {
            if ((rc = fill_input(s, err))) return rc;
            if (s->eof) return fail_truncated(s, "gzip", err);
        }
        s->z.next_in = s->input + s->start;
        s->z.avail_in = (unsigned)(s->end - s->start);
        s->z.next_out = out;
        s->z.avail_out = capacity < CHUNK * 16 ? (unsigned)capacity : CHUNK * 16;
        unsigned room = s->z.avail_out;
        int status = inflate(&s->z, Z_NO_FLUSH);
        s->start = s->end - s->z.avail_in;
        *got = room - s->z.avail_out;
        if (status == Z_STREAM_END)
            s->in_member = 0;
        else if (status == Z_MEM_ERROR)
            return siren_fail_memory(err, "gzip decoder", 0);
        else if (status != Z_OK && status != Z_BUF_ERROR)
            return siren_fail(err, SIREN_EFORMAT, "the gzip archive is damaged near byte %llu: %s",
                              (unsigned long long)(s->read - s->z.avail_in),
                              s->z.msg ? s->z.msg : "bad data");
    }
    return SIREN_OK;
}

static int read_zstd(struct stream *s, unsigned char *out, size_t capacity, size_t *got,
                     struct siren_error *err)
{
    int stalled = 0; /* input is at its end and the decoder gave nothing */
    while (*got == 0) {
        int rc;
        if (s->start == s->end && (rc = fill_input(s, err))) return rc;
        if (s->start == s->end && !s->in_member) return SIREN_OK;
        if (stalled) return fail_truncated(s, "zstd", err);
        ZSTD_inBuffer in = {s->input, s->end, s->start};
        ZSTD_outBuffer to = {out, capacity, 0};
        size_t status = ZSTD_decompressStream(s->zstd, &to, &in);
        if (ZSTD_isError(status))
            return siren_fail(err, SIREN_EFORMAT, "the zstd archive is damaged near byte %llu: %s",
                              (unsigned long long)(s->read - (s->end - in.pos)),
                              ZSTD_getErrorName(status));
        s->start = in.pos;
        s->in_member = status != 0;
        *got = to.pos;
        stalled = s->eof && s->start == s->end;
    }
    return SIREN_OK;
}

int stream_read(struct stream *s, void *bytes, size_t capacity, size_t *got,
                struct siren_error *err)
{
    *got = 0;
    if (capacity == 0) return SIREN_OK;
    if (s->kind == GZIP) return read_gzip(s, bytes, capacity, got, err);
    if (s->kind == ZSTD) return read_zstd(s, bytes, capacity, got, err);
    int rc = s->start == s->end ? fill_input(s, err) : SIREN_OK;
    if (rc) return rc;
    size_t n = s->end - s->start < capacity ? s->end - s->start : capacity;
    memcpy(bytes, s->input + s->start, n);
    s->start += n;
    *got = n;
    return SIREN_OK;
}

void stream_position(const struct stream *s, uint64_t *done, uint64_t *total)
{
    *done = s->read - (s->end - s->start);
    *total = s->total;
}
