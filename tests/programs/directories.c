/* mkdir, rmdir, getdents, working directory, names and path walks. */
#include "case.h"

struct record {
	uint64_t inode;
	int64_t offset;
	uint16_t length;
	uint8_t type;
	char name[];
};

static long getdents(int fd, void *buffer, size_t size)
{
	return syscall(SYS_getdents64, fd, buffer, size);
}

/* How often the directory lists the name; with its type and inode. */
static int listed(const char *directory, const char *name, int *type, uint64_t *inode)
{
	char buffer[1024] __attribute__((aligned(8)));
	int fd = expect_ok(open(directory, O_RDONLY | O_DIRECTORY)), count = 0;
	long size;
	while ((size = expect_ok(getdents(fd, buffer, sizeof buffer))) > 0) {
		struct record *record;
		for (long at = 0; at < size; at += record->length) {
			record = (void *)(buffer + at);
			if (strcmp(record->name, name))
				continue;
			count++;
			if (type)
				*type = record->type;
			if (inode)
				*inode = record->inode;
		}
	}
	expect_ok(close(fd));
	return count;
}

IN_DIR_CASE(mkdir_makes_an_empty_directory)
{
	expect_ok(mkdir("d", 0750));
	struct stat st = stat_of("d");
	expect_eq(st.st_mode, S_IFDIR | 0750);
	expect_eq(listed("d", ".", NULL, NULL), 1);
	expect_eq(listed("d", "..", NULL, NULL), 1);
}

IN_DIR_CASE(mkdir_errors)
{
	write_file("f", "");
	expect_ok(symlink("nowhere", "l"));
	expect_errno(mkdir("f", 0700), EEXIST);
	expect_errno(mkdir("l", 0700), EEXIST);
	expect_errno(mkdir(".", 0700), EEXIST);
	expect_errno(mkdir("a/b", 0700), ENOENT);
	expect_errno(mkdir("f/b", 0700), ENOTDIR);
	expect_errno(mkdir("", 0700), ENOENT);
	expect_errno(mkdir("/", 0700), EEXIST);
	expect_ok(mkdir("d/", 0700));
}

IN_DIR_CASE(rmdir_errors)
{
	write_file("f", "");
	expect_ok(mkdir("d", 0700));
	expect_ok(mkdir("d/e", 0700));
	expect_errno(rmdir("d"), ENOTEMPTY);
	expect_errno(rmdir("f"), ENOTDIR);
	expect_errno(rmdir("missing"), ENOENT);
	expect_errno(rmdir("d/."), EINVAL);
	expect_errno(rmdir("d/e/.."), ENOTEMPTY);
	expect_errno(rmdir("/"), EBUSY);
	expect_ok(symlink("d/e", "l"));
	expect_errno(rmdir("l"), ENOTDIR);
	expect_ok(rmdir("d/e"));
	expect_ok(rmdir("d"));
}

IN_DIR_CASE(directory_link_count_counts_subdirectories)
{
	expect_ok(mkdir("d", 0700));
	nlink_t empty = stat_of("d").st_nlink;
	expect_ok(mkdir("d/a", 0700));
	expect_ok(mkdir("d/b", 0700));
	if (empty == 1)
		skip("the file system does not count");
	expect_eq(empty, 2);
	expect_eq(stat_of("d").st_nlink, 4);
	expect_ok(rmdir("d/a"));
	expect_eq(stat_of("d").st_nlink, 3);
}

IN_DIR_CASE(removed_working_directory_is_enoent)
{
	char path[PATH_MAX];
	expect_ok(mkdir("d", 0700));
	expect_ok(chdir("d"));
	expect_ok(rmdir("../d"));
	expect_errno(syscall(SYS_getcwd, path, sizeof path), ENOENT);
	expect_errno(open("f", O_CREAT | O_RDWR, 0600), ENOENT);
	expect_errno(mkdir("x", 0700), ENOENT);
	expect_ok(access(".", F_OK));
	expect_ok(chdir(case_dir));
}

