/* Formats of sources, and what is asked of their columns. */
#include <zlib.h>

#include "import_case.h"

static void test_ml100k(void **state)
{
    put("ml/u.data", "196\t242\t3\t881250949\n22\t377\t1\t878887116\n196\t377\t5\t881250000\n");
    put("ml/u.item",
        "242|Kolya (1996)|24-Jan-1997||http://x|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        "377|Mis\xe9rables, Les "
        "(1995)|01-Jan-1995||http://x|0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0\n");
    struct siren_workspace *ws = import_path("ml");
    expect_text(ws, ALL,
                "196 377 5.0 881250000000 0;196 242 3.0 881250949000 1;22 377 1.0 "
                "878887116000 0");
    expect_text(ws, "SELECT title FROM items WHERE external = '377'", "Misérables, Les (1995)");
    expect_text(ws, "SELECT categories FROM items WHERE external = '377'",
                "[\"Drama\",\"Musical\"]");
    assert_int_equal(number(ws, "SELECT year FROM items WHERE external = '242'"), 1997);
    expect_text(ws, "SELECT value FROM meta WHERE key = 'noun'", "movie");
    assert_string_equal(report.format, "ml-100k");
    assert_string_equal(report.time_unit, "s");
    siren_workspace_close(ws);
    put("ml/u.item", "242|Kolya\n");
    import_fails("ml", SIREN_EFORMAT, "u.item:1: 2 columns, expected 24");
}

static void test_ml1m(void **state)
{
    put("ml1m/ratings.dat", "1::1193::5::978300760\r\n1::661::3::978302109\r\n");
    put("ml1m/movies.dat", "661::James, \"Giant\" Peach (1996)::Animation|Children's\n"
                           "1193::One Flew (1975)::Drama\n99::Unseen (2000)::Comedy\n");
    struct siren_workspace *ws = import_path("ml1m");
    assert_string_equal(report.format, "ml-1m");
    expect_text(ws, "SELECT title FROM items WHERE external = '661'",
                "James, \"Giant\" Peach (1996)");
    expect_text(ws, "SELECT categories FROM items WHERE external = '661'",
                "[\"Animation\",\"Children's\"]");
    assert_int_equal(number(ws, "SELECT year FROM items WHERE external = '661'"), 1996);
    assert_int_equal(report.items_unrated, 1);
    assert_int_equal(number(ws, "SELECT count(*) FROM items"), 2);
    siren_workspace_close(ws);
    options.all_items = 1;
    ws = import_path("ml1m");
    assert_int_equal(number(ws, "SELECT count(*) FROM items"), 3);
    assert_int_equal(report.items, 3);
    struct siren_items items;
    ok(siren_items_load(&items, ws, &err));
    assert_string_equal(items.item[2].external, "99");
    siren_items_clear(&items);
    siren_workspace_close(ws);
}

static void test_ml_latest(void **state)
{
    put("latest/ratings.csv", "\xef\xbb\xbfuserId,movieId,rating,timestamp\n1,31,2.5,1260759144\n"
                              "1,1029,5,1260759179\n");
    put("latest/movies.csv",
        "movieId,title,genres\n31,\"Dangerous \"\"Minds\"\", The\n(1995)\",Drama\n"
        "1029,Dumbo (1941),(no genres listed)\n");
    struct siren_workspace *ws = import_path("latest");
    assert_string_equal(report.format, "ml-latest");
    assert_true(report.scale.step == 0.5);
    expect_text(ws, "SELECT title FROM items WHERE id = 0", "Dangerous \"Minds\", The\n(1995)");
    expect_text(ws, "SELECT categories FROM items WHERE id = 1", "[]");
    siren_workspace_close(ws);
    put("latest/ratings.csv", "userId,movieId,rating,timestamp\n1,31,2.7,1260759144\n");
    import_fails("latest", SIREN_EFORMAT, "ratings.csv:2: rating 2.7: expected 0.5 to 5");
}

