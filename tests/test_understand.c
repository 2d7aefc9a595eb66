/* Embed, topics and sketches over a workspace. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "real_models.h"
#include "run_program.h"
#include "scratch.h"
#include "server.h"
#include "siren/import.h"
#include "siren/random.h"
#include "siren/understand.h"

static struct siren_error err;
static struct siren_pool *pool;

static void check(int rc)
{
    if (rc) fail_msg("%s", err.message);
}

enum { ITEMS = 60, USERS = 25, D = 8, GROUPS = 4, DAY = 86400000 };

/* Item i belongs to group i % 4: its title and its vector say so. */
static const char *const words[GROUPS] = {"Space", "Love", "Crime", "Ocean"};

static void write_ratings(char *path)
{
    char *text = malloc(200000), *at = text;
    at += sprintf(at, "user,item,rating,time\n");
    for (int u = 0; u < USERS; u++)
        for (int i = 0; i < ITEMS; i++) {
            uint64_t c = (uint64_t)(u * ITEMS + i);
            if (siren_random_uniform(4, 0, c) > 0.35) continue;
            int rating = 1 + (int)siren_random_below(4, 1, c, 5);
            long long time = 1500000000 + (long long)siren_random_below(4, 2, c, 1000) * 86400;
            at += sprintf(at, "u%d,i%d,%d,%lld\n", u, i, rating, time);
        }
    strcpy(path, scratch_write("ratings.csv", text, (size_t)(at - text)));
    at = text;
    at += sprintf(at, "item,title,categories\n");
    for (int i = 0; i < ITEMS; i++)
        at += sprintf(at, "i%d,%s story %d,%s|Films\n", i, words[i % GROUPS], i, words[i % GROUPS]);
    scratch_write("items.csv", text, (size_t)(at - text));
    free(text);
}

static void make_workspace(char path[256], const char *name)
{
    struct siren_workspace *ws;
    struct siren_import_options o;
    char ratings[256];
    write_ratings(ratings);
    snprintf(path, 256, "%s", scratch_path(name));
    siren_import_defaults(&o);
    o.items = scratch_path("items.csv");
    o.k_core = 0;
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_CREATE, &err));
    check(siren_import(ws, ratings, &o, NULL, NULL, &err));
    siren_workspace_close(ws);
}

/* Vectors by the group that the title names, with some noise. */
static void save_vectors(struct siren_workspace *ws, uint64_t seed)
{
    struct siren_items items;
    int64_t missing;
    int encoder;
    check(siren_items_load(&items, ws, &err));
    check(siren_encoder_add(ws, "made-up", D, 0, &encoder, &err));
    for (int32_t i = 0; i < items.n; i++) {
        float v[D];
        for (int j = 0; j < D; j++)
            v[j] = (float)(0.3 * siren_random_normal(seed, (uint64_t)i, (uint64_t)j));
        for (int g = 0; g < GROUPS; g++)
            if (!strncmp(items.item[i].title, words[g], strlen(words[g]))) v[g] += 4;
        check(siren_embeddings_save(ws, encoder, &i, 1, v, &items.item[i].hash, &err));
    }
    check(siren_encoder_finish(ws, encoder, &missing, &err));
    assert_int_equal(missing, 0);
    siren_items_clear(&items);
}

static struct siren_cluster_report make_topics(struct siren_workspace *ws, uint64_t seed)
{
    struct siren_cluster_report report;
    struct siren_cluster_options o = {.k = GROUPS, .seed = seed};
    check(siren_cluster_items(ws, &o, pool, &report, NULL, &err));
    return report;
}

static int topic_named(const struct siren_topics *t, const char *part)
{
    for (int c = 0; c < t->k; c++)
        if (strstr(t->name[c], part)) return c;
    fail_msg("no topic's name holds \"%s\"", part);
    return -1;
}

