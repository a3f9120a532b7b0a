/* Makes the sentry hold as much as it will of one kind of object. The sandbox has little memory, and the
 * harness looks how much the sentry has. Each attacker ends with an error, is killed for want of memory, or has made all it could in its time.
 * Whatever it does, the first process goes on. */
#include "attack.h"
#include <grp.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/xattr.h>

enum { MS_LONG = 1000, ATTACKERS = 4 };

static char much[1 << 20];
static struct timespec begun;

static bool going(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 < MS_LONG;
}

/* What a limit says. */
static bool refused(void)
{
	switch (errno) {
	case ENOMEM: case EAGAIN: case ENOSPC: case EMFILE: case ENFILE: case ENOBUFS: case EDQUOT: case ETOOMANYREFS:
	case E2BIG: case EADDRNOTAVAIL: case EMLINK: case ENOLCK: case EUSERS:
		return true;
	default:
		return false;
	}
}

/* Calls `more` until it says that there is no more. Several processes do, so that no limit of a single one is all there is. Each
 * keeps what it has until all are done. */
static void exhaust(bool (*more)(int number))
{
	clock_gettime(CLOCK_MONOTONIC, &begun);
	int done[2];
	expect_ok(pipe(done));
	pid_t pids[ATTACKERS];
	for (int i = 0; i < ATTACKERS; i++) {
		SPAWN(pids[i]) {
			struct rlimit files;
			getrlimit(RLIMIT_NOFILE, &files);
			files.rlim_cur = files.rlim_max;
			setrlimit(RLIMIT_NOFILE, &files);
			close(done[1]);
			for (int n = 0; going(); n++)
				if (!more(n)) {
					expect(refused());
					break;
				}
			/* holds it for a moment: the end of the first process' pipe, or of all time */
			struct pollfd end = {done[0], POLLIN, 0};
			poll(&end, 1, 200);
			_exit(0);
		}
	}
	for (int i = 0; i < ATTACKERS; i++) {
		int status;
		expect_eq(waitpid(pids[i], &status, 0), pids[i]);
		expect(status == 0 || status == SIGKILL);
	}
	alive();
}

/* One that is left as it is: the sandbox' files end with it. */
static void in_new_dir(void)
{
	enter_case_dir();
	case_dir[0] = 0;
}

static void fill(int fd)
{
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (going() && write(fd, much, sizeof much) > 0)
		;
}

static bool full_pipe(int number)
{
	(void)number;
	int fds[2];
	if (pipe(fds))
		return false;
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
	fill(fds[1]);
	return true;
}
CASE(full_pipes) { exhaust(full_pipe); }

static bool full_socket(int number)
{
	int fds[2], size = 1 << 30;
	if (socketpair(AF_UNIX, number % 2 ? SOCK_DGRAM : SOCK_STREAM, 0, fds))
		return false;
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	while (going() && send(fds[0], much, number % 2 ? 60000 : sizeof much, 0) > 0)
		;
	return true;
}
CASE(full_sockets) { exhaust(full_socket); }

/* Descriptors on their way hold what they are of. */
static bool sent_file(int number)
{
	static int pair[2] = {-1, -1};
	if (number % 100 == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return false;
	int fds[2];
	if (pipe(fds))
		return false;
	fill(fds[1]);
	char control[CMSG_SPACE(sizeof fds)] = {0};
	struct iovec one = {much, 1};
	struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof fds);
	memcpy(CMSG_DATA(header), fds, sizeof fds);
	bool sent = sendmsg(pair[0], &message, MSG_DONTWAIT) == 1;
	close(fds[0]);
	close(fds[1]);
	return sent;
}
CASE(files_in_flight) { exhaust(sent_file); }

static bool full_connection(int number)
{
	static int listener;
	static struct sockaddr_in address = {.sin_family = AF_INET};
	if (number == 0) {
		address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		listener = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
		socklen_t size = sizeof address;
		expect_ok(bind(listener, (void *)&address, sizeof address));
		expect_ok(getsockname(listener, (void *)&address, &size));
		expect_ok(listen(listener, 4096));
	}
	int fd = socket(AF_INET, SOCK_STREAM, 0), size = 1 << 30;
	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	if (connect(fd, (void *)&address, sizeof address))
		return false;
	fill(fd);
	return number % 2 || accept(listener, NULL, NULL) >= 0;
}
CASE(full_tcp_connections) { exhaust(full_connection); }

