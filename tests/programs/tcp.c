/* TCP over loopback, IPv4 and IPv6. */
#include "case.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int server, client, peer;
static uint16_t port;

static struct sockaddr_in loopback(uint16_t at)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(at),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int bound(uint16_t at)
{
	struct sockaddr_in address = loopback(at);
	int fd = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_ok(bind(fd, (void *)&address, sizeof address));
	return fd;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in address;
	socklen_t size = sizeof address;
	expect_ok(getsockname(fd, (void *)&address, &size));
	return ntohs(address.sin_port);
}

static int connect_to(int fd, uint16_t at)
{
	struct sockaddr_in address = loopback(at);
	return connect(fd, (void *)&address, sizeof address);
}

static void start_server(void)
{
	server = bound(0);
	port = port_of(server);
	expect_ok(listen(server, 8));
}

static void start(void)
{
	start_server();
	client = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_ok(connect_to(client, port));
	peer = expect_ok(accept(server, NULL, NULL));
}

static void expect_recv(int fd, const char *want, int flags)
{
	char got[64] = {0};
	expect_eq(recv(fd, got, sizeof got, flags), strlen(want));
	expect_str(got, want);
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t size = sizeof value;
	expect_ok(getsockopt(fd, level, name, &value, &size));
	return value;
}

static int set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value);
}

CASE(port_zero_gets_a_free_port)
{
	int a = bound(0), b = bound(0);
	expect(port_of(a) > 0);
	expect(port_of(a) != port_of(b));
}

CASE(connection_carries_bytes_both_ways)
{
	start();
	expect_eq(send(client, "ping", 4, 0), 4);
	expect_recv(peer, "ping", 0);
	expect_eq(send(peer, "pong", 4, 0), 4);
	expect_recv(client, "pong", 0);
}

CASE(names_of_both_ends_agree)
{
	struct sockaddr_in address;
	socklen_t size = sizeof address;
	start();
	expect_ok(getpeername(peer, (void *)&address, &size));
	expect_eq(ntohs(address.sin_port), port_of(client));
	expect_eq(ntohl(address.sin_addr.s_addr), INADDR_LOOPBACK);
	expect_eq(port_of(peer), port);
	expect_ok(getpeername(client, (void *)&address, &size));
	expect_eq(ntohs(address.sin_port), port);
	expect_errno(getpeername(server, (void *)&address, &size), ENOTCONN);
}

