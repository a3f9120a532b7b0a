/* stat, statx, access, chmod, chown, utimensat, truncate, fallocate, statfs. */
#include "case.h"
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <utime.h>

IN_DIR_CASE(stat_of_a_new_file)
{
	write_file("f", "hello");
	struct stat st = stat_of("f");
	expect_eq(st.st_mode, S_IFREG | 0644);
	expect_eq(st.st_size, 5);
	expect_eq(st.st_nlink, 1);
	expect_eq(st.st_uid, geteuid());
	expect(st.st_ino != 0);
	expect(st.st_blksize >= 512);
}

IN_DIR_CASE(stat_path_errors)
{
	struct stat st;
	write_file("f", "");
	expect_errno(stat("missing", &st), ENOENT);
	expect_errno(stat("", &st), ENOENT);
	expect_errno(stat("f/x", &st), ENOTDIR);
	expect_errno(stat("missing/x", &st), ENOENT);
	expect_errno(stat((char *)8, &st), EFAULT);
	expect_errno(syscall(SYS_stat, "f", 8), EFAULT);
}

IN_DIR_CASE(lstat_sees_the_link_and_stat_its_target)
{
	struct stat st;
	write_file("f", "hello");
	expect_ok(symlink("f", "l"));
	expect_ok(lstat("l", &st));
	expect_eq(st.st_mode, S_IFLNK | 0777);
	expect_eq(st.st_size, 1);
	expect_ok(stat("l", &st));
	expect(S_ISREG(st.st_mode));
}

IN_DIR_CASE(fstatat_empty_path_is_the_descriptor_itself)
{
	struct stat a, b;
	write_file("f", "hello");
	int fd = expect_ok(open("f", O_RDONLY));
	expect_ok(fstatat(fd, "", &a, AT_EMPTY_PATH));
	expect_ok(fstat(fd, &b));
	expect_eq(a.st_ino, b.st_ino);
	expect_errno(fstatat(fd, "", &a, 0), ENOENT);
	expect_errno(fstatat(fd, "", &a, 0x40000000), EINVAL);
}

