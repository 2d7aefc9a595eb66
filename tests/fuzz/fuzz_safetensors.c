/* safetensors.  The first byte of the input says how the file is made from the rest: 0 as it is;
 * n > 0: a header of the right length, followed by n - 1 bytes of data. */
#include "fuzz/memory_file.h"
#include "fuzz/use_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char zeros[256];
    char path[64];
    if (size < 2) return 0;
    int fd = memory_file(path);
    if (data[0]) {
        uint64_t length = size - 1;
        memory_file_write(fd, &length, sizeof length);
    }
    memory_file_write(fd, data + 1, size - 1);
    if (data[0]) memory_file_write(fd, zeros, data[0] - 1u);
    use_model(path);
    return 0;
}
