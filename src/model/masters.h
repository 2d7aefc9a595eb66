/* Master weights: of what is trained, the f32 values that the packed forms are made from, and their
 * gradients.  Private to src/model. */
#ifndef SIREN_MODEL_MASTERS_H
#define SIREN_MODEL_MASTERS_H

#include "model/model.h"
#include "model/names.h"

/* One tensor in Hugging Face's layout (rows of q and k in the order of the halves). */
struct master {
    struct tensor tensor; /* data NULL: not trained */
    float *value, *grad;
    int unwritten; /* siren_param.unwritten */
    char name[160];
};

/* Allocates what `what` names and fills it from the model's file.  Ends with model->params. */
int masters_load(struct siren_model *model, const struct siren_trainable *what,
                 struct siren_error *err);
void masters_free(struct siren_model *model);

/* NULL: this one is not trained.  The layer counts only for tensors of a layer; a tied head is the
 * token embedding. */
const struct master *master_find(const struct siren_model *model, int layer,
                                 enum model_tensor which);
static inline float *master_gradient(const struct siren_model *model, int layer,
                                     enum model_tensor which)
{
    const struct master *m = model->masters ? master_find(model, layer, which) : NULL;
    return m ? m->grad : NULL;
}

#endif
