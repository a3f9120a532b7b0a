/* User and group ids, capabilities. */
#include "case.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>

static void expect_uids(uid_t real, uid_t effective, uid_t saved)
{
	uid_t r, e, s;
	expect_ok(getresuid(&r, &e, &s));
	expect_eq(r, real);
	expect_eq(e, effective);
	expect_eq(s, saved);
}

/* The raw calls: the C library's would reach other threads as well. */
static int setuid_(uid_t id) { return syscall(SYS_setuid, id); }
static int setreuid_(uid_t r, uid_t e) { return syscall(SYS_setreuid, r, e); }
static int setresuid_(uid_t r, uid_t e, uid_t s) { return syscall(SYS_setresuid, r, e, s); }

struct caps {
	uint32_t effective, permitted, inheritable;
};

static struct caps caps(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	expect_ok(syscall(SYS_capget, &header, data));
	return (struct caps){data[0].effective, data[0].permitted, data[0].inheritable};
}

static int set_caps(struct caps wanted)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{wanted.effective, wanted.permitted, wanted.inheritable}};
	return syscall(SYS_capset, &header, data);
}

CASE(ids_agree_with_proc_status)
{
	char want[128];
	uid_t r, e, s;
	gid_t gr, ge, gs;
	expect_ok(getresuid(&r, &e, &s));
	expect_ok(getresgid(&gr, &ge, &gs));
	expect_eq(r, getuid());
	expect_eq(e, geteuid());
	expect_eq(gr, getgid());
	expect_eq(ge, getegid());
	snprintf(want, sizeof want, "Uid:\t%u\t%u\t%u\t%u\n", r, e, s, e);
	expect(strstr(read_file("/proc/self/status"), want));
	snprintf(want, sizeof want, "Gid:\t%u\t%u\t%u\t%u\n", gr, ge, gs, ge);
	expect(strstr(read_file("/proc/self/status"), want));
}

CASE(ordinary_user_cannot_become_another)
{
	be_ordinary();
	uid_t id = getuid();
	expect_errno(setuid_(0), EPERM);
	expect_errno(setreuid_(-1, 0), EPERM);
	expect_errno(setresuid_(0, -1, -1), EPERM);
	expect_errno(syscall(SYS_setgid, 0), EPERM);
	expect_errno(syscall(SYS_setresgid, -1, 0, -1), EPERM);
	expect_errno(setgroups(0, NULL), EPERM);
	expect_ok(setuid_(id));
	expect_ok(setresuid_(-1, -1, -1));
	expect_uids(id, id, id);
}

CASE(root_setuid_changes_all_three)
{
	need_root();
	expect_ok(setuid_(1000));
	expect_uids(1000, 1000, 1000);
	expect_errno(setuid_(0), EPERM);
}

CASE(setreuid_moves_the_saved_id_with_the_effective)
{
	need_root();
	expect_ok(setreuid_(1000, 2000));
	expect_uids(1000, 2000, 2000);
	expect_ok(setreuid_(-1, 1000));
	expect_uids(1000, 1000, 2000);
	expect_ok(setreuid_(-1, 2000));
	expect_errno(setreuid_(3000, -1), EPERM);
}

CASE(effective_id_can_be_dropped_and_regained_from_the_saved)
{
	need_root();
	expect_ok(setresuid_(-1, 1000, -1));
	expect_uids(0, 1000, 0);
	expect_errno(setresuid_(2000, -1, -1), EPERM);
	expect_ok(setresuid_(-1, 0, -1));
	expect_uids(0, 0, 0);
}

CASE(setfsuid_returns_the_previous_value)
{
	be_ordinary();
	uid_t id = geteuid();
	expect_eq(setfsuid(id), id);
	expect_eq(setfsuid(0), id);
	expect_eq(setfsuid(-1), id);
	expect_eq(setfsgid(getegid()), getegid());
}

CASE(setfsuid_of_root_changes_file_access_only)
{
	need_root();
	expect_eq(setfsuid(65534), 0);
	expect_eq(setfsuid(-1), 65534);
	expect_eq(geteuid(), 0);
}

CASE(setgroups_and_getgroups)
{
	need_root();
	gid_t groups[3] = {30, 10, 20}, got[3];
	expect_ok(setgroups(3, groups));
	expect_eq(getgroups(0, NULL), 3);
	expect_eq(getgroups(3, got), 3);
	/* The kernel keeps them sorted. */
	expect_eq(got[0], 10);
	expect_eq(got[1], 20);
	expect_eq(got[2], 30);
	expect_errno(getgroups(2, got), EINVAL);
	expect_errno(getgroups(-1, got), EINVAL);
	expect_errno(setgroups(65537, groups), EINVAL);
}

IN_DIR_CASE(supplementary_groups_grant_group_access)
{
	need_root();
	write_file("f", "x");
	expect_ok(chown("f", 0, 4321));
	expect_ok(chmod("f", 0640));
	expect_ok(chmod(".", 0755));
	gid_t group = 4321;
	pid_t pid;
	SPAWN(pid) {
		expect_ok(setgroups(1, &group));
		expect_ok(syscall(SYS_setresuid, 65534, 65534, 65534));
		expect_ok(open("f", O_RDONLY));
		expect_errno(open("f", O_WRONLY), EACCES);
	}
	expect_exit(pid, 0);
	SPAWN(pid) {
		be_ordinary();
		expect_errno(open("f", O_RDONLY), EACCES);
	}
	expect_exit(pid, 0);
}

IN_DIR_CASE(owner_class_decides_even_against_the_others)
{
	be_ordinary();
	write_file("f", "x");
	expect_ok(chmod("f", 0077));
	expect_errno(open("f", O_RDONLY), EACCES);
}

