/* siren theorem: can updates of W_K and W_V stand for the reasoning? */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/parts.h"
#include "app/theorem_job.h"
#include "base/buf.h"
#include "cli/answering.h"
#include "siren/file.h"
#include "siren/plot.h"

enum { MOST_RANKS = 16 };

/* "1,2,4" */
static int read_ranks(struct cli *cli, int ranks[MOST_RANKS], int *n)
{
    const char *text = cli_string(cli, "ranks");
    char *end;
    for (*n = 0; *text; text = *end == ',' ? end + 1 : end) {
        long rank = strtol(text, &end, 10);
        if (end == text || rank < 1 || rank > 65536 || (*end && *end != ','))
            return cli_usage(cli, "--ranks: expected numbers like 1,2,4, found \"%s\"", text);
        if (*n == MOST_RANKS) return cli_usage(cli, "--ranks: at most %d of them", MOST_RANKS);
        for (int i = 0; i < *n; i++)
            if (ranks[i] == rank) return cli_usage(cli, "--ranks: %ld is there twice", rank);
        ranks[(*n)++] = (int)rank;
    }
    return *n ? 0 : cli_usage(cli, "--ranks: expected at least one");
}

/* ---- output ---- */

static json_t *numbers(const double *x, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, app_real(x[i]));
    return list;
}

static int print_json(struct cli *cli, const struct theorem_job_report *r)
{
    const struct siren_theorem *t = &r->theorem;
    json_t *out = json_object(), *ranks = json_array();
    for (int i = 0; i < t->n_ranks; i++) {
        int at = i * t->n_layers;
        json_t *rank = json_object();
        json_object_set_new(rank, "rank", json_integer(t->ranks[i]));
        json_object_set_new(rank, "predicted", numbers(t->predicted + at, t->n_layers));
        json_object_set_new(rank, "after", numbers(t->after + at, t->n_layers));
        json_object_set_new(rank, "linear", numbers(t->linear + at, t->n_layers));
        json_object_set_new(rank, "size", numbers(t->size + at, t->n_layers));
        json_object_set_new(rank, "kl", app_real(r->kl_after[i]));
        json_array_append_new(ranks, rank);
    }
    json_object_set_new(out, "teacher", app_text(r->teacher));
    json_object_set_new(out, "rows", json_integer((json_int_t)r->n_rows));
    json_object_set_new(out, "tokens", json_integer((json_int_t)r->n_tokens));
    json_object_set_new(out, "before", numbers(t->before, t->n_layers));
    json_object_set_new(out, "kl_before", app_real(r->kl_before));
    json_object_set_new(out, "ranks", ranks);
    json_object_set_new(out, "seconds", json_real(r->seconds));
    return cli_print_json(cli, out);
}

static double mean(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] / n;
    return sum;
}

/* Layers down, ranks across: one of the report's arrays. */
static void print_table(struct cli *cli, const struct siren_theorem *t, const double *values,
                        int with_before)
{
    char columns[32 * (MOST_RANKS + 2)] = "Layer", align[MOST_RANKS + 3] = "r";
    struct cli_table *table;
    if (with_before) strcat(columns, "|before");
    for (int i = 0; i < t->n_ranks; i++) sprintf(columns + strlen(columns), "|r = %d", t->ranks[i]);
    memset(align, 'r', (size_t)(1 + with_before + t->n_ranks));
    align[1 + with_before + t->n_ranks] = '\0';
    table = cli_table_create(columns, align);
    for (int l = 0; l < t->n_layers; l++) {
        cli_table_cell(table, "%d", l);
        if (with_before) cli_table_cell(table, "%.4f", t->before[l]);
        for (int i = 0; i < t->n_ranks; i++)
            cli_table_cell(table, "%.4f", values[i * t->n_layers + l]);
    }
    cli_table_rule(table);
    cli_table_cell(table, "mean");
    if (with_before) cli_table_cell(table, "%.4f", mean(t->before, t->n_layers));
    for (int i = 0; i < t->n_ranks; i++)
        cli_table_cell(table, "%.4f", mean(values + i * t->n_layers, t->n_layers));
    cli_table_print(cli, table);
}

static void print_ratings(struct cli *cli, const struct theorem_job_report *r)
{
    const struct siren_theorem *t = &r->theorem;
    struct cli_table *table = cli_table_create("Updates|KL|size, mean", "lrr");
    cli_table_cell(table, "none");
    cli_table_cell(table, "%.2g", r->kl_before);
    cli_table_cell(table, "%d", 0);
    for (int i = 0; i < t->n_ranks; i++) {
        cli_table_cell(table, "r = %d", t->ranks[i]);
        cli_table_cell(table, "%.2g", r->kl_after[i]);
        cli_table_cell(table, "%.4f", mean(t->size + i * t->n_layers, t->n_layers));
    }
    cli_table_print(cli, table);
}

