/* Restartable sequences (rseq(2)): threads that share processors. Counters of a processor are exact, whatever comes
 * between, and processors come back from threads that stop or end. */
#include "rseq.h"

extern struct section counting;

/* Adds one to the counter of this processor with a plain load and store, far enough apart that most of the time is spent
 * between them. False when it was interrupted. */
#define STRIDE 16
static __attribute__((noinline)) bool count(struct area *area, volatile long *counters)
{
	uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
	asm goto(DESCRIPTOR(counting, 0x53053053)
		 "1: cmpl %[cpu], 4(%[area])\n"
		 "jne %l[aborted]\n"
		 "movq (%[counter]), %%rax\n"
		 "movl $200, %%ecx\n"
		 "3: decl %%ecx\n"
		 "jnz 3b\n"
		 "addq $1, %%rax\n"
		 "movq %%rax, (%[counter])\n"
		 "2:\n"
		 :
		 : [area] "r"(area), [cpu] "r"(cpu), [counter] "r"(&counters[cpu * STRIDE])
		 : "rax", "rcx", "memory", "cc"
		 : aborted);
	return true;
aborted:
	return false;
}

/* Per-processor counters, and the threads that count. */
enum { THREADS = 8, CPUS = 2, MANY = 300000 };

struct tally {
	volatile long counters[CPU_SETSIZE * STRIDE];
	volatile long aborts;
	long wanted; /* until so many, */
	long turns;  /* or until a thread has done this */
	void (*between)(long turn);
	long counted[64];
};

/* Two processors, or one, for this thread and those it makes. */
static void narrow(void)
{
	int cpus[CPUS], known = processors(cpus, CPUS);
	cpu_set_t set;
	CPU_ZERO(&set);
	for (int i = 0; i < known; i++)
		CPU_SET(cpus[i], &set);
	expect_ok(sched_setaffinity(0, sizeof set, &set));
}

static void count_until_done(struct tally *tally, long *counted)
{
	struct area *here = area();
	for (long turn = 0; tally->aborts < tally->wanted && turn < tally->turns; turn++) {
		if (count(here, tally->counters))
			++*counted;
		else
			__atomic_add_fetch(&tally->aborts, 1, __ATOMIC_RELAXED);
		if (tally->between)
			tally->between(turn);
	}
}

static struct tally *tally;

static void *count_in_thread(void *counted)
{
	count_until_done(tally, counted);
	return NULL;
}

static void expect_exact(void)
{
	long sum = 0, counted = 0;
	for (int i = 0; i < CPU_SETSIZE; i++)
		sum += tally->counters[i * STRIDE];
	for (int i = 0; i < 64; i++)
		counted += tally->counted[i];
	expect(counted > 0);
	expect_eq(sum, counted);
}

/* Does the main thread keep sending signals? */
static bool signals;

