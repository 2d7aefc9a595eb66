#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#include "scratch.h"
#include "siren/file.h"

static size_t gzip(const void *data, size_t size, unsigned char *out, size_t capacity)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)data;
    z.avail_in = (unsigned)size;
    z.next_out = out;
    z.avail_out = (unsigned)capacity;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return capacity - z.avail_out;
}

static struct siren_error err;

static void expect_lines(const char *path, enum siren_encoding encoding, const char **want)
{
    struct siren_lines *l;
    assert_int_equal(siren_lines_open(&l, path, encoding, &err), 0);
    char *text;
    size_t length;
    uint64_t n = 0;
    for (; want[n]; n++) {
        assert_int_equal(siren_lines_next(l, &text, &length, &err), 1);
        assert_string_equal(text, want[n]);
        assert_int_equal(length, strlen(want[n]));
        assert_int_equal(siren_lines_number(l), n + 1);
    }
    assert_int_equal(siren_lines_next(l, &text, &length, &err), 0);
    assert_int_equal(siren_lines_next(l, &text, &length, &err), 0);
    uint64_t done, total;
    siren_lines_position(l, &done, &total);
    assert_int_equal(done, total);
    siren_lines_close(l);
}

/* Reads up to the error; returns how many lines came before it. */
static uint64_t expect_line_error(const char *path, int code, const char *words)
{
    struct siren_lines *l;
    assert_int_equal(siren_lines_open(&l, path, SIREN_UTF8, &err), 0);
    char *text;
    size_t length;
    uint64_t n = 0;
    int rc;
    while ((rc = siren_lines_next(l, &text, &length, &err)) == 1) n++;
    siren_lines_close(l);
    assert_int_equal(rc, code);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, words)) fail_msg("\"%s\" lacks \"%s\"", err.message, words);
    char place[300];
    snprintf(place, sizeof place, "%s:%llu: ", path, (unsigned long long)n + 1);
    if (strncmp(err.message, place, strlen(place)))
        fail_msg("\"%s\" does not begin with \"%s\"", err.message, place);
    return n;
}

static void test_map(void **state)
{
    struct siren_map m;
    assert_int_equal(siren_map_open(&m, scratch_write("m", "abc", 3), &err), 0);
    assert_int_equal(m.size, 3);
    assert_memory_equal(m.data, "abc", 3);
    siren_map_close(&m);
    assert_null(m.data);
    assert_int_equal(siren_map_open(&m, scratch_write("empty", "", 0), &err), 0);
    assert_null(m.data);
    assert_int_equal(m.size, 0);
    siren_map_close(&m);
    assert_int_equal(siren_map_open(&m, scratch_path("none"), &err), SIREN_ENOTFOUND);
    assert_non_null(strstr(err.message, "none: cannot open: No such file"));
    assert_int_equal(siren_map_open(&m, scratch_folder, &err), SIREN_EINVAL);
    assert_int_equal(siren_map_open(&m, "/dev/null", NULL), SIREN_EINVAL);
}

static void not_found(const void *address)
{
    char path[100];
    uint64_t offset;
    assert_int_equal(siren_map_find(address, path, sizeof path, &offset), 0);
}

static void test_map_find(void **state)
{
    struct siren_map a, b;
    char path[256], name[256], few[4];
    uint64_t offset;
    snprintf(path, sizeof path, "%s", scratch_write("mapped", "abc", 3));
    assert_int_equal(siren_map_open(&a, path, &err), 0);
    assert_int_equal(siren_map_open(&b, scratch_write("other", "abcdef", 6), &err), 0);
    assert_int_equal(siren_map_find(a.data + 2, name, sizeof name, &offset), 1);
    assert_string_equal(name, path);
    assert_int_equal(offset, 2);
    assert_int_equal(siren_map_find(b.data, few, sizeof few, &offset), 1);
    assert_memory_equal(few, path, 3);
    assert_int_equal(few[3], 0);
    assert_int_equal(offset, 0);
    not_found(a.data + 3);
    not_found(a.data - 1);
    not_found(path);
    not_found(NULL);
    const unsigned char *gone = a.data;
    siren_map_close(&a);
    not_found(gone);
    assert_int_equal(siren_map_find(b.data + 5, name, sizeof name, &offset), 1);
    siren_map_close(&b);
}

