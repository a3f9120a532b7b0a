/* Handlers, masks, dispositions, kill, stop and continue. */
#include "case.h"
#include <pthread.h>

static volatile sig_atomic_t count, last, depth, deepest;
static siginfo_t seen;

static void on_signal(int signal, siginfo_t *info, void *context UNUSED)
{
	count++;
	last = signal;
	seen = *info;
}

static pid_t pauser(void)
{
	pid_t pid;
	SPAWN(pid)
		for (;;)
			pause();
	return pid;
}

CASE(handler_runs_before_kill_to_self_returns)
{
	handle(SIGUSR1, on_signal, 0);
	expect_ok(kill(getpid(), SIGUSR1));
	expect_eq(count, 1);
	expect_eq(last, SIGUSR1);
	expect_eq(seen.si_signo, SIGUSR1);
	expect_eq(seen.si_code, SI_USER);
	expect_eq(seen.si_pid, getpid());
	expect_eq(seen.si_uid, getuid());
}

CASE(tgkill_is_si_tkill)
{
	handle(SIGUSR1, on_signal, 0);
	expect_ok(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1));
	expect_eq(seen.si_code, SI_TKILL);
	expect_eq(seen.si_pid, getpid());
}

CASE(sigaction_returns_the_old_action)
{
	struct sigaction action = {.sa_handler = SIG_IGN, .sa_flags = SA_RESTART}, old;
	sigaddset(&action.sa_mask, SIGHUP);
	expect_ok(sigaction(SIGUSR1, &action, &old));
	expect(old.sa_handler == SIG_DFL);
	expect_ok(sigaction(SIGUSR1, NULL, &old));
	expect(old.sa_handler == SIG_IGN);
	expect_eq(old.sa_flags & SA_RESTART, SA_RESTART);
	expect(sigismember(&old.sa_mask, SIGHUP));
	expect(!sigismember(&old.sa_mask, SIGINT));
}

CASE(sigaction_errors)
{
	struct sigaction action = {.sa_handler = SIG_IGN};
	expect_errno(sigaction(SIGKILL, &action, NULL), EINVAL);
	expect_errno(sigaction(SIGSTOP, &action, NULL), EINVAL);
	expect_ok(sigaction(SIGKILL, NULL, &action));
	expect_errno(sigaction(0, NULL, &action), EINVAL);
	expect_errno(sigaction(65, NULL, &action), EINVAL);
	expect_errno(syscall(SYS_rt_sigaction, SIGUSR1, 8, NULL, 8), EFAULT);
	expect_errno(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4), EINVAL);
}

CASE(kill_and_sigprocmask_never_block_sigkill)
{
	sigset_t all, now;
	sigfillset(&all);
	expect_ok(sigprocmask(SIG_SETMASK, &all, NULL));
	expect_ok(sigprocmask(SIG_SETMASK, NULL, &now));
	expect(!sigismember(&now, SIGKILL));
	expect(!sigismember(&now, SIGSTOP));
	expect(sigismember(&now, SIGTERM));
}

CASE(sigprocmask_block_unblock_setmask)
{
	sigset_t set = set_of(SIGUSR1), old;
	expect_ok(sigprocmask(SIG_BLOCK, &set, &old));
	expect(!sigismember(&old, SIGUSR1));
	set = set_of(SIGUSR2);
	expect_ok(sigprocmask(SIG_BLOCK, &set, &old));
	expect(sigismember(&old, SIGUSR1));
	expect_ok(sigprocmask(SIG_UNBLOCK, &set, &old));
	expect(sigismember(&old, SIGUSR2));
	set = set_of(SIGHUP);
	expect_ok(sigprocmask(SIG_SETMASK, &set, &old));
	expect(sigismember(&old, SIGUSR1) && !sigismember(&old, SIGUSR2));
	expect_errno(syscall(SYS_rt_sigprocmask, 9, &set, NULL, 8), EINVAL);
	expect_errno(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 16), EINVAL);
	expect_errno(syscall(SYS_rt_sigprocmask, SIG_BLOCK, 8, NULL, 8), EFAULT);
}

