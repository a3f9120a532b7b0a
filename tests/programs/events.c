/* eventfd, timerfd, signalfd. */
#include "case.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static uint64_t take(int fd)
{
	uint64_t value = 0;
	expect_eq(read(fd, &value, 8), 8);
	return value;
}

static void give(int fd, uint64_t value)
{
	expect_eq(write(fd, &value, 8), 8);
}

CASE(eventfd_read_returns_the_sum_and_resets)
{
	int fd = expect_ok(eventfd(3, EFD_NONBLOCK));
	give(fd, 4);
	expect_eq(take(fd), 7);
	uint64_t value;
	expect_errno(read(fd, &value, 8), EAGAIN);
}

CASE(eventfd_semaphore_counts_down_by_one)
{
	int fd = expect_ok(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
	expect_eq(take(fd), 1);
	expect_eq(take(fd), 1);
	uint64_t value;
	expect_errno(read(fd, &value, 8), EAGAIN);
}

CASE(eventfd_short_buffer_is_einval)
{
	int fd = expect_ok(eventfd(1, EFD_NONBLOCK));
	uint64_t value = 1;
	expect_errno(read(fd, &value, 7), EINVAL);
	expect_errno(write(fd, &value, 4), EINVAL);
	expect_eq(take(fd), 1);
}

CASE(eventfd_maximum_value_is_einval_and_overflow_is_eagain)
{
	int fd = expect_ok(eventfd(0, EFD_NONBLOCK));
	uint64_t value = UINT64_MAX;
	expect_errno(write(fd, &value, 8), EINVAL);
	give(fd, UINT64_MAX - 1);
	value = 1;
	expect_errno(write(fd, &value, 8), EAGAIN);
	expect_eq(poll_one(fd, POLLIN | POLLOUT, 0).revents, POLLIN);
	expect_eq(take(fd), UINT64_MAX - 1);
}

CASE(eventfd_unknown_flag_is_einval)
{
	expect_errno(eventfd(0, 2), EINVAL);
}

CASE(eventfd_poll_states)
{
	int fd = expect_ok(eventfd(0, 0));
	expect_eq(poll_one(fd, POLLIN | POLLOUT, 0).revents, POLLOUT);
	give(fd, 1);
	expect_eq(poll_one(fd, POLLIN | POLLOUT, 0).revents, POLLIN | POLLOUT);
}

CASE(eventfd_read_blocks_until_written)
{
	int fd = expect_ok(eventfd(0, EFD_CLOEXEC));
	pid_t pid;
	SPAWN(pid) {
		sleep_ms(20);
		give(fd, 9);
	}
	expect_eq(take(fd), 9);
	expect_exit(pid, 0);
}

CASE(eventfd_write_of_zero_does_not_wake)
{
	int fd = expect_ok(eventfd(0, EFD_NONBLOCK));
	give(fd, 0);
	expect_eq(poll_one(fd, POLLIN, 0).revents, 0);
}

CASE(eventfd_seek_does_nothing)
{
	int fd = expect_ok(eventfd(0, 0));
	expect_eq(lseek(fd, 5, SEEK_SET), 0);
	expect_eq(lseek(fd, 0, SEEK_CUR), 0);
}

CASE(eventfd_is_named_in_proc)
{
	int fd = expect_ok(eventfd(0, 0));
	char path[64], target[64] = {0};
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	expect_ok(readlink(path, target, sizeof target - 1));
	expect_str(target, "anon_inode:[eventfd]");
}

static int timer_in(long first_ms, long every_ms)
{
	int fd = expect_ok(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	struct itimerspec spec = {{0, every_ms * MS}, {0, first_ms * MS}};
	expect_ok(timerfd_settime(fd, 0, &spec, NULL));
	return fd;
}

CASE(timerfd_expires_once)
{
	int fd = timer_in(10, 0);
	uint64_t value;
	expect_errno(read(fd, &value, 8), EAGAIN);
	expect_eq(poll_one(fd, POLLIN, 2000).revents, POLLIN);
	expect_eq(take(fd), 1);
	expect_errno(read(fd, &value, 8), EAGAIN);
	struct itimerspec now;
	expect_ok(timerfd_gettime(fd, &now));
	expect_eq(now.it_value.tv_sec + now.it_value.tv_nsec, 0);
}

CASE(timerfd_counts_missed_periods)
{
	int fd = timer_in(5, 5);
	sleep_ms(42);
	expect_between(take(fd), 7, 400);
}

CASE(timerfd_gettime_shows_the_remaining_time_and_period)
{
	int fd = timer_in(900, 300);
	struct itimerspec now;
	expect_ok(timerfd_gettime(fd, &now));
	expect_eq(now.it_interval.tv_nsec, 300 * MS);
	expect_between(now.it_value.tv_nsec, 100 * MS, 900 * MS);
}

CASE(timerfd_settime_returns_the_old_setting_and_zero_disarms)
{
	int fd = timer_in(900, 300);
	struct itimerspec off = {0}, old;
	expect_ok(timerfd_settime(fd, 0, &off, &old));
	expect_eq(old.it_interval.tv_nsec, 300 * MS);
	expect(old.it_value.tv_nsec > 0);
	expect_ok(timerfd_gettime(fd, &old));
	expect_eq(old.it_value.tv_sec + old.it_value.tv_nsec, 0);
}

CASE(timerfd_absolute_time_in_the_past_expires_at_once)
{
	int fd = expect_ok(timerfd_create(CLOCK_MONOTONIC, 0));
	struct itimerspec spec = {{0, 0}, {0, 1}};
	expect_ok(timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL));
	expect_eq(take(fd), 1);
}

CASE(timerfd_absolute_realtime_expires)
{
	int fd = expect_ok(timerfd_create(CLOCK_REALTIME, 0));
	long long at = now_ns(CLOCK_REALTIME) + 20 * MS;
	struct itimerspec spec = {{0, 0}, {at / 1000000000, at % 1000000000}};
	expect_ok(timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL));
	expect_eq(take(fd), 1);
	expect(now_ns(CLOCK_REALTIME) >= at);
}

