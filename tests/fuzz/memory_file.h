/* A file in memory for parsers that take a path. */
#ifndef TESTS_FUZZ_MEMORY_FILE_H
#define TESTS_FUZZ_MEMORY_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One descriptor for the life of the process; path receives "/proc/self/fd/N". */
static inline int memory_file(char path[64])
{
    static int fd = -1;
    if (fd < 0) fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET)) abort();
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static inline void memory_file_write(int fd, const void *data, size_t size)
{
    if (write(fd, data, size) != (ssize_t)size) abort();
}

#endif
