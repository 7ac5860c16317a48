/* One token of the selective scan. The states of a channel lie side by side, so a vector holds states of one channel here:
 * nothing is moved to another layout, and the sums over states are formed for LANES channels at once. */
#include "step.h"

static void advance(const step_job *j, int64_t b, int64_t group, int64_t first) {
    const int64_t N = j->d_state, count = min64(LANES, j->d_group - first);
    const int64_t channel = group * j->d_group + first, offset = (b * j->n_groups * j->d_group + channel) * N;
    const float *A = j->A + channel * N, *state = j->state + offset;
    const float *B = floats_at(j->B, b, 0, group), *C = floats_at(j->C, b, 0, group);
    float *new_state = j->new_state + offset;
    vec dt = load_as(j->dt.type, row_at(j->dt, b, 0, 0), channel, count);
    vec u = load_as(j->u.type, row_at(j->u, b, 0, 0), channel, count);
    if (j->bias) dt += load(j->bias + channel, count);
    if (j->dt_softplus) dt = softplus(dt, exp_minus_abs(dt));
    const vec rate = dt * LOG2E, dtu = dt * u;
    vec sums[LANES] = {0};
    for (int64_t i = 0; i < count; i++, A += N, state += N, new_state += N) {
        for (int64_t n = 0; n < N; n += LANES) {
            const int64_t states = min64(LANES, N - n);
            vec h = exp2_lanes(rate[i] * load(A + n, states)) * load(state + n, states) + dtu[i] * load(B + n, states);
            sums[i] += h * load(C + n, states);
            store(new_state + n, h, states);
        }
    }
    vec y = sum_rows(sums);
    if (j->D) y += u * load(j->D + channel, count);
    if (j->z.data) {
        vec z = load_as(j->z.type, row_at(j->z, b, 0, 0), channel, count);
        y *= z * logistic(z, exp_minus_abs(z));
    }
    store_as(j->y.type, row_at(j->y, b, 0, 0), channel, y, count);
}

/* Take items until none is left; any number of threads may do so with the same job. */
void mambattn_scan_step(step_job *j, float *scratch) {
    (void)scratch;
    const int64_t in_group = (j->d_group + LANES - 1) / LANES, blocks = j->batch * j->n_groups * in_group;
    const unsigned saved = begin_flushing();
    int64_t item;
    while ((item = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) < j->items)
        for (int64_t i = blocks * item / j->items; i < blocks * (item + 1) / j->items; i++)
            advance(j, i / in_group / j->n_groups, i / in_group % j->n_groups, i % in_group * LANES);
    end_flushing(saved);
}
