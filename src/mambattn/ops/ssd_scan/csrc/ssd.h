/* What a caller hands to the scan of ssd. Keep in step with the ctypes structure of native.py.
 *
 * In each sequence the heads of a token lie side by side without gaps, so those of a block are one row of channels. A block
 * is some heads of one group; its channels are cut into vectors, and the last vector is padded. */
#ifndef MAMBATTN_SSD_H
#define MAMBATTN_SSD_H

#include "sequence.h"

typedef struct {
    int64_t batch, seq_len, n_groups, heads, d_head, d_state; /* heads: in a group */
    int64_t block;       /* heads of a block, LANES at most */
    int64_t chunk;       /* tokens between two states kept for the backward */
    int64_t batch_parts; /* the work is cut into batch_parts * n_groups * head_parts items, */
    int64_t head_parts;  /* each of them summed in one order, whichever thread takes it */
    int64_t dt_softplus;
    int64_t next; /* first item that no thread has taken yet */
    view x, dt, z, B, C, y;
    view dout, dx, ddt, dz, dB, dC;
    const float *A2;            /* A * log2(e): (n_heads) */
    const float *D;             /* (n_heads, d_head) or NULL */
    const float *bias;          /* (n_heads) or NULL */
    const float *initial_state; /* (batch, n_heads, d_head, d_state) or NULL, as the other states */
    const uint8_t *reset;       /* (batch, seq_len) or NULL: the state becomes zero before this token */
    float *final_state;
    float *checkpoints; /* (batch, chunks - 1, n_groups, blocks, vectors, d_state, LANES) or NULL: states at chunk starts */
    const float *dfinal;
    float *dinitial;
    float *dA, *dbias;  /* (batch_parts, n_heads) each */
    float *dD;          /* (batch_parts, n_heads, d_head) */
    int64_t dBC_part;   /* distance between the head parts of dB and of dC */
} job;

#endif
