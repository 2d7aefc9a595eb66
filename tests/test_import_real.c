/* The paper's Movies layout on a tiny synthetic folder, and the real data sets where they are. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "siren/file.h"
#include "workspace_fixture.h"

static struct siren_import_options options;
static struct siren_import_report report;

static int setup(void **state)
{
    siren_import_defaults(&options);
    return 0;
}

static struct siren_workspace *import_real(const char *path)
{
    unlink(scratch_path("w.siren"));
    struct siren_workspace *ws = create_workspace("w.siren");
    ok(siren_import(ws, path, &options, &report, NULL, &err));
    return ws;
}

/* A data set's path in the folder that an environment variable names, or skip. */
static const char *real(const char *variable, const char *name)
{
    static char path[500];
    const char *folder = getenv(variable);
    if (!folder || !*folder) {
        print_message("skipped: %s is not set\n", variable);
        skip();
    }
    snprintf(path, sizeof path, "%s%s%s", folder, *name ? "/" : "", name);
    return path;
}

/* ---- where a title ends ---- */

static void test_border(void **state)
{
    static const struct {
        const char *text, *title, *categories;
    } cases[] = {
        {"Jaws, Movies & TV|Thriller", "Jaws", "Movies & TV|Thriller"},
        {"Me, Myself, Drama|Arts, Music, and Culture", "Me, Myself",
         "Drama|Arts, Music, and Culture"},
        {"One | Two, Drama|X", "One | Two", "Drama|X"},
        {"One, Two, Drama", "One, Two", "Drama"},
        {"Safe Haven, ", "Safe Haven", ""},
        {"Alone", "Alone", ""},
        {"", "", ""},
        {"A|B", "A|B", ""},
        {", x|y", "", "x|y"},
        {"|", "|", ""},
        {", ", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t title, at;
        const char *text = cases[i].text;
        siren_movies_border(text, strlen(text), &title, &at);
        assert_int_equal(title, strlen(cases[i].title));
        assert_memory_equal(text, cases[i].title, title);
        assert_string_equal(text + at, cases[i].categories);
    }
}

/* ---- the layout, small ---- */

#define HISTORY                                                                                    \
    "{\"user_id\":\"U\",\"history\":\"A, x|y, 3\\nB, B2, x|y, 4\\nC, , 5\\nD \\u00e9, x|y, 1\","   \
    "\"history_asins\":[\"a\",\"b\",\"c\",\"d\"],\"history_ratings\":[3,4,5,1]}\n"
#define TRAIN                                                                                      \
    "{\"user_id\":\"U\",\"parent_asin\":\"d\",\"timestamp\":1000000000000,\"label\":1.0,"          \
    "\"target\":\"D \\u00e9, x|y\",\"history\":\"A, x|y, 3.0\\nB, B2, x|y, 4.0\\nC, , 5.0\"}\n"
#define LATE(asin, time, label)                                                                    \
    "{\"user_id\":\"U\",\"parent_asin\":\"" asin "\",\"timestamp\":" time ",\"label\":" label      \
    ",\"target\":\"E, x|y\",\"history\":\"A, x|y, 3\\nB, B2, x|y, 4\\nC, , 5\\nD, x|y, 1\\n\"}\n"

static void put(const char *folder, const char *name, const char *text)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", scratch_path(folder), name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void small(void)
{
    mkdir(scratch_path("m"), 0755);
    put("m", "history.jsonl", HISTORY);
    put("m", "train.jsonl", TRAIN);
    put("m", "valid.jsonl", LATE("e", "1000000000001", "4.0"));
    put("m", "test.jsonl", LATE("f", "1000000000002", "5.0"));
}

static void test_small(void **state)
{
    struct siren_ratings r;
    struct siren_items items;
    size_t rows[6];
    small();
    char path[300];
    strcpy(path, scratch_path("m"));
    struct siren_workspace *ws = import_real(path);
    ok(siren_ratings_load(&r, ws, &err));
    ok(siren_items_load(&items, ws, &err));
    const uint8_t labels[] = {4, 4, 4, 1, 2, 3};
    assert_int_equal(r.n, 6);
    assert_memory_equal(r.label, labels, 6);
    assert_true(r.time[2] == SIREN_NO_TIME && r.time[3] == 1000000000000);
    assert_int_equal(r.protocol, SIREN_PROTOCOL_PAPER);
    assert_int_equal(siren_history(&r, 5, 0, rows), 4);
    assert_string_equal(items.item[1].title, "B, B2");
    assert_string_equal(items.item[2].title, "C");
    assert_int_equal(items.item[2].n_categories, 0);
    assert_string_equal(items.item[3].title, "D é");
    assert_string_equal(items.item[3].categories[1], "y");
    assert_int_equal(report.n_notes, 1);
    siren_items_clear(&items);
    siren_ratings_clear(&r);
    siren_workspace_close(ws);
    options.protocol = SIREN_PROTOCOL_FULL;
    ws = import_real(path);
    ok(siren_ratings_load(&r, ws, &err));
    assert_int_equal(siren_history(&r, 5, 0, rows), 5);
    siren_ratings_clear(&r);
    siren_workspace_close(ws);
}

static void test_small_errors(void **state)
{
    static const struct {
        const char *file, *text, *words;
    } cases[] = {
        {"history.jsonl", "{\"user_id\":\"U\",\"history\":\"\"}\n", "history.jsonl:1: no field"},
        {"history.jsonl", HISTORY HISTORY, "history.jsonl:2: user U is there twice"},
        {"history.jsonl",
         "{\"user_id\":\"U\",\"history\":\"A, 3\",\"history_asins\":[\"a\"],"
         "\"history_ratings\":[4]}\n",
         "rating 4 in history_ratings, another in history"},
        {"history.jsonl",
         "{\"user_id\":\"U\",\"history\":\"A, 3\",\"history_asins\":[\"a\",\"b\"],"
         "\"history_ratings\":[3]}\n",
         "two lists of one length"},
        {"history.jsonl",
         "{\"user_id\":\"U\",\"history\":\"A; 3\",\"history_asins\":[\"a\"],"
         "\"history_ratings\":[3]}\n",
         "expected 'Title, …, RATING'"},
        {"history.jsonl",
         "{\"user_id\":\"U\",\"history\":\"A, 9\",\"history_asins\":[\"a\"],"
         "\"history_ratings\":[9]}\n",
         "rating 9: expected 1 to 5"},
        {"history.jsonl",
         "{\"user_id\":\"U\",\"history\":\"\",\"history_asins\":[],\"history_ratings\":[]}\n",
         "user U has no history"},
        {"train.jsonl", TRAIN TRAIN, "train.jsonl:2: user U, item d: there twice"},
        {"train.jsonl", LATE("z", "1", "4"), "train.jsonl:1: user U, item z: not in"},
        {"train.jsonl", LATE("a", "1", "4"), "label 4, but 3 in the user's history"},
        {"valid.jsonl", LATE("a", "1", "4"), "valid.jsonl:1: user U, item a: in the history"},
        {"valid.jsonl", LATE("e", "\"1\"", "4"), "field 'timestamp' is a string"},
        {"test.jsonl",
         "{\"user_id\":\"V\",\"parent_asin\":\"x\",\"timestamp\":1,\"label\":4,"
         "\"target\":\"X\",\"history\":\"\"}\n",
         "user V is not in the histories"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        small();
        put("m", cases[i].file, cases[i].text);
        char path[300];
        strcpy(path, scratch_path("m"));
        unlink(scratch_path("w.siren"));
        struct siren_workspace *ws = create_workspace("w.siren");
        expect_error(siren_import(ws, path, &options, &report, NULL, &err), SIREN_EFORMAT,
                     cases[i].words);
        assert_int_equal(number(ws, "SELECT count(*) FROM users"), 0);
        siren_workspace_close(ws);
    }
    small();
    char path[300];
    strcpy(path, scratch_path("m"));
    options.k_core = 5;
    struct siren_workspace *ws = create_workspace("w.siren");
    expect_error(siren_import(ws, path, &options, &report, NULL, &err), SIREN_EINVAL, "no k-core");
    options.k_core = -1;
    unlink(scratch_path("m/test.jsonl"));
    expect_error(siren_import(ws, path, &options, &report, NULL, &err), SIREN_ENOTFOUND,
                 "no test.jsonl");
    siren_workspace_close(ws);
}

/* ---- the real ones ---- */

static void test_movies(void **state)
{
    struct siren_workspace *ws = import_real(real("SIREN_DATA", "movies"));
    assert_int_equal(report.labels[SIREN_LABEL_TRAIN], 22097);
    assert_int_equal(report.labels[SIREN_LABEL_VALID], 2629);
    assert_int_equal(report.labels[SIREN_LABEL_TEST], 2629);
    assert_int_equal(report.labels[SIREN_LABEL_HISTORY], 7887);
    assert_int_equal(report.no_time, 7887);
    assert_int_equal(report.items, 10874);
    assert_int_equal(report.users, 2629);
    assert_true(report.median_history == 6);
    assert_int_equal(report.n_notes, 1);
    assert_non_null(strstr(report.notes[0], "for 2629 users"));
    struct siren_ratings r;
    ok(siren_ratings_load(&r, ws, &err));
    size_t train = 0, fives[5] = {0}, of[5] = {0}, beyond = 0;
    for (size_t i = 0; i < r.n; i++) {
        train += (size_t)siren_label_trains(r.label[i]);
        of[r.label[i]]++;
        fives[r.label[i]] += r.rating[i] == 5;
        beyond += r.label[i] == SIREN_LABEL_TEST && siren_history(&r, i, 0, NULL) > 10;
    }
    assert_int_equal(train, 29984);
    assert_true(fabs((double)fives[1] / (double)of[1] - 0.398) < 0.0005);
    assert_true(fabs((double)fives[3] / (double)of[3] - 0.625) < 0.0005);
    assert_true(fabs((double)beyond / 2629 - 0.26) < 0.005);
    siren_ratings_clear(&r);
    siren_workspace_close(ws);
}

static int same_item(const struct siren_item *item, const json_t *meta)
{
    const json_t *categories = json_object_get(meta, "categories");
    size_t n = json_array_size(categories);
    if (strcmp(item->title, json_string_value(json_object_get(meta, "title")))) return 0;
    if ((size_t)item->n_categories != n) return 0;
    for (size_t i = 0; i < n; i++)
        if (strcmp(item->categories[i], json_string_value(json_array_get(categories, i)))) return 0;
    return 1;
}

/* Titles and categories against the file that has them apart. */
static void test_movies_items(void **state)
{
    char meta[500];
    struct siren_items items;
    struct siren_lines *lines;
    char *text;
    size_t length, same = 0;
    strcpy(meta, real("SIREN_DATA", "movies-plots/meta.jsonl.gz"));
    struct siren_workspace *ws = import_real(real("SIREN_DATA", "movies"));
    ok(siren_items_load(&items, ws, &err));
    ok(siren_lines_open(&lines, meta, SIREN_UTF8, &err));
    while (siren_lines_next(lines, &text, &length, &err) == 1) {
        json_t *object = json_loadb(text, length, 0, NULL);
        int id;
        ok(siren_item_find(ws, json_string_value(json_object_get(object, "parent_asin")), &id,
                           &err));
        if (!same_item(items.item + id, object))
            print_message("differs: %s\n", items.item[id].title);
        else
            same++;
        json_decref(object);
    }
    assert_int_equal(same, 10874);
    siren_lines_close(lines);
    siren_items_clear(&items);
    siren_workspace_close(ws);
}

static void test_movielens_small(void **state)
{
    options.k_core = 0;
    struct siren_workspace *ws = import_real(real("SIREN_DATA", "movielens-small"));
    assert_int_equal(report.ratings, 100004);
    assert_int_equal(report.users, 671);
    assert_int_equal(report.items, 9066);
    assert_int_equal(report.labels[SIREN_LABEL_TEST], 671);
    assert_true(report.scale.min == 0.5 && report.scale.step == 0.5);
    assert_int_equal(report.items_untitled, 0);
    assert_string_equal(report.time_unit, "s");
    siren_workspace_close(ws);
}

static void test_amazon_raw(void **state)
{
    char path[500];
    strcpy(path, real("SIREN_DATA", "amazon-2023-raw/All_Beauty.jsonl.gz"));
    unlink(scratch_path("w.siren"));
    struct siren_workspace *ws = create_workspace("w.siren");
    expect_error(siren_import(ws, path, &options, &report, NULL, &err), SIREN_EFORMAT,
                 "the 5-core of its 3534 ratings (675 users, 3208 items) is empty");
    siren_workspace_close(ws);
    options.k_core = 0;
    ws = import_real(path);
    assert_int_equal(report.ratings_read, 3534);
    assert_int_equal(report.ratings + report.duplicates, 3534);
    assert_int_equal(report.users, 675);
    assert_int_equal(report.items, 3208);
    siren_workspace_close(ws);
}

static void test_ml100k(void **state)
{
    options.k_core = 0;
    options.folds = 5;
    struct siren_workspace *ws = import_real(real("SIREN_ML100K", ""));
    assert_string_equal(report.format, "recbole");
    assert_int_equal(report.ratings, 100000);
    assert_int_equal(report.users, 943);
    assert_int_equal(report.items, 1682);
    assert_int_equal(report.labels[SIREN_LABEL_TEST], 943);
    assert_int_equal(report.labels[SIREN_LABEL_VALID], 943);
    for (int f = 0; f < 5; f++) {
        char query[80];
        snprintf(query, sizeof query, "SELECT count(*) FROM ratings WHERE fold = %d", f);
        assert_int_equal(number(ws, query), 20000);
    }
    struct siren_items items;
    ok(siren_items_load(&items, ws, &err));
    int toy;
    ok(siren_item_find(ws, "1", &toy, &err));
    assert_string_equal(items.item[toy].title, "Toy Story");
    assert_string_equal(items.item[toy].categories[1], "Children's");
    assert_int_equal(items.item[toy].year, 1995);
    siren_items_clear(&items);
    siren_workspace_close(ws);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_border),     TEST(test_small),        TEST(test_small_errors),
        TEST(test_movies),     TEST(test_movies_items), TEST(test_movielens_small),
        TEST(test_amazon_raw), TEST(test_ml100k),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
