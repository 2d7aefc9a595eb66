/* What a chat template is made of: texts around the messages' contents. */
#ifndef SIREN_TEXT_CHAT_H
#define SIREN_TEXT_CHAT_H

#include "siren/chat.h"

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_ROLES };
#define CHAT_MAX_STOPS 8

/* NULL and 0 stand for nothing. */
struct chat_template {
    const char *name;
    const char *begin; /* before everything */
    const char *before[CHAT_ROLES], *after[CHAT_ROLES];
    const char *first_system;   /* before a system message that comes first; NULL: as the others */
    const char *default_system; /* where no system message comes first; NULL: none */
    const char *prompt;         /* the header of the assistant's turn */
    const char *stops[CHAT_MAX_STOPS + 1];
    int trim;     /* white space around a content vanishes */
    int thinking; /* Qwen3: an assistant's thoughts vanish before the last question */
};

/* The template of a family, by the hash of its Jinja text without trailing white space (XXH3,
 * 128 bits, 32 hexadecimal digits); NULL: unknown. */
const struct chat_template *chat_by_hash(const char *hex);
void chat_hash(char hex[33], const char *jinja, size_t length);

int chat_from_jinja(struct siren_chat **out, const char *jinja, size_t length, const char *name,
                    struct siren_error *err);
int chat_from_file_text(struct siren_chat **out, const char *text, size_t size, const char *name,
                        struct siren_error *err);
struct siren_chat *chat_of(const struct chat_template *t); /* NULL: out of memory */

#endif
