/* Softmax attention over short sequences, one head at a time, its matrices in cache.
 *
 * Weights are stored as (key, query), queries side by side in vectors: the softmax then runs over vectors, and no sum
 * goes across lanes. The backward forms the weights again and keeps nothing of the forward. */
#include <math.h>

#include "attend.h"

#define ROWS 8 /* of a product at a time, their sums in registers */

enum { SET, ADD };

INLINE int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* out[r, :] = Σ_i a[r, i] b[i, :], or that added to it, with a[r, i] at a[r * row + i * step] and rows of `width` in b
 * and out. */
INLINE void multiply(int add, float *out, const float *a, int64_t row, int64_t step, const float *b, int64_t rows,
                     int64_t inner, int64_t width) {
    for (int64_t r = 0; r < rows; r += ROWS) {
        const int64_t count = min64(ROWS, rows - r);
        const float *start[ROWS]; /* beyond the last row, that row once more */
        for (int k = 0; k < ROWS; k++) start[k] = a + (r + min64(k, count - 1)) * row;
        for (int64_t c = 0; c < width; c += LANES) {
            vec sums[ROWS] = {0};
            for (int64_t i = 0; i < inner; i++) {
                const vec x = load(b + i * width + c, LANES);
                for (int k = 0; k < ROWS; k++) sums[k] += start[k][i * step] * x;
            }
            for (int k = 0; k < count; k++) {
                float *p = out + (r + k) * width + c;
                store(p, add ? load(p, LANES) + sums[k] : sums[k], LANES);
            }
        }
    }
}

INLINE void clear(float *p, int64_t count) { memset(p, 0, (size_t)count * sizeof *p); }

/* The tokens of a head as rows of `width` floats, padded with zeros. */
INLINE void read_rows(float *rows, view v, int64_t b, int64_t head, int64_t seq_len, int64_t d, int64_t width) {
    for (int64_t t = 0; t < seq_len; t++)
        for (int64_t c = 0; c < width; c += LANES)
            store(rows + t * width + c, load_as(v.type, row_at(v, b, t, head), c, min64(LANES, d - c)), LANES);
}

INLINE void write_rows(view v, const float *rows, int64_t b, int64_t head, int64_t seq_len, int64_t d, int64_t width) {
    for (int64_t t = 0; t < seq_len; t++)
        for (int64_t c = 0; c < d; c += LANES)
            store_as(v.type, row_at(v, b, t, head), c, load(rows + t * width + c, LANES), min64(LANES, d - c));
}

/* columns[c, t] = factor * rows[t, c], rows of `length` there, padded with zeros. */
INLINE void transpose(float *columns, const float *rows, float factor, int64_t seq_len, int64_t d, int64_t width,
                      int64_t length) {
    clear(columns, d * length);
    for (int64_t t = 0; t < seq_len; t++)
        for (int64_t c = 0; c < d; c++) columns[c * length + t] = factor * rows[t * width + c];
}

typedef struct {
    uint32_t first, second;
} keys;

/* The keys of a head: the seed and the head's number, through the finaliser of splitmix64. */
static keys keys_of(const attend_job *job, int64_t b, int64_t number) {
    uint64_t x = (uint64_t)job->seed + 0x9e3779b97f4a7c15u * (uint64_t)(b * job->n_heads + number + 1);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (keys){(uint32_t)x, (uint32_t)(x >> 32)};
}

INLINE ivec lane_numbers(void) {
    ivec n = {0};
    for (int i = 0; i < LANES; i++) n[i] = i;
    return n;
}

/* Whether the weights of key j for LANES queries from i on are kept: a mixing function of their number and the keys. */
INLINE ivec is_kept(const attend_job *job, keys key, int64_t j, int64_t i) {
    uvec x = (uvec)(lane_numbers() + (int32_t)(j * job->seq_len + i)) ^ key.first;
    x = (x ^ (x >> 16)) * 0x7feb352du ^ key.second;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return (ivec)((x ^ (x >> 16)) >= (uint32_t)job->drop);
}

/* Logits in units of log 2, (key, query), to weights; those to be dropped are negative then. */
INLINE void softmax(const attend_job *job, float *weights, keys key, int64_t length) {
    const int64_t n = job->seq_len;
    const int sees_all = job->left >= n - 1 && job->right >= n - 1;
    for (int64_t i = 0; i < length; i += LANES) {
        const ivec query = lane_numbers() + (int32_t)i;
        vec most = splat(-INFINITY), sum = {0};
        for (int64_t j = 0; j < n; j++) {
            vec x = load(weights + j * length + i, LANES);
            if (!sees_all) {
                const ivec offset = (int32_t)j - query;
                const ivec seen = (offset >= (int32_t)-job->left) & (offset <= (int32_t)job->right);
                x = choose(seen, x, splat(-INFINITY));
                store(weights + j * length + i, x, LANES);
            }
            most = choose(x <= most, most, x);
        }
        for (int64_t j = 0; j < n; j++) {
            vec x = load(weights + j * length + i, LANES);
            x = choose(x == -INFINITY, splat(0.0f), exp2_lanes(x - most));
            store(weights + j * length + i, x, LANES);
            sum += x;
        }
        const vec share = 1.0f / sum;
        for (int64_t j = 0; j < n; j++) {
            float *p = weights + j * length + i;
            const vec x = load(p, LANES) * share;
            store(p, job->drop ? choose(is_kept(job, key, j, i), x, -x) : x, LANES);
        }
    }
}

