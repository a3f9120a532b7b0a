/* Makes system calls at random, with arguments of the right kinds and of interesting values.
 *
 *   calls SEED MILLISECONDS [NUMBER]
 *
 * CALLS_SKIP=NUMBER,NUMBER… are not made: those with a bug that is known.
 *
 * The first process only watches: it starts others, which make calls (only those of NUMBER, if given), as root and as
 * an ordinary user; kills them after a while; and at the end does what an honest program does. It prints how many calls
 * were made and ends with 0; with 1, and a line, if the kernel no longer does what it should. */
#define _GNU_SOURCE
#include "calls.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))
enum { WORKERS = 3, LIFE_MS = 500, PAGES = 64, PAGE = 4096 };

typedef uint64_t word;

/* What watcher and workers share; workers may well write rubbish into it. */
static struct shared {
	atomic_ulong made;
	atomic_ulong by_number[512];
	atomic_int pids[WORKERS];
} *shared;

static word state;
/* Memory that arguments lie in: some pages of it are gone, or read-only. */
static char *arena;
static int only = -1;
static bool skipped[512];

/* splitmix64 */
static word draw(void)
{
	word z = state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static word below(word limit)
{
	return draw() % limit;
}

static word edge(void)
{
	static const word edges[] = {
		0, 1, 2, 3, 4, 7, 8, 16, 63, 64, 127, 128, 255, 256, 511, 1000, 1023, 1024, 4095, 4096, 4097, 8191,
		65535, 65536, 1 << 20, 0x7ffff000, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7fffffffff,
		0x7fff00000000 - 1, 0x7fffffffefff, 0x7fffffffffff, 0x800000000000, 0x7ffffffffffffffe, 0x7fffffffffffffff,
		0x8000000000000000, 0xfffffffffffff000, -4096, -2, -1,
	};
	word value = edges[below(LENGTH(edges))];
	switch (below(8)) {
	case 0: return value + 1;
	case 1: return value - 1;
	case 2: return -value;
	case 3: return draw() >> below(64);
	default: return value;
	}
}

static long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A place in the arena, or nowhere. */
static char *place(size_t align)
{
	switch (below(24)) {
	case 0: return NULL;
	case 1: return (char *)edge();
	case 2: return arena + PAGES / 2 * PAGE - below(64); /* ends at a hole */
	case 3: return arena + PAGES * PAGE - below(32);
	default: return arena + below(PAGES * PAGE / 16) * 16 % (PAGES * PAGE - 4096) / align * align;
	}
}

static word descriptor(void)
{
	switch (below(12)) {
	case 0: return edge();
	case 1: return AT_FDCWD;
	case 2: return -1;
	default: return below(40);
	}
}

static word process(void)
{
	switch (below(10)) {
	case 0: return 0;
	case 1: return getpid();
	case 2: return -getpid();
	case 3: return 1000 + below(100000);
	case 4: {
		/* Never the watcher. */
		word value = edge();
		return (int)value == 1 ? 2 : value;
	}
	case 5: return syscall(SYS_gettid);
	default: return shared->pids[below(WORKERS)];
	}
}

static const char *path(char *to)
{
	static const char *const paths[] = {
		"a", "b", "d", "d/a", "d/b", "l", "a/b", ".", "..", "/", "", "/tmp/f", "/dev/null", "/dev/zero", "/dev/full",
		"/dev/ptmx", "/dev/tty", "/dev/urandom", "/dev/pts/0", "/dev/shm/x", "/proc/self/mem", "/proc/self/maps",
		"/proc/self/fd/3", "/proc/self/fd", "/proc/self/status", "/proc/self/stat", "/proc/self/environ",
		"/proc/self/exe", "/proc/self/cwd/a", "/proc/self/root", "/proc/self/task", "/proc/self/oom_score_adj",
		"/proc/self/comm", "/proc/self/mountinfo", "/proc/self/limits", "/proc/self/smaps", "/proc/self/pagemap",
		"/proc/self/ns/mnt", "/proc/self/coredump_filter", "/proc/self/uid_map", "/proc/self/attr/current",
		"/proc/meminfo", "/proc/sys/kernel/hostname", "/proc/sys/kernel/pid_max", "/proc/sys/fs/file-nr",
		"/proc/net/tcp", "/proc/net/unix", "/proc/thread-self/stat", "/sys", "/sys/devices/system/cpu/online",
		"/etc/passwd", "/bin/true", "/tmp", "fifo", "sock", "tmpfs", "proc", "overlay", "devpts", "user.a",
	};
	if (below(40) == 0)
		return place(1);
	strcpy(to, paths[below(LENGTH(paths))]);
	if (below(30) == 0) {
		memset(to, 'x', 300);
		to[300] = 0;
	}
	if (below(20) == 0)
		strcat(to, "/");
	return to;
}

/* Fills memory with words that mean something: small numbers, descriptors, places, masks. */
static char *buffer(void)
{
	char *at = place(8);
	if (at < arena || at + 256 > arena + PAGES * PAGE || below(4) == 0)
		return at;
	word words[16];
	size_t count = 1 + below(LENGTH(words));
	for (size_t n = 0; n < count; n++)
		switch (below(10)) {
		case 0: words[n] = edge(); break;
		case 1: words[n] = (word)place(8); break;
		case 2: words[n] = descriptor() << 32 | below(16); break;
		case 3: words[n] = descriptor(); break;
		case 4: words[n] = 1ULL << below(64); break;
		case 5: words[n] = below(70) | below(70) << 32; break;
		case 6: words[n] = process(); break;
		case 7: words[n] = 0; break;
		case 8: words[n] = below(1000000000); break;
		default: words[n] = below(64); break;
		}
	/* Holes and read-only pages: the kernel writes as far as it goes, and so do we. */
	struct iovec from = {words, count * 8}, to = {at, count * 8};
	if (syscall(SYS_process_vm_writev, getpid(), &from, 1, &to, 1, 0) < 0 && errno == ENOSYS)
		memcpy(at, words, count * 8);
	return at;
}

static void *message(void)
{
	char *at = arena + (1 + below(8)) * PAGE;
	struct msghdr header = {
		.msg_name = below(2) ? NULL : place(2),
		.msg_namelen = below(2) ? 0 : below(130),
		.msg_iov = (struct iovec *)buffer(),
		.msg_iovlen = below(8) ? below(4) : edge(),
		.msg_control = below(2) ? NULL : at + 512,
		.msg_controllen = below(4) ? below(100) : edge(),
		.msg_flags = below(2) ? 0 : edge(),
	};
	struct {
		struct cmsghdr header;
		int data[4];
	} control = {
		{below(6) ? 16 + below(5) * 4 : edge(), below(4) ? SOL_SOCKET : below(30), 1 + below(3)},
		{descriptor(), descriptor(), descriptor(), descriptor()},
	};
	struct iovec from[2] = {{&header, sizeof header}, {&control, sizeof control}};
	struct iovec to[2] = {{at, sizeof header}, {at + 512, sizeof control}};
	syscall(SYS_process_vm_writev, getpid(), from, 2, to, 2, 0);
	return at;
}

static void *address(void)
{
	char *at = arena + (10 + below(4)) * PAGE;
	unsigned char bytes[128] = {below(4) ? 1 : below(3) ? 2 : below(40), 0};
	switch (bytes[0]) {
	case AF_UNIX:
		strcpy((char *)bytes + 2 + below(2), below(2) ? "sock" : "a");
		break;
	case AF_INET:
		bytes[2] = below(2) * 0x1f;
		bytes[3] = below(256);
		bytes[4] = below(4) ? 127 : below(256);
		bytes[7] = below(3);
		break;
	}
	struct iovec from = {bytes, sizeof bytes}, to = {at, sizeof bytes};
	syscall(SYS_process_vm_writev, getpid(), &from, 1, &to, 1, 0);
	return below(12) ? at : place(2);
}

static void *vector(void)
{
	char *at = arena + (20 + below(4)) * PAGE;
	struct iovec vector[4];
	for (size_t n = 0; n < LENGTH(vector); n++)
		vector[n] = (struct iovec){place(1), below(4) ? below(9000) : edge()};
	struct iovec from = {vector, sizeof vector}, to = {at, sizeof vector};
	syscall(SYS_process_vm_writev, getpid(), &from, 1, &to, 1, 0);
	return below(16) ? at : place(8);
}

static void *timespec(void)
{
	char *at = arena + (30 + below(2)) * PAGE;
	struct timespec time = {below(8) ? 0 : edge(), below(8) ? below(200000) : edge()};
	struct iovec from = {&time, sizeof time}, to = {at, sizeof time};
	syscall(SYS_process_vm_writev, getpid(), &from, 1, &to, 1, 0);
	return below(10) ? at : place(8);
}

static word command(char letter)
{
	for (size_t n = 0; n < LENGTH(commands); n++)
		if (commands[n].letter == letter) {
			word value = below(3) ? commands[n].from + below(commands[n].to - commands[n].from + 1)
					      : commands[n].more[below(8)];
			if (below(40) == 0)
				value ^= 1ULL << below(64);
			return value;
		}
	return edge();
}

static word argument(char letter, char *text)
{
	switch (letter) {
	case 'f': return descriptor();
	case 'p': return (word)path(text);
	case 'b': return (word)buffer();
	case 'n': return below(3) ? below(300) : below(2) ? below(3 * PAGE) : edge();
	case 'i': return below(6) ? below(16) : edge();
	case 'x': return below(3) ? edge() : draw();
	case 'o': return below(3) ? below(20000) : edge();
	case 'g': return below(2) ? 0 : below(3) ? 1ULL << below(32) : edge();
	case 's': return below(12) ? below(66) : edge();
	case 't': return process();
	case 'm': return below(4) ? 0777 & draw() : edge() & 0177777;
	case 'u': return below(3) ? below(3) * 1000 : edge();
	case 'T': return (word)timespec();
	case 'v': return (word)vector();
	case 'a': return (word)address();
	case 'M': return (word)message();
	case 'A': return below(8) ? (word)arena + below(PAGES) * PAGE : below(2) ? edge() & -PAGE : edge();
	case 'k': return below(5);
	default: return command(letter);
	}
}

/* Calls after which a process makes no others. */
static bool is_the_end(int number, const word *args)
{
	switch (number) {
	case SYS_rt_sigreturn: return true;
	case SYS_ptrace: return (int)args[0] == 0; /* Traced by a watcher that does not look. */
	case SYS_arch_prctl: return args[0] == 0x1002;
	case SYS_prctl: return args[0] == 22;
	case SYS_seccomp: return (int)args[0] <= 1;
	case SYS_kill:
	case SYS_tkill:
	case SYS_rt_sigqueueinfo: return (int)args[1] == SIGKILL || (int)args[1] == SIGSTOP;
	case SYS_rt_tgsigqueueinfo:
	case SYS_tgkill: return (int)args[2] == SIGKILL || (int)args[2] == SIGSTOP;
	case SYS_munmap:
	case SYS_mprotect:
	case SYS_mremap: return args[0] < (word)arena || args[0] + args[1] > (word)(arena + 2 * PAGES * PAGE);
	case SYS_mmap: return args[3] & MAP_FIXED && (args[0] < (word)arena || args[1] > PAGES * PAGE);
	default: return false;
	}
}

static void on_signal(int signal)
{
	(void)signal;
}

/* Descriptors of many kinds, at low numbers. */
static void open_some(void)
{
	int pair[2];
	open("d/a", O_RDWR | O_CREAT, 0644);
	open(".", O_RDONLY | O_DIRECTORY);
	open(".", O_PATH);
	open("/proc/self", O_RDONLY);
	open("/proc/self/mem", O_RDWR);
	open("/dev/ptmx", O_RDWR | O_NONBLOCK);
	if (pipe2(pair, below(2) ? O_NONBLOCK : 0)) {}
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) {}
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair)) {}
	socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	socket(AF_NETLINK, SOCK_RAW, 0);
	syscall(SYS_epoll_create1, 0);
	syscall(SYS_eventfd2, 1, 0);
	syscall(SYS_timerfd_create, CLOCK_MONOTONIC, 0);
	syscall(SYS_inotify_init1, 0);
	syscall(SYS_memfd_create, "m", 2);
	syscall(SYS_pidfd_open, getpid(), 0);
	word mask = 1 << 9;
	syscall(SYS_signalfd4, -1, &mask, 8, 0);
}

