/* "Did you mean …": the nearest of the known names by edit distance. */
#include <string.h>

#include "cli/frame.h"

enum { LONGEST = 40 };

static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), row[LONGEST + 1];
    if (n > LONGEST || m > LONGEST) return LONGEST;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
            size_t shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = substitute < shorter ? substitute : shorter;
        }
    }
    return row[m];
}

struct search {
    const char *word, *best;
    size_t best_distance;
};

/* Take `answer` if `name` is nearer to the word than the best so far; a name is
 * near when a third of its letters differ at most, or when the word begins it. */
static void consider(struct search *s, const char *name, const char *answer)
{
    size_t d = distance(s->word, name), n = strlen(s->word);
    if (n >= 3 && d > 1 && strncmp(s->word, name, n) == 0) d = 1;
    if (d < s->best_distance && d <= (strlen(name) + 2) / 3) {
        s->best = answer;
        s->best_distance = d;
    }
}

const char *cli_nearest_command(const char *word)
{
    struct search s = {word, NULL, LONGEST};
    for (size_t i = 0; cli_commands[i]; i++) {
        const char *name = cli_commands[i]->name;
        char first[LONGEST] = "";
        size_t n = strcspn(name, " ");
        consider(&s, name, name);
        if (name[n] && n < LONGEST) {
            memcpy(first, name, n);
            consider(&s, first, name);
        }
    }
    return s.best;
}

const char *cli_nearest_option(const struct cli_command *command, const char *word)
{
    struct search s = {word, NULL, LONGEST};
    const struct cli_option *o;
    for (size_t i = 0; (o = cli_option_at(command, i)); i++) consider(&s, o->name, o->name);
    return s.best;
}
