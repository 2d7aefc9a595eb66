#include "app/align.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/labels.h"
#include "app/parts.h"
#include "app/teacher_rows.h"
#include "base/alloc.h"
#include "model/model.h"

enum { MOST_LAYERS = 1024 }; /* of a configuration */

/* A row is an example, and an item of the trainer is a row: by its number, or, where rows have
 * weights, by its place in the batch. */
struct align {
    struct training *training;
    const struct align_options *options;
    const struct siren_adapter *adapter;
    struct training_rows rows;
    struct teacher_rows taught; /* teacher NULL: none */
    struct examples examples;
    struct labels labels; /* where there is a loss on ratings */
    int n_layers, d, n_labels;
    double *layer_weights;               /* (n_layers) */
    float *student, *teacher, *gradient; /* (n_layers, d) */
    float *final_norm;  /* (d) the model's as it came, whatever is trained: the last layer's states
                         * are divided by it; NULL */
    int *hidden;        /* (rows, n_layers) outputs; −1: not asked for */
    size_t *batch_rows; /* (batch) where rows have weights; else NULL */
    double *batch_weights;
    double cosine, cosine_last, cosine_items; /* sums of a step */
};

static size_t row_of(const struct align *a, size_t item)
{
    return a->batch_rows ? a->batch_rows[item] : item;
}

static int has_rating_loss(const struct align_options *o)
{
    return o->rating.ce != 0 || o->rating.kd != 0 || o->rating.rps != 0;
}

/* ---- the task ---- */

static int begin_batch(void *context, struct trainer_batch *batch,
                       const struct siren_progress *progress, struct siren_error *err)
{
    struct align *a = context;
    for (size_t i = 0; i < batch->n_rows; i++) {
        a->batch_rows[i] = batch->rows[i];
        a->batch_weights[i] = a->taught.weights[batch->rows[i]];
    }
    batch->n_items = batch->n_rows;
    batch->weights = a->batch_weights;
    return 0;
}

static size_t n_sequences(void *context, size_t item)
{
    const struct align *a = context;
    return has_rating_loss(a->options) ? labels_n_sequences(&a->labels) : 1;
}

static struct siren_tokens sequence(void *context, size_t item, size_t k)
{
    const struct align *a = context;
    const struct example *e = &a->examples.list[row_of(a, item)];
    if (has_rating_loss(a->options)) return labels_sequence(&a->labels, row_of(a, item), k);
    return (struct siren_tokens){e->ids, e->n_prompt};
}

static int want(void *context, size_t item, struct siren_forest *forest,
                const struct trainer_item *place, struct siren_error *err)
{
    struct align *a = context;
    size_t row = row_of(a, item), token;
    int *hidden = a->hidden + row * (size_t)a->n_layers, segment;
    trainer_place(place, 0, a->examples.list[row].n_prompt - 1, &segment, &token);
    for (int l = 0; l < a->n_layers && a->options->ha != 0; l++) {
        hidden[l] = -1;
        if (!(a->layer_weights[l] > 0)) continue;
        hidden[l] = siren_forest_want_hidden(forest, segment, token, l + 1);
        if (hidden[l] < 0) return siren_fail_memory(err, "the outputs of a pass", 0);
    }
    return has_rating_loss(a->options) ? labels_want(&a->labels, row, forest, place, 0, err) : 0;
}

/* Of the last layer: behind the final norm to the direction before it, and back. */
static void unnorm(const struct align *a, float *states)
{
    float *last = states + (size_t)(a->n_layers - 1) * (size_t)a->d;
    for (int k = 0; k < a->d && a->final_norm; k++) last[k] /= a->final_norm[k];
}

static int read_alignment(struct align *a, size_t row, struct siren_forest *forest,
                          double coefficient, double *loss, struct siren_error *err)
{
    const int *hidden = a->hidden + row * (size_t)a->n_layers;
    size_t d = (size_t)a->d, n_weighted = 0;
    double cosines[MOST_LAYERS], sum = 0;
    int rc = siren_teacher_states(a->taught.teacher, a->taught.rows[row], a->teacher, err);
    if (rc) return rc;
    for (int l = 0; l < a->n_layers; l++)
        if (hidden[l] >= 0)
            memcpy(a->student + (size_t)l * d, siren_forest_output(forest, hidden[l]),
                   d * sizeof *a->student);
    unnorm(a, a->student);
    unnorm(a, a->teacher);
    *loss += a->options->ha * siren_alignment_loss(a->n_layers, a->d, a->student, a->teacher,
                                                   a->layer_weights, a->gradient, cosines);
    unnorm(a, a->gradient);
    for (int l = 0; l < a->n_layers; l++) {
        if (hidden[l] < 0) continue;
        sum += cosines[l];
        n_weighted++;
        if (coefficient == 0) continue;
        float *out = siren_forest_gradient(forest, hidden[l]);
        for (size_t k = 0; k < d; k++)
            out[k] = (float)(coefficient * a->options->ha * (double)a->gradient[(size_t)l * d + k]);
    }
    a->cosine += sum / (double)n_weighted;
    a->cosine_last += cosines[a->n_layers - 1];
    a->cosine_items++;
    return 0;
}

