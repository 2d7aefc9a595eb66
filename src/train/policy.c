#include "train/policy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "siren/random.h"

/* Random numbers of the rows drawn in place of flat groups. */
enum {
    STREAM_RESAMPLE = 0x7e5a,
    WATCH_EVERY = 10, /* steps between looks at the KL where no loss needs it */
};

struct item {
    struct policy_group *group;
    struct policy_text *text;
};

struct policy {
    struct policy_options options;
    const struct policy_source *source;
    struct policy_models models;
    struct policy_group *groups; /* of the step: those of its rows, then those drawn in addition */
    size_t n_groups, capacity;
    struct item *items;
    double *weights, mean_weight; /* of the items */
    size_t n_items, longest;      /* longest: tokens of a text */
    float *numbers;               /* (4, longest): logprob, entropy and their gradients */
    struct policy_figures figures, last;
    struct siren_policy_result sum;  /* of the step's items, times their tokens */
    int with_reference;              /* of this step the reference was scored */
    struct siren_forest *scorers[2]; /* of the policy and of the reference; NULL: not yet needed */
    double started;                  /* the update */
};

struct policy_options policy_defaults(void)
{
    return (struct policy_options){.samples = 8,
                                   .temperature = 1,
                                   .advantage_eps = 1e-4,
                                   .loss = siren_policy_defaults(),
                                   .rounds = 3,
                                   .pass_tokens = 4096};
}

/* ---- groups ---- */

static void drop_groups(struct policy *p)
{
    for (size_t i = 0; i < p->n_groups; i++) {
        struct policy_text *texts = p->groups[i].texts;
        for (int k = 0; texts && k < p->options.samples; k++) {
            free(texts[k].ids);
            free(texts[k].old);
            free(texts[k].reference);
            free(texts[k].sequence);
            free(texts[k].outputs);
        }
        free(texts);
    }
    p->n_groups = p->n_items = 0;
}

/* The list has room already. */
static int add_group(struct policy *p, size_t row, struct siren_error *err)
{
    size_t n = (size_t)p->options.samples;
    struct policy_group *g = &p->groups[p->n_groups++];
    *g = (struct policy_group){.row = row, .texts = alloc_zeroed(n, sizeof *g->texts)};
    return g->texts ? 0 : siren_fail_memory(err, "a group", n * sizeof *g->texts);
}

static int check_text(const struct policy_group *g, const struct policy_text *t,
                      struct siren_error *err)
{
    if (!g->prompt.n_ids || !t->n)
        return siren_fail(err, SIREN_EINVAL, "row %zu: an empty prompt or text", g->row);
    if (!isfinite(t->reward))
        return siren_fail(err, SIREN_ENUMERIC, "row %zu: a reward of %f", g->row, t->reward);
    return 0;
}

static int judge_group(struct policy *p, struct policy_group *g, struct siren_error *err)
{
    int n = p->options.samples, rc = 0;
    double *numbers = alloc_array(2 * (size_t)n, sizeof *numbers);
    if (!numbers) return siren_fail_memory(err, "advantages", 2 * (size_t)n * sizeof *numbers);
    for (int k = 0; k < n && !rc; k++) {
        rc = check_text(g, &g->texts[k], err);
        numbers[k] = g->texts[k].reward;
    }
    if (!rc) {
        g->has_signal = siren_advantages(p->options.advantage, n, numbers, p->options.advantage_eps,
                                         numbers + n);
        for (int k = 0; k < n; k++) g->texts[k].advantage = numbers[n + k];
    }
    free(numbers);
    return rc;
}

static int write_groups(struct policy *p, size_t from, uint64_t draw,
                        const struct siren_progress *progress, struct siren_error *err)
{
    double start = clock_seconds();
    int rc = p->source->write(p->source->context, draw, p->groups + from, p->n_groups - from,
                              progress, err);
    p->figures.rollout += clock_seconds() - start;
    for (size_t i = from; i < p->n_groups && !rc; i++) rc = judge_group(p, &p->groups[i], err);
    return rc;
}

static size_t count_flat(const struct policy *p, size_t from)
{
    size_t n = 0;
    for (size_t i = from; i < p->n_groups; i++) n += !p->groups[i].has_signal;
    return n;
}

/* A row at random, or the next that has no group of this round: its texts would be the same. */
static size_t draw_row(const struct policy *p, size_t from, uint64_t counter)
{
    size_t n = p->source->n_rows, row;
    row = siren_random_below(p->options.seed, STREAM_RESAMPLE, counter, n);
    for (size_t i = from; i < p->n_groups; i++)
        if (p->groups[i].row == row) {
            row = (row + 1) % n;
            i = from - 1;
        }
    return row;
}

