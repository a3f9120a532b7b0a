/* ptrace of a child. */
#include "case.h"
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <elf.h>

static volatile long variable = 0x1111;

/* A child that has asked to be traced and stopped itself. */
static pid_t traced(void (*body)(void))
{
	int status;
	pid_t pid;
	SPAWN(pid) {
		expect_ok(ptrace(PTRACE_TRACEME, 0, 0, 0));
		raise(SIGSTOP);
		body();
	}
	expect_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		skip("ptrace is not allowed here");
	expect_eq(status, SIGSTOP << 8 | 0x7f);
	return pid;
}

static int next_stop(pid_t pid, int request, int signal)
{
	int status;
	expect_ok(ptrace(request, pid, 0, signal));
	expect_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static void call_getppid(void)
{
	syscall(SYS_getppid);
	_exit(variable == 0x2222 ? 7 : 3);
}

static void send_usr1(void)
{
	signal(SIGUSR1, SIG_DFL);
	raise(SIGUSR1);
	_exit(4);
}

static void execute(void)
{
	execl("/bin/true", "true", NULL);
	_exit(5);
}

static void fork_once(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	_exit(6);
}

static void breakpoint(void)
{
	__asm__ volatile("int3");
	_exit(9);
}

CASE(continue_lets_the_child_end)
{
	expect_eq(next_stop(traced(call_getppid), PTRACE_CONT, 0), 3 << 8);
}

CASE(peek_and_poke_reach_the_childs_memory)
{
	pid_t pid = traced(call_getppid);
	errno = 0;
	expect_eq(ptrace(PTRACE_PEEKDATA, pid, &variable, 0), 0x1111);
	expect_ok(ptrace(PTRACE_POKEDATA, pid, &variable, 0x2222));
	expect_eq(variable, 0x1111);
	expect_errno(ptrace(PTRACE_PEEKDATA, pid, 8, 0), EIO);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), 7 << 8);
}

CASE(system_call_stops_come_in_pairs_and_can_be_changed)
{
	struct user_regs_struct regs;
	pid_t pid = traced(call_getppid);
	expect_ok(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
	do {
		expect_eq(next_stop(pid, PTRACE_SYSCALL, 0), (SIGTRAP | 0x80) << 8 | 0x7f);
		expect_ok(ptrace(PTRACE_GETREGS, pid, 0, &regs));
	} while (regs.orig_rax != SYS_getppid || (long)regs.rax != -ENOSYS);
	expect_eq(next_stop(pid, PTRACE_SYSCALL, 0), (SIGTRAP | 0x80) << 8 | 0x7f);
	expect_ok(ptrace(PTRACE_GETREGS, pid, 0, &regs));
	expect_eq(regs.orig_rax, SYS_getppid);
	expect_eq(regs.rax, getpid());
	/* The next call is _exit: give it another status. */
	expect_eq(next_stop(pid, PTRACE_SYSCALL, 0), (SIGTRAP | 0x80) << 8 | 0x7f);
	expect_ok(ptrace(PTRACE_GETREGS, pid, 0, &regs));
	expect_eq(regs.orig_rax, SYS_exit_group);
	expect_eq(regs.rdi, 3);
	regs.rdi = 33;
	expect_ok(ptrace(PTRACE_SETREGS, pid, 0, &regs));
	expect_eq(next_stop(pid, PTRACE_CONT, 0), 33 << 8);
}

CASE(single_step_stops_after_each_instruction)
{
	struct user_regs_struct before, after;
	pid_t pid = traced(call_getppid);
	for (int i = 0; i < 20; i++) {
		expect_ok(ptrace(PTRACE_GETREGS, pid, 0, &before));
		expect_eq(next_stop(pid, PTRACE_SINGLESTEP, 0), SIGTRAP << 8 | 0x7f);
		expect_ok(ptrace(PTRACE_GETREGS, pid, 0, &after));
		expect(after.rip != before.rip);
	}
	expect_eq(next_stop(pid, PTRACE_CONT, 0), 3 << 8);
}

CASE(signals_stop_the_child_and_can_be_dropped_or_delivered)
{
	siginfo_t info;
	pid_t pid = traced(send_usr1);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), SIGUSR1 << 8 | 0x7f);
	expect_ok(ptrace(PTRACE_GETSIGINFO, pid, 0, &info));
	expect_eq(info.si_signo, SIGUSR1);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), 4 << 8);
	pid = traced(send_usr1);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), SIGUSR1 << 8 | 0x7f);
	expect_eq(next_stop(pid, PTRACE_CONT, SIGUSR1), SIGUSR1);
}

CASE(exec_stops_with_sigtrap_or_its_event)
{
	pid_t pid = traced(execute);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), SIGTRAP << 8 | 0x7f);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), 0);
	pid = traced(execute);
	expect_ok(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXEC));
	expect_eq(next_stop(pid, PTRACE_CONT, 0), (SIGTRAP | PTRACE_EVENT_EXEC << 8) << 8 | 0x7f);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), 0);
}

CASE(fork_event_names_the_new_child_and_attaches_to_it)
{
	unsigned long child;
	int status;
	pid_t pid = traced(fork_once);
	expect_ok(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEFORK));
	expect_eq(next_stop(pid, PTRACE_CONT, 0), (SIGTRAP | PTRACE_EVENT_FORK << 8) << 8 | 0x7f);
	expect_ok(ptrace(PTRACE_GETEVENTMSG, pid, 0, &child));
	expect_eq(waitpid(child, &status, __WALL), child);
	expect_eq(status, SIGSTOP << 8 | 0x7f);
	expect_ok(ptrace(PTRACE_CONT, child, 0, 0));
	expect_ok(ptrace(PTRACE_CONT, pid, 0, 0));
	expect_eq(waitpid(child, &status, __WALL), child);
	expect_eq(status, 0);
	do
		expect_eq(waitpid(pid, &status, 0), pid);
	while (WIFSTOPPED(status) && ptrace(PTRACE_CONT, pid, 0, 0) == 0);
	expect_eq(status, 6 << 8);
}

