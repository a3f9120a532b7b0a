/* mount, umount2, pivot_root, chroot; each case in a mount namespace of its own. */
#include "case.h"
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

static void own_mounts(void)
{
	need_root();
	if (unshare(CLONE_NEWNS) == -1)
		skip("no mount namespace of its own");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1 && errno == EINVAL)
		skip("the root is no mount point: a chroot");
}

static void tmpfs_at(const char *where)
{
	expect_ok(mkdir(where, 0755));
	expect_ok(mount("none", where, "tmpfs", 0, "mode=755"));
}

IN_DIR_CASE(tmpfs_hides_what_was_there_until_unmounted)
{
	own_mounts();
	expect_ok(mkdir("m", 0700));
	write_file("m/below", "x");
	expect_ok(mount("none", "m", "tmpfs", 0, "mode=711"));
	expect_errno(access("m/below", F_OK), ENOENT);
	expect_eq(stat_of("m").st_mode & 07777, 0711);
	expect(stat_of("m").st_dev != stat_of(".").st_dev);
	write_file("m/above", "y");
	expect_ok(umount2("m", 0));
	expect_str(read_file("m/below"), "x");
	expect_errno(access("m/above", F_OK), ENOENT);
}

IN_DIR_CASE(tmpfs_size_is_kept)
{
	own_mounts();
	expect_ok(mkdir("m", 0700));
	expect_ok(mount("none", "m", "tmpfs", 0, "size=16k,nr_inodes=3"));
	struct statfs fs;
	expect_ok(statfs("m", &fs));
	expect_eq(fs.f_blocks, 4);
	int fd = expect_ok(open("m/f", O_CREAT | O_RDWR, 0600));
	char page[PAGE] = {0};
	for (int i = 0; i < 4; i++)
		expect_eq(write(fd, page, PAGE), (ssize_t)PAGE);
	expect_errno(write(fd, page, PAGE), ENOSPC);
	expect_ok(ftruncate(fd, 0));
	expect_eq(write(fd, page, PAGE), (ssize_t)PAGE);
	expect_ok(open("m/g", O_CREAT | O_RDWR, 0600));
	expect_errno(open("m/h", O_CREAT | O_RDWR, 0600), ENOSPC);
}

IN_DIR_CASE(mount_errors)
{
	own_mounts();
	write_file("f", "");
	expect_ok(mkdir("m", 0700));
	expect_errno(mount("none", "missing", "tmpfs", 0, NULL), ENOENT);
	expect_errno(mount("none", "f", "tmpfs", 0, NULL), ENOTDIR);
	expect_errno(mount("none", "m", "no-such-type", 0, NULL), ENODEV);
	expect_errno(mount("none", "m", "tmpfs", 0, "no-such-option=1"), EINVAL);
	expect_errno(mount("none", "m", NULL, MS_REMOUNT, NULL), EINVAL);
	expect_errno(umount2("m", 0), EINVAL);
	expect_errno(umount2("missing", 0), ENOENT);
	expect_errno(umount2("m", 0x1000), EINVAL);
}

IN_DIR_CASE(mount_by_an_ordinary_user_is_eperm)
{
	own_mounts();
	expect_ok(mkdir("m", 0755));
	be_ordinary();
	expect_errno(mount("none", "m", "tmpfs", 0, NULL), EPERM);
	expect_errno(umount2("/proc", 0), EPERM);
	expect_errno(chroot("/"), EPERM);
}

IN_DIR_CASE(busy_mount_is_ebusy_unless_detached)
{
	own_mounts();
	tmpfs_at("m");
	int fd = expect_ok(open("m/f", O_CREAT | O_RDWR, 0600));
	expect_errno(umount2("m", 0), EBUSY);
	expect_errno(rmdir("m"), EBUSY);
	expect_errno(rename("m", "n"), EBUSY);
	expect_ok(umount2("m", MNT_DETACH));
	expect_eq(write(fd, "x", 1), 1);
	expect_errno(access("m/f", F_OK), ENOENT);
	expect_ok(rmdir("m"));
}

