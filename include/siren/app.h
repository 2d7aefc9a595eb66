/* What the command line and a server share: a language model ready to answer, and the
 * jobs over a workspace: predict, rank, evaluate, judge, export, compare.
 *
 *     struct siren_lm lm;
 *     struct siren_app app;
 *     siren_lm_open(&lm, "model.gguf", NULL, pool, &err);
 *     siren_app_open(&app, "films.siren", SIREN_WORKSPACE_READ, &err);
 *     struct siren_predict_options options = siren_predict_defaults();
 *     struct siren_target target;
 *     struct siren_answer answer;
 *     siren_app_target(&app, "196", "242", &target, &err);
 *     siren_predict(&app, &lm, &target, 1, &options, &answer, NULL, &err);
 *     … answer.mean, answer.probabilities …
 *     siren_answer_clear(&answer);
 *
 * Reports (metrics, comparisons, answers for a program) are JSON texts, so that a table on a
 * terminal and a server's reply come from the same function. */
#ifndef SIREN_APP_H
#define SIREN_APP_H

#include <stddef.h>
#include <stdint.h>

#include "siren/adapter.h"
#include "siren/chat.h"
#include "siren/error.h"
#include "siren/grpo.h"
#include "siren/metrics.h"
#include "siren/model.h"
#include "siren/pool.h"
#include "siren/progress.h"
#include "siren/prompt.h"
#include "siren/readout.h"
#include "siren/score.h"
#include "siren/sketch.h"
#include "siren/tokenizer.h"
#include "siren/workspace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- models, loaded with all that belongs to them ---- */

struct siren_lm;

/* The two things that a language model does.  siren_lm_open() sets them to the engine's; a test
 * or a client of another server sets its own. */
struct siren_lm_calls {
    int (*score)(struct siren_lm *lm, struct siren_score *scores, size_t n,
                 const struct siren_progress *progress, struct siren_error *err);
    int (*generate)(struct siren_lm *lm, struct siren_generation *generations, size_t n,
                    const struct siren_sampling *sampling, int batch,
                    const struct siren_progress *progress, struct siren_error *err);
};

struct siren_lm {
    const struct siren_lm_calls *calls;
    struct siren_tokenizer *tokenizer;
    struct siren_chat *chat; /* NULL: opened without (raw text only) */
    struct siren_model *model;
    struct siren_engine *engine;
    struct siren_session *session;
    char identity[256]; /* name and hash of the weights: "SmolLM2-135M-Instruct#0123456789abcdef" */
    struct siren_adapter *adapter; /* owned, the session's from the start; NULL: none */
    char adapter_identity[256];    /* name and hash of its factors; "": none */
    void *context;                 /* for calls of one's own */
};
struct siren_lm_options {
    const char *chat_template; /* a file instead of the model's own; NULL */
    int raw;                   /* no chat template is needed: lm.chat stays NULL if there is none */
    const char *isa;           /* NULL: the best of this machine */
    const char *compute;       /* siren_engine_options; NULL: f32 */
    int expand;                /* siren_model_options */
    size_t cache_bytes;        /* siren_session_options */
    const char *adapter;       /* a LoRA adapter's folder; NULL */
    const struct siren_trainable *trainable; /* siren_model_options; NULL */
};
/* A .gguf file or a folder; an encoder is refused.  options may be NULL.  The pool must outlive it.
 */
int siren_lm_open(struct siren_lm *out, const char *path, const struct siren_lm_options *options,
                  struct siren_pool *pool, struct siren_error *err);
#define SIREN_LM_NAME 516
/* Base and adapter, as runs name what answered: "BASE#HASH + ADAPTER#HASH", or the base alone. */
void siren_lm_name(const struct siren_lm *lm, char name[SIREN_LM_NAME]);
void siren_lm_close(struct siren_lm *lm); /* a zeroed one is allowed */
/* Ids that end the assistant's turn: the template's and the model's end of text; returns how many.
 */
