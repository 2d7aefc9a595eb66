/* siren runs: list, show, table, compare, gain, trainings, delete. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/report.h"
#include "cli/runs_trainings.h"
#include "siren/app.h"

static int run_id(struct cli *cli, size_t index, int64_t *id)
{
    const char *text = cli_arg(cli, index);
    char *end;
    if (!text)
        return cli_usage(cli, "the number of a run is missing (`siren runs %s` lists them)",
                         cli_word(cli_arg(cli, 0)));
    *id = strtoll(text, &end, 10);
    if (*end || end == text || *id <= 0)
        return cli_usage(cli, "\"%s\" is not the number of a run", text);
    return 0;
}

static int64_t *new_ids(struct cli *cli, size_t n)
{
    int64_t *ids = calloc(n + 1, sizeof *ids);
    if (!ids) siren_fail_memory(&cli->err, "runs", n * sizeof *ids);
    return ids;
}

/* Those behind the action, malloc'ed; NULL: cli->err. */
static int64_t *run_ids(struct cli *cli, size_t *n)
{
    int64_t *ids = new_ids(cli, cli_n_args(cli));
    int rc = 0;
    *n = 0;
    for (size_t i = 2; ids && i < cli_n_args(cli) && !rc; i++) rc = run_id(cli, i, &ids[(*n)++]);
    if (!rc) return ids;
    free(ids);
    return NULL;
}

/* ---- list ---- */

/* A training's numbers are of the rows that it was judged on, not of its own. */
static void split_and_rows(struct cli_table *table, const struct siren_run *run, int judged)
{
    json_t *settings = judged ? json_loads(run->settings, 0, NULL) : NULL;
    const json_t *own = json_object_get(settings, "run");
    if (!own) own = settings;
    const char *on = json_string_value(json_object_get(own, "eval_split"));
    if (on && *on)
        cli_table_cell(table, "%s, judged on %s", run->split, on);
    else
        cli_table_cell(table, "%s", run->split);
    cli_table_cell(table, "%s", siren_run_status_name(run->status));
    int64_t rows = on && *on ? json_integer_value(json_object_get(own, "eval_rows")) : 0;
    cli_table_cell(table, "%s", cli_number(rows ? (uint64_t)rows : run->n_predictions));
    json_decref(settings);
}

static void list_cells(struct cli_table *table, const struct siren_run *run)
{
    json_t *metrics = run->metrics && *run->metrics ? json_loads(run->metrics, 0, NULL) : NULL;
    const json_t *decoders = json_object_get(metrics, "decoders");
    const json_t *median = json_object_get(decoders, "median");
    const json_t *mean = json_object_get(decoders, "mean");
    cli_table_cell(table, "%lld", (long long)run->id);
    cli_table_cell(table, "%s", run->kind);
    cli_table_cell(table, "%s", *run->name ? run->name : run->model);
    int training = json_object_get(metrics, "training") || !strcmp(run->kind, "all");
    split_and_rows(table, run, training && json_is_object(decoders));
    cli_table_cell(table, "%s", report_real(median, "mae"));
    cli_table_cell(table, "%s", report_real(mean, "rmse"));
    json_decref(metrics);
}

static int list_runs(struct cli *cli, struct siren_workspace *ws)
{
    struct siren_run *runs;
    size_t n;
    int rc = siren_runs_load(&runs, &n, ws, NULL, &cli->err);
    if (rc) return rc;
    if (cli->json) {
        json_t *out = json_array();
        for (size_t i = 0; i < n; i++) json_array_append_new(out, report_run_json(&runs[i]));
        rc = cli_print_json(cli, out);
    } else if (!n) {
        cli_note(cli, "no runs yet: `siren eval`, `siren baselines` and `siren train` make them");
    } else {
        struct cli_table *table = cli_table_create(
            "Run|Kind|Name|Split|Status|Rows|MAE (median)|RMSE (mean)", "rlMllrrr");
        for (size_t i = 0; i < n; i++) list_cells(table, &runs[i]);
        cli_table_print(cli, table);
    }
    siren_runs_free(runs, n);
    return rc;
}

/* ---- show, delete ---- */

