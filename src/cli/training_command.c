#include "cli/training_command.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/parts.h"
#include "app/split.h"
#include "base/clock.h"

enum { SECONDS_BETWEEN_NOTES = 30 };

static int add_target(const char *word, size_t n, unsigned *targets)
{
    static const struct {
        const char *name;
        unsigned bits;
    } groups[] = {{"all", (1u << SIREN_LORA_TARGETS) - 1},
                  {"ffn", 1u << SIREN_LORA_GATE | 1u << SIREN_LORA_UP | 1u << SIREN_LORA_DOWN}};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (strlen(groups[i].name) == n && !memcmp(groups[i].name, word, n))
            return (int)(*targets |= groups[i].bits);
    for (int i = 0; i < SIREN_LORA_TARGETS; i++) {
        const char *name = siren_lora_target_name((enum siren_lora_target)i); /* "q_proj" */
        size_t whole = strlen(name), brief = strcspn(name, "_");
        if ((n == whole || n == brief) && !memcmp(name, word, n)) return (int)(*targets |= 1u << i);
    }
    return 0;
}

int training_command_targets(struct cli *cli, const char *text, unsigned *targets)
{
    *targets = 0;
    for (const char *p = text;; p += *p == ',') {
        size_t n = strcspn(p, ",");
        if (!add_target(p, n, targets))
            return cli_usage(cli,
                             "--lora-targets: found \"%.*s\", expected q, k, v, o, gate, up, down, "
                             "ffn or all, joined by commas",
                             (int)n, p);
        p += n;
        if (!*p) return 0;
    }
}

/* "12-29", "12-", "12": layers from 0; the last one's default is the model's last. */
static int read_layers(struct cli *cli, struct siren_adapter_config *lora)
{
    const char *text = cli_string(cli, "train-layers");
    char *rest;
    if (!text) return 0;
    long first = strtol(text, &rest, 10), last = first;
    int good = *text >= '0' && *text <= '9' && first < INT_MAX;
    if (good && *rest == '-') {
        const char *end = rest + 1;
        last = *end ? strtol(end, &rest, 10) : -1;
        if (!*end) rest++;
        good = !*end || (*end >= '0' && *end <= '9' && last >= first && last < INT_MAX);
    }
    if (!good || *rest)
        return cli_usage(
            cli,
            "--train-layers: found \"%s\", expected the first and the last layer, from "
            "0, as in 12-29, 12- or 12",
            text);
    lora->first_layer = (int)first;
    lora->last_layer = (int)last;
    return 0;
}

/* Now that the model is known. */
static int check_layers(struct cli *cli, const struct training *t, const struct siren_lm *lm)
{
    int n = siren_model_config(lm->model)->n_layers;
    if (t->lora.first_layer < n && t->lora.last_layer < n) return 0;
    return cli_usage(cli,
                     "--train-layers: found \"%s\", expected layers from 0 to %d: the model has %d",
                     cli_string(cli, "train-layers"), n - 1, n);
}

static void read_loop(const struct cli *cli, struct trainer_options *o)
{
    siren_schedule_parse(&o->schedule, cli_string(cli, "schedule"), NULL);
    o->folder = cli_string(cli, "out");
    o->resume = cli_flag(cli, "resume");
    o->seed = (uint64_t)cli_int(cli, "seed");
    o->batch = (size_t)cli_int(cli, "batch");
    o->epochs = cli_float(cli, "epochs");
    o->max_steps = (uint64_t)cli_int(cli, "max-steps");
    o->lr = cli_float(cli, "lr");
    o->lora_plus = cli_float(cli, "lora-plus");
    o->warmup = cli_int(cli, "warmup");
    o->adamw.weight_decay = cli_float(cli, "weight-decay");
    o->clip = cli_float(cli, "clip");
    o->pass_tokens = (size_t)cli_int(cli, "pass-tokens");
    o->memory_bytes = (size_t)cli_int(cli, "memory") << 20;
    o->eval_every = (uint64_t)cli_int(cli, "eval-every");
    o->eval_first = cli_flag(cli, "eval-first");
    o->patience = (unsigned)cli_int(cli, "patience");
    o->checkpoint_every = (uint64_t)cli_int(cli, "checkpoint-every");
}