static void test_topics_and_names(void **state)
{
    char path[256];
    struct siren_workspace *ws;
    struct siren_topics t;
    make_workspace(path, "topics.siren");
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err));
    struct siren_cluster_options o = {.k = GROUPS};
    struct siren_cluster_report report;
    assert_int_equal(siren_cluster_items(ws, &o, pool, &report, NULL, &err), SIREN_ENOTFOUND);
    save_vectors(ws, 1);
    report = make_topics(ws, 1);
    assert_int_equal(report.k, GROUPS);
    assert_int_equal(report.named_by_tfidf, GROUPS);
    assert_int_equal(report.n_without, 0);
    assert_int_equal(report.n_users, USERS);
    check(siren_topics_load(&t, ws, &err));
    for (int g = 0; g < GROUPS; g++) topic_named(&t, words[g]);
    for (int i = GROUPS; i < t.n; i++) {
        assert_int_not_equal(t.second[i], t.topic[i]);
        assert_true(t.distance[i] < t.second_distance[i]);
    }
    int ocean = topic_named(&t, "Ocean");
    float centre[D];
    memcpy(centre, t.centre + ocean * D, sizeof centre);
    siren_topics_clear(&t);

    /* a name given by hand goes on to the topic that continues it */
    check(siren_topic_name(ws, ocean, "Below the waves", SIREN_NAME_HAND, &err));
    save_vectors(ws, 2);
    report = make_topics(ws, 5);
    assert_int_equal(report.named_by_hand, 1);
    check(siren_topics_load(&t, ws, &err));
    float *again = t.centre + topic_named(&t, "Below the waves") * D;
    for (int j = 0; j < D; j++) assert_true(fabsf(again[j] - centre[j]) < 0.6f);
    siren_topics_clear(&t);

    /* … and stays when the topics are only named again, until it is to be forgotten */
    check(siren_rename_topics(ws, &o, &report, NULL, &err));
    assert_int_equal(report.named_by_hand, 1);
    o.forget_names = 1;
    check(siren_rename_topics(ws, &o, &report, NULL, &err));
    assert_int_equal(report.named_by_hand, 0);
    assert_int_equal(report.named_by_tfidf, GROUPS);
    siren_workspace_close(ws);
}

/* ---- sketches ---- */

/* As of one moment: a correction may leave a state with a later time than a rebuild. */
static double decayed(const struct siren_topic_state *s, double value)
{
    if (s->time == SIREN_NO_TIME) return 0;
    return value * exp2(((double)s->time - 1.6e12) / (365.25 * DAY));
}

static int same_rows(struct siren_workspace *ws, struct siren_sketch_row **rows, size_t *n)
{
    struct siren_sketch_row *now;
    size_t n_now;
    check(siren_sketch_rows_load(ws, -1, &now, &n_now, &err));
    int same = n_now == *n;
    for (size_t i = 0; i < n_now && same; i++) {
        const struct siren_topic_state *a = &now[i].state, *b = &(*rows)[i].state;
        same = now[i].user == (*rows)[i].user && now[i].topic == (*rows)[i].topic &&
               a->weight == b->weight && a->sum == b->sum && a->liked == b->liked &&
               a->disliked == b->disliked &&
               fabs(decayed(a, a->decayed_weight) - decayed(b, b->decayed_weight)) < 1e-9 &&
               fabs(decayed(a, a->decayed_sum) - decayed(b, b->decayed_sum)) < 1e-9;
    }
    free(*rows);
    *rows = now, *n = n_now;
    return same;
}

/* Ratings added, corrected and late leave the stored sketches as a rebuild makes them. */
static void test_rating_equals_rebuilding(void **state)
{
    char path[256];
    struct siren_workspace *ws;
    struct siren_sketch_row *rows = NULL;
    size_t n = 0;
    make_workspace(path, "rate.siren");
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err));
    save_vectors(ws, 1);
    for (int soft = 0; soft < 2; soft++) {
        struct siren_cluster_report report;
        struct siren_cluster_options o = {.k = GROUPS, .seed = 1, .soft = soft};
        check(siren_cluster_items(ws, &o, pool, &report, NULL, &err));
        for (int i = 0; i < 200; i++) {
            struct siren_rate_result result;
            uint64_t c = (uint64_t)(soft * 1000 + i);
            int user = (int)siren_random_below(6, 0, c, USERS);
            int item = (int)siren_random_below(6, 1, c, ITEMS);
            int64_t time = (int64_t)(1500000000 + siren_random_below(6, 2, c, 1200) * 86400) * 1000;
            double rating = 1 + (double)siren_random_below(6, 3, c, 5);
            if (i % 7 == 0) time = SIREN_NO_TIME;
            check(siren_rate(ws, user, item, rating, time, &result, &err));
        }
        same_rows(ws, &rows, &n);
        check(siren_cluster_items(ws, &o, pool, &report, NULL, &err));
        assert_true(same_rows(ws, &rows, &n));
        assert_true(n > USERS);
    }
    free(rows);
    siren_workspace_close(ws);
}

