/* An adapter's adapter_config.json.  What is accepted must be fit for use. */
#include "fuzz/memory_file.h"
#include "model/adapter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct siren_adapter_config c;
    struct siren_error err = {0};
    int rc = adapter_config_parse(&c, (const char *)data, size, "adapter_config.json", &err);
    if (rc && (err.code != rc || !err.message[0])) __builtin_trap();
    if (!rc && (c.r < 1 || c.r > 4096 || !(c.alpha > 0) || !(c.dropout >= 0) || c.dropout >= 1))
        __builtin_trap();
    return 0;
}
