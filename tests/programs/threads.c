/* POSIX threads, as the C library builds them on clone and futex. */
#include "case.h"
#include <pthread.h>
#include <semaphore.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static volatile int counter, ready;

static pthread_t start(void *(*body)(void *), void *argument)
{
	pthread_t thread;
	expect_zero(pthread_create(&thread, NULL, body, argument));
	return thread;
}

static void *join(pthread_t thread)
{
	void *value;
	expect_zero(pthread_join(thread, &value));
	return value;
}

static struct timespec soon(clockid_t clock, long ms)
{
	long long at = now_ns(clock) + ms * MS;
	return (struct timespec){at / 1000000000, at % 1000000000};
}

static void *echo(void *argument)
{
	return argument;
}

CASE(join_returns_the_threads_value)
{
	expect_eq((uintptr_t)join(start(echo, (void *)1234)), 1234);
}

static void *ids(void *argument)
{
	pid_t *out = argument;
	out[0] = getpid();
	out[1] = gettid();
	out[2] = getppid();
	return NULL;
}

CASE(threads_share_the_pid_and_have_their_own_tid)
{
	pid_t seen[3];
	join(start(ids, seen));
	expect_eq(seen[0], getpid());
	expect(seen[1] != gettid());
	expect_eq(seen[2], getppid());
	expect_eq(gettid(), getpid());
}

static __thread int local = 5;
static void *use_local(void *unused UNUSED)
{
	expect_eq(local, 5);
	local = 6;
	return &local;
}

CASE(thread_local_storage_is_separate_and_initialised)
{
	local = 7;
	void *address = join(start(use_local, NULL));
	expect(address != &local);
	expect_eq(local, 7);
}

static pthread_key_t key;
static void destroy(void *value)
{
	counter += (int)(uintptr_t)value;
}

static void *use_key(void *value)
{
	expect(pthread_getspecific(key) == NULL);
	expect_zero(pthread_setspecific(key, value));
	return NULL;
}

CASE(key_destructors_run_at_thread_exit)
{
	expect_zero(pthread_key_create(&key, destroy));
	join(start(use_key, (void *)3));
	join(start(use_key, (void *)4));
	expect_eq(counter, 7);
}

static void *add(void *unused UNUSED)
{
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

CASE(mutex_keeps_four_threads_apart)
{
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		threads[i] = start(add, NULL);
	for (int i = 0; i < 4; i++)
		join(threads[i]);
	expect_eq(counter, 80000);
}

static void *wait_for_ready(void *unused UNUSED)
{
	pthread_mutex_lock(&mutex);
	while (!ready)
		pthread_cond_wait(&condition, &mutex);
	counter++;
	pthread_mutex_unlock(&mutex);
	return NULL;
}

CASE(broadcast_wakes_all_waiters)
{
	pthread_t threads[5];
	for (int i = 0; i < 5; i++)
		threads[i] = start(wait_for_ready, NULL);
	sleep_ms(10);
	pthread_mutex_lock(&mutex);
	ready = 1;
	expect_zero(pthread_cond_broadcast(&condition));
	pthread_mutex_unlock(&mutex);
	for (int i = 0; i < 5; i++)
		join(threads[i]);
	expect_eq(counter, 5);
}

CASE(timed_wait_is_etimedout)
{
	struct timespec at = soon(CLOCK_REALTIME, 20);
	pthread_mutex_lock(&mutex);
	expect_eq(pthread_cond_timedwait(&condition, &mutex, &at), ETIMEDOUT);
	at = soon(CLOCK_MONOTONIC, 20);
	expect_eq(pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &at), ETIMEDOUT);
	expect(now_ns(CLOCK_MONOTONIC) >= at.tv_sec * 1000000000LL + at.tv_nsec);
}

static void *hold(void *unused UNUSED)
{
	pthread_mutex_lock(&mutex);
	ready = 1;
	sleep_ms(60);
	pthread_mutex_unlock(&mutex);
	return NULL;
}

