/* siren rank: what a user may like of what he has not rated. */
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "cli/answering.h"

/* For a program; and for a person, where it is not said otherwise. */
static const struct {
    const char *word, *note;
} reasons[] = {
    [SIREN_UNKNOWN_USER] = {"unknown user", NULL},
    [SIREN_NO_EMBEDDINGS] =
        {"no embeddings", "no embeddings of all items (`siren embed` makes them): by popularity"},
    [SIREN_NOTHING_LIKED] = {"nothing liked", "the user has liked nothing yet: by popularity"},
    [SIREN_LIKED_NOT_EMBEDDED] = {"liked items not embedded",
                                  "what the user liked has no embeddings yet (`siren embed` makes "
                                  "them): by popularity"},
};

static int print_json(struct cli *cli, const struct siren_app *app, const struct siren_ranking *r,
                      size_t top, int answered)
{
    json_t *out = json_object(), *list = json_array();
    for (size_t i = 0; i < r->n && i < top; i++) {
        const struct siren_ranked *x = &r->ranked[i];
        char *text;
        json_t *entry;
        int rc = siren_answer_json(app, &x->target, answered ? &x->answer : NULL, &text, &cli->err);
        if (rc) {
            json_decref(list);
            json_decref(out);
            return rc;
        }
        entry = json_loads(text, 0, NULL);
        free(text);
        if (x->target.user < 0)
            json_object_set_new(entry, "user", json_string(cli_string(cli, "user")));
        json_object_set_new(entry, "similarity", app_real(x->similarity));
        json_object_set_new(entry, "ratings", json_integer(x->n_ratings));
        json_array_append_new(list, entry);
    }
    json_object_set_new(out, "candidates", json_integer((json_int_t)r->n));
    json_object_set_new(out, "retrieved_by",
                        json_string(r->by_popularity ? "popularity" : "similarity"));
    if (r->by_popularity)
        json_object_set_new(out, "reason", json_string(reasons[r->by_popularity].word));
    json_object_set_new(out, "seconds", json_real(r->seconds));
    json_object_set_new(out, "ranked", list);
    return cli_print_json(cli, out);
}

static void rating_cells(struct cli_table *table, const struct siren_answer *a)
{
    if (siren_answer_is_unread(a)) {
        cli_table_cell(table, "–");
        cli_table_cell(table, "–");
        return;
    }
    cli_table_cell(table, "%.2f", a->mean);
    cli_table_cell(table, "%g", a->argmax);
}

static void print_table(struct cli *cli, const struct siren_app *app, const struct siren_ranking *r,
                        size_t top, int answered)
{
    char columns[256] = "#|Title", align[SIREN_MAX_LABELS + 16] = "rL";
    struct cli_table *table;
    if (answered) {
        answering_columns(app, columns, sizeof columns - 64, align);
        strcat(columns, "|Expected|Most likely");
        strcat(align, "rr");
    }
    strcat(columns, r->by_popularity ? "|Ratings" : "|Similarity");
    strcat(align, "r");
    table = cli_table_create(columns, align);
    for (size_t i = 0; i < r->n && i < top; i++) {
        const struct siren_ranked *x = &r->ranked[i];
        cli_table_cell(table, "%zu", i + 1);
        cli_table_cell(table, "%s", app->items.item[x->target.item].title);
        if (answered) {
            answering_cells(app, table, &x->answer);
            rating_cells(table, &x->answer);
        }
        if (r->by_popularity)
            cli_table_cell(table, "%d", x->n_ratings);
        else
            cli_table_cell(table, "%.3f", x->similarity);
    }
    cli_table_print(cli, table);
}

static void print_costs(struct cli *cli, const struct siren_ranking *r)
{
    size_t tokens = 0, cached = 0, unread = 0;
    for (size_t i = 0; i < r->n; i++) {
        unread += (size_t)siren_answer_is_unread(&r->ranked[i].answer);
        tokens += (size_t)r->ranked[i].answer.tokens_in;
        cached += (size_t)r->ranked[i].answer.tokens_cached;
    }
    cli_note(cli, "%s, retrieved by %s, in %s", cli_counted(r->n, "candidate"),
             r->by_popularity ? "popularity" : "similarity to what the user liked",
             cli_seconds(r->seconds));
    if (unread)
        cli_note(cli, "%zu %s no number that could be read, and %s last", unread,
                 unread == 1 ? "answer has" : "answers have", unread == 1 ? "is" : "are");
    if (tokens)
        cli_note(cli, "%s prompt tokens, of which %s were computed and the others shared",
                 cli_number(tokens), cli_number(tokens - cached));
}

