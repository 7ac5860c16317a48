/* The selective scan, forward and backward, in float32; see README.md for the derivation.
 *
 * A vector holds LANES channels and one state, so B_t[n] and C_t[n] are broadcast and y needs no sum over lanes. The
 * innermost code keeps a block of states in registers and walks over the time steps of a chunk. */
#include "scan.h"
#include "lanes.h"

#if LANES == 16
#define FORWARD_BLOCK 8
#define BACKWARD_BLOCK 8
#else
#define FORWARD_BLOCK 4
#define BACKWARD_BLOCK 4
#endif

/* Channel vectors that share one pass over B and C: 128 channels, which bounds the scratch of an item. */
#define GROUP_VECTORS (128 / LANES)

INLINE int64_t vectors_of(const job *j) { return (j->d_group + LANES - 1) / LANES; }

/* ---- forward -------------------------------------------------------------------------------------------------- */

/* Advance `block` states of one channel vector over a chunk, adding their share to y. */
INLINE void forward_block(const int block, int64_t steps, const vec *dt, const vec *dtu, vec *y, const vec *A2, vec *h,
                          const float *B, int64_t B_step, const float *C, int64_t C_step, const uint8_t *reset) {
    vec s[FORWARD_BLOCK], a2[FORWARD_BLOCK];
#pragma GCC unroll 8
    for (int n = 0; n < block; n++) s[n] = h[n], a2[n] = A2[n];
    for (int64_t t = 0; t < steps; t++, B += B_step, C += C_step) {
        if (reset && reset[t]) {
#pragma GCC unroll 8
            for (int n = 0; n < block; n++) s[n] = splat(0.0f);
        }
        vec sum = y[t], d = dt[t], x = dtu[t];
#pragma GCC unroll 8
        for (int n = 0; n < block; n++) {
            s[n] = exp2_lanes(d * a2[n]) * s[n] + x * B[n];
            sum += s[n] * C[n];
        }
        y[t] = sum;
    }
#pragma GCC unroll 8
    for (int n = 0; n < block; n++) h[n] = s[n];
}

static void forward_states(int64_t d_state, int64_t steps, const vec *dt, const vec *dtu, vec *y, const vec *A2, vec *h,
                           const float *B, int64_t B_step, const float *C, int64_t C_step, const uint8_t *reset) {
    int64_t n = 0;
#define BLOCKS(size)                                                                                                 \
    for (; n + size <= d_state; n += size)                                                                           \
        forward_block(size, steps, dt, dtu, y, A2 + n, h + n, B + n, B_step, C + n, C_step, reset);
#if FORWARD_BLOCK == 8
    BLOCKS(8)
#endif
    BLOCKS(4)
    BLOCKS(1)
#undef BLOCKS
}

/* The channel vectors first to last of a group. */
typedef struct {
    int64_t group, first, last;
} range;

/* The place of channel vector v of a range: among all vectors, in a row of channels, and how many channels it holds. */
INLINE int64_t vector_at(const job *j, range r, int64_t v) { return r.group * vectors_of(j) + r.first + v; }
INLINE int64_t channel_at(const job *j, range r, int64_t v) { return r.group * j->d_group + (r.first + v) * LANES; }
INLINE int64_t count_at(const job *j, range r, int64_t v) { return min64(LANES, j->d_group - (r.first + v) * LANES); }

/* Ask for the part of a row that a range covers, AHEAD steps before its turn to be read or written: the rows of a wide
 * sequence are far apart, and what a range covers of each is too short for the processor to see a pattern. */
#define AHEAD 4
INLINE void fetch(const job *j, view v, range r, int64_t b, int64_t t, const int to_write) {
    if (!v.data || t < 0 || t >= j->seq_len) return;
    const int64_t size = v.type == FLOAT32 ? 4 : 2;
    const char *first = row_at(v, b, t, 0) + channel_at(j, r, 0) * size;
    for (int64_t i = 0; i < (r.last - r.first) * LANES * size; i += 64) {
        if (to_write)
            __builtin_prefetch(first + i, 1);
        else
            __builtin_prefetch(first + i, 0);
    }
}