CASE(timed_lock_is_etimedout_then_succeeds)
{
	pthread_t thread = start(hold, NULL);
	while (!ready)
		sleep_ms(1);
	expect_eq(pthread_mutex_trylock(&mutex), EBUSY);
	struct timespec at = soon(CLOCK_REALTIME, 10);
	expect_eq(pthread_mutex_timedlock(&mutex, &at), ETIMEDOUT);
	expect_zero(pthread_mutex_lock(&mutex));
	join(thread);
}

static void typed_mutex(int type, int protocol, int robust, int shared, pthread_mutex_t *out)
{
	pthread_mutexattr_t attributes;
	expect_zero(pthread_mutexattr_init(&attributes));
	expect_zero(pthread_mutexattr_settype(&attributes, type));
	expect_zero(pthread_mutexattr_setprotocol(&attributes, protocol));
	expect_zero(pthread_mutexattr_setrobust(&attributes, robust));
	expect_zero(pthread_mutexattr_setpshared(&attributes, shared));
	expect_zero(pthread_mutex_init(out, &attributes));
}

CASE(recursive_and_error_checking_mutexes)
{
	pthread_mutex_t lock;
	typed_mutex(PTHREAD_MUTEX_RECURSIVE, 0, 0, 0, &lock);
	expect_zero(pthread_mutex_lock(&lock));
	expect_zero(pthread_mutex_lock(&lock));
	expect_zero(pthread_mutex_unlock(&lock));
	expect_zero(pthread_mutex_unlock(&lock));
	expect_eq(pthread_mutex_unlock(&lock), EPERM);
	typed_mutex(PTHREAD_MUTEX_ERRORCHECK, 0, 0, 0, &lock);
	expect_zero(pthread_mutex_lock(&lock));
	expect_eq(pthread_mutex_lock(&lock), EDEADLK);
}

static void *lock_and_leave(void *lock)
{
	pthread_mutex_lock(lock);
	return NULL;
}

CASE(robust_mutex_of_an_ended_thread_is_eownerdead)
{
	pthread_mutex_t lock;
	typed_mutex(PTHREAD_MUTEX_NORMAL, 0, PTHREAD_MUTEX_ROBUST, 0, &lock);
	join(start(lock_and_leave, &lock));
	expect_eq(pthread_mutex_lock(&lock), EOWNERDEAD);
	expect_zero(pthread_mutex_consistent(&lock));
	expect_zero(pthread_mutex_unlock(&lock));
	expect_zero(pthread_mutex_lock(&lock));
	join(start(echo, NULL));
	expect_zero(pthread_mutex_unlock(&lock));
}

CASE(robust_mutex_not_made_consistent_is_enotrecoverable)
{
	pthread_mutex_t lock;
	typed_mutex(PTHREAD_MUTEX_NORMAL, 0, PTHREAD_MUTEX_ROBUST, 0, &lock);
	join(start(lock_and_leave, &lock));
	expect_eq(pthread_mutex_lock(&lock), EOWNERDEAD);
	expect_zero(pthread_mutex_unlock(&lock));
	expect_eq(pthread_mutex_lock(&lock), ENOTRECOVERABLE);
}

CASE(robust_mutex_of_a_killed_process_wakes_the_waiter)
{
	pthread_mutex_t *lock = map_shared(PAGE);
	int *held = (void *)((char *)lock + 1024);
	typed_mutex(PTHREAD_MUTEX_NORMAL, 0, PTHREAD_MUTEX_ROBUST, PTHREAD_PROCESS_SHARED, lock);
	pid_t pid, killer;
	SPAWN(pid) {
		pthread_mutex_lock(lock);
		*held = 1;
		pause();
	}
	while (!*held)
		sleep_ms(1);
	SPAWN(killer) {
		sleep_ms(20);
		kill(pid, SIGKILL);
	}
	expect_eq(pthread_mutex_lock(lock), EOWNERDEAD);
	expect_killed(pid, SIGKILL);
	expect_exit(killer, 0);
}

