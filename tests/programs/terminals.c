/* Pseudo-terminals, line discipline, sessions and job control. */
#include "case.h"
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

static int master, slave;

static void open_pair(void)
{
	int unlock = 0, number;
	char path[32];
	master = expect_ok(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	expect_ok(ioctl(master, TIOCSPTLCK, &unlock));
	expect_ok(ioctl(master, TIOCGPTN, &number));
	snprintf(path, sizeof path, "/dev/pts/%d", number);
	slave = expect_ok(open(path, O_RDWR | O_NOCTTY));
}

static void raw(void)
{
	struct termios mode;
	expect_ok(tcgetattr(slave, &mode));
	cfmakeraw(&mode);
	expect_ok(tcsetattr(slave, TCSANOW, &mode));
}

static void put(int fd, const char *text)
{
	expect_eq(write(fd, text, strlen(text)), strlen(text));
}

static void expect_read(int fd, const char *want)
{
	char got[256] = {0};
	size_t size = 0;
	while (size < strlen(want) && (poll_one(fd, POLLIN, 2000).revents & POLLIN))
		size += expect_ok(read(fd, got + size, sizeof got - 1 - size));
	expect_str(got, want);
}

static void expect_nothing(int fd)
{
	expect_eq(poll_one(fd, POLLIN, 0).revents & POLLIN, 0);
}

/* A child which leads a session on the terminal. It ends with its body. */
#define SESSION(pid) \
	SPAWN(pid) \
		if (expect_ok(setsid()), expect_ok(ioctl(slave, TIOCSCTTY, 0)), true)

CASE(pair_has_a_name_and_a_locked_start)
{
	int number = -1;
	master = expect_ok(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	expect_ok(ioctl(master, TIOCGPTN, &number));
	char path[32], *name = ptsname(master);
	snprintf(path, sizeof path, "/dev/pts/%d", number);
	expect(name);
	expect_str(name, path);
	expect_errno(open(path, O_RDWR | O_NOCTTY), EIO);
	expect_ok(unlockpt(master));
	expect_ok(open(path, O_RDWR | O_NOCTTY));
	expect(isatty(master));
}

CASE(slave_is_a_character_device_owned_by_the_user)
{
	struct stat st;
	open_pair();
	expect_ok(fstat(slave, &st));
	expect(S_ISCHR(st.st_mode));
	expect_eq(major(st.st_rdev), 136);
	expect_eq(st.st_uid, geteuid());
	expect(isatty(slave));
	expect_errno(lseek(slave, 0, SEEK_CUR), ESPIPE);
}

CASE(tiocgptpeer_opens_the_slave)
{
	open_pair();
	int peer = expect_ok(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
	put(peer, "x");
	expect_read(master, "x");
}

CASE(canonical_mode_waits_for_the_line)
{
	open_pair();
	put(master, "abc");
	expect_nothing(slave);
	put(master, "d\n");
	expect_read(slave, "abcd\n");
}

CASE(canonical_read_returns_one_line_at_a_time)
{
	char got[16] = {0};
	open_pair();
	put(master, "one\ntwo\n");
	expect_eq(read(slave, got, 16), 4);
	expect_mem(got, "one\n", 4);
	expect_eq(read(slave, got, 2), 2);
	expect_mem(got, "tw", 2);
	expect_eq(read(slave, got, 16), 2);
}

CASE(input_is_echoed_with_carriage_returns)
{
	open_pair();
	put(master, "hi\n");
	expect_read(master, "hi\r\n");
}

CASE(echo_can_be_turned_off)
{
	struct termios mode;
	open_pair();
	expect_ok(tcgetattr(slave, &mode));
	mode.c_lflag &= ~(ECHO | ECHONL);
	expect_ok(tcsetattr(slave, TCSANOW, &mode));
	put(master, "secret\n");
	expect_read(slave, "secret\n");
	expect_nothing(master);
}

CASE(control_characters_are_echoed_with_a_caret)
{
	open_pair();
	put(master, "\1\n");
	expect_read(master, "^A\r\n");
}

CASE(output_newline_becomes_carriage_return_newline)
{
	open_pair();
	put(slave, "a\nb\n");
	expect_read(master, "a\r\nb\r\n");
	raw();
	put(slave, "a\nb\n");
	expect_read(master, "a\nb\n");
}

CASE(erase_and_kill_edit_the_line)
{
	open_pair();
	put(master, "abx\177c\n");
	expect_read(slave, "abc\n");
	put(master, "wrong\025right\n");
	expect_read(slave, "right\n");
	put(master, "two words\027word\n");
	expect_read(slave, "two word\n");
}

CASE(erase_is_echoed_as_backspace_space_backspace)
{
	open_pair();
	put(master, "a\177");
	expect_read(master, "a\b \b");
}

CASE(end_of_file_character_ends_the_read)
{
	char got[8];
	open_pair();
	put(master, "\004");
	expect_eq(read(slave, got, 8), 0);
	put(master, "ab\004");
	expect_eq(read(slave, got, 8), 2);
}

CASE(literal_next_quotes_a_control_character)
{
	open_pair();
	put(master, "\026\004\n");
	expect_read(slave, "\004\n");
}

CASE(icrnl_turns_carriage_return_into_newline)
{
	open_pair();
	put(master, "go\r");
	expect_read(slave, "go\n");
}

CASE(raw_mode_passes_every_byte_at_once)
{
	open_pair();
	raw();
	put(master, "\003\004\r\177");
	expect_read(slave, "\003\004\r\177");
	expect_nothing(master);
}

CASE(vmin_and_vtime)
{
	struct termios mode;
	char got[8];
	open_pair();
	raw();
	expect_ok(tcgetattr(slave, &mode));
	mode.c_cc[VMIN] = 0;
	mode.c_cc[VTIME] = 0;
	expect_ok(tcsetattr(slave, TCSANOW, &mode));
	expect_eq(read(slave, got, 8), 0);
	mode.c_cc[VTIME] = 1;
	expect_ok(tcsetattr(slave, TCSANOW, &mode));
	long long start = now_ns(CLOCK_MONOTONIC);
	expect_eq(read(slave, got, 8), 0);
	expect(now_ns(CLOCK_MONOTONIC) - start >= 90 * MS);
	mode.c_cc[VMIN] = 3;
	mode.c_cc[VTIME] = 0;
	expect_ok(tcsetattr(slave, TCSANOW, &mode));
	put(master, "ab");
	expect_nothing(slave);
	put(master, "c");
	expect_eq(read(slave, got, 8), 3);
}

CASE(nonblocking_read_without_input_is_eagain)
{
	char byte;
	open_pair();
	expect_ok(fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK));
	expect_ok(fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK));
	expect_errno(read(slave, &byte, 1), EAGAIN);
	expect_errno(read(master, &byte, 1), EAGAIN);
}

CASE(fionread_and_flush)
{
	int count = -1;
	open_pair();
	raw();
	put(master, "abcd");
	expect_eq(poll_one(slave, POLLIN, 1000).revents & POLLIN, POLLIN);
	expect_ok(ioctl(slave, FIONREAD, &count));
	expect_eq(count, 4);
	expect_ok(tcflush(slave, TCIFLUSH));
	expect_ok(ioctl(slave, FIONREAD, &count));
	expect_eq(count, 0);
	expect_nothing(slave);
}

CASE(closing_the_slave_is_eio_and_hangup_for_the_master)
{
	char got[8];
	open_pair();
	put(slave, "last");
	expect_ok(close(slave));
	expect_eq(read(master, got, 8), 4);
	expect_errno(read(master, got, 8), EIO);
	expect_eq(poll_one(master, POLLIN, 0).revents & POLLHUP, POLLHUP);
}

CASE(closing_the_master_is_end_of_file_and_eio_for_the_slave)
{
	char byte;
	open_pair();
	expect_ok(close(master));
	expect_eq(read(slave, &byte, 1), 0);
	expect_errno(write(slave, "x", 1), EIO);
	expect_eq(poll_one(slave, POLLIN, 0).revents & POLLHUP, POLLHUP);
}

CASE(window_size_is_shared_by_both_sides)
{
	struct winsize size = {50, 132, 1, 2}, got;
	open_pair();
	expect_ok(ioctl(master, TIOCGWINSZ, &got));
	expect_eq(got.ws_row, 0);
	expect_ok(ioctl(master, TIOCSWINSZ, &size));
	expect_ok(ioctl(slave, TIOCGWINSZ, &got));
	expect_mem(&got, &size, sizeof size);
}

CASE(window_size_change_is_sigwinch_for_the_foreground)
{
	pid_t pid;
	int ready[2];
	char byte;
	open_pair();
	expect_ok(pipe(ready));
	SESSION(pid) {
		struct winsize size;
		sigset_t set = set_of(SIGWINCH);
		block(SIGWINCH);
		put(ready[1], "x");
		expect_eq(sigwaitinfo(&set, NULL), SIGWINCH);
		expect_ok(ioctl(slave, TIOCGWINSZ, &size));
		expect_eq(size.ws_col, 99);
	}
	expect_eq(read(ready[0], &byte, 1), 1);
	expect_ok(ioctl(master, TIOCSWINSZ, &(struct winsize){9, 99, 0, 0}));
	expect_exit(pid, 0);
}

static void interrupt_key(const char *key, int signal)
{
	pid_t pid;
	int ready[2];
	char byte;
	open_pair();
	expect_ok(pipe(ready));
	SESSION(pid) {
		prctl(PR_SET_DUMPABLE, 0);
		put(ready[1], "x");
		for (;;)
			pause();
	}
	expect_eq(read(ready[0], &byte, 1), 1);
	put(master, key);
	if (signal != SIGTSTP) {
		expect_killed(pid, signal);
	} else {
		/* The leader of a lone session is an orphaned group: it does not stop. */
		sleep_ms(20);
		expect(state_of(pid) != 'T');
		expect_ok(kill(pid, SIGKILL));
		expect_killed(pid, SIGKILL);
	}
}

CASE(control_c_is_sigint_for_the_foreground_group)
{
	interrupt_key("\003", SIGINT);
}

CASE(control_backslash_is_sigquit)
{
	interrupt_key("\034", SIGQUIT);
}

CASE(control_z_does_not_stop_an_orphaned_group)
{
	interrupt_key("\032", SIGTSTP);
}

CASE(control_z_stops_a_job_and_the_shell_sees_it)
{
	pid_t pid;
	int ready[2];
	char byte;
	open_pair();
	expect_ok(pipe(ready));
	SESSION(pid) {
		pid_t job;
		int status;
		signal(SIGTTOU, SIG_IGN);
		SPAWN(job) {
			expect_ok(setpgid(0, 0));
			expect_ok(tcsetpgrp(slave, getpid()));
			put(ready[1], "x");
			for (;;)
				pause();
		}
		expect_eq(waitpid(job, &status, WUNTRACED), job);
		expect(WIFSTOPPED(status));
		expect_eq(WSTOPSIG(status), SIGTSTP);
		expect_ok(tcsetpgrp(slave, getpgrp()));
		expect_ok(kill(-job, SIGCONT));
		expect_eq(waitpid(job, &status, WCONTINUED), job);
		expect_ok(kill(-job, SIGTERM));
		expect_killed(job, SIGTERM);
	}
	expect_eq(read(ready[0], &byte, 1), 1);
	put(master, "\032");
	expect_exit(pid, 0);
}

CASE(background_read_is_sigttin_and_write_with_tostop_sigttou)
{
	pid_t pid;
	open_pair();
	SESSION(pid) {
		pid_t job;
		int status;
		struct termios mode;
		expect_ok(tcgetattr(slave, &mode));
		mode.c_lflag |= TOSTOP;
		expect_ok(tcsetattr(slave, TCSANOW, &mode));
		SPAWN(job) {
			char byte;
			expect_ok(setpgid(0, 0));
			expect_ok(read(slave, &byte, 1));
		}
		expect_eq(waitpid(job, &status, WUNTRACED), job);
		expect_eq(WSTOPSIG(status), SIGTTIN);
		expect_ok(kill(job, SIGKILL));
		expect_killed(job, SIGKILL);
		SPAWN(job) {
			expect_ok(setpgid(0, 0));
			put(slave, "x");
		}
		expect_eq(waitpid(job, &status, WUNTRACED), job);
		expect_eq(WSTOPSIG(status), SIGTTOU);
		expect_ok(kill(job, SIGKILL));
		expect_killed(job, SIGKILL);
	}
	expect_exit(pid, 0);
}

CASE(background_read_ignoring_sigttin_is_eio)
{
	pid_t pid;
	open_pair();
	SESSION(pid) {
		pid_t job;
		SPAWN(job) {
			char byte;
			expect_ok(setpgid(0, 0));
			signal(SIGTTIN, SIG_IGN);
			expect_errno(read(slave, &byte, 1), EIO);
			signal(SIGTTOU, SIG_IGN);
			expect_ok(tcsetpgrp(slave, getpid()));
			expect_eq(tcgetpgrp(slave), getpid());
		}
		expect_exit(job, 0);
	}
	expect_exit(pid, 0);
}

CASE(controlling_terminal_is_dev_tty)
{
	pid_t pid;
	open_pair();
	SESSION(pid) {
		int tty = expect_ok(open("/dev/tty", O_RDWR));
		put(tty, "via tty");
		expect_eq(tcgetsid(tty), getpid());
		expect_eq(tcgetpgrp(tty), getpgrp());
		expect_ok(ioctl(tty, TIOCNOTTY));
	}
	expect_read(master, "via tty");
	int status;
	expect_eq(waitpid(pid, &status, 0), pid);
	/* Giving up the terminal hangs up the foreground group: the leader itself. */
	expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP);
}

