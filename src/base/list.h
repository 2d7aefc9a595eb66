/* Lists in one text: "Drama | Comedy". */
#ifndef SIREN_BASE_LIST_H
#define SIREN_BASE_LIST_H

#include <string.h>

#define LIST_BLANKS " \t\n\v\f\r"

static inline int list_is_blank(const char *text)
{
    return text[strspn(text, LIST_BLANKS)] == 0;
}

/* The next entry that is not blank, without the blanks round it; NULL: none is left.  Cut out in
 * place; *rest (NULL or NUL-terminated) is what follows it. */
static inline char *list_next(char **rest, const char *separator)
{
    while (*rest) {
        char *entry = *rest + strspn(*rest, LIST_BLANKS), *end = strstr(*rest, separator);
        *rest = end ? end + strlen(separator) : NULL;
        if (!end) end = entry + strlen(entry);
        while (end > entry && strchr(LIST_BLANKS, end[-1])) end--;
        if (end <= entry) continue; /* blanks only may have led past the separator */
        *end = 0;
        return entry;
    }
    return NULL;
}

#endif
