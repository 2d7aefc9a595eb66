/* Rows to prompts, prompts to texts, texts to rewards. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/grpo.h"
#include "app/parts.h"
#include "app/rollout.h"
#include "base/alloc.h"
#include "siren/file.h"
#include "siren/random.h"

enum { TEXTS_SHOWN = 10 };

static void forget_step(struct grpo_source *s)
{
    for (size_t i = 0; i < s->n_prompts; i++) siren_prompt_ids_clear(&s->prompts[i]);
    for (size_t i = 0; i < s->n_texts; i++) {
        free(s->texts[i].text);
        free(s->texts[i].query);
    }
    s->n_prompts = s->n_texts = 0;
    s->ended = 0;
}

/* ---- writing ---- */

static int encode_prompt(const struct grpo_source *s, size_t row, struct siren_prompt_ids *out,
                         struct siren_error *err)
{
    const struct training *t = s->training;
    const struct siren_predict_options *o = &t->predict;
    struct siren_target_input in;
    int rc = siren_target_input(t->app, &s->rows->train[row], o, &in, err);
    if (rc) return rc;
    rc = siren_prompt_encode(out, t->lm->tokenizer, t->lm->chat, &in.input, &o->strategy, SIREN_COT,
                             o->prompt_limit, err);
    siren_target_input_clear(&in);
    return rc;
}

/* The prompts of these groups, behind those that the step has already. */
static int encode_all(struct grpo_source *s, struct policy_group *groups, size_t n,
                      struct siren_error *err)
{
    int rc = 0;
    if (alloc_grow(&s->prompts, &s->prompts_capacity, s->n_prompts + n, sizeof *s->prompts))
        return siren_fail_memory(err, "prompts", n * sizeof *s->prompts);
    for (size_t i = 0; i < n && !rc; i++) {
        struct siren_prompt_ids *p = &s->prompts[s->n_prompts];
        *p = (struct siren_prompt_ids){0};
        rc = encode_prompt(s, groups[i].row, p, err);
        if (rc) break;
        s->n_prompts++;
        groups[i].prompt = (struct siren_tokens){p->ids, p->n_ids};
    }
    return rc;
}

static double reward_of(const struct grpo_source *s, const struct rollout *r, double truth)
{
    double distribution[SIREN_MAX_LABELS], rps = -1;
    if (s->options->reward == SIREN_REWARD_RPS && r->reading.has_number) {
        siren_readout_distribution(&s->labels.readout, r->labels, distribution);
        rps = siren_rps(&s->training->app->meta.scale, distribution, truth);
    }
    return siren_reward(&s->reward, &r->reading, truth, rps, (int)r->n);
}

static void take_rollout(struct grpo_source *s, const struct policy_group *g, struct policy_text *t,
                         struct rollout *r)
{
    const struct training *with = s->training;
    double truth = with->app->ratings.rating[s->rows->train[g->row].row];
    t->ids = r->ids;
    t->old = r->logprobs;
    t->n = r->n;
    t->truncated = r->truncated;
    t->answers = r->reading.has_number;
    t->reward = reward_of(s, r, truth);
    s->texts[s->n_texts++] =
        (struct grpo_text){.row = g->row,
                           .truth = truth,
                           .reward = t->reward,
                           .n_tokens = r->n,
                           .reading = r->reading,
                           .text = r->text,
                           .query = r->query,
                           .n_query = r->n_query,
                           .label = siren_scale_exact_label(&with->app->meta.scale, truth)};
    r->ids = r->query = NULL; /* taken; the rest goes with the rollout */
    r->logprobs = NULL;
    r->text = NULL;
}

/* The random stream of a row's texts in one draw. */
static uint64_t stream_of(const struct grpo_source *s, size_t row, uint64_t draw)
{
    return siren_random_bits(s->training->loop.seed, app_stream(&s->rows->train[row]), draw);
}

static int sample(struct grpo_source *s, uint64_t draw, struct policy_group *groups, size_t n,
                  struct rollout *rollouts, const struct siren_progress *progress,
                  struct siren_error *err)
{
    const struct training *t = s->training;
    struct rollout_options o = {.sampling = s->options->sampling,
                                .samples = s->options->policy.samples,
                                .readout = s->has_labels ? &s->labels.readout : NULL,
                                .batch = s->options->batch};
    struct rollout_prompt *prompts = alloc_array(n, sizeof *prompts);
    int rc;
    if (!prompts) return siren_fail_memory(err, "prompts", n * sizeof *prompts);
    for (size_t i = 0; i < n; i++)
        prompts[i] = (struct rollout_prompt){groups[i].prompt.ids, groups[i].prompt.n_ids,
                                             stream_of(s, groups[i].row, draw)};
    o.sampling.seed = t->loop.seed;
    rc = rollouts_write(t->lm, &t->app->meta.scale, prompts, n, &o, rollouts, progress, err);
    free(prompts);
    return rc;
}

