/* The recurrence of Mamba-2, forward and backward, in float32; see README.md for the derivation.
 *
 * A vector holds LANES channels and one state, so B_t[n] and C_t[n] are broadcast and y needs no sum over lanes. The
 * innermost code keeps a tile of the state, some states of some channel vectors, in registers over the tokens of a chunk.
 * It keeps it divided by the decay since the tile was last brought up to date, so that a token costs one multiply-add
 * for each element that it writes and one for each that it reads. */
#include "ssd.h"

/* States and channel vectors of a tile. */
#if LANES == 16
#define FORWARD_STATES 4
#define FORWARD_VECTORS 4
#define BACKWARD_STATES 8
#define BACKWARD_VECTORS 2
#else
#define FORWARD_STATES 4
#define FORWARD_VECTORS 2
#define BACKWARD_STATES 4
#define BACKWARD_VECTORS 2
#endif
#define UNROLL _Pragma("GCC unroll 8")

/* Some heads of a group: how many, in how many vectors, and where they stand among all heads, channels and blocks. */
typedef struct {
    int64_t group, count, vectors, head, channel, channels, index;
} block;

INLINE int64_t blocks_of(const job *j) { return (j->heads + j->block - 1) / j->block; }
INLINE int64_t vectors_of(const job *j) { return (j->block * j->d_head + LANES - 1) / LANES; }
INLINE int64_t lanes_at(const block *k, int64_t v) { return min64(LANES, k->channels - v * LANES); }

static block block_at(const job *j, int64_t group, int64_t i) {
    const int64_t first = i * j->block, count = min64(j->block, j->heads - first), head = group * j->heads + first;
    const int64_t channels = count * j->d_head, vectors = (channels + LANES - 1) / LANES;
    return (block){group, count, vectors, head, head * j->d_head, channels, group * blocks_of(j) + i};
}

/* ---- the tokens of a chunk --------------------------------------------------------------------------------------- */

/* One token, a lane for each head of the block. The state kept is h / decay; before a `fresh` token it is multiplied by
 * `keep`, which brings it up to date, and decay is 1 again. */
typedef struct {
    vec dt, slope; /* step size, and its derivative by its raw value */
    vec decay, inverse, keep;
    int64_t fresh;
} token;

/* The decay since the last fresh token stays within these bounds, so that nothing kept overflows or loses digits. */
#define SMALLEST 0x1p-32f
#define LARGEST 0x1p32f

static void open_tokens(const job *j, token *at, int64_t b, const block *k, int64_t t0, int64_t steps) {
    const vec rate = load(j->A2 + k->head, k->count), zero = {0};
    const vec bias = j->bias ? load(j->bias + k->head, k->count) : zero;
    vec decay = zero + 1.0f;
    for (int64_t t = 0; t < steps; t++, at++) {
        vec dt = load_as(j->dt.type, row_at(j->dt, b, t0 + t, 0), k->head, k->count) + bias, slope = zero + 1.0f;
        if (j->dt_softplus) {
            vec e = exp_minus_abs(dt);
            slope = logistic(dt, e);
            dt = softplus(dt, e);
        }
        const int reset = j->reset && j->reset[b * j->seq_len + t0 + t];
        vec since = reset ? zero : decay * exp2_lanes(dt * rate);
        int64_t fresh = t == 0 || reset;
        for (int64_t h = 0; h < k->count; h++) fresh |= since[h] < SMALLEST || since[h] > LARGEST;
        decay = fresh ? zero + 1.0f : since;
        *at = (token){dt, slope, decay, reciprocal(decay), since, fresh};
    }
}

/* Give each channel of a row what its head has. */
INLINE void spread(const job *j, const block *k, vec of_heads, vec *row) {
    float *to = (float *)row;
    for (int64_t h = 0; h < k->count; h++, to += j->d_head)
        for (int64_t i = 0; i < j->d_head; i += LANES) store(to + i, splat(of_heads[h]), min64(LANES, j->d_head - i));
}

