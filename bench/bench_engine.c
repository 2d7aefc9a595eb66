/* The engine on real prompts: one task a run, one JSON object out, so that a driver
 * (bench/peers.py) can alternate it with other programs.
 *
 *   build/bench/bench_engine TASK --model M --prompts F.jsonl [--isa X] [--compute f32|bf16]
 *       [--threads N]
 *   build/bench/bench_engine embed --encoder E --prompts TITLES.jsonl
 *
 *   peak      GFLOP/s of FMAs held in registers on all threads at once
 *   load      seconds to load the model
 *   score     every prompt alone in the forest: no shared prefix
 *   shared    the same through the scorer: shared prefixes computed once
 *   rank      100 candidates of one user together; and one by one (the bound is the token count)
 *   decode    one sequence, 64 tokens; rollouts: 32 sequences of one prompt, 64 tokens each
 *   cot       a rating after 200 tokens of reasoning beside the rating alone, one stream, the
 *             user's part of the prompt cached
 *   embed     short texts
 *   ids       no measurement: the token ids of each prompt, a JSON array a line
 *
 * F.jsonl: an object with "prompt" (siren export prompts) or "text" a line.  FLOPs are those of the
 * model's products and of attention for the tokens computed; seconds are all seconds. */

#include "bench.h"

/* Multiply-adds count as two.  Attention of a token at position p reads p + 1 keys and values. */
static double flops(const struct siren_config *c, size_t from, size_t to, int logit_rows)
{
    double d = c->d_model, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    double layer = d * (q + 2 * kv) + q * d + (siren_is_encoder(c) ? 2 : 3) * d * c->d_ffn;
    double total = 0;
    for (size_t p = from; p < to; p++)
        total +=
            2 * c->n_layers * (layer + 2 * q * (siren_is_encoder(c) ? (double)to : (double)p + 1));
    return total + 2.0 * logit_rows * d * c->n_vocab;
}

