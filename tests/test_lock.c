#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/lock.h"
#include "scratch.h"

static struct siren_error err;

static void one_holds_it(void **state)
{
    const char *path = scratch_path("lock");
    struct lock a, b;
    assert_int_equal(lock_take(&a, path, &err), 0);
    assert_int_equal(lock_take(&b, path, &err), SIREN_EBUSY);
    assert_non_null(strstr(err.message, "another process holds it"));
    lock_release(&b); /* not held: nothing */
    assert_int_equal(lock_take(&b, path, &err), SIREN_EBUSY);
    lock_release(&a);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(lock_take(&b, path, &err), 0);
    lock_release(&b);
    lock_release(&b);
}

/* Its file stays, the lock does not. */
static void that_of_a_killed_process_is_taken_over(void **state)
{
    const char *path = scratch_path("killed");
    struct lock lock;
    int ready[2], status;
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (!child) {
        lock_take(&lock, path, &err);
        if (write(ready[1], "x", 1) == 1) pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(lock_take(&lock, path, &err), SIREN_EBUSY);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(lock_take(&lock, path, &err), 0);
    lock_release(&lock);
    close(ready[0]);
    close(ready[1]);
}

static void a_folder_that_is_not_there(void **state)
{
    const char *path = scratch_path("nowhere/lock");
    struct lock lock;
    assert_int_equal(lock_take(&lock, path, &err), SIREN_EIO);
    assert_non_null(strstr(err.message, path));
    lock_release(&lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_holds_it),
        cmocka_unit_test(that_of_a_killed_process_is_taken_over),
        cmocka_unit_test(a_folder_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
