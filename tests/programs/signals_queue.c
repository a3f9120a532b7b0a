/* sigqueue, real-time ordering, sigwaitinfo, sigtimedwait. */
#include "case.h"

static int order[16], values[16];
static volatile sig_atomic_t count;

static void on_signal(int signal, siginfo_t *info, void *context UNUSED)
{
	order[count] = signal;
	values[count++] = info->si_value.sival_int;
}

static void queue(int signal, int value)
{
	expect_ok(sigqueue(getpid(), signal, (union sigval){.sival_int = value}));
}

CASE(sigqueue_carries_value_and_sender)
{
	siginfo_t info;
	sigset_t set = set_of(SIGUSR1);
	block(SIGUSR1);
	expect_ok(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_ptr = (void *)0x123456789}));
	expect_eq(sigwaitinfo(&set, &info), SIGUSR1);
	expect_eq(info.si_code, SI_QUEUE);
	expect_eq((uintptr_t)info.si_value.sival_ptr, 0x123456789);
	expect_eq(info.si_pid, getpid());
	expect_eq(info.si_uid, getuid());
}

CASE(realtime_signals_queue_in_order)
{
	siginfo_t info;
	sigset_t set = set_of(SIGRTMIN + 1);
	block(SIGRTMIN + 1);
	for (int i = 0; i < 5; i++)
		queue(SIGRTMIN + 1, i);
	for (int i = 0; i < 5; i++) {
		expect_eq(sigwaitinfo(&set, &info), SIGRTMIN + 1);
		expect_eq(info.si_value.sival_int, i);
	}
}

CASE(standard_signals_do_not_queue)
{
	siginfo_t info;
	struct timespec none = {0, 0};
	sigset_t set = set_of(SIGUSR1);
	block(SIGUSR1);
	queue(SIGUSR1, 1);
	queue(SIGUSR1, 2);
	expect_eq(sigtimedwait(&set, &info, &none), SIGUSR1);
	expect_eq(info.si_value.sival_int, 1);
	expect_errno(sigtimedwait(&set, &info, &none), EAGAIN);
}

CASE(lowest_numbered_signal_is_taken_first)
{
	sigset_t set;
	siginfo_t info;
	sigemptyset(&set);
	int signals[] = {SIGRTMIN + 3, SIGRTMIN + 2, SIGUSR2, SIGHUP};
	for (int i = 0; i < 4; i++) {
		sigaddset(&set, signals[i]);
		block(signals[i]);
	}
	for (int i = 0; i < 4; i++)
		queue(signals[i], 0);
	for (int i = 3; i >= 0; i--)
		expect_eq(sigwaitinfo(&set, &info), signals[i]);
}

CASE(pending_realtime_handlers_run_for_every_instance)
{
	int signal = SIGRTMIN + 4;
	handle(signal, on_signal, 0);
	block(signal);
	for (int i = 0; i < 4; i++)
		queue(signal, i);
	sigset_t set = set_of(signal);
	expect_ok(sigprocmask(SIG_UNBLOCK, &set, NULL));
	expect_eq(count, 4);
	for (int i = 0; i < 4; i++)
		expect_eq(values[i], i);
}

CASE(handlers_of_several_pending_signals_stack_so_the_highest_runs_first)
{
	/* Frames are pushed lowest first, so the last one pushed runs first. */
	sigset_t set = set_of(SIGUSR1);
	sigaddset(&set, SIGUSR2);
	handle(SIGUSR1, on_signal, 0);
	handle(SIGUSR2, on_signal, 0);
	expect_ok(sigprocmask(SIG_BLOCK, &set, NULL));
	expect_ok(raise(SIGUSR2));
	expect_ok(raise(SIGUSR1));
	expect_ok(sigprocmask(SIG_UNBLOCK, &set, NULL));
	expect_eq(count, 2);
	expect_eq(order[0], SIGUSR2);
	expect_eq(order[1], SIGUSR1);
}