#define SIREN_MAX_STOPS 8
size_t siren_lm_stops(const struct siren_lm *lm, int32_t stops[SIREN_MAX_STOPS]);

/* A sentence encoder. */
struct siren_encoder {
    struct siren_tokenizer *tokenizer;
    struct siren_model *model;
    struct siren_engine *engine;
    int d, unit, max_tokens;
    /* As of siren_model_identity(); a compute mode other than f32 stands behind it with the
     * contract of its bits ("bge-m3#0123456789abcdef, bf16 (numerics 5)", or "bf16 on AMX (numerics
     * 5)"): vectors of another are others and must not be mixed. */
    char identity[256];
};
struct siren_encoder_options {
    const char *isa, *compute; /* siren_engine_options */
};
/* options may be NULL. */
int siren_encoder_open(struct siren_encoder *out, const char *path,
                       const struct siren_encoder_options *options, struct siren_pool *pool,
                       struct siren_error *err);
/* The compute mode that an encoder's identity names, for an encoder that is to fit vectors which
 * are there: "f32", or the first word behind the comma. */
const char *siren_encoder_compute(const char *identity);
void siren_encoder_close(struct siren_encoder *encoder);
/* out: (n, d).  Texts beyond max_tokens tokens are cut at their end.  SIREN_ENUMERIC: a vector is
 * not finite; the message has its text. */
int siren_encoder_embed(struct siren_encoder *encoder, const char *const *texts, size_t n,
                        float *out, const struct siren_progress *progress, struct siren_error *err);

/* ---- a workspace with its tables in memory ---- */

struct siren_app {
    struct siren_workspace *ws;
    struct siren_meta meta;
    struct siren_items items;
    struct siren_users users;
    struct siren_ratings ratings;
    struct siren_by_item *by_item; /* the ratings' rows by item, made when they are first wanted */
    struct siren_topics topics;    /* k = 0: none yet */
    int soft;                      /* sketches share a rating between two topics */
    char **categories;             /* (items.n) "a|b|c" */
    char **topic_names;            /* (topics.k) never NULL: "topic 7" while unnamed */
    uint64_t topics_stamp;         /* siren_topics_stamp() of what was loaded */
    char *import_hash;             /* of the import that this is from; NULL: none */
};
int siren_app_open(struct siren_app *out, const char *path, enum siren_workspace_mode mode,
                   struct siren_error *err);
void siren_app_close(struct siren_app *app);

#define SIREN_NO_ROW SIZE_MAX

/* What is to be predicted. */
struct siren_target {
    int user, item; /* -1: the workspace does not know it */
    size_t row;     /* of ratings: only what precedes it is used; SIREN_NO_ROW: a prediction for
                       now, after all of the user's ratings */
    const char *title, *categories, *description; /* of an unknown item; borrowed */
};
/* By external ids.  An unknown user gives user = -1 (a cold start, answered without a history);
 * an unknown item is SIREN_ENOTFOUND.  One that another process has added since the app was opened
 * is SIREN_EBUSY: open it again.  If the user has rated the item, the prediction is made as of
 * before that rating (row is set). */
int siren_app_target(const struct siren_app *app, const char *user, const char *item,
                     struct siren_target *out, struct siren_error *err);

/* ---- predict ---- */

struct siren_calibration;
struct siren_predict_options {
    struct siren_strategy strategy;
    enum siren_ending mode; /* SIREN_AO or SIREN_COT */
    enum siren_sketch_rule rule;
    int decay;
    double min_support;
    /* 1: the sketch is that of another user, drawn with swap_seed for each target (all of the
     * other's ratings that train): how much of an answer hangs on the sketch. */
    int swap_sketch;
    uint64_t swap_seed;
    size_t gap;                     /* ratings left out before a target: siren_history() */
    size_t prompt_limit;            /* 0: SIREN_PROMPT_LIMIT */
    struct siren_sampling sampling; /* SIREN_COT */
    /* SIREN_COT.  0: the number that one text gives.  n >= 1: the labels are scored at the end of
     * "<answer>" of each of n sampled texts, and the answer is the mean of the n distributions
     * (self-consistency).  The first text is the one that 0 gives.  n > 1 needs a temperature. */
    int samples;
    int batch;       /* sequences generated at once; 0: the engine's default */
    double fallback; /* rating of an answer that cannot be read; NAN: the top of the scale */
    /* NULL, or what makes the answers' distributions of the model's (siren/calibration.h) */
    struct siren_calibration *calibration;
};
struct siren_predict_options siren_predict_defaults(void); /* recent+sketch, answer only */

