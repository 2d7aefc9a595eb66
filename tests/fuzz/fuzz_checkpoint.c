/* Checkpoints: the input stands for what lies between the magic and a checksum that is right. */
#include <xxhash.h>

#include "fuzz/memory_file.h"
#include "siren/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct siren_checkpoint c;
    XXH128_canonical_t hash;
    char path[64];
    int fd = memory_file(path);
    unsigned char *file = malloc(size + 8);
    if (!file) abort();
    memcpy(file, "SIRENCKP", 8);
    if (size) memcpy(file + 8, data, size);
    XXH128_canonicalFromHash(&hash, XXH3_128bits(file, size + 8));
    memory_file_write(fd, file, size + 8);
    memory_file_write(fd, &hash, sizeof hash);
    if (siren_checkpoint_load(&c, path, NULL) == 0) siren_checkpoint_clear(&c);
    free(file);
    return 0;
}