static void print_text(struct cli *cli, const struct theorem_job_report *r)
{
    cli_print(cli, "What is left, ||h - h_CoT|| / ||h_CoT||, after the updates of rank r:\n");
    print_table(cli, &r->theorem, r->theorem.after, 1);
    cli_print(cli, "\nThe linearisation's own error, ||h - h_linear|| / ||h_CoT||:\n");
    print_table(cli, &r->theorem, r->theorem.linear, 0);
    cli_print(cli, "\nRatings: KL from the teacher's distribution, in nats; and the updates beside "
                   "the weights:\n");
    print_ratings(cli, r);
    cli_note(cli, "%s of %s, %s, in %s", cli_counted(r->n_rows, "prompt"), r->teacher,
             cli_counted(r->n_tokens, "token"), cli_seconds(r->seconds));
}

static int plot_report(struct cli *cli, const struct theorem_job_report *r, const char *path)
{
    const struct siren_theorem *t = &r->theorem;
    double layers[4096];
    char labels[MOST_RANKS][32], title[200];
    struct siren_series series[MOST_RANKS + 2];
    int n = t->n_layers < 4096 ? t->n_layers : 4096;
    struct siren_plot p = {.title = title,
                           .x = {.label = "layer, the first is 0"},
                           .y = {.label = "||h \xe2\x88\x92 h_CoT|| / ||h_CoT||", .log = 10},
                           .series = series,
                           .n_series = (size_t)t->n_ranks + 2};
    for (int l = 0; l < n; l++) layers[l] = l;
    snprintf(title, sizeof title, "What low-rank updates of W_K and W_V leave (%zu prompt%s)",
             r->n_rows, r->n_rows == 1 ? "" : "s");
    series[0] = (struct siren_series){
        .label = "before", .n = (size_t)n, .x = layers, .y = t->before, .dashed = 1};
    for (int i = 0; i < t->n_ranks; i++) {
        snprintf(labels[i], sizeof labels[i], "r = %d", t->ranks[i]);
        series[1 + i] = (struct siren_series){.label = labels[i],
                                              .n = (size_t)n,
                                              .x = layers,
                                              .y = t->after + i * t->n_layers,
                                              .points = 1};
    }
    series[1 + t->n_ranks] = (struct siren_series){.label = "linearisation's error, last r",
                                                   .n = (size_t)n,
                                                   .x = layers,
                                                   .y = t->linear + (t->n_ranks - 1) * t->n_layers,
                                                   .dashed = 1};
    return siren_plot_write(&p, 1, path, &cli->err);
}

/* ---- the command ---- */

/* What could not be written is said before the hours of work, not after them. */
static int check_file(struct cli *cli, const char *path)
{
    struct siren_writer *w;
    struct stat st;
    if (!path || (!stat(path, &st) && !S_ISREG(st.st_mode))) return 0;
    int rc = siren_writer_open(&w, path, &cli->err);
    if (!rc) siren_writer_abort(w);
    return rc;
}

static void note_teacher(void *cli, const char *teacher)
{
    cli_note(cli,
             "the states are those of %s, which is not the model that the updates are made for: "
             "their bases must be comparable, as those of a model and its export are",
             teacher);
}

static int check_ranks(struct cli *cli, const struct siren_lm *lm, const int *ranks, int n)
{
    if (!lm->model) return 0; /* which the job says */
    int most = siren_theorem_most_rank(siren_model_config(lm->model));
    for (int i = 0; i < n; i++)
        if (ranks[i] > most)
            return cli_usage(cli, "--ranks: found %d, expected 1 to %d of this model", ranks[i],
                             most);
    return 0;
}

