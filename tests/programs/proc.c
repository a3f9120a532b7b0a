/* /proc: processes and the system. */
#include "case.h"
#include <pthread.h>
#include <sys/eventfd.h>

static char *link_of(const char *path)
{
	static char target[PATH_MAX];
	ssize_t size = expect_ok(readlink(path, target, sizeof target - 1));
	target[size] = 0;
	return target;
}

static long status_field(const char *name)
{
	char *line = strstr(read_file("/proc/self/status"), name);
	long value = -1;
	if (!line || sscanf(line + strlen(name), ":%ld", &value) != 1)
		fail("no %s in status", name);
	return value;
}

CASE(self_is_the_pid_and_thread_self_the_thread)
{
	char want[64];
	snprintf(want, sizeof want, "%d", getpid());
	expect_str(link_of("/proc/self"), want);
	snprintf(want, sizeof want, "%d/task/%d", getpid(), gettid());
	expect_str(link_of("/proc/thread-self"), want);
}

CASE(exe_is_the_program)
{
	char *name = strrchr(link_of("/proc/self/exe"), '/');
	expect(name && name[1]);
	expect_ok(access("/proc/self/exe", X_OK));
	int fd = expect_ok(open("/proc/self/exe", O_RDONLY));
	char magic[4];
	expect_eq(read(fd, magic, 4), 4);
	expect_mem(magic, "\177ELF", 4);
}

IN_DIR_CASE(cwd_and_root_are_links)
{
	char cwd[PATH_MAX];
	expect(getcwd(cwd, sizeof cwd));
	expect_str(link_of("/proc/self/cwd"), cwd);
	expect_str(link_of("/proc/self/root"), "/");
	write_file("f", "through the link");
	expect_str(read_file("/proc/self/cwd/f"), "through the link");
}

CASE(cmdline_is_separated_by_nul)
{
	char text[PATH_MAX] = {0};
	int fd = expect_ok(open("/proc/self/cmdline", O_RDONLY));
	ssize_t size = expect_ok(read(fd, text, sizeof text));
	expect_eq(text[size - 1], 0);
	expect_str(text + strlen(text) + 1, "cmdline_is_separated_by_nul");
	expect_eq(strlen(text) + 1 + strlen("cmdline_is_separated_by_nul") + 1, size);
}

CASE(environ_holds_the_initial_environment)
{
	char *envp[] = {"LZ_A=1", "LZ_B=two", NULL};
	int ends[2];
	pid_t pid;
	expect_ok(pipe(ends));
	SPAWN(pid) {
		dup2(ends[1], 1);
		execle("/bin/cat", "cat", "/proc/self/environ", NULL, envp);
		_exit(CHILD_FAILED);
	}
	expect_exit(pid, 0);
	char got[64] = {0};
	expect_eq(read(ends[0], got, sizeof got), 16);
	expect_mem(got, "LZ_A=1\0LZ_B=two", 16);
}

CASE(stat_fields_agree_with_the_process)
{
	int pid, parent, group, session, terminal, foreground;
	long threads;
	char name[32], state;
	char *text = read_file("/proc/self/stat");
	expect_eq(sscanf(text, "%d (%31[^)]) %c %d %d %d %d %d", &pid, name, &state, &parent, &group,
			 &session, &terminal, &foreground), 8);
	expect_eq(pid, getpid());
	expect_eq(parent, getppid());
	expect_eq(group, getpgrp());
	expect_eq(session, getsid(0));
	expect_eq(state, 'R');
	/* Field 20 is the number of threads; there are 52 in all. */
	int fields = 2;
	for (char *at = strrchr(text, ')') + 1; (at = strchr(at, ' ')); at++)
		if (++fields == 20)
			expect_eq(sscanf(at, "%ld", &threads), 1);
	expect_eq(threads, 1);
	expect_eq(fields, 52);
}

CASE(stat_name_may_hold_parentheses)
{
	char name[32];
	expect_ok(prctl(PR_SET_NAME, "a) (b"));
	char *text = read_file("/proc/self/stat");
	expect_eq(sscanf(text, "%*d (%31[^\n]", name), 1);
	*strrchr(name, ')') = 0;
	expect_mem(strchr(text, '('), "(a) (b) R", 9);
}

