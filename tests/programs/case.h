/* The frame every guest program of the suite is written in.
 *
 *   CASE(name) { ... }          a case; IN_DIR_CASE runs it in a fresh directory
 *   prog --list                 prints the names of the cases
 *   prog NAME                   runs one: 0 passed, 1 failed, 77 skipped
 *
 * A case states what Linux does, one fact at a time; the first that does not
 * hold prints one line and ends the process. Nothing may outlive a case: its
 * directory is removed, and its processes end by themselves within seconds. */
#ifndef CASE_H
#define CASE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Cases pass bad arguments on purpose. */
#pragma GCC diagnostic ignored "-Wnonnull"
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#pragma GCC diagnostic ignored "-Wstringop-overread"
#pragma GCC diagnostic ignored "-Wformat-truncation"

#define UNUSED __attribute__((unused))
#define PAGE 4096UL
#define MS 1000000LL /* nanoseconds in a millisecond */

/* How long a case may take. */
#ifndef LIMIT_SECONDS
#define LIMIT_SECONDS 10
#endif

enum { PASSED = 0, FAILED = 1, SKIPPED = 77, CHILD_FAILED = 113 };

struct test_case {
	const char *name;
	void (*run)(void);
	bool in_dir;
};

#define CASE_WITH(name_, in_dir_) \
	static void case_##name_(void); \
	static const struct test_case test_##name_ = {#name_, case_##name_, in_dir_}; \
	static const struct test_case *const entry_##name_ \
		__attribute__((used, section("test_cases"))) = &test_##name_; \
	static void case_##name_(void)
#define CASE(name) CASE_WITH(name, false)
#define IN_DIR_CASE(name) CASE_WITH(name, true)

static pid_t main_pid UNUSED;
static char case_dir[PATH_MAX] UNUSED;

/* Removes what the case left in its directory, whatever modes it set. */
static UNUSED void remove_tree(int parent, const char *name)
{
	if (unlinkat(parent, name, 0) == 0)
		return;
	fchmodat(parent, name, 0700, 0);
	int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir >= 0) {
		DIR *stream = fdopendir(dir);
		struct dirent *entry;
		while (stream && (entry = readdir(stream)))
			if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
				remove_tree(dirfd(stream), entry->d_name);
		if (stream)
			closedir(stream);
	}
	unlinkat(parent, name, AT_REMOVEDIR);
}

static UNUSED void leave_case_dir(void)
{
	if (!case_dir[0] || getpid() != main_pid)
		return;
	if (chdir("/") == 0)
		remove_tree(AT_FDCWD, case_dir);
	case_dir[0] = 0;
}

static UNUSED void enter_case_dir(void)
{
	const char *base = getenv("TMPDIR");
	snprintf(case_dir, sizeof case_dir, "%s/case.XXXXXX", base && *base ? base : "/tmp");
	if (!mkdtemp(case_dir) || chdir(case_dir)) {
		dprintf(2, "no directory %s (errno %d)\n", case_dir, errno);
		_exit(FAILED);
	}
}

static UNUSED __attribute__((noreturn)) void end_case(int code)
{
	if (getpid() != main_pid && code == FAILED)
		_exit(CHILD_FAILED);
	leave_case_dir();
	_exit(code);
}

static UNUSED const char *errno_name(int error)
{
	const char *name = error ? strerrorname_np(error) : "0";
	return name ? name : "?";
}

static UNUSED __attribute__((noreturn, format(printf, 4, 5))) void
fail_at(const char *file, int line, const char *expression, const char *format, ...)
{
	int error = errno;
	char what[512];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	const char *base = strrchr(file, '/');
	dprintf(2, "%s:%d: %s: %s (errno %s)\n", base ? base + 1 : file, line, expression, what,
		errno_name(error));
	end_case(FAILED);
}
#define fail(...) fail_at(__FILE__, __LINE__, "fail", __VA_ARGS__)

