/* Two settings compared, difference by difference. */
#include "train/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "siren/model.h"

/* Two different values at `path`, as text. */
static void add_difference(struct buf *out, const char *path, const json_t *mine,
                           const json_t *theirs)
{
    const size_t flags = JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS;
    char *a = mine ? json_dumps(mine, flags) : NULL, *b = theirs ? json_dumps(theirs, flags) : NULL;
    buf_printf(out, "%s%s is %.60s, it was %.60s", out->size ? "; " : "", path, a ? a : "missing",
               b ? b : "missing");
    free(a);
    free(b);
}

static void compare(struct buf *out, const char *path, json_t *mine, json_t *theirs)
{
    const char *key;
    json_t *value;
    char inner[200];
    if (!json_is_object(mine) || !json_is_object(theirs)) {
        if (!mine || !theirs || !json_equal(mine, theirs)) add_difference(out, path, mine, theirs);
        return;
    }
    json_object_foreach(mine, key, value)
    {
        snprintf(inner, sizeof inner, "%s%s%s", path, *path ? "." : "", key);
        json_t *other = json_object_get(theirs, key);
        int same = !strcmp(key, "model") &&
                   siren_identity_same(json_string_value(value), json_string_value(other));
        if (!same) compare(out, inner, value, other);
    }
    json_object_foreach(theirs, key, value)
    {
        snprintf(inner, sizeof inner, "%s%s%s", path, *path ? "." : "", key);
        if (!json_object_get(mine, key)) add_difference(out, inner, NULL, value);
    }
}

int settings_differ(const json_t *mine, const json_t *theirs, char *text, size_t size)
{
    struct buf out = {0};
    const json_t *kind = json_object_get(json_object_get(mine, "run"), "kind");
    const json_t *other = json_object_get(json_object_get(theirs, "run"), "kind");
    if (kind && other && !json_equal(kind, other)) /* all else differs with it */
        add_difference(&out, "run.kind", kind, other);
    else
        compare(&out, "", (json_t *)mine, (json_t *)theirs);
    snprintf(text, size, "%s", buf_text(&out));
    int differ = out.size > 0;
    buf_free(&out);
    return differ;
}
