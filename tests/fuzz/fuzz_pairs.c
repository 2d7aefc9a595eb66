/* The CSV file of a batch job.  There is no model: a file that reads well ends where it is asked.
 */
#include "fuzz/memory_file.h"
#include "fuzz/use_workspace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct siren_predict_options options = siren_predict_defaults();
    struct siren_lm none = {0};
    struct siren_error err;
    char path[64];
    memory_file_write(memory_file(path), data, size);
    siren_predict_pairs(fuzz_app(), &none, path, "/dev/null/nowhere", SIREN_CSV, &options, NULL,
                        NULL, &err);
    return 0;
}
