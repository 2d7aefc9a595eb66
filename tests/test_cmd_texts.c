/* The commands that make texts and vectors, as a script runs them: on tiny models. */
/* check: portable */
#include "command_case.h"

#include <signal.h>
#include <sqlite3.h>

#include "terminal.h"
#include "tiny_lm.h"

static void logprobs_are_those_of_the_library(void **state)
{
    struct siren_pool *pool;
    struct siren_lm lm;
    struct siren_lm_options raw = {.raw = 1};
    struct siren_score s = {0};
    struct siren_tokens continuations[2];
    double expected[2];
    int32_t *ids[3];
    size_t n[3];
    static const char *const texts[3] = {"<|im_start|>ab 12", "3", " four"};
    json_t *out =
        json_of("logprobs --model tests/fixtures/models/smol --prompt '<|im_start|>ab 12' "
                "--continuations 3 --continuation ' four' --json");
    json_t *list = json_object_get(out, "logprobs");
    MUST(siren_pool_create(&pool, 1, ERR));
    MUST(siren_lm_open(&lm, "tests/fixtures/models/smol", &raw, pool, ERR));
    for (int i = 0; i < 3; i++)
        MUST(siren_tokenizer_encode(lm.tokenizer, texts[i], strlen(texts[i]), SIREN_ENCODE_PLAIN,
                                    &ids[i], &n[i], ERR));
    for (int i = 0; i < 2; i++) continuations[i] = (struct siren_tokens){ids[i + 1], n[i + 1]};
    s.prompt = (struct siren_tokens){ids[0], n[0]};
    s.continuations = continuations;
    s.n_continuations = 2;
    s.logprobs = expected;
    MUST(lm.calls->score(&lm, &s, 1, NULL, ERR));
    assert_int_equal(json_array_size(list), 2);
    for (size_t i = 0; i < 2; i++)
        assert_true(fabs(json_number_value(json_array_get(list, i)) - expected[i]) < 1e-12);
    for (int i = 0; i < 3; i++) free(ids[i]);
    json_decref(out);
    siren_lm_close(&lm);
    siren_pool_free(pool);
}

static void a_prompt_file_is_taken_to_the_last_byte(void **state)
{
    char arguments[512];
    json_t *with, *without;
    snprintf(arguments, sizeof arguments,
             "logprobs -m tests/fixtures/models/smol --prompt-file %s --continuations 1,2 --json",
             scratch_write("prompt.txt", "ab\n", 3));
    with = json_of(arguments);
    without =
        json_of("logprobs -m tests/fixtures/models/smol --prompt ab --continuations 1,2 --json");
    assert_false(json_equal(with, without));
    json_decref(with);
    json_decref(without);
}

static void any_number_of_continuations(void **state)
{
    json_t *out = json_of("logprobs -m tests/fixtures/models/smol -p ab --json --continuations "
                          "$(seq -s, 1 4100) --continuation 3");
    const json_t *list = json_object_get(out, "logprobs");
    assert_int_equal(json_array_size(list), 4101);
    assert_true(json_equal(json_array_get(list, 4100), json_array_get(list, 2)));
    json_decref(out);
    fails("logprobs -m tests/fixtures/models/smol -p ab --continuations 1,,3", 1,
          "continuation 2 has no tokens");
}

static void lines_become_vectors(void **state)
{
    int status;
    char command[512], *text, *rest, *line;
    int n = 0;
    snprintf(command, sizeof command, "embed-text --encoder tests/fixtures/models/bert --json < %s",
             scratch_write("lines.txt", "one\n\ntwo words", 14));
    text = output(command, &status);
    assert_int_equal(status, 0);
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), n++) {
        json_t *v = json_loads(line, 0, NULL);
        assert_true(json_array_size(v) > 4);
        json_decref(v);
    }
    assert_int_equal(n, 3);
}

