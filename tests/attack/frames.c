/* Signal frames, registers and words that the sentry reads back. */
#include "attack.h"
#include <linux/futex.h>
#include <sys/ptrace.h>
#include <sys/user.h>

/* rt_sigreturn with the stack pointer at `frame`. */
static void restore(void *frame)
{
	__asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall" : : "r"(frame) : "memory");
}

static ucontext_t *fresh(char *memory)
{
	ucontext_t *context = (void *)memory;
	memset(memory, 0, 4096);
	context->uc_mcontext.gregs[REG_RIP] = (long)_exit;
	context->uc_mcontext.gregs[REG_RSP] = (long)memory + 2048;
	context->uc_mcontext.gregs[REG_CSGSFS] = 0x002b000000000033;
	context->uc_mcontext.gregs[REG_EFL] = 0x202;
	return context;
}

CASE(forged_sigreturn_frames_change_only_the_guests_own_registers)
{
	static char memory[1 << 16] __attribute__((aligned(64)));
	static const unsigned long values[] = {0, 1, 3, 0x10, 0x18, 0x23, 0x2b, 0x33, -1UL, 0x8000000000000000UL, 0xffff800000000000UL,
					       TEXT, SLOTS, CONST, USER_END, 0xffffffff80000000UL};
	for (int reg = 0; reg < NGREG; reg++)
		for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
			ucontext_t *context = fresh(memory);
			context->uc_mcontext.gregs[reg] = values[i];
			DOOMED(({ restore(memory); }));
		}
	/* extended state that points anywhere */
	for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
		ucontext_t *context = fresh(memory);
		context->uc_mcontext.fpregs = (void *)values[i];
		DOOMED(({ restore(memory); }));
	}
	/* or is full of rubbish, with every size in the software bytes */
	for (unsigned size = 0; size < 1 << 14; size += 509) {
		ucontext_t *context = fresh(memory);
		context->uc_mcontext.fpregs = (void *)(memory + 8192);
		memset(memory + 8192, 0xff, 1 << 14);
		unsigned *software = (void *)(memory + 8192 + 464);
		software[0] = 0x46505853; /* FP_XSTATE_MAGIC1 */
		software[1] = size;
		software[4] = size;
		DOOMED(({ restore(memory); }));
	}
	/* or ends at the end of memory */
	char *pages = map_anonymous(2 * PAGE);
	expect_ok(munmap(pages + PAGE, PAGE));
	for (int left = 0; left < 512; left += 8)
		DOOMED(({ restore(pages + PAGE - left); }));
	alive();
}

CASE(signal_stacks_anywhere_are_refused_or_kill)
{
	static const unsigned long places[] = {SLOTS, TEXT, CONST, 8, -4096UL, 0xffff800000000000UL, USER_END - 64};
	for (unsigned i = 0; i < sizeof places / sizeof *places; i++)
		DOOMED(({
			stack_t stack = {.ss_sp = (void *)places[i], .ss_size = 65536};
			sigaltstack(&stack, NULL);
			struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK};
			sigaction(SIGUSR1, &action, NULL);
			raise(SIGUSR1);
			__asm__ volatile("mov %0, %%rsp; ud2" : : "r"(places[i]));
		}));
	alive();
}

CASE(futex_words_and_robust_lists_of_any_kind)
{
	static const unsigned long places[] = {0, 1, 4, SLOTS, SLOTS + 64, TEXT, CONST, COMMAND, ANSWERS, USER_END - 4, USER_END, -4UL};
	unsigned word = 0;
	for (int op = 0; op < 16; op++)
		for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
			struct timespec soon = {0, 1000};
			syscall(SYS_futex, places[i], op, 0, &soon, &word, 0);
			syscall(SYS_futex, &word, op, 0, &soon, places[i], 0);
			syscall(SYS_futex, &word, op, 1, -1L, places[i], -1);
		}
	for (unsigned i = 0; i < sizeof places / sizeof *places; i++)
		DOOMED(({
			/* a list that goes round, with a wild offset and a wild pending entry */
			struct { void *next; long offset; void *pending; } head = {&head, (long)places[i], (void *)places[i]};
			syscall(SYS_set_robust_list, &head, sizeof head);
		}));
	alive();
}

CASE(a_traced_child_cannot_be_sent_into_the_host)
{
	static const unsigned long places[] = {TEXT, TEXT + 64, CONST, COMMAND, SLOTS, HOST_VDSO, -1UL, 0xffff800000000000UL};
	for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
		pid_t pid = expect_ok(fork());
		if (pid == 0) {
			alarm(2);
			ptrace(PTRACE_TRACEME, 0, 0, 0);
			raise(SIGSTOP);
			_exit(0);
		}
		int status;
		expect_eq(waitpid(pid, &status, 0), pid);
		expect(WIFSTOPPED(status));
		errno = 0;
		expect(ptrace(PTRACE_POKEDATA, pid, (void *)places[i], 0x050f050f050f050fL) == -1);
		struct user_regs_struct regs;
		expect_ok(ptrace(PTRACE_GETREGS, pid, 0, &regs));
		regs.rip = places[i];
		regs.rax = SYS_kill;
		regs.rdi = sentinel();
		regs.rsi = SIGKILL;
		regs.cs = i & 1 ? 0x10 : 0x33;
		ptrace(PTRACE_SETREGS, pid, 0, &regs);
		struct iovec state = {(void *)places[i], 4096};
		ptrace(PTRACE_SETREGSET, pid, 2, &state);
		ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
		waitpid(pid, &status, 0);
		ptrace(PTRACE_KILL, pid, 0, 0);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	/* processes of the host have no number here */
	expect_errno(ptrace(PTRACE_ATTACH, sentinel(), 0, 0), ESRCH);
	expect_errno(kill(sentinel(), SIGKILL), ESRCH);
	alive();
}