IN_DIR_CASE(getdents_lists_each_entry_once_with_its_type)
{
	int type = 0;
	uint64_t inode = 0;
	write_file("file", "");
	expect_ok(mkdir("dir", 0700));
	expect_ok(symlink("x", "link"));
	expect_ok(mkfifo("fifo", 0600));
	expect_eq(listed(".", "file", &type, &inode), 1);
	expect_eq(type, DT_REG);
	expect_eq(inode, stat_of("file").st_ino);
	expect_eq(listed(".", "dir", &type, NULL), 1);
	expect_eq(type, DT_DIR);
	expect_eq(listed(".", "link", &type, NULL), 1);
	expect_eq(type, DT_LNK);
	expect_eq(listed(".", "fifo", &type, NULL), 1);
	expect_eq(type, DT_FIFO);
}

IN_DIR_CASE(getdents_lists_many_entries_in_small_reads)
{
	char name[64], buffer[128] __attribute__((aligned(8)));
	enum { COUNT = 500 };
	static int seen[COUNT];
	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof name, "entry-%03d", i);
		write_file(name, "");
	}
	int fd = expect_ok(open(".", O_RDONLY));
	long size;
	while ((size = expect_ok(getdents(fd, buffer, sizeof buffer))) > 0)
		for (long at = 0; at < size; at += ((struct record *)(buffer + at))->length) {
			int i;
			if (sscanf(((struct record *)(buffer + at))->name, "entry-%d", &i) == 1)
				seen[i]++;
		}
	for (int i = 0; i < COUNT; i++)
		expect_eq(seen[i], 1);
}

IN_DIR_CASE(getdents_errors)
{
	char buffer[1024];
	write_file("f", "");
	expect_errno(getdents(expect_ok(open("f", O_RDONLY)), buffer, sizeof buffer), ENOTDIR);
	int fd = expect_ok(open(".", O_RDONLY));
	expect_errno(getdents(fd, buffer, 8), EINVAL);
	expect_errno(getdents(900, buffer, sizeof buffer), EBADF);
	expect_errno(getdents(expect_ok(open(".", O_PATH)), buffer, sizeof buffer), EBADF);
	expect_errno(getdents(fd, (void *)8, sizeof buffer), EFAULT);
}

IN_DIR_CASE(seeking_a_directory_to_zero_lists_it_again)
{
	char a[1024], b[1024];
	int fd = expect_ok(open(".", O_RDONLY));
	long size = expect_ok(getdents(fd, a, sizeof a));
	expect_eq(getdents(fd, b, sizeof b), 0);
	expect_eq(lseek(fd, 0, SEEK_SET), 0);
	expect_eq(getdents(fd, b, sizeof b), size);
}

IN_DIR_CASE(telldir_and_seekdir_return_to_the_same_entry)
{
	write_file("a", "");
	write_file("b", "");
	write_file("c", "");
	DIR *stream = opendir(".");
	expect(readdir(stream));
	expect(readdir(stream));
	long place = telldir(stream);
	char name[256];
	strcpy(name, readdir(stream)->d_name);
	expect(readdir(stream));
	seekdir(stream, place);
	expect_str(readdir(stream)->d_name, name);
}

IN_DIR_CASE(entries_removed_while_listing_do_not_disturb)
{
	char name[32];
	int left = 0;
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof name, "%d", i);
		write_file(name, "");
	}
	DIR *stream = opendir(".");
	struct dirent *entry;
	while ((entry = readdir(stream)))
		if (entry->d_type == DT_REG)
			expect_ok(unlink(entry->d_name));
	rewinddir(stream);
	while ((entry = readdir(stream)))
		left++;
	expect_eq(left, 2);
}

