#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "siren/import.h"

/* ---- options ---- */

/* TIME[,TIME] */
static int read_ends(struct cli *cli, const char *text, struct siren_import_options *o)
{
    size_t n = strcspn(text, ",");
    char first[64];
    snprintf(first, sizeof first, "%.*s", (int)(n < 60 ? n : 60), text);
    int rc = cli_time(cli, "train-until", first, &o->train_until);
    if (!rc && text[n]) rc = cli_time(cli, "train-until", text + n + 1, &o->valid_until);
    if (!rc && (!o->train_until || (text[n] && o->valid_until < o->train_until)))
        rc = cli_usage(cli,
                       "--train-until %s: expected a time behind 1970-01-01, and then a later "
                       "one",
                       text);
    return rc;
}

static int read_shares(struct cli *cli, const char *text, struct siren_import_options *o)
{
    char *end;
    o->train_share = strtod(text, &end);
    const char *second = *end == ',' ? end + 1 : NULL;
    o->valid_share = second ? strtod(second, &end) : 0;
    if (*end || end == second || !(o->train_share > 0) || !(o->valid_share >= 0) ||
        !(o->train_share + o->valid_share < 1))
        return cli_usage(cli,
                         "--shares '%.40s': expected two that leave some for the test, such as "
                         "0.8,0.1",
                         text);
    return SIREN_OK;
}

static int read_times(struct cli *cli, struct siren_import_options *o)
{
    static const char *const of_time[] = {"train-until", "shares", NULL};
    const char *until = cli_string(cli, "train-until"), *shares = cli_string(cli, "shares");
    if (o->split != SIREN_SPLIT_TIME) return cli_refuse(cli, of_time, "it needs --split time");
    if (until && shares) return cli_usage(cli, "--train-until or --shares, not both");
    if (until) return read_ends(cli, until, o);
    return shares ? read_shares(cli, shares, o) : SIREN_OK;
}

/* A column holds one thing, but an item's id may be its title. */
static int read_columns(struct cli *cli, struct siren_import_columns *c)
{
    static const char *const ratings[] = {"user-column", "item-column", "rating-column",
                                          "time-column"};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++) {
            const char *a = cli_string(cli, ratings[k]), *b = cli_string(cli, ratings[i]);
            if (a && b && !strcmp(a, b))
                return cli_usage(cli, "--%s and --%s are both '%.60s'", ratings[k], ratings[i], a);
        }
    c->user = cli_string(cli, "user-column");
    c->item = cli_string(cli, "item-column");
    c->rating = cli_string(cli, "rating-column");
    c->time = cli_string(cli, "time-column");
    c->title = cli_string(cli, "title-column");
    c->categories = cli_string(cli, "categories-column");
    c->features = cli_string(cli, "features-column");
    c->description = cli_string(cli, "description-column");
    c->year = cli_string(cli, "year-column");
    return SIREN_OK;
}

static int is(struct cli *cli, const char *option, const char *value)
{
    const char *given = cli_string(cli, option);
    return given && !strcmp(given, value);
}

static int read_options(struct cli *cli, struct siren_import_options *o)
{
    siren_import_defaults(o);
    o->format = cli_string(cli, "format");
    o->items = cli_string(cli, "items");
    o->separator = cli_string(cli, "separator");
    if (is(cli, "separator", "\\t")) o->separator = "\t";
    o->list_separator = cli_string(cli, "list-separator");
    if (is(cli, "encoding", "utf-8")) o->encoding = SIREN_TEXT_UTF8;
    if (is(cli, "encoding", "latin-1")) o->encoding = SIREN_TEXT_LATIN1;
    if (is(cli, "time-unit", "s")) o->time_unit = SIREN_TIME_S;
    if (is(cli, "time-unit", "ms")) o->time_unit = SIREN_TIME_MS;
    if (is(cli, "time-unit", "us")) o->time_unit = SIREN_TIME_US;
    if (is(cli, "time-unit", "ns")) o->time_unit = SIREN_TIME_NS;
    if (cli_given(cli, "k-core")) o->k_core = (int)cli_int(cli, "k-core");
    if (is(cli, "split", "leave-last-out")) o->split = SIREN_SPLIT_LAST;
    if (is(cli, "split", "time")) o->split = SIREN_SPLIT_TIME;
    if (is(cli, "split", "none")) o->split = SIREN_SPLIT_NONE;
    if (cli_given(cli, "folds")) o->folds = (int)cli_int(cli, "folds");
    o->seed = (uint64_t)cli_int(cli, "seed");
    if (is(cli, "protocol", "paper")) o->protocol = SIREN_PROTOCOL_PAPER;
    if (is(cli, "protocol", "full")) o->protocol = SIREN_PROTOCOL_FULL;
    o->noun = cli_string(cli, "noun");
    o->skip_bad = cli_flag(cli, "skip-bad");
    o->all_items = cli_flag(cli, "all-items");
    o->replace = cli_flag(cli, "replace");
    int rc = read_columns(cli, &o->columns);
    if (!rc && cli_given(cli, "scale"))
        rc = siren_scale_parse(cli_string(cli, "scale"), &o->scale, &cli->err);
    return rc ? cli_options_given(cli, rc) : read_times(cli, o);
}

