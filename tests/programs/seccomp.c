/* seccomp(2): which filters are taken, and what they answer. */
#include "case.h"
#include <linux/filter.h>
#include <linux/seccomp.h>

#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))

static long set_filter(const struct sock_filter *filter, size_t len)
{
	struct sock_fprog program = {.len = len, .filter = (struct sock_filter *)filter};
	expect_ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
#define SET(...) \
	({ \
		const struct sock_filter filter_[] = {__VA_ARGS__}; \
		set_filter(filter_, sizeof filter_ / sizeof *filter_); \
	})

CASE(a_filter_that_reads_a_slot_it_never_wrote_is_einval)
{
	expect_errno(SET(BPF_STMT(BPF_LD | BPF_MEM, 0), ALLOW), EINVAL);
	expect_errno(SET(BPF_STMT(BPF_LDX | BPF_MEM, 15), ALLOW), EINVAL);
	expect_errno(SET(BPF_STMT(BPF_ST, 1), BPF_STMT(BPF_LD | BPF_MEM, 2), ALLOW), EINVAL);
	expect_ok(SET(BPF_STMT(BPF_ST, 1), BPF_STMT(BPF_LDX | BPF_MEM, 1), ALLOW));
	expect_ok(SET(BPF_STMT(BPF_STX, 2), BPF_STMT(BPF_LD | BPF_MEM, 2), ALLOW));
}

CASE(a_slot_must_be_written_on_every_way_to_its_reader)
{
	struct sock_filter one_way[] = {
		NUMBER,
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1),
		BPF_STMT(BPF_ST, 3),
		BPF_STMT(BPF_LD | BPF_MEM, 3),
		ALLOW,
	};
	expect_errno(set_filter(one_way, 5), EINVAL);
	struct sock_filter both_ways[] = {
		NUMBER,
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 2),
		BPF_STMT(BPF_ST, 3),
		BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
		BPF_STMT(BPF_STX, 3),
		BPF_STMT(BPF_LD | BPF_MEM, 3),
		ALLOW,
	};
	expect_ok(set_filter(both_ways, 7));
	/* Nobody comes to what a jump skips: there all slots count as written. */
	expect_ok(SET(BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), BPF_STMT(BPF_LD | BPF_MEM, 9), ALLOW));
	/* But what follows an answer counts as its successor. */
	expect_errno(SET(ALLOW, BPF_STMT(BPF_LD | BPF_MEM, 9), ALLOW), EINVAL);
	expect_ok(SET(BPF_STMT(BPF_ST, 9), ALLOW, BPF_STMT(BPF_LD | BPF_MEM, 9), ALLOW));
}

CASE(a_filter_computes_as_a_processor_does)
{
	/* getppid(2) fails with what the filter computes. */
	struct sock_filter filter[] = {
		NUMBER,
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 10),
		BPF_STMT(BPF_LD | BPF_IMM, 3),
		BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, 5),
		BPF_STMT(BPF_ALU | BPF_NEG, 0),
		BPF_STMT(BPF_LDX | BPF_IMM, 33),
		BPF_STMT(BPF_ALU | BPF_LSH | BPF_X, 0),
		BPF_STMT(BPF_ST, 0),
		BPF_STMT(BPF_LDX | BPF_LEN, 0),
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
		BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
		BPF_STMT(BPF_RET | BPF_A, 0),
		ALLOW,
	};
	expect_ok(set_filter(filter, sizeof filter / sizeof *filter));
	/* 2 << (33 & 31), and 64 bytes of data. */
	expect_errno(syscall(SYS_getppid), 4 + 64);
}
