#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workspace_fixture.h"

static const char *const film_categories[] = {"Drama", "Café \"noir\"", NULL};
static const char *const film_features[] = {"x", "y", NULL};
static const struct siren_item film = {.external = "f1",
                                       .title = "Perfect Days",
                                       .categories = film_categories,
                                       .features = film_features,
                                       .description = "A man in Tokyo.",
                                       .year = 2023};

static void test_items(void **state)
{
    struct siren_workspace *ws = create_workspace("items.siren");
    struct siren_item bare = {.external = "f2"}, untitled = {.external = "f4", .title = ""};
    struct siren_items items;
    char *text;
    int id;
    ok(siren_item_add(ws, &film, &id, &err));
    assert_int_equal(id, 0);
    ok(siren_item_add(ws, &bare, &id, &err));
    assert_int_equal(id, 1);
    expect_error(siren_item_add(ws, &bare, &id, &err), SIREN_EEXISTS, "'f2'");
    ok(siren_item_find(ws, "f1", &id, &err));
    assert_int_equal(id, 0);
    expect_error(siren_item_find(ws, "f3", &id, &err), SIREN_ENOTFOUND, "'f3' among its 2");
    expect_error(siren_item_find(ws, "perfect days", &id, &err), SIREN_ENOTFOUND,
                 "no item has the id 'perfect days'; it is the title of item 'f1'");
    ok(siren_item_add(ws, &untitled, &id, &err));
    ok(siren_items_load(&items, ws, &err));
    assert_int_equal(items.n, 3);
    assert_string_equal(items.item[2].title, "f4");
    assert_string_equal(items.item[0].title, "Perfect Days");
    assert_int_equal(items.item[0].n_categories, 2);
    assert_string_equal(items.item[0].categories[1], "Café \"noir\"");
    assert_null(items.item[0].categories[2]);
    assert_string_equal(items.item[0].features[1], "y");
    assert_string_equal(items.item[0].description, "A man in Tokyo.");
    assert_int_equal(items.item[0].year, 2023);
    assert_string_equal(items.item[1].title, "f2");
    assert_int_equal(items.item[1].n_categories, 0);
    assert_null(items.item[1].categories[0]);
    assert_true(items.item[0].hash != items.item[1].hash);
    ok(siren_item_text(items.item, 0, &text, &err));
    assert_string_equal(text,
                        "Title: Perfect Days\nCategory: Drama|Café \"noir\"\nFeature: x###y.");
    free(text);
    ok(siren_item_text(items.item, 1, &text, &err));
    assert_non_null(strstr(text, ".\nDescription: A man in Tokyo."));
    free(text);
    ok(siren_item_text(items.item + 1, 1, &text, &err));
    assert_string_equal(text, "Title: f2");
    free(text);
    siren_items_clear(&items);
    sql(ws, "UPDATE items SET categories = '{' WHERE id = 1");
    expect_error(siren_items_load(&items, ws, &err), SIREN_EFORMAT, "items.id 1");
    sql(ws, "UPDATE items SET categories = '[]', id = 5 WHERE id = 1");
    expect_error(siren_items_load(&items, ws, &err), SIREN_EFORMAT, "expected 1");
    siren_workspace_close(ws);
}

static void test_users(void **state)
{
    struct siren_workspace *ws = create_workspace("users.siren");
    struct siren_users users;
    int id;
    ok(siren_users_load(&users, ws, &err));
    assert_int_equal(users.n, 0);
    siren_users_clear(&users);
    ok(siren_user_add(ws, "a", &id, &err));
    ok(siren_user_add(ws, "b", &id, &err));
    ok(siren_user_add(ws, "c", &id, &err));
    expect_error(siren_user_add(ws, "c", &id, &err), SIREN_EEXISTS, "'c'");
    sql(ws, "DELETE FROM users WHERE id = 1");
    ok(siren_users_load(&users, ws, &err));
    assert_int_equal(users.n, 3);
    assert_null(users.external[1]);
    assert_string_equal(users.external[2], "c");
    siren_users_clear(&users);
    ok(siren_user_find(ws, "c", &id, &err));
    assert_int_equal(id, 2);
    expect_error(siren_user_find(ws, "b", &id, &err), SIREN_ENOTFOUND, "among its 2");
    siren_workspace_close(ws);
}

static void test_texts_are_utf8(void **state)
{
    struct siren_workspace *ws = create_workspace("utf8.siren");
    const char *bad[] = {"good", "b\xe9", NULL};
    const struct {
        struct siren_item item;
        const char *words;
    } items[] = {
        {{.external = "i\xff"}, "the id of a new item: byte 2 is 0xff, expected UTF-8"},
        {{.external = ""}, "the id of a new item: is empty"},
        {{.external = "i", .title = "\xc3"}, "item 'i': its title: byte 1 is 0xc3"},
        {{.external = "i", .description = "\xed\xa0\x80"}, "item 'i': its description: byte 1"},
        {{.external = "i", .categories = bad}, "item 'i': its categories: byte 2 is 0xe9"},
        {{.external = "i", .features = bad}, "item 'i': its features: byte 2 is 0xe9"},
    };
    int id;
    for (size_t i = 0; i < sizeof items / sizeof *items; i++)
        expect_error(siren_item_add(ws, &items[i].item, &id, &err), SIREN_EINVAL, items[i].words);
    expect_error(siren_user_add(ws, "Jos\xe9", &id, &err), SIREN_EINVAL,
                 "the id of a new user: byte 4 is 0xe9, expected UTF-8");
    expect_error(siren_user_add(ws, "", &id, &err), SIREN_EINVAL, "is empty");
    assert_int_equal(number(ws, "SELECT count(*) FROM items"), 0);
    assert_int_equal(number(ws, "SELECT count(*) FROM users"), 0);
    ok(siren_user_add(ws, "Jos\u00e9 \U0001f600", &id, &err));
    siren_workspace_close(ws);
}

