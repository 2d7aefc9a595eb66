/* Attention over pages: bits of a row depend on nothing but the row; the model spelt out. */
#include "kernels_case.h"

struct pages {
    int n, D;
    float **k, **v;
};

static struct pages make_pages(const struct kernels *kernels, int positions, int D)
{
    struct pages p = {.n = (positions + ATTENTION_PAGE - 1) / ATTENTION_PAGE, .D = D};
    size_t size = (size_t)D * ATTENTION_PAGE;
    p.k = alloc_zeroed((size_t)p.n, sizeof *p.k);
    p.v = alloc_zeroed((size_t)p.n, sizeof *p.v);
    for (int i = 0; i < p.n; i++) {
        p.k[i] = alloc_zeroed(size, sizeof(float));
        p.v[i] = alloc_zeroed(size, sizeof(float));
    }
    float *k = normals((size_t)(positions * D), 50), *v = normals((size_t)(positions * D), 51);
    for (int j = 0; j < positions; j++) {
        int page = j / ATTENTION_PAGE, slot = j % ATTENTION_PAGE;
        kernels->page_store(p.k[page], p.v[page], D, slot, k + j * D, v + j * D);
    }
    free(k);
    free(v);
    return p;
}

static void free_pages(struct pages *p)
{
    for (int i = 0; i < p->n; i++) {
        free(p->k[i]);
        free(p->v[i]);
    }
    free(p->k);
    free(p->v);
}

static void run(const struct kernels *kernels, const struct pages *p, const float *q,
                const size_t *offsets, const int *counts, int R, float scale, float *out)
{
    float *scratch = floats(attention_scratch(R, p->n));
    kernels->attention(q, offsets, counts, R, (const float *const *)p->k,
                       (const float *const *)p->v, p->n, NULL, 0, p->D, scale, out, scratch);
    free(scratch);
}

static float key(const struct pages *p, int j, int d)
{
    int slot = j % ATTENTION_PAGE;
    return p->k[j / ATTENTION_PAGE][(slot / 16 * p->D + d) * 16 + slot % 16];
}

static float value(const struct pages *p, int j, int d)
{
    return p->v[j / ATTENTION_PAGE][(d / 16 * ATTENTION_PAGE + j % ATTENTION_PAGE) * 16 + d % 16];
}

/* The contract for one row; exp from the kernels under test. */
static void model_row(const struct kernels *kernels, const struct pages *p, const float *q,
                      int count, float scale, float *out)
{
    float *s = floats((size_t)count), partial[16] = {0}, highest = -INFINITY;
    for (int j = 0; j < count; j++) {
        float dot = 0;
        for (int d = 0; d < p->D; d++) dot = fmaf(q[d], key(p, j, d), dot);
        s[j] = dot * scale;
        if (s[j] > highest) highest = s[j];
    }
    for (int j = 0; j < count; j++) s[j] = s[j] - highest;
    kernels->exps(s, s, (size_t)count);
    for (int j = 0; j < count; j++) partial[j % 16] = partial[j % 16] + s[j];
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) partial[i] = partial[i] + partial[i + step];
    float inverse = 1.0f / partial[0];
    for (int d = 0; d < p->D; d++) {
        float o = 0;
        for (int j = 0; j < count; j++) o = fmaf(s[j], value(p, j, d), o);
        out[d] = o * inverse + 0.0f;
    }
    free(s);
}

