/* The file of a teacher's states: what comes back, what is refused, going on after a stop. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "same_file.h"
#include "scratch.h"
#include "siren/file.h"
#include "siren/random.h"
#include "siren/teacher.h"
#include "train/teacher_file.h"

enum { LAYERS = 3, WIDTH = 20, LABELS = 5, ROWS = 6, STATES = LAYERS * WIDTH };

static struct siren_error err;
static const struct siren_teacher_shape shape = {LAYERS, WIDTH, LABELS, SIREN_STATES_BF16};

#define MUST(call)                                                                                 \
    do {                                                                                           \
        err.message[0] = '\0';                                                                     \
        if (call) fail_msg("%s:%d: %s", __FILE__, __LINE__, err.message);                          \
    } while (0)

/* Row i: the middle layer has one number that is much larger than the others. */
static void make(int i, struct siren_teacher_row *row, float *scores, int32_t *ids, float *states)
{
    for (int k = 0; k < LABELS; k++)
        scores[k] = -(float)siren_random_uniform(5, (uint64_t)i, (uint64_t)k);
    for (int k = 0; k < STATES; k++)
        states[k] = (float)siren_random_normal(6, (uint64_t)i, (uint64_t)k);
    states[WIDTH] = 300;
    for (int k = 0; k < i; k++) ids[k] = 100 * i + k;
    *row = (struct siren_teacher_row){.user = i,
                                      .item = 10 * i,
                                      .flags = i ? SIREN_TEACHER_NUMBER : 0,
                                      .rating = (float)(1 + i % 5),
                                      .number = i ? (float)(1 + i / 2) : NAN,
                                      .scores = scores,
                                      .n_ids = (size_t)i};
}

static void write_rows(struct siren_teacher_writer *w, int from, int to)
{
    struct siren_teacher_row row;
    float scores[LABELS], states[STATES];
    int32_t ids[ROWS];
    for (int i = from; i < to; i++) {
        make(i, &row, scores, ids, states);
        MUST(siren_teacher_write(w, &row, ids, states, &err));
    }
}

static const char *write_file(const char *name, const struct siren_teacher_shape *s)
{
    static char path[256];
    struct siren_teacher_writer *w;
    snprintf(path, sizeof path, "%s", scratch_path(name));
    MUST(siren_teacher_writer_open(&w, path, s, "{\"a\": 1}", &err));
    write_rows(w, 0, ROWS);
    MUST(siren_teacher_writer_finish(w, &err));
    return path;
}

