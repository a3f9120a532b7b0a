/* Synchronous signals and their siginfo; frames, jumps and saved state. */
#include "case.h"
#include <immintrin.h>
#include <setjmp.h>
#include <ucontext.h>

static sigjmp_buf back;
static siginfo_t seen;
static greg_t registers[NGREG];
static volatile sig_atomic_t count;

static void on_fault(int signal UNUSED, siginfo_t *info, void *context)
{
	seen = *info;
	memcpy(registers, ((ucontext_t *)context)->uc_mcontext.gregs, sizeof registers);
	count++;
	siglongjmp(back, 1);
}

static void on_signal(int signal UNUSED, siginfo_t *info, void *context UNUSED)
{
	seen = *info;
	count++;
}

/* The statement raises the signal; `seen` then says how. */
#define FAULT(signal, statement) \
	do { \
		handle(signal, on_fault, 0); \
		if (sigsetjmp(back, 1) == 0) { \
			statement; \
			fail("no signal"); \
		} \
		expect_eq(seen.si_signo, signal); \
	} while (0)

CASE(read_of_unmapped_memory_is_segv_maperr)
{
	char *page = map_anonymous(PAGE);
	expect_ok(munmap(page, PAGE));
	FAULT(SIGSEGV, *(volatile char *)(page + 123));
	expect_eq(seen.si_code, SEGV_MAPERR);
	expect(seen.si_addr == page + 123);
	expect_eq(registers[REG_CR2], (greg_t)(page + 123));
	expect_eq(registers[REG_TRAPNO], 14);
	expect_eq(registers[REG_ERR], 4);
}

CASE(write_to_read_only_memory_is_segv_accerr)
{
	char *page = map_anonymous(PAGE);
	expect_ok(mprotect(page, PAGE, PROT_READ));
	FAULT(SIGSEGV, *(volatile char *)(page + 5) = 1);
	expect_eq(seen.si_code, SEGV_ACCERR);
	expect(seen.si_addr == page + 5);
	expect_eq(registers[REG_ERR] & 6, 6);
}

CASE(read_of_prot_none_is_segv_accerr)
{
	char *page = map_anonymous(PAGE);
	expect_ok(mprotect(page, PAGE, PROT_NONE));
	FAULT(SIGSEGV, *(volatile char *)page);
	expect_eq(seen.si_code, SEGV_ACCERR);
	expect(seen.si_addr == page);
}

CASE(jump_to_data_is_segv_accerr_at_the_target)
{
	char *page = map_anonymous(PAGE);
	*page = '\xc3';
	FAULT(SIGSEGV, ((void (*)(void))page)());
	expect_eq(seen.si_code, SEGV_ACCERR);
	expect(seen.si_addr == page);
	expect_eq(registers[REG_RIP], (greg_t)page);
	expect_eq(registers[REG_ERR] & 16, 16);
}

CASE(null_call_is_segv_maperr_at_zero)
{
	void (*volatile null)(void) = NULL;
	FAULT(SIGSEGV, null());
	expect_eq(seen.si_code, SEGV_MAPERR);
	expect(seen.si_addr == NULL);
}

CASE(non_canonical_address_is_segv_from_the_kernel)
{
	volatile char *address = (void *)0x8000000000000000;
	FAULT(SIGSEGV, *address);
	expect_eq(seen.si_code, SI_KERNEL);
	expect(seen.si_addr == NULL);
	expect_eq(registers[REG_TRAPNO], 13);
}

