/* The prompts beside Phi: the profile writer, LLM4Rate, and EXP3RT's four steps. */
#include <string.h>

#include "recs/prompt_parts.h"
#include "siren/prompt.h"

enum { PROFILE_LINES = 50 };

static void put_past(struct buf *b, const struct siren_prompt_input *in)
{
    size_t first = in->n_history > PROFILE_LINES ? in->n_history - PROFILE_LINES : 0;
    if (!in->n_history) {
        buf_puts(b, "The user has not rated anything yet.\n\n");
        return;
    }
    buf_puts(b, "The user's ratings, oldest first (Title, Genres, Rating):\n");
    prompt_put_history(b, in, first, 0, 0);
    buf_putc(b, '\n');
}

static void put_scale(struct buf *b, const struct siren_prompt_input *in)
{
    prompt_put_end(b, in->scale.min);
    buf_puts(b, " (worst) to ");
    prompt_put_end(b, in->scale.max);
    buf_puts(b, " (best)");
}

int siren_prompt_profile(struct siren_prompt *out, const struct siren_prompt_input *in,
                         struct siren_error *err)
{
    struct buf system = {0}, user = {0};
    *out = (struct siren_prompt){0};
    buf_puts(&system, "You describe the taste of a user from past ratings, which go from ");
    put_scale(&system, in);
    buf_puts(&system, ". Write one paragraph of at most 100 words: what the user likes, what the "
                      "user dislikes, and how strictly the user rates. Do not list titles.");
    put_past(&user, in);
    out->user_shared = user.size;
    buf_puts(&user, "Write the user's profile.");
    return prompt_finish(out, &system, &user, err);
}

int siren_prompt_llm4rate(struct siren_prompt *out, const struct siren_prompt_input *in,
                          struct siren_error *err)
{
    struct buf system = {0}, user = {0};
    *out = (struct siren_prompt){0};
    buf_puts(&system, "You predict how a user will rate a ");
    prompt_put(&system, prompt_noun(in), PROMPT_TOPIC);
    buf_puts(&system, " on a scale from ");
    put_scale(&system, in);
    buf_puts(&system, ". Think step by step inside <think> </think>, then give the number inside "
                      "<answer> </answer>.");
    put_past(&user, in);
    out->user_shared = user.size;
    out->n_ratings = in->n_history > PROFILE_LINES ? PROFILE_LINES : (int)in->n_history;
    prompt_put_candidate(&user, in, 0);
    buf_puts(&user, "What rating will the user give?");
    return prompt_finish(out, &system, &user, err);
}

int siren_prompt_exp3rt_preference(struct siren_prompt *out, const struct siren_prompt_input *in,
                                   double rating, const char *review, struct siren_error *err)
{
    struct buf system = {0}, user = {0};
    char stars[24];
    *out = (struct siren_prompt){0};
    siren_rating_text(rating, stars);
    buf_puts(&system, "You extract preferences from one rating of a user. Answer with two lines, "
                      "\"Like: …\" and \"Dislike: …\", each a short list of properties of the ");
    prompt_put(&system, prompt_noun(in), PROMPT_TOPIC);
    buf_puts(&system, ", or \"none\". Use only what the rating and the review support.");
    buf_puts(&user, "Title: ");
    prompt_put_item(&user, in->title, in->categories);
    buf_printf(&user, "\nRating: %s on a scale from ", stars);
    put_scale(&user, in);
    buf_puts(&user, "\nReview: ");
    prompt_put(&user, review && *review ? review : "none", PROMPT_TEXT);
    buf_puts(&user, "\n\nExtract the preferences.");
    return prompt_finish(out, &system, &user, err);
}

static void put_preferences(struct buf *b, const char *const *preferences, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_puts(b, "- ");
        prompt_put(b, preferences[i], PROMPT_TEXT);
        buf_putc(b, '\n');
    }
    if (!n) buf_puts(b, "- none\n");
    buf_putc(b, '\n');
}

int siren_prompt_exp3rt_user(struct siren_prompt *out, const struct siren_prompt_input *in,
                             const char *const *preferences, size_t n, struct siren_error *err)
{
    struct buf system = {0}, user = {0};
    *out = (struct siren_prompt){0};
    buf_puts(&system, "You write the profile of a user from preferences that were extracted from "
                      "past ratings. Answer with two lines, \"Like: …\" and \"Dislike: …\", "
                      "the strongest preferences first.");
    buf_puts(&user, "The user's preferences, oldest first:\n");
    put_preferences(&user, preferences, n);
    out->user_shared = user.size;
    buf_puts(&user, "Write the user's profile.");
    return prompt_finish(out, &system, &user, err);
}

int siren_prompt_exp3rt_item(struct siren_prompt *out, const struct siren_prompt_input *in,
                             const char *const *preferences, size_t n, struct siren_error *err)
{
    struct buf system = {0}, user = {0};
    *out = (struct siren_prompt){0};
    buf_puts(&system, "You write the profile of a ");
    prompt_put(&system, prompt_noun(in), PROMPT_TOPIC);
    buf_puts(&system, " from its description and from what other users liked and disliked about "
                      "it. Answer with two lines, \"Strengths: …\" and \"Weaknesses: …\".");
    buf_puts(&user, "Title: ");
    prompt_put_item(&user, in->title, in->categories);
    if (in->description && *in->description) {
        buf_puts(&user, "\nDescription: ");
        prompt_put(&user, in->description, PROMPT_TEXT);
    }
    buf_puts(&user, "\n\nWhat other users said:\n");
    put_preferences(&user, preferences, n);
    buf_puts(&user, "Write the profile.");
    return prompt_finish(out, &system, &user, err);
}

int siren_prompt_exp3rt_rating(struct siren_prompt *out, const struct siren_prompt_input *in,
                               const char *item_profile, struct siren_error *err)
{
    struct buf system = {0}, user = {0};
    *out = (struct siren_prompt){0};
    buf_puts(&system, "You predict how a user will rate a ");
    prompt_put(&system, prompt_noun(in), PROMPT_TOPIC);
    buf_puts(&system, " on a scale from ");
    put_scale(&system, in);
    buf_puts(&system, ". Compare the user's profile with the profile of the ");
    prompt_put(&system, prompt_noun(in), PROMPT_TOPIC);
    buf_puts(&system, " step by step inside <think> </think>, then give the number inside "
                      "<answer> </answer>.");
    buf_puts(&user, "The user's profile:\n");
    prompt_put(&user, in->profile && *in->profile ? in->profile : "none", PROMPT_PROFILE);
    buf_puts(&user, "\n\n");
    out->user_shared = user.size;
    prompt_put_candidate(&user, in, 0);
    buf_puts(&user, "Its profile:\n");
    prompt_put(&user, item_profile && *item_profile ? item_profile : "none", PROMPT_PROFILE);
    buf_puts(&user, "\n\nWhat rating will the user give?");
    return prompt_finish(out, &system, &user, err);
}
