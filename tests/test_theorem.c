/* Theorem 1: the linearised layer beside the forest and beside finite differences, the
 * least-squares solver, and the whole experiment on tiny models. */
/* check: portable */
#include "engine_fixture.h"
#include "siren/theorem.h"
#include "train/theorem.h"

enum { TOKENS = 23, PROMPTS = 3 };

static const char *const models[] = {"tests/fixtures/models/llama", "tests/fixtures/models/smol",
                                     "tests/fixtures/models/qwen2", "tests/fixtures/models/qwen3"};
enum { N_MODELS = sizeof models / sizeof *models };

struct bench {
    struct fixture f;
    const struct siren_config *c;
    int L, d, W;
    int32_t ids[PROMPTS][TOKENS + PROMPTS];
    size_t n_ids[PROMPTS];
    struct linear_prompt prompts[PROMPTS];
    struct linear_inputs inputs[PROMPTS];
    struct linear_scratch scratch[2];
    struct linear_map map;
};

/* The states after `layer` layers of one prompt's tokens from `first` on. */
static void states_of(struct bench *b, int prompt, size_t first, int layer, float *out)
{
    struct siren_forest *forest;
    int segment;
    size_t n = b->n_ids[prompt];
    assert_int_equal(siren_forest_create(&forest, b->f.engine, NULL), 0);
    segment = siren_forest_add(forest, SIREN_ROOT, b->ids[prompt], n, 0);
    for (size_t t = first; t < n; t++) siren_forest_want_hidden(forest, segment, t, layer);
    fixture_run(forest);
    for (size_t t = first; t < n; t++)
        memcpy(out + (t - first) * (size_t)b->d, siren_forest_output(forest, (int)(t - first)),
               (size_t)b->d * sizeof *out);
    siren_forest_free(forest);
}

/* Room for the products both ways, whatever the FFN's width: in mode bf16 a gradient's rows are
 * kept there as pairs. */
static void the_scratch_holds_gradients_of_wide_layers(void **state)
{
    struct fixture f;
    struct linear_scratch s;
    fixture_open_mode(&f, models[0], NULL, "bf16", 1);
    struct siren_model wide = *f.model;
    struct siren_engine engine = *f.engine;
    struct layer_weights layers[8];
    assert_true(wide.config.n_layers <= 8);
    memcpy(layers, wide.layers, (size_t)wide.config.n_layers * sizeof *layers);
    wide.layers = layers;
    engine.model = &wide;
    for (int n = 1024; n <= 32768; n *= 2) {
        layers[0].ffn_in.n = n;
        assert_int_equal(linear_scratch_create(&s, &engine, &f.err), 0);
        assert_true((size_t)(s.rows - s.gemm) >= gemm_dx_scratch(&layers[0].ffn_in));
        linear_scratch_free(&s);
    }
    fixture_close(&f);
}

static struct bench *bench_open(const char *model)
{
    struct bench *b = calloc(1, sizeof *b);
    fixture_open_mode(&b->f, model, NULL, "f32", 2);
    b->c = siren_model_config(b->f.model);
    b->L = b->c->n_layers;
    b->d = b->c->d_model;
    b->W = config_kv_width(b->c);
    for (int i = 0; i < PROMPTS; i++) {
        b->n_ids[i] = (size_t)(TOKENS + i);
        fixture_ids(&b->f, 40 + (uint64_t)i, b->ids[i], b->n_ids[i]);
        assert_int_equal(
            linear_prompt_create(&b->prompts[i], b->f.engine, (int)b->n_ids[i], &b->f.err), 0);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(linear_scratch_create(&b->scratch[i], b->f.engine, &b->f.err), 0);
    b->map = (struct linear_map){.engine = b->f.engine,
                                 .n = PROMPTS,
                                 .prompts = b->prompts,
                                 .inputs = b->inputs,
                                 .mk = b->d,
                                 .mv = b->d,
                                 .scratch = b->scratch};
    b->map.sums = calloc(PROMPTS * linear_unknowns(&b->map), sizeof(float));
    return b;
}

static void bench_close(struct bench *b)
{
    for (int i = 0; i < PROMPTS; i++) linear_prompt_free(&b->prompts[i]);
    for (int i = 0; i < 2; i++) linear_scratch_free(&b->scratch[i]);
    free(b->map.sums);
    fixture_close(&b->f);
    free(b);
}

/* All prompts at one layer, with updates (NULL: none). */
static void linearise_bench(struct bench *b, int layer, const float *updates)
{
    size_t half = (size_t)b->d * (size_t)b->W;
    for (int i = 0; i < PROMPTS; i++) {
        struct linear_prompt *p = &b->prompts[i];
        states_of(b, i, 0, layer, p->hidden);
        linearise(p, b->f.engine, layer, updates, updates ? updates + half : NULL, 1, b->scratch);
        b->inputs[i] = (struct linear_inputs){p->x, p->xt, p->mixed};
    }
}

static float *noise(size_t n, uint64_t stream, double scale)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)(scale * siren_random_normal(11, stream, i));
    return x;
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static double length(const float *a, size_t n)
{
    return sqrt(dot(a, a, n));
}