CASE(giving_up_root_clears_capabilities)
{
	need_root();
	expect(caps().effective != 0);
	pid_t pid;
	SPAWN(pid) {
		expect_ok(setresuid_(1000, 1000, 1000));
		expect_eq(caps().effective, 0);
		expect_eq(caps().permitted, 0);
	}
	expect_exit(pid, 0);
	SPAWN(pid) {
		uint32_t permitted = caps().permitted;
		expect_ok(setresuid_(-1, 1000, -1));
		expect_eq(caps().effective, 0);
		expect_eq(caps().permitted, permitted);
		expect_ok(setresuid_(-1, 0, -1));
		expect_eq(caps().effective, permitted);
	}
	expect_exit(pid, 0);
}

CASE(keepcaps_keeps_the_permitted_set)
{
	need_root();
	uint32_t permitted = caps().permitted;
	expect_eq(prctl(PR_GET_KEEPCAPS), 0);
	expect_ok(prctl(PR_SET_KEEPCAPS, 1));
	expect_eq(prctl(PR_GET_KEEPCAPS), 1);
	expect_ok(setresuid_(1000, 1000, 1000));
	expect_eq(caps().permitted, permitted);
	expect_eq(caps().effective, 0);
}

CASE(capset_can_drop_but_not_regain)
{
	need_root();
	struct caps now = caps();
	now.effective &= ~(1U << CAP_CHOWN);
	expect_ok(set_caps(now));
	expect_eq(caps().effective, now.effective);
	now.effective |= 1U << CAP_CHOWN;
	expect_ok(set_caps(now));
	now.effective &= ~(1U << CAP_CHOWN);
	now.permitted &= ~(1U << CAP_CHOWN);
	expect_ok(set_caps(now));
	now.permitted |= 1U << CAP_CHOWN;
	expect_errno(set_caps(now), EPERM);
}

CASE(capability_calls_check_version_and_pid)
{
	struct __user_cap_header_struct header = {0x1234, 0};
	struct __user_cap_data_struct data[2];
	expect_errno(syscall(SYS_capget, &header, data), EINVAL);
	expect_eq(header.version, _LINUX_CAPABILITY_VERSION_3);
	expect_ok(syscall(SYS_capget, &header, NULL));
	header.pid = -1;
	expect_errno(syscall(SYS_capget, &header, data), EINVAL);
	header.pid = 1 << 22;
	expect_errno(syscall(SYS_capget, &header, data), ESRCH);
	expect_errno(syscall(SYS_capset, &header, data), EPERM);
	expect_errno(syscall(SYS_capget, 8, data), EFAULT);
}

CASE(capbset_read_and_drop)
{
	expect_eq(prctl(PR_CAPBSET_READ, 100), -1);
	expect_eq(errno, EINVAL);
	int chown = expect_ok(prctl(PR_CAPBSET_READ, CAP_CHOWN));
	if (!has_cap(CAP_SETPCAP)) {
		expect_errno(prctl(PR_CAPBSET_DROP, CAP_CHOWN), EPERM);
		expect_eq(prctl(PR_CAPBSET_READ, CAP_CHOWN), chown);
	} else {
		expect_ok(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
		expect_eq(prctl(PR_CAPBSET_READ, CAP_CHOWN), 0);
		expect(caps().effective & 1U << CAP_CHOWN);
	}
}

CASE(ambient_capabilities_need_permitted_and_inheritable)
{
	expect_eq(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0), 0);
	expect_errno(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0), EPERM);
	expect_errno(prctl(PR_CAP_AMBIENT, 99, CAP_CHOWN, 0, 0), EINVAL);
	if (!has_cap(CAP_CHOWN))
		return;
	struct caps now = caps();
	now.inheritable |= 1U << CAP_CHOWN;
	expect_ok(set_caps(now));
	expect_ok(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
	expect_eq(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0), 1);
	expect_ok(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
	expect_eq(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0), 0);
}

CASE(securebits_need_a_capability)
{
	expect_eq(prctl(PR_GET_SECUREBITS), 0);
	if (has_cap(CAP_SETPCAP)) {
		expect_ok(prctl(PR_SET_SECUREBITS, 1));
		expect_eq(prctl(PR_GET_SECUREBITS), 1);
		expect_errno(prctl(PR_SET_SECUREBITS, 1 << 20), EPERM);
	} else {
		expect_errno(prctl(PR_SET_SECUREBITS, 1), EPERM);
	}
}

CASE(chroot_needs_a_capability)
{
	be_ordinary();
	expect_errno(chroot("/"), EPERM);
}

IN_DIR_CASE(chroot_confines_absolute_paths)
{
	need_cap(CAP_SYS_CHROOT);
	expect_ok(mkdir("root", 0755));
	write_file("root/f", "inside");
	pid_t pid;
	SPAWN(pid) {
		struct stat a, b;
		expect_ok(chroot("root"));
		expect_ok(chdir("/"));
		expect_str(read_file("/f"), "inside");
		expect_ok(stat("/..", &a));
		expect_ok(stat("/", &b));
		expect_eq(a.st_ino, b.st_ino);
		expect_errno(open("/proc/self/status", O_RDONLY), ENOENT);
	}
	expect_exit(pid, 0);
	expect_errno(chroot("root/f"), ENOTDIR);
	expect_errno(chroot("missing"), ENOENT);
}

CASE(privileged_calls_are_eperm_for_an_ordinary_user)
{
	be_ordinary();
	struct timespec now = {0, 0};
	expect_errno(sethostname("x", 1), EPERM);
	expect_errno(clock_settime(CLOCK_REALTIME, &now), EPERM);
	expect_errno(syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL), EPERM);
	expect_errno(syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL), EPERM);
	expect_errno(syscall(SYS_swapon, "/dev/null", 0), EPERM);
}
