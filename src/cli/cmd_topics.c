#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "cli/cli.h"
#include "siren/understand.h"

enum { EXAMPLES = 3 };

/* ---- the namer ---- */

/* What naming needs while it runs. */
struct namers {
    struct siren_namer namer;
    const struct siren_namer *use; /* NULL: class-TF-IDF */
    struct siren_lm lm;
    struct siren_openai *client;
};

static int open_local(struct cli *cli, struct namers *n)
{
    const char *path = cli_need(cli, "model");
    struct siren_pool *pool = path ? cli_pool(cli) : NULL;
    if (!pool) return cli->err.code;
    struct siren_lm_options options = {.isa = cli_string(cli, "isa"),
                                       .compute = cli_string(cli, "compute"),
                                       .adapter = cli_string(cli, "adapter")};
    int rc = siren_lm_open(&n->lm, path, &options, pool, &cli->err);
    if (rc) return rc;
    siren_namer_local(&n->namer, &n->lm);
    n->use = &n->namer;
    return 0;
}

static int open_endpoint(struct cli *cli, struct namers *n)
{
    struct siren_openai_options o = {.base_url = cli_need(cli, "endpoint"), .retries = 3};
    o.model = cli_string(cli, "endpoint-model");
    o.max_tokens = 200;
    o.cancel = cli_cancel(cli);
    if (!o.base_url) return cli->err.code;
    if (!o.model)
        return cli_usage(cli, "--endpoint needs --endpoint-model, as the server names it");
    int rc = siren_openai_create(&n->client, &o, &cli->err);
    if (rc) return rc;
    siren_namer_endpoint(&n->namer, n->client);
    n->use = &n->namer;
    return 0;
}

/* By --namer; without it by what else is given, on the command line first. */
static const char *namer_kind(const struct cli *cli)
{
    const char *kind = cli_string(cli, "namer");
    if (kind) return kind;
    if (cli_count(cli, "endpoint")) return "endpoint";
    if (cli_count(cli, "model")) return "local";
    return cli_given(cli, "endpoint") ? "endpoint" : cli_given(cli, "model") ? "local" : "tfidf";
}

static int open_namer(struct cli *cli, struct namers *n)
{
    const char *kind = namer_kind(cli);
    if (!strcmp(kind, "local")) return open_local(cli, n);
    if (!strcmp(kind, "endpoint")) return open_endpoint(cli, n);
    return 0;
}

static void close_namer(struct namers *n)
{
    siren_lm_close(&n->lm);
    siren_openai_free(n->client);
}

/* ---- showing ---- */

struct shown {
    struct siren_topics topics;
    struct siren_items items;
    int32_t *nearest; /* (k, EXAMPLES) */
    int *sizes;       /* (k) */
};

static void shown_clear(struct shown *s)
{
    siren_topics_clear(&s->topics);
    siren_items_clear(&s->items);
    free(s->nearest);
    free(s->sizes);
}

static int shown_load(struct cli *cli, struct shown *s, struct siren_workspace *ws)
{
    memset(s, 0, sizeof *s);
    int rc = siren_topics_load(&s->topics, ws, &cli->err);
    if (!rc) rc = siren_items_load(&s->items, ws, &cli->err);
    if (rc) return rc;
    const struct siren_topics *t = &s->topics;
    s->nearest = calloc((size_t)t->k * EXAMPLES, sizeof *s->nearest);
    s->sizes = calloc((size_t)t->k, sizeof *s->sizes);
    if (!s->nearest || !s->sizes) return siren_fail_memory(&cli->err, "topics", (size_t)t->k * 16);
    for (int i = 0; i < t->n; i++)
        if (t->topic[i] >= 0) s->sizes[t->topic[i]]++;
    return siren_topics_nearest(t->topic, t->distance, (size_t)t->n, t->k, EXAMPLES, s->nearest,
                                &cli->err);
}

