/* The files of a Hugging Face folder, separated by NUL bytes in the input: config.json,
 * modules.json, the pooling's, sentence_bert_config.json, tokenizer_config.json,
 * config_sentence_transformers.json, and the index of shards. */
#include <sys/stat.h>

#include "fuzz/memory_file.h"
#include "fuzz/use_tensors.h"

static const char *const names[] = {
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
    "model.safetensors.index.json",
};
enum { N_NAMES = sizeof names / sizeof *names };

static char folder[64];

static void remove_folder(void)
{
    char path[128];
    for (int i = 0; i < N_NAMES; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    rmdir(path);
    rmdir(folder);
}

static void make_folder(void)
{
    char path[128];
    strcpy(folder, access("/dev/shm", W_OK) ? "/tmp/fuzz-XXXXXX" : "/dev/shm/fuzz-XXXXXX");
    if (!mkdtemp(folder)) abort();
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    if (mkdir(path, 0700)) abort();
    atexit(remove_folder);
}

/* NULL data: the file is not there. */
static void put_file(const char *name, const uint8_t *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
    if (!data) return;
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    if (size && fwrite(data, 1, size, f) != size) abort();
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct siren_config c = {0};
    struct siren_error err = {0};
    if (!*folder) make_folder();
    for (int i = 0; i < N_NAMES; i++) {
        const uint8_t *end = data ? memchr(data, 0, size) : NULL;
        size_t n = end ? (size_t)(end - data) : size;
        put_file(names[i], data, n);
        size -= end ? n + 1 : size;
        data = end ? end + 1 : NULL;
    }
    int code = config_from_folder(&c, folder, &err);
    if (!code) code = config_check(&c, folder, &err);
    if (code && (err.code != code || !err.message[0])) __builtin_trap();
    use_model(folder);
    return 0;
}