/* The source's own loss is about each text: it needs no difference of rewards. */
static int learns_from_flat(const struct policy *p)
{
    return p->options.flat == POLICY_KEEP_FLAT || p->options.source_weight != 0;
}

/* Prompts of the batch, then, round after round, as many others as groups turned out flat. */
static int sample(struct policy *p, const struct trainer_batch *batch,
                  const struct siren_progress *progress, struct siren_error *err)
{
    int resamples = p->options.flat == POLICY_RESAMPLE_FLAT && !learns_from_flat(p);
    int rounds = resamples ? p->options.rounds : 0, rc = 0;
    uint64_t draw = batch->step * (uint64_t)(p->options.rounds + 1);
    if (alloc_grow(&p->groups, &p->capacity, batch->n_rows * (size_t)(rounds + 1),
                   sizeof *p->groups))
        return siren_fail_memory(err, "groups", batch->n_rows * sizeof *p->groups);
    for (size_t i = 0; i < batch->n_rows && !rc; i++) rc = add_group(p, batch->rows[i], err);
    if (!rc) rc = write_groups(p, 0, draw, progress, err);
    for (int round = 1; round <= rounds && !rc; round++) {
        size_t from = p->n_groups, have = from - count_flat(p, 0);
        for (size_t i = have; i < batch->n_rows && i - have < p->source->n_rows && !rc; i++)
            rc = add_group(p, draw_row(p, from, (draw + (uint64_t)round) << 20 | i), err);
        if (!rc && from < p->n_groups)
            rc = write_groups(p, from, draw + (uint64_t)round, progress, err);
    }
    p->figures.n_resampled = p->n_groups - batch->n_rows;
    return rc;
}

/* ---- items ---- */

static int make_item(struct policy *p, struct policy_group *g, struct policy_text *t,
                     struct siren_error *err)
{
    size_t n = g->prompt.n_ids, bytes = (n + t->n) * sizeof *t->sequence;
    t->sequence = alloc_array(n + t->n, sizeof *t->sequence);
    t->outputs = alloc_array(t->n, sizeof *t->outputs);
    if (!t->sequence || !t->outputs) return siren_fail_memory(err, "an answer", bytes);
    memcpy(t->sequence, g->prompt.ids, n * sizeof *t->sequence);
    if (t->n > 1) memcpy(t->sequence + n, t->ids, (t->n - 1) * sizeof *t->ids);
    p->items[p->n_items] = (struct item){g, t};
    p->weights[p->n_items++] = (double)t->n;
    if (t->n > p->longest) p->longest = t->n;
    return 0;
}

static int make_items(struct policy *p, struct siren_error *err)
{
    size_t n = p->n_groups * (size_t)p->options.samples;
    int rc = 0;
    p->longest = 0;
    p->mean_weight = 0;
    free(p->items);
    free(p->weights);
    free(p->numbers);
    p->numbers = NULL;
    p->items = alloc_array(n, sizeof *p->items);
    p->weights = alloc_array(n, sizeof *p->weights);
    if (!p->items || !p->weights) return siren_fail_memory(err, "answers", n * sizeof *p->items);
    for (size_t i = 0; i < p->n_groups; i++) {
        struct policy_group *g = &p->groups[i];
        if (!g->has_signal && !learns_from_flat(p)) continue;
        for (int k = 0; k < p->options.samples && !rc; k++)
            if (!p->options.mask_truncated || !g->texts[k].truncated)
                rc = make_item(p, g, &g->texts[k], err);
    }
    if (rc) return rc;
    for (size_t i = 0; i < p->n_items; i++) p->mean_weight += p->weights[i] / (double)p->n_items;
    p->numbers = alloc_array(4 * (p->longest + 1), sizeof *p->numbers);
    return p->numbers ? 0 : siren_fail_memory(err, "an answer", 4 * p->longest * sizeof(float));
}

