/* A language model as a Hugging Face folder, for other programs: model.safetensors (dequantised,
 * an adapter's product added to the weights), config.json, tokenizer.json and what belongs to them.
 *
 *     siren_model_export("smollm2.gguf", "smollm2-films", &(struct siren_export_options){
 *                            .adapter = "films"}, &report, progress, &err);
 *
 * From a folder the configuration, the tokenizer and the files beside them are taken over; from
 * GGUF they are written from the metadata.  Decoders only (SIREN_EUNSUPPORTED otherwise, and
 * where a tokenizer or a configuration has no exact form there; the message names it).
 *
 * Each number is W, or W + scale·Σ_j B[n][j]·A[j][k] (a sum in f64 over j = 0 … r - 1, in this
 * order), rounded once to the type that is written.  In f32 and without an adapter the export
 * computes what its source computes, to the bit.
 *
 * The folder appears whole or not at all: it is written under another name beside, synced and
 * renamed.  An existing one is never touched (SIREN_EEXISTS), unless it is empty or `replace` says
 * so: then the old one stays until the new one is whole.  A process that is killed leaves
 * FOLDER.tmp-PID-N, which the next export to FOLDER removes.
 *
 * The safetensors' metadata says where the numbers come from: siren.source, the identity of the
 * source; siren.exact, 1 where no number was rounded and nothing merged; siren.adapter, the
 * identity of what was merged; siren.texts, a hash of config.json and tokenizer.json as they were
 * written.  Where siren.exact is 1 and siren.texts still holds, an adapter of the source is an
 * adapter of the export, and the other way round (siren_model_source()). */
#ifndef SIREN_EXPORT_H
#define SIREN_EXPORT_H

#include <stdint.h>

#include "siren/error.h"
#include "siren/model.h"
#include "siren/progress.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_export_options {
    const char *adapter; /* a LoRA adapter's folder, merged into the weights; NULL: none */
    const char *dtype;   /* "f32" (or NULL), "bf16", "f16" */
    /* The weights that this model trains are written with their present values, the rest (and all
     * texts) from the file it was loaded from, which `model` names; NULL: all from the file. */
    const struct siren_model *trained;
    int replace; /* 1: an export that is there already is replaced, in one step */
};
struct siren_export_report {
    uint64_t n_tensors, n_parameters, bytes; /* of model.safetensors */
    char source[256], adapter[256];          /* identities; adapter "": none */
    int exact;
};
/* options and report may be NULL.  Ctrl-C (progress) leaves nothing: SIREN_ECANCEL. SIREN_ENUMERIC:
 * a number is not finite, or beyond the range of the type. */
int siren_model_export(const char *model, const char *folder,
                       const struct siren_export_options *options,
                       struct siren_export_report *report, const struct siren_progress *progress,
                       struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