static int has_answer_loss(const struct grpo_source *s)
{
    return s->options->policy.source_weight != 0;
}

/* The labels behind the step's texts, for the update. */
static int put_labels(struct grpo_source *s, struct siren_error *err)
{
    struct siren_tokens *queries = alloc_array(s->n_texts + 1, sizeof *queries);
    int rc = 0;
    if (!queries) return siren_fail_memory(err, "answers", s->n_texts * sizeof *queries);
    for (size_t i = 0; i < s->n_texts && !rc; i++) {
        const struct grpo_text *t = &s->texts[i];
        queries[i] = (struct siren_tokens){t->query, t->n_query};
        if (t->label < 0)
            rc = siren_fail(err, SIREN_EINVAL, "a rating of %g is no label of the scale", t->truth);
    }
    if (!rc) rc = labels_put(&s->labels, queries, s->n_texts, err);
    free(queries);
    return rc;
}

static int write_groups(void *context, uint64_t draw, struct policy_group *groups, size_t n,
                        const struct siren_progress *progress, struct siren_error *err)
{
    struct grpo_source *s = context;
    size_t samples = (size_t)s->options->policy.samples, total = n * samples;
    struct rollout *rollouts = alloc_zeroed(total, sizeof *rollouts);
    int rc = rollouts ? 0 : siren_fail_memory(err, "answers", total * sizeof *rollouts);
    if (s->ended) forget_step(s);
    if (!rc && alloc_grow(&s->texts, &s->texts_capacity, s->n_texts + total, sizeof *s->texts))
        rc = siren_fail_memory(err, "answers", total * sizeof *s->texts);
    if (!rc) rc = encode_all(s, groups, n, err);
    if (!rc) rc = sample(s, draw, groups, n, rollouts, progress, err);
    for (size_t i = 0; i < total && !rc && s->has_labels; i++)
        rc = app_check_scores(s->training->app, &s->rows->train[groups[i / samples].row],
                              &s->labels.readout, rollouts[i].labels, err);
    for (size_t i = 0; i < total && !rc; i++)
        take_rollout(s, &groups[i / samples], &groups[i / samples].texts[i % samples],
                     &rollouts[i]);
    for (size_t i = 0; rollouts && i < total; i++) rollout_clear(&rollouts[i]);
    free(rollouts);
    return !rc && has_answer_loss(s) ? put_labels(s, err) : rc;
}

/* ---- the loss on answers ---- */

static size_t n_sequences(void *context, size_t text)
{
    const struct grpo_source *s = context;
    return s->texts[text].reading.has_number ? labels_n_sequences(&s->labels) : 0;
}

static struct siren_tokens sequence(void *context, size_t text, size_t k)
{
    const struct grpo_source *s = context;
    return labels_sequence(&s->labels, text, k);
}

static int want(void *context, size_t text, struct siren_forest *forest,
                const struct trainer_item *place, struct siren_error *err)
{
    struct grpo_source *s = context;
    return labels_want(&s->labels, text, forest, place, 1, err);
}

static int read_answer(void *context, size_t text, struct siren_forest *forest, double coefficient,
                       double *loss, struct siren_error *err)
{
    struct grpo_source *s = context;
    *loss = labels_loss(&s->labels, text, forest, &s->options->answer, s->texts[text].label, NULL,
                        coefficient);
    s->answer_loss += *loss;
    s->n_answers++;
    return 0;
}

/* ---- what a step's texts were like ---- */

static void count_texts(struct grpo_source *s, json_t *line)
{
    double n = (double)s->n_texts, with_number = 0, error = 0, faults[SIREN_FAULTS] = {0};
    json_t *shares = json_object();
    s->in_format = 0;
    for (size_t i = 0; i < s->n_texts; i++) {
        const struct siren_reading *r = &s->texts[i].reading;
        s->in_format += r->format / n;
        for (int k = 0; k < SIREN_FAULTS; k++) faults[k] += (double)(r->faults >> k & 1);
        if (!r->has_number) continue;
        with_number++;
        error += fabs(r->rating - s->texts[i].truth);
    }
    s->mae = with_number > 0 ? error / with_number : NAN;
    for (int k = 0; k < SIREN_FAULTS; k++)
        if (faults[k] > 0)
            json_object_set_new(shares, siren_fault_name((enum siren_answer_fault)k),
                                json_real(faults[k] / n));
    json_object_set_new(line, "in_format", json_real(s->in_format));
    json_object_set_new(line, "mae", app_real(s->mae));
    json_object_set_new(line, "faults", shares);
    if (s->n_answers)
        json_object_set_new(line, "answer_loss", json_real(s->answer_loss / (double)s->n_answers));
    s->answer_loss = 0;
    s->n_answers = 0;
}

