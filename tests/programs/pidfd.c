/* Process file descriptors. */
#include "case.h"
#include <sys/eventfd.h>

static int pidfd_open_(pid_t pid, unsigned flags)
{
	return syscall(SYS_pidfd_open, pid, flags);
}

static int send(int pidfd, int signal, siginfo_t *info, unsigned flags)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signal, info, flags);
}

static int getfd(int pidfd, int fd, unsigned flags)
{
	return syscall(SYS_pidfd_getfd, pidfd, fd, flags);
}

static pid_t pauser(void)
{
	pid_t pid;
	SPAWN(pid)
		for (;;)
			pause();
	return pid;
}

CASE(open_is_close_on_exec_and_checks_its_arguments)
{
	int fd = expect_ok(pidfd_open_(getpid(), 0));
	expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	expect_errno(pidfd_open_(getpid(), 1), EINVAL);
	expect_errno(pidfd_open_(0, 0), EINVAL);
	expect_errno(pidfd_open_(-1, 0), EINVAL);
}

CASE(open_of_a_reaped_process_is_esrch)
{
	pid_t pid;
	SPAWN(pid)
		_exit(0);
	wait_for_state(pid, 'Z');
	expect_ok(pidfd_open_(pid, 0));
	expect_exit(pid, 0);
	expect_errno(pidfd_open_(pid, 0), ESRCH);
}

CASE(polls_readable_once_the_process_has_exited)
{
	pid_t pid = pauser();
	int fd = expect_ok(pidfd_open_(pid, 0));
	expect_eq(poll_one(fd, POLLIN, 0).revents, 0);
	expect_ok(kill(pid, SIGKILL));
	expect_eq(poll_one(fd, POLLIN, 5000).revents & POLLIN, POLLIN);
	expect_killed(pid, SIGKILL);
}

CASE(send_signal_reaches_the_process)
{
	pid_t pid = pauser();
	int fd = expect_ok(pidfd_open_(pid, 0));
	expect_ok(send(fd, 0, NULL, 0));
	expect_ok(send(fd, SIGTERM, NULL, 0));
	expect_killed(pid, SIGTERM);
	expect_errno(send(fd, SIGTERM, NULL, 0), ESRCH);
}

CASE(send_signal_takes_the_directory_of_a_process)
{
	char path[64];
	pid_t pid = pauser();
	snprintf(path, sizeof path, "/proc/%d", pid);
	int fd = expect_ok(open(path, O_RDONLY | O_DIRECTORY));
	expect_ok(send(fd, 0, NULL, 0));
	expect_ok(send(fd, SIGTERM, NULL, 0));
	expect_killed(pid, SIGTERM);
	expect_errno(send(fd, SIGTERM, NULL, 0), ESRCH);
	expect_errno(send(expect_ok(open("/proc/self/task", O_RDONLY)), 0, NULL, 0), EBADF);
	expect_errno(send(expect_ok(open("/proc", O_RDONLY)), 0, NULL, 0), EBADF);
}

CASE(send_signal_checks_its_arguments)
{
	int fd = expect_ok(pidfd_open_(getpid(), 0));
	expect_errno(send(fd, 100, NULL, 0), EINVAL);
	expect_errno(send(fd, 0, NULL, 0x100), EINVAL);
	expect_errno(send(0x3fff, 0, NULL, 0), EBADF);
	expect_errno(send(expect_ok(eventfd(0, 0)), 0, NULL, 0), EBADF);
	siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
	expect_errno(send(fd, SIGUSR2, &info, 0), EINVAL);
}

CASE(send_signal_carries_siginfo)
{
	block(SIGUSR1);
	int fd = expect_ok(pidfd_open_(getpid(), 0));
	siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE}, got;
	info.si_value.sival_int = 1234;
	expect_ok(send(fd, SIGUSR1, &info, 0));
	sigset_t set = set_of(SIGUSR1);
	expect_eq(sigwaitinfo(&set, &got), SIGUSR1);
	expect_eq(got.si_value.sival_int, 1234);
	expect_eq(got.si_code, SI_QUEUE);
}

CASE(waitid_takes_a_pidfd)
{
	pid_t pid;
	siginfo_t info;
	SPAWN(pid)
		_exit(21);
	int fd = expect_ok(pidfd_open_(pid, 0));
	expect_ok(waitid(P_PIDFD, fd, &info, WEXITED));
	expect_eq(info.si_pid, pid);
	expect_eq(info.si_status, 21);
	expect_errno(waitid(P_PIDFD, fd, &info, WEXITED), ECHILD);
	expect_errno(waitid(P_PIDFD, 0x3fff, &info, WEXITED), EBADF);
}

CASE(nonblocking_pidfd_makes_waitid_eagain)
{
	siginfo_t info;
	pid_t pid = pauser();
	int fd = expect_ok(pidfd_open_(pid, O_NONBLOCK));
	expect_errno(waitid(P_PIDFD, fd, &info, WEXITED), EAGAIN);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(getfd_takes_a_descriptor_of_a_child)
{
	int ready[2];
	char byte;
	uint64_t value;
	expect_ok(pipe(ready));
	pid_t pid;
	SPAWN(pid) {
		expect_eq(dup2(expect_ok(eventfd(17, 0)), 200), 200);
		expect_eq(write(ready[1], "x", 1), 1);
		pause();
	}
	expect_eq(read(ready[0], &byte, 1), 1);
	int fd = expect_ok(pidfd_open_(pid, 0));
	int copy = getfd(fd, 200, 0);
	if (copy == -1 && errno == EPERM)
		skip("ptrace access is restricted here");
	expect_ok(copy);
	expect_eq(fcntl(copy, F_GETFD), FD_CLOEXEC);
	expect_eq(read(copy, &value, 8), 8);
	expect_eq(value, 17);
	expect_errno(getfd(fd, 201, 0), EBADF);
	expect_errno(getfd(fd, 200, 1), EINVAL);
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(fdinfo_shows_the_pid)
{
	char path[64], want[64];
	int fd = expect_ok(pidfd_open_(getpid(), 0));
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	snprintf(want, sizeof want, "Pid:\t%d\n", getpid());
	expect(strstr(read_file(path), want));
}
