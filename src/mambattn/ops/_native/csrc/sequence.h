/* A sequence in the memory of a tensor: float32, bfloat16 or float16, read and written as vectors of float32.
 *
 * Strides are counted in elements; channels or states have unit stride. The time axis is that of the scan, so a reversed
 * scan is a pointer to the last token and a negative stride. */
#ifndef MAMBATTN_SEQUENCE_H
#define MAMBATTN_SEQUENCE_H

#include "lanes.h"

enum { FLOAT32, BFLOAT16, FLOAT16 }; /* in step with TYPES of library.py */

typedef struct {
    char *data;
    int64_t batch, time, group; /* group: a group of states, or a head */
    int64_t type;
} view;

typedef uint16_t halves __attribute__((vector_size(LANES * sizeof(uint16_t))));
typedef uint32_t uvec __attribute__((vector_size(LANES * sizeof(uint32_t))));

INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* Where the row of a token begins. */
INLINE char *row_at(view v, int64_t b, int64_t t, int64_t group) {
    return v.data + (b * v.batch + t * v.time + group * v.group) * (v.type == FLOAT32 ? 4 : 2);
}

/* The same for a sequence that is float32 always. */
INLINE float *floats_at(view v, int64_t b, int64_t t, int64_t group) {
    return (float *)v.data + b * v.batch + t * v.time + group * v.group;
}

INLINE uvec select_bits(ivec mask, uvec a, uvec b) { return (a & (uvec)mask) | (b & ~(uvec)mask); }

INLINE vec from_bfloat16(halves h) { return (vec)(__builtin_convertvector(h, uvec) << 16); }

/* Rounded to nearest, ties to even. */
INLINE halves to_bfloat16(vec x) {
    uvec bits = (uvec)x, rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return __builtin_convertvector(select_bits(x == x, rounded, (bits >> 16) | 0x40), halves);
}

INLINE vec from_float16(halves h) {
#if LANES == 16
    return (vec)_mm512_cvtph_ps((__m256i)h);
#elif defined(__F16C__) && LANES == 8
    return (vec)_mm256_cvtph_ps((__m128i)h);
#else
    uvec w = __builtin_convertvector(h, uvec), sign = (w & 0x8000) << 16, size = w & 0x7fff;
    uvec normal = (size << 13) + (112u << 23);
    normal = select_bits((ivec)(size >= 0x7c00), normal + (112u << 23), normal);
    /* Below 2^-14 a float16 is a whole number of 2^-24: no small float32 is formed, which the thread may flush to 0. */
    vec small = __builtin_convertvector((ivec)size, vec) * 0x1p-24f;
    return (vec)(select_bits((ivec)(size < 0x400), (uvec)small, normal) | sign);
#endif
}

/* Rounded to nearest, ties to even; infinite from 65520 on. */
INLINE halves to_float16(vec x) {
#if LANES == 16
    return (halves)_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__F16C__) && LANES == 8
    return (halves)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    uvec bits = (uvec)x, sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffff;
    uvec normal = (size - (112u << 23) + 0xfff + ((size >> 13) & 1)) >> 13;
    /* Adding 1/2 leaves the number of 2^-24 in the low bits. */
    uvec small = (uvec)((vec)size + 0.5f) - 0x3f000000;
    uvec half = select_bits((ivec)(size < 0x38800000), small, normal);
    half = select_bits((ivec)(size >= 0x477ff000), (uvec){0} + 0x7c00, half);
    half = select_bits((ivec)(size > 0x7f800000), (uvec){0} + 0x7e00, half);
    return __builtin_convertvector(half | sign, halves);
#endif
}

/* Up to LANES channels of a row, from that of number `channel` on; the lanes beyond `count` are 0. */
INLINE vec load_as(int64_t type, const char *row, int64_t channel, int64_t count) {
    if (type == FLOAT32) return load((const float *)row + channel, count);
    halves h = {0};
    memcpy(&h, row + 2 * channel, count == LANES ? sizeof h : (size_t)(2 * count));
    return type == BFLOAT16 ? from_bfloat16(h) : from_float16(h);
}

INLINE void store_as(int64_t type, char *row, int64_t channel, vec x, int64_t count) {
    if (type == FLOAT32) {
        store((float *)row + channel, x, count);
        return;
    }
    halves h = type == BFLOAT16 ? to_bfloat16(x) : to_float16(x);
    memcpy(row + 2 * channel, &h, count == LANES ? sizeof h : (size_t)(2 * count));
}

#endif
