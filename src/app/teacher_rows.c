#include "app/teacher_rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "siren/random.h"

/* ---- what the file says of itself ---- */

static const char *text_of(const json_t *d, const char *key)
{
    const char *text = json_string_value(json_object_get(d, key));
    return text ? text : "";
}

static int expect(const char *path, const char *what, const char *found, const char *expected,
                  struct siren_error *err)
{
    if (strcmp(found, expected) == 0) return 0;
    return siren_fail(err, SIREN_EINVAL, "%s was made with another %s: \"%s\" there, \"%s\" here",
                      path, what, found, expected);
}

static int check_description(const json_t *d, const struct siren_app *app,
                             const struct siren_lm *lm, const char *path, struct siren_error *err)
{
    char hash[17];
    int rc;
    if (strcmp(text_of(d, "kind"), "teacher states") != 0 ||
        !json_is_object(json_object_get(d, "predict")))
        return siren_fail(err, SIREN_EFORMAT, "%s: its description is not that of teacher states",
                          path);
    app_data_hash(app, hash);
    rc = expect(path, "state of the workspace's ratings, items and topics", text_of(d, "data"),
                hash, err);
    if (!rc)
        rc = expect(path, "protocol", text_of(d, "protocol"),
                    siren_protocol_name(app->meta.protocol), err);
    if (!rc)
        rc = expect(path, "chat template", text_of(d, "chat_template"), siren_chat_name(lm->chat),
                    err);
    return rc;
}

static int check_shape(const struct siren_teacher_shape *s, const struct siren_app *app,
                       const struct siren_lm *lm, const char *path, struct siren_error *err)
{
    const struct siren_config *c = siren_model_config(lm->model);
    int n_labels = siren_scale_labels(&app->meta.scale);
    if (s->n_layers != c->n_layers || s->d != c->d_model)
        return siren_fail(err, SIREN_EINVAL,
                          "%s holds states of %d layers by %d; the model has %d by %d", path,
                          s->n_layers, s->d, c->n_layers, c->d_model);
    if (s->n_labels != n_labels)
        return siren_fail(err, SIREN_EINVAL, "%s holds scores of %d ratings; the scale has %d",
                          path, s->n_labels, n_labels);
    return 0;
}

static int int_of(const json_t *d, const char *key)
{
    return (int)json_integer_value(json_object_get(d, key));
}

/* The reverse of app_options_json(), for what a prompt holds. */
static int read_options(const json_t *p, const char *path, struct siren_predict_options *o,
                        struct siren_error *err)
{
    int rc;
    *o = siren_predict_defaults();
    rc = siren_strategy_parse(&o->strategy, text_of(p, "strategy"), err);
    if (rc) return siren_fail_prefix(err, SIREN_EFORMAT, "%s", path);
    o->strategy.n_recent = int_of(p, "recent");
    o->strategy.n_more = int_of(p, "more");
    o->strategy.n_digits = int_of(p, "digits");
    o->rule = strcmp(text_of(p, "sketch_rule"), "majority") ? SIREN_RULE_MEAN : SIREN_RULE_MAJORITY;
    o->decay = json_is_true(json_object_get(p, "sketch_decay"));
    o->min_support = json_number_value(json_object_get(p, "sketch_support"));
    o->gap = (size_t)int_of(p, "gap");
    o->prompt_limit = (size_t)int_of(p, "prompt_limit");
    return 0;
}

static json_t *makers_of(const json_t *d)
{
    json_t *list = json_array(), *of = json_object_get(d, "made_of");
    json_array_append_new(list, json_string(text_of(d, "model")));
    if (*text_of(d, "adapter")) json_array_append_new(list, json_string(text_of(d, "adapter")));
    if (json_is_array(of)) json_array_extend(list, of);
    return list;
}

static int read_description(struct teacher_rows *t, struct siren_app *app,
                            const struct siren_lm *lm, const char *path, struct siren_error *err)
{
    json_t *d = json_loads(siren_teacher_json(t->teacher), 0, NULL);
    const json_t *fold = json_object_get(d, "fold");
    t->fold = fold ? int_of(d, "fold") : -1;
    t->seed = (uint64_t)json_integer_value(json_object_get(d, "seed"));
    int rc = app_use_fold(app, t->fold, t->seed, err);
    if (!rc) rc = check_description(d, app, lm, path, err);
    if (!rc) rc = check_shape(siren_teacher_shape(t->teacher), app, lm, path, err);
    if (!rc) rc = read_options(json_object_get(d, "predict"), path, &t->predict, err);
    snprintf(t->name, sizeof t->name, "%.250s%s%.250s", text_of(d, "model"),
             *text_of(d, "adapter") ? " + " : "", text_of(d, "adapter"));
    snprintf(t->split, sizeof t->split, "%s", text_of(d, "split"));
    t->is_student = siren_identity_same(text_of(d, "model"), lm->identity) &&
                    siren_identity_equal(text_of(d, "adapter"), lm->adapter_identity);
    t->made_by = makers_of(d);
    json_decref(d);
    return rc;
}

