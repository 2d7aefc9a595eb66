#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "cli/cli.h"
#include "siren/app.h"

/* What was done, for the report. */
struct outcome {
    struct siren_rate_result rate;
    int new_user, new_item, placed;
    char *topic_names[2]; /* of rate.topic and rate.second_topic; NULL: none */
};

/* Categories "a|b" as a list, split in place. */
static const char **split_ids(char *text)
{
    size_t n = 1, at = 0;
    for (const char *p = text; *p; p++) n += *p == '|';
    const char **list = calloc(n + 1, sizeof *list);
    while (list && (list[at] = list_next(&text, "|"))) at++;
    return list;
}

/* A title of blanks is none, as in the import. */
static int has_title(struct cli *cli)
{
    const char *title = cli_string(cli, "title");
    return title && !list_is_blank(title);
}

static int add_item(struct cli *cli, struct siren_workspace *ws, const char *external, int *item)
{
    const char *given = cli_string(cli, "categories");
    char *text = strdup(given ? given : "");
    const char **categories = text ? split_ids(text) : NULL;
    int rc = categories ? SIREN_OK : siren_fail_memory(&cli->err, "an item", 0);
    struct siren_item it = {.external = external,
                            .title = cli_string(cli, "title"),
                            .categories = categories,
                            .description = cli_string(cli, "description")};
    if (!rc) rc = siren_item_add(ws, &it, item, &cli->err);
    free(categories);
    free(text);
    return rc;
}

/* In the mode of the vectors that the topics rest on. */
static int open_encoder(struct cli *cli, struct siren_workspace *ws, const char *path,
                        struct siren_encoder *out)
{
    struct siren_topics topics;
    struct siren_pool *pool = cli_pool(cli);
    if (!pool) return cli->err.code;
    int rc = siren_topics_load(&topics, ws, &cli->err);
    if (rc && rc != SIREN_ENOTFOUND) return rc;
    const struct siren_encoder_options mode = {.compute = siren_encoder_compute(topics.encoder)};
    rc = siren_encoder_open(out, path, &mode, pool, &cli->err);
    siren_topics_clear(&topics);
    return rc;
}

/* An item that the topics lack. */
static int lacks_topic(struct siren_workspace *ws, int item, int *lacks, struct siren_error *err)
{
    struct siren_topics topics;
    *lacks = 0;
    int rc = siren_topics_load(&topics, ws, err);
    if (rc) return rc == SIREN_ENOTFOUND ? SIREN_OK : rc;
    *lacks = item < topics.n && topics.topic[item] < 0;
    siren_topics_clear(&topics);
    return SIREN_OK;
}

/* For an item that is new or, where the command line says so, has no topic (a rating does not fail
 * for an encoder that only the environment names): before the write lock is taken, since it may
 * take seconds. */
static int open_if_needed(struct cli *cli, struct siren_workspace *ws, struct siren_encoder *out)
{
    const char *path = cli_string(cli, "encoder");
    int item, lacks = 1;
    if (!path) return SIREN_OK;
    int rc = siren_item_find(ws, cli_string(cli, "item"), &item, &cli->err);
    if (rc == SIREN_ENOTFOUND && !has_title(cli)) return SIREN_OK; /* refused later */
    if (!rc && !cli_count(cli, "encoder")) return SIREN_OK;
    if (!rc) rc = lacks_topic(ws, item, &lacks, &cli->err);
    if (rc && rc != SIREN_ENOTFOUND) return rc;
    return lacks ? open_encoder(cli, ws, path, out) : SIREN_OK;
}

static int place_item(struct cli *cli, struct siren_workspace *ws, struct siren_encoder *encoder,
                      int item, struct outcome *out)
{
    int topic;
    if (!cli_string(cli, "encoder")) return SIREN_OK;
    if (!encoder->model)
        return siren_fail(&cli->err, SIREN_EBUSY,
                          "%s: item %s was there a moment ago, and is not in another import that "
                          "has replaced it: run it again",
                          siren_workspace_path(ws), cli_string(cli, "item"));
    int rc = siren_place_item(ws, encoder, item, &topic, &cli->err);
    out->placed = !rc;
    return rc;
}

