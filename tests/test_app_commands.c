/* The commands that judge and predict, as a script runs them: on tiny models. */
/* check: portable */
#include "command_case.h"

#include <sqlite3.h>

#include "terminal.h"
#include "tiny_lm.h"

static void mistakes_are_told(void **state)
{
    fails("logprobs --prompt a --continuations 1", 2, "--model");
    fails("logprobs -m tests/fixtures/models/smol --prompt a", 2, "--continuations");
    fails("logprobs -m tests/fixtures/models/smol --continuations 1", 2, "--prompt-file");
    fails("logprobs -m tests/fixtures/models/smol --prompt '' --continuations 1", 1, "no tokens");
    fails("logprobs -m /nonexistent --prompt a --continuations 1", 1, "/nonexistent");
    fails("logprobs -m tests/fixtures/models/bert --prompt a --continuations 1", 1, "encoder");
    fails("embed-text -e tests/fixtures/models/smol </dev/null", 1, "language model");
    char command[512];
    snprintf(command, sizeof command, "embed-text -e tests/fixtures/models/bert < '%s'",
             scratch_write("nul.txt", "one\nabc\0def\n", 12));
    fails(command, 1, "line 2: byte 4 is a NUL");
    fails("predict /nonexistent.siren --user 1 --item 2", 1, "/nonexistent.siren");
    fails("rank /nonexistent.siren", 2, "--user");
    fails("rate /nonexistent.siren -u 1 -i 2 -r 0x3", 2, "--rating: found \"0x3\"");
    fails("sketch /nonexistent.siren -u 1 --at soon", 2, "--at: time 'soon': expected YYYY-MM-DD");
    fails("sketch /nonexistent.siren -u 1 --at 2000 --before-item 2", 2, "--at or --before-item");
    fails("rate /nonexistent.siren -u 1 -i 2 -r 3 --time soon", 2, "--time: time 'soon'");
    fails("import /nonexistent.csv x.siren --split time --train-until soon", 2,
          "--train-until: time 'soon'");
    fails("export prompts /nonexistent.siren", 2, "--output");
    fails("generate -m tests/fixtures/models/smol --raw --user 1", 2, "WORKSPACE");
    fails("generate x.siren -m tests/fixtures/models/smol --raw --user 1 --item 2", 2,
          "--raw: a WORKSPACE's prompt is in the model's chat template");
}

/* Nothing is said of an answer that no model gave. */
static void only_retrieved(const json_t *ranked)
{
    static const char *const fields[] = {"user", "item", "title", "similarity", "ratings"};
    assert_int_equal(json_object_size(ranked), 5);
    for (size_t i = 0; i < 5; i++) assert_non_null(json_object_get(ranked, fields[i]));
}

static void a_strategy_is_part_of_the_command_line(void **state)
{
    static const char *const commands[] = {"predict %s -i i2",
                                           "rank %s -u u1",
                                           "generate %s -u u1 -i i2",
                                           "eval %s",
                                           "export prompts %s -o /dev/null",
                                           "train sft %s --out x",
                                           "train grpo %s --out x",
                                           "train teach %s --out x",
                                           "train all %s --out x"};
    char path[256], command[300], arguments[2048];
    strcpy(path, fixture_workspace("strategy.siren", SIREN_PROTOCOL_FULL));
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        snprintf(command, sizeof command, commands[i], path);
        snprintf(arguments, sizeof arguments, "%s -m %s --chat-template %s --strategy recent+x",
                 command, tiny_model("tiny"), fixture_template());
        fails(arguments, 2, "--strategy: strategy \"recent+x\": \"x\" is none of recent");
    }
}