IN_DIR_CASE(bind_mount_shows_the_same_directory)
{
	own_mounts();
	expect_ok(mkdir("a", 0700));
	expect_ok(mkdir("b", 0700));
	write_file("a/f", "x");
	expect_ok(mount("a", "b", NULL, MS_BIND, NULL));
	expect_str(read_file("b/f"), "x");
	expect_eq(stat_of("a/f").st_ino, stat_of("b/f").st_ino);
	expect_errno(link("a/f", "b/g"), EXDEV);
	expect_errno(rename("a/f", "b/g"), EXDEV);
	expect_ok(mount(NULL, "b", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	expect_errno(open("b/f", O_WRONLY), EROFS);
	expect_errno(unlink("b/f"), EROFS);
	expect_errno(access("b/f", W_OK), EROFS);
	expect_ok(open("a/f", O_WRONLY));
}

IN_DIR_CASE(file_can_be_bound_over_a_file)
{
	own_mounts();
	write_file("a", "one");
	write_file("b", "two");
	expect_ok(mkdir("d", 0700));
	expect_errno(mount("a", "d", NULL, MS_BIND, NULL), ENOTDIR);
	expect_ok(mount("a", "b", NULL, MS_BIND, NULL));
	expect_str(read_file("b"), "one");
	expect_errno(unlink("b"), EBUSY);
	expect_ok(umount2("b", 0));
	expect_str(read_file("b"), "two");
}

IN_DIR_CASE(recursive_bind_takes_the_mounts_below)
{
	own_mounts();
	expect_ok(mkdir("a", 0700));
	tmpfs_at("a/m");
	write_file("a/m/f", "deep");
	expect_ok(mkdir("plain", 0700));
	expect_ok(mkdir("deep", 0700));
	expect_ok(mount("a", "plain", NULL, MS_BIND, NULL));
	expect_errno(access("plain/m/f", F_OK), ENOENT);
	expect_ok(mount("a", "deep", NULL, MS_BIND | MS_REC, NULL));
	expect_str(read_file("deep/m/f"), "deep");
}

IN_DIR_CASE(mount_can_be_moved)
{
	own_mounts();
	tmpfs_at("a");
	write_file("a/f", "x");
	expect_ok(mkdir("b", 0700));
	expect_ok(mount("a", "b", NULL, MS_MOVE, NULL));
	expect_str(read_file("b/f"), "x");
	expect_errno(access("a/f", F_OK), ENOENT);
	expect_errno(mount("a", "b", NULL, MS_MOVE, NULL), EINVAL);
}

IN_DIR_CASE(nodev_noexec_and_nosymfollow_hold)
{
	own_mounts();
	expect_ok(mkdir("m", 0755));
	expect_ok(mount("none", "m", "tmpfs", MS_NODEV | MS_NOEXEC, NULL));
	expect_ok(mknod("m/null", S_IFCHR | 0666, makedev(1, 3)));
	expect_errno(open("m/null", O_RDONLY), EACCES);
	write_file("m/x", "#!/bin/true\n");
	expect_ok(chmod("m/x", 0755));
	expect_errno(access("m/x", X_OK), EACCES);
	expect_errno(execl("m/x", "x", NULL), EACCES);
	expect_ok(symlink("x", "m/link"));
	expect_ok(access("m/link", F_OK));
	expect_ok(mount(NULL, "m", NULL, MS_REMOUNT | MS_BIND | 256, NULL));
	expect_errno(access("m/link", F_OK), ELOOP);
}

IN_DIR_CASE(chroot_confines_absolute_paths)
{
	need_root();
	expect_ok(mkdir("jail", 0755));
	expect_ok(mkdir("jail/d", 0755));
	write_file("jail/f", "inside");
	int outside = expect_ok(open(".", O_PATH));
	expect_ok(chroot("jail"));
	expect_ok(chdir("/d"));
	expect_str(read_file("/f"), "inside");
	expect_str(read_file("../../../f"), "inside");
	char cwd[PATH_MAX];
	expect_ok(syscall(SYS_getcwd, cwd, sizeof cwd));
	expect_str(cwd, "/d");
	expect_ok(fchdir(outside));
	expect_ok(syscall(SYS_getcwd, cwd, sizeof cwd));
	expect(strncmp(cwd, "(unreachable)", 13) == 0);
}

IN_DIR_CASE(pivot_root_swaps_the_roots)
{
	own_mounts();
	tmpfs_at("new");
	expect_ok(mkdir("new/old", 0700));
	write_file("new/f", "new root");
	expect_ok(chdir("new"));
	expect_errno(syscall(SYS_pivot_root, "/", "/"), EBUSY);
	expect_ok(syscall(SYS_pivot_root, ".", "old"));
	expect_str(read_file("/f"), "new root");
	expect_ok(access("/old/proc", F_OK));
	expect_ok(umount2("/old", MNT_DETACH));
	expect_errno(access("/old/proc", F_OK), ENOENT);
}

IN_DIR_CASE(pivot_root_onto_itself_stacks_the_old_root)
{
	own_mounts();
	tmpfs_at("new");
	write_file("new/f", "new root");
	expect_ok(chdir("new"));
	expect_ok(syscall(SYS_pivot_root, ".", "."));
	expect_ok(umount2(".", MNT_DETACH));
	expect_ok(chdir("/"));
	expect_str(read_file("/f"), "new root");
	expect_errno(access("/proc", F_OK), ENOENT);
}

IN_DIR_CASE(mounts_of_a_copied_namespace_stay_there)
{
	own_mounts();
	expect_ok(mkdir("m", 0700));
	pid_t pid;
	SPAWN(pid)
	{
		expect_ok(unshare(CLONE_NEWNS));
		expect_ok(mount("none", "m", "tmpfs", 0, NULL));
		write_file("m/f", "");
	}
	expect_exit(pid, 0);
	expect_errno(access("m/f", F_OK), ENOENT);
}