enum { MANY = 1500 };

static int count_savepoints(unsigned event, void *count, void *statement, void *text)
{
    *(size_t *)count += !strncmp(text, "SAVEPOINT", 9);
    return 0;
}

/* More than are stored at a time, and not each user's by themselves. */
static void test_sketches_of_many(void **state)
{
    struct siren_workspace *ws;
    struct siren_import_options o;
    struct siren_sketch_row *rows;
    struct siren_topics t;
    char path[256], *text = malloc(MANY * GROUPS * 24), *at = text;
    size_t n, n_savepoints = 0;
    at += sprintf(at, "user,item,rating\n");
    for (int u = 0; u < MANY; u++)
        for (int g = 0; g < GROUPS; g++)
            at += sprintf(at, "u%d,i%d,%d\n", u, u % 10 * GROUPS + g, 1 + (u + g) % 5);
    make_workspace(path, "few.siren"); /* writes items.csv */
    siren_import_defaults(&o);
    o.items = scratch_path("items.csv");
    o.k_core = 0;
    snprintf(path, sizeof path, "%s", scratch_write("many.csv", text, (size_t)(at - text)));
    free(text);
    check(siren_workspace_open(&ws, scratch_path("many.siren"), SIREN_WORKSPACE_CREATE, &err));
    check(siren_import(ws, path, &o, NULL, NULL, &err));
    save_vectors(ws, 1);
    sqlite3_trace_v2(siren_workspace_db(ws), SQLITE_TRACE_STMT, count_savepoints, &n_savepoints);
    assert_int_equal(make_topics(ws, 1).n_users, MANY);
    assert_true(n_savepoints < 20);
    check(siren_topics_load(&t, ws, &err));
    check(siren_sketch_rows_load(ws, -1, &rows, &n, &err));
    assert_int_equal(n, MANY * GROUPS);
    for (size_t i = 0; i < n; i++) {
        int item = rows[i].user % 10 * GROUPS, g = 0;
        assert_int_equal(rows[i].user, i / GROUPS);
        while (g < GROUPS && t.topic[item + g] != rows[i].topic) g++;
        assert_true(g < GROUPS);
        assert_true(rows[i].state.weight == 1);
        assert_true(rows[i].state.sum == 1 + (rows[i].user + g) % 5);
    }
    free(rows);
    siren_topics_clear(&t);
    siren_workspace_close(ws);
}

