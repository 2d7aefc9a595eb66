/* A new item finds its topic, with the real sentence encoder. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/model.h"
#include "real_models.h"
#include "siren/app.h"
#include "workspace_fixture.h"

static int add(struct siren_workspace *ws, const char *external, const char *title)
{
    int id;
    ok(siren_item_add(ws, &(struct siren_item){.external = external, .title = title}, &id, &err));
    return id;
}

/* Topic 0 is about cooking, topic 1 about war. */
static void make_topics(struct siren_workspace *ws, struct siren_encoder *encoder,
                        const char *identity)
{
    static const char *const texts[] = {"Title: Cooking pasta at home",
                                        "Title: Battle of Stalingrad"};
    struct siren_topics t;
    ok(siren_topics_create(&t, 2, encoder->d, 2, &err));
    ok(siren_encoder_embed(encoder, texts, 2, t.centre, NULL, &err));
    snprintf(t.encoder, sizeof t.encoder, "%s", identity);
    ok(siren_topics_save(ws, &t, &err));
    siren_topics_clear(&t);
}

static void test_place(void **state)
{
    const char *models = real_models();
    char path[500];
    struct siren_pool *pool;
    struct siren_encoder encoder;
    struct siren_rate_result rated;
    int topic;
    snprintf(path, sizeof path, "%s/all-minilm-l6-v2", models);
    ok(siren_pool_create(&pool, 1, &err));
    ok(siren_encoder_open(&encoder, path, NULL, pool, &err));
    struct siren_workspace *ws =
        import_text("place.siren", "user,item,rating\na,x,4\na,y,5\n", NULL, NULL);
    int alone = add(ws, "n0", "Tank warfare in 1943");
    ok(siren_place_item(ws, &encoder, alone, &topic, &err));
    assert_int_equal(topic, -1); /* no topics yet: embedded only */
    make_topics(ws, &encoder, encoder.identity);
    int soup = add(ws, "n1", "A hundred soups");
    ok(siren_place_item(ws, &encoder, soup, &topic, &err));
    assert_int_equal(topic, 0);
    ok(siren_place_item(ws, &encoder, alone, &topic, &err));
    assert_int_equal(topic, 1);
    assert_int_equal(number(ws, "SELECT count(*) FROM embeddings"), 2);
    assert_int_equal(number(ws, "SELECT second FROM item_topics WHERE item = 3"), 1);
    ok(siren_rate(ws, 0, soup, 5, SIREN_NO_TIME, &rated, &err));
    assert_int_equal(rated.topic, 0);
    assert_int_equal(number(ws, "SELECT liked FROM sketches WHERE user = 0 AND topic = 0"), 1);
    expect_error(siren_place_item(ws, &encoder, 99, &topic, &err), SIREN_ENOTFOUND, "id 99");
    make_topics(ws, &encoder, "another#1");
    expect_error(siren_place_item(ws, &encoder, soup, &topic, &err), SIREN_EINVAL, "another#1");
    /* A vector that is none is not stored. */
    int peas = add(ws, "n2", "A hundred peas");
    make_topics(ws, &encoder, encoder.identity);
    encoder.model->layers[3].ffn_in_bias[7] = NAN;
    expect_error(siren_place_item(ws, &encoder, peas, &topic, &err), SIREN_ENUMERIC,
                 "A hundred peas");
    assert_int_equal(number(ws, "SELECT count(*) FROM embeddings"), 2);
    siren_workspace_close(ws);
    siren_encoder_close(&encoder);
    siren_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_place)};
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
