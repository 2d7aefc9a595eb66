#include "base/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORD = 64 };

/* Where a process runs, each "" where nothing tells. */
struct place {
    char machine[WORD], boot[WORD], space[WORD];
};

/* The first word of a file. */
static void first_word(const char *path, char word[WORD])
{
    FILE *f = fopen(path, "r");
    if (!f || fscanf(f, "%63s", word) != 1) *word = 0;
    if (f) fclose(f);
}

static void find_place(struct place *p)
{
    first_word("/etc/machine-id", p->machine);
    first_word("/proc/sys/kernel/random/boot_id", p->boot);
    ssize_t n = readlink("/proc/self/ns/pid", p->space, WORD - 1); /* "pid:[4026531836]" */
    p->space[n > 0 ? n : 0] = 0;
}

/* RUNS: *start is the clock's ticks from boot to the process's beginning.  One that has ended and
 * of which its parent has not heard yet has ended. */
static enum process_state find_process(long pid, unsigned long long *start)
{
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return kill((pid_t)pid, 0) && errno == ESRCH ? PROCESS_ENDED : PROCESS_UNKNOWN;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *at = strrchr(text, ')'); /* the program's name may hold anything */
    if (!at || at[1] != ' ') return PROCESS_UNKNOWN;
    if (at[2] == 'Z' || at[2] == 'X') return PROCESS_ENDED;
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    if (!at) return PROCESS_UNKNOWN;
    *start = strtoull(at, NULL, 10);
    return PROCESS_RUNS;
}

void process_name(char name[PROCESS_NAME])
{
    struct place here;
    unsigned long long start = 0;
    find_place(&here);
    *name = 0;
    if (!*here.boot || !*here.space) return;
    if (find_process((long)getpid(), &start) != PROCESS_RUNS) return;
    snprintf(name, PROCESS_NAME, "%s %s %s %ld %llu", *here.machine ? here.machine : "-", here.boot,
             here.space, (long)getpid(), start);
}

long process_number(const char *name)
{
    long pid;
    return sscanf(name, "%*s %*s %*s %ld", &pid) == 1 ? pid : 0;
}

enum process_state process_state(const char *name)
{
    struct place then, here;
    long pid;
    unsigned long long began, start = 0;
    if (sscanf(name, "%63s %63s %63s %ld %llu", then.machine, then.boot, then.space, &pid,
               &began) != 5)
        return PROCESS_UNKNOWN;
    find_place(&here);
    /* Containers and virtual machines may have boots of their own. */
    if (strcmp(then.boot, here.boot))
        return *here.boot && !strcmp(then.machine, here.machine) ? PROCESS_ENDED : PROCESS_UNKNOWN;
    if (strcmp(then.space, here.space)) return PROCESS_UNKNOWN;
    enum process_state state = find_process(pid, &start);
    return state == PROCESS_RUNS && start != began ? PROCESS_ENDED : state;
}