static void test_user_sketch(void **state)
{
    char path[256];
    struct siren_workspace *ws;
    struct siren_app app;
    struct siren_sketch s;
    size_t n, n_all;
    make_workspace(path, "sketch.siren");
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err));
    save_vectors(ws, 1);
    make_topics(ws, 1);
    siren_workspace_close(ws);
    check(siren_app_open(&app, path, SIREN_WORKSPACE_READ, &err));
    const struct siren_ratings *r = &app.ratings;
    struct siren_when when = {SIREN_NO_ROW, SIREN_NO_TIME};
    check(siren_user_sketch(&app, 3, &when, NULL, &s, &n_all, &err));
    int64_t count = 0;
    for (size_t i = 0; i < s.n_liked; i++) count += s.liked[i].count;
    for (size_t i = 0; i < s.n_disliked; i++) count += s.disliked[i].count;
    assert_int_equal(count, n_all);
    assert_int_equal(n_all, r->user_start[4] - r->user_start[3]);
    siren_sketch_clear(&s);

    /* before a row, and before its time: the same ratings (no two times are equal here) */
    when.row = r->user_start[3] + n_all / 2;
    check(siren_user_sketch(&app, 3, &when, NULL, &s, &n, &err));
    siren_sketch_clear(&s);
    assert_int_equal(n, n_all / 2);
    when = (struct siren_when){SIREN_NO_ROW, r->time[when.row]};
    check(siren_user_sketch(&app, 3, &when, NULL, &s, &n, &err));
    siren_sketch_clear(&s);
    assert_true(n <= n_all / 2);

    when = (struct siren_when){r->user_start[5], SIREN_NO_TIME};
    assert_int_equal(siren_user_sketch(&app, 3, &when, NULL, &s, &n, &err), SIREN_EINVAL);
    when.row = SIREN_NO_ROW;
    assert_int_equal(siren_user_sketch(&app, 999, &when, NULL, &s, &n, &err), SIREN_ENOTFOUND);
    siren_app_close(&app);
}

/* ---- embedding, while others write ---- */

/* What another process does to the workspace when the first progress is told. */
struct meanwhile {
    void (*act)(struct siren_workspace *theirs);
    const char *path;
    int done, stop;
};

static int act_once(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct meanwhile *m = context;
    struct siren_workspace *theirs;
    if (!m->done++ && m->act) {
        check(siren_workspace_open(&theirs, m->path, SIREN_WORKSPACE_WRITE, &err));
        m->act(theirs);
        siren_workspace_close(theirs);
    }
    return m->stop;
}

static void add_an_item(struct siren_workspace *theirs)
{
    const struct siren_item item = {.external = "more", .title = "One more"};
    int id;
    check(siren_item_add(theirs, &item, &id, &err));
}

/* The same source under other settings: items go by other numbers, and there are fewer. */
static void import_again(struct siren_workspace *theirs)
{
    struct siren_import_options o;
    static const char csv[] = "user,item,rating,time\nz,i9,1,1\nz,i8,2,2\nu1,i7,3,3\n";
    siren_import_defaults(&o);
    o.k_core = 0;
    o.replace = 1;
    check(siren_import(theirs, scratch_write("again.csv", csv, sizeof csv - 1), &o, NULL, NULL,
                       &err));
}

static void expect_embedded(struct siren_workspace *ws, const char *identity, int n)
{
    struct siren_embeddings e;
    check(siren_embeddings_load(&e, ws, NULL, &err));
    assert_string_equal(e.identity, identity);
    assert_int_equal(e.n, n);
    for (int i = 0; i < e.n; i++) assert_true(e.has[i]);
    siren_embeddings_clear(&e);
}

/* An encoder takes over when all is embedded, not when it begins. */
static void test_embed_meanwhile(void **state)
{
    char path[256];
    struct siren_workspace *ws;
    struct siren_encoder encoder;
    struct siren_embed_report report;
    make_workspace(path, "meanwhile.siren");
    struct meanwhile m = {.path = path, .stop = 1};
    struct siren_progress progress = {act_once, &m};
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err));
    check(siren_encoder_open(&encoder, "tests/fixtures/models/bert", NULL, pool, &err));
    assert_int_equal(siren_embed_items(ws, &encoder, 0, &report, &progress, &err), SIREN_ECANCEL);
    struct siren_embeddings e;
    assert_int_equal(siren_embeddings_load(&e, ws, NULL, &err), SIREN_ENOTFOUND);
    assert_non_null(strstr(err.message, "no embeddings of all items yet"));
    save_vectors(ws, 1);
    assert_int_equal(siren_embed_items(ws, &encoder, 0, &report, &progress, &err), SIREN_ECANCEL);
    expect_embedded(ws, "made-up", ITEMS);

    m = (struct meanwhile){.path = path, .act = add_an_item};
    check(siren_embed_items(ws, &encoder, 0, &report, &progress, &err));
    assert_int_equal(report.n_embedded, ITEMS + 1);
    expect_embedded(ws, encoder.identity, ITEMS + 1);

    m = (struct meanwhile){.path = path, .act = import_again};
    check(siren_embed_items(ws, &encoder, 1, &report, &progress, &err));
    expect_embedded(ws, encoder.identity, 3);
    siren_encoder_close(&encoder);
    siren_workspace_close(ws);
}