/* Forward of a range for one row of the batch. Time is the outer loop wherever sequences are read or written. */
static void forward_range(const job *j, int64_t b, range r, vec *scratch) {
    const int64_t size = r.last - r.first, N = j->d_state, lanes = j->n_groups * vectors_of(j) * N;
    const int64_t chunks = (j->seq_len - 1) / j->chunk, offset = vector_at(j, r, 0) * N;
    const vec *bias = (const vec *)j->bias + vector_at(j, r, 0), *D = (const vec *)j->D + vector_at(j, r, 0);
    vec *dt = scratch, *dtu = dt + size * j->chunk, *y = dtu + size * j->chunk, *h = y + size * j->chunk;
    if (j->initial_state)
        memcpy(h, (const vec *)j->initial_state + b * lanes + offset, size * N * sizeof(vec));
    else
        memset(h, 0, size * N * sizeof(vec));
    for (int64_t c = 0, t0 = 0; t0 < j->seq_len; c++, t0 += j->chunk) {
        const int64_t steps = min64(j->chunk, j->seq_len - t0);
        if (c && j->checkpoints)
            memcpy((vec *)j->checkpoints + (b * chunks + c - 1) * lanes + offset, h, size * N * sizeof(vec));
        for (int64_t t = 0; t < steps; t++) {
            const char *raw = row_at(j->dt, b, t0 + t, 0), *input = row_at(j->u, b, t0 + t, 0);
            fetch(j, j->dt, r, b, t0 + t + AHEAD, 0);
            fetch(j, j->u, r, b, t0 + t + AHEAD, 0);
            for (int64_t v = 0, i = t; v < size; v++, i += j->chunk) {
                const int64_t channel = channel_at(j, r, v), count = count_at(j, r, v);
                vec x = load_as(j->dt.type, raw, channel, count) + bias[v], u = load_as(j->u.type, input, channel, count);
                if (j->dt_softplus) x = softplus(x, exp_minus_abs(x));
                dt[i] = x, dtu[i] = x * u, y[i] = D[v] * u;
            }
        }
        for (int64_t v = 0; v < size; v++)
            forward_states(N, steps, dt + v * j->chunk, dtu + v * j->chunk, y + v * j->chunk,
                           (const vec *)j->A2 + offset + v * N, h + v * N, floats_at(j->B, b, t0, r.group), j->B.time,
                           floats_at(j->C, b, t0, r.group), j->C.time, j->reset ? j->reset + b * j->seq_len + t0 : NULL);
        for (int64_t t = 0; t < steps; t++) {
            const char *gate = j->z.data ? row_at(j->z, b, t0 + t, 0) : NULL;
            char *output = row_at(j->y, b, t0 + t, 0);
            fetch(j, j->z, r, b, t0 + t + AHEAD, 0);
            fetch(j, j->y, r, b, t0 + t + AHEAD, 1);
            for (int64_t v = 0, i = t; v < size; v++, i += j->chunk) {
                const int64_t channel = channel_at(j, r, v), count = count_at(j, r, v);
                if (gate) {
                    vec z = load_as(j->z.type, gate, channel, count);
                    y[i] *= z * logistic(z, exp_minus_abs(z));
                }
                store_as(j->y.type, output, channel, y[i], count);
            }
        }
    }
    if (j->final_state) memcpy((vec *)j->final_state + b * lanes + offset, h, size * N * sizeof(vec));
}

/* ---- backward ------------------------------------------------------------------------------------------------- */

/* What the backward knows of one channel vector and one step of the chunk. */
typedef struct {
    vec dt, dtu, dy;
    vec y;  /* sum of C h, for the gradient of z */
    vec gB; /* sum of g B */
    vec qA; /* sum of q A2 */
    vec u;
    vec slope; /* derivative of dt by its raw value */
    vec dz;    /* gradient of z, for y = 1 */
} step;

/* Run `block` states of one channel vector over a chunk: forwards from h, then backwards with the gradient `carry` that
 * comes from the later steps. dB and dC gather their rows (step, state) over the channel vectors, lane by lane. */