static void test_recbole(void **state)
{
    put("rb/x.inter", "item_id:token\tuser_id:token\trating:float\ttimestamp:float\n"
                      "7\tu1\t4.0\t1000000000\n8\tu1\t2\t1000000001.5\n");
    put("rb/x.item", "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
                     "7\tSe7en \"dvd\tn/a\tCrime Sci-Fi\n8\tToy Story\t1995\tAnimation\n");
    struct siren_workspace *ws = import_path("rb");
    assert_string_equal(report.format, "recbole");
    expect_text(ws, ALL, "u1 7 4.0 1000000000000 0;u1 8 2.0 1000000001500 1");
    expect_text(ws, "SELECT title FROM items WHERE id = 0", "Se7en \"dvd");
    expect_text(ws, "SELECT categories FROM items WHERE id = 0", "[\"Crime\",\"Sci-Fi\"]");
    assert_int_equal(number(ws, "SELECT year FROM items WHERE id = 1"), 1995);
    siren_workspace_close(ws);
}

/* By the name of the set, and not of a folder above it. */
static void test_recbole_noun(void **state)
{
    static const char inter[] = "user_id:token\titem_id:token\trating:float\nu\t1\t3\n";
    static const char *const paths[] = {"ml-work/books.inter", "ml-100k/ml-100k.inter",
                                        "work/ml-1m.inter", "ml-100k", "ml-100k/"};
    for (size_t i = 0; i < 5; i++) {
        if (i < 3) put(paths[i], inter);
        struct siren_workspace *ws = import_path(paths[i]);
        expect_text(ws, "SELECT value FROM meta WHERE key = 'noun'", i ? "movie" : "item");
        siren_workspace_close(ws);
    }
}

/* The items of another data set lie in the same folder. */
static void test_recbole_items(void **state)
{
    static const char inter[] = "user_id:token\titem_id:token\trating:float\nu\t1\t3\n";
    put("rb2/a.item", "item_id:token\tmovie_title:token_seq\n1\tOf a\n");
    put("rb2/b.item", "item_id:token\tmovie_title:token_seq\n1\tOf b\n");
    put("rb2/b.inter", inter);
    put("rb2/b.part1.inter", inter);
    put("rb2/c.inter", inter);
    put("rb2/my.internal.item", "item_id:token\tmovie_title:token_seq\n1\tOf my\n");
    put("rb2/my.internal.inter", inter);
    static const char *const names[] = {"rb2/b.inter", "rb2/b.part1.inter", "rb2/c.inter",
                                        "rb2/my.internal.inter"};
    static const char *const titles[] = {"Of b", "Of b", "1", "Of my"};
    for (int i = 0; i < 4; i++) {
        struct siren_workspace *ws = import_path(names[i]);
        expect_text(ws, "SELECT title FROM items", titles[i]);
        siren_workspace_close(ws);
    }
}

static void test_amazon(void **state)
{
    put("am/r.jsonl",
        "{\"rating\": 5.0, \"title\": \"A \\\"review\\\" {[\", \"images\": [{\"x\": [1, \"]\"]}], "
        "\"asin\": \"B1\", \"parent_asin\": \"P1\", \"user_id\": \"U\", \"timestamp\": "
        "1568738284832}\n"
        "{\"rating\": 2, \"parent_asin\": \"P2\", \"user_id\": \"U\", \"timestamp\": "
        "1568738284831, \"verified_purchase\": true}\n");
    put("am/meta.jsonl",
        "{\"main_category\": \"Beauty\", \"title\": \"Caf\\u00e9 \\ud83d\\ude00 \\ud800\", "
        "\"parent_asin\": \"P1\", \"categories\": [], \"features\": [\"soft\", \"\", \"light\"], "
        "\"description\": [\"One.\", \"Two.\"], \"price\": null, \"details\": {\"a\": {}}}\n"
        "{\"title\": null, \"parent_asin\": \"P2\", \"categories\": [\"A\", \"B\"]}\n"
        "{\"title\": \"again\", \"parent_asin\": \"P2\"}\n"
        "{\"title\": \"nobody's\", \"parent_asin\": \"P3\"}\n");
    char items[300];
    strcpy(items, scratch_path("am/meta.jsonl"));
    options.items = items;
    struct siren_workspace *ws = import_path("am/r.jsonl");
    assert_string_equal(report.format, "amazon");
    expect_text(ws, ALL, "U P2 2.0 1568738284831 0;U P1 5.0 1568738284832 1");
    expect_text(ws, "SELECT title FROM items WHERE external = 'P1'", "Café 😀 \xef\xbf\xbd");
    expect_text(ws, "SELECT categories FROM items WHERE external = 'P1'", "[\"Beauty\"]");
    expect_text(ws, "SELECT features FROM items WHERE external = 'P1'", "[\"soft\",\"light\"]");
    expect_text(ws, "SELECT description FROM items WHERE external = 'P1'", "One. Two.");
    expect_text(ws, "SELECT title FROM items WHERE external = 'P2'", "P2");
    assert_int_equal(report.items_read, 4);
    assert_int_equal(report.items_repeated, 1);
    assert_int_equal(report.items_unrated, 1);
    assert_int_equal(report.items_untitled, 1);
    siren_workspace_close(ws);
    options.items = "";
    ws = import_path("am/r.jsonl");
    assert_int_equal(report.items_untitled, 2);
    siren_workspace_close(ws);
    options.items = NULL; /* by its name beside the reviews */
    put("am/meta_r.jsonl", "{\"parent_asin\": \"P1\", \"title\": \"Beside\"}\n");
    ws = import_path("am/r.jsonl");
    expect_text(ws, "SELECT title FROM items WHERE external = 'P1'", "Beside");
    siren_workspace_close(ws);
}

