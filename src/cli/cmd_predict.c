/* siren predict: the rating that a user will give. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "cli/answering.h"

struct predict {
    struct siren_app app;
    struct siren_lm lm;
    struct siren_predict_options options;
    struct siren_target *targets;
    struct siren_answer *answers;
    size_t n;
};

static const char *title_of(const struct predict *p, size_t i)
{
    const struct siren_target *t = &p->targets[i];
    return t->item >= 0 ? p->app.items.item[t->item].title : t->title;
}

/* ---- what to predict ---- */

static int find_targets(struct cli *cli, struct predict *p)
{
    const char *user = cli_string(cli, "user"), *title = cli_string(cli, "title");
    size_t n_items = cli_count(cli, "item");
    int rc = 0;
    if (!n_items && !title) return cli_usage(cli, "--item, --title or --pairs is needed");
    p->targets = alloc_zeroed(n_items + 1, sizeof *p->targets);
    p->answers = alloc_zeroed(n_items + 1, sizeof *p->answers);
    if (!p->targets || !p->answers) return siren_fail_memory(&cli->err, "targets", n_items);
    for (size_t i = 0; i < n_items && !rc; i++)
        rc = siren_app_target(&p->app, user, cli_string_at(cli, "item", i), &p->targets[p->n++],
                              &cli->err);
    if (rc == SIREN_ENOTFOUND)
        siren_fail_prefix(&cli->err, rc,
                          "--item %s (describe an unknown one by --title and --categories)",
                          cli_string_at(cli, "item", p->n - 1));
    if (!rc && title) {
        rc = siren_app_target(&p->app, user, NULL, &p->targets[p->n], &cli->err);
        p->targets[p->n].title = title;
        p->targets[p->n].categories = cli_string(cli, "categories");
        p->targets[p->n++].description = cli_string(cli, "description");
    }
    if (!rc && p->targets[0].user < 0) answering_new_user(cli, user);
    return rc;
}

/* ---- results ---- */

static void bar(struct cli *cli, const char *label, double share)
{
    char blocks[4 * 40 + 1] = "";
    int n = (int)(share * 40 + 0.5);
    for (int i = 0; i < n; i++) memcpy(blocks + 3 * i, "█", 4);
    cli_print(cli, "  %4s  %5.1f %%  %s\n", label, 100 * share, blocks);
}

static void print_one(struct cli *cli, const struct predict *p)
{
    const struct siren_answer *a = &p->answers[0];
    const struct siren_target *t = &p->targets[0];
    cli_print(cli, "%s\n", title_of(p, 0));
    if (a->text) cli_print(cli, "%s\n\n", a->text);
    for (int k = a->n_labels - 1; k >= 0; k--) {
        char label[24];
        siren_scale_text(&p->app.meta.scale, k, label);
        bar(cli, label, a->probabilities[k]);
    }
    if (a->n_labels)
        cli_print(cli,
                  "  expected %.2f, median %g, most likely %g; %.*f %% of the probability is on "
                  "no rating\n",
                  a->mean, a->median, a->argmax, a->outside < 0.1, 100 * a->outside);
    else
        cli_print(cli, "  answer %g%s\n", a->mean,
                  a->invalid ? " (no number could be read: the fallback)" : "");
    if (a->samples && a->n_labels)
        cli_print(cli, "  the mean number of %s: %.2f (%d without one)\n",
                  cli_counted((uint64_t)a->samples, "text"), a->number, a->unreadable);
    if (t->row != SIREN_NO_ROW)
        cli_print(cli, "  rated %g already; predicted from what came before\n",
                  (double)p->app.ratings.rating[t->row]);
    cli_print(cli, "  %d tokens (%d computed), %s\n", a->tokens_in, a->tokens_in - a->tokens_cached,
              cli_seconds(a->latency_ms / 1e3));
}