static int stop_at_40(void *context, const char *what, uint64_t done, uint64_t total)
{
    return done >= 40;
}

/* What was embedded before it was stopped is stored, a batch of the engine or not. */
static void test_embed_stopped(void **state)
{
    char path[256];
    struct siren_workspace *ws;
    struct siren_encoder encoder;
    struct siren_embed_report report, rest;
    struct siren_progress progress = {stop_at_40, NULL};
    make_workspace(path, "stopped.siren");
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err));
    check(siren_encoder_open(&encoder, "tests/fixtures/models/bert", NULL, pool, &err));
    assert_int_equal(siren_embed_items(ws, &encoder, 0, &report, &progress, &err), SIREN_ECANCEL);
    assert_int_equal(report.n_items, ITEMS);
    assert_true(report.n_embedded > 0 && report.n_embedded < ITEMS);
    check(siren_embed_items(ws, &encoder, 0, &rest, NULL, &err));
    assert_int_equal(rest.n_kept, report.n_embedded);
    assert_int_equal(rest.n_embedded, ITEMS - report.n_embedded);
    expect_embedded(ws, encoder.identity, ITEMS);
    siren_encoder_close(&encoder);
    siren_workspace_close(ws);
}

static void name_by_hand(struct siren_workspace *theirs)
{
    check(siren_topic_name(theirs, 1, "By hand", SIREN_NAME_HAND, &err));
}

static void cluster_otherwise(struct siren_workspace *theirs)
{
    make_topics(theirs, 77);
}

static void embed_otherwise(struct siren_workspace *theirs)
{
    sqlite3_exec(siren_workspace_db(theirs), "UPDATE items SET hash = 1 WHERE id = 5", NULL, NULL,
                 NULL);
}

/* Who is in no way of the topics: their sketch is on the new ones, and a new item with a vector
 * is in one. */
static void rate_and_place(struct siren_workspace *theirs)
{
    const float v[D] = {0, 0, 4};
    struct siren_items items;
    int user, item, encoder;
    add_an_item(theirs);
    check(siren_item_add(theirs, &(struct siren_item){.external = "placed"}, &item, &err));
    check(siren_items_load(&items, theirs, &err));
    check(siren_encoder_add(theirs, "made-up", D, 0, &encoder, &err));
    check(siren_embeddings_save(theirs, encoder, &(int32_t){item}, 1, v, &items.item[item].hash,
                                &err));
    siren_items_clear(&items);
    check(siren_user_add(theirs, "new", &user, &err));
    check(siren_rate(theirs, user, item, 5, SIREN_NO_TIME, NULL, &err));
    check(siren_rate(theirs, user, ITEMS, 5, SIREN_NO_TIME, NULL, &err));
}

/* Of the meanwhile act: what the topics, or their names alone, come to. */
static int topics_meanwhile(struct siren_workspace *ws, void (*act)(struct siren_workspace *),
                            int names_only)
{
    struct siren_cluster_report report;
    struct siren_cluster_options o = {.k = GROUPS, .seed = 1};
    struct meanwhile m = {.path = siren_workspace_path(ws), .act = act};
    struct siren_progress progress = {act_once, &m};
    int rc = names_only ? siren_rename_topics(ws, &o, &report, &progress, &err)
                        : siren_cluster_items(ws, &o, pool, &report, &progress, &err);
    assert_true(m.done > 0);
    if (rc == SIREN_EBUSY) assert_non_null(strstr(err.message, "changed its items"));
    return rc;
}

