"""Prints the coefficients of src/tensor/v16_math.h: minimax fits by Remez exchange.

exp(r) = 1 + r + r²·(…)      relative error on |r| <= ln 2 / 2
erf(x) = x·P(x²)             relative error on |x| <= 1
erf(x) = 1 - exp(-Q(x))      absolute error on 1 <= x <= 4
Pinned: mpmath 1.3.0, numpy 2.4.6.
"""

import numpy as np
from mpmath import cos, erf, erfc, exp, log, lu_solve, matrix, mp, mpf, pi, sqrt

mp.dps = 40
GRID = 600


def extrema(error, low, high):
    """The largest error of each run of one sign."""
    found = []
    for i in range(GRID + 1):
        x = low + (high - low) * mpf(i) / GRID
        e = error(x)
        if found and (found[-1][1] > 0) == (e > 0):
            if abs(e) > abs(found[-1][1]):
                found[-1] = (x, e)
        elif e != 0:
            found.append((x, e))
    return found


def remez(f, weight, powers, low, high):
    """Coefficients of `powers` that minimise max |weight·(f - polynomial)|, and that maximum."""
    m = len(powers) + 1
    xs = [(low + high) / 2 - (high - low) / 2 * cos(pi * i / (m - 1)) for i in range(m)]
    for _ in range(30):
        a, y = matrix(m, m), matrix(m, 1)
        for i, x in enumerate(xs):
            for j, power in enumerate(powers):
                a[i, j] = weight(x) * x**power
            a[i, m - 1] = (-1) ** i
            y[i] = weight(x) * f(x)
        c = list(lu_solve(a, y))[: m - 1]
        peaks = extrema(
            lambda x: weight(x) * (f(x) - sum(cj * x**p for cj, p in zip(c, powers))), low, high
        )
        while len(peaks) > m:
            peaks.pop(0 if abs(peaks[0][1]) < abs(peaks[-1][1]) else -1)
        worst = max(abs(e) for _, e in peaks)
        if len(peaks) < m or worst / min(abs(e) for _, e in peaks) < mpf("1.001"):
            break
        xs = [x for x, _ in peaks]
    return c, worst


def show(name, fit):
    c, worst = fit
    print(name, "worst", mp.nstr(worst, 3))
    for value in c:
        single = np.float32(float(value))
        print("   %.9ef  %s" % (single, float(single).hex()))


def main():
    half = log(2) / 2 * mpf("1.0005")
    show("exp", remez(lambda r: exp(r) - 1 - r, lambda r: 1 / exp(r), range(2, 7), -half, half))

    def ratio(s):
        return erf(sqrt(s)) / sqrt(s)

    show("erf", remez(ratio, lambda s: 1 / ratio(s), range(7), mpf("1e-12"), mpf(1)))
    show("-log erfc", remez(lambda x: -log(erfc(x)), erfc, range(7), mpf(1), mpf(4)))


if __name__ == "__main__":
    main()