static void test_read(void **state)
{
    char *data;
    size_t size;
    unsigned char packed[300];
    assert_int_equal(siren_file_read(&data, &size, scratch_write("r", "hello", 5), 5, &err), 0);
    assert_string_equal(data, "hello");
    assert_int_equal(size, 5);
    free(data);
    assert_int_equal(siren_file_read(&data, &size, scratch_path("r"), 4, &err), SIREN_EFORMAT);
    assert_null(data);
    assert_non_null(strstr(err.message, "larger than the 4 bytes"));
    assert_int_equal(siren_file_read(&data, &size, scratch_write("e", "", 0), 5, &err), 0);
    assert_string_equal(data, "");
    free(data);
    size_t n = gzip("hello", 5, packed, sizeof packed);
    assert_int_equal(siren_file_read(&data, &size, scratch_write("g", packed, n), 9, &err), 0);
    assert_string_equal(data, "hello");
    free(data);
    n = ZSTD_compress(packed, sizeof packed, "hello", 5, 3);
    assert_int_equal(siren_file_read(&data, &size, scratch_write("z", packed, n), 9, &err), 0);
    assert_string_equal(data, "hello");
    free(data);
    assert_int_equal(siren_file_read(&data, &size, scratch_path("none"), 9, &err), SIREN_ENOTFOUND);
    assert_int_equal(siren_file_read(&data, &size, scratch_folder, 9, &err), SIREN_EIO);
}

/* An archive of a few bytes that would fill memory is refused at the limit. */
static void test_read_bomb(void **state)
{
    size_t big = 64 << 20;
    char *zeros = calloc(1, big), *data;
    unsigned char *packed = malloc(1 << 20);
    size_t n = gzip(zeros, big, packed, 1 << 20), size;
    assert_true(n < 100000);
    const char *path = scratch_write("bomb", packed, n);
    assert_int_equal(siren_file_read(&data, &size, path, 1 << 20, &err), SIREN_EFORMAT);
    free(zeros);
    free(packed);
}

static void test_lines_plain(void **state)
{
    const char *abc[] = {"a", "", "c", NULL}, *none[] = {NULL}, *empty[] = {"", NULL};
    expect_lines(scratch_write("l1", "a\n\nc\n", 5), SIREN_UTF8, abc);
    expect_lines(scratch_write("l2", "a\r\n\r\nc", 6), SIREN_UTF8, abc);
    expect_lines(scratch_write("l3",
                               "\xef\xbb\xbf"
                               "a\n\nc",
                               7),
                 SIREN_UTF8, abc);
    expect_lines(scratch_write("l4", "", 0), SIREN_UTF8, none);
    expect_lines(scratch_write("l5", "\n", 1), SIREN_UTF8, empty);
    const char *short_magic[] = {"\x1f", NULL}, *p[] = {"P", NULL};
    expect_lines(scratch_write("l6", "\x1f", 1), SIREN_UTF8, short_magic);
    expect_lines(scratch_write("l7", "P\n", 2), SIREN_UTF8, p);
    struct siren_lines *l;
    assert_int_equal(siren_lines_open(&l, scratch_path("none"), SIREN_UTF8, &err), SIREN_ENOTFOUND);
    assert_non_null(strstr(err.message, "/none: cannot open"));
}

