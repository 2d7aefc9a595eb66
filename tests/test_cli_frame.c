/* The frame of the command line from inside: values, tables, numbers, progress. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/frame.h"
#include "cli/report.h"
#include "cli/training_command.h"
#include "siren/file.h"
#include "terminal.h"

static struct cli_state state_of;
static struct cli cli;

static const struct cli_option options[] = {
    {.name = "top",
     .letter = 'n',
     .type = CLI_INT,
     .initial = "10",
     .min = 1,
     .max = 100,
     .help = "how many"},
    {.name = "ratio", .type = CLI_FLOAT, .help = "share", .environment = "SIREN_TEST_RATIO"},
    {.name = "by", .type = CLI_CHOICE, .choices = "mean|median", .initial = "mean", .help = "how"},
    {.name = "column", .type = CLI_STRING, .help = "repeatable"},
    {0}};

static const struct cli_command command = {.name = "test",
                                           .usage = "WORKSPACE [FILE...]",
                                           .common = CLI_JSON | CLI_THREADS | CLI_MODEL,
                                           .options = options};

/* Checks of values do not depend on which commands there are, so this goes
 * around the search for the command. */
static void give(const char *name, const char *text)
{
    const struct cli_option *o = cli_find_option(&command, name, strlen(name));
    assert_non_null(o);
    static struct cli_value values[16];
    state_of.values = values;
    values[state_of.n_values++] = (struct cli_value){o, text};
}

static int fresh(void **state)
{
    state_of = (struct cli_state){0};
    cli = (struct cli){.state = &state_of, .command = &command};
    unsetenv("SIREN_TEST_RATIO");
    unsetenv("SIREN_MODEL");
    return 0;
}

static void test_values(void **state)
{
    assert_int_equal(cli_int(&cli, "top"), 10);
    assert_false(cli_given(&cli, "top"));
    assert_string_equal(cli_string(&cli, "by"), "mean");
    assert_int_equal(cli_choice(&cli, "by"), 0);
    give("by", "median");
    assert_int_equal(cli_choice(&cli, "by"), 1);
    assert_null(cli_string(&cli, "column"));
    give("top", "3");
    give("top", "4");
    give("column", "a=b");
    give("column", "c=d");
    give("json", "1");
    assert_int_equal(cli_int(&cli, "top"), 4);
    assert_int_equal(cli_count(&cli, "column"), 2);
    assert_string_equal(cli_string_at(&cli, "column", 0), "a=b");
    assert_string_equal(cli_string_at(&cli, "column", 1), "c=d");
    assert_null(cli_string_at(&cli, "column", 2));
    assert_true(cli_flag(&cli, "json"));
    setenv("SIREN_TEST_RATIO", "0.5", 1);
    assert_true(cli_float(&cli, "ratio") == 0.5);
    assert_true(cli_given(&cli, "ratio"));
    give("ratio", "0.25");
    assert_true(cli_float(&cli, "ratio") == 0.25);
}

/* What the table must hold for help, manual and completion to read well. */
static void test_commands(void **state)
{
    for (size_t i = 0; cli_commands[i]; i++) {
        const struct cli_command *c = cli_commands[i];
        assert_true(i == 0 || strcmp(cli_commands[i - 1]->name, c->name) < 0);
        assert_true(strlen(c->name) <= 16);
        assert_non_null(c->run);
        assert_non_null(c->description);
        assert_true(c->summary[0] >= 'a' && c->summary[0] <= 'z');
        assert_true(c->summary[strlen(c->summary) - 1] != '.');
        assert_non_null(c->examples);
        assert_non_null(c->examples[0].command);
        for (const struct cli_example *e = c->examples; e->command; e++) {
            assert_non_null(strstr(e->command, c->name));
            assert_non_null(e->explanation);
        }
        const struct cli_option *o;
        for (size_t k = 0; (o = cli_option_at(c, k)); k++) {
            assert_non_null(o->help);
            assert_true(o->help[strlen(o->help) - 1] != '.');
            assert_true((o->type == CLI_CHOICE) == (o->choices != NULL));
            assert_ptr_equal(cli_find_option(c, o->name, strlen(o->name)), o); /* declared once */
            const struct cli_option *other;
            for (size_t j = 0; j < k && o->letter; j++)
                if ((other = cli_option_at(c, j))->letter == o->letter)
                    fail_msg("siren %s: -%c is --%s and --%s", c->name, o->letter, other->name,
                             o->name);
        }
    }
}

