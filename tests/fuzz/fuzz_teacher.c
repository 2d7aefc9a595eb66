/* Teacher states.  The input is a file without its checksums; they are put in where the lengths in
 * it say, so that the walk behind them is reached. */
#include <xxhash.h>

#include "fuzz/memory_file.h"
#include "train/teacher_file.h"

struct maker {
    const uint8_t *data;
    size_t size, at;
    struct teacher_chain chain;
    int fd;
};

static void put(struct maker *m, size_t n)
{
    if (n > m->size - m->at) n = m->size - m->at;
    teacher_chain_add(&m->chain, m->data + m->at, n);
    memory_file_write(m->fd, m->data + m->at, n);
    memory_file_write(m->fd, m->chain.check, TEACHER_CHECK);
    m->at += n;
}

static uint32_t field(const struct maker *m, size_t at)
{
    uint32_t value = 0;
    if (m->at + at + 4 <= m->size) memcpy(&value, m->data + m->at + at, 4);
    return value;
}

static void use(struct siren_teacher *t)
{
    const struct siren_teacher_shape *s = siren_teacher_shape(t);
    struct siren_teacher_filter filter = {.share = 0.5, .closeness = 1, .low = 1, .high = 5};
    size_t n = siren_teacher_rows(t), d = (size_t)s->n_layers * (size_t)s->d;
    double *weights = calloc(n + 1, sizeof *weights);
    float *states = d <= 1 << 20 ? malloc(d * sizeof *states) : NULL;
    if (weights) siren_teacher_select(t, &filter, weights);
    for (size_t i = 0; i < n && states; i++) {
        int32_t *ids = malloc((siren_teacher_row(t, i)->n_ids + 1) * sizeof *ids);
        siren_teacher_states(t, i, states, NULL);
        if (ids) teacher_ids(t, i, ids, NULL);
        free(ids);
    }
    free(states);
    free(weights);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct siren_teacher *t;
    char path[64];
    struct maker m = {data, size, 0, {{0}}, memory_file(path)};
    uint32_t n_labels = field(&m, 24);
    put(&m, TEACHER_HEADER + (size_t)field(&m, 28));
    while (m.at < m.size) {
        size_t body =
            field(&m, 0) == TEACHER_ROW ? (size_t)field(&m, 28) + 4 * (size_t)n_labels : 0;
        put(&m, TEACHER_RECORD + body);
    }
    if (siren_teacher_open(&t, path, NULL) == 0) {
        use(t);
        siren_teacher_close(t);
    }
    return 0;
}
