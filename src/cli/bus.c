/* A mapped file that is cut short: which one, instead of "Bus error". */
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/frame.h"
#include "siren/file.h"

/* Only functions that may be called in a handler: no stdio. */
static void say(const char *text)
{
    (void)!write(STDERR_FILENO, text, strlen(text));
}

static void say_number(uint64_t n)
{
    char digits[21], *p = digits + sizeof digits - 1;
    *p = 0;
    do *--p = (char)('0' + n % 10);
    while (n /= 10);
    say(p);
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    char path[4096];
    uint64_t offset;
    struct stat st;
    if (info->si_code <= 0 || !siren_map_find(info->si_addr, path, sizeof path, &offset)) {
        /* Not such a file: as if nobody had asked.  A fault comes again by itself. */
        signal(number, SIG_DFL);
        if (info->si_code <= 0) raise(number);
        return;
    }
    while (atomic_flag_test_and_set(&said)) pause(); /* another thread found it first */
    if (isatty(STDERR_FILENO)) say("\n");            /* below the bar */
    say("siren: ");
    say(path);
    say(": byte ");
    say_number(offset);
    if (!stat(path, &st) && (uint64_t)st.st_size <= offset) {
        say(" is gone: the file was cut to ");
        say_number((uint64_t)st.st_size);
        say(" bytes while it was in use (put a new file in its place by renaming it)\n");
    } else {
        say(" cannot be read: the file was changed while it was in use, or its disk fails\n");
    }
    _exit(1);
}

void cli_catch_bus_errors(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
}
