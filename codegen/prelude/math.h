// ---- prelude: functions -----------------------------------------------------------------------------------------------
// Our own, so that the bits are the same with every C library.

// x = n·ln 2 + r, |r| ≤ ln 2 / 2: returns e^r − 1 by Taylor to degree 7 (about 1 ulp of e^r) and n.
TN_INLINE tn_v tn_exp_parts(tn_v x, tn_i *n) {
    tn_v m = tn_round(x * tn_splat(1.44269504088896341f));
    tn_v r = tn_fma16(m, tn_splat(-0.693359375f), x);
    r = tn_fma16(m, tn_splat(2.12194440e-4f), r);
    tn_v p = tn_splat(1.0f / 5040);
    p = tn_fma16(p, r, tn_splat(1.0f / 720));
    p = tn_fma16(p, r, tn_splat(1.0f / 120));
    p = tn_fma16(p, r, tn_splat(1.0f / 24));
    p = tn_fma16(p, r, tn_splat(1.0f / 6));
    p = tn_fma16(p, r, tn_splat(0.5f));
    *n = tn_to_int(m);
    return tn_fma16(p * r, r, r);
}
TN_INLINE tn_v tn_power_of_2(tn_i n) { return tn_float((n + tn_splat_i(127)) << 23); }   // −126 ≤ n ≤ 127
TN_INLINE tn_v tn_exp16(tn_v x) {                                                       // below e^-87 (1.6e-38): 0
    tn_i n;
    tn_v e = tn_exp_parts(tn_min(tn_max(x, tn_splat(-87.0f)), tn_splat(88.72284f)), &n);
    tn_i high = n > tn_splat_i(0);                                                    // 2^128 by 2^127 and a doubling
    tn_v scale = tn_power_of_2(n + high);
    tn_v y = tn_fma16(e, scale, scale) * tn_select(high, tn_splat(2.0f), tn_splat(1.0f));
    y = tn_select(x < tn_splat(-87.0f), tn_splat(0.0f), y);
    y = tn_select(x > tn_splat(88.72284f), tn_splat(__builtin_inff()), y);
    return tn_select(x == x, y, x);
}
TN_INLINE tn_v tn_sigmoid(tn_v x) { return tn_splat(1.0f) / (tn_splat(1.0f) + tn_exp16(tn_neg(x))); }
TN_INLINE tn_v tn_silu(tn_v x) { return x / (tn_splat(1.0f) + tn_exp16(tn_neg(x))); }
TN_INLINE tn_v tn_tanh(tn_v x) {                                                      // (e^2x − 1) / (e^2x + 1) through e^2x − 1
    tn_i n;
    tn_v a = tn_min(tn_abs(x), tn_splat(10.0f)), e = tn_exp_parts(a + a, &n), scale = tn_power_of_2(n);
    tn_v m = tn_fma16(e, scale, scale - tn_splat(1.0f));
    tn_v t = m / (m + tn_splat(2.0f));
    t = tn_float(tn_bits(t) | (tn_bits(x) & tn_splat_i((int)0x80000000u)));
    return tn_select(x == x, t, x);
}
TN_INLINE tn_v tn_gelu_tanh(tn_v x) {
    tn_v u = tn_splat(0.7978845608028654f) * tn_fma16(x * x * x, tn_splat(0.044715f), x);
    return tn_splat(0.5f) * x * (tn_splat(1.0f) + tn_tanh(u));
}
// x · Φ(x). Φ(x) = erfc(−x/√2)/2 with the Chebyshev fit of erfc from Numerical Recipes (fractional error below 1.2e-7).
TN_INLINE tn_v tn_gelu(tn_v x) {
    tn_v z = tn_abs(x) * tn_splat(0.7071067811865476f);
    tn_v t = tn_splat(1.0f) / tn_fma16(z, tn_splat(0.5f), tn_splat(1.0f));
    tn_v p = tn_splat(0.17087277f);
    p = tn_fma16(p, t, tn_splat(-0.82215223f));
    p = tn_fma16(p, t, tn_splat(1.48851587f));
    p = tn_fma16(p, t, tn_splat(-1.13520398f));
    p = tn_fma16(p, t, tn_splat(0.27886807f));
    p = tn_fma16(p, t, tn_splat(-0.18628806f));
    p = tn_fma16(p, t, tn_splat(0.09678418f));
    p = tn_fma16(p, t, tn_splat(0.37409196f));
    p = tn_fma16(p, t, tn_splat(1.00002368f));
    p = tn_fma16(p, t, tn_splat(-1.26551223f));
    tn_v e = t * tn_exp16(tn_fma16(tn_neg(z), z, p)) * tn_splat(0.5f);                  // Φ(−|x|)
    return x * tn_select(x < tn_splat(0.0f), e, tn_splat(1.0f) - e);
}

