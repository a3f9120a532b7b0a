/* The stub's own code and memory, which lie in each guest process. */
#include "attack.h"
#include <pthread.h>
#include <setjmp.h>

static char path[PATH_MAX];

/* Calls `address` as if it were a system call instruction with the given call in the registers. */
static void jump(unsigned long address, long number, long a, long b, long c)
{
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = -1;
	register long r9 __asm__("r9") = 0;
	__asm__ volatile("call *%5" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(address), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
}

/* As DOOMED, but does not wait: many at once take less time. */
#define ALSO_DOOMED(body) \
	({ \
		pid_t doomed_ = expect_ok(fork()); \
		if (doomed_ == 0) { \
			ualarm(200000, 0); \
			body; \
			_exit(0); \
		} \
	})

static void try_all_calls_at(unsigned long address)
{
	snprintf(path, sizeof path, "%s/broken-in", hidden());
	ALSO_DOOMED(({ jump(address, SYS_mkdir, (long)path, 0777, 0); }));
	ALSO_DOOMED(({ jump(address, SYS_open, (long)path, O_CREAT | O_RDWR, 0777); }));
	ALSO_DOOMED(({ jump(address, SYS_kill, sentinel(), SIGKILL, 0); }));
	char *argv[] = {"/bin/sh", "-c", path, NULL};
	ALSO_DOOMED(({ jump(address, SYS_execve, (long)"/bin/sh", (long)argv, 0); }));
	ALSO_DOOMED(({ jump(address, SYS_mprotect, TEXT, 4096, PROT_READ | PROT_WRITE | PROT_EXEC); }));
	ALSO_DOOMED(({ jump(address, SYS_munmap, CONST, 4096, 0); }));
	for (int fd = 0; fd < 8; fd++) /* a descriptor of the sentry's */
		ALSO_DOOMED(({ jump(address, SYS_write, fd, (long)"broken in\n", 10); }));
	while (wait(NULL) > 0 || errno == EINTR)
		;
	/* It would end the others. */
	DOOMED(({ jump(address, SYS_kill, -1, SIGKILL, 0); }));
}

/* Each system call instruction from `start` on. */
static int each_call(unsigned long start, unsigned long size)
{
	int found = 0;
	for (unsigned long at = start; at < start + size; at++) {
		if (at % PAGE == 0 && !readable(at)) {
			at += PAGE - 1;
			continue;
		}
		const unsigned char *code = (const void *)at;
		if (code[0] == 0x0f && code[1] == 0x05) {
			found++;
			try_all_calls_at(at);
		}
	}
	return found;
}

CASE(system_call_instructions_of_the_stub_are_no_way_out)
{
	if (!readable(TEXT))
		return; /* this platform shows it to nobody */
	expect(each_call(TEXT, 2 * PAGE) > 0);
	alive();
}

CASE(system_call_instructions_of_the_hosts_vdso_are_no_way_out)
{
	/* on kvm there is none */
	expect(each_call(HOST_VDSO, 8 * PAGE) > 0 || !readable(TEXT));
	alive();
}

CASE(the_middle_of_the_stub_is_no_way_out)
{
	if (!readable(TEXT))
		return;
	snprintf(path, sizeof path, "%s/broken-in", hidden());
	for (unsigned long at = TEXT; at < TEXT + 2 * PAGE; at += 31)
		DOOMED(({ signal(SIGSEGV, on_fault); jump(at, SYS_mkdir, (long)path, 0777, 0); }));
	alive();
}

static sigjmp_buf refused;
static void on_refusal(int signal) { (void)signal; siglongjmp(refused, 1); }

/* Can this process itself write there? */
static bool is_mine(unsigned long address)
{
	volatile char *byte = (volatile char *)address;
	struct sigaction action = {.sa_handler = on_refusal}, before;
	sigaction(SIGSEGV, &action, &before);
	bool written = sigsetjmp(refused, 1) == 0;
	if (written)
		*byte = *byte;
	sigaction(SIGSEGV, &before, NULL);
	return written;
}

/* The slots of this process' threads; the first ones are used first. */
static int own_slots(unsigned long *slots, int most)
{
	int count = 0;
	for (unsigned long slot = SLOTS; slot < SLOTS + 256 * SLOT_SIZE && count < most; slot += SLOT_SIZE)
		if (is_mine(slot))
			slots[count++] = slot;
	return count;
}

CASE(only_slots_can_be_written)
{
	/* kvm shows nothing of this; elsewhere it is where it is looked for */
	bool shown = readable(TEXT);
	expect_eq(readable(CONST), shown);
	expect_eq(readable(COMMAND), shown);
	expect_eq(readable(ANSWERS), shown);
	/* on kvm, too, where clocks are read there */
	expect(readable(HOST_VDSO) || !shown);
	unsigned long own;
	expect_eq(own_slots(&own, 1), shown);
	for (int page = 0; page < 2; page++) {
		expect(!writable(TEXT + page * PAGE));
		expect(!writable(CONST + page * PAGE));
		expect(!writable(ZYGOTE + page * PAGE));
		expect(!writable(COMMAND + page * PAGE));
		expect(!writable(ANSWERS + page * PAGE));
	}
	for (int page = 0; page < 16; page++)
		expect(!writable(HOST_VDSO + page * PAGE));
}

CASE(the_stubs_memory_cannot_be_changed_by_calls)
{
	static const unsigned long places[] = {USER_END, SLOTS, ANSWERS, TEXT, CONST, COMMAND, HOST_VDSO};
	for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
		void *at = (void *)places[i];
		expect(munmap(at, PAGE) == -1);
		expect(mprotect(at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == -1);
		expect(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
		expect(mremap(at, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
		expect(madvise(at, PAGE, MADV_DONTNEED) == -1);
		/* as a buffer: the sentry must not touch it for a guest */
		int fd = expect_ok(open("/etc/passwd", O_RDONLY));
		expect_errno(read(fd, at, 16), EFAULT);
		expect_errno(write(1, at, 16), EFAULT);
		expect_errno(syscall(SYS_getcwd, at, 64), EFAULT);
		close(fd);
	}
	/* across the border */
	void *below = (void *)(USER_END - PAGE);
	expect(mmap(below, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
}

static volatile bool done;

static void *make_calls(void *unused)
{
	(void)unused;
	char byte;
	int fd = open("/dev/zero", O_RDONLY);
	while (!done) {
		getppid();
		read(fd, &byte, 1);
		clock_gettime(CLOCK_MONOTONIC, &(struct timespec){0});
	}
	return NULL;
}

/* How often a slot was written: all processes count here. */
static unsigned long *scribbles;

/* Writes all slots that this process has, at random, while siblings' calls go through them. */
static void scribble(unsigned seed)
{
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		pthread_create(threads + i, NULL, make_calls, NULL);
	unsigned long slots[64];
	int count = own_slots(slots, 64);
	if (!count)
		_exit(0);
	for (;;) { /* until the alarm */
		seed = seed * 1103515245 + 12345;
		unsigned long slot = slots[seed / 7 % count];
		unsigned long offset = seed / 64 % (SLOT_SIZE / 8) * 8;
		if (seed & 0x10000)
			offset %= 512; /* the header, where the words are */
		static const unsigned long values[] = {0, 1, 2, 3, -1UL, TEXT, CONST, 0x8000000000000000UL, 64, 0xffffffff};
		*(volatile unsigned long *)(slot + offset) = seed & 0x20000 ? values[seed % 10] : seed * 0x9e3779b97f4a7c15UL;
		++*scribbles;
	}
}

CASE(scribbled_slots_harm_only_who_scribbles)
{
	scribbles = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	expect(scribbles != MAP_FAILED);
	bool shown = readable(TEXT);
	/* on a busy host the first ones may get nowhere */
	for (unsigned seed = 1; seed <= 8 || (shown && *scribbles < 1000 && seed <= 64); seed++)
		DOOMED(({ scribble(seed * 7919); }));
	expect(*scribbles > 0 || !shown);
	alive();
}
