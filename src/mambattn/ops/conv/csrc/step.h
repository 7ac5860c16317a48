/* What a caller hands to the step of one token of the convolution. Keep in step with the ctypes structure of native_step.py.
 *
 * x is of one token: its time stride is not used. In the states time counts the d_conv - 1 tokens before. y and the new state
 * are dense and of the types of x and of the state. */
#ifndef MAMBATTN_CONV_STEP_H
#define MAMBATTN_CONV_STEP_H

#include "sequence.h"

typedef struct {
    int64_t batch, d_inner, d_conv;
    int64_t items; /* parts that the vectors of channels are cut into */
    int64_t silu;
    int64_t next; /* first item that no thread has taken yet */
    view x, state;
    char *y, *new_state;
    const float *weight; /* (d_inner, d_conv) */
    const float *bias;   /* (d_inner) or NULL */
} step_job;

#endif
