/* GRPO as a task: groups, advantages, groups without signal, scoring, and the first update's ratio.
 */
/* check: portable bf16 */
#include "policy_fixture.h"
#include "scratch.h"
#include "train/trainer_parts.h"

#define DECODER "tests/fixtures/models/llama"
enum { ROWS = 6, SAMPLES = 4, LENGTH = 9, ALL = (1 << SIREN_LORA_TARGETS) - 1 };

static struct fixture f;
static struct texts_source texts;
static struct policy_source source;
static struct siren_adapter *adapter;

/* Between 0 and 1, different for nearly all texts. */
static double share_of_low(void *context, size_t row, const int32_t *ids, size_t n)
{
    double low = 0;
    for (size_t i = 0; i < n; i++) low += ids[i] < 50;
    return low / (double)n + 1e-3 * ids[0];
}

/* Rows below *context have a signal. */
static double some_flat(void *context, size_t row, const int32_t *ids, size_t n)
{
    return row < *(size_t *)context ? share_of_low(NULL, row, ids, n) : -3;
}

static struct siren_adapter *make_adapter(void)
{
    struct siren_adapter_config config = {
        .targets = ALL, .last_layer = 1, .r = 4, .alpha = 8, .seed = 5};
    struct siren_adapter *a;
    struct siren_error err;
    if (siren_adapter_create(&a, f.model, &config, &err)) fail_msg("%s", err.message);
    return a;
}

/* B away from 0, so that the adapter changes something. */
static void move(struct siren_adapter *a, double by)
{
    struct siren_params p = siren_adapter_params(a);
    for (size_t i = 0; i < p.n; i++)
        for (int k = 0; k < p.list[i].rows * p.list[i].columns; k++)
            p.list[i].value[k] += (float)(by * siren_random_normal(3, i, (uint64_t)k));
    siren_adapter_changed(a);
}

static struct policy *open_policy(struct policy_options *o, const struct siren_adapter *reference)
{
    struct policy_models models = {.engine = f.engine, .policy = adapter, .reference = reference};
    struct siren_error err;
    struct policy *p;
    o->samples = texts.samples;
    if (policy_create(&p, o, &source, &models, &err)) fail_msg("%s", err.message);
    return p;
}

/* ---- scoring ---- */

/* The sampler's log-probabilities, in passes of any size, with an adapter and without. */
static void scores_are_the_samplers(void **state)
{
    static const size_t passes[] = {1, 40, 10000};
    struct siren_error err;
    for (int with = 0; with < 2; with++) {
        struct policy_group groups[ROWS] = {{0}};
        struct policy_text t[ROWS][SAMPLES] = {{{0}}};
        struct policy_score list[ROWS * SAMPLES];
        float out[ROWS * SAMPLES][LENGTH];
        siren_session_use_adapter(texts.session, with ? adapter : NULL);
        for (size_t i = 0; i < ROWS; i++) {
            groups[i].row = i;
            groups[i].texts = t[i];
        }
        assert_int_equal(texts_write(&texts, 1, groups, ROWS, NULL, &err), 0);
        for (size_t i = 0; i < ROWS * SAMPLES; i++)
            list[i] = (struct policy_score){groups[i / SAMPLES].prompt,
                                            t[i / SAMPLES][i % SAMPLES].ids, LENGTH, out[i]};
        struct siren_forest *forest;
        assert_int_equal(siren_forest_create(&forest, f.engine, &err), 0);
        for (size_t p = 0; p < 3; p++) {
            memset(out, 0, sizeof out);
            if (policy_score(forest, with ? adapter : NULL, list, ROWS * SAMPLES, 1, passes[p],
                             &err))
                fail_msg("%s", err.message);
            for (size_t i = 0; i < ROWS * SAMPLES; i++)
                assert_memory_equal(out[i], t[i / SAMPLES][i % SAMPLES].old, sizeof out[i]);
        }
        siren_forest_free(forest);
        for (size_t i = 0; i < ROWS * SAMPLES; i++) {
            free(t[i / SAMPLES][i % SAMPLES].ids);
            free(t[i / SAMPLES][i % SAMPLES].old);
        }
    }
    siren_session_use_adapter(texts.session, adapter);
}

/* ---- groups ---- */

static const size_t rows[ROWS] = {0, 1, 2, 3, 4, 5};

static struct trainer_batch begin(struct policy *p, uint64_t step, int rc)
{
    struct trainer_task task = policy_task(p);
    struct trainer_batch b = {.step = step, .rows = rows, .n_rows = ROWS};
    struct siren_error err = {0};
    if (task.begin(task.context, &b, NULL, &err) != rc) fail_msg("%s", err.message);
    return b;
}

