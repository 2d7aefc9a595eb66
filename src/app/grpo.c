/* The job: adapter, reference, task, evaluation in flight, live line. */
#include "app/grpo.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"

struct grpo_options grpo_defaults(void)
{
    return (struct grpo_options){.policy = policy_defaults(),
                                 .sampling = {.temperature = 1, .top_p = 1, .max_tokens = 512},
                                 .texts_every = 20};
}

/* ---- evaluation ---- */

static void add_answer(const struct siren_answer *a, double truth, double *absolute, double *square)
{
    double e = (a->n_labels ? a->median : a->number) - truth;
    double m = (a->n_labels ? a->mean : a->number) - truth;
    *absolute += fabs(e);
    *square += m * m;
}

static int reason_valid(const struct training *t, const struct grpo_options *o,
                        const struct training_rows *rows, struct siren_answer *answers,
                        double *metric, json_t *fields, const struct siren_progress *progress,
                        struct siren_error *err)
{
    struct siren_predict_options predict = t->predict;
    double n = (double)rows->n_valid, absolute = 0, square = 0, texts = 0, format = 0, invalid = 0,
           tokens = 0;
    int rc;
    predict.mode = SIREN_COT;
    predict.samples = o->eval_samples;
    predict.batch = o->batch;
    predict.sampling = o->sampling;
    predict.sampling.seed = t->loop.seed;
    if (!o->eval_samples) predict.sampling.temperature = 0;
    rc = siren_predict(t->app, t->lm, rows->valid, rows->n_valid, &predict, answers, progress, err);
    for (size_t i = 0; i < rows->n_valid && !rc; i++) {
        const struct siren_answer *a = &answers[i];
        add_answer(a, t->app->ratings.rating[rows->valid[i].row], &absolute, &square);
        texts += a->samples;
        format += a->in_format;
        invalid += a->invalid;
        tokens += a->tokens_out;
    }
    if (rc) return rc;
    *metric = absolute / n;
    json_object_set_new(fields, "rmse", json_real(sqrt(square / n)));
    json_object_set_new(fields, "invalid", json_real(invalid / n));
    json_object_set_new(fields, "in_format", json_real(format / texts));
    json_object_set_new(fields, "tokens_a_text", json_real(tokens / texts));
    return 0;
}

int grpo_evaluate(const struct training *t, const struct grpo_options *options,
                  const struct siren_adapter *adapter, const struct training_rows *rows,
                  double *metric, json_t *fields, const struct siren_progress *progress,
                  struct siren_error *err)
{
    struct siren_answer *answers = alloc_zeroed(rows->n_valid + 1, sizeof *answers);
    json_t *only = json_object();
    double mae;
    int rc = answers ? 0 : siren_fail_memory(err, "answers", rows->n_valid * sizeof *answers);
    if (t->lm->session) siren_session_use_adapter(t->lm->session, adapter);
    if (!rc) rc = reason_valid(t, options, rows, answers, metric, fields, progress, err);
    if (!rc) rc = training_evaluate(t, adapter, rows, &mae, only, progress, err);
    if (!rc) json_object_set_new(only, "mae", json_real(mae));
    json_object_set_new(fields, "answer_only", only);
    siren_answers_free(answers, rows->n_valid);
    return rc;
}

/* ---- the run ---- */

struct job {
    struct training *training;
    const struct grpo_options *options;
    struct training_rows rows;
    struct siren_adapter *adapter, *reference; /* reference NULL: the bare model */
    struct siren_model *start;                 /* where all weights are trained: the frozen ones */
    struct siren_engine *start_engine;
    struct grpo_source source;
    struct policy_source write;
    struct policy *policy;
    const struct siren_progress *progress;
};

static int evaluate(void *context, double *metric, json_t *fields,
                    const struct siren_progress *progress, struct siren_error *err)
{
    struct job *j = ((struct grpo_source *)policy_owner(context))->owner;
    int rc =
        grpo_evaluate(j->training, j->options, j->adapter, &j->rows, metric, fields, progress, err);
    if (j->training->lm->session) siren_session_use_adapter(j->training->lm->session, j->adapter);
    return rc;
}

