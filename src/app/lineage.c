#include "app/lineage.h"

#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "base/path.h"
#include "siren/adapter.h"
#include "siren/model.h"

enum { MOST = 64 }; /* identities: of a model, of adapters that went on from one another */

struct search {
    struct siren_app *app;
    struct trained_rows *out;
    struct siren_run *runs;
    size_t n_runs;
    uint8_t *used; /* (n_runs) */
    char identity[MOST][256];
    int n;
};

static void look_for(struct search *s, const char *identity)
{
    if (!identity || !*identity) return;
    for (int i = 0; i < s->n; i++)
        if (siren_identity_same(s->identity[i], identity)) return;
    if (s->n < MOST) snprintf(s->identity[s->n++], sizeof *s->identity, "%s", identity);
}

static void look_for_all(struct search *s, const json_t *list)
{
    size_t i;
    json_t *name;
    json_array_foreach((json_t *)list, i, name) look_for(s, json_string_value(name));
}

static int made_any(const struct search *s, const json_t *made)
{
    size_t i;
    json_t *name;
    int found = 0;
    json_array_foreach((json_t *)made, i, name)
    {
        for (int k = 0; k < s->n; k++)
            found |= siren_identity_same(json_string_value(name), s->identity[k]);
    }
    return found;
}

/* n rows of a split, as they were drawn; 0: all. */
static int mark_split(struct search *s, const struct siren_run *run, const char *split, size_t n,
                      uint8_t mark, struct siren_error *err)
{
    struct siren_eval_options o = siren_eval_defaults();
    struct siren_target *targets;
    o.split = split;
    o.seed = run->seed;
    o.limit = n;
    int rc = siren_eval_targets(s->app, &o, &targets, &n, err);
    if (rc) return rc == SIREN_ENOTFOUND ? 0 : rc; /* forgotten since */
    if (!s->out->row) s->out->row = alloc_zeroed(s->app->ratings.n + 1, 1);
    if (!s->out->row) rc = siren_fail_memory(err, "the rows of a training", s->app->ratings.n);
    for (size_t i = 0; i < n && !rc; i++) s->out->row[targets[i].row] |= mark;
    free(targets);
    return rc;
}

static size_t rows_in(const json_t *settings, const char *key)
{
    return (size_t)json_integer_value(json_object_get(settings, key));
}

/* Of a teacher's file the rows were chosen otherwise: all that it could have. */
static int mark_rows(struct search *s, const struct siren_run *run, const json_t *settings,
                     struct siren_error *err)
{
    const char *split = json_string_value(json_object_get(settings, "split"));
    const char *chosen = json_string_value(json_object_get(settings, "eval_split"));
    size_t n = json_object_get(settings, "teacher") ? 0 : rows_in(settings, "rows"),
           n_chosen = rows_in(settings, "eval_rows");
    if (!split || json_object_get(settings, "fold")) return 0;
    int rc = mark_split(s, run, split, n, LINEAGE_TRAINED, err);
    if (run->id > s->out->run) s->out->run = run->id;
    if (rc || !chosen || !n_chosen) return rc;
    if (run->id > s->out->chosen_run) s->out->chosen_run = run->id;
    return mark_split(s, run, chosen, n_chosen, LINEAGE_CHOSEN_ON, err);
}

/* 1: the run made something of what is looked for. */
static int follow_run(struct search *s, size_t i, struct siren_error *err)
{
    const struct siren_run *run = &s->runs[i];
    if (s->used[i] || !*run->metrics) return 0;
    json_t *metrics = json_loads(run->metrics, 0, NULL), *whole = NULL, *settings;
    /* Runs stored by earlier builds have both among what the training came to. */
    const json_t *before = json_object_get(metrics, "training");
    int found = made_any(s, json_object_get(metrics, "made")) ||
                made_any(s, json_object_get(before, "made")),
        rc = 0;
    if (found) {
        whole = json_loads(run->settings, 0, NULL);
        settings = json_object_get(whole, "run");
        s->used[i] = 1;
        look_for(s, json_string_value(json_object_get(settings, "model")));
        look_for(s,
                 json_string_value(json_object_get(json_object_get(settings, "adapter"), "start")));
        look_for_all(s, json_object_get(metrics, "made_of"));
        look_for_all(s, json_object_get(before, "made_of"));
        look_for_all(s, json_object_get(metrics, "taught_by"));
        rc = mark_rows(s, run, settings, err);
    }
    json_decref(whole);
    json_decref(metrics);
    return rc ? rc : found;
}

