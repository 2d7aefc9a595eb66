/* Log-probabilities of texts in forward passes: of the frozen start, and of the policy where the
 * sampler's do not serve. */
#include <stdlib.h>

#include "base/alloc.h"
#include "train/policy.h"

struct scorer {
    struct siren_forest *forest;
    const struct siren_adapter *adapter;
    float temperature;
    int *outputs; /* of the pass, in the order of the texts' tokens */
    size_t n_outputs, capacity;
};

static int want(struct scorer *s, int segment, size_t token, int32_t target)
{
    int output;
    if (alloc_grow(&s->outputs, &s->capacity, s->n_outputs + 1, sizeof *s->outputs))
        return SIREN_ENOMEM;
    output = siren_forest_want_logprob(s->forest, segment, token, target, s->temperature);
    s->outputs[s->n_outputs++] = output;
    return output < 0 ? output : 0;
}

/* The last token of a text needs no computing: nothing follows it. */
static int add(struct scorer *s, const struct policy_score *t, int prompt)
{
    int text = prompt, rc = want(s, prompt, t->prompt.n_ids - 1, t->ids[0]);
    if (!rc && t->n > 1) {
        text = siren_forest_add(s->forest, prompt, t->ids, t->n - 1, 0);
        rc = text < 0 ? text : 0;
    }
    for (size_t i = 1; i < t->n && !rc; i++) rc = want(s, text, i - 1, t->ids[i]);
    return rc;
}

/* As many texts as the budget holds, one at least: *n. */
static int build(struct scorer *s, const struct policy_score *list, size_t most, size_t pass_tokens,
                 size_t *n)
{
    size_t tokens = 0;
    int prompt = -1, rc = 0;
    s->n_outputs = 0;
    siren_forest_clear(s->forest);
    for (*n = 0; *n < most && !rc; ++*n) {
        const struct policy_score *t = &list[*n];
        int anew = !*n || t->prompt.ids != t[-1].prompt.ids;
        size_t more = t->n - 1 + (anew ? t->prompt.n_ids : 0);
        if (*n && tokens + more > pass_tokens) break;
        tokens += more;
        if (anew) {
            prompt = siren_forest_add(s->forest, SIREN_ROOT, t->prompt.ids, t->prompt.n_ids, 0);
            rc = prompt < 0 ? prompt : siren_forest_use_adapter(s->forest, prompt, s->adapter);
        }
        if (!rc) rc = add(s, t, prompt);
    }
    return rc;
}

static void take(const struct scorer *s, const struct policy_score *list, size_t n)
{
    const int *output = s->outputs;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < list[i].n; j++)
            list[i].logprobs[j] = siren_forest_output(s->forest, *output++)[0];
}

int policy_score(struct siren_forest *forest, const struct siren_adapter *adapter,
                 const struct policy_score *list, size_t n, float temperature, size_t pass_tokens,
                 struct siren_error *err)
{
    struct scorer s = {.forest = forest, .adapter = adapter, .temperature = temperature};
    int rc = 0;
    for (size_t at = 0, some; at < n && !rc; at += some) {
        if (build(&s, list + at, n - at, pass_tokens, &some))
            rc = siren_fail_memory(err, "a scoring pass", pass_tokens * sizeof(int32_t));
        if (!rc) rc = siren_forest_plan(forest, err);
        if (rc) break;
        siren_forest_run(forest, NULL);
        take(&s, list + at, some);
    }
    free(s.outputs);
    siren_forest_clear(forest);
    return rc;
}
