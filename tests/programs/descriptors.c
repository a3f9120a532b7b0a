/* dup, fcntl, close-on-exec, close_range. */
#include "case.h"
#include <linux/close_range.h>
#include <sys/eventfd.h>

CASE(dup_gives_the_lowest_free_number)
{
	int a = expect_ok(dup(0));
	expect_eq(dup(0), a + 1);
	expect_ok(close(a));
	expect_eq(dup(0), a);
	expect_errno(dup(900), EBADF);
}

CASE(dup2_replaces_and_returns_the_target)
{
	int a = expect_ok(eventfd(5, 0)), b = expect_ok(eventfd(6, 0));
	uint64_t value;
	expect_eq(dup2(a, b), b);
	expect_eq(read(b, &value, 8), 8);
	expect_eq(value, 5);
	expect_eq(dup2(a, 77), 77);
}

CASE(dup2_to_itself_checks_and_does_nothing)
{
	expect_eq(dup2(0, 0), 0);
	expect_errno(dup2(900, 900), EBADF);
	expect_errno(dup2(0, -1), EBADF);
	expect_errno(dup2(0, 1 << 30), EBADF);
}

CASE(dup2_clears_close_on_exec)
{
	int a = expect_ok(eventfd(0, EFD_CLOEXEC));
	expect_eq(fcntl(a, F_GETFD), FD_CLOEXEC);
	int b = expect_ok(dup2(a, 50));
	expect_eq(fcntl(b, F_GETFD), 0);
	expect_eq(fcntl(dup(a), F_GETFD), 0);
}

CASE(dup3_takes_cloexec_and_refuses_itself)
{
	expect_eq(dup3(0, 50, O_CLOEXEC), 50);
	expect_eq(fcntl(50, F_GETFD), FD_CLOEXEC);
	expect_errno(dup3(0, 0, 0), EINVAL);
	expect_errno(dup3(0, 51, O_NONBLOCK), EINVAL);
	expect_errno(dup3(900, 51, 0), EBADF);
}

CASE(f_dupfd_starts_at_its_argument)
{
	expect_eq(fcntl(0, F_DUPFD, 60), 60);
	expect_eq(fcntl(0, F_DUPFD, 60), 61);
	expect_eq(fcntl(60, F_GETFD), 0);
	expect_eq(fcntl(0, F_DUPFD_CLOEXEC, 60), 62);
	expect_eq(fcntl(62, F_GETFD), FD_CLOEXEC);
	expect_errno(fcntl(0, F_DUPFD, -1), EINVAL);
}

CASE(f_dupfd_beyond_the_limit_is_einval)
{
	struct rlimit limit;
	expect_ok(getrlimit(RLIMIT_NOFILE, &limit));
	expect_errno(fcntl(0, F_DUPFD, limit.rlim_cur), EINVAL);
}

CASE(descriptor_limit_is_emfile)
{
	struct rlimit limit;
	expect_ok(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = 20;
	expect_ok(setrlimit(RLIMIT_NOFILE, &limit));
	int last = -1, fd;
	while ((fd = dup(0)) != -1)
		last = fd;
	expect_eq(errno, EMFILE);
	expect_eq(last, 19);
	expect_errno(open("/", O_RDONLY), EMFILE);
	expect_errno(dup2(0, 20), EBADF);
	expect_errno(eventfd(0, 0), EMFILE);
}

CASE(setfd_keeps_only_the_cloexec_bit)
{
	int fd = expect_ok(dup(0));
	expect_ok(fcntl(fd, F_SETFD, FD_CLOEXEC | 6));
	expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	expect_ok(fcntl(fd, F_SETFD, 0));
	expect_eq(fcntl(fd, F_GETFD), 0);
}

IN_DIR_CASE(getfl_shows_access_mode_and_status_flags)
{
	write_file("f", "");
	int fd = expect_ok(open("f", O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK));
	expect_eq(fcntl(fd, F_GETFL) & ~0100000, O_RDWR | O_APPEND | O_NONBLOCK);
	fd = expect_ok(open("f", O_WRONLY | O_CREAT | O_TRUNC));
	expect_eq(fcntl(fd, F_GETFL) & ~0100000, O_WRONLY);
}

IN_DIR_CASE(setfl_changes_only_status_flags)
{
	write_file("f", "");
	int fd = expect_ok(open("f", O_RDONLY));
	expect_ok(fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK | O_TRUNC));
	expect_eq(fcntl(fd, F_GETFL) & ~0100000, O_RDONLY | O_NONBLOCK);
}

