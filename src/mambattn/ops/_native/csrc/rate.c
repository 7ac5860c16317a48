/* How many exponentials a second this build reaches: what a benchmark compares a kernel with. */
#include "lanes.h"

typedef struct {
    int64_t items, rounds; /* each item is `rounds` times BLOCK vectors */
    int64_t next;          /* first item that no thread has taken yet */
} rate_job;

enum { BLOCK = 64 };

/* Take items until none is left. The arguments, -20 to 0, stay in the first cache; the sums go into `scratch`. */
void mambattn_exp_rate(rate_job *j, float *scratch) {
    vec x[BLOCK], sums[8] = {0};
    for (int i = 0; i < BLOCK * LANES; i++) x[i / LANES][i % LANES] = -20.0f * i / (BLOCK * LANES);
    while (__atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED) < j->items)
        for (int64_t round = 0; round < j->rounds; round++) {
            for (int i = 0; i < BLOCK; i += 8)
                for (int k = 0; k < 8; k++) sums[k] += exp2_lanes(x[i + k]);
            __asm__ volatile("" ::"r"(x) : "memory"); /* else the rounds are one and the same to the compiler */
        }
    for (int k = 1; k < 8; k++) sums[0] += sums[k];
    store(scratch, sums[0], LANES);
}
