/* epoll. */
#include "case.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static int set, ends[2];

static void start(void)
{
	set = expect_ok(epoll_create1(EPOLL_CLOEXEC));
	expect_ok(pipe(ends));
}

static int control(int op, int fd, uint32_t events)
{
	struct epoll_event event = {events, {.fd = fd}};
	return epoll_ctl(set, op, fd, &event);
}

/* The mask of the one event there is, or 0. */
static uint32_t wait_one(int timeout)
{
	struct epoll_event event = {0};
	int count = expect_ok(epoll_wait(set, &event, 1, timeout));
	return count ? event.events : 0;
}

static void put(void)
{
	expect_eq(write(ends[1], "x", 1), 1);
}

static void take(void)
{
	char byte;
	expect_eq(read(ends[0], &byte, 1), 1);
}

CASE(level_triggered_reports_until_read)
{
	start();
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN));
	expect_eq(wait_one(0), 0);
	put();
	expect_eq(wait_one(0), EPOLLIN);
	expect_eq(wait_one(0), EPOLLIN);
	take();
	expect_eq(wait_one(0), 0);
}

CASE(edge_triggered_reports_once_for_each_arrival)
{
	start();
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN | EPOLLET));
	put();
	expect_eq(wait_one(0), EPOLLIN);
	expect_eq(wait_one(0), 0);
	put();
	expect_eq(wait_one(0), EPOLLIN);
	expect_eq(wait_one(0), 0);
}

CASE(edge_triggered_reports_what_was_there_before_adding)
{
	start();
	put();
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN | EPOLLET));
	expect_eq(wait_one(0), EPOLLIN);
	expect_eq(wait_one(0), 0);
	expect_ok(control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLET));
	expect_eq(wait_one(0), EPOLLIN);
}

CASE(oneshot_is_silent_until_armed_again)
{
	start();
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN | EPOLLONESHOT));
	put();
	expect_eq(wait_one(0), EPOLLIN);
	put();
	expect_eq(wait_one(0), 0);
	expect_ok(control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT));
	expect_eq(wait_one(0), EPOLLIN);
}

CASE(hangup_and_error_are_reported_unasked)
{
	start();
	expect_ok(control(EPOLL_CTL_ADD, ends[0], 0));
	put();
	expect_eq(wait_one(0), 0);
	expect_ok(close(ends[1]));
	expect_eq(wait_one(0), EPOLLHUP);
	start();
	expect_ok(control(EPOLL_CTL_ADD, ends[1], EPOLLOUT));
	expect_ok(close(ends[0]));
	expect_eq(wait_one(0), EPOLLOUT | EPOLLERR);
}

CASE(rdhup_is_reported_when_asked)
{
	int pair[2];
	start();
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	expect_ok(control(EPOLL_CTL_ADD, pair[0], EPOLLIN | EPOLLRDHUP));
	expect_ok(shutdown(pair[1], SHUT_WR));
	expect_eq(wait_one(0), EPOLLIN | EPOLLRDHUP);
}

CASE(control_errors)
{
	start();
	expect_errno(control(EPOLL_CTL_MOD, ends[0], EPOLLIN), ENOENT);
	expect_errno(control(EPOLL_CTL_DEL, ends[0], 0), ENOENT);
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN));
	expect_errno(control(EPOLL_CTL_ADD, ends[0], EPOLLIN), EEXIST);
	expect_errno(control(EPOLL_CTL_ADD, 900, EPOLLIN), EBADF);
	expect_errno(control(99, ends[0], EPOLLIN), EINVAL);
	expect_errno(control(EPOLL_CTL_ADD, set, EPOLLIN), EINVAL);
	struct epoll_event event = {0};
	expect_errno(epoll_ctl(ends[0], EPOLL_CTL_ADD, ends[1], &event), EINVAL);
	expect_errno(epoll_ctl(set, EPOLL_CTL_ADD, ends[1], (void *)8), EFAULT);
	expect_ok(epoll_ctl(set, EPOLL_CTL_DEL, ends[0], NULL));
}

IN_DIR_CASE(regular_files_and_directories_are_eperm)
{
	start();
	write_file("f", "");
	expect_errno(control(EPOLL_CTL_ADD, expect_ok(open("f", O_RDONLY)), EPOLLIN), EPERM);
	expect_errno(control(EPOLL_CTL_ADD, expect_ok(open(".", O_RDONLY)), EPOLLIN), EPERM);
}

