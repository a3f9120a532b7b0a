/* mmap, munmap, mprotect, mremap, brk. */
#include "case.h"
#include <setjmp.h>

static sigjmp_buf back;
static volatile sig_atomic_t last;
static void on_fault(int signal, siginfo_t *info UNUSED, void *context UNUSED)
{
	last = signal;
	siglongjmp(back, 1);
}

/* The signal that reading (or writing) this byte raises, or 0. */
static int touch(volatile char *address, bool write)
{
	handle(SIGSEGV, on_fault, 0);
	handle(SIGBUS, on_fault, 0);
	last = 0;
	if (sigsetjmp(back, 1) == 0) {
		char byte = *address;
		if (write)
			*address = byte;
	}
	return last;
}

static char *map(void *at, size_t size, int protection, int flags)
{
	return mmap(at, size, protection, flags | MAP_ANONYMOUS, -1, 0);
}

static int file_of(size_t size)
{
	write_file("f", "");
	int fd = expect_ok(open("f", O_RDWR));
	expect_ok(ftruncate(fd, size));
	return fd;
}

CASE(anonymous_memory_is_zero)
{
	char *memory = map_anonymous(64 * PAGE);
	for (size_t i = 0; i < 64 * PAGE; i += 512)
		expect_eq(memory[i], 0);
	expect_eq((uintptr_t)memory % PAGE, 0);
}

CASE(unmapped_memory_faults)
{
	char *memory = map_anonymous(3 * PAGE);
	expect_ok(munmap(memory + PAGE, PAGE));
	expect_eq(touch(memory + PAGE, false), SIGSEGV);
	expect_eq(touch(memory, true), 0);
	expect_eq(touch(memory + 2 * PAGE, true), 0);
	expect_ok(munmap(memory, 3 * PAGE));
	expect_ok(munmap(memory, 3 * PAGE));
}

CASE(mmap_errors)
{
	expect_errno(map(NULL, 0, PROT_READ, MAP_PRIVATE), EINVAL);
	expect_errno(map(NULL, PAGE, PROT_READ, 0), EINVAL);
	expect_errno(map(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_SHARED | 0x8), EINVAL);
	expect_errno(map((void *)1, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED), EINVAL);
	expect_errno(map(NULL, 1UL << 47, PROT_READ, MAP_PRIVATE), ENOMEM);
	expect_errno(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 900, 0), EBADF);
	expect_errno(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 0, 100), EINVAL);
	expect_errno(munmap((void *)1, PAGE), EINVAL);
	expect_errno(munmap((void *)PAGE, 0), EINVAL);
}

IN_DIR_CASE(file_mapping_access_is_checked)
{
	file_of(PAGE);
	int reader = expect_ok(open("f", O_RDONLY)), writer = expect_ok(open("f", O_WRONLY));
	expect_errno(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0), EACCES);
	expect_ok(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, reader, 0));
	expect_errno(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, writer, 0), EACCES);
	expect_errno(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, writer, 0), EACCES);
	void *memory = expect_ok(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, reader, 0));
	expect_errno(mprotect(memory, PAGE, PROT_READ | PROT_WRITE), EACCES);
	expect_errno(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, expect_ok(open(".", O_RDONLY)), 0), ENODEV);
}

CASE(pipes_cannot_be_mapped)
{
	int ends[2];
	expect_ok(pipe(ends));
	expect_errno(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, ends[0], 0), ENODEV);
}

CASE(fixed_mapping_replaces_what_was_there)
{
	char *memory = map_anonymous(3 * PAGE);
	memset(memory, 'x', 3 * PAGE);
	expect(map(memory + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED) == memory + PAGE);
	expect_eq(memory[PAGE - 1], 'x');
	expect_eq(memory[PAGE], 0);
	expect_eq(memory[2 * PAGE], 'x');
}

CASE(fixed_noreplace_refuses_to_replace)
{
	char *memory = map_anonymous(2 * PAGE);
	expect_errno(map(memory + PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE), EEXIST);
	expect_ok(munmap(memory, 2 * PAGE));
	expect(map(memory, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE) == memory);
}

CASE(hint_is_taken_if_free_and_ignored_if_not)
{
	char *memory = map_anonymous(4 * PAGE);
	expect_ok(munmap(memory + PAGE, PAGE));
	expect(map(memory + PAGE, PAGE, PROT_READ, MAP_PRIVATE) == memory + PAGE);
	char *other = expect_ok(map(memory, PAGE, PROT_READ, MAP_PRIVATE));
	expect(other != memory);
}

