/* The folder of a training run: settings, log, checkpoint. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/path.h"
#include "siren/checkpoint.h"
#include "siren/file.h"
#include "train/settings.h"
#include "train/trainer_parts.h"

/* ---- settings ---- */

static json_t *options_json(const struct trainer_task *task, const struct trainer_options *o)
{
    static const char *const schedules[] = {"constant", "linear", "cosine"};
    json_t *j = json_object();
    json_object_set_new(j, "rows", json_integer((json_int_t)task->n_rows));
    json_object_set_new(j, "seed", json_integer((json_int_t)o->seed));
    json_object_set_new(j, "batch", json_integer((json_int_t)o->batch));
    json_object_set_new(j, "epochs", json_real(o->epochs));
    json_object_set_new(j, "max_steps", json_integer((json_int_t)o->max_steps));
    json_object_set_new(j, "repeats", json_integer(o->repeats));
    json_object_set_new(j, "lr", json_real(o->lr));
    json_object_set_new(j, "lora_plus", json_real(o->lora_plus));
    json_object_set_new(j, "schedule", json_string(schedules[o->schedule]));
    json_object_set_new(j, "warmup", json_integer(o->warmup));
    json_object_set_new(j, "beta1", json_real(o->adamw.beta1));
    json_object_set_new(j, "beta2", json_real(o->adamw.beta2));
    json_object_set_new(j, "eps", json_real(o->adamw.eps));
    json_object_set_new(j, "weight_decay", json_real(o->adamw.weight_decay));
    json_object_set_new(j, "clip", json_real(o->clip));
    json_object_set_new(j, "pass_tokens", json_integer((json_int_t)o->pass_tokens));
    json_object_set_new(j, "pass_tokens_most",
                        json_integer((json_int_t)trainer_pass_most(o->pass_tokens)));
    json_object_set_new(j, "cuts", json_string("fewest tokens")); /* passes_fill(): bits */
    json_object_set_new(j, "dropout", json_boolean(o->dropout));
    if (o->layer_local) json_object_set_new(j, "layer_local", json_true());
    json_object_set_new(j, "eval_every", json_integer((json_int_t)o->eval_every));
    json_object_set_new(j, "eval_first", json_boolean(o->eval_first));
    json_object_set_new(j, "patience", json_integer(o->patience));
    if (task->metric) json_object_set_new(j, "metric", json_string(task->metric));
    return j;
}

json_t *trainer_settings(const struct trainer_task *task, const struct trainer_options *options,
                         const json_t *run)
{
    json_t *j = json_object();
    json_object_set_new(j, "run", run ? json_deep_copy(run) : json_object());
    json_object_set_new(j, "training", options_json(task, options));
    return j;
}

/* ---- opening ---- */

static int make_paths(struct trainer_folder *f, const char *path, struct siren_error *err)
{
    struct buf b = {0};
    f->path = strdup(path);
    buf_printf(&b, "%s/checkpoint", path);
    f->checkpoint = buf_take(&b);
    buf_printf(&b, "%s/adapter", path);
    f->adapter = buf_take(&b);
    buf_printf(&b, "%s/last", path);
    f->last = buf_take(&b);
    if (!f->path || !f->checkpoint || !f->adapter || !f->last)
        return siren_fail_memory(err, "the paths of a run", strlen(path));
    return siren_folder_make(path, err);
}

static int fail_log(const struct trainer_folder *f, const char *what, struct siren_error *err)
{
    return siren_fail(err, SIREN_EIO, "%s/log.jsonl: cannot %s: %s", f->path, what,
                      strerror(errno));
}

/* The log carries the folder's lock. */
static int open_log(struct trainer_folder *f, struct siren_error *err)
{
    struct buf path = {0};
    buf_printf(&path, "%s/log.jsonl", f->path);
    f->log = fopen(buf_text(&path), "ae");
    buf_free(&path);
    if (!f->log) return fail_log(f, "open", err);
    if (!flock(fileno(f->log), LOCK_EX | LOCK_NB)) return 0;
    if (errno == EWOULDBLOCK)
        return siren_fail(err, SIREN_EBUSY, "%s: another process trains in this folder", f->path);
    return fail_log(f, "lock", err);
}

/* What was logged behind the checkpoint is done, and logged, once more. */
static int cut_log(struct trainer_folder *f, uint64_t bytes, struct siren_error *err)
{
    struct stat st;
    if (fstat(fileno(f->log), &st)) return fail_log(f, "read", err);
    if ((uint64_t)st.st_size > bytes && ftruncate(fileno(f->log), (off_t)bytes))
        return fail_log(f, "cut", err);
    return 0;
}

static int write_settings(const struct trainer_folder *f, struct siren_error *err)
{
    struct buf path = {0};
    char *text = json_dumps(f->settings, JSON_INDENT(2) | JSON_SORT_KEYS);
    int rc = text ? 0 : siren_fail_memory(err, "settings", 0);
    buf_printf(&path, "%s/settings.json", f->path);
    if (!rc) rc = siren_file_print(buf_text(&path), err, "%s\n", text);
    buf_free(&path);
    free(text);
    return rc;
}