static bool attribute(int number)
{
	char name[64], file[64];
	snprintf(file, sizeof file, "/tmp/x%d-%d", getpid(), number / 16);
	snprintf(name, sizeof name, "user.%d", number);
	int fd = open(file, O_CREAT | O_RDWR, 0600);
	if (fd < 0)
		return false;
	bool set = setxattr(file, name, much, 60000, 0) == 0;
	int error = errno;
	close(fd);
	errno = error == EOPNOTSUPP ? ENOSPC : error;
	return set;
}
CASE(extended_attributes) { in_new_dir(); exhaust(attribute); }

static bool link_to_much(int number)
{
	static char target[4000], name[64];
	memset(target, 'x', sizeof target - 1);
	snprintf(name, sizeof name, "l%d-%d", getpid(), number);
	return symlink(target, name) == 0;
}
CASE(symbolic_links) { in_new_dir(); exhaust(link_to_much); }

static bool file(int number)
{
	static char name[NAME_MAX + 1];
	memset(name, 'f', sizeof name - 1);
	sprintf(name, "%d-%d", getpid(), number);
	name[strlen(name)] = 'f';
	return mknod(name, S_IFREG | 0600, 0) == 0;
}
CASE(files_with_long_names) { in_new_dir(); exhaust(file); }

/* Names that are not there are remembered, too. */
static bool absent(int number)
{
	static char name[NAME_MAX + 1];
	struct stat status;
	memset(name, 'n', sizeof name - 1);
	sprintf(name, "%d-%d", getpid(), number);
	name[strlen(name)] = 'n';
	return stat(name, &status) == -1 && errno == ENOENT;
}
CASE(absent_names) { in_new_dir(); exhaust(absent); }

static bool absent_on_the_host(int number)
{
	char name[PATH_MAX];
	struct stat status;
	snprintf(name, sizeof name, "%s/%0200d-%d", shared(), number, getpid());
	return stat(name, &status) == -1 && errno == ENOENT;
}
CASE(absent_names_on_the_host) { exhaust(absent_on_the_host); }

static bool deeper(int number)
{
	static char name[NAME_MAX + 1];
	memset(name, 'd', sizeof name - 1);
	if (number == 0) {
		char own[32];
		snprintf(own, sizeof own, "%d", getpid());
		expect_ok(mkdir(own, 0700));
		expect_ok(chdir(own));
	}
	return mkdir(name, 0700) == 0 && chdir(name) == 0;
}
CASE(deep_directories)
{
	in_new_dir();
	exhaust(deeper);
}

static bool watch(int number)
{
	static int fd;
	char name[64];
	if (number % 1000 == 0 && (fd = inotify_init1(IN_NONBLOCK)) < 0)
		return false;
	snprintf(name, sizeof name, "w%d-%d", getpid(), number);
	if (mknod(name, S_IFREG | 0600, 0))
		return false;
	bool added = inotify_add_watch(fd, name, IN_ALL_EVENTS) >= 0 && inotify_add_watch(fd, ".", IN_ALL_EVENTS) >= 0;
	for (int i = 0; added && i < 10; i++)
		utimensat(AT_FDCWD, name, NULL, 0);
	return added;
}
CASE(watches_and_events_that_nobody_reads) { in_new_dir(); exhaust(watch); }

static bool timer(int number)
{
	struct itimerspec soon = {{0, 1000000 + number}, {0, 1000000}};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + number % 20};
	timer_t id;
	signal(event.sigev_signo, SIG_IGN);
	return timer_create(CLOCK_MONOTONIC, &event, &id) == 0 && timer_settime(id, 0, &soon, NULL) == 0;
}
CASE(timers) { exhaust(timer); }

static bool timer_file(int number)
{
	struct itimerspec soon = {{0, 1000000 + number}, {1, 0}};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	return fd >= 0 && timerfd_settime(fd, 0, &soon, NULL) == 0;
}
CASE(timer_files) { exhaust(timer_file); }