/* What says how a new adapter is made says nothing where there is none. */
static int check_adapter_options(struct cli *cli, const struct training *t)
{
    static const char *const names[] = {"lora-targets", "rank",    "alpha",
                                        "rslora",       "dropout", "lora-plus"};
    const size_t of_new = 4, n = sizeof names / sizeof *names; /* the first four */
    if (t->start && cli_given(cli, "train-layers"))
        return cli_usage(cli, "--train-layers is of a new adapter: that of --adapter has its own");
    if (t->full && t->start)
        return cli_usage(cli, "--weights all goes on from a model: merge the adapter first (siren "
                              "model export --adapter)");
    for (size_t i = 0; i < n; i++) {
        if (!cli_given(cli, names[i])) continue;
        if (t->full)
            return cli_usage(cli, "--%s is of a LoRA adapter, and --weights all trains none",
                             names[i]);
        if (t->start && i < of_new)
            return cli_usage(cli, "--%s is of a new adapter: that of --adapter has its own",
                             names[i]);
    }
    return 0;
}

int training_command_check_unjudged(struct cli *cli, const char *const *names)
{
    if (strcmp(cli_string(cli, "eval-split"), "none") != 0) return 0;
    return cli_refuse(cli, names, "nothing is judged with --eval-split none");
}

int training_command_check_splits(struct cli *cli, const char *split, const char *eval_split)
{
    struct siren_error wrong;
    struct split trained, judged;
    if (training_check_split(split, &wrong)) return cli_usage(cli, "--split: %s", wrong.message);
    if (!eval_split) return 0;
    if (training_check_eval_split(eval_split, &wrong))
        return cli_usage(cli, "--eval-split: %s", wrong.message);
    if (split_parse(split, &trained, &wrong) || split_parse(eval_split, &judged, &wrong) ||
        !split_share(&trained, &judged))
        return 0;
    return cli_usage(cli,
                     "--eval-split: \"%s\" and \"%s\" of --split share rows: choose on rows that "
                     "are not trained on",
                     eval_split, split);
}

static int read_options(struct cli *cli, struct training *t, const char *lr_all)
{
    static const char *const of_judging[] = {"eval-rows", "eval-every", "eval-first", "patience",
                                             NULL};
    const char *judged = cli_string(cli, "eval-split");
    int rc = training_command_targets(cli, cli_string(cli, "lora-targets"), &t->lora.targets);
    read_loop(cli, &t->loop);
    t->lora.r = (int)cli_int(cli, "rank");
    t->lora.alpha = (float)cli_float(cli, "alpha");
    t->lora.dropout =
        t->start && !cli_given(cli, "dropout") ? -1 : (float)cli_float(cli, "dropout");
    t->lora.rslora = cli_flag(cli, "rslora");
    t->full = !strcmp(cli_string(cli, "weights"), "all");
    if (t->full && !cli_given(cli, "lr")) t->loop.lr = strtod(lr_all, NULL);
    if (!rc) rc = check_adapter_options(cli, t);
    if (!rc) rc = read_layers(cli, &t->lora);
    if (!rc) rc = answering_name(cli);
    t->name = cli_string(cli, "name");
    if (cli_string(cli, "split")) t->split = cli_string(cli, "split");
    t->fold = answering_fold(cli);
    t->n_rows = (size_t)cli_int(cli, "rows");
    t->eval_split = strcmp(judged, "none") ? judged : NULL;
    t->n_eval_rows = (size_t)cli_int(cli, "eval-rows");
    if (!rc) rc = training_command_check_splits(cli, t->split, t->eval_split);
    return rc ? rc : training_command_check_unjudged(cli, of_judging);
}

/* ---- while it runs ---- */

void training_command_warn(void *cli, const char *text)
{
    cli_progress_note(cli, "%s", text);
}

/* The numbers of an evaluation: "mae 0.7812, rmse 1.2001". */
static void numbers_text(const json_t *fields, char *text, size_t size)
{
    const char *name;
    json_t *value;
    size_t used = 0;
    *text = '\0';
    json_object_foreach((json_t *)fields, name, value)
    {
        if (json_is_real(value) && used < size)
            used += (size_t)snprintf(text + used, size - used, "%s%s %.4f", used ? ", " : "", name,
                                     json_real_value(value));
    }
}

static double number_of(const json_t *line, const char *field)
{
    return json_number_value(json_object_get(line, field));
}

/* Where texts are sampled, it is theirs that count. */
static double tokens_a_second(const json_t *line)
{
    double seconds = number_of(line, "rollout_seconds") + number_of(line, "scoring_seconds") +
                     number_of(line, "update_seconds");
    return seconds > 0 ? number_of(line, "length") * number_of(line, "texts") / seconds
                       : number_of(line, "tokens_per_second");
}