CASE(wait_checks_its_arguments)
{
	struct epoll_event event;
	start();
	expect_errno(epoll_wait(set, &event, 0, 0), EINVAL);
	expect_errno(epoll_wait(set, &event, -1, 0), EINVAL);
	expect_errno(epoll_wait(ends[0], &event, 1, 0), EINVAL);
	expect_errno(epoll_wait(900, &event, 1, 0), EBADF);
	expect_errno(epoll_create(0), EINVAL);
	expect_errno(epoll_create1(1), EINVAL);
	put();
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN));
	expect_errno(epoll_wait(set, (void *)8, 1, 0), EFAULT);
}

CASE(data_comes_back_as_given)
{
	struct epoll_event event = {EPOLLIN, {.u64 = 0x1122334455667788}}, got;
	start();
	expect_ok(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event));
	put();
	expect_eq(epoll_wait(set, &got, 1, 0), 1);
	expect_eq(got.data.u64, 0x1122334455667788);
}

CASE(timeout_elapses)
{
	start();
	long long begin = now_ns(CLOCK_MONOTONIC);
	expect_eq(wait_one(30), 0);
	expect(now_ns(CLOCK_MONOTONIC) - begin >= 30 * MS);
}

CASE(wait_wakes_on_an_event_from_another_process)
{
	start();
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN));
	pid_t pid;
	SPAWN(pid) {
		sleep_ms(20);
		put();
	}
	expect_eq(wait_one(5000), EPOLLIN);
	expect_exit(pid, 0);
}

CASE(adding_a_ready_descriptor_wakes_a_waiter)
{
	start();
	put();
	pid_t pid;
	SPAWN(pid) {
		sleep_ms(20);
		expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN));
	}
	expect_eq(wait_one(5000), EPOLLIN);
	expect_exit(pid, 0);
}

CASE(ready_descriptors_take_turns)
{
	start();
	int fds[4];
	for (int i = 0; i < 4; i++) {
		fds[i] = expect_ok(eventfd(1, 0));
		expect_ok(control(EPOLL_CTL_ADD, fds[i], EPOLLIN));
	}
	int seen[4] = {0};
	for (int round = 0; round < 2; round++) {
		struct epoll_event events[2];
		expect_eq(epoll_wait(set, events, 2, 0), 2);
		for (int k = 0; k < 2; k++)
			for (int i = 0; i < 4; i++)
				seen[i] += events[k].data.fd == fds[i];
	}
	for (int i = 0; i < 4; i++)
		expect_eq(seen[i], 1);
}

CASE(nested_sets_report_upwards)
{
	start();
	int outer = expect_ok(epoll_create1(0));
	struct epoll_event event = {EPOLLIN, {.fd = set}};
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN));
	expect_ok(epoll_ctl(outer, EPOLL_CTL_ADD, set, &event));
	expect_eq(epoll_wait(outer, &event, 1, 0), 0);
	put();
	expect_eq(epoll_wait(outer, &event, 1, 0), 1);
	expect_eq(event.data.fd, set);
	expect_eq(poll_one(outer, POLLIN, 0).revents, POLLIN);
	take();
	expect_eq(epoll_wait(outer, &event, 1, 0), 0);
}

CASE(nesting_in_a_loop_is_eloop)
{
	start();
	int other = expect_ok(epoll_create1(0));
	struct epoll_event event = {EPOLLIN, {0}};
	expect_ok(epoll_ctl(set, EPOLL_CTL_ADD, other, &event));
	expect_errno(epoll_ctl(other, EPOLL_CTL_ADD, set, &event), ELOOP);
}

CASE(nesting_deeper_than_five_is_einval)
{
	int sets[8];
	struct epoll_event event = {EPOLLIN, {0}};
	sets[0] = expect_ok(epoll_create1(0));
	int depth = 1;
	for (; depth < 8; depth++) {
		sets[depth] = expect_ok(epoll_create1(0));
		if (epoll_ctl(sets[depth], EPOLL_CTL_ADD, sets[depth - 1], &event) == -1)
			break;
	}
	expect(errno == ELOOP || errno == EINVAL);
	expect_between(depth, 5, 6);
}

CASE(closing_the_last_descriptor_removes_it)
{
	start();
	int copy = expect_ok(dup(ends[0]));
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN));
	put();
	expect_ok(close(ends[0]));
	/* The open file lives on through the copy. */
	expect_eq(wait_one(0), EPOLLIN);
	expect_ok(close(copy));
	expect_eq(wait_one(0), 0);
}

