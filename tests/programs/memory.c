/* madvise, msync, mincore, mlock, /proc/self/maps, process_vm_readv. */
#include "case.h"
#include <sys/uio.h>

/* The line of /proc/self/maps which holds the address, split. */
struct area {
	unsigned long start, end, offset, inode;
	char access[8], path[256];
};

static bool area_of(void *address, struct area *area)
{
	char *line = strtok(read_file("/proc/self/maps"), "\n");
	for (; line; line = strtok(NULL, "\n")) {
		unsigned major, minor;
		area->path[0] = 0;
		if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %255[^\n]", &area->start, &area->end,
			   area->access, &area->offset, &major, &minor, &area->inode, area->path) < 7)
			fail("bad line %s", line);
		if ((uintptr_t)address >= area->start && (uintptr_t)address < area->end)
			return true;
	}
	return false;
}

CASE(madvise_dontneed_zeroes_private_memory)
{
	char *memory = map_anonymous(3 * PAGE);
	memset(memory, 'x', 3 * PAGE);
	expect_ok(madvise(memory + PAGE, PAGE, MADV_DONTNEED));
	expect_eq(memory[PAGE - 1], 'x');
	expect_eq(memory[PAGE], 0);
	expect_eq(memory[2 * PAGE], 'x');
}

IN_DIR_CASE(madvise_dontneed_drops_private_changes_of_a_file)
{
	write_file("f", "file");
	int fd = expect_ok(open("f", O_RDWR));
	char *memory = expect_ok(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	memory[0] = 'X';
	expect_ok(madvise(memory, PAGE, MADV_DONTNEED));
	expect_mem(memory, "file", 4);
}

CASE(madvise_dontneed_keeps_shared_memory)
{
	char *memory = map_shared(PAGE);
	memory[0] = 's';
	expect_ok(madvise(memory, PAGE, MADV_DONTNEED));
	expect_eq(memory[0], 's');
	expect_ok(madvise(memory, PAGE, MADV_REMOVE));
	expect_eq(memory[0], 0);
}

CASE(madvise_errors)
{
	char *memory = map_anonymous(3 * PAGE);
	expect_errno(madvise(memory + 1, PAGE, MADV_DONTNEED), EINVAL);
	expect_errno(madvise(memory, PAGE, 9999), EINVAL);
	expect_ok(munmap(memory + PAGE, PAGE));
	expect_errno(madvise(memory, 3 * PAGE, MADV_DONTNEED), ENOMEM);
	expect_ok(madvise(memory, 0, MADV_DONTNEED));
	expect_ok(madvise(memory, PAGE, MADV_WILLNEED));
	expect_ok(madvise(memory, PAGE, MADV_SEQUENTIAL));
}

CASE(madvise_dontfork_leaves_the_range_out_of_the_child)
{
	char *memory = map_anonymous(PAGE);
	expect_ok(madvise(memory, PAGE, MADV_DONTFORK));
	pid_t pid;
	SPAWN(pid) {
		prctl(PR_SET_DUMPABLE, 0);
		*(volatile char *)memory;
	}
	expect_killed(pid, SIGSEGV);
}

CASE(madvise_wipeonfork_zeroes_the_childs_copy)
{
	char *memory = map_anonymous(PAGE);
	memory[0] = 'w';
	expect_ok(madvise(memory, PAGE, MADV_WIPEONFORK));
	pid_t pid;
	SPAWN(pid)
		expect_eq(memory[0], 0);
	expect_exit(pid, 0);
	expect_eq(memory[0], 'w');
	expect_errno(madvise(map_shared(PAGE), PAGE, MADV_WIPEONFORK), EINVAL);
}

CASE(madvise_populate_and_free)
{
	char *memory = map_anonymous(2 * PAGE);
	expect_ok(madvise(memory, 2 * PAGE, MADV_POPULATE_WRITE));
	memory[0] = 'f';
	expect_ok(madvise(memory, PAGE, MADV_FREE));
	memory[0] = 'g';
	expect_eq(memory[0], 'g');
	expect_errno(madvise(map_shared(PAGE), PAGE, MADV_FREE), EINVAL);
	expect_ok(mprotect(memory, PAGE, PROT_READ));
	expect_errno(madvise(memory, PAGE, MADV_POPULATE_WRITE), EINVAL);
}

CASE(msync_errors)
{
	char *memory = map_anonymous(2 * PAGE);
	expect_ok(msync(memory, PAGE, MS_ASYNC));
	expect_errno(msync(memory + 1, PAGE, MS_SYNC), EINVAL);
	expect_errno(msync(memory, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
	expect_errno(msync(memory, PAGE, 0x100), EINVAL);
	expect_ok(munmap(memory, PAGE));
	expect_errno(msync(memory, PAGE, MS_SYNC), ENOMEM);
}

CASE(mincore_tells_touched_pages)
{
	unsigned char seen[2];
	char *memory = map_anonymous(2 * PAGE);
	memory[PAGE] = 1;
	expect_ok(mincore(memory, 2 * PAGE, seen));
	expect_eq(seen[1] & 1, 1);
	expect_errno(mincore(memory + 1, PAGE, seen), EINVAL);
	expect_errno(mincore(memory, PAGE, (void *)8), EFAULT);
	expect_ok(munmap(memory, PAGE));
	expect_errno(mincore(memory, PAGE, seen), ENOMEM);
}

CASE(mlock_checks_range_and_limit)
{
	char *memory = map_anonymous(2 * PAGE);
	expect_ok(mlock(memory, PAGE));
	expect_ok(munlock(memory, PAGE));
	expect_ok(mlock2(memory, PAGE, MLOCK_ONFAULT));
	expect_errno(mlock2(memory, PAGE, 4), EINVAL);
	expect_ok(munmap(memory, PAGE));
	expect_errno(mlock(memory, PAGE), ENOMEM);
	expect_errno(mlockall(0), EINVAL);
	expect_ok(munlockall());
	be_ordinary();
	struct rlimit none = {0, 0};
	expect_ok(setrlimit(RLIMIT_MEMLOCK, &none));
	expect_errno(mlock(memory + PAGE, PAGE), EPERM);
}

CASE(maps_shows_access_and_extent)
{
	struct area area;
	char *memory = map_anonymous(5 * PAGE);
	expect_ok(mprotect(memory + PAGE, 2 * PAGE, PROT_READ));
	expect(area_of(memory + PAGE, &area));
	expect_eq(area.start, (uintptr_t)memory + PAGE);
	expect_eq(area.end, (uintptr_t)memory + 3 * PAGE);
	expect_str(area.access, "r--p");
	expect_ok(mprotect(memory + PAGE, PAGE, PROT_NONE));
	expect(area_of(memory + PAGE, &area));
	expect_str(area.access, "---p");
	expect_ok(munmap(memory, 5 * PAGE));
	expect(!area_of(memory, &area));
}

IN_DIR_CASE(maps_names_mapped_files_with_offset_and_inode)
{
	struct area area;
	write_file("mapped", "");
	int fd = expect_ok(open("mapped", O_RDWR));
	expect_ok(ftruncate(fd, 4 * PAGE));
	char *memory = expect_ok(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 2 * PAGE));
	expect(area_of(memory, &area));
	expect_str(area.access, "r-xs");
	expect_eq(area.offset, 2 * PAGE);
	expect_eq(area.inode, stat_of("mapped").st_ino);
	expect_str(strrchr(area.path, '/'), "/mapped");
	expect_ok(unlink("mapped"));
	expect(area_of(memory, &area));
	expect_str(strrchr(area.path, '/'), "/mapped (deleted)");
}

CASE(maps_names_stack_heap_and_vdso)
{
	struct area area;
	int local;
	expect(area_of(&local, &area));
	expect_str(area.path, "[stack]");
	expect_str(area.access, "rw-p");
	expect(area_of((char *)sbrk(PAGE), &area));
	expect_str(area.path, "[heap]");
	expect(strstr(read_file("/proc/self/maps"), "[vdso]"));
}

CASE(maps_lines_are_sorted_and_do_not_overlap)
{
	unsigned long start, end, last = 0;
	int lines = 0;
	for (char *line = strtok(read_file("/proc/self/maps"), "\n"); line; line = strtok(NULL, "\n")) {
		expect_eq(sscanf(line, "%lx-%lx", &start, &end), 2);
		expect(start >= last && end > start);
		last = end;
		lines++;
	}
	expect(lines >= 5);
}

CASE(vm_size_in_status_grows_with_mappings)
{
	long before = 0, after = 0;
	sscanf(strstr(read_file("/proc/self/status"), "VmSize:"), "VmSize: %ld", &before);
	map_anonymous(16 << 20);
	sscanf(strstr(read_file("/proc/self/status"), "VmSize:"), "VmSize: %ld", &after);
	expect_between(after - before, 16 << 10, 17 << 10);
}

CASE(proc_self_mem_reads_and_writes_memory)
{
	char text[8] = "before", got[8];
	int fd = expect_ok(open("/proc/self/mem", O_RDWR));
	expect_eq(pread(fd, got, 6, (uintptr_t)text), 6);
	expect_mem(got, "before", 6);
	expect_eq(pwrite(fd, "after!", 6, (uintptr_t)text), 6);
	__asm__ volatile("" ::: "memory");
	expect_mem(text, "after!", 6);
	expect_errno(pread(fd, got, 6, 8), EIO);
}

CASE(process_vm_readv_and_writev_copy_between_processes)
{
	char *memory = map_anonymous(PAGE);
	strcpy(memory, "parent");
	int ready[2];
	char byte, got[8] = {0};
	expect_ok(pipe(ready));
	pid_t pid;
	SPAWN(pid) {
		strcpy(memory, "child!");
		expect_eq(write(ready[1], "x", 1), 1);
		while (memory[0] == 'c')
			usleep(1000);
		expect_mem(memory, "written", 7);
	}
	expect_eq(read(ready[0], &byte, 1), 1);
	struct iovec local = {got, 6}, remote = {memory, 6};
	if (process_vm_readv(pid, &local, 1, &remote, 1, 0) == -1 && errno == EPERM)
		skip("ptrace access is restricted here");
	expect_mem(got, "child!", 6);
	local = (struct iovec){"written", 7};
	remote.iov_len = 7;
	expect_eq(process_vm_writev(pid, &local, 1, &remote, 1, 0), 7);
	expect_exit(pid, 0);
	expect_mem(memory, "parent", 6);
}

CASE(process_vm_readv_errors)
{
	char got[8];
	struct iovec local = {got, 8}, bad = {(void *)8, 8};
	expect_errno(process_vm_readv(getpid(), &local, 1, &bad, 1, 0), EFAULT);
	expect_errno(process_vm_readv(getpid(), &local, 1, &local, 1, 1), EINVAL);
	pid_t pid;
	SPAWN(pid)
		_exit(0);
	expect_exit(pid, 0);
	expect_errno(process_vm_readv(pid, &local, 1, &local, 1, 0), ESRCH);
	char *memory = map_anonymous(2 * PAGE);
	expect_ok(munmap(memory + PAGE, PAGE));
	struct iovec edge = {memory + PAGE - 3, 8};
	expect_eq(process_vm_readv(getpid(), &local, 1, &edge, 1, 0), 3);
}

CASE(membarrier_query_and_private_expedited)
{
	long commands = syscall(SYS_membarrier, 0, 0, 0);
	expect(commands > 0);
	expect(commands & 1);
	expect_ok(syscall(SYS_membarrier, 16, 0, 0)); /* register private expedited */
	expect_ok(syscall(SYS_membarrier, 8, 0, 0));
	expect_errno(syscall(SYS_membarrier, 1 << 30, 0, 0), EINVAL);
	expect_errno(syscall(SYS_membarrier, 0, 1, 0), EINVAL);
}