static void a_workspace_is_ranked_and_judged_without_a_model(void **state)
{
    static const char mine[] = "{\"row\":[\"u0\",\"i13\"],\"rating\":3}\n";
    char arguments[1024], path[256];
    json_t *out, *again, *first;
    int status;
    strcpy(path, fixture_workspace("commands.siren", SIREN_PROTOCOL_FULL));
    snprintf(arguments, sizeof arguments, "rank %s --user u3 --no-model --top 4 --json", path);
    out = json_of(arguments);
    assert_int_equal(json_array_size(json_object_get(out, "ranked")), 4);
    assert_string_equal(json_string_value(json_object_get(out, "retrieved_by")), "similarity");
    only_retrieved(json_array_get(json_object_get(out, "ranked"), 0));
    json_decref(out);
    snprintf(arguments, sizeof arguments, "rank %s --user nobody --no-model", path);
    fails(arguments, 0, "nobody is not in the workspace: the most popular items\n");
    snprintf(arguments, sizeof arguments, "rank %s --user nobody --no-model --json", path);
    out = json_of(arguments);
    first = json_array_get(json_object_get(out, "ranked"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "user")), "nobody");
    json_decref(out);
    snprintf(arguments, sizeof arguments,
             "eval %s --split test --predictions %s --name mine --json", path,
             scratch_write("mine.jsonl", mine, strlen(mine)));
    out = json_of(arguments);
    assert_string_equal(json_string_value(json_object_get(out, "name")), "mine");
    snprintf(arguments, sizeof arguments, "runs %s show 1", path);
    if (strncmp(output(arguments, &status), "run 1: judge mine, done\n", 24))
        fail_msg("%s", program_output);
    snprintf(arguments, sizeof arguments, "runs %s show 1 --json", path);
    again = json_of(arguments);
    assert_true(json_equal(out, again));
    json_decref(out);
    json_decref(again);
    snprintf(arguments, sizeof arguments, "runs %s delete 1 --json", path);
    fails(arguments, 0, "deleted");
    out = json_loads(program_output, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(out, "deleted")), 1);
    json_decref(out);
    snprintf(arguments, sizeof arguments, "runs %s show 1", path);
    fails(arguments, 1, "no run 1");
}

static void execute(const char *path, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL)) fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_close(db);
}

/* `rank` retrieves by popularity, and says why: to a program and to a person. */
static void retrieved_by_popularity(const char *path, const char *user, const char *reason,
                                    const char *note)
{
    char arguments[512];
    snprintf(arguments, sizeof arguments, "rank %s --user %s --no-model --json", path, user);
    json_t *out = json_of(arguments);
    has_text(out, "retrieved_by", "popularity");
    has_text(out, "reason", reason);
    json_decref(out);
    fails(arguments, 0, note);
    snprintf(arguments, sizeof arguments, "rank %s --user %s --no-model", path, user);
    fails(arguments, 0, note);
}

/* Popular items are no answer to what the user likes: whoever gets them is told. */
static void retrieval_by_popularity_is_told(void **state)
{
    char path[256], arguments[512];
    strcpy(path, fixture_workspace("popular.siren", SIREN_PROTOCOL_FULL));
    retrieved_by_popularity(path, "nobody", "unknown user", "nobody is not in the workspace");
    snprintf(arguments, sizeof arguments, "rank %s --user u3 --no-model --json", path);
    json_t *out = json_of(arguments);
    has_text(out, "retrieved_by", "similarity");
    assert_null(json_object_get(out, "reason"));
    json_decref(out);
    snprintf(arguments, sizeof arguments, "rate %s --user new --item i1 --rating 1", path);
    fails(arguments, 0, "");
    retrieved_by_popularity(path, "new", "nothing liked",
                            "the user has liked nothing yet: by popularity\n");
    snprintf(arguments, sizeof arguments, "rate %s --user new --item late --title A --rating 5",
             path);
    fails(arguments, 0, "");
    retrieved_by_popularity(path, "new", "liked items not embedded",
                            "what the user liked has no embeddings yet (`siren embed` makes them): "
                            "by popularity\n");
    execute(path, "DELETE FROM embeddings; DELETE FROM encoders");
    retrieved_by_popularity(path, "u3", "no embeddings",
                            "no embeddings of all items (`siren embed` makes them): by "
                            "popularity\n");
}

/* Before the model is opened, which is not there; a name that will do gets as far as that. */
static void names_of_runs_are_checked_first(void **state)
{
    static const char *const commands[] = {
        "eval %s -m none.gguf", "eval %s --predictions none.gguf",
        "train sft %s -m none.gguf -o none", "train all %s -m none.gguf -o none"};
    const char *path = fixture_workspace("named.siren", SIREN_PROTOCOL_FULL);
    char command[512], arguments[1024];
    for (int i = 0; i < 4; i++) {
        snprintf(command, sizeof command, commands[i], path);
        snprintf(arguments, sizeof arguments, "%s --name \"$(printf 'a\\nb')\"", command);
        fails(arguments, 2, "--name: a run's name: found a newline");
        snprintf(arguments, sizeof arguments, "%s --name $(printf '%%0201d' 7)", command);
        fails(arguments, 2, "--name: a run's name: found 201 bytes, expected at most 200");
        snprintf(arguments, sizeof arguments, "%s --name $(printf '%%0200d' 7)", command);
        fails(arguments, 1, "none.gguf");
    }
}

