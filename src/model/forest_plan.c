/* The plan of a pass: validate everything, lay out rows and pages, allocate all
 * that the run will touch.  Every error of a pass is found here. */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/backward.h"

/* ---- arenas: one allocation each, grown between passes only ---- */

size_t aligned(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

int arena_ensure(struct arena *a, size_t bytes, const char *what, struct siren_error *err)
{
    a->used = 0;
    if (bytes <= a->size) return SIREN_OK;
    free(a->data);
    a->size = 0;
    a->data = alloc_aligned(bytes, 1);
    if (!a->data) return siren_fail_memory(err, what, bytes);
    a->size = bytes;
    return SIREN_OK;
}

void *arena_take(struct arena *a, size_t count, size_t size)
{
    void *p = a->data ? a->data + a->used : NULL; /* NULL: measuring */
    a->used += aligned(count * size);
    return p;
}

/* ---- 1. validation, positions, rows ---- */

static int check_ids(const struct siren_forest *f, int index, const struct segment *s,
                     struct siren_error *err)
{
    int n_vocab = f->engine->model->config.n_vocab;
    for (size_t i = 0; i < s->n_ids; i++) {
        int32_t id = f->ids[s->first_id + i];
        if (id < 0 || id >= n_vocab)
            return siren_fail(err, SIREN_EINVAL,
                              "segment %d, token %zu: id %d is not in the vocabulary (0 … %d)",
                              index, i, (int)id, n_vocab - 1);
    }
    return SIREN_OK;
}

static int check_parent(struct siren_forest *f, int index, const struct segment *s,
                        struct siren_error *err)
{
    if (s->parent == SIREN_ROOT && !(s->flags & SIREN_EXTEND)) return SIREN_OK;
    if (s->parent < 0 || s->parent >= index)
        return siren_fail(err, SIREN_EINVAL,
                          "segment %d: parent %d, expected one that was added before it", index,
                          s->parent);
    struct segment *p = &f->segments[s->parent];
    if (p->extends)
        return siren_fail(err, SIREN_EINVAL,
                          "segment %d: its parent %d extends a kept segment and "
                          "cannot be continued in the same pass",
                          index, s->parent);
    if ((s->flags & SIREN_KEEP) && !p->ancestor && !(p->flags & SIREN_KEEP))
        return siren_fail(err, SIREN_EINVAL, "segment %d is to be kept, but its parent %d is not",
                          index, s->parent);
    if (s->flags & SIREN_EXTEND) {
        if (!p->ancestor || (s->flags & SIREN_KEEP))
            return siren_fail(err, SIREN_EINVAL, "segment %d: only a kept parent can be extended",
                              index);
        /* The caller and this forest's two segments (the second from an earlier plan on) hold one
         * reference each; any other holder relies on its length. */
        if (atomic_load(&p->kept->references) > 2 + (s->kept == p->kept))
            return siren_fail(err, SIREN_EINVAL,
                              "segment %d: the kept parent %d is shared and cannot be extended",
                              index, s->parent);
    }
    /* Its pages grow: what else follows it would see them, or grow them, too. */
    if (p->continued == EXTENDED || (s->flags & SIREN_EXTEND && p->continued))
        return siren_fail(err, SIREN_EINVAL,
                          "segment %d: the kept parent %d is extended in this pass and cannot be "
                          "continued otherwise",
                          index, s->parent);
    p->continued = s->flags & SIREN_EXTEND ? EXTENDED : p->continued + 1;
    return SIREN_OK;
}

/* A root has the adapter that was chosen for it, all others their root's; what is kept was computed
 * with the same one. */
static int place_adapter(struct siren_forest *f, int index, struct siren_error *err)
{
    struct segment *s = &f->segments[index];
    int root = s->parent == SIREN_ROOT;
    if (s->chosen && !root)
        return siren_fail(err, SIREN_EINVAL,
                          "segment %d: an adapter is chosen at a root, and this has a parent",
                          index);
    s->adapter = root ? s->chosen : f->segments[s->parent].adapter;
    if (s->adapter) f->adapted = 1;
    if (s->chosen && s->chosen->model != f->engine->model)
        return siren_fail(err, SIREN_EINVAL, "segment %d: its adapter belongs to another model",
                          index);
    if (s->chosen && siren_is_encoder(&f->engine->model->config))
        return siren_fail(err, SIREN_EUNSUPPORTED, "segment %d: an encoder takes no adapter",
                          index);
    if (!s->ancestor || s->kept->adapter_version == (s->adapter ? s->adapter->version : 0))
        return SIREN_OK;
    return siren_fail(err, SIREN_EINVAL, "segment %d: kept %s", index,
                      !s->kept->adapter_version ? "without an adapter, and used with one"
                      : !s->adapter             ? "with an adapter, and used without"
                                    : "with another adapter, or with other values of this one");
}

static int place_segment(struct siren_forest *f, int index, struct siren_error *err)
{
    const struct siren_model *model = f->engine->model;
    const struct siren_config *c = &model->config;
    struct segment *s = &f->segments[index];
    s->continued = 0;
    if (s->ancestor) {
        if (s->kept->model != model || s->kept->kernels != f->engine->kernels)
            return siren_fail(err, SIREN_EINVAL,
                              "segment %d: kept by another model, instruction set or compute mode",
                              index);
        if (s->kept->model_version != model->version)
            return siren_fail(err, SIREN_EINVAL,
                              "segment %d: kept before the model's weights were changed", index);
        s->start = s->kept->start;
        s->end = s->kept->end;
        return place_adapter(f, index, err);
    }
    if (s->n_ids == 0) return siren_fail(err, SIREN_EINVAL, "segment %d has no tokens", index);
    int rc = check_parent(f, index, s, err);
    if (!rc) rc = check_ids(f, index, s, err);
    if (!rc) rc = place_adapter(f, index, err);
    if (rc) return rc;
    if (siren_is_encoder(c) && (s->parent != SIREN_ROOT || s->flags))
        return siren_fail(err, SIREN_EINVAL,
                          "segment %d: an encoder's segment has no parent and is not kept", index);
    s->start = s->parent == SIREN_ROOT ? 0 : f->segments[s->parent].end;
    if (s->n_ids > (size_t)(c->max_positions - s->start))
        return siren_fail(err, SIREN_EINVAL,
                          "segment %d ends at token %zu, but the model was made for %d", index,
                          (size_t)s->start + s->n_ids, c->max_positions);
    s->end = s->start + (int)s->n_ids;
    s->row = f->T;
    s->extends = (s->flags & SIREN_EXTEND) != 0;
    f->T += (int)s->n_ids;
    return SIREN_OK;
}

static int place_segments(struct siren_forest *f, struct siren_error *err)
{
    f->T = f->adapted = 0;
    for (size_t i = 0; i < f->n_segments; i++) {
        int rc = place_segment(f, (int)i, err);
        if (rc) return rc;
    }
    if (f->T == 0) return siren_fail(err, SIREN_EINVAL, "a pass without tokens");
    return f->recorded ? tape_check(f, err) : SIREN_OK;
}

static int check_logprob(const struct siren_forest *f, size_t index, struct siren_error *err)
{
    const struct request *r = &f->requests[index];
    int n_vocab = f->engine->model->config.n_vocab;
    if (r->target < 0 || r->target >= n_vocab)
        return siren_fail(err, SIREN_EINVAL,
                          "output %zu: target %d is not in the vocabulary (0 … %d)", index,
                          (int)r->target, n_vocab - 1);
    if (!(r->temperature > 0 && r->temperature <= FLT_MAX))
        return siren_fail(err, SIREN_EINVAL, "output %zu: temperature %g, expected above 0", index,
                          (double)r->temperature);
    return SIREN_OK;
}

static int place_requests(struct siren_forest *f, struct siren_error *err)
{
    const struct siren_config *c = &f->engine->model->config;
    for (size_t i = 0; i < f->n_requests; i++) {
        struct request *r = &f->requests[i];
        if (r->segment < 0 || (size_t)r->segment >= f->n_segments ||
            f->segments[r->segment].ancestor || r->token >= f->segments[r->segment].n_ids)
            return siren_fail(err, SIREN_EINVAL,
                              "output %zu: token %zu of segment %d is not computed in this pass", i,
                              r->token, r->segment);
        if (r->layer > c->n_layers)
            return siren_fail(err, SIREN_EINVAL, "output %zu: no such layer, expected 0 … %d", i,
                              c->n_layers);
        if (r->layer < 0 && siren_is_encoder(c))
            return siren_fail(err, SIREN_EINVAL, "output %zu: an encoder has no logits", i);
        int rc = r->layer < 0 && r->row_set == LOGPROB ? check_logprob(f, i, err) : SIREN_OK;
        if (rc) return rc;
        r->row = f->segments[r->segment].row + (int)r->token;
    }
    for (size_t i = 0; i < f->n_sets; i++) {
        const struct row_set *s = &f->sets[i];
        for (size_t j = 0; s->rows && j < s->n_rows; j++)
            if (s->rows[j] < 0 || s->rows[j] >= c->n_vocab)
                return siren_fail(err, SIREN_EINVAL,
                                  "logits of row %d, which is not in the vocabulary (0 … %d)",
                                  (int)s->rows[j], c->n_vocab - 1);
    }
    return SIREN_OK;
}

/* ---- 2. pages ---- */

static int first_own_page(const struct segment *s)
{
    return s->start / ATTENTION_PAGE;
}
static int n_pages_of(const struct segment *s)
{
    return (s->end + ATTENTION_PAGE - 1) / ATTENTION_PAGE;
}

/* Kept segments get their storage; returns how many scratch pages the others need. */
static int reserve_kept(struct siren_forest *f, size_t *n_scratch, struct siren_error *err)
{
    *n_scratch = 0;
    for (size_t i = 0; i < f->n_segments; i++) {
        struct segment *s = &f->segments[i];
        if (s->ancestor) continue;
        int rc = SIREN_OK;
        if (s->extends && !s->kept) {
            s->kept = siren_kept_ref(f->segments[s->parent].kept);
        } else if ((s->flags & SIREN_KEEP) && !s->kept) {
            struct siren_kept *parent =
                s->parent == SIREN_ROOT ? NULL : f->segments[s->parent].kept;
            rc = kept_create(&s->kept, f->engine->model, f->engine->kernels, parent, s->start, err);
        }
        if (!rc && s->kept) rc = kept_reserve(s->kept, s->end, err);
        if (rc) return rc;
        if (!s->kept) *n_scratch += (size_t)(n_pages_of(s) - first_own_page(s));
    }
    return SIREN_OK;
}

/* Slots of the page in which `s` starts that belong to its ancestors, oldest unknown first: visits
 * every computed ancestor row once, and the kept ancestor (if any) last. */
static int ancestor_slots(const struct siren_forest *f, const struct segment *s, int *rows,
                          int *kept_segment, int *kept_slots)
{
    int low = s->start / ATTENTION_PAGE * ATTENTION_PAGE, n = 0;
    *kept_slots = 0;
    for (int p = s->parent, high = s->start; high > low && p != SIREN_ROOT;
         p = f->segments[p].parent) {
        const struct segment *a = &f->segments[p];
        if (a->ancestor) {
            *kept_segment = p;
            *kept_slots = high - low;
            break;
        }
        for (int t = high - 1; t >= low && t >= a->start; t--) rows[n++] = a->row + t - a->start;
        high = a->start < high ? a->start : high;
    }
    return n;
}

static int starts_inside_page(const struct segment *s)
{
    return !s->ancestor && !s->extends && s->start % ATTENTION_PAGE != 0;
}

static void fill_pages(struct siren_forest *f)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t page = page_total(f->engine->kernels, c) * (size_t)c->n_kv_heads, n_scratch = 0;
    int next_page = 0, table = 0;
    for (size_t i = 0; i < f->n_segments; i++) {
        struct segment *s = &f->segments[i];
        int own = first_own_page(s), n = n_pages_of(s);
        s->table = table;
        s->n_pages = n;
        table += n;
        int *entry = f->page_table + s->table;
        if (s->ancestor || s->extends) { /* all of them are known already */
            for (int p = 0; p < n; p++) {
                f->pages[next_page] = s->kept->pages[p];
                entry[p] = next_page++;
            }
            continue;
        }
        if (own)
            memcpy(entry, f->page_table + f->segments[s->parent].table,
                   (size_t)own * sizeof *entry);
        for (int p = own; p < n; p++) {
            f->pages[next_page] =
                s->kept
                    ? s->kept->pages[p]
                    : (struct page_ref){.base = (float *)f->page_arena.data + page * n_scratch++,
                                        .head_stride = page_total(f->engine->kernels, c)};
            entry[p] = next_page++;
        }
    }
    f->n_pages = (size_t)next_page;
}