IN_DIR_CASE(statx_agrees_with_stat)
{
	struct statx x;
	write_file("f", "hello");
	struct stat st = stat_of("f");
	expect_ok(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x));
	expect_eq(x.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
	expect_eq(x.stx_ino, st.st_ino);
	expect_eq(x.stx_size, 5);
	expect_eq(x.stx_mode, st.st_mode);
	expect_eq(x.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
	expect_eq(makedev(x.stx_dev_major, x.stx_dev_minor), st.st_dev);
}

IN_DIR_CASE(statx_checks_flags_and_mask)
{
	struct statx x;
	expect_errno(statx(AT_FDCWD, ".", AT_STATX_SYNC_TYPE, 0, &x), EINVAL);
	expect_errno(statx(AT_FDCWD, ".", 0x40000000, 0, &x), EINVAL);
	expect_errno(statx(AT_FDCWD, ".", 0, STATX__RESERVED, &x), EINVAL);
	expect_ok(statx(AT_FDCWD, "", AT_EMPTY_PATH, 0, &x));
}

IN_DIR_CASE(statx_marks_the_root_of_a_mount)
{
	struct statx x;
	expect_ok(statx(AT_FDCWD, "/proc", 0, 0, &x));
	expect(x.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT);
	expect(x.stx_attributes & STATX_ATTR_MOUNT_ROOT);
	expect_ok(statx(AT_FDCWD, ".", 0, 0, &x));
	expect_eq(x.stx_attributes & STATX_ATTR_MOUNT_ROOT, 0);
}

CASE(dev_null_is_character_device_1_3)
{
	struct stat st = stat_of("/dev/null");
	expect(S_ISCHR(st.st_mode));
	expect_eq(st.st_rdev, makedev(1, 3));
}

IN_DIR_CASE(access_follows_the_mode)
{
	write_file("f", "");
	expect_ok(access("f", F_OK));
	expect_ok(access("f", R_OK | W_OK));
	expect_errno(access("f", X_OK), EACCES);
	expect_ok(chmod("f", 0755));
	expect_ok(access("f", X_OK));
	expect_errno(access("f", 8), EINVAL);
	expect_errno(access("missing", F_OK), ENOENT);
}

IN_DIR_CASE(access_of_unreadable_file_is_eacces_for_an_ordinary_user)
{
	be_ordinary();
	write_file("f", "");
	expect_ok(chmod("f", 0));
	expect_errno(access("f", R_OK), EACCES);
	expect_errno(access("f", W_OK), EACCES);
	expect_ok(access("f", F_OK));
}

IN_DIR_CASE(access_uses_the_real_user_and_eaccess_the_effective)
{
	need_root();
	write_file("f", "");
	expect_ok(chmod("f", 0600));
	expect_ok(chmod(".", 0755));
	pid_t pid;
	SPAWN(pid) {
		expect_ok(setreuid(65534, 0));
		expect_errno(access("f", R_OK), EACCES);
		expect_ok(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
	}
	expect_exit(pid, 0);
}

IN_DIR_CASE(directory_without_search_permission_is_eacces)
{
	be_ordinary();
	expect_ok(mkdir("d", 0700));
	write_file("d/f", "");
	expect_ok(chmod("d", 0600));
	struct stat st;
	expect_errno(stat("d/f", &st), EACCES);
	expect_errno(open("d/f", O_RDONLY), EACCES);
}

IN_DIR_CASE(chmod_sets_all_twelve_bits)
{
	write_file("f", "");
	expect_ok(chmod("f", 07511));
	expect_eq(stat_of("f").st_mode & 07777, 07511);
	int fd = expect_ok(open("f", O_RDONLY));
	expect_ok(fchmod(fd, 0640));
	expect_eq(stat_of("f").st_mode, S_IFREG | 0640);
	expect_ok(fchmodat(AT_FDCWD, "f", 0600, 0));
	expect_eq(stat_of("f").st_mode & 07777, 0600);
}

IN_DIR_CASE(chmod_changes_ctime_and_not_mtime)
{
	write_file("f", "");
	struct stat before = stat_of("f");
	sleep_ms(20);
	expect_ok(chmod("f", 0600));
	struct stat after = stat_of("f");
	expect_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	expect(after.st_ctim.tv_nsec != before.st_ctim.tv_nsec ||
	       after.st_ctim.tv_sec != before.st_ctim.tv_sec);
}

CASE(chmod_of_another_users_file_is_eperm)
{
	be_ordinary();
	int error = chmod("/", 0755) == -1 ? errno : 0;
	expect(error == EPERM || error == EROFS);
}

IN_DIR_CASE(fchmodat2_can_refuse_links_and_take_an_empty_path)
{
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
	write_file("f", "");
	int fd = expect_ok(open("f", O_RDONLY));
	expect_ok(syscall(SYS_fchmodat2, fd, "", 0611, AT_EMPTY_PATH));
	expect_eq(stat_of("f").st_mode & 07777, 0611);
	expect_errno(syscall(SYS_fchmodat2, AT_FDCWD, "f", 0600, 1), EINVAL);
	expect_ok(symlink("f", "l"));
	expect_errno(syscall(SYS_fchmodat2, AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
}

IN_DIR_CASE(chown_to_self_succeeds_and_clears_setid_bits)
{
	write_file("f", "");
	expect_ok(chmod("f", 06755));
	expect_ok(chown("f", geteuid(), -1));
	unsigned mode = stat_of("f").st_mode & 07777;
	expect_eq(mode, 0755);
}

IN_DIR_CASE(chown_by_an_ordinary_user_is_eperm)
{
	be_ordinary();
	write_file("f", "");
	expect_errno(chown("f", 0, -1), EPERM);
	expect_errno(chown("f", -1, 0), EPERM);
	expect_ok(chown("f", -1, -1));
}

IN_DIR_CASE(chown_by_root_changes_owner_and_group)
{
	need_root();
	write_file("f", "");
	expect_ok(symlink("f", "l"));
	expect_ok(chown("f", 12, 34));
	expect_eq(stat_of("f").st_uid, 12);
	expect_eq(stat_of("f").st_gid, 34);
	expect_ok(lchown("l", 56, -1));
	expect_eq(stat_of("l").st_uid, 56);
	expect_eq(stat_of("f").st_uid, 12);
	expect_ok(fchownat(AT_FDCWD, "f", -1, 78, 0));
	expect_eq(stat_of("f").st_gid, 78);
}

IN_DIR_CASE(utimensat_sets_nanosecond_times)
{
	struct timespec times[2] = {{1000, 123456789}, {2000, 987654321}};
	write_file("f", "");
	expect_ok(utimensat(AT_FDCWD, "f", times, 0));
	struct stat st = stat_of("f");
	expect_eq(st.st_atim.tv_sec, 1000);
	expect_eq(st.st_atim.tv_nsec, 123456789);
	expect_eq(st.st_mtim.tv_sec, 2000);
	expect_eq(st.st_mtim.tv_nsec, 987654321);
}

IN_DIR_CASE(utimensat_omit_and_now)
{
	struct timespec times[2] = {{1000, 0}, {2000, 0}};
	write_file("f", "");
	expect_ok(utimensat(AT_FDCWD, "f", times, 0));
	times[0].tv_nsec = UTIME_OMIT;
	times[1].tv_nsec = UTIME_NOW;
	expect_ok(utimensat(AT_FDCWD, "f", times, 0));
	struct stat st = stat_of("f");
	expect_eq(st.st_atim.tv_sec, 1000);
	expect_between(st.st_mtim.tv_sec, time(NULL) - 2, time(NULL));
	times[0].tv_nsec = 1000000000;
	expect_errno(utimensat(AT_FDCWD, "f", times, 0), EINVAL);
	expect_errno(utimensat(AT_FDCWD, "missing", NULL, 0), ENOENT);
}

IN_DIR_CASE(utimensat_nofollow_changes_the_link)
{
	struct timespec times[2] = {{1000, 0}, {2000, 0}};
	write_file("f", "");
	expect_ok(symlink("f", "l"));
	expect_ok(utimensat(AT_FDCWD, "l", times, AT_SYMLINK_NOFOLLOW));
	expect_eq(stat_of("l").st_mtim.tv_sec, 2000);
	expect(stat_of("f").st_mtim.tv_sec > 2000);
}

IN_DIR_CASE(futimens_and_utime_agree)
{
	write_file("f", "");
	int fd = expect_ok(open("f", O_RDONLY));
	expect_ok(futimens(fd, (struct timespec[2]){{5, 0}, {6, 0}}));
	expect_eq(stat_of("f").st_mtim.tv_sec, 6);
	expect_ok(utime("f", &(struct utimbuf){7, 8}));
	expect_eq(stat_of("f").st_atim.tv_sec, 7);
	expect_eq(stat_of("f").st_mtim.tv_sec, 8);
}

IN_DIR_CASE(writing_changes_mtime_and_reading_does_not)
{
	struct timespec times[2] = {{1000, 0}, {1000, 0}};
	char byte;
	write_file("f", "x");
	expect_ok(utimensat(AT_FDCWD, "f", times, 0));
	int fd = expect_ok(open("f", O_RDWR));
	expect_eq(read(fd, &byte, 1), 1);
	expect_eq(stat_of("f").st_mtim.tv_sec, 1000);
	expect_eq(write(fd, "y", 1), 1);
	expect(stat_of("f").st_mtim.tv_sec > 1000);
}

IN_DIR_CASE(creating_an_entry_changes_the_directory_mtime)
{
	struct timespec times[2] = {{1000, 0}, {1000, 0}};
	expect_ok(mkdir("d", 0700));
	expect_ok(utimensat(AT_FDCWD, "d", times, 0));
	write_file("d/f", "");
	expect(stat_of("d").st_mtim.tv_sec > 1000);
	expect_ok(utimensat(AT_FDCWD, "d", times, 0));
	expect_ok(unlink("d/f"));
	expect(stat_of("d").st_mtim.tv_sec > 1000);
}

IN_DIR_CASE(truncate_shrinks_and_grows_with_zeros)
{
	char got[8] = "........";
	write_file("f", "abcdef");
	expect_ok(truncate("f", 2));
	expect_eq(stat_of("f").st_size, 2);
	int fd = expect_ok(open("f", O_RDWR));
	expect_ok(ftruncate(fd, 5));
	expect_eq(read(fd, got, 8), 5);
	expect_mem(got, "ab\0\0\0", 5);
}

IN_DIR_CASE(truncate_errors)
{
	int ends[2];
	write_file("f", "");
	expect_errno(truncate("f", -1), EINVAL);
	expect_errno(truncate(".", 0), EISDIR);
	expect_errno(truncate("missing", 0), ENOENT);
	expect_errno(ftruncate(expect_ok(open("f", O_RDONLY)), 0), EINVAL);
	expect_ok(pipe(ends));
	expect_errno(ftruncate(ends[1], 0), EINVAL);
	expect_errno(ftruncate(900, 0), EBADF);
}

IN_DIR_CASE(truncate_does_not_move_the_offset)
{
	write_file("f", "abcdef");
	int fd = expect_ok(open("f", O_RDWR));
	char byte;
	expect_eq(lseek(fd, 4, SEEK_SET), 4);
	expect_ok(ftruncate(fd, 1));
	expect_eq(lseek(fd, 0, SEEK_CUR), 4);
	expect_eq(read(fd, &byte, 1), 0);
}

IN_DIR_CASE(fallocate_extends_unless_told_to_keep_the_size)
{
	write_file("f", "ab");
	int fd = expect_ok(open("f", O_RDWR));
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8192) == -1 && errno == EOPNOTSUPP)
		skip("the file system has no fallocate");
	expect_eq(stat_of("f").st_size, 2);
	expect(stat_of("f").st_blocks * 512 >= 8192);
	expect_ok(fallocate(fd, 0, 0, 8192));
	expect_eq(stat_of("f").st_size, 8192);
	expect_str(read_file("f"), "ab");
}

IN_DIR_CASE(fallocate_punch_hole_reads_as_zeros)
{
	char got[3];
	write_file("f", "abcdef");
	int fd = expect_ok(open("f", O_RDWR));
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, 3) == -1 &&
	    errno == EOPNOTSUPP)
		skip("the file system has no holes");
	expect_eq(stat_of("f").st_size, 6);
	expect_eq(pread(fd, got, 3, 0), 3);
	expect_mem(got, "a\0\0", 3);
	expect_eq(pread(fd, got, 3, 3), 3);
	expect_mem(got, "\0ef", 3);
}

