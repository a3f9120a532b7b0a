/* fork, vfork, clone, clone3, wait, exit, orphans. */
#include "case.h"
#include <linux/sched.h>

static volatile sig_atomic_t caught;
static void on_signal(int signal, siginfo_t *info UNUSED, void *context UNUSED)
{
	caught = signal;
}

CASE(fork_returns_zero_in_the_child_with_a_new_pid)
{
	pid_t parent = getpid(), pid;
	int *shared = map_shared(PAGE);
	SPAWN(pid) {
		expect_eq(getppid(), parent);
		*shared = getpid();
	}
	expect(pid > 0 && pid != parent);
	expect_exit(pid, 0);
	expect_eq(*shared, pid);
}

CASE(fork_copies_memory)
{
	static int value = 1;
	int *heap = malloc(sizeof *heap);
	*heap = 2;
	pid_t pid;
	SPAWN(pid) {
		expect_eq(value, 1);
		expect_eq(*heap, 2);
		value = *heap = 9;
	}
	expect_exit(pid, 0);
	expect_eq(value, 1);
	expect_eq(*heap, 2);
}

CASE(exit_code_is_the_low_byte)
{
	int codes[] = {0, 1, 77, 255, 256, -1};
	for (int i = 0; i < 6; i++) {
		pid_t pid;
		SPAWN(pid)
			_exit(codes[i]);
		int status;
		expect_eq(waitpid(pid, &status, 0), pid);
		expect_eq(status, (codes[i] & 255) << 8);
	}
}

CASE(wait_reports_death_by_signal_and_core_flag)
{
	pid_t pid;
	prctl(PR_SET_DUMPABLE, 0);
	SPAWN(pid) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGTERM, SIG_DFL);
		raise(SIGTERM);
	}
	int status;
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(status, SIGTERM);
}

