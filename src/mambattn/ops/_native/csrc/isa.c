/* What a build is for, and which one this processor can run. */
#include "lanes.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Conversions of float16, which clang does not know by name in __builtin_cpu_supports. */
static int has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

int mambattn_lanes(void) { return LANES; }

/* The build that suits this processor: 2 is AVX-512, 1 is AVX2 with FMA, 0 is the baseline of the platform. */
int mambattn_best_isa(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) return 1;
#endif
    return 0;
}
