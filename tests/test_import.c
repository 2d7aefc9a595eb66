/* What becomes of what was read: reduction, bad input, all or nothing. */
#include <signal.h>
#include <sys/wait.h>

#include "import_case.h"

#include "recs/import.h"
#include "siren/random.h"

/* ---- reduction ---- */

static void test_duplicates(void **state)
{
    put("d.csv", "user,item,rating,time\na,x,1,30\na,x,2,10\na,y,3,\na,y,4,\na,x,5,30\na,z,1,5\n"
                 "a,z,2,\n");
    struct siren_workspace *ws = import_path("d.csv");
    /* x: the later input of two at 30; y: the later input; z: a known time beats none. */
    expect_text(ws, ALL, "a y 4.0 - 0;a z 1.0 5000 1;a x 5.0 30000 2");
    assert_int_equal(report.duplicates, 4);
    assert_int_equal(report.ratings_read, 7);
    siren_workspace_close(ws);
}

static void test_k_core(void **state)
{
    /* d rates z alone: z falls, then d, then y has one user less. */
    put("k.csv", "user,item,rating\na,x,1\na,y,2\nb,x,3\nb,y,4\nc,w,5\nd,z,1\nd,y,1\n");
    options.k_core = 2;
    struct siren_workspace *ws = import_path("k.csv");
    expect_text(ws, ALL, "a x 1.0 - 0;a y 2.0 - 1;b x 3.0 - 0;b y 4.0 - 1");
    assert_int_equal(report.core_ratings, 3);
    assert_int_equal(report.core_users, 2);
    assert_int_equal(report.core_items, 2);
    siren_workspace_close(ws);
    options.k_core = 3;
    import_fails("k.csv", SIREN_EFORMAT, "the 3-core of its 7 ratings (4 users, 4 items) is empty");
}

static void test_ties_keep_the_input_order(void **state)
{
    put("t.csv", "user,item,rating,time\na,3,1,9\na,1,1,9\na,2,1,9\na,0,1,8\n");
    struct siren_workspace *ws = import_path("t.csv");
    expect_text(ws, ALL, "a 0 1.0 8000 0;a 3 1.0 9000 1;a 1 1.0 9000 2;a 2 1.0 9000 3");
    assert_int_equal(report.labels[SIREN_LABEL_TEST], 1);
    assert_true(report.median_history == 3);
    siren_workspace_close(ws);
}

static void test_splits(void **state)
{
    put("s.csv", "user,item,rating,time\na,x,1,1\na,y,1,2\nb,x,1,3\nb,y,1,4\nc,x,1,5\n");
    options.split = SIREN_SPLIT_TIME;
    options.train_until = 2000;
    options.valid_until = 4000;
    options.folds = 2;
    struct siren_workspace *ws = import_path("s.csv");
    assert_string_equal(report.split, "global-time");
    assert_int_equal(report.labels[SIREN_LABEL_TRAIN], 1);
    assert_int_equal(report.labels[SIREN_LABEL_VALID], 2);
    assert_int_equal(report.labels[SIREN_LABEL_TEST], 2);
    assert_int_equal(number(ws, "SELECT folds FROM splits WHERE kind = 'folds'"), 2);
    expect_text(ws, "SELECT name FROM splits WHERE kind = 'labels'", "global-time");
    siren_workspace_close(ws);
    options.split = SIREN_SPLIT_NONE;
    ws = import_path("s.csv");
    assert_int_equal(report.labels[SIREN_LABEL_TRAIN], 5);
    siren_workspace_close(ws);
    options.split = SIREN_SPLIT_DEFAULT;
    ws = import_path("s.csv");
    assert_int_equal(report.short_users, 3);
    assert_int_equal(report.labels[SIREN_LABEL_TEST], 2);
    siren_workspace_close(ws);
    options.folds = 300;
    import_fails("s.csv", SIREN_EINVAL, "300 folds");
}

