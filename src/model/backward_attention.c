/* Attention's backward: which rows make a task, what each sums, and the sums put together.
 *
 * The rows of a tree, in the order of its segments, are cut into parts of equal size, whatever the
 * threads; one task is a part and a kv head.  A task has sums (slots) of its own for each page that
 * its rows see, so parts of one tree run beside each other; a row's gradient adds the slots of its
 * pages in the order of the parts. */
#include <string.h>

#include "model/backward.h"

/* Rows of a part: enough to pay for its slots, few enough that the three heads of one tree keep
 * more than three threads busy. */
enum { PART_ROWS = 256 };

/* ---- the plan ---- */

/* Trees are numbered by their roots; a segment follows its parent. */
static void order_trees(struct siren_forest *f)
{
    struct back_parts *b = &f->back->parts;
    int *first = b->tree_first;
    b->n_trees = 0;
    for (size_t i = 0; i < f->n_segments; i++) {
        int parent = f->segments[i].parent;
        f->segments[i].tree = parent == SIREN_ROOT ? b->n_trees++ : f->segments[parent].tree;
    }
    memset(first, 0, ((size_t)b->n_trees + 1) * sizeof *first);
    for (size_t i = 0; i < f->n_segments; i++) first[f->segments[i].tree + 1]++;
    for (int t = 0; t < b->n_trees; t++) first[t + 1] += first[t];
    for (size_t i = 0; i < f->n_segments; i++)
        b->tree_segments[first[f->segments[i].tree]++] = (int)i;
    for (int t = b->n_trees; t > 0; t--) first[t] = first[t - 1];
    first[0] = 0;
}

static int rows_of_tree(const struct siren_forest *f, int tree)
{
    const struct back_parts *b = &f->back->parts;
    int rows = 0;
    for (int i = b->tree_first[tree]; i < b->tree_first[tree + 1]; i++)
        rows += (int)f->segments[b->tree_segments[i]].n_ids;
    return rows;
}

/* Pages that the segment's rows before `to` see. */
static int pages_until(const struct segment *s, int to)
{
    return (s->start + to - 1) / ATTENTION_PAGE + 1;
}

/* Appends one tree's parts, and their pieces. */
static void cut_tree(const struct siren_forest *f, int tree)
{
    struct back_parts *b = &f->back->parts;
    int rows = rows_of_tree(f, tree), n = (rows + PART_ROWS - 1) / PART_ROWS;
    int size = n ? (rows + n - 1) / n : 0, left = 0; /* of the part at hand */
    for (int i = b->tree_first[tree]; i < b->tree_first[tree + 1]; i++) {
        const struct segment *s = &f->segments[b->tree_segments[i]];
        for (int from = 0, to; from < (int)s->n_ids; from = to) {
            if (!left) {
                b->part_first[b->n_parts++] = b->n_pieces;
                left = size;
            }
            to = (int)s->n_ids - from < left ? (int)s->n_ids : from + left;
            left -= to - from;
            int n_pages = pages_until(s, to);
            b->pieces[b->n_pieces++] = (struct back_piece){.segment = b->tree_segments[i],
                                                           .from = from,
                                                           .to = to,
                                                           .n_pages = n_pages,
                                                           .slots = b->n_slots_listed};
            b->n_slots_listed += n_pages;
        }
    }
}

static void cut_trees(const struct siren_forest *f)
{
    struct back_parts *b = &f->back->parts;
    b->n_parts = b->n_pieces = b->n_slots_listed = 0;
    for (int tree = 0; tree < b->n_trees; tree++) cut_tree(f, tree);
    b->part_first[b->n_parts] = b->n_pieces;
}

/* Every page's slots are neighbours, one for each part that sees it: counted, then handed out.  The
 * piece that is the first of its part to see a page lists the complement of the slot. */
