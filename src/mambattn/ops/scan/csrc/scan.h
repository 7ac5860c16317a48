/* What a caller hands to the scan. Keep in step with the ctypes structure of native.py.
 *
 * B, C and their gradients are float32; the other sequences may each be of a lower precision. "Lane layout" means that the
 * channels of a group are cut into vectors, padded with zeros: (..., n_groups * vectors, d_state, LANES), or without
 * d_state for what has one value a channel. */
#ifndef MAMBATTN_SCAN_H
#define MAMBATTN_SCAN_H

#include "sequence.h"

typedef struct {
    int64_t batch, seq_len, n_groups, d_group, d_state;
    int64_t chunk;         /* steps between two states kept for the backward */
    int64_t batch_parts;   /* the work is cut into batch_parts * n_groups * channel_parts items, */
    int64_t channel_parts; /* each of them summed in one order, whichever thread takes it */
    int64_t dt_softplus;
    int64_t next; /* first item that no thread has taken yet */
    view u, dt, z, B, C, y;
    view dout, du, ddt, dz, dB, dC;
    const float *A2;   /* A * log2(e), lanes */
    const float *D;    /* lanes, zeros if there is none */
    const float *bias; /* lanes, zeros if there is none */
    const float *initial_state; /* (batch, lanes) or NULL */
    const uint8_t *reset;       /* (batch, seq_len) or NULL: the state becomes zero before this step */
    float *final_state;         /* (batch, lanes) or NULL */
    float *checkpoints;         /* (batch, chunks - 1, lanes) or NULL: states at the starts of chunks 1, 2, ... */
    const float *dfinal;        /* (batch, lanes) or NULL */
    float *dinitial;            /* (batch, lanes) or NULL */
    float *dA, *dD, *dbias;     /* (batch_parts, lanes) each */
    int64_t dBC_part;           /* distance between the channel parts of dB and of dC */
} job;

#endif
