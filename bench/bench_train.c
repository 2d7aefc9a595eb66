/* Training on the forest: one task a run, one JSON object out (bench/README.md).
 *
 *   build/bench/bench_train TASK --model M --prompts F.jsonl [--isa X] [--compute f32|bf16]
 *       [--threads N] [--limit 32] [--steps 3] [--memory-mb 700] [--full 1]
 *
 *   alone      steps of LoRA (r 8, k and v; --full 1: all weights) on --limit prompts, each a root
 *              of its own; cross-entropy over five labels at the last token; AdamW
 *   shared     the same, the prompts' common beginning computed once
 *   align      `shared` with the cross-entropy, then with the alignment of all layers' hidden
 *              states at the last token to a teacher's, which are read from a file each time, then
 *              (LoRA) with that where each layer learns from its own state alone
 *
 *   answers    one prompt of 320 tokens with 8 answers of 64, log-probabilities of all their
 *              tokens: with the prompt shared, then each answer behind a prompt of its own; then
 *              two prompts a step, one pass after the other
 *
 * Tokens are those that the prompts have, shared or not.  Seconds: record, forward, loss, backward,
 * optimiser; passes of at most --memory-mb (bytes that the recorded pass holds). */
#include "bench.h"

#include <math.h>
#include <unistd.h>

#include "siren/adapter.h"
#include "siren/losses.h"
#include "siren/optimizer.h"
#include "siren/random.h"
#include "siren/teacher.h"

enum { LABELS = 5, PROMPT = 320, ANSWER = 64, ANSWERS = 8, GROUPS = 2 };
enum { GROUP = PROMPT + ANSWERS * ANSWER }; /* a prompt and its answers, one after the other */

struct training {
    struct bench b;
    struct siren_adapter *adapter;
    struct siren_adamw *adamw;
    struct siren_params params;
    struct siren_forest *forest;
    int32_t *stream; /* answers: GROUPS times PROMPT ids, then ANSWERS times ANSWER */
    int32_t labels[LABELS];
    int shared; /* of the prompts: their beginning once */
    int groups; /* answers: prompts a step */
    enum { LABELS_LOSS, STATES_LOSS, LOCAL_STATES_LOSS } align;
    struct siren_teacher *teacher;
    int n_layers, d;
    float *states[3]; /* (n_layers, d) each: the model's, the teacher's, the gradient */
    size_t held;
    double loss, times[4]; /* forward, loss, backward, optimiser */
};

/* ---- input ---- */

static void find_labels(struct training *t)
{
    struct bench *b = &t->b;
    for (int i = 0; i < LABELS; i++) {
        char digit[2] = {(char)('1' + i), 0};
        int32_t *ids;
        size_t n;
        if (siren_tokenizer_encode(b->tokenizer, digit, 1, 0, &ids, &n, &b->err)) stop(b);
        t->labels[i] = ids[n - 1];
        free(ids);
    }
}

static void open_trained(struct training *t)
{
    struct bench *b = &t->b;
    open_model(b);
    if (siren_tokenizer_load(&b->tokenizer, b->model_path, &b->err) ||
        siren_forest_create(&t->forest, b->engine, &b->err))
        stop(b);
    t->n_layers = siren_model_config(b->model)->n_layers;
    t->d = siren_model_config(b->model)->d_model;
    struct siren_adapter_config config = {.targets = 1u << SIREN_LORA_K | 1u << SIREN_LORA_V,
                                          .last_layer = t->n_layers - 1,
                                          .r = 8,
                                          .alpha = 16,
                                          .dropout = 0.05f,
                                          .seed = 1};
    if (!b->full && (siren_adapter_create(&t->adapter, b->model, &config, &b->err) ||
                     siren_adapter_trainable(t->adapter, &b->err)))
        stop(b);
    t->params = b->full ? siren_model_params(b->model) : siren_adapter_params(t->adapter);
    struct siren_adamw_options adamw = siren_adamw_defaults();
    if (siren_adamw_create(&t->adamw, t->params, &adamw, NULL, 0, &b->err)) stop(b);
}

/* A file of states as `siren train teach` writes it, random numbers in it; it has no name once it
 * is open. */
