/* Clocks, sleeping, interval timers, POSIX timers. */
#include "case.h"
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/timex.h>

static volatile sig_atomic_t count;
static volatile int last, code;
static void on_signal(int signal, siginfo_t *info, void *context UNUSED)
{
	last = signal;
	code = info->si_code;
	count++;
}

CASE(every_clock_can_be_read_and_has_a_resolution)
{
	clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID,
			      CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
			      CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};
	for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
		struct timespec now = {-1, -1}, step = {-1, -1};
		expect_ok(clock_gettime(clocks[i], &now));
		expect_between(now.tv_nsec, 0, 999999999);
		expect_ok(syscall(SYS_clock_gettime, clocks[i], &now));
		expect_ok(clock_getres(clocks[i], &step));
		expect_eq(step.tv_sec, 0);
		expect_between(step.tv_nsec, 1, 10 * MS);
	}
}

CASE(clock_errors)
{
	struct timespec now;
	expect_errno(clock_gettime(77, &now), EINVAL);
	expect_errno(clock_getres(77, &now), EINVAL);
	expect_errno(syscall(SYS_clock_gettime, CLOCK_REALTIME, 8), EFAULT);
	expect_errno(syscall(SYS_clock_settime, CLOCK_MONOTONIC, &now), EINVAL);
}

CASE(monotonic_never_goes_back)
{
	long long last = 0;
	for (int i = 0; i < 20000; i++) {
		long long now = now_ns(CLOCK_MONOTONIC);
		if (now < last)
			fail("%lld after %lld", now, last);
		last = now;
	}
}

CASE(library_and_system_call_clocks_agree)
{
	clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
	for (int i = 0; i < 3; i++) {
		struct timespec raw;
		long long before = now_ns(clocks[i]);
		expect_ok(syscall(SYS_clock_gettime, clocks[i], &raw));
		long long middle = raw.tv_sec * 1000000000LL + raw.tv_nsec;
		expect_between(middle, before, now_ns(clocks[i]));
	}
}

CASE(coarse_clocks_follow_within_a_tick)
{
	long long coarse = now_ns(CLOCK_MONOTONIC_COARSE), fine = now_ns(CLOCK_MONOTONIC);
	expect_between(fine - coarse, -1 * MS, 30 * MS);
}

CASE(gettimeofday_and_time_agree_with_realtime)
{
	struct timeval day;
	long long before = now_ns(CLOCK_REALTIME) / 1000;
	expect_ok(gettimeofday(&day, NULL));
	expect_between(day.tv_sec * 1000000LL + day.tv_usec, before, now_ns(CLOCK_REALTIME) / 1000);
	expect_between(time(NULL), day.tv_sec - 1, day.tv_sec + 1);
	expect_eq(syscall(SYS_time, NULL) - time(NULL) <= 0, 1);
}

CASE(vdso_is_present_and_is_an_elf_image)
{
	const char *image = (void *)getauxval(AT_SYSINFO_EHDR);
	expect(image != NULL);
	expect_mem(image, "\177ELF", 4);
}

CASE(processor_clocks_advance_with_work_and_not_with_sleep)
{
	long long process = now_ns(CLOCK_PROCESS_CPUTIME_ID), thread = now_ns(CLOCK_THREAD_CPUTIME_ID);
	sleep_ms(50);
	expect(now_ns(CLOCK_PROCESS_CPUTIME_ID) - process < 40 * MS);
	while (now_ns(CLOCK_THREAD_CPUTIME_ID) - thread < 10 * MS)
		;
	expect(now_ns(CLOCK_PROCESS_CPUTIME_ID) - process >= 9 * MS);
}

CASE(clock_of_another_process)
{
	pid_t pid;
	clockid_t clock;
	SPAWN(pid)
		pause();
	expect_zero(clock_getcpuclockid(pid, &clock));
	expect(now_ns(clock) >= 0);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
	expect_eq(clock_getcpuclockid(1 << 22, &clock), ESRCH);
}

CASE(nanosleep_sleeps_at_least_as_long)
{
	struct timespec wait = {0, 15 * MS};
	long long start = now_ns(CLOCK_MONOTONIC);
	expect_ok(nanosleep(&wait, NULL));
	expect(now_ns(CLOCK_MONOTONIC) - start >= 15 * MS);
	wait.tv_nsec = 1000000000;
	expect_errno(nanosleep(&wait, NULL), EINVAL);
	wait = (struct timespec){-1, 0};
	expect_errno(nanosleep(&wait, NULL), EINVAL);
	expect_errno(nanosleep((void *)8, NULL), EFAULT);
}