CASE(timerfd_arguments_are_checked)
{
	expect_errno(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
	expect_errno(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
	int fd = timer_in(900, 0);
	struct itimerspec spec = {{0, 0}, {0, 1000000000}};
	expect_errno(timerfd_settime(fd, 0, &spec, NULL), EINVAL);
	spec.it_value.tv_nsec = 1;
	expect_errno(timerfd_settime(fd, 0x100, &spec, NULL), EINVAL);
	int other = expect_ok(eventfd(0, 0));
	expect_errno(timerfd_settime(other, 0, &spec, NULL), EINVAL);
	char small[4];
	expect_errno(read(fd, small, 4), EINVAL);
}

CASE(timerfd_blocking_read_waits)
{
	long long start = now_ns(CLOCK_MONOTONIC);
	int fd = timer_in(30, 0);
	expect_ok(fcntl(fd, F_SETFL, 0));
	expect_eq(take(fd), 1);
	expect(now_ns(CLOCK_MONOTONIC) - start >= 30 * MS);
}

static int signal_fd(int signal, int flags)
{
	block(signal);
	sigset_t set = set_of(signal);
	return expect_ok(signalfd(-1, &set, flags));
}

CASE(signalfd_read_returns_the_signal_and_sender)
{
	int fd = signal_fd(SIGUSR1, 0);
	expect_ok(kill(getpid(), SIGUSR1));
	struct signalfd_siginfo info;
	expect_eq(read(fd, &info, sizeof info), sizeof info);
	expect_eq(info.ssi_signo, SIGUSR1);
	expect_eq(info.ssi_code, SI_USER);
	expect_eq(info.ssi_pid, getpid());
	expect_eq(info.ssi_uid, getuid());
}

CASE(signalfd_without_signal_is_eagain)
{
	int fd = signal_fd(SIGUSR1, SFD_NONBLOCK);
	struct signalfd_siginfo info;
	expect_errno(read(fd, &info, sizeof info), EAGAIN);
	expect_errno(read(fd, &info, 10), EINVAL);
}

CASE(signalfd_read_takes_several_at_once)
{
	int fd = signal_fd(SIGRTMIN, SFD_NONBLOCK);
	for (int i = 0; i < 3; i++)
		expect_ok(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}));
	struct signalfd_siginfo infos[5];
	expect_eq(read(fd, infos, sizeof infos), 3 * sizeof infos[0]);
	for (int i = 0; i < 3; i++) {
		expect_eq(infos[i].ssi_int, i);
		expect_eq(infos[i].ssi_code, SI_QUEUE);
	}
}

