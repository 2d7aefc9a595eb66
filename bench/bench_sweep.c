/* Speed against size, as charts: tokens a second by prompt length, candidates a second by their
 * number, generated tokens a second by the number of texts at once; both modes.
 *
 *   build/bench/bench_sweep --model M --prompts F.jsonl --output FOLDER [--isa X] [--threads N]
 *
 * Writes FOLDER/{lengths,candidates,batch}.svg and prints the figures, one JSON object a line.  The
 * modes take turns; each figure is the best of two runs. */
#include "bench.h"

#include "siren/plot.h"

enum { MODES = 2, MOST_POINTS = 8, RUNS = 2 };
static const char *const mode_names[MODES] = {"f32", "bf16"};

struct sweep {
    struct bench b;
    struct siren_engine *engines[MODES];
    int32_t *stream; /* the ids of all prompts, one after the other */
    size_t n_stream;
    struct siren_tokens *candidates; /* the first prompt's user with every prompt's candidate */
};

typedef double measure_fn(struct sweep *s, struct siren_engine *engine, size_t size);

/* Whole prompts of `size` tokens, no shared prefix: tokens a second. */
static double score_lengths(struct sweep *s, struct siren_engine *engine, size_t size)
{
    enum { TOKENS = 2048 };
    struct siren_forest *forest;
    if (siren_forest_create(&forest, engine, &s->b.err)) stop(&s->b);
    size_t n = size < TOKENS ? TOKENS / size : 1;
    for (size_t i = 0; i < n; i++) {
        size_t from = i * size % (s->n_stream - size);
        int segment = siren_forest_add(forest, SIREN_ROOT, s->stream + from, size, 0);
        siren_forest_want_logits(forest, segment, size - 1, NULL, 0);
    }
    double start = clock_seconds();
    if (siren_forest_plan(forest, &s->b.err)) stop(&s->b);
    siren_forest_run(forest, NULL);
    double seconds = clock_seconds() - start;
    siren_forest_free(forest);
    return (double)(n * size) / seconds;
}

/* `size` candidates of one user, nothing cached: candidates a second. */
static double rank_candidates(struct sweep *s, struct siren_engine *engine, size_t size)
{
    int32_t ids[5];
    struct siren_tokens labels[5];
    struct siren_session *session;
    struct siren_score *scores = calloc(size, sizeof *scores);
    double *logprobs = calloc(size * 5, sizeof *logprobs);
    for (int i = 0; i < 5; i++) {
        ids[i] =
            siren_tokenizer_id(s->b.tokenizer, (const char *const[]){"1", "2", "3", "4", "5"}[i]);
        labels[i] = (struct siren_tokens){&ids[i], 1};
    }
    for (size_t i = 0; i < size; i++)
        scores[i] = (struct siren_score){.prompt = s->candidates[i],
                                         .continuations = labels,
                                         .n_continuations = 5,
                                         .logprobs = logprobs + 5 * i};
    if (siren_session_create(&session, engine, NULL, &s->b.err)) stop(&s->b);
    double start = clock_seconds();
    if (siren_score_many(session, scores, size, NULL, &s->b.err)) stop(&s->b);
    double seconds = clock_seconds() - start;
    siren_session_free(session);
    free(scores);
    free(logprobs);
    return (double)size / seconds;
}

/* `size` texts of 32 tokens after one prompt, which is cached: tokens a second. */
static double generate_batch(struct sweep *s, struct siren_engine *engine, size_t size)
{
    enum { TOKENS = 32 };
    struct siren_session *session;
    struct siren_generation *all = calloc(size, sizeof *all);
    struct siren_sampling sampling = {
        .temperature = 1, .top_p = 1, .max_tokens = TOKENS, .seed = 1};
    double seconds = 0;
    if (siren_session_create(&session, engine, NULL, &s->b.err)) stop(&s->b);
    for (int warm = 1; warm >= 0; warm--) {
        size_t n = warm ? 1 : size;
        sampling.max_tokens = warm ? 1 : TOKENS;
        for (size_t i = 0; i < n; i++)
            all[i] = (struct siren_generation){.prompt = s->b.prompts[0], .sequence = i};
        double start = clock_seconds();
        if (siren_generate_many(session, all, n, &sampling, (int)n, NULL, &s->b.err)) stop(&s->b);
        seconds = clock_seconds() - start;
        for (size_t i = 0; i < n; i++) siren_generation_clear(&all[i]);
    }
    siren_session_free(session);
    free(all);
    return (double)(size * TOKENS) / seconds;
}