/* A step in figures, those of its task first: "reward 2.50, format 97 %, …, loss 0.0223". */
static void step_text(const json_t *line, char *text, size_t size)
{
    static const struct {
        const char *field, *format;
        double factor;
    } figures[] = {{"reward", "reward %.2f", 1}, {"in_format", "format %.0f %%", 100},
                   {"mae", "MAE %.2f", 1},       {"length", "%.0f tokens a text", 1},
                   {"kl", "KL %.4f", 1},         {"cosine", "cosine %.4f", 1},
                   {"loss", "loss %.4f", 1},     {"norm", "gradient %.3g", 1}};
    size_t used = 0;
    *text = '\0';
    for (size_t i = 0; i < sizeof figures / sizeof *figures && used < size; i++) {
        const json_t *value = json_object_get(line, figures[i].field);
        if (!json_is_number(value)) continue;
        used += (size_t)snprintf(text + used, size - used, "%s", used ? ", " : "");
        if (used < size)
            used += (size_t)snprintf(text + used, size - used, figures[i].format,
                                     figures[i].factor * json_number_value(value));
    }
    if (used < size)
        snprintf(text + used, size - used, "%s%.0f %stokens/s", used ? ", " : "",
                 tokens_a_second(line), json_object_get(line, "texts") ? "sampled " : "");
}

void training_command_watch(void *context, const json_t *line)
{
    struct training_command *t = context;
    const json_t *valid = json_object_get(line, "valid");
    long long step = (long long)json_integer_value(json_object_get(line, "step"));
    char text[400];
    if (valid) {
        numbers_text(valid, text, sizeof text);
        cli_progress_note(t->cli, "step %lld on %s: %s%s", step, t->training.eval_split, text,
                          json_is_true(json_object_get(line, "best")) ? " (the best so far)" : "");
    } else if (clock_seconds() - t->noted >= SECONDS_BETWEEN_NOTES) {
        step_text(line, text, sizeof text);
        cli_progress_note(t->cli, "step %lld: %s", step, text);
        t->noted = clock_seconds();
    }
}

