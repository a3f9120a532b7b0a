/* POSIX message queues: mq_overview(7). */
#include "case.h"
#include <mqueue.h>
#include <pthread.h>

static const char *name(void)
{
	static char text[64];
	snprintf(text, sizeof text, "/case-%d", getpid());
	return text;
}

static mqd_t open_new(long messages, int flags)
{
	struct mq_attr attr = { .mq_maxmsg = messages, .mq_msgsize = 32 };
	mqd_t queue = mq_open(name(), O_CREAT | O_EXCL | O_RDWR | flags, 0600, &attr);
	expect(queue >= 0);
	return queue;
}

CASE(messages_come_by_priority_then_age)
{
	mqd_t queue = open_new(4, 0);
	expect_ok(mq_send(queue, "a", 1, 1));
	expect_ok(mq_send(queue, "b", 1, 5));
	expect_ok(mq_send(queue, "c", 1, 1));
	expect_ok(mq_send(queue, "", 0, 5));
	char text[32];
	unsigned priority;
	expect_eq(mq_receive(queue, text, sizeof text, &priority), 1);
	expect_eq(text[0], 'b');
	expect_eq(priority, 5);
	expect_eq(mq_receive(queue, text, sizeof text, &priority), 0);
	expect_eq(mq_receive(queue, text, sizeof text, &priority), 1);
	expect_eq(text[0], 'a');
	expect_eq(mq_receive(queue, text, sizeof text, &priority), 1);
	expect_eq(text[0], 'c');
	expect_ok(mq_unlink(name()));
	expect_errno(mq_unlink(name()), ENOENT);
}

CASE(full_and_empty_queues_are_eagain_or_time_out)
{
	mqd_t queue = open_new(1, O_NONBLOCK);
	char text[32];
	expect_errno(mq_receive(queue, text, sizeof text, NULL), EAGAIN);
	expect_ok(mq_send(queue, "x", 1, 0));
	expect_errno(mq_send(queue, "y", 1, 0), EAGAIN);
	struct mq_attr attr;
	expect_ok(mq_getattr(queue, &attr));
	expect_eq(attr.mq_curmsgs, 1);
	expect_eq(attr.mq_maxmsg, 1);
	expect_eq(attr.mq_msgsize, 32);
	attr.mq_flags = 0;
	expect_ok(mq_setattr(queue, &attr, NULL));
	struct timespec soon;
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_nsec += 20 * MS;
	if (soon.tv_nsec >= 1000 * MS) {
		soon.tv_nsec -= 1000 * MS;
		soon.tv_sec++;
	}
	expect_errno(mq_timedsend(queue, "y", 1, 0, &soon), ETIMEDOUT);
	expect_ok(mq_unlink(name()));
}

CASE(sizes_and_names_are_checked)
{
	mqd_t queue = open_new(1, 0);
	char text[32] = { 0 };
	expect_errno(mq_send(queue, text, 33, 0), EMSGSIZE);
	expect_errno(mq_receive(queue, text, 31, NULL), EMSGSIZE);
	expect_errno(mq_send(queue, text, 1, 32768), EINVAL);
	expect_errno(mq_open(name(), O_CREAT | O_EXCL | O_RDWR, 0600, NULL), EEXIST);
	expect_errno(mq_open("/no-such-queue", O_RDWR), ENOENT);
	mqd_t reader = mq_open(name(), O_RDONLY);
	expect(reader >= 0);
	expect_errno(mq_send(reader, text, 1, 0), EBADF);
	expect_errno(mq_getattr(0, (struct mq_attr *)text), EBADF);
	expect_ok(mq_unlink(name()));
}

static void *send_later(void *queue)
{
	usleep(20000);
	return (void *)(long)mq_send(*(mqd_t *)queue, "late", 4, 0);
}

CASE(a_receiver_waits_for_a_message)
{
	mqd_t queue = open_new(1, 0);
	struct pollfd pfd = { .fd = queue, .events = POLLIN };
	expect_eq(poll(&pfd, 1, 0), 0);
	pthread_t thread;
	expect_zero(pthread_create(&thread, NULL, send_later, &queue));
	char text[32];
	expect_eq(mq_receive(queue, text, sizeof text, NULL), 4);
	expect_mem(text, "late", 4);
	expect_zero(pthread_join(thread, NULL));
	expect_ok(mq_send(queue, "x", 1, 0));
	expect_eq(poll(&pfd, 1, 0), 1);
	expect_ok(mq_unlink(name()));
}