/* ---- rows ---- */

static int find_target(const struct siren_ratings *r, const struct siren_teacher_row *row,
                       struct siren_target *out)
{
    *out = (struct siren_target){.user = row->user, .item = row->item};
    if (row->user < 0 || row->user >= r->n_users) return 0;
    for (size_t i = r->user_start[row->user]; i < r->user_start[row->user + 1]; i++)
        if (r->item[i] == row->item) {
            out->row = i;
            return fabs((double)r->rating[i] - (double)row->rating) < 1e-6;
        }
    return 0;
}

static int choose_rows(struct teacher_rows *t, const struct siren_app *app, const char *path,
                       const struct siren_teacher_filter *filter, struct siren_error *err)
{
    size_t n = siren_teacher_rows(t->teacher);
    t->rows = alloc_array(n + 1, sizeof *t->rows);
    t->weights = alloc_array(n + 1, sizeof *t->weights);
    t->targets = alloc_array(n + 1, sizeof *t->targets);
    if (!t->rows || !t->weights || !t->targets)
        return siren_fail_memory(err, "a teacher's rows", n * sizeof *t->targets);
    siren_teacher_select(t->teacher, filter, t->weights);
    for (size_t i = 0; i < n; i++) {
        if (!(t->weights[i] > 0)) continue;
        if (!find_target(&app->ratings, siren_teacher_row(t->teacher, i), &t->targets[t->n]))
            return siren_fail(err, SIREN_EINVAL, "%s: row %zu is no rating of the workspace", path,
                              i);
        t->weights[t->n] = t->weights[i];
        t->rows[t->n++] = i;
    }
    if (!t->n)
        return siren_fail(err, SIREN_ENOTFOUND,
                          "%s: none of its %zu rows is left: no valid answer, or none that the "
                          "filter takes",
                          path, n);
    return 0;
}

int teacher_rows_open(struct teacher_rows *out, struct siren_app *app, const struct siren_lm *lm,
                      const char *path, const struct siren_teacher_filter *filter,
                      struct siren_error *err)
{
    int rc;
    *out = (struct teacher_rows){0};
    if (!lm->chat) return siren_fail(err, SIREN_EINVAL, "the model has no chat template");
    rc = siren_teacher_open(&out->teacher, path, err);
    if (!rc) rc = read_description(out, app, lm, path, err);
    if (!rc) rc = choose_rows(out, app, path, filter, err);
    if (rc) teacher_rows_close(out);
    return rc;
}

static int by_number(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

int teacher_rows_draw(struct teacher_rows *t, size_t n, uint64_t seed, struct siren_error *err)
{
    uint64_t *order;
    if (!n || n >= t->n) return 0;
    order = alloc_array(t->n, sizeof *order);
    if (!order) return siren_fail_memory(err, "the drawn rows", t->n * sizeof *order);
    siren_random_permutation(seed, 0, t->n, order);
    qsort(order, n, sizeof *order, by_number);
    for (size_t i = 0; i < n; i++) {
        t->rows[i] = t->rows[order[i]];
        t->weights[i] = t->weights[order[i]];
        t->targets[i] = t->targets[order[i]];
    }
    t->n = n;
    free(order);
    return 0;
}

void teacher_rows_close(struct teacher_rows *t)
{
    siren_teacher_close(t->teacher);
    json_decref(t->made_by);
    free(t->rows);
    free(t->weights);
    free(t->targets);
    *t = (struct teacher_rows){0};
}

int teacher_rows_prompt(const struct teacher_rows *t, const struct siren_app *app,
                        const struct siren_lm *lm, size_t i, struct siren_prompt_ids *out,
                        struct siren_error *err)
{
    struct siren_target_input in;
    int rc = siren_target_input(app, &t->targets[i], &t->predict, &in, err);
    if (rc) return rc;
    rc = siren_prompt_encode(out, lm->tokenizer, lm->chat, &in.input, &t->predict.strategy,
                             SIREN_AO, t->predict.prompt_limit, err);
    siren_target_input_clear(&in);
    return rc;
}