static void test_meta(void **state)
{
    struct siren_workspace *ws = create_workspace("meta.siren");
    struct siren_meta meta = {.scale = {0.5, 5, 0.5},
                              .protocol = SIREN_PROTOCOL_PAPER,
                              .noun = "book",
                              .source = "csv: x"};
    char *value;
    ok(siren_meta_save(ws, &meta, &err));
    meta = (struct siren_meta){0};
    ok(siren_meta_load(&meta, ws, &err));
    assert_int_equal(siren_scale_labels(&meta.scale), 10);
    assert_int_equal(meta.protocol, SIREN_PROTOCOL_PAPER);
    assert_string_equal(meta.noun, "book");
    assert_string_equal(meta.source, "csv: x");
    ok(siren_meta_get(ws, "app.none", &value, &err));
    assert_null(value);
    ok(siren_meta_set(ws, "app.x", "1", &err));
    ok(siren_meta_set(ws, "app.x", "2", &err));
    ok(siren_meta_get(ws, "app.x", &value, &err));
    assert_string_equal(value, "2");
    free(value);
    ok(siren_meta_set(ws, "scale_max", "many", &err));
    expect_error(siren_meta_load(&meta, ws, &err), SIREN_EFORMAT, "'many'");
    ok(siren_meta_set(ws, "scale_max", "-1", &err));
    expect_error(siren_meta_load(&meta, ws, &err), SIREN_EFORMAT, "scale");
    ok(siren_meta_set(ws, "scale_max", "100", &err));
    expect_error(siren_meta_load(&meta, ws, &err), SIREN_EFORMAT,
                 "meta.siren: meta: scale 0.5:100:0.5: 200 labels, expected 2 to 101");
    siren_workspace_close(ws);
}

static void test_ratings_load_refuses_disorder(void **state)
{
    struct siren_ratings r;
    struct siren_workspace *ws = import_text(
        "disorder.siren", "user,item,rating,time\na,x,1,1\na,y,2,2\nb,x,3,3\n", NULL, NULL);
    ok(siren_ratings_load(&r, ws, &err));
    assert_int_equal(r.n, 3);
    assert_int_equal(r.user_start[2], 3);
    assert_int_equal(siren_ratings_row(&r, 0, 1), 1);
    assert_true(siren_ratings_row(&r, 1, 1) == SIZE_MAX);
    assert_true(siren_ratings_row(&r, 9, 1) == SIZE_MAX);
    siren_ratings_clear(&r);
    sql(ws, "UPDATE ratings SET sequence = 1");
    expect_error(siren_ratings_load(&r, ws, &err), SIREN_EFORMAT, "sequence");
    sql(ws, "UPDATE ratings SET sequence = 7 WHERE user = 1");
    expect_error(siren_ratings_load(&r, ws, &err), SIREN_EFORMAT, "sequence");
    sql(ws, "UPDATE ratings SET item = item + 70");
    expect_error(siren_ratings_load(&r, ws, &err), SIREN_EFORMAT, "item 7");
    siren_workspace_close(ws);
}

/* ---- embeddings ---- */

/* Where no encoder is named it is the one that had all items done last. */
static void expect_last_finished(struct siren_workspace *ws, const struct siren_items *items,
                                 int minilm, int other)
{
    struct siren_embeddings e;
    const float vector[] = {1, 0};
    int64_t missing;
    const int32_t gone = 17;
    const uint64_t hash = 1;
    ok(siren_encoder_finish(ws, minilm, &missing, &err));
    assert_int_equal(missing, 2); /* items 0 and 1, see below */
    expect_error(siren_embeddings_load(&e, ws, NULL, &err), SIREN_ENOTFOUND, "of all items yet");
    for (int32_t i = 0; i < items->n; i++) {
        ok(siren_embeddings_save(ws, minilm, &i, 1, vector, &items->item[i].hash, &err));
        ok(siren_embeddings_save(ws, other, &i, 1, vector, &items->item[i].hash, &err));
    }
    ok(siren_embeddings_save(ws, minilm, &gone, 1, vector, &hash, &err));
    assert_int_equal(number(ws, "SELECT count(*) FROM embeddings"), 6);
    const int order[] = {minilm, other, minilm};
    for (int i = 0; i < 3; i++) {
        ok(siren_encoder_finish(ws, order[i], &missing, &err));
        assert_int_equal(missing, 0);
        ok(siren_embeddings_load(&e, ws, NULL, &err));
        assert_int_equal(e.encoder, order[i]);
        siren_embeddings_clear(&e);
    }
    expect_error(siren_encoder_finish(ws, 77, &missing, &err), SIREN_ENOTFOUND, "encoder 77");
}

