/* Process groups and sessions. */
#include "case.h"

static pid_t pauser(void)
{
	pid_t pid;
	SPAWN(pid)
		for (;;)
			pause();
	return pid;
}

static void end(pid_t pid)
{
	expect_ok(kill(pid, SIGKILL));
	expect_killed(pid, SIGKILL);
}

CASE(child_inherits_group_and_session)
{
	pid_t group = getpgrp(), session = getsid(0), pid;
	expect_eq(getpgid(0), group);
	SPAWN(pid) {
		expect_eq(getpgrp(), group);
		expect_eq(getsid(0), session);
	}
	expect_exit(pid, 0);
}

CASE(setpgid_makes_and_joins_groups)
{
	pid_t a = pauser(), b = pauser();
	expect_ok(setpgid(a, 0));
	expect_eq(getpgid(a), a);
	expect_ok(setpgid(b, a));
	expect_eq(getpgid(b), a);
	end(a);
	/* The group outlives its leader. */
	expect_eq(getpgid(b), a);
	expect_ok(kill(-a, 0));
	end(b);
	expect_errno(kill(-a, 0), ESRCH);
}

CASE(setpgid_errors)
{
	pid_t pid = pauser(), leader;
	expect_errno(setpgid(pid, -1), EINVAL);
	expect_errno(setpgid(pid, 1 << 22), EPERM);
	expect_errno(setpgid(1 << 22, 0), ESRCH);
	pid_t other;
	SPAWN(other)
		expect_errno(setpgid(pid, 0), ESRCH); /* not its child */
	expect_exit(other, 0);
	end(pid);
	int ready[2];
	char byte;
	expect_ok(pipe(ready));
	SPAWN(leader) {
		expect_ok(setsid());
		expect_errno(setpgid(0, 0), EPERM);
		expect_eq(write(ready[1], "x", 1), 1);
		pause();
	}
	expect_eq(read(ready[0], &byte, 1), 1);
	expect_errno(setpgid(leader, 0), EPERM);
	end(leader);
}

CASE(setpgid_of_a_child_that_has_executed_is_eacces)
{
	int ends[2];
	char byte;
	expect_ok(pipe(ends));
	pid_t pid;
	SPAWN(pid) {
		expect_ok(dup2(ends[1], 1));
		execl("/bin/sh", "sh", "-c", "echo; exec sleep 5", NULL);
		_exit(CHILD_FAILED);
	}
	/* It is the new program that writes. */
	expect_eq(read(ends[0], &byte, 1), 1);
	expect_errno(setpgid(pid, 0), EACCES);
	end(pid);
}

CASE(setsid_makes_a_session_and_a_group)
{
	pid_t pid;
	SPAWN(pid) {
		expect_eq(setsid(), getpid());
		expect_eq(getsid(0), getpid());
		expect_eq(getpgrp(), getpid());
		expect_errno(setsid(), EPERM);
	}
	expect_exit(pid, 0);
}

CASE(setsid_of_a_group_leader_is_eperm)
{
	pid_t pid;
	SPAWN(pid) {
		expect_ok(setpgid(0, 0));
		expect_errno(setsid(), EPERM);
	}
	expect_exit(pid, 0);
}

CASE(group_of_another_session_cannot_be_joined)
{
	pid_t pid, group = getpgrp();
	SPAWN(pid) {
		expect_ok(setsid());
		pid_t inner;
		SPAWN(inner)
			expect_errno(setpgid(0, group), EPERM);
		expect_exit(inner, 0);
	}
	expect_exit(pid, 0);
}

CASE(getpgid_and_getsid_errors)
{
	expect_errno(getpgid(1 << 22), ESRCH);
	expect_errno(getsid(1 << 22), ESRCH);
	expect_errno(getpgid(-1), ESRCH);
}

CASE(orphaned_stopped_group_gets_sighup_and_sigcont)
{
	int *shared = map_shared(PAGE);
	pid_t pid;
	expect_ok(prctl(PR_SET_CHILD_SUBREAPER, 1));
	SPAWN(pid) {
		pid_t inner;
		int status;
		/* Its own session, so that the reaper's group does not keep it from being orphaned. */
		expect_ok(setsid());
		SPAWN(inner) {
			expect_ok(setpgid(0, 0));
			raise(SIGSTOP);
			pause();
		}
		expect_eq(waitpid(inner, &status, WUNTRACED), inner);
		*shared = inner;
	}
	expect_exit(pid, 0);
	expect_killed(*shared, SIGHUP);
}

CASE(proc_stat_shows_group_and_session)
{
	int pid, parent, group, session;
	char state;
	expect_eq(sscanf(strrchr(read_file("/proc/self/stat"), ')'), ") %c %d %d %d", &state, &parent,
			 &group, &session), 4);
	pid = getpid();
	expect_eq(state, 'R');
	expect_eq(parent, getppid());
	expect_eq(group, getpgid(pid));
	expect_eq(session, getsid(pid));
}
