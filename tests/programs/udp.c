/* UDP over loopback, and interface queries. */
#include "case.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static struct sockaddr_in name_of(int fd)
{
	struct sockaddr_in address;
	socklen_t size = sizeof address;
	expect_ok(getsockname(fd, (void *)&address, &size));
	return address;
}

static int bound(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = expect_ok(socket(AF_INET, SOCK_DGRAM, 0));
	expect_ok(bind(fd, (void *)&address, sizeof address));
	return fd;
}

static ssize_t send_to(int fd, int target, const char *text)
{
	struct sockaddr_in address = name_of(target);
	return sendto(fd, text, strlen(text), 0, (void *)&address, sizeof address);
}

static int connect_to(int fd, int target)
{
	struct sockaddr_in address = name_of(target);
	return connect(fd, (void *)&address, sizeof address);
}

CASE(datagram_arrives_with_its_source)
{
	struct sockaddr_in from;
	socklen_t size = sizeof from;
	char got[8];
	int a = bound(), b = bound();
	expect_eq(send_to(a, b, "hello"), 5);
	expect_eq(recvfrom(b, got, 8, 0, (void *)&from, &size), 5);
	expect_eq(size, sizeof from);
	expect_eq(from.sin_port, name_of(a).sin_port);
	expect_eq(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK);
}

CASE(boundaries_are_kept_and_excess_is_cut)
{
	char got[8];
	int a = bound(), b = bound();
	expect_eq(send_to(a, b, "first"), 5);
	expect_eq(send_to(a, b, ""), 0);
	expect_eq(send_to(a, b, "third"), 5);
	expect_eq(recv(b, got, 2, 0), 2);
	expect_eq(recv(b, got, 8, 0), 0);
	expect_eq(recv(b, got, 2, MSG_TRUNC), 5);
}

CASE(sending_unbound_binds_to_an_ephemeral_port)
{
	int a = expect_ok(socket(AF_INET, SOCK_DGRAM, 0)), b = bound();
	expect_eq(name_of(a).sin_port, 0);
	expect_eq(send_to(a, b, "x"), 1);
	expect(name_of(a).sin_port != 0);
}

CASE(connected_socket_sends_without_address_and_filters)
{
	char got[8];
	int a = bound(), b = bound(), other = bound();
	expect_errno(send(a, "x", 1, 0), EDESTADDRREQ);
	expect_ok(connect_to(a, b));
	expect_eq(send(a, "x", 1, 0), 1);
	expect_eq(recv(b, got, 8, 0), 1);
	expect_eq(send_to(other, a, "no"), 2);
	expect_eq(send_to(b, a, "yes"), 3);
	expect_eq(recv(a, got, 8, 0), 3);
	expect_errno(recv(a, got, 8, MSG_DONTWAIT), EAGAIN);
}

CASE(connected_socket_learns_of_a_refusal)
{
	char got[8];
	int a = bound(), b = bound();
	expect_ok(connect_to(a, b));
	expect_ok(close(b));
	expect_eq(send(a, "x", 1, 0), 1);
	expect_eq(poll_one(a, POLLIN, 2000).revents & POLLERR, POLLERR);
	expect_errno(recv(a, got, 8, 0), ECONNREFUSED);
	expect_errno(recv(a, got, 8, MSG_DONTWAIT), EAGAIN);
}

CASE(disconnect_with_af_unspec)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct sockaddr_in address;
	socklen_t size = sizeof address;
	int a = bound(), b = bound();
	expect_ok(connect_to(a, b));
	expect_ok(getpeername(a, (void *)&address, &size));
	expect_ok(connect(a, &none, sizeof none));
	expect_errno(getpeername(a, (void *)&address, &size), ENOTCONN);
	/* A port that was chosen automatically is given up. */
	expect_eq(name_of(a).sin_port, 0);
}

CASE(peek_and_poll)
{
	char got[8];
	int a = bound(), b = bound();
	expect_eq(poll_one(b, POLLIN | POLLOUT, 0).revents, POLLOUT);
	expect_eq(send_to(a, b, "abc"), 3);
	expect_eq(poll_one(b, POLLIN, 2000).revents, POLLIN);
	expect_eq(recv(b, got, 2, MSG_PEEK), 2);
	expect_eq(recv(b, got, 8, 0), 3);
	expect_eq(poll_one(b, POLLIN, 0).revents, 0);
}

