/* Two settings compared, difference by difference. */
#include "train/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "siren/model.h"

/* What a person set, by the end of a path (the first that fits): options of the commands, and what
 * the rest comes from.  warm, reason and answer are the stages of `train all`. */
static const struct {
    const char *end, *name;
} names[] = {
    {"targets", "--lora-targets"},
    {"r", "--rank"},
    {"adapter.alpha", "--alpha"},
    {"adapter.dropout", "--dropout"},
    {"adapter.rslora", "--rslora"},
    {"adapter.layers", "--train-layers"},
    {"adapter.start", "the adapter to begin from (--adapter)"},
    {"adapter.dropout_seed", "--seed"},
    {"predict.strategy", "--strategy"},
    {"predict.recent", "--recent"},
    {"predict.more", "--more"},
    {"predict.sketch_rule", "--majority"},
    {"predict.sketch_decay", "--decay"},
    {"predict.gap", "--gap"},
    {"predict.prompt_limit", "--prompt-limit"},
    {"predict.max_tokens", "--max-tokens"},
    {"predict.sampling_seed", "--seed"},
    {"loss.ha", "--loss (ha)"},
    {"loss.layers", "--layers"},
    {"loss.before_norm", "--before-norm"},
    {"loss.layer_local", "--layer-local"},
    {"loss.ce", "the weight of ce (--loss, --ce)"},
    {"loss.kd", "--loss (kd)"},
    {"loss.rps", "the weight of rps (--loss, --rps)"},
    {"loss.smoothing", "--smoothing"},
    {"loss.temperature", "--kd-temperature"},
    {"teacher.name", "the teacher's file"},
    {"teacher.states", "what the teacher's file holds"},
    {"teacher.exact", "--exact"},
    {"teacher.share", "--share"},
    {"teacher.closeness", "--closeness"},
    {"grpo.samples", "--answers"},
    {"grpo.temperature", "--temperature"},
    {"grpo.top_p", "--top-p"},
    {"grpo.top_k", "--top-k"},
    {"grpo.max_tokens", "--max-tokens"},
    {"grpo.constant_length", "--max-tokens"},
    {"grpo.reward", "--reward"},
    {"grpo.length_cost", "--length-cost"},
    {"grpo.outside", "--outside"},
    {"grpo.answer_weight", "--answer-weight"},
    {"grpo.answer_ce", "--answer-loss (ce)"},
    {"grpo.answer_rps", "--answer-loss (rps)"},
    {"grpo.advantage", "--advantage"},
    {"grpo.clip_low", "--clip-low"},
    {"grpo.clip_high", "--clip-high"},
    {"grpo.dual_clip", "--dual-clip"},
    {"grpo.kl", "--kl"},
    {"grpo.kl_kind", "--kl-kind"},
    {"grpo.entropy", "--entropy"},
    {"grpo.aggregation", "--mean-over"},
    {"grpo.flat_groups", "--flat-groups"},
    {"grpo.mask_truncated", "--mask-truncated"},
    {"grpo.eval_samples", "--eval-samples"},
    {"batch", "--batch"},
    {"training.epochs", "--epochs"},
    {"training.max_steps", "--max-steps"},
    {"training.repeats", "--updates"},
    {"training.lr", "--lr"},
    {"training.lora_plus", "--lora-plus"},
    {"training.schedule", "--schedule"},
    {"training.warmup", "--warmup"},
    {"training.weight_decay", "--weight-decay"},
    {"training.clip", "--clip"},
    {"training.pass_tokens", "--pass-tokens"},
    {"training.pass_tokens_most", "--pass-tokens"},
    {"training.dropout", "--dropout"},
    {"training.layer_local", "--layer-local"},
    {"training.eval_every", "--eval-every"},
    {"training.eval_first", "--eval-first"},
    {"training.patience", "--patience"},
    {"training.metric", "--choose-by"},
    {"warm.rows", "--warm-rows"},
    {"warm.epochs", "--warm-epochs"},
    {"reason.rows", "--grpo-rows"},
    {"reason.max_steps", "--grpo-steps"},
    {"reason.eval_every", "--grpo-eval-every"},
    {"answer.rows", "--align-rows"},
    {"answer.epochs", "--align-epochs"},
    {"warm.alpha", "--rank"},
    {"answer.alpha", "--rank"},
    {"kind", "the kind of training"},
    {"adapter", "the adapter (--adapter)"},
    {"seed", "--seed"},
    {"model", "the model (--model)"},
    {"chat_template", "the chat template"},
    {"compute", "what computes (--compute, --isa, or the machine)"},
    {"numerics", "the program's arithmetic (docs/numerics.md)"},
    {"data", "the workspace's data"},
    {"protocol", "the protocol of the import"},
    {"split", "--split"},
    {"fold", "--fold"},
    {"fold_seed", "the seed of the teacher's fold"},
    {"rows", "--rows"},
    {"eval_split", "--eval-split"},
    {"eval_rows", "--eval-rows"},
    {"choose_by", "--choose-by"},
    {"weights", "--weights"},
    {"layers", "--train-layers"},
    {"response", "--response"},
    {"answer_weight", "--answer-weight"},
};

/* The path itself where it has no name. */
static const char *name_of(const char *path)
{
    size_t n = strlen(path);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t m = strlen(names[i].end);
        int ends = n >= m && !strcmp(path + n - m, names[i].end);
        if (ends && (n == m || path[n - m - 1] == '.')) return names[i].name;
    }
    return path;
}

/* Two different values at `path`, as text; once where one option stands in several places. */
static void add_difference(struct buf *out, const char *path, const json_t *mine,
                           const json_t *theirs)
{
    const size_t flags = JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(9);
    char *a = mine ? json_dumps(mine, flags) : NULL, *b = theirs ? json_dumps(theirs, flags) : NULL;
    struct buf one = {0};
    buf_printf(&one, "%s is %.60s, it was %.60s", name_of(path), a ? a : "missing",
               b ? b : "missing");
    if (!strstr(buf_text(out), buf_text(&one)))
        buf_printf(out, "%s%s", out->size ? "; " : "", buf_text(&one));
    buf_free(&one);
    free(a);
    free(b);
}

/* "NAME#HASH", whose name is where it lay. */
static int is_identity(const char *path)
{
    const char *last = strrchr(path, '.');
    return !strcmp(last ? last + 1 : path, "model") || !strcmp(path, "run.adapter.start");
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
        int same = is_identity(inner) &&
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