static void every_text_is_an_item(void **state)
{
    struct policy_options o = policy_defaults();
    struct policy *p = open_policy(&o, NULL);
    struct trainer_task task = policy_task(p);
    struct trainer_batch b = begin(p, 3, 0);
    const struct policy_figures *x = policy_figures(p);
    assert_int_equal(b.n_items, ROWS * SAMPLES);
    for (size_t i = 0; i < b.n_items; i++) {
        struct siren_tokens s = task.sequence(task.context, i, 0);
        assert_true(b.weights[i] == LENGTH);
        assert_int_equal(s.n_ids, PROMPT + LENGTH - 1);
        assert_memory_equal(s.ids, texts.prompts[i / SAMPLES], PROMPT * sizeof *s.ids);
    }
    assert_int_equal(x->n_texts, ROWS * SAMPLES);
    assert_int_equal(x->n_groups, ROWS);
    assert_int_equal(x->n_flat, 0);
    assert_int_equal(x->n_truncated, ROWS * SAMPLES);
    assert_true(x->length == LENGTH && x->reward > 0 && x->reward_sd > 0);
    policy_free(p);
    o.loss.aggregation = SIREN_SEQUENCE_MEAN;
    p = open_policy(&o, NULL);
    b = begin(p, 3, 0);
    assert_null(b.weights);
    policy_free(p);
}

/* The same step samples the same; another one does not. */
static void a_step_names_its_draw(void **state)
{
    struct policy_options o = policy_defaults();
    struct policy *p = open_policy(&o, NULL);
    struct trainer_task task = policy_task(p);
    int32_t ids[3][PROMPT + LENGTH - 1];
    for (int i = 0; i < 3; i++) {
        begin(p, i == 2 ? 8 : 7, 0);
        memcpy(ids[i], task.sequence(task.context, 5, 0).ids, sizeof ids[i]);
    }
    assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
    assert_memory_not_equal(ids[0], ids[2], sizeof ids[0]);
    policy_free(p);
}

static void flat_groups_are_kept_left_out_or_replaced(void **state)
{
    size_t with_signal = 2;
    struct policy_options o = policy_defaults();
    struct policy *p;
    texts.reward = some_flat;
    texts.context = &with_signal;
    for (o.flat = POLICY_KEEP_FLAT; o.flat <= POLICY_RESAMPLE_FLAT; o.flat++) {
        p = open_policy(&o, NULL);
        texts.n_draws = 0;
        struct trainer_batch b = begin(p, 3, 0);
        const struct policy_figures *x = policy_figures(p);
        if (o.flat == POLICY_KEEP_FLAT) assert_int_equal(b.n_items, ROWS * SAMPLES);
        if (o.flat == POLICY_SKIP_FLAT) assert_int_equal(b.n_items, 2 * SAMPLES);
        if (o.flat != POLICY_RESAMPLE_FLAT) {
            assert_int_equal(x->n_flat, 4);
            assert_int_equal(x->n_resampled, 0);
            assert_int_equal(texts.n_draws, 1);
        } else {
            assert_true(x->n_resampled >= 4 && x->n_resampled <= 12);
            assert_int_equal(b.n_items, (x->n_groups - x->n_flat) * SAMPLES);
            assert_true(b.n_items <= ROWS * SAMPLES);
            assert_true(b.n_items == ROWS * SAMPLES || texts.n_draws == 4);
            for (size_t i = 0; i < texts.n_draws; i++) assert_int_equal(texts.draws[i], 12 + i);
        }
        policy_free(p);
    }
    with_signal = 0; /* nothing at all can be learnt: no items, no endless search */
    o.flat = POLICY_RESAMPLE_FLAT;
    p = open_policy(&o, NULL);
    assert_int_equal(begin(p, 3, 0).n_items, 0);
    assert_int_equal(policy_figures(p)->n_resampled, 3 * ROWS);
    struct trainer_task task = policy_task(p); /* and no figure says that anything was */
    json_t *line = json_object();
    task.end(task.context, &(struct trainer_batch){.step = 3}, line);
    assert_true(isnan(policy_figures(p)->entropy) && isnan(policy_figures(p)->kl) &&
                isnan(policy_figures(p)->ratio));
    assert_null(json_object_get(line, "entropy"));
    assert_non_null(json_object_get(line, "warning"));
    json_decref(line);
    policy_free(p);
    texts.reward = share_of_low;
}

static void truncated_texts_can_be_masked(void **state)
{
    struct policy_options o = policy_defaults();
    o.mask_truncated = 1;
    struct policy *p = open_policy(&o, NULL);
    assert_int_equal(begin(p, 0, 0).n_items, 0); /* nothing stops these */
    assert_int_equal(policy_figures(p)->n_truncated, ROWS * SAMPLES);
    policy_free(p);
}

/* Some texts end by themselves, so that lengths differ. */
static void let_some_end(void)
{
    texts.end = 1;
    texts.sampling.max_tokens = LENGTH;
}

