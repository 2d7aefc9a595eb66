/* A run's stored predictions as columns. */
#ifndef SIREN_APP_PREDICTION_COLUMNS_H
#define SIREN_APP_PREDICTION_COLUMNS_H

#include "siren/app.h"

enum { N_DECODERS = 3 };

/* The rows of a run that have a true rating. */
struct prediction_columns {
    size_t n;
    int32_t *user, *item;
    double *truth;
    double *decoded[N_DECODERS]; /* by enum siren_decoder; NULL: some row has none */
    double *distributions;       /* (n, labels); NULL: some row has none */
    double *number; /* mean of the numbers that a row's texts gave; NULL: some row has no texts */
    unsigned char *invalid;
    double outside; /* mean over the rows that know it; NAN: none does */
    double tokens_in, tokens_out, tokens_cached, latency; /* sums; ms */
    /* Sums over the rows' texts; all 0 without reasoning. */
    size_t n_texts, in_format, faults[SIREN_FAULTS];
};
int prediction_columns_load(struct prediction_columns *out, struct siren_app *app, int64_t run,
                            struct siren_error *err);
void prediction_columns_clear(struct prediction_columns *c);
/* Fails with why these runs cannot be compared; mostly they are of two splits. */
int prediction_columns_no_row_in_common(struct siren_app *app, const int64_t *runs, size_t n,
                                        struct siren_error *err);

#endif