static void test_equals_model(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    const int dims[] = {16, 32, 64, 80, 128};
    enum { R = 29, POSITIONS = 171 };
    for (int i = 0; i < n_isa; i++)
        for (int at = 0; at < 5; at++) {
            int D = dims[at], counts[R];
            size_t offsets[R];
            struct pages p = make_pages(list[i], POSITIONS, D);
            float *q = normals((size_t)(R * D), 52), *out = floats((size_t)(R * D));
            float *expected = floats((size_t)(R * D)), scale = 1.0f / sqrtf((float)D);
            for (int r = 0; r < R; r++) {
                counts[r] = 1 + r * 59 % POSITIONS;
                offsets[r] = (size_t)((R - 1 - r) * D); /* any order */
                model_row(list[i], &p, q + offsets[r], counts[r], scale, expected + offsets[r]);
            }
            run(list[i], &p, q, offsets, counts, R, scale, out);
            assert_same(out, expected, (size_t)(R * D), list[i]->name);
            run(list[i], &p, q, offsets, counts, R, scale, q); /* in place */
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
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    enum { R = 96, POSITIONS = 320, D = 64 };
    float *first = floats(R * D);
    for (int i = 0; i < n_isa; i++) {
        struct pages p = make_pages(list[i], POSITIONS, D);
        float *q = normals(R * D, 53), *all = floats(R * D), *one = floats(R * D);
        size_t offsets[R];
        int counts[R];
        for (int r = 0; r < R; r++) {
            offsets[r] = (size_t)(r * D);
            counts[r] = 1 + r * 3;
        }
        run(list[i], &p, q, offsets, counts, R, 0.125f, all);
        if (i == 0) memcpy(first, all, R * D * sizeof *all);
        assert_same(all, first, R * D, list[i]->name);
        for (int r = 0; r < R; r++) run(list[i], &p, q, offsets + r, counts + r, 1, 0.125f, one);
        assert_same(one, all, R * D, "alone");
        for (int height = 2; height < 30; height++) {
            run(list[i], &p, q, offsets + 40, counts + 40, height, 0.125f, one);
            assert_same(one + 40 * D, all + 40 * D, (size_t)(height * D), "in a part");
        }
        for (int j = counts[50]; j < POSITIONS; j++) {
            float huge[D];
            for (int d = 0; d < D; d++) huge[d] = (j + d) % 2 ? 3e38f : -3e38f;
            list[i]->page_store(p.k[j / 32], p.v[j / 32], D, j % 32, huge, huge);
        }
        run(list[i], &p, q, offsets, counts, 51, 0.125f, one);
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
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    enum { BRANCHES = 5, D = 48, MOST_ROWS = 60, MOST_PAGES = 40 };
    static const int positions[BRANCHES] = {97, 200, 130, 96, 161};
    static const int n_rows[BRANCHES] = {3, 1, 30, 2, 7};
    for (int i = 0; i < n_isa; i++)
        for (int shared = 0; shared <= 3; shared++) {
            struct pages p[BRANCHES];
            const float *k[MOST_PAGES], *v[MOST_PAGES];
            struct attention_branch branches[BRANCHES];
            size_t offsets[MOST_ROWS];
            int counts[MOST_ROWS], R = 0, n = shared;
            float *q = normals(MOST_ROWS * D, 55), *out = floats(MOST_ROWS * D), one[D];
            for (int b = 0; b < BRANCHES; b++) {
                p[b] =
                    make_pages(list[i], positions[b], D); /* equal numbers where both have them */
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
            list[i]->attention(q, offsets, counts, R, k, v, shared, branches, BRANCHES, D, 0.2f,
                               out, scratch);
            for (int b = 0, r = 0; b < BRANCHES; b++)
                for (int j = 0; j < n_rows[b]; j++, r++) {
                    size_t zero = 0;
                    run(list[i], &p[b], q + r * D, &zero, counts + r, 1, 0.2f, one);
                    assert_same(out + r * D, one, D, list[i]->name);
                }
            for (int b = 0; b < BRANCHES; b++) free_pages(&p[b]);
            free(scratch);
            free(q);
            free(out);
        }
}

/* Against softmax in double, and a long row. */
static void test_accuracy(void **state)
{
    const struct kernels *k = kernels_select(isa_best(), NULL);
    enum { POSITIONS = 2100, D = 64 };
    struct pages p = make_pages(k, POSITIONS, D);
    float *q = normals(D, 54), out[D];
    double *s = calloc(POSITIONS, sizeof *s), highest = -INFINITY, sum = 0;
    size_t offset = 0;
    int count = POSITIONS;
    run(k, &p, q, &offset, &count, 1, 0.3f, out);
    for (int j = 0; j < POSITIONS; j++) {
        for (int d = 0; d < D; d++) s[j] += (double)q[d] * (double)key(&p, j, d);
        s[j] *= (double)0.3f;
        if (s[j] > highest) highest = s[j];
    }
    for (int j = 0; j < POSITIONS; j++) sum += s[j] = exp(s[j] - highest);
    for (int d = 0; d < D; d++) {
        double o = 0;
        for (int j = 0; j < POSITIONS; j++) o += s[j] * (double)value(&p, j, d);
        assert_true(fabs((double)out[d] - o / sum) < 3e-6);
    }
    free(s);
    free(q);
    free_pages(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_model),
        cmocka_unit_test(test_independence),
        cmocka_unit_test(test_branches),
        cmocka_unit_test(test_accuracy),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
