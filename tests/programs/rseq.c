/* Restartable sequences (rseq(2)): the area, critical sections, and the signals that interrupt them. */
#include "rseq.h"
#include <sys/ptrace.h>
#include <ucontext.h>

/* As `rseq`, for children that share the parent's errno. */
static long raw_rseq(void *at, uint32_t len, int flags, uint32_t signature)
{
	long result;
	register long r10 asm("r10") = signature;
	asm volatile("syscall"
		     : "=a"(result)
		     : "a"(SYS_rseq), "D"(at), "S"((long)len), "d"((long)flags), "r"(r10)
		     : "rcx", "r11", "memory");
	return result;
}

/* Leaves this thread without a registration. */
static void unregister(void)
{
	need_rseq();
	expect_ok(rseq(area(), 32, UNREGISTER, SIGNATURE));
}

CASE(auxiliary_vector_says_size_and_alignment)
{
	need_rseq();
	expect(getauxval(AT_RSEQ_FEATURE_SIZE) >= 28);
	expect(getauxval(AT_RSEQ_ALIGN) >= 32);
}

CASE(area_names_the_processor_and_getcpu_agrees)
{
	int cpus[64], known = processors(cpus, 64);
	volatile struct area *here = area();
	need_rseq();
	for (int i = 0; i < known; i++) {
		unsigned cpu = ~0U, node = ~0U;
		pin(0, cpus[i]);
		expect_eq(here->cpu_id, cpus[i]);
		expect_eq(here->cpu_id_start, cpus[i]);
		expect_ok(syscall(SYS_getcpu, &cpu, &node, NULL));
		expect_eq(cpu, cpus[i]);
		expect_eq(here->node_id, node);
		expect_ok(getcpu(&cpu, &node));
		expect_eq(cpu, cpus[i]);
		expect_eq(sched_getcpu(), cpus[i]);
		expect(here->mm_cid < sysconf(_SC_NPROCESSORS_CONF));
	}
}

static void *say_processor(void *unused UNUSED)
{
	volatile struct area *here = area();
	for (int i = 0; i < 200; i++) {
		expect(here->cpu_id < sysconf(_SC_NPROCESSORS_CONF));
		expect(here->mm_cid < sysconf(_SC_NPROCESSORS_CONF));
		sched_yield();
	}
	return NULL;
}

CASE(threads_are_on_processors_that_there_are)
{
	pthread_t threads[8];
	need_rseq();
	for (int i = 0; i < 8; i++)
		threads[i] = start(say_processor, NULL);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
}

CASE(what_cannot_be_registered)
{
	static char room[128] __attribute__((aligned(64)));
	unregister();
	expect_errno(rseq(room, 31, 0, 5), EINVAL);
	expect_errno(rseq(room, 20, 0, 5), EINVAL);
	expect_errno(rseq(room + 16, 32, 0, 5), EINVAL);
	expect_errno(rseq(room + 4, 64, 0, 5), EINVAL);
	expect_errno(rseq(room, 32, 2, 5), EINVAL);
	expect_errno(rseq(room, 32, 3, 5), EINVAL);
	expect_errno(rseq(room, 32, UNREGISTER, 5), EINVAL);
	expect_errno(rseq(NULL, 32, UNREGISTER, 5), EINVAL);
	expect_errno(rseq((void *)0xffff800000000000, 32, 0, 5), EFAULT);
	expect_errno(rseq((void *)0x7fffffffffe0, 64, 0, 5), EFAULT);
	expect_ok(rseq(room, 32, 0, 5));
	expect_ok(rseq(room, 32, UNREGISTER, 5));
	expect_ok(rseq(room + 32, 33, 0, 0));
}