/* One head in float32, cut from a thread's scratch. */
typedef struct {
    float *q, *k, *v, *dy, *y, *dq, *dk, *dv; /* (token, channel) */
    float *columns;                           /* (channel, token) */
    float *weights, *slopes;                  /* (key, query) */
} head;

static head cut(const attend_job *job, float *scratch) {
    const int64_t rows = job->seq_len * padded(job->d_head), columns = job->d_head * padded(job->seq_len);
    head h;
    float **const parts[] = {&h.q, &h.k, &h.v, &h.dy, &h.y, &h.dq, &h.dk, &h.dv};
    for (int i = 0; i < 8; i++) *parts[i] = scratch + i * rows;
    h.columns = scratch + 8 * rows;
    h.weights = h.columns + columns;
    h.slopes = h.weights + job->seq_len * padded(job->seq_len);
    return h;
}

int64_t mambattn_attend_scratch(const attend_job *job) {
    return 8 * job->seq_len * padded(job->d_head) + (job->d_head + 2 * job->seq_len) * padded(job->seq_len);
}

/* Read the queries of a head and form its weights; the keys have been read. */
static void weigh(const attend_job *job, head h, int64_t b, int64_t number) {
    const int64_t n = job->seq_len, d = job->d_head, width = padded(d), length = padded(n);
    read_rows(h.q, job->q, b, number, n, d, width);
    transpose(h.columns, h.q, (float)(job->scale * 1.4426950408889634), n, d, width, length);
    multiply(SET, h.weights, h.k, width, 1, h.columns, n, d, length);
    softmax(job, h.weights, keys_of(job, b, number), length);
}

/* What dropout leaves of weights whose sign says which are dropped. */
INLINE vec kept(const attend_job *job, vec weight) { return at_least(weight, 0.0f) * (float)job->keep; }

static void read_out(const attend_job *job, head h, int64_t b, int64_t number) {
    const int64_t n = job->seq_len, d = job->d_head, width = padded(d), length = padded(n);
    weigh(job, h, b, number);
    if (job->drop)
        for (int64_t i = 0; i < n * length; i += LANES)
            store(h.weights + i, kept(job, load(h.weights + i, LANES)), LANES);
    multiply(SET, h.y, h.weights, 1, length, h.v, n, n, width);
    write_rows(job->y, h.y, b, number, n, d, width);
}

/* From dP, the slopes of the dropped weights, to dS = P ⊙ (dP − Σ_j P ⊙ dP) in place; the weights are dropped too. */
static void slope(const attend_job *job, head h, int64_t length) {
    const int64_t n = job->seq_len;
    for (int64_t i = 0; i < length; i += LANES) {
        vec sum = {0};
        for (int64_t j = 0; j < n; j++)
            sum += load(h.slopes + j * length + i, LANES) * kept(job, load(h.weights + j * length + i, LANES));
        for (int64_t j = 0; j < n; j++) {
            float *slope = h.slopes + j * length + i, *weight = h.weights + j * length + i;
            const vec p = load(weight, LANES), left = kept(job, p), size = choose(p < 0.0f, -p, p);
            store(slope, (left * load(slope, LANES) - size * sum) * (float)job->scale, LANES);
            store(weight, left, LANES);
        }
    }
}

static void differentiate(const attend_job *job, head h, int64_t b, int64_t number) {
    const int64_t n = job->seq_len, d = job->d_head, width = padded(d), length = padded(n);
    weigh(job, h, b, number);
    read_rows(h.dy, job->dy, b, number, n, d, width);
    transpose(h.columns, h.dy, 1.0f, n, d, width, length);
    multiply(SET, h.slopes, h.v, width, 1, h.columns, n, d, length);
    slope(job, h, length);
    multiply(SET, h.dq, h.slopes, 1, length, h.k, n, n, width);
    multiply(ADD, h.dk, h.slopes, length, 1, h.q, n, n, width);
    multiply(ADD, h.dv, h.weights, length, 1, h.dy, n, n, width);
    write_rows(job->dq, h.dq, b, number, n, d, width);
}

INLINE void run(attend_job *job, float *scratch, int backward) {
    const head h = cut(job, scratch);
    const int64_t n = job->seq_len, d = job->d_head, width = padded(d), sharing = job->n_heads / job->n_kv_heads;
    const unsigned saved = begin_flushing();
    int64_t item;
    while ((item = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->batch * job->n_kv_heads) {
        const int64_t b = item / job->n_kv_heads, group = item % job->n_kv_heads;
        read_rows(h.k, job->k, b, group, n, d, width);
        read_rows(h.v, job->v, b, group, n, d, width);
        clear(h.dk, backward ? n * width : 0);
        clear(h.dv, backward ? n * width : 0);
        for (int64_t number = group * sharing; number < (group + 1) * sharing; number++)
            (backward ? differentiate : read_out)(job, h, b, number);
        if (backward) {
            write_rows(job->dk, h.dk, b, group, n, d, width);
            write_rows(job->dv, h.dv, b, group, n, d, width);
        }
    }
    end_flushing(saved);
}

/* Take items, a batch row and a head of keys each, until none is left; any number of threads may do so with one job. */
void mambattn_attend_forward(attend_job *job, float *scratch) { run(job, scratch, 0); }
void mambattn_attend_backward(attend_job *job, float *scratch) { run(job, scratch, 1); }