CASE(clock_nanosleep_absolute)
{
	long long at = now_ns(CLOCK_MONOTONIC) + 15 * MS;
	struct timespec until = {at / 1000000000, at % 1000000000};
	expect_zero(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
	expect(now_ns(CLOCK_MONOTONIC) >= at);
	expect_zero(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
	expect_zero(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL));
	expect_eq(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &until, NULL), EINVAL);
	expect_eq(clock_nanosleep(77, 0, &until, NULL), EINVAL);
}

CASE(real_interval_timer_repeats_with_sigalrm)
{
	handle(SIGALRM, on_signal, 0);
	struct itimerval every = {{0, 5000}, {0, 5000}}, now;
	expect_ok(setitimer(ITIMER_REAL, &every, NULL));
	while (count < 3)
		pause();
	expect_eq(code, SI_KERNEL);
	expect_ok(getitimer(ITIMER_REAL, &now));
	expect_eq(now.it_interval.tv_usec, 5000);
	every = (struct itimerval){0};
	expect_ok(setitimer(ITIMER_REAL, &every, &now));
	expect_eq(now.it_interval.tv_usec, 5000);
}

/* Also not one that was on its way: the call waits for that (`hrtimer_cancel`). */
CASE(no_signal_comes_after_the_timer_was_disarmed)
{
	struct itimerval soon = {{0, 0}, {0, 30}}, off = {{0, 0}, {0, 0}};
	struct timespec moment = {0, 100000};
	handle(SIGALRM, on_signal, 0);
	for (int round = 0; round < 1500; round++) {
		long long start = now_ns(CLOCK_MONOTONIC);
		expect_ok(setitimer(ITIMER_REAL, &soon, NULL));
		while (now_ns(CLOCK_MONOTONIC) - start < 20000 + round % 150 * 1000)
			;
		expect_ok(setitimer(ITIMER_REAL, &off, NULL));
		int came = count;
		nanosleep(&moment, NULL);
		expect_eq(count, came);
	}
}

CASE(virtual_and_profiling_timers_count_processor_time)
{
	struct itimerval soon = {{0, 0}, {0, 10000}};
	handle(SIGVTALRM, on_signal, 0);
	handle(SIGPROF, on_signal, 0);
	expect_ok(setitimer(ITIMER_VIRTUAL, &soon, NULL));
	long long start = now_ns(CLOCK_MONOTONIC);
	while (!count && now_ns(CLOCK_MONOTONIC) - start < 3000 * MS)
		;
	expect_eq(last, SIGVTALRM);
	count = 0;
	expect_ok(setitimer(ITIMER_PROF, &soon, NULL));
	while (!count && now_ns(CLOCK_MONOTONIC) - start < 6000 * MS)
		;
	expect_eq(last, SIGPROF);
}

CASE(interval_timer_errors)
{
	struct itimerval bad = {{0, 0}, {0, 1000000}};
	expect_errno(setitimer(ITIMER_REAL, &bad, NULL), EINVAL);
	bad.it_value.tv_usec = 1;
	expect_errno(setitimer(9, &bad, NULL), EINVAL);
	expect_errno(syscall(SYS_getitimer, 9, &bad), EINVAL);
	expect_errno(syscall(SYS_getitimer, 0, 8), EFAULT);
}

CASE(alarm_returns_the_seconds_left)
{
	alarm(0);
	expect_eq(alarm(100), 0);
	expect_between(alarm(0), 99, 100);
	expect_eq(alarm(0), 0);
}

static timer_t make_timer(clockid_t clock, int notify, int signal)
{
	timer_t timer;
	struct sigevent event = {.sigev_notify = notify, .sigev_signo = signal};
	event.sigev_value.sival_int = 4711;
	expect_ok(timer_create(clock, &event, &timer));
	return timer;
}

