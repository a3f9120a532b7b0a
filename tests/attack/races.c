/* User memory that changes while the sentry looks at it, and trees that change under the file server. */
#include "attack.h"
#include <pthread.h>
#include <sys/socket.h>

static volatile bool done;
static struct iovec vector[4];
static struct msghdr message;
static char path[PATH_MAX];
static char buffer[1 << 16];

static void *flip(void *unused)
{
	(void)unused;
	static const unsigned long places[] = {SLOTS, TEXT, 0, -1UL, COMMAND, 0xffff800000000000UL};
	static const size_t lengths[] = {0, 1, 4096, 1 << 16, -1UL, 0x7fffffffffffffffUL, 0x80000000UL};
	for (unsigned i = 0; !done; i++) {
		vector[i % 4].iov_base = i & 8 ? (void *)places[i % 6] : buffer;
		vector[i % 4].iov_len = lengths[i % 7];
		message.msg_iovlen = i & 16 ? -1UL : i % 5;
		message.msg_iov = i & 32 ? (void *)places[i % 6] : vector;
		message.msg_controllen = lengths[i / 3 % 7];
		message.msg_control = i & 64 ? (void *)places[i % 6] : buffer;
		message.msg_namelen = i;
		path[0] = "/.\0x"[i % 4];
	}
	return NULL;
}

static bool within(struct timespec *start, long ms)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000 < ms;
}

CASE(structures_that_change_while_they_are_read)
{
	pthread_t thread;
	struct timespec start;
	int zero = expect_ok(open("/dev/zero", O_RDONLY)), null = expect_ok(open("/dev/null", O_WRONLY));
	int pair[2];
	expect_ok(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair));
	int file = expect_ok(open("/tmp/race", O_CREAT | O_RDWR, 0600));
	message.msg_iov = vector;
	pid_t victim; /* what it writes may hit itself */
	if ((victim = expect_ok(fork()))) {
		waitpid(victim, NULL, 0);
		unlink("/tmp/race");
		alive();
		return;
	}
	alarm(5);
	expect_zero(pthread_create(&thread, NULL, flip, NULL));
	clock_gettime(CLOCK_MONOTONIC, &start);
	snprintf(path, sizeof path, "%s/canary", hidden());
	while (within(&start, 1500)) {
		readv(zero, vector, 4);
		writev(null, vector, 4);
		pwritev(file, vector, 4, 0);
		ftruncate(file, 0);
		sendmsg(pair[0], &message, 0);
		recvmsg(pair[1], &message, 0);
		process_vm_readv(getpid(), vector, 2, vector + 2, 2, 0);
		process_vm_writev(getpid(), vector, 2, vector + 2, 2, 0);
		int fd = open(path, O_RDONLY);
		if (fd >= 0) {
			char text[256];
			ssize_t size = read(fd, text, sizeof text);
			if (size > 0)
				write(1, text, size); /* the harness looks for the secret */
			close(fd);
		}
	}
	_exit(0);
}

/* Writes to its own memory beyond the buffer, as far as there is some. */
static void overlap(void)
{
	int zero = open("/dev/zero", O_RDONLY);
	static const size_t lengths[] = {-1UL, 0x8000000000000000UL, 0x7fffffffffffffffUL, 0xffffffffUL};
	for (int i = 0; i < 4; i++) {
		struct iovec two[2] = {{buffer, 16}, {buffer + 8, lengths[i]}};
		if (i < 3)
			expect(readv(zero, two, 2) == -1);
		expect(preadv(zero, two, 2, lengths[i] | 1L << 63) == -1);
	}
	for (long count = 2048; count; count *= 2) /* Linux looks at 32 bits */
		expect(syscall(SYS_readv, zero, vector, count) <= 0);
	static struct iovec many[1024];
	for (int i = 0; i < 1024; i++)
		many[i] = (struct iovec){buffer, sizeof buffer};
	expect(readv(zero, many, 1024) > 0);
	struct iovec two[2] = {{buffer, 16}, {buffer + 8, 0xffffffffUL}};
	readv(zero, two, 2);
}

