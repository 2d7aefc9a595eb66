/* siren runs WORKSPACE trainings: trainings side by side. */
#ifndef SIREN_CLI_RUNS_TRAININGS_H
#define SIREN_CLI_RUNS_TRAININGS_H

#include "cli/cli.h"
#include "siren/workspace.h"

/* These trainings, or all of the workspace's if `ids` is empty: results, the settings that are not
 * the same in all, and, with a path, their curves on valid as one chart; where all are meant, those
 * whose folder is gone are left out of it.  A named run that is not there, or is no training, is an
 * error; that there are none at all is one for the chart only. */
int runs_trainings(struct cli *cli, struct siren_workspace *ws, const int64_t *ids, size_t n,
                   const char *curves);

#endif
