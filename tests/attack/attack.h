/* What the attacks share. A program here knows how Lazaret is built (platform/src/stub/layout.rs) and tries to get out.
 * The harness looks on the host afterwards: a case passes when it ends with 0, and neither the hidden directory
 * nor the sentinel process was touched, nor its secret told. */
#ifndef ATTACK_H
#define ATTACK_H

/* Attacks are many attempts each, and the host may be busy: the harness waits for 30. */
#define LIMIT_SECONDS 25
#include "../programs/case.h"
#include <sys/uio.h>
#include <ucontext.h>

/* platform/src/stub/layout.rs */
#define USER_END 0x7fff00000000UL
#define SLOTS 0x7fff40000000UL
#define SLOT_SIZE (32UL << 10)
#define ANSWERS 0x7fffe0000000UL
#define TEXT 0x7ffff0000000UL
#define CONST 0x7ffff0010000UL
#define ZYGOTE 0x7ffff0020000UL
#define COMMAND 0x7ffff0030000UL
#define HOST_VDSO 0x7ffff0100000UL

/* A directory of the host which the sandbox does not show; one that it may write; a process of the host. */
static UNUSED const char *hidden(void) { return getenv("HIDDEN"); }
static UNUSED const char *shared(void) { return getenv("SHARED"); }
static UNUSED pid_t sentinel(void) { return atoi(getenv("SENTINEL")); }

static UNUSED void on_fault(int signal) { (void)signal; _exit(99); }

/* Runs `body` in a process of its own that may die as it likes, for a fifth of a second at most. */
#define DOOMED(body) \
	({ \
		pid_t doomed_ = expect_ok(fork()); \
		if (doomed_ == 0) { \
			ualarm(200000, 0); \
			body; \
			_exit(0); \
		} \
		int ended_; \
		pid_t waited_; \
		do \
			waited_ = waitpid(doomed_, &ended_, 0); \
		while (waited_ < 0 && errno == EINTR); \
		expect_eq(waited_, doomed_); \
		ended_; \
	})

/* Can a process read at `address`, or write? Calls know of guest memory only, so it is tried. Of a slot, a thread's own or its
 * siblings' would be meant: that has to be tried by the process itself. */
static UNUSED bool readable(unsigned long address)
{
	return DOOMED(({ signal(SIGSEGV, on_fault); signal(SIGBUS, on_fault);
			 *(volatile char *)address; })) == 0;
}
static UNUSED bool writable(unsigned long address)
{
	return DOOMED(({ signal(SIGSEGV, on_fault); signal(SIGBUS, on_fault);
			 *(volatile char *)address = 0; })) == 0;
}

/* The sandbox still works. */
static UNUSED void alive(void)
{
	pid_t pid;
	SPAWN(pid) { _exit(3); }
	int status;
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(status, 3 << 8);
	int fd = expect_ok(open("/etc/passwd", O_RDONLY));
	char byte;
	expect_eq(read(fd, &byte, 1), 1);
	close(fd);
}

#endif