static void test_lines_encoding(void **state)
{
    const char *utf8[] = {"naïve 😀 日本", NULL},
               *latin1[] = {"caf\u00e9 \u00ff\xc2\x80", "b", NULL};
    expect_lines(scratch_write("u", "naïve 😀 日本\n", strlen("naïve 😀 日本\n")), SIREN_UTF8, utf8);
    expect_lines(scratch_write("latin1", "caf\xe9 \xff\x80\r\nb\n", 11), SIREN_LATIN1, latin1);
    assert_int_equal(expect_line_error(scratch_path("latin1"), SIREN_EFORMAT,
                                       "column 4: byte 0xe9 is not valid UTF-8"),
                     0);
    scratch_write("surrogate", "ok\nlonger than a word \xed\xa0\x80\n", 26);
    assert_int_equal(expect_line_error(scratch_path("surrogate"), SIREN_EFORMAT, "column 20"), 1);
    expect_line_error(scratch_write("overlong", "\xc0\x80", 2), SIREN_EFORMAT, "column 1");
    expect_line_error(scratch_write("cut", "\xe2\x82", 2), SIREN_EFORMAT, "column 1");
}

/* After a line that is not UTF-8 the reader goes on with the next one, so that a
 * caller may skip and count. */
static void test_lines_continue(void **state)
{
    struct siren_lines *l;
    char *text;
    size_t length;
    assert_int_equal(
        siren_lines_open(&l, scratch_write("bad", "a\n\xff\nc\n", 6), SIREN_UTF8, &err), 0);
    assert_int_equal(siren_lines_next(l, &text, &length, &err), 1);
    assert_int_equal(siren_lines_next(l, &text, &length, &err), SIREN_EFORMAT);
    assert_int_equal(siren_lines_number(l), 2);
    assert_int_equal(siren_lines_next(l, &text, &length, &err), 1);
    assert_string_equal(text, "c");
    siren_lines_close(l);
}

/* 100,000 lines of growing and shrinking length, across all chunk borders. */
static char *many_lines(size_t *size)
{
    char *data = malloc(100000 * 64);
    size_t n = 0;
    for (int i = 0; i < 100000; i++) {
        n += (size_t)sprintf(data + n, "%d:", i);
        for (int k = 0; k < i % 37; k++) data[n++] = (char)('a' + (i * 7 + k) % 26);
        data[n++] = '\n';
    }
    *size = n;
    return data;
}

static uint64_t count_many(const char *path)
{
    struct siren_lines *l;
    char *text;
    size_t length;
    uint64_t i = 0;
    assert_int_equal(siren_lines_open(&l, path, SIREN_UTF8, &err), 0);
    while (siren_lines_next(l, &text, &length, &err) == 1) {
        if ((uint64_t)atoi(text) != i || length != strcspn(text, ":") + 1 + i % 37)
            fail_msg("line %llu is \"%s\"", (unsigned long long)i + 1, text);
        i++;
    }
    siren_lines_close(l);
    return i;
}

static void test_lines_gzip(void **state)
{
    size_t size, n, half;
    char *data = many_lines(&size);
    unsigned char *packed = malloc(size + 1024);
    assert_int_equal(count_many(scratch_write("many", data, size)), 100000);

    half = n = gzip(data, size / 2, packed, size);
    n += gzip(data + size / 2, size - size / 2, packed + n, size - n);
    assert_int_equal(count_many(scratch_write("two.gz", packed, n)), 100000);
    memset(packed + n, 0, 512);
    assert_int_equal(count_many(scratch_write("padded.gz", packed, n + 512)), 100000);
    memcpy(packed + n, "junk", 4);
    expect_line_error(scratch_write("junk.gz", packed, n + 4), SIREN_EFORMAT,
                      "behind the end of a member");
    assert_true(expect_line_error(scratch_write("cut.gz", packed, n - 9), SIREN_EFORMAT,
                                  "gzip archive is truncated") > 90000);
    expect_line_error(scratch_write("cut2.gz", packed, half + 5), SIREN_EFORMAT, "truncated");
    expect_line_error(scratch_write("cut3.gz", packed, 2), SIREN_EFORMAT, "truncated");
    packed[n - 6] ^= 0x55; /* the checksum */
    expect_line_error(scratch_write("damaged.gz", packed, n), SIREN_EFORMAT, "damaged near byte");
    free(packed);
    free(data);
}