CASE(oversized_datagram_is_emsgsize)
{
	static char big[65536];
	int a = bound(), b = bound();
	expect_ok(connect_to(a, b));
	expect_errno(send(a, big, 65508, 0), EMSGSIZE);
	expect_eq(send(a, big, 65507, 0), 65507);
	expect_eq(recv(b, big, sizeof big, 0), 65507);
}

CASE(fionread_is_the_size_of_the_next_datagram)
{
	int count = -1, a = bound(), b = bound();
	expect_eq(send_to(a, b, "abcd"), 4);
	expect_eq(send_to(a, b, "ef"), 2);
	expect_eq(poll_one(b, POLLIN, 2000).revents, POLLIN);
	expect_ok(ioctl(b, FIONREAD, &count));
	expect_eq(count, 4);
}

CASE(bind_conflicts_and_options)
{
	int value = -1, a = bound(), b = expect_ok(socket(AF_INET, SOCK_DGRAM, 0));
	socklen_t size = sizeof value;
	struct sockaddr_in address = name_of(a);
	expect_errno(bind(b, (void *)&address, sizeof address), EADDRINUSE);
	expect_errno(bind(a, (void *)&address, sizeof address), EINVAL);
	expect_ok(getsockopt(a, SOL_SOCKET, SO_TYPE, &value, &size));
	expect_eq(value, SOCK_DGRAM);
	expect_errno(listen(a, 1), EOPNOTSUPP);
	expect_errno(accept(a, NULL, NULL), EOPNOTSUPP);
	address.sin_addr.s_addr = htonl(INADDR_BROADCAST);
	expect_errno(sendto(a, "x", 1, 0, (void *)&address, sizeof address), EACCES);
}

CASE(pktinfo_tells_the_destination)
{
	int on = 1, a = bound(), b = bound();
	char got[8], control[128];
	struct iovec part = {got, 8};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				 .msg_controllen = sizeof control};
	expect_ok(setsockopt(b, IPPROTO_IP, IP_PKTINFO, &on, sizeof on));
	expect_eq(send_to(a, b, "x"), 1);
	expect_eq(recvmsg(b, &message, 0), 1);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	expect(header && header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_PKTINFO);
	struct in_pktinfo *info = (void *)CMSG_DATA(header);
	expect_eq(ntohl(info->ipi_addr.s_addr), INADDR_LOOPBACK);
}

CASE(timestamps_come_with_the_datagram)
{
	int on = 1, a = bound(), b = bound();
	char got[8], control[128];
	struct iovec part = {got, 8};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				 .msg_controllen = sizeof control};
	expect_ok(setsockopt(b, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on));
	expect_eq(send_to(a, b, "x"), 1);
	expect_eq(recvmsg(b, &message, 0), 1);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	expect(header && header->cmsg_type == SCM_TIMESTAMP);
	/* time() may be a tick behind the clock that stamps. */
	time_t now = time(NULL);
	expect_between(((struct timeval *)CMSG_DATA(header))->tv_sec, now - 2, now + 1);
}

CASE(ipv6_datagram)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t size = sizeof address;
	char got[8];
	int a = socket(AF_INET6, SOCK_DGRAM, 0);
	if (a == -1 || bind(a, (void *)&address, size) == -1)
		skip("no IPv6 loopback");
	expect_ok(getsockname(a, (void *)&address, &size));
	int b = expect_ok(socket(AF_INET6, SOCK_DGRAM, 0));
	expect_eq(sendto(b, "six", 3, 0, (void *)&address, size), 3);
	expect_eq(recv(a, got, 8, 0), 3);
}

CASE(loopback_interface_is_up)
{
	struct ifreq request = {0};
	int fd = expect_ok(socket(AF_INET, SOCK_DGRAM, 0));
	strcpy(request.ifr_name, "lo");
	expect_ok(ioctl(fd, SIOCGIFFLAGS, &request));
	expect(request.ifr_flags & IFF_UP && request.ifr_flags & IFF_LOOPBACK);
	expect_ok(ioctl(fd, SIOCGIFADDR, &request));
	expect_eq(ntohl(((struct sockaddr_in *)&request.ifr_addr)->sin_addr.s_addr), INADDR_LOOPBACK);
	expect(if_nametoindex("lo") > 0);
	strcpy(request.ifr_name, "none0");
	expect_errno(ioctl(fd, SIOCGIFFLAGS, &request), ENODEV);
}

CASE(raw_sockets_need_privilege)
{
	be_ordinary();
	expect_errno(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM);
}
