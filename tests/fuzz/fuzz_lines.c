/* The line reader over hostile archives and texts; the first byte chooses the encoding. */
#include "fuzz/memory_file.h"
#include "siren/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    char path[64], *text;
    size_t length;
    int fd = memory_file(path), rc;
    memory_file_write(fd, data + 1, size - 1);
    struct siren_error err;
    struct siren_lines *lines;
    if (siren_lines_open(&lines, path, data[0] & 1 ? SIREN_LATIN1 : SIREN_UTF8, &err)) return 0;
    /* A line that is not UTF-8 may be skipped; after any other error reading ends. */
    for (int bad = 0; bad < 100;) {
        rc = siren_lines_next(lines, &text, &length, &err);
        if (rc == 0) break;
        if (rc < 0)
            bad++;
        else if (text[length])
            abort();
    }
    siren_lines_close(lines);
    return 0;
}
