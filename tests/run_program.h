/* build/siren from outside, as a script runs it. */
#ifndef SIREN_TESTS_RUN_PROGRAM_H
#define SIREN_TESTS_RUN_PROGRAM_H

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char program[PATH_MAX];       /* build/siren, beside this test's folder */
static char program_output[1 << 20]; /* of the last run */

/* Once, before any run; 0 where the program is there.  What a person may have set is unset. */
static inline int find_program(void)
{
    char self[PATH_MAX - 16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return -1;
    self[n] = 0;
    *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%s/../siren", self);
    unsetenv("SIREN_MODEL");
    unsetenv("SIREN_ENCODER");
    setenv("NO_COLOR", "1", 1);
    return access(program, X_OK);
}

/* Runs `BEFORE siren ARGUMENTS` in a shell (before: "printf x |" or ""); what it prints is in
 * program_output.  errors: a file that takes standard error, NULL: it is printed, too.  Returns
 * the exit code. */
static inline int run_program(const char *before, const char *arguments, const char *errors)
{
    char command[PATH_MAX + 8192];
    snprintf(command, sizeof command, "{ %s '%s' %s; } 2>%s", before, program, arguments,
             errors ? errors : "&1");
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(program_output, 1, sizeof program_output - 1, pipe);
    program_output[n] = 0;
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Runs `siren ARGUMENTS`, and ends it by SIGKILL as soon as the file is there; it fails where the
 * program ends by itself. */
static inline void kill_program_at(const char *arguments, const char *file)
{
    char command[PATH_MAX + 8192];
    int status;
    snprintf(command, sizeof command, "exec '%s' %s >/dev/null 2>&1", program, arguments);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    while (access(file, F_OK)) {
        if (waitpid(child, &status, WNOHANG)) fail_msg("siren %s ended by itself", arguments);
        usleep(500);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
}

/* The last run printed these words. */
static inline void expect_output(const char *words)
{
    if (!strstr(program_output, words)) fail_msg("\"%s\" is not in:\n%s", words, program_output);
}

#endif
