/* Two sandboxes of one user, which run the same case at the same time and share a directory, attack each other. The harness writes
 * the host's numbers of the other's processes into SHARED/neighbours/NAME; each must end with 0 of its own accord. */
#include "attack.h"
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { MS_LONG = 800 };

static struct timespec begun;
static char secret[64];

static bool going(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 < MS_LONG;
}

/* Waits for the other; the host's numbers of its processes. */
static int neighbours(pid_t *pids, int max)
{
	char name[PATH_MAX];
	snprintf(name, sizeof name, "%s/neighbours/%s", shared(), getenv("NEIGHBOUR"));
	FILE *file;
	while (!(file = fopen(name, "r")))
		usleep(5000);
	int count = 0;
	while (count < max && fscanf(file, "%d", &pids[count]) == 1)
		count++;
	fclose(file);
	expect(count >= 3);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	snprintf(secret, sizeof secret, "not to be seen by the neighbour %d", getpid());
	return count;
}

CASE(signals_and_traces_do_not_reach_the_neighbour)
{
	pid_t pids[64];
	int count = neighbours(pids, 64);
	while (going())
		for (int i = 0; i < count; i++) {
			pid_t pid = pids[i];
			if (pid == getpid() || pid == getppid() || kill(pid, 0) == 0)
				continue; /* one of our own has that number */
			static const int signals[] = {SIGKILL, SIGSTOP, SIGTERM, SIGUSR2, SIGURG, SIGSYS};
			for (unsigned s = 0; s < sizeof signals / sizeof *signals; s++) {
				expect_errno(kill(pid, signals[s]), ESRCH);
				expect(kill(-pid, signals[s]) == -1);
				expect(syscall(SYS_tgkill, pid, pid, signals[s]) == -1);
				expect(syscall(SYS_tkill, pid, signals[s]) == -1);
			}
			siginfo_t info = {.si_code = SI_QUEUE};
			expect(syscall(SYS_rt_sigqueueinfo, pid, SIGKILL, &info) == -1);
			expect(syscall(SYS_pidfd_open, pid, 0) == -1);
			expect(ptrace(PTRACE_ATTACH, pid, 0, 0) == -1);
			expect(ptrace(PTRACE_SEIZE, pid, 0, 0) == -1);
			expect(setpriority(PRIO_PROCESS, pid, 19) == -1);
			struct rlimit none = {0, 0};
			expect(prlimit(pid, RLIMIT_CPU, &none, NULL) == -1);
			cpu_set_t one;
			CPU_ZERO(&one);
			CPU_SET(0, &one);
			expect(sched_setaffinity(pid, sizeof one, &one) == -1);
		}
	alive();
}

CASE(the_neighbours_memory_is_out_of_reach)
{
	static char page[PAGE];
	pid_t pids[64];
	int count = neighbours(pids, 64);
	char name[64];
	while (going())
		for (int i = 0; i < count; i++) {
			pid_t pid = pids[i];
			if (kill(pid, 0) == 0)
				continue;
			static const unsigned long places[] = {0x400000, SLOTS, ANSWERS, CONST, COMMAND};
			for (unsigned p = 0; p < sizeof places / sizeof *places; p++) {
				struct iovec here = {page, sizeof page}, there = {(void *)places[p], sizeof page};
				expect(process_vm_readv(pid, &here, 1, &there, 1, 0) == -1);
				expect(process_vm_writev(pid, &here, 1, &there, 1, 0) == -1);
			}
			static const char *files[] = {"mem", "maps", "fd/0", "root/etc/passwd", "environ", "task", "ns/mnt", "map_files"};
			for (unsigned f = 0; f < sizeof files / sizeof *files; f++) {
				snprintf(name, sizeof name, "/proc/%d/%s", pid, files[f]);
				expect(open(name, O_RDWR) == -1);
				expect(open(name, O_RDONLY) == -1);
			}
			for (int type = 0; type < 7; type++)
				expect(syscall(SYS_kcmp, getpid(), pid, type, 0, 0) == -1);
		}
	alive();
}

