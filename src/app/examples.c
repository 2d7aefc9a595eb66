#include "app/examples.h"

#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "recs/rationale.h"

struct maker {
    const struct siren_app *app;
    const struct siren_lm *lm;
    const struct siren_predict_options *options;
    struct siren_readout readout;
    uint64_t seed;
    int32_t stop; /* ends the turn; -1: the model has none */
};

/* The sketch's entry for the candidate's (nearest) topic; names are the workspace's own. */
static const struct siren_prompt_topic *topic_of(const struct siren_app *app, int item,
                                                 const struct siren_prompt_input *in)
{
    int topic = item >= 0 && item < app->topics.n ? app->topics.topic[item] : -1;
    if (topic < 0) return NULL;
    for (size_t i = 0; i < in->n_liked; i++)
        if (in->liked[i].name == app->topic_names[topic]) return &in->liked[i];
    for (size_t i = 0; i < in->n_disliked; i++)
        if (in->disliked[i].name == app->topic_names[topic]) return &in->disliked[i];
    return NULL;
}

static int join_response(struct example *e, const struct siren_prompt_ids *prompt,
                         const int32_t *response, size_t n_response, int32_t stop,
                         struct siren_error *err)
{
    size_t n = prompt->n_ids + n_response + (stop >= 0);
    e->ids = alloc_array(n, sizeof *e->ids);
    if (!e->ids) return siren_fail_memory(err, "a training example", n * sizeof *e->ids);
    memcpy(e->ids, prompt->ids, prompt->n_ids * sizeof *e->ids);
    memcpy(e->ids + prompt->n_ids, response, n_response * sizeof *e->ids);
    if (stop >= 0) e->ids[n - 1] = stop;
    e->n_prompt = prompt->n_ids;
    e->n_ids = n;
    return 0;
}

/* The first n tokens of a response are those of its first `bytes` bytes. */
static int tokens_of(const struct maker *m, const char *response, size_t bytes, const int32_t *ids,
                     size_t n_ids, size_t *n, struct siren_error *err)
{
    int32_t *head;
    int rc = siren_tokenizer_encode(m->lm->tokenizer, response, bytes, SIREN_ENCODE_PLAIN, &head, n,
                                    err);
    if (rc) return rc;
    if (*n > n_ids || memcmp(head, ids, *n * sizeof *ids) != 0) *n = 0;
    free(head);
    return 0;
}

static int find_answer(const struct maker *m, struct example *e, const char *response,
                       const int32_t *ids, size_t n_ids, struct siren_error *err)
{
    const char *open = strstr(response, "<answer>"), *close = strstr(response, "</answer>");
    size_t from = 0, to = 0;
    if (!open || !close) return 0;
    int rc = tokens_of(m, response, (size_t)(open - response) + strlen("<answer>"), ids, n_ids,
                       &from, err);
    if (!rc) rc = tokens_of(m, response, (size_t)(close - response), ids, n_ids, &to, err);
    if (rc || !from || to <= from) return rc;
    e->answer = e->n_prompt + from;
    e->n_answer = to - from;
    return 0;
}

static int add_rationale(const struct maker *m, struct example *e,
                         const struct siren_target_input *in, const struct siren_prompt_ids *prompt,
                         struct siren_error *err)
{
    struct rationale_input what = {.prompt = &in->input,
                                   .strategy = &m->options->strategy,
                                   .n_cut = prompt->n_cut,
                                   .topic = topic_of(m->app, e->target.item, &in->input),
                                   .rating = e->rating};
    uint64_t row = (uint64_t)(uint32_t)e->target.user << 32 | (uint32_t)e->target.item;
    struct rationale r;
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = rationale_write(&r, &what, m->seed, row, err);
    if (!rc)
        rc = siren_tokenizer_encode(m->lm->tokenizer, r.text + r.response,
                                    strlen(r.text + r.response), SIREN_ENCODE_PLAIN, &ids, &n, err);
    if (!rc) rc = join_response(e, prompt, ids, n, m->stop, err);
    if (!rc) rc = find_answer(m, e, r.text + r.response, ids, n, err);
    free(ids);
    rationale_clear(&r);
    return rc;
}

