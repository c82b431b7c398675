/* How fast this machine's time-stamp counter runs. An emulated guest reads the same counter, and its kernel cannot
 * find the rate reliably by itself: on a busy host its calibration fails, and then it has no clock and hangs. */
#include <stdint.h>
#include <time.h>
#include <x86intrin.h>

#define ROUNDS 64

struct sample {
    uint64_t ticks, nanoseconds;
};

/* The pair read closest together is the one that nothing interrupted. */
static struct sample take_sample(void) {
    struct sample best = {0};
    uint64_t narrowest = UINT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        struct timespec now;
        uint64_t before = __rdtsc();
        clock_gettime(CLOCK_MONOTONIC_RAW, &now);
        uint64_t after = __rdtsc();
        if (after - before < narrowest) {
            narrowest = after - before;
            best.ticks = before + (after - before) / 2;
            best.nanoseconds = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        }
    }
    return best;
}

/* Takes 200 ms and is right to a few parts in a million. */
uint32_t emberbox_tsc_khz(void) {
    struct timespec wait = {.tv_nsec = 200000000};
    struct sample first = take_sample();
    nanosleep(&wait, NULL);
    struct sample last = take_sample();
    return (uint32_t)((last.ticks - first.ticks) * 1000000u / (last.nanoseconds - first.nanoseconds));
}