static void test_embeddings(void **state)
{
    struct siren_workspace *ws = create_workspace("embeddings.siren");
    struct siren_embeddings e;
    struct siren_items items;
    int id, minilm, again, other;
    expect_error(siren_embeddings_load(&e, ws, NULL, &err), SIREN_ENOTFOUND, "siren embed");
    for (int i = 0; i < 3; i++) {
        struct siren_item item = film;
        char name[8];
        snprintf(name, sizeof name, "i%d", i);
        item.external = name;
        ok(siren_item_add(ws, &item, &id, &err));
    }
    ok(siren_items_load(&items, ws, &err));
    ok(siren_encoder_add(ws, "minilm#1", 2, 1, &minilm, &err));
    ok(siren_encoder_add(ws, "minilm#1", 2, 1, &again, &err));
    assert_int_equal(minilm, again);
    ok(siren_encoder_add(ws, "a#b/copy#1", 2, 1, &again, &err)); /* where it lies does not matter */
    assert_int_equal(minilm, again);
    ok(siren_encoder_add(ws, "minilm#1, bf16", 2, 1, &again, &err));
    assert_int_not_equal(minilm, again);
    expect_error(siren_encoder_add(ws, "minilm#1", 3, 1, &again, &err), SIREN_EEXISTS, "2 dim");
    expect_error(siren_encoder_add(ws, "none", 0, 1, &again, &err), SIREN_EINVAL, "0 dim");
    const int32_t which[] = {2, 0};
    const float vectors[] = {0.6f, 0.8f, 1, 0};
    uint64_t hashes[] = {items.item[2].hash, items.item[0].hash ^ 1};
    ok(siren_embeddings_save(ws, minilm, which, 2, vectors, hashes, &err));
    expect_error(siren_embeddings_save(ws, 77, which, 2, vectors, hashes, &err), SIREN_ENOTFOUND,
                 "encoder 77");
    expect_error(siren_embeddings_load(&e, ws, NULL, &err), SIREN_ENOTFOUND, "of all items yet");
    ok(siren_embeddings_load(&e, ws, "moved#1", &err));
    assert_int_equal(e.n, 3);
    assert_int_equal(e.d, 2);
    assert_int_equal(e.unit, 1);
    assert_string_equal(e.identity, "minilm#1");
    assert_memory_equal(e.vector + 4, vectors, 8);
    const uint8_t has[] = {0, 0, 1}; /* item 0 has another text by now, item 1 none */
    assert_memory_equal(e.has, has, 3);
    siren_embeddings_clear(&e);
    ok(siren_encoder_add(ws, "bge#2", 1, 0, &other, &err));
    ok(siren_embeddings_load(&e, ws, "minilm#1", &err));
    assert_int_equal(e.encoder, minilm);
    siren_embeddings_clear(&e);
    expect_error(siren_embeddings_load(&e, ws, "nobody", &err), SIREN_ENOTFOUND, "nobody");
    expect_last_finished(ws, &items, minilm, other);
    sql(ws, "UPDATE embeddings SET vector = x'00'");
    expect_error(siren_embeddings_load(&e, ws, "minilm#1", &err), SIREN_EFORMAT, "1 bytes");
    siren_items_clear(&items);
    siren_workspace_close(ws);
}

/* ---- topics and sketches ---- */

static struct siren_workspace *with_topics(const char *name)
{
    struct siren_workspace *ws = import_text(
        name, "user,item,rating,time\na,x,1,1000000000\na,y,5,1100000000\n", NULL, NULL);
    struct siren_topics t;
    ok(siren_topics_create(&t, 2, 3, 2, &err));
    for (int i = 0; i < 6; i++) t.centre[i] = (float)i;
    t.name[0] = strdup("Slow films");
    t.name_source[0] = SIREN_NAME_TFIDF;
    t.topic[0] = 1;
    t.distance[0] = 0.25f;
    t.second[0] = 0;
    t.second_distance[0] = 0.75f;
    t.settings = strdup("{\"seed\":7}");
    strcpy(t.encoder, "minilm#1");
    ok(siren_topics_save(ws, &t, &err));
    siren_topics_clear(&t);
    return ws;
}

static void test_topics(void **state)
{
    struct siren_workspace *ws = create_workspace("none.siren");
    struct siren_topics t;
    expect_error(siren_topics_load(&t, ws, &err), SIREN_ENOTFOUND, "siren topics");
    siren_workspace_close(ws);
    ws = with_topics("topics.siren");
    ok(siren_topics_load(&t, ws, &err));
    assert_int_equal(t.k, 2);
    assert_int_equal(t.d, 3);
    assert_true(t.centre[5] == 5);
    assert_string_equal(t.name[0], "Slow films");
    assert_null(t.name[1]);
    assert_int_equal(t.name_source[0], SIREN_NAME_TFIDF);
    assert_int_equal(t.topic[0], 1);
    assert_int_equal(t.second[0], 0);
    assert_true(t.second_distance[0] == 0.75f);
    assert_int_equal(t.topic[1], -1);
    assert_string_equal(t.settings, "{\"seed\":7}");
    siren_topics_clear(&t);
    expect_error(siren_topic_name(ws, 1, "Slow films", SIREN_NAME_HAND, &err), SIREN_EEXISTS,
                 "topic 0");
    expect_error(siren_topic_name(ws, 1, "", SIREN_NAME_HAND, &err), SIREN_EINVAL, "empty");
    expect_error(siren_topic_name(ws, 1, " \t ", SIREN_NAME_HAND, &err), SIREN_EINVAL, "empty");
    expect_error(siren_topic_name(ws, 1, "caf\xe9", SIREN_NAME_HAND, &err), SIREN_EINVAL,
                 "the name of topic 1: found a newline, another control character or no UTF-8 at "
                 "byte 3");
    expect_error(siren_topic_name(ws, 1, "a\nb", SIREN_NAME_HAND, &err), SIREN_EINVAL, "byte 1");
    expect_error(siren_topic_name(ws, 1, " Slow films ", SIREN_NAME_HAND, &err), SIREN_EEXISTS,
                 "topic 0");
    expect_error(siren_topic_name(ws, 9, "New", SIREN_NAME_HAND, &err), SIREN_ENOTFOUND, "topic 9");
    ok(siren_topic_name(ws, 1, " Loud films", SIREN_NAME_HAND, &err));
    ok(siren_topic_assign(ws, 1, 0, 1.5f, -1, 0, &err));
    ok(siren_topics_load(&t, ws, &err));
    assert_int_equal(t.name_source[1], SIREN_NAME_HAND);
    assert_string_equal(t.name[1], "Loud films");
    assert_int_equal(t.topic[1], 0);
    assert_int_equal(t.second[1], -1);
    siren_topics_clear(&t);
    sql(ws, "UPDATE item_topics SET topic = 2");
    expect_error(siren_topics_load(&t, ws, &err), SIREN_EFORMAT, "topic 2 of 2");
    sql(ws, "DELETE FROM item_topics; DELETE FROM topics WHERE id = 1");
    expect_error(siren_topics_load(&t, ws, &err), SIREN_EFORMAT, "1 topics, expected 2");
    siren_workspace_close(ws);
    expect_error(siren_topics_create(&t, 0, 3, 2, &err), SIREN_EINVAL, "0 topics");
}