static void test_columns_by_flags(void **state)
{
    put("shop.txt", "sku;stars;who;when\nx;7;\"anna; b\";2021-05-01T10:00:00Z\ny;10;carl;\n");
    options.columns = (struct siren_import_columns){
        .user = "who", .item = "sku", .rating = "stars", .time = "when"};
    options.separator = ";";
    options.separator = NULL;
    import_fails("shop.txt", SIREN_EFORMAT,
                 "there are: sku;stars;who;when (one column: does --separator ';' part it?)");
    options.separator = ";";
    struct siren_workspace *ws = import_path("shop.txt");
    expect_text(ws, ALL, "anna; b x 7.0 1619863200000 0;carl y 10.0 - 0");
    assert_true(report.scale.max == 10);
    assert_string_equal(report.time_unit, "date");
    assert_string_equal(report.detected, "csv format in shop.txt; user: who, item: sku, rating: "
                                         "stars, time: when");
    siren_workspace_close(ws);
    options.columns.user = "nobody";
    import_fails("shop.txt", SIREN_EFORMAT,
                 "no column 'nobody' for the user (--user-column); there are: sku");
    options.columns = (struct siren_import_columns){0};
    import_fails("shop.txt", SIREN_EFORMAT, "--user-column; there are: sku, stars, who, when");
    put("bare.tsv", "3\tcarl\tx\n5\tcarl\ty\n");
    setup(NULL);
    options.columns = (struct siren_import_columns){.user = "2", .item = "3", .rating = "1"};
    ws = import_path("bare.tsv");
    expect_text(ws, ALL, "carl x 3.0 - 0;carl y 5.0 - 1");
    assert_int_equal(report.no_time, 2);
    assert_non_null(
        strstr(report.detected, "; user: column 2, item: column 3, rating: column 1, time: none"));
    siren_workspace_close(ws);
    put("j.jsonl", "{\"who\": 12, \"what\": \"x\", \"stars\": \"4\", \"ts\": null}\n"
                   "{\"stars\": 3, \"who\": 12, \"what\": \"y\", \"ts\": 5}\n");
    options.columns = (struct siren_import_columns){
        .user = "who", .item = "what", .rating = "stars", .time = "ts"};
    ws = import_path("j.jsonl");
    assert_string_equal(report.format, "jsonl");
    expect_text(ws, ALL, "12 x 4.0 - 0;12 y 3.0 5000 1");
    siren_workspace_close(ws);
}

/* A name that is nowhere is a mistake, whatever it names. */
static void test_columns_that_are_not_there(void **state)
{
    static const char *const whats[] = {"user", "item", "rating", "time"};
    static const char *const parts[] = {"title", "categories", "features", "description", "year"};
    const char **c = (const char **)&options.columns;
    char words[100];
    put("t/ratings.csv", "user,item,rating\na,x,3\n");
    put("t/items.csv", "item_id,title\nx,Ex\n");
    put("t.jsonl", "{\"user\": \"a\", \"item\": \"x\", \"rating\": 3}\n");
    put("items.jsonl", "{\"item\": \"x\"}\n{\"item\": \"y\", \"title\": \"Y\"}\n");
    for (int i = 0; i < 9; i++) {
        c[i] = "typo";
        const char *what = i < 4 ? whats[i] : parts[i - 4];
        snprintf(words, sizeof words, "%s.csv:1: no column 'typo' for the %s (--%s-column)",
                 i < 4 ? "ratings" : "items", what, what);
        import_fails("t", SIREN_EFORMAT, words);
        snprintf(words, sizeof words, "%s.jsonl: no line has 'typo' for the %s (--%s-column)",
                 i < 4 ? "t" : "items", what, what);
        import_fails("t.jsonl", SIREN_EFORMAT, i < 3 ? "t.jsonl:1: no field 'typo'" : words);
        c[i] = NULL;
    }
    options.columns = (struct siren_import_columns){"1", "2", "3", .time = "4"};
    put("bare.csv", "a,x,3\n");
    import_fails("bare.csv", SIREN_EFORMAT, "bare.csv: no line has '4' for the time");
    put("bare.csv", "a,x,3\nb,x,3,1000\n"); /* no header, no limit */
    siren_workspace_close(import_path("bare.csv"));
    assert_int_equal(report.no_time, 1);
}