static void print_result(struct bench *b, double seconds, size_t items, size_t tokens, double work,
                         json_t *more)
{
    json_t *o = json_pack("{s:s,s:s,s:s,s:i,s:f,s:I,s:I,s:f,s:f,s:f,s:f}", "task", b->task, "isa",
                          siren_engine_isa(b->engine), "compute", siren_engine_compute(b->engine),
                          "threads", siren_pool_threads(b->pool), "seconds", seconds, "items",
                          (json_int_t)items, "tokens", (json_int_t)tokens, "tokens_per_second",
                          (double)tokens / seconds, "items_per_second", (double)items / seconds,
                          "gflops", work / seconds / 1e9, "peak_memory_mb", peak_memory_mb());
    json_object_set_new(o, "weights_mb", json_real((double)siren_model_memory(b->model) / 1e6));
    if (work > 0) { /* beside the peak of the same cores at the same time */
        double peak = peak_gflops(b, chosen_kernels(b));
        json_object_set_new(o, "peak_gflops", json_real(peak));
        json_object_set_new(o, "share_of_peak", json_real(work / seconds / 1e9 / peak));
    }
    if (more) json_object_update(o, more);
    json_dumpf(o, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(o);
    json_decref(more);
}

/* ---- tasks ---- */

enum { PASS_TOKENS = 2048 };

/* Each prompt a root of its own; passes of whole prompts. */
static void task_score(struct bench *b)
{
    const struct siren_config *c = siren_model_config(b->model);
    struct siren_forest *forest;
    double seconds = 0, work = 0;
    size_t tokens = 0;
    if (siren_forest_create(&forest, b->engine, &b->err)) stop(b);
    for (int warm = 1; warm >= 0; warm--) {
        size_t end = warm ? (b->n < 2 ? b->n : 2) : b->n;
        for (size_t i = 0; i < end;) {
            double start = clock_seconds();
            siren_forest_clear(forest);
            size_t pass = 0;
            for (; i < end && (!pass || pass + b->prompts[i].n_ids <= PASS_TOKENS); i++) {
                int s =
                    siren_forest_add(forest, SIREN_ROOT, b->prompts[i].ids, b->prompts[i].n_ids, 0);
                siren_forest_want_logits(forest, s, b->prompts[i].n_ids - 1, NULL, 0);
                pass += b->prompts[i].n_ids;
                if (!warm) work += flops(c, 0, b->prompts[i].n_ids, 1);
            }
            if (siren_forest_plan(forest, &b->err)) stop(b);
            siren_forest_run(forest, NULL);
            if (!warm) seconds += clock_seconds() - start, tokens += pass;
        }
    }
    print_result(b, seconds, b->n, tokens, work, NULL);
    siren_forest_free(forest);
}

static struct siren_score *make_scores(struct bench *b, const struct siren_tokens *labels)
{
    struct siren_score *scores = calloc(b->n, sizeof *scores);
    double *logprobs = calloc(b->n * 5, sizeof *logprobs);
    for (size_t i = 0; i < b->n; i++)
        scores[i] = (struct siren_score){.prompt = b->prompts[i],
                                         .continuations = labels,
                                         .n_continuations = 5,
                                         .logprobs = logprobs + 5 * i};
    return scores;
}

static double timed_scores(struct bench *b, struct siren_score *scores, size_t n, int one_by_one,
                           struct siren_cache_stats *stats)
{
    struct siren_session *session;
    if (siren_session_create(&session, b->engine, NULL, &b->err)) stop(b);
    double start = clock_seconds();
    for (size_t i = 0; i < (one_by_one ? n : 1); i++) {
        if (siren_score_many(session, scores + i, one_by_one ? 1 : n, NULL, &b->err)) stop(b);
        if (one_by_one) siren_session_drop_cache(session);
    }
    double seconds = clock_seconds() - start;
    *stats = siren_session_stats(session);
    siren_session_free(session);
    return seconds;
}

static void read_labels(struct bench *b, int32_t ids[5], struct siren_tokens labels[5])
{
    static const char *const names[] = {"1", "2", "3", "4", "5"};
    for (int i = 0; i < 5; i++) {
        ids[i] = siren_tokenizer_id(b->tokenizer, names[i]);
        labels[i] = (struct siren_tokens){&ids[i], 1};
    }
}

static void task_shared(struct bench *b)
{
    int32_t ids[5];
    struct siren_tokens labels[5];
    struct siren_cache_stats stats;
    read_labels(b, ids, labels);
    struct siren_score *scores = make_scores(b, labels);
    timed_scores(b, scores, b->n < 2 ? b->n : 2, 0, &stats);
    double seconds = timed_scores(b, scores, b->n, 0, &stats);
    size_t asked = 0;
    for (size_t i = 0; i < b->n; i++) asked += b->prompts[i].n_ids;
    print_result(b, seconds, b->n, asked, 0,
                 json_pack("{s:I,s:f}", "computed", (json_int_t)stats.computed_tokens,
                           "computed_per_second", (double)stats.computed_tokens / seconds));
}

/* The first prompt's user with the candidates of all prompts. */
static void task_rank(struct bench *b)
{
    static const char marker[] = "\n\nThe candidate ";
    const char *cut = strstr(b->texts[0], marker);
    if (!cut) siren_fail(&b->err, SIREN_EFORMAT, "prompt 1 has no candidate"), stop(b);
    for (size_t i = 1; i < b->n; i++) {
        const char *tail = strstr(b->texts[i], marker);
        if (!tail)
            siren_fail(&b->err, SIREN_EFORMAT, "prompt %zu has no candidate", i + 1), stop(b);
        char *text = NULL;
        if (asprintf(&text, "%.*s%s", (int)(cut - b->texts[0]), b->texts[0], tail) < 0) exit(1);
        int32_t *ids;
        if (siren_tokenizer_encode(b->tokenizer, text, strlen(text), 0, &ids, &b->prompts[i].n_ids,
                                   &b->err))
            stop(b);
        b->prompts[i].ids = ids;
        free(text);
    }
    int32_t ids[5];
    struct siren_tokens labels[5];
    struct siren_cache_stats together, alone;
    read_labels(b, ids, labels);
    struct siren_score *scores = make_scores(b, labels);
    timed_scores(b, scores, b->n, 0, &together);
    double fast = timed_scores(b, scores, b->n, 0, &together);
    double slow = timed_scores(b, scores, b->n, 1, &alone);
    double bound = (double)alone.computed_tokens / (double)together.computed_tokens;
    print_result(b, fast, b->n, together.computed_tokens, 0,
                 json_pack("{s:f,s:I,s:f,s:f,s:f}", "one_by_one_seconds", slow, "one_by_one_tokens",
                           (json_int_t)alone.computed_tokens, "gain", slow / fast,
                           "token_count_bound", bound, "share_of_bound", slow / fast / bound));
}

static void generate(struct bench *b, size_t sequences)
{
    enum { TOKENS = 64 };
    struct siren_generation *all = calloc(sequences, sizeof *all);
    struct siren_sampling sampling = {
        .temperature = 1, .top_p = 1, .max_tokens = TOKENS, .seed = 1};
    struct siren_session *session;
    if (siren_session_create(&session, b->engine, NULL, &b->err)) stop(b);
    double seconds = 0;
    for (int warm = 1; warm >= 0; warm--) { /* the first run leaves the prompt in the cache */
        for (size_t i = 0; i < sequences; i++)
            all[i] = (struct siren_generation){.prompt = b->prompts[0], .sequence = i};
        double start = clock_seconds();
        if (siren_generate_many(session, all, sequences, &sampling, (int)sequences, NULL, &b->err))
            stop(b);
        seconds = clock_seconds() - start;
        for (size_t i = 0; i < sequences; i++) siren_generation_clear(&all[i]);
    }
    const struct siren_config *c = siren_model_config(b->model);
    size_t n = b->prompts[0].n_ids;
    double work = (double)sequences * (flops(c, n, n + TOKENS, TOKENS));
    print_result(b, seconds, sequences, sequences * TOKENS, work, NULL);
    siren_session_free(session);
    free(all);
}

/* The leading ids of a prompt that another candidate of the same user would share. */
static size_t users_part(struct bench *b, size_t i)
{
    const char *cut = strstr(b->texts[i], "\n\nThe candidate ");
    int32_t *ids;
    size_t n = 0, same = 0;
    if (!cut) siren_fail(&b->err, SIREN_EFORMAT, "prompt %zu has no candidate", i + 1), stop(b);
    if (siren_tokenizer_encode(b->tokenizer, b->texts[i], (size_t)(cut - b->texts[i]), 0, &ids, &n,
                               &b->err))
        stop(b);
    while (same < n && same < b->prompts[i].n_ids && ids[same] == b->prompts[i].ids[same]) same++;
    free(ids);
    return same;
}

static double timed_reasoning(struct bench *b, struct siren_session *session, size_t i)
{
    struct siren_generation g = {.prompt = b->prompts[i], .sequence = i, .keep = 1};
    struct siren_sampling sampling = {.temperature = 1, .top_p = 1, .max_tokens = 200, .seed = 1};
    int32_t ids[5];
    struct siren_tokens labels[5];
    double logprobs[5], start = clock_seconds();
    read_labels(b, ids, labels);
    if (siren_generate_many(session, &g, 1, &sampling, 1, NULL, &b->err)) stop(b);
    size_t n = b->prompts[i].n_ids;
    int32_t *all = malloc((n + g.n_ids) * sizeof *all);
    memcpy(all, b->prompts[i].ids, n * sizeof *all);
    memcpy(all + n, g.ids, g.n_ids * sizeof *all);
    struct siren_score score = {.prompt = {all, n + g.n_ids},
                                .continuations = labels,
                                .n_continuations = 5,
                                .logprobs = logprobs};
    if (siren_score_many(session, &score, 1, NULL, &b->err)) stop(b);
    free(all);
    siren_generation_clear(&g);
    return clock_seconds() - start;
}

static void task_cot(struct bench *b)
{
    size_t n = b->n < 5 ? b->n : 5;
    int32_t ids[5];
    struct siren_tokens labels[5];
    double alone[5], reasoned[5];
    read_labels(b, ids, labels);
    struct siren_score *scores = make_scores(b, labels);
    for (size_t i = 0; i < n; i++) {
        struct siren_session *session;
        scores[i].keep_prefix = users_part(b, i);
        if (siren_session_create(&session, b->engine, NULL, &b->err) ||
            siren_score_many(session, scores + i, 1, NULL, &b->err))
            stop(b);
        double start = clock_seconds();
        if (siren_score_many(session, scores + i, 1, NULL, &b->err)) stop(b);
        alone[i] = clock_seconds() - start;
        reasoned[i] = timed_reasoning(b, session, i);
        siren_session_free(session);
    }
    double total = 0;
    for (size_t i = 0; i < n; i++) total += reasoned[i];
    double answer = median(alone, n), reasoning = median(reasoned, n);
    print_result(b, total, n, 200 * n, 0,
                 json_pack("{s:f,s:f,s:f}", "answer_seconds", answer, "reasoning_seconds",
                           reasoning, "ratio", reasoning / answer));
}

static void task_embed(struct bench *b)
{
    const struct siren_config *c = siren_model_config(b->model);
    float *out = calloc(b->n * (size_t)c->d_model, sizeof *out);
    size_t tokens = 0;
    double work = 0;
    for (size_t i = 0; i < b->n; i++) {
        tokens += b->prompts[i].n_ids;
        work += flops(c, 0, b->prompts[i].n_ids, 0);
    }
    if (siren_embed_many(b->engine, b->prompts, b->n < 64 ? b->n : 64, out, NULL, &b->err)) stop(b);
    double start = clock_seconds();
    if (siren_embed_many(b->engine, b->prompts, b->n, out, NULL, &b->err)) stop(b);
    print_result(b, clock_seconds() - start, b->n, tokens, work, NULL);
}

static void task_peak(struct bench *b)
{
    const struct kernels *kernels = chosen_kernels(b);
    printf("{\"task\": \"peak\", \"isa\": \"%s\", \"threads\": %d, \"gflops\": %.1f, \"cpu\": "
           "\"%s\"}\n",
           kernels->name, siren_pool_threads(b->pool), peak_gflops(b, kernels), isa_describe());
}

static void task_ids(const struct bench *b)
{
    for (size_t i = 0; i < b->n; i++) {
        for (size_t j = 0; j < b->prompts[i].n_ids; j++)
            printf("%s%d", j ? "," : "[", (int)b->prompts[i].ids[j]);
        puts("]");
    }
}

static void task_load(struct bench *b)
{
    double start = clock_seconds();
    open_model(b);
    print_result(b, clock_seconds() - start, 1, 0, 0, NULL);
}

int main(int argc, char **argv)
{
    struct bench b = {.program = "bench_engine", .task = argv[1]};
    if (argc < 2)
        siren_fail(&b.err, SIREN_EINVAL, "which task?  See the top of bench/bench_engine.c"),
            stop(&b);
    parse(&b, argc, argv, 2);
    if (siren_pool_create(&b.pool, b.threads, &b.err)) stop(&b);
    if (!strcmp(b.task, "peak")) return task_peak(&b), 0;
    if (!b.model_path) siren_fail(&b.err, SIREN_EINVAL, "no --model"), stop(&b);
    if (!strcmp(b.task, "load")) return task_load(&b), 0;
    open_model(&b);
    if (siren_tokenizer_load(&b.tokenizer, b.model_path, &b.err)) stop(&b);
    read_prompts(&b, siren_is_encoder(siren_model_config(b.model)) ? SIREN_ENCODE_ADD_SPECIAL : 0);
    if (!b.n) siren_fail(&b.err, SIREN_EFORMAT, "%s: no prompts", b.prompts_path), stop(&b);
    if (!strcmp(b.task, "score"))
        task_score(&b);
    else if (!strcmp(b.task, "ids"))
        task_ids(&b);
    else if (!strcmp(b.task, "shared"))
        task_shared(&b);
    else if (!strcmp(b.task, "rank"))
        task_rank(&b);
    else if (!strcmp(b.task, "decode"))
        generate(&b, 1);
    else if (!strcmp(b.task, "rollouts"))
        generate(&b, 32);
    else if (!strcmp(b.task, "cot"))
        task_cot(&b);
    else if (!strcmp(b.task, "embed"))
        task_embed(&b);
    else
        siren_fail(&b.err, SIREN_EINVAL, "unknown task %s", b.task), stop(&b);
    return 0;
}