/* The log-probabilities that no sampler gave. */
static int score_items(struct policy *p, int reference, struct siren_error *err)
{
    const struct policy_models *m = &p->models;
    struct siren_forest **forest = &p->scorers[reference];
    struct policy_score *list = alloc_array(p->n_items + 1, sizeof *list);
    int rc = list ? 0 : siren_fail_memory(err, "answers", p->n_items * sizeof *list);
    double start = clock_seconds();
    for (size_t i = 0; i < p->n_items && !rc; i++) {
        struct policy_text *t = p->items[i].text;
        if (reference && !(t->reference = alloc_array(t->n, sizeof *t->reference)))
            rc = siren_fail_memory(err, "an answer", t->n * sizeof *t->reference);
        list[i] = (struct policy_score){p->items[i].group->prompt, t->ids, t->n,
                                        reference ? t->reference : t->old};
    }
    if (!rc && !*forest)
        rc = siren_forest_create(
            forest, reference && m->reference_engine ? m->reference_engine : m->engine, err);
    if (!rc)
        rc = policy_score(*forest, reference ? m->reference : m->policy, list, p->n_items,
                          p->options.temperature, p->options.pass_tokens, err);
    p->figures.scoring += clock_seconds() - start;
    free(list);
    return rc;
}

/* ---- the task ---- */

static void figures_of_texts(struct policy *p, uint64_t step)
{
    struct policy_figures *f = &p->figures;
    double n = 0, squares = 0;
    f->step = step;
    f->n_groups = p->n_groups;
    f->n_flat = count_flat(p, 0);
    f->n_items = p->n_items;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < p->n_groups; i++)
            for (int k = 0; k < p->options.samples; k++) {
                const struct policy_text *t = &p->groups[i].texts[k];
                if (pass) {
                    squares += (t->reward - f->reward / n) * (t->reward - f->reward / n);
                    continue;
                }
                n++;
                f->reward += t->reward;
                f->length += (double)t->n;
                f->n_truncated += (size_t)t->truncated;
                f->n_answers += (size_t)t->answers;
            }
    f->n_texts = (size_t)n;
    f->reward /= n;
    f->length /= n;
    f->reward_sd = sqrt(squares / n);
}

/* Where all weights are trained and no KL is asked for, the start is not in memory. */
static int has_reference(const struct policy *p)
{
    return p->models.policy || p->models.reference_engine;
}

static int begin(void *context, struct trainer_batch *batch, const struct siren_progress *progress,
                 struct siren_error *err)
{
    struct policy *p = context;
    int rc;
    p->figures = (struct policy_figures){0};
    drop_groups(p);
    rc = sample(p, batch, progress, err);
    if (!rc) rc = make_items(p, err);
    if (!rc && p->options.temperature != 1) rc = score_items(p, 0, err);
    p->with_reference =
        p->options.loss.kl != 0 || (has_reference(p) && batch->step % WATCH_EVERY == 0);
    if (!rc && p->with_reference) rc = score_items(p, 1, err);
    if (rc) return rc;
    figures_of_texts(p, batch->step);
    batch->n_items = p->n_items;
    batch->weights = p->options.loss.aggregation == SIREN_TOKEN_MEAN ? p->weights : NULL;
    p->sum = (struct siren_policy_result){0};
    p->started = clock_seconds();
    return 0;
}

/* Its number among the texts of the step, as the source wrote them. */
static size_t text_of(const struct policy *p, size_t item)
{
    const struct item *i = &p->items[item];
    return (size_t)(i->group - p->groups) * (size_t)p->options.samples +
           (size_t)(i->text - i->group->texts);
}

/* Sequences of the source's own loss on this text; 0: it has none. */
static size_t n_own(const struct policy *p, size_t item)
{
    if (p->options.source_weight == 0) return 0;
    return p->source->n_sequences(p->source->context, text_of(p, item));
}

static size_t n_sequences(void *context, size_t item)
{
    return 1 + n_own(context, item);
}

static struct siren_tokens sequence(void *context, size_t item, size_t k)
{
    const struct policy *p = context;
    const struct item *i = &p->items[item];
    if (k) return p->source->sequence(p->source->context, text_of(p, item), k - 1);
    return (struct siren_tokens){i->text->sequence, i->group->prompt.n_ids + i->text->n - 1};
}

static int want(void *context, size_t item, struct siren_forest *forest,
                const struct trainer_item *place, struct siren_error *err)
{
    const struct policy *p = context;
    const struct item *i = &p->items[item];
    struct policy_text *t = i->text;
    for (size_t k = 0; k < t->n; k++) {
        int segment;
        size_t token;
        trainer_place(place, 0, i->group->prompt.n_ids - 1 + k, &segment, &token);
        t->outputs[k] =
            siren_forest_want_logprob(forest, segment, token, t->ids[k], p->options.temperature);
        if (t->outputs[k] < 0) return siren_fail_memory(err, "outputs", t->n * sizeof(int));
    }
    if (!n_own(p, item)) return 0;
    return p->source->want(p->source->context, text_of(p, item), forest, place, err);
}