static void read_rating(struct align *a, size_t row, struct siren_forest *forest,
                        double coefficient, double *loss)
{
    const struct siren_rating_loss *w = &a->options->rating;
    double teacher[SIREN_MAX_LABELS];
    for (int k = 0; k < a->n_labels && w->kd != 0; k++)
        teacher[k] = (double)siren_teacher_row(a->taught.teacher, a->taught.rows[row])->scores[k];
    *loss +=
        labels_loss(&a->labels, row, forest, w, a->examples.list[row].label, teacher, coefficient);
}

static int read_outputs(void *context, size_t item, struct siren_forest *forest, double coefficient,
                        double *loss, struct siren_error *err)
{
    struct align *a = context;
    size_t row = row_of(a, item);
    int rc = 0;
    *loss = 0;
    if (a->options->ha != 0) rc = read_alignment(a, row, forest, coefficient, loss, err);
    if (!rc && has_rating_loss(a->options)) read_rating(a, row, forest, coefficient, loss);
    return rc;
}

static void end_batch(void *context, const struct trainer_batch *batch, json_t *line)
{
    struct align *a = context;
    if (a->cosine_items > 0) {
        json_object_set_new(line, "cosine", json_real(a->cosine / a->cosine_items));
        if (a->layer_weights[a->n_layers - 1] > 0)
            json_object_set_new(line, "cosine_last", json_real(a->cosine_last / a->cosine_items));
    }
    a->cosine = a->cosine_last = a->cosine_items = 0;
}

static int evaluate(void *context, double *metric, json_t *fields,
                    const struct siren_progress *progress, struct siren_error *err)
{
    const struct align *a = context;
    return training_evaluate(a->training, a->adapter, &a->rows, metric, fields, progress, err);
}

static void describe(void *context, size_t item, char *text, size_t size)
{
    const struct align *a = context;
    app_describe_target(a->training->app, &a->examples.list[row_of(a, item)].target, text, size);
}

/* ---- set-up ---- */

static int open_teacher(struct align *a, struct training *t, struct siren_error *err)
{
    struct siren_teacher_filter filter = a->options->filter;
    int rc;
    filter.seed = t->loop.seed;
    filter.low = t->app->meta.scale.min;
    filter.high = t->app->meta.scale.max;
    rc = teacher_rows_open(&a->taught, t->app, t->lm, a->options->teacher, &filter, err);
    if (!rc && !a->taught.is_student && a->options->other_teacher)
        a->options->other_teacher(a->options->context, a->taught.name);
    if (!rc) rc = teacher_rows_draw(&a->taught, t->n_rows, t->loop.seed, err);
    if (rc) return rc;
    t->given = a->taught.targets;
    t->n_given = a->taught.n;
    t->split = a->taught.split;
    t->fold = a->taught.fold;
    t->fold_seed = &a->taught.seed;
    t->predict = a->taught.predict;
    t->taught_by = a->taught.made_by;
    return 0;
}

static void weigh_layers(const struct align *a)
{
    for (int l = 0; l < a->n_layers; l++) {
        enum align_layers kind = a->options->layers;
        a->layer_weights[l] = kind == ALIGN_LINEAR  ? (double)(l + 1) / a->n_layers
                              : kind == ALIGN_UPPER ? l >= a->n_layers / 2
                              : kind == ALIGN_LAST  ? l == a->n_layers - 1
                                                    : 1;
    }
}

static int make_states(struct align *a, struct siren_error *err)
{
    const struct siren_model *model = a->training->lm->model;
    size_t states = (size_t)a->n_layers * (size_t)a->d;
    a->layer_weights = alloc_zeroed((size_t)a->n_layers, sizeof *a->layer_weights);
    a->student = alloc_zeroed(states, sizeof *a->student);
    a->teacher = alloc_zeroed(states, sizeof *a->teacher);
    a->gradient = alloc_zeroed(states, sizeof *a->gradient);
    a->hidden = alloc_array(a->examples.n * (size_t)a->n_layers, sizeof *a->hidden);
    if (!a->layer_weights || !a->student || !a->teacher || !a->gradient || !a->hidden)
        return siren_fail_memory(err, "states", 3 * states * sizeof *a->student);
    weigh_layers(a);
    if (!a->options->before_norm) return 0;
    a->final_norm = alloc_array((size_t)a->d, sizeof *a->final_norm);
    if (!a->final_norm)
        return siren_fail_memory(err, "the final norm", (size_t)a->d * sizeof(float));
    memcpy(a->final_norm, model->final_norm, (size_t)a->d * sizeof(float));
    for (int k = 0; k < a->d; k++)
        if (a->final_norm[k] == 0)
            return siren_fail(err, SIREN_EUNSUPPORTED,
                              "the final norm's weight %d is 0: the state before it is lost", k);
    return 0;
}