CASE(names_of_sockets_are_a_sandbox_own)
{
	pid_t pids[64];
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0neighbours"};
	neighbours(pids, 64);
	/* both can have it, so it is not the same */
	int mine = expect_ok(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	expect_ok(bind(mine, (void *)&address, sizeof address));
	char text[64], got[64];
	while (going()) {
		int fd = expect_ok(socket(AF_UNIX, SOCK_DGRAM, 0));
		expect_eq(sendto(fd, secret, sizeof secret, 0, (void *)&address, sizeof address), sizeof secret);
		expect_eq(recv(mine, got, sizeof got, 0), sizeof got);
		expect_zero(memcmp(secret, got, sizeof got));
		expect_errno(recv(mine, text, sizeof text, 0), EAGAIN);
		close(fd);
	}
	alive();
}

/* Both change the same names all the time: to files, directories, links out, FIFOs and sockets. */
CASE(a_shared_directory_holds_nobody_up)
{
	pid_t pids[64];
	char place[PATH_MAX], out[PATH_MAX], text[256];
	neighbours(pids, 64);
	snprintf(place, sizeof place, "%s/neighbours", shared());
	snprintf(out, sizeof out, "%s/canary", hidden());
	expect_ok(chdir(place));
	unsigned seed = atoi(getenv("NEIGHBOUR")) + 1;
	pid_t pid;
	SPAWN(pid) {
		struct sockaddr_un address = {.sun_family = AF_UNIX};
		for (int n = 0; going(); n++) {
			char name[8], other[8];
			snprintf(name, sizeof name, "n%d", rand_r(&seed) % 4);
			snprintf(other, sizeof other, "n%d", rand_r(&seed) % 4);
			switch (rand_r(&seed) % 12) {
			case 0: close(open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0666)); break;
			case 1: mkdir(name, 0777); break;
			case 2: symlink(out, name); break;
			case 3: mkfifo(name, 0666); break;
			case 4: unlink(name); break;
			case 5: rmdir(name); break;
			case 6: rename(name, other); break;
			case 7: renameat2(AT_FDCWD, name, AT_FDCWD, other, RENAME_EXCHANGE); break;
			case 8: link(name, other); break;
			case 9: truncate(name, rand_r(&seed) % 100000); break;
			case 10: {
				int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
				strcpy(address.sun_path, name);
				bind(fd, (void *)&address, sizeof address);
				connect(fd, (void *)&address, sizeof address);
				close(fd);
				break;
			}
			default: {
				int fd = open(name, O_RDWR | O_NONBLOCK);
				if (fd < 0)
					break;
				ssize_t size = read(fd, text, sizeof text);
				if (size > 0)
					write(1, text, size); /* the harness looks for the secret */
				char *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
				if (map != MAP_FAILED) {
					write(open("/dev/null", O_WRONLY | O_CLOEXEC), map, PAGE);
					munmap(map, PAGE);
				}
				close(fd);
			}
			}
			closefrom(3);
		}
		_exit(0);
	}
	/* meanwhile others go on */
	while (going()) {
		struct timespec start, now;
		clock_gettime(CLOCK_MONOTONIC, &start);
		alive();
		clock_gettime(CLOCK_MONOTONIC, &now);
		expect(now.tv_sec - start.tv_sec < 10);
	}
	int status;
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_zero(status);
}

CASE(a_fifo_between_neighbours_holds_up_only_who_waits_for_it)
{
	pid_t pids[64], reader;
	char name[PATH_MAX];
	neighbours(pids, 64);
	snprintf(name, sizeof name, "%s/neighbours/fifo", shared());
	mkfifo(name, 0666);
	SPAWN(reader) {
		int fd = open(name, O_RDONLY); /* nobody ever writes */
		char byte;
		read(fd, &byte, 1);
		_exit(0);
	}
	usleep(200000);
	alive();
	kill(reader, SIGKILL);
	int status;
	expect_eq(waitpid(reader, &status, 0), reader);
	expect(status == SIGKILL || status == 0); /* it waited, or was not let */
	alive();
}
