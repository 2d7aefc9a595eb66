/* The program from outside: every command's help, mistakes, completion, manual. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "run_program.h"
#include "scratch.h"

/* Runs `siren ARGUMENTS`, standard error included; returns its exit code. */
static int siren(const char *arguments)
{
    return run_program("", arguments, NULL);
}

/* All commands, as the list of the overview's groups shows them. */
static size_t list_commands(char names[][64], size_t most)
{
    assert_int_equal(siren("--help"), 0);
    size_t n = 0;
    char *groups = strstr(program_output, "A first session");
    for (char *line = strtok(strchr(groups, '\n'), "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "  ", 2) != 0 || line[2] == ' ' || strncmp(line + 2, "siren ", 6) == 0)
            continue;
        char *end = strstr(line + 2, "  ");
        assert_non_null(end);
        assert_true(n < most);
        snprintf(names[n++], 64, "%.*s", (int)(end - line - 2), line + 2);
    }
    return n;
}

static void test_overview(void **state)
{
    assert_int_equal(siren(""), 0);
    expect_output("A first session");
    expect_output("siren import");
    expect_output("completion");
    assert_int_equal(siren("--version"), 0);
    assert_int_equal(strncmp(program_output, "siren ", 6), 0);
}

static void test_help_of_every_command(void **state)
{
    char names[64][64], arguments[128], start[128];
    size_t n = list_commands(names, 64);
    assert_true(n >= 2);
    for (size_t i = 0; i < n; i++) {
        snprintf(arguments, sizeof arguments, "%s --help", names[i]);
        assert_int_equal(siren(arguments), 0);
        snprintf(start, sizeof start, "Usage: siren %s", names[i]);
        expect_output(start);
        expect_output("\nExamples\n  ");
        snprintf(arguments, sizeof arguments, "help %s", names[i]);
        assert_int_equal(siren(arguments), 0);
        expect_output(start);
        snprintf(arguments, sizeof arguments, "man %s", names[i]);
        assert_int_equal(siren(arguments), 0);
        expect_output(".SH EXAMPLES\n.TP");
        snprintf(arguments, sizeof arguments, "%s --no-such-option", names[i]);
        assert_int_equal(siren(arguments), 2);
        expect_output("siren: unknown option --no-such-option");
    }
}

/* The options and values of an example are the command's; --help keeps it from running. */
static void try_example(const char *line)
{
    static const char *const ends[] = {" <", " >", " |"};
    const char *start = strncmp(line, "siren ", 6) == 0 ? line : strstr(line, "| siren ");
    char arguments[512];
    if (!start) return; /* of the shell: source <(siren …) */
    snprintf(arguments, sizeof arguments - 8, "%s", strstr(start, "siren ") + 6);
    for (size_t i = 0; i < 3; i++) {
        char *end = strstr(arguments, ends[i]);
        if (end) *end = 0;
    }
    strcat(arguments, " --help");
    if (siren(arguments)) fail_msg("siren %s\n%s", arguments, program_output);
}

static void test_examples_parse(void **state)
{
    char names[64][64], arguments[128];
    size_t n = list_commands(names, 64), n_tried = 0;
    for (size_t i = 0; i < n; i++) {
        snprintf(arguments, sizeof arguments, "%s --help", names[i]);
        assert_int_equal(siren(arguments), 0);
        char *help = strdup(program_output), *rest;
        for (char *line = strtok_r(strstr(help, "\nExamples\n") + 1, "\n", &rest); line;
             line = strtok_r(NULL, "\n", &rest))
            if (strncmp(line, "  ", 2) == 0 && line[2] != ' ') {
                try_example(line + 2);
                n_tried++;
            }
        free(help);
    }
    assert_true(n_tried >= n);
}

static void test_mistakes(void **state)
{
    assert_int_equal(siren("mam"), 2);
    expect_output("siren: unknown command \"mam\" (did you mean `siren man`?)");
    assert_int_equal(siren("zzzzzz"), 2);
    expect_output("`siren --help` lists them");
    assert_int_equal(siren("man --dirctory x"), 2);
    expect_output("(did you mean --directory?); see `siren man --help`");
    assert_int_equal(siren("man --directory"), 2);
    expect_output("--directory needs a value: --directory DIR");
    assert_int_equal(siren("man --directory --quiet"), 2);
    expect_output("--directory needs a value");
    assert_int_equal(siren("man --quiet=1"), 2);
    expect_output("--quiet takes no value");
    assert_int_equal(siren("completion"), 2);
    expect_output("SHELL is missing; usage: siren completion SHELL");
    assert_int_equal(siren("completion bash zsh"), 2);
    expect_output("\"zsh\" is one argument too many");
    assert_int_equal(siren("completion fish"), 2);
    expect_output("found \"fish\", expected bash or zsh");
    assert_int_equal(siren("man nothing"), 2);
    assert_int_equal(siren("sketch x -u y --theta inf"), 2);
    expect_output("--theta: found \"inf\", expected a number");
    assert_int_equal(siren("--quiet"), 2);
    expect_output("no command given");
}

/* Options anywhere, --name=value, -xVALUE, and -- before what begins with a dash. */
static void test_grammar(void **state)
{
    assert_int_equal(siren("--quiet completion bash"), 0);
    assert_int_equal(siren("completion --quiet -- bash"), 0);
    assert_int_equal(siren("completion -- --bash"), 2);
    expect_output("found \"--bash\"");
    char arguments[400];
    snprintf(arguments, sizeof arguments, "man --directory='%s'", scratch_folder);
    assert_int_equal(siren(arguments), 0);
    assert_int_equal(access(scratch_path("siren.1"), R_OK), 0);
    assert_int_equal(access(scratch_path("siren-completion.1"), R_OK), 0);
    snprintf(arguments, sizeof arguments, "man -d'%s'", scratch_folder);
    assert_int_equal(siren(arguments), 0);
    assert_int_equal(siren("man -d /no/such/folder"), 1);
    expect_output("siren: /no/such/folder/siren.1");
}

/* Adapters are not added up, and the second of two did not say so. */
static void test_one_adapter(void **state)
{
    assert_int_equal(siren("predict x.siren -u 1 -i 2 -m x -a one --adapter=two"), 2);
    expect_output("siren: --adapter: found \"one\" and \"two\", expected one");
    assert_int_equal(siren("model info x -a one -a two"), 2);
    assert_int_equal(siren("train sft x.siren -m x -o y -a one -a two"), 2);
}

/* --eval-every 2 --updates 3 evaluates after steps 3, 6, 9. */
static void test_updates_and_evaluations(void **state)
{
    assert_int_equal(siren("train grpo --help | tr -s ' \\n' ' '"), 0);
    expect_output("evaluations and checkpoints wait for the last of them");
}

/* What it would always refuse is not offered. */
static void test_theorem_without_adapter(void **state)
{
    assert_int_equal(siren("theorem --help"), 0);
    assert_null(strstr(program_output, "--adapter"));
    expect_output("an adapter is merged into it first");
    assert_int_equal(siren("theorem x.siren -m x --teacher y -a z"), 2);
    expect_output("unknown option -a; see `siren theorem --help`");
}

/* Texts are UTF-8; a path may have any bytes. */
/* A workspace would be gone, with all its runs. */
static void test_output_that_is_read(void **state)
{
    char arguments[2000], link[256];
    const char *file = scratch_write("read.siren", "all", 3);
    snprintf(link, sizeof link, "%s", scratch_path("link"));
    assert_int_equal(symlink(file, link), 0);
    static const char *const commands[] = {
        "calibrate %s --run 1 --out %s", "export prompts %s -o %s",
        "runs %s trainings --curves %s", "theorem %s -m x --teacher y --svg %s",
        "train teach %s -m x -o %s",
    };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        snprintf(arguments, sizeof arguments, commands[i], file, link);
        assert_int_equal(siren(arguments), 2);
        expect_output("is what the command reads");
    }
    snprintf(arguments, sizeof arguments, "predict x -m y --pairs %s -o %s", file, link);
    assert_int_equal(siren(arguments), 2);
    expect_output("is the file of --pairs, too");
    snprintf(arguments, sizeof arguments, "predict x --pairs z -o %s", file);
    setenv("SIREN_MODEL", link, 1);
    assert_int_equal(siren(arguments), 2);
    unsetenv("SIREN_MODEL");
    expect_output("is the file of --model, too");
}

