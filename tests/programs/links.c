/* link, symlink, readlink, unlink, rename. */
#include "case.h"
#include <linux/fs.h>

IN_DIR_CASE(link_makes_a_second_name_of_the_same_file)
{
	write_file("a", "text");
	expect_ok(link("a", "b"));
	expect_eq(stat_of("a").st_ino, stat_of("b").st_ino);
	expect_eq(stat_of("a").st_nlink, 2);
	expect_ok(unlink("a"));
	expect_str(read_file("b"), "text");
	expect_eq(stat_of("b").st_nlink, 1);
}

IN_DIR_CASE(link_errors)
{
	write_file("a", "");
	write_file("b", "");
	expect_ok(mkdir("d", 0700));
	expect_errno(link("a", "b"), EEXIST);
	expect_errno(link("missing", "c"), ENOENT);
	expect_errno(link("d", "e"), EPERM);
	expect_errno(link("a", "missing/c"), ENOENT);
	expect_errno(link("a/x", "c"), ENOTDIR);
	expect_errno(linkat(AT_FDCWD, "a", AT_FDCWD, "c", 0x100000), EINVAL);
}

IN_DIR_CASE(link_does_not_follow_symlinks_unless_told)
{
	write_file("a", "");
	expect_ok(symlink("a", "l"));
	expect_ok(link("l", "hard"));
	expect(S_ISLNK(stat_of("hard").st_mode));
	expect_ok(linkat(AT_FDCWD, "l", AT_FDCWD, "file", AT_SYMLINK_FOLLOW));
	expect_eq(stat_of("file").st_ino, stat_of("a").st_ino);
}

IN_DIR_CASE(link_across_mounts_is_exdev)
{
	write_file("a", "");
	expect_errno(link("/proc/self/status", "b"), EXDEV);
	expect_errno(rename("a", "/proc/b"), EXDEV);
}

IN_DIR_CASE(link_changes_ctime_of_the_file)
{
	write_file("a", "");
	struct stat before = stat_of("a");
	sleep_ms(20);
	expect_ok(link("a", "b"));
	struct stat after = stat_of("a");
	expect(after.st_ctim.tv_nsec != before.st_ctim.tv_nsec);
	expect_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
}

IN_DIR_CASE(symlink_holds_any_text)
{
	char text[64];
	expect_ok(symlink("/no/such//place/..", "l"));
	expect_eq(readlink("l", text, sizeof text), 18);
	expect_mem(text, "/no/such//place/..", 18);
	expect_eq(stat_of("l").st_size, 18);
	expect_errno(symlink("", "m"), ENOENT);
	expect_errno(symlink("x", "l"), EEXIST);
	expect_errno(symlink("x", "n/"), ENOENT);
}

IN_DIR_CASE(readlink_truncates_silently_and_needs_a_link)
{
	char text[8] = "........";
	expect_ok(symlink("abcdef", "l"));
	write_file("f", "");
	expect_eq(readlink("l", text, 3), 3);
	expect_mem(text, "abc.", 4);
	expect_errno(readlink("f", text, 8), EINVAL);
	expect_errno(readlink("missing", text, 8), ENOENT);
	expect_errno(readlink("l", text, 0), EINVAL);
}

IN_DIR_CASE(symlink_target_of_4095_bytes_is_the_longest)
{
	static char target[PATH_MAX + 1], got[PATH_MAX];
	memset(target, 'x', PATH_MAX);
	expect_errno(symlink(target, "l"), ENAMETOOLONG);
	target[2000] = 0;
	expect_ok(symlink(target, "l"));
	expect_eq(readlink("l", got, sizeof got), 2000);
	expect_errno(open("l", O_RDONLY), ENAMETOOLONG);
}