static int find_or_add(struct cli *cli, struct siren_workspace *ws, struct siren_encoder *encoder,
                       int *user, int *item, struct outcome *out)
{
    const char *user_id = cli_string(cli, "user"), *item_id = cli_string(cli, "item");
    int rc = siren_item_find(ws, item_id, item, &cli->err);
    if (rc == SIREN_ENOTFOUND) {
        if (!has_title(cli)) return siren_fail_prefix(&cli->err, rc, "a new item needs --title");
        out->new_item = 1;
        rc = cli_options_given(cli, add_item(cli, ws, item_id, item));
        if (!rc) rc = place_item(cli, ws, encoder, *item, out);
    } else if (!rc && encoder->model) {
        rc = place_item(cli, ws, encoder, *item, out);
    }
    if (rc) return rc;
    rc = siren_user_find(ws, user_id, user, &cli->err);
    if (rc != SIREN_ENOTFOUND) return rc;
    out->new_user = 1;
    return cli_options_given(cli, siren_user_add(ws, user_id, user, &cli->err));
}

static int name_topics(struct siren_workspace *ws, struct outcome *out, struct siren_error *err)
{
    const int ids[2] = {out->rate.topic, out->rate.second_topic};
    struct siren_topics topics;
    if (ids[0] < 0) return SIREN_OK;
    int rc = siren_topics_load(&topics, ws, err);
    if (rc) return rc;
    for (int i = 0; i < 2; i++)
        if (ids[i] >= 0 && topics.name[ids[i]]) out->topic_names[i] = strdup(topics.name[ids[i]]);
    siren_topics_clear(&topics);
    return SIREN_OK;
}

/* What describes a new item changes no known one. */
static void tell_ignored(struct cli *cli)
{
    static const char *const names[] = {"title", "categories", "description"};
    for (int i = 0; i < 3; i++)
        if (cli_given(cli, names[i]))
            cli_note(cli, "Item %s is known: --%s is not taken over.", cli_string(cli, "item"),
                     names[i]);
}

static void tell_topic(struct cli *cli, int topic, const char *name)
{
    cli_print(cli, "topic %d%s%s", topic, name ? ", " : "", name ? name : "");
}

static void tell_outcome(struct cli *cli, const struct outcome *out)
{
    const char *user = cli_string(cli, "user"), *item = cli_string(cli, "item");
    const struct siren_rate_result *r = &out->rate;
    if (out->new_user) cli_note(cli, "User %s is new.", user);
    if (out->new_item)
        cli_note(cli, "Item %s is new%s.", item,
                 out->placed ? ", and embedded" : "; --encoder would embed it and find its topic");
    else if (out->placed)
        cli_note(cli, "Item %s had no topic, and has its nearest now.", item);
    if (r->corrected)
        cli_print(cli, "Corrected: user %s, item %s: %g instead of %g.\n", user, item,
                  cli_float(cli, "rating"), r->previous);
    else
        cli_print(cli, "Added: user %s, item %s: %g.\n", user, item, cli_float(cli, "rating"));
    if (r->late)
        cli_print(cli, "It is number %d of the user's ratings: later ones follow it.\n",
                  r->sequence + 1);
    if (r->topic < 0) return;
    cli_print(cli, "Sketch updated: ");
    tell_topic(cli, r->topic, out->topic_names[0]);
    if (r->second_topic >= 0) {
        cli_print(cli, "; and ");
        tell_topic(cli, r->second_topic, out->topic_names[1]);
    }
    cli_print(cli, ".\n");
}

static int tell_json(struct cli *cli, const struct outcome *out)
{
    const struct siren_rate_result *r = &out->rate;
    json_t *o =
        json_pack("{s:s, s:s, s:f, s:b, s:b, s:b, s:i, s:b, s:b}", "user", cli_string(cli, "user"),
                  "item", cli_string(cli, "item"), "rating", cli_float(cli, "rating"), "corrected",
                  r->corrected, "new_user", out->new_user, "new_item", out->new_item, "sequence",
                  r->sequence, "late", r->late, "order_changed", r->order_changed);
    if (o && r->corrected) json_object_set_new(o, "previous", json_real(r->previous));
    if (o && r->time != SIREN_NO_TIME) json_object_set_new(o, "time", json_integer(r->time));
    if (o && r->topic >= 0) json_object_set_new(o, "topic", json_integer(r->topic));
    if (o && r->second_topic >= 0)
        json_object_set_new(o, "second_topic", json_integer(r->second_topic));
    return cli_print_json(cli, o);
}