static void test_sketch_rows(void **state)
{
    struct siren_workspace *ws = with_topics("rows.siren");
    struct siren_sketch_row *rows;
    size_t n;
    struct siren_sketch_row put[] = {
        {.user = 0, .topic = 1, .state = {3, 12.5, 2, 1, 2.5, 11, 1234}},
        {.user = 0, .topic = 0, .state = {1, 4, 1, 0, 1, 4, SIREN_NO_TIME}},
        {.user = 1, .topic = 0, .state = {.weight = 1}}};
    int soft, id;
    expect_error(siren_sketch_rows_save(ws, put, 3, &err), SIREN_EINVAL, "FOREIGN KEY");
    ok(siren_user_add(ws, "b", &id, &err));
    ok(siren_sketch_rows_save(ws, put, 3, &err));
    ok(siren_sketch_rows_load(ws, 0, &rows, &n, &err));
    assert_int_equal(n, 2);
    assert_memory_equal(rows + 1, put, sizeof *put);
    assert_true(rows[0].state.time == SIREN_NO_TIME);
    free(rows);
    ok(siren_sketch_rows_load(ws, -1, &rows, &n, &err));
    assert_int_equal(n, 3);
    free(rows);
    put[0].state = (struct siren_topic_state){.time = SIREN_NO_TIME};
    ok(siren_sketch_rows_save(ws, put, 1, &err));
    ok(siren_sketch_rows_load(ws, 0, &rows, &n, &err));
    assert_int_equal(n, 1);
    free(rows);
    sql(ws, "UPDATE sketches SET topic = -7 WHERE user = 0");
    expect_error(siren_sketch_rows_load(ws, 0, &rows, &n, &err), SIREN_EFORMAT, "topic -7");
    assert_null(rows);
    ok(siren_sketch_rows_delete(ws, 0, &err));
    ok(siren_sketch_rows_load(ws, -1, &rows, &n, &err));
    assert_int_equal(n, 1);
    free(rows);
    ok(siren_sketch_rows_delete(ws, -1, &err));
    ok(siren_sketch_rows_load(ws, -1, &rows, &n, &err));
    assert_null(rows);
    ok(siren_sketch_soft_load(ws, &soft, &err));
    assert_int_equal(soft, 0);
    ok(siren_sketch_soft_save(ws, 1, &err));
    ok(siren_sketch_soft_load(ws, &soft, &err));
    assert_int_equal(soft, 1);
    siren_workspace_close(ws);
}

/* ---- runs ---- */

static int loaded_status(struct siren_workspace *ws, int64_t id, const char *message)
{
    struct siren_run run;
    ok(siren_run_load(&run, ws, id, &err));
    int status = run.status;
    assert_non_null(strstr(run.message, message));
    siren_run_clear(&run);
    return status;
}

/* A run whose process was killed is no longer running, whatever is stored; who takes it up is. */
static void test_killed_run(void **state)
{
    struct siren_workspace *ws = create_workspace("killed.siren");
    siren_workspace_close(ws);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct siren_run run = {.kind = "sft"};
        _exit(
            siren_workspace_open(&ws, scratch_path("killed.siren"), SIREN_WORKSPACE_WRITE, &err) ||
            siren_run_start(ws, &run, &err));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    ok(siren_workspace_open(&ws, scratch_path("killed.siren"), SIREN_WORKSPACE_WRITE, &err));
    assert_int_equal(number(ws, "SELECT count(*) FROM runs WHERE status = 'running'"), 1);
    assert_int_equal(loaded_status(ws, 1, "without a word"), SIREN_RUN_STOPPED);
    ok(siren_run_finish(ws, 1, SIREN_RUN_RUNNING, NULL, "resumed", &err));
    assert_int_equal(loaded_status(ws, 1, "resumed"), SIREN_RUN_RUNNING);
    siren_workspace_close(ws);
}

/* Who cannot take up a run that another process is at leaves it to that one. */
static void test_run_of_another_process(void **state)
{
    struct siren_workspace *ws = create_workspace("two.siren");
    struct siren_run run = {.kind = "sft"};
    ok(siren_run_start(ws, &run, &err));
    siren_workspace_close(ws);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(siren_workspace_open(&ws, scratch_path("two.siren"), SIREN_WORKSPACE_WRITE, &err) ||
              siren_run_finish(ws, 1, SIREN_RUN_RUNNING, NULL, NULL, &err));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    ok(siren_workspace_open(&ws, scratch_path("two.siren"), SIREN_WORKSPACE_WRITE, &err));
    assert_int_equal(loaded_status(ws, 1, ""), SIREN_RUN_RUNNING);
    siren_workspace_close(ws);
}