static void test_time_units(void **state)
{
    static const char *const times[] = {"1300000000", "1300000000000", "1300000000000000",
                                        "1300000000000000000", "2011-03-13 07:06:40"};
    static const char *const units[] = {"s", "ms", "us", "ns", "date"};
    for (int i = 0; i < 5; i++) {
        char text[100];
        snprintf(text, sizeof text, "user,item,rating,time\na,x,1,%s\n", times[i]);
        put("u.csv", text);
        struct siren_workspace *ws = import_path("u.csv");
        assert_true(number(ws, "SELECT time FROM ratings") == 1300000000000);
        assert_string_equal(report.time_unit, units[i]);
        siren_workspace_close(ws);
    }
    put("u.csv", "user,item,rating,time\na,x,1,1300000000\n");
    options.time_unit = SIREN_TIME_MS;
    struct siren_workspace *ws = import_path("u.csv");
    assert_true(number(ws, "SELECT time FROM ratings") == 1300000000);
    siren_workspace_close(ws);
    options.time_unit = SIREN_TIME_S;
    text_fails("user,item,rating,time\na,x,1,1300000000000000\n", "out of range");
    options.time_unit = SIREN_TIME_US;
    ws = import_path("u.csv");
    assert_true(number(ws, "SELECT time FROM ratings") == 1300000);
    siren_workspace_close(ws);
    int64_t time;
    ok(siren_time_parse("1970-01-02", &time, &err));
    assert_true(time == 86400000);
    ok(siren_time_parse("86400", &time, &err));
    assert_true(time == 86400000);
    ok(siren_time_parse("1970-01-01 00:00:01.2346Z", &time, &err));
    assert_true(time == 1235);
    ok(siren_time_parse("2000-02-29", &time, &err));
    ok(siren_time_parse("2016-12-31T23:59:60Z", &time, &err));
    static const char *const none[] = {"1900-02-29", "2019-02-29", "2020-02-30", "2020-04-31",
                                       "2020-01-32", "2020-01-00", "2020-00-01"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        expect_error(siren_time_parse(none[i], &time, &err), SIREN_EINVAL, "YYYY-MM-DD");
    expect_error(siren_time_parse("soon", &time, &err), SIREN_EINVAL, "'soon'");
    expect_error(siren_time_parse("", &time, &err), SIREN_EINVAL, "YYYY-MM-DD");
}

/* One time of another unit must not choose for all; what is near 1970 in every unit does not. */
static void test_times_of_two_units(void **state)
{
    static const char *const mixed[][3] = {
        {"1400000000", "9999999999999",
         "bad.csv: times look like s (1400000000) and ms "
         "(9999999999999): say which with --time-unit s|ms|us|ns"},
        {"1400000000000", "1400000000", "look like s (1400000000) and ms (1400000000000)"},
        {"1400000000", "-9999999999999", "look like s (1400000000) and ms (-9999999999999)"},
        {"1400000000", "1400000000000000000", "look like s (1400000000) and ns"},
        {"1400000000000", "1400000000000000", "look like ms (1400000000000) and us"},
    };
    static const char *const one[][3] = {
        {"0", "1400000000000", "ms"}, {"-1", "1400000000000", "ms"},
        {"1", "1400000000000", "ms"}, {"0", "1000000", "s"},
        {"1", "1400000000", "s"},     {"63072000", "9999999999", "s"},
        {"", "1400000000000", "ms"},
    };
    char text[200];
    for (size_t i = 0; i < sizeof mixed / sizeof *mixed; i++) {
        snprintf(text, sizeof text, "user,item,rating,time\na,w,2,1\na,x,1,%s\na,y,3,%s\n",
                 mixed[i][0], mixed[i][1]);
        text_fails(text, mixed[i][2]);
    }
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        snprintf(text, sizeof text, "user,item,rating,time\na,x,1,%s\na,y,3,%s\n", one[i][0],
                 one[i][1]);
        put("u.csv", text);
        siren_workspace_close(import_path("u.csv"));
        assert_string_equal(report.time_unit, one[i][2]);
    }
    put("u.csv", "user,item,rating,time\na,x,1,1400000000\na,y,3,1400000000000\n");
    options.time_unit = SIREN_TIME_MS;
    struct siren_workspace *ws = import_path("u.csv");
    assert_true(number(ws, "SELECT max(time) FROM ratings") == 1400000000000);
    siren_workspace_close(ws);
}