static void make_teacher(struct training *t)
{
    struct bench *b = &t->b;
    struct siren_teacher_shape shape = {t->n_layers, t->d, LABELS, SIREN_STATES_BF16};
    struct siren_teacher_writer *writer;
    float scores[LABELS] = {0};
    size_t n = (size_t)t->n_layers * (size_t)t->d;
    char folder[] = "/tmp/siren-bench-XXXXXX", path[64];
    if (!mkdtemp(folder)) siren_fail(&b->err, SIREN_EIO, "%s: cannot be made", folder), stop(b);
    snprintf(path, sizeof path, "%s/states", folder);
    for (int i = 0; i < 3; i++) t->states[i] = calloc(n, sizeof **t->states);
    if (siren_teacher_writer_open(&writer, path, &shape, "{}", &b->err)) stop(b);
    for (size_t i = 0; i < b->n; i++) {
        struct siren_teacher_row row = {.user = (int32_t)i, .scores = scores};
        for (size_t k = 0; k < n; k++)
            t->states[0][k] = (float)siren_random_uniform(1, i, k) - 0.5f;
        if (siren_teacher_write(writer, &row, NULL, t->states[0], &b->err)) stop(b);
    }
    if (siren_teacher_writer_finish(writer, &b->err) ||
        siren_teacher_open(&t->teacher, path, &b->err))
        stop(b);
    unlink(path);
    rmdir(folder);
}

/* ---- a pass ---- */

static void begin(struct training *t, uint64_t step)
{
    siren_forest_clear(t->forest);
    siren_forest_record(t->forest,
                        &(struct siren_training){.dropout = !t->b.full,
                                                 .dropout_step = step,
                                                 .layer_local = t->align == LOCAL_STATES_LOSS});
}

static int add_root(struct training *t, const int32_t *ids, size_t n)
{
    int s = siren_forest_add(t->forest, SIREN_ROOT, ids, n, 0);
    if (t->adapter) siren_forest_use_adapter(t->forest, s, t->adapter);
    return s;
}

static void plan(struct training *t)
{
    if (siren_forest_plan(t->forest, &t->b.err)) stop(&t->b);
}

static void run(struct training *t)
{
    size_t held = siren_forest_training_memory(t->forest);
    if (held > t->held) t->held = held;
    siren_forest_run(t->forest, NULL);
}

static void backward(struct training *t)
{
    double start = clock_seconds();
    siren_forest_backward(t->forest, NULL);
    t->times[2] += clock_seconds() - start;
}

static void update(struct training *t)
{
    double start = clock_seconds(), norm;
    float factor;
    if (siren_gradients_clip(t->params, 1, t->b.pool, &norm, &factor, &t->b.err)) stop(&t->b);
    siren_adamw_step(t->adamw, 1e-4, factor, t->b.pool);
    if (t->adapter) siren_adapter_changed(t->adapter);
    if (t->b.full && siren_model_changed(t->b.model, t->b.pool, &t->b.err)) stop(&t->b);
    t->times[3] += clock_seconds() - start;
}

/* ---- prompts ---- */

static size_t common(const struct training *t, size_t from, size_t to)
{
    size_t n = t->b.prompts[from].n_ids - 1;
    for (size_t i = from + 1; i < to; i++) {
        size_t j = 0;
        while (j < n && j + 1 < t->b.prompts[i].n_ids &&
               t->b.prompts[i].ids[j] == t->b.prompts[from].ids[j])
            j++;
        n = j;
    }
    return n;
}

/* What the loss reads at a token; the first output. */
static int want(struct training *t, int segment, size_t token)
{
    if (t->align == LABELS_LOSS)
        return siren_forest_want_logits(t->forest, segment, token, t->labels, LABELS);
    int first = siren_forest_want_hidden(t->forest, segment, token, 1);
    for (int l = 2; l <= t->n_layers; l++) siren_forest_want_hidden(t->forest, segment, token, l);
    return first;
}

/* As many prompts from `from` as the memory holds, at least one; returns the end. */
static size_t add_prompts(struct training *t, size_t from, uint64_t step, int *outputs)
{
    size_t to = t->b.n;
    for (;; to = from + (to - from + 1) / 2) {
        size_t n = t->shared && to - from > 1 ? common(t, from, to) : 0;
        begin(t, step);
        int root = n ? add_root(t, t->b.prompts[from].ids, n) : SIREN_ROOT;
        for (size_t i = from; i < to; i++) {
            const struct siren_tokens *p = &t->b.prompts[i];
            int s = n ? siren_forest_add(t->forest, root, p->ids + n, p->n_ids - n, 0)
                      : add_root(t, p->ids, p->n_ids);
            outputs[i] = want(t, s, p->n_ids - n - 1);
        }
        plan(t);
        if (to - from == 1 || siren_forest_training_memory(t->forest) <= t->b.memory) return to;
    }
}