IN_DIR_CASE(unlink_errors)
{
	write_file("f", "");
	expect_ok(mkdir("d", 0700));
	expect_errno(unlink("d"), EISDIR);
	expect_errno(unlink("missing"), ENOENT);
	expect_errno(unlink("f/"), ENOTDIR);
	expect_errno(unlink(""), ENOENT);
	expect_errno(unlinkat(AT_FDCWD, "f", AT_REMOVEDIR), ENOTDIR);
	expect_errno(unlinkat(AT_FDCWD, "f", 1), EINVAL);
	expect_ok(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
}

IN_DIR_CASE(unlink_removes_the_link_and_not_its_target)
{
	write_file("f", "");
	expect_ok(symlink("f", "l"));
	expect_ok(unlink("l"));
	expect_ok(access("f", F_OK));
	expect_errno(access("l", F_OK), ENOENT);
}

IN_DIR_CASE(unlink_takes_the_name_at_once_for_reuse)
{
	write_file("f", "old");
	int old = expect_ok(open("f", O_RDONLY));
	expect_ok(unlink("f"));
	write_file("f", "new");
	char got[3];
	expect_eq(read(old, got, 3), 3);
	expect_mem(got, "old", 3);
	expect_str(read_file("f"), "new");
}

IN_DIR_CASE(rename_replaces_a_file_atomically)
{
	write_file("a", "new");
	write_file("b", "old");
	int old = expect_ok(open("b", O_RDONLY));
	ino_t inode = stat_of("a").st_ino;
	expect_ok(rename("a", "b"));
	expect_errno(access("a", F_OK), ENOENT);
	expect_eq(stat_of("b").st_ino, inode);
	expect_str(read_file("b"), "new");
	char got[3];
	expect_eq(read(old, got, 3), 3);
	expect_mem(got, "old", 3);
}

IN_DIR_CASE(rename_to_another_name_of_the_same_file_does_nothing)
{
	write_file("a", "");
	expect_ok(link("a", "b"));
	expect_ok(rename("a", "b"));
	expect_ok(access("a", F_OK));
	expect_ok(access("b", F_OK));
	expect_ok(rename("a", "a"));
}

IN_DIR_CASE(rename_over_nonempty_dir_is_enotempty)
{
	expect_ok(mkdir("a", 0700));
	expect_ok(mkdir("b", 0700));
	write_file("b/file", "");
	expect_errno(rename("a", "b"), ENOTEMPTY);
	expect_ok(unlink("b/file"));
	expect_ok(rename("a", "b"));
	expect_errno(access("a", F_OK), ENOENT);
}

IN_DIR_CASE(rename_between_file_and_directory_fails)
{
	write_file("f", "");
	expect_ok(mkdir("d", 0700));
	expect_errno(rename("f", "d"), EISDIR);
	expect_errno(rename("d", "f"), ENOTDIR);
	expect_errno(rename("f", "g/"), ENOTDIR);
	expect_errno(rename("f/", "g"), ENOTDIR);
}

IN_DIR_CASE(rename_of_directory_into_itself_is_einval)
{
	expect_ok(mkdir("d", 0700));
	expect_ok(mkdir("d/e", 0700));
	expect_errno(rename("d", "d/e/f"), EINVAL);
	expect_errno(rename("d/e", "d"), ENOTEMPTY);
}

IN_DIR_CASE(rename_of_dot_or_root_is_ebusy)
{
	expect_ok(mkdir("d", 0700));
	expect_errno(rename("d/.", "e"), EBUSY);
	expect_errno(rename("d", "d/.."), EBUSY);
	expect_errno(rename("missing", "e"), ENOENT);
	expect_errno(rename("d", "missing/e"), ENOENT);
	expect_errno(rename("d", ""), ENOENT);
}

IN_DIR_CASE(rename_of_directory_moves_its_contents_and_dot_dot)
{
	expect_ok(mkdir("a", 0700));
	expect_ok(mkdir("b", 0700));
	expect_ok(mkdir("a/d", 0700));
	write_file("a/d/f", "kept");
	int dir = expect_ok(open("a/d", O_RDONLY));
	expect_ok(rename("a/d", "b/d"));
	expect_str(read_file("b/d/f"), "kept");
	struct stat parent;
	expect_ok(fstatat(dir, "..", &parent, 0));
	expect_eq(parent.st_ino, stat_of("b").st_ino);
}

IN_DIR_CASE(rename_moves_the_symlink_itself)
{
	write_file("f", "");
	expect_ok(symlink("f", "l"));
	expect_ok(rename("l", "m"));
	expect(S_ISLNK(stat_of("m").st_mode));
	write_file("g", "over");
	expect_ok(rename("g", "m"));
	expect(S_ISREG(stat_of("m").st_mode));
	expect_eq(stat_of("f").st_size, 0);
}

IN_DIR_CASE(renameat2_noreplace_of_existing_is_eexist)
{
	write_file("a", "a");
	write_file("b", "b");
	expect_errno(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
	expect_str(read_file("b"), "b");
	expect_ok(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
	expect_str(read_file("c"), "a");
}

IN_DIR_CASE(renameat2_exchange_swaps_even_unlike_things)
{
	write_file("f", "file");
	expect_ok(mkdir("d", 0700));
	write_file("d/in", "x");
	expect_ok(renameat2(AT_FDCWD, "f", AT_FDCWD, "d", RENAME_EXCHANGE));
	expect_str(read_file("d"), "file");
	expect_str(read_file("f/in"), "x");
	expect_errno(renameat2(AT_FDCWD, "f", AT_FDCWD, "missing", RENAME_EXCHANGE), ENOENT);
}

IN_DIR_CASE(renameat2_refuses_unknown_and_conflicting_flags)
{
	write_file("a", "");
	write_file("b", "");
	expect_errno(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", 0x80), EINVAL);
	expect_errno(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE | RENAME_EXCHANGE),
		     EINVAL);
}

IN_DIR_CASE(renameat_works_between_directory_descriptors)
{
	expect_ok(mkdir("a", 0700));
	expect_ok(mkdir("b", 0700));
	write_file("a/f", "moved");
	int a = expect_ok(open("a", O_RDONLY)), b = expect_ok(open("b", O_PATH));
	expect_ok(renameat(a, "f", b, "g"));
	expect_str(read_file("b/g"), "moved");
	expect_errno(renameat(a, "f", b, "g"), ENOENT);
}

IN_DIR_CASE(open_descriptor_follows_a_rename_in_proc)
{
	char path[64], target[PATH_MAX] = {0};
	write_file("a", "");
	int fd = expect_ok(open("a", O_RDONLY));
	expect_ok(rename("a", "b"));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	expect_ok(readlink(path, target, sizeof target - 1));
	expect_str(strrchr(target, '/'), "/b");
	expect_ok(unlink("b"));
	memset(target, 0, sizeof target);
	expect_ok(readlink(path, target, sizeof target - 1));
	expect_str(strrchr(target, '/'), "/b (deleted)");
}

IN_DIR_CASE(proc_fd_link_opens_even_an_unlinked_file)
{
	char path[64], got[4];
	write_file("a", "gone");
	int fd = expect_ok(open("a", O_RDONLY));
	expect_ok(unlink("a"));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int again = expect_ok(open(path, O_RDONLY));
	expect_eq(read(again, got, 4), 4);
	expect_mem(got, "gone", 4);
	expect_eq(lseek(fd, 0, SEEK_CUR), 0);
}
