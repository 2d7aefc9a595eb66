/* A model's answer, and foreign text on its way into a prompt. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "siren/prompt.h"
#include "siren/readout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_clean(const char *text, size_t limit)
{
    char *clean = siren_prompt_clean(text, limit), *again;
    if (!clean) return;
    if (strstr(clean, "<|") || strstr(clean, "</") || strpbrk(clean, "\r\n\t")) abort();
    for (const char *p = clean; (p = strchr(p, '<')) != NULL; p++)
        if ((p[1] >= 'a' && p[1] <= 'z') || (p[1] >= 'A' && p[1] <= 'Z')) abort();
    again = siren_prompt_clean(clean, 0); /* cleaning twice changes nothing */
    if (!again || strcmp(clean, again) != 0) abort();
    free(again);
    free(clean);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    text[size] = '\0';
    struct siren_reading a = siren_answer_read(text, 1, 5, 0);
    if (!(a.rating >= 1 && a.rating <= 5)) abort();
    if ((a.faults & 1u << SIREN_FAULT_CLAMPED) && !a.has_number) abort();
    check_clean(text, 0);
    check_clean(text, 7);
    free(text);
    return 0;
}
