/* What a caller hands to the convolution. Keep in step with the ctypes structure of native.py.
 *
 * The work is cut into blocks of channels, and each row of the batch into segments of `segment` tokens; the segments of all
 * rows are cut into `parts`. An item is one part for one block of channels, summed in one order whichever thread takes it. */
#ifndef MAMBATTN_CONV_H
#define MAMBATTN_CONV_H

#include "sequence.h"

typedef struct {
    int64_t batch, seq_len, d_inner, d_conv;
    int64_t segment, parts;
    int64_t silu;
    int64_t next; /* first item that no thread has taken yet */
    view x, y, dout, dx;
    view initial, dinitial; /* the d_conv - 1 tokens before the first; no data for zeros, and where not wanted */
    const float *taps;      /* (d_conv, d_inner), that of the current token last */
    const float *bias;      /* (d_inner) or NULL */
    const int32_t *reach;   /* (batch, seq_len) or NULL: how many tokens back a token may look */
    float *sums;            /* (parts, d_conv + 1, d_inner): gradients of the taps, then of the bias */
} job;

#endif
