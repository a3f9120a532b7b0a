/* What the programs about restartable sequences share. In a sandbox they run with --rseq. */
#ifndef RSEQ_H
#define RSEQ_H

#include "case.h"
#include <pthread.h>
#include <sys/auxv.h>

#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27
#define AT_RSEQ_ALIGN 28
#endif

#define SIGNATURE 0x53053053 /* the C library's, and ours */
#define UNREGISTER 1
#define UNINITIALIZED UINT32_MAX

struct area {
	uint32_t cpu_id_start, cpu_id;
	uint64_t section;
	uint32_t flags, node_id, mm_cid, padding;
} __attribute__((aligned(32)));

struct section {
	uint32_t version, flags;
	uint64_t start, length, abort;
} __attribute__((aligned(32)));

static __thread struct area own UNUSED;

/* The one that the C library registered for this thread. */
static UNUSED struct area *area(void)
{
#ifdef __GLIBC__
	extern const ptrdiff_t __rseq_offset;
	extern const unsigned __rseq_size;
	if (!__rseq_size)
		fail("the C library could not register rseq");
	return (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
#else
	if (syscall(SYS_rseq, &own, 32, 0, SIGNATURE) == -1 && errno != EBUSY)
		fail("rseq: %s", errno_name(errno));
	return &own;
#endif
}

static UNUSED long rseq(void *at, uint32_t len, int flags, uint32_t signature)
{
	return syscall(SYS_rseq, at, len, flags, signature);
}

static UNUSED void need_rseq(void)
{
	if (!getauxval(AT_RSEQ_FEATURE_SIZE))
		skip("a kernel without rseq, or with its first form only");
}

static UNUSED void pin(pid_t tid, int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	expect_ok(sched_setaffinity(tid, sizeof set, &set));
}

/* The processors that may be used, `max` at most. */
static UNUSED int processors(int *cpus, int max)
{
	cpu_set_t set;
	int count = 0;
	expect_ok(sched_getaffinity(0, sizeof set, &set));
	for (int cpu = 0; cpu < CPU_SETSIZE && count < max; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[count++] = cpu;
	return count;
}

static UNUSED pthread_t start(void *(*body)(void *), void *argument)
{
	pthread_t thread;
	expect_zero(pthread_create(&thread, NULL, body, argument));
	return thread;
}

/* Critical sections in assembler. The descriptor of `name`: from label 1 to label 2, abort handler at 4; the handler is
 * put elsewhere, behind the signature, and goes on at the C label `aborted`. */
#define DESCRIPTOR(name, signature) \
	".pushsection .data.rseq, \"aw\"\n.balign 32\n" \
	".globl " #name "\n" #name ": .long 0, 0\n.quad 1f, 2f - 1f, 4f\n.popsection\n" \
	".pushsection .text.rseq, \"ax\"\n.long " #signature "\n" \
	"4: jmp %l[aborted]\n.popsection\n" \
	"leaq " #name "(%%rip), %%rax\nmovq %%rax, 8(%[area])\n"

extern struct section spinning;

/* Is in a critical section until somebody interrupts it. `inside` is set there. */
static UNUSED __attribute__((noinline)) void spin(struct area *area, volatile int *inside)
{
	asm goto(DESCRIPTOR(spinning, 0x53053053)
		 "1: movl $1, (%[inside])\n"
		 "3: pause\n"
		 "jmp 3b\n"
		 "2:\n"
		 :
		 : [area] "r"(area), [inside] "r"(inside)
		 : "rax", "memory", "cc"
		 : aborted);
	__builtin_unreachable();
aborted:
	*inside = 0;
}

static UNUSED void ignore(int signal UNUSED, siginfo_t *info UNUSED, void *context UNUSED)
{
}

/* What a new program finds: 12 if its C library could register. */
__attribute__((constructor)) static void help(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "helper"))
		_exit(area()->cpu_id < sysconf(_SC_NPROCESSORS_CONF) ? 12 : 13);
}

#endif
