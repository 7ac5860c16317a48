/* The short causal convolution, forward and backward, in float32; see README.md.
 *
 * A vector of channels is taken along a segment of tokens with its taps, the inputs that they meet and, in the backward, all
 * sums in registers, so that each number is read and written once. */
#include "conv.h"

/* Channel vectors of a block, and taps for which there is a copy of the code that holds everything in registers. */
#define BLOCK 8
#define USUAL 4

INLINE int64_t blocks_of(const job *j) { return (j->d_inner + BLOCK * LANES - 1) / (BLOCK * LANES); }
INLINE int64_t segments_of(const job *j) { return (j->seq_len + j->segment - 1) / j->segment; }

/* The channels of one vector. */
typedef struct {
    int64_t first, count;
} channels;

/* The token t of row b, which may be one of those before the first. */
INLINE vec token_at(const job *j, const int64_t type, int64_t b, int64_t t, channels c) {
    if (t >= 0) return load_as(type, row_at(j->x, b, t, 0), c.first, c.count);
    if (!j->initial.data) return splat(0.0f);
    return load_as(j->initial.type, row_at(j->initial, b, j->d_conv - 1 + t, 0), c.first, c.count);
}

/* Let the next segment's share of what was just read be fetched meanwhile. */
INLINE void fetch(const job *j, view v, const int64_t type, int64_t b, int64_t t, channels c) {
    __builtin_prefetch(row_at(v, b, t + min64(j->segment, j->seq_len), 0) + c.first * (type == FLOAT32 ? 4 : 2));
}

/* Whether the tap of a lag counts for a token. */
INLINE int counts(const int32_t *reach, int64_t t, int lag) { return !reach || lag <= reach[t]; }

INLINE vec convolve(const int d_conv, const vec *taps, const vec *past, vec bias, const int32_t *reach, int64_t t) {
    vec sum = bias;
#pragma GCC unroll 4
    for (int lag = 0; lag < d_conv; lag++)
        if (counts(reach, t, lag)) sum += taps[lag] * past[lag];
    return sum;
}

/* Vectors of scratch: taps, sums, inputs, and gradients of the tokens after. */
#define ARRAYS 4

INLINE void load_taps(const job *j, const int d_conv, channels c, vec *taps) {
#pragma GCC unroll 4
    for (int lag = 0; lag < d_conv; lag++) taps[lag] = load(j->taps + (d_conv - 1 - lag) * j->d_inner + c.first, c.count);
}

INLINE void forward(const job *j, const int d_conv, const int64_t type, int64_t b, int64_t t0, int64_t t1, channels c,
                    vec *scratch) {
    vec registers[2 * USUAL], *taps = d_conv == USUAL ? registers : scratch, *past = taps + d_conv;
    const int32_t *reach = j->reach ? j->reach + b * j->seq_len : NULL;
    const vec bias = j->bias ? load(j->bias + c.first, c.count) : splat(0.0f);
    load_taps(j, d_conv, c, taps);
#pragma GCC unroll 4
    for (int lag = 1; lag < d_conv; lag++) past[lag] = token_at(j, type, b, t0 - lag, c);
    for (int64_t t = t0; t < t1; t++) {
        past[0] = token_at(j, type, b, t, c);
        fetch(j, j->x, type, b, t, c);
        vec y = convolve(d_conv, taps, past, bias, reach, t);
        if (j->silu) y *= logistic(y, exp_minus_abs(y));
        store_as(type, row_at(j->y, b, t, 0), c.first, y, c.count);
#pragma GCC unroll 4
        for (int lag = d_conv - 1; lag > 0; lag--) past[lag] = past[lag - 1];
    }
}