IN_DIR_CASE(mapped_file_beyond_its_end_is_bus_adrerr)
{
	write_file("f", "x");
	int fd = expect_ok(open("f", O_RDWR));
	char *memory = expect_ok(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	FAULT(SIGBUS, *(volatile char *)(memory + PAGE + 8));
	expect_eq(seen.si_code, BUS_ADRERR);
	expect(seen.si_addr == memory + PAGE + 8);
	expect_eq(memory[0], 'x');
}

CASE(integer_division_by_zero_is_fpe_intdiv)
{
	volatile int zero = 0, seven = 7, result;
	FAULT(SIGFPE, result = seven / zero);
	(void)result;
	expect_eq(seen.si_code, FPE_INTDIV);
	expect_eq((greg_t)seen.si_addr, registers[REG_RIP]);
	expect_eq(registers[REG_TRAPNO], 0);
}

CASE(unmasked_sse_division_by_zero_is_fpe_fltdiv)
{
	volatile float zero = 0, result;
	unsigned before = _mm_getcsr();
	FAULT(SIGFPE, _mm_setcsr(before & ~0x200U & ~0x3fU); result = 1 / zero);
	(void)result;
	_mm_setcsr(before);
	expect_eq(seen.si_code, FPE_FLTDIV);
}

CASE(undefined_instruction_is_ill_illopn)
{
	FAULT(SIGILL, __asm__ volatile("ud2"));
	expect_eq(seen.si_code, ILL_ILLOPN);
	expect_eq((greg_t)seen.si_addr, registers[REG_RIP]);
	expect_eq(registers[REG_TRAPNO], 6);
}

CASE(privileged_instruction_is_segv_from_the_kernel)
{
	FAULT(SIGSEGV, __asm__ volatile("hlt"));
	expect_eq(seen.si_code, SI_KERNEL);
}

CASE(breakpoint_is_trap_with_rip_after_it)
{
	handle(SIGTRAP, on_signal, 0);
	__asm__ volatile("int3");
	expect_eq(count, 1);
	expect_eq(seen.si_signo, SIGTRAP);
	expect_eq(seen.si_code, SI_KERNEL);
}

CASE(trap_flag_single_steps)
{
	handle(SIGTRAP, on_signal, 0);
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; pushfq; andq $~0x100, (%%rsp); popfq"
			 ::: "memory", "cc");
	expect_eq(seen.si_code, TRAP_TRACE);
	expect_between(count, 3, 5);
}

CASE(fault_while_blocked_kills)
{
	pid_t pid;
	SPAWN(pid) {
		prctl(PR_SET_DUMPABLE, 0);
		handle(SIGSEGV, on_signal, 0);
		block(SIGSEGV);
		*(volatile char *)8 = 1;
	}
	expect_killed(pid, SIGSEGV);
}

CASE(fault_while_ignored_kills)
{
	pid_t pid;
	SPAWN(pid) {
		prctl(PR_SET_DUMPABLE, 0);
		signal(SIGSEGV, SIG_IGN);
		*(volatile char *)8 = 1;
	}
	expect_killed(pid, SIGSEGV);
}

CASE(kill_with_sigsegv_while_ignored_does_nothing)
{
	signal(SIGSEGV, SIG_IGN);
	expect_ok(kill(getpid(), SIGSEGV));
}

CASE(abort_kills_even_when_ignored)
{
	pid_t pid;
	SPAWN(pid) {
		prctl(PR_SET_DUMPABLE, 0);
		signal(SIGABRT, SIG_IGN);
		abort();
	}
	expect_killed(pid, SIGABRT);
}

CASE(handler_stack_overflow_kills_with_segv)
{
	pid_t pid;
	SPAWN(pid) {
		prctl(PR_SET_DUMPABLE, 0);
		handle(SIGUSR1, on_signal, 0);
		/* No room for a frame below this stack pointer. */
		__asm__ volatile("mov $16, %%rsp; mov %0, %%edi; mov %1, %%esi; mov %2, %%eax; syscall"
				 ::"r"(getpid()), "i"(SIGUSR1), "i"(SYS_kill)
				 : "rdi", "rsi", "rax", "rcx", "r11", "memory");
	}
	expect_killed(pid, SIGSEGV);
}

static char *guarded;
static void fix_mapping(int signal UNUSED, siginfo_t *info, void *context UNUSED)
{
	count++;
	if ((char *)info->si_addr == guarded)
		mprotect(guarded, PAGE, PROT_READ | PROT_WRITE);
}

