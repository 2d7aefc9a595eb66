/* Who holds SQLite's write lock on a workspace. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store.h"

/* SQLite's writer holds this byte of the -shm file (its WAL_WRITE_LOCK). */
#define WRITE_LOCK_BYTE 120

/* The process that write-locks that byte of the file with this inode, or 0.  /proc/locks is
 * read rather than asking with fcntl: closing a descriptor of the file would drop the locks
 * that this very process holds on it. */
static long find_writer(uintmax_t inode)
{
    FILE *locks = fopen("/proc/locks", "re");
    if (!locks) return 0;
    char line[256];
    long found = 0;
    while (!found && fgets(line, sizeof line, locks)) {
        char kind[16], access[16];
        long pid;
        uintmax_t file, start;
        if (sscanf(line, "%*s %15s %*s %15s %ld %*x:%*x:%" SCNuMAX " %" SCNuMAX, kind, access, &pid,
                   &file, &start) != 5)
            continue;
        if (!strcmp(kind, "POSIX") && !strcmp(access, "WRITE") && file == inode &&
            start == WRITE_LOCK_BYTE)
            found = pid;
    }
    fclose(locks);
    return found;
}

static void command_of(long pid, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/cmdline", pid);
    FILE *file = fopen(path, "re");
    size_t n = file ? fread(text, 1, size - 1, file) : 0;
    if (file) fclose(file);
    while (n > 0 && text[n - 1] == 0) n--;
    for (size_t i = 0; i < n; i++)
        if (!isprint((unsigned char)text[i])) text[i] = ' ';
    text[n] = 0;
}

void store_lock_holder(const char *path, char *text, size_t size)
{
    char name[4096], command[80];
    struct stat info;
    int length = snprintf(name, sizeof name, "%s-shm", path);
    long pid = 0;
    if (length > 0 && (size_t)length < sizeof name && stat(name, &info) == 0)
        pid = find_writer(info.st_ino);
    if (pid == getpid()) {
        snprintf(text, size, "this process, through another handle");
    } else if (pid > 0) {
        command_of(pid, command, sizeof command);
        snprintf(text, size, "process %ld%s%s", pid, *command ? ": " : "", command);
    } else {
        snprintf(text, size, "`fuser %s` may say which", path);
    }
}
