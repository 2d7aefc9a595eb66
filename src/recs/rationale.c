/* Sentences with a few wordings each.  In a wording $n is the noun, $c the candidate's title,
 * $l a list of topics, $t the candidate's topic, $m the mean and $o the most frequent rating.
 * No wording depends on the target's rating. */
#include "recs/rationale.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recs/prompt_parts.h"
#include "siren/random.h"

#define THINK_OPEN "<think>\n"
enum { N_LISTED = 3, N_WORDINGS = 4 };

/* Numbers of the draws: one counter for each choice. */
enum part { LIKES, DISLIKES, UNKNOWN, HABIT, FIT, CONCLUSION, ORDER };

struct words {
    const char *noun, *title, *topic;
    const struct siren_prompt_topic *list;
    size_t n_list;
    double mean, mode;
};

static const char *const likes[N_WORDINGS] = {
    "The user enjoys $l.",
    "Topics that this user likes: $l.",
    "Past ratings show a liking for $l.",
    "Going by the sketch, the user prefers $l.",
};
static const char *const dislikes[N_WORDINGS] = {
    "The user does not care much for $l.",
    "Topics that were rated low: $l.",
    "Past ratings show little liking for $l.",
    "Going by the sketch, the user is less fond of $l.",
};
static const char *const unknown[N_WORDINGS] = {
    "No liked or disliked topic of this user is known.",
    "Nothing is known yet about the topics that this user likes.",
    "The sketch of this user names no topic.",
    "There is no topic to go by for this user.",
};
static const char *const habit[N_WORDINGS] = {
    "The past ratings have a mean of $m, and the most frequent one is $o.",
    "The user gives $m on average and most often $o.",
    "Usually this user gives $o, and the mean of the ratings is $m.",
    "As for habit, the mean rating is $m and the most common rating is $o.",
};
static const char *const fits_liked[N_WORDINGS] = {
    "The candidate \"$c\" belongs to $t, which the user likes, so it fits well.",
    "\"$c\" falls under $t, one of the liked topics, which speaks for this $n.",
    "This $n, \"$c\", is about $t, and that is a topic the user tends to rate high.",
    "With \"$c\" the topic is $t, which is among the preferences.",
};
static const char *const fits_disliked[N_WORDINGS] = {
    "The candidate \"$c\" belongs to $t, which the user dislikes, so it fits poorly.",
    "\"$c\" falls under $t, one of the disliked topics, which speaks against this $n.",
    "This $n, \"$c\", is about $t, and that is a topic the user tends to rate low.",
    "With \"$c\" the topic is $t, which is among the dislikes.",
};
static const char *const fits_neither[N_WORDINGS] = {
    "The candidate \"$c\" belongs to no topic of the sketch.",
    "\"$c\" falls under none of the liked or disliked topics.",
    "This $n, \"$c\", is outside the topics that are known for the user.",
    "With \"$c\" the sketch gives no direct hint.",
};
static const char *const candidate[N_WORDINGS] = {
    "The candidate is \"$c\".",
    "Now the user meets \"$c\".",
    "The $n to be rated is \"$c\".",
    "The question is how the user will rate \"$c\".",
};
static const char *const conclusion[N_WORDINGS] = {
    "Single ratings vary, and all this together leads to my answer.",
    "I weigh these points and give the most plausible rating.",
    "One $n can still surprise, but this is what there is to go by.",
    "From this I estimate the rating.",
};

/* ---- wordings ---- */

static void put_topics(struct buf *b, const struct siren_prompt_topic *list, size_t n)
{
    if (n > N_LISTED) n = N_LISTED;
    for (size_t i = 0; i < n; i++) {
        if (i) buf_puts(b, i + 1 < n ? ", " : " and ");
        prompt_put(b, list[i].name, PROMPT_TOPIC);
    }
}

static void put_field(struct buf *b, char field, const struct words *w)
{
    char number[24];
    if (field == 'n') prompt_put(b, w->noun, PROMPT_TOPIC);
    if (field == 'c') prompt_put(b, w->title, PROMPT_TITLE);
    if (field == 't') prompt_put(b, w->topic, PROMPT_TOPIC);
    if (field == 'l') put_topics(b, w->list, w->n_list);
    if (field == 'm') buf_printf(b, "%.1f", w->mean);
    if (field == 'o') {
        siren_rating_text(w->mode, number);
        buf_puts(b, number);
    }
}

/* Foreign text is put, never read again: a '$' in a title stays one. */
static void put_wording(struct buf *b, const char *wording, const struct words *w)
{
    for (const char *p = wording; *p; p++) {
        if (*p == '$')
            put_field(b, *++p, w);
        else
            buf_putc(b, *p);
    }
}

struct writer {
    struct buf b;
    struct words words;
    uint64_t seed, row;
    int begun;
};

static void say_part(struct writer *w, enum part part, const char *const wordings[N_WORDINGS])
{
    uint64_t pick = siren_random_below(w->seed, w->row, part, N_WORDINGS);
    if (w->begun) buf_putc(&w->b, ' ');
    put_wording(&w->b, wordings[pick], &w->words);
    w->begun = 1;
}

