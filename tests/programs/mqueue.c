/* POSIX message queues. */
#include "case.h"
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

static char queue_name[64];

/* A queue of the case's own, whose name is gone already. */
static mqd_t queue(int flags, long messages, long size)
{
	struct mq_attr attr = {.mq_maxmsg = messages, .mq_msgsize = size};
	snprintf(queue_name, sizeof queue_name, "/case-%d", getpid());
	mqd_t fd = expect_ok(mq_open(queue_name, flags | O_CREAT | O_EXCL, 0600, &attr));
	expect_ok(mq_unlink(queue_name));
	return fd;
}

CASE(messages_come_by_priority_then_age)
{
	char text[16];
	unsigned priority;
	mqd_t fd = queue(O_RDWR, 4, 16);
	expect_ok(mq_send(fd, "low", 3, 1));
	expect_ok(mq_send(fd, "high", 4, 9));
	expect_ok(mq_send(fd, "last", 4, 1));
	expect_eq(mq_receive(fd, text, sizeof text, &priority), 4);
	expect_eq(priority, 9);
	expect_eq(mq_receive(fd, text, sizeof text, &priority), 3);
	expect(!memcmp(text, "low", 3));
	expect_eq(mq_receive(fd, text, sizeof text, NULL), 4);
	expect(!memcmp(text, "last", 4));
}

CASE(limits_and_attributes)
{
	char text[16];
	struct mq_attr attr;
	mqd_t fd = queue(O_RDWR | O_NONBLOCK, 1, 8);
	expect_errno(mq_receive(fd, text, sizeof text, NULL), EAGAIN);
	expect_errno(mq_receive(fd, text, 7, NULL), EMSGSIZE);
	expect_errno(mq_send(fd, text, 9, 0), EMSGSIZE);
	expect_errno(mq_send(fd, text, 1, 32768), EINVAL);
	expect_ok(mq_send(fd, text, 1, 0));
	expect_errno(mq_send(fd, text, 1, 0), EAGAIN);
	expect_ok(mq_getattr(fd, &attr));
	expect_eq(attr.mq_flags, O_NONBLOCK);
	expect_eq(attr.mq_maxmsg, 1);
	expect_eq(attr.mq_msgsize, 8);
	expect_eq(attr.mq_curmsgs, 1);
}

CASE(open_errors)
{
	struct mq_attr none = {.mq_maxmsg = 0, .mq_msgsize = 8};
	snprintf(queue_name, sizeof queue_name, "/case-%d", getpid());
	expect_errno(mq_open(queue_name, O_RDWR), ENOENT);
	expect_errno(mq_open("/a/b", O_RDWR | O_CREAT, 0600, NULL), EACCES);
	expect_errno(mq_open(queue_name, O_RDWR | O_CREAT, 0600, &none), EINVAL);
	expect_errno(mq_unlink(queue_name), ENOENT);
	expect_errno(mq_send(0, "", 1, 0), EBADF);
}

CASE(receive_waits_until_a_message_or_the_time)
{
	char text[8];
	struct timespec until;
	mqd_t fd = queue(O_RDWR, 1, 8);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 20000000;
	if (until.tv_nsec >= 1000000000)
		until.tv_sec++, until.tv_nsec -= 1000000000;
	expect_errno(mq_timedreceive(fd, text, sizeof text, NULL, &until), ETIMEDOUT);
	pid_t pid;
	SPAWN(pid) {
		sleep_ms(20);
		expect_ok(mq_send(fd, "x", 1, 0));
	}
	expect_eq(mq_receive(fd, text, sizeof text, NULL), 1);
	expect_exit(pid, 0);
}

CASE(poll_tells_of_messages_and_of_room)
{
	mqd_t fd = queue(O_RDWR, 1, 8);
	struct pollfd one = {.fd = fd, .events = POLLIN | POLLOUT};
	expect_eq(poll(&one, 1, 0), 1);
	expect_eq(one.revents, POLLOUT);
	expect_ok(mq_send(fd, "x", 1, 0));
	expect_eq(poll(&one, 1, 0), 1);
	expect_eq(one.revents, POLLIN);
}

CASE(notification_by_signal_is_given_once)
{
	sigset_t set;
	siginfo_t info;
	struct timespec soon = {.tv_nsec = 20000000};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	event.sigev_value.sival_int = 42;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	expect_ok(sigprocmask(SIG_BLOCK, &set, NULL));
	mqd_t fd = queue(O_RDWR, 4, 8);
	expect_ok(mq_notify(fd, &event));
	expect_errno(mq_notify(fd, &event), EBUSY);
	expect_ok(mq_send(fd, "x", 1, 0));
	expect_eq(sigwaitinfo(&set, &info), SIGUSR1);
	expect_eq(info.si_code, SI_MESGQ);
	expect_eq(info.si_value.sival_int, 42);
	expect_eq(info.si_pid, getpid());
	expect_ok(mq_send(fd, "y", 1, 0));
	expect_errno(sigtimedwait(&set, &info, &soon), EAGAIN);
	expect_ok(mq_notify(fd, &event));
	expect_ok(mq_notify(fd, NULL));
	expect_ok(mq_notify(fd, &event));
}