/* Vectors of mode bf16 are near those of f32, and carry the mode in their encoder's name. */
static void vectors_in_bf16(void **state)
{
    json_t *v[2];
    struct siren_pool *pool;
    struct siren_encoder encoder;
    const struct siren_encoder_options mode = {.compute = "bf16"};
    char contract[32];
    double most = 0;
    for (int i = 0; i < 2; i++) {
        char arguments[256];
        snprintf(arguments, sizeof arguments,
                 "embed-text -e tests/fixtures/models/bert --json --compute %s < %s",
                 i ? "bf16" : "f32", scratch_write("one.txt", "two words\n", 10));
        v[i] = json_of(arguments);
    }
    for (size_t i = 0; i < json_array_size(v[0]); i++)
        most = fmax(most, fabs(json_number_value(json_array_get(v[0], i)) -
                               json_number_value(json_array_get(v[1], i))));
    assert_true(most > 0 && most < 0.05);
    json_decref(v[0]);
    json_decref(v[1]);
    MUST(siren_pool_create(&pool, 1, ERR));
    MUST(siren_encoder_open(&encoder, "tests/fixtures/models/bert", &mode, pool, ERR));
    snprintf(contract, sizeof contract, " (numerics %d)", SIREN_NUMERICS);
    assert_non_null(strstr(encoder.identity, ", bf16"));
    assert_non_null(strstr(encoder.identity, contract));
    assert_int_equal(!strcmp(siren_engine_isa(encoder.engine), "amx"),
                     strstr(encoder.identity, " on AMX") != NULL);
    assert_string_equal(siren_encoder_compute(encoder.identity), "bf16");
    siren_encoder_close(&encoder);
    MUST(siren_encoder_open(&encoder, "tests/fixtures/models/bert", NULL, pool, ERR));
    assert_null(strchr(encoder.identity, ','));
    assert_string_equal(siren_encoder_compute(encoder.identity), "f32");
    assert_string_equal(siren_encoder_compute("a, b#0123"), "f32");
    assert_string_equal(siren_encoder_compute(""), "f32");
    assert_string_equal(siren_encoder_compute("a#0123, bf16"), "bf16"); /* of an earlier build */
    assert_string_equal(siren_encoder_compute("a, b#0123, bf16 on AMX (numerics 7)"), "bf16");
    siren_encoder_close(&encoder);
    siren_pool_free(pool);
}

static void samples_depend_on_the_seed_only(void **state)
{
    static const char command[] = "generate -m tests/fixtures/models/smol --raw -p ab -n 3 "
                                  "--max-tokens 8 --temperature 1 --json --seed %d --threads %d";
    char first[512], second[512], third[512];
    json_t *a, *b, *c;
    snprintf(first, sizeof first, command, 1, 1);
    snprintf(second, sizeof second, command, 1, 2);
    snprintf(third, sizeof third, command, 2, 1);
    a = json_of(first);
    b = json_of(second);
    c = json_of(third);
    assert_int_equal(json_array_size(json_object_get(a, "samples")), 3);
    assert_true(json_equal(a, b));
    assert_false(json_equal(a, c));
    json_decref(a);
    json_decref(b);
    json_decref(c);
}

static void the_prompt_is_part_of_json(void **state)
{
    char arguments[512];
    json_t *out = json_of("generate -m tests/fixtures/models/smol --raw -p ab --max-tokens 2 "
                          "--show-prompt --json");
    has_text(out, "prompt", "ab");
    assert_int_equal(json_array_size(json_object_get(out, "samples")), 1);
    json_decref(out);
    snprintf(arguments, sizeof arguments,
             "generate -m tests/fixtures/models/smol --raw --prompt-file %s --max-tokens 2 "
             "--show-prompt --json",
             scratch_write("bytes.txt", "a\377b", 3));
    out = json_of(arguments);
    has_text(out, "prompt", "a�b");
    json_decref(out);
    out = json_of("generate -m tests/fixtures/models/smol --raw -p ab --max-tokens 2 --json");
    assert_null(json_object_get(out, "prompt"));
    json_decref(out);
}

/* As predict and rank do. */
static void who_generates_is_told_of_an_unknown_user(void **state)
{
    char path[256], arguments[2048];
    strcpy(path, fixture_workspace("unknown.siren", SIREN_PROTOCOL_FULL));
    for (int known = 0; known < 2; known++) {
        snprintf(arguments, sizeof arguments,
                 "generate %s -u %s -i i2 -m %s --chat-template %s --strategy recent "
                 "--max-tokens 2 --json",
                 path, known ? "u1" : "nobody", tiny_model("tiny"), fixture_template());
        json_t *out = json_of(arguments), *notes = json_object_get(out, "notes");
        if (!json_is_array(notes)) fail_msg("%s", program_output);
        const char *first = json_string_value(json_array_get(notes, 0));
        assert_int_equal(first && !strcmp(first, "unknown user"), !known);
        json_decref(out);
        if (!known) fails(arguments, 0, "nobody is not in the workspace: answered from the prompt");
    }
}

static void a_prompt_is_taken_whole_or_not(void **state)
{
    char arguments[1024], nul[256];
    strcpy(nul, scratch_write("nul.txt", "ab\0cd", 5));
    snprintf(arguments, sizeof arguments,
             "generate -m tests/fixtures/models/smol --raw --prompt-file %s", nul);
    fails(arguments, 1, "nul.txt: byte 2 is NUL, expected a text");
    snprintf(arguments, sizeof arguments, "generate -m tests/fixtures/models/smol --raw <%s", nul);
    fails(arguments, 1, "the prompt: byte 2 is NUL");
    snprintf(arguments, sizeof arguments,
             "logprobs -m tests/fixtures/models/smol --continuations 1 --prompt-file %s --chat "
             "--chat-template %s",
             nul, fixture_template());
    fails(arguments, 1, "nul.txt: byte 2 is NUL");
    fails("generate -m tests/fixtures/models/smol --raw </", 1,
          "the prompt on standard input cannot be read");
}

