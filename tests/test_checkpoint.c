#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <cmocka.h>

#include "scratch.h"
#include "siren/checkpoint.h"
#include "siren/file.h"
#include "siren/random.h"

static struct siren_error err;

static void fill(float *x, size_t n, uint64_t stream)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)siren_random_normal(3, stream, i);
}

static void test_bits_come_back(void **state)
{
    enum { MANY = 100003 };
    static float many[MANY];
    float odd[4] = {NAN, -0.0f, INFINITY, 1e-45f};
    const struct siren_array arrays[] = {{"many", many, MANY}, {"odd", odd, 4}, {"none", NULL, 0}};
    char path[256];
    struct siren_checkpoint c;
    fill(many, MANY, 0);
    strcpy(path, scratch_path("bits.ckpt"));
    assert_int_equal(siren_checkpoint_save(path, "{\"row\": 7}", 1ull << 60, arrays, 3, &err), 0);
    assert_int_equal(siren_checkpoint_load(&c, path, &err), 0);
    assert_string_equal(c.json, "{\"row\": 7}");
    assert_true(c.steps == 1ull << 60 && c.n == 3);
    assert_int_equal(siren_checkpoint_find(&c, "many")->n, MANY);
    assert_memory_equal(siren_checkpoint_find(&c, "many")->data, many, sizeof many);
    assert_memory_equal(siren_checkpoint_find(&c, "odd")->data, odd, sizeof odd);
    assert_int_equal(siren_checkpoint_find(&c, "none")->n, 0);
    assert_null(siren_checkpoint_find(&c, "man"));
    siren_checkpoint_clear(&c);
    assert_int_equal(siren_checkpoint_save(path, NULL, 0, NULL, 0, &err), 0);
    assert_int_equal(siren_checkpoint_load(&c, path, &err), 0);
    assert_true(c.n == 0 && strcmp(c.json, "") == 0);
    siren_checkpoint_clear(&c);
}

/* A small checkpoint's bytes. */
static char *small(size_t *size)
{
    const float x[5] = {1, 2, 3, 4, 5};
    const struct siren_array a = {"x", x, 5};
    char *data;
    assert_int_equal(siren_checkpoint_save(scratch_path("small"), "{}", 3, &a, 1, &err), 0);
    assert_int_equal(siren_file_read(&data, size, scratch_path("small"), 1 << 20, &err), 0);
    return data;
}

static void refuse(const void *data, size_t size, int code, const char *word)
{
    struct siren_checkpoint c;
    int rc = siren_checkpoint_load(&c, scratch_write("bad", data, size), &err);
    if (rc != code || !strstr(err.message, word))
        fail_msg("%d, '%s'; expected %d with '%s'", rc, err.message, code, word);
    assert_true(c.n == 0 && !c.json && !c.arrays);
}

static void test_every_cut_and_every_changed_byte(void **state)
{
    size_t size;
    char *data = small(&size);
    for (size_t cut = 0; cut < size; cut++) refuse(data, cut, SIREN_EFORMAT, "bad");
    for (size_t i = 0; i < size; i++) {
        int is_version = i >= 8 && i < 12;
        data[i] ^= 0x10;
        refuse(data, size, is_version ? SIREN_EUNSUPPORTED : SIREN_EFORMAT, "bad");
        data[i] ^= 0x10;
    }
    free(data);
}

static void seal(char *data, size_t size)
{
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits(data, size - 16));
    memcpy(data + size - 16, &hash, 16);
}

static void test_messages(void **state)
{
    struct siren_checkpoint c;
    size_t size;
    char *data = small(&size);
    refuse("{\"lora\": 1}", 11, SIREN_EFORMAT, "not a checkpoint");
    refuse(data, 30, SIREN_EFORMAT, "cut short after 30 bytes");
    refuse(data, size - 1, SIREN_EFORMAT, "checksum differs");
    data[8] = 2;
    refuse(data, size, SIREN_EUNSUPPORTED, "version 2, this program reads up to 1");
    data[8] = 1;
    /* A length that lies, under a good checksum. */
    for (int lie = 1; lie <= 3; lie++) {
        memcpy(data + 16, &(uint64_t){lie == 1 ? UINT64_MAX : lie == 2 ? 60 : 64}, 8);
        seal(data, size);
        refuse(data, size, SIREN_EFORMAT, "content of the checkpoint");
    }
    free(data);
    assert_int_equal(siren_checkpoint_load(&c, scratch_path("absent"), &err), SIREN_ENOTFOUND);
    assert_int_equal(siren_checkpoint_save(scratch_path("x"), NULL, 0,
                                           &(struct siren_array){"", NULL, 0}, 1, &err),
                     SIREN_EINVAL);
}