/* In a group with both kinds the cut ones count in the advantages, and nowhere else. */
static void truncated_texts_count_for_the_others(void **state)
{
    struct policy_options o = policy_defaults();
    size_t cut = 0, whole = 0, mixed = 0;
    let_some_end();
    o.mask_truncated = 1;
    struct policy *p = open_policy(&o, NULL);
    struct trainer_task task = policy_task(p);
    struct trainer_batch b = begin(p, 0, 0);
    for (size_t g = 0; g < ROWS; g++) {
        const struct policy_group *group = &texts.last[g];
        double rewards[SAMPLES], expected[SAMPLES];
        size_t before = whole;
        for (size_t k = 0; k < SAMPLES; k++) rewards[k] = group->texts[k].reward;
        siren_advantages(o.advantage, SAMPLES, rewards, o.advantage_eps, expected);
        for (size_t k = 0; k < SAMPLES; k++) {
            const struct policy_text *t = &group->texts[k];
            assert_true(t->advantage == expected[k]);
            cut += (size_t)t->truncated;
            if (t->truncated) continue;
            assert_ptr_equal(task.sequence(task.context, whole, 0).ids, t->sequence);
            assert_true(b.weights[whole++] == (double)t->n);
        }
        mixed += whole > before && whole < before + SAMPLES;
    }
    assert_int_equal(b.n_items, whole);
    assert_int_equal(policy_figures(p)->n_truncated, cut);
    assert_true(mixed > 0);
    policy_free(p);
    texts.end = 0;
}

/* A whole batch by siren_policy_loss(), from the scores of all its texts. */
static struct siren_policy_result result_of_all(const struct policy_options *o)
{
    enum { TEXTS = ROWS * SAMPLES };
    struct policy_score list[TEXTS];
    struct siren_policy_result result;
    struct siren_error err;
    size_t first[TEXTS + 1] = {0};
    double advantages[TEXTS];
    float now[TEXTS * LENGTH], old[TEXTS * LENGTH], reference[TEXTS * LENGTH], d[TEXTS * LENGTH];
    for (size_t i = 0; i < TEXTS; i++) {
        const struct policy_group *g = &texts.last[i / SAMPLES];
        const struct policy_text *t = &g->texts[i % SAMPLES];
        double rewards[SAMPLES];
        for (size_t k = 0; k < SAMPLES; k++) rewards[k] = g->texts[k].reward;
        if (i % SAMPLES == 0)
            siren_advantages(o->advantage, SAMPLES, rewards, o->advantage_eps, advantages + i);
        first[i + 1] = first[i] + t->n;
        memcpy(old + first[i], t->old, t->n * sizeof *old);
        memcpy(reference + first[i], t->reference, t->n * sizeof *old);
        list[i] = (struct policy_score){g->prompt, t->ids, t->n, now + first[i]};
    }
    struct siren_forest *forest;
    if (siren_forest_create(&forest, f.engine, &err) ||
        policy_score(forest, adapter, list, TEXTS, 1, 1000, &err))
        fail_msg("%s", err.message);
    siren_forest_free(forest);
    const struct siren_policy_batch batch = {.n_sequences = TEXTS,
                                             .first = first,
                                             .advantages = advantages,
                                             .logprob = now,
                                             .old = old,
                                             .reference = reference};
    if (siren_policy_loss(&o->loss, &batch, d, NULL, &result, &err)) fail_msg("%s", err.message);
    assert_true(result.ratio != 1 && result.kl > 0); /* the policy has moved */
    return result;
}

/* Texts one by one, joined by the trainer's weights, are the batch: for all means and advantages,
 * texts of unequal lengths, a ratio that is not 1, as that of a second update, whose figures are of
 * nothing before it. */
static void a_step_is_the_loss_of_its_batch(void **state)
{
    struct siren_adapter *usual = adapter;
    struct trainer_options loop = trainer_defaults();
    struct siren_error err;
    let_some_end();
    for (int kind = 0; kind < 9; kind++) {
        struct policy_options o = policy_defaults();
        size_t items[ROWS * SAMPLES];
        double losses[ROWS * SAMPLES], sum = 0, total = 0;
        o.loss.aggregation = (enum siren_aggregation)(kind / 3);
        o.advantage = (enum siren_advantage_kind)(kind % 3);
        o.loss.constant_length = LENGTH;
        o.loss.kl = 0.1;
        adapter = make_adapter();
        move(adapter, 0.02);
        siren_session_use_adapter(texts.session, adapter);
        struct policy *p = open_policy(&o, usual);
        struct trainer_task task = policy_task(p);
        struct trainer_batch b = begin(p, 3, 0);
        assert_int_equal(b.n_items, ROWS * SAMPLES);
        for (size_t i = 0; i < b.n_items; i++) items[i] = i;
        for (int update = 0; update < 2; update++) {
            json_t *line = json_object();
            if (update) move(adapter, 0.02);
            if (trainer_losses(&task, f.engine, adapter, &loop, items, b.n_items, losses, NULL,
                               &err))
                fail_msg("%s", err.message);
            task.end(task.context, &b, line);
            json_decref(line);
        }
        for (size_t i = 0; i < b.n_items; i++) {
            double weight = b.weights ? b.weights[i] : 1;
            sum += weight * losses[i];
            total += weight;
        }
        const struct siren_policy_result all = result_of_all(&o);
        const struct policy_figures *second = policy_last(p);
        assert_float_equal(sum / total, all.loss, 1e-6);
        assert_float_equal(second->ratio, all.ratio, 1e-6);
        assert_float_equal(second->old_kl, all.old_kl, 1e-6);
        assert_float_equal(second->kl, all.kl, 1e-6);
        assert_true(second->rollout == 0 && second->scoring == 0);
        policy_free(p);
        siren_session_use_adapter(texts.session, usual);
        siren_adapter_free(adapter);
        adapter = usual;
    }
    texts.end = 0;
}

