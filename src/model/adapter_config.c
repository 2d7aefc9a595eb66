/* PEFT's adapter_config.json. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/adapter.h"
#include "weights/tensors.h"

struct source {
    const json_t *json;
    const char *where;
    struct siren_error *err;
};

/* Keys that change no number here, whatever they say.  Which modules are adapted is read off the
 * tensors, so target_modules and the layers are not asked. */
static const char *const harmless[] = {
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "peft_type",
    "task_type",
    "bias",
    "init_lora_weights",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "peft_version",
    "megatron_core",
    "qalora_group_size", /* of use_qalora */
    "eva_config",        /* how A was initialised */
    "lora_ga_config",
};

static int is_harmless(const char *key)
{
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (!strcmp(harmless[i], key)) return 1;
    return 0;
}

static int is_off(const json_t *v)
{
    return !v || json_is_null(v) || json_is_false(v) ||
           (json_is_object(v) && !json_object_size(v)) || (json_is_array(v) && !json_array_size(v));
}

static int unsupported(const struct source *s, const char *key)
{
    const json_t *v = json_object_get(s->json, key);
    char *value = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    int rc = siren_fail(s->err, SIREN_EUNSUPPORTED, "%s: \"%s\": %s is not supported", s->where,
                        tensors_show(key, strlen(key)).text,
                        value ? tensors_show(value, strlen(value)).text : "its value");
    free(value);
    return rc;
}

static int expect_text(const struct source *s, const char *key, const char *wanted, int needed)
{
    const json_t *v = json_object_get(s->json, key);
    if (!needed && is_off(v)) return SIREN_OK;
    if (!v)
        return siren_fail(s->err, SIREN_EFORMAT, "%s: \"%s\" is missing, expected \"%s\"", s->where,
                          key, wanted);
    const char *text = json_string_value(v);
    return text && !strcmp(text, wanted) ? SIREN_OK : unsupported(s, key);
}

/* These change the base's weights, so the factors do not fit the base as it is. */
static int check_init(const struct source *s)
{
    static const char *const fine[] = {"gaussian", "orthogonal", "eva", "lora_ga"};
    const json_t *v = json_object_get(s->json, "init_lora_weights");
    const char *text = json_string_value(v);
    if (is_off(v) || json_is_true(v)) return SIREN_OK;
    for (size_t i = 0; text && i < sizeof fine / sizeof *fine; i++)
        if (!strcmp(text, fine[i])) return SIREN_OK;
    return unsupported(s, "init_lora_weights");
}

static int read_number(const struct source *s, const char *key, int needed, double least,
                       double most, double *out)
{
    const json_t *v = json_object_get(s->json, key);
    if (!needed && (!v || json_is_null(v))) return SIREN_OK;
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= least && x <= most))
        return siren_fail(s->err, SIREN_EFORMAT, "%s: \"%s\" is %s, expected a number of %g to %g",
                          s->where, key, v ? "something else" : "missing", least, most);
    *out = x;
    return SIREN_OK;
}

static int read_numbers(const struct source *s, struct siren_adapter_config *out)
{
    double r = 0, alpha = 0, dropout = 0;
    const json_t *rslora = json_object_get(s->json, "use_rslora");
    int rc = read_number(s, "r", 1, 1, ADAPTER_MOST_R, &r);
    if (!rc && r != floor(r))
        rc = siren_fail(s->err, SIREN_EFORMAT, "%s: \"r\" is %g, expected an integer", s->where, r);
    if (!rc)
        rc = read_number(s, "lora_alpha", 1, (double)ADAPTER_LEAST_ALPHA,
                         (double)ADAPTER_MOST_ALPHA, &alpha);
    if (!rc) rc = read_number(s, "lora_dropout", 0, 0, (double)ADAPTER_MOST_DROPOUT, &dropout);
    if (!rc && rslora && !json_is_boolean(rslora) && !json_is_null(rslora))
        rc = siren_fail(s->err, SIREN_EFORMAT, "%s: \"use_rslora\": expected true or false",
                        s->where);
    if (rc) return rc;
    out->r = (int)r;
    out->alpha = (float)alpha;
    out->dropout = (float)dropout;
    out->rslora = json_is_true(rslora);
    return SIREN_OK;
}

static int read_all(const struct source *s, struct siren_adapter_config *out)
{
    const char *key;
    json_t *value;
    int rc = expect_text(s, "peft_type", "LORA", 1);
    if (!rc) rc = expect_text(s, "task_type", "CAUSAL_LM", 0);
    if (!rc) rc = expect_text(s, "bias", "none", 0);
    if (!rc) rc = check_init(s);
    json_object_foreach((json_t *)s->json, key, value)
    {
        if (!rc && !is_harmless(key) && !is_off(value)) rc = unsupported(s, key);
    }
    return rc ? rc : read_numbers(s, out);
}

int adapter_config_parse(struct siren_adapter_config *out, const char *text, size_t size,
                         const char *where, struct siren_error *err)
{
    json_error_t e;
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &e);
    struct source s = {.json = json, .where = where, .err = err};
    *out = (struct siren_adapter_config){0};
    if (!json)
        return siren_fail(err, SIREN_EFORMAT, "%s:%d: no JSON: %s", where, e.line,
                          tensors_show(e.text, strlen(e.text)).text);
    int rc = json_is_object(json) ? read_all(&s, out)
                                  : siren_fail(err, SIREN_EFORMAT, "%s: no JSON object", where);
    json_decref(json);
    return rc;
}

/* ---- writing ---- */

/* An integer where it is one, else the shortest decimal that reads back as this float. */
static json_t *number_json(float x)
{
    char text[32];
    if (x == floorf(x)) return json_integer((json_int_t)x);
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    return json_real(strtod(text, NULL));
}

/* dropout is a real even where it is 0. */
static json_t *real(float x)
{
    json_t *n = number_json(x), *r = json_real(json_number_value(n));
    json_decref(n);
    return r;
}

static json_t *modules(unsigned targets)
{
    json_t *list = json_array();
    for (int t = 0; t < SIREN_LORA_TARGETS; t++)
        if (targets >> t & 1)
            json_array_append_new(list,
                                  json_string(siren_lora_target_name((enum siren_lora_target)t)));
    return list;
}

/* null where all layers are adapted, as PEFT has it. */
static json_t *layers(const struct siren_adapter *a)
{
    if (a->config.first_layer == 0 && a->config.last_layer == a->n_layers - 1) return json_null();
    json_t *list = json_array();
    for (int i = a->config.first_layer; i <= a->config.last_layer; i++)
        json_array_append_new(list, json_integer(i));
    return list;
}

char *adapter_config_text(const struct siren_adapter *a, const char *base_name)
{
    const struct siren_adapter_config *c = &a->config;
    json_t *json = json_pack(
        "{s:s, s:s, s:s?, s:n, s:i, s:o, s:o, s:b, s:o, s:o, s:s, s:b, s:b, s:b, s:n, s:b}",
        "peft_type", "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", base_name,
        "revision", "r", c->r, "lora_alpha", number_json(c->alpha), "lora_dropout",
        real(c->dropout), "use_rslora", c->rslora, "target_modules", modules(c->targets),
        "layers_to_transform", layers(a), "bias", "none", "fan_in_fan_out", 0, "inference_mode", 1,
        "init_lora_weights", 1, "modules_to_save", "use_dora", 0);
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    json_decref(json);
    return text;
}