static void test_need(void **state)
{
    assert_null(cli_need(&cli, "model"));
    assert_int_equal(cli.err.code, SIREN_EINVAL);
    assert_true(state_of.usage_error);
    assert_non_null(strstr(cli.err.message, "--model FILE-OR-DIR is needed (or the environment "
                                            "variable SIREN_MODEL)"));
    setenv("SIREN_MODEL", "m.gguf", 1);
    assert_string_equal(cli_need(&cli, "model"), "m.gguf");
}

static void test_pool(void **state)
{
    give("threads", "2");
    struct siren_pool *pool = cli_pool(&cli);
    assert_non_null(pool);
    assert_int_equal(siren_pool_threads(pool), 2);
    assert_ptr_equal(cli_pool(&cli), pool);
    siren_pool_free(pool);
}

static void test_numbers(void **state)
{
    assert_string_equal(cli_number(0), "0");
    assert_string_equal(cli_number(999), "999");
    assert_string_equal(cli_number(1000), "1,000");
    assert_string_equal(cli_number(UINT64_MAX), "18,446,744,073,709,551,615");
    assert_string_equal(cli_bytes(999), "999 bytes");
    assert_string_equal(cli_bytes(98362432), "98.4 MB");
    assert_string_equal(cli_bytes(123456), "123 kB");
    assert_string_equal(cli_bytes(UINT64_MAX), "18.4 EB");
    assert_string_equal(cli_seconds(0.0000123), "12 µs");
    assert_string_equal(cli_seconds(0.0123), "12.3 ms");
    assert_string_equal(cli_seconds(0.123), "123 ms");
    assert_string_equal(cli_seconds(1.23), "1.2 s");
    assert_string_equal(cli_seconds(59), "59 s");
    assert_string_equal(cli_seconds(200), "3 min 20 s");
    assert_string_equal(cli_seconds(7260), "2 h 1 min");
}

static void test_width(void **state)
{
    assert_int_equal(cli_text_width("abc"), 3);
    assert_int_equal(cli_text_width("é"), 1);
    assert_int_equal(cli_text_width("e\xcc\x81"), 1); /* a combining accent */
    assert_int_equal(cli_text_width("日本"), 4);
    assert_int_equal(cli_text_width("👨\xe2\x80\x8d👩"), 2); /* joined */
    assert_int_equal(cli_text_width("\xff"), 1);
    assert_int_equal(cli_text_width(""), 0);
}

/* What `print` writes to a stream of its process, through a temporary file. */
static char *captured(FILE *stream, void (*print)(void))
{
    static char text[8192];
    int descriptor = fileno(stream);
    fflush(stream);
    FILE *file = tmpfile();
    int saved = dup(descriptor);
    dup2(fileno(file), descriptor);
    print();
    fflush(stream);
    dup2(saved, descriptor);
    close(saved);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    return text;
}

static void print_table(void)
{
    struct cli_table *t = cli_table_create("Model|MAE|Title", "lrL");
    cli_table_cell(t, "%s", "mean");
    cli_table_cell(t, "%.4f", 0.7995);
    cli_table_cell(t, "%s", "日本");
    cli_table_rule(t);
    cli_table_cell(t, "%s", "é");
    cli_table_cell(t, "%d", 1);
    cli_table_cell(t, "%s", "x");
    cli_table_print(&cli, t);
    cli_table_cell(NULL, "%d", 1);
    cli_table_rule(NULL);
    cli_table_print(&cli, NULL);
}

static void test_table(void **state)
{
    assert_string_equal(captured(stdout, print_table), "Model     MAE  Title\n"
                                                       "─────  ──────  ─────\n"
                                                       "mean   0.7995  日本\n"
                                                       "─────  ──────  ─────\n"
                                                       "é           1  x\n");
}

