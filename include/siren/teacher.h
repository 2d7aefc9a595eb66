/* The teacher's states: what stage 2 is aligned to, computed once and stored.
 *
 * For each row the teacher reasoned greedily, and the file holds what it knew at the query token q,
 * the last token of prompt + reasoning + "<answer>": the hidden state after each layer 1 … L (the
 * last one after the final norm), the scores of the rating labels, and the rating that it then
 * wrote.
 *
 *     struct siren_teacher *t;
 *     siren_teacher_open(&t, "states.bin", &err);       // every byte is checked here
 *     for (size_t i = 0; i < siren_teacher_rows(t); i++) {
 *         const struct siren_teacher_row *row = siren_teacher_row(t, i);
 *         siren_teacher_states(t, i, states, &err);     // (n_layers, d)
 *     }
 *     siren_teacher_close(t);
 *
 * The state before the final norm needs no room of its own: norm(x) = x / rms(x) · w, so x has the
 * direction of norm(x) / w, and the alignment loss looks at directions only.
 *
 * File, little-endian.  Header: "SIRENTCH", version u32, encoding u32, n_layers u32, d u32,
 * n_labels u32, JSON length u32, JSON.  Then records: kind u32, user i32, item i32, flags u32,
 * rating f32, number f32, reasoning tokens u32, frame length u32, label scores f32 (n_labels), one
 * zstd frame: token ids i32, then the states.  Header and records each end with 16 bytes, the
 * XXH3-128 (canonical) of the 16 bytes that ended the one before (0 before the header) and their
 * own: a chain, so that a record cannot be lost, moved or taken twice.  A last record without
 * content, of kind "END" and a space, says that the file is whole.  States as bf16 (nearest even):
 * low bytes of all numbers, then their high bytes.  As int8 (version 2): for each block of 32
 * numbers of a layer, the last one shorter, a step and the number of largest magnitude, both bf16;
 * then all numbers, an int8 each: in steps of their block (the largest of the others / 127), or
 * −128 where the block's largest stands. */
#ifndef SIREN_TEACHER_H
#define SIREN_TEACHER_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The rounding of a state, relative to it: bf16 0.2 %; int8, in two thirds of the file, 0.4 % (mean
 * over the layers of SmolLM2-135M, 0.6 % at most).  A few very large numbers, as language models
 * have them, cost the others nothing, but where two of them share a block. */
enum siren_teacher_encoding { SIREN_STATES_BF16, SIREN_STATES_INT8 };

struct siren_teacher_shape {
    int n_layers, d;
    int n_labels; /* 2 … 128 */
    enum siren_teacher_encoding encoding;
};

enum siren_teacher_flags {
    SIREN_TEACHER_NUMBER = 1, /* a rating could be read: a valid answer */
    SIREN_TEACHER_FORMAT = 2, /* the four tags exactly once each, in order, nothing after */
};
struct siren_teacher_row {
    int32_t user, item; /* of the workspace */
    unsigned flags;
    float rating;        /* the truth */
    float number;        /* the teacher's; NAN: none could be read */
    const float *scores; /* (n_labels) log-probabilities of the labels at q */
    size_t n_ids;        /* tokens between the prompt and q, q included */
};

/* ---- Reading ---- */

struct siren_teacher;
/* SIREN_EFORMAT: not such a file, cut short, or changed; SIREN_EINVAL: not finished yet (it is
 * still PATH.partial); SIREN_EUNSUPPORTED: written by a newer version, or int8 by version 1 (one
 * scale a layer, too coarse to learn from).  The file stays mapped. */
int siren_teacher_open(struct siren_teacher **out, const char *path, struct siren_error *err);
void siren_teacher_close(struct siren_teacher *teacher); /* NULL is allowed */
const struct siren_teacher_shape *siren_teacher_shape(const struct siren_teacher *teacher);
/* What the writer was given: the teacher, the prompts, the data, the rows. */
const char *siren_teacher_json(const struct siren_teacher *teacher);
/* The checksum that ends the file, as 32 digits: two files with the same are the same. */
void siren_teacher_checksum(const struct siren_teacher *teacher, char digits[33]);
size_t siren_teacher_rows(const struct siren_teacher *teacher);
const struct siren_teacher_row *siren_teacher_row(const struct siren_teacher *teacher, size_t row);
/* states: (n_layers, d).  Any thread may call it, each with a teacher of its own. */
int siren_teacher_states(struct siren_teacher *teacher, size_t row, float *states,
                         struct siren_error *err);

/* ---- Which rows, with which weight ---- */

struct siren_teacher_filter {
    int any;          /* 1: rows without a valid answer, too; exact and closeness are not read */
    int exact;        /* 0: all valid answers (the paper's text); 1: only where number == rating */
    double share;     /* of these, drawn at random, (0, 1]; with exact, 0.1 is the released code */
    int closeness;    /* 1: weight 1 − |number − rating| / (high − low) instead of 1 */
    double low, high; /* of the scale; read only where closeness is set */
    uint64_t seed;    /* whether a row is drawn is a function of (seed, user, item) */
};
/* weights: (rows), 0 leaves a row out.  Returns how many are above 0. */
size_t siren_teacher_select(const struct siren_teacher *teacher,
                            const struct siren_teacher_filter *filter, double *weights);

/* ---- Writing ----
 *
 * Rows go to PATH.partial and stay there whatever happens; a second writer with the same shape and
 * JSON goes on behind the last whole record.  The end makes it PATH, atomically.  A PATH.partial
 * that was damaged, and not only cut short, is left as it is. */

struct siren_teacher_writer;
/* SIREN_EEXISTS: PATH is there, or PATH.partial was begun under another shape or JSON, or is
 * something else; SIREN_EFORMAT: a row in PATH.partial is damaged (the message says what to do). */
int siren_teacher_writer_open(struct siren_teacher_writer **out, const char *path,
                              const struct siren_teacher_shape *shape, const char *json,
                              struct siren_error *err);
/* Rows that are there already: the caller goes on with the next one. */
size_t siren_teacher_writer_rows(const struct siren_teacher_writer *writer);
/* states: (n_layers, d); ids: (row->n_ids).  SIREN_ENUMERIC: a state or a score is not finite;
 * which row it is, the caller knows. */
int siren_teacher_write(struct siren_teacher_writer *writer, const struct siren_teacher_row *row,
                        const int32_t *ids, const float *states, struct siren_error *err);
/* What was written survives a crash from here on. */
int siren_teacher_writer_sync(struct siren_teacher_writer *writer, struct siren_error *err);
/* Exactly one of these ends it: the file is whole, or goes on another day (NULL is allowed). */
int siren_teacher_writer_finish(struct siren_teacher_writer *writer, struct siren_error *err);
void siren_teacher_writer_close(struct siren_teacher_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