static void expect_placed(struct siren_workspace *ws)
{
    struct siren_topics t;
    struct siren_sketch_row *rows;
    size_t n;
    check(siren_topics_load(&t, ws, &err));
    assert_int_equal(t.n, ITEMS + 2);
    assert_int_equal(t.topic[ITEMS], -1); /* it has no vector */
    int crime = t.topic[ITEMS + 1];
    assert_non_null(strstr(t.name[crime], "Crime"));
    assert_true(t.distance[ITEMS + 1] < t.second_distance[ITEMS + 1]);
    check(siren_sketch_rows_load(ws, USERS, &rows, &n, &err));
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].topic, crime);
    free(rows);
    siren_topics_clear(&t);
}

/* Topics are stored over what they rest on, and over nothing else. */
static void test_topics_meanwhile(void **state)
{
    static const struct {
        void (*act)(struct siren_workspace *);
        int changes; /* the topics themselves */
    } acts[] = {{embed_otherwise, 0}, {name_by_hand, 1}, {cluster_otherwise, 1}, {import_again, 1}};
    for (int i = 0; i < 4; i++) {
        char path[256];
        struct siren_workspace *ws;
        uint64_t before, after;
        make_workspace(path, "busy.siren");
        check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err));
        save_vectors(ws, 1);
        make_topics(ws, 1);
        assert_int_equal(topics_meanwhile(ws, rate_and_place, 0), SIREN_OK);
        expect_placed(ws);
        check(siren_topics_stamp(ws, &before, &err));
        assert_int_equal(topics_meanwhile(ws, acts[i].act, 0), SIREN_EBUSY);
        check(siren_topics_stamp(ws, &after, &err));
        assert_int_equal(before != after, acts[i].changes);
        siren_workspace_close(ws);
        remove(path);
    }
}

static void test_names_meanwhile(void **state)
{
    char path[256];
    struct siren_workspace *ws;
    struct siren_topics t;
    make_workspace(path, "names.siren");
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err));
    save_vectors(ws, 1);
    make_topics(ws, 1);
    assert_int_equal(topics_meanwhile(ws, add_an_item, 1), SIREN_OK);
    assert_int_equal(topics_meanwhile(ws, name_by_hand, 1), SIREN_EBUSY);
    check(siren_topics_load(&t, ws, &err));
    assert_string_equal(t.name[1], "By hand");
    siren_topics_clear(&t);
    assert_int_equal(topics_meanwhile(ws, cluster_otherwise, 1), SIREN_EBUSY);
    assert_int_equal(topics_meanwhile(ws, NULL, 1), SIREN_OK);
    siren_workspace_close(ws);
}

/* ---- the real encoder ---- */

/* A new item goes where the clustering would have put it. */
static void check_new_item(struct siren_workspace *ws, struct siren_encoder *encoder)
{
    struct siren_topics t;
    const struct siren_item item = {.external = "twin", .title = "A new one"};
    int id, topic, twin;
    check(siren_item_find(ws, "new", &twin, &err));
    check(siren_item_add(ws, &item, &id, &err));
    check(siren_place_item(ws, encoder, id, &topic, &err));
    check(siren_topics_load(&t, ws, &err));
    assert_int_equal(topic, t.topic[twin]);
    assert_int_equal(t.topic[id], topic);
    assert_true(t.distance[id] == t.distance[twin]);
    assert_int_equal(t.second[id], t.second[twin]);
    siren_topics_clear(&t);
}

static void test_embed(void **state)
{
    const char *models = real_models();
    char path[256], encoder_path[512];
    struct siren_workspace *ws;
    struct siren_encoder encoder;
    struct siren_embed_report report;
    struct siren_embeddings e;
    snprintf(encoder_path, sizeof encoder_path, "%s/all-minilm-l6-v2", models);
    make_workspace(path, "embed.siren");
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err));
    check(siren_encoder_open(&encoder, encoder_path, NULL, pool, &err));
    check(siren_embed_items(ws, &encoder, 0, &report, NULL, &err));
    assert_int_equal(report.n_embedded, ITEMS);
    check(siren_embeddings_load(&e, ws, encoder.identity, &err));
    for (int i = 0; i < e.n; i++) {
        double length = 0;
        for (int j = 0; j < e.d; j++) length += pow(e.vector[i * e.d + j], 2);
        assert_true(e.has[i] && fabs(length - 1) < 1e-5);
    }
    siren_embeddings_clear(&e);
    check(siren_embed_items(ws, &encoder, 0, &report, NULL, &err));
    assert_int_equal(report.n_embedded, 0);
    assert_int_equal(report.n_kept, ITEMS);
    const struct siren_item item = {.external = "new", .title = "A new one"};
    int id;
    check(siren_item_add(ws, &item, &id, &err));
    check(siren_embed_items(ws, &encoder, 0, &report, NULL, &err));
    assert_int_equal(report.n_embedded, 1);
    make_topics(ws, 1);
    check_new_item(ws, &encoder);
    siren_encoder_close(&encoder);
    siren_workspace_close(ws);
}

