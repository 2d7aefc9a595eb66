/* exp and erf on v16, and what else follows from the operations of v16_*.h, the same on every set.
 * Polynomials are minimax fits (tests/reference/polynomials.py). */

/* exp(x) to about 0.6 ulp; below -104 zero, above 88.8 infinity, NaN stays.
 * x = n·ln 2 + r; ln 2 in two parts of which the first times n is exact. */
V16 v16 v16_exp(v16 x)
{
    x = v16_min(v16_set1(89.0f), v16_max(v16_set1(-104.5f), x)); /* NaN: the second operand */
    v16 round = v16_set1(0x1.8p23f);
    v16 n = v16_sub(v16_fma(x, v16_set1(0x1.715476p+0f), round), round);
    v16 r = v16_fnma(n, v16_set1(0x1.62e4p-1f), x);
    r = v16_fnma(n, v16_set1(0x1.7f7d1cp-20f), r);
    v16 p = v16_fma(v16_set1(0x1.6a23c2p-10f), r, v16_set1(0x1.123a2p-7f));
    p = v16_fma(p, r, v16_set1(0x1.5558f4p-5f));
    p = v16_fma(p, r, v16_set1(0x1.555492p-3f));
    p = v16_fma(p, r, v16_set1(0x1.fffffcp-2f));
    p = v16_fma(p, r, v16_set1(1.0f));
    p = v16_fma(p, r, v16_set1(1.0f));
    return v16_ldexp(p, n);
}

/* erf(x), absolute error below 1.2e-7: x·P(x²) below 1, else ±(1 - exp(-Q(|x|))). */
V16 v16 v16_erf(v16 x)
{
    v16 a = v16_abs(x), s = v16_mul(x, x);
    v16 p = v16_fma(v16_set1(7.853838906e-05f), s, v16_set1(-8.010186721e-04f));
    p = v16_fma(p, s, v16_set1(5.188326817e-03f));
    p = v16_fma(p, s, v16_set1(-2.685381100e-02f));
    p = v16_fma(p, s, v16_set1(1.128358543e-01f));
    p = v16_fma(p, s, v16_set1(-3.761262596e-01f));
    p = v16_fma(p, s, v16_set1(1.128379107e+00f));
    p = v16_mul(p, x);
    v16 b = v16_min(v16_set1(4.0f), a);
    v16 q = v16_fma(v16_set1(-1.855728915e-04f), b, v16_set1(2.939596539e-03f));
    q = v16_fma(q, b, v16_set1(-2.180527523e-02f));
    q = v16_fma(q, b, v16_set1(1.030372828e-01f));
    q = v16_fma(q, b, v16_set1(6.382257938e-01f));
    q = v16_fma(q, b, v16_set1(1.127040029e+00f));
    q = v16_fma(q, b, v16_set1(3.537333105e-04f));
    q = v16_sub(v16_set1(1.0f), v16_exp(v16_neg(q)));
    return v16_if_less(a, v16_set1(1.0f), p, v16_copysign(q, x));
}

/* The first n lanes, whole vectors where they are: masked ones are slow on some machines. */
V16 v16 v16_load_some(const float *p, int n)
{
    return n >= 16 ? v16_load(p) : v16_load_n(p, n);
}
V16 void v16_store_some(float *p, v16 v, int n)
{
    if (n >= 16)
        v16_store(p, v);
    else
        v16_store_n(p, v, n);
}

/* The cache line so many bytes behind x, into the first cache or only into the second.  By its
 * address: there may be nothing, which harms nobody. */
V16 void fetch_first(const void *x, size_t ahead)
{
    __builtin_prefetch((const void *)((uintptr_t)x + ahead));
}
V16 void fetch_second(const void *x, size_t ahead)
{
    __builtin_prefetch((const void *)((uintptr_t)x + ahead), 0, 2);
}

/* out[j·ldout + i] = in[i·ldin + j], 16 × 16; the two do not overlap. */
V16 void v16_transpose(const float *in, size_t ldin, float *out, size_t ldout)
{
    v16_transpose_apart(in, ldin, out, out + 8 * ldout, ldout);
}
