#include "cli/answering.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/split.h"
#include "base/buf.h"
#include "base/path.h"
#include "base/utf8.h"

int answering_open_trainable(struct cli *cli, struct siren_lm *lm, int raw,
                             const struct siren_trainable *trainable)
{
    struct siren_lm_options options = {.raw = raw,
                                       .trainable = trainable,
                                       .isa = cli_string(cli, "isa"),
                                       .compute = cli_string(cli, "compute")};
    const char *path = cli_need(cli, "model");
    struct siren_pool *pool;
    if (!path) return cli->err.code;
    if (cli->command->common & CLI_ADAPTER) options.adapter = cli_string(cli, "adapter");
    if (!raw) options.chat_template = cli_string(cli, "chat-template");
    pool = cli_pool(cli);
    if (!pool) return cli->err.code;
    return siren_lm_open(lm, path, &options, pool, &cli->err);
}

int answering_open(struct cli *cli, struct siren_lm *lm, int raw)
{
    return answering_open_trainable(cli, lm, raw, NULL);
}

int answering_whole(struct cli *cli, const char *name, const char *text, size_t size)
{
    const char *nul = memchr(text, 0, size);
    if (!nul) return 0;
    return siren_fail(&cli->err, SIREN_EFORMAT, "%s: byte %zu is NUL, expected a text", name,
                      (size_t)(nul - text));
}

struct siren_sampling answering_sampling(const struct cli *cli)
{
    return (struct siren_sampling){.temperature = (float)cli_float(cli, "temperature"),
                                   .top_p = (float)cli_float(cli, "top-p"),
                                   .top_k = (int)cli_int(cli, "top-k"),
                                   .max_tokens = (int)cli_int(cli, "max-tokens"),
                                   .seed = (uint64_t)cli_int(cli, "seed")};
}

int answering_split(struct cli *cli, const char *option)
{
    struct siren_error wrong;
    struct split split;
    const char *text = cli_string(cli, option);
    if (!text || !split_parse(text, &split, &wrong)) return 0;
    return cli_usage(cli, "--%s: %s", option, wrong.message);
}

int answering_fold(const struct cli *cli)
{
    return cli_given(cli, "fold") ? (int)cli_int(cli, "fold") : -1;
}

int answering_name(struct cli *cli)
{
    struct siren_error wrong;
    const char *name = cli_string(cli, "name");
    if (!name || !siren_run_name_check(name, &wrong)) return 0;
    return cli_usage(cli, "--name: %s", wrong.message);
}

/* What would change no prompt is a mistake. */
static int check_prompt(struct cli *cli, const struct siren_app *app, unsigned flags)
{
    static const char *const recent[] = {"recent", NULL}, *const more[] = {"more", NULL},
                             *const sketch[] = {"majority", "decay", NULL};
    int rc = 0;
    if (!(flags & SIREN_WITH_RECENT) || flags & SIREN_WITH_MORE)
        rc = cli_refuse(cli, recent, "the strategy shows no `recent` ratings");
    if (!rc && !(flags & SIREN_WITH_MORE))
        rc = cli_refuse(cli, more, "the strategy does not show `more` ratings");
    if (!rc && !(flags & SIREN_WITH_SKETCH))
        rc = cli_refuse(cli, sketch, "the strategy shows no sketch");
    if (!rc && flags & SIREN_WITH_DESCRIPTION && app->meta.protocol == SIREN_PROTOCOL_PAPER)
        rc = cli_usage(cli, "--strategy: under the workspace's protocol, paper, prompts show no "
                            "`description`");
    return rc;
}

int answering_prompt(struct cli *cli, const struct siren_app *app,
                     struct siren_predict_options *out)
{
    const char *strategy = cli_string(cli, "strategy");
    struct siren_error wrong;
    int rc;
    *out = siren_predict_defaults();
    if (!strategy) {
        strategy = app->topics.k ? "recent+sketch" : "recent";
        if (!app->topics.k)
            cli_note(cli, "no topics yet: prompts hold the recent ratings without a sketch "
                          "(`siren topics` makes them)");
    }
    if (siren_strategy_parse(&out->strategy, strategy, &wrong))
        return cli_usage(cli, "--strategy: %s", wrong.message);
    rc = check_prompt(cli, app, out->strategy.flags);
    if (rc) return rc;
    out->strategy.n_recent = (int)cli_int(cli, "recent");
    out->strategy.n_more = (int)cli_int(cli, "more");
    out->rule = cli_flag(cli, "majority") ? SIREN_RULE_MAJORITY : SIREN_RULE_MEAN;
    out->decay = cli_flag(cli, "decay");
    out->gap = (size_t)cli_int(cli, "gap");
    out->prompt_limit = (size_t)cli_int(cli, "prompt-limit");
    return 0;
}

int answering_top_p(struct cli *cli)
{
    if ((float)cli_float(cli, "top-p") > 0) return 0; /* as it is sampled with */
    return cli_usage(cli, "--top-p: found \"%s\", expected a number above 0, up to 1",
                     cli_string(cli, "top-p"));
}

