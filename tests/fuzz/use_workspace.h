/* A small workspace in a temporary folder, opened once, for the files that are read against one. */
#ifndef TESTS_FUZZ_USE_WORKSPACE_H
#define TESTS_FUZZ_USE_WORKSPACE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "siren/app.h"

static char fuzz_folder[] = "/tmp/siren-fuzz-XXXXXX";

static inline void fuzz_remove(void)
{
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
    char path[128];
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        snprintf(path, sizeof path, "%s/w.siren%s", fuzz_folder, ends[i]);
        remove(path);
    }
    remove(fuzz_folder);
}

/* Users u0, u1 rated items i0 … i3; their last rating is the test split. */
static inline void fuzz_fill(struct siren_workspace *ws)
{
    struct siren_meta meta = {.scale = {1, 5, 1}, .noun = "movie"};
    struct siren_rate_result result;
    struct siren_ratings ratings;
    const char *none[] = {NULL};
    char name[8];
    int id;
    if (siren_meta_save(ws, &meta, NULL)) abort();
    for (int i = 0; i < 4; i++) {
        struct siren_item item = {.external = name,
                                  .title = "Film",
                                  .categories = none,
                                  .features = none,
                                  .description = ""};
        snprintf(name, sizeof name, "i%d", i);
        if (siren_item_add(ws, &item, &id, NULL)) abort();
    }
    for (int u = 0; u < 2; u++) {
        snprintf(name, sizeof name, "u%d", u);
        if (siren_user_add(ws, name, &id, NULL)) abort();
        for (int i = 0; i < 4; i++)
            if (siren_rate(ws, id, i, 1 + i, 1000 + i, &result, NULL)) abort();
    }
    if (siren_ratings_load(&ratings, ws, NULL)) abort();
    siren_split_leave_last_out(&ratings);
    if (siren_split_save(ws, &ratings, 0, "leave-last-out", "{}", NULL)) abort();
    siren_ratings_clear(&ratings);
}

static inline struct siren_app *fuzz_app(void)
{
    static struct siren_app app;
    struct siren_workspace *ws;
    char path[128];
    if (app.ws) return &app;
    if (!mkdtemp(fuzz_folder)) abort();
    atexit(fuzz_remove);
    snprintf(path, sizeof path, "%s/w.siren", fuzz_folder);
    if (siren_workspace_open(&ws, path, SIREN_WORKSPACE_CREATE, NULL)) abort();
    fuzz_fill(ws);
    siren_workspace_close(ws);
    if (siren_app_open(&app, path, SIREN_WORKSPACE_WRITE, NULL)) abort();
    return &app;
}

#endif