/* Cross-entropy of a label at the prompt's last token. */
static double rating_loss(struct training *t, size_t i, int output)
{
    const struct siren_rating_loss loss = {.ce = 1};
    const float *logits = siren_forest_output(t->forest, output);
    float *out = siren_forest_gradient(t->forest, output);
    double scores[LABELS], gradient[LABELS];
    for (int j = 0; j < LABELS; j++) scores[j] = (double)logits[j];
    double value = siren_rating_loss(&loss, LABELS, scores, (int)(i % LABELS), NULL, gradient);
    for (int j = 0; j < LABELS; j++) out[j] = (float)(gradient[j] / (double)t->b.n);
    return value;
}

/* Alignment of the states there, n_layers outputs from the first on. */
static double alignment_loss(struct training *t, size_t i, int first)
{
    size_t d = (size_t)t->d;
    if (siren_teacher_states(t->teacher, i, t->states[1], &t->b.err)) stop(&t->b);
    for (int l = 0; l < t->n_layers; l++)
        memcpy(t->states[0] + (size_t)l * d, siren_forest_output(t->forest, first + l),
               d * sizeof(float));
    double value = siren_alignment_loss(t->n_layers, t->d, t->states[0], t->states[1], NULL,
                                        t->states[2], NULL);
    for (int l = 0; l < t->n_layers; l++) {
        float *out = siren_forest_gradient(t->forest, first + l);
        for (size_t k = 0; k < d; k++) out[k] = t->states[2][(size_t)l * d + k] / (float)t->b.n;
    }
    return value;
}

static void step_prompts(struct training *t, uint64_t step)
{
    int *outputs = calloc(t->b.n, sizeof *outputs);
    for (size_t from = 0, to; from < t->b.n; from = to) {
        double start = clock_seconds();
        to = add_prompts(t, from, step, outputs);
        run(t);
        t->times[0] += clock_seconds() - start;
        start = clock_seconds();
        for (size_t i = from; i < to; i++)
            t->loss +=
                (t->align ? alignment_loss(t, i, outputs[i]) : rating_loss(t, i, outputs[i])) /
                (double)t->b.n;
        t->times[1] += clock_seconds() - start;
        backward(t);
    }
    free(outputs);
    update(t);
}

/* ---- answers ---- */

/* One sequence of ids that is long enough, from the prompts one after the other. */
static void make_answers(struct training *t)
{
    size_t need = GROUPS * GROUP, n = 0;
    t->stream = calloc(need, sizeof *t->stream);
    for (size_t i = 0; n < need; i = (i + 1) % t->b.n)
        for (size_t j = 0; j < t->b.prompts[i].n_ids && n < need; j++)
            t->stream[n++] = t->b.prompts[i].ids[j];
}

/* A prompt of the stream and its answers, forward and backward. */
static void learn_answers(struct training *t, const int32_t *prompt, uint64_t step)
{
    int outputs[ANSWERS * ANSWER], n = 0;
    double start = clock_seconds();
    begin(t, step);
    int root = t->shared ? add_root(t, prompt, PROMPT) : SIREN_ROOT;
    for (int a = 0; a < ANSWERS; a++) {
        const int32_t *ids = prompt + PROMPT + a * ANSWER;
        if (!t->shared) root = add_root(t, prompt, PROMPT);
        int s = siren_forest_add(t->forest, root, ids, ANSWER, 0);
        for (int k = 0; k < ANSWER; k++)
            outputs[n++] = siren_forest_want_logprob(t->forest, k ? s : root,
                                                     k ? (size_t)k - 1 : PROMPT - 1, ids[k], 1);
    }
    plan(t);
    run(t);
    t->times[0] += clock_seconds() - start;
    for (int i = 0; i < n; i++) {
        siren_forest_gradient(t->forest, outputs[i])[0] = -1.0f / (float)(n * t->groups);
        t->loss -= (double)siren_forest_output(t->forest, outputs[i])[0] / (n * t->groups);
    }
    backward(t);
}