/* ---- the report ---- */

static void put_row(struct cli_table *t, const char *what, uint64_t n, const char *why)
{
    if (n == 0) return;
    cli_table_cell(t, "%s", what);
    cli_table_cell(t, "%s", cli_number(n));
    cli_table_cell(t, "%s", why);
}

static void print_dropped(struct cli_table *t, const struct siren_import_report *r)
{
    char why[160];
    put_row(t, "bad lines skipped", r->bad_lines, "not what the format promises");
    put_row(t, "earlier ratings dropped", r->duplicates,
            "the user rated the item again: the latest is kept");
    snprintf(why, sizeof why, "%d-core: %s users and %s items with fewer than %d; rounds: %d",
             r->k_core, cli_number(r->core_users), cli_number(r->core_items), r->k_core,
             r->core_rounds);
    put_row(t, "ratings dropped", r->core_ratings, why);
    put_row(t, "items left out", r->items_unrated,
            r->core_items ? "without a rating that is kept" : "nobody rated them");
    put_row(t, "item entries repeated", r->items_repeated, "the first is kept");
}

static void print_kept(struct cli_table *t, const struct siren_import_report *r)
{
    static const char *const why[] = {"in no split", "to learn from", "to choose by", "to judge by",
                                      "in histories only"};
    char split[80];
    put_row(t, "ratings", r->ratings, "kept");
    put_row(t, "users", r->users, "");
    put_row(t, "items", r->items, r->items_file[0] ? r->items_file : "");
    put_row(t, "items without a title", r->items_untitled, "their id stands for it");
    put_row(t, "ratings without a time", r->no_time, "first in their user's order");
    cli_table_rule(t);
    for (int i = 1; i < 5; i++) {
        snprintf(split, sizeof split, "%s: %s", r->split, why[i]);
        put_row(t, siren_label_name(i), r->labels[i], split);
    }
    put_row(t, "users of fewer than 3 ratings", r->short_users, "without a valid or a test rating");
}

static const char *times_text(const struct siren_import_report *r, char text[40])
{
    if (!r->time_unit[0]) return "no times";
    if (!strcmp(r->time_unit, "date")) return "times as dates";
    snprintf(text, 40, "times in %s", r->time_unit);
    return text;
}

static void print_report(struct cli *cli, const struct siren_import_report *r)
{
    struct cli_table *t = cli_table_create("What|Count|Why", "lrL");
    put_row(t, "lines read", r->lines, r->detected);
    put_row(t, "ratings read", r->ratings_read, "");
    print_dropped(t, r);
    cli_table_rule(t);
    print_kept(t, r);
    cli_table_print(cli, t);
    for (int i = 0; i < r->n_bad; i++) cli_print(cli, "Skipped: %s\n", r->bad[i]);
    for (int i = 0; i < r->n_notes; i++) cli_print(cli, "Note: %s.\n", r->notes[i]);
    char folds[60] = "", times[40];
    if (r->folds) snprintf(folds, sizeof folds, ", and %d folds", r->folds);
    cli_print(cli,
              "Scale %g to %g in steps of %g; %s; split %s%s; protocol %s; median history of a "
              "test rating %g.\n",
              r->scale.min, r->scale.max, r->scale.step, times_text(r, times), r->split, folds,
              siren_protocol_name(r->protocol), r->median_history);
    if (r->unchanged)
        cli_print(cli, "The workspace holds this import already: nothing was changed.\n");
    else
        cli_note(cli, "Imported in %s. Next: siren embed %s --encoder DIR", cli_seconds(r->seconds),
                 cli_word(cli_arg(cli, 0)));
}

static int print_json(struct cli *cli, const struct siren_import_report *report)
{
    char *text;
    int rc = siren_import_report_json(report, &text, &cli->err);
    if (rc) return rc;
    json_t *value = json_loads(text, 0, NULL);
    free(text);
    return cli_print_json(cli, value);
}

static int run(struct cli *cli)
{
    struct siren_import_options options;
    struct siren_import_report report;
    int rc = read_options(cli, &options);
    if (rc) return rc;
    rc = siren_import_into(cli_arg(cli, 0), cli_arg(cli, 1), &options, &report, cli_progress(cli),
                           &cli->err);
    cli_progress_end(cli);
    if (rc) return cli_options_given(cli, rc);
    if (cli->json) return print_json(cli, &report);
    print_report(cli, &report);
    return 0;
}

#define COLUMN(what, text)                                                                         \
    {                                                                                              \
        .name = what "-column", .type = CLI_STRING, .argument = "NAME", .help = text               \
    }

