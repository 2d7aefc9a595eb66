/* Finding a model's tokenizer: a file, a folder, a GGUF file. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/path.h"
#include "siren/file.h"
#include "text/files.h"
#include "text/tokenizer_private.h"
#include "weights/tensors.h"

#define MAX_FILE ((size_t)512 << 20)

/* {"bos_token": "<s>"} or {"bos_token": {"content": "<s>"}}. */
static int32_t named_token(const struct siren_tokenizer *t, const json_t *config, const char *name)
{
    const json_t *value = json_object_get(config, name);
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_is_string(value) ? siren_tokenizer_id(t, json_string_value(value)) : -1;
}

/* tokenizer.json does not say which token begins and ends a text: the files beside it do. */
static int read_config(struct siren_tokenizer *t, const char *folder, const char *file,
                       struct siren_error *err)
{
    char *path = path_join(folder, file), *text = NULL;
    size_t size = 0;
    json_error_t where;
    if (!path) return siren_fail_memory(err, "a path", strlen(folder));
    int code = files_exists(path) ? siren_file_read(&text, &size, path, MAX_FILE, err) : 0;
    json_t *config = text ? json_loadb(text, size, 0, &where) : NULL;
    if (text && !config)
        code = siren_fail(err, SIREN_EFORMAT, "%s: line %d: %s", path, where.line, where.text);
    if (t->bos < 0) t->bos = named_token(t, config, "bos_token");
    if (t->eos < 0) t->eos = named_token(t, config, "eos_token");
    json_decref(config);
    free(text);
    free(path);
    return code;
}

static int load_json(struct siren_tokenizer **out, const char *path, const char *folder,
                     struct siren_error *err)
{
    char *text;
    size_t size;
    int code = siren_file_read(&text, &size, path, MAX_FILE, err);
    if (code) return code;
    code = tokenizer_from_json(out, text, size, path, err);
    free(text);
    if (!code) code = read_config(*out, folder, "tokenizer_config.json", err);
    if (!code) code = read_config(*out, folder, "special_tokens_map.json", err);
    if (code) {
        siren_tokenizer_free(*out);
        *out = NULL;
    }
    return code;
}

static int load_folder(struct siren_tokenizer **out, const char *folder, struct siren_error *err)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.json.gz"};
    for (size_t i = 0; i < 2; i++) {
        char *path = path_join(folder, names[i]);
        if (!path) return siren_fail_memory(err, "a path", strlen(folder));
        if (files_exists(path)) {
            int code = load_json(out, path, folder, err);
            free(path);
            return code;
        }
        free(path);
    }
    return siren_fail(err, SIREN_ENOTFOUND, "%s: no tokenizer.json in this folder", folder);
}

int siren_tokenizer_load(struct siren_tokenizer **out, const char *path, struct siren_error *err)
{
    struct stat st;
    *out = NULL;
    if (stat(path, &st))
        return siren_fail(err, SIREN_ENOTFOUND, "%s: no such file or folder", path);
    if (S_ISDIR(st.st_mode)) return load_folder(out, path, err);
    if (files_is_gguf(path)) return tokenizer_from_gguf(out, path, err);
    /* Weights are no tokenizer, and any JSON may be one. */
    size_t n = strlen(path);
    int json = n >= 5 && !strcmp(path + n - 5, ".json");
    int wrong = json ? 0 : tensors_check_model(path, err);
    if (wrong) return wrong;
    char *folder = path_folder(path);
    if (!folder) return siren_fail_memory(err, "a path", strlen(path));
    int code = load_json(out, path, folder, err);
    free(folder);
    return code;
}