static void test_full_disk_leaves_the_old_one(void **state)
{
    enum { MANY = 200000 };
    static float many[MANY];
    const struct siren_array a = {"many", many, MANY};
    struct rlimit old, tight;
    struct siren_checkpoint c;
    char path[256], *before, *after;
    size_t n, m;
    strcpy(path, scratch_path("small"));
    before = small(&n);
    fill(many, MANY, 1);
    getrlimit(RLIMIT_FSIZE, &old);
    tight = old, tight.rlim_cur = 100000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tight);
    int rc = siren_checkpoint_save(path, "{}", 9, &a, 1, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(rc, SIREN_EIO);
    assert_int_equal(siren_file_read(&after, &m, path, 1 << 20, &err), 0);
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    assert_int_equal(siren_checkpoint_load(&c, path, &err), 0);
    siren_checkpoint_clear(&c);
    assert_int_equal(siren_checkpoint_save("/dev/full", "{}", 9, &a, 1, &err), SIREN_EIO);
    free(before), free(after);
}

/* ---- Resuming ---- */

enum { N = 33 };
static float value[N], grad[N];
static struct siren_param list[2] = {
    {.name = "a", .value = value, .grad = grad, .rows = 3, .columns = 7},
    {.name = "b", .value = value + 21, .grad = grad + 21, .rows = 1, .columns = 12, .no_decay = 1}};
static const struct siren_params params = {list, 2};

static struct siren_adamw *start(void)
{
    struct siren_adamw_options o = siren_adamw_defaults();
    struct siren_adamw *a;
    assert_int_equal(siren_adamw_create(&a, params, &o, NULL, 0, &err), 0);
    return a;
}

static void steps(struct siren_adamw *a, uint64_t from, uint64_t to)
{
    for (; from < to; from++) {
        fill(grad, N, 100 + from);
        siren_adamw_step(a, 1e-2, 1, NULL);
    }
}

static void test_resumed_equals_never_stopped(void **state)
{
    float want[N];
    struct siren_checkpoint c;
    struct siren_adamw *a = start();
    fill(value, N, 5);
    steps(a, 0, 20);
    memcpy(want, value, sizeof want);
    siren_adamw_free(a);

    a = start();
    fill(value, N, 5);
    steps(a, 0, 8);
    assert_int_equal(siren_checkpoint_save_training(scratch_path("run"), "{}", params, a, &err), 0);
    siren_adamw_free(a);

    a = start();
    memset(value, 0, sizeof value);
    assert_int_equal(siren_checkpoint_load(&c, scratch_path("run"), &err), 0);
    assert_int_equal(siren_checkpoint_restore(&c, params, a, &err), 0);
    steps(a, siren_adamw_steps(a), 20);
    assert_memory_equal(value, want, sizeof want);

    list[1].columns = 11;
    assert_int_equal(siren_checkpoint_restore(&c, params, a, &err), SIREN_EFORMAT);
    assert_non_null(strstr(err.message, "value/b: 12 numbers in the checkpoint, expected 11"));
    list[1].columns = 12, list[1].name[0] = 'c';
    assert_int_equal(siren_checkpoint_restore(&c, params, a, &err), SIREN_EFORMAT);
    assert_non_null(strstr(err.message, "no value/c"));
    list[1].name[0] = 'b';
    /* A part of what was saved is not what was saved. */
    struct siren_params fewer = {params.list, params.n - 1};
    assert_int_equal(siren_checkpoint_restore(&c, fewer, a, &err), SIREN_EFORMAT);
    assert_non_null(strstr(err.message, "it is of other parameters"));
    assert_memory_equal(value, want, sizeof want);
    siren_checkpoint_clear(&c);
    siren_adamw_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_come_back),
        cmocka_unit_test(test_every_cut_and_every_changed_byte),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_full_disk_leaves_the_old_one),
        cmocka_unit_test(test_resumed_equals_never_stopped),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
