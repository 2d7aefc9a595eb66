#include "siren/sketch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "siren/workspace.h"

#define HALF_LIFE_MS (365.25 * 86400e3)

double siren_scale_theta(const struct siren_scale *scale)
{
    return scale->min + 0.75 * (scale->max - scale->min);
}

/* ---- the state ---- */

/* Multiples of 2^-20, times weights that are multiples of 2^-10: sums of some 100,000 of them
 * have less than 53 bits, so they are exact and their order does not matter. */
static double exact_rating(double rating)
{
    return ldexp(rint(ldexp(rating, 20)), -20);
}

int siren_is_liked(double rating, double theta)
{
    return exact_rating(rating) >= exact_rating(theta);
}

static double exact_weight(double weight)
{
    return ldexp(rint(ldexp(weight, 10)), -10);
}

static double decay(int64_t from, int64_t to)
{
    return exp2(-((double)to - (double)from) / HALF_LIFE_MS);
}

void siren_topic_state_clear(struct siren_topic_state *state)
{
    *state = (struct siren_topic_state){.time = SIREN_NO_TIME};
}

/* An empty state has no time either: bytes of zeros are as good as a cleared state. */
static int never_timed(const struct siren_topic_state *s)
{
    return s->time == SIREN_NO_TIME || (s->weight == 0 && s->decayed_weight == 0 && s->time == 0);
}

static void decayed_add(struct siren_topic_state *s, double rating, double weight, int64_t time)
{
    if (never_timed(s)) s->time = time;
    if (time > s->time) {
        double factor = decay(s->time, time);
        s->decayed_weight *= factor;
        s->decayed_sum *= factor;
        s->time = time;
    }
    double share = weight * decay(time, s->time);
    s->decayed_weight += share;
    s->decayed_sum += share * rating;
}

void siren_topic_state_add(struct siren_topic_state *state, double rating, double weight,
                           int64_t time, double theta)
{
    rating = exact_rating(rating);
    weight = exact_weight(weight);
    if (time != SIREN_NO_TIME)
        decayed_add(state, rating, weight, time);
    else if (never_timed(state))
        state->time = SIREN_NO_TIME;
    state->weight += weight;
    state->sum += weight * rating;
    if (siren_is_liked(rating, theta))
        state->liked++;
    else
        state->disliked++;
}

void siren_topic_state_remove(struct siren_topic_state *state, double rating, double weight,
                              int64_t time, double theta)
{
    rating = exact_rating(rating);
    weight = exact_weight(weight);
    state->weight -= weight;
    state->sum -= weight * rating;
    if (siren_is_liked(rating, theta))
        state->liked--;
    else
        state->disliked--;
    if (time != SIREN_NO_TIME) {
        double share = weight * decay(time, state->time);
        state->decayed_weight -= share;
        state->decayed_sum -= share * rating;
    }
    if (state->liked + state->disliked == 0)
        siren_topic_state_clear(state);
    else if (state->decayed_weight < 0)
        state->decayed_weight = state->decayed_sum = 0;
}

typedef void state_change(struct siren_topic_state *state, double rating, double weight,
                          int64_t time, double theta);

static void sketch_change(struct siren_topic_state *states, int k,
                          const struct siren_sketch_event *e, double theta, state_change *change)
{
    for (int i = 0; i < 2; i++) {
        int topic = e->topics[i];
        if (topic >= 0 && topic < k && e->weights[i] > 0)
            change(&states[topic], e->rating, e->weights[i], e->time, theta);
    }
}

void siren_sketch_add(struct siren_topic_state *states, int k,
                      const struct siren_sketch_event *event, double theta)
{
    sketch_change(states, k, event, theta, siren_topic_state_add);
}

void siren_sketch_remove(struct siren_topic_state *states, int k,
                         const struct siren_sketch_event *event, double theta)
{
    sketch_change(states, k, event, theta, siren_topic_state_remove);
}