INLINE void backward_block(const int block, int64_t steps, step *at, const vec *A2, const vec *h, vec *carry, vec *dA,
                           vec *decay, vec *kept, vec *dB, vec *dC, const float *B, int64_t B_step, const float *C,
                           int64_t C_step, const uint8_t *reset) {
    vec s[BACKWARD_BLOCK], a2[BACKWARD_BLOCK];
#pragma GCC unroll 8
    for (int n = 0; n < block; n++) s[n] = h[n], a2[n] = A2[n];
    for (int64_t t = 0; t < steps; t++) {
        const float *Bt = B + t * B_step, *Ct = C + t * C_step;
        vec d = at[t].dt, x = at[t].dtu, dy = at[t].dy, y = at[t].y;
        vec *a = decay + t * block, *p = kept + t * block, *dCt = dC + t * block;
        if (reset && reset[t]) {
#pragma GCC unroll 8
            for (int n = 0; n < block; n++) {
                a[n] = p[n] = splat(0.0f);
                s[n] = x * Bt[n];
                y += s[n] * Ct[n];
                dCt[n] += s[n] * dy;
            }
        } else {
#pragma GCC unroll 8
            for (int n = 0; n < block; n++) {
                a[n] = exp2_lanes(d * a2[n]);
                p[n] = a[n] * s[n];
                s[n] = p[n] + x * Bt[n];
                y += s[n] * Ct[n];
                dCt[n] += s[n] * dy;
            }
        }
        at[t].y = y;
    }
    vec c[BACKWARD_BLOCK], sum[BACKWARD_BLOCK];
#pragma GCC unroll 8
    for (int n = 0; n < block; n++) c[n] = carry[n], sum[n] = splat(0.0f);
    for (int64_t t = steps - 1; t >= 0; t--) {
        const float *Bt = B + t * B_step, *Ct = C + t * C_step;
        vec d = at[t].dt, x = at[t].dtu, dy = at[t].dy, gB = at[t].gB, qA = at[t].qA;
        const vec *a = decay + t * block, *p = kept + t * block;
        vec *dBt = dB + t * block;
#pragma GCC unroll 8
        for (int n = 0; n < block; n++) {
            vec g = c[n] + dy * Ct[n];
            dBt[n] += g * x;
            gB += g * Bt[n];
            c[n] = g * a[n];
            vec q = g * p[n];
            qA += q * a2[n];
            sum[n] += q * d;
        }
        at[t].gB = gB, at[t].qA = qA;
    }
#pragma GCC unroll 8
    for (int n = 0; n < block; n++) carry[n] = c[n], dA[n] += sum[n];
}

/* Scratch of a backward item, in vectors. */
typedef struct {
    step *at;                   /* (GROUP_VECTORS, chunk) */
    vec *carry, *dA;            /* (GROUP_VECTORS, d_state) */
    vec *decay, *kept;          /* (chunk, BACKWARD_BLOCK): exp(dt A), and that times the state before */
    vec *dB, *dC;               /* (chunk, BACKWARD_BLOCK) and room for the last sum_rows */
} workspace;

static int64_t place(workspace *w, const job *j, vec *p) {
    const int64_t rows = j->chunk * BACKWARD_BLOCK + LANES;
    vec *start = p;
    w->at = (step *)p, p += GROUP_VECTORS * j->chunk * (int64_t)(sizeof(step) / sizeof(vec));
    w->carry = p, p += GROUP_VECTORS * j->d_state;
    w->dA = p, p += GROUP_VECTORS * j->d_state;
    w->decay = p, p += j->chunk * BACKWARD_BLOCK;
    w->kept = p, p += j->chunk * BACKWARD_BLOCK;
    w->dB = p, p += rows;
    w->dC = p, p += rows;
    return p - start;
}

/* Add the sums over lanes of the rows (step, state) to a gradient, or write them there. The rows are used up. */
INLINE void put_rows(const int block, vec *rows, int64_t steps, float *out, int64_t out_step, int add) {
    float *sums = (float *)rows; /* behind what is still to be read */
    for (int64_t r = 0; r < steps * block; r += LANES) ((vec *)sums)[r / LANES] = sum_rows(rows + r);
    for (int64_t t = 0; t < steps; t++, sums += block, out += out_step) {
        if (add)
            for (int n = 0; n < block; n++) out[n] += sums[n];
        else
            for (int n = 0; n < block; n++) out[n] = sums[n];
    }
}