static int show_run(struct cli *cli, struct siren_workspace *ws)
{
    struct siren_run run;
    int64_t id;
    int rc = run_id(cli, 2, &id);
    if (!rc) rc = siren_run_load(&run, ws, id, &cli->err);
    if (rc) return rc;
    rc = cli->json ? cli_print_json(cli, report_run_json(&run)) : report_run(cli, &run);
    siren_run_clear(&run);
    return rc;
}

static int delete (struct cli *cli)
{
    struct siren_workspace *ws;
    int64_t id;
    int rc = run_id(cli, 2, &id);
    if (!rc) rc = siren_workspace_open(&ws, cli_arg(cli, 0), SIREN_WORKSPACE_WRITE, &cli->err);
    if (rc) return rc;
    rc = siren_run_delete(ws, id, &cli->err);
    siren_workspace_close(ws);
    if (rc) return rc;
    cli_note(cli, "run %lld and its predictions are deleted", (long long)id);
    return cli->json ? cli_print_json(cli, json_pack("{s:I}", "deleted", (json_int_t)id)) : 0;
}

/* ---- compare ---- */

/* Runs of a side. */
static size_t side_runs(const json_t *report, const char *side)
{
    const json_t *runs = json_object_get(report, side);
    return json_is_array(runs) ? json_array_size(runs) : 1;
}

/* Rows of a side's run; of several those of the smallest. */
static json_int_t side_rows(const json_t *report, const char *name)
{
    const json_t *rows = json_object_get(report, name);
    json_int_t least = json_integer_value(json_is_array(rows) ? json_array_get(rows, 0) : rows);
    for (size_t i = 1; i < json_array_size(rows); i++) {
        json_int_t n = json_integer_value(json_array_get(rows, i));
        if (n < least) least = n;
    }
    return least;
}

static void print_comparison(struct cli *cli, const json_t *report)
{
    struct cli_table *table =
        cli_table_create("Loss|Decoder|A|B|A − B|95 %|p|p (Holm)", "llrrrrrr");
    size_t i;
    json_t *t;
    json_array_foreach(json_object_get(report, "tests"), i, t)
    {
        const char *decoder = json_string_value(json_object_get(t, "decoder"));
        cli_table_cell(table, "%s", json_string_value(json_object_get(t, "loss")));
        cli_table_cell(table, "%s", report_decoder(decoder));
        cli_table_cell(table, "%s", report_real(t, "a"));
        cli_table_cell(table, "%s", report_real(t, "b"));
        cli_table_cell(table, "%+.4f", json_number_value(json_object_get(t, "difference")));
        cli_table_cell(table, "%s", report_interval(t, "low", "high", 1));
        cli_table_cell(table, "%s", report_real(t, "p"));
        cli_table_cell(table, "%s", report_real(t, "p_holm"));
    }
    cli_table_print(cli, table);
    json_array_foreach(json_object_get(report, "answers"), i, t)
        cli_print(cli, "%s: %.1f %% of the answers differ, by %.4f in the mean of all\n",
                  report_decoder(json_string_value(json_object_get(t, "decoder"))),
                  100 * json_number_value(json_object_get(t, "changed")),
                  json_number_value(json_object_get(t, "distance")));
    size_t a = side_runs(report, "a"), b = side_runs(report, "b");
    if (a > 1 || b > 1)
        cli_note(cli, "losses averaged over the runs of a side: A has %zu, B has %zu", a, b);
    cli_note(cli, "%s in common (of %lld and %lld); lower is better; users resampled",
             cli_counted((uint64_t)json_integer_value(json_object_get(report, "rows")), "row"),
             (long long)side_rows(report, "rows_a"), (long long)side_rows(report, "rows_b"));
}

/* ---- gain ---- */

