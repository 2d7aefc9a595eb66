/* Finding a model's chat template: a folder's files, a GGUF file's metadata. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/path.h"
#include "siren/file.h"
#include "text/chat.h"
#include "text/files.h"
#include "weights/tensors.h"

#define MAX_FILE ((size_t)64 << 20)

static int none(const char *path, struct siren_error *err)
{
    return siren_fail(err, SIREN_ENOTFOUND,
                      "%s: the model has no chat template; give a template file "
                      "(docs/chat-templates.md)",
                      path);
}

static int load_gguf(struct siren_chat **out, const char *path, struct siren_error *err)
{
    struct tensors *ts;
    int code = tensors_open(&ts, path, err);
    if (code) return code;
    const struct gguf_value *jinja = gguf_find(ts, "tokenizer.chat_template");
    code = jinja && jinja->kind == GGUF_STRING
               ? chat_from_jinja(out, jinja->text, jinja->length, path, err)
               : none(path, err);
    tensors_close(ts);
    return code;
}

/* "chat_template": a text, or a list of named ones of which "default" is used. */
static const json_t *find_template(const json_t *config)
{
    const json_t *found = json_object_get(config, "chat_template"), *item;
    size_t i;
    if (json_is_string(found)) return found;
    json_array_foreach(found, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        const json_t *text = json_object_get(item, "template");
        if (name && !strcmp(name, "default") && json_is_string(text)) return text;
    }
    return NULL;
}

static int load_config(struct siren_chat **out, const char *path, struct siren_error *err)
{
    char *text;
    size_t size;
    json_error_t where;
    int code = siren_file_read(&text, &size, path, MAX_FILE, err);
    if (code) return code;
    json_t *config = json_loadb(text, size, 0, &where);
    const json_t *jinja = find_template(config);
    if (!config)
        code = siren_fail(err, SIREN_EFORMAT, "%s: line %d: %s", path, where.line, where.text);
    else if (!jinja)
        code = none(path, err);
    else
        code = chat_from_jinja(out, json_string_value(jinja), json_string_length(jinja), path, err);
    json_decref(config);
    free(text);
    return code;
}

static int load_jinja(struct siren_chat **out, const char *path, struct siren_error *err)
{
    char *text;
    size_t size;
    int code = siren_file_read(&text, &size, path, MAX_FILE, err);
    if (code) return code;
    code = chat_from_jinja(out, text, size, path, err);
    free(text);
    return code;
}

static int load_folder(struct siren_chat **out, const char *folder, struct siren_error *err)
{
    char *jinja = path_join(folder, "chat_template.jinja");
    char *config = path_join(folder, "tokenizer_config.json");
    int code;
    if (!jinja || !config)
        code = siren_fail_memory(err, "a path", strlen(folder));
    else if (files_exists(jinja))
        code = load_jinja(out, jinja, err);
    else if (files_exists(config))
        code = load_config(out, config, err);
    else
        code = none(folder, err);
    free(jinja);
    free(config);
    return code;
}

int siren_chat_load(struct siren_chat **out, const char *model_path, struct siren_error *err)
{
    struct stat st;
    *out = NULL;
    if (stat(model_path, &st))
        return siren_fail(err, SIREN_ENOTFOUND, "%s: no such file or folder", model_path);
    if (S_ISDIR(st.st_mode)) return load_folder(out, model_path, err);
    if (files_is_gguf(model_path)) return load_gguf(out, model_path, err);
    char *folder = path_folder(model_path);
    if (!folder) return siren_fail_memory(err, "a path", strlen(model_path));
    int code = load_folder(out, folder, err);
    free(folder);
    return code;
}

int siren_chat_load_file(struct siren_chat **out, const char *path, struct siren_error *err)
{
    char *text;
    size_t size;
    *out = NULL;
    int code = siren_file_read(&text, &size, path, MAX_FILE, err);
    if (code) return code;
    code = chat_from_file_text(out, text, size, path, err);
    free(text);
    return code;
}
