/* Chat templates without a template language.
 *
 * The templates of the families that we support (ChatML as in SmolLM2, Qwen2.5,
 * Qwen3 with its empty <think>, Llama 3 to 3.2) are written in C and recognised by the
 * hash of the Jinja text in the model's files; anything else must be given as a
 * file with the documented placeholders {system}, {user}, {assistant} (see
 * docs/chat-templates.md).  An unknown template is an error that says so, with
 * the hash. */
#ifndef SIREN_CHAT_H
#define SIREN_CHAT_H

#include <stddef.h>

#include "siren/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_chat; /* immutable */

/* From a model path (folder with tokenizer_config.json / chat_template.jinja, or .gguf). */
int siren_chat_load(struct siren_chat **out, const char *model_path, struct siren_error *err);
/* From a template file of the user's own. */
int siren_chat_load_file(struct siren_chat **out, const char *path, struct siren_error *err);
void siren_chat_free(struct siren_chat *chat); /* NULL is allowed */
/* "ChatML (SmolLM2)", …; of a template file its own name, or "template file", and a hash of its
 * text: "Mine #0123456789abcdef". */
const char *siren_chat_name(const struct siren_chat *chat);

struct siren_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
};

/* The prompt's text up to and including the header of the assistant's turn (what
 * apply_chat_template(add_generation_prompt=True, tokenize=False) gives), malloc'ed.
 * A family's default system message is added exactly where its template adds it.  NULL for a
 * template (a model that was opened without one) is SIREN_EINVAL. */
int siren_chat_render(const struct siren_chat *chat, const struct siren_message *messages,
                      size_t n_messages, char **text, struct siren_error *err);

/* The token texts that end an assistant's turn ("<|im_end|>"); NULL-terminated. */
const char *const *siren_chat_stops(const struct siren_chat *chat);

#ifdef __cplusplus
}
#endif
#endif
