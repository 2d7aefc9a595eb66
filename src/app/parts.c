/* What the jobs share: time, progress of parts, settings and answers as JSON. */
#include "app/parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "siren/calibration.h"

int app_is_finite(const float *v, int d)
{
    for (int i = 0; i < d; i++)
        if (!isfinite(v[i])) return 0;
    return 1;
}

static int part_update(void *context, const char *what, uint64_t done, uint64_t total)
{
    const struct app_part *p = context;
    double share = total ? (double)done / (double)total : 0;
    return siren_progress_update(p->outer, p->what, p->from + (uint64_t)(share * (double)p->n),
                                 p->total);
}

struct siren_progress app_part_progress(struct app_part *part)
{
    return (struct siren_progress){part_update, part};
}

json_t *app_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *app_text(const char *text)
{
    struct buf repaired = {0};
    json_t *value = text ? json_string(text) : json_null();
    if (value) return value;
    utf8_repair(&repaired, text, strlen(text));
    value = json_string(buf_text(&repaired));
    buf_free(&repaired);
    return value;
}

int app_json_text(json_t *object, size_t flags, char **text, struct siren_error *err)
{
    *text = object ? json_dumps(object, flags) : NULL;
    json_decref(object);
    return *text ? 0 : siren_fail_memory(err, "a JSON text", 0);
}

/* ---- settings ---- */

void app_chat_json(json_t *object, const struct siren_lm *lm)
{
    const char *const *stops = lm->chat ? siren_chat_stops(lm->chat) : NULL;
    int32_t end = siren_tokenizer_eos(lm->tokenizer);
    json_object_set_new(object, "chat_template",
                        json_string(lm->chat ? siren_chat_name(lm->chat) : ""));
    for (; end >= 0 && stops && *stops; stops++)
        if (siren_tokenizer_id(lm->tokenizer, *stops) == end) return;
    if (end >= 0) json_object_set_new(object, "end_of_text", json_integer(end));
}

json_t *app_lm_json(const struct siren_lm *lm)
{
    json_t *j = json_object();
    json_object_set_new(j, "model", json_string(lm->identity));
    app_chat_json(j, lm);
    /* f32 and no adapter are not named: runs that were begun before there was a choice go on. */
    if (*lm->adapter_identity) json_object_set_new(j, "adapter", json_string(lm->adapter_identity));
    if (!lm->engine || !strcmp(siren_engine_compute(lm->engine), "f32")) return j;
    /* The mode by itself: a calibration looks at that alone (calibration_belongs()). */
    json_object_set_new(j, "compute", json_string(siren_engine_compute(lm->engine)));
    if (app_sums_on_amx(lm->engine)) json_object_set_new(j, "sums", json_string("AMX"));
    json_object_set_new(j, "numerics", json_integer(SIREN_NUMERICS));
    return j;
}

int app_sums_on_amx(const struct siren_engine *engine)
{
    return !strcmp(siren_engine_compute(engine), "bf16") &&
           !strcmp(siren_engine_isa(engine), "amx");
}

const char *app_sums(const struct siren_engine *engine)
{
    return app_sums_on_amx(engine) ? "bf16 on AMX" : siren_engine_compute(engine);
}

void app_numerics_json(json_t *object, const struct siren_engine *engine)
{
    json_object_set_new(object, "compute", json_string(app_sums(engine)));
    json_object_set_new(object, "numerics", json_integer(SIREN_NUMERICS));
}

json_t *app_options_json(const struct siren_predict_options *o)
{
    char strategy[96];
    json_t *j = json_object();
    siren_strategy_name(&o->strategy, strategy);
    json_object_set_new(j, "strategy", json_string(strategy));
    json_object_set_new(j, "recent", json_integer(o->strategy.n_recent));
    json_object_set_new(j, "more", json_integer(o->strategy.n_more));
    json_object_set_new(j, "digits", json_integer(o->strategy.n_digits));
    json_object_set_new(j, "mode", json_string(o->mode == SIREN_AO ? "answer" : "reason"));
    json_object_set_new(j, "sketch_rule",
                        json_string(o->rule == SIREN_RULE_MEAN ? "mean" : "majority"));
    json_object_set_new(j, "sketch_decay", json_boolean(o->decay));
    json_object_set_new(j, "sketch_support", json_real(o->min_support));
    if (o->swap_sketch)
        json_object_set_new(j, "sketch_of_another", json_integer((json_int_t)o->swap_seed));
    if (o->gap) json_object_set_new(j, "gap", json_integer((json_int_t)o->gap));
    json_object_set_new(
        j, "prompt_limit",
        json_integer((json_int_t)(o->prompt_limit ? o->prompt_limit : SIREN_PROMPT_LIMIT)));
    if (o->calibration) {
        char hash[17];
        siren_calibration_hash(o->calibration, hash);
        json_object_set_new(j, "calibration", json_string(hash));
    }
    if (o->mode == SIREN_AO) return j;
    /* Only where asked for: runs stored before there were samples go on under their settings. */
    if (o->samples) json_object_set_new(j, "samples", json_integer(o->samples));
    json_object_set_new(j, "fallback", app_real(o->fallback));
    json_object_set_new(j, "temperature", json_real(o->sampling.temperature));
    json_object_set_new(j, "top_p", json_real(o->sampling.top_p));
    json_object_set_new(j, "top_k", json_integer(o->sampling.top_k));
    json_object_set_new(j, "max_tokens", json_integer(o->sampling.max_tokens));
    json_object_set_new(j, "sampling_seed", json_integer((json_int_t)o->sampling.seed));
    return j;
}