static void print_hostile_table(void)
{
    struct cli_table *t = cli_table_create("Title|No.", "Lr");
    cli_table_cell(t, "%s", "\x1b[2J\xc2\x9b\n\xff");
    cli_table_cell(t, "%d", 1);
    cli_table_cell(t, "%s", "\001"); /* no rule */
    cli_table_cell(t, "%d", 2);
    cli_table_print(&cli, t);
}

static void test_hostile_table(void **state)
{
    assert_string_equal(captured(stdout, print_hostile_table), "Title    No.\n"
                                                               "───────  ───\n"
                                                               "␛[2J�␊�    1\n"
                                                               "␁          2\n");
}

static void print_wide_table(void)
{
    struct cli_table *t = cli_table_create("Title|No.", "Lr");
    cli_table_cell(t, "%s", "七人の侍七人の侍");
    cli_table_cell(t, "%d", 1);
    cli_table_cell(t, "%s", "\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b");
    cli_table_cell(t, "%d", 2);
    cli_table_print(&cli, t);
}

/* What `print` gives a terminal of so many columns. */
static char *on_terminal(int columns, void (*print)(void))
{
    static char text[8192];
    int other, own = terminal_open(columns, &other);
    int saved[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    fflush(stdout);
    dup2(other, STDOUT_FILENO);
    dup2(other, STDERR_FILENO);
    print();
    fflush(stdout);
    dup2(saved[0], STDOUT_FILENO);
    dup2(saved[1], STDERR_FILENO);
    close(saved[0]);
    close(saved[1]);
    ssize_t n = read(own, text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = 0;
    close(other);
    close(own);
    return text;
}

static void test_narrow_table(void **state)
{
    assert_string_equal(on_terminal(15, print_wide_table), "Title       No.\n"
                                                           "──────────  ───\n"
                                                           "七人の侍…     1\n"
                                                           "␛␛␛␛␛␛␛␛␛…    2\n");
}

#define FAMILY "👨\xe2\x80\x8d👩"

static void print_joined(void)
{
    struct cli_table *t = cli_table_create("Title|No.", "Lr");
    cli_table_cell(t, "%s", FAMILY FAMILY FAMILY FAMILY FAMILY FAMILY);
    cli_table_cell(t, "%d", 1);
    cli_table_print(&cli, t);
}

/* What is joined takes as much of a cell that is cut as of one that is measured. */
static void test_joined_in_a_narrow_table(void **state)
{
    assert_string_equal(on_terminal(15, print_joined),
                        "Title       No.\n"
                        "──────────  ───\n" FAMILY FAMILY FAMILY FAMILY "…     1\n");
}

static void print_names(void)
{
    struct cli_table *t = cli_table_create("Name|No.", "Mr");
    cli_table_cell(t, "%s", "rating habit (train)");
    cli_table_cell(t, "%d", 1);
    cli_table_cell(t, "%s", "七人の侍七人の侍");
    cli_table_cell(t, "%d", 2);
    cli_table_print(&cli, t);
}

static void test_narrow_names(void **state)
{
    assert_string_equal(on_terminal(16, print_names), "Name         No.\n"
                                                      "───────────  ───\n"
                                                      "rating h…n)    1\n"
                                                      "七人の侍…侍    2\n");
}

static void print_texts(void)
{
    cli_print(&cli, "%s\n", "a\x1b]0;b\a");
    cli_print_text(&cli, "\xe2\x82\x1b\n", 4, 0);
    assert_int_equal(cli_print_text(&cli, "x\xe2\x82", 3, 1), isatty(STDOUT_FILENO) ? 1 : 3);
}

static void note_something(void)
{
    cli_note(&cli, "%s is not there",
             "\x9b"
             "31m");
    cli_progress_note(&cli, "%s",
                      "\x1b"
                      "c");
}

/* Foreign text is a mark for people; the output itself only where a terminal gets it. */
static void test_texts(void **state)
{
    assert_string_equal(captured(stdout, print_texts), "a␛]0;b␇\n\xe2\x82\x1b\nx\xe2\x82");
    assert_string_equal(on_terminal(80, print_texts), "a␛]0;b␇\n��␛\nx");
    assert_string_equal(captured(stderr, note_something), "�31m is not there\n␛c\n");
}

static void print_some_json(void)
{
    cli_print_json(&cli, json_pack("{s:[f,f], s:s}", "x", 0.1, -1.5, "y", "é"));
    assert_int_equal(cli_print_json(&cli, NULL), SIREN_ENOMEM);
}

static void test_json(void **state)
{
    assert_string_equal(captured(stdout, print_some_json), "{\"x\": [0.1, -1.5], \"y\": \"é\"}\n");
}

static void print_wrapped(void)
{
    cli_wrap(stdout, "one two three\n\n  kept   as it is\nfour five six seven", 0, 2, 14);
}

static void test_wrap(void **state)
{
    assert_string_equal(captured(stdout, print_wrapped), "  one two\n"
                                                         "  three\n"
                                                         "\n"
                                                         "    kept   as it is\n"
                                                         "  four five\n"
                                                         "  six seven\n");
}

static void work(void)
{
    const struct siren_progress *p = cli_progress(&cli);
    assert_int_equal(siren_progress_update(p, "prompts", 0, 100), 0);
    state_of.started -= 20; /* as if it had begun 20 s ago */
    state_of.drawn -= 20;
    assert_int_equal(siren_progress_update(p, "prompts", 50, 100), 0);
    assert_int_equal(siren_progress_update(p, "prompts", 51, 100), 0);
    assert_int_equal(siren_progress_update(p, "prompts", 100, 100), 0);
    cli_note(&cli, "note %d", 1);
    assert_int_equal(siren_progress_update(p, "bytes", 5000, 0), 0);
    cli_progress_end(&cli);
}

static void test_progress(void **state)
{
    assert_string_equal(captured(stderr, work), " 50 %  50 of 100 prompts  2.5/s, 20 s left\n"
                                                "100 of 100 prompts in 20 s (5.0/s)\n"
                                                "note 1\n");
    cli.quiet = 1;
    state_of.what[0] = 0;
    assert_string_equal(captured(stderr, work), "");
}

static void work_with_news(void)
{
    const struct siren_progress *p = cli_progress(&cli);
    siren_progress_update(p, "steps", 0, 40);
    state_of.started -= 20;
    state_of.drawn -= 20;
    siren_progress_update(p, "steps: loss 0.50, 1,000 tokens/s", 10, 40);
    state_of.drawn -= 20;
    siren_progress_update(p, "steps: loss 0.40", 20, 40);
    cli_progress_end(&cli);
}

static void test_news(void **state)
{
    cli.quiet = 0;
    assert_string_equal(captured(stderr, work_with_news),
                        " 25 %  10 of 40 steps  0.50/s, 1 min 0 s left  loss 0.50, 1,000 tokens/s\n"
                        " 50 %  20 of 40 steps  1.00/s, 20 s left  loss 0.40\n"
                        "20 of 40 steps in 20 s (1.00/s)  loss 0.40\n");
}

static void train_for_hours(void)
{
    const struct siren_progress *p = cli_progress(&cli);
    siren_progress_update(p, "rows", 0, 8192);
    state_of.started -= 8000;
    state_of.drawn -= 20;
    siren_progress_update(p, "rows: reward -1.25, 100 % ok, MAE 1.23, 512 tok, KL 0.023, 141 tok/s",
                          1024, 8192);
}

/* What a training is judged by has room where the amount would take it. */
static void test_narrow_news(void **state)
{
    setenv("TERM", "xterm", 1);
    assert_string_equal(on_terminal(120, train_for_hours),
                        "\r 12 %  1,024 of 8,192 rows  0.13/s, 15 h 33 min left  "
                        "reward -1.25, 100 % ok, MAE 1.23, 512 tok, KL 0.023, 141 tok/s\033[K");
    state_of = (struct cli_state){0};
    assert_string_equal(on_terminal(80, train_for_hours),
                        "\r 12 %  15 h 33 min left  "
                        "reward -1.25, 100 % ok, MAE 1.23, 512 tok, KL 0.023\033[K");
    state_of = (struct cli_state){0};
    assert_string_equal(on_terminal(24, train_for_hours), "\r 12 %  15 h 33 min left\033[K");
}

static void watch_steps(void)
{
    struct training_command t = {.cli = &cli};
    json_t *grpo = json_pack("{s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:i,s:f,s:f,s:f}", "step", 3,
                             "reward", 2.5, "in_format", 0.97, "mae", 0.861, "length", 93.2, "kl",
                             0.0231, "loss", 0.0223, "norm", 0.0381, "texts", 64, "rollout_seconds",
                             8.0, "scoring_seconds", 2.0, "update_seconds", 6.0);
    json_t *align = json_pack("{s:i,s:f,s:f,s:f,s:f}", "step", 4, "loss", 0.5, "norm", 1.5,
                              "cosine", 0.9985, "tokens_per_second", 910.0);
    training_command_watch(&t, grpo);
    training_command_watch(&t, grpo); /* in the same half minute */
    t.noted = 0;
    training_command_watch(&t, align);
    json_decref(grpo);
    json_decref(align);
}

static void test_steps(void **state)
{
    assert_string_equal(captured(stderr, watch_steps),
                        "step 3: reward 2.50, format 97 %, MAE 0.86, 93 tokens a text, KL 0.0231, "
                        "loss 0.0223, gradient 0.0381, 373 sampled tokens/s\n"
                        "step 4: cosine 0.9985, loss 0.5000, gradient 1.5, 910 tokens/s\n");
}

static const char *report_of;

static void report_it(void)
{
    json_t *metrics = json_loads(report_of, 0, NULL);
    assert_non_null(metrics);
    report_metrics(&cli, metrics);
    json_decref(metrics);
}

/* Beside a distribution it is the written number only that is taken for the highest rating. */
static void test_unreadable_ratings(void **state)
{
    report_of = "{\"n\": 4, \"invalid\": 0.5, \"decoders\": {\"argmax\": {}}}";
    assert_non_null(strstr(captured(stdout, report_it),
                           "\n4 rows, 50.00 % without a readable rating (each counts as the "
                           "highest one)\n"));
    report_of = "{\"n\": 4, \"invalid\": 0.5, \"log_loss\": 1, "
                "\"decoders\": {\"argmax\": {}, \"number\": {}}}";
    assert_non_null(strstr(captured(stdout, report_it),
                           "\n4 rows, 50.00 % without a readable rating (`number` counts each as "
                           "the highest one)\n"));
}

/* Tables have the words of the rest of the program; JSON keeps its keys. */
static void test_decoders_names(void **state)
{
    report_of = "{\"n\": 4, \"decoders\": {\"argmax\": {\"mae\": 0.5}, \"median\": {}}}";
    const char *text = captured(stdout, report_it);
    assert_non_null(strstr(text, "\nmost likely  0.5000"));
    assert_non_null(strstr(text, "\nmedian"));
    assert_null(strstr(text, "argmax"));
}

static void interrupt(void)
{
    const struct siren_progress *p = cli_progress(&cli);
    assert_int_equal(*cli_cancel(&cli), 0);
    raise(SIGINT);
    assert_int_equal(siren_progress_update(p, "prompts", 1, 2), 1);
    assert_int_equal(*cli_cancel(&cli), SIGINT);
    assert_int_equal(cli_stopped_status(), 130);
}

/* The last test: the flag stays set, and the next Ctrl-C would kill. */
static void test_interrupt(void **state)
{
    assert_non_null(strstr(captured(stderr, interrupt), "stopping"));
    struct sigaction now;
    assert_int_equal(sigaction(SIGINT, NULL, &now), 0);
    assert_true(now.sa_handler == SIG_DFL);
}

/* ---- a mapped file that is cut short ---- */

static char map_path[] = "/tmp/siren-map-XXXXXX";

static void cut_and_read(void)
{
    struct siren_map map;
    if (siren_map_open(&map, map_path, NULL) || truncate(map_path, 5)) _exit(100);
    _exit(((const volatile unsigned char *)map.data)[70000]);
}

static void cut_remove_and_read(void)
{
    struct siren_map map;
    if (siren_map_open(&map, map_path, NULL) || truncate(map_path, 0) || unlink(map_path))
        _exit(100);
    _exit(((const volatile unsigned char *)map.data)[0]);
}

static void read_another(void)
{
    int fd = open(map_path, O_RDONLY);
    const volatile unsigned char *data = mmap(NULL, 100000, PROT_READ, MAP_PRIVATE, fd, 0);
    if (truncate(map_path, 0)) _exit(100);
    _exit(data[0]);
}

static void get_a_signal(void)
{
    raise(SIGBUS);
    _exit(100);
}

/* What it says to standard error in a process of its own. */
static int in_child(void (*act)(void), char *said, size_t size)
{
    int ends[2], status;
    size_t used = 0;
    ssize_t n;
    assert_int_equal(truncate(map_path, 100000), 0);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(ends[1], STDERR_FILENO);
        cli_catch_bus_errors();
        act();
    }
    close(ends[1]);
    while ((n = read(ends[0], said + used, size - 1 - used)) > 0) used += (size_t)n;
    said[used] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void test_cut_file(void **state)
{
    char said[1000], wanted[1000];
    int fd = mkstemp(map_path);
    assert_true(fd >= 0);
    close(fd);
    int status = in_child(cut_and_read, said, sizeof said);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    snprintf(wanted, sizeof wanted, "siren: %s: byte 70000 is gone: the file was cut to 5 bytes",
             map_path);
    if (strncmp(said, wanted, strlen(wanted))) fail_msg("%s", said);
    assert_int_equal(said[strlen(said) - 1], '\n');
    status = in_child(read_another, said, sizeof said);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    assert_string_equal(said, "");
    status = in_child(get_a_signal, said, sizeof said);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    status = in_child(cut_remove_and_read, said, sizeof said);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_non_null(strstr(said, ": byte 0 cannot be read: the file was changed"));
}

static void test_words(void **state)
{
    static const struct {
        const char *text, *word;
    } cases[] = {{"runs/all-2_b.x", "runs/all-2_b.x"},
                 {"Amélie", "Amélie"},
                 {"--split=a:B,c@d+e%", "--split=a:B,c@d+e%"},
                 {"", "''"},
                 {"two words", "'two words'"},
                 {"it's", "'it'\\''s'"},
                 {"a\nb", "'a\nb'"},
                 {"~", "'~'"},
                 {"#", "'#'"}};
    static const char special[] = "\t!\"#$&'()*;<>?[\\]^`{|}~";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(cli_word(cases[i].text), cases[i].word);
    for (const char *c = special; *c; c++)
        assert_int_equal(cli_word((const char[]){*c, 0})[0], '\'');
    /* eight at a time, of any length */
    char name[9000];
    const char *words[8];
    memset(name, '\'', sizeof name - 1);
    name[sizeof name - 1] = 0;
    for (int i = 0; i < 8; i++) words[i] = cli_word(i ? "a b" : name);
    assert_int_equal(strlen(words[0]), 4 * (sizeof name - 1) + 2);
    assert_string_equal(words[1], "'a b'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_commands, fresh),
        cmocka_unit_test_setup(test_values, fresh),
        cmocka_unit_test_setup(test_need, fresh),
        cmocka_unit_test_setup(test_pool, fresh),
        cmocka_unit_test_setup(test_numbers, fresh),
        cmocka_unit_test_setup(test_width, fresh),
        cmocka_unit_test_setup(test_table, fresh),
        cmocka_unit_test_setup(test_json, fresh),
        cmocka_unit_test_setup(test_wrap, fresh),
        cmocka_unit_test_setup(test_progress, fresh),
        cmocka_unit_test_setup(test_narrow_news, fresh),
        cmocka_unit_test_setup(test_steps, fresh),
        cmocka_unit_test_setup(test_unreadable_ratings, fresh),
        cmocka_unit_test_setup(test_decoders_names, fresh),
        cmocka_unit_test_setup(test_news, fresh),
        cmocka_unit_test_setup(test_interrupt, fresh),
        cmocka_unit_test_setup(test_hostile_table, fresh),
        cmocka_unit_test_setup(test_narrow_table, fresh),
        cmocka_unit_test_setup(test_joined_in_a_narrow_table, fresh),
        cmocka_unit_test_setup(test_narrow_names, fresh),
        cmocka_unit_test_setup(test_texts, fresh),
        cmocka_unit_test_setup(test_words, fresh),
        cmocka_unit_test_setup(test_cut_file, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
