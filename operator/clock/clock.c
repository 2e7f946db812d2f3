/* The wall clock of a container's programs, as a fault wants it: preloaded (LD_PRELOAD) in pods that are armed for it.

   Without a fault everything is passed on. What the clock is comes from a page of shared memory, so that programs that
   run see a change at once, and it is over when the page says so, whoever is left to tell. Each answer that is not true
   is counted there by the number of the process that got it: that is the proof.

   It asks for no library and no version of one: any C library takes it, glibc as musl, however old. It never ends the
   program that it is in: what it lacks it passes on, and what is not there is as if it were not in force.

   Wall clocks alone: CLOCK_MONOTONIC and its like, times of files and processor times are the kernel's. A moment of the
   wall clock that a program waits for is turned into the kernel's, as it were with a clock that is wrong. The layout of
   the page is drivers/clock_page.py's as well. */

typedef long s64;
typedef unsigned long u64;
struct timespec { s64 tv_sec, tv_nsec; };
struct timeval { s64 tv_sec, tv_usec; };
struct itimerspec { struct timespec it_interval, it_value; };

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "numbers of system calls are known for x86-64 and arm64 alone"
#endif
#define PLACE "/bounceback/clock/page"
#define MAGIC 0x314b434f4c434242UL /* "BBCLOCK1" */
#define SIZE 8192
#define SLOTS 512
#define SECOND 1000000000L
/* A moment later than this, in seconds, is one of the wall clock: nothing has been up since before 2001. */
#define OF_THE_WALL 1000000000L
#define TRIES 1000
enum { REALTIME = 0, REALTIME_COARSE = 5, BOOTTIME = 7, TAI = 11 };
enum { ABSTIME = 1, NOT_THERE = 38 };

struct setting {
    s64 offset, drift, since, until; /* ns; parts in a million; ns of CLOCK_BOOTTIME, both */
};
struct page {
    u64 magic, turn;           /* the last bit says which setting holds; the other one is written meanwhile */
    struct setting settings[2];
    u64 unused[502];
    u64 answers[SLOTS];        /* that were not true, by number of process */
};
_Static_assert(sizeof(struct page) == SIZE, "the layout is known elsewhere, too");

#define WEAK __attribute__((weak, visibility("default")))
#define OURS __attribute__((visibility("default")))
extern void *dlsym(void *, const char *) WEAK;
extern void *dlvsym(void *, const char *, const char *) WEAK;
extern int *__errno_location(void) WEAK;

static volatile struct page *page;
static int (*clock_real)(int, struct timespec *);

