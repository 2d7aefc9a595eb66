#include "base/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BOOT = 64, SPACE = 48 };

/* The first word of a file; "" where there is none. */
static void first_word(const char *path, char *word, int size)
{
    char format[16];
    FILE *f = fopen(path, "r");
    snprintf(format, sizeof format, "%%%ds", size - 1);
    if (!f || fscanf(f, format, word) != 1) *word = 0;
    if (f) fclose(f);
}

/* "pid:[4026531836]" */
static void own_namespace(char space[SPACE])
{
    ssize_t n = readlink("/proc/self/ns/pid", space, SPACE - 1);
    space[n > 0 ? n : 0] = 0;
}

/* Clock ticks from boot to the beginning of a process; 0: there is none, or only what its parent has
 * not asked about yet. */
static unsigned long long process_start(long pid)
{
    char path[40], text[1024];
    unsigned long long start = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *at = strrchr(text, ')'); /* the program's name may hold anything */
    if (at && (at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')) return 0;
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    if (at) start = strtoull(at, NULL, 10);
    return start;
}

void process_name(char name[PROCESS_NAME])
{
    char boot[BOOT], space[SPACE];
    first_word("/proc/sys/kernel/random/boot_id", boot, BOOT);
    own_namespace(space);
    unsigned long long start = process_start((long)getpid());
    if (*boot && *space && start)
        snprintf(name, PROCESS_NAME, "%s %s %ld %llu", boot, space, (long)getpid(), start);
    else
        *name = 0;
}

int process_ended(const char *name)
{
    char boot[BOOT], space[SPACE], boot_now[BOOT], space_now[SPACE];
    long pid;
    unsigned long long start;
    if (sscanf(name, "%63s %47s %ld %llu", boot, space, &pid, &start) != 4) return 0;
    first_word("/proc/sys/kernel/random/boot_id", boot_now, BOOT);
    own_namespace(space_now);
    if (!*boot_now || !*space_now) return 0;
    if (strcmp(boot, boot_now)) return 1;
    return !strcmp(space, space_now) && process_start(pid) != start;
}