/* ---- what the prompt shows ---- */

/* Mean and most frequent rating (of equals the higher) of the ratings that the prompt shows:
 * all where it has the counts, else the lines of its history.  Returns their number. */
static size_t shown_ratings(const struct rationale_input *in, struct words *w)
{
    const struct siren_prompt_input *p = in->prompt;
    struct prompt_window lines = prompt_window(p, in->strategy, in->n_cut);
    size_t n = 0, most = 0;
    int all = (in->strategy->flags & SIREN_WITH_HABIT) != 0;
    int n_labels = siren_scale_labels(&p->scale);
    double sum = 0;
    for (int k = -1; k < n_labels; k++) {
        size_t count = 0;
        for (size_t i = all ? 0 : lines.first; i < p->n_history; i++) {
            if (!all && i >= lines.cut_from && i < lines.cut_to) continue;
            if (siren_scale_label(&p->scale, p->history[i].rating) != k) continue;
            sum += k < 0 ? 0 : p->history[i].rating;
            count++;
        }
        if (k < 0 || !count) continue; /* k < 0: ratings off the scale, not in the counts either */
        n += count;
        if (count < most) continue;
        most = count;
        w->mode = siren_scale_value(&p->scale, k);
    }
    w->mean = n ? sum / (double)n : 0;
    return n;
}

/* 1 liked, -1 disliked, 0 neither. */
static int verdict(const struct siren_prompt_input *p, const struct siren_prompt_topic *topic)
{
    for (size_t i = 0; i < p->n_liked; i++)
        if (topic == &p->liked[i]) return 1;
    for (size_t i = 0; i < p->n_disliked; i++)
        if (topic == &p->disliked[i]) return -1;
    return 0;
}

static void say_sketch(struct writer *w, const struct siren_prompt_input *p)
{
    if (!p->n_liked && !p->n_disliked) say_part(w, UNKNOWN, unknown);
    w->words.list = p->liked;
    w->words.n_list = p->n_liked;
    if (p->n_liked) say_part(w, LIKES, likes);
    w->words.list = p->disliked;
    w->words.n_list = p->n_disliked;
    if (p->n_disliked) say_part(w, DISLIKES, dislikes);
}

static void say_fit(struct writer *w, const struct rationale_input *in)
{
    int sketch = (in->strategy->flags & SIREN_WITH_SKETCH) != 0;
    int sign = verdict(in->prompt, in->topic);
    w->words.topic = sign ? in->topic->name : "";
    say_part(w, FIT,
             !sketch    ? candidate
             : sign > 0 ? fits_liked
             : sign < 0 ? fits_disliked
                        : fits_neither);
}

static void say_all(struct writer *w, const struct rationale_input *in)
{
    int sketch = (in->strategy->flags & SIREN_WITH_SKETCH) != 0;
    int rates = shown_ratings(in, &w->words) > 0;
    int habit_first = (int)siren_random_below(w->seed, w->row, ORDER, 2);
    if (rates && habit_first) say_part(w, HABIT, habit);
    if (sketch) say_sketch(w, in->prompt);
    if (rates && !habit_first) say_part(w, HABIT, habit);
    say_fit(w, in);
    say_part(w, CONCLUSION, conclusion);
}

/* ---- the answer ---- */

static int check_input(const struct rationale_input *in, struct siren_error *err)
{
    const struct siren_scale *s = &in->prompt->scale;
    if (siren_scale_exact_label(s, in->rating) < 0)
        return siren_fail(err, SIREN_EINVAL,
                          "a rating of %g is no label of the scale from %g to %g in steps of %g",
                          in->rating, s->min, s->max, s->step);
    if (in->n_cut < 0)
        return siren_fail(err, SIREN_EINVAL, "%d lines left out of a history", in->n_cut);
    if ((in->strategy->flags & SIREN_WITH_SKETCH) && in->topic && !verdict(in->prompt, in->topic))
        return siren_fail(err, SIREN_EINVAL, "the candidate's topic is not one of the sketch's");
    return 0;
}

int rationale_write(struct rationale *out, const struct rationale_input *in, uint64_t seed,
                    uint64_t row, struct siren_error *err)
{
    struct writer w = {.seed = seed, .row = row};
    const struct siren_prompt_input *p = in->prompt;
    char rating[24];
    *out = (struct rationale){.response = strlen(THINK_OPEN)};
    int rc = check_input(in, err);
    if (rc) return rc;
    w.words.noun = prompt_noun(p);
    w.words.title = p->title && *p->title ? p->title : "(untitled)";
    buf_puts(&w.b, THINK_OPEN);
    say_all(&w, in);
    siren_rating_text(siren_scale_value(&p->scale, siren_scale_label(&p->scale, in->rating)),
                      rating);
    buf_printf(&w.b, "\n</think>\n<answer>%s</answer>", rating);
    out->text = buf_take(&w.b);
    return out->text ? 0 : siren_fail_memory(err, "a rationale", 0);
}

void rationale_clear(struct rationale *rationale)
{
    free(rationale->text);
    *rationale = (struct rationale){0};
}
