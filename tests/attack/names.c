/* Names that might lead out of the tree. */
#include "attack.h"
#include <sys/socket.h>
#include <sys/un.h>

/* Tells what can be read of a file, for the harness to look at. */
static void tell(int directory, const char *name)
{
	char text[256];
	int fd = openat(directory, name, O_RDONLY);
	if (fd < 0)
		return;
	ssize_t size = read(fd, text, sizeof text);
	if (size > 0)
		write(1, text, size);
	close(fd);
}

static void tell_below(const char *prefix)
{
	char name[2 * PATH_MAX];
	snprintf(name, sizeof name, "%s%s/canary", prefix, hidden());
	tell(AT_FDCWD, name);
	int fd = open(name, O_CREAT | O_WRONLY | O_APPEND, 0666);
	if (fd >= 0) { /* a file of our own, if any */
		write(fd, "broken in", 9);
		close(fd);
	}
	snprintf(name, sizeof name, "%s%s/broken-in", prefix, hidden());
	mkdir(name, 0777);
}

CASE(dots_and_magic_links_stay_inside)
{
	static const char *prefixes[] = {
		"", "/..", "/../../../../../..", "/proc/self/root", "/proc/self/root/..", "/proc/1/root", "/proc/1/root/..",
		"/proc/self/cwd/../../../../../../../..", "/proc/1/cwd/../../../../..", "/proc/thread-self/root/../..", "/dev/fd/../../root",
		"/proc/2/root", "/proc/self/task/../root", "/sys/../..", "/dev/pts/../../..",
	};
	for (unsigned i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
		tell_below(prefixes[i]);
	char name[PATH_MAX];
	for (int fd = 0; fd < 64; fd++) {
		snprintf(name, sizeof name, "/proc/self/fd/%d/../../../../../../../..", fd);
		tell_below(name);
		snprintf(name, sizeof name, "/proc/1/fd/%d", fd);
		tell_below(name);
		snprintf(name, sizeof name, "/proc/self/fdinfo/%d/../../../..", fd);
		tell_below(name);
	}
	for (int pid = 1; pid < 300; pid++) { /* processes of the host, if any had a number */
		snprintf(name, sizeof name, "/proc/%d/root", pid);
		tell_below(name);
	}
	alive();
}

CASE(a_root_that_is_left_behind_stays_inside)
{
	int outside = expect_ok(open("/", O_RDONLY | O_DIRECTORY));
	mkdir("/tmp/cage", 0700);
	if (geteuid() == 0 && chroot("/tmp/cage") == 0) {
		expect_ok(fchdir(outside));
		for (int i = 0; i < 64; i++)
			expect_ok(chdir(".."));
		chroot(".");
	}
	tell_below("");
	tell_below("/..");
	alive();
}

CASE(deep_and_long_names_are_errors)
{
	static char name[1 << 20];
	for (size_t size = 1; size < sizeof name; size *= 2) {
		memset(name, 'a', size);
		name[size] = 0;
		expect(open(name, O_RDONLY) == -1);
		for (size_t i = 0; i + 3 < size; i += 3)
			memcpy(name + i, "../", 3);
		int fd = open(name, O_RDONLY);
		if (fd >= 0)
			close(fd);
	}
	alive();
}

CASE(descriptors_sent_and_received_are_our_own)
{
	int pair[2];
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	for (int fd = -2; fd < 300; fd++) { /* numbers that name something in the sentry, perhaps */
		char byte = 'x', control[CMSG_SPACE(sizeof fd)] = {0};
		struct iovec data = {&byte, 1};
		struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(head), &fd, sizeof fd);
		bool mine = fcntl(fd, F_GETFD) >= 0;
		if (!mine)
			expect_errno(sendmsg(pair[0], &message, MSG_DONTWAIT), EBADF);
	}
	alive();
}

CASE(sockets_of_the_host_are_not_reached)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = expect_ok(socket(AF_UNIX, SOCK_STREAM, 0));
	/* the harness listens on both */
	snprintf(address.sun_path, sizeof address.sun_path, "%s/s", shared());
	expect(connect(fd, (void *)&address, sizeof address) == -1);
	memset(address.sun_path, 0, sizeof address.sun_path);
	snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "lazaret-attack-%d", sentinel());
	expect(connect(fd, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(address.sun_path + 1)) == -1);
	alive();
}

CASE(signals_reach_only_our_own)
{
	pid_t pid;
	SPAWN(pid)
	{
		/* everyone but us: in the sandbox, and nobody else */
		setsid();
		for (int other = 2; other < 4000; other++)
			if (other != getpid() && other != getppid())
				kill(other, SIGKILL);
		for (int other = sentinel() - 2000; other < sentinel() + 2000; other++)
			if (other > 4000)
				kill(other, SIGKILL);
		kill(-1, SIGURG);
		syscall(SYS_tgkill, sentinel(), sentinel(), SIGKILL);
		syscall(SYS_rt_sigqueueinfo, sentinel(), SIGKILL, &(siginfo_t){.si_code = SI_QUEUE});
		expect_errno(syscall(SYS_pidfd_open, sentinel(), 0), ESRCH);
	}
	expect_exit(pid, 0);
	alive();
}