static void test_runs(void **state)
{
    struct siren_workspace *ws = create_workspace("runs.siren");
    struct siren_run start = {.kind = "eval",
                              .settings = "{\"a\":1}",
                              .seed = UINT64_MAX,
                              .command = "siren eval",
                              .split = "test"};
    struct siren_run run, *list;
    int64_t id;
    size_t n;
    ok(siren_run_start(ws, &start, &err));
    assert_true(start.id > 0);
    ok(siren_run_find_unfinished(ws, "eval", "{\"a\":1}", &id, &err));
    assert_int_equal(id, start.id);
    ok(siren_run_find_unfinished(ws, "eval", "{}", &id, &err));
    assert_int_equal(id, 0);
    ok(siren_run_finish(ws, start.id, SIREN_RUN_STOPPED, NULL, "Ctrl-C", &err));
    ok(siren_run_find_unfinished(ws, "eval", "{\"a\":1}", &id, &err));
    assert_int_equal(id, start.id);
    ok(siren_run_finish(ws, start.id, SIREN_RUN_DONE, "{\"mae\":0.7}", NULL, &err));
    ok(siren_run_load(&run, ws, start.id, &err));
    assert_string_equal(run.metrics, "{\"mae\":0.7}");
    assert_string_equal(run.message, "");
    assert_int_equal(run.status, SIREN_RUN_DONE);
    assert_true(run.seed == UINT64_MAX);
    assert_true(run.finished >= run.started && run.started > 1600000000000);
    siren_run_clear(&run);
    ok(siren_run_rename(ws, start.id, "by another name", &err));
    ok(siren_run_load(&run, ws, start.id, &err));
    assert_string_equal(run.name, "by another name");
    assert_int_equal(run.status, SIREN_RUN_DONE);
    siren_run_clear(&run);
    ok(siren_run_start(ws, &start, &err));
    ok(siren_runs_load(&list, &n, ws, "eval", &err));
    assert_int_equal(n, 2);
    assert_int_equal(list[1].id, start.id);
    assert_true(list[1].finished == SIREN_NO_TIME);
    siren_runs_free(list, n);
    ok(siren_runs_load(&list, &n, ws, "predict", &err));
    assert_int_equal(n, 0);
    siren_runs_free(list, n);
    /* A run of ours, though it runs, but none that another process is at. */
    pid_t other = fork();
    if (!other) {
        struct siren_workspace *its;
        struct siren_run run_of_other = {.kind = "eval"};
        int rc = siren_workspace_open(&its, siren_workspace_path(ws), SIREN_WORKSPACE_WRITE, NULL);
        if (!rc) rc = siren_run_start(its, &run_of_other, NULL);
        if (rc) _exit(1);
        for (;;) pause();
    }
    while (number(ws, "SELECT count(*) FROM runs") < 3) usleep(10000);
    expect_error(siren_run_delete(ws, start.id + 1, &err), SIREN_EBUSY, "is at it");
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    ok(siren_run_delete(ws, start.id + 1, &err));
    ok(siren_run_delete(ws, start.id, &err));
    expect_error(siren_run_delete(ws, start.id, &err), SIREN_ENOTFOUND, "siren runs");
    expect_error(siren_run_load(&run, ws, start.id, &err), SIREN_ENOTFOUND, "no run 2");
    expect_error(siren_run_finish(ws, 99, 1, NULL, NULL, &err), SIREN_ENOTFOUND, "99");
    expect_error(siren_run_rename(ws, 99, "x", &err), SIREN_ENOTFOUND, "99");
    expect_error(siren_run_finish(ws, 1, 9, NULL, NULL, &err), SIREN_EINVAL, "status 9");
    assert_string_equal(siren_run_status_name(SIREN_RUN_STOPPED), "stopped");
    siren_workspace_close(ws);
}

static void test_run_names(void **state)
{
    struct siren_workspace *ws = create_workspace("names.siren");
    struct siren_run start = {.kind = "eval", .name = ""};
    char name[SIREN_RUN_NAME + 2];
    memset(name, 'n', sizeof name);
    name[SIREN_RUN_NAME + 1] = '\0';
    ok(siren_run_start(ws, &start, &err));
    start.name = name;
    expect_error(siren_run_start(ws, &start, &err), SIREN_EINVAL,
                 "found 201 bytes, expected at most 200");
    expect_error(siren_run_rename(ws, start.id, name, &err), SIREN_EINVAL, "201 bytes");
    name[SIREN_RUN_NAME] = '\0';
    ok(siren_run_rename(ws, start.id, name, &err));
    ok(siren_run_rename(ws, start.id, "Überlänge 日本", &err));
    start.name = "two\nlines";
    expect_error(siren_run_start(ws, &start, &err), SIREN_EINVAL, "at byte 3");
    expect_error(siren_run_rename(ws, start.id, "\033[31m", &err), SIREN_EINVAL, "at byte 0");
    expect_error(siren_run_rename(ws, start.id, "C1 \302\233", &err), SIREN_EINVAL, "at byte 3");
    expect_error(siren_run_rename(ws, start.id, "no \377", &err), SIREN_EINVAL, "at byte 3");
    assert_int_equal(number(ws, "SELECT count(*) FROM runs"), 1);
    siren_workspace_close(ws);
}

static void test_predictions(void **state)
{
    struct siren_workspace *ws = create_workspace("predictions.siren");
    struct siren_run run = {.kind = "eval"};
    struct siren_predictions p;
    uint8_t done[4];
    const float probabilities[] = {0.1f, 0.2f, 0.3f, 0.25f, 0.15f};
    struct siren_prediction put[] = {
        {.row = 2,
         .user = 1,
         .item = 3,
         .truth = 4,
         .n_labels = 5,
         .probabilities = probabilities,
         .argmax = 3,
         .mean = 3.15,
         .median = 3,
         .outside = 0.01,
         .tokens_in = 300,
         .tokens_out = 1,
         .tokens_cached = 100,
         .latency_ms = 12.5},
        {.row = 0,
         .user = 1,
         .item = 4,
         .truth = NAN,
         .argmax = 5,
         .mean = NAN,
         .median = NAN,
         .outside = NAN,
         .invalid = 1,
         .text = "<think>"},
    };
    for (int i = 0; i < 5; i++) {
        char name[8];
        int id;
        snprintf(name, sizeof name, "%d", i);
        if (i < 2) ok(siren_user_add(ws, name, &id, &err));
        ok(siren_item_add(ws, &(struct siren_item){.external = name}, &id, &err));
    }
    expect_error(siren_predictions_save(ws, 1, put, 2, &err), SIREN_ENOTFOUND, "no run 1");
    ok(siren_run_start(ws, &run, &err));
    ok(siren_predictions_save(ws, run.id, put, 2, &err));
    ok(siren_predictions_save(ws, run.id, put, 1, &err)); /* again: replaced */
    ok(siren_predictions_done(ws, run.id, done, 2, &err));
    assert_int_equal(done[0], 1);
    assert_int_equal(done[1], 0);
    ok(siren_predictions_load(&p, ws, run.id, &err));
    assert_int_equal(p.n, 2);
    assert_true(isnan(p.prediction[0].truth) && isnan(p.prediction[0].outside));
    assert_int_equal(p.prediction[0].n_labels, 0);
    assert_string_equal(p.prediction[0].text, "<think>");
    assert_int_equal(p.prediction[0].invalid, 1);
    assert_int_equal(p.prediction[1].n_labels, 5);
    assert_memory_equal(p.prediction[1].probabilities, probabilities, sizeof probabilities);
    assert_null(p.prediction[1].logprobs);
    assert_true(p.prediction[1].mean == 3.15 && p.prediction[1].latency_ms == 12.5);
    assert_int_equal(p.prediction[1].tokens_cached, 100);
    siren_predictions_clear(&p);
    put[0].user = 2;
    expect_error(siren_predictions_save(ws, run.id, put, 2, &err), SIREN_EINVAL, "user 2");
    put[0].user = -1;
    expect_error(siren_predictions_save(ws, run.id, put, 2, &err), SIREN_EINVAL, "user -1");
    put[0].user = 1;
    put[0].item = 5;
    expect_error(siren_predictions_save(ws, run.id, put, 2, &err), SIREN_EINVAL, "FOREIGN KEY");
    put[0].item = 3;
    put[0].n_labels = 102;
    expect_error(siren_predictions_save(ws, run.id, put, 1, &err), SIREN_EINVAL, "102 labels");
    sql(ws, "UPDATE predictions SET logprobs = x'0000' WHERE row = 2");
    expect_error(siren_predictions_load(&p, ws, run.id, &err), SIREN_EFORMAT, "row 2");
    siren_workspace_close(ws);
}

