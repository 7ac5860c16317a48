/* The gradients of the recurrence of Mamba-2, in float32; see README.md for the derivation. */
#include "block.h"

/* Take a tile forwards through a chunk, for y (if wanted) and dC, then its gradient backwards, for dw, dl and dB. The
 * gradient kept is g * decay. dB and dC gather their rows (token, state) over the channel vectors, lane by lane. */
INLINE void backward_tile(const int states, const int vectors, const int want_y, int64_t steps, int64_t row,
                          const workspace *w, int64_t first, int64_t d_state, int64_t at_state, const float *B,
                          int64_t B_step, const float *C, int64_t C_step) {
    const token *at = w->at;
    const vec *keep = w->keep + first, *written = w->written + first, *read = w->read + first;
    vec *y = w->y + first, *dw = w->dw + first, *dl = w->dl + first;
    vec *g = w->g + first * d_state + at_state;
    const vec *h = w->h + first * d_state + at_state, *last = w->decay + (steps - 1) * row + first;
    vec s[BACKWARD_STATES][BACKWARD_VECTORS];
    UNROLL for (int n = 0; n < states; n++)
        UNROLL for (int v = 0; v < vectors; v++) s[n][v] = h[v * d_state + n];
    vec *before = w->before;
    for (int64_t t = 0; t < steps; t++, before += states * vectors) {
        const float *Bt = B + t * B_step, *Ct = C + t * C_step;
        vec *dC = w->dC + t * states;
        if (at[t].fresh) {
            UNROLL for (int n = 0; n < states; n++)
                UNROLL for (int v = 0; v < vectors; v++) s[n][v] *= keep[t * row + v];
        }
        UNROLL for (int n = 0; n < states; n++) {
            vec sum = dC[n];
            UNROLL for (int v = 0; v < vectors; v++) {
                before[n * vectors + v] = s[n][v];
                s[n][v] += written[t * row + v] * Bt[n];
                sum += s[n][v] * read[t * row + v];
                if (want_y) y[t * row + v] += s[n][v] * Ct[n];
            }
            dC[n] = sum;
        }
    }
    UNROLL for (int n = 0; n < states; n++)
        UNROLL for (int v = 0; v < vectors; v++) s[n][v] = g[v * d_state + n] * last[v];
    for (int64_t t = steps - 1; t >= 0; t--) {
        const float *Bt = B + t * B_step, *Ct = C + t * C_step;
        vec *dB = w->dB + t * states;
        vec sum_w[BACKWARD_VECTORS], sum_l[BACKWARD_VECTORS];
        before -= states * vectors;
        UNROLL for (int v = 0; v < vectors; v++) sum_w[v] = dw[t * row + v], sum_l[v] = dl[t * row + v];
        UNROLL for (int n = 0; n < states; n++) {
            vec sum = dB[n];
            UNROLL for (int v = 0; v < vectors; v++) {
                s[n][v] += read[t * row + v] * Ct[n];
                sum += s[n][v] * written[t * row + v];
                sum_w[v] += s[n][v] * Bt[n];
                sum_l[v] += s[n][v] * before[n * vectors + v];
            }
            dB[n] = sum;
        }
        UNROLL for (int v = 0; v < vectors; v++) dw[t * row + v] = sum_w[v], dl[t * row + v] = sum_l[v];
        if (at[t].fresh) {
            UNROLL for (int n = 0; n < states; n++)
                UNROLL for (int v = 0; v < vectors; v++) s[n][v] *= keep[t * row + v];
        }
    }
    UNROLL for (int n = 0; n < states; n++)
        UNROLL for (int v = 0; v < vectors; v++) g[v * d_state + n] = s[n][v];
}