static void hand_out_slots(const struct siren_forest *f)
{
    struct back_parts *b = &f->back->parts;
    int *first = b->page_first, *seen = b->page_seen;
    memset(first, 0, (f->n_pages + 1) * sizeof *first);
    for (int counted = 0; counted < 2; counted++) {
        for (size_t p = 0; p < f->n_pages; p++) seen[p] = -1;
        for (int part = 0; part < b->n_parts; part++)
            for (int i = b->part_first[part]; i < b->part_first[part + 1]; i++) {
                const struct back_piece *piece = &b->pieces[i];
                const int *pages = f->page_table + f->segments[piece->segment].table;
                for (int p = 0; p < piece->n_pages; p++) {
                    int page = pages[p], new = seen[page] != part;
                    seen[page] = part;
                    if (!counted)
                        first[page + 1] += new;
                    else
                        b->slots[piece->slots + p] =
                            new ? ~b->page_next[page]++ : b->page_next[page] - 1;
                }
            }
        if (counted) return;
        for (size_t p = 0; p < f->n_pages; p++) first[p + 1] += first[p];
        memcpy(b->page_next, first, f->n_pages * sizeof *first);
    }
}

static void lay_out_parts(struct siren_forest *f, struct arena *a)
{
    struct back_parts *b = &f->back->parts;
    b->tree_first = arena_take(a, f->n_segments + 1, sizeof(int));
    b->tree_segments = arena_take(a, f->n_segments, sizeof(int));
    /* A segment is cut where a part ends, and no tree has more parts than begun PART_ROWS. */
    size_t most_parts = f->n_segments + (size_t)f->T / PART_ROWS;
    size_t most_pieces = f->n_segments + most_parts;
    b->part_first = arena_take(a, most_parts + 1, sizeof(int));
    b->pieces = arena_take(a, most_pieces, sizeof *b->pieces);
    b->page_first = arena_take(a, f->n_pages + 1, sizeof(int));
    b->page_next = arena_take(a, f->n_pages, sizeof(int));
    b->page_seen = arena_take(a, f->n_pages, sizeof(int));
    b->slots = arena_take(a, most_pieces * (size_t)f->max_pages, sizeof(int));
}

int back_parts_plan(struct siren_forest *f, struct siren_error *err)
{
    struct arena measure = {0};
    lay_out_parts(f, &measure);
    int rc = arena_ensure(&f->parts_arena, measure.used, "the parts of a recorded pass", err);
    if (rc) return rc;
    lay_out_parts(f, &f->parts_arena);
    order_trees(f);
    cut_trees(f);
    hand_out_slots(f);
    return SIREN_OK;
}

size_t back_slots(const struct siren_forest *f)
{
    return (size_t)f->back->parts.page_first[f->n_pages];
}

/* ---- a task ---- */

/* dK, dV: [2][32][D]. */
static float *slot_gradient(const struct siren_forest *f, int slot, int head)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t size = 2 * ATTENTION_PAGE * (size_t)c->head_dim;
    return f->back->slot_gradients + ((size_t)slot * (size_t)c->n_kv_heads + (size_t)head) * size;
}

/* The piece's pages in the scratch's lists.  Mirrors are the thread's own, made where the piece
 * before had another page at that place; slots that the part sees for the first time become 0. */
static void list_pages(struct siren_forest *f, struct back_scratch *b, int layer, int head,
                       const struct back_piece *piece)
{
    const struct siren_config *c = &f->engine->model->config;
    const struct kernels *k = f->engine->kernels;
    size_t gradients = ATTENTION_PAGE * (size_t)c->head_dim, words = value_words(k, c->head_dim);
    const int *pages = f->page_table + f->segments[piece->segment].table;
    const int *slots = f->back->parts.slots + piece->slots;
    for (int p = 0; p < piece->n_pages; p++) {
        float *mirror = b->mirrors + (size_t)p * 2 * words;
        float *gradient = slot_gradient(f, slots[p] < 0 ? ~slots[p] : slots[p], head);
        b->k[p] = page_data(f, &f->pages[pages[p]], layer, head);
        b->v[p] = b->k[p] + key_words(c->head_dim);
        b->mirror_k[p] = mirror;
        b->mirror_v[p] = mirror + words;
        b->dk[p] = gradient;
        b->dv[p] = gradient + gradients;
        if (slots[p] < 0) memset(gradient, 0, 2 * gradients * sizeof(float));
        if (b->mirrored[p] == pages[p]) continue;
        k->page_mirror(b->k[p], b->v[p], c->head_dim, mirror, mirror + words);
        b->mirrored[p] = pages[p];
    }
}

