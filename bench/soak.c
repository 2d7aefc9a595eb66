/* Memory stays flat: prompts without end on a tiny model (or any), the resident size watched.
 *
 *   build/bench/soak [--model M] [--limit PROMPTS] [--threads N] [--compute f32|bf16]
 *
 * A million prompts by default, in calls of random size: users' parts that many prompts share,
 * candidates, ratings read off, now and then texts sampled, new sessions and new models, under a
 * cache budget that forces prefixes out.  The resident size goes up and down with what a model or
 * a pass takes and gives back, so what is compared is its mean over the two halves of all but the
 * first tenth of the prompts: growth by more than 1 % and half a megabyte (what the allocator's
 * free lists come to) is a failure; a byte lost with each prompt would show. */
#include "bench.h"

#include <unistd.h>

#include "siren/random.h"

enum { USERS = 40, USER_TOKENS = 48, TAIL_TOKENS = 12, MOST_CALL = 64, SEED = 3 };

struct soak {
    struct bench b;
    struct siren_session *session;
    uint64_t drawn;
    size_t done, texts;
};

static uint64_t below(struct soak *s, uint64_t n)
{
    return siren_random_below(SEED, 1, s->drawn++, n);
}

static double resident_mb(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1) pages = 0;
    if (f) fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

/* Some user's ids, then a candidate's. */
static size_t make_prompt(struct soak *s, int32_t *ids)
{
    uint64_t vocab = (uint64_t)siren_model_config(s->b.model)->n_vocab, user = below(s, USERS);
    size_t n = USER_TOKENS - (size_t)user % 17;
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)siren_random_below(SEED, 2 + user, i, vocab);
    for (size_t end = n + 1 + below(s, TAIL_TOKENS); n < end; n++)
        ids[n] = (int32_t)below(s, vocab);
    return n;
}

static void open_session(struct soak *s)
{
    struct siren_session_options options = {.cache_bytes = 256 << 10, .pass_tokens = 512};
    if (siren_session_create(&s->session, s->b.engine, &options, &s->b.err)) stop(&s->b);
}

static void reopen(struct soak *s)
{
    siren_session_free(s->session);
    if (below(s, 8) == 0) {
        siren_engine_free(s->b.engine);
        siren_model_free(s->b.model);
        open_model(&s->b);
    }
    open_session(s);
}

static void score_some(struct soak *s, size_t n)
{
    static int32_t ids[MOST_CALL][USER_TOKENS + TAIL_TOKENS + 1], labels[5] = {1, 2, 3, 4, 5};
    static double logprobs[MOST_CALL][5];
    struct siren_score scores[MOST_CALL];
    struct siren_tokens continuations[5];
    for (int i = 0; i < 5; i++) continuations[i] = (struct siren_tokens){&labels[i], 1};
    for (size_t i = 0; i < n; i++)
        scores[i] = (struct siren_score){.prompt = {ids[i], make_prompt(s, ids[i])},
                                         .continuations = continuations,
                                         .n_continuations = 5,
                                         .keep_prefix = below(s, 2) ? 24 : 0,
                                         .logprobs = logprobs[i]};
    if (siren_score_many(s->session, scores, n, NULL, &s->b.err)) stop(&s->b);
    s->done += n;
}

static void sample_some(struct soak *s, size_t n)
{
    static int32_t ids[MOST_CALL][USER_TOKENS + TAIL_TOKENS + 1];
    struct siren_generation texts[MOST_CALL];
    struct siren_sampling sampling = {.temperature = 1, .top_p = 0.9f, .max_tokens = 6, .seed = 1};
    for (size_t i = 0; i < n; i++)
        texts[i] = (struct siren_generation){.prompt = {ids[i], make_prompt(s, ids[i])},
                                             .sequence = s->done + i,
                                             .keep = (int)below(s, 2)};
    if (siren_generate_many(s->session, texts, n, &sampling, 8, NULL, &s->b.err)) stop(&s->b);
    for (size_t i = 0; i < n; i++) siren_generation_clear(&texts[i]);
    s->done += n;
    s->texts += n;
}

int main(int argc, char **argv)
{
    static struct soak s = {
        .b = {.program = "soak", .model_path = "tests/fixtures/models/llama", .limit = 1000000}};
    parse(&s.b, argc, argv, 1);
    if (siren_pool_create(&s.b.pool, s.b.threads, &s.b.err)) stop(&s.b);
    open_model(&s.b);
    open_session(&s);
    size_t limit = (size_t)s.b.limit, shown = 0;
    double sum[2] = {0}, count[2] = {0}, most = 0, start = clock_seconds();
    while (s.done < limit) {
        size_t n = 1 + below(&s, MOST_CALL);
        if (below(&s, 10))
            score_some(&s, n);
        else
            sample_some(&s, n);
        if (below(&s, 1000) == 0) reopen(&s);
        double size = resident_mb();
        if (s.done >= limit / 10) {
            int late = s.done >= limit / 20 * 11;
            sum[late] += size;
            count[late]++;
        }
        if (size > most) most = size;
        if (s.done * 10 / limit > shown || s.done >= limit) {
            shown = s.done * 10 / limit;
            printf("%zu prompts (%zu of them sampled from), %.0f s, %.2f MB resident\n", s.done,
                   s.texts, clock_seconds() - start, size);
            fflush(stdout);
        }
    }
    double before = sum[0] / count[0], after = sum[1] / count[1];
    printf("mean of the first half after the start %.2f MB, of the second %.2f MB: %+.2f %%; most "
           "%.2f MB\n",
           before, after, 100 * (after / before - 1), most);
    siren_session_free(s.session);
    siren_engine_free(s.b.engine);
    siren_model_free(s.b.model);
    siren_pool_free(s.b.pool);
    return after > 1.01 * before && after > before + 0.5;
}
