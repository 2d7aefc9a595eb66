/* Ticks are integers times powers of ten, so that their texts are exact: no number is printed
 * as floating point. */
#include "base/plot_axis.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PLAIN_MAX = 6, /* 10^6 and beyond: the power stands beside the axis' label */
    PLAIN_MIN = -4
};

/* digits · 10^exponent: a division by an exact power is the double nearest to the decimal. */
static double decimal(long long digits, int exponent)
{
    double power = 1;
    for (int i = abs(exponent); i > 0; i--) power *= 10;
    return exponent < 0 ? (double)digits / power : (double)digits * power;
}

static int decimal_exponent(double value) /* of its first digit; value > 0 */
{
    int e = (int)floor(log10(value));
    while (decimal(1, e + 1) <= value) e++;
    while (decimal(1, e) > value) e--;
    return e;
}

static void superscript(char *out, size_t size, int base, int exponent)
{
    static const char *const digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    char plain[16];
    size_t used = (size_t)snprintf(out, size, "%d", base);
    snprintf(plain, sizeof plain, "%d", exponent);
    for (const char *p = plain; *p && used < size; p++)
        used += (size_t)snprintf(out + used, size - used, "%s", *p == '-' ? "⁻" : digits[*p - '0']);
}

/* digits · 10^exponent without a power: "-0.05", "1200". */
static void plain_text(char out[48], long long digits, int exponent)
{
    char number[24];
    const char *sign = digits < 0 ? "−" : "";
    int n = snprintf(number, sizeof number, "%lld", llabs(digits));
    if (exponent >= 0 || digits == 0) {
        snprintf(out, 48, "%s%s%.*s", sign, number, digits ? exponent : 0, "000000000000");
        return;
    }
    int fraction = -exponent < 15 ? -exponent : 15;
    if (n > fraction)
        snprintf(out, 48, "%s%.*s.%s", sign, n - fraction, number, number + n - fraction);
    else
        snprintf(out, 48, "%s0.%.*s%s", sign, fraction - n, "000000000000000", number);
}

/* One number by itself: as a power of ten where it would be long. */
static void single_text(char out[48], long long digits, int exponent)
{
    char power[24];
    if (exponent >= PLAIN_MIN && exponent < PLAIN_MAX - 1) {
        plain_text(out, digits, exponent);
        return;
    }
    superscript(power, sizeof power, 10, exponent);
    if (digits == 1)
        snprintf(out, 48, "%s", power);
    else
        snprintf(out, 48, "%lld·%s", digits, power);
}

double plot_axis_place(const struct plot_axis *a, double value)
{
    if (a->log) return (log2(value) - log2(a->low)) / (log2(a->high) - log2(a->low));
    /* Halves: the difference of two large numbers may not be a number. */
    return (value / 2 - a->low / 2) / (a->high / 2 - a->low / 2);
}

static struct plot_tick *add_tick(struct plot_axis *a, double value)
{
    double at = plot_axis_place(a, value);
    if (a->n == PLOT_MAX_TICKS || !(at > -1e-9 && at < 1 + 1e-9)) return NULL;
    struct plot_tick *t = &a->ticks[a->n++];
    t->at = at < 0 ? 0 : at > 1 ? 1 : at;
    t->text[0] = 0;
    return t;
}

/* ---- linear ---- */

struct step {
    int mantissa, exponent; /* 1, 2 or 5, times ten to this */
};

static double step_value(struct step s)
{
    return decimal(s.mantissa, s.exponent);
}

/* The smallest 1, 2 or 5 · 10^e that is at least `width`. */
static struct step step_of(double width)
{
    static const int mantissas[] = {1, 2, 5};
    int e = decimal_exponent(width);
    for (int i = 0; i < 3; i++)
        if (decimal(mantissas[i], e) >= width) return (struct step){mantissas[i], e};
    return (struct step){1, e + 1};
}