static void print_gain(struct cli *cli, const json_t *report)
{
    struct cli_table *table = cli_table_create(
        "Loss|Decoder|Before|Teacher|Student|Gain|95 %|Student's share|95 %", "llrrrrrrr");
    size_t i;
    json_t *t;
    json_array_foreach(json_object_get(report, "tests"), i, t)
    {
        const char *decoder = json_string_value(json_object_get(t, "decoder"));
        int share = json_is_number(json_object_get(t, "share"));
        cli_table_cell(table, "%s", json_string_value(json_object_get(t, "loss")));
        cli_table_cell(table, "%s", report_decoder(decoder));
        cli_table_cell(table, "%s", report_real(t, "before"));
        cli_table_cell(table, "%s", report_real(t, "teacher"));
        cli_table_cell(table, "%s", report_real(t, "student"));
        cli_table_cell(table, "%+.4f", json_number_value(json_object_get(t, "gain")));
        cli_table_cell(table, "%s", report_interval(t, "gain_low", "gain_high", 1));
        if (!share) {
            cli_table_cell(table, "–");
            cli_table_cell(table, "%s", "");
            continue;
        }
        cli_table_cell(table, "%.0f %%", 100 * json_number_value(json_object_get(t, "share")));
        cli_table_cell(table, "%.0f – %.0f %%",
                       100 * json_number_value(json_object_get(t, "share_low")),
                       100 * json_number_value(json_object_get(t, "share_high")));
    }
    cli_table_print(cli, table);
    cli_note(cli,
             "%s in common; lower is better, so a gain is below 0; a share is told where all of "
             "its interval is; users resampled",
             cli_counted((uint64_t)json_integer_value(json_object_get(report, "rows")), "row"));
}

/* "3", or "3,4,5": the ids are malloc'ed. */
static int run_set(struct cli *cli, size_t index, struct siren_run_set *set)
{
    const char *text = cli_arg(cli, index);
    int64_t *ids = new_ids(cli, text ? strlen(text) : 0);
    int rc = 0;
    if (!ids) return cli->err.code;
    *set = (struct siren_run_set){ids, 0};
    if (!text || !strchr(text, ',')) {
        rc = run_id(cli, index, ids);
        set->n = 1;
        return rc;
    }
    for (const char *at = text; !rc; at++) {
        char *end;
        int64_t id = ids[set->n++] = strtoll(at, &end, 10);
        if (end == at || id <= 0 || (*end && *end != ','))
            rc = cli_usage(cli, "\"%s\" is no list of runs' numbers, as 3,4,5 is", text);
        for (size_t i = 0; i + 1 < set->n && !rc; i++)
            if (ids[i] == id) rc = cli_usage(cli, "\"%s\" has run %lld twice", text, (long long)id);
        at = end;
        if (!*at) break;
    }
    return rc;
}

/* cli->err, or 0 with the report's JSON text. */
static int compare_sets(struct cli *cli, const struct siren_run_set *sides, int n, char **text)
{
    struct siren_app app;
    struct siren_pool *pool = cli_pool(cli);
    if (!pool) return cli->err.code;
    int rc = siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_READ, &cli->err);
    if (rc) return rc;
    rc = n == 2 ? siren_runs_compare(&app, sides, pool, text, &cli->err)
                : siren_runs_gain(&app, sides, pool, text, &cli->err);
    siren_app_close(&app);
    return rc;
}

/* compare A B, gain BEFORE TEACHER STUDENT */
static int compare_runs(struct cli *cli, int n)
{
    struct siren_run_set sides[3] = {{0}};
    char *text = NULL;
    int rc = 0;
    for (int k = 0; k < n && !rc; k++) rc = run_set(cli, 2 + (size_t)k, &sides[k]);
    if (!rc) rc = compare_sets(cli, sides, n, &text);
    for (int k = 0; k < n; k++) free((void *)(uintptr_t)sides[k].ids);
    if (rc) return rc;
    json_t *report = json_loads(text, 0, NULL);
    free(text);
    if (cli->json) return cli_print_json(cli, report);
    if (n == 2)
        print_comparison(cli, report);
    else
        print_gain(cli, report);
    json_decref(report);
    return 0;
}

/* ---- table ---- */

static void print_side_by_side(struct cli *cli, const json_t *report)
{
    struct cli_table *table =
        cli_table_create("Run|Name|MAE (most likely)|MAE (median)|RMSE (mean)|Log-loss", "rMrrrr");
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(report, "runs"), i, r)
    {
        const json_t *d = json_object_get(r, "decoders");
        const char *name = json_string_value(json_object_get(r, "name"));
        const char *model = json_string_value(json_object_get(r, "model"));
        cli_table_cell(table, "%lld", (long long)json_integer_value(json_object_get(r, "id")));
        cli_table_cell(table, "%s", name && *name ? name : model ? model : "");
        cli_table_cell(table, "%s", report_real(json_object_get(d, "argmax"), "mae"));
        cli_table_cell(table, "%s", report_real(json_object_get(d, "median"), "mae"));
        cli_table_cell(table, "%s", report_real(json_object_get(d, "mean"), "rmse"));
        cli_table_cell(table, "%s", report_real(r, "log_loss"));
    }
    cli_table_print(cli, table);
    cli_note(cli, "on the %lld rows that all of them have; lower is better",
             (long long)json_integer_value(json_object_get(report, "rows")));
}

