/* poll, ppoll, select, pselect. */
#include "case.h"
#include <sys/select.h>

static int ends[2];

static void put(void)
{
	expect_eq(write(ends[1], "x", 1), 1);
}

static void on_signal(int signal UNUSED, siginfo_t *info UNUSED, void *context UNUSED)
{
}

CASE(poll_counts_entries_with_events)
{
	expect_ok(pipe(ends));
	struct pollfd entries[] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}, {-1, POLLIN, 7}};
	expect_eq(poll(entries, 3, 0), 1);
	expect_eq(entries[0].revents, 0);
	expect_eq(entries[1].revents, POLLOUT);
	expect_eq(entries[2].revents, 0);
	put();
	expect_eq(poll(entries, 3, -1), 2);
	expect_eq(entries[0].revents, POLLIN);
}

CASE(poll_of_closed_descriptor_is_pollnval)
{
	struct pollfd entry = {900, POLLIN, 0};
	expect_eq(poll(&entry, 1, -1), 1);
	expect_eq(entry.revents, POLLNVAL);
}

IN_DIR_CASE(regular_files_are_always_ready)
{
	write_file("f", "");
	int fd = expect_ok(open("f", O_RDWR));
	expect_eq(poll_one(fd, POLLIN | POLLOUT, -1).revents, POLLIN | POLLOUT);
}

CASE(poll_without_entries_sleeps)
{
	long long begin = now_ns(CLOCK_MONOTONIC);
	expect_eq(poll(NULL, 0, 30), 0);
	expect(now_ns(CLOCK_MONOTONIC) - begin >= 30 * MS);
}

CASE(poll_errors)
{
	struct rlimit limit;
	struct timespec bad = {0, 1000000000};
	expect_ok(getrlimit(RLIMIT_NOFILE, &limit));
	expect_errno(poll((void *)8, 1, 0), EFAULT);
	expect_errno(poll((void *)8, limit.rlim_cur + 1, 0), EINVAL);
	expect_errno(ppoll(NULL, 0, &bad, NULL), EINVAL);
}

CASE(poll_interrupted_by_a_handler_is_eintr_even_with_sa_restart)
{
	handle(SIGALRM, on_signal, SA_RESTART);
	struct itimerval soon = {{0, 0}, {0, 30000}};
	expect_ok(setitimer(ITIMER_REAL, &soon, NULL));
	expect_errno(poll(NULL, 0, 5000), EINTR);
}

CASE(ppoll_swaps_the_mask_and_updates_the_raw_timeout)
{
	struct timespec wait = {5, 0};
	sigset_t none = set_of(0);
	handle(SIGUSR1, on_signal, 0);
	block(SIGUSR1);
	expect_ok(raise(SIGUSR1));
	expect_errno(syscall(SYS_ppoll, NULL, 0, &wait, &none, 8), EINTR);
	expect_between(wait.tv_sec, 3, 4);
	expect_errno(syscall(SYS_ppoll, NULL, 0, &wait, &none, 4), EINVAL);
}

CASE(poll_wakes_when_a_peer_closes)
{
	expect_ok(pipe(ends));
	pid_t pid;
	SPAWN(pid)
		sleep_ms(20);
	expect_ok(close(ends[1]));
	expect_eq(poll_one(ends[0], POLLIN, 5000).revents, POLLHUP);
	expect_exit(pid, 0);
}

CASE(select_leaves_only_ready_descriptors)
{
	fd_set readable, writable;
	struct timeval wait = {0, 0};
	expect_ok(pipe(ends));
	FD_ZERO(&readable);
	FD_ZERO(&writable);
	FD_SET(ends[0], &readable);
	FD_SET(ends[1], &writable);
	expect_eq(select(ends[1] + 1, &readable, &writable, NULL, &wait), 1);
	expect(!FD_ISSET(ends[0], &readable));
	expect(FD_ISSET(ends[1], &writable));
	put();
	FD_SET(ends[0], &readable);
	expect_eq(select(ends[1] + 1, &readable, &writable, NULL, NULL), 2);
}

CASE(select_counts_a_descriptor_once_for_each_set)
{
	fd_set a, b;
	int fd = expect_ok(open("/dev/null", O_RDWR));
	FD_ZERO(&a);
	FD_SET(fd, &a);
	b = a;
	expect_eq(select(fd + 1, &a, &b, NULL, NULL), 2);
}

CASE(select_of_closed_descriptor_is_ebadf)
{
	fd_set readable;
	FD_ZERO(&readable);
	int closed = expect_ok(dup(0));
	expect_ok(close(closed));
	FD_SET(closed, &readable);
	struct timeval wait = {0, 0};
	expect_errno(select(closed + 1, &readable, NULL, NULL, &wait), EBADF);
	expect_errno(select(-1, NULL, NULL, NULL, &wait), EINVAL);
	wait.tv_sec = -1;
	expect_errno(select(0, NULL, NULL, NULL, &wait), EINVAL);
}

CASE(select_end_of_file_is_readable)
{
	fd_set readable;
	struct timeval wait = {1, 0};
	expect_ok(pipe(ends));
	expect_ok(close(ends[1]));
	FD_ZERO(&readable);
	FD_SET(ends[0], &readable);
	expect_eq(select(ends[0] + 1, &readable, NULL, NULL, &wait), 1);
}

CASE(select_writes_back_the_remaining_time)
{
	struct timeval wait = {5, 0};
	fd_set readable;
	expect_ok(pipe(ends));
	put();
	FD_ZERO(&readable);
	FD_SET(ends[0], &readable);
	expect_eq(select(ends[0] + 1, &readable, NULL, NULL, &wait), 1);
	expect_between(wait.tv_sec * 1000000 + wait.tv_usec, 4000000, 5000000);
	wait = (struct timeval){0, 20000};
	FD_ZERO(&readable);
	expect_eq(select(0, NULL, NULL, NULL, &wait), 0);
	expect_eq(wait.tv_usec, 0);
}

CASE(pselect_lets_the_signal_in)
{
	sigset_t none = set_of(0);
	struct timespec wait = {5, 0};
	handle(SIGUSR1, on_signal, 0);
	block(SIGUSR1);
	expect_ok(raise(SIGUSR1));
	expect_errno(pselect(0, NULL, NULL, NULL, &wait, &none), EINTR);
	expect_eq(wait.tv_sec, 5);
}

CASE(poll_leaves_events_as_they_were)
{
	expect_ok(pipe(ends));
	struct pollfd entry = {ends[0], POLLIN | POLLPRI, 0x7fff};
	expect_eq(poll(&entry, 1, 0), 0);
	expect_eq(entry.events, POLLIN | POLLPRI);
	expect_eq(entry.revents, 0);
	expect_eq(entry.fd, ends[0]);
}
