#include "base/path.h"

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"

const char *path_name(const char *path)
{
    size_t at = strlen(path);
    while (at && path[at - 1] == '/') at--;
    while (at && path[at - 1] != '/') at--;
    return path + at;
}

char *path_folder(const char *path)
{
    size_t n = (size_t)(path_name(path) - path);
    if (!n) return alloc_string(".", 1);
    while (n > 1 && path[n - 1] == '/') n--;
    return alloc_string(path, n);
}

char *path_join(const char *folder, const char *name)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", folder, name);
    return buf_take(&path);
}
