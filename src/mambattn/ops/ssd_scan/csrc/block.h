/* What the forward and the backward share: blocks of heads, the tokens of a chunk, states and scratch. */
#ifndef MAMBATTN_SSD_BLOCK_H
#define MAMBATTN_SSD_BLOCK_H

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

INLINE block block_at(const job *j, int64_t group, int64_t i) {
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

INLINE void open_tokens(const job *j, token *at, int64_t b, const block *k, int64_t t0, int64_t steps) {
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

INLINE void load_states(const job *j, const float *from, const block *k, vec *h) {
    const int64_t N = j->d_state;
    memset(h, 0, k->vectors * N * sizeof(vec));
    if (!from) return;
    for (int64_t c = 0; c < k->channels; c++) {
        float *to = (float *)(h + c / LANES * N) + c % LANES;
        for (int64_t n = 0; n < N; n++) to[n * LANES] = from[c * N + n];
    }
}

INLINE void store_states(const job *j, float *to, const block *k, const vec *h) {
    const int64_t N = j->d_state;
    for (int64_t c = 0; c < k->channels; c++) {
        const float *from = (const float *)(h + c / LANES * N) + c % LANES;
        for (int64_t n = 0; n < N; n++) to[c * N + n] = from[n * LANES];
    }
}

/* The state kept at the start of chunk c > 0. */
INLINE vec *checkpoint(const job *j, int64_t b, const block *k, int64_t c) {
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

INLINE int64_t place(workspace *w, const job *j, vec *p, const int backward) {
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

/* What an item does with one block; `add` if an earlier block of the item has written the sums over heads. */
typedef void work(const job *j, int64_t batch_part, const block *k, int64_t part, int add, vec *scratch);

/* Take items until none is left; any number of threads may do so with the same job. */
INLINE void take_items(job *j, float *scratch, work *run) {
    const int64_t items = j->batch_parts * j->n_groups * j->head_parts, blocks = blocks_of(j);
    const unsigned state = begin_flushing();
    int64_t item;
    while ((item = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) < items) {
        const int64_t part = item % j->head_parts, group = item / j->head_parts % j->n_groups;
        const int64_t batch_part = item / j->head_parts / j->n_groups;
        const int64_t begin = blocks * part / j->head_parts, end = blocks * (part + 1) / j->head_parts;
        for (int64_t i = begin; i < end; i++) {
            const block k = block_at(j, group, i);
            run(j, batch_part, &k, part, i > begin, (vec *)scratch);
        }
    }
    end_flushing(state);
}

#endif