static void add_result(struct siren_policy_result *sum, const struct siren_policy_result *r)
{
    double n = (double)r->n_tokens;
    sum->n_tokens += r->n_tokens;
    sum->clipped_low += n * r->clipped_low;
    sum->clipped_high += n * r->clipped_high;
    sum->clipped_dual += n * r->clipped_dual;
    sum->ratio += n * r->ratio;
    sum->old_kl += n * r->old_kl;
    sum->kl += n * r->kl;
    sum->entropy += n * r->entropy;
}

/* The source's loss, as a mean over texts whatever the mean of the policy's is over. */
static int read_source(struct policy *p, size_t item, struct siren_forest *forest,
                       double coefficient, double *loss, struct siren_error *err)
{
    double scale = p->options.source_weight, own = 0;
    int rc;
    if (p->options.loss.aggregation == SIREN_TOKEN_MEAN) scale *= p->mean_weight / p->weights[item];
    rc = p->source->read(p->source->context, text_of(p, item), forest, coefficient * scale, &own,
                         err);
    *loss += scale * own;
    return rc;
}

/* One text is a batch of one sequence: with the weights that begin() gives, the mean over a step's
 * items is the loss's mean over tokens, or over sequences. */
static int read_item(void *context, size_t item, struct siren_forest *forest, double coefficient,
                     double *loss, struct siren_error *err)
{
    struct policy *p = context;
    const struct policy_text *t = p->items[item].text;
    size_t first[2] = {0, t->n};
    float *logprob = p->numbers, *entropy = logprob + t->n, *d_logprob = entropy + t->n,
          *d_entropy = d_logprob + t->n;
    struct siren_policy_batch batch = {.n_sequences = 1,
                                       .first = first,
                                       .advantages = &t->advantage,
                                       .logprob = logprob,
                                       .old = t->old,
                                       .reference = t->reference,
                                       .entropies = entropy};
    struct siren_policy_result result;
    int rc;
    for (size_t k = 0; k < t->n; k++) {
        const float *out = siren_forest_output(forest, t->outputs[k]);
        logprob[k] = out[0];
        entropy[k] = out[1];
    }
    rc = siren_policy_loss(&p->options.loss, &batch, d_logprob, d_entropy, &result, err);
    if (rc) return rc;
    for (size_t k = 0; k < t->n && coefficient != 0; k++) {
        float *gradient = siren_forest_gradient(forest, t->outputs[k]);
        gradient[0] = (float)(coefficient * d_logprob[k]);
        gradient[1] = (float)(coefficient * d_entropy[k]);
    }
    *loss = result.loss;
    add_result(&p->sum, &result);
    return n_own(p, item) ? read_source(p, item, forest, coefficient, loss, err) : 0;
}

static const char *warning_of(const struct policy *p)
{
    const struct policy_figures *f = &p->figures;
    if (f->n_truncated == f->n_texts && !f->n_answers)
        return "every text was cut at the length limit: no answer can be rewarded (more tokens, or "
               "a warm start?)";
    if (f->n_truncated == f->n_texts)
        return "every text was cut at the length limit: none can be in the format (more tokens, or "
               "a warm start?)";
    if (f->n_flat == f->n_groups && p->options.source_weight == 0)
        return "all rewards of every group are equal: nothing can be learnt from this step";
    if (f->kl > 1)
        return "the KL to the start is above 1 a token: the policy is running away (a lower rate, "
               "or a higher KL coefficient?)";
    if (f->entropy < 0.01)
        return "the entropy is below 0.01 a token: all samples will be alike (a lower rate, or an "
               "entropy coefficient?)";
    return NULL;
}

static void figures_of_update(struct policy *p)
{
    struct policy_figures *f = &p->figures;
    double n = p->sum.n_tokens ? (double)p->sum.n_tokens : NAN; /* no token: nothing to tell */
    f->kl = p->with_reference ? p->sum.kl / n : NAN;
    f->entropy = p->sum.entropy / n;
    f->ratio = p->sum.ratio / n;
    f->old_kl = p->sum.old_kl / n;
    f->clipped_low = p->sum.clipped_low / n;
    f->clipped_high = p->sum.clipped_high / n;
    f->clipped_dual = p->sum.clipped_dual / n;
    f->update = clock_seconds() - p->started;
    f->warning = warning_of(p);
}

