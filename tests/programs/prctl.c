/* prctl, resource limits, usage, personality, uname, sysinfo, scheduling. */
#include "case.h"
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>

CASE(name_is_cut_to_15_bytes)
{
	char name[16];
	expect_ok(prctl(PR_SET_NAME, "a-very-long-thread-name"));
	expect_ok(prctl(PR_GET_NAME, name));
	expect_str(name, "a-very-long-thr");
	expect_errno(prctl(PR_SET_NAME, 8), EFAULT);
}

CASE(no_new_privs_cannot_be_cleared_and_is_inherited)
{
	expect_eq(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
	expect_ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	expect_eq(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	expect_errno(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
	expect_errno(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0), EINVAL);
	expect(strstr(read_file("/proc/self/status"), "NoNewPrivs:\t1"));
	pid_t pid;
	SPAWN(pid)
		expect_eq(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	expect_exit(pid, 0);
}

CASE(dumpable_can_be_cleared)
{
	expect_eq(prctl(PR_GET_DUMPABLE), 1);
	expect_ok(prctl(PR_SET_DUMPABLE, 0));
	expect_eq(prctl(PR_GET_DUMPABLE), 0);
	expect_errno(prctl(PR_SET_DUMPABLE, 2), EINVAL);
}

CASE(pdeathsig_is_kept_and_not_inherited)
{
	int signal = -1;
	expect_ok(prctl(PR_SET_PDEATHSIG, SIGTERM));
	expect_ok(prctl(PR_GET_PDEATHSIG, &signal));
	expect_eq(signal, SIGTERM);
	expect_errno(prctl(PR_SET_PDEATHSIG, 65), EINVAL);
	pid_t pid;
	SPAWN(pid) {
		expect_ok(prctl(PR_GET_PDEATHSIG, &signal));
		expect_eq(signal, 0);
	}
	expect_exit(pid, 0);
}

CASE(timer_slack_and_unknown_options)
{
	long slack = expect_ok(prctl(PR_GET_TIMERSLACK));
	expect(slack > 0);
	expect_ok(prctl(PR_SET_TIMERSLACK, 12345));
	expect_eq(prctl(PR_GET_TIMERSLACK), 12345);
	expect_errno(prctl(99999), EINVAL);
	/* What a child can go back to is what its parent had. */
	pid_t pid;
	SPAWN(pid) {
		expect_ok(prctl(PR_SET_TIMERSLACK, 777));
		expect_ok(prctl(PR_SET_TIMERSLACK, 0));
		expect_eq(prctl(PR_GET_TIMERSLACK), 12345);
	}
	expect_exit(pid, 0);
}

CASE(thp_disable_and_tsc_and_seccomp_state)
{
	expect_eq(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 0);
	expect_ok(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	expect_eq(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
	int tsc = 0;
	expect_ok(prctl(PR_GET_TSC, &tsc));
	expect_eq(tsc, PR_TSC_ENABLE);
}

CASE(arch_prctl_moves_gs_and_shows_fs)
{
	enum { SET_GS = 0x1001, GET_FS = 0x1003, GET_GS = 0x1004 };
	unsigned long value = 1, words[2] = {0x1122, 0x3344}, got;
	expect_ok(syscall(SYS_arch_prctl, GET_FS, &value));
	expect_eq(value, (uintptr_t)__builtin_thread_pointer());
	expect_ok(syscall(SYS_arch_prctl, SET_GS, words));
	expect_ok(syscall(SYS_arch_prctl, GET_GS, &value));
	expect_eq(value, (uintptr_t)words);
	__asm__ volatile("mov %%gs:8, %0" : "=r"(got));
	expect_eq(got, 0x3344);
	expect_errno(syscall(SYS_arch_prctl, SET_GS, 1UL << 63), EPERM);
	expect_errno(syscall(SYS_arch_prctl, 0x9999, 0), EINVAL);
}

CASE(limits_are_read_back_and_inherited)
{
	struct rlimit limit, got;
	expect_ok(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = 33;
	expect_ok(setrlimit(RLIMIT_NOFILE, &limit));
	pid_t pid;
	SPAWN(pid) {
		expect_ok(getrlimit(RLIMIT_NOFILE, &got));
		expect_eq(got.rlim_cur, 33);
		expect_eq(got.rlim_max, limit.rlim_max);
	}
	expect_exit(pid, 0);
	expect(strstr(read_file("/proc/self/limits"), "Max open files            33 "));
}

CASE(limit_errors)
{
	struct rlimit limit = {10, 5};
	expect_errno(setrlimit(RLIMIT_CORE, &limit), EINVAL);
	expect_errno(getrlimit(99, &limit), EINVAL);
	expect_errno(syscall(SYS_setrlimit, RLIMIT_CORE, 8), EFAULT);
	expect_errno(syscall(SYS_prlimit64, 1 << 22, RLIMIT_CORE, NULL, &limit), ESRCH);
}

CASE(hard_limit_cannot_be_raised_by_an_ordinary_user)
{
	be_ordinary();
	struct rlimit limit = {10, 10};
	expect_ok(setrlimit(RLIMIT_CORE, &limit));
	limit.rlim_max = 11;
	expect_errno(setrlimit(RLIMIT_CORE, &limit), EPERM);
}

CASE(prlimit_sets_and_returns_in_one_call)
{
	struct rlimit set = {7, 7}, old, now;
	expect_ok(prlimit(0, RLIMIT_CORE, NULL, &now));
	expect_ok(prlimit(getpid(), RLIMIT_CORE, &set, &old));
	expect_eq(old.rlim_cur, now.rlim_cur);
	expect_ok(prlimit(0, RLIMIT_CORE, NULL, &now));
	expect_eq(now.rlim_cur, 7);
}

IN_DIR_CASE(file_size_limit_is_sigxfsz_and_efbig)
{
	struct rlimit limit = {10, 10};
	expect_ok(setrlimit(RLIMIT_FSIZE, &limit));
	int fd = expect_ok(open("f", O_CREAT | O_RDWR, 0600));
	signal(SIGXFSZ, SIG_IGN);
	expect_eq(write(fd, "0123456789abc", 13), 10);
	expect_errno(write(fd, "x", 1), EFBIG);
	expect_errno(ftruncate(fd, 11), EFBIG);
	pid_t pid;
	SPAWN(pid) {
		prctl(PR_SET_DUMPABLE, 0);
		signal(SIGXFSZ, SIG_DFL);
		expect_eq(write(fd, "x", 1), 1);
	}
	expect_killed(pid, SIGXFSZ);
}

CASE(cpu_limit_is_sigxcpu)
{
	pid_t pid;
	SPAWN(pid) {
		struct rlimit limit = {1, 5};
		prctl(PR_SET_DUMPABLE, 0);
		/* Time used so far counts; the case costs at most a second. */
		expect_ok(setrlimit(RLIMIT_CPU, &limit));
		limit.rlim_cur = 0;
		expect_ok(setrlimit(RLIMIT_CPU, &limit));
		for (;;)
			;
	}
	expect_killed(pid, SIGXCPU);
}

CASE(rusage_and_times_count_processor_time)
{
	struct rusage before, after, children;
	struct tms clocks;
	expect_ok(getrusage(RUSAGE_SELF, &before));
	long long until = now_ns(CLOCK_PROCESS_CPUTIME_ID) + 30 * MS;
	while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < until)
		;
	expect_ok(getrusage(RUSAGE_SELF, &after));
	struct timeval spent, system;
	timersub(&after.ru_utime, &before.ru_utime, &spent);
	timersub(&after.ru_stime, &before.ru_stime, &system);
	expect(spent.tv_usec + system.tv_usec >= 20000);
	expect(times(&clocks) != -1);
	expect(clocks.tms_utime + clocks.tms_stime >= 2);
	expect_ok(getrusage(RUSAGE_CHILDREN, &children));
	expect_eq(children.ru_utime.tv_sec, 0);
	expect_errno(getrusage(5, &after), EINVAL);
	expect_errno(getrusage(RUSAGE_SELF, (void *)8), EFAULT);
}

CASE(rusage_of_children_counts_after_the_wait)
{
	struct rusage children;
	pid_t pid;
	SPAWN(pid) {
		long long until = now_ns(CLOCK_PROCESS_CPUTIME_ID) + 20 * MS;
		while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < until)
			;
	}
	expect_exit(pid, 0);
	expect_ok(getrusage(RUSAGE_CHILDREN, &children));
	expect(children.ru_utime.tv_usec + children.ru_stime.tv_usec >= 10000);
}

CASE(personality_is_read_and_set)
{
	expect_eq(personality(0xffffffff), 0);
	expect_eq(personality(ADDR_NO_RANDOMIZE), 0);
	expect_eq(personality(0xffffffff), ADDR_NO_RANDOMIZE);
}

CASE(uname_describes_linux_on_x86_64)
{
	struct utsname name;
	expect_ok(uname(&name));
	expect_str(name.sysname, "Linux");
	expect_str(name.machine, "x86_64");
	int major = 0;
	expect_eq(sscanf(name.release, "%d.", &major), 1);
	expect(major >= 5);
	expect_errno(syscall(SYS_uname, 8), EFAULT);
	char host[65], text[80];
	expect_ok(gethostname(host, sizeof host));
	expect_str(host, name.nodename);
	snprintf(text, sizeof text, "%s\n", name.release);
	expect_str(read_file("/proc/sys/kernel/osrelease"), text);
}

CASE(sysinfo_agrees_with_meminfo)
{
	struct sysinfo info;
	unsigned long total = 0;
	expect_ok(sysinfo(&info));
	expect(info.uptime > 0 && info.procs > 0);
	expect(info.freeram <= info.totalram);
	expect_eq(sscanf(read_file("/proc/meminfo"), "MemTotal: %lu kB", &total), 1);
	expect_eq(info.totalram * info.mem_unit / 1024, total);
}

CASE(getrandom_fills_and_checks_flags)
{
	unsigned char a[32] = {0}, b[32] = {0};
	expect_eq(syscall(SYS_getrandom, a, 32, 0), 32);
	expect_eq(syscall(SYS_getrandom, b, 32, 1), 32);
	expect(memcmp(a, b, 32));
	expect_errno(syscall(SYS_getrandom, a, 32, 0x100), EINVAL);
	expect_errno(syscall(SYS_getrandom, 8, 32, 0), EFAULT);
	expect_eq(syscall(SYS_getrandom, a, 0, 0), 0);
}

CASE(affinity_can_be_narrowed_to_one_cpu_and_getcpu_follows)
{
	cpu_set_t all, one, got;
	unsigned cpu = ~0U, node = ~0U;
	expect_ok(sched_getaffinity(0, sizeof all, &all));
	expect(CPU_COUNT(&all) >= 1);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all)) {
			CPU_SET(i, &one);
			break;
		}
	expect_ok(sched_setaffinity(0, sizeof one, &one));
	expect_ok(sched_getaffinity(0, sizeof got, &got));
	expect(CPU_EQUAL(&got, &one));
	expect_ok(syscall(SYS_getcpu, &cpu, &node, NULL));
	expect(CPU_ISSET(cpu, &one));
	CPU_ZERO(&one);
	expect_errno(sched_setaffinity(0, sizeof one, &one), EINVAL);
	expect_errno(syscall(SYS_sched_getaffinity, 0, 4, &got), EINVAL);
	expect_errno(sched_getaffinity(1 << 22, sizeof got, &got), ESRCH);
}

CASE(length_of_an_affinity_mask_counts_as_32_bits)
{
	unsigned long got[512] = {0};
	expect_errno(syscall(SYS_sched_getaffinity, 0, 1UL << 61, got), EINVAL);
	expect_errno(syscall(SYS_sched_getaffinity, 0, 1UL << 29, got), EINVAL);
	long len = expect_ok(syscall(SYS_sched_getaffinity, 0, sizeof got, got));
	expect_eq(syscall(SYS_sched_getaffinity, 0, 1UL << 61 | sizeof got, got), len);
	expect_eq(syscall(SYS_sched_getaffinity, 0, 1UL << 29 | sizeof got, got), len);
	expect_ok(syscall(SYS_sched_setaffinity, 0, 1UL << 61 | sizeof got, got));
	expect_errno(syscall(SYS_sched_setaffinity, 0, 1UL << 61, got), EINVAL);
}

CASE(scheduler_policy_and_priority_range)
{
	struct sched_param param = {0};
	expect_ok(sched_setscheduler(0, SCHED_OTHER, &param)); /* the suite may be run in another class */
	param.sched_priority = 9;
	expect_eq(sched_getscheduler(0), SCHED_OTHER);
	expect_ok(sched_getparam(0, &param));
	expect_eq(param.sched_priority, 0);
	expect_eq(sched_get_priority_max(SCHED_FIFO), 99);
	expect_eq(sched_get_priority_min(SCHED_RR), 1);
	expect_errno(sched_get_priority_max(77), EINVAL);
	param.sched_priority = 5;
	expect_errno(sched_setscheduler(0, SCHED_OTHER, &param), EINVAL);
	param.sched_priority = 0;
	expect_ok(sched_setscheduler(0, SCHED_BATCH, &param));
	expect_eq(sched_getscheduler(0), SCHED_BATCH);
	expect_ok(sched_yield());
}

#define IO_PRIORITY(class, level) ((class) << 13 | (level))

CASE(io_priority_is_kept_and_inherited)
{
	pid_t pid;
	expect_ok(syscall(SYS_ioprio_set, 1, 0, IO_PRIORITY(2, 6)));
	expect_eq(syscall(SYS_ioprio_get, 1, 0), IO_PRIORITY(2, 6));
	SPAWN(pid) {
		expect_eq(syscall(SYS_ioprio_get, 1, 0), IO_PRIORITY(2, 6));
		expect_ok(syscall(SYS_ioprio_set, 1, 0, IO_PRIORITY(3, 0)));
	}
	expect_exit(pid, 0);
	SPAWN(pid) {
		expect_ok(setpgid(0, 0));
		expect_eq(syscall(SYS_ioprio_get, 2, 0), IO_PRIORITY(2, 6));
		expect_ok(syscall(SYS_ioprio_set, 1, 0, 0));
		expect_eq(syscall(SYS_ioprio_get, 1, 0), 0);
		/* In effect is what the nice value makes. */
		expect_ok(setpriority(PRIO_PROCESS, 0, 10));
		expect_eq(syscall(SYS_ioprio_get, 2, 0), IO_PRIORITY(2, 6));
	}
	expect_exit(pid, 0);
	expect_errno(syscall(SYS_ioprio_set, 1, 0, IO_PRIORITY(0, 4)), EINVAL);
	expect_errno(syscall(SYS_ioprio_set, 1, 0, IO_PRIORITY(4, 0)), EINVAL);
	expect_errno(syscall(SYS_ioprio_set, 4, 0, IO_PRIORITY(2, 0)), EINVAL);
	expect_errno(syscall(SYS_ioprio_get, 0, 0), EINVAL);
	expect_errno(syscall(SYS_ioprio_get, 1, 1 << 22), ESRCH);
	be_ordinary();
	expect_errno(syscall(SYS_ioprio_set, 1, 0, IO_PRIORITY(1, 0)), EPERM);
}

CASE(nice_can_be_raised_and_not_lowered_again)
{
	be_ordinary();
	struct rlimit none = {0, 0};
	expect_ok(setrlimit(RLIMIT_NICE, &none));
	int before = getpriority(PRIO_PROCESS, 0);
	expect_ok(setpriority(PRIO_PROCESS, 0, before + 3));
	expect_eq(getpriority(PRIO_PROCESS, 0), before + 3);
	expect_errno(setpriority(PRIO_PROCESS, 0, before), EACCES);
	expect_errno(setpriority(9, 0, 0), EINVAL);
	expect_errno(setpriority(PRIO_PROCESS, 1 << 22, 0), ESRCH);
	expect_ok(setpriority(PRIO_PROCESS, 0, 1000));
	expect_eq(getpriority(PRIO_PROCESS, 0), 19);
}

CASE(unknown_system_calls_are_enosys)
{
	expect_errno(syscall(1000), ENOSYS);
	expect_errno(syscall(-1), ENOSYS);
	expect_errno(syscall(SYS_create_module), ENOSYS);
	expect_errno(syscall(0x7fffffff), ENOSYS);
}

CASE(system_v_ids_of_missing_objects_fail)
{
	expect_errno(syscall(SYS_shmget, 0x7a7a1, 4096, 0), ENOENT);
	expect_errno(syscall(SYS_semget, 0x7a7a1, 1, 0), ENOENT);
}

CASE(proc_tells_the_timer_slack)
{
	char text[32] = "";
	expect_ok(prctl(PR_SET_TIMERSLACK, 12345));
	int fd = expect_ok(open("/proc/self/timerslack_ns", O_RDONLY));
	expect(read(fd, text, sizeof text - 1) > 0);
	expect_eq(atol(text), 12345);
}
