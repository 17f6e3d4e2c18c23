/* Preloaded into a program, it makes the wall clock wrong by TSGW_TEST_CLOCK_SECONDS. Clocks that only tell how long something
   takes are left alone, until there is a file TSGW_TEST_CLOCK_LATER: from then on they tell that a quarter of an hour more has
   passed. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    const char *seconds = getenv("TSGW_TEST_CLOCK_SECONDS");
    const char *later = getenv("TSGW_TEST_CLOCK_LATER");
    if (!failed && seconds && clock == CLOCK_REALTIME)
        now->tv_sec += atol(seconds);
    if (!failed && later && clock == CLOCK_MONOTONIC && !access(later, F_OK))
        now->tv_sec += 15 * 60;
    return failed;
}