static void linear_ticks(struct plot_axis *a, int max_ticks, int round)
{
    double range = a->high / 2 - a->low / 2;
    struct step s = step_of(fmax(range / max_ticks * 2, a->whole ? 1 : 0));
    long long first = (long long)ceil(a->low / step_value(s) - 1e-9);
    long long last = (long long)floor(a->high / step_value(s) + 1e-9);
    if (round) {
        first = (long long)floor(a->low / step_value(s) + 1e-9);
        last = (long long)ceil(a->high / step_value(s) - 1e-9);
        a->low = decimal(first * s.mantissa, s.exponent);
        a->high = decimal(last * s.mantissa, s.exponent);
    }
    /* A common power, of three, keeps the texts short. */
    double largest = fmax(fabs(a->low), fabs(a->high));
    int top = decimal_exponent(largest), power = 0;
    if (top >= PLAIN_MAX || top < PLAIN_MIN + 1) {
        power = (top >= 0 ? top : top - 2) / 3 * 3;
        superscript(a->power, sizeof a->power, 10, power);
    }
    for (long long k = first; k <= last; k++) {
        struct plot_tick *t = add_tick(a, decimal(k * s.mantissa, s.exponent));
        if (t) plain_text(t->text, k * s.mantissa, s.exponent - power);
    }
}

/* ---- logarithmic ---- */

/* Every n-th power of the base. */
static void power_ticks(struct plot_axis *a, int max_ticks)
{
    double per = log2(a->log);
    int first = (int)ceil(log2(a->low) / per - 1e-9), last = (int)floor(log2(a->high) / per + 1e-9);
    int every = (last - first) / max_ticks + 1;
    for (int e = first; e <= last; e++) {
        /* Multiples, so that 1 is marked whatever the range. */
        if (e % every) continue;
        struct plot_tick *t = add_tick(a, a->log == 2 ? ldexp(1, e) : decimal(1, e));
        if (!t) continue;
        if (a->log == 10)
            single_text(t->text, 1, e);
        else if (e >= 0 && e <= 16)
            snprintf(t->text, sizeof t->text, "%ld", 1L << e);
        else
            superscript(t->text, sizeof t->text, 2, e);
    }
}

/* 1, 2 and 5 of each decade. */
static void decade_ticks(struct plot_axis *a)
{
    static const int digits[] = {1, 2, 5};
    int last = decimal_exponent(a->high);
    for (int e = decimal_exponent(a->low); e <= last; e++)
        for (int i = 0; i < 3; i++) {
            struct plot_tick *t = add_tick(a, decimal(digits[i], e));
            if (t) single_text(t->text, digits[i], e);
        }
}

static void log_ticks(struct plot_axis *a, int max_ticks)
{
    power_ticks(a, max_ticks);
    if (a->n >= 3 || (a->log == 2 && a->n == 2)) return;
    a->n = 0;
    double decades = log10(a->high) - log10(a->low);
    if (decades > 0.9 && 3 * decades <= max_ticks) decade_ticks(a);
    if (a->n < 2) a->n = 0, linear_ticks(a, max_ticks, 0);
}

/* ---- both ---- */

/* Beyond these the arithmetic of steps would leave the range of doubles. */
static const double HUGE_SIZE = 1e300, TINY = 1e-290;

/* Room for one value, or for values that differ by less than the texts could tell. */
static void widen(struct plot_axis *a)
{
    double size = fmax(fabs(a->low), fabs(a->high));
    if (a->log) {
        if (a->high / a->low > 1.001) return;
        a->low /= 2;
        a->high *= 2;
    } else if (a->high / 2 - a->low / 2 <= size * 1e-9 || size < TINY) {
        double room = size < TINY ? 1 : size * 0.05;
        a->low -= room;
        a->high += room;
    }
}

void plot_axis_make(struct plot_axis *a, double low, double high, int log, int whole, int max_ticks,
                    int round)
{
    memset(a, 0, sizeof *a);
    a->low = fmin(fmax(low, log ? TINY : -HUGE_SIZE), HUGE_SIZE);
    a->high = fmin(fmax(high, log ? TINY : -HUGE_SIZE), HUGE_SIZE);
    a->log = log;
    if (max_ticks > PLOT_MAX_TICKS - 2) max_ticks = PLOT_MAX_TICKS - 2;
    if (max_ticks < 2) max_ticks = 2;
    widen(a);
    a->whole = whole && floor(a->high) >= ceil(a->low) && (!round || a->high - a->low >= 1);
    if (log)
        log_ticks(a, max_ticks);
    else
        linear_ticks(a, max_ticks, round);
}
