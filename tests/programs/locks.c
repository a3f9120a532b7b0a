/* flock, POSIX and open-file-description record locks, leases. */
#include "case.h"
#include <sys/file.h>

static int make(void)
{
	return expect_ok(open("f", O_RDWR | O_CREAT, 0600));
}

static struct flock range(short type, off_t start, off_t length)
{
	return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

static int set(int fd, int command, short type, off_t start, off_t length)
{
	struct flock lock = range(type, start, length);
	return fcntl(fd, command, &lock);
}

static volatile sig_atomic_t caught;
static void on_signal(int signal, siginfo_t *info UNUSED, void *context UNUSED)
{
	caught = signal;
}

IN_DIR_CASE(flock_exclusive_excludes_another_open)
{
	int a = make(), b = make();
	expect_ok(flock(a, LOCK_EX));
	expect_errno(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	expect_errno(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	expect_ok(flock(a, LOCK_UN));
	expect_ok(flock(b, LOCK_EX | LOCK_NB));
}

IN_DIR_CASE(flock_shared_allows_shared)
{
	int a = make(), b = make(), c = make();
	expect_ok(flock(a, LOCK_SH));
	expect_ok(flock(b, LOCK_SH | LOCK_NB));
	expect_errno(flock(c, LOCK_EX | LOCK_NB), EWOULDBLOCK);
}

IN_DIR_CASE(flock_belongs_to_the_open_file)
{
	int a = make(), copy = expect_ok(dup(a)), b = make();
	expect_ok(flock(a, LOCK_EX));
	expect_ok(flock(copy, LOCK_EX | LOCK_NB));
	expect_ok(close(a));
	expect_errno(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	expect_ok(close(copy));
	expect_ok(flock(b, LOCK_SH | LOCK_NB));
}

IN_DIR_CASE(flock_is_shared_with_a_forked_child)
{
	int a = make(), b = make();
	expect_ok(flock(a, LOCK_EX));
	pid_t pid;
	SPAWN(pid)
		expect_ok(flock(a, LOCK_UN));
	expect_exit(pid, 0);
	expect_ok(flock(b, LOCK_EX | LOCK_NB));
}

IN_DIR_CASE(flock_converts_shared_to_exclusive)
{
	int a = make(), b = make();
	expect_ok(flock(a, LOCK_SH));
	expect_ok(flock(a, LOCK_EX | LOCK_NB));
	expect_errno(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
}

IN_DIR_CASE(flock_waits_for_release)
{
	int a = make();
	expect_ok(flock(a, LOCK_EX));
	pid_t pid;
	SPAWN(pid) {
		int b = make();
		expect_ok(flock(b, LOCK_EX));
	}
	wait_for_state(pid, 'S');
	expect_ok(flock(a, LOCK_UN));
	expect_exit(pid, 0);
}

IN_DIR_CASE(flock_checks_its_arguments)
{
	expect_errno(flock(900, LOCK_EX), EBADF);
	expect_errno(flock(make(), 0), EINVAL);
	expect_errno(flock(expect_ok(open(".", O_PATH)), LOCK_SH), EBADF);
}

IN_DIR_CASE(blocked_flock_is_eintr_on_a_signal)
{
	int a = make(), b = make();
	expect_ok(flock(a, LOCK_EX));
	handle(SIGALRM, on_signal, 0);
	struct itimerval soon = {{0, 0}, {0, 30000}};
	expect_ok(setitimer(ITIMER_REAL, &soon, NULL));
	expect_errno(flock(b, LOCK_EX), EINTR);
	expect_eq(caught, SIGALRM);
}

IN_DIR_CASE(posix_locks_of_one_process_never_conflict)
{
	int a = make(), b = make();
	expect_ok(set(a, F_SETLK, F_WRLCK, 0, 10));
	expect_ok(set(b, F_SETLK, F_WRLCK, 5, 10));
	struct flock lock = range(F_WRLCK, 0, 0);
	expect_ok(fcntl(a, F_GETLK, &lock));
	expect_eq(lock.l_type, F_UNLCK);
}

IN_DIR_CASE(posix_lock_of_another_process_is_eagain_and_getlk_names_it)
{
	int fd = make();
	expect_ok(set(fd, F_SETLK, F_WRLCK, 10, 5));
	pid_t pid, parent = getpid();
	SPAWN(pid) {
		expect_errno(set(fd, F_SETLK, F_RDLCK, 14, 1), EAGAIN);
		expect_ok(set(fd, F_SETLK, F_WRLCK, 15, 1));
		expect_ok(set(fd, F_SETLK, F_WRLCK, 0, 10));
		struct flock lock = range(F_RDLCK, 0, 0);
		expect_ok(fcntl(fd, F_GETLK, &lock));
		expect_eq(lock.l_type, F_WRLCK);
		expect_eq(lock.l_start, 10);
		expect_eq(lock.l_len, 5);
		expect_eq(lock.l_pid, parent);
	}
	expect_exit(pid, 0);
}

IN_DIR_CASE(posix_read_locks_share_and_write_locks_do_not)
{
	int fd = make();
	expect_ok(set(fd, F_SETLK, F_RDLCK, 0, 10));
	pid_t pid;
	SPAWN(pid) {
		expect_ok(set(fd, F_SETLK, F_RDLCK, 0, 10));
		expect_errno(set(fd, F_SETLK, F_WRLCK, 0, 10), EAGAIN);
	}
	expect_exit(pid, 0);
}

IN_DIR_CASE(posix_unlock_splits_a_range)
{
	int fd = make();
	expect_ok(set(fd, F_SETLK, F_WRLCK, 0, 30));
	expect_ok(set(fd, F_SETLK, F_UNLCK, 10, 10));
	pid_t pid;
	SPAWN(pid) {
		expect_ok(set(fd, F_SETLK, F_WRLCK, 10, 10));
		expect_errno(set(fd, F_SETLK, F_WRLCK, 9, 1), EAGAIN);
		expect_errno(set(fd, F_SETLK, F_WRLCK, 20, 1), EAGAIN);
	}
	expect_exit(pid, 0);
}

IN_DIR_CASE(posix_lock_goes_when_any_descriptor_of_the_file_closes)
{
	int a = make(), b = make();
	expect_ok(set(a, F_SETLK, F_WRLCK, 0, 0));
	expect_ok(close(b));
	pid_t pid;
	SPAWN(pid)
		expect_ok(set(a, F_SETLK, F_WRLCK, 0, 0));
	expect_exit(pid, 0);
}

IN_DIR_CASE(posix_locks_are_not_inherited_by_fork_and_end_with_the_process)
{
	int fd = make();
	pid_t pid;
	SPAWN(pid)
		expect_ok(set(fd, F_SETLK, F_WRLCK, 0, 0));
	expect_exit(pid, 0);
	struct flock lock = range(F_WRLCK, 0, 0);
	expect_ok(fcntl(fd, F_GETLK, &lock));
	expect_eq(lock.l_type, F_UNLCK);
}

IN_DIR_CASE(posix_setlkw_waits_for_release)
{
	int fd = make();
	expect_ok(set(fd, F_SETLK, F_WRLCK, 0, 0));
	pid_t pid;
	SPAWN(pid)
		expect_ok(set(fd, F_SETLKW, F_WRLCK, 0, 0));
	wait_for_state(pid, 'S');
	expect_ok(set(fd, F_SETLK, F_UNLCK, 0, 0));
	expect_exit(pid, 0);
}

IN_DIR_CASE(posix_deadlock_is_edeadlk)
{
	int fd = make();
	expect_ok(set(fd, F_SETLK, F_WRLCK, 0, 1));
	int ready[2];
	char byte;
	expect_ok(pipe(ready));
	pid_t pid;
	SPAWN(pid) {
		expect_ok(set(fd, F_SETLK, F_WRLCK, 1, 1));
		expect_eq(write(ready[1], "x", 1), 1);
		expect_ok(set(fd, F_SETLKW, F_WRLCK, 0, 1));
	}
	expect_eq(read(ready[0], &byte, 1), 1);
	wait_for_state(pid, 'S');
	expect_errno(set(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
	expect_ok(set(fd, F_SETLK, F_UNLCK, 0, 1));
	expect_exit(pid, 0);
}

IN_DIR_CASE(posix_lock_needs_the_matching_access_mode)
{
	make();
	expect_errno(set(expect_ok(open("f", O_RDONLY)), F_SETLK, F_WRLCK, 0, 1), EBADF);
	expect_errno(set(expect_ok(open("f", O_WRONLY)), F_SETLK, F_RDLCK, 0, 1), EBADF);
	struct flock lock = range(99, 0, 1);
	int fd = make();
	expect_errno(fcntl(fd, F_SETLK, &lock), EINVAL);
	expect_errno(fcntl(fd, F_SETLK, 8), EFAULT);
	lock = range(F_WRLCK, -5, 1);
	expect_errno(fcntl(fd, F_SETLK, &lock), EINVAL);
}

IN_DIR_CASE(posix_range_may_be_given_from_the_offset_or_backwards)
{
	int fd = make();
	expect_eq(lseek(fd, 100, SEEK_SET), 100);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 0, .l_len = -10};
	expect_ok(fcntl(fd, F_SETLK, &lock));
	pid_t pid;
	SPAWN(pid) {
		struct flock seen = range(F_WRLCK, 0, 0);
		expect_ok(fcntl(fd, F_GETLK, &seen));
		expect_eq(seen.l_start, 90);
		expect_eq(seen.l_len, 10);
	}
	expect_exit(pid, 0);
}

IN_DIR_CASE(ofd_locks_conflict_between_opens_of_one_process)
{
	int a = make(), b = make();
	expect_ok(set(a, F_OFD_SETLK, F_WRLCK, 0, 10));
	expect_errno(set(b, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
	struct flock lock = range(F_RDLCK, 0, 0);
	expect_ok(fcntl(b, F_OFD_GETLK, &lock));
	expect_eq(lock.l_type, F_WRLCK);
	expect_eq(lock.l_pid, -1);
	expect_ok(close(a));
	expect_ok(set(b, F_OFD_SETLK, F_WRLCK, 5, 1));
}

IN_DIR_CASE(ofd_locks_conflict_with_posix_locks)
{
	int a = make(), b = make();
	expect_ok(set(a, F_OFD_SETLK, F_WRLCK, 0, 10));
	expect_errno(set(b, F_SETLK, F_WRLCK, 0, 1), EAGAIN);
	struct flock lock = range(F_WRLCK, 0, 1);
	lock.l_pid = 1;
	expect_errno(fcntl(a, F_OFD_SETLK, &lock), EINVAL);
}

IN_DIR_CASE(flock_and_posix_locks_do_not_see_each_other)
{
	int fd = make();
	expect_ok(flock(fd, LOCK_EX));
	pid_t pid;
	SPAWN(pid)
		expect_ok(set(fd, F_SETLK, F_WRLCK, 0, 0));
	expect_exit(pid, 0);
}
