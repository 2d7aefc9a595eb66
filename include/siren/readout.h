/* From log-probabilities, or from a text, to a rating.
 *
 * Answer only: the labels of the scale ("1" … "5", "3.5", "10") are scored as
 * continuations of "<answer>"; their joint probabilities, renormalised, are the
 * distribution, and what they leave to other tokens is reported as mass
 * outside.  A label that is a prefix of another ("1" of "10", "3" of "3.5") is
 * scored with the beginning of "</answer>" up to the token that holds its '<'.
 *
 * Reasoning: the text "<think>…</think> <answer>r</answer>" is parsed. */
#ifndef SIREN_READOUT_H
#define SIREN_READOUT_H

#include <stddef.h>

#include "siren/error.h"
#include "siren/metrics.h"
#include "siren/score.h"
#include "siren/tokenizer.h"
#include "siren/workspace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A scale's labels as a tokenizer writes them; immutable. */
struct siren_readout {
    int n;                             /* labels, low to high */
    double values[SIREN_MAX_LABELS];   /* 1, 2, … */
    char labels[SIREN_MAX_LABELS][24]; /* "1", "2", … */
    struct siren_tokens tokens[SIREN_MAX_LABELS];
};
/* tokenizer NULL: values and labels only. */
int siren_readout_create(struct siren_readout *out, const struct siren_tokenizer *tokenizer,
                         const struct siren_scale *scale, struct siren_error *err);
void siren_readout_clear(struct siren_readout *readout);
size_t siren_readout_longest(const struct siren_readout *readout); /* label, in tokens */

/* The log-probabilities (n) of the labels to the distribution (n); returns the mass outside,
 * 1 − Σ exp(logprobs), not below 0.  All labels at −infinity: uniform, mass outside 1. */
double siren_readout_distribution(const struct siren_readout *readout, const double *logprobs,
                                  double *distribution);

/* ---- Reading an answer's text ---- */

/* What may be wrong with it, by kind. */
enum siren_answer_fault {
    SIREN_FAULT_NO_TAGS,   /* none of the four tags appears */
    SIREN_FAULT_MISSING,   /* some tag is missing, but each opened part is closed */
    SIREN_FAULT_UNCLOSED,  /* <think> or <answer> without its closing tag */
    SIREN_FAULT_REPEATED,  /* a tag appears more than once */
    SIREN_FAULT_ORDER,     /* the tags' first appearances are not in order */
    SIREN_FAULT_AFTER,     /* text, not only white space, behind the last </answer> */
    SIREN_FAULT_NO_NUMBER, /* no number in <answer> */
    SIREN_FAULT_CLAMPED,   /* the number lies outside the scale */
    SIREN_FAULT_TRUNCATED, /* the length limit ended the text (said by the caller) */
    SIREN_FAULTS
};
const char *siren_fault_name(enum siren_answer_fault fault); /* "no tags", "unclosed", … */

struct siren_reading {
    unsigned faults; /* bits 1 << enum siren_answer_fault; several may be set */
    int format; /* the four tags exactly once, in order, nothing behind: no fault up to AFTER */
    int has_number;
    double rating; /* clamped to the scale; without a number its top (the paper) */
};
/* The rating is the first number inside the last <answer>…</answer> (unclosed, too), and only from
 * there; "4", "4.5", "4,5", "4/5", "4 stars" are numbers, "-1" is clamped. */
struct siren_reading siren_answer_read(const char *text, double low, double high, int truncated);

#ifdef __cplusplus
}
#endif
#endif
