/* open, read, write, seek, positioned and vectored input and output. */
#include "case.h"
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

static int make(const char *text)
{
	write_file("f", text);
	return expect_ok(open("f", O_RDWR));
}

IN_DIR_CASE(open_of_missing_file_is_enoent)
{
	expect_errno(open("missing", O_RDONLY), ENOENT);
	expect_errno(open("", O_RDONLY), ENOENT);
}

IN_DIR_CASE(open_returns_lowest_free_descriptor)
{
	int a = make("x");
	int b = expect_ok(open("f", O_RDONLY));
	expect_eq(b, a + 1);
	expect_ok(close(a));
	expect_eq(open("f", O_RDONLY), a);
}

IN_DIR_CASE(open_creat_excl_of_existing_is_eexist)
{
	write_file("f", "");
	expect_errno(open("f", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
}

IN_DIR_CASE(open_creat_excl_does_not_follow_dangling_symlink)
{
	expect_ok(symlink("target", "link"));
	expect_errno(open("link", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
	expect_errno(access("target", F_OK), ENOENT);
}

IN_DIR_CASE(open_creat_follows_dangling_symlink)
{
	expect_ok(symlink("target", "link"));
	expect_ok(open("link", O_CREAT | O_RDWR, 0600));
	expect(S_ISREG(stat_of("target").st_mode));
}

IN_DIR_CASE(open_creat_mode_is_masked_by_umask)
{
	umask(027);
	expect_ok(open("f", O_CREAT | O_RDWR, 0777));
	expect_eq(stat_of("f").st_mode & 07777, 0750);
}

IN_DIR_CASE(open_creat_with_read_only_mode_still_gives_writable_descriptor)
{
	int fd = expect_ok(open("f", O_CREAT | O_RDWR, 0400));
	expect_eq(write(fd, "x", 1), 1);
}

IN_DIR_CASE(open_trunc_empties_file)
{
	write_file("f", "text");
	expect_ok(open("f", O_WRONLY | O_TRUNC));
	expect_eq(stat_of("f").st_size, 0);
}

IN_DIR_CASE(open_directory_for_writing_is_eisdir)
{
	expect_ok(mkdir("d", 0700));
	expect_errno(open("d", O_WRONLY), EISDIR);
	expect_errno(open("d", O_RDWR), EISDIR);
	expect_errno(open("d", O_RDONLY | O_CREAT, 0600), EISDIR);
}

IN_DIR_CASE(open_o_directory_of_file_is_enotdir)
{
	write_file("f", "");
	expect_errno(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
}

IN_DIR_CASE(open_with_trailing_slash_of_file_is_enotdir)
{
	write_file("f", "");
	expect_errno(open("f/", O_RDONLY), ENOTDIR);
	expect_errno(open("new/", O_CREAT | O_RDWR, 0600), EISDIR);
}

IN_DIR_CASE(open_nofollow_of_symlink_is_eloop)
{
	write_file("f", "");
	expect_ok(symlink("f", "link"));
	expect_errno(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
}

IN_DIR_CASE(o_path_nofollow_opens_the_symlink_itself)
{
	expect_ok(symlink("nowhere", "link"));
	int fd = expect_ok(open("link", O_PATH | O_NOFOLLOW));
	struct stat st;
	expect_ok(fstat(fd, &st));
	expect(S_ISLNK(st.st_mode));
	char text[16];
	expect_eq(readlinkat(fd, "", text, sizeof text), 7);
}

IN_DIR_CASE(o_path_descriptor_cannot_read_write_or_chmod)
{
	write_file("f", "abc");
	int fd = expect_ok(open("f", O_PATH));
	char byte;
	expect_errno(read(fd, &byte, 1), EBADF);
	expect_errno(write(fd, &byte, 1), EBADF);
	expect_errno(fchmod(fd, 0600), EBADF);
	expect_errno(ioctl(fd, FIONREAD, &byte), EBADF);
	expect_errno(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), EBADF);
	expect_eq(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
}

IN_DIR_CASE(o_path_directory_serves_as_dirfd)
{
	expect_ok(mkdir("d", 0700));
	write_file("d/f", "abc");
	int dir = expect_ok(open("d", O_PATH | O_DIRECTORY));
	expect_ok(openat(dir, "f", O_RDONLY));
	expect_ok(fchdir(dir));
	expect_ok(access("f", F_OK));
}

IN_DIR_CASE(openat_with_bad_dirfd_is_ebadf_unless_path_is_absolute)
{
	expect_errno(openat(-1, "f", O_RDONLY), EBADF);
	expect_ok(openat(-1, "/", O_RDONLY));
}

IN_DIR_CASE(openat_relative_to_file_is_enotdir)
{
	int fd = make("x");
	expect_errno(openat(fd, "f", O_RDONLY), ENOTDIR);
}

IN_DIR_CASE(o_tmpfile_has_no_name_until_linked)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);
	if (fd == -1 && errno == EOPNOTSUPP)
		skip("the file system has no O_TMPFILE");
	expect_ok(fd);
	struct stat st;
	expect_ok(fstat(fd, &st));
	expect_eq(st.st_nlink, 0);
	expect_eq(write(fd, "abc", 3), 3);
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	expect_ok(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	expect_str(read_file("named"), "abc");
}

IN_DIR_CASE(o_tmpfile_read_only_is_einval)
{
	expect_errno(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
}

IN_DIR_CASE(read_of_write_only_is_ebadf)
{
	char byte;
	write_file("f", "abc");
	expect_errno(read(expect_ok(open("f", O_WRONLY)), &byte, 1), EBADF);
	expect_errno(write(expect_ok(open("f", O_RDONLY)), "x", 1), EBADF);
}

CASE(closed_descriptor_is_ebadf)
{
	char byte;
	expect_errno(read(-1, &byte, 1), EBADF);
	expect_errno(write(900, &byte, 1), EBADF);
	expect_errno(close(900), EBADF);
	expect_errno(lseek(900, 0, SEEK_SET), EBADF);
	struct stat st;
	expect_errno(fstat(900, &st), EBADF);
}

IN_DIR_CASE(read_at_end_returns_zero)
{
	int fd = make("abc");
	char buffer[8];
	expect_eq(read(fd, buffer, 8), 3);
	expect_eq(read(fd, buffer, 8), 0);
	expect_eq(read(fd, NULL, 8), 0);
}

IN_DIR_CASE(read_into_bad_address_is_efault)
{
	int fd = make("abc");
	expect_errno(read(fd, (void *)8, 3), EFAULT);
	expect_eq(lseek(fd, 0, SEEK_CUR), 0);
	expect_errno(write(fd, (void *)8, 3), EFAULT);
}

IN_DIR_CASE(read_into_partly_mapped_buffer_is_short)
{
	write_file("f", "");
	int fd = make("");
	expect_ok(ftruncate(fd, 8192));
	char *memory = map_anonymous(2 * PAGE);
	expect_ok(munmap(memory + PAGE, PAGE));
	expect_eq(read(fd, memory + PAGE - 100, 200), 100);
	expect_eq(lseek(fd, 0, SEEK_CUR), 100);
}

IN_DIR_CASE(read_of_directory_is_eisdir)
{
	char byte;
	int fd = expect_ok(open(".", O_RDONLY));
	expect_errno(read(fd, &byte, 1), EISDIR);
	expect_errno(pread(fd, &byte, 1, 0), EISDIR);
}

IN_DIR_CASE(zero_length_read_and_write_succeed)
{
	int fd = make("abc");
	expect_eq(read(fd, NULL, 0), 0);
	expect_eq(write(fd, NULL, 0), 0);
	expect_eq(stat_of("f").st_size, 3);
}

IN_DIR_CASE(append_writes_at_end_wherever_the_offset_is)
{
	write_file("f", "abc");
	int fd = expect_ok(open("f", O_RDWR | O_APPEND));
	expect_eq(lseek(fd, 0, SEEK_SET), 0);
	expect_eq(write(fd, "de", 2), 2);
	expect_eq(lseek(fd, 0, SEEK_CUR), 5);
	expect_eq(pwrite(fd, "f", 1, 0), 1);
	expect_str(read_file("f"), "abcdef");
}

IN_DIR_CASE(append_can_be_set_with_fcntl)
{
	int fd = make("abc");
	expect_ok(fcntl(fd, F_SETFL, O_APPEND));
	expect_eq(write(fd, "d", 1), 1);
	expect_str(read_file("f"), "abcd");
}

IN_DIR_CASE(lseek_moves_as_told)
{
	int fd = make("abcdef");
	expect_eq(lseek(fd, 4, SEEK_SET), 4);
	expect_eq(lseek(fd, -1, SEEK_CUR), 3);
	expect_eq(lseek(fd, -2, SEEK_END), 4);
	expect_eq(lseek(fd, 10, SEEK_END), 16);
}

IN_DIR_CASE(lseek_before_start_or_unknown_whence_is_einval)
{
	int fd = make("abcdef");
	expect_errno(lseek(fd, -1, SEEK_SET), EINVAL);
	expect_errno(lseek(fd, -7, SEEK_END), EINVAL);
	expect_errno(lseek(fd, 0, 99), EINVAL);
	expect_eq(lseek(fd, 0, SEEK_CUR), 0);
}

IN_DIR_CASE(lseek_data_and_hole_end_with_enxio)
{
	int fd = make("abcdef");
	expect_eq(lseek(fd, 2, SEEK_DATA), 2);
	expect_eq(lseek(fd, 2, SEEK_HOLE), 6);
	expect_errno(lseek(fd, 6, SEEK_DATA), ENXIO);
	expect_errno(lseek(fd, 6, SEEK_HOLE), ENXIO);
}

CASE(lseek_of_pipe_is_espipe)
{
	int pipe_fds[2];
	char byte;
	expect_ok(pipe(pipe_fds));
	expect_errno(lseek(pipe_fds[0], 0, SEEK_CUR), ESPIPE);
	expect_errno(pread(pipe_fds[0], &byte, 1, 0), ESPIPE);
	expect_errno(pwrite(pipe_fds[1], &byte, 1, 0), ESPIPE);
	/* Of the wrong end, too. */
	expect_errno(pread(pipe_fds[1], &byte, 1, 0), ESPIPE);
	expect_errno(pwrite(pipe_fds[0], &byte, 1, 0), ESPIPE);
}

IN_DIR_CASE(write_past_end_leaves_zeros)
{
	int fd = make("ab");
	expect_eq(pwrite(fd, "z", 1, 5), 1);
	char got[8];
	expect_eq(pread(fd, got, 8, 0), 6);
	expect_mem(got, "ab\0\0\0z", 6);
}

IN_DIR_CASE(pread_and_pwrite_leave_the_offset)
{
	int fd = make("abcdef");
	char got[2];
	expect_eq(lseek(fd, 1, SEEK_SET), 1);
	expect_eq(pread(fd, got, 2, 4), 2);
	expect_mem(got, "ef", 2);
	expect_eq(pwrite(fd, "X", 1, 3), 1);
	expect_eq(lseek(fd, 0, SEEK_CUR), 1);
	expect_errno(pread(fd, got, 1, -1), EINVAL);
	expect_errno(pwrite(fd, got, 1, -1), EINVAL);
	expect_eq(pread(fd, got, 1, 1000), 0);
}

IN_DIR_CASE(readv_fills_buffers_in_order)
{
	int fd = make("abcdef");
	char a[2], b[3], c[9];
	struct iovec parts[] = {{a, 2}, {NULL, 0}, {b, 3}, {c, 9}};
	expect_eq(readv(fd, parts, 4), 6);
	expect_mem(a, "ab", 2);
	expect_mem(b, "cde", 3);
	expect_mem(c, "f", 1);
}

IN_DIR_CASE(writev_gathers_buffers_in_order)
{
	int fd = make("");
	struct iovec parts[] = {{"ab", 2}, {NULL, 0}, {"cde", 3}};
	expect_eq(writev(fd, parts, 3), 5);
	expect_str(read_file("f"), "abcde");
}

IN_DIR_CASE(vectored_count_out_of_range_is_einval)
{
	int fd = make("abc");
	static struct iovec parts[IOV_MAX + 1];
	expect_errno(readv(fd, parts, -1), EINVAL);
	expect_errno(writev(fd, parts, IOV_MAX + 1), EINVAL);
	expect_eq(readv(fd, parts, 0), 0);
	expect_eq(readv(fd, parts, IOV_MAX), 0);
	parts[0].iov_len = -1;
	expect_errno(readv(fd, parts, 1), EINVAL);
	expect_errno(readv(fd, (void *)8, 1), EFAULT);
}

IN_DIR_CASE(preadv2_and_pwritev2_take_offset_and_flags)
{
	int fd = make("abcdef");
	char got[3];
	struct iovec part = {got, 3};
	expect_eq(preadv(fd, &part, 1, 2), 3);
	expect_mem(got, "cde", 3);
	expect_eq(lseek(fd, 0, SEEK_CUR), 0);
	expect_eq(preadv2(fd, &part, 1, -1, 0), 3);
	expect_eq(lseek(fd, 0, SEEK_CUR), 3);
	expect_errno(preadv2(fd, &part, 1, 0, 0x40000000), EOPNOTSUPP);
	struct iovec out = {"Z", 1};
	expect_eq(pwritev2(fd, &out, 1, 0, RWF_APPEND), 1);
	expect_str(read_file("f"), "abcdefZ");
}

IN_DIR_CASE(descriptors_of_one_open_share_the_offset)
{
	int a = make("abcdef");
	int b = expect_ok(dup(a)), other = expect_ok(open("f", O_RDONLY));
	char byte;
	expect_eq(read(a, &byte, 1), 1);
	expect_eq(read(b, &byte, 1), 1);
	expect_eq(byte, 'b');
	expect_eq(read(other, &byte, 1), 1);
	expect_eq(byte, 'a');
}

IN_DIR_CASE(offset_is_shared_with_forked_child)
{
	int fd = make("abcdef");
	pid_t pid;
	SPAWN(pid) {
		char byte;
		expect_eq(read(fd, &byte, 1), 1);
	}
	expect_exit(pid, 0);
	expect_eq(lseek(fd, 0, SEEK_CUR), 1);
}

IN_DIR_CASE(unlinked_file_lives_while_open)
{
	int fd = make("abc");
	expect_ok(unlink("f"));
	char got[3];
	expect_eq(read(fd, got, 3), 3);
	struct stat st;
	expect_ok(fstat(fd, &st));
	expect_eq(st.st_nlink, 0);
	expect_eq(write(fd, "d", 1), 1);
}

IN_DIR_CASE(unwritable_file_is_eacces_for_an_ordinary_user)
{
	be_ordinary();
	write_file("f", "");
	expect_ok(chmod("f", 0400));
	expect_errno(open("f", O_WRONLY), EACCES);
	expect_ok(chmod("f", 0));
	expect_errno(open("f", O_RDONLY), EACCES);
}

IN_DIR_CASE(fionread_counts_bytes_to_the_end)
{
	int fd = make("abcdef"), left = 0;
	expect_eq(lseek(fd, 2, SEEK_SET), 2);
	expect_ok(ioctl(fd, FIONREAD, &left));
	expect_eq(left, 4);
	expect_errno(ioctl(fd, 0x1234567, &left), ENOTTY);
}

IN_DIR_CASE(fsync_and_fdatasync_succeed_on_files_and_fail_on_pipes)
{
	int fd = make("abc"), pipe_fds[2];
	expect_ok(fsync(fd));
	expect_ok(fdatasync(fd));
	expect_ok(syncfs(fd));
	expect_ok(pipe(pipe_fds));
	expect_errno(fsync(pipe_fds[0]), EINVAL);
	expect_errno(fsync(900), EBADF);
}

static long openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = {flags, mode, resolve};
	return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

IN_DIR_CASE(openat2_refuses_unknown_flags_and_useless_mode)
{
	write_file("f", "");
	expect_ok(openat2(AT_FDCWD, "f", O_RDONLY, 0, 0));
	expect_errno(openat2(AT_FDCWD, "f", 1ULL << 40, 0, 0), EINVAL);
	expect_errno(openat2(AT_FDCWD, "f", O_RDONLY, 0600, 0), EINVAL);
	expect_errno(openat2(AT_FDCWD, "f", O_RDONLY, 0, 1ULL << 40), EINVAL);
	expect_errno(openat2(AT_FDCWD, "g", O_CREAT, 0200000, 0), EINVAL);
}

IN_DIR_CASE(openat2_checks_the_structure_size)
{
	struct { struct open_how how; uint64_t more; } big = {{O_RDONLY, 0, 0}, 0};
	expect_errno(syscall(SYS_openat2, AT_FDCWD, ".", &big, 8), EINVAL);
	expect_ok(syscall(SYS_openat2, AT_FDCWD, ".", &big, sizeof big));
	big.more = 1;
	expect_errno(syscall(SYS_openat2, AT_FDCWD, ".", &big, sizeof big), E2BIG);
}

IN_DIR_CASE(openat2_no_symlinks_is_eloop)
{
	expect_ok(mkdir("d", 0700));
	write_file("d/f", "");
	expect_ok(symlink("d", "link"));
	expect_errno(openat2(AT_FDCWD, "link/f", O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
	expect_ok(openat2(AT_FDCWD, "d/f", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
}

IN_DIR_CASE(openat2_beneath_refuses_to_leave_the_directory)
{
	expect_ok(mkdir("d", 0700));
	write_file("f", "");
	int dir = expect_ok(open("d", O_PATH));
	expect_errno(openat2(dir, "../f", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
	expect_errno(openat2(dir, "/", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
	expect_ok(symlink("../f", "d/out"));
	expect_errno(openat2(dir, "out", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
}

IN_DIR_CASE(openat2_in_root_treats_the_directory_as_root)
{
	expect_ok(mkdir("d", 0700));
	write_file("d/f", "inner");
	int dir = expect_ok(open("d", O_PATH)), fd;
	char got[8] = {0};
	fd = expect_ok(openat2(dir, "/../../f", O_RDONLY, 0, RESOLVE_IN_ROOT));
	expect_eq(read(fd, got, 8), 5);
	expect_str(got, "inner");
	expect_ok(symlink("/f", "d/link"));
	expect_ok(openat2(dir, "link", O_RDONLY, 0, RESOLVE_IN_ROOT));
}

CASE(openat2_no_magiclinks_is_eloop)
{
	int fd = expect_ok(open("/", O_RDONLY));
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	expect_errno(openat2(AT_FDCWD, path, O_RDONLY, 0, RESOLVE_NO_MAGICLINKS), ELOOP);
	expect_ok(openat2(AT_FDCWD, path, O_RDONLY, 0, 0));
}

CASE(openat2_no_xdev_refuses_to_cross_a_mount)
{
	expect_errno(openat2(AT_FDCWD, "/proc/self", O_RDONLY, 0, RESOLVE_NO_XDEV), EXDEV);
}

IN_DIR_CASE(large_offsets_work)
{
	int fd = make("");
	off_t far = 5LL << 30;
	expect_eq(pwrite(fd, "x", 1, far), 1);
	expect_eq(stat_of("f").st_size, far + 1);
	expect(stat_of("f").st_blocks < 1000);
	char byte;
	expect_eq(pread(fd, &byte, 1, far), 1);
	expect_eq(byte, 'x');
}

IN_DIR_CASE(clone_range_ioctls_are_refused_where_not_supported)
{
	int fd = make("abc"), ends[2];
	write_file("g", "");
	int other = expect_ok(open("g", O_RDWR));
	if (ioctl(other, 0x40049409, fd) == 0) { /* FICLONE */
		expect_str(read_file("g"), "abc");
		return;
	}
	expect(errno == EOPNOTSUPP || errno == ENOTTY);
	expect_ok(pipe(ends));
	expect_eq(ioctl(other, 0x40049409, 0x3fff), -1);
	expect_eq(errno, EBADF);
}

IN_DIR_CASE(a_buffer_that_no_program_can_have_is_efault_before_anything_is_read)
{
	char text[16] = "";
	write_file("file", "0123456789");
	int fd = expect_ok(open("file", O_RDONLY));
	void *beyond = (void *)0x7ffffffff000UL;
	expect_errno(syscall(SYS_read, fd, text, 0x7fffffffffffffffL), EFAULT);
	expect_errno(syscall(SYS_read, fd, text, -1L), EFAULT);
	expect_errno(syscall(SYS_read, fd, (void *)-4096L, 1), EFAULT);
	expect_eq(syscall(SYS_read, fd, beyond, 0), 0);
	expect_errno(syscall(SYS_read, fd, beyond + 1, 0), EFAULT);
	struct iovec two[2] = {{text, 4}, {text, 0x7fffffffffffffffL}};
	expect_errno(readv(fd, two, 2), EFAULT);
	two[1].iov_len = -1L;
	expect_errno(readv(fd, two, 2), EINVAL);
	two[1] = (struct iovec){beyond + 1, 0};
	expect_errno(readv(fd, two, 2), EFAULT);
	expect_eq(read(fd, text, 4), 4); /* nothing was taken by any of these */
	expect_mem(text, "0123", 4);
}