void app_describe_target(const struct siren_app *app, const struct siren_target *target, char *text,
                         size_t size)
{
    int old_user = target->user >= 0, old_item = target->item >= 0;
    snprintf(text, size, "%s%s, %s%s", old_user ? "user " : "a new user",
             old_user ? app->users.external[target->user] : "", old_item ? "item " : "a new item",
             old_item ? app->items.item[target->item].external : "");
}

int app_check_scores(const struct siren_app *app, const struct siren_target *target,
                     const struct siren_readout *readout, const double *logprobs,
                     struct siren_error *err)
{
    char text[200];
    for (int k = 0; k < readout->n; k++) {
        if (!isnan(logprobs[k])) continue;
        app_describe_target(app, target, text, sizeof text);
        return siren_fail(err, SIREN_ENUMERIC, "%s: the score of label %s is nan", text,
                          readout->labels[k]);
    }
    return 0;
}

int app_use_fold(struct siren_app *app, int fold, uint64_t seed, struct siren_error *err)
{
    const struct siren_ratings *r = &app->ratings;
    if (fold >= 0 && r->current_fold == fold && r->fold_seed == seed) return 0;
    return siren_ratings_use_fold(&app->ratings, fold, 0.1, seed, err);
}

void app_data_hash(const struct siren_app *app, char text[17])
{
    const struct siren_ratings *r = &app->ratings;
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, r->user, r->n * sizeof *r->user);
    XXH3_64bits_update(&state, r->item, r->n * sizeof *r->item);
    XXH3_64bits_update(&state, r->rating, r->n * sizeof *r->rating);
    XXH3_64bits_update(&state, r->time, r->n * sizeof *r->time);
    XXH3_64bits_update(&state, r->label, r->n * sizeof *r->label);
    for (int i = 0; i < app->items.n; i++)
        XXH3_64bits_update(&state, &app->items.item[i].hash, sizeof app->items.item[i].hash);
    if (app->topics.k)
        XXH3_64bits_update(&state, app->topics.topic,
                           (size_t)app->topics.n * sizeof *app->topics.topic);
    if (app->soft) {
        size_t n = (size_t)app->topics.n;
        XXH3_64bits_update(&state, app->topics.distance, n * sizeof *app->topics.distance);
        XXH3_64bits_update(&state, app->topics.second, n * sizeof *app->topics.second);
        XXH3_64bits_update(&state, app->topics.second_distance,
                           n * sizeof *app->topics.second_distance);
    }
    XXH3_64bits_update(&state, app->meta.noun, strlen(app->meta.noun) + 1);
    const double scale[] = {app->meta.scale.min, app->meta.scale.max, app->meta.scale.step};
    XXH3_64bits_update(&state, scale, sizeof scale);
    for (int u = 0; u < app->users.n; u++) /* by which a user is of half A or B */
        XXH3_64bits_update(&state, app->users.external[u], strlen(app->users.external[u]) + 1);
    for (int k = 0; k < app->topics.k; k++)
        XXH3_64bits_update(&state, app->topic_names[k], strlen(app->topic_names[k]) + 1);
    snprintf(text, 17, "%016llx", (unsigned long long)XXH3_64bits_digest(&state));
}

/* ---- answers ---- */

struct siren_prediction app_prediction(const struct siren_app *app,
                                       const struct siren_target *target,
                                       const struct siren_answer *answer, int64_t row,
                                       float *probabilities, float *logprobs)
{
    for (int k = 0; k < answer->n_labels; k++) {
        probabilities[k] = (float)answer->probabilities[k];
        logprobs[k] = (float)answer->logprobs[k];
    }
    return (struct siren_prediction){
        .row = row,
        .user = target->user,
        .item = target->item,
        .truth = target->row == SIREN_NO_ROW ? NAN : app->ratings.rating[target->row],
        .n_labels = answer->n_labels,
        .probabilities = answer->n_labels ? probabilities : NULL,
        .logprobs = answer->n_labels ? logprobs : NULL,
        .argmax = answer->argmax,
        .mean = answer->mean,
        .median = answer->median,
        .outside = answer->outside,
        .tokens_in = answer->tokens_in,
        .tokens_out = answer->tokens_out,
        .tokens_cached = answer->tokens_cached,
        .latency_ms = answer->latency_ms,
        .invalid = answer->invalid,
        .text = answer->text,
    };
}

