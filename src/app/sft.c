/* Supervised fine-tuning: rows as examples, their losses. */
#include "app/sft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/examples.h"
#include "app/labels.h"
#include "app/parts.h"
#include "base/alloc.h"

/* An item is an example: of the train rows first, then of the valid ones (whose losses are the
 * metric of rationales). */
struct sft {
    struct training *training;
    const struct sft_options *options;
    const struct siren_adapter *adapter;
    struct training_rows rows;
    struct examples examples;
    struct labels labels; /* of ratings */
    size_t *first_output; /* of rationales: (examples.n + 1) into outputs */
    int *outputs;
};

static const struct example *example_of(const struct sft *s, size_t item)
{
    return &s->examples.list[item];
}

/* ---- rationales: −log p of the response's tokens ---- */

static struct siren_tokens cot_sequence(void *context, size_t item, size_t k)
{
    const struct example *e = example_of(context, item);
    return (struct siren_tokens){e->ids, e->n_ids - 1}; /* nothing follows the last token */
}

static int cot_want(void *context, size_t item, struct siren_forest *forest,
                    const struct trainer_item *place, struct siren_error *err)
{
    struct sft *s = context;
    const struct example *e = example_of(s, item);
    int *outputs = s->outputs + s->first_output[item];
    for (size_t at = e->n_prompt; at < e->n_ids; at++) {
        int segment;
        size_t token;
        trainer_place(place, 0, at - 1, &segment, &token);
        *outputs = siren_forest_want_logprob(forest, segment, token, e->ids[at], 1);
        if (*outputs++ < 0) return siren_fail_memory(err, "the outputs of a pass", 0);
    }
    return 0;
}

static int cot_read(void *context, size_t item, struct siren_forest *forest, double coefficient,
                    double *loss, struct siren_error *err)
{
    const struct sft *s = context;
    const struct example *e = example_of(s, item);
    const int *outputs = s->outputs + s->first_output[item];
    size_t n = e->n_ids - e->n_prompt;
    *loss = 0;
    for (size_t i = 0; i < n; i++) {
        size_t at = e->n_prompt + i;
        int rating = at >= e->answer && at < e->answer + e->n_answer;
        double weight = 1 / (double)n + (rating ? s->options->answer_weight : 0);
        *loss -= weight * (double)*siren_forest_output(forest, outputs[i]);
        if (coefficient != 0)
            *siren_forest_gradient(forest, outputs[i]) = (float)(-coefficient * weight);
    }
    return 0;
}

static int cot_evaluate(void *context, double *metric, json_t *fields,
                        const struct siren_progress *progress, struct siren_error *err);

/* ---- ratings: a loss on the labels' scores ---- */

static size_t ao_n_sequences(void *context, size_t item)
{
    const struct sft *s = context;
    return labels_n_sequences(&s->labels);
}

static struct siren_tokens ao_sequence(void *context, size_t item, size_t k)
{
    const struct sft *s = context;
    return labels_sequence(&s->labels, item, k);
}

static int ao_want(void *context, size_t item, struct siren_forest *forest,
                   const struct trainer_item *place, struct siren_error *err)
{
    struct sft *s = context;
    return labels_want(&s->labels, item, forest, place, 0, err);
}

static int ao_read(void *context, size_t item, struct siren_forest *forest, double coefficient,
                   double *loss, struct siren_error *err)
{
    const struct sft *s = context;
    *loss = labels_loss(&s->labels, item, forest, &s->options->loss, example_of(s, item)->label,
                        NULL, coefficient);
    return 0;
}

static int ao_evaluate(void *context, double *metric, json_t *fields,
                       const struct siren_progress *progress, struct siren_error *err)
{
    const struct sft *s = context;
    return training_evaluate(s->training, s->adapter, &s->rows, metric, fields, progress, err);
}

/* ---- set-up ---- */

static void describe(void *context, size_t item, char *text, size_t size)
{
    const struct sft *s = context;
    app_describe_target(s->training->app, &example_of(s, item)->target, text, size);
}

static int make_examples(struct sft *s, struct siren_error *err)
{
    const struct training *t = s->training;
    size_t n = s->rows.n_train;
    struct siren_target *all;
    int rc;
    if (t->predict.mode == SIREN_COT) n += s->rows.n_valid;
    all = alloc_array(n + 1, sizeof *all);
    if (!all) return siren_fail_memory(err, "the rows of a training", n * sizeof *all);
    memcpy(all, s->rows.train, s->rows.n_train * sizeof *all);
    if (n > s->rows.n_train)
        memcpy(all + s->rows.n_train, s->rows.valid, s->rows.n_valid * sizeof *all);
    rc = examples_create(&s->examples, t->app, t->lm, all, n, &t->predict, t->loop.seed, err);
    free(all);
    return rc;
}

static int place_outputs(struct sft *s, struct siren_error *err)
{
    size_t n = s->examples.n;
    s->first_output = alloc_array(n + 1, sizeof *s->first_output);
    if (!s->first_output) return siren_fail_memory(err, "the outputs of a training", n);
    s->first_output[0] = 0;
    for (size_t i = 0; i < n; i++)
        s->first_output[i + 1] =
            s->first_output[i] + example_of(s, i)->n_ids - example_of(s, i)->n_prompt;
    s->outputs = alloc_array(s->first_output[n] + 1, sizeof *s->outputs);
    return s->outputs ? 0 : siren_fail_memory(err, "the outputs of a training", n);
}