/* The answer of one row judged, with further options. */
static void judging_fails(const char *path, const char *more, int code, const char *says)
{
    char arguments[1024];
    snprintf(arguments, sizeof arguments, "eval %s --predictions %s %s", path,
             scratch_path("one.jsonl"), more);
    fails(arguments, code, says);
}

/* Three folds; the last row of u11, ("u11", "i24"), is in the one that is returned. */
static int deal_folds(const char *path)
{
    struct siren_app app;
    MUST(siren_app_open(&app, path, SIREN_WORKSPACE_WRITE, ERR));
    MUST(siren_split_folds(&app.ratings, 3, 1, ERR));
    MUST(siren_split_save(app.ws, &app.ratings, 1, "k-fold", "{}", ERR));
    int fold = app.ratings.fold[app.ratings.n - 1];
    siren_app_close(&app);
    return fold;
}

static void only_what_judges_goes_with_predictions(void **state)
{
    static const char trained[] = "{\"row\":[\"u0\",\"i1\"],\"rating\":3}\n";
    static const char *const others[] = {"--limit 5",       "-m tests/fixtures/models/smol",
                                         "--reasoning",     "--samples 2",
                                         "--temperature 1", "--adapter x",
                                         "--anew",          "--strategy recent"};
    char path[256], arguments[300];
    int status;
    strcpy(path, fixture_workspace("judging.siren", SIREN_PROTOCOL_FULL));
    int fold = deal_folds(path);
    scratch_write("one.jsonl", trained, strlen(trained));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char word[64];
        snprintf(word, sizeof word, "%s", others[i][1] == 'm' ? "--model" : others[i]);
        word[strcspn(word, " ")] = '\0';
        judging_fails(path, others[i], 2, word);
        judging_fails(path, others[i], 2, "with --predictions all answers of the file are judged");
    }
    /* Rows of train are judged by those only who say so. */
    judging_fails(path, "", 1, "one.jsonl:1: the row is not in the split \"test\", which");
    judging_fails(path, "--split train", 0, "stored as run 1");
    snprintf(arguments, sizeof arguments, "runs %s show 1", path);
    if (strncmp(output(arguments, &status), "run 1: judge, done\n", 19))
        fail_msg("%s", program_output);
    setenv("SIREN_MODEL", "/meant/for/others", 1);
    judging_fails(path, "--split train", 0, "stored as run 2");
    unsetenv("SIREN_MODEL");
    /* A fold is the test set. */
    static const char last[] = "{\"row\":[\"u11\",\"i24\"],\"rating\":3}\n";
    char words[80];
    scratch_write("one.jsonl", last, strlen(last));
    for (int k = 0; k < 3; k++) {
        char option[32];
        snprintf(option, sizeof option, "--fold %d", k);
        snprintf(words, sizeof words, "not in the split \"test\" of fold %d, which", k);
        judging_fails(path, option, k != fold, k == fold ? "stored as run 3" : words);
    }
    snprintf(arguments, sizeof arguments, "runs %s show 3", path);
    snprintf(words, sizeof words, "fold %d of 3, test", fold);
    if (!strstr(output(arguments, &status), words)) fail_msg("%s: %s", words, program_output);
}

/* What is about another way to say what is predicted. */
static void prediction_refuses_what_it_would_ignore(void **state)
{
    static const char *const cases[][2] = {
        {"-u u1 -i i2 -o x.csv", "--output: it is about the answers to --pairs"},
        {"-u u1 -i i2 --format jsonl", "--format: it is about the answers to --pairs"},
        {"-u u1 -i i2 --categories A", "--categories: it is about the item of a --title"},
        {"-u u1 -i i2 -e x", "--encoder: it is about the item of a --title"},
        {"-u u1 --title A --description B", "--description: the strategy shows no description"},
        {"--pairs x -o y -u u1", "--user: with --pairs the users and items are those of its file"},
        {"--pairs x -o y -i i2", "--item: with --pairs"},
        {"--pairs x -o y --title A", "--title: with --pairs"},
        {"--pairs x -o y -e z", "--encoder: with --pairs"},
    };
    char path[256], arguments[512];
    strcpy(path, fixture_workspace("ignores.siren", SIREN_PROTOCOL_FULL));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(arguments, sizeof arguments, "predict %s -m x %s", path, cases[i][0]);
        fails(arguments, 2, cases[i][1]);
    }
}

