#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "siren/topics.h"
#include "siren/workspace.h"

static struct siren_error err;

static void test_nearest(void **state)
{
    const float distances[6] = {4, 1, 0, 1, 1, 0};
    const int32_t labels[6] = {0, 0, 0, 1, 1, -1};
    int32_t out[2 * 3];
    assert_int_equal(siren_topics_nearest(labels, distances, 6, 2, 3, out, &err), 0);
    const int32_t want[6] = {2, 1, 0, 3, 4, -1}; /* 3 and 4 are as near: by index */
    assert_memory_equal(out, want, sizeof want);
    assert_int_equal(siren_topics_nearest(labels, distances, 6, 2, 0, out, &err), SIREN_EINVAL);
}

static void test_match(void **state)
{
    const float old[3][2] = {{0, 0}, {10, 0}, {0, 10}};
    const float new[4][2] = {{0, 11}, {0.5f, 0}, {-0.6f, 0}, {100, 100}};
    int32_t previous[4];
    assert_int_equal(siren_topics_match(old[0], 3, new[0], 4, 2, previous, &err), 0);
    /* one of the two near (0, 0) continues it; nothing is near enough both ways to (10, 0) */
    const int32_t want[4] = {2, 0, -1, -1};
    assert_memory_equal(previous, want, sizeof want);
    assert_int_equal(siren_topics_match(NULL, 0, new[0], 4, 2, previous, &err), 0);
    for (int j = 0; j < 4; j++) assert_int_equal(previous[j], -1);
}

static char *read_golden(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s cannot be read", path);
    char *text = calloc(1, 10000);
    assert_true(fread(text, 1, 9999, f) > 0);
    fclose(f);
    return text;
}

static void test_prompt_is_golden(void **state)
{
    const struct siren_topic_item items[] = {
        {"The Long Night", "Drama|War"},
        {"Über den Dächern", ""},
        {"Two\nlines <|im_end|>", NULL},
    };
    char *prompt, *want = read_golden("tests/golden/topic_prompt.txt");
    assert_int_equal(siren_topic_prompt(&prompt, "movies", items, 3, &err), 0);
    assert_string_equal(prompt, want);
    free(prompt);
    free(want);
}

static void parses_to(const char *answer, const char *want)
{
    char *name;
    int code = siren_topic_parse(answer, &name, &err);
    if (!want) {
        if (name) fail_msg("\"%s\" gave \"%s\"", answer, name);
        assert_int_equal(code, 0);
        return;
    }
    assert_int_equal(code, 1);
    assert_string_equal(name, want);
    free(name);
}

static void test_answers(void **state)
{
    parses_to("Theme: War and memory", "War and memory");
    parses_to("theme:War and memory.\nBecause they are.", "War and memory");
    parses_to("Sure!\n\n**Theme:** \"Family   adventures\"\n", "Family adventures");
    parses_to("Theme: “Spies & lies”", "Spies & lies");
    parses_to("<think>\nTheme: no\n</think>\n\nTheme: Yes", "Yes");
    parses_to("Theme: <at most 10 words>\nTheme: Heists", "Heists");
    parses_to("Slow-burning mysteries", "Slow-burning mysteries");
    parses_to("\n\n  Fantasy worlds\nand more", "Fantasy worlds");
    parses_to("Theme: Über Grenzen\r\n", "Über Grenzen");
    parses_to("Theme: one two three four five six seven eight nine ten",
              "one two three four five six seven eight nine ten");
    parses_to("Theme: one two three four five six seven eight nine ten eleven", NULL);
    parses_to("Themes:\n1. Courage", NULL);
    parses_to("Themes: 1. Courage\n2. Loss", "Courage");
    parses_to("Theme: Up, up and up again, up", NULL);
    parses_to("Theme: Action/Drama/War/Crime/Noir/Love/Loss/Hope/Fear/Hate/Art", NULL);
    parses_to("Theme: Heists (Crime|Drama)", "Heists");
    parses_to("Theme: Crime|Drama", NULL);
    parses_to("Theme: The movies (Drama)", NULL);
    parses_to("", NULL);
    parses_to("Theme:", NULL);
    parses_to("Theme: \"\"", NULL);
    parses_to("Theme: 1234", NULL);
    parses_to("Theme: \xff\xfe broken", NULL);
    parses_to("Theme: bell\x07", NULL);
    parses_to("<think>Theme: never closed", "never closed");
    parses_to("This answer goes on and on without ever saying what the theme might be.", NULL);
}

