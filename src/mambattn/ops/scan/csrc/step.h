/* What a caller hands to the step of one token. Keep in step with the ctypes structure of native_step.py.
 *
 * The sequences are of one token: their time stride is not used. A, D, the bias and the states lie as in torch. */
#ifndef MAMBATTN_SCAN_STEP_H
#define MAMBATTN_SCAN_STEP_H

#include "sequence.h"

typedef struct {
    int64_t batch, n_groups, d_group, d_state;
    int64_t items; /* parts that the blocks of LANES channels, over batch and groups, are cut into */
    int64_t dt_softplus;
    int64_t next; /* first item that no thread has taken yet */
    view u, dt, z, B, C, y;
    const float *A;     /* (n_groups, d_group, d_state) */
    const float *D;     /* (n_groups, d_group) or NULL */
    const float *bias;  /* (n_groups, d_group) or NULL */
    const float *state; /* (batch, n_groups, d_group, d_state) */
    float *new_state;
} step_job;

#endif
