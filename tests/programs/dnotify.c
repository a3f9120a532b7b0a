/* Directory notices (F_NOTIFY). */
#include "case.h"
#include <poll.h>
#include <sys/wait.h>
#ifndef POLLMSG
#define POLLMSG 0x400
#endif

/* Takes the signals of directory notices that are pending, and says how many. */
static int notices(int fd)
{
	sigset_t set;
	siginfo_t info;
	struct timespec none = {0};
	int count = 0;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	while (sigtimedwait(&set, &info, &none) > 0) {
		expect_eq(info.si_code, POLL_MSG);
		expect_eq(info.si_fd, fd);
		expect_eq(info.si_band, POLLIN | POLLRDNORM | POLLMSG);
		count++;
	}
	return count;
}

static int noticed_dir(const char *name, unsigned events)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	mkdir(name, 0700);
	int fd = expect_ok(open(name, O_RDONLY));
	expect_ok(fcntl(fd, F_SETSIG, SIGRTMIN));
	expect_ok(fcntl(fd, F_NOTIFY, events));
	return fd;
}

IN_DIR_CASE(directory_notice_comes_once_unless_asked_otherwise)
{
	int fd = noticed_dir("d", DN_CREATE);
	expect_eq(fcntl(fd, F_GETOWN), getpid());
	write_file("d/a", "");
	write_file("d/b", "");
	expect_eq(notices(fd), 1);
	expect_ok(fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
	write_file("d/c", "");
	write_file("d/d", "");
	expect_eq(notices(fd), 2);
	expect_ok(fcntl(fd, F_NOTIFY, DN_MULTISHOT));
	write_file("d/e", "");
	expect_eq(notices(fd), 0);
}

IN_DIR_CASE(directory_notices_by_kind)
{
	int fd = noticed_dir("d", DN_RENAME | DN_MULTISHOT), other;
	write_file("d/a", "x");
	expect_ok(rename("d/a", "d/b"));
	expect_eq(notices(fd), 1);
	expect_ok(rename("d/b", "b"));
	expect_eq(notices(fd), 0);
	expect_ok(close(fd));
	fd = noticed_dir("d", DN_DELETE | DN_MULTISHOT);
	expect_ok(rename("b", "d/b"));
	expect_eq(notices(fd), 0);
	expect_ok(unlink("d/b"));
	expect_eq(notices(fd), 1);
	expect_ok(close(fd));
	fd = noticed_dir("d", DN_ATTRIB | DN_MODIFY | DN_MULTISHOT);
	write_file("d/a", "");
	expect_eq(notices(fd), 0);
	expect_ok(chmod("d/a", 0600));
	expect_eq(notices(fd), 1);
	other = expect_ok(open("d/a", O_WRONLY));
	expect_eq(write(other, "x", 1), 1);
	expect_eq(notices(fd), 1);
	expect_errno(fcntl(other, F_NOTIFY, DN_ACCESS), ENOTDIR);
}

IN_DIR_CASE(directory_notice_ends_when_its_process_closes_the_descriptor)
{
	int fd = noticed_dir("d", DN_CREATE | DN_MULTISHOT), kept = expect_ok(dup(fd));
	pid_t child = expect_ok(fork());
	if (child == 0) {
		close(fd);
		_exit(0);
	}
	expect_eq(waitpid(child, NULL, 0), child);
	write_file("d/a", "");
	expect_eq(notices(fd), 1);
	expect_ok(close(kept));
	write_file("d/b", "");
	expect_eq(notices(fd), 0);
}
