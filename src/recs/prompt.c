/* Phi: the messages that predict one rating. */
#include "siren/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recs/prompt_parts.h"

enum { MAX_STEPS = 1000 }; /* of a scale */

void siren_prompt_clear(struct siren_prompt *prompt)
{
    if (!prompt) return;
    free(prompt->system);
    free(prompt->user);
    *prompt = (struct siren_prompt){0};
}

/* ---- parts that other prompts use, too ---- */

void prompt_put(struct buf *b, const char *text, size_t max_characters)
{
    char *clean = siren_prompt_clean(text, max_characters);
    if (clean)
        buf_puts(b, clean);
    else
        b->failed = 1;
    free(clean);
}

void prompt_put_item(struct buf *b, const char *title, const char *categories)
{
    prompt_put(b, title && *title ? title : "(untitled)", PROMPT_TITLE);
    if (categories && *categories) {
        buf_puts(b, ", ");
        prompt_put(b, categories, PROMPT_CATEGORIES);
    }
}

void prompt_put_end(struct buf *b, double value)
{
    char text[24];
    siren_rating_text(value, text);
    buf_puts(b, text);
    if (!strchr(text, '.')) buf_puts(b, ".0");
}

const char *prompt_noun(const struct siren_prompt_input *in)
{
    return in->noun && *in->noun ? in->noun : "item";
}

void prompt_put_history(struct buf *b, const struct siren_prompt_input *in, size_t first,
                        size_t cut_from, size_t cut_to)
{
    for (size_t i = first; i < in->n_history; i++) {
        char rating[24];
        if (i >= cut_from && i < cut_to) continue;
        siren_rating_text(in->history[i].rating, rating);
        prompt_put_item(b, in->history[i].title, in->history[i].categories);
        buf_printf(b, ", %s\n", rating);
    }
}

/* " 1: 0, 2: 3, …"; 1: a label has more than one character. */
static int put_counts(struct buf *b, const struct siren_scale *scale, const size_t *counts)
{
    int n_labels = siren_scale_labels(scale), wide = 0;
    for (int k = 0; k < n_labels; k++) {
        char label[24];
        siren_scale_text(scale, k, label);
        wide |= strlen(label) > 1;
        buf_printf(b, "%s %s: %zu", k ? "," : "", label, counts[k]);
    }
    return wide;
}

static void put_others(struct buf *b, const struct siren_prompt_input *in)
{
    int n_labels = siren_scale_labels(&in->scale);
    size_t n = 0;
    if (!in->others) return;
    for (int k = 0; k < n_labels; k++) n += in->others[k];
    buf_puts(b, "\nRatings by others:");
    if (n)
        put_counts(b, &in->scale, in->others);
    else
        buf_puts(b, " none yet");
}

void prompt_put_candidate(struct buf *b, const struct siren_prompt_input *in, unsigned flags)
{
    buf_puts(b, "The candidate ");
    prompt_put(b, prompt_noun(in), PROMPT_TOPIC);
    buf_puts(b, " is described as:\nTitle: ");
    prompt_put(b, in->title && *in->title ? in->title : "(untitled)", PROMPT_TITLE);
    if (in->categories && *in->categories) {
        buf_puts(b, "\nCategories: ");
        prompt_put(b, in->categories, PROMPT_CATEGORIES);
    }
    if (flags & SIREN_WITH_OTHERS) put_others(b, in);
    if ((flags & SIREN_WITH_DESCRIPTION) && in->description && *in->description) {
        buf_puts(b, "\nDescription: ");
        prompt_put(b, in->description, PROMPT_TEXT);
    }
    buf_puts(b, "\n\n");
}

int prompt_finish(struct siren_prompt *out, struct buf *system, struct buf *user,
                  struct siren_error *err)
{
    size_t bytes = system->size + user->size;
    out->system = buf_take(system);
    out->user = buf_take(user);
    if (out->system && out->user) return 0;
    buf_free(system);
    buf_free(user);
    siren_prompt_clear(out);
    return siren_fail_memory(err, "a prompt", bytes);
}