IN_DIR_CASE(fallocate_arguments_are_checked)
{
	int ends[2];
	write_file("f", "");
	int fd = expect_ok(open("f", O_RDWR));
	expect_errno(fallocate(fd, 0, 0, 0), EINVAL);
	expect_errno(fallocate(fd, 0, -1, 5), EINVAL);
	expect_errno(fallocate(expect_ok(open("f", O_RDONLY)), 0, 0, 5), EBADF);
	expect_errno(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 5), EOPNOTSUPP);
	expect_ok(pipe(ends));
	expect_errno(fallocate(ends[1], 0, 0, 5), ESPIPE);
}

CASE(statfs_of_proc_and_root)
{
	struct statfs fs;
	expect_ok(statfs("/proc", &fs));
	expect_eq(fs.f_type, 0x9fa0);
	expect_ok(statfs("/", &fs));
	expect(fs.f_bsize > 0);
	expect(fs.f_namelen >= 255);
	expect_errno(statfs("/missing-entirely", &fs), ENOENT);
}

IN_DIR_CASE(umask_returns_the_previous_mask)
{
	expect_eq(umask(0123), 022);
	expect_eq(umask(01777), 0123);
	expect_eq(umask(0), 0777);
	expect_ok(mkdir("d", 0777));
	expect_eq(stat_of("d").st_mode & 07777, 0777);
}