static void work(word seed, int index, bool as_user)
{
	state = seed;
	shared->pids[index] = getpid();
	setpgid(0, 0);
	prctl(PR_SET_NAME, "worker");
	int null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	char directory[64];
	snprintf(directory, sizeof directory, "/tmp/calls.%d", getpid());
	mkdir(directory, 0777);
	if (chdir(directory)) {}
	mkdir("d", 0777);
	mkfifo("fifo", 0666);
	if (symlink("d/a", "l")) {}
	if (as_user && (setgid(1000) || setuid(1000)))
		_exit(3);
	open_some();
	munmap(arena + PAGES / 2 * PAGE, PAGE);
	mprotect(arena + (PAGES / 2 + 1) * PAGE, PAGE, PROT_READ);
	for (int signal = 1; signal < 65; signal++) {
		struct sigaction action = {.sa_handler = on_signal};
		if (signal != SIGSEGV && signal != SIGBUS)
			sigaction(signal, &action, NULL);
	}
	struct itimerval timer = {{0, 500}, {0, 500}};
	setitimer(ITIMER_REAL, &timer, NULL);
	static char text[6][512];
	long end = now_ms() + LIFE_MS;
	while (now_ms() < end) {
		const struct call *call = &calls[below(LENGTH(calls))];
		if ((only >= 0 && call->number != only) || skipped[call->number])
			continue;
		word args[6] = {0};
		size_t n = 0;
		for (; call->takes[n]; n++)
			args[n] = argument(call->takes[n], text[n]);
		for (; n < 6; n++)
			args[n] = below(8) ? 0 : edge();
		if (is_the_end(call->number, args) && below(200))
			continue;
		shared->made++;
		shared->by_number[call->number]++;
		long value = syscall(call->number, args[0], args[1], args[2], args[3], args[4], args[5]);
		if ((call->number == SYS_clone || call->number == SYS_fork || call->number == SYS_clone3) && value == 0) {
			state ^= getpid();
			if (below(2))
				_exit(0);
		}
	}
	_exit(0);
}

