/* What a text like "train", "valid:A", "train:last3" or "train:last10+valid:A" says of the rows of
 * the ratings (`--split`, `--fit-on`, `--eval-split`).
 *
 * Parts are joined by '+'; a row that is in several is there once.  A part is a label (train,
 * valid, test, history, none), and behind a ':' either the half of the users, A or B
 * (siren_user_half()), or "last" for the last row of each user with that label, "last3" for the
 * last three. */
#ifndef SIREN_APP_SPLIT_H
#define SIREN_APP_SPLIT_H

#include "siren/app.h"

enum { SPLIT_PARTS = 4, SPLIT_TEXT = 64 }; /* at most; a text's bytes with its end */

struct split {
    int n;
    struct split_part {
        int label;
        char half;   /* 'A' or 'B'; 0: all users */
        size_t last; /* of each user's rows, so many at the end; 0: all */
    } parts[SPLIT_PARTS];
};

/* SIREN_EINVAL with what was found and what is expected. */
int split_parse(const char *text, struct split *out, struct siren_error *err);

/* 1: a part, or every part, has the label. */
int split_has(const struct split *split, int label);
int split_is(const struct split *split, int label);

/* 1: they have rows in common, whatever the data: a label, and not of different halves. */
int split_share(const struct split *a, const struct split *b);

/* The rows in the order of the ratings, malloc'ed; *n 0: there are none. */
int split_targets(const struct siren_app *app, const struct split *split,
                  struct siren_target **targets, size_t *n, struct siren_error *err);

#endif
