#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "siren/understand.h"

static json_t *entries_json(const struct siren_sketch_entry *entries, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct siren_sketch_entry *e = &entries[i];
        json_array_append_new(list, json_pack("{s:i, s:s, s:f, s:f, s:I, s:I}", "topic",
                                              (int)e->topic, "name", e->name, "mean", e->mean,
                                              "support", e->support, "liked", (json_int_t)e->liked,
                                              "ratings", (json_int_t)e->count));
    }
    return list;
}

static void add_rows(struct cli_table *t, const char *verdict,
                     const struct siren_sketch_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct siren_sketch_entry *e = &entries[i];
        cli_table_cell(t, "%s", verdict);
        cli_table_cell(t, "%s", e->name);
        cli_table_cell(t, "%lld of %lld", (long long)e->liked, (long long)e->count);
        cli_table_cell(t, "%.2f", e->mean);
        cli_table_cell(t, "%d", (int)e->topic);
    }
}

/* Why nothing is shown. */
static void print_none(struct cli *cli, const struct siren_sketch *s, size_t n_ratings)
{
    if (!n_ratings)
        cli_print(cli, "There is nothing to judge by.\n");
    else if (!s->n_slight && !s->n_tied)
        cli_print(cli, "None of them is of an item that has a topic.\n");
    if (s->n_slight)
        cli_print(cli, "Topics with less support than --min-support %g: %zu.\n",
                  cli_float(cli, "min-support"), s->n_slight);
    if (s->n_tied)
        cli_print(cli, "Topics as often liked as disliked, which --rule majority drops: %zu.\n",
                  s->n_tied);
}

static int show_sketch(struct cli *cli, const struct siren_sketch *s, size_t n_ratings,
                       double theta)
{
    if (cli->json)
        return cli_print_json(cli,
                              json_pack("{s:s, s:I, s:f, s:o, s:o}", "user",
                                        cli_string(cli, "user"), "ratings", (json_int_t)n_ratings,
                                        "theta", theta, "liked", entries_json(s->liked, s->n_liked),
                                        "disliked", entries_json(s->disliked, s->n_disliked)));
    cli_print(cli, "User %s, %s; liked from %g.\n", cli_string(cli, "user"),
              cli_counted(n_ratings, "rating"), theta);
    if (s->n_liked + s->n_disliked == 0) {
        print_none(cli, s, n_ratings);
        return 0;
    }
    struct cli_table *t = cli_table_create("|Topic|Liked|Mean|No.", "lLrrr");
    add_rows(t, "likes", s->liked, s->n_liked);
    if (s->n_liked && s->n_disliked) cli_table_rule(t);
    add_rows(t, "dislikes", s->disliked, s->n_disliked);
    cli_table_print(cli, t);
    return 0;
}

/* Whose sketch, and before which rating. */
static int read_target(struct cli *cli, struct siren_app *app, int *user, struct siren_when *when)
{
    const char *id = cli_string(cli, "user"), *before = cli_string(cli, "before-item");
    struct siren_target target;
    int rc = siren_app_target(app, id, before, &target, &cli->err);
    if (rc) return rc;
    *user = target.user;
    when->row = target.row;
    if (target.user < 0)
        return siren_fail(&cli->err, SIREN_ENOTFOUND, "%s: no user '%.100s'",
                          siren_workspace_path(app->ws), id);
    if (before && target.row == SIREN_NO_ROW)
        return siren_fail(&cli->err, SIREN_ENOTFOUND, "user %s has not rated item %s", id, before);
    return 0;
}

static int read_theta(struct cli *cli, const struct siren_scale *scale, double *theta)
{
    if (!cli_given(cli, "theta")) return 0;
    *theta = cli_float(cli, "theta");
    if (*theta >= scale->min && *theta <= scale->max) return 0;
    return siren_fail(&cli->err, SIREN_EINVAL, "--theta: found %g, expected a rating from %g to %g",
                      *theta, scale->min, scale->max);
}

static int sketch(struct cli *cli, struct siren_app *app, struct siren_when when)
{
    struct siren_sketch_options o = {.theta = siren_scale_theta(&app->meta.scale)};
    struct siren_sketch s;
    size_t n_ratings;
    int user = -1, rc = read_target(cli, app, &user, &when);
    if (rc) return rc;
    rc = read_theta(cli, &app->meta.scale, &o.theta);
    if (rc) return rc;
    if (!strcmp(cli_string(cli, "rule"), "majority")) o.rule = SIREN_RULE_MAJORITY;
    o.decay = cli_flag(cli, "decay");
    o.min_support = cli_float(cli, "min-support");
    rc = siren_user_sketch(app, user, &when, &o, &s, &n_ratings, &cli->err);
    if (!rc) rc = show_sketch(cli, &s, n_ratings, o.theta);
    siren_sketch_clear(&s);
    return rc;
}

static int run(struct cli *cli)
{
    struct siren_app app;
    struct siren_when when = {SIREN_NO_ROW, SIREN_NO_TIME};
    const char *at = cli_string(cli, "at");
    if (!cli_need(cli, "user")) return cli->err.code;
    if (at && cli_given(cli, "before-item"))
        return cli_usage(cli, "--at or --before-item, not both");
    int rc = at ? cli_time(cli, "at", at, &when.time) : 0;
    if (!rc) rc = siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_READ, &cli->err);
    if (rc) return rc;
    rc = sketch(cli, &app, when);
    siren_app_close(&app);
    return rc;
}

static const struct cli_option options[] = {
    {.name = "at",
     .type = CLI_STRING,
     .argument = "TIME",
     .help = "from the ratings before a time: 2019-07-01, 2019-07-01T12:00:00Z, or seconds or "
             "milliseconds since 1970; ratings of unknown time count as earlier"},
    {.name = "before-item",
     .type = CLI_STRING,
     .argument = "ID",
     .help = "from the ratings before the user's rating of this item"},
    {.name = "rule",
     .type = CLI_CHOICE,
     .argument = "RULE",
     .choices = "mean|majority",
     .initial = "mean",
     .help = "liked when the mean rating reaches theta, or when most ratings do (ties dropped)"},
    {.name = "theta",
     .type = CLI_FLOAT,
     .argument = "STARS",
     .help = "where liking begins; without it three quarters up the scale (4 on 1 to 5)"},
    {.name = "decay",
     .type = CLI_FLAG,
     .help = "a rating counts half as much after a year: at the time of --at or --before-item, or "
             "else of the user's last rating"},
    {.name = "min-support",
     .type = CLI_FLOAT,
     .argument = "N",
     .initial = "0",
     .help = "leave out topics with fewer ratings"},
    {0},
};

const struct cli_command cmd_sketch = {
    .name = "sketch",
    .group = CLI_UNDERSTAND,
    .summary = "show what a user has liked and disliked, by topic",
    .usage = "WORKSPACE",
    .description =
        "The long-term interest sketch: for each topic the mean of the user's ratings and how many "
        "of them reach theta, ordered by support. Without --at or --before-item it is the stored "
        "one, which every rating keeps up to date.\n\n"
        "For a past moment it rests on nothing but what came before: as the model saw it when it "
        "predicted.",
    .common = CLI_JSON | CLI_USER,
    .options = options,
    .examples =
        (const struct cli_example[]){
            {"siren sketch films.siren --user 42", "the likes and dislikes of user 42"},
            {"siren sketch films.siren --user 42 --before-item 50",
             "as they were before the rating of item 50"},
            {"siren sketch films.siren --user 42 --at 1998-01-01 --decay --json",
             "at a date, recent ratings first, for a program"},
            {0}},
    .run = run,
};