static bool epoll_entry(int number)
{
	enum { FILES = 512 };
	static int files[FILES], epoll;
	if (number == 0)
		for (int i = 0; i < FILES; i++)
			files[i] = eventfd(1, EFD_NONBLOCK);
	if (number % FILES == 0 && (epoll = epoll_create1(0)) < 0)
		return false;
	struct epoll_event event = {EPOLLIN | EPOLLET, {.u64 = number}};
	return epoll_ctl(epoll, EPOLL_CTL_ADD, files[number % FILES], &event) == 0;
}
CASE(epoll_entries) { exhaust(epoll_entry); }

static bool pending(int number)
{
	static sigset_t all;
	if (number == 0) {
		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
	}
	union sigval value = {.sival_int = number};
	if (sigqueue(getpid(), SIGRTMIN + number % 30, value) == 0)
		return true;
	/* one process' limit is not all: another goes on */
	pid_t child = errno == EAGAIN ? fork() : -1;
	errno = child > 0 ? EAGAIN : errno;
	return child == 0;
}
CASE(pending_signals) { exhaust(pending); }

static void *sleeper(void *unused)
{
	for (;;)
		pause();
	return unused;
}
static bool thread(int number)
{
	static pthread_attr_t small;
	if (number == 0) {
		pthread_attr_init(&small);
		pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN);
	}
	pthread_t id;
	errno = pthread_create(&id, &small, sleeper, NULL);
	return errno == 0;
}
CASE(threads) { exhaust(thread); }

static bool process(int number)
{
	(void)number;
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	return child > 0;
}
CASE(processes) { exhaust(process); }

static bool mapping(int number)
{
	/* no two alike next to each other */
	int protection = number % 2 ? PROT_READ : PROT_READ | PROT_WRITE;
	return mmap(NULL, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}
CASE(mappings) { exhaust(mapping); }

static bool touched(int number)
{
	(void)number;
	char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return false;
	memset(memory, 1, 1 << 20);
	return true;
}
CASE(memory) { exhaust(touched); }

static bool lock(int number)
{
	static int fd;
	if (number == 0)
		fd = expect_ok(open("locked", O_CREAT | O_RDWR, 0600));
	struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 2L * number, .l_len = 1};
	return fcntl(fd, F_SETLK, &range) == 0;
}
CASE(locks) { in_new_dir(); exhaust(lock); }

static bool system_v_message(int number)
{
	static int queue;
	struct {
		long type;
		char text[8000];
	} message = {.type = 1};
	if (number % 2 == 0 && (queue = msgget(IPC_PRIVATE, 0600)) < 0)
		return false;
	return msgsnd(queue, &message, sizeof message.text, IPC_NOWAIT) == 0;
}
CASE(system_v_messages) { exhaust(system_v_message); }

static bool bound_name(int number)
{
	struct sockaddr_un_long {
		sa_family_t family;
		char name[108];
	} address = {.family = AF_UNIX};
	snprintf(address.name + 1, sizeof address.name - 1, "%d-%d", getpid(), number);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	return fd >= 0 && bind(fd, (void *)&address, sizeof address) == 0;
}
CASE(abstract_names) { exhaust(bound_name); }

static bool memory_file(int number)
{
	(void)number;
	int fd = memfd_create("m", 0);
	if (fd < 0)
		return false;
	return write(fd, much, sizeof much) == sizeof much;
}
CASE(memory_files) { exhaust(memory_file); }

/* A mount doubles what is below each time. */
static bool mounted(int number)
{
	static const char *const place = "m";
	if (number == 0 && (mkdir(place, 0700) || mount("none", place, "tmpfs", 0, NULL) || mkdir("m/n", 0700)))
		return errno == EEXIST;
	return number % 16 ? mount("none", place, "tmpfs", 0, NULL) == 0 : mount("/", "m", NULL, MS_BIND | MS_REC, NULL) == 0;
}
CASE(mounts)
{
	if (geteuid() != 0)
		skip("needs root");
	in_new_dir();
	exhaust(mounted);
}

/* Each process has all of them once more. */
static bool mount_namespace(int number)
{
	if (number == 0)
		for (int i = 0; i < 300; i++)
			if (mount("none", ".", "tmpfs", 0, NULL))
				break;
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNS))
			_exit(1);
		pause();
		_exit(0);
	}
	return child > 0;
}
CASE(mount_namespaces)
{
	if (geteuid() != 0)
		skip("needs root");
	in_new_dir();
	exhaust(mount_namespace);
}