static int make_weights(struct align *a, struct siren_error *err)
{
    size_t n = a->training->loop.batch;
    if (!a->taught.teacher || !a->options->filter.closeness) return 0;
    a->batch_rows = alloc_array(n + 1, sizeof *a->batch_rows);
    a->batch_weights = alloc_array(n + 1, sizeof *a->batch_weights);
    return a->batch_rows && a->batch_weights ? 0 : siren_fail_memory(err, "weights of a batch", n);
}

static int check_options(const struct training *t, const struct align_options *o,
                         struct siren_error *err)
{
    const struct siren_rating_loss *r = &o->rating;
    const double weights[] = {o->ha, r->ce, r->kd, r->rps};
    double sum = 0;
    if (!t->lm->engine) return siren_fail(err, SIREN_EINVAL, "only a local model can be trained");
    for (int i = 0; i < 4; i++) {
        if (!(weights[i] >= 0) || !isfinite(weights[i]))
            return siren_fail(err, SIREN_EINVAL, "a weight of %g in the loss: expected 0 or more",
                              weights[i]);
        sum += weights[i];
    }
    if (!(sum > 0)) return siren_fail(err, SIREN_EINVAL, "a loss without terms");
    if ((o->ha != 0 || r->kd != 0) && !o->teacher)
        return siren_fail(err, SIREN_EINVAL, "alignment and distillation need a teacher's states");
    if (o->before_norm && t->full)
        return siren_fail(err, SIREN_EINVAL,
                          "the state before the final norm is found by that norm's weights, which "
                          "must not be trained: --before-norm goes with an adapter");
    if (o->layer_local && o->ha == 0)
        return siren_fail(err, SIREN_EINVAL,
                          "layer-local learning needs a loss on the layers' states (ha)");
    if (o->layer_local && t->full)
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "layer-local training of all weights: it trains LoRA adapters only");
    if (r->kd != 0 && !(r->temperature > 0 && isfinite(r->temperature)))
        return siren_fail(err, SIREN_EINVAL, "temperature %g: expected above 0", r->temperature);
    if (!(r->smoothing >= 0 && r->smoothing < 1))
        return siren_fail(err, SIREN_EINVAL, "label smoothing %g: expected 0 to below 1",
                          r->smoothing);
    if (o->teacher && !(o->filter.share > 0 && o->filter.share <= 1))
        return siren_fail(err, SIREN_EINVAL, "a share of %g of the rows: expected above 0, up to 1",
                          o->filter.share);
    return 0;
}

static const char *const layer_names[] = {"uniform", "linear", "upper", "last"};

static json_t *loss_json(const struct align_options *o)
{
    const struct siren_rating_loss *r = &o->rating;
    json_t *j = json_object();
    if (o->ha != 0) {
        json_object_set_new(j, "ha", json_real(o->ha));
        json_object_set_new(j, "layers", json_string(layer_names[o->layers]));
        json_object_set_new(j, "before_norm", json_boolean(o->before_norm));
        if (o->layer_local) json_object_set_new(j, "layer_local", json_true());
    }
    if (r->ce != 0) {
        json_object_set_new(j, "ce", json_real(r->ce));
        json_object_set_new(j, "smoothing", json_real(r->smoothing));
    }
    if (r->kd != 0) {
        json_object_set_new(j, "kd", json_real(r->kd));
        json_object_set_new(j, "temperature", json_real(r->temperature));
    }
    if (r->rps != 0) json_object_set_new(j, "rps", json_real(r->rps));
    return j;
}

static json_t *settings_of(const struct align *a)
{
    json_t *j = training_settings(a->training, &a->rows), *t;
    const struct siren_teacher_filter *f = &a->options->filter;
    char digits[33];
    json_object_set_new(j, "loss", loss_json(a->options));
    if (!a->taught.teacher) return j;
    siren_teacher_checksum(a->taught.teacher, digits);
    t = json_object();
    json_object_set_new(t, "name", json_string(a->taught.name));
    json_object_set_new(t, "states", json_string(digits));
    json_object_set_new(t, "exact", json_boolean(f->exact));
    json_object_set_new(t, "share", json_real(f->share));
    json_object_set_new(t, "closeness", json_boolean(f->closeness));
    json_object_set_new(j, "teacher", t);
    return j;
}