/* Add the sums over lanes of the rows (token, state) to a gradient, or write them there. The rows are used up. */
INLINE void put_rows(const int states, vec *rows, int64_t steps, float *out, int64_t out_step, int add) {
    float *sums = (float *)rows; /* behind what is still to be read */
    for (int64_t r = 0; r < steps * states; r += LANES) ((vec *)sums)[r / LANES] = sum_rows(rows + r);
    for (int64_t t = 0; t < steps; t++, sums += states, out += out_step)
        for (int n = 0; n < states; n++) out[n] = (add ? out[n] : 0.0f) + sums[n];
}

static void backward_states(const job *j, const workspace *w, int64_t b, const block *k, int64_t part, int64_t t0,
                            int64_t steps, int add) {
    const int64_t N = j->d_state, V = k->vectors;
    const float *B = floats_at(j->B, b, t0, k->group), *C = floats_at(j->C, b, t0, k->group);
    float *dB = floats_at(j->dB, b, t0, k->group) + part * j->dBC_part;
    float *dC = floats_at(j->dC, b, t0, k->group) + part * j->dBC_part;
    const int want_y = j->z.data != NULL;
    int64_t n = 0;
#define TILE(states, vectors, y)                                                                                     \
    backward_tile(states, vectors, y, steps, V, w, v, N, n, B + n, j->B.time, C + n, j->C.time)
#define VECTORS(states, vectors)                                                                                     \
    for (; v + vectors <= V; v += vectors) {                                                                         \
        if (want_y)                                                                                                  \
            TILE(states, vectors, 1);                                                                                \
        else                                                                                                         \
            TILE(states, vectors, 0);                                                                                \
    }
#define STATES(states)                                                                                               \
    for (; n + states <= N; n += states) {                                                                           \
        memset(w->dB, 0, steps * states * sizeof(vec));                                                              \
        memset(w->dC, 0, steps * states * sizeof(vec));                                                              \
        int64_t v = 0;                                                                                               \
        VECTORS(states, BACKWARD_VECTORS)                                                                            \
        VECTORS(states, 1)                                                                                           \
        put_rows(states, w->dB, steps, dB + n, j->dB.time, add);                                                     \
        put_rows(states, w->dC, steps, dC + n, j->dC.time, add);                                                     \
    }
    STATES(BACKWARD_STATES)
    STATES(1)
#undef STATES
#undef VECTORS
#undef TILE
}

/* Fill the rows that the backward adds to those of the forward: what comes from above, and the empty sums. */
static void open_gradients(const job *j, const workspace *w, int64_t b, const block *k, int64_t t0, int64_t steps) {
    const vec zero = {0};
    for (int64_t t = 0, i = 0; t < steps; t++) {
        const char *above = row_at(j->dout, b, t0 + t, 0), *gate = j->z.data ? row_at(j->z, b, t0 + t, 0) : NULL;
        for (int64_t v = 0; v < k->vectors; v++, i++) {
            const int64_t count = lanes_at(k, v), channel = k->channel + v * LANES;
            vec dout = load_as(j->dout.type, above, channel, count), dy = dout;
            if (gate) {
                vec z = load_as(j->z.type, gate, channel, count), sigma = logistic(z, exp_minus_abs(z));
                dy *= z * sigma;
                w->dz[i] = dout * sigma * (1.0f + z * (1.0f - sigma));
            }
            w->dy[i] = dy, w->read[i] = dy * w->decay[i];
            w->y[i] = w->dw[i] = w->dl[i] = zero;
        }
    }
}

