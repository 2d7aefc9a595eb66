/* The settings of a long piece of work, as JSON: whether one that was begun may be resumed. */
#ifndef SIREN_TRAIN_SETTINGS_H
#define SIREN_TRAIN_SETTINGS_H

#include <jansson.h>
#include <stddef.h>

/* Where two settings differ, "--lr is 0.1, it was 0.2; …", up to size bytes: by the option that
 * sets it, or else by the path ("training.beta1"); 0: equal.  Of another "run.kind" that alone is
 * told.  Of a "model" only the hash behind '#' counts, not what its file is called. */
int settings_differ(const json_t *mine, const json_t *theirs, char *text, size_t size);

#endif
