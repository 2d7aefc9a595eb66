/* A step of GRPO on the forest, rollout and update, split; one JSON object out.
 *
 *   build/bench/bench_grpo --model M --prompts F.jsonl [--isa X] [--compute f32|bf16]
 *       [--threads N] [--steps 3] [--memory-mb 700] [--full 1]
 *
 * As bench/peers_trl.py: 2 prompts of 320 tokens (those of the file, cut in the middle), 8 answers
 * of at most 64 tokens each, sampled at temperature 1; the reward is the answer's length; KL 0.001
 * to the frozen start.  LoRA of rank 16 on all linear layers, or --full 1: all weights.  The first
 * step is not counted.  Seconds are means of the others. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "siren/random.h"
#include "siren/tokenizer.h"
#include "train/policy.h"

enum { PROMPTS = 2, PROMPT = 320, ANSWERS = 8, LENGTH = 64 };

struct bench {
    const char *model_path, *prompts_path;
    struct siren_engine_options engine_options;
    int threads, steps, full;
    size_t memory;
    struct siren_pool *pool;
    struct siren_model *model, *start;
    struct siren_engine *engine, *start_engine;
    struct siren_session *session;
    struct siren_tokenizer *tokenizer;
    struct siren_adapter *adapter;
    int32_t prompts[PROMPTS][PROMPT], stop;
    double rollout, scoring, update, whole, length, ratio, counted; /* sums over the steps */
    double last;                                                    /* seconds at the last line */
    struct siren_error err;
};

static void stop(const struct bench *b)
{
    fprintf(stderr, "bench_grpo: %s\n", b->err.message);
    exit(1);
}

/* ---- what is trained on ---- */

static void read_prompts(struct bench *b)
{
    FILE *file = fopen(b->prompts_path, "r");
    char *line = NULL;
    size_t capacity = 0;
    int n = 0;
    if (!file) siren_fail(&b->err, SIREN_EIO, "%s: cannot be read", b->prompts_path), stop(b);
    while (n < PROMPTS && getline(&line, &capacity, file) > 0) {
        json_t *o = json_loads(line, 0, NULL);
        const char *text = json_string_value(json_object_get(o, "text"));
        int32_t *ids;
        size_t n_ids;
        if (!text ||
            siren_tokenizer_encode(b->tokenizer, text, strlen(text), 0, &ids, &n_ids, &b->err))
            stop(b);
        if (n_ids >= PROMPT) {
            memcpy(b->prompts[n], ids, PROMPT / 2 * sizeof *ids);
            memcpy(b->prompts[n++] + PROMPT / 2, ids + n_ids - PROMPT / 2,
                   PROMPT / 2 * sizeof *ids);
        }
        free(ids);
        json_decref(o);
    }
    free(line);
    fclose(file);
    if (n < PROMPTS)
        siren_fail(&b->err, SIREN_EFORMAT, "%s: fewer than %d prompts of %d tokens",
                   b->prompts_path, PROMPTS, PROMPT),
            stop(b);
}

static int write_groups(void *context, uint64_t draw, struct policy_group *groups, size_t n,
                        const struct siren_progress *progress, struct siren_error *err)
{
    struct bench *b = context;
    struct siren_generation g[PROMPTS * ANSWERS];
    struct siren_sampling sampling = {
        .temperature = 1, .top_p = 1, .max_tokens = LENGTH, .seed = 1};
    for (size_t i = 0; i < n * ANSWERS; i++) {
        struct policy_group *group = &groups[i / ANSWERS];
        group->prompt = (struct siren_tokens){b->prompts[group->row], PROMPT};
        g[i] = (struct siren_generation){
            .prompt = group->prompt,
            .sequence = siren_random_bits(draw, group->row, (uint64_t)(i % ANSWERS)),
            .stop_ids = &b->stop,
            .n_stop_ids = b->stop >= 0,
            .keep_stop = 1};
    }
    int rc = siren_generate_many(b->session, g, n * ANSWERS, &sampling, 0, progress, err);
    for (size_t i = 0; i < n * ANSWERS; i++) {
        struct policy_text *t = &groups[i / ANSWERS].texts[i % ANSWERS];
        *t = (struct policy_text){.ids = g[i].ids,
                                  .old = g[i].logprobs,
                                  .n = g[i].n_ids,
                                  .truncated = !g[i].stopped,
                                  .reward = (double)g[i].n_ids};
    }
    return rc;
}

/* ---- measuring ---- */