static void print_table(struct cli *cli, const struct predict *p)
{
    char columns[256] = "Title", align[SIREN_MAX_LABELS + 16] = "L";
    struct cli_table *table;
    double ms = 0;
    size_t tokens = 0, cached = 0;
    answering_columns(&p->app, columns, sizeof columns - 64, align);
    strcat(columns, "|Expected|Median|Most likely|Outside|Rated");
    strcat(align, "rrrrr");
    table = cli_table_create(columns, align);
    for (size_t i = 0; i < p->n; i++) {
        const struct siren_answer *a = &p->answers[i];
        cli_table_cell(table, "%s", title_of(p, i));
        answering_cells(&p->app, table, a);
        cli_table_cell(table, "%.2f", a->mean);
        cli_table_cell(table, "%g", a->median);
        cli_table_cell(table, "%g", a->argmax);
        if (isnan(a->outside))
            cli_table_cell(table, "%s", "");
        else
            cli_table_cell(table, "%.2g %%", 100 * a->outside);
        if (p->targets[i].row == SIREN_NO_ROW)
            cli_table_cell(table, "%s", "");
        else
            cli_table_cell(table, "%g", (double)p->app.ratings.rating[p->targets[i].row]);
        ms += a->latency_ms;
        tokens += (size_t)a->tokens_in;
        cached += (size_t)a->tokens_cached;
    }
    cli_table_print(cli, table);
    cli_note(cli, "%s (%s computed) in %s", cli_counted(tokens, "token"),
             cli_number(tokens - cached), cli_seconds(ms / 1e3));
}

static int print_json(struct cli *cli, const struct predict *p)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->n; i++) {
        json_t *answer;
        char *text;
        int rc = siren_answer_json(&p->app, &p->targets[i], &p->answers[i], &text, &cli->err);
        if (rc) {
            json_decref(list);
            return rc;
        }
        answer = json_loads(text, 0, NULL);
        free(text);
        if (p->targets[i].user < 0 && cli_string(cli, "user"))
            json_object_set_new(answer, "user", json_string(cli_string(cli, "user")));
        json_array_append_new(list, answer);
    }
    return cli_print_json(cli, list);
}

/* The topic of an unknown item, where an encoder is given. */
static int print_topic(struct cli *cli, const struct predict *p)
{
    const char *path = cli_string(cli, "encoder"), *title = cli_string(cli, "title");
    struct siren_encoder encoder;
    int topic, rc;
    if (!title || !path || !p->app.topics.k) return 0;
    const struct siren_encoder_options mode = {
        .isa = cli_string(cli, "isa"), .compute = siren_encoder_compute(p->app.topics.encoder)};
    rc = siren_encoder_open(&encoder, path, &mode, cli_pool(cli), &cli->err);
    if (rc) return rc;
    rc = siren_nearest_topic(&p->app, &encoder, title, cli_string(cli, "categories"), &topic,
                             &cli->err);
    if (!rc && topic >= 0)
        cli_note(cli, "%s is new; its nearest topic: %s", title, p->app.topic_names[topic]);
    siren_encoder_close(&encoder);
    return rc;
}

static int predict_items(struct cli *cli, struct predict *p)
{
    int rc = find_targets(cli, p);
    if (!rc) rc = print_topic(cli, p);
    if (!rc) rc = answering_open(cli, &p->lm, 0);
    if (!rc)
        rc = siren_predict(&p->app, &p->lm, p->targets, p->n, &p->options, p->answers,
                           p->n > 1 ? cli_progress(cli) : NULL, &cli->err);
    if (rc) return rc;
    cli_progress_end(cli);
    if (cli->json) return print_json(cli, p);
    if (p->n == 1)
        print_one(cli, p);
    else
        print_table(cli, p);
    return 0;
}

static int predict_pairs(struct cli *cli, struct predict *p)
{
    const char *output = cli_string(cli, "output"), *format = cli_string(cli, "format");
    struct siren_pairs_report report;
    int rc;
    if (!output) return cli_usage(cli, "--pairs needs --output FILE");
    rc = answering_open(cli, &p->lm, 0);
    if (!rc)
        rc = siren_predict_pairs(&p->app, &p->lm, cli_string(cli, "pairs"), output,
                                 strcmp(format, "jsonl") ? SIREN_CSV : SIREN_JSONL, &p->options,
                                 &report, cli_progress(cli), &cli->err);
    if (rc) return rc;
    cli_progress_end(cli);
    if (cli->json)
        return cli_print_json(
            cli, json_pack("{s:o,s:I,s:I,s:I,s:I,s:I,s:f}", "output", app_text(output), "pairs",
                           (json_int_t)report.n, "unknown_users", (json_int_t)report.n_new_users,
                           "invalid", (json_int_t)report.n_invalid, "tokens",
                           (json_int_t)report.n_tokens, "tokens_cached",
                           (json_int_t)report.n_tokens_cached, "seconds", report.seconds));
    /* Notes: the output may be /dev/stdout. */
    cli_note(cli, "%s: %s in %s", output, cli_counted(report.n, "prediction"),
             cli_seconds(report.seconds));
    if (report.n_new_users)
        cli_note(cli, "%s of them for users that the workspace does not know, without a history",
                 cli_number(report.n_new_users));
    return 0;
}