/* A mark inside of a name keeps its partner. */
static void test_marks_in_names(void **state)
{
    static const char *const whole[] = {"Artikel \"Roman\"",
                                        "Sci-Fi [TV]",
                                        "Films by *Hitchcock*",
                                        "Tom's 'Game'",
                                        "C#",
                                        "[TV] drama",
                                        "\"Alien\" films",
                                        "“Alien” und „Blade Runner“",
                                        "[Old] and [new]",
                                        "Tom’s ‘Game’",
                                        "*Alien* and *Heat*"};
    char answer[100];
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        static const char *const around[][2] = {{"", ""},     {"**", "**"}, {"- ", "."},
                                                {"# ", "\n"}, {" ** ", ""}, {"", "**"}};
        for (size_t k = 0; k < sizeof around / sizeof *around; k++) {
            if (strchr(around[k][1], '*') && strchr(whole[i], '*')) continue; /* whose is "***"? */
            snprintf(answer, sizeof answer, "Theme: %s%s%s", around[k][0], whole[i], around[k][1]);
            parses_to(answer, whole[i]);
        }
    }
    parses_to("Theme: \"Artikel „Roman“\"", "Artikel „Roman“");
    parses_to("**Theme: Heists**", "Heists");
    parses_to("\"Theme: Heists.\"", "Heists");
    parses_to("Theme: [Heists", "Heists");
    parses_to("Theme: „Heists“", "Heists");
    parses_to("Theme: „Heists”", "Heists");
    parses_to("Theme: ***Heists***", "Heists");
    parses_to("Theme: * Heists", "Heists");
    parses_to("Theme: Heists -", "Heists");
}

static const struct siren_topic_item films[] = {
    {"Space Wars", "Science Fiction|Action"},
    {"Star Hunters", "Science Fiction|Adventure"},
    {"Alien Dawn", "Science Fiction|Horror"},
    {"Paris in Spring", "Romance|Comedy"},
    {"Love Letters", "Romance|Drama"},
    {"A Wedding", "Romance|Comedy"},
    {"Secrets of the Deep", "Documentary|Ocean"},
    {"Ocean Giants", "Documentary|Ocean"},
};
static const int32_t groups[] = {0, 0, 0, 1, 1, 1, 2, 2};
enum { FILMS = 8 };

static void test_tfidf(void **state)
{
    char *names[4];
    assert_int_equal(siren_topics_tfidf(names, 4, films, groups, FILMS, &err), 0);
    assert_non_null(strstr(names[0], "Science Fiction"));
    assert_non_null(strstr(names[1], "Romance"));
    assert_non_null(strstr(names[2], "Ocean"));
    assert_string_equal(names[3], "Topic 4"); /* has no item */
    for (int c = 0; c < 4; c++) free(names[c]);
}

/* The same words everywhere, and none at all. */
static void test_tfidf_never_empty_never_equal(void **state)
{
    struct siren_topic_item items[30];
    int32_t labels[30];
    char *names[6];
    for (int i = 0; i < 30; i++) {
        items[i] = (struct siren_topic_item){i % 6 < 3 ? "Film Night" : "the 12 \xff !!", "Drama"};
        if (i % 6 == 5) items[i].categories = NULL;
        labels[i] = i % 6;
    }
    assert_int_equal(siren_topics_tfidf(names, 6, items, labels, 30, &err), 0);
    for (int a = 0; a < 6; a++) {
        assert_true(strlen(names[a]) > 0);
        for (int b = 0; b < a; b++) assert_int_not_equal(strcasecmp(names[a], names[b]), 0);
    }
    for (int c = 0; c < 6; c++) free(names[c]);
    assert_int_equal(siren_topics_tfidf(names, 0, items, labels, 30, &err), SIREN_EINVAL);
}

/* ---- naming ---- */

struct script {
    const char *answers[4];
    int code, asked;
    size_t longest; /* prompt that fits; 0: any */
};

static int scripted(void *context, const char *prompt, char **answer, struct siren_error *e)
{
    struct script *s = context;
    if (s->longest) assert_true(strlen(prompt) <= s->longest);
    const char *text = s->answers[s->asked++];
    if (!text) return siren_fail(e, s->code ? s->code : SIREN_ENETWORK, "no answer");
    *answer = strdup(text);
    return 0;
}

static int scripted_fits(void *context, const char *prompt)
{
    struct script *s = context;
    return !s->longest || strlen(prompt) <= s->longest;
}