static void check(bool good, const char *what)
{
	if (!good) {
		printf("%s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static void *thread(void *value)
{
	return (char *)value + 1;
}

/* What any program expects of its kernel. */
static void be_honest(void)
{
	int ends[2], status = 0;
	check(pipe(ends) == 0, "pipe");
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		pthread_t id;
		void *value = NULL;
		char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED || pthread_create(&id, NULL, thread, memory) || pthread_join(id, &value))
			_exit(1);
		memset(memory, 7, 1 << 20);
		_exit(value == memory + 1 && write(ends[1], "honest", 6) == 6 ? 42 : 2);
	}
	close(ends[1]);
	char text[8] = "";
	check(read(ends[0], text, 6) == 6 && !strcmp(text, "honest"), "read");
	check(waitpid(child, &status, 0) == child, "waitpid");
	check(WIFEXITED(status) && WEXITSTATUS(status) == 42, "status of a child");
}

static void start(pid_t *pid, int index, word seed)
{
	*pid = fork();
	if (*pid == 0)
		work(seed * 1000003 + index, index, seed % 3 == 0);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	word seed = strtoull(argv[1], NULL, 0);
	long end = now_ms() + atol(argv[2]);
	only = argc > 3 ? atoi(argv[3]) : -1;
	for (char *skip = getenv("CALLS_SKIP"); skip && *skip; skip += strspn(skip, ",")) {
		unsigned long number = strtoul(skip, &skip, 10);
		if (number < LENGTH(skipped))
			skipped[number] = true;
	}
	setvbuf(stdout, NULL, _IONBF, 0);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* With room on both sides, for calls that go beyond it. */
	arena = mmap(NULL, 3 * PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(shared != MAP_FAILED && arena != MAP_FAILED, "mmap");
	arena += PAGES * PAGE;
	check(mprotect(arena, PAGES * PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
	for (int signal = 1; signal < 65; signal++)
		if (signal != SIGCHLD)
			sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
	pid_t pids[WORKERS] = {0};
	long since[WORKERS] = {0};
	unsigned long generations = 0;
	while (now_ms() < end) {
		/* Orphans, too. */
		for (pid_t ended; (ended = waitpid(-1, NULL, WNOHANG | __WALL)) > 0;)
			for (int n = 0; n < WORKERS; n++)
				if (pids[n] == ended)
					pids[n] = 0;
		for (int n = 0; n < WORKERS; n++) {
			if (pids[n] > 0 && now_ms() - since[n] > LIFE_MS + 100)
				kill(pids[n], SIGKILL);
			if (pids[n] <= 0) {
				start(&pids[n], n, seed + generations++);
				since[n] = now_ms();
			}
		}
		usleep(2000);
	}
	/* All there is but this process. */
	for (int n = 0; n < 1000 && kill(-1, SIGKILL) == 0; n++) {
		while (waitpid(-1, NULL, WNOHANG | __WALL) > 0) {}
		usleep(1000);
	}
	while (waitpid(-1, NULL, __WALL) > 0) {}
	be_honest();
	printf("calls: %lu, processes: %lu\n", (unsigned long)shared->made, generations);
	return 0;
}