CASE(without_controlling_terminal_dev_tty_is_enxio)
{
	pid_t pid;
	open_pair();
	SPAWN(pid) {
		expect_ok(setsid());
		expect_errno(open("/dev/tty", O_RDWR), ENXIO);
		expect_errno(tcgetpgrp(slave), ENOTTY);
		/* Opening without O_NOCTTY takes the terminal. */
		int number;
		char path[32];
		expect_ok(ioctl(master, TIOCGPTN, &number));
		snprintf(path, sizeof path, "/dev/pts/%d", number);
		expect_ok(open(path, O_RDWR));
		expect_ok(open("/dev/tty", O_RDWR));
	}
	expect_exit(pid, 0);
}

CASE(hangup_of_the_master_is_sighup_for_the_session_leader)
{
	pid_t pid;
	int ready[2];
	char byte;
	open_pair();
	expect_ok(pipe(ready));
	SESSION(pid) {
		close(master);
		put(ready[1], "x");
		for (;;)
			pause();
	}
	expect_eq(read(ready[0], &byte, 1), 1);
	expect_ok(close(master));
	expect_killed(pid, SIGHUP);
}

CASE(end_of_the_session_leader_is_sighup_for_the_foreground)
{
	int *job = map_shared(PAGE);
	pid_t pid;
	open_pair();
	expect_ok(prctl(PR_SET_CHILD_SUBREAPER, 1));
	SESSION(pid) {
		pid_t inner;
		int ready[2];
		char byte;
		expect_ok(pipe(ready));
		SPAWN(inner) {
			put(ready[1], "x");
			for (;;)
				pause();
		}
		expect_eq(read(ready[0], &byte, 1), 1);
		*job = inner;
	}
	expect_exit(pid, 0);
	expect_killed(*job, SIGHUP);
}