CASE(handler_can_repair_the_fault_and_the_instruction_runs_again)
{
	guarded = map_anonymous(PAGE);
	expect_ok(mprotect(guarded, PAGE, PROT_NONE));
	handle(SIGSEGV, fix_mapping, 0);
	*(volatile char *)guarded = 42;
	expect_eq(*guarded, 42);
	expect_eq(count, 1);
}

static void skip_instruction(int signal UNUSED, siginfo_t *info UNUSED, void *context)
{
	greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
	gregs[REG_RIP] += 2;
	gregs[REG_R12] = 0x1234;
	count++;
}

CASE(registers_changed_by_the_handler_take_effect)
{
	long value;
	handle(SIGILL, skip_instruction, 0);
	__asm__ volatile("xor %%r12, %%r12; ud2; mov %%r12, %0" : "=r"(value)::"r12", "memory");
	expect_eq(value, 0x1234);
	expect_eq(count, 1);
}

static void change_mask(int signal UNUSED, siginfo_t *info UNUSED, void *context)
{
	sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGHUP);
}

CASE(mask_changed_in_the_frame_takes_effect_on_return)
{
	sigset_t now;
	handle(SIGUSR1, change_mask, 0);
	expect_ok(raise(SIGUSR1));
	expect_ok(sigprocmask(SIG_BLOCK, NULL, &now));
	expect(sigismember(&now, SIGHUP));
}

CASE(siglongjmp_out_of_a_handler_restores_the_mask)
{
	sigset_t now;
	for (int i = 0; i < 100; i++)
		FAULT(SIGSEGV, *(volatile char *)8 = 1);
	expect_eq(count, 100);
	expect_ok(sigprocmask(SIG_BLOCK, NULL, &now));
	expect(!sigismember(&now, SIGSEGV));
}

CASE(all_general_registers_survive_a_signal)
{
	handle(SIGUSR1, on_signal, 0);
	long wrong;
	long pid = getpid();
	__asm__ volatile(
		"mov $0x1111, %%rbx; mov $0x2222, %%r12; mov $0x3333, %%r13; mov $0x4444, %%r14\n"
		"mov $0x5555, %%r15; mov $0x6666, %%r8; mov $0x7777, %%r9; mov $0x8888, %%r10\n"
		"mov $0x9999, %%rdx; mov %1, %%rdi; mov $10, %%esi; mov $62, %%eax; syscall\n"
		"xor $0x1111, %%rbx; xor $0x2222, %%r12; xor $0x3333, %%r13; xor $0x4444, %%r14\n"
		"xor $0x5555, %%r15; xor $0x6666, %%r8; xor $0x7777, %%r9; xor $0x8888, %%r10\n"
		"xor $0x9999, %%rdx; xor $10, %%rsi\n"
		"or %%r12, %%rbx; or %%r13, %%rbx; or %%r14, %%rbx; or %%r15, %%rbx; or %%r8, %%rbx\n"
		"or %%r9, %%rbx; or %%r10, %%rbx; or %%rdx, %%rbx; or %%rsi, %%rbx; or %%rax, %%rbx\n"
		"mov %%rbx, %0"
		: "=r"(wrong) : "r"(pid)
		: "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
		  "r15", "memory", "cc");
	expect_eq(wrong, 0);
	expect_eq(count, 1);
}

static void spoil_vectors(int signal UNUSED, siginfo_t *info UNUSED, void *context UNUSED)
{
	__asm__ volatile("pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm7, %%xmm7; pcmpeqd %%xmm15, %%xmm15"
			 ::: "xmm0", "xmm7", "xmm15");
	_mm_setcsr(0x1f80 | 0x6000);
	count++;
}