static const char *title_of(const struct shown *s, int topic, int rank)
{
    int32_t item = s->nearest[topic * EXAMPLES + rank];
    return item >= 0 && item < s->items.n ? s->items.item[item].title : NULL;
}

static const char *const sources[] = {"none", "model", "tfidf", "hand"};

static void list_text(struct cli *cli, const struct shown *s)
{
    struct cli_table *table = cli_table_create("Topic|Items|Name|By|Nearest its centre", "rrLlL");
    for (int c = 0; c < s->topics.k; c++) {
        char examples[400] = "";
        for (int e = 0; e < EXAMPLES && title_of(s, c, e); e++) {
            const char *whole = title_of(s, c, e);
            size_t used = strlen(examples), n = utf8_valid_prefix(whole, strnlen(whole, 100));
            snprintf(examples + used, sizeof examples - used, "%s%.*s", e ? "; " : "", (int)n,
                     whole);
        }
        cli_table_cell(table, "%d", c);
        cli_table_cell(table, "%s", cli_number((uint64_t)s->sizes[c]));
        cli_table_cell(table, "%s", s->topics.name[c] ? s->topics.name[c] : "");
        cli_table_cell(table, "%s", sources[s->topics.name_source[c] & 3]);
        cli_table_cell(table, "%s", examples);
    }
    cli_table_print(cli, table);
}

static int list_json(struct cli *cli, const struct shown *s)
{
    const struct siren_topics *t = &s->topics;
    json_t *list = json_array();
    for (int c = 0; c < t->k; c++) {
        json_t *examples = json_array();
        for (int e = 0; e < EXAMPLES && title_of(s, c, e); e++)
            json_array_append_new(examples, json_string(title_of(s, c, e)));
        json_array_append_new(list,
                              json_pack("{s:i, s:s?, s:s, s:i, s:o}", "topic", c, "name",
                                        t->name[c], "named_by", sources[t->name_source[c] & 3],
                                        "items", s->sizes[c], "nearest", examples));
    }
    json_error_t where;
    json_t *settings = json_loads(t->settings, 0, &where);
    return cli_print_json(cli, json_pack("{s:s, s:f, s:o, s:o}", "encoder", t->encoder, "inertia",
                                         t->inertia, "settings",
                                         settings ? settings : json_object(), "topics", list));
}

static int list_topics(struct cli *cli, struct siren_workspace *ws)
{
    struct shown s;
    int rc = shown_load(cli, &s, ws);
    if (!rc && cli->json)
        rc = list_json(cli, &s);
    else if (!rc)
        list_text(cli, &s);
    shown_clear(&s);
    return rc;
}

/* ---- doing ---- */

static int rename_one(struct cli *cli, struct siren_workspace *ws)
{
    const char *name = cli_arg(cli, 1);
    int topic = (int)cli_int(cli, "rename");
    if (!name)
        return cli_usage(cli,
                         "--rename %d needs the new name: siren topics WORKSPACE "
                         "--rename %d \"New name\"",
                         topic, topic);
    struct siren_topics t;
    int rc = siren_topic_name(ws, topic, name, SIREN_NAME_HAND, &cli->err);
    if (rc) return cli_options_given(cli, rc);
    rc = siren_topics_load(&t, ws, &cli->err);
    if (rc) return rc;
    if (cli->json)
        rc = cli_print_json(cli, json_pack("{s:i, s:s}", "topic", topic, "name", t.name[topic]));
    else
        cli_print(cli, "Topic %d is now \"%s\".\n", topic, t.name[topic]);
    siren_topics_clear(&t);
    return rc;
}

static void tell_clusters(struct cli *cli, const struct siren_cluster_report *r)
{
    cli_note(cli, "%s in %s: inertia %g; named by the model %d, by TF-IDF %d, by hand %d.",
             cli_counted((uint64_t)r->k, "topic"), cli_seconds(r->seconds), r->inertia,
             r->named_by_model, r->named_by_tfidf, r->named_by_hand);
    if (r->n_without)
        cli_note(cli, "%s without a vector, so without a topic: siren embed makes them.",
                 cli_counted((uint64_t)r->n_without, "item"));
    if (r->n_users)
        cli_note(cli, "Sketches of %s are up to date. Next: siren sketch %s --user ID",
                 cli_counted((uint64_t)r->n_users, "user"), cli_word(cli_arg(cli, 0)));
}