/* The condition holds. */
#define expect(condition) \
	((condition) ? (void)0 : fail_at(__FILE__, __LINE__, #condition, "got false, want true"))

/* The call does not return -1; its value. */
#define expect_ok(call) \
	({ \
		__typeof__(call) value_ = (call); \
		if ((long)value_ == -1) \
			fail_at(__FILE__, __LINE__, #call, "got -1, want success"); \
		value_; \
	})

/* The call returns -1 with this errno. */
#define expect_errno(call, error) \
	({ \
		errno = 0; \
		long value_ = (long)(call); \
		if (value_ != -1 || errno != (error)) \
			fail_at(__FILE__, __LINE__, #call, "got %ld, want -1 with %s", value_, \
				errno_name(error)); \
	})

#define expect_eq(got, want) \
	({ \
		long long got_ = (long long)(got), want_ = (long long)(want); \
		if (got_ != want_) \
			fail_at(__FILE__, __LINE__, #got, "got %lld, want %lld", got_, want_); \
	})

#define expect_str(got, want) \
	({ \
		const char *got_ = (got), *want_ = (want); \
		if (strcmp(got_, want_)) \
			fail_at(__FILE__, __LINE__, #got, "got \"%s\", want \"%s\"", got_, want_); \
	})

#define expect_mem(got, want, size) \
	({ \
		if (memcmp(got, want, size)) \
			fail_at(__FILE__, __LINE__, #got, "got other bytes than %s", #want); \
	})

/* low <= got <= high */
#define expect_between(got, low, high) \
	({ \
		long long got_ = (long long)(got), low_ = (long long)(low), high_ = (long long)(high); \
		if (got_ < low_ || got_ > high_) \
			fail_at(__FILE__, __LINE__, #got, "got %lld, want %lld to %lld", got_, low_, high_); \
	})

/* The pthread function returns 0 (it reports errors by value). */
#define expect_zero(call) \
	({ \
		int value_ = (call); \
		if (value_) \
			fail_at(__FILE__, __LINE__, #call, "got %s, want 0", errno_name(value_)); \
	})

static UNUSED __attribute__((noreturn)) void skip(const char *reason)
{
	dprintf(2, "skipped: %s\n", reason);
	end_case(SKIPPED);
}

static UNUSED void need_root(void)
{
	if (geteuid() != 0)
		skip("needs root");
}

/* Goes on without privileges; the case's directory is then the new user's. */
static UNUSED void be_ordinary(void)
{
	enum { NOBODY = 65534 };
	if (geteuid() != 0)
		return;
	if (case_dir[0])
		expect_ok(chown(case_dir, NOBODY, NOBODY));
	expect_ok(syscall(SYS_setgroups, 0, NULL));
	expect_ok(setresgid(NOBODY, NOBODY, NOBODY));
	expect_ok(setresuid(NOBODY, NOBODY, NOBODY));
}

/* Effective capability `number`, without which a case may have to be skipped. */
static UNUSED bool has_cap(int number)
{
	unsigned header[2] = {0x20080522, 0}, data[6] = {0};
	return syscall(SYS_capget, header, data) == 0 && (data[(number / 32) * 3] >> (number % 32) & 1);
}

static UNUSED void need_cap(int number)
{
	if (!has_cap(number))
		skip("needs a capability");
}

/* pid_t pid; SPAWN(pid) { what the child does } — the child then exits 0. */
#define SPAWN(pid) \
	if (((pid) = expect_ok(fork())) == 0) \
		for (alarm(LIMIT_SECONDS);; _exit(0))

static UNUSED int wait_status_at(const char *file, int line, pid_t pid)
{
	int status = 0;
	pid_t got;
	do
		got = waitpid(pid, &status, 0);
	while (got == -1 && errno == EINTR);
	if (got != pid)
		fail_at(file, line, "waitpid", "got %d, want %d", got, pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_FAILED)
		end_case(FAILED); /* the child has said why */
	return status;
}

#define expect_exit(pid, code) \
	({ \
		int status_ = wait_status_at(__FILE__, __LINE__, pid); \
		if (status_ != ((code) & 255) << 8) \
			fail_at(__FILE__, __LINE__, #pid, "got wait status %#x, want exit %d", \
				(unsigned)status_, code); \
	})

#define expect_killed(pid, signal) \
	({ \
		int status_ = wait_status_at(__FILE__, __LINE__, pid); \
		if (!WIFSIGNALED(status_) || WTERMSIG(status_) != (signal)) \
			fail_at(__FILE__, __LINE__, #pid, "got wait status %#x, want killed by %d", \
				(unsigned)status_, signal); \
	})

/* A file with this text, closed again. */
static UNUSED void write_file(const char *path, const char *text)
{
	int fd = expect_ok(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
	expect_eq(write(fd, text, strlen(text)), strlen(text));
	expect_ok(close(fd));
}

/* What the file holds now (the first few KiB), in one buffer at a time. */
static UNUSED char *read_file(const char *path)
{
	static char text[65536];
	size_t size = 0;
	ssize_t more;
	int fd = expect_ok(open(path, O_RDONLY | O_CLOEXEC));
	while (size < sizeof text - 1 && (more = expect_ok(read(fd, text + size, sizeof text - 1 - size))))
		size += more;
	text[size] = 0;
	expect_ok(close(fd));
	return text;
}

static UNUSED struct stat stat_of(const char *path)
{
	struct stat st;
	expect_ok(lstat(path, &st));
	return st;
}

static UNUSED long long now_ns(clockid_t clock)
{
	struct timespec ts;
	expect_ok(clock_gettime(clock, &ts));
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static UNUSED void sleep_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * MS};
	while (nanosleep(&ts, &ts) == -1 && errno == EINTR)
		;
}

/* The state letter of a thread of this process or of a child: R, S, T, Z, … */
static UNUSED char state_of(pid_t pid)
{
	char path[64], text[512];
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return '-';
	ssize_t size = read(fd, text, sizeof text - 1);
	close(fd);
	text[size > 0 ? size : 0] = 0;
	char *end = strrchr(text, ')');
	return end ? end[2] : '-';
}

/* Waits (a few seconds at most) until a thread is in the state. */
static UNUSED void wait_for_state(pid_t pid, char state)
{
	for (int i = 0; i < 2000 && state_of(pid) != state; i++)
		sleep_ms(2);
	if (state_of(pid) != state)
		fail("process %d is in state %c, want %c", pid, state_of(pid), state);
}

static UNUSED void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
	expect_ok(sigaction(signal, &action, NULL));
}

static UNUSED sigset_t set_of(int signal)
{
	sigset_t set;
	sigemptyset(&set);
	if (signal)
		sigaddset(&set, signal);
	return set;
}

static UNUSED void block(int signal)
{
	sigset_t set = set_of(signal);
	expect_ok(sigprocmask(SIG_BLOCK, &set, NULL));
}

static UNUSED void *map_anonymous(size_t size)
{
	return expect_ok(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

/* Memory that children share with this process, zeroed. */
static UNUSED void *map_shared(size_t size)
{
	return expect_ok(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

static UNUSED struct pollfd poll_one(int fd, short events, int timeout_ms)
{
	struct pollfd entry = {fd, events, 0};
	expect_ok(poll(&entry, 1, timeout_ms));
	return entry;
}

#ifndef CASE_NO_MAIN
extern const struct test_case *const __start_test_cases[], *const __stop_test_cases[];

/* Undoes what the caller may have passed on: ignored and blocked signals. */
static void reset_signals(void)
{
	/* The raw call: the C library does not let its own two signals be touched. */
	unsigned long dispositions[4] = {0};
	sigset_t none = set_of(0);
	for (int number = 1; number <= 64; number++)
		syscall(SYS_rt_sigaction, number, dispositions, NULL, 8);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int main(int argc, char **argv)
{
	main_pid = getpid();
	if (argc != 2) {
		dprintf(2, "usage: %s --list | NAME\n", argv[0]);
		return 2;
	}
	for (const struct test_case *const *entry = __start_test_cases; entry != __stop_test_cases;
	     entry++) {
		if (!strcmp(argv[1], "--list")) {
			puts((*entry)->name);
		} else if (!strcmp(argv[1], (*entry)->name)) {
			umask(022);
			reset_signals();
			alarm(LIMIT_SECONDS);
			if ((*entry)->in_dir)
				enter_case_dir();
			(*entry)->run();
			end_case(PASSED);
		}
	}
	if (!strcmp(argv[1], "--list"))
		return 0;
	dprintf(2, "no case %s\n", argv[1]);
	return 2;
}
#endif
#endif