CASE(blocked_signal_is_pending_until_unblocked)
{
	handle(SIGUSR1, on_signal, 0);
	block(SIGUSR1);
	expect_ok(raise(SIGUSR1));
	expect_ok(raise(SIGUSR1));
	sigset_t pending, set = set_of(SIGUSR1);
	expect_ok(sigpending(&pending));
	expect(sigismember(&pending, SIGUSR1));
	expect_eq(count, 0);
	expect_ok(sigprocmask(SIG_UNBLOCK, &set, NULL));
	expect_eq(count, 1);
	expect_ok(sigpending(&pending));
	expect(!sigismember(&pending, SIGUSR1));
}

CASE(ignoring_a_pending_signal_discards_it)
{
	handle(SIGUSR1, on_signal, 0);
	block(SIGUSR1);
	expect_ok(raise(SIGUSR1));
	signal(SIGUSR1, SIG_IGN);
	sigset_t pending;
	expect_ok(sigpending(&pending));
	expect(!sigismember(&pending, SIGUSR1));
}

static void check_mask(int signal UNUSED, siginfo_t *info UNUSED, void *context UNUSED)
{
	sigset_t now;
	sigprocmask(SIG_BLOCK, NULL, &now);
	last = sigismember(&now, SIGUSR1) | sigismember(&now, SIGUSR2) << 1;
	count++;
}

CASE(handler_runs_with_its_own_signal_and_sa_mask_blocked)
{
	struct sigaction action = {.sa_sigaction = check_mask, .sa_flags = SA_SIGINFO};
	sigaddset(&action.sa_mask, SIGUSR2);
	expect_ok(sigaction(SIGUSR1, &action, NULL));
	expect_ok(raise(SIGUSR1));
	expect_eq(last, 3);
	sigset_t now;
	expect_ok(sigprocmask(SIG_BLOCK, NULL, &now));
	expect(!sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2));
	action.sa_flags |= SA_NODEFER;
	sigemptyset(&action.sa_mask);
	expect_ok(sigaction(SIGUSR1, &action, NULL));
	expect_ok(raise(SIGUSR1));
	expect_eq(last, 0);
}

static void nest(int signal, siginfo_t *info UNUSED, void *context UNUSED)
{
	if (++depth > deepest)
		deepest = depth;
	if (count++ < 3)
		raise(signal);
	depth--;
}

CASE(nodefer_nests_and_the_default_does_not)
{
	handle(SIGUSR1, nest, SA_NODEFER);
	expect_ok(raise(SIGUSR1));
	expect_eq(deepest, 4);
	count = deepest = 0;
	handle(SIGUSR1, nest, 0);
	expect_ok(raise(SIGUSR1));
	expect_eq(deepest, 1);
	expect_eq(count, 4);
}

CASE(resethand_restores_the_default_before_the_handler)
{
	handle(SIGUSR1, on_signal, SA_RESETHAND);
	expect_ok(raise(SIGUSR1));
	expect_eq(count, 1);
	struct sigaction action;
	expect_ok(sigaction(SIGUSR1, NULL, &action));
	expect(action.sa_handler == SIG_DFL);
	pid_t pid;
	SPAWN(pid)
		raise(SIGUSR1);
	expect_killed(pid, SIGUSR1);
}

CASE(default_of_terminating_signals_is_death)
{
	int signals[] = {SIGHUP, SIGINT, SIGKILL, SIGUSR1, SIGALRM, SIGTERM, SIGIO, SIGRTMIN, SIGRTMAX};
	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) {
		pid_t pid = pauser();
		expect_ok(kill(pid, signals[i]));
		expect_killed(pid, signals[i]);
	}
}

CASE(default_of_some_signals_is_to_be_ignored)
{
	int signals[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT};
	for (int i = 0; i < 4; i++)
		expect_ok(raise(signals[i]));
}