/* "rows" with the figures of the last step, in words that fit into 80 columns. */
static int live(void *context, const char *what, uint64_t done, uint64_t total)
{
    const struct job *j = context;
    const struct policy_figures *f = policy_last(j->policy);
    double seconds = f->rollout + f->scoring + f->update;
    char text[200], mae[32] = "–", kl[32] = "–";
    int is_rows =
        strcspn(what, ":") == 4 && !strncmp(what, "rows", 4); /* else behind the last step */
    if (!f->n_texts || !is_rows) return siren_progress_update(j->progress, what, done, total);
    if (isfinite(j->source.mae)) snprintf(mae, sizeof mae, "%.2f", j->source.mae);
    if (isfinite(f->kl)) snprintf(kl, sizeof kl, "%.3f", f->kl);
    snprintf(text, sizeof text,
             "rows: reward %.2f, %.0f %% ok, MAE %s, %.0f tok, KL %s, %.0f tok/s", f->reward,
             100 * j->source.in_format, mae, f->length, kl,
             seconds > 0 ? f->length * (double)f->n_texts / seconds : 0);
    return siren_progress_update(j->progress, text, done, total);
}

static const char *const reward_names[] = {"linear", "squared", "rps"};
static const char *const advantage_names[] = {"grpo", "dr_grpo", "leave_one_out"};
static const char *const kl_names[] = {"k1", "k2", "k3"};
static const char *const aggregation_names[] = {"token", "sequence", "constant"};
static const char *const flat_names[] = {"keep", "skip", "resample"};

json_t *grpo_settings(const struct grpo_options *o)
{
    const struct siren_policy_options *l = &o->policy.loss;
    json_t *j = json_object();
    json_object_set_new(j, "samples", json_integer(o->policy.samples));
    json_object_set_new(j, "temperature", json_real(o->sampling.temperature));
    json_object_set_new(j, "top_p", json_real(o->sampling.top_p));
    json_object_set_new(j, "top_k", json_integer(o->sampling.top_k));
    json_object_set_new(j, "max_tokens", json_integer(o->sampling.max_tokens));
    json_object_set_new(j, "reward", json_string(reward_names[o->reward]));
    json_object_set_new(j, "length_cost", json_real(o->length_cost));
    json_object_set_new(j, "outside", json_string(o->refuse_outside ? "refuse" : "clamp"));
    if (o->policy.source_weight != 0) {
        json_object_set_new(j, "answer_weight", json_real(o->policy.source_weight));
        json_object_set_new(j, "answer_ce", json_real(o->answer.ce));
        json_object_set_new(j, "answer_rps", json_real(o->answer.rps));
    }
    json_object_set_new(j, "advantage", json_string(advantage_names[o->policy.advantage]));
    json_object_set_new(j, "advantage_eps", json_real(o->policy.advantage_eps));
    json_object_set_new(j, "clip_low", json_real(l->clip_low));
    json_object_set_new(j, "clip_high", json_real(l->clip_high));
    json_object_set_new(j, "dual_clip", json_real(l->dual_clip));
    json_object_set_new(j, "kl", json_real(l->kl));
    json_object_set_new(j, "kl_kind", json_string(kl_names[l->kl_kind]));
    json_object_set_new(j, "entropy", json_real(l->entropy));
    json_object_set_new(j, "aggregation", json_string(aggregation_names[l->aggregation]));
    json_object_set_new(j, "constant_length", json_integer(l->constant_length));
    json_object_set_new(j, "flat_groups", json_string(flat_names[o->policy.flat]));
    json_object_set_new(j, "rounds", json_integer(o->policy.rounds));
    json_object_set_new(j, "mask_truncated", json_boolean(o->policy.mask_truncated));
    json_object_set_new(j, "eval_samples", json_integer(o->eval_samples));
    return j;
}

