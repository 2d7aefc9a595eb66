/* Attention over pages: bits of a row depend on nothing but the row; the model spelt out. */
#include "kernels_case.h"
#include "model/kept.h"

/* Every set in both modes; before the others of its order comes that of plain C. */
static const struct kernels *modes[MODES_MOST];
static int n_modes;

struct pages {
    int n, D;
    float **k, **v;       /* as the kernels store them */
    float *keys, *values; /* (positions, D): what was stored */
};

static struct pages make_pages(const struct kernels *kernels, int positions, int D)
{
    struct pages p = {.n = (positions + ATTENTION_PAGE - 1) / ATTENTION_PAGE, .D = D};
    size_t size = (size_t)D * ATTENTION_PAGE;
    p.k = alloc_zeroed((size_t)p.n, sizeof *p.k);
    p.v = alloc_zeroed((size_t)p.n, sizeof *p.v);
    for (int i = 0; i < p.n; i++) {
        p.k[i] = floats(size); /* NaN where nothing is stored: a page may hold an older pass's */
        p.v[i] = floats(size);
        memset(p.k[i], 0xff, size * sizeof(float));
        memset(p.v[i], 0xff, size * sizeof(float));
    }
    float *k = normals((size_t)(positions * D), 50), *v = normals((size_t)(positions * D), 51);
    for (int j = 0; j < positions; j++) {
        int page = j / ATTENTION_PAGE, slot = j % ATTENTION_PAGE;
        kernels->page_store(p.k[page], p.v[page], D, slot, 1, k + j * D, (size_t)D, v + j * D,
                            (size_t)D);
    }
    p.keys = k;
    p.values = v;
    return p;
}

static double dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static void free_pages(struct pages *p)
{
    for (int i = 0; i < p->n; i++) {
        free(p->k[i]);
        free(p->v[i]);
    }
    free(p->k);
    free(p->v);
    free(p->keys);
    free(p->values);
}

static void run(const struct kernels *kernels, const struct pages *p, const float *q,
                const size_t *offsets, const int *counts, int R, float scale, float *out)
{
    float *scratch = floats(attention_scratch(R, p->n));
    kernels->attention(q, offsets, counts, R, (const float *const *)p->k,
                       (const float *const *)p->v, p->n, NULL, 0, p->D, scale, out, scratch);
    free(scratch);
}

/* The contract for one row; exp from the kernels under test. */
static void model_row(const struct kernels *kernels, const struct pages *p, const float *q,
                      int count, float scale, float *out)
{
    float *s = floats((size_t)count), *v = floats((size_t)count), partial[16] = {0};
    float highest = -INFINITY;
    for (int j = 0; j < count; j++) {
        s[j] = score(kernels, q, p->keys + j * p->D, p->D) * scale;
        if (s[j] > highest) highest = s[j];
    }
    for (int j = 0; j < count; j++) s[j] = s[j] - highest;
    kernels->exps(s, s, (size_t)count);
    for (int j = 0; j < count; j++) partial[j % 16] = partial[j % 16] + s[j];
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) partial[i] = partial[i] + partial[i + step];
    float inverse = 1.0f / partial[0];
    for (int d = 0; d < p->D; d++) {
        for (int j = 0; j < count; j++) v[j] = p->values[j * p->D + d];
        out[d] = chain(kernels, s, v, count) * inverse + 0.0f;
    }
    free(s);
    free(v);
}

static void test_equals_model(void **state)
{
    const int dims[] = {16, 32, 64, 80, 128};
    enum { R = 29, POSITIONS = 171 };
    for (int i = 0; i < n_modes; i++)
        for (int at = 0; at < 5; at++) {
            int D = dims[at], counts[R];
            size_t offsets[R];
            struct pages p = make_pages(modes[i], POSITIONS, D);
            float *q = normals((size_t)(R * D), 52), *out = floats((size_t)(R * D));
            float *expected = floats((size_t)(R * D)), scale = 1.0f / sqrtf((float)D);
            for (int r = 0; r < R; r++) {
                counts[r] = 1 + r * 59 % POSITIONS;
                offsets[r] = (size_t)((R - 1 - r) * D); /* any order */
                model_row(modes[i], &p, q + offsets[r], counts[r], scale, expected + offsets[r]);
            }
            run(modes[i], &p, q, offsets, counts, R, scale, out);
            assert_same(out, expected, (size_t)(R * D), modes[i]->name);
            run(modes[i], &p, q, offsets, counts, R, scale, q); /* in place */
            assert_same(q, expected, (size_t)(R * D), "in place");
            free(q);
            free(out);
            free(expected);
            free_pages(&p);
        }
}