/* From the last token to the first: the gradients of those after a segment are formed anew, where they are needed. */
INLINE void backward(const job *j, const int d_conv, const int64_t type, int64_t b, int64_t t0, int64_t t1, channels c,
                     vec *scratch, float *sums) {
    vec registers[ARRAYS * USUAL], *taps = d_conv == USUAL ? registers : scratch, *past = taps + d_conv;
    vec *later = past + d_conv, *dtaps = later + d_conv, dbias = {0}; /* later[lag]: gradient at token t + lag */
    const int32_t *reach = j->reach ? j->reach + b * j->seq_len : NULL;
    const vec bias = j->bias ? load(j->bias + c.first, c.count) : splat(0.0f);
    const int64_t end = min64(t1 + d_conv - 1, j->seq_len), begin = t0 || !j->dinitial.data ? t0 : 1 - d_conv;
    load_taps(j, d_conv, c, taps);
#pragma GCC unroll 4
    for (int lag = 0; lag < d_conv; lag++) later[lag] = dtaps[lag] = splat(0.0f);
#pragma GCC unroll 4
    for (int lag = 1; lag < d_conv; lag++) past[lag] = token_at(j, type, b, end - lag, c);
    for (int64_t t = end - 1; t >= begin; t--) {
#pragma GCC unroll 4
        for (int lag = 0; lag < d_conv - 1; lag++) past[lag] = past[lag + 1];
        vec g = {0};
        if (t >= 0) {
            past[d_conv - 1] = token_at(j, type, b, t - d_conv + 1, c);
            g = load_as(type, row_at(j->dout, b, t, 0), c.first, c.count);
            fetch(j, j->x, type, b, t, c), fetch(j, j->dout, type, b, t, c);
            if (j->silu) {
                vec p = convolve(d_conv, taps, past, bias, reach, t), sigma = logistic(p, exp_minus_abs(p));
                g *= sigma * (1.0f + p * (1.0f - sigma));
            }
        }
#pragma GCC unroll 4
        for (int lag = d_conv - 1; lag > 0; lag--) later[lag] = later[lag - 1];
        later[0] = g;
        if (t >= t1) continue;
        vec dx = {0};
#pragma GCC unroll 4
        for (int lag = 0; lag < d_conv; lag++) {
            if (!reach || (t + lag >= 0 && t + lag < end && lag <= reach[t + lag])) dx += taps[lag] * later[lag];
            if (t >= 0 && counts(reach, t, lag)) dtaps[lag] += g * past[lag];
        }
        dbias += g;
        if (t >= 0)
            store_as(type, row_at(j->dx, b, t, 0), c.first, dx, c.count);
        else
            store_as(j->dinitial.type, row_at(j->dinitial, b, d_conv - 1 + t, 0), c.first, dx, c.count);
    }
    sums += c.first;
#pragma GCC unroll 4
    for (int lag = d_conv - 1; lag >= 0; lag--, sums += j->d_inner)
        store(sums, load(sums, c.count) + dtaps[lag], c.count);
    store(sums, load(sums, c.count) + dbias, c.count);
}

/* ---- entry points ------------------------------------------------------------------------------------------------- */

/* Floats of scratch that one thread needs, aligned to 64 bytes. */
int64_t mambattn_conv_scratch(const job *j) { return ARRAYS * j->d_conv * LANES; }

/* One part for one block of channels. */
INLINE void run_item(const job *j, const int is_backward, const int d_conv, const int64_t type, int64_t part, int64_t block,
                     vec *scratch) {
    const int64_t in_row = segments_of(j), segments = j->batch * in_row, channel = block * BLOCK * LANES;
    const int64_t stop = min64(channel + BLOCK * LANES, j->d_inner);
    float *sums = is_backward ? j->sums + part * (d_conv + 1) * j->d_inner : NULL;
    if (is_backward)
        for (int lag = 0; lag <= d_conv; lag++)
            memset(sums + lag * j->d_inner + channel, 0, (stop - channel) * sizeof(float));
    for (int64_t s = segments * part / j->parts; s < segments * (part + 1) / j->parts; s++) {
        const int64_t t0 = s % in_row * j->segment, t1 = min64(t0 + j->segment, j->seq_len);
        for (int64_t first = channel; first < stop; first += LANES) {
            const channels c = {first, min64(LANES, j->d_inner - first)};
            if (is_backward)
                backward(j, d_conv, type, s / in_row, t0, t1, c, scratch, sums);
            else
                forward(j, d_conv, type, s / in_row, t0, t1, c, scratch);
        }
    }
}

/* Take items until none is left; any number of threads may do so with the same job. */
INLINE void take_items(job *j, float *scratch, const int is_backward) {
    const int64_t blocks = blocks_of(j), items = j->parts * blocks;
    const unsigned state = begin_flushing();
    int64_t item;
    while ((item = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) < items) {
        const int64_t part = item / blocks, block = item % blocks;
        if (j->d_conv == USUAL && j->x.type == FLOAT32)
            run_item(j, is_backward, USUAL, FLOAT32, part, block, (vec *)scratch);
        else if (j->d_conv == USUAL)
            run_item(j, is_backward, USUAL, j->x.type, part, block, (vec *)scratch);
        else
            run_item(j, is_backward, j->d_conv, j->x.type, part, block, (vec *)scratch);
    }
    end_flushing(state);
}

void mambattn_conv_forward(job *j, float *scratch) { take_items(j, scratch, 0); }
void mambattn_conv_backward(job *j, float *scratch) { take_items(j, scratch, 1); }