void training_command_note_anew(struct cli *cli, const char *folder, const char *name,
                                const char *what)
{
    char path[4096];
    if (!cli_flag(cli, "resume") ||
        snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return;
    if (access(path, F_OK) && errno == ENOENT)
        cli_note(cli, "%s: there is no %s to go on from: the training begins anew", folder, what);
}

int training_command_open(struct cli *cli, struct training_command *out, const char *kind,
                          const char *lr_all)
{
    *out = (struct training_command){.training = training_defaults()};
    struct training *t = &out->training;
    struct siren_trainable weights = SIREN_TRAIN_ALL;
    int rc;
    if (!cli_need(cli, "out")) return cli->err.code;
    t->kind = kind;
    t->some_layers = cli_given(cli, "train-layers");
    t->start = cli_string(cli, "adapter");
    rc = read_options(cli, t, lr_all);
    if (!rc) rc = siren_app_open(&out->app, cli_arg(cli, 0), SIREN_WORKSPACE_WRITE, &cli->err);
    if (!rc) rc = answering_prompt(cli, &out->app, &t->predict);
    if (t->some_layers)
        weights = (struct siren_trainable){
            .first_layer = t->lora.first_layer,
            .last_layer = t->lora.last_layer < 0 ? INT32_MAX : t->lora.last_layer};
    if (!rc) rc = answering_open_trainable(cli, &out->lm, 0, t->full ? &weights : NULL);
    if (!rc) rc = check_layers(cli, t, &out->lm);
    if (!rc) training_command_note_anew(cli, t->loop.folder, "checkpoint", "checkpoint");
    if (!rc) t->pool = cli_pool(cli);
    t->app = &out->app;
    t->lm = &out->lm;
    t->command = out->command = answering_command();
    t->loop.watch = training_command_watch;
    t->loop.watch_context = out;
    out->cli = cli;
    if (rc) training_command_close(out);
    return rc;
}

void training_command_close(struct training_command *t)
{
    siren_lm_close(&t->lm);
    if (t->app.ws) siren_app_close(&t->app);
    free(t->command);
    *t = (struct training_command){0};
}

/* ---- what came of it ---- */

/* Lines of the log, the caller's to decref: of the last step, and of the evaluation that was best;
 * NULL where there is none. */
static void read_log(const struct training_command *t, json_t **step, json_t **valid)
{
    json_t *log = trainer_read_log(t->training.loop.folder, NULL), *line;
    size_t i;
    *step = *valid = NULL;
    json_array_foreach(log, i, line)
    {
        if (!json_object_get(line, "valid"))
            *step = line;
        else if (json_is_true(json_object_get(line, "best")))
            *valid = line;
    }
    json_incref(*step);
    json_incref(*valid);
    json_decref(log);
}

/* Where the result is: a folder. */
static const char *result_path(const struct training_command *t, char path[4096])
{
    snprintf(path, 4096, "%s/%s", t->training.loop.folder, t->training.full ? "model" : "adapter");
    return path;
}

static json_t *result_json(const struct training_command *t, const struct trainer_result *r)
{
    char path[4096];
    json_t *step, *valid;
    read_log(t, &step, &valid);
    json_t *j =
        json_pack("{s:I,s:o,s:I,s:I,s:I,s:b,s:b,s:I,s:f}", "run", (json_int_t)t->training.run,
                  "folder", app_text(t->training.loop.folder), "rows",
                  (json_int_t)t->training.n_trained, "steps", (json_int_t)r->steps, "total_steps",
                  (json_int_t)r->total_steps, "stopped_early", r->stopped_early, "resumed",
                  r->resumed, "tokens", (json_int_t)r->tokens, "seconds", r->seconds);
    if (isfinite(r->loss)) json_object_set_new(j, "loss", json_real(r->loss));
    if (isfinite(r->best)) {
        json_object_set_new(j, "best", json_real(r->best));
        json_object_set_new(j, "best_step", json_integer((json_int_t)r->best_step));
        json_object_set_new(j, "metric", json_string(t->training.metric));
        json_object_set_new(j, "eval_split", json_string(t->training.eval_split));
        json_object_set(j, "valid", json_object_get(valid, "valid"));
    }
    if (step) json_object_set(j, "last_step", step);
    json_object_set_new(j, t->training.full ? "model" : "adapter", app_text(result_path(t, path)));
    json_decref(step);
    json_decref(valid);
    return j;
}

/* The figures of the last step, where it sampled texts; else its loss. */
static void print_last_step(struct cli *cli, const struct training_command *t, double loss)
{
    char text[400];
    json_t *step, *valid;
    read_log(t, &step, &valid);
    if (json_object_get(step, "texts")) {
        step_text(step, text, sizeof text);
        cli_print(cli, "last step: %s\n", text);
    } else if (isfinite(loss)) {
        cli_print(cli, "loss of the last step: %.4f\n", loss);
    }
    json_decref(step);
    json_decref(valid);
}

static void print_result(struct cli *cli, const struct training_command *t,
                         const struct trainer_result *r)
{
    const char *what = t->training.full ? "model" : "adapter";
    char path[4096];
    cli_print(cli, "%s in %s on %s, %s (%s a second)\n", cli_counted(r->steps, "step"),
              cli_seconds(r->seconds), cli_counted(t->training.n_trained, "row"),
              cli_counted(r->tokens, "token"),
              cli_number((uint64_t)(r->seconds > 0 ? (double)r->tokens / r->seconds : 0)));
    if (cli_given(cli, "rows") && (uint64_t)cli_int(cli, "rows") > t->training.n_trained)
        cli_note(cli, "--rows %s: there were %s", cli_number((uint64_t)cli_int(cli, "rows")),
                 cli_number(t->training.n_trained));
    print_last_step(cli, t, r->loss);
    if (isfinite(r->best))
        cli_print(cli, "best on %s: %s %.4f, after step %s%s\n", t->training.eval_split,
                  t->training.metric, r->best, cli_number(r->best_step),
                  r->stopped_early ? "; stopped since it did not get better" : "");
    cli_print(cli, "%s\n", result_path(t, path));
    cli_note(cli, "stored as run %lld; use it with --%s %s", (long long)t->training.run, what,
             cli_word(path));
}

int training_command_report(struct cli *cli, const struct training_command *t,
                            const struct trainer_result *result, int rc)
{
    cli_progress_end(cli);
    if (rc == SIREN_ECANCEL && !result->steps)
        cli_note(cli, "no step was done, and nothing is kept but %s's settings",
                 t->training.loop.folder);
    else if (rc == SIREN_ECANCEL)
        cli_note(cli, "%s of %s done and kept in %s: the same command with --resume goes on",
                 cli_number(result->steps), cli_counted(result->total_steps, "step"),
                 t->training.loop.folder);
    if (rc) return rc;
    if (cli->json) return cli_print_json(cli, result_json(t, result));
    print_result(cli, t, result);
    return 0;
}
