/* Ancillary data of AF_UNIX sockets: descriptors, credentials. */
#include "case.h"
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

static int pair[2];

/* Control data for one message. */
struct control {
	union {
		struct cmsghdr header;
		char space[512];
	};
	size_t size;
};

static void add(struct control *control, int type, const void *data, size_t size)
{
	struct cmsghdr *header = (void *)(control->space + control->size);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = type;
	header->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(header), data, size);
	control->size += CMSG_SPACE(size);
}

static ssize_t send_with(int fd, const char *text, struct control *control)
{
	struct iovec part = {(char *)text, strlen(text)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control->space,
				 .msg_controllen = control->size};
	return sendmsg(fd, &message, 0);
}

/* Receives up to `room` bytes; the flags; control->size becomes what came. */
static int receive(int fd, size_t room, struct control *control, size_t control_room, int flags,
		   ssize_t want)
{
	char data[64];
	struct iovec part = {data, room};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control->space,
				 .msg_controllen = control_room};
	memset(control, 0, sizeof *control);
	expect_eq(recvmsg(fd, &message, flags), want);
	control->size = message.msg_controllen;
	return message.msg_flags;
}

static int *descriptors(struct control *control, int *count)
{
	expect(control->size >= CMSG_LEN(sizeof(int)));
	expect_eq(control->header.cmsg_type, SCM_RIGHTS);
	*count = (control->header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
	return (int *)CMSG_DATA(&control->header);
}

static int event_with(uint64_t value)
{
	return expect_ok(eventfd(value, EFD_NONBLOCK));
}

static uint64_t value_of(int fd)
{
	uint64_t value;
	expect_eq(read(fd, &value, 8), 8);
	return value;
}

CASE(descriptors_arrive_as_new_numbers_of_the_same_files)
{
	struct control control = {0};
	int fds[2] = {event_with(11), event_with(22)}, count;
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	add(&control, SCM_RIGHTS, fds, sizeof fds);
	expect_eq(send_with(pair[0], "x", &control), 1);
	expect_ok(close(fds[0]));
	expect_ok(close(fds[1]));
	receive(pair[1], 1, &control, sizeof control.space, 0, 1);
	int *got = descriptors(&control, &count);
	expect_eq(count, 2);
	expect_eq(value_of(got[0]), 11);
	expect_eq(value_of(got[1]), 22);
	expect_eq(fcntl(got[0], F_GETFD), 0);
}

CASE(cmsg_cloexec_marks_received_descriptors)
{
	struct control control = {0};
	int fd = event_with(1), count;
	expect_ok(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	add(&control, SCM_RIGHTS, &fd, sizeof fd);
	expect_eq(send_with(pair[0], "x", &control), 1);
	receive(pair[1], 1, &control, sizeof control.space, MSG_CMSG_CLOEXEC, 1);
	expect_eq(fcntl(descriptors(&control, &count)[0], F_GETFD), FD_CLOEXEC);
}

CASE(too_little_control_space_truncates_and_closes_the_rest)
{
	struct control control = {0};
	int fds[3] = {event_with(1), event_with(2), event_with(3)}, count;
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	add(&control, SCM_RIGHTS, fds, sizeof fds);
	expect_eq(send_with(pair[0], "x", &control), 1);
	int before = expect_ok(dup(0)), next = expect_ok(dup(0));
	expect_ok(close(before));
	expect_ok(close(next));
	int flags = receive(pair[1], 1, &control, CMSG_LEN(sizeof(int)), 0, 1);
	expect_eq(flags & MSG_CTRUNC, MSG_CTRUNC);
	descriptors(&control, &count);
	expect_eq(count, 1);
	/* One number was taken and no more. */
	expect_eq(dup(0), next);
}

CASE(read_drops_descriptors)
{
	struct control control = {0};
	int ends[2];
	char byte;
	expect_ok(pipe(ends));
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	add(&control, SCM_RIGHTS, &ends[1], sizeof(int));
	expect_eq(send_with(pair[0], "x", &control), 1);
	expect_ok(close(ends[1]));
	expect_eq(poll_one(ends[0], POLLIN, 0).revents, 0);
	expect_eq(read(pair[1], &byte, 1), 1);
	/* The last writer went with the message. */
	expect_eq(read(ends[0], &byte, 1), 0);
}

CASE(descriptors_in_flight_end_with_the_socket)
{
	struct control control = {0};
	int ends[2];
	char byte;
	expect_ok(pipe(ends));
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	add(&control, SCM_RIGHTS, &ends[1], sizeof(int));
	expect_eq(send_with(pair[0], "x", &control), 1);
	expect_ok(close(ends[1]));
	expect_ok(close(pair[0]));
	expect_ok(close(pair[1]));
	expect_eq(poll_one(ends[0], POLLIN, 3000).revents & POLLHUP, POLLHUP);
	expect_eq(read(ends[0], &byte, 1), 0);
}

CASE(stream_reads_stop_at_a_message_with_descriptors)
{
	struct control none = {0}, control = {0};
	int fd = event_with(1), count;
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	add(&control, SCM_RIGHTS, &fd, sizeof fd);
	expect_eq(send_with(pair[0], "aa", &none), 2);
	expect_eq(send_with(pair[0], "bb", &control), 2);
	expect_eq(send_with(pair[0], "cc", &none), 2);
	/* Bytes sent before may be joined with it, bytes sent after may not. */
	struct control got;
	receive(pair[1], 64, &got, sizeof got.space, 0, 4);
	descriptors(&got, &count);
	expect_eq(count, 1);
	receive(pair[1], 64, &got, sizeof got.space, 0, 2);
	expect_eq(got.size, 0);
}

CASE(peek_gives_descriptors_each_time)
{
	struct control control = {0};
	int fd = event_with(1), count;
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	add(&control, SCM_RIGHTS, &fd, sizeof fd);
	expect_eq(send_with(pair[0], "x", &control), 1);
	receive(pair[1], 1, &control, sizeof control.space, MSG_PEEK, 1);
	int first = descriptors(&control, &count)[0];
	receive(pair[1], 1, &control, sizeof control.space, 0, 1);
	expect(descriptors(&control, &count)[0] != first);
}

CASE(bad_descriptors_and_lengths_are_errors)
{
	struct control control = {0};
	int bad = 0x3fff;
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	add(&control, SCM_RIGHTS, &bad, sizeof bad);
	expect_errno(send_with(pair[0], "x", &control), EBADF);
	control.header.cmsg_len = 3;
	expect_errno(send_with(pair[0], "x", &control), EINVAL);
	control = (struct control){0};
	add(&control, 99, &bad, sizeof bad);
	expect_errno(send_with(pair[0], "x", &control), EINVAL);
}

CASE(at_most_253_descriptors_go_at_once)
{
	static struct {
		struct cmsghdr header;
		int fds[254];
	} big;
	struct iovec part = {"x", 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &big};
	expect_ok(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	big.header.cmsg_level = SOL_SOCKET;
	big.header.cmsg_type = SCM_RIGHTS;
	message.msg_controllen = big.header.cmsg_len = CMSG_LEN(254 * sizeof(int));
	expect_errno(sendmsg(pair[0], &message, 0), EINVAL);
	message.msg_controllen = big.header.cmsg_len = CMSG_LEN(253 * sizeof(int));
	expect_eq(sendmsg(pair[0], &message, 0), 1);
}

CASE(sockets_can_be_sent_over_themselves)
{
	struct control control = {0};
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	add(&control, SCM_RIGHTS, pair, sizeof pair);
	expect_eq(send_with(pair[0], "x", &control), 1);
	int count, *got;
	receive(pair[1], 1, &control, sizeof control.space, 0, 1);
	got = descriptors(&control, &count);
	expect_eq(write(got[0], "y", 1), 1);
	char byte;
	expect_eq(read(got[1], &byte, 1), 1);
}

CASE(passcred_gives_the_senders_ids)
{
	struct control control = {0};
	int on = 1;
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	expect_ok(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
	pid_t pid;
	SPAWN(pid)
		expect_eq(write(pair[0], "x", 1), 1);
	receive(pair[1], 1, &control, sizeof control.space, 0, 1);
	expect_eq(control.header.cmsg_type, SCM_CREDENTIALS);
	struct ucred *ids = (void *)CMSG_DATA(&control.header);
	expect_eq(ids->pid, pid);
	expect_eq(ids->uid, getuid());
	expect_eq(ids->gid, getgid());
	expect_exit(pid, 0);
}

CASE(claimed_credentials_are_checked)
{
	struct control control = {0};
	struct ucred ids = {getpid(), getuid(), getgid()};
	expect_ok(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	add(&control, SCM_CREDENTIALS, &ids, sizeof ids);
	expect_eq(send_with(pair[0], "x", &control), 1);
	be_ordinary();
	ids.uid = 0;
	control = (struct control){0};
	add(&control, SCM_CREDENTIALS, &ids, sizeof ids);
	expect_errno(send_with(pair[0], "x", &control), EPERM);
}

CASE(peercred_names_the_connecting_process)
{
	struct ucred ids;
	socklen_t size = sizeof ids;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t length = sizeof address;
	int server = expect_ok(socket(AF_UNIX, SOCK_STREAM, 0));
	expect_ok(bind(server, (void *)&address, sizeof(sa_family_t)));
	expect_ok(getsockname(server, (void *)&address, &length));
	expect_ok(listen(server, 1));
	pid_t pid;
	SPAWN(pid) {
		int fd = expect_ok(socket(AF_UNIX, SOCK_STREAM, 0));
		expect_ok(connect(fd, (void *)&address, length));
		expect_ok(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ids, &size));
		expect_eq(ids.pid, getppid());
	}
	int peer = expect_ok(accept(server, NULL, NULL));
	expect_ok(getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &ids, &size));
	expect_eq(ids.pid, pid);
	expect_eq(ids.uid, getuid());
	expect_exit(pid, 0);
}

CASE(descriptor_sent_to_another_process_shares_the_offset)
{
	struct control control = {0};
	int fd = expect_ok(memfd_create("m", 0)), count;
	expect_eq(write(fd, "abcdef", 6), 6);
	expect_eq(lseek(fd, 2, SEEK_SET), 2);
	expect_ok(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	pid_t pid;
	SPAWN(pid) {
		char got[2];
		close(fd);
		receive(pair[1], 1, &control, sizeof control.space, 0, 1);
		expect_eq(read(descriptors(&control, &count)[0], got, 2), 2);
		expect_mem(got, "cd", 2);
	}
	add(&control, SCM_RIGHTS, &fd, sizeof fd);
	expect_eq(send_with(pair[0], "x", &control), 1);
	expect_exit(pid, 0);
	expect_eq(lseek(fd, 0, SEEK_CUR), 4);
}
