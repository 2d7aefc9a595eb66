/* What the jobs of this folder share. */
#ifndef SIREN_APP_PARTS_H
#define SIREN_APP_PARTS_H

#include <jansson.h>
#include <pthread.h>

#include "siren/app.h"
#include "siren/readout.h"

/* What took minutes or hours waits ten minutes, not seconds, for another process that writes. */
#define APP_PATIENCE_MS 600000

/* "\n<think>\n", which a prompt that ends with SIREN_COT holds already, as the answer's beginning.
 */
#define APP_THINK "<think>\n"

/* Profiles for SIREN_WITH_PROFILE: profiles[i] is malloc'ed, or NULL without any history. */
int app_profiles(struct siren_app *app, struct siren_lm *lm, const struct siren_target *targets,
                 size_t n, const struct siren_predict_options *options, char **profiles,
                 struct siren_error *err);

/* siren_predict(), but after SIREN_ECANCEL the answers with a text are whole, and the caller's. */
int app_predict(struct siren_app *app, struct siren_lm *lm, const struct siren_target *targets,
                size_t n, const struct siren_predict_options *options, struct siren_answer *answers,
                const struct siren_progress *progress, struct siren_error *err);

/* The targets' answers by reasoning, from their prompts (SIREN_COT); after SIREN_ECANCEL, those
 * whose texts are whole. */
int app_reason(struct siren_app *app, struct siren_lm *lm, const struct siren_target *targets,
               size_t n, const struct siren_predict_options *options,
               const struct siren_prompt_ids *prompts, struct siren_answer *answers,
               const struct siren_progress *progress, struct siren_error *err);

/* The random stream of a target's texts: of the target, not of its place in a batch. */
uint64_t app_stream(const struct siren_target *target);

/* "user 5, item 7", or "a new user, a new item": a target in a message. */
void app_describe_target(const struct siren_app *app, const struct siren_target *target, char *text,
                         size_t size);
/* SIREN_ENUMERIC, naming target and label, where a label's log-probability is NaN, as a model's
 * that diverged or is damaged are: an even distribution would look like an answer. */
int app_check_scores(const struct siren_app *app, const struct siren_target *target,
                     const struct siren_readout *readout, const double *logprobs,
                     struct siren_error *err);

/* Progress of a part: `done` of the inner call is spread over [from, from + n) of `total`. */
struct app_part {
    const struct siren_progress *outer;
    const char *what;
    size_t from, n, total;
};
struct siren_progress app_part_progress(struct app_part *part);

/* A rating as it enters its user's sketch: with the topics of its item. */
struct siren_sketch_event app_sketch_event(const struct siren_app *app, size_t row);
/* Rows of the ratings by item: item i has row[start[i] .. start[i + 1]). */
struct siren_by_item {
    pthread_mutex_t lock;
    size_t *start, *row; /* (n_items + 1), (n); NULL until app_index_items() */
};
/* To be called before app_item_rows(), from any thread: what it makes stays. */
int app_index_items(const struct siren_app *app, struct siren_error *err);
/* The target's item's ratings that train and are known before the target (of a prediction for now,
 * all that train), one with each call from *at = 0 on; SIREN_NO_ROW behind the last. */
size_t app_item_rows(const struct siren_app *app, const struct siren_target *target, size_t *at);

/* What siren_lm_open() would refuse about a model, before it is loaded: SIREN_EINVAL for a sentence
 * encoder. */
int app_need_lm(const char *path, struct siren_error *err);

/* What determines a dialogue's text and its end beside the model's identity, which does not cover
 * the files that name them, into a JSON object: "chat_template", and "end_of_text", the tokenizer's
 * own, where it is none of the template's (what knows the template knows those). */
void app_chat_json(json_t *object, const struct siren_lm *lm);
/* What of a language model determines an answer: "model", app_chat_json(), "adapter", and in a mode
 * other than f32 "compute" with the contract that its bits are of: "numerics", its number, and
 * "sums", "AMX" where app_sums_on_amx().  A run that was stopped goes on under the same. */
json_t *app_lm_json(const struct siren_lm *lm);
/* 1: mode bf16 on AMX, whose sums have an order of their own. */
int app_sums_on_amx(const struct siren_engine *engine);
/* The mode with that: "f32", "bf16" or "bf16 on AMX". */
const char *app_sums(const struct siren_engine *engine);
/* What bits depend on (docs/numerics.md), into a JSON object: "compute", the mode, "f32", "bf16",
 * or "bf16 on AMX", whose sums have an order of their own, and "numerics", the contract's number.
 * What was begun under one goes on under the same. */
void app_numerics_json(json_t *object, const struct siren_engine *engine);
/* The workspace's fold as test set, with a tenth of the rest, drawn with the seed, as valid; fold
 * below 0: the workspace's split of labels again. */
int app_use_fold(struct siren_app *app, int fold, uint64_t seed, struct siren_error *err);
/* The options as a JSON object: all that determines an answer, besides model and data. */
json_t *app_options_json(const struct siren_predict_options *options);
/* A hash of what the answers depend on in the workspace: ratings, scale, users, items, topics. */
void app_data_hash(const struct siren_app *app, char text[17]);

/* The answer as it is stored; the arrays are (n_labels) floats of the caller. */
struct siren_prediction app_prediction(const struct siren_app *app,
                                       const struct siren_target *target,
                                       const struct siren_answer *answer, int64_t row,
                                       float *probabilities, float *logprobs);
/* What siren_prediction.reasoning holds, malloc'ed; NULL for an answer without reasoning, or where
 * there is no memory for it. */
char *app_reasoning_json(const struct siren_answer *answer);

/* SIREN_EINVAL unless there are no topics, or the encoder is theirs. */
int app_check_encoder(struct siren_workspace *ws, const struct siren_topics *topics,
                      const struct siren_encoder *encoder, struct siren_error *err);
/* For what is read from the workspace beside the loaded tables, within one view of it: ids of items
 * and users, or those and the topics, mean what they meant when those were loaded.  SIREN_EBUSY. */
int app_check_import(const struct siren_app *app, struct siren_error *err);
int app_check_topics(const struct siren_app *app, struct siren_error *err);

int app_is_finite(const float *v, int d); /* all of the vector */
/* Items without a topic that have a vector of this encoder join their nearest topics, if these are
 * the encoder's; *n: how many. */
int app_place_embedded(struct siren_workspace *ws, const struct siren_encoder *encoder, int *n,
                       struct siren_error *err);

/* siren_run_start(), unless another import has replaced what the app was loaded from: the run's
 * rows would be about others. */
int app_run_start(const struct siren_app *app, struct siren_run *run, struct siren_error *err);
/* The last run of these settings that is done; *run 0: there is none. */
int app_run_done(struct siren_app *app, const char *kind, const char *settings, int64_t *run,
                 struct siren_error *err);

/* enum siren_answer_notes of what is asked about a target, and their names. */
unsigned app_notes(const struct siren_target *target, size_t n_history, int n_cut);
json_t *app_notes_json(unsigned notes);

/* json_dumps of *object (taken over, NULL is out of memory) to *text. */
int app_json_text(json_t *object, size_t flags, char **text, struct siren_error *err);
json_t *app_real(double value); /* null for what JSON cannot hold */
/* Of any bytes, such as a path's: what is no UTF-8 is U+FFFD.  NULL: null. */
json_t *app_text(const char *text);

#endif