/* Write the gradients of x, dt and z, and add to those of A and the bias (lanes: heads) and D (lanes: channels). */
static void close_gradients(const job *j, const workspace *w, int64_t b, const block *k, int64_t t0, int64_t steps,
                            vec *dA, vec *dbias, vec *dD) {
    const vec rate = load(j->A2 + k->head, k->count) * LN2, zero = {0};
    /* The sums of the chunk first: long sums of float32 lose fewer digits so. */
    vec sum_A = zero, sum_bias = zero, *sum_D = w->sums;
    memset(sum_D, 0, k->vectors * sizeof(vec));
    for (int64_t t = 0, i = 0; t < steps; t++) {
        const token *s = w->at + t;
        const char *input = row_at(j->x, b, t0 + t, 0);
        char *dx = row_at(j->dx, b, t0 + t, 0), *dz = j->z.data ? row_at(j->dz, b, t0 + t, 0) : NULL;
        for (int64_t v = 0; v < k->vectors; v++, i++) {
            const int64_t count = lanes_at(k, v), channel = k->channel + v * LANES;
            vec x = load_as(j->x.type, input, channel, count), D = j->D ? load(j->D + channel, count) : zero;
            store_as(j->dx.type, dx, channel, w->scale[i] * w->dw[i] + D * w->dy[i], count);
            if (dz) store_as(j->dz.type, dz, channel, w->dz[i] * (w->y[i] * w->decay[i] + D * x), count);
            sum_D[v] += x * w->dy[i];
            w->dw[i] *= x;
        }
        vec dl, xdw;
        gather(j, k, w->dl + i - k->vectors, w->dw + i - k->vectors, &dl, &xdw);
        vec ddt = (dl * rate + xdw * s->inverse) * s->slope;
        sum_A += dl * s->dt, sum_bias += ddt;
        store_as(j->ddt.type, row_at(j->ddt, b, t0 + t, 0), k->head, ddt, k->count);
    }
    *dA += sum_A, *dbias += sum_bias;
    for (int64_t v = 0; v < k->vectors; v++) dD[v] += sum_D[v];
}

/* One block, for a part of the batch; `add` if an earlier block has written dB and dC. */
static void backward_block(const job *j, int64_t batch_part, const block *k, int64_t part, int add, vec *scratch) {
    const int64_t V = k->vectors, N = j->d_state, chunks = (j->seq_len - 1) / j->chunk;
    const int64_t b_first = j->batch * batch_part / j->batch_parts;
    const int64_t b_last = j->batch * (batch_part + 1) / j->batch_parts;
    const int64_t head = batch_part * j->n_groups * j->heads + k->head;
    workspace w;
    vec dA = {0}, dbias = {0}, *dD = scratch + place(&w, j, scratch, 1);
    memset(dD, 0, V * sizeof(vec));
    clear_padding(&w, k, j->chunk, 1);
    for (int64_t b = b_first; b < b_last; b++) {
        load_states(j, j->dfinal ? j->dfinal + states_at(j, b, k) : NULL, k, w.g);
        for (int64_t c = chunks; c >= 0; c--) {
            const int64_t t0 = c * j->chunk, steps = min64(j->chunk, j->seq_len - t0);
            if (c)
                memcpy(w.h, checkpoint(j, b, k, c), V * N * sizeof(vec));
            else
                load_states(j, j->initial_state ? j->initial_state + states_at(j, b, k) : NULL, k, w.h);
            open_tokens(j, w.at, b, k, t0, steps);
            open_rows(j, &w, b, k, t0, steps, 1);
            open_gradients(j, &w, b, k, t0, steps);
            backward_states(j, &w, b, k, part, t0, steps, add);
            close_gradients(j, &w, b, k, t0, steps, &dA, &dbias, dD);
        }
        if (j->dinitial) store_states(j, j->dinitial + states_at(j, b, k), k, w.g);
    }
    store(j->dA + head, dA, k->count);
    store(j->dbias + head, dbias, k->count);
    memcpy(j->dD + head * j->d_head, dD, k->channels * sizeof(float));
}

/* Floats of scratch that one thread needs, forward or backward, aligned to 64 bytes. */
int64_t mambattn_ssd_scratch(const job *j) {
    workspace w;
    return (place(&w, j, NULL, 1) + vectors_of(j)) * LANES;
}

void mambattn_ssd_backward(job *j, float *scratch) { take_items(j, scratch, backward_block); }