static void test_lines_zstd(void **state)
{
    size_t size, n;
    char *data = many_lines(&size);
    unsigned char *packed = malloc(size + 1024);
    n = ZSTD_compress(packed, size, data, size / 2, 3);
    n += ZSTD_compress(packed + n, size - n, data + size / 2, size - size / 2, 3);
    assert_int_equal(count_many(scratch_write("two.zst", packed, n)), 100000);
    expect_line_error(scratch_write("cut.zst", packed, n - 3), SIREN_EFORMAT,
                      "zstd archive is truncated");
    expect_line_error(scratch_write("cut2.zst", packed, 4), SIREN_EFORMAT, "truncated");
    memcpy(packed + n, "junkjunk", 8);
    expect_line_error(scratch_write("junk.zst", packed, n + 8), SIREN_EFORMAT, "damaged");
    unsigned char skippable[] = {0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 'x', 'y'};
    memmove(packed + sizeof skippable, packed, n);
    memcpy(packed, skippable, sizeof skippable);
    assert_int_equal(count_many(scratch_write("skip.zst", packed, n + sizeof skippable)), 100000);
    free(packed);
    free(data);
}

static void test_lines_long(void **state)
{
    size_t limit = 16 << 20, size = limit + 3;
    char *data = malloc(size);
    memset(data, 'x', size);
    data[1] = '\n';
    assert_int_equal(
        expect_line_error(scratch_write("long", data, size), SIREN_EFORMAT, "longer than 16 MiB"),
        1);
    struct siren_lines *l;
    char *text;
    size_t length;
    scratch_write("limit", data + 3, limit); /* exactly the limit is allowed */
    assert_int_equal(siren_lines_open(&l, scratch_path("limit"), SIREN_UTF8, &err), 0);
    assert_int_equal(siren_lines_next(l, &text, &length, &err), 1);
    assert_int_equal(length, limit);
    siren_lines_close(l);
    free(data);
}

/* What is typed into a pipe comes through line by line. */
static void test_lines_pipe(void **state)
{
    int fds[2];
    char path[64], *text;
    size_t length;
    struct siren_lines *l;
    assert_int_equal(pipe(fds), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fds[0]);
    assert_int_equal(write(fds[1], "P\n", 2), 2);
    assert_int_equal(siren_lines_open(&l, path, SIREN_UTF8, &err), 0);
    assert_int_equal(siren_lines_next(l, &text, &length, &err), 1);
    assert_string_equal(text, "P");
    assert_int_equal(write(fds[1], "next", 4), 4);
    close(fds[1]);
    assert_int_equal(siren_lines_next(l, &text, &length, &err), 1);
    assert_string_equal(text, "next");
    assert_int_equal(siren_lines_next(l, &text, &length, &err), 0);
    siren_lines_close(l);
    close(fds[0]);
}

static size_t count_files(const char *pattern)
{
    glob_t g;
    int rc = glob(scratch_path(pattern), 0, NULL, &g);
    size_t n = rc == 0 ? g.gl_pathc : 0;
    if (rc == 0) globfree(&g);
    return n;
}

static void expect_content(const char *path, const char *want)
{
    char *data;
    size_t size;
    assert_int_equal(siren_file_read(&data, &size, path, 1 << 24, &err), 0);
    assert_string_equal(data, want);
    free(data);
}

static void test_writer(void **state)
{
    char path[256];
    struct siren_writer *w;
    strcpy(path, scratch_write("w", "old", 3));
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(siren_writer_open(&w, path, &err), 0);
    assert_int_equal(siren_writer_write(w, "new ", 4, &err), 0);
    assert_int_equal(siren_writer_printf(w, &err, "%d\n", 7), 0);
    expect_content(path, "old");
    assert_int_equal(siren_writer_commit(w, &err), 0);
    expect_content(path, "new 7\n");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);

    assert_int_equal(siren_writer_open(&w, path, &err), 0);
    assert_int_equal(siren_writer_write(w, "lost", 4, &err), 0);
    siren_writer_abort(w);
    siren_writer_abort(NULL);
    expect_content(path, "new 7\n");
    assert_int_equal(siren_file_print(path, &err, "%s %d\n", "all", 8), 0);
    expect_content(path, "all 8\n");
    assert_true(siren_file_print(scratch_path("nowhere/file"), &err, "x") < 0);

    char link[256];
    strcpy(link, scratch_path("link"));
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(siren_writer_open(&w, link, &err), 0);
    assert_int_equal(siren_writer_commit(w, &err), 0);
    expect_content(path, "");
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(count_files("*.tmp-*"), 0);
}

