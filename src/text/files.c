#include "text/files.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int files_exists(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

int files_is_gguf(const char *path)
{
    size_t length = strlen(path);
    if (length >= 5 && !strcmp(path + length - 5, ".gguf")) return 1;
    char magic[4] = "";
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(magic, 1, 4, f) : 0;
    if (f) fclose(f);
    return n == 4 && !memcmp(magic, "GGUF", 4);
}