// Double precision, scalar: for rotary angles, log and pow. Errors are far below a float's ulp.
TN_INLINE double tn_log_d(double x) {
    union { double d; tn_u64 u; } b = {x};
    int e = 0;
    if (!(x > 0)) return x == 0 ? -__builtin_inf() : __builtin_nan("");
    if (b.u >= 0x7ff0000000000000ull) return x;
    if (b.u < 0x0010000000000000ull) { b.d = x * 0x1p54; e = -54; }
    e += (int)(b.u >> 52) - 1023;
    b.u = (b.u & 0x000fffffffffffffull) | 0x3ff0000000000000ull;
    if (b.d > 1.4142135623730951) { b.d *= 0.5; e++; }
    double f = (b.d - 1) / (b.d + 1), f2 = f * f, s = 0;
    for (int k = 21; k >= 1; k -= 2) s = s * f2 + 1.0 / k;
    return e * 0.6931471805599453 + 2 * f * s;
}
TN_INLINE double tn_exp_d(double x) {
    if (x > 709.7) return __builtin_inf();
    if (x < -745) return 0;
    double n = (double)(int)(x * 1.4426950408889634 + (x < 0 ? -0.5 : 0.5));
    double r = (x - n * 0.6931471803691238) - n * 1.9082149292705877e-10, p = 1;
    for (int k = 14; k >= 1; k--) p = 1 + p * r / k;
    int e = (int)n;
    union { tn_u64 u; double d; } half = {(tn_u64)(e / 2 + 1023) << 52}, rest = {(tn_u64)(e - e / 2 + 1023) << 52};
    return p * half.d * rest.d;
}
TN_INLINE float tn_log1(float x) { return x != x ? x : (float)tn_log_d((double)x); }
TN_INLINE tn_v tn_log(tn_v x) { for (int i = 0; i < 16; i++) x[i] = tn_log1(x[i]); return x; }
TN_INLINE float tn_pow1(float a, float b) {
    if (b == 0 || a == 1) return 1;
    if (a != a || b != b) return a + b;
    int large = b >= 9.2e18f || b <= -9.2e18f;
    long long whole = large ? 0 : (long long)b;
    int integer = large || (float)whole == b, odd = integer && (whole & 1);
    double y;
    if (a < 0 && !integer) return __builtin_nanf("");
    double m = a < 0 ? -(double)a : (double)a;
    if (m == 0) y = b < 0 ? __builtin_inf() : 0;
    else if (m > 3.4028235677973366e38) y = b < 0 ? 0 : __builtin_inf();
    else y = tn_exp_d((double)b * tn_log_d(m));
    return (float)(odd && (a < 0 || (a == 0 && 1 / a < 0)) ? -y : y);
}
TN_INLINE tn_v tn_pow(tn_v a, tn_v b) { for (int i = 0; i < 16; i++) a[i] = tn_pow1(a[i], b[i]); return a; }
typedef double tn_d __attribute__((vector_size(64)));
typedef long long tn_l __attribute__((vector_size(64)));
TN_INLINE tn_d tn_splat_d(double x) { return (tn_d){x, x, x, x, x, x, x, x}; }
// Sine and cosine of angles below 1e9: reduced by multiples of π/2 held in three parts, then Taylor; which of the two, and its sign, by the quadrant, that
// is the last bits of the sum that rounds.
TN_INLINE void tn_sincos(tn_d a, tn_d *sine, tn_d *cosine) {
    const tn_d one = tn_splat_d(1), magic = tn_splat_d(0x1.8p52), sum = a * tn_splat_d(0.6366197723675814) + magic, n = sum - magic;
    const tn_d r = ((a - n * tn_splat_d(1.5707963267341256)) - n * tn_splat_d(6.077100506303966e-11)) - n * tn_splat_d(2.0222662487959506e-21), r2 = r * r;
    tn_d s = tn_splat_d(0), c = s;
    TN_UNROLL for (int k = 17; k >= 3; k -= 2) s = (one - s) * r2 * tn_splat_d(1.0 / ((k - 1) * k));
    TN_UNROLL for (int k = 16; k >= 2; k -= 2) c = (one - c) * r2 * tn_splat_d(1.0 / ((k - 1) * k));
    const tn_l bits = (tn_l)sum, odd = -(bits & 1), low = (tn_l)((one - s) * r), high = (tn_l)(one - c);
    *sine = (tn_d)(((odd & high) | (~odd & low)) ^ (bits & 2) << 62);
    *cosine = (tn_d)(((odd & low) | (~odd & high)) ^ ((bits + 1) & 2) << 62);
}
// cos and sin of position·frequency[j]/factor[j], times scale (RoPE, arXiv 2104.09864). There is room for n rounded up to 8.
TN_NOINLINE void tn_angles(float *cosine, float *sine, int n, int position, const double *frequency, const float *factor, double scale) {
    for (int j = 0; j < n; j += 8) {
        tn_d a = tn_splat_d(0), s, c;
        for (int l = 0; l < 8 && j + l < n; l++) a[l] = position * (factor ? frequency[j + l] / (double)factor[j + l] : frequency[j + l]);
        tn_sincos(a, &s, &c);
        for (int l = 0; l < 8; l++) cosine[j + l] = (float)(c[l] * scale);
        for (int l = 0; l < 8; l++) sine[j + l] = (float)(s[l] * scale);
    }
}
