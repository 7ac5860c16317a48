/* What a caller hands to attention. Keep in step with the ctypes structure of native.py. */
#ifndef MAMBATTN_ATTEND_H
#define MAMBATTN_ATTEND_H

#include "sequence.h"

typedef struct {
    int64_t batch, seq_len, n_heads, n_kv_heads, d_head;
    int64_t left, right; /* tokens in sight before and after a query */
    int64_t seed, drop;  /* of 2^32 weights, `drop` are dropped */
    int64_t next;        /* first item that no thread has taken yet */
    double scale, keep;  /* factors of the logits, and of the weights that are kept */
    view q, k, v, y, dy, dq, dk, dv; /* the group is a head */
} attend_job;

#endif