CASE(duplicates_of_one_open_file_are_separate_entries)
{
	start();
	int copy = expect_ok(dup(ends[0]));
	struct epoll_event events[4];
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN));
	expect_ok(control(EPOLL_CTL_ADD, copy, EPOLLIN));
	put();
	expect_eq(epoll_wait(set, events, 4, 0), 2);
}

static void *wait_thread(void *answer)
{
	struct epoll_event event;
	*(int *)answer = epoll_wait(set, &event, 1, 200);
	return NULL;
}

CASE(exclusive_wakes_at_least_one_and_cannot_be_modified)
{
	start();
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN | EPOLLEXCLUSIVE));
	expect_errno(control(EPOLL_CTL_MOD, ends[0], EPOLLIN), EINVAL);
	expect_errno(control(EPOLL_CTL_ADD, ends[1], EPOLLOUT | EPOLLEXCLUSIVE | EPOLLONESHOT), EINVAL);
	put();
	expect_eq(wait_one(0), EPOLLIN);
}

#define EXCLUSIVE_SETS 6

static void *wait_in_own_set(void *answer)
{
	struct epoll_event event;
	*(int *)answer = epoll_wait(*(int *)answer, &event, 1, 1000);
	return NULL;
}

CASE(exclusive_item_of_many_sets_wakes_one_that_is_waited_for)
{
	pthread_t threads[EXCLUSIVE_SETS];
	int answers[EXCLUSIVE_SETS], woken = 0;
	struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLET};
	start();
	/* Nobody waits for the first set. */
	int lonely = expect_ok(epoll_create1(0));
	expect_ok(epoll_ctl(lonely, EPOLL_CTL_ADD, ends[0], &event));
	/* What is waited for in this one does not come. */
	int deaf = expect_ok(epoll_create1(0));
	pthread_t deaf_thread;
	struct epoll_event other = {.events = EPOLLOUT | EPOLLEXCLUSIVE};
	expect_ok(epoll_ctl(deaf, EPOLL_CTL_ADD, ends[0], &other));
	expect_eq(pthread_create(&deaf_thread, NULL, wait_in_own_set, &deaf), 0);
	for (int i = 0; i < EXCLUSIVE_SETS; i++) {
		answers[i] = expect_ok(epoll_create1(0));
		expect_ok(epoll_ctl(answers[i], EPOLL_CTL_ADD, ends[0], &event));
		expect_eq(pthread_create(&threads[i], NULL, wait_in_own_set, &answers[i]), 0);
	}
	usleep(200 * 1000);
	put();
	for (int i = 0; i < EXCLUSIVE_SETS; i++) {
		pthread_join(threads[i], NULL);
		woken += answers[i];
	}
	pthread_join(deaf_thread, NULL);
	expect_eq(woken, 1);
	expect_eq(deaf, 0);
	expect_eq(epoll_wait(lonely, &event, 1, 0), 1);
}

CASE(edge_triggered_wakes_only_one_of_two_waiting_threads)
{
	pthread_t threads[2];
	int answers[2];
	start();
	expect_ok(control(EPOLL_CTL_ADD, ends[0], EPOLLIN | EPOLLET));
	for (int i = 0; i < 2; i++)
		expect_zero(pthread_create(&threads[i], NULL, wait_thread, &answers[i]));
	sleep_ms(30);
	put();
	for (int i = 0; i < 2; i++)
		expect_zero(pthread_join(threads[i], NULL));
	expect_eq(answers[0] + answers[1], 1);
}

static void on_signal(int signal UNUSED, siginfo_t *info UNUSED, void *context UNUSED)
{
}

CASE(pwait_lets_the_signal_in_while_waiting)
{
	struct epoll_event event;
	start();
	handle(SIGUSR1, on_signal, 0);
	block(SIGUSR1);
	expect_ok(raise(SIGUSR1));
	expect_eq(wait_one(0), 0);
	sigset_t none = set_of(0), now;
	expect_errno(epoll_pwait(set, &event, 1, 5000, &none), EINTR);
	expect_ok(sigprocmask(SIG_BLOCK, NULL, &now));
	expect(sigismember(&now, SIGUSR1));
}

CASE(pwait2_takes_nanoseconds)
{
	struct epoll_event event;
	struct timespec wait = {0, 20 * MS};
	start();
	long long begin = now_ns(CLOCK_MONOTONIC);
	expect_eq(epoll_pwait2(set, &event, 1, &wait, NULL), 0);
	expect(now_ns(CLOCK_MONOTONIC) - begin >= 20 * MS);
	wait.tv_nsec = 1000000000;
	expect_errno(epoll_pwait2(set, &event, 1, &wait, NULL), EINVAL);
}
