#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/process.h"

static char machine[100], boot[100], space[100];
static long pid;
static unsigned long long start;

static enum process_state state_of(const char *m, const char *b, const char *s, long p,
                                   unsigned long long t)
{
    char name[PROCESS_NAME];
    snprintf(name, sizeof name, "%.60s %.60s %.60s %ld %llu", m, b, s, p, t);
    return process_state(name);
}

static int read_own(void **state)
{
    char name[PROCESS_NAME];
    process_name(name);
    return sscanf(name, "%99s %99s %99s %ld %llu", machine, boot, space, &pid, &start) != 5;
}

static void ours_runs(void **state)
{
    assert_int_equal(pid, getpid());
    assert_int_equal(state_of(machine, boot, space, pid, start), PROCESS_RUNS);
}

static void a_number_used_again_is_another(void **state)
{
    assert_int_equal(state_of(machine, boot, space, pid, start + 1), PROCESS_ENDED);
    assert_int_equal(state_of(machine, boot, space, pid, start - 1), PROCESS_ENDED);
}

static void another_boot_of_this_machine_has_ended_it(void **state)
{
    assert_int_equal(state_of(machine, "other", space, pid, start),
                     strcmp(machine, "-") ? PROCESS_ENDED : PROCESS_UNKNOWN);
}

static void what_is_elsewhere_nobody_knows(void **state)
{
    assert_int_equal(state_of("other", "other", space, pid, start), PROCESS_UNKNOWN);
    assert_int_equal(state_of(machine, boot, "pid:[1]", pid, start), PROCESS_UNKNOWN);
    assert_int_equal(process_state(""), PROCESS_UNKNOWN);
    assert_int_equal(process_state("a b c 1"), PROCESS_UNKNOWN);
}

static void a_child_runs_and_ends(void **state)
{
    char name[PROCESS_NAME] = "";
    int tell[2], wait[2];
    siginfo_t info;
    assert_int_equal(pipe(tell) || pipe(wait), 0);
    pid_t child = fork();
    if (child == 0) {
        process_name(name);
        if (write(tell[1], name, sizeof name) != sizeof name) _exit(1);
        _exit(read(wait[0], name, 1) != 1);
    }
    assert_int_equal(read(tell[0], name, sizeof name), sizeof name);
    assert_int_equal(process_state(name), PROCESS_RUNS);
    assert_int_equal(write(wait[1], "", 1), 1);
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(process_state(name), PROCESS_ENDED); /* a zombie */
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(process_state(name), PROCESS_ENDED);
    for (int i = 0; i < 2; i++) {
        close(tell[i]);
        close(wait[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ours_runs),
        cmocka_unit_test(a_number_used_again_is_another),
        cmocka_unit_test(another_boot_of_this_machine_has_ended_it),
        cmocka_unit_test(what_is_elsewhere_nobody_knows),
        cmocka_unit_test(a_child_runs_and_ends),
    };
    return cmocka_run_group_tests(tests, read_own, NULL);
}