static void log_figures(const struct policy_figures *f, json_t *line)
{
    const struct {
        const char *name;
        double value;
    } reals[] = {{"reward", f->reward},
                 {"reward_sd", f->reward_sd},
                 {"length", f->length},
                 {"kl", f->kl},
                 {"entropy", f->entropy},
                 {"ratio", f->ratio},
                 {"old_kl", f->old_kl},
                 {"clipped_low", f->clipped_low},
                 {"clipped_high", f->clipped_high},
                 {"clipped_dual", f->clipped_dual},
                 {"rollout_seconds", f->rollout},
                 {"scoring_seconds", f->scoring},
                 {"update_seconds", f->update}};
    const struct {
        const char *name;
        size_t value;
    } counts[] = {{"groups", f->n_groups},
                  {"flat_groups", f->n_flat},
                  {"resampled_groups", f->n_resampled},
                  {"texts", f->n_texts},
                  {"truncated", f->n_truncated}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (!isnan(reals[i].value))
            json_object_set_new(line, reals[i].name, json_real(reals[i].value));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(line, counts[i].name, json_integer((json_int_t)counts[i].value));
    if (f->warning) json_object_set_new(line, "warning", json_string(f->warning));
}

static void end(void *context, const struct trainer_batch *batch, json_t *line)
{
    struct policy *p = context;
    p->figures.step = batch->step;
    figures_of_update(p);
    p->last = p->figures;
    log_figures(&p->figures, line);
    if (p->source->end) p->source->end(p->source->context, &p->last, line);
    /* Where the batch is used again: the next update. */
    p->figures.rollout = p->figures.scoring = 0;
    p->sum = (struct siren_policy_result){0};
    p->started = clock_seconds();
}

static void describe(void *context, size_t item, char *text, size_t size)
{
    const struct policy *p = context;
    const struct item *i = &p->items[item];
    size_t n;
    snprintf(text, size, "row %zu", i->group->row);
    if (p->source->describe) p->source->describe(p->source->context, i->group->row, text, size);
    n = strlen(text);
    snprintf(text + n, size - n, ", text %zu", (size_t)(i->text - i->group->texts));
}

/* ---- all ---- */

static int check(const struct policy_options *o, struct siren_error *err)
{
    if (o->samples < 2)
        return siren_fail(err, SIREN_EINVAL, "%d answers a prompt: a group needs 2 or more",
                          o->samples);
    if (!(o->temperature > 0))
        return siren_fail(err, SIREN_EINVAL,
                          "temperature %g: the answers of a group would all be equal",
                          (double)o->temperature);
    if (siren_policy_check(&o->loss, err)) return SIREN_EINVAL;
    if (!(o->source_weight >= 0) || !isfinite(o->source_weight))
        return siren_fail(err, SIREN_EINVAL,
                          "a weight of %g for the answers' loss: expected 0 or more",
                          o->source_weight);
    if (o->rounds < 0 || o->rounds > 100)
        return siren_fail(err, SIREN_EINVAL, "%d rounds of further prompts, expected 0 to 100",
                          o->rounds);
    return 0;
}

int policy_create(struct policy **out, const struct policy_options *options,
                  const struct policy_source *source, const struct policy_models *models,
                  struct siren_error *err)
{
    int rc = check(options, err);
    *out = NULL;
    if (rc) return rc;
    *out = alloc_zeroed(1, sizeof **out);
    if (!*out) return siren_fail_memory(err, "a policy", sizeof **out);
    (*out)->options = *options;
    (*out)->source = source;
    (*out)->models = *models;
    return 0;
}

void policy_free(struct policy *p)
{
    if (!p) return;
    drop_groups(p);
    for (int i = 0; i < 2; i++) siren_forest_free(p->scorers[i]);
    free(p->groups);
    free(p->items);
    free(p->weights);
    free(p->numbers);
    free(p);
}

struct trainer_task policy_task(struct policy *policy)
{
    return (struct trainer_task){.context = policy,
                                 .n_rows = policy->source->n_rows,
                                 .begin = begin,
                                 .n_sequences = n_sequences,
                                 .sequence = sequence,
                                 .want = want,
                                 .read = read_item,
                                 .end = end,
                                 .describe = describe};
}

void *policy_owner(const struct policy *policy)
{
    return policy->source->context;
}

const struct policy_figures *policy_figures(const struct policy *policy)
{
    return &policy->figures;
}

const struct policy_figures *policy_last(const struct policy *policy)
{
    return &policy->last;
}