static void a_layer_is_that_of_the_forest(void **state)
{
    for (int m = 0; m < N_MODELS; m++) {
        struct bench *b = bench_open(models[m]);
        float *h = malloc((size_t)b->d * sizeof *h);
        for (int l = 0; l < b->L; l++) {
            linearise_bench(b, l, NULL);
            for (int i = 0; i < PROMPTS; i++) {
                states_of(b, i, b->n_ids[i] - 1, l + 1, h);
                assert_true(worst(h, b->prompts[i].output, (size_t)b->d) <
                            1e-4 * (1 + length(h, (size_t)b->d)));
            }
        }
        free(h);
        bench_close(b);
    }
}

/* A central difference along a random update, and <A w, y> = <w, Aᵀ y>. */
static void the_map_is_the_derivative(void **state)
{
    for (int m = 0; m < N_MODELS; m++) {
        struct bench *b = bench_open(models[m]);
        size_t n_x = linear_unknowns(&b->map), n_b = PROMPTS * (size_t)b->d, d = (size_t)b->d;
        float *w = noise(n_x, 1, 0.001), *y = noise(n_b, 2, 1), *back = malloc(n_x * sizeof *back);
        float *dh = malloc(n_b * sizeof *dh), *up = malloc(n_b * sizeof *up);
        for (int l = 0; l < b->L; l++) {
            double off = 0, all = 0, left, right;
            linearise_bench(b, l, w);
            for (int i = 0; i < PROMPTS; i++)
                memcpy(up + (size_t)i * d, b->prompts[i].output, d * sizeof *up);
            for (size_t k = 0; k < n_x; k++) w[k] = -w[k];
            linearise_bench(b, l, w);
            for (int i = 0; i < PROMPTS; i++)
                for (size_t k = 0; k < d; k++)
                    up[(size_t)i * d + k] = (up[(size_t)i * d + k] - b->prompts[i].output[k]) / 2;
            for (size_t k = 0; k < n_x; k++) w[k] = -w[k];
            linearise_bench(b, l, NULL);
            linear_apply(&b->map, w, dh);
            for (size_t k = 0; k < n_b; k++) {
                off += ((double)dh[k] - (double)up[k]) * ((double)dh[k] - (double)up[k]);
                all += (double)up[k] * (double)up[k];
            }
            assert_true(sqrt(off / all) < 5e-4);
            linear_transposed(&b->map, y, back);
            left = dot(dh, y, n_b);
            right = dot(w, back, n_x);
            assert_true(fabs(left - right) < 1e-4 * length(dh, n_b) * length(y, n_b));
        }
        free(w);
        free(y);
        free(back);
        free(dh);
        free(up);
        bench_close(b);
    }
}

