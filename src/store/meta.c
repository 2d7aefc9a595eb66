#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"

int siren_meta_get(struct siren_workspace *ws, const char *key, char **value,
                   struct siren_error *err)
{
    sqlite3_stmt *statement;
    *value = NULL;
    int code = store_prepare(ws, &statement, "SELECT value FROM meta WHERE key = ?", err);
    if (code) return code;
    sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    code = store_step(ws, statement, "read meta", err);
    if (code == 1) {
        *value = store_text(statement, 0);
        code = *value ? SIREN_OK : siren_fail_memory(err, "a meta value", 0);
    }
    sqlite3_finalize(statement);
    return code;
}

int siren_meta_set(struct siren_workspace *ws, const char *key, const char *value,
                   struct siren_error *err)
{
    sqlite3_stmt *statement;
    int code = store_prepare(ws, &statement, "INSERT OR REPLACE INTO meta VALUES (?, ?)", err);
    if (code) return code;
    sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 2, value, -1, SQLITE_STATIC);
    code = store_run(ws, statement, "write meta", err);
    sqlite3_finalize(statement);
    return code;
}

static int get_number(struct siren_workspace *ws, const char *key, double *number,
                      struct siren_error *err)
{
    char *text, *end;
    int code = siren_meta_get(ws, key, &text, err);
    if (code || !text) return code;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        code = siren_fail(err, SIREN_EFORMAT, "%s: meta.%s is '%.40s', expected a number",
                          siren_workspace_path(ws), key, text);
    else
        *number = value;
    free(text);
    return code;
}

static int get_text(struct siren_workspace *ws, const char *key, char *into, size_t size,
                    struct siren_error *err)
{
    char *text;
    int code = siren_meta_get(ws, key, &text, err);
    if (code || !text) return code;
    snprintf(into, size, "%s", text);
    free(text);
    return SIREN_OK;
}

int siren_meta_load(struct siren_meta *out, struct siren_workspace *ws, struct siren_error *err)
{
    char protocol[16] = "full";
    *out = (struct siren_meta){.scale = {1, 5, 1}, .noun = "item"};
    int code = get_number(ws, "scale_min", &out->scale.min, err);
    if (!code) code = get_number(ws, "scale_max", &out->scale.max, err);
    if (!code) code = get_number(ws, "scale_step", &out->scale.step, err);
    if (!code) code = get_text(ws, "protocol", protocol, sizeof protocol, err);
    if (!code) code = get_text(ws, "noun", out->noun, sizeof out->noun, err);
    if (!code) code = get_text(ws, "source", out->source, sizeof out->source, err);
    if (!code && siren_scale_check(&out->scale, err))
        code = siren_fail_prefix(err, SIREN_EFORMAT, "%s: meta", siren_workspace_path(ws));
    out->protocol = strcmp(protocol, "paper") ? SIREN_PROTOCOL_FULL : SIREN_PROTOCOL_PAPER;
    return code;
}

static int set_number(struct siren_workspace *ws, const char *key, double number,
                      struct siren_error *err)
{
    char text[40];
    snprintf(text, sizeof text, "%.15g", number);
    return siren_meta_set(ws, key, text, err);
}

int siren_meta_save(struct siren_workspace *ws, const struct siren_meta *meta,
                    struct siren_error *err)
{
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    const char *protocol = siren_protocol_name(meta->protocol);
    code = set_number(ws, "scale_min", meta->scale.min, err);
    if (!code) code = set_number(ws, "scale_max", meta->scale.max, err);
    if (!code) code = set_number(ws, "scale_step", meta->scale.step, err);
    if (!code) code = siren_meta_set(ws, "protocol", protocol, err);
    if (!code) code = siren_meta_set(ws, "noun", meta->noun, err);
    if (!code) code = siren_meta_set(ws, "source", meta->source, err);
    return siren_workspace_end(ws, code, err);
}
