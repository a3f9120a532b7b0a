/* Signals to a process group whose members are just being made (kill(2), fork(2)). */
#include "case.h"

/* A process that makes a child and ends, whose child does the same, and so on. */
struct relay {
	volatile long runs;
	/* The signal has been sent. */
	volatile bool is_over;
	/* Somebody was made after that. */
	volatile bool is_lost;
	long long deadline;
};

static __attribute__((noreturn)) void run_relay(struct relay *relay)
{
	for (;;) {
		bool is_over = relay->is_over;
		relay->runs++;
		if (fork() != 0 || now_ns(CLOCK_MONOTONIC) > relay->deadline)
			_exit(0);
		if (is_over) {
			relay->is_lost = true;
			_exit(0);
		}
	}
}

/* Sends the signal to a group in which a relay runs, whose first process has done `prepare`; the relay must end by that. */
static void signal_ends_relay(int signal, void (*prepare)(void))
{
	struct relay *relay = map_shared(PAGE);
	expect_ok(prctl(PR_SET_CHILD_SUBREAPER, 1));
	for (int round = 0; round < 5 && !relay->is_lost; round++) {
		pid_t pid;
		long before = relay->runs;
		relay->is_over = false;
		relay->deadline = now_ns(CLOCK_MONOTONIC) + LIMIT_SECONDS * 1000 * MS;
		SPAWN(pid) {
			setpgid(0, 0);
			prepare();
			run_relay(relay);
		}
		while (relay->runs < before + 3 + round)
			sched_yield();
		expect_ok(kill(-pid, signal));
		relay->is_over = true;
		while (wait(NULL) != -1 || errno == EINTR)
			;
		expect_eq(errno, ECHILD);
	}
	expect(!relay->is_lost);
}

static void nothing(void)
{
}

CASE(sigkill_to_a_group_reaches_children_that_are_being_made)
{
	signal_ends_relay(SIGKILL, nothing);
}

CASE(default_action_reaches_children_that_are_being_made)
{
	signal_ends_relay(SIGTERM, nothing);
}

static void on_usr1(int signal)
{
	(void)signal;
	_exit(0);
}

static void end_by_usr1(void)
{
	signal(SIGUSR1, on_usr1);
}

CASE(handled_signal_to_a_group_reaches_children_that_are_being_made)
{
	signal_ends_relay(SIGUSR1, end_by_usr1);
}