static bool full_terminal(int number)
{
	(void)number;
	int master = open("/dev/ptmx", O_RDWR | O_NONBLOCK | O_NOCTTY);
	if (master < 0 || grantpt(master) || unlockpt(master))
		return false;
	int slave = open(ptsname(master), O_RDWR | O_NONBLOCK | O_NOCTTY);
	if (slave < 0)
		return false;
	fill(master);
	fill(slave);
	return true;
}
CASE(full_terminals) { exhaust(full_terminal); }

/* A thread may have so many instructions and no more. */
static bool filter(int number)
{
	static struct sock_filter code[4096];
	for (unsigned i = 0; number == 0 && i < 4096; i++)
		code[i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {4096, code};
	if (number == 0)
		expect_ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
		return true;
	return false;
}
CASE(system_call_filters) { exhaust(filter); }

static bool semaphores(int number)
{
	(void)number;
	int set = semget(IPC_PRIVATE, 32000, 0600);
	struct sembuf undo = {31999, 1, SEM_UNDO};
	return set >= 0 && semop(set, &undo, 1) == 0;
}
CASE(semaphore_sets) { exhaust(semaphores); }

static bool segment(int number)
{
	(void)number;
	int id = shmget(IPC_PRIVATE, 1 << 20, 0600);
	char *memory = id >= 0 ? shmat(id, NULL, 0) : (void *)-1;
	if (memory == (void *)-1)
		return false;
	expect_ok(shmctl(id, IPC_RMID, NULL)); /* it ends with the last who has it */
	memset(memory, 1, 1 << 20);
	return true;
}
CASE(shared_memory_segments) { exhaust(segment); }

static bool full_queue(int number)
{
	char name[64];
	snprintf(name, sizeof name, "/q%d-%d", getpid(), number);
	struct mq_attr attributes = {.mq_maxmsg = 10, .mq_msgsize = 8192};
	mqd_t queue = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, &attributes);
	if (queue == (mqd_t)-1)
		return false;
	while (mq_send(queue, much, 8192, 0) == 0)
		;
	return true;
}
CASE(full_message_queues) { exhaust(full_queue); }

static bool groups(int number)
{
	static gid_t list[65536];
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int i = 0; i < 65536; i++)
			list[i] = number * 65536 + i;
		if (setgroups(65536, list))
			_exit(1);
		pause();
		_exit(0);
	}
	return child > 0;
}
CASE(lists_of_groups)
{
	if (geteuid() != 0)
		skip("needs root");
	exhaust(groups);
}

/* A file whose text is made when it is read, and is long. */
static bool text_of_mappings(int number)
{
	char byte;
	for (int i = 0; number == 0 && i < 500; i++)
		mapping(i);
	int fd = open("/proc/self/smaps", O_RDONLY);
	return fd >= 0 && read(fd, &byte, 1) == 1;
}
CASE(files_of_proc_half_read) { exhaust(text_of_mappings); }

static bool datagrams(int number)
{
	(void)number;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof address;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), size = 1 << 30;
	if (fd < 0 || bind(fd, (void *)&address, sizeof address))
		return false;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	expect_ok(getsockname(fd, (void *)&address, &length));
	for (int i = 0; i < 200 && going(); i++)
		if (sendto(fd, much, 60000, 0, (void *)&address, sizeof address) < 0)
			break;
	return true;
}
CASE(datagrams_that_nobody_reads) { exhaust(datagrams); }

static bool answers(int number)
{
	(void)number;
	struct {
		struct nlmsghdr head;
		struct ifinfomsg what;
	} dump = {{sizeof dump, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {.ifi_family = AF_UNSPEC}};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (fd < 0)
		return false;
	for (int i = 0; i < 1000 && going(); i++)
		if (send(fd, &dump, sizeof dump, 0) < 0)
			break;
	return true;
}
CASE(answers_of_netlink_that_nobody_reads) { exhaust(answers); }

/* Files that are watched by themselves, and by each other. */
static bool nested_epoll(int number)
{
	static int last;
	int fd = epoll_create1(0);
	if (fd < 0)
		return false;
	struct epoll_event event = {EPOLLIN, {.u64 = number}};
	if (number % 4 == 0 || epoll_ctl(fd, EPOLL_CTL_ADD, last, &event) == 0)
		last = fd;
	return true;
}
CASE(nested_epoll_files) { exhaust(nested_epoll); }