static void watch(void *context, const json_t *line)
{
    struct bench *b = context;
    const struct {
        const char *name;
        double *sum;
    } sums[] = {{"rollout_seconds", &b->rollout},
                {"scoring_seconds", &b->scoring},
                {"update_seconds", &b->update},
                {"length", &b->length},
                {"ratio", &b->ratio}};
    double seconds = json_number_value(json_object_get(line, "seconds"));
    if (json_integer_value(json_object_get(line, "step")) > 1) {
        b->counted++;
        b->whole += seconds - b->last;
        for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
            *sums[i].sum += json_number_value(json_object_get(line, sums[i].name));
    }
    b->last = seconds;
}

static int changed(void *context, struct siren_error *err)
{
    struct bench *b = context;
    return siren_model_changed(b->model, b->pool, err);
}

static void open_models(struct bench *b)
{
    struct siren_model_options options = {.trainable = b->full ? &SIREN_TRAIN_ALL : NULL};
    struct siren_adapter_config config = {
        .targets = (1u << SIREN_LORA_TARGETS) - 1, .r = 16, .alpha = 32, .seed = 1};
    if (siren_pool_create(&b->pool, b->threads, &b->err) ||
        siren_model_load(&b->model, b->model_path, &options, b->pool, &b->err) ||
        siren_engine_create(&b->engine, b->model, b->pool, &b->engine_options, &b->err) ||
        siren_session_create(&b->session, b->engine, NULL, &b->err) ||
        siren_tokenizer_load(&b->tokenizer, b->model_path, &b->err))
        stop(b);
    b->stop = siren_tokenizer_eos(b->tokenizer);
    config.last_layer = siren_model_config(b->model)->n_layers - 1;
    if (b->full) {
        if (siren_model_load(&b->start, b->model_path, NULL, b->pool, &b->err) ||
            siren_engine_create(&b->start_engine, b->start, b->pool, &b->engine_options, &b->err))
            stop(b);
        return;
    }
    if (siren_adapter_create(&b->adapter, b->model, &config, &b->err)) stop(b);
    siren_session_use_adapter(b->session, b->adapter);
}

static void train(struct bench *b, const char *folder)
{
    struct policy_options o = policy_defaults();
    struct policy_source source = {.context = b, .n_rows = PROMPTS, .write = write_groups};
    struct policy_models models = {b->engine, b->adapter, NULL, b->start_engine};
    struct trainer_options loop = trainer_defaults();
    struct trainer_subject subject = {.adapter = b->adapter};
    struct trainer_result result;
    struct policy *policy;
    o.samples = ANSWERS;
    if (policy_create(&policy, &o, &source, &models, &b->err)) stop(b);
    struct trainer_task task = policy_task(policy);
    if (b->full)
        subject = (struct trainer_subject){
            .params = siren_model_params(b->model), .changed = changed, .context = b};
    loop.folder = folder;
    loop.batch = PROMPTS;
    loop.epochs = 1e6;
    loop.max_steps = (uint64_t)b->steps + 1;
    loop.lr = 1e-6;
    loop.warmup = 0;
    loop.dropout = 0;
    loop.memory_bytes = b->memory;
    loop.checkpoint_seconds = 1e9;
    loop.watch = watch;
    loop.watch_context = b;
    if (trainer_run(&task, &subject, b->engine, b->pool, &loop, NULL, &result, NULL, NULL, &b->err))
        stop(b);
    policy_free(policy);
}

static void print_result(const struct bench *b)
{
    double n = b->counted;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    json_t *o = json_pack("{s:s,s:s,s:i,s:b,s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "isa",
                          siren_engine_isa(b->engine), "compute", siren_engine_compute(b->engine),
                          "threads", siren_pool_threads(b->pool), "full", b->full, "steps", (int)n,
                          "seconds_a_step", b->whole / n, "rollout_seconds", b->rollout / n,
                          "scoring_seconds", b->scoring / n, "update_seconds", b->update / n,
                          "other_seconds", (b->whole - b->rollout - b->scoring - b->update) / n,
                          "answer_tokens", b->length / n, "ratio", b->ratio / n, "weights_mb",
                          (double)siren_model_memory(b->model) / 1e6, "peak_memory_mb",
                          (double)usage.ru_maxrss / 1024);
    json_dumpf(o, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(o);
}

static void parse(struct bench *b, int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
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
    static struct bench b = {.steps = 3, .memory = 700000000};
    char folder[] = "/tmp/siren-bench-XXXXXX", command[64];
    parse(&b, argc, argv);
    open_models(&b);
    read_prompts(&b);
    if (!mkdtemp(folder)) siren_fail(&b.err, SIREN_EIO, "%s: cannot be made", folder), stop(&b);
    train(&b, folder);
    print_result(&b);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) != 0;
}
