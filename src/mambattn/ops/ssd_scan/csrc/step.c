/* One token of ssd. The states of a channel lie side by side, so a vector holds states of one channel here: nothing is moved
 * to another layout, and the sums over states are formed for LANES channels at once. */
#include "step.h"

static void advance(const step_job *j, int64_t b, int64_t head) {
    const int64_t P = j->d_head, N = j->d_state, group = head * j->n_groups / j->n_heads;
    const int64_t offset = (b * j->n_heads + head) * P * N;
    const float *B = floats_at(j->B, b, 0, group), *C = floats_at(j->C, b, 0, group), *state = j->state + offset;
    float *new_state = j->new_state + offset;
    vec dt = load_as(j->dt.type, row_at(j->dt, b, 0, 0), head, 1);
    if (j->bias) dt += j->bias[head];
    if (j->dt_softplus) dt = softplus(dt, exp_minus_abs(dt));
    const float decay = exp2_lanes(dt * LOG2E * j->A[head])[0], step = dt[0];
    for (int64_t first = 0; first < P; first += LANES) {
        const int64_t count = min64(LANES, P - first);
        vec x = load_as(j->x.type, row_at(j->x, b, 0, head), first, count), dtx = step * x, sums[LANES] = {0};
        for (int64_t i = 0; i < count; i++, state += N, new_state += N)
            for (int64_t n = 0; n < N; n += LANES) {
                const int64_t states = min64(LANES, N - n);
                vec h = decay * load(state + n, states) + dtx[i] * load(B + n, states);
                sums[i] += h * load(C + n, states);
                store(new_state + n, h, states);
            }
        vec y = sum_rows(sums);
        if (j->D) y += x * load(j->D + head * P + first, count);
        if (j->z.data) {
            vec z = load_as(j->z.type, row_at(j->z, b, 0, head), first, count);
            y *= z * logistic(z, exp_minus_abs(z));
        }
        store_as(j->y.type, row_at(j->y, b, 0, head), first, y, count);
    }
}

/* Take items until none is left; any number of threads may do so with the same job. */
void mambattn_ssd_step(step_job *j, float *scratch) {
    (void)scratch;
    const int64_t heads = j->batch * j->n_heads;
    const unsigned saved = begin_flushing();
    int64_t item;
    while ((item = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) < j->items)
        for (int64_t i = heads * item / j->items; i < heads * (item + 1) / j->items; i++)
            advance(j, i / j->n_heads, i % j->n_heads);
    end_flushing(saved);
}
