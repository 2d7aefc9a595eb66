/* The name in a namer's answer, which is whatever a language model wrote. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "siren/topics.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct siren_error err;
    char *answer = malloc(size + 1), *name;
    if (!answer) return 0;
    memcpy(answer, data, size);
    answer[size] = 0;
    if (siren_topic_parse(answer, &name, &err) == 1) {
        if (!name || !*name || strpbrk(name, "\r\n\t")) abort();
        free(name);
    }
    char *names[2];
    const struct siren_topic_item items[2] = {{answer, answer}, {"A title", "A|B"}};
    const int32_t labels[2] = {0, 1};
    if (!siren_topics_tfidf(names, 2, items, labels, 2, &err)) {
        if (!*names[0] || !*names[1] || !strcmp(names[0], names[1])) abort();
        free(names[0]);
        free(names[1]);
    }
    free(answer);
    return 0;
}