int answering_chance(struct cli *cli)
{
    static const char *const of_chance[] = {"top-p", "top-k", NULL};
    long long samples = cli_int(cli, "samples");
    struct siren_sampling sampling = answering_sampling(cli);
    int rc = 0;
    if (sampling.temperature > 0) return answering_top_p(cli);
    rc = cli_refuse(cli, of_chance, "nothing is left to chance without a --temperature");
    if (!rc && samples > 1)
        return cli_usage(cli, "--samples %lld needs a --temperature: without one all are equal",
                         samples);
    return rc;
}

int answering_unasked(struct cli *cli, const char *why)
{
    static const char *const names[] = {
        "model",        "adapter",       "isa",       "compute",     "strategy",
        "recent",       "more",          "majority",  "decay",       "gap",
        "prompt-limit", "chat-template", "reasoning", "temperature", "top-p",
        "top-k",        "max-tokens",    "samples",   "calibration", NULL};
    return cli_refuse(cli, names, why);
}

int answering_options(struct cli *cli, const struct siren_app *app, int sampling,
                      struct siren_predict_options *out)
{
    static const char *const of_texts[] = {"samples", "temperature", "top-p",
                                           "top-k",   "max-tokens",  NULL};
    int reasoning = cli_flag(cli, "reasoning"), rc = 0;
    if (sampling && !reasoning) /* nothing is written */
        rc = cli_refuse(cli, of_texts, "it is about the text before the rating: give --reasoning");
    if (!rc) rc = answering_prompt(cli, app, out);
    if (rc) return rc;
    out->mode = reasoning ? SIREN_COT : SIREN_AO;
    if (!sampling) return 0;
    out->sampling = answering_sampling(cli);
    out->samples = (int)cli_int(cli, "samples");
    return answering_chance(cli);
}

int answering_calibration(struct cli *cli, struct siren_predict_options *options)
{
    const char *path = cli_string(cli, "calibration");
    return path ? siren_calibration_load(&options->calibration, path, &cli->err) : 0;
}

/* ---- distributions in tables ---- */

enum { MOST_COLUMNS = 7 };

void answering_new_user(struct cli *cli, const char *user)
{
    if (!user)
        cli_note(cli, "no --user: answered as for somebody without a history");
    else
        cli_note(cli, "%s is not in the workspace: answered from the prompt without a history",
                 user);
}

void answering_columns(const struct siren_app *app, char *columns, size_t size, char *align)
{
    int labels = siren_scale_labels(&app->meta.scale);
    size_t used = strlen(columns), n = strlen(align);
    if (labels > MOST_COLUMNS) {
        snprintf(columns + used, size - used, "|Distribution");
        memcpy(align + n, "l", 2);
        return;
    }
    for (int k = 0; k < labels && used < size; k++) {
        char label[24];
        siren_scale_text(&app->meta.scale, k, label);
        used += (size_t)snprintf(columns + used, size - used, "|%s", label);
        memcpy(align + n + (size_t)k, "r", 2);
    }
}

void answering_spark(const struct siren_answer *answer, char *text, size_t size)
{
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double top = 0;
    size_t used = 0;
    text[0] = '\0';
    for (int k = 0; k < answer->n_labels; k++)
        if (answer->probabilities[k] > top) top = answer->probabilities[k];
    for (int k = 0; k < answer->n_labels && used + 4 < size; k++) {
        int height = (int)(answer->probabilities[k] / top * 7.999);
        used += (size_t)snprintf(text + used, size - used, "%s", bars[height]);
    }
}

void answering_cells(const struct siren_app *app, struct cli_table *table,
                     const struct siren_answer *answer)
{
    int labels = siren_scale_labels(&app->meta.scale);
    char spark[4 * SIREN_MAX_LABELS + 1];
    if (labels > MOST_COLUMNS) {
        answering_spark(answer, spark, sizeof spark);
        cli_table_cell(table, "%s", spark);
        return;
    }
    for (int k = 0; k < labels; k++) {
        if (answer->n_labels)
            cli_table_cell(table, "%.0f %%", 100 * answer->probabilities[k]);
        else
            cli_table_cell(table, "%s", "");
    }
}

/* ---- the record of a run ---- */

char *answering_command(void)
{
    struct buf b = {0}, text = {0};
    char *line = NULL;
    size_t size = 0;
    FILE *f = fopen("/proc/self/cmdline", "rb");
    if (!f) return strdup("");
    while (getdelim(&line, &size, '\0', f) > 0) {
        if (b.size) buf_putc(&b, ' ');
        buf_puts(&b, cli_word(b.size ? line : path_name(line)));
    }
    free(line);
    fclose(f);
    utf8_repair(&text, buf_text(&b), b.size); /* paths may have any bytes */
    if (buf_failed(&b)) text.failed = 1;
    buf_free(&b);
    return buf_take(&text);
}