void siren_sketch_compute(struct siren_topic_state *states, int k,
                          const struct siren_sketch_event *events, size_t n, double theta)
{
    for (int c = 0; c < k; c++) siren_topic_state_clear(&states[c]);
    for (size_t i = 0; i < n; i++) siren_sketch_add(states, k, &events[i], theta);
}

void siren_sketch_soft(const double distances[2], double weights[2])
{
    double sum = distances[0] + distances[1], nearer = 0.5;
    if (isinf(distances[1]))
        nearer = 1;
    else if (sum > 0)
        nearer = distances[1] / sum;
    weights[0] = exact_weight(nearer);
    weights[1] = 1 - weights[0];
}

/* ---- reading it ---- */

/* All topics are weighed at one moment. */
static int64_t reading_time(const struct siren_topic_state *states, int k, int64_t now)
{
    if (now != SIREN_NO_TIME) return now;
    for (int c = 0; c < k; c++)
        if (states[c].decayed_weight > 0 && states[c].time > now) now = states[c].time;
    return now;
}

/* The sums by which a topic is judged; 0 weight: no rating. */
static void judged_sums(const struct siren_topic_state *s, int with_decay, int64_t now,
                        double *weight, double *sum)
{
    *weight = s->weight;
    *sum = s->sum;
    if (!with_decay || !(s->decayed_weight > 0)) return;
    double factor = decay(s->time, now);
    *weight = s->decayed_weight * factor;
    *sum = s->decayed_sum * factor;
}

/* 1 liked, -1 disliked, 0 neither. */
static int judge_topic(const struct siren_topic_state *s, const struct siren_sketch_options *o,
                       double mean)
{
    if (o->rule == SIREN_RULE_MAJORITY)
        return s->liked > s->disliked ? 1 : s->liked < s->disliked ? -1 : 0;
    /* Ratings were taken to 2^-20 (and decayed sums are rounded): a mean that is theta on
     * paper must not fall below it. */
    return mean >= o->theta - ldexp(1, -19) ? 1 : -1;
}

static int by_support(const void *a, const void *b)
{
    const struct siren_sketch_entry *x = a, *y = b;
    if (x->support != y->support) return x->support > y->support ? -1 : 1;
    int order = strcmp(x->name, y->name);
    return order ? order : x->topic - y->topic;
}

int siren_sketch_read(struct siren_sketch *out, const struct siren_topic_state *states, int k,
                      const char *const *names, const struct siren_sketch_options *options,
                      struct siren_error *err)
{
    memset(out, 0, sizeof *out);
    if (k < 0) return siren_fail(err, SIREN_EINVAL, "sketch: %d topics", k);
    out->liked = alloc_array((size_t)k, sizeof *out->liked);
    out->disliked = alloc_array((size_t)k, sizeof *out->disliked);
    if (!out->liked || !out->disliked) {
        siren_sketch_clear(out);
        return siren_fail_memory(err, "a sketch", (size_t)k * sizeof *out->liked);
    }
    const int64_t now = reading_time(states, k, options->now);
    for (int c = 0; c < k; c++) {
        const struct siren_topic_state *s = &states[c];
        double weight, sum;
        if (s->liked + s->disliked == 0) continue;
        judged_sums(s, options->decay, now, &weight, &sum);
        if (!(weight > 0) || weight < options->min_support) {
            out->n_slight++;
            continue;
        }
        struct siren_sketch_entry e = {.topic = c, .name = names[c] ? names[c] : ""};
        e.mean = sum / weight;
        e.support = weight;
        e.liked = s->liked;
        e.count = s->liked + s->disliked;
        int verdict = judge_topic(s, options, e.mean);
        if (verdict > 0) out->liked[out->n_liked++] = e;
        if (verdict < 0) out->disliked[out->n_disliked++] = e;
        out->n_tied += !verdict;
    }
    qsort(out->liked, out->n_liked, sizeof *out->liked, by_support);
    qsort(out->disliked, out->n_disliked, sizeof *out->disliked, by_support);
    return 0;
}

void siren_sketch_clear(struct siren_sketch *sketch)
{
    free(sketch->liked);
    free(sketch->disliked);
    memset(sketch, 0, sizeof *sketch);
}