/* How far each computed segment's pages are those of the one before it: rows of both may then be
 * attended in one tile that reads the common pages once. */
static void find_shared_pages(struct siren_forest *f)
{
    const struct segment *before = NULL;
    for (size_t i = 0; i < f->n_segments; i++) {
        struct segment *s = &f->segments[i];
        if (s->ancestor) continue;
        int n = 0;
        while (before && n < before->n_pages && n < s->n_pages &&
               f->pages[f->page_table[before->table + n]].base ==
                   f->pages[f->page_table[s->table + n]].base)
            n++;
        s->shared_pages = n;
        before = s;
    }
}

/* Every row's destinations by counting, then filling: its own page first. */
static void fill_destinations(struct siren_forest *f)
{
    int rows[ATTENTION_PAGE], kept_segment = 0, kept_slots;
    int *first = f->first_destination;
    memset(first, 0, ((size_t)f->T + 1) * sizeof *first);
    for (int r = 0; r < f->T; r++) first[r + 1] = 1;
    for (size_t i = 0; i < f->n_segments; i++) {
        const struct segment *s = &f->segments[i];
        if (!starts_inside_page(s)) continue;
        int n = ancestor_slots(f, s, rows, &kept_segment, &kept_slots);
        for (int j = 0; j < n; j++) first[rows[j] + 1]++;
    }
    for (int r = 0; r < f->T; r++) first[r + 1] += first[r];
    int *fill = f->row_segment; /* borrowed as a cursor; set below */
    f->n_copies = 0;
    for (int r = 0; r < f->T; r++) fill[r] = first[r] + 1;
    for (size_t i = 0; i < f->n_segments; i++) {
        const struct segment *s = &f->segments[i];
        const int *entry = f->page_table + s->table;
        if (!s->ancestor)
            for (int t = s->start; t < s->end; t++)
                f->destinations[first[s->row + t - s->start]] = entry[t / ATTENTION_PAGE];
        if (!starts_inside_page(s)) continue;
        int n = ancestor_slots(f, s, rows, &kept_segment, &kept_slots);
        int page = entry[first_own_page(s)];
        for (int j = 0; j < n; j++) f->destinations[fill[rows[j]]++] = page;
        if (kept_slots)
            f->copies[f->n_copies++] =
                (struct page_copy){.from = f->segments[kept_segment].kept->pages[first_own_page(s)],
                                   .to = page,
                                   .n_slots = kept_slots};
    }
    for (size_t i = 0; i < f->n_segments; i++) {
        const struct segment *s = &f->segments[i];
        for (int t = 0; !s->ancestor && t < (int)s->n_ids; t++) {
            f->row_segment[s->row + t] = (int)i;
            f->row_position[s->row + t] = s->start + t;
        }
    }
}