static void least_squares_reach_what_can_be_reached(void **state)
{
    struct bench *b = bench_open(models[3]);
    size_t n_x = linear_unknowns(&b->map), n_b = PROMPTS * (size_t)b->d;
    float *w = noise(n_x, 3, 0.1), *target = malloc(n_b * sizeof *target);
    float *x = malloc(n_x * sizeof *x), *dh = malloc(n_b * sizeof *dh);
    float *work = malloc((3 * n_x + 2 * n_b) * sizeof *work);
    linearise_bench(b, 0, NULL);
    linear_apply(&b->map, w, target);
    assert_true(linear_solve(&b->map, target, 0, 500, x, work) > 3);
    linear_apply(&b->map, x, dh);
    for (size_t i = 0; i < n_b; i++) dh[i] -= target[i];
    assert_true(length(dh, n_b) < 1e-2 * length(target, n_b));
    assert_true(length(x, n_x) < length(w, n_x)); /* of least norm */
    /* A ridge gives a smaller solution; nothing to reach gives none. */
    double before = length(x, n_x);
    linear_solve(&b->map, target, 1, 500, x, work);
    assert_true(length(x, n_x) < before);
    memset(target, 0, n_b * sizeof *target);
    assert_int_equal(linear_solve(&b->map, target, 0, 500, x, work), 0);
    assert_true(length(x, n_x) == 0);
    free(w);
    free(target);
    free(x);
    free(dh);
    free(work);
    bench_close(b);
}

static void leading_directions(void **state)
{
    enum { D = 40, W = 16, R = 3 };
    struct bench *b = bench_open(models[0]);
    float *left = noise(R * D, 4, 1), *right = noise(R * W, 5, 1), w[D * W] = {0}, z[W * D];
    static float work[W * W + 2 * W * W];
    for (int r = 0; r < R; r++)
        for (int i = 0; i < D; i++)
            for (int k = 0; k < W; k++) w[i * W + k] += left[r * D + i] * right[r * W + k];
    for (int r = R; r <= W; r += W - R) { /* three, and all */
        float rest[D * W];
        leading_inputs(b->f.engine, w, D, W, r, z, work, b->scratch->gemm);
        memcpy(rest, w, sizeof rest);
        for (int i = 0; i < r; i++)
            for (int k = 0; k < W; k++) {
                double along = 0;
                for (int a = 0; a < D; a++) along += (double)z[i * D + a] * (double)w[a * W + k];
                for (int a = 0; a < D; a++) rest[a * W + k] -= (float)along * z[i * D + a];
            }
        assert_true(length(rest, D * W) < 1e-3 * length(w, D * W));
        for (int i = 0; i < R; i++) assert_true(fabs(length(z + i * D, D) - 1) < 1e-5);
    }
    free(left);
    free(right);
    bench_close(b);
}

/* ---- the experiment ---- */

struct experiment {
    struct siren_theorem_prompt prompts[PROMPTS];
    float *teacher; /* (PROMPTS, L, d) */
};

/* What the final norm can give: at / its weight has a root mean square of 1. */
static void to_sphere(const struct bench *b, float *at)
{
    double sum = 0;
    for (int k = 0; k < b->d; k++) {
        double x = (double)at[k] / (double)b->f.model->final_norm[k];
        sum += x * x / b->d;
    }
    for (int k = 0; k < b->d; k++) at[k] = (float)((double)at[k] / sqrt(sum));
}

/* Teachers: the untouched state plus `share` of the way to that of a longer prompt. */
static void make_experiment(struct bench *b, double share, struct experiment *x)
{
    size_t d = (size_t)b->d, L = (size_t)b->L;
    float *h = malloc(d * sizeof *h);
    x->teacher = malloc(PROMPTS * L * d * sizeof *x->teacher);
    for (int i = 0; i < PROMPTS; i++) {
        for (int l = 0; l < b->L; l++) {
            float *at = x->teacher + ((size_t)i * L + (size_t)l) * d;
            int other = (i + 1) % PROMPTS;
            states_of(b, i, b->n_ids[i] - 1, l + 1, at);
            states_of(b, other, b->n_ids[other] - 1, l + 1, h);
            for (size_t k = 0; k < d; k++) at[k] += (float)share * (h[k] - at[k]);
            if (l == b->L - 1) to_sphere(b, at);
        }
        x->prompts[i] =
            (struct siren_theorem_prompt){{b->ids[i], b->n_ids[i]}, x->teacher + (size_t)i * L * d};
    }
    free(h);
}

