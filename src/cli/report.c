#include "cli/report.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "app/parts.h"

const char *report_real(const json_t *object, const char *key)
{
    static char texts[16][32];
    static unsigned next;
    const json_t *value = json_object_get(object, key);
    char *text = texts[next++ % 16];
    text[0] = '\0';
    if (json_is_number(value)) snprintf(text, 32, "%.4f", json_number_value(value));
    return text;
}

const char *report_interval(const json_t *object, const char *low, const char *high, int is_signed)
{
    static char texts[4][64];
    static unsigned next;
    const json_t *a = json_object_get(object, low), *b = json_object_get(object, high);
    char *text = texts[next++ % 4];
    text[0] = '\0';
    if (json_is_number(a) && json_is_number(b))
        snprintf(text, sizeof texts[0], is_signed ? "%+.4f – %+.4f" : "%.4f – %.4f",
                 json_number_value(a), json_number_value(b));
    return text;
}

const char *report_decoder(const char *name)
{
    if (!name) return "";
    return strcmp(name, "argmax") ? name : "most likely";
}

static double share(const json_t *metrics, const char *key)
{
    return 100 * json_number_value(json_object_get(metrics, key));
}

static void decoders(struct cli *cli, const json_t *list)
{
    struct cli_table *table = cli_table_create("Decoder|MAE|95 %|RMSE|95 %", "lrrrr");
    const char *name;
    json_t *d;
    json_object_foreach((json_t *)list, name, d)
    {
        cli_table_cell(table, "%s", report_decoder(name));
        cli_table_cell(table, "%s", report_real(d, "mae"));
        cli_table_cell(table, "%s", report_interval(d, "mae_low", "mae_high", 0));
        cli_table_cell(table, "%s", report_real(d, "rmse"));
        cli_table_cell(table, "%s", report_interval(d, "rmse_low", "rmse_high", 0));
    }
    cli_table_print(cli, table);
}

static void put_per_label(struct cli *cli, const json_t *list)
{
    struct cli_table *table = cli_table_create("True rating|Rows|MAE of the median", "rrr");
    const json_t *median = json_object_get(list, "median");
    const char *label;
    json_t *star;
    if (!median) {
        cli_table_print(cli, table);
        return;
    }
    json_object_foreach(json_object_get(median, "stars"), label, star)
    {
        long long n = (long long)json_integer_value(json_object_get(star, "n"));
        cli_table_cell(table, "%s", label);
        cli_table_cell(table, "%lld", n);
        cli_table_cell(table, "%s", n ? report_real(star, "mae") : "");
    }
    cli_table_print(cli, table);
}

static double at(const json_t *metrics, const char *group, const char *key)
{
    return json_number_value(json_object_get(json_object_get(metrics, group), key));
}

static void tokens(struct cli *cli, const json_t *metrics)
{
    const json_t *shared = json_object_get(json_object_get(metrics, "tokens"), "cached");
    if (!(at(metrics, "tokens", "in") > 0)) return;
    cli_print(cli, "%s in", cli_counted((uint64_t)at(metrics, "tokens", "in"), "token"));
    if (json_is_number(shared))
        cli_print(cli, " (%s of them shared)", cli_number((uint64_t)json_number_value(shared)));
    cli_print(cli, ", %s out\n", cli_number((uint64_t)at(metrics, "tokens", "out")));
}

/* What the texts were like, and the faults that occurred. */
static void reasoning(struct cli *cli, const json_t *r)
{
    const char *name;
    json_t *value;
    int n = 0;
    if (!r) return;
    cli_print(cli, "%s, %.1f a row, of %.1f tokens; %.1f %% in format",
              cli_counted((uint64_t)json_integer_value(json_object_get(r, "texts")), "text"),
              json_number_value(json_object_get(r, "texts_a_row")),
              json_number_value(json_object_get(r, "tokens_a_text")), share(r, "in_format"));
    json_object_foreach(json_object_get(r, "faults"), name, value)
    {
        if (json_number_value(value) <= 0) continue;
        cli_print(cli, "%s%s %.1f %%", n++ ? ", " : "\nfaults: ", name,
                  100 * json_number_value(value));
    }
    cli_print(cli, "\n");
}