static void count_in_threads(long wanted, long turns, void (*between)(long turn))
{
	pthread_t threads[THREADS];
	need_rseq();
	narrow();
	tally = map_shared(sizeof *tally);
	tally->wanted = wanted;
	tally->turns = turns;
	tally->between = between;
	for (int i = 0; i < THREADS; i++)
		threads[i] = start(count_in_thread, &tally->counted[i]);
	for (int turn = 0; signals && tally->aborts < wanted && turn < 20000; turn++) {
		pthread_kill(threads[turn % THREADS], SIGUSR1);
		sched_yield();
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	expect_exact();
}

CASE(counters_of_processors_are_exact)
{
	count_in_threads(100, MANY, NULL);
	expect(tally->aborts > 0);
}

static void call_now_and_then(long turn)
{
	if (turn % 64 == 0)
		getppid();
	if (turn % 1024 == 0)
		sched_yield();
	if (turn % 4096 == 0)
		usleep(100);
}

CASE(counters_are_exact_with_calls_between)
{
	count_in_threads(100, 20000, call_now_and_then);
}

static void fault_now_and_then(long turn)
{
	if (turn % 256 == 0) {
		char *page = map_anonymous(PAGE);
		*page = 1;
		expect_ok(munmap(page, PAGE));
	}
}

CASE(counters_are_exact_with_changes_of_memory_between)
{
	count_in_threads(100, 20000, fault_now_and_then);
}

CASE(counters_are_exact_with_signals_between)
{
	handle(SIGUSR1, ignore, SA_RESTART);
	signals = true;
	count_in_threads(300, MANY, NULL);
	expect(tally->aborts > 0);
}

CASE(counters_are_exact_among_processes)
{
	pid_t pids[4];
	need_rseq();
	narrow();
	tally = map_shared(sizeof *tally);
	tally->wanted = 50;
	tally->turns = MANY;
	for (int i = 0; i < 4; i++)
		SPAWN(pids[i]) {
			pthread_t other = start(count_in_thread, &tally->counted[2 * i]);
			count_until_done(tally, &tally->counted[2 * i + 1]);
			pthread_join(other, NULL);
		}
	for (int i = 0; i < 4; i++)
		expect_exit(pids[i], 0);
	expect_exact();
}

static void move_about(long turn)
{
	static __thread int cpus[CPUS], known;
	if (!known)
		known = processors(cpus, CPUS);
	if (turn % 128 == 0)
		pin(0, cpus[turn / 128 % known]);
}

CASE(counters_are_exact_while_threads_move_about)
{
	count_in_threads(100, 20000, move_about);
}

/* Threads that stay in critical sections until told otherwise. */
static volatile int inside, leave;

static void *spin_until_told(void *unused UNUSED)
{
	while (!leave)
		spin(area(), &inside);
	return NULL;
}

/* A child whose threads spin, more of them than processors. */
static pid_t spinning_child(void)
{
	pid_t pid;
	volatile int *started = map_shared(PAGE);
	SPAWN(pid) {
		for (int i = 0; i < THREADS; i++)
			start(spin_until_told, NULL);
		while (!inside)
			sched_yield();
		*started = 1;
		pause();
	}
	while (!*started)
		sleep_ms(1);
	return pid;
}

CASE(processors_come_back_from_killed_processes)
{
	need_rseq();
	narrow();
	for (int turn = 0; turn < 10; turn++) {
		pid_t pid = spinning_child();
		expect_ok(kill(pid, SIGKILL));
		expect_killed(pid, SIGKILL);
	}
	count_in_threads(20, MANY, NULL);
}

CASE(processors_come_back_from_stopped_processes)
{
	need_rseq();
	narrow();
	pid_t pid = spinning_child();
	expect_ok(kill(pid, SIGSTOP));
	wait_for_state(pid, 'T');
	count_in_threads(20, MANY, NULL);
	expect_ok(kill(pid, SIGCONT));
	tally = NULL;
	count_in_threads(20, MANY, NULL);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(new_program_ends_threads_that_wait_for_a_processor)
{
	pid_t pid;
	need_rseq();
	narrow();
	SPAWN(pid) {
		for (int i = 0; i < THREADS; i++)
			start(spin_until_told, NULL);
		while (!inside)
			sched_yield();
		execl("/proc/self/exe", "rseq", "helper", NULL);
		fail("exec");
	}
	expect_exit(pid, 12);
}

static void *do_nothing(void *unused UNUSED)
{
	return NULL;
}

CASE(processors_come_back_from_threads_that_end)
{
	need_rseq();
	narrow();
	pthread_t spinners[THREADS];
	for (int i = 0; i < THREADS; i++)
		spinners[i] = start(spin_until_told, NULL);
	for (int i = 0; i < 10; i++)
		pthread_join(start(do_nothing, NULL), NULL);
	leave = 1;
	/* The last one may be alone on its processor, where only a signal interrupts it. */
	handle(SIGUSR1, ignore, SA_RESTART);
	for (int i = 0; i < THREADS; i++)
		while (pthread_tryjoin_np(spinners[i], NULL) == EBUSY) {
			pthread_kill(spinners[i], SIGUSR1);
			sched_yield();
		}
}

static volatile int spun[2];

static void *spin_often(void *count)
{
	while (spun[0] < 3 || spun[1] < 3) {
		spin(area(), &inside);
		++*(volatile int *)count;
	}
	return NULL;
}

CASE(two_that_spin_on_one_processor_interrupt_each_other)
{
	int cpu;
	need_rseq();
	processors(&cpu, 1);
	pin(0, cpu);
	pthread_t one = start(spin_often, (void *)&spun[0]), two = start(spin_often, (void *)&spun[1]);
	/* The last one to spin has nobody to interrupt it but this thread. */
	while (pthread_tryjoin_np(one, NULL) == EBUSY)
		sched_yield();
	while (pthread_tryjoin_np(two, NULL) == EBUSY)
		sched_yield();
	expect(spun[0] >= 3 && spun[1] >= 3);
}

static volatile int turn_of;

static void *take_turns(void *me)
{
	for (int i = 0; i < 1250; i++) {
		while (turn_of != (intptr_t)me)
			sched_yield();
		turn_of = !(intptr_t)me;
	}
	return NULL;
}

/* Within the limit of a case they could not wait for the end of so many slices. */
CASE(yielding_lets_another_thread_have_the_processor)
{
	int cpu;
	need_rseq();
	processors(&cpu, 1);
	pin(0, cpu);
	pthread_t one = start(take_turns, (void *)0), two = start(take_turns, (void *)1);
	pthread_join(one, NULL);
	pthread_join(two, NULL);
}

static volatile pid_t spinner;
static int two_cpus[2];

static void *spin_until_moved(void *unused UNUSED)
{
	volatile struct area *here = area();
	pin(0, two_cpus[0]);
	spinner = gettid();
	do
		spin(area(), &inside);
	while (here->cpu_id == (uint32_t)two_cpus[0]);
	return (void *)(uintptr_t)here->cpu_id;
}

CASE(moving_a_thread_interrupts_its_section)
{
	void *cpu;
	need_rseq();
	if (processors(two_cpus, 2) < 2)
		skip("needs two processors");
	pthread_t thread = start(spin_until_moved, NULL);
	while (!inside)
		sched_yield();
	pin(spinner, two_cpus[1]);
	pthread_join(thread, &cpu);
	expect_eq((uintptr_t)cpu, two_cpus[1]);
}

enum { PRIVATE_EXPEDITED_RSEQ = 128, REGISTER_PRIVATE_EXPEDITED_RSEQ = 256, FLAG_CPU = 1 };

static void *spin_once(void *unused UNUSED)
{
	spin(area(), &inside);
	return NULL;
}

CASE(membarrier_interrupts_the_sections_of_other_threads)
{
	need_rseq();
	int known = expect_ok(syscall(SYS_membarrier, 0, 0, 0));
	expect_eq(known & (PRIVATE_EXPEDITED_RSEQ | REGISTER_PRIVATE_EXPEDITED_RSEQ),
		  PRIVATE_EXPEDITED_RSEQ | REGISTER_PRIVATE_EXPEDITED_RSEQ);
	expect_errno(syscall(SYS_membarrier, PRIVATE_EXPEDITED_RSEQ, 0, 0), EPERM);
	expect_errno(syscall(SYS_membarrier, PRIVATE_EXPEDITED_RSEQ, 2, 0), EINVAL);
	expect_errno(syscall(SYS_membarrier, 8, FLAG_CPU, 0), EINVAL);
	expect_ok(syscall(SYS_membarrier, REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0));
	pthread_t thread = start(spin_once, NULL);
	while (!inside)
		sched_yield();
	expect_ok(syscall(SYS_membarrier, PRIVATE_EXPEDITED_RSEQ, 0, 0));
	pthread_join(thread, NULL);
}

CASE(membarrier_interrupts_the_section_on_one_processor)
{
	int cpus[2];
	need_rseq();
	if (processors(cpus, 2) < 2)
		skip("needs two processors");
	pin(0, cpus[0]);
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpus[1], &set);
	pthread_attr_t attributes;
	expect_zero(pthread_attr_init(&attributes));
	expect_zero(pthread_attr_setaffinity_np(&attributes, sizeof set, &set));
	expect_ok(syscall(SYS_membarrier, REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0));
	pthread_t thread;
	expect_zero(pthread_create(&thread, &attributes, spin_once, NULL));
	while (!inside)
		sched_yield();
	expect_ok(syscall(SYS_membarrier, PRIVATE_EXPEDITED_RSEQ, FLAG_CPU, cpus[1]));
	pthread_join(thread, NULL);
}