IN_DIR_CASE(chdir_and_getcwd_agree)
{
	char path[PATH_MAX], real[PATH_MAX];
	expect(realpath(case_dir, real));
	expect_ok(mkdir("d", 0700));
	expect_ok(chdir("d"));
	strcat(real, "/d");
	expect(getcwd(path, sizeof path));
	expect_str(path, real);
	expect_ok(chdir(".."));
	expect_ok(chdir("./d/../d/."));
	expect(getcwd(path, sizeof path));
	expect_str(path, real);
}

IN_DIR_CASE(getcwd_system_call_counts_the_terminator)
{
	char path[PATH_MAX];
	expect_ok(chdir("/"));
	expect_eq(syscall(SYS_getcwd, path, sizeof path), 2);
	expect_errno(syscall(SYS_getcwd, path, 1), ERANGE);
	expect_errno(syscall(SYS_getcwd, 8, 100), EFAULT);
}

IN_DIR_CASE(chdir_errors)
{
	write_file("f", "");
	expect_errno(chdir("f"), ENOTDIR);
	expect_errno(chdir("missing"), ENOENT);
	expect_errno(fchdir(expect_ok(open("f", O_RDONLY))), ENOTDIR);
	expect_errno(fchdir(900), EBADF);
}

IN_DIR_CASE(working_directory_follows_a_rename)
{
	char path[PATH_MAX];
	expect_ok(mkdir("old", 0700));
	expect_ok(chdir("old"));
	expect_ok(rename("../old", "../new"));
	expect(getcwd(path, sizeof path));
	expect_str(strrchr(path, '/'), "/new");
}

IN_DIR_CASE(working_directory_is_copied_by_fork)
{
	pid_t pid;
	char a[PATH_MAX], b[PATH_MAX];
	expect(getcwd(a, sizeof a));
	SPAWN(pid)
		expect_ok(chdir("/"));
	expect_exit(pid, 0);
	expect(getcwd(b, sizeof b));
	expect_str(b, a);
}

IN_DIR_CASE(dot_dot_of_the_root_is_the_root)
{
	struct stat a, b;
	expect_ok(stat("/", &a));
	expect_ok(stat("/../..", &b));
	expect_eq(a.st_ino, b.st_ino);
	expect_eq(a.st_dev, b.st_dev);
}

IN_DIR_CASE(repeated_and_trailing_slashes_are_ignored)
{
	expect_ok(mkdir("d", 0700));
	write_file("d/f", "x");
	expect_ok(access("d//f", F_OK));
	expect_ok(access(".///d/./f", F_OK));
	expect_ok(access("d///", F_OK));
	expect_errno(access("d/f/", F_OK), ENOTDIR);
	expect_errno(access("d/f/.", F_OK), ENOTDIR);
}