static int rank(struct cli *cli, struct siren_app *app, struct siren_lm *lm)
{
    const char *user = cli_string(cli, "user");
    int answered = !cli_flag(cli, "no-model");
    struct siren_rank_options options = {.n_candidates = (int)cli_int(cli, "candidates")};
    struct siren_ranking ranking;
    struct siren_target target;
    int rc = siren_app_target(app, user, NULL, &target, &cli->err);
    if (!rc && answered) rc = answering_options(cli, app, 1, &options.predict);
    if (!rc && answered) rc = answering_calibration(cli, &options.predict);
    if (!rc && answered) rc = answering_open(cli, lm, 0);
    if (!rc)
        rc = siren_rank(app, answered ? lm : NULL, target.user, &options, &ranking,
                        cli_progress(cli), &cli->err);
    siren_calibration_free(options.predict.calibration);
    if (rc) return rc;
    cli_progress_end(cli);
    if (target.user < 0)
        cli_note(cli, "%s is not in the workspace: the most popular items%s", user,
                 answered ? ", answered without a history" : "");
    if (reasons[ranking.by_popularity].note)
        cli_note(cli, "%s", reasons[ranking.by_popularity].note);
    if (cli->json) {
        rc = print_json(cli, app, &ranking, (size_t)cli_int(cli, "top"), answered);
    } else {
        print_table(cli, app, &ranking, (size_t)cli_int(cli, "top"), answered);
        print_costs(cli, &ranking);
    }
    siren_ranking_clear(&ranking);
    return rc;
}

static int run(struct cli *cli)
{
    struct siren_app app;
    struct siren_lm lm = {0};
    int rc = 0;
    if (!cli_need(cli, "user")) return cli->err.code;
    if (cli_flag(cli, "no-model"))
        rc = answering_unasked(cli, "with --no-model nothing is predicted");
    if (rc) return rc;
    rc = siren_app_open(&app, cli_arg(cli, 0), SIREN_WORKSPACE_READ, &cli->err);
    if (rc) return rc;
    rc = rank(cli, &app, &lm);
    siren_lm_close(&lm);
    siren_app_close(&app);
    return rc;
}

const struct cli_command cmd_rank = {
    .name = "rank",
    .group = CLI_PREDICT,
    .summary = "find what a user may like among what they have not rated",
    .usage = "WORKSPACE",
    .description =
        "Retrieves the unrated items that are nearest to the mean embedding of those the user "
        "liked, predicts all of them with the language model, and sorts by the expected rating.  "
        "The user's part of the prompt is computed once for all candidates.\n\n"
        "Where nothing is near, for a user who liked nothing yet and in a workspace without "
        "embeddings of all items, the most popular ones are retrieved.  A note says why, and so "
        "does \"reason\" with --json: \"unknown user\", \"no embeddings\", \"nothing liked\" or "
        "\"liked items not embedded\".",
    .common = CLI_JSON | CLI_SEED | CLI_THREADS | CLI_MODEL | CLI_USER | CLI_ISA | CLI_ADAPTER,
    .options = (const struct cli_option[]){{.name = "candidates",
                                            .type = CLI_INT,
                                            .argument = "N",
                                            .initial = "100",
                                            .min = 1,
                                            .max = 1000000,
                                            .help = "items retrieved for the model to judge"},
                                           {.name = "top",
                                            .letter = 'n',
                                            .type = CLI_INT,
                                            .argument = "N",
                                            .initial = "10",
                                            .min = 1,
                                            .max = 1000000,
                                            .help = "items shown"},
                                           {.name = "no-model",
                                            .type = CLI_FLAG,
                                            .help = "show what is retrieved, without re-ranking"},
                                           ANSWER_OPTIONS,
                                           SAMPLING_OPTIONS("512"),
                                           SAMPLES_OPTION,
                                           CALIBRATION_OPTION,
                                           {0}},
    .examples =
        (const struct cli_example[]){
            {"siren rank films.siren --model smollm2.gguf --user 196",
             "The ten best of 100 retrieved films."},
            {"siren rank films.siren -m smollm2.gguf -u 196 --candidates 500 --top 20 --json",
             "More of them, for a program."},
            {"siren rank films.siren -u 196 --no-model",
             "Retrieval alone, without a language model."},
            {0}},
    .run = run,
};
