/* The recurrence of Mamba-2 in float32; see README.md for the derivation.
 *
 * A vector holds LANES channels and one state, so B_t[n] and C_t[n] are broadcast and y needs no sum over lanes. The
 * innermost code keeps a tile of the state, some states of some channel vectors, in registers over the tokens of a chunk.
 * It keeps it divided by the decay since the tile was last brought up to date, so that a token costs one multiply-add
 * for each element that it writes and one for each that it reads. */
#include "block.h"

/* Take a tile through a chunk, adding its share to y. Rows are `row` vectors apart. */
INLINE void forward_tile(const int states, const int vectors, int64_t steps, int64_t row, const token *at, const vec *keep,
                         const vec *written, vec *y, const vec *decay, vec *h, int64_t d_state, const float *B,
                         int64_t B_step, const float *C, int64_t C_step) {
    vec s[FORWARD_STATES][FORWARD_VECTORS];
    UNROLL for (int n = 0; n < states; n++)
        UNROLL for (int v = 0; v < vectors; v++) s[n][v] = h[v * d_state + n];
    for (int64_t t = 0; t < steps; t++, B += B_step, C += C_step) {
        if (at[t].fresh) {
            UNROLL for (int n = 0; n < states; n++)
                UNROLL for (int v = 0; v < vectors; v++) s[n][v] *= keep[t * row + v];
        }
        vec w[FORWARD_VECTORS], sum[FORWARD_VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) w[v] = written[t * row + v], sum[v] = y[t * row + v];
        UNROLL for (int n = 0; n < states; n++)
            UNROLL for (int v = 0; v < vectors; v++) {
                s[n][v] += w[v] * B[n];
                sum[v] += s[n][v] * C[n];
            }
        UNROLL for (int v = 0; v < vectors; v++) y[t * row + v] = sum[v];
    }
    UNROLL for (int n = 0; n < states; n++)
        UNROLL for (int v = 0; v < vectors; v++) h[v * d_state + n] = s[n][v] * decay[(steps - 1) * row + v];
}

static void forward_states(const job *j, const workspace *w, int64_t b, const block *k, int64_t t0, int64_t steps) {
    const int64_t N = j->d_state, V = k->vectors;
    const float *B = floats_at(j->B, b, t0, k->group), *C = floats_at(j->C, b, t0, k->group);
    int64_t v = 0, n;
#define STATES(states, vectors)                                                                                      \
    for (; n + states <= N; n += states)                                                                             \
        forward_tile(states, vectors, steps, V, w->at, w->keep + v, w->written + v, w->y + v, w->decay + v,          \
                     w->h + v * N + n, N, B + n, j->B.time, C + n, j->C.time);
#define VECTORS(vectors)                                                                                             \
    for (; v + vectors <= V; v += vectors) {                                                                         \
        n = 0;                                                                                                       \
        STATES(FORWARD_STATES, vectors)                                                                              \
        STATES(1, vectors)                                                                                           \
    }
    VECTORS(FORWARD_VECTORS)
    VECTORS(1)
#undef STATES
#undef VECTORS
}

static void forward_block(const job *j, int64_t b, const block *k, int64_t part, int add, vec *scratch) {
    (void)part, (void)add; /* each block writes outputs of its own */
    const int64_t V = k->vectors, N = j->d_state;
    workspace w;
    place(&w, j, scratch, 0);
    clear_padding(&w, k, j->chunk, 0);
    load_states(j, j->initial_state ? j->initial_state + states_at(j, b, k) : NULL, k, w.h);
    for (int64_t c = 0, t0 = 0; t0 < j->seq_len; c++, t0 += j->chunk) {
        const int64_t steps = min64(j->chunk, j->seq_len - t0);
        if (c && j->checkpoints) memcpy(checkpoint(j, b, k, c), w.h, V * N * sizeof(vec));
        open_tokens(j, w.at, b, k, t0, steps);
        open_rows(j, &w, b, k, t0, steps, 0);
        memset(w.y, 0, V * steps * sizeof(vec));
        forward_states(j, &w, b, k, t0, steps);
        for (int64_t t = 0, i = 0; t < steps; t++) {
            const char *input = row_at(j->x, b, t0 + t, 0), *gate = j->z.data ? row_at(j->z, b, t0 + t, 0) : NULL;
            char *output = row_at(j->y, b, t0 + t, 0);
            for (int64_t v = 0; v < V; v++, i++) {
                const int64_t count = lanes_at(k, v), channel = k->channel + v * LANES;
                vec y = w.y[i] * w.decay[i];
                if (j->D) y += load(j->D + channel, count) * load_as(j->x.type, input, channel, count);
                if (gate) {
                    vec z = load_as(j->z.type, gate, channel, count);
                    y *= z * logistic(z, exp_minus_abs(z));
                }
                store_as(j->y.type, output, channel, y, count);
            }
        }
    }
    if (j->final_state) store_states(j, j->final_state + states_at(j, b, k), k, w.h);
}

void mambattn_ssd_forward(job *j, float *scratch) { take_items(j, scratch, forward_block); }