CASE(status_shows_ids_signals_and_counts)
{
	char want[32];
	expect_eq(status_field("Pid"), getpid());
	expect_eq(status_field("PPid"), getppid());
	expect_eq(status_field("Tgid"), getpid());
	expect_eq(status_field("Threads"), 1);
	expect_eq(status_field("TracerPid"), 0);
	block(SIGUSR1);
	signal(SIGUSR2, SIG_IGN);
	expect_ok(raise(SIGUSR1));
	char *text = read_file("/proc/self/status");
	snprintf(want, sizeof want, "SigBlk:\t%016x\n", 1 << (SIGUSR1 - 1));
	expect(strstr(text, want));
	snprintf(want, sizeof want, "SigIgn:\t%016x\n", 1 << (SIGUSR2 - 1));
	expect(strstr(text, want));
	snprintf(want, sizeof want, "SigPnd:\t%016x\n", 1 << (SIGUSR1 - 1));
	expect(strstr(text, want));
}

CASE(fd_lists_open_descriptors)
{
	char path[64];
	int fd = expect_ok(eventfd(0, 0));
	bool seen = false;
	DIR *stream = opendir("/proc/self/fd");
	struct dirent *entry;
	expect(stream);
	while ((entry = readdir(stream)))
		seen |= atoi(entry->d_name) == fd && entry->d_name[0] != '.';
	expect(seen);
	expect_ok(close(fd));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	expect_errno(access(path, F_OK), ENOENT);
	expect_errno(access("/proc/self/fd/x", F_OK), ENOENT);
}

IN_DIR_CASE(fdinfo_shows_position_and_flags)
{
	char path[64];
	long position = -1;
	unsigned flags = 0;
	write_file("f", "abcdef");
	int fd = expect_ok(open("f", O_RDWR | O_APPEND));
	expect_eq(lseek(fd, 3, SEEK_SET), 3);
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	expect_eq(sscanf(read_file(path), "pos: %ld flags: %o", &position, &flags), 2);
	expect_eq(position, 3);
	expect_eq(flags & (O_ACCMODE | O_APPEND), O_RDWR | O_APPEND);
}

IN_DIR_CASE(reopening_through_proc_fd_gives_a_new_offset_and_mode)
{
	char path[64], byte;
	write_file("f", "abc");
	int fd = expect_ok(open("f", O_RDONLY));
	expect_eq(read(fd, &byte, 1), 1);
	snprintf(path, sizeof path, "/dev/fd/%d", fd);
	int again = expect_ok(open(path, O_RDWR));
	expect_eq(read(again, &byte, 1), 1);
	expect_eq(byte, 'a');
	expect_eq(write(again, "X", 1), 1);
	expect_str(read_file("f"), "aXc");
}

static volatile int stop;
static void *wait_for_stop(void *unused UNUSED)
{
	prctl(PR_SET_NAME, "worker");
	while (!stop)
		usleep(1000);
	return NULL;
}

CASE(task_lists_threads_with_their_names)
{
	pthread_t thread;
	char path[64];
	int found = 0, count = 0;
	expect_zero(pthread_create(&thread, NULL, wait_for_stop, NULL));
	sleep_ms(10);
	DIR *stream = opendir("/proc/self/task");
	struct dirent *entry;
	expect(stream);
	while ((entry = readdir(stream))) {
		if (entry->d_name[0] == '.')
			continue;
		count++;
		snprintf(path, sizeof path, "/proc/self/task/%.20s/comm", entry->d_name);
		found += !strcmp(read_file(path), "worker\n");
	}
	expect_eq(count, 2);
	expect_eq(found, 1);
	expect_eq(status_field("Threads"), 2);
	stop = 1;
	expect_zero(pthread_join(thread, NULL));
}

CASE(comm_can_be_written)
{
	int fd = expect_ok(open("/proc/self/comm", O_RDWR));
	expect_eq(write(fd, "renamed", 7), 7);
	char name[16];
	expect_ok(prctl(PR_GET_NAME, name));
	expect_str(name, "renamed");
}

CASE(limits_has_a_line_for_each_resource)
{
	char *text = read_file("/proc/self/limits");
	expect_mem(text, "Limit                     Soft Limit           Hard Limit           Units", 72);
	expect(strstr(text, "Max cpu time"));
	expect(strstr(text, "Max open files"));
	expect(strstr(text, "Max realtime timeout"));
}