static double cosine(const float *a, const float *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < WIDTH; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

/* The largest 1 − cosine over all layers and rows of a file. */
static double check_file(const char *path, double relative)
{
    struct siren_teacher *t;
    struct siren_teacher_row row;
    float scores[LABELS], states[STATES], found[STATES];
    int32_t ids[ROWS], found_ids[ROWS];
    double worst = 0;
    MUST(siren_teacher_open(&t, path, &err));
    assert_int_equal(siren_teacher_rows(t), ROWS);
    assert_string_equal(siren_teacher_json(t), "{\"a\": 1}");
    assert_int_equal(siren_teacher_shape(t)->d, WIDTH);
    for (int i = 0; i < ROWS; i++) {
        const struct siren_teacher_row *r = siren_teacher_row(t, (size_t)i);
        make(i, &row, scores, ids, states);
        assert_true(r->user == row.user && r->item == row.item && r->flags == row.flags);
        assert_true(r->rating == row.rating && r->n_ids == row.n_ids);
        assert_true(r->number == row.number || (isnan(r->number) && isnan(row.number)));
        assert_memory_equal(r->scores, scores, sizeof scores);
        MUST(teacher_ids(t, (size_t)i, found_ids, &err));
        assert_true(i == 0 || !memcmp(found_ids, ids, (size_t)i * sizeof *ids));
        MUST(siren_teacher_states(t, (size_t)i, found, &err));
        for (int l = 0; l < LAYERS; l++) {
            double off = 1 - cosine(states + l * WIDTH, found + l * WIDTH);
            float most = 0;
            for (int k = 0; k < WIDTH; k++) most = fmaxf(most, fabsf(states[l * WIDTH + k]));
            for (int k = l * WIDTH; k < (l + 1) * WIDTH; k++) {
                double scale =
                    relative < 0 ? (double)most * -relative : fabs((double)states[k]) * relative;
                assert_true(fabs((double)found[k] - (double)states[k]) <= scale);
            }
            if (off > worst) worst = off;
        }
    }
    assert_null(siren_teacher_row(t, ROWS));
    assert_int_equal(siren_teacher_states(t, ROWS, found, &err), SIREN_EINVAL);
    siren_teacher_close(t);
    return worst;
}

static void rows_come_back(void **state)
{
    struct siren_teacher_shape int8 = shape;
    int8.encoding = SIREN_STATES_INT8;
    assert_true(check_file(write_file("bf16.bin", &shape), 0x1p-8) < 1e-5);
    assert_true(check_file(write_file("int8.bin", &int8), -0.51 / 127) < 3e-5);
}

/* As real ones have them: a few numbers of a layer are hundreds of times the others, which an
 * alignment still has to see. */
static void outliers_leave_the_others_alone(void **state)
{
    enum { D = 300, MANY = 5 };
    static const struct siren_teacher_shape wide = {1, D, 2, SIREN_STATES_INT8};
    static const int places[MANY] = {3, 60, 127, 128, 299};
    float scores[2] = {-1, -2}, states[D], found[D];
    struct siren_teacher_row row = {.scores = scores};
    double off = 0, size = 0;
    struct siren_teacher_writer *w;
    struct siren_teacher *t;
    char path[256];
    for (int k = 0; k < D; k++) states[k] = (float)siren_random_normal(7, 0, (uint64_t)k);
    for (int i = 0; i < MANY; i++) states[places[i]] = (float)(i % 2 ? -100 : 250) * (float)(i + 1);
    snprintf(path, sizeof path, "%s", scratch_path("outliers.bin"));
    MUST(siren_teacher_writer_open(&w, path, &wide, "", &err));
    MUST(siren_teacher_write(w, &row, NULL, states, &err));
    MUST(siren_teacher_writer_finish(w, &err));
    MUST(siren_teacher_open(&t, path, &err));
    MUST(siren_teacher_states(t, 0, found, &err));
    for (int k = 0; k < D; k++) {
        double miss = (double)found[k] - (double)states[k];
        if (fabsf(states[k]) >= 100) {
            assert_true(fabs(miss) <= 0x1p-8 * fabs((double)states[k]));
            continue;
        }
        off += miss * miss;
        size += (double)states[k] * (double)states[k];
    }
    if (!(sqrt(off / size) < 0.01)) fail_msg("error of the others: %g", sqrt(off / size));
    siren_teacher_close(t);
}

/* Of version 1, whose one scale a layer was the largest number's. */
static void coarse_states_are_refused(void **state)
{
    uint32_t field[6] = {1, SIREN_STATES_INT8, LAYERS, WIDTH, LABELS, 0};
    unsigned char header[TEACHER_HEADER + TEACHER_CHECK] = "SIRENTCH";
    struct teacher_chain chain = {{0}};
    struct siren_teacher *t;
    memcpy(header + 8, field, sizeof field);
    teacher_chain_add(&chain, header, TEACHER_HEADER);
    memcpy(header + TEACHER_HEADER, chain.check, TEACHER_CHECK);
    const char *path = scratch_write("coarse.bin", header, sizeof header);
    assert_int_equal(siren_teacher_open(&t, path, &err), SIREN_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "int8 states of version 1, with one scale a layer"));
}

/* Stopped after any byte, the file becomes the one that was never stopped. */
static void a_stopped_writer_goes_on(void **state)
{
    char whole[256], path[256], partial[300];
    struct siren_teacher_writer *w;
    size_t size;
    char *data;
    snprintf(whole, sizeof whole, "%s", write_file("whole.bin", &shape));
    snprintf(path, sizeof path, "%s", scratch_path("stopped.bin"));
    snprintf(partial, sizeof partial, "%s.partial", path);
    MUST(siren_file_read(&data, &size, whole, 1 << 20, &err));
    for (size_t cut = 0; cut <= size; cut += cut + 40 < size ? 37 : 1) {
        FILE *f = fopen(partial, "wb");
        assert_int_equal(fwrite(data, 1, cut, f), cut);
        fclose(f);
        MUST(siren_teacher_writer_open(&w, path, &shape, "{\"a\": 1}", &err));
        write_rows(w, (int)siren_teacher_writer_rows(w), ROWS);
        MUST(siren_teacher_writer_finish(w, &err));
        same_file(whole, path);
        unlink(path);
    }
    free(data);
    MUST(siren_teacher_writer_open(&w, path, &shape, "{\"a\": 1, \"model\": \"old#12\"}", &err));
    write_rows(w, 0, 2);
    MUST(siren_teacher_writer_sync(w, &err));
    siren_teacher_writer_close(w);
    assert_int_equal(access(path, F_OK), -1);
    MUST(siren_teacher_writer_open(&w, path, &shape, "{\"a\": 1, \"model\": \"new#12\"}", &err));
    assert_int_equal(siren_teacher_writer_rows(w), 2);
    siren_teacher_writer_close(w);
}