/* NULL: cli->err. */
static json_t *table_of(struct cli *cli, struct siren_app *app, const int64_t *ids, size_t n)
{
    char *text;
    if (siren_runs_table(app, ids, n, &text, &cli->err)) return NULL;
    json_t *report = json_loads(text, 0, NULL);
    free(text);
    if (!report) siren_fail_memory(&cli->err, "a table of runs", 0);
    return report;
}

static int can_be_shown(const struct siren_run *run)
{
    return run->status == SIREN_RUN_DONE && run->n_predictions;
}

/* The numbers of all runs that can be shown and are of this one's split, if it is the first. */
static size_t of_its_split(const struct siren_run *runs, size_t n_runs, size_t first, int64_t *ids)
{
    size_t n = 0;
    if (!can_be_shown(&runs[first])) return 0;
    for (size_t i = 0; i < n_runs; i++) {
        if (!can_be_shown(&runs[i]) || strcmp(runs[i].split, runs[first].split) != 0) continue;
        if (i < first) return 0;
        ids[n++] = runs[i].id;
    }
    return n;
}

/* Runs of two splits have no row in common: a table for each, [{"split", "rows", "runs"}, …]. */
static int tables_by_split(struct cli *cli, struct siren_app *app, json_t *tables)
{
    struct siren_run *runs;
    size_t n_runs, n;
    int rc = siren_runs_load(&runs, &n_runs, app->ws, NULL, &cli->err);
    if (rc) return rc;
    int64_t *ids = new_ids(cli, n_runs);
    if (!ids) rc = cli->err.code;
    for (size_t i = 0; i < n_runs && !rc; i++) {
        if (!(n = of_its_split(runs, n_runs, i, ids))) continue;
        json_t *report = table_of(cli, app, ids, n);
        if (!report) rc = cli->err.code;
        json_object_set_new(report, "split", json_string(runs[i].split));
        json_array_append_new(tables, report);
    }
    free(ids);
    siren_runs_free(runs, n_runs);
    if (rc || json_array_size(tables)) return rc;
    return siren_fail(&cli->err, SIREN_ENOTFOUND, "no finished runs with predictions yet");
}

static int print_tables(struct cli *cli, const json_t *tables)
{
    size_t i, n = json_array_size(tables);
    json_t *report;
    if (cli->json && n > 1) return cli_print_json(cli, json_pack("{s:O}", "splits", tables));
    json_array_foreach(tables, i, report)
    {
        if (n > 1)
            cli_print(cli, "%sSplit %s\n", i ? "\n" : "",
                      json_string_value(json_object_get(report, "split")));
        json_object_del(report, "split"); /* of one table it says nothing */
        if (cli->json) return cli_print_json(cli, json_incref(report));
        print_side_by_side(cli, report);
    }
    return 0;
}

/* The runs that were named, in one table; else all that are done, by their splits. */
static int side_by_side(struct cli *cli)
{
    struct siren_app app;
    size_t n;
    json_t *tables = json_array();
    int64_t *ids = run_ids(cli, &n);
    int rc = ids ? siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_READ, &cli->err)
                 : cli->err.code;
    if (!rc) {
        if (!n)
            rc = tables_by_split(cli, &app, tables);
        else if (json_array_append_new(tables, table_of(cli, &app, ids, n)))
            rc = cli->err.code;
        siren_app_close(&app);
    }
    if (!rc) rc = print_tables(cli, tables);
    free(ids);
    json_decref(tables);
    return rc;
}

static int trainings(struct cli *cli)
{
    struct siren_workspace *ws = NULL;
    size_t n;
    int64_t *ids = run_ids(cli, &n);
    int rc = ids ? siren_workspace_open(&ws, cli_arg(cli, 0), SIREN_WORKSPACE_READ, &cli->err)
                 : cli->err.code;
    if (!rc) rc = runs_trainings(cli, ws, ids, n, cli_string(cli, "curves"));
    siren_workspace_close(ws);
    free(ids);
    return rc;
}