enum siren_answer_notes {
    SIREN_NOTE_NEW_USER = 1,   /* the workspace has no such user */
    SIREN_NOTE_NO_HISTORY = 2, /* nothing precedes the target: answered without a history */
    SIREN_NOTE_NEW_ITEM = 4,   /* the workspace has no such item: answered from its description */
    SIREN_NOTE_RATED = 8,      /* rated already: predicted as of before that */
    SIREN_NOTE_CUT = 16,       /* history was cut to fit the prompt limit */
};
struct siren_answer {
    int n_labels;                           /* 0: no distribution (SIREN_COT, samples 0) */
    double probabilities[SIREN_MAX_LABELS]; /* renormalised over the labels */
    double logprobs[SIREN_MAX_LABELS];      /* joint, as the model gave them */
    double argmax, mean, median;            /* without distribution: the number read */
    double outside; /* probability mass outside the labels; NAN: no distribution */
    double number;  /* SIREN_COT: mean of the numbers read, the fallback where none; else NAN */
    int samples, unreadable;  /* SIREN_COT: texts, and those of them without a number */
    int in_format;            /* SIREN_COT: texts with the four tags, once and in order */
    int faults[SIREN_FAULTS]; /* SIREN_COT: texts with each kind of fault */
    int tokens_in, tokens_out, tokens_cached;
    double latency_ms; /* of its batch, divided by the batch's size */
    int invalid;       /* no text had a number to be read: the fallback stands for it */
    unsigned notes;    /* enum siren_answer_notes */
    char *text;        /* SIREN_COT: the reasoning and the answer, malloc'ed; several samples one
                          after the other, each from its "<think>" on */
};
void siren_answer_clear(struct siren_answer *answer);
/* No number and no distribution: mean, median and argmax are the fallback's.  siren_rank() puts
 * such an answer behind all others. */
int siren_answer_is_unread(const struct siren_answer *answer);
void siren_answers_free(struct siren_answer *answers, size_t n);

/* All targets in one call to the model: what they share is computed once, and each answer has
 * the bits that it has alone.  SIREN_ENUMERIC: the model scores a label of a target, which is
 * named, with NaN. */
int siren_predict(struct siren_app *app, struct siren_lm *lm, const struct siren_target *targets,
                  size_t n, const struct siren_predict_options *options,
                  struct siren_answer *answers, const struct siren_progress *progress,
                  struct siren_error *err);

/* What a prompt is made from, point in time; for those who build prompts of their own.  The input
 * borrows from app and from owner. */
struct siren_target_input {
    struct siren_prompt_input input;
    size_t n_history;
    void *owner;
};
int siren_target_input(const struct siren_app *app, const struct siren_target *target,
                       const struct siren_predict_options *options, struct siren_target_input *out,
                       struct siren_error *err);
void siren_target_input_clear(struct siren_target_input *input);

/* One answer as JSON, malloc'ed: {"user", "item", "title", "probabilities": {"1": …}, "argmax",
 * "mean", "median", "outside", …}; without an answer (NULL) the target alone. */
int siren_answer_json(const struct siren_app *app, const struct siren_target *target,
                      const struct siren_answer *answer, char **json, struct siren_error *err);

/* The topic nearest to an unknown item's text; -1 where the workspace has no topics.
 * SIREN_EINVAL if they were made with another encoder. */