static void put_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

/* Only what a killed writer leaves is cut and gone on with: a byte that changed loses nothing. */
static void damaged_work_is_left_alone(void **state)
{
    char whole[256], path[256], partial[300], *data, *there;
    struct siren_teacher_writer *w;
    size_t size, left;
    snprintf(whole, sizeof whole, "%s", write_file("good.bin", &shape));
    snprintf(path, sizeof path, "%s", scratch_path("hurt.bin"));
    snprintf(partial, sizeof partial, "%s.partial", path);
    MUST(siren_file_read(&data, &size, whole, 1 << 20, &err));
    for (size_t at = 0; at < size; at += 3) {
        data[at] ^= 4;
        put_file(partial, data, size);
        int rc = siren_teacher_writer_open(&w, path, &shape, "{\"a\": 1}", &err);
        if (rc) {
            assert_true(rc == SIREN_EEXISTS || rc == SIREN_EFORMAT);
            assert_true(strstr(err.message, partial) &&
                        strstr(err.message, rc == SIREN_EFORMAT ? "truncate -s" : "remove it"));
            MUST(siren_file_read(&there, &left, partial, 1 << 20, &err));
            assert_int_equal(left, size);
            assert_memory_equal(there, data, size);
            free(there);
        } else { /* a changed length looks like an early end only near the end */
            if (siren_teacher_writer_rows(w) < ROWS - 3)
                fail_msg("byte %zu of %zu: %zu rows", at, size, siren_teacher_writer_rows(w));
            siren_teacher_writer_close(w);
        }
        data[at] ^= 4;
    }
    /* What came to the disk as zeros only. */
    char *more = calloc(1, size + 4096);
    memcpy(more, data, size / 2);
    put_file(partial, more, size + 4096);
    assert_int_equal(siren_teacher_writer_open(&w, path, &shape, "{\"a\": 1}", &err),
                     SIREN_EFORMAT); /* in the middle of a record: its rest is zeros */
    char *advice = strstr(err.message, "-s ");
    size_t good = strtoul(advice + 3, NULL, 10);
    memset(more + good, 0, size + 4096 - good);
    put_file(partial, more, size + 4096);
    MUST(siren_teacher_writer_open(&w, path, &shape, "{\"a\": 1}", &err));
    write_rows(w, (int)siren_teacher_writer_rows(w), ROWS);
    MUST(siren_teacher_writer_finish(w, &err));
    same_file(whole, path);
    free(more);
    free(data);
}

static void other_work_is_not_overwritten(void **state)
{
    struct siren_teacher_shape other = shape;
    struct siren_teacher_writer *w, *second;
    char path[256], partial[300];
    struct siren_teacher *t;
    snprintf(path, sizeof path, "%s", write_file("there.bin", &shape));
    assert_int_equal(siren_teacher_writer_open(&w, path, &shape, "{}", &err), SIREN_EEXISTS);
    snprintf(path, sizeof path, "%s", scratch_path("begun.bin"));
    snprintf(partial, sizeof partial, "%s.partial", path);
    MUST(siren_teacher_writer_open(&w, path, &shape, "{}", &err));
    assert_int_equal(siren_teacher_writer_open(&second, path, &shape, "{}", &err), SIREN_EBUSY);
    write_rows(w, 0, 1);
    siren_teacher_writer_close(w);
    assert_int_equal(siren_teacher_writer_open(&w, path, &shape, "{\"b\": 2}", &err),
                     SIREN_EEXISTS);
    assert_non_null(strstr(err.message, "other settings (b is 2, it was missing)"));
    other.encoding = SIREN_STATES_INT8;
    assert_int_equal(siren_teacher_writer_open(&w, path, &other, "{}", &err), SIREN_EEXISTS);
    assert_non_null(strstr(err.message, "numbers as bf16"));
    assert_int_equal(siren_teacher_open(&t, partial, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "not finished"));
    FILE *f = fopen(partial, "wb");
    fputs("my diary", f);
    fclose(f);
    assert_int_equal(siren_teacher_writer_open(&w, path, &shape, "{}", &err), SIREN_EEXISTS);
}

