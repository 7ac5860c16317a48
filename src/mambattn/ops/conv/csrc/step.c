/* One token of the short causal convolution: the state is the queue of the inputs before it. */
#include "step.h"

/* One vector of channels, for all rows of the batch. */
static void advance(const step_job *j, int64_t first, vec *taps) {
    const int64_t K = j->d_conv, count = min64(LANES, j->d_inner - first);
    const view y_out = {j->y, j->d_inner, 0, 0, j->x.type};
    const view new_state = {j->new_state, (K - 1) * j->d_inner, j->d_inner, 0, j->state.type};
    const vec bias = j->bias ? load(j->bias + first, count) : splat(0.0f);
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < K; k++) ((float *)(taps + k))[i] = j->weight[(first + i) * K + k];
    for (int64_t b = 0; b < j->batch; b++) {
        vec x = load_as(j->x.type, row_at(j->x, b, 0, 0), first, count), y = bias + taps[K - 1] * x;
        for (int64_t k = 0; k < K - 1; k++) {
            vec input = load_as(j->state.type, row_at(j->state, b, k, 0), first, count);
            y += taps[k] * input;
            if (k) store_as(new_state.type, row_at(new_state, b, k - 1, 0), first, input, count);
        }
        if (K > 1) store_as(new_state.type, row_at(new_state, b, K - 2, 0), first, x, count);
        if (j->silu) y *= logistic(y, exp_minus_abs(y));
        store_as(y_out.type, row_at(y_out, b, 0, 0), first, y, count);
    }
}

/* Take items until none is left; any number of threads may do so with the same job. */
void mambattn_conv_step(step_job *j, float *scratch) {
    const int64_t vectors = (j->d_inner + LANES - 1) / LANES;
    const unsigned saved = begin_flushing();
    memset(scratch, 0, j->d_conv * sizeof(vec));
    int64_t item;
    while ((item = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) < j->items)
        for (int64_t v = vectors * item / j->items; v < vectors * (item + 1) / j->items; v++)
            advance(j, v * LANES, (vec *)scratch);
    end_flushing(saved);
}
