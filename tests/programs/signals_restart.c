/* What an interrupted system call does: EINTR, or start again. */
#include "case.h"
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static volatile sig_atomic_t count;
static void on_signal(int signal UNUSED, siginfo_t *info UNUSED, void *context UNUSED)
{
	count++;
}

/* SIGALRM comes once after 20 ms (then `again` ms later too). */
static void interrupt_soon(int flags, int again)
{
	handle(SIGALRM, on_signal, flags);
	struct itimerval soon = {{0, again * 1000}, {0, 20000}};
	expect_ok(setitimer(ITIMER_REAL, &soon, NULL));
}

static int ends[2];

/* Someone else writes a byte after 60 ms. */
static pid_t write_later(int fd)
{
	pid_t pid;
	uint64_t one = 1;
	SPAWN(pid) {
		sleep_ms(60);
		expect_eq(write(fd, &one, 8), 8);
	}
	return pid;
}

CASE(pipe_read_without_restart_is_eintr)
{
	char byte;
	expect_ok(pipe(ends));
	interrupt_soon(0, 0);
	expect_errno(read(ends[0], &byte, 1), EINTR);
	expect_eq(count, 1);
}

CASE(pipe_read_with_restart_goes_on)
{
	uint64_t value;
	expect_ok(pipe(ends));
	pid_t pid = write_later(ends[1]);
	interrupt_soon(SA_RESTART, 0);
	expect_eq(read(ends[0], &value, 8), 8);
	expect_eq(count, 1);
	expect_exit(pid, 0);
}

CASE(pipe_write_without_restart_is_eintr_or_short)
{
	static char block[1 << 17];
	expect_ok(pipe(ends));
	interrupt_soon(0, 0);
	expect_eq(write(ends[1], block, sizeof block), 65536);
	interrupt_soon(0, 0);
	expect_errno(write(ends[1], block, 1), EINTR);
}

CASE(eventfd_read_with_restart_goes_on)
{
	uint64_t value;
	int fd = expect_ok(eventfd(0, 0));
	pid_t pid = write_later(fd);
	interrupt_soon(SA_RESTART, 0);
	expect_eq(read(fd, &value, 8), 8);
	expect_eq(count, 1);
	expect_exit(pid, 0);
}

CASE(eventfd_and_timerfd_read_without_restart_are_eintr)
{
	uint64_t value;
	interrupt_soon(0, 0);
	expect_errno(read(expect_ok(eventfd(0, 0)), &value, 8), EINTR);
	int fd = expect_ok(timerfd_create(CLOCK_MONOTONIC, 0));
	struct itimerspec far = {{0, 0}, {9, 0}};
	expect_ok(timerfd_settime(fd, 0, &far, NULL));
	interrupt_soon(0, 0);
	expect_errno(read(fd, &value, 8), EINTR);
}

CASE(wait_without_restart_is_eintr_and_with_restart_goes_on)
{
	pid_t pid;
	int status;
	SPAWN(pid)
		sleep_ms(100);
	interrupt_soon(0, 0);
	expect_errno(waitpid(pid, &status, 0), EINTR);
	interrupt_soon(SA_RESTART, 0);
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(count, 2);
}

CASE(accept_without_restart_is_eintr)
{
	int fd = expect_ok(socket(AF_UNIX, SOCK_STREAM, 0));
	struct sockaddr address = {.sa_family = AF_UNIX};
	expect_ok(bind(fd, &address, sizeof(sa_family_t)));
	expect_ok(listen(fd, 1));
	interrupt_soon(0, 0);
	expect_errno(accept(fd, NULL, NULL), EINTR);
}

CASE(recv_with_restart_goes_on_but_with_a_timeout_is_eintr)
{
	char buffer[8];
	int pair[2];
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid_t pid = write_later(pair[1]);
	interrupt_soon(SA_RESTART, 0);
	expect_eq(recv(pair[0], buffer, 8, 0), 8);
	expect_exit(pid, 0);
	struct timeval limit = {5, 0};
	expect_ok(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
	interrupt_soon(SA_RESTART, 0);
	expect_errno(recv(pair[0], buffer, 8, 0), EINTR);
	expect_eq(count, 2);
}

CASE(nanosleep_is_eintr_and_returns_the_rest)
{
	struct timespec wait = {2, 0}, rest = {0};
	interrupt_soon(SA_RESTART, 0);
	expect_errno(nanosleep(&wait, &rest), EINTR);
	expect_between(rest.tv_sec * 1000 + rest.tv_nsec / MS, 1000, 1981);
}

CASE(absolute_clock_nanosleep_is_eintr_and_leaves_the_rest)
{
	struct timespec rest = {77, 77}, at;
	expect_ok(clock_gettime(CLOCK_MONOTONIC, &at));
	at.tv_sec += 2;
	interrupt_soon(SA_RESTART, 0);
	expect_eq(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, &rest), EINTR);
	expect_eq(rest.tv_sec, 77);
}