/* ---- a person is erased ---- */

static int file_holds(const char *path, const char *text)
{
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    static char bytes[1 << 21];
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    return memmem(bytes, n, text, strlen(text)) != NULL;
}

static void test_forget(void **state)
{
    struct siren_workspace *ws = with_topics("forget.siren");
    char path[300], log[310];
    strcpy(path, siren_workspace_path(ws));
    snprintf(log, sizeof log, "%s-wal", path);
    int id;
    size_t rows;
    ok(siren_user_add(ws, "carla-secret", &id, &err));
    ok(siren_rate(ws, id, 0, 4, 1200000000000, NULL, &err));
    struct siren_run run = {.kind = "predict",
                            .name = "for carla-secret",
                            .command = "siren predict w --user carla-secret --user=carla-secret2",
                            .settings = "{\"users\":[\"carla-secret\",\"a\"],\"n\":1}"};
    ok(siren_run_start(ws, &run, &err));
    struct siren_prediction p = {.row = 1, .user = id, .text = "carla-thinks", .truth = 4};
    ok(siren_predictions_save(ws, run.id, &p, 1, &err));
    ok(siren_run_set_metrics(ws, run.id, "{\"mae\":1}", &err));
    expect_error(siren_run_set_metrics(ws, 99, "{}", &err), SIREN_ENOTFOUND, "no run 99");
    sql(ws, "CREATE TABLE profiles(user INTEGER, text TEXT);"
            "INSERT INTO profiles VALUES (1, 'carla-profile')");
    assert_true(file_holds(path, "carla-") || file_holds(log, "carla-"));
    assert_int_equal(number(ws, "SELECT count(*) FROM sketches WHERE user = 1"), 1);

    ok(siren_workspace_begin(ws, &err));
    expect_error(siren_forget(ws, "carla-secret", &rows, &err), SIREN_EINVAL, "transaction");
    siren_workspace_rollback(ws);
    ok(siren_forget(ws, "carla-secret", &rows, &err));
    assert_int_equal(rows, 5); /* user, rating, sketch, prediction, profile */
    assert_int_equal(number(ws, "SELECT count(*) FROM users"), 1);
    assert_int_equal(number(ws, "SELECT count(*) FROM ratings WHERE user = 1"), 0);
    assert_int_equal(number(ws, "SELECT count(*) FROM predictions"), 0);
    struct siren_run left;
    ok(siren_run_load(&left, ws, run.id, &err));
    assert_string_equal(left.command, "siren predict w --user (forgotten) --user=carla-secret2");
    assert_string_equal(left.settings, "{\"users\":[\"(forgotten)\",\"a\"],\"n\":1}");
    assert_string_equal(left.metrics, ""); /* they told of the row that is gone */
    siren_run_clear(&left);
    sql(ws, "UPDATE runs SET command = ''");
    assert_int_equal(number(ws, "SELECT count(*) FROM meta WHERE key = 'erase_pending'"), 0);
    expect_error(siren_forget(ws, "carla-secret", &rows, &err), SIREN_ENOTFOUND, "carla-secret");
    siren_workspace_close(ws);
    assert_false(file_holds(path, "carla-thinks") || file_holds(path, "carla-profile"));
    assert_false(file_holds(path, "for carla-secret") || file_holds(path, "\"carla-secret\""));
}

/* An evaluation that began before goes on, and does not bring the user back; nor does a new user
 * come into the forgotten one's place. */
static void test_forgotten_while_a_run_goes_on(void **state)
{
    struct siren_workspace *ws = with_topics("running.siren"), *running;
    struct siren_run run = {.kind = "eval"};
    struct siren_prediction p[] = {{.row = 0, .user = 1}, {.row = 1, .user = 0}};
    int id;
    ok(siren_user_add(ws, "carla", &id, &err));
    assert_int_equal(id, 1);
    ok(siren_workspace_open(&running, siren_workspace_path(ws), SIREN_WORKSPACE_WRITE, &err));
    ok(siren_run_start(running, &run, &err));
    ok(siren_predictions_save(running, run.id, p, 2, &err));
    ok(siren_forget(ws, "carla", NULL, &err));
    ok(siren_predictions_save(running, run.id, p, 2, &err));
    assert_int_equal(number(ws, "SELECT count(*) FROM predictions WHERE user = 0"), 1);
    assert_int_equal(number(ws, "SELECT count(*) FROM predictions"), 1);
    ok(siren_user_add(ws, "dora", &id, &err));
    assert_int_equal(id, 2);
    ok(siren_predictions_save(running, run.id, p, 2, &err));
    assert_int_equal(number(ws, "SELECT count(*) FROM predictions"), 1);
    ok(siren_forget(ws, "dora", NULL, &err));
    ok(siren_forget(ws, "a", NULL, &err));
    assert_int_equal(number(ws, "SELECT count(*) FROM users"), 0);
    ok(siren_user_add(ws, "emil", &id, &err));
    assert_int_equal(id, 3);

    ok(siren_run_delete(ws, run.id, &err));
    expect_error(siren_predictions_save(running, run.id, p, 2, &err), SIREN_ENOTFOUND, "no run 1");
    assert_int_equal(number(ws, "SELECT count(*) FROM predictions"), 0);
    siren_workspace_close(running);
    siren_workspace_close(ws);
}

