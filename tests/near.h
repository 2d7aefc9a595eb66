/* Numbers that agree up to a tolerance.  Include after cmocka.h. */
#ifndef SIREN_TESTS_NEAR_H
#define SIREN_TESTS_NEAR_H

#include <math.h>

static inline void near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance)) fail_msg("%.17g is not within %g of %.17g", a, tolerance, b);
}

#endif