/* ---- a loss of the source's own ---- */

enum { QUERY = PROMPT + 2, OWN_ROWS = 2 };

/* (x − y)² / 10 of two logits behind the prompt and the first two tokens of two texts in three. */
static int32_t queries[ROWS * SAMPLES][QUERY];
static int own_outputs[ROWS * SAMPLES];

static int has_own(size_t text)
{
    return text % 3 != 0;
}

static size_t own_n(void *context, size_t text)
{
    return has_own(text);
}

static struct siren_tokens own_sequence(void *context, size_t text, size_t k)
{
    const struct policy_group *g = &texts.last[text / SAMPLES];
    assert_int_equal(k, 0);
    memcpy(queries[text], g->prompt.ids, sizeof(int32_t[PROMPT]));
    memcpy(queries[text] + PROMPT, g->texts[text % SAMPLES].ids, sizeof(int32_t[2]));
    return (struct siren_tokens){queries[text], QUERY};
}

static int own_want(void *context, size_t text, struct siren_forest *forest,
                    const struct trainer_item *place, struct siren_error *err)
{
    static const int32_t vocabulary[OWN_ROWS] = {3, 7};
    int segment;
    size_t token;
    if (!has_own(text)) return 0;
    trainer_place(place, 1, QUERY - 1, &segment, &token);
    own_outputs[text] = siren_forest_want_logits(forest, segment, token, vocabulary, OWN_ROWS);
    return 0;
}

static int own_read(void *context, size_t text, struct siren_forest *forest, double coefficient,
                    double *loss, struct siren_error *err)
{
    *loss = 0;
    if (!has_own(text)) return 0;
    const float *x = siren_forest_output(forest, own_outputs[text]);
    double d = (double)x[0] - (double)x[1];
    *loss = d * d / 10;
    if (coefficient == 0) return 0;
    float *g = siren_forest_gradient(forest, own_outputs[text]);
    g[0] = (float)(coefficient * d / 5);
    g[1] = -g[0];
    return 0;
}

/* Of the step's items: Σ weight · loss / Σ weight. */
static double loss_of_step(const struct trainer_task *task, const struct trainer_batch *b)
{
    struct trainer_options loop = trainer_defaults();
    size_t items[ROWS * SAMPLES];
    double losses[ROWS * SAMPLES], sum = 0, total = 0;
    struct siren_error err;
    for (size_t i = 0; i < b->n_items; i++) items[i] = i;
    if (trainer_losses(task, f.engine, adapter, &loop, items, b->n_items, losses, NULL, &err))
        fail_msg("%s", err.message);
    for (size_t i = 0; i < b->n_items; i++) {
        double weight = b->weights ? b->weights[i] : 1;
        sum += weight * losses[i];
        total += weight;
    }
    return sum / total;
}

/* Adds the gradient of the step's loss, by recorded passes under a budget of bytes (0: none);
 * returns the tokens that they computed. */
static uint64_t record_step(const struct trainer_task *task, const struct trainer_batch *b,
                            size_t pass_tokens, size_t budget)
{
    struct passes p = {.task = task,
                       .engine = f.engine,
                       .adapter = adapter,
                       .pass_tokens = pass_tokens,
                       .training = {.memory_bytes = budget}};
    size_t items[ROWS * SAMPLES];
    double coefficients[ROWS * SAMPLES], losses[ROWS * SAMPLES], total = 0;
    struct siren_error err;
    for (size_t i = 0; i < b->n_items; i++) total += b->weights ? b->weights[i] : 1;
    for (size_t i = 0; i < b->n_items; i++) {
        items[i] = i;
        coefficients[i] = (b->weights ? b->weights[i] : 1) / total;
    }
    assert_int_equal(passes_fill(&p, items, coefficients, b->n_items, &err), 0);
    for (size_t from = 0, to; from < b->n_items; from = to) {
        to = passes_cut(&p, from);
        if (passes_run(&p, from, to, 0, losses, NULL, &err)) fail_msg("%s", err.message);
    }
    uint64_t tokens = p.tokens;
    passes_free(&p);
    return tokens;
}

/* The adapter's gradient of the step's loss, in its parameters' own places. */
static void gradient_of_step(const struct trainer_task *task, const struct trainer_batch *b)
{
    struct siren_params params = siren_adapter_params(adapter);
    for (size_t i = 0; i < params.n; i++)
        memset(params.list[i].grad, 0,
               (size_t)(params.list[i].rows * params.list[i].columns) * sizeof(float));
    record_step(task, b, 100, 0);
}

/* The parameters, `by` along their gradient; returns the gradient's squared norm. */
static double walk(double by)
{
    struct siren_params p = siren_adapter_params(adapter);
    double square = 0;
    for (size_t i = 0; i < p.n; i++)
        for (int k = 0; k < p.list[i].rows * p.list[i].columns; k++) {
            double g = (double)p.list[i].grad[k];
            p.list[i].value[k] += (float)(by * g);
            square += g * g;
        }
    siren_adapter_changed(adapter);
    return square;
}

