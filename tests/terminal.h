/* What a terminal is given, as bytes.  Include after cmocka.h. */
#ifndef SIREN_TESTS_TERMINAL_H
#define SIREN_TESTS_TERMINAL_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* A new terminal of so many columns that changes nothing; *other is a program's end of it. */
static inline int terminal_open(int columns, int *other)
{
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    struct termios mode;
    int own = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(own >= 0 && !grantpt(own) && !unlockpt(own));
    *other = open(ptsname(own), O_RDWR | O_NOCTTY);
    assert_true(*other >= 0);
    assert_int_equal(ioctl(own, TIOCSWINSZ, &size), 0);
    assert_int_equal(tcgetattr(*other, &mode), 0);
    cfmakeraw(&mode);
    assert_int_equal(tcsetattr(*other, TCSANOW, &mode), 0);
    return own;
}

/* Runs the shell's command with a terminal for its standard output; returns its exit code. */
static inline int terminal_run(const char *command, int columns, char *said, size_t size)
{
    int other, status, own = terminal_open(columns, &other);
    size_t used = 0;
    ssize_t n;
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        dup2(other, STDOUT_FILENO);
        close(other);
        close(own);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(other);
    while (used < size - 1 && (n = read(own, said + used, size - 1 - used)) > 0) used += (size_t)n;
    said[used] = 0; /* EIO is its end */
    close(own);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#endif