CASE(sse_registers_and_mxcsr_survive_a_handler)
{
	uint64_t in[2] = {0x0123456789abcdef, 0xfedcba9876543210}, out[3][2];
	long pid = getpid();
	handle(SIGUSR1, spoil_vectors, 0);
	_mm_setcsr(0x1f80 | 0x2000);
	__asm__ volatile("movdqu %1, %%xmm0; movdqa %%xmm0, %%xmm7; movdqa %%xmm0, %%xmm15\n"
			 "mov %2, %%rdi; mov $10, %%esi; mov $62, %%eax; syscall\n"
			 "movdqu %%xmm0, %0; movdqu %%xmm7, 16+%0; movdqu %%xmm15, 32+%0"
			 : "=m"(out) : "m"(in), "r"(pid)
			 : "rax", "rcx", "r11", "rdi", "rsi", "xmm0", "xmm7", "xmm15", "memory");
	unsigned csr = _mm_getcsr();
	_mm_setcsr(0x1f80);
	expect_eq(count, 1);
	for (int i = 0; i < 3; i++)
		expect_mem(out[i], in, 16);
	expect_eq(csr, 0x1f80 | 0x2000);
}

__attribute__((target("avx"))) static void spoil_avx(int signal UNUSED, siginfo_t *info UNUSED,
						     void *context UNUSED)
{
	__asm__ volatile("vxorps %%ymm3, %%ymm3, %%ymm3; vxorps %%ymm12, %%ymm12, %%ymm12"
			 ::: "xmm3", "xmm12");
	count++;
}

CASE(avx_upper_halves_survive_a_handler)
{
	if (!__builtin_cpu_supports("avx"))
		skip("no AVX");
	uint64_t in[4] = {1, 2, 0x1122334455667788, ~0UL}, out[2][4];
	long pid = getpid();
	handle(SIGUSR1, spoil_avx, 0);
	__asm__ volatile("vmovdqu %1, %%ymm3; vmovdqu %1, %%ymm12\n"
			 "mov %2, %%rdi; mov $10, %%esi; mov $62, %%eax; syscall\n"
			 "vmovdqu %%ymm3, %0; vmovdqu %%ymm12, 32+%0; vzeroupper"
			 : "=m"(out) : "m"(in), "r"(pid)
			 : "rax", "rcx", "r11", "rdi", "rsi", "xmm3", "xmm12", "memory");
	expect_eq(count, 1);
	expect_mem(out[0], in, 32);
	expect_mem(out[1], in, 32);
}

CASE(x87_state_survives_a_handler)
{
	double got;
	uint16_t control = 0x0c7f, after;
	long pid = getpid();
	handle(SIGUSR1, on_signal, 0);
	__asm__ volatile("fldcw %2; fldpi\n"
			 "mov %3, %%rdi; mov $10, %%esi; mov $62, %%eax; syscall\n"
			 "fstpl %0; fnstcw %1; fninit"
			 : "=m"(got), "=m"(after) : "m"(control), "r"(pid)
			 : "rax", "rcx", "r11", "rdi", "rsi", "memory");
	expect(got > 3.14159 && got < 3.1416);
	expect_eq(after, 0x0c7f);
}

CASE(red_zone_is_not_overwritten_by_a_frame)
{
	uint64_t got;
	long pid = getpid();
	handle(SIGUSR1, on_signal, 0);
	__asm__ volatile("movabs $0x1234567812345678, %%rax; mov %%rax, -128(%%rsp); mov %%rax, -8(%%rsp)\n"
			 "mov %1, %%rdi; mov $10, %%esi; mov $62, %%eax; syscall\n"
			 "mov -128(%%rsp), %%rax; and -8(%%rsp), %%rax; mov %%rax, %0"
			 : "=r"(got) : "r"(pid) : "rax", "rcx", "r11", "rdi", "rsi", "memory");
	expect_eq(got, 0x1234567812345678);
}

CASE(flags_survive_a_handler)
{
	long flags, pid = getpid();
	handle(SIGUSR1, on_signal, 0);
	__asm__ volatile("mov %1, %%rdi; mov $10, %%esi; mov $62, %%eax; stc; std; syscall; pushfq; cld; pop %0"
			 : "=r"(flags) : "r"(pid) : "rax", "rcx", "r11", "rdi", "rsi", "memory", "cc");
	expect_eq(flags & 0x401, 0x401);
	expect_eq(count, 1);
}