static int rate_in(struct cli *cli, struct siren_workspace *ws, struct siren_encoder *encoder,
                   int64_t time, struct outcome *out)
{
    int user, item;
    int rc = siren_workspace_begin(ws, &cli->err);
    if (rc) return rc;
    rc = find_or_add(cli, ws, encoder, &user, &item, out);
    if (!rc) rc = siren_rate(ws, user, item, cli_float(cli, "rating"), time, &out->rate, &cli->err);
    if (!rc) rc = name_topics(ws, out, &cli->err);
    return siren_workspace_end(ws, rc, &cli->err);
}

static int run(struct cli *cli)
{
    static const char *const needed[] = {"user", "item", "rating"};
    for (int i = 0; i < 3; i++)
        if (!cli_need(cli, needed[i])) return cli->err.code;
    struct outcome out = {0};
    struct siren_encoder encoder = {0};
    struct siren_workspace *ws;
    int64_t time = SIREN_NOW;
    const char *text = cli_string(cli, "time");
    int rc = text ? cli_time(cli, "time", text, &time) : SIREN_OK;
    if (!rc) rc = siren_workspace_open(&ws, cli_arg(cli, 0), SIREN_WORKSPACE_WRITE, &cli->err);
    if (rc) return rc;
    rc = open_if_needed(cli, ws, &encoder);
    if (!rc) rc = rate_in(cli, ws, &encoder, time, &out);
    siren_encoder_close(&encoder);
    siren_workspace_close(ws);
    if (!rc && cli->json)
        rc = tell_json(cli, &out);
    else if (!rc)
        tell_outcome(cli, &out);
    if (!rc && !out.new_item) tell_ignored(cli);
    for (int i = 0; i < 2; i++) free(out.topic_names[i]);
    return rc;
}

static const struct cli_option options[] = {
    {.name = "rating",
     .letter = 'r',
     .type = CLI_FLOAT,
     .argument = "STARS",
     .help = "the rating, on the workspace's scale"},
    {.name = "time",
     .type = CLI_STRING,
     .argument = "TIME",
     .help = "when: 2024-05-31T20:15:00Z, or seconds or milliseconds since 1970; without it a new "
             "rating is of now, and a corrected one keeps its time"},
    {.name = "title", .type = CLI_STRING, .argument = "TEXT", .help = "title of a new item"},
    {.name = "categories",
     .type = CLI_STRING,
     .argument = "LIST",
     .help = "categories of a new item: \"Drama|Comedy\""},
    {.name = "description",
     .type = CLI_STRING,
     .argument = "TEXT",
     .help = "description of a new item"},
    {0},
};

const struct cli_command cmd_rate = {
    .name = "rate",
    .group = CLI_DATA,
    .summary = "add or correct one rating",
    .usage = "WORKSPACE",
    .description =
        "Adds a rating of a user, or corrects the one that is there. The user's order follows the "
        "time, so a rating may also come late; the user's sketch is updated with it. A new rating "
        "is in no split.\n\n"
        "A user that the workspace does not know is added. An item that it does not know is added "
        "when --title is given; with --encoder it is embedded and joins its nearest topic, and so "
        "is one that is known and has none.",
    .common = CLI_JSON | CLI_USER | CLI_ITEM | CLI_ENCODER | CLI_THREADS,
    .options = options,
    .examples =
        (const struct cli_example[]){
            {"siren rate films.siren --user 42 --item 50 --rating 5", "user 42 liked item 50"},
            {"siren rate films.siren --user 42 --item 50 --rating 2 --time 1998-03-01",
             "a correction, with its date"},
            {"siren rate films.siren --user anna --item new-1 --rating 4 --title \"Perfect Days\" "
             "--categories Drama --encoder minilm",
             "a new user and a new item"},
            {0}},
    .run = run,
};
