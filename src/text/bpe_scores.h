/* SentencePiece's BPE as merges.
 *
 * SentencePiece gives each token a score and joins the neighbours whose whole has
 * the highest one; merges in order of rank say the same.  Every cut of a token into two
 * tokens is a merge: by falling score of the whole, then the longer left part, then the
 * longer right part (in characters), then by the ids of the whole and of the parts.
 * That is the list that transformers makes out of a SentencePiece file. */
#ifndef SIREN_TEXT_BPE_SCORES_H
#define SIREN_TEXT_BPE_SCORES_H

#include "text/bpe.h"

/* Fills m->merges once m->vocab is set.  scores: by id; -INFINITY: a token that takes no part. */
int bpe_merges_from_scores(struct bpe *m, const double *scores, struct siren_error *err);

#endif