#ifdef __x86_64__
enum { MMAP = 9, GETPID = 39, CLOSE = 3, LSEEK = 8, OPENAT = 257, CLOCK_GETTIME = 228 };
static s64 call(s64 n, s64 a, s64 b, s64 c, s64 d, s64 e, s64 f)
{
    s64 r;
    register s64 r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return r;
}
#else
enum { MMAP = 222, GETPID = 172, CLOSE = 57, LSEEK = 62, OPENAT = 56, CLOCK_GETTIME = 113 };
static s64 call(s64 n, s64 a, s64 b, s64 c, s64 d, s64 e, s64 f)
{
    register s64 x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register s64 x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#endif

static int failed(int number)
{
    if (__errno_location)
        *__errno_location() = number;
    return -1;
}

/* The C library's own, which is faster: it needs no system call (vdso(7)). */
static int truth(int clock, struct timespec *now)
{
    if (clock_real)
        return clock_real(clock, now);
    s64 r = call(CLOCK_GETTIME, clock, (s64)now, 0, 0, 0, 0);
    return r < 0 ? failed((int)-r) : 0;
}

static void *next(const char *name, const char *version)
{
    void *found = 0;
    if (version && dlvsym) /* where there are two, dlsym may find the older one */
        found = dlvsym((void *)-1L, name, version);
    return found || !dlsym ? found : dlsym((void *)-1L, name);
}

static __attribute__((constructor)) void begin(void)
{
    clock_real = (int (*)(int, struct timespec *))next("clock_gettime", 0);
    s64 file = call(OPENAT, -100, (s64)PLACE, 2 | 02000000, 0, 0, 0); /* O_RDWR | O_CLOEXEC */
    if (file < 0)
        return;
    s64 at = 0;
    if (call(LSEEK, file, 0, 2, 0, 0, 0) == SIZE) /* SEEK_END; what is beyond the end of a file ends who looks at it */
        at = call(MMAP, 0, SIZE, 3, 1, file, 0); /* PROT_READ | PROT_WRITE, MAP_SHARED */
    call(CLOSE, file, 0, 0, 0, 0, 0);
    if (at > 0 && ((volatile struct page *)at)->magic == MAGIC)
        page = (volatile struct page *)at;
}

/* How far the wall clock is off at this moment, in ns. */
static s64 skew(void)
{
    if (!page)
        return 0;
    for (int i = 0; i < TRIES; i++) {
        u64 turn = __atomic_load_n(&page->turn, __ATOMIC_ACQUIRE);
        volatile struct setting *set = &page->settings[turn & 1];
        s64 offset = set->offset, drift = set->drift, since = set->since, until = set->until;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (turn != page->turn) /* by now this setting may be written anew */
            continue;
        struct timespec now;
        if (!(offset | drift) || truth(BOOTTIME, &now))
            return 0;
        s64 at = now.tv_sec * SECOND + now.tv_nsec;
        return at >= until ? 0 : offset + (at - since) / 1000 * drift / 1000;
    }
    return 0;
}

static void moved(struct timespec *moment, s64 by)
{
    s64 nanos = moment->tv_nsec + by % SECOND;
    moment->tv_sec += by / SECOND + (nanos >= SECOND) - (nanos < 0);
    moment->tv_nsec = nanos + (nanos < 0 ? SECOND : nanos >= SECOND ? -SECOND : 0);
}

static int read_clock(int clock, struct timespec *now)
{
    int r = truth(clock, now);
    s64 by;
    if (r || (clock != REALTIME && clock != REALTIME_COARSE && clock != TAI) || !(by = skew()))
        return r;
    moved(now, by);
    u64 self = (u64)call(GETPID, 0, 0, 0, 0, 0, 0);
    __atomic_fetch_add(&page->answers[self % SLOTS], 1, __ATOMIC_RELAXED);
    return 0;
}

OURS int clock_gettime(int clock, struct timespec *now)
{
    return read_clock(clock, now);
}

OURS int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec found;
    if (zone)
        ((int *)zone)[0] = ((int *)zone)[1] = 0;
    if (!now)
        return 0;
    if (read_clock(REALTIME, &found))
        return -1;
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

OURS s64 time(s64 *now)
{
    struct timespec found;
    if (read_clock(REALTIME_COARSE, &found)) /* as time(2) does, which never shows a second too early */
        return -1;
    if (now)
        *now = found.tv_sec;
    return found.tv_sec;
}

OURS int timespec_get(struct timespec *now, int base)
{
    if (base == 1) /* TIME_UTC */
        return read_clock(REALTIME, now) ? 0 : 1;
    int (*real)(struct timespec *, int) = (int (*)(struct timespec *, int))next("timespec_get", 0);
    return real ? real(now, base) : 0;
}

/* Moments that are waited for. Of most it is not said by which clock; a moment tells that itself. */

static const struct timespec *of_kernel(const struct timespec *moment, struct timespec *room)
{
    s64 by;
    if (!moment || moment->tv_sec < OF_THE_WALL || !(by = skew()))
        return moment;
    *room = *moment;
    moved(room, -by);
    return room;
}

/* `absent`: what is answered where the C library has no such function, which nobody can have been linked with. */
#define WAITS(name, version, absent, given, passed)                \
    OURS int name given                                            \
    {                                                              \
        static int(*real) given;                                   \
        struct timespec room;                                      \
        if (!real && !(real = (int(*) given)next(#name, version))) \
            return absent;                                         \
        return real passed;                                        \
    }
#define UNTIL of_kernel(until, &room)
#ifdef __x86_64__
#define SINCE(version) version
#else
#define SINCE(version) 0
#endif

#define MOMENT const struct timespec *until

WAITS(pthread_cond_timedwait, SINCE("GLIBC_2.3.2"), NOT_THERE, (void *a, void *b, MOMENT), (a, b, UNTIL))
WAITS(pthread_cond_clockwait, 0, NOT_THERE, (void *a, void *b, int c, MOMENT), (a, b, c, UNTIL))
WAITS(pthread_mutex_timedlock, 0, NOT_THERE, (void *a, MOMENT), (a, UNTIL))
WAITS(pthread_rwlock_timedrdlock, 0, NOT_THERE, (void *a, MOMENT), (a, UNTIL))
WAITS(pthread_rwlock_timedwrlock, 0, NOT_THERE, (void *a, MOMENT), (a, UNTIL))
WAITS(sem_timedwait, 0, failed(NOT_THERE), (void *a, MOMENT), (a, UNTIL))
WAITS(sem_clockwait, 0, failed(NOT_THERE), (void *a, int c, MOMENT), (a, c, UNTIL))
WAITS(clock_nanosleep, SINCE("GLIBC_2.17"), NOT_THERE, (int c, int flags, MOMENT, struct timespec *left),
      (c, flags, flags & ABSTIME ? UNTIL : until, left))

#define TIMES(name, version, handle)                                                                     \
    OURS int name(handle timer, int flags, const struct itimerspec *set, struct itimerspec *before)      \
    {                                                                                                    \
        static int (*real)(handle, int, const struct itimerspec *, struct itimerspec *);                 \
        struct timespec room;                                                                            \
        struct itimerspec mine;                                                                          \
        if (!real)                                                                                       \
            real = (int (*)(handle, int, const struct itimerspec *, struct itimerspec *))next(#name, version); \
        if (!real)                                                                                       \
            return failed(NOT_THERE);                                                                    \
        if (!set || !(flags & ABSTIME))                                                                  \
            return real(timer, flags, set, before);                                                      \
        mine.it_interval = set->it_interval;                                                             \
        mine.it_value = *of_kernel(&set->it_value, &room);                                               \
        return real(timer, flags, &mine, before);                                                        \
    }
TIMES(timer_settime, SINCE("GLIBC_2.3.3"), void *)
TIMES(timerfd_settime, 0, int)