/* Along the gradient the loss changes by its square. */
static void check_gradient(const struct trainer_task *task, const struct trainer_batch *b)
{
    gradient_of_step(task, b);
    double square = walk(0), step = 1e-3 / sqrt(square), above, below;
    walk(step);
    above = loss_of_step(task, b);
    walk(-2 * step);
    below = loss_of_step(task, b);
    if (fabs((above - below) / (2 * step * square) - 1) > 0.01)
        fail_msg("%g along a gradient of %g", (above - below) / (2 * step), square);
}

/* By hand: a mean over all texts, whatever the policy's mean is over, and the policy's loss beside
 * it; and its gradient is that of finite differences (mode bf16 rounds these away). */
static void texts_have_a_loss_of_the_sources_own(void **state)
{
    const struct policy_source usual = source;
    struct siren_adapter *usual_adapter = adapter;
    source.n_sequences = own_n;
    source.sequence = own_sequence;
    source.want = own_want;
    source.read = own_read;
    let_some_end();
    for (int kind = 0; kind < 3; kind++) {
        struct policy_options o = policy_defaults();
        double with, without, own = 0;
        o.loss.aggregation = (enum siren_aggregation)kind;
        o.loss.constant_length = LENGTH;
        o.loss.entropy = 2; /* as large as the rest of the gradient */
        adapter = make_adapter();
        move(adapter, 0.05);
        assert_int_equal(siren_adapter_trainable(adapter, NULL), 0);
        siren_session_use_adapter(texts.session, adapter);
        struct policy *p = open_policy(&o, usual_adapter);
        struct trainer_task task = policy_task(p);
        struct trainer_batch b = begin(p, 3, 0);
        assert_int_equal(task.n_sequences(task.context, 1), 1);
        without = loss_of_step(&task, &b);
        policy_free(p);
        o.source_weight = 0.5;
        p = open_policy(&o, usual_adapter);
        task = policy_task(p);
        b = begin(p, 3, 0);
        with = loss_of_step(&task, &b);
        for (size_t i = 0; i < ROWS * SAMPLES; i++) { /* item i is text i here */
            struct siren_forest *forest;
            double loss;
            if (!has_own(i)) continue;
            static const int32_t vocabulary[OWN_ROWS] = {3, 7};
            assert_int_equal(siren_forest_create(&forest, f.engine, NULL), 0);
            int segment = siren_forest_add(forest, SIREN_ROOT, queries[i], QUERY, 0);
            siren_forest_use_adapter(forest, segment, adapter);
            own_outputs[i] =
                siren_forest_want_logits(forest, segment, QUERY - 1, vocabulary, OWN_ROWS);
            assert_int_equal(siren_forest_plan(forest, NULL), 0);
            assert_int_equal(siren_forest_run(forest, NULL), 0);
            own_read(NULL, i, forest, 0, &loss, NULL);
            own += loss / (ROWS * SAMPLES);
            siren_forest_free(forest);
        }
        assert_true(own > 0.001);
        assert_float_equal(with, without + 0.5 * own, 1e-6);
        if (!strcmp(siren_engine_compute(f.engine), "f32")) check_gradient(&task, &b);
        policy_free(p);
        siren_adapter_free(adapter);
    }
    adapter = usual_adapter;
    siren_session_use_adapter(texts.session, adapter);
    texts.end = 0;
    source = usual;
}

/* Equal rewards teach the policy nothing; the source's own loss is of each text. */
static void its_loss_is_of_flat_groups_too(void **state)
{
    const struct policy_source usual = source;
    size_t with_signal = 0;
    source.n_sequences = own_n;
    source.sequence = own_sequence;
    source.want = own_want;
    source.read = own_read;
    texts.reward = some_flat;
    texts.context = &with_signal;
    let_some_end();
    struct policy_options o = policy_defaults();
    o.source_weight = 0.5;
    for (o.flat = POLICY_KEEP_FLAT; o.flat <= POLICY_RESAMPLE_FLAT; o.flat++) {
        struct policy *p = open_policy(&o, NULL);
        struct trainer_task task = policy_task(p);
        struct trainer_batch b = begin(p, 3, 0);
        assert_int_equal(b.n_items, ROWS * SAMPLES);
        assert_int_equal(policy_figures(p)->n_flat, ROWS);
        assert_int_equal(policy_figures(p)->n_resampled, 0);
        assert_true(loss_of_step(&task, &b) > 1e-4);
        json_t *line = json_object();
        task.end(task.context, &b, line);
        const char *said = json_string_value(json_object_get(line, "warning"));
        assert_true(!said || !strstr(said, "nothing can be learnt"));
        json_decref(line);
        policy_free(p);
    }
    texts.reward = share_of_low;
    texts.end = 0;
    source = usual;
}

/* ---- the recorded pass ---- */

static int (*usual_read)(void *, size_t, struct siren_forest *, double, double *,
                         struct siren_error *);
static size_t n_compared;

