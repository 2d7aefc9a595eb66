/* A step of GRPO on the forest, rollout and update, split; one JSON object out.
 *
 *   build/bench/bench_grpo --model M --prompts F.jsonl [--isa X] [--compute f32|bf16]
 *       [--threads N] [--steps 3] [--memory-mb 700] [--full 1]
 *
 * As bench/peers_trl.py: 2 prompts of 320 tokens (those of the file, cut in the middle), 8 answers
 * of at most 64 tokens each, sampled at temperature 1; the reward is a digit that its ids
 * give, so that nothing teaches answers to be longer; KL 0.001 to the frozen start.  LoRA of rank
 * 16 on all linear layers, or --full 1: all weights.  The first step is not counted.  Seconds are
 * means of the others. */
#include "bench.h"

#include <unistd.h>

#include "siren/random.h"
#include "train/policy.h"

enum { PROMPTS = 2, PROMPT = 320, ANSWERS = 8, LENGTH = 64 };

struct grpo {
    struct bench b;
    struct siren_model *start;
    struct siren_engine *start_engine;
    struct siren_session *session;
    struct siren_adapter *adapter;
    int32_t prompts[PROMPTS][PROMPT], stop;
    double rollout, scoring, update, whole, length, ratio, counted; /* sums over the steps */
    double last;                                                    /* seconds at the last line */
};

/* ---- what is trained on ---- */

/* The first prompts that are long enough, without their middles. */
static void cut_prompts(struct grpo *g)
{
    struct bench *b = &g->b;
    int n = 0;
    for (size_t i = 0; i < b->n && n < PROMPTS; i++) {
        const struct siren_tokens *p = &b->prompts[i];
        if (p->n_ids < PROMPT) continue;
        memcpy(g->prompts[n], p->ids, PROMPT / 2 * sizeof *p->ids);
        memcpy(g->prompts[n++] + PROMPT / 2, p->ids + p->n_ids - PROMPT / 2,
               PROMPT / 2 * sizeof *p->ids);
    }
    if (n < PROMPTS)
        siren_fail(&b->err, SIREN_EFORMAT, "%s: fewer than %d prompts of %d tokens",
                   b->prompts_path, PROMPTS, PROMPT),
            stop(b);
}

/* The last digit of their sum. */
static double reward_of(const int32_t *ids, size_t n)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += ids[i];
    return (double)(sum % 10);
}

static int write_groups(void *context, uint64_t draw, struct policy_group *groups, size_t n,
                        const struct siren_progress *progress, struct siren_error *err)
{
    struct grpo *g = context;
    struct siren_generation made[PROMPTS * ANSWERS];
    struct siren_sampling sampling = {
        .temperature = 1, .top_p = 1, .max_tokens = LENGTH, .seed = 1};
    for (size_t i = 0; i < n * ANSWERS; i++) {
        struct policy_group *group = &groups[i / ANSWERS];
        group->prompt = (struct siren_tokens){g->prompts[group->row], PROMPT};
        made[i] = (struct siren_generation){
            .prompt = group->prompt,
            .sequence = siren_random_bits(draw, group->row, (uint64_t)(i % ANSWERS)),
            .stop_ids = &g->stop,
            .n_stop_ids = g->stop >= 0,
            .keep_stop = 1};
    }
    int rc = siren_generate_many(g->session, made, n * ANSWERS, &sampling, 0, progress, err);
    for (size_t i = 0; i < n * ANSWERS; i++) {
        struct policy_text *t = &groups[i / ANSWERS].texts[i % ANSWERS];
        *t = (struct policy_text){.ids = made[i].ids,
                                  .old = made[i].logprobs,
                                  .n = made[i].n_ids,
                                  .truncated = !made[i].stopped,
                                  .reward = reward_of(made[i].ids, made[i].n_ids)};
    }
    return rc;
}

/* ---- measuring ---- */

static void watch(void *context, const json_t *line)
{
    struct grpo *g = context;
    const struct {
        const char *name;
        double *sum;
    } sums[] = {{"rollout_seconds", &g->rollout},
                {"scoring_seconds", &g->scoring},
                {"update_seconds", &g->update},
                {"length", &g->length},
                {"ratio", &g->ratio}};
    double seconds = json_number_value(json_object_get(line, "seconds"));
    if (json_integer_value(json_object_get(line, "step")) > 1) {
        g->counted++;
        g->whole += seconds - g->last;
        for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
            *sums[i].sum += json_number_value(json_object_get(line, sums[i].name));
    }
    g->last = seconds;
}

