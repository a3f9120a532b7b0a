/* /dev nodes. */
#include "case.h"
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

static int device(const char *path, unsigned minor_number)
{
	struct stat st;
	int fd = expect_ok(open(path, O_RDWR));
	expect_ok(fstat(fd, &st));
	expect(S_ISCHR(st.st_mode));
	expect_eq(major(st.st_rdev), 1);
	expect_eq(minor(st.st_rdev), minor_number);
	return fd;
}

CASE(null_swallows_and_is_empty)
{
	char byte;
	int fd = device("/dev/null", 3);
	expect_eq(write(fd, "abc", 3), 3);
	expect_eq(read(fd, &byte, 1), 0);
	expect_eq(lseek(fd, 100, SEEK_SET), 0);
	expect_errno(ftruncate(fd, 0), EINVAL);
	expect_ok(open("/dev/null", O_WRONLY | O_TRUNC | O_CREAT, 0600));
	expect_eq(poll_one(fd, POLLIN | POLLOUT, 0).revents, POLLIN | POLLOUT);
}

CASE(zero_reads_zeros)
{
	char got[4] = "xxxx";
	int fd = device("/dev/zero", 5);
	expect_eq(read(fd, got, 4), 4);
	expect_mem(got, "\0\0\0\0", 4);
	expect_eq(write(fd, "abc", 3), 3);
}

CASE(full_is_enospc)
{
	char got[2] = "x";
	int fd = device("/dev/full", 7);
	expect_errno(write(fd, "a", 1), ENOSPC);
	expect_eq(read(fd, got, 2), 2);
	expect_eq(got[0], 0);
}

CASE(random_devices_differ_each_time)
{
	char a[32], b[32];
	int random = device("/dev/random", 8), urandom = device("/dev/urandom", 9);
	expect_eq(read(random, a, 32), 32);
	expect_eq(read(random, b, 32), 32);
	expect(memcmp(a, b, 32));
	expect_eq(read(urandom, a, 32), 32);
	expect_eq(read(urandom, b, 32), 32);
	expect(memcmp(a, b, 32));
	expect_eq(write(urandom, a, 32), 32);
	int bits = -1;
	expect_ok(ioctl(random, 0x80045200, &bits)); /* RNDGETENTCNT */
	expect(bits > 0);
}

CASE(standard_streams_have_links)
{
	char target[64] = {0};
	expect_ok(readlink("/dev/fd", target, sizeof target - 1));
	expect_str(target, "/proc/self/fd");
	memset(target, 0, sizeof target);
	expect_ok(readlink("/dev/stdout", target, sizeof target - 1));
	expect_str(target, "/proc/self/fd/1");
	int ends[2];
	expect_ok(pipe(ends));
	expect_ok(dup2(ends[1], 1));
	int fd = expect_ok(open("/dev/stdout", O_WRONLY));
	expect_eq(write(fd, "out", 3), 3);
	expect_eq(read(ends[0], target, 8), 3);
}

CASE(shm_is_a_sticky_directory_for_all)
{
	struct stat st = stat_of("/dev/shm");
	expect_eq(st.st_mode, S_IFDIR | 01777);
	char name[64];
	snprintf(name, sizeof name, "/case-%d", getpid());
	int fd = expect_ok(shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600));
	int unlinked = shm_unlink(name);
	expect_ok(unlinked);
	expect_ok(ftruncate(fd, PAGE));
	char *memory = expect_ok(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	pid_t pid;
	SPAWN(pid)
		memory[0] = 's';
	expect_exit(pid, 0);
	expect_eq(memory[0], 's');
	expect_errno(shm_open(name, O_RDWR, 0), ENOENT);
}

CASE(shared_devices_are_writable_by_all)
{
	be_ordinary();
	expect_ok(open("/dev/null", O_RDWR));
	expect_ok(open("/dev/zero", O_RDWR));
	expect_ok(open("/dev/urandom", O_RDWR));
	expect_ok(open("/dev/ptmx", O_RDWR | O_NOCTTY));
}
