#include "app/teach.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/lineage.h"
#include "app/parts.h"
#include "app/rollout.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/path.h"
#include "siren/file.h"

struct job {
    struct siren_app *app;
    struct siren_lm *lm;
    const struct teach_options *options;
    struct siren_predict_options predict;
    struct siren_target *targets;
    size_t n, n_before;
    struct siren_teacher_writer *writer;
    struct siren_readout readout;
    size_t state_floats; /* of a row */
};

/* The rows of one batch. */
struct rows {
    size_t n;
    const struct siren_target *targets;
    struct siren_prompt_ids *prompts;
    struct rollout_prompt *starts; /* the same, for the rollouts */
    struct rollout *rollouts;
    struct siren_states *states;
    float *values; /* (n, state_floats) */
};

static char *description(const struct job *j)
{
    const struct siren_eval_options *o = &j->options->rows;
    char hash[17], *text = NULL;
    json_t *d = json_object();
    app_data_hash(j->app, hash);
    json_object_set_new(d, "kind", json_string("teacher states"));
    json_object_set_new(d, "model", json_string(j->lm->identity));
    json_object_set_new(d, "adapter",
                        *j->lm->adapter_identity ? json_string(j->lm->adapter_identity)
                                                 : json_null());
    lineage_add_made_of(d, j->lm);
    app_chat_json(d, j->lm);
    json_object_set_new(d, "data", json_string(hash));
    json_object_set_new(d, "protocol", json_string(siren_protocol_name(j->app->meta.protocol)));
    json_object_set_new(d, "split", json_string(o->split));
    if (o->fold >= 0) json_object_set_new(d, "fold", json_integer(o->fold));
    json_object_set_new(d, "rows", json_integer((json_int_t)j->n));
    json_object_set_new(d, "seed", json_integer((json_int_t)o->seed));
    app_numerics_json(d, j->lm->engine);
    json_object_set_new(d, "predict", app_options_json(&j->predict));
    app_json_text(d, JSON_COMPACT | JSON_SORT_KEYS, &text, NULL);
    return text;
}

/* As a training makes its folder: with those on the way to it. */
static int make_folder_of(const char *path, struct siren_error *err)
{
    char *folder = path_folder(path);
    int rc = folder ? siren_folder_make(folder, err) : siren_fail_memory(err, "a path", 0);
    free(folder);
    return rc;
}

static int open_writer(struct job *j, const char *path, struct siren_error *err)
{
    const struct siren_config *c = siren_model_config(j->lm->model);
    struct siren_teacher_shape shape = {.n_layers = c->n_layers,
                                        .d = c->d_model,
                                        .n_labels = siren_scale_labels(&j->app->meta.scale),
                                        .encoding = j->options->encoding};
    char *text = description(j);
    int rc = text ? make_folder_of(path, err) : siren_fail_memory(err, "a description", 0);
    if (!rc) rc = siren_teacher_writer_open(&j->writer, path, &shape, text, err);
    free(text);
    if (rc) return rc;
    j->state_floats = (size_t)c->n_layers * (size_t)c->d_model;
    j->n_before = siren_teacher_writer_rows(j->writer);
    return 0;
}

/* ---- a batch ---- */

static void clear_rows(struct rows *r)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->prompts) siren_prompt_ids_clear(&r->prompts[i]);
        if (r->rollouts) rollout_clear(&r->rollouts[i]);
    }
    free(r->prompts);
    free(r->starts);
    free(r->rollouts);
    free(r->states);
    free(r->values);
}

static int make_prompt(const struct job *j, const struct siren_target *target,
                       struct siren_prompt_ids *out, struct siren_error *err)
{
    struct siren_target_input in;
    int rc = siren_target_input(j->app, target, &j->predict, &in, err);
    if (rc) return rc;
    rc = siren_prompt_encode(out, j->lm->tokenizer, j->lm->chat, &in.input, &j->predict.strategy,
                             SIREN_COT, j->predict.prompt_limit, err);
    siren_target_input_clear(&in);
    return rc;
}

