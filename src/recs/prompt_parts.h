/* What the prompt writers share. */
#ifndef SIREN_RECS_PROMPT_PARTS_H
#define SIREN_RECS_PROMPT_PARTS_H

#include "base/buf.h"
#include "siren/prompt.h"

/* Longest title, category list, topic name and description that enter a prompt, in characters. */
enum {
    PROMPT_TITLE = 300,
    PROMPT_CATEGORIES = 400,
    PROMPT_TOPIC = 120,
    PROMPT_TEXT = 1500,
    PROMPT_PROFILE = 3000,
};

/* `text` cleaned; out of memory makes the buffer failed. */
void prompt_put(struct buf *b, const char *text, size_t max_characters);
/* "Title, Genres" (either may be missing). */
void prompt_put_item(struct buf *b, const char *title, const char *categories);
/* "1.0": ends of the scale as the instruction names them. */
void prompt_put_end(struct buf *b, double value);
const char *prompt_noun(const struct siren_prompt_input *in);
/* "Title, Genres, Rating" lines of history[first..last), leaving out [cut_from, cut_to). */
void prompt_put_history(struct buf *b, const struct siren_prompt_input *in, size_t first,
                        size_t cut_from, size_t cut_to);
/* The lines of history that Phi shows: [first, n_history) without [cut_from, cut_to). */
struct prompt_window {
    size_t first, cut_from, cut_to;
};
struct prompt_window prompt_window(const struct siren_prompt_input *in,
                                   const struct siren_strategy *strategy, int cut);
/* "The candidate movie is described as:" and its lines; of `flags` those about it. */
void prompt_put_candidate(struct buf *b, const struct siren_prompt_input *in, unsigned flags);
/* Moves the two buffers into *out, or fails. */
int prompt_finish(struct siren_prompt *out, struct buf *system, struct buf *user,
                  struct siren_error *err);

#endif