/* An import that replaces all begins with user 0 again; no run of before takes its rows. */
static void test_replaced_while_a_run_goes_on(void **state)
{
    struct siren_workspace *ws = with_topics("again.siren"), *running;
    struct siren_run run = {.kind = "eval"}, other = {.kind = "eval"};
    struct siren_prediction p = {.row = 0, .user = 0};
    struct siren_import_options o;
    char source[300];
    int id;
    siren_import_defaults(&o);
    o.k_core = 0;
    o.replace = 1;
    ok(siren_workspace_open(&running, siren_workspace_path(ws), SIREN_WORKSPACE_WRITE, &err));
    ok(siren_run_start(running, &run, &err));
    ok(siren_forget(ws, "a", NULL, &err));
    snprintf(source, sizeof source, "%s.csv", siren_workspace_path(ws));
    ok(siren_import(ws, source, &o, NULL, NULL, &err));
    ok(siren_run_start(ws, &other, &err));
    assert_true(other.id != run.id);
    expect_error(siren_predictions_save(running, run.id, &p, 1, &err), SIREN_ENOTFOUND, "no run");
    ok(siren_user_add(ws, "b", &id, &err));
    assert_int_equal(id, 1);
    siren_workspace_close(running);
    siren_workspace_close(ws);
}

/* Tables of other programs that refer to each other are no obstacle. */
static void test_forget_in_any_order(void **state)
{
    struct siren_workspace *ws = with_topics("order.siren");
    size_t rows;
    ok(siren_rate(ws, 0, 0, 4, 1200000000000, NULL, &err));
    sql(ws, "CREATE TABLE notes(id INTEGER PRIMARY KEY, user INTEGER REFERENCES users(id));"
            "CREATE TABLE replies(user INTEGER REFERENCES users(id), note REFERENCES notes(id));"
            "INSERT INTO notes VALUES (7, 0); INSERT INTO replies VALUES (0, 7)");
    ok(siren_forget(ws, "a", &rows, &err));
    assert_int_equal(number(ws, "SELECT count(*) FROM notes, replies"), 0);
    assert_int_equal(rows, 6); /* user, two ratings, sketch, note, reply */
    siren_workspace_close(ws);
}

/* Values of any column of any table that contain a text. */
static long long count_values(struct siren_workspace *ws, const char *text)
{
    sqlite3_stmt *q;
    long long n = 0;
    assert_int_equal(
        sqlite3_prepare_v2(siren_workspace_db(ws),
                           "SELECT s.name, c.name FROM sqlite_schema s, pragma_table_info(s.name) c"
                           " WHERE s.type = 'table'",
                           -1, &q, NULL),
        SQLITE_OK);
    while (sqlite3_step(q) == SQLITE_ROW) {
        char *query = sqlite3_mprintf("SELECT count(*) FROM \"%w\" WHERE instr(\"%w\", %Q)",
                                      sqlite3_column_text(q, 0), sqlite3_column_text(q, 1), text);
        n += number(ws, query);
        sqlite3_free(query);
    }
    sqlite3_finalize(q);
    return n;
}

/* A workspace with the run; the user is in it, and is forgotten. */
static struct siren_workspace *without_user(const char *name, const char *user,
                                            struct siren_run *run, const char *metrics)
{
    struct siren_workspace *ws = with_topics(name);
    int id;
    ok(siren_user_add(ws, user, &id, &err));
    ok(siren_run_start(ws, run, &err));
    ok(siren_run_finish(ws, run->id, SIREN_RUN_FAILED, metrics, run->message, &err));
    ok(siren_forget(ws, user, NULL, &err));
    return ws;
}