static void step_answers(struct training *t, uint64_t step)
{
    for (int g = 0; g < t->groups; g++) learn_answers(t, t->stream + g * GROUP, step);
    update(t);
}

/* ---- measuring ---- */

static void print_result(struct training *t, const char *task, double seconds, size_t tokens)
{
    json_t *o = json_pack(
        "{s:s,s:s,s:s,s:i,s:b,s:i,s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "task", task, "isa",
        siren_engine_isa(t->b.engine), "compute", siren_engine_compute(t->b.engine), "threads",
        siren_pool_threads(t->b.pool), "full", t->b.full, "steps", t->b.steps, "tokens",
        (json_int_t)tokens, "seconds", seconds, "tokens_per_second", (double)tokens / seconds,
        "forward_seconds", t->times[0], "loss_seconds", t->times[1], "backward_seconds",
        t->times[2], "update_seconds", t->times[3], "loss", t->loss, "pass_mb",
        (double)t->held / 1e6, "peak_memory_mb", peak_memory_mb());
    json_object_set_new(o, "weights_mb", json_real((double)siren_model_memory(t->b.model) / 1e6));
    json_dumpf(o, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    fflush(stdout);
    json_decref(o);
}

static void measure(struct training *t, const char *task, void (*step)(struct training *, uint64_t),
                    size_t tokens)
{
    step(t, 0); /* warm: memory is had and touched */
    memset(t->times, 0, sizeof t->times);
    double start = clock_seconds();
    for (int i = 0; i < t->b.steps; i++) {
        t->loss = 0;
        step(t, (uint64_t)i + 1);
    }
    print_result(t, task, clock_seconds() - start, tokens * (size_t)t->b.steps);
}

static void measure_prompts(struct training *t)
{
    size_t tokens = 0;
    for (size_t i = 0; i < t->b.n; i++) tokens += t->b.prompts[i].n_ids;
    t->shared = strcmp(t->b.task, "alone") != 0;
    if (strcmp(t->b.task, "align") != 0) {
        measure(t, t->b.task, step_prompts, tokens);
        return;
    }
    static const char *const names[] = {"align cross-entropy", "align hidden states",
                                        "align each layer's own"};
    make_teacher(t);
    for (int i = LABELS_LOSS; i <= (t->b.full ? STATES_LOSS : LOCAL_STATES_LOSS); i++) {
        t->align = i;
        measure(t, names[i], step_prompts, tokens);
    }
}

static void measure_answers(struct training *t)
{
    static const char *const names[GROUPS][2] = {{"answers alone", "answers shared"},
                                                 {"two groups alone", "two groups shared"}};
    make_answers(t);
    for (t->groups = 1; t->groups <= GROUPS; t->groups++)
        for (t->shared = 1; t->shared >= 0; t->shared--)
            measure(t, names[t->groups - 1][t->shared], step_answers,
                    (size_t)t->groups * ANSWERS * (PROMPT + ANSWER));
}

int main(int argc, char **argv)
{
    struct training t = {
        .b = {.program = "bench_train", .limit = 32, .steps = 3, .memory = 700000000}};
    struct bench *b = &t.b;
    if (argc < 2)
        siren_fail(&b->err, SIREN_EINVAL, "which task?  See the top of bench/bench_train.c"),
            stop(b);
    b->task = argv[1];
    parse(b, argc, argv, 2);
    if (!b->model_path || !b->prompts_path)
        siren_fail(&b->err, SIREN_EINVAL, "--model and --prompts are needed"), stop(b);
    if (siren_pool_create(&b->pool, b->threads, &b->err)) stop(b);
    open_trained(&t);
    read_prompts(b, 0);
    if (!b->n) siren_fail(&b->err, SIREN_EFORMAT, "%s: no prompts", b->prompts_path), stop(b);
    find_labels(&t);
    if (!strcmp(b->task, "alone") || !strcmp(b->task, "shared") || !strcmp(b->task, "align"))
        measure_prompts(&t);
    else if (!strcmp(b->task, "answers"))
        measure_answers(&t);
    else
        siren_fail(&b->err, SIREN_EINVAL, "unknown task %s", b->task), stop(b);
    return 0;
}