/* An empty sketch says why it is empty. */
static void an_empty_sketch_says_why(void **state)
{
    char path[256], arguments[512];
    int status;
    strcpy(path, fixture_workspace("empty.siren", SIREN_PROTOCOL_FULL));
    snprintf(arguments, sizeof arguments, "sketch %s -u u3 --at 2020-01-01 --min-support 9", path);
    if (!strstr(output(arguments, &status), "less support than --min-support 9: 3.") || status)
        fail_msg("%s", program_output);
    assert_null(strstr(program_output, "None of them"));
    snprintf(arguments, sizeof arguments, "sketch %s -u u3 --theta 9", path);
    fails(arguments, 1, "--theta: found 9, expected a rating from 1 to 5");
    snprintf(arguments, sizeof arguments, "sketch %s -u u3 --at 1990-01-01", path);
    if (!strstr(output(arguments, &status), "There is nothing to judge by.") || status)
        fail_msg("%s", program_output);
}

static void baselines_say_how_they_were_made(void **state)
{
    char path[256], arguments[512];
    strcpy(path, fixture_workspace("made.siren", SIREN_PROTOCOL_FULL));
    snprintf(arguments, sizeof arguments, "baselines %s --only mode --seed 4 --json", path);
    json_t *rows = json_of(arguments);
    assert_int_equal(json_array_size(rows), 1);
    json_decref(rows);
    snprintf(arguments, sizeof arguments, "runs %s show 1 --json", path);
    json_t *run = json_of(arguments);
    const char *command = json_string_value(json_object_get(run, "command"));
    if (!command || !strstr(command, "siren baselines ") || !strstr(command, "--only mode"))
        fail_msg("%s", command);
    json_decref(run);
}

/* The command that `export prompts` ends with is the one that judges the answers. */
static void what_export_advises_works(void **state)
{
    char path[256], answers[256], arguments[1024], command[1024], *text, *from, *to;
    size_t size;
    strcpy(path, fixture_workspace("advice.siren", SIREN_PROTOCOL_FULL));
    strcpy(answers, scratch_path("advice.jsonl"));
    snprintf(arguments, sizeof arguments, "export prompts %s --fold %d --strategy recent -o %s",
             path, deal_folds(path), answers);
    fails(arguments, 0, "judge the answers with `siren eval");
    MUST(siren_file_read(&text, &size, scratch_path("stderr"), 1 << 16, ERR));
    from = strstr(text, "`siren ") + strlen("`siren ");
    to = strstr(from, "FILE`");
    assert_non_null(to);
    snprintf(command, sizeof command, "%.*s%s", (int)(to - from), from, answers);
    free(text);
    /* The truth as the answer. */
    snprintf(arguments, sizeof arguments, "sed -i 's/\"truth\":/\"rating\":/' '%s'", answers);
    assert_int_equal(system(arguments), 0);
    fails(command, 0, "stored as run 1");
}

/* Answers at once are read, not written. */
static void what_is_about_texts_needs_reasoning(void **state)
{
    static const char *const options[] = {"--temperature 1", "--max-tokens 9", "--samples 2",
                                          "--top-p 0.5", "--top-k 3"};
    static const char *const commands[] = {"eval %s -m x %s", "predict %s -m x -u u1 -i i2 %s",
                                           "rank %s -m x -u u1 %s"};
    char path[256], arguments[512];
    strcpy(path, fixture_workspace("texts.siren", SIREN_PROTOCOL_FULL));
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 3; k++) {
            snprintf(arguments, sizeof arguments, commands[k], path, options[i]);
            fails(arguments, 2, "it is about the text before the rating: give --reasoning");
        }
    for (size_t k = 0; k < 3; k++) { /* and what is about chance needs some */
        snprintf(arguments, sizeof arguments, commands[k], path, "--reasoning --top-k 3");
        fails(arguments, 2, "--top-k: nothing is left to chance without a --temperature");
        snprintf(arguments, sizeof arguments, commands[k], path, "--reasoning --samples 2");
        fails(arguments, 2, "--samples 2 needs a --temperature");
    }
}

static void add_foreign(const char *path)
{
    struct siren_workspace *ws;
    struct siren_rate_result result;
    struct siren_item new = {.external = "i\033c", .title = "A\033]0;B\a"};
    int user, item;
    MUST(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, ERR));
    MUST(siren_user_add(ws, "u\033[2J", &user, ERR));
    MUST(siren_item_add(ws, &new, &item, ERR));
    MUST(siren_rate(ws, user, item, 5, 2000000000000, &result, ERR));
    siren_workspace_close(ws);
}