/* Whatever a small model answers: names that are neither empty nor equal. */
static void test_local_namer(void **state)
{
    const char *models = real_models();
    char path[256], model[512];
    struct siren_workspace *ws;
    struct siren_lm lm;
    struct siren_namer namer;
    struct siren_topics t;
    struct siren_cluster_report report;
    struct siren_cluster_options o = {.k = GROUPS, .seed = 1, .namer = &namer, .shown = 8};
    snprintf(model, sizeof model, "%s/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf",
             models);
    make_workspace(path, "namer.siren");
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err));
    save_vectors(ws, 1);
    check(siren_lm_open(&lm, model, NULL, pool, &err));
    siren_namer_local(&namer, &lm);
    check(siren_cluster_items(ws, &o, pool, &report, NULL, &err));
    assert_int_equal(report.named_by_model + report.named_by_tfidf, GROUPS);
    check(siren_topics_load(&t, ws, &err));
    for (int a = 0; a < t.k; a++) {
        assert_true(strlen(t.name[a]) > 0);
        for (int b = 0; b < a; b++) assert_string_not_equal(t.name[a], t.name[b]);
    }
    siren_topics_clear(&t);
    siren_lm_close(&lm);
    siren_workspace_close(ws);
}

#define SAYS(name)                                                                                 \
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"                                                 \
    "{\"choices\": [{\"message\": {\"role\": \"assistant\", \"content\": \"" name "\"}}]}"
#define REFUSES "HTTP/1.1 401 No\r\nConnection: close\r\n\r\n{\"error\": \"no such key\"}"

/* `siren topics` with names from the scripted server; returns the exit code. */
static int name_by_server(const char *path, struct server *server, const char *const *answers,
                          const char *more)
{
    char arguments[1024];
    assert_int_equal(server_start(server, answers), 0);
    snprintf(arguments, sizeof arguments,
             "topics %s --threads 1 --endpoint http://127.0.0.1:%d/v1 "
             "--endpoint-model big %s",
             path, server->port, more);
    int code = run_program("", arguments, NULL);
    server_stop(server);
    return code;
}

static void names_are(const char *path, int by_model, const char *const *names, int n)
{
    struct siren_workspace *ws;
    struct siren_topics t;
    int found = 0;
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_READ, &err));
    check(siren_topics_load(&t, ws, &err));
    assert_int_equal(t.k, GROUPS);
    for (int i = 0; i < n; i++) topic_named(&t, names[i]);
    for (int c = 0; c < t.k; c++) {
        found += t.name_source[c] == SIREN_NAME_LLM;
        assert_true(strlen(t.name[c]) > 0);
        for (int b = 0; b < c; b++) assert_string_not_equal(t.name[c], t.name[b]);
    }
    assert_int_equal(found, by_model);
    siren_topics_clear(&t);
    siren_workspace_close(ws);
}