CASE(mounts_lists_proc)
{
	expect(strstr(read_file("/proc/mounts"), " /proc proc "));
	expect(strstr(read_file("/proc/self/mountinfo"), " /proc "));
	expect(strstr(read_file("/proc/filesystems"), "nodev\tproc"));
}

CASE(meminfo_cpuinfo_uptime_loadavg_and_version_can_be_parsed)
{
	long total = 0, unused = 0;
	double up = 0, idle = -1, load = -1;
	char *text = read_file("/proc/meminfo");
	expect_eq(sscanf(text, "MemTotal: %ld kB MemFree: %ld kB", &total, &unused), 2);
	expect(total > 0 && unused <= total);
	expect(strstr(text, "MemAvailable:"));
	expect_mem(read_file("/proc/cpuinfo"), "processor\t: 0\n", 14);
	expect_eq(sscanf(read_file("/proc/uptime"), "%lf %lf", &up, &idle), 2);
	expect(up > 0);
	expect_eq(sscanf(read_file("/proc/loadavg"), "%lf", &load), 1);
	expect(load >= 0);
	expect_mem(read_file("/proc/version"), "Linux version ", 14);
}

CASE(cpuinfo_counts_the_online_processors)
{
	int processors = 0;
	char *text = read_file("/proc/cpuinfo");
	for (char *at = text; (at = strstr(at, "processor\t:")); at++)
		processors++;
	expect_eq(processors, sysconf(_SC_NPROCESSORS_ONLN));
}

CASE(system_stat_has_cpu_lines_and_boot_time)
{
	char *text = read_file("/proc/stat"), *boot = strstr(text, "btime ");
	long seconds = 0;
	expect_mem(text, "cpu  ", 5);
	expect(strstr(text, "\ncpu0 "));
	expect(boot && sscanf(boot, "btime %ld", &seconds) == 1);
	expect(seconds > 0 && seconds <= time(NULL));
}

CASE(kernel_settings_can_be_read)
{
	expect(atoi(read_file("/proc/sys/kernel/pid_max")) > 300);
	expect_str(read_file("/proc/sys/kernel/ostype"), "Linux\n");
	expect(atol(read_file("/proc/sys/fs/file-max")) > 0);
	expect_between(atoi(read_file("/proc/sys/vm/overcommit_memory")), 0, 2);
	expect(atol(read_file("/proc/sys/fs/pipe-max-size")) >= 4096);
	expect_between(atoi(read_file("/proc/sys/kernel/randomize_va_space")), 0, 2);
	expect_eq(strlen(read_file("/proc/sys/kernel/random/uuid")), 37);
	expect_eq(strlen(read_file("/proc/sys/kernel/random/boot_id")), 37);
}

CASE(children_appear_and_vanish)
{
	char path[64];
	pid_t pid;
	SPAWN(pid)
		pause();
	snprintf(path, sizeof path, "/proc/%d", pid);
	expect(S_ISDIR(stat_of(path).st_mode));
	bool seen = false;
	DIR *stream = opendir("/proc");
	struct dirent *entry;
	while ((entry = readdir(stream)))
		seen |= atoi(entry->d_name) == pid;
	expect(seen);
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	int fd = expect_ok(open(path, O_RDONLY));
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
	expect_errno(open(path, O_RDONLY), ENOENT);
	expect_errno(read(fd, path, 10), ESRCH);
}

CASE(proc_cannot_be_changed)
{
	expect_errno(mkdir("/proc/new", 0755), ENOENT);
	expect_errno(open("/proc/new", O_CREAT | O_RDWR, 0644), ENOENT);
	be_ordinary();
	expect_errno(open("/proc/version", O_WRONLY), EACCES);
}

CASE(wchan_statm_and_oom_score_can_be_parsed)
{
	long size = 0, resident = 0;
	expect_eq(sscanf(read_file("/proc/self/statm"), "%ld %ld", &size, &resident), 2);
	expect(size > 0 && resident <= size);
	expect_between(atoi(read_file("/proc/self/oom_score_adj")), -1000, 1000);
	expect(strlen(read_file("/proc/self/cgroup")) > 0);
}