static int changed(void *context, struct siren_error *err)
{
    struct grpo *g = context;
    return siren_model_changed(g->b.model, g->b.pool, err);
}

static void open_models(struct grpo *g)
{
    struct bench *b = &g->b;
    struct siren_engine_options options = {.isa = b->isa, .compute = b->compute};
    struct siren_adapter_config config = {
        .targets = (1u << SIREN_LORA_TARGETS) - 1, .r = 16, .alpha = 32, .seed = 1};
    if (siren_pool_create(&b->pool, b->threads, &b->err)) stop(b);
    open_model(b);
    if (siren_session_create(&g->session, b->engine, NULL, &b->err) ||
        siren_tokenizer_load(&b->tokenizer, b->model_path, &b->err))
        stop(b);
    g->stop = siren_tokenizer_eos(b->tokenizer);
    config.last_layer = siren_model_config(b->model)->n_layers - 1;
    if (b->full) {
        struct siren_model_options load = {.compute = b->compute};
        if (siren_model_load(&g->start, b->model_path, &load, b->pool, &b->err) ||
            siren_engine_create(&g->start_engine, g->start, b->pool, &options, &b->err))
            stop(b);
        return;
    }
    if (siren_adapter_create(&g->adapter, b->model, &config, &b->err)) stop(b);
    siren_session_use_adapter(g->session, g->adapter);
}

static void train(struct grpo *g, const char *folder)
{
    struct bench *b = &g->b;
    struct policy_options o = policy_defaults();
    struct policy_source source = {.context = g, .n_rows = PROMPTS, .write = write_groups};
    struct policy_models models = {b->engine, g->adapter, NULL, g->start_engine};
    struct trainer_options loop = trainer_defaults();
    struct trainer_subject subject = {.adapter = g->adapter};
    struct trainer_result result;
    struct policy *policy;
    o.samples = ANSWERS;
    if (policy_create(&policy, &o, &source, &models, &b->err)) stop(b);
    struct trainer_task task = policy_task(policy);
    if (b->full)
        subject = (struct trainer_subject){
            .params = siren_model_params(b->model), .changed = changed, .context = g};
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
    loop.watch_context = g;
    if (trainer_run(&task, &subject, b->engine, b->pool, &loop, NULL, &result, NULL, NULL, &b->err))
        stop(b);
    policy_free(policy);
}

static void print_result(const struct grpo *g)
{
    const struct bench *b = &g->b;
    double n = g->counted;
    json_t *o =
        json_pack("{s:s,s:s,s:i,s:b,s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "isa",
                  siren_engine_isa(b->engine), "compute", siren_engine_compute(b->engine),
                  "threads", siren_pool_threads(b->pool), "full", b->full, "steps", (int)n,
                  "seconds_a_step", g->whole / n, "rollout_seconds", g->rollout / n,
                  "scoring_seconds", g->scoring / n, "update_seconds", g->update / n,
                  "other_seconds", (g->whole - g->rollout - g->scoring - g->update) / n,
                  "answer_tokens", g->length / n, "ratio", g->ratio / n, "weights_mb",
                  (double)siren_model_memory(b->model) / 1e6, "peak_memory_mb", peak_memory_mb());
    json_dumpf(o, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(o);
}

int main(int argc, char **argv)
{
    static struct grpo g = {
        .b = {.program = "bench_grpo", .limit = 50, .steps = 3, .memory = 700000000}};
    struct bench *b = &g.b;
    char folder[] = "/tmp/siren-bench-XXXXXX", command[64];
    parse(b, argc, argv, 1);
    if (!b->model_path || !b->prompts_path)
        siren_fail(&b->err, SIREN_EINVAL, "--model and --prompts are needed"), stop(b);
    open_models(&g);
    read_prompts(b, 0);
    cut_prompts(&g);
    if (!mkdtemp(folder)) siren_fail(&b->err, SIREN_EIO, "%s: cannot be made", folder), stop(b);
    train(&g, folder);
    print_result(&g);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) != 0;
}
