/* The ticks of a chart's axis, and where a value lies on it.  Private to src/base. */
#ifndef SIREN_BASE_PLOT_AXIS_H
#define SIREN_BASE_PLOT_AXIS_H

enum { PLOT_MAX_TICKS = 24 };

struct plot_tick {
    double at; /* in [0, 1] */
    char text[48];
};

struct plot_axis {
    double low, high; /* of the values; low < high */
    int log;          /* 0: linear; 10 or 2 */
    int whole;        /* all values are whole numbers, steps or layers: no tick lies between, if one
                         of them is in the range */
    int n;
    struct plot_tick ticks[PLOT_MAX_TICKS];
    char power[24]; /* "10⁶": what the ticks' numbers are multiples of; "": 1 */
};

/* low <= high, finite; positive where log != 0.  At most max_ticks ticks.  round: a linear axis
 * begins and ends at a tick. */
void plot_axis_make(struct plot_axis *axis, double low, double high, int log, int whole,
                    int max_ticks, int round);
/* low at 0, high at 1. */
double plot_axis_place(const struct plot_axis *axis, double value);

#endif