/* ---- Phi ---- */

static void put_system(struct buf *b, const struct siren_prompt_input *in)
{
    buf_puts(b, "You are a recommender assistant. From the user's past behaviour, predict the "
                "rating from ");
    prompt_put_end(b, in->scale.min);
    buf_puts(b, " to ");
    prompt_put_end(b, in->scale.max);
    buf_puts(b, " that the user will give to a candidate ");
    prompt_put(b, prompt_noun(in), PROMPT_TOPIC);
    buf_puts(b, ". First reason inside <think> </think>, then give the number inside "
                "<answer> </answer>.");
}

static void put_topics(struct buf *b, const struct siren_prompt_topic *topics, size_t n, int counts)
{
    for (size_t i = 0; i < n; i++) {
        buf_puts(b, "- ");
        prompt_put(b, topics[i].name, PROMPT_TOPIC);
        if (counts) buf_printf(b, " (%d of %d liked)", topics[i].n_liked, topics[i].n);
        buf_putc(b, '\n');
    }
    buf_putc(b, '\n');
}

static void put_sketch(struct buf *b, const struct siren_prompt_input *in, int counts)
{
    char theta[24];
    siren_rating_text(in->theta, theta);
    if (in->n_liked) {
        buf_printf(b, "The user shows preference for the following topics (ratings ≥ %s):\n",
                   theta);
        put_topics(b, in->liked, in->n_liked, counts);
    }
    if (in->n_disliked) {
        buf_printf(b, "The user shows dislike for the following topics (ratings < %s):\n", theta);
        put_topics(b, in->disliked, in->n_disliked, counts);
    }
}

/* The counts of the past ratings by label, then the last n_digits of them, oldest first. */
static void put_habit(struct buf *b, const struct siren_prompt_input *in, int n_digits)
{
    size_t first = in->n_history > (size_t)n_digits ? in->n_history - (size_t)n_digits : 0;
    size_t counts[MAX_STEPS + 1] = {0};
    if (!in->n_history) return;
    for (size_t i = 0; i < in->n_history; i++) {
        int label = siren_scale_label(&in->scale, in->history[i].rating);
        if (label >= 0) counts[label]++;
    }
    buf_puts(b, "Counts of the user's past ratings:");
    int wide = put_counts(b, &in->scale, counts);
    buf_puts(b, "\nThe user's last ratings, oldest first: ");
    for (size_t i = first; i < in->n_history; i++) {
        char label[24];
        siren_rating_text(in->history[i].rating, label);
        buf_printf(b, "%s%s", wide && i > first ? ", " : "", label);
    }
    buf_puts(b, "\n\n");
}

struct prompt_window prompt_window(const struct siren_prompt_input *in,
                                   const struct siren_strategy *strategy, int cut)
{
    int want = strategy->flags & SIREN_WITH_MORE     ? strategy->n_more
               : strategy->flags & SIREN_WITH_RECENT ? strategy->n_recent
                                                     : 0;
    size_t n = in->n_history < (size_t)want ? in->n_history : (size_t)want;
    size_t n_cut = cut < 0 ? 0 : (size_t)cut < n ? (size_t)cut : n;
    size_t first = in->n_history - n, cut_from = first + (n - n_cut) / 2;
    return (struct prompt_window){first, cut_from, cut_from + n_cut};
}

static void put_recent(struct buf *b, struct siren_prompt *out, const struct siren_prompt_input *in,
                       const struct siren_strategy *strategy, int cut)
{
    struct prompt_window w = prompt_window(in, strategy, cut);
    out->n_cut = (int)(w.cut_to - w.cut_from);
    out->n_ratings = (int)(in->n_history - w.first) - out->n_cut;
    const unsigned of_candidate = SIREN_WITH_DESCRIPTION | SIREN_WITH_OTHERS;
    if (!in->n_history && (strategy->flags & ~of_candidate))
        buf_puts(b, "The user has not rated anything yet.\n\n");
    if (!out->n_ratings) return;
    buf_puts(b, "The user's most recent ratings, oldest first (Title, Genres, Rating):\n");
    prompt_put_history(b, in, w.first, w.cut_from, w.cut_to);
    buf_putc(b, '\n');
}