static void expect_column(struct siren_workspace *ws, const char *column, const char *expected)
{
    sqlite3_stmt *q;
    char query[80];
    snprintf(query, sizeof query, "SELECT %s FROM runs", column);
    assert_int_equal(sqlite3_prepare_v2(siren_workspace_db(ws), query, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(q, 0), expected);
    sqlite3_finalize(q);
}

/* An id that is nothing else is nowhere any more, whichever way it was written. */
static void test_forget_leaves_no_mention(void **state)
{
    struct siren_run run = {
        .kind = "predict",
        .name = "for AE7Q-o'neil, again",
        .command = "siren predict w -u 'AE7Q-o'\\''neil' '--user=AE7Q-o'\\''neil' --name"
                   " 'for AE7Q-o'\\''neil, again' --seed 5",
        .settings = "{\"user\":\"AE7Q-o'neil\",\"users\":{\"AE7Q-o'neil\":1,\"a\":[2]}}",
        .message = "user AE7Q-o'neil: no history; user 'AE7Q-o'neil', item 3."};
    struct siren_workspace *ws =
        without_user("mentions.siren", "AE7Q-o'neil", &run, "{\"users\":[\"AE7Q-o'neil\"]}");
    assert_int_equal(count_values(ws, "AE7Q"), 0);
    expect_column(ws, "name", "for (forgotten), again");
    expect_column(ws, "command",
                  "siren predict w -u (forgotten) --user=(forgotten) --name 'for (forgotten), "
                  "again' --seed 5");
    expect_column(ws, "settings",
                  "{\"user\":\"(forgotten)\",\"users\":{\"(forgotten)\":1,\"a\":[2]}}");
    expect_column(ws, "message", "user (forgotten): no history; user '(forgotten)', item 3.");
    siren_workspace_close(ws);
}

/* The ids of MovieLens are small numbers: those of others, of labels and counts stay. */
static void test_forget_a_number(void **state)
{
    static const char metrics[] = "{\"n\":5,\"users\":5,\"decoders\":{\"mean\":{\"stars\":{\"5\":{"
                                  "\"mae\":0.7}},\"of\":\"5\"}}}";
    static char settings[] = "{\"k\":5,\"label\":\"5\",\"list\":[\"5\",5],\"split\":\"test\"}";
    struct siren_run run = {.kind = "eval",
                            .name = "fold 5, seed 5",
                            .command = "siren eval w --limit 5 --fold=5 -k 5 --user 55 -u5",
                            .settings = settings,
                            .message = "stopped after 5 of 5 rows at user 5, item 5"};
    struct siren_workspace *ws = without_user("number.siren", "5", &run, metrics);
    expect_column(ws, "metrics", metrics);
    expect_column(ws, "settings", settings);
    expect_column(ws, "name", "fold 5, seed 5");
    expect_column(ws, "command", "siren eval w --limit 5 --fold=5 -k 5 --user 55 -u(forgotten)");
    expect_column(ws, "message", "stopped after 5 of 5 rows at user (forgotten), item 5");
    siren_workspace_close(ws);
}

/* A user whose id is a word of the program's. */
static void test_forget_a_common_word(void **state)
{
    struct siren_run run = {.kind = "eval",
                            .command = "siren eval test --split test --user=tests --user test",
                            .settings = "{\"split\":\"test\"}",
                            .message = "test-3, test.3 and test@home; (test)"};
    struct siren_workspace *ws = without_user("word.siren", "test", &run, "{\"test\":1}");
    expect_column(ws, "metrics", "{\"test\":1}");
    expect_column(ws, "settings", "{\"split\":\"test\"}");
    expect_column(ws, "command", "siren eval test --split test --user=tests --user (forgotten)");
    expect_column(ws, "message", "test-3, test.3 and test@home; ((forgotten))");
    siren_workspace_close(ws);
}

/* The import's report quotes lines that were left out; a long id is cut there. */
static void test_forget_reaches_the_import(void **state)
{
    static const char *const users[] = {"carla-secret",
                                        "carla-secret-whose-name-is-longer-than-a-message-shows"};
    struct siren_import_options o;
    char csv[400];
    siren_import_defaults(&o);
    o.k_core = 0;
    o.skip_bad = 1;
    snprintf(csv, sizeof csv,
             "user,item,rating,time\n%s,x,1,1\n%s,x,1,1\na,x,%s,1\na,y,%s,1\na,z,3,%s\n", users[0],
             users[1], users[0], users[1], users[0]);
    struct siren_workspace *ws = import_text("report.siren", csv, &o, NULL);
    assert_int_equal(number(ws, "SELECT json_array_length(value, '$.bad') FROM meta WHERE key ="
                                " 'import'"),
                     3);
    ok(siren_forget(ws, users[1], NULL, &err));
    assert_int_equal(count_values(ws, "whose"), 0);
    assert_int_equal(count_values(ws, "carla-secret"), 2); /* the other's: users, meta */
    ok(siren_forget(ws, users[0], NULL, &err));
    assert_int_equal(count_values(ws, "carla"), 0);
    assert_int_equal(number(ws, "SELECT json_array_length(value, '$.bad') FROM meta WHERE key ="
                                " 'import'"),
                     3);
    assert_int_equal(count_values(ws, "rating '(forgotten)': expected a number"), 1);
    siren_workspace_close(ws);
}

/* A reader that holds the old pages: the rows are gone, the bytes go at the next call. */
static void test_forget_with_a_reader(void **state)
{
    struct siren_workspace *ws = with_topics("held.siren"), *reader;
    char path[300], log[310];
    strcpy(path, siren_workspace_path(ws));
    snprintf(log, sizeof log, "%s-wal", path);
    siren_workspace_timeout(ws, 20);
    int id;
    size_t rows;
    ok(siren_user_add(ws, "carla-secret", &id, &err));
    ok(siren_workspace_open(&reader, path, SIREN_WORKSPACE_READ, &err));
    ok(siren_workspace_begin_read(reader, &err));
    expect_error(siren_forget(ws, "carla-secret", &rows, &err), SIREN_EBUSY, "old pages");
    assert_non_null(strstr(err.message, "rows are erased, but not yet"));
    assert_int_equal(number(ws, "SELECT count(*) FROM users"), 1);
    siren_workspace_close(reader);
    expect_error(siren_forget(ws, "carla-secret", &rows, &err), SIREN_ENOTFOUND, "carla-secret");
    assert_non_null(strstr(err.message, "gone from the file's bytes now"));
    expect_error(siren_forget(ws, "carla-secret", &rows, &err), SIREN_ENOTFOUND, "carla-secret");
    assert_null(strstr(err.message, "gone from"));
    assert_false(file_holds(path, "carla-secret") || file_holds(log, "carla-secret"));
    siren_workspace_close(ws);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_texts_are_utf8),
        cmocka_unit_test(test_meta),
        cmocka_unit_test(test_ratings_load_refuses_disorder),
        cmocka_unit_test(test_embeddings),
        cmocka_unit_test(test_topics),
        cmocka_unit_test(test_sketch_rows),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_run_names),
        cmocka_unit_test(test_killed_run),
        cmocka_unit_test(test_run_of_another_process),
        cmocka_unit_test(test_predictions),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_forgotten_while_a_run_goes_on),
        cmocka_unit_test(test_replaced_while_a_run_goes_on),
        cmocka_unit_test(test_forget_in_any_order),
        cmocka_unit_test(test_forget_leaves_no_mention),
        cmocka_unit_test(test_forget_a_number),
        cmocka_unit_test(test_forget_a_common_word),
        cmocka_unit_test(test_forget_reaches_the_import),
        cmocka_unit_test(test_forget_with_a_reader),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