static void test_scales(void **state)
{
    static const struct {
        const char *values[3];
        double min, max, step;
    } cases[] = {{{"1", "5", "3"}, 1, 5, 1},       {{"0", "5", "3"}, 0, 5, 1},
                 {{"0.5", "5", "3"}, 0.5, 5, 0.5}, {{"0", "0.5", "3"}, 0, 5, 0.5},
                 {{"1", "8", "3"}, 1, 10, 1},      {{"0", "10", "3"}, 0, 10, 1},
                 {{"9.5", "1", "3"}, 0.5, 10, 0.5}};
    char text[200];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "user,item,rating\na,x,%s\na,y,%s\na,z,%s\n",
                 cases[i].values[0], cases[i].values[1], cases[i].values[2]);
        put("scale.csv", text);
        struct siren_workspace *ws = import_path("scale.csv");
        assert_true(report.scale.min == cases[i].min && report.scale.max == cases[i].max &&
                    report.scale.step == cases[i].step);
        siren_workspace_close(ws);
    }
    text_fails("user,item,rating\na,x,1\na,y,3.7\n", "bad.csv:3: rating 3.7 is on none");
    options.scale = (struct siren_scale){-10, 10, 0.25};
    put("scale.csv", "user,item,rating\na,x,-9.75\n");
    siren_workspace_close(import_path("scale.csv"));
    text_fails("user,item,rating\na,x,-9.8\n", "expected -10 to 10 in steps of 0.25");
    options.scale.step = 0.3;
    import_fails("scale.csv", SIREN_EINVAL, "scale -10:10:0.3");
    options.scale.step = 0.125;
    import_fails("scale.csv", SIREN_EINVAL, "scale -10:10:0.125: 161 labels, expected 2 to 101");
}

/* ---- bad input ---- */