CASE(sigtimedwait_times_out_with_eagain)
{
	sigset_t set = set_of(SIGUSR1);
	struct timespec wait = {0, 30 * MS};
	block(SIGUSR1);
	long long start = now_ns(CLOCK_MONOTONIC);
	expect_errno(sigtimedwait(&set, NULL, &wait), EAGAIN);
	expect(now_ns(CLOCK_MONOTONIC) - start >= 30 * MS);
	wait.tv_nsec = -1;
	expect_errno(sigtimedwait(&set, NULL, &wait), EINVAL);
}

CASE(sigwaitinfo_returns_queued_value)
{
	sigset_t set = set_of(SIGRTMIN);
	siginfo_t info;
	pid_t pid, parent = getpid();
	block(SIGRTMIN);
	SPAWN(pid) {
		sleep_ms(20);
		expect_ok(sigqueue(parent, SIGRTMIN, (union sigval){.sival_int = -7}));
	}
	expect_eq(sigwaitinfo(&set, &info), SIGRTMIN);
	expect_eq(info.si_value.sival_int, -7);
	expect_eq(info.si_pid, pid);
	expect_exit(pid, 0);
}

CASE(sigwaitinfo_is_eintr_when_another_signal_is_handled)
{
	sigset_t set = set_of(SIGUSR1);
	block(SIGUSR1);
	handle(SIGALRM, on_signal, SA_RESTART);
	struct itimerval soon = {{0, 0}, {0, 20000}};
	expect_ok(setitimer(ITIMER_REAL, &soon, NULL));
	expect_errno(sigwaitinfo(&set, NULL), EINTR);
}

CASE(sigwaitinfo_takes_a_signal_that_is_ignored_by_default_while_blocked)
{
	sigset_t set = set_of(SIGCHLD);
	siginfo_t info;
	block(SIGCHLD);
	expect_ok(kill(getpid(), SIGCHLD));
	expect_eq(sigwaitinfo(&set, &info), SIGCHLD);
	expect_eq(info.si_code, SI_USER);
}

CASE(sigqueue_errors)
{
	siginfo_t info = {.si_code = SI_USER};
	pid_t pid;
	expect_errno(sigqueue(getpid(), 65, (union sigval){0}), EINVAL);
	expect_ok(sigqueue(getpid(), 0, (union sigval){0}));
	SPAWN(pid)
		_exit(0);
	expect_exit(pid, 0);
	expect_errno(sigqueue(pid, SIGUSR1, (union sigval){0}), ESRCH);
	/* Only the kernel may claim that kill() sent a signal to another process. */
	SPAWN(pid)
		pause();
	expect_errno(syscall(SYS_rt_sigqueueinfo, pid, 0, &info), EPERM);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(queue_limit_is_eagain)
{
	be_ordinary();
	struct rlimit limit = {5, 5};
	int sent = 0;
	block(SIGRTMIN);
	expect_ok(setrlimit(RLIMIT_SIGPENDING, &limit));
	while (sent < 10 && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0)
		sent++;
	expect_eq(errno, EAGAIN);
	expect_between(sent, 0, 5);
}

CASE(tgsigqueueinfo_targets_a_thread)
{
	siginfo_t info = {.si_code = SI_QUEUE, .si_value.sival_int = 31}, got;
	sigset_t set = set_of(SIGUSR1);
	block(SIGUSR1);
	expect_ok(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGUSR1, &info));
	expect_eq(sigwaitinfo(&set, &got), SIGUSR1);
	expect_eq(got.si_value.sival_int, 31);
}

CASE(thread_pending_is_taken_before_process_pending)
{
	siginfo_t got;
	sigset_t set = set_of(SIGRTMIN);
	block(SIGRTMIN);
	queue(SIGRTMIN, 1);
	siginfo_t info = {.si_code = SI_QUEUE, .si_value.sival_int = 2};
	expect_ok(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGRTMIN, &info));
	expect_eq(sigwaitinfo(&set, &got), SIGRTMIN);
	expect_eq(got.si_value.sival_int, 2);
	expect_eq(sigwaitinfo(&set, &got), SIGRTMIN);
	expect_eq(got.si_value.sival_int, 1);
}