static void sft_clear(struct sft *s)
{
    training_rows_clear(&s->rows);
    examples_clear(&s->examples);
    labels_clear(&s->labels);
    free(s->first_output);
    free(s->outputs);
}

static struct trainer_task task_of(struct sft *s)
{
    int cot = s->training->predict.mode == SIREN_COT;
    return (struct trainer_task){
        .context = s,
        .metric = cot ? "loss" : training_metric_names[s->training->choose_by],
        .n_rows = s->rows.n_train,
        .n_sequences = cot ? NULL : ao_n_sequences,
        .sequence = cot ? cot_sequence : ao_sequence,
        .want = cot ? cot_want : ao_want,
        .read = cot ? cot_read : ao_read,
        .evaluate = !s->rows.n_valid ? NULL
                    : cot            ? cot_evaluate
                                     : ao_evaluate,
        .describe = describe,
    };
}

static int cot_evaluate(void *context, double *metric, json_t *fields,
                        const struct siren_progress *progress, struct siren_error *err)
{
    struct sft *s = context;
    const struct training *t = s->training;
    const struct trainer_task task = task_of(s);
    size_t n = s->rows.n_valid, *items = alloc_array(n, sizeof *items);
    double *losses = alloc_array(n, sizeof *losses);
    int rc = items && losses ? 0 : siren_fail_memory(err, "the valid rows", n * sizeof *items);
    for (size_t i = 0; i < n && !rc; i++) items[i] = s->rows.n_train + i;
    if (!rc)
        rc = trainer_losses(&task, t->lm->engine, s->adapter, &t->loop, items, n, losses, progress,
                            err);
    *metric = 0;
    for (size_t i = 0; i < n && !rc; i++) *metric += losses[i] / (double)n;
    json_object_set_new(fields, "n", json_integer((json_int_t)n));
    free(items);
    free(losses);
    return rc;
}

static json_t *settings_of(const struct sft *s)
{
    const struct siren_rating_loss *l = &s->options->loss;
    int cot = s->training->predict.mode == SIREN_COT;
    json_t *j = training_settings(s->training, &s->rows), *loss = json_object();
    json_object_set_new(j, "response", json_string(cot ? "rationale" : "rating"));
    if (!cot) {
        json_object_set_new(loss, "ce", json_real(l->ce));
        json_object_set_new(loss, "smoothing", json_real(l->smoothing));
        json_object_set_new(loss, "rps", json_real(l->rps));
        json_object_set_new(j, "loss", loss);
    } else {
        json_decref(loss);
        /* Only where asked for: runs begun before there was one go on. */
        if (s->options->answer_weight > 0)
            json_object_set_new(j, "answer_weight", json_real(s->options->answer_weight));
    }
    return j;
}

static int check_answers(const struct sft *s, struct siren_error *err)
{
    int cot = s->training->predict.mode == SIREN_COT;
    for (size_t i = 0; i < s->examples.n && cot && s->options->answer_weight > 0; i++)
        if (!example_of(s, i)->n_answer)
            return siren_fail(err, SIREN_EUNSUPPORTED,
                              "this model's tokenizer joins ratings with their tags: a rating has "
                              "no tokens of its own that could weigh more");
    return 0;
}

static int check_options(const struct training *t, const struct sft_options *o,
                         struct siren_error *err)
{
    const struct siren_rating_loss *l = &o->loss;
    if (!t->lm->engine) return siren_fail(err, SIREN_EINVAL, "only a local model can be trained");
    if (t->predict.mode == SIREN_AO &&
        (!(l->ce >= 0 && l->rps >= 0 && l->ce + l->rps > 0) || l->kd != 0))
        return siren_fail(err, SIREN_EINVAL,
                          "weights of %g and %g for CE and RPS: expected not negative, not both 0",
                          l->ce, l->rps);
    if (!(o->answer_weight >= 0 && isfinite(o->answer_weight)))
        return siren_fail(err, SIREN_EINVAL, "a weight of %g for the rating, expected 0 or more",
                          o->answer_weight);
    if (!(l->smoothing >= 0 && l->smoothing < 1))
        return siren_fail(err, SIREN_EINVAL, "label smoothing %g, expected 0 to below 1",
                          l->smoothing);
    return 0;
}

int sft_train(struct training *training, const struct sft_options *options,
              struct trainer_result *result, const struct siren_progress *progress,
              const volatile int *cancel, struct siren_error *err)
{
    struct sft s = {.training = training, .options = options};
    struct siren_adapter *adapter = NULL;
    int cot = training->predict.mode == SIREN_COT;
    int rc = check_options(training, options, err);
    if (!rc) rc = training_rows(training, &s.rows, err);
    if (!rc) rc = make_examples(&s, err);
    if (!rc) rc = check_answers(&s, err);
    if (!rc && cot) rc = place_outputs(&s, err);
    if (!rc && !cot)
        rc = labels_of_examples(&s.labels, training->app, training->lm, &s.examples, err);
    if (!rc) rc = training_adapter(training, &adapter, err);
    if (!rc) {
        s.adapter = adapter;
        const struct trainer_task task = task_of(&s);
        rc = training_run(training, &task, adapter, settings_of(&s), result, progress, cancel, err);
    }
    siren_adapter_free(adapter);
    sft_clear(&s);
    return rc;
}
