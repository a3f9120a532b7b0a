/* System V shared memory, semaphores and message queues (private ones only). */
#include "case.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

static int semaphores(int count)
{
	int id = semget(IPC_PRIVATE, count, 0600);
	if (id == -1 && errno == ENOSYS)
		fail("semget is not implemented");
	return expect_ok(id);
}

static int operate(int id, int number, int change, int flags)
{
	struct sembuf operation = {number, change, flags};
	return semop(id, &operation, 1);
}

CASE(shared_memory_is_shared_and_removed_with_the_last_user)
{
	int id = expect_ok(shmget(IPC_PRIVATE, 5000, 0600));
	char *memory = expect_ok((char *)shmat(id, NULL, 0));
	expect_ok(shmctl(id, IPC_RMID, NULL));
	pid_t pid;
	SPAWN(pid)
		memory[4999] = 's';
	expect_exit(pid, 0);
	expect_eq(memory[4999], 's');
	expect_ok(shmdt(memory));
	expect_errno(shmat(id, NULL, 0), EINVAL);
	expect_errno(shmdt(memory), EINVAL);
}

CASE(shared_memory_status_and_errors)
{
	struct shmid_ds status;
	int id = expect_ok(shmget(IPC_PRIVATE, 5000, 0640));
	void *memory = shmat(id, NULL, SHM_RDONLY);
	int result = shmctl(id, IPC_STAT, &status);
	struct shmid_ds locked, unlocked, removed;
	int locking = shmctl(id, SHM_LOCK, NULL) | shmctl(id, IPC_STAT, &locked);
	locking |= shmctl(id, SHM_UNLOCK, NULL) | shmctl(id, IPC_STAT, &unlocked);
	expect_ok(shmctl(id, IPC_RMID, NULL));
	expect_ok(shmctl(id, IPC_STAT, &removed));
	expect_ok(locking);
	expect_eq(locked.shm_perm.mode, 0640 | SHM_LOCKED);
	expect_eq(unlocked.shm_perm.mode, 0640);
	expect_eq(removed.shm_perm.mode, 0640 | SHM_DEST);
	expect_ok(memory);
	expect_ok(result);
	expect_eq(status.shm_segsz, 5000);
	expect_eq(status.shm_nattch, 1);
	expect_eq(status.shm_perm.mode & 0777, 0640);
	expect_eq(status.shm_cpid, getpid());
	expect_errno(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
}

CASE(semaphore_blocks_until_raised)
{
	int id = semaphores(1);
	pid_t pid;
	SPAWN(pid) {
		sleep_ms(20);
		expect_ok(operate(id, 0, 1, 0));
	}
	int result = operate(id, 0, -1, 0), again = operate(id, 0, -1, IPC_NOWAIT), error = errno;
	expect_ok(semctl(id, 0, IPC_RMID));
	expect_ok(result);
	expect_eq(again, -1);
	expect_eq(error, EAGAIN);
	expect_exit(pid, 0);
}

CASE(semaphore_undo_runs_at_exit)
{
	int id = semaphores(1);
	pid_t pid;
	SPAWN(pid)
		expect_ok(operate(id, 0, 5, SEM_UNDO));
	expect_exit(pid, 0);
	int value = semctl(id, 0, GETVAL);
	expect_ok(semctl(id, 0, IPC_RMID));
	expect_eq(value, 0);
}

CASE(removed_semaphore_wakes_its_waiters_with_eidrm)
{
	int id = semaphores(1);
	pid_t pid;
	SPAWN(pid)
		expect_errno(operate(id, 0, -1, 0), EIDRM);
	wait_for_state(pid, 'S');
	expect_ok(semctl(id, 0, IPC_RMID));
	expect_exit(pid, 0);
	expect_errno(operate(id, 0, 1, 0), EINVAL);
}

CASE(messages_are_taken_by_type)
{
	struct {
		long type;
		char text[8];
	} message = {2, "two"};
	int id = expect_ok(msgget(IPC_PRIVATE, 0600));
	int sent = msgsnd(id, &message, 4, 0);
	message.type = 1;
	strcpy(message.text, "one");
	sent |= msgsnd(id, &message, 4, 0);
	ssize_t first = msgrcv(id, &message, 8, 2, 0);
	bool two = !strcmp(message.text, "two");
	ssize_t none = msgrcv(id, &message, 8, 2, IPC_NOWAIT);
	int error = errno;
	ssize_t small = msgrcv(id, &message, 1, 0, 0);
	int small_error = errno;
	expect_ok(msgctl(id, IPC_RMID, NULL));
	expect_eq(sent, 0);
	expect_eq(first, 4);
	expect(two);
	expect_eq(none, -1);
	expect_eq(error, ENOMSG);
	expect_eq(small, -1);
	expect_eq(small_error, E2BIG);
}

/* The line of `id` in a file of /proc/sysvipc, up to `count` numbers. */
static int ipc_line(const char *name, int id, unsigned long *numbers, int count)
{
	char path[64], line[1024];
	snprintf(path, sizeof path, "/proc/sysvipc/%s", name);
	FILE *file = fopen(path, "r");
	expect(file != NULL);
	int found = 0;
	expect(fgets(line, sizeof line, file) != NULL);
	while (!found && fgets(line, sizeof line, file)) {
		char *at = line;
		int key = strtol(at, &at, 10);
		(void)key;
		if (strtol(at, &at, 10) != id)
			continue;
		found = 1;
		for (int i = 0; i < count; i++)
			numbers[i] = strtoul(at, &at, i == 0 ? 8 : 10);
	}
	fclose(file);
	return found;
}

CASE(proc_lists_what_there_is)
{
	unsigned long numbers[2];
	int shm = shmget(IPC_PRIVATE, 12345, 0600), sem = semget(IPC_PRIVATE, 3, 0640), msg = msgget(IPC_PRIVATE, 0644);
	expect(shm >= 0 && sem >= 0 && msg >= 0);
	struct { long type; char text[5]; } message = { 1, "abcd" };
	expect_ok(msgsnd(msg, &message, 5, 0));
	expect(ipc_line("shm", shm, numbers, 2));
	expect_eq(numbers[0], 0600);
	expect_eq(numbers[1], 12345);
	expect(ipc_line("sem", sem, numbers, 2));
	expect_eq(numbers[0], 0640);
	expect_eq(numbers[1], 3);
	expect(ipc_line("msg", msg, numbers, 2));
	expect_eq(numbers[0], 0644);
	expect_eq(numbers[1], 5);
	expect_ok(shmctl(shm, IPC_RMID, NULL));
	expect_ok(semctl(sem, 0, IPC_RMID));
	expect_ok(msgctl(msg, IPC_RMID, NULL));
	expect(!ipc_line("shm", shm, numbers, 1));
	expect(!ipc_line("sem", sem, numbers, 1));
	expect(!ipc_line("msg", msg, numbers, 1));
}