CASE(posix_timer_sends_its_signal_with_value)
{
	siginfo_t info;
	sigset_t set = set_of(SIGUSR1);
	block(SIGUSR1);
	timer_t timer = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1);
	struct itimerspec soon = {{0, 0}, {0, 10 * MS}};
	expect_ok(timer_settime(timer, 0, &soon, NULL));
	expect_eq(sigwaitinfo(&set, &info), SIGUSR1);
	expect_eq(info.si_code, SI_TIMER);
	expect_eq(info.si_value.sival_int, 4711);
	expect_eq(info.si_overrun, 0);
	expect_ok(timer_delete(timer));
}

CASE(posix_timer_counts_overruns)
{
	siginfo_t info;
	sigset_t set = set_of(SIGUSR1);
	block(SIGUSR1);
	timer_t timer = make_timer(CLOCK_REALTIME, SIGEV_SIGNAL, SIGUSR1);
	struct itimerspec every = {{0, 2 * MS}, {0, 2 * MS}};
	expect_ok(timer_settime(timer, 0, &every, NULL));
	sleep_ms(30);
	expect_eq(sigwaitinfo(&set, &info), SIGUSR1);
	expect(info.si_overrun >= 8);
	expect_eq(timer_getoverrun(timer), info.si_overrun);
}

CASE(posix_timer_gettime_and_disarm)
{
	timer_t timer = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1);
	struct itimerspec far = {{2, 0}, {9, 0}}, now, off = {0};
	expect_ok(timer_settime(timer, 0, &far, NULL));
	expect_ok(timer_gettime(timer, &now));
	expect_between(now.it_value.tv_sec, 7, 9);
	expect_eq(now.it_interval.tv_sec, 2);
	expect_ok(timer_settime(timer, 0, &off, &now));
	expect_eq(now.it_interval.tv_sec, 2);
	expect_ok(timer_gettime(timer, &now));
	expect_eq(now.it_value.tv_sec + now.it_value.tv_nsec, 0);
}

CASE(posix_timer_on_absolute_and_processor_time)
{
	handle(SIGUSR1, on_signal, 0);
	timer_t timer = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1);
	struct itimerspec past = {{0, 0}, {0, 1}};
	expect_ok(timer_settime(timer, TIMER_ABSTIME, &past, NULL));
	for (int i = 0; i < 1000 && !count; i++)
		sleep_ms(1);
	expect_eq(count, 1);
	timer = make_timer(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGUSR1);
	struct itimerspec soon = {{0, 0}, {0, 5 * MS}};
	expect_ok(timer_settime(timer, 0, &soon, NULL));
	long long start = now_ns(CLOCK_MONOTONIC);
	while (count < 2 && now_ns(CLOCK_MONOTONIC) - start < 3000 * MS)
		;
	expect_eq(count, 2);
}

static volatile pid_t notified;
static void on_timer_thread(union sigval value)
{
	notified = value.sival_int == 4711 ? gettid() : -1;
}

CASE(posix_timer_can_start_a_thread)
{
	timer_t timer;
	struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_timer_thread};
	event.sigev_value.sival_int = 4711;
	expect_ok(timer_create(CLOCK_MONOTONIC, &event, &timer));
	struct itimerspec soon = {{0, 0}, {0, 5 * MS}};
	expect_ok(timer_settime(timer, 0, &soon, NULL));
	for (int i = 0; i < 1000 && !notified; i++)
		sleep_ms(1);
	expect(notified > 0 && notified != gettid());
}

CASE(posix_timer_errors_and_fork)
{
	timer_t timer = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1), other;
	struct itimerspec bad = {{0, 0}, {0, -1}};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 100};
	expect_errno(timer_settime(timer, 0, &bad, NULL), EINVAL);
	expect_errno(timer_create(77, NULL, &other), EINVAL);
	expect_errno(timer_create(CLOCK_MONOTONIC, &event, &other), EINVAL);
	expect_errno(syscall(SYS_timer_delete, 9999), EINVAL);
	expect_errno(syscall(SYS_timer_gettime, 9999, &bad), EINVAL);
	pid_t pid;
	SPAWN(pid)
		expect_errno(timer_gettime(timer, &bad), EINVAL);
	expect_exit(pid, 0);
}

CASE(adjtimex_reads_without_privilege)
{
	struct timex state = {0};
	be_ordinary();
	expect(adjtimex(&state) >= 0);
	expect(state.tick > 0);
	state.modes = ADJ_TICK;
	expect_errno(adjtimex(&state), EPERM);
}