/* What a data set says does not reach the terminal as an order. */
static void foreign_text_is_seen(void **state)
{
    char path[256], arguments[512], command[8192], said[8192];
    int status;
    strcpy(path, fixture_workspace("foreign.siren", SIREN_PROTOCOL_FULL));
    add_foreign(path);
    snprintf(arguments, sizeof arguments, "rank %s --user nobody --no-model --top 99", path);
    output(arguments, &status);
    assert_int_equal(status, 0);
    expect_output("  A␛]0;B␇  ");
    snprintf(arguments, sizeof arguments, "sketch %s --user \"$(printf '\\033c')\"", path);
    fails(arguments, 1, "␛c");
    snprintf(arguments, sizeof arguments, "sketch %s --user \"$(printf 'u\\033[2J')\"", path);
    output(arguments, &status);
    expect_output("User u␛[2J, 1 rating");
    /* a model's words: a pipe gets their bytes */
    snprintf(command, sizeof command, "'%s' generate -q -m %s --raw -p ab --max-tokens 3", program,
             TINY_MODEL);
    assert_int_equal(terminal_run(command, 80, said, sizeof said), 0);
    assert_string_equal(said, "���\n");
    output(strstr(command, "generate"), &status);
    assert_string_equal(program_output, "\xfb\xfb\xfb\n");
}

static void long_titles_are_cut_between_letters(void **state)
{
    char path[256], arguments[512], title[121] = "a";
    sqlite3 *db;
    int status;
    strcpy(path, fixture_workspace("long.siren", SIREN_PROTOCOL_FULL));
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "UPDATE items SET title = 'a' || replace(hex(zeroblob(60)), "
                                  "'00', 'é')",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    for (int i = 0; i < 49; i++) strcat(title, "é");
    strcat(title, "; a");
    snprintf(arguments, sizeof arguments, "topics %s --list", path);
    output(arguments, &status);
    assert_int_equal(status, 0);
    expect_output(title);
}

/* A path's bytes may be no text: JSON shows it all the same. */
static void paths_of_any_bytes_are_shown(void **state)
{
    static const char mine[] = "{\"row\":[\"u0\",\"i13\"],\"rating\":3}\n";
    char path[256], folder[PATH_MAX], arguments[2048];
    json_t *out;
    strcpy(path, fixture_workspace("bytes.siren", SIREN_PROTOCOL_FULL));
    assert_non_null(realpath(TINY_MODEL, folder));
    assert_int_equal(symlink(folder, scratch_path("m\351")), 0);
    snprintf(arguments, sizeof arguments, "model info '%s' --json", scratch_path("m\351"));
    out = json_of(arguments);
    has_text(out, "path", "/m�");
    json_decref(out);
    snprintf(arguments, sizeof arguments, "export prompts %s --strategy recent -o '%s' --json",
             path, scratch_path("o\351"));
    out = json_of(arguments);
    has_text(out, "output", "/o�");
    json_decref(out);
    snprintf(arguments, sizeof arguments, "eval %s --predictions '%s' --json", path,
             scratch_write("p\351", mine, strlen(mine)));
    out = json_of(arguments);
    has_text(out, "command", "/p� --json");
    json_decref(out);
    snprintf(
        arguments, sizeof arguments,
        "train sft %s -m %s --chat-template %s --strategy recent --recent 2 --rows 2 --batch 2 "
        "--epochs 1 --eval-split valid --eval-rows 2 --out '%s' --json",
        path, tiny_model("tiny"), fixture_template(), scratch_path("t\351"));
    out = json_of(arguments);
    has_text(out, "folder", "/t�");
    json_decref(out);
    snprintf(arguments, sizeof arguments, "runs %s show 2 --json", path);
    out = json_of(arguments);
    has_text(json_object_get(json_object_get(out, "metrics"), "training"), "folder", "/t�");
    has_text(json_object_get(out, "settings"), "folder", "/t�");
    json_decref(out);
}

