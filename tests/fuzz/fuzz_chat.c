/* A chat template file, then a NUL, then a message. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/chat.h"

static void render(const struct siren_chat *chat, const char *content)
{
    struct siren_message messages[] = {
        {"system", content}, {"user", content}, {"assistant", content}, {"assistant", content}};
    struct siren_error err;
    char *text;
    for (size_t first = 0; first < 4; first++)
        for (size_t n = 0; first + n <= 4; n++)
            if (!siren_chat_render(chat, messages + first, n, &text, &err)) free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const hashes[] = {"4457e3d12b367a860283f874ff58d644",
                                         "9ddcd6cd71f96dd76ca7779b7730196a"};
    size_t n_file = strnlen((const char *)data, size);
    struct siren_chat *chat;
    struct siren_error err;
    char *content = calloc(size - n_file + 1, 1);
    if (!content) return 0;
    if (n_file + 1 < size) memcpy(content, data + n_file + 1, size - n_file - 1);
    if (!chat_from_file_text(&chat, (const char *)data, n_file, "fuzz", &err)) {
        render(chat, content);
        siren_chat_free(chat);
    }
    for (size_t i = 0; i < 2; i++) {
        chat = chat_of(chat_by_hash(hashes[i]));
        if (chat) render(chat, content);
        siren_chat_free(chat);
    }
    free(content);
    return 0;
}