/* Other rows in the call, more pages behind, other numbers in masked positions: no bit moves. */
static void test_independence(void **state)
{
    enum { R = 96, POSITIONS = 320, D = 64 };
    float *first = floats(R * D);
    for (int i = 0; i < n_modes; i++) {
        struct pages p = make_pages(modes[i], POSITIONS, D);
        float *q = normals(R * D, 53), *all = floats(R * D), *one = floats(R * D);
        size_t offsets[R];
        int counts[R];
        for (int r = 0; r < R; r++) {
            offsets[r] = (size_t)(r * D);
            counts[r] = 1 + r * 3;
        }
        run(modes[i], &p, q, offsets, counts, R, 0.125f, all);
        if (first_of_order(modes[i])) memcpy(first, all, R * D * sizeof *all);
        assert_same(all, first, R * D, modes[i]->name);
        for (int r = 0; r < R; r++) run(modes[i], &p, q, offsets + r, counts + r, 1, 0.125f, one);
        assert_same(one, all, R * D, "alone");
        for (int height = 2; height < 30; height++) {
            run(modes[i], &p, q, offsets + 40, counts + 40, height, 0.125f, one);
            assert_same(one + 40 * D, all + 40 * D, (size_t)(height * D), "in a part");
        }
        for (int j = counts[50]; j < POSITIONS; j++) {
            float huge[D];
            for (int d = 0; d < D; d++) huge[d] = (j + d) % 2 ? 3e38f : -3e38f;
            modes[i]->page_store(p.k[j / 32], p.v[j / 32], D, j % 32, 1, huge, D, huge, D);
        }
        run(modes[i], &p, q, offsets, counts, 51, 0.125f, one);
        assert_same(one, all, 51 * D, "masked positions");
        free(q);
        free(all);
        free(one);
        free_pages(&p);
    }
    free(first);
}

/* Rows that share their first pages and go on in pages of their own: the bits of each alone. */
static void test_branches(void **state)
{
    enum { BRANCHES = 5, D = 48, MOST_ROWS = 60, MOST_PAGES = 40 };
    static const int positions[BRANCHES] = {97, 200, 130, 96, 161};
    static const int n_rows[BRANCHES] = {3, 1, 30, 2, 7};
    for (int i = 0; i < n_modes; i++)
        for (int shared = 0; shared <= 3; shared++) {
            struct pages p[BRANCHES];
            const float *k[MOST_PAGES], *v[MOST_PAGES];
            struct attention_branch branches[BRANCHES];
            size_t offsets[MOST_ROWS];
            int counts[MOST_ROWS], R = 0, n = shared;
            float *q = normals(MOST_ROWS * D, 55), *out = floats(MOST_ROWS * D), one[D];
            for (int b = 0; b < BRANCHES; b++) {
                p[b] =
                    make_pages(modes[i], positions[b], D); /* equal numbers where both have them */
                branches[b] = (struct attention_branch){n_rows[b], n, p[b].n - shared};
                for (int j = 0; j < p[b].n; j++) {
                    int at = j < shared ? j : n++;
                    k[at] = p[b].k[j];
                    v[at] = p[b].v[j];
                }
                for (int r = 0; r < n_rows[b]; r++, R++) {
                    offsets[R] = (size_t)(R * D);
                    counts[R] =
                        r == 1 ? 20 : positions[b] - r; /* one that ends in the shared part */
                }
            }
            float *scratch = floats(attention_scratch(R, 7));
            modes[i]->attention(q, offsets, counts, R, k, v, shared, branches, BRANCHES, D, 0.2f,
                                out, scratch);
            for (int b = 0, r = 0; b < BRANCHES; b++)
                for (int j = 0; j < n_rows[b]; j++, r++) {
                    size_t zero = 0;
                    run(modes[i], &p[b], q + r * D, &zero, counts + r, 1, 0.2f, one);
                    assert_same(out + r * D, one, D, modes[i]->name);
                }
            for (int b = 0; b < BRANCHES; b++) free_pages(&p[b]);
            free(scratch);
            free(q);
            free(out);
        }
}