/* A usage error that begins with the option or argument, and says no more. */
static void refused(const char *command, const char *of, const char *why)
{
    char says[100];
    assert_int_equal(siren(command), 2);
    snprintf(says, sizeof says, "siren: %s: %s\n", of, why);
    assert_string_equal(program_output, says);
}

/* "-" is no file's name here, nor standard output. */
static void test_output_named_dash(void **state)
{
    static const char *const commands[][2] = {
        {"predict x -m y --pairs z -o -", "--output"},
        {"export prompts x -o -", "--output"},
        {"calibrate x --run 1 --out -", "--out"},
        {"runs x trainings --curves=-", "--curves"},
        {"theorem x -m y --teacher z --svg -", "--svg"},
        {"train teach x -m y -o-", "--out"},
    };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        refused(commands[i][0], commands[i][1], "found \"-\": name a file, or /dev/stdout");
}

static void test_texts(void **state)
{
#define BAD "\"$(printf 'a\\377')\""
    static const char *const texts[][2] = {
        {"predict x.siren -i 1 --user " BAD, "--user"},
        {"predict x.siren -i 1 -u" BAD, "--user"},
        {"predict x.siren --title=" BAD, "--title"},
        {"logprobs --continuation b --continuation " BAD, "--continuation"},
        {"forget x.siren " BAD, "USER"},
        {"runs x.siren compare 1 " BAD, "RUN"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        refused(texts[i][0], texts[i][1], "found \"a�\", which is no UTF-8 from byte 1 on");
    assert_int_equal(siren("runs /none/" BAD), 1);
    expect_output("siren: /none/a�: there is no such workspace");
    assert_int_equal(siren("generate --raw -m /none/" BAD), 1);
    expect_output("siren: /none/a�: ");
#undef BAD
}

/* A value that stands for none is no default; every split has a name there. */
static void test_help_of_rows(void **state)
{
    assert_int_equal(siren("eval --help"), 0);
    expect_output("--fold N");
    assert_null(strstr(program_output, "default -1"));
    assert_int_equal(siren("train sft --help"), 0);
    expect_output("history");
    assert_int_equal(siren("eval x --fold -1"), 2);
    expect_output("--fold: found \"-1\", expected a whole number from 0 to 254");
}

static void test_completion(void **state)
{
    char command[PATH_MAX + 1024];
    assert_int_equal(siren("completion zsh"), 0);
    expect_output("bashcompinit");
    if (system("command -v bash >/dev/null") != 0) skip();
    static const char *cases[][3] = {
        {"siren comp", "1", "completion"},
        {"siren man --dir", "2", "--directory"},
        {"siren man --directory /etc/host", "3", ""},
        {"siren --vers", "1", "--version"},
        {"siren hel", "1", "help"},
        {"siren help toke", "2", "tokenize"},
        {"siren man tok", "2", "tokenize"},
        {"siren man model e", "3", "export"},
        {"siren model \"\"", "2", "export info"},
        {"siren completion \"\"", "2", "bash zsh"},
        {"siren runs /etc/host ta", "3", "table"},
        {"siren runs x --js", "3", "--json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(command, sizeof command,
                 "bash -c 'source <(\"%s\" completion bash); COMP_WORDS=(%s); COMP_CWORD=%s; "
                 "_siren; echo \"${COMPREPLY[*]}\"'",
                 program, cases[i][0], cases[i][1]);
        FILE *pipe = popen(command, "r");
        assert_non_null(pipe);
        assert_non_null(fgets(program_output, sizeof program_output, pipe));
        assert_int_equal(pclose(pipe), 0);
        program_output[strcspn(program_output, "\n")] = 0;
        assert_string_equal(program_output, cases[i][2]);
    }
}

/* Output that cannot be written is an error, not silence. */
static void test_full_disk(void **state)
{
    assert_int_equal(siren("man >/dev/full"), 1);
    expect_output("siren: cannot write to standard output: No space left on device");
}

/* So is a file that may not grow: no death without a word, and nothing half written stays. */
static void test_limit_of_a_file(void **state)
{
    char arguments[1000], folder[256], workspace[300];
    snprintf(folder, sizeof folder, "%s", scratch_path("limited"));
    snprintf(workspace, sizeof workspace, "%s/limited.siren", folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(arguments, sizeof arguments, "import '%s' '%s' --k-core 0", workspace,
             scratch_write("limited.csv", "user,item,rating\na,x,3\n", 23));
    assert_int_equal(run_program("ulimit -f 8;", arguments, NULL), 1);
    expect_output("siren: ");
    expect_output("limited.siren");
    assert_int_equal(rmdir(folder), 0);
}

/* The model loses its weights between being loaded, when the prompt is opened, and being used. */
static void test_cut_model(void **state)
{
    static const char model[] = "tests/fixtures/models/smol";
    char before[2048], arguments[1024], copy[256], prompt[256];
    snprintf(copy, sizeof copy, "%s", scratch_path("cut"));
    snprintf(prompt, sizeof prompt, "%s", scratch_path("prompt"));
    snprintf(before, sizeof before,
             "cp -r %s %s; mkfifo %s; timeout 60 sh -c 'exec 3>%s; truncate -s 4096 "
             "%s/model.safetensors; echo abc >&3' >/dev/null 2>&1 &",
             model, copy, prompt, prompt, copy);
    snprintf(arguments, sizeof arguments,
             "generate --model %s --raw --prompt-file %s --max-tokens 4 --threads 2", copy, prompt);
    assert_int_equal(run_program(before, arguments, NULL), 1);
    snprintf(before, sizeof before, "siren: %s/model.safetensors: byte ", copy);
    expect_output(before);
    expect_output("the file was cut to 4096 bytes while it was in use");
}

/* A file's name may hold spaces; choices are parted at them. */
static void test_completion_in_bash(void **state)
{
    static const char text[] = "source <(\"$1\" completion bash)\n"
                               "COMP_WORDS=(siren predict x --pairs my); COMP_CWORD=4; _siren\n"
                               "printf '[%s]' \"${COMPREPLY[@]}\"\n"
                               "COMP_WORDS=(siren topics x --namer ''); COMP_CWORD=4; _siren\n"
                               "printf '<%s>' \"${COMPREPLY[@]}\"\n";
    char script[600], command[PATH_MAX + 1400];
    scratch_write("my file.csv", "", 0);
    snprintf(script, sizeof script, "%s", scratch_write("complete.sh", text, strlen(text)));
    snprintf(command, sizeof command, "cd '%s' && bash '%s' '%s'; :", scratch_folder, script,
             program);
    run_program(command, "--version", NULL);
    expect_output("[my file.csv]");
    expect_output("<tfidf>");
}

int main(void)
{
    if (find_program()) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overview),
        cmocka_unit_test(test_help_of_every_command),
        cmocka_unit_test(test_one_adapter),
        cmocka_unit_test(test_updates_and_evaluations),
        cmocka_unit_test(test_theorem_without_adapter),
        cmocka_unit_test(test_examples_parse),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_grammar),
        cmocka_unit_test(test_completion_in_bash),
        cmocka_unit_test(test_output_that_is_read),
        cmocka_unit_test(test_output_named_dash),
        cmocka_unit_test(test_help_of_rows),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_completion),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_limit_of_a_file),
        cmocka_unit_test(test_cut_model),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