static int show_text(const struct grpo_source *s, struct siren_writer *w, const struct grpo_text *x,
                     struct siren_error *err)
{
    const struct siren_app *app = s->training->app;
    const struct siren_target *t = &s->rows->train[x->row];
    int rc = siren_writer_printf(w, err, "user %s, %s: rated %g, reward %.3f, %zu tokens",
                                 app->users.external[t->user], app->items.item[t->item].title,
                                 x->truth, x->reward, x->n_tokens);
    for (int k = 0; k < SIREN_FAULTS && !rc; k++)
        if (x->reading.faults >> k & 1)
            rc = siren_writer_printf(w, err, ", %s", siren_fault_name((enum siren_answer_fault)k));
    return rc ? rc : siren_writer_printf(w, err, "\n\n%s\n\n----\n\n", x->text);
}

/* Ten texts, spread over the step's.  What cannot be written is left out: it is for reading only,
 * and a full disk is reported by the checkpoint. */
static void show_texts(const struct grpo_source *s, uint64_t step)
{
    char path[4200];
    struct siren_writer *w;
    size_t shown = s->n_texts < TEXTS_SHOWN ? s->n_texts : TEXTS_SHOWN;
    int rc;
    snprintf(path, sizeof path, "%s/texts", s->training->loop.folder);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/texts/step-%06llu.txt", s->training->loop.folder,
             (unsigned long long)step);
    if (siren_writer_open(&w, path, NULL)) return;
    rc = siren_writer_printf(w, NULL, "# %zu of the %zu texts of step %llu\n\n", shown, s->n_texts,
                             (unsigned long long)step);
    for (size_t i = 0; i < shown && !rc; i++)
        rc = show_text(s, w, &s->texts[i * s->n_texts / shown], NULL);
    if (rc)
        siren_writer_abort(w);
    else
        siren_writer_commit(w, NULL);
}

static void end_step(void *context, const struct policy_figures *figures, json_t *line)
{
    struct grpo_source *s = context;
    const struct grpo_options *o = s->options;
    const char *warning = figures->warning;
    uint64_t step = figures->step + 1; /* as the log counts */
    count_texts(s, line);
    if (!warning && s->n_texts && s->in_format == 0) {
        warning = "no text is in the format: it is found by chance or never (a warm start: siren "
                  "train sft --response cot)";
        json_object_set_new(line, "warning", json_string(warning));
    }
    if (o->texts_every && (step == 1 || step % o->texts_every == 0)) show_texts(s, step);
    if (o->warn && warning && warning != s->warned) o->warn(o->warn_context, warning);
    s->warned = warning;
    s->ended = 1;
}

/* ---- all ---- */

int grpo_source_create(struct grpo_source *out, const struct training *t,
                       const struct training_rows *rows, const struct grpo_options *options,
                       struct siren_error *err)
{
    const struct siren_scale *scale = &t->app->meta.scale;
    *out = (struct grpo_source){.training = t,
                                .rows = rows,
                                .options = options,
                                .reward = {.kind = options->reward,
                                           .low = scale->min,
                                           .high = scale->max,
                                           .length_cost = options->length_cost,
                                           .refuse_outside = options->refuse_outside,
                                           .max_tokens = options->sampling.max_tokens}};
    if (!t->lm->chat) return siren_fail(err, SIREN_EINVAL, "the model has no chat template");
    if (t->predict.strategy.flags & SIREN_WITH_PROFILE)
        return siren_fail(err, SIREN_EINVAL,
                          "training prompts cannot hold profiles: take another strategy");
    if (!(options->length_cost >= 0))
        return siren_fail(err, SIREN_EINVAL, "a length cost of %g, expected 0 or more",
                          options->length_cost);
    out->has_labels = options->reward == SIREN_REWARD_RPS || has_answer_loss(out);
    return out->has_labels ? labels_create(&out->labels, t->app, t->lm, err) : 0;
}

void grpo_source_clear(struct grpo_source *s)
{
    forget_step(s);
    free(s->prompts);
    free(s->texts);
    labels_clear(&s->labels);
    *s = (struct grpo_source){0};
}

static void describe(void *context, size_t row, char *text, size_t size)
{
    const struct grpo_source *s = context;
    app_describe_target(s->training->app, &s->rows->train[row], text, size);
}

struct policy_source grpo_source(struct grpo_source *s)
{
    return (struct policy_source){.context = s,
                                  .n_rows = s->rows->n_train,
                                  .write = write_groups,
                                  .n_sequences = n_sequences,
                                  .sequence = sequence,
                                  .want = want,
                                  .read = read_answer,
                                  .end = end_step,
                                  .describe = describe};
}