CASE(map_32bit_is_below_two_gigabytes)
{
	char *memory = expect_ok(map(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_32BIT));
	expect((uintptr_t)memory < 1UL << 31);
}

CASE(mprotect_takes_and_gives_access)
{
	char *memory = map_anonymous(3 * PAGE);
	memory[PAGE] = 'k';
	expect_ok(mprotect(memory + PAGE, PAGE, PROT_NONE));
	expect_eq(touch(memory + PAGE, false), SIGSEGV);
	expect_eq(touch(memory, true), 0);
	expect_ok(mprotect(memory + PAGE, PAGE, PROT_READ));
	expect_eq(touch(memory + PAGE, false), 0);
	expect_eq(touch(memory + PAGE, true), SIGSEGV);
	expect_ok(mprotect(memory, 3 * PAGE, PROT_READ | PROT_WRITE));
	expect_eq(touch(memory + PAGE, true), 0);
	expect_eq(memory[PAGE], 'k');
}

CASE(mprotect_errors)
{
	char *memory = map_anonymous(3 * PAGE);
	expect_errno(mprotect(memory + 1, PAGE, PROT_READ), EINVAL);
	expect_ok(munmap(memory + PAGE, PAGE));
	expect_errno(mprotect(memory, 3 * PAGE, PROT_READ), ENOMEM);
	/* What lies before the hole was changed. */
	expect_eq(touch(memory, true), SIGSEGV);
	expect_errno(mprotect(memory, PAGE, 0x100), EINVAL);
	expect_ok(mprotect(memory, 0, PROT_READ));
}

CASE(code_written_to_memory_runs_once_executable)
{
	unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */
	char *memory = map_anonymous(PAGE);
	memcpy(memory, code, sizeof code);
	expect_ok(mprotect(memory, PAGE, PROT_READ | PROT_EXEC));
	expect_eq(((int (*)(void))memory)(), 42);
	expect_ok(mprotect(memory, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	memory[1] = 43;
	expect_eq(((int (*)(void))memory)(), 43);
}

IN_DIR_CASE(shared_file_mapping_and_file_are_one)
{
	int fd = file_of(2 * PAGE);
	char *memory = expect_ok(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)), byte;
	memory[100] = 'm';
	expect_eq(pread(fd, &byte, 1, 100), 1);
	expect_eq(byte, 'm');
	expect_eq(pwrite(fd, "w", 1, PAGE), 1);
	expect_eq(memory[PAGE], 'w');
	expect_ok(close(fd));
	memory[101] = 'n';
	expect_ok(msync(memory, 2 * PAGE, MS_SYNC));
	expect_ok(munmap(memory, 2 * PAGE));
	fd = expect_ok(open("f", O_RDONLY));
	expect_eq(pread(fd, &byte, 1, 101), 1);
	expect_eq(byte, 'n');
}

IN_DIR_CASE(private_file_mapping_keeps_its_writes_to_itself)
{
	int fd = file_of(PAGE);
	char *memory = expect_ok(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0)), byte;
	expect_eq(pwrite(fd, "f", 1, 0), 1);
	expect_eq(memory[0], 'f');
	memory[1] = 'p';
	expect_eq(pread(fd, &byte, 1, 1), 1);
	expect_eq(byte, 0);
	expect_eq(pwrite(fd, "F", 1, 1), 1);
	expect_eq(memory[1], 'p');
}

IN_DIR_CASE(mapping_at_an_offset)
{
	int fd = file_of(3 * PAGE);
	expect_eq(pwrite(fd, "second", 6, PAGE), 6);
	char *memory = expect_ok(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE));
	expect_mem(memory, "second", 6);
}

