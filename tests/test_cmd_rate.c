/* `siren rate` from outside, as a script runs it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "run_program.h"
#include "workspace_fixture.h"

#define BERT "tests/fixtures/models/bert"

static struct siren_workspace *films(const char *name)
{
    return import_text(name, "user,item,rating,time\na,x,1,2000-01-01\na,y,5,2001-01-01\n", NULL,
                       NULL);
}

/* `siren rate WORKSPACE ARGUMENTS`; its exit code. */
static int rate(struct siren_workspace *ws, const char *arguments)
{
    char line[1000];
    snprintf(line, sizeof line, "rate %s %s", siren_workspace_path(ws), arguments);
    return run_program("", line, NULL);
}

static void test_new_item(void **state)
{
    struct siren_workspace *ws = films("item.siren");
    assert_int_equal(rate(ws, "-u a -i new -r 4"), 1);
    expect_output("a new item needs --title");
    assert_int_equal(rate(ws, "-u b -i new -r 4 --title New --encoder " BERT), 0);
    expect_output("User b is new.");
    expect_output("Item new is new, and embedded.");
    assert_int_equal(number(ws, "SELECT item FROM embeddings"), 2);
    assert_int_equal(rate(ws, "-u b -i new -r 5 --title New --encoder none"), 0);
    expect_output("Corrected: user b, item new: 5 instead of 4.");
    siren_workspace_close(ws);
}

/* The encoder is loaded before the workspace is locked: while another writes, the lack of it is
 * known at once. */
static void test_no_lock_while_the_encoder_loads(void **state)
{
    struct siren_workspace *ws = films("lock.siren");
    ok(siren_workspace_begin(ws, &err));
    assert_int_equal(rate(ws, "-u a -i new -r 4 --title New --encoder none"), 1);
    expect_output("none");
    assert_null(strstr(program_output, "another process"));
    siren_workspace_rollback(ws);
    siren_workspace_close(ws);
}

static int start(void **state)
{
    return find_program() || scratch_create(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_item),
        cmocka_unit_test(test_no_lock_while_the_encoder_loads),
    };
    return cmocka_run_group_tests(tests, start, scratch_delete);
}
