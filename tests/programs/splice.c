/* splice, tee, vmsplice, sendfile, copy_file_range. */
#include "case.h"
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int in[2], out[2];

static void open_pipes(void)
{
	expect_ok(pipe(in));
	expect_ok(pipe(out));
}

static int file_with(const char *name, const char *text)
{
	write_file(name, text);
	return expect_ok(open(name, O_RDWR));
}

static void expect_read(int fd, const char *want)
{
	char got[64] = {0};
	expect_eq(read(fd, got, sizeof got), strlen(want));
	expect_str(got, want);
}

CASE(splice_moves_between_pipes)
{
	open_pipes();
	expect_eq(write(in[1], "abcdef", 6), 6);
	expect_eq(splice(in[0], NULL, out[1], NULL, 4, 0), 4);
	expect_read(out[0], "abcd");
	expect_read(in[0], "ef");
}

IN_DIR_CASE(splice_from_file_advances_the_given_offset_only)
{
	open_pipes();
	int fd = file_with("f", "abcdef");
	loff_t at = 2;
	expect_eq(splice(fd, &at, out[1], NULL, 3, 0), 3);
	expect_eq(at, 5);
	expect_eq(lseek(fd, 0, SEEK_CUR), 0);
	expect_read(out[0], "cde");
	expect_eq(splice(fd, NULL, out[1], NULL, 2, 0), 2);
	expect_eq(lseek(fd, 0, SEEK_CUR), 2);
}

IN_DIR_CASE(splice_to_file_writes_at_the_offset)
{
	open_pipes();
	int fd = file_with("f", "......");
	loff_t at = 1;
	expect_eq(write(in[1], "XY", 2), 2);
	expect_eq(splice(in[0], NULL, fd, &at, 2, 0), 2);
	expect_eq(at, 3);
	expect_str(read_file("f"), ".XY...");
}

IN_DIR_CASE(splice_without_a_pipe_is_einval)
{
	int a = file_with("a", "x"), b = file_with("b", "");
	expect_errno(splice(a, NULL, b, NULL, 1, 0), EINVAL);
	open_pipes();
	loff_t at = 0;
	expect_errno(splice(in[0], &at, out[1], NULL, 1, 0), ESPIPE);
	expect_errno(splice(in[0], NULL, in[1], NULL, 1, 0), EINVAL);
	expect_errno(splice(in[0], NULL, out[1], NULL, 1, 0x100), EINVAL);
	expect_errno(splice(in[1], NULL, out[1], NULL, 1, 0), EBADF);
	expect_eq(splice(in[0], NULL, out[1], NULL, 0, 0), 0);
}