static void test_columns_twice(void **state)
{
    put("t/ratings.csv", "user,item,rating,item\na,x,3,y\n");
    import_fails("t", SIREN_EFORMAT,
                 "ratings.csv:1: columns 2 and 4 are both 'item', expected one for the item");
    put("t/ratings.csv", "\n\nuser,thing,rating\na,x,3\n");
    import_fails("t", SIREN_EFORMAT, "ratings.csv:3: which column is the item?");
    put("t/ratings.csv", "user,item,rating,item\na,x,3,y\n");
    options.columns.item = "rating";
    siren_workspace_close(import_path("t"));
}

/* A title with a comma and without quotes would be cut there, and the rest taken for genres. */
static void test_more_columns_than_the_header(void **state)
{
    put("m/ratings.csv", "user,item,rating\na,x,3,,\nb,x,4,\n");
    put("m/items.csv", "item,title,genres\nx,Ex, The,A|B\n");
    import_fails("m", SIREN_EFORMAT, "items.csv:2: 4 columns, but the header has 3");
    put("m/items.csv", "item,title,genres\nx,Ex\ny,Why,A,,\n");
    siren_workspace_close(import_path("m"));
    put("m/ratings.csv", "user,item,rating\na,x,3,5\n");
    import_fails("m", SIREN_EFORMAT, "ratings.csv:2: 4 columns, but the header has 3");
}

/* What separates the ratings' columns separates the items', unless it is not in their header. */
static void test_separator_of_items(void **state)
{
    put("p/ratings.csv", "user;item;rating\na;x;3\n");
    put("p/items.csv", "item;title;genres\nx;Ex, the;A|B\n");
    options.separator = ";";
    struct siren_workspace *ws = import_path("p");
    expect_text(ws, "SELECT title || categories FROM items", "Ex, the[\"A\",\"B\"]");
    siren_workspace_close(ws);
    put("p/items.csv", "item,title,genres\nx,\"Ex; the\",A|B\n");
    ws = import_path("p");
    expect_text(ws, "SELECT title || categories FROM items", "Ex; the[\"A\",\"B\"]");
    siren_workspace_close(ws);
}

/* Nothing is learned from an id that stands for a title: the report says what columns there are. */
static void test_items_without_titles(void **state)
{
    put("u/ratings.csv", "user,item,rating\na,x,3\n");
    put("u/items.csv", "item,label,genres\nx,Ex,A|B\n");
    siren_workspace_close(import_path("u"));
    assert_int_equal(report.items_untitled, 1);
    assert_int_equal(report.n_notes, 1);
    assert_string_equal(report.notes[0], "which column of the items is the title? Name it with "
                                         "--title-column; there are: item, label, genres");
    options.columns.title = "label";
    siren_workspace_close(import_path("u"));
    assert_int_equal(report.items_untitled, 0);
    assert_int_equal(report.n_notes, 0);
}

/* Blanks round the separators belong to no category, and blanks alone are no title. */
static void test_blanks_of_items(void **state)
{
    put("b/ratings.csv", "user,item,rating\na,x,3\n");
    put("b/items.csv", "item,title,genres,features\nx,\" \t\",\" A, B C , ,\tD\",\"E , F\"\n");
    options.list_separator = ",";
    struct siren_workspace *ws = import_path("b");
    expect_text(ws, "SELECT categories || features FROM items",
                "[\"A\",\"B C\",\"D\"][\"E\",\"F\"]");
    expect_text(ws, "SELECT title FROM items", "x"); /* the id stands for it */
    assert_int_equal(report.items_untitled, 1);
    siren_workspace_close(ws);
    put("b/items.csv", "item,genres\nx, (no genres listed) \n");
    options.list_separator = NULL;
    ws = import_path("b");
    expect_text(ws, "SELECT categories FROM items", "[]");
    siren_workspace_close(ws);
}

