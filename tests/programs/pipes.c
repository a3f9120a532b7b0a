/* Pipes and FIFOs. */
#include "case.h"
#include <sys/ioctl.h>

static int ends[2];

static void open_pipe(int flags)
{
	expect_ok(pipe2(ends, flags));
}

static volatile sig_atomic_t caught;
static void on_signal(int signal, siginfo_t *info UNUSED, void *context UNUSED)
{
	caught = signal;
}

CASE(bytes_come_out_in_order)
{
	char got[8];
	open_pipe(0);
	expect_eq(write(ends[1], "abc", 3), 3);
	expect_eq(write(ends[1], "de", 2), 2);
	expect_eq(read(ends[0], got, 4), 4);
	expect_mem(got, "abcd", 4);
	expect_eq(read(ends[0], got, 4), 1);
}

CASE(read_after_last_writer_closed_is_end_of_file)
{
	char got[8];
	open_pipe(0);
	expect_eq(write(ends[1], "a", 1), 1);
	expect_ok(close(ends[1]));
	expect_eq(read(ends[0], got, 8), 1);
	expect_eq(read(ends[0], got, 8), 0);
}

CASE(write_without_reader_is_epipe_and_sigpipe)
{
	handle(SIGPIPE, on_signal, 0);
	open_pipe(0);
	expect_ok(close(ends[0]));
	expect_errno(write(ends[1], "a", 1), EPIPE);
	expect_eq(caught, SIGPIPE);
}

CASE(sigpipe_kills_by_default)
{
	pid_t pid;
	SPAWN(pid) {
		open_pipe(0);
		close(ends[0]);
		expect_eq(write(ends[1], "a", 1), 1);
	}
	expect_killed(pid, SIGPIPE);
}

CASE(wrong_end_is_ebadf)
{
	char byte;
	open_pipe(0);
	expect_errno(read(ends[1], &byte, 1), EBADF);
	expect_errno(write(ends[0], &byte, 1), EBADF);
}

CASE(nonblocking_read_of_empty_pipe_is_eagain)
{
	char byte;
	open_pipe(O_NONBLOCK);
	expect_errno(read(ends[0], &byte, 1), EAGAIN);
}

CASE(nonblocking_write_fills_64_kib_then_is_eagain)
{
	char page[PAGE] = {0};
	int total = 0;
	open_pipe(O_NONBLOCK);
	while (write(ends[1], page, PAGE) == (ssize_t)PAGE)
		total += PAGE;
	expect_eq(errno, EAGAIN);
	expect_eq(total, expect_ok(fcntl(ends[1], F_GETPIPE_SZ)));
}

CASE(nonblocking_write_of_up_to_pipe_buf_is_all_or_nothing)
{
	static char block[PAGE];
	open_pipe(O_NONBLOCK);
	while (write(ends[1], block, PAGE) > 0)
		;
	expect_eq(read(ends[0], block, 100), 100);
	expect_errno(write(ends[1], block, 200), EAGAIN);
}

CASE(pipe2_refuses_unknown_flags)
{
	expect_errno(pipe2(ends, O_CREAT), EINVAL);
	expect_errno(pipe((int *)8), EFAULT);
}