CASE(splice_of_empty_pipe_nonblocking_is_eagain_and_at_end_zero)
{
	open_pipes();
	expect_errno(splice(in[0], NULL, out[1], NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
	expect_ok(close(in[1]));
	expect_eq(splice(in[0], NULL, out[1], NULL, 1, 0), 0);
}

IN_DIR_CASE(splice_to_append_file_is_einval)
{
	open_pipes();
	write_file("f", "");
	int fd = expect_ok(open("f", O_WRONLY | O_APPEND));
	expect_eq(write(in[1], "x", 1), 1);
	expect_errno(splice(in[0], NULL, fd, NULL, 1, 0), EINVAL);
}

CASE(splice_blocks_until_there_is_data)
{
	open_pipes();
	pid_t pid;
	SPAWN(pid) {
		sleep_ms(20);
		expect_eq(write(in[1], "late", 4), 4);
	}
	expect_eq(splice(in[0], NULL, out[1], NULL, 100, 0), 4);
	expect_exit(pid, 0);
	expect_read(out[0], "late");
}

CASE(tee_copies_without_consuming)
{
	open_pipes();
	expect_eq(write(in[1], "abc", 3), 3);
	expect_eq(tee(in[0], out[1], 100, 0), 3);
	expect_read(out[0], "abc");
	expect_read(in[0], "abc");
	expect_errno(tee(in[0], out[1], 100, SPLICE_F_NONBLOCK), EAGAIN);
	expect_errno(tee(in[0], in[1], 1, 0), EINVAL);
}

IN_DIR_CASE(tee_of_a_file_is_einval)
{
	open_pipes();
	expect_errno(tee(file_with("f", "x"), out[1], 1, 0), EINVAL);
}

CASE(vmsplice_gathers_memory_into_a_pipe)
{
	open_pipes();
	struct iovec parts[] = {{"abc", 3}, {"de", 2}};
	expect_eq(vmsplice(in[1], parts, 2, 0), 5);
	expect_read(in[0], "abcde");
}

IN_DIR_CASE(vmsplice_to_a_file_is_ebadf)
{
	struct iovec part = {"abc", 3};
	expect_errno(vmsplice(file_with("f", ""), &part, 1, 0), EBADF);
}

IN_DIR_CASE(sendfile_copies_file_to_pipe_and_file)
{
	open_pipes();
	int fd = file_with("f", "abcdef"), other = file_with("g", "");
	off_t at = 1;
	expect_eq(sendfile(out[1], fd, &at, 3), 3);
	expect_eq(at, 4);
	expect_eq(lseek(fd, 0, SEEK_CUR), 0);
	expect_read(out[0], "bcd");
	expect_eq(sendfile(other, fd, NULL, 100), 6);
	expect_eq(lseek(fd, 0, SEEK_CUR), 6);
	expect_str(read_file("g"), "abcdef");
	expect_eq(sendfile(other, fd, NULL, 100), 0);
}

IN_DIR_CASE(sendfile_to_a_socket)
{
	int pair[2];
	int fd = file_with("f", "over the socket");
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	expect_eq(sendfile(pair[0], fd, NULL, 100), 15);
	expect_read(pair[1], "over the socket");
}

IN_DIR_CASE(sendfile_errors)
{
	int fd = file_with("f", "abc"), pair[2];
	off_t at = -1;
	expect_errno(sendfile(expect_ok(open("f", O_RDONLY)), fd, NULL, 1), EBADF);
	expect_errno(sendfile(fd, 900, NULL, 1), EBADF);
	expect_errno(sendfile(1, fd, &at, 1), EINVAL);
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	expect_errno(sendfile(fd, pair[0], NULL, 1), EINVAL);
	at = 0;
	open_pipes();
	expect_errno(sendfile(fd, in[0], &at, 1), ESPIPE);
}

IN_DIR_CASE(copy_file_range_copies_and_advances)
{
	int a = file_with("a", "abcdef"), b = file_with("b", "");
	loff_t from = 2, to = 1;
	expect_eq(copy_file_range(a, &from, b, &to, 3, 0), 3);
	expect_eq(from, 5);
	expect_eq(to, 4);
	char got[4];
	expect_eq(pread(b, got, 4, 0), 4);
	expect_mem(got, "\0cde", 4);
	expect_eq(copy_file_range(a, NULL, b, NULL, 100, 0), 6);
	expect_eq(lseek(a, 0, SEEK_CUR), 6);
	expect_eq(copy_file_range(a, NULL, b, NULL, 100, 0), 0);
}

IN_DIR_CASE(copy_file_range_errors)
{
	int a = file_with("a", "abcdef");
	int reader = expect_ok(open("a", O_RDONLY)), appender = expect_ok(open("a", O_WRONLY | O_APPEND));
	loff_t from = 0, to = 2;
	expect_errno(copy_file_range(a, NULL, reader, NULL, 1, 0), EBADF);
	expect_errno(copy_file_range(a, NULL, appender, NULL, 1, 0), EBADF);
	expect_errno(copy_file_range(a, &from, a, &to, 4, 0), EINVAL);
	expect_errno(copy_file_range(a, NULL, a, NULL, 1, 1), EINVAL);
	open_pipes();
	expect_errno(copy_file_range(a, NULL, in[1], NULL, 1, 0), EINVAL);
	expect_errno(copy_file_range(expect_ok(open(".", O_RDONLY)), NULL, a, NULL, 1, 0), EISDIR);
}

IN_DIR_CASE(copy_file_range_within_one_file_may_not_overlap_but_may_be_apart)
{
	int fd = file_with("a", "abcdef");
	loff_t from = 0, to = 3;
	expect_eq(copy_file_range(fd, &from, fd, &to, 3, 0), 3);
	expect_str(read_file("a"), "abcabc");
}
