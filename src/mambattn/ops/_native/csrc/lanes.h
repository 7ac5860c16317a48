/* One vector of channels: GCC vector extensions, as wide as the instruction set that this build is for. */
#ifndef MAMBATTN_LANES_H
#define MAMBATTN_LANES_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#else
#define LANES 4
#endif

/* Numbers below 2^-126 count as 0 meanwhile: strong decay makes many of them, and some processors take a hundred times
 * longer over each. Gives what `end_flushing` needs to restore the thread as it was. */
#if defined(__SSE2__)
#include <xmmintrin.h>
static inline unsigned begin_flushing(void) {
    const unsigned state = _mm_getcsr();
    _mm_setcsr(state | 0x8040);
    return state;
}
static inline void end_flushing(unsigned state) { _mm_setcsr(state); }
#else
static inline unsigned begin_flushing(void) { return 0; }
static inline void end_flushing(unsigned state) { (void)state; }
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t ivec __attribute__((vector_size(LANES * sizeof(int32_t))));

INLINE vec splat(float x) { return x - (vec){0}; }

/* Up to LANES channels of a row; the lanes beyond `count` are zero on load and untouched on store. */
INLINE vec load(const float *p, int64_t count) {
#if LANES == 16
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
#else
    vec v = {0};
    if (count == LANES) {
        memcpy(&v, p, sizeof v);
    } else {
        for (int64_t i = 0; i < count; i++) v[i] = p[i];
    }
    return v;
#endif
}

INLINE void store(float *p, vec v, int64_t count) {
#if LANES == 16
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
#else
    if (count == LANES) {
        memcpy(p, &v, sizeof v);
    } else {
        for (int64_t i = 0; i < count; i++) p[i] = v[i];
    }
#endif
}

INLINE vec choose(ivec mask, vec a, vec b) { return (vec)(((ivec)a & mask) | ((ivec)b & ~mask)); }
/* Both keep NaN. */
#if LANES == 16
INLINE vec at_most(vec x, float limit) { return (vec)_mm512_min_ps(_mm512_set1_ps(limit), (__m512)x); }
INLINE vec at_least(vec x, float limit) { return (vec)_mm512_max_ps(_mm512_set1_ps(limit), (__m512)x); }
#elif LANES == 8
INLINE vec at_most(vec x, float limit) { return (vec)_mm256_min_ps(_mm256_set1_ps(limit), (__m256)x); }
INLINE vec at_least(vec x, float limit) { return (vec)_mm256_max_ps(_mm256_set1_ps(limit), (__m256)x); }
#elif defined(__SSE2__)
INLINE vec at_most(vec x, float limit) { return (vec)_mm_min_ps(_mm_set1_ps(limit), (__m128)x); }
INLINE vec at_least(vec x, float limit) { return (vec)_mm_max_ps(_mm_set1_ps(limit), (__m128)x); }
#else
INLINE vec at_most(vec x, float limit) { return choose(x > limit, splat(limit), x); }
INLINE vec at_least(vec x, float limit) { return choose(x < limit, splat(limit), x); }
#endif

/* 2^x, exactly 1 at 0, so that a state that does not decay is kept to the bit.
 *
 * With AVX: x = m / LANES + r with m the nearest integer; 2^(m / LANES) is a table in a register and a change of the
 * exponent, and 2^r is a polynomial of degree 3 (16 lanes) or 4 (8 lanes). Elsewhere: x = k + r with k the nearest integer, and
 * degree 6. Each polynomial is off by 2e-9 or less before rounding. */