static void run_experiment(struct bench *b, const struct experiment *x, size_t n,
                           const struct siren_theorem_options *o, struct siren_theorem *t)
{
    if (siren_theorem(t, b->f.engine, x->prompts, n, o, NULL, NULL, &b->f.err))
        fail_msg("%s", b->f.err.message);
}

/* Near the present state the model is linear: what the linear model promises comes true, and most
 * of the way is gone in one step. */
static void a_small_step_is_linear(void **state)
{
    for (int m = 0; m < N_MODELS; m++) {
        struct bench *b = bench_open(models[m]);
        int ranks[3] = {1, 4, b->W < b->d ? b->W : b->d};
        struct siren_theorem_options o = {.ranks = ranks,
                                          .n_ranks = 3,
                                          .keys = 1,
                                          .values = 1,
                                          .steps = 1,
                                          .ridge = 0.01,
                                          .iterations = 400};
        struct experiment x;
        struct siren_theorem t;
        make_experiment(b, 0.002, &x);
        run_experiment(b, &x, 1, &o, &t);
        for (int i = 0; i < 3 * b->L; i++) {
            double before = t.before[i % b->L];
            assert_true(i < 2 * b->L || t.after[i] < 0.2 * before);
            assert_true(i < 2 * b->L || t.linear[i] < 0.06 * before);
            assert_true(fabs(t.after[i] - t.predicted[i]) <= t.linear[i] + 1e-6);
            assert_true(t.size[i] > 0 && t.size[i] < 0.1);
        }
        siren_theorem_clear(&t);
        free(x.teacher);
        bench_close(b);
    }
}

/* Steps that are only taken as far as they help reach what one cannot; of several prompts, too. */
static void more_steps_reach_more(void **state)
{
    for (int m = 0; m < N_MODELS; m++) {
        struct bench *b = bench_open(models[m]);
        int ranks[2] = {1, b->W < b->d ? b->W : b->d};
        struct siren_theorem_options o = {.ranks = ranks,
                                          .n_ranks = 2,
                                          .keys = 1,
                                          .values = 1,
                                          .steps = 8,
                                          .ridge = 0.1,
                                          .iterations = 400};
        struct experiment x;
        struct siren_theorem t;
        make_experiment(b, 0.02, &x);
        for (size_t n = 1; n <= PROMPTS; n += 2) {
            run_experiment(b, &x, n, &o, &t);
            for (int l = 0; l < b->L; l++)
                assert_true(t.after[b->L + l] < (n == 1 ? 0.16 : 0.8) * t.before[l]);
            siren_theorem_clear(&t);
        }
        free(x.teacher);
        bench_close(b);
    }
}

/* One matrix alone; what comes out as adapters is what was measured; threads do not matter. */
static void the_updates_are_adapters(void **state)
{
    static const int ranks[] = {2, 5};
    struct experiment x;
    struct siren_theorem t[2];
    struct siren_adapter *adapters[2];
    struct bench *b = bench_open(models[3]);
    struct fixture one;
    size_t d = (size_t)b->d;
    make_experiment(b, 0.02, &x);
    fixture_open_mode(&one, models[3], NULL, "f32", 1);
    for (int only = 0; only < 3; only++) {
        struct siren_theorem_options o = siren_theorem_defaults();
        o.ranks = ranks;
        o.n_ranks = 2;
        o.keys = only != 1;
        o.values = only != 2;
        assert_int_equal(
            siren_theorem(&t[0], b->f.engine, x.prompts, PROMPTS, &o, adapters, NULL, &b->f.err),
            0);
        assert_int_equal(
            siren_theorem(&t[1], one.engine, x.prompts, PROMPTS, &o, NULL, NULL, &b->f.err), 0);
        assert_memory_equal(t[0].after, t[1].after, 2 * (size_t)b->L * sizeof(double));
        assert_memory_equal(t[0].predicted, t[1].predicted, 2 * (size_t)b->L * sizeof(double));
        for (int i = 0; i < 2; i++) {
            const struct siren_adapter_config *c = siren_adapter_config(adapters[i]);
            struct siren_forest *forest;
            double mean = 0;
            assert_int_equal(c->r, ranks[i]);
            assert_int_equal(c->targets, (o.keys ? 1u << SIREN_LORA_K : 0) |
                                             (o.values ? 1u << SIREN_LORA_V : 0));
            assert_int_equal(siren_forest_create(&forest, b->f.engine, NULL), 0);
            for (int p = 0; p < PROMPTS; p++) {
                int segment = siren_forest_add(forest, SIREN_ROOT, b->ids[p], b->n_ids[p], 0);
                siren_forest_use_adapter(forest, segment, adapters[i]);
                siren_forest_want_hidden(forest, segment, b->n_ids[p] - 1, b->L);
            }
            fixture_run(forest);
            for (int p = 0; p < PROMPTS; p++) {
                const float *h = siren_forest_output(forest, p);
                const float *wanted = x.prompts[p].teacher + (size_t)(b->L - 1) * d;
                float off[512];
                for (size_t k = 0; k < d; k++) off[k] = h[k] - wanted[k];
                mean += length(off, d) / length(wanted, d) / PROMPTS;
            }
            assert_true(fabs(mean - t[0].after[i * b->L + b->L - 1]) < 1e-6);
            siren_forest_free(forest);
            siren_adapter_free(adapters[i]);
        }
        siren_theorem_clear(&t[0]);
        siren_theorem_clear(&t[1]);
    }
    free(x.teacher);
    fixture_close(&one);
    bench_close(b);
}