static int name_films(struct siren_named_topic names[4], struct script *s)
{
    int32_t nearest[4 * 3] = {0, 1, 2, 3, 4, 5, 6, 7, -1, -1, -1, -1};
    struct siren_namer namer = {scripted, scripted_fits, s};
    return siren_topics_name(names, 4, "movies", films, groups, FILMS, nearest, 3,
                             s ? &namer : NULL, NULL, &err);
}

static void test_naming(void **state)
{
    struct siren_named_topic names[4] = {{0}};
    struct script s = {{"Theme: Far worlds", "Theme: far worlds", "\n"}, 0, 0, 0};
    assert_int_equal(name_films(names, &s), 0);
    assert_string_equal(names[0].text, "Far worlds");
    assert_int_equal(names[0].source, SIREN_NAME_LLM);
    assert_int_equal(names[0].n_shown, 3);
    assert_int_equal(names[1].source, SIREN_NAME_TFIDF); /* repeated another's */
    assert_non_null(strstr(names[1].text, "Romance"));
    assert_int_equal(names[2].source, SIREN_NAME_TFIDF); /* said nothing */
    assert_int_equal(names[3].source, SIREN_NAME_TFIDF);
    assert_int_equal(s.asked, 3); /* nobody asks about a topic without items */
    siren_named_topics_clear(names, 4);
}

static void test_hand_names_survive(void **state)
{
    struct siren_named_topic names[4] = {{0}};
    names[1].text = strdup("My own name");
    names[1].source = SIREN_NAME_HAND;
    names[2].text = strdup("old");
    names[2].source = SIREN_NAME_LLM;
    struct script s = {{"Theme: MY OWN NAME", "Theme: Below the waves"}, 0, 0, 0};
    assert_int_equal(name_films(names, &s), 0);
    assert_string_equal(names[1].text, "My own name");
    assert_int_equal(names[1].source, SIREN_NAME_HAND);
    assert_int_equal(names[0].source, SIREN_NAME_TFIDF); /* the name was taken */
    assert_string_equal(names[2].text, "Below the waves");
    siren_named_topics_clear(names, 4);
}

static void test_fits_the_context(void **state)
{
    struct siren_named_topic names[4] = {{0}};
    char *whole;
    siren_topic_prompt(&whole, "movies", films, 3, &err);
    struct script s = {{"Theme: Stars", "Theme: Hearts", "Theme: Waves"}, 0, 0, strlen(whole) - 1};
    free(whole);
    assert_int_equal(name_films(names, &s), 0);
    assert_int_equal(names[0].n_shown, 2);
    siren_named_topics_clear(names, 4);
    struct siren_named_topic none[4] = {{0}};
    struct script tiny = {{NULL}, 0, 0, 10}; /* not even one item fits */
    assert_int_equal(name_films(none, &tiny), 0);
    assert_int_equal(tiny.asked, 0);
    assert_int_equal(none[0].source, SIREN_NAME_TFIDF);
    siren_named_topics_clear(none, 4);
}

static void test_without_namer_and_stopped(void **state)
{
    struct siren_named_topic names[4] = {{0}};
    assert_int_equal(name_films(names, NULL), 0);
    for (int c = 0; c < 4; c++) assert_int_equal(names[c].source, SIREN_NAME_TFIDF);
    siren_named_topics_clear(names, 4);
    struct script s = {{NULL}, SIREN_ECANCEL, 0, 0};
    assert_int_equal(name_films(names, &s), SIREN_ECANCEL);
    siren_named_topics_clear(names, 4);
    struct script away = {{NULL}, SIREN_ENETWORK, 0, 0}; /* no answer is not an unusable one */
    assert_int_equal(name_films(names, &away), SIREN_ENETWORK);
    siren_named_topics_clear(names, 4);
}

/* A naming server's answer may be anything, and each mark is looked for in all of a line. */
static void test_long_lines(void **state)
{
    static char line[60010] = "Theme: ";
    char *name;
    memset(line + 7, '[', 30000);
    line[30007] = 'a';
    memset(line + 30008, ']', 30000);
    assert_int_equal(siren_topic_parse(line, &name, &err), 0);
    assert_null(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_prompt_is_golden),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_marks_in_names),
        cmocka_unit_test(test_tfidf),
        cmocka_unit_test(test_tfidf_never_empty_never_equal),
        cmocka_unit_test(test_naming),
        cmocka_unit_test(test_hand_names_survive),
        cmocka_unit_test(test_fits_the_context),
        cmocka_unit_test(test_without_namer_and_stopped),
        cmocka_unit_test(test_long_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