static size_t count_destinations(const struct siren_forest *f)
{
    int rows[ATTENTION_PAGE], kept_segment, kept_slots;
    size_t n = (size_t)f->T;
    for (size_t i = 0; i < f->n_segments; i++)
        if (starts_inside_page(&f->segments[i]))
            n += (size_t)ancestor_slots(f, &f->segments[i], rows, &kept_segment, &kept_slots);
    return n;
}

/* ---- 3. outputs ---- */

static int by_layer_and_row(const void *a, const void *b, void *forest)
{
    const struct request *all = ((const struct siren_forest *)forest)->requests;
    const struct request *x = &all[*(const int *)a], *y = &all[*(const int *)b];
    if (x->layer != y->layer) return x->layer < y->layer ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static int by_row(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* Whether its row is one of the few that the last layer runs on.  Layer-local training goes back in
 * every layer from the rows that are asked for, of whatever layer: there all of them are. */
static int is_active(const struct siren_forest *f, const struct request *r)
{
    return r->layer < 0 || r->layer == f->engine->model->config.n_layers || trains_locally(f);
}

static void order_outputs(struct siren_forest *f)
{
    int n_layers = f->engine->model->config.n_layers, n = 0;
    for (size_t i = 0; i < f->n_requests; i++)
        if (f->requests[i].layer >= 0) f->hidden_order[n++] = (int)i;
    qsort_r(f->hidden_order, (size_t)n, sizeof *f->hidden_order, by_layer_and_row, f);
    memset(f->hidden_start, 0, ((size_t)n_layers + 2) * sizeof *f->hidden_start);
    for (int i = 0; i < n; i++) f->hidden_start[f->requests[f->hidden_order[i]].layer + 1]++;
    for (int l = 0; l <= n_layers; l++) f->hidden_start[l + 1] += f->hidden_start[l];

    f->n_active = 0;
    for (size_t i = 0; i < f->n_requests; i++)
        if (is_active(f, &f->requests[i])) f->active[f->n_active++] = f->requests[i].row;
    qsort(f->active, (size_t)f->n_active, sizeof *f->active, by_row);
    int unique = 0;
    for (int i = 0; i < f->n_active; i++)
        if (!i || f->active[i] != f->active[i - 1]) f->active[unique++] = f->active[i];
    f->n_active = unique;
    for (size_t i = 0; i < f->n_requests; i++) {
        struct request *r = &f->requests[i];
        if (!is_active(f, r)) continue;
        int low = 0, high = f->n_active - 1;
        while (low < high) {
            int middle = (low + high) / 2;
            if (f->active[middle] < r->row)
                low = middle + 1;
            else
                high = middle;
        }
        r->compact = low;
    }
}

/* The set of a forest that is planned again is kept, but a trained head may have changed since. */
static int pack_row_set(const struct siren_model *m, struct row_set *s, struct siren_error *err)
{
    if (s->packed && s->model_version == m->version) return SIREN_OK;
    int rc = s->packed ? SIREN_OK
                       : packed_alloc(&s->weights, packed_kind_for(m->head_tensor->type, 0),
                                      (int)s->n_rows, m->config.d_model, err);
    if (rc) return rc;
    packed_fill_rows(&s->weights, 0, m->head_tensor, s->rows, (int)s->n_rows);
    s->packed = 1;
    s->model_version = m->version;
    return SIREN_OK;
}

static int pack_row_sets(struct siren_forest *f, struct siren_error *err)
{
    const struct siren_model *m = f->engine->model;
    for (size_t i = 0; i < f->n_sets; i++) {
        struct row_set *s = &f->sets[i];
        s->n_requests = 0;
        int rc = s->rows ? pack_row_set(m, s, err) : SIREN_OK;
        if (rc) return rc;
    }
    for (size_t i = 0; i < f->n_requests; i++)
        if (f->requests[i].layer < 0 && f->requests[i].row_set != LOGPROB)
            f->sets[f->requests[i].row_set].n_requests++;
    return SIREN_OK;
}

/* ---- 4. memory ---- */

/* Rows below which the threads share the columns of each product instead of
 * its rows: a barrier after each product then costs less than every thread
 * decoding (or reading) all weights for a handful of rows. */
enum { NARROW_ROWS = 64 };

static void choose_schedule(struct siren_forest *f)
{
    f->narrow = f->T <= NARROW_ROWS && !f->tape;
    int most = rows_most(f);
    f->block = f->narrow || f->T < most ? f->T : most;
}

static int allocate_plan(struct siren_forest *f, size_t n_destinations, struct siren_error *err)
{
    size_t T = (size_t)f->T, n_table = 0, n_pages = 0;
    f->max_pages = 1;
    for (size_t i = 0; i < f->n_segments; i++) {
        const struct segment *s = &f->segments[i];
        int n = n_pages_of(s);
        n_table += (size_t)n;
        n_pages += (size_t)(s->ancestor || s->extends ? n : n - first_own_page(s));
        if (n > f->max_pages) f->max_pages = n;
    }
    size_t n_hidden = (size_t)f->engine->model->config.n_layers + 2;
    size_t bytes = aligned(n_hidden * sizeof(atomic_long)) + 3 * aligned((T + 1) * sizeof(int)) +
                   aligned(n_destinations * sizeof(int)) + aligned(n_pages * sizeof *f->pages) +
                   aligned(n_table * sizeof(int)) + aligned(f->n_segments * sizeof *f->copies) +
                   4 * aligned(f->n_requests * sizeof(int)) + aligned(n_hidden * sizeof(int)) +
                   aligned((f->n_requests + 1) * sizeof(int));
    int rc = arena_ensure(&f->plan_arena, bytes, "the plan of a pass", err);
    if (rc) return rc;
    struct arena *a = &f->plan_arena;
    f->row_segment = arena_take(a, T + 1, sizeof(int));
    f->row_position = arena_take(a, T + 1, sizeof(int));
    f->first_destination = arena_take(a, T + 1, sizeof(int));
    f->destinations = arena_take(a, n_destinations, sizeof(int));
    f->pages = arena_take(a, n_pages, sizeof *f->pages);
    f->page_table = arena_take(a, n_table, sizeof(int));
    f->copies = arena_take(a, f->n_segments, sizeof *f->copies);
    f->active = arena_take(a, f->n_requests, sizeof(int));
    f->hidden_order = arena_take(a, f->n_requests, sizeof(int));
    f->logprob_order = arena_take(a, f->n_requests, sizeof(int));
    f->logprob_compact = arena_take(a, f->n_requests, sizeof(int));
    f->logprob_first = arena_take(a, f->n_requests + 1, sizeof(int));
    f->hidden_start = arena_take(a, n_hidden, sizeof(int));
    f->cursors = arena_take(a, n_hidden, sizeof *f->cursors);
    return SIREN_OK;
}

static void count_scratch(const struct packed *w, int backward, size_t *most)
{
    size_t there = w->n ? gemm_scratch(w) : 0, back = w->n && backward ? gemm_dx_scratch(w) : 0;
    if (there > *most) *most = there;
    if (back > *most) *most = back;
}

size_t layers_scratch(const struct siren_model *m, int backward)
{
    size_t most = 0;
    for (int l = 0; l < m->config.n_layers; l++) {
        const struct layer_weights *w = &m->layers[l];
        const struct packed *all[] = {&w->qkv, &w->out, &w->ffn_in, &w->ffn_out};
        for (int i = 0; i < 4; i++) count_scratch(all[i], backward, &most);
    }
    return most;
}

static size_t gemm_scratch_largest(const struct siren_forest *f)
{
    const struct siren_model *m = f->engine->model;
    int n_layers = m->config.n_layers, backward = f->tape != NULL;
    size_t most = layers_scratch(m, backward);
    count_scratch(&m->head, backward, &most);
    for (size_t i = 0; f->adapted && i < f->n_segments; i++) {
        const struct siren_adapter *a = f->segments[i].chosen;
        for (int at = 0; a && at < n_layers * SIREN_LORA_TARGETS; at++)
            count_scratch(&a->packed->b[at], backward, &most);
        for (int at = 0; a && at < n_layers * LORA_GROUPS; at++)
            count_scratch(&a->packed->a[at], backward, &most);
    }
    for (size_t i = 0; i < f->n_sets; i++)
        if (f->sets[i].packed) count_scratch(&f->sets[i].weights, backward, &most);
    return most;
}

float *take_floats(struct arena *a, size_t n)
{
    return arena_take(a, n, sizeof(float));
}

/* Columns of A x that the widest adapter of the pass needs; *gates: one of them adds to the FFN's
 * gate or up; *drops: one of them drops inputs. */
static size_t adapter_width(const struct siren_forest *f, int *gates, int *drops)
{
    int widest = 0;
    *gates = *drops = 0;
    for (size_t i = 0; f->adapted && i < f->n_segments; i++) {
        const struct siren_adapter *a = f->segments[i].chosen;
        if (!a) continue;
        if (lora_low_width(a) > widest) widest = lora_low_width(a);
        *gates |= a->packed->adapts_ffn_input;
        *drops |= lora_drops(f, a);
    }
    return (size_t)widest;
}

static int scales_logits(const struct siren_forest *f)
{
    for (int i = 0; i < f->logprob_first[f->n_logprob_rows]; i++)
        if (f->requests[f->logprob_order[i]].temperature != 1) return 1;
    return 0;
}

/* Called twice: with no memory to add up the size, then to hand it out. */
static void lay_out_run(struct siren_forest *f, struct arena *a)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t T = (size_t)f->T, d = (size_t)c->d_model, Q = (size_t)config_q_width(c);
    size_t qkv = (size_t)config_qkv_width(c), F = (size_t)config_ffn_stride(c),
           B = (size_t)f->block;
    size_t n_threads = (size_t)siren_pool_threads(f->engine->pool), n_logits = 1;
    for (size_t i = 0; i < f->n_sets; i++)
        if ((size_t)f->sets[i].n_requests > n_logits) n_logits = (size_t)f->sets[i].n_requests;
    int compact = f->n_active < f->T, gates, drops;
    size_t low = adapter_width(f, &gates, &drops), widest = d > Q ? d : Q;
    if (F > widest) widest = F;
    f->x = take_floats(a, T * d);
    f->q = take_floats(a, T * Q);
    f->x_active = compact ? take_floats(a, (size_t)f->n_active * d) : f->x;
    f->q_active = compact ? take_floats(a, (size_t)f->n_active * Q) : f->q;
    f->logit_rows = take_floats(a, n_logits * d);
    size_t V = (size_t)c->n_vocab, n_rows = (size_t)f->chunk_rows;
    f->logprob_states = take_floats(a, n_rows * d);
    f->logprob_logits = take_floats(a, n_rows * V);
    if (f->narrow) {
        f->qkv = take_floats(a, T * qkv);
        f->attended = take_floats(a, T * Q);
        f->ffn = take_floats(a, T * F);
        f->gates = gates ? take_floats(a, T * 2 * F) : NULL;
    }
    f->scratch = arena_take(a, n_threads, sizeof *f->scratch);
    size_t gemm = gemm_scratch_largest(f), pages = (size_t)f->max_pages;
    for (size_t i = 0; i < n_threads; i++) {
        struct thread_scratch t = {.normed = take_floats(a, B * d)};
        if (!f->narrow) {
            t.qkv = take_floats(a, B * qkv);
            t.attended = take_floats(a, B * Q);
            t.ffn = take_floats(a, B * F);
            t.gates = gates ? take_floats(a, B * 2 * F) : NULL;
        }
        t.low = take_floats(a, B * low);
        t.dropped = drops ? take_floats(a, B * widest) : NULL;
        t.extra = f->tape && f->logprob_first[f->n_logprob_rows] > f->n_logprob_rows
                      ? take_floats(a, 2 * V)
                      : NULL;
        t.scaled = scales_logits(f) ? take_floats(a, V) : NULL;
        t.gemm = take_floats(a, gemm);
        t.attention = take_floats(a, attention_scratch(ATTENTION_ROWS, f->max_pages));
        t.keys = arena_take(a, pages * (1 + ATTENTION_ROWS), sizeof *t.keys);
        t.values = arena_take(a, pages * (1 + ATTENTION_ROWS), sizeof *t.values);
        t.branches = arena_take(a, ATTENTION_ROWS, sizeof *t.branches);
        t.offsets = arena_take(a, ATTENTION_ROWS, sizeof *t.offsets);
        t.counts = arena_take(a, ATTENTION_ROWS, sizeof *t.counts);
        if (a->data) f->scratch[i] = t;
    }
}

static int allocate_run(struct siren_forest *f, struct siren_error *err)
{
    struct arena measure = {0};
    lay_out_run(f, &measure);
    int rc = arena_ensure(&f->run_arena, measure.used, "activations", err);
    if (rc) return rc;
    lay_out_run(f, &f->run_arena);
    size_t floats = 0;
    for (size_t i = 0; i < f->n_requests; i++) {
        f->requests[i].offset = floats;
        floats += aligned(f->requests[i].n_floats * sizeof(float)) / sizeof(float);
    }
    rc = arena_ensure(&f->output_arena, floats * sizeof(float), "outputs", err);
    f->outputs = (float *)f->output_arena.data;
    return rc;
}

static int last_position(const struct siren_forest *f)
{
    int end = 0;
    for (size_t i = 0; i < f->n_segments; i++)
        if (f->segments[i].end > end) end = f->segments[i].end;
    return end;
}

int siren_forest_plan(struct siren_forest *f, struct siren_error *err)
{
    const struct siren_config *c = &f->engine->model->config;
    f->planned = f->done = 0;
    size_t n_scratch;
    int n_slots;
    int rc = place_segments(f, err);
    if (!rc) rc = place_requests(f, err);
    if (!rc) rc = pack_row_sets(f, err);
    if (!rc) rc = reserve_kept(f, &n_scratch, err);
    if (!rc) rc = allocate_plan(f, count_destinations(f), err);
    if (rc) return rc;
    order_outputs(f);
    order_logprobs(f);
    /* Scratch pages hold one layer, twice: while some threads still read layer l, others write
     * l + 1; a recorded pass keeps those of some layers. */
    f->parity_stride = n_scratch * page_total(f->engine->kernels, c) * (size_t)c->n_kv_heads;
    rc = tape_choose(f, &n_slots, err);
    if (rc) return rc;
    f->page_bytes = (size_t)n_slots * f->parity_stride * sizeof(float);
    rc = arena_ensure(&f->page_arena, f->page_bytes, "keys and values", err);
    if (rc) return rc;
    fill_pages(f);
    find_shared_pages(f);
    fill_destinations(f);
    choose_schedule(f);
    rc = allocate_run(f, err);
    if (!rc) rc = tape_lay_out(f, err);
    if (!rc && !siren_is_encoder(c))
        rc = engine_reserve_positions(f->engine, last_position(f), err);
    if (rc) return rc;
    f->planned = 1;
    return SIREN_OK;
}