CASE(pipe2_flags_are_seen_by_fcntl)
{
	open_pipe(O_NONBLOCK | O_CLOEXEC);
	expect_eq(fcntl(ends[0], F_GETFL), O_RDONLY | O_NONBLOCK);
	expect_eq(fcntl(ends[1], F_GETFL), O_WRONLY | O_NONBLOCK);
	expect_eq(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
}

CASE(fionread_counts_unread_bytes)
{
	int count = -1;
	open_pipe(0);
	expect_ok(ioctl(ends[0], FIONREAD, &count));
	expect_eq(count, 0);
	expect_eq(write(ends[1], "abcd", 4), 4);
	expect_ok(ioctl(ends[0], FIONREAD, &count));
	expect_eq(count, 4);
}

CASE(setpipe_sz_rounds_up_to_a_power_of_two_pages)
{
	open_pipe(0);
	expect_eq(fcntl(ends[0], F_GETPIPE_SZ), 65536);
	expect_eq(fcntl(ends[0], F_SETPIPE_SZ, 5000), 8192);
	expect_eq(fcntl(ends[1], F_GETPIPE_SZ), 8192);
	expect_eq(fcntl(ends[0], F_SETPIPE_SZ, 1), 4096);
}

CASE(setpipe_sz_below_contents_is_ebusy)
{
	static char block[3 * PAGE];
	open_pipe(0);
	expect_eq(write(ends[1], block, sizeof block), sizeof block);
	expect_errno(fcntl(ends[0], F_SETPIPE_SZ, 4096), EBUSY);
}

CASE(blocked_read_wakes_on_write)
{
	pid_t pid;
	char byte;
	open_pipe(0);
	SPAWN(pid) {
		sleep_ms(20);
		expect_eq(write(ends[1], "z", 1), 1);
	}
	expect_eq(read(ends[0], &byte, 1), 1);
	expect_eq(byte, 'z');
	expect_exit(pid, 0);
}

CASE(blocked_read_wakes_on_last_close)
{
	pid_t pid;
	char byte;
	open_pipe(0);
	SPAWN(pid)
		sleep_ms(20);
	expect_ok(close(ends[1]));
	expect_eq(read(ends[0], &byte, 1), 0);
	expect_exit(pid, 0);
}

CASE(blocked_write_wakes_on_read)
{
	pid_t pid;
	static char block[1 << 17];
	open_pipe(0);
	SPAWN(pid) {
		size_t total = 0;
		while (total < sizeof block)
			total += expect_ok(read(ends[0], block, sizeof block));
	}
	expect_eq(write(ends[1], block, sizeof block), sizeof block);
	expect_exit(pid, 0);
}

CASE(blocked_write_is_epipe_when_the_reader_dies)
{
	pid_t pid;
	static char block[1 << 17];
	signal(SIGPIPE, SIG_IGN);
	open_pipe(0);
	SPAWN(pid)
		sleep_ms(30);
	expect_ok(close(ends[0]));
	/* What went into the pipe before counts. */
	expect_eq(write(ends[1], block, sizeof block), 65536);
	expect_errno(write(ends[1], block, 1), EPIPE);
	expect_exit(pid, 0);
}

CASE(large_write_arrives_complete)
{
	pid_t pid;
	enum { SIZE = 1 << 20 };
	unsigned char *block = map_anonymous(SIZE);
	open_pipe(0);
	for (int i = 0; i < SIZE; i++)
		block[i] = i * 7 + i / 256;
	SPAWN(pid) {
		close(ends[0]);
		expect_eq(write(ends[1], block, SIZE), SIZE);
	}
	expect_ok(close(ends[1]));
	unsigned char *got = map_anonymous(SIZE);
	ssize_t total = 0, more;
	while ((more = expect_ok(read(ends[0], got + total, SIZE - total))) > 0)
		total += more;
	expect_eq(total, SIZE);
	expect_mem(got, block, SIZE);
	expect_exit(pid, 0);
}

CASE(poll_states_of_a_pipe)
{
	open_pipe(0);
	expect_eq(poll_one(ends[0], POLLIN, 0).revents, 0);
	expect_eq(poll_one(ends[1], POLLOUT, 0).revents, POLLOUT);
	expect_eq(write(ends[1], "a", 1), 1);
	expect_eq(poll_one(ends[0], POLLIN, 0).revents, POLLIN);
	expect_ok(close(ends[1]));
	expect_eq(poll_one(ends[0], POLLIN, 0).revents, POLLIN | POLLHUP);
}

CASE(poll_of_writer_without_reader_is_pollerr)
{
	open_pipe(0);
	expect_ok(close(ends[0]));
	expect_eq(poll_one(ends[1], POLLOUT, 0).revents, POLLOUT | POLLERR);
}

CASE(o_direct_keeps_packets_apart)
{
	char got[16];
	open_pipe(O_DIRECT);
	expect_eq(write(ends[1], "abcdef", 6), 6);
	expect_eq(write(ends[1], "gh", 2), 2);
	expect_eq(read(ends[0], got, 3), 3);
	expect_eq(read(ends[0], got, 16), 2);
	expect_mem(got, "gh", 2);
}

CASE(fstat_shows_a_fifo)
{
	struct stat a, b;
	open_pipe(0);
	expect_ok(fstat(ends[0], &a));
	expect_ok(fstat(ends[1], &b));
	expect(S_ISFIFO(a.st_mode));
	expect_eq(a.st_mode & 0777, 0600);
	expect_eq(a.st_ino, b.st_ino);
	expect_eq(a.st_uid, geteuid());
}

CASE(proc_fd_link_names_the_pipe)
{
	char path[64], target[64] = {0}, want[64];
	struct stat st;
	open_pipe(0);
	expect_ok(fstat(ends[0], &st));
	snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
	expect_ok(readlink(path, target, sizeof target - 1));
	snprintf(want, sizeof want, "pipe:[%lu]", (unsigned long)st.st_ino);
	expect_str(target, want);
}

CASE(proc_fd_of_a_pipe_can_be_opened_again)
{
	char path[64], byte;
	open_pipe(0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", ends[1]);
	int again = expect_ok(open(path, O_WRONLY));
	expect_eq(write(again, "q", 1), 1);
	expect_eq(read(ends[0], &byte, 1), 1);
	expect_eq(byte, 'q');
}

IN_DIR_CASE(fifo_nonblocking_open_for_writing_without_reader_is_enxio)
{
	expect_ok(mkfifo("p", 0600));
	expect_errno(open("p", O_WRONLY | O_NONBLOCK), ENXIO);
	int reader = expect_ok(open("p", O_RDONLY | O_NONBLOCK));
	int writer = expect_ok(open("p", O_WRONLY | O_NONBLOCK));
	char byte;
	expect_errno(read(reader, &byte, 1), EAGAIN);
	expect_eq(write(writer, "x", 1), 1);
	expect_eq(read(reader, &byte, 1), 1);
}

IN_DIR_CASE(fifo_read_without_writer_is_end_of_file)
{
	char byte;
	expect_ok(mkfifo("p", 0600));
	int reader = expect_ok(open("p", O_RDONLY | O_NONBLOCK));
	expect_eq(read(reader, &byte, 1), 0);
}

IN_DIR_CASE(fifo_open_waits_for_the_other_end)
{
	pid_t pid;
	char byte;
	expect_ok(mkfifo("p", 0600));
	SPAWN(pid) {
		int fd = expect_ok(open("p", O_WRONLY));
		expect_eq(write(fd, "y", 1), 1);
	}
	int fd = expect_ok(open("p", O_RDONLY));
	expect_eq(read(fd, &byte, 1), 1);
	expect_eq(byte, 'y');
	expect_exit(pid, 0);
}

IN_DIR_CASE(fifo_opened_read_write_does_not_wait)
{
	char byte;
	expect_ok(mkfifo("p", 0600));
	int fd = expect_ok(open("p", O_RDWR));
	expect_eq(write(fd, "k", 1), 1);
	expect_eq(read(fd, &byte, 1), 1);
}

IN_DIR_CASE(blocked_fifo_open_is_eintr_on_a_signal)
{
	expect_ok(mkfifo("p", 0600));
	handle(SIGALRM, on_signal, 0);
	struct itimerval soon = {{0, 0}, {0, 30000}};
	expect_ok(setitimer(ITIMER_REAL, &soon, NULL));
	expect_errno(open("p", O_RDONLY), EINTR);
}

IN_DIR_CASE(fifo_survives_rename_and_keeps_its_data)
{
	char byte;
	expect_ok(mkfifo("p", 0600));
	int fd = expect_ok(open("p", O_RDWR));
	expect_eq(write(fd, "m", 1), 1);
	expect_ok(rename("p", "q"));
	int again = expect_ok(open("q", O_RDONLY | O_NONBLOCK));
	expect_eq(read(again, &byte, 1), 1);
	expect_eq(byte, 'm');
}

CASE(sigio_is_sent_to_the_owner_when_data_arrives)
{
	open_pipe(0);
	handle(SIGIO, on_signal, 0);
	expect_ok(fcntl(ends[0], F_SETOWN, getpid()));
	expect_eq(fcntl(ends[0], F_GETOWN), getpid());
	expect_ok(fcntl(ends[0], F_SETFL, O_ASYNC));
	expect_eq(write(ends[1], "x", 1), 1);
	expect_eq(caught, SIGIO);
}