int siren_nearest_topic(const struct siren_app *app, struct siren_encoder *encoder,
                        const char *title, const char *categories, int *topic,
                        struct siren_error *err);

/* An item of the workspace gets its embedding and its nearest topic (*topic, -1 where there are
 * no topics); the sketches of those who rated it follow.  SIREN_EINVAL if they were made with
 * another encoder. */
int siren_place_item(struct siren_workspace *ws, struct siren_encoder *encoder, int item,
                     int *topic, struct siren_error *err);

/* A batch job: `pairs` is a CSV file with a header that has the columns user and item; answers go
 * to `output` (complete or not at all) as CSV or JSON lines, in the order of the pairs. */
enum siren_output { SIREN_CSV, SIREN_JSONL };
struct siren_pairs_report {
    size_t n, n_new_users, n_invalid, n_tokens, n_tokens_cached;
    double seconds;
};
int siren_predict_pairs(struct siren_app *app, struct siren_lm *lm, const char *pairs,
                        const char *output, enum siren_output format,
                        const struct siren_predict_options *options,
                        struct siren_pairs_report *report, const struct siren_progress *progress,
                        struct siren_error *err);

/* ---- rank ---- */

struct siren_rank_options {
    struct siren_predict_options predict;
    int n_candidates; /* retrieved; 100 */
};
struct siren_ranked {
    struct siren_target target;
    double similarity; /* cosine to the mean of the liked ones; NAN: retrieved by popularity */
    int n_ratings;     /* of the item, that train */
    struct siren_answer answer;
};
/* Why candidates were retrieved by popularity: there is nothing that they could be near to. */
enum siren_by_popularity {
    SIREN_BY_SIMILARITY = 0, /* they were not */
    SIREN_UNKNOWN_USER,      /* whom the workspace does not know */
    SIREN_NO_EMBEDDINGS,     /* no encoder has embedded all items */
    SIREN_NOTHING_LIKED,     /* by this user, yet */
    SIREN_LIKED_NOT_EMBEDDED /* only items that were added since */
};
struct siren_ranking {
    struct siren_ranked *ranked; /* the highest mean first; ties in the order of retrieval */
    size_t n;
    enum siren_by_popularity by_popularity;
    double seconds;
};
/* The n items that the user has not rated: nearest to the mean embedding of the liked ones, or the
 * most popular.  In that order, without answers.  SIREN_EBUSY: another import has replaced what the
 * app holds. */
int siren_retrieve(struct siren_app *app, int user, int n, struct siren_ranking *out,
                   struct siren_error *err);
/* Retrieve, then predict all candidates over one shared prefill and sort. lm NULL: no re-ranking.
 */
int siren_rank(struct siren_app *app, struct siren_lm *lm, int user,
               const struct siren_rank_options *options, struct siren_ranking *out,
               const struct siren_progress *progress, struct siren_error *err);
void siren_ranking_clear(struct siren_ranking *ranking);

/* ---- evaluate ---- */

struct siren_eval_options {
    struct siren_predict_options predict;
    const char *split; /* "test", "valid", "train"; "valid:A", "valid:B": the rows of one half of
                          the users (siren_user_half()); "train:last": the last one of each user,
                          "train:last3": the last three; "train:last3+valid:A": both */
    int fold;          /* -1; else the fold that is the test set (a tenth of the rest is valid) */
    const uint64_t *fold_seed; /* that the fold's valid rows are drawn with; NULL: seed */
    size_t limit;              /* rows, drawn with the seed; 0: all */
    uint64_t seed;
    const char *name, *command; /* of the run; NULL.  One that is continued takes the name */
    int anew;                   /* 1: do not continue an unfinished run of the same settings */
};
struct siren_eval_options siren_eval_defaults(void);

/* The rows to be predicted, in the order of the ratings table; malloc'ed. */
int siren_eval_targets(struct siren_app *app, const struct siren_eval_options *options,
                       struct siren_target **targets, size_t *n, struct siren_error *err);

