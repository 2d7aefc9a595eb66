/* Progress of long work, and the way to stop it.
 *
 * The library never prints: a function that may run for more than a second
 * takes a `const struct siren_progress *` (NULL: nobody watches) and calls
 * `update` a few times a second at most.  The command line draws a bar from it.
 * Behind a colon `what` may have news of the same work: "steps: loss 0.42". */
#ifndef SIREN_PROGRESS_H
#define SIREN_PROGRESS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct siren_progress {
    /* done of total (total 0: not known) units of `what` ("prompts", "ratings",
     * "bytes").  Returns non-zero to stop: the function that reports then ends
     * with SIREN_ECANCEL and leaves everything as a completed part or as before. */
    int (*update)(void *context, const char *what, uint64_t done, uint64_t total);
    void *context;
};

static inline int siren_progress_update(const struct siren_progress *progress, const char *what,
                                        uint64_t done, uint64_t total)
{
    return progress && progress->update ? progress->update(progress->context, what, done, total)
                                        : 0;
}

#ifdef __cplusplus
}
#endif
#endif