CASE(epoll_wait_select_and_sleepers_are_eintr_even_with_restart)
{
	struct epoll_event event;
	int set = expect_ok(epoll_create1(0));
	interrupt_soon(SA_RESTART, 0);
	expect_errno(epoll_wait(set, &event, 1, 5000), EINTR);
	struct timeval wait = {5, 0};
	interrupt_soon(SA_RESTART, 0);
	expect_errno(select(0, NULL, NULL, NULL, &wait), EINTR);
}

CASE(futex_wait_without_timeout_restarts)
{
	int *word = map_shared(PAGE);
	pid_t pid;
	SPAWN(pid) {
		sleep_ms(60);
		*word = 1;
		expect_eq(syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
	}
	interrupt_soon(SA_RESTART, 0);
	expect_ok(syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0));
	expect_eq(count, 1);
	expect_exit(pid, 0);
}

CASE(futex_wait_without_restart_is_eintr)
{
	int word = 0;
	interrupt_soon(0, 0);
	expect_errno(syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0), EINTR);
}

CASE(ignored_signal_does_not_interrupt)
{
	uint64_t value;
	expect_ok(pipe(ends));
	pid_t pid = write_later(ends[1]);
	interrupt_soon(0, 0);
	signal(SIGALRM, SIG_IGN);
	expect_eq(read(ends[0], &value, 8), 8);
	expect_exit(pid, 0);
}

CASE(stop_and_continue_does_not_end_a_pipe_read)
{
	pid_t pid;
	uint64_t value = 5;
	expect_ok(pipe(ends));
	SPAWN(pid)
		expect_eq(read(ends[0], &value, 8), 8);
	wait_for_state(pid, 'S');
	expect_ok(kill(pid, SIGSTOP));
	wait_for_state(pid, 'T');
	expect_ok(kill(pid, SIGCONT));
	expect_eq(write(ends[1], &value, 8), 8);
	expect_exit(pid, 0);
}

CASE(stop_and_continue_does_not_shorten_nanosleep)
{
	pid_t pid;
	SPAWN(pid) {
		long long start = now_ns(CLOCK_MONOTONIC);
		struct timespec wait = {0, 150 * MS};
		expect_ok(nanosleep(&wait, NULL));
		expect(now_ns(CLOCK_MONOTONIC) - start >= 150 * MS);
	}
	wait_for_state(pid, 'S');
	expect_ok(kill(pid, SIGSTOP));
	wait_for_state(pid, 'T');
	expect_ok(kill(pid, SIGCONT));
	expect_exit(pid, 0);
}

CASE(many_interruptions_of_one_restarting_read)
{
	uint64_t value;
	expect_ok(pipe(ends));
	pid_t pid;
	SPAWN(pid) {
		sleep_ms(120);
		expect_eq(write(ends[1], &value, 8), 8);
	}
	interrupt_soon(SA_RESTART, 2);
	expect_eq(read(ends[0], &value, 8), 8);
	struct itimerval off = {0};
	expect_ok(setitimer(ITIMER_REAL, &off, NULL));
	expect(count > 5);
	expect_exit(pid, 0);
}

CASE(interrupted_inotify_read_is_eintr)
{
	char buffer[64];
	int fd = expect_ok(inotify_init1(0));
	interrupt_soon(0, 0);
	expect_errno(read(fd, buffer, sizeof buffer), EINTR);
}

CASE(nanosleep_goes_on_with_the_rest_it_returned)
{
	struct timespec wait = {0, 50 * MS}, rest;
	long long start = now_ns(CLOCK_MONOTONIC);
	interrupt_soon(0, 0);
	expect_errno(nanosleep(&wait, &rest), EINTR);
	expect_ok(nanosleep(&rest, NULL));
	expect(now_ns(CLOCK_MONOTONIC) - start >= 50 * MS);
}