CASE(status_flags_belong_to_the_open_file_not_the_descriptor)
{
	int fd = expect_ok(eventfd(0, 0)), copy = expect_ok(dup(fd));
	expect_ok(fcntl(copy, F_SETFL, O_NONBLOCK));
	expect(fcntl(fd, F_GETFL) & O_NONBLOCK);
	expect_ok(fcntl(copy, F_SETFD, FD_CLOEXEC));
	expect_eq(fcntl(fd, F_GETFD), 0);
}

CASE(fcntl_of_unknown_command_or_descriptor_fails)
{
	expect_errno(fcntl(0, 9999), EINVAL);
	expect_errno(fcntl(900, F_GETFD), EBADF);
}

CASE(close_range_closes_what_is_between)
{
	for (int fd = 100; fd < 110; fd++)
		expect_eq(dup2(0, fd), fd);
	expect_ok(close_range(102, 107, 0));
	expect_eq(fcntl(101, F_GETFD), 0);
	expect_errno(fcntl(102, F_GETFD), EBADF);
	expect_errno(fcntl(107, F_GETFD), EBADF);
	expect_eq(fcntl(108, F_GETFD), 0);
	expect_ok(close_range(100, ~0U, 0));
	expect_errno(fcntl(109, F_GETFD), EBADF);
}

CASE(close_range_can_mark_cloexec_instead)
{
	expect_eq(dup2(0, 100), 100);
	expect_eq(dup2(0, 101), 101);
	expect_ok(close_range(101, ~0U, CLOSE_RANGE_CLOEXEC));
	expect_eq(fcntl(100, F_GETFD), 0);
	expect_eq(fcntl(101, F_GETFD), FD_CLOEXEC);
}

CASE(close_range_checks_its_arguments)
{
	expect_errno(close_range(5, 4, 0), EINVAL);
	expect_errno(close_range(100, 200, 1 << 10), EINVAL);
	expect_ok(close_range(5000, 6000, 0));
}

CASE(close_range_unshare_leaves_the_parents_table)
{
	/* The child shares the table until it unshares it. */
	expect_eq(dup2(0, 100), 100);
	pid_t pid = expect_ok(syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0));
	if (pid == 0) {
		expect_ok(close_range(100, 100, CLOSE_RANGE_UNSHARE));
		_exit(0);
	}
	expect_exit(pid, 0);
	expect_eq(fcntl(100, F_GETFD), 0);
}

CASE(clone_files_shares_the_table_and_fork_copies_it)
{
	pid_t pid = expect_ok(syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0));
	if (pid == 0) {
		expect_eq(dup2(0, 100), 100);
		_exit(0);
	}
	expect_exit(pid, 0);
	expect_eq(fcntl(100, F_GETFD), 0);
	SPAWN(pid)
		expect_ok(close(100));
	expect_exit(pid, 0);
	expect_eq(fcntl(100, F_GETFD), 0);
}

CASE(unshare_files_gives_an_own_table)
{
	pid_t pid = expect_ok(syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0));
	if (pid == 0) {
		expect_ok(unshare(CLONE_FILES));
		expect_eq(dup2(0, 100), 100);
		_exit(0);
	}
	expect_exit(pid, 0);
	expect_errno(fcntl(100, F_GETFD), EBADF);
}

CASE(kcmp_tells_shared_open_files)
{
	enum { KCMP_FILE_ = 0 };
	int a = expect_ok(eventfd(0, 0)), b = expect_ok(dup(a)), c = expect_ok(eventfd(0, 0));
	pid_t self = getpid();
	long same = syscall(SYS_kcmp, self, self, KCMP_FILE_, a, b);
	if (same == -1)
		skip("kcmp is not allowed here");
	expect_eq(same, 0);
	expect(syscall(SYS_kcmp, self, self, KCMP_FILE_, a, c) > 0);
}

CASE(f_setown_and_getown_ex)
{
	int fd = expect_ok(eventfd(0, 0));
	expect_eq(fcntl(fd, F_GETOWN), 0);
	expect_ok(fcntl(fd, F_SETOWN, getpid()));
	struct f_owner_ex owner;
	expect_ok(fcntl(fd, F_GETOWN_EX, &owner));
	expect_eq(owner.type, F_OWNER_PID);
	expect_eq(owner.pid, getpid());
	owner.type = F_OWNER_TID;
	expect_ok(fcntl(fd, F_SETOWN_EX, &owner));
	expect_ok(fcntl(fd, F_GETOWN_EX, &owner));
	expect_eq(owner.type, F_OWNER_TID);
	expect_ok(fcntl(fd, F_SETSIG, SIGUSR1));
	expect_eq(fcntl(fd, F_GETSIG), SIGUSR1);
	expect_errno(fcntl(fd, F_SETSIG, 100), EINVAL);
}