static int check_input(const struct siren_prompt_input *in, struct siren_error *err)
{
    const struct siren_scale *s = &in->scale;
    if (s->step > 0 && s->max > s->min && (s->max - s->min) / s->step <= MAX_STEPS) return 0;
    return siren_fail(err, SIREN_EINVAL, "a rating scale from %g to %g in steps of %g is not one",
                      s->min, s->max, s->step);
}

int siren_prompt_build(struct siren_prompt *out, const struct siren_prompt_input *in,
                       const struct siren_strategy *strategy, int cut, struct siren_error *err)
{
    struct buf system = {0}, user = {0};
    unsigned flags = strategy->flags;
    *out = (struct siren_prompt){0};
    if (check_input(in, err)) return SIREN_EINVAL;
    put_system(&system, in);
    if (flags & SIREN_WITH_SKETCH) put_sketch(&user, in, (flags & SIREN_WITH_COUNTS) != 0);
    if ((flags & SIREN_WITH_PROFILE) && in->profile && *in->profile) {
        buf_puts(&user, "The user's profile: ");
        prompt_put(&user, in->profile, PROMPT_PROFILE);
        buf_puts(&user, "\n\n");
    }
    if (flags & SIREN_WITH_HABIT) put_habit(&user, in, strategy->n_digits);
    put_recent(&user, out, in, strategy, cut);
    out->user_shared = user.size;
    prompt_put_candidate(&user, in, flags);
    buf_puts(&user, "Based on this, what rating will the user give?");
    return prompt_finish(out, &system, &user, err);
}

/* ---- strategies ---- */

static const struct {
    const char *word;
    unsigned flag;
} words[] = {
    {"recent", SIREN_WITH_RECENT},           {"more", SIREN_WITH_MORE},
    {"sketch", SIREN_WITH_SKETCH},           {"counts", SIREN_WITH_COUNTS},
    {"profile", SIREN_WITH_PROFILE},         {"habit", SIREN_WITH_HABIT},
    {"description", SIREN_WITH_DESCRIPTION}, {"others", SIREN_WITH_OTHERS},
};
enum { N_WORDS = sizeof words / sizeof words[0] };

static unsigned word_flag(const char *text, size_t length)
{
    for (int i = 0; i < N_WORDS; i++)
        if (strlen(words[i].word) == length && !memcmp(words[i].word, text, length))
            return words[i].flag;
    return 0;
}

int siren_strategy_parse(struct siren_strategy *out, const char *text, struct siren_error *err)
{
    struct siren_strategy s = {.flags = 0, .n_recent = 10, .n_more = 50, .n_digits = 20};
    const char *p = text;
    while (strcmp(text, "none") != 0) {
        size_t length = strcspn(p, "+");
        unsigned flag = word_flag(p, length);
        if (!flag)
            return siren_fail(err, SIREN_EINVAL,
                              "strategy \"%s\": \"%.*s\" is none of recent, more, sketch, counts, "
                              "profile, habit, description, others (joined by '+'), or \"none\" "
                              "alone",
                              text, (int)length, p);
        s.flags |= flag;
        if (!p[length]) break;
        p += length + 1;
    }
    if (s.flags & SIREN_WITH_COUNTS) s.flags |= SIREN_WITH_SKETCH;
    *out = s;
    return 0;
}

void siren_strategy_name(const struct siren_strategy *strategy, char name[96])
{
    size_t used = 0;
    name[0] = '\0';
    for (int i = 0; i < N_WORDS; i++)
        if (strategy->flags & words[i].flag)
            used +=
                (size_t)snprintf(name + used, 96 - used, "%s%s", used ? "+" : "", words[i].word);
    if (!used) snprintf(name, 96, "none");
}
