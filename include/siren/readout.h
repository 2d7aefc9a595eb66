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

/* The log-probabilities (n) of the labels to the distribution (n); returns the mass outside,
 * 1 − Σ exp(logprobs), not below 0.  All labels at −infinity: uniform, mass outside 1. */
double siren_readout_distribution(const struct siren_readout *readout, const double *logprobs,
                                  double *distribution);

/* How an answer's text turned out. */
enum siren_answer_flags {
    SIREN_ANSWER_FORMAT = 1,  /* the four tags exactly once each, in order, nothing after */
    SIREN_ANSWER_NUMBER = 2,  /* a number was read */
    SIREN_ANSWER_CLAMPED = 4, /* it lay outside the scale and was moved to its end */
};
/* Read the rating out of an answer.  Without SIREN_ANSWER_NUMBER in the result the text cannot
 * be parsed and *rating is `fallback` (the paper: the top of the scale).  A number is read from
 * inside <answer>…</answer> (an unclosed last <answer> too), and only from there; "4", "4.5",
 * "4,5", "4/5", "4 stars" are numbers, "-1" is clamped. */
unsigned siren_answer_parse(const char *text, double low, double high, double fallback,
                            double *rating);

#ifdef __cplusplus
}
#endif
#endif