static int stop_at_once(void *context, const char *what, uint64_t done, uint64_t total)
{
    return 1;
}

static int fails(struct bench *b, const struct experiment *x, size_t n,
                 const struct siren_theorem_options *o, const struct siren_progress *progress)
{
    struct siren_theorem t;
    struct siren_adapter *adapters[8];
    int rc = siren_theorem(&t, b->f.engine, x->prompts, n, o, adapters, progress, &b->f.err);
    assert_true(rc && !t.before && !adapters[0]);
    return rc;
}

static void what_cannot_be_done(void **state)
{
    const struct siren_progress stop = {stop_at_once, NULL};
    const int bad[] = {1, 0}, large[] = {100000}, good[] = {1};
    struct bench *b = bench_open(models[0]);
    struct siren_theorem_options o = siren_theorem_defaults(), fit;
    struct experiment x;
    make_experiment(b, 0.1, &x);
    o.ranks = good;
    o.n_ranks = 1;
    fit = o;
    assert_int_equal(fails(b, &x, 0, &o, NULL), SIREN_EINVAL);
    o.keys = o.values = 0;
    assert_int_equal(fails(b, &x, 1, &o, NULL), SIREN_EINVAL);
    o = fit;
    o.ranks = bad;
    o.n_ranks = 2;
    assert_int_equal(fails(b, &x, 1, &o, NULL), SIREN_EINVAL);
    o.ranks = large;
    o.n_ranks = 1;
    assert_int_equal(fails(b, &x, 1, &o, NULL), SIREN_EINVAL);
    o = fit;
    o.ridge = NAN;
    assert_int_equal(fails(b, &x, 1, &o, NULL), SIREN_EINVAL);
    o = fit;
    assert_int_equal(fails(b, &x, 1, &o, &stop), SIREN_ECANCEL);
    x.prompts[1].ids.n_ids = 1;
    assert_int_equal(fails(b, &x, 2, &o, NULL), SIREN_EINVAL);
    x.teacher[3] = INFINITY;
    assert_int_equal(fails(b, &x, 1, &o, NULL), SIREN_ENUMERIC);
    memset(x.teacher, 0, (size_t)b->d * sizeof *x.teacher);
    assert_int_equal(fails(b, &x, 1, &o, NULL), SIREN_ENUMERIC);
    free(x.teacher);
    bench_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_scratch_holds_gradients_of_wide_layers),
        cmocka_unit_test(a_layer_is_that_of_the_forest),
        cmocka_unit_test(the_map_is_the_derivative),
        cmocka_unit_test(least_squares_reach_what_can_be_reached),
        cmocka_unit_test(leading_directions),
        cmocka_unit_test(a_small_step_is_linear),
        cmocka_unit_test(more_steps_reach_more),
        cmocka_unit_test(the_updates_are_adapters),
        cmocka_unit_test(what_cannot_be_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