CASE(registering_again_says_what_differs)
{
	unregister();
	expect_ok(rseq(&own, 32, 0, 5));
	expect_errno(rseq(&own, 32, 0, 5), EBUSY);
	expect_errno(rseq(&own, 32, 0, 6), EPERM);
	expect_errno(rseq(&own, 64, 0, 5), EINVAL);
	expect_errno(rseq(&own + 1, 32, 0, 5), EINVAL);
	expect_errno(rseq(&own, 64, UNREGISTER, 5), EINVAL);
	expect_errno(rseq(&own + 1, 32, UNREGISTER, 5), EINVAL);
	expect_errno(rseq(&own, 32, UNREGISTER, 6), EPERM);
	expect(own.cpu_id != UNINITIALIZED);
	expect_ok(rseq(&own, 32, UNREGISTER, 5));
	expect_errno(rseq(&own, 32, UNREGISTER, 5), EINVAL);
}

CASE(registration_fills_the_area_and_its_end_resets_it)
{
	volatile struct area *here = &own;
	unregister();
	own = (struct area){7, 7, 0, 0, 7, 7, 7};
	expect_ok(rseq(&own, 32, 0, SIGNATURE));
	expect_eq(here->cpu_id, here->cpu_id_start);
	expect(here->cpu_id < sysconf(_SC_NPROCESSORS_CONF));
	expect(here->node_id < 7);
	expect_eq(here->padding, 7);
	expect_ok(rseq(&own, 32, UNREGISTER, SIGNATURE));
	expect_eq(here->cpu_id_start, 0);
	expect_eq(here->cpu_id, UNINITIALIZED);
	expect_eq(here->node_id, 0);
	expect_eq(here->mm_cid, 0);
}

CASE(forked_child_is_registered_too)
{
	pid_t pid;
	unregister();
	expect_ok(rseq(&own, 32, 0, 5));
	own.cpu_id = 12345;
	SPAWN(pid) {
		expect(own.cpu_id < sysconf(_SC_NPROCESSORS_CONF));
		expect_errno(rseq(&own, 32, 0, 5), EBUSY);
		expect_ok(rseq(&own, 32, UNREGISTER, 5));
	}
	expect_exit(pid, 0);
	expect_errno(rseq(&own, 32, 0, 5), EBUSY);
}

static struct area others[2];

/* Two results, as errno and stack protector are the parent's. */
static int clone_without(void *results)
{
	long *result = results;
	result[0] = raw_rseq(&others[0], 32, UNREGISTER, 5);
	result[1] = raw_rseq(&others[1], 32, 0, 6);
	return 0;
}

static void expect_clone_is_unregistered(int flags)
{
	volatile long result[2] = {1, 1};
	char *stack = map_anonymous(16 * PAGE);
	unregister();
	expect_ok(rseq(&others[0], 32, 0, 5));
	pid_t pid = expect_ok(clone(clone_without, stack + 16 * PAGE, flags, (void *)result));
	if (flags & CLONE_THREAD)
		while (*(volatile long *)&result[1] == 1)
			sched_yield();
	else
		expect_exit(pid, 0);
	expect_eq(result[0], -EINVAL);
	expect_eq(result[1], 0);
	expect_errno(rseq(&others[0], 32, 0, 5), EBUSY);
}

CASE(child_in_the_same_memory_is_not_registered)
{
	expect_clone_is_unregistered(CLONE_VM | SIGCHLD);
}

CASE(vfork_child_is_not_registered)
{
	expect_clone_is_unregistered(CLONE_VM | CLONE_VFORK | SIGCHLD);
}

CASE(new_thread_is_not_registered)
{
	expect_clone_is_unregistered(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
				     CLONE_THREAD | CLONE_SYSVSEM);
}

CASE(new_program_is_not_registered)
{
	pid_t pid;
	unregister();
	expect_ok(rseq(&own, 32, 0, 5));
	SPAWN(pid) {
		/* Its C library registers its own area, which fails if there is one. */
		execl("/proc/self/exe", "rseq", "helper", NULL);
		fail("exec");
	}
	expect_exit(pid, 12);
}