static void backward_states(const job *j, const workspace *w, int64_t b, range r, int64_t part, int64_t t0,
                            int64_t steps, const vec *start, int add) {
    const int64_t N = j->d_state, first = vector_at(j, r, 0);
    const uint8_t *reset = j->reset ? j->reset + b * j->seq_len + t0 : NULL;
    const float *B = floats_at(j->B, b, t0, r.group), *C = floats_at(j->C, b, t0, r.group);
    float *dB = floats_at(j->dB, b, t0, r.group) + part * j->dBC_part, *dC = floats_at(j->dC, b, t0, r.group) + part * j->dBC_part;
    int64_t n = 0;
#define BLOCKS(size)                                                                                                 \
    for (; n + size <= N; n += size) {                                                                               \
        memset(w->dB, 0, steps * size * sizeof(vec));                                                                \
        memset(w->dC, 0, steps * size * sizeof(vec));                                                                \
        for (int64_t v = 0; v < r.last - r.first; v++)                                                               \
            backward_block(size, steps, w->at + v * j->chunk, (const vec *)j->A2 + (first + v) * N + n,              \
                           start + v * N + n, w->carry + v * N + n, w->dA + v * N + n, w->decay, w->kept, w->dB,      \
                           w->dC, B + n, j->B.time, C + n, j->C.time, reset);                                        \
        put_rows(size, w->dB, steps, dB + n, j->dB.time, add);                                                       \
        put_rows(size, w->dC, steps, dC + n, j->dC.time, add);                                                       \
    }
#if BACKWARD_BLOCK == 8
    BLOCKS(8)
#endif
    BLOCKS(4)
    BLOCKS(1)
#undef BLOCKS
}

/* Fill the steps of a chunk from the inputs. */
static void open_steps(const job *j, step *first, int64_t b, range r, int64_t t0, int64_t steps) {
    const vec zero = {0}, *bias = (const vec *)j->bias + vector_at(j, r, 0);
    for (int64_t t = steps - 1; t >= 0; t--) {
        fetch(j, j->dt, r, b, t0 + t - AHEAD, 0);
        fetch(j, j->u, r, b, t0 + t - AHEAD, 0);
        fetch(j, j->dout, r, b, t0 + t - AHEAD, 0);
        fetch(j, j->z, r, b, t0 + t - AHEAD, 0);
        const char *raw = row_at(j->dt, b, t0 + t, 0), *input = row_at(j->u, b, t0 + t, 0);
            const char *above = row_at(j->dout, b, t0 + t, 0);
        const char *gate = j->z.data ? row_at(j->z, b, t0 + t, 0) : NULL;
        step *s = first + t;
        for (int64_t v = 0; v < r.last - r.first; v++, s += j->chunk) {
            const int64_t channel = channel_at(j, r, v), count = count_at(j, r, v);
            vec dt = load_as(j->dt.type, raw, channel, count) + bias[v], slope = splat(1.0f);
            vec u = load_as(j->u.type, input, channel, count), dout = load_as(j->dout.type, above, channel, count), dy = dout;
            if (j->dt_softplus) {
                vec e = exp_minus_abs(dt);
                slope = logistic(dt, e);
                dt = softplus(dt, e);
            }
            if (gate) {
                vec z = load_as(j->z.type, gate, channel, count), sigma = logistic(z, exp_minus_abs(z));
                dy *= z * sigma;
                s->dz = dout * sigma * (1.0f + z * (1.0f - sigma));
            }
            s->dt = dt, s->slope = slope, s->u = u, s->dtu = dt * u, s->dy = dy;
            s->y = s->gB = s->qA = zero;
        }
    }
}

/* Write the gradients of u, dt and z, and add to those of D and the bias. */
static void close_steps(const job *j, const step *first, int64_t b, range r, int64_t t0, int64_t steps, vec *dD,
                        vec *dbias) {
    const vec *D = (const vec *)j->D + vector_at(j, r, 0);
    /* The sums of the chunk first: long sums of float32 lose fewer digits so. */
    vec sum_D[GROUP_VECTORS] = {0}, sum_bias[GROUP_VECTORS] = {0};
    for (int64_t t = steps - 1; t >= 0; t--) {
        fetch(j, j->ddt, r, b, t0 + t - AHEAD, 1);
        fetch(j, j->du, r, b, t0 + t - AHEAD, 1);
        fetch(j, j->dz, r, b, t0 + t - AHEAD, 1);
        char *raw = row_at(j->ddt, b, t0 + t, 0), *input = row_at(j->du, b, t0 + t, 0);
        char *gate = j->z.data ? row_at(j->dz, b, t0 + t, 0) : NULL;
        const step *s = first + t;
        for (int64_t v = 0; v < r.last - r.first; v++, s += j->chunk) {
            const int64_t channel = channel_at(j, r, v), count = count_at(j, r, v);
            vec ddt = (s->qA * LN2 + s->u * s->gB) * s->slope;
            sum_bias[v] += ddt;
            sum_D[v] += s->dy * s->u;
            store_as(j->ddt.type, raw, channel, ddt, count);
            store_as(j->du.type, input, channel, s->dt * s->gB + D[v] * s->dy, count);
            if (gate) store_as(j->dz.type, gate, channel, s->dz * (s->y + D[v] * s->u), count);
        }
    }
    for (int64_t v = 0; v < r.last - r.first; v++) dD[v] += sum_D[v], dbias[v] += sum_bias[v];
}