static void run_sweep(struct sweep *s, const char *name, const char *title, const char *axis,
                      const char *unit, measure_fn *measure, const double *sizes, size_t n)
{
    double rates[MODES][MOST_POINTS] = {{0}};
    for (size_t i = 0; i < n; i++)
        for (int run = 0; run < RUNS; run++)
            for (int m = 0; m < MODES; m++) {
                double rate = measure(s, s->engines[m], (size_t)sizes[i]);
                if (rate > rates[m][i]) rates[m][i] = rate;
            }
    struct siren_series series[MODES];
    for (int m = 0; m < MODES; m++) {
        series[m] = (struct siren_series){
            .label = mode_names[m], .n = n, .x = sizes, .y = rates[m], .points = 1};
        for (size_t i = 0; i < n; i++)
            printf("{\"sweep\": \"%s\", \"isa\": \"%s\", \"compute\": \"%s\", \"size\": %.0f, "
                   "\"rate\": %.1f}\n",
                   name, siren_engine_isa(s->engines[m]), mode_names[m], sizes[i], rates[m][i]);
    }
    fflush(stdout);
    struct siren_plot plot = {.title = title,
                              .x = {.label = axis, .log = 2},
                              .y = {.label = "speed", .unit = unit, .min = 0, .max = 0},
                              .series = series,
                              .n_series = MODES};
    for (int m = 0; m < MODES; m++) /* from 0 on: a ratio of heights is one of speeds */
        for (size_t i = 0; i < n; i++)
            if (rates[m][i] * 1.05 > plot.y.max) plot.y.max = rates[m][i] * 1.05;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.svg", s->b.output, name);
    if (siren_plot_write(&plot, 1, path, &s->b.err)) stop(&s->b);
}

static void prepare(struct sweep *s)
{
    static const char marker[] = "\n\nThe candidate ";
    struct bench *b = &s->b;
    const char *cut = strstr(b->texts[0], marker);
    s->candidates = calloc(b->n, sizeof *s->candidates);
    for (size_t i = 0; i < b->n; i++) {
        const char *tail = strstr(b->texts[i], marker);
        char *text = NULL;
        int32_t *ids;
        if (!cut || !tail)
            siren_fail(&b->err, SIREN_EFORMAT, "prompt %zu has no candidate", i + 1), stop(b);
        if (asprintf(&text, "%.*s%s", (int)(cut - b->texts[0]), b->texts[0], tail) < 0) exit(1);
        if (siren_tokenizer_encode(b->tokenizer, text, strlen(text), 0, &ids,
                                   &s->candidates[i].n_ids, &b->err))
            stop(b);
        s->candidates[i].ids = ids;
        free(text);
        s->stream = realloc(s->stream, (s->n_stream + b->prompts[i].n_ids) * sizeof *s->stream);
        memcpy(s->stream + s->n_stream, b->prompts[i].ids, b->prompts[i].n_ids * sizeof *s->stream);
        s->n_stream += b->prompts[i].n_ids;
    }
}

int main(int argc, char **argv)
{
    static const double lengths[] = {32, 64, 128, 256, 512, 1024, 2048};
    static const double counts[] = {1, 2, 4, 8, 16, 32, 64, 100};
    static const double batches[] = {1, 2, 4, 8, 16, 32, 64, 128};
    static struct sweep s = {.b = {.program = "bench_sweep", .limit = 100}};
    struct bench *b = &s.b;
    parse(b, argc, argv, 1);
    if (!b->model_path || !b->prompts_path || !b->output)
        siren_fail(&b->err, SIREN_EINVAL, "--model, --prompts and --output are needed"), stop(b);
    if (siren_pool_create(&b->pool, b->threads, &b->err)) stop(b);
    b->compute = NULL; /* engines of both modes share the model */
    for (int m = 0; m < MODES; m++) {
        struct siren_engine_options options = {.isa = b->isa, .compute = mode_names[m]};
        if (m == 0) open_model(b);
        if (siren_engine_create(&s.engines[m], b->model, b->pool, &options, &b->err)) stop(b);
    }
    if (siren_tokenizer_load(&b->tokenizer, b->model_path, &b->err)) stop(b);
    read_prompts(b, 0);
    if (b->n < 100) siren_fail(&b->err, SIREN_EFORMAT, "expected 100 prompts"), stop(b);
    prepare(&s);
    run_sweep(&s, "lengths", "Scoring prompts of one length", "tokens a prompt", "tokens/s",
              score_lengths, lengths, 7);
    run_sweep(&s, "candidates", "Ranking candidates of one user", "candidates", "candidates/s",
              rank_candidates, counts, 8);
    run_sweep(&s, "batch", "Texts generated at once from one prompt", "texts", "tokens/s",
              generate_batch, batches, 8);
    return 0;
}
