/* Jobs that are killed (SIGKILL) in processes of their own, at moments that are counted and at
 * times, until they are through: they leave the files of a job that never stopped.  Include after
 * cmocka.h. */
#ifndef SIREN_TESTS_KILLED_H
#define SIREN_TESTS_KILLED_H

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "run_program.h"
#include "same_file.h"
#include "scratch.h"
#include "siren/random.h"

/* Calls of progress (sampling, passes, rows of an evaluation) and lines of the log. */
enum { CALL, LINE, MOMENTS };

/* Shared with the processes that die: how many moments there were, and the fatal ones (0: none). */
static struct {
    uint64_t n[MOMENTS], fatal[MOMENTS];
} * moments;

static inline void pass_moment(int kind)
{
    if (++moments->n[kind] == moments->fatal[kind]) raise(SIGKILL);
}

static int count_call(void *context, const char *what, uint64_t done, uint64_t total)
{
    pass_moment(CALL);
    return 0;
}

static inline void count_line(void *context, const json_t *line)
{
    pass_moment(LINE);
}

struct doomed {
    /* In a process of its own, which counts with count_call() and, where it has a log,
     * count_line(): goes on with what is in the folder, if anything is; 0: done. */
    int (*run)(void *context, const char *folder);
    void *context;
    const char *name;                                     /* of its folders */
    const char *const *files;                             /* that it leaves; NULL ends them */
    void (*compare)(const char *whole, const char *part); /* more than the files' bytes; NULL */
};

/* build/siren as such a job, killed by the clock only: `context` is a command of the shell that
 * executes "$PROGRAM", without leaving a shell behind, in "$FOLDER".  find_program() goes before.
 */
static inline int run_command(void *context, const char *folder)
{
    if (setenv("PROGRAM", program, 1) || setenv("FOLDER", folder, 1) ||
        !freopen("/dev/null", "w", stdout))
        return -1;
    execl("/bin/sh", "sh", "-c", (const char *)context, (char *)NULL);
    return -1;
}

/* Its status: killed at the moment of a kind (0: at none), or after so many microseconds (0:
 * never).
 */
static inline int run_doomed(const struct doomed *d, const char *folder, int kind, uint64_t fatal,
                             useconds_t after)
{
    int status;
    memset(moments, 0, sizeof *moments);
    moments->fatal[kind] = fatal;
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) _exit(d->run(d->context, folder) ? 3 : 0);
    if (after) {
        usleep(after);
        kill(child, SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static inline int was_killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static inline int ended_well(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Killed, resumed and killed again.  Moments are drawn with the seed, a line (behind a checkpoint,
 * as a rule) and a call in turn; with `most` they are times in microseconds, so that the writing of
 * files is hit, too. */
static inline void kill_and_resume(const struct doomed *d, const char *whole,
                                   const uint64_t n[MOMENTS], uint64_t seed, uint64_t most)
{
    char name[80], folder[300];
    int status, done = 0;
    snprintf(name, sizeof name, "%s killed %s %d", d->name, most ? "at" : "in", (int)seed);
    strcpy(folder, scratch_path(name));
    for (uint64_t death = 0; death < 3 && !done; death++) {
        int kind = (seed + death) % 2 || !n[LINE] ? CALL : LINE;
        uint64_t at = 1 + siren_random_below(17, seed, death, most ? most : n[kind]);
        status = run_doomed(d, folder, kind, most ? 0 : at, most ? (useconds_t)at : 0);
        if (!most && !death) assert_true(was_killed(status));
        done = ended_well(status);
        assert_true(was_killed(status) || done);
    }
    if (!done) assert_true(ended_well(run_doomed(d, folder, CALL, 0, 0)));
    for (int i = 0; d->files[i]; i++) same_file_in(whole, folder, d->files[i]);
    if (d->compare) d->compare(whole, folder);
}

/* `few` times by count and once by the clock, or, where nothing counts, by the clock; with
 * SIREN_SLOW many times. */
static inline void kill_and_resume_often(const struct doomed *d, uint64_t few)
{
    char name[80], whole[300];
    uint64_t n[MOMENTS], most;
    int slow = getenv("SIREN_SLOW") != NULL, one = getenv("SIREN_ISA") != NULL;
    snprintf(name, sizeof name, "%s unkilled", d->name);
    strcpy(whole, scratch_path(name));
    if (!moments)
        moments =
            mmap(NULL, sizeof *moments, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(moments != MAP_FAILED);
    if (one) few = 1; /* the portable kernels are slow, and it is not about them */
    double start = clock_seconds();
    assert_true(ended_well(run_doomed(d, whole, CALL, 0, 0)));
    most = (uint64_t)(1e6 * (clock_seconds() - start)) + 1;
    memcpy(n, moments->n, sizeof n);
    for (uint64_t seed = 0; n[CALL] && seed < (slow ? 10 * few : few); seed++)
        kill_and_resume(d, whole, n, seed, 0);
    for (uint64_t seed = 0; seed < (slow ? 15 * few : n[CALL] ? !one : few); seed++)
        kill_and_resume(d, whole, n, seed, most);
}

#endif
