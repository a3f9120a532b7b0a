/* System calls made again and again: a platform may rewrite where they are made, which nobody is to notice. */
#include "case.h"
#include <pthread.h>

enum { HOT = 3000 };

/* getppid as C libraries make it, in code of our own whose bytes are known. */
long hot_getppid(void);
extern const unsigned char hot_getppid_end[];
__asm__(".text\n"
	".globl hot_getppid\n"
	"hot_getppid:\n"
	"	movl $110, %eax\n"
	"	syscall\n"
	"	cmpq $-4095, %rax\n"
	"	jae 1f\n"
	"	ret\n"
	"1:	orq $-1, %rax\n"
	"	ret\n"
	".globl hot_getppid_end\n"
	"hot_getppid_end:\n");

static void warm_up(void)
{
	for (int i = 0; i < HOT; i++) {
		hot_getppid();
		syscall(SYS_getpid);
	}
}

CASE(results_and_errors_stay_right)
{
	long ppid = getppid(), pid = getpid(), tid = syscall(SYS_gettid);
	for (int i = 0; i < HOT; i++) {
		expect_eq(hot_getppid(), ppid);
		expect_eq(syscall(SYS_getpid), pid);
		expect_eq(syscall(SYS_gettid), tid);
		expect_eq(syscall(SYS_getuid), getuid());
		expect_errno(syscall(SYS_read, -1, NULL, 0), EBADF);
		expect_errno(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (void *)8), EFAULT);
		expect_errno(syscall(SYS_clock_gettime, 77, (void *)8), EINVAL);
	}
}

CASE(the_clock_never_goes_back)
{
	struct timespec last = { 0, 0 }, now;
	for (int i = 0; i < 2 * HOT; i++) {
		if (i & 1)
			expect_ok(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now));
		else
			expect_ok(clock_gettime(CLOCK_MONOTONIC, &now));
		expect(now.tv_sec > last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec));
		last = now;
	}
}

extern const char __executable_start[];

CASE(unmapping_free_address_space_near_the_program_changes_nothing)
{
	/* Where a platform may have put something of its own. */
	unsigned long end = (unsigned long)__executable_start & -4096ul;
	unsigned long len = end > (1ul << 30) ? 1ul << 30 : end - (1 << 16);
	warm_up();
	for (int i = 0; i < HOT; i++)
		expect_errno(munmap((void *)1, 1), EINVAL);
	for (int i = 0; i < 100; i++) {
		expect_ok(munmap((void *)(end - len), len));
		expect_eq(hot_getppid(), getppid());
	}
	warm_up();
}

CASE(a_forked_child_has_its_own_ids)
{
	warm_up();
	pid_t parent = getpid(), pid;
	for (int i = 0; i < 5; i++) {
		SPAWN(pid) {
			expect(syscall(SYS_getpid) != parent);
			expect_eq(syscall(SYS_getpid), syscall(SYS_gettid));
			expect_eq(hot_getppid(), parent);
			warm_up();
			expect_eq(hot_getppid(), parent);
		}
		expect_exit(pid, 0);
	}
}

CASE(changed_ids_are_seen_at_once)
{
	warm_up();
	pid_t pid;
	SPAWN(pid) {
		uid_t uid = getuid();
		for (int i = 0; i < HOT; i++)
			expect_eq(syscall(SYS_getuid), uid);
		uid_t other = uid == 0 ? 12345 : uid;
		expect_ok(setresuid(other, other, other));
		expect_eq(syscall(SYS_getuid), other);
		expect_eq(syscall(SYS_geteuid), other);
	}
	expect_exit(pid, 0);
}

static void *own_tid(void *arg)
{
	(void)arg;
	long tid = syscall(SYS_gettid);
	for (int i = 0; i < HOT; i++)
		if (syscall(SYS_gettid) != tid || hot_getppid() != getppid())
			return (void *)1;
	return (void *)(long)(tid == getpid());
}