CASE(exit_event_shows_the_status)
{
	unsigned long status;
	pid_t pid = traced(call_getppid);
	expect_ok(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT));
	expect_eq(next_stop(pid, PTRACE_CONT, 0), (SIGTRAP | PTRACE_EVENT_EXIT << 8) << 8 | 0x7f);
	expect_ok(ptrace(PTRACE_GETEVENTMSG, pid, 0, &status));
	expect_eq(status, 3 << 8);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), 3 << 8);
}

CASE(breakpoint_stops_with_sigtrap)
{
	pid_t pid = traced(breakpoint);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), SIGTRAP << 8 | 0x7f);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), 9 << 8);
}

CASE(register_set_and_user_area)
{
	struct user_regs_struct regs, same;
	struct iovec part = {&same, sizeof same};
	pid_t pid = traced(call_getppid);
	expect_ok(ptrace(PTRACE_GETREGS, pid, 0, &regs));
	expect_ok(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &part));
	expect_eq(part.iov_len, sizeof same);
	expect_mem(&regs, &same, sizeof regs);
	errno = 0;
	expect_eq(ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), 0), regs.rip);
	expect_errno(ptrace(PTRACE_PEEKUSER, pid, 1, 0), EIO);
	expect_ok(ptrace(PTRACE_KILL, pid, 0, 0));
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(extended_state_names_its_components)
{
	static uint64_t words[2048];
	struct iovec set = {words, sizeof words};
	pid_t pid = traced(call_getppid);
	expect_ok(ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &set));
	expect(set.iov_len >= 576);
	/* XCR0 where a signal frame has its format, and nothing else there. */
	uint64_t components = words[464 / 8];
	expect_eq(components & 3, 3);
	for (int i = 1; i < 6; i++)
		expect_eq(words[464 / 8 + i], 0);
	expect_eq(words[512 / 8] & ~components, 0);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(attach_stops_and_detach_lets_go)
{
	int status;
	pid_t pid;
	SPAWN(pid)
		for (;;)
			pause();
	if (ptrace(PTRACE_ATTACH, pid, 0, 0) == -1)
		skip("ptrace is not allowed here");
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(status, SIGSTOP << 8 | 0x7f);
	expect_errno(ptrace(PTRACE_ATTACH, pid, 0, 0), EPERM);
	expect_ok(ptrace(PTRACE_DETACH, pid, 0, SIGTERM));
	expect_killed(pid, SIGTERM);
}

CASE(seize_and_interrupt_stop_without_a_signal)
{
	int status;
	pid_t pid;
	SPAWN(pid)
		for (;;)
			pause();
	if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL) == -1)
		skip("ptrace is not allowed here");
	expect_ok(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(status, (SIGTRAP | PTRACE_EVENT_STOP << 8) << 8 | 0x7f);
	expect_ok(ptrace(PTRACE_CONT, pid, 0, 0));
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(errors)
{
	expect_errno(ptrace(PTRACE_CONT, 1 << 22, 0, 0), ESRCH);
	expect_errno(ptrace(PTRACE_PEEKDATA, getpid(), 0, 0), ESRCH);
	pid_t pid = traced(call_getppid);
	expect_errno(ptrace(0x9999, pid, 0, 0), EIO);
	expect_errno(ptrace(PTRACE_SETOPTIONS, pid, 0, 1 << 30), EINVAL);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), 3 << 8);
	pid = traced(call_getppid);
	expect_eq(next_stop(pid, PTRACE_CONT, 0), 3 << 8);
	SPAWN(pid) {
		expect_ok(ptrace(PTRACE_TRACEME, 0, 0, 0));
		expect_errno(ptrace(PTRACE_TRACEME, 0, 0, 0), EPERM);
	}
	expect_exit(pid, 0);
}

CASE(status_shows_the_tracer_and_state_t)
{
	char path[64], want[64];
	pid_t pid = traced(call_getppid);
	expect_eq(state_of(pid), 't');
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	snprintf(want, sizeof want, "TracerPid:\t%d\n", getpid());
	expect(strstr(read_file(path), want));
	expect_eq(next_stop(pid, PTRACE_CONT, 0), 3 << 8);
}

CASE(a_parent_hears_of_a_tracee_whose_tracer_ended_without_waiting)
{
	pid_t tracee = expect_ok(fork());
	if (tracee == 0) {
		prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
		raise(SIGSTOP);
		for (;;)
			pause();
	}
	int status;
	expect_eq(expect_ok(waitpid(tracee, &status, WUNTRACED)), tracee);
	expect(WIFSTOPPED(status));
	pid_t tracer = expect_ok(fork());
	if (tracer == 0) {
		siginfo_t info;
		expect_ok(ptrace(PTRACE_SEIZE, tracee, 0, 0));
		expect_ok(kill(tracee, SIGKILL));
		for (int times = 0; times < 2; times++) {
			expect_ok(waitid(P_PID, tracee, &info, WEXITED | WNOWAIT));
			expect_eq(info.si_status, SIGKILL);
		}
		_exit(0);
	}
	expect_eq(expect_ok(waitpid(tracer, &status, 0)), tracer);
	expect_eq(status, 0);
	expect_eq(expect_ok(waitpid(tracee, &status, 0)), tracee);
	expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