static int follow_runs(struct search *s, struct siren_error *err)
{
    int more = 1;
    while (more > 0) {
        more = 0;
        for (size_t i = s->n_runs; i-- > 0;) {
            int found = follow_run(s, i, err);
            if (found < 0) return found;
            more |= found;
        }
    }
    return 0;
}

int lineage_trained_rows(struct trained_rows *out, struct siren_app *app, const char *settings,
                         struct siren_error *err)
{
    struct search s = {.app = app, .out = out};
    json_t *j = json_loads(settings, 0, NULL);
    *out = (struct trained_rows){0};
    look_for(&s, json_string_value(json_object_get(j, "model")));
    look_for(&s, json_string_value(json_object_get(j, "adapter")));
    look_for_all(&s, json_object_get(j, "made_of"));
    int known = !json_object_get(j, "fold") && s.n;
    json_decref(j);
    if (!known) return 0;
    int rc = siren_runs_load(&s.runs, &s.n_runs, app->ws, NULL, err);
    if (rc) return rc;
    s.used = alloc_zeroed(s.n_runs + 1, 1);
    rc = s.used ? follow_runs(&s, err) : siren_fail_memory(err, "runs", s.n_runs);
    free(s.used);
    siren_runs_free(s.runs, s.n_runs);
    if (rc) trained_rows_clear(out);
    return rc;
}

void trained_rows_clear(struct trained_rows *trained)
{
    free(trained->row);
    *trained = (struct trained_rows){0};
}

int trained_rows_marks(const struct trained_rows *trained, const struct siren_app *app, int user,
                       int item)
{
    size_t row = trained->row ? siren_ratings_row(&app->ratings, user, item) : SIZE_MAX;
    return row == SIZE_MAX ? 0 : trained->row[row];
}

/* ---- what a training made ---- */

void lineage_add_made(json_t *metrics, const char *identity)
{
    json_t *list = json_object_get(metrics, "made"), *name;
    size_t i;
    if (!json_is_array(list)) {
        json_object_set_new(metrics, "made", json_array());
        list = json_object_get(metrics, "made");
    }
    json_array_foreach(list, i, name)
    {
        if (siren_identity_same(json_string_value(name), identity)) return;
    }
    json_array_append_new(list, app_text(identity));
}

static void add_adapter(json_t *metrics, const char *path, const struct siren_lm *lm)
{
    struct siren_adapter *adapter;
    char identity[256];
    if (siren_adapter_load(&adapter, path, lm->model, NULL)) return; /* there is none */
    siren_adapter_identity(adapter, path, identity);
    siren_adapter_free(adapter);
    if (!siren_identity_same(identity, lm->adapter_identity)) lineage_add_made(metrics, identity);
}

static void add_model(json_t *metrics, const char *path)
{
    char identity[256];
    if (!siren_model_identity(path, identity, NULL)) lineage_add_made(metrics, identity);
}

void lineage_add_folder(json_t *metrics, const char *folder, int full, const struct siren_lm *lm)
{
    static const char *const names[] = {"adapter", "last"};
    for (int i = 0; i < (full ? 1 : 2); i++) {
        char *path = path_join(folder, full ? "model" : names[i]);
        if (!path) break;
        if (full)
            add_model(metrics, path);
        else
            add_adapter(metrics, path, lm);
        free(path);
    }
}

void lineage_add_made_of(json_t *object, const struct siren_lm *lm)
{
    char name[2][256];
    json_t *list = json_array();
    if (lm->model && !siren_model_made_of(siren_model_path(lm->model), name[0], name[1], NULL))
        for (int i = 0; i < 2; i++)
            if (*name[i]) json_array_append_new(list, json_string(name[i]));
    if (json_array_size(list)) json_object_set(object, "made_of", list);
    json_decref(list);
}