IN_DIR_CASE(tail_of_the_last_page_is_zero_and_beyond_is_sigbus)
{
	int fd = file_of(100);
	char *memory = expect_ok(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	expect_eq(memory[100], 0);
	expect_eq(touch(memory + PAGE, false), SIGBUS);
	expect_ok(ftruncate(fd, 2 * PAGE));
	expect_eq(touch(memory + PAGE, true), 0);
	expect_ok(ftruncate(fd, 10));
	expect_eq(touch(memory + PAGE, false), SIGBUS);
	expect_eq(touch(memory, true), 0);
}

IN_DIR_CASE(truncation_drops_private_pages_beyond_the_end)
{
	int fd = file_of(2 * PAGE);
	char *memory = expect_ok(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	memory[PAGE] = 'p';
	expect_ok(ftruncate(fd, PAGE));
	expect_eq(touch(memory + PAGE, false), SIGBUS);
}

CASE(writes_after_fork_are_private_to_each_side)
{
	char *memory = map_anonymous(8 * PAGE);
	memset(memory, 'a', 8 * PAGE);
	pid_t pid;
	int go[2];
	char byte;
	expect_ok(pipe(go));
	SPAWN(pid) {
		expect_eq(read(go[0], &byte, 1), 1);
		expect_eq(memory[0], 'a');
		memory[PAGE] = 'c';
		expect_eq(memory[PAGE], 'c');
	}
	memory[0] = 'p';
	expect_eq(write(go[1], "x", 1), 1);
	expect_exit(pid, 0);
	expect_eq(memory[PAGE], 'a');
	expect_eq(memory[0], 'p');
}

CASE(copy_on_write_through_three_generations)
{
	int *memory = map_anonymous(PAGE);
	*memory = 1;
	pid_t pid;
	SPAWN(pid) {
		pid_t inner;
		*memory = 2;
		SPAWN(inner) {
			expect_eq(*memory, 2);
			*memory = 3;
		}
		expect_exit(inner, 0);
		expect_eq(*memory, 2);
	}
	expect_exit(pid, 0);
	expect_eq(*memory, 1);
}

CASE(system_calls_write_through_copy_on_write)
{
	char *memory = map_anonymous(PAGE);
	int ends[2];
	memory[0] = 'o';
	expect_ok(pipe(ends));
	pid_t pid;
	SPAWN(pid) {
		expect_eq(write(ends[1], "n", 1), 1);
		expect_eq(read(ends[0], memory, 1), 1);
		expect_eq(memory[0], 'n');
	}
	expect_exit(pid, 0);
	expect_eq(memory[0], 'o');
}

CASE(shared_anonymous_memory_is_shared_after_fork)
{
	char *memory = map_shared(4 * PAGE);
	pid_t pid;
	SPAWN(pid)
		memory[3 * PAGE] = 's';
	expect_exit(pid, 0);
	expect_eq(memory[3 * PAGE], 's');
}

CASE(mremap_grows_keeping_contents)
{
	char *memory = map_anonymous(2 * PAGE);
	memory[0] = 'a';
	memory[2 * PAGE - 1] = 'z';
	char *grown = expect_ok(mremap(memory, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE));
	expect_eq(grown[0], 'a');
	expect_eq(grown[2 * PAGE - 1], 'z');
	expect_eq(grown[64 * PAGE - 1], 0);
	if (grown != memory)
		expect_eq(touch(memory, false), SIGSEGV);
}

CASE(mremap_shrinks_in_place)
{
	char *memory = map_anonymous(4 * PAGE);
	expect(mremap(memory, 4 * PAGE, PAGE, 0) == memory);
	expect_eq(touch(memory + PAGE, false), SIGSEGV);
	expect_eq(touch(memory, true), 0);
}

CASE(mremap_without_maymove_into_a_neighbour_is_enomem)
{
	char *memory = map_anonymous(2 * PAGE);
	expect_errno(mremap(memory, PAGE, 2 * PAGE, 0), ENOMEM);
}

CASE(mremap_fixed_moves_to_the_given_address)
{
	char *memory = map_anonymous(PAGE), *target = map_anonymous(PAGE);
	memory[7] = 'm';
	expect(mremap(memory, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
	expect_eq(target[7], 'm');
	expect_eq(touch(memory, false), SIGSEGV);
}

CASE(mremap_dontunmap_leaves_an_empty_mapping)
{
	char *memory = map_anonymous(PAGE);
	memory[7] = 'm';
	char *moved = (void *)expect_ok(
		syscall(SYS_mremap, memory, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0));
	expect(moved != memory);
	expect_eq(moved[7], 'm');
	expect_eq(memory[7], 0);
}

CASE(mremap_errors)
{
	char *memory = map_anonymous(2 * PAGE);
	expect_errno(mremap(memory + 1, PAGE, PAGE, 0), EINVAL);
	expect_errno(mremap(memory, PAGE, 0, 0), EINVAL);
	expect_errno(mremap(memory, PAGE, PAGE, 0x100), EINVAL);
	expect_errno(mremap(memory, 2 * PAGE, 2 * PAGE, MREMAP_FIXED, memory), EINVAL);
	expect_errno(mremap(memory, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory + PAGE), EINVAL);
	expect_ok(munmap(memory, 2 * PAGE));
	expect_errno(mremap(memory, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
}

CASE(brk_moves_and_new_memory_is_zero)
{
	char *start = sbrk(0);
	expect(sbrk(10 * PAGE) == start);
	expect_eq(start[10 * PAGE - 1], 0);
	start[5 * PAGE] = 'b';
	expect(sbrk(-10 * PAGE) != (void *)-1);
	expect(sbrk(10 * PAGE) == start);
	expect_eq(start[5 * PAGE], 0);
	/* The raw call answers with the current break when it cannot. */
	expect_eq(syscall(SYS_brk, 0), (long)sbrk(0));
	expect_eq(syscall(SYS_brk, 8), (long)sbrk(0));
}

CASE(growsdown_memory_grows_on_touch)
{
	char *area = expect_ok(map(NULL, 512 * PAGE, PROT_NONE, MAP_PRIVATE));
	expect_ok(munmap(area, 512 * PAGE));
	char *top = area + 511 * PAGE;
	expect(map(top, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_GROWSDOWN) == top);
	for (int i = 0; i < 20; i++)
		top[-i * (long)PAGE] = 'g';
	expect_eq(top[-19 * (long)PAGE], 'g');
}

static int recurse(int depth)
{
	volatile char frame[PAGE];
	frame[0] = depth;
	return depth ? recurse(depth - 1) + frame[0] - (char)depth : 1;
}

CASE(main_stack_grows_by_megabytes)
{
	expect_eq(recurse(1000), 1);
}

CASE(stack_limit_overflow_is_sigsegv)
{
	pid_t pid;
	SPAWN(pid) {
		struct rlimit limit = {1 << 20, 1 << 20};
		prctl(PR_SET_DUMPABLE, 0);
		expect_ok(setrlimit(RLIMIT_STACK, &limit));
		recurse(2000);
	}
	expect_killed(pid, SIGSEGV);
}

CASE(address_space_limit_is_enomem)
{
	struct rlimit limit = {1 << 28, 1 << 28};
	expect_ok(setrlimit(RLIMIT_AS, &limit));
	expect_errno(map(NULL, 1 << 29, PROT_READ, MAP_PRIVATE), ENOMEM);
	expect_ok(map(NULL, 1 << 20, PROT_READ, MAP_PRIVATE));
}

CASE(huge_reservation_without_access_costs_nothing)
{
	char *memory = expect_ok(map(NULL, 1UL << 40, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE));
	expect_ok(mprotect(memory + (1UL << 39), PAGE, PROT_READ | PROT_WRITE));
	memory[1UL << 39] = 'x';
	expect_ok(munmap(memory, 1UL << 40));
}

CASE(many_small_mappings_are_kept_apart)
{
	enum { COUNT = 500 };
	char *memory = expect_ok(map(NULL, 2 * COUNT * PAGE, PROT_NONE, MAP_PRIVATE));
	for (int i = 0; i < COUNT; i++) {
		expect_ok(mprotect(memory + 2 * i * PAGE, PAGE, PROT_READ | PROT_WRITE));
		memory[2 * i * PAGE] = i;
	}
	for (int i = 0; i < COUNT; i++)
		expect_eq(memory[2 * i * PAGE], (char)i);
	expect_eq(touch(memory + PAGE, false), SIGSEGV);
}

CASE(a_page_here_and_there_in_a_huge_range_is_kept)
{
	enum { COUNT = 2048 };
	const size_t step = 2 << 20;
	char *memory = expect_ok(map(NULL, COUNT * step, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_NORESERVE));
	for (int i = 0; i < COUNT; i++)
		memory[i * step] = i;
	for (int i = 0; i < COUNT; i++)
		expect_eq(memory[i * step], (char)i);
}

CASE(dev_zero_maps_as_anonymous_memory)
{
	int fd = expect_ok(open("/dev/zero", O_RDWR));
	char *memory = expect_ok(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	expect_eq(memory[9], 0);
	memory[9] = 'z';
	char *shared = expect_ok(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	pid_t pid;
	SPAWN(pid)
		shared[1] = 'q';
	expect_exit(pid, 0);
	expect_eq(shared[1], 'q');
}