/* The rating as a label; what stands in the workspace is a float. */
static int read_truth(const struct maker *m, struct example *e, struct siren_error *err)
{
    const struct siren_ratings *ratings = &m->app->ratings;
    if (e->target.row >= ratings->n)
        return siren_fail(err, SIREN_EINVAL, "a training example needs a row of the ratings");
    e->rating = ratings->rating[e->target.row];
    e->label = siren_scale_exact_label(&m->app->meta.scale, e->rating);
    if (e->label < 0)
        return siren_fail(err, SIREN_EINVAL, "row %zu: a rating of %g is no label of the scale",
                          e->target.row, e->rating);
    return 0;
}

/* All but the last token take a position. */
static int check_length(const struct maker *m, const struct example *e, struct siren_error *err)
{
    size_t most = (size_t)siren_model_config(m->lm->model)->max_positions, n = e->n_ids;
    char row[256];
    if (m->options->mode == SIREN_AO) n = e->n_prompt + siren_readout_longest(&m->readout);
    if (n <= most + 1) return 0;
    app_describe_target(m->app, &e->target, row, sizeof row);
    return siren_fail(err, SIREN_EINVAL,
                      "%s: a prompt of %zu tokens and an answer of %zu, but the model was made for "
                      "%zu; expected a lower --prompt-limit",
                      row, e->n_prompt, n - e->n_prompt, most);
}

static int make_example(const struct maker *m, struct example *e, struct siren_error *err)
{
    const struct siren_predict_options *o = m->options;
    struct siren_target_input in;
    struct siren_prompt_ids prompt = {0};
    int rc = read_truth(m, e, err);
    if (!rc) rc = siren_target_input(m->app, &e->target, o, &in, err);
    if (rc) return rc;
    rc = siren_prompt_encode(&prompt, m->lm->tokenizer, m->lm->chat, &in.input, &o->strategy,
                             o->mode, o->prompt_limit, err);
    if (!rc && o->mode == SIREN_COT) rc = add_rationale(m, e, &in, &prompt, err);
    if (!rc && o->mode == SIREN_AO) {
        const struct siren_tokens *label = &m->readout.tokens[e->label];
        rc = join_response(e, &prompt, label->ids, label->n_ids, -1, err);
    }
    if (!rc && m->lm->model) rc = check_length(m, e, err);
    siren_prompt_ids_clear(&prompt);
    siren_target_input_clear(&in);
    return rc;
}

/* What the template writes at the end of the assistant's turn; else the end of the text. */
static int32_t end_of_turn(const struct siren_lm *lm)
{
    const char *const *texts = siren_chat_stops(lm->chat);
    int32_t id = texts && *texts ? siren_tokenizer_id(lm->tokenizer, *texts) : -1;
    return id >= 0 ? id : siren_tokenizer_eos(lm->tokenizer);
}

static int check_options(const struct siren_lm *lm, const struct siren_predict_options *o,
                         struct siren_error *err)
{
    if (!lm->chat) return siren_fail(err, SIREN_EINVAL, "the model has no chat template");
    if (o->mode != SIREN_AO && o->mode != SIREN_COT)
        return siren_fail(err, SIREN_EINVAL, "training examples are answer only or reasoned");
    if (o->strategy.flags & SIREN_WITH_PROFILE)
        return siren_fail(err, SIREN_EINVAL,
                          "training examples cannot hold profiles: take another strategy");
    return 0;
}

int examples_create(struct examples *out, const struct siren_app *app, const struct siren_lm *lm,
                    const struct siren_target *targets, size_t n,
                    const struct siren_predict_options *options, uint64_t seed,
                    struct siren_error *err)
{
    struct maker m = {.app = app, .lm = lm, .options = options, .seed = seed};
    *out = (struct examples){0};
    int rc = check_options(lm, options, err);
    if (rc) return rc;
    m.stop = end_of_turn(lm);
    out->list = alloc_zeroed(n + 1, sizeof *out->list);
    if (!out->list) return siren_fail_memory(err, "training examples", n * sizeof *out->list);
    rc = siren_readout_create(&m.readout, lm->tokenizer, &app->meta.scale, err);
    for (size_t i = 0; i < n && !rc; i++) {
        out->list[i].target = targets[i];
        out->n = i + 1;
        rc = make_example(&m, &out->list[i], err);
    }
    siren_readout_clear(&m.readout);
    if (rc) examples_clear(out);
    return rc;
}

void examples_clear(struct examples *examples)
{
    for (size_t i = 0; i < examples->n; i++) free(examples->list[i].ids);
    free(examples->list);
    *examples = (struct examples){0};
}