static int make_topics(struct cli *cli, struct siren_workspace *ws)
{
    struct namers namers = {0};
    struct siren_cluster_report report;
    struct siren_cluster_options o = {.k = (int)cli_int(cli, "k"),
                                      .iterations = (int)cli_int(cli, "iterations"),
                                      .restarts = (int)cli_int(cli, "restarts"),
                                      .spherical = cli_flag(cli, "spherical"),
                                      .soft = cli_flag(cli, "soft"),
                                      .seed = (uint64_t)cli_int(cli, "seed"),
                                      .shown = (int)cli_int(cli, "shown"),
                                      .forget_names = cli_flag(cli, "forget-names")};
    struct siren_pool *pool = cli_pool(cli);
    if (!pool) return cli->err.code;
    int rc = open_namer(cli, &namers);
    o.namer = namers.use;
    if (!rc && cli_flag(cli, "names"))
        rc = siren_rename_topics(ws, &o, &report, cli_progress(cli), &cli->err);
    else if (!rc)
        rc = siren_cluster_items(ws, &o, pool, &report, cli_progress(cli), &cli->err);
    cli_progress_end(cli);
    close_namer(&namers);
    if (rc) return rc;
    rc = list_topics(cli, ws);
    if (!cli->json) tell_clusters(cli, &report);
    return rc;
}

/* What is about another namer than the one that names. */
static int check_namer(struct cli *cli)
{
    static const char *const model[] = {"model", "adapter", NULL},
                             *const server[] = {"endpoint", "endpoint-model", NULL},
                             *const any[] = {"shown", NULL};
    const char *kind = namer_kind(cli);
    int rc = 0;
    if (strcmp(kind, "local") != 0)
        rc = cli_refuse(cli, model, "the topics are not named by a local model");
    if (!rc && strcmp(kind, "endpoint") != 0)
        rc = cli_refuse(cli, server, "the topics are not named by a server");
    if (!rc && !strcmp(kind, "tfidf")) rc = cli_refuse(cli, any, "no model names the topics");
    return rc;
}

/* One action, and beside it nothing that it would not heed. */
static int check_options(struct cli *cli)
{
    static const char *const rename[] = {"rename", NULL}, *const names[] = {"names", NULL};
    static const char *const naming[] = {"namer",   "endpoint", "endpoint-model", "model",
                                         "adapter", "shown",    "forget-names",   NULL};
    static const char *const making[] = {"k",    "restarts", "iterations", "spherical",
                                         "soft", "seed",     NULL};
    int shows = cli_flag(cli, "list"), renames = cli_given(cli, "rename"), rc = 0;
    const char *why = shows     ? "--list shows the topics as they are"
                      : renames ? "--rename gives one topic a name"
                                : "--names keeps the topics as they are";
    if (cli_arg(cli, 1) && !renames)
        return cli_usage(cli, "a name stands only after --rename TOPIC");
    if (!shows && !renames) rc = check_namer(cli);
    if (!rc && shows) rc = cli_refuse(cli, rename, why);
    if (!rc && (shows || renames)) rc = cli_refuse(cli, names, why);
    if (!rc && (shows || renames)) rc = cli_refuse(cli, naming, why);
    if (!rc && (shows || renames || cli_flag(cli, "names"))) rc = cli_refuse(cli, making, why);
    return rc;
}