/* The sums over each head's channels of two rows, a lane for each head. */
INLINE void gather(const job *j, const block *k, const vec *row_a, const vec *row_b, vec *sums_a, vec *sums_b) {
    const float *a = (const float *)row_a, *b = (const float *)row_b;
    *sums_a = *sums_b = splat(0.0f);
    for (int64_t h = 0; h < k->count; h++, a += j->d_head, b += j->d_head) {
        vec sum_a = {0}, sum_b = {0};
        for (int64_t i = 0; i < j->d_head; i += LANES) {
            const int64_t count = min64(LANES, j->d_head - i);
            sum_a += load(a + i, count), sum_b += load(b + i, count);
        }
        vec both = add_pairs(sum_a, sum_b);
        for (int n = LANES; n > 2; n /= 2) both = add_pairs(both, both);
        (*sums_a)[h] = both[0], (*sums_b)[h] = both[1];
    }
}

/* ---- states ------------------------------------------------------------------------------------------------------- */

/* Where the states of a block begin in a tensor (batch, n_heads, d_head, d_state). */
INLINE int64_t states_at(const job *j, int64_t b, const block *k) {
    return (b * j->n_groups * j->heads + k->head) * j->d_head * j->d_state;
}

static void load_states(const job *j, const float *from, const block *k, vec *h) {
    const int64_t N = j->d_state;
    memset(h, 0, k->vectors * N * sizeof(vec));
    if (!from) return;
    for (int64_t c = 0; c < k->channels; c++) {
        float *to = (float *)(h + c / LANES * N) + c % LANES;
        for (int64_t n = 0; n < N; n++) to[n * LANES] = from[c * N + n];
    }
}

static void store_states(const job *j, float *to, const block *k, const vec *h) {
    const int64_t N = j->d_state;
    for (int64_t c = 0; c < k->channels; c++) {
        const float *from = (const float *)(h + c / LANES * N) + c % LANES;
        for (int64_t n = 0; n < N; n++) to[c * N + n] = from[n * LANES];
    }
}

/* The state kept at the start of chunk c > 0. */
static vec *checkpoint(const job *j, int64_t b, const block *k, int64_t c) {
    const int64_t chunks = (j->seq_len - 1) / j->chunk, blocks = j->n_groups * blocks_of(j);
    return (vec *)j->checkpoints + ((b * chunks + c - 1) * blocks + k->index) * vectors_of(j) * j->d_state;
}

/* What a chunk works on. A row is what the vectors of a block have at one token; there are `chunk` of each kind. */
typedef struct {
    token *at;                 /* (chunk) */
    vec *sums;                 /* one row, for sums over the tokens */
    vec *keep, *decay;         /* rows: of the heads' fresh tokens, and of all */
    vec *written, *y;          /* rows: dt x / decay, and C h / decay */
    vec *h;                    /* (vectors, d_state) */
    vec *read;                 /* rows, from here on for the backward: decay dy */
    vec *dy, *dz, *scale;      /* rows: gradient of y before the gate, of the gate for y = 1, and dt / decay */
    vec *dw, *dl;              /* rows: sums of g B and of g h */
    vec *g;                    /* (vectors, d_state) */
    vec *before;               /* (chunk, tile): states before a token is written */
    vec *dB, *dC;              /* (chunk, BACKWARD_STATES) and room for the last sum_rows */
} workspace;

static int64_t place(workspace *w, const job *j, vec *p, const int backward) {
    const int64_t V = vectors_of(j), row = V * j->chunk, tile = BACKWARD_STATES * BACKWARD_VECTORS;
    vec *start = p;
#define PLACE(field, size) w->field = p, p += (size)
    w->at = (token *)p, p += j->chunk * (int64_t)((sizeof(token) + sizeof(vec) - 1) / sizeof(vec));
    PLACE(sums, V), PLACE(keep, row), PLACE(decay, row), PLACE(written, row), PLACE(y, row), PLACE(h, V * j->d_state);
    if (backward) {
        PLACE(read, row), PLACE(dy, row), PLACE(dz, row), PLACE(scale, row), PLACE(dw, row), PLACE(dl, row);
        PLACE(g, V * j->d_state), PLACE(before, j->chunk * tile);
        PLACE(dB, j->chunk * BACKWARD_STATES + LANES), PLACE(dC, j->chunk * BACKWARD_STATES + LANES);
    }
#undef PLACE
    return p - start;
}

