/* Printing of what the library reports as JSON about runs. */
#ifndef SIREN_CLI_REPORT_H
#define SIREN_CLI_REPORT_H

#include "cli/cli.h"
#include "siren/workspace.h"

/* The metrics of one run, as its tables. */
void report_metrics(struct cli *cli, const json_t *metrics);
/* What `siren train all` measured after each stage: [{"after", "answer_only": {…}, "reasoned"}]. */
void report_stages(struct cli *cli, const json_t *valid);
/* One run: settings and metrics. */
int report_run(struct cli *cli, const struct siren_run *run);
/* {"id", "kind", "name", …, "settings": {…}, "metrics": {…}} */
json_t *report_run_json(const struct siren_run *run);
/* A count of an object; 0 where it is missing. */
uint64_t report_count(const json_t *object, const char *key);
/* "0.812", or "" where the value is missing. */
const char *report_real(const json_t *object, const char *key);
/* A decoder of the library's JSON as tables call it; "" for NULL: of the distribution itself. */
const char *report_decoder(const char *name);
/* "0.712 – 0.891", or with signs; "" where a bound is missing, as of one user's rows it is. */
const char *report_interval(const json_t *object, const char *low, const char *high, int is_signed);

#endif