/* A signal once the first token is there: what was written stays, and the exit code says so. */
static void stop_a_streamed_text(int signal)
{
    char command[8192], text[1 << 16], *said;
    long pid = 0;
    int status;
    snprintf(command, sizeof command,
             "echo $$; exec '%s' generate -m %s --raw -p ab --max-tokens 9000 2>%s", program,
             tiny_model("tiny"), scratch_path("stderr"));
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%ld", &pid), 1);
    assert_int_equal(fgetc(pipe), '\n');
    text[0] = (char)fgetc(pipe);
    assert_int_equal(kill((pid_t)pid, signal), 0);
    size_t n = 1 + fread(text + 1, 1, sizeof text - 1, pipe);
    status = pclose(pipe);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 128 + signal);
    assert_true(n > 1);
    assert_int_equal(text[n - 1], '\n');
    MUST(siren_file_read(&said, &n, scratch_path("stderr"), 1 << 16, ERR));
    assert_non_null(strstr(said, "siren: stopped\n"));
    free(said);
}

static void a_streamed_text_is_stopped(void **state)
{
    stop_a_streamed_text(SIGINT);
    stop_a_streamed_text(SIGTERM);
}

/* Ctrl-C while it waits for lines: at once, and the exit code says that there may be more. */
static void embedding_of_lines_is_stopped(void **state)
{
    char command[8192], line[1 << 16];
    long pid = 0;
    snprintf(command, sizeof command,
             "mkfifo '%s'; exec 3<>'%s'; echo one >&3; echo $$; exec '%s' embed-text -e "
             "tests/fixtures/models/bert 2>/dev/null <&3",
             scratch_path("lines"), scratch_path("lines"), program);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%ld\n", &pid), 1);
    assert_non_null(fgets(line, sizeof line, pipe));
    assert_int_equal(kill((pid_t)pid, SIGINT), 0);
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 130);
}

/* Vectors that are stored. */
static int64_t stored_vectors(const char *path)
{
    sqlite3 *db;
    sqlite3_stmt *s;
    int64_t n = 0;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    if (!sqlite3_prepare_v2(db, "SELECT count(*) FROM embeddings", -1, &s, NULL) &&
        sqlite3_step(s) == SQLITE_ROW)
        n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return n;
}

/* Ctrl-C once some items have vectors: who stopped it is told how many, and how to go on. */
static void an_embedding_that_is_stopped_says_what_is_kept(void **state)
{
    enum { MANY = 100000 };
    char command[PATH_MAX + 1024], path[256], csv[256], says[100];
    long pid = 0;
    snprintf(path, sizeof path, "%s", scratch_path("many.siren"));
    snprintf(csv, sizeof csv, "%s", scratch_path("many.csv"));
    FILE *f = fopen(csv, "w");
    assert_non_null(f);
    fputs("user,item,rating\n", f);
    for (int i = 0; i < MANY; i++)
        fprintf(f, "u,item-%d-with-a-name-of-some-length,%d\n", i, i % 5);
    assert_int_equal(fclose(f), 0);
    snprintf(command, sizeof command, "import %s %s --k-core 0", path, csv);
    fails(command, 0, "");
    snprintf(command, sizeof command,
             "echo $$; exec '%s' embed %s -e tests/fixtures/models/bert --threads 1 2>%s", program,
             path, scratch_path("stderr"));
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%ld", &pid), 1);
    for (int i = 0; i < 6000 && !stored_vectors(path); i++) usleep(10000);
    assert_int_equal(kill((pid_t)pid, SIGINT), 0);
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 130);
    char *said;
    size_t size;
    MUST(siren_file_read(&said, &size, scratch_path("stderr"), 1 << 16, ERR));
    int n = (int)stored_vectors(path);
    assert_true(n > 0 && n < MANY);
    char *out = said;
    for (const char *p = said; (*out = *p); p++) out += *p != ','; /* 1,024 as 1024 */
    snprintf(says, sizeof says, "%d of %d items have a vector: the same command goes on", n, MANY);
    if (!strstr(said, says)) fail_msg("%s: %s", says, said);
    free(said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logprobs_are_those_of_the_library),
        cmocka_unit_test(who_generates_is_told_of_an_unknown_user),
        cmocka_unit_test(a_prompt_file_is_taken_to_the_last_byte),
        cmocka_unit_test(any_number_of_continuations),
        cmocka_unit_test(lines_become_vectors),
        cmocka_unit_test(vectors_in_bf16),
        cmocka_unit_test(samples_depend_on_the_seed_only),
        cmocka_unit_test(the_prompt_is_part_of_json),
        cmocka_unit_test(a_prompt_is_taken_whole_or_not),
        cmocka_unit_test(a_streamed_text_is_stopped),
        cmocka_unit_test(embedding_of_lines_is_stopped),
        cmocka_unit_test(an_embedding_that_is_stopped_says_what_is_kept),
    };
    return cmocka_run_group_tests(tests, command_setup, scratch_delete);
}