static const struct cli_option options[] = {
    {.name = "format",
     .type = CLI_CHOICE,
     .argument = "NAME",
     .choices = "movies|amazon|ml-100k|ml-1m|ml-latest|recbole|csv|tsv|jsonl",
     .help = "layout of the source instead of recognising it"},
    {.name = "items",
     .type = CLI_STRING,
     .argument = "FILE",
     .help = "titles and categories of the items (\"\": none), instead of the file beside the "
             "ratings"},
    COLUMN("user", "column or JSON field of the user; 1, 2, … in a file without a header"),
    COLUMN("item", "the same for the item"),
    COLUMN("rating", "the same for the rating"),
    COLUMN("time", "the same for the time"),
    COLUMN("title", "column or field of the title in the items file"),
    COLUMN("categories", "the same for the categories"),
    COLUMN("features", "the same for the features"),
    COLUMN("description", "the same for the description"),
    COLUMN("year", "the same for the year of release"),
    {.name = "separator", .type = CLI_STRING, .argument = "TEXT", .help = "between columns"},
    {.name = "list-separator",
     .type = CLI_STRING,
     .argument = "TEXT",
     .help = "between categories; blanks round it are no part of them"},
    {.name = "encoding",
     .type = CLI_CHOICE,
     .argument = "NAME",
     .choices = "utf-8|latin-1",
     .help = "of the source; latin-1 for ml-100k and ml-1m, else utf-8"},
    {.name = "time-unit",
     .type = CLI_CHOICE,
     .argument = "UNIT",
     .choices = "s|ms|us|ns",
     .help = "of the times, instead of judging by the size of the largest; without it times that "
             "look like two units are refused, where those below 1e8 (0, 1, counters) fit any"},
    {.name = "scale",
     .type = CLI_STRING,
     .argument = "LOW:HIGH:STEP",
     .help = "the rating scale, such as 0.5:5:0.5, instead of judging by the values"},
    {.name = "k-core",
     .type = CLI_INT,
     .argument = "K",
     .min = 0,
     .max = 1000000,
     .help = "keep users and items with K ratings or more, iterated; 0: off; default 5, and off "
             "for movies"},
    {.name = "split",
     .type = CLI_CHOICE,
     .argument = "NAME",
     .choices = "leave-last-out|time|none",
     .help = "what is learned from and what is predicted; default leave-last-out, and its own for "
             "movies"},
    {.name = "train-until",
     .type = CLI_STRING,
     .argument = "TIME[,TIME]",
     .help = "time split: where train ends, and where valid ends"},
    {.name = "shares",
     .type = CLI_STRING,
     .argument = "TRAIN,VALID",
     .help = "time split: shares of the ratings; default 0.8,0.1"},
    {.name = "folds",
     .type = CLI_INT,
     .argument = "K",
     .min = 2,
     .max = 254,
     .help = "also deal the ratings into K folds"},
    {.name = "protocol",
     .type = CLI_CHOICE,
     .argument = "NAME",
     .choices = "paper|full",
     .help = "whether a test target's history ends before the valid rating (paper) or holds all "
             "that precedes it; default paper for movies, else full"},
    {.name = "noun",
     .type = CLI_STRING,
     .argument = "WORD",
     .help = "what an item is called in prompts, such as movie"},
    {.name = "skip-bad",
     .type = CLI_FLAG,
     .help = "count bad lines instead of stopping at the first"},
    {.name = "all-items", .type = CLI_FLAG, .help = "keep items that nobody rated"},
    {.name = "replace", .type = CLI_FLAG, .help = "throw away what the workspace holds"},
    {0},
};

const struct cli_command cmd_import = {
    .name = "import",
    .group = CLI_DATA,
    .summary = "read a file of ratings into a workspace",
    .usage = "WORKSPACE SOURCE",
    .description =
        "SOURCE is a file or a folder: plain, .gz or .zst. The layout is recognised by content:\n\n"
        "  movies     a folder with history, train, valid and test .jsonl\n"
        "  amazon     Amazon Reviews 2023: reviews; --items for the metadata\n"
        "  ml-100k    u.data, with u.item beside it\n"
        "  ml-1m      ratings.dat, with movies.dat\n"
        "  ml-latest  ratings.csv, with movies.csv\n"
        "  recbole    NAME.inter, with NAME.item\n"
        "  csv, tsv, jsonl   columns named by options, or by their usual names\n\n"
        "A rating's line has as many columns as the header; an empty time is an unknown one.\n\n"
        "One rating of each user and item is kept, the latest; then the k-core, the users' order "
        "in "
        "time, and the split. What is dropped is counted. The import happens completely or not at "
        "all; the same import again changes nothing.",
    .common = CLI_JSON | CLI_SEED,
    .options = options,
    .examples =
        (const struct cli_example[]){
            {"siren import films.siren ml-100k/ml-100k.inter --k-core 0 --folds 5",
             "MovieLens 100K, with folds for cross-validation"},
            {"siren import movies.siren data/movies", "the paper's Movies with its own split"},
            {"siren import beauty.siren All_Beauty.jsonl.gz --items meta_All_Beauty.jsonl.gz",
             "Amazon Reviews 2023"},
            {"siren import shop.siren orders.csv --user-column customer --item-column sku "
             "--rating-column stars --scale 1:10",
             "columns of one's own"},
            {0}},
    .run = run,
};
