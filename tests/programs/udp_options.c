/* What goes with a datagram: hop limit, class and source by control message, and UDP-Lite. */
#include "case.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#ifndef IPPROTO_UDPLITE
#define IPPROTO_UDPLITE 136
#endif
#define SEND_CSCOV 10
#define RECV_CSCOV 11

static int bound6(struct sockaddr_in6 *address)
{
	socklen_t size = sizeof *address;
	*address = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	if (fd == -1 || bind(fd, (void *)address, size) == -1)
		skip("no IPv6 loopback");
	expect_ok(getsockname(fd, (void *)address, &size));
	return fd;
}

static int bound4(struct sockaddr_in *address, int protocol)
{
	socklen_t size = sizeof *address;
	*address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM, protocol);
	if (fd == -1 && errno == EPROTONOSUPPORT)
		skip("no such protocol");
	expect_ok(fd);
	expect_ok(bind(fd, (void *)address, size));
	expect_ok(getsockname(fd, (void *)address, &size));
	return fd;
}

/* Sends "x" with one control message. */
static ssize_t send_with(int fd, void *to, socklen_t size, int level, int kind, const void *data,
			 size_t len)
{
	_Alignas(8) char control[CMSG_SPACE(64)] = {0};
	struct iovec part = {"x", 1};
	struct msghdr message = {.msg_name = to, .msg_namelen = size, .msg_iov = &part, .msg_iovlen = 1,
				 .msg_control = control, .msg_controllen = CMSG_SPACE(len)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = level;
	header->cmsg_type = kind;
	header->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(header), data, len);
	return sendmsg(fd, &message, 0);
}

/* The value of the one control message that comes with the next datagram. */
static int received(int fd, int level, int kind, size_t len)
{
	_Alignas(8) char control[256];
	char got[8];
	int value = 0;
	struct iovec part = {got, 8};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				 .msg_controllen = sizeof control};
	expect_eq(recvmsg(fd, &message, 0), 1);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	expect(header && header->cmsg_level == level && header->cmsg_type == kind);
	expect_eq(header->cmsg_len, CMSG_LEN(len));
	memcpy(&value, CMSG_DATA(header), len);
	expect(CMSG_NXTHDR(&message, header) == NULL);
	return value;
}

CASE(hop_limit_of_one_datagram)
{
	struct sockaddr_in6 to;
	int on = 1, hops, a = bound6(&to), b = expect_ok(socket(AF_INET6, SOCK_DGRAM, 0));
	expect_ok(setsockopt(a, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof on));
	hops = 2;
	expect_eq(send_with(b, &to, sizeof to, IPPROTO_IPV6, IPV6_HOPLIMIT, &hops, sizeof hops), 1);
	expect_eq(received(a, IPPROTO_IPV6, IPV6_HOPLIMIT, sizeof hops), 2);
	hops = -1;
	expect_eq(send_with(b, &to, sizeof to, IPPROTO_IPV6, IPV6_HOPLIMIT, &hops, sizeof hops), 1);
	expect_eq(received(a, IPPROTO_IPV6, IPV6_HOPLIMIT, sizeof hops), 64);
	hops = 256;
	expect_errno(send_with(b, &to, sizeof to, IPPROTO_IPV6, IPV6_HOPLIMIT, &hops, sizeof hops), EINVAL);
	hops = 2;
	expect_errno(send_with(b, &to, sizeof to, IPPROTO_IPV6, IPV6_HOPLIMIT, &hops, 2), EINVAL);
}

CASE(hop_limit_of_a_socket_goes_with_its_datagrams)
{
	struct sockaddr_in6 to;
	int on = 1, hops = 7, a = bound6(&to), b = expect_ok(socket(AF_INET6, SOCK_DGRAM, 0));
	expect_ok(setsockopt(a, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof on));
	expect_ok(setsockopt(b, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, sizeof hops));
	expect_eq(sendto(b, "x", 1, 0, (void *)&to, sizeof to), 1);
	expect_eq(received(a, IPPROTO_IPV6, IPV6_HOPLIMIT, sizeof hops), 7);
}

CASE(traffic_class_of_one_datagram)
{
	struct sockaddr_in6 to;
	int on = 1, class = 32, a = bound6(&to), b = expect_ok(socket(AF_INET6, SOCK_DGRAM, 0));
	expect_ok(setsockopt(a, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on));
	expect_eq(send_with(b, &to, sizeof to, IPPROTO_IPV6, IPV6_TCLASS, &class, sizeof class), 1);
	expect_eq(received(a, IPPROTO_IPV6, IPV6_TCLASS, sizeof class), 32);
}

