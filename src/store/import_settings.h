/* What an import was told, kept in the workspace: so that another import of the same data can be
 * told what it does otherwise.  Private to src/store. */
#ifndef SIREN_STORE_IMPORT_SETTINGS_H
#define SIREN_STORE_IMPORT_SETTINGS_H

#include "base/buf.h"
#include "recs/import.h"

/* A line for each option, "--k-core 5\n", as it was found or told. */
void import_settings_put(const struct source *s, struct buf *out);
/* Where two such texts differ: "--k-core is 5, it was 3; …"; nothing where they do not. */
void import_settings_compare(const char *mine, const char *theirs, struct buf *out);

#endif
