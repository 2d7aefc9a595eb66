/* Training on the forest: one task a run, one JSON object out (bench/README.md).
 *
 *   build/bench/bench_train TASK --model M --prompts F.jsonl [--isa X] [--compute f32|bf16]
 *       [--threads N] [--limit 32] [--steps 3] [--memory-mb 700] [--full 1]
 *
 *   alone      steps of LoRA (r 8, k and v; --full 1: all weights) on --limit prompts, each a root
 *              of its own; cross-entropy over five labels at the last token; AdamW
 *   shared     the same, the prompts' common beginning computed once
 *   answers    one prompt of 320 tokens with 8 answers of 64, log-probabilities of all their
 *              tokens: with the prompt shared, then each answer behind a prompt of its own
 *
 * Tokens are those that the prompts have, shared or not.  Seconds: record, forward, loss, backward,
 * optimiser; passes of at most --memory-mb (bytes that the recorded pass holds). */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "siren/adapter.h"
#include "siren/forest.h"
#include "siren/losses.h"
#include "siren/optimizer.h"
#include "siren/tokenizer.h"

enum { LABELS = 5, PROMPT = 320, ANSWER = 64, ANSWERS = 8 };

struct prompt {
    int32_t *ids;
    size_t n;
};

struct bench {
    const char *task, *model_path, *prompts_path;
    struct siren_engine_options engine_options;
    int threads, limit, steps, full;
    size_t memory; /* of a pass, at most */
    struct siren_pool *pool;
    struct siren_model *model;
    struct siren_engine *engine;
    struct siren_tokenizer *tokenizer;
    struct siren_adapter *adapter;
    struct siren_adamw *adamw;
    struct siren_params params;
    struct siren_forest *forest;
    struct prompt *prompts;
    size_t n;
    int32_t *stream; /* answers: PROMPT ids, then ANSWERS times ANSWER */
    int32_t labels[LABELS];
    size_t held;
    double loss, times[4]; /* forward, loss, backward, optimiser */
    struct siren_error err;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stop(const struct bench *b)
{
    fprintf(stderr, "bench_train: %s\n", b->err.message);
    exit(1);
}

/* ---- input ---- */

static void read_prompts(struct bench *b)
{
    FILE *file = fopen(b->prompts_path, "r");
    if (!file) siren_fail(&b->err, SIREN_EIO, "%s: cannot be read", b->prompts_path), stop(b);
    char *line = NULL;
    size_t capacity = 0;
    b->prompts = calloc((size_t)b->limit, sizeof *b->prompts);
    while (b->n < (size_t)b->limit && getline(&line, &capacity, file) > 0) {
        json_t *o = json_loads(line, 0, NULL);
        const char *text = json_string_value(json_object_get(o, "text"));
        struct prompt *p = &b->prompts[b->n++];
        if (!text)
            siren_fail(&b->err, SIREN_EFORMAT, "%s: a line has no \"text\"", b->prompts_path),
                stop(b);
        if (siren_tokenizer_encode(b->tokenizer, text, strlen(text), 0, &p->ids, &p->n, &b->err))
            stop(b);
        json_decref(o);
    }
    free(line);
    fclose(file);
    if (!b->n) siren_fail(&b->err, SIREN_EFORMAT, "%s: no prompts", b->prompts_path), stop(b);
    for (int i = 0; i < LABELS; i++) {
        char digit[2] = {(char)('1' + i), 0};
        int32_t *ids;
        size_t n;
        if (siren_tokenizer_encode(b->tokenizer, digit, 1, 0, &ids, &n, &b->err)) stop(b);
        b->labels[i] = ids[n - 1];
        free(ids);
    }
}

static void open_trained(struct bench *b)
{
    struct siren_model_options options = {.trainable = b->full ? &SIREN_TRAIN_ALL : NULL};
    if (siren_model_load(&b->model, b->model_path, &options, b->pool, &b->err) ||
        siren_engine_create(&b->engine, b->model, b->pool, &b->engine_options, &b->err) ||
        siren_tokenizer_load(&b->tokenizer, b->model_path, &b->err) ||
        siren_forest_create(&b->forest, b->engine, &b->err))
        stop(b);
    struct siren_adapter_config config = {.targets = 1u << SIREN_LORA_K | 1u << SIREN_LORA_V,
                                          .last_layer = siren_model_config(b->model)->n_layers - 1,
                                          .r = 8,
                                          .alpha = 16,
                                          .dropout = 0.05f,
                                          .seed = 1};
    if (!b->full && (siren_adapter_create(&b->adapter, b->model, &config, &b->err) ||
                     siren_adapter_trainable(b->adapter, &b->err)))
        stop(b);
    b->params = b->full ? siren_model_params(b->model) : siren_adapter_params(b->adapter);
    struct siren_adamw_options adamw = siren_adamw_defaults();
    if (siren_adamw_create(&b->adamw, b->params, &adamw, NULL, 0, &b->err)) stop(b);
}

/* ---- a pass ---- */

static void begin(struct bench *b, uint64_t step)
{
    siren_forest_clear(b->forest);
    siren_forest_record(b->forest,
                        &(struct siren_training){.dropout = !b->full, .dropout_step = step});
}

static int add_root(struct bench *b, const int32_t *ids, size_t n)
{
    int s = siren_forest_add(b->forest, SIREN_ROOT, ids, n, 0);
    if (b->adapter) siren_forest_use_adapter(b->forest, s, b->adapter);
    return s;
}

static void plan(struct bench *b)
{
    if (siren_forest_plan(b->forest, &b->err)) stop(b);
}

static void run(struct bench *b)
{
    size_t held = siren_forest_training_memory(b->forest);
    if (held > b->held) b->held = held;
    siren_forest_run(b->forest, NULL);
}

static void backward(struct bench *b)
{
    double start = now();
    siren_forest_backward(b->forest, NULL);
    b->times[2] += now() - start;
}

static void update(struct bench *b)
{
    double start = now(), norm;
    if (siren_gradients_clip(b->params, 1, &norm, &b->err)) stop(b);
    siren_adamw_step(b->adamw, 1e-4, b->pool);
    siren_gradients_zero(b->params);
    if (b->adapter) siren_adapter_changed(b->adapter);
    if (b->full && siren_model_changed(b->model, b->pool, &b->err)) stop(b);
    b->times[3] += now() - start;
}

/* ---- prompts ---- */

static size_t common(const struct bench *b, size_t from, size_t to)
{
    size_t n = b->prompts[from].n - 1;
    for (size_t i = from + 1; i < to; i++) {
        size_t j = 0;
        while (j < n && j + 1 < b->prompts[i].n && b->prompts[i].ids[j] == b->prompts[from].ids[j])
            j++;
        n = j;
    }
    return n;
}

/* As many prompts from `from` as the memory holds, at least one; returns the end. */
static size_t add_prompts(struct bench *b, size_t from, int shared, uint64_t step, int *outputs)
{
    size_t to = b->n;
    for (;; to = from + (to - from + 1) / 2) {
        size_t n = shared && to - from > 1 ? common(b, from, to) : 0;
        begin(b, step);
        int root = n ? add_root(b, b->prompts[from].ids, n) : SIREN_ROOT;
        for (size_t i = from; i < to; i++) {
            const struct prompt *p = &b->prompts[i];
            int s = n ? siren_forest_add(b->forest, root, p->ids + n, p->n - n, 0)
                      : add_root(b, p->ids, p->n);
            outputs[i] = siren_forest_want_logits(b->forest, s, p->n - n - 1, b->labels, LABELS);
        }
        plan(b);
        if (to - from == 1 || siren_forest_training_memory(b->forest) <= b->memory) return to;
    }
}

static void step_prompts(struct bench *b, int shared, uint64_t step)
{
    int *outputs = calloc(b->n, sizeof *outputs);
    const struct siren_rating_loss loss = {.ce = 1};
    for (size_t from = 0, to; from < b->n; from = to) {
        double start = now();
        to = add_prompts(b, from, shared, step, outputs);
        run(b);
        b->times[0] += now() - start;
        start = now();
        for (size_t i = from; i < to; i++) {
            const float *logits = siren_forest_output(b->forest, outputs[i]);
            float *out = siren_forest_gradient(b->forest, outputs[i]);
            double scores[LABELS], gradient[LABELS];
            for (int j = 0; j < LABELS; j++) scores[j] = (double)logits[j];
            b->loss += siren_rating_loss(&loss, LABELS, scores, (int)(i % LABELS), NULL, gradient) /
                       (double)b->n;
            for (int j = 0; j < LABELS; j++) out[j] = (float)(gradient[j] / (double)b->n);
        }
        b->times[1] += now() - start;
        backward(b);
    }
    free(outputs);
    update(b);
}

/* ---- answers ---- */

/* One sequence of ids that is long enough, from the prompts one after the other. */
static void make_answers(struct bench *b)
{
    size_t need = PROMPT + ANSWERS * ANSWER, n = 0;
    b->stream = calloc(need, sizeof *b->stream);
    for (size_t i = 0; n < need; i = (i + 1) % b->n)
        for (size_t j = 0; j < b->prompts[i].n && n < need; j++)
            b->stream[n++] = b->prompts[i].ids[j];
}

static void step_answers(struct bench *b, int shared, uint64_t step)
{
    int outputs[ANSWERS * ANSWER], n = 0;
    double start = now();
    begin(b, step);
    int root = shared ? add_root(b, b->stream, PROMPT) : SIREN_ROOT;
    for (int a = 0; a < ANSWERS; a++) {
        const int32_t *ids = b->stream + PROMPT + a * ANSWER;
        if (!shared) root = add_root(b, b->stream, PROMPT);
        int s = siren_forest_add(b->forest, root, ids, ANSWER, 0);
        for (int t = 0; t < ANSWER; t++)
            outputs[n++] = siren_forest_want_logprob(b->forest, t ? s : root,
                                                     t ? (size_t)t - 1 : PROMPT - 1, ids[t], 1);
    }
    plan(b);
    run(b);
    b->times[0] += now() - start;
    for (int i = 0; i < n; i++) {
        siren_forest_gradient(b->forest, outputs[i])[0] = -1.0f / (float)n;
        b->loss -= (double)siren_forest_output(b->forest, outputs[i])[0] / n;
    }
    backward(b);
    update(b);
}

/* ---- measuring ---- */

static void print_result(struct bench *b, const char *task, double seconds, size_t tokens)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    json_t *o = json_pack(
        "{s:s,s:s,s:s,s:i,s:b,s:i,s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "task", task, "isa",
        siren_engine_isa(b->engine), "compute", siren_engine_compute(b->engine), "threads",
        siren_pool_threads(b->pool), "full", b->full, "steps", b->steps, "tokens",
        (json_int_t)tokens, "seconds", seconds, "tokens_per_second", (double)tokens / seconds,
        "forward_seconds", b->times[0], "loss_seconds", b->times[1], "backward_seconds",
        b->times[2], "update_seconds", b->times[3], "loss", b->loss, "pass_mb",
        (double)b->held / 1e6, "peak_memory_mb", (double)usage.ru_maxrss / 1024);
    json_object_set_new(o, "weights_mb", json_real((double)siren_model_memory(b->model) / 1e6));
    json_dumpf(o, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    fflush(stdout);
    json_decref(o);
}

static void measure(struct bench *b, const char *task, void (*step)(struct bench *, int, uint64_t),
                    int shared, size_t tokens)
{
    step(b, shared, 0); /* warm: memory is had and touched */
    memset(b->times, 0, sizeof b->times);
    double start = now();
    for (int i = 0; i < b->steps; i++) {
        b->loss = 0;
        step(b, shared, (uint64_t)i + 1);
    }
    print_result(b, task, now() - start, tokens * (size_t)b->steps);
}

static void parse(struct bench *b, int argc, char **argv)
{
    if (argc < 2)
        siren_fail(&b->err, SIREN_EINVAL, "which task?  See the top of bench/bench_train.c"),
            stop(b);
    b->task = argv[1];
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (!strcmp(argv[i], "--model"))
            b->model_path = value;
        else if (!strcmp(argv[i], "--prompts"))
            b->prompts_path = value;
        else if (!strcmp(argv[i], "--isa"))
            b->engine_options.isa = value;
        else if (!strcmp(argv[i], "--compute"))
            b->engine_options.compute = value;
        else if (!strcmp(argv[i], "--threads"))
            b->threads = atoi(value);
        else if (!strcmp(argv[i], "--limit"))
            b->limit = atoi(value);
        else if (!strcmp(argv[i], "--steps"))
            b->steps = atoi(value);
        else if (!strcmp(argv[i], "--full"))
            b->full = atoi(value);
        else if (!strcmp(argv[i], "--memory-mb"))
            b->memory = (size_t)atol(value) * 1000000;
        else
            siren_fail(&b->err, SIREN_EINVAL, "unknown option %s", argv[i]), stop(b);
    }
    if (!b->model_path || !b->prompts_path)
        siren_fail(&b->err, SIREN_EINVAL, "--model and --prompts are needed"), stop(b);
}

int main(int argc, char **argv)
{
    struct bench b = {.limit = 32, .steps = 3, .memory = 700000000};
    size_t tokens = 0;
    parse(&b, argc, argv);
    if (siren_pool_create(&b.pool, b.threads, &b.err)) stop(&b);
    open_trained(&b);
    read_prompts(&b);
    for (size_t i = 0; i < b.n; i++) tokens += b.prompts[i].n;
    if (!strcmp(b.task, "alone") || !strcmp(b.task, "shared")) {
        measure(&b, b.task, step_prompts, !strcmp(b.task, "shared"), tokens);
    } else if (!strcmp(b.task, "answers")) {
        make_answers(&b);
        measure(&b, "answers shared", step_answers, 1, ANSWERS * (PROMPT + ANSWER));
        measure(&b, "answers alone", step_answers, 0, ANSWERS * (PROMPT + ANSWER));
    } else {
        siren_fail(&b.err, SIREN_EINVAL, "unknown task %s", b.task), stop(&b);
    }
    return 0;
}