/* All texts are items here: of item i the sampler's numbers and the pass's are the same bits. */
static int compare_and_read(void *context, size_t item, struct siren_forest *forest,
                            double coefficient, double *loss, struct siren_error *err)
{
    const struct policy_text *t = &texts.last[item / SAMPLES].texts[item % SAMPLES];
    assert_true(coefficient != 0);
    for (size_t k = 0; k < t->n; k++) {
        const float *out = siren_forest_output(forest, t->outputs[k]);
        assert_memory_equal(out, &t->old[k], sizeof *out);
        assert_true(*out < 0);
        n_compared++;
    }
    return usual_read(context, item, forest, coefficient, loss, err);
}

/* Tokens of the items' sequences, those of shared beginnings once. */
static size_t tokens_of_trie(const struct trainer_task *task, size_t n_items)
{
    size_t n = 0;
    for (size_t i = 0; i < n_items; i++) {
        struct siren_tokens s = task->sequence(task->context, i, 0);
        size_t most = 0;
        for (size_t j = 0; j < i; j++) {
            struct siren_tokens t = task->sequence(task->context, j, 0);
            size_t k = 0;
            while (k < s.n_ids && k < t.n_ids && s.ids[k] == t.ids[k]) k++;
            if (k > most) most = k;
        }
        n += s.n_ids - most;
    }
    return n;
}

/* What the sampler wrote down is the model's whole softmax at temperature 1, whatever it left out
 * when it drew: with one token left, a renormalised probability would be 1.  So the recorded pass
 * has the same bits, in whatever passes, layers computed twice or not, and the first ratio is 1. */
static void the_recorded_pass_has_the_samplers_bits(void **state)
{
    static const struct {
        float top_p;
        int top_k;
    } draws[] = {{1, 0}, {0.6f, 0}, {1, 7}, {0.9f, 20}, {1, 1}};
    static const size_t passes[] = {1, 60, 100000};
    struct siren_sampling usual = texts.sampling;
    struct siren_adapter *usual_adapter = adapter;
    adapter = make_adapter();
    move(adapter, 0.1);
    assert_int_equal(siren_adapter_trainable(adapter, NULL), 0);
    siren_session_use_adapter(texts.session, adapter);
    let_some_end();
    for (size_t d = 0; d < sizeof draws / sizeof *draws; d++) {
        struct policy_options o = policy_defaults();
        texts.sampling.top_p = draws[d].top_p;
        texts.sampling.top_k = draws[d].top_k;
        struct policy *p = open_policy(&o, NULL);
        struct trainer_task task = policy_task(p);
        usual_read = task.read;
        task.read = compare_and_read;
        for (size_t i = 0; i < 3; i++) {
            struct trainer_batch b = begin(p, 3, 0);
            double n_tokens = policy_figures(p)->length * (ROWS * SAMPLES);
            json_t *line = json_object();
            n_compared = 0;
            record_step(&task, &b, passes[i], (i + d) % 2); /* one byte: all layers twice */
            assert_true(fabs((double)n_compared - n_tokens) < 0.5 && n_compared > ROWS * SAMPLES);
            task.end(task.context, &b, line);
            assert_true(policy_last(p)->ratio == 1 && policy_last(p)->old_kl == 0);
            json_decref(line);
        }
        policy_free(p);
    }
    siren_adapter_free(adapter);
    adapter = usual_adapter;
    siren_session_use_adapter(texts.session, adapter);
    texts.sampling = usual;
    texts.end = 0;
}

/* An update computes the prompts and the texts, each token once, and no padding: the last token of
 * a text predicts nothing, and texts that begin alike share their beginning, too. */
static void an_update_computes_no_padding(void **state)
{
    struct policy_options o = policy_defaults();
    struct siren_adapter *usual = adapter;
    size_t most = ROWS * PROMPT, shortest = LENGTH;
    adapter = make_adapter();
    assert_int_equal(siren_adapter_trainable(adapter, NULL), 0);
    siren_session_use_adapter(texts.session, adapter);
    let_some_end();
    struct policy *p = open_policy(&o, NULL);
    struct trainer_task task = policy_task(p);
    struct trainer_batch b = begin(p, 3, 0);
    for (size_t i = 0; i < b.n_items; i++) {
        size_t n = texts.last[i / SAMPLES].texts[i % SAMPLES].n;
        most += n - 1;
        if (n < shortest) shortest = n;
    }
    uint64_t computed = record_step(&task, &b, 100000, 0);
    assert_true(shortest < LENGTH); /* lengths differ */
    assert_int_equal(computed, tokens_of_trie(&task, b.n_items));
    assert_true(computed <= most && computed + 20 > most);
    policy_free(p);
    siren_adapter_free(adapter);
    adapter = usual;
    siren_session_use_adapter(texts.session, adapter);
    texts.end = 0;
}

static const char *warning_after(const struct policy_options *with)
{
    struct policy_options o = *with;
    struct policy *p = open_policy(&o, NULL);
    struct trainer_task task = policy_task(p);
    struct trainer_batch b = begin(p, 3, 0);
    json_t *line = json_object();
    task.end(task.context, &b, line);
    const char *warning = policy_last(p)->warning, *logged = NULL;
    logged = json_string_value(json_object_get(line, "warning"));
    assert_true(!warning == !logged);
    if (warning) assert_string_equal(warning, logged);
    json_decref(line);
    policy_free(p);
    return warning;
}

