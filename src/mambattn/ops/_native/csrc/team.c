/* Lets the threads of a parallel region of OpenMP, each of which calls a function of one argument, share a job. */
#include <stdint.h>

typedef struct {
    void (*kernel)(void *job, float *scratch);
    void *job;
    float *scratch; /* `row` floats for each thread */
    int64_t row;
    int64_t next; /* first row that no thread has taken yet */
} team;

void mambattn_join(void *argument) {
    team *t = argument;
    const int64_t row = __atomic_fetch_add(&t->next, 1, __ATOMIC_RELAXED);
    t->kernel(t->job, t->scratch + row * t->row);
}