CASE(vectors_that_are_huge_negative_or_overlap)
{
	int status = DOOMED(({ overlap(); }));
	expect(status != CHILD_FAILED << 8);
	alive();
}

/* The harness swaps SHARED/swap, on the host, between a directory and a link to the hidden directory. */
CASE(a_path_that_is_swapped_for_a_link_leads_to_nothing_hidden)
{
	struct timespec start;
	char file[PATH_MAX], made[PATH_MAX], text[256];
	snprintf(file, sizeof file, "%s/swap/canary", shared());
	snprintf(made, sizeof made, "%s/swap/broken-in", shared());
	clock_gettime(CLOCK_MONOTONIC, &start);
	int read_some = 0;
	while (within(&start, 3000)) {
		int fd = open(file, O_RDONLY);
		if (fd >= 0) {
			ssize_t size = read(fd, text, sizeof text);
			if (size > 0) {
				read_some++;
				write(1, text, size);
			}
			close(fd);
		}
		fd = open(made, O_CREAT | O_WRONLY, 0600);
		if (fd >= 0)
			close(fd);
		unlink(made);
		mkdir(made, 0700);
		rmdir(made);
		chmod(file, 0600);
		truncate(file, 8);
		char link[PATH_MAX];
		snprintf(link, sizeof link, "%s/link", shared());
		if (linkat(AT_FDCWD, file, AT_FDCWD, link, 0) == 0)
			unlink(link);
	}
	expect(read_some > 0);
	alive();
}

static void *swap_inside(void *base)
{
	char a[PATH_MAX], b[PATH_MAX];
	snprintf(a, sizeof a, "%s/inner", (char *)base);
	snprintf(b, sizeof b, "%s/other", (char *)base);
	while (!done)
		syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */);
	return NULL;
}

CASE(a_guest_that_swaps_its_own_directories_gets_nothing_hidden)
{
	char name[PATH_MAX], text[256];
	pthread_t thread;
	struct timespec start;
	snprintf(name, sizeof name, "%s/inner", shared());
	expect_ok(mkdir(name, 0700));
	snprintf(name, sizeof name, "%s/other", shared());
	expect_ok(symlink(hidden(), name));
	expect_zero(pthread_create(&thread, NULL, swap_inside, (void *)shared()));
	clock_gettime(CLOCK_MONOTONIC, &start);
	snprintf(name, sizeof name, "%s/inner/../inner/canary", shared());
	while (within(&start, 1500)) {
		int fd = open(name, O_RDONLY);
		if (fd >= 0) {
			ssize_t size = read(fd, text, sizeof text);
			if (size > 0)
				write(1, text, size);
			close(fd);
		}
	}
	done = true;
	pthread_join(thread, NULL);
	alive();
}

/* A program that is another when it is run than when it was looked at. */
CASE(a_program_that_is_swapped_while_it_is_executed)
{
	struct timespec start;
	clock_gettime(CLOCK_MONOTONIC, &start);
	int fd = expect_ok(open("/tmp/program", O_CREAT | O_RDWR, 0755));
	pid_t writer;
	SPAWN(writer)
	{
		static const char *contents[] = {"#!/bin/true\n", "\177ELF\2\1\1", "#!", "#!/tmp/program\n", ""};
		for (unsigned i = 0;; i++) {
			pwrite(fd, contents[i % 5], strlen(contents[i % 5]), 0);
			ftruncate(fd, i % 2 ? 64 : strlen(contents[i % 5]));
		}
	}
	while (within(&start, 1500))
		DOOMED(({ char *argv[] = {"program", NULL}; execve("/tmp/program", argv, argv); }));
	kill(writer, SIGKILL);
	waitpid(writer, NULL, 0);
	unlink("/tmp/program");
	alive();
}
