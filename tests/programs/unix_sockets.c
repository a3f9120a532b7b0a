/* AF_UNIX stream, datagram and seqpacket sockets. */
#include "case.h"
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static int pair[2];

static void connect_pair(int type)
{
	expect_ok(socketpair(AF_UNIX, type, 0, pair));
}

static socklen_t name(struct sockaddr_un *address, const char *path)
{
	memset(address, 0, sizeof *address);
	address->sun_family = AF_UNIX;
	strcpy(address->sun_path, path);
	return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
}

/* The abstract name "\0<text><pid>". */
static socklen_t abstract(struct sockaddr_un *address, const char *text)
{
	memset(address, 0, sizeof *address);
	address->sun_family = AF_UNIX;
	int size = snprintf(address->sun_path + 1, 100, "%s%d", text, getpid());
	return offsetof(struct sockaddr_un, sun_path) + 1 + size;
}

static int bound(int type, const char *path)
{
	struct sockaddr_un address;
	socklen_t size = name(&address, path);
	int fd = expect_ok(socket(AF_UNIX, type, 0));
	expect_ok(bind(fd, (void *)&address, size));
	return fd;
}

static int connect_to(int fd, const char *path)
{
	struct sockaddr_un address;
	socklen_t size = name(&address, path);
	return connect(fd, (void *)&address, size);
}

static void expect_recv(int fd, const char *want, int flags)
{
	char got[64] = {0};
	expect_eq(recv(fd, got, sizeof got, flags), strlen(want));
	expect_str(got, want);
}