IN_DIR_CASE(name_of_255_bytes_is_the_longest)
{
	char name[258];
	memset(name, 'n', sizeof name);
	name[256] = 0;
	expect_errno(open(name, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
	expect_errno(mkdir(name, 0700), ENAMETOOLONG);
	name[255] = 0;
	expect_ok(open(name, O_CREAT | O_RDWR, 0600));
	expect_eq(listed(".", name, NULL, NULL), 1);
}

IN_DIR_CASE(path_of_4096_bytes_is_too_long)
{
	static char path[PATH_MAX + 1];
	struct stat st;
	for (int i = 0; i < PATH_MAX; i += 2)
		memcpy(path + i, "./", 2);
	expect_errno(stat(path, &st), ENAMETOOLONG);
	path[PATH_MAX - 1] = 0;
	expect_ok(stat(path, &st));
}

IN_DIR_CASE(deep_trees_are_reached_step_by_step)
{
	char name[201];
	memset(name, 'd', 200);
	name[200] = 0;
	for (int i = 0; i < 40; i++) {
		expect_ok(mkdir(name, 0700));
		expect_ok(chdir(name));
	}
	write_file("bottom", "x");
	char path[PATH_MAX];
	expect_errno(syscall(SYS_getcwd, path, PATH_MAX), ENAMETOOLONG);
	for (int i = 0; i < 40; i++)
		expect_ok(chdir(".."));
	expect_ok(access(name, F_OK));
	expect_ok(chdir(case_dir));
}

IN_DIR_CASE(names_hold_any_byte_but_slash_and_nul)
{
	char name[255];
	for (int i = 1, at = 0; i < 256; i++)
		if (i != '/')
			name[at++] = i;
	name[254] = 0;
	write_file(name, "x");
	expect_eq(listed(".", name, NULL, NULL), 1);
	expect_ok(unlink(name));
	expect_eq(listed(".", name, NULL, NULL), 0);
	write_file("\n", "");
	write_file("\xff\xfe", "");
	write_file(" ", "");
	write_file("...", "");
	expect_eq(listed(".", "\xff\xfe", NULL, NULL), 1);
	expect_eq(listed(".", "...", NULL, NULL), 1);
}

IN_DIR_CASE(names_differ_by_case)
{
	write_file("a", "lower");
	write_file("A", "upper");
	expect_str(read_file("a"), "lower");
	expect_str(read_file("A"), "upper");
}

IN_DIR_CASE(symlink_loop_is_eloop)
{
	struct stat st;
	expect_ok(symlink("b", "a"));
	expect_ok(symlink("a", "b"));
	expect_errno(stat("a", &st), ELOOP);
	expect_errno(open("a", O_RDONLY), ELOOP);
	expect_errno(open("a/x", O_RDONLY), ELOOP);
	expect_ok(lstat("a", &st));
}

IN_DIR_CASE(forty_symlinks_are_followed_and_no_more)
{
	char name[16], target[16];
	write_file("l0", "end");
	for (int i = 1; i <= 41; i++) {
		snprintf(name, sizeof name, "l%d", i);
		snprintf(target, sizeof target, "l%d", i - 1);
		expect_ok(symlink(target, name));
	}
	expect_str(read_file("l40"), "end");
	expect_errno(open("l41", O_RDONLY), ELOOP);
}

IN_DIR_CASE(symlinks_in_the_middle_of_a_path_are_followed)
{
	char absolute[PATH_MAX];
	expect_ok(mkdir("d", 0700));
	expect_ok(mkdir("d/e", 0700));
	write_file("d/f", "found");
	snprintf(absolute, sizeof absolute, "%.4000s/d", case_dir);
	expect_ok(symlink(absolute, "abs"));
	expect_ok(symlink("d/e", "rel"));
	expect_str(read_file("abs/f"), "found");
	expect_str(read_file("rel/../f"), "found");
}

IN_DIR_CASE(unwritable_directory_is_eacces_for_an_ordinary_user)
{
	be_ordinary();
	expect_ok(mkdir("d", 0700));
	write_file("d/f", "");
	expect_ok(chmod("d", 0500));
	expect_errno(open("d/new", O_CREAT | O_RDWR, 0600), EACCES);
	expect_errno(mkdir("d/new", 0700), EACCES);
	expect_errno(unlink("d/f"), EACCES);
	expect_errno(rename("d/f", "f"), EACCES);
	expect_errno(symlink("x", "d/l"), EACCES);
}

IN_DIR_CASE(unreadable_directory_cannot_be_listed_but_searched)
{
	be_ordinary();
	expect_ok(mkdir("d", 0700));
	write_file("d/f", "x");
	expect_ok(chmod("d", 0300));
	expect_errno(open("d", O_RDONLY), EACCES);
	expect_ok(access("d/f", R_OK));
}

IN_DIR_CASE(sticky_directory_protects_the_files_of_others)
{
	need_root();
	expect_ok(chmod(".", 01777));
	write_file("f", "");
	pid_t pid;
	SPAWN(pid) {
		expect_ok(setresuid(65534, 65534, 65534));
		expect_errno(unlink("f"), EPERM);
		expect_errno(rename("f", "g"), EPERM);
		write_file("own", "");
		expect_ok(unlink("own"));
	}
	expect_exit(pid, 0);
}