/* A server's good names are taken; a repeated and an empty one give way to class-TF-IDF. */
static void test_endpoint_namer(void **state)
{
    char path[256];
    struct siren_workspace *ws;
    struct server server;
    make_workspace(path, "endpoint.siren");
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err));
    save_vectors(ws, 1);
    siren_workspace_close(ws);
    assert_int_equal(
        name_by_server(path, &server,
                       (const char *[]){SAYS("Theme: First of all"), SAYS("theme: first of ALL"),
                                        SAYS(""), SAYS("**Theme: The last one**"), NULL},
                       "--k 4 --seed 1 --json"),
        0);
    names_are(path, 2, (const char *[]){"First of all", "The last one"}, 2);
    expect_output("\"named_by\": \"model\"");
    expect_output("\"named_by\": \"tfidf\"");
    for (int i = 0; i < 4; i++) { /* each is asked about the items of one group */
        int shown = 0;
        for (int g = 0; g < GROUPS; g++) shown += strstr(server.requests[i], words[g]) != NULL;
        assert_int_equal(shown, 1);
    }
    /* No answer at all is an error that quotes the server, and what there was stays. */
    assert_int_equal(name_by_server(path, &server,
                                    (const char *[]){SAYS("Theme: Else"), REFUSES, NULL},
                                    "--names"),
                     1);
    expect_output("no such key");
    names_are(path, 2, (const char *[]){"First of all", "The last one"}, 2);
    char arguments[512];
    snprintf(arguments, sizeof arguments, "topics %s --endpoint http://127.0.0.1:1/v1", path);
    assert_int_equal(run_program("", arguments, NULL), 2);
    expect_output("--endpoint-model");
}

static void test_too_few_items(void **state)
{
    char path[256], arguments[512];
    struct siren_workspace *ws;
    make_workspace(path, "few.siren");
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err));
    save_vectors(ws, 1);
    siren_workspace_close(ws);
    snprintf(arguments, sizeof arguments, "topics %s --k %d --namer tfidf", path, ITEMS + 1);
    assert_int_equal(run_program("", arguments, NULL), 1);
    snprintf(arguments, sizeof arguments,
             "%d items with a vector are fewer than the %d topics: --k is at most %d", ITEMS,
             ITEMS + 1, ITEMS);
    expect_output(arguments);
}

/* One action at a time, and no option that it would not heed. */
static void test_ignored_options(void **state)
{
    static const char *const cases[][2] = {
        {"--list --rename 1 New", "--rename: --list shows the topics as they are"},
        {"--list --names", "--names: --list shows"},
        {"--list --k 7", "--k: --list shows"},
        {"--list -m x", "--model: --list shows"},
        {"--rename 1 New --names", "--names: --rename gives one topic a name"},
        {"--rename 1 New --soft", "--soft: --rename gives"},
        {"--rename 1 New --forget-names", "--forget-names: --rename gives"},
        {"--names --k 7", "--k: --names keeps the topics as they are"},
        {"--names --soft", "--soft: --names keeps"},
        {"--names --seed 2", "--seed: --names keeps"},
        {"--namer tfidf -m x", "--model: the topics are not named by a local model"},
        {"-m x --endpoint http://127.0.0.1:1/v1", "--model: the topics are not named by a local"},
        {"-m x --endpoint-model y", "--endpoint-model: the topics are not named by a server"},
        {"--shown 9", "--shown: no model names the topics"},
    };
    char path[256], arguments[512];
    make_workspace(path, "ignored.siren");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(arguments, sizeof arguments, "topics %s %s", path, cases[i][0]);
        if (run_program("", arguments, NULL) != 2) fail_msg("%s: %s", arguments, program_output);
        expect_output(cases[i][1]);
    }
}

static int set_up(void **state)
{
    signal(SIGPIPE, SIG_IGN); /* the server's, when a client goes away */
    if (find_program()) return -1;

    return siren_pool_create(&pool, 2, &err) || scratch_create(state);
}

static int tear_down(void **state)
{
    siren_pool_free(pool);
    return scratch_delete(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topics_and_names),
        cmocka_unit_test(test_rating_equals_rebuilding),
        cmocka_unit_test(test_sketches_of_many),
        cmocka_unit_test(test_user_sketch),
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_embed_meanwhile),
        cmocka_unit_test(test_embed_stopped),
        cmocka_unit_test(test_topics_meanwhile),
        cmocka_unit_test(test_names_meanwhile),
        cmocka_unit_test(test_local_namer),
        cmocka_unit_test(test_endpoint_namer),
        cmocka_unit_test(test_too_few_items),
        cmocka_unit_test(test_ignored_options),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