CASE(socket_arguments_are_checked)
{
	expect_errno(socket(AF_UNIX, 77, 0), EINVAL);
	expect_errno(socket(9999, SOCK_STREAM, 0), EAFNOSUPPORT);
	expect_errno(socket(AF_UNIX, SOCK_STREAM, 99), EPROTONOSUPPORT);
	expect_errno(socketpair(AF_INET, SOCK_STREAM, 0, pair), EOPNOTSUPP);
	int fd = expect_ok(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	expect(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

CASE(stream_pair_carries_bytes_both_ways)
{
	connect_pair(SOCK_STREAM);
	expect_eq(send(pair[0], "abc", 3, 0), 3);
	expect_eq(write(pair[0], "def", 3), 3);
	expect_recv(pair[1], "abcdef", 0);
	expect_eq(send(pair[1], "back", 4, 0), 4);
	expect_recv(pair[0], "back", 0);
}

CASE(stream_close_is_end_of_file_then_epipe)
{
	char byte;
	signal(SIGPIPE, SIG_IGN);
	connect_pair(SOCK_STREAM);
	expect_eq(send(pair[0], "x", 1, 0), 1);
	expect_ok(close(pair[0]));
	expect_eq(recv(pair[1], &byte, 1, 0), 1);
	expect_eq(recv(pair[1], &byte, 1, 0), 0);
	expect_errno(send(pair[1], "x", 1, 0), EPIPE);
}

CASE(stream_close_with_unread_data_is_econnreset)
{
	char byte;
	connect_pair(SOCK_STREAM);
	expect_eq(send(pair[1], "unread", 6, 0), 6);
	expect_ok(close(pair[0]));
	expect_errno(recv(pair[1], &byte, 1, 0), ECONNRESET);
	expect_eq(recv(pair[1], &byte, 1, 0), 0);
}

CASE(nosignal_keeps_sigpipe_away)
{
	connect_pair(SOCK_STREAM);
	expect_ok(close(pair[0]));
	expect_errno(send(pair[1], "x", 1, MSG_NOSIGNAL), EPIPE);
	pid_t pid;
	SPAWN(pid)
		send(pair[1], "x", 1, 0);
	expect_killed(pid, SIGPIPE);
}

CASE(shutdown_of_writing_and_reading)
{
	char byte;
	signal(SIGPIPE, SIG_IGN);
	connect_pair(SOCK_STREAM);
	expect_ok(shutdown(pair[0], SHUT_WR));
	expect_errno(send(pair[0], "x", 1, 0), EPIPE);
	expect_eq(recv(pair[1], &byte, 1, 0), 0);
	expect_eq(send(pair[1], "y", 1, 0), 1);
	expect_recv(pair[0], "y", 0);
	expect_ok(shutdown(pair[0], SHUT_RD));
	expect_eq(recv(pair[0], &byte, 1, 0), 0);
	expect_errno(send(pair[1], "z", 1, 0), EPIPE);
	expect_errno(shutdown(pair[0], 9), EINVAL);
}

CASE(peek_leaves_the_data)
{
	connect_pair(SOCK_STREAM);
	expect_eq(send(pair[0], "abc", 3, 0), 3);
	expect_recv(pair[1], "abc", MSG_PEEK);
	expect_recv(pair[1], "abc", 0);
	expect_errno(recv(pair[1], &(char){0}, 1, MSG_DONTWAIT), EAGAIN);
}

CASE(waitall_waits_for_all)
{
	char got[8] = {0};
	pid_t pid;
	connect_pair(SOCK_STREAM);
	SPAWN(pid) {
		expect_eq(send(pair[0], "abc", 3, 0), 3);
		sleep_ms(15);
		expect_eq(send(pair[0], "def", 3, 0), 3);
	}
	expect_eq(recv(pair[1], got, 6, MSG_WAITALL), 6);
	expect_str(got, "abcdef");
	expect_exit(pid, 0);
}

CASE(peek_offset_moves)
{
	int offset = 2;
	connect_pair(SOCK_STREAM);
	expect_ok(setsockopt(pair[1], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset));
	expect_eq(send(pair[0], "abcd", 4, 0), 4);
	expect_recv(pair[1], "cd", MSG_PEEK);
}

CASE(datagrams_keep_their_boundaries)
{
	char got[4] = {0};
	connect_pair(SOCK_DGRAM);
	expect_eq(send(pair[0], "first", 5, 0), 5);
	expect_eq(send(pair[0], "", 0, 0), 0);
	expect_eq(send(pair[0], "third", 5, 0), 5);
	expect_eq(recv(pair[1], got, 3, 0), 3);
	expect_mem(got, "fir", 3);
	expect_eq(recv(pair[1], got, 3, 0), 0);
	expect_eq(recv(pair[1], got, 3, MSG_TRUNC), 5);
}

CASE(truncated_datagram_is_flagged)
{
	char got[3];
	struct iovec part = {got, 3};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	connect_pair(SOCK_DGRAM);
	expect_eq(send(pair[0], "abcdef", 6, 0), 6);
	expect_eq(recvmsg(pair[1], &message, 0), 3);
	expect_eq(message.msg_flags & MSG_TRUNC, MSG_TRUNC);
	expect_eq(send(pair[0], "ab", 2, 0), 2);
	expect_eq(recvmsg(pair[1], &message, 0), 2);
	expect_eq(message.msg_flags & MSG_TRUNC, 0);
}

CASE(seqpacket_keeps_records_and_has_an_end)
{
	char got[8];
	connect_pair(SOCK_SEQPACKET);
	expect_eq(send(pair[0], "one", 3, 0), 3);
	expect_eq(send(pair[0], "four", 4, 0), 4);
	expect_eq(recv(pair[1], got, 8, 0), 3);
	expect_eq(recv(pair[1], got, 2, MSG_TRUNC), 4);
	expect_ok(close(pair[0]));
	expect_eq(recv(pair[1], got, 8, 0), 0);
}

IN_DIR_CASE(listen_connect_accept_through_a_path)
{
	struct sockaddr_un address;
	socklen_t size = sizeof address;
	int server = bound(SOCK_STREAM, "s"), client = expect_ok(socket(AF_UNIX, SOCK_STREAM, 0));
	expect(S_ISSOCK(stat_of("s").st_mode));
	expect_errno(connect_to(client, "s"), ECONNREFUSED);
	expect_ok(listen(server, 5));
	expect_ok(connect_to(client, "s"));
	int peer = expect_ok(accept4(server, (void *)&address, &size, SOCK_CLOEXEC));
	expect_eq(size, sizeof(sa_family_t)); /* the client has no name */
	expect_eq(fcntl(peer, F_GETFD), FD_CLOEXEC);
	expect_eq(send(client, "hello", 5, 0), 5);
	expect_recv(peer, "hello", 0);
	size = sizeof address;
	expect_ok(getpeername(client, (void *)&address, &size));
	expect_str(address.sun_path, "s");
	size = sizeof address;
	expect_ok(getsockname(peer, (void *)&address, &size));
	expect_str(address.sun_path, "s");
}

IN_DIR_CASE(bind_and_connect_errors)
{
	struct sockaddr_un address;
	socklen_t size = name(&address, "s");
	int fd = bound(SOCK_STREAM, "s"), other = expect_ok(socket(AF_UNIX, SOCK_STREAM, 0));
	expect_errno(bind(other, (void *)&address, size), EADDRINUSE);
	size = name(&address, "t");
	expect_errno(bind(fd, (void *)&address, size), EINVAL);
	expect_errno(access("t", F_OK), ENOENT);
	size = name(&address, "missing/s");
	expect_errno(bind(other, (void *)&address, size), ENOENT);
	expect_errno(connect_to(other, "missing"), ENOENT);
	write_file("file", "");
	expect_errno(connect_to(other, "file"), ECONNREFUSED);
	address.sun_family = AF_INET;
	expect_errno(bind(other, (void *)&address, size), EINVAL);
	expect_errno(bind(other, (void *)&address, 1), EINVAL);
	expect_errno(bind(other, (void *)&address, 200), EINVAL);
	expect_errno(accept(other, NULL, NULL), EINVAL);
	expect_errno(listen(other, 1), EINVAL);
}

IN_DIR_CASE(connect_with_another_type_is_eprototype)
{
	bound(SOCK_DGRAM, "d");
	expect_errno(connect_to(expect_ok(socket(AF_UNIX, SOCK_STREAM, 0)), "d"), EPROTOTYPE);
}

IN_DIR_CASE(unlinked_socket_cannot_be_connected_but_stays_open)
{
	int server = bound(SOCK_STREAM, "s"), client = expect_ok(socket(AF_UNIX, SOCK_STREAM, 0));
	expect_ok(listen(server, 1));
	expect_ok(connect_to(client, "s"));
	expect_ok(unlink("s"));
	expect_errno(connect_to(expect_ok(socket(AF_UNIX, SOCK_STREAM, 0)), "s"), ENOENT);
	expect_ok(accept(server, NULL, NULL));
}

CASE(abstract_names_need_no_file)
{
	struct sockaddr_un address, got;
	socklen_t size = abstract(&address, "lz"), length = sizeof got;
	int server = expect_ok(socket(AF_UNIX, SOCK_STREAM, 0)), client = expect_ok(socket(AF_UNIX, SOCK_STREAM, 0));
	expect_ok(bind(server, (void *)&address, size));
	expect_ok(listen(server, 1));
	expect_errno(bind(client, (void *)&address, size), EADDRINUSE);
	expect_ok(connect(client, (void *)&address, size));
	expect_ok(getpeername(client, (void *)&got, &length));
	expect_eq(length, size);
	expect_mem(&got, &address, size);
	expect_ok(close(server));
	expect_errno(connect(expect_ok(socket(AF_UNIX, SOCK_STREAM, 0)), (void *)&address, size), ECONNREFUSED);
}

CASE(autobind_gives_an_abstract_name_of_five_hex_digits)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t size = sizeof address;
	int fd = expect_ok(socket(AF_UNIX, SOCK_DGRAM, 0));
	expect_ok(bind(fd, (void *)&address, sizeof(sa_family_t)));
	expect_ok(getsockname(fd, (void *)&address, &size));
	expect_eq(size, sizeof(sa_family_t) + 6);
	expect_eq(address.sun_path[0], 0);
	expect_eq(strspn(address.sun_path + 1, "0123456789abcdef"), 5);
}

IN_DIR_CASE(datagrams_carry_the_senders_name)
{
	struct sockaddr_un from, to;
	socklen_t size = sizeof from;
	char got[8];
	int a = bound(SOCK_DGRAM, "a"), b = bound(SOCK_DGRAM, "b");
	socklen_t length = name(&to, "b");
	expect_eq(sendto(a, "hi", 2, 0, (void *)&to, length), 2);
	expect_eq(recvfrom(b, got, 8, 0, (void *)&from, &size), 2);
	expect_str(from.sun_path, "a");
	expect_errno(send(a, "x", 1, 0), ENOTCONN);
	expect_ok(connect_to(a, "b"));
	expect_eq(send(a, "x", 1, 0), 1);
	expect_ok(close(b));
	expect_errno(send(a, "x", 1, 0), ECONNREFUSED);
}

IN_DIR_CASE(connected_datagram_socket_refuses_other_senders)
{
	struct sockaddr_un to;
	int a = bound(SOCK_DGRAM, "a"), other = bound(SOCK_DGRAM, "o");
	bound(SOCK_DGRAM, "b");
	expect_ok(connect_to(a, "b"));
	socklen_t size = name(&to, "a");
	expect_errno(sendto(other, "x", 1, 0, (void *)&to, size), EPERM);
}

CASE(listen_backlog_makes_nonblocking_connect_eagain)
{
	struct sockaddr_un address;
	socklen_t size = abstract(&address, "backlog");
	int server = expect_ok(socket(AF_UNIX, SOCK_STREAM, 0)), connected = 0;
	expect_ok(bind(server, (void *)&address, size));
	expect_ok(listen(server, 1));
	for (;; connected++) {
		int fd = expect_ok(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
		if (connect(fd, (void *)&address, size) == -1)
			break;
	}
	expect_eq(errno, EAGAIN);
	expect_eq(connected, 2);
}

CASE(poll_states_of_a_stream_pair)
{
	connect_pair(SOCK_STREAM);
	expect_eq(poll_one(pair[0], POLLIN | POLLOUT, 0).revents, POLLOUT);
	expect_eq(send(pair[1], "x", 1, 0), 1);
	expect_eq(poll_one(pair[0], POLLIN | POLLOUT, 0).revents, POLLIN | POLLOUT);
	expect_ok(shutdown(pair[1], SHUT_WR));
	expect_eq(poll_one(pair[0], POLLIN | POLLRDHUP, 0).revents, POLLIN | POLLRDHUP);
	expect_ok(close(pair[1]));
	expect_eq(poll_one(pair[0], POLLIN | POLLOUT, 0).revents, POLLIN | POLLOUT | POLLHUP);
}

CASE(poll_of_a_listener_reports_a_connection)
{
	struct sockaddr_un address;
	socklen_t size = abstract(&address, "poll");
	int server = expect_ok(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
	expect_eq(poll_one(server, POLLIN | POLLOUT, 0).revents, POLLOUT | POLLHUP);
	expect_ok(bind(server, (void *)&address, size));
	expect_ok(listen(server, 1));
	expect_eq(poll_one(server, POLLIN, 0).revents, 0);
	expect_errno(accept(server, NULL, NULL), EAGAIN);
	expect_ok(connect(expect_ok(socket(AF_UNIX, SOCK_STREAM, 0)), (void *)&address, size));
	expect_eq(poll_one(server, POLLIN, 0).revents, POLLIN);
}

CASE(full_stream_is_eagain_and_writable_after_reading)
{
	static char block[65536];
	connect_pair(SOCK_STREAM | SOCK_NONBLOCK);
	size_t total = 0;
	ssize_t size;
	while ((size = send(pair[0], block, sizeof block, 0)) > 0)
		total += size;
	expect_eq(errno, EAGAIN);
	expect(total >= 65536);
	expect_eq(poll_one(pair[0], POLLOUT, 0).revents, 0);
	while ((size = recv(pair[1], block, sizeof block, 0)) > 0)
		total -= size;
	expect_eq(total, 0);
	expect_eq(poll_one(pair[0], POLLOUT, 0).revents, POLLOUT);
}

CASE(socket_options_type_domain_error_and_buffers)
{
	int value = -1;
	socklen_t size = sizeof value;
	connect_pair(SOCK_SEQPACKET);
	expect_ok(getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &value, &size));
	expect_eq(value, SOCK_SEQPACKET);
	expect_ok(getsockopt(pair[0], SOL_SOCKET, SO_DOMAIN, &value, &size));
	expect_eq(value, AF_UNIX);
	expect_ok(getsockopt(pair[0], SOL_SOCKET, SO_ERROR, &value, &size));
	expect_eq(value, 0);
	value = 8192;
	expect_ok(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &value, size));
	expect_ok(getsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &value, &size));
	expect_eq(value, 16384); /* the kernel doubles it */
	expect_errno(getsockopt(pair[0], SOL_SOCKET, 9999, &value, &size), ENOPROTOOPT);
	expect_errno(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &value, 1), EINVAL);
	expect_errno(getsockopt(0x3fff, SOL_SOCKET, SO_TYPE, &value, &size), EBADF);
	int ends[2];
	expect_ok(pipe(ends));
	expect_errno(getsockopt(ends[0], SOL_SOCKET, SO_TYPE, &value, &size), ENOTSOCK);
}

