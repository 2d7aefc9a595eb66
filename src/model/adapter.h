/* The factors of a LoRA adapter.  Private to src/model. */
#ifndef SIREN_MODEL_ADAPTER_H
#define SIREN_MODEL_ADAPTER_H

#include <stddef.h>

#include "siren/adapter.h"

struct lora_factors {
    float *a; /* (r, in); NULL: this matrix is not adapted */
    float *b; /* (out, r) */
    float *da, *db;
    int in, out;
};

/* Versions are never 0 and never shared by two adapters or two states of one, so that a version
 * alone says what a kept prefix was computed with. */
struct siren_adapter {
    struct siren_adapter_config config;
    int n_layers;
    struct lora_factors *factors; /* [layer · SIREN_LORA_TARGETS + target] */
    float scale;                  /* alpha / r, or alpha / √r */
    uint64_t version;
    const struct siren_model *model;
    struct siren_params params;
    char base[256];        /* the identity that the file named; "": none */
    float *values, *grads; /* the memory of all factors, in the order of params */
    size_t n_values;
};

/* Checked sizes and all memory; the factors are zero, the version is the first. */
int adapter_allocate(struct siren_adapter **out, const struct siren_model *base,
                     const struct siren_adapter_config *config, struct siren_error *err);
/* PEFT's name of a factor: which is 'A' or 'B'. */
void adapter_name(char name[160], int layer, enum siren_lora_target target, char which);

/* adapter_config.json.  Reading fills r, alpha, dropout and rslora: which matrices are adapted is
 * read off the tensors.  `where` begins the messages. */
int adapter_config_parse(struct siren_adapter_config *out, const char *text, size_t size,
                         const char *where, struct siren_error *err);
/* malloc'ed; NULL: out of memory.  base_name may be NULL. */
char *adapter_config_text(const struct siren_adapter *adapter, const char *base_name);

#endif