/* On standard output, whatever there is to say beside it; for nothing at all, too. */
static void json_is_one_document(void **state)
{
    static const char csv[] = "user,item,rating\na,x,1\na,y,2\nb,x,3\nb,y,4\na,z,5\nb,z,5\n";
    static const char *const commands[] = {"runs %s --json",
                                           "topics %s --list --json",
                                           "topics %s --rename 1 'A name' --json",
                                           "sketch %s --user u1 --json",
                                           "rate %s --user u1 --item i20 --rating 3 --json",
                                           "rate %s --user u1 --item i20 --rating 4 --json",
                                           "rate %s --user new --item i20 --rating 4 --json",
                                           "rank %s --user new --no-model --json",
                                           "rank %s --user nobody --no-model --json",
                                           "baselines %s --json",
                                           "runs %s list --json",
                                           "runs %s table --json",
                                           "runs %s compare 1 2 --json",
                                           "runs %s compare 1,2,3 4,5 --json",
                                           "runs %s gain 1 2 3 --json",
                                           "forget %s new --json",
                                           "forget %s --user u2 --json"};
    char path[256], arguments[1024];
    snprintf(path, sizeof path, "%s", scratch_path("imported.siren"));
    snprintf(arguments, sizeof arguments, "import %s %s --k-core 0 --json", path,
             scratch_write("ratings.csv", csv, strlen(csv)));
    for (int i = 0; i < 2; i++) json_decref(json_of(arguments));
    snprintf(arguments, sizeof arguments, "runs %s --json", path);
    json_decref(json_of(arguments));
    strcpy(path, fixture_workspace("documents.siren", SIREN_PROTOCOL_FULL));
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        snprintf(arguments, sizeof arguments, commands[i], path);
        json_decref(json_of(arguments));
    }
    static const struct {
        const char *a, *message;
    } lists[] = {{"1,x", "\"1,x\" is no list of runs' numbers"},
                 {"1,", "\"1,\" is no list"},
                 {",1", "\",1\" is no list"},
                 {"1,-2", "\"1,-2\" is no list"},
                 {"1,2,1", "\"1,2,1\" has run 1 twice"},
                 {"x", "\"x\" is not the number of a run"}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        snprintf(arguments, sizeof arguments, "runs %s compare %s 2", path, lists[i].a);
        fails(arguments, 2, lists[i].message);
    }
    snprintf(arguments, sizeof arguments, "runs %s show 99 --json", path);
    fails(arguments, 1, "no run 99");
    assert_string_equal(program_output, "");
}

/* That there is nothing yet is no mistake, as it is none in the list of all runs. */
static void no_trainings_are_none(void **state)
{
    char path[256], arguments[512];
    strcpy(path, fixture_workspace("untrained.siren", SIREN_PROTOCOL_FULL));
    for (int i = 0; i < 2; i++) {
        snprintf(arguments, sizeof arguments, "runs %s trainings --json", path);
        json_t *out = json_of(arguments);
        assert_int_equal(json_array_size(json_object_get(out, "runs")), 0);
        assert_int_equal(json_object_size(json_object_get(out, "differences")), 0);
        assert_int_equal(json_object_size(out), 2);
        json_decref(out);
        snprintf(arguments, sizeof arguments, "runs %s trainings", path);
        fails(arguments, 0, "no trainings yet: `siren train` makes them\n");
        snprintf(arguments, sizeof arguments, "runs %s trainings --curves %s", path,
                 scratch_path("none.svg"));
        fails(arguments, 1, "no trainings yet");
        snprintf(arguments, sizeof arguments, "baselines %s --only mode --json", path);
        json_decref(json_of(arguments)); /* and with a run that is none */
    }
    snprintf(arguments, sizeof arguments, "runs %s trainings 1", path);
    fails(arguments, 1, "run 1 (baseline) is no training");
}

/* Folders of trainings, each once, while they are there. */
static void who_is_forgotten_is_told_where_texts_are(void **state)
{
    char path[256], folder[256], settings[600], arguments[600];
    struct siren_workspace *ws;
    int status;
    strcpy(path, fixture_workspace("forgetting.siren", SIREN_PROTOCOL_FULL));
    strcpy(folder, scratch_path("policy"));
    MUST(siren_folder_make(folder, ERR));
    MUST(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, ERR));
    for (int i = 0; i < 3; i++) {
        snprintf(settings, sizeof settings, "{\"folder\":\"%s%s\"}", folder, i == 2 ? "/x" : "");
        struct siren_run run = {.kind = "grpo", .settings = settings};
        MUST(siren_run_start(ws, &run, ERR));
    }
    siren_workspace_close(ws);
    snprintf(arguments, sizeof arguments, "forget %s u1 --json", path);
    json_t *out = json_of(arguments), *folders = json_object_get(out, "folders");
    assert_int_equal(json_array_size(folders), 1);
    assert_string_equal(json_string_value(json_array_get(folders, 0)), folder);
    json_decref(out);
    snprintf(arguments, sizeof arguments, "forget %s u2", path);
    if (!strstr(output(arguments, &status), "whose texts/ may name the user:\n  ") ||
        !strstr(program_output, folder) || status)
        fail_msg("%s", program_output);
}