/* Numbers of runs that nothing would be done with are a mistake. */
static int check_count(struct cli *cli, const char *action)
{
    static const struct {
        const char *action;
        size_t most;
    } counts[] = {{"list", 0}, {"show", 1}, {"delete", 1}, {"compare", 2}, {"gain", 3}};
    size_t n = cli_n_args(cli) > 2 ? cli_n_args(cli) - 2 : 0;
    for (size_t i = 0; action && i < sizeof counts / sizeof *counts; i++)
        if (!strcmp(action, counts[i].action) && n > counts[i].most)
            return cli_usage(cli, "%s: found %s, expected %s", action, cli_counted(n, "run"),
                             counts[i].most ? cli_number(counts[i].most) : "none");
    return 0;
}

static int run(struct cli *cli)
{
    const char *action = cli_arg(cli, 1);
    struct siren_workspace *ws;
    int rc = check_count(cli, action);
    if (rc) return rc;
    if (action && !strcmp(action, "trainings")) return trainings(cli);
    if (cli_given(cli, "curves"))
        return cli_usage(cli,
                         "--curves: only trainings have them: siren runs %s trainings --curves "
                         "FILE",
                         cli_word(cli_arg(cli, 0)));
    if (action && !strcmp(action, "compare")) return compare_runs(cli, 2);
    if (action && !strcmp(action, "gain")) return compare_runs(cli, 3);
    if (action && !strcmp(action, "delete")) return delete (cli);
    if (action && !strcmp(action, "table")) return side_by_side(cli);
    if (action && strcmp(action, "list") != 0 && strcmp(action, "show") != 0)
        return cli_usage(cli,
                         "\"%s\" is none of list, show, table, compare, gain, trainings, "
                         "delete",
                         action);
    rc = siren_workspace_open(&ws, cli_arg(cli, 0), SIREN_WORKSPACE_READ, &cli->err);
    if (rc) return rc;
    rc = action && !strcmp(action, "show") ? show_run(cli, ws) : list_runs(cli, ws);
    siren_workspace_close(ws);
    return rc;
}

const struct cli_command cmd_runs = {
    .name = "runs",
    .group = CLI_JUDGE,
    .summary = "list, show, compare and delete stored runs",
    .usage = "WORKSPACE [ACTION] [RUN...]",
    .words = "list|show|table|compare|gain|trainings|delete",
    .words_at = 2,
    .description =
        "Every evaluation, baseline and judgement is a run: its settings, metrics and predictions "
        "stay in the workspace.\n\n"
        "  list             all runs (also without an action)\n"
        "  show RUN         settings and metrics of one\n"
        "  table [RUN...]   several side by side, on the rows that all of them have; without RUN "
        "all, by split\n"
        "  compare A B      the losses of two runs on the rows that both have, with the interval "
        "of the difference\n"
        "  gain A B C       what share of B's gain over A is C's: at once, reasoning, aligned\n"
        "                   (A, B and C may be several runs each, as 3,4,5: three seeds, whose\n"
        "                   losses are averaged on each row before users are resampled)\n"
        "  trainings [RUN...]  trainings side by side; of those named, the settings that differ\n"
        "  delete RUN       remove one and its predictions\n\n"
        "The JSON of a table is {\"rows\", \"runs\"}; of all runs, where they are of several "
        "splits, "
        "{\"splits\": [{\"split\", \"rows\", \"runs\"}, …]}.",
    .common = CLI_JSON | CLI_THREADS,
    .options = (const struct cli_option[]){{.name = "curves",
                                            .type = CLI_STRING,
                                            .argument = "FILE",
                                            .help = "with trainings: their learning curves, as "
                                                    "an SVG",
                                            .writes = 1},
                                           {0}},
    .examples =
        (const struct cli_example[]){
            {"siren runs films.siren", "All runs."},
            {"siren runs films.siren show 3", "One of them."},
            {"siren runs films.siren table 1 2 3", "Three side by side."},
            {"siren runs films.siren trainings 4 5 --curves curves.svg",
             "Two trainings: what they reached, what was set differently, their curves."},
            {"siren runs films.siren compare 3 1", "Is run 3 better than run 1, or is it chance?"},
            {"siren runs films.siren compare 3,4,5 1",
             "The same of three seeds together, their losses averaged."},
            {"siren runs films.siren gain 1 2 5",
             "How much of what reasoning gains in run 2 over run 1 does run 5 have without it?"},
            {0}},
    .run = run,
};