CASE(signalfd_polls_readable_when_the_signal_is_pending)
{
	int fd = signal_fd(SIGUSR2, 0);
	expect_eq(poll_one(fd, POLLIN, 0).revents, 0);
	expect_ok(raise(SIGUSR2));
	expect_eq(poll_one(fd, POLLIN, 0).revents, POLLIN);
}

CASE(signalfd_mask_can_be_changed)
{
	int fd = signal_fd(SIGUSR1, SFD_NONBLOCK);
	block(SIGUSR2);
	sigset_t set = set_of(SIGUSR2);
	expect_eq(signalfd(fd, &set, 0), fd);
	expect_ok(raise(SIGUSR1));
	struct signalfd_siginfo info;
	expect_errno(read(fd, &info, sizeof info), EAGAIN);
	expect_ok(raise(SIGUSR2));
	expect_eq(read(fd, &info, sizeof info), sizeof info);
	expect_eq(info.ssi_signo, SIGUSR2);
}

CASE(signalfd_reports_child_exit)
{
	int fd = signal_fd(SIGCHLD, 0);
	pid_t pid;
	SPAWN(pid)
		_exit(5);
	struct signalfd_siginfo info;
	expect_eq(read(fd, &info, sizeof info), sizeof info);
	expect_eq(info.ssi_signo, SIGCHLD);
	expect_eq(info.ssi_code, CLD_EXITED);
	expect_eq(info.ssi_pid, pid);
	expect_eq(info.ssi_status, 5);
	expect_exit(pid, 5);
}

CASE(signalfd_arguments_are_checked)
{
	sigset_t set = set_of(SIGUSR1);
	expect_errno(signalfd(-1, &set, 1), EINVAL);
	expect_errno(signalfd(900, &set, 0), EBADF);
	expect_errno(signalfd(expect_ok(eventfd(0, 0)), &set, 0), EINVAL);
}

CASE(o_async_means_nothing_to_files_made_of_events)
{
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGIO);
	sigaddset(&mask, SIGRTMIN);
	expect_ok(sigprocmask(SIG_BLOCK, &mask, NULL));
	int on = 1, signals = expect_ok(signalfd(-1, &mask, SFD_NONBLOCK)), set = expect_ok(epoll_create1(0));
	struct epoll_event event = {.events = EPOLLIN};
	expect_ok(epoll_ctl(set, EPOLL_CTL_ADD, signals, &event));
	int fds[] = {signals, set, expect_ok(eventfd(0, 0)), expect_ok(timerfd_create(CLOCK_MONOTONIC, 0))};
	for (size_t n = 0; n < sizeof fds / sizeof *fds; n++) {
		expect_ok(fcntl(fds[n], F_SETOWN, getpid()));
		expect_ok(fcntl(fds[n], F_SETSIG, SIGRTMIN));
		expect_ok(fcntl(fds[n], F_SETFL, O_ASYNC | O_NONBLOCK));
		expect_eq(fcntl(fds[n], F_GETFL) & O_ASYNC, 0);
		expect_errno(ioctl(fds[n], FIOASYNC, &on), ENOTTY);
	}
	/* A signal that made the file ready would send one that does, and so on. */
	expect_ok(kill(getpid(), SIGUSR1));
	give(fds[2], 1);
	struct signalfd_siginfo info;
	expect_eq(read(signals, &info, sizeof info), sizeof info);
	expect_eq(info.ssi_signo, SIGUSR1);
	expect_errno(read(signals, &info, sizeof info), EAGAIN);
}