CASE(priority_inheritance_mutex_locks_and_unlocks_under_contention)
{
	typed_mutex(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, 0, 0, &mutex);
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		threads[i] = start(add, NULL);
	for (int i = 0; i < 3; i++)
		join(threads[i]);
	expect_eq(counter, 60000);
}

CASE(robust_priority_inheritance_mutex_reports_the_dead_owner)
{
	pthread_mutex_t lock;
	typed_mutex(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_ROBUST, 0, &lock);
	join(start(lock_and_leave, &lock));
	expect_eq(pthread_mutex_lock(&lock), EOWNERDEAD);
}

static pthread_barrier_t barrier;
static void *meet(void *unused UNUSED)
{
	__atomic_add_fetch(&counter, 1, __ATOMIC_SEQ_CST);
	int result = pthread_barrier_wait(&barrier);
	expect_eq(counter, 4);
	return (void *)(uintptr_t)(result == PTHREAD_BARRIER_SERIAL_THREAD);
}

CASE(barrier_releases_all_and_names_one)
{
	pthread_t threads[4];
	int serial = 0;
	expect_zero(pthread_barrier_init(&barrier, NULL, 4));
	for (int i = 0; i < 4; i++)
		threads[i] = start(meet, NULL);
	for (int i = 0; i < 4; i++)
		serial += (int)(uintptr_t)join(threads[i]);
	expect_eq(serial, 1);
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static void *try_locks(void *unused UNUSED)
{
	expect_zero(pthread_rwlock_tryrdlock(&rwlock));
	expect_eq(pthread_rwlock_trywrlock(&rwlock), EBUSY);
	expect_zero(pthread_rwlock_unlock(&rwlock));
	return NULL;
}

static void *write_lock(void *unused UNUSED)
{
	expect_zero(pthread_rwlock_wrlock(&rwlock));
	counter = 1;
	expect_zero(pthread_rwlock_unlock(&rwlock));
	return NULL;
}

CASE(rwlock_shares_readers_and_holds_off_writers)
{
	expect_zero(pthread_rwlock_rdlock(&rwlock));
	join(start(try_locks, NULL));
	pthread_t writer = start(write_lock, NULL);
	sleep_ms(10);
	expect_eq(counter, 0);
	expect_zero(pthread_rwlock_unlock(&rwlock));
	join(writer);
	expect_eq(counter, 1);
}

CASE(process_shared_semaphore_crosses_fork)
{
	sem_t *sem = map_shared(PAGE);
	expect_ok(sem_init(sem, 1, 0));
	pid_t pid;
	SPAWN(pid) {
		sleep_ms(10);
		expect_ok(sem_post(sem));
	}
	expect_ok(sem_wait(sem));
	expect_errno(sem_trywait(sem), EAGAIN);
	struct timespec at = soon(CLOCK_REALTIME, 10);
	expect_errno(sem_timedwait(sem, &at), ETIMEDOUT);
	expect_exit(pid, 0);
}

static void clean_up(void *unused UNUSED)
{
	counter = 11;
}

static void *be_cancelled(void *unused UNUSED)
{
	pthread_cleanup_push(clean_up, NULL);
	ready = 1;
	for (;;)
		sleep(10);
	pthread_cleanup_pop(0);
	return NULL;
}

CASE(cancel_ends_a_sleeping_thread_and_runs_its_cleanup)
{
	pthread_t thread = start(be_cancelled, NULL);
	while (!ready)
		sleep_ms(1);
	expect_zero(pthread_cancel(thread));
	expect(join(thread) == PTHREAD_CANCELED);
	expect_eq(counter, 11);
}

static void *read_pipe(void *argument)
{
	char byte;
	ready = 1;
	expect_ok(read(*(int *)argument, &byte, 1));
	return NULL;
}

CASE(cancel_interrupts_a_blocked_read)
{
	int ends[2];
	expect_ok(pipe(ends));
	pthread_t thread = start(read_pipe, &ends[0]);
	while (!ready)
		sleep_ms(1);
	sleep_ms(10);
	expect_zero(pthread_cancel(thread));
	expect(join(thread) == PTHREAD_CANCELED);
}

static void *leave(void *unused UNUSED)
{
	sleep_ms(10);
	exit(33);
}

CASE(exit_in_a_thread_ends_the_process)
{
	pid_t pid;
	SPAWN(pid) {
		start(leave, NULL);
		pause();
	}
	expect_exit(pid, 33);
}

static void *outlive(void *unused UNUSED)
{
	sleep_ms(20);
	_exit(44);
}

CASE(process_lives_on_after_the_main_thread_exits)
{
	pid_t pid;
	SPAWN(pid) {
		start(outlive, NULL);
		pthread_exit(NULL);
	}
	expect_exit(pid, 44);
}

CASE(last_thread_to_end_gives_exit_status_zero)
{
	pid_t pid;
	SPAWN(pid) {
		start(echo, NULL);
		pthread_exit(NULL);
	}
	expect_exit(pid, 0);
}

static void *crash(void *unused UNUSED)
{
	prctl(PR_SET_DUMPABLE, 0);
	*(volatile int *)8 = 1;
	return NULL;
}

CASE(fault_in_one_thread_ends_all)
{
	pid_t pid;
	SPAWN(pid) {
		start(crash, NULL);
		for (;;)
			pause();
	}
	expect_killed(pid, SIGSEGV);
}

static void *fork_here(void *unused UNUSED)
{
	pid_t pid;
	SPAWN(pid) {
		expect_eq(getpid(), gettid());
		DIR *tasks = opendir("/proc/self/task");
		int threads = 0;
		struct dirent *entry;
		while ((entry = readdir(tasks)))
			threads += entry->d_name[0] != '.';
		expect_eq(threads, 1);
	}
	expect_exit(pid, 0);
	return NULL;
}

CASE(fork_in_a_thread_copies_only_that_thread)
{
	join(start(fork_here, NULL));
}

static void *wait_in_thread(void *argument)
{
	expect_exit(*(pid_t *)argument, 17);
	return NULL;
}

CASE(any_thread_can_wait_for_a_child_of_another)
{
	pid_t pid;
	SPAWN(pid)
		_exit(17);
	join(start(wait_in_thread, &pid));
}

CASE(a_hundred_threads_start_and_end)
{
	pthread_t threads[100];
	for (int i = 0; i < 100; i++)
		threads[i] = start(echo, (void *)(uintptr_t)i);
	for (int i = 0; i < 100; i++)
		expect_eq((uintptr_t)join(threads[i]), i);
}

static void *detached(void *unused UNUSED)
{
	counter = 1;
	return NULL;
}

CASE(detached_thread_runs)
{
	pthread_t thread;
	pthread_attr_t attributes;
	expect_zero(pthread_attr_init(&attributes));
	expect_zero(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED));
	expect_zero(pthread_attr_setstacksize(&attributes, 1 << 17));
	expect_zero(pthread_create(&thread, &attributes, detached, NULL));
	for (int i = 0; i < 2000 && !counter; i++)
		sleep_ms(1);
	expect_eq(counter, 1);
}

CASE(thread_name_can_be_set_and_read)
{
	char name[16];
	expect_zero(pthread_setname_np(pthread_self(), "fifteen-letters"));
	expect_zero(pthread_getname_np(pthread_self(), name, sizeof name));
	expect_str(name, "fifteen-letters");
	expect_eq(pthread_setname_np(pthread_self(), "sixteen-letters!"), ERANGE);
	expect_str(read_file("/proc/self/comm"), "fifteen-letters\n");
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void initialise(void)
{
	sleep_ms(5);
	counter++;
}

static void *call_once(void *unused UNUSED)
{
	pthread_once(&once, initialise);
	expect_eq(counter, 1);
	return NULL;
}

CASE(once_runs_once_and_others_wait)
{
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		threads[i] = start(call_once, NULL);
	for (int i = 0; i < 4; i++)
		join(threads[i]);
}