/* ---- the state ---- */

static json_t *state_json(const struct trainer_state *s)
{
    json_t *j = json_object();
    json_object_set_new(j, "step", json_integer((json_int_t)s->step));
    json_object_set_new(j, "evaluated", json_integer(s->evaluated));
    json_object_set_new(j, "best", isnan(s->best) ? json_null() : json_real(s->best));
    json_object_set_new(j, "best_step", json_integer((json_int_t)s->best_step));
    json_object_set_new(j, "since_best", json_integer(s->since_best));
    json_object_set_new(j, "stopped_early", json_boolean(s->stopped_early));
    json_object_set_new(j, "done", json_boolean(s->done));
    json_object_set_new(j, "tokens", json_integer((json_int_t)s->tokens));
    json_object_set_new(j, "seconds", json_real(s->seconds));
    json_object_set_new(j, "log_bytes", json_integer((json_int_t)s->log_bytes));
    return j;
}

static int read_state(struct trainer_state *s, json_t *j)
{
    json_int_t step, best_step, since_best, tokens, log_bytes, evaluated;
    json_t *best;
    double seconds;
    if (json_unpack(j, "{s:I,s:I,s:o,s:I,s:I,s:b,s:I,s:F,s:I}", "step", &step, "evaluated",
                    &evaluated, "best", &best, "best_step", &best_step, "since_best", &since_best,
                    "stopped_early", &s->stopped_early, "tokens", &tokens, "seconds", &seconds,
                    "log_bytes", &log_bytes))
        return SIREN_EFORMAT;
    s->step = (uint64_t)step;
    s->evaluated = evaluated;
    s->best = json_is_null(best) ? NAN : json_number_value(best);
    s->best_step = (uint64_t)best_step;
    s->since_best = (unsigned)since_best;
    s->done = json_is_true(json_object_get(j, "done"));
    s->tokens = (uint64_t)tokens;
    s->seconds = seconds;
    s->log_bytes = (uint64_t)log_bytes;
    return 0;
}

static int check_settings(const struct trainer_folder *f, const json_t *saved,
                          struct siren_error *err)
{
    char text[600];
    if (!settings_differ(f->settings, json_object_get(saved, "settings"), text, sizeof text))
        return 0;
    return siren_fail(err, SIREN_EINVAL, "%s: the run was begun with other settings: %s", f->path,
                      text);
}

static int restore(struct trainer_folder *f, struct siren_params params, struct siren_adamw *adamw,
                   struct trainer_state *state, struct siren_error *err)
{
    struct siren_checkpoint c;
    int rc = siren_checkpoint_load(&c, f->checkpoint, err);
    if (rc) return rc;
    json_t *saved = json_loads(c.json, 0, NULL);
    rc = check_settings(f, saved, err);
    if (!rc && read_state(state, json_object_get(saved, "state")))
        rc = siren_fail(err, SIREN_EFORMAT, "%s: no checkpoint of a training", f->checkpoint);
    if (!rc) rc = siren_checkpoint_restore(&c, params, adamw, err);
    if (!rc) rc = cut_log(f, state->log_bytes, err);
    f->saved = !rc;
    f->saved_step = state->step;
    json_decref(saved);
    siren_checkpoint_clear(&c);
    return rc;
}

static int exists(const char *path)
{
    struct stat st;
    return !lstat(path, &st);
}

/* What a training writes, where there is none: it is somebody else's, the model that is to be
 * trained perhaps. */
static int check_foreign(const struct trainer_folder *f, struct siren_error *err)
{
    static const char *const results[] = {"adapter", "last", "model", "settings.json"};
    int rc = 0, ours = exists(f->checkpoint);
    char *log = path_join(f->path, "log.jsonl"), *settings = path_join(f->path, "settings.json");
    struct stat st;
    if (!log || !settings) rc = siren_fail_memory(err, "a path", strlen(f->path));
    if (!rc && !ours && !exists(settings) && !stat(log, &st) && st.st_size > 0)
        rc = siren_fail(err, SIREN_EEXISTS,
                        "%s is there already, and not of a training: choose another folder", log);
    for (size_t i = 0; !rc && !ours && !exists(log) && i < sizeof results / sizeof *results; i++) {
        char *path = path_join(f->path, results[i]);
        if (!path)
            rc = siren_fail_memory(err, "a path", strlen(f->path));
        else if (exists(path))
            rc =
                siren_fail(err, SIREN_EEXISTS,
                           "%s is there already, and not of a training in this folder, which would "
                           "write over it: choose another folder",
                           path);
        free(path);
    }
    free(log);
    free(settings);
    return rc;
}

