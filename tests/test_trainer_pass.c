/* Where a batch is cut into passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/radix.h"
#include "siren/random.h"
#include "train/trainer_parts.h"

enum { MOST = 24, LENGTH = 80 };

/* Item i has length[i] ids: first those of its group, then its own. */
struct batch {
    int32_t ids[MOST][LENGTH];
    size_t length[MOST], n;
};

static struct siren_tokens sequence(void *context, size_t item, size_t k)
{
    const struct batch *b = context;
    return (struct siren_tokens){.ids = b->ids[item], .n_ids = b->length[item]};
}

static void add(struct batch *b, int group, size_t shared, size_t own)
{
    size_t i = b->n++;
    assert_true(shared + own <= LENGTH && i < MOST);
    b->length[i] = shared + own;
    for (size_t t = 0; t < shared; t++) b->ids[i][t] = group;
    for (size_t t = 0; t < own; t++) b->ids[i][shared + t] = 1000 + (int32_t)i;
}

static struct siren_error err;

static void fill(struct passes *p, const struct trainer_task *task, size_t n, size_t pass_tokens)
{
    size_t ids[MOST];
    double coefficients[MOST] = {0};
    for (size_t i = 0; i < n; i++) ids[i] = i;
    p->task = task;
    p->pass_tokens = pass_tokens;
    if (passes_fill(p, ids, coefficients, n, &err)) fail_msg("%s", err.message);
}

static size_t tokens_of(const struct passes *p, size_t from, size_t to)
{
    size_t n = 0;
    for (size_t i = from; i < to; i++) {
        const struct siren_tokens *own = &p->sequences[p->items[i].first].tokens;
        n += own->n_ids;
        if (i > from) n -= radix_common(own, &p->sequences[p->items[i - 1].first].tokens);
    }
    return n;
}

/* Two prompts of 50 tokens with three answers of 10 each: a pass of 150 holds one and a part of the
 * other, but then the other's prompt is computed twice. */
static void groups_are_not_torn(void **state)
{
    struct batch b = {.n = 0};
    struct trainer_task task = {.context = &b, .sequence = sequence};
    struct passes p = {0};
    for (int g = 1; g <= 2; g++)
        for (int k = 0; k < 3; k++) add(&b, g, 50, 10);
    fill(&p, &task, b.n, 150);
    assert_int_equal(passes_cut(&p, 0), 3);
    assert_int_equal(passes_cut(&p, 3), 6);
    fill(&p, &task, b.n, 160); /* all of it fits */
    assert_int_equal(passes_cut(&p, 0), 6);
    /* Half of the 10 tokens too many is less than a prompt. */
    fill(&p, &task, b.n, 70);
    assert_int_equal(passes_cut(&p, 0), 3);
    assert_int_equal(passes_cut(&p, 3), 6);
    /* Without gradients, and without memory for them, passes keep to their size … */
    p.only_losses = 1;
    fill(&p, &task, b.n, 70);
    assert_int_equal(passes_cut(&p, 0), 2);
    p.only_losses = 0;
    /* … and nothing is too large for a pass of its own. */
    fill(&p, &task, b.n, 1);
    for (size_t i = 0; i < 6; i++) assert_int_equal(passes_cut(&p, i), i + 1);
    passes_free(&p);
}

static size_t cost(const struct passes *p, size_t from, size_t to)
{
    size_t tokens = tokens_of(p, from, to);
    return tokens > p->pass_tokens ? tokens + (tokens - p->pass_tokens) / 2 : tokens;
}

static size_t least(const struct passes *p, size_t from)
{
    size_t best = SIZE_MAX;
    if (from == p->n_items) return 0;
    for (size_t to = from + 1; to <= p->n_items; to++) {
        size_t own = cost(p, from, to);
        if (to > from + 1 && tokens_of(p, from, to) > 8 * p->pass_tokens) break;
        own += least(p, to);
        if (own < best) best = own;
    }
    return best;
}

/* Beside all ways to cut. */
static void no_way_costs_less(void **state)
{
    for (uint64_t round = 0; round < 200; round++) {
        struct batch b = {.n = 0};
        struct trainer_task task = {.context = &b, .sequence = sequence};
        struct passes p = {0};
        size_t n = 1 + siren_random_below(1, round, 0, 12), all = 0;
        for (size_t i = 0; i < n; i++)
            add(&b, (int)siren_random_below(1, round, 4 * i + 1, 3),
                siren_random_below(1, round, 4 * i + 2, 40),
                1 + siren_random_below(1, round, 4 * i + 3, 40));
        fill(&p, &task, n, 5 + siren_random_below(1, round, 4 * n + 4, 200));
        for (size_t from = 0, to; from < n; from = to) {
            to = passes_cut(&p, from);
            assert_true(to > from && to <= n);
            all += cost(&p, from, to);
            assert_true(to == from + 1 || tokens_of(&p, from, to) <= 8 * p.pass_tokens);
        }
        assert_int_equal(all, least(&p, 0));
        passes_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_are_not_torn),
        cmocka_unit_test(no_way_costs_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