static int make_rows(struct align *a, struct training *t, struct siren_error *err)
{
    const struct siren_config *c = siren_model_config(t->lm->model);
    int rc = 0;
    a->n_layers = c->n_layers;
    a->d = c->d_model;
    a->n_labels = siren_scale_labels(&t->app->meta.scale);
    if (a->options->teacher) rc = open_teacher(a, t, err);
    t->predict.mode = SIREN_AO;
    if (!rc) rc = training_rows(t, &a->rows, err);
    if (!rc)
        rc = examples_create(&a->examples, t->app, t->lm, a->rows.train, a->rows.n_train,
                             &t->predict, t->loop.seed, err);
    if (!rc && has_rating_loss(a->options))
        rc = labels_of_examples(&a->labels, t->app, t->lm, &a->examples, err);
    if (!rc) rc = make_states(a, err);
    if (!rc) rc = make_weights(a, err);
    return rc;
}

static void align_clear(struct align *a)
{
    training_rows_clear(&a->rows);
    examples_clear(&a->examples);
    labels_clear(&a->labels);
    teacher_rows_close(&a->taught);
    free(a->layer_weights);
    free(a->student);
    free(a->teacher);
    free(a->gradient);
    free(a->hidden);
    free(a->final_norm);
    free(a->batch_rows);
    free(a->batch_weights);
}

int align_train(struct training *training, const struct align_options *options,
                struct trainer_result *result, const struct siren_progress *progress,
                const volatile int *cancel, struct siren_error *err)
{
    struct training mine = *training; /* the teacher's file says some of it */
    struct align a = {.training = &mine, .options = options};
    struct siren_adapter *adapter = NULL;
    int rc = check_options(&mine, options, err);
    mine.loop.layer_local = options->layer_local;
    *result = (struct trainer_result){.loss = NAN, .best = NAN};
    if (!rc) rc = make_rows(&a, &mine, err);
    if (!rc) rc = training_adapter(&mine, &adapter, err);
    if (!rc) {
        const struct trainer_task task = {.context = &a,
                                          .metric = training_metric_names[mine.choose_by],
                                          .n_rows = a.rows.n_train,
                                          .begin = a.batch_rows ? begin_batch : NULL,
                                          .n_sequences = n_sequences,
                                          .sequence = sequence,
                                          .want = want,
                                          .read = read_outputs,
                                          .end = end_batch,
                                          .evaluate = a.rows.n_valid ? evaluate : NULL,
                                          .describe = describe};
        a.adapter = adapter;
        rc = training_run(&mine, &task, adapter, settings_of(&a), result, progress, cancel, err);
    }
    training->run = mine.run;
    training->n_trained = mine.n_trained;
    training->metric = mine.metric;
    siren_adapter_free(adapter);
    align_clear(&a);
    return rc;
}

/* ---- words ---- */

int align_parse_layers(enum align_layers *layers, const char *text, struct siren_error *err)
{
    for (int i = 0; i < 4; i++)
        if (!strcmp(text, layer_names[i])) {
            *layers = (enum align_layers)i;
            return 0;
        }
    return siren_fail(err, SIREN_EINVAL, "layers \"%s\": expected uniform, linear, upper or last",
                      text);
}

int align_parse_loss(struct align_options *o, const char *text, struct siren_error *err)
{
    const struct {
        const char *word;
        double *weight;
    } terms[] = {
        {"ha", &o->ha}, {"ce", &o->rating.ce}, {"kd", &o->rating.kd}, {"rps", &o->rating.rps}};
    for (int i = 0; i < 4; i++) *terms[i].weight = 0;
    for (const char *p = text;; p++) {
        size_t n = strcspn(p, "+:"), i = 0;
        double weight = 1;
        char *rest;
        while (i < 4 && (strlen(terms[i].word) != n || memcmp(terms[i].word, p, n) != 0)) i++;
        if (i == 4)
            return siren_fail(err, SIREN_EINVAL,
                              "loss \"%s\": found \"%.*s\", expected ha, ce, kd or rps", text,
                              (int)n, p);
        p += n;
        if (*p == ':') {
            weight = strtod(p + 1, &rest);
            if (rest == p + 1 || (*rest && *rest != '+') || !(weight > 0) || !isfinite(weight))
                return siren_fail(err, SIREN_EINVAL,
                                  "loss \"%s\": behind ':' stands a weight above 0", text);
            p = rest;
        }
        if (*terms[i].weight != 0)
            return siren_fail(err, SIREN_EINVAL, "loss \"%s\": %s twice", text, terms[i].word);
        *terms[i].weight = weight;
        if (!*p) return 0;
    }
}
