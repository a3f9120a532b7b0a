/* memfd_create and file seals. */
#include "case.h"
#include <linux/memfd.h>

static int make(unsigned flags)
{
	return expect_ok(memfd_create("name", flags));
}

static void *map(int fd, int protection, int flags)
{
	return mmap(NULL, PAGE, protection, flags, fd, 0);
}

CASE(behaves_as_an_unlinked_file)
{
	char got[4];
	struct stat st;
	int fd = make(0);
	expect_eq(write(fd, "abcd", 4), 4);
	expect_eq(pread(fd, got, 4, 0), 4);
	expect_mem(got, "abcd", 4);
	expect_ok(fstat(fd, &st));
	expect(S_ISREG(st.st_mode));
	expect_eq(st.st_mode & 0777, 0777);
	expect_eq(st.st_nlink, 0);
	expect_eq(st.st_size, 4);
}

CASE(name_shows_in_proc)
{
	char path[64], target[64] = {0};
	snprintf(path, sizeof path, "/proc/self/fd/%d", make(0));
	expect_ok(readlink(path, target, sizeof target - 1));
	expect_str(target, "/memfd:name (deleted)");
}

CASE(flags_and_name_are_checked)
{
	char name[260];
	memset(name, 'n', 259);
	name[250] = 0;
	expect_errno(memfd_create(name, 0), EINVAL);
	name[249] = 0;
	expect_ok(memfd_create(name, 0));
	expect_errno(memfd_create("x", 0x400), EINVAL);
	expect_errno(memfd_create((char *)8, 0), EFAULT);
	expect_eq(fcntl(make(MFD_CLOEXEC), F_GETFD), FD_CLOEXEC);
}

CASE(without_allow_sealing_it_is_sealed_against_seals)
{
	int fd = make(0);
	expect_eq(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
	expect_errno(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
	expect_eq(fcntl(make(MFD_ALLOW_SEALING), F_GET_SEALS), 0);
}

CASE(seal_write_stops_writes_and_writable_maps)
{
	int fd = make(MFD_ALLOW_SEALING);
	expect_eq(write(fd, "abcd", 4), 4);
	expect_ok(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	expect_eq(fcntl(fd, F_GET_SEALS), F_SEAL_WRITE);
	expect_errno(write(fd, "x", 1), EPERM);
	expect_errno(map(fd, PROT_READ | PROT_WRITE, MAP_SHARED), EPERM);
	expect_ok(map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE));
	expect_errno(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4), EPERM);
}

CASE(seal_write_with_a_writable_map_is_ebusy)
{
	int fd = make(MFD_ALLOW_SEALING);
	expect_ok(ftruncate(fd, PAGE));
	void *memory = expect_ok(map(fd, PROT_READ | PROT_WRITE, MAP_SHARED));
	expect_errno(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
	expect_ok(munmap(memory, PAGE));
	expect_ok(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
}

CASE(seal_shrink_and_grow)
{
	int fd = make(MFD_ALLOW_SEALING);
	expect_ok(ftruncate(fd, 100));
	expect_ok(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	expect_errno(ftruncate(fd, 50), EPERM);
	expect_ok(ftruncate(fd, 200));
	expect_ok(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
	expect_errno(ftruncate(fd, 300), EPERM);
	expect_errno(pwrite(fd, "x", 1, 5000), EPERM);
	expect_eq(pwrite(fd, "x", 1, 0), 1);
	expect_eq(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW);
}

CASE(seal_seal_ends_sealing)
{
	int fd = make(MFD_ALLOW_SEALING);
	expect_ok(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
	expect_errno(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
	expect_errno(fcntl(make(MFD_ALLOW_SEALING), F_ADD_SEALS, 0x4000), EINVAL);
}

CASE(seal_future_write_keeps_existing_maps)
{
	int fd = make(MFD_ALLOW_SEALING);
	expect_ok(ftruncate(fd, PAGE));
	char *memory = expect_ok(map(fd, PROT_READ | PROT_WRITE, MAP_SHARED));
	expect_ok(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	memory[0] = 'm';
	char byte;
	expect_eq(pread(fd, &byte, 1, 0), 1);
	expect_eq(byte, 'm');
	expect_errno(write(fd, "x", 1), EPERM);
	expect_errno(map(fd, PROT_READ | PROT_WRITE, MAP_SHARED), EPERM);
}

IN_DIR_CASE(seals_of_other_files_are_einval)
{
	int ends[2];
	expect_ok(pipe(ends));
	expect_errno(fcntl(ends[0], F_GET_SEALS), EINVAL);
	expect_errno(fcntl(ends[1], F_ADD_SEALS, F_SEAL_SEAL), EINVAL);
}

CASE(shared_map_is_seen_by_a_child)
{
	int fd = make(0);
	expect_ok(ftruncate(fd, PAGE));
	char *memory = expect_ok(map(fd, PROT_READ | PROT_WRITE, MAP_SHARED));
	pid_t pid;
	SPAWN(pid)
		memory[10] = 'c';
	expect_exit(pid, 0);
	expect_eq(memory[10], 'c');
}

CASE(noexec_seal_clears_the_execute_bits)
{
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif
	int fd = make(MFD_NOEXEC_SEAL);
	struct stat st;
	expect_ok(fstat(fd, &st));
	expect_eq(st.st_mode & 0111, 0);
	expect_errno(fchmod(fd, 0777), EPERM);
}