/* … where none of the piece's rows is in the view: only what others of its part add to. */
static void clear_slots(struct siren_forest *f, int head, const struct back_piece *piece)
{
    size_t size = 2 * ATTENTION_PAGE * (size_t)f->engine->model->config.head_dim;
    const int *slots = f->back->parts.slots + piece->slots;
    for (int p = 0; p < piece->n_pages; p++)
        if (slots[p] < 0) memset(slot_gradient(f, ~slots[p], head), 0, size * sizeof(float));
}

/* The piece's rows of the view. */
static void view_range(const struct rows *v, const struct segment *s,
                       const struct back_piece *piece, int *from, int *to)
{
    int r0 = s->row + piece->from, r1 = s->row + piece->to, i = 0;
    *from = r0;
    *to = r1;
    if (!v->list) return;
    while (i < v->n && v->list[i] < r0) i++;
    *from = i;
    while (i < v->n && v->list[i] < r1) i++;
    *to = i;
}

static void piece_attention(struct siren_forest *f, struct back_scratch *b, int layer, int head,
                            const struct rows *v, const struct back_piece *piece)
{
    const struct siren_config *c = &f->engine->model->config;
    int group = c->n_heads / c->n_kv_heads, from, to;
    size_t D = (size_t)c->head_dim, Q = (size_t)config_q_width(c);
    view_range(v, &f->segments[piece->segment], piece, &from, &to);
    if (from == to) {
        clear_slots(f, head, piece);
        return;
    }
    list_pages(f, b, layer, head, piece);
    const struct attention_pages pages = {b->k, b->v, b->mirror_k, b->mirror_v, b->dk, b->dv};
    for (int row = from * group, n; row < to * group; row += n) { /* a token's heads are rows */
        n = to * group - row < BACK_ATTENTION_ROWS ? to * group - row : BACK_ATTENTION_ROWS;
        for (int j = 0; j < n; j++) {
            int i = (row + j) / group;
            b->offsets[j] = (size_t)i * Q + (size_t)(head * group + (row + j) % group) * D;
            b->counts[j] = f->row_position[row_of(v, i)] + 1;
        }
        f->engine->kernels->attention_backward(v->q, f->back->dattended, b->offsets, b->counts, n,
                                               &pages, piece->n_pages, (int)D, attention_scale(f),
                                               f->back->dattended, 0, b->attention);
    }
}

void attention_tasks(struct siren_forest *f, struct back_scratch *b, int layer,
                     const struct rows *v, struct back_tasks *tasks)
{
    const struct back_parts *parts = &f->back->parts;
    for (int part = 0; part < parts->n_parts; part++)
        for (int head = 0; head < f->engine->model->config.n_kv_heads; head++) {
            if (!back_task(tasks)) continue;
            for (int p = 0; p < f->max_pages; p++) b->mirrored[p] = -1;
            for (int i = parts->part_first[part]; i < parts->part_first[part + 1]; i++)
                piece_attention(f, b, layer, head, v, &parts->pieces[i]);
        }
}

/* ---- the sums put together ---- */

static void put(const struct kernels *k, float *to, const float *from, size_t n, int add)
{
    if (add)
        k->add(to, from, n);
    else
        memcpy(to, from, n * sizeof *to);
}

void gather_keys(const struct siren_forest *f, int r, float *dk, float *dv)
{
    const struct kernels *kernels = f->engine->kernels;
    const struct siren_config *c = &f->engine->model->config;
    const int *page_first = f->back->parts.page_first;
    size_t D = (size_t)c->head_dim, at = (size_t)(f->row_position[r] % ATTENTION_PAGE) * D;
    int begun = 0;
    for (int j = f->first_destination[r]; j < f->first_destination[r + 1]; j++) {
        int page = f->destinations[j];
        for (int slot = page_first[page]; slot < page_first[page + 1]; slot++, begun = 1)
            for (int h = 0; h < c->n_kv_heads; h++) {
                const float *k = slot_gradient(f, slot, h) + at, *v = k + ATTENTION_PAGE * D;
                put(kernels, dk + (size_t)h * D, k, D, begun);
                put(kernels, dv + (size_t)h * D, v, D, begun);
            }
    }
}