INLINE vec exp2_lanes(vec x) {
#if LANES == 16
    const __m512 table = _mm512_setr_ps(1.0f, 1.0442737824274138f, 1.0905077326652577f, 1.1387886347566916f,
                                        1.189207115002721f, 1.241857812073484f, 1.2968395546510096f,
                                        1.3542555469368927f, 1.4142135623730951f, 1.476826145939499f,
                                        1.5422108254079407f, 1.6104903319492543f, 1.681792830507429f,
                                        1.7562521603732995f, 1.8340080864093424f, 1.9152065613971472f);
    const float shift = 786432.0f; /* 1.5 * 2^19: adding it leaves m in the low bits */
    x = at_least(x, -160.0f);
    vec shifted = x + shift;
    vec whole = shifted - shift;
    vec r = x - whole;
    vec power = (vec)_mm512_permutexvar_ps((__m512i)shifted, table);
    vec q = r * 0.055502135306596756f + 0.24023428559303284f;
    q = q * r + 0.6931471824645996f;
    return (vec)_mm512_scalef_ps((__m512)(power * r * q + power), (__m512)whole);
#elif LANES == 8
    /* The bits of 2^(i / 8), less what the low bits of m << 20 will add to them. */
    const ivec table = (ivec)(vec){1.0f, 1.0905077326652577f, 1.189207115002721f, 1.2968395546510096f,
                                   1.4142135623730951f, 1.5422108254079407f, 1.681792830507429f, 1.8340080864093424f} -
                       ((ivec){0, 1, 2, 3, 4, 5, 6, 7} << 20);
    const float shift = 1572864.0f; /* 1.5 * 2^20: adding it leaves m in the low bits */
    x = at_least(at_most(x, 128.0f), -126.0f);
    vec shifted = x + shift;
    vec r = x - (shifted - shift);
    vec power = (vec)((ivec)_mm256_permutevar8x32_epi32((__m256i)table, (__m256i)shifted) + ((ivec)shifted << 20));
    vec q = r * 0.009617653675377369f + 0.05551059544086456f;
    q = q * r + 0.24022650718688965f;
    q = q * r + 0.6931471824645996f;
    return (q * r + 1.0f) * power;
#else
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it leaves k in the low bits */
    x = at_least(at_most(x, 128.0f), -126.0f);
    vec shifted = x + shift;
    vec r = x - (shifted - shift);
    vec q = r * 0.00015353361959569156f + 0.0013398875016719103f;
    q = q * r + 0.00961843691766262f;
    q = q * r + 0.055503323674201965f;
    q = q * r + 0.24022647738456726f;
    q = q * r + 0.6931471824645996f;
    q = q * r + 1.0f;
    return (vec)((ivec)q + ((ivec)shifted << 23));
#endif
}

#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f

/* exp(-|x|), from which softplus and the logistic function follow without overflow or cancellation. */
INLINE vec exp_minus_abs(vec x) { return exp2_lanes((vec)((ivec)x | INT32_MIN) * LOG2E); }

/* 1 / x for an x of ordinary size. With AVX-512 an estimate of 14 bits and a Newton step: division takes far longer. */
INLINE vec reciprocal(vec x) {
#if LANES == 16
    vec r = (vec)_mm512_rcp14_ps((__m512)x);
    return r + r * (1.0f - x * r);
#else
    return 1.0f / x;
#endif
}

/* 1 / (1 + exp(-x)), given e = exp(-|x|). */
INLINE vec logistic(vec x, vec e) { return choose(x < 0.0f, e, splat(1.0f)) * reciprocal(1.0f + e); }

/* log(1 + exp(x)) = max(x, 0) + log1p(e), with log1p(e) = 2 artanh(s), s = e / (2 + e) in (0, 1/3]. */
INLINE vec softplus(vec x, vec e) {
    vec s = e * reciprocal(2.0f + e);
    vec s2 = s * s;
    vec q = s2 * 0.12144777737557888f + 0.10715369880199432f;
    q = q * s2 + 0.14308299124240875f;
    q = q * s2 + 0.19999444484710693f;
    q = q * s2 + 0.3333333730697632f;
    return at_least(x, 0.0f) + 2.0f * (s * s2 * q + s);
}

/* Neighbouring lanes of a, then of b, added in pairs. */
INLINE vec add_pairs(vec a, vec b) {
#if LANES == 16
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif LANES == 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#else
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#endif
#if defined(__clang__)
    return __builtin_shufflevector(a, b, EVEN) + __builtin_shufflevector(a, b, ODD);
#else
    return __builtin_shuffle(a, b, (ivec){EVEN}) + __builtin_shuffle(a, b, (ivec){ODD});
#endif
}

/* The sums over lanes of LANES rows, as one vector; the rows are overwritten. */
INLINE vec sum_rows(vec *rows) {
    for (int n = LANES; n > 1; n /= 2)
        for (int i = 0; i < n / 2; i++) rows[i] = add_pairs(rows[2 * i], rows[2 * i + 1]);
    return rows[0];
}

#endif