/* Predictions are stored in batches; a stopped run (SIREN_ECANCEL: *run is set, what is done is
 * kept) goes on when it is started again with the same settings.  SIREN_EBUSY: another process is
 * at these settings in this workspace.  On success the run holds its metrics. */
int siren_evaluate(struct siren_app *app, struct siren_lm *lm,
                   const struct siren_eval_options *options, struct siren_pool *pool, int64_t *run,
                   const struct siren_progress *progress, struct siren_error *err);

/* Answers that were made elsewhere: JSON lines with "row": [user, item] and one of "rating" (of
 * the scale), "probabilities" (one a label) or "text" (an answer to be parsed).  Becomes a run like
 * any. */
struct siren_judge_options {
    const char *split; /* rows must be in it; NULL: any rating of the workspace */
    int fold;          /* -1; else the fold that is the test set, of a split */
    uint64_t seed;     /* that a fold's valid rows are drawn with */
    double fallback;
    const char *name, *command;
};
int siren_judge(struct siren_app *app, const char *path, const struct siren_judge_options *options,
                struct siren_pool *pool, int64_t *run, struct siren_error *err);

/* Prompts of a split as JSON lines: "row": [user, item], "truth", "messages", and with a chat
 * template the whole "prompt". */
int siren_export_prompts(struct siren_app *app, const struct siren_chat *chat,
                         const struct siren_tokenizer *tokenizer,
                         const struct siren_eval_options *options, const char *path, size_t *n,
                         const struct siren_progress *progress, struct siren_error *err);

/* Metrics of a run's stored predictions as JSON, malloc'ed: {"n", "decoders": {"argmax": {"mae",
 * "mae_low", "mae_high", "rmse", …}, …}, "log_loss", "rps", "ece", "outside", "invalid", "stars",
 * "tokens", "latency_ms": {"mean"}}.  Intervals: bootstrap over users, 95 %.  Of reasoned answers
 * also "reasoning": {"texts", "texts_a_row", "tokens_a_text", "in_format", "faults": {KIND: share
 * of the texts, …}}, and where they have distributions the decoder "number", the mean of the
 * numbers in the texts, beside those of the distribution.  "trained_on": {"rows", "run"} where a
 * training that the workspace knows of had rows of these (not found: one under a fold); "chosen_on"
 * where one chose its best by them. */
int siren_run_metrics(struct siren_app *app, int64_t run, struct siren_pool *pool, char **json,
                      struct siren_error *err);

/* Runs that are one side of a comparison, seeds of one training for instance: on each row their
 * losses (absolute and squared errors, log-losses …) are averaged. */
struct siren_run_set {
    const int64_t *ids; /* (n), each once; the caller's */
    size_t n;           /* one at least */
};

/* Side a against side b on the rows (user, item) that all of their runs have, with one true rating
 * (it may have been corrected in between), as JSON: "a" and "b", a run's number or a list of them,
 * and for each decoder (and, of reasoned runs, the "number" in their texts) and loss both values,
 * the difference, its interval and p (users resampled; Holm over the table). */
int siren_runs_compare(struct siren_app *app, const struct siren_run_set sides[2],
                       struct siren_pool *pool, char **json, struct siren_error *err);

/* How much of what reasoning gains its student has without it, on the rows that the sides before,
 * teacher and student have, as JSON: for each decoder and loss the three values, the teacher's gain
 * with its interval and p (Holm over the table), and where that interval excludes 0 the share of it
 * that is the student's (see siren_bootstrap_share()), else null. */
int siren_runs_gain(struct siren_app *app, const struct siren_run_set sides[3],
                    struct siren_pool *pool, char **json, struct siren_error *err);

/* Several runs side by side on the rows that all of them have, as JSON: {"rows", "runs": [{"id",
 * "name", "decoders": {"argmax": {"mae", "rmse"}, …}, "log_loss", "rps"}, …]}. */
int siren_runs_table(struct siren_app *app, const int64_t *runs, size_t n, char **json,
                     struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