CASE(time_to_live_and_type_of_service_of_one_datagram)
{
	struct sockaddr_in to;
	int on = 1, off = 0, ttl = 3, tos = 16;
	int a = bound4(&to, 0), b = expect_ok(socket(AF_INET, SOCK_DGRAM, 0));
	expect_ok(setsockopt(a, IPPROTO_IP, IP_RECVTTL, &on, sizeof on));
	expect_eq(send_with(b, &to, sizeof to, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl), 1);
	expect_eq(received(a, IPPROTO_IP, IP_TTL, sizeof ttl), 3);
	expect_errno(send_with(b, &to, sizeof to, IPPROTO_IP, IP_TTL, &off, sizeof off), EINVAL);
	expect_ok(setsockopt(a, IPPROTO_IP, IP_RECVTTL, &off, sizeof off));
	expect_ok(setsockopt(a, IPPROTO_IP, IP_RECVTOS, &on, sizeof on));
	expect_eq(send_with(b, &to, sizeof to, IPPROTO_IP, IP_TOS, &tos, sizeof tos), 1);
	expect_eq(received(a, IPPROTO_IP, IP_TOS, 1), 16);
	expect_errno(send_with(b, &to, sizeof to, IPPROTO_IP, 99, &on, sizeof on), EINVAL);
}

CASE(source_address_by_control_message)
{
	struct sockaddr_in to, from;
	socklen_t size = sizeof from;
	char got[8];
	int a = bound4(&to, 0), b = expect_ok(socket(AF_INET, SOCK_DGRAM, 0));
	struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl(0x7f000005)};
	expect_eq(send_with(b, &to, sizeof to, IPPROTO_IP, IP_PKTINFO, &info, sizeof info), 1);
	expect_eq(recvfrom(a, got, 8, 0, (void *)&from, &size), 1);
	expect_eq(ntohl(from.sin_addr.s_addr), 0x7f000005);
	info.ipi_spec_dst.s_addr = htonl(0x01020304);
	expect_errno(send_with(b, &to, sizeof to, IPPROTO_IP, IP_PKTINFO, &info, sizeof info), ENETUNREACH);
}

CASE(udplite_has_ports_of_its_own)
{
	struct sockaddr_in lite, plain;
	socklen_t size = sizeof(int);
	char got[8];
	int protocol;
	int a = bound4(&lite, IPPROTO_UDPLITE), b = expect_ok(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE));
	plain = lite;
	int c = expect_ok(socket(AF_INET, SOCK_DGRAM, 0));
	expect_ok(bind(c, (void *)&plain, sizeof plain));
	expect_ok(getsockopt(a, SOL_SOCKET, SO_PROTOCOL, &protocol, &size));
	expect_eq(protocol, IPPROTO_UDPLITE);
	expect_eq(sendto(b, "lite", 4, 0, (void *)&lite, sizeof lite), 4);
	expect_eq(recv(a, got, 8, 0), 4);
	expect_errno(recv(c, got, 8, MSG_DONTWAIT), EAGAIN);
}

CASE(udplite_checksum_coverage)
{
	struct sockaddr_in to;
	socklen_t size = sizeof(int);
	char got[64], text[20] = {0};
	int value, a = bound4(&to, IPPROTO_UDPLITE), b = expect_ok(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE));
	int plain = expect_ok(socket(AF_INET, SOCK_DGRAM, 0));
	value = 1;
	expect_ok(setsockopt(b, IPPROTO_UDPLITE, SEND_CSCOV, &value, sizeof value));
	expect_ok(getsockopt(b, IPPROTO_UDPLITE, SEND_CSCOV, &value, &size));
	expect_eq(value, 8);
	/* Who insists on nothing takes a partly covered datagram. */
	expect_eq(sendto(b, text, 20, 0, (void *)&to, sizeof to), 20);
	expect_eq(recv(a, got, 64, 0), 20);
	/* Who insists on more does not get it. */
	value = 20;
	expect_ok(setsockopt(a, IPPROTO_UDPLITE, RECV_CSCOV, &value, sizeof value));
	expect_eq(sendto(b, text, 20, 0, (void *)&to, sizeof to), 20);
	expect_errno(recv(a, got, 64, MSG_DONTWAIT), EAGAIN);
	value = 24;
	expect_ok(setsockopt(b, IPPROTO_UDPLITE, SEND_CSCOV, &value, sizeof value));
	expect_eq(sendto(b, text, 20, 0, (void *)&to, sizeof to), 20);
	expect_eq(recv(a, got, 64, MSG_DONTWAIT), 20);
	expect_errno(setsockopt(plain, IPPROTO_UDPLITE, SEND_CSCOV, &value, sizeof value), ENOPROTOOPT);
}