static void nothing_learnt_is_said(void **state)
{
    struct policy_options o = policy_defaults();
    size_t with_signal = 0;
    assert_non_null(
        strstr(warning_after(&o), "cut at the length limit: no answer can be rewarded"));
    texts.answers = 1; /* those are rewarded, whatever their form */
    assert_non_null(
        strstr(warning_after(&o), "cut at the length limit: none can be in the format"));
    texts.answers = 0;
    texts.end = texts.prompts[0][0]; /* some end now */
    texts.sampling.max_tokens = 100;
    assert_null(warning_after(&o));
    texts.reward = some_flat;
    texts.context = &with_signal;
    assert_non_null(strstr(warning_after(&o), "all rewards of every group are equal"));
    texts.reward = share_of_low;
    texts.sampling.max_tokens = LENGTH;
    texts.end = 0;
}

/* The warning of one step of training, without a KL in its loss. */
static const char *warning_of_a_step(double by, float temperature, uint64_t first, double *kl)
{
    struct policy_options o = policy_defaults();
    struct siren_adapter *usual = adapter;
    struct trainer_options loop = trainer_defaults();
    struct trainer_result result;
    struct siren_error err = {0};
    adapter = make_adapter();
    move(adapter, by);
    siren_session_use_adapter(texts.session, adapter);
    o.loss.kl = 0;
    o.temperature = temperature;
    struct policy *p = open_policy(&o, NULL);
    struct trainer_task task = policy_task(p);
    struct trainer_subject subject = {.adapter = adapter};
    char name[60];
    snprintf(name, sizeof name, "warned %g %llu", by, (unsigned long long)first);
    loop.folder = scratch_path(name);
    loop.batch = 2;
    loop.max_steps = first + 1;
    loop.lr = 1e-9;
    if (trainer_run(&task, &subject, f.engine, f.pool, &loop, NULL, &result, NULL, NULL, &err))
        fail_msg("%s", err.message);
    *kl = policy_last(p)->kl;
    const char *warning = policy_last(p)->warning;
    policy_free(p);
    siren_adapter_free(adapter);
    adapter = usual;
    siren_session_use_adapter(texts.session, adapter);
    return warning;
}

/* The second text of row 3 has a probability that is none. */
static int write_with_nan(void *context, uint64_t draw, struct policy_group *groups, size_t n,
                          const struct siren_progress *progress, struct siren_error *err)
{
    int rc = texts_write(context, draw, groups, n, progress, err);
    for (size_t i = 0; i < n; i++)
        if (groups[i].row == 3) groups[i].texts[1].old[2] = NAN;
    return rc;
}

static void describe(void *context, size_t row, char *text, size_t size)
{
    snprintf(text, size, "user %zu, item 7", row);
}

static void a_number_that_is_none_is_named(void **state)
{
    struct policy_options o = policy_defaults();
    struct trainer_options loop = trainer_defaults();
    struct trainer_result result;
    struct siren_error err = {0};
    const struct policy_source usual = source;
    source.write = write_with_nan;
    source.describe = describe;
    struct policy *p = open_policy(&o, NULL);
    struct trainer_task task = policy_task(p);
    struct trainer_subject subject = {.adapter = adapter};
    loop.folder = scratch_path("a number that is none");
    loop.batch = ROWS;
    assert_int_equal(
        trainer_run(&task, &subject, f.engine, f.pool, &loop, NULL, &result, NULL, NULL, &err),
        SIREN_ENUMERIC);
    assert_non_null(strstr(err.message, "step 1: user 3, item 7, text 1: the loss of token 2 "));
    assert_non_null(strstr(err.message, "there is no checkpoint yet"));
    policy_free(p);
    source = usual;
}

static void running_away_is_said(void **state)
{
    double kl;
    texts.end = texts.prompts[0][0];
    texts.sampling.max_tokens = 100;
    assert_non_null(strstr(warning_of_a_step(1, 1, 0, &kl), "running away"));
    assert_true(kl > 1);
    /* The start is asked in every tenth step only. */
    assert_null(warning_of_a_step(1, 1, 1, &kl));
    assert_true(isnan(kl));
    /* Texts of temperature 1 for a policy that is nearly greedy. */
    assert_non_null(strstr(warning_of_a_step(0, 0.001F, 0, &kl), "entropy is below"));
    assert_true(kl == 0);
    texts.sampling.max_tokens = LENGTH;
    texts.end = 0;
}

/* ---- all weights ---- */

struct whole {
    struct siren_model *model;
    int steps;
    double kl[8];
};

static int whole_changed(void *context, struct siren_error *err)
{
    return siren_model_changed(((struct whole *)context)->model, f.pool, err);
}

