/* A LoRA adapter: for each adapted matrix W (out, in) of a model two small factors,
 *
 *     y = W x + scale · B (A x),    A (r, in), B (out, r),    scale = alpha / r
 *
 * or alpha / √r (rsLoRA, Kalajdzievski 2023).  The default: r = 8, alpha = 16 on k and v of every
 * layer.  An adapter belongs to one model and must not outlive it.  Decoders only.  Any number may
 * be used at once: each root of a forest chooses its own (siren_forest_use_adapter), a session has
 * a current one (siren_session_use_adapter).  The factors stay apart from the weights while a model
 * runs: nothing is merged, and weights may be quantised.
 *
 *     struct siren_adapter *adapter;
 *     siren_adapter_load(&adapter, "runs/7/adapter", model, &err);
 *     … siren_adapter_params(adapter) …
 *     siren_adapter_free(adapter);
 *
 * Files are those of Hugging Face's PEFT, in a folder: adapter_config.json and
 * adapter_model.safetensors.  What PEFT has no field for (the base's exact identity) is in the
 * safetensors' metadata, which PEFT does not read; keys of our own in adapter_config.json would
 * make it warn. */
#ifndef SIREN_ADAPTER_H
#define SIREN_ADAPTER_H

#include <stdint.h>

#include "siren/error.h"
#include "siren/model.h"
#include "siren/params.h"

#ifdef __cplusplus
extern "C" {
#endif

enum siren_lora_target {
    SIREN_LORA_Q,
    SIREN_LORA_K,
    SIREN_LORA_V,
    SIREN_LORA_O,
    SIREN_LORA_GATE,
    SIREN_LORA_UP,
    SIREN_LORA_DOWN,
    SIREN_LORA_TARGETS
};
const char *siren_lora_target_name(enum siren_lora_target target); /* "q_proj", … */

struct siren_adapter_config {
    unsigned targets;            /* bits 1 << enum siren_lora_target */
    int first_layer, last_layer; /* layers [first, last] are adapted, from 0 */
    int r;                       /* 1 … 4096 */
    float alpha;                 /* 1e-6 … 1e6 */
    float dropout;               /* probability, 0 … 0.999, on the input of A, in training only */
    int rslora;
    uint64_t seed; /* of the initial A and of dropout; 0 in an adapter that PEFT wrote */
};

struct siren_adapter;

/* A new adapter that changes nothing yet: B is 0, A uniform in ±1/√in (PEFT's Kaiming with
 * a = √5), a function of the seed, the layer, the target and the element alone.  SIREN_EINVAL: a
 * field out of its range; SIREN_EUNSUPPORTED: an encoder. */
int siren_adapter_create(struct siren_adapter **out, const struct siren_model *base,
                         const struct siren_adapter_config *config, struct siren_error *err);
void siren_adapter_free(struct siren_adapter *adapter); /* NULL is allowed */

/* path: the folder, or one of its two files by its name; f32, f16 or bf16.  The target modules
 * and layers are those that the file has factors of; they must be the same modules in every
 * layer of one range.
 * SIREN_EINVAL: another file; made for another base (both identities are in the message).  An
 * adapter without a stated base, as PEFT writes it, is accepted where all shapes fit.
 * SIREN_EUNSUPPORTED: something that would change the numbers and is not computed here (DoRA,
 * biases, modules_to_save, rank_pattern …), by its name.  SIREN_EFORMAT, SIREN_ENUMERIC: damage. */
int siren_adapter_load(struct siren_adapter **out, const char *path, const struct siren_model *base,
                       struct siren_error *err);

/* What an adapter's files say of themselves, without their base. */
struct siren_adapter_info {
    struct siren_adapter_config config;
    uint64_t n_parameters;
    char base[256];     /* the identity of the base; "": not named */
    char identity[256]; /* as of siren_adapter_identity() */
};
/* Errors as of siren_adapter_load(), but for the shapes, which only the base tells. */
int siren_adapter_inspect(struct siren_adapter_info *out, const char *path,
                          struct siren_error *err);

/* Into a folder, made if missing; each file is replaced atomically, in f32.  base_identity: of
 * siren_model_identity(), or NULL to leave the base unnamed.  A crash between the two files leaves
 * a pair that loading refuses if r, alpha or rsLoRA differ, and a good one otherwise. */
int siren_adapter_save(const struct siren_adapter *adapter, const char *folder,
                       const char *base_identity, struct siren_error *err);

const struct siren_adapter_config *siren_adapter_config(const struct siren_adapter *adapter);

/* "NAME#HASH", like siren_model_identity(): the name of the folder at `path` with a hash of the
 * factors, their places and their scale.  The same adapter has the same hash wherever it lies and
 * in whichever type its numbers are stored. */
void siren_adapter_identity(const struct siren_adapter *adapter, const char *path,
                            char identity[256]);

/* The factors under PEFT's names, layer by layer, q to down, A before B. */
struct siren_params siren_adapter_params(struct siren_adapter *adapter);
/* Allocates the gradients (zero); once is enough. */
int siren_adapter_trainable(struct siren_adapter *adapter, struct siren_error *err);
/* The values of the factors were changed (an optimiser's step): the adapter gets a new version, so
 * that nothing computed with the old values is taken for the new.  No pass that uses the adapter
 * may run meanwhile. */
void siren_adapter_changed(struct siren_adapter *adapter);

#ifdef __cplusplus
}
#endif
#endif