/* What would be ignored is a mistake. */
static int check_options(struct cli *cli)
{
    static const char *const of_one[] = {"user",        "item",    "title", "categories",
                                         "description", "encoder", NULL},
                             *const of_pairs[] = {"output", "format", NULL},
                             *const of_title[] = {"categories", "description", "encoder", NULL};
    if (cli_given(cli, "pairs"))
        return cli_refuse(cli, of_one, "with --pairs the users and items are those of its file");
    int rc = cli_refuse(cli, of_pairs, "it is about the answers to --pairs");
    if (!rc && !cli_given(cli, "title"))
        rc = cli_refuse(cli, of_title, "it is about the item of a --title");
    return rc;
}

static int run(struct cli *cli)
{
    struct predict p = {0};
    int rc = check_options(cli);
    if (rc) return rc;
    rc = siren_app_open(&p.app, cli_arg(cli, 0), SIREN_WORKSPACE_READ, &cli->err);
    if (rc) return rc;
    rc = answering_options(cli, &p.app, 1, &p.options);
    if (!rc && !(p.options.strategy.flags & SIREN_WITH_DESCRIPTION))
        rc = cli_refuse(cli, (const char *const[]){"description", NULL},
                        "the strategy shows no description");
    if (!rc) rc = answering_calibration(cli, &p.options);
    if (!rc) rc = cli_given(cli, "pairs") ? predict_pairs(cli, &p) : predict_items(cli, &p);
    siren_answers_free(p.answers, p.n);
    free(p.targets);
    siren_calibration_free(p.options.calibration);
    siren_lm_close(&p.lm);
    siren_app_close(&p.app);
    return rc;
}

const struct cli_command cmd_predict = {
    .name = "predict",
    .group = CLI_PREDICT,
    .summary = "predict the rating that a user will give to items",
    .usage = "WORKSPACE",
    .description =
        "Writes the prompt of the user and each item, and reads the distribution over the ratings "
        "off the language model's next token: all labels of the scale, renormalised, with three "
        "decoders (expected value, median, most likely) and the probability that lies on no "
        "rating at all.  Items of one user share the computation of the user's part.\n\n"
        "If the user has rated the item already, the prediction is made as of before that rating.  "
        "A user that the workspace does not know is answered without a history, and told so.  An "
        "item that it does not know is described by --title and --categories; with --encoder its "
        "nearest topic is shown.\n\n"
        "With --pairs a CSV file with the columns user and item is answered into --output, which "
        "is written completely or not at all.",
    .common = CLI_JSON | CLI_SEED | CLI_THREADS | CLI_MODEL | CLI_ENCODER | CLI_USER | CLI_ITEMS |
              CLI_ISA | CLI_ADAPTER,
    .options =
        (const struct cli_option[]){
            {.name = "title",
             .type = CLI_STRING,
             .argument = "TEXT",
             .help = "title of an item that is not in the workspace"},
            {.name = "categories", .type = CLI_STRING, .argument = "A|B", .help = "its categories"},
            {.name = "description",
             .type = CLI_STRING,
             .argument = "TEXT",
             .help = "its description (strategy description)"},
            {.name = "pairs",
             .type = CLI_STRING,
             .argument = "FILE",
             .help = "a CSV file with the columns user and item"},
            {.name = "output",
             .letter = 'o',
             .type = CLI_STRING,
             .argument = "FILE",
             .help = "where the answers to --pairs go",
             .writes = 1},
            {.name = "format",
             .type = CLI_CHOICE,
             .argument = "FORMAT",
             .initial = "csv",
             .choices = "csv|jsonl",
             .help = "of --output"},
            ANSWER_OPTIONS,
            SAMPLING_OPTIONS("512"),
            SAMPLES_OPTION,
            CALIBRATION_OPTION,
            {0}},
    .examples =
        (const struct cli_example[]){
            {"siren predict films.siren --model smollm2.gguf --user 196 --item 242",
             "The distribution over the stars for one film."},
            {"siren predict films.siren -m smollm2.gguf -u 196 -i 242 -i 302 -i 377 --json",
             "Several films for a program to read."},
            {"siren predict films.siren -m smollm2.gguf -u 196 --title 'The Glass Harbour' "
             "--categories 'Drama|Romance'",
             "A film that the workspace does not know."},
            {"siren predict films.siren -m smollm2.gguf -u 196 -i 242 --calibration "
             "films.calibration",
             "The distribution corrected by what `siren calibrate` learned on valid."},
            {"siren predict films.siren -m smollm2.gguf --pairs tonight.csv -o tonight.jsonl "
             "--format jsonl",
             "A batch job."},
            {0}},
    .run = run,
};
