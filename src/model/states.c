/* Hidden states of all layers at the last tokens of prompts. */
#include <string.h>

#include "model/pass.h"
#include "model/session.h"

/* Add a prompt to the pass: behind what is kept of it.  Returns the tokens to be computed, or 0:
 * out of memory. */
static size_t add_prompt(struct siren_session *s, const struct siren_tokens *prompt, int *first)
{
    struct siren_kept *kept = cache_find(s, prompt->ids, prompt->n_ids - 1);
    size_t from = kept ? siren_kept_tokens(kept) : 0, n = prompt->n_ids - from;
    int parent = kept ? session_add_kept(s, kept) : SIREN_ROOT, segment;
    if (kept && parent < 0) return 0;
    segment = session_add(s, parent, prompt->ids + from, n, 0);
    for (int l = 1; segment >= 0 && l <= s->engine->model->config.n_layers; l++) {
        int output = siren_forest_want_hidden(s->forest, segment, n - 1, l);
        if (output < 0) return 0;
        if (l == 1) *first = output;
    }
    return segment >= 0 ? n : 0;
}

enum { MOST = 256 };

/* One pass: the states [from, *to), as many as its token budget holds. */
static int run_pass(struct siren_session *s, struct siren_states *states, size_t from, size_t n,
                    size_t *to, struct siren_error *err)
{
    const struct siren_config *c = &s->engine->model->config;
    size_t d = (size_t)c->d_model, tokens = 0;
    int first[MOST], rc;
    siren_forest_clear(s->forest);
    for (*to = from; *to < n && *to - from < MOST; ++*to) {
        size_t more;
        if (*to > from && tokens >= (size_t)s->pass_tokens) break;
        more = add_prompt(s, &states[*to].prompt, &first[*to - from]);
        if (!more) return siren_fail_memory(err, "the forest of a pass", tokens);
        tokens += more;
    }
    rc = siren_forest_plan(s->forest, err);
    if (rc) return rc;
    siren_forest_run(s->forest, NULL);
    for (size_t i = from; i < *to; i++)
        for (int l = 0; l < c->n_layers; l++)
            memcpy(states[i].states + (size_t)l * d,
                   siren_forest_output(s->forest, first[i - from] + l), d * sizeof(float));
    return SIREN_OK;
}

int siren_states_many(struct siren_session *session, struct siren_states *states, size_t n,
                      const struct siren_progress *progress, struct siren_error *err)
{
    int rc = SIREN_OK;
    if (siren_is_encoder(&session->engine->model->config))
        return siren_fail(err, SIREN_EUNSUPPORTED, "states at a last token: of decoders only");
    for (size_t i = 0; i < n; i++)
        if (!states[i].prompt.n_ids)
            return siren_fail(err, SIREN_EINVAL, "prompt %zu has no tokens", i);
    for (size_t from = 0, to; !rc && from < n; from = to) {
        rc = run_pass(session, states, from, n, &to, err);
        if (!rc && siren_progress_update(progress, "states", to, n))
            rc = siren_fail(err, SIREN_ECANCEL, "stopped after %zu of %zu prompts", to, n);
    }
    siren_forest_clear(session->forest);
    return rc;
}
