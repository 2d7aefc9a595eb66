/* The prompt Phi(S_u, H_u, d(i)) and the other prompts of the system.
 *
 * A prompt is two messages (system, user) that a chat template renders.  The
 * order of the user's message is fixed, so that every prefix can be shared:
 * what all prompts have in common (the system message), what is the user's
 * (sketch, profile, habit, recent ratings, oldest first), the candidate, the
 * question.
 *
 * Titles, categories, topic names and profiles are foreign text.  They are
 * cleaned before they enter (siren_prompt_clean): one line, valid UTF-8, and no
 * '<' directly before a letter, '/', '|' or '!', so that they can hold none of
 * the control tokens of the families that we support ("<|im_end|>",
 * "</think>", …).  The whole rendered text may then be tokenised with special
 * tokens recognised, here and in any server that an exported prompt is sent
 * to, and the ids are those of the text as written.
 *
 * The caller gives only the history that strictly precedes the target. */
#ifndef SIREN_PROMPT_H
#define SIREN_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "siren/chat.h"
#include "siren/error.h"
#include "siren/tokenizer.h"
#include "siren/workspace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what a prompt says about the user, besides the candidate ---- */

enum siren_strategy_flags {
    SIREN_WITH_RECENT = 1,   /* the last n_recent ratings as "Title, Genres, Rating" lines */
    SIREN_WITH_MORE = 2,     /* the last n_more of them instead */
    SIREN_WITH_SKETCH = 4,   /* liked and disliked topics */
    SIREN_WITH_COUNTS = 8,   /* … with their support: "(7 of 9 liked)" */
    SIREN_WITH_PROFILE = 16, /* a profile that a language model wrote */
    SIREN_WITH_HABIT = 32,   /* counts of all past ratings by star, the last n_digits as digits */
    SIREN_WITH_DESCRIPTION =
        64,                  /* the candidate's description too, not only title and categories */
    SIREN_WITH_OTHERS = 128, /* counts by star of the candidate's ratings by other users */
};

struct siren_strategy {
    unsigned flags;
    int n_recent; /* 10 (Movies), 30 (Books) */
    int n_more;   /* 50 */
    int n_digits; /* 20 */
};

/* "recent", "recent+sketch", "recent+more", "recent+profile", "recent+habit",
 * "habit+sketch", … : words joined by '+', each of recent, more, sketch, counts
 * (implies sketch), profile, habit, description, others; "none" alone. */
int siren_strategy_parse(struct siren_strategy *out, const char *text, struct siren_error *err);
/* The canonical name of the flags. */
void siren_strategy_name(const struct siren_strategy *strategy, char name[96]);

struct siren_prompt_rating {
    const char *title, *categories; /* categories: "a|b|c"; either may be NULL or empty */
    double rating;
};

struct siren_prompt_topic {
    const char *name;
    int n, n_liked; /* for SIREN_WITH_COUNTS */
};

/* Strings are borrowed.  A cold-start user has no history, an unknown item may have a title only.
 */
struct siren_prompt_input {
    const char *noun;                          /* "movie", "book", "item" */
    struct siren_scale scale;                  /* the scale: 1, 5, 1 */
    double theta;                              /* liked from here on: 4 on 1..5 */
    const struct siren_prompt_rating *history; /* all before the target, oldest first */
    size_t n_history;
    const struct siren_prompt_topic *liked, *disliked; /* in the order of the sketch */
    size_t n_liked, n_disliked;
    const char *profile;                          /* NULL: none written */
    const char *title, *categories, *description; /* of the candidate */
    /* (labels) How often others rated it so before the target; NULL: not known, and not told. */
    const size_t *others;
};

/* ---- building ---- */

struct siren_prompt {
    char *system, *user; /* malloc'ed */
    size_t user_shared;  /* bytes of `user` before the candidate: equal for all candidates */
    int n_ratings;       /* history lines in it */
    int n_cut;           /* history lines left out of the middle to fit */
};
void siren_prompt_clear(struct siren_prompt *prompt);

/* Phi.  `cut` lines are left out of the middle of the history window (0: none). */
int siren_prompt_build(struct siren_prompt *out, const struct siren_prompt_input *in,
                       const struct siren_strategy *strategy, int cut, struct siren_error *err);

/* The profile writer: its answer becomes siren_prompt_input.profile. */
int siren_prompt_profile(struct siren_prompt *out, const struct siren_prompt_input *in,
                         struct siren_error *err);
/* LLM4Rate: zero-shot, raw history, reasoning on, no sketch. */
int siren_prompt_llm4rate(struct siren_prompt *out, const struct siren_prompt_input *in,
                          struct siren_error *err);
/* EXP3RT, its four steps: preferences from one past rating (the candidate is the item that was
 * rated, `rating` the stars, `review` may be NULL); a user's profile from preferences; an item's
 * profile from what others said of it; reasoning and rating from both profiles. */
int siren_prompt_exp3rt_preference(struct siren_prompt *out, const struct siren_prompt_input *in,
                                   double rating, const char *review, struct siren_error *err);
int siren_prompt_exp3rt_user(struct siren_prompt *out, const struct siren_prompt_input *in,
                             const char *const *preferences, size_t n, struct siren_error *err);
int siren_prompt_exp3rt_item(struct siren_prompt *out, const struct siren_prompt_input *in,
                             const char *const *preferences, size_t n, struct siren_error *err);
int siren_prompt_exp3rt_rating(struct siren_prompt *out, const struct siren_prompt_input *in,
                               const char *item_profile, struct siren_error *err);

/* ---- from messages to text and ids ---- */

/* Both begin alike: SIREN_COT ends where the model starts to reason ("…\n<think>\n"), SIREN_AO
 * closes the empty reasoning ("…\n<think>\n</think>\n<answer>"); SIREN_OPEN ends at the header of
 * the assistant's turn. */
enum siren_ending { SIREN_AO, SIREN_COT, SIREN_OPEN };

/* The whole text, malloc'ed. */
int siren_prompt_text(const struct siren_chat *chat, const struct siren_prompt *prompt,
                      enum siren_ending ending, char **text, struct siren_error *err);

struct siren_prompt_ids {
    int32_t *ids;
    size_t n_ids;
    char *text;
    int n_ratings, n_cut; /* as in struct siren_prompt */
};
void siren_prompt_ids_clear(struct siren_prompt_ids *ids);

#define SIREN_PROMPT_LIMIT 2048

/* Build, render and tokenise Phi within `limit` tokens (0: SIREN_PROMPT_LIMIT).  Lines are cut
 * from the middle of the history, never from the candidate; the profile is left out after the
 * last line of history, and a prompt that is still too long is SIREN_EINVAL.  The room that the
 * candidate is given is rounded up to a multiple of 256 tokens, so that a user's part is cut
 * alike for (nearly) all candidates and stays shared; what is cut never depends on what else is
 * in the batch. */
int siren_prompt_encode(struct siren_prompt_ids *out, const struct siren_tokenizer *tokenizer,
                        const struct siren_chat *chat, const struct siren_prompt_input *in,
                        const struct siren_strategy *strategy, enum siren_ending ending,
                        size_t limit, struct siren_error *err);

/* ---- pieces ---- */

/* Foreign text made safe (see above), at most max_characters of it (0: no limit) and "…" behind
 * them where it was cut, malloc'ed; NULL when out of memory.  NULL gives "". */
char *siren_prompt_clean(const char *text, size_t max_characters);

/* "3", "3.5", "10": a rating as it stands in prompts and as a label. */
void siren_rating_text(double rating, char text[24]);

#ifdef __cplusplus
}
#endif
#endif