/* One range of channel vectors, for a part of the batch; `add` if an earlier range has written dB and dC. */
static void backward_range(const job *j, int64_t batch_part, range r, int64_t part, int add, vec *scratch) {
    const int64_t N = j->d_state, all = j->n_groups * vectors_of(j), lanes = all * N;
    const int64_t chunks = (j->seq_len - 1) / j->chunk, size = (r.last - r.first) * N, vector = vector_at(j, r, 0);
    const int64_t b_first = j->batch * batch_part / j->batch_parts;
    const int64_t b_last = j->batch * (batch_part + 1) / j->batch_parts;
    vec dD[GROUP_VECTORS] = {0}, dbias[GROUP_VECTORS] = {0};
    workspace w;
    vec *zeros = scratch + place(&w, j, scratch);
    memset(zeros, 0, size * sizeof(vec));
    memset(w.dA, 0, size * sizeof(vec));
    for (int64_t b = b_first; b < b_last; b++) {
        if (j->dfinal)
            memcpy(w.carry, (const vec *)j->dfinal + b * lanes + vector * N, size * sizeof(vec));
        else
            memset(w.carry, 0, size * sizeof(vec));
        for (int64_t c = chunks; c >= 0; c--) {
            const int64_t t0 = c * j->chunk, steps = min64(j->chunk, j->seq_len - t0);
            const vec *start = c ? (const vec *)j->checkpoints + (b * chunks + c - 1) * lanes + vector * N
                               : j->initial_state ? (const vec *)j->initial_state + b * lanes + vector * N
                                                  : zeros;
            for (int64_t i = 0; i < size; i++) __builtin_prefetch(start + i); /* needed after the next line */
            open_steps(j, w.at, b, r, t0, steps);
            backward_states(j, &w, b, r, part, t0, steps, start, add);
            close_steps(j, w.at, b, r, t0, steps, dD, dbias);
        }
        if (j->dinitial) memcpy((vec *)j->dinitial + b * lanes + vector * N, w.carry, size * sizeof(vec));
    }
    memcpy((vec *)j->dA + batch_part * lanes + vector * N, w.dA, size * sizeof(vec));
    memcpy((vec *)j->dD + batch_part * all + vector, dD, (r.last - r.first) * sizeof(vec));
    memcpy((vec *)j->dbias + batch_part * all + vector, dbias, (r.last - r.first) * sizeof(vec));
}

/* ---- entry points --------------------------------------------------------------------------------------------- */

/* Floats of scratch that one thread needs, aligned to 64 bytes. */
int64_t mambattn_scan_scratch(const job *j) {
    workspace w;
    const int64_t backward = place(&w, j, NULL) + GROUP_VECTORS * j->d_state;
    const int64_t forward = GROUP_VECTORS * (3 * j->chunk + j->d_state);
    return (backward > forward ? backward : forward) * LANES;
}

/* Take items until none is left; any number of threads may do so with the same job. */
INLINE void take_items(job *j, float *scratch, const int backward) {
    const int64_t items = j->batch_parts * j->n_groups * j->channel_parts, vectors = vectors_of(j);
    const unsigned state = begin_flushing();
    int64_t item;
    while ((item = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) < items) {
        const int64_t part = item % j->channel_parts, group = item / j->channel_parts % j->n_groups;
        const int64_t batch_part = item / j->channel_parts / j->n_groups;
        const int64_t begin = vectors * part / j->channel_parts, end = vectors * (part + 1) / j->channel_parts;
        for (int64_t v = begin; v < end; v += GROUP_VECTORS) {
            const range r = {group, v, min64(v + GROUP_VECTORS, end)};
            if (backward)
                backward_range(j, batch_part, r, part, v > begin, (vec *)scratch);
            else
                forward_range(j, batch_part, r, (vec *)scratch);
        }
    }
    end_flushing(state);
}

void mambattn_scan_forward(job *j, float *scratch) { take_items(j, scratch, 0); }
void mambattn_scan_backward(job *j, float *scratch) { take_items(j, scratch, 1); }