static json_t *faults_json(const struct siren_answer *a)
{
    json_t *faults = json_object();
    for (int k = 0; k < SIREN_FAULTS; k++)
        if (a->faults[k])
            json_object_set_new(faults, siren_fault_name((enum siren_answer_fault)k),
                                json_integer(a->faults[k]));
    return faults;
}

char *app_reasoning_json(const struct siren_answer *a)
{
    json_t *j;
    char *text = NULL;
    if (!a->samples) return NULL;
    j = json_object();
    json_object_set_new(j, "texts", json_integer(a->samples));
    json_object_set_new(j, "in_format", json_integer(a->in_format));
    json_object_set_new(j, "unreadable", json_integer(a->unreadable));
    json_object_set_new(j, "number", app_real(a->number));
    json_object_set_new(j, "faults", faults_json(a));
    app_json_text(j, JSON_COMPACT, &text, NULL);
    return text;
}

unsigned app_notes(const struct siren_target *t, size_t n_history, int n_cut)
{
    return (t->user < 0 ? SIREN_NOTE_NEW_USER : 0) | (n_history ? 0 : SIREN_NOTE_NO_HISTORY) |
           (t->item < 0 ? SIREN_NOTE_NEW_ITEM : 0) |
           (t->row != SIREN_NO_ROW ? SIREN_NOTE_RATED : 0) | (n_cut ? SIREN_NOTE_CUT : 0);
}

json_t *app_notes_json(unsigned notes)
{
    static const struct {
        unsigned note;
        const char *name;
    } names[] = {{SIREN_NOTE_NEW_USER, "unknown user"},
                 {SIREN_NOTE_NO_HISTORY, "no history"},
                 {SIREN_NOTE_NEW_ITEM, "unknown item"},
                 {SIREN_NOTE_RATED, "rated already"},
                 {SIREN_NOTE_CUT, "history cut to fit the prompt"}};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (notes & names[i].note) json_array_append_new(list, json_string(names[i].name));
    return list;
}

static json_t *distribution_json(const struct siren_app *app, const struct siren_answer *a)
{
    json_t *p = json_object();
    for (int k = 0; k < a->n_labels; k++) {
        char label[24];
        siren_scale_text(&app->meta.scale, k, label);
        json_object_set_new(p, label, app_real(a->probabilities[k]));
    }
    return p;
}

static json_t *target_json(const struct siren_app *app, const struct siren_target *t)
{
    json_t *j = json_object();
    const struct siren_item *item = t->item >= 0 ? &app->items.item[t->item] : NULL;
    json_object_set_new(j, "user",
                        t->user >= 0 ? json_string(app->users.external[t->user]) : json_null());
    json_object_set_new(j, "item", item ? json_string(item->external) : json_null());
    json_object_set_new(j, "title",
                        item       ? json_string(item->title)
                        : t->title ? json_string(t->title)
                                   : json_null());
    if (t->row != SIREN_NO_ROW)
        json_object_set_new(j, "rated", app_real(app->ratings.rating[t->row]));
    return j;
}

int siren_answer_json(const struct siren_app *app, const struct siren_target *t,
                      const struct siren_answer *a, char **json, struct siren_error *err)
{
    json_t *j = target_json(app, t);
    if (!a) return app_json_text(j, JSON_COMPACT, json, err);
    if (a->n_labels) json_object_set_new(j, "probabilities", distribution_json(app, a));
    json_object_set_new(j, "argmax", app_real(a->argmax));
    json_object_set_new(j, "mean", app_real(a->mean));
    json_object_set_new(j, "median", app_real(a->median));
    json_object_set_new(j, "outside", app_real(a->outside));
    json_object_set_new(j, "invalid", json_boolean(a->invalid));
    json_object_set_new(j, "tokens_in", json_integer(a->tokens_in));
    json_object_set_new(j, "tokens_out", json_integer(a->tokens_out));
    json_object_set_new(j, "tokens_cached", json_integer(a->tokens_cached));
    json_object_set_new(j, "latency_ms", app_real(a->latency_ms));
    json_object_set_new(j, "notes", app_notes_json(a->notes));
    if (a->samples) {
        json_object_set_new(j, "number", app_real(a->number));
        json_object_set_new(j, "samples", json_integer(a->samples));
        json_object_set_new(j, "unreadable", json_integer(a->unreadable));
        json_object_set_new(j, "in_format", json_integer(a->in_format));
        json_object_set_new(j, "faults", faults_json(a));
    }
    if (a->text) json_object_set_new(j, "text", json_string(a->text));
    return app_json_text(j, JSON_COMPACT, json, err);
}