static void damage_is_found(void **state)
{
    char path[256], *data;
    struct siren_teacher *t;
    size_t size;
    snprintf(path, sizeof path, "%s", write_file("damaged.bin", &shape));
    MUST(siren_file_read(&data, &size, path, 1 << 20, &err));
    for (size_t at = 0; at < size; at += 5) {
        data[at] ^= 4;
        scratch_write("damaged.bin", data, size);
        assert_int_not_equal(siren_teacher_open(&t, path, &err), 0);
        data[at] ^= 4;
    }
    for (size_t n = 0; n < size; n += 11) {
        scratch_write("damaged.bin", data, n);
        assert_int_not_equal(siren_teacher_open(&t, path, &err), 0);
    }
    assert_int_equal(siren_teacher_open(&t, "/nowhere", &err), SIREN_ENOTFOUND);
    free(data);
}

static void what_is_not_finite_is_refused(void **state)
{
    struct siren_teacher_writer *w;
    struct siren_teacher_row row;
    float scores[LABELS], states[STATES];
    int32_t ids[ROWS];
    MUST(siren_teacher_writer_open(&w, scratch_path("finite.bin"), &shape, "", &err));
    make(3, &row, scores, ids, states);
    states[WIDTH + 1] = NAN;
    assert_int_equal(siren_teacher_write(w, &row, ids, states, &err), SIREN_ENUMERIC);
    assert_non_null(strstr(err.message, "layer 2"));
    states[WIDTH + 1] = 3.4e38f;
    assert_int_equal(siren_teacher_write(w, &row, ids, states, &err), SIREN_ENUMERIC);
    states[WIDTH + 1] = 0;
    scores[2] = -INFINITY;
    assert_int_equal(siren_teacher_write(w, &row, ids, states, &err), SIREN_ENUMERIC);
    siren_teacher_writer_close(w);
    for (int i = 0; i < 4; i++) {
        struct siren_teacher_shape bad = shape;
        if (i == 0) bad.n_layers = 0;
        if (i == 1) bad.d = -1;
        if (i == 2) bad.n_labels = 1;
        if (i == 3) bad.encoding = 7;
        assert_int_equal(siren_teacher_writer_open(&w, scratch_path("bad.bin"), &bad, "", &err),
                         SIREN_EINVAL);
    }
}

static void rows_are_chosen(void **state)
{
    enum { MANY = 400 };
    struct siren_teacher_filter f = {.share = 1, .low = 1, .high = 5};
    struct siren_teacher_writer *w;
    struct siren_teacher *t;
    struct siren_teacher_row row;
    float scores[LABELS], states[STATES];
    int32_t ids[ROWS];
    double a[MANY], b[MANY];
    size_t n;
    char path[256];
    snprintf(path, sizeof path, "%s", scratch_path("chosen.bin"));
    MUST(siren_teacher_writer_open(&w, path, &shape, "", &err));
    make(1, &row, scores, ids, states);
    for (int i = 0; i < MANY; i++) {
        row.user = i;
        row.flags = i % 10 ? SIREN_TEACHER_NUMBER : 0;
        row.rating = 4;
        row.number = (float)(1 + i % 5); /* 1 … 5 */
        MUST(siren_teacher_write(w, &row, ids, states, &err));
    }
    MUST(siren_teacher_writer_finish(w, &err));
    MUST(siren_teacher_open(&t, path, &err));
    assert_int_equal(siren_teacher_select(t, &f, a), MANY * 9 / 10);
    assert_true(a[0] == 0 && a[1] == 1);
    f.any = 1;
    assert_int_equal(siren_teacher_select(t, &f, a), MANY);
    f.any = 0;
    f.closeness = 1;
    siren_teacher_select(t, &f, a);
    assert_true(a[1] == 0.5 && a[2] == 0.75 && a[3] == 1 && a[4] == 0.75 && a[5] == 0.25);
    f.exact = 1;
    assert_int_equal(siren_teacher_select(t, &f, a), MANY / 5);
    f.exact = f.closeness = 0;
    f.share = 0.5;
    n = siren_teacher_select(t, &f, a);
    assert_in_range(n, 150, 210);
    f.exact = 1; /* the same draws, of fewer rows */
    siren_teacher_select(t, &f, b);
    for (int i = 0; i < MANY; i++) assert_true(!(b[i] > 0) || a[i] > 0);
    f.exact = 0;
    f.seed = 1;
    siren_teacher_select(t, &f, b);
    assert_memory_not_equal(a, b, sizeof a);
    siren_teacher_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(outliers_leave_the_others_alone),
        cmocka_unit_test(coarse_states_are_refused),
        cmocka_unit_test(a_stopped_writer_goes_on),
        cmocka_unit_test(damaged_work_is_left_alone),
        cmocka_unit_test(other_work_is_not_overwritten),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(what_is_not_finite_is_refused),
        cmocka_unit_test(rows_are_chosen),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