static void whole_watch(void *context, const json_t *line)
{
    struct whole *w = context;
    assert_true(json_number_value(json_object_get(line, "ratio")) == 1);
    assert_true(json_number_value(json_object_get(line, "old_kl")) == 0);
    assert_true(json_number_value(json_object_get(line, "norm")) > 0);
    w->kl[w->steps++] = json_number_value(json_object_get(line, "kl"));
}

/* The model's own weights in training, the model loaded a second time as the start. */
static void all_weights_can_be_trained(void **state)
{
    struct siren_model_options trainable = {.trainable = &SIREN_TRAIN_ALL};
    struct whole w = {0};
    struct siren_engine *engine;
    struct siren_session *session, *usual = texts.session;
    struct siren_engine_options mode = {.isa = siren_engine_isa(f.engine),
                                        .compute = siren_engine_compute(f.engine)};
    struct siren_error err = {0};
    if (siren_model_load(&w.model, DECODER, &trainable, f.pool, &err) ||
        siren_engine_create(&engine, w.model, f.pool, &mode, &err) ||
        siren_session_create(&session, engine, NULL, &err))
        fail_msg("%s", err.message);
    struct policy_models models = {.engine = engine, .reference_engine = f.engine};
    struct policy_options o = policy_defaults();
    struct trainer_options loop = trainer_defaults();
    struct trainer_subject subject = {
        .params = siren_model_params(w.model), .changed = whole_changed, .context = &w};
    struct trainer_result result;
    struct policy *p;
    o.samples = SAMPLES;
    texts.session = session;
    assert_int_equal(policy_create(&p, &o, &source, &models, &err), 0);
    struct trainer_task task = policy_task(p);
    loop.folder = scratch_path("whole");
    loop.batch = 2;
    loop.max_steps = 3;
    loop.lr = 1e-3;
    loop.dropout = 0;
    loop.warmup = 0;
    loop.pass_tokens = 60; /* a group in several passes */
    loop.watch = whole_watch;
    loop.watch_context = &w;
    if (trainer_run(&task, &subject, engine, f.pool, &loop, NULL, &result, NULL, NULL, &err))
        fail_msg("%s", err.message);
    assert_int_equal(w.steps, 3);
    assert_true(w.kl[0] == 0 && w.kl[1] > 0 && w.kl[2] > 0);
    policy_free(p);
    texts.session = usual;
    siren_session_free(session);
    siren_engine_free(engine);
    siren_model_free(w.model);
}

static double no_number(void *context, size_t row, const int32_t *ids, size_t n)
{
    return NAN;
}

static void what_cannot_work_is_refused(void **state)
{
    struct policy_models models = {.engine = f.engine, .policy = adapter};
    struct policy_options o = policy_defaults();
    struct siren_error err;
    struct policy *p;
    o.samples = 1;
    assert_int_equal(policy_create(&p, &o, &source, &models, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "2 or more"));
    o = policy_defaults();
    o.loss.clip_high = 3; /* the dual clip is at 3: known before a text is sampled */
    assert_int_equal(policy_create(&p, &o, &source, &models, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "dual clip at 3"));
    o = policy_defaults();
    o.source_weight = -1;
    assert_int_equal(policy_create(&p, &o, &source, &models, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "answers' loss"));
    o = policy_defaults();
    o.temperature = 0;
    assert_int_equal(policy_create(&p, &o, &source, &models, &err), SIREN_EINVAL);
    assert_null(p);
    policy_free(NULL);
    texts.reward = no_number;
    o = policy_defaults();
    p = open_policy(&o, NULL);
    begin(p, 0, SIREN_ENUMERIC);
    texts.reward = share_of_low;
    begin(p, 0, 0); /* and goes on */
    policy_free(p);
}

static int setup(void **state)
{
    if (scratch_create(state)) return -1;
    fixture_open(&f, DECODER, NULL, 2);
    texts_open(&texts, &f, ROWS, SAMPLES, LENGTH);
    texts.reward = share_of_low;
    source = texts_source(&texts);
    adapter = make_adapter();
    move(adapter, 0.1);
    siren_session_use_adapter(texts.session, adapter);
    return 0;
}

static int teardown(void **state)
{
    siren_adapter_free(adapter);
    texts_close(&texts);
    fixture_close(&f);
    return scratch_delete(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_the_samplers),
        cmocka_unit_test(every_text_is_an_item),
        cmocka_unit_test(a_step_names_its_draw),
        cmocka_unit_test(flat_groups_are_kept_left_out_or_replaced),
        cmocka_unit_test(truncated_texts_can_be_masked),
        cmocka_unit_test(truncated_texts_count_for_the_others),
        cmocka_unit_test(a_step_is_the_loss_of_its_batch),
        cmocka_unit_test(texts_have_a_loss_of_the_sources_own),
        cmocka_unit_test(its_loss_is_of_flat_groups_too),
        cmocka_unit_test(the_recorded_pass_has_the_samplers_bits),
        cmocka_unit_test(an_update_computes_no_padding),
        cmocka_unit_test(nothing_learnt_is_said),
        cmocka_unit_test(a_number_that_is_none_is_named),
        cmocka_unit_test(running_away_is_said),
        cmocka_unit_test(all_weights_can_be_trained),
        cmocka_unit_test(what_cannot_work_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