/* A run that was stopped before its first checkpoint begins anew, but only itself. */
static int check_begun(const struct trainer_folder *f, struct siren_error *err)
{
    char *path = path_join(f->path, "settings.json"), text[600];
    if (!path) return siren_fail_memory(err, "a path", strlen(f->path));
    json_t *begun = json_load_file(path, 0, NULL);
    int differ = begun && settings_differ(f->settings, begun, text, sizeof text);
    json_decref(begun);
    free(path);
    return differ ? siren_fail(err, SIREN_EINVAL,
                               "%s: the run was begun with other settings: %s; choose another "
                               "folder, or remove this one",
                               f->path, text)
                  : 0;
}

int trainer_folder_open(struct trainer_folder *f, const struct trainer_options *options,
                        json_t *settings, struct siren_params params, struct siren_adamw *adamw,
                        struct trainer_state *state, struct siren_error *err)
{
    struct stat st;
    *f = (struct trainer_folder){
        .settings = settings, .watch = options->watch, .watch_context = options->watch_context};
    *state = (struct trainer_state){.evaluated = -1, .best = NAN};
    int rc = settings ? make_paths(f, options->folder, err) : siren_fail_memory(err, "settings", 0);
    if (!rc) rc = check_foreign(f, err);
    if (!rc) rc = open_log(f, err);
    if (rc) return rc;
    int used = exists(f->checkpoint) || (!fstat(fileno(f->log), &st) && st.st_size > 0);
    if (used && !options->resume)
        return siren_fail(err, SIREN_EEXISTS,
                          "%s holds a training run already: go on with it (--resume), or choose "
                          "another folder",
                          f->path);
    if (exists(f->checkpoint)) return restore(f, params, adamw, state, err);
    rc = check_begun(f, err);
    if (!rc) rc = cut_log(f, 0, err);
    return rc ? rc : write_settings(f, err);
}

static int has_result(const char *folder)
{
    char *adapter = path_join(folder, "adapter"), *model = path_join(folder, "model");
    int found = adapter && model && (exists(adapter) || exists(model));
    free(adapter);
    free(model);
    return found;
}

int trainer_is_done(const char *folder, int *done, struct siren_error *err)
{
    struct buf path = {0};
    struct siren_checkpoint c;
    int rc = 0;
    *done = 0;
    buf_printf(&path, "%s/checkpoint", folder);
    if (buf_failed(&path)) rc = siren_fail_memory(err, "a path", strlen(folder));
    if (!rc && exists(path.data)) {
        rc = siren_checkpoint_load(&c, path.data, err);
        if (!rc) {
            json_t *saved = json_loads(c.json, 0, NULL);
            *done = json_is_true(json_object_get(json_object_get(saved, "state"), "done"));
            json_decref(saved);
            siren_checkpoint_clear(&c);
        }
    }
    if (*done) *done = has_result(folder);
    buf_free(&path);
    return rc;
}

int trainer_lost_checkpoint(const char *folder)
{
    struct stat st;
    char *log = path_join(folder, "log.jsonl"), *checkpoint = path_join(folder, "checkpoint");
    int lost = log && checkpoint && !stat(log, &st) && st.st_size > 0 && !exists(checkpoint);
    free(log);
    free(checkpoint);
    return lost;
}

void trainer_folder_close(struct trainer_folder *f)
{
    if (f->log) fclose(f->log);
    json_decref(f->settings);
    free(f->path);
    free(f->checkpoint);
    free(f->adapter);
    free(f->last);
}

/* ---- while it runs ---- */

int trainer_log(struct trainer_folder *f, json_t *line, struct siren_error *err)
{
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    if (line && f->watch) f->watch(f->watch_context, line);
    json_decref(line);
    if (!text) return siren_fail_memory(err, "a line of the log", 0);
    int bad = fprintf(f->log, "%s\n", text) < 0 || fflush(f->log);
    free(text);
    return bad ? fail_log(f, "write", err) : 0;
}

static int sync_log(struct trainer_folder *f, struct trainer_state *state, struct siren_error *err)
{
    struct stat st;
    if (fflush(f->log) || (fsync(fileno(f->log)) && errno != EINVAL) || fstat(fileno(f->log), &st))
        return fail_log(f, "write", err);
    state->log_bytes = (uint64_t)st.st_size;
    return 0;
}

int trainer_folder_save(struct trainer_folder *f, struct siren_params params,
                        struct siren_adamw *adamw, struct trainer_state *state,
                        struct siren_error *err)
{
    int rc = sync_log(f, state, err);
    if (rc) return rc;
    json_t *j = json_pack("{s:O,s:o}", "settings", f->settings, "state", state_json(state));
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(j);
    if (!text) return siren_fail_memory(err, "a checkpoint", 0);
    rc = siren_checkpoint_save_training(f->checkpoint, text, params, adamw, err);
    free(text);
    if (rc) return rc;
    f->saved = 1;
    f->saved_step = state->step;
    return 0;
}