static void test_writer_large(void **state)
{
    size_t size;
    char path[256], *data = many_lines(&size);
    strcpy(path, scratch_path("large"));
    struct siren_writer *w;
    assert_int_equal(siren_writer_open(&w, path, &err), 0);
    size_t first = 70000;
    assert_int_equal(siren_writer_write(w, data, first, &err), 0);
    for (size_t i = first; i < size; i += 777)
        assert_int_equal(siren_writer_write(w, data + i, size - i < 777 ? size - i : 777, &err), 0);
    assert_int_equal(siren_writer_commit(w, &err), 0);
    assert_int_equal(count_many(path), 100000);
    free(data);
}

static void test_writer_errors(void **state)
{
    struct siren_writer *w;
    assert_int_equal(siren_writer_open(&w, scratch_path("no/such"), &err), SIREN_ENOTFOUND);
    assert_int_equal(siren_writer_open(&w, scratch_folder, &err), SIREN_EINVAL);

    static char block[100000];
    assert_int_equal(siren_writer_open(&w, "/dev/full", &err), 0);
    assert_int_equal(siren_writer_write(w, "x", 1, &err), 0);
    assert_int_equal(siren_writer_write(w, block, sizeof block, &err), SIREN_EIO);
    assert_string_equal(err.message,
                        "/dev/full: cannot write after 0 bytes: No space left on device");
    assert_int_equal(siren_writer_write(w, "x", 1, &err), SIREN_EIO);
    assert_int_equal(siren_writer_commit(w, &err), SIREN_EIO);

    assert_int_equal(siren_writer_open(&w, "/dev/full", &err), 0);
    assert_int_equal(siren_writer_write(w, "x", 1, &err), 0);
    assert_int_equal(siren_writer_commit(w, &err), SIREN_EIO);
    assert_non_null(strstr(err.message, "No space left"));
    assert_int_equal(siren_writer_open(&w, "/dev/null", &err), 0);
    assert_int_equal(siren_writer_commit(w, &err), 0);
}

static void write_to_descriptor(int fd, const char *text)
{
    struct siren_writer *w;
    char path[64];
    snprintf(path, sizeof path, "/dev/fd/%d", fd);
    assert_int_equal(siren_writer_open(&w, path, &err), 0);
    assert_int_equal(siren_writer_printf(w, &err, "%s", text), 0);
    assert_int_equal(siren_writer_commit(w, &err), 0);
}

/* `siren … -o /dev/stdout >> log`, `-o >(gzip)`: what stands in the file stays, and what the
 * descriptor writes next goes behind. */
static void test_writer_descriptors(void **state)
{
    int fd = open(scratch_write("log", "first\n", 6), O_WRONLY), ends[2];
    char text[32], *data;
    size_t size;
    assert_int_equal(lseek(fd, 0, SEEK_END), 6);
    write_to_descriptor(fd, "second\n");
    assert_int_equal(write(fd, "last\n", 5), 5);
    close(fd);
    assert_int_equal(siren_file_read(&data, &size, scratch_path("log"), 100, &err), 0);
    assert_string_equal(data, "first\nsecond\nlast\n");
    free(data);
    assert_int_equal(pipe(ends), 0);
    write_to_descriptor(ends[1], "through a pipe");
    close(ends[1]);
    assert_int_equal(read(ends[0], text, sizeof text), 14);
    close(ends[0]);
    struct siren_writer *w;
    assert_int_equal(siren_writer_open(&w, "/dev/fd/77", &err), SIREN_EIO);
    assert_int_equal(symlink("nowhere", scratch_path("dangling")), 0);
    assert_int_equal(siren_writer_open(&w, scratch_path("dangling"), &err), SIREN_EIO);
    assert_non_null(strstr(err.message, "dangling: is a symbolic link to what does not exist"));
}