CASE(receive_timeout_is_eagain)
{
	struct timeval limit = {0, 30000};
	connect_pair(SOCK_STREAM);
	expect_ok(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
	long long start = now_ns(CLOCK_MONOTONIC);
	expect_errno(recv(pair[0], &(char){0}, 1, 0), EAGAIN);
	expect(now_ns(CLOCK_MONOTONIC) - start >= 30 * MS);
}

CASE(sendmmsg_and_recvmmsg_move_several)
{
	char a[8] = {0}, b[8] = {0};
	struct iovec out[2] = {{"one", 3}, {"two!", 4}}, in[2] = {{a, 8}, {b, 8}};
	struct mmsghdr send[2] = {{{.msg_iov = &out[0], .msg_iovlen = 1}, 0}, {{.msg_iov = &out[1], .msg_iovlen = 1}, 0}};
	struct mmsghdr get[2] = {{{.msg_iov = &in[0], .msg_iovlen = 1}, 0}, {{.msg_iov = &in[1], .msg_iovlen = 1}, 0}};
	connect_pair(SOCK_DGRAM);
	expect_eq(sendmmsg(pair[0], send, 2, 0), 2);
	expect_eq(send[1].msg_len, 4);
	expect_eq(recvmmsg(pair[1], get, 2, 0, NULL), 2);
	expect_eq(get[0].msg_len, 3);
	expect_str(b, "two!");
}

CASE(fionread_and_siocoutq)
{
	int count = -1;
	connect_pair(SOCK_STREAM);
	expect_eq(send(pair[0], "abcde", 5, 0), 5);
	expect_ok(ioctl(pair[1], FIONREAD, &count));
	expect_eq(count, 5);
	expect_ok(ioctl(pair[0], TIOCOUTQ, &count));
	expect(count > 0);
}

CASE(out_of_band_data_is_received_apart)
{
	char byte;
	connect_pair(SOCK_STREAM);
	if (send(pair[0], "abU", 3, MSG_OOB) == -1 && errno == EOPNOTSUPP)
		skip("the kernel has no out-of-band data here");
	expect_eq(recv(pair[1], &byte, 1, MSG_OOB), 1);
	expect_eq(byte, 'U');
	expect_recv(pair[1], "ab", 0);
}
