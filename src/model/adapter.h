/* The factors of a LoRA adapter, and their form for the kernels.  Internal: a program outside has
 * siren/adapter.h. */
#ifndef SIREN_MODEL_ADAPTER_H
#define SIREN_MODEL_ADAPTER_H

#include "siren/adapter.h"
#include "tensor/kernels.h"

/* What an adapter may have, new or read. */
enum { ADAPTER_MOST_R = 4096 };
#define ADAPTER_LEAST_ALPHA 1e-6f
#define ADAPTER_MOST_ALPHA 1e6f
#define ADAPTER_MOST_DROPOUT 0.999f

struct lora_factors {
    float *a; /* (r, in); NULL: this matrix is not adapted */
    float *b; /* (out, r) */
    float *da, *db;
    int in, out;
};

/* Invariants of an adapter that a caller holds: `packed` is made (adapter_pack() ends creation and
 * loading) and holds the factors' values as of `version`; versions are never 0 and never shared by
 * two adapters or two states of one, so that a version alone says what a kept prefix was
 * computed with. */
struct siren_adapter {
    struct siren_adapter_config config;
    int n_layers;
    struct lora_factors *factors; /* [layer · SIREN_LORA_TARGETS + target] */
    float scale;
    uint64_t version;
    const struct siren_model *model;
    struct siren_params params;
    struct adapter_packed *packed;
    float *values, *grads; /* the memory of all factors, in the order of params */
    size_t n_values;
};

/* The two files of an adapter's folder. */
#define ADAPTER_CONFIG "adapter_config.json"
#define ADAPTER_WEIGHTS "adapter_model.safetensors"
/* Whether the path's last name is one of them. */
int adapter_is_file(const char *path);

/* What the product of an adapter's factors is multiplied by. */
float adapter_scale(const struct siren_adapter_config *config);
/* siren_adapter_identity() of these factors, in the order of params. */
void adapter_values_identity(const struct siren_adapter_config *config, const float *values,
                             size_t n_values, const char *path, char identity[256]);

/* Checked sizes and all memory; the factors are zero, nothing is packed yet. */
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

/* Make the packed forms, or make them again from the factors' present values (then it cannot fail
 * and allocates nothing); gives the adapter a new version. */
int adapter_pack(struct siren_adapter *adapter, struct siren_error *err);
void adapter_packed_free(struct adapter_packed *packed); /* NULL is allowed */

/* ---- the packed forms, for the forest ---- */

/* Targets that share an input are computed together: their A factors are columns of one matrix. */
enum lora_group {
    LORA_ATTENTION_INPUT,
    LORA_O_INPUT,
    LORA_FFN_INPUT,
    LORA_DOWN_INPUT,
    LORA_GROUPS
};

static inline enum lora_group lora_group_of(enum siren_lora_target target)
{
    return target <= SIREN_LORA_V    ? LORA_ATTENTION_INPUT
           : target == SIREN_LORA_O  ? LORA_O_INPUT
           : target <= SIREN_LORA_UP ? LORA_FFN_INPUT
                                     : LORA_DOWN_INPUT;
}

struct adapter_packed {
    struct packed *a; /* [layer · LORA_GROUPS + group] (adapted targets · r, in); n 0: none */
    struct packed *b; /* [layer · SIREN_LORA_TARGETS + target] (out, r), times scale; n 0: none */
    int *low;         /* like b: the target's first column of the group's A */
    int adapts_ffn_input;
    struct packed_arena arena;
};

#endif