static void test_bad_lines(void **state)
{
    static const struct {
        const char *line, *words;
    } cases[] = {
        {"a,x", "bad.csv:3: 2 columns, expected at least 3"},
        {"a,x,3", "bad.csv:3: 3 columns, but the header has 4"},
        {"a,x,abc,1", "bad.csv:3: rating 'abc': expected a number"},
        {"a,x,nan,1", "bad.csv:3: rating 'nan'"},
        {"a,x,inf,1", "bad.csv:3: rating 'inf'"},
        {"a,x,0x3,1", "bad.csv:3: rating '0x3'"},
        {"a,x,,1", "bad.csv:3: rating ''"},
        {"a,x,3,yesterday", "bad.csv:3: time 'yesterday'"},
        {"a,x,3,2020-13-01", "bad.csv:3: time"},
        {"a,x,3,2020-01-01", "bad.csv:3: time: a date after numbers"},
        {",x,3,1", "bad.csv:3: no user"},
        {"a,,3,1", "bad.csv:3: no item"},
        {"\"a,x,3,1", "bad.csv:3: a quote opens a field here, expected a closing '\"' before"},
        {"\"a\n\nb\"c,x,3,1", "bad.csv:3-5: column 1: 'c' after the closing quote"},
        {"\"a\"b,x,3,1", "bad.csv:3: column 1: 'b' after the closing quote"},
        {"a\xff,x,3,1", "bad.csv:3: column 2: byte 0xff"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[300];
        snprintf(text, sizeof text, "user,item,rating,time\na,w,3,1\n%s\na,v,5,1\n", cases[i].line);
        text_fails(text, cases[i].words);
    }
    /* An unknown time is an empty one; without a header nobody promised any. */
    put("known.csv", "user,item,rating,time\na,w,3,1\na,x,4,\n");
    struct siren_workspace *ws = import_path("known.csv");
    expect_text(ws, ALL, "a x 4.0 - 0;a w 3.0 1000 1");
    siren_workspace_close(ws);
    put("bare.csv", "a,w,3,1\na,x,4\n");
    options.columns =
        (struct siren_import_columns){.user = "1", .item = "2", .rating = "3", .time = "4"};
    ws = import_path("bare.csv");
    expect_text(ws, ALL, "a x 4.0 - 0;a w 3.0 1000 1");
    siren_workspace_close(ws);
    setup(NULL);
    text_fails("a,b,c\n1,2,3\n", "which column is the user");
    text_fails("user,item,rating\n", "no ratings in it");
    options.skip_bad = 1;
    put("bad.csv", "user,item,rating,time\na,w,3,1\na,x,abc,1\na\xff,x,3,1\na,x\na,v,5,1\n");
    ws = import_path("bad.csv");
    assert_int_equal(report.bad_lines, 3);
    assert_int_equal(report.ratings, 2);
    assert_non_null(strstr(report.bad[1], "bad.csv:4: column 2: byte 0xff"));
    siren_workspace_close(ws);
    /* What is left out says nothing of the scale, nor of the times. */
    put("scale.csv", "user,item,rating,time\na,w,3,1\na,x,7,2020-01-01\na,v,1,1\na,u,5,9\n"
                     "b,u,99999,x\n");
    ws = import_path("scale.csv");
    assert_int_equal(report.bad_lines, 2);
    assert_true(report.scale.min == 1 && report.scale.max == 5);
    siren_workspace_close(ws);
    put("nul.csv", "user,item,rating\na,w,3\n");
    FILE *f = fopen(scratch_path("nul.csv"), "ab");
    fwrite("b\0c,w,3\n", 1, 8, f);
    fclose(f);
    ws = import_path("nul.csv");
    assert_int_equal(report.bad_lines, 1);
    siren_workspace_close(ws);
}

/* A quote within a field is a character like others; at its beginning it opens lines. */
static void test_quotes(void **state)
{
    put("q.csv", "user,item,rating,when\n7\" disc,a\"b\",3,\nc,\"d\n\n\"\"e\"\",f\r\n\",4,\n"
                 "\"g\",\"\",5,\nh\",\"i\",1,\n");
    options.skip_bad = 1;
    struct siren_workspace *ws = import_path("q.csv");
    expect_text(ws, ALL, "7\" disc a\"b\" 3.0 - 0;c d\n\n\"e\",f\n 4.0 - 0;h\" i 1.0 - 0");
    assert_int_equal(report.bad_lines, 1);
    assert_non_null(strstr(report.bad[0], "q.csv:7: no item"));
    siren_workspace_close(ws);
    /* A line that is no text makes the record bad that it is in. */
    put("q.csv", "user,item,rating\na,x,3\n\"b\n\xff\n\",x,4\n\"\xfe\n\",x,4\nc,y,5\n");
    ws = import_path("q.csv");
    expect_text(ws, ALL, "a x 3.0 - 0;c y 5.0 - 0");
    assert_int_equal(report.bad_lines, 5);
    assert_int_equal(report.n_bad, 2);
    assert_non_null(strstr(report.bad[0], "q.csv:4: column 1: byte 0xff"));
    assert_non_null(strstr(report.bad[1], "q.csv:6: column 2: byte 0xfe"));
    siren_workspace_close(ws);
    text_fails("user,item,rating\na,x,3\n\"b,x,4\nc,y,5\n",
               "bad.csv:3: a quote opens a field here");
}

/* 17 MiB of short lines within a quote, which take no longer than others. */
static void test_endless_quote(void **state)
{
    struct buf b = {0};
    buf_puts(&b, "user,item,rating\na,x,3\nb,\"y,4\n");
    while (b.size < 17 << 20) buf_puts(&b, "\"\",z,5\n");
    put("bad.csv", buf_text(&b));
    buf_free(&b);
    import_fails("bad.csv", SIREN_EFORMAT,
                 "bad.csv:3: a quote opens a field here, expected a "
                 "closing '\"' within 16 MiB");
}

/* Where a record ends, the splitter sees no open quote. */
static void test_records_end_where_fields_do(void **state)
{
    static const char letters[] = "a,:\"\"\"";
    struct fields f = {0};
    for (uint64_t i = 0; i < 20000; i++) {
        char text[100];
        size_t size = 0;
        int open = 0;
        for (int line = 0; line < 4 && (line == 0 || open); line++) {
            size_t from = size += line > 0;
            if (line) text[size - 1] = '\n';
            for (int k = 0; k < 12; k++)
                text[size++] = letters[siren_random_below(3, i, (uint64_t)(line * 12 + k), 6)];
            text[size] = 0;
            open = fields_open_quote(text + from, size - from, i % 2 ? "," : "::", open);
        }
        int code = fields_split(&f, text, size, i % 2 ? "," : "::", 1, &err);
        int unclosed = code && strstr(err.message, "expected a closing");
        assert_int_equal(unclosed, open);
    }
    fields_free(&f);
}

static void test_bad_json(void **state)
{
    static const char *const lines[] = {
        "{\"user\": \"a\", \"item\": \"x\", \"rating\": 3",
        "{\"user\": \"a\" \"item\": \"x\", \"rating\": 3}",
        "{\"user\": \"a\", \"item\": \"x\", \"rating\": }",
        "{\"user\": \"a\", \"item\": \"x\", \"rating\": 3,}",
        "{\"user\": \"a\", \"item\": \"\\q\", \"rating\": 3}",
        "{\"user\": \"a\", \"item\": \"\\u12\", \"rating\": 3}",
        "{\"user\": \"a\", \"item\": \"\\u0000\", \"rating\": 3}",
        "{\"user\": \"a\", \"item\": [\"x\"], \"rating\": 3}",
        "{\"user\": \"a\", \"item\": \"x\", \"rating\": NaN}",
        "{\"user\": \"a\", \"item\": \"x\", \"rating\": nul}",
        "{\"user\": \"a\", \"item\": \"x\"}",
        "{\"user\": \"a\", \"rating\": 3}",
        "{\"x\": [[}], \"user\": \"a\", \"item\": \"x\", \"rating\": 3}",
        "[1]",
        "{",
        "{}",
        "{\"user\": \"a\", \"item\": \"x\", \"rating\": 3} x",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[300];
        snprintf(text, sizeof text, "{\"user\": 1, \"item\": 2, \"rating\": 3}\n%s\n", lines[i]);
        put("bad.jsonl", text);
        import_fails("bad.jsonl", SIREN_EFORMAT, "bad.jsonl:2: ");
    }
}

static void test_no_such_source(void **state)
{
    import_fails("nothing", SIREN_ENOTFOUND, "No such file");
    put("hollow/readme", "x");
    import_fails("hollow", SIREN_EFORMAT, "looked for history.jsonl, *.inter, u.data");
    options.format = "excel";
    put("x.csv", "user,item,rating\na,b,3\n");
    import_fails("x.csv", SIREN_EINVAL, "'excel'");
    options.format = NULL;
    options.items = "/nonexistent/file";
    import_fails("x.csv", SIREN_ENOTFOUND, "/nonexistent/file");
    options.items = "/dev/null"; /* what was read of a pipe once is gone */
    import_fails("x.csv", SIREN_EINVAL, "/dev/null: is a pipe or a device, expected a file");
    assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
    import_fails("fifo", SIREN_EINVAL, "fifo: is a pipe or a device, expected a file");
}

static void test_empty_source(void **state)
{
    text_fails("", "bad.csv: has no columns or fields, expected one for the user");
    text_fails("\n\n", "bad.csv: has no columns or fields, expected one for the user");
    text_fails("{}\n", "bad.csv: has no columns or fields, expected one for the user");
    put("x.csv", "user,item,rating\na,b,3\n");
    put("none.csv", "");
    char items[300];
    strcpy(items, scratch_path("none.csv"));
    options.items = items;
    import_fails("x.csv", SIREN_EFORMAT,
                 "none.csv: has no columns or fields, expected one for the item");
}

/* ---- all or nothing ---- */

/* The same data imported otherwise: the message says in what. */
static void test_otherwise(void **state)
{
    put("x.csv", "user,item,rating\na,b,3\na,c,4\n");
    struct siren_workspace *ws = import_path("x.csv");
    char path[300], items[300];
    strcpy(path, scratch_path("x.csv"));
    options.folds = 2;
    expect_error(siren_import(ws, path, &options, &report, NULL, &err), SIREN_EEXISTS,
                 "holds the same data, imported with other settings: --folds is 2, it was 0; --re");
    options.noun = "book";
    expect_error(siren_import(ws, path, &options, &report, NULL, &err), SIREN_EEXISTS,
                 ": --folds is 2, it was 0; --noun is book, it was item; ");
    options.folds = 0;
    options.noun = NULL;
    options.split = SIREN_SPLIT_TIME;
    options.train_until = 1546300800000;
    options.valid_until = 1577836800500;
    expect_error(siren_import(ws, path, &options, &report, NULL, &err), SIREN_EEXISTS,
                 "--split is time, it was (the format's); --train-until is "
                 "2019-01-01T00:00:00Z,1577836800500, it was (none); --replace");
    options = (struct siren_import_options){.k_core = options.k_core, .protocol = -1};
    /* Other items or other characters are other data, which a setting made. */
    put("items.csv", "item,title\nb,B\nc,C\n");
    strcpy(items, scratch_path("items.csv"));
    options.items = items;
    expect_error(siren_import(ws, path, &options, &report, NULL, &err), SIREN_EEXISTS,
                 "csv: x.csv), or was imported with other settings: --items is items.csv, it was "
                 "(none); --replace");
    options.items = NULL;
    options.folds = 2;
    /* As an older version left it. */
    sql(ws, "DELETE FROM meta WHERE key IN ('import_data', 'import_settings')");
    expect_error(siren_import(ws, path, &options, &report, NULL, &err), SIREN_EEXISTS,
                 "csv: x.csv), or was imported with other settings; ");
    siren_workspace_close(ws);
}

static void test_twice(void **state)
{
    put("x.csv", "user,item,rating\na,b,3\na,c,4\n");
    struct siren_workspace *ws = import_path("x.csv");
    char path[300];
    strcpy(path, scratch_path("x.csv"));
    struct siren_run run = {.kind = "eval"};
    ok(siren_run_start(ws, &run, &err));
    ok(siren_import(ws, path, &options, &report, NULL, &err));
    assert_int_equal(report.unchanged, 1);
    assert_int_equal(number(ws, "SELECT count(*) FROM runs"), 1);
    setup(NULL);
    put("x.csv", "user,item,rating\na,b,3\na,c,5\n");
    expect_error(siren_import(ws, path, &options, &report, NULL, &err), SIREN_EEXISTS,
                 "csv: x.csv");
    expect_text(ws, ALL, "a b 3.0 - 0;a c 4.0 - 1");
    ok(siren_meta_set(ws, "app.kept", "1", &err));
    options.replace = 1;
    ok(siren_import(ws, path, &options, &report, NULL, &err));
    expect_text(ws, ALL, "a b 3.0 - 0;a c 5.0 - 1");
    assert_int_equal(number(ws, "SELECT count(*) FROM runs"), 0);
    expect_text(ws, "SELECT value FROM meta WHERE key = 'app.kept'", "1");
    assert_int_equal(number(ws, "SELECT count(*) FROM sqlite_schema WHERE name = 'ratings_item'"),
                     1);
    char *json;
    ok(siren_import_report_json(&report, &json, &err));
    assert_non_null(strstr(json, "\"ratings\":2"));
    free(json);
    siren_workspace_close(ws);
}

/* Rows of another program go or stay as it has said; else no row is about what is not there. */
static void test_tables_of_others(void **state)
{
    static const char orphan[] =
        "INSERT INTO ratings(user, item, rating, sequence) VALUES (9, 9, 3, 0)";
    char path[300];
    put("one.csv", "user,item,rating\na,b,3\nc,b,4\n");
    struct siren_workspace *ws = import_path("one.csv");
    sqlite3 *db = siren_workspace_db(ws);
    assert_int_equal(sqlite3_exec(db, orphan, NULL, NULL, NULL), SQLITE_CONSTRAINT);
    strcpy(path, scratch_path("one.csv"));
    options.replace = 1;
    ok(siren_import(ws, path, &options, &report, NULL, &err));
    assert_int_equal(sqlite3_exec(db, orphan, NULL, NULL, NULL), SQLITE_CONSTRAINT);
    sql(ws, "CREATE TABLE likes(user INTEGER REFERENCES users(id) ON DELETE CASCADE);"
            "INSERT INTO likes VALUES (1)");
    ok(siren_import(ws, path, &options, &report, NULL, &err));
    assert_int_equal(number(ws, "SELECT count(*) FROM likes"), 0);
    sql(ws, "CREATE TABLE notes(who INTEGER REFERENCES users(id)); INSERT INTO notes VALUES (1)");
    expect_error(siren_import(ws, path, &options, &report, NULL, &err), SIREN_EINVAL,
                 "FOREIGN KEY");
    expect_text(ws, ALL, "a b 3.0 - 0;c b 4.0 - 0");
    siren_workspace_close(ws);
}

static int stop_at_half(void *context, const char *what, uint64_t done, uint64_t total)
{
    if (strcmp(what, "ratings written") || done < total / 2) return 0;
    if (context) kill(getpid(), SIGKILL);
    return 1;
}

static void test_killed_half_way(void **state)
{
    char path[300], *text = many_ratings();
    put("old.csv", "user,item,rating\na,b,3\n");
    put("many.csv", text);
    free(text);
    siren_workspace_close(import_path("old.csv"));
    strcpy(path, scratch_path("many.csv"));
    options.replace = 1;
    pid_t child = fork();
    if (child == 0) {
        struct siren_workspace *ws;
        struct siren_progress progress = {stop_at_half, &progress};
        if (siren_workspace_open(&ws, scratch_path("w.siren"), SIREN_WORKSPACE_WRITE, &err))
            _exit(1);
        siren_import(ws, path, &options, &report, &progress, &err);
        _exit(2);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    struct siren_workspace *ws = create_workspace("w.siren");
    expect_text(ws, ALL, "a b 3.0 - 0");
    expect_text(ws, "PRAGMA integrity_check", "ok");
    struct siren_progress progress = {stop_at_half, NULL};
    expect_error(siren_import(ws, path, &options, &report, &progress, &err), SIREN_ECANCEL,
                 "nothing was changed");
    expect_text(ws, ALL, "a b 3.0 - 0");
    ok(siren_import(ws, path, &options, &report, NULL, &err));
    assert_int_equal(number(ws, "SELECT count(*) FROM ratings"), 200000);
    expect_text(ws, "PRAGMA integrity_check", "ok");
    siren_workspace_close(ws);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_duplicates),
        TEST(test_k_core),
        TEST(test_ties_keep_the_input_order),
        TEST(test_splits),
        TEST(test_time_units),
        TEST(test_times_of_two_units),
        TEST(test_scales),
        TEST(test_bad_lines),
        TEST(test_quotes),
        TEST(test_endless_quote),
        TEST(test_records_end_where_fields_do),
        TEST(test_bad_json),
        TEST(test_no_such_source),
        TEST(test_empty_source),
        TEST(test_otherwise),
        TEST(test_twice),
        TEST(test_tables_of_others),
        TEST(test_killed_half_way),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
