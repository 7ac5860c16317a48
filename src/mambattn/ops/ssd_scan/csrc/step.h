/* What a caller hands to the step of one token of ssd. Keep in step with the ctypes structure of native_step.py.
 *
 * The sequences are of one token: their time stride is not used, and `group` is the stride of a head or a group. The
 * states, D and what each head has one of lie as in torch. */
#ifndef MAMBATTN_SSD_STEP_H
#define MAMBATTN_SSD_STEP_H

#include "sequence.h"

typedef struct {
    int64_t batch, n_heads, d_head, n_groups, d_state;
    int64_t items; /* parts that the heads, over the batch, are cut into */
    int64_t dt_softplus;
    int64_t next; /* first item that no thread has taken yet */
    view x, dt, z, B, C, y;
    const float *A;     /* (n_heads) */
    const float *D;     /* (n_heads, d_head) or NULL */
    const float *bias;  /* (n_heads) or NULL */
    const float *state; /* (batch, n_heads, d_head, d_state) */
    float *new_state;
} step_job;

#endif