CASE(stale_section_is_forgotten_by_registration)
{
	unregister();
	own.section = 0x1234;
	expect_ok(rseq(&own, 32, 0, 5));
	expect_eq(((volatile struct area *)&own)->section, 0);
	sleep_ms(1);
}

static volatile uint64_t seen_ip, seen_section;
static struct area *volatile watched;

static void look(int signal UNUSED, siginfo_t *info UNUSED, void *context)
{
	seen_ip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	seen_section = watched->section;
}

static void *alarm_soon(void *target)
{
	volatile int *inside = target;
	while (!*inside)
		sched_yield();
	kill(getpid(), SIGUSR1);
	return NULL;
}

/* The signal may not go to the thread that sends it. */
static pthread_t start_alarm(volatile int *inside)
{
	block(SIGUSR1);
	pthread_t thread = start(alarm_soon, (void *)inside);
	sigset_t set = set_of(SIGUSR1);
	expect_ok(sigprocmask(SIG_UNBLOCK, &set, NULL));
	return thread;
}

CASE(signal_interrupts_and_its_frame_shows_the_abort_handler)
{
	static volatile int inside;
	need_rseq();
	watched = area();
	handle(SIGUSR1, look, 0);
	pthread_t thread = start_alarm(&inside);
	/* It may have been interrupted by something else before. */
	while (!seen_ip)
		spin(watched, &inside);
	expect_eq(seen_section, 0);
	expect_eq(seen_ip, spinning.abort);
	expect_eq(watched->section, 0);
	pthread_join(thread, NULL);
}

CASE(fault_in_a_section_shows_the_abort_handler)
{
	need_rseq();
	watched = area();
	handle(SIGSEGV, look, 0);
	asm goto(DESCRIPTOR(faulting, 0x53053053)
		 "1: movl $1, 0\n"
		 "2:\n"
		 :
		 : [area] "r"(watched)
		 : "rax", "memory"
		 : aborted);
	fail("the store did not fault");
aborted:;
	extern struct section faulting;
	expect_eq(seen_ip, faulting.abort);
	expect_eq(seen_section, 0);
}

CASE(signal_outside_of_a_section_only_forgets_it)
{
	need_rseq();
	watched = area();
	handle(SIGUSR1, look, 0);
	watched->section = (uintptr_t)&spinning;
	raise(SIGUSR1);
	expect(seen_ip != 0 && seen_ip != spinning.abort);
	expect_eq(seen_section, 0);
}

/* A child that names the section and gets a signal outside of it. */
static void expect_refused(struct section *section)
{
	pid_t pid;
	need_rseq();
	SPAWN(pid) {
		/* The handler does not help: its frame is refused too. */
		handle(SIGSEGV, ignore, 0);
		handle(SIGUSR1, ignore, 0);
		area()->section = (uintptr_t)section;
		raise(SIGUSR1);
	}
	expect_killed(pid, SIGSEGV);
}

static const uint32_t handlers[4] = {0, SIGNATURE, 0, SIGNATURE + 1};

CASE(section_that_is_well_formed_is_taken)
{
	static struct section good;
	need_rseq();
	good = (struct section){0, 0, 0x10000, 16, (uintptr_t)&handlers[2]};
	handle(SIGUSR1, ignore, 0);
	area()->section = (uintptr_t)&good;
	raise(SIGUSR1);
	expect_eq(*(volatile uint64_t *)&area()->section, 0);
}

CASE(section_without_the_signature_is_a_fault)
{
	static struct section bad;
	bad = (struct section){0, 0, 0x10000, 16, (uintptr_t)(handlers + 4)};
	expect_refused(&bad);
}

CASE(section_whose_handler_lies_in_it_is_a_fault)
{
	static struct section bad;
	bad = (struct section){0, 0, (uintptr_t)handlers, sizeof handlers, (uintptr_t)&handlers[2]};
	expect_refused(&bad);
}