/* A file that hits a limit while it is written leaves the old one in place. */
static void test_writer_limit(void **state)
{
    char path[256];
    strcpy(path, scratch_write("limited", "old", 3));
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){150000, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    static char block[100000];
    struct siren_writer *w;
    assert_int_equal(siren_writer_open(&w, path, &err), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int first = siren_writer_write(w, block, sizeof block, &err);
    int second = siren_writer_write(w, block, sizeof block, &err);
    int commit = siren_writer_commit(w, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(first, 0);
    assert_int_equal(second, SIREN_EIO);
    assert_non_null(strstr(err.message, "limited: cannot write after 150000 bytes"));
    assert_int_equal(commit, SIREN_EIO);
    expect_content(path, "old");
    assert_int_equal(count_files("*.tmp-*"), 0);
}

/* What a killed writer left is removed by the next one of that file; what another one is still
 * writing is not, nor a file that only looks alike. */
static void test_writer_leftovers(void **state)
{
    char path[256], alike[300], left[300];
    struct siren_writer *w, *other;
    strcpy(path, scratch_path("swept"));
    snprintf(alike, sizeof alike, "%s.tmp-1-0.old", path);
    strcpy(alike, scratch_write("swept.tmp-1-0.old", "mine", 4));
    pid_t child = fork();
    if (!child) {
        if (siren_writer_open(&w, path, &err)) _exit(1);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    snprintf(left, sizeof left, "%s.tmp-%ld-0", path, (long)child);
    assert_int_equal(access(left, F_OK), 0);
    assert_int_equal(siren_writer_open(&other, path, &err), 0);
    assert_int_not_equal(access(left, F_OK), 0);
    assert_int_equal(siren_writer_write(other, "first", 5, &err), 0);
    assert_int_equal(siren_file_write(path, "second", 6, &err), 0);
    expect_content(path, "second");
    assert_int_equal(siren_writer_commit(other, &err), 0);
    expect_content(path, "first");
    expect_content(alike, "mine");
    assert_int_equal(count_files("swept.tmp-*"), 1);
}

static void folders_are_made_with_those_above(void **state)
{
    char path[300];
    snprintf(path, sizeof path, "%s", scratch_path("a/b//c/"));
    assert_int_equal(siren_folder_make(path, &err), 0);
    assert_int_equal(access(path, W_OK), 0);
    assert_int_equal(siren_folder_make(path, &err), 0); /* it is there */
    assert_int_equal(siren_folder_make("/", &err), 0);
    assert_int_equal(siren_folder_make(".", &err), 0);
    assert_int_equal(siren_folder_make("", &err), SIREN_EINVAL);
    scratch_write("file", "x", 1);
    assert_int_equal(siren_folder_make(scratch_path("file/below"), &err), SIREN_EIO);
    assert_non_null(strstr(err.message, "/file cannot be made: Not a directory"));
    assert_int_equal(siren_folder_make("/proc/none/x", &err), SIREN_EIO);
    assert_non_null(strstr(err.message, "/proc/none/x: the folder /proc/none cannot be made"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_are_made_with_those_above),
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_map_find),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_bomb),
        cmocka_unit_test(test_lines_plain),
        cmocka_unit_test(test_lines_encoding),
        cmocka_unit_test(test_lines_continue),
        cmocka_unit_test(test_lines_gzip),
        cmocka_unit_test(test_lines_zstd),
        cmocka_unit_test(test_lines_long),
        cmocka_unit_test(test_lines_pipe),
        cmocka_unit_test(test_writer),
        cmocka_unit_test(test_writer_large),
        cmocka_unit_test(test_writer_errors),
        cmocka_unit_test(test_writer_descriptors),
        cmocka_unit_test(test_writer_limit),
        cmocka_unit_test(test_writer_leftovers),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