CASE(accept_returns_the_clients_address)
{
	struct sockaddr_in address;
	socklen_t size = sizeof address;
	start_server();
	client = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_ok(connect_to(client, port));
	peer = expect_ok(accept4(server, (void *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
	expect_eq(size, sizeof address);
	expect_eq(ntohs(address.sin_port), port_of(client));
	expect(fcntl(peer, F_GETFL) & O_NONBLOCK);
	expect_eq(fcntl(peer, F_GETFD), FD_CLOEXEC);
	expect_errno(accept4(server, NULL, NULL, 1), EINVAL);
}

CASE(connect_without_listener_is_econnrefused)
{
	int fd = bound(0);
	client = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_errno(connect_to(client, port_of(fd)), ECONNREFUSED);
}

CASE(bind_errors)
{
	struct sockaddr_in address = loopback(0);
	start_server();
	address.sin_port = htons(port);
	int fd = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_errno(bind(fd, (void *)&address, sizeof address), EADDRINUSE);
	address.sin_addr.s_addr = inet_addr("203.0.113.1");
	expect_errno(bind(fd, (void *)&address, sizeof address), EADDRNOTAVAIL);
	expect_errno(bind(fd, (void *)&address, 4), EINVAL);
	address.sin_family = AF_INET6;
	expect_errno(bind(fd, (void *)&address, sizeof address), EAFNOSUPPORT);
	expect_errno(bind(server, (void *)&address, sizeof address), EAFNOSUPPORT);
}

CASE(reuseaddr_allows_binding_over_time_wait)
{
	struct sockaddr_in any = loopback(0);
	server = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_ok(set(server, SOL_SOCKET, SO_REUSEADDR, 1));
	expect_ok(bind(server, (void *)&any, sizeof any));
	expect_ok(listen(server, 1));
	port = port_of(server);
	client = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_ok(connect_to(client, port));
	peer = expect_ok(accept(server, NULL, NULL));
	expect_ok(close(peer)); /* the server's side closes first and waits */
	expect_eq(recv(client, &(char){0}, 1, 0), 0);
	expect_ok(close(client));
	expect_ok(close(server));
	struct sockaddr_in address = loopback(port);
	int fd = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_errno(bind(fd, (void *)&address, sizeof address), EADDRINUSE);
	expect_ok(set(fd, SOL_SOCKET, SO_REUSEADDR, 1));
	expect_ok(bind(fd, (void *)&address, sizeof address));
	expect_ok(listen(fd, 1));
}

CASE(reuseport_lets_two_listeners_share_a_port)
{
	int a = expect_ok(socket(AF_INET, SOCK_STREAM, 0)), b = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in address = loopback(0);
	expect_ok(set(a, SOL_SOCKET, SO_REUSEPORT, 1));
	expect_ok(set(b, SOL_SOCKET, SO_REUSEPORT, 1));
	expect_ok(bind(a, (void *)&address, sizeof address));
	address.sin_port = htons(port_of(a));
	expect_ok(bind(b, (void *)&address, sizeof address));
	expect_ok(listen(a, 1));
	expect_ok(listen(b, 1));
}

CASE(orderly_close_is_end_of_file_then_reset)
{
	signal(SIGPIPE, SIG_IGN);
	start();
	expect_eq(send(client, "bye", 3, 0), 3);
	expect_ok(close(client));
	expect_recv(peer, "bye", 0);
	expect_eq(recv(peer, &(char){0}, 1, 0), 0);
	expect_eq(send(peer, "x", 1, 0), 1); /* answered with a reset */
	for (int i = 0; i < 1000 && !(poll_one(peer, POLLIN, 0).revents & POLLERR); i++)
		sleep_ms(1);
	expect_errno(send(peer, "x", 1, 0), EPIPE);
}

CASE(half_close_still_carries_the_other_direction)
{
	signal(SIGPIPE, SIG_IGN);
	start();
	expect_ok(shutdown(client, SHUT_WR));
	expect_eq(recv(peer, &(char){0}, 1, 0), 0);
	expect_eq(send(peer, "still", 5, 0), 5);
	expect_recv(client, "still", 0);
	expect_errno(send(client, "x", 1, 0), EPIPE);
	expect_errno(shutdown(expect_ok(socket(AF_INET, SOCK_STREAM, 0)), SHUT_WR), ENOTCONN);
}

CASE(close_with_unread_data_resets)
{
	start();
	expect_eq(send(client, "unread", 6, 0), 6);
	expect_eq(poll_one(peer, POLLIN, 2000).revents, POLLIN);
	expect_ok(close(peer));
	expect_eq(poll_one(client, POLLIN, 2000).revents & (POLLIN | POLLERR | POLLHUP), POLLIN | POLLERR | POLLHUP);
	expect_errno(recv(client, &(char){0}, 1, 0), ECONNRESET);
	expect_eq(recv(client, &(char){0}, 1, 0), 0);
}

CASE(linger_zero_resets)
{
	struct linger now = {1, 0};
	start();
	expect_ok(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now));
	expect_ok(close(client));
	expect_eq(poll_one(peer, POLLIN, 2000).revents & POLLERR, POLLERR);
	expect_eq(option(peer, SOL_SOCKET, SO_ERROR), ECONNRESET);
	expect_eq(option(peer, SOL_SOCKET, SO_ERROR), 0);
}

CASE(nonblocking_connect_is_einprogress_then_writable)
{
	start_server();
	client = expect_ok(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	if (connect_to(client, port) == -1)
		expect_eq(errno, EINPROGRESS);
	expect_eq(poll_one(client, POLLOUT, 2000).revents, POLLOUT);
	expect_eq(option(client, SOL_SOCKET, SO_ERROR), 0);
	int again = connect_to(client, port);
	expect(again == 0 || errno == EISCONN);
	expect_errno(connect_to(client, port), EISCONN);
}

CASE(nonblocking_connect_failure_is_in_so_error)
{
	int fd = bound(0);
	client = expect_ok(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	if (connect_to(client, port_of(fd)) == -1 && errno == ECONNREFUSED)
		return;
	expect_eq(errno, EINPROGRESS);
	expect_eq(poll_one(client, POLLOUT, 2000).revents & (POLLERR | POLLHUP), POLLERR | POLLHUP);
	expect_eq(option(client, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
}

CASE(unconnected_socket_is_enotconn_and_hup)
{
	client = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_errno(recv(client, &(char){0}, 1, 0), ENOTCONN);
	expect_errno(send(client, "x", 1, MSG_NOSIGNAL), EPIPE);
	expect_eq(poll_one(client, POLLIN | POLLOUT, 0).revents, POLLOUT | POLLHUP);
	expect_errno(accept(client, NULL, NULL), EINVAL);
}

CASE(poll_states_of_a_connection)
{
	start();
	expect_eq(poll_one(peer, POLLIN | POLLOUT, 0).revents, POLLOUT);
	expect_eq(send(client, "x", 1, 0), 1);
	expect_eq(poll_one(peer, POLLIN, 2000).revents, POLLIN);
	expect_ok(shutdown(client, SHUT_WR));
	expect_eq(poll_one(peer, POLLRDHUP, 2000).revents, POLLRDHUP);
	expect_ok(shutdown(peer, SHUT_WR));
	expect_eq(poll_one(peer, POLLIN | POLLHUP, 2000).revents & POLLHUP, POLLHUP);
}

CASE(listener_polls_readable_with_a_pending_connection)
{
	start_server();
	expect_eq(poll_one(server, POLLIN, 0).revents, 0);
	client = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_ok(connect_to(client, port));
	expect_eq(poll_one(server, POLLIN, 2000).revents, POLLIN);
	/* Data can be sent before the connection is accepted. */
	expect_eq(send(client, "early", 5, 0), 5);
	expect_recv(expect_ok(accept(server, NULL, NULL)), "early", 0);
	expect_ok(fcntl(server, F_SETFL, O_NONBLOCK));
	expect_errno(accept(server, NULL, NULL), EAGAIN);
}

CASE(peek_trunc_and_waitall)
{
	char got[8] = {0};
	start();
	expect_eq(send(client, "abcdef", 6, 0), 6);
	expect_eq(recv(peer, got, 3, MSG_PEEK), 3);
	expect_mem(got, "abc", 3);
	expect_eq(recv(peer, NULL, 2, MSG_TRUNC), 2); /* discards */
	expect_eq(recv(peer, got, 4, MSG_WAITALL), 4);
	expect_mem(got, "cdef", 4);
	expect_errno(recv(peer, got, 1, MSG_DONTWAIT), EAGAIN);
}

CASE(urgent_byte_is_out_of_band)
{
	char byte;
	start();
	expect_eq(send(client, "aU", 2, MSG_OOB), 2);
	expect_eq(poll_one(peer, POLLPRI, 2000).revents, POLLPRI);
	expect_eq(recv(peer, &byte, 1, MSG_OOB), 1);
	expect_eq(byte, 'U');
	expect_recv(peer, "a", 0);
	expect_errno(recv(peer, &byte, 1, MSG_OOB), EINVAL);
}

CASE(megabytes_arrive_in_order)
{
	enum { SIZE = 4 << 20 };
	unsigned char *out = map_anonymous(SIZE), *in = map_anonymous(SIZE);
	for (int i = 0; i < SIZE; i++)
		out[i] = i * 31 + i / 1021;
	start();
	pid_t pid;
	SPAWN(pid) {
		ssize_t sent = 0;
		while (sent < SIZE)
			sent += expect_ok(send(client, out + sent, SIZE - sent, 0));
	}
	expect_ok(close(client));
	ssize_t got = 0, more;
	while ((more = expect_ok(recv(peer, in + got, SIZE - got, 0))) > 0)
		got += more;
	expect_eq(got, SIZE);
	expect_mem(in, out, SIZE);
	expect_exit(pid, 0);
}

CASE(full_send_buffer_is_eagain_until_read)
{
	static char block[65536];
	start();
	expect_ok(fcntl(client, F_SETFL, O_NONBLOCK));
	expect_ok(fcntl(peer, F_SETFL, O_NONBLOCK));
	while (send(client, block, sizeof block, 0) > 0 || poll_one(client, POLLOUT, 20).revents)
		;
	expect_errno(send(client, block, sizeof block, 0), EAGAIN);
	while (recv(peer, block, sizeof block, 0) > 0)
		;
	expect_eq(poll_one(client, POLLOUT, 2000).revents, POLLOUT);
}

CASE(options_are_read_back)
{
	start();
	expect_eq(option(client, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	expect_eq(option(client, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	expect_eq(option(server, SOL_SOCKET, SO_ACCEPTCONN), 1);
	expect_eq(option(client, SOL_SOCKET, SO_ACCEPTCONN), 0);
	expect_eq(option(client, IPPROTO_TCP, TCP_NODELAY), 0);
	expect_ok(set(client, IPPROTO_TCP, TCP_NODELAY, 1));
	expect_eq(option(client, IPPROTO_TCP, TCP_NODELAY), 1);
	expect_ok(set(client, SOL_SOCKET, SO_KEEPALIVE, 7));
	expect_eq(option(client, SOL_SOCKET, SO_KEEPALIVE), 1);
	expect_ok(set(client, IPPROTO_TCP, TCP_KEEPIDLE, 60));
	expect_eq(option(client, IPPROTO_TCP, TCP_KEEPIDLE), 60);
	expect_ok(set(client, SOL_SOCKET, SO_RCVBUF, 20000));
	expect_eq(option(client, SOL_SOCKET, SO_RCVBUF), 40000);
	expect_errno(set(client, IPPROTO_TCP, 9999, 1), ENOPROTOOPT);
	expect_errno(set(client, IPPROTO_TCP, TCP_KEEPIDLE, 0), EINVAL);
}

CASE(tcp_info_shows_the_state)
{
	struct tcp_info info;
	socklen_t size = sizeof info;
	start();
	expect_ok(getsockopt(client, IPPROTO_TCP, TCP_INFO, &info, &size));
	expect_eq(info.tcpi_state, TCP_ESTABLISHED);
	expect_ok(getsockopt(server, IPPROTO_TCP, TCP_INFO, &info, &size));
	expect_eq(info.tcpi_state, TCP_LISTEN);
}

CASE(fionread_counts_received_bytes)
{
	int count = -1;
	start();
	expect_eq(send(client, "abcde", 5, 0), 5);
	expect_eq(poll_one(peer, POLLIN, 2000).revents, POLLIN);
	expect_ok(ioctl(peer, FIONREAD, &count));
	expect_eq(count, 5);
}

CASE(disconnect_with_af_unspec_frees_the_socket)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	start();
	expect_ok(connect(client, &none, sizeof none));
	expect_errno(send(client, "x", 1, MSG_NOSIGNAL), ECONNRESET);
	expect_ok(connect_to(client, port));
}

CASE(blocked_accept_and_recv_wake)
{
	start_server();
	pid_t pid;
	SPAWN(pid) {
		int fd = expect_ok(accept(server, NULL, NULL));
		expect_recv(fd, "wake", 0);
	}
	wait_for_state(pid, 'S');
	client = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_ok(connect_to(client, port));
	sleep_ms(5);
	expect_eq(send(client, "wake", 4, 0), 4);
	expect_exit(pid, 0);
}

CASE(shutdown_of_a_listener_wakes_accept_with_einval)
{
	start_server();
	pid_t pid;
	SPAWN(pid)
		expect_errno(accept(server, NULL, NULL), EINVAL);
	wait_for_state(pid, 'S');
	expect_ok(shutdown(server, SHUT_RD));
	expect_exit(pid, 0);
}

static int socket6(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	if (fd == -1 || bind(fd, (void *)&any, sizeof any) == -1)
		skip("no IPv6 loopback");
	close(fd);
	return expect_ok(socket(AF_INET6, SOCK_STREAM, 0));
}

CASE(ipv6_connection)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t size = sizeof address;
	int fd = socket6();
	expect_ok(bind(fd, (void *)&address, size));
	expect_ok(getsockname(fd, (void *)&address, &size));
	expect_eq(size, sizeof address);
	expect_ok(listen(fd, 1));
	client = socket6();
	expect_ok(connect(client, (void *)&address, size));
	expect_eq(send(client, "six", 3, 0), 3);
	expect_recv(expect_ok(accept(fd, NULL, NULL)), "six", 0);
}

CASE(dual_stack_listener_sees_ipv4_as_mapped)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6};
	socklen_t size = sizeof address;
	int fd = socket6();
	expect_ok(set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0));
	expect_ok(bind(fd, (void *)&address, size));
	expect_ok(getsockname(fd, (void *)&address, &size));
	expect_ok(listen(fd, 1));
	client = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_ok(connect_to(client, ntohs(address.sin6_port)));
	expect_ok(accept(fd, (void *)&address, &size));
	expect(IN6_IS_ADDR_V4MAPPED(&address.sin6_addr));
}

CASE(v6only_listener_refuses_ipv4)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6};
	socklen_t size = sizeof address;
	int fd = socket6();
	expect_ok(set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1));
	expect_ok(bind(fd, (void *)&address, size));
	expect_ok(getsockname(fd, (void *)&address, &size));
	expect_ok(listen(fd, 1));
	client = expect_ok(socket(AF_INET, SOCK_STREAM, 0));
	expect_errno(connect_to(client, ntohs(address.sin6_port)), ECONNREFUSED);
}

CASE(nobody_waits_for_a_queued_error)
{
	char byte;
	int fd = expect_ok(socket(AF_INET, SOCK_DGRAM, 0));
	expect_errno(recv(fd, &byte, 1, MSG_ERRQUEUE), EAGAIN);
	start();
	expect_errno(recv(client, &byte, 1, MSG_ERRQUEUE), EAGAIN);
}
