/* The futex system call, set_tid_address and robust lists, without the C library. */
#include "case.h"
#include <linux/futex.h>
#include <pthread.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

static uint32_t words[4];
static volatile int woken;

static long futex(uint32_t *word, int op, uint32_t value, const void *timeout, uint32_t *word2,
		  uint32_t value3)
{
	return syscall(SYS_futex, word, op, value, timeout, word2, value3);
}

static volatile pid_t waiter_tid;
static void *wait_plain(void *argument)
{
	waiter_tid = gettid();
	expect_ok(futex(argument, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0));
	__atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* A thread that sleeps on the word. */
static pthread_t sleeper(void *(*body)(void *), void *argument)
{
	pthread_t thread;
	waiter_tid = 0;
	expect_zero(pthread_create(&thread, NULL, body, argument));
	while (!waiter_tid)
		sleep_ms(1);
	char path[64];
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", waiter_tid);
	for (int i = 0; i < 2000; i++) {
		char *end = strrchr(read_file(path), ')');
		if (end && end[2] == 'S')
			break;
		sleep_ms(1);
	}
	sleep_ms(2);
	return thread;
}

CASE(wait_with_another_value_is_eagain)
{
	words[0] = 5;
	expect_errno(futex(words, FUTEX_WAIT, 4, NULL, NULL, 0), EAGAIN);
}

CASE(wait_times_out)
{
	struct timespec wait = {0, 20 * MS};
	long long start = now_ns(CLOCK_MONOTONIC);
	expect_errno(futex(words, FUTEX_WAIT, 0, &wait, NULL, 0), ETIMEDOUT);
	expect(now_ns(CLOCK_MONOTONIC) - start >= 20 * MS);
	wait.tv_nsec = 1000000000;
	expect_errno(futex(words, FUTEX_WAIT, 0, &wait, NULL, 0), EINVAL);
}

CASE(wait_bitset_takes_absolute_time)
{
	struct timespec at;
	expect_ok(clock_gettime(CLOCK_MONOTONIC, &at));
	expect_errno(futex(words, FUTEX_WAIT_BITSET, 0, &at, NULL, ~0U), ETIMEDOUT);
	expect_ok(clock_gettime(CLOCK_REALTIME, &at));
	expect_errno(futex(words, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &at, NULL, ~0U), ETIMEDOUT);
	expect_errno(futex(words, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
	expect_errno(futex(words, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0), EINVAL);
}

CASE(addresses_are_checked)
{
	expect_errno(futex((void *)((char *)words + 1), FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
	expect_errno(futex((void *)((char *)words + 2), FUTEX_WAKE, 1, NULL, NULL, 0), EINVAL);
	expect_errno(futex((void *)16, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
	expect_errno(futex(words, 77, 0, NULL, NULL, 0), ENOSYS);
	uint32_t *page = map_anonymous(PAGE);
	expect_ok(mprotect(page, PAGE, PROT_NONE));
	expect_errno(futex(page, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
}

CASE(wake_without_waiters_is_zero)
{
	expect_eq(futex(words, FUTEX_WAKE, 10, NULL, NULL, 0), 0);
}

CASE(wake_wakes_up_to_the_count)
{
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		threads[i] = sleeper(wait_plain, words);
	expect_eq(futex(words, FUTEX_WAKE_PRIVATE, 2, NULL, NULL, 0), 2);
	expect_eq(futex(words, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 1);
	for (int i = 0; i < 3; i++)
		expect_zero(pthread_join(threads[i], NULL));
	expect_eq(woken, 3);
}

static void *wait_bits(void *argument)
{
	waiter_tid = gettid();
	expect_ok(futex(words, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, (uintptr_t)argument));
	woken |= (uintptr_t)argument;
	return NULL;
}

CASE(wake_bitset_wakes_matching_waiters_only)
{
	pthread_t a = sleeper(wait_bits, (void *)1), b = sleeper(wait_bits, (void *)2);
	expect_eq(futex(words, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 4), 0);
	expect_eq(futex(words, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 2 | 4), 1);
	expect_zero(pthread_join(b, NULL));
	expect_eq(woken, 2);
	expect_eq(futex(words, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 1), 1);
	expect_zero(pthread_join(a, NULL));
}

CASE(requeue_moves_waiters_to_the_other_word)
{
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		threads[i] = sleeper(wait_plain, words);
	/* Wakes one; the limit of moved waiters travels in the timeout's place. Both count. */
	expect_eq(futex(words, FUTEX_REQUEUE_PRIVATE, 1, (void *)10, words + 1, 0), 3);
	expect_eq(futex(words, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 0);
	expect_eq(futex(words + 1, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 2);
	for (int i = 0; i < 3; i++)
		expect_zero(pthread_join(threads[i], NULL));
}

CASE(cmp_requeue_checks_the_value_and_counts_both)
{
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		threads[i] = sleeper(wait_plain, words);
	expect_errno(futex(words, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10, words + 1, 99), EAGAIN);
	expect_eq(futex(words, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1, words + 1, 0), 2);
	expect_eq(futex(words + 1, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 1);
	expect_eq(futex(words, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 1);
	for (int i = 0; i < 3; i++)
		expect_zero(pthread_join(threads[i], NULL));
	expect_errno(futex(words, FUTEX_CMP_REQUEUE_PRIVATE, -1, (void *)1, words + 1, 0), EINVAL);
}

CASE(wake_op_changes_the_second_word_and_wakes_by_its_old_value)
{
	words[1] = 10;
	pthread_t a = sleeper(wait_plain, words);
	uint32_t op = FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 10);
	expect_eq(futex(words, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, words + 1, op), 1);
	expect_eq(words[1], 15);
	expect_zero(pthread_join(a, NULL));
	op = FUTEX_OP(FUTEX_OP_SET, 3, FUTEX_OP_CMP_GT, 100);
	expect_eq(futex(words, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, words + 1, op), 0);
	expect_eq(words[1], 3);
	op = FUTEX_OP(FUTEX_OP_OR, 12, FUTEX_OP_CMP_LT, 0);
	expect_ok(futex(words, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, words + 1, op));
	expect_eq(words[1], 15);
	op = FUTEX_OP(FUTEX_OP_ANDN, 1, FUTEX_OP_CMP_LT, 0);
	expect_ok(futex(words, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, words + 1, op));
	expect_eq(words[1], 14);
	op = FUTEX_OP(FUTEX_OP_XOR, 15, FUTEX_OP_CMP_LT, 0);
	expect_ok(futex(words, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, words + 1, op));
	expect_eq(words[1], 1);
}

CASE(private_and_shared_waits_on_private_memory_match_their_own_kind)
{
	pthread_t a = sleeper(wait_plain, words);
	expect_eq(futex(words, FUTEX_WAKE, 10, NULL, NULL, 0), 0);
	expect_eq(futex(words, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 1);
	expect_zero(pthread_join(a, NULL));
}

IN_DIR_CASE(shared_futex_is_keyed_by_the_file_not_the_address)
{
	write_file("f", "");
	int fd = expect_ok(open("f", O_RDWR));
	expect_ok(ftruncate(fd, PAGE));
	uint32_t *a = expect_ok(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	uint32_t *b = expect_ok(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	pid_t pid;
	SPAWN(pid)
		expect_ok(futex(a, FUTEX_WAIT, 0, NULL, NULL, 0));
	wait_for_state(pid, 'S');
	long count = 0;
	for (int i = 0; i < 1000 && !(count = expect_ok(futex(b, FUTEX_WAKE, 1, NULL, NULL, 0))); i++)
		sleep_ms(1);
	expect_eq(count, 1);
	expect_exit(pid, 0);
}

CASE(private_futex_words_of_parent_and_child_are_different)
{
	pid_t pid;
	SPAWN(pid) {
		struct timespec wait = {0, 60 * MS};
		expect_errno(futex(words, FUTEX_WAIT, 0, &wait, NULL, 0), ETIMEDOUT);
	}
	wait_for_state(pid, 'S');
	expect_eq(futex(words, FUTEX_WAKE, 10, NULL, NULL, 0), 0);
	expect_exit(pid, 0);
}

CASE(pi_lock_stores_the_tid_and_refuses_itself)
{
	expect_ok(futex(words, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	expect_eq(words[0], gettid());
	expect_errno(futex(words, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EDEADLK);
	expect_errno(futex(words, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), EDEADLK);
	expect_ok(futex(words, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
	expect_eq(words[0], 0);
	expect_errno(futex(words, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), EPERM);
	words[0] = 0x3ffffff;
	expect_errno(futex(words, FUTEX_LOCK_PI, 0, NULL, NULL, 0), ESRCH);
}

static void *pi_lock(void *unused UNUSED)
{
	waiter_tid = gettid();
	expect_ok(futex(words, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	expect_eq(words[0] & FUTEX_TID_MASK, gettid());
	expect_ok(futex(words, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
	return NULL;
}

CASE(pi_unlock_hands_over_to_the_waiter)
{
	expect_ok(futex(words, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	pthread_t thread = sleeper(pi_lock, NULL);
	expect_eq(words[0], (uint32_t)gettid() | FUTEX_WAITERS);
	expect_ok(futex(words, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
	expect_zero(pthread_join(thread, NULL));
	expect_eq(words[0] & FUTEX_TID_MASK, 0);
}

static void *pi_lock_late(void *unused UNUSED)
{
	struct timespec at;
	expect_ok(clock_gettime(CLOCK_REALTIME, &at));
	expect_errno(futex(words, FUTEX_LOCK_PI, 0, &at, NULL, 0), ETIMEDOUT);
	expect_errno(futex(words, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), EAGAIN);
	return NULL;
}

CASE(pi_lock_takes_absolute_realtime_and_trylock_does_not_wait)
{
	pthread_t thread;
	expect_ok(futex(words, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	expect_zero(pthread_create(&thread, NULL, pi_lock_late, NULL));
	expect_zero(pthread_join(thread, NULL));
	expect_ok(futex(words, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
}

struct waitv {
	uint64_t value, address;
	uint32_t flags, reserved;
};

static long waitv(struct waitv *list, unsigned count, struct timespec *at)
{
	return syscall(SYS_futex_waitv, list, count, 0, at, CLOCK_MONOTONIC);
}

static void *wait_vector(void *unused UNUSED)
{
	struct waitv list[2] = {{0, (uintptr_t)&words[0], 2 | 128, 0}, {0, (uintptr_t)&words[1], 2 | 128, 0}};
	waiter_tid = gettid();
	return (void *)waitv(list, 2, NULL);
}

CASE(waitv_returns_the_index_of_the_woken_word)
{
	void *index;
	pthread_t thread = sleeper(wait_vector, NULL);
	expect_eq(futex(&words[1], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 1);
	expect_zero(pthread_join(thread, &index));
	expect_eq((long)index, 1);
}

CASE(waitv_checks_values_flags_and_time)
{
	struct timespec at;
	struct waitv list[2] = {{0, (uintptr_t)&words[0], 2 | 128, 0}, {0, (uintptr_t)&words[1], 2 | 128, 0}};
	words[1] = 9;
	expect_errno(waitv(list, 2, NULL), EAGAIN);
	expect_errno(waitv(list, 0, NULL), EINVAL);
	expect_errno(waitv(list, 129, NULL), EINVAL);
	list[1].value = 9;
	expect_ok(clock_gettime(CLOCK_MONOTONIC, &at));
	expect_errno(waitv(list, 2, &at), ETIMEDOUT);
	list[0].reserved = 1;
	expect_errno(waitv(list, 2, &at), EINVAL);
	list[0].reserved = 0;
	list[0].flags = 1 << 20;
	expect_errno(waitv(list, 2, &at), EINVAL);
}

static volatile uint32_t cleared = 1;

static void *end_with_word(void *unused UNUSED)
{
	expect_eq(syscall(SYS_set_tid_address, &cleared), gettid());
	syscall(SYS_exit, 0);
	return NULL;
}

CASE(set_tid_address_word_is_cleared_and_woken_when_the_thread_ends)
{
	/* The thread ends behind the C library's back, so it is never joined. */
	pthread_t thread;
	expect_zero(pthread_create(&thread, NULL, end_with_word, NULL));
	while (cleared)
		if (futex((uint32_t *)&cleared, FUTEX_WAIT, 1, NULL, NULL, 0) == -1)
			expect_eq(errno, EAGAIN);
	expect_eq(cleared, 0);
}

static void *end_at_once(void *unused UNUSED)
{
	return NULL;
}

CASE(clear_tid_wakes_the_joiner)
{
	/* CLONE_CHILD_CLEARTID is what pthread_join waits on. */
	for (int i = 0; i < 20; i++) {
		pthread_t thread;
		expect_zero(pthread_create(&thread, NULL, end_at_once, NULL));
		expect_zero(pthread_join(thread, NULL));
	}
	for (int i = 0; i < 1000 && stat_of("/proc/self/task").st_nlink != 3; i++)
		sleep_ms(1);
	expect_eq(stat_of("/proc/self/task").st_nlink, 3);
}

struct node {
	struct robust_list list;
	uint32_t word;
};

CASE(robust_list_marks_words_of_a_dead_thread)
{
	uint32_t *shared = map_shared(PAGE);
	pid_t pid;
	SPAWN(pid) {
		struct robust_list_head head;
		struct node *node = (void *)shared;
		head.list.next = &node->list;
		head.futex_offset = offsetof(struct node, word);
		head.list_op_pending = NULL;
		node->list.next = (void *)&head;
		node->word = gettid() | FUTEX_WAITERS;
		expect_ok(syscall(SYS_set_robust_list, &head, sizeof head));
		_exit(0);
	}
	expect_exit(pid, 0);
	struct node *node = (void *)shared;
	expect_eq(node->word, FUTEX_OWNER_DIED | FUTEX_WAITERS);
}

CASE(robust_list_calls_check_and_return_the_head)
{
	struct robust_list_head head = {{&head.list}, 0, NULL};
	void *got;
	size_t size;
	expect_errno(syscall(SYS_set_robust_list, &head, 8), EINVAL);
	expect_ok(syscall(SYS_set_robust_list, &head, sizeof head));
	expect_ok(syscall(SYS_get_robust_list, 0, &got, &size));
	expect(got == &head);
	expect_eq(size, sizeof head);
}