/* Ask for a block's channels of a token before they are needed. The rows of a block lie far apart, in pages of their own,
 * where the processor does not guess what comes next. */
INLINE void fetch(const job *j, view v, int64_t b, int64_t t, const block *k) {
    if (!v.data || t < 0 || t >= j->seq_len) return;
    const int64_t size = v.type == FLOAT32 ? 4 : 2;
    const char *row = row_at(v, b, t, 0) + k->channel * size;
    for (int64_t i = 0; i < k->channels * size; i += 64) __builtin_prefetch(row + i);
}

/* Fill the rows `decay`, `keep`, `written` and, for the backward, `scale` of a chunk. */
INLINE void open_rows(const job *j, const workspace *w, int64_t b, const block *k, int64_t t0, int64_t steps,
                      const int backward) {
    for (int64_t t = 0, i = 0; t < steps; t++, i += k->vectors) {
        const token *s = w->at + t;
        const char *input = row_at(j->x, b, t0 + t, 0);
        const int64_t later = t0 + t + (backward ? -j->chunk : j->chunk);
        fetch(j, j->x, b, later, k), fetch(j, j->z, b, later, k);
        fetch(j, backward ? j->dx : j->y, b, t0 + t, k);
        if (backward) fetch(j, j->dout, b, later, k);
        vec *scale = (backward ? w->scale : w->written) + i;
        spread(j, k, s->dt * s->inverse, scale);
        for (int64_t v = 0; v < k->vectors; v++)
            w->written[i + v] = scale[v] * load_as(j->x.type, input, k->channel + v * LANES, lanes_at(k, v));
        spread(j, k, s->decay, w->decay + i);
        if (s->fresh) spread(j, k, s->keep, w->keep + i);
    }
}

/* Let the lanes that pad the rows to come be zero. */
INLINE void clear_padding(const workspace *w, const block *k, int64_t chunk, const int backward) {
    if (k->channels % LANES == 0) return;
    vec *rows[] = {w->keep, w->decay, w->written, backward ? w->scale : w->keep};
    for (int i = 0; i < 4; i++) memset(rows[i], 0, chunk * k->vectors * sizeof(vec));
}

/* ---- forward ------------------------------------------------------------------------------------------------------ */

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

static void forward_block(const job *j, int64_t b, const block *k, vec *scratch) {
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

/* ---- backward ----------------------------------------------------------------------------------------------------- */

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

/* ---- entry points ------------------------------------------------------------------------------------------------- */

/* Floats of scratch that one thread needs, aligned to 64 bytes. */
int64_t mambattn_ssd_scratch(const job *j) {
    workspace w;
    return (place(&w, j, NULL, 1) + vectors_of(j)) * LANES;
}

/* Take items until none is left; any number of threads may do so with the same job. */
INLINE void take_items(job *j, float *scratch, const int backward) {
    const int64_t items = j->batch_parts * j->n_groups * j->head_parts, blocks = blocks_of(j);
    const unsigned state = begin_flushing();
    int64_t item;
    while ((item = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) < items) {
        const int64_t part = item % j->head_parts, group = item / j->head_parts % j->n_groups;
        const int64_t batch_part = item / j->head_parts / j->n_groups;
        const int64_t begin = blocks * part / j->head_parts, end = blocks * (part + 1) / j->head_parts;
        for (int64_t i = begin; i < end; i++) {
            const block k = block_at(j, group, i);
            if (backward)
                backward_block(j, batch_part, &k, part, i > begin, (vec *)scratch);
            else
                forward_block(j, batch_part, &k, (vec *)scratch);
        }
    }
    end_flushing(state);
}

void mambattn_ssd_forward(job *j, float *scratch) { take_items(j, scratch, 0); }
void mambattn_ssd_backward(job *j, float *scratch) { take_items(j, scratch, 1); }