/* A row that cannot be taught is found now, and not behind hours of others. */
static int check_prompts(const struct job *j, struct siren_error *err)
{
    struct rollout_room room;
    char row[256];
    int rc = rollout_room_find(&room, j->lm, &j->readout, err);
    for (size_t i = 0; i < j->n && !rc; i++) {
        struct siren_prompt_ids prompt = {0};
        rc = make_prompt(j, &j->targets[i], &prompt, err);
        if (!rc) rc = rollout_room_check(&room, prompt.n_ids, err);
        siren_prompt_ids_clear(&prompt);
        if (!rc) continue;
        app_describe_target(j->app, &j->targets[i], row, sizeof row);
        siren_fail_prefix(err, rc, "%s", row);
    }
    return rc;
}

static int make_rows(const struct job *j, struct rows *r, size_t from, size_t n,
                     struct siren_error *err)
{
    *r = (struct rows){.n = n,
                       .targets = j->targets + from,
                       .prompts = alloc_zeroed(n, sizeof *r->prompts),
                       .starts = alloc_zeroed(n, sizeof *r->starts),
                       .rollouts = alloc_zeroed(n, sizeof *r->rollouts),
                       .states = alloc_zeroed(n, sizeof *r->states),
                       .values = alloc_array(n * j->state_floats, sizeof *r->values)};
    if (!r->prompts || !r->starts || !r->rollouts || !r->states || !r->values)
        return siren_fail_memory(err, "the rows of a batch", n * j->state_floats * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        int rc = make_prompt(j, &r->targets[i], &r->prompts[i], err);
        if (rc) return rc;
        r->starts[i] = (struct rollout_prompt){r->prompts[i].ids, r->prompts[i].n_ids,
                                               app_stream(&r->targets[i])};
    }
    return 0;
}

static int reason_rows(const struct job *j, struct rows *r, const struct siren_progress *progress,
                       struct siren_error *err)
{
    struct rollout_options o = {
        .sampling = j->predict.sampling, .samples = 1, .readout = &j->readout, .batch = (int)r->n};
    return rollouts_write(j->lm, &j->app->meta.scale, r->starts, r->n, &o, r->rollouts, progress,
                          err);
}

static int read_states(const struct job *j, struct rows *r, struct siren_error *err)
{
    for (size_t i = 0; i < r->n; i++)
        r->states[i] =
            (struct siren_states){.prompt = {r->rollouts[i].query, r->rollouts[i].n_query},
                                  .states = r->values + i * j->state_floats};
    return siren_states_many(j->lm->session, r->states, r->n, NULL, err);
}

/* The states are those behind the first "<answer>", the number is the last one's: with several
 * they are not of one answer. */
static int answers_once(const struct rollout *t)
{
    static const char opening[] = "<answer>";
    const char *first = strstr(t->text, opening);
    return first && !strstr(first + 1, opening);
}

static int write_row(const struct job *j, const struct rows *r, size_t i, struct siren_error *err)
{
    const struct rollout *t = &r->rollouts[i];
    size_t n_prompt = r->prompts[i].n_ids;
    float scores[SIREN_MAX_LABELS];
    struct siren_teacher_row row = {.user = r->targets[i].user,
                                    .item = r->targets[i].item,
                                    .rating = j->app->ratings.rating[r->targets[i].row],
                                    .number =
                                        t->reading.has_number ? (float)t->reading.rating : NAN,
                                    .scores = scores,
                                    .n_ids = t->n_query - n_prompt};
    for (int k = 0; k < j->readout.n; k++) scores[k] = (float)t->labels[k];
    if (t->reading.has_number && answers_once(t)) row.flags |= SIREN_TEACHER_NUMBER;
    if (t->reading.format) row.flags |= SIREN_TEACHER_FORMAT;
    int rc = siren_teacher_write(j->writer, &row, t->query + n_prompt,
                                 r->values + i * j->state_floats, err);
    if (rc != SIREN_ENUMERIC) return rc;
    char text[256];
    app_describe_target(j->app, &r->targets[i], text, sizeof text);
    return siren_fail_prefix(err, rc, "%s", text);
}

