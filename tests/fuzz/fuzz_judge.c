/* Answers that were made elsewhere: JSON lines. */
#include <math.h>

#include "fuzz/memory_file.h"
#include "fuzz/use_workspace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct siren_judge_options options = {.split = "test", .fold = -1, .fallback = NAN};
    static struct siren_pool *pool;
    struct siren_error err;
    char path[64];
    int64_t run;
    if (!pool && siren_pool_create(&pool, 1, NULL)) abort();
    memory_file_write(memory_file(path), data, size);
    if (siren_judge(fuzz_app(), path, &options, pool, &run, &err) == 0)
        siren_run_delete(fuzz_app()->ws, run, &err);
    return 0;
}