static int run(struct cli *cli)
{
    int only_list = cli_flag(cli, "list"), rc = check_options(cli);
    struct siren_workspace *ws;
    if (rc) return rc;
    rc = siren_workspace_open(&ws, cli_arg(cli, 0),
                              only_list ? SIREN_WORKSPACE_READ : SIREN_WORKSPACE_WRITE, &cli->err);
    if (rc) return rc;
    if (only_list)
        rc = list_topics(cli, ws);
    else if (cli_given(cli, "rename"))
        rc = rename_one(cli, ws);
    else
        rc = make_topics(cli, ws);
    siren_workspace_close(ws);
    return rc;
}

static const struct cli_option options[] = {
    {.name = "list", .letter = 'l', .type = CLI_FLAG, .help = "show the topics as they are"},
    {.name = "rename",
     .type = CLI_INT,
     .argument = "TOPIC",
     .min = 0,
     .max = 1000000,
     .help = "give one topic the name that follows; it stays when topics are made again"},
    {.name = "names", .type = CLI_FLAG, .help = "keep the topics, name them again"},
    {.name = "namer",
     .type = CLI_CHOICE,
     .argument = "WHO",
     .choices = "local|endpoint|tfidf",
     .help = "who names them; without it local with --model, endpoint with --endpoint, else tfidf"},
    {.name = "endpoint",
     .type = CLI_STRING,
     .argument = "URL",
     .environment = "SIREN_ENDPOINT",
     .help = "an OpenAI-compatible server, such as http://localhost:8000/v1; the key in "
             "$OPENAI_API_KEY"},
    {.name = "endpoint-model",
     .type = CLI_STRING,
     .argument = "NAME",
     .help = "the model, as the server names it"},
    {.name = "k",
     .type = CLI_INT,
     .argument = "N",
     .initial = "20",
     .min = 1,
     .max = 100000,
     .help = "number of topics"},
    {.name = "restarts",
     .type = CLI_INT,
     .argument = "N",
     .initial = "5",
     .min = 1,
     .max = 1000,
     .help = "K-means runs, of which the best is kept"},
    {.name = "iterations",
     .type = CLI_INT,
     .argument = "N",
     .initial = "30",
     .min = 1,
     .max = 10000,
     .help = "of each run"},
    {.name = "spherical", .type = CLI_FLAG, .help = "by direction: vectors scaled to length 1"},
    {.name = "soft",
     .type = CLI_FLAG,
     .help = "sketches share a rating between the item's two nearest topics"},
    {.name = "shown",
     .type = CLI_INT,
     .argument = "N",
     .initial = "100",
     .min = 1,
     .max = 10000,
     .help = "items nearest the centre that the namer reads"},
    {.name = "forget-names", .type = CLI_FLAG, .help = "do not keep names given by hand"},
    {0},
};

const struct cli_command cmd_topics = {
    .name = "topics",
    .group = CLI_UNDERSTAND,
    .summary = "group the items by meaning, and name the groups",
    .usage = "WORKSPACE [NAME]",
    .description =
        "K-means over the items' vectors; the same seed gives the same topics, whatever the "
        "threads. Each is named from the titles and categories nearest its centre: by a language "
        "model, or by the words that set it apart (class-TF-IDF), which also stands in where a "
        "model's answer is of no use or repeats a name. All users' sketches are rebuilt on the new "
        "topics.\n\n"
        "A name given by hand stays with its topic: when topics are made again it goes to the new "
        "one if each is the other's nearest.",
    .common = CLI_JSON | CLI_SEED | CLI_THREADS | CLI_MODEL | CLI_ISA | CLI_ADAPTER,
    .options = options,
    .examples =
        (const struct cli_example[]){
            {"siren topics films.siren --model smollm2.gguf", "20 topics, named by the model"},
            {"siren topics films.siren --k 40 --namer tfidf", "40 topics, named without a model"},
            {"siren topics films.siren --rename 7 \"Courtroom dramas\"", "a better name"},
            {"siren topics films.siren --names --endpoint http://localhost:8000/v1 "
             "--endpoint-model Qwen3-4B",
             "the same topics, named by a larger model elsewhere"},
            {"siren topics films.siren --list --json", "what there is, for a program"},
            {0}},
    .run = run,
};