CASE(wait_without_children_is_echild)
{
	int status;
	siginfo_t info;
	expect_errno(wait(&status), ECHILD);
	expect_errno(waitpid(1 << 22, &status, 0), ECHILD);
	expect_errno(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
}

CASE(wait_arguments_are_checked)
{
	siginfo_t info;
	expect_errno(waitpid(-1, NULL, 0x100), EINVAL);
	expect_errno(waitid(P_ALL, 0, &info, 0), EINVAL);
	expect_errno(waitid(P_ALL, 0, &info, WNOHANG), EINVAL);
	expect_errno(waitid(9, 0, &info, WEXITED), EINVAL);
	expect_errno(waitid(P_PID, 0, &info, WEXITED), EINVAL);
}

CASE(wnohang_returns_zero_while_the_child_runs)
{
	pid_t pid;
	int go[2], status;
	expect_ok(pipe(go));
	SPAWN(pid) {
		char byte;
		expect_eq(read(go[0], &byte, 1), 1);
	}
	expect_eq(waitpid(pid, &status, WNOHANG), 0);
	expect_eq(write(go[1], "x", 1), 1);
	expect_exit(pid, 0);
}

CASE(waitid_nohang_without_news_clears_pid_and_signo)
{
	pid_t pid;
	siginfo_t info = {.si_signo = 9};
	SPAWN(pid)
		pause();
	expect_ok(waitid(P_PID, pid, &info, WEXITED | WNOHANG));
	expect_eq(info.si_signo, 0);
	expect_eq(info.si_pid, 0);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(waitid_nowait_leaves_the_child_waitable)
{
	pid_t pid;
	siginfo_t info;
	SPAWN(pid)
		_exit(3);
	expect_ok(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	expect_eq(info.si_pid, pid);
	expect_eq(info.si_signo, SIGCHLD);
	expect_eq(info.si_code, CLD_EXITED);
	expect_eq(info.si_status, 3);
	expect_eq(info.si_uid, getuid());
	expect_exit(pid, 3);
	expect_errno(waitpid(pid, NULL, 0), ECHILD);
}

CASE(waitid_reports_killed)
{
	pid_t pid;
	siginfo_t info;
	SPAWN(pid)
		pause();
	expect_ok(kill(pid, SIGKILL));
	expect_ok(waitid(P_PID, pid, &info, WEXITED));
	expect_eq(info.si_code, CLD_KILLED);
	expect_eq(info.si_status, SIGKILL);
}

CASE(wait_for_process_group)
{
	pid_t a, b;
	SPAWN(a)
		_exit(1);
	expect_ok(setpgid(a, a));
	SPAWN(b)
		_exit(2);
	int status;
	expect_eq(waitpid(-a, &status, 0), a);
	expect_eq(WEXITSTATUS(status), 1);
	expect_errno(waitpid(-a, &status, 0), ECHILD);
	expect_eq(waitpid(0, &status, 0), b);
}

CASE(wait4_fills_resource_usage)
{
	/* A kernel counts the pages of a small process only roughly: this one has more. */
	static char memory[1 << 20];
	pid_t pid;
	SPAWN(pid)
	{
		memset(memory, 1, sizeof memory);
		for (volatile int i = 0; i < 30000000; i++)
			;
	}
	struct rusage usage = {0};
	int status;
	expect_eq(wait4(pid, &status, 0, &usage), pid);
	expect(usage.ru_utime.tv_sec + usage.ru_utime.tv_usec > 0);
	expect(usage.ru_maxrss > 0);
}

CASE(stop_and_continue_are_reported_when_asked)
{
	pid_t pid;
	int status;
	SPAWN(pid)
		for (;;)
			pause();
	expect_ok(kill(pid, SIGSTOP));
	expect_eq(waitpid(pid, &status, WUNTRACED), pid);
	expect(WIFSTOPPED(status));
	expect_eq(WSTOPSIG(status), SIGSTOP);
	expect_eq(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
	expect_ok(kill(pid, SIGCONT));
	expect_eq(waitpid(pid, &status, WCONTINUED), pid);
	expect_eq(status, 0xffff);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(waitid_stopped_and_continued_codes)
{
	pid_t pid;
	siginfo_t info;
	SPAWN(pid)
		for (;;)
			pause();
	/* A group of its own: in an orphaned group the terminal's stop signals do nothing. */
	expect_ok(setpgid(pid, 0));
	expect_ok(kill(pid, SIGTSTP));
	expect_ok(waitid(P_PID, pid, &info, WSTOPPED));
	expect_eq(info.si_code, CLD_STOPPED);
	expect_eq(info.si_status, SIGTSTP);
	expect_ok(kill(pid, SIGCONT));
	expect_ok(waitid(P_PID, pid, &info, WCONTINUED));
	expect_eq(info.si_code, CLD_CONTINUED);
	expect_eq(info.si_status, SIGCONT);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(stopped_process_does_not_run_and_shows_state_t)
{
	volatile int *counter = map_shared(PAGE);
	pid_t pid;
	SPAWN(pid)
		for (;;)
			++*counter;
	while (!*counter)
		sleep_ms(1);
	expect_ok(kill(pid, SIGSTOP));
	wait_for_state(pid, 'T');
	int before = *counter;
	sleep_ms(20);
	expect_eq(*counter, before);
	expect_ok(kill(pid, SIGCONT));
	for (int i = 0; i < 1000 && *counter == before; i++)
		sleep_ms(1);
	expect(*counter != before);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(sigkill_ends_a_stopped_process)
{
	pid_t pid;
	SPAWN(pid)
		raise(SIGSTOP);
	wait_for_state(pid, 'T');
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(zombie_stays_until_waited_for)
{
	pid_t pid;
	SPAWN(pid)
		_exit(0);
	wait_for_state(pid, 'Z');
	expect_ok(kill(pid, 0));
	expect_exit(pid, 0);
	expect_errno(kill(pid, 0), ESRCH);
}

CASE(ignored_sigchld_leaves_no_zombie)
{
	pid_t pid;
	signal(SIGCHLD, SIG_IGN);
	SPAWN(pid)
		_exit(0);
	expect_errno(waitpid(pid, NULL, 0), ECHILD);
	expect_errno(kill(pid, 0), ESRCH);
}

CASE(sa_nocldwait_leaves_no_zombie)
{
	pid_t pid;
	handle(SIGCHLD, on_signal, SA_NOCLDWAIT);
	SPAWN(pid)
		_exit(0);
	int result;
	do
		result = waitpid(pid, NULL, 0);
	while (result == -1 && errno == EINTR);
	expect_eq(errno, ECHILD);
	expect_eq(caught, SIGCHLD);
}

CASE(sigchld_carries_pid_and_status)
{
	pid_t pid;
	block(SIGCHLD);
	SPAWN(pid)
		_exit(42);
	sigset_t set = set_of(SIGCHLD);
	siginfo_t info;
	expect_eq(sigwaitinfo(&set, &info), SIGCHLD);
	expect_eq(info.si_pid, pid);
	expect_eq(info.si_code, CLD_EXITED);
	expect_eq(info.si_status, 42);
	expect_exit(pid, 42);
}

CASE(sa_nocldstop_silences_stops)
{
	pid_t pid;
	int status;
	handle(SIGCHLD, on_signal, SA_NOCLDSTOP | SA_RESTART);
	SPAWN(pid)
		for (;;)
			pause();
	expect_ok(kill(pid, SIGSTOP));
	expect_eq(waitpid(pid, &status, WUNTRACED), pid);
	expect_eq(caught, 0);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
	expect_eq(caught, SIGCHLD);
}

CASE(orphan_is_adopted_by_the_subreaper)
{
	int *orphan = map_shared(PAGE);
	pid_t pid;
	expect_ok(prctl(PR_SET_CHILD_SUBREAPER, 1));
	int is_reaper = 0;
	expect_ok(prctl(PR_GET_CHILD_SUBREAPER, &is_reaper));
	expect_eq(is_reaper, 1);
	SPAWN(pid) {
		pid_t inner, parent = getpid();
		SPAWN(inner) {
			while (getppid() == parent)
				sleep_ms(2);
			orphan[1] = getppid();
			_exit(7);
		}
		orphan[0] = inner;
	}
	expect_exit(pid, 0);
	expect_exit(orphan[0], 7);
	expect_eq(orphan[1], getpid());
}

CASE(orphan_without_subreaper_gets_another_parent)
{
	pid_t pid;
	/* A generation more than it seems to need: this process may be the first of all. */
	SPAWN(pid) {
		int report[2];
		pid_t middle, adopter;
		expect_ok(pipe(report));
		SPAWN(middle) {
			pid_t inner, parent = getpid();
			SPAWN(inner) {
				while ((adopter = getppid()) == parent)
					sleep_ms(2);
				expect_eq(write(report[1], &adopter, sizeof adopter), sizeof adopter);
			}
		}
		expect_exit(middle, 0);
		expect_eq(read(report[0], &adopter, sizeof adopter), sizeof adopter);
		expect(adopter != middle && adopter != getpid());
	}
	expect_exit(pid, 0);
}

CASE(pdeathsig_arrives_when_the_parent_dies)
{
	int *report = map_shared(PAGE);
	pid_t pid;
	expect_ok(prctl(PR_SET_CHILD_SUBREAPER, 1));
	SPAWN(pid) {
		pid_t inner;
		int ready[2];
		char byte;
		expect_ok(pipe(ready));
		SPAWN(inner) {
			block(SIGUSR1);
			expect_ok(prctl(PR_SET_PDEATHSIG, SIGUSR1));
			expect_eq(write(ready[1], "x", 1), 1);
			sigset_t set = set_of(SIGUSR1);
			expect_eq(sigwaitinfo(&set, NULL), SIGUSR1);
			_exit(8);
		}
		report[0] = inner;
		expect_eq(read(ready[0], &byte, 1), 1);
	}
	expect_exit(pid, 0);
	expect_exit(report[0], 8);
}

CASE(vfork_child_shares_memory_and_suspends_the_parent)
{
	volatile int *shared = map_anonymous(PAGE);
	pid_t pid = vfork();
	if (pid == 0) {
		*shared = 5;
		_exit(4);
	}
	expect_eq(*shared, 5);
	expect_exit(pid, 4);
}

static int clone_body(void *argument)
{
	*(volatile int *)argument += 1;
	return 6;
}

CASE(clone_vm_shares_memory_and_returns_the_functions_value)
{
	volatile int *shared = map_anonymous(PAGE);
	char *stack = map_anonymous(16 * PAGE);
	pid_t pid = expect_ok(clone(clone_body, stack + 16 * PAGE, CLONE_VM | SIGCHLD, (void *)shared));
	expect_exit(pid, 6);
	expect_eq(*shared, 1);
}

CASE(clone_with_another_exit_signal_needs_wclone)
{
	char *stack = map_anonymous(16 * PAGE);
	int unused = 0;
	handle(SIGUSR2, on_signal, SA_RESTART);
	pid_t pid = expect_ok(clone(clone_body, stack + 16 * PAGE, SIGUSR2, &unused));
	int status;
	expect_errno(waitpid(pid, &status, 0), ECHILD);
	expect_eq(waitpid(pid, &status, __WCLONE), pid);
	expect_eq(WEXITSTATUS(status), 6);
	expect_eq(caught, SIGUSR2);
}

CASE(clone_flag_combinations_are_checked)
{
	char *stack = map_anonymous(PAGE);
	expect_errno(syscall(SYS_clone, CLONE_THREAD, stack + PAGE, NULL, NULL, 0), EINVAL);
	expect_errno(syscall(SYS_clone, CLONE_SIGHAND, stack + PAGE, NULL, NULL, 0), EINVAL);
	expect_errno(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS, stack + PAGE, NULL, NULL, 0), EINVAL);
}

static pid_t clone3(struct clone_args *args)
{
	return syscall(SYS_clone3, args, sizeof *args);
}

CASE(clone3_forks_and_writes_the_tids)
{
	pid_t *tids = map_shared(PAGE);
	struct clone_args args = {
		.flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID,
		.exit_signal = SIGCHLD,
		.parent_tid = (uintptr_t)&tids[0],
		.child_tid = (uintptr_t)&tids[1],
	};
	pid_t pid = expect_ok(clone3(&args));
	if (pid == 0)
		_exit(tids[1] == (pid_t)syscall(SYS_gettid) ? 9 : 1);
	expect_eq(tids[0], pid);
	expect_exit(pid, 9);
}

CASE(clone3_gives_a_pidfd)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_PIDFD, .exit_signal = SIGCHLD, .pidfd = (uintptr_t)&pidfd};
	pid_t pid = expect_ok(clone3(&args));
	if (pid == 0)
		_exit(2);
	expect(pidfd >= 0);
	expect_eq(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
	expect_eq(poll_one(pidfd, POLLIN, 5000).revents & POLLIN, POLLIN);
	expect_exit(pid, 2);
}

CASE(clone3_arguments_are_checked)
{
	struct clone_args args = {.exit_signal = 200};
	expect_errno(clone3(&args), EINVAL);
	args = (struct clone_args){.exit_signal = SIGCHLD, .stack = 4096};
	expect_errno(clone3(&args), EINVAL);
	args = (struct clone_args){.flags = 1ULL << 50, .exit_signal = SIGCHLD};
	expect_errno(clone3(&args), EINVAL);
	expect_errno(syscall(SYS_clone3, &args, 8), EINVAL);
	expect_errno(syscall(SYS_clone3, &args, PAGE + 1), E2BIG);
}

CASE(clone3_clear_sighand_resets_handlers)
{
	struct clone_args args = {.flags = CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD};
	handle(SIGUSR1, on_signal, 0);
	signal(SIGUSR2, SIG_IGN);
	pid_t pid = expect_ok(clone3(&args));
	if (pid == 0) {
		struct sigaction action;
		sigaction(SIGUSR1, NULL, &action);
		bool reset = action.sa_handler == SIG_DFL;
		sigaction(SIGUSR2, NULL, &action);
		_exit(reset && action.sa_handler == SIG_IGN ? 0 : 1);
	}
	expect_exit(pid, 0);
}

CASE(clone_parent_makes_a_sibling)
{
	pid_t *sibling = map_shared(PAGE), pid;
	SPAWN(pid) {
		struct clone_args args = {.flags = CLONE_PARENT};
		pid_t other = expect_ok(clone3(&args));
		if (other == 0)
			_exit(11);
		*sibling = other;
	}
	expect_exit(pid, 0);
	expect_exit(*sibling, 11);
}

CASE(many_children_are_all_reaped)
{
	enum { COUNT = 40 };
	int sum = 0;
	for (int i = 0; i < COUNT; i++) {
		pid_t pid;
		SPAWN(pid)
			_exit(i);
	}
	int status;
	for (int i = 0; i < COUNT; i++) {
		expect(wait(&status) > 0);
		sum += WEXITSTATUS(status);
	}
	expect_eq(sum, COUNT * (COUNT - 1) / 2);
	expect_errno(wait(&status), ECHILD);
}

CASE(pending_signals_and_alarm_are_not_inherited_but_the_mask_is)
{
	pid_t pid;
	block(SIGUSR1);
	expect_ok(raise(SIGUSR1));
	alarm(5);
	pid = expect_ok(fork());
	if (pid == 0) {
		sigset_t set;
		bool ok = alarm(0) == 0;
		sigpending(&set);
		ok &= !sigismember(&set, SIGUSR1);
		sigprocmask(SIG_BLOCK, NULL, &set);
		ok &= sigismember(&set, SIGUSR1);
		_exit(ok ? 0 : 1);
	}
	expect_exit(pid, 0);
}

CASE(atexit_handlers_run_on_exit_and_not_on_underscore_exit)
{
	pid_t pid;
	int ends[2];
	char got[8] = {0};
	expect_ok(pipe(ends));
	SPAWN(pid) {
		dup2(ends[1], 1);
		printf("kept");
		exit(0);
	}
	expect_exit(pid, 0);
	expect_eq(read(ends[0], got, 8), 4);
	SPAWN(pid) {
		dup2(ends[1], 1);
		printf("lost");
		_exit(0);
	}
	expect_exit(pid, 0);
	expect_eq(poll_one(ends[0], POLLIN, 0).revents, 0);
}
