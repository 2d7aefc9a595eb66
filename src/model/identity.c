/* A model's identity: its name and a hash of what determines its answers. */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"
#include "base/path.h"
#include "model/adapter.h"
#include "model/config.h"
#include "model/export.h"
#include "siren/file.h"
#include "siren/model.h"
#include "weights/tensors.h"

static int hash_file(XXH3_state_t *state, const char *path, struct siren_error *err)
{
    struct siren_map map;
    int rc = siren_map_open(&map, path, err);
    if (rc) return rc;
    XXH3_64bits_update(state, map.data, map.size);
    siren_map_close(&map);
    return 0;
}

static int counts(const struct dirent *entry)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer.json.gz"};
    const char *dot = strrchr(entry->d_name, '.');
    if (dot && (!strcmp(dot, ".safetensors") || !strcmp(dot, ".gguf"))) return 1;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(entry->d_name, names[i])) return 1;
    return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* not the locale's order */
}

/* What an encoder's other files say, in one of several places; of what cannot be read, loading
 * tells. */
static void hash_encoder(XXH3_state_t *state, const char *path)
{
    struct siren_config c = {0};
    if (config_from_folder(&c, path, NULL) || !siren_is_encoder(&c)) return;
    const int32_t settings[3] = {(int32_t)c.pooling, c.normalize, c.max_tokens};
    XXH3_64bits_update(state, settings, sizeof settings);
}

static int hash_folder(XXH3_state_t *state, const char *path, struct siren_error *err)
{
    struct dirent **entries;
    int rc = 0, n = scandir(path, &entries, counts, by_name);
    if (n < 0) return siren_fail(err, SIREN_EIO, "%s: cannot be listed", path);
    for (int i = 0; i < n; i++) {
        char *file = path_join(path, entries[i]->d_name);
        XXH3_64bits_update(state, entries[i]->d_name, strlen(entries[i]->d_name) + 1);
        if (!rc) rc = file ? hash_file(state, file, err) : SIREN_ENOMEM;
        free(file);
        free(entries[i]);
    }
    free(entries);
    if (!rc) hash_encoder(state, path);
    if (!rc && n == 0)
        rc = siren_fail(err, SIREN_ENOTFOUND, "%s: a folder without a model's files", path);
    return rc;
}

/* The last component of the path, without ".gguf" and trailing slashes. */
static void base_name(const char *path, char *name, size_t size)
{
    size_t end = strlen(path), start;
    while (end > 1 && path[end - 1] == '/') end--;
    if (end > 5 && !memcmp(path + end - 5, ".gguf", 5)) end -= 5;
    for (start = end; start > 0 && path[start - 1] != '/';) start--;
    snprintf(name, size, "%.*s", (int)(end - start), path + start);
    /* Identities are JSON texts, and a file's name may be any bytes (or was cut within a letter).
     */
    json_t *text = json_string(name);
    for (char *c = name; !text && *c; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    json_decref(text);
}

static void write_identity(char identity[256], const char *name, XXH3_state_t *state)
{
    snprintf(identity, 256, "%s#%016llx", name, (unsigned long long)XXH3_64bits_digest(state));
}

int siren_model_identity(const char *path, char identity[256], struct siren_error *err)
{
    XXH3_state_t state;
    struct stat st;
    char name[200];
    int rc;
    if (stat(path, &st))
        return siren_fail(err, SIREN_ENOTFOUND, "%s: no such file or folder", path);
    rc = tensors_check_model(path, err);
    if (rc) return rc;
    XXH3_64bits_reset(&state);
    rc = S_ISDIR(st.st_mode) ? hash_folder(&state, path, err) : hash_file(&state, path, err);
    if (rc) return rc;
    base_name(path, name, sizeof name);
    write_identity(identity, name, &state);
    return 0;
}

const char *siren_identity_hash(const char *identity)
{
    const char *hash = strrchr(identity, '#');
    return hash ? hash : identity;
}

int siren_identity_same(const char *a, const char *b)
{
    return a && b && *a && *b && !strcmp(siren_identity_hash(a), siren_identity_hash(b));
}

int siren_identity_equal(const char *a, const char *b)
{
    int none = !a || !*a;
    return none ? !b || !*b : siren_identity_same(a, b);
}

/* *ts NULL: no folder, and so no export. */
static int open_folder(const char *path, struct tensors **ts, struct siren_error *err)
{
    struct stat st;
    *ts = NULL;
    return stat(path, &st) || !S_ISDIR(st.st_mode) ? SIREN_OK : tensors_open(ts, path, err);
}

int siren_model_made_of(const char *path, char source[256], char adapter[256],
                        struct siren_error *err)
{
    struct tensors *ts;
    source[0] = adapter[0] = 0;
    int rc = open_folder(path, &ts, err);
    if (rc || !ts) return rc;
    const char *from = safetensors_metadata(ts, "siren.source");
    const char *merged = safetensors_metadata(ts, "siren.adapter");
    snprintf(source, 256, "%s", from ? from : "");
    snprintf(adapter, 256, "%s", merged ? merged : "");
    tensors_close(ts);
    return SIREN_OK;
}

/* The tensors of a file that was written so are not suspected: a program that writes other ones
 * writes metadata of its own. */
int siren_model_source(const char *path, char source[256], struct siren_error *err)
{
    struct tensors *ts;
    char hash[17];
    source[0] = 0;
    int rc = open_folder(path, &ts, err);
    if (rc || !ts) return rc;
    const char *from = safetensors_metadata(ts, "siren.source");
    const char *exact = safetensors_metadata(ts, "siren.exact");
    const char *texts = safetensors_metadata(ts, "siren.texts");
    if (from && exact && texts && !strcmp(exact, "1")) {
        rc = export_folder_hash(path, hash, err);
        if (!rc && !strcmp(hash, texts)) snprintf(source, 256, "%s", from);
    }
    tensors_close(ts);
    return rc;
}

void adapter_values_identity(const struct siren_adapter_config *c, const float *values,
                             size_t n_values, const char *path, char identity[256])
{
    XXH3_state_t state;
    const char *slash = strrchr(path, '/');
    int within = slash && slash > path && adapter_is_file(path);
    char *folder = alloc_string(path, within ? (size_t)(slash - path) : strlen(path));
    char name[200];
    const int32_t places[3] = {(int32_t)c->targets, c->first_layer, c->last_layer};
    const float scale = adapter_scale(c);
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, places, sizeof places);
    XXH3_64bits_update(&state, &scale, sizeof scale);
    XXH3_64bits_update(&state, values, n_values * sizeof *values);
    base_name(folder ? folder : "adapter", name, sizeof name);
    free(folder);
    write_identity(identity, name, &state);
}

void siren_adapter_identity(const struct siren_adapter *a, const char *path, char identity[256])
{
    adapter_values_identity(&a->config, a->values, a->n_values, path, identity);
}
