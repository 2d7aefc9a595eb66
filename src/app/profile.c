/* Profiles of users, written by the language model from what precedes each target. */
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"

enum { PROFILE_TOKENS = 160 };

struct profiles {
    struct siren_generation *g; /* (n): of the targets that are the first of their kind */
    size_t *of;                 /* (n): target to generation; SIZE_MAX: no history */
    size_t n_generations;
};

static int prompt_ids(struct siren_lm *lm, const struct siren_prompt_input *in,
                      struct siren_tokens *out, struct siren_error *err)
{
    struct siren_prompt prompt;
    char *text = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = siren_prompt_profile(&prompt, in, err);
    if (rc) return rc;
    rc = siren_prompt_text(lm->chat, &prompt, SIREN_OPEN, &text, err);
    if (!rc)
        rc = siren_tokenizer_encode(lm->tokenizer, text, strlen(text), SIREN_ENCODE_PLAIN, &ids, &n,
                                    err);
    *out = (struct siren_tokens){ids, n};
    free(text);
    siren_prompt_clear(&prompt);
    return rc;
}

/* A profile is that of a history: one prompt, one profile.  Two histories of a user may have
 * the same length and differ: under the paper's protocol valid rows belong only to the history of
 * valid targets. */
static int same_prompt(const struct siren_tokens *a, const struct siren_tokens *b)
{
    return a->n_ids == b->n_ids && !memcmp(a->ids, b->ids, a->n_ids * sizeof *a->ids);
}

/* The generation of an equal prompt among those of the targets before, of the same user; or a new
 * one, which takes the prompt. */
static size_t find_or_add(struct profiles *p, const struct siren_target *targets, size_t i,
                          struct siren_tokens prompt)
{
    for (size_t j = i; j-- > 0 && targets[j].user == targets[i].user;)
        if (p->of[j] != SIZE_MAX && same_prompt(&p->g[p->of[j]].prompt, &prompt)) {
            free((void *)prompt.ids);
            return p->of[j];
        }
    p->g[p->n_generations].prompt = prompt;
    return p->n_generations++;
}

static int collect_prompts(struct profiles *p, struct siren_app *app, struct siren_lm *lm,
                           const struct siren_target *targets, size_t n,
                           const struct siren_predict_options *options, const int32_t *stops,
                           size_t n_stops, struct siren_error *err)
{
    struct siren_predict_options plain = siren_predict_defaults();
    plain.strategy.flags = SIREN_WITH_RECENT;
    plain.gap = options->gap;
    for (size_t i = 0; i < n; i++) {
        struct siren_target_input in;
        struct siren_tokens prompt;
        int rc = siren_target_input(app, &targets[i], &plain, &in, err);
        if (rc) return rc;
        p->of[i] = SIZE_MAX;
        if (in.n_history) rc = prompt_ids(lm, &in.input, &prompt, err);
        if (!rc && in.n_history) p->of[i] = find_or_add(p, targets, i, prompt);
        siren_target_input_clear(&in);
        if (rc) return rc;
    }
    for (size_t i = 0; i < p->n_generations; i++) {
        p->g[i].stop_ids = stops;
        p->g[i].n_stop_ids = n_stops;
    }
    return 0;
}

static int write_profiles(struct profiles *p, struct siren_lm *lm, int batch, char **profiles,
                          size_t n, struct siren_error *err)
{
    struct siren_sampling greedy = {.temperature = 0, .top_p = 1, .max_tokens = PROFILE_TOKENS};
    int rc = 0;
    if (p->n_generations)
        rc = lm->calls->generate(lm, p->g, p->n_generations, &greedy, batch, NULL, err);
    for (size_t i = 0; i < n && !rc; i++) {
        size_t length;
        if (p->of[i] == SIZE_MAX) continue;
        rc = siren_tokenizer_decode(lm->tokenizer, p->g[p->of[i]].ids, p->g[p->of[i]].n_ids, 1,
                                    &profiles[i], &length, err);
    }
    return rc;
}

int app_profiles(struct siren_app *app, struct siren_lm *lm, const struct siren_target *targets,
                 size_t n, const struct siren_predict_options *options, char **profiles,
                 struct siren_error *err)
{
    struct profiles p = {alloc_zeroed(n, sizeof *p.g), alloc_zeroed(n, sizeof *p.of), 0};
    int32_t stops[SIREN_MAX_STOPS];
    size_t n_stops = siren_lm_stops(lm, stops);
    int rc = 0;
    if (!p.g || !p.of) rc = siren_fail_memory(err, "profiles", n * sizeof *p.g);
    if (!rc) rc = collect_prompts(&p, app, lm, targets, n, options, stops, n_stops, err);
    if (!rc) rc = write_profiles(&p, lm, options->batch, profiles, n, err);
    for (size_t i = 0; i < p.n_generations; i++) {
        free((void *)p.g[i].prompt.ids);
        siren_generation_clear(&p.g[i]);
    }
    free(p.g);
    free(p.of);
    return rc;
}