/* The items have their own name for what the ratings call item_id: "id", or one that is given. */
static void test_item_ids_elsewhere(void **state)
{
    put("e/ratings.csv", "user_id,item_id,rating\na,x,3\n");
    put("e/items.csv", "id,title,genres\nx,Ex,Drama\n");
    for (int given = 0; given < 2; given++) {
        options.columns.item = given ? "id" : NULL;
        struct siren_workspace *ws = import_path("e/ratings.csv");
        expect_text(ws, "SELECT external || ': ' || title FROM items", "x: Ex");
        siren_workspace_close(ws);
    }
    put("e/items.csv", "id,sku,title\n7,x,Ex\n");
    options.columns.item = "sku";
    struct siren_workspace *ws = import_path("e/ratings.csv");
    expect_text(ws, "SELECT external || ': ' || title FROM items", "x: Ex");
    siren_workspace_close(ws);
    options.columns.item = "nope";
    import_fails("e/ratings.csv", SIREN_EFORMAT, "no column 'nope' for the item (--item-column)");
    options.items = "";
    options.columns.item = "sku";
    import_fails("e/ratings.csv", SIREN_EFORMAT, "no column 'sku' for the item (--item-column)");
}

/* Fields of the items are those of any object's top, not of the first line's text. */
static void test_item_fields(void **state)
{
    put("f/ratings.jsonl", "{\"id\": \"x\", \"user\": \"a\", \"rating\": 3}\n");
    put("f/items.jsonl",
        "{\"item_id\": \"y\", \"more\": {\"title\": \"no\"}, \"kind\": \"title\", \"own_id\": 1}\n"
        "{\"item_id\": \"x\", \"movie_title\": \"Ex\", \"overview\": \"What\"}\n");
    options.columns.item = "id";
    struct siren_workspace *ws = import_path("f");
    expect_text(ws, "SELECT title || ': ' || description FROM items", "Ex: What");
    siren_workspace_close(ws);
}

static void no_effect(const char *name, const char *words)
{
    import_fails(name, SIREN_EINVAL, words);
    setup(NULL);
}

static void test_options_without_effect(void **state)
{
    put("o/x.csv", "user,item,rating\na,x,3\n");
    put("o/x.jsonl", "{\"user\": \"a\", \"item\": \"x\", \"rating\": 3}\n");
    put("o/ml/ratings.dat", "1::2::5::978300760\n");
    put("o/ml/movies.dat", "2::Toy Story (1995)::Animation\n");
    options.columns.title = "title";
    no_effect("o/x.csv", "--title-column changes nothing: format csv has no items file here");
    options.list_separator = "/";
    no_effect("o/x.csv", "--list-separator changes nothing: format csv has no items file here");
    options.all_items = 1;
    no_effect("o/x.csv", "--all-items changes nothing: format csv has no items file here");
    options.time_unit = SIREN_TIME_MS;
    no_effect("o/x.csv", "--time-unit changes nothing: there are no times");
    options.separator = ";";
    no_effect("o/x.jsonl", "--separator changes nothing: format jsonl has its own");
    options.separator = ";";
    no_effect("o/ml", "--separator changes nothing: format ml-1m has its own");
    options.columns.year = "3";
    no_effect("o/ml", "--year-column changes nothing: format ml-1m has its own columns of items");
    options.columns.time = "3";
    no_effect("o/ml",
              "--time-column changes nothing: format ml-1m has its own columns; --format csv");
    options.list_separator = "/";
    options.all_items = 1;
    siren_workspace_close(import_path("o/ml"));
}

/* Empty lines are none, before the header as well. */
static void test_empty_lines(void **state)
{
    put("e/ratings.csv", "\r\n\nuser,item,rating\r\n\r\na,x,3\n\na,y,4");
    put("e/items.csv", "\n\nitem_id,title\n\nx,Ex\n\n");
    struct siren_workspace *ws = import_path("e");
    expect_text(ws, ALL, "a x 3.0 - 0;a y 4.0 - 1");
    expect_text(ws, "SELECT title FROM items WHERE id = 0", "Ex");
    assert_int_equal(report.items_read, 1);
    siren_workspace_close(ws);
}