/* The frozen start, where it is not the bare model that the policy has, too. */
static int open_start(struct job *j, struct siren_error *err)
{
    const struct training *t = j->training;
    int rc;
    if (t->start) return siren_adapter_load(&j->reference, t->start, t->lm->model, err);
    if (!t->full || j->options->policy.loss.kl == 0) return 0;
    struct siren_engine_options options = {.isa = siren_engine_isa(t->lm->engine),
                                           .compute = siren_engine_compute(t->lm->engine)};
    struct siren_model_options load = {.compute = options.compute};
    rc = siren_model_load(&j->start, siren_model_path(t->lm->model), &load, t->pool, err);
    return rc ? rc : siren_engine_create(&j->start_engine, j->start, t->pool, &options, err);
}

static int open_policy(struct job *j, struct siren_error *err)
{
    const struct training *t = j->training;
    struct policy_options o = j->options->policy;
    struct policy_models models = {.engine = t->lm->engine, .policy = j->adapter};
    int rc = open_start(j, err);
    if (rc) return rc;
    o.temperature = j->options->sampling.temperature;
    o.seed = t->loop.seed;
    models.reference = j->reference;
    models.reference_engine = j->start_engine;
    return policy_create(&j->policy, &o, &j->write, &models, err);
}

/* The loss of a policy says nothing about what it is worth: rewards and errors do. */
static const struct trainer_chart charts[] = {
    {"curve.svg",
     "Reward and error",
     {{"reward", "reward of a step's texts", 0},
      {"in_format", "share of them in format", 1},
      {"valid.mae", "MAE on valid, reasoned", 2},
      {"valid.answer_only.mae", "MAE on valid, answered at once", 2}}},
    {"length.svg",
     "Length of the texts",
     {{"length", "tokens a text", 0}, {"valid.tokens_a_text", "tokens a text on valid", 0}}},
    {"policy.svg",
     "The policy",
     {{"kl", "KL to the start, a token", 0}, {"entropy", "entropy, a token", 1}}},
    {"ratings.svg",
     "The distribution over the ratings",
     {{"answer_loss", "loss behind a step's texts", 0},
      {"valid.answer_only.rps", "RPS on valid, answered at once", 1}}},
};

static int run_training(struct job *j, struct trainer_result *result, const volatile int *cancel,
                        struct siren_error *err)
{
    struct training *t = j->training;
    struct siren_progress progress = {live, j};
    struct trainer_task task = policy_task(j->policy);
    json_t *settings = training_settings(t, &j->rows);
    int rc;
    task.metric = "mae";
    task.charts = charts;
    task.n_charts = sizeof charts / sizeof *charts;
    if (j->rows.n_valid) task.evaluate = evaluate;
    json_object_set_new(settings, "grpo", grpo_settings(j->options));
    if (t->lm->session) siren_session_use_adapter(t->lm->session, j->adapter);
    rc = training_run(t, &task, j->adapter, settings, result, &progress, cancel, err);
    if (t->lm->session) siren_session_use_adapter(t->lm->session, NULL);
    return rc;
}

int grpo_train(struct training *t, const struct grpo_options *options,
               struct trainer_result *result, const struct siren_progress *progress,
               const volatile int *cancel, struct siren_error *err)
{
    struct job j = {.training = t, .options = options, .progress = progress};
    int rc;
    t->predict.mode = SIREN_COT;
    t->loop.dropout = 0; /* the first ratio is 1 */
    rc = training_rows(t, &j.rows, err);
    if (!rc) rc = training_adapter(t, &j.adapter, err);
    if (!rc) rc = grpo_source_create(&j.source, t, &j.rows, options, err);
    if (!rc) {
        j.source.owner = &j;
        j.write = grpo_source(&j.source);
        rc = open_policy(&j, err);
    }
    if (!rc) rc = run_training(&j, result, cancel, err);
    policy_free(j.policy);
    grpo_source_clear(&j.source);
    siren_adapter_free(j.adapter);
    siren_adapter_free(j.reference);
    siren_engine_free(j.start_engine);
    siren_model_free(j.start);
    training_rows_clear(&j.rows);
    return rc;
}