/* An option that would change nothing is a mistake. */
static void options_without_effect_are_refused(void **state)
{
    static const struct {
        const char *command, *says;
    } cases[] = {
        {"forget x.siren", "--user ID is needed"},
        {"forget x.siren 1 --user 2", "USER or --user: one of them"},
        {"forget x.siren -u 1 -u 2", "--user: found \"1\" and \"2\", expected one"},
        {"sketch x.siren -u 1 --user=1", "--user: found \"1\" and \"1\", expected one"},
        {"rate x.siren -u 1 -i 2 -i 3 -r 4", "--item: found \"2\" and \"3\", expected one"},
        {"generate x.siren -u 1 -i 2 -i 3", "--item: found \"2\" and \"3\", expected one"},
        {"generate x.siren -u 1 -i 2 --prompt a", "--prompt: a WORKSPACE's prompt is about"},
        {"generate x.siren -u 1 -i 2 --prompt-file a", "--prompt-file: a WORKSPACE's"},
        {"generate x.siren -u 1 -i 2 --system a", "--system: a WORKSPACE's"},
        {"generate -p a --strategy recent", "--strategy: it is about the prompt of a rating"},
        {"generate -p a --prompt-limit 64", "--prompt-limit: it is about the prompt of a rating"},
        {"generate -p a --raw --system b", "--system: with --raw the text is the whole prompt"},
        {"generate -p a --raw --chat-template b", "--chat-template: with --raw"},
        {"generate -p a --top-p 0.5", "--top-p: nothing is left to chance without"},
        {"generate -p a --top-k 3", "--top-k: nothing is left to chance without"},
        {"generate -p a -n 2", "--samples 2 needs a --temperature"},
        {"generate -p a --temperature 1 --top-p 0",
         "--top-p: found \"0\", expected a number above"},
        {"generate x.siren -u 1 -i 2 --reasoning", "unknown option --reasoning"},
        {"logprobs -p a --continuations 1 --chat-template b", "--chat-template: it is used with"},
        {"rank x.siren -u 1 --no-model --strategy recent", "--strategy: with --no-model nothing"},
        {"rank x.siren -u 1 --no-model -m x", "--model: with --no-model nothing is predicted"}};
    char arguments[512];
    setenv("SIREN_MODEL", "tests/fixtures/models/smol", 1); /* meant for all commands */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        fails(cases[i].command, 2, cases[i].says);
    unsetenv("SIREN_MODEL");
    snprintf(arguments, sizeof arguments, "predict %s -m x -u u1 -i i2 --strategy description",
             fixture_workspace("paper.siren", SIREN_PROTOCOL_PAPER));
    fails(arguments, 2, "--strategy: under the workspace's protocol, paper, prompts show no");
}

/* An evaluation as a command; its run's number. */
static long long evaluated(const char *path, const char *more, const char *figure)
{
    char arguments[1600];
    snprintf(arguments, sizeof arguments,
             "eval %s -m %s --chat-template %s --split train --limit 12 --json %s", path,
             tiny_model("tiny"), fixture_template(), more);
    json_t *run = json_of(arguments), *metrics = json_object_get(run, "metrics");
    const json_t *latency = json_object_get(metrics, "latency_ms");
    long long id = json_integer_value(json_object_get(run, "id"));
    assert_true(json_number_value(json_object_get(latency, "mean")) > 0);
    if (!json_object_get(metrics, figure)) fail_msg("no %s in %s", figure, program_output);
    json_decref(run);
    return id;
}

