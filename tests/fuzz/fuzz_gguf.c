/* GGUF: containers, metadata, and configurations of models in them. */
#include "fuzz/memory_file.h"
#include "fuzz/use_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memory_file(path);
    memory_file_write(fd, "GGUF", 4);
    if (size > 4) memory_file_write(fd, data + 4, size - 4);
    use_model(path);
    return 0;
}