CASE(terminal_ioctls_of_other_files_are_enotty)
{
	struct termios mode;
	int ends[2];
	expect_ok(pipe(ends));
	expect_errno(tcgetattr(ends[0], &mode), ENOTTY);
	expect_errno(ioctl(expect_ok(open("/dev/null", O_RDWR)), TIOCGWINSZ, &mode), ENOTTY);
	expect_eq(isatty(ends[0]), 0);
}

CASE(attributes_are_read_back)
{
	struct termios mode, got;
	open_pair();
	expect_ok(tcgetattr(slave, &mode));
	expect_eq(mode.c_cc[VINTR], 3);
	expect(mode.c_lflag & ICANON && mode.c_lflag & ISIG && mode.c_oflag & OPOST);
	mode.c_cc[VINTR] = 'q';
	cfsetospeed(&mode, B9600);
	expect_ok(tcsetattr(slave, TCSADRAIN, &mode));
	expect_ok(tcgetattr(master, &got));
	expect_eq(got.c_cc[VINTR], 'q');
	expect_eq(cfgetospeed(&got), B9600);
}

CASE(packet_mode_prefixes_data_and_reports_flushes)
{
	char got[8];
	int on = 1;
	open_pair();
	raw();
	expect_ok(ioctl(master, TIOCPKT, &on));
	put(slave, "ab");
	expect_eq(read(master, got, 8), 3);
	expect_mem(got, "\0ab", 3);
	expect_ok(tcflush(slave, TCIFLUSH));
	expect_eq(read(master, got, 8), 1);
	expect_eq(got[0] & TIOCPKT_FLUSHREAD, TIOCPKT_FLUSHREAD);
}

CASE(drain_break_and_flow_requests_succeed)
{
	open_pair();
	expect_ok(tcdrain(slave));
	expect_ok(tcsendbreak(slave, 0));
	expect_ok(tcflush(slave, TCIOFLUSH));
	expect_errno(ioctl(slave, TCFLSH, 77), EINVAL);
	expect_ok(tcflow(slave, TCOOFF));
	expect_ok(tcflow(slave, TCOON));
	expect_errno(ioctl(slave, TCXONC, 77), EINVAL);
}
