/* The program from outside: every command's help, mistakes, completion, manual. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "scratch.h"

static char program[512]; /* build/siren, beside this test's folder */
static char output[1 << 20];

/* Runs `siren ARGUMENTS`, standard error included; returns its exit code. */
static int siren(const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "{ '%s' %s; } 2>&1", program, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(output, 1, sizeof output - 1, pipe);
    output[n] = 0;
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect(const char *words)
{
    if (!strstr(output, words)) fail_msg("\"%s\" is not in:\n%s", words, output);
}

/* All commands, as the list of the overview's groups shows them. */
static size_t list_commands(char names[][64], size_t most)
{
    assert_int_equal(siren("--help"), 0);
    size_t n = 0;
    char *groups = strstr(output, "A first session");
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
    expect("A first session");
    expect("siren import");
    expect("completion");
    assert_int_equal(siren("--version"), 0);
    assert_int_equal(strncmp(output, "siren ", 6), 0);
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
        expect(start);
        expect("\nExamples\n  ");
        snprintf(arguments, sizeof arguments, "help %s", names[i]);
        assert_int_equal(siren(arguments), 0);
        expect(start);
        snprintf(arguments, sizeof arguments, "man %s", names[i]);
        assert_int_equal(siren(arguments), 0);
        expect(".SH EXAMPLES\n.TP");
        snprintf(arguments, sizeof arguments, "%s --no-such-option", names[i]);
        assert_int_equal(siren(arguments), 2);
        expect("siren: unknown option --no-such-option");
    }
}

static void test_mistakes(void **state)
{
    assert_int_equal(siren("mam"), 2);
    expect("siren: unknown command \"mam\" (did you mean `siren man`?)");
    assert_int_equal(siren("zzzzzz"), 2);
    expect("`siren --help` lists them");
    assert_int_equal(siren("man --dirctory x"), 2);
    expect("(did you mean --directory?); see `siren man --help`");
    assert_int_equal(siren("man --directory"), 2);
    expect("--directory needs a value: --directory DIR");
    assert_int_equal(siren("man --directory --quiet"), 2);
    expect("--directory needs a value");
    assert_int_equal(siren("man --quiet=1"), 2);
    expect("--quiet takes no value");
    assert_int_equal(siren("completion"), 2);
    expect("SHELL is missing; usage: siren completion SHELL");
    assert_int_equal(siren("completion bash zsh"), 2);
    expect("\"zsh\" is one argument too many");
    assert_int_equal(siren("completion fish"), 2);
    expect("found \"fish\", expected bash or zsh");
    assert_int_equal(siren("man nothing"), 2);
    assert_int_equal(siren("--quiet"), 2);
    expect("no command given");
}

/* Options anywhere, --name=value, -xVALUE, and -- before what begins with a dash. */
static void test_grammar(void **state)
{
    assert_int_equal(siren("--quiet completion bash"), 0);
    assert_int_equal(siren("completion --quiet -- bash"), 0);
    assert_int_equal(siren("completion -- --bash"), 2);
    expect("found \"--bash\"");
    char arguments[400];
    snprintf(arguments, sizeof arguments, "man --directory='%s'", scratch_folder);
    assert_int_equal(siren(arguments), 0);
    assert_int_equal(access(scratch_path("siren.1"), R_OK), 0);
    assert_int_equal(access(scratch_path("siren-completion.1"), R_OK), 0);
    snprintf(arguments, sizeof arguments, "man -d'%s'", scratch_folder);
    assert_int_equal(siren(arguments), 0);
    assert_int_equal(siren("man -d /no/such/folder"), 1);
    expect("siren: /no/such/folder/siren.1");
}

static void test_completion(void **state)
{
    char command[2048];
    assert_int_equal(siren("completion zsh"), 0);
    expect("bashcompinit");
    if (system("command -v bash >/dev/null") != 0) skip();
    static const char *cases[][3] = {
        {"siren comp", "1", "completion"},
        {"siren man --dir", "2", "--directory"},
        {"siren man --directory /etc/host", "3", ""},
        {"siren --vers", "1", "--version"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(command, sizeof command,
                 "bash -c 'source <(\"%s\" completion bash); COMP_WORDS=(%s); COMP_CWORD=%s; "
                 "_siren; echo \"${COMPREPLY[*]}\"'",
                 program, cases[i][0], cases[i][1]);
        FILE *pipe = popen(command, "r");
        assert_non_null(pipe);
        assert_non_null(fgets(output, sizeof output, pipe));
        assert_int_equal(pclose(pipe), 0);
        output[strcspn(output, "\n")] = 0;
        assert_string_equal(output, cases[i][2]);
    }
}

/* Output that cannot be written is an error, not silence. */
static void test_full_disk(void **state)
{
    assert_int_equal(siren("man >/dev/full"), 1);
    expect("siren: cannot write to standard output: No space left on device");
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    snprintf(program, sizeof program, "%.*s/../siren", slash ? (int)(slash - argv[0]) : 1,
             slash ? argv[0] : ".");
    setenv("NO_COLOR", "1", 1);
    unsetenv("SIREN_MODEL");
    unsetenv("SIREN_ENCODER");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overview),   cmocka_unit_test(test_help_of_every_command),
        cmocka_unit_test(test_mistakes),   cmocka_unit_test(test_grammar),
        cmocka_unit_test(test_completion), cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