CASE(each_thread_has_its_own_id)
{
	pthread_t threads[8];
	for (int i = 0; i < 8; i++)
		expect_eq(pthread_create(&threads[i], NULL, own_tid, NULL), 0);
	for (int i = 0; i < 8; i++) {
		void *bad;
		expect_eq(pthread_join(threads[i], &bad), 0);
		expect(!bad);
	}
}

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
	/* Hot calls in a handler, at any point of another one. */
	hot_getppid();
	syscall(SYS_getpid);
}

CASE(signals_at_any_moment_lose_no_register)
{
	struct sigaction action = { .sa_handler = on_alarm };
	expect_ok(sigaction(SIGALRM, &action, NULL));
	struct itimerval every = { { 0, 500 }, { 0, 500 } };
	expect_ok(setitimer(ITIMER_REAL, &every, NULL));
	long ppid = getppid();
	struct timespec ts;
	double sum = 0;
	for (int i = 0; alarms < 600; i++) {
		expect_eq(hot_getppid(), ppid);
		expect_eq(syscall(SYS_getpid), getpid());
		for (int j = 0; j < 20; j++)
			expect_ok(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts));
		sum += 0.5;
		expect(sum == 0.5 * (i + 1));
	}
}

static void *interrupted_read(void *arg)
{
	char byte;
	long n = syscall(SYS_read, *(int *)arg, &byte, 1);
	return (void *)(n == -1 && errno == EINTR ? 0L : 1L);
}

static void do_nothing(int sig)
{
	(void)sig;
}

CASE(a_handler_returns_behind_a_call_that_became_hot_meanwhile)
{
	struct sigaction action = { .sa_handler = do_nothing };
	expect_ok(sigaction(SIGUSR1, &action, NULL));
	int ends[2];
	expect_ok(pipe(ends));
	pthread_t thread;
	expect_eq(pthread_create(&thread, NULL, interrupted_read, &ends[0]), 0);
	usleep(20000);
	for (int i = 0; i < HOT; i++)
		syscall(SYS_getppid); /* the same instruction, in syscall(2) */
	expect_eq(pthread_kill(thread, SIGUSR1), 0);
	void *bad;
	expect_eq(pthread_join(thread, &bad), 0);
	expect(!bad);
}

CASE(program_text_reads_as_it_was)
{
	unsigned char before[64], after[64];
	size_t len = hot_getppid_end - (const unsigned char *)hot_getppid;
	expect(len <= sizeof before);
	memcpy(before, (const void *)hot_getppid, len);
	warm_up();
	int mem = open("/proc/self/mem", O_RDONLY);
	expect(mem >= 0);
	expect_eq(pread(mem, after, len, (off_t)(uintptr_t)hot_getppid), (long)len);
	expect_eq(memcmp(before, after, len), 0);
	/* A pipe takes it from memory as well. */
	int ends[2];
	expect_ok(pipe(ends));
	expect_eq(write(ends[1], (const void *)hot_getppid, len), (long)len);
	expect_eq(read(ends[0], after, len), (long)len);
	expect_eq(memcmp(before, after, len), 0);
	expect_eq(hot_getppid(), getppid());
}

CASE(program_text_can_be_made_writable_and_back)
{
	warm_up();
	char *page = (char *)((uintptr_t)hot_getppid & ~(PAGE - 1));
	long ppid = getppid();
	for (int i = 0; i < 3; i++) {
		expect_ok(mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
		/* mov eax, 102 (getuid) in place of 110, and back. */
		unsigned char *number = (unsigned char *)hot_getppid + 1;
		expect_eq(*number, 110);
		*number = 102;
		expect_eq(hot_getppid(), getuid());
		*number = 110;
		expect_eq(hot_getppid(), ppid);
		expect_ok(mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC));
		warm_up();
		expect_eq(hot_getppid(), ppid);
	}
}

CASE(other_programs_are_not_affected_by_what_is_hot_here)
{
	warm_up();
	pid_t pid = vfork();
	if (pid == 0) {
		execl("/proc/self/exe", "hot_calls", "--list", NULL);
		_exit(9);
	}
	int status;
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(status, 0);
	warm_up();
	expect_eq(hot_getppid(), getppid());
}