/* Before, the teacher by reasoning, another student: judged, compared, and who has the gain. */
static void reasoning_is_evaluated_and_compared(void **state)
{
    static const char *const losses[] = {"mae", "rmse", "log_loss", "rps"};
    char path[256], arguments[512];
    int status;
    strcpy(path, fixture_workspace("gain.siren", SIREN_PROTOCOL_FULL));
    long long before = evaluated(path, "--strategy recent --recent 2", "log_loss"),
              reasoned = evaluated(path,
                                   "--strategy recent --recent 2 --reasoning --samples 2 "
                                   "--temperature 1 --max-tokens 8",
                                   "reasoning"),
              student = evaluated(path, "--strategy recent --recent 1", "log_loss");
    snprintf(arguments, sizeof arguments, "runs %s compare %lld %lld", path, before, reasoned);
    for (int i = 0; i < 4; i++)
        if (!strstr(output(arguments, &status), losses[i]) || status)
            fail_msg("%s: %s", losses[i], program_output);
    snprintf(arguments, sizeof arguments, "runs %s gain %lld %lld %lld", path, before, reasoned,
             student);
    for (int i = 0; i < 4; i++)
        if (!strstr(output(arguments, &status), losses[i]) || status)
            fail_msg("%s: %s", losses[i], program_output);
    assert_non_null(strstr(program_output, "Student's share"));
    snprintf(arguments, sizeof arguments, "runs %s delete 1 2", path);
    fails(arguments, 2, "delete: found 2 runs, expected 1");
    snprintf(arguments, sizeof arguments, "runs %s compare 9 1", path);
    fails(arguments, 1, "no run 9");
    snprintf(arguments, sizeof arguments, "runs %s show %lld", path, reasoned);
    output(arguments, &status);
    assert_null(strstr(program_output, "of them shared")); /* it is not counted there */
    snprintf(arguments, sizeof arguments, "runs %s show %lld", path, before);
    output(arguments, &status);
    assert_non_null(strstr(program_output, "of them shared"));
}

/* Runs of valid and of test have no row in common: without names, each split has its table. */
static void runs_of_two_splits_are_shown_apart(void **state)
{
    char path[256], arguments[512];
    int status;
    strcpy(path, fixture_workspace("splits.siren", SIREN_PROTOCOL_FULL));
    snprintf(arguments, sizeof arguments, "baselines %s --only mode --split valid --json", path);
    json_decref(json_of(arguments));
    snprintf(arguments, sizeof arguments, "runs %s table --json", path);
    json_t *one = json_of(arguments);
    assert_int_equal(json_object_size(one), 2);
    snprintf(arguments, sizeof arguments, "baselines %s --only mode --json", path);
    json_decref(json_of(arguments));
    snprintf(arguments, sizeof arguments, "runs %s table --json", path);
    json_t *both = json_of(arguments), *splits = json_object_get(both, "splits");
    assert_int_equal(json_array_size(splits), 2);
    json_t *valid = json_array_get(splits, 0), *test = json_array_get(splits, 1);
    has_text(valid, "split", "valid");
    has_text(test, "split", "test");
    assert_int_equal(json_array_size(json_object_get(test, "runs")), 1);
    json_object_del(valid, "split");
    assert_true(json_equal(valid, one));
    json_decref(one);
    json_decref(both);
    snprintf(arguments, sizeof arguments, "runs %s table", path);
    output(arguments, &status);
    assert_int_equal(status, 0);
    expect_output("Split valid\n");
    expect_output("\nSplit test\n");
    snprintf(arguments, sizeof arguments, "runs %s table 1 2", path);
    fails(arguments, 1, "run 1 is of the split \"valid\", run 2 of \"test\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(a_strategy_is_part_of_the_command_line),
        cmocka_unit_test(a_workspace_is_ranked_and_judged_without_a_model),
        cmocka_unit_test(retrieval_by_popularity_is_told),
        cmocka_unit_test(who_is_forgotten_is_told_where_texts_are),
        cmocka_unit_test(names_of_runs_are_checked_first),
        cmocka_unit_test(only_what_judges_goes_with_predictions),
        cmocka_unit_test(prediction_refuses_what_it_would_ignore),
        cmocka_unit_test(an_empty_sketch_says_why),
        cmocka_unit_test(baselines_say_how_they_were_made),
        cmocka_unit_test(what_export_advises_works),
        cmocka_unit_test(what_is_about_texts_needs_reasoning),
        cmocka_unit_test(options_without_effect_are_refused),
        cmocka_unit_test(foreign_text_is_seen),
        cmocka_unit_test(long_titles_are_cut_between_letters),
        cmocka_unit_test(paths_of_any_bytes_are_shown),
        cmocka_unit_test(json_is_one_document),
        cmocka_unit_test(no_trainings_are_none),
        cmocka_unit_test(reasoning_is_evaluated_and_compared),
        cmocka_unit_test(runs_of_two_splits_are_shown_apart),
    };
    return cmocka_run_group_tests(tests, command_setup, scratch_delete);
}
