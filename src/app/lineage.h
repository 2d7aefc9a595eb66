/* The trainings that a model descends from, as the workspace's own runs tell, and so which rows of
 * the ratings it has seen: a result on such rows says nothing about new ones.
 *
 * A training's run names the adapters (or models) that it made, each when it was saved, so that
 * those of a run which still goes on or was killed are known, and those that a better one has
 * replaced since.  Every run names what its model was exported from; what a training went on from,
 * and what its teacher was made by, is followed to the runs that made that.  Not known are
 * trainings of other workspaces and those under a fold. */
#ifndef SIREN_APP_LINEAGE_H
#define SIREN_APP_LINEAGE_H

#include <jansson.h>

#include "siren/app.h"

enum lineage_mark {
    LINEAGE_TRAINED = 1,
    LINEAGE_CHOSEN_ON = 2 /* the best of a training was chosen by its answers to these */
};
struct trained_rows {
    uint8_t *row;            /* (ratings) enum lineage_mark, or'ed; NULL: none has any */
    int64_t run, chosen_run; /* the last of the runs that trained on them, and chose by them */
};

/* settings: of an evaluation's run, JSON with the identities "model" and "adapter", and what
 * lineage_add_made_of() adds. */
int lineage_trained_rows(struct trained_rows *out, struct siren_app *app, const char *settings,
                         struct siren_error *err);
void trained_rows_clear(struct trained_rows *trained);
/* The marks of the user's rating of the item. */
int trained_rows_marks(const struct trained_rows *trained, const struct siren_app *app, int user,
                       int item);

/* "made", of a training's run: the list of identities, added to and never taken from. */
void lineage_add_made(json_t *metrics, const char *identity);
/* What lies in the training's folder: all weights in "model", else the adapters "adapter" and
 * "last", of lm's model.  The adapter that lm has is not among them: others made it. */
void lineage_add_folder(json_t *metrics, const char *folder, int full, const struct siren_lm *lm);
/* "made_of", of an exported model: what it was made of, as identities. */
void lineage_add_made_of(json_t *object, const struct siren_lm *lm);

#endif
