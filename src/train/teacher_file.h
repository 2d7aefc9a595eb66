/* The file of a teacher's states, for its reader and its writer.  Private to src/train. */
#ifndef SIREN_TRAIN_TEACHER_FILE_H
#define SIREN_TRAIN_TEACHER_FILE_H

#include "siren/file.h"
#include "siren/teacher.h"

enum {
    TEACHER_VERSION = 2, /* of int8; bf16 is as in 1 */
    TEACHER_HEADER = 32, /* before the JSON */
    TEACHER_RECORD = 32, /* before the label scores */
    TEACHER_CHECK = 16,
    TEACHER_ROW = 0x20574f52, /* "ROW " */
    TEACHER_END = 0x20444e45  /* "END " */
};

/* The checksum so far. */
struct teacher_chain {
    unsigned char check[TEACHER_CHECK];
};
void teacher_chain_add(struct teacher_chain *chain, const void *data, size_t size);

/* As it lies in the file. */
struct teacher_record {
    uint32_t kind;
    int32_t user, item;
    uint32_t flags;
    float rating, number;
    uint32_t n_ids, n_frame;
};

size_t teacher_state_bytes(const struct siren_teacher_shape *shape);
/* SIREN_EINVAL: a shape that no model has. */
int teacher_check_shape(const struct siren_teacher_shape *shape, struct siren_error *err);

/* States to and from their encoding; bytes: teacher_state_bytes(). */
void teacher_encode(const struct siren_teacher_shape *shape, const float *states,
                    unsigned char *bytes);
void teacher_decode(const struct siren_teacher_shape *shape, const unsigned char *bytes,
                    float *states);

/* Walks over a file in memory. */
struct teacher_scan {
    const char *path; /* for messages */
    const unsigned char *data;
    size_t size;
    struct siren_teacher_shape shape;
    const char *json; /* (n_json), not terminated */
    size_t n_json;
    struct teacher_chain chain; /* of what is good */
    size_t good;                /* bytes that are good: the header and whole rows */
    uint64_t *offsets;          /* (n) of records; malloc'ed, the caller's */
    size_t n, capacity;
    int whole; /* 1: the end is there */
    int cut;   /* 1: the error is that the file ends early, as a writer leaves it that was killed */
};
/* The header; errors: SIREN_EFORMAT, SIREN_EUNSUPPORTED. */
int teacher_scan_header(struct teacher_scan *scan, struct siren_error *err);
/* All records.  0: only good ones, and the end or nothing behind them; else SIREN_EFORMAT (or
 * SIREN_ENOMEM), and scan says how far the file is good. */
int teacher_scan_records(struct teacher_scan *scan, struct siren_error *err);

/* ids: (n_ids) what the teacher wrote, up to q: from them the states can be computed again. */
int teacher_ids(struct siren_teacher *teacher, size_t row, int32_t *ids, struct siren_error *err);

#endif
