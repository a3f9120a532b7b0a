/*
 * What this host charges for the steps that a call from a sandbox is made of, whoever makes them: the floors of
 * docs/performance.md. Microseconds, medians of several rounds. Build and run:
 *
 *     cc -O2 -o floors benches/floors.c && taskset -c 0 ./floors && ./floors
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS _IOW('!', 4, unsigned long long)
#endif
#define ROUNDS 9
#define CALLS 20000
#define PAGES 256

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void report(const char *what, double (*round)(void))
{
	double results[ROUNDS];
	for (int n = 0; n < ROUNDS; n++)
		results[n] = round();
	qsort(results, ROUNDS, sizeof *results, order);
	printf("%-44s %8.2f\n", what, results[ROUNDS / 2]);
}

static double system_call(void)
{
	double start = now();
	for (int n = 0; n < CALLS; n++)
		syscall(SYS_getppid);
	return (now() - start) / CALLS;
}

/* Two processes hand a byte to and fro: two switches and four calls. */
static double pipe_round(void)
{
	int there[2], back[2];
	char byte = 0;
	if (pipe(there) || pipe(back))
		exit(1);
	pid_t child = fork();
	if (!child) {
		close(there[1]);
		while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
			;
		_exit(0);
	}
	double start = now();
	for (int n = 0; n < CALLS / 4; n++)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			exit(1);
	double took = (now() - start) / (CALLS / 4);
	close(there[1]);
	waitpid(child, NULL, 0);
	close(there[0]), close(back[0]), close(back[1]);
	return took;
}

/* getppid of another process, answered here by a notification: nothing but the way there and back. */
static double notification(void)
{
	int ends[2];
	double took = 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
		exit(1);
	pid_t child = fork();
	if (!child) {
		struct sock_filter code[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog program = {sizeof code / sizeof *code, code};
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
		char room[CMSG_SPACE(sizeof listener)] = {0}, go;
		struct iovec data = {&listener, sizeof listener};
		struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
		struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_level = SOL_SOCKET, rights->cmsg_type = SCM_RIGHTS, rights->cmsg_len = CMSG_LEN(sizeof listener);
		memcpy(CMSG_DATA(rights), &listener, sizeof listener);
		if (listener < 0 || sendmsg(ends[1], &message, 0) < 0 || read(ends[1], &go, 1) != 1)
			_exit(1);
		double start = now();
		for (int n = 0; n < CALLS; n++)
			syscall(SYS_getppid);
		took = (now() - start) / CALLS;
		_exit(write(ends[1], &took, sizeof took) != sizeof took);
	}
	int number, listener;
	char room[CMSG_SPACE(sizeof listener)];
	struct iovec data = {&number, sizeof number};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
	if (recvmsg(ends[0], &message, 0) < 0 || !CMSG_FIRSTHDR(&message))
		exit(1);
	memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof listener);
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1ULL); /* wake the other side here; Linux 6.6 */
	if (write(ends[0], "", 1) != 1)
		exit(1);
	for (int n = 0; n < CALLS; n++) {
		struct seccomp_notif call = {0};
		struct seccomp_notif_resp answer = {0};
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
			exit(1);
		answer.id = call.id;
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer))
			exit(1);
	}
	if (read(ends[0], &took, sizeof took) != sizeof took)
		exit(1);
	waitpid(child, NULL, 0);
	close(listener), close(ends[0]), close(ends[1]);
	return took;
}

static char *memory(int fd)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	char *at = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (at == MAP_FAILED)
		exit(1);
	return at;
}

static double touch(int fd)
{
	char *at = memory(fd);
	double start = now();
	for (int n = 0; n < PAGES; n++)
		at[n * 4096L] = 1;
	double took = (now() - start) / PAGES;
	munmap(at, PAGES * 4096);
	return took;
}

static double anonymous_fault(void) { return touch(-1); }

/* As in a sandbox, whose memory other processes can map. */
static double memfd_fault(void)
{
	int fd = memfd_create("floors", 0);
	if (fd < 0 || ftruncate(fd, PAGES * 4096))
		exit(1);
	double took = touch(fd);
	close(fd);
	return took;
}

static double mprotect_call(void)
{
	char *at = memory(-1);
	memset(at, 1, PAGES * 4096);
	double start = now();
	for (int n = 0; n < CALLS; n++)
		mprotect(at + 16 * 4096, 4096, n % 2 ? PROT_READ | PROT_WRITE : PROT_READ);
	double took = (now() - start) / CALLS;
	munmap(at, PAGES * 4096);
	return took;
}

static volatile char *guarded;
static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info, (void)context;
	mprotect((char *)guarded, 4096, PROT_READ | PROT_WRITE);
}

/* A fault, its handler, which gives access, and access taken away again. */
static double fault_signal(void)
{
	guarded = memory(-1);
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &action, NULL);
	double start = now();
	for (int n = 0; n < CALLS / 4; n++) {
		mprotect((char *)guarded, 4096, PROT_READ);
		*guarded = 1;
	}
	double took = (now() - start) / (CALLS / 4);
	munmap((char *)guarded, PAGES * 4096);
	return took;
}

int main(void)
{
	cpu_set_t set;
	sched_getaffinity(0, sizeof set, &set);
	printf("%d processors; microseconds\n", CPU_COUNT(&set));
	report("system call", system_call);
	report("two switches between processes, by pipes", pipe_round);
	report("seccomp notification, there and back", notification);
	report("first write to an anonymous page", anonymous_fault);
	report("first write to a page of a memfd", memfd_fault);
	report("mprotect of a page", mprotect_call);
	report("SIGSEGV, mprotect in its handler, mprotect", fault_signal);
	return 0;
}