static int compute_and_print(struct cli *cli, struct siren_app *app, struct siren_lm *lm,
                             const int *ranks, int n)
{
    const char *only = cli_string(cli, "only"), *svg = cli_string(cli, "svg");
    int rc;
    struct theorem_job_report report;
    struct theorem_job_options o = {.teacher = cli_string(cli, "teacher"),
                                    .n_rows = (size_t)cli_int(cli, "rows"),
                                    .any = cli_flag(cli, "any"),
                                    .seed = (uint64_t)cli_int(cli, "seed"),
                                    .theorem = siren_theorem_defaults(),
                                    .out = cli_string(cli, "out"),
                                    .other_teacher = note_teacher,
                                    .context = cli};
    o.theorem.ranks = ranks;
    o.theorem.n_ranks = n;
    o.theorem.keys = !only || strcmp(only, "values") != 0;
    o.theorem.values = !only || strcmp(only, "keys") != 0;
    o.theorem.steps = (int)cli_int(cli, "steps");
    o.theorem.ridge = cli_float(cli, "ridge");
    rc = app_theorem_job(app, lm, &o, &report, cli_progress(cli), &cli->err);
    cli_progress_end(cli);
    if (rc) return rc;
    if (cli->json)
        rc = print_json(cli, &report);
    else
        print_text(cli, &report);
    if (!rc && svg) rc = plot_report(cli, &report, svg);
    if (!rc && svg) cli_note(cli, "%s: the chart", svg);
    if (!rc && o.out) cli_note(cli, "%s/r…: an adapter of each rank", o.out);
    theorem_job_report_clear(&report);
    return rc;
}

static int run(struct cli *cli)
{
    struct siren_app app;
    struct siren_lm lm = {0};
    int ranks[MOST_RANKS], n = 0, rc;
    if (!cli_need(cli, "teacher")) return cli->err.code;
    rc = read_ranks(cli, ranks, &n);
    if (!rc) rc = check_file(cli, cli_string(cli, "svg"));
    if (rc) return rc;
    rc = siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_READ, &cli->err);
    if (rc) return rc;
    rc = answering_open(cli, &lm, 0);
    if (!rc) rc = check_ranks(cli, &lm, ranks, n);
    if (!rc) rc = compute_and_print(cli, &app, &lm, ranks, n);
    siren_lm_close(&lm);
    siren_app_close(&app);
    return rc;
}

const struct cli_command cmd_theorem = {
    .name = "theorem",
    .group = CLI_TRAIN,
    .summary = "compute updates of W_K and W_V that stand for the reasoning",
    .usage = "WORKSPACE",
    .description =
        "The KV adaptation equivalence as an experiment.  For rows of a teacher's file (`siren "
        "train teach`) every layer is linearised at the answer-only prompts, and least squares "
        "give the updates of W_K and W_V that would move its hidden state at the last token to "
        "the teacher's.  They are cut to each rank, applied as a LoRA adapter, and the model is "
        "run: the tables show what is left for each layer and rank, and how far the linear model "
        "was off.\n\n"
        "Each layer is corrected with what the corrected layers below make of the prompt.  With "
        "--steps the linearisation is repeated where it ended, and a step is taken as far as it "
        "helps.\n\n"
        "The updates are of the model's own weights: an adapter is merged into it first (`siren "
        "model export`).",
    .common = CLI_JSON | CLI_SEED | CLI_THREADS | CLI_MODEL | CLI_ISA,
    .options =
        (const struct cli_option[]){
            OPTION_STRING("teacher", "FILE", NULL, "the teacher's states"),
            OPTION_INT("rows", "N", "4", 1, 256,
                       "rows with a valid answer, drawn with the seed, for all of which one update "
                       "has to do",
                       .letter = 'n'),
            OPTION_FLAG("any", "also rows whose answer had no rating in it"),
            OPTION_STRING("ranks", "LIST", "1,2,4,8,16",
                          "ranks of the updates; at the width of the keys nothing is cut off",
                          .letter = 'r'),
            OPTION_CHOICE("only", "MATRIX", NULL, "keys|values", "update one of the two"),
            OPTION_INT("steps", "N", "1", 1, 100,
                       "linearisations of a layer; 1: the theorem as it stands"),
            OPTION_FLOAT("ridge", "X", "0.1", 0, 1000,
                         "how much the size of an update counts against what it reaches"),
            OPTION_STRING("svg", "FILE", NULL, "a chart of what is left, by layer and rank",
                          .writes = 1),
            OPTION_STRING("out", "DIR", NULL,
                          "keep the updates, as adapters r1, r2 … in this folder", .letter = 'o'),
            TEMPLATE_OPTION,
            {0}},
    .examples =
        (const struct cli_example[]){
            {"siren theorem films.siren --model smollm2.gguf --teacher states.bin",
             "Four prompts, ranks 1 to 16."},
            {"siren theorem films.siren -m smollm2.gguf --teacher states.bin --rows 1 --ranks 8 "
             "--steps 10 --svg residual.svg",
             "One prompt, as near as rank 8 gets, with a chart."},
            {0}},
    .run = run,
};