uint64_t report_count(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* Where there is a distribution, only the number that was written may be missing. */
static const char *unreadable(const json_t *metrics)
{
    if (!(share(metrics, "invalid") > 0)) return "";
    if (!json_object_get(metrics, "log_loss")) return " (each counts as the highest one)";
    return json_object_get(json_object_get(metrics, "decoders"), "number")
               ? " (`number` counts each as the highest one)"
               : "";
}

/* how: with the run's number. */
static void rows_seen(struct cli *cli, const json_t *metrics, const char *key, const char *how)
{
    char text[200];
    if (!(at(metrics, key, "rows") > 0)) return;
    snprintf(text, sizeof text, how, at(metrics, key, "run"));
    cli_print(cli, "%s of these %s\n",
              cli_number(report_count(json_object_get(metrics, key), "rows")), text);
}

void report_metrics(struct cli *cli, const json_t *metrics)
{
    const json_t *list = json_object_get(metrics, "decoders");
    decoders(cli, list);
    cli_print(cli, "\n");
    put_per_label(cli, list);
    cli_print(cli, "\n");
    cli_print(cli, "%s, %.2f %% without a readable rating%s\n",
              cli_counted(report_count(metrics, "n"), "row"), share(metrics, "invalid"),
              unreadable(metrics));
    rows_seen(
        cli, metrics, "trained_on",
        "were trained on (run %.0f): the numbers do not say how well other rows are predicted");
    rows_seen(cli, metrics, "chosen_on",
              "chose what answers here (run %.0f): on other rows it may be less good");
    if (json_is_number(json_object_get(metrics, "outside")))
        cli_print(cli, "probability outside the ratings: %.3f %%\n", share(metrics, "outside"));
    if (json_object_get(metrics, "log_loss"))
        cli_print(cli, "log-loss %s, ranked probability score %s, calibration error %s\n",
                  report_real(metrics, "log_loss"), report_real(metrics, "rps"),
                  report_real(metrics, "ece"));
    tokens(cli, metrics);
    if (at(metrics, "latency_ms", "mean") > 0)
        cli_print(cli, "%.1f ms a row (the time of a batch shared out over its rows)\n",
                  at(metrics, "latency_ms", "mean"));
    reasoning(cli, json_object_get(metrics, "reasoning"));
}

static json_t *parsed(const char *text)
{
    json_t *value = text && *text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    return value ? value : json_null();
}

static json_t *when(int64_t ms)
{
    return ms == SIREN_NO_TIME ? json_null() : json_integer(ms);
}

void report_stages(struct cli *cli, const json_t *valid)
{
    static const char *const cells[][2] = {{"answer_only", "mae"},
                                           {"answer_only", "rmse"},
                                           {"reasoned", "mae"},
                                           {"reasoned", "rmse"},
                                           {"reasoned", "in_format"}};
    struct cli_table *table =
        cli_table_create("After|MAE at once|RMSE|MAE reasoned|RMSE|In the format", "lrrrrr");
    const json_t *line;
    size_t i;
    json_array_foreach((json_t *)valid, i, line)
    {
        cli_table_cell(table, "%s", json_string_value(json_object_get(line, "after")));
        for (size_t k = 0; k < sizeof cells / sizeof *cells; k++)
            cli_table_cell(table, "%s",
                           report_real(json_object_get(line, cells[k][0]), cells[k][1]));
    }
    cli_table_print(cli, table);
}

json_t *report_run_json(const struct siren_run *run)
{
    json_t *out = json_object();
    json_object_set_new(out, "id", json_integer(run->id));
    json_object_set_new(out, "kind", app_text(run->kind));
    json_object_set_new(out, "name", app_text(run->name));
    json_object_set_new(out, "status", json_string(siren_run_status_name(run->status)));
    json_object_set_new(out, "command", app_text(run->command));
    json_object_set_new(out, "model", app_text(run->model));
    json_object_set_new(out, "split", app_text(run->split));
    json_object_set_new(out, "seed", json_integer((json_int_t)run->seed));
    json_object_set_new(out, "started", when(run->started));
    json_object_set_new(out, "finished", when(run->finished));
    json_object_set_new(out, "predictions", json_integer((json_int_t)run->n_predictions));
    json_object_set_new(out, "settings", parsed(run->settings));
    json_object_set_new(out, "metrics", parsed(run->metrics));
    json_object_set_new(out, "message", app_text(run->message));
    return out;
}

static void field(struct cli *cli, const char *name, const char *value)
{
    if (value && *value) cli_print(cli, "%-10s %s\n", name, value);
}

/* Of a training: how far it came, and what its choice was made by. */
static void report_training(struct cli *cli, const json_t *t, const json_t *settings)
{
    const json_t *own = json_object_get(settings, "run");
    const char *split = json_string_value(json_object_get(own, "eval_split"));
    const char *metric = json_string_value(json_object_get(t, "metric")), *name;
    double seconds = json_number_value(json_object_get(t, "seconds"));
    json_t *value;
    cli_print(cli, "%s of %s in %s, %s\n", cli_number(report_count(t, "steps")),
              cli_counted(report_count(t, "total_steps"), "step"), cli_seconds(seconds),
              cli_counted(report_count(t, "tokens"), "token"));
    if (json_is_number(json_object_get(t, "loss")))
        cli_print(cli, "loss of the last step: %s\n", report_real(t, "loss"));
    if (metric)
        cli_print(cli, "best %s on %s: %s, after step %s\n", metric, split ? split : "valid",
                  report_real(t, "best"), cli_number(report_count(t, "best_step")));
    json_object_foreach(json_object_get(t, "valid"), name, value)
    {
        if (metric && strcmp(name, metric) && json_is_real(value))
            cli_print(cli, "  %s %.4f\n", name, json_real_value(value));
    }
    cli_print(cli, "files: %s\n", json_string_value(json_object_get(t, "folder")));
}

int report_run(struct cli *cli, const struct siren_run *run)
{
    json_t *metrics = parsed(run->metrics), *settings = parsed(run->settings);
    /* 0.3, where what was stored has 0.29999999999999999 */
    char *text = json_dumps(settings, JSON_COMPACT | JSON_REAL_PRECISION(15));
    char started[32] = "";
    time_t seconds = (time_t)(run->started / 1000);
    struct tm local;
    if (localtime_r(&seconds, &local)) strftime(started, sizeof started, "%F %T", &local);
    cli_print(cli, "run %lld: %s%s%s, %s\n", (long long)run->id, run->kind, *run->name ? " " : "",
              run->name, siren_run_status_name(run->status));
    field(cli, "started", started);
    if (run->finished != SIREN_NO_TIME && run->finished >= run->started) /* the clock was set */
        field(cli, "took", cli_seconds((double)(run->finished - run->started) / 1e3));
    field(cli, "split", run->split);
    field(cli, "model", run->model);
    field(cli, "command", run->command);
    field(cli, "settings", text ? text : run->settings);
    field(cli, "message", run->message);
    cli_print(cli, "\n");
    if (json_object_get(metrics, "training"))
        report_training(cli, json_object_get(metrics, "training"), settings);
    else if (json_object_get(metrics, "stages"))
        report_stages(cli, json_object_get(metrics, "valid"));
    else if (json_object_get(metrics, "decoders"))
        report_metrics(cli, metrics);
    else
        cli_print(cli, "%s stored\n", cli_counted(run->n_predictions, "prediction"));
    json_decref(metrics);
    json_decref(settings);
    free(text);
    return 0;
}
