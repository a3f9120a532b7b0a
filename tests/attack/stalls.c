/* Files that somebody on the host changes while they are used here: nobody but who uses them may notice, and no one may wait for
 * ever. The harness changes SHARED/unsteady all the time: `size` is cut to nothing and grown again, `log` grows, `kind` is a
 * file or a FIFO, and, where it may, `mounted` is a mount point which comes and goes. */
#include "attack.h"
#include <pthread.h>
#include <sys/sendfile.h>

enum { MS_LONG = 800 };

static char path[PATH_MAX];
static struct timespec begun;

static const char *unsteady(const char *name)
{
	snprintf(path, sizeof path, "%s/unsteady/%s", shared(), name);
	return path;
}

static bool going(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!begun.tv_sec)
		begun = now;
	return (now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 < MS_LONG;
}

/* A process of its own does it all the time; it may die of SIGBUS, and is then started again. */
static void meanwhile(void (*use)(void))
{
	while (going()) {
		pid_t pid;
		SPAWN(pid) {
			while (going())
				use();
			_exit(0);
		}
		int status;
		while (waitpid(pid, &status, WNOHANG) == 0) {
			struct timespec start, now;
			clock_gettime(CLOCK_MONOTONIC, &start);
			alive();
			clock_gettime(CLOCK_MONOTONIC, &now);
			expect(now.tv_sec - start.tv_sec < 10);
			if (!going()) {
				usleep(500000);
				kill(pid, SIGKILL);
			}
		}
		expect(status == 0 || status == SIGBUS || status == SIGKILL);
	}
	alive();
}

static char *map_size(int protection)
{
	int fd = expect_ok(open(unsteady("size"), O_RDWR));
	char *map = mmap(NULL, 1 << 16, protection, MAP_SHARED, fd, 0);
	expect(map != MAP_FAILED);
	close(fd);
	return map;
}

static void touch(void)
{
	volatile char *map = map_size(PROT_READ | PROT_WRITE);
	for (int i = 0; i < 10000; i++)
		map[i * 7 % (1 << 16)]++;
	munmap((void *)map, 1 << 16);
}
CASE(a_mapped_file_that_is_cut_is_a_sigbus_inside) { meanwhile(touch); }

/* As the kernel's memory: names, structures, vectors, buffers. */
static void hand_over(void)
{
	static int null, zero;
	char *map = map_size(PROT_READ | PROT_WRITE), *at = map + (1 << 15);
	if (!null) {
		null = expect_ok(open("/dev/null", O_WRONLY));
		zero = expect_ok(open("/dev/zero", O_RDONLY));
	}
	for (int i = 0; i < 100; i++) {
		struct stat *status = (void *)at;
		write(null, map, 1 << 16);
		read(zero, map, 1 << 16);
		stat("/", status);
		open(at, O_RDONLY | O_CLOEXEC);
		readv(zero, (void *)at, 4);
		poll((void *)at, 4, 0);
		nanosleep((void *)at, NULL);
		syscall(SYS_futex, at, 1, 1, NULL, NULL, 0);
		struct timespec at_once = {0, 1};
		syscall(SYS_futex, at, 0, 0, &at_once, NULL, 0);
		sigprocmask(SIG_BLOCK, NULL, (void *)at);
		execve(at, (void *)at, (void *)at);
		int pair[2];
		expect_ok(pipe(pair));
		struct iovec vector = {map, 1 << 12};
		vmsplice(pair[1], &vector, 1, SPLICE_F_NONBLOCK);
		closefrom(null > zero ? null + 1 : zero + 1);
	}
	munmap(map, 1 << 16);
}
CASE(a_mapped_file_that_is_cut_is_an_error_of_calls) { meanwhile(hand_over); }

/* Code that goes away under who runs it. */
static void run_it(void)
{
	pid_t pid;
	SPAWN(pid) {
		execl(unsteady("program"), "program", "--list", NULL);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}
CASE(a_program_that_is_cut_ends_alone) { meanwhile(run_it); }

static void follow(void)
{
	static char block[1 << 16];
	int fd = expect_ok(open(unsteady("log"), O_RDONLY)), null = expect_ok(open("/dev/null", O_WRONLY));
	struct stat status;
	expect_ok(fstat(fd, &status));
	off_t from = 0;
	while (from < status.st_size && read(fd, block, sizeof block) > 0)
		from = lseek(fd, 0, SEEK_CUR);
	from = 0;
	sendfile(null, fd, &from, 1 << 20);
	pread(fd, block, sizeof block, status.st_size);
	lseek(fd, 0, SEEK_END);
	lseek(fd, 0, SEEK_HOLE);
	close(fd);
	close(null);
}
CASE(a_file_that_grows_has_an_end) { meanwhile(follow); }

static void open_it(void)
{
	char byte;
	int fd = open(unsteady("kind"), O_RDONLY | O_NONBLOCK);
	if (fd >= 0) {
		read(fd, &byte, 1);
		close(fd);
	}
	fd = open(unsteady("kind"), O_RDWR); /* of a FIFO, that waits for nobody */
	if (fd >= 0) {
		struct stat status;
		if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
			read(fd, &byte, 1);
		close(fd);
	}
	unlink(unsteady("no such name"));
	struct stat status;
	stat(unsteady("kind"), &status);
	truncate(unsteady("kind"), 1);
}
CASE(a_file_that_becomes_a_fifo_is_not_waited_for) { meanwhile(open_it); }

static void visit(void)
{
	char byte;
	int fd = open(unsteady("mounted/file"), O_CREAT | O_RDWR, 0666);
	if (fd >= 0) {
		write(fd, "x", 1);
		pread(fd, &byte, 1, 0);
		close(fd);
	}
	DIR *directory = opendir(unsteady("mounted"));
	if (directory) {
		while (readdir(directory))
			;
		closedir(directory);
	}
	rename(unsteady("mounted/file"), "/tmp/file");
	unlink(unsteady("mounted/file"));
}
CASE(a_mount_point_may_go) { meanwhile(visit); }