CASE(section_of_another_version_is_a_fault)
{
	static struct section bad;
	bad = (struct section){1, 0, 0x10000, 16, (uintptr_t)&handlers[2]};
	expect_refused(&bad);
}

CASE(section_that_does_not_end_is_a_fault)
{
	static struct section bad;
	bad = (struct section){0, 0, 0x10000, UINT64_MAX - 64, (uintptr_t)&handlers[2]};
	expect_refused(&bad);
}

CASE(section_that_cannot_be_read_is_a_fault)
{
	expect_refused((struct section *)16);
	expect_refused((struct section *)0xffff800000000000);
}

/* Flags count only where the section is interrupted. */
CASE(flags_of_a_section_are_a_fault_when_it_is_interrupted)
{
	static volatile int inside;
	pid_t pid;
	need_rseq();
	SPAWN(pid) {
		handle(SIGUSR1, ignore, 0);
		start_alarm(&inside);
		spinning.flags = 1;
		spin(area(), &inside);
	}
	expect_killed(pid, SIGSEGV);
	SPAWN(pid) {
		handle(SIGUSR1, ignore, 0);
		start_alarm(&inside);
		area()->flags = 4;
		spin(area(), &inside);
	}
	expect_killed(pid, SIGSEGV);
	SPAWN(pid) {
		handle(SIGUSR1, ignore, 0);
		spinning.flags = 1;
		area()->flags = 4;
		area()->section = (uintptr_t)&spinning;
		raise(SIGUSR1);
	}
	expect_exit(pid, 0);
}

CASE(area_that_is_gone_is_a_fault)
{
	pid_t pid;
	unregister();
	SPAWN(pid) {
		char *room = map_anonymous(PAGE);
		expect_ok(rseq(room, 32, 0, 5));
		handle(SIGUSR1, ignore, 0);
		expect_ok(munmap(room, PAGE));
		raise(SIGUSR1);
	}
	expect_killed(pid, SIGSEGV);
}

CASE(area_that_cannot_be_written_is_a_fault)
{
	pid_t pid;
	unregister();
	SPAWN(pid) {
		char *room = map_anonymous(PAGE);
		expect_ok(mprotect(room, PAGE, PROT_READ));
		rseq(room, 32, 0, 5);
		_exit(0);
	}
	expect_killed(pid, SIGSEGV);
}

CASE(area_may_be_given_back_before_it_goes)
{
	char *room = map_anonymous(PAGE);
	unregister();
	handle(SIGUSR1, ignore, 0);
	expect_ok(rseq(room, 32, 0, 5));
	expect_ok(rseq(room, 32, UNREGISTER, 5));
	expect_ok(munmap(room, PAGE));
	raise(SIGUSR1);
	sched_yield();
}

struct configuration {
	uint64_t area;
	uint32_t size, signature, flags, padding;
};

CASE(tracer_is_told_what_is_registered)
{
	struct configuration seen = {0}, part = {0};
	pid_t pid;
	int status;
	unregister();
	SPAWN(pid) {
		expect_ok(ptrace(PTRACE_TRACEME, 0, 0, 0));
		raise(SIGSTOP);
		expect_ok(rseq(&own, 32, 0, 0x1234));
		raise(SIGSTOP);
	}
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(ptrace(0x420f, pid, sizeof seen, &seen), sizeof seen);
	expect_eq(seen.area, 0);
	expect_ok(ptrace(PTRACE_CONT, pid, 0, 0));
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(ptrace(0x420f, pid, 100, &seen), sizeof seen);
	expect_eq(seen.area, (uintptr_t)&own);
	expect_eq(seen.size, 32);
	expect_eq(seen.signature, 0x1234);
	expect_eq(seen.flags, 0);
	expect_eq(ptrace(0x420f, pid, 8, &part), sizeof seen);
	expect_eq(part.area, (uintptr_t)&own);
	expect_eq(part.size, 0);
	expect_errno(ptrace(0x420f, pid, 8, 8), EFAULT);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}