static int teach_batch(struct job *j, size_t from, size_t n, const struct siren_progress *progress,
                       struct siren_error *err)
{
    struct rows r;
    int rc = make_rows(j, &r, from, n, err);
    siren_session_hold(j->lm->session);
    if (!rc) rc = reason_rows(j, &r, progress, err);
    if (!rc) rc = read_states(j, &r, err);
    siren_session_release(j->lm->session);
    for (size_t i = 0; i < n && !rc; i++) rc = write_row(j, &r, i, err);
    if (!rc) rc = siren_teacher_writer_sync(j->writer, err);
    clear_rows(&r);
    return rc;
}

static int teach_all(struct job *j, const struct siren_progress *progress, struct siren_error *err)
{
    size_t batch = j->options->batch > 0 ? (size_t)j->options->batch : SIREN_GENERATION_BATCH;
    int rc = 0;
    for (size_t at = j->n_before; at < j->n && !rc; at += batch) {
        size_t n = j->n - at < batch ? j->n - at : batch;
        struct app_part part = {progress, "rows", at, n, j->n};
        struct siren_progress inner = app_part_progress(&part);
        rc = teach_batch(j, at, n, &inner, err);
        if (!rc && siren_progress_update(progress, "rows", at + n, j->n) && at + n < j->n)
            rc = siren_fail(err, SIREN_ECANCEL, "stopped after %zu of %zu rows", at + n, j->n);
    }
    return rc;
}

/* ---- the report ---- */

static int summarise(const char *path, struct teach_report *report, struct siren_error *err)
{
    struct siren_teacher *t;
    struct siren_map map;
    double off = 0;
    int rc = siren_teacher_open(&t, path, err);
    if (rc) return rc;
    report->n = siren_teacher_rows(t);
    for (size_t i = 0; i < report->n; i++) {
        const struct siren_teacher_row *row = siren_teacher_row(t, i);
        report->tokens += (double)row->n_ids / (double)report->n;
        report->n_format += (row->flags & SIREN_TEACHER_FORMAT) != 0;
        if (!(row->flags & SIREN_TEACHER_NUMBER)) continue;
        report->n_valid++;
        report->n_exact += row->number == row->rating;
        off += fabs((double)row->number - (double)row->rating);
    }
    report->mae = report->n_valid ? off / (double)report->n_valid : NAN;
    siren_teacher_close(t);
    rc = siren_map_open(&map, path, err);
    if (rc) return rc;
    report->bytes = map.size;
    siren_map_close(&map);
    return 0;
}

static int check_options(const struct siren_lm *lm, const struct teach_options *o,
                         struct siren_error *err)
{
    if (!lm->engine) return siren_fail(err, SIREN_EINVAL, "teacher states need a model of our own");
    if (!lm->chat) return siren_fail(err, SIREN_EINVAL, "the model has no chat template");
    if (o->rows.predict.strategy.flags & SIREN_WITH_PROFILE)
        return siren_fail(err, SIREN_EINVAL,
                          "a teacher's prompts cannot hold profiles: take another strategy");
    return 0;
}

int app_teach(struct siren_app *app, struct siren_lm *lm, const struct teach_options *options,
              const char *path, struct teach_report *report, const struct siren_progress *progress,
              struct siren_error *err)
{
    struct job j = {.app = app, .lm = lm, .options = options, .predict = options->rows.predict};
    double start = clock_seconds();
    int rc = check_options(lm, options, err);
    *report = (struct teach_report){.mae = NAN};
    if (rc) return rc;
    j.predict.mode = SIREN_COT;
    j.predict.samples = 1;
    j.predict.sampling.temperature = 0;
    rc = siren_readout_create(&j.readout, lm->tokenizer, &app->meta.scale, err);
    if (!rc) rc = siren_eval_targets(app, &options->rows, &j.targets, &j.n, err);
    if (!rc) rc = check_prompts(&j, err);
    if (!rc) rc = open_writer(&j, path, err);
    if (!rc) {
        rc = teach_all(&j, progress, err);
        report->n_before = j.n_before;
        if (rc)
            siren_teacher_writer_close(j.writer);
        else
            rc = siren_teacher_writer_finish(j.writer, err);
    }
    if (!rc) rc = summarise(path, report, err);
    report->seconds = clock_seconds() - start;
    siren_readout_clear(&j.readout);
    free(j.targets);
    return rc;
}