/* Against softmax in double, and a long row; in mode bf16 of rounded values, where each p is off
 * by up to 2^-9 of itself. */
static void check_accuracy(const struct kernels *k)
{
    enum { POSITIONS = 2100, D = 64 };
    struct pages p = make_pages(k, POSITIONS, D);
    int bf16 = k->compute == COMPUTE_BF16, count = POSITIONS;
    float *q = normals(D, 54), out[D];
    double *s = calloc(POSITIONS, sizeof *s), highest = -INFINITY, sum = 0;
    size_t offset = 0;
    run(k, &p, q, &offset, &count, 1, 0.3f, out);
    for (int i = 0; i < POSITIONS * D && bf16; i++) p.values[i] = rounded(p.values[i]);
    for (int j = 0; j < POSITIONS; j++) {
        s[j] = dot(q, p.keys + j * D, D) * (double)0.3f;
        if (s[j] > highest) highest = s[j];
    }
    for (int j = 0; j < POSITIONS; j++) sum += s[j] = exp(s[j] - highest);
    for (int d = 0; d < D; d++) {
        double o = 0, size = 0;
        for (int j = 0; j < POSITIONS; j++) {
            o += s[j] * (double)p.values[j * D + d];
            size += s[j] * fabs((double)p.values[j * D + d]);
        }
        assert_true(fabs((double)out[d] - o / sum) < 3e-6 + (bf16 ? 0x1p-9 * size / sum : 0));
    }
    free(s);
    free(q);
    free_pages(&p);
}

static void test_accuracy(void **state)
{
    for (int i = 0; i < n_modes; i++) check_accuracy(modes[i]);
}

/* The first positions of a page are copied, to the bit, and no other is touched. */
static void test_copy(void **state)
{
    enum { D = 48 };
    for (int i = 0; i < n_modes; i++) {
        size_t keys = key_words(D), words = keys + value_words(modes[i], D);
        float *from = floats(words), *to = floats(words), *expected = floats(words);
        float *first = normals(ATTENTION_PAGE * D, 56), *second = normals(ATTENTION_PAGE * D, 57);
        for (int n = 0; n <= ATTENTION_PAGE; n++) {
            for (int slot = 0; slot < ATTENTION_PAGE; slot++) {
                const float *x = first + slot * D, *y = second + slot * D, *z = slot < n ? x : y;
                modes[i]->page_store(from, from + keys, D, slot, 1, x, D, x, D);
                modes[i]->page_store(to, to + keys, D, slot, 1, y, D, y, D);
                modes[i]->page_store(expected, expected + keys, D, slot, 1, z, D, z, D);
            }
            page_copy(modes[i], to, from, D, n);
            assert_memory_equal(to, expected, words * sizeof *to);
        }
        free(from), free(to), free(expected), free(first), free(second);
    }
}

/* Runs of positions from anywhere on: the words of one after the other, and no other is touched. */
static void test_store(void **state)
{
    enum { LD = 70 };
    static const int dims[] = {16, 48, 64};
    for (int i = 0; i < n_modes; i++)
        for (int at = 0; at < 3; at++) {
            int D = dims[at];
            size_t keys = key_words(D), words = keys + value_words(modes[i], D);
            float *got = floats(words), *expected = floats(words);
            float *k = normals(ATTENTION_PAGE * LD, 58), *v = normals(ATTENTION_PAGE * LD, 59);
            for (int slot = 0; slot < ATTENTION_PAGE; slot++)
                for (int n = 1; n <= ATTENTION_PAGE - slot; n++) {
                    memset(got, 0x55, words * sizeof *got);
                    memset(expected, 0x55, words * sizeof *expected);
                    modes[i]->page_store(got, got + keys, D, slot, n, k, LD, v, LD);
                    for (int j = 0; j < n; j++)
                        modes[i]->page_store(expected, expected + keys, D, slot + j, 1, k + j * LD,
                                             LD, v + j * LD, LD);
                    assert_memory_equal(got, expected, words * sizeof *got);
                }
            free(got), free(expected), free(k), free(v);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_model), cmocka_unit_test(test_independence),
        cmocka_unit_test(test_branches),     cmocka_unit_test(test_accuracy),
        cmocka_unit_test(test_copy),         cmocka_unit_test(test_store),
    };
    n_modes = machine_modes(modes);
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