static void gzip_file(const char *from, const char *to)
{
    char text[1000] = {0};
    FILE *f = fopen(from, "rb");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    gzFile z = gzopen(to, "wb");
    gzwrite(z, text, (unsigned)n);
    gzclose(z);
}

static void test_compressed_and_latin1(void **state)
{
    put("c.csv", "user,item,rating\nJos\xe9,x,3\nb,x,4\n");
    char plain[300], packed[300];
    strcpy(plain, scratch_path("c.csv"));
    strcpy(packed, scratch_path("c2.csv.gz"));
    gzip_file(plain, packed);
    import_fails("c2.csv.gz", SIREN_EFORMAT,
                 "c2.csv.gz:2: column 4: byte 0xe9 is not valid UTF-8 (--encoding latin-1 is for");
    options.encoding = SIREN_TEXT_LATIN1;
    struct siren_workspace *ws = import_path("c2.csv.gz");
    expect_text(ws, "SELECT external FROM users WHERE id = 0", "José");
    siren_workspace_close(ws);
}

/* Whatever is not UTF-8 is refused with its place, or is not kept as it is. */
static void test_not_utf8(void **state)
{
    put("8.jsonl", "{\"user\": \"a\", \"item\": \"x\", \"rating\": 3}\n"
                   "{\"user\": \"a\xff\", \"item\": \"x\", \"rating\": 3}\n");
    import_fails("8.jsonl", SIREN_EFORMAT, "8.jsonl:2: column 12: byte 0xff");
    put("8/ratings.csv", "user,item,rating\na,x,3\n");
    put("8/items.csv", "item,title\nx,Caf\xe9\n");
    import_fails("8", SIREN_EFORMAT, "items.csv:2: column 6: byte 0xe9");
    put("8/items.csv", "item,title\nx,A\n");
    options.separator = "\xc3"; /* half of a letter */
    import_fails("8", SIREN_EINVAL, "expected 1 to 7 bytes of UTF-8");
    options.separator = NULL;
    options.list_separator = "\xa9";
    import_fails("8", SIREN_EINVAL, "expected 1 to 7 bytes of UTF-8");
    options.list_separator = NULL;
    options.noun = "\xff";
    import_fails("8", SIREN_EINVAL, "expected 1 to 63 bytes of UTF-8");
    options.noun = "0123456789012345678901234567890123456789012345678901234567890123";
    import_fails("8", SIREN_EINVAL, "expected 1 to 63 bytes of UTF-8");
    options.noun = NULL;
    put("r\xff.csv", "user,item,rating\na,x,3\n");
    struct siren_workspace *ws = import_path("r\xff.csv");
    expect_text(ws, "SELECT value FROM meta WHERE key = 'source'", "csv: r\uFFFD.csv");
    siren_workspace_close(ws);
    char name[120];
    memset(name, 0xff, sizeof name);
    strcpy(name + sizeof name - 5, ".csv");
    put(name, "user,item,rating\na,x,3\n");
    ws = import_path(name); /* cut between two characters */
    expect_text(ws, "SELECT trim(value, '\uFFFD') || length(value) FROM meta WHERE key = 'source'",
                "csv: 88");
    siren_workspace_close(ws);
    char *json;
    strcpy(report.detected, "r\xff.csv");
    ok(siren_import_report_json(&report, &json, &err));
    assert_non_null(strstr(json, "\"detected\":\"r\uFFFD.csv\""));
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ml100k),
        TEST(test_ml1m),
        TEST(test_ml_latest),
        TEST(test_recbole),
        TEST(test_recbole_noun),
        TEST(test_recbole_items),
        TEST(test_amazon),
        TEST(test_columns_by_flags),
        TEST(test_columns_that_are_not_there),
        TEST(test_columns_twice),
        TEST(test_more_columns_than_the_header),
        TEST(test_separator_of_items),
        TEST(test_items_without_titles),
        TEST(test_blanks_of_items),
        TEST(test_item_fields),
        TEST(test_item_ids_elsewhere),
        TEST(test_options_without_effect),
        TEST(test_empty_lines),
        TEST(test_compressed_and_latin1),
        TEST(test_not_utf8),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