IN_DIR_CASE(umask_applies_to_mkdir_and_mkfifo)
{
	umask(077);
	expect_ok(mkdir("d", 0777));
	expect_ok(mkfifo("p", 0666));
	expect_eq(stat_of("d").st_mode & 07777, 0700);
	expect_eq(stat_of("p").st_mode & 07777, 0600);
}

IN_DIR_CASE(write_clears_setuid_for_an_ordinary_user)
{
	be_ordinary();
	write_file("f", "");
	expect_ok(chmod("f", 04755));
	int fd = expect_ok(open("f", O_WRONLY));
	expect_eq(write(fd, "x", 1), 1);
	expect_eq(stat_of("f").st_mode & 07777, 0755);
}

IN_DIR_CASE(setgid_directory_passes_its_group_on)
{
	need_root();
	expect_ok(mkdir("d", 0755));
	expect_ok(chown("d", -1, 77));
	expect_ok(chmod("d", 02755));
	write_file("d/f", "");
	expect_ok(mkdir("d/sub", 0755));
	expect_eq(stat_of("d/f").st_gid, 77);
	expect_eq(stat_of("d/sub").st_gid, 77);
	expect_eq(stat_of("d/sub").st_mode & 07777, 02755);
}

IN_DIR_CASE(mknod_makes_files_fifos_and_for_root_devices)
{
	expect_ok(mknod("f", S_IFREG | 0600, 0));
	expect_ok(mknod("p", S_IFIFO | 0600, 0));
	expect_ok(mknod("s", S_IFSOCK | 0600, 0));
	expect(S_ISREG(stat_of("f").st_mode));
	expect(S_ISFIFO(stat_of("p").st_mode));
	expect(S_ISSOCK(stat_of("s").st_mode));
	expect_errno(mknod("f", S_IFREG | 0600, 0), EEXIST);
	expect_errno(mknod("d", S_IFDIR | 0700, 0), EPERM);
	if (!has_cap(27))
		expect_errno(mknod("c", S_IFCHR | 0600, makedev(1, 3)), EPERM);
	expect_errno(open("s", O_RDONLY), ENXIO);
}