CASE(default_of_stop_signals_is_to_stop)
{
	int signals[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU}, status;
	pid_t pid = pauser();
	/* A group of its own: in an orphaned group only SIGSTOP stops. */
	expect_ok(setpgid(pid, 0));
	for (int i = 0; i < 4; i++) {
		expect_ok(kill(pid, signals[i]));
		expect_eq(waitpid(pid, &status, WUNTRACED), pid);
		expect_eq(status, signals[i] << 8 | 0x7f);
		expect_ok(kill(pid, SIGCONT));
		expect_eq(waitpid(pid, &status, WCONTINUED), pid);
	}
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(sigcont_discards_pending_stops_and_runs_its_handler)
{
	handle(SIGCONT, on_signal, 0);
	block(SIGTSTP);
	expect_ok(raise(SIGTSTP));
	expect_ok(raise(SIGCONT));
	sigset_t pending;
	expect_ok(sigpending(&pending));
	expect(!sigismember(&pending, SIGTSTP));
	expect_eq(count, 1);
}

CASE(signals_sent_to_a_stopped_process_wait_for_sigcont)
{
	int *shared = map_shared(PAGE), status;
	pid_t pid;
	SPAWN(pid) {
		handle(SIGUSR1, on_signal, 0);
		*shared = 1;
		while (!count)
			pause();
		*shared = 2;
	}
	while (*shared != 1)
		sleep_ms(1);
	expect_ok(kill(pid, SIGSTOP));
	expect_eq(waitpid(pid, &status, WUNTRACED), pid);
	expect_ok(kill(pid, SIGUSR1));
	sleep_ms(15);
	expect_eq(*shared, 1);
	expect_ok(kill(pid, SIGCONT));
	expect_exit(pid, 0);
	expect_eq(*shared, 2);
}

CASE(kill_errors)
{
	pid_t pid;
	SPAWN(pid)
		_exit(0);
	expect_exit(pid, 0);
	expect_errno(kill(pid, 0), ESRCH);
	expect_errno(kill(getpid(), 65), EINVAL);
	expect_errno(kill(getpid(), -1), EINVAL);
	expect_ok(kill(getpid(), 0));
	expect_errno(syscall(SYS_tgkill, getpid(), getpid(), 65), EINVAL);
	expect_errno(syscall(SYS_tgkill, 0, getpid(), 0), EINVAL);
	expect_errno(syscall(SYS_tgkill, 1 << 22, getpid(), 0), ESRCH);
	expect_errno(syscall(SYS_tkill, -1, 0), EINVAL);
}

CASE(kill_of_another_users_process_is_eperm)
{
	need_root();
	pid_t pid = pauser(), other;
	SPAWN(other) {
		be_ordinary();
		expect_errno(kill(pid, SIGTERM), EPERM);
		expect_errno(kill(pid, 0), EPERM);
	}
	expect_exit(other, 0);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(kill_of_a_group_reaches_every_member)
{
	pid_t a = pauser(), b;
	expect_ok(setpgid(a, a));
	b = pauser();
	expect_ok(setpgid(b, a));
	expect_ok(kill(-a, SIGTERM));
	expect_killed(a, SIGTERM);
	expect_killed(b, SIGTERM);
	expect_errno(kill(-a, SIGTERM), ESRCH);
}

CASE(kill_zero_signals_the_own_group)
{
	pid_t pid;
	SPAWN(pid) {
		pid_t inner;
		expect_ok(setpgid(0, 0));
		signal(SIGTERM, SIG_IGN);
		SPAWN(inner) {
			signal(SIGTERM, SIG_DFL);
			kill(0, SIGTERM);
			pause();
		}
		expect_killed(inner, SIGTERM);
	}
	expect_exit(pid, 0);
}

CASE(sigsuspend_swaps_the_mask_and_returns_eintr)
{
	handle(SIGUSR1, on_signal, 0);
	block(SIGUSR1);
	block(SIGHUP);
	expect_ok(raise(SIGUSR1));
	sigset_t none = set_of(0), now;
	expect_errno(sigsuspend(&none), EINTR);
	expect_eq(count, 1);
	expect_ok(sigprocmask(SIG_BLOCK, NULL, &now));
	expect(sigismember(&now, SIGUSR1) && sigismember(&now, SIGHUP));
}

CASE(pause_returns_eintr_after_a_handler)
{
	handle(SIGALRM, on_signal, SA_RESTART);
	struct itimerval soon = {{0, 0}, {0, 20000}};
	expect_ok(setitimer(ITIMER_REAL, &soon, NULL));
	expect_errno(pause(), EINTR);
	expect_eq(last, SIGALRM);
}

static volatile uintptr_t handler_stack;
static volatile int stack_flags;
static void on_stack(int signal UNUSED, siginfo_t *info UNUSED, void *context UNUSED)
{
	stack_t now;
	handler_stack = (uintptr_t)__builtin_frame_address(0);
	sigaltstack(NULL, &now);
	stack_flags = now.ss_flags;
	/* Changing the stack one runs on is refused. */
	now.ss_flags = SS_DISABLE;
	last = sigaltstack(&now, NULL) == -1 ? errno : 0;
}

CASE(sigaltstack_is_used_by_onstack_handlers_only)
{
	enum { SIZE = 65536 };
	char *memory = map_anonymous(SIZE);
	stack_t stack = {.ss_sp = memory, .ss_size = SIZE}, old;
	expect_ok(sigaltstack(&stack, &old));
	expect_eq(old.ss_flags, SS_DISABLE);
	handle(SIGUSR1, on_stack, SA_ONSTACK);
	expect_ok(raise(SIGUSR1));
	expect(handler_stack > (uintptr_t)memory && handler_stack < (uintptr_t)memory + SIZE);
	expect_eq(stack_flags, SS_ONSTACK);
	expect_eq(last, EPERM);
	handle(SIGUSR1, on_stack, 0);
	expect_ok(raise(SIGUSR1));
	expect(handler_stack < (uintptr_t)memory || handler_stack >= (uintptr_t)memory + SIZE);
	expect_ok(sigaltstack(NULL, &old));
	expect(old.ss_sp == memory && old.ss_size == SIZE && old.ss_flags == 0);
}

CASE(sigaltstack_errors)
{
	stack_t stack = {.ss_sp = map_anonymous(PAGE), .ss_size = 1024};
	expect_errno(sigaltstack(&stack, NULL), ENOMEM);
	stack.ss_size = 65536;
	stack.ss_flags = 0x40;
	expect_errno(sigaltstack(&stack, NULL), EINVAL);
	expect_errno(sigaltstack((void *)8, NULL), EFAULT);
}

CASE(sigaltstack_autodisarm_is_off_inside_the_handler)
{
	enum { SIZE = 65536 };
	stack_t stack = {.ss_sp = map_anonymous(SIZE), .ss_size = SIZE, .ss_flags = 1U << 31}, now;
	expect_ok(sigaltstack(&stack, NULL));
	handle(SIGUSR1, on_stack, SA_ONSTACK);
	expect_ok(raise(SIGUSR1));
	expect_eq(stack_flags, SS_DISABLE);
	expect_ok(sigaltstack(NULL, &now));
	expect(now.ss_sp == stack.ss_sp);
	expect_eq(now.ss_flags, (int)(1U << 31));
}

static void *raise_in_thread(void *result)
{
	sigset_t pending;
	block(SIGUSR2);
	expect_zero(pthread_kill(pthread_self(), SIGUSR2));
	sigpending(&pending);
	*(int *)result = sigismember(&pending, SIGUSR2);
	return NULL;
}

CASE(thread_directed_signals_are_pending_for_that_thread_only)
{
	pthread_t thread;
	int inside = 0;
	block(SIGUSR2);
	expect_zero(pthread_create(&thread, NULL, raise_in_thread, &inside));
	expect_zero(pthread_join(thread, NULL));
	expect_eq(inside, 1);
	sigset_t pending;
	expect_ok(sigpending(&pending));
	expect(!sigismember(&pending, SIGUSR2));
}

static pthread_t receiver;
static void note_thread(int signal UNUSED, siginfo_t *info UNUSED, void *context UNUSED)
{
	receiver = pthread_self();
	count++;
}

static void *idle(void *unused UNUSED)
{
	while (!count)
		usleep(1000);
	return NULL;
}

CASE(process_directed_signal_goes_to_a_thread_that_does_not_block_it)
{
	pthread_t thread;
	handle(SIGUSR1, note_thread, 0);
	expect_zero(pthread_create(&thread, NULL, idle, NULL));
	block(SIGUSR1);
	expect_ok(kill(getpid(), SIGUSR1));
	expect_zero(pthread_join(thread, NULL));
	expect_eq(count, 1);
	expect(pthread_equal(receiver, thread));
}
